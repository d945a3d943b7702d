"""Histories of a worker that splits long timers otherwise than the replay is told."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from durabletask.client import TaskHubGrpcClient
from durabletask.task import RetryPolicy, when_any
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import TaskHub, assert_replays, replay

DAY = timedelta(days=1)
QUIET = logging.Logger("quiet", logging.CRITICAL)
PASS_THREE_DAYS = (
    "looks as recorded by a worker that splits timers into 3 days: pass maximum_timer_interval="
    "timedelta(days=3) (--maximum-timer-interval 3 in the shell, dt_maximum_timer_interval = 3 in the "
    "configuration of pytest)."
)
CLEAN = "With that, it replays clean."


def reminder(*waits, then="remind", input="ada"):
    """An orchestrator that waits so many days, and does something after each wait."""

    def reminds(ctx, _):
        for days in waits:
            yield ctx.create_timer(days * DAY)
            yield ctx.call_activity(then, input=input)
        return "reminded"

    return reminds


def recorded(orchestrator, interval=None, *, after=None, event_after=None):
    """A history, of an instance that has ended, or of one in flight after so many days."""
    hub = TaskHub(maximum_timer_interval=interval and interval * DAY)
    hub.add_orchestrator(orchestrator)
    hub.stub("remind")
    hub.stub("mail")
    if after is None and event_after is None:
        return hub.run(orchestrator, instance_id="r-1").history
    instance = hub.start(orchestrator, instance_id="r-1")
    hub.advance((event_after or after) * DAY)
    if event_after is not None:
        instance.raise_event("approved")
        hub.settle()
        assert instance.is_terminal
    return instance.history


def approval(days):
    def approves(ctx, _):
        approved = ctx.wait_for_external_event("approved")
        late = ctx.create_timer(days * DAY)
        if (yield when_any([approved, late])) is late:
            yield ctx.call_activity("remind")
        return "over"

    return approves


def test_the_history_of_a_real_worker_with_a_long_timer_is_told_from_a_broken_release():
    hub, code = TaskHub(), reminder(30)
    with hub.serve() as server, TaskHubGrpcWorker(host_address=server.address, logger=QUIET) as worker:
        worker.add_orchestrator(code)
        worker.add_activity(remind)
        worker.start()
        with TaskHubGrpcClient(host_address=server.address, logger=QUIET) as client:
            started = client.schedule_new_orchestration(code)
            assert client.wait_for_orchestration_completion(started, timeout=30).get_output() == "reminded"
    history = hub.instance(started).history
    report = replay(history, code)
    assert not report.ok
    assert str(report).endswith(f"Way out: the history {PASS_THREE_DAYS} {CLEAN}")
    assert_replays(history, code, maximum_timer_interval=3 * DAY)


def remind(ctx, name):
    return name


@pytest.mark.parametrize("days", [1, 7, 0.25])
def test_the_interval_is_that_of_the_history_whatever_it_is(days):
    history = recorded(reminder(30), days)
    text = str(replay(history, reminder(30)))
    assert f"Way out: the history looks as recorded by a worker that splits timers into {days} day" in text
    assert f"pass maximum_timer_interval=timedelta(days={days}) (--maximum-timer-interval {days} in" in text
    assert text.endswith(CLEAN)
    assert replay(history, reminder(30), maximum_timer_interval=timedelta(days=days)).ok


def test_an_interval_that_is_no_round_number_of_days_can_be_passed_as_it_is_told():
    history = recorded(reminder(1), 10 / 24)
    text = replay(history, reminder(1)).explain()
    told = float(text.partition("--maximum-timer-interval ")[2].split()[0])
    assert replay(history, reminder(1), maximum_timer_interval=timedelta(days=told)).ok


@pytest.mark.parametrize("waits", [(30,), (1, 30), (30, 30)])
@pytest.mark.parametrize("after", [None, 9])
def test_where_the_timer_stands_in_the_history_does_not_matter(waits, after):
    report = replay(recorded(reminder(*waits), 3, after=after), reminder(*waits))
    assert str(report).endswith(f"Way out: the history {PASS_THREE_DAYS} {CLEAN}")


def test_an_event_that_ends_the_wait_ends_the_search_too():
    history = recorded(approval(30), 3, event_after=10)
    assert f"Way out: the history {PASS_THREE_DAYS} {CLEAN}" in str(replay(history, approval(30)))


def test_the_waits_of_a_retry_policy_are_split_as_well():
    def retries(ctx, _):
        policy = RetryPolicy(first_retry_interval=10 * DAY, max_number_of_attempts=2)
        return (yield ctx.call_activity("charge", retry_policy=policy))

    hub = TaskHub(maximum_timer_interval=3 * DAY)
    hub.add_orchestrator(retries)
    hub.stub("charge", side_effect=[ConnectionError("reset"), "PAY-1"])
    history = hub.run(retries).history
    assert f"{PASS_THREE_DAYS} {CLEAN}" in str(replay(history, retries))


def test_a_change_of_the_code_beside_it_is_left_over_and_keeps_the_general_advice():
    report = replay(recorded(reminder(30), 3), reminder(30, input="ben"))
    assert f"The history {PASS_THREE_DAYS} With that, 1 divergence is left." in report.explain()
    assert "Way out: if the code was changed on purpose" in str(report)
    # One before it does not hide it.
    report = replay(recorded(reminder(2, 30), 3), reminder(1, 30))
    assert f"The history {PASS_THREE_DAYS} With that, 1 divergence is left." in report.explain()


def test_the_divergences_stay_and_so_does_what_a_worker_makes_of_them():
    report = replay(recorded(reminder(30), 3), reminder(30))
    assert [each.kind for each in report.divergences] == ["changed", "changed"]
    assert report.worker_outcome == "fails"


def test_an_interval_too_many_is_told_as_well():
    history = recorded(reminder(30))
    report = replay(history, reminder(30), maximum_timer_interval=3 * DAY)
    assert str(report).endswith(
        "Way out: the history looks as recorded by a worker that splits no timers: leave "
        "maximum_timer_interval out (--maximum-timer-interval in the shell, dt_maximum_timer_interval in the "
        f"configuration of pytest). {CLEAN}"
    )
    assert replay(history, reminder(30)).ok


@pytest.mark.parametrize("given", [1, 10])
def test_so_is_another_interval_than_that_of_the_history(given):
    report = replay(recorded(reminder(30), 3), reminder(30), maximum_timer_interval=given * DAY)
    assert str(report).endswith(f"{PASS_THREE_DAYS} {CLEAN}")


@pytest.mark.parametrize(
    ("was", "now", "options"),
    [
        (reminder(14), reminder(30), {}),
        (reminder(30), reminder(14), {}),
        (reminder(3), reminder(30), {}),
        (reminder(14), reminder(30), {"maximum_timer_interval": 3 * DAY}),
        (reminder(1, 1), reminder(2, 1), {}),
        (reminder(14, 14), reminder(30, 14, then="mail"), {}),
    ],
)
def test_a_timer_that_was_really_changed_gets_no_such_hint(was, now, options):
    given = options.get("maximum_timer_interval")
    report = replay(recorded(was, given and given / DAY), now, **options)
    assert report.divergences[0].field == "fire_at"
    assert "maximum_timer_interval" not in str(report)
    assert "Way out: if the code was changed on purpose" in str(report)


@pytest.mark.parametrize("days", [1, 2, 4, 14])
def test_nor_does_one_that_never_fired(days):
    changed = replay(recorded(approval(days), event_after=0.5), approval(days + 30))
    assert "maximum_timer_interval" not in str(changed)
    changed = replay(recorded(approval(days), after=0.5), approval(days + 30))
    assert "maximum_timer_interval" not in str(changed)


def test_waits_in_a_row_that_became_one_of_another_length_get_none_either():
    def waits(*days):
        def waits(ctx, _):
            for each in days:
                yield ctx.create_timer(each * DAY)
            yield ctx.call_activity("remind")

        return waits

    assert "maximum_timer_interval" not in str(replay(recorded(waits(14, 14, 14)), waits(30)))


def test_a_first_part_of_three_days_may_be_the_default_of_a_worker_and_the_report_says_no_more_than_that():
    text = str(replay(recorded(reminder(30), 3, after=1), reminder(30)))
    assert (
        "If the history is of a TaskHubGrpcWorker, it is of a worker that splits timers into 3 days" in text
    )
    assert "looks as recorded" not in text
    assert "Way out: if the code was changed on purpose" in text


def test_a_clock_that_sets_a_timer_gets_no_such_hint():
    times = iter([5 * DAY, 6 * DAY, 7 * DAY])

    def clock(ctx, _):
        yield ctx.create_timer(next(times))

    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(clock)
    assert "maximum_timer_interval" not in str(replay(hub.run(clock).history, clock))
