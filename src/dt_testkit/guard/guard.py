"""What happens to a forbidden call: it is stopped, warned of, noted or let through.

A :class:`Guard` belongs to a hub, a :class:`Run` to one life of a generator, and says for each thread what
runs in it. The engine notices calls and asks :func:`judge`.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dt_testkit.errors import NonDeterminismWarning, NonDeterministicCall
from dt_testkit.guard.frames import (
    arguments_given,
    is_near,
    location_of,
    route_of,
    text_of_route,
    users_frames,
)
from dt_testkit.guard.table import Table
from dt_testkit.hazards import BY_CODE
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


class _ThisThread(threading.local):
    run: Run | None = None  # what runs now
    guard: Guard | None = None  # whose runs begin now
    noted: list[Call] | None = None  # by observe()


local = _ThisThread()
table = Table()


class Guard:
    """What a hub does about forbidden calls.

    Attributes
    ----------
    stopped : NonDeterministicCall | None
        The first one that was stopped, until it is raised.
    """

    def __init__(self, mode: Literal["error", "warn"]) -> None:
        self.mode = mode
        self.stopped: NonDeterministicCall | None = None
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
        hazard = BY_CODE[call.code]
        place = call.location
        way = f"\nreached by {' -> '.join(call.route)}" if len(call.route) > 1 else ""
        done = "was read" if call.call.startswith("os.environ") else "was called"
        shown = call.call if done == "was read" else f"{call.call}()"
        message = (
            f"`{shown}` {done} in the orchestrator '{orchestrator}' at {place}: {hazard.why}; "
            f"{hazard.instead} ({call.code}).{way}"
        )
        if self.mode == "warn":
            key = place.file, place.line, call.call
            if key not in self._warned:
                warnings.warn_explicit(
                    message, NonDeterminismWarning, frame.f_code.co_filename, frame.f_lineno or 0
                )
                self._warned.add(key)
            return
        error = NonDeterministicCall(message, call.call, call.code, place, call.route, hazard.instead)
        if self.stopped is None:
            self.stopped = error
        raise error


class Run:
    """One life of an orchestrator's generator, guarded."""

    call: Callable[..., Any]  # what the generator is started and resumed with
    unnoticed: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]  # of the engine

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self.orchestrator = ""
        self.allowing: list[allow_nondeterminism] = []
        self._seen: tuple[int, int] | None = None

    def judge(
        self,
        forbidden: Forbidden,
        caller: FrameType | None,
        *,
        first: Any = None,
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
        if frames is None:
            return
        users = users_frames(frames)
        if forbidden.near and not is_near(forbidden, frames, users, first):
            return
        here = id(caller), caller.f_lasti
        if is_audit and here == self._seen:
            return  # judged when it was called
        self._seen = here
        reason = self.allowing[-1].reason if self.allowing else None
        call = Call(
            forbidden.code, forbidden.name, location_of(users[0]), text_of_route(frames, users), reason
        )
        if self.allowing:
            self.allowing[-1]._let_through(call.call)
        if local.noted is not None:
            local.noted.append(call)
        elif reason is None and self.guard is not None:
            self.guard.meet(call, self.orchestrator or frames[-1].f_code.co_name, users[0])


def hold() -> None:
    """Have calls noticed until :func:`release`; it takes a while, so it is done once for many turns."""
    from dt_testkit.guard.engine import engine

    engine.hold()


def release() -> None:
    from dt_testkit.guard.engine import engine

    engine.release()


def guarded_run() -> Run | None:
    """For a generator that begins in this thread: its run, or None where nobody looks."""
    if local.noted is not None or local.guard is not None:
        from dt_testkit.guard.engine import engine

        run = Run(local.guard)
        run.call, run.unnoticed = partial(engine.call, run), engine.unnoticed
        return run
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
    hold()
    try:
        yield local.noted
    finally:
        release()
        local.noted = outer


class allow_nondeterminism:
    """Let a block of an orchestrator do what the guard would stop.

    It counts for the orchestrator that enters it alone, also where the block yields. What it lets through is
    listed at the end of a test run.

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
        self._runs: list[tuple[Run | None, Any]] = []

    def __enter__(self) -> None:
        run = local.run
        frame = sys._getframe(1)
        self._runs.append((run, (frame.f_code, frame.f_lasti)))
        if run is not None:
            run.allowing.append(self)

    def __exit__(self, *_: object) -> None:
        run, _place = self._runs.pop()
        if run is not None:
            run.allowing.remove(self)

    def _let_through(self, name: str) -> None:
        location = Location.of(self._runs[-1][1])
        assert location is not None
        calls = _allowed.setdefault((self.reason, location), [])
        if name not in calls:
            calls.append(name)


_allowed: dict[tuple[str, Location], list[str]] = {}


def allowed_blocks() -> tuple[AllowedBlock, ...]:
    """The blocks of :func:`allow_nondeterminism` that have let something through, in this process."""
    return tuple(AllowedBlock(reason, place, tuple(calls)) for (reason, place), calls in _allowed.items())
