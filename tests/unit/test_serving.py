"""A hub behind a port: what workers and clients may do to it, and what becomes of their work and of time."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import grpc
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.internal.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask.scheduled import ScheduleCreationOptions, ScheduledTaskClient
from durabletask.task import RetryPolicy, when_all, when_any
from durabletask.worker import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    TaskHubGrpcWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

from dt_testkit import (
    DurableTestError,
    History,
    OrchestrationBlocked,
    OrchestrationNotFinished,
    TaskHub,
    replay,
)
from dt_testkit.hub import serving
from dt_testkit.sdk import pb

QUIET = logging.getLogger("test_serving")
START = datetime(2026, 1, 1)
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
COMPLETED, FAILED, TERMINATED = (
    OrchestrationStatus.COMPLETED,
    OrchestrationStatus.FAILED,
    OrchestrationStatus.TERMINATED,
)
PENDING, RUNNING, SUSPENDED = (
    OrchestrationStatus.PENDING,
    OrchestrationStatus.RUNNING,
    OrchestrationStatus.SUSPENDED,
)
PATIENT = 20  # seconds that nothing here takes
COUNTER = EntityInstanceId("counter", "a")
NO_LIMIT = GrpcChannelOptions(max_receive_message_length=-1, max_send_message_length=-1)


# -- what there is to work on


def echo(ctx, value):
    return value


def call_echo(ctx, value):
    return (yield ctx.call_activity(echo, input=value))


def fan_out(ctx, count):
    return (yield when_all([ctx.call_activity(echo, input=n) for n in range(count)]))


def sleep(ctx, seconds):
    yield ctx.create_timer(timedelta(seconds=seconds))
    return ctx.current_utc_datetime.isoformat()


def approval(ctx, seconds):
    approved = ctx.wait_for_external_event("approved")
    timeout = ctx.create_timer(timedelta(seconds=seconds))
    if (yield when_any([approved, timeout])) is timeout:
        return "too late"
    return approved.get_result()


def hear(ctx, _):
    return (yield ctx.wait_for_external_event("said"))


def eternal(ctx, generation):
    yield ctx.create_timer(HOUR)
    ctx.continue_as_new(generation + 1)


def endless(ctx, generation):
    yield ctx.call_activity(echo, input=generation)
    ctx.continue_as_new(generation + 1)


def counter(ctx, amount):
    ctx.set_state(ctx.get_state(int, 0) + (amount or 0))
    return ctx.get_state(int)


EVERYTHING = (echo, call_echo, fan_out, sleep, approval, hear, eternal, endless, counter)


def add(worker, function):
    if function is counter:
        worker.add_entity(function)
    elif function.__code__.co_varnames[0] == "ctx" and function.__name__.startswith(("echo", "work")):
        worker.add_activity(function)
    else:
        worker.add_orchestrator(function)


# -- who works


_closing = ThreadPoolExecutor(8)  # to stop a worker takes the SDK a second, for which nobody needs to wait


@contextmanager
def at_work(server, *functions, filters=None, versioning=None, **options):
    """A worker of the SDK."""
    worker = TaskHubGrpcWorker(host_address=server.address, logger=QUIET, **options)
    for function in functions or EVERYTHING:
        add(worker, function)
    if filters is not None:
        worker.use_work_item_filters(filters)
    if versioning is not None:
        worker.use_versioning(versioning)
    try:
        with connected(server):
            worker.start()
        yield worker
    finally:
        _closing.submit(worker.stop)


@contextmanager
def connected(server):
    """Wait for the stream of the worker that is started meanwhile."""
    before, streams = set(server._streams), []
    yield streams
    streams += until(lambda: set(server._streams) - before)


class RawWorker:
    """A worker that does what the test tells it to."""

    def __init__(self, server, options=(), **request):
        self.server = server
        self.channel = grpc.insecure_channel(server.address, options)
        self.stub = TaskHubSidecarServiceStub(self.channel)
        with connected(server) as self.streams:
            self.stream = self.stub.GetWorkItems(pb.GetWorkItemsRequest(**request), timeout=60)

    def take(self, kind):
        """The next item, which is of that kind."""
        for item in self.stream:
            if not item.HasField("healthPing"):
                assert item.WhichOneof("request") == kind, item
                return item
        raise AssertionError("the stream has ended")

    def turn(self):
        return self.take("orchestratorRequest")

    def activity(self):
        return self.take("activityRequest")

    def batch(self):
        return self.take("entityRequestV2")

    def vanish(self):
        """The stream breaks; answers can still be sent."""
        self.stream.cancel()
        until(lambda: self.streams[0] not in self.server._streams)

    def ask(self, item, *actions, **fields):
        """Answer a turn."""
        answer = pb.OrchestratorResponse(
            instanceId=item.orchestratorRequest.instanceId,
            completionToken=item.completionToken,
            actions=actions,
            **fields,
        )
        self.stub.CompleteOrchestratorTask(answer, timeout=PATIENT)

    def end(self, item, result):
        self.ask(item, ended(result))

    def answer(self, item, result):
        """Answer an activity."""
        answer = pb.ActivityResponse(
            instanceId=item.activityRequest.orchestrationInstance.instanceId,
            taskId=item.activityRequest.taskId,
            result=StringValue(value=result),
            completionToken=item.completionToken,
        )
        self.stub.CompleteActivityTask(answer, timeout=PATIENT)

    def did(self, item, state, *results, **fields):
        """Answer a batch of operations."""
        answer = pb.EntityBatchResult(
            results=[
                pb.OperationResult(success=pb.OperationResultSuccess(result=StringValue(value=result)))
                for result in results
            ],
            entityState=StringValue(value=state),
            completionToken=item.completionToken,
            **fields,
        )
        self.stub.CompleteEntityTask(answer, timeout=PATIENT)

    def abandon(self, item):
        token = item.completionToken
        if item.HasField("orchestratorRequest"):
            request = pb.AbandonOrchestrationTaskRequest(completionToken=token)
            self.stub.AbandonTaskOrchestratorWorkItem(request, timeout=PATIENT)
        elif item.HasField("activityRequest"):
            request = pb.AbandonActivityTaskRequest(completionToken=token)
            self.stub.AbandonTaskActivityWorkItem(request, timeout=PATIENT)
        else:
            request = pb.AbandonEntityTaskRequest(completionToken=token)
            self.stub.AbandonTaskEntityWorkItem(request, timeout=PATIENT)


def ended(result, status=pb.ORCHESTRATION_STATUS_COMPLETED):
    complete = pb.CompleteOrchestrationAction(orchestrationStatus=status, result=StringValue(value=result))
    return pb.OrchestratorAction(id=99, completeOrchestration=complete)


def scheduled(id, name="work", input=None):
    value = StringValue(value=input) if input is not None else None
    return pb.OrchestratorAction(id=id, scheduleTask=pb.ScheduleTaskAction(name=name, input=value))


def timer(id, moment):
    fire_at = Timestamp()
    fire_at.FromDatetime(moment)
    return pb.OrchestratorAction(id=id, createTimer=pb.CreateTimerAction(fireAt=fire_at))


def until(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENT
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)
    return answer


class Bench:
    """A served hub, a client of it, and workers as they are asked for."""

    def __init__(self, stack, hub, server):
        self.stack, self.hub, self.server = stack, hub, server
        self.client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
        self.stub = TaskHubSidecarServiceStub(stack.enter_context(grpc.insecure_channel(server.address)))
        stack.callback(self.client.close)

    def worker(self, *functions, **options):
        return self.stack.enter_context(at_work(self.server, *functions, **options))

    def raw(self, options=(), **request):
        worker = RawWorker(self.server, options, **request)
        self.stack.callback(worker.channel.close)
        return worker

    def start(self, orchestrator, input=None, **options):
        return self.client.schedule_new_orchestration(orchestrator, input=input, **options)

    def end_of(self, instance_id):
        return self.client.wait_for_orchestration_completion(instance_id, timeout=PATIENT)

    def output_of(self, instance_id):
        state = self.end_of(instance_id)
        assert state.runtime_status is COMPLETED, state
        return state.get_output()

    def state_of(self, instance_id):
        return self.client.get_orchestration_state(instance_id)

    def count(self, key):
        """The state of a counter."""
        state = self.client.get_entity(EntityInstanceId("counter", key)).get_state()
        return int(state) if state else None

    def until_status(self, instance_id, status):
        """Without waiting for it as a client does, for that may let time pass."""
        until(lambda: self.state_of(instance_id).runtime_status is status)

    def waiting(self, instance_id, timeout=PATIENT):
        """A call that waits for the end of an instance."""
        request = pb.GetInstanceRequest(instanceId=instance_id)
        future = self.stub.WaitForInstanceCompletion.future(request, timeout=timeout)
        until(lambda: self.server._waiters.get(instance_id))
        return future


@pytest.fixture
def serve():
    """Serve a hub, in a way."""
    with ExitStack() as stack:

        def serve(hub=None, **how):
            hub = hub or TaskHub()
            server = stack.enter_context(hub.serve(**{"patience": None, **how}))
            return Bench(stack, hub, server)

        yield serve


# -- a worker that goes


def test_a_turn_that_a_worker_held_when_its_stream_broke_is_handed_to_the_next(serve):
    bench = serve()
    first = bench.raw()
    instance_id = bench.start("anything", input=1)
    lost = first.turn()
    first.vanish()
    second = bench.raw()
    again = second.turn()
    assert again.orchestratorRequest == lost.orchestratorRequest
    assert again.completionToken != lost.completionToken
    first.end(lost, '"late"')
    assert bench.state_of(instance_id).runtime_status is PENDING
    second.end(again, '"right"')
    assert bench.output_of(instance_id) == "right"
    first.end(lost, '"later still"')
    assert bench.output_of(instance_id) == "right"
    names = [type(event).__name__ for event in bench.client.get_orchestration_history(instance_id)]
    assert names == [
        "OrchestratorStartedEvent",
        "ExecutionStartedEvent",
        "OrchestratorCompletedEvent",
        "ExecutionCompletedEvent",
    ]


def test_what_came_while_a_worker_held_the_turn_that_it_lost_is_not_lost(serve):
    bench = serve()
    first = bench.raw()
    instance_id = bench.start("anything")
    first.turn()
    bench.client.raise_orchestration_event(instance_id, "one", data=1)
    first.vanish()
    bench.client.raise_orchestration_event(instance_id, "two", data=2)
    new = bench.raw().turn().orchestratorRequest.newEvents
    kinds = [event.WhichOneof("eventType") for event in new]
    assert kinds == ["orchestratorStarted", "executionStarted", "eventRaised", "eventRaised"]
    assert [event.eventRaised.name for event in new[2:]] == ["one", "two"]


def test_an_activity_that_a_worker_held_when_its_stream_broke_is_handed_to_the_next(serve):
    bench = serve()
    first = bench.raw()
    instance_id = bench.start("anything")
    first.ask(first.turn(), scheduled(1))
    lost = first.activity()
    first.vanish()
    second = bench.raw()
    again = second.activity()
    assert again.activityRequest == lost.activityRequest
    first.answer(lost, '"late"')
    second.answer(again, '"right"')
    first.answer(lost, '"later still"')
    [result] = [e for e in second.turn().orchestratorRequest.newEvents if e.HasField("taskCompleted")]
    assert result.taskCompleted.result.value == '"right"'
    assert bench.state_of(instance_id).runtime_status is RUNNING


def test_a_batch_that_a_worker_held_when_its_stream_broke_is_handed_to_the_next(serve):
    bench = serve()
    first = bench.raw()
    bench.client.signal_entity(COUNTER, "add", input=5)
    lost = first.batch()
    bench.client.signal_entity(COUNTER, "add", input=6)
    first.vanish()
    second = bench.raw()
    again = second.batch()
    inputs = [o.entityOperationSignaled.input.value for o in again.entityRequestV2.operationRequests]
    assert inputs == ["5", "6"]
    first.did(lost, "99", "99")
    assert bench.count("a") is None
    second.did(again, "11", "5", "11")
    first.did(lost, "99", "99")
    assert bench.count("a") == 11


WORKER_PROCESS = """
import logging, os, sys, threading
from durabletask.worker import TaskHubGrpcWorker

