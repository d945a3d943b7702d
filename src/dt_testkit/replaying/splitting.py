"""Whether a history is of a worker that splits long timers otherwise than its replay does."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from durabletask import history as h
from durabletask.worker import DEFAULT_MAXIMUM_TIMER_INTERVAL

from dt_testkit.execution.execution import naive
from dt_testkit.replaying.report import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dt_testkit.replaying.check import Check
    from dt_testkit.replaying.report import Divergence

_CANDIDATES = 3  # how many intervals that a history suggests are tried


class Splitting(NamedTuple):
    """A sentence on how the timers of a history are split, and whether that explains all that diverges."""

    text: str
    explains_all: bool


def splitting(check: Check, again: Callable[[timedelta | None], Check]) -> Splitting | None:
    """What to say of a replay in which timers diverge; None if no other interval gets past one of them.

    ``again`` replays the same history with another ``maximum_timer_interval``.
    """
    timers = [each for each in check.divergences if each.field == "fire_at"]
    if not timers:
        return None
    given = check.execution.context._options.maximum_timer_interval
    candidates: dict[timedelta | None, int] = {None: timers[0].event_id} if given is not None else {}
    for distance, timer in _distances(check.events, timers):
        candidates.setdefault(distance, timer)
    for interval, timer in islice(candidates.items(), _CANDIDATES):
        other = again(interval)
        parts = [part for part, first in other.execution.context._parts.items() if first == timer]
        if not _gets_past(timer, parts, other, check):
            continue
        recorded = {event.event_id for event in check.events if type(event) is h.TimerCreatedEvent}
        # One part may as well be a timer that was changed since. The worker's default is worth a word.
        is_seen = interval is None or not recorded.isdisjoint(parts)
        if is_seen or (given is None and interval == DEFAULT_MAXIMUM_TIMER_INTERVAL):
            return _said(interval, is_seen, len(other.divergences))
    return None


def _distances(
    events: Sequence[h.HistoryEvent], timers: Sequence[Divergence]
) -> Iterator[tuple[timedelta, int]]:
    """How far recorded timers are from the time of their turns, and their ids."""
    turns: dict[tuple[int, datetime], datetime] = {}
    now: datetime | None = None
    for event in events:
        if isinstance(event, h.OrchestratorStartedEvent):
            now = naive(event.timestamp)
        elif isinstance(event, h.TimerCreatedEvent) and now is not None:
            turns[event.event_id, naive(event.fire_at)] = now
    for timer in timers:
        begun = turns.get((timer.event_id, timer.expected))
        if begun is not None and begun < timer.expected:
            yield timer.expected - begun, timer.event_id


def _gets_past(timer: int, parts: Sequence[int], other: Check, check: Check) -> bool:
    """Whether the other replay has all parts of a timer as recorded, and nothing new before them."""
    last = max(timer, *parts) if parts else timer
    return not any(
        0 <= each.event_id <= last
        and (each.event_id == timer or each.event_id in parts or each not in check.divergences)
        for each in other.divergences
    )


def _said(interval: timedelta | None, is_seen: bool, left: int) -> Splitting:
    then = f"{plural(left, 'divergence')} {'is' if left == 1 else 'are'} left" if left else "it replays clean"
    looks = "the history looks as recorded by a worker that splits"
    if interval is None:
        how = f"{looks} no timers: leave maximum_timer_interval out (--maximum-timer-interval in the shell, "
        how += "dt_maximum_timer_interval in the configuration of pytest)"
    else:
        number = f"{interval / timedelta(days=1):.15g}"
        days = f"{number} {'day' if number == '1' else 'days'}"
        if not is_seen:
            looks = "if the history is of a TaskHubGrpcWorker, it is of a worker that splits"
        how = f"{looks} timers into {days}: pass maximum_timer_interval=timedelta(days={number}) "
        how += (
            f"(--maximum-timer-interval {number} in the shell, dt_maximum_timer_interval = {number} in the "
        )
        how += "configuration of pytest)"
    explains_all = is_seen and not left
    lead = "Way out: " if explains_all else ""
    how = how if lead else f"{how[:1].upper()}{how[1:]}"
    return Splitting(f"{lead}{how}. With that, {then}.", explains_all)
