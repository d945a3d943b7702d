"""Instances looked up, listed, read back and purged."""

from datetime import timedelta, timezone

import grpc
import pytest
from durabletask.client import OrchestrationQuery, OrchestrationStatus
from durabletask.history import ExecutionStartedEvent, TaskScheduledEvent
from world import output, refused, unique, until

COMPLETED, FAILED = OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
RUNNING, TERMINATED = OrchestrationStatus.RUNNING, OrchestrationStatus.TERMINATED


def register(worker):
    for orchestrator in (double_all, fails, waits, parent):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(double)


def double(ctx, number):
    return 2 * number


def double_all(ctx, numbers):
    results = []
    for number in numbers:
        results.append((yield ctx.call_activity(double, input=number)))
    return results


def fails(ctx, why):
    raise ValueError(why)


def waits(ctx, _):
    ctx.set_custom_status("waiting")
    return (yield ctx.wait_for_external_event("go"))


def parent(ctx, child_id):
    return (yield ctx.call_sub_orchestrator(double_all, input=[1], instance_id=child_id))


def four(world):
    """A completed, a failed, a terminated and a running instance, whose ids begin alike."""
    prefix = unique("four")
    world.run(double_all, input=[3], instance_id=f"{prefix}-completed")
    world.run(fails, input="no", instance_id=f"{prefix}-failed")
    for name in ("terminated", "running"):
        world.start(waits, instance_id=f"{prefix}-{name}")
        world.until_status(f"{prefix}-{name}", "waiting")
    world.client.terminate_orchestration(f"{prefix}-terminated")
    world.finish(f"{prefix}-terminated")
    return prefix


def names(prefix, states):
    return [state.instance_id.removeprefix(f"{prefix}-") for state in states]


# -- one instance


def test_the_state_of_an_instance_while_it_waits(world):
    before = world.now()
    instance_id = world.start(waits, input={"a": 1})
    world.until_status(instance_id, "waiting")
    state = world.client.get_orchestration_state(instance_id)
    assert (state.instance_id, state.name, state.runtime_status) == (instance_id, "waits", RUNNING)
    assert (state.get_input(), state.get_output(), state.failure_details) == ({"a": 1}, None, None)
    assert before - timedelta(seconds=1) < state.created_at <= state.last_updated_at <= world.now()


def test_payloads_are_left_out_on_request(world):
    instance_id = world.run(double_all, input=[1]).instance_id
    for state in (
        world.client.get_orchestration_state(instance_id, fetch_payloads=False),
        world.client.wait_for_orchestration_completion(instance_id, fetch_payloads=False, timeout=10),
        world.client.wait_for_orchestration_start(instance_id, timeout=10),
    ):
        assert (state.serialized_input, state.serialized_output) == (None, None)
        assert state.runtime_status is COMPLETED
    started = world.client.wait_for_orchestration_start(instance_id, fetch_payloads=True, timeout=10)
    assert (started.get_input(), started.get_output()) == ([1], [2])


def test_nobody_has_no_state(world):
    assert world.client.get_orchestration_state(unique("nobody")) is None


def test_a_wait_for_what_does_not_end_times_out(world):
    instance_id = world.start(waits)
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_completion(instance_id, timeout=0.2)
    world.client.raise_orchestration_event(instance_id, "go", data="after all")
    assert output(world.finish(instance_id)) == "after all"


# -- histories


def test_the_history_tells_what_happened_in_order(world):
    state = world.run(double_all, input=[1, 2])
    events = world.client.get_orchestration_history(state.instance_id)
    assert [type(event).__name__.removesuffix("Event") for event in events] == [
        "OrchestratorStarted", "ExecutionStarted", "TaskScheduled", "OrchestratorCompleted",
        "OrchestratorStarted", "TaskCompleted", "TaskScheduled", "OrchestratorCompleted",
        "OrchestratorStarted", "TaskCompleted", "OrchestratorCompleted", "ExecutionCompleted",
    ]  # fmt: skip
    (started,) = [event for event in events if isinstance(event, ExecutionStartedEvent)]
    assert (started.name, started.input) == ("double_all", "[1, 2]")
    scheduled = [event for event in events if isinstance(event, TaskScheduledEvent)]
    assert [(event.event_id, event.name, event.input) for event in scheduled] == [
        (1, "double", "1"),
        (2, "double", "2"),
    ]


def test_a_long_history_comes_whole(world):
    state = world.run(double_all, input=list(range(40)))
    events = world.client.get_orchestration_history(state.instance_id)
    assert len([event for event in events if isinstance(event, TaskScheduledEvent)]) == 40
    again = world.client.get_orchestration_history(state.instance_id, for_work_item_processing=True)
    assert again == events


def test_nobody_has_no_history(world):
    with refused(grpc.StatusCode.NOT_FOUND):
        world.client.get_orchestration_history(unique("nobody"))


# -- many instances


def test_instances_are_found_by_the_beginning_of_their_ids(world):
    prefix = four(world)
    found = world.client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=prefix))
    assert names(prefix, found) == ["completed", "failed", "terminated", "running"]
    assert [state.runtime_status for state in found] == [COMPLETED, FAILED, TERMINATED, RUNNING]
    assert [state.serialized_input for state in found] == [None] * 4
    assert found[1].failure_details.error_type == "builtins.ValueError"
    assert found[3].get_custom_status() == "waiting"


def test_instances_are_found_by_their_status(world):
    prefix = four(world)
    for statuses, expected in (
        ([RUNNING], ["running"]),
        ([COMPLETED, FAILED], ["completed", "failed"]),
        ([OrchestrationStatus.SUSPENDED, OrchestrationStatus.CONTINUED_AS_NEW], []),
    ):
        query = OrchestrationQuery(instance_id_prefix=prefix, runtime_status=statuses)
        assert names(prefix, world.client.get_all_orchestration_states(query)) == expected


