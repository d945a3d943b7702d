"""What the history of an instance has of each thing that happens to it."""

from datetime import timedelta, timezone

import pytest
from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.history import to_dict
from durabletask.task import TaskFailedError
from world import output, unique, until


def register(worker):
    for orchestrator in (
        works,
        naps,
        listens,
        sends,
        calls_child,
        child,
        uses_entity,
        locks,
        begins_anew,
        fails,
    ):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(work)
    worker.add_activity(refuse)
    worker.add_entity(counter)


def work(ctx, value):
    return value


def refuse(ctx, why):
    raise PermissionError(why)


def counter(ctx, amount):
    if ctx.operation == "refuse":
        raise PermissionError("no")
    ctx.set_state(ctx.get_state(int, 0) + amount)
    return ctx.get_state(int)


def events_of(world, instance_id, kind=h.HistoryEvent):
    return [event for event in world.client.get_orchestration_history(instance_id) if isinstance(event, kind)]


def one(world, instance_id, kind):
    (event,) = events_of(world, instance_id, kind)
    return event


def kinds(world, instance_id):
    return [type(event).__name__.removesuffix("Event") for event in events_of(world, instance_id)]


TURN = "OrchestratorStarted", "OrchestratorCompleted"


def without_turns(names):
    return [name for name in names if name not in TURN]


def works(ctx, value):
    done = yield ctx.call_activity(work, input=value)
    try:
        yield ctx.call_activity(refuse, input="no")
    except TaskFailedError:
        return done


def test_activities(world):
    instance_id = world.run(works, input=[1]).instance_id
    assert without_turns(kinds(world, instance_id)) == [
        "ExecutionStarted",
        *("TaskScheduled", "TaskCompleted"),
        *("TaskScheduled", "TaskFailed"),
        "ExecutionCompleted",
    ]
    scheduled = events_of(world, instance_id, h.TaskScheduledEvent)
    assert [(event.event_id, event.name, event.input) for event in scheduled] == [
        (1, "work", "[1]"),
        (2, "refuse", '"no"'),
    ]
    completed = one(world, instance_id, h.TaskCompletedEvent)
    assert (completed.task_scheduled_id, completed.result) == (1, "[1]")
    failed = one(world, instance_id, h.TaskFailedEvent)
    assert (failed.task_scheduled_id, failed.failure_details.error_type) == (2, "builtins.PermissionError")


def test_the_beginning_and_the_end(world):
    instance_id = world.run(works, input=5, version="1.0", tags={"a": "b"}).instance_id
    started = one(world, instance_id, h.ExecutionStartedEvent)
    assert (started.name, started.version, started.input) == ("works", "1.0", "5")
    assert (started.orchestration_instance.instance_id, started.parent_instance) == (instance_id, None)
    assert started.tags == {"a": "b"}
    completed = one(world, instance_id, h.ExecutionCompletedEvent)
    assert (completed.orchestration_status, completed.result, completed.failure_details) == (1, "5", None)


def fails(ctx, _):
    raise ValueError("no")


def test_the_end_of_a_failed_orchestration(world):
    completed = one(world, world.run(fails).instance_id, h.ExecutionCompletedEvent)
    assert completed.orchestration_status == 3
    assert not completed.result
    assert completed.failure_details.error_type == "builtins.ValueError"


def naps(ctx, _):
    yield ctx.create_timer(timedelta(milliseconds=20))


def test_timers(world):
    instance_id = world.run(naps).instance_id
    assert without_turns(kinds(world, instance_id)) == [
        "ExecutionStarted",
        "TimerCreated",
        "TimerFired",
        "ExecutionCompleted",
    ]
    created, fired = (one(world, instance_id, kind) for kind in (h.TimerCreatedEvent, h.TimerFiredEvent))
    first, second = events_of(world, instance_id, h.OrchestratorStartedEvent)
    assert (created.event_id, fired.timer_id, fired.fire_at) == (1, 1, created.fire_at)
    assert created.fire_at == first.timestamp + timedelta(milliseconds=20)
    assert created.fire_at <= second.timestamp


