"""Replay a history again and again, each time with one thing moved, and tell what that changes.

What is compared is always two replays, and never a replay and the history: the *control*, in fixed
surroundings, and one in which a single thing was moved. So what they do differently is the work of that
thing, and a change of the code, which both have, is none. That is told apart: as the one finding that no
perturbation has a part in.

Before all others there are two replays that move nothing but leave behind what a replay leaves behind. Where
those differ, the code has a memory, or reads something that nobody here can hold still, and what differs
there, down to the word of a text, is left out of all other comparisons. What may be hidden so is said.
"""

from __future__ import annotations

import pickle
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from dt_testkit.determinism import child, processes
from dt_testkit.determinism.causes import AT_IMPORT, CAUSES, ELSEWHERE_TOO
from dt_testkit.determinism.clock import thawed
from dt_testkit.determinism.findings import Evidence, is_an_address
from dt_testkit.determinism.once import is_done_once
from dt_testkit.determinism.recording import Change, Recording, Word, changes, record, turns_of
from dt_testkit.determinism.report import Allowed, DeterminismReport, Skipped
from dt_testkit.determinism.surroundings import (
    CLOCK,
    ELSEWHERE,
    IMPORTED_OTHERWISE,
    TEN_YEARS,
    CannotMove,
    Perturbation,
    Surroundings,
    moment_of,
    unmoved,
)
from dt_testkit.determinism.watchdog import Watchdog
from dt_testkit.execution import Payloads
from dt_testkit.guard import observe
from dt_testkit.replaying.check import prepare
from dt_testkit.replaying.oracle import worker_outcome
from dt_testkit.replaying.report import Divergence, shown_apart
from dt_testkit.replaying.steps import describe
from dt_testkit.sdk import virtual_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter
    from durabletask.worker import VersioningOptions

    from dt_testkit.determinism.child import Answer
    from dt_testkit.guard import Call
    from dt_testkit.history import History
    from dt_testkit.locations import Location
    from dt_testkit.replaying.check import Prepared

_NUMBER = re.compile(r"[0-9]+")


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
    and its hash seed, and what ``ctx.is_replaying`` says. No activity runs, and all of it is put back. What
    the orchestrator itself reads, writes or waits for is done in the first replay alone, and is a finding.

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
    if name is not None and function is not None:
        prepared = prepared._replace(orchestrators={name: function})
    check = _Check(prepared, moment_of(history))
    with processes.alone(), thawed(check.namespaces), check.watchdog:
        check.run()
    return DeterminismReport(
        prepared.instance_id,
        name,
        check.replays,
        tuple(check.evidence.findings()),
        tuple(check.evidence.allowed),
        tuple(check.skipped),
        tuple(dict.fromkeys(check.evidence.not_compared())),
    )


