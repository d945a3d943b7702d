"""What an orchestrator runs in: the same in every replay, but for the one thing that is moved.

:class:`Surroundings` is a context manager. Inside, the clock stands where the history ends (a millisecond
passes with each look at it, so that nothing waits for ever), chance and entropy start from fixed seeds, and
the time zone is UTC. :meth:`Surroundings.run` puts all of it back before each replay, for an orchestrator may
have moved it itself, and lets one perturbation move one thing. When the context ends, everything is as it
was before it.

The clock, entropy and sleeping are faked for the thread of the replay alone, for other threads may wait for
something meanwhile; the time zone, the working directory and the environment are those of the process.
"""

from __future__ import annotations

import gc
import io
import locale
import logging
import os
import platform
import random
import sys
import tempfile
import threading
import time
import uuid
import warnings
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from dt_testkit.determinism.clock import Clock
from dt_testkit.determinism.modules import is_of_the_project
from dt_testkit.determinism.swapping import replaced
from dt_testkit.guard import allow_nondeterminism
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from dt_testkit.history import History

T = TypeVar("T")

_HOST = "another-host"
_STEP, _SLOW = 0.001, 3607.0
_SEED = 20260101
# Under one of them at least, each of the first draws from two is another one than in the control.
_SEEDS, _WHICH = (61, 3372, 1), ("", "another ", "a third ")
_LOCALES = (
    *(
        f"{name}.{code}"
        for name in ("de_DE", "fr_FR", "tr_TR", "es_ES", "pt_BR")
        for code in ("UTF-8", "utf8")
    ),
    *("German_Germany.1252", "French_France.1252"),
)
_NUMBERS = {"decimal_point": ",", "thousands_sep": ".", "grouping": [3, 3, 0]}


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


@dataclass(frozen=True)
class Perturbation:
    """One thing that is moved.

    Attributes
    ----------
    name : str
        How reports call it.
    cause : str
        What kind of hazard finds itself moved by it; perturbations of one cause find the same hazards.
    move : Callable
        Given the surroundings, a context manager for the time that it is moved.
    """

    name: str
    cause: str
    move: Callable[[Surroundings], AbstractContextManager[object]]


class CannotMove(Exception):
    """This perturbation cannot be made here; the message says why."""


