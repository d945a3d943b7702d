"""A durable call whose task nobody yields: nobody waits for it, and its failure is lost."""

from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext, when_all, when_any

ACCOUNT = EntityInstanceId("account", "ana")


def account(ctx, amount: int) -> int:
    return amount


def charge(ctx: ActivityContext, amount: int) -> str:
    return f"P-{amount}"


def a_statement(ctx: OrchestrationContext, amount: int):
    ctx.call_activity(charge, input=amount)  #! DT111
    yield ctx.create_timer(timedelta(days=1))


def a_forgotten_name(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)  #! DT111
    yield ctx.create_timer(timedelta(days=1))
    return "paid"


def a_timer(ctx: OrchestrationContext, amount: int):
    ctx.create_timer(timedelta(hours=1))  #! DT111
    return (yield ctx.call_activity(charge, input=amount))


def an_event(ctx: OrchestrationContext, amount: int):
    ctx.wait_for_external_event("approval")  #! DT111
    return (yield ctx.call_activity(charge, input=amount))


def an_operation(ctx: OrchestrationContext, amount: int):
    ctx.call_entity(ACCOUNT, "withdraw", amount)  #! DT111
    return (yield ctx.call_activity(charge, input=amount))


def a_group(ctx: OrchestrationContext, amounts: list):
    when_all([ctx.call_activity(charge, input=amount) for amount in amounts])  #! DT111
    yield ctx.create_timer(timedelta(hours=1))


def a_list_of_tasks(ctx: OrchestrationContext, amounts: list):
    tasks = [ctx.call_activity(charge, input=amount) for amount in amounts]  #! DT111
    yield ctx.create_timer(timedelta(hours=1))


def a_loop(ctx: OrchestrationContext, amounts: list):
    for amount in amounts:
        ctx.call_activity(charge, input=amount)  #! DT111
    yield ctx.create_timer(timedelta(hours=1))


def no_generator_at_all(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)  #! DT111
    return "paid"


def only_in_one_branch(ctx: OrchestrationContext, amount: int):
    if amount > 100:
        ctx.call_activity(charge, input=amount)  #! DT111
    else:
        yield ctx.call_activity(charge, input=0)


def a_helper_that_is_no_generator(ctx: OrchestrationContext, amount: int):
    charge_later(ctx, amount)
    yield ctx.create_timer(timedelta(hours=1))


def charge_later(ctx: OrchestrationContext, amount: int) -> None:
    ctx.call_activity(charge, input=amount)  #! DT111


def a_task_that_a_helper_returns(ctx: OrchestrationContext, amount: int):
    charge_task(ctx, amount)  #! DT111
    yield ctx.create_timer(timedelta(hours=1))


def charge_task(ctx: OrchestrationContext, amount: int):
    return ctx.call_activity(charge, input=amount)  #? DT111


def a_generator_that_nobody_runs(ctx: OrchestrationContext, amount: int):
    charge_and_wait(ctx, amount)  #! DT111
    yield ctx.create_timer(timedelta(hours=1))


def charge_and_wait(ctx: OrchestrationContext, amount: int):
    yield ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(timedelta(minutes=1))


def a_lock(ctx: OrchestrationContext, amount: int):
    ctx.lock_entities([ACCOUNT])  #! DT111
    yield ctx.call_entity(ACCOUNT, "withdraw", amount)


def a_race_that_nobody_watches(ctx: OrchestrationContext, amount: int):
    approval = ctx.wait_for_external_event("approval")
    timeout = ctx.create_timer(timedelta(hours=1))
    when_any([approval, timeout])  #! DT111
    yield ctx.call_activity(charge, input=amount)


def overwritten(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)  #! DT111
    payment = ctx.call_activity(charge, input=amount * 2)
    return (yield payment)


def a_result_that_is_taken_too_soon(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)  #! DT111
    return payment.get_result()


def a_result_that_nobody_waited_for(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)  #! DT111
    yield ctx.create_timer(timedelta(days=1))
    return payment.get_result()


def results_that_nobody_waited_for(ctx: OrchestrationContext, amounts: list):
    tasks = [ctx.call_activity(charge, input=amount) for amount in amounts]  #! DT111
    yield ctx.create_timer(timedelta(days=1))
    return [task.get_result() for task in tasks]


def a_task_in_the_place_of_its_result(ctx: OrchestrationContext, amount: int):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(timedelta(days=1))
    return payment  #! DT111


RUN = [
    (a_statement, 7),
    (a_forgotten_name, 7),
    (a_timer, 7),
    (an_event, 7),
    (an_operation, 7),
    (a_group, [7, 8]),
    (a_list_of_tasks, [7, 8]),
    (a_loop, [7, 8]),
    (no_generator_at_all, 7),
    (only_in_one_branch, 700),
    (a_helper_that_is_no_generator, 7),
    (a_task_that_a_helper_returns, 7),
    (a_generator_that_nobody_runs, 7),
    (a_lock, 7),
    (a_race_that_nobody_watches, 7),
    (overwritten, 7),
    (a_result_that_is_taken_too_soon, 7),
    (a_result_that_nobody_waited_for, 7),
    (results_that_nobody_waited_for, [7, 8]),
    (a_task_in_the_place_of_its_result, 7),
]


def register(worker):
    worker.add_activity(charge)
    worker.add_entity(account)
    worker.add_orchestrator(a_statement)
    worker.add_orchestrator(a_forgotten_name)
    worker.add_orchestrator(a_timer)
    worker.add_orchestrator(an_event)
    worker.add_orchestrator(an_operation)
    worker.add_orchestrator(a_group)
    worker.add_orchestrator(a_list_of_tasks)
    worker.add_orchestrator(a_loop)
    worker.add_orchestrator(no_generator_at_all)
    worker.add_orchestrator(only_in_one_branch)
    worker.add_orchestrator(a_helper_that_is_no_generator)
    worker.add_orchestrator(a_task_that_a_helper_returns)
    worker.add_orchestrator(a_generator_that_nobody_runs)
    worker.add_orchestrator(a_lock)
    worker.add_orchestrator(a_race_that_nobody_watches)
    worker.add_orchestrator(overwritten)
    worker.add_orchestrator(a_result_that_is_taken_too_soon)
    worker.add_orchestrator(a_result_that_nobody_waited_for)
    worker.add_orchestrator(results_that_nobody_waited_for)
    worker.add_orchestrator(a_task_in_the_place_of_its_result)
