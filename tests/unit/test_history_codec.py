from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from durabletask import history as sdk_history
from durabletask.task import FailureDetails
from event_strategies import EVENT_CLASSES, events, events_of, law, law_of_each_class
from hypothesis import given
from hypothesis import strategies as st

from dt_testkit.errors import HistoryFormatError
from dt_testkit.history.codec import (
    events_from_protobuf,
    events_to_protobuf,
    failure_to_protobuf,
)
from dt_testkit.sdk import pb

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.__name__)
@law_of_each_class
@given(data=st.data())
def test_an_event_of_any_class_survives_the_round_trip(cls, data):
    event = data.draw(events_of(cls))
    assert events_from_protobuf(events_to_protobuf([event])) == [event]


@law
@given(st.lists(events, max_size=3))
def test_events_survive_the_wire(history):
    wire = [message.SerializeToString() for message in events_to_protobuf(history)]
    assert events_from_protobuf(pb.HistoryEvent.FromString(data) for data in wire) == history


@law
@given(st.lists(events, max_size=3))
def test_encoding_what_was_decoded_gives_the_same_messages(history):
    messages = events_to_protobuf(history)
    assert events_to_protobuf(events_from_protobuf(messages)) == messages


def test_every_kind_of_event_in_the_protocol_that_the_sdk_decodes_is_encoded():
    arms = {cls.__name__ for cls in EVENT_CLASSES}
    assert arms == {
        arm.message_type.name for arm in pb.HistoryEvent.DESCRIPTOR.oneofs_by_name["eventType"].fields
    }


def test_what_is_none_is_unset_and_what_is_empty_is_set():
    none, empty = events_to_protobuf(
        [
            sdk_history.TaskCompletedEvent(-1, NOW, task_scheduled_id=1),
            sdk_history.TaskCompletedEvent(-1, NOW, task_scheduled_id=1, result=""),
        ]
    )
    assert not none.taskCompleted.HasField("result")
    assert empty.taskCompleted.HasField("result")


def test_empty_tags_come_back_as_none():
    event = sdk_history.TaskScheduledEvent(1, NOW, name="reserve", tags={})
    (decoded,) = events_from_protobuf(events_to_protobuf([event]))
    assert decoded.tags is None


def test_a_naive_timestamp_is_taken_as_utc():
    event = sdk_history.TimerCreatedEvent(1, NOW, fire_at=datetime(2026, 1, 2))
    (decoded,) = events_from_protobuf(events_to_protobuf([event]))
    assert decoded.fire_at == NOW + timedelta(days=1)


def test_a_failure_keeps_its_causes_and_properties():
    failure = FailureDetails(
        "reset", "ConnectionError", None, FailureDetails("x", "KeyError", "at line 1"), {"code": 7}
    )
    event = sdk_history.TaskFailedEvent(-1, NOW, 1, failure)
    assert events_from_protobuf(events_to_protobuf([event])) == [event]
    assert failure_to_protobuf(failure).innerFailure.errorType == "KeyError"


def test_an_event_that_the_protocol_cannot_carry_is_named():
    good = sdk_history.OrchestratorStartedEvent(-1, NOW)
    bad = sdk_history.TaskCompletedEvent(-1, NOW, task_scheduled_id=2**40)
    with pytest.raises(HistoryFormatError, match=r"^Event 2 \(TaskCompletedEvent\) has no protobuf form"):
        events_to_protobuf([good, bad])


@pytest.mark.parametrize("stranger", [object(), sdk_history.HistoryEvent(1, NOW)])
def test_what_is_no_event_of_the_sdk_is_refused(stranger):
    with pytest.raises(HistoryFormatError, match="not an event class"):
        events_to_protobuf([stranger])


def test_a_message_without_an_event_type_is_refused_by_its_place():
    messages = [*events_to_protobuf([sdk_history.OrchestratorStartedEvent(-1, NOW)]), pb.HistoryEvent()]
    with pytest.raises(HistoryFormatError, match=r"^Event 2 cannot be decoded"):
        events_from_protobuf(messages)


def test_a_state_that_is_not_the_protocols_is_refused():
    event = sdk_history.HistoryStateEvent(1, NOW, orchestration_state={"colour": "red"})
    with pytest.raises(HistoryFormatError, match="colour"):
        events_to_protobuf([event])
