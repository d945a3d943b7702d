"""A job in another system, watched until it is done. The pattern: a monitor, which polls.

Choose it when somebody else does the work and does not call back: ask how far it is, wait, ask again. The
pauses grow, so that a short job is noticed soon and a long one costs little. It ends when the job does, when
its time is over, or when someone raises the event ``"stop"``, whatever it is doing at that moment.

Each poll adds to the history, so after a number of them the monitor continues as new. It takes along the
moment at which it expires, which therefore does not move, and events that nobody has read.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from durabletask.task import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_any,
)

from workflows.services import services

logger = logging.getLogger(__name__)

MINUTE = 60.0
HOUR = 60 * MINUTE
STOP_EVENT = "stop"

POLL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=3, backoff_coefficient=2.0
)
REPORT_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class Progress:
    """How far a monitor has come: what it hands from generation to generation.

    Attributes
    ----------
    key : str
        What the keys of its effects start with.
    expires_at : str
        A moment, UTC in ISO format.
    pause : float
        How many seconds to wait after the next poll.
    """

    key: str
    expires_at: str
    pause: float
    polls: int = 0
    state: str = "unknown"


@dataclass(frozen=True)
class Watch:
    """What to watch, and how. Times are in seconds.

    Attributes
    ----------
    tell : str
        Who is told how it ended.
    first_pause, growth, longest_pause : float
        The pause after the first poll, by how much each one is longer than the one before it, and where that
        ends.
    polls_per_generation : int
        After how many polls the monitor continues as new.
    progress : Progress | None
        What the monitor itself hands on when it continues as new; None to start.
    """

    job: str
    tell: str = "operator"
    first_pause: float = 1 * MINUTE
    growth: float = 1.5
    longest_pause: float = 1 * HOUR
    expires_after: float = 48 * HOUR
    polls_per_generation: int = 20
    progress: Progress | None = None


@dataclass(frozen=True)
class Verdict:
    """How a monitor ended: ``"succeeded"`` or ``"failed"`` as the job did, ``"expired"`` or ``"stopped"``."""

    job: str
    outcome: str
    polls: int


@dataclass(frozen=True)
class JobReport:
    """A verdict to tell someone of, and the key of doing so."""

    key: str
    to: str
    verdict: Verdict


def job_monitor(ctx: OrchestrationContext, watch: Watch) -> Generator[Task[Any], Any, Verdict | None]:
    """Ask how far a job is until it is done."""
    progress = watch.progress or begin(ctx, watch)
    stop = ctx.wait_for_external_event(STOP_EVENT)
    expiry = ctx.create_timer(datetime.fromisoformat(progress.expires_at))
    ctx.set_custom_status({"state": progress.state, "polls": progress.polls})
    for _ in range(watch.polls_per_generation):
        poll = ctx.call_activity(poll_job, input=watch.job, retry_policy=POLL_RETRY)
        polled: list[Task[Any]] = [stop, expiry, poll]
        if (yield when_any(polled)) is not poll:
            return (yield from finish(ctx, watch, progress, "stopped" if stop.is_complete else "expired"))

        progress = replace(progress, polls=progress.polls + 1, state=state_of(poll))
        ctx.set_custom_status({"state": progress.state, "polls": progress.polls})
        if progress.state in ("succeeded", "failed"):
            return (yield from finish(ctx, watch, progress, progress.state))

        pause = ctx.create_timer(timedelta(seconds=progress.pause))
        progress = replace(progress, pause=min(progress.pause * watch.growth, watch.longest_pause))
        paused: list[Task[Any]] = [stop, expiry, pause]
        if (yield when_any(paused)) is not pause:
            return (yield from finish(ctx, watch, progress, "stopped" if stop.is_complete else "expired"))
    # A "stop" that had been delivered would have won, so none is lost here.
    ctx.continue_as_new(replace(watch, progress=progress), save_events=True)
    return None


def begin(ctx: OrchestrationContext, watch: Watch) -> Progress:
    """What the first generation starts with."""
    if watch.first_pause <= 0 or watch.longest_pause < watch.first_pause or watch.growth < 1:
        raise ValueError("the pauses of a monitor are longer than 0 seconds and do not shrink")
    if watch.polls_per_generation < 1:
        raise ValueError("a monitor polls at least once before it continues as new")
    expires_at = ctx.current_utc_datetime + timedelta(seconds=watch.expires_after)
    return Progress(ctx.new_uuid(), expires_at.isoformat(), watch.first_pause)


def state_of(poll: Task[str]) -> str:
    """What a poll says; one that failed for good says nothing, and the next may say more."""
    try:
        return poll.get_result()
    except TaskFailedError:
        return "unknown"


def finish(
    ctx: OrchestrationContext, watch: Watch, progress: Progress, outcome: str
) -> Generator[Task[Any], Any, Verdict]:
    """Tell how it ended."""
    verdict = Verdict(watch.job, outcome, progress.polls)
    ctx.create_replay_safe_logger(logger).info("monitor %s of %s: %s", ctx.instance_id, watch.job, outcome)
    ctx.set_custom_status({"state": outcome, "polls": progress.polls})
    report = JobReport(f"{progress.key}/report", watch.tell, verdict)
    yield ctx.call_activity(report_job, input=report, retry_policy=REPORT_RETRY)
    return verdict


def poll_job(ctx: ActivityContext, job: str) -> str:
    """How far a job is: ``"running"``, ``"succeeded"`` or ``"failed"``."""
    return services().gateway.job_state(job)


def report_job(ctx: ActivityContext, report: JobReport) -> None:
    """Tell someone how a monitor ended."""
    text = {
        "succeeded": "has succeeded",
        "failed": "has failed",
        "expired": "was not done in time and is not watched any more",
        "stopped": "is not watched any more, as someone asked",
    }[report.verdict.outcome]
    services().store.notify(report.key, report.to, f"The job {report.verdict.job} {text}.")


ORCHESTRATORS = (job_monitor,)
ACTIVITIES = (poll_job, report_job)
ENTITIES = ()
