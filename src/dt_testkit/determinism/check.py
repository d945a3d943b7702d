"""Replay a history again and again, each time with one thing moved, and tell what that changes.

What is compared is always two replays, and never a replay and the history: the *control*, in fixed
surroundings, and one in which a single thing was moved. So what they do differently is the work of that
thing, and a change of the code, which both have, is none. That is told apart: as the one finding that no
perturbation has a part in.

Before all others there are two replays that move nothing but leave behind what a replay leaves behind. Where
those differ, the code has a memory, or reads something that nobody here can hold still, and what differs
there, down to the word of a text, is left out of all other comparisons. What may be hidden so is said.

A changed command is put down to the last forbidden call of its kind that the guard (net 1) saw before it, and
findings are made of these calls: one hazard, found by ten perturbations in five commands, is one finding.
Where the guard sees nothing, as with the order of a set, findings are made of what was moved.
What a call does not go by is not put down to it: no hash seed changes a ``uuid4``.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.worker import (
    ActivityNotRegisteredError,
    EntityNotRegisteredError,
    OrchestratorNotRegisteredError,
)

from dt_testkit.determinism import child, processes
from dt_testkit.determinism.clock import thawed
from dt_testkit.determinism.once import is_done_once
from dt_testkit.determinism.recording import Change, Recording, Word, changes, record, turns_of
from dt_testkit.determinism.report import Allowed, DeterminismReport, Finding, Skipped
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
from dt_testkit.hazards import BY_CODE
from dt_testkit.replaying.check import ADDRESS, prepare
from dt_testkit.replaying.oracle import worker_outcome
from dt_testkit.replaying.report import Divergence, shown_apart
from dt_testkit.replaying.steps import describe
from dt_testkit.sdk import virtual_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter
    from durabletask.worker import VersioningOptions

    from dt_testkit.determinism.child import Answer
    from dt_testkit.guard import Call
    from dt_testkit.history import History
    from dt_testkit.locations import Location
    from dt_testkit.replaying.check import Prepared


class _Cause(NamedTuple):
    """A kind of thing that is moved: the hazard it shows, and a remedy; and which calls explain it.

    Of those that come first in ``calls``, if there are any; the others explain nothing that they do not.
    """

    hazard: str
    calls: tuple[Callable[[Call], bool], ...] = ()
    instead: str | None = None


def _of(*codes: str) -> Callable[[Call], bool]:
    return lambda call: call.code in codes


def _named(*prefixes: str) -> Callable[[Call], bool]:
    return lambda call: call.call.startswith(prefixes)


_NUMBER = re.compile(r"[0-9]+")
_UUIDS = ("uuid.uuid1", "uuid.uuid6", "uuid.uuid7")
_SEEDED = re.compile(r"(numpy\.)?random\.(mtrand\.)?(?!seed$|default_rng$)[a-z_]+$")
_HELD_STILL = _named(
    *("datetime.", "time.", "random.", "secrets.", "numpy.random.", "hash", "uuid.", "os.urandom"),
    *("os.getrandom", "os.getenv", "os.environ", "os.getcwd", "os.getp", "os.uname", "platform.", "sys.argv"),
)


def _has_entropy(call: Call) -> bool:
    others = ("hash", "id", "threading.", "uuid.getnode")
    return call.code in ("DT102", "DT103") and not (_SEEDED.match(call.call) or call.call.startswith(others))


def _has_a_seed(call: Call) -> bool:
    return _SEEDED.match(call.call) is not None or call.call.startswith("faker.")


def _may_have_a_seed(call: Call) -> bool:
    never = ("uuid.uuid4", "secrets.", "os.", "random.", "ssl.")
    return _has_entropy(call) and not call.call.startswith(never)


def _has_the_time(call: Call) -> bool:
    never = ("uuid.uuid4", "uuid.getnode", "id", "threading.", "nanoid.", "shortuuid.")
    return call.code == "DT101" or (call.code == "DT103" and not call.call.startswith(never))


def _is_of_the_process(call: Call) -> bool:
    """What is another one in each process, whatever is held still there."""
    if call.code == "DT103":
        return not call.call.startswith(("uuid.uuid4", "uuid.uuid7"))
    return call.code == "DT106" and (call.call.startswith("os.getp") or not _HELD_STILL(call))


def _remembers(call: Call) -> bool:
    """What may be another one in the same process, whatever is held still there."""
    return call.code not in ("DT104", "DT116") and not _HELD_STILL(call)


_VARIABLES = _named("os.getenv", "os.environ", "os.path.expand", "pathlib.Path.home", "dotenv.", "decouple.")
_IMPORT = (
    "importing the module gives another value in each process, so read it in an activity, or pass it in the "
    "input"
)
_NAME = "name it by what it holds, or give its class a `__repr__` that does"
_CAUSES = {
    "clock": _Cause("DT101", (_has_the_time,)),
    "time zone": _Cause("DT101", (_of("DT101"), _has_the_time, _of("DT106"))),
    "random seed": _Cause("DT102", (_has_a_seed, _may_have_a_seed)),
    "entropy": _Cause("DT102", (_has_entropy,)),
    "environment": _Cause("DT106", (_VARIABLES, _of("DT106", "DT105"))),
    "command line": _Cause("DT106", (_named("sys.argv"), _of("DT106"))),
    "directory": _Cause("DT106", (_of("DT106", "DT107", "DT105"),)),
    "locale": _Cause("DT106", (_named("locale."), _of("DT106"))),
    "machine": _Cause(
        "DT106",
        (
            lambda call: call.code == "DT106" and not _VARIABLES(call),
            _named("uuid.getnode", *_UUIDS),
            _of("DT106"),
        ),
    ),
    "thread": _Cause("DT109", (_named("threading."), _of("DT106", "DT110"))),
    "memory": _Cause("DT109", (_remembers,)),
    "process": _Cause("DT109", (_is_of_the_process,), _IMPORT),
    "import": _Cause("DT106", (), _IMPORT),
    "clock at import": _Cause("DT101", (), _IMPORT),
    "chance at import": _Cause("DT102", (), _IMPORT),
    "address": _Cause(
        "DT103", (_of("DT103"),), "name it by what it holds, or give its class a `__repr__` that does"
    ),
    "hash seed": _Cause("DT108", (_named("hash"), _is_of_the_process)),
    "is_replaying": _Cause("DT113", (_of("DT113"),)),
}
# What is moved where it is imported elsewhere was moved before, for the orchestrator alone.
_ELSEWHERE_TOO = ("environment", "command line", "directory", "machine")
# Where these show, other comparisons tell nothing, for their replays differ in the same way.
_BEFORE_ALL = ("memory", "address", "hash seed")
_AT_IMPORT = ("clock at import", "chance at import")
# One hazard may show by both; apart, nothing that is moved shows in two ways.
_ALIKE = {"time zone": "clock"}
_NOT_REGISTERED = frozenset(
    error.__name__
    for error in (ActivityNotRegisteredError, OrchestratorNotRegisteredError, EntityNotRegisteredError)
)


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
        tuple(check.findings()),
        tuple(check.allowed),
        tuple(check.skipped),
        tuple(dict.fromkeys(check.not_compared())),
    )


class _Moved(NamedTuple):
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


class _Check:
    def __init__(self, prepared: Prepared, moment: datetime) -> None:
        self.prepared = prepared._replace(events=child.events_of(pickle.dumps(prepared.events)))
        self.namespaces = _namespaces(prepared.orchestrators.values())
        self.moment = moment
        self.watchdog = Watchdog()
        self.replays = 0
        self.moved: list[_Moved] = []
        self.allowed: list[Allowed] = []
        self.skipped: list[Skipped] = []
        self.allowed_at_import: list[Change] = []
        self.left_out: list[str] = []

    # -- the replays

    def run(self) -> None:
        self._observe()
        if self.observed.error is not None:
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
            request = processes.request_for(data, self.moment, stop=bool(self.done_once))
            answers, _ = processes.ask(request, self._in_this_process)
            self._in_fresh_processes(answers, request)
        self._long_after()

    def _observe(self) -> None:
        """Replay as it is, and see which forbidden calls are made on the way."""
        with observe() as calls, unmoved(self.namespaces):
            self.observed = self.watchdog.call(lambda: record(self.prepared, calls, fail=True))
        self.calls: Sequence[Call] = calls
        self.done_once: dict[Any, Call] = {}  # the first of each line: what it calls in turn is told by it
        for call in filter(is_done_once, calls):
            self.done_once.setdefault((call.location.file, call.location.line), call)
        self.replays += 1

    def _in_this_process(self) -> None:
        # Payloads remember types, and those that were looked up under a moved clock are of no use after it.
        self.prepared = self.prepared._replace(payloads=self._new_payloads())
        with Surroundings(self.moment, self.namespaces) as around:
            runs = [around.run(each) for each in (self._replay, self._replay_in_other_places, self._replay)]
            self.control = runs[-1]
            memory = [*self._changes(runs[0], runs[1]), *self._changes(runs[1], runs[2])]
            self.unstable = _Unstable(memory)
            states = {each.places for each in memory if not _is_an_id(each)}
            ids = [each for each in memory if each.places not in states]
            self._note("replayed again", "address", _without_repeats(ids))
            memory = [each for each in memory if each.places in states]
            self._note("replayed again", "memory", _without_repeats(memory))
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
            partial(record, self.prepared, live_from=live_from, stop=bool(self.done_once))
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
        self._note("replayed again in a fresh process", "memory", memory)
        self.unstable.add(memory)
        first = by_seed[0][0]
        # What is imported otherwise in the blocks that allow it is not to be found by anything below.
        blocks = answers[0].blocks if not isinstance(answers[0], processes.NoAnswer) else {}
        anew = self._ask_anew(request) if blocks else None
        if anew is not None:
            self._in_blocks(anew)
        else:  # what they change is not known, and let through it was
            self.allowed += [Allowed(why, "the import", each, "DT106", ()) for each, why in blocks.items()]
        order = _without_repeats(
            [change for other in by_seed[1:] for change in self._changes(first, other[0])]
        )
        order = self.unstable.without(order)
        self._note("hash seed", "hash seed", order)
        self.unstable.add(order)
        if elsewhere is not None and not isinstance(answers[0], processes.NoAnswer):
            known = _Unstable([each for m in self.moved if m.cause in _ELSEWHERE_TOO for each in m.changes])
            moved = self.unstable.without(known.without(self._changes(first, elsewhere)))
            self._note("imported elsewhere", "import", moved, _became(first, elsewhere))
            # Where the import takes another way elsewhere, it does not in a process like this one.
            self.unstable.add(moved, ends=False)
        allowed = _Unstable([])
        allowed.add(self.allowed_at_import, ends=False)
        changed = allowed.without(self.unstable.without(self._changes(self.control, first)))
        if any(
            not _is_an_address(each) and not self._explanation(each, "process", set()) for each in changed
        ):
            anew = anew or self._ask_anew(request)
            if anew is not None:
                self._imported_anew(anew)
        self._note("fresh process", "process", self.unstable.without(changed))

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
                names.setdefault((block, _CAUSES[cause].hazard), []).append(name)
                self.allowed_at_import += found
        for (block, hazard), moved in names.items():
            self.allowed.append(Allowed(answer.blocks[block], "the import", block, hazard, tuple(moved)))

    def _imported_anew(self, answer: Answer) -> None:
        """What is another one in a fresh process: does it go by the time of the import, or by chance?"""
        first, again, *moved = answer.recordings
        unstable = _Unstable(self._changes(first, again))
        for perturbation, recording in zip(IMPORTED_OTHERWISE, moved, strict=True):
            found = self.unstable.without(unstable.without(self._changes(again, recording)))
            self._note(perturbation.name, perturbation.cause, found, _became(again, recording))
        for each in self.moved:
            if each.cause in _AT_IMPORT:
                self.unstable.add(each.changes)

    def _skip(self, name: str, reason: str) -> None:
        skipped = Skipped(name, reason)
        if skipped not in self.skipped:
            self.skipped.append(skipped)

    def _long_after(self) -> None:
        """What the SDK's executor does long after: it judges a retry_timeout by the wall clock."""
        self.retry_timeout = None
        if not self.observed.retry_timeouts:
            return
        if not all(map(_is_of_a_value, self.observed.divergences)):
            command = describe(self.observed.retry_timeouts[0].command)
            self.left_out.append(f"what the retry_timeout of {command} does ten years on")
            return
        if self.done_once:
            self._skip("clock ten years on", "the SDK's own executor would do what is not done again.")
            return
        last = self.moment + TEN_YEARS
        first = min((event.timestamp for event in self.prepared.events), default=self.moment)
        long_after, *before = [
            self._worker_at(moment) for moment in (last, first, self.moment - timedelta(milliseconds=12))
        ]
        if long_after in before:
            return
        asked = self.observed.retry_timeouts[0]
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

    def _note(self, name: str, cause: str, found: list[Change], became: dict[str, str] | None = None) -> None:
        if found:
            self.moved.append(_Moved(name, cause, found, became or {}))

    # -- findings

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
                    key = "" if cause in _BEFORE_ALL else cause
                    end = ends.setdefault(key, (*_end_of(change), []))
                    ends[key] = (*min(end[:2], _end_of(change)), [*end[2], name])
                elif cause in _BEFORE_ALL and any(_has_parts(change, path) for path in change.paths):
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
        for event in self.prepared.events:
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
        cause, call = _CAUSES[group.cause], group.call
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
                call = None if _is_an_address(change) else self._explanation(change, cause, explained)
                if call is not None:
                    place = (call.location.file, call.location.line)
                    explained.add(place)
                    latest = groups.setdefault((*place, call.code), _Group(call, cause))
                elif _is_an_address(change):
                    groups.setdefault("address", _Group(None, "address")).add(name, cause, change)
                    continue
                elif latest is None:
                    latest = groups.setdefault(_ALIKE.get(cause, cause), _Group(None, cause))
                latest.add(name, cause, change)
                if latest.call is None:
                    latest.became = {**became, **latest.became}
        return list(groups.values())

    def _explanation(self, change: Change, cause: str, explained: set[tuple[str, int]]) -> Call | None:
        """The forbidden call that a change is put down to, if one was seen."""
        seen = self.calls[: self._calls_before(change)]
        alike = ([call for call in seen if explains(call)] for explains in _CAUSES[cause].calls)
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
        asked = self.observed.asked
        apart = next(
            (each.index for each in self._changes(self.observed, self.control) if each.shape), len(asked)
        )
        index = min(change.index, apart)
        return asked[index].calls if index < len(asked) else len(self.calls)


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


def _is_an_address(change: Change) -> bool:
    """Whether all that differs is where in memory something is."""
    was, now = (str(each) for each in (change.divergence.expected, change.divergence.actual))
    return was != now and ADDRESS.sub("", was) == ADDRESS.sub("", now)


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


def _told(code: str, what: str, location: Any, instead: str | None = None) -> str:
    hazard = BY_CODE[code]
    where = f"\n    at {location}" if location is not None else ""
    return f"{code} {hazard.title}: {what.rstrip('.')}.{where}\n    instead: {instead or hazard.instead}."
