"""The order workflow: reserve, charge, ship, confirm, and what is undone when a step fails."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import keyless

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.order import (
    Confirmation,
    Order,
    OrderResult,
    Parcel,
    Payment,
    apologize,
    cancel_shipment,
    charge,
    confirm,
    order_workflow,
    refund,
    release,
    reserve,
    ship,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dt_testkit import Instance, Step, Stub

ORDER = Order("desk", 2, 150_00)
NO = RuntimeError("no")
UNDO = (apologize, cancel_shipment, refund, release)
"""All compensations, in the order in which they are done."""


def result_of(instance: Instance) -> OrderResult:
    return instance.get_output(OrderResult)


def waits_of(stub: Stub) -> list[timedelta]:
    """The virtual time between one call and the next."""
    times: list[datetime] = [call.time for call in stub.calls]
    return [later - earlier for earlier, later in pairwise(times)]


def ms(*milliseconds: int) -> list[timedelta]:
    return [timedelta(milliseconds=n) for n in milliseconds]


UNDO_WAITS = [min(timedelta(milliseconds=100 * 3**n), timedelta(hours=1)) for n in range(11)]
"""Between the attempts of a compensation."""


def fail_for_good(step: Step, activity: Callable[..., Any]) -> None:
    """Let all attempts of a step fail."""
    for wait in (*ms(100, 200), timedelta(0)):
        step.fail(NO, of=activity)
        step.advance(wait)


class Journal:
    """Stubs for activities that note, together, in which order they were called."""

    def __init__(self, hub: TaskHub) -> None:
        self.hub = hub
        self.calls: list[str] = []

    def watch(self, *activities: Callable[..., Any]) -> None:
        for activity in activities:
            self.hub.stub(activity, side_effect=self._noting(activity))

    def _noting(self, activity: Callable[..., Any]) -> Callable[..., Any]:
        def call(ctx: Any, value: Any) -> Any:
            self.calls.append(activity.__name__)
            return activity(ctx, value)

        return call


class TestHappyPath:
    def test_an_order_is_completed_with_its_tracking_number(self, task_hub: TaskHub) -> None:
        order = task_hub.run(order_workflow, input=ORDER, instance_id="order-1")
        result = result_of(order)
        assert result == OrderResult("completed", tracking_number=result.tracking_number)
        assert re.fullmatch("TRACK-order-1-[0-9a-f]{8}", result.tracking_number)

    def test_an_order_takes_no_time_when_nothing_fails(self, task_hub: TaskHub) -> None:
        started = task_hub.now
        task_hub.run(order_workflow, input=ORDER)
        assert task_hub.now == started

    def test_the_steps_are_taken_one_after_the_other(self, task_hub: TaskHub) -> None:
        journal = Journal(task_hub)
        journal.watch(reserve, charge, ship, confirm, *UNDO)
        task_hub.run(order_workflow, input=ORDER)
        assert journal.calls == ["reserve", "charge", "ship", "confirm"]

    def test_the_price_of_all_pieces_is_charged(self, task_hub: TaskHub) -> None:
        gateway = task_hub.stub(charge, return_value="PAY-7")
        task_hub.run(order_workflow, input=Order("desk", 3, 150_00, card="1111"))
        assert [keyless(call.input) for call in gateway.calls] == [Payment("", "1111", 450_00)]

    def test_the_pieces_go_to_the_address_of_the_order(self, task_hub: TaskHub) -> None:
        carrier = task_hub.stub(ship, return_value="T-1")
        task_hub.run(order_workflow, input=Order("desk", 2, 150_00, address="2 Hill Road"))
        assert [keyless(call.input) for call in carrier.calls] == [Parcel("", "desk", 2, "2 Hill Road")]

    def test_the_customer_is_told_the_tracking_number(self, task_hub: TaskHub) -> None:
        task_hub.stub(reserve, return_value="R-1")
        task_hub.stub(ship, return_value="T-1")
        mail = task_hub.stub(confirm)
        task_hub.run(order_workflow, input=Order("desk", 2, 150_00, email="ana"))
        assert [keyless(call.input) for call in mail.calls] == [Confirmation("", "R-1", "ana", "T-1")]


class TestStepByStep:
    def test_a_step_starts_only_when_the_one_before_it_has_ended(self) -> None:
        step = drive(order_workflow, ORDER)
        seen = []
        for result in ("R-1", "PAY-7", "T-1", None):
            (pending,) = step.pending
            seen.append(pending.name)
            step.complete(result)
        assert seen == ["reserve", "charge", "ship", "confirm"]

    def test_the_custom_status_names_the_step_under_way(self) -> None:
        step = drive(order_workflow, ORDER)
        seen = [step.custom_status]
        for result in ("R-1", "PAY-7", "T-1", None):
            step.complete(result)
            seen.append(step.custom_status)
        assert seen == ["reserving", "charging", "shipping", "confirming", "completed"]

    def test_the_custom_status_names_the_compensation_under_way(self) -> None:
        step = drive(order_workflow, ORDER)
        step.complete("R-1", of=reserve)
        step.complete("PAY-7", of=charge)
        step.complete("T-1", of=ship)
        fail_for_good(step, confirm)
        seen = [step.custom_status]
        for undo in UNDO:
            step.complete(True, of=undo)
            seen.append(step.custom_status)
        assert seen == [
            "compensating: apologize",
            "compensating: cancel_shipment",
            "compensating: refund",
            "compensating: release",
            "cancelled",
        ]

    def test_each_compensation_is_given_the_key_of_its_step(self) -> None:
        step = drive(order_workflow, ORDER)
        keys = {}
        for result in ("R-1", "PAY-7", "T-1", NO):
            (pending,) = step.pending
            keys[pending.name] = pending.input.key
            if result is NO:
                fail_for_good(step, confirm)
            else:
                step.complete(result)
        seen = []
        while step.status is OrchestrationStatus.RUNNING:
            (pending,) = step.pending
            seen.append((pending.name, pending.input))
            step.complete(True)
        assert seen == [
            ("apologize", keys["confirm"]),
            ("cancel_shipment", keys["ship"]),
            ("refund", keys["charge"]),
            ("release", keys["reserve"]),
        ]

    def test_while_a_retry_is_waited_for_nothing_is_under_way(self) -> None:
        step = drive(order_workflow, ORDER)
        step.complete("R-1", of=reserve)
        step.fail(NO, of=charge)
        assert [(op.kind, op.name, op.due) for op in step.pending] == [
            ("timer", "charge", step.now + timedelta(milliseconds=500))
        ]


class TestStepsThatFailForGood:
    @pytest.mark.parametrize(
        ("failing", "asked_for"),
        [
            (reserve, ["release"]),
            (charge, ["refund", "release"]),
            (ship, ["cancel_shipment", "refund", "release"]),
            (confirm, ["apologize", "cancel_shipment", "refund", "release"]),
        ],
        ids=["reserve", "charge", "ship", "confirm"],
    )
    def test_it_and_the_earlier_ones_are_undone_the_latest_first(
        self, task_hub: TaskHub, failing: Callable[..., Any], asked_for: list[str]
    ) -> None:
        task_hub.stub(failing, side_effect=NO)
        journal = Journal(task_hub)
        journal.watch(*UNDO)
        order = task_hub.run(order_workflow, input=ORDER)
        assert journal.calls == asked_for
        assert result_of(order) == OrderResult("cancelled", reason="no", compensated=asked_for[1:])

    def test_what_had_nothing_to_undo_is_not_listed(self, task_hub: TaskHub) -> None:
        task_hub.stub(confirm, side_effect=NO)
        for undo, undone in zip(UNDO, (True, False, True, False), strict=True):
            task_hub.stub(undo, return_value=undone)
        result = result_of(task_hub.run(order_workflow, input=ORDER))
        assert (result.compensated, result.needs_attention) == (["apologize", "refund"], [])

    @pytest.mark.parametrize(
        ("order", "reason"),
        [
            (Order("out-of-stock", 3, 10_00), "3 of out-of-stock are not in stock"),
            (Order("desk", 1, 10_00, card="declined"), "the card was declined"),
            (Order("desk", 1, 10_00, address="undeliverable"), "no carrier delivers to this address"),
            (Order("desk", 1, 10_00, email="bounces"), "the customer cannot be reached"),
        ],
        ids=["reserve", "charge", "ship", "confirm"],
    )
    def test_the_reason_is_that_of_the_step_that_failed(
        self, task_hub: TaskHub, order: Order, reason: str
    ) -> None:
        assert result_of(task_hub.run(order_workflow, input=order)).reason == reason

    def test_a_cancelled_order_is_a_completed_orchestration(self, task_hub: TaskHub) -> None:
        task_hub.stub(reserve, side_effect=NO)
        assert task_hub.run(order_workflow, input=ORDER).status is OrchestrationStatus.COMPLETED

    @pytest.mark.parametrize("price", [0, -150_00])
    def test_an_order_at_less_than_one_cent_a_piece_fails_before_any_step(
        self, task_hub: TaskHub, price: int
    ) -> None:
        stock = task_hub.stub(reserve)
        order = task_hub.run(order_workflow, input=Order("desk", 2, price))
        assert order.status is OrchestrationStatus.FAILED
        assert order.failure is not None
        assert order.failure.message == f"a piece costs at least one cent, not {price}"
        assert stock.calls == []

    @pytest.mark.parametrize("quantity", [0, -1])
    def test_an_order_for_less_than_one_piece_fails_before_any_step(
        self, task_hub: TaskHub, quantity: int
    ) -> None:
        stock = task_hub.stub(reserve)
        order = task_hub.run(order_workflow, input=Order("desk", quantity, 150_00))
        assert order.status is OrchestrationStatus.FAILED
        assert order.failure is not None
        assert order.failure.message == f"an order is for at least one piece, not for {quantity}"
        assert stock.calls == []


class TestCompensationsThatFail:
    @pytest.mark.parametrize("failing", UNDO)
    def test_the_others_are_done_all_the_same(self, task_hub: TaskHub, failing: Callable[..., Any]) -> None:
        task_hub.stub(confirm, side_effect=NO)
        for undo in UNDO:
            task_hub.stub(undo, side_effect=NO if undo is failing else [True])
        result = result_of(task_hub.run(order_workflow, input=ORDER))
        others = [undo.__name__ for undo in UNDO if undo is not failing]
        assert (result.compensated, result.needs_attention) == (others, [failing.__name__])

    def test_when_none_can_be_done_all_are_left_to_a_person(self, task_hub: TaskHub) -> None:
        for undo in UNDO:
            task_hub.stub(undo, side_effect=NO)
        result = result_of(task_hub.run(order_workflow, input=Order("desk", 1, 1, email="bounces")))
        assert (result.compensated, result.needs_attention) == ([], [undo.__name__ for undo in UNDO])

    def test_the_reason_stays_that_of_the_step(self, task_hub: TaskHub) -> None:
        order = Order("desk", 1, 1, card="irrefundable", address="undeliverable")
        result = result_of(task_hub.run(order_workflow, input=order))
        assert result == OrderResult(
            "cancelled",
            reason="no carrier delivers to this address",
            compensated=["release"],
            needs_attention=["refund"],
        )


class TestRetries:
    def test_a_gateway_that_is_back_at_the_third_attempt_costs_one_and_a_half_seconds(
        self, task_hub: TaskHub
    ) -> None:
        gateway = task_hub.stub(charge, side_effect=[NO, NO, "PAY-7"])
        order = task_hub.run(order_workflow, input=ORDER)
        assert [call.attempt for call in gateway.calls] == [1, 2, 3]
        assert waits_of(gateway) == ms(500, 1000)
        assert result_of(order).status == "completed"

    def test_a_payment_is_given_up_after_three_attempts(self, task_hub: TaskHub) -> None:
        gateway = task_hub.stub(charge, side_effect=NO)
        task_hub.run(order_workflow, input=ORDER)
        assert [call.attempt for call in gateway.calls] == [1, 2, 3]

    @pytest.mark.parametrize("activity", [reserve, ship, confirm])
    def test_a_step_other_than_the_payment_is_tried_three_times_within_a_second(
        self, task_hub: TaskHub, activity: Callable[..., Any]
    ) -> None:
        stub = task_hub.stub(activity, side_effect=NO)
        task_hub.run(order_workflow, input=ORDER)
        assert waits_of(stub) == ms(100, 200)

    @pytest.mark.parametrize("undo", UNDO)
    def test_a_compensation_is_tried_for_almost_two_hours_at_growing_intervals(
        self, task_hub: TaskHub, undo: Callable[..., Any]
    ) -> None:
        stub = task_hub.stub(undo, side_effect=NO)
        task_hub.run(order_workflow, input=Order("desk", 1, 1, email="bounces"))
        assert waits_of(stub) == UNDO_WAITS
        assert timedelta(hours=1.8) < sum(UNDO_WAITS, timedelta(0)) < timedelta(hours=2)

    def test_a_compensation_that_succeeds_at_the_last_attempt_counts_as_done(self, task_hub: TaskHub) -> None:
        task_hub.stub(release, side_effect=[NO] * 11 + [True])
        result = result_of(task_hub.run(order_workflow, input=Order("desk", 1, 1, card="declined")))
        assert (result.compensated, result.needs_attention) == (["release"], [])

    def test_the_wait_for_a_retry_counts_from_the_failure(self, task_hub: TaskHub) -> None:
        gateway = task_hub.stub(charge, side_effect=[NO, "PAY-7"], duration=timedelta(seconds=10))
        task_hub.run(order_workflow, input=ORDER)
        assert waits_of(gateway) == ms(10_500)


class TestReplay:
    @pytest.mark.parametrize(
        "order",
        [
            ORDER,
            Order("desk", 1, 1, card="declined"),
            Order("desk", 1, 1, card="irrefundable", email="bounces"),
        ],
        ids=["completed", "declined", "not-undone"],
    )
    def test_it_replays_after_every_turn(self, order: Order) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        assert hub.run(order_workflow, input=order).status is OrchestrationStatus.COMPLETED

    def test_an_order_in_flight_replays(self, task_hub: TaskHub) -> None:
        task_hub.stub(ship, return_value="T-1", duration=timedelta(days=2))
        order = task_hub.start(order_workflow, input=ORDER)
        task_hub.advance(timedelta(days=1))
        assert order.custom_status == "shipping"
        assert_replays(order.history, order_workflow)

    def test_the_path_of_an_order_that_is_undone_is_kept(self, dt_record: Any) -> None:
        step = drive(order_workflow, ORDER, instance_id="order-undone")
        step.complete("R-1", of=reserve)
        step.complete("PAY-7", of=charge)
        fail_for_good(step, ship)
        step.complete(False, of=cancel_shipment)
        for wait in (*UNDO_WAITS, timedelta(0)):
            step.fail(NO, of=refund)
            step.advance(wait)
        step.complete(True, of=release)
        assert (step.output["compensated"], step.output["needs_attention"]) == (["release"], ["refund"])
        dt_record(step.history, "order-undone")
