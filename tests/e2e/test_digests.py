"""The order digest through the real worker and the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from workflows.demo import wait_for_custom_status
from workflows.job_monitor import Watch, job_monitor
from workflows.order_digest import DigestState, Entry, order_digest
from workflows.store import Document

if TYPE_CHECKING:
    from durabletask.client import TaskHubGrpcClient

    from workflows.services import Services

PERIOD = 0.2
TIMEOUT = 20


def start(client: TaskHubGrpcClient, state: DigestState) -> str:
    instance_id = client.schedule_new_orchestration(order_digest, input=state)
    wait_for_custom_status(client, instance_id, {"digest": 1, "entries": 0})
    return instance_id


def enter(client: TaskHubGrpcClient, instance_id: str, *orders: str) -> None:
    for order in orders:
        client.raise_orchestration_event(instance_id, "entry", data=Entry(order, 100))


def let_periods_pass(client: TaskHubGrpcClient, number: int) -> None:
    """Wait for an orchestration that takes as long; where time is virtual, it passes only so."""
    watch = Watch("never", first_pause=100.0, longest_pause=100.0, expires_after=number * PERIOD)
    instance_id = client.schedule_new_orchestration(job_monitor, input=watch)
    client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)


def close(client: TaskHubGrpcClient, instance_id: str) -> int:
    client.raise_orchestration_event(instance_id, "close")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return int(state.get_output())


def published(services: Services, instance_id: str) -> list[list[str]]:
    """The orders in each digest."""
    with services.store.session() as session:
        named = select(Document).where(Document.name.startswith(f"digest/{instance_id}/"))
        documents = sorted(session.scalars(named), key=lambda one: int(one.name.rpartition("/")[2]))
        return [[entry["order"] for entry in document.body["orders"]] for document in documents]


def test_it_is_closed_and_publishes_what_there_is(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, DigestState())
    enter(client, instance_id, "desk", "lamp")
    assert close(client, instance_id) == 1
    assert published(services, instance_id) == [["desk", "lamp"]]


def test_it_goes_on_through_full_and_empty_periods(client: TaskHubGrpcClient, services: Services) -> None:
    instance_id = start(client, DigestState(period=PERIOD))
    enter(client, instance_id, "desk")
    let_periods_pass(client, 4)
    enter(client, instance_id, "lamp")
    let_periods_pass(client, 3)
    assert close(client, instance_id) == 2
    assert published(services, instance_id) == [["desk"], ["lamp"]]


def test_entries_that_come_at_any_moment_are_all_published_once_and_in_order(
    client: TaskHubGrpcClient, services: Services
) -> None:
    instance_id = start(client, DigestState(period=PERIOD / 10))
    orders = [str(number) for number in range(60)]
    for order in orders:
        enter(client, instance_id, order)
    let_periods_pass(client, 1)
    digests = close(client, instance_id)
    found = published(services, instance_id)
    assert len(found) == digests
    assert [order for digest in found for order in digest] == orders


def test_entries_that_come_while_it_is_suspended_are_kept(
    client: TaskHubGrpcClient, services: Services
) -> None:
    instance_id = start(client, DigestState())
    enter(client, instance_id, "desk")
    client.suspend_orchestration(instance_id)
    enter(client, instance_id, "lamp")
    client.resume_orchestration(instance_id)
    assert close(client, instance_id) == 1
    assert published(services, instance_id) == [["desk", "lamp"]]
