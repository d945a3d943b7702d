"""Subscriptions of several versions through a real worker and a real client.

What they are due is long ago or far away, so that no test waits.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from durabletask import history
from durabletask.client import OrchestrationStatus

from workflows.demo import wait_for_custom_status
from workflows.subscription import (
    CANCEL_EVENT,
    RELEASE,
    YEAR,
    Subscription,
    SubscriptionEnd,
    subscription,
)

if TYPE_CHECKING:
    from typing import Any

    from durabletask.client import OrchestrationState, TaskHubGrpcClient

TIMEOUT = 20
WANTED = Subscription("ana", "4242", 9_90, interval=20 * YEAR, due=datetime(2010, 1, 1))
FIRST_LAYOUT = {
    "customer": "ana",
    "card": "4242",
    "price": "9.90",
    "days": 7300,
    "due": "2010-01-01T00:00:00",
}
NEXT = {"period": 2, "due": "2029-12-27T00:00:00"}


def finish(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state


def cancel(client: TaskHubGrpcClient, instance_id: str) -> SubscriptionEnd:
    client.raise_orchestration_event(instance_id, CANCEL_EVENT)
    state = finish(client, instance_id)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    return state.get_output(SubscriptionEnd)


def version_of(client: TaskHubGrpcClient, instance_id: str) -> str | None:
    events = client.get_orchestration_history(instance_id)
    (started,) = (event for event in events if isinstance(event, history.ExecutionStartedEvent))
    return started.version


@pytest.mark.parametrize("version", [None, "1.0", RELEASE])
@pytest.mark.parametrize("wanted", [WANTED, FIRST_LAYOUT], ids=["layout-2", "layout-1"])
def test_after_a_period_an_instance_is_of_this_release(
    client: TaskHubGrpcClient, wanted: Any, version: str | None
) -> None:
    instance_id = client.schedule_new_orchestration(subscription, input=wanted, version=version)
    wait_for_custom_status(client, instance_id, NEXT)
    assert version_of(client, instance_id) == RELEASE
    assert cancel(client, instance_id) == SubscriptionEnd("cancelled", 1)


def test_periods_that_were_missed_are_charged_each_in_its_turn(client: TaskHubGrpcClient) -> None:
    wanted = Subscription("ana", "4242", 9_90, interval=20 * YEAR, due=datetime(1970, 1, 1))
    instance_id = client.schedule_new_orchestration(subscription, input=wanted, version=RELEASE)
    wait_for_custom_status(client, instance_id, {"period": 4, "due": "2029-12-17T00:00:00"})
    assert cancel(client, instance_id) == SubscriptionEnd("cancelled", 3)


def test_a_card_that_is_declined_ends_it(client: TaskHubGrpcClient) -> None:
    instance_id = client.schedule_new_orchestration(
        subscription, input=Subscription("ana", "declined", 9_90), version=RELEASE
    )
    end = finish(client, instance_id).get_output(SubscriptionEnd)
    assert end == SubscriptionEnd("lapsed", 0, "the card was declined")


def test_what_cannot_be_read_fails_and_says_why(client: TaskHubGrpcClient) -> None:
    state = finish(client, client.schedule_new_orchestration(subscription, input={"layout": 3}))
    assert state.failure_details is not None
    assert state.failure_details.message.startswith(f"release {RELEASE} reads the layouts 1 and 2")
