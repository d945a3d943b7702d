"""Commands: what an orchestrator asks for. The SDK's wire calls them actions.

A command that is carried out is confirmed by an event of the same id in the history; on replay the two are
held against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from dt_testkit.locations import CallSite as CallSite  # noqa: TC001
from dt_testkit.locations import Location as Location  # noqa: TC001
from dt_testkit.locations import call_site as call_site

if TYPE_CHECKING:
    from datetime import datetime

    from durabletask.client import OrchestrationStatus
    from durabletask.history import EventRaisedEvent
    from durabletask.task import FailureDetails


def moment(value: datetime | None) -> str:
    """A moment for people: to the second, or to the microsecond where it has any."""
    return value.isoformat(" ") if value is not None else "never"


@dataclass(slots=True)
class ScheduleActivity:
    """``ctx.call_activity(...)``, or a retry of it: a retried activity keeps its first id."""

    id: int
    name: str
    input: str | None
    tags: dict[str, str] | None = None
    attempt: int = 1
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "activity"


@dataclass(slots=True)
class CreateTimer:
    """``ctx.create_timer(...)``, or the wait before a retry. ``fire_at`` is naive UTC."""

    id: int
    fire_at: datetime
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "timer"
    name = None


@dataclass(slots=True)
class CallSubOrchestrator:
    """``ctx.call_sub_orchestrator(...)``, or a retry of it."""

    id: int
    name: str
    instance_id: str
    input: str | None
    version: str | None = None
    attempt: int = 1
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "sub_orchestration"


@dataclass(slots=True)
class SendEvent:
    """``ctx.send_event(...)`` to another instance."""

    id: int
    instance_id: str
    name: str
    data: str | None
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "send_event"


@dataclass(slots=True)
class CallEntity:
    """``ctx.call_entity(...)``. ``entity_id`` is ``@name@key``, ``name`` the operation."""

    id: int
    entity_id: str
    name: str
    input: str | None
    request_id: str
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "entity"
    attempt = 1


@dataclass(slots=True)
class SignalEntity:
    """``ctx.signal_entity(...)``. ``scheduled_time`` is naive UTC."""

    id: int
    entity_id: str
    name: str
    input: str | None
    request_id: str
    scheduled_time: datetime | None = None
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "signal_entity"


@dataclass(slots=True)
class LockEntities:
    """``ctx.lock_entities(...)``: the entities in the order in which they are locked, each of them once."""

    id: int
    critical_section_id: str
    lock_set: list[str]
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "lock"
    attempt = 1

    @property
    def name(self) -> str:
        return ", ".join(self.lock_set)


@dataclass(slots=True)
class UnlockEntity:
    """One entity let go at the end of a critical section."""

    id: int
    critical_section_id: str
    entity_id: str
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "unlock"

    @property
    def name(self) -> str:
        return self.entity_id


@dataclass(slots=True)
class Complete:
    """The end of an orchestration, or of a generation of it (``CONTINUED_AS_NEW``).

    ``result`` is the serialized output, or the serialized new input when continuing as new.
    """

    id: int
    status: OrchestrationStatus
    result: str | None = None
    failure: FailureDetails | None = None
    carryover: list[EventRaisedEvent] = field(default_factory=list)
    new_version: str | None = None
    site: CallSite | None = field(default=None, repr=False, compare=False)

    kind = "complete"
    name = None


Command: TypeAlias = (
    ScheduleActivity
    | CreateTimer
    | CallSubOrchestrator
    | SendEvent
    | CallEntity
    | SignalEntity
    | LockEntities
    | UnlockEntity
    | Complete
)


@dataclass(frozen=True)
class Operation:
    """Something that an orchestration waits for.

    Attributes
    ----------
    kind : str
        ``"activity"``, ``"timer"``, ``"event"``, ``"sub_orchestration"``, ``"entity"`` (an entity call) or
        ``"lock"``.
    name : str | None
        Name of the activity, the event, the orchestrator or the entity's operation. For a timer None, or,
        where it is the wait before a retry, the name of what will be retried. For a lock the entities, in the
        order in which they are locked.
    id : int | None
        Id of the command; None for events, which take none.
    input : Any
        The input, decoded with the annotation of the function where it is known, else plain JSON.
    due : datetime | None
        When a timer fires, naive UTC.
    instance_id : str | None
        The instance of a sub-orchestration, or the entity that is called, as ``@name@key``.
    attempt : int
        1, or more where the operation is retried.
    location : Location | None
        Where the orchestrator asked for it.
    """

    kind: str
    name: str | None
    id: int | None
    input: Any = None
    due: datetime | None = None
    instance_id: str | None = None
    attempt: int = 1
    location: Location | None = None

    def __str__(self) -> str:
        what = {"sub_orchestration": "sub-orchestration", "entity": "entity operation"}
        parts = [what.get(self.kind, self.kind)]
        if self.kind == "timer":
            if self.name is not None:
                parts.append(f"before the next attempt of {self.name!r}")
            parts.append(f"due {moment(self.due)}")
        elif self.kind == "lock":
            parts.append(f"of {self.name}")
        elif self.name is not None:
            parts.append(repr(self.name))
        if self.kind == "entity":
            parts.append(f"on {self.instance_id}")
        if self.id is not None:
            parts.append(f"(#{self.id})")
        if self.attempt > 1:
            parts.append(f"attempt {self.attempt}")
        if self.location is not None:
            parts.append(f"asked for at {self.location}")
        return " ".join(parts)