def test_instances_are_found_with_their_payloads(world):
    prefix = four(world)
    query = OrchestrationQuery(instance_id_prefix=f"{prefix}-completed", fetch_inputs_and_outputs=True)
    (state,) = world.client.get_all_orchestration_states(query)
    assert (state.get_input(), state.get_output()) == ([3], [6])


def test_instances_are_found_page_by_page(world):
    prefix = four(world)
    for size in (1, 3, 4):
        query = OrchestrationQuery(instance_id_prefix=prefix, max_instance_count=size)
        found = world.client.get_all_orchestration_states(query)
        assert names(prefix, found) == ["completed", "failed", "terminated", "running"]


def test_instances_are_found_by_the_time_of_their_creation(world):
    state = world.run(double_all, input=[])
    created = state.created_at.replace(tzinfo=timezone.utc)
    second = timedelta(seconds=1)
    for bounds, expected in (
        ({"created_time_from": created - second, "created_time_to": created + second}, True),
        ({"created_time_from": created}, True),
        ({"created_time_to": created}, False),
        ({"created_time_from": created + second}, False),
    ):
        query = OrchestrationQuery(instance_id_prefix=state.instance_id, **bounds)
        assert bool(world.client.get_all_orchestration_states(query)) is expected, bounds


def test_without_a_query_all_instances_are_found(world):
    prefix = four(world)
    found = {state.instance_id for state in world.client.get_all_orchestration_states()}
    assert {f"{prefix}-{name}" for name in ("completed", "failed", "terminated", "running")} <= found


def listed(world, prefix, **filters):
    """The ids that begin so, collected page by page."""
    ids, token = [], None
    while True:
        page = world.client.list_instance_ids(continuation_token=token, **filters)
        assert len(page.items) <= filters.get("page_size", 100)
        ids += page.items
        token = page.continuation_token
        if not token:
            return [id.removeprefix(f"{prefix}-") for id in ids if id.startswith(prefix)]


def test_the_ids_of_what_has_ended_are_listed_in_the_order_of_ending(world):
    prefix = four(world)
    assert listed(world, prefix) == ["completed", "failed", "terminated"]
    assert listed(world, prefix, page_size=2) == ["completed", "failed", "terminated"]
    assert listed(world, prefix, runtime_status=[FAILED, TERMINATED]) == ["failed", "terminated"]
    assert listed(world, prefix, runtime_status=[RUNNING]) == []


def test_ids_are_listed_by_the_time_of_ending(world):
    state = world.run(double_all, input=[1])
    ended = state.last_updated_at.replace(tzinfo=timezone.utc)
    second = timedelta(seconds=1)
    for bounds, expected in (
        ({"completed_time_from": ended - second, "completed_time_to": ended + second}, True),
        ({"completed_time_from": ended + second}, False),
        ({"completed_time_to": ended - second}, False),
    ):
        assert bool(listed(world, state.instance_id, **bounds)) is expected, bounds


# -- purged


def test_what_has_ended_can_be_purged(world):
    instance_id = world.run(double_all, input=[1]).instance_id
    result = world.client.purge_orchestration(instance_id)
    assert (result.deleted_instance_count, result.is_complete) == (1, True)
    assert world.client.get_orchestration_state(instance_id) is None
    assert world.client.purge_orchestration(instance_id).deleted_instance_count == 0


def test_the_id_of_what_was_purged_is_free(world):
    instance_id = world.run(double_all, input=[1]).instance_id
    world.client.purge_orchestration(instance_id)
    assert world.output_of(double_all, input=[4], instance_id=instance_id) == [8]


def test_what_runs_cannot_be_purged(world):
    instance_id = world.start(waits)
    assert world.client.purge_orchestration(instance_id).deleted_instance_count == 0
    assert world.client.get_orchestration_state(instance_id).runtime_status is RUNNING


def test_instances_are_purged_by_their_status(world):
    prefix = four(world)
    result = world.client.purge_orchestrations_by(
        runtime_status=[FAILED, TERMINATED], recursive=True, timeout=timedelta(seconds=10)
    )
    assert result.deleted_instance_count >= 2
    left = world.client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=prefix))
    assert names(prefix, left) == ["completed", "running"]


def test_instances_are_purged_by_the_time_of_their_creation(world):
    state = world.run(double_all, input=[])
    created = state.created_at.replace(tzinfo=timezone.utc)
    day = timedelta(days=1)
    assert (
        world.client.purge_orchestrations_by(created_time_to=created - 300 * day).deleted_instance_count == 0
    )
    assert world.client.get_orchestration_state(state.instance_id) is not None
    result = world.client.purge_orchestrations_by(created_time_from=created, created_time_to=created + day)
    assert result.deleted_instance_count >= 1
    assert world.client.get_orchestration_state(state.instance_id) is None


@pytest.mark.in_memory_lacks("does not purge sub-orchestrations")
def test_sub_orchestrations_are_purged_too(world):
    child_id = unique("child")
    instance_id = world.run(parent, input=child_id).instance_id
    assert world.client.purge_orchestration(instance_id).deleted_instance_count == 2
    assert world.client.get_orchestration_state(child_id) is None


def test_sub_orchestrations_can_be_left(world):
    child_id = unique("child")
    instance_id = world.run(parent, input=child_id).instance_id
    assert world.client.purge_orchestration(instance_id, recursive=False).deleted_instance_count == 1
    assert output(world.client.get_orchestration_state(child_id)) == [2]
    until(lambda: world.client.get_orchestration_state(instance_id) is None)
