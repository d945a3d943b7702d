"""An appointment at a time of day somewhere. The pattern: durable timers, and scheduled execution.

Choose it when something is to happen at a wall-clock time, in weeks or months, with something before it, and
may be moved or cancelled until then. Timers cost nothing while they run and outlive every worker.

People mean their own clock, timers want UTC. What turns one into the other is an activity, so that the result
is in the history: a new release of the time zone database changes what the same question is answered, and an
orchestrator that asked it itself would then replay differently.

- A time that does not exist, in the hour that is skipped in spring, is moved forward by the length of the
  gap; of a time that comes twice, in autumn, the first is meant.
- A time that cannot be understood fails the appointment, in one sentence. One that is over is said to be
  ``"missed"``. Where an appointment is to be *moved* to such a time, it stays where it was, and the attendee
  is told.
- Reminders that would be in the past are left out.

The event ``"move"`` brings a `NewTime`, the event ``"cancel"`` no data. Both count until the appointment
begins.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from durabletask.task import (
    ActivityContext,
    CancellableTask,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_any,
)

from workflows.services import services

logger = logging.getLogger(__name__)

HOUR = 60 * 60.0
DAY = 24 * HOUR
MOVE_EVENT = "move"
CANCEL_EVENT = "cancel"

# What went on for months does not end because of one bad minute.
TELL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class WallTime:
    """A time on the clocks of a place, such as ``"2026-03-29T09:30"`` in ``"Europe/Berlin"``."""

    at: str
    zone: str


@dataclass(frozen=True)
class Appointment:
    """What, with whom and when.

    Attributes
    ----------
    reminders : list[float]
        How many seconds before it the attendee is reminded, once for each.
    """

    title: str
    attendee: str
    when: WallTime
    reminders: list[float] = field(default_factory=lambda: [DAY, HOUR])


@dataclass(frozen=True)
class NewTime:
    """The payload of the event ``"move"``; without a zone, the one that the appointment is in."""

    at: str
    zone: str | None = None


@dataclass(frozen=True)
class AppointmentResult:
    """How an appointment ended.

    Attributes
    ----------
    status : str
        ``"begun"``, ``"cancelled"`` or ``"missed"``.
    at : str
        The moment for which it was last set, UTC in ISO format.
    moved : int
        How often it was moved.
    """

    status: str
    at: str
    moved: int


@dataclass(frozen=True)
class Reminder:
    """An appointment to remind someone of, its moment (UTC in ISO format), and the key of doing so."""

    key: str
    to: str
    title: str
    at: str


@dataclass(frozen=True)
class Note:
    """Something to tell someone, and the key of doing so."""

    key: str
    to: str
    text: str


class UnusableTime(ValueError):
    """A time that cannot be turned into a moment; the message says why."""


@dataclass
class Calendar:
    """What an appointment knows of itself while it goes on."""

    key: str
    appointment: Appointment
    when: WallTime
    moment: datetime
    moved: int = 0
    requests: int = 0


def appointment(
    ctx: OrchestrationContext, wanted: Appointment
) -> Generator[Task[Any], Any, AppointmentResult]:
    """Wait for an appointment, reminding of it, wherever it is moved."""
    if any(seconds <= 0 for seconds in wanted.reminders):
        raise ValueError("a reminder comes before its appointment")
    cancel = ctx.wait_for_external_event(CANCEL_EVENT)
    move = ctx.wait_for_external_event(MOVE_EVENT, data_type=NewTime)
    key = ctx.new_uuid()
    moment = yield ctx.call_activity(to_utc, input=wanted.when)
    calendar = Calendar(key, wanted, wanted.when, datetime.fromisoformat(moment))
    if calendar.moment < ctx.current_utc_datetime:
        return (yield from end(ctx, calendar, "missed"))
    while not (yield from kept(ctx, calendar, cancel, move)):
        if cancel.is_complete:
            return (yield from end(ctx, calendar, "cancelled"))
        new = move.get_result()
        move = ctx.wait_for_external_event(MOVE_EVENT, data_type=NewTime)
        yield from change(ctx, calendar, new)
    return (yield from end(ctx, calendar, "begun"))


def kept(
    ctx: OrchestrationContext,
    calendar: Calendar,
    cancel: CancellableTask[Any],
    move: CancellableTask[NewTime],
) -> Generator[Task[Any], Any, bool]:
    """Remind of the appointment and wait until it begins; False if an event was quicker."""
    wanted = calendar.appointment
    for seconds in sorted(set(wanted.reminders), reverse=True):
        try:
            due = calendar.moment - timedelta(seconds=seconds)
        except OverflowError:  # before the first of all days
            continue
        if due < ctx.current_utc_datetime:
            continue
        status(ctx, calendar, "reminder")
        if not (yield from came(ctx, due, cancel, move)):
            return False
        key = f"{calendar.key}/{calendar.moved}/remind/{seconds}"
        reminder = Reminder(key, wanted.attendee, wanted.title, calendar.moment.isoformat())
        yield ctx.call_activity(remind, input=reminder, retry_policy=TELL_RETRY)
    status(ctx, calendar, "begin")
    return (yield from came(ctx, calendar.moment, cancel, move))


def came(
    ctx: OrchestrationContext,
    moment: datetime,
    cancel: CancellableTask[Any],
    move: CancellableTask[NewTime],
) -> Generator[Task[Any], Any, bool]:
    """Wait for a moment; False if an event was quicker."""
    timer = ctx.create_timer(moment)
    contenders: list[Task[Any]] = [cancel, move, timer]
    if (yield when_any(contenders)) is timer:
        return True
    timer.cancel()
    return False


def change(ctx: OrchestrationContext, calendar: Calendar, new: Any) -> Generator[Task[Any], Any, None]:
    """Move the appointment, if the new time is one it can be moved to; tell the attendee."""
    calendar.requests += 1
    when, reason = calendar.when, "a new time was asked for that is none"
    if isinstance(new, NewTime):  # whatever cannot be made one arrives as plain JSON
        when = WallTime(new.at, new.zone or calendar.when.zone)
        try:
            moment = datetime.fromisoformat((yield ctx.call_activity(to_utc, input=when)))
        except TaskFailedError as failure:
            reason = failure.details.message
        else:
            if moment >= ctx.current_utc_datetime:
                calendar.when, calendar.moment = when, moment
                calendar.moved += 1
                yield tell(ctx, calendar, f"moved/{calendar.requests}", f"is now at {when.at} ({when.zone})")
                return
            reason = f"{when.at} ({when.zone}) is over"
    log = ctx.create_replay_safe_logger(logger)
    log.warning("appointment %s cannot be moved: %s", ctx.instance_id, reason)
    yield tell(ctx, calendar, f"moved/{calendar.requests}", f"stays where it was: {reason}")


def end(
    ctx: OrchestrationContext, calendar: Calendar, outcome: str
) -> Generator[Task[Any], Any, AppointmentResult]:
    """Tell the attendee how it ended."""
    at = calendar.moment.isoformat()
    ctx.set_custom_status({"status": outcome, "at": at})
    texts = {"begun": "begins now", "cancelled": "is cancelled", "missed": "would have been in the past"}
    yield tell(ctx, calendar, "end", texts[outcome])
    return AppointmentResult(outcome, at, calendar.moved)


def status(ctx: OrchestrationContext, calendar: Calendar, waits_for: str) -> None:
    """Say for when the appointment is set, and what comes next."""
    ctx.set_custom_status({"status": "waiting", "at": calendar.moment.isoformat(), "next": waits_for})


def tell(ctx: OrchestrationContext, calendar: Calendar, step: str, text: str) -> Task[None]:
    """Tell the attendee something about the appointment."""
    wanted = calendar.appointment
    note = Note(f"{calendar.key}/{step}", wanted.attendee, f"The appointment {wanted.title} {text}.")
    return ctx.call_activity(tell_attendee, input=note, retry_policy=TELL_RETRY)


def to_utc(ctx: ActivityContext, when: WallTime) -> str:
    """The moment, naive UTC in ISO format, at which the clocks of a place show a time."""
    return utc_of(when).isoformat()


def utc_of(when: WallTime) -> datetime:
    """The moment, naive UTC, at which the clocks of a place show a time.

    Raises
    ------
    UnusableTime
        If there is no such place, or no such time.
    """
    try:
        zone = ZoneInfo(when.zone)
    except (KeyError, ValueError, TypeError, OSError):  # a name such as "Europe" is a directory
        raise UnusableTime(
            f"the time zone {when.zone!r} is not known: take one like 'Europe/Berlin'"
        ) from None
    try:
        local = datetime.fromisoformat(when.at)
    except (ValueError, TypeError):
        raise UnusableTime(
            f"the time {when.at!r} is not understood: take one like '2026-03-29T09:30'"
        ) from None
    if local.tzinfo is not None:
        raise UnusableTime(f"the time {when.at!r} has an offset of its own: leave it to {when.zone}")
    try:
        # With fold=0, which is the default, a time that comes twice is the first of the two, and one that
        # does not exist is read with the offset before the gap, so it comes out behind it.
        return local.replace(tzinfo=zone).astimezone(timezone.utc).replace(tzinfo=None)
    except OverflowError:
        raise UnusableTime(f"the time {when.at!r} in {when.zone} is out of range") from None


def remind(ctx: ActivityContext, reminder: Reminder) -> None:
    """Remind someone of an appointment, and of how soon it is."""
    left = datetime.fromisoformat(reminder.at) - datetime.now(timezone.utc).replace(tzinfo=None)
    text = f"The appointment {reminder.title} {in_words(left)}."
    services().store.notify(reminder.key, reminder.to, text)


def in_words(left: timedelta) -> str:
    """How soon something is, such as ``"begins in 3 hours"``."""
    minutes = left / timedelta(minutes=1)
    for unit, length in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * length:
            return f"begins in {round(minutes / length)} {unit}"
    if minutes >= 1:
        return f"begins in {round(minutes)} minute{'s' if round(minutes) > 1 else ''}"
    return "begins now" if left >= timedelta(0) else "has begun"


def tell_attendee(ctx: ActivityContext, note: Note) -> None:
    """Tell someone about an appointment."""
    services().store.notify(note.key, note.to, note.text)


ORCHESTRATORS = (appointment,)
ACTIVITIES = (to_utc, remind, tell_attendee)
ENTITIES = ()
