"""Commands behind continue_as_new, which does not stop the generator; and loops that never begin anew."""

import itertools
from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext, when_any


def clean(ctx: ActivityContext, round: int) -> int:
    return round


def stock(ctx, amount: int) -> int:
    return amount


STOCK = EntityInstanceId("stock", "all")


def an_activity_behind(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    ctx.continue_as_new(round + 1)
    yield ctx.call_activity(clean, input=round)  #! DT114


def a_signal_behind(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    ctx.continue_as_new(round + 1)
    ctx.signal_entity(STOCK, "count", round)  #! DT114


def an_event_behind(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    ctx.continue_as_new(round + 1, save_events=True)
    ctx.send_event("auditor", "round", data=round)  #! DT114


def behind_a_branch_without_return(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    if round < 10:
        ctx.continue_as_new(round + 1)
    yield ctx.call_activity(clean, input=round)  #! DT114


def in_a_finally(ctx: OrchestrationContext, round: int):
    try:
        yield ctx.create_timer(timedelta(hours=1))
        ctx.continue_as_new(round + 1)
        return
    finally:
        yield ctx.call_activity(clean, input=round)  #! DT114


def a_child_behind(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    ctx.continue_as_new(round + 1)
    ctx.call_sub_orchestrator(an_activity_behind, input=round)  #! DT114


def continued_by_a_helper(ctx: OrchestrationContext, round: int):
    yield ctx.create_timer(timedelta(hours=1))
    begin_anew(ctx, round)
    yield ctx.call_activity(clean, input=round)  #! DT114


def begin_anew(ctx: OrchestrationContext, round: int) -> None:
    ctx.continue_as_new(round + 1)


def in_the_next_round_of_a_loop(ctx: OrchestrationContext, rounds: list):
    for round in rounds:
        yield ctx.call_activity(clean, input=round)  #! DT114
        if round > 100:
            ctx.continue_as_new(rounds[1:])


def polls_for_ever(ctx: OrchestrationContext, round: int):
    while True:  #! DT115
        yield ctx.call_activity(clean, input=round)
        yield ctx.create_timer(timedelta(minutes=5))


def waits_for_events_for_ever(ctx: OrchestrationContext, _):
    while 1:  #! DT115
        round = yield ctx.wait_for_external_event("round")
        yield ctx.call_activity(clean, input=round)


def counts_for_ever(ctx: OrchestrationContext, _):
    for round in itertools.count():  #! DT115
        yield ctx.call_activity(clean, input=round)


def cycles(ctx: OrchestrationContext, rounds: list):
    for round in itertools.cycle(rounds):  #! DT115
        yield ctx.call_activity(clean, input=round)


def goes_on_after_errors(ctx: OrchestrationContext, round: int):
    while True:  #! DT115
        try:
            yield ctx.call_activity(clean, input=round)
        except Exception:
            yield ctx.create_timer(timedelta(minutes=1))


def breaks_out_of_an_inner_loop_only(ctx: OrchestrationContext, rounds: list):
    while True:  #! DT115
        for round in rounds:
            if (yield ctx.call_activity(clean, input=round)) == 0:
                break
        yield ctx.create_timer(timedelta(days=1))


def in_a_nested_generator(ctx: OrchestrationContext, round: int):
    yield from forever(ctx, round)


def forever(ctx: OrchestrationContext, round: int):
    while True:  #! DT115
        tick = ctx.create_timer(timedelta(hours=1))
        stop = ctx.wait_for_external_event("tick")
        yield when_any([tick, stop])
        yield ctx.call_activity(clean, input=round)


ORCHESTRATORS = [
    an_activity_behind,
    a_signal_behind,
    an_event_behind,
    behind_a_branch_without_return,
    in_a_finally,
    a_child_behind,
    continued_by_a_helper,
    in_the_next_round_of_a_loop,
    polls_for_ever,
    waits_for_events_for_ever,
    counts_for_ever,
    cycles,
    goes_on_after_errors,
    breaks_out_of_an_inner_loop_only,
    in_a_nested_generator,
]


RUN = [
    (an_activity_behind, 1),
    (a_signal_behind, 1),
    (an_event_behind, 1),
    (behind_a_branch_without_return, 1),
    (in_a_finally, 1),
    (a_child_behind, 1),
    (continued_by_a_helper, 1),
    (in_the_next_round_of_a_loop, [101, 2]),
    (polls_for_ever, 1),
    (waits_for_events_for_ever, None, [("round", 1), ("round", 2)]),
    (counts_for_ever, None),
    (cycles, [1, 2]),
    (goes_on_after_errors, 1),
    (breaks_out_of_an_inner_loop_only, [1, 0]),
    (in_a_nested_generator, 1),
]


def register(worker):
    worker.add_activity(clean)
    worker.add_entity(stock)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
