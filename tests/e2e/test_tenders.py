"""A buyer and its suppliers through a real worker and a real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask import history
from durabletask.client import OrchestrationStatus

from workflows.demo import wait_for_custom_status
from workflows.quotes import Quote, Supplier, Tender, TenderResult, buyer

if TYPE_CHECKING:
    from durabletask.client import TaskHubGrpcClient

TIMEOUT = 20
SOON = 0.5


def start(client: TaskHubGrpcClient, *suppliers: Supplier, deadline: float = 3600.0) -> str:
    return client.schedule_new_orchestration(buyer, input=Tender("desk", 10, list(suppliers), deadline))


def result(client: TaskHubGrpcClient, instance_id: str) -> TenderResult:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    return state.get_output(TenderResult)


def ends(client: TaskHubGrpcClient, instance_id: str) -> list[str]:
    """How each supplier of a buyer ended, in the order in which they were started."""
    outputs = []
    for event in client.get_orchestration_history(instance_id):
        if isinstance(event, history.SubOrchestrationInstanceCreatedEvent):
            state = client.wait_for_orchestration_completion(event.instance_id, timeout=TIMEOUT)
            assert state is not None
            outputs.append(state.get_output(str))
    return outputs


def test_the_lowest_price_wins_and_everybody_is_told(client: TaskHubGrpcClient) -> None:
    instance_id = start(client, Supplier("ana", 3_00), Supplier("raj", 2_00), Supplier("kim", 2_00))
    assert result(client, instance_id) == TenderResult(
        "kim", [Quote("kim", 20_00), Quote("raj", 20_00), Quote("ana", 30_00)]
    )
    assert ends(client, instance_id) == ["refused", "refused", "awarded"]


def test_who_is_silent_or_late_loses_and_ends(client: TaskHubGrpcClient) -> None:
    late = Supplier("raj", 1, thinks_for=2 * SOON)
    instance_id = start(client, Supplier("ana", 3_00), late, Supplier("kim", None), deadline=SOON)
    assert result(client, instance_id) == TenderResult("ana", [Quote("ana", 30_00)])
    assert ends(client, instance_id) == ["awarded", "refused", "not interested"]


def test_suppliers_of_a_buyer_that_is_terminated_end(client: TaskHubGrpcClient) -> None:
    instance_id = start(client, Supplier("ana", 3_00), Supplier("raj", None), deadline=SOON)
    wait_for_custom_status(client, instance_id, {"quotes": 1, "asked": 2})
    client.terminate_orchestration(instance_id, recursive=False)
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert ends(client, instance_id) == ["never told", "not interested"]