def call_echo(ctx, value):
    return (yield ctx.call_activity("echo", input=value))

def echo(ctx, value):
    print("begun", flush=True)
    threading.Event().wait()

worker = TaskHubGrpcWorker(host_address=sys.argv[1], logger=logging.getLogger("x"))
worker.add_orchestrator(call_echo)
worker.add_activity(echo)
worker.start()
sys.stdin.read()  # until the test is over, whatever becomes of it
os._exit(1)
"""


def test_a_worker_that_is_killed_in_an_activity_is_replaced_by_another(serve):
    bench = serve()
    instance_id = bench.start(call_echo, input="once more")
    command = [sys.executable, "-c", WORKER_PROCESS, bench.server.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    bench.worker()
    assert bench.output_of(instance_id) == "once more"
    assert bench.hub.now == START


def test_an_answer_counts_once_whether_it_or_the_end_of_its_stream_comes_first(serve):
    bench = serve()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            instance_id = bench.start("anything")
            first = bench.raw()
            first.ask(first.turn(), scheduled(1))
            item = first.activity()
            answered, broken = pool.submit(first.answer, item, '"first"'), pool.submit(first.vanish)
            answered.result()
            broken.result()
            second = bench.raw()
            item = next(second.stream)
            if item.HasField("activityRequest"):
                second.answer(item, '"second"')
                item = second.turn()
            second.end(item, "1")
            bench.output_of(instance_id)
            second.vanish()
            history = bench.client.get_orchestration_history(instance_id)
            names = [type(event).__name__ for event in history]
            assert names.count("TaskCompletedEvent") == 1
            assert names.count("OrchestratorStartedEvent") == 2


# -- a worker that gives work back


def test_a_turn_that_is_abandoned_is_offered_to_another_at_once_and_to_the_same_after_a_while(serve):
    bench = serve()
    first = bench.raw()
    bench.start("anything")
    given_back = first.turn()
    begun = time.monotonic()
    first.abandon(given_back)
    again = first.turn()
    assert time.monotonic() - begun > 0.9 * serving._BACKOFF
    assert again.orchestratorRequest == given_back.orchestratorRequest
    second = bench.raw()
    first.abandon(again)
    assert second.turn().orchestratorRequest == again.orchestratorRequest


def test_an_activity_that_is_abandoned_is_offered_again(serve):
    bench = serve()
    worker = bench.raw()
    instance_id = bench.start("anything")
    worker.ask(worker.turn(), scheduled(1))
    given_back = worker.activity()
    worker.abandon(given_back)
    worker.answer(given_back, '"late"')
    worker.answer(worker.activity(), '"right"')
    assert worker.turn().orchestratorRequest.newEvents[1].taskCompleted.result.value == '"right"'
    assert bench.state_of(instance_id).runtime_status is RUNNING


def test_a_batch_that_is_abandoned_is_offered_again(serve):
    bench = serve()
    worker = bench.raw()
    bench.client.signal_entity(COUNTER, "add", input=5)
    given_back = worker.batch()
    worker.abandon(given_back)
    worker.did(given_back, "99", "99")
    worker.did(worker.batch(), "5", "5")
    assert bench.count("a") == 5


def count_calls(monkeypatch, *names):
    """How often methods of servers are called."""
    calls = []

    def counted(name, method):
        def call(*arguments):
            calls.append(name)
            return method(*arguments)

        return call

    for name in names:
        monkeypatch.setattr(serving.HubServer, name, counted(name, getattr(serving.HubServer, name)))
    return calls


def rejecting(version):
    return VersioningOptions(version, version, VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT)


def test_what_a_worker_rejects_is_done_by_one_that_takes_it(serve):
    bench = serve()
    bench.worker(versioning=rejecting("2.0"))
    one, two = bench.start(call_echo, "one", version="1.0"), bench.start(call_echo, "two", version="2.0")
    assert bench.output_of(two) == "two"
    bench.worker(versioning=rejecting("1.0"))
    assert bench.output_of(one) == "one"


def test_a_worker_that_rejects_an_instance_is_asked_now_and_then_and_time_passes_for_others(
    serve, monkeypatch
):
    given_back = []
    put_back = serving.HubServer._put_back

    def noted(self, token, **how):
        if how:
            given_back.append(time.monotonic())
        put_back(self, token, **how)

    monkeypatch.setattr(serving.HubServer, "_put_back", noted)
    looks = count_calls(monkeypatch, "_take", "_move_clock")
    bench = serve()
    bench.worker(versioning=rejecting("2.0"))
    rejected = bench.start(call_echo, version="1.0")
    assert bench.output_of(bench.start(sleep, YEAR.total_seconds(), version="2.0"))[:4] == "2027"
    before = len(given_back)
    looks.clear()
    until(lambda: len(given_back) > before + 4)
    pauses = [later - earlier for earlier, later in pairwise(given_back)]
    assert min(pauses) > 0.9 * serving._BACKOFF
    assert len(looks) < 60, "somebody looks again and again whether there is something to do"
    assert bench.state_of(rejected).runtime_status is PENDING


def test_the_log_tells_once_of_an_instance_that_a_worker_gives_back_again_and_again(serve, caplog):
    caplog.set_level(logging.INFO, "dt_testkit.server")
    bench = serve()
    worker = bench.raw()
    rejected = bench.start("sleeper")
    for _ in range(2):
        worker.abandon(worker.turn())
    assert "given back" not in caplog.text
    for _ in range(2):
        worker.abandon(worker.turn())
    worker.turn()
    assert (
        caplog.text.count(f"given back instance '{rejected}' (sleeper) 3 times: look at its versions.") == 1
    )


@pytest.mark.parametrize("is_first", [True, False], ids=["worker first", "worker later"])
def test_the_log_tells_once_of_work_that_no_connected_worker_takes(serve, caplog, is_first):
    caplog.set_level(logging.INFO, "dt_testkit.server")
    bench = serve()
    if is_first:
        bench.worker(filters=names("call_echo"))
    untaken = bench.start("sleeper")
    if not is_first:
        assert "No worker" not in caplog.text, "there is none yet, and that is no mistake"
        bench.worker(filters=names("call_echo"))
    bench.worker(filters=names("echo"))
    assert caplog.text.count(f"takes instance '{untaken}' (sleeper): look at their filters.") == 1
    assert "given back" not in caplog.text


def test_no_time_passes_while_work_that_was_given_back_once_is_offered_again(serve):
    bench = serve()
    worker = bench.raw()
    sleeping = bench.start("sleeper")
    worker.ask(worker.turn(), timer(1, START + HOUR))
    bench.start("worker")
    worker.ask(worker.turn(), scheduled(1))
    item = worker.activity()
    waiting = bench.waiting(sleeping)
    worker.abandon(item)
    item = worker.activity()
    assert bench.hub.now == START
    worker.answer(item, "1")
    worker.end(worker.turn(), "1")
    worker.end(worker.turn(), "2")
    assert waiting.result().exists
    assert bench.hub.now == START + HOUR


# -- filters


def names(*orchestrations, activities=(), entities=()):
    return WorkItemFilters(
        [OrchestrationWorkItemFilter(name) for name in orchestrations],
        [ActivityWorkItemFilter(name) for name in activities],
        [EntityWorkItemFilter(name) for name in entities],
    )


def test_two_workers_with_filters_each_get_their_own(serve):
    def one(ctx, _):
        return (yield ctx.call_activity("work_two"))

    def two(ctx, _):
        return (yield ctx.call_activity("work_one"))

    def work_one(ctx, _):
        return threading.current_thread().name

    def work_two(ctx, _):
        raise ValueError("by the second")

    bench = serve()
    bench.worker(one, work_one, filters=names("one", activities=["work_one"]))
    bench.worker(two, work_two, filters=names("two", activities=["work_two"]))
    failed = bench.end_of(bench.start("one"))
    assert failed.failure_details.message.endswith("by the second")
    assert bench.output_of(bench.start("two")).startswith("DurableTask")


def test_work_that_no_filter_lets_through_waits_and_time_passes_for_others(serve):
    bench = serve()
    bench.worker(filters=names("sleep"))
    unmatched = bench.start(call_echo, input=1)
    assert bench.output_of(bench.start(sleep, input=3600)) == (START + HOUR).isoformat()
    assert bench.state_of(unmatched).runtime_status is PENDING
    bench.worker(filters=names("call_echo"))
    bench.until_status(unmatched, RUNNING)
    with pytest.raises(TimeoutError):
        bench.client.wait_for_orchestration_completion(unmatched, timeout=0.2)
    bench.worker(filters=names(activities=["echo"]))
    assert bench.output_of(unmatched) == 1


def test_a_filter_may_name_versions(serve):
    bench = serve()
    filters = pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="any", versions=["1.0", "1.1"])])
    strict = bench.raw(workItemFilters=filters)
    for version in ("2.0", None, "1.1"):
        bench.start("any", instance_id=str(version), version=version)
    assert strict.turn().orchestratorRequest.instanceId == "1.1"
    other = bench.raw()
    assert {other.turn().orchestratorRequest.instanceId for _ in range(2)} == {"2.0", "None"}


def test_an_activity_has_no_version_so_a_filter_with_versions_lets_none_through(serve):
    # As in the SDK's in-memory backend: its worker schedules activities without a version.
    bench = serve()
    filters = pb.WorkItemFilters(
        orchestrations=[pb.OrchestrationFilter(name="any", versions=["1.0"])],
        activities=[pb.ActivityFilter(name="work", versions=["1.0"]), pb.ActivityFilter(name="other")],
    )
    strict = bench.raw(workItemFilters=filters)
    bench.start("any", version="1.0")
    strict.ask(strict.turn(), scheduled(1, "work"), scheduled(2, "other"))
    assert strict.activity().activityRequest.name == "other"
    assert bench.raw().activity().activityRequest.name == "work"


def test_a_filter_may_name_entities_in_any_case(serve):
    bench = serve()
    entities = bench.raw(workItemFilters=pb.WorkItemFilters(entities=[pb.EntityFilter(name="Counter")]))
    bench.start("anything")
    bench.client.signal_entity(EntityInstanceId("other", "b"), "add")
    bench.client.signal_entity(COUNTER, "add")
    assert entities.batch().entityRequestV2.instanceId == "@counter@a"
    other = bench.raw()
    assert other.batch().entityRequestV2.instanceId == "@other@b"
    other.turn()


# -- how much at once


@pytest.mark.parametrize("most", [1, 2, 0])
def test_a_worker_is_given_no_more_at_once_than_it_asks_for(serve, monkeypatch, most):
    busy = []
    begin = serving.HubServer._begin

    def noted(self, stream, work):
        item = begin(self, stream, work)
        busy.append(max(stream.busy.values()))
        return item

    monkeypatch.setattr(serving.HubServer, "_begin", noted)
    bench = serve()
    limits = ("Orchestration", "Activity", "Entity")
    worker = bench.raw(**{f"maxConcurrent{kind}WorkItems": most for kind in limits})
    at_once = most or 5

    def hold(take, answer):
        held = [take() for _ in range(at_once)]
        for _ in range(5 - at_once):
            answer(held.pop(0))
            held.append(take())
        for item in held:
            answer(item)

    for key in "abcde":
        bench.client.signal_entity(EntityInstanceId("counter", key), "add")
    hold(worker.batch, lambda item: worker.did(item, "1", "1"))
    instances = [bench.start("anything") for _ in range(5)]
    hold(worker.turn, lambda item: worker.ask(item, ended("1")))
    busy_with_turns, busy[:] = max(busy), []
    fan = bench.start("fan")
    worker.ask(worker.turn(), *map(scheduled, range(1, 6)))
    held = [worker.activity() for _ in range(at_once)]
    assert all(bench.output_of(instance) == 1 for instance in instances)
    assert len(bench.server._held) == at_once
    for item in held:
        worker.answer(item, "1")
    assert busy_with_turns == at_once
    assert max(busy) == at_once
    assert bench.state_of(fan).runtime_status is RUNNING


# -- answers


def test_a_turn_may_be_answered_in_parts(serve):
    bench = serve()
    worker = bench.raw()
    bench.start("anything")
    item = worker.turn()
    worker.ask(item, scheduled(1, "one"), isPartial=True)
    worker.ask(item, scheduled(2, "two"), isPartial=True)
    worker.ask(item, scheduled(3, "three"))
    assert [worker.activity().activityRequest.name for _ in range(3)] == ["one", "two", "three"]


def test_the_parts_of_an_answer_that_was_never_finished_are_dropped(serve):
    bench = serve()
    first = bench.raw()
    bench.start("anything")
    lost = first.turn()
    first.ask(lost, scheduled(1, "one"), isPartial=True)
    first.vanish()
    second = bench.raw()
    again = second.turn()
    first.ask(lost, scheduled(2, "two"), isPartial=True)
    second.ask(again, scheduled(1, "three"))
    assert second.activity().activityRequest.name == "three"
    second.vanish()
    assert bench.raw().activity().activityRequest.name == "three"


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (
            pb.OrchestratorAction(id=1, terminateOrchestration=pb.TerminateOrchestrationAction()),
            "An orchestrator asked for terminateOrchestration, which this task hub does not know.",
        ),
        (pb.OrchestratorAction(id=1), "An orchestrator asked for None, which this task hub does not know."),
        (
            ended("1", pb.ORCHESTRATION_STATUS_RUNNING),
            "An orchestrator ended as RUNNING, which is no way to end.",
        ),
        (
            pb.OrchestratorAction(
                id=1,
                sendEntityMessage=pb.SendEntityMessageAction(
                    entityOperationSignaled=pb.EntityOperationSignaledEvent(
                        operation="add", targetInstanceId=StringValue(value="nobody")
                    )
                ),
            ),
            "Entity ID must start with '@'.",
        ),
        (
            pb.OrchestratorAction(id=1, sendEntityMessage=pb.SendEntityMessageAction()),
            "An orchestrator sent an entity a message without content.",
        ),
    ],
)
def test_what_no_hub_can_do_fails_the_instance(serve, action, why):
    bench = serve()
    worker = bench.raw()
    instance_id = bench.start("anything")
    worker.ask(worker.turn(), scheduled(2), action, customStatus=StringValue(value='"begun"'))
    state = bench.end_of(instance_id)
    assert state.runtime_status is FAILED
    assert why in state.failure_details.message
    assert state.get_custom_status() == "begun"
    last = bench.client.get_orchestration_history(instance_id)[-1]
    assert last.failure_details.message == state.failure_details.message


def test_a_sub_orchestration_without_an_id_is_named_after_its_parent(serve):
    bench = serve()
    worker = bench.raw()
    parent = bench.start("parent")
    for _ in range(2):
        call = pb.CreateSubOrchestrationAction(name="child")
        worker.ask(worker.turn(), pb.OrchestratorAction(id=10, createSubOrchestration=call))
        parent += ":000a"
    assert worker.turn().orchestratorRequest.instanceId == parent


def test_an_answer_to_another_kind_of_work_is_dropped(serve):
    bench = serve()
    worker = bench.raw()
    instance_id = bench.start("anything")
    item = worker.turn()
    worker.answer(item, "1")
    worker.did(item, "1", "1")
    worker.end(pb.WorkItem(completionToken="nobody's"), "1")
    worker.end(item, '"right"')
    assert bench.output_of(instance_id) == "right"


def test_operations_that_a_worker_did_not_get_to_are_done_later(serve):
    bench = serve()
    worker = bench.raw(maxConcurrentEntityWorkItems=1)
    bench.client.signal_entity(EntityInstanceId("counter", "b"), "add")
    other = worker.batch()
    for amount in (1, 2, 3):
        bench.client.signal_entity(COUNTER, "add", input=amount)
    worker.did(other, "1", "1")
    worker.did(worker.batch(), "1", "1")
    bench.client.signal_entity(COUNTER, "add", input=4)
    item = worker.batch()
    inputs = [o.entityOperationSignaled.input.value for o in item.entityRequestV2.operationRequests]
    assert inputs[:2] == ["2", "3"]
    worker.did(item, "6", *inputs)
    until(lambda: bench.count("a") == 6)


def test_operations_that_a_worker_calls_failed_as_a_whole_have_failed(serve):
    bench = serve()
    worker = bench.raw()
    bench.start("caller")
    operations = [
        pb.OrchestratorAction(
            id=id,
            sendEntityMessage=pb.SendEntityMessageAction(
                entityOperationCalled=pb.EntityOperationCalledEvent(
                    requestId=str(id), operation="add", targetInstanceId=StringValue(value="@counter@a")
                )
            ),
        )
        for id in (1, 2)
    ]
    worker.ask(worker.turn(), *operations)
    broken = pb.TaskFailureDetails(errorType="Broken", errorMessage="no more")
    worker.did(worker.batch(), "1", '"one"', failureDetails=broken)
    done, failed = worker.turn().orchestratorRequest.newEvents[1:]
    assert done.entityOperationCompleted.output.value == '"one"'
    assert failed.entityOperationFailed.failureDetails.errorMessage == "no more"


def test_a_signal_of_an_entity_to_no_entity_fails_the_batch(serve):
    bench = serve()
    worker = bench.raw()
    bench.client.signal_entity(COUNTER, "add", input=1)
    signal = pb.OperationAction(id=1, sendSignal=pb.SendSignalAction(instanceId="nobody", name="add"))
    worker.did(worker.batch(), "1", "1", actions=[signal])
    assert bench.count("a") is None
    bench.client.signal_entity(COUNTER, "add", input=2)
    worker.did(worker.batch(), "2", "2")
    assert bench.count("a") == 2


# -- clients that wait


def test_many_clients_wait_at_once(serve):
    bench = serve()
    bench.worker()
    instances = [bench.start(hear) for _ in range(6)]
    with ThreadPoolExecutor(60) as pool:
        states = [pool.submit(bench.end_of, instance) for instance in instances for _ in range(10)]
        until(lambda: sum(map(len, bench.server._waiters.values())) == 60)
        for instance in instances:
            bench.client.raise_orchestration_event(instance, "said", data=instance)
        outputs = [state.result().get_output() for state in states]
    assert outputs == [instance for instance in instances for _ in range(10)]
    assert not bench.server._waiters


def test_a_wait_ends_after_its_timeout_of_real_time(serve):
    bench = serve()
    bench.worker()
    instance_id = bench.start(hear)
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        bench.stub.WaitForInstanceCompletion(pb.GetInstanceRequest(instanceId=instance_id), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(TimeoutError):
        bench.client.wait_for_orchestration_completion(instance_id, timeout=0.1)
    assert bench.hub.now == START


def test_an_instance_that_is_not_there_is_waited_for_as_long_as_the_caller_does(serve):
    bench = serve()
    with pytest.raises(TimeoutError):
        bench.client.wait_for_orchestration_completion("nobody", timeout=0.1)
    waiting = bench.waiting("somebody")
    worker = bench.raw()
    bench.client.schedule_new_orchestration("anything", instance_id="somebody")
    worker.end(worker.turn(), "1")
    assert waiting.result().orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED


def test_a_wait_is_answered_with_what_it_waited_for_whatever_comes_next(serve):
    bench = serve()
    worker = bench.raw()
    instance_id = bench.start("anything")
    waiting = bench.waiting(instance_id)
    with bench.hub._lock:  # nobody can look before it has been restarted
        worker_is_done = ThreadPoolExecutor(1).submit(worker.end, worker.turn(), "1")
        bench.server._progress.wait_for(lambda: not bench.server._held, PATIENT)
        bench.hub.instance(instance_id).restart()
    worker_is_done.result()
    assert waiting.result().orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED
    assert bench.state_of(instance_id).runtime_status is PENDING


def test_who_has_gone_is_waited_for_no_longer_and_no_time_passes_for_them(serve):
    bench = serve()
    bench.worker()
    waiting = bench.waiting(bench.start(hear))
    waiting.cancel()
    until(lambda: not bench.server._waiters)
    bench.until_status(bench.start(sleep, 3600), RUNNING)
    assert bench.output_of(bench.start(call_echo, 1)) == 1
    assert bench.hub.now == START


def test_more_waits_than_there_are_threads_for_are_refused(serve, monkeypatch):
    monkeypatch.setattr(serving, "_MOST_WAITING", 2)
    bench = serve()
    bench.worker()
    instance_id = bench.start(hear)
    waiting = [bench.waiting(instance_id)]
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(bench.end_of, instance_id)
        until(lambda: len(bench.server._waiters[instance_id]) == 2)
        with pytest.raises(grpc.RpcError) as caught:
            bench.end_of(instance_id)
        bench.client.raise_orchestration_event(instance_id, "said", data=1)
        assert second.result().get_output() == 1
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert waiting[0].result().exists
    assert bench.output_of(instance_id) == 1


# -- time that jumps


def test_time_jumps_while_a_client_waits(serve):
    bench = serve()
    bench.worker()
    assert bench.output_of(bench.start(sleep, YEAR.total_seconds())) == "2027-01-01T00:00:00"
    assert bench.hub.now == START + YEAR


def test_without_patience_no_time_passes_unless_a_client_waits(serve):
    bench = serve(patience=None)
    bench.worker()
    sleeping = bench.start(sleep, 1)
    bench.until_status(sleeping, RUNNING)
    for n in range(20):
        bench.client.wait_for_orchestration_start(bench.start(call_echo, n), timeout=PATIENT)
        bench.until_status(bench.start(call_echo, n), COMPLETED)
    assert bench.hub.now == START
    assert bench.state_of(sleeping).runtime_status is RUNNING


def test_with_patience_time_passes_though_nobody_waits(serve):
    bench = serve(patience=0.05)
    bench.worker()
    for n in range(3):
        bench.until_status(bench.start(sleep, 3600), COMPLETED)
        assert bench.hub.now == START + (n + 1) * HOUR


def test_a_new_call_is_another_reason_for_patience(serve):
    bench = serve(patience=0.3)
    bench.worker()
    sleeping = bench.start(sleep, 3600)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.6:  # twice as long as it would take
        called = time.monotonic()
        bench.client.raise_orchestration_event(sleeping, "anything")
        now = bench.hub.now
        if time.monotonic() - called < 0.3:  # or this machine is too slow to tell
            assert now == START
    bench.until_status(sleeping, COMPLETED)
    assert time.monotonic() - called >= 0.3


def test_a_client_that_was_told_has_time_to_act(serve):
    # What it waited for has come to pass at this moment, and the next timer is not due yet.
    bench = serve(patience=None)
    bench.worker()
    for n in range(50):
        asked = bench.start(approval, 3600)
        bench.client.wait_for_orchestration_start(asked, timeout=PATIENT)
        bench.client.raise_orchestration_event(asked, "approved", data=n)
        assert bench.output_of(asked) == n
        assert bench.hub.now == START


def test_what_is_due_at_once_waits_for_nobody(serve):
    bench = serve(patience=None)
    bench.worker()
    bench.until_status(bench.start(sleep, 0), COMPLETED)
    bench.client.signal_entity(COUNTER, "add", input=3, signal_time=START - HOUR)
    until(lambda: bench.count("a") == 3)


def test_no_time_passes_while_an_activity_runs(serve):
    bench = serve(patience=0)
    running, go_on, seen = threading.Event(), threading.Event(), []

    def work_hard(ctx, _):
        running.set()
        go_on.wait(PATIENT)
        seen.append(bench.hub.now)

    def call_work(ctx, _):
        yield ctx.call_activity("work_hard")

    bench.worker(work_hard, call_work, filters=names("call_work", activities=["work_hard"]))
    bench.worker(sleep, filters=names("sleep"))
    working = bench.start("call_work")
    running.wait(PATIENT)
    sleeping = bench.start(sleep, 3600)
    bench.client.wait_for_orchestration_start(sleeping, timeout=PATIENT)
    waiting = bench.waiting(sleeping)
    assert bench.output_of(bench.start(sleep, 0)) == START.isoformat()
    assert not waiting.done()
    go_on.set()
    assert waiting.result().exists
    assert seen == [START]
    assert bench.state_of(working).runtime_status is COMPLETED


def test_a_start_in_the_future_is_jumped_to(serve):
    bench = serve()
    bench.worker()
    later = bench.start(call_echo, 1, start_at=START + YEAR)
    assert bench.state_of(later).runtime_status is PENDING
    assert bench.output_of(later) == 1
    assert bench.hub.now == START + YEAR


def test_what_is_begun_in_process_lets_time_pass_too(serve):
    bench = serve(patience=0.05)
    bench.worker()
    instance = bench.hub.start(call_echo, input=1, start_at=START + YEAR)
    until(lambda: instance.is_terminal)
    bench.hub.client.signal_entity(COUNTER, "add", input=3, signal_time=START + 2 * YEAR)
    until(lambda: bench.hub.entities and bench.hub.entities[0].state == 3)
    assert bench.hub.now == START + 2 * YEAR


# -- real time


def test_real_time_passes_as_it_does_and_no_sooner(serve):
    bench = serve(time="real")
    bench.worker()
    begun = time.monotonic()
    state = bench.end_of(bench.start(sleep, 0.3))
    took = time.monotonic() - begun
    assert took >= 0.3
    slept = datetime.fromisoformat(state.get_output()) - state.created_at
    assert timedelta(seconds=0.3) <= slept <= timedelta(seconds=took)
    assert START < state.created_at < state.last_updated_at <= bench.hub.now


def test_a_short_timer_is_not_kept_up_by_a_longer_one_or_by_an_activity(serve):
    bench = serve(time="real")
    running, go_on = threading.Event(), threading.Event()

    def work_hard(ctx, _):
        running.set()
        go_on.wait(PATIENT)

    def call_work(ctx, _):
        yield ctx.call_activity("work_hard")

    bench.worker(work_hard, call_work, filters=names("call_work", activities=["work_hard"]))
    bench.worker(sleep, filters=names("sleep"))
    bench.until_status(bench.start(sleep, 3600), RUNNING)
    working = bench.start("call_work")
    running.wait(PATIENT)
    assert bench.output_of(bench.start(sleep, 0.1)) >= (START + timedelta(seconds=0.1)).isoformat()
    go_on.set()
    assert bench.output_of(working) is None


def test_real_time_passes_for_what_is_begun_in_process(serve):
    bench = serve(time="real")
    bench.worker()
    before = bench.hub.now
    until(lambda: bench.hub.now > before)
    instance = bench.hub.start(sleep, input=0.1, start_at=bench.hub.now + timedelta(seconds=0.1))
    assert instance.created_at > before
    until(lambda: instance.is_terminal)
    assert instance.last_updated_at - instance.created_at >= timedelta(seconds=0.2)
    bench.hub.advance(HOUR)
    assert START + HOUR < bench.hub.now < START + HOUR + timedelta(seconds=PATIENT)


# -- driven in process


def test_a_served_hub_is_driven_in_process_as_well(serve):
    bench = serve()
    bench.worker()
    hub = bench.hub
    assert hub.run(call_echo, input=[1]).output == [1]
    asked = hub.start(approval, input=7200)
    hub.settle()
    hub.advance(HOUR)
    assert (hub.now, asked.status) == (START + HOUR, RUNNING)
    asked.raise_event("approved", "in process")
    hub.settle()
    assert asked.output == "in process"
    hub.advance(HOUR)
    assert hub.run(sleep, input=60).last_updated_at == START + 2 * HOUR + timedelta(minutes=1)
    late = hub.start(approval, input=60)
    with pytest.raises(TimeoutError):
        late.wait(timedelta(seconds=30))
    assert late.wait().output == "too late"
    in_process = hub.client.schedule_new_orchestration(sleep, input=3600)
    assert hub.client.wait_for_orchestration_completion(in_process, timeout=3600).runtime_status is COMPLETED
    assert bench.output_of(in_process) == hub.now.isoformat()


def test_the_clock_stands_back_while_a_test_drives_the_hub(serve):
    bench = serve(patience=30)

    def work_hourly(ctx, _):
        bench.server._last_call = 0  # whoever would be patient has lost it

    def hourly(ctx, _):
        for _ in range(10):
            yield ctx.create_timer(HOUR)
            yield ctx.call_activity("work_hourly")

    bench.worker(work_hourly, hourly)
    instance = bench.hub.start("hourly")
    for hours in (3, 2, 1):
        before = bench.hub.now
        bench.hub.advance(hours * HOUR)
        assert bench.hub.now == before + hours * HOUR
    assert instance.status is RUNNING


def test_several_threads_drive_one_hub(serve):
    bench = serve()
    bench.worker()
    with ThreadPoolExecutor(4) as pool:
        instances = [pool.submit(bench.hub.run, sleep, input=n) for n in range(20)]
        assert all(instance.result().status is COMPLETED for instance in instances)
    assert bench.hub._depth == 0
    assert bench.hub._turns_left is None


def test_an_eternal_orchestration_ends_a_run_and_not_a_wait_of_an_hour(serve):
    bench = serve()
    bench.worker()
    for orchestrator in (eternal, endless):
        with pytest.raises(OrchestrationNotFinished, match="let an eternal orchestration run with start"):
            bench.hub.run(orchestrator, input=0, max_turns=20, instance_id=orchestrator.__name__)
        instance = bench.hub.instance(orchestrator.__name__)
        while not instance.is_terminal:  # the worker loses it in the turn in which it continues as new
            instance.terminate()
            with suppress(OrchestrationNotFinished):
                bench.hub.settle(max_turns=20)


def test_a_hub_without_a_worker_says_so(serve, monkeypatch):
    monkeypatch.setattr(serving, "_NO_WORKER", 0.1)
    bench = serve()
    with pytest.raises(OrchestrationBlocked, match=rf"No worker is connected to {bench.server.address}, and"):
        bench.hub.run(call_echo)
    bench.worker()
    bench.hub.settle()
    assert bench.hub.instances[0].status is COMPLETED


def test_work_that_no_worker_takes_is_named(serve):
    bench = serve()
    bench.worker(filters=names("call_echo"))
    with pytest.raises(OrchestrationBlocked, match=r"no worker at .* takes activity 'echo': look at their"):
        bench.hub.run(call_echo)
    with pytest.raises(OrchestrationBlocked, match=r"takes instance 's' \(sleep\), activity 'echo': look"):
        bench.hub.run(sleep, instance_id="s")


def test_what_waits_for_the_outside_is_told_from_that(serve):
    bench = serve()
    bench.worker()
    with pytest.raises(OrchestrationBlocked, match="has anything to do: its history shows"):
        bench.hub.run(hear, instance_id="a")
    bench.hub.instance("a").suspend()
    bench.hub.settle()
    with pytest.raises(OrchestrationBlocked, match="is suspended: resume"):
        bench.hub.instance("a").wait()


def test_a_worker_that_is_not_the_hubs_cannot_be_crashed(serve):
    bench = serve()
    with pytest.raises(DurableTestError, match=r"is served on .* stop one of those"):
        bench.hub.crash_worker()


# -- beginning and end


def test_a_hub_is_served_once_at_a_time():
    hub = TaskHub()
    with hub.serve() as server, pytest.raises(DurableTestError, match=f"already, on {server.address}"):
        hub.serve()
    with hub.serve() as again:
        assert repr(again) == f"<HubServer on localhost:{again.port}, 0 workers>"
    again.stop()  # once more, and nothing happens


def test_arguments_that_mean_nothing_are_refused():
    hub = TaskHub()
    for wrong in ({"time": "fast"}, {"patience": -1}, {"patience": float("inf")}):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} is "):
            hub.serve(**wrong)


def test_a_port_that_is_taken_is_refused_and_the_hub_is_as_it_was(capfd):
    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(call_echo)
    hub.add_activity(echo)
    with TaskHub().serve() as server:
        with pytest.raises(DurableTestError, match=f"served on localhost:{server.port}, for that port is"):
            hub.serve(server.port)
        assert hub.run(call_echo, input=1).output == 1
        assert hub._check_replay == "turn"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback interface has one address")
def test_a_hub_is_reached_from_this_machine_alone_unless_told_otherwise():
    def is_reached(server):
        try:
            socket.create_connection(("127.0.0.2", server.port), timeout=PATIENT).close()
        except ConnectionRefusedError:
            return False
        return True

    with TaskHub().serve() as here:
        assert not is_reached(here)
    with TaskHub().serve(host="0.0.0.0") as everywhere:
        assert is_reached(everywhere)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_address_of_ipv6_is_one_too():
    with TaskHub().serve(host="::1") as server:
        assert server.address == f"[::1]:{server.port}"
        with TaskHubGrpcClient(host_address=server.address, logger=QUIET) as client:
            assert client.get_orchestration_state("nobody") is None


def test_a_hub_stops_at_once_with_workers_connected_and_clients_waiting(serve):
    bench = serve()
    bench.worker(filters=names("hear"))
    holder = bench.raw(
        workItemFilters=pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="any")])
    )
    waiting = [bench.waiting(bench.start("any")), bench.waiting(bench.start(hear))]
    holder.turn()
    begun = time.monotonic()
    bench.server.stop()
    assert time.monotonic() - begun < 5
    for future in waiting:
        assert future.exception(PATIENT).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    with pytest.raises(grpc.RpcError):
        list(holder.stream)
    assert bench.server.workers == 0
    assert not bench.server._clock.is_alive()


def test_what_workers_held_is_done_by_the_hub_itself_when_it_is_served_no_longer(serve):
    calls = []

    def work(ctx, value):
        calls.append(value)
        return value

    def twice(ctx, value):
        first = yield ctx.call_activity(work, input=value)
        yield ctx.call_entity(COUNTER, "add", value)
        return first + (yield ctx.call_activity(work, input=value))

    hub = TaskHub(check_replay="turn")
    for function in (work, twice, counter):
        add(hub, function)
    bench = serve(hub)
    worker = bench.raw()
    instances = [hub.start(twice, input=n, instance_id=str(n)) for n in range(3)]
    first, second, _ = (worker.turn() for _ in range(3))
    worker.ask(first, scheduled(1, input="0"))
    worker.ask(second, scheduled(1, input="1"))
    done, _ = worker.activity(), worker.activity()
    worker.answer(done, "0")
    bench.server.stop()
    assert hub._check_replay == "turn"
    hub.settle()
    assert [instance.output for instance in instances] == [0, 2, 4]
    assert sorted(calls) == [0, 1, 1, 2, 2], "one of the six was done by the worker"
    assert all(replay(instance.history, hub).ok for instance in instances)


def test_who_waits_in_process_goes_on_when_a_hub_is_served_no_longer(serve):
    hub = TaskHub()
    for function in (call_echo, echo):
        add(hub, function)
    bench = serve(hub)
    worker = bench.raw()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hub.run, call_echo, input="here")
        worker.turn()
        bench.server.stop()
        assert done.result(PATIENT).output == "here"


def test_what_workers_have_begun_is_gone_on_with_in_its_next_turn_and_until_then_told_as_theirs(serve):
    hub = TaskHub()
    add(hub, hear)
    bench = serve(hub)
    bench.worker(hear)
    instance = hub.start("hear")
    hub.settle()
    bench.server.stop()
    with pytest.raises(OrchestrationBlocked, match=r"worker has asked for that is connected no longer: its"):
        instance.wait()
    instance.raise_event("said", "heard")
    assert instance.wait().output == "heard"
    check_histories(hub, hear)


def test_the_entities_of_workers_are_there_to_be_looked_at_before_they_are_used(serve):
    bench = serve()
    bench.worker(counter)
    assert bench.hub.entity(COUNTER).state is None
    bench.client.signal_entity(COUNTER, "add", 2)
    until(lambda: bench.hub.entity(COUNTER).state == 2)


def test_what_a_hub_has_begun_itself_is_gone_on_with_by_workers(serve):
    def patient(ctx, _):
        before = yield ctx.call_activity(echo, input="before")
        said = yield ctx.wait_for_external_event("said")
        return [before, said, (yield ctx.call_entity(COUNTER, "add", 2))]

    hub = TaskHub()
    for function in (patient, echo, counter):
        add(hub, function)
    hub.use_versioning(rejecting("2.0"))
    instance, rejected = hub.start("patient", version="2.0"), hub.start("patient", version="1.0")
    hub.settle()
    instance.raise_event("said", "now")
    rejected.raise_event("said", "then")
    bench = serve(hub)
    bench.worker(patient, echo, counter)
    assert bench.output_of(instance.instance_id)[:2] == ["before", "now"]
    assert bench.output_of(rejected.instance_id)[:2] == ["before", "then"]
    check_histories(hub, patient)


def test_what_the_filters_of_a_hub_leave_out_is_for_workers(serve):
    hub = TaskHub()
    for function in (call_echo, echo):
        add(hub, function)
    hub.use_work_item_filters(names("call_echo"))
    instance = hub.start(call_echo, input=1)
    hub.settle()
    bench = serve(hub)
    bench.worker()
    assert bench.output_of(instance.instance_id) == 1


def test_a_hub_is_not_served_from_inside_an_activity():
    hub = TaskHub()
    refused = []

    def work(ctx, _):
        with pytest.raises(DurableTestError, match="while an activity or an entity runs") as caught:
            hub.serve()
        refused.append(caught.value)

    def call_work(ctx, _):
        yield ctx.call_activity(work)

    add(hub, work)
    add(hub, call_work)
    assert hub.run(call_work).status is COMPLETED
    assert refused


def test_a_process_ends_though_nobody_has_stopped_its_server():
    program = """
