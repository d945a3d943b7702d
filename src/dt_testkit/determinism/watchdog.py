"""Ends replays that do not end by themselves."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from dt_testkit.determinism.clock import Endless

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SECONDS = 10.0
"""After how long a replay is taken not to end."""
_monotonic = time.monotonic  # not the one that somebody has frozen
_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Watchdog:
    """While it is entered, no call by :meth:`call` runs for much longer than ``SECONDS``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: int | None = None
        self._until = 0.0
        self._over = False

    def __enter__(self) -> Watchdog:
        self._watcher = threading.Thread(target=self._watch, name="dt-testkit-watchdog", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *raised: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._watcher.join()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function; raises :class:`Endless` in it if it takes too long."""
        self._until, self._thread = _monotonic() + SECONDS, threading.get_ident()
        try:
            return function()
        finally:
            with self._changed:
                self._thread = None

    def _watch(self) -> None:
        with self._changed:
            while not self._over:
                left = self._until - _monotonic()
                if self._thread is not None and left <= 0:
                    _raise_in(ctypes.c_ulong(self._thread), ctypes.py_object(_TooLong))
                # Once more if somebody catches it.
                self._changed.wait(left if left > 0 else 0.5)


class _TooLong(Endless):
    def __str__(self) -> str:
        return f"it does not end within {SECONDS:g} s"
