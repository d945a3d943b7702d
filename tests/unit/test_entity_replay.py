"""Histories with entities: in files, cut, damaged, recorded elsewhere, replayed by code that has changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import chain

import pytest
from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.task import TaskFailedError

from dt_testkit import History, ReplayDivergence, TaskHub, replay
from dt_testkit.backends import embedded

A, B = EntityInstanceId("counter", "a"), EntityInstanceId("counter", "b")


def counter(ctx, value):
    if ctx.operation == "fail":
        raise ValueError("not today")
    ctx.set_state(ctx.get_state(int, 0) + (value or 0))
    return ctx.get_state(int)


def uses_everything(ctx, _):
    """Calls, a failed one, signals with and without a time, a critical section over two."""
    ctx.signal_entity(A, "add", 1)
    ctx.signal_entity(B, "add", 5, signal_time=ctx.current_utc_datetime + timedelta(milliseconds=1))
    try:
        yield ctx.call_entity(A, "fail", {"why": "for fun"})
    except TaskFailedError as error:
        failed = str(error)
    with (yield ctx.lock_entities([B, A])):
        total = yield ctx.call_entity(A, "add", 2, return_type=int)
    return [failed, total]


def holds(ctx, _):
    with (yield ctx.lock_entities([A])):
        yield ctx.wait_for_external_event("leave")


@pytest.fixture
def hub():
    hub = TaskHub()
    hub.add_entity(counter)
    hub.add_orchestrator(uses_everything)
    hub.add_orchestrator(holds)
    return hub


@pytest.fixture
def history(hub):
    return hub.run(uses_everything, instance_id="one").history


def test_every_event_of_entities_is_recorded(history):
    recorded = [type(event).__name__ for event in history.events if "Entity" in type(event).__name__]
    assert recorded == [
        "EntityOperationSignaledEvent",
        "EntityOperationSignaledEvent",
        "EntityOperationCalledEvent",
        "EntityOperationFailedEvent",
        "EntityLockRequestedEvent",
        "EntityLockGrantedEvent",
        "EntityOperationCalledEvent",
        "EntityOperationCompletedEvent",
        "EntityUnlockSentEvent",
        "EntityUnlockSentEvent",
    ]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz"])
def test_a_history_with_entities_survives_a_file_and_replays(history, tmp_path, suffix):
    path = tmp_path / f"one.history{suffix}"
    history.save(path)
    loaded = History.load(path)
    assert loaded == history
    assert replay(loaded, uses_everything).ok


def test_wherever_it_is_cut_it_replays_and_says_what_comes_next(history):
    for length in range(2, len(history)):
        report = replay(History("one", history.events[:length]), uses_everything)
        assert report.ok, (length, str(report))
    (asked,) = replay(History("one", history.events[:2]), uses_everything).next_commands[2:]
    assert (asked.kind, asked.entity_id, asked.name) == ("entity", "@counter@a", "fail")


def test_one_that_waits_for_a_lock_replays_and_is_accepted(hub):
    holder = hub.start(holds, instance_id="holder")
    waits = hub.start(holds, instance_id="waits")
    hub.settle()
    for instance in (holder, waits):
        report = replay(instance.history, hub)
        assert report.ok, report
        assert (report.worker_outcome, report.next_commands) == ("accepts", [])


def test_one_that_is_terminated_while_it_waits_for_a_lock_replays(hub):
    hub.start(holds)
    waits = hub.start(holds)
    hub.settle()
    waits.terminate("enough")
    hub.settle()
    report = replay(waits.history, hub)
    assert report.ok, report
    assert report.worker_outcome == "accepts"


def test_what_the_in_memory_backend_records_replays():
    def register(worker):
        worker.add_entity(counter)
        worker.add_orchestrator(uses_everything)

    with embedded(register) as client:
        client.schedule_new_orchestration(uses_everything, instance_id="one")
        state = client.wait_for_orchestration_completion("one", timeout=10)
        assert state is not None
        recorded = History.from_client(client, "one")
    assert state.runtime_status.name == "COMPLETED"
    report = replay(recorded, uses_everything)
    assert report.ok, report
    assert report.worker_outcome == "accepts"


# -- what a test gets to see


def test_a_hub_notices_that_a_call_is_not_the_same_when_replayed(hub):
    numbers = iter([1, 2])

    def draws(ctx, _):
        return (yield ctx.call_entity(A, "add", next(numbers)))

    hub.add_orchestrator(draws)
    with pytest.raises(ReplayDivergence, match=r"a call of 'add' to entity @counter@a \(#1\): input was"):
        hub.run(draws)


def test_a_hub_notices_that_another_entity_is_locked_when_replayed(hub):
    keys = iter(["a", "b"])

    def locks(ctx, _):
        with (yield ctx.lock_entities([EntityInstanceId("counter", next(keys))])):
            pass

    hub.add_orchestrator(locks)
    with pytest.raises(ReplayDivergence) as diverged:
        hub.run(locks)
    (divergence,) = diverged.value.report.divergences
    assert (divergence.field, divergence.expected, divergence.actual) == (
        "lock_set",
        "@counter@a",
        "@counter@b",
    )


def test_code_that_no_longer_expects_a_failed_operation_fails_where_the_history_goes_on(history):
    def hopes(ctx, _):
        ctx.signal_entity(A, "add", 1)
        ctx.signal_entity(B, "add", 5, signal_time=ctx.current_utc_datetime + timedelta(milliseconds=1))
        yield ctx.call_entity(A, "fail", {"why": "for fun"})
        yield ctx.lock_entities([B, A])

    report = replay(history, hopes)
    (divergence,) = report.divergences
    assert (divergence.kind, divergence.expected) == ("missing", "a lock of @counter@a, @counter@b")
    assert "the code fails with TaskFailedError" in divergence.message


# -- damaged histories: what the SDK's worker does with them


def without(history: History, *kinds: type[h.HistoryEvent]) -> History:
    return History(history.instance_id, [event for event in history.events if not isinstance(event, kinds)])


def test_an_answer_to_nothing_fails_the_orchestration_as_on_a_worker(history):
    def asks_nothing(ctx, _):
        yield ctx.wait_for_external_event("never")

    events = list(history.events[:2])
    answer = h.EntityOperationCompletedEvent(-1, events[0].timestamp, "who-asked", "1")
    report = replay(History("one", [*events, answer]), asks_nothing)
    (asked,) = report.next_commands
    assert "Could not parse entity ID from request ID 'who-asked'" in asked.failure.message
    assert report.worker_outcome == "fails"


def test_a_lock_that_nobody_asked_for_is_ignored_as_on_a_worker(history):
    def asks_nothing(ctx, _):
        yield ctx.wait_for_external_event("never")

    events = list(history.events[:2])
    granted = h.EntityLockGrantedEvent(-1, events[0].timestamp, "nobody")
    report = replay(History("one", [*events, granted]), asks_nothing)
    assert (report.ok, report.next_commands, report.worker_outcome) == (True, [], "accepts")


def test_a_history_whose_lock_was_never_granted_stands_there(history):
    report = replay(without(history, h.EntityLockGrantedEvent), uses_everything)
    (first, *_) = report.divergences
    assert (first.kind, first.expected) == ("missing", "a call of 'add' to entity @counter@a")
    assert "the code waits for lock of @counter@a, @counter@b (#4)" in first.message


def test_a_history_without_its_unlocks_has_too_few(history):
    report = replay(without(history, h.EntityUnlockSentEvent), uses_everything)
    assert [(d.kind, d.actual) for d in report.divergences] == [
        ("unexpected", "the unlock of @counter@b"),
        ("unexpected", "the unlock of @counter@a"),
    ]


# -- many instances at once


def test_all_that_a_crowd_records_replays_and_is_accepted(hub):
    """Twenty that want the same two entities, some of whom are terminated on the way."""

    def wants(ctx, number):
        yield ctx.create_timer(timedelta(minutes=number % 3))
        with (yield ctx.lock_entities([A, B] if number % 2 else [B, A])):
            yield ctx.call_entity(A, "add", 1)
            yield ctx.create_timer(timedelta(minutes=1))
            yield ctx.call_entity(B, "add", 1)

    hub.add_orchestrator(wants)
    crowd = [hub.start(wants, input=number) for number in range(20)]
    hub.advance(timedelta(minutes=5))
    for instance in crowd[::7]:
        instance.terminate()
    hub.advance(timedelta(hours=1))
    assert hub.entity(B).state == sum(instance.status.name == "COMPLETED" for instance in crowd)
    assert [hub.entity(entity).locked_by for entity in (A, B)] == [None, None]
    assert hub.now == datetime(2026, 1, 1, 1, 5)
    for history in chain.from_iterable(instance.histories for instance in crowd):
        report = replay(history, hub)
        assert report.ok, report
        assert report.worker_outcome == "accepts"