import threading, grpc
from durabletask.internal.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from dt_testkit import TaskHub
from dt_testkit.sdk import pb

hub = TaskHub()
server = hub.serve()
stub = TaskHubSidecarServiceStub(grpc.insecure_channel(server.address))
stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
hub.start("anything", instance_id="a")
next(stream)
waiting = stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(instanceId="a"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_workers_and_calls_that_come_while_a_hub_stops_are_turned_away():
    for _ in range(10):
        with TaskHub().serve() as server, ExitStack() as stack:
            channels = [stack.enter_context(grpc.insecure_channel(server.address)) for _ in range(4)]
            stopped = threading.Event()

            def connect(stub, stopped=stopped):
                while not stopped.is_set():
                    with suppress(grpc.RpcError, ValueError):  # that its channel is closed
                        stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=PATIENT)
                        next(stream)
                        stream.cancel()

            def call(stub, stopped=stopped):
                while not stopped.is_set():
                    with suppress(grpc.RpcError, ValueError):
                        stub.StartInstance(pb.CreateInstanceRequest(name="any"), timeout=PATIENT)

            # Nobody joins them: in 1 of 1,000 tries, gRPC does not tell a stream that its server has gone.
            for channel, what in zip(channels, (connect, connect, call, call), strict=True):
                stub = TaskHubSidecarServiceStub(channel)
                threading.Thread(target=what, args=(stub,), daemon=True).start()
            until(lambda: len(server.hub.instances) > 5)
            begun = time.monotonic()
            server.stop()
            took = time.monotonic() - begun
            stopped.set()
            assert took < 5
            assert server.workers == 0
            assert not server._held
        assert all(instance.status is PENDING for instance in server.hub.instances)


