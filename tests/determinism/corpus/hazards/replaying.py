"""Control flow on is_replaying: the code asks for something else when it is replayed."""

from datetime import timedelta

from durabletask.task import ActivityContext, OrchestrationContext


def mail(ctx: ActivityContext, name: str) -> str:
    return name


def only_the_first_time(ctx: OrchestrationContext, name: str):
    if not ctx.is_replaying:  #! DT113
        yield ctx.call_activity(mail, input=name)
    yield ctx.create_timer(timedelta(hours=1))


def returns_early(ctx: OrchestrationContext, name: str):
    if ctx.is_replaying:  #! DT113
        return "replayed"
    return (yield ctx.call_activity(mail, input=name))


def kept_in_a_name(ctx: OrchestrationContext, name: str):
    fresh = not ctx.is_replaying  #? DT113
    if fresh:  #! DT113
        yield ctx.call_activity(mail, input=name)


def a_conditional_expression(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(mail, input="again" if ctx.is_replaying else name)  #! DT113


def a_while(ctx: OrchestrationContext, name: str):
    while ctx.is_replaying:  #! DT113
        yield ctx.create_timer(timedelta(seconds=1))
    return name


def a_short_circuit(ctx: OrchestrationContext, name: str):
    delay = ctx.is_replaying and 1 or 60  #! DT113
    yield ctx.create_timer(timedelta(seconds=delay))


def as_a_guard_of_state(ctx: OrchestrationContext, items: list):
    total = 0
    for item in items:
        yield ctx.call_activity(mail, input=item)
        if not ctx.is_replaying:  #! DT113
            total += 1
    return total


def in_a_helper(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(mail, input=name if is_first_run(ctx) else "")  #! DT113


def is_first_run(context: OrchestrationContext) -> bool:
    return not context.is_replaying  #? DT113


RUN = [
    (only_the_first_time, "kim"),
    (returns_early, "kim"),
    (kept_in_a_name, "kim"),
    (a_conditional_expression, "kim"),
    (a_while, "kim"),
    (a_short_circuit, "kim"),
    (as_a_guard_of_state, ["kim", "raj"]),
    (in_a_helper, "kim"),
]


def register(worker):
    worker.add_activity(mail)
    worker.add_orchestrator(only_the_first_time)
    worker.add_orchestrator(returns_early)
    worker.add_orchestrator(kept_in_a_name)
    worker.add_orchestrator(a_conditional_expression)
    worker.add_orchestrator(a_while)
    worker.add_orchestrator(a_short_circuit)
    worker.add_orchestrator(as_a_guard_of_state)
    worker.add_orchestrator(in_a_helper)
