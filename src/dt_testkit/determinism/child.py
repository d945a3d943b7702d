"""A fresh process for replays: :func:`main`, with the words ``serve``, ``elsewhere`` and ``once``, or none.

It reads requests from its standard input and writes answers to its standard output, each with its length
before it. Told to ``serve``, it forks for each request, so that every replay finds the project as it is when
it has just been imported; what the fork had to import, it imports too when it has answered, for those that
follow. Without, it answers one request and ends. ``elsewhere``, the project is imported, and the history
replayed, with another environment, another directory and another host; ``once`` is how often it is replayed.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import sys
import threading
import warnings
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

    from durabletask.history import HistoryEvent

    from dt_testkit.determinism.recording import Recording
    from dt_testkit.determinism.surroundings import Perturbation
    from dt_testkit.locations import Location
    from dt_testkit.replaying.check import Prepared

T = TypeVar("T")

IMPORTED_AT = datetime(2026, 1, 1)
LENGTH = struct.Struct("!Q")


class Request(NamedTuple):
    """A history to be replayed, and where.

    ``prepared`` is pickled, since unpickling it imports the project, and ``events``, since their times may
    be such as a frozen clock has made. ``files`` says in which file the process that asks has found each
    module of the project. With ``anew``, the project is imported and the history replayed twice as it is, and
    once for each perturbation of its import.
    """

    prepared: bytes
    events: bytes
    moment: datetime
    path: list[str]
    directory: str | None
    arguments: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    stop: bool
    seconds: int
    anew: bool = False


class Answer(NamedTuple):
    """The recordings, or why there are none; and what was imported, if nothing runs in a thread by it.

    ``blocks`` are those of ``allow_nondeterminism`` that the import has entered, with their reasons;
    ``in_blocks`` are recordings with one of them moved alone: which, by what, and of what kind that is.
    """

    recordings: list[Recording]
    problem: str | None
    imported: list[str]
    blocks: dict[Location, str]
    in_blocks: list[tuple[Location, str, str, Recording]]


# Those that what is imported here by now has entered.
_blocks: dict[Location, str] = {}


class _Finder(MetaPathFinder):
    """Finds the project's modules where the process that asks has found them."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        file = self.files.get(name)
        if file is None:
            return None
        package = [os.path.dirname(file)] if os.path.basename(file) == "__init__.py" else None
        return spec_from_file_location(name, file, submodule_search_locations=package)


def _settle_in(request: Request) -> None:
    """Take over what the process that asks finds modules by, and where it is."""
    sys.path[:] = request.path
    sys.argv = request.arguments
    if request.directory is not None:
        os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    others = [each for each in sys.meta_path if not isinstance(each, _Finder)]
    sys.meta_path[:] = [_Finder(request.files), *others]


