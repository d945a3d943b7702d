"""A replay, written down: everything that the orchestrator asked for, in order. And what differs in two.

Two replays are held against each other and not against the history, so that what differs is the work of the
one thing that was moved between them.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask.client import OrchestrationStatus
from durabletask.history import ExecutionCompletedEvent, OrchestratorStartedEvent

from dt_testkit.determinism.clock import Endless
from dt_testkit.determinism.once import stopped_before_it
from dt_testkit.errors import DurableTestError
from dt_testkit.execution import Complete, Execution, Location
from dt_testkit.execution.commands import call_site
from dt_testkit.replaying.check import ADDRESS, Check
from dt_testkit.replaying.report import Divergence, shown_apart
from dt_testkit.replaying.steps import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durabletask.history import HistoryEvent

    from dt_testkit.execution import Command, FakeOrchestrationContext, Payloads
    from dt_testkit.execution.commands import CallSite
    from dt_testkit.replaying.check import Prepared

_PAYLOADS = frozenset({"input", "data", "result", "value"})
_FIELDS = {"result": "output", "scheduled_time": "signal_time"}
# A word; numbers with no word between them are one, for a clock or a counter carries from one to the next.
_WORD = re.compile(r"\b[0-9]+(?:[TZ][0-9]*)?(?:\W+[0-9]+(?:[TZ][0-9]*)?)*\b|\w+")


@dataclass(slots=True)
class SetStatus:
    """``ctx.set_custom_status(...)``: no command, and seen from outside like one."""

    value: str | None
    site: CallSite | None = None

    id = -1
    kind = "custom_status"
    name = None


class Asked(NamedTuple):
    """One thing that the orchestrator asked for, and how many forbidden calls were seen before it."""

    turn: int
    command: Any
    calls: int
    location: Location | None = None

    @property
    def where(self) -> Location | None:
        return self.location or Location.of(self.command.site)


@dataclass(slots=True)
class Recording:
    """What one replay did.

    Attributes
    ----------
    asked : list[Asked]
        What the orchestrator asked for, in order; its end is the last of it.
    divergences : list[Divergence]
        What the history has otherwise.
    error : str | None
        What stopped the replay, where neither the orchestrator nor the history ended it.
    retry_timeouts : list[Asked]
        The calls with a ``retry_timeout``.
    reached : dict[str, Any]
        What the project's globals that the orchestrator goes by are before a replay in another process.
    """

    asked: list[Asked]
    divergences: list[Divergence]
    error: str | None = None
    retry_timeouts: list[Asked] | None = None
    reached: dict[str, Any] = field(default_factory=dict)

    def portable(self) -> Recording:
        """The same without code objects, which do not travel to another process."""
        return Recording(
            [
                Asked(each.turn, replace(each.command, site=None), each.calls, each.where)
                for each in self.asked
            ],
            [],
            self.error,
        )


class Word(NamedTuple):
    """The how many-th word of a text."""

    number: int


@dataclass(frozen=True, slots=True)
class Change:
    """Something that two replays asked for differently: the how many-th thing it is, and what differs."""

    index: int
    divergence: Divergence
    shape: bool
    """Whether they took different ways from here on, so that nothing after it is compared."""
    paths: tuple[tuple[Any, ...], ...] = ((),)
    """Where in the value it differs: by keys and indices, and words of a text."""
    what: str = ""
    """What was asked for before."""

    @property
    def places(self) -> tuple[tuple[Any, ...], ...]:
        """What differs, each with all that it is part of before it."""
        return tuple((self.index, self.divergence.field, *path) for path in self.paths)


def record(
    prepared: Prepared,
    calls: Sequence[Any] = (),
    *,
    live_from: int | None = None,
    stop: bool = False,
    fail: bool = False,
) -> Recording:
    """Replay, and write down what is asked for.

    ``live_from`` is the first turn for which ``ctx.is_replaying`` is False; by default it is always True.
    ``calls`` are the forbidden calls that were seen, and grows meanwhile. With ``stop``, the replay ends at
    what :func:`~dt_testkit.determinism.once.is_done_once`. What stops the replay itself is
    raised if ``fail`` is set, and written down otherwise.
    """
    with stopped_before_it() if stop else nullcontext():
        check = _RecordedCheck(prepared, calls, live_from)
        asked, error = check.asked, None
        try:
            check.run(prepared.in_flight)
        except DurableTestError as stopped:
            if fail:
                raise
            error = f"{type(stopped).__name__}: {stopped}"
        except (Endless, SystemExit) as ended:
            error = str(ended) if isinstance(ended, Endless) else f"SystemExit: {ended}"
    limited = {id for id, retry in check.execution.context._retries.items() if retry.policy.retry_timeout}
    return Recording(asked, check.divergences, error, [each for each in asked if each.command.id in limited])


def turns_of(events: Sequence[HistoryEvent]) -> int:
    """How many turns a history has up to its end."""
    turns = 0
    for event in events:
        if isinstance(event, ExecutionCompletedEvent):
            break
        turns += isinstance(event, OrchestratorStartedEvent)
    return turns


class _RecordedCheck(Check):
    def __init__(self, prepared: Prepared, calls: Sequence[Any], live_from: int | None) -> None:
        id, payloads, options = prepared.instance_id, prepared.payloads, prepared.options
        super().__init__(id, prepared.events, prepared.orchestrators, payloads, options)
        self.execution = execution = _RecordedExecution(
            id, prepared.orchestrators, payloads, options, replaying=True
        )
        execution.live_from = live_from
        execution.log = _Log(calls)
        execution.context._commands = _Commands(execution.log)
        _log_custom_status(execution.context, execution.log)
        self.asked = execution.log.asked


class _Log:
    def __init__(self, calls: Sequence[Any]) -> None:
        self.asked: list[Asked] = []
        self.turn = 0
        self.calls = calls

    def add(self, command: Any) -> None:
        self.asked.append(Asked(self.turn, command, len(self.calls)))


class _Commands(dict[int, "Command"]):
    def __init__(self, log: _Log) -> None:
        self.log = log

    def __setitem__(self, id: int, command: Command) -> None:
        super().__setitem__(id, command)
        self.log.add(command)


def _log_custom_status(context: FakeOrchestrationContext, log: _Log) -> None:
    """Without a class of its own: the name of that may come to be in an input or in a failure."""

    def set_custom_status(custom_status: Any) -> None:
        type(context).set_custom_status(context, custom_status)
        log.add(SetStatus(context._custom_status, call_site(sys._getframe(1))))

    context.set_custom_status = set_custom_status  # type: ignore[method-assign]


class _RecordedExecution(Execution):
    log: _Log
    live_from: int | None = None

    def process(self, event: HistoryEvent) -> None:
        if isinstance(event, OrchestratorStartedEvent):
            self.log.turn += 1
            if self.live_from is not None:
                self.context._replaying = self.log.turn < self.live_from
        super().process(event)

    def take_commands(self) -> list[Command]:
        commands = super().take_commands()
        for command in commands:
            # All other commands were written down as they were asked for.
            if isinstance(command, Complete) and (
                command.id == -1 or command.status is OrchestrationStatus.CONTINUED_AS_NEW
            ):
                self.log.add(command)
        return commands


# -- what differs


def changes(was: Recording, now: Recording, payloads: Payloads) -> list[Change]:
    """What the second replay asked for differently."""
    found = list(_changes(was, now, payloads))
    if now.error != was.error and found and found[-1].shape:
        why = (
            f"; the replay is stopped, {now.error}" if now.error else f"; before, it is stopped, {was.error}"
        )
        last = found[-1].divergence
        found[-1] = replace(found[-1], divergence=replace(last, message=f"{last.message}{why}"))
    return found


def _changes(was: Recording, now: Recording, payloads: Payloads) -> Iterator[Change]:
    for index, (before, after) in enumerate(zip(was.asked, now.asked, strict=False)):
        a, b = before.command, after.command
        if a == b and type(a) is type(b):
            continue
        if _step(a) != _step(b):
            divergence = _other_way(was, now, index)
            yield Change(index, divergence, shape=True, what=_told(_told_apart(was, now, index)[0] or before))
            return
        for name, then, here in _fields(a, b, payloads):
            divergence = _changed(before, after, name, then, here)
            paths = tuple(_paths(then, here))
            yield Change(index, divergence, shape=False, paths=paths, what=_label(before, name))
    index = min(len(was.asked), len(now.asked))
    if len(was.asked) != len(now.asked):
        yield Change(index, _other_way(was, now, index), shape=True)
    elif was.error != now.error:
        location = was.asked[-1].where if was.asked else None
        message = "all that was asked for is the same"
        yield Change(
            index, Divergence("result", -1, "failure", was.error, now.error, location, message), shape=True
        )


def _step(command: Any) -> tuple[Any, ...]:
    return type(command), command.id, command.name, getattr(command, "status", None)


def _fields(was: Any, now: Any, payloads: Payloads) -> Iterator[tuple[str, Any, Any]]:
    for name in (each.name for each in fields(was)):
        if name in ("site", "attempt"):
            continue
        then, here = getattr(was, name), getattr(now, name)
        if name in _PAYLOADS:
            then, here = payloads.show(then), payloads.show(here)
        elif name == "failure":
            then, here = _failure(then), _failure(here)
        if then != here:
            yield _FIELDS.get(name, name), then, here


def _paths(was: Any, now: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where two values differ: as deep as they are of one shape."""
    if type(was) is type(now) is dict and was.keys() == now.keys():
        pairs = [(key, was[key], now[key]) for key in was]
    elif type(was) is type(now) is list and len(was) == len(now):
        pairs = [(place, *both) for place, both in enumerate(zip(was, now, strict=True))]
    elif type(was) is type(now) is str and _WORD.split(was) == _WORD.split(now):
        words = zip(_WORD.findall(was), _WORD.findall(now), strict=True)
        yield from ((*at, Word(place)) for place, (then, here) in enumerate(words) if then != here)
        return
    else:
        yield at
        return
    for key, then, here in pairs:
        if then != here:
            yield from _paths(then, here, (*at, key))


