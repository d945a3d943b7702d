"""``make fuzz SECONDS=3600``: every law on random programs that no run has seen, for as long as one likes."""

from __future__ import annotations

import os
import random
import time

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from laws import ALL, runs_as_on_the_sdk
from programs import Program, programs, takeover_programs
from test_fault_laws import LAWS as UNDER_FAULTS
from test_in_memory_backend import KINDS, compare


def test_fuzz_holds_every_law_on_new_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """A few programs in normal runs; until the time is over where ``DT_FUZZ_SECONDS`` is set."""
    seconds = os.environ.get("DT_FUZZ_SECONDS")
    until = time.monotonic() + float(seconds or 0)
    ran = 0

    @settings(
        max_examples=200 if seconds else 25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(program=programs, takeover=takeover_programs)
    def hold_all(program: Program, takeover: Program) -> None:
        nonlocal ran
        ran += 1
        note(program.source)
        for law in (*ALL, *UNDER_FAULTS):
            law(program)
        note(takeover.source)
        runs_as_on_the_sdk(takeover)

    while ran == 0 or time.monotonic() < until:
        # In normal runs always the same programs, so that a failure is a failure for everybody.
        batch_seed = random.getrandbits(64) if seconds else 0
        seed(batch_seed)(hold_all)()
        if seconds:
            for kind in KINDS:
                compare(kind, 8, batch_seed)
            with capsys.disabled():
                left = max(0, until - time.monotonic())
                print(f"fuzz: {ran:,} programs hold every law, {left:,.0f} s left", flush=True)
