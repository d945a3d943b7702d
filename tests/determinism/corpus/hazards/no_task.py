"""Yielding what is no task: the SDK fails the instance, or waits for what never comes."""

from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext


def greet(ctx: ActivityContext, name: str) -> str:
    return f"Hello {name}"


def counter(ctx, amount: int) -> int:
    return amount


def a_number(ctx: OrchestrationContext, name: str):
    yield 5  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def nothing(ctx: OrchestrationContext, name: str):
    yield  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def a_list(ctx: OrchestrationContext, names: list):
    return (yield [ctx.call_activity(greet, input=name) for name in names])  #! DT112


def a_pair(ctx: OrchestrationContext, names: list):
    first, second = ctx.call_activity(greet, input=names[0]), ctx.call_activity(greet, input=names[1])
    yield first, second  #! DT112


def a_duration(ctx: OrchestrationContext, name: str):
    yield timedelta(seconds=5)  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def the_clock(ctx: OrchestrationContext, name: str):
    now = yield ctx.current_utc_datetime  #! DT112
    return (yield ctx.call_activity(greet, input=f"{name} {now}"))


def a_uuid(ctx: OrchestrationContext, name: str):
    key = yield ctx.new_uuid()  #! DT112
    return (yield ctx.call_activity(greet, input=f"{name} {key}"))


def a_signal(ctx: OrchestrationContext, name: str):
    yield ctx.signal_entity(EntityInstanceId("counter", name), "add", 1)  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def a_status(ctx: OrchestrationContext, name: str):
    yield ctx.set_custom_status("greeting")  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def an_event_sent(ctx: OrchestrationContext, name: str):
    yield ctx.send_event(name, "hello")  #! DT112
    return (yield ctx.call_activity(greet, input=name))


def the_activity_itself(ctx: OrchestrationContext, name: str):
    return (yield greet(ctx, name))  #! DT112


def a_generator(ctx: OrchestrationContext, name: str):
    return (yield greet_twice(ctx, name))  #! DT112


def greet_twice(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(greet, input=name)
    return (yield ctx.call_activity(greet, input=name))


def a_call_without_parentheses(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity  #! DT112
    return name


def a_result(ctx: OrchestrationContext, name: str):
    greeting = yield ctx.call_activity(greet, input=name)
    yield greeting  #! DT112


def a_text_in_a_loop(ctx: OrchestrationContext, names: list):
    for name in names:
        yield f"greeting {name}"  #! DT112
        yield ctx.call_activity(greet, input=name)


def delegates_to_a_list(ctx: OrchestrationContext, names: list):
    # The SDK sends the result of the first task into the list's iterator, which has no send: AttributeError.
    yield from [ctx.call_activity(greet, input=name) for name in names]  #! DT112


RUN = [
    (a_number, "kim"),
    (nothing, "kim"),
    (a_list, ["kim", "raj"]),
    (a_pair, ["kim", "raj"]),
    (a_duration, "kim"),
    (the_clock, "kim"),
    (a_uuid, "kim"),
    (a_signal, "kim"),
    (a_status, "kim"),
    (an_event_sent, "kim"),
    (the_activity_itself, "kim"),
    (a_generator, "kim"),
    (a_call_without_parentheses, "kim"),
    (a_result, "kim"),
    (a_text_in_a_loop, ["kim", "raj"]),
    (delegates_to_a_list, ["kim", "raj"]),
]


def register(worker):
    worker.add_activity(greet)
    worker.add_entity(counter)
    for orchestrator in (
        a_number,
        nothing,
        a_list,
        a_pair,
        a_duration,
        the_clock,
        a_uuid,
        a_signal,
        a_status,
        an_event_sent,
        the_activity_itself,
        a_generator,
        a_call_without_parentheses,
        a_result,
        a_text_in_a_loop,
        delegates_to_a_list,
    ):
        worker.add_orchestrator(orchestrator)
