"""A hub behind a gRPC port: real workers do its work, real clients of any language call it.

The state machine is the one that runs in process. Only who works is another: what lies in the hub's queue is
handed to the workers that are connected, and what they answer is recorded and carried out as ever.

* Work that a worker holds has a *token*. Its answer must bring it; an answer with a token that is no longer
  held comes too late, and is dropped. When a stream of work breaks, or the worker abandons what it was given,
  the work is put back and handed out again.
* A worker is given what its filters let through, and no more at once than it asked for.
* Time passes on the clock's own thread. With ``time="skip"`` it moves virtual time to the next due moment
  once nothing is in flight: at once while a client waits for an instance, else when no client has asked for
  anything new for a while. With ``time="real"`` virtual time passes as real time does. A test that drives the
  hub in process moves the clock itself, and the thread stands back meanwhile.

One lock, the hub's, guards all of it: calls, streams and the clock take turns, and where one of them waits,
it lets go of the lock. A stream that has nothing to hand out sleeps until it is woken. One condition goes
with the lock, ``_progress``: nothing is in flight any more, or the clock has another moment to wait for. Real
time is used for waiting alone, and never reaches a history unless ``time="real"``.
"""

from __future__ import annotations

import logging
import math
import threading
import time as real_time
from collections import deque
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain, count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import grpc
from durabletask import history as h
from durabletask.client import OrchestrationStatus
from google.protobuf import message_factory

from dt_testkit.errors import DurableTestError, OrchestrationBlocked, OrchestrationNotFinished
from dt_testkit.execution import Complete
from dt_testkit.hub import wire
from dt_testkit.hub.core import ActivityWork
from dt_testkit.hub.entities import BatchResult, Entity, LockRequest
from dt_testkit.hub.instance import TERMINAL, Instance
from dt_testkit.hub.service import HubService, Refused, found_state
from dt_testkit.sdk import failure_details_from_protobuf, failure_of, pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dt_testkit.hub.hub import TaskHub

_LOGGER = logging.getLogger("dt_testkit.server")
# Each client that waits keeps a thread, and so does each worker. The rest answer calls, and must not run out.
_MOST_WAITING = 1000
_THREADS = _MOST_WAITING + 200
_PING = 30.0  # a worker takes a stream that is silent for long as broken
_BACKOFF = 0.2  # before work that a worker has given back is offered to it again
_CHANCES = 3  # how often a worker may give work back before time passes without it
_NO_WORKER = 10.0  # how long a hub that is driven in process waits for the first worker
_GRACE = 1.0  # for calls that have begun when the hub stops being served
_LONGEST_WAIT = 3600.0  # what may be waited for in one go is limited, on Windows to some weeks

_Work: TypeAlias = "Instance | Entity | ActivityWork"
_Filter: TypeAlias = "dict[str, frozenset[str]] | None"
_T = TypeVar("_T")


@dataclass(slots=True)
class _Held:
    """Work that a worker has."""

    stream: _Stream
    work: _Work
    new: list[h.HistoryEvent]  # of a turn: the events that it was sent
    actions: list[pb.OrchestratorAction] = field(default_factory=list)  # of a turn: answered so far


