"""Workers that die, of SIGKILL, once at each point of a workflow; and, as a script, what keeps one alive.

The points are before each activity and after it, when its effect is committed or it has failed; at the first
two waits and at the end of each orchestrator; and in the middle of each operation of an entity that changes
its state. A file for each point says that a worker has died there already.

The script has imported the application and forks a worker for each start, which takes milliseconds. It reads
one JSON document a line and answers each with another:

- ``{"start": {environment}, "markers": directory}`` starts a worker; when it is killed, by itself or by
  anyone, the next one follows. Without a directory it dies nowhere.
- ``{"kill": true}`` kills the worker from outside.
- ``{"stop": true}`` ends it; the answer says how many were killed before, and how one ended otherwise.

At the end of its input it stops, too.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from durabletask.entities import DurableEntity

from workflows import register
from workflows.services import services
from workflows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

WAITS = 2


class Watched:
    """A worker, or a hub, whose orchestrators, activities and entities say which point they reach."""

    def __init__(self, worker: Any, reach: Callable[[str], None]) -> None:
        self._worker = worker
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def add_activity(self, fn: Any) -> None:
        @functools.wraps(fn)
        def watched(ctx: Any, input: Any) -> Any:
            self._reach(f"before {fn.__name__}")
            try:
                result = fn(ctx, input)
            except Exception:
                self._reach(f"failure of {fn.__name__}")
                raise
            self._reach(f"after {fn.__name__}")
            return result

        self._worker.add_activity(watched)

    def add_orchestrator(self, fn: Any) -> None:
        @functools.wraps(fn)
        def watched(ctx: Any, input: Any) -> Generator[Any, Any, Any]:
            steps, send, value = fn(ctx, input), "send", None
            waits = 0
            while True:
                try:
                    task = getattr(steps, send)(value)
                except StopIteration as end:
                    if not ctx.is_replaying:
                        self._reach(f"end of {fn.__name__}")
                    return end.value
                waits += 1
                if waits <= WAITS and not ctx.is_replaying:
                    self._reach(f"wait {waits} of {fn.__name__}")
                try:
                    send, value = "send", (yield task)
                except Exception as error:
                    send, value = "throw", error

        self._worker.add_orchestrator(watched)

    def add_entity(self, fn: Any) -> None:
        reach = self._reach
        if isinstance(fn, type):

            def set_state(entity: DurableEntity, state: Any) -> None:
                DurableEntity.set_state(entity, state)
                reach(f"in {entity.entity_context.operation} of {fn.__name__}")

            self._worker.add_entity(type(fn.__name__, (fn,), {"set_state": set_state}))
            return

        @functools.wraps(fn)
        def watched(ctx: Any, input: Any) -> Any:
            result = fn(ctx, input)
            reach(f"in {ctx.operation} of {fn.__name__}")
            return result

        self._worker.add_entity(watched)


def careless(ctx: Any, reference: str) -> Generator[Any, Any, None]:
    """A workflow for the tests: it has an activity without a key."""
    yield ctx.call_activity(book_without_a_key, input=reference)


def book_without_a_key(ctx: Any, reference: str) -> None:
    from workflows.store import LedgerEntry

    with services().store.session() as session:
        session.add(LedgerEntry(reference=reference, amount=1))


def register_all(worker: Any) -> None:
    """The application, and the careless workflow."""
    register(worker)
    worker.add_orchestrator(careless)
    worker.add_activity(book_without_a_key)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


def work(environment: dict[str, str], markers: str | None, life: int) -> NoReturn:
    """Be a worker, until nobody holds the other end of the pipe `life`."""
    os.environ.update(environment)
    from workflows.connection import create_worker

    def reach(point: str) -> None:
        if markers is not None:
            try:
                (Path(markers) / point).touch(exist_ok=False)
            except FileExistsError:
                return
            die()

    with create_worker(Settings.from_environment()) as worker:
        register_all(Watched(worker, reach))
        worker.start()  # type: ignore[no-untyped-call]
        os.read(life, 1)
        os._exit(0)


class Keeper:
    """Keeps one worker alive."""

    def __init__(self, environment: dict[str, str], markers: str | None) -> None:
        self._start = environment, markers
        self.killed = 0
        self.ended: str | None = None
        self._fork()

    def _fork(self) -> None:
        life, self._life = os.pipe()
        self.death, dying = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._life)
            os.close(self.death)
            devnull = os.open(os.devnull, os.O_RDWR)
            os.dup2(devnull, 0)
            os.dup2(devnull, 1)
            try:
                work(*self._start, life)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(1)
        os.close(life)
        os.close(dying)  # the worker alone holds it: it is closed when the worker has died

    def reap(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        os.close(self.death)
        os.close(self._life)
        return os.waitstatus_to_exitcode(status)

    def died(self) -> None:
        """Start the next one, unless this one had an end of its own."""
        code = self.reap()
        if code == -signal.SIGKILL:
            self.killed += 1
            self._fork()
        else:
            self.death = -1
            self.ended = f"exit status {code}"

    def kill(self) -> None:
        if self.death != -1:
            os.kill(self._pid, signal.SIGKILL)

    def stop(self) -> dict[str, Any]:
        if self.death != -1:
            self.kill()
            self.reap()
        return {"killed": self.killed, "ended": self.ended}


def obey(request: dict[str, Any], keeper: Keeper | None) -> tuple[Keeper | None, dict[str, Any]]:
    """Do what is asked for; returns the keeper there is then, and the answer."""
    if "start" in request:
        assert keeper is None
        return Keeper(request["start"], request["markers"]), {}
    assert keeper is not None
    if "stop" in request:
        return None, keeper.stop()
    keeper.kill()
    return keeper, {}


def main() -> None:
    # Imported before the first fork: none of it starts a thread.
    import httpx  # noqa: F401

    from workflows import connection, gateway, store  # noqa: F401

    assert threading.active_count() == 1
    keeper: Keeper | None = None
    text = b""
    while True:
        death = -1 if keeper is None else keeper.death
        ready, _, _ = select.select([0] if death == -1 else [0, death], [], [])
        if keeper is not None and death in ready:
            keeper.died()
        if 0 in ready:
            more = os.read(0, 1 << 16)
            if not more:
                break
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                keeper, answer = obey(json.loads(line), keeper)
                print(json.dumps(answer), flush=True)
    if keeper is not None:
        keeper.stop()


if __name__ == "__main__":
    main()