class _Events(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "freezegun.api":
            return _NOT_FROZEN[name]
        return super().find_class(module, name)


_NOT_FROZEN = {"FakeDatetime": datetime, "FakeDate": date}


def events_of(data: bytes) -> Sequence[HistoryEvent]:
    """Pickled events; their times are times, also if they were recorded with a frozen clock."""
    events: Sequence[HistoryEvent] = _Events(io.BytesIO(data)).load()
    return events


class _Place(NamedTuple):
    """Where the project is imported, and how often a history is replayed there."""

    elsewhere: bool
    times: int

    @property
    def perturbation(self) -> Perturbation | None:
        from dt_testkit.determinism.surroundings import IMPORTED_ELSEWHERE

        return IMPORTED_ELSEWHERE if self.elsewhere else None


def answer(request: Request, place: _Place) -> Answer:
    """Import the project, and replay the history."""
    from dt_testkit.determinism.reach import values_reached
    from dt_testkit.determinism.recording import record
    from dt_testkit.determinism.surroundings import IMPORTED_ELSEWHERE, IMPORTED_OTHERWISE, Surroundings
    from dt_testkit.determinism.watchdog import Watchdog

    before = set(sys.modules)
    recordings, in_blocks, problem = [], [], None
    try:
        _settle_in(request)
        with Surroundings(IMPORTED_AT) as around, Watchdog() as watchdog:

            def replay(prepared: Prepared) -> Recording:
                prepared = prepared._replace(events=events_of(request.events))
                reached = values_reached(prepared.orchestrators.values())
                around.moment = request.moment
                work = partial(watchdog.call, partial(record, prepared, stop=request.stop))
                recording = around.run(work, place.perturbation).portable()
                recording.reached = reached
                return recording

            def load(perturbation: Perturbation | None, only_in: Location | None = None) -> Prepared:
                around.moment = IMPORTED_AT
                unpickle = partial(pickle.loads, request.prepared)
                prepared: Prepared = around.import_it(unpickle, perturbation, _blocks, only_in)
                return prepared

            def replay_anew(perturbation: Perturbation | None, only_in: Location | None = None) -> Recording:
                for name in request.files:
                    sys.modules.pop(name, None)
                return replay(load(perturbation, only_in))

            if request.anew:
                recordings = [replay_anew(each) for each in (None, None, *IMPORTED_OTHERWISE)]
                in_blocks = [
                    (block, each, replay_anew(each, block))
                    for block in list(_blocks)
                    for each in (IMPORTED_ELSEWHERE, *IMPORTED_OTHERWISE)
                ]
            else:
                prepared = load(place.perturbation)
                recordings = [replay(prepared) for _ in range(place.times)]
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    alone = threading.active_count() == 1
    imported = [name for name in sys.modules if name not in before] if alone else []
    told = [(block, each.name, each.cause, recording) for block, each, recording in in_blocks]
    files = set(request.files.values())
    blocks = {each: why for each, why in _blocks.items() if os.path.abspath(each.file) in files}
    return Answer(recordings, problem, imported, blocks, told)


class _Kept:
    """What of the project is imported already, and whether it is still what it was."""

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.stamps: dict[str, tuple[str, int]] = {}

    def check(self, files: dict[str, str]) -> None:
        """Forget the project if a module is another one, or was changed."""
        for name, stamp in self.stamps.items():
            if name in files and _stamp(files[name]) != stamp:
                for each in self.stamps:
                    sys.modules.pop(each, None)
                self.stamps.clear()
                _blocks.clear()
                return

    def keep(self, request: Request, names: list[str]) -> None:
        from dt_testkit.determinism.modules import file_of, is_of_the_project
        from dt_testkit.determinism.surroundings import Surroundings

        with suppress(BaseException), Surroundings(IMPORTED_AT) as around:
            _settle_in(request)
            for name in names:
                with suppress(BaseException):  # in the fork it worked, or the project lived without it
                    load = partial(import_module, name)
                    module = around.import_it(load, self.place.perturbation, _blocks)
                    if is_of_the_project(file := file_of(module)) and file is not None:
                        self.stamps[name] = _stamp(file)


def _stamp(file: str) -> tuple[str, int]:
    try:
        return file, os.stat(file).st_mtime_ns
    except OSError:
        return file, 0


def send(stream: BinaryIO, data: bytes) -> None:
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(read: Callable[[int], bytes]) -> bytes | None:
    """The next message; None where the stream ends."""
    head = read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    data = read(size)
    return data if len(data) == size else None


def _in_a_fork(request: Request, place: _Place) -> tuple[bytes, list[str]]:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(request.seconds)
            reply = answer(request, place)
            with open(theirs, "wb") as stream:
                stream.write(pickle.dumps((_pickled(reply), reply.imported)))
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as stream:
        written = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        reply_data, imported = pickle.loads(written)
        return reply_data, imported
    except Exception:
        why = "without an answer"
        if status < 0:
            why = f"by {signal.Signals(-status).name}"
            if status == -signal.SIGALRM:
                why = "because it did not answer in time"
        return _pickled(_nothing(f"the process was ended {why}")), []


def _nothing(problem: str) -> Answer:
    return Answer([], problem, [], {}, [])


def _pickled(reply: Answer) -> bytes:
    try:
        return pickle.dumps(reply)
    except Exception as error:
        return pickle.dumps(_nothing(f"{type(error).__name__}: {error}"))


def main() -> None:
    source, target = open(os.dup(0), "rb"), open(os.dup(1), "wb")  # noqa: SIM115
    # What orchestrators print is not an answer.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    warnings.simplefilter("ignore")  # there is nobody to see them, and as errors they would end this
    words = sys.argv[1:]
    place = _Place("elsewhere" in words, 1 if "once" in words else 2)
    if "serve" not in words:
        if (data := receive(source.read)) is not None:
            send(target, _pickled(answer(pickle.loads(data), place)))
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from dt_testkit.determinism.surroundings import Surroundings
    from dt_testkit.determinism.watchdog import Watchdog

    with Surroundings(IMPORTED_AT), Watchdog():
        pass  # what it imports and looks up need not be done in each fork
    kept = _Kept(place)
    while (data := receive(source.read)) is not None:
        request: Request = pickle.loads(data)
        kept.check(request.files)
        reply, imported = _in_a_fork(request, place)
        send(target, reply)
        if imported:
            kept.keep(request, imported)
    os._exit(0)  # nobody waits for more than that it is gone
