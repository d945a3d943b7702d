"""Recurring schedules in virtual time, with the SDK's own clients."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from datetime import datetime, timedelta, timezone

import durabletask
import pytest
from durabletask import task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.scheduled import (
    AsyncScheduledTaskClient,
    ScheduleCreationOptions,
    ScheduledTaskClient,
    ScheduleNotFoundError,
    ScheduleQuery,
    ScheduleStatus,
    ScheduleUpdateOptions,
    models,
    schedule_entity,
)
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import TaskHub, replay
from dt_testkit.backends import _LOGGER
from dt_testkit.sdk import pb, virtual_now, virtual_surroundings

START = datetime(2026, 1, 1)
START_UTC = START.replace(tzinfo=timezone.utc)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def report(ctx, about):
    ctx.set_custom_status(about)
    return ctx.current_utc_datetime.isoformat()


def register(worker):
    worker.add_orchestrator(report)
    worker.configure_scheduled_tasks()


@pytest.fixture
def hub():
    hub = TaskHub(check_replay="turn")
    register(hub)
    return hub


def create(hub, schedule_id="daily", interval=DAY, **options):
    options = ScheduleCreationOptions(schedule_id, "report", interval, **options)
    return ScheduledTaskClient(hub.client).create_schedule(options)


def runs(hub):
    return [instance for instance in hub.instances if instance.name == "report"]


def hours(hub):
    """How many hours after the start each run was."""
    return [(datetime.fromisoformat(run.output) - START) / HOUR for run in runs(hub)]


def test_a_daily_schedule_runs_365_times_in_a_year(hub):
    create(hub)
    hub.advance(timedelta(days=365))
    assert [run.output for run in runs(hub)] == [(START + day * DAY).isoformat() for day in range(1, 365 + 1)]
    assert runs(hub)[0].instance_id == "daily-2026-01-02T00:00:00+00:00"
    assert hub.now == START + timedelta(days=365)


def test_by_the_clock_of_the_machine_it_would_not(hub):
    """What shows that the test above can fail: the same schedule, that reads the clock as it is."""
    hub._has_schedules = False
    create(hub)
    hub.advance(10 * DAY)
    assert runs(hub) == []


def test_what_is_recorded_replays(hub):
    create(hub, interval=HOUR)
    hub.advance(DAY)
    for instance in hub.instances:
        assert replay(instance.history, hub).ok
        assert replay(instance.history, hub).worker_outcome == "accepts"


def test_a_schedule_tells_when_it_ran_and_runs_next(hub):
    daily = create(hub, orchestration_input={"about": "sales"})
    described = daily.describe()
    assert (described.status, described.interval) == (ScheduleStatus.ACTIVE, DAY)
    assert (described.last_run_at, described.next_run_at) == (None, START_UTC + DAY)
    hub.advance(1.5 * DAY)
    described = daily.describe()
    assert (described.last_run_at, described.next_run_at) == (START_UTC + DAY, START_UTC + 2 * DAY)
    assert runs(hub)[0].input == runs(hub)[0].custom_status == {"about": "sales"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [6, 12, 18, 24]),
        ({"start_immediately_if_late": True}, [0, 6, 12, 18, 24]),
        ({"start_at": START + 8 * HOUR}, [8, 14, 20]),
        ({"start_at": START_UTC + 8 * HOUR, "end_at": START_UTC + 15 * HOUR}, [8, 14]),
        ({"start_at": START - 2 * HOUR}, [4, 10, 16, 22]),
        ({"start_at": START - 2 * HOUR, "start_immediately_if_late": True}, [0, 4, 10, 16, 22]),
        ({"start_at": START_UTC.astimezone(timezone(HOUR)) + 2 * HOUR}, [2, 8, 14, 20]),
    ],
)
def test_when_a_schedule_runs(hub, options, expected):
    create(hub, interval=6 * HOUR, **options)
    hub.advance(DAY)
    assert hours(hub) == expected


def test_a_schedule_past_its_end_is_gone(hub):
    schedule = create(hub, interval=HOUR, end_at=START + 2.5 * HOUR)
    hub.advance(DAY)
    assert hours(hub) == [1, 2]
    with pytest.raises(ScheduleNotFoundError):
        schedule.describe()
    assert not hub.entity("@schedule@daily").exists


def test_a_schedule_that_is_paused_does_not_run_until_it_is_resumed(hub):
    schedule = create(hub, interval=2 * HOUR)
    hub.advance(3 * HOUR)
    schedule.pause()
    assert (schedule.describe().status, schedule.describe().next_run_at) == (ScheduleStatus.PAUSED, None)
    with pytest.raises(RuntimeError, match="Invalid state transition"):
        schedule.pause()
    hub.advance(4 * HOUR)
    assert hours(hub) == [2]
    schedule.resume()
    hub.advance(4 * HOUR)
    assert hours(hub) == [2, 8, 10]  # in step with when it was created


def test_a_schedule_that_is_updated_goes_by_its_new_interval_at_once(hub):
    schedule = create(hub, interval=6 * HOUR)
    hub.advance(7 * HOUR)
    schedule.update(ScheduleUpdateOptions(interval=2 * HOUR, orchestration_input="more"))
    hub.advance(4 * HOUR)
    assert hours(hub) == [6, 8, 10]
    assert [run.input for run in runs(hub)] == [None, "more", "more"]
    assert schedule.describe().interval == 2 * HOUR


def test_a_schedule_that_is_deleted_does_not_run(hub):
    schedule = create(hub, interval=HOUR)
    hub.advance(HOUR)
    schedule.delete()
    hub.advance(DAY)
    assert hours(hub) == [1]
    assert ScheduledTaskClient(hub.client).get_schedule("daily") is None


def test_schedules_are_listed_by_status_prefix_and_time_of_creation(hub):
    client = ScheduledTaskClient(hub.client)
    create(hub, "a-1")
    hub.advance(HOUR)
    create(hub, "a-2").pause()
    hub.advance(HOUR)
    create(hub, "b-1")

    def found(**query):
        return [schedule.schedule_id for schedule in client.list_schedules(ScheduleQuery(**query))]

    assert found() == found(page_size=1) == ["a-1", "a-2", "b-1"]
    assert found(status=ScheduleStatus.PAUSED) == ["a-2"]
    assert found(schedule_id_prefix="a-") == ["a-1", "a-2"]
    assert found(created_from=START, created_to=START + 2 * HOUR) == ["a-2"]
    assert found(created_from=START - HOUR, created_to=START + 2 * HOUR) == ["a-1", "a-2"]


def test_the_asynchronous_client_manages_schedules_too(hub):
    async def manage():
        client = AsyncScheduledTaskClient(hub.async_client)
        options = ScheduleCreationOptions("hourly", "report", HOUR)
        schedule = await client.create_schedule(options)
        await schedule.pause()
        await schedule.resume()
        [found] = await client.list_schedules()
        return found.status

    assert asyncio.run(manage()) is ScheduleStatus.ACTIVE
    hub.advance(3 * HOUR)
    assert hours(hub) == [1, 2, 3]


def test_a_run_of_a_fixed_id_is_left_out_while_the_one_before_still_goes_on(hub):
    def slow(ctx, _):
        yield ctx.create_timer(1.5 * HOUR)

    hub.add_orchestrator(slow)
    options = ScheduleCreationOptions("hourly", "slow", HOUR, orchestration_instance_id="the-one")
    ScheduledTaskClient(hub.client).create_schedule(options)
    started = []
    for _ in range(5):
        hub.advance(HOUR)
        started.append((hub.instance("the-one").created_at - START) / HOUR)
    assert started == [1, 1, 3, 3, 5]


def test_a_run_that_fails_does_not_stop_the_schedule(hub):
    ScheduledTaskClient(hub.client).create_schedule(
        ScheduleCreationOptions("hourly", "nobody_registered_this", HOUR)
    )
    hub.advance(3 * HOUR)
    failed = [i for i in hub.instances if i.status is OrchestrationStatus.FAILED]
    assert len(failed) == 3


def test_a_schedule_outlives_a_crash_of_the_worker(hub):
    create(hub, interval=HOUR)
    hub.advance(1.5 * HOUR)
    hub.crash_worker()
    hub.advance(2 * HOUR)
    assert hours(hub) == [1, 2, 3]


def test_two_hubs_of_one_seed_keep_the_same_states():
    def state_of_one(seed):
        hub = TaskHub(seed=seed)
        register(hub)
        create(hub, start_immediately_if_late=True).pause()
        return hub.entity("@schedule@daily")._state

    assert state_of_one(1) == state_of_one(1)
    assert state_of_one(1) != state_of_one(2)  # the token is drawn from the seed


def test_configuring_registers_what_the_worker_registers():
    hub = TaskHub()
    worker = TaskHubGrpcWorker(host_address="localhost:1", logger=_LOGGER)
    for one in (hub, worker):
        one.configure_scheduled_tasks()
    assert hub.capabilities == worker._capabilities == {pb.WORKER_CAPABILITY_SCHEDULED_TASKS}
    for kind in ("orchestrators", "activities", "entities"):
        assert getattr(hub._registry, kind) == getattr(worker._registry, kind)
    with pytest.raises(ValueError, match="already exists"):
        hub.configure_scheduled_tasks()


# -- the clock


def wall_clock_is(moment):
    return abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=5)


def test_outside_of_a_hub_the_sdk_has_the_clock_of_the_machine(hub):
    create(hub)
    hub.advance(DAY)
    assert wall_clock_is(schedule_entity._now())
    assert task.datetime is datetime
    assert models.ScheduleState().execution_token != models.ScheduleState().execution_token


def test_two_hubs_keep_two_clocks():
    hubs = [TaskHub(start_time=START + year * 365 * DAY) for year in range(2)]
    for hub in hubs:
        register(hub)
        create(hub)
    for _ in range(3):
        for hub in hubs:
            hub.advance(DAY)
    assert [run.output for run in runs(hubs[1])] == [
        (START + (365 + day) * DAY).isoformat() for day in (1, 2, 3)
    ]
    assert hours(hubs[0]) == [24, 48, 72]


def test_a_clock_for_the_process_reaches_every_thread():
    seen = []

    def look():
        seen.append(schedule_entity._now())

    with virtual_now(lambda: START):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        aware = START_UTC.astimezone(timezone(HOUR)) + HOUR
        with virtual_now(lambda: aware):
            look()
        look()
    assert seen == [START_UTC, START_UTC + HOUR, START_UTC]
    assert wall_clock_is(schedule_entity._now())


def test_clocks_that_overlap_are_let_go_in_any_order():
    first, second = virtual_now(lambda: START), virtual_now(lambda: START + DAY)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert schedule_entity._now() == START_UTC + DAY
    second.__exit__(None, None, None)
    assert wall_clock_is(schedule_entity._now())
    assert task.datetime is datetime


def test_a_hub_keeps_its_own_clock_beside_one_for_the_process(hub):
    with virtual_now(lambda: START + 1000 * DAY):
        create(hub, interval=HOUR)
        hub.advance(3 * HOUR)
    assert hours(hub) == [1, 2, 3]


def test_the_surroundings_are_of_one_thread_alone():
    seen = []
    with virtual_surroundings(lambda: START, lambda: "token"):
        thread = threading.Thread(target=lambda: seen.append(schedule_entity._now()))
        thread.start()
        thread.join()
        assert schedule_entity._now() == START_UTC
        assert models.ScheduleState().execution_token == "token"
    assert wall_clock_is(seen[0])


@pytest.mark.parametrize(("elapsed", "tries_again"), [(59, True), (60, False)])
def test_a_retry_timeout_goes_by_the_clock_of_the_process(elapsed, tries_again):
    policy = task.RetryPolicy(
        first_retry_interval=timedelta(seconds=5),
        max_number_of_attempts=3,
        retry_timeout=timedelta(seconds=60),
    )
    retried = task.RetryableTask(policy, None, START, False)
    assert retried.compute_next_delay() is None  # by the clock of the machine it is long past
    with virtual_now(lambda: START + timedelta(seconds=elapsed)):
        assert (retried.compute_next_delay() is not None) is tries_again


def test_a_real_worker_runs_a_schedule_in_virtual_time():
    hub = TaskHub()
    with hub.serve(patience=None) as server, virtual_now(lambda: hub.now):
        worker = TaskHubGrpcWorker(host_address=server.address, logger=_LOGGER)
        client = TaskHubGrpcClient(host_address=server.address, logger=_LOGGER)
        register(worker)

        def sleep(ctx, days):
            yield ctx.create_timer(timedelta(days=days))

        worker.add_orchestrator(sleep)
        worker.start()
        try:
            options = ScheduleCreationOptions("daily", "report", DAY)
            schedule = ScheduledTaskClient(client).create_schedule(options)
            instance_id = client.schedule_new_orchestration(sleep, input=30.5)
            client.wait_for_orchestration_completion(instance_id, timeout=60)
            schedule.delete()
        finally:
            worker.stop()
            client.close()
    started = [instance.created_at for instance in runs(hub)]
    assert started == [START + day * DAY for day in range(1, 31)]


def test_modules_that_are_loaded_anew_are_given_the_clock_too(monkeypatch, hub):
    """As ``pytester`` does, which unloads what a run inside a test has loaded."""
    create(hub)
    hub.advance(DAY)
    for name in [name for name in sys.modules if name.startswith("durabletask.scheduled")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(durabletask, "scheduled")
    scheduled = importlib.import_module("durabletask.scheduled")
    hub = TaskHub()
    register(hub)
    options = scheduled.ScheduleCreationOptions("daily", "report", DAY)
    scheduled.ScheduledTaskClient(hub.client).create_schedule(options)
    hub.advance(2000 * DAY)  # past the wall clock
    assert len(runs(hub)) == 2000
