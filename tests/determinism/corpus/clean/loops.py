"""Loops that end, or begin anew, and what is done before continue_as_new."""

import itertools
from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext


def poll(ctx: ActivityContext, round: int) -> str:
    return "done" if round >= 3 else "running"


def stock(ctx, amount: int) -> int:
    return amount


def bounded_by_the_input(ctx: OrchestrationContext, rounds: int):
    for round in range(rounds):
        yield ctx.call_activity(poll, input=round)


def begins_anew(ctx: OrchestrationContext, round: int):
    status = yield ctx.call_activity(poll, input=round)
    if status == "done":
        return round
    yield ctx.create_timer(timedelta(minutes=5))
    ctx.continue_as_new(round + 1)


def for_ever_with_continue_as_new(ctx: OrchestrationContext, state: dict):
    while True:
        for _ in range(2):
            state["round"] += 1
            yield ctx.create_timer(timedelta(hours=1))
        if state["round"] > 3:
            return state["round"]
        ctx.continue_as_new(state)
        return None


def until_an_event(ctx: OrchestrationContext, _):
    count = 0
    while True:
        event = yield ctx.wait_for_external_event("add")
        if event == "stop":
            return count
        count += event


def until_a_break(ctx: OrchestrationContext, _):
    round = 0
    while True:
        if (yield ctx.call_activity(poll, input=round)) == "done":
            break
        round += 1
        yield ctx.create_timer(timedelta(minutes=1))
    return round


def counts_until(ctx: OrchestrationContext, _):
    for round in itertools.count():
        if (yield ctx.call_activity(poll, input=round)) == "done":
            return round


def islice_of_a_count(ctx: OrchestrationContext, _):
    for round in itertools.islice(itertools.count(), 3):
        yield ctx.call_activity(poll, input=round)


def loop_without_a_yield(ctx: OrchestrationContext, number: int):
    while True:
        if number % 2:
            break
        number //= 2
    return (yield ctx.call_activity(poll, input=number))


def commands_before(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    if round < 2:
        ctx.signal_entity(EntityInstanceId("stock", "all"), "count", round)
        ctx.continue_as_new(round + 1)
        return
    yield ctx.call_activity(poll, input=round)


def one_of_two_branches(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    if round < 2:
        ctx.continue_as_new(round + 1)
    else:
        yield ctx.call_activity(poll, input=round)


def ends_by_an_error(ctx: OrchestrationContext, _):
    round = 0
    while True:
        round += 1
        if (yield ctx.call_activity(poll, input=round)) == "done":
            raise RuntimeError("enough")


RUN = [
    (bounded_by_the_input, 3),
    (begins_anew, 1),
    (for_ever_with_continue_as_new, {"round": 0}),
    (until_an_event, None, [("add", 1), ("add", 2), ("add", "stop")]),
    (until_a_break, None),
    (counts_until, None),
    (islice_of_a_count, None),
    (loop_without_a_yield, 8),
    (commands_before, 0),
    (one_of_two_branches, 0),
    (ends_by_an_error, None),
]
FAILS = {"ends_by_an_error"}


def register(worker):
    worker.add_activity(poll)
    worker.add_entity(stock)
    for entry in RUN:
        worker.add_orchestrator(entry[0])