class _Check:
    def __init__(self, prepared: Prepared, moment: datetime) -> None:
        self.prepared = prepared._replace(events=child.events_of(pickle.dumps(prepared.events)))
        self.namespaces = _namespaces(prepared.orchestrators.values())
        self.moment = moment
        self.watchdog = Watchdog()
        self.replays = 0
        self.skipped: list[Skipped] = []
        self.evidence: Evidence

    # -- the replays

    def run(self) -> None:
        self._observe()
        if self.evidence.observed.error is not None:
            return
        try:
            data = processes.pickled(self.prepared._replace(payloads=self._new_payloads()))
        except Exception as error:
            self._in_this_process()
            reason = f"it cannot be passed to another process ({type(error).__name__}: {error})"
            self.skipped.append(Skipped("fresh process", reason))
        else:
            if carried := processes.carried(self.prepared):
                reason = (
                    "the orchestrator is of a script or local to a function, so it is passed by value, with "
                    f"{', '.join(carried)} as it is by now; what is empty in a process that has just started "
                    "does not show. Next: define the orchestrator in a module that can be imported."
                )
                self.skipped.append(Skipped("fresh process", reason))
            request = processes.request_for(data, self.moment, stop=bool(self.evidence.done_once))
            answers, _ = processes.ask(request, self._in_this_process)
            self._in_fresh_processes(answers, request)
        self._long_after()

    def _observe(self) -> None:
        """Replay as it is, and see which forbidden calls are made on the way."""
        with observe() as calls, unmoved(self.namespaces):
            observed = self.watchdog.call(lambda: record(self.prepared, calls, fail=True))
        done_once: dict[Any, Call] = {}  # the first of each line: what it calls in turn is told by it
        for call in filter(is_done_once, calls):
            done_once.setdefault((call.location.file, call.location.line), call)
        self.evidence = Evidence(self.prepared.events, observed, calls, done_once, len(observed.asked))
        self.replays += 1

    def _in_this_process(self) -> None:
        # Payloads remember types, and those that were looked up under a moved clock are of no use after it.
        self.prepared = self.prepared._replace(payloads=self._new_payloads())
        with Surroundings(self.moment, self.namespaces) as around:
            runs = [around.run(each) for each in (self._replay, self._replay_in_other_places, self._replay)]
            self.control = runs[-1]
            apart = (each.index for each in self._changes(self.evidence.observed, self.control) if each.shape)
            self.evidence.apart = next(apart, self.evidence.apart)
            memory = [*self._changes(runs[0], runs[1]), *self._changes(runs[1], runs[2])]
            self.unstable = _Unstable(memory)
            states = {each.places for each in memory if not _is_an_id(each)}
            ids = [each for each in memory if each.places not in states]
            self.evidence.note("replayed again", "address", _without_repeats(ids))
            memory = [each for each in memory if each.places in states]
            self.evidence.note("replayed again", "memory", _without_repeats(memory))
            for perturbation in (*CLOCK, *ELSEWHERE):
                self._move(around, perturbation)
            self._compare("thread", "thread", around.run_in_a_thread(self._replay))
            turns = turns_of(self.prepared.events)
            for turn in sorted({1, 2, turns // 2, turns}.intersection(range(1, turns + 1))):
                live = around.run(partial(self._replay, turn))
                name = "is_replaying as it first ran" if turn == 1 else f"is_replaying until turn {turn}"
                self._compare(name, "is_replaying", live)
            self.skipped += [Skipped(name, f"{why}.") for name, why in around.shortfalls.items()]

    def _new_payloads(self) -> Payloads:
        return Payloads(self.prepared.payloads.converter, self.prepared.payloads.store)

    def _replay(self, live_from: int | None = None) -> Recording:
        self.replays += 1
        return self.watchdog.call(
            partial(record, self.prepared, live_from=live_from, stop=bool(self.evidence.done_once))
        )

    def _replay_in_other_places(self) -> Recording:
        """The places in memory that were just left, and would be taken again, are taken."""
        makers: list[Callable[[], object]] = [object, float, list, dict]
        makers += [partial(bytes, size) for size in range(16, 480, 16)]
        fillers = [make() for make in makers for _ in range(8)]
        try:
            return self._replay()
        finally:
            fillers.clear()

    def _move(self, around: Surroundings, perturbation: Perturbation) -> None:
        try:
            moved = around.run(self._replay, perturbation)
        except CannotMove as why:
            self.skipped.append(Skipped(perturbation.name, f"{why}."))
        else:
            self._compare(perturbation.name, perturbation.cause, moved)

    def _in_fresh_processes(
        self, answers: Sequence[Answer | processes.NoAnswer], request: child.Request
    ) -> None:
        by_seed: list[list[Recording]] = []
        elsewhere: Recording | None = None
        for role, answer in zip(processes.ROLES, answers, strict=True):
            name = "imported elsewhere" if "elsewhere" in role.words else "fresh process"
            if isinstance(answer, processes.NoAnswer):
                self._skip(name, f"{answer}.")
            elif answer.problem is not None:
                self._skip(name, f"{answer.problem}.")
            else:
                self.replays += len(answer.recordings)
                if "elsewhere" in role.words:
                    elsewhere = answer.recordings[0]
                else:
                    by_seed.append(answer.recordings)
        if not by_seed:
            return
        pairs = [each for each in by_seed if len(each) == 2]
        memory = _without_repeats([change for a, b in pairs for change in self._changes(a, b)])
        memory = self.unstable.without(memory)
        self.evidence.note("replayed again in a fresh process", "memory", memory)
        self.unstable.add(memory)
        first = by_seed[0][0]
        # What is imported otherwise in the blocks that allow it is not to be found by anything below.
        blocks = answers[0].blocks if not isinstance(answers[0], processes.NoAnswer) else {}
        anew = self._ask_anew(request) if blocks else None
        if anew is not None:
            self._in_blocks(anew)
        else:  # what they change is not known, and let through it was
            self.evidence.allowed += [
                Allowed(why, "the import", each, "DT106", ()) for each, why in blocks.items()
            ]
        order = _without_repeats(
            [change for other in by_seed[1:] for change in self._changes(first, other[0])]
        )
        order = self.unstable.without(order)
        self.evidence.note("hash seed", "hash seed", order)
        self.unstable.add(order)
        if elsewhere is not None and not isinstance(answers[0], processes.NoAnswer):
            known = _Unstable(
                [each for m in self.evidence.moved if m.cause in ELSEWHERE_TOO for each in m.changes]
            )
            moved = self.unstable.without(known.without(self._changes(first, elsewhere)))
            self.evidence.note("imported elsewhere", "import", moved, _became(first, elsewhere))
            # Where the import takes another way elsewhere, it does not in a process like this one.
            self.unstable.add(moved, ends=False)
        allowed = _Unstable([])
        allowed.add(self.evidence.allowed_at_import, ends=False)
        changed = allowed.without(self.unstable.without(self._changes(self.control, first)))
        if any(
            not is_an_address(each) and not self.evidence.explanation(each, "process", set())
            for each in changed
        ):
            anew = anew or self._ask_anew(request)
            if anew is not None:
                self._imported_anew(anew)
        self.evidence.note("fresh process", "process", self.unstable.without(changed))

    def _ask_anew(self, request: child.Request) -> Answer | None:
        [answer], _ = processes.ask(request._replace(anew=True), lambda: None, processes.ROLES[:1])
        if isinstance(answer, processes.NoAnswer) or answer.problem is not None:
            return None  # a project that cannot be imported twice: what it goes by is not known
        self.replays += len(answer.recordings) + len(answer.in_blocks)
        return answer

    def _in_blocks(self, answer: Answer) -> None:
        """What changes with the import of what an allow_nondeterminism block of a module is around."""
        first, again, *_ = answer.recordings
        unstable = _Unstable(self._changes(first, again))
        names: dict[tuple[Location, str], list[str]] = {}
        for block, name, cause, recording in answer.in_blocks:
            if found := self.unstable.without(unstable.without(self._changes(again, recording))):
                names.setdefault((block, CAUSES[cause].hazard), []).append(name)
                self.evidence.allowed_at_import += found
        for (block, hazard), moved in names.items():
            self.evidence.allowed.append(
                Allowed(answer.blocks[block], "the import", block, hazard, tuple(moved))
            )

    def _imported_anew(self, answer: Answer) -> None:
        """What is another one in a fresh process: does it go by the time of the import, or by chance?"""
        first, again, *moved = answer.recordings
        unstable = _Unstable(self._changes(first, again))
        for perturbation, recording in zip(IMPORTED_OTHERWISE, moved, strict=True):
            found = self.unstable.without(unstable.without(self._changes(again, recording)))
            self.evidence.note(perturbation.name, perturbation.cause, found, _became(again, recording))
        for each in self.evidence.moved:
            if each.cause in AT_IMPORT:
                self.unstable.add(each.changes)

    def _skip(self, name: str, reason: str) -> None:
        skipped = Skipped(name, reason)
        if skipped not in self.skipped:
            self.skipped.append(skipped)

    def _long_after(self) -> None:
        """What the SDK's executor does long after: it judges a retry_timeout by the wall clock."""
        if not self.evidence.observed.retry_timeouts:
            return
        if not all(map(_is_of_a_value, self.evidence.observed.divergences)):
            command = describe(self.evidence.observed.retry_timeouts[0].command)
            self.evidence.left_out.append(f"what the retry_timeout of {command} does ten years on")
            return
        if self.evidence.done_once:
            self._skip("clock ten years on", "the SDK's own executor would do what is not done again.")
            return
        last = self.moment + TEN_YEARS
        first = min((event.timestamp for event in self.prepared.events), default=self.moment)
        long_after, *before = [
            self._worker_at(moment) for moment in (last, first, self.moment - timedelta(milliseconds=12))
        ]
        if long_after in before:
            return
        asked = self.evidence.observed.retry_timeouts[0]
        command = asked.command
        self.evidence.retry_timeout = Divergence(
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
        self.evidence.note(name, cause, self.unstable.without(self._changes(self.control, moved)))


class _Unstable:
    """What differs between two replays though nothing was moved between them."""

    def __init__(self, found: list[Change]) -> None:
        self.places: set[tuple[Any, ...]] = set()
        self.texts: set[tuple[Any, ...]] = set()  # what has words among them
        self.from_there = float("inf")
        self.add(found)

    def add(self, found: list[Change], *, ends: bool = True) -> None:
        self.places.update(place for each in found for place in each.places)
        self.texts.update(place[:-1] for place in self.places if isinstance(place[-1], Word))
        if ends:
            self.from_there = min([self.from_there, *(each.index for each in found if each.shape)])

    def without(self, found: list[Change]) -> list[Change]:
        return [
            each for each in found if each.index < self.from_there and not all(map(self._has, each.places))
        ]

    def _has(self, place: tuple[Any, ...]) -> bool:
        # A text that has other words now is not compared with one of which a word is not the same.
        return place in self.texts or any(
            place[:length] in self.places for length in range(2, len(place) + 1)
        )


def _became(was: Recording, now: Recording) -> dict[str, str]:
    """Which globals that the orchestrator goes by are others now, and what."""
    return {
        name: "is {} and becomes {}".format(*shown_apart(value, now.reached[name]))
        for name, value in was.reached.items()
        if repr(now.reached.get(name, value)) != repr(value)
    }


def _is_of_a_value(divergence: Divergence) -> bool:
    """Whether a worker takes it as it is, and goes on as before."""
    return divergence.field in ("input", "data", "output", "custom_status", "fire_at", "signal_time")


def _without_repeats(found: list[Change]) -> list[Change]:
    return list({each.places: each for each in reversed(found)}.values())[::-1]


def _is_an_id(change: Change) -> bool:
    """Whether all that differs are numbers such as ``id()`` gives: addresses, where no call tells of it."""
    was, now = (str(each) for each in (change.divergence.expected, change.divergence.actual))
    return was != now and _NUMBER.sub(_without_id, was) == _NUMBER.sub(_without_id, now)


def _without_id(number: re.Match[str]) -> str:
    value = int(number[0])
    return "" if value % 16 == 0 and 2**32 < value < 2**48 else number[0]


def _namespaces(functions: Iterable[Any]) -> list[dict[str, Any]]:
    spaces = []
    for function in functions:
        while (inner := getattr(function, "__wrapped__", None)) is not None:
            function = inner
        spaces.append(getattr(function, "__globals__", None))
    return [space for space in spaces if space is not None]