def listens(ctx, _):
    return (yield ctx.wait_for_external_event("Go"))


def test_events_from_outside(world):
    instance_id = world.start(listens)
    world.client.raise_orchestration_event(instance_id, "gO", data={"a": 1})
    world.finish(instance_id)
    raised = one(world, instance_id, h.EventRaisedEvent)
    assert (raised.name, raised.input) == ("gO", '{"a": 1}')


def sends(ctx, to):
    ctx.send_event(to, "Go", data="from another")
    yield ctx.call_activity(work)


def test_events_from_another_orchestration(world):
    receiver = world.start(listens)
    sender = world.run(sends, input=receiver).instance_id
    assert output(world.finish(receiver)) == "from another"
    sent, raised = one(world, sender, h.EventSentEvent), one(world, receiver, h.EventRaisedEvent)
    assert (sent.event_id, sent.instance_id, sent.name, sent.input) == (1, receiver, "Go", '"from another"')
    assert (raised.name, raised.input) == (sent.name, sent.input)


def test_termination(world):
    instance_id = world.start(listens)
    world.client.terminate_orchestration(instance_id, output="enough")
    world.finish(instance_id)
    assert one(world, instance_id, h.ExecutionTerminatedEvent).input == '"enough"'
    completed = one(world, instance_id, h.ExecutionCompletedEvent)
    assert (completed.orchestration_status, completed.result) == (5, '"enough"')


def test_suspension(world):
    instance_id = world.start(listens)
    world.client.suspend_orchestration(instance_id, reason="lunch")
    until(lambda: world.client.get_orchestration_state(instance_id).runtime_status.name == "SUSPENDED")
    world.client.resume_orchestration(instance_id, reason="back")
    world.client.raise_orchestration_event(instance_id, "go")
    world.finish(instance_id)
    assert without_turns(kinds(world, instance_id)) == [
        "ExecutionStarted",
        "ExecutionSuspended",
        "ExecutionResumed",
        "EventRaised",
        "ExecutionCompleted",
    ]
    assert one(world, instance_id, h.ExecutionSuspendedEvent).input == "lunch"
    assert one(world, instance_id, h.ExecutionResumedEvent).input == "back"


def child(ctx, number):
    if number < 0:
        raise ValueError("negative")
    return number * 2


def calls_child(ctx, child_id):
    result = yield ctx.call_sub_orchestrator(child, input=4, instance_id=child_id, version="2.0")
    try:
        yield ctx.call_sub_orchestrator(child, input=-1)
    except TaskFailedError:
        return result


def test_sub_orchestrations(world):
    child_id = unique("child")
    instance_id = world.run(calls_child, input=child_id).instance_id
    first, second = events_of(world, instance_id, h.SubOrchestrationInstanceCreatedEvent)
    assert (first.event_id, first.name, first.instance_id) == (1, "child", child_id)
    assert (first.input, first.version) == ("4", "2.0")
    assert (second.event_id, second.instance_id, second.version) == (2, f"{instance_id}:0002", None)
    completed = one(world, instance_id, h.SubOrchestrationInstanceCompletedEvent)
    assert (completed.task_scheduled_id, completed.result) == (1, "8")
    failed = one(world, instance_id, h.SubOrchestrationInstanceFailedEvent)
    assert (failed.task_scheduled_id, failed.failure_details.message) == (2, "negative")


@pytest.mark.in_memory_lacks("does not tell a sub-orchestration who its parent is")
def test_the_parent_of_a_sub_orchestration(world):
    child_id = unique("child")
    instance_id = world.run(calls_child, input=child_id, version="1.5").instance_id
    parent = one(world, child_id, h.ExecutionStartedEvent).parent_instance
    assert (parent.task_scheduled_id, parent.name, parent.version) == (1, "calls_child", "1.5")
    assert parent.orchestration_instance.instance_id == instance_id


