"""A hub behind a gRPC port: real workers do its work, real clients of any language call it.

The state machine is the one that runs in process. Only who works is another: what lies in the hub's queue is
handed to the workers that are connected, and what they answer is recorded and carried out as ever.

* Work that a worker holds has a *token*. Its answer must bring it; an answer with a token that is no longer
  held comes too late, and is dropped. When a stream of work breaks, or the worker abandons what it was given,
  the work is put back and handed out again.
* A worker is given what its filters let through, and no more at once than it asked for.
* Nothing runs on the clock but the clock's own thread. With ``time="skip"`` it moves virtual time to the next
  due moment once nothing is in flight: at once while a client waits for an instance, else when no client has
  asked for anything new for a while. With ``time="real"`` virtual time passes as real time does.

One lock, the hub's, guards all of it. Real time is used for waiting alone, and never reaches the hub.
"""

from __future__ import annotations

import logging
import threading
import time as real_time
from concurrent import futures
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import grpc
from durabletask import history as h
from durabletask.client import OrchestrationStatus
from google.protobuf import message_factory

from dt_testkit.errors import DurableTestError, OrchestrationBlocked
from dt_testkit.execution import Complete
from dt_testkit.hub import wire
from dt_testkit.hub.core import ActivityWork
from dt_testkit.hub.entities import Entity, LockRequest
from dt_testkit.hub.instance import TERMINAL, Instance
from dt_testkit.hub.service import HubService, Refused, found_state
from dt_testkit.sdk import failure_details_from_protobuf, failure_of, pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dt_testkit.hub.hub import TaskHub

_LOGGER = logging.getLogger("dt_testkit.server")
_THREADS = 512  # each stream of work and each waiting client keeps one; they are made as they are needed
_PING = 30.0  # a worker takes a stream that is silent for long as broken
_BACKOFF = 0.2  # before work that a worker has abandoned is offered to it again
_NO_WORKER = 10.0  # how long a hub that is driven in process waits for the first worker

_Work: TypeAlias = "Instance | Entity | ActivityWork"
_Filter: TypeAlias = "dict[str, frozenset[str]] | None"


class _Held(NamedTuple):
    """Work that a worker has."""

    stream: _Stream
    work: _Work
    new: list[h.HistoryEvent]  # of a turn: the events that it was sent


class _Stream:
    """A worker that is connected: what it takes, and how much of it."""

    def __init__(self, request: pb.GetWorkItemsRequest) -> None:
        self.open = True
        self.limits: dict[type, int] = {
            Instance: request.maxConcurrentOrchestrationWorkItems,
            ActivityWork: request.maxConcurrentActivityWorkItems,
            Entity: request.maxConcurrentEntityWorkItems,
        }
        self.busy: dict[type, int] = dict.fromkeys(self.limits, 0)
        self.refused: dict[_Work, float] = {}
        self._filters: dict[type, _Filter] = dict.fromkeys(self.limits)
        if request.HasField("workItemFilters"):
            filters = request.workItemFilters
            self._filters[Instance] = _accepted(filters.orchestrations)
            self._filters[ActivityWork] = _accepted(filters.activities)
            self._filters[Entity] = {one.name.lower(): frozenset() for one in filters.entities}

    def accepts(self, work: _Work) -> bool:
        """Whether its filters let that work through, and it has not just been given back."""
        if self.refused and work in self.refused:
            if real_time.monotonic() < self.refused[work]:
                return False
            del self.refused[work]
        accepted = self._filters[type(work)]
        if accepted is None:
            return True
        if isinstance(work, Instance):
            name, version = work.name, work.version or ""
        elif isinstance(work, Entity):
            name, version = work.entity_id.entity, ""
        else:
            name, version = work.command.name, ""
        versions = accepted.get(name)
        return versions is not None and (not versions or version in versions)

    def has_room(self, kind: type) -> bool:
        return not self.limits[kind] or self.busy[kind] < self.limits[kind]


