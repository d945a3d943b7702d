"""What the replays of a check have shown, made into findings.

A changed command is put down to the last forbidden call of its kind that the guard (net 1) saw before it, and
findings are made of these calls: one hazard, found by ten perturbations in five commands, is one finding.
Where the guard sees nothing, as with the order of a set, findings are made of what was moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.worker import (
    ActivityNotRegisteredError,
    EntityNotRegisteredError,
    OrchestratorNotRegisteredError,
)

from dt_testkit.determinism.causes import ALIKE, BEFORE_ALL, CAUSES
from dt_testkit.determinism.once import is_done_once
from dt_testkit.determinism.recording import Change, Recording, Word
from dt_testkit.determinism.report import Allowed, Finding
from dt_testkit.hazards import BY_CODE
from dt_testkit.replaying.check import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dt_testkit.guard import Call
    from dt_testkit.replaying.report import Divergence

_NOT_REGISTERED = frozenset(
    error.__name__
    for error in (ActivityNotRegisteredError, OrchestratorNotRegisteredError, EntityNotRegisteredError)
)


class Moved(NamedTuple):
    """What one perturbation changed, and what became of globals by it."""

    name: str
    cause: str
    changes: list[Change]
    became: dict[str, str]


@dataclass
class _Group:
    """Changes that one hazard explains."""

    call: Call | None
    cause: str
    names: dict[str, str] = field(default_factory=dict)  # of what was moved, and of what kind it is
    changes: list[Change] = field(default_factory=list)
    became: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, cause: str, change: Change) -> None:
        self.names[name] = cause
        self.changes.append(change)

    @property
    def moved(self) -> str:
        """What was moved, in a few words."""
        ways: dict[str, list[str]] = {}
        for name, cause in self.names.items():
            ways.setdefault(cause, []).append(name)
        return ", ".join(
            f"{cause} ({len(names)} ways)" if len(names) > 2 else ", ".join(names)
            for cause, names in ways.items()
        )

    @property
    def first(self) -> Change:
        return min(self.changes, key=lambda change: change.index)


@dataclass
class Evidence:
    """What the replays have shown, and the findings that are made of it."""

    events: Sequence[h.HistoryEvent]
    observed: Recording  # the replay as it is, with nothing moved
    calls: Sequence[Call]  # the forbidden ones that it made
    done_once: Mapping[Any, Call]  # those of them that no other replay has made
    apart: int  # the first command that is another one as soon as the surroundings are fixed
    moved: list[Moved] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)
    allowed_at_import: list[Change] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # what was not compared
    retry_timeout: Divergence | None = None  # that the wall clock ends otherwise

    def note(self, name: str, cause: str, found: list[Change], became: dict[str, str] | None = None) -> None:
        """Keep what a perturbation changed, if anything."""
        if found:
            self.moved.append(Moved(name, cause, found, became or {}))

    def findings(self) -> Iterator[Finding]:
        if self.observed.error is not None:
            message = f"replayed as it is, with nothing moved, it is stopped: {self.observed.error}."
            yield Finding((), None, None, None, (), message)
            return
        yield from self._unregistered()
        for call in self.done_once.values():
            what = f"{call.call} is called, and would be in each replay; all but the first were ended there"
            message = _told(call.code, what, call.location)
            yield Finding((), call.location, call.code, call.call, (), message)
        groups = self._groups()
        changed = [change for group in groups for change in group.changes] + self.allowed_at_import
        for group in sorted(groups, key=lambda group: group.first.index):
            if group.call is not None and group.call.allowed is not None:
                call = group.call
                reason = group.call.allowed
                self.allowed.append(Allowed(reason, call.call, call.location, call.code, tuple(group.names)))
            else:
                yield self._finding(group)
        if self.retry_timeout is not None:
            yield Finding(
                ("clock ten years on",),
                self.retry_timeout.location,
                "DT117",
                None,
                (self.retry_timeout,),
                _told("DT117", self.retry_timeout.message, self.retry_timeout.location),
            )
        if unexplained := [
            each
            for each in self.observed.divergences
            if not _explains(changed, each) and not self._is_past_the_end_of_others(each)
        ]:
            more = f"\n    and {len(unexplained) - 1} more" if len(unexplained) > 1 else ""
            message = (
                "the code asks for something else than the history, whatever is moved: "
                f"{unexplained[0]}{more}\n    next: assert_replays() tells more about it, and the way out."
            )
            yield Finding((), unexplained[0].location, None, None, tuple(unexplained), message)

    def not_compared(self) -> Iterator[str]:
        """What is hidden by what was found."""
        if self.observed.error is not None:
            return
        ends: dict[str, tuple[int, str, list[str]]] = {}
        for name, cause, found, _ in self.moved:
            for change in found:
                if change.shape and change.divergence.kind != "result":
                    key = "" if cause in BEFORE_ALL else cause
                    end = ends.setdefault(key, (*_end_of(change), []))
                    ends[key] = (*min(end[:2], _end_of(change)), [*end[2], name])
                elif cause in BEFORE_ALL and any(_has_parts(change, path) for path in change.paths):
                    yield f"what else changes {change.what}"
        for cause, (index, what, names) in sorted(ends.items()):
            if not cause or "" not in ends or index < ends[""][0]:
                by = f" ({names[0] if len(names) == 1 else cause})" if cause else ""
                yield f"what comes after {what}{by}"
        yield from self.left_out

    def _is_past_the_end_of_others(self, divergence: Divergence) -> bool:
        """Whether no other replay came so far, since each was ended before."""
        if not self.done_once:
            return False
        first = next(index for index, call in enumerate(self.calls) if is_done_once(call))
        asked = self.observed.asked
        past = min(
            (each.command.id for each in asked if each.calls > first and each.command.id > 0), default=0
        )
        return divergence.kind == "result" or divergence.event_id >= past > 0

    def _unregistered(self) -> Iterator[Finding]:
        """What the history has failed with because nobody registers its name."""
        scheduled: dict[Any, tuple[str, int]] = {}
        told: set[str] = set()
        for event in self.events:
            if isinstance(event, (h.TaskScheduledEvent, h.SubOrchestrationInstanceCreatedEvent)):
                scheduled[event.event_id] = event.name, event.event_id
            elif isinstance(event, h.EntityOperationCalledEvent):
                entity = EntityInstanceId.parse(event.target_instance_id or "")
                scheduled[event.request_id] = entity.entity, event.event_id
            failure = getattr(event, "failure_details", None)
            by = getattr(event, "task_scheduled_id", None) or getattr(event, "request_id", None)
            if failure is None or by not in scheduled:
                continue
            name, id = scheduled[by]
            if failure.error_type.rpartition(".")[2] not in _NOT_REGISTERED or name in told:
                continue
            told.add(name)
            asked = [each for each in self.observed.asked if each.command.id == id]
            asked = asked or [each for each in self.observed.asked if each.command.name == name]
            location = asked[0].where if asked else None
            what = f"nobody registers {name!r}, so the call failed when this history was recorded"
            yield Finding((), location, "DT120", None, (), _told("DT120", what, location))

    def _finding(self, group: _Group) -> Finding:
        cause, call = CAUSES[group.cause], group.call
        divergences = _each_command_once(group.changes)
        first = divergences[0]
        hazard = call.code if call is not None else cause.hazard
        location = call.location if call is not None else first.location
        later = len({each.event_id for each in divergences[1:]} - {first.event_id})
        what = f"{first.message}{f', and {later} later' if later else ''}"
        by = f"{call.call} changes with" if call is not None else "it changes with"
        became = "".join(f"\n    {name} {text}" for name, text in list(group.became.items())[:3])
        instead = cause.instead if call is None else None
        message = _told(hazard, f"{what}.\n    {by}: {group.moved}.{became}", location, instead)
        return Finding(
            tuple(group.names), location, hazard, call.call if call else None, divergences, message
        )

    def _groups(self) -> list[_Group]:
        groups: dict[Any, _Group] = {}
        for name, cause, found, became in self.moved:
            latest: _Group | None = None
            explained: set[tuple[str, int]] = set()
            for change in sorted(found, key=lambda change: change.index):
                call = None if is_an_address(change) else self.explanation(change, cause, explained)
                if call is not None:
                    place = (call.location.file, call.location.line)
                    explained.add(place)
                    latest = groups.setdefault((*place, call.code), _Group(call, cause))
                elif is_an_address(change):
                    groups.setdefault("address", _Group(None, "address")).add(name, cause, change)
                    continue
                elif latest is None:
                    latest = groups.setdefault(ALIKE.get(cause, cause), _Group(None, cause))
                latest.add(name, cause, change)
                if latest.call is None:
                    latest.became = {**became, **latest.became}
        return list(groups.values())

    def explanation(self, change: Change, cause: str, explained: set[tuple[str, int]]) -> Call | None:
        """The forbidden call that a change is put down to, if one was seen."""
        seen = self.calls[: self._calls_before(change)]
        alike = ([call for call in seen if explains(call)] for explains in CAUSES[cause].calls)
        before = next(filter(None, alike), None)
        if before is None:
            return None
        if before[-1].allowed is None:
            return before[-1]
        # What is allowed explains it only if nothing else does that is not allowed and explains nothing yet.
        others = [call for call in before if call.allowed is None]
        if others and (others[-1].location.file, others[-1].location.line) not in explained:
            return others[-1]
        return before[-1]

    def _calls_before(self, change: Change) -> int:
        """How many of the observed calls were made before the changed command was asked for."""
        asked, index = self.observed.asked, min(change.index, self.apart)
        return asked[index].calls if index < len(asked) else len(self.calls)


def _end_of(change: Change) -> tuple[int, str]:
    return change.index, change.what


def _has_parts(change: Change, path: tuple[Any, ...]) -> bool:
    """Whether something that differs is more than one word or number."""
    value = change.divergence.expected
    for key in path:
        if isinstance(key, Word):
            return False
        value = value[key]
    return isinstance(value, (dict, list)) or (isinstance(value, str) and len(value.split()) > 1)


def _each_command_once(found: list[Change]) -> tuple[Divergence, ...]:
    once: dict[tuple[int, str | None], Divergence] = {}
    for change in sorted(found, key=lambda change: change.index):
        once.setdefault((change.index, change.divergence.field), change.divergence)
    return tuple(once.values())


def _explains(changed: list[Change], divergence: Divergence) -> bool:
    """Whether a hazard that was found may have made the replay differ from the history."""
    if divergence.kind == "result":
        return any(change.shape or change.divergence.kind == "result" for change in changed)
    return any(
        change.divergence.event_id == divergence.event_id
        or (change.shape and -1 < change.divergence.event_id <= divergence.event_id)
        for change in changed
    )


def is_an_address(change: Change) -> bool:
    """Whether all that differs is where in memory something is."""
    was, now = (str(each) for each in (change.divergence.expected, change.divergence.actual))
    return was != now and ADDRESS.sub("", was) == ADDRESS.sub("", now)


def _told(code: str, what: str, location: Any, instead: str | None = None) -> str:
    hazard = BY_CODE[code]
    where = f"\n    at {location}" if location is not None else ""
    return f"{code} {hazard.title}: {what.rstrip('.')}.{where}\n    instead: {instead or hazard.instead}."