class Surroundings:
    """Fixed surroundings for replays, in this process.

    Parameters
    ----------
    moment : datetime
        What the clock shows, naive UTC.
    namespaces : Iterable[dict[str, Any]]
        Globals of orchestrators, which may be those of modules that nobody finds by name.

    Attributes
    ----------
    shortfalls : dict[str, str]
        Perturbations that could be made in part alone, and what was done.
    """

    def __init__(self, moment: datetime, namespaces: Iterable[dict[str, Any]] = ()) -> None:
        self.moment = moment
        self._namespaces = list(namespaces)
        self._stack = ExitStack()
        self._thread = 0
        self.shortfalls: dict[str, str] = {}
        self._entropy = random.Random(_SEED)

    def __enter__(self) -> Surroundings:
        with ExitStack() as stack:
            stack.enter_context(_chance_kept())
            stack.enter_context(_quiet())
            stack.enter_context(_no_warnings())
            stack.enter_context(self._time_zone("UTC0"))
            self._own = _Own()
            self._elsewhere = os.path.realpath(tempfile.gettempdir())  # to find it takes of the entropy
            self._real_urandom, self._real_sleep = os.urandom, time.sleep
            self._clock = Clock(self.moment, _STEP)
            fakes = (*self._clock.fakes(), *self._fakes())
            stack.enter_context(replaced(fakes, self._namespaces, libraries=True))
            stack.enter_context(self._clock.in_the_types())
            self._reset()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def run(self, replay: Callable[[], T], perturbation: Perturbation | None = None) -> T:
        """Call a function in the fixed surroundings, with at most one thing moved."""
        collects = gc.isenabled()
        gc.disable()  # it calls back who looks at the clock, as hypothesis does
        self._reset()
        self._thread = self._clock.thread = threading.get_ident()
        try:
            with perturbation.move(self) if perturbation is not None else nullcontext():
                return replay()
        finally:
            self._reset()
            self._thread = self._clock.thread = 0
            if collects:
                gc.enable()

    def import_it(
        self,
        load: Callable[[], T],
        perturbation: Perturbation | None = None,
        blocks: dict[Location, str] | None = None,
        only_in: Location | None = None,
    ) -> T:
        """Import something, with at most one thing moved; in its ``allow_nondeterminism`` blocks it is not.

        With ``only_in``, it is moved in that block alone. ``blocks`` collects them, with the reasons.
        """
        enter, leave = allow_nondeterminism.__enter__, allow_nondeterminism.__exit__
        moved = ExitStack()
        inside: list[Location] = []

        def move() -> None:
            moved.close()
            self._reset_clock_and_chance()
            if perturbation is not None and only_in == (inside[0] if inside else None):
                moved.enter_context(perturbation.move(self))

        def entered(block: allow_nondeterminism) -> None:
            enter(block)
            frame = sys._getframe(1)
            while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
                frame = frame.f_back
            if threading.get_ident() == self._thread:
                moved.close()  # a place is told from the current directory
                place = Location.of((frame.f_code, frame.f_lasti))
                assert place is not None
                inside.append(place)
                if blocks is not None:
                    blocks[place] = block.reason
                move()

        def left(block: allow_nondeterminism, *raised: object) -> None:
            leave(block, *raised)
            if threading.get_ident() == self._thread and inside:
                inside.pop()
                move()

        def work() -> T:
            cls: Any = allow_nondeterminism
            cls.__enter__, cls.__exit__ = entered, left
            try:
                with moved:
                    move()
                    return load()
            finally:
                cls.__enter__, cls.__exit__ = enter, leave

        return self.run(work)

    def run_in_a_thread(self, replay: Callable[[], T]) -> T:
        """The same in a thread of its own."""
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(self.run(replay))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="another-thread")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    # -- the clock

    @contextmanager
    def clock(self, moment: datetime, step: float = _STEP) -> Iterator[None]:
        """Let the clock show another moment, and move by ``step`` seconds with each look at it."""
        self._clock.set(moment, step)
        yield

    @contextmanager
    def _time_zone(self, name: str) -> Iterator[None]:
        if not hasattr(time, "tzset"):
            yield
            return
        before = os.environ.get("TZ")
        os.environ["TZ"] = name
        time.tzset()
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("TZ", None)
            else:
                os.environ["TZ"] = before
            time.tzset()

    @contextmanager
    def time_zone(self) -> Iterator[None]:
        if not hasattr(time, "tzset"):
            raise CannotMove("this platform cannot change the time zone of a process")
        with self._time_zone("DTX-9:30"):
            yield

    # -- chance

    @contextmanager
    def chance(self, seed: int) -> Iterator[None]:
        random.seed(seed)
        if (numpy := sys.modules.get("numpy.random")) is not None:
            numpy.seed(seed)
        yield

    @contextmanager
    def entropy(self, seed: int) -> Iterator[None]:
        self._entropy = random.Random(seed)
        yield

    def another_age(self) -> AbstractContextManager[None]:
        """A moment that has another one of everything: year, month, kind of day, half of the day."""
        return self.clock(self.moment + TEN_YEARS + timedelta(days=45, hours=13, minutes=37, seconds=21.7))

    @contextmanager
    def any_chance(self, seed: int) -> Iterator[None]:
        with self.chance(seed), self.entropy(seed):
            yield

    def _urandom(self, size: int) -> bytes:
        if threading.get_ident() != self._thread:
            return self._real_urandom(size)
        return self._entropy.randbytes(size)

    def _sleep(self, seconds: float) -> None:
        if threading.get_ident() != self._thread:
            self._real_sleep(seconds)
        else:
            self._clock.pass_over(seconds)

    def _fakes(self) -> Iterator[tuple[Any, str, Any]]:
        seed_of = random.Random.seed
        surroundings = self

        def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
            if a is None and threading.get_ident() == surroundings._thread:
                a = int.from_bytes(surroundings._urandom(16), "big")
            seed_of(self, a, version)

        yield random.Random, "seed", seed
        yield random, "seed", seed.__get__(vars(random)["_inst"])
        for module, name in ((os, "urandom"), (random, "_urandom"), (os, "getrandom")):
            if hasattr(module, name):
                yield module, name, lambda size, *_: self._urandom(size)
        yield time, "sleep", lambda seconds: self._sleep(seconds)
        for name, value in (("_generate_time_safe", None), ("_UuidCreate", None)):
            if hasattr(uuid, name):  # they ask the C library for the time
                yield uuid, name, value
        yield from _refusals(lambda: self._thread)

    # -- the environment and the machine

    @contextmanager
    def environment(self, change: Callable[[dict[Any, Any]], dict[Any, Any]]) -> Iterator[None]:
        """Let the variables be others for this process; the C library keeps what it has."""
        own = self._own
        moved = change(own.variables)
        given = dict(moved)
        environments = [vars(os.environ), *([vars(os.environb)] if hasattr(os, "environb") else [])]
        for each in environments:
            each["_data"] = moved
        try:
            yield
        finally:
            for each in environments:
                each["_data"] = own.environment
            own.put_back_variables(moved, given)  # those that the orchestrator has set in the C library too

    @contextmanager
    def arguments(self) -> Iterator[None]:
        sys.argv = ["another-program", "--another=option"]
        yield

    @contextmanager
    def directory(self) -> Iterator[None]:
        if self._own.directory is None:
            raise CannotMove("the current directory does not exist any more, so one could not go back to it")
        other = self._elsewhere
        os.chdir(other if other != os.path.realpath(self._own.directory) else os.path.dirname(other))
        yield

    @contextmanager
    def locale(self) -> Iterator[None]:
        override: Any = vars(locale)["_override_localeconv"]
        for name in _LOCALES:
            if name.partition(".")[0] not in self._own.locale:
                try:
                    locale.setlocale(locale.LC_ALL, name)
                except locale.Error:
                    continue
                yield
                return
        self.shortfalls["locale"] = (
            "no other locale is installed here; in its place the plain one was used, with a comma for the "
            "decimal point"
        )
        for name in ("C", "C.UTF-8"):
            with suppress(locale.Error):
                if locale.setlocale(locale.LC_ALL, name) != self._own.locale:
                    break
        override.update(_NUMBERS)
        try:
            yield
        finally:
            for name in _NUMBERS:
                override.pop(name, None)

    @contextmanager
    def machine(self) -> Iterator[None]:
        system = _uname(node=_HOST, release="0.0.0", version="another", machine="another")
        fakes: list[tuple[Any, str, Any]] = [
            (platform, "uname", lambda: system),
            (platform, "platform", lambda *_, **__: "Another-0.0.0"),
            (platform, "python_version", lambda: "3.99.0"),
            (os, "cpu_count", lambda: 61),
            (os, "process_cpu_count", lambda: 61),
            (os, "getloadavg", lambda: (61.0, 61.0, 61.0)),
            (os, "sched_getaffinity", lambda _: set(range(61))),
            (os, "uname", lambda: os.uname_result(("Another", _HOST, "0.0.0", "another", "another"))),
            (sys, "executable", f"{os.sep}another{os.sep}python"),
        ]
        if (multiprocessing := sys.modules.get("multiprocessing")) is not None:
            fakes.append((multiprocessing, "cpu_count", lambda: 61))
        with self.host(), self._replaced(fakes):
            yield

    def host(self) -> AbstractContextManager[None]:
        """Another name of the machine, another user and another process on it."""
        import getpass
        import socket

        return self._replaced(
            [
                (socket, "gethostname", lambda: _HOST),
                (socket, "getfqdn", lambda *_: f"{_HOST}.example"),
                (platform, "node", lambda: _HOST),
                (os, "getpid", lambda: 4_000_001),
                (os, "getppid", lambda: 4_000_000),
                (os, "getlogin", lambda: "another"),
                (os, "getuid", lambda: 60_001),
                (os, "geteuid", lambda: 60_001),
                (getpass, "getuser", lambda: "another"),
                (uuid, "getnode", lambda: 0x0A_0B_0C_0D_0E_0F),
            ]
        )

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """All that another worker may have otherwise when it imports the project."""
        with self.environment(_elsewhere), self.arguments(), self.directory(), self.host():
            yield

    @contextmanager
    def system(self) -> Iterator[None]:
        name, shown = ("Linux", "linux") if sys.platform == "win32" else ("Windows", "win32")
        system = _uname(system=name)
        with self._replaced([(platform, "uname", lambda: system), (sys, "platform", shown)]):
            yield

    # -- order

    def _reset(self) -> None:
        self._reset_clock_and_chance()
        self._own.put_back()

    def _reset_clock_and_chance(self) -> None:
        self._clock.set(self.moment, _STEP)
        random.seed(_SEED)
        if (numpy := sys.modules.get("numpy.random")) is not None:
            numpy.seed(_SEED)
        self._entropy = random.Random(_SEED)
        vars(uuid)["_last_timestamp"] = None
        if hasattr(uuid, "_last_timestamp_v7"):
            vars(uuid)["_last_timestamp_v7"] = None

    def _replaced(self, fakes: Iterable[tuple[Any, str, Any]]) -> AbstractContextManager[None]:
        return replaced((each for each in fakes if hasattr(each[0], each[1])), self._namespaces)