def test_a_recurring_schedule_comes_due_in_real_time_if_the_hub_starts_now(serve):
    bench = serve(TaskHub(start_time=datetime.now(timezone.utc)), time="real")
    worker = TaskHubGrpcWorker(host_address=bench.server.address, logger=QUIET)
    worker.add_orchestrator(call_echo)
    worker.add_activity(echo)
    worker.configure_scheduled_tasks()
    with worker, connected(bench.server):
        worker.start()
        often = ScheduleCreationOptions("often", "call_echo", timedelta(seconds=1), orchestration_input="x")
        ScheduledTaskClient(bench.client).create_schedule(often)
        until(lambda: [instance.name for instance in bench.hub.instances].count("call_echo") > 1)


# -- what the SDK offers, over the wire


def check_histories(hub, *functions):
    """A law: what a hub records replays clean, and the SDK's worker accepts it."""
    orchestrators = {f.__name__: f for f in functions}
    for instance in hub.instances:
        for history in instance.histories:
            report = replay(history, orchestrators, maximum_timer_interval=timedelta(days=3))
            assert report.ok, report
            assert report.worker_outcome == "accepts", report.worker_explanation


def test_a_recorded_history_replays_clean(serve):
    bench = serve()
    bench.worker()
    for orchestrator, input in ((call_echo, 1), (fan_out, 20), (sleep, YEAR.total_seconds()), (approval, 1)):
        bench.output_of(bench.start(orchestrator, input))
    check_histories(bench.hub, *EVERYTHING)
    [instance] = [one for one in bench.hub.instances if one.name == "call_echo"]
    history = History.from_client(bench.client, instance.instance_id)
    assert history.events == instance.history.events
    assert not replay(history, {"call_echo": sleep}).ok


