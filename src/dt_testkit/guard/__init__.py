"""The guard: what makes a replay take another way is stopped while an orchestrator runs."""

from dt_testkit.guard.guard import (
    AllowedBlock,
    Call,
    Guard,
    Mode,
    Run,
    allow_nondeterminism,
    allowed_blocks,
    guarded_run,
    hold,
    observe,
    release,
    unguarded,
)

__all__ = [
    "AllowedBlock",
    "Call",
    "Guard",
    "Mode",
    "Run",
    "allow_nondeterminism",
    "allowed_blocks",
    "guarded_run",
    "hold",
    "observe",
    "release",
    "unguarded",
]
