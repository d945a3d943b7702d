"""The SDK's worker and clients on a served hub, made in every way in which they can be made."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from contextlib import contextmanager
from datetime import timedelta

import durabletask
import grpc
import grpc.aio
import pytest
from durabletask.client import (
    AsyncTaskHubGrpcClient,
    EntityQuery,
    OrchestrationQuery,
    OrchestrationStatus,
    TaskHubGrpcClient,
)
from durabletask.entities import EntityInstanceId
from durabletask.grpc_options import GrpcClientResiliencyOptions, GrpcWorkerResiliencyOptions
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.scheduled import ScheduleCreationOptions, ScheduledTaskClient, ScheduleQuery
from durabletask.serialization import JsonDataConverter
from durabletask.task import when_all
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import TaskHub
from dt_testkit.sdk import pb

QUIET = logging.getLogger("connections")
either_client = pytest.mark.parametrize("kind", [TaskHubGrpcClient, AsyncTaskHubGrpcClient])


def greet(ctx, name):
    greeting = yield ctx.call_activity(shout, input=name)
    return [greeting, ctx.version]


def shout(ctx, name):
    return f"{name}!"


@pytest.fixture
def address():
    """Where a hub listens."""
    with TaskHub().serve() as server:
        yield server.address


@pytest.fixture(scope="module")
def served():
    """Where a hub listens, with a worker that has no options of its own."""
    with TaskHub().serve() as server, at_work(host_address=server.address):
        yield server.address


@contextmanager
def at_work(**options):
    """A worker that is started. (To stop one takes the SDK a second.)"""
    with TaskHubGrpcWorker(**{"logger": QUIET, **options}) as worker:
        worker.add_orchestrator(greet)
        worker.add_activity(shout)
        worker.start()
        yield worker


def greeting(kind, name="ana", **options):
    """What an instance comes to that is started with a client of that kind, made with those options."""
    if not options.keys() & {"log_handler", "log_formatter"}:
        options.setdefault("logger", QUIET)

    async def ask():
        async with AsyncTaskHubGrpcClient(**options) as client:
            id = await client.schedule_new_orchestration(greet, input=name)
            return await client.wait_for_orchestration_completion(id, timeout=20)

    if kind is AsyncTaskHubGrpcClient:
        state = asyncio.run(ask())
    else:
        with TaskHubGrpcClient(**options) as client:
            id = client.schedule_new_orchestration(greet, input=name)
            state = client.wait_for_orchestration_completion(id, timeout=20)
    assert state.runtime_status is OrchestrationStatus.COMPLETED, state
    return state.get_output()


def channel_options():
    return durabletask.GrpcChannelOptions(
        max_receive_message_length=10**7,
        max_send_message_length=10**7,
        keepalive_time_ms=60_000,
        keepalive_timeout_ms=10_000,
        keepalive_permit_without_calls=True,
        retry_policy=durabletask.GrpcRetryPolicyOptions(
            max_attempts=3,
            initial_backoff_seconds=0.01,
            max_backoff_seconds=0.1,
            backoff_multiplier=1.5,
            retryable_status_codes=["UNAVAILABLE", "ABORTED"],
        ),
        raw_options=[("grpc.primary_user_agent", "connections")],
    )


class Calls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Notes the calls that go through a channel."""

    def __init__(self):
        self.made = []
        self.last = {}

    def intercept_unary_unary(self, continuation, details, request):
        self.made.append(details.method.rpartition("/")[2])
        self.last[self.made[-1]] = request
        return continuation(details, request)

    intercept_unary_stream = intercept_unary_unary


class AsyncCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """The same for asynchronous channels."""

    def __init__(self):
        self.made = []

    async def intercept_unary_unary(self, continuation, details, request):
        self.made.append(details.method.decode().rpartition("/")[2])
        return await continuation(details, request)