class _Own:
    """What an orchestrator may have moved itself, as it was before."""

    def __init__(self) -> None:
        self.environment = vars(os.environ)["_data"]
        self.variables = dict(self.environment)
        self.arguments = sys.argv
        self.directory = _working_directory()
        self.locale = locale.setlocale(locale.LC_ALL)

    def put_back(self) -> None:
        if self.environment != self.variables:
            self.put_back_variables(self.environment, self.variables)
        sys.argv = self.arguments
        if self.directory is not None and _working_directory() != self.directory:
            os.chdir(self.directory)
        if locale.setlocale(locale.LC_ALL) != self.locale:
            locale.setlocale(locale.LC_ALL, self.locale)

    def put_back_variables(self, now: dict[Any, Any], before: dict[Any, Any]) -> None:
        """Put back, for this process and for the C library, the variables that differ."""
        for key in {*now, *before}:
            if now.get(key) != before.get(key):
                name = os.environ.decodekey(key)
                os.environ[name] = os.environ.decodevalue(self.variables.get(key, key))
                if key not in self.variables:
                    del os.environ[name]


@contextmanager
def unmoved(namespaces: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Nothing is moved or held still in here; only that nobody sleeps or prints."""
    thread, sleep = threading.get_ident(), time.sleep

    def pass_over(seconds: float) -> None:
        if threading.get_ident() != thread:
            sleep(seconds)

    own = _Own()
    fakes = [(time, "sleep", pass_over), *_refusals(lambda: thread)]
    with _chance_kept(), _quiet(), replaced(fakes, namespaces):
        try:
            yield
        finally:
            own.put_back()


def _refusals(thread: Callable[[], int]) -> Iterator[tuple[Any, str, Any]]:
    """No replay ends the process that it runs in."""

    def refusing(name: str, end: Callable[..., None]) -> Callable[..., None]:
        def ends(*status: Any) -> None:
            if threading.get_ident() != thread():
                end(*status)
            raise SystemExit(f"os.{name}()")

        return ends

    for name in ("_exit", "abort"):
        yield os, name, refusing(name, getattr(os, name))


@contextmanager
def _chance_kept() -> Iterator[None]:
    state = random.getstate()
    numpy: Any = sys.modules.get("numpy.random")
    numpy_state = numpy.get_state() if numpy is not None else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.set_state(numpy_state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nobody wants to read what thirty replays print."""
    manager = logging.root.manager
    before = manager.disable
    logging.disable()
    try:
        with redirect_stdout(_Nowhere()):
            yield
    finally:
        logging.disable(before)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """No warning is an error in one process and not in another: each has filters of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _uname(**changes: str) -> platform.uname_result:
    """What the machine says it is, changed; to ask it starts a process."""
    return platform.uname()._replace(**changes)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def as_naive(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo is not None else moment


def moment_of(history: History) -> datetime:
    """Where the clock stands in the control: at the last event of the history."""
    last = max((as_naive(event.timestamp) for event in history.events), default=datetime(2026, 1, 1))
    return min(max(last, datetime(1980, 1, 1)), datetime(2400, 1, 1)) + timedelta(milliseconds=12)


# -- the perturbations


_ENCODED = os.name == "posix"  # the environment holds bytes there


def _another(value: Any) -> Any:
    text = os.fsdecode(value)
    other = str(int(text) + 1) if text.isdecimal() else f"{text}-changed"
    return os.fsencode(other) if _ENCODED else other


class _EverySet(dict[Any, Any]):
    """An environment in which each variable that is not set is ``1``."""

    def __missing__(self, key: Any) -> Any:
        return b"1" if _ENCODED else "1"


class _Elsewhere(_EverySet):
    """The same for the project; what installed packages ask for is not made up for them."""

    def __missing__(self, key: Any) -> Any:
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in _ENVIRONMENT:
            frame = frame.f_back
        if frame is None or not is_of_the_project(os.path.abspath(frame.f_code.co_filename)):
            raise KeyError(key)
        return super().__missing__(key)


# The code of Python's own that stands between os.environ and who reads it.
_ENVIRONMENT = {each.__code__.co_filename for each in (os.getenv, type(os.environ).get)}


def _elsewhere(own: dict[Any, Any]) -> dict[Any, Any]:
    return _Elsewhere(_changed(own))


def _changed(own: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _another(value) for key, value in own.items()}


def _removed(own: dict[Any, Any]) -> dict[Any, Any]:
    return {}


def _at(name: str, where: Callable[[datetime], datetime]) -> Perturbation:
    return Perturbation(name, "clock", lambda around: around.clock(where(around.moment)))


def _month_later(moment: datetime) -> datetime:
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=1)


def _other_kind_of_day(moment: datetime) -> datetime:
    """A working day where it is weekend, and the other way round."""
    days = 7 - moment.weekday() if moment.weekday() >= 5 else 5 - moment.weekday()
    return moment + timedelta(days=days)


TEN_YEARS = timedelta(days=3653)

CLOCK = (
    _at("clock forward", lambda moment: moment + timedelta(hours=1, minutes=37, microseconds=654_321)),
    _at("clock back", lambda moment: moment - timedelta(days=400, hours=3, microseconds=1_234)),
    _at("clock half a day on", lambda moment: moment + timedelta(hours=12)),
    _at(
        "clock across midnight",
        lambda moment: (moment + timedelta(days=1)).replace(hour=0, minute=0, second=1),
    ),
    _at("clock on another kind of day", _other_kind_of_day),
    _at("clock across a month's end", _month_later),
    _at("clock across a year's end", lambda moment: _month_later(moment.replace(month=12))),
    _at("clock ten years on", lambda moment: moment + TEN_YEARS),
    Perturbation("clock slowed down", "clock", lambda around: around.clock(around.moment, _SLOW)),
)
ELSEWHERE = (
    Perturbation("time zone", "time zone", Surroundings.time_zone),
    *(
        Perturbation(f"{which}random seed", "random seed", partial(Surroundings.chance, seed=seed))
        for which, seed in zip(_WHICH, _SEEDS, strict=True)
    ),
    *(
        Perturbation(f"{which}entropy", "entropy", partial(Surroundings.entropy, seed=seed))
        for which, seed in zip(_WHICH, _SEEDS, strict=True)
    ),
    Perturbation("environment changed", "environment", lambda around: around.environment(_changed)),
    Perturbation("environment removed", "environment", lambda around: around.environment(_removed)),
    Perturbation("environment all set", "environment", lambda around: around.environment(_EverySet)),
    Perturbation("command line", "command line", Surroundings.arguments),
    Perturbation("current directory", "directory", Surroundings.directory),
    Perturbation("locale", "locale", Surroundings.locale),
    Perturbation("machine", "machine", Surroundings.machine),
    Perturbation("operating system", "machine", Surroundings.system),
)
IMPORTED_ELSEWHERE = Perturbation("imported elsewhere", "import", Surroundings.elsewhere)
IMPORTED_OTHERWISE = (
    Perturbation("imported at another time", "clock at import", Surroundings.another_age),
    *(
        Perturbation(
            f"imported with {which}seed", "chance at import", partial(Surroundings.any_chance, seed=seed)
        )
        for which, seed in zip(("another ", "a third ", "a fourth "), _SEEDS, strict=True)
    ),
)
