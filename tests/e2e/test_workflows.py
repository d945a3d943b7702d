"""Every workflow, through the real worker and the real client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from durabletask import history
from durabletask.client import OrchestrationStatus

from workflows.batch_import import FailedBatch, ImportRequest, ImportSummary, batch_import
from workflows.demo import wait_for_custom_status
from workflows.order import Order, OrderResult, order_workflow
from workflows.purchase_approval import Approval, Decision, Purchase, purchase_approval

if TYPE_CHECKING:
    from durabletask.client import OrchestrationState, TaskHubGrpcClient

SOON = 0.05
TIMEOUT = 20


def finish(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state


def run(client: TaskHubGrpcClient, orchestrator: Any, input: Any) -> OrchestrationState:
    return finish(client, client.schedule_new_orchestration(orchestrator, input=input))


def activities(client: TaskHubGrpcClient, instance_id: str) -> list[str]:
    """The names of all activities that were scheduled, in order."""
    events = client.get_orchestration_history(instance_id)
    return [event.name for event in events if isinstance(event, history.TaskScheduledEvent)]


class TestOrder:
    def test_an_order_goes_through_all_steps_in_order(self, client: TaskHubGrpcClient) -> None:
        state = run(client, order_workflow, Order("desk", 2, 150_00))
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        result = state.get_output(OrderResult)
        assert result == OrderResult("completed", tracking_number=result.tracking_number)
        assert result.tracking_number.startswith(f"TRACK-{state.instance_id}-")
        assert state.get_custom_status() == "completed"
        assert activities(client, state.instance_id) == ["reserve", "charge", "ship", "confirm"]

    def test_the_whole_amount_is_charged(self, client: TaskHubGrpcClient) -> None:
        state = run(client, order_workflow, Order("desk", 3, 150_00))
        events = client.get_orchestration_history(state.instance_id)
        charged = [e for e in events if isinstance(e, history.TaskScheduledEvent) and e.name == "charge"]
        assert json.loads(charged[0].input)["amount"] == 450_00

    def test_a_gateway_that_is_briefly_away_is_asked_again(self, client: TaskHubGrpcClient) -> None:
        state = run(client, order_workflow, Order("lamp", 1, 40_00, card="flaky"))
        assert state.get_output(OrderResult).status == "completed"
        steps = ["reserve", "charge", "charge", "charge", "ship", "confirm"]
        assert activities(client, state.instance_id) == steps

    def test_a_declined_card_cancels_the_order_after_three_attempts(self, client: TaskHubGrpcClient) -> None:
        instance_id = client.schedule_new_orchestration(
            order_workflow, input=Order("desk", 1, 150_00, card="declined")
        )
        wait_for_custom_status(client, instance_id, "charging")
        state = finish(client, instance_id)
        assert state.get_output(OrderResult) == OrderResult(
            "cancelled", reason="the card was declined", compensated=["release"]
        )
        assert state.get_custom_status() == "cancelled"
        asked_for = ["reserve", "charge", "charge", "charge", "refund", "release"]
        assert activities(client, instance_id) == asked_for

    @pytest.mark.parametrize(
        ("order", "reason", "compensated"),
        [
            (Order("out-of-stock", 3, 10_00), "3 of out-of-stock are not in stock", []),
            (
                Order("shelf", 1, 80_00, address="undeliverable"),
                "no carrier delivers to this address",
                ["refund", "release"],
            ),
            (
                Order("chair", 4, 60_00, email="bounces"),
                "the customer cannot be reached",
                ["cancel_shipment", "refund", "release"],
            ),
        ],
        ids=["reserve", "ship", "confirm"],
    )
    def test_when_a_step_fails_the_earlier_ones_are_undone_the_latest_first(
        self, client: TaskHubGrpcClient, order: Order, reason: str, compensated: list[str]
    ) -> None:
        state = run(client, order_workflow, order)
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert state.get_output(OrderResult) == OrderResult(
            "cancelled", reason=reason, compensated=compensated
        )
        steps = ["reserve", "charge", "ship", "confirm"][: len(compensated) + 1]
        undo = ["apologize", "cancel_shipment", "refund", "release"]
        asked_for = [*steps, *steps[-1:] * 2, *undo[-len(steps) :]]  # the failed step three times
        assert activities(client, state.instance_id) == asked_for

    def test_what_cannot_be_undone_is_left_to_a_person_and_the_rest_is_undone(
        self, client: TaskHubGrpcClient, request: pytest.FixtureRequest
    ) -> None:
        if request.config.getoption("dt_backend") != "timeskip":
            pytest.skip("it tries for almost two hours")
        order = Order("shelf", 1, 80_00, card="irrefundable", address="undeliverable")
        result = run(client, order_workflow, order).get_output(OrderResult)
        assert result.needs_attention == ["refund"]
        assert result.compensated == ["release"]

    def test_an_order_for_nothing_fails(self, client: TaskHubGrpcClient) -> None:
        state = run(client, order_workflow, Order("desk", 0, 150_00))
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert state.failure_details.message == "an order is for at least one piece, not for 0"
        assert activities(client, state.instance_id) == []


class TestBatchImport:
    def test_every_row_is_imported(self, client: TaskHubGrpcClient) -> None:
        rows = [f"sku-{n},{n}" for n in range(25)]
        state = run(client, batch_import, ImportRequest("spring.csv", rows))
        assert state.get_output(ImportSummary) == ImportSummary("spring.csv", imported=25)
        assert state.get_custom_status() == {"batches": 3, "finished": 3}
        assert activities(client, state.instance_id) == ["import_rows"] * 3 + ["publish_summary"]

    def test_rows_and_batches_that_fail_are_part_of_the_summary(self, client: TaskHubGrpcClient) -> None:
        rows = ["a,1", "b,two", "c,3", "unreadable", "e,5", "f,6", ",7", "h,8"]
        state = run(client, batch_import, ImportRequest("s.csv", rows, batch_size=3, parallel_batches=2))
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert state.get_output(ImportSummary) == ImportSummary(
            "s.csv",
            imported=3,
            rejected_rows=[2, 7],
            failed_batches=[FailedBatch(4, 3, "row 4 cannot be read")],
        )

    def test_no_more_batches_are_under_way_than_asked_for(self, client: TaskHubGrpcClient) -> None:
        request = ImportRequest("s.csv", ["a,1"] * 7, batch_size=1, parallel_batches=3)
        state = run(client, batch_import, request)
        under_way = most = 0
        for event in client.get_orchestration_history(state.instance_id):
            under_way += isinstance(event, history.TaskScheduledEvent)
            under_way -= isinstance(event, history.TaskCompletedEvent)
            most = max(most, under_way)
        assert most == 3

    def test_an_import_of_nothing_is_published(self, client: TaskHubGrpcClient) -> None:
        state = run(client, batch_import, ImportRequest("empty.csv", []))
        assert state.get_output(ImportSummary) == ImportSummary("empty.csv")
        assert activities(client, state.instance_id) == ["publish_summary"]

    def test_plain_json_leaves_the_sizes_to_the_workflow(self, client: TaskHubGrpcClient) -> None:
        state = run(client, batch_import, {"source": "s.csv", "rows": ["a,1"] * 11})
        assert activities(client, state.instance_id) == ["import_rows"] * 2 + ["publish_summary"]

    @pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"parallel_batches": 0}])
    def test_sizes_under_one_fail_at_once(self, client: TaskHubGrpcClient, sizes: dict[str, int]) -> None:
        state = run(client, batch_import, ImportRequest("s.csv", ["a,1"], **sizes))
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert "at least 1" in state.failure_details.message


class TestPurchaseApproval:
    def test_nobody_is_asked_up_to_the_limit(self, client: TaskHubGrpcClient) -> None:
        state = run(client, purchase_approval, Purchase("paper", 100_00, "kim"))
        assert state.get_output(Decision) == Decision("auto-approved", "paper", "kim")
        assert sorted(activities(client, state.instance_id)) == ["notify_requester", "record_decision"]

    @pytest.mark.parametrize(("approved", "status"), [(True, "approved"), (False, "rejected")])
    def test_the_approver_decides_and_the_reminder_is_cancelled(
        self, client: TaskHubGrpcClient, approved: bool, status: str
    ) -> None:
        purchase = Purchase("monitor", 100_01, "kim", approver="ana")
        instance_id = client.schedule_new_orchestration(purchase_approval, input=purchase)
        wait_for_custom_status(client, instance_id, {"waiting_for": "ana", "reminders_sent": 0})
        client.raise_orchestration_event(instance_id, "approval", data=Approval(approved, "ana", "so be it"))
        state = finish(client, instance_id)
        assert state.get_output(Decision) == Decision(status, "monitor", "kim", "ana", "so be it")
        assert state.get_custom_status() == {"decision": status}
        assert "send_reminder" not in activities(client, instance_id)

    def test_an_answer_before_the_question_counts(self, client: TaskHubGrpcClient) -> None:
        instance_id = client.schedule_new_orchestration(
            purchase_approval, input=Purchase("monitor", 400_00, "kim")
        )
        client.raise_orchestration_event(instance_id, "approval", data=Approval(True, "ana"))
        assert finish(client, instance_id).get_output(Decision).status == "approved"

    @pytest.mark.usefixtures("real_time")
    def test_the_approver_is_reminded_and_then_decides(self, client: TaskHubGrpcClient) -> None:
        purchase = Purchase("laptop", 1_800_00, "kim", approver="ana", reminders=2, remind_after=SOON)
        instance_id = client.schedule_new_orchestration(purchase_approval, input=purchase)
        wait_for_custom_status(client, instance_id, {"waiting_for": "ana", "reminders_sent": 2})
        client.raise_orchestration_event(instance_id, "approval", data=Approval(True, "ana"))
        assert finish(client, instance_id).get_output(Decision).by == "ana"
        assert activities(client, instance_id)[:3] == ["request_approval", "send_reminder", "send_reminder"]

    @pytest.mark.usefixtures("real_time")
    def test_the_manager_decides_when_the_approver_is_silent(self, client: TaskHubGrpcClient) -> None:
        purchase = Purchase(
            "server", 9_000_00, "kim", manager="raj", reminders=1, remind_after=SOON, escalate_after=SOON
        )
        instance_id = client.schedule_new_orchestration(purchase_approval, input=purchase)
        wait_for_custom_status(client, instance_id, {"waiting_for": "raj", "reminders_sent": 1})
        client.raise_orchestration_event(instance_id, "approval", data=Approval(False, "raj"))
        assert finish(client, instance_id).get_output(Decision).status == "rejected"
        assert activities(client, instance_id)[:3] == ["request_approval", "send_reminder", "escalate"]

    def test_without_any_answer_it_times_out(self, client: TaskHubGrpcClient) -> None:
        purchase = Purchase("car", 42_000_00, "kim", reminders=0, escalate_after=SOON, give_up_after=SOON)
        state = run(client, purchase_approval, purchase)
        assert state.get_output(Decision) == Decision("timed out", "car", "kim")
        assert activities(client, state.instance_id)[:2] == ["request_approval", "escalate"]