def test_continue_as_new_keeps_the_events_that_are_carried_over(serve):
    def collect(ctx, seen):
        seen = [*seen, (yield ctx.wait_for_external_event("item"))]
        if len(seen) == 3:
            return seen
        ctx.continue_as_new(seen, save_events=True)

    bench = serve()
    bench.worker(collect)
    instance_id = bench.start("collect", [])
    for n in range(3):
        bench.client.raise_orchestration_event(instance_id, "item", data=n)
    assert bench.output_of(instance_id) == [0, 1, 2]
    assert len(bench.hub.instance(instance_id).histories) == 3
    check_histories(bench.hub, collect)


def test_entities_are_called_signaled_and_locked(serve):
    def transfer(ctx, amount):
        other = EntityInstanceId("Counter", "b")
        with (yield ctx.lock_entities([other, COUNTER])):
            yield ctx.call_entity(COUNTER, "add", -amount)
            yield ctx.create_timer(HOUR)
            yield ctx.call_entity(other, "add", amount)
        ctx.signal_entity(EntityInstanceId("counter", "c"), "add", 1)
        return (yield ctx.call_entity(other, "add", 0))

    bench = serve()
    bench.worker(transfer, counter)
    transfers = [bench.start("transfer", amount) for amount in (1, 2, 3, 4)]
    assert max(map(bench.output_of, transfers)) == 10
    balances = {key: bench.count(key) for key in "abc"}
    until(lambda: bench.count("c") == 4)
    assert (balances["a"], balances["b"]) == (-10, 10)
    assert bench.hub.now == START + 4 * HOUR
    check_histories(bench.hub, transfer)


