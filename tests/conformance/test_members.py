"""Members of the SDK that no other test has a reason to use, on a hub."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask import (
    ActivityWorkItemFilter,
    ExceptionPropertiesProvider,
    OrchestrationWorkItemFilter,
    WorkItemFilters,
)
from durabletask.client import EntityQuery, OrchestrationQuery, OrchestrationStatus
from durabletask.entities import DurableEntity, EntityInstanceId
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
from durabletask.task import get_entity_name, get_name

from dt_testkit import OrchestrationBlocked, TaskHub
from dt_testkit.sdk import pb

START = datetime(2026, 1, 1)
START_UTC = START.replace(tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
COMPLETED, RUNNING = OrchestrationStatus.COMPLETED, OrchestrationStatus.RUNNING
ACCOUNT = EntityInstanceId("account", "ana")


def double(ctx, number):
    return number * 2


def echo(ctx, value):
    return value


def waits(ctx, _):
    yield ctx.wait_for_external_event("go")


def parent(ctx, _):
    yield ctx.call_sub_orchestrator(waits, instance_id="child")


class Account(DurableEntity):
    def deposit(self, amount):
        self.set_state(self.get_state(int, 0) + amount)

    def close(self, reason):
        self.delete(reason)

    def close_later(self, hours):
        when = datetime(2026, 1, 1) + timedelta(hours=hours)
        self.signal_entity(self.entity_context.entity_id, "close", "late", signal_time=when)


@pytest.fixture
def hub():
    hub = TaskHub()
    for orchestrator in (echo, waits, parent):
        hub.add_orchestrator(orchestrator)
    hub.add_entity(Account)
    return hub


# -- registration


def test_what_is_registered_goes_by_the_names_that_the_sdk_gives():
    hub = TaskHub()
    assert hub.add_activity(double) == get_name(double) == "double"
    assert hub.add_orchestrator(echo) == get_name(echo) == "echo"
    assert hub.add_entity(Account) == get_entity_name(Account) == "Account"


def test_activities_have_no_versions_that_a_filter_could_take(hub):
    def doubles(ctx, number):
        return (yield ctx.call_activity(double, input=number))

    hub.add_orchestrator(doubles)
    hub.add_activity(double)
    orchestrations = [OrchestrationWorkItemFilter("doubles")]
    versioned = [ActivityWorkItemFilter("double", versions=["1.0"])]
    hub.use_work_item_filters(WorkItemFilters(orchestrations, versioned))
    with pytest.raises(OrchestrationBlocked, match="double"):
        hub.run(doubles, input=2)


# -- in an orchestrator


def test_a_replay_safe_logger_says_whether_it_would_log(hub):
    said = []

    def verbose(ctx, _):
        logger = ctx.create_replay_safe_logger(logging.getLogger("members"))
        said.append((ctx.is_replaying, logger.isEnabledFor(logging.CRITICAL)))
        yield ctx.create_timer(HOUR)

    hub.add_orchestrator(verbose)
    hub.run(verbose)
    assert set(said) == {(False, True), (True, False)}


def test_a_type_of_ones_own_may_ask_the_converter_for_its_parts(hub):
    @dataclass
    class Price:
        amount: int

    class Order:
        def __init__(self, price):
            self.price = price

        @classmethod
        def from_json(cls, value, converter):
            return cls(converter.coerce(value["price"], Price))

    def costs(ctx, order: Order):
        return order.price.amount

    costs.__annotations__["order"] = Order
    hub.add_orchestrator(costs)
    assert hub.run(costs, input={"price": {"amount": 3}}).output == 3


def test_a_provider_gives_failures_their_properties():
    class Codes(ExceptionPropertiesProvider):
        def get_exception_properties(self, exception):
            return {"code": exception.args[1]}

    def fails(ctx, _):
        raise ConnectionError("reset", 104)

    hub = TaskHub(exception_properties_provider=Codes())
    hub.add_orchestrator(fails)
    assert hub.run(fails).failure.properties == {"code": 104}


# -- entities


def test_an_entity_as_a_function_starts_an_orchestration(hub):
    def starter(ctx, value):
        ctx.signal_entity(ACCOUNT, "deposit", 5, signal_time=START + HOUR)
        ctx.schedule_new_orchestration("echo", input=value, instance_id="started")

    hub.add_entity(starter)
    hub.client.signal_entity(EntityInstanceId("starter", "one"), "go", input="hello")
    state = hub.client.wait_for_orchestration_completion("started")
    assert state.get_output() == "hello"
    assert hub.client.get_entity(ACCOUNT) is None
    hub.advance(HOUR)
    assert hub.client.get_entity(ACCOUNT).get_typed_state(int) == 5


def test_an_entity_deletes_itself(hub):
    client = hub.client
    client.signal_entity(ACCOUNT, "deposit", input=5)
    client.signal_entity(ACCOUNT, "close_later", input=2)
    hub.advance(HOUR)
    assert client.get_entity(ACCOUNT).get_typed_state() == 5
    hub.advance(HOUR)
    assert not hub.entity(ACCOUNT).exists


@pytest.mark.parametrize(("name", "key"), [("account", "ana"), ("a-1 b", "é/x"), ("A", " ")])
def test_names_and_keys_of_entities_that_the_sdk_takes(hub, name, key):
    EntityInstanceId.validate_entity_name(name)
    EntityInstanceId.validate_key(key)
    hub.add_entity(lambda ctx, value: ctx.set_state(value), f"the {name}")
    hub.client.signal_entity(EntityInstanceId(f"the {name}", key), "set", input=1)
    assert hub.client.get_entity(EntityInstanceId(f"THE {name}", key)).get_state() == "1"


@pytest.mark.parametrize("name", ["", "a@b"])
def test_names_and_keys_of_entities_that_the_sdk_refuses(hub, name):
    EntityInstanceId.validate_entity_name("account")
    with pytest.raises(ValueError, match="Entity name"):
        EntityInstanceId.validate_entity_name(name)
    EntityInstanceId.validate_key("ana")
    with pytest.raises(ValueError, match="Entity key"):
        EntityInstanceId.validate_key(name)


def test_an_entity_of_a_class_gives_what_it_starts_an_id(hub):
    class Starter(DurableEntity):
        def go(self, value):
            self.schedule_new_orchestration("echo", input=value, instance_id="started")

    hub.add_entity(Starter)
    hub.client.signal_entity(EntityInstanceId("starter", "one"), "go", input="hello")
    assert hub.client.wait_for_orchestration_completion("started").get_output() == "hello"


def test_a_query_for_entities_may_include_those_with_work_before_them(hub):
    def alone(ctx, _):
        with (yield ctx.lock_entities([ACCOUNT])):
            yield ctx.wait_for_external_event("go")

    hub.add_orchestrator(alone)
    hub.start(alone)
    hub.settle()
    hub.client.signal_entity(ACCOUNT, "deposit", input=5)

    def found(include_transient):
        query = EntityQuery(include_transient=include_transient)
        return [(each.id, each.backlog_queue_size) for each in hub.client.get_all_entities(query)]

    assert found(include_transient=False) == []
    assert found(include_transient=True) == [(ACCOUNT, 1)]


# -- the client


def test_no_instance_rests_in_the_status_that_ends_a_generation(hub):
    def again(ctx, left):
        if left:
            ctx.continue_as_new(left - 1)

    hub.add_orchestrator(again)
    hub.run(again, input=2)
    query = OrchestrationQuery(runtime_status=[OrchestrationStatus.CONTINUED_AS_NEW])
    assert hub.client.get_all_orchestration_states(query) == []
    query.runtime_status.append(COMPLETED)
    assert len(hub.client.get_all_orchestration_states(query)) == 1


def test_a_history_may_be_asked_for_as_workers_do(hub):
    id = hub.run(echo, input=1).instance_id
    history = hub.client.get_orchestration_history(id, execution_id="", for_work_item_processing=True)
    assert history == hub.client.get_orchestration_history(id)
    assert len(history) == 4


def test_a_purge_takes_no_time(hub):
    for number in range(3):
        hub.run(echo, input=number)
    purged = hub.client.purge_orchestrations_by(runtime_status=[COMPLETED], timeout=timedelta(seconds=1))
    assert (purged.deleted_instance_count, purged.is_complete) == (3, True)
    assert hub.now == START


# -- the asynchronous client


def through(hub, scenario):
    async def run():
        async with hub.async_client as client:
            return await scenario(client)

    return asyncio.run(run())


def test_the_asynchronous_client_leaves_out_what_is_not_asked_for(hub):
    async def scenario(client):
        id = await client.schedule_new_orchestration(waits, input="in")
        started = await client.wait_for_orchestration_start(id, fetch_payloads=True)
        await client.raise_orchestration_event(id, "go")
        ended = await client.wait_for_orchestration_completion(id, fetch_payloads=False)
        read = await client.get_orchestration_state(id, fetch_payloads=False)
        return started, ended, read

    started, ended, read = through(hub, scenario)
    assert started.get_input() == "in"
    assert ended.runtime_status is COMPLETED
    assert ended == read
    assert read.serialized_input is None


def test_the_asynchronous_client_lists_what_ended_in_a_span_of_time(hub):
    for id in ("early", "in-time", "late"):
        hub.run(echo, instance_id=id)
        hub.advance(HOUR)

    async def scenario(client):
        page = await client.list_instance_ids(
            completed_time_from=START + HOUR, completed_time_to=START + 2 * HOUR
        )
        return page.items

    assert through(hub, scenario) == ["in-time"]


def test_the_asynchronous_client_reads_histories_as_workers_do_and_purges(hub):
    async def scenario(client):
        id = await client.schedule_new_orchestration(echo)
        await client.wait_for_orchestration_completion(id)
        history = await client.get_orchestration_history(id, execution_id="", for_work_item_processing=True)
        purged = await client.purge_orchestrations_by(
            runtime_status=[COMPLETED], timeout=timedelta(seconds=1)
        )
        return len(history), purged.deleted_instance_count

    assert through(hub, scenario) == (4, 1)


def test_the_asynchronous_client_uses_an_id_again(hub):
    policy = pb.OrchestrationIdReusePolicy(replaceableStatus=[RUNNING.value])

    async def scenario(client):
        await client.schedule_new_orchestration(waits, instance_id="one", input=1)
        await client.wait_for_orchestration_start("one")
        await client.schedule_new_orchestration(waits, instance_id="one", input=2, reuse_id_policy=policy)
        with pytest.raises(grpc.aio.AioRpcError, match="ALREADY_EXISTS"):
            await client.schedule_new_orchestration(waits, instance_id="one")
        return (await client.get_orchestration_state("one")).get_input()

    assert through(hub, scenario) == 2


@pytest.mark.parametrize(
    ("recursive", "expected"), [(True, OrchestrationStatus.TERMINATED), (False, RUNNING)]
)
def test_the_asynchronous_client_terminates_with_children_or_without(hub, recursive, expected):
    async def scenario(client):
        id = await client.schedule_new_orchestration(parent)
        await client.wait_for_orchestration_start(id)
        await client.wait_for_orchestration_start("child")
        await client.terminate_orchestration(id, output="stopped", recursive=recursive)
        await client.wait_for_orchestration_completion(id)
        return (await client.get_orchestration_state("child")).runtime_status

    assert through(hub, scenario) is expected


def test_the_asynchronous_client_and_entities(hub):
    async def scenario(client):
        await client.signal_entity(ACCOUNT, "deposit", input=5, signal_time=START + HOUR)
        before = await client.get_entity(ACCOUNT)
        hub.advance(HOUR)
        after = await client.get_entity(ACCOUNT, include_state=False)
        await client.signal_entity(ACCOUNT, "close", input="now")
        kept = await client.clean_entity_storage(remove_empty_entities=False)
        cleaned = await client.clean_entity_storage()
        return before, after, kept.empty_entities_removed, cleaned.empty_entities_removed

    before, after, kept, removed = through(hub, scenario)
    assert before.get_typed_state(int) is None
    assert (after.includes_state, after.get_state()) == (False, None)
    assert after.last_modified == START_UTC + HOUR
    assert (kept, removed) == (0, 1)


# -- schedules

NIGHTLY = {
    "schedule_id": "nightly",
    "orchestration_name": "echo",
    "interval": 24 * HOUR,
    "orchestration_input": {"what": "books"},
    "orchestration_instance_id": "the-run",
    "start_at": START_UTC + HOUR,
    "end_at": START_UTC + 1000 * HOUR,
    "start_immediately_if_late": True,
}


@pytest.fixture
def scheduling(hub):
    hub.configure_scheduled_tasks()
    return hub


def test_a_description_says_all_that_a_schedule_was_created_and_updated_with(scheduling):
    schedule = ScheduleClient(scheduling.client, "nightly", operation_timeout=5)
    schedule.create(ScheduleCreationOptions(**NIGHTLY))
    described = schedule.describe()
    assert (described.schedule_id, described.orchestration_name) == (schedule.schedule_id, "echo")
    assert (described.orchestration_input, described.orchestration_instance_id) == (
        {"what": "books"},
        "the-run",
    )
    assert (described.start_at, described.end_at) == (NIGHTLY["start_at"], NIGHTLY["end_at"])
    assert (described.interval, described.start_immediately_if_late) == (24 * HOUR, True)
    token = described.execution_token
    schedule.update(
        ScheduleUpdateOptions(
            orchestration_name="waits",
            orchestration_instance_id="another",
            start_at=START_UTC + 2 * HOUR,
            end_at=START_UTC + 50 * HOUR,
            start_immediately_if_late=False,
        )
    )
    described = schedule.describe()
    assert (described.orchestration_name, described.orchestration_instance_id) == ("waits", "another")
    assert (described.start_at, described.end_at) == (START_UTC + 2 * HOUR, START_UTC + 50 * HOUR)
    assert described.next_run_at == START_UTC + 2 * HOUR
    assert described.start_immediately_if_late is False
    assert described.execution_token != token


def test_a_schedule_that_does_not_exist_is_named(scheduling):
    client = ScheduledTaskClient(scheduling.client)
    with pytest.raises(ScheduleNotFoundError) as error:
        client.get_schedule_client("nobody").describe()
    assert error.value.schedule_id == "nobody"
    client.create_schedule(ScheduleCreationOptions(**NIGHTLY))
    assert client.list_schedules(ScheduleQuery(status=ScheduleStatus.UNINITIALIZED)) == []
    assert len(client.list_schedules(ScheduleQuery(status=ScheduleStatus.ACTIVE))) == 1


def test_a_schedule_is_not_paused_twice(scheduling):
    schedule = ScheduledTaskClient(scheduling.client).create_schedule(ScheduleCreationOptions(**NIGHTLY))
    schedule.pause()
    with pytest.raises(RuntimeError, match="Invalid state transition"):
        schedule.pause()
    failure = scheduling.instances[-1].failure
    assert failure.inner_failure.inner_failure.error_type.endswith(".ScheduleInvalidTransitionError")


def test_a_schedule_that_exists_is_described_by_its_id(scheduling):
    client = ScheduledTaskClient(scheduling.client)
    client.create_schedule(ScheduleCreationOptions(**NIGHTLY))
    assert client.get_schedule("nightly").orchestration_name == "echo"
    assert client.get_schedule("daily") is None


def test_the_asynchronous_client_lists_the_schedules_that_are_asked_for(scheduling):
    async def scenario(client):
        schedules = AsyncScheduledTaskClient(client)
        for schedule_id in ("nightly", "daily"):
            await schedules.create_schedule(
                ScheduleCreationOptions(**{**NIGHTLY, "schedule_id": schedule_id})
            )
        return [
            each.schedule_id
            for each in await schedules.list_schedules(ScheduleQuery(schedule_id_prefix="night"))
        ]

    assert through(scheduling, scenario) == ["nightly"]


def test_the_asynchronous_client_of_one_schedule(scheduling):
    async def scenario(client):
        schedule = AsyncScheduleClient(client, "nightly", operation_timeout=5)
        await schedule.create(ScheduleCreationOptions(**NIGHTLY))
        again = AsyncScheduledTaskClient(client, operation_timeout=5).get_schedule_client("nightly")
        await again.update(ScheduleUpdateOptions(interval=2 * HOUR))
        described = await again.describe()
        await again.delete()
        return schedule.schedule_id, again.schedule_id, described.interval

    assert through(scheduling, scenario) == ("nightly", "nightly", 2 * HOUR)
