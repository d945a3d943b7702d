"""A served hub in a process of its own, so that the worker and the hub do not wait for one interpreter.

A gRPC server and a worker in one process hand the interpreter's lock to and fro a hundred times for each item
of work, which takes longer than the work. The hub's process and the one that asks talk over two pipes, in
lines: the hub's address, once, and then the time there for each line that is written. The hub ends when its
pipe does, which is also when the process that asks has died.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from dt_testkit.errors import DurableTestError

if TYPE_CHECKING:
    from types import TracebackType

# It finds what this process finds, and nothing before that is known.
_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from dt_testkit.hub.process import main; main(sys.argv[1])"


def main(start_time: str) -> None:
    """Serve a hub until the standard input ends."""
    from dt_testkit.hub import TaskHub

    hub = TaskHub(start_time=datetime.fromisoformat(start_time))
    with hub.serve(patience=None) as server:
        print(server.address, flush=True)
        for _ in sys.stdin:
            print(hub.now.isoformat(), flush=True)


class HubProcess:
    """A hub that another process serves, in skipped time and without patience. Leaving its context ends it.

    Parameters
    ----------
    start_time : datetime
        Where virtual time starts: UTC, naive or aware.

    Raises
    ------
    DurableTestError
        When it is entered, or asked for the time: the process has ended.
    """

    address: str
    """``host:port``, as workers and clients take it for ``host_address``."""

    def __init__(self, start_time: datetime) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, start_time.isoformat(), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the worker, which needs the hub to stop
        )

    def __enter__(self) -> HubProcess:
        try:
            self.address = self._line()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def now(self) -> datetime:
        """The hub's virtual time, naive UTC. It is asked for from any thread."""
        with self._lock:
            process = self._process
            assert process.stdin is not None
            with suppress(
                OSError, ValueError
            ):  # a pipe that is broken, or closed, has no line to read either
                process.stdin.write("\n")
                process.stdin.flush()
            return datetime.fromisoformat(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise DurableTestError(
                f"The process of the task hub has ended, with status {self._process.wait()}: what it wrote "
                "to the standard error says why."
            )
        return line

    def _end(self) -> None:
        process = self._process
        process.kill()  # nothing of it is kept
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not written any more
                stream.close()
