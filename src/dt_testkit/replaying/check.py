"""Replay a history through an orchestrator, and hold every command against the event that recorded it.

The events that carry something into the orchestrator (results, timers, external events) are fed to an
:class:`~dt_testkit.execution.Execution`. The events that record what it asked for are compared with the
commands that it asks for now, by id, as the SDK's worker does, but in every field. Differences are looked at
when the turn closes, for only then is it known whether a step was renamed, moved, added or taken away.

Where a turn differs in more than values (another name, a step more or less), the code has left the path that
the history took: ids mean something else from there on, and results would reach the wrong tasks. The replay
stops there, so that one change is one divergence and not a hundred.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus

from dt_testkit.errors import HistoryFormatError, ReplayDivergence
from dt_testkit.execution import (
    CallEntity,
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Execution,
    Location,
    LockEntities,
    Payloads,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
    WorkerOptions,
)
from dt_testkit.execution.context import Open
from dt_testkit.execution.execution import VersionMismatch, naive
from dt_testkit.execution.options import DEFAULT_OPTIONS
from dt_testkit.guard import unguarded
from dt_testkit.replaying.oracle import worker_outcome
from dt_testkit.replaying.report import Divergence, ReplayReport, plural, shown, shown_apart
from dt_testkit.replaying.splitting import Splitting, splitting
from dt_testkit.replaying.steps import RECORDS, describe, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter
    from durabletask.worker import VersioningOptions

    from dt_testkit.history import History

# `<Order object at 0x7f9ec57bbf60>` is another text in every process, and no change of the code.
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

# What the results of an operation come back by, noted from the record as a worker does.
_NOTED = (h.EntityOperationCalledEvent, h.EntityLockRequestedEvent)


def replay(
    history: History,
    orchestrators: Any,
    *,
    data_converter: DataConverter | None = None,
    maximum_timer_interval: timedelta | None = None,
    versioning: VersioningOptions | None = None,
    payload_store: PayloadStore | None = None,
) -> ReplayReport:
    """Replay a history, and tell what the code does differently now.

    Parameters
    ----------
    history : History
        Any history: recorded by a hub, loaded from a file, fetched with a client. One of an instance in
        flight is replayed up to its last event.
    orchestrators : Orchestrator | Iterable[Orchestrator] | Mapping[str, Orchestrator] | TaskHub
        The code to replay it with. A single function is used whatever its name; otherwise it is looked up
        by the name in the history.
    data_converter : DataConverter | None
        The converter of the application; default: the hub's, or the SDK's.
    maximum_timer_interval : timedelta | None
        The worker's ``maximum_timer_interval``, where the history is of one that chunks long timers
        (``TaskHubGrpcWorker`` chunks at three days, the worker for the Durable Task Scheduler not at all).
        Default: the hub's, if it is given one.
    versioning : VersioningOptions | None
        What the worker was given with ``use_versioning``. Default: the hub's, if it is given one.
    payload_store : PayloadStore | None
        The application's payload store, where the history holds its tokens: values are compared, and not
        tokens. Default: the hub's, if it is given one.

    Returns
    -------
    ReplayReport
        ``report.ok``, ``report.divergences``, ``report.worker_outcome``; as text, an explanation.

    Raises
    ------
    VersionRejected
        By its versioning options the worker would not take the instance.
    HistoryFormatError
        The history has no beginning, or ends with a status that the SDK does not know.

    Examples
    --------
    >>> from dt_testkit import TaskHub, replay
    >>> def greet(ctx, name):
    ...     return (yield ctx.call_activity("hello", input=name))
    >>> hub = TaskHub()
    >>> _ = hub.add_orchestrator(greet)
    >>> _ = hub.stub("hello", return_value="Hello")
    >>> history = hub.run(greet, input="ana").history
    >>> replay(history, greet).ok
    True
    """
    return check(
        *prepare(
            "replay",
            history,
            orchestrators,
            data_converter,
            maximum_timer_interval,
            versioning,
            payload_store,
        )
    )


class Prepared(NamedTuple):
    """What a history is replayed with."""

    instance_id: str
    events: Sequence[h.HistoryEvent]
    orchestrators: Mapping[str, Any]
    payloads: Payloads
    options: WorkerOptions
    in_flight: bool


def prepare(
    caller: str,
    history: History,
    orchestrators: Any,
    data_converter: DataConverter | None,
    maximum_timer_interval: timedelta | None,
    versioning: VersioningOptions | None,
    payload_store: PayloadStore | None,
) -> Prepared:
    """The arguments of :func:`replay`, checked and filled in; ``caller`` is who took them."""
    if not hasattr(history, "events") or not hasattr(history, "instance_id"):
        raise TypeError(
            f"{caller}() takes a History first, such as instance.history or History.load(path), not "
            f"{type(history).__name__!r}."
        )
    # An instance that was terminated before its time to start has no beginning, and nothing went wrong.
    begins = (h.ExecutionStartedEvent, h.ExecutionTerminatedEvent)
    if not any(isinstance(event, begins) for event in history.events):
        raise HistoryFormatError(
            f"The history of '{history.instance_id}' has no ExecutionStarted event among its "
            f"{plural(len(history), 'event')}, so there is nothing to replay: was the instance fetched "
            "before it started, or the export cut at its head?"
        )
    if data_converter is None:
        data_converter = getattr(orchestrators, "data_converter", None)
    options = getattr(orchestrators, "worker_options", DEFAULT_OPTIONS)
    if maximum_timer_interval is not None:
        options = options._replace(maximum_timer_interval=maximum_timer_interval)
    if versioning is not None:
        options = options._replace(versioning=versioning)
    if payload_store is None:
        payload_store = getattr(orchestrators, "payload_store", None)
    payloads = Payloads(data_converter, payload_store)
    functions = _by_name(caller, orchestrators, history.orchestrator_name)
    in_flight = (history.metadata or {}).get("runtime_status") in ("PENDING", "RUNNING", "SUSPENDED")
    return Prepared(history.instance_id, history.events, functions, payloads, options, in_flight)


def assert_replays(
    history: History,
    orchestrators: Any,
    *,
    data_converter: DataConverter | None = None,
    maximum_timer_interval: timedelta | None = None,
    versioning: VersioningOptions | None = None,
    payload_store: PayloadStore | None = None,
) -> None:
    """Replay a history, and raise if the code does anything differently now.

    Takes what :func:`replay` takes.

    Raises
    ------
    ReplayDivergence
        An ``AssertionError`` whose message is the report.
    """
    report = replay(
        history,
        orchestrators,
        data_converter=data_converter,
        maximum_timer_interval=maximum_timer_interval,
        versioning=versioning,
        payload_store=payload_store,
    )
    if not report.ok:
        raise ReplayDivergence(report)


def _by_name(caller: str, orchestrators: Any, recorded_name: str | None) -> Mapping[str, Any]:
    registered = getattr(orchestrators, "orchestrators", orchestrators)
    takes = f"{caller}() takes an orchestrator, an iterable of them, a mapping by name or a TaskHub"
    if callable(registered):
        return {recorded_name or task.get_name(registered): registered}
    if isinstance(registered, (str, bytes)) or not isinstance(registered, Iterable):
        raise TypeError(f"{takes}, not {type(orchestrators).__name__!r}; pass the function itself.")
    if not isinstance(registered, Mapping):
        registered = list(registered)
    for each in registered.values() if isinstance(registered, Mapping) else registered:
        if not callable(each):
            raise TypeError(f"{takes}, and {each!r} in it is no orchestrator; pass the function itself.")
    if isinstance(registered, Mapping):
        return registered
    return {task.get_name(function): function for function in registered}


def check(
    instance_id: str,
    events: Sequence[h.HistoryEvent],
    orchestrators: Mapping[str, Any],
    payloads: Payloads,
    options: WorkerOptions = DEFAULT_OPTIONS,
    in_flight: bool = False,
) -> ReplayReport:
    """:func:`replay` without its conveniences, for callers that replay all the time.

    ``in_flight`` says that the instance is known not to have ended in its last turn; without it, a history
    that stops there may as well have lost its last event.
    """
    one = Check(instance_id, events, orchestrators, payloads, options)
    one.run(in_flight)
    return one.report()


def rebuild(
    instance_id: str,
    events: Sequence[h.HistoryEvent],
    orchestrators: Mapping[str, Any],
    payloads: Payloads,
    options: WorkerOptions = DEFAULT_OPTIONS,
) -> tuple[Execution, list[Command]]:
    """Bring an orchestration back to where its history leaves it, as a worker does that never saw it before.

    Returns
    -------
    tuple[Execution, list[Command]]
        The execution, ready for the next event, and what the code asked for that the history has no record
        of; there is such only if the history was cut back, as it is by a rewind, or if the worker fails the
        orchestration for its version.

    Raises
    ------
    ReplayDivergence
        The code does not get there.
    """
    one = Check(instance_id, events, orchestrators, payloads, options)
    one.run(in_flight=True)
    if one.divergences and not isinstance(one.execution.error, VersionMismatch):
        raise ReplayDivergence(one.report())
    one.execution.context._replaying = False
    return one.execution, one.next_commands


class Check:
    def __init__(
        self,
        instance_id: str,
        events: Sequence[h.HistoryEvent],
        orchestrators: Mapping[str, Any],
        payloads: Payloads,
        options: WorkerOptions,
        *,
        replaying: bool = True,
    ) -> None:
        self.events = events
        self.orchestrators = orchestrators
        self.payloads = payloads
        self.execution = Execution(instance_id, orchestrators, payloads, options, replaying=replaying)
        self._in_flight = False
        self.orchestrator_name: str | None = None
        self.compared = 0
        self.divergences: list[Divergence] = []
        self.next_commands: list[Command] = []
        # Up to there, steps may be missing that are recorded later: those that were tried again.
        self._rewound_at = _end_of_the_last_rewind(events)
        # Of the open turn: recorded events that do not match the command of their id, if there is one.
        self._unmatched: list[tuple[Any, Command | None]] = []
        self._changed: set[int] = set()  # ids of steps for which the code asks for something else now

    def report(self) -> ReplayReport:
        events, context = self.events, self.execution.context
        assert self.divergences or self.compared == len(events), "a replay that stops says why"
        return ReplayReport(
            context._instance_id,
            self.orchestrator_name,
            len(events),
            self.compared,
            self.divergences,
            self.next_commands,
            context._uses_retry_timeout,
            _cause=self._known_causes,
            _split=self._splitting,
            _oracle=lambda: worker_outcome(
                context._instance_id,
                events,
                self.orchestrators,
                self.payloads.converter,
                context._options,
                self.payloads.store,
                self._changed,
            ),
        )

    def _causes(self) -> Iterator[str]:
        """What is known of why the code diverges."""
        if any(divergence._tasks for divergence in self.divergences):
            yield self._forgotten_yield()
        execution, context = self.execution, self.execution.context
        if execution.error is not None and execution.function is not None:
            started = next((e for e in self.events if isinstance(e, h.ExecutionStartedEvent)), None)
            misfit = self.payloads.misfit(started.input, execution.function) if started else None
            if started is not None and misfit is not None:
                yield f"The input {shown(self.payloads.show(started.input))} {misfit}."
        if context._reads_replaying and not self._again(context._options, replaying=False).divergences:
            yield (
                "The cause is ctx.is_replaying: where it is False, as in a first run, the code does what "
                "the history has."
            )

    def _again(self, options: WorkerOptions, *, replaying: bool = True) -> Check:
        context = self.execution.context
        how = context._instance_id, self.events, self.orchestrators, self.payloads, options
        with unguarded():
            other = Check(*how, replaying=replaying)
            other.run(self._in_flight)
        return other

    def _splitting(self) -> Splitting | None:
        options = self.execution.context._options
        with suppress(Exception):  # as of the causes
            return splitting(
                self, lambda longest: self._again(options._replace(maximum_timer_interval=longest))
            )
        return None

    def _forgotten_yield(self) -> str:
        """Which task is written where its result was meant; to know it, all are kept in one more replay."""
        context = self.execution.context
        how = context._instance_id, self.events, self.orchestrators, self.payloads, context._options
        other = Check(*how)
        other.execution.context._open = kept = _Kept()
        with unguarded():
            other.run(self._in_flight)
        written = {id for divergence in other.divergences for id in divergence._tasks}
        asked = (
            f"{describe(entry.command)}, asked for at {Location.of(entry.command.site)},"
            for entry in kept.entries
            if id(entry.task) in written
        )
        return (
            f"The cause is a 'yield' that is missing: {next(asked, 'what')} is written there as a task, and "
            "not as its result."
        )

    def _known_causes(self) -> list[str]:
        causes: list[str] = []
        with suppress(Exception):  # the user's converter, or code that does not get that far
            causes.extend(self._causes())
        return causes

    def run(self, in_flight: bool) -> None:
        self._in_flight = in_flight
        events, execution, unmatched = self.events, self.execution, self._unmatched
        commands, context, process = execution.commands, execution.context, execution.process
        ended: h.ExecutionCompletedEvent | None = None
        ended_before_rewind = False  # by an error of its own code, which a rewind does not take back
        for position, event in enumerate(events):
            kind = type(event)
            if kind is h.TaskScheduledEvent:
                command = commands.pop(event.event_id, None)
                if (
                    type(command) is ScheduleActivity
                    and command.name == event.name  # type: ignore[attr-defined]
                    and command.input == event.input  # type: ignore[attr-defined]
                    and command.tags == event.tags  # type: ignore[attr-defined]
                ):
                    continue
                if self._differs(event, command):
                    unmatched.append((event, command))
            elif kind is h.OrchestratorCompletedEvent:
                if commands and not self._can_be_sent():
                    commands.clear()
                # Before a rewind steps may be missing: what failed was taken out, to be recorded again later.
                whole = position > self._rewound_at
                if (unmatched or (commands and whole)) and not self._close_turn(closed=whole):
                    self.compared = position + 1
                    return
            elif kind in RECORDS:
                if kind is h.EntityUnlockSentEvent and position <= self._rewound_at:
                    # Sent when the instance failed. What the code does instead since it was rewound may have
                    # the same id; a worker matches unlocks by their critical section.
                    if type(commands.get(event.event_id)) is UnlockEntity:
                        del commands[event.event_id]
                    continue
                command = commands.pop(event.event_id, None)
                if self._differs(event, command):
                    unmatched.append((event, command))
                if kind in _NOTED:
                    process(event)
            elif kind is h.OrchestratorStartedEvent:
                if ended is not None:
                    break  # a backend may go on handing late results to an instance that has ended
                if unmatched and not self._close_turn(closed=False):
                    self.compared = position
                    return
                if context._status is not None and position > self._rewound_at and not ended_before_rewind:
                    self.compared = position
                    self._ended_early(position)
                    return
                process(event)
            elif kind is h.ExecutionCompletedEvent:
                ended = event  # type: ignore[assignment]
            else:
                process(event)
                if kind is h.ExecutionRewoundEvent:
                    ended_before_rewind = context._status is not None
                if kind is h.ExecutionStartedEvent:
                    self.orchestrator_name = event.name  # type: ignore[attr-defined]
                    if self._is_unknown(event):
                        self.compared = position + 1
                        return
                    if isinstance(execution.error, VersionMismatch):
                        self._not_taken(position + 1, in_flight)
                        return
        self.compared = len(events)
        if unmatched and not self._close_turn(closed=False):
            return
        early = context._status is not None and not ended_before_rewind
        if in_flight and ended is None and early and _is_closed(events):
            self._ended_early(len(events))
            return
        asked = execution.take_commands()
        if ended is None:
            self.next_commands = asked
        else:
            self._compare_end(ended, asked)

    def _not_taken(self, position: int, in_flight: bool) -> None:
        """A worker that does not take the version looks at nothing that comes after it."""
        events = self.events
        self.compared = len(events)
        self.next_commands = asked = self.execution.take_commands()
        step = next((event for event in events[position:] if type(event) in RECORDS), None)
        end = next((event for event in events if isinstance(event, h.ExecutionCompletedEvent)), None)
        if end is not None:
            self._compare_end(end, asked)
        elif asked and (step is not None or (in_flight and _is_closed(events))):
            self._ended_early(position if step is not None else len(events))
        elif step is not None and not asked:
            self._report_missing(step)

    def _can_be_sent(self) -> bool:
        """Whether what the turn asked for leaves the worker: not if the new input does not serialize."""
        context = self.execution.context
        if context._status is OrchestrationStatus.CONTINUED_AS_NEW:
            try:
                self.payloads.serialize(context._new_input)
            except Exception:
                return False
        return True

    def _is_unknown(self, event: Any) -> bool:
        """Whether nobody registered the orchestrator; that it failed by it may also be what was recorded."""
        if event.name in self.orchestrators:
            return False
        for other in self.events:
            failure = other.failure_details if isinstance(other, h.ExecutionCompletedEvent) else None
            if failure is not None and "OrchestratorNotRegisteredError" in failure.error_type:
                return False
        known = ", ".join(sorted(self.orchestrators)) or "none at all"
        self.divergences.append(
            Divergence(
                "missing",
                event.event_id,
                "orchestrator",
                event.name,
                None,
                None,
                f"the history is of orchestrator {event.name!r}, which is not registered (known: {known}): "
                "register it, or keep the old name until its instances have ended.",
            )
        )
        return True

    # -- one command against one event

    def _differs(self, event: Any, command: Command | None) -> bool:
        return not _is_same_step(event, command) or any(self._changes(event, command))

    def _changes(self, event: Any, command: Any) -> Iterator[tuple[str, Any, Any]]:
        """The fields in which a command of the same kind and name differs from its record."""
        show = self.payloads.show
        kind = type(event)
        if kind is h.TimerCreatedEvent:
            recorded = naive(event.fire_at)
            if recorded != command.fire_at:
                yield "fire_at", recorded, command.fire_at
            return
        if kind is h.TaskScheduledEvent:
            tags = command.tags or None
            # The SDK's in-memory backend records neither tags nor a time for scheduled activities.
            unrecorded = not event.tags and event.timestamp.year == 1970
            if (event.tags or None) != tags and not unrecorded:
                yield "tags", event.tags, command.tags
        elif kind in (h.EntityLockRequestedEvent, h.EntityUnlockSentEvent):
            # Which entities they are is the name of these steps.
            if event.critical_section_id != command.critical_section_id:
                yield "critical_section_id", event.critical_section_id, command.critical_section_id
            return
        elif kind in (h.EntityOperationCalledEvent, h.EntityOperationSignaledEvent):
            if event.target_instance_id != command.entity_id:
                yield "entity_id", event.target_instance_id, command.entity_id
            if kind is h.EntityOperationSignaledEvent:
                when = naive(event.scheduled_time) if event.scheduled_time is not None else None
                if when != command.scheduled_time:
                    yield "signal_time", when, command.scheduled_time
        elif event.instance_id != command.instance_id:
            yield "instance_id", event.instance_id, command.instance_id
        if kind is h.SubOrchestrationInstanceCreatedEvent and (event.version or None) != (
            command.version or None
        ):
            versioning = self.execution.context._options.versioning
            # A default version is the worker's, and changes with each release of one.
            if versioning is None or command.version not in (None, versioning.default_version):
                yield "version", event.version, command.version
        name, now = ("data", command.data) if kind is h.EventSentEvent else ("input", command.input)
        was = event.input
        if was != now and (was or now) and show(was) != show(now):
            yield name, show(was), show(now)

    # -- one turn

    def _close_turn(self, *, closed: bool) -> bool:
        """Find words for what differs in a turn; False if the code has left the path of the history.

        ``closed`` says whether the turn is known to be whole, so that a command without a record is one too
        many rather than one to come.
        """
        commands = self.execution.commands
        pairs = list(self._unmatched)
        self._unmatched.clear()
        extra = [c for c in commands.values() if type(c) is not Complete] if closed else []
        if not pairs and not extra:
            return True
        for one_more in extra:
            del commands[one_more.id]

        self._changed.update(event.event_id for event, command in pairs if command is not None)
        recorded = [event for event, _ in pairs]
        asked = [c for _, c in pairs if c is not None and type(c) is not Complete] + extra
        same_shape = not extra and all(_is_same_step(event, command) for event, command in pairs)
        was, now = [self._signature(event) for event in recorded], [self._signature(c) for c in asked]
        if was != now and Counter(was) == Counter(now):
            self._report_order(recorded, asked)
        elif same_shape:
            for event, command in pairs:
                for name, was, now in self._changes(event, command):
                    self._report_change(event, command, name, was, now)
                    # The lock would be granted to another critical section, and a worker fails on that.
                    same_shape = same_shape and name != "critical_section_id"
        else:
            self._report_shape(recorded, asked)
        return same_shape

    def _signature(self, item: Any) -> tuple[Any, ...]:
        """What a recorded event and a command have in common if they are the same step."""
        kind = RECORDS.get(type(item), type(item))
        payload = self.payloads.fetch(_payload(item))
        when = naive(item.fire_at) if kind is CreateTimer else None
        tags = frozenset((getattr(item, "tags", None) or {}).items())
        version = None
        if kind is CallSubOrchestrator and self.execution.context._options.versioning is None:
            version = item.version or None
        target = getattr(item, "instance_id", None)
        if kind in (CallEntity, SignalEntity):
            target = getattr(item, "entity_id", None) or getattr(item, "target_instance_id", None)
        id = item.event_id if isinstance(item, h.HistoryEvent) else item.id
        if kind is CallSubOrchestrator and str(target).endswith(f":{id:04x}"):
            target = None  # the default id, which moves with the step
        return kind, name_of(item), payload or None, when, tags, version, target

    def _report_order(self, recorded: Sequence[Any], asked: Sequence[Command]) -> None:
        was, now = [describe(item) for item in recorded], [describe(item) for item in asked]
        if was == now:  # told apart by their inputs alone
            was = [f"{describe(item)} of {shown(self.payloads.show(_payload(item)))}" for item in recorded]
            now = [f"{describe(item)} of {shown(self.payloads.show(_payload(item)))}" for item in asked]
        self._add(
            "order",
            recorded[0].event_id,
            None,
            was,
            now,
            Location.of(asked[0].site),
            f"the same steps in another order: the history has {', '.join(was)}; the code asks for "
            f"{', '.join(now)}.",
        )

    def _report_change(self, event: Any, command: Any, name: str, was: Any, now: Any) -> None:
        what, later = describe(event), ""
        if name == "fire_at":
            retried = self.execution.context._retry_timers.get(command.id)
            what, seconds = "a timer", (now - was).total_seconds()
            if retried is not None and isinstance(retried.command, (ScheduleActivity, CallSubOrchestrator)):
                what = f"the wait before attempt {retried.command.attempt + 1} of {retried.command.name!r}"
            later = f", {timedelta(seconds=abs(seconds))} {'later' if seconds > 0 else 'earlier'}"
        elif name == "critical_section_id":
            later = ": it is drawn as new_uuid() draws its ids, and the code draws more or fewer before it"
        before, after = shown_apart(was, now)
        self._add(
            "changed",
            event.event_id,
            name,
            was,
            now,
            Location.of(command.site),
            f"{what} (#{event.event_id}): {name} {'were' if name == 'tags' else 'was'} {before} in the "
            f"history and {'are' if name == 'tags' else 'is'} {after} now{later}.",
        )

    def _report_shape(self, recorded: Sequence[Any], asked: Sequence[Command]) -> None:
        """Steps renamed, added or taken away: align what was recorded with what is asked for."""
        if not asked:  # the code stands still where the history goes on: that is one thing, not many
            self._report_missing(recorded[0], recorded[1:])
            return
        labels = [(RECORDS[type(event)], name_of(event)) for event in recorded]
        now = [(type(command), command.name) for command in asked]
        if labels == now:
            self._report_id(recorded[0], asked[0])
            return
        for opcode, i1, i2, j1, j2 in SequenceMatcher(None, labels, now, autojunk=False).get_opcodes():
            if opcode == "equal":
                continue
            both = min(i2 - i1, j2 - j1)
            for event, command in zip(recorded[i1 : i1 + both], asked[j1 : j1 + both], strict=True):
                self._report_replaced(event, command)
            for event in recorded[i1 + both : i2]:
                self._report_missing(event)
            for command in asked[j1 + both : j2]:
                self._report_unexpected(command)

    def _report_id(self, event: Any, command: Command) -> None:
        self._add(
            "changed",
            event.event_id,
            "id",
            event.event_id,
            command.id,
            Location.of(command.site),
            f"{describe(event)} has id #{event.event_id} in the history and #{command.id} now: something "
            "before it takes an id more, or an id less, such as a timer that is cancelled at once.",
        )

    def _report_replaced(self, event: Any, command: Command) -> None:
        if type(command) is RECORDS[type(event)]:
            name, was, now = _NAMED.get(type(command), "name"), name_of(event), command.name
        else:
            name, was, now = "kind", RECORDS[type(event)].kind, command.kind
        later = self._recorded_later(event, command)
        self._add(
            "changed",
            event.event_id,
            name,
            was,
            now,
            Location.of(command.site),
            f"#{event.event_id} was {describe(event)} in the history; the code now asks for "
            f"{describe(command)}{later}{self._and_fails()}.",
        )

    def _and_fails(self) -> str:
        """How the code failed, if it did in this turn; said once."""
        error = self.execution.error
        if error is None:
            return ""
        how = f", and fails with {type(error).__name__}: {error}"
        return "" if any(how in divergence.message for divergence in self.divergences) else how

    def _recorded_later(self, event: Any, command: Command) -> str:
        for other in self.events:
            if (
                getattr(other, "event_id", -1) > event.event_id
                and type(other) in RECORDS
                and self._signature(other) == self._signature(command)
            ):
                return f", which the history has later, as #{other.event_id}"
        return ""

    def _is_recorded(self, command: Command) -> bool:
        signature = self._signature(command)
        return any(
            event.event_id >= command.id and type(event) in RECORDS and self._signature(event) == signature
            for event in self.events
        )

    def _report_missing(self, event: Any, others: Sequence[Any] = ()) -> None:
        more = f" and {plural(len(others), 'more step')}" if others else ""
        self._add(
            "missing",
            event.event_id,
            None,
            describe(event),
            None,
            self.execution.location,
            f"the history has {describe(event)} (#{event.event_id}){more} here; {self._what_it_does()}.",
        )

    def _what_it_does(self) -> str:
        """What the code does in place of a recorded step."""
        execution = self.execution
        if execution.error is not None:
            error = execution.error
            if execution.status is None:
                return f"the worker does nothing, for it has no failure_strategy: {error}"
            return f"the code fails with {type(error).__name__}: {error}"
        if execution.status is not None:
            return f"the code has ended, {execution.status.name}"
        waits = [str(op) for op in execution.operations()]
        unread = ", ".join(map(repr, execution.unread_events))
        unread = f", and does not read the event {unread} that has arrived" if unread else ""
        return f"the code waits for {' and for '.join(waits) or 'nothing'}{unread}"

    def _report_unexpected(self, command: Command) -> None:
        self._add(
            "unexpected",
            command.id,
            None,
            None,
            describe(command),
            Location.of(command.site),
            f"the code asks for {describe(command)} (#{command.id}) here, which the history "
            f"{'has only in a later turn' if self._is_recorded(command) else 'does not have'}"
            f"{self._and_fails()}.",
        )

    # -- the end

    def _ended_early(self, position: int) -> None:
        rest = self.events[position:]
        step = next((event for event in rest if type(event) in RECORDS), None)
        end = next((event for event in rest if isinstance(event, h.ExecutionCompletedEvent)), None)
        status = self.execution.status
        assert status is not None
        error = self.execution.error
        if step is not None:
            goes_on = f"goes on with {describe(step)} (#{step.event_id})"
        elif end is not None:
            goes_on = f"ends later, {_status(end).name}"
        else:
            goes_on = "goes on" if rest else "waits on"
        self._add(
            "missing",
            step.event_id if step is not None else -1,
            None,
            describe(step) if step is not None else None,
            status.name,
            self.execution.location,
            f"the code ends here, {status.name}"
            f"{f' with {type(error).__name__}: {error}' if error is not None else ''}, "
            f"and the history {goes_on}.",
        )

    def _compare_end(self, ended: h.ExecutionCompletedEvent, asked: Sequence[Command]) -> None:
        recorded = _status(ended)
        completion = next((c for c in asked if isinstance(c, Complete)), None)
        if completion is None:
            self._result(ended, "status", recorded.name, "RUNNING", self._what_it_does())
            return
        if completion.status is not recorded:
            failure = completion.failure
            why = f" with {_failure(failure)}" if failure is not None else ""
            self._result(
                ended,
                "status",
                recorded.name,
                completion.status.name,
                f"the code ends {completion.status.name}{why}",
            )
            return
        show = self.payloads.show
        was, now = ended.result or None, completion.result or None
        if was != now and show(was) != show(now):
            self._result(ended, "output", show(was), show(now), None)
        if recorded is OrchestrationStatus.FAILED and ended.failure_details is not None:
            failed_then, failed_now = _failure(ended.failure_details), _failure(completion.failure)
            if ADDRESS.sub("", failed_then or "") != ADDRESS.sub("", failed_now or ""):
                self._result(ended, "failure", failed_then, failed_now, None, _at(ended.failure_details))

    def _result(
        self, ended: Any, name: str, was: Any, now: Any, instead: str | None, where: str = ""
    ) -> None:
        if instead is not None:
            message = f"the history ends here, {was}; {instead.rstrip('.')}."
        else:
            what = (
                "the new input"
                if self.execution.status is OrchestrationStatus.CONTINUED_AS_NEW
                else f"the {name}"
            )
            before, after = shown_apart(was, now)
            message = f"{what} was {before}{where} in the history and is {after} now."
        self._add("result", ended.event_id, name, was, now, self.execution.location, message)

    def _add(self, *values: Any) -> None:
        divergence = Divergence(*values)
        if divergence not in self.divergences:  # a retried step would say the same again
            self.divergences.append(divergence)


class _Kept(dict[int, Open]):
    """The operations that are open, and all that ever were."""

    def __init__(self) -> None:
        self.entries: list[Open] = []

    def __setitem__(self, id: int, entry: Open) -> None:
        self.entries.append(entry)
        super().__setitem__(id, entry)


def _is_same_step(event: Any, command: Command | None) -> bool:
    """Whether a command is of the kind and name that was recorded, whatever its values."""
    return command is not None and type(command) is RECORDS[type(event)] and command.name == name_of(event)


_NAMED: dict[type[Any], str] = {
    CallEntity: "operation",
    SignalEntity: "operation",
    LockEntities: "lock_set",
    UnlockEntity: "entity_id",
}


def _end_of_the_last_rewind(events: Sequence[h.HistoryEvent]) -> int:
    """The position of the event that ends the turn of the last rewind; -1 if there was none."""
    kinds = list(map(type, events))
    if h.ExecutionRewoundEvent not in kinds:
        return -1
    end = len(kinds) - 1 - kinds[::-1].index(h.ExecutionRewoundEvent)
    return end + (kinds[end + 1 : end + 2] == [h.OrchestratorCompletedEvent])


def _is_closed(events: Sequence[h.HistoryEvent]) -> bool:
    return bool(events) and isinstance(events[-1], h.OrchestratorCompletedEvent)


def _status(ended: h.ExecutionCompletedEvent) -> OrchestrationStatus:
    try:
        return OrchestrationStatus(ended.orchestration_status)
    except ValueError:
        raise HistoryFormatError(
            f"The history ends with status {ended.orchestration_status}, which the SDK does not know."
        ) from None


def _failure(details: task.FailureDetails | None) -> str | None:
    return f"{details.error_type}: {details.message}" if details is not None else None


def _at(details: task.FailureDetails) -> str:
    """Where a recorded failure was raised, where its stack trace says so."""
    places = re.findall(r'File "(.+?)", line (\d+), in (\S+)', details.stack_trace or "")
    return " at {}:{} in {}".format(*places[-1]) if places else ""


def _payload(item: Any) -> str | None:
    return item.data if isinstance(item, SendEvent) else getattr(item, "input", None)
