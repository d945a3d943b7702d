"""Orchestrations started again and again by a schedule."""

import asyncio
from contextlib import contextmanager, nullcontext
from datetime import timedelta, timezone

import pytest
from durabletask.client import OrchestrationQuery
from durabletask.scheduled import (
    AsyncScheduleClient,
    AsyncScheduledTaskClient,
    ScheduleClient,
    ScheduleCreationOptions,
    ScheduledTaskClient,
    ScheduleNotFoundError,
    ScheduleQuery,
    ScheduleStatus,
    ScheduleUpdateOptions,
)
from world import output, unique, until

from dt_testkit.sdk import virtual_now

HOUR = timedelta(hours=1)


def register(worker):
    worker.add_orchestrator(report)
    worker.add_orchestrator(sleep)
    worker.configure_scheduled_tasks()


def report(ctx, about):
    return f"report about {about}"


def sleep(ctx, hours):
    yield ctx.create_timer(timedelta(hours=hours))


@pytest.fixture(autouse=True)
def _one_clock(world):
    """The SDK's schedules read the clock of the worker's machine: where time jumps, it has to jump too."""
    with virtual_now(world.clock) if world.clock is not None else nullcontext():
        yield


@contextmanager
def created(world, name, **options):
    """A schedule that runs at once and then every hour, until it is deleted."""
    options = {"interval": HOUR, "orchestration_input": name, "start_immediately_if_late": True, **options}
    client = ScheduledTaskClient(world.client, operation_timeout=world.patience)
    schedule = client.create_schedule(ScheduleCreationOptions(name, "report", **options))
    try:
        yield schedule
    finally:
        schedule.delete()


def runs_of(world, name):
    query = OrchestrationQuery(instance_id_prefix=name)
    return world.client.get_all_orchestration_states(query)


def test_a_schedule_starts_an_orchestration(world):
    name = unique("schedule")
    with created(world, name) as schedule:
        (run,) = until(lambda: runs_of(world, name))
        assert output(world.finish(run.instance_id)) == f"report about {name}"
        described = until(lambda: schedule.describe().last_run_at and schedule.describe())
        assert (described.schedule_id, described.orchestration_name) == (name, "report")
        assert (described.status, described.interval) == (ScheduleStatus.ACTIVE, HOUR)
        assert described.next_run_at - described.last_run_at <= HOUR


@pytest.mark.long_timers
def test_a_schedule_starts_one_every_time(world):
    name = unique("schedule")
    with created(world, name):
        world.run(sleep, input=4.5)
        runs = runs_of(world, name)
    assert len(runs) == 5
    assert all(world.finish(run.instance_id).get_output() == f"report about {name}" for run in runs)


@pytest.mark.long_timers
def test_a_schedule_may_begin_and_end_at_given_times(world):
    name, now = unique("schedule"), world.now()
    with created(
        world, name, start_at=now + 2 * HOUR, end_at=now + 4.5 * HOUR, start_immediately_if_late=False
    ):
        world.run(sleep, input=1)
        assert runs_of(world, name) == []
        world.run(sleep, input=9)
        assert len(runs_of(world, name)) == 3


def test_a_schedule_is_paused_and_resumed(world):
    name = unique("schedule")
    with created(world, name) as schedule:
        schedule.pause()
        assert (schedule.describe().status, schedule.describe().next_run_at) == (ScheduleStatus.PAUSED, None)
        with pytest.raises(RuntimeError, match="Invalid state transition"):
            schedule.pause()
        schedule.resume()
        assert schedule.describe().status is ScheduleStatus.ACTIVE


