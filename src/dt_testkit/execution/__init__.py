"""One orchestration, run from the events it is fed: no clock, no I/O, no threads, no randomness."""

from dt_testkit.execution.commands import (
    CallEntity,
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Location,
    LockEntities,
    Operation,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
)
from dt_testkit.execution.context import FakeOrchestrationContext
from dt_testkit.execution.execution import Execution
from dt_testkit.execution.options import WorkerOptions
from dt_testkit.execution.payloads import Payloads

__all__ = [
    "CallEntity",
    "CallSubOrchestrator",
    "Command",
    "Complete",
    "CreateTimer",
    "Execution",
    "FakeOrchestrationContext",
    "Location",
    "LockEntities",
    "Operation",
    "Payloads",
    "ScheduleActivity",
    "SendEvent",
    "SignalEntity",
    "UnlockEntity",
    "WorkerOptions",
]
