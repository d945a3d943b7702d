"""Activities that fail, and are tried again."""

from datetime import datetime, timedelta

import pytest
from durabletask.history import TaskScheduledEvent
from durabletask.task import RetryPolicy, TaskFailedError, when_all
from world import failure, output

CALLS = {}
SOON = timedelta(milliseconds=1)


def register(worker):
    for orchestrator in (
        steady,
        lets_it_fail,
        gives_up,
        two_at_once,
        paced,
        without_a_policy,
        wrong_policy,
    ):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(flaky)


def flaky(ctx, given):
    """Fails the first ``given`` times that it is called for one task of one instance."""
    key = ctx.orchestration_id, ctx.task_id
    CALLS[key] = CALLS.get(key, 0) + 1
    if CALLS[key] <= given:
        raise ConnectionError(f"attempt {CALLS[key]}")
    return CALLS[key]


def steady(ctx, failures):
    policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=5)
    return (yield ctx.call_activity(flaky, input=failures, retry_policy=policy))


@pytest.mark.parametrize("failures", [0, 1, 4])
def test_an_activity_is_tried_again_until_it_succeeds(world, failures):
    state = world.run(steady, input=failures)
    assert output(state) == failures + 1
    events = world.client.get_orchestration_history(state.instance_id)
    scheduled = [event.event_id for event in events if isinstance(event, TaskScheduledEvent)]
    assert scheduled == [1] * (failures + 1)


def lets_it_fail(ctx, attempts):
    policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=attempts)
    yield ctx.call_activity(flaky, input=99, retry_policy=policy)


@pytest.mark.parametrize("attempts", [1, 3])
def test_when_the_attempts_are_used_up_the_last_failure_counts(world, attempts):
    details = failure(world.run(lets_it_fail, input=attempts))
    assert details.error_type == "durabletask.task.TaskFailedError"
    assert details.inner_failure.error_type == "builtins.ConnectionError"
    assert details.inner_failure.message == f"attempt {attempts}"


def gives_up(ctx, _):
    policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=2)
    try:
        yield ctx.call_activity(flaky, input=99, retry_policy=policy)
    except TaskFailedError as error:
        return (yield ctx.call_activity(flaky, input=0)), error.details.message


def test_the_orchestrator_can_go_on_after_the_last_attempt(world):
    assert world.output_of(gives_up) == [1, "attempt 2"]


def two_at_once(ctx, _):
    policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=4)
    return (yield when_all([ctx.call_activity(flaky, input=n, retry_policy=policy) for n in (3, 0, 1)]))


def test_each_of_several_is_retried_on_its_own(world):
    assert world.output_of(two_at_once) == [4, 1, 2]


def without_a_policy(ctx, _):
    yield ctx.call_activity(flaky, input=1)


def test_without_a_policy_the_first_failure_counts(world):
    assert world.failure_of(without_a_policy).inner_failure.message == "attempt 1"


def no_time_left(ctx, _):
    policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=5, retry_timeout=timedelta(0))
    yield ctx.call_activity(flaky, input=1, retry_policy=policy)


def register_on_its_own(worker):
    worker.add_orchestrator(no_time_left)
    worker.add_activity(flaky)


# The SDK's worker looks at the wall clock, and the virtual time of a shared hub may be days ahead of it.
@pytest.mark.application(register=register_on_its_own)
def test_when_the_time_for_retries_is_over_there_are_no_more(world):
    assert world.failure_of(no_time_left).inner_failure.message == "attempt 1"


def paced(ctx, options):
    seconds = {
        name: timedelta(seconds=options.pop(name)) for name in list(options) if name.endswith("interval")
    }
    policy = RetryPolicy(max_number_of_attempts=4, **seconds, **options)
    tried = yield ctx.call_activity(flaky, input=3, retry_policy=policy)
    assert tried == 4
    return [ctx.current_utc_datetime.isoformat()]


@pytest.mark.long_timers
@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({"first_retry_interval": 60}, 60 + 60 + 60),
        ({"first_retry_interval": 60, "backoff_coefficient": 3.0}, 60 + 180 + 540),
        (
            {"first_retry_interval": 60, "backoff_coefficient": 10.0, "max_retry_interval": 300},
            60 + 300 + 300,
        ),
    ],
)
def test_the_waits_between_attempts(world, options, waits):
    state = world.run(paced, input=options)
    (ended,) = output(state)
    assert datetime.fromisoformat(ended) - state.created_at == pytest.approx(
        timedelta(seconds=waits), abs=timedelta(seconds=5)
    )


def wrong_policy(ctx, options):
    RetryPolicy(first_retry_interval=SOON, **options)
    yield ctx.call_activity(flaky, input=0)


@pytest.mark.parametrize(
    "options", [{"max_number_of_attempts": 0}, {"max_number_of_attempts": 1, "backoff_coefficient": 0.5}]
)
def test_a_policy_that_makes_no_sense_fails_the_orchestration(world, options):
    details = world.failure_of(wrong_policy, input=options)
    assert details.error_type == "builtins.ValueError"
    assert "must be >= 1" in details.message
