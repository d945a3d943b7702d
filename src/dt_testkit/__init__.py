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
        InvalidState,
        InvalidTime,
        NonDeterminismWarning,
        NonDeterministicCall,
        OrchestrationBlocked,
        OrchestrationNotFinished,
        ReplayDivergence,
        StepError,
        StubExhausted,
        UnsupportedSdkError,
        VersionRejected,
    )
    from dt_testkit.execution import (
        CallEntity,
        CallSubOrchestrator,
        Command,
        Complete,
        CreateTimer,
        Execution,
        FakeOrchestrationContext,
        Location,
        LockEntities,
        Operation,
        Payloads,
        ScheduleActivity,
        SendEvent,
        SignalEntity,
        UnlockEntity,
        WorkerOptions,
    )
    from dt_testkit.guard import allow_nondeterminism
    from dt_testkit.history import History
    from dt_testkit.hub import Call, Entity, Instance, Step, Stub, TaskHub, drive
    from dt_testkit.hub.serving import HubServer
    from dt_testkit.replaying import Divergence, ReplayReport, assert_replays, replay

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "ApplicationError",
        "DurableTestError",
        "HistoryFormatError",
        "InstanceAlreadyExists",
        "InstanceNotFound",
        "InvalidState",
        "InvalidTime",
        "NonDeterminismWarning",
        "NonDeterministicCall",
        "OrchestrationBlocked",
        "OrchestrationNotFinished",
        "ReplayDivergence",
        "StepError",
        "StubExhausted",
        "UnsupportedSdkError",
        "VersionRejected",
    ),
    "execution": (
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
    ),
    "guard": ("allow_nondeterminism",),
    "history": ("History",),
    "hub": ("Call", "Entity", "Instance", "Step", "Stub", "TaskHub", "drive"),
    "hub.serving": ("HubServer",),
    "replaying": ("Divergence", "ReplayReport", "assert_replays", "replay"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ApplicationError",
    "Call",
    "CallEntity",
    "CallSubOrchestrator",
    "Command",
    "Complete",
    "CreateTimer",
    "Divergence",
    "DurableTestError",
    "Entity",
    "Execution",
    "FakeOrchestrationContext",
    "History",
    "HistoryFormatError",
    "HubServer",
    "Instance",
    "InstanceAlreadyExists",
    "InstanceNotFound",
    "InvalidState",
    "InvalidTime",
    "Location",
    "LockEntities",
    "NonDeterminismWarning",
    "NonDeterministicCall",
    "Operation",
    "OrchestrationBlocked",
    "OrchestrationNotFinished",
    "Payloads",
    "ReplayDivergence",
    "ReplayReport",
    "ScheduleActivity",
    "SendEvent",
    "SignalEntity",
    "Step",
    "StepError",
    "Stub",
    "StubExhausted",
    "TaskHub",
    "UnlockEntity",
    "UnsupportedSdkError",
    "VersionRejected",
    "WorkerOptions",
    "allow_nondeterminism",
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
