"""A clock that stands, in the place of Python's: its types stay what they are, only what they read moves.

Nothing else is put in the place of ``datetime`` and ``date``, for code sees it (``type(moment) is datetime``,
``repr``, pickles): their class methods that read the clock are replaced in the types themselves.
"""

from __future__ import annotations

import copyreg
import ctypes
import gc
import sys
import threading
import time
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dt_testkit.determinism.swapping import swapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_EPOCH = datetime(1970, 1, 1)
_PATIENT = 10_000
"""Looks at the clock after which time goes faster and faster: somebody waits for something far away."""


class Endless(BaseException):
    """A replay does not end."""


class Clock:
    """A clock that moves a step with each look at it.

    Attributes
    ----------
    now : datetime
        What it shows, naive UTC.
    step : float
        Seconds that pass with each look.
    thread : int
        Who reads it: all other threads keep their time, for they may wait for something by it.
    """

    def __init__(self, now: datetime, step: float) -> None:
        self.thread = 0
        self.set(now, step)

    def set(self, now: datetime, step: float) -> None:
        self.now, self.step, self._looks = now, step, 0

    def pass_over(self, seconds: float) -> None:
        try:
            self.now += timedelta(seconds=seconds)
        except OverflowError:
            raise Endless("it waits for a time that does not come") from None

    def look(self) -> datetime:
        now = self.now
        self._looks += 1
        if self._looks > _PATIENT:
            self.step *= 1.01
        self.pass_over(self.step)
        return now

    @property
    def _applies(self) -> bool:
        return threading.get_ident() == self.thread

    def fakes(self) -> Iterator[tuple[Any, str, Any]]:
        """What reads this clock, and in the place of what: module, name, fake."""
        look = self.look

        def seconds() -> float:
            return (look() - _EPOCH).total_seconds()

        def nanoseconds() -> int:
            return (look() - _EPOCH) // timedelta(microseconds=1) * 1000

        def of_clock(clock: int) -> float:
            return seconds()

        def of_clock_ns(clock: int) -> int:
            return nanoseconds()

        for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
            yield self._fake(name, seconds)
            yield self._fake(f"{name}_ns", nanoseconds)
        if hasattr(time, "clock_gettime"):
            yield self._fake("clock_gettime", of_clock)
            yield self._fake("clock_gettime_ns", of_clock_ns)
        localtime = time.localtime
        for name in ("localtime", "gmtime", "ctime"):
            yield self._filled_in(name, 0, seconds)
        yield self._filled_in("asctime", 0, lambda: localtime(seconds()))
        yield self._filled_in("strftime", 1, lambda: localtime(seconds()))

    def _fake(self, name: str, fake: Callable[..., Any]) -> tuple[Any, str, Any]:
        real = getattr(time, name)

        def read(*arguments: Any) -> Any:
            return fake(*arguments) if self._applies else real(*arguments)

        return time, name, read

    def _filled_in(self, name: str, position: int, now: Callable[[], Any]) -> tuple[Any, str, Any]:
        """The function with the time given to it, where nobody gives one."""
        real = getattr(time, name)

        def convert(*arguments: Any) -> Any:
            given = arguments[position : position + 1]
            if given in ((), (None,)) and len(arguments) >= position and self._applies:
                arguments = (*arguments[:position], now())
            return real(*arguments)

        return time, name, convert

    @contextmanager
    def in_the_types(self) -> Iterator[None]:
        """Let ``datetime.now`` and its like read this clock."""
        look, clock = self.look, self
        real_now, real_utcnow = vars(datetime)["now"], vars(datetime)["utcnow"]
        real_today = vars(date)["today"]

        def now(cls: Any, tz: Any = None) -> Any:
            if not clock._applies:
                return real_now.__get__(None, cls)(tz)
            utc = look().replace(tzinfo=timezone.utc)
            local = utc.astimezone(tz) if tz is not None else utc.astimezone().replace(tzinfo=None)
            return cls.combine(local.date(), local.timetz())

        def utcnow(cls: Any) -> Any:
            if not clock._applies:
                return real_utcnow.__get__(None, cls)()
            utc = look()
            return cls.combine(utc.date(), utc.time())

        def today(cls: Any) -> Any:
            if not clock._applies:
                return real_today.__get__(None, cls)()
            if issubclass(cls, datetime):
                return now(cls)
            here = look().replace(tzinfo=timezone.utc).astimezone()
            return cls(here.year, here.month, here.day)

        with _methods(datetime, now=now, utcnow=utcnow), _methods(date, today=today):
            yield


@contextmanager
def _methods(kind: type, **fakes: Any) -> Iterator[None]:
    """Other class methods for a type that Python lets nobody change."""
    [space] = [each for each in gc.get_referents(vars(kind)) if type(each) is dict]
    before = {name: space[name] for name in fakes}
    try:
        space.update({name: classmethod(fake) for name, fake in fakes.items()})
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
        yield
    finally:
        space.update(before)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


@contextmanager
def thawed(namespaces: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Where somebody has frozen the time with freezegun, take its types and functions out of the way."""
    api: Any = sys.modules.get("freezegun.api")
    if api is None or not api.freeze_factories:
        yield
        return
    reals = [(api.FakeDatetime, api.real_datetime), (api.FakeDate, api.real_date)]
    reals += [
        (getattr(api, fake), getattr(api, f"real_{fake[5:]}"))
        for fake in vars(api)
        if fake.startswith("fake_") and hasattr(api, f"real_{fake[5:]}")
    ]
    kept = {kind: copyreg.dispatch_table.pop(kind, None) for kind in (api.real_datetime, api.real_date)}
    try:
        with swapped(reals, namespaces, everything=True):
            yield
    finally:
        copyreg.dispatch_table.update({kind: how for kind, how in kept.items() if how is not None})
