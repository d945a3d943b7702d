"""The sales report through the real worker and the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask import history
from durabletask.client import OrchestrationStatus

from workflows.sales_report import MissingRegion, RegionalSales, ReportRequest, SalesReport, sales_report

if TYPE_CHECKING:
    from durabletask.client import OrchestrationState, TaskHubGrpcClient

TIMEOUT = 20


def run(client: TaskHubGrpcClient, *regions: str) -> OrchestrationState:
    request = ReportRequest("-".join(regions), list(regions))
    instance_id = client.schedule_new_orchestration(sales_report, input=request)
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state


def report(state: OrchestrationState) -> SalesReport:
    found = state.get_output(SalesReport)
    assert found is not None
    return found


def test_all_regions_are_added_up_in_the_order_asked_for(client: TaskHubGrpcClient) -> None:
    found = report(run(client, "south", "north"))
    assert [one.region for one in found.regions] == ["south", "north"]
    assert found.total == sum(one.amount for one in found.regions) > 0
    assert found.missing == []


def test_a_region_that_fails_for_good_is_named_and_one_that_is_shaky_is_not(
    client: TaskHubGrpcClient,
) -> None:
    found = report(run(client, "north", "nowhere", "shaky"))
    assert [one.region for one in found.regions] == ["north", "shaky"]
    assert found.missing == [MissingRegion("nowhere", "there is no region 'nowhere'")]


def test_each_region_is_a_sub_orchestration_that_can_be_looked_up(client: TaskHubGrpcClient) -> None:
    state = run(client, "east", "west")
    events = client.get_orchestration_history(state.instance_id)
    started = [event for event in events if isinstance(event, history.SubOrchestrationInstanceCreatedEvent)]
    assert [event.name for event in started] == ["regional_report"] * 2
    states = [client.get_orchestration_state(str(event.instance_id)) for event in started]
    assert [one and one.get_output(RegionalSales) for one in states] == report(state).regions


def test_a_region_that_is_named_twice_fails_the_report(client: TaskHubGrpcClient) -> None:
    state = run(client, "north", "north")
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert "names none of them twice" in state.failure_details.message
