"""The sales of all regions, in one report. The pattern: sub-orchestrations, in parallel.

Choose it when a part of the work is a workflow itself: it has several steps, is retried as a whole, can be
looked up under its own instance id, and keeps its steps out of the parent's history. Where a part is a
single step, an activity is enough: see `workflows.batch_import`.

Each region has a sub-orchestration. One that fails is run again, from its first step, by the `RetryPolicy`;
one that fails for good is named in the report, and the others are not the worse for it. A sub-orchestration
that is run again is another run with another ``ctx.new_uuid()``, so the parent makes the keys of its effects.

The regions ``"nowhere"`` and ``"shaky"`` of `workflows.local_gateway` fail for good, and twice.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from durabletask.task import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_all,
)

from workflows.services import services

logger = logging.getLogger(__name__)

REGION_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=200), max_number_of_attempts=3, backoff_coefficient=2.0
)
TELL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class ReportRequest:
    """What the report is called, and the regions that it is about."""

    title: str
    regions: list[str]


@dataclass(frozen=True)
class Region:
    """A region to report on, for which report, and the key of doing so."""

    key: str
    title: str
    name: str


@dataclass(frozen=True)
class RegionalSales:
    """What was sold in a region, in cents."""

    region: str
    amount: int


@dataclass(frozen=True)
class RegionalPage:
    """A page of the report to publish, and the key of doing so."""

    key: str
    title: str
    sales: RegionalSales


@dataclass(frozen=True)
class MissingRegion:
    """A region that the report has to do without, and why."""

    region: str
    reason: str


@dataclass(frozen=True)
class SalesReport:
    """What was sold, in cents; the regions are in the order in which they were asked for."""

    title: str
    total: int
    regions: list[RegionalSales] = field(default_factory=list)
    missing: list[MissingRegion] = field(default_factory=list)


@dataclass(frozen=True)
class ReportToPublish:
    """A report to publish, and the key of doing so."""

    key: str
    report: SalesReport


class RegionFailed(Exception):
    """A region cannot be reported on."""


def sales_report(ctx: OrchestrationContext, request: ReportRequest) -> Generator[Task[Any], Any, SalesReport]:
    """Report on all regions at the same time."""
    if not request.regions or len(set(request.regions)) < len(request.regions):
        raise ValueError("a sales report is about at least one region, and names none of them twice")
    key = ctx.new_uuid()
    ctx.set_custom_status({"regions": len(request.regions)})
    tasks: list[Task[RegionalSales]] = [
        ctx.call_sub_orchestrator(
            regional_report,  # type: ignore[arg-type]  # mypy infers nothing from the SDK's overload
            input=Region(f"{key}/region/{name}", request.title, name),
            retry_policy=REGION_RETRY,
            return_type=RegionalSales,
        )
        for name in request.regions
    ]
    # when_all fails once all have ended, and about one of them only: each task tells how it went itself.
    with suppress(TaskFailedError):
        yield when_all(tasks)
    regions: list[RegionalSales] = []
    missing: list[MissingRegion] = []
    for name, task in zip(request.regions, tasks, strict=True):
        if task.is_failed:
            missing.append(MissingRegion(name, task.get_exception().details.message))
        else:
            regions.append(task.get_result())
    if missing:
        log = ctx.create_replay_safe_logger(logger)
        log.warning("report %s is without %s", request.title, ", ".join(one.region for one in missing))
    report = SalesReport(request.title, sum(one.amount for one in regions), regions, missing)
    wanted = ReportToPublish(f"{key}/publish", report)
    yield ctx.call_activity(publish_sales_report, input=wanted, retry_policy=TELL_RETRY)
    return report


def regional_report(ctx: OrchestrationContext, region: Region) -> Generator[Task[Any], Any, RegionalSales]:
    """Report on one region: fetch its sales, publish its page."""
    try:
        amount = yield ctx.call_activity(fetch_sales, input=region.name)  # all of this is tried again
        sales = RegionalSales(region.name, amount)
        page = RegionalPage(f"{region.key}/publish", region.title, sales)
        yield ctx.call_activity(publish_regional_page, input=page, retry_policy=TELL_RETRY)
    except TaskFailedError as failure:  # its own message starts with the ids of the instance and the task
        raise RegionFailed(failure.details.message) from failure
    return sales


def fetch_sales(ctx: ActivityContext, region: str) -> int:
    """What was sold in a region, in cents."""
    return services().gateway.sales(region)


def publish_regional_page(ctx: ActivityContext, page: RegionalPage) -> None:
    """Publish the page of one region among the documents."""
    name = f"sales/{page.title}/{page.sales.region}"
    services().store.publish(page.key, name, asdict(page.sales))


def publish_sales_report(ctx: ActivityContext, wanted: ReportToPublish) -> None:
    """Publish the report among the documents."""
    services().store.publish(wanted.key, f"sales/{wanted.report.title}", asdict(wanted.report))


ORCHESTRATORS = (sales_report, regional_report)
ACTIVITIES = (fetch_sales, publish_regional_page, publish_sales_report)
ENTITIES = ()
