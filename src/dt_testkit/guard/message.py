"""How a forbidden call is told: what was called, why that is wrong, and what to do instead."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dt_testkit.guard.frames import function_of
from dt_testkit.hazards import BY_CODE, hazard_of_call

if TYPE_CHECKING:
    from types import FrameType

# Where what the hazard says of the others of its kind does not fit.
_SECRET = "each replay draws another value", "draw it in an activity, whose result is kept in the history"
_LOCK = (
    "it blocks the worker's thread, and what it protects is no part of the history",
    "leave it out, as an instance is run by one thread at a time, or take it in an activity",
)
_THREAD = (
    "a replay runs in another thread, or another process",
    "use `ctx.instance_id` to tell instances apart",
)
_OTHERWISE = {
    "hash": ("the hash of a text is another one in each process", "use `zlib.crc32` or `hashlib`"),
    "id": ("an object has another id in each run", "compare objects with `is`, or give them a key"),
    "random.seed": (
        "it seeds what the whole process draws from, on every replay again",
        "use a generator of your own: `random.Random(ctx.new_uuid())`",
    ),
    "threading.get_ident": _THREAD,
    "threading.get_native_id": _THREAD,
    "threading.current_thread": _THREAD,
}
_OTHERWISE_BELOW = {
    "secrets.": _SECRET,
    "os.urandom": _SECRET,
    "random.SystemRandom": _SECRET,
    "threading.Lock.": _LOCK,
    "threading.RLock.": _LOCK,
    "threading.Semaphore.": _LOCK,
    "threading.BoundedSemaphore.": _LOCK,
    "threading.Condition.": _LOCK,
    "multiprocessing.Lock.": _LOCK,
}


def why_and_instead(name: str, code: str) -> tuple[str, str]:
    """Why a call of that name is a hazard, and the durable way to do it."""
    found = _OTHERWISE.get(name) or next(
        (said for prefix, said in _OTHERWISE_BELOW.items() if name.startswith(prefix)), None
    )
    return found or (BY_CODE[code].why, BY_CODE[code].instead)


def as_written(frames: list[FrameType], user: FrameType) -> tuple[str, str] | None:
    """The library's function that the project has called, and its hazard, where the table has it.

    ``requests.get`` says more than the variable that it reads on its way to a socket.
    """
    place = frames.index(user)
    if place == 0:
        return None
    called = frames[place - 1]
    module = called.f_globals.get("__name__") or ""
    function = function_of(called)
    parts = module.split(".")
    for length in range(1, len(parts) + 1):  # by its shortest name
        home = ".".join(parts[:length])
        known = getattr(sys.modules.get(home), function, None)
        if getattr(known, "__code__", None) is called.f_code:
            module = home
            break
    hazard = hazard_of_call(f"{module}.{function}")
    return (f"{module}.{function.removesuffix('.__init__')}", hazard.code) if hazard is not None else None


def text_of(orchestrator: str, name: str, code: str, place: object, route: tuple[str, ...]) -> str:
    why, instead = why_and_instead(name, code)
    done = f"`{name}` was used" if name.startswith("os.environ") else f"`{name}()` was called"
    way = f"\nreached by {' -> '.join(route)}" if len(route) > 1 else ""
    return f"{done} in the orchestrator '{orchestrator}' at {place}: {why}; {instead} ({code}).{way}"
