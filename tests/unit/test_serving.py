"""A hub behind a port: what workers and clients may do to it, and what becomes of their work and of time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta

import grpc
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.internal.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
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


def eternal(ctx, generation):
    yield ctx.create_timer(HOUR)
    ctx.continue_as_new(generation + 1)


def endless(ctx, generation):
    yield ctx.call_activity(echo, input=generation)
    ctx.continue_as_new(generation + 1)


def counter(ctx, amount):
    ctx.set_state(ctx.get_state(int, 0) + (amount or 0))
    return ctx.get_state(int)


EVERYTHING = (echo, call_echo, fan_out, sleep, approval, eternal, endless, counter)


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
    before = server.workers
    worker.start()
    try:
        until(lambda: server.workers > before)
        yield worker
    finally:
        _closing.submit(worker.stop)


class RawWorker:
    """A worker that does what the test tells it to."""

    def __init__(self, server, options=(), **request):
        self.channel = grpc.insecure_channel(server.address, options)
        self.stub = TaskHubSidecarServiceStub(self.channel)
        before = server.workers
        self.stream = self.stub.GetWorkItems(pb.GetWorkItemsRequest(**request), timeout=60)
        until(lambda: server.workers > before)

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


def scheduled(id, name="work"):
    return pb.OrchestratorAction(id=id, scheduleTask=pb.ScheduleTaskAction(name=name))


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
    assert bench.client.get_entity(COUNTER).get_state(int) is None
    second.did(again, "11", "5", "11")
    first.did(lost, "99", "99")
    assert bench.client.get_entity(COUNTER).get_state(int) == 11


WORKER_PROCESS = """
import logging, sys, threading
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
"""


def test_a_worker_that_is_killed_in_an_activity_is_replaced_by_another(serve):
    bench = serve()
    instance_id = bench.start(call_echo, input="once more")
    command = [sys.executable, "-c", WORKER_PROCESS, bench.server.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    bench.worker()
    assert bench.output_of(instance_id) == "once more"
    assert bench.hub.now == START


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
    assert bench.client.get_entity(COUNTER).get_state(int) == 5


def rejecting(version):
    return VersioningOptions(
        version, version, VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT
    )


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
    bench = serve()
    bench.worker(versioning=rejecting("2.0"))
    rejected = bench.start(call_echo, version="1.0")
    assert bench.output_of(bench.start(sleep, YEAR.total_seconds(), version="2.0"))[:4] == "2027"
    until(lambda: len(given_back) > 5)
    pauses = [later - earlier for earlier, later in zip(given_back, given_back[1:], strict=False)]
    assert min(pauses) > 0.9 * serving._BACKOFF
    assert bench.state_of(rejected).runtime_status is PENDING


def test_no_time_passes_while_work_that_was_given_back_once_is_offered_again(serve):
    bench = serve()
    worker = bench.raw()
    sleeping = bench.start("sleeper")
    worker.ask(worker.turn(), timer(1, START + HOUR))
    bench.start("worker")
    worker.ask(worker.turn(), scheduled(1))
    item = worker.activity()
    bench.waiting(sleeping)
    worker.abandon(item)
    item = worker.activity()
    assert bench.hub.now == START
    worker.answer(item, "1")
    worker.end(worker.turn(), "1")
    worker.end(worker.turn(), "2")
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
            "nobody",
        ),
        (
            pb.OrchestratorAction(id=1, sendEntityMessage=pb.SendEntityMessageAction()),
            "None",
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
    after = bench.start("anything")
    assert worker.turn().orchestratorRequest.instanceId == after, "its activity is not wanted any more"


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
    until(lambda: bench.client.get_entity(COUNTER).get_state(int) == 6)


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
    assert bench.client.get_entity(COUNTER).get_state(int) is None
    bench.client.signal_entity(COUNTER, "add", input=2)
    worker.did(worker.batch(), "2", "2")
    assert bench.client.get_entity(COUNTER).get_state(int) == 2


# -- clients that wait


def test_many_clients_wait_at_once(serve):
    bench = serve()
    bench.worker()
    instances = [bench.start(approval, input=60) for _ in range(6)]
    futures = [bench.waiting(instance) for instance in instances for _ in range(10)]
    with ThreadPoolExecutor(60) as pool:
        states = [pool.submit(bench.end_of, instance) for instance in instances for _ in range(10)]
        # The orchestrators cannot time out: an event comes first.
        for instance in instances:
            bench.client.raise_orchestration_event(instance, "approved", data=instance)
        outputs = [state.result().get_output() for state in states]
    assert [set(outputs[n : n + 10]) for n in range(0, 60, 10)] == [
        {one} if one in outputs else {"too late"} for one in instances
    ]
    assert all(future.result().exists for future in futures)


def test_a_wait_ends_after_its_timeout_of_real_time(serve):
    bench = serve()
    bench.worker()
    instance_id = bench.start("forgotten")
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        bench.stub.WaitForInstanceCompletion(
            pb.GetInstanceRequest(instanceId=bench.raw_suspended(instance_id)), timeout=0.2
        )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(TimeoutError):
        bench.client.wait_for_orchestration_completion(instance_id, timeout=0.1)
    assert bench.hub.now == START
