"""Net 2 against hazards: a history is replayed again and again, each time with one thing moved."""

from dt_testkit.determinism.check import check_determinism
from dt_testkit.determinism.report import Allowed, DeterminismReport, Finding, Skipped
from dt_testkit.errors import NonDeterministicCall
from dt_testkit.guard import allow_nondeterminism

__all__ = [
    "Allowed",
    "DeterminismReport",
    "Finding",
    "NonDeterministicCall",
    "Skipped",
    "allow_nondeterminism",
    "check_determinism",
]