def test_an_instance_is_suspended_resumed_and_terminated(serve):
    bench = serve()
    bench.worker()
    one, two = bench.start(hear), bench.start(hear)
    bench.client.suspend_orchestration(one)
    bench.until_status(one, SUSPENDED)
    bench.client.raise_orchestration_event(one, "said", data="heard")
    with pytest.raises(TimeoutError):
        bench.client.wait_for_orchestration_completion(one, timeout=0.1)
    bench.client.resume_orchestration(one)
    assert bench.output_of(one) == "heard"
    bench.client.terminate_orchestration(two, output="enough")
    state = bench.end_of(two)
    assert (state.runtime_status, state.get_output()) == (TERMINATED, "enough")
    check_histories(bench.hub, *EVERYTHING)


def test_an_event_that_comes_in_the_turn_of_a_resumption_is_not_left_lying(serve):
    bench = serve()
    worker = bench.raw()
    instance_id = bench.start("anything")
    worker.ask(worker.turn())
    bench.client.suspend_orchestration(instance_id)
    worker.ask(worker.turn())
    assert bench.state_of(instance_id).runtime_status is SUSPENDED
    bench.client.resume_orchestration(instance_id)
    item = worker.turn()
    bench.client.raise_orchestration_event(instance_id, "said", data=1)
    worker.ask(item)
    assert worker.turn().orchestratorRequest.newEvents[1].eventRaised.name == "said"


