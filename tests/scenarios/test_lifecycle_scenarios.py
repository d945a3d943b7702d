"""Suspended, resumed, terminated."""

from datetime import timedelta

import grpc
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.task import when_all
from world import failure, output, refused, unique, until

SUSPENDED, RUNNING = OrchestrationStatus.SUSPENDED, OrchestrationStatus.RUNNING
COMPLETED, TERMINATED = OrchestrationStatus.COMPLETED, OrchestrationStatus.TERMINATED


def register(worker):
    for orchestrator in (collect, step_by_step, parent, patient, double, late_parent):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(work)
    worker.add_entity(starter)


def work(ctx, value):
    return value


def collect(ctx, count):
    ctx.set_custom_status("ready")
    seen = []
    for _ in range(count):
        seen.append((yield ctx.wait_for_external_event("item")))
    return seen


def reaches(world, instance_id, status):
    return until(lambda: world.client.get_orchestration_state(instance_id).runtime_status is status)


def suspended(world, orchestrator, **options):
    instance_id = world.start(orchestrator, **options)
    world.client.suspend_orchestration(instance_id)
    reaches(world, instance_id, SUSPENDED)
    return instance_id


def test_a_suspended_orchestration_shows_so_until_it_is_resumed(world):
    instance_id = suspended(world, collect, input=1)
    world.client.resume_orchestration(instance_id)
    reaches(world, instance_id, RUNNING)
    world.client.raise_orchestration_event(instance_id, "item")
    assert world.finish(instance_id).runtime_status is COMPLETED


def test_events_wait_while_it_is_suspended(world):
    instance_id = suspended(world, collect, input=3)
    for number in range(3):
        world.client.raise_orchestration_event(instance_id, "item", data=number)
    assert world.client.get_orchestration_state(instance_id).runtime_status is SUSPENDED
    world.client.resume_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [0, 1, 2]


def test_suspending_twice_is_suspending_once(world):
    instance_id = suspended(world, collect, input=1)
    world.client.suspend_orchestration(instance_id, reason="again")
    world.client.resume_orchestration(instance_id)
    world.client.raise_orchestration_event(instance_id, "item", data="on")
    assert output(world.finish(instance_id)) == ["on"]


def test_resuming_what_is_not_suspended_fails_it(world):
    """The worker of SDK 1.12 knows what to do with a resumption only while it is suspended."""
    instance_id = world.start(collect, input=1)
    world.client.resume_orchestration(instance_id)
    assert failure(world.finish(instance_id)).error_type == "durabletask.task.OrchestrationStateError"


def step_by_step(ctx, _):
    yield ctx.wait_for_external_event("go")
    return (yield when_all([ctx.call_activity(work, input=n) for n in range(3)]))


def test_it_can_be_suspended_and_resumed_again_and_again(world):
    instance_id = world.start(step_by_step)
    for _ in range(3):
        world.client.suspend_orchestration(instance_id)
        reaches(world, instance_id, SUSPENDED)
        world.client.resume_orchestration(instance_id)
        reaches(world, instance_id, RUNNING)
    world.client.raise_orchestration_event(instance_id, "go")
    assert output(world.finish(instance_id)) == [0, 1, 2]


def test_the_reason_is_in_the_history(world):
    instance_id = suspended(world, collect, input=1)
    world.client.resume_orchestration(instance_id, reason="lunch is over")
    world.client.raise_orchestration_event(instance_id, "item")
    world.finish(instance_id)
    events = {type(event).__name__: event for event in world.client.get_orchestration_history(instance_id)}
    assert events["ExecutionSuspendedEvent"].input is None
    assert events["ExecutionResumedEvent"].input == "lunch is over"


def test_a_terminated_orchestration_has_the_output_it_is_given(world):
    instance_id = world.start(collect, input=1)
    world.client.terminate_orchestration(instance_id, output={"why": "bored"})
    state = world.finish(instance_id)
    assert (state.runtime_status, state.get_output()) == (TERMINATED, {"why": "bored"})
    assert state.failure_details is None


def test_a_terminated_orchestration_keeps_its_custom_status(world):
    instance_id = world.start(collect, input=1)
    world.until_status(instance_id, "ready")
    world.client.terminate_orchestration(instance_id)
    state = world.finish(instance_id)
    assert (state.runtime_status, state.get_output(), state.get_custom_status()) == (
        TERMINATED,
        None,
        "ready",
    )


def test_what_is_suspended_can_be_terminated(world):
    instance_id = suspended(world, collect, input=1)
    world.client.terminate_orchestration(instance_id)
    assert world.finish(instance_id).runtime_status is TERMINATED


def test_terminating_what_has_ended_changes_nothing(world):
    state = world.run(collect, input=0)
    world.client.terminate_orchestration(state.instance_id, output="too late")
    assert output(world.client.get_orchestration_state(state.instance_id)) == []


def test_terminating_nobody_is_no_error(world):
    world.client.terminate_orchestration(unique("nobody"))


@pytest.mark.parametrize("method", ["suspend_orchestration", "resume_orchestration"])
def test_suspending_or_resuming_nobody_is_refused(world, method):
    with refused(grpc.StatusCode.NOT_FOUND):
        getattr(world.client, method)(unique("nobody"))


def parent(ctx, child_id):
    return (yield ctx.call_sub_orchestrator(patient, instance_id=child_id))


def patient(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def family(world):
    child_id = unique("child")
    parent_id = world.start(parent, input=child_id)
    until(lambda: world.client.get_orchestration_state(child_id))
    return parent_id, child_id


@pytest.mark.in_memory_lacks("does not terminate sub-orchestrations")
def test_sub_orchestrations_are_terminated_too(world):
    parent_id, child_id = family(world)
    world.client.terminate_orchestration(parent_id, output="enough")
    assert world.finish(parent_id).runtime_status is TERMINATED
    assert world.finish(child_id).runtime_status is TERMINATED


def test_sub_orchestrations_can_be_left_alone(world):
    parent_id, child_id = family(world)
    world.client.terminate_orchestration(parent_id, recursive=False)
    assert world.finish(parent_id).runtime_status is TERMINATED
    world.client.raise_orchestration_event(child_id, "go", data="still here")
    assert output(world.finish(child_id)) == "still here"
    assert world.client.get_orchestration_state(parent_id).runtime_status is TERMINATED


# -- waited for before they are there


def double(ctx, number):
    return number * 2


def late_parent(ctx, child):
    yield ctx.create_timer(timedelta(seconds=1))
    return (yield ctx.call_sub_orchestrator(double, input=4, instance_id=child))


def starter(ctx, instance_id):
    ctx.schedule_new_orchestration("double", input=3, instance_id=instance_id)


def test_what_an_entity_starts_may_be_waited_for_at_once(world):
    instance_id = unique("started")
    world.client.signal_entity(EntityInstanceId("starter", instance_id), "start", instance_id)
    assert output(world.finish(instance_id)) == 6


def test_a_child_may_be_waited_for_before_its_parent_starts_it(world):
    child = unique("child")
    world.start(late_parent, input=child)
    assert world.client.get_orchestration_state(child) is None
    state = world.client.wait_for_orchestration_start(child, timeout=world.patience)
    assert state.runtime_status in (RUNNING, COMPLETED)
    assert output(world.finish(child)) == 8


def test_what_nobody_starts_is_waited_for_in_vain(world):
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_completion(unique("nobody"), timeout=1)
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_start(unique("nobody"), timeout=1)
