"""The other side of :mod:`~dt_testkit.determinism.child`: keeps fresh processes, and asks them.

Where there is ``os.fork``, a process is started for each hash seed when it is first needed, and kept until
this process ends; it forks for each request. Elsewhere a new process is started for each request.
"""

from __future__ import annotations

import atexit
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import date, timedelta, tzinfo
from datetime import time as time_of_day
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import dt_testkit
from dt_testkit.determinism.child import LENGTH, Answer, Request, receive
from dt_testkit.determinism.modules import file_of, project_modules
from dt_testkit.determinism.reach import globals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from dt_testkit.replaying.check import Prepared

T = TypeVar("T")


class Role(NamedTuple):
    """What a process is started for: its hash seed, and what its command line says besides."""

    hash_seed: str
    words: tuple[str, ...] = ()


# With these, nearly each set of two short strings comes in both orders, by the hash of Python 3.10 as by that
# of later ones. That something is kept in a process from one replay to the next shows in two of them, too.
ROLES = (
    Role("1"),
    Role("1", ("elsewhere", "once")),
    Role("2"),
    *(Role(seed, ("once",)) for seed in ("255", "163", "151", "21")),
)
PATIENCE = 60
"""Seconds after which a process is taken to hang."""

FORKS = hasattr(os, "fork")
_MAIN = "from dt_testkit.determinism.child import main; main()"
_SOURCE = str(Path(dt_testkit.__file__).parents[1])
_lock = threading.RLock()
_children: dict[Role, _Child] = {}
_monotonic = time.monotonic  # not the one that somebody has frozen


class NoAnswer(Exception):
    """A process died, or did not answer in time; the message says which."""


def pickled(prepared: Prepared) -> tuple[bytes, bytes]:
    """What to replay, for another process, and its events; functions by name, or by value if nobody has it.

    Raises whatever pickling raises.
    """
    import cloudpickle  # type: ignore[import-untyped]

    by_value = set()
    for function in prepared.orchestrators.values():
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        if module is not None and file_of(module) is None and module.__name__ != "__main__":
            by_value.add(module)
    try:
        for module in by_value:
            cloudpickle.register_pickle_by_value(module)
        data: bytes = cloudpickle.dumps(prepared._replace(events=()))
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data, pickle.dumps(prepared.events)


def carried(prepared: Prepared) -> list[str]:
    """Names of globals that may change, and that travel to the other process with a function."""
    found: dict[str, None] = {}
    functions = [each for each in prepared.orchestrators.values() if isinstance(each, FunctionType)]
    seen: set[FunctionType] = set()
    while functions:
        function = functions.pop()
        module = sys.modules.get(function.__module__ or "")
        local = "<locals>" in function.__qualname__ or function.__name__ == "<lambda>"
        by_value = local or module is None or module.__name__ == "__main__" or file_of(module) is None
        if not by_value or function in seen:
            continue
        seen.add(function)
        for name, stored in globals_of(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, FunctionType):
                functions.append(value)
            elif stored or not isinstance(value, _LASTING):
                found[name] = None
    return list(found)


# Of these, none is filled by running; those of others may be.
_LASTING = (
    *(ModuleType, BuiltinFunctionType, type, type(None), bool, int, float, complex, str, bytes),
    *(tuple, frozenset, date, time_of_day, timedelta, tzinfo, Enum, Path, re.Pattern),
)


def request_for(data: tuple[bytes, bytes], moment: datetime, *, stop: bool) -> Request:
    try:
        directory = os.getcwd()
    except OSError:
        directory = None
    files = {
        name: file for name, module in project_modules().items() if (file := file_of(module)) is not None
    }
    files.pop("__main__", None)
    path = [os.path.abspath(each) for each in sys.path]
    return Request(
        *data, moment, path, directory, list(sys.argv), dict(os.environ), files, stop, max(1, PATIENCE - 5)
    )


def alone() -> threading.RLock:
    """What a check holds: what it moves is the whole process's, so two at once would put back the other's."""
    return _lock


def ask(
    request: Request, meanwhile: Callable[[], T], roles: Sequence[Role] = ROLES
) -> tuple[list[Answer | NoAnswer], T]:
    """Send a request to a process of each role, do something meanwhile, and collect the answers."""
    data = pickle.dumps(request)
    with _lock:
        children = [_child(role) for role in roles]
        try:
            problems = [child.send(data) for child in children]
            result = meanwhile()
            pairs = zip(children, problems, strict=True)
            return [problem or child.receive() for child, problem in pairs], result
        except BaseException:
            for child in children:  # their answers would be taken for those to the next request
                child.stop(kill=True)
            raise


