"""The state machine of one generation of an orchestration.

Theory of operation
===================

An :class:`Execution` owns an orchestrator's generator and the context it was given. It is fed **events** and
collects **commands**; that is all it does. Nothing here reads a clock, draws a number or touches the outside,
so what it does is a function of the events.

::

      process(event)          the generator runs until it yields a task
    ─────────────────▶ Execution ─────────────────▶ take_commands()

Events come in turns. ``OrchestratorStarted`` opens a turn and sets the clock that the orchestrator reads;
``ExecutionStarted`` creates the generator and runs it to its first yield; a completion (``TaskCompleted``,
``TimerFired``, ``EventRaised``, ...) completes the task of that id, and if the task the generator waits for
is complete by it, the generator runs on to its next yield. Between turns somebody takes the commands: the
hub does what they ask, replay holds them against the history.

The rules are those of the SDK's worker, kept where they are odd, since a test must meet what production
meets:

* The task of the *first* yield is not looked at until the next event; one that is complete already, or that
  is no task at all, waits for that event too. A later yield of something that is no task fails the
  orchestration.
* A failed operation with attempts left starts a timer, and is asked for again under its first id when that
  fires. A retried sub-orchestration loses its ``version``.
* An exception ends the orchestration, and what is left of the turn is not looked at. A completion is not
  such an end: events behind it in the same turn still reach the generator.
* ``continue_as_new`` does not stop the generator. What it asks for afterwards is sent.
* While suspended, everything waits except to be resumed or terminated, the clock included.
* A version that the worker does not take ends the orchestration or is rejected, by its failure strategy; with
  no failure strategy the worker answers with nothing, in this turn and in all that follow.

Two things differ on purpose. ``retry_timeout`` is measured by the orchestration's clock (see
:class:`~dt_testkit.execution.context.Retry`). And to be suspended twice before being resumed, which sends the
worker of SDK 1.12 into an endless loop, suspends until resumed again.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from datetime import datetime, timezone
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityLock, EntityOperationFailedException
from durabletask.worker import OrchestratorNotRegisteredError

from dt_testkit.errors import (
    DurableTestError,
    NonDeterministicCall,
    OrchestrationBlocked,
    VersionRejected,
)
from dt_testkit.execution.commands import (
    CallSite,
    CallSubOrchestrator,
    Command,
    CreateTimer,
    Location,
    LockEntities,
    Operation,
    ScheduleActivity,
    call_site,
)
from dt_testkit.execution.context import FakeOrchestrationContext, Open
from dt_testkit.execution.options import DEFAULT_OPTIONS, WorkerOptions
from dt_testkit.guard import guarded_run
from dt_testkit.history.codec import failure_to_protobuf
from dt_testkit.sdk import VersionFailureStrategy, version_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from durabletask.entities import EntityInstanceId

    from dt_testkit.execution.payloads import Payloads


class VersionMismatch(Exception):
    """Why nothing runs: the worker does not take the version, and fails the orchestration or does nothing."""


class Execution:
    """One generation of an orchestration, live.

    Parameters
    ----------
    instance_id : str
        Id of the instance.
    orchestrators : Mapping[str, Orchestrator]
        The functions that may be asked for, by name.
    payloads : Payloads
        The converter that inputs and results travel through.
    options : WorkerOptions
        How the worker is set up.
    replaying : bool
        What ``ctx.is_replaying`` says.

    Attributes
    ----------
    context : FakeOrchestrationContext
        What the orchestrator was given.
    error : Exception | None
        The exception that ended the orchestration; a :class:`VersionMismatch` where it did not begin.
    """

    def __init__(
        self,
        instance_id: str,
        orchestrators: Mapping[str, task.Orchestrator[Any, Any]],
        payloads: Payloads,
        options: WorkerOptions = DEFAULT_OPTIONS,
        *,
        replaying: bool = False,
    ) -> None:
        self.context = FakeOrchestrationContext(instance_id, payloads, options)
        self.context._replaying = replaying
        self.error: Exception | None = None
        self._orchestrators = orchestrators
        self._payloads = payloads
        self._function: task.Orchestrator[Any, Any] | None = None
        self._generator: Generator[Any, Any, Any] | None = None
        self._frame: Any = None
        self._awaited: Any = None
        self._suspended = False
        self._held: list[h.HistoryEvent] = []
        self._guarded = guarded_run()
        if self._guarded is not None:
            self.context._payloads = own = copy(payloads)
            own.serialize = self._guarded.unnoticed(payloads.serialize)

    # -- in

    def process(self, event: h.HistoryEvent) -> None:
        """Take one event in, and run the orchestrator as far as it goes.

        Nothing that the orchestrator raises comes out of here: it becomes the failure of the orchestration.
        """
        if self.error is not None:
            return
        if self._suspended and type(event) not in _NEVER_HELD:
            self._held.append(event)
            return
        try:
            _HANDLERS.get(type(event), _unknown)(self, event)
        except StopIteration as stop:
            self._end(stop.value)
        except NonDeterministicCall as stopped:
            self._end_with(stopped)
        except DurableTestError:
            raise  # for the test, not for the orchestrator
        except Exception as error:
            self._end_with(error)

    def _end(self, result: Any) -> None:
        try:
            self.context._complete(result, OrchestrationStatus.COMPLETED, self._site())
        except DurableTestError:
            raise
        except Exception as error:
            raise OrchestrationBlocked(
                f"Instance '{self.context._instance_id}' returned an output whose serialization raises "
                f"{type(error).__name__} ({str(error)[:200]}), at {self.location}. A worker fails the "
                "instance on TypeError and ValueError alone; on this it would leave it Running for ever."
            ) from error

    def _end_with(self, error: Exception) -> None:
        self.error = error
        self.context._fail(error, self._site_of(error))

    # -- out

    @property
    def status(self) -> OrchestrationStatus | None:
        """How the generation ended; None while it runs."""
        return self.context._status

    @property
    def suspended(self) -> bool:
        """Whether events are held back until the orchestration is resumed."""
        return self._suspended

    @property
    def custom_status(self) -> str | None:
        """The custom status, serialized."""
        return self.context._custom_status

    @property
    def commands(self) -> dict[int, Command]:
        """The commands that nothing has confirmed or taken yet, by id, in the order they were asked for."""
        return self.context._commands

    def take_commands(self) -> list[Command]:
        """End the turn: all commands asked for in it, in order. They are taken, and not returned again."""
        return self.context._take_commands(self._site)

    def operations(self) -> list[Operation]:
        """What the orchestration waits for, in the order in which it was asked for."""
        return self.context._operations()

    @property
    def unread_events(self) -> list[str]:
        """Names of the external events that have arrived and that nobody has waited for, in lower case."""
        return list(self.context._received)

    @property
    def function(self) -> task.Orchestrator[Any, Any] | None:
        """The orchestrator that runs; None before it was started, or where nobody registered it."""
        return self._function

    @property
    def awaited(self) -> Any:
        """What the orchestrator yielded last: a task, if it is well-behaved."""
        return self._awaited

    @property
    def location(self) -> Location | None:
        """Where the orchestrator stands, or where it ended."""
        return Location.of(self._site())

    def _site(self) -> CallSite | None:
        frame = self._frame
        if frame is None:
            code = getattr(self._function, "__code__", None)
            return (code, -1) if code is not None else None
        # Into the generators it delegates to with `yield from`.
        inner = self._generator
        while (inner := getattr(inner, "gi_yieldfrom", None)) is not None and hasattr(inner, "gi_frame"):
            frame = inner.gi_frame or frame
        return call_site(frame)

    def _site_of(self, error: Exception) -> CallSite | None:
        """Where in the user's code an exception came from: the deepest frame of the orchestrator's file."""
        site = self._site()
        file = site[0].co_filename if site is not None else None
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == file:
                site = (traceback.tb_frame.f_code, traceback.tb_lasti)
            traceback = traceback.tb_next
        return site

    # -- the events

    def _orchestrator_started(self, event: h.OrchestratorStartedEvent) -> None:
        self.context._now = naive(event.timestamp)

    def _execution_started(self, event: h.ExecutionStartedEvent) -> None:
        context = self.context
        function = self._orchestrators.get(event.name)
        if function is None:
            raise OrchestratorNotRegisteredError(f"A '{event.name}' orchestrator was not registered.")
        self._function = function
        context._version = event.version
        parent = event.parent_instance
        if parent is not None and parent.orchestration_instance is not None:
            context._parent_instance_id = parent.orchestration_instance.instance_id
        versioning = context._options.versioning
        if versioning is not None:
            mismatch = version_failure(versioning, event.version)
            if mismatch is not None:
                if versioning.failure_strategy is VersionFailureStrategy.REJECT:
                    raise VersionRejected(
                        f"Instance '{context._instance_id}' ({event.name}) is rejected by the worker, for "
                        f"{mismatch.message[:1].lower()}{mismatch.message[1:]} Another worker may take it: "
                        "use_versioning() with other options, or start it with another version."
                    )
                self.error = VersionMismatch(mismatch.message.rstrip("."))
                if versioning.failure_strategy is VersionFailureStrategy.FAIL:
                    context._fail_with(mismatch, self._site())
                return
        input = None
        if event.input:
            input = self._payloads.deserialize(event.input, self._payloads.input_type(function))
        if self._guarded is not None:
            self._guarded.orchestrator = event.name
        result = self._call(function, context, input)
        if isinstance(result, GeneratorType):
            self._generator = result
            self._frame = result.gi_frame
            self._awaited = self._call(next, result)
        else:
            context._complete(result, OrchestrationStatus.COMPLETED, self._site())

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run the orchestrator's code, guarded if this is a hub that guards it."""
        guarded = self._guarded
        return function(*arguments) if guarded is None else guarded.call(function, *arguments)

    def _resume(self) -> None:
        generator = self._generator
        if generator is None:
            raise TypeError(
                "The orchestrator has no generator to resume: its history has no ExecutionStarted event "
                "before this one, or it returned without yielding."
            )
        awaited = self._awaited
        while awaited is not None and awaited.is_complete:
            if awaited.is_failed:
                awaited = self._call(generator.throw, awaited.get_exception())
            else:
                awaited = self._call(generator.send, awaited.get_result())
            self._awaited = awaited
            if not isinstance(awaited, task.Task):
                raise TypeError("The orchestrator generator yielded a non-Task object")

    def _task_completed(self, event: h.TaskCompletedEvent | h.SubOrchestrationInstanceCompletedEvent) -> None:
        entry = self.context._open.pop(event.task_scheduled_id, None)
        if entry is not None:
            data = event.result
            entry.task.complete(self._payloads.deserialize(data, entry.expected_type) if data else None)
            self._resume()

    def _task_failed(self, event: h.TaskFailedEvent) -> None:
        self._operation_failed(event, f"{self.context._instance_id}: Activity task")

    def _sub_orchestration_failed(self, event: h.SubOrchestrationInstanceFailedEvent) -> None:
        self._operation_failed(event, "Sub-orchestration task")

    def _operation_failed(
        self, event: h.TaskFailedEvent | h.SubOrchestrationInstanceFailedEvent, what: str
    ) -> None:
        context = self.context
        id = event.task_scheduled_id
        entry = context._open.pop(id, None)
        if entry is None:
            return
        retry = context._retries.get(id)
        if retry is not None and isinstance(entry.command, (ScheduleActivity, CallSubOrchestrator)):
            delay = retry.delay(entry.command.attempt, context._now)
            if delay is not None:
                timer = context._start_timer(delay, entry.command.site, retry_of=entry)
                timer.set_retryable_parent(entry.task)  # type: ignore[arg-type]
                return
        failure = self._payloads.fetch_failure(event.failure_details or task.FailureDetails("", "", None))
        entry.task.fail(f"{what} #{id} failed: {failure.message}", failure_to_protobuf(failure))
        self._resume()

    def _timer_fired(self, event: h.TimerFiredEvent) -> None:
        context = self.context
        id = event.timer_id
        entry = context._open.pop(id, None)
        if entry is None or not isinstance(entry.task, task.TimerTask) or context._status is not None:
            return
        retried = context._retry_timers.pop(id, None)
        final = context._chunked_timers.pop(id, None)
        longest = context._options.maximum_timer_interval
        fired = naive(event.fire_at)
        if final is not None and longest is not None and fired < final:
            context._last_id = next_id = context._last_id + 1
            context._chunked_timers[next_id] = final
            context._parts[next_id] = context._parts.get(id, id)
            if retried is not None:
                context._retry_timers[next_id] = retried
            context._arm(entry.task, CreateTimer(next_id, min(fired + longest, final), entry.command.site))
            return
        entry.task.complete(None)
        if retried is None:
            self._resume()
        elif isinstance(retried.command, (ScheduleActivity, CallSubOrchestrator)):
            again = replace(retried.command, attempt=retried.command.attempt + 1)
            if isinstance(again, CallSubOrchestrator):
                again.version = None
            context._commands[again.id] = again
            context._open[again.id] = Open(retried.task, again, retried.expected_type)

    def _event_raised(self, event: h.EventRaisedEvent) -> None:
        context = self.context
        name = event.name.casefold()
        waiting = context._waiting.get(name)
        if waiting and context._status is None:
            future = waiting.pop(0).task
            data = event.input
            future.complete(self._payloads.deserialize(data, future._expected_type) if data else None)
            if not waiting:
                context._waiting.pop(name, None)
            self._resume()
        else:
            context._received.setdefault(name, []).append((context._received_count, event.input or None))
            context._received_count += 1

    def _suspend(self, event: h.ExecutionSuspendedEvent) -> None:
        self._suspended = True

    def _unsuspend(self, event: h.ExecutionResumedEvent) -> None:
        if not self._suspended:
            _unknown(self, event)
        self._suspended = False
        held, self._held = self._held, []
        for earlier in held:
            self.process(earlier)

    def _terminate(self, event: h.ExecutionTerminatedEvent) -> None:
        self.context._complete(
            event.input or None, OrchestrationStatus.TERMINATED, self._site(), encoded=True
        )

    def _nothing(self, event: h.HistoryEvent) -> None:
        pass

    def _entity_called(self, event: h.EntityOperationCalledEvent) -> None:
        target = event.target_instance_id or ""
        self.context._entity_called(event.request_id, target, event.operation, event.event_id)

    def _lock_requested(self, event: h.EntityLockRequestedEvent) -> None:
        self.context._lock_requested(event.critical_section_id, event.event_id)

    def _lock_granted(self, event: h.EntityLockGrantedEvent) -> None:
        context = self.context
        section = event.critical_section_id
        entry = context._open.pop(context._lock_requests.pop(section, 0), None)
        if entry is None or not isinstance(entry.command, LockEntities) or context._critical is None:
            return
        context._critical.complete_acquire(section)
        entry.task.complete(EntityLock(context))
        self._resume()

    def _entity_completed(self, event: h.EntityOperationCompletedEvent) -> None:
        answered = self._answered(event.request_id)
        if answered is not None:
            entity_id, _, entry = answered
            data = event.output
            result = self._payloads.deserialize(data, entry.expected_type) if data else None
            if self.context._critical is not None:
                self.context._critical.recover_lock_after_call(entity_id)
            entry.task.complete(result)
            self._resume()

    def _entity_failed(self, event: h.EntityOperationFailedEvent) -> None:
        answered = self._answered(event.request_id)
        if answered is not None:
            entity_id, operation, entry = answered
            given = event.failure_details or task.FailureDetails("", "", None)
            details = failure_to_protobuf(self._payloads.fetch_failure(given))
            failure = EntityOperationFailedException(entity_id, operation, details)
            if self.context._critical is not None:
                self.context._critical.recover_lock_after_call(entity_id)
            entry.task.fail(str(failure), failure)
            self._resume()

    def _answered(self, request_id: str) -> tuple[EntityInstanceId, str, Open] | None:
        """What an answer of an entity is for. One to nothing fails the orchestration, as on a worker."""
        context = self.context
        try:
            entity_id, operation, id = context._entity_requests.pop(request_id)
        except KeyError:
            raise RuntimeError(f"Could not parse entity ID from request ID '{request_id}'") from None
        entry = context._open.pop(id, None)
        return (entity_id, operation, entry) if entry is not None else None


