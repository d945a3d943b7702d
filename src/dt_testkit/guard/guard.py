"""What happens to a forbidden call: it is stopped, warned of, noted or let through.

A :class:`Guard` belongs to a hub, a :class:`Run` to one life of an orchestrator's generator.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from dt_testkit.errors import NonDeterminismWarning, NonDeterministicCall
from dt_testkit.guard.engine import engine
from dt_testkit.guard.frames import (
    is_near,
    is_seeded_by_numpy,
    location_of,
    route_of,
    text_of_route,
    users_frames,
)
from dt_testkit.guard.instructions import UNKNOWN, arguments_given
from dt_testkit.guard.message import as_written, text_of, why_and_instead
from dt_testkit.guard.threads import local, table
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from dt_testkit.guard.table import Forbidden

MODES = ("error", "warn", "off")
Mode = Literal["error", "warn", "off"]


class Call(NamedTuple):
    """A forbidden call that was noted.

    Attributes
    ----------
    code, call, location, route
        As in :class:`~dt_testkit.NonDeterministicCall`.
    allowed : str | None
        The reason of the :func:`allow_nondeterminism` block that it was made in.
    """

    code: str
    call: str
    location: Location
    route: tuple[str, ...]
    allowed: str | None


@dataclass(frozen=True)
class AllowedBlock:
    """A block of :func:`allow_nondeterminism`, and what it let through."""

    reason: str
    location: Location
    calls: tuple[str, ...]


class Guard:
    """What a hub does about forbidden calls.

    Attributes
    ----------
    stopped : NonDeterministicCall | NonDeterminismWarning | None
        The first one that was stopped, until it is raised; a warning where a filter makes errors of them.
    has_stopped : bool
        Whether any call ever was.
    """

    def __init__(self, mode: Literal["error", "warn"]) -> None:
        self.mode = mode
        self.stopped: NonDeterministicCall | NonDeterminismWarning | None = None
        self.has_stopped = False
        self._warned: set[tuple[str, int, str]] = set()

    @classmethod
    def of(cls, mode: Mode) -> Guard | None:
        if mode not in MODES:
            raise ValueError(f"guard is 'error', 'warn' or 'off', not {mode!r}.")
        return cls(mode) if mode != "off" else None

    def begin(self) -> Guard | None:
        """From here to :meth:`end`, what begins to run in this thread is guarded. Returns whose it was."""
        outer, local.guard = local.guard, self
        return outer

    def end(self, outer: Guard | None) -> None:
        """Raise what was stopped: the orchestrator may have swallowed it."""
        local.guard = outer
        stopped, self.stopped = self.stopped, None
        if stopped is not None:
            raise stopped

    def meet(self, call: Call, orchestrator: str, frame: FrameType) -> None:
        """Stop a call, or warn of it; the frame is the one of the line that it is put down to."""
        place = call.location
        message = text_of(orchestrator, call.call, call.code, place, call.route)
        if self.mode == "warn":
            key = place.file, place.line, call.call
            if key not in self._warned:
                try:
                    warnings.warn_explicit(
                        message, NonDeterminismWarning, frame.f_code.co_filename, frame.f_lineno or 0
                    )
                except NonDeterminismWarning as error:
                    self._stop(error)
                self._warned.add(key)
            return
        _, instead = why_and_instead(call.call, call.code)
        self._stop(NonDeterministicCall(message, call.call, call.code, place, call.route, instead))

    def _stop(self, error: NonDeterministicCall | NonDeterminismWarning) -> NoReturn:
        if self.stopped is None:
            self.stopped = error
        self.has_stopped = True
        raise error


@contextmanager
def unguarded() -> Iterator[None]:
    """What begins to run in here, in this thread, is not guarded."""
    outer, local.guard = local.guard, None
    try:
        yield
    finally:
        local.guard = outer


class Run:
    """One life of an orchestrator's generator, guarded."""

    def __init__(self, guard: Guard | None) -> None:
        self.call = partial(engine().call, self)  # what the generator is started and resumed with
        self.unnoticed = engine().unnoticed
        self.guard = guard
        self.orchestrator = ""
        self.allowing: list[allow_nondeterminism] = []
        self._seen: tuple[int, int] | None = None

    def judge(
        self,
        forbidden: Forbidden,
        caller: FrameType | None,
        *,
        first: Any = UNKNOWN,
        offset: int | None = None,
        is_audit: bool = False,
    ) -> None:
        """Decide about a call that is about to be made by that frame."""
        if caller is None:
            return
        if forbidden.bare is not None and offset is not None:
            given = arguments_given(caller, offset)
            if given is None or given > forbidden.bare:
                return
        frames = route_of(caller, table)
        if frames is None or is_seeded_by_numpy(forbidden, caller):
            return
        users = users_frames(frames)
        if forbidden.near and not is_near(forbidden, frames, users, first):
            return
        here = id(caller), caller.f_lasti
        if is_audit and here == self._seen:
            return  # judged when it was called
        self._seen = here
        allowing = self.allowing or local.allowing
        reason = allowing[-1].reason if allowing else None
        call = Call(
            forbidden.code, forbidden.name, location_of(users[0]), text_of_route(frames, users), reason
        )
        if allowing:
            allowing[-1]._let_through(call.call)
        if local.noted is not None:
            local.noted.append(call)
        elif reason is None and self.guard is not None:
            if (written := as_written(frames, users[0])) is not None:
                called, code = written
                call = call._replace(call=called, code=code, route=(*call.route, call.call))
            self.guard.meet(call, self.orchestrator or frames[-1].f_code.co_name, users[0])


