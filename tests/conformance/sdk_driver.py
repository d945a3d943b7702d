"""Programs on the SDK's own executor, and what it did in a form that can be compared.

Two ways lead from a program to the SDK:

* :func:`executor_turns` takes a recorded history apart and hands each turn to the executor, as a backend
  would: all events before it, and what came in. What the executor answers is what should have been recorded.
* :class:`SdkBackend` is a backend of its own, with its own clock, queues, entities and locks, that knows
  nothing of the hub. It runs whole programs on the SDK's executors and so makes histories that no hub has
  seen. Given a ``Random``, it also hands out what is due in an order of its own.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.internal.exceptions import AbandonOrchestrationError
from durabletask.serialization import JsonDataConverter
from durabletask.worker import TaskHubGrpcWorker
from durabletask.worker import _ActivityExecutor as ActivityExecutor
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from programs import ACTIVITIES, ENTITIES, ORCHESTRATORS, SLOW_SECONDS

from dt_testkit.history.codec import events_from_protobuf, events_to_protobuf, failure_to_protobuf
from dt_testkit.sdk import OrchestrationExecutor, Registry, failure_details_from_protobuf, failure_of, pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from programs import Action, Program

    from dt_testkit import History

_SILENT = logging.Logger("conformance", logging.CRITICAL + 1)
_CONVERTER = JsonDataConverter()
_TERMINAL = ("COMPLETED", "FAILED", "TERMINATED")
_RECORDS = (
    h.TaskScheduledEvent,
    h.TimerCreatedEvent,
    h.SubOrchestrationInstanceCreatedEvent,
    h.EventSentEvent,
    h.EntityOperationCalledEvent,
    h.EntityOperationSignaledEvent,
    h.EntityLockRequestedEvent,
    h.EntityUnlockSentEvent,
)
_BOOKENDS = (h.OrchestratorCompletedEvent, h.ExecutionCompletedEvent)


class _VirtualDatetime(datetime):
    context: Any = None

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.context.current_utc_datetime.replace(tzinfo=tz)


@contextmanager
def virtual_clock() -> Iterator[None]:
    """Let the SDK measure ``retry_timeout`` by the orchestration's clock, as dt_testkit does.

    By the wall clock, which it uses, the outcome of a replay depends on the day it is made.
    """
    process = OrchestrationExecutor.process_event

    def watched(self: OrchestrationExecutor, ctx: Any, event: pb.HistoryEvent) -> None:
        _VirtualDatetime.context = ctx
        process(self, ctx, event)

    with (
        patch.object(task, "datetime", _VirtualDatetime),
        patch.object(OrchestrationExecutor, "process_event", watched),
    ):
        yield


def registry_of(namespace: dict[str, Any], versioning: Any = None) -> Any:
    """What a worker has that runs a program."""
    registry: Any = Registry()
    for name in ORCHESTRATORS:
        registry.add_orchestrator(namespace[name])
    for name in ACTIVITIES:
        registry.add_activity(namespace[name])
    for name in ENTITIES:
        registry.add_entity(namespace[name])
    registry.versioning = versioning
    return registry


def execute(
    instance_id: str,
    old: Sequence[pb.HistoryEvent],
    new: Sequence[pb.HistoryEvent],
    registry: Any,
    chunk: timedelta | None,
) -> tuple[list[pb.OrchestratorAction], str | None]:
    """One turn on the SDK's executor, and the worker's answer where that raises: actions, custom status."""
    executor = OrchestrationExecutor(registry, _SILENT, _CONVERTER, maximum_timer_interval=chunk)
    try:
        result = executor.execute(instance_id, old, new)
    except AbandonOrchestrationError:
        raise
    except Exception as error:  # as in TaskHubGrpcWorker._execute_orchestrator
        failed = pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED,
            failureDetails=failure_to_protobuf(failure_of(error)),
        )
        return [pb.OrchestratorAction(id=-1, completeOrchestration=failed)], None
    return result.actions, result.encoded_custom_status


# -- (a) turn by turn over a recorded history


class Turn(NamedTuple):
    """One turn: what was recorded of it, and what the executor answers to its events."""

    recorded: list[tuple[Any, ...]]
    answered: list[tuple[Any, ...]]
    custom_status: str | None


def executor_turns(history: History, registry: Any, chunk: timedelta | None) -> Iterator[Turn]:
    events = history.events
    if not events:
        return
    starts = [i for i, event in enumerate(events) if isinstance(event, h.OrchestratorStartedEvent)]
    ended = events[-1] if isinstance(events[-1], h.ExecutionCompletedEvent) else None
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        turn = events[start:end]
        new = [e for e in turn if not isinstance(e, (*_RECORDS, *_BOOKENDS))]
        recorded = [recorded_step(e) for e in turn if isinstance(e, _RECORDS)]
        if end == len(events) and ended is not None:
            recorded.append(recorded_end(ended))
        past, came_in = events_to_protobuf(events[:start]), events_to_protobuf(new)
        actions, custom_status = execute(history.instance_id, past, came_in, registry, chunk)
        # A history has the end after all commands; in the answer, commands may follow it.
        actions = sorted(actions, key=lambda action: action.HasField("completeOrchestration"))
        yield Turn(recorded, [answered_step(action) for action in actions], custom_status)


# Payloads are compared with "" as None: an operation that is retried without an input is sent with "" by the
# worker, and with None by dt_testkit, as the first time. Activities and orchestrators are given None by both.
def recorded_step(event: Any) -> tuple[Any, ...]:
    if isinstance(event, h.TaskScheduledEvent):
        return "activity", event.event_id, event.name, event.input or None, event.tags or {}
    if isinstance(event, h.TimerCreatedEvent):
        return "timer", event.event_id, event.fire_at.replace(tzinfo=None)
    if isinstance(event, h.SubOrchestrationInstanceCreatedEvent):
        return "sub", event.event_id, event.name, event.instance_id, event.input or None, event.version
    if isinstance(event, h.EntityOperationCalledEvent):
        target = event.target_instance_id
        return "call", event.event_id, event.request_id, target, event.operation, event.input or None
    if isinstance(event, h.EntityOperationSignaledEvent):
        when = event.scheduled_time.replace(tzinfo=None) if event.scheduled_time is not None else None
        target = event.target_instance_id
        return "signal", event.event_id, event.request_id, target, event.operation, event.input or None, when
    if isinstance(event, h.EntityLockRequestedEvent):
        return "lock", event.event_id, event.critical_section_id, event.lock_set, event.position
    if isinstance(event, h.EntityUnlockSentEvent):
        return "unlock", event.event_id, event.critical_section_id, event.target_instance_id
    return "send", event.event_id, event.instance_id, event.name, event.input


def recorded_end(event: h.ExecutionCompletedEvent) -> tuple[Any, ...]:
    # What carries over is not recorded with the end: the comparison with SdkBackend sees it.
    return "end", event.orchestration_status, event.result or None, failure(event.failure_details)


def answered_step(action: pb.OrchestratorAction) -> tuple[Any, ...]:
    if action.HasField("scheduleTask"):
        activity = action.scheduleTask
        return "activity", action.id, activity.name, activity.input.value or None, dict(activity.tags)
    if action.HasField("createTimer"):
        return "timer", action.id, action.createTimer.fireAt.ToDatetime()
    if action.HasField("createSubOrchestration"):
        sub = action.createSubOrchestration
        version = optional(sub, "version")
        return "sub", action.id, sub.name, sub.instanceId, sub.input.value or None, version
    if action.HasField("sendEvent"):
        send = action.sendEvent
        return "send", action.id, send.instance.instanceId, send.name, optional(send, "data")
    if action.HasField("sendEntityMessage"):
        return _answered_entity_step(action.id, action.sendEntityMessage)
    end = action.completeOrchestration
    details = failure_details_from_protobuf(end.failureDetails) if end.HasField("failureDetails") else None
    return "end", end.orchestrationStatus, optional(end, "result") or None, failure(details)


def _answered_entity_step(id: int, message: Any) -> tuple[Any, ...]:
    arm = message.WhichOneof("EntityMessageType")
    asked = getattr(message, arm)
    if arm == "entityLockRequested":
        return "lock", id, asked.criticalSectionId, list(asked.lockSet), asked.position
    target = asked.targetInstanceId.value
    if arm == "entityUnlockSent":
        return "unlock", id, asked.criticalSectionId, target
    if arm == "entityOperationCalled":
        return "call", id, asked.requestId, target, asked.operation, asked.input.value or None
    when = asked.scheduledTime.ToDatetime() if asked.HasField("scheduledTime") else None
    return "signal", id, asked.requestId, target, asked.operation, asked.input.value or None, when


def optional(message: Any, name: str) -> str | None:
    return getattr(message, name).value if message.HasField(name) else None


def failure(details: task.FailureDetails | None) -> Any:
    """A failure without its stack trace, which names files of whoever ran the code."""
    if details is None:
        return None
    return details.error_type, details.message, failure(getattr(details, "inner_failure", None))


def comparable(item: Any) -> Any:
    """An event, whole, but for what is inherently different: stack traces, and "" for no input or no tags."""
    if isinstance(item, task.FailureDetails):
        return failure(item)
    if is_dataclass(item):
        values = {f.name: comparable(getattr(item, f.name)) for f in fields(item)}
        return type(item).__name__, {
            name: value for name, value in values.items() if value not in (None, "", {})
        }
    return item


# -- (b) a backend that knows nothing of the hub


@dataclass(eq=False)
class Life:
    """One orchestration instance in an :class:`SdkBackend`."""

    instance_id: str
    name: str
    version: str | None
    parent: tuple[Life, int, int] | None = None  # the instance, its generation, the task that waits
    tags: dict[str, str] | None = None
    generations: list[list[pb.HistoryEvent]] = field(default_factory=lambda: [[]])
    inbox: list[pb.HistoryEvent] = field(default_factory=list)
    started: pb.HistoryEvent | None = None
    status: str = "PENDING"
    result: str | None = None
    failure: Any = None
    custom_status: str | None = None
    turned_down: bool = False

    @property
    def histories(self) -> list[list[h.HistoryEvent]]:
        return [events_from_protobuf(events) for events in self.generations]


class Wish(NamedTuple):
    """A critical section that an instance wants to enter: it has got the first ``got`` of the entities."""

    life: Life
    generation: int
    section: str
    entities: list[str]
    got: int = 0


class Operation(NamedTuple):
    """An operation that an entity is to do; a signal comes from no life."""

    event: pb.HistoryEvent
    life: Life | None = None
    generation: int = 0


@dataclass
class Being:
    """One entity in an :class:`SdkBackend`: who stands in line, and who is alone with it."""

    entity_id: str
    changed: datetime
    state: str | None = None
    line: list[Operation | Wish] = field(default_factory=list)
    owner: Wish | None = None
    awake: bool = False

    def ready(self) -> list[Operation]:
        """The operations that can be done now, in order."""
        owner = self.owner
        if owner is not None:
            operations = [one for one in self.line if isinstance(one, Operation)]
            return [one for one in operations if (one.life, one.generation) == (owner.life, owner.generation)]
        wishes = (i for i, one in enumerate(self.line) if isinstance(one, Wish))
        return self.line[: next(wishes, len(self.line))]  # type: ignore[return-value]


class SdkBackend:
    """Runs a program on the SDK's executors, one thing after the other, in its own virtual time.

    Without ``shuffle``, things happen first come, first served. With it, any of the things that are due may
    be next, and any part of what has come in for an instance may make a turn, as with a real scheduler.

    An entity serves whoever is in line for it, first come first served. Who waits for several locks stands in
    the line of the first entity, then of the second, and so on. While somebody is alone with an entity, it
    does what that one asks and lets all others wait. It looks at its line when something new is in it, when
    it is left alone again, and again after each thing it did, as long as there is a line.
    """

    def __init__(self, program: Program, shuffle: Random | None = None) -> None:
        self.namespace = program.load()
        self.registry = registry_of(self.namespace, eval(program.versioning or "None", self.namespace))
        self.chunk = program.chunk
        self.lives: dict[str, Life] = {}
        self.beings: dict[str, Being] = {}
        self.replaced: list[Life] = []
        self._shuffle = shuffle
        self._now = datetime(2026, 1, 1)
        self._ready: deque[Callable[[], None]] = deque()
        self._waiting_for_turn: set[int] = set()
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []
        self._serial = count()
        self._activities = ActivityExecutor(self.registry, _SILENT, _CONVERTER)
        with virtual_clock():
            self._play(program)

    def _play(self, program: Program) -> None:
        tops = {"first": Life("root", "root", "1.0", tags={"a": "b"})}
        if program.rival:
            tops["second"] = Life("rival", "rival", None)
        for life in tops.values():
            self._create(life, str(program.left))
        for action in program.early:
            self._act(tops, action)
        self._run_until(self._now)
        for moment in program.moments:
            self._run_until(self._now + timedelta(seconds=moment.after_seconds))
            for action in moment.actions:
                self._act(tops, action)
            self._run_until(self._now)
        self._run_until(self._now + timedelta(hours=1))

    def _run_until(self, moment: datetime) -> None:
        while True:
            while self._ready:
                if self._shuffle is not None:
                    self._ready.rotate(self._shuffle.randrange(len(self._ready)))
                self._ready.popleft()()
            if not self._later or self._later[0][0] > moment:
                break
            self._now = self._later[0][0]
            while self._later and self._later[0][0] <= self._now:
                heapq.heappop(self._later)[2]()
        self._now = moment

    def _act(self, tops: dict[str, Life], action: Action) -> None:
        arguments = eval(f"({action.arguments},)" if action.arguments else "()", self.namespace)
        if action.verb == "use_versioning":
            (self.registry.versioning,) = arguments
            for life in self.lives.values():
                if life.turned_down:
                    self._wake(life)
            return
        if action.verb == "signal_entity":
            entity_id, operation, input, *time = arguments
            body = pb.EntityOperationSignaledEvent(
                requestId="from a client", operation=operation, input=_value(_CONVERTER.serialize(input))
            )
            event = self._event("entityOperationSignaled", body)
            self._being(str(entity_id))  # a client makes it at once
            self._signal(str(entity_id), event, time[0] if time else self._now)
            return
        target = tops.get(action.target) or list(self.lives.values())[-1]
        if target.status in _TERMINAL:
            return
        if action.verb == "raise_event":
            name, data = arguments
            self._raise(target, name, _CONVERTER.serialize(data))
        elif action.verb == "terminate":
            self._terminate(target, _CONVERTER.serialize(*arguments))
        elif action.verb == "suspend" and target.status != "SUSPENDED":
            self._come_in(target, self._event("executionSuspended", pb.ExecutionSuspendedEvent()))
        elif action.verb == "resume":
            self._come_in(target, self._event("executionResumed", pb.ExecutionResumedEvent()))

    def _raise(self, target: Life, name: str, data: str | None) -> None:
        event = self._event("eventRaised", pb.EventRaisedEvent(name=name, input=_value(data)))
        # An event does not wake a suspended instance: it comes with whatever does.
        self._come_in(target, event, wake=target.status != "SUSPENDED")

    def _terminate(self, life: Life, output: str | None) -> None:
        body = pb.ExecutionTerminatedEvent(input=_value(output), recurse=True)
        self._come_in(life, self._event("executionTerminated", body))
        for child in [*self.lives.values()]:
            if child.parent is not None and child.parent[0] is life and child.status not in _TERMINAL:
                self._terminate(child, output)

    # -- instances and what comes in for them

    def _create(self, life: Life, input: str | None) -> None:
        existing = self.lives.get(life.instance_id)
        if existing is not None:
            if existing.status not in _TERMINAL:
                raise ValueError(f"Orchestration instance '{life.instance_id}' already exists")
            self.replaced.append(self.lives.pop(life.instance_id))
        self.lives[life.instance_id] = life
        life.started = self._started(life, input)
        self._come_in(life, life.started)

    def _started(self, life: Life, input: str | None) -> pb.HistoryEvent:
        parent = None
        if life.parent is not None:
            caller, _, task_id = life.parent
            parent = pb.ParentInstanceInfo(
                taskScheduledId=task_id,
                name=_value(caller.name),
                version=_value(caller.version),
                orchestrationInstance=pb.OrchestrationInstance(instanceId=caller.instance_id),
            )
        body = pb.ExecutionStartedEvent(
            name=life.name,
            version=_value(life.version),
            input=_value(input),
            orchestrationInstance=pb.OrchestrationInstance(instanceId=life.instance_id),
            parentInstance=parent,
            tags=life.tags,
        )
        return self._event("executionStarted", body)

    def _come_in(
        self, life: Life, event: pb.HistoryEvent, generation: int | None = None, *, wake: bool = True
    ) -> None:
        stale = generation is not None and generation != len(life.generations)
        if stale or life.status in _TERMINAL:
            return
        event.timestamp.CopyFrom(self._stamp())
        life.inbox.append(event)
        if wake:
            self._wake(life)

    def _wake(self, life: Life) -> None:
        if id(life) not in self._waiting_for_turn:
            self._waiting_for_turn.add(id(life))
            self._ready.append(lambda: self._turn(life))

    def _stamp(self) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(self._now)
        return stamp

    def _event(self, arm: str, body: Any, event_id: int = -1) -> pb.HistoryEvent:
        return pb.HistoryEvent(eventId=event_id, timestamp=self._stamp(), **{arm: body})

    # -- a turn

    def _turn(self, life: Life) -> None:
        self._waiting_for_turn.discard(id(life))
        if not life.inbox or life.status in _TERMINAL:
            return
        taken = len(life.inbox) if self._shuffle is None else self._shuffle.randint(1, len(life.inbox))
        new = [self._event("orchestratorStarted", pb.OrchestratorStartedEvent()), *life.inbox[:taken]]
        del life.inbox[:taken]
        if life.inbox:
            self._wake(life)
        past = life.generations[-1]
        try:
            actions, custom_status = execute(life.instance_id, past, new, self.registry, self.chunk)
        except AbandonOrchestrationError:  # it waits for another worker
            life.inbox[:0] = new[1:]
            life.turned_down = True
            return
        life.turned_down = False
        life.custom_status = custom_status
        past += new
        life.status = self._status_after(life, new)
        end = None
        for action in actions:
            if action.HasField("completeOrchestration"):
                end = action.completeOrchestration
            else:
                self._confirm_and_do(life, past, action)
        past.append(self._event("orchestratorCompleted", pb.OrchestratorCompletedEvent()))
        if end is not None:
            self._end(life, past, end)

    @staticmethod
    def _status_after(life: Life, new: Sequence[pb.HistoryEvent]) -> str:
        status = "RUNNING" if life.status == "PENDING" else life.status
        for event in new:
            if event.HasField("executionSuspended"):
                status = "SUSPENDED"
            elif event.HasField("executionResumed"):
                status = "RUNNING"
        return status

    def _confirm_and_do(self, life: Life, past: list[pb.HistoryEvent], action: pb.OrchestratorAction) -> None:
        generation = len(life.generations)

        def come_in(arm: str, body: Any) -> None:
            self._come_in(life, self._event(arm, body), generation)

        if action.HasField("scheduleTask"):
            asked = action.scheduleTask
            body: Any = pb.TaskScheduledEvent(name=asked.name, input=asked.input, tags=asked.tags)
            past.append(self._event("taskScheduled", body, action.id))
            self._ready.append(lambda: self._run_activity(life, action.id, asked, come_in))
        elif action.HasField("createTimer"):
            fire_at = action.createTimer.fireAt
            past.append(self._event("timerCreated", pb.TimerCreatedEvent(fireAt=fire_at), action.id))
            fired = pb.TimerFiredEvent(fireAt=fire_at, timerId=action.id)
            self._do_at(fire_at.ToDatetime(), lambda: come_in("timerFired", fired))
        elif action.HasField("createSubOrchestration"):
            sub = action.createSubOrchestration
            body = pb.SubOrchestrationInstanceCreatedEvent(
                instanceId=sub.instanceId, name=sub.name, input=sub.input
            )
            version = optional(sub, "version")
            if version is not None:
                body.version.value = version
            past.append(self._event("subOrchestrationInstanceCreated", body, action.id))
            child = Life(sub.instanceId, sub.name, version, (life, generation, action.id))
            try:
                self._create(child, optional(sub, "input"))
            except ValueError as error:
                self._sub_failed(come_in, action.id, failure_to_protobuf(failure_of(error)))
        elif action.HasField("sendEvent"):
            send = action.sendEvent
            body = pb.EventSentEvent(instanceId=send.instance.instanceId, name=send.name)
            data = optional(send, "data")
            if data is not None:
                body.input.value = data
            past.append(self._event("eventSent", body, action.id))
            target = self.lives.get(send.instance.instanceId)
            if target is not None:
                self._raise(target, send.name, data)

        elif action.HasField("sendEntityMessage"):
            self._confirm_and_do_entity(life, past, action.id, action.sendEntityMessage)

    # -- entities

    def _confirm_and_do_entity(
        self, life: Life, past: list[pb.HistoryEvent], id: int, message: pb.SendEntityMessageAction
    ) -> None:
        arm = message.WhichOneof("EntityMessageType")
        asked = getattr(message, arm)
        event = self._event(arm, asked, id)
        past.append(event)
        if arm == "entityLockRequested":
            wish = Wish(life, len(life.generations), asked.criticalSectionId, list(asked.lockSet))
            self._stand_in_line(wish.entities[0], wish)
        elif arm == "entityUnlockSent":
            section = life, len(life.generations), asked.criticalSectionId
            self._let_go(self._being(asked.targetInstanceId.value), section)
        elif arm == "entityOperationCalled":
            self._stand_in_line(asked.targetInstanceId.value, Operation(event, life, len(life.generations)))
        else:
            when = asked.scheduledTime.ToDatetime() if asked.HasField("scheduledTime") else self._now
            self._signal(asked.targetInstanceId.value, event, when)

    def _signal(self, entity_id: str, event: pb.HistoryEvent, when: datetime) -> None:
        if when > self._now:
            self._do_at(when, lambda: self._stand_in_line(entity_id, Operation(event)))
        else:
            self._stand_in_line(entity_id, Operation(event))

    def _being(self, entity_id: str) -> Being:
        return self.beings.setdefault(entity_id, Being(entity_id, self._now))

    def _stand_in_line(self, entity_id: str, one: Operation | Wish) -> None:
        being = self._being(entity_id)
        being.line.append(one)
        self._look(being)

    def _let_go(self, being: Being, section: tuple[Life, int, str]) -> None:
        if being.owner is not None and being.owner[:3] == section:
            being.owner = None
        being.line = [one for one in being.line if not (isinstance(one, Wish) and one[:3] == section)]
        self._look(being)

    def _look(self, being: Being) -> None:
        if not being.awake:
            being.awake = True
            self._ready.append(lambda: self._serve(being))

    def _serve(self, being: Being) -> None:
        being.awake = False
        ready = being.ready()
        if ready:
            if self._shuffle is not None:
                ready = ready[: self._shuffle.randint(1, len(ready))]
            being.line = [one for one in being.line if not any(one is taken for taken in ready)]
            self._do_operations(being, ready)
        elif being.owner is None and being.line:
            wish = being.line.pop(0)
            assert isinstance(wish, Wish)
            being.owner, being.changed = wish, self._now
            wish = wish._replace(got=wish.got + 1)
            if wish.got < len(wish.entities):
                self._stand_in_line(wish.entities[wish.got], wish)
            else:
                granted = pb.EntityLockGrantedEvent(criticalSectionId=wish.section)
                self._come_in(wish.life, self._event("entityLockGranted", granted), wish.generation)
        else:
            return
        if being.line:
            self._look(being)

    def _do_operations(self, being: Being, operations: list[Operation]) -> None:
        """Let the SDK's worker do some operations; answer who called, and do what they asked for."""
        request = pb.EntityRequest(
            instanceId=being.entity_id,
            entityState=_value(being.state),
            operationRequests=[one.event for one in operations],
        )
        worker: Any = SimpleNamespace(
            _registry=self.registry,
            _logger=_SILENT,
            _data_converter=_CONVERTER,
            _payload_store=None,
            _entity_method_cache=None,
            _emit_trace_spans=False,
            _exception_properties_provider=None,
        )
        stub = SimpleNamespace(CompleteEntityTask=lambda result: None)
        done = TaskHubGrpcWorker._execute_entity_batch(worker, request, stub, "token")
        being.state, being.changed = optional(done, "entityState") or None, self._now
        for one, info, result in zip(operations, done.operationInfos, done.results, strict=True):
            if one.life is None:
                continue
            if result.HasField("success"):
                body: Any = pb.EntityOperationCompletedEvent(
                    requestId=info.requestId, output=result.success.result
                )
                answer = self._event("entityOperationCompleted", body)
            else:
                body = pb.EntityOperationFailedEvent(
                    requestId=info.requestId, failureDetails=result.failure.failureDetails
                )
                answer = self._event("entityOperationFailed", body)
            self._come_in(one.life, answer, one.generation)
        for action in done.actions:
            if action.HasField("sendSignal"):
                send = action.sendSignal
                body = pb.EntityOperationSignaledEvent(
                    requestId="from an entity", operation=send.name, input=send.input
                )
                when = send.scheduledTime.ToDatetime() if send.HasField("scheduledTime") else self._now
                self._signal(send.instanceId, self._event("entityOperationSignaled", body), when)
            else:
                start = action.startNewOrchestration
                with suppress(ValueError):  # it runs already
                    self._create(Life(start.instanceId, start.name, None), optional(start, "input"))

    def _do_at(self, moment: datetime, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (max(moment, self._now), next(self._serial), what))

    def _run_activity(
        self, life: Life, task_id: int, asked: Any, come_in: Callable[[str, Any], None]
    ) -> None:
        arm = "taskCompleted"
        try:
            result = self._activities.execute(life.instance_id, asked.name, task_id, asked.input.value)
            body: Any = pb.TaskCompletedEvent(taskScheduledId=task_id, result=_value(result))
        except Exception as error:
            arm = "taskFailed"
            details = failure_to_protobuf(failure_of(error))
            body = pb.TaskFailedEvent(taskScheduledId=task_id, failureDetails=details)
        if asked.name == "slow":
            self._do_at(self._now + timedelta(seconds=SLOW_SECONDS), lambda: come_in(arm, body))
        else:
            come_in(arm, body)

    @staticmethod
    def _sub_failed(come_in: Callable[[str, Any], None], task_id: int, details: Any) -> None:
        body = pb.SubOrchestrationInstanceFailedEvent(taskScheduledId=task_id, failureDetails=details)
        come_in("subOrchestrationInstanceFailed", body)

    def _end(self, life: Life, past: list[pb.HistoryEvent], end: pb.CompleteOrchestrationAction) -> None:
        result = optional(end, "result")
        body = pb.ExecutionCompletedEvent(orchestrationStatus=end.orchestrationStatus, result=_value(result))
        if end.HasField("failureDetails"):
            body.failureDetails.CopyFrom(end.failureDetails)
        past.append(self._event("executionCompleted", body))
        status = OrchestrationStatus(end.orchestrationStatus).name
        if status == "CONTINUED_AS_NEW":
            life.status = "PENDING"
            if end.HasField("newVersion"):
                life.version = end.newVersion.value
            arrived, life.inbox = life.inbox, []
            life.generations.append([])
            life.started = _copy(life.started)
            life.started.executionStarted.input.value = result or ""
            if life.version is not None:
                life.started.executionStarted.version.value = life.version
            for event in (life.started, *map(_copy, end.carryoverEvents)):
                self._come_in(life, event)
            life.inbox += arrived
            return
        life.status, life.result = status, result
        if end.HasField("failureDetails"):
            life.failure = failure(failure_details_from_protobuf(end.failureDetails))
        if life.parent is None:
            return
        parent, generation, task_id = life.parent

        def come_in(arm: str, body: Any) -> None:
            self._come_in(parent, self._event(arm, body), generation)

        if status == "COMPLETED":
            done = pb.SubOrchestrationInstanceCompletedEvent(taskScheduledId=task_id, result=_value(result))
            come_in("subOrchestrationInstanceCompleted", done)
        elif end.HasField("failureDetails"):
            self._sub_failed(come_in, task_id, end.failureDetails)
        else:
            details = failure_to_protobuf(failure_of(Exception("Sub-orchestration failed")))
            self._sub_failed(come_in, task_id, details)


def _copy(event: Any) -> pb.HistoryEvent:
    copy = pb.HistoryEvent()
    copy.CopyFrom(event)
    return copy


def _value(text: str | None) -> StringValue | None:
    return None if text is None else StringValue(value=text)
