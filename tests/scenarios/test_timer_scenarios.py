"""Timers: short ones everywhere, long ones where time is virtual."""

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from durabletask.history import TimerCreatedEvent
from durabletask.task import TaskCancelledError, when_all, when_any

SOON = timedelta(milliseconds=20)


def register(worker):
    for orchestrator in (
        nap, nap_until, nap_until_aware, too_late, race_with_a_deadline, cancelled, cancelled_by_hand,
        one_by_one, in_reverse, remind, long_sleep, countdown, waits_for_what_is_cancelled,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_activity(note)


def note(ctx, what):
    return what


def nap(ctx, seconds):
    before = ctx.current_utc_datetime
    yield ctx.create_timer(timedelta(seconds=seconds))
    return (ctx.current_utc_datetime - before).total_seconds()


def test_a_timer_fires_when_its_time_has_passed_and_not_before(world):
    assert world.output_of(nap, input=0.03) >= 0.03


@pytest.mark.long_timers
@pytest.mark.parametrize("days", [1, 45])
def test_a_timer_of_days(world, days):
    assert world.output_of(nap, input=days * 86_400) == days * 86_400


def nap_until(ctx, _):
    due = ctx.current_utc_datetime + SOON
    result = yield ctx.create_timer(due)
    return [result, ctx.current_utc_datetime >= due]


def test_a_timer_until_a_moment(world):
    assert world.output_of(nap_until) == [None, True]


def nap_until_aware(ctx, _):
    due = ctx.current_utc_datetime + SOON
    there = timezone(timedelta(hours=-5))
    yield ctx.create_timer(due.replace(tzinfo=timezone.utc).astimezone(there))
    return timedelta(0) <= ctx.current_utc_datetime - due < timedelta(hours=1)


def test_a_moment_may_name_its_time_zone(world):
    assert world.output_of(nap_until_aware) is True


def too_late(ctx, _):
    yield ctx.create_timer(ctx.current_utc_datetime - timedelta(days=1))
    return "at once"


def test_a_moment_that_has_passed_is_now(world):
    assert world.output_of(too_late) == "at once"


def race_with_a_deadline(ctx, hours):
    deadline = ctx.create_timer(timedelta(hours=hours))
    approval = ctx.wait_for_external_event("approval")
    if (yield when_any([approval, deadline])) is deadline:
        return "timed out"
    deadline.cancel()
    return approval.get_result()


def test_an_event_beats_its_deadline(world):
    instance_id = world.start(race_with_a_deadline, input=5)
    world.client.raise_orchestration_event(instance_id, "approval", data="yes")
    assert world.finish(instance_id).get_output() == "yes"


@pytest.mark.long_timers
def test_a_deadline_passes_when_no_event_comes(world):
    before = world.now()
    assert world.output_of(race_with_a_deadline, input=5) == "timed out"
    assert world.now() - before >= timedelta(hours=5)


def cancelled(ctx, _):
    timer = ctx.create_timer(timedelta(hours=1))
    yield ctx.call_activity(note, input="first")
    done = [timer.cancel(), timer.is_cancelled, timer.is_complete, timer.cancel()]
    try:
        timer.get_result()
    except TaskCancelledError as error:
        return [*done, str(error)]


def test_a_cancelled_timer_has_no_result(world):
    assert world.output_of(cancelled) == [True, True, True, False, "The task was cancelled."]


def waits_for_what_is_cancelled(ctx, _):
    timer = ctx.create_timer(timedelta(hours=1))
    yield ctx.call_activity(note)
    timer.cancel()
    yield timer


def test_to_wait_for_a_cancelled_timer_fails_the_orchestration(world):
    assert world.failure_of(waits_for_what_is_cancelled).error_type == "durabletask.task.TaskCancelledError"


def cancelled_by_hand(ctx, _):
    timer = ctx.create_timer(timedelta(hours=1))
    timer.cancel()
    yield ctx.call_activity(note)
    return timer.is_cancelled


def test_a_timer_cancelled_in_the_turn_that_made_it_is_never_created(world):
    state = world.run(cancelled_by_hand)
    assert state.get_output() is True
    events = world.client.get_orchestration_history(state.instance_id)
    assert not [event for event in events if isinstance(event, TimerCreatedEvent)]


def one_by_one(ctx, _):
    timers = [ctx.create_timer(SOON), ctx.create_timer(timedelta(0))]
    yield when_all(timers)
    return [timer.get_result() for timer in timers]


def test_all_of_several_timers(world):
    assert world.output_of(one_by_one) == [None, None]


def in_reverse(ctx, hours):
    fired = []
    timers = [ctx.create_timer(timedelta(hours=n)) for n in hours]
    while len(fired) < len(hours):
        winner = yield when_any([timer for timer in timers if not timer.is_complete])
        fired.append(hours[timers.index(winner)])
    return fired


@pytest.mark.long_timers
def test_timers_fire_in_the_order_of_their_times(world):
    assert world.output_of(in_reverse, input=[9, 1, 5, 3]) == [1, 3, 5, 9]


def remind(ctx, limit):
    sent = []
    answer = ctx.wait_for_external_event("answer")
    while len(sent) < limit:
        pause = ctx.create_timer(timedelta(days=30))
        if (yield when_any([answer, pause])) is answer:
            return "answered"
        sent.append((yield ctx.call_activity(note, input=ctx.current_utc_datetime.isoformat())))
    return sent


@pytest.mark.long_timers
def test_a_reminder_every_month(world):
    sent = [datetime.fromisoformat(moment) for moment in world.output_of(remind, input=4)]
    assert [later - earlier for earlier, later in pairwise(sent)] == 3 * [timedelta(days=30)]


def long_sleep(ctx, days):
    yield ctx.create_timer(timedelta(days=days))
    return ctx.current_utc_datetime.isoformat()


@pytest.mark.long_timers
def test_a_timer_longer_than_the_worker_allows_is_chunked(world):
    state = world.run(long_sleep, input=10)
    events = world.client.get_orchestration_history(state.instance_id)
    due = [event.fire_at for event in events if isinstance(event, TimerCreatedEvent)]
    assert [later - earlier for earlier, later in pairwise(due)] == [
        timedelta(days=3),
        timedelta(days=3),
        timedelta(days=1),
    ]


@pytest.mark.long_timers
@pytest.mark.application(register=register, maximum_timer_interval=timedelta(days=6))
def test_the_length_of_the_chunks_is_set_on_the_worker(world):
    state = world.run(long_sleep, input=10)
    events = world.client.get_orchestration_history(state.instance_id)
    assert len([event for event in events if isinstance(event, TimerCreatedEvent)]) == 2


def countdown(ctx, number):
    if number:
        yield ctx.create_timer(timedelta(hours=1))
        ctx.continue_as_new(number - 1)
    return "lift off"


@pytest.mark.long_timers
def test_two_instances_share_one_clock(world):
    """The one that waits longer ends later, and by as much."""
    short = world.client.schedule_new_orchestration(countdown, input=2)
    long = world.client.schedule_new_orchestration(countdown, input=5)
    ended = [world.finish(instance_id).last_updated_at for instance_id in (long, short)]
    assert timedelta(hours=2.9) < ended[0] - ended[1] < timedelta(hours=3.1)
