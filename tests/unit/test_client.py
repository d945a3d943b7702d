"""The SDK's own clients, on a hub."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import grpc
import pytest
from durabletask.client import (
    EntityQuery,
    OrchestrationQuery,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)
from durabletask.entities import EntityInstanceId
from durabletask.history import ExecutionResumedEvent, ExecutionRewoundEvent, ExecutionSuspendedEvent
from durabletask.task import when_any
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import History, InstanceNotFound, TaskHub
from dt_testkit.backends import embedded
from dt_testkit.errors import InvalidState
from dt_testkit.sdk import pb

COMPLETED, FAILED = OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
TERMINATED, RUNNING = OrchestrationStatus.TERMINATED, OrchestrationStatus.RUNNING
START = datetime(2026, 1, 1)


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
    hub.client.terminate_orchestration("nobody")
    with pytest.raises(InstanceNotFound, match="nobody"):
        History.from_client(hub.client, "nobody")


def test_a_call_that_is_not_simulated_says_so(hub):
    call = hub.client._channel.unary_unary("/TaskHubSidecarService/AddedByANewerSdk")
    with pytest.raises(grpc.RpcError, match="does not simulate the client's AddedByANewerSdk") as error:
        call(pb.GetInstanceRequest())
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


# -- queries, purge and restart: through both clients


class Blocking:
    """The asynchronous client, called as the other one is."""

    def __init__(self, asynchronous):
        self._asynchronous = asynchronous

    def __getattr__(self, name):
        found = getattr(self._asynchronous, name)
        return (lambda *args, **kw: asyncio.run(found(*args, **kw))) if callable(found) else Blocking(found)


@pytest.fixture(params=["client", "async_client"])
def client(hub, request):
    hub.add_orchestrator(ends)
    hub.add_orchestrator(nested)
    hub.add_orchestrator(counts_down)
    connected = getattr(hub, request.param)
    return Blocking(connected) if request.param == "async_client" else connected


def ends(ctx, how):
    if how == "FAILED":
        raise ValueError("as told")
    if how != "COMPLETED":
        yield ctx.wait_for_external_event("never")
    return how


def nested(ctx, levels):
    if levels:
        below = f"{ctx.instance_id}.1"
        yield ctx.call_sub_orchestrator(nested, input=levels - 1, instance_id=below)
    return levels


def counts_down(ctx, left):
    yield ctx.create_timer(timedelta(hours=1))
    if left:
        ctx.continue_as_new(left - 1, new_version="2.0")
    return ctx.version


def end(client, how, instance_id):
    """Have an instance end, or run, as the name of its status says."""
    client.schedule_new_orchestration(ends, input=how, instance_id=instance_id)
    if how == "TERMINATED":
        client.wait_for_orchestration_start(instance_id)
        client.terminate_orchestration(instance_id, output="told to")
    if how == "RUNNING":
        client.wait_for_orchestration_start(instance_id)
    else:
        client.wait_for_orchestration_completion(instance_id)


def four(client, between=lambda: None):
    for instance_id, how in {
        "a-1": "COMPLETED",
        "a-2": "FAILED",
        "b-1": "TERMINATED",
        "b-2": "RUNNING",
    }.items():
        between()
        end(client, how, instance_id)


def ids(client, **query):
    return [state.instance_id for state in client.get_all_orchestration_states(OrchestrationQuery(**query))]


def all_pages(client, **query):
    """What `list_instance_ids` gives, page by page."""
    pages, token = [], None
    while len(pages) < 20:
        page = client.list_instance_ids(continuation_token=token, **query)
        pages.append(page.items)
        token = page.continuation_token
        if token is None:
            return pages
    raise AssertionError(f"There is no end to the pages: {pages}")


def raw_pages(client, *, token=None, **query):
    """What a query gives, page by page, for the client puts the pages together."""
    pages = []
    while len(pages) < 20:
        one = pb.InstanceQuery(continuationToken=token, **query)
        answer = client._stub.QueryInstances(pb.QueryInstancesRequest(query=one))
        pages.append([state.instanceId for state in answer.orchestrationState])
        if not answer.HasField("continuationToken"):
            return pages
        token = answer.continuationToken
    raise AssertionError(f"There is no end to the pages: {pages}")


def refusal(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details()


def what_a_client_sees(client, between):
    """Everything that the calls answer which both backends answer alike, in one list."""
    seen = []
    note = seen.append
    note(client.get_all_orchestration_states())
    note(client.list_instance_ids())
    note(client.purge_orchestration("nobody"))
    note(client.purge_orchestrations_by())
    note(refusal(lambda: client.restart_orchestration("nobody")))

    four(client, between)
    states = client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
    note([(s.instance_id, s.name, s.runtime_status, s.get_input(), s.get_output()) for s in states])
    note([s.failure_details and s.failure_details.message for s in states])
    bare = client.get_all_orchestration_states()
    note([(s.instance_id, s.serialized_input, s.serialized_output) for s in bare])
    for statuses in ([], [COMPLETED], [RUNNING], [FAILED, TERMINATED], [OrchestrationStatus.SUSPENDED]):
        note(ids(client, runtime_status=statuses))
        note(all_pages(client, runtime_status=statuses))
    for prefix in ("", "a", "b-", "b-1", "c", "-1"):
        note(ids(client, instance_id_prefix=prefix))
    for state in states:
        note(ids(client, created_time_from=state.created_at))
        note(ids(client, created_time_to=state.created_at))
    note(ids(client, created_time_from=states[1].created_at, created_time_to=states[3].created_at))
    for size in (None, -1, 0, 1, 2, 3, 4, 5):
        note(ids(client, max_instance_count=size))
        note(raw_pages(client, maxInstanceCount=size))
        note(all_pages(client, page_size=size))
    for instance_id in ("a-1", "a-2", "b-1"):
        answer = client._stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id))
        completed = answer.orchestrationState.completedTimestamp.ToDatetime()
        note(all_pages(client, completed_time_from=completed))
        note(all_pages(client, completed_time_to=completed))
    answer = client._stub.GetInstance(pb.GetInstanceRequest(instanceId="b-2"))
    note(answer.orchestrationState.HasField("completedTimestamp"))

    note(refusal(lambda: client.restart_orchestration("b-2")))
    note(client.restart_orchestration("a-2"))
    note(client.wait_for_orchestration_completion("a-2").runtime_status)
    note(ids(client))
    copied = client.restart_orchestration("a-1", restart_with_new_instance_id=True)
    state = client.wait_for_orchestration_completion(copied)
    note((copied in {"a-1", "a-2", "b-1", "b-2"}, state.name, state.get_input(), state.get_output()))
    note(client.purge_orchestration(copied))

    note(client.purge_orchestration("b-2"))
    note(client.purge_orchestration("a-1"))
    note(client.purge_orchestration("a-1"))
    note(client.get_orchestration_state("a-1"))
    note(client.wait_for_orchestration_completion("a-2").runtime_status)
    note(refusal(lambda: client.raise_orchestration_event("a-1", "x")))
    note(refusal(lambda: client.restart_orchestration("a-1")))
    note(client.purge_orchestrations_by(runtime_status=[RUNNING]))
    note(client.purge_orchestrations_by(created_time_to=states[0].created_at))
    note(client.purge_orchestrations_by(runtime_status=[COMPLETED, FAILED], timeout=timedelta(seconds=9)))
    note(ids(client))
    note(client.purge_orchestrations_by(created_time_from=states[0].created_at))
    note(ids(client))
    client._stub.CreateTaskHub(pb.CreateTaskHubRequest(recreateIfExists=True))
    client._stub.DeleteTaskHub(pb.DeleteTaskHubRequest())
    note(ids(client))
    return seen


@pytest.fixture(scope="module")
def seen_by_a_real_client():
    with embedded(lambda worker: worker.add_orchestrator(ends)) as connected:
        return what_a_client_sees(connected, lambda: None)


def test_a_hub_answers_what_the_backend_of_the_sdk_answers(hub, client, seen_by_a_real_client):
    assert what_a_client_sees(client, lambda: hub.advance(timedelta(seconds=1))) == seen_by_a_real_client


def test_what_is_due_now_is_done_before_a_call_is_answered(hub, client):
    client.schedule_new_orchestration(ends, input="COMPLETED", instance_id="x")
    assert all_pages(client) == [["x"]]
    client.schedule_new_orchestration(ends, input="FAILED", instance_id="y")
    assert ids(client, runtime_status=[FAILED]) == ["y"]
    client.schedule_new_orchestration(ends, input="COMPLETED", instance_id="z")
    assert client.restart_orchestration("z") == "z"
    assert client.purge_orchestrations_by(runtime_status=[COMPLETED]) == PurgeInstancesResult(2, True)
    assert hub.now == START


def test_pages_are_full_and_the_last_one_carries_no_token(client):
    four(client)
    every = ["a-1", "a-2", "b-1", "b-2"]
    assert raw_pages(client, maxInstanceCount=1) == [[one] for one in every]
    assert raw_pages(client, maxInstanceCount=2) == [every[:2], every[2:]]
    assert raw_pages(client, maxInstanceCount=4) == [every]
    assert all_pages(client, page_size=1) == [[one] for one in every[:3]]
    assert all_pages(client, page_size=2) == [every[:2], every[2:3]]
    assert all_pages(client, page_size=3) == [every[:3]]


def test_a_page_of_ids_has_a_hundred_where_nothing_else_is_asked(hub, client):
    for number in range(101):
        hub.start(ends, input="COMPLETED", instance_id=f"{number:03}")
    assert list(map(len, all_pages(client))) == [100, 1]
    assert len(ids(client)) == 101


def test_what_comes_and_goes_between_two_pages_repeats_and_skips_nothing(client):
    for number in range(5):
        end(client, "COMPLETED", f"i-{number}")
    one = pb.InstanceQuery(maxInstanceCount=2)
    first = client._stub.QueryInstances(pb.QueryInstancesRequest(query=one))
    ids_first = client.list_instance_ids(page_size=2)
    assert [state.instanceId for state in first.orchestrationState] == ids_first.items == ["i-0", "i-1"]
    for gone in ("i-0", "i-1", "i-3"):
        client.purge_orchestration(gone)
    end(client, "COMPLETED", "a-late")
    assert raw_pages(client, token=first.continuationToken, maxInstanceCount=2) == [
        ["i-2", "i-4"],
        ["a-late"],
    ]
    rest = client.list_instance_ids(page_size=9, continuation_token=ids_first.continuation_token)
    assert rest == Page(["i-2", "i-4", "a-late"], None)


@pytest.mark.parametrize("token", ["x", "-1", "1.5", " 1", "1|2", "9" * 5000])
def test_a_token_for_a_query_that_no_hub_gave_is_refused(client, token):
    query = pb.InstanceQuery(continuationToken={"value": token})
    request = pb.QueryInstancesRequest(query=query)
    code, details = refusal(lambda: client._stub.QueryInstances(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"The continuation token {token[:100]!r} is not one")


@pytest.mark.parametrize("token", ["x", "-1", "1.5", " 1", "|", "|x", "2026-01-01T00:00:00|x"])
def test_a_token_for_a_list_of_ids_that_no_hub_gave_is_refused(client, token):
    code, details = refusal(lambda: client.list_instance_ids(continuation_token=token))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"The continuation token {token!r} is not one")


LIVES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["COMPLETED", "FAILED", "TERMINATED", "RUNNING"])),
    max_size=8,
)
MOMENTS = st.none() | st.integers(0, 6).map(lambda seconds: START + timedelta(seconds=seconds))
STATUSES = st.lists(st.sampled_from([COMPLETED, FAILED, TERMINATED, RUNNING]), max_size=2)


@settings(deadline=None)
@given(LIVES, st.integers(1, 9), STATUSES, MOMENTS, MOMENTS, st.sampled_from(["", "a", "b-1"]))
def test_pages_put_together_are_the_answer_without_pages(lives, size, statuses, begin, until, prefix):
    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(ends)
    model = []
    for number, (seconds, how) in enumerate(lives):
        hub.advance(timedelta(seconds=seconds))
        instance_id = f"{'ba'[number % 2]}-{9 - number}"
        end(hub.client, how, instance_id)
        model.append((instance_id, hub.now, OrchestrationStatus[how]))
    chosen = [
        (instance_id, moment, status)
        for instance_id, moment, status in model
        if (not statuses or status in statuses)
        and (begin is None or begin <= moment)
        and (until is None or moment < until)
    ]

    query = {
        "runtime_status": statuses,
        "created_time_from": begin,
        "created_time_to": until,
        "instance_id_prefix": prefix,
    }
    whole = ids(hub.client, **query)
    assert whole == [instance_id for instance_id, _, _ in chosen if instance_id.startswith(prefix)]
    assert ids(hub.client, max_instance_count=size, **query) == whole

    ended = [(moment, instance_id) for instance_id, moment, status in chosen if status is not RUNNING]
    query = {"runtime_status": statuses, "completed_time_from": begin, "completed_time_to": until}
    assert all_pages(hub.client, **query) == [[instance_id for _, instance_id in ended]]
    pages = all_pages(hub.client, page_size=size, **query)
    assert [instance_id for page in pages for instance_id in page] == [
        instance_id for _, instance_id in ended
    ]
    assert all(len(page) == size for page in pages[:-1])


def test_a_state_on_the_wire_has_tags_version_parent_and_when_it_ended(hub, client):
    client.schedule_new_orchestration(nested, input=1, instance_id="up", tags={"team": "a"}, version="1.5")
    hub.advance(timedelta(hours=1))
    answer = client._stub.QueryInstances(pb.QueryInstancesRequest())
    up, down = answer.orchestrationState
    assert (up.instanceId, dict(up.tags), up.version.value) == ("up", {"team": "a"}, "1.5")
    assert up.completedTimestamp.ToDatetime() == START
    assert not up.HasField("parentInstanceId")
    assert (down.instanceId, dict(down.tags), down.parentInstanceId.value) == ("up.1", {}, "up")


# -- purge


def test_a_purge_takes_what_the_instance_started_through_all_levels(hub, client):
    for root in ("one", "two"):
        client.schedule_new_orchestration(nested, input=3, instance_id=root)
    hub.settle()
    assert len(hub.instances) == 8
    assert client.purge_orchestration("one") == PurgeInstancesResult(4, True)
    assert client.purge_orchestration("two", recursive=False) == PurgeInstancesResult(1, True)
    assert ids(client) == ["two.1", "two.1.1", "two.1.1.1"]
    with pytest.raises(InstanceNotFound):
        hub.instance("one")


def test_a_purge_by_filter_takes_what_was_created_from_then_on(hub, client):
    for instance_id in ("early", "late"):
        end(client, "COMPLETED", instance_id)
        hub.advance(timedelta(hours=1))
    purged = client.purge_orchestrations_by(created_time_from=START + timedelta(hours=1))
    assert (purged.deleted_instance_count, ids(client)) == (1, ["early"])


def test_a_purge_by_filter_takes_what_has_that_status(client):
    for how in ("COMPLETED", "FAILED"):
        end(client, how, how.lower())
    purged = client.purge_orchestrations_by(runtime_status=[FAILED])
    assert (purged.deleted_instance_count, ids(client)) == (1, ["completed"])


def test_a_purge_by_filter_takes_what_they_started_only_where_it_is_told_to(hub, client):
    def late(ctx, _):
        yield ctx.create_timer(timedelta(hours=1))
        yield ctx.call_sub_orchestrator(nested, input=1)

    hub.add_orchestrator(late)
    for _ in range(2):
        hub.start(late)
    hub.advance(timedelta(hours=1))
    earlier = {"created_time_to": START + timedelta(minutes=1)}
    assert len(hub.instances) == 6
    assert client.purge_orchestrations_by(**earlier).deleted_instance_count == 2
    assert client.purge_orchestrations_by(**earlier, recursive=True).deleted_instance_count == 0
    hub.run(late)
    assert client.purge_orchestrations_by(recursive=True).deleted_instance_count == 7
    assert ids(client) == []
    again = hub.now
    hub.run(late)
    one_minute = {"created_time_from": again, "created_time_to": again + timedelta(minutes=1)}
    assert client.purge_orchestrations_by(**one_minute, recursive=True).deleted_instance_count == 3


def test_what_runs_is_not_purged_and_keeps_what_it_started(hub, client):
    def waits(ctx, _):
        yield ctx.call_sub_orchestrator(ends, input="COMPLETED", instance_id="ended")
        yield ctx.wait_for_external_event("go on")

    def forgets(ctx, _):
        ctx.call_sub_orchestrator(waits, instance_id="running")
        yield ctx.create_timer(timedelta(hours=1))

    hub.add_orchestrator(waits)
    hub.add_orchestrator(forgets)
    client.schedule_new_orchestration(forgets, instance_id="root")
    assert client.purge_orchestration("root") == PurgeInstancesResult(0, True)
    assert len(hub.instances) == 3
    hub.advance(timedelta(hours=1))
    assert client.purge_orchestration("root") == PurgeInstancesResult(1, True)
    assert ids(client) == ["running", "ended"]
    hub.instance("running").raise_event("go on")
    assert client.wait_for_orchestration_completion("running").runtime_status is COMPLETED
    assert client.purge_orchestration("running") == PurgeInstancesResult(2, True)


def test_what_was_still_to_come_for_a_purged_instance_does_not_reach_the_next_of_its_id(hub, client):
    numbers = count(1)
    hub.stub("slow", side_effect=lambda ctx, _: next(numbers), duration=timedelta(hours=2))

    def races(ctx, _):
        timer = ctx.create_timer(timedelta(hours=1))
        event = ctx.wait_for_external_event("event")
        if (yield when_any([timer, event])) is timer:
            return (yield ctx.call_activity("slow"))
        ctx.call_activity("slow")
        return "left"

    hub.add_orchestrator(races)
    first = hub.start(races, instance_id="id")
    hub.advance(timedelta(minutes=30))
    first.raise_event("event")
    assert client.purge_orchestration("id").deleted_instance_count == 1
    first.raise_event("event")
    second = hub.start(races, instance_id="id")
    hub.advance(timedelta(minutes=59))
    assert [operation.kind for operation in second.waiting_for] == ["timer", "event"]
    assert client.wait_for_orchestration_completion("id", timeout=99_999).get_output() == 2
    assert second.last_updated_at == START + timedelta(hours=3, minutes=30)
    assert first.output == "left"


def test_an_instance_that_is_purged_while_somebody_waits_answers_the_wait(hub, client):
    purged = []

    def purge(ctx, instance_id):
        purged.append(hub.client.purge_orchestration(instance_id).deleted_instance_count)

    def sweeps(ctx, instance_id):
        yield ctx.create_timer(timedelta(hours=1))
        yield ctx.call_activity(purge, input=instance_id)

    hub.add_activity(purge)
    hub.add_orchestrator(sweeps)
    client.schedule_new_orchestration(counts_down, input=0, instance_id="ends")
    client.schedule_new_orchestration(sweeps, input="ends")
    state = client.wait_for_orchestration_completion("ends", timeout=7200)
    assert (state.runtime_status, purged, hub.now) == (COMPLETED, [1], START + timedelta(hours=1))
    client.schedule_new_orchestration(
        ends, input="FAILED", instance_id="starts", start_at=hub.now + timedelta(hours=1)
    )
    client.schedule_new_orchestration(sweeps, input="starts")
    assert client.wait_for_orchestration_start("starts", timeout=7200).runtime_status is FAILED
    assert purged == [1, 1]
    assert client.get_orchestration_state("ends") is client.get_orchestration_state("starts") is None


# -- restart


def test_a_restart_keeps_the_first_input_the_version_and_the_tags(hub, client):
    client.schedule_new_orchestration(
        counts_down, input=2, instance_id="down", version="1.0", tags={"team": "a"}
    )
    hub.advance(timedelta(hours=3))
    ended = hub.instance("down")
    assert (ended.input, ended.output, len(ended.histories)) == (0, "2.0", 3)

    assert client.restart_orchestration("down") == "down"
    again = hub.instance("down")
    assert again is not ended
    assert ended.is_terminal
    hub.settle()
    assert (again.input, again.version, again.tags) == (2, "1.0", {"team": "a"})
    assert again.created_at == START + timedelta(hours=3)
    hub.advance(timedelta(hours=3))
    assert (again.output, len(again.histories), hub.instances) == ("2.0", 3, [again])


def test_the_id_of_a_restart_comes_from_the_seed_of_the_hub():
    def new_id(seed):
        hub = TaskHub(seed=seed)
        hub.add_orchestrator(ends)
        end(hub.client, "COMPLETED", "x")
        made = hub.client.restart_orchestration("x", restart_with_new_instance_id=True)
        assert [i.instance_id for i in hub.instances] == ["x", made]
        assert hub.client.wait_for_orchestration_completion(made).get_output() == "COMPLETED"
        return made

    assert new_id(7) == new_id(7) != new_id(8)


def test_a_sub_orchestration_that_is_restarted_is_nobodys(hub, client):
    client.schedule_new_orchestration(nested, input=1, instance_id="up")
    before = client.wait_for_orchestration_completion("up")
    client.restart_orchestration("up.1")
    assert client.wait_for_orchestration_completion("up.1").runtime_status is COMPLETED
    assert client.get_orchestration_state("up") == before
    assert client.purge_orchestration("up").deleted_instance_count == 1
    assert ids(client) == ["up.1"]


def test_an_instance_restarts_itself_as_the_client_does(hub):
    hub.add_orchestrator(ends)
    first = hub.run(ends, input="FAILED", instance_id="x", tags={"team": "a"})
    second = first.restart()
    assert (second.instance_id, second.status) == ("x", OrchestrationStatus.PENDING)
    assert second.wait().failure.message == "as told"
    third = second.restart(restart_with_new_instance_id=True)
    assert third.wait().tags == {"team": "a"}
    assert hub.instances == [second, third]


def test_what_runs_was_purged_or_was_replaced_is_not_restarted(hub):
    hub.add_orchestrator(ends)
    running = hub.start(ends, input="RUNNING", instance_id="x")
    with pytest.raises(InvalidState, match="'x' is PENDING, and only one that has ended"):
        running.restart()
    running.terminate()
    hub.settle()
    replaced_by = running.restart()
    for with_new_id in (False, True):
        with pytest.raises(InstanceNotFound, match="'x' cannot be restarted"):
            running.restart(restart_with_new_instance_id=with_new_id)
    replaced_by.terminate()
    hub.client.purge_orchestration("x")
    with pytest.raises(InstanceNotFound, match="'x' cannot be restarted"):
        replaced_by.restart()
    assert hub.instances == []


# -- terminated before it starts


def test_an_instance_that_is_terminated_before_its_start_time_never_starts(hub, client):
    ran = []

    def charge(ctx, card):
        ran.append(card)

    hub.add_orchestrator(charge)
    tomorrow = START + timedelta(days=1)
    client.schedule_new_orchestration(
        charge, input="4711", instance_id="x", start_at=tomorrow, tags={"a": "b"}
    )
    held = hub.instance("x")
    held.raise_event("more")
    client.terminate_orchestration("x", output="changed my mind")
    state = client.wait_for_orchestration_completion("x", timeout=1)
    assert (state.runtime_status, state.get_output()) == (TERMINATED, "changed my mind")
    assert (hub.now, [type(event).__name__ for event in held.history.events]) == (
        START,
        [
            "OrchestratorStartedEvent",
            "ExecutionTerminatedEvent",
            "OrchestratorCompletedEvent",
            "ExecutionCompletedEvent",
        ],
    )
    hub.advance(timedelta(days=2))
    assert (held.status, ran) == (TERMINATED, [])
    assert held.restart().wait().tags == {"a": "b"}
    assert ran == ["4711", "4711"]  # the second time by the replay that every generation ends with


# -- what it is told to do, and no more


def test_ids_are_listed_by_status(client):
    for how in ("COMPLETED", "FAILED"):
        end(client, how, how.lower())
    assert client.list_instance_ids(runtime_status=[FAILED]).items == ["failed"]


def test_why_an_instance_was_suspended_resumed_and_rewound_is_in_its_history(client):
    id = client.schedule_new_orchestration(ends, input="RUNNING")
    client.wait_for_orchestration_start(id)
    client.suspend_orchestration(id, reason="audit")
    client.resume_orchestration(id, reason="audited")
    history = client.get_orchestration_history(id)
    reasons = [
        event.input
        for event in history
        if isinstance(event, (ExecutionSuspendedEvent, ExecutionResumedEvent))
    ]
    assert reasons == ["audit", "audited"]
    end(client, "FAILED", "failed")
    client.rewind_orchestration("failed", reason="repaired")
    history = client.get_orchestration_history("failed")
    assert [event.reason for event in history if isinstance(event, ExecutionRewoundEvent)] == ["repaired"]


def test_a_restart_has_the_id_that_is_asked_for(client):
    end(client, "COMPLETED", "one")
    assert client.restart_orchestration("one") == "one"
    client.wait_for_orchestration_completion("one")
    assert client.restart_orchestration("one", restart_with_new_instance_id=True) != "one"


def counter(ctx, amount):
    ctx.set_state(None if amount is None else ctx.get_state(int, 0) + amount)


ONE, OTHER = EntityInstanceId("counter", "one"), EntityInstanceId("counter", "other")


@pytest.fixture
def counting(hub, client):
    hub.add_entity(counter)
    for entity, amount in ((ONE, 1), (OTHER, 2)):
        client.signal_entity(entity, "add", amount)
    return client


def test_signals_have_inputs_and_queries_choose_entities(counting):
    assert counting.get_entity(OTHER).get_typed_state(int) == 2
    found = counting.get_all_entities(EntityQuery(instance_id_starts_with=str(OTHER)))
    assert [entity.id for entity in found] == [OTHER]


def test_entities_without_state_are_removed_where_that_is_not_forbidden(counting):
    counting.signal_entity(ONE, "clear")
    assert counting.clean_entity_storage(remove_empty_entities=False).empty_entities_removed == 0
    assert counting.clean_entity_storage().empty_entities_removed == 1


def test_orphaned_locks_are_released_where_that_is_not_forbidden(hub, counting):
    def forgets(ctx, _):
        with (yield ctx.lock_entities([ONE])):
            for _ in range(2):  # The SDK refuses the second, and forgets to let go of the entity.
                ctx.call_entity(ONE, "add", 1)

    hub.add_orchestrator(forgets)
    id = counting.schedule_new_orchestration(forgets)
    assert counting.wait_for_orchestration_completion(id).runtime_status is FAILED
    assert counting.clean_entity_storage(release_orphaned_locks=False).orphaned_locks_released == 0
    assert counting.clean_entity_storage().orphaned_locks_released == 1
