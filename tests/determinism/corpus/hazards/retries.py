"""Policies that the SDK judges by the wall clock, or cannot use; and excepts that swallow too much."""

import contextlib
from collections import Counter
from contextlib import suppress
from datetime import timedelta

from durabletask import task
from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy
from durabletask.task import RetryPolicy as Policy

PATIENT = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=9, retry_timeout=timedelta(hours=1))  #! DT117

ATTEMPTS: Counter = Counter()
FAILURES = {"fails": 9, "fails once": 1, "fails thrice": 3}


def fetch(ctx: ActivityContext, name: str) -> str:
    ATTEMPTS[name] += 1
    if ATTEMPTS[name] % (FAILURES.get(name, 0) + 1):
        raise ValueError(name)
    return name


def timeout_in_place(ctx: OrchestrationContext, name: str):
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, retry_timeout=timedelta(minutes=5))  #! DT117
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def timeout_of_the_module(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(fetch, input=name, retry_policy=PATIENT))  #? DT117


def timeout_of_a_child(ctx: OrchestrationContext, name: str):
    yield ctx.call_sub_orchestrator(timeout_in_place, input=name, retry_policy=task.RetryPolicy(first_retry_interval=timedelta(1), max_number_of_attempts=2, retry_timeout=timedelta(7)))  #! DT117


def timeout_by_unpacking(ctx: OrchestrationContext, name: str):
    options = {"first_retry_interval": timedelta(1), "max_number_of_attempts": 2, "retry_timeout": timedelta(9)}  #? DT117
    yield ctx.call_activity(fetch, input=name, retry_policy=Policy(**options))  #! DT117


def timeout_in_a_factory(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(fetch, input=name, retry_policy=policy_for(5))


def policy_for(minutes: int) -> RetryPolicy:
    limit = timedelta(minutes=minutes)
    return Policy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, retry_timeout=limit)  #! DT117


def seconds_as_a_number(ctx: OrchestrationContext, name: str):
    policy = RetryPolicy(first_retry_interval=5, max_number_of_attempts=3)  #! DT118
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def milliseconds_as_a_name(ctx: OrchestrationContext, name: str):
    interval = 5000
    policy = task.RetryPolicy(first_retry_interval=interval, max_number_of_attempts=3)  #! DT118
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def number_as_the_longest_interval(ctx: OrchestrationContext, name: str):
    policy = Policy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, max_retry_interval=60.0)  #! DT118
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def text_as_an_interval(ctx: OrchestrationContext, name: str):
    policy = RetryPolicy(first_retry_interval="PT5S", max_number_of_attempts=3)  #! DT118
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def seconds_of_a_duration(ctx: OrchestrationContext, name: str):
    policy = RetryPolicy(first_retry_interval=timedelta(minutes=1).total_seconds(), max_number_of_attempts=3)  #! DT118
    return (yield ctx.call_activity(fetch, input=name, retry_policy=policy))


def one_of_two_numbers(ctx: OrchestrationContext, name: str):
    policy = RetryPolicy(max_number_of_attempts=3, first_retry_interval=1 if name else 60)  #! DT118
    return (yield ctx.call_sub_orchestrator(timeout_in_place, input=name, retry_policy=policy))


def bare_except(ctx: OrchestrationContext, name: str):
    try:
        return (yield ctx.call_activity(fetch, input=name))
    except:  #! DT119
        return None


def base_exception(ctx: OrchestrationContext, name: str):
    try:
        return (yield ctx.call_activity(fetch, input=name))
    except BaseException as error:  #! DT119
        return str(error)


def in_a_tuple(ctx: OrchestrationContext, name: str):
    try:
        yield ctx.create_timer(timedelta(seconds=1))
        yield ctx.call_activity(fetch, input=name)
    except (ValueError, BaseException):  #! DT119
        pass


def suppressed(ctx: OrchestrationContext, name: str):
    with contextlib.suppress(BaseException):  #! DT119
        yield ctx.call_activity(fetch, input=name)


def around_a_nested_generator(ctx: OrchestrationContext, names: list):
    got = []
    for name in names:
        try:
            got.append((yield from bare_helper(ctx, name)))
        except:  #! DT119
            continue
    return got


def bare_helper(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(fetch, input=name))


def by_another_name(ctx: OrchestrationContext, name: str):
    anything = BaseException
    try:
        yield ctx.call_activity(fetch, input=name)
    except anything:  #! DT119
        return "failed"


def suppressed_by_an_imported_name(ctx: OrchestrationContext, name: str):
    with suppress(ValueError, BaseException):  #! DT119
        yield ctx.call_activity(fetch, input=name)


RUN = [
    (timeout_in_place, "fails once"),
    (timeout_of_the_module, "fails once"),
    (timeout_of_a_child, "fails thrice"),
    (timeout_by_unpacking, "fails once"),
    (timeout_in_a_factory, "fails once"),
    (seconds_as_a_number, "kim"),
    (milliseconds_as_a_name, "kim"),
    (number_as_the_longest_interval, "kim"),
    (text_as_an_interval, "kim"),
    (seconds_of_a_duration, "kim"),
    (one_of_two_numbers, "kim"),
    (bare_except, "fails"),
    (base_exception, "fails"),
    (in_a_tuple, "fails"),
    (suppressed, "fails"),
    (around_a_nested_generator, ["fails", "kim"]),
    (by_another_name, "fails"),
    (suppressed_by_an_imported_name, "fails"),
]


def register(worker):
    worker.add_activity(fetch)
    for orchestrator in (
        timeout_in_place,
        timeout_of_the_module,
        timeout_of_a_child,
        timeout_by_unpacking,
        timeout_in_a_factory,
        seconds_as_a_number,
        milliseconds_as_a_name,
        number_as_the_longest_interval,
        text_as_an_interval,
        seconds_of_a_duration,
        one_of_two_numbers,
        bare_except,
        base_exception,
        in_a_tuple,
        suppressed,
        around_a_nested_generator,
        by_another_name,
        suppressed_by_an_imported_name,
    ):
        worker.add_orchestrator(orchestrator)
