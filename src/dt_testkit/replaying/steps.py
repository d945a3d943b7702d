"""The steps of an orchestration: what records them, what asks for them, and the words for both."""

from __future__ import annotations

from typing import Any

from durabletask import history as h

from dt_testkit.execution import (
    CallEntity,
    CallSubOrchestrator,
    CreateTimer,
    LockEntities,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
)
from dt_testkit.execution.commands import moment
from dt_testkit.execution.execution import naive

# What records a command, and the command it records.
RECORDS: dict[type[h.HistoryEvent], type[Any]] = {
    h.TaskScheduledEvent: ScheduleActivity,
    h.TimerCreatedEvent: CreateTimer,
    h.SubOrchestrationInstanceCreatedEvent: CallSubOrchestrator,
    h.EventSentEvent: SendEvent,
    h.EntityOperationCalledEvent: CallEntity,
    h.EntityOperationSignaledEvent: SignalEntity,
    h.EntityLockRequestedEvent: LockEntities,
    h.EntityUnlockSentEvent: UnlockEntity,
}


def name_of(item: Any) -> str | None:
    """The name of a recorded event or a command: what the two must share to be the same step."""
    kind = type(item)
    if kind in (h.EntityOperationCalledEvent, h.EntityOperationSignaledEvent):
        return item.operation  # type: ignore[no-any-return]
    if kind is h.EntityLockRequestedEvent:
        return ", ".join(item.lock_set)
    if kind is h.EntityUnlockSentEvent:
        return item.target_instance_id  # type: ignore[no-any-return]
    return getattr(item, "name", None)


def describe(item: Any) -> str:
    """A recorded event or a command, in the words of the user's code."""
    kind = RECORDS.get(type(item), type(item))
    if kind is ScheduleActivity:
        return f"activity {item.name!r}"
    if kind is CreateTimer:
        return f"a timer until {moment(naive(item.fire_at))}"
    if kind is CallSubOrchestrator:
        return f"sub-orchestration {item.name!r}"
    if kind is SendEvent:
        return f"an event {item.name!r} to {item.instance_id!r}"
    if kind in (CallEntity, SignalEntity):
        target = getattr(item, "entity_id", None) or getattr(item, "target_instance_id", None)
        return f"{'a call of' if kind is CallEntity else 'a signal'} {name_of(item)!r} to entity {target}"
    if kind is LockEntities:
        return f"a lock of {name_of(item)}"
    if kind is UnlockEntity:
        return f"the unlock of {name_of(item)}"
    return "its completion"
