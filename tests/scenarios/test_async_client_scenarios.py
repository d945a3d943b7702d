"""The same, with the SDK's asynchronous client."""

import asyncio
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask.client import EntityQuery, OrchestrationFailedError, OrchestrationQuery, OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.task import when_any
from world import output, unique

COMPLETED, FAILED = OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
BROKEN = set()


def register(worker):
    for orchestrator in (doubles, waits, charges, my_version):
        worker.add_orchestrator(orchestrator)
    for activity in (double, charge):
        worker.add_activity(activity)
    worker.add_entity(counter)


def double(ctx, number):
    return 2 * number


def doubles(ctx, number):
    return (yield ctx.call_activity(double, input=number))


def waits(ctx, _):
    ctx.set_custom_status("waiting")
    yes, no = ctx.wait_for_external_event("yes"), ctx.wait_for_external_event("no")
    winner = yield when_any([yes, no])
    return winner.get_result()


def my_version(ctx, _):
    return ctx.version


def charge(ctx, key):
    if key in BROKEN:
        raise ConnectionError("declined")
    return "charged"


def charges(ctx, key):
    return (yield ctx.call_activity(charge, input=key))


def counter(ctx, amount):
    ctx.set_state(ctx.get_state(int, 0) + (amount or 0))


def with_client(world, scenario):
    async def run():
        async with world.new_async_client() as client:
            return await asyncio.wait_for(scenario(client), 20)

    return asyncio.run(run())


async def until(condition):
    while not (answer := await condition()):
        await asyncio.sleep(0.005)
    return answer


def test_an_orchestration_from_start_to_end(world):
    async def scenario(client):
        instance_id = await client.schedule_new_orchestration(doubles, input=21, tags={"a": "b"})
        started = await client.wait_for_orchestration_start(instance_id, timeout=20)
        assert started.name == "doubles"
        return await client.wait_for_orchestration_completion(instance_id, timeout=20)

    state = with_client(world, scenario)
    assert (output(state), state.get_input()) == (42, 21)
    assert world.client.get_orchestration_state(state.instance_id) == state


def test_states_without_payloads(world):
    async def scenario(client):
        instance_id = await client.schedule_new_orchestration(doubles, input=21)
        return [
            await client.wait_for_orchestration_completion(instance_id, timeout=20, fetch_payloads=False),
            await client.get_orchestration_state(instance_id, fetch_payloads=False),
            await client.wait_for_orchestration_start(instance_id, timeout=20, fetch_payloads=False),
            await client.wait_for_orchestration_start(instance_id, timeout=20, fetch_payloads=True),
        ]

    states = with_client(world, scenario)
    assert [state.runtime_status for state in states] == 4 * [COMPLETED]
    assert [state.get_output() for state in states] == [None, None, None, 42]


def test_an_id_is_used_again(world):
    instance_id = unique("again")
    policy = pb.OrchestrationIdReusePolicy(replaceableStatus=[COMPLETED.value])

    async def scenario(client):
        versions = []
        for version in ("1.0", "2.0"):
            await client.schedule_new_orchestration(
                my_version, instance_id=instance_id, version=version, reuse_id_policy=policy
            )
            state = await client.wait_for_orchestration_completion(instance_id, timeout=20)
            versions.append(state.get_output())
        return versions

    assert with_client(world, scenario) == ["1.0", "2.0"]


def test_many_at_once(world):
    async def scenario(client):
        ids = [await client.schedule_new_orchestration(doubles, input=n) for n in range(10)]
        ends = (client.wait_for_orchestration_completion(instance_id, timeout=20) for instance_id in ids)
        return [state.get_output() for state in await asyncio.gather(*ends)]

    assert with_client(world, scenario) == [2 * n for n in range(10)]


def test_events_suspension_and_termination(world):
    async def scenario(client):
        first, second = [await client.schedule_new_orchestration(waits) for _ in range(2)]

        async def has(instance_id, status):
            return (await client.get_orchestration_state(instance_id)).runtime_status is status

        await client.wait_for_orchestration_start(first, timeout=20)
        await client.suspend_orchestration(first, reason="wait")
        await until(lambda: has(first, OrchestrationStatus.SUSPENDED))
        await client.raise_orchestration_event(first, "yes", data={"a": 1})
        await client.resume_orchestration(first, reason="go on")
        await client.terminate_orchestration(second, output="enough", recursive=False)
        return [await client.wait_for_orchestration_completion(id, timeout=20) for id in (first, second)]

    first, second = with_client(world, scenario)
    assert output(first) == {"a": 1}
    assert (second.runtime_status, second.get_output()) == (OrchestrationStatus.TERMINATED, "enough")


