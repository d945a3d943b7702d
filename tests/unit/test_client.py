"""The SDK's own clients, on a hub."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.task import when_any

from dt_testkit import History, InstanceNotFound, TaskHub
from dt_testkit.sdk import pb


@dataclass
class Decision:
    approver: str


def approval(ctx, limit):
    ctx.set_custom_status("waiting")
    event = ctx.wait_for_external_event("approval", data_type=Decision)
    timer = ctx.create_timer(timedelta(hours=1))
    if (yield when_any([event, timer])) is timer:
        raise TimeoutError("nobody answered")
    return f"approved by {event.get_result().approver}"


@pytest.fixture
def hub():
    hub = TaskHub()
    hub.add_orchestrator(approval)
    return hub


def test_a_whole_life_through_the_client(hub):
    client = hub.client
    id = client.schedule_new_orchestration(approval, input=5, instance_id="a-1")
    assert id == "a-1"
    started = client.wait_for_orchestration_start(id, fetch_payloads=True)
    assert (started.runtime_status, started.get_input()) == (OrchestrationStatus.RUNNING, 5)
    assert started.get_custom_status() == "waiting"
    client.raise_orchestration_event(id, "approval", data=Decision("ana"))
    state = client.wait_for_orchestration_completion(id)
    assert (state.runtime_status, state.get_output()) == (
        OrchestrationStatus.COMPLETED,
        "approved by ana",
    )
    assert state.created_at == datetime(2026, 1, 1)


def test_reading_the_state_shows_what_is_done_by_now(hub):
    id = hub.client.schedule_new_orchestration(approval)
    assert hub.client.get_orchestration_state(id).runtime_status is OrchestrationStatus.RUNNING


def test_a_wait_moves_the_clock_at_most_as_far_as_its_timeout(hub):
    id = hub.client.schedule_new_orchestration(approval)
    with pytest.raises(TimeoutError):
        hub.client.wait_for_orchestration_completion(id, timeout=90)
    assert hub.now == datetime(2026, 1, 1, 0, 1, 30)
    state = hub.client.wait_for_orchestration_completion(id, timeout=10_000)
    assert hub.now == datetime(2026, 1, 1, 1)
    assert (state.runtime_status, state.failure_details.message) == (
        OrchestrationStatus.FAILED,
        "nobody answered",
    )


def test_a_wait_for_the_start_of_a_delayed_instance(hub):
    id = hub.client.schedule_new_orchestration(approval, start_at=datetime(2026, 1, 1, 0, 0, 30))
    with pytest.raises(TimeoutError):
        hub.client.wait_for_orchestration_start(id, timeout=10)
    assert hub.client.wait_for_orchestration_start(id, timeout=60) is not None
    assert hub.now == datetime(2026, 1, 1, 0, 0, 30)


def test_suspend_resume_and_terminate(hub):
    client = hub.client
    id = client.schedule_new_orchestration(approval)
    client.suspend_orchestration(id, reason="audit")
    assert client.get_orchestration_state(id).runtime_status is OrchestrationStatus.SUSPENDED
    client.resume_orchestration(id)
    assert client.get_orchestration_state(id).runtime_status is OrchestrationStatus.RUNNING
    client.terminate_orchestration(id, output="stopped")
    state = client.wait_for_orchestration_completion(id)
    assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.TERMINATED, "stopped")


def test_the_history_is_the_one_that_the_hub_recorded(hub):
    id = hub.client.schedule_new_orchestration(approval, tags={"team": "a"})
    hub.client.raise_orchestration_event(id, "approval", data=Decision("ana"))
    hub.client.wait_for_orchestration_completion(id)
    assert History.from_client(hub.client, id) == hub.instance(id).history


def test_a_long_history_comes_whole():
    def ticks(ctx, _):
        for _ in range(300):
            yield ctx.create_timer(timedelta(seconds=1))

    hub = TaskHub()
    hub.add_orchestrator(ticks)
    id = hub.run(ticks).instance_id
    assert len(hub.client.get_orchestration_history(id)) == len(hub.instance(id).history) > 1000


def test_an_id_in_use_is_refused_with_the_status_of_the_service(hub):
    hub.client.schedule_new_orchestration(approval, instance_id="twice")
    with pytest.raises(grpc.RpcError) as error:
        hub.client.schedule_new_orchestration(approval, instance_id="twice")
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_an_id_is_used_again_where_the_policy_allows_it(hub):
    def policy(*statuses):
        return pb.OrchestrationIdReusePolicy(replaceableStatus=[status.value for status in statuses])

    client = hub.client
    client.schedule_new_orchestration(approval, instance_id="again")
    with pytest.raises(grpc.RpcError, match="ALREADY_EXISTS"):
        client.schedule_new_orchestration(
            approval, instance_id="again", reuse_id_policy=policy(OrchestrationStatus.COMPLETED)
        )
    client.wait_for_orchestration_start("again")
    client.schedule_new_orchestration(
        approval, instance_id="again", reuse_id_policy=policy(OrchestrationStatus.RUNNING)
    )
    hub.advance(timedelta(minutes=59))
    client.raise_orchestration_event("again", "approval", data=Decision("ana"))
    state = client.wait_for_orchestration_completion("again")
    assert (state.get_output(), len(hub.instances)) == ("approved by ana", 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.raise_orchestration_event("nobody", "x"),
        lambda client: client.suspend_orchestration("nobody"),
        lambda client: client.resume_orchestration("nobody"),
        lambda client: client.get_orchestration_history("nobody"),
    ],
)
def test_an_unknown_instance_is_refused_with_the_status_of_the_service(hub, call):
    with pytest.raises(grpc.RpcError, match="'nobody' not found") as error:
        call(hub.client)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_asking_for_an_unknown_instance_answers_none(hub):
    assert hub.client.get_orchestration_state("nobody") is None
    assert hub.client.wait_for_orchestration_completion("nobody", timeout=5) is None
    hub.client.terminate_orchestration("nobody")
    with pytest.raises(InstanceNotFound, match="nobody"):
        History.from_client(hub.client, "nobody")


def test_a_call_that_is_not_simulated_says_so(hub):
    with pytest.raises(grpc.RpcError, match="does not simulate the client's PurgeInstances") as error:
        hub.client.purge_orchestration("x")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_client_does_not_chatter_on_standard_error(hub, capfd):
    hub.client.schedule_new_orchestration(approval)
    assert capfd.readouterr().err == ""
    assert logging.getLogger("dt_testkit.client").handlers == []


def test_the_asynchronous_client_does_the_same(hub):
    async def life():
        client = hub.async_client
        id = await client.schedule_new_orchestration(approval)
        await client.wait_for_orchestration_start(id)
        await client.raise_orchestration_event(id, "approval", data=Decision("ana"))
        state = await client.wait_for_orchestration_completion(id)
        with pytest.raises(TimeoutError):
            await client.wait_for_orchestration_completion(
                await client.schedule_new_orchestration(approval), timeout=1
            )
        with pytest.raises(grpc.RpcError):
            await client.raise_orchestration_event("nobody", "x")
        return state.get_output(), await client.get_orchestration_history(id)

    output, history = asyncio.run(life())
    assert output == "approved by ana"
    assert type(history[-1]).__name__ == "ExecutionCompletedEvent"
