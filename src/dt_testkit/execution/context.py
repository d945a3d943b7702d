"""The context that an orchestrator is given: it notes what the orchestrator asks for, and does nothing.

Ids are one sequence per generation. Every command takes the next one, a timer that waits before a retry and
the completion included; waiting for an external event takes none. An operation that is open sits in
``_open`` under its id until its result arrives; the command that asks for it sits in ``_commands`` until the
turn ends (in a simulation) or until the event that confirms it is met (on replay).
"""

from __future__ import annotations

import hashlib
import math
import sys
import uuid
from datetime import datetime, timedelta, timezone
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId, EntityLock
from durabletask.history import EventRaisedEvent

from dt_testkit.errors import DurableTestError
from dt_testkit.execution.commands import (
    CallEntity,
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Location,
    LockEntities,
    Operation,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
    call_site,
)
from dt_testkit.sdk import (
    JsonEncodeOutputException,
    OrchestrationEntityContext,
    RuntimeOrchestrationContext,
    failure_of,
    new_timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dt_testkit.execution.commands import CallSite
    from dt_testkit.execution.options import WorkerOptions
    from dt_testkit.execution.payloads import Payloads

# The name space of the SDK's new_uuid(), part of the protocol: ids drawn here must be those drawn there.
_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875").bytes


class Open(NamedTuple):
    """An operation whose result has not arrived."""

    task: task.CompletableTask[Any]
    command: ScheduleActivity | CreateTimer | CallSubOrchestrator | CallEntity | LockEntities
    expected_type: Any


class Retry(NamedTuple):
    """What decides whether a failed operation is tried again."""

    policy: task.RetryPolicy
    started: datetime

    def delay(self, attempt: int, now: datetime) -> timedelta | None:
        """How long to wait after a failed attempt, or None to give up.

        The SDK measures ``retry_timeout`` by the wall clock, so that replaying an old history can decide
        otherwise than it did; here it is measured by the orchestration's own clock.
        """
        policy = self.policy
        if attempt >= policy.max_number_of_attempts:
            return None
        if policy.retry_timeout is not None and now >= self.started + policy.retry_timeout:
            return None
        coefficient = 1.0 if policy.backoff_coefficient is None else policy.backoff_coefficient
        seconds: float = math.pow(coefficient, attempt - 1) * policy.first_retry_interval.total_seconds()
        if policy.max_retry_interval is not None:
            seconds = min(seconds, policy.max_retry_interval.total_seconds())
        return timedelta(seconds=seconds)


class Waiter(NamedTuple):
    """A task that waits for an external event, and how many ids were taken when it began to."""

    task: task.CancellableTask[Any]
    name: str
    after_id: int
    site: CallSite


class FakeOrchestrationContext(task.OrchestrationContext):
    """The context handed to an orchestrator, in place of the worker's.

    It has every member of :class:`durabletask.task.OrchestrationContext`, and hands out the SDK's own tasks.
    What may be asked for inside a critical section is decided by the SDK's own record of it. It is made by an
    :class:`~dt_testkit.execution.Execution`, which feeds it; a test has no need to make one.
    """

    def __init__(self, instance_id: str, payloads: Payloads, options: WorkerOptions) -> None:
        self._instance_id = instance_id
        self._payloads = payloads
        self._options = options
        self._now = datetime(1000, 1, 1)
        self._version: str | None = None
        self._parent_instance_id: str | None = None
        self._replaying = False
        self._reads_replaying = False
        self._last_id = 0
        self._uuid_count = 0
        self._commands: dict[int, Command] = {}
        self._open: dict[int, Open] = {}
        self._retries: dict[int, Retry] = {}
        self._retry_timers: dict[int, Open] = {}
        self._chunked_timers: dict[int, datetime] = {}
        self._parts: dict[int, int] = {}  # of chunked timers: the first one of each that follows it
        self._received: dict[str, list[tuple[int, str | None]]] = {}
        self._received_count = 0
        self._waiting: dict[str, list[Waiter]] = {}
        self._functions: dict[str, Any] = {}
        self._custom_status: str | None = None
        self._status: OrchestrationStatus | None = None
        self._new_input: Any = None
        self._save_events = False
        self._new_version: str | None = None
        self._uses_retry_timeout = False
        self._critical: OrchestrationEntityContext | None = None
        self._entity_requests: dict[str, tuple[EntityInstanceId, str, int]] = {}
        self._lock_requests: dict[str, int] = {}

    # -- what the orchestrator reads

    @property
    def instance_id(self) -> str:
        return self._instance_id

    @property
    def parent_instance_id(self) -> str | None:
        return self._parent_instance_id

    @property
    def version(self) -> str | None:
        return self._version

    @property
    def current_utc_datetime(self) -> datetime:
        return self._now

    @property
    def is_replaying(self) -> bool:
        self._reads_replaying = True
        return self._replaying

    def new_uuid(self) -> str:
        name = f"{self._instance_id}_{self._now.isoformat(timespec='microseconds')}Z_{self._uuid_count}"
        self._uuid_count += 1
        # uuid.uuid5(_UUID_NAMESPACE, name), which takes five times as long: every entity call draws one.
        digest = bytearray(hashlib.sha1(_UUID_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    # -- what it asks for

    def set_custom_status(self, custom_status: Any) -> None:
        self._custom_status = self._payloads.serialize(custom_status) if custom_status is not None else None

    def call_activity(
        self,
        activity: task.Activity[Any, Any] | str,
        *,
        input: Any = None,
        retry_policy: task.RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: type | None = None,
    ) -> task.CompletableTask[Any]:
        self._last_id = id = self._last_id + 1
        if isinstance(activity, str):
            name = activity
        else:
            if return_type is None:
                return_type = self._payloads.return_type(activity)
            name = task.get_name(activity)
            self._functions[name] = activity
        command = ScheduleActivity(
            id, name, self._payloads.serialize(input), tags, 1, call_site(sys._getframe(1))
        )
        return self._open_operation(command, return_type, retry_policy)

    def call_sub_orchestrator(
        self,
        orchestrator: task.Orchestrator[Any, Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: task.RetryPolicy | None = None,
        version: str | None = None,
        return_type: type | None = None,
    ) -> task.CompletableTask[Any]:
        self._last_id = id = self._last_id + 1
        if isinstance(orchestrator, str):
            name = orchestrator
        else:
            name = task.get_name(orchestrator)
            self._functions[name] = orchestrator
        encoded = self._payloads.serialize(input)
        if instance_id is None:
            instance_id = f"{self._instance_id}:{id:04x}"
        if not version:
            versioning = self._options.versioning
            version = versioning.default_version if versioning is not None else None
        command = CallSubOrchestrator(id, name, instance_id, encoded, version, 1, call_site(sys._getframe(1)))
        return self._open_operation(command, return_type, retry_policy)

    def _open_operation(
        self,
        command: ScheduleActivity | CallSubOrchestrator,
        expected_type: Any,
        retry_policy: task.RetryPolicy | None,
    ) -> task.CompletableTask[Any]:
        id = command.id
        future: task.CompletableTask[Any]
        if retry_policy is None:
            future = task.CompletableTask(expected_type)
        else:
            future = task.RetryableTask(
                retry_policy,
                cast("Any", command),
                self._now,
                isinstance(command, CallSubOrchestrator),
                expected_type,
            )
            self._retries[id] = Retry(retry_policy, self._now)
            self._uses_retry_timeout |= retry_policy.retry_timeout is not None
        self._commands[id] = command
        self._open[id] = Open(future, command, expected_type)
        return future

    def create_timer(self, fire_at: datetime | timedelta) -> task.TimerTask:
        return self._start_timer(fire_at, call_site(sys._getframe(1)))

    def _start_timer(
        self, fire_at: datetime | timedelta, site: CallSite | None, retry_of: Open | None = None
    ) -> task.TimerTask:
        self._last_id = id = self._last_id + 1
        final = self._now + fire_at if isinstance(fire_at, timedelta) else fire_at
        if final.utcoffset() is not None:
            final = final.astimezone(timezone.utc).replace(tzinfo=None)
        longest = self._options.maximum_timer_interval
        if longest is not None and longest > timedelta(0) and self._now + longest < final:
            timer = task.TimerTask(final, longest)
            self._chunked_timers[id] = final
            self._arm(timer, CreateTimer(id, self._now + longest, site))
        else:
            timer = task.TimerTask()
            self._arm(timer, CreateTimer(id, final, site))
        if retry_of is not None:
            self._retry_timers[id] = retry_of
        return timer

    def _arm(self, timer: task.TimerTask, command: CreateTimer) -> None:
        """Open a timer, or the next chunk of one; cancelling takes back what has not been sent yet."""
        id = command.id

        def cancel() -> None:
            self._commands.pop(id, None)
            self._open.pop(id, None)

        self._commands[id] = command
        self._open[id] = Open(timer, command, None)
        timer.set_cancel_handler(cancel)

    def wait_for_external_event(
        self, name: str, *, data_type: type | None = None
    ) -> task.CancellableTask[Any]:
        future: task.CancellableTask[Any] = task.CancellableTask(data_type)
        key = name.casefold()
        buffered = self._received.get(key)
        if buffered:
            _, data = buffered.pop(0)
            if not buffered:
                del self._received[key]
            future.complete(self._payloads.deserialize(data, data_type))
            return future
        waiter = Waiter(future, name, self._last_id, call_site(sys._getframe(1)))
        self._waiting.setdefault(key, []).append(waiter)

        def cancel() -> None:
            queue = self._waiting.get(key, [])
            # By identity: two waits for one event are equal in all but their task.
            queue[:] = [other for other in queue if other.task is not future]
            if not queue:
                self._waiting.pop(key, None)

        future.set_cancel_handler(cancel)
        return future

    def send_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        if not instance_id or not instance_id.strip():
            raise ValueError("instance_id cannot be empty")
        if instance_id.startswith("@"):
            raise ValueError(
                "Instance IDs starting with '@' are reserved for entities; "
                "use signal_entity() to send an entity operation."
            )
        if not event_name or not event_name.strip():
            raise ValueError("event_name cannot be empty")
        self._last_id = id = self._last_id + 1
        self._commands[id] = SendEvent(
            id, instance_id, event_name, self._payloads.serialize(data), call_site(sys._getframe(1))
        )

    def continue_as_new(
        self, new_input: Any, *, save_events: bool = False, new_version: str | None = None
    ) -> None:
        if self._status is None:
            self._exit_critical_section()
            self._status = OrchestrationStatus.CONTINUED_AS_NEW
            self._new_input = new_input
            self._save_events = save_events
            self._new_version = new_version

    # -- entities

    def call_entity(
        self,
        entity: EntityInstanceId,
        operation: str,
        input: Any = None,
        *,
        return_type: type | None = None,
    ) -> task.CompletableTask[Any]:
        self._last_id = id = self._last_id + 1
        self._check_entity_operation(entity, one_way=False)
        encoded = self._payloads.serialize(input)
        future: task.CompletableTask[Any] = task.CompletableTask(return_type)
        command = CallEntity(
            id, str(entity), operation, encoded, self.new_uuid(), call_site(sys._getframe(1))
        )
        self._commands[id] = command
        self._open[id] = Open(future, command, return_type)
        return future

    def signal_entity(
        self,
        entity_id: EntityInstanceId,
        operation_name: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        self._last_id = id = self._last_id + 1
        self._check_entity_operation(entity_id, one_way=True)
        encoded = self._payloads.serialize(input)
        request_id = self.new_uuid()
        if signal_time is not None:
            new_timestamp(signal_time)  # raises what the SDK raises where it is no datetime
        if signal_time is not None and signal_time.tzinfo is not None:
            signal_time = signal_time.astimezone(timezone.utc).replace(tzinfo=None)
        self._commands[id] = SignalEntity(
            id, str(entity_id), operation_name, encoded, request_id, signal_time, call_site(sys._getframe(1))
        )

    def lock_entities(self, entities: list[EntityInstanceId]) -> task.CompletableTask[EntityLock]:
        self._last_id = id = self._last_id + 1
        for entity in entities:
            _check_id(entity, "lock_entities")
        critical = self._critical
        if critical is None:
            self._critical = critical = OrchestrationEntityContext(self._instance_id)
        allowed, problem = critical.validate_acquire_transition()
        if not allowed:
            raise RuntimeError(problem)
        section = self.new_uuid()
        request, _ = critical.emit_acquire_message(section, entities)
        if request is None:
            raise RuntimeError("Failed to create entity lock request.")
        future: task.CompletableTask[EntityLock] = task.CompletableTask()
        command = LockEntities(
            id, section, list(request.entityLockRequested.lockSet), call_site(sys._getframe(1))
        )
        self._commands[id] = command
        self._open[id] = Open(future, command, None)
        return future

    def _check_entity_operation(self, entity: EntityInstanceId, *, one_way: bool) -> None:
        _check_id(entity, "signal_entity" if one_way else "call_entity")
        if self._critical is not None:
            allowed, problem = self._critical.validate_operation_transition(entity, one_way)
            if not allowed:
                raise RuntimeError(problem)

    def _exit_critical_section(self) -> None:
        """Let go of what is locked, if anything is; also called by the SDK's ``EntityLock``."""
        critical = self._critical
        if critical is None or not critical.is_inside_critical_section:
            return
        frame = sys._getframe(1)
        lock_exit = EntityLock.__exit__.__code__
        site = call_site(frame.f_back) if frame.f_code is lock_exit and frame.f_back is not None else None
        for message in critical.emit_lock_release_messages():
            unlock = message.entityUnlockSent
            self._last_id = id = self._last_id + 1
            self._commands[id] = UnlockEntity(
                id, unlock.criticalSectionId, unlock.targetInstanceId.value, site
            )

    def _entity_called(self, request_id: str, entity_id: str, operation: str, id: int) -> None:
        """Note under which request an entity call is carried out: its result comes back by that."""
        self._entity_requests[request_id] = EntityInstanceId.parse(entity_id), operation, id

    def _lock_requested(self, critical_section_id: str, id: int) -> None:
        self._lock_requests[critical_section_id] = id

    # -- how it ends

    def _complete(
        self, result: Any, status: OrchestrationStatus, site: CallSite | None, *, encoded: bool = False
    ) -> None:
        if self._status is not None:
            return
        self._exit_critical_section()
        try:
            text = result if encoded or result is None else self._payloads.serialize(result)
        except (ValueError, TypeError):
            self._fail(JsonEncodeOutputException(result), site)
            return
        self._status = status
        self._last_id = id = self._last_id + 1
        self._commands[id] = Complete(id, status, text, site=site)

    def _fail(self, error: Exception, site: CallSite | None) -> None:
        if self._status is not None:
            return
        failure = failure_of(error, self._options.exception_properties_provider)
        self._fail_with(failure, site)

    def _fail_with(self, failure: task.FailureDetails, site: CallSite | None) -> None:
        self._exit_critical_section()
        self._status = OrchestrationStatus.FAILED
        self._last_id = id = self._last_id + 1
        self._commands[id] = Complete(id, self._status, failure=failure, site=site)

    def _take_commands(self, site: Callable[[], CallSite | None]) -> list[Command]:
        """The commands of the turn, in order; a generation that continues as new ends with that."""
        commands = list(self._commands.values())
        self._commands.clear()
        if self._status is OrchestrationStatus.CONTINUED_AS_NEW:
            self._last_id = id = self._last_id + 1
            try:
                commands.append(
                    Complete(
                        id,
                        self._status,
                        self._payloads.serialize(self._new_input),
                        carryover=list(self._unread_events()) if self._save_events else [],
                        new_version=self._new_version,
                        site=site(),
                    )
                )
            except Exception as error:
                # The worker meets this after the turn and answers with the failure alone: no custom status.
                self._status = OrchestrationStatus.FAILED
                self._custom_status = None
                failure = failure_of(error, self._options.exception_properties_provider)
                return [Complete(-1, self._status, failure=failure, site=site())]
        return commands

    def _unread_events(self) -> Iterator[EventRaisedEvent]:
        arrived = sorted(
            (index, name, data) for name, queue in self._received.items() for index, data in queue
        )
        when = self._now.replace(tzinfo=timezone.utc)
        for _, name, data in arrived:
            yield EventRaisedEvent(-1, when, name, data)

    # -- what it waits for

    def _operations(self) -> list[Operation]:
        """Everything that is open, in the order in which it was asked for."""
        found: list[tuple[int, int, Operation]] = []
        for id, (_, command, _) in self._open.items():
            location = Location.of(command.site)
            if isinstance(command, CreateTimer):
                retried = self._retry_timers.get(id)
                name = retried.command.name if retried else None
                due = self._chunked_timers.get(id, command.fire_at)
                operation = Operation("timer", name, id, due=due, location=location)
            elif isinstance(command, LockEntities):
                operation = Operation("lock", command.name, id, location=location)
            elif isinstance(command, CallEntity):
                given = self._payloads.show(command.input)
                operation = Operation(
                    "entity", command.name, id, given, instance_id=command.entity_id, location=location
                )
            else:
                operation = Operation(
                    command.kind,
                    command.name,
                    id,
                    self._payloads.decode_input(command.input, self._functions.get(command.name)),
                    instance_id=getattr(command, "instance_id", None),
                    attempt=command.attempt,
                    location=location,
                )
            found.append((id, 0, operation))
        for queue in self._waiting.values():
            for waiter in queue:
                operation = Operation("event", waiter.name, None, location=Location.of(waiter.site))
                found.append((waiter.after_id, 1, operation))
        found.sort(key=lambda entry: entry[:2])
        return [operation for _, _, operation in found]


# What Python says of wrong arguments has the name of the method in it, and ends up in histories.
for _name, _member in vars(FakeOrchestrationContext).items():
    if isinstance(_member, FunctionType) and hasattr(RuntimeOrchestrationContext, _name):
        _member.__qualname__ = getattr(RuntimeOrchestrationContext, _name).__qualname__


def _check_id(entity: Any, method: str) -> None:
    """Refuse what is no id of an entity; a worker takes it, and the orchestration waits for ever."""
    if not isinstance(entity, EntityInstanceId):
        location = Location.of(call_site(sys._getframe(3 if method != "lock_entities" else 2)))
        raise DurableTestError(
            f"ctx.{method}() at {location} is given {entity!r}, which is no EntityInstanceId: a worker would "
            "take it and the orchestration would wait for ever; write EntityInstanceId('name', 'key')."
        )