def _failure(details: Any) -> str | None:
    return ADDRESS.sub("", f"{details.error_type}: {details.message}") if details is not None else None


def _changed(before: Asked, after: Asked, name: str, was: Any, now: Any) -> Divergence:
    command = after.command
    then, here = shown_apart(was, now)
    message = f"{_label(after, name)} {then} becomes {here}"
    kind = "result" if isinstance(command, Complete) else "changed"
    name = "custom_status" if isinstance(command, SetStatus) else name
    return Divergence(kind, command.id, name, was, now, before.where, message)


def _label(asked: Asked, name: str) -> str:
    command = asked.command
    if isinstance(command, SetStatus):
        return "the custom status"
    if isinstance(command, Complete):
        what = _ending(command)
    else:
        what = f"{describe(command) if name != 'fire_at' else 'a timer'} (#{command.id})"
    return what if name in ("output", "failure") else f"{what}: {name}"


def _ending(command: Complete) -> str:
    if command.status is OrchestrationStatus.CONTINUED_AS_NEW:
        return "the new input"
    return "the failure" if command.failure is not None else "the output"


def _told(asked: Asked) -> str:
    command = asked.command
    if isinstance(command, SetStatus):
        return "a custom status"
    if isinstance(command, Complete):
        failure = _failure(command.failure)
        return f"its end, {command.status.name}{f' with {failure}' if failure else ''}"
    return f"{describe(command)} (#{command.id})"