def test_a_failed_instance_is_rewound(serve):
    attempts = []

    def work(ctx, value):
        attempts.append(value)
        if attempts.count(value) == 1:
            raise ConnectionError("down")
        return value

    def child(ctx, value):
        return (yield ctx.call_activity(work, input=value))

    def parent(ctx, _):
        first = yield ctx.call_activity(echo, input="first")
        return [first, (yield ctx.call_sub_orchestrator(child, input="second"))]

    bench = serve()
    bench.worker(work, child, parent, echo)
    instance_id = bench.start("parent")
    assert bench.end_of(instance_id).runtime_status is FAILED
    bench.client.rewind_orchestration(instance_id, reason="it is up again")
    assert bench.output_of(instance_id) == ["first", "second"]
    assert attempts == ["second", "second"]
    check_histories(bench.hub, child, parent)
    with pytest.raises(grpc.RpcError, match="not in a failed state"):
        bench.client.rewind_orchestration(instance_id)


def test_a_rewound_instance_is_sent_whole_to_the_next_worker(serve):
    bench = serve()
    first = bench.raw()
    instance_id = bench.start("anything")
    first.ask(first.turn(), scheduled(1))
    item = first.activity()
    failure = pb.TaskFailureDetails(errorType="Down", errorMessage="down")
    failed = pb.ActivityResponse(completionToken=item.completionToken, failureDetails=failure)
    first.stub.CompleteActivityTask(failed, timeout=PATIENT)
    first.ask(first.turn(), ended("", pb.ORCHESTRATION_STATUS_FAILED))
    assert bench.end_of(instance_id).runtime_status is FAILED
    bench.client.rewind_orchestration(instance_id)
    lost = first.turn()
    first.vanish()
    second = bench.raw()
    again = second.turn()
    assert again.orchestratorRequest == lost.orchestratorRequest
    kinds = [event.WhichOneof("eventType") for event in again.orchestratorRequest.pastEvents]
    assert "taskScheduled" not in kinds
    assert "taskFailed" not in kinds
    assert kinds[-2:] == ["executionRewound", "orchestratorCompleted"]


