"""Rewinding: what failed in a failed instance is taken out of its history, and so is tried again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from durabletask import history as h
from durabletask.client import OrchestrationStatus

from dt_testkit.execution import Complete
from dt_testkit.execution.execution import naive
from dt_testkit.hub.instance import TERMINAL, Parent

if TYPE_CHECKING:
    from dt_testkit.hub.core import HubCore
    from dt_testkit.hub.instance import Instance

_SUB_ORCHESTRATION_COMPLETED = h.SubOrchestrationInstanceCompletedEvent
# What came after the failure and is not delivered late: it is tried again, or told again.
_TOLD_AGAIN = (h.TaskFailedEvent, _SUB_ORCHESTRATION_COMPLETED, h.SubOrchestrationInstanceFailedEvent)
# What is taken out, besides the scheduling of the activities that failed.
_TAKEN_OUT = (h.TaskFailedEvent, h.SubOrchestrationInstanceFailedEvent, h.ExecutionCompletedEvent)


def rewind(hub: HubCore, instance: Instance, reason: str | None) -> None:
    """Rewind a failed instance, and what it started; the caller has seen to it that it is one."""
    hub._refuse_in_a_turn()
    left: list[tuple[Instance, str | None]] = [(instance, None)]
    while left:
        one, parent_execution_id = left.pop()
        if one.status is OrchestrationStatus.FAILED:
            left += reversed(_rewind_one(hub, one, reason, parent_execution_id))


def _rewind_one(
    hub: HubCore, instance: Instance, reason: str | None, parent_execution_id: str | None
) -> list[tuple[Instance, str | None]]:
    """Rewind one instance; returns the failed ones that it waits for, and what to tell them of its execution.

    The history is cut as the SDK's worker cuts it (``_build_rewind_result``): failed activities are forgotten
    altogether, of failed sub-orchestrations only that they failed, for these are rewound too.
    """
    execution_id = hub._new_id()
    events = instance._generations[-1]
    aside, instance._aside = instance._aside, []
    # An activity that failed later, when nobody was told any more, is tried again like the others.
    failed = {
        event.task_scheduled_id
        for event in (*events, *(late for late, _ in aside))
        if isinstance(event, h.TaskFailedEvent)
    }
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
    instance._rewinds += 1
    instance._output = instance.failure = None
    instance.status = OrchestrationStatus.RUNNING
    instance.last_updated_at = hub._now
    for late, activity in aside:
        if not isinstance(late, _TOLD_AGAIN):
            hub._schedule(naive(late.timestamp), instance, late, activity=activity)
    done = {event.task_scheduled_id for event in kept if isinstance(event, _SUB_ORCHESTRATION_COMPLETED)}
    children = [
        _child_again(hub, instance, event)
        for event in kept
        if isinstance(event, h.SubOrchestrationInstanceCreatedEvent) and event.event_id not in done
    ]
    hub._enqueue(instance)
    return [(child, execution_id) for child in children if child.status is OrchestrationStatus.FAILED]


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


def _child_again(
    hub: HubCore, instance: Instance, created: h.SubOrchestrationInstanceCreatedEvent
) -> Instance:
    """The sub-orchestration that an instance waits for; one that is gone, or has ended well, is seen to."""
    child = hub._instances.get(created.instance_id)
    parent = Parent(instance, len(instance._generations), created.event_id)
    if child is None:  # purged: it runs afresh
        return hub._create(
            created.name, created.input, created.instance_id, version=created.version, parent=parent
        )
    child._parent = parent  # it may be another by now: one that was restarted under the same id
    instance._children[child.instance_id] = child
    if child.status in TERMINAL and child.status is not OrchestrationStatus.FAILED:  # tells it once more
        end = next(e for e in reversed(child._generations[-1]) if isinstance(e, h.ExecutionCompletedEvent))
        status = OrchestrationStatus(end.orchestration_status)
        hub._tell_parent(child, Complete(-1, status, end.result, end.failure_details), hub._stamp)
    return child