def test_a_failure_is_seen_and_rewound(world):
    key = unique("key")
    BROKEN.add(key)

    async def scenario(client):
        instance_id = await client.schedule_new_orchestration(charges, input=key)
        failed = await client.wait_for_orchestration_completion(instance_id, timeout=20)
        with pytest.raises(OrchestrationFailedError, match="declined"):
            failed.raise_if_failed()
        BROKEN.remove(key)
        await client.rewind_orchestration(instance_id, reason="paid")
        ended = await client.wait_for_orchestration_completion(instance_id, timeout=20)
        return [failed.runtime_status, ended.runtime_status, ended.get_output()]

    assert with_client(world, scenario) == [FAILED, COMPLETED, "charged"]


def test_restarts_and_purges(world):
    async def scenario(client):
        instance_id = await client.schedule_new_orchestration(doubles, input=1)
        state = await client.wait_for_orchestration_completion(instance_id, timeout=20)
        again = await client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
        other = await client.wait_for_orchestration_completion(again, timeout=20)
        purged = await client.purge_orchestration(instance_id, recursive=False)
        created = other.created_at.replace(tzinfo=timezone.utc)
        by_time = await client.purge_orchestrations_by(
            created_time_from=created,
            created_time_to=created + timedelta(days=1),
            runtime_status=[COMPLETED],
            recursive=True,
            timeout=timedelta(seconds=10),
        )
        gone = [await client.get_orchestration_state(id) for id in (instance_id, again)]
        return [
            state.get_output(),
            other.get_output(),
            purged.deleted_instance_count,
            gone,
            by_time.is_complete,
        ]

    assert with_client(world, scenario) == [2, 2, 1, [None, None], True]


def test_queries_lists_and_histories(world):
    prefix = unique("queried")

    async def scenario(client):
        for number in range(3):
            await client.schedule_new_orchestration(doubles, input=number, instance_id=f"{prefix}-{number}")
            await client.wait_for_orchestration_completion(f"{prefix}-{number}", timeout=20)
        query = OrchestrationQuery(
            instance_id_prefix=prefix, max_instance_count=2, fetch_inputs_and_outputs=True
        )
        states = await client.get_all_orchestration_states(query)
        ids, token = [], None
        while token or not ids:
            page = await client.list_instance_ids([COMPLETED], page_size=2, continuation_token=token)
            ids, token = ids + page.items, page.continuation_token
        history = await client.get_orchestration_history(f"{prefix}-0", for_work_item_processing=True)
        ended = states[0].last_updated_at.replace(tzinfo=timezone.utc)
        for bounds in (
            {"completed_time_from": ended + timedelta(days=1)},
            {"completed_time_to": ended - timedelta(days=1)},
        ):
            assert not [
                id for id in (await client.list_instance_ids(**bounds)).items if id.startswith(prefix)
            ]
        return [state.get_output() for state in states], [id for id in ids if id.startswith(prefix)], history

    outputs, ids, history = with_client(world, scenario)
    assert outputs == [0, 2, 4]
    assert ids == [f"{prefix}-{number}" for number in range(3)]
    assert history == world.client.get_orchestration_history(f"{prefix}-0")


def test_entities(world):
    entity = EntityInstanceId("counter", unique("counter"))

    async def scenario(client):
        assert await client.get_entity(entity) is None
        await client.signal_entity(entity, "add", 1)
        await client.signal_entity(entity, "add", 2, signal_time=datetime(2020, 1, 1, tzinfo=timezone.utc))

        async def counted():
            found = await client.get_entity(entity)
            return found is not None and found.get_state() == "3" and found

        found = await until(counted)
        by_prefix = await client.get_all_entities(EntityQuery(instance_id_starts_with=str(entity)))
        cleaned = await client.clean_entity_storage(remove_empty_entities=False, release_orphaned_locks=False)
        assert (cleaned.empty_entities_removed, cleaned.orphaned_locks_released) == (0, 0)
        assert not (await client.get_entity(entity, include_state=False)).includes_state
        return found.get_typed_state(int), [each.id for each in by_prefix]

    assert with_client(world, scenario) == (3, [entity])


def test_refusals_and_time_outs(world):
    async def scenario(client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.raise_orchestration_event(unique("nobody"), "go")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.get_orchestration_history(unique("nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        instance_id = await client.schedule_new_orchestration(waits)
        with pytest.raises(TimeoutError):
            await client.wait_for_orchestration_completion(instance_id, timeout=0.1)
        return await client.get_orchestration_state(unique("nobody"))

    assert with_client(world, scenario) is None


def test_a_default_version(world):
    async def scenario(client):
        client.default_version = "4.2"
        try:
            instance_id = await client.schedule_new_orchestration(my_version)
            return await client.wait_for_orchestration_completion(instance_id, timeout=20)
        finally:
            client.default_version = None

    assert output(with_client(world, scenario)) == "4.2"


def test_a_start_that_is_overdue(world):
    moment = world.now() - timedelta(days=1)

    async def scenario(client):
        instance_id = await client.schedule_new_orchestration(doubles, input=4, start_at=moment)
        return await client.wait_for_orchestration_completion(instance_id, timeout=20)

    assert output(with_client(world, scenario)) == 8
