"""The sales report: a sub-orchestration for each region, in parallel, some of which fail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, delivered_twice, keyless, keys, run_with_dying_workers
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.gateway import GatewayError
from workflows.sales_report import (
    MissingRegion,
    Region,
    RegionalPage,
    RegionalSales,
    ReportRequest,
    ReportToPublish,
    SalesReport,
    fetch_sales,
    publish_regional_page,
    publish_sales_report,
    regional_report,
    sales_report,
)

if TYPE_CHECKING:
    from dt_testkit import Instance
    from workflows.local_gateway import LocalGateway
    from workflows.store import Store

HOUR = timedelta(hours=1)
SALES = {"north": 100, "south": 20, "west": 3}
ALL = ReportRequest("may", list(SALES))
NOWHERE = MissingRegion("nowhere", "there is no region 'nowhere'")
LOST = MissingRegion("nowhere", "no map")


def report_of(instance: Instance) -> SalesReport:
    return instance.get_output(SalesReport)


def with_known_sales(hub: TaskHub, **options: Any) -> Any:
    """From now on the sales are those above, and nowhere has none."""

    def look_up(ctx: Any, region: str) -> int:
        if region == "nowhere":
            raise GatewayError("no map")
        return SALES[region]

    return hub.stub(fetch_sales, side_effect=look_up, **options)


def regional(hub: TaskHub) -> list[Instance]:
    """The sub-orchestrations."""
    return [instance for instance in hub.instances if instance.name == "regional_report"]


class TestTheReport:
    def test_it_adds_up_all_regions_in_the_order_asked_for(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub)
        assert report_of(task_hub.run(sales_report, input=ALL)) == SalesReport(
            "may", 123, [RegionalSales(name, amount) for name, amount in SALES.items()]
        )

    def test_the_order_is_kept_when_a_later_region_is_quicker(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub, duration=lambda region: HOUR if region == "north" else HOUR / 2)
        report = report_of(task_hub.run(sales_report, input=ALL))
        assert [one.region for one in report.regions] == ["north", "south", "west"]

    def test_the_report_and_a_page_for_each_region_are_published(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        with_known_sales(task_hub)
        task_hub.run(sales_report, input=ReportRequest("may", ["north", "nowhere"]))
        north = {"region": "north", "amount": 100}
        report = {
            "title": "may",
            "total": 100,
            "regions": [north],
            "missing": [{"region": "nowhere", "reason": "no map"}],
        }
        assert contents(store) == {"documents": [("sales/may", report), ("sales/may/north", north)]}

    def test_regions_are_reported_on_at_the_same_time(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        with_known_sales(task_hub, duration=HOUR)
        instance = task_hub.start(sales_report, input=ALL)
        task_hub.settle()
        assert [operation.kind for operation in instance.waiting_for] == ["sub_orchestration"] * 3
        instance.wait()
        assert task_hub.now - start == HOUR

    def test_each_region_is_an_instance_of_its_own(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub)
        task_hub.run(sales_report, input=ALL, instance_id="may-1")
        assert [keyless(instance.input) for instance in regional(task_hub)] == [
            Region("", "may", name) for name in SALES
        ]
        assert all(instance.instance_id.startswith("may-1:") for instance in regional(task_hub))

    def test_the_steps_of_a_region_are_taken_one_after_the_other(self) -> None:
        step = drive(regional_report, Region("k", "may", "north"))
        assert [(op.name, op.input) for op in step.pending] == [("fetch_sales", "north")]
        step.complete(7)
        page = RegionalPage("k/publish", "may", RegionalSales("north", 7))
        assert [(op.name, op.input) for op in step.pending] == [("publish_regional_page", page)]
        step.complete()
        assert step.get_output(RegionalSales) == RegionalSales("north", 7)

    @pytest.mark.parametrize("regions", [[], ["north", "north"], ["a", "b", "a"]])
    def test_no_region_or_one_that_is_named_twice_is_refused(
        self, task_hub: TaskHub, regions: list[str]
    ) -> None:
        instance = task_hub.run(sales_report, input=ReportRequest("may", regions))
        assert instance.status is OrchestrationStatus.FAILED
        assert instance.failure.message == (
            "a sales report is about at least one region, and names none of them twice"
        )


class TestRegionsThatFail:
    def test_one_that_is_briefly_away_is_run_again(self, task_hub: TaskHub, gateway: LocalGateway) -> None:
        instance = task_hub.run(sales_report, input=ReportRequest("may", ["shaky"]))
        assert [one.region for one in report_of(instance).regions] == ["shaky"]
        assert gateway.requests["GET /sales/shaky"] == 3

    def test_one_that_fails_for_good_is_named_with_its_reason_after_three_attempts(
        self, task_hub: TaskHub, gateway: LocalGateway
    ) -> None:
        report = report_of(task_hub.run(sales_report, input=ReportRequest("may", ["nowhere"])))
        assert report == SalesReport("may", 0, missing=[NOWHERE])
        assert gateway.requests["GET /sales/nowhere"] == 3

    def test_the_others_are_not_the_worse_for_it(self, task_hub: TaskHub) -> None:
        regions = ["north", "nowhere", "south", "shaky"]
        report = report_of(task_hub.run(sales_report, input=ReportRequest("may", regions)))
        assert [one.region for one in report.regions] == ["north", "south", "shaky"]
        assert report.missing == [NOWHERE]
        assert report.total == sum(one.amount for one in report.regions) > 0

    def test_they_are_not_run_again_because_of_it(self, task_hub: TaskHub, gateway: LocalGateway) -> None:
        task_hub.run(sales_report, input=ReportRequest("may", ["north", "nowhere"]))
        assert gateway.requests["GET /sales/north"] == 1

    def test_a_page_that_cannot_be_published_costs_the_region(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub)
        task_hub.stub(publish_regional_page, side_effect=[OSError("disk full")] * 15)
        report = report_of(task_hub.run(sales_report, input=ReportRequest("may", ["north"])))
        assert report.missing == [MissingRegion("north", "disk full")]

    def test_a_region_is_run_again_from_its_first_step(self, task_hub: TaskHub, store: Store) -> None:
        fetch = with_known_sales(task_hub)
        publish = task_hub.stub(publish_regional_page, side_effect=[*[OSError("disk full")] * 5, None])
        task_hub.run(sales_report, input=ReportRequest("may", ["north"]))
        assert (fetch.call_count, publish.call_count) == (2, 6)
        assert len({call.input.key for call in publish.calls}) == 1
        assert list(contents(store)) == ["documents"]

    def test_a_report_that_cannot_be_published_fails(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub)
        publish = task_hub.stub(publish_sales_report, side_effect=OSError("disk full"))
        instance = task_hub.run(sales_report, input=ALL)
        assert [call.attempt for call in publish.calls] == [1, 2, 3, 4, 5]
        assert instance.status is OrchestrationStatus.FAILED
        assert "disk full" in instance.failure.message

    def test_the_parent_waits_between_the_attempts(self) -> None:
        step = drive(sales_report, ReportRequest("may", ["north"]))
        for wait in (200, 400):
            step.fail(ValueError("no"), of=regional_report)
            step.advance(timedelta(milliseconds=wait))
        step.fail(ValueError("no"), of=regional_report)
        (last,) = step.pending
        missing = SalesReport("may", 0, missing=[MissingRegion("north", "no")])
        assert (last.name, keyless(last.input)) == ("publish_sales_report", ReportToPublish("", missing))

    @settings(max_examples=60, deadline=None)
    @given(
        regions=st.dictionaries(
            st.text("abcdefg", min_size=1, max_size=3),
            st.tuples(st.integers(0, 1000), st.integers(0, 4)),
            min_size=1,
            max_size=6,
        ),
        seed=st.integers(0, 100),
    )
    def test_every_region_is_in_the_sum_or_is_missing(
        self, regions: dict[str, tuple[int, int]], seed: int
    ) -> None:
        tries = dict.fromkeys(regions, 0)

        def look_up(ctx: Any, region: str) -> int:
            tries[region] += 1
            amount, failures = regions[region]
            if tries[region] <= failures:
                raise GatewayError("away")
            return amount

        hub = TaskHub(seed=seed, shuffle=True)
        hub.add_orchestrator(sales_report)
        hub.add_orchestrator(regional_report)
        hub.stub(fetch_sales, side_effect=look_up)
        hub.stub(publish_regional_page)
        hub.stub(publish_sales_report)
        report = report_of(hub.run(sales_report, input=ReportRequest("r", list(regions))))
        good = {name: amount for name, (amount, failures) in regions.items() if failures < 3}
        assert {one.region: one.amount for one in report.regions} == good
        assert report.total == sum(good.values())
        assert [one.region for one in report.missing] == [name for name in regions if name not in good]


class TestKeys:
    def test_each_effect_has_one_and_a_region_that_is_run_again_keeps_it(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        task_hub.run(sales_report, input=ReportRequest("may", ["north", "shaky"]))
        endings = [key.partition("/")[2] for key in keys(store)]
        assert endings == ["publish", "region/north/publish", "region/shaky/publish"]

    def test_another_report_has_others(self, task_hub: TaskHub, store: Store) -> None:
        for _ in range(2):
            task_hub.run(sales_report, input=ReportRequest("may", ["north"]))
        assert len(keys(store)) == 4


class TestOperations:
    def test_a_report_that_is_terminated_publishes_nothing(self, task_hub: TaskHub, store: Store) -> None:
        with_known_sales(task_hub, duration=HOUR)
        instance = task_hub.start(sales_report, input=ALL)
        task_hub.settle()
        instance.terminate("enough")
        task_hub.advance(HOUR / 2)
        assert instance.status is OrchestrationStatus.TERMINATED
        task_hub.advance(5 * HOUR)
        assert "sales/may" not in dict(contents(store).get("documents", []))

    def test_a_report_that_is_suspended_goes_on_when_it_is_resumed(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub, duration=HOUR)
        instance = task_hub.start(sales_report, input=ALL)
        task_hub.settle()
        instance.suspend()
        task_hub.advance(5 * HOUR)
        assert instance.status is OrchestrationStatus.SUSPENDED
        instance.resume()
        assert report_of(instance.wait()).total == 123

    def test_a_region_that_is_terminated_is_missing(self, task_hub: TaskHub) -> None:
        with_known_sales(task_hub, duration=lambda region: HOUR if region == "north" else HOUR * 9)
        instance = task_hub.start(sales_report, input=ReportRequest("may", ["north", "south"]))
        task_hub.advance(2 * HOUR)
        for _ in range(3):
            for one in regional(task_hub):
                if not one.is_terminal:
                    one.terminate("enough")
            task_hub.advance(HOUR)
        report = report_of(instance.wait())
        assert [one.region for one in report.regions] == ["north"]
        assert [one.region for one in report.missing] == ["south"]


class TestDelivery:
    REQUEST = ReportRequest("may", ["north", "nowhere", "south"])

    def once(self, store: Store) -> dict[str, Any]:
        """What one delivery leaves."""
        hub = TaskHub()
        register(hub)
        with_known_sales(hub)
        hub.run(sales_report, input=self.REQUEST, instance_id="may-1")
        return contents(store)

    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        delivered_twice(task_hub)
        with_known_sales(task_hub, duplicate=True)
        report = report_of(task_hub.run(sales_report, input=self.REQUEST))
        assert report == SalesReport(
            "may", 120, [RegionalSales("north", 100), RegionalSales("south", 20)], [LOST]
        )
        assert len(keys(store)) == 3
        left = contents(store)
        assert len(left["documents"]) == 3
        assert left == self.once(store)

    def test_what_dying_workers_did_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        request = ReportRequest("may", ["north", "shaky", "south"])
        instance = run_with_dying_workers(task_hub, lambda: task_hub.start(sales_report, input=request))
        assert [one.region for one in report_of(instance).regions] == ["north", "shaky", "south"]
        assert len(contents(store)["documents"]) == len(keys(store)) == 4

    @pytest.mark.parametrize("quarters", range(8))
    def test_a_worker_that_dies_at_any_moment_changes_nothing(
        self, task_hub: TaskHub, store: Store, quarters: int
    ) -> None:
        with_known_sales(task_hub, duration=HOUR)
        task_hub.stub(publish_sales_report, wraps=publish_sales_report, duration=HOUR / 2)
        instance = task_hub.start(sales_report, input=self.REQUEST)
        task_hub.advance(quarters * HOUR / 4)
        task_hub.crash_worker()
        instance.wait()
        left = contents(store)
        assert report_of(instance).total == 120
        assert left == self.once(store)


class TestReplay:
    @pytest.mark.dt_hub(check_replay="turn")
    def test_it_replays_after_every_turn(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(sales_report, input=ReportRequest("may", ["north", "nowhere", "shaky"]))
        assert instance.status is OrchestrationStatus.COMPLETED
        for one in (instance, *regional(task_hub)):
            assert_replays(one.history, task_hub)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_in_which_things_arrive_does_not_matter(self, seed: int) -> None:
        hub = TaskHub(shuffle=True, seed=seed, check_replay="turn")
        register(hub)
        with_known_sales(hub)
        report = report_of(hub.run(sales_report, input=ReportRequest("may", ["nowhere", *SALES])))
        assert (report.total, report.missing) == (123, [LOST])
