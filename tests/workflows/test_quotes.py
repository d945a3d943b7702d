"""A buyer and its suppliers, which know each other by events only."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, delivered_twice
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import OrchestrationNotFinished, TaskHub, drive
from workflows import register
from workflows.quotes import (
    QUOTE_EVENT,
    REQUEST_EVENT,
    VERDICT_EVENT,
    Quote,
    QuoteRequest,
    Supplier,
    SupplierTask,
    Tender,
    TenderResult,
    Verdict,
    buyer,
    prepare_delivery,
    publish_award,
    supplier_offer,
)

if TYPE_CHECKING:
    from dt_testkit import Instance
    from workflows.store import Store

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANA, RAJ, KIM = Supplier("ana", 3_00), Supplier("raj", 2_00), Supplier("kim", 4_00)


def tender(*suppliers: Supplier, hours: float = 24) -> Tender:
    return Tender("desk", 10, list(suppliers), deadline=hours * 3600)


def result_of(instance: Instance) -> TenderResult:
    return instance.get_output(TenderResult)


def suppliers_of(hub: TaskHub) -> dict[str, Instance]:
    """The suppliers, by their names."""
    found = [instance for instance in hub.instances if instance.name == "supplier_offer"]
    return {instance.input.supplier.name: instance for instance in found}


def ends(hub: TaskHub) -> dict[str, Any]:
    """How each supplier ended."""
    assert all(instance.status is OrchestrationStatus.COMPLETED for instance in suppliers_of(hub).values())
    return {name: instance.output for name, instance in suppliers_of(hub).items()}


class TestBestQuote:
    def test_the_lowest_price_wins_and_everybody_is_told(self, task_hub: TaskHub) -> None:
        done = task_hub.run(buyer, input=tender(ANA, RAJ, KIM))
        quotes = [Quote("raj", 20_00), Quote("ana", 30_00), Quote("kim", 40_00)]
        assert result_of(done) == TenderResult("raj", quotes)
        task_hub.settle()
        assert ends(task_hub) == {"ana": "refused", "raj": "awarded", "kim": "refused"}

    def test_nobody_waits_for_the_deadline_when_all_have_answered(self, task_hub: TaskHub) -> None:
        started = task_hub.now
        task_hub.run(buyer, input=tender(ANA, RAJ))
        task_hub.settle()
        assert task_hub.now == started

    @pytest.mark.parametrize("first", ["ana", "raj", "kim"])
    def test_of_equal_quotes_the_first_in_the_alphabet_wins_whichever_came_first(
        self, task_hub: TaskHub, first: str
    ) -> None:
        equal = [Supplier(name, 5_00, 0 if name == first else 60) for name in ("raj", "kim", "ana")]
        assert result_of(task_hub.run(buyer, input=tender(*equal))).winner == "ana"

    def test_only_the_winner_prepares_a_delivery(self, task_hub: TaskHub, store: Store) -> None:
        done = task_hub.run(buyer, input=tender(ANA, RAJ))
        task_hub.settle()
        assert contents(store)["outbox"] == [("raj", "Please deliver 10 of desk.")]
        ((name, body),) = contents(store)["documents"]
        assert name == f"tender/{done.instance_id}"
        assert body["winner"] == "raj"

    @pytest.mark.parametrize("suppliers", [[], [ANA, RAJ, Supplier("ana", 1)]])
    def test_without_suppliers_or_with_one_twice_it_fails_at_once(
        self, task_hub: TaskHub, suppliers: list[Supplier]
    ) -> None:
        done = task_hub.run(buyer, input=tender(*suppliers))
        assert done.failure is not None
        names = [supplier.name for supplier in suppliers]
        assert done.failure.message == f"a tender needs suppliers, each with a name of its own, not {names}"
        assert suppliers_of(task_hub) == {}


class TestDeadline:
    def test_those_who_never_answer_do_not_keep_the_others_waiting_for_ever(self, task_hub: TaskHub) -> None:
        started = task_hub.now
        done = task_hub.run(buyer, input=tender(ANA, Supplier("raj", None)))
        assert result_of(done) == TenderResult("ana", [Quote("ana", 30_00)])
        assert task_hub.now == started + DAY
        task_hub.settle()
        assert ends(task_hub) == {"ana": "awarded", "raj": "not interested"}

    def test_a_quote_that_comes_late_is_refused(self, task_hub: TaskHub) -> None:
        late = Supplier("raj", 1, thinks_for=25 * 3600)
        done = task_hub.run(buyer, input=tender(ANA, late))
        assert result_of(done).winner == "ana"
        task_hub.advance(DAY)
        assert ends(task_hub) == {"ana": "awarded", "raj": "refused"}

    def test_nobody_wins_when_nobody_answers(self, task_hub: TaskHub, store: Store) -> None:
        done = task_hub.run(buyer, input=tender(Supplier("ana", None), Supplier("raj", 1, 3600 * 30)))
        assert result_of(done) == TenderResult(None)
        task_hub.advance(DAY)
        assert ends(task_hub) == {"ana": "not interested", "raj": "refused"}
        assert "outbox" not in contents(store)

    @pytest.mark.parametrize("other", [RAJ, Supplier("raj", None)])
    def test_once_it_is_decided_nobody_waits_for_quotes_or_limits(
        self, task_hub: TaskHub, other: Supplier
    ) -> None:
        for activity in (publish_award, prepare_delivery):
            task_hub.stub(activity, duration=HOUR)
        running = task_hub.start(buyer, input=tender(ANA, other))
        task_hub.advance(DAY if other.unit_price is None else timedelta(0))
        winner = suppliers_of(task_hub)["ana" if other.unit_price is None else "raj"]
        assert {op.kind for op in running.waiting_for} <= {"activity", "sub_orchestration"}
        assert [op.name for op in winner.waiting_for] == ["prepare_delivery"]
        assert "publish_award" in [op.name for op in running.waiting_for]

    def test_the_custom_status_counts_the_quotes(self, task_hub: TaskHub) -> None:
        running = task_hub.start(buyer, input=tender(ANA, RAJ, Supplier("kim", 1, 3600)))
        task_hub.settle()
        assert running.custom_status == {"quotes": 2, "asked": 3}


class TestEvents:
    """Anybody can send an event; what a buyer or a supplier does not expect changes nothing."""

    @pytest.mark.parametrize(
        "payload",
        [
            {"supplier": "nobody", "price": 1},
            {"colour": "red"},
            "cheap",
            None,
            [1],
            {"supplier": "ana", "price": "0"},
            {"supplier": "ana", "price": None},
            {"supplier": "ana", "price": True},
            {"supplier": "ana", "price": 1.5},
            {"supplier": "ana", "price": 0},
            {"supplier": "ana", "price": -5},
            {"supplier": ["ana"], "price": 3},
        ],
    )
    def test_what_is_no_quote_of_somebody_who_was_asked_is_left_out(
        self, task_hub: TaskHub, payload: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        running = task_hub.start(buyer, input=tender(Supplier("ana", 3_00, 3600)))
        task_hub.settle()
        running.raise_event(QUOTE_EVENT, payload)
        task_hub.settle()
        message = f"tender {running.instance_id}: an event 'quote' is left out, as its data is unusable"
        assert caplog.messages == [message]
        assert result_of(running.wait()) == TenderResult("ana", [Quote("ana", 30_00)])

    def test_of_two_quotes_of_a_supplier_the_first_counts(self, task_hub: TaskHub) -> None:
        running = task_hub.start(buyer, input=tender(ANA, Supplier("raj", 1, 3600)))
        task_hub.settle()
        running.raise_event(QUOTE_EVENT, Quote("ana", 1))
        assert Quote("ana", 30_00) in result_of(running.wait()).quotes

    def test_a_supplier_that_is_never_asked_gives_up(self) -> None:
        step = drive(supplier_offer, SupplierTask(ANA, patience=3600))
        assert step.custom_status == "waiting to be asked"
        step.advance(HOUR)
        assert step.output == "never asked"

    def test_a_supplier_that_is_never_told_gives_up(self) -> None:
        step = drive(supplier_offer, SupplierTask(ANA, patience=3600))
        step.raise_event(REQUEST_EVENT, QuoteRequest("buyer-1", "desk", 10))
        step.advance(timedelta(0))
        assert step.custom_status == "waiting for the verdict"
        step.advance(HOUR)
        assert step.output == "never told"

    def test_a_verdict_that_comes_while_a_supplier_thinks_is_found(self) -> None:
        step = drive(supplier_offer, SupplierTask(Supplier("ana", 1, thinks_for=60), patience=3600))
        step.raise_event(REQUEST_EVENT, QuoteRequest("buyer-1", "desk", 10))
        step.raise_event(VERDICT_EVENT, Verdict("raj"))
        step.advance(timedelta(seconds=60))
        assert step.output == "refused"

    @pytest.mark.parametrize(
        "payload",
        [
            "what?",
            None,
            {"colour": "red"},
            {"buyer": 1, "item": "desk", "quantity": 10},
            {"buyer": "buyer-1", "item": ["desk"], "quantity": 10},
            {"buyer": "buyer-1", "item": "desk", "quantity": "10"},
            {"buyer": "buyer-1", "item": "desk", "quantity": 0},
            {"buyer": " ", "item": "desk", "quantity": 10},
            {"buyer": "@account@ana", "item": "desk", "quantity": 10},
        ],
    )
    def test_what_is_no_request_is_left_out_and_the_limit_stays(self, payload: Any) -> None:
        step = drive(supplier_offer, SupplierTask(ANA, patience=3600))
        step.advance(HOUR / 2)
        step.raise_event(REQUEST_EVENT, payload)
        assert step.custom_status == "waiting to be asked"
        step.advance(HOUR / 2)
        assert step.output == "never asked"

    @pytest.mark.parametrize("payload", ["raj", None, {"colour": "red"}, {"winner": 5}, {"winner": ["ana"]}])
    def test_what_is_no_verdict_is_left_out_and_the_one_behind_it_counts(self, payload: Any) -> None:
        step = drive(supplier_offer, SupplierTask(ANA, patience=3600))
        step.raise_event(REQUEST_EVENT, "what?")
        step.raise_event(REQUEST_EVENT, QuoteRequest("buyer-1", "desk", 10))
        step.advance(timedelta(0))
        step.raise_event(VERDICT_EVENT, payload)
        assert step.custom_status == "waiting for the verdict"
        step.raise_event(VERDICT_EVENT, Verdict("raj"))
        assert step.output == "refused"


class TestInterruptions:
    @pytest.mark.parametrize("recursive", [True, False])
    def test_suppliers_of_a_buyer_that_is_terminated_end(self, task_hub: TaskHub, recursive: bool) -> None:
        running = task_hub.start(buyer, input=tender(ANA, Supplier("raj", 1, 3600)))
        task_hub.settle()
        task_hub.client.terminate_orchestration(running.instance_id, recursive=recursive)
        task_hub.advance(3 * DAY)
        assert running.status is OrchestrationStatus.TERMINATED
        assert all(instance.is_terminal for instance in task_hub.instances)
        if not recursive:
            assert ends(task_hub) == {"ana": "never told", "raj": "never told"}

    def test_a_supplier_that_is_terminated_is_one_that_does_not_answer(self, task_hub: TaskHub) -> None:
        running = task_hub.start(buyer, input=tender(ANA, Supplier("raj", 1, 3600)))
        task_hub.settle()
        suppliers_of(task_hub)["raj"].terminate()
        assert result_of(running.wait()).winner == "ana"
        task_hub.settle()
        assert suppliers_of(task_hub)["ana"].output == "awarded"

    def test_a_winner_that_fails_leaves_the_result_as_it_is(self, task_hub: TaskHub) -> None:
        delivery = task_hub.stub(prepare_delivery, side_effect=RuntimeError("no"))
        done = task_hub.run(buyer, input=tender(ANA, RAJ))
        task_hub.advance(HOUR)
        assert [call.attempt for call in delivery.calls] == [1, 2, 3, 4, 5]
        assert result_of(done).winner == "raj"
        assert suppliers_of(task_hub)["raj"].status is OrchestrationStatus.FAILED
        assert suppliers_of(task_hub)["ana"].output == "refused"

    def test_a_buyer_that_is_suspended_takes_what_came_before_the_deadline(self, task_hub: TaskHub) -> None:
        running = task_hub.start(
            buyer, input=tender(Supplier("ana", 3_00, 3600), Supplier("raj", 1, 30 * 3600))
        )
        task_hub.settle()
        running.suspend()
        task_hub.advance(28 * HOUR)
        assert running.status is OrchestrationStatus.SUSPENDED
        running.resume()
        assert result_of(running.wait()) == TenderResult("ana", [Quote("ana", 30_00)])
        task_hub.advance(DAY)
        assert ends(task_hub) == {"ana": "awarded", "raj": "refused"}

    @pytest.mark.parametrize("hour", range(0, 50, 3))
    def test_a_worker_may_die_at_any_hour(self, task_hub: TaskHub, store: Store, hour: int) -> None:
        thinking = [
            Supplier("ana", 3_00, 7 * 3600),
            Supplier("raj", 2_00, 20 * 3600),
            Supplier("kim", 1, 1e5),
        ]
        running = task_hub.start(buyer, input=tender(*thinking))
        task_hub.stub(prepare_delivery, wraps=prepare_delivery, duration=4 * HOUR)
        task_hub.advance(hour * HOUR)
        task_hub.crash_worker()
        task_hub.advance((100 - hour) * HOUR)
        assert result_of(running).winner == "raj"
        assert ends(task_hub) == {"ana": "refused", "raj": "awarded", "kim": "refused"}
        assert len(contents(store)["outbox"]) == 1

    def test_a_worker_may_die_after_every_turn(self, task_hub: TaskHub) -> None:
        running = task_hub.start(buyer, input=tender(ANA, RAJ, KIM))
        crashes = 0
        while True:
            try:
                task_hub.settle(max_turns=1)
                break
            except OrchestrationNotFinished:
                task_hub.crash_worker()
                crashes += 1
        assert crashes > 5
        assert result_of(running).winner == "raj"
        assert ends(task_hub) == {"ana": "refused", "raj": "awarded", "kim": "refused"}

    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        task_hub.run(buyer, input=tender(ANA, RAJ), instance_id="once")
        task_hub.settle()
        once = contents(store)
        delivered_twice(task_hub)
        task_hub.run(buyer, input=tender(ANA, RAJ), instance_id="twice")
        task_hub.settle()
        assert contents(store)["outbox"] == once["outbox"] * 2  # two tenders, one message each
        assert [name for name, _ in contents(store)["documents"]] == ["tender/once", "tender/twice"]


class TestLaws:
    @settings(max_examples=30, deadline=None)
    @given(
        prices=st.lists(st.none() | st.integers(1, 3), min_size=1, max_size=5),
        hours=st.lists(st.integers(0, 49).filter(lambda hour: hour != 24), min_size=5, max_size=5),
        crash=st.integers(0, 60),
        seed=st.integers(0, 999),
    )
    def test_the_best_of_those_in_time_wins_and_everybody_ends(
        self, prices: list[int | None], hours: list[int], crash: int, seed: int
    ) -> None:
        hub = TaskHub(seed=seed, shuffle=True, check_replay="turn")
        register(hub)
        hub.stub(publish_award)
        told = hub.stub(prepare_delivery)
        suppliers = [
            Supplier(name, price, hour * 3600.0)
            for name, price, hour in zip("edcba", prices, hours, strict=False)
        ]
        running = hub.start(buyer, input=tender(*suppliers))
        hub.advance(crash * HOUR)
        hub.crash_worker()
        hub.advance(100 * HOUR)
        offers = [
            (s.unit_price, s.name) for s in suppliers if s.unit_price is not None and s.thinks_for < 86_400
        ]
        winner = min(offers)[1] if offers else None
        assert result_of(running).winner == winner
        assert [quote.supplier for quote in result_of(running).quotes] == [name for _, name in sorted(offers)]
        assert [call.input.supplier for call in told.calls] == ([winner] if winner else [])
        expected = {s.name: "refused" if s.unit_price else "not interested" for s in suppliers}
        assert ends(hub) == expected | ({winner: "awarded"} if winner else {})
