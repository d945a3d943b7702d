"""Work for workers as the messages of the SDK's protocol, and their answers as commands.

An orchestrator is sent its whole history with every turn. A generation's events are encoded once and kept as
bytes (a message is its fields one after another, so a longer history is the shorter one with more bytes
behind it), so that a turn costs the copying of its history and not the encoding of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durabletask import history as h
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from google.protobuf import wrappers_pb2

from dt_testkit.execution import (
    CallEntity,
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    LockEntities,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
)
from dt_testkit.history.codec import events_from_protobuf, events_to_protobuf
from dt_testkit.hub.entities import BatchResult, NewOrchestration, Signal
from dt_testkit.hub.instance import TERMINAL
from dt_testkit.sdk import failure_details_from_protobuf, pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from dt_testkit.hub.entities import Entity, EntityOperation
    from dt_testkit.hub.instance import Instance

_ORCHESTRATOR_REQUEST = pb.WorkItem.DESCRIPTOR.fields_by_name["orchestratorRequest"].number << 3 | 2


class EncodedHistory:
    """The events of one generation, encoded as the past of a turn."""

    def __init__(self, events: Sequence[h.HistoryEvent]) -> None:
        self._events = events
        self._count = 0
        self._data = bytearray()
        self._sent: list[tuple[h.HistoryEvent, pb.HistoryEvent]] = []

    def is_of(self, events: Sequence[h.HistoryEvent]) -> bool:
        """Whether it is of this very list of events."""
        return self._events is events

    def first(self, count: int) -> bytearray:
        """The first events; never fewer than were asked for before."""
        new = self._events[self._count : count]
        if new:
            sent = [message for (event, message), now in zip(self._sent, new, strict=False) if event is now]
            messages = sent + events_to_protobuf(new[len(sent) :]) if len(sent) == len(self._sent) else None
            past = messages or events_to_protobuf(new)
            self._data += pb.OrchestratorRequest(pastEvents=past).SerializeToString()
            self._count = count
        self._sent = []
        return self._data

    def send(self, new: Sequence[h.HistoryEvent]) -> list[pb.HistoryEvent]:
        """The events of the turn behind those; they are the next to become past, and not encoded again."""
        messages = events_to_protobuf(new)
        self._sent = list(zip(new, messages, strict=True))
        return messages


def turn(instance: Instance, past: bytearray, new: Iterable[pb.HistoryEvent], token: str) -> bytes:
    """A turn of an orchestration, as the bytes of a ``WorkItem``."""
    request = pb.OrchestratorRequest(instanceId=instance.instance_id, newEvents=new)
    body = request.SerializeToString()
    head = pb.WorkItem(completionToken=token).SerializeToString()
    return b"".join(
        (head, _varint(_ORCHESTRATOR_REQUEST), _varint(len(body) + len(past)), body, memoryview(past))
    )


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def activity(instance: Instance, command: ScheduleActivity, token: str) -> bytes:
    """An activity to run, as the bytes of a ``WorkItem``."""
    request = pb.ActivityRequest(
        name=command.name,
        input=_string(command.input),
        orchestrationInstance=pb.OrchestrationInstance(instanceId=instance.instance_id),
        taskId=command.id,
        tags=command.tags,
    )
    return pb.WorkItem(completionToken=token, activityRequest=request).SerializeToString()


def batch(entity: Entity, operations: Iterable[EntityOperation], token: str) -> bytes:
    """Operations of an entity, as the bytes of a ``WorkItem``."""
    request = pb.EntityRequest(
        instanceId=entity._id,
        entityState=_string(entity._state),
        operationRequests=[_operation(entity._id, operation) for operation in operations],
    )
    return pb.WorkItem(completionToken=token, entityRequestV2=request).SerializeToString()


def _operation(entity_id: str, operation: EntityOperation) -> pb.HistoryEvent:
    fields: dict[str, Any] = {
        "requestId": operation.request_id,
        "operation": operation.name,
        "input": _string(operation.input),
        "targetInstanceId": _string(entity_id),
    }
    if operation.caller is None:
        signal = pb.EntityOperationSignaledEvent(**fields)
        return pb.HistoryEvent(eventId=-1, entityOperationSignaled=signal)
    caller = _string(operation.caller.instance.instance_id)
    call = pb.EntityOperationCalledEvent(**fields, parentInstanceId=caller)
    return pb.HistoryEvent(eventId=-1, entityOperationCalled=call)


def commands(instance_id: str, actions: Iterable[pb.OrchestratorAction]) -> list[Command]:
    """What an orchestrator asked for in a turn.

    Raises
    ------
    ValueError
        An action is of a kind that a task hub does not know, or ends an orchestration in no way there is.
    """
    made = []
    for action in actions:
        kind = action.WhichOneof("orchestratorActionType")
        if kind not in _COMMANDS:
            raise ValueError(f"An orchestrator asked for {kind}, which this task hub does not know.")
        command = _COMMANDS[kind](action)
        if isinstance(command, CallSubOrchestrator) and not command.instance_id:
            command = replace(command, instance_id=f"{instance_id}:{action.id:04x}")  # as the SDK names it
        made.append(command)
    return made


def _schedule_activity(action: pb.OrchestratorAction) -> Command:
    task = action.scheduleTask
    return ScheduleActivity(action.id, task.name, _text(task, "input"), dict(task.tags) or None)


def _create_timer(action: pb.OrchestratorAction) -> Command:
    return CreateTimer(action.id, action.createTimer.fireAt.ToDatetime())


def _call_sub_orchestrator(action: pb.OrchestratorAction) -> Command:
    sub = action.createSubOrchestration
    instance_id, version = sub.instanceId, _text(sub, "version")
    return CallSubOrchestrator(action.id, sub.name, instance_id, _text(sub, "input"), version)


def _send_event(action: pb.OrchestratorAction) -> Command:
    sent = action.sendEvent
    return SendEvent(action.id, sent.instance.instanceId, sent.name, _text(sent, "data"))


def _complete(action: pb.OrchestratorAction) -> Command:
    end = action.completeOrchestration
    status = OrchestrationStatus(end.orchestrationStatus)
    if status not in (*TERMINAL, OrchestrationStatus.CONTINUED_AS_NEW):
        raise ValueError(f"An orchestrator ended as {status.name}, which is no way to end.")
    return Complete(
        action.id,
        status,
        _text(end, "result"),
        failure_details_from_protobuf(end.failureDetails) if end.HasField("failureDetails") else None,
        [e for e in events_from_protobuf(end.carryoverEvents) if isinstance(e, h.EventRaisedEvent)],
        _text(end, "newVersion"),
    )


def _entity_message(action: pb.OrchestratorAction) -> Command:
    kind = action.sendEntityMessage.WhichOneof("EntityMessageType")
    if kind is None:
        raise ValueError("An orchestrator sent an entity a message without content.")
    message = getattr(action.sendEntityMessage, kind)
    if kind == "entityLockRequested":
        return LockEntities(action.id, message.criticalSectionId, list(message.lockSet))
    target = message.targetInstanceId.value
    if kind == "entityUnlockSent":
        return UnlockEntity(action.id, message.criticalSectionId, target)
    asked = message.operation, _text(message, "input"), message.requestId
    if kind == "entityOperationCalled":
        return CallEntity(action.id, target, *asked)
    return SignalEntity(action.id, target, *asked, _moment(message, "scheduledTime"))


_COMMANDS = {
    "scheduleTask": _schedule_activity,
    "createTimer": _create_timer,
    "createSubOrchestration": _call_sub_orchestrator,
    "sendEvent": _send_event,
    "completeOrchestration": _complete,
    "sendEntityMessage": _entity_message,
}


def batch_result(message: pb.EntityBatchResult, count: int) -> BatchResult:
    """What came of a batch of so many operations."""
    results: list[Any] = []
    for result in message.results:
        if result.HasField("failure"):
            results.append(failure_details_from_protobuf(result.failure.failureDetails))
        else:
            results.append(_text(result.success, "result"))
    if message.HasField("failureDetails"):  # of what the worker did not get to
        failure = failure_details_from_protobuf(message.failureDetails)
        results += [failure] * (count - len(results))
    state = message.entityState.value or None
    return BatchResult(results, state, [_entity_action(action) for action in message.actions])


def _entity_action(action: pb.OperationAction) -> Signal | NewOrchestration:
    if action.HasField("sendSignal"):
        sent = action.sendSignal
        entity_id = str(EntityInstanceId.parse(sent.instanceId))
        return Signal(entity_id, sent.name, _text(sent, "input"), _moment(sent, "scheduledTime"))
    start = action.startNewOrchestration
    return NewOrchestration(start.name, _text(start, "input"), start.instanceId, _text(start, "version"))


def _text(message: Any, field: str) -> str | None:
    return getattr(message, field).value if message.HasField(field) else None


def _string(value: str | None) -> wrappers_pb2.StringValue | None:
    return wrappers_pb2.StringValue(value=value) if value is not None else None


def _moment(message: Any, field: str) -> datetime | None:
    """A moment of a message, naive UTC."""
    return getattr(message, field).ToDatetime() if message.HasField(field) else None
