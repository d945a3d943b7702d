"""The daily settlement and its schedule through a real worker and a real client."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from durabletask.client import OrchestrationQuery, OrchestrationStatus
from durabletask.scheduled import ScheduledTaskClient, ScheduleNotFoundError, ScheduleStatus

from workflows.quotes import Supplier, SupplierTask, supplier_offer
from workflows.settlement import (
    FIVE_PAST_MIDNIGHT,
    Settlement,
    SettlementRequest,
    create_schedule,
    daily_settlement,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask.client import OrchestrationState, TaskHubGrpcClient
    from durabletask.scheduled import ScheduleClient

TIMEOUT = 20


def finish(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state


def let_pass(client: TaskHubGrpcClient, seconds: float) -> None:
    """Let time pass on the backend: somebody waits in vain."""
    task = SupplierTask(Supplier("ana", 1), patience=seconds)
    finish(client, client.schedule_new_orchestration(supplier_offer, input=task))


@pytest.fixture
def schedule(client: TaskHubGrpcClient) -> Iterator[ScheduleClient]:
    """A schedule that settles every second."""
    schedule = create_schedule(
        ScheduledTaskClient(client), f"settlement-{uuid.uuid4().hex}", interval=timedelta(seconds=1)
    )
    yield schedule
    schedule.delete()


def runs(client: TaskHubGrpcClient, schedule: ScheduleClient) -> list[str]:
    query = OrchestrationQuery(instance_id_prefix=f"{schedule.schedule_id}-")
    return [state.instance_id for state in client.get_all_orchestration_states(query)]


def test_a_day_is_settled_by_hand(client: TaskHubGrpcClient) -> None:
    request = SettlementRequest("2001-02-03")
    state = finish(client, client.schedule_new_orchestration(daily_settlement, input=request))
    assert state.get_output(Settlement) == Settlement("2001-02-03", 0)


def test_a_day_that_is_not_over_is_refused(client: TaskHubGrpcClient) -> None:
    request = SettlementRequest("2999-01-01")
    state = finish(client, client.schedule_new_orchestration(daily_settlement, input=request))
    assert state.runtime_status is OrchestrationStatus.FAILED


def test_a_schedule_runs_until_it_is_paused(client: TaskHubGrpcClient, schedule: ScheduleClient) -> None:
    let_pass(client, 1.5)
    schedule.pause()
    started = runs(client, schedule)
    assert started
    for instance_id in started:
        when = datetime.fromisoformat(instance_id.removeprefix(f"{schedule.schedule_id}-"))
        day = (when - timedelta(days=1)).date().isoformat()
        assert finish(client, instance_id).get_output(Settlement).day == day
    let_pass(client, 1.5)
    assert runs(client, schedule) == started
    assert schedule.describe().status is ScheduleStatus.PAUSED


def test_a_schedule_that_is_deleted_is_gone(client: TaskHubGrpcClient) -> None:
    schedule = create_schedule(ScheduledTaskClient(client), f"settlement-{uuid.uuid4().hex}")
    described = schedule.describe()
    assert (described.start_at, described.interval) == (FIVE_PAST_MIDNIGHT, timedelta(days=1))
    schedule.delete()
    with pytest.raises(ScheduleNotFoundError):
        schedule.describe()
