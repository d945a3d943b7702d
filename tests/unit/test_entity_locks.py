"""Locks of entities: what waits behind one, who is named, and what the client sees of it."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

import pytest
from durabletask.entities import EntityInstanceId
from durabletask.history import EntityOperationSignaledEvent
from durabletask.task import TaskFailedError

from dt_testkit import OrchestrationBlocked, TaskHub
from dt_testkit.hub import entities

LOG = EntityInstanceId("log", "a")


def log(ctx, entry):
    written = [*ctx.get_state(list, []), entry]
    ctx.set_state(written[-100:])
    return len(written)


def holds(ctx, calls):
    with (yield ctx.lock_entities([LOG])):
        for call in range(calls):
            yield ctx.call_entity(LOG, "write", f"held {call}")
        yield ctx.wait_for_external_event("go")
        yield ctx.call_entity(LOG, "write", "last held")


def signals(ctx, entries):
    for entry in entries:
        ctx.signal_entity(LOG, "write", entry)


def calls_once(ctx, entry):
    return (yield ctx.call_entity(LOG, "write", entry))


@pytest.fixture
def hub():
    hub = TaskHub(check_replay="turn")
    for orchestrator in (holds, signals, calls_once):
        hub.add_orchestrator(orchestrator)
    hub.add_entity(log)
    return hub


# -- what waits while the entity is locked


def test_what_others_ask_waits_in_order_while_the_holder_is_served(hub):
    hub.run(signals, input=["before"])
    holder = hub.start(holds, input=3)
    hub.start(signals, input=["one", "two"])
    hub.settle()
    caller = hub.start(calls_once, input="three")
    second = hub.start(holds, input=1)
    hub.settle()
    hub.start(signals, input=["four"])
    hub.settle()
    assert hub.entity(LOG).state == ["before", "held 0", "held 1", "held 2"]
    assert hub.entity(LOG).queue_length == 5  # two signals, a call, a request for the lock, a signal
    holder.raise_event("go")
    hub.settle()
    assert holder.is_terminal
    assert caller.output == 8
    assert hub.entity(LOG).state[4:] == ["last held", "one", "two", "three", "held 0"]
    assert (hub.entity(LOG).locked_by, hub.entity(LOG).queue_length) == (second.instance_id, 1)
    second.raise_event("go")
    hub.settle()
    assert hub.entity(LOG).state[9:] == ["last held", "four"]
    assert (hub.entity(LOG).locked_by, hub.entity(LOG).queue_length) == (None, 0)


def test_who_ends_while_waiting_for_the_lock_leaves_the_order_of_the_others_as_it_is(hub):
    holder = hub.start(holds, input=1)
    hub.settle()
    for waiting in range(4):
        hub.start(holds, input=1, instance_id=f"waiting-{waiting}")
        hub.start(signals, input=[f"signal {waiting}"])
    hub.settle()
    for waiting in (0, 2):
        hub.instance(f"waiting-{waiting}").terminate()
    hub.settle()
    assert hub.entity(LOG).queue_length == 6
    holder.raise_event("go")
    hub.settle()
    assert hub.entity(LOG).state == ["held 0", "last held", "signal 0", "held 0"]
    assert hub.entity(LOG).locked_by == "waiting-1"


def test_a_call_of_the_holder_that_was_cut_short_is_made_again_before_all_that_waits(hub):
    class Interrupt(BaseException):
        pass

    left = [Interrupt()]

    def log_with_a_cut(ctx, entry):
        if entry == "last held" and left:
            raise left.pop()
        return log(ctx, entry)

    hub = TaskHub()
    for orchestrator in (holds, signals):
        hub.add_orchestrator(orchestrator)
    hub.add_entity(log_with_a_cut, "log")
    holder = hub.start(holds, input=1)
    hub.settle()
    hub.run(signals, input=["one", "two"])
    holder.raise_event("go")
    with pytest.raises(Interrupt):
        hub.settle()
    assert hub.entity(LOG).queue_length == 3
    hub.run(signals, input=["three"])
    assert hub.entity(LOG).state == ["held 0", "last held", "one", "two", "three"]


def test_the_calls_of_the_holder_do_not_go_through_all_that_waits(hub, monkeypatch):
    looked_at = 0

    class Counting(deque):
        def __iter__(self):
            nonlocal looked_at
            for entry in super().__iter__():
                looked_at += 1
                yield entry

        def pop(self):
            nonlocal looked_at
            looked_at += 1
            return super().pop()

        def popleft(self):
            nonlocal looked_at
            looked_at += 1
            return super().popleft()

    monkeypatch.setattr(entities, "deque", Counting)
    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(holds)
    hub.add_orchestrator(signals)
    hub.add_entity(log)
    hub.start(holds, input=300)
    hub.start(signals, input=["waits"] * 1000)
    hub.settle()
    assert hub.entity(LOG).queue_length == 1000
    assert hub.entity(LOG).state[-1] == "held 299"
    assert 300 <= looked_at < 3000  # each call, each signal once or twice at most; not 300 times 1,000


# -- what is seen of a lock


def test_the_client_cannot_say_who_holds_a_lock_and_the_hub_can(hub):
    hub.start(holds, input=1, instance_id="holder")
    hub.settle()
    found = hub.client.get_entity(LOG)
    with pytest.raises(ValueError, match="Entity ID must start with '@'"):
        found.get_locked_by()
    assert hub.entity(LOG).locked_by == "holder"
    hub.instance("holder").raise_event("go")
    hub.settle()
    assert hub.client.get_entity(LOG).get_locked_by() is None
    assert hub.entity(LOG).locked_by is None


def test_the_holder_is_named_whatever_the_keys_are(hub):
    def locks_two(ctx, keys):
        with (yield ctx.lock_entities([EntityInstanceId("log", key) for key in keys])):
            yield ctx.wait_for_external_event("go")

    hub.add_orchestrator(locks_two)
    hub.start(locks_two, input=["a, b", "c"], instance_id="holder")
    hub.settle()
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(locks_two, input=["a, b", "c"])
    lines = [line.strip() for line in str(blocked.value).splitlines()]
    assert "@log@a, b is locked by instance 'holder'." in lines
    assert "@log@c is locked by instance 'holder'." in lines


# -- the hazards of the SDK that docs/entities.md names


def leaves_early(ctx, _):
    with (yield ctx.lock_entities([LOG])):
        ctx.call_entity(LOG, "write", "not awaited")


def holds_and_calls(ctx, _):
    with (yield ctx.lock_entities([LOG])):
        yield ctx.call_entity(LOG, "write", "held")
        yield ctx.wait_for_external_event("go")


def test_leaving_a_critical_section_while_a_call_is_pending_leaves_the_entity_locked(hub):
    hub.add_orchestrator(leaves_early)
    hub.add_orchestrator(holds_and_calls)
    ended = hub.run(leaves_early)
    assert ended.is_terminal
    assert hub.entity(LOG).locked_by == ended.instance_id
    with pytest.raises(OrchestrationBlocked, match=f"is locked by instance '{ended.instance_id}'"):
        hub.run(holds_and_calls, instance_id="next")
    assert hub.client.clean_entity_storage().orphaned_locks_released == 1
    hub.settle()
    assert hub.entity(LOG).locked_by == "next"


# -- a time that is none


@pytest.mark.parametrize("no_time", ["tomorrow", timedelta(days=1), 5])
def test_a_signal_for_a_time_that_is_none_raises_what_the_sdk_raises(no_time):
    def signals_at(ctx, _):
        try:
            ctx.signal_entity(LOG, "write", 1, no_time)
        except TypeError as error:
            return str(error)

    def signals_from_an_entity(ctx, _):
        ctx.signal_entity(LOG, "write", 1, no_time)

    def asks_the_entity(ctx, _):
        try:
            yield ctx.call_entity(EntityInstanceId("other", "o"), "signal")
        except TaskFailedError as error:
            return str(error)

    hub = TaskHub(check_replay="turn")
    for orchestrator in (signals_at, asks_the_entity):
        hub.add_orchestrator(orchestrator)
    hub.add_entity(log)
    hub.add_entity(signals_from_an_entity, "other")
    said = hub.run(signals_at).output
    assert said.endswith(f"got {type(no_time).__name__}")
    assert "Timestamp" in said
    assert hub.run(asks_the_entity).output.endswith(said)
    assert hub.entity(LOG).state is None


def test_a_moment_with_a_time_zone_is_recorded_in_utc(hub):
    def signals_at(ctx, _):
        ctx.signal_entity(LOG, "write", 1, datetime.fromisoformat("2026-01-02T03:00:00+02:00"))

    hub.add_orchestrator(signals_at)
    signaled = hub.run(signals_at)
    (event,) = [e for e in signaled.history if isinstance(e, EntityOperationSignaledEvent)]
    assert event.scheduled_time.replace(tzinfo=None) == datetime(2026, 1, 2, 1)