class _Stream:
    """A worker that is connected: what it takes, and how much of it."""

    def __init__(self, request: pb.GetWorkItemsRequest) -> None:
        self.open = True
        self.asleep = False  # whether it waits for work
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.limits: dict[type, int] = {
            Instance: request.maxConcurrentOrchestrationWorkItems,
            ActivityWork: request.maxConcurrentActivityWorkItems,
            Entity: request.maxConcurrentEntityWorkItems,
        }
        self.busy: dict[type, int] = dict.fromkeys(self.limits, 0)
        self._given_back: dict[_Work, tuple[int, float]] = {}  # how often, and until when it is not offered
        self._filters: dict[type, _Filter] = dict.fromkeys(self.limits)
        if request.HasField("workItemFilters"):
            filters = request.workItemFilters
            self._filters[Instance] = _accepted(filters.orchestrations)
            self._filters[ActivityWork] = _accepted(filters.activities)
            self._filters[Entity] = {one.name.lower(): frozenset() for one in filters.entities}

    def sleep(self, timeout: float) -> None:
        """Wait to be woken; the caller does not hold the lock."""
        with suppress(Empty):
            self._wake.get(timeout=timeout)

    def wake(self) -> None:
        if self.asleep:
            self.asleep = False
            self._wake.put(None)

    def has_room(self, kind: type) -> bool:
        return not self.limits[kind] or self.busy[kind] < self.limits[kind]

    def lets_through(self, work: _Work) -> bool:
        """Whether its filters let that work through. An activity has no version of its own."""
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

    def takes(self, work: _Work) -> bool:
        """Whether to offer it that work now."""
        if self._given_back and self._given_back.get(work, (0, 0.0))[1] > real_time.monotonic():
            return False
        return self.lets_through(work)

    def will_do(self, work: _Work) -> bool:
        """Whether to wait for it to do that work: it has not given it back again and again."""
        if self._given_back and self._given_back.get(work, (0, 0.0))[0] >= _CHANCES:
            return False
        return self.lets_through(work)

    def give_back(self, work: _Work) -> None:
        times = self._given_back.get(work, (0, 0.0))[0] + 1
        self._given_back[work] = (times, real_time.monotonic() + _BACKOFF)
        if times == _CHANCES:
            _LOGGER.info("A worker has given back %s %d times: look at its versions.", _name_of(work), times)

    def forget(self, work: _Work) -> None:
        self._given_back.pop(work, None)

    def next_offer(self, now: float) -> float:
        """When something that it has given back may be offered to it again."""
        return min((until for _, until in self._given_back.values() if until > now), default=math.inf)


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
        self._progress = threading.Condition(self._lock)
        self._streams: list[_Stream] = []
        # Entities first: to grant a lock makes work for an instance.
        self._queues: dict[type, deque[_Work]] = {Entity: deque(), Instance: deque(), ActivityWork: deque()}
        self._held: dict[str, _Held] = {}
        self._in_flight: set[_Work] = set()
        self._untaken: set[str] = set()  # names of work of which it was told that no worker takes it
        self._tokens = count(1)
        self._turns = 0
        self._waiters: dict[str, list[_Waiter]] = {}  # by instance; those that still have to wait
        self._drivers = 0  # threads that drive the hub in process, and wait for the workers
        self._inside = False  # whether it is the server that changes the hub now
        self._is_work = False  # whether the streams are to be woken when it has done so
        self._last_call = self._last_tick = real_time.monotonic()
        self._alarm: datetime | None = None  # the moment that the clock's thread waits for
        self._stopping = False
        self._pool = _Threads(_THREADS)
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
            ],
        )
        self._server.add_generic_rpc_handlers((_handlers(self),))
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        # By its number, for a name may stand for several interfaces.
        interface = "127.0.0.1" if host == "localhost" else host
        try:
            self.port: int = self._server.add_insecure_port(f"{interface}:{port}")
        except RuntimeError:
            raise DurableTestError(
                f"The hub cannot be served on {host}:{port}, for that port is taken or not permitted, or "
                "this machine has no such interface: choose another port, or 0 for any that is free."
            ) from None
        self.address = f"{host}:{self.port}"
        self._take_over()
        self._clock = threading.Thread(target=self._run_clock, name="dt-testkit-clock", daemon=True)
        self._server.start()
        self._clock.start()

    def _take_over(self) -> None:
        """The hub's work is for the workers from now on, for the code is with them."""
        hub = self.hub
        self._check_replay, hub._check_replay = hub._check_replay, "never"
        for instance in hub._instances.values():
            instance._execution = None
            if instance._rejected is not None:  # by the versioning options of the hub
                instance._rejected = None
                hub._enqueue(instance)
        hub._look_again()  # at what its filters have left out
        for work in hub._queue:
            self._queues[type(work)].append(work)
        hub._queue.clear()

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
        hub = self.hub
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            for stream in list(self._streams):
                self._disconnect(stream)
            hub._server, hub._check_replay = None, self._check_replay
            for queue in self._queues.values():
                hub._queue.extend(queue)
                queue.clear()
            self._progress.notify_all()
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.event.set()
        self._server.stop(_GRACE).wait()  # all calls end by themselves, now that nobody waits any more
        self._pool.shutdown(wait=False)
        self._clock.join()

    # -- handing out

    def put(self, work: _Work) -> None:
        """Take work of the hub, to hand it out; the caller holds the lock."""
        if work in self._in_flight:
            work._queued = False  # type: ignore[union-attr]  # it is put in again when that is done
        else:
            self._queues[type(work)].append(work)
            self._tell_if_untaken(work)
            self._wake_workers()
        self.called()

    def _tell_if_untaken(self, work: _Work) -> None:
        if not self._streams or any(stream.lets_through(work) for stream in self._streams):
            return
        if (name := _name_of(work)) not in self._untaken:
            self._untaken.add(name)
            _LOGGER.info("No worker that is connected takes %s: look at their filters.", name)

    def work_items(self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The stream of work to one worker, until it goes."""
        stream = _Stream(request)
        with self._lock:
            if not self._stopping:
                self._streams.append(stream)
                _LOGGER.info("A worker has connected: there are %d now.", len(self._streams))
                for work in chain(*self._queues.values()):
                    self._tell_if_untaken(work)
                self._changed()
            else:
                stream.open = False
        if not context.add_callback(partial(self._disconnect, stream)):
            self._disconnect(stream)
        while (item := self._next_item(stream)) is not None:
            yield item
        context.abort(grpc.StatusCode.UNAVAILABLE, "The hub is served no longer.")

    def _next_item(self, stream: _Stream) -> bytes | None:
        ping_at = real_time.monotonic() + _PING
        while True:
            with self._lock:
                if not stream.open:
                    return None
                self.tick()
                item = self._take(stream)
                if item is not None:
                    return item
                if self._is_idle():  # what was in the queue has come to nothing
                    self._progress.notify_all()
                now = real_time.monotonic()
                if now >= ping_at:
                    return _HEALTH_PING
                stream.asleep = True
            stream.sleep(min(ping_at, stream.next_offer(now)) - now)

    def _disconnect(self, stream: _Stream) -> None:
        """A worker is gone: what it held is handed out again."""
        with self._lock:
            if stream.open:
                stream.open = False
                with self._changing():
                    self._take_back_all(stream)

    def _take_back_all(self, stream: _Stream) -> None:
        self._streams.remove(stream)
        tokens = [token for token, held in self._held.items() if held.stream is stream]
        for token in tokens:
            self._put_back(token)
        _LOGGER.info(
            "A worker has gone: there are %d now, and %d items of its work are handed out again.",
            len(self._streams),
            len(tokens),
        )
        stream.wake()  # its own thread is to end

    def _take(self, stream: _Stream) -> bytes | None:
        """The first work that a worker takes, now its own."""
        for kind, queue in self._queues.items():
            kept = []
            try:
                while queue and (kind is Entity or stream.has_room(kind)):
                    work = queue.popleft()
                    if isinstance(work, Entity) and self._only_locks(work):
                        self.hub._begin_batch(work)
                    elif not (stream.has_room(kind) and stream.takes(work)):
                        kept.append(work)
                    elif (item := self._begin(stream, work)) is not None:
                        return item
            finally:
                queue.extendleft(reversed(kept))
        return None

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
            past = work._encoded.first(len(events) - len(new))
            item = wire.turn(work, past, work._encoded.send(new), token)
            self._turns += 1
        elif isinstance(work, Entity):
            batch = hub._begin_batch(work)
            if batch is None:
                return None
            item = wire.batch(work, batch, token)
            self._turns += 1
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
        if held is not None:
            self._in_flight.discard(held.work)
            held.stream.busy[type(held.work)] -= 1
        return held

    def _put_back(self, token: str, *, given_back: bool = False) -> None:
        hub, held = self.hub, self._release(token)
        if held is None:
            return
        work = held.work
        if given_back:
            held.stream.give_back(work)
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
    def answer(self, token: str, kind: type) -> Iterator[_Held | None]:
        """A worker answers: hand over what it held; None if it is too late. The caller holds the lock."""
        held = self._held.get(token)
        if held is None or type(held.work) is not kind:
            _LOGGER.info("An answer of a worker comes too late, and is dropped.")
            yield None
            return
        self._release(token)
        work = held.work
        for stream in self._streams:
            stream.forget(work)
        try:
            yield held
        finally:
            if isinstance(work, Instance):
                if work._inbox:
                    self.hub._enqueue(work)
                self._tell(work.instance_id)
            elif isinstance(work, Entity) and work._waiting:
                self.hub._enqueue_entity(work)

    # -- changes

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the hub, and let everybody look at what has become of it."""
        asleep: list[_Stream] = []
        try:
            with self._lock:
                self.tick()
                outer, self._inside = self._inside, True
                try:
                    yield
                finally:
                    self._changed()
                    self._inside = outer
                    if self._is_work:
                        self._is_work, asleep = False, list(self._streams)
        finally:  # whoever is woken while another holds the lock only goes to sleep again
            for stream in asleep:
                stream.wake()

    def _wake_workers(self) -> None:
        """There may be something to hand out; the caller holds the lock."""
        if self._inside:
            self._is_work = True
        else:
            for stream in self._streams:
                stream.wake()

    def _changed(self) -> None:
        if self._stopping:  # the hub is its own again
            return
        outer, self._inside = self._inside, True
        self.hub._deliver_due()
        self._inside = outer
        if any(self._queues.values()):  # there may be room again, or another may take what was given back
            self._wake_workers()
        if self._is_idle() or self._has_earlier_alarm():
            self._progress.notify_all()

    def called(self) -> None:
        """Somebody asks for something new, in process if it is not the server; the caller holds the lock."""
        if not self._inside:
            self._last_call = real_time.monotonic()
            self._progress.notify_all()

    # -- time

    def tick(self) -> None:
        """Bring the clock up to the time that has passed, where it is real; the caller holds the lock."""
        if self._time == "real" and not self._stopping:
            now = real_time.monotonic()
            self.hub._set_clock(self.hub._now + timedelta(seconds=now - self._last_tick))
            self._last_tick = now

    def now(self) -> datetime:
        """What the clock shows at this moment."""
        with self._lock:
            self.tick()
            return self.hub._now

    def _has_earlier_alarm(self) -> bool:
        agenda = self.hub._agenda
        if self._time != "real" or not agenda:
            return False
        return self._alarm is None or agenda[0].moment < self._alarm

    def _is_idle(self) -> bool:
        """Whether nothing is in flight, and nothing that is due could be."""
        if self._held:
            return False
        if not any(self._queues.values()):
            return True
        if not self._streams:
            return False
        return not any(
            (isinstance(work, Entity) and self._only_locks(work))
            or any(stream.will_do(work) for stream in self._streams)
            for queue in self._queues.values()
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
            self.tick()
            self._changed()
            self._alarm = hub._agenda[0].moment if hub._agenda else None
            if self._alarm is None:
                return None
            return min(max(0.0, (self._alarm - hub._now).total_seconds()), _LONGEST_WAIT)
        while self._is_idle() and not self._drivers:
            if not self._waiters:
                if self._patience is None:
                    return None
                quiet = real_time.monotonic() - self._last_call
                if quiet < self._patience:
                    return min(self._patience - quiet, _LONGEST_WAIT)
            if not hub._next_due(None):
                return None
            self._changed()
        return None

    # -- clients

    @contextmanager
    def call(self, *, is_new: bool) -> Iterator[None]:
        """Answer a call; ``is_new`` where it asks the hub for something, and does not only look."""
        with self._changing():
            self._refuse_when_stopped()
            yield
            if is_new:
                self._last_call = real_time.monotonic()

    def _refuse_when_stopped(self) -> None:
        if self._stopping:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "The hub is served no longer.")

    def wait(
        self,
        instance_id: str,
        look: Callable[[], pb.GetInstanceResponse | None],
        context: grpc.ServicerContext,
    ) -> pb.GetInstanceResponse | None:
        """Wait until an instance has something to show, for as long as the caller does; None if not."""
        waiter = _Waiter(look)
        with self._lock:
            if (found := look()) is not None:
                return found
            self._refuse_when_stopped()
            # Threads are kept for those who are not waiting: without them, nobody would wait to any end.
            if sum(map(len, self._waiters.values())) >= _MOST_WAITING:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{_MOST_WAITING} calls wait for instances already: wait for fewer at once.",
                )
            self._waiters.setdefault(instance_id, []).append(waiter)
            self._progress.notify_all()
        if context.add_callback(waiter.event.set):
            waiter.event.wait(context.time_remaining())
        with self._lock:
            self._remove(instance_id, waiter)
            # What it does next, it does at this moment of virtual time.
            self._last_call = real_time.monotonic()
            if waiter.found is None:
                self._refuse_when_stopped()
            return waiter.found

    def _tell(self, instance_id: str) -> None:
        """An instance has moved: who waits for that need not wait any more, and time not pass for them."""
        for waiter in list(self._waiters.get(instance_id, ())):
            waiter.found = waiter.look()
            if waiter.found is not None:
                self._remove(instance_id, waiter)
                waiter.event.set()
                self._last_call = real_time.monotonic()

    def _remove(self, instance_id: str, waiter: _Waiter) -> None:
        waiters = self._waiters.get(instance_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[instance_id]

    # -- who drives the hub in process

    def settle(self, max_turns: int) -> int:
        """Wait until the workers have done all that is due now; the caller holds the lock.

        Returns how many turns they have taken.
        """
        begun = self._turns
        deadline = real_time.monotonic() + _NO_WORKER
        self._drivers += 1
        try:
            while not (self._stopping or self._is_idle()):
                now = real_time.monotonic()
                if self._turns - begun > max_turns:
                    raise OrchestrationNotFinished(
                        f"The limit of turns was reached at {self.hub._now}, and the workers still have work "
                        "to do: let an eternal orchestration run with start() and advance(), or raise "
                        "max_turns."
                    )
                if self._streams:
                    deadline = now + _NO_WORKER
                elif now >= deadline:
                    raise OrchestrationBlocked(
                        f"No worker is connected to {self.address}, and work waits for one: start it, with "
                        "this address as its host_address."
                    )
                self._progress.wait(min(1.0, deadline - now))
        finally:
            self._drivers -= 1
            self.called()
        return self._turns - begun

    def blocked(self, instance: Instance) -> list[str]:
        """Why an instance does not move, for people."""
        title = f"Instance '{instance.instance_id}' ({instance.name})"
        if instance.status is OrchestrationStatus.SUSPENDED:
            return [f"{title} is suspended: resume() it."]
        queued = [_name_of(work) for queue in self._queues.values() for work in queue]
        if queued:
            more = f" and {len(queued) - 5} more" if len(queued) > 5 else ""
            return [
                f"{title} does not move, and no worker at {self.address} takes "
                f"{', '.join(queued[:5])}{more}: look at their filters and versions."
            ]
        return [
            f"{title} does not move, and no worker at {self.address} has anything to do: its history shows "
            "what it has asked for."
        ]


def _name_of(work: _Work) -> str:
    if isinstance(work, Instance):
        return f"instance '{work.instance_id}' ({work.name})"
    return f"entity {work._id}" if isinstance(work, Entity) else f"activity '{work.command.name}'"


class _Threads(futures.Executor):
    """Threads for calls, made as they are needed. A process that ends does not wait for them.

    It waits for those of a ``ThreadPoolExecutor``, and one that serves a worker never ends by itself.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = self._idle = 0

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> futures.Future[_T]:
        future: futures.Future[_T] = futures.Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._most:
                thread = threading.Thread(target=self._work, name="dt-testkit-server", daemon=True)
                with suppress(RuntimeError):  # the process is about to end, and the call with it
                    thread.start()
                    self._threads += 1
            self._tasks.put(run)
        return future

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            with self._lock:
                self._idle += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            for _ in range(self._threads):
                self._tasks.put(None)


class _Waiter:
    """A client that waits for an instance."""

    def __init__(self, look: Callable[[], pb.GetInstanceResponse | None]) -> None:
        self.look = look
        self.found: pb.GetInstanceResponse | None = None
        self.event = threading.Event()


_HEALTH_PING = pb.WorkItem(healthPing=pb.HealthPing()).SerializeToString()


class _ServedHub(HubService):
    """The service on the wire, for one call: the client's methods, and those of workers beside them."""

    def __init__(self, server: HubServer, context: grpc.ServicerContext) -> None:
        super().__init__(server.hub)
        self._server = server
        self._context = context

    def _wait(
        self, request: pb.GetInstanceRequest, timeout: float | None, done: Callable[[Instance], bool]
    ) -> pb.GetInstanceResponse:
        hub, instance_id = self._hub, request.instanceId
        instance: Instance | None = None

        def look() -> pb.GetInstanceResponse | None:
            nonlocal instance
            # By id, for it may be started later, and another may take its place.
            instance = hub._instances.get(instance_id, instance)
            if instance is None or not done(instance):
                return None
            return found_state(instance, request.getInputsAndOutputs)

        found = self._server.wait(instance_id, look, self._context)
        if found is None:
            with hub._lock:
                is_now = f"Instance '{instance_id}' is {instance.status.name}" if instance else ""
                raise Refused(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"After {timeout} s: {is_now or hub._not_there(instance_id)}",
                )
        return found

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, timeout: float | None
    ) -> pb.CompleteTaskResponse:
        server, token = self._server, request.completionToken
        if request.isPartial:
            if token in server._held:
                server._held[token].actions.extend(request.actions)
            return pb.CompleteTaskResponse()
        with server.answer(token, Instance) as held:
            if held is not None and isinstance(held.work, Instance) and held.work.status not in TERMINAL:
                held.actions.extend(request.actions)
                self._end_turn(held.work, held, request)
        return pb.CompleteTaskResponse()

    def _end_turn(self, instance: Instance, held: _Held, request: pb.OrchestratorResponse) -> None:
        suspended = _is_suspended(instance, held.new)
        custom_status = request.customStatus.value if request.HasField("customStatus") else None
        try:
            commands = wire.commands(instance.instance_id, held.actions)
            self._hub._end_turn(instance, commands, custom_status, suspended=suspended)
        except Exception as error:  # what no hub can do ends the instance, for it would never go on
            if instance.status in TERMINAL:
                raise
            failed = Complete(-1, OrchestrationStatus.FAILED, failure=failure_of(error))
            self._hub._end_turn(instance, [failed], custom_status, suspended=False)

    def CompleteActivityTask(
        self, request: pb.ActivityResponse, timeout: float | None
    ) -> pb.CompleteTaskResponse:
        hub = self._hub
        with self._server.answer(request.completionToken, ActivityWork) as held:
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
        with self._server.answer(request.completionToken, Entity) as held:
            if held is not None and isinstance(held.work, Entity):
                entity = held.work
                batch = entity._running or []
                try:
                    result = wire.batch_result(request, len(batch))
                except Exception as error:
                    result = BatchResult([failure_of(error)] * len(batch), entity._state, [])
                # What the worker did not get to, and does not call a failure, is still to be done.
                entity._waiting.extendleft(reversed(batch[len(result.results) :]))
                self._hub._end_batch(entity, result)
        return pb.CompleteTaskResponse()

    def AbandonTaskOrchestratorWorkItem(
        self, request: pb.AbandonOrchestrationTaskRequest, timeout: float | None
    ) -> pb.AbandonOrchestrationTaskResponse:
        self._server._put_back(request.completionToken, given_back=True)
        return pb.AbandonOrchestrationTaskResponse()

    def AbandonTaskActivityWorkItem(
        self, request: pb.AbandonActivityTaskRequest, timeout: float | None
    ) -> pb.AbandonActivityTaskResponse:
        self._server._put_back(request.completionToken, given_back=True)
        return pb.AbandonActivityTaskResponse()

    def AbandonTaskEntityWorkItem(
        self, request: pb.AbandonEntityTaskRequest, timeout: float | None
    ) -> pb.AbandonEntityTaskResponse:
        self._server._put_back(request.completionToken, given_back=True)
        return pb.AbandonEntityTaskResponse()