def hold() -> None:
    """Have calls noticed until :func:`release`; it takes a while, so it is done once for many turns."""
    engine().hold()


def release() -> None:
    engine().release()


def guarded_run() -> Run | None:
    """For a generator that begins in this thread: its run, or None where nobody looks."""
    if local.noted is not None or local.guard is not None:
        return Run(local.guard)
    return None


@contextmanager
def observe() -> Iterator[list[Call]]:
    """Note the forbidden calls of what runs in here, in this thread, and stop none of them.

    Examples
    --------
    >>> import time
    >>> from dt_testkit import History, TaskHub, replay
    >>> from dt_testkit.guard import observe
    >>> def stamp(ctx, _):
    ...     return time.time() > 0
    >>> hub = TaskHub(guard="off")
    >>> _ = hub.add_orchestrator(stamp)
    >>> history = hub.run(stamp).history
    >>> with observe() as calls:
    ...     _ = replay(history, stamp)
    >>> [(call.code, call.call) for call in calls]
    [('DT101', 'time.time')]
    """
    outer, local.noted = local.noted, []
    table.refresh()  # before something else is put in the place of what is looked up
    hold()
    try:
        yield local.noted
    finally:
        release()
        local.noted = outer


class allow_nondeterminism:
    """Let a block of an orchestrator do what the guard would stop.

    In an orchestrator it counts for that one alone, also where the block yields; around what drives a hub,
    for all that runs meanwhile in this thread; around what a module reads when it is imported, for
    :func:`~dt_testkit.determinism.check_determinism` and lint. What it lets through is listed at the end of a
    test run.

    Parameters
    ----------
    reason : str
        Why that is safe; it is shown in the report.

    Examples
    --------
    >>> import time
    >>> from dt_testkit import TaskHub, allow_nondeterminism
    >>> def measured(ctx, _):
    ...     with allow_nondeterminism("the time is only logged"):
    ...         started = time.perf_counter()
    ...     return "done"
    >>> hub = TaskHub()
    >>> _ = hub.add_orchestrator(measured)
    >>> hub.run(measured).output
    'done'
    """

    def __init__(self, reason: str) -> None:
        if not str(reason or "").strip():
            raise ValueError(
                "allow_nondeterminism() wants the reason why it is safe, such as "
                "allow_nondeterminism('the time is only logged')."
            )
        self.reason = reason
        self._entered: list[tuple[list[allow_nondeterminism], Any]] = []

    def __enter__(self) -> None:
        run = local.run
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") == "contextlib":
            frame = frame.f_back
        assert frame is not None
        allowing = run.allowing if run is not None else local.allowing
        allowing.append(self)
        self._entered.append((allowing, (frame.f_code, frame.f_lasti)))

    def __exit__(self, *_: object) -> None:
        allowing, _place = self._entered.pop()
        allowing.remove(self)

    def _let_through(self, name: str) -> None:
        location = Location.of(self._entered[-1][1])
        assert location is not None
        calls = _allowed.setdefault((self.reason, location), [])
        if name not in calls:
            calls.append(name)


_allowed: dict[tuple[str, Location], list[str]] = {}


def allowed_blocks() -> tuple[AllowedBlock, ...]:
    """The blocks of :func:`allow_nondeterminism` that have let something through, in this process."""
    return tuple(AllowedBlock(reason, place, tuple(calls)) for (reason, place), calls in _allowed.items())
