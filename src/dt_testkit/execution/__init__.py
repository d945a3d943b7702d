"""One orchestration, run from the events it is fed: no clock, no I/O, no threads, no randomness."""

from dt_testkit.execution.commands import (
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Location,
    Operation,
    ScheduleActivity,
    SendEvent,
)
from dt_testkit.execution.context import FakeOrchestrationContext
from dt_testkit.execution.execution import Execution
from dt_testkit.execution.payloads import Payloads

__all__ = [
    "CallSubOrchestrator",
    "Command",
    "Complete",
    "CreateTimer",
    "Execution",
    "FakeOrchestrationContext",
    "Location",
    "Operation",
    "Payloads",
    "ScheduleActivity",
    "SendEvent",
]
