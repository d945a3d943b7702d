"""Rewinding: what failed in a failed instance is taken out of its history, and so is tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING

from durabletask import history as h
from durabletask.client import OrchestrationStatus

from dt_testkit.execution import Complete, ScheduleActivity
from dt_testkit.execution.execution import naive
from dt_testkit.hub.instance import TERMINAL, Parent

if TYPE_CHECKING:
    from dt_testkit.hub.core import HubCore
    from dt_testkit.hub.instance import Instance

# What is taken out, besides the scheduling of the activities that failed.
_TAKEN_OUT = (h.TaskFailedEvent, h.SubOrchestrationInstanceFailedEvent, h.ExecutionCompletedEvent)


def rewind(
    hub: HubCore, instance: Instance, reason: str | None, parent_execution_id: str | None = None
) -> None:
    """Rewind a failed instance; the caller has seen to it that it is one.

    The history is cut as the SDK's worker cuts it (``_build_rewind_result``): failed activities are forgotten
    altogether, of failed sub-orchestrations only that they failed, for these are rewound too.
    """
    hub._refuse_in_a_turn()
    execution_id = hub._new_id()
    events = instance._generations[-1]
    failed = {event.task_scheduled_id for event in events if isinstance(event, h.TaskFailedEvent)}
    kept: list[h.HistoryEvent] = [
        _begun_anew(event, execution_id, parent_execution_id)
        if isinstance(event, h.ExecutionStartedEvent)
        else event
        for event in events
        if not isinstance(event, _TAKEN_OUT)
        and not (isinstance(event, h.TaskScheduledEvent) and event.event_id in failed)
    ]
    kept += [
        h.OrchestratorStartedEvent(-1, hub._stamp),
        h.ExecutionRewoundEvent(-1, hub._stamp, reason, parent_execution_id),
        h.OrchestratorCompletedEvent(-1, hub._stamp),
    ]
    instance._generations[-1] = kept
    instance._execution = None
    instance._inbox = []
    instance._rewound = True
    instance._output = instance.failure = None
    instance.status = OrchestrationStatus.RUNNING
    instance.last_updated_at = hub._now
    _ask_again(hub, instance, kept, reason, execution_id)
    hub._enqueue(instance)


def _begun_anew(
    event: h.ExecutionStartedEvent, execution_id: str, parent_execution_id: str | None
) -> h.ExecutionStartedEvent:
    """The start of an instance that is rewound: a new execution, and of a parent that is a new one too."""
    parent = event.parent_instance
    if parent is not None and parent.orchestration_instance is not None and parent_execution_id is not None:
        of_parent = replace(parent.orchestration_instance, execution_id=parent_execution_id)
        parent = replace(parent, orchestration_instance=of_parent)
    own = event.orchestration_instance
    if own is not None:
        own = replace(own, execution_id=execution_id)
    return replace(event, orchestration_instance=own, parent_instance=parent)


def _ask_again(
    hub: HubCore, instance: Instance, kept: list[h.HistoryEvent], reason: str | None, execution_id: str
) -> None:
    """See to what was open when the instance failed, for its results were dropped from then on."""
    hub._forget_due(instance)
    done = {getattr(event, "task_scheduled_id", None) for event in kept}
    fired = {event.timer_id for event in kept if isinstance(event, h.TimerFiredEvent)}
    for event in kept:
        if isinstance(event, h.TimerCreatedEvent) and event.event_id not in fired:
            due = event.fire_at.replace(tzinfo=timezone.utc)
            hub._schedule(naive(event.fire_at), instance, h.TimerFiredEvent(-1, due, due, event.event_id))
        elif isinstance(event, h.TaskScheduledEvent) and event.event_id not in done:
            hub._start_activity(
                instance, ScheduleActivity(event.event_id, event.name, event.input, event.tags)
            )
        elif isinstance(event, h.SubOrchestrationInstanceCreatedEvent) and event.event_id not in done:
            _rewind_child(hub, instance, event, reason, execution_id)


def _rewind_child(
    hub: HubCore,
    instance: Instance,
    created: h.SubOrchestrationInstanceCreatedEvent,
    reason: str | None,
    execution_id: str,
) -> None:
    child = hub._instances.get(created.instance_id)
    if child is None:  # purged: it runs afresh
        parent = Parent(instance, len(instance._generations), created.event_id)
        hub._create(created.name, created.input, created.instance_id, version=created.version, parent=parent)
    elif child.status is OrchestrationStatus.FAILED:
        rewind(hub, child, reason, execution_id)
    elif child.status in TERMINAL and child._parent is not None:  # its parent is told once more
        end = next(e for e in reversed(child._generations[-1]) if isinstance(e, h.ExecutionCompletedEvent))
        status = OrchestrationStatus(end.orchestration_status)
        hub._tell_parent(child, Complete(-1, status, end.result, end.failure_details), hub._stamp)
