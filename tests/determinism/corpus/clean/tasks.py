"""Tasks that are not yielded, or later, or by somebody else; and calls that give no task."""

from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext, when_all, when_any


def pay(ctx: ActivityContext, amount: int) -> int:
    return amount


def account(ctx, amount: int) -> int:
    ctx.set_state(ctx.get_state(int, 0) + amount)
    return ctx.get_state(int)


def loser_of_a_race(ctx: OrchestrationContext, _):
    approval = ctx.wait_for_external_event("approval")
    timeout = ctx.create_timer(timedelta(days=1))
    if (yield when_any([approval, timeout])) is approval:
        timeout.cancel()
        return approval.get_result()
    return "timed out"


def loser_that_is_left_alone(ctx: OrchestrationContext, amount: int):
    # A timer that nobody waits for any more does no harm: when_any has yielded it.
    payment = ctx.call_activity(pay, input=amount)
    timeout = ctx.create_timer(timedelta(days=1))
    winner = yield when_any([payment, timeout])
    return "late" if winner is timeout else payment.get_result()


def signals(ctx: OrchestrationContext, amount: int):
    ctx.signal_entity(EntityInstanceId("account", "ana"), "deposit", amount)
    yield ctx.create_timer(timedelta(seconds=1))


def sends_an_event(ctx: OrchestrationContext, other: str):
    ctx.send_event(other, "hello", data="from the corpus")
    yield ctx.create_timer(timedelta(seconds=1))


def sets_a_status(ctx: OrchestrationContext, amount: int):
    ctx.set_custom_status({"step": "paying"})
    return (yield ctx.call_activity(pay, input=amount))


def child(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity(pay, input=amount))


def fires_and_forgets(ctx: OrchestrationContext, amount: int):
    # Clean: a sub-orchestration is an instance of its own. The command to start it is sent with the turn,
    # it runs to its end whether its parent waits or has ended, and it keeps its failure in its own history.
    # An activity that nobody waits for has no such place: its result and its failure are lost.
    ctx.call_sub_orchestrator(child, input=amount, instance_id=f"{ctx.instance_id}-child")
    return (yield ctx.call_activity(pay, input=amount))


def started_now_awaited_later(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(pay, input=amount)
    yield ctx.create_timer(timedelta(minutes=1))
    return (yield payment)


def list_awaited_later(ctx: OrchestrationContext, amounts: list):
    tasks = []
    for amount in amounts:
        tasks.append(ctx.call_activity(pay, input=amount))
    return sum((yield when_all(tasks)))


def one_after_the_other(ctx: OrchestrationContext, amounts: list):
    tasks = [ctx.call_activity(pay, input=amount) for amount in amounts]
    total = 0
    for task in tasks:
        total += yield task
    return total


def helper_gives_the_task(ctx: OrchestrationContext, amount: int):
    return (yield payment_task(ctx, amount))


def payment_task(ctx: OrchestrationContext, amount: int):
    return ctx.call_activity(pay, input=amount)


def helper_of_a_group(ctx: OrchestrationContext, amounts: list):
    return (yield when_all(payment_tasks(ctx, amounts)))


def payment_tasks(ctx: OrchestrationContext, amounts: list) -> list:
    return [payment_task(ctx, amount) for amount in amounts]


def kept_in_a_dictionary(ctx: OrchestrationContext, amounts: list):
    running = {str(amount): ctx.call_activity(pay, input=amount) for amount in amounts}
    results = yield when_all(list(running.values()))
    return dict(zip(running, results))


def window(ctx: OrchestrationContext, amounts: list):
    pending: list = []
    done = 0
    for amount in amounts:
        if len(pending) == 2:
            finished = yield when_any(pending)
            pending.remove(finished)
            done += finished.get_result()
        pending.append(ctx.call_activity(pay, input=amount))
    return done + sum((yield when_all(pending)))


def a_task_or_another(ctx: OrchestrationContext, amount: int):
    step = ctx.call_activity(pay, input=amount) if amount > 5 else ctx.create_timer(timedelta(seconds=1))
    return (yield step)


def any_of_the_results(ctx: OrchestrationContext, amount: int):
    winner = yield when_any([ctx.call_activity(pay, input=amount), ctx.create_timer(timedelta(hours=1))])
    return winner.get_result()


def cancelled_at_once(ctx: OrchestrationContext, amount: int):
    reminder = ctx.create_timer(timedelta(hours=1))
    paid = yield ctx.call_activity(pay, input=amount)
    reminder.cancel()
    return paid


def looked_at_from_time_to_time(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(pay, input=amount)
    while not payment.is_complete:
        yield ctx.create_timer(timedelta(minutes=1))
    return payment.get_result()


def a_group_of_what_was_awaited(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(pay, input=amount)
    both = when_all([payment, ctx.create_timer(timedelta(minutes=1))])
    yield payment
    yield both
    return [payment.get_result(), both.get_result()]


def renewed_by_the_loop(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(pay, input=amount)
    while not (yield from is_paid(payment)):
        amount -= payment.get_result()
        payment = ctx.call_activity(pay, input=amount)
    return amount


def is_paid(payment):
    return (yield payment) == 0


RUN = [
    (loser_of_a_race, None, [("approval", "yes")]),
    (loser_that_is_left_alone, 3),
    (signals, 5),
    (sends_an_event, "nobody"),
    (sets_a_status, 3),
    (fires_and_forgets, 3),
    (started_now_awaited_later, 3),
    (list_awaited_later, [1, 2]),
    (one_after_the_other, [1, 2]),
    (helper_gives_the_task, 3),
    (helper_of_a_group, [1, 2]),
    (kept_in_a_dictionary, [1, 2]),
    (window, [1, 2, 3, 4]),
    (a_task_or_another, 3),
    (any_of_the_results, 3),
    (cancelled_at_once, 3),
    (looked_at_from_time_to_time, 3),
    (a_group_of_what_was_awaited, 3),
    (renewed_by_the_loop, 3),
]


def register(worker):
    worker.add_activity(pay)
    worker.add_entity(account)
    worker.add_orchestrator(child)
    for orchestrator, *_ in RUN:
        worker.add_orchestrator(orchestrator)
