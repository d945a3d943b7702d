"""The time of the orchestration, constants, and arithmetic: no clock is read."""

import calendar
import copy
import datetime
import time
from datetime import date, datetime as DateTime, timedelta, timezone
from zoneinfo import ZoneInfo

from durabletask.task import ActivityContext, OrchestrationContext

EPOCH = DateTime(1970, 1, 1)
LAUNCH = datetime.datetime.fromisoformat("2026-03-01T09:00:00")
IMPORTED_IN = time.strptime("2026", "%Y").tm_year


def note(ctx: ActivityContext, text: str) -> str:
    # An activity runs once for each record of it: its clock is its own.
    return f"{text} noted at {DateTime.now(timezone.utc):%H:%M} {time.time()}"


def time_of_the_orchestration(ctx: OrchestrationContext, _):
    now = ctx.current_utc_datetime
    yield ctx.create_timer(now + timedelta(minutes=5))
    return (ctx.current_utc_datetime - now).total_seconds()


def next_midnight(ctx: OrchestrationContext, _):
    today = ctx.current_utc_datetime.date()
    midnight = DateTime.combine(today + timedelta(days=1), datetime.time.min)
    yield ctx.create_timer(midnight)
    return ctx.current_utc_datetime.isoformat()


def constants(ctx: OrchestrationContext, _):
    days = (LAUNCH - EPOCH).days
    yield ctx.create_timer(timedelta(days=1))
    return days + IMPORTED_IN


def parses(ctx: OrchestrationContext, text: str):
    due = DateTime.strptime(text, "%Y-%m-%d")
    yield ctx.create_timer(due)
    return due.strftime("%A")


def another_zone(ctx: OrchestrationContext, zone: str):
    local = ctx.current_utc_datetime.replace(tzinfo=timezone.utc).astimezone(ZoneInfo(zone))
    yield ctx.create_timer(timedelta(hours=24 - local.hour))
    return local.hour


def calendar_of_a_date(ctx: OrchestrationContext, _):
    now = ctx.current_utc_datetime
    last = calendar.monthrange(now.year, now.month)[1]
    yield ctx.create_timer(timedelta(days=last - now.day))
    return date(now.year, now.month, last).isoformat()


def of_a_timestamp(ctx: OrchestrationContext, seconds: int):
    due = DateTime.fromtimestamp(seconds, tz=timezone.utc).replace(tzinfo=None)
    yield ctx.create_timer(due)
    return f"{due:%Y}"


def the_activity_knows(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(note, input="done"))


def alias_of_the_context(context: OrchestrationContext, _):
    utcnow = context.current_utc_datetime
    now = lambda: context.current_utc_datetime
    yield context.create_timer(utcnow + timedelta(seconds=1))
    return (now() - utcnow).seconds


def formats_a_given_time(ctx: OrchestrationContext, _):
    # strftime with a time to format reads no clock; neither does gmtime of a number.
    day = time.strftime("%Y-%m-%d", time.gmtime(86_400))
    yield ctx.create_timer(timedelta(seconds=1))
    return day


def the_text_of_a_time(ctx: OrchestrationContext, _):
    started = ctx.current_utc_datetime
    return (yield ctx.call_activity(note, input=f"{started!r} {timedelta(seconds=1)!r}"))


def the_type_of_a_time(ctx: OrchestrationContext, _):
    now = ctx.current_utc_datetime
    kind = type(now).__name__ if type(now) is DateTime and isinstance(now, date) else "none"
    return (yield ctx.call_activity(note, input=f"{kind} {now == DateTime(now.year, 1, 1)}"))


def a_time_that_is_copied(ctx: OrchestrationContext, _):
    later = copy.deepcopy(ctx.current_utc_datetime) + timedelta(hours=1)
    yield ctx.create_timer(max(later, ctx.current_utc_datetime))
    return sorted([later, ctx.current_utc_datetime])[0].isoformat()


ORCHESTRATORS = (
    time_of_the_orchestration,
    next_midnight,
    constants,
    parses,
    another_zone,
    calendar_of_a_date,
    of_a_timestamp,
    the_activity_knows,
    alias_of_the_context,
    formats_a_given_time,
    the_text_of_a_time,
    the_type_of_a_time,
    a_time_that_is_copied,
)

RUN = [
    (time_of_the_orchestration, None),
    (next_midnight, None),
    (constants, None),
    (parses, "2026-02-03"),
    (another_zone, "Europe/Berlin"),
    (calendar_of_a_date, None),
    (of_a_timestamp, 1_800_000_000),
    (the_activity_knows, None),
    (alias_of_the_context, None),
    (formats_a_given_time, None),
    (the_text_of_a_time, None),
    (the_type_of_a_time, None),
    (a_time_that_is_copied, None),
]


def register(worker):
    worker.add_activity(note)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