def _other_way(was: Recording, now: Recording, index: int) -> Divergence:
    steps = _turn_from(was, index), _turn_from(now, index)
    names = [[_order_key(each) for each in turn] for turn in steps]
    if steps[0] and Counter(names[0]) == Counter(names[1]):
        first, orders = steps[0][0], [[_short(each) for each in turn] for turn in steps]
        message = f"the same steps in another order: {', '.join(orders[0])} becomes {', '.join(orders[1])}"
        return Divergence("order", first.command.id, None, orders[0], orders[1], first.where, message)
    before, after = _told_apart(was, now, index)
    if before is None or after is None:
        there = before or after
        assert there is not None
        kind = "missing" if after is None else "unexpected"
        last = was.asked[index - 1].where if index and before is None else None
        told = _told(there)
        message = f"{told} is no longer asked for" if after is None else f"{told} is asked for besides"
        return Divergence(
            kind,
            there.command.id,
            None,
            told if after is None else None,
            None if after is None else told,
            there.where or last,
            message,
        )
    a, b = before.command, after.command
    if type(a) is type(b) and a.name != b.name:
        field, then, here = "name", a.name, b.name
    elif type(a) is type(b) and a.id != b.id:
        field, then, here = "id", a.id, b.id
    elif isinstance(a, Complete) and isinstance(b, Complete):
        field, then, here = "status", a.status.name, b.status.name
    else:
        field, then, here = "kind", a.kind, b.kind
    kind = "result" if field == "status" else "changed"
    return Divergence(kind, a.id, field, then, here, before.where, f"{_told(before)} becomes {_told(after)}")


def _told_apart(was: Recording, now: Recording, index: int) -> tuple[Asked | None, Asked | None]:
    """What is told to differ: a command is held against the next command, and not against a status."""
    pair = [next(iter(each.asked[index:]), None) for each in (was, now)]
    statuses = [each is not None and isinstance(each.command, SetStatus) for each in pair]
    if None in pair or statuses[0] == statuses[1]:
        return pair[0], pair[1]
    commands = [
        next((each for each in recording.asked[index:] if not isinstance(each.command, SetStatus)), None)
        for recording in (was, now)
    ]
    a, b = (each and _step(each.command) for each in commands)
    if a != b:
        return commands[0], commands[1]
    return (pair[0], None) if statuses[0] else (None, pair[1])


def _turn_from(recording: Recording, index: int) -> list[Asked]:
    turn = recording.asked[index].turn if index < len(recording.asked) else None
    return [each for each in recording.asked[index:] if each.turn == turn]


def _order_key(asked: Asked) -> tuple[Any, ...]:
    command = asked.command
    payload = next((getattr(command, name) for name in _PAYLOADS if hasattr(command, name)), None)
    return type(command), command.name, payload


def _short(asked: Asked) -> str:
    return str(asked.command.name or asked.command.kind)
