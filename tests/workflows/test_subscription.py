"""A subscription over years, and over releases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.task import when_any
from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy
from effects import Deliveries, contents, delivered_twice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dt_testkit import OrchestrationBlocked, TaskHub, replay
from workflows import register
from workflows import subscription as module
from workflows.order import Order, order_workflow
from workflows.quotes import Supplier, Tender, buyer
from workflows.store import Undone
from workflows.subscription import (
    CANCEL_EVENT,
    RELEASE,
    RETRY,
    Charged,
    PeriodCharge,
    Subscription,
    SubscriptionEnd,
    charge_period,
    subscription,
    undo_charge,
    write_to_subscriber,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from dt_testkit import Instance, Stub
    from workflows.local_gateway import LocalGateway
    from workflows.store import Store

START = datetime(2026, 1, 1)
DAY, YEAR = timedelta(days=1), timedelta(days=365)
YEARLY = Subscription("ana", "4242", 9_90)
VERSIONS = [None, "1.0", "2.0"]
FIRST_LAYOUT = {"customer": "ana", "card": "4242", "price": "9.90", "days": 365}


class FirstRelease:
    """The code of the first release, which knew no versions and wrote another layout."""

    @staticmethod
    def subscription(ctx: Any, wanted: dict[str, Any]) -> Generator[Any, Any, Any]:
        period, key = wanted.get("period", 1), wanted.get("key") or ctx.new_uuid()
        due = datetime.fromisoformat(wanted["due"]) if "due" in wanted else ctx.current_utc_datetime
        cancelled = ctx.wait_for_external_event("cancel")
        timer = ctx.create_timer(due)
        yield when_any([cancelled, timer])
        if cancelled.is_complete:
            timer.cancel()
            letter = {
                "key": f"{key}/end",
                "to": wanted["customer"],
                "text": "Your subscription is cancelled.",
            }
            yield ctx.call_activity("write_to_subscriber", input=letter)
            return {"status": "cancelled", "periods": period - 1, "reason": None}
        charge = {"key": f"{key}/charge/{period}", "card": wanted["card"], "amount": 9_90}
        yield ctx.call_activity("charge_period", input=charge, retry_policy=RETRY)
        following = {"period": period + 1, "due": (due + wanted["days"] * DAY).isoformat(), "key": key}
        ctx.continue_as_new({**wanted, **following}, save_events=True)
        return None


class Deployment:
    """A hub on which one release runs, and then another."""

    def __init__(self, release: Any) -> None:
        self.release = release
        self.hub = TaskHub(check_replay="turn")
        self.hub.add_activity(charge_period)
        self.hub.add_activity(write_to_subscriber)

        def subscription(ctx: Any, wanted: Any) -> Any:
            return (yield from self.release(ctx, wanted))

        self.hub.add_orchestrator(subscription)

    def deploy(self, release: Any) -> None:
        """Replace the worker; what is in flight is replayed by the code of the new one."""
        self.release = release
        self.hub.crash_worker()


def start(hub: TaskHub, wanted: Any = YEARLY, version: str | None = RELEASE) -> Instance:
    return hub.start(subscription, input=wanted, version=version, instance_id="subscription")


def ended(instance: Instance) -> SubscriptionEnd:
    assert instance.status is OrchestrationStatus.COMPLETED
    return instance.get_output(SubscriptionEnd)


def days(stub: Stub) -> list[float]:
    """How many days after the start of the hub each call was."""
    return [(call.time - START) / DAY for call in stub.calls]


def texts(stub: Stub) -> list[str]:
    return [call.input.text for call in stub.calls]


@pytest.fixture
def charges(task_hub: TaskHub) -> Stub:
    return task_hub.stub(charge_period, wraps=charge_period)


@pytest.fixture
def letters(task_hub: TaskHub) -> Stub:
    return task_hub.stub(write_to_subscriber, wraps=write_to_subscriber)


class TestRenewals:
    def test_each_year_is_charged_on_its_first_day_and_announced_a_week_before(
        self, task_hub: TaskHub, charges: Stub, letters: Stub
    ) -> None:
        start(task_hub)
        task_hub.advance(10 * YEAR)
        assert days(charges) == [365 * year for year in range(11)]
        assert days(letters) == [365 * year - 7 for year in range(1, 11)]
        assert texts(letters)[0] == "Your subscription renews on 2027-01-01, for 9.90."

    def test_the_key_of_a_charge_carries_the_number_of_its_period(
        self, task_hub: TaskHub, charges: Stub
    ) -> None:
        start(task_hub)
        task_hub.advance(2 * YEAR)
        first, *_ = keys = [call.input.key for call in charges.calls]
        run = first.removesuffix("/charge/1")
        assert keys == [f"{run}/charge/{period}" for period in (1, 2, 3)]

    def test_started_again_under_the_same_id_it_has_other_keys(
        self, task_hub: TaskHub, charges: Stub
    ) -> None:
        running = start(task_hub)
        task_hub.advance(DAY)
        running.raise_event(CANCEL_EVENT)
        running.wait()
        running.restart()
        task_hub.advance(DAY)
        first, second = (call.input.key for call in charges.calls)
        assert first.endswith("/charge/1")
        assert second.endswith("/charge/1")
        assert first != second

    def test_the_history_of_a_run_is_that_of_one_period(self, task_hub: TaskHub) -> None:
        running = start(task_hub)
        task_hub.advance(5 * YEAR)
        assert len({len(history) for history in running.histories[1:-1]}) == 1

    def test_the_custom_status_names_what_is_next(self, task_hub: TaskHub) -> None:
        running = start(task_hub)
        task_hub.advance(YEAR)
        assert running.custom_status == {"period": 3, "due": "2028-01-01T00:00:00"}

    def test_what_was_paid_is_in_the_ledger_and_at_the_gateway(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        start(task_hub)
        task_hub.advance(2 * YEAR)
        assert [payment.amount for payment in gateway.payments.values()] == [9_90] * 3
        assert contents(store)["ledger"] == sorted((payment, 9_90) for payment in gateway.payments)

    def test_a_period_that_is_charged_late_does_not_move_the_next(
        self, task_hub: TaskHub, charges: Stub
    ) -> None:
        running = start(task_hub)
        task_hub.advance(360 * DAY)
        running.suspend()
        task_hub.advance(20 * DAY)
        assert days(charges) == [0]
        running.resume()
        task_hub.advance(350 * DAY)
        assert days(charges) == [0, 380, 730]


class TestCancellation:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(("day", "periods"), [(0, 1), (100, 1), (360, 1), (365, 2), (800, 3)])
    def test_nothing_is_charged_after_it(
        self, task_hub: TaskHub, charges: Stub, version: str | None, day: int, periods: int
    ) -> None:
        running = start(task_hub, version=version)
        task_hub.advance(day * DAY)
        running.raise_event(CANCEL_EVENT)
        task_hub.settle()
        assert ended(running) == SubscriptionEnd("cancelled", periods)
        task_hub.advance(3 * YEAR)
        assert len(charges.calls) == periods

    @pytest.mark.parametrize("version", VERSIONS)
    def test_before_the_first_charge_there_is_none(
        self, task_hub: TaskHub, charges: Stub, version: str | None
    ) -> None:
        running = start(task_hub, version=version)
        running.raise_event(CANCEL_EVENT)
        assert ended(running.wait()) == SubscriptionEnd("cancelled", 0)
        assert charges.calls == []

    def test_the_subscriber_is_told(self, task_hub: TaskHub, letters: Stub) -> None:
        running = start(task_hub)
        running.raise_event(CANCEL_EVENT)
        running.wait()
        assert texts(letters) == ["Your subscription is cancelled."]
        assert running.custom_status == {"status": "cancelled"}

    @pytest.mark.parametrize("period", [1, 2])
    def test_the_period_that_is_being_charged_is_the_last(self, task_hub: TaskHub, period: int) -> None:
        charges = task_hub.stub(charge_period, return_value="PAY-1", duration=timedelta(hours=2))
        running = start(task_hub)
        task_hub.advance((period - 1) * YEAR + timedelta(hours=1))
        running.raise_event(CANCEL_EVENT)
        task_hub.advance(3 * YEAR)
        assert ended(running) == SubscriptionEnd("cancelled", period)
        assert len(charges.calls) == period

    def test_one_that_comes_right_behind_the_payment_is_heard_by_the_next_run(
        self, task_hub: TaskHub
    ) -> None:
        charges = task_hub.stub(charge_period, return_value="PAY-1", duration=timedelta(hours=2))
        running = start(task_hub)
        task_hub.advance(timedelta(hours=1))
        running.suspend()  # so that the payment and the cancellation come in one turn
        task_hub.advance(timedelta(hours=2))
        running.raise_event(CANCEL_EVENT)
        running.resume()
        task_hub.settle()
        assert ended(running) == SubscriptionEnd("cancelled", 1)
        assert len(running.histories) == 2
        assert len(charges.calls) == 1

    def test_once_it_has_come_nothing_waits_for_the_renewal(self, task_hub: TaskHub) -> None:
        task_hub.stub(write_to_subscriber, duration=DAY)
        running = start(task_hub)
        task_hub.advance(DAY)
        running.raise_event(CANCEL_EVENT)
        task_hub.settle()
        assert [op.name for op in running.waiting_for] == ["write_to_subscriber"]

    def test_while_the_renewal_is_announced_it_is_heard(self, task_hub: TaskHub, charges: Stub) -> None:
        task_hub.stub(
            write_to_subscriber, duration=timedelta(days=9)
        )  # longer than the week before the charge
        running = start(task_hub)
        task_hub.advance(359 * DAY)
        running.raise_event(CANCEL_EVENT)
        task_hub.advance(30 * DAY)
        assert ended(running) == SubscriptionEnd("cancelled", 1)
        assert days(charges) == [0]

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        version=st.sampled_from(VERSIONS),
        hours=st.integers(0, 24 * 70),
        announced=st.integers(0, 9),
        crashes=st.sets(st.integers(0, 24 * 70), max_size=4),
    )
    def test_what_is_charged_and_announced_depends_on_the_day_it_comes_and_on_nothing_else(
        self, version: str | None, hours: int, announced: int, crashes: set[int]
    ) -> None:
        hub = TaskHub()
        register(hub)
        charges, letters = hub.stub(charge_period, return_value="P"), hub.stub(write_to_subscriber)
        wanted = Subscription(
            "ana", "4242", 1, interval=10 * module.DAY, announce_before=announced * module.DAY
        )
        running = start(hub, wanted, version)
        for hour in sorted(crashes | {hours}):
            hub.advance(START + timedelta(hours=hour) - hub.now)
            if hour == hours:
                running.raise_event(CANCEL_EVENT)
            hub.crash_worker()
        hub.settle()
        periods = hours // 240 + 1
        assert ended(running) == SubscriptionEnd("cancelled", periods)
        assert days(charges) == [10 * period for period in range(periods)]
        announcements = max((hours + 24 * announced) // 240, 0)
        assert days(letters)[:-1] == [10 * n - announced for n in range(1, announcements + 1)]


class TestCharges:
    def test_a_gateway_that_is_briefly_away_is_asked_again(self, task_hub: TaskHub, charges: Stub) -> None:
        start(task_hub, Subscription("ana", "flaky", 9_90))
        task_hub.advance(DAY)
        assert [call.attempt for call in charges.calls] == [1, 2, 3]

    def test_a_card_that_is_declined_ends_it(
        self, task_hub: TaskHub, charges: Stub, letters: Stub, gateway: LocalGateway
    ) -> None:
        running = start(task_hub, Subscription("ana", "declined", 9_90))
        task_hub.advance(DAY)
        assert ended(running) == SubscriptionEnd("lapsed", 0, "the card was declined")
        assert [call.attempt for call in charges.calls] == [1]  # a refusal is an answer
        assert texts(letters) == ["Your subscription is lapsed: the card was declined."]
        assert gateway.payments == {}
        assert running.custom_status == {"status": "lapsed"}

    def test_one_that_is_declined_later_leaves_what_was_paid(self, task_hub: TaskHub) -> None:
        declined = Charged(refusal="no")
        task_hub.stub(charge_period, side_effect=[Charged("P-1"), Charged("P-2"), declined])
        running = start(task_hub)
        task_hub.advance(3 * YEAR)
        assert ended(running) == SubscriptionEnd("lapsed", 2, "no")

    @pytest.mark.parametrize("activity", [charge_period, write_to_subscriber])
    def test_an_outage_of_three_hours_ends_nothing(self, task_hub: TaskHub, activity: Any) -> None:
        running = start(task_hub)
        task_hub.advance(DAY)

        def away(ctx: Any, input: Any) -> Any:
            if task_hub.now < first[0] + timedelta(hours=3):
                raise ConnectionError("reset")
            return activity(ctx, input)

        stub = task_hub.stub(activity, side_effect=away)
        first = [START + YEAR - (0 if activity is charge_period else 7) * DAY]
        task_hub.advance(2 * YEAR)
        assert [call.attempt for call in stub.calls][-2:] == [12, 1]
        assert running.custom_status["period"] == 4

    def test_a_gateway_that_stays_away_ends_it_and_the_letter_does_not_quote_it(
        self, task_hub: TaskHub, charges: Stub, letters: Stub, gateway: LocalGateway
    ) -> None:
        charges = task_hub.stub(charge_period, side_effect=RuntimeError("(4242) away"))
        running = start(task_hub)
        task_hub.advance(DAY)
        assert ended(running) == SubscriptionEnd("lapsed", 0, "(4242) away")
        assert charges.calls[-1].time - charges.calls[0].time > timedelta(hours=3)
        assert texts(letters) == ["Your subscription is lapsed: the payment could not be made."]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_money_that_was_taken_and_could_not_be_booked_is_given_back(
        self,
        task_hub: TaskHub,
        store: Store,
        gateway: LocalGateway,
        monkeypatch: pytest.MonkeyPatch,
        version: str | None,
    ) -> None:
        def full(*args: Any) -> None:
            raise OSError("no space left")

        charges = task_hub.stub(charge_period, wraps=charge_period)
        with monkeypatch.context() as patch:
            patch.setattr(store, "book", full)
            running = start(task_hub, version=version)
            task_hub.advance(DAY)
        assert ended(running).status == "lapsed"
        assert [payment.refunded for payment in gateway.payments.values()] == [True]
        with pytest.raises(Undone):
            charge_period(None, charges.calls[0].input)  # type: ignore[arg-type]
        assert "ledger" not in contents(store)

    def test_a_charge_that_was_made_and_is_reported_as_failed_is_undone_once(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        delivered_twice(task_hub)

        def made(ctx: Any, charge: PeriodCharge) -> None:
            charge_period(ctx, charge)
            raise ConnectionError("reset")

        task_hub.stub(charge_period, side_effect=made)
        running = start(task_hub)
        task_hub.advance(DAY)
        assert ended(running) == SubscriptionEnd("lapsed", 0, "reset")
        assert [payment.refunded for payment in gateway.payments.values()] == [True]
        assert [amount for _, amount in contents(store)["ledger"]] == [-9_90, 9_90]

    def test_a_charge_that_comes_after_it_has_lapsed_takes_nothing(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        charges = task_hub.stub(charge_period, side_effect=ConnectionError("reset"))
        running = start(task_hub)
        task_hub.advance(DAY)
        assert ended(running).status == "lapsed"
        late = charge_period(None, charges.calls[0].input)  # type: ignore[arg-type]
        assert late == Charged(refusal="the payment was given back before it came")
        assert (gateway.payments, "ledger" in contents(store)) == ({}, False)

    def test_a_charge_that_cannot_be_undone_is_left_to_a_person(
        self, task_hub: TaskHub, charges: Stub, letters: Stub
    ) -> None:
        charges = task_hub.stub(charge_period, side_effect=RuntimeError("no"))
        undo = task_hub.stub(undo_charge, side_effect=RuntimeError("no"))
        running = start(task_hub)
        task_hub.advance(DAY)
        key = charges.calls[0].input.key
        todo = f"no; a person has to find out whether {key} was charged, and give it back"
        assert ended(running) == SubscriptionEnd("lapsed", 0, todo)
        assert undo.calls[-1].time - undo.calls[0].time > timedelta(hours=3)
        assert len(letters.calls) == 1


class TestVersions:
    def test_versions_are_in_flight_at_the_same_time(self, task_hub: TaskHub) -> None:
        """As they are on the day of the release: each waits for its second period."""
        letters = task_hub.stub(write_to_subscriber)
        charges = task_hub.stub(charge_period, return_value="P")
        waiting = Subscription("ana", "4242", 1, period=2, due=START + 30 * DAY)
        for version in VERSIONS:
            wanted = Subscription(version or "none", "4242", 1, period=2, due=waiting.due)
            task_hub.start(subscription, input=wanted, version=version)
        task_hub.advance(31 * DAY)
        assert [(call.input.to, (call.time - START) / DAY) for call in letters.calls] == [("2.0", 23)]
        assert days(charges) == [30, 30, 30]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_after_a_period_an_instance_is_of_this_release(
        self, task_hub: TaskHub, letters: Stub, version: str | None
    ) -> None:
        running = start(task_hub, Subscription("ana", "4242", 1, period=2, due=START + 30 * DAY), version)
        task_hub.advance(31 * DAY)
        assert running.version == RELEASE
        task_hub.advance(YEAR)
        assert days(letters)[-1] == 30 + 365 - 7

    @pytest.mark.parametrize("day", [0, 1, 364])
    def test_what_the_first_release_started_goes_on_as_it_began(self, day: int) -> None:
        deployment = Deployment(FirstRelease.subscription)
        running = start(deployment.hub, FIRST_LAYOUT, version=None)
        letters = deployment.hub.stub(write_to_subscriber)
        charges = deployment.hub.stub(charge_period, return_value="P")
        deployment.hub.advance(day * DAY)
        deployment.deploy(subscription)
        deployment.hub.advance(3 * YEAR - day * DAY)
        assert days(charges) == [0, 365, 730, 1095]
        assert days(letters) == [723, 1088]  # not the renewal that version 1 was waiting for
        assert running.version == RELEASE

    def test_its_keys_and_its_period_are_kept(self) -> None:
        deployment = Deployment(FirstRelease.subscription)
        start(deployment.hub, FIRST_LAYOUT, version=None)
        charges = deployment.hub.stub(charge_period, return_value="P")
        deployment.hub.advance(YEAR)
        deployment.deploy(subscription)
        deployment.hub.advance(YEAR)
        first, *_ = (call.input for call in charges.calls)
        run = first.key.removesuffix("/charge/1")
        wanted = [PeriodCharge(f"{run}/charge/{period}", "4242", 9_90) for period in (1, 2, 3)]
        assert [call.input for call in charges.calls] == wanted

    @pytest.mark.parametrize("day", [0, 100])
    def test_what_the_first_release_recorded_replays_clean(self, day: int, dt_record: Any) -> None:
        deployment = Deployment(FirstRelease.subscription)
        running = start(deployment.hub, FIRST_LAYOUT, version=None)
        deployment.hub.stub(charge_period, return_value="P", duration=2 * DAY)
        deployment.hub.advance(day * DAY)
        report = replay(running.history, subscription)
        assert report.ok, report
        assert report.worker_outcome == "accepts"
        dt_record(running.history, f"subscription-first-release-{day}")

    def test_a_cancellation_that_the_first_release_recorded_replays_clean(self) -> None:
        deployment = Deployment(FirstRelease.subscription)
        running = start(deployment.hub, FIRST_LAYOUT, version=None)
        deployment.hub.advance(DAY)
        running.raise_event(CANCEL_EVENT)
        deployment.hub.settle()
        assert replay(running.history, subscription).ok

    def test_a_change_of_its_branch_is_found_though_a_worker_does_not_notice(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployment = Deployment(FirstRelease.subscription)
        running = start(deployment.hub, FIRST_LAYOUT, version=None)
        deployment.hub.advance(DAY)
        monkeypatch.setattr(module, "announces_renewals", lambda version: True)
        report = replay(running.history, subscription)
        assert [(found.kind, found.field) for found in report.divergences] == [("changed", "fire_at")]
        assert report.worker_outcome == "accepts"

    def test_a_change_of_its_branch_that_a_worker_notices_is_found_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployment = Deployment(FirstRelease.subscription)
        running = start(deployment.hub, FIRST_LAYOUT, version=None)
        deployment.hub.advance(358 * DAY)
        deployment.deploy(subscription)
        deployment.hub.stub(charge_period, return_value="P", duration=DAY)
        deployment.hub.advance(7.5 * DAY)
        monkeypatch.setattr(module, "announces_renewals", lambda version: True)
        report = replay(running.history, subscription)
        assert {found.field for found in report.divergences} >= {"fire_at", "name"}
        assert report.worker_outcome == "fails"


class TestVersioning:
    def test_what_a_newer_release_started_is_left_to_its_workers(self, task_hub: TaskHub) -> None:
        newer = start(task_hub, version="2.1")
        with pytest.raises(OrchestrationBlocked, match="rejected by the worker"):
            newer.wait()
        assert newer.status is OrchestrationStatus.PENDING
        task_hub.use_versioning(
            VersioningOptions(
                "2.1", "2.1", VersionMatchStrategy.CURRENT_OR_OLDER, VersionFailureStrategy.REJECT
            )
        )
        task_hub.settle()
        assert newer.status is OrchestrationStatus.RUNNING

    @pytest.mark.parametrize("version", [None, "1.0", RELEASE])
    def test_workflows_that_ask_for_no_version_run_with_any(
        self, task_hub: TaskHub, version: str | None
    ) -> None:
        order = task_hub.start(order_workflow, input=Order("desk", 1, 100), version=version)
        assert order.wait().status is OrchestrationStatus.COMPLETED

    def test_sub_orchestrations_start_with_the_version_of_this_release(self, task_hub: TaskHub) -> None:
        tender = task_hub.run(buyer, input=Tender("desk", 1, [Supplier("ana", 1)]))
        versions = {instance.name: instance.version for instance in task_hub.instances}
        assert versions == {"buyer": None, "supplier_offer": RELEASE}
        assert tender.status is OrchestrationStatus.COMPLETED


class TestInput:
    @pytest.mark.parametrize(
        "value",
        [
            {"customer": "ana", "card": "4242", "price": 9_90},
            {"layout": 2, "customer": "ana", "card": "4242", "price": 9_90},
            {"customer": "ana", "card": "4242", "price": "9.90"},
            FIRST_LAYOUT,
            YEARLY.to_json(),
        ],
    )
    def test_both_layouts_are_read(self, value: Any) -> None:
        assert Subscription.from_json(value) == YEARLY

    def test_what_the_first_release_carried_along_is_kept(self) -> None:
        carried = {**FIRST_LAYOUT, "days": 10, "period": 3, "due": "2026-01-21T00:00:00", "key": "k"}
        assert Subscription.from_json(carried) == Subscription(
            "ana",
            "4242",
            9_90,
            interval=10 * module.DAY,
            announce_before=5 * module.DAY,
            period=3,
            due=START + 20 * DAY,
            key="k",
        )

    @given(
        st.builds(
            Subscription,
            customer=st.text(),
            card=st.text(),
            price=st.integers(1),
            interval=st.floats(8 * module.DAY, 1e9),
            announce_before=st.floats(0, 7 * module.DAY),
            period=st.integers(1),
            due=st.none() | st.datetimes(),
            key=st.none() | st.text(),
        )
    )
    def test_what_is_written_is_read_again(self, wanted: Subscription) -> None:
        assert Subscription.from_json(wanted.to_json()) == wanted

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, "an object with a customer, a card and a price, not None"),
            ([1], r"an object with a customer, a card and a price, not \[1\]"),
            (
                {"layout": 3, "customer": "ana"},
                "release 2.0 reads the layouts 1 and 2 .* not this: {'layout': 3",
            ),
            ({"customer": "ana", "card": "1", "price": "9"}, "reads the layouts 1 and 2"),
            ({"customer": "ana", "card": "1", "price": 9.9}, "reads the layouts 1 and 2"),
            ({"customer": "ana", "price": 1}, "no subscription of layout 2 .*'card'"),
            (
                {"customer": "ana", "card": "1", "price": 1, "colour": 1},
                "no subscription of layout 2 .*'colour'",
            ),
            (
                {"customer": "ana", "card": "1", "price": 0},
                "the price of a subscription is more than 0, not 0",
            ),
            (
                {"customer": "ana", "card": "1", "price": 1, "interval": -5},
                "the interval of a subscription is more than 0, not -5",
            ),
            (
                {"customer": "ana", "card": "1", "price": 1, "interval": 10, "announce_before": 10},
                "announced within the period before it, of 10 seconds, and not 10 seconds",
            ),
        ],
    )
    def test_what_cannot_be_read_fails_and_says_why(
        self, task_hub: TaskHub, value: Any, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Subscription.from_json(value)
        failed = start(task_hub, value).wait()
        assert failed.failure is not None
        assert failed.failure.error_type.endswith("ValueError")
        with pytest.raises(ValueError, match=message):
            raise ValueError(failed.failure.message)


class TestFaults:
    def test_what_is_delivered_twice_is_done_once(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        delivered_twice(task_hub)
        running = start(task_hub)
        task_hub.advance(2 * YEAR)
        running.raise_event(CANCEL_EVENT)
        task_hub.settle()
        assert len(gateway.payments) == len(contents(store)["ledger"]) == 3
        assert len(contents(store)["outbox"]) == 3

    def test_what_is_delivered_again_much_later_is_done_once(
        self, task_hub: TaskHub, store: Store, gateway: LocalGateway
    ) -> None:
        deliveries = Deliveries(task_hub)
        start(task_hub)
        task_hub.advance(3 * YEAR)
        once = contents(store)
        deliveries.repeat()
        assert contents(store) == once
        assert len(gateway.payments) == 4

    @pytest.mark.parametrize("day", [0, 1, 358, 359, 365, 366])
    def test_a_worker_that_dies_changes_nothing(self, task_hub: TaskHub, store: Store, day: int) -> None:
        task_hub.stub(charge_period, wraps=charge_period, duration=DAY / 2)
        running = start(task_hub)
        task_hub.advance(day * DAY + DAY / 4)
        task_hub.crash_worker()
        task_hub.advance(START + 800 * DAY - task_hub.now)
        running.raise_event(CANCEL_EVENT)
        task_hub.settle()
        assert ended(running) == SubscriptionEnd("cancelled", 3)
        assert [amount for _, amount in contents(store)["ledger"]] == [9_90] * 3

    def test_terminated_it_charges_no_more(self, task_hub: TaskHub, charges: Stub) -> None:
        running = start(task_hub)
        task_hub.advance(DAY)
        running.terminate()
        task_hub.advance(2 * YEAR)
        assert running.status is OrchestrationStatus.TERMINATED
        assert days(charges) == [0]

    def test_a_cancellation_while_it_is_suspended_counts_when_it_is_resumed(
        self, task_hub: TaskHub, charges: Stub
    ) -> None:
        running = start(task_hub)
        task_hub.advance(DAY)
        running.suspend()
        running.raise_event(CANCEL_EVENT)
        task_hub.advance(2 * YEAR)
        assert running.status is OrchestrationStatus.SUSPENDED
        running.resume()
        task_hub.settle()
        assert ended(running) == SubscriptionEnd("cancelled", 1)
        assert days(charges) == [0]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_it_replays_after_every_turn(self, version: str | None) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        running = start(hub, version=version)
        hub.advance(2 * YEAR)
        running.raise_event(CANCEL_EVENT)
        assert ended(running.wait()) == SubscriptionEnd("cancelled", 3)
