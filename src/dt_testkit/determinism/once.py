"""What an orchestrator does to the world is done in the first replay alone: all others are stopped there.

A replay that is stopped ends, and says so in the same words each time: what was asked for before is compared,
and the rest is not.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dt_testkit.determinism.clock import Endless
from dt_testkit.guard import Guard, hold, release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from dt_testkit.guard import Call

# Nobody sleeps in a replay, and a lock that was free is free again.
_HARMLESS = ("sleep", "acquire", "__enter__")


def is_done_once(call: Call) -> bool:
    """Whether a call reads or writes, starts a thread or a process, or waits; and nobody has allowed it."""
    if call.allowed is not None:
        return False
    if call.code == "DT104":
        return call.call.rpartition(".")[2] not in _HARMLESS
    return call.code in ("DT105", "DT110")


class _Stopped(Endless):
    pass


class _Stopping(Guard):
    def meet(self, call: Call, orchestrator: str, frame: FrameType) -> None:
        if is_done_once(call):
            raise _Stopped(f"{call.call} is not done again")


@contextmanager
def stopped_before_it() -> Iterator[None]:
    """Replays that begin in here, in this thread, end at what is done once."""
    guard = _Stopping("error")
    hold()
    outer = guard.begin()
    try:
        yield
    finally:
        guard.end(outer)
        release()