def _accepted(filters: Any) -> dict[str, frozenset[str]]:
    """The versions of each name; none stand for all of them."""
    accepted: dict[str, frozenset[str]] = {}
    for one in filters:
        accepted[one.name] = accepted.get(one.name, frozenset()) | frozenset(one.versions)
    return accepted


class HubServer:
    """A hub that is served over gRPC; made by :meth:`TaskHub.serve`. Leaving its context stops it.

    Attributes
    ----------
    hub : TaskHub
        The hub.
    port : int
        The port it listens on.
    address : str
        ``host:port``, as workers and clients take it for ``host_address``.
    """

    def __init__(
        self, hub: TaskHub, host: str, port: int, time: Literal["skip", "real"], patience: float | None
    ) -> None:
        self.hub = hub
        self._time = time
        self._patience = patience
        self._lock = hub._lock
        self._work = threading.Condition(self._lock)  # there is something to hand out
        self._progress = threading.Condition(self._lock)  # something has happened that may end a wait
        self._streams: list[_Stream] = []
        self._held: dict[str, _Held] = {}
        self._in_flight: set[_Work] = set()
        self._partial: dict[str, list[pb.OrchestratorAction]] = {}
        self._tokens = count(1)
        self._waiters: list[tuple[Callable[[], bool], threading.Event]] = []
        self._last_call = real_time.monotonic()
        self._stopping = False
        self._started = (hub.now, real_time.monotonic())
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="dt-testkit-server"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
            ],
        )
        self._check_replay, hub._check_replay = hub._check_replay, "never"  # the code is with the workers
        self._server.add_generic_rpc_handlers((_handlers(_ServedHub(self)),))
        try:
            self.port: int = self._server.add_insecure_port(f"{_numeric(host)}:{port}")
        except RuntimeError as error:
            raise DurableTestError(
                f"The hub cannot be served on {host}:{port} ({error}): choose a port that is free, or 0."
            ) from None
        self.address = f"{host}:{self.port}"
        self._clock = threading.Thread(target=self._run_clock, name="dt-testkit-clock", daemon=True)
        self._server.start()
        self._clock.start()

    def __repr__(self) -> str:
        return f"<HubServer on {self.address}, {len(self._streams)} workers>"

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def workers(self) -> int:
        """How many workers are connected."""
        return len(self._streams)

    def stop(self) -> None:
        """Stop listening. The hub goes back to doing its own work; what workers held is to be done again."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            for stream in list(self._streams):
                self._disconnect(stream)
            self._work.notify_all()
            self._progress.notify_all()
            for _, event in self._waiters:
                event.set()
        self._server.stop(None).wait()
        self._clock.join()
        self.hub._server, self.hub._check_replay = None, self._check_replay

    # -- handing out

    def work_items(self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The stream of work to one worker, until it goes."""
        stream = _Stream(request)
        with self._lock:
            if self._stopping:
                return
            self._streams.append(stream)
            self._progress.notify_all()
        if not context.add_callback(lambda: self._disconnect(stream)):
            self._disconnect(stream)
        while (item := self._next_item(stream)) is not None:
            yield item

    def _next_item(self, stream: _Stream) -> bytes | None:
        ping_at = real_time.monotonic() + _PING
        with self._lock:
            while stream.open and not self._stopping:
                item = self._take(stream)
                if item is not None:
                    return item
                if not self._held:
                    self._progress.notify_all()
                left = ping_at - real_time.monotonic()
                if left <= 0:
                    return _HEALTH_PING
                self._work.wait(min(left, _BACKOFF) if stream.refused else left)
        return None

    def _disconnect(self, stream: _Stream) -> None:
        """A worker is gone: what it held is handed out again."""
        with self._lock:
            if not stream.open:
                return
            stream.open = False
            self._streams.remove(stream)
            for token in [token for token, held in self._held.items() if held.stream is stream]:
                self._put_back(token)
            self._work.notify_all()
            self._progress.notify_all()

    def _take(self, stream: _Stream) -> bytes | None:
        """The first work that a worker takes, now its own."""
        hub = self.hub
        queue, kept = hub._queue, []
        item = None
        while queue and item is None:
            work = queue.popleft()
            if work in self._in_flight:
                work._queued = False  # type: ignore[union-attr]  # it is put in again when that is done
            elif isinstance(work, Entity) and self._only_locks(work):
                hub._begin_batch(work)
            elif not stream.has_room(type(work)) or not stream.accepts(work):
                kept.append(work)
            else:
                item = self._begin(stream, work)
        queue.extendleft(reversed(kept))
        return item

    @staticmethod
    def _only_locks(entity: Entity) -> bool:
        """Whether what comes next at an entity is a lock to grant, for which no worker is needed."""
        return (
            entity._holder is None and bool(entity._waiting) and isinstance(entity._waiting[0], LockRequest)
        )

    def _begin(self, stream: _Stream, work: _Work) -> bytes | None:
        hub = self.hub
        token = str(next(self._tokens))
        new: list[h.HistoryEvent] = []
        if isinstance(work, Instance):
            turn = hub._begin_turn(work)
            if turn is None:
                return None
            new = turn
            events = work._generations[-1]
            if work._encoded is None or not work._encoded.is_of(events):
                work._encoded = wire.EncodedHistory(events)
            item = wire.turn(work, work._encoded.first(len(events) - len(new)), new, token)
        elif isinstance(work, Entity):
            batch = hub._begin_batch(work)
            if batch is None:
                return None
            item = wire.batch(work, batch, token)
        else:
            if not work.is_wanted():
                return None
            item = wire.activity(work.instance, work.command, token)
        self._held[token] = _Held(stream, work, new)
        self._in_flight.add(work)
        stream.busy[type(work)] += 1
        return item

    # -- taking back

    def _release(self, token: str) -> _Held | None:
        """The work of that token, no longer held; None if its answer comes too late."""
        held = self._held.pop(token, None)
        if held is None:
            return None
        self._partial.pop(token, None)
        self._in_flight.discard(held.work)
        held.stream.busy[type(held.work)] -= 1
        return held

    def _put_back(self, token: str, *, abandoned: bool = False) -> None:
        hub, held = self.hub, self._release(token)
        if held is None:
            return
        work = held.work
        if abandoned:
            held.stream.refused[work] = real_time.monotonic() + _BACKOFF
        if isinstance(work, Instance):
            if work.status not in TERMINAL:
                hub._undo_turn(work, held.new)
                hub._enqueue(work)
        elif isinstance(work, Entity):
            hub._undo_batch(work)
            hub._enqueue_entity(work)
        else:
            hub._put(work)

    @contextmanager
    def answer(self, token: str) -> Iterator[_Held | None]:
        """A worker answers: hand over what it held, and let everybody look at what has changed."""
        with self._lock:
            self._tick()
            held = self._release(token)
            yield held
            if held is not None:
                work = held.work
                if isinstance(work, Instance) and work._inbox:
                    self.hub._enqueue(work)
                elif isinstance(work, Entity) and work._waiting:
                    self.hub._enqueue_entity(work)
            self._changed()

    def _changed(self) -> None:
        if self._waiters:
            for is_done, event in self._waiters:
                if is_done():
                    event.set()
        self._work.notify_all()  # there may be room again, or somebody else may take what was given back
        if not self._held:
            self._progress.notify_all()

    # -- time

    def _tick(self) -> None:
        """Bring the clock up to the time that has passed, where it is real."""
        if self._time == "real":
            start, since = self._started
            self.hub._set_clock(start + timedelta(seconds=real_time.monotonic() - since))

    def _is_idle(self) -> bool:
        """Whether nothing is in flight, and nothing that is due could be."""
        if self._held:
            return False
        queue = self.hub._queue
        if not queue:
            return True
        if not self._streams:
            return False
        return not any(
            (isinstance(work, Entity) and self._only_locks(work))
            or any(stream.accepts(work) for stream in self._streams)
            for work in queue
        )

    def _run_clock(self) -> None:
        with self._lock:
            while not self._stopping:
                self._progress.wait(self._move_clock())

    def _move_clock(self) -> float | None:
        """Let time pass, as far as it may now. Returns how long to wait before it may go on, in seconds."""
        hub = self.hub
        if self._time == "real":
            self._tick()
            if hub._deliver_due():
                self._changed()
            due = hub._agenda[0].moment if hub._agenda else None
            return None if due is None else max(0.0, (due - hub.now).total_seconds())
        while self._is_idle():
            if not self._waiters:
                if self._patience is None:
                    return None
                quiet = real_time.monotonic() - self._last_call
                if quiet < self._patience:
                    return self._patience - quiet
            if not hub._next_due(None):
                return None
            hub._deliver_due()
            self._changed()
        return None

    # -- clients

    @contextmanager
    def call(self) -> Iterator[None]:
        """A client asks for something new."""
        with self._lock:
            self._tick()
            yield
            self._last_call = real_time.monotonic()
            self._changed()
            self._progress.notify_all()

    def wait(self, is_done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something is so, for at most so many seconds of real time; False if it is not."""
        with self._lock:
            if is_done():
                return True
            waiter = (is_done, threading.Event())
            self._waiters.append(waiter)
            self._progress.notify_all()
        try:
            waiter[1].wait(timeout)
            with self._lock:
                return is_done()
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """There is work; the caller holds the lock."""
        self._work.notify_all()

    def settle(self) -> None:
        """Wait until the workers have done all that is due now; the caller holds the lock."""
        deadline = real_time.monotonic() + _NO_WORKER
        while not self._is_idle():
            if self._streams:
                self._progress.wait()
            elif not self._progress.wait(max(0.0, deadline - real_time.monotonic())) and not self._streams:
                raise OrchestrationBlocked(
                    f"No worker is connected to {self.address}, and work waits for one: start it, with this "
                    "address as its host_address."
                )


_HEALTH_PING = pb.WorkItem(healthPing=pb.HealthPing()).SerializeToString()


class _ServedHub(HubService):
    """The service on the wire: the client's methods, and those of workers beside them."""

    def __init__(self, server: HubServer) -> None:
        super().__init__(server.hub)
        self._server = server

    def _wait(
        self, request: pb.GetInstanceRequest, timeout: float | None, done: Callable[[Instance], bool]
    ) -> pb.GetInstanceResponse:
        found = self._hub._instances.get(request.instanceId)
        if found is None:
            return pb.GetInstanceResponse(exists=False)
        instance = found

        def is_done() -> bool:
            nonlocal instance
            instance = self._hub._instances.get(request.instanceId, instance)
            return done(instance)

        if not self._server.wait(is_done, timeout):
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"Instance '{request.instanceId}' is {instance.status.name} after {timeout} s.",
            )
        with self._hub._lock:
            return found_state(instance, request.getInputsAndOutputs)

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, timeout: float | None
    ) -> pb.CompleteTaskResponse:
        hub, server = self._hub, self._server
        with server._lock:
            if request.isPartial:
                server._partial.setdefault(request.completionToken, []).extend(request.actions)
                return pb.CompleteTaskResponse()
            actions = [*server._partial.get(request.completionToken, ()), *request.actions]
        with server.answer(request.completionToken) as held:
            if held is not None and isinstance(held.work, Instance) and held.work.status not in TERMINAL:
                try:
                    commands = wire.commands(actions)
                except ValueError as error:
                    commands = [Complete(-1, OrchestrationStatus.FAILED, failure=failure_of(error))]
                custom_status = request.customStatus.value if request.HasField("customStatus") else None
                hub._end_turn(held.work, commands, custom_status, suspended=_is_suspended(held))
        return pb.CompleteTaskResponse()

    def CompleteActivityTask(
        self, request: pb.ActivityResponse, timeout: float | None
    ) -> pb.CompleteTaskResponse:
        hub = self._hub
        with self._server.answer(request.completionToken) as held:
            if held is not None and isinstance(held.work, ActivityWork):
                id, stamp = held.work.command.id, hub._stamp
                event: h.HistoryEvent
                if request.HasField("failureDetails"):
                    details = failure_details_from_protobuf(request.failureDetails)
                    event = h.TaskFailedEvent(-1, stamp, id, details)
                else:
                    result = request.result.value if request.HasField("result") else None
                    event = h.TaskCompletedEvent(-1, stamp, id, result)
                hub._deliver(held.work.instance, held.work.generation, event)
        return pb.CompleteTaskResponse()

    def CompleteEntityTask(
        self, request: pb.EntityBatchResult, timeout: float | None
    ) -> pb.CompleteTaskResponse:
        with self._server.answer(request.completionToken) as held:
            if held is not None and isinstance(held.work, Entity):
                result = wire.batch_result(request, len(held.work._running or ()))
                self._hub._end_batch(held.work, result)
        return pb.CompleteTaskResponse()

    def AbandonTaskOrchestratorWorkItem(
        self, request: pb.AbandonOrchestrationTaskRequest, timeout: float | None
    ) -> pb.AbandonOrchestrationTaskResponse:
        self._abandon(request.completionToken)
        return pb.AbandonOrchestrationTaskResponse()

    def AbandonTaskActivityWorkItem(
        self, request: pb.AbandonActivityTaskRequest, timeout: float | None
    ) -> pb.AbandonActivityTaskResponse:
        self._abandon(request.completionToken)
        return pb.AbandonActivityTaskResponse()

    def AbandonTaskEntityWorkItem(
        self, request: pb.AbandonEntityTaskRequest, timeout: float | None
    ) -> pb.AbandonEntityTaskResponse:
        self._abandon(request.completionToken)
        return pb.AbandonEntityTaskResponse()

    def _abandon(self, token: str) -> None:
        with self._server._lock:
            self._server._put_back(token, abandoned=True)
            self._server._changed()


