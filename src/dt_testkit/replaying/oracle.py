"""What a production worker would do with a history: the SDK's own executor, run on it.

The worker checks little. It compares the id, the kind and the name of a command with the history, and for
events sent the target; everything else it accepts. So what it does with a divergence is one of three things:

``accepts``
    It goes on, with whatever the code does now. Nobody is told. What is recorded as asked for stays as it was
    asked for: a timer fires when it was due, whatever the code says now.
``fails``
    It fails the instance, mostly with ``NonDeterminismError``.
``hangs``
    It answers with no command and no error. The instance stays Running for ever.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask import history as h
from durabletask.client import OrchestrationStatus
from durabletask.payload import deexternalize_payloads

from dt_testkit.execution.commands import moment
from dt_testkit.execution.execution import naive
from dt_testkit.history.codec import events_to_protobuf
from dt_testkit.replaying.steps import RECORDS, describe
from dt_testkit.sdk import OrchestrationExecutor, Registry, pb, suppress_span_emission

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter
    from durabletask.task import Orchestrator

    from dt_testkit.execution import WorkerOptions

_SILENT = logging.Logger("dt_testkit.oracle", logging.CRITICAL + 1)


class Outcome(NamedTuple):
    """The outcome (``"accepts"``, ``"fails"`` or ``"hangs"``) and a sentence about it."""

    outcome: str
    explanation: str


class _Endless(BaseException):  # not an Exception: the SDK catches those
    pass


class _Watched(OrchestrationExecutor):
    """The SDK's executor, with its context kept for a look at what it waits for."""

    context: Any = None
    _resuming = False

    def process_event(self, ctx: Any, event: pb.HistoryEvent) -> None:
        self.context = ctx
        if not self._suspended_events:
            self._resuming = False
        elif not self._is_suspended:
            self._resuming = True
        elif self._resuming:
            raise _Endless  # suspended again while it resumes: the SDK appends to the list that it iterates
        super().process_event(ctx, event)


def worker_outcome(
    instance_id: str,
    events: Sequence[h.HistoryEvent],
    orchestrators: Mapping[str, Orchestrator[Any, Any]],
    converter: DataConverter,
    options: WorkerOptions,
    store: PayloadStore | None = None,
    changed: Collection[int] = (),
) -> Outcome:
    """Run the SDK's executor on a history as a worker would that was handed its last turn.

    Parameters
    ----------
    instance_id : str
        Id of the instance.
    events : Sequence[HistoryEvent]
        The history, at least one event.
    orchestrators : Mapping[str, Orchestrator]
        The functions registered with the worker, by name.
    converter : DataConverter
        The worker's converter.
    options : WorkerOptions
        How the worker is set up.
    store : PayloadStore | None
        The worker's payload store.
    changed : Collection[int]
        Ids of the recorded steps for which the code asks for something else now, to be told which of them
        the instance still waits for.

    Returns
    -------
    Outcome
        What the worker does.
    """
    end = next((i for i, e in enumerate(events) if isinstance(e, h.ExecutionCompletedEvent)), None)
    ended = events[end] if end is not None else None
    replayed = list(events if end is None else events[:end])
    last_turn = max(
        (i for i, event in enumerate(replayed) if isinstance(event, h.OrchestratorStartedEvent)), default=0
    )
    messages = events_to_protobuf(replayed)
    if store is not None:
        for message in messages:
            deexternalize_payloads(message, store)
    registry: Any = Registry()  # type: ignore[no-untyped-call]
    registry.orchestrators.update(orchestrators)
    registry.versioning = options.versioning
    executor = _Watched(
        registry,
        _SILENT,
        data_converter=converter,
        maximum_timer_interval=options.maximum_timer_interval,
        exception_properties_provider=options.exception_properties_provider,
    )
    try:
        with suppress_span_emission():
            actions = executor.execute(instance_id, messages[:last_turn], messages[last_turn:]).actions
    except _Endless:
        return Outcome("hangs", "suspended again while it resumes, the worker never ends that loop.")
    except Exception as error:  # the worker answers with this as the failure of the instance
        as_before = OrchestrationStatus.FAILED.value
        if isinstance(ended, h.ExecutionCompletedEvent) and ended.orchestration_status == as_before:
            return Outcome("accepts", _accepted(as_before, as_before))
        return Outcome("fails", f"the worker fails the instance: {type(error).__name__}: {error}")

    recorded = ended.orchestration_status if isinstance(ended, h.ExecutionCompletedEvent) else None
    completion = next((a.completeOrchestration for a in actions if a.HasField("completeOrchestration")), None)
    if completion is not None:
        failed = completion.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
        details = completion.failureDetails
        kind = details.errorType.rpartition(".")[2]
        if failed and (recorded != OrchestrationStatus.FAILED.value or kind == "NonDeterminismError"):
            # What the SDK says first is what happened; what follows is advice, and ours is better informed.
            happened = details.errorMessage.partition(". This ")[0].rstrip(".")
            return Outcome("fails", f"the worker fails the instance with {kind}: {happened}.")
        return Outcome("accepts", _accepted(recorded, completion.orchestrationStatus))
    if actions:
        waits = _waits(executor.context, replayed, changed)
        kept = f" It {waits}" if waits.startswith("still") else ""
        return Outcome("accepts", f"the worker notices nothing, and does what the code asks for next.{kept}")
    if recorded is not None or not _can_go_on(executor.context, replayed):
        waited_for = " or ".join(map(repr, executor.context._pending_events)) if executor.context else ""
        until = f", unless somebody raises the event {waited_for}" if waited_for else " for ever"
        return Outcome(
            "hangs", f"the worker answers with no command and no error, so the instance stays Running{until}."
        )
    waits = _waits(executor.context, replayed, changed)
    return Outcome("accepts", f"the worker notices nothing, and {waits}")