def test_an_instance_is_restarted_and_purged(serve):
    bench = serve()
    bench.worker()
    first = bench.start(call_echo, "once", tags={"a": "b"})
    assert bench.output_of(first) == "once"
    again = bench.client.restart_orchestration(first, restart_with_new_instance_id=True)
    assert bench.output_of(again) == "once"
    assert bench.client.restart_orchestration(first) == first
    assert bench.output_of(first) == "once"
    assert bench.client.purge_orchestration(first).deleted_instance_count == 1
    assert bench.state_of(first) is None
    assert bench.client.purge_orchestrations_by(runtime_status=[COMPLETED]).deleted_instance_count == 1


def test_a_retry_waits_in_skipped_time(serve):
    attempts = []

    def work(ctx, _):
        attempts.append(bench.hub.now)
        if len(attempts) < 3:
            raise ConnectionError("down")

    def retried(ctx, _):
        policy = RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3, backoff_coefficient=2)
        yield ctx.call_activity("work", retry_policy=policy)

    bench = serve()
    bench.worker(work, retried)
    bench.output_of(bench.start("retried"))
    assert attempts == [START, START + HOUR, START + 3 * HOUR]
    check_histories(bench.hub, retried)


def test_an_asynchronous_client_waits_for_many_at_once(serve):
    bench = serve()
    bench.worker()

    async def scenario():
        async with AsyncTaskHubGrpcClient(host_address=bench.server.address, logger=QUIET) as client:
            started = [await client.schedule_new_orchestration(sleep, input=3600) for _ in range(20)]
            return await asyncio.gather(
                *(client.wait_for_orchestration_completion(one, timeout=PATIENT) for one in started)
            )

    assert {state.get_output() for state in asyncio.run(scenario())} == {(START + HOUR).isoformat()}


def test_what_is_larger_than_a_message_may_be_wants_a_worker_that_takes_it(serve):
    bench = serve()
    small = bench.raw()
    with TaskHubGrpcClient(
        host_address=bench.server.address, logger=QUIET, channel_options=NO_LIMIT
    ) as client:
        large = client.schedule_new_orchestration(call_echo, input="x" * 5_000_000)
        with pytest.raises(grpc.RpcError) as caught:
            small.turn()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        bench.worker(channel_options=NO_LIMIT)
        state = client.wait_for_orchestration_completion(large, timeout=PATIENT)
        assert len(state.get_output()) == 5_000_000


def test_a_worker_and_a_client_may_work_for_one_another_in_an_activity(serve):
    # The activity waits for an instance, so its own work is in flight, and the other's is done meanwhile.
    bench = serve()

    def work(ctx, value):
        return bench.output_of(bench.start(call_echo, value))

    def outer(ctx, value):
        return (yield ctx.call_activity("work", input=value))

    bench.worker(work, outer, call_echo, echo)
    assert bench.output_of(bench.start("outer", "inner")) == "inner"


def test_a_thousand_activities_in_one_turn_are_done(serve):
    bench = serve()
    bench.worker()
    assert bench.output_of(bench.start(fan_out, 1000)) == list(range(1000))
