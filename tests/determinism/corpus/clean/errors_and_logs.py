"""Errors that are caught with measure, retries with limits, and logs that do not repeat."""

import logging
from contextlib import suppress
from datetime import timedelta

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, TaskFailedError

logger = logging.getLogger(__name__)
FIVE = timedelta(seconds=5)
POLICY = RetryPolicy(first_retry_interval=FIVE, max_number_of_attempts=3, max_retry_interval=timedelta(minutes=1))


def fail(ctx: ActivityContext, text: str) -> str:
    raise ValueError(text)


def succeed(ctx: ActivityContext, text: str) -> str:
    logger.info("did %s", text)
    print(text)
    return text


def except_exception(ctx: OrchestrationContext, text: str):
    try:
        return (yield ctx.call_activity(fail, input=text))
    except Exception as error:
        return type(error).__name__


def except_the_failure(ctx: OrchestrationContext, text: str):
    try:
        yield ctx.call_activity(fail, input=text)
    except TaskFailedError:
        return (yield ctx.call_activity(succeed, input="undone"))


def raises_again(ctx: OrchestrationContext, text: str):
    done = []
    try:
        done.append((yield ctx.call_activity(succeed, input=text)))
    except BaseException:
        done.clear()
        raise
    return done


def bare_without_a_yield(ctx: OrchestrationContext, text: str):
    try:
        number = int(text)
    except:
        number = 0
    return (yield ctx.call_activity(succeed, input=str(number)))


def finally_around_a_yield(ctx: OrchestrationContext, text: str):
    steps = [text]
    try:
        yield ctx.call_activity(succeed, input=text)
    finally:
        steps.clear()
    return steps


def suppresses_failures(ctx: OrchestrationContext, text: str):
    with suppress(TaskFailedError, KeyError):
        yield ctx.call_activity(fail, input=text)
    return "went on"


def retries(ctx: OrchestrationContext, text: str):
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2, backoff_coefficient=2)
    yield ctx.call_activity(succeed, input=text, retry_policy=policy)
    return (yield ctx.call_activity(succeed, input=text, retry_policy=POLICY))


def no_timeout(ctx: OrchestrationContext, text: str):
    policy = RetryPolicy(first_retry_interval=FIVE, max_number_of_attempts=2, retry_timeout=None)
    return (yield ctx.call_activity(succeed, input=text, retry_policy=policy))


def interval_of_the_input(ctx: OrchestrationContext, seconds: float):
    interval = timedelta(seconds=seconds)
    policy = RetryPolicy(first_retry_interval=interval * 2, max_number_of_attempts=2)
    return (yield ctx.call_activity(succeed, input="x", retry_policy=policy))


def replay_safe_logger(ctx: OrchestrationContext, text: str):
    log = ctx.create_replay_safe_logger(logger)
    log.info("doing %s", text)
    result = yield ctx.call_activity(succeed, input=text)
    log.warning("did %s", result)
    return result


def replay_safe_under_the_same_name(ctx: OrchestrationContext, text: str):
    logger = ctx.create_replay_safe_logger(logging.getLogger("corpus"))
    logger.info("doing %s", text)
    return (yield ctx.call_activity(succeed, input=text))


def logs_when_it_does_not_replay(ctx: OrchestrationContext, text: str):
    # Clean: nothing but the log depends on it.
    if not ctx.is_replaying:
        logger.info("doing %s", text)
    result = yield ctx.call_activity(succeed, input=text)
    if not ctx.is_replaying:
        print("did", result)
    return result


def status_of_its_own(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(succeed, input=text)
    ctx.set_custom_status(f"logged {text}")
    return text


RUN = [
    (except_exception, "x"),
    (except_the_failure, "x"),
    (raises_again, "x"),
    (bare_without_a_yield, "x"),
    (finally_around_a_yield, "x"),
    (suppresses_failures, "x"),
    (retries, "x"),
    (no_timeout, "x"),
    (interval_of_the_input, 1.5),
    (replay_safe_logger, "x"),
    (replay_safe_under_the_same_name, "x"),
    (logs_when_it_does_not_replay, "x"),
    (status_of_its_own, "x"),
]


def register(worker):
    worker.add_activity(fail)
    worker.add_activity(succeed)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
