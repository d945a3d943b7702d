"""Accounts and transfers through a real worker and a real client."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId

from workflows.account import TRANSFERS, AccountState, TransferOrder, TransferResult, transfer

if TYPE_CHECKING:
    from durabletask.client import TaskHubGrpcClient

TIMEOUT = 20


@pytest.fixture
def pair(client: TaskHubGrpcClient) -> tuple[str, str]:
    """The names of two accounts of this test, the first with 1.00."""
    names = (f"ana-{uuid.uuid4().hex}", f"raj-{uuid.uuid4().hex}")
    for name in names:
        client.signal_entity(EntityInstanceId("account", name), "open", name)
    client.signal_entity(EntityInstanceId("account", names[0]), "deposit", 100)
    return names


def balance(client: TaskHubGrpcClient, name: str) -> int:
    found = client.get_entity(EntityInstanceId("account", name))
    assert found is not None
    return found.get_typed_state(AccountState).balance


def start(client: TaskHubGrpcClient, source: str, target: str, amount: int) -> str:
    return client.schedule_new_orchestration(transfer, input=TransferOrder(source, target, amount))


def finish(client: TaskHubGrpcClient, instance_id: str) -> TransferResult:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    return state.get_output(TransferResult)


def test_money_moves_and_is_counted(client: TaskHubGrpcClient, pair: tuple[str, str]) -> None:
    assert finish(client, start(client, *pair, 30)) == TransferResult("completed")
    assert [balance(client, name) for name in pair] == [70, 30]
    counter = client.get_entity(TRANSFERS)
    assert counter is not None
    assert counter.get_typed_state(int) >= 1


def test_what_is_not_there_is_not_moved(client: TaskHubGrpcClient, pair: tuple[str, str]) -> None:
    result = finish(client, start(client, *pair, 101))
    assert result == TransferResult("refused", f"account {pair[0]} has 1.00, and not 1.01")
    assert [balance(client, name) for name in pair] == [100, 0]


def test_many_in_both_directions_at_the_same_time_all_end(
    client: TaskHubGrpcClient, pair: tuple[str, str]
) -> None:
    there = [start(client, *pair, 10) for _ in range(5)]
    back = [start(client, *reversed(pair), 10) for _ in range(5)]
    moved = sum(finish(client, one).status == "completed" for one in there) * 10
    returned = sum(finish(client, one).status == "completed" for one in back) * 10
    assert moved == 50
    assert [balance(client, name) for name in pair] == [100 - moved + returned, moved - returned]
