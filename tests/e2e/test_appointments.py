"""The appointment through the real worker and the real client."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from durabletask.client import OrchestrationStatus
from sqlalchemy import select

from workflows.appointment import Appointment, AppointmentResult, NewTime, WallTime, appointment
from workflows.demo import wait_for_custom_status
from workflows.store import Message

if TYPE_CHECKING:
    from datetime import datetime

    from durabletask.client import OrchestrationState, TaskHubGrpcClient

    from workflows.services import Services

BERLIN = "Europe/Berlin"
FAR = WallTime("2090-07-01T12:00", BERLIN)
FAR_IN_UTC = "2090-07-01T10:00:00"
WAITING = {"status": "waiting", "at": FAR_IN_UTC, "next": "reminder"}
TIMEOUT = 20


def start(client: TaskHubGrpcClient, attendee: str, when: WallTime = FAR, *reminders: float) -> str:
    wanted = Appointment("dentist", attendee, when, list(reminders or (3600.0,)))
    return client.schedule_new_orchestration(appointment, input=wanted)


def finish(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state


def now(client: TaskHubGrpcClient, instance_id: str) -> datetime:
    """What the clock of the task hub shows, naive UTC: it need not be ours."""
    state = client.get_orchestration_state(instance_id)
    assert state is not None
    return state.last_updated_at


def told(services: Services, attendee: str) -> list[str]:
    with services.store.session() as session:
        messages = session.scalars(select(Message).where(Message.recipient == attendee).order_by(Message.id))
        return [message.text.removeprefix("The appointment dentist ") for message in messages]


def test_it_is_moved_close_by_reminds_and_begins(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, "moved", FAR, 0.5)
    wait_for_custom_status(client, instance_id, WAITING)
    moment = now(client, instance_id) + timedelta(seconds=3)
    client.raise_orchestration_event(instance_id, "move", data=NewTime(moment.isoformat(), "UTC"))
    result = finish(client, instance_id).get_output(AppointmentResult)
    assert result == AppointmentResult("begun", moment.isoformat(), moved=1)
    moved, reminded, begun = told(services, "moved")
    assert moved == f"is now at {moment.isoformat()} (UTC)."
    assert reminded in ("begins now.", "has begun.")  # by the clock of the worker
    assert begun == "begins now."


def test_it_is_cancelled_long_before(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, "cancelled")
    wait_for_custom_status(client, instance_id, WAITING)
    client.raise_orchestration_event(instance_id, "cancel")
    result = finish(client, instance_id).get_output(AppointmentResult)
    assert result == AppointmentResult("cancelled", FAR_IN_UTC, moved=0)
    assert told(services, "cancelled") == ["is cancelled."]


def test_it_stays_where_it_was_when_it_cannot_be_moved(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, "stays")
    wait_for_custom_status(client, instance_id, WAITING)
    client.raise_orchestration_event(instance_id, "move", data=NewTime("2090-07-01T12:00", "Mars/Olympus"))
    client.raise_orchestration_event(instance_id, "move", data=NewTime("2000-07-01T12:00"))
    client.raise_orchestration_event(instance_id, "cancel")
    assert finish(client, instance_id).get_output(AppointmentResult) is not None
    assert "stays where it was: the time zone 'Mars/Olympus' is not known" in told(services, "stays")[0]


def test_one_in_the_past_is_missed(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, "late", WallTime("2026-03-29T02:30", BERLIN))
    result = finish(client, instance_id).get_output(AppointmentResult)
    assert result == AppointmentResult("missed", "2026-03-29T01:30:00", moved=0)
    assert told(services, "late") == ["would have been in the past."]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (WallTime("2090-07-01T12:00", "Mars/Olympus"), "the time zone 'Mars/Olympus' is not known"),
        (WallTime("soon", BERLIN), "the time 'soon' is not understood"),
    ],
)
def test_one_at_no_time_fails_in_one_sentence(
    client: TaskHubGrpcClient, when: WallTime, message: str
) -> None:
    state = finish(client, start(client, "nobody", when))
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert message in state.failure_details.message
