"""What runs in each thread, and who looks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dt_testkit.guard.table import Table

if TYPE_CHECKING:
    from dt_testkit.guard.guard import Call, Guard, Run, allow_nondeterminism


class _ThisThread(threading.local):
    run: Run | None = None  # what runs now
    guard: Guard | None = None  # whose runs begin now
    noted: list[Call] | None = None  # by observe()

    def __init__(self) -> None:
        self.allowing: list[allow_nondeterminism] = []  # around what is driven, and so in all that runs


local = _ThisThread()
table = Table()