def _is_suspended(held: _Held) -> bool:
    """Whether an instance is suspended after the turn that a worker was given."""
    suspended = held.work.status is OrchestrationStatus.SUSPENDED  # type: ignore[union-attr]
    for event in held.new:
        if isinstance(event, h.ExecutionSuspendedEvent):
            suspended = True
        elif isinstance(event, h.ExecutionResumedEvent):
            suspended = False
    return suspended


# What asks the hub for something new, and does not only look.
_CALLS = frozenset(
    {
        "StartInstance",
        "RewindInstance",
        "RestartInstance",
        "RaiseEvent",
        "TerminateInstance",
        "SuspendInstance",
        "ResumeInstance",
        "PurgeInstances",
        "SignalEntity",
        "CleanEntityStorage",
    }
)


def _handlers(service: _ServedHub) -> grpc.GenericRpcHandler:
    """The methods of the protocol's service, as grpc wants them."""
    descriptor = pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"]
    methods = {}
    behavior: Any
    for method in descriptor.methods:
        request_class = message_factory.GetMessageClass(method.input_type)
        if method.name == "GetWorkItems":
            make, behavior = grpc.unary_stream_rpc_method_handler, service._server.work_items
        elif hasattr(service, method.name):
            behavior = _behavior(service, method.name)
            make = grpc.unary_stream_rpc_method_handler
            if not method.server_streaming:
                make = grpc.unary_unary_rpc_method_handler
        else:
            continue
        methods[method.name] = make(
            behavior, request_deserializer=request_class.FromString, response_serializer=_serialize
        )
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _behavior(service: _ServedHub, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    method = getattr(service, name)
    is_call = name in _CALLS

    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            if not is_call:
                return method(request, context.time_remaining())
            with service._server.call():
                return method(request, context.time_remaining())
        except Refused as refused:
            context.abort(refused.code(), refused.details())
        except DurableTestError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))

    return behave


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host