def naive(moment: datetime) -> datetime:
    """A moment of a history as the orchestrator sees it: naive UTC."""
    if moment.tzinfo is None:
        return moment
    if moment.tzinfo is not timezone.utc:
        moment = moment.astimezone(timezone.utc)
    return moment.replace(tzinfo=None)


def _unknown(execution: Execution, event: h.HistoryEvent) -> None:
    name = type(event).__name__.removesuffix("Event")
    raise task.OrchestrationStateError(
        f"Don't know how to handle event of type '{name[:1].lower()}{name[1:]}'"
    )


_NEVER_HELD = frozenset({h.ExecutionResumedEvent, h.ExecutionTerminatedEvent})

_HANDLERS: dict[type[h.HistoryEvent], Callable[[Execution, Any], None]] = {
    h.OrchestratorStartedEvent: Execution._orchestrator_started,
    h.ExecutionStartedEvent: Execution._execution_started,
    h.TaskCompletedEvent: Execution._task_completed,
    h.TaskFailedEvent: Execution._task_failed,
    h.SubOrchestrationInstanceCompletedEvent: Execution._task_completed,
    h.SubOrchestrationInstanceFailedEvent: Execution._sub_orchestration_failed,
    h.TimerFiredEvent: Execution._timer_fired,
    h.EventRaisedEvent: Execution._event_raised,
    h.ExecutionSuspendedEvent: Execution._suspend,
    h.ExecutionResumedEvent: Execution._unsuspend,
    h.ExecutionTerminatedEvent: Execution._terminate,
    h.OrchestratorCompletedEvent: Execution._nothing,
    h.ExecutionCompletedEvent: Execution._nothing,
    h.ExecutionRewoundEvent: Execution._nothing,
    h.GenericEvent: Execution._nothing,
    h.EntityOperationCalledEvent: Execution._entity_called,
    h.EntityOperationSignaledEvent: Execution._nothing,
    h.EntityOperationCompletedEvent: Execution._entity_completed,
    h.EntityOperationFailedEvent: Execution._entity_failed,
    h.EntityLockRequestedEvent: Execution._lock_requested,
    h.EntityLockGrantedEvent: Execution._lock_granted,
    h.EntityUnlockSentEvent: Execution._nothing,
}
