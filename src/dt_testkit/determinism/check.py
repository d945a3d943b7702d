"""Replay a history again and again, each time with one thing moved, and tell what that changes.

What is compared is always two replays, and never a replay and the history: the *control*, in fixed
surroundings, and one in which a single thing was moved. So what they do differently is the work of that
thing, and a change of the code, which both have, is none. That is told apart: as the one finding that no
perturbation has a part in.

Before all others there are two replays that move nothing but leave behind what a replay leaves behind. Where
those differ, the code has a memory, or reads something that nobody here can hold still, and what differs
there is left out of all other comparisons.

A changed command is put down to the last forbidden call of its kind that the guard (net 1) saw before it, and
findings are made of these calls: one hazard, found by ten perturbations in five commands, is one finding.
Where the guard sees nothing, as with the order of a set, findings are made of what was moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dt_testkit.determinism import processes
from dt_testkit.determinism.recording import Change, Recording, changes, record, turns_of
from dt_testkit.determinism.report import Allowed, DeterminismReport, Finding, Skipped
from dt_testkit.determinism.surroundings import (
    CLOCK,
    ELSEWHERE,
    TEN_YEARS,
    CannotMove,
    Perturbation,
    Surroundings,
    moment_of,
    unmoved,
)
from dt_testkit.execution import Payloads
from dt_testkit.guard import observe
from dt_testkit.hazards import BY_CODE
from dt_testkit.replaying.check import prepare
from dt_testkit.replaying.oracle import worker_outcome
from dt_testkit.replaying.report import Divergence
from dt_testkit.sdk import virtual_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter
    from durabletask.worker import VersioningOptions

    from dt_testkit.determinism.child import Answer
    from dt_testkit.guard import Call
    from dt_testkit.history import History
    from dt_testkit.replaying.check import Prepared


class _Cause(NamedTuple):
    """A kind of thing that is moved: the hazard it shows, and which calls explain what it changes."""

    hazard: str
    codes: frozenset[str] | None


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


_CAUSES = {
    "clock": _Cause("DT101", _codes("DT101", "DT103")),
    "time zone": _Cause("DT101", _codes("DT101", "DT103", "DT106")),
    "chance": _Cause("DT102", _codes("DT102", "DT103")),
    "environment": _Cause("DT106", _codes("DT106", "DT105")),
    "command line": _Cause("DT106", _codes("DT106")),
    "directory": _Cause("DT106", _codes("DT106", "DT107", "DT105")),
    "locale": _Cause("DT106", _codes("DT106")),
    "machine": _Cause("DT106", _codes("DT106", "DT103")),
    "thread": _Cause("DT109", _codes("DT106", "DT103", "DT110")),
    "memory": _Cause("DT109", None),
    "process": _Cause("DT109", _codes("DT102", "DT103", "DT106")),
    "hash seed": _Cause("DT108", _codes("DT102", "DT103", "DT106", "DT107")),
    "is_replaying": _Cause("DT113", _codes("DT113")),
}
# One hazard may show by both; apart, nothing that is moved shows in two ways.
_ALIKE = {"time zone": "clock"}
# Calls that explain nothing: what they do does not reach the orchestrator.
_WITHOUT_RESULT = _codes("DT104", "DT116")


def check_determinism(
    history: History,
    orchestrators: Any,
    *,
    data_converter: DataConverter | None = None,
    maximum_timer_interval: timedelta | None = None,
    versioning: VersioningOptions | None = None,
    payload_store: PayloadStore | None = None,
) -> DeterminismReport:
    """Replay a history again and again, each time with one thing moved, and tell what that changes.

    Moved are: the clock and the time zone, random seeds and entropy, the environment, the command line, the
    current directory, the locale, the machine, the thread, what an earlier replay left behind, the process
    and its hash seed, and what ``ctx.is_replaying`` says. No activity runs, and all of it is put back.

    Parameters
    ----------
    history, orchestrators, data_converter, maximum_timer_interval, versioning, payload_store
        As for :func:`~dt_testkit.replay`. Of an instance with several generations, each is a history.

    Returns
    -------
    DeterminismReport
        ``report.ok``, ``report.findings``; as text, an explanation.

    Raises
    ------
    VersionRejected, HistoryFormatError
        As :func:`~dt_testkit.replay` does.

    Examples
    --------
    >>> from datetime import datetime
    >>> from dt_testkit import TaskHub
    >>> from dt_testkit.determinism import check_determinism
    >>> def greet(ctx, name):
    ...     return (yield ctx.call_activity("hello", input=f"{name}, it is {datetime.now():%H:%M}"))
    >>> hub = TaskHub(guard="off")
    >>> _ = hub.add_orchestrator(greet)
    >>> _ = hub.stub("hello", return_value="Hello")
    >>> report = check_determinism(hub.run(greet, input="ana").history, hub)
    >>> [(finding.hazard, finding.call) for finding in report.findings]
    [('DT101', 'datetime.datetime.now')]
    """
    prepared = prepare(
        "check_determinism",
        history,
        orchestrators,
        data_converter,
        maximum_timer_interval,
        versioning,
        payload_store,
    )
    name = history.orchestrator_name
    function = prepared.orchestrators.get(name or "")
    prepared = prepared._replace(
        orchestrators={name: function} if name is not None and function is not None else {}
    )
    check = _Check(prepared, moment_of(history))
    check.run()
    return DeterminismReport(
        prepared.instance_id,
        name,
        check.replays,
        tuple(check.findings()),
        tuple(check.allowed),
        tuple(check.skipped),
    )


class _Moved(NamedTuple):
    """What one perturbation changed."""

    name: str
    cause: str
    changes: list[Change]


@dataclass
class _Group:
    """Changes that one hazard explains."""

    call: Call | None
    cause: str
    names: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def add(self, name: str, change: Change) -> None:
        if name not in self.names:
            self.names.append(name)
        self.changes.append(change)

    @property
    def first(self) -> Change:
        return min(self.changes, key=lambda change: change.index)


class _Check:
    def __init__(self, prepared: Prepared, moment: datetime) -> None:
        self.prepared = prepared
        self.moment = moment
        self.replays = 0
        self.moved: list[_Moved] = []
        self.allowed: list[Allowed] = []
        self.skipped: list[Skipped] = []

    # -- the replays

    def run(self) -> None:
        self._observe()
        try:
            data = processes.pickled(self.prepared._replace(payloads=self._new_payloads()))
        except Exception as error:
            self._in_this_process()
            reason = f"it cannot be passed to another process ({type(error).__name__}: {error})"
            self.skipped.append(Skipped("fresh process", reason))
        else:
            request = processes.request_for(data, self.moment)
            answers, _ = processes.ask(request, self._in_this_process)
            self._in_fresh_processes(answers)
        self._long_after()

    def _observe(self) -> None:
        """Replay as it is, and see which forbidden calls are made on the way."""
        with unmoved(self._namespaces()), observe() as calls:
            self.observed = record(self.prepared, calls, fail=True)
        self.calls: Sequence[Call] = calls
        self.replays += 1

    def _namespaces(self) -> list[dict[str, Any]]:
        spaces = []
        for function in self.prepared.orchestrators.values():
            while (inner := getattr(function, "__wrapped__", None)) is not None:
                function = inner
            spaces.append(getattr(function, "__globals__", None))
        return [space for space in spaces if space is not None]

    def _in_this_process(self) -> None:
        # Payloads remember types, and those that were looked up under a moved clock are of no use after it.
        self.prepared = self.prepared._replace(payloads=self._new_payloads())
        with Surroundings(self.moment, self._namespaces()) as around:
            runs = [around.run(self._replay) for _ in range(3)]
            self.control = runs[-1]
            memory = [*self._changes(runs[0], runs[1]), *self._changes(runs[1], runs[2])]
            self.unstable = _Unstable(memory)
            self._note("replayed again", "memory", _without_repeats(memory))
            for perturbation in (*CLOCK, *ELSEWHERE):
                self._move(around, perturbation)
            self._compare("thread", "thread", around.run_in_a_thread(self._replay))
            turns = turns_of(self.prepared.events)
            for turn in sorted({1, 2, turns // 2, turns}.intersection(range(1, turns + 1))):
                live = around.run(partial(self._replay, turn))
                name = "is_replaying as it first ran" if turn == 1 else f"is_replaying until turn {turn}"
                self._compare(name, "is_replaying", live)

    def _new_payloads(self) -> Payloads:
        return Payloads(self.prepared.payloads.converter, self.prepared.payloads.store)

    def _replay(self, live_from: int | None = None) -> Recording:
        self.replays += 1
        return record(self.prepared, live_from=live_from)

    def _move(self, around: Surroundings, perturbation: Perturbation) -> None:
        try:
            moved = around.run(self._replay, perturbation)
        except CannotMove as why:
            self.skipped.append(Skipped(perturbation.name, f"{why}."))
        else:
            self._compare(perturbation.name, perturbation.cause, moved)

    def _in_fresh_processes(self, answers: Sequence[Answer | processes.NoAnswer]) -> None:
        pairs: list[list[Recording]] = []
        for answer in answers:
            if isinstance(answer, processes.NoAnswer):
                self._skip("fresh process", f"{answer}.")
            elif answer.problem is not None:
                self._skip("fresh process", f"{answer.problem}.")
            else:
                pairs.append(answer.recordings)
                self.replays += len(answer.recordings)
        if not pairs:
            return
        memory = _without_repeats([change for a, b in pairs for change in self._changes(a, b)])
        memory = self.unstable.without(memory)
        self._note("replayed again in a fresh process", "memory", memory)
        self.unstable.add(memory)
        order = _without_repeats(
            [change for other in pairs[1:] for change in self._changes(pairs[0][0], other[0])]
        )
        order = self.unstable.without(order)
        self._note("hash seed", "hash seed", order)
        self.unstable.add(order)
        self._compare("fresh process", "process", pairs[0][0])

    def _skip(self, name: str, reason: str) -> None:
        skipped = Skipped(name, reason)
        if skipped not in self.skipped:
            self.skipped.append(skipped)

    def _long_after(self) -> None:
        """What the SDK's executor does long after: it judges a retry_timeout by the wall clock."""
        self.retry_timeout = None
        if not self.control.retry_timeouts or self.observed.divergences:
            return
        last = self.moment + TEN_YEARS
        first = min((event.timestamp for event in self.prepared.events), default=self.moment)
        long_after, *before = [
            self._worker_at(moment) for moment in (last, first, self.moment - timedelta(milliseconds=12))
        ]
        if long_after in before:
            return
        asked = self.control.retry_timeouts[0]
        command = asked.command
        self.retry_timeout = Divergence(
            "result",
            command.id,
            "status",
            before[0].outcome,
            long_after.outcome,
            asked.where,
            f"{command.kind.replace('_', '-')} {command.name!r} (#{command.id}) has a retry_timeout; "
            f"replayed long after it has passed, {long_after.explanation}",
        )

    def _worker_at(self, moment: datetime) -> Any:
        prepared = self.prepared
        with virtual_now(lambda: moment):
            return worker_outcome(
                prepared.instance_id,
                prepared.events,
                prepared.orchestrators,
                prepared.payloads.converter,
                prepared.options,
                prepared.payloads.store,
            )

    # -- what they changed

    def _changes(self, was: Recording, now: Recording) -> list[Change]:
        return changes(was, now, self.prepared.payloads)

    def _compare(self, name: str, cause: str, moved: Recording) -> None:
        self._note(name, cause, self.unstable.without(self._changes(self.control, moved)))

    def _note(self, name: str, cause: str, found: list[Change]) -> None:
        if found:
            self.moved.append(_Moved(name, cause, found))

    # -- findings

    def findings(self) -> Iterator[Finding]:
        groups = self._groups()
        changed = [change for group in groups for change in group.changes]
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
        if unexplained := [each for each in self.observed.divergences if not _explains(changed, each)]:
            more = f"\n    and {len(unexplained) - 1} more" if len(unexplained) > 1 else ""
            message = (
                "the code asks for something else than the history, whatever is moved: "
                f"{unexplained[0]}{more}\n    next: assert_replays() tells more about it, and the way out."
            )
            yield Finding((), unexplained[0].location, None, None, tuple(unexplained), message)

    def _finding(self, group: _Group) -> Finding:
        cause, call = _CAUSES[group.cause], group.call
        divergences = _each_command_once(group.changes)
        first = divergences[0]
        hazard = call.code if call is not None else cause.hazard
        location = call.location if call is not None else first.location
        later = len({each.event_id for each in divergences[1:]} - {first.event_id})
        what = f"{first.message}{f', and {later} later' if later else ''}"
        by = f"{call.call} changes with" if call is not None else "it changes with"
        message = _told(hazard, f"{what}.\n    {by}: {', '.join(group.names)}", location)
        return Finding(
            tuple(group.names), location, hazard, call.call if call else None, divergences, message
        )

    def _groups(self) -> list[_Group]:
        groups: dict[Any, _Group] = {}
        for name, cause, found in self.moved:
            latest: _Group | None = None
            explained: set[tuple[str, int]] = set()
            for change in sorted(found, key=lambda change: change.index):
                call = self._explanation(change, cause, explained)
                if call is not None:
                    place = (call.location.file, call.location.line)
                    explained.add(place)
                    latest = groups.setdefault(place, _Group(call, cause))
                elif latest is None:
                    latest = groups.setdefault(_ALIKE.get(cause, cause), _Group(None, cause))
                latest.add(name, change)
        return list(groups.values())

    def _explanation(self, change: Change, cause: str, explained: set[tuple[str, int]]) -> Call | None:
        """The forbidden call that a change is put down to, if one was seen."""
        codes = _CAUSES[cause].codes
        before = [
            call
            for call in self.calls[: self._calls_before(change)]
            if (call.code in codes if codes is not None else call.code not in _WITHOUT_RESULT)
        ]
        if not before:
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
        asked = self.observed.asked
        apart = next(
            (each.index for each in self._changes(self.observed, self.control) if each.shape), len(asked)
        )
        index = min(change.index, apart)
        return asked[index].calls if index < len(asked) else len(self.calls)


class _Unstable:
    """What differs between two replays though nothing was moved between them."""

    def __init__(self, found: list[Change]) -> None:
        self.fields: set[tuple[int, str | None]] = set()
        self.from_there = float("inf")
        self.add(found)

    def add(self, found: list[Change]) -> None:
        self.fields |= {(each.index, each.divergence.field) for each in found}
        self.from_there = min([self.from_there, *(each.index for each in found if each.shape)])

    def without(self, found: list[Change]) -> list[Change]:
        return [
            each
            for each in found
            if each.index < self.from_there and (each.index, each.divergence.field) not in self.fields
        ]


def _without_repeats(found: list[Change]) -> list[Change]:
    return list({(each.index, each.divergence.field): each for each in reversed(found)}.values())[::-1]


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


def _told(code: str, what: str, location: Any) -> str:
    hazard = BY_CODE[code]
    where = f"\n    at {location}" if location is not None else ""
    return f"{code} {hazard.title}: {what.rstrip('.')}.{where}\n    instead: {hazard.instead}."