def _accepted(recorded: int | None, status: int) -> str:
    if recorded is None:
        if status == OrchestrationStatus.CONTINUED_AS_NEW.value:
            return "the worker notices nothing: the instance continues as new, as the code says now."
        return f"the worker notices nothing: the instance ends {OrchestrationStatus(status).name}."
    if recorded == status:
        name = OrchestrationStatus(status).name
        return f"the worker notices nothing: the instance ends {name}, with what the code gives now."
    was, now = OrchestrationStatus(recorded).name, OrchestrationStatus(status).name
    return f"the worker notices nothing: the instance ends {now} instead of {was}."


def _waits(context: Any, events: Sequence[h.HistoryEvent], changed: Collection[int]) -> str:
    """What an instance waits for: what was recorded, and not what the code asks for in its place now."""
    if _is_suspended(events):
        return "waits to be resumed."
    pending = context._pending_tasks
    steps = {event.event_id: event for event in events if type(event) in RECORDS}
    open_ids = sorted(outstanding(events) & pending.keys())
    kept = [id for id in open_ids if id in changed]
    named = [_step(steps[id], pending[id]) for id in kept or open_ids]
    if not kept:
        named += [f"an event {name!r}" for name in context._pending_events]
    if len(named) > _NAMED:
        named[_NAMED:] = [f"{len(named) - _NAMED:,} more"]
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    if not kept:
        return f"waits for {listed}."
    return (
        f"still waits for what was recorded: {listed}. What the code says of "
        f"{'it' if len(kept) == 1 else 'them'} now counts for new instances only."
    )


_NAMED = 3  # of the steps that an instance waits for


def _step(recorded: Any, pending: Any) -> str:
    text = f"{describe(recorded)} (#{recorded.event_id})"
    last = getattr(pending, "_final_fire_at", None)  # of a timer that is chunked
    if isinstance(recorded, h.TimerCreatedEvent) and last is not None and naive(recorded.fire_at) < last:
        text += f" with another behind it, up to {moment(last)}"
    return text


def _can_go_on(context: Any, events: Sequence[h.HistoryEvent]) -> bool:
    """Whether anything that is still to come could move the orchestrator."""
    if context is None or context._is_complete:
        return False
    if context._pending_events or _is_suspended(events):
        return True
    return not outstanding(events).isdisjoint(context._pending_tasks)


def _is_suspended(events: Sequence[h.HistoryEvent]) -> bool:
    last = next(
        (e for e in reversed(events) if isinstance(e, (h.ExecutionSuspendedEvent, h.ExecutionResumedEvent))),
        None,
    )
    return isinstance(last, h.ExecutionSuspendedEvent)


def outstanding(events: Sequence[h.HistoryEvent]) -> set[int]:
    """Ids of the operations that a history has scheduled and no result for."""
    open_ids: set[int] = set()
    requests: dict[str, int] = {}
    for event in events:
        if isinstance(event, h.EntityOperationCalledEvent):
            requests[event.request_id] = event.event_id
        elif isinstance(event, h.EntityLockRequestedEvent):
            requests[event.critical_section_id] = event.event_id
        elif isinstance(event, (h.EntityOperationCompletedEvent, h.EntityOperationFailedEvent)):
            open_ids.discard(requests.get(event.request_id, -1))
        elif isinstance(event, h.EntityLockGrantedEvent):
            open_ids.discard(requests.get(event.critical_section_id, -1))
        if isinstance(
            event,
            (
                h.TaskScheduledEvent,
                h.TimerCreatedEvent,
                h.SubOrchestrationInstanceCreatedEvent,
                h.EntityOperationCalledEvent,
                h.EntityLockRequestedEvent,
            ),
        ):
            open_ids.add(event.event_id)
        elif isinstance(event, h.TimerFiredEvent):
            open_ids.discard(event.timer_id)
        elif isinstance(
            event,
            (
                h.TaskCompletedEvent,
                h.TaskFailedEvent,
                h.SubOrchestrationInstanceCompletedEvent,
                h.SubOrchestrationInstanceFailedEvent,
            ),
        ):
            open_ids.discard(event.task_scheduled_id)
    return open_ids
