"""The wall clock, in the ways people import it."""

import datetime
import datetime as dt
import time
import time as clock
from datetime import date, datetime as DateTime, timedelta, timezone
from functools import partial
from time import monotonic, perf_counter as tick

from durabletask import task
from durabletask.task import OrchestrationContext


def remind(ctx: task.ActivityContext, when: str) -> str:
    return f"reminded at {when}"


def module_datetime(ctx: OrchestrationContext, _):
    started = datetime.datetime.now()  #! DT101
    return (yield ctx.call_activity(remind, input=started.isoformat()))


def utcnow_of_the_class(ctx: OrchestrationContext, _):
    deadline = DateTime.utcnow() + timedelta(days=1)  #! DT101
    yield ctx.create_timer(deadline)


def aliased_module(ctx: task.OrchestrationContext, _):
    yield ctx.call_activity(remind, input=str(dt.datetime.now(tz=dt.timezone.utc)))  #! DT101


def today(ctx: OrchestrationContext, _):
    if date.today().weekday() >= 5:  #! DT101
        return "weekend"
    return (yield ctx.call_activity(remind, input="monday"))


def today_of_a_datetime(ctx: OrchestrationContext, _):
    day = DateTime.today()  #! DT101
    yield ctx.call_activity(remind, input=f"{day:%Y-%m-%d}")


def seconds(ctx, _):
    yield ctx.call_activity(remind, input=str(time.time()))  #! DT101


def elapsed(ctx, _):
    before = ctx.current_utc_datetime
    yield ctx.create_timer(timedelta(seconds=5))
    return clock.perf_counter_ns() - before.microsecond  #! DT101


def imported_alone(ctx, limit):
    while monotonic() < limit:  #! DT101
        yield ctx.create_timer(timedelta(seconds=1))


def imported_under_another_name(ctx, _):
    yield ctx.create_timer(timedelta(seconds=1))
    return tick()  #! DT101


def local_import(ctx, _):
    from time import time_ns as nanoseconds

    yield ctx.call_activity(remind, input=str(nanoseconds()))  #! DT101


def current_local_time(ctx, _):
    hour = time.localtime().tm_hour  #! DT101
    yield ctx.call_activity(remind, input="morning" if hour < 12 else "evening")


def formatted(ctx, _):
    yield ctx.call_activity(remind, input=time.strftime("%H:%M"))  #! DT101


def in_a_lambda(ctx, _):
    stamp = lambda: DateTime.now(timezone.utc).isoformat()  #! DT101
    yield ctx.call_activity(remind, input=stamp())


def in_a_comprehension(ctx, names):
    lines = [f"{name} {time.time()}" for name in names]  #! DT101
    yield ctx.call_activity(remind, input=",".join(lines))


def bound_to_a_name(ctx, _):
    now = DateTime.now
    yield ctx.create_timer(timedelta(seconds=1))
    yield ctx.call_activity(remind, input=str(now()))  #! DT101


def through_partial(ctx, _):
    utc_now = partial(DateTime.now, timezone.utc)
    yield ctx.call_activity(remind, input=utc_now().isoformat())  #! DT101


def as_a_default_factory(ctx, order):
    when = order.get("when") or DateTime.now()  #! DT101
    yield ctx.call_activity(remind, input=str(when))


def in_an_f_string(ctx, _):
    yield ctx.call_activity(remind, input=f"{DateTime.now():%d.%m.%Y}")  #! DT101


def in_a_sort_key(ctx, names):
    names.sort(key=lambda name: (time.time_ns() % 7, name))  #! DT101
    yield ctx.call_activity(remind, input=names[0])


RUN = [
    (module_datetime, None),
    (utcnow_of_the_class, None),
    (aliased_module, None),
    (today, None),
    (today_of_a_datetime, None),
    (seconds, None),
    (elapsed, None),
    (imported_alone, 1e8),
    (imported_under_another_name, None),
    (local_import, None),
    (current_local_time, None),
    (formatted, None),
    (in_a_lambda, None),
    (in_a_comprehension, ["ana", "raj"]),
    (bound_to_a_name, None),
    (through_partial, None),
    (as_a_default_factory, {}),
    (in_an_f_string, None),
    (in_a_sort_key, ["ana", "raj", "kim"]),
]


def register(worker):
    worker.add_activity(remind)
    for orchestrator in (
        module_datetime,
        utcnow_of_the_class,
        aliased_module,
        today,
        today_of_a_datetime,
        seconds,
        elapsed,
        imported_alone,
        imported_under_another_name,
        local_import,
        current_local_time,
        formatted,
        in_a_lambda,
        in_a_comprehension,
        bound_to_a_name,
        through_partial,
        as_a_default_factory,
        in_an_f_string,
        in_a_sort_key,
    ):
        worker.add_orchestrator(orchestrator)
