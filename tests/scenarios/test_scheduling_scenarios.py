"""How an instance is scheduled: its id, its tags, its moment, and whose place it takes."""

from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.history import ExecutionStartedEvent, TaskScheduledEvent
from durabletask.internal import orchestrator_service_pb2 as pb
from world import output, refused, unique

ENDED = [OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED]


def register(worker):
    for orchestrator in (echoes, waits, waits_for_child, begins_at, tags_its_activity, refuses):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(echo)


def echo(ctx, value):
    return value


def echoes(ctx, value):
    return value


def waits(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def refuses(ctx, _):
    raise ValueError("no")


def replacing(*statuses):
    return pb.OrchestrationIdReusePolicy(replaceableStatus=[status.value for status in statuses])


def started_event(world, instance_id):
    events = world.client.get_orchestration_history(instance_id)
    (started,) = [event for event in events if isinstance(event, ExecutionStartedEvent)]
    return started


# -- ids


def test_each_instance_has_an_id_of_its_own(world):
    ids = {world.client.schedule_new_orchestration(echoes) for _ in range(20)}
    assert len(ids) == 20
    assert {len(id) for id in ids} == {32}


@pytest.mark.parametrize("id", ["with spaces and ünïcode", "a/b:c@d", "x" * 200])
def test_an_id_may_be_nearly_anything(world, id):
    instance_id = unique(id)
    state = world.run(echoes, input=1, instance_id=instance_id)
    assert (state.instance_id, output(state)) == (instance_id, 1)


def test_an_id_that_is_in_use_is_refused(world):
    instance_id = world.start(waits)
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        world.client.schedule_new_orchestration(echoes, instance_id=instance_id)
    world.client.raise_orchestration_event(instance_id, "go", data="undisturbed")
    assert output(world.finish(instance_id)) == "undisturbed"


def test_the_id_of_what_has_ended_is_refused_too(world):
    instance_id = world.run(echoes).instance_id
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        world.client.schedule_new_orchestration(echoes, instance_id=instance_id)


@pytest.mark.parametrize("orchestrator", [echoes, refuses])
def test_an_instance_takes_the_place_of_one_that_has_ended(world, orchestrator):
    instance_id = world.run(orchestrator, input="old").instance_id
    state = world.run(echoes, input="new", instance_id=instance_id, reuse_id_policy=replacing(*ENDED))
    assert output(state) == "new"


def test_an_instance_takes_the_place_of_one_that_runs(world):
    instance_id = world.start(waits)
    policy = replacing(OrchestrationStatus.RUNNING)
    assert output(world.run(echoes, input="new", instance_id=instance_id, reuse_id_policy=policy)) == "new"


def waits_for_child(ctx, child):
    return (yield ctx.call_sub_orchestrator(waits, instance_id=child))


def test_who_waits_for_a_child_hears_of_what_takes_its_place(world):
    child = unique("child")
    parent = world.start(waits_for_child, input=child)
    world.client.wait_for_orchestration_start(child, timeout=world.patience)
    policy = replacing(OrchestrationStatus.RUNNING)
    assert output(world.run(echoes, input="new", instance_id=child, reuse_id_policy=policy)) == "new"
    assert output(world.finish(parent)) == "new"


def test_an_instance_takes_the_place_of_one_of_the_named_statuses_alone(world):
    instance_id = world.run(echoes, input="old").instance_id
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        world.client.schedule_new_orchestration(
            echoes, instance_id=instance_id, reuse_id_policy=replacing(OrchestrationStatus.FAILED)
        )
    assert output(world.client.get_orchestration_state(instance_id)) == "old"


def test_a_policy_does_not_matter_where_the_id_is_free(world):
    policy = replacing(OrchestrationStatus.FAILED)
    assert world.output_of(echoes, input=1, instance_id=unique("free"), reuse_id_policy=policy) == 1


# -- tags and versions


def test_tags_are_in_the_history(world):
    instance_id = world.run(echoes, tags={"team": "billing", "cost": "7"}).instance_id
    assert started_event(world, instance_id).tags == {"team": "billing", "cost": "7"}


def test_without_tags_there_are_none(world):
    assert not started_event(world, world.run(echoes).instance_id).tags


def tags_its_activity(ctx, _):
    return (yield ctx.call_activity(echo, input=1, tags={"kind": "audit"}))


@pytest.mark.in_memory_lacks("drops the tags of activities")
def test_an_activity_has_tags_too(world):
    state = world.run(tags_its_activity)
    assert output(state) == 1
    events = world.client.get_orchestration_history(state.instance_id)
    assert [event.tags for event in events if isinstance(event, TaskScheduledEvent)] == [{"kind": "audit"}]


def test_the_version_is_in_the_history(world):
    instance_id = world.run(echoes, version="1.2.3").instance_id
    assert started_event(world, instance_id).version == "1.2.3"


# -- the moment


def begins_at(ctx, _):
    return ctx.current_utc_datetime.isoformat()


@pytest.mark.in_memory_lacks("starts every instance at once")
@pytest.mark.long_timers
@pytest.mark.parametrize("zone", [None, timezone.utc, timezone(timedelta(hours=8))])
def test_an_instance_may_be_started_later(world, zone):
    moment = world.now() + timedelta(hours=3)
    given = moment if zone is None else moment.replace(tzinfo=timezone.utc).astimezone(zone)
    instance_id = world.client.schedule_new_orchestration(begins_at, start_at=given)
    assert world.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.PENDING
    began = datetime.fromisoformat(output(world.finish(instance_id)))
    assert timedelta(0) <= began - moment < timedelta(minutes=1)


def test_a_moment_that_has_passed_is_now(world):
    moment = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert world.output_of(echoes, input="at once", start_at=moment) == "at once"


@pytest.mark.in_memory_lacks("starts every instance at once")
@pytest.mark.long_timers
def test_what_has_not_started_can_be_terminated(world):
    moment = world.now() + timedelta(days=2)
    instance_id = world.client.schedule_new_orchestration(begins_at, start_at=moment)
    world.client.terminate_orchestration(instance_id, output="never mind")
    state = world.finish(instance_id)
    assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.TERMINATED, "never mind")
