"""What orders, imports and purchases leave in the store and at the gateway, however they are delivered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import effects
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.task import ActivityContext
from effects import (
    MINUTE,
    Deliveries,
    contents,
    delivered_twice,
    keys,
    run_with_a_crash_after_every_turn,
    run_with_dying_workers,
)

from dt_testkit import TaskHub
from workflows.batch_import import ImportRequest, batch_import, publish_summary
from workflows.gateway import Refused
from workflows.order import (
    Order,
    OrderResult,
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
from workflows.purchase_approval import TELL_RETRY, Approval, Purchase, notify_requester, purchase_approval
from workflows.services import services as services_of_the_process
from workflows.store import Message, Undone

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit import Instance
    from workflows.local_gateway import LocalGateway
    from workflows.store import Store

Tables = dict[str, list[tuple[Any, ...]]]

TEN_MINUTES = 600.0


@dataclass(frozen=True)
class Path:
    """One way through a workflow, and what it leaves. A payment is called ``"PAY"``; so is its id.

    Attributes
    ----------
    answer, answer_at : Approval | None, dict[str, Any] | None
        An approval to raise, and the custom status at which to raise it.
    """

    orchestrator: Callable[..., Any]
    input: Any
    left: Tables
    answer: Approval | None = None
    answer_at: dict[str, Any] | None = None
    answered: list[str] = field(default_factory=list)

    def start(self, hub: TaskHub) -> Instance:
        self.answered.clear()
        return hub.start(self.orchestrator, input=self.input, instance_id="one")

    def meanwhile(self, instance: Instance) -> None:
        if self.answer is not None and not self.answered and instance.custom_status == self.answer_at:
            self.answered.append(instance.instance_id)
            instance.raise_event("approval", self.answer)


def order(left: Tables, **changes: Any) -> Path:
    return Path(
        order_workflow, Order(**{"item": "desk", "quantity": 2, "unit_price": 150_00, **changes}), left
    )


def purchase(left: Tables, amount: int = 9_000_00, **changes: Any) -> Path:
    patience = dict.fromkeys(("remind_after", "escalate_after", "give_up_after"), TEN_MINUTES)
    asked = Purchase("server", amount, "kim", approver="ana", manager="raj", reminders=2, **patience)
    return Path(purchase_approval, asked, left, **changes)


def decided(status: str, by: str | None = None, comment: str = "") -> Tables:
    decision = {"status": status, "item": "server", "requester": "kim", "by": by, "comment": comment}
    return {"documents": [("decision/one", decision)]}


SENT = ("TRACK-one", "desk", 2, "1 Harbour Street", "sent")
RESERVED = ("RES-one", "desk", 2)
TOLD = ("customer", "Your order is on its way: TRACK-one.")
COMPLETED: Tables = {
    "orders": [(*RESERVED, "confirmed")],
    "ledger": [("PAY", 300_00)],
    "shipments": [SENT],
    "outbox": [TOLD],
    "payments": [("4242", 300_00, False)],
}
ASKED = ("ana", "Please decide on server for 9000.00, which kim wants to buy.")
REMINDED = ("ana", "Please do not forget to decide on server for 9000.00, which kim wants to buy.")
ESCALATED = (
    "raj",
    "The approver did not answer: please decide on server for 9000.00, which kim wants to buy.",
)


PATHS = {
    "order-completed": order(COMPLETED),
    "order-flaky": order({**COMPLETED, "payments": [("flaky", 300_00, False)]}, card="flaky"),
    "order-out-of-stock": order({}, item="out-of-stock"),
    "order-declined": order({"orders": [(*RESERVED, "released")]}, card="declined"),
    "order-undeliverable": order(
        {
            "orders": [(*RESERVED, "released")],
            "ledger": [("PAY", -300_00), ("PAY", 300_00)],
            "payments": [("4242", 300_00, True)],
        },
        address="undeliverable",
    ),
    "order-unconfirmed": order(
        {
            "orders": [(*RESERVED, "released")],
            "ledger": [("PAY", -300_00), ("PAY", 300_00)],
            "shipments": [(*SENT[:-1], "called back")],
            "payments": [("4242", 300_00, True)],
        },
        email="bounces",
    ),
    "order-irrefundable": order(
        {
            "orders": [(*RESERVED, "released")],
            "ledger": [("PAY", 300_00)],
            "payments": [("irrefundable", 300_00, False)],
        },
        card="irrefundable",
        address="undeliverable",
    ),
    "order-invalid": order({}, quantity=0),
    "import-losses": Path(
        batch_import,
        ImportRequest(
            "s.csv", ["a,1", "b,two", "c,3", "unreadable", "e,5"], batch_size=2, parallel_batches=2
        ),
        {
            "stock": [("s.csv", 1, "a", 1), ("s.csv", 5, "e", 5)],
            "documents": [
                (
                    "import/s.csv",
                    {
                        "source": "s.csv",
                        "imported": 2,
                        "rejected_rows": [2],
                        "failed_batches": [{"first_row": 3, "rows": 2, "reason": "row 4 cannot be read"}],
                    },
                )
            ],
        },
    ),
    "import-nothing": Path(
        batch_import,
        ImportRequest("s.csv", []),
        {
            "documents": [
                (
                    "import/s.csv",
                    {"source": "s.csv", "imported": 0, "rejected_rows": [], "failed_batches": []},
                )
            ]
        },
    ),
    "purchase-auto-approved": purchase(
        {**decided("auto-approved"), "outbox": [("kim", "Your server: auto-approved.")]}, amount=100_00
    ),
    "purchase-approved": purchase(
        {**decided("approved", "ana"), "outbox": [ASKED, ("kim", "Your server: approved.")]},
        answer=Approval(approved=True, by="ana"),
        answer_at={"waiting_for": "ana", "reminders_sent": 0},
    ),
    "purchase-rejected-after-a-reminder": purchase(
        {
            **decided("rejected", "ana", "too loud"),
            "outbox": [ASKED, REMINDED, ("kim", "Your server: rejected.")],
        },
        answer=Approval(approved=False, by="ana", comment="too loud"),
        answer_at={"waiting_for": "ana", "reminders_sent": 1},
    ),
    "purchase-escalated": purchase(
        {
            **decided("approved", "raj"),
            "outbox": [ASKED, REMINDED, REMINDED, ("kim", "Your server: approved."), ESCALATED],
        },
        answer=Approval(approved=True, by="raj"),
        answer_at={"waiting_for": "raj", "reminders_sent": 2},
    ),
    "purchase-timed-out": purchase(
        {
            **decided("timed out"),
            "outbox": [ASKED, REMINDED, REMINDED, ("kim", "Your server: timed out."), ESCALATED],
        }
    ),
}

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def left_by(store: Store, gateway: LocalGateway) -> Tables:
    """What is in the store, and the payments at the gateway; the random parts of ids and names left out."""
    found: Tables = {
        table: [tuple(without_run(value) for value in row) for row in rows]
        for table, rows in contents(store).items()
    }
    if "ledger" in found:
        assert {reference for reference, _ in found["ledger"]} <= gateway.payments.keys()
        found["ledger"] = sorted((("PAY", amount) for _, amount in found["ledger"]), key=repr)
    if gateway.payments:
        found["payments"] = sorted((p.card, p.amount, p.refunded) for p in gateway.payments.values())
    return found


def without_run(value: Any) -> Any:
    """A name such as ``"TRACK-one-37882ebb"``, or a text with it, without the part that tells runs apart."""
    return re.sub(r"((?:RES|TRACK)-one)-[0-9a-f]{8}\b", r"\1", value) if isinstance(value, str) else value


def play(hub: TaskHub, path: Path) -> Instance:
    instance = path.start(hub)
    while not instance.is_terminal:
        hub.advance(MINUTE)
        path.meanwhile(instance)
    return instance


@every_path
class TestEveryPath:
    def test_it_leaves_what_it_should(
        self, task_hub: TaskHub, path: Path, store: Store, gateway: LocalGateway
    ) -> None:
        play(task_hub, path)
        assert left_by(store, gateway) == path.left

    def test_delivered_twice_it_leaves_the_same(
        self, task_hub: TaskHub, path: Path, store: Store, gateway: LocalGateway
    ) -> None:
        delivered_twice(task_hub)
        play(task_hub, path)
        assert left_by(store, gateway) == path.left

    def test_delivered_again_after_the_end_it_leaves_the_same(
        self, task_hub: TaskHub, path: Path, store: Store, gateway: LocalGateway
    ) -> None:
        deliveries = Deliveries(task_hub)
        play(task_hub, path)
        before = keys(store)
        assert len(deliveries.made) >= len(before)
        deliveries.repeat()
        assert left_by(store, gateway) == path.left
        assert keys(store) == before

    def test_with_a_crash_after_every_turn_it_leaves_the_same(
        self, task_hub: TaskHub, path: Path, store: Store, gateway: LocalGateway
    ) -> None:
        run_with_a_crash_after_every_turn(task_hub, lambda: path.start(task_hub), path.meanwhile)
        assert left_by(store, gateway) == path.left

    def test_with_workers_that_die_before_they_tell_it_leaves_the_same(
        self, task_hub: TaskHub, path: Path, store: Store, gateway: LocalGateway
    ) -> None:
        run_with_dying_workers(task_hub, lambda: path.start(task_hub), path.meanwhile)
        assert left_by(store, gateway) == path.left


def failing(activity: Callable[..., Any]) -> Callable[..., Any]:
    """An activity that does all it should, each time, and is reported as failed."""

    def call(ctx: Any, input: Any) -> Any:
        activity(ctx, input)
        raise ConnectionError("reset")

    return call


def failing_once(activity: Callable[..., Any], *, after: bool = False, times: int = 1) -> Callable[..., Any]:
    """An activity that fails the first time: before it has done anything, or after it has done all."""
    calls = []

    def call(ctx: Any, input: Any) -> Any:
        calls.append(input)
        if len(calls) > times:
            return activity(ctx, input)
        if after:
            activity(ctx, input)
        raise ConnectionError("reset")

    return call


RELEASED: Tables = {"orders": [(*RESERVED, "released")]}
REFUNDED: Tables = {
    **RELEASED,
    "ledger": [("PAY", -300_00), ("PAY", 300_00)],
    "payments": [("4242", 300_00, True)],
}
CALLED_BACK: Tables = {**REFUNDED, "shipments": [(*SENT[:-1], "called back")]}
TOLD_OTHERWISE: Tables = {
    **CALLED_BACK,
    "outbox": [("customer", "Your order is cancelled. We are sorry."), TOLD],
}

undone_after_each_step = pytest.mark.parametrize(
    ("step", "left", "compensated"),
    [
        (reserve, RELEASED, [release]),
        (charge, REFUNDED, [refund, release]),
        (ship, CALLED_BACK, [cancel_shipment, refund, release]),
        (confirm, TOLD_OTHERWISE, [apologize, cancel_shipment, refund, release]),
    ],
    ids=["reserve", "charge", "ship", "confirm"],
)


class TestStepsThatAreReportedAsFailed:
    """Nobody knows whether a step that is reported as failed was done. Nothing of it is left behind."""

    @undone_after_each_step
    def test_one_that_was_done_is_undone(
        self,
        task_hub: TaskHub,
        store: Store,
        gateway: LocalGateway,
        step: Callable[..., Any],
        left: Tables,
        compensated: list[Callable[..., Any]],
    ) -> None:
        task_hub.stub(step, side_effect=failing(step))
        result = play(task_hub, PATHS["order-completed"]).get_output(OrderResult)
        assert left_by(store, gateway) == left
        names = [undo.__name__ for undo in compensated]
        assert result == OrderResult("cancelled", reason="reset", compensated=names)

    @undone_after_each_step
    def test_one_that_was_done_is_undone_once_by_compensations_that_are_delivered_twice(
        self,
        task_hub: TaskHub,
        store: Store,
        gateway: LocalGateway,
        step: Callable[..., Any],
        left: Tables,
        compensated: list[Callable[..., Any]],
    ) -> None:
        task_hub.stub(step, side_effect=failing(step))
        for undo in compensated:
            task_hub.stub(undo, side_effect=failing_once(undo, after=True), duplicate=True)
        result = play(task_hub, PATHS["order-completed"]).get_output(OrderResult)
        assert left_by(store, gateway) == left
        assert result.compensated == [undo.__name__ for undo in compensated]

    @undone_after_each_step
    def test_one_that_is_delivered_when_the_order_has_been_undone_does_nothing(
        self,
        task_hub: TaskHub,
        store: Store,
        gateway: LocalGateway,
        step: Callable[..., Any],
        left: Tables,
        compensated: list[Callable[..., Any]],
    ) -> None:
        late = []

        def lost(ctx: Any, input: Any) -> None:
            late.append((ctx, input))
            raise ConnectionError("reset")

        task_hub.stub(step, side_effect=lost)
        result = play(task_hub, PATHS["order-completed"]).get_output(OrderResult)
        before = left_by(store, gateway)
        assert result.compensated == [undo.__name__ for undo in compensated[1:]]
        for ctx, input in late:
            with pytest.raises((Undone, Refused)):
                step(ctx, input)
        assert left_by(store, gateway) == before

    def test_a_payment_that_was_taken_and_cannot_be_booked_is_given_back_and_not_booked_later(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: Any) -> None:
            raise OSError("no space left")

        charges = task_hub.stub(charge, wraps=charge)
        with monkeypatch.context() as patch:
            patch.setattr(store, "book", full)
            result = play(task_hub, PATHS["order-completed"]).get_output(OrderResult)
        assert result.compensated == ["refund", "release"]
        left = {**RELEASED, "payments": [("4242", 300_00, True)]}
        assert left_by(store, gateway) == left
        with pytest.raises(Undone):
            charge(None, charges.calls[0].input)  # type: ignore[arg-type]
        assert left_by(store, gateway) == left


class TestFailures:
    def test_a_payment_that_was_taken_before_its_worker_failed_is_not_taken_again(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        task_hub.stub(charge, side_effect=failing_once(charge, after=True))
        play(task_hub, PATHS["order-completed"])
        assert left_by(store, gateway) == COMPLETED
        assert gateway.requests["POST /payments"] == 2

    def test_a_payment_that_was_taken_and_could_not_be_booked_is_booked_by_the_next_attempt(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        book, attempts = store.book, []

        def full_once(*args: Any) -> None:
            attempts.append(args)
            if len(attempts) == 1:
                raise OSError("no space left")
            book(*args)

        monkeypatch.setattr(store, "book", full_once)
        play(task_hub, PATHS["order-completed"])
        assert left_by(store, gateway) == COMPLETED

    @pytest.mark.parametrize("after", [False, True])
    def test_a_refund_that_fails_the_first_time_is_given_once(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, after: bool
    ) -> None:
        task_hub.stub(refund, side_effect=failing_once(refund, after=after))
        path = PATHS["order-undeliverable"]
        play(task_hub, path)
        assert left_by(store, gateway) == path.left

    def test_while_the_gateway_is_away_nothing_is_taken_and_the_pieces_go_back(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gateway, "answer", lambda *_: (503, {"reason": "away"}))
        instance = play(task_hub, PATHS["order-completed"])
        result = instance.get_output(OrderResult)
        assert (result.compensated, result.needs_attention) == (["release"], ["refund"])
        assert left_by(store, gateway) == {"orders": [(*RESERVED, "released")]}

    def test_an_order_that_is_terminated_half_way_keeps_what_was_done(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        task_hub.stub(ship, wraps=ship, duration=timedelta(hours=1))
        instance = PATHS["order-completed"].start(task_hub)
        task_hub.settle()
        instance.terminate()
        task_hub.advance(timedelta(days=1))
        assert instance.status is OrchestrationStatus.TERMINATED
        assert left_by(store, gateway) == {
            "orders": [(*RESERVED, "reserved")],
            "ledger": [("PAY", 300_00)],
            "shipments": [SENT],  # it was under way
            "payments": [("4242", 300_00, False)],
        }


class TestStartedAnew:
    def test_an_order_that_is_restarted_is_charged_and_shipped_again(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        instance = play(task_hub, PATHS["order-completed"])
        task_hub.advance(timedelta(hours=1))
        instance.restart().wait()
        twice = {table: rows * 2 for table, rows in COMPLETED.items()}
        assert left_by(store, gateway) == twice

    def test_a_later_order_under_the_same_id_leaves_the_first_alone(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        play(task_hub, PATHS["order-completed"])
        task_hub.client.purge_orchestration("one")
        task_hub.advance(timedelta(hours=1))
        play(task_hub, PATHS["order-unconfirmed"])
        undone = PATHS["order-unconfirmed"].left
        both = {table: sorted(rows + undone.get(table, []), key=repr) for table, rows in COMPLETED.items()}
        left = {table: sorted(rows, key=repr) for table, rows in left_by(store, gateway).items()}
        assert left == both

    def test_a_restarted_order_that_is_undone_undoes_only_its_own_effects(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        instance = play(task_hub, PATHS["order-completed"])
        task_hub.stub(confirm, side_effect=RuntimeError("no"))
        again = instance.restart()
        assert again.wait().get_output(OrderResult).status == "cancelled"
        assert sorted(p.refunded for p in gateway.payments.values()) == [False, True]
        assert sorted(amount for _, amount in contents(store)["ledger"]) == [-300_00, 300_00, 300_00]

    def test_an_import_that_is_restarted_replaces_its_rows(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        path = PATHS["import-losses"]
        play(task_hub, path).restart().wait()
        assert left_by(store, gateway) == path.left

    @pytest.mark.parametrize("after", [False, True])
    def test_an_import_that_could_not_be_published_is_published_when_it_is_restarted(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, after: bool
    ) -> None:
        attempts = TELL_RETRY.max_number_of_attempts
        publishing = failing_once(publish_summary, after=after, times=attempts)
        task_hub.stub(publish_summary, side_effect=publishing)
        path = PATHS["import-losses"]
        instance = play(task_hub, path)
        assert instance.status is OrchestrationStatus.FAILED
        assert instance.restart().wait().status is OrchestrationStatus.COMPLETED
        assert left_by(store, gateway) == path.left

    @pytest.mark.parametrize("after", [False, True])
    def test_a_requester_who_cannot_be_told_at_first_is_told_once(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, after: bool
    ) -> None:
        path = PATHS["purchase-rejected-after-a-reminder"]
        telling = failing_once(notify_requester, after=after, times=TELL_RETRY.max_number_of_attempts - 1)
        task_hub.stub(notify_requester, side_effect=telling)
        assert play(task_hub, path).status is OrchestrationStatus.COMPLETED
        assert left_by(store, gateway) == path.left

    def test_an_order_for_nothing_leaves_nothing_when_it_is_rewound(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        instance = play(task_hub, PATHS["order-invalid"])
        instance.rewind()
        assert instance.wait().status is OrchestrationStatus.FAILED
        assert (left_by(store, gateway), keys(store)) == ({}, [])


class TestTheLawItself:
    """An activity that does its work without a key: every fault doubles it, and the law notices."""

    @pytest.fixture
    def careless(self, task_hub: TaskHub, monkeypatch: pytest.MonkeyPatch) -> None:
        def tell(ctx: ActivityContext, input: Any) -> None:
            with services_of_the_process().store.session() as session:
                session.add(Message(recipient="ana", text="hello"))

        def careless_workflow(ctx: Any, _: Any) -> Any:
            yield ctx.call_activity(tell, input="hello")

        task_hub.add_orchestrator(careless_workflow)
        task_hub.add_activity(tell)
        monkeypatch.setattr(effects, "activities", lambda: iter([tell]))

    @pytest.fixture
    def start(self, task_hub: TaskHub, careless: None) -> Callable[[], Instance]:
        return lambda: task_hub.start("careless_workflow")

    def test_delivered_once_it_is_there_once(self, start: Callable[[], Instance], store: Store) -> None:
        start().wait()
        assert contents(store) == {"outbox": [("ana", "hello")]}

    def test_delivered_twice_it_is_there_twice(
        self, task_hub: TaskHub, start: Callable[[], Instance], store: Store
    ) -> None:
        delivered_twice(task_hub)
        start().wait()
        assert contents(store) == {"outbox": [("ana", "hello")] * 2}

    def test_delivered_again_after_the_end_it_is_there_twice(
        self, task_hub: TaskHub, start: Callable[[], Instance], store: Store
    ) -> None:
        deliveries = Deliveries(task_hub)
        start().wait()
        deliveries.repeat()
        assert contents(store) == {"outbox": [("ana", "hello")] * 2}

    def test_with_a_worker_that_dies_before_it_tells_it_is_there_twice(
        self, task_hub: TaskHub, start: Callable[[], Instance], store: Store
    ) -> None:
        run_with_dying_workers(task_hub, start)
        assert contents(store) == {"outbox": [("ana", "hello")] * 2}

    def test_a_store_that_forgets_its_keys_doubles_the_effects_of_an_order(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def without_a_key(key: str, do: Callable[[Any], Any]) -> Any:
            with store.session() as session:
                return do(session)

        monkeypatch.setattr(store, "once", without_a_key)
        delivered_twice(task_hub)
        play(task_hub, PATHS["order-completed"])
        left = left_by(store, gateway)
        assert left["ledger"] == [("PAY", 300_00)] * 2
        assert left["outbox"] == [TOLD] * 2

    def test_keys_of_a_workflow_are_its_own(self, task_hub: TaskHub, store: Store) -> None:
        for _ in range(2):
            task_hub.run(order_workflow, input=Order("desk", 2, 150_00))
        assert len(keys(store)) == 8
        assert all(re.fullmatch(r"[0-9a-f-]{36}/\w+", key) for key in keys(store))
