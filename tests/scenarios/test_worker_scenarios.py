"""Which work a worker asks for."""

import pytest
from durabletask import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    WorkItemFilters,
)
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.internal import orchestrator_service_pb2 as pb
from world import output, unique


def register(worker):
    worker.add_orchestrator(everything)
    worker.add_activity(double)
    worker.add_entity(counter)


def double(ctx, number):
    return 2 * number


def counter(ctx, amount):
    total = ctx.get_state(int, 0) + amount
    ctx.set_state(total)
    return total


def everything(ctx, key):
    doubled = yield ctx.call_activity(double, input=21)
    return [doubled, (yield ctx.call_entity(EntityInstanceId("counter", key), "add", doubled))]


def filtered_by_what_is_registered(worker):
    register(worker)
    worker.use_work_item_filters()


def filtered_by_name(worker):
    register(worker)
    worker.use_work_item_filters(
        WorkItemFilters(
            orchestrations=[
                OrchestrationWorkItemFilter("everything", versions=["1.0"]),
                OrchestrationWorkItemFilter("what_time_is_it"),
            ],
            activities=[ActivityWorkItemFilter("double")],
            entities=[EntityWorkItemFilter("Counter")],
        )
    )


def without_activities(worker):
    register(worker)
    worker.use_work_item_filters(WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("everything")]))


def without_activities_that_have_no_version(worker):
    register(worker)
    worker.use_work_item_filters(
        WorkItemFilters(
            orchestrations=[OrchestrationWorkItemFilter("everything")],
            activities=[ActivityWorkItemFilter("double", versions=["1.0"])],
        )
    )


def not_filtered_after_all(worker):
    filtered_by_name(worker)
    worker.use_work_item_filters(None)


@pytest.mark.application(register=filtered_by_what_is_registered)
def test_a_worker_that_asks_for_what_it_knows_gets_it(world):
    assert world.output_of(everything, input=unique("key")) == [42, 42]


@pytest.mark.application(register=filtered_by_name)
def test_a_worker_that_asks_by_name_and_version_gets_it(world):
    assert world.output_of(everything, input=unique("key"), version="1.0") == [42, 42]


@pytest.mark.application(register=filtered_by_name)
@pytest.mark.parametrize("version", ["2.0", None])
def test_an_orchestration_of_another_version_waits_for_another_worker(world, version):
    instance_id = world.client.schedule_new_orchestration(everything, input=unique("key"), version=version)
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_start(instance_id, timeout=0.2)
    assert world.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.PENDING
    again = pb.OrchestrationIdReusePolicy(replaceableStatus=[OrchestrationStatus.PENDING.value])
    state = world.run(
        everything, input=unique("key"), version="1.0", instance_id=instance_id, reuse_id_policy=again
    )
    assert output(state) == [42, 42]


@pytest.mark.application(register=without_activities)
def test_an_activity_that_is_filtered_out_waits_for_another_worker(world):
    goes_no_further(world)


@pytest.mark.application(register=without_activities_that_have_no_version)
def test_so_does_one_that_is_filtered_out_by_its_version(world):
    goes_no_further(world)


def goes_no_further(world):
    instance_id = world.start(everything, input=unique("key"))
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_completion(instance_id, timeout=0.2)
    assert world.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.RUNNING
    world.client.terminate_orchestration(instance_id)
    assert world.finish(instance_id).runtime_status is OrchestrationStatus.TERMINATED


@pytest.mark.application(register=not_filtered_after_all)
def test_a_worker_without_filters_gets_everything(world):
    assert world.output_of(everything, input=unique("key"), version="2.0") == [42, 42]
    assert world.failure_of("unheard_of").error_type.endswith("OrchestratorNotRegisteredError")