def _is_suspended(instance: Instance, new: list[h.HistoryEvent]) -> bool:
    """Whether an instance is suspended after the turn that a worker was given."""
    suspended = instance.status is OrchestrationStatus.SUSPENDED
    for event in new:
        if isinstance(event, h.ExecutionSuspendedEvent):
            suspended = True
        elif isinstance(event, h.ExecutionResumedEvent):
            suspended = False
    return suspended


# They let go of the lock while they wait.
_WAITS = frozenset({"WaitForInstanceStart", "WaitForInstanceCompletion"})
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


def _handlers(server: HubServer) -> grpc.GenericRpcHandler:
    """The methods of the protocol's service, as grpc wants them."""
    descriptor = pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"]
    methods = {}
    behavior: Any
    for method in descriptor.methods:
        if method.name == "GetWorkItems":
            behavior = server.work_items
        elif hasattr(_ServedHub, method.name):
            behavior = _behavior(server, method.name)
        else:
            continue
        make = grpc.unary_unary_rpc_method_handler
        if method.server_streaming:
            make = grpc.unary_stream_rpc_method_handler
        request_class = message_factory.GetMessageClass(method.input_type)
        methods[method.name] = make(
            behavior, request_deserializer=request_class.FromString, response_serializer=_serialize
        )
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _behavior(server: HubServer, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        method = getattr(_ServedHub(server, context), name)
        try:
            if name in _WAITS:
                return method(request, context.time_remaining())
            with server.call(is_new=name in _CALLS):
                return method(request, None)
        except Refused as refused:
            context.abort(refused.code(), refused.details())
        except DurableTestError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))

    return behave
