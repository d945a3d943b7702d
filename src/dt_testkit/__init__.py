"""Test Durable Task workflows in virtual time, and learn what a change does to the ones in flight.

::

    from dt_testkit import TaskHub, drive, History, replay, assert_replays

Everything documented is here. Names are loaded when they are first used, so that the pytest plugin costs
nothing where it is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dt_testkit.errors import (
        ApplicationError,
        DurableTestError,
        HistoryFormatError,
        InstanceAlreadyExists,
        InstanceNotFound,
        InvalidTime,
        NotSimulated,
        OrchestrationBlocked,
        OrchestrationNotFinished,
        ReplayDivergence,
        StepError,
        StubExhausted,
        UnsupportedSdkError,
    )
    from dt_testkit.execution import (
        CallSubOrchestrator,
        Command,
        Complete,
        CreateTimer,
        Execution,
        FakeOrchestrationContext,
        Location,
        Operation,
        Payloads,
        ScheduleActivity,
        SendEvent,
    )
    from dt_testkit.history import History
    from dt_testkit.hub import Call, Instance, Step, Stub, TaskHub, drive
    from dt_testkit.replaying import Divergence, ReplayReport, assert_replays, replay

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "ApplicationError",
        "DurableTestError",
        "HistoryFormatError",
        "InstanceAlreadyExists",
        "InstanceNotFound",
        "InvalidTime",
        "NotSimulated",
        "OrchestrationBlocked",
        "OrchestrationNotFinished",
        "ReplayDivergence",
        "StepError",
        "StubExhausted",
        "UnsupportedSdkError",
    ),
    "execution": (
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
    ),
    "history": ("History",),
    "hub": ("Call", "Instance", "Step", "Stub", "TaskHub", "drive"),
    "replaying": ("Divergence", "ReplayReport", "assert_replays", "replay"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ApplicationError",
    "Call",
    "CallSubOrchestrator",
    "Command",
    "Complete",
    "CreateTimer",
    "Divergence",
    "DurableTestError",
    "Execution",
    "FakeOrchestrationContext",
    "History",
    "HistoryFormatError",
    "Instance",
    "InstanceAlreadyExists",
    "InstanceNotFound",
    "InvalidTime",
    "Location",
    "NotSimulated",
    "Operation",
    "OrchestrationBlocked",
    "OrchestrationNotFinished",
    "Payloads",
    "ReplayDivergence",
    "ReplayReport",
    "ScheduleActivity",
    "SendEvent",
    "Step",
    "StepError",
    "Stub",
    "StubExhausted",
    "TaskHub",
    "UnsupportedSdkError",
    "assert_replays",
    "drive",
    "replay",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'dt_testkit' has no attribute {name!r}")
    value = getattr(import_module(f"dt_testkit.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
