"""What a day brought in, added up every night. The pattern: a recurring schedule, with the SDK's `scheduled`.

Choose a schedule when something starts again and again, at an interval, each run on its own: it is kept in
the task hub, can be paused and changed while it runs, and starts an orchestration each time. Choose an
eternal orchestration (``continue_as_new``) when a run needs what the one before it learned, and when runs
must not overlap. The interval is one of elapsed time: the hour of the day is one in UTC.

After a time without a worker a schedule starts one run, and not one for each that was missed; it may also
start one twice. So a run says which day it settles, the one before by default, and publishes under the key of
that day: a day is published once. One that was missed is settled by hand, with its day as the input. A day
that is not over is refused.

The worker has to be told of schedules, by ``worker.configure_scheduled_tasks()``; `workflows.register` does.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, Task

from workflows.services import services

if TYPE_CHECKING:
    from durabletask.scheduled import ScheduleClient, ScheduledTaskClient

logger = logging.getLogger(__name__)

SCHEDULE_ID = "settlement"
FIVE_PAST_MIDNIGHT = datetime(2026, 1, 1, 0, 5, tzinfo=timezone.utc)
"""A start in the past sets the time of the day; what would have been missed since is not made up for."""

RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=10), max_number_of_attempts=5, backoff_coefficient=3.0
)


@dataclass(frozen=True)
class SettlementRequest:
    """The day to settle, such as ``"2026-01-31"``; None for the day before."""

    day: str | None = None


@dataclass(frozen=True)
class Settlement:
    """What a day, of UTC, brought in, in cents."""

    day: str
    total: int


def create_schedule(
    schedules: "ScheduledTaskClient",
    schedule_id: str = SCHEDULE_ID,
    start_at: datetime = FIVE_PAST_MIDNIGHT,
    interval: timedelta = timedelta(days=1),
) -> "ScheduleClient":
    """Settle every day from now on. A schedule of the same id is replaced.

    Returns
    -------
    ScheduleClient
        Pauses, resumes, updates and deletes the schedule, and describes it.
    """
    # Imported here: it brings gRPC along.
    from durabletask.scheduled import ScheduleCreationOptions

    return schedules.create_schedule(
        ScheduleCreationOptions(
            schedule_id,
            daily_settlement.__name__,
            interval,
            orchestration_input=SettlementRequest(),
            start_at=start_at,
        )
    )


def daily_settlement(
    ctx: OrchestrationContext, request: SettlementRequest | None
) -> Generator[Task[Any], Any, Settlement]:
    """Add a day up, and publish it."""
    today = ctx.current_utc_datetime.date()
    chosen = None if request is None else request.day
    day = today - timedelta(days=1) if chosen is None else date.fromisoformat(chosen)
    if day >= today:
        raise ValueError(f"{day} is not over: a day is settled when all of it is in the ledger")
    total = yield ctx.call_activity(add_up_day, input=day.isoformat(), retry_policy=RETRY)
    settlement = Settlement(day.isoformat(), total)
    yield ctx.call_activity(publish_settlement, input=settlement, retry_policy=RETRY)
    ctx.create_replay_safe_logger(logger).info("%s is settled: %s", day, total)
    return settlement


def add_up_day(ctx: ActivityContext, day: str) -> int:
    """What was booked on a day, in UTC."""
    start = datetime.fromisoformat(day)
    return services().store.turnover(start, start + timedelta(days=1))


def publish_settlement(ctx: ActivityContext, settlement: Settlement) -> None:
    """Publish a day among the documents, unless it is there."""
    name = f"settlement/{settlement.day}"
    services().store.publish(name, name, asdict(settlement))


ORCHESTRATORS = (daily_settlement,)
ACTIVITIES = (add_up_day, publish_settlement)
ENTITIES = ()