def test_a_schedule_is_updated(world):
    name = unique("schedule")
    moment = world.now().replace(tzinfo=timezone.utc) + 1000 * HOUR
    changes = {
        "orchestration_name": "sleep",
        "orchestration_input": 0,
        "orchestration_instance_id": unique("run"),
        "start_at": moment,
        "end_at": moment + HOUR,
        "interval": 2 * HOUR,
        "start_immediately_if_late": True,
    }
    with created(world, name, start_immediately_if_late=False) as schedule:
        before = schedule.describe()
        schedule.update(ScheduleUpdateOptions(**changes))
        after = schedule.describe()
    assert (before.orchestration_name, before.interval) == ("report", HOUR)
    assert {name: getattr(after, name) for name in changes} == changes
    assert after.execution_token != before.execution_token


def test_schedules_are_listed(world):
    prefix = unique("listed")
    client = ScheduledTaskClient(world.client, operation_timeout=world.patience)
    with created(world, f"{prefix}-a"), created(world, f"{prefix}-b") as second:
        second.pause()
        names = [f"{prefix}-a", f"{prefix}-b"]
        every, paused = (
            ScheduleQuery(schedule_id_prefix=prefix, status=status, page_size=1)
            for status in (None, ScheduleStatus.PAUSED)
        )
        assert client.list_schedules(ScheduleQuery(status=ScheduleStatus.UNINITIALIZED)) == []
        # An entity that has signals to read is not listed.
        until(lambda: [schedule.schedule_id for schedule in client.list_schedules(every)] == names)
        until(lambda: [schedule.schedule_id for schedule in client.list_schedules(paused)] == names[1:])


def test_a_deleted_schedule_is_gone(world):
    name = unique("schedule")
    with created(world, name) as schedule:
        assert schedule.schedule_id == name
    client = ScheduledTaskClient(world.client, operation_timeout=world.patience)
    assert client.get_schedule(name) is None
    assert client.get_schedule(unique("schedule")) is None
    with pytest.raises(ScheduleNotFoundError) as caught:
        client.get_schedule_client(name).describe()
    assert caught.value.schedule_id == name


def test_schedules_are_listed_by_the_time_of_their_creation(world):
    name, now = unique("schedule"), world.now().replace(tzinfo=timezone.utc)
    client = ScheduledTaskClient(world.client, operation_timeout=world.patience)
    schedule = ScheduleClient(world.client, name, operation_timeout=world.patience)
    schedule.create(ScheduleCreationOptions(name, "report", HOUR))
    around = ScheduleQuery(schedule_id_prefix=name, created_from=now - HOUR, created_to=now + HOUR)
    until(lambda: [found.schedule_id for found in client.list_schedules(around)] == [name])
    for bounds in ({"created_from": now + HOUR}, {"created_to": now - HOUR}):
        assert client.list_schedules(ScheduleQuery(schedule_id_prefix=name, **bounds)) == []
    schedule.delete()


def test_a_schedule_is_managed_asynchronously(world):
    name = unique("schedule")

    async def scenario():
        async with world.new_async_client() as async_client:
            client = AsyncScheduledTaskClient(async_client, operation_timeout=world.patience)
            await client.create_schedule(ScheduleCreationOptions(name, "report", HOUR))
            schedule = client.get_schedule_client(name)
            seen = [schedule.schedule_id, (await schedule.describe()).status]
            await schedule.pause()
            seen.append((await schedule.describe()).status)
            await schedule.resume()
            await schedule.update(ScheduleUpdateOptions(interval=2 * HOUR))
            while not (found := await client.list_schedules(ScheduleQuery(schedule_id_prefix=name))):
                await asyncio.sleep(0.005)
            seen += [(each.schedule_id, each.status, each.interval) for each in found]
            await schedule.delete()
            again = AsyncScheduleClient(async_client, name, operation_timeout=world.patience)
            await again.create(ScheduleCreationOptions(name, "report", HOUR))
            seen.append((await client.get_schedule(name)).status)
            await again.delete()
            return [*seen, await client.get_schedule(name)]

    active = ScheduleStatus.ACTIVE
    listed = name, active, 2 * HOUR
    assert asyncio.run(scenario()) == [name, active, ScheduleStatus.PAUSED, listed, active, None]
