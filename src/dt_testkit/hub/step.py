"""One orchestrator, step by step, with the test playing the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.task import get_name

from dt_testkit.errors import StepError
from dt_testkit.execution import Operation
from dt_testkit.hub.hub import START_TIME, TaskHub
from dt_testkit.hub.stubs import name_of
from dt_testkit.sdk import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from durabletask.client import OrchestrationStatus
    from durabletask.serialization import DataConverter
    from durabletask.task import FailureDetails, Orchestrator

    from dt_testkit.execution import CallEntity, CallSubOrchestrator, ScheduleActivity
    from dt_testkit.guard import Mode
    from dt_testkit.history import History
    from dt_testkit.hub.entities import Caller, EntityOperation, LockRequest
    from dt_testkit.hub.instance import Instance


def drive(
    orchestrator: Orchestrator[Any, Any],
    input: Any = None,
    *,
    instance_id: str = "driven",
    version: str | None = None,
    start_time: datetime | None = None,
    data_converter: DataConverter | None = None,
    maximum_timer_interval: timedelta | None = None,
    guard: Mode = "error",
) -> Step:
    """Run an orchestrator up to its first wait, and hand the rest to the test.

    Nothing needs to be registered and nothing runs by itself: the test completes or fails what the
    orchestrator waits for, and lets time pass. After each step the history so far is replayed, so a test
    that only steps is a determinism test too.

    Parameters
    ----------
    orchestrator : Orchestrator
        The generator function.
    input : Any
        Its input; it travels through the data converter, as in production.
    instance_id, version, start_time, data_converter, maximum_timer_interval, guard
        As for :class:`TaskHub` and :meth:`TaskHub.start`.

    Returns
    -------
    Step
        Where the orchestrator stands.

    Raises
    ------
    ReplayDivergence
        Replayed from its history, the orchestrator asks for something else. From here, or from any step.

    Examples
    --------
    >>> from dt_testkit import drive
    >>> def greet(ctx, name):
    ...     return (yield ctx.call_activity("hello", input=name))
    >>> step = drive(greet, "ana")
    >>> step.pending[0].name, step.pending[0].input
    ('hello', 'ana')
    >>> step.complete("Hello ana")
    >>> step.output
    'Hello ana'
    """
    hub = _SteppedHub(
        start_time=start_time or START_TIME,
        data_converter=data_converter,
        check_replay="turn",
        maximum_timer_interval=maximum_timer_interval,
        guard=guard,
    )
    if isinstance(orchestrator, str):
        raise TypeError(f"drive() takes the orchestrator itself, and not its name {orchestrator!r}.")
    hub.orchestrators[name_of(orchestrator, "orchestrator")] = orchestrator
    instance = hub.start(orchestrator, input=input, instance_id=instance_id, version=version)
    hub.settle()
    return Step(hub, instance)


# The kinds of operation that somebody else does; the others come about by time or by an event.
_WORKABLE = ("activity", "sub_orchestration", "entity", "lock")


class _SteppedHub(TaskHub):
    """A hub in which nobody does the work but the test."""

    def _start_activity(self, instance: Instance, command: ScheduleActivity) -> None:
        pass

    def _start_sub_orchestration(self, instance: Instance, command: CallSubOrchestrator) -> None:
        pass

    def _call_entity(self, instance: Instance, command: CallEntity, operation: EntityOperation) -> None:
        pass

    def _signal_entity(self, entity_id: str, operation: EntityOperation, when: datetime | None) -> None:
        pass

    def _lock_entities(self, request: LockRequest) -> None:
        pass

    def _unlock(self, entity_id: str, caller: Caller, critical_section_id: str) -> None:
        pass


class Step:
    """Where a driven orchestrator stands, and what the test can do about it; made by :func:`drive`."""

    def __init__(self, hub: TaskHub, instance: Instance) -> None:
        self._hub = hub
        self._instance = instance
        self._done: set[tuple[int, int | None, int]] = set()

    def __repr__(self) -> str:
        return f"<Step {self.status.name} at {self.now}, {len(self.pending)} pending>"

    # -- where it stands

    @property
    def pending(self) -> list[Operation]:
        """What the orchestrator waits for, in the order in which it asked."""
        return self._instance.waiting_for

    @property
    def status(self) -> OrchestrationStatus:
        """The SDK's status."""
        return self._instance.status

    @property
    def output(self) -> Any:
        """The output as plain JSON; None while there is none."""
        return self._instance.output

    def get_output(self, expected_type: type | None = None) -> Any:
        """The output, rebuilt as a type by the data converter."""
        return self._instance.get_output(expected_type)

    @property
    def failure(self) -> FailureDetails | None:
        """Why the orchestration failed."""
        return self._instance.failure

    @property
    def custom_status(self) -> Any:
        """The custom status as plain JSON."""
        return self._instance.custom_status

    @property
    def history(self) -> History:
        """The history so far, of the current generation."""
        return self._instance.history

    @property
    def histories(self) -> list[History]:
        """The histories of all generations."""
        return self._instance.histories

    @property
    def now(self) -> datetime:
        """What the clock shows, naive UTC."""
        return self._hub.now

    # -- steps

    def complete(
        self, result: Any = None, of: Operation | EntityInstanceId | Callable[..., Any] | str | None = None
    ) -> None:
        """Let an activity, a sub-orchestration or an entity call succeed, or a lock be granted.

        Parameters
        ----------
        result : Any
            What it returns; it travels through the data converter. A lock has none.
        of : Operation | EntityInstanceId | Callable | str | None
            Which one: an entry of :attr:`pending`, the entity that is called, the function, or the name (of
            an entity call its operation). Not needed if there is one.

        Raises
        ------
        StepError
            There is nothing of that kind pending, or more than one; the message lists what is.
        """
        operation = self._choose(of, "complete")
        assert operation.id is not None
        stamp, data = self._hub._stamp, self._hub._payloads.serialize(result)
        event: h.HistoryEvent
        if operation.kind == "activity":
            event = h.TaskCompletedEvent(-1, stamp, operation.id, data)
        elif operation.kind == "sub_orchestration":
            event = h.SubOrchestrationInstanceCompletedEvent(-1, stamp, operation.id, data)
        elif operation.kind == "lock":
            if result is not None:
                raise StepError(
                    self._say("complete(): a lock has no result, it is only granted.", [operation])
                )
            event = h.EntityLockGrantedEvent(-1, stamp, self._command(operation).critical_section_id)
        else:
            event = h.EntityOperationCompletedEvent(-1, stamp, self._command(operation).request_id, data)
        self._deliver(operation, event)

    def fail(
        self,
        error: Exception | type[Exception],
        of: Operation | EntityInstanceId | Callable[..., Any] | str | None = None,
    ) -> None:
        """Let an activity, a sub-orchestration or an entity call fail; otherwise as :meth:`complete`."""
        if isinstance(error, type) and issubclass(error, Exception):
            error = error()
        if not isinstance(error, Exception):
            raise TypeError(f"fail() takes an exception, such as ConnectionError('reset'), not {error!r}.")
        operation = self._choose(of, "fail")
        assert operation.id is not None
        stamp, failure = self._hub._stamp, failure_of(error)
        event: h.HistoryEvent
        if operation.kind == "activity":
            event = h.TaskFailedEvent(-1, stamp, operation.id, failure)
        elif operation.kind == "sub_orchestration":
            event = h.SubOrchestrationInstanceFailedEvent(-1, stamp, operation.id, failure)
        elif operation.kind == "lock":
            raise StepError(self._say("fail(): a lock cannot fail; complete() grants it.", [operation]))
        else:
            event = h.EntityOperationFailedEvent(-1, stamp, self._command(operation).request_id, failure)
        self._deliver(operation, event)

    def _command(self, operation: Operation) -> Any:
        """The command behind an operation that is pending."""
        execution = self._instance._execution
        assert execution is not None
        assert operation.id is not None
        return execution.context._open[operation.id].command

    def raise_event(self, name: str, data: Any = None) -> None:
        """Raise an external event; one that nobody waits for yet is kept until somebody does."""
        self._refuse_if_ended(f"raise_event({name!r})")
        self._instance.raise_event(name, data)
        self._hub.settle()

    def advance(self, by: timedelta) -> None:
        """Let time pass; timers that are due by then fire, in order."""
        self._hub.advance(by)

    def suspend(self) -> None:
        """Suspend the orchestration."""
        self._refuse_if_ended("suspend()")
        self._instance.suspend()
        self._hub.settle()

    def resume(self) -> None:
        """Resume the orchestration."""
        self._refuse_if_ended("resume()")
        self._instance.resume()
        self._hub.settle()

    def terminate(self, output: Any = None) -> None:
        """Terminate the orchestration."""
        self._refuse_if_ended("terminate()")
        self._instance.terminate(output)
        self._hub.settle()

    def _deliver(self, operation: Operation, event: h.HistoryEvent) -> None:
        self._done.add(self._key(operation))
        self._hub._deliver(self._instance, len(self._instance._generations), event)
        self._hub.settle()

    def _key(self, operation: Operation) -> tuple[int, int | None, int]:
        """What an operation is known by: ids start again with each generation."""
        return len(self._instance._generations), operation.id, operation.attempt

    def _refuse_if_ended(self, step: str) -> None:
        if self._instance.is_terminal:
            raise StepError(f"{step}: the orchestration has ended, {self.status.name}.")

    def _choose(
        self, of: Operation | EntityInstanceId | Callable[..., Any] | str | None, verb: str
    ) -> Operation:
        self._refuse_if_ended(f"{verb}()")
        if of is not None and not isinstance(of, (str, Operation, EntityInstanceId)) and not callable(of):
            raise TypeError(
                f"of= is an operation of step.pending, an entity's id, a function or a name, not {of!r}."
            )
        pending = self.pending
        workable = [op for op in pending if op.kind in _WORKABLE]
        if of is None:
            wanted = f"{verb}()"
            found = workable
        elif isinstance(of, EntityInstanceId):
            wanted = f"{verb}(of={of})"
            found = [op for op in workable if op.instance_id == str(of)]
        elif isinstance(of, str) or callable(of):
            name = of if isinstance(of, str) else get_name(of)
            wanted = f"{verb}(of={name!r})"
            found = [op for op in workable if name in (op.name, op.instance_id)]
            if not found and any(op.name == name or op.kind == "timer" for op in pending):
                others = [op for op in pending if op.name == name]
                if others:
                    raise StepError(self._say(f"{wanted}: {_hint(others[0])}", pending))
        else:
            wanted = f"{verb}(of={of})"
            if of.kind not in _WORKABLE:
                raise StepError(self._say(f"{wanted}: {_hint(of)}", pending))
            found = [op for op in workable if (op.id, op.attempt) == (of.id, of.attempt)]
            if not found and self._key(of) in self._done:
                raise StepError(self._say(f"{wanted}: that is done already.", pending))
        # While the orchestration is suspended, what is done is pending still.
        done = [op for op in found if self._key(op) in self._done]
        found = [op for op in found if op not in done]
        if done and not found:
            raise StepError(
                self._say(f"{wanted}: that is done already, and is seen when it is resumed.", pending)
            )
        if not found and of is None and pending:
            hints = " ".join(sorted({_hint(op) for op in pending}))
            raise StepError(
                self._say(f"{wanted}: nothing that somebody works on is pending; {hints}", pending)
            )
        if not found:
            raise StepError(self._say(f"{wanted}: nothing like that is pending.", pending))
        if len(found) > 1:
            raise StepError(
                self._say(f"{wanted}: {len(found)} operations fit; pass one of step.pending as of=.", pending)
            )
        return found[0]

    def _say(self, problem: str, pending: list[Operation]) -> str:
        lines = [f"  - {op}" for op in pending] or ["  nothing"]
        return "\n".join([problem, "Pending:", *lines])


def _hint(operation: Operation) -> str:
    if operation.kind == "timer":
        return "a timer fires when time passes; use advance()."
    return "an external event is raised; use raise_event()."
