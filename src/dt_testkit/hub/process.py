"""A served hub in a process of its own, so that the worker and the hub do not wait for one interpreter.

A gRPC server and a worker in one process hand the interpreter's lock to and fro a hundred times for each item
of work, which takes longer than the work. The hub's process is asked in lines, on its standard input, and
answers in lines; what it logs comes the same way, and is logged here. It ends when its input does, which is
also when the process that asks has died.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from dt_testkit.errors import DurableTestError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO

_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from dt_testkit.hub.process import main; main(sys.argv[1])"
_MARK = "dt-testkit: "  # other lines are not ours: what sitecustomize prints, for one
_PATIENCE = 60.0  # seconds for an answer


# -- in the hub's process


def main(start_time: str) -> None:
    """Serve a hub, and answer, until the standard input ends."""
    from dt_testkit.hub import TaskHub

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which needs the hub to stop
    logging.getLogger().addHandler(_Handler())
    logging.getLogger("dt_testkit").setLevel(logging.DEBUG)  # what to leave out is decided by who asks
    hub = TaskHub(start_time=datetime.fromisoformat(start_time))
    with hub.serve(patience=None) as server:
        for line in sys.stdin:
            number, what = line.split()
            _say([int(number), server.address if what == "address" else hub.now.isoformat()])
        os._exit(0)  # nothing of it is kept


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said = {"msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info:
            said["exc_text"] = logging.Formatter().formatException(record.exc_info)
        _say({**vars(record), **said})


_saying = threading.Lock()


def _say(what: Any) -> None:
    # Who asks may be gone, and somebody may have written the beginning of a line.
    with _saying, suppress(OSError, ValueError):
        print(f"\n{_MARK}{json.dumps(what, default=str)}", flush=True)


# -- in the process that asks


class HubProcess:
    """A hub that another process serves, in skipped time and without patience. Leaving its context ends it.

    Parameters
    ----------
    start_time : datetime
        Where virtual time starts: UTC, naive or aware.

    Raises
    ------
    DurableTestError
        The process cannot be started, has ended, or does not answer within a minute.

    Examples
    --------
    >>> from dt_testkit.hub.process import HubProcess
    >>> with HubProcess(datetime(2030, 1, 1)) as hub:
    ...     hub.now()
    datetime.datetime(2030, 1, 1, 0, 0)
    """

    _process: subprocess.Popen[str]

    def __init__(self, start_time: datetime) -> None:
        self._start_time = start_time
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._answers: SimpleQueue[list[Any] | None] = SimpleQueue()

    def __enter__(self) -> HubProcess:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, self._start_time.isoformat(), *_path()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        except (OSError, TypeError, ValueError) as error:
            raise DurableTestError(
                f"The process of the task hub cannot be started ({error}): sys.executable, which is "
                f"{sys.executable!r}, has to be a Python interpreter."
            ) from None
        assert self._process.stdout is not None
        listen = threading.Thread(
            target=self._listen, args=(self._process.stdout,), name="dt-testkit-hub", daemon=True
        )
        listen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # nothing of it is kept
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # what was not written any more
            self._process.stdin.close()

    @property
    def address(self) -> str:
        """``host:port``, as workers and clients take it for ``host_address``."""
        return self._ask("address")

    def now(self) -> datetime:
        """The hub's virtual time, naive UTC. It may be asked for from any thread."""
        return datetime.fromisoformat(self._ask("now"))

    def _ask(self, what: str) -> str:
        process = self._process
        assert process.stdin is not None
        with self._lock:
            number = next(self._numbers)
            with suppress(OSError, ValueError):  # it has ended: so have the answers
                process.stdin.write(f"{number} {what}\n")
                process.stdin.flush()
            while True:
                try:
                    answer = self._answers.get(timeout=_PATIENCE)
                except Empty:
                    raise DurableTestError(
                        f"The process of the task hub ({process.pid}) has not answered within {_PATIENCE:g} "
                        "s: see what keeps it, and try again."
                    ) from None
                if answer is None:
                    self._answers.put(None)  # for who asks next
                    raise DurableTestError(
                        f"The process of the task hub has ended, with status {process.wait()}: what it wrote "
                        "to the standard error says why."
                    )
                if answer[0] == number:  # and not that to somebody who was interrupted
                    answered: str = answer[1]
                    return answered

    def _listen(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.startswith(_MARK):
                    said = json.loads(line[len(_MARK) :])
                    if isinstance(said, list):
                        self._answers.put(said)
                    else:
                        record = logging.makeLogRecord(said)
                        logger = logging.getLogger(record.name)
                        if logger.isEnabledFor(record.levelno):
                            logger.handle(record)
        self._answers.put(None)


def _path() -> list[str]:
    """Where to find modules, as in this process; but Python's own first.

    Here they were imported before pytest has put the directory of a test in front, which may have a
    ``types.py``.
    """
    own = os.path.dirname(os.__file__)
    entries: list[object] = [*sys.path]  # of any type: the import system leaves out what it cannot use
    path = [each for each in entries if isinstance(each, str)]
    return sorted(path, key=lambda each: not each.startswith(own) or "-packages" in each)
