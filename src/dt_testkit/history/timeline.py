"""A history as text: a header, and under a mark for each turn one line an event."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from durabletask import history as sdk_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask.history import HistoryEvent
    from durabletask.task import FailureDetails

    from dt_testkit.history.history import History

DEFAULT_WIDTH = 120
FAILURE_WIDTH = 400

# The numbers are the protocol's; taking the names from durabletask.client would import gRPC to print a text.
_STATUS = {
    0: "RUNNING",
    1: "COMPLETED",
    2: "CONTINUED_AS_NEW",
    3: "FAILED",
    4: "CANCELED",
    5: "TERMINATED",
    6: "PENDING",
    7: "SUSPENDED",
}
_BOLD, _DIM, _RED, _GREEN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"
_COLORS = {"failed": _RED, "terminated": _RED, "completed": _GREEN, "fired": _GREEN, "granted": _GREEN}


def render(history: History, *, width: int | None = None, color: bool = False) -> str:
    """Return a timeline of a history that people can read.

    Parameters
    ----------
    history : History
        The history.
    width : int | None
        Where to cut the lines of the events, in characters; None is 120, and 400 for failures. The header is
        never cut.
    color : bool
        Whether to color the text with ANSI escapes, for a terminal.

    Notes
    -----
    An offset is the time from the first moment in the history to the start of the turn. The in-memory backend
    of the SDK stamps most events with 1970-01-01: those moments are left out.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> from durabletask.history import OrchestratorStartedEvent, TaskScheduledEvent
    >>> from dt_testkit.history import History
    >>> now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    >>> task = TaskScheduledEvent(1, now, name="reserve", input='"desk"')
    >>> print(render(History("order-1", [OrchestratorStartedEvent(-1, now), task])))
    (orchestrator unknown) 'order-1'  in flight  2 events  2026-01-01 00:00:00
    +0:00:00  ▶ turn 1
       #1     activity       reserve("desk")
    """
    return _Timeline(history, width or DEFAULT_WIDTH, width or FAILURE_WIDTH, color).text()


class _Timeline:
    def __init__(self, history: History, width: int, failure_width: int, color: bool) -> None:
        self._history = history
        self._width = width
        self._failure_width = failure_width
        self._color = color
        moments = [moment for event in history if (moment := _moment(event.timestamp)) is not None]
        self._span = (min(moments), max(moments)) if moments else None
        self._names: dict[int, str] = {}
        self._requests: dict[str, tuple[int, str]] = {}

    def text(self) -> str:
        turns = [event for event in self._history if isinstance(event, sdk_history.OrchestratorStartedEvent)]
        offsets = [self._offset(event) for event in turns]
        gutter = max(10, *(len(offset) + 2 for offset in offsets)) if offsets else 10
        lines = [self._paint(self._header(), _BOLD)]
        turn = 0
        for event in self._history:
            if isinstance(event, sdk_history.OrchestratorStartedEvent):
                mark = f"▶ turn {turn + 1}"
                lines.append(self._paint(offsets[turn].ljust(gutter), _DIM) + self._paint(mark, _BOLD))
                turn += 1
            elif not isinstance(event, sdk_history.OrchestratorCompletedEvent):
                number, kind, text = self._describe(event)
                place = "" if number is None or number < 0 else f"   #{number}"
                width = self._failure_width if kind == "failed" else self._width
                line = f"{place.ljust(gutter)}{kind.ljust(14)} {_one_line(text[: width + 1])}".rstrip()
                if len(line) > width:
                    line = line[: width - 1] + "…"
                if kind in _COLORS:
                    line = line[:gutter] + self._paint(line[gutter:], _COLORS[kind])
                lines.append(line)
        metadata = self._history.metadata or {}
        if not len(self._history) and metadata.get("runtime_status") == "PENDING":
            to_come = "nothing has run yet: hub.settle() takes the first turn"
            lines.append(self._history._stands_still or to_come)
        return "\n".join(lines)

    def _header(self) -> str:
        history = self._history
        number = history._status_number()
        status = "in flight" if number is None else _STATUS.get(number, f"status {number}")
        count = f"{len(history)} event{'' if len(history) == 1 else 's'}"
        name = history.orchestrator_name or (history.metadata or {}).get("name") or "(orchestrator unknown)"
        name = _one_line(str(name))
        parts = [f"{name} {history.instance_id!r}", status, count]
        if self._span is not None:
            first, last = (moment.replace(microsecond=0) for moment in self._span)
            span = f"{first:%Y-%m-%d %H:%M:%S}"
            if last != first:
                span += (
                    f" → {last:%H:%M:%S}" if last.date() == first.date() else f" → {last:%Y-%m-%d %H:%M:%S}"
                )
            parts.append(span)
        return "  ".join(parts)

    def _offset(self, event: HistoryEvent) -> str:
        moment = _moment(event.timestamp)
        return f"+{_duration(moment - self._span[0])}" if moment and self._span else ""

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}\x1b[0m" if self._color and text else text

    def _describe(self, event: HistoryEvent) -> tuple[int | None, str, str]:
        """Return the id of the operation, what happened to it, and the details."""
        describe = _DESCRIBE.get(type(event), _Timeline._other)
        return describe(self, event)

    def _scheduled(self, event: Any, kind: str, name: str, text: str) -> tuple[int, str, str]:
        self._names[event.event_id] = name
        return event.event_id, kind, text

    def _requested(self, event: Any, request: str, kind: str, name: str, text: str) -> tuple[int, str, str]:
        self._requests[request] = (event.event_id, name)
        return event.event_id, kind, text

    def _answered(self, request: str, kind: str, suffix: str = "") -> tuple[int | None, str, str]:
        number, name = self._requests.get(request, (None, f"request {request}"))
        return number, kind, f"{name}{suffix}"

    def _done(self, number: int, kind: str, suffix: str = "") -> tuple[int, str, str]:
        return number, kind, f"{self._names.get(number, '?')}{suffix}"

    def _started(self, event: Any) -> tuple[int | None, str, str]:
        text = f"{event.name}(input={event.input})" if event.input is not None else f"{event.name}()"
        if event.version:
            text += f" version {event.version}"
        if event.parent_instance is not None:
            parent = event.parent_instance
            instance = parent.orchestration_instance
            called_by = parent.name or (instance.instance_id if instance is not None else "?")
            text += f" called by {called_by} #{parent.task_scheduled_id}"
        if event.scheduled_start_timestamp is not None:
            text += f" scheduled for {_time(event.scheduled_start_timestamp)}"
        return None, "started", text

    def _ended(self, event: Any) -> tuple[int | None, str, str]:
        number = event.orchestration_status
        kind = _STATUS.get(number, f"status {number}").lower().replace("continued_as_new", "continued")
        name = self._history.orchestrator_name or "?"
        return (
            None,
            kind,
            name + (_failure(event.failure_details) if event.failure_details else _to(event.result)),
        )

    def _timer(self, event: Any) -> tuple[int | None, str, str]:
        until = f"until {_time(event.fire_at)}"
        return self._scheduled(event, "timer", f"timer {until}", until)

    def _other(self, event: HistoryEvent) -> tuple[int | None, str, str]:
        details = {
            field.name: value
            for field in fields(event)
            if field.name not in ("event_id", "timestamp")
            and (value := getattr(event, field.name)) not in (None, "")
        }
        text = " ".join(f"{name}={value}" for name, value in details.items())
        return event.event_id, type(event).__name__.removesuffix("Event"), text


def _call(name: str, payload: str | None) -> str:
    return f"{name}({payload or ''})"


def _to(payload: str | None) -> str:
    return "" if payload is None else f" → {payload}"


def _failure(failure: FailureDetails | None) -> str:
    return "" if failure is None else f" ✗ {failure.error_type.rpartition('.')[2]}: {failure.message}"


def _entity_call(event: Any) -> str:
    return f"{event.target_instance_id or '?'}.{event.operation}"


def _later(event: Any) -> str:
    return "" if event.scheduled_time is None else f" at {_time(event.scheduled_time)}"


_DESCRIBE: dict[type[HistoryEvent], Callable[[_Timeline, Any], tuple[int | None, str, str]]] = {
    sdk_history.ExecutionStartedEvent: _Timeline._started,
    sdk_history.ExecutionCompletedEvent: _Timeline._ended,
    sdk_history.TaskScheduledEvent: lambda t, e: t._scheduled(e, "activity", e.name, _call(e.name, e.input)),
    sdk_history.TaskCompletedEvent: lambda t, e: t._done(e.task_scheduled_id, "completed", _to(e.result)),
    sdk_history.TaskFailedEvent: lambda t, e: t._done(
        e.task_scheduled_id, "failed", _failure(e.failure_details)
    ),
    sdk_history.SubOrchestrationInstanceCreatedEvent: lambda t, e: t._scheduled(
        e, "orchestration", e.name, f"{_call(e.name, e.input)} as {e.instance_id!r}"
    ),
    sdk_history.SubOrchestrationInstanceCompletedEvent: lambda t, e: t._done(
        e.task_scheduled_id, "completed", _to(e.result)
    ),
    sdk_history.SubOrchestrationInstanceFailedEvent: lambda t, e: t._done(
        e.task_scheduled_id, "failed", _failure(e.failure_details)
    ),
    sdk_history.TimerCreatedEvent: _Timeline._timer,
    sdk_history.TimerFiredEvent: lambda t, e: (e.timer_id, "fired", f"timer of {_time(e.fire_at)}"),
    sdk_history.EventSentEvent: lambda t, e: (
        e.event_id,
        "event sent",
        f"{_call(e.name, e.input)} to {e.instance_id!r}",
    ),
    sdk_history.EventRaisedEvent: lambda t, e: (None, "event raised", _call(e.name, e.input)),
    sdk_history.ContinueAsNewEvent: lambda t, e: (None, "continued", e.input or ""),
    sdk_history.ExecutionTerminatedEvent: lambda t, e: (
        None,
        "terminate",
        f"{e.input or ''}{' and its sub-orchestrations' if e.recurse else ''}".strip(),
    ),
    sdk_history.ExecutionSuspendedEvent: lambda t, e: (None, "suspended", e.input or ""),
    sdk_history.ExecutionResumedEvent: lambda t, e: (None, "resumed", e.input or ""),
    sdk_history.ExecutionRewoundEvent: lambda t, e: (None, "rewound", e.reason or ""),
    sdk_history.EntityOperationCalledEvent: lambda t, e: t._requested(
        e, e.request_id, "entity call", _entity_call(e), _call(_entity_call(e), e.input) + _later(e)
    ),
    sdk_history.EntityOperationSignaledEvent: lambda t, e: (
        e.event_id,
        "entity signal",
        _call(_entity_call(e), e.input) + _later(e),
    ),
    sdk_history.EntityOperationCompletedEvent: lambda t, e: t._answered(
        e.request_id, "completed", _to(e.output)
    ),
    sdk_history.EntityOperationFailedEvent: lambda t, e: t._answered(
        e.request_id, "failed", _failure(e.failure_details)
    ),
    sdk_history.EntityLockRequestedEvent: lambda t, e: t._requested(
        e, e.critical_section_id, "lock", f"lock of {', '.join(e.lock_set)}", ", ".join(e.lock_set)
    ),
    sdk_history.EntityLockGrantedEvent: lambda t, e: t._answered(e.critical_section_id, "granted"),
    sdk_history.EntityUnlockSentEvent: lambda t, e: (e.event_id, "unlock", e.target_instance_id or ""),
    sdk_history.GenericEvent: lambda t, e: (None, "generic", e.data or ""),
}


def _moment(timestamp: datetime) -> datetime | None:
    moment = timestamp if timestamp.tzinfo is not None else timestamp.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc) if timestamp.year > 1970 else None


def _time(timestamp: datetime) -> str:
    naive = timestamp if timestamp.tzinfo is None else timestamp.astimezone(timezone.utc).replace(tzinfo=None)
    return naive.isoformat(" ", "milliseconds" if naive.microsecond >= 1000 else "seconds")


def _duration(span: timedelta) -> str:
    minutes, seconds = divmod(span.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    milliseconds = span.microseconds // 1000
    days = f"{span.days}d " if span.days else ""
    fraction = f".{milliseconds:03}" if milliseconds else ""
    return f"{days}{hours}:{minutes:02}:{seconds:02}{fraction}"


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
