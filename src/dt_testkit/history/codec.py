"""Events to protobuf and back: the only module that knows both forms.

The way back is the SDK's own. The way there is derived from the protobuf descriptors: an event class has the
name of its message, and fields are spelled alike but for case and underscores (``orchestration_span_id`` is
``orchestrationSpanID``), with one exception, the message of a failure.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask import history as sdk_history
from durabletask import task
from durabletask.history import HistoryEvent
from google.protobuf import json_format, timestamp_pb2, wrappers_pb2

from dt_testkit import sdk
from dt_testkit.errors import HistoryFormatError
from dt_testkit.sdk import pb

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_RENAMED = {"message": "errorMessage"}
_CLASSES = {"TaskFailureDetails": task.FailureDetails}


def events_to_protobuf(events: Iterable[HistoryEvent]) -> list[pb.HistoryEvent]:
    """Encode events as the messages that a backend sends.

    Parameters
    ----------
    events : Iterable[durabletask.history.HistoryEvent]
        The events. A naive timestamp is taken as UTC; an empty ``tags`` cannot be told from none.

    Raises
    ------
    HistoryFormatError
        If an event is of no known class, or holds what its message cannot.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> from durabletask.history import EventRaisedEvent
    >>> raised = EventRaisedEvent(-1, datetime(2026, 1, 1, tzinfo=timezone.utc), name="approval")
    >>> events_from_protobuf(events_to_protobuf([raised])) == [raised]
    True
    """
    messages: list[pb.HistoryEvent] = []
    try:
        for event in events:
            cls: Any = type(event)
            arm, message_class, table = _event_table(cls)
            timestamp = _timestamp(event.timestamp)
            body = message_class(**_encode(event, table))
            messages.append(pb.HistoryEvent(eventId=event.event_id, timestamp=timestamp, **{arm: body}))
    except (AttributeError, TypeError, ValueError, RecursionError, json_format.Error) as error:
        raise HistoryFormatError(
            f"Event {len(messages) + 1} ({type(event).__name__}) has no protobuf form ({error}): "
            "keep to the fields and types of durabletask.history."
        ) from error
    return messages


def events_from_protobuf(messages: Iterable[pb.HistoryEvent]) -> list[HistoryEvent]:
    """Decode messages to the SDK's public event classes.

    Parameters
    ----------
    messages : Iterable[HistoryEvent]
        Messages of the SDK's protocol.

    Raises
    ------
    HistoryFormatError
        If a message is of a kind that the SDK has no event class for.
    """
    events: list[HistoryEvent] = []
    try:
        for message in messages:
            events.append(sdk.event_from_protobuf(message))  # noqa: PERF401 - its length says which one failed
    except ValueError as error:
        raise HistoryFormatError(
            f"Event {len(events) + 1} cannot be decoded ({error}): use a durabletask that knows it."
        ) from error
    return events


def failure_to_protobuf(failure: task.FailureDetails) -> pb.TaskFailureDetails:
    """Encode failure details; numbers among their properties travel as floats."""
    message: pb.TaskFailureDetails = _nested(pb.TaskFailureDetails.DESCRIPTOR)(failure)
    return message


class _Field(NamedTuple):
    attribute: str
    name: str
    encode: Callable[[Any], Any] | None


class _EventTable(NamedTuple):
    arm: str
    message_class: Callable[..., Any]
    table: tuple[_Field, ...]


def _encode(value: Any, table: tuple[_Field, ...]) -> dict[str, Any]:
    encoded = {}
    for attribute, name, encode in table:
        item = getattr(value, attribute)
        if item is not None:
            encoded[name] = item if encode is None else encode(item)
    return encoded


_BASE = {field.name for field in fields(HistoryEvent)}
_EVENT_TYPE: Any = pb.HistoryEvent.DESCRIPTOR.oneofs_by_name["eventType"]
_ARMS = {arm.message_type.name: arm for arm in _EVENT_TYPE.fields}


@cache
def _event_table(cls: Any) -> _EventTable:
    arm: Any = _ARMS.get(cls.__name__)
    public: Any = getattr(sdk_history, cls.__name__, None)
    if arm is None or cls is not public:
        raise TypeError("not an event class of durabletask.history")
    return _EventTable(arm.name, getattr(pb, cls.__name__), _table(cls, arm.message_type, _BASE))


def _table(cls: type[Any], message: Any, without: Collection[str] = ()) -> tuple[_Field, ...]:
    by_name = {field.name.lower(): field for field in message.fields}
    table = []
    for attribute in (field.name for field in fields(cls) if field.name not in without):
        field = by_name[_RENAMED.get(attribute, attribute).replace("_", "").lower()]
        table.append(_Field(attribute, field.name, _encoder(field)))
    return tuple(table)


def _encoder(field: Any) -> Callable[[Any], Any] | None:
    message = field.message_type
    if message is None:
        return None
    if message.GetOptions().map_entry:
        values = message.fields_by_name["value"].message_type
        return None if values is None else _values
    return _MESSAGES.get(message.full_name) or _nested(message)


@cache
def _nested(message: Any) -> Callable[[Any], Any]:
    cls: type[Any] = _CLASSES.get(message.name) or getattr(sdk_history, message.name)
    message_class = getattr(pb, message.name)

    @cache
    def table() -> tuple[_Field, ...]:
        return _table(cls, message)  # when first used, for a failure holds a failure

    return lambda value: message_class(**_encode(value, table()))


@lru_cache(maxsize=64)  # the events of a turn share theirs; whoever is given it copies it
def _timestamp(value: Any) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value)
    return message


def _string(value: Any) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=value)


def _values(value: Any) -> dict[str, Any]:
    return {key: sdk.protobuf_value_from_python(item) for key, item in value.items()}


def _state(value: Any) -> pb.OrchestrationState:
    return json_format.ParseDict(value, pb.OrchestrationState())


_MESSAGES: dict[str, Callable[[Any], Any]] = {
    timestamp_pb2.Timestamp.DESCRIPTOR.full_name: _timestamp,
    wrappers_pb2.StringValue.DESCRIPTOR.full_name: _string,
    pb.OrchestrationState.DESCRIPTOR.full_name: _state,
}