def uses_entity(ctx, key):
    entity = EntityInstanceId("counter", key)
    ctx.signal_entity(entity, "add", 1, signal_time=ctx.current_utc_datetime)
    total = yield ctx.call_entity(entity, "add", 2)
    try:
        yield ctx.call_entity(entity, "refuse")
    except TaskFailedError:
        return total


def test_entities(world):
    entity = EntityInstanceId("counter", unique("counter"))
    instance_id = world.run(uses_entity, input=entity.key).instance_id
    assert without_turns(kinds(world, instance_id)) == [
        "ExecutionStarted",
        "EntityOperationSignaled",
        *("EntityOperationCalled", "EntityOperationCompleted"),
        *("EntityOperationCalled", "EntityOperationFailed"),
        "ExecutionCompleted",
    ]
    signaled = one(world, instance_id, h.EntityOperationSignaledEvent)
    assert (signaled.event_id, signaled.operation, signaled.input) == (1, "add", "1")
    assert signaled.target_instance_id == str(entity)
    (moment, *_) = events_of(world, instance_id, h.OrchestratorStartedEvent)
    assert signaled.scheduled_time.astimezone(timezone.utc) == moment.timestamp
    first, second = events_of(world, instance_id, h.EntityOperationCalledEvent)
    assert (first.event_id, first.operation, first.input) == (2, "add", "2")
    assert (first.target_instance_id, first.parent_instance_id) == (str(entity), instance_id)
    completed = one(world, instance_id, h.EntityOperationCompletedEvent)
    assert (completed.request_id, completed.output) == (first.request_id, "3")
    failed = one(world, instance_id, h.EntityOperationFailedEvent)
    assert (failed.request_id, failed.failure_details.message) == (second.request_id, "no")
    assert len({signaled.request_id, first.request_id, second.request_id}) == 3


def locks(ctx, keys):
    entities = [EntityInstanceId("counter", key) for key in keys]
    with (yield ctx.lock_entities(entities)):
        yield ctx.call_entity(entities[0], "add", 1)


def test_locks(world):
    keys = sorted(unique("counter") for _ in range(2))
    instance_id = world.run(locks, input=keys[::-1]).instance_id
    ids = [f"@counter@{key}" for key in keys]
    requested = one(world, instance_id, h.EntityLockRequestedEvent)
    assert (requested.event_id, requested.lock_set, requested.position) == (1, ids, 0)
    assert requested.parent_instance_id == instance_id
    section = requested.critical_section_id
    assert one(world, instance_id, h.EntityLockGrantedEvent).critical_section_id == section
    sent = events_of(world, instance_id, h.EntityUnlockSentEvent)
    assert {event.critical_section_id for event in sent} == {section}
    assert sorted(event.target_instance_id for event in sent) == ids
    assert {event.parent_instance_id for event in sent} == {instance_id}


def begins_anew(ctx, generation):
    yield ctx.call_activity(work, input=generation)
    if generation < 3:
        ctx.continue_as_new(generation + 1)


def test_the_last_generation_stands_alone(world):
    instance_id = world.run(begins_anew, input=1, version="1.0").instance_id
    assert one(world, instance_id, h.ExecutionStartedEvent).input == "3"
    assert one(world, instance_id, h.ExecutionStartedEvent).version == "1.0"
    assert one(world, instance_id, h.TaskScheduledEvent).input == "3"
    assert kinds(world, instance_id).count("OrchestratorStarted") == 2


def test_events_as_plain_data(world):
    instance_id = world.run(works, input=1).instance_id
    for event in events_of(world, instance_id):
        plain = to_dict(event)
        assert plain == event.to_dict()
        assert plain["event_id"] == event.event_id
        assert isinstance(plain["timestamp"], str)