class Shelf(PayloadStore):
    """Payloads in memory."""

    def __init__(self):
        self.held = {}
        self.owners = set()
        self.taken = set()

    @property
    def options(self):
        return LargePayloadStorageOptions(
            threshold_bytes=100, max_stored_payload_bytes=10_000, enable_compression=False
        )

    def upload(self, data, *, instance_id=None):
        token = f"shelf:{len(self.held)}"
        self.held[token] = data
        self.owners.add(instance_id)
        return token

    async def upload_async(self, data, *, instance_id=None):
        return self.upload(data, instance_id=instance_id)

    def download(self, token):
        self.taken.add(token)
        return self.held[token]

    async def download_async(self, token):
        return self.download(token)

    def is_known_token(self, value):
        return value.startswith("shelf:")


class Wrapped(JsonDataConverter):
    """JSON in a wrapper, that nothing else reads."""

    def serialize(self, value):
        return f"json:{super().serialize(value)}"

    def deserialize(self, data, target_type=None):
        if data is None:
            return None
        assert data.startswith("json:"), data
        return super().deserialize(data.removeprefix("json:"), target_type)


# -- clients


@either_client
@pytest.mark.parametrize(
    "options",
    [
        {"metadata": [("taskhub", "one")]},
        {"channel_options": channel_options()},
        {"resiliency_options": GrpcClientResiliencyOptions(channel_recreate_failure_threshold=2)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_client_may_be_given(served, kind, options):
    assert greeting(kind, host_address=served, **options) == ["ana!", None]


def test_a_client_may_bring_its_channel(served):
    with grpc.insecure_channel(served) as channel:
        assert greeting(TaskHubGrpcClient, channel=channel) == ["ana!", None]
        assert greeting(TaskHubGrpcClient, channel=channel) == ["ana!", None], "the client has closed it"


def test_an_asynchronous_client_may_bring_its_channel(served):
    async def ask():
        async with grpc.aio.insecure_channel(served) as channel:
            client = AsyncTaskHubGrpcClient(channel=channel, logger=QUIET)
            id = await client.schedule_new_orchestration(greet, input="ana")
            await client.close()  # and not the channel
            return await client.wait_for_orchestration_completion(id, timeout=20)

    assert asyncio.run(ask()).get_output() == ["ana!", None]


@either_client
def test_the_calls_of_a_client_may_be_intercepted(served, kind):
    calls = Calls() if kind is TaskHubGrpcClient else AsyncCalls()
    greeting(kind, host_address=served, interceptors=[calls])
    assert calls.made == ["StartInstance", "WaitForInstanceCompletion"]


@either_client
def test_a_client_may_be_given_a_logger(served, kind, caplog):
    logger = logging.getLogger("connections.client")
    with caplog.at_level(logging.INFO, logger.name):
        greeting(kind, host_address=served, logger=logger)
    assert "Starting new 'greet' instance" in caplog.text


@either_client
def test_a_client_may_be_told_where_and_how_to_log_though_that_is_deprecated(served, kind):
    text = io.StringIO()
    with pytest.warns(DeprecationWarning, match="log_handler"):
        greeting(
            kind,
            host_address=served,
            log_handler=logging.StreamHandler(text),
            log_formatter=logging.Formatter("client: %(message)s"),
        )
    assert text.getvalue().startswith("client: Starting new 'greet' instance")


def test_clients_and_a_worker_share_a_converter_and_a_store_for_large_payloads(address):
    shelf = Shelf()
    shared = {"host_address": address, "data_converter": Wrapped(), "payload_store": shelf}
    with at_work(**shared):
        for kind in (TaskHubGrpcClient, AsyncTaskHubGrpcClient):
            name = kind.__name__ * 100
            assert greeting(kind, name, **shared) == [f"{name}!", None]
            assert f'json:"{name}"'.encode() in shelf.held.values()  # the input
            assert f'json:["{name}!", null]'.encode() in shelf.held.values()  # the output
    assert shelf.taken
    assert None not in shelf.owners


@either_client
def test_a_client_has_a_default_version(served, kind):
    assert greeting(kind, host_address=served, default_version="2.0") == ["ana!", "2.0"]


def test_the_clients_of_a_hub_emit_no_spans_and_others_do():
    async def asynchronous():
        async with AsyncTaskHubGrpcClient(logger=QUIET) as client:
            return client.emit_trace_spans

    hub = TaskHub()
    assert hub.client.emit_trace_spans is hub.async_client.emit_trace_spans is False
    with TaskHubGrpcClient(logger=QUIET) as client:
        assert client.emit_trace_spans is asyncio.run(asynchronous()) is True


@pytest.mark.parametrize("leaves", ["with", "close"])
def test_a_client_that_is_closed_calls_nobody(served, leaves):
    client = TaskHubGrpcClient(host_address=served, logger=QUIET)
    assert client.get_orchestration_state("nobody") is None
    if leaves == "close":
        client.close()
    else:
        with client:
            pass
    with pytest.raises(ValueError, match="closed"):
        client.get_orchestration_state("nobody")


@pytest.mark.parametrize("leaves", ["with", "close"])
def test_an_asynchronous_client_that_is_closed_calls_nobody(served, leaves):
    async def ask():
        client = AsyncTaskHubGrpcClient(host_address=served, logger=QUIET)
        assert await client.get_orchestration_state("nobody") is None
        if leaves == "close":
            await client.close()
        else:
            async with client:
                pass
        with pytest.raises(RuntimeError, match="closed"):
            await client.get_orchestration_state("nobody")

    asyncio.run(ask())


def test_queries_are_asked_page_by_page(served):
    calls = Calls()
    with TaskHubGrpcClient(host_address=served, logger=QUIET, interceptors=[calls]) as client:
        for number in range(3):
            id = client.schedule_new_orchestration(greet, instance_id=f"paged-{number}")
            client.wait_for_orchestration_completion(id, timeout=20)
        calls.made.clear()
        query = OrchestrationQuery(instance_id_prefix="paged-", max_instance_count=2)
        assert len(client.get_all_orchestration_states(query)) == 3
    assert calls.made == 2 * ["QueryInstances"]


@pytest.mark.parametrize("prefix", ["@counter@", "@schedule@"])
def test_entities_and_schedules_are_asked_for_page_by_page(prefix):
    hub = TaskHub()
    hub.configure_scheduled_tasks()
    hub.add_entity(lambda ctx, _: ctx.set_state(1), "counter")
    for number in range(3):
        hub.client.signal_entity(EntityInstanceId("counter", str(number)), "set")
        every = ScheduleCreationOptions(str(number), "greet", timedelta(hours=1))
        ScheduledTaskClient(hub.client).create_schedule(every)
    calls = Calls()
    with (
        hub.serve() as server,
        TaskHubGrpcClient(host_address=server.address, logger=QUIET, interceptors=[calls]) as client,
    ):
        if prefix == "@counter@":
            query = EntityQuery(instance_id_starts_with=prefix, page_size=2)
            assert len(client.get_all_entities(query)) == 3
        else:
            assert len(ScheduledTaskClient(client).list_schedules(ScheduleQuery(page_size=2))) == 3
    assert calls.made == 2 * ["QueryEntities"]


# -- workers


def test_a_worker_may_be_given_how_to_reach_the_hub(address, caplog):
    calls = Calls()
    logger = logging.getLogger("connections.worker")
    options = {
        "metadata": [("taskhub", "one")],
        "channel_options": channel_options(),
        "resiliency_options": GrpcWorkerResiliencyOptions(hello_timeout_seconds=5),
        "interceptors": [calls],
        "logger": logger,
    }
    with caplog.at_level(logging.INFO, logger.name), at_work(host_address=address, **options):
        assert greeting(TaskHubGrpcClient, host_address=address) == ["ana!", None]
    assert {"Hello", "GetWorkItems", "CompleteOrchestratorTask", "CompleteActivityTask"} <= set(calls.made)
    assert "Successfully connected" in caplog.text


def test_a_worker_may_bring_its_channel(address):
    with grpc.insecure_channel(address) as channel, at_work(channel=channel):
        assert greeting(TaskHubGrpcClient, host_address=address) == ["ana!", None]


def test_a_worker_may_be_told_where_and_how_to_log_though_that_is_deprecated(address):
    text = io.StringIO()
    told = {
        "log_handler": logging.StreamHandler(text),
        "log_formatter": logging.Formatter("worker: %(message)s"),
    }
    with (
        pytest.warns(DeprecationWarning, match="log_handler"),
        at_work(host_address=address, logger=None, **told),
    ):
        greeting(TaskHubGrpcClient, host_address=address)
    assert "worker: Successfully connected" in text.getvalue()


def test_a_worker_is_given_no_more_at_once_than_its_options_say(address):
    limits = durabletask.ConcurrencyOptions(
        maximum_concurrent_activity_work_items=1,
        maximum_concurrent_orchestration_work_items=2,
        maximum_concurrent_entity_work_items=3,
        maximum_thread_pool_workers=4,
    )
    running, most = 0, 0
    changed = threading.Condition()

    def work(ctx, _):
        nonlocal running, most
        with changed:
            running += 1
            most = max(most, running)
            changed.notify_all()
            changed.wait_for(lambda: running > 1, timeout=0.05)  # another one, if it may
            running -= 1

    def fan_out(ctx, _):
        yield when_all([ctx.call_activity(work) for _ in range(4)])

    calls = Calls()
    options = {"logger": QUIET, "interceptors": [calls], "concurrency_options": limits}
    with TaskHubGrpcWorker(host_address=address, **options) as worker:
        assert worker.concurrency_options is limits
        worker.add_orchestrator(fan_out)
        worker.add_activity(work)
        worker.start()
        with TaskHubGrpcClient(host_address=address, logger=QUIET) as client:
            id = client.schedule_new_orchestration(fan_out)
            client.wait_for_orchestration_completion(id, timeout=20).raise_if_failed()
    assert most == 1
    asked = calls.last["GetWorkItems"]
    assert (asked.maxConcurrentActivityWorkItems, asked.maxConcurrentOrchestrationWorkItems) == (1, 2)


def test_a_worker_may_announce_what_it_can_do(address):
    calls = Calls()
    worker = TaskHubGrpcWorker(
        host_address=address, logger=QUIET, emit_trace_spans=False, interceptors=[calls]
    )
    assert worker.emit_trace_spans is False
    assert TaskHubGrpcWorker(logger=QUIET).emit_trace_spans is True
    worker.add_orchestrator(greet)
    worker.add_activity(shout)
    worker.add_capability(pb.WORKER_CAPABILITY_SCHEDULED_TASKS)
    worker.start()
    assert greeting(TaskHubGrpcClient, host_address=address) == ["ana!", None]
    worker.stop()
    assert pb.WORKER_CAPABILITY_SCHEDULED_TASKS in calls.last["GetWorkItems"].capabilities


@pytest.mark.parametrize("leaves", ["with", "stop"])
def test_a_worker_that_is_stopped_works_on_nothing(address, leaves):
    if leaves == "with":
        with at_work(host_address=address):
            pass
    else:
        worker = TaskHubGrpcWorker(host_address=address, logger=QUIET)
        worker.add_orchestrator(greet)
        worker.add_activity(shout)
        worker.start()
        worker.stop()
    with TaskHubGrpcClient(host_address=address, logger=QUIET) as client:
        id = client.schedule_new_orchestration(greet)
        with pytest.raises(TimeoutError):
            client.wait_for_orchestration_start(id, timeout=0.2)


def test_a_worker_fails_what_does_not_replay(address):
    turns = []

    def wavers(ctx, _):
        turns.append(ctx)
        yield ctx.create_timer(timedelta(hours=1)) if len(turns) == 1 else ctx.call_activity(shout)

    with TaskHubGrpcWorker(host_address=address, logger=QUIET) as worker:
        worker.add_orchestrator(wavers)
        worker.start()
        with TaskHubGrpcClient(host_address=address, logger=QUIET) as client:
            id = client.schedule_new_orchestration(wavers)
            state = client.wait_for_orchestration_completion(id, timeout=20)
    assert state.failure_details.error_type == "durabletask.task.NonDeterminismError"
