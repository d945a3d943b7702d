"""The events that a hub records, field by field, as its client returns them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import durabletask.history as h
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.task import TaskFailedError

from dt_testkit import TaskHub

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
COUNTER = EntityInstanceId("counter", "one")


def ship(ctx, number):
    if number is None:
        raise ValueError("nothing to ship")
    return number * 2


def counter(ctx, number):
    if ctx.operation == "fail":
        raise ArithmeticError("not today")
    ctx.set_state((ctx.get_state(int) or 0) + number)
    return ctx.get_state(int)


@pytest.fixture
def hub():
    hub = TaskHub()
    hub.add_activity(ship)
    hub.add_entity(counter)
    return hub


def events(hub, instance_id="it"):
    """The history of an instance, without the brackets of its turns."""
    return [
        event
        for event in hub.client.get_orchestration_history(instance_id)
        if not isinstance(event, (h.OrchestratorStartedEvent, h.OrchestratorCompletedEvent))
    ]


def run(hub, *orchestrators, **options):
    """The events of an instance of the first one, up to its end."""
    for orchestrator in orchestrators:
        hub.add_orchestrator(orchestrator)
    hub.client.schedule_new_orchestration(orchestrators[0], instance_id="it", **options)
    hub.client.wait_for_orchestration_completion("it", timeout=10**6)
    return events(hub)


def test_a_turn_is_bracketed_by_its_begin_and_its_end(hub):
    def sleep(ctx, _):
        yield ctx.create_timer(timedelta(minutes=1))

    run(hub, sleep)
    later = START + timedelta(minutes=1)
    assert hub.client.get_orchestration_history("it") == [
        h.OrchestratorStartedEvent(-1, START),
        h.ExecutionStartedEvent(-1, START, "sleep", orchestration_instance=h.OrchestrationInstance("it")),
        h.TimerCreatedEvent(1, START, fire_at=later),
        h.OrchestratorCompletedEvent(-1, START),
        h.OrchestratorStartedEvent(-1, later),
        h.TimerFiredEvent(-1, later, fire_at=later, timer_id=1),
        h.OrchestratorCompletedEvent(-1, later),
        h.ExecutionCompletedEvent(-1, later, orchestration_status=OrchestrationStatus.COMPLETED.value),
    ]


def test_the_start_holds_all_that_the_instance_was_scheduled_with(hub):
    def given(ctx, number):
        return number

    tomorrow = datetime(2026, 1, 2)
    started, completed = run(hub, given, input=3, version="1.2", tags={"team": "a"}, start_at=tomorrow)
    assert started == h.ExecutionStartedEvent(
        event_id=-1,
        timestamp=START,
        name="given",
        version="1.2",
        input="3",
        orchestration_instance=h.OrchestrationInstance(instance_id="it"),
        scheduled_start_timestamp=tomorrow.replace(tzinfo=timezone.utc),
        tags={"team": "a"},
    )
    assert (completed.result, completed.timestamp) == ("3", tomorrow.replace(tzinfo=timezone.utc))


def test_activities(hub):
    def order(ctx, _):
        yield ctx.call_activity(ship, input=4, tags={"cost": "low"})
        yield ctx.call_activity(ship)

    _, first, done, second, failed, completed = run(hub, order)
    assert first == h.TaskScheduledEvent(1, START, name="ship", input="4", tags={"cost": "low"})
    assert done == h.TaskCompletedEvent(-1, START, task_scheduled_id=1, result="8")
    assert second == h.TaskScheduledEvent(2, START, name="ship")
    assert (failed.task_scheduled_id, failed.failure_details.message) == (2, "nothing to ship")
    assert failed.failure_details.error_type == "builtins.ValueError"
    assert completed.orchestration_status == OrchestrationStatus.FAILED.value
    assert completed.failure_details.is_caused_by(TaskFailedError)


def test_sub_orchestrations(hub):
    def child(ctx, number):
        if number < 0:
            raise ValueError("too few")
        return number

    def parent(ctx, _):
        yield ctx.call_sub_orchestrator(child, input=1, version="2.0")
        yield ctx.call_sub_orchestrator(child, input=-1, instance_id="kid")

    _, first, done, second, failed, _ = run(hub, parent, child, version="1.0")
    assert first == h.SubOrchestrationInstanceCreatedEvent(
        1, START, instance_id="it:0001", name="child", version="2.0", input="1"
    )
    assert done == h.SubOrchestrationInstanceCompletedEvent(-1, START, task_scheduled_id=1, result="1")
    assert (second.instance_id, second.version) == ("kid", None)
    assert (failed.task_scheduled_id, failed.failure_details.message) == (2, "too few")
    assert events(hub, "it:0001")[0].parent_instance == h.ParentInstanceInfo(
        task_scheduled_id=1,
        name="parent",
        version="1.0",
        orchestration_instance=h.OrchestrationInstance("it"),
    )


def test_events_suspension_and_termination(hub):
    def listen(ctx, _):
        yield ctx.wait_for_external_event("go")
        ctx.send_event("nobody", "News", data=[1])
        yield ctx.wait_for_external_event("never")

    hub.add_orchestrator(listen)
    client = hub.client
    client.schedule_new_orchestration(listen, instance_id="it")
    client.suspend_orchestration("it", reason="audit")
    client.resume_orchestration("it", reason="all is well")
    client.raise_orchestration_event("it", "Go", data={"by": "ana"})
    hub.settle()
    client.terminate_orchestration("it", output="stopped", recursive=True)
    hub.settle()
    assert events(hub)[1:] == [
        h.ExecutionSuspendedEvent(-1, START, input="audit"),
        h.ExecutionResumedEvent(-1, START, input="all is well"),
        h.EventRaisedEvent(-1, START, name="Go", input='{"by": "ana"}'),
        h.EventSentEvent(1, START, instance_id="nobody", name="News", input="[1]"),
        h.ExecutionTerminatedEvent(-1, START, input='"stopped"', recurse=True),
        h.ExecutionCompletedEvent(-1, START, OrchestrationStatus.TERMINATED.value, result='"stopped"'),
    ]


def test_entities_and_locks(hub):
    def count(ctx, _):
        ctx.signal_entity(COUNTER, "add", 1, signal_time=ctx.current_utc_datetime + timedelta(hours=2))
        with (yield ctx.lock_entities([COUNTER])):
            yield ctx.call_entity(COUNTER, "add", 5)
        yield ctx.call_entity(COUNTER, "fail")

    _, signaled, requested, granted, called, answered, unlocked, called_again, failed, _ = run(hub, count)
    assert signaled == h.EntityOperationSignaledEvent(
        1,
        START,
        request_id=signaled.request_id,
        operation="add",
        scheduled_time=START + timedelta(hours=2),
        input="1",
        target_instance_id=str(COUNTER),
    )
    section = requested.critical_section_id
    assert requested == h.EntityLockRequestedEvent(
        2, START, section, lock_set=[str(COUNTER)], position=0, parent_instance_id="it"
    )
    assert granted == h.EntityLockGrantedEvent(-1, START, critical_section_id=section)
    assert called == h.EntityOperationCalledEvent(
        3,
        START,
        request_id=called.request_id,
        operation="add",
        input="5",
        parent_instance_id="it",
        target_instance_id=str(COUNTER),
    )
    assert answered == h.EntityOperationCompletedEvent(-1, START, request_id=called.request_id, output="5")
    assert unlocked == h.EntityUnlockSentEvent(
        4, START, critical_section_id=section, parent_instance_id="it", target_instance_id=str(COUNTER)
    )
    assert failed.request_id == called_again.request_id
    assert failed.failure_details.message == "not today"
    assert len({signaled.request_id, called.request_id, called_again.request_id, section}) == 4


def test_a_rewind_is_recorded_with_its_reason(hub):
    def order(ctx, number):
        return (yield ctx.call_activity(ship, input=number))

    run(hub, order)
    hub.client.rewind_orchestration("it", reason="shipped by hand")
    [rewound] = [event for event in events(hub) if isinstance(event, h.ExecutionRewoundEvent)]
    assert rewound == h.ExecutionRewoundEvent(-1, START, reason="shipped by hand")


def test_events_become_plain_dictionaries(hub):
    def nothing(ctx, _):
        return 1

    started, completed = run(hub, nothing)
    assert completed.to_dict() == {
        "event_id": -1,
        "timestamp": START.isoformat(),
        "orchestration_status": OrchestrationStatus.COMPLETED.value,
        "result": "1",
        "failure_details": None,
    }
    assert h.to_dict(started)["orchestration_instance"] == {"instance_id": "it", "execution_id": None}