def _flags() -> list[str]:
    """What of the command line the project's code may see or go by; variables reach a process anyway."""
    optimized = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimized, *(["-B"] if sys.dont_write_bytecode else []), f"-Xutf8={sys.flags.utf8_mode}"]


def _child(role: Role) -> _Child:
    child = _children.get(role)
    if child is None:
        child = _children[role] = _Child(role)
        if len(_children) == 1:
            atexit.register(stop)
    return child


def start() -> None:
    """Start the processes that are not there, so that nobody waits for them later."""
    if not FORKS:
        return
    with _lock:
        for child in map(_child, ROLES):
            if child.process is None:
                with suppress(OSError):  # told to who asks
                    child._start()


def stop() -> None:
    """End all processes; they are started again when they are needed."""
    with _lock:
        for child in _children.values():
            child.hang_up()
        for child in _children.values():
            child.stop()
        _children.clear()


def _forget() -> None:
    """In a fork of this process, the children are another's, and who holds the lock is not there."""
    global _lock
    _lock = threading.RLock()
    for child in _children.values():
        child.forget()
    _children.clear()


if FORKS:
    os.register_at_fork(after_in_child=_forget)


class _Child:
    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: Any = None

    def send(self, request: bytes) -> NoAnswer | None:
        if self.process is None or self.process.poll() is not None or not FORKS:
            self.stop()
            try:
                self._start()
            except OSError as error:
                return NoAnswer(f"a Python process could not be started: {error}")
        process = self.process
        assert process is not None
        assert process.stdin is not None
        try:
            self._write(LENGTH.pack(len(request)) + request)
        except TimeoutError:
            self.stop(kill=True)
            return NoAnswer(f"the process took nothing within {PATIENCE} s, and was ended")
        except OSError:
            words = self._last_words()
            self.stop(kill=True)
            return NoAnswer(f"the process ended before it was asked anything{words}")
        return None

    def _write(self, data: bytes) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        if not FORKS:
            self.process.stdin.write(data)
            self.process.stdin.flush()
            return
        stream = self.process.stdin.fileno()
        os.set_blocking(stream, False)
        until, rest = _monotonic() + PATIENCE, memoryview(data)
        while rest:
            _, ready, _ = select.select([], [stream], [], max(0.0, until - _monotonic()))
            if not ready:
                raise TimeoutError
            rest = rest[os.write(stream, rest) :]

    def _start(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))
        }
        environment["PYTHONHASHSEED"] = self.role.hash_seed
        paths = [_SOURCE, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        arguments = [*(["serve"] if FORKS else []), *self.role.words]
        self.process = subprocess.Popen(
            [sys.executable, *_flags(), "-c", _MAIN, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            cwd=_SOURCE,
            start_new_session=FORKS,
        )

    def receive(self) -> Answer | NoAnswer:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        try:
            if FORKS:
                data = receive(self._read)
            else:
                written, _ = process.communicate(timeout=PATIENCE)
                data = written[LENGTH.size :] or None
        except (TimeoutError, subprocess.TimeoutExpired):
            self.stop(kill=True)
            return NoAnswer(f"the process did not answer within {PATIENCE} s, and was ended")
        if data is None:
            process.wait()
            words = self._last_words()
            self.stop()
            return NoAnswer(f"the process died with status {process.returncode}{words}")
        reply: Answer = pickle.loads(data)
        return reply

    def _read(self, size: int) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        stream = self.process.stdout.fileno()
        until, data = _monotonic() + PATIENCE, b""
        while len(data) < size:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - _monotonic()))
            if not ready:
                raise TimeoutError
            more = os.read(stream, min(size - len(data), 1 << 20))
            if not more:
                break
            data += more
        return data

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""

    def hang_up(self) -> None:
        """Let the process end, and do not wait for it."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):  # it is gone already
                self.process.stdin.close()

    def stop(self, *, kill: bool = False) -> None:
        self.hang_up()
        process, self.process = self.process, None
        if process is None:
            return
        if kill and FORKS and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.errors.close()

    def forget(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.returncode = 0  # as far as it is known here
            streams: tuple[Any, ...] = (process.stdin, process.stdout, self.errors)
            for stream in streams:
                stream.close()
