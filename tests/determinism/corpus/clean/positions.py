"""Tasks that are yielded, wherever in an expression or a statement the `yield` stands."""

from contextlib import nullcontext
from datetime import timedelta

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext, when_all, when_any


def work(ctx: ActivityContext, number: int) -> int:
    return number


def names(ctx: ActivityContext, count: int) -> list:
    return [f"n{number}" for number in range(count)]


def lock(ctx, _):
    return None


def in_a_while(ctx: OrchestrationContext, number: int):
    while not (yield ctx.call_activity(work, input=number)):
        number += 1
    return number


def in_an_until(ctx: OrchestrationContext, number: int):
    while (current := (yield ctx.call_activity(work, input=number))) < 3:
        number = current + 1
    return number


def in_an_if(ctx: OrchestrationContext, number: int):
    if (yield ctx.call_activity(work, input=number)) and (yield ctx.call_activity(work, input=0)):
        return "both"
    return "not both"


def in_a_for(ctx: OrchestrationContext, count: int):
    found = []
    for name in (yield ctx.call_activity(names, input=count)):
        found.append(name)
    return found


def in_a_with(ctx: OrchestrationContext, _):
    with (yield ctx.lock_entities([EntityInstanceId("lock", "a")])):
        yield ctx.create_timer(timedelta(seconds=1))


def in_a_with_as(ctx: OrchestrationContext, _):
    with (yield ctx.lock_entities([EntityInstanceId("lock", "a")])) as held, nullcontext():
        yield ctx.create_timer(timedelta(seconds=1))
    return held is None


def in_a_call(ctx: OrchestrationContext, count: int):
    return sorted((yield ctx.call_activity(names, input=count)), reverse=True)


def in_an_f_string(ctx: OrchestrationContext, number: int):
    return f"got {(yield ctx.call_activity(work, input=number))}"


def in_a_display(ctx: OrchestrationContext, number: int):
    return {"a": (yield ctx.call_activity(work, input=number)), "b": [(yield ctx.call_activity(work, input=2))]}


def in_a_comprehension(ctx: OrchestrationContext, count: int):
    return [name.upper() for name in (yield ctx.call_activity(names, input=count))]


def in_a_subscript(ctx: OrchestrationContext, count: int):
    return (yield ctx.call_activity(names, input=count))[0]


def in_an_unpacking(ctx: OrchestrationContext, count: int):
    first, *rest = yield ctx.call_activity(names, input=count)
    return [first, len(rest)]


def in_a_conditional(ctx: OrchestrationContext, number: int):
    return (yield ctx.call_activity(work, input=number)) if number else (yield ctx.call_activity(work, input=9))


def in_an_augmented_assignment(ctx: OrchestrationContext, number: int):
    total = 1
    total += yield ctx.call_activity(work, input=number)
    return total


def in_an_assertion(ctx: OrchestrationContext, number: int):
    assert (yield ctx.call_activity(work, input=number)) == number
    return "checked"


def in_a_raise(ctx: OrchestrationContext, number: int):
    raise RuntimeError((yield ctx.call_activity(names, input=number))[0])


def in_an_else(ctx: OrchestrationContext, number: int):
    try:
        number += 1
    except ValueError:
        return None
    else:
        return (yield ctx.call_activity(work, input=number))


def tasks_by_map(ctx: OrchestrationContext, numbers: list):
    tasks = list(map(lambda number: ctx.call_activity(work, input=number), numbers))
    return (yield when_all(tasks))


def tasks_by_a_local_function(ctx: OrchestrationContext, numbers: list):
    def start(number: int):
        return ctx.call_activity(work, input=number)

    return (yield when_all([start(number) for number in numbers]))


def tasks_in_a_tuple(ctx: OrchestrationContext, number: int):
    one, two = ctx.call_activity(work, input=number), ctx.call_activity(work, input=2)
    return [(yield two), (yield one)]


def tasks_by_key(ctx: OrchestrationContext, numbers: list):
    tasks = {}
    for number in numbers:
        tasks[str(number)] = ctx.call_activity(work, input=number)
    yield when_all([*tasks.values()])
    return {key: task.get_result() for key, task in tasks.items()}


def keys_of_tasks(ctx: OrchestrationContext, numbers: list):
    tasks = {str(number): ctx.call_activity(work, input=number) for number in numbers}
    yield when_all(list(tasks.values()))
    return list(tasks)


def groups_of_groups(ctx: OrchestrationContext, numbers: list):
    first = when_all([ctx.call_activity(work, input=number) for number in numbers])
    yield when_any([first, ctx.create_timer(timedelta(hours=1))])
    return first.get_result()


def concatenated(ctx: OrchestrationContext, numbers: list):
    tasks = [ctx.call_activity(work, input=number) for number in numbers]
    tasks += [ctx.call_activity(work, input=0)]
    tasks.extend(ctx.call_activity(work, input=-number) for number in numbers)
    return sum((yield when_all(tasks)))


def a_task_of_an_object(ctx: OrchestrationContext, number: int):
    step = Step(ctx, number)
    return (yield step.task)


class Step:
    def __init__(self, ctx: OrchestrationContext, number: int) -> None:
        self.task = ctx.call_activity(work, input=number)


def a_helper_that_is_given_the_task(ctx: OrchestrationContext, number: int):
    return (yield from wait(ctx, ctx.call_activity(work, input=number)))


def wait(ctx: OrchestrationContext, task):
    timeout = ctx.create_timer(timedelta(hours=1))
    if (yield when_any([task, timeout])) is timeout:
        return None
    timeout.cancel()
    return task.get_result()


def continued_by_the_loop(ctx: OrchestrationContext, round: int):
    while True:
        yield ctx.create_timer(timedelta(hours=1))
        if round >= 2:
            break
        ctx.continue_as_new(round + 1)
        return None
    return (yield ctx.call_activity(work, input=round))


RUN = [
    (in_a_while, 0),
    (in_an_until, 0),
    (in_an_if, 1),
    (in_a_for, 2),
    (in_a_with, None),
    (in_a_with_as, None),
    (in_a_call, 2),
    (in_an_f_string, 2),
    (in_a_display, 2),
    (in_a_comprehension, 2),
    (in_a_subscript, 2),
    (in_an_unpacking, 2),
    (in_a_conditional, 2),
    (in_an_augmented_assignment, 2),
    (in_an_assertion, 2),
    (in_a_raise, 2),
    (in_an_else, 2),
    (tasks_by_map, [1, 2]),
    (tasks_by_a_local_function, [1, 2]),
    (tasks_in_a_tuple, 1),
    (tasks_by_key, [1, 2]),
    (keys_of_tasks, [1, 2]),
    (groups_of_groups, [1, 2]),
    (concatenated, [1, 2]),
    (a_task_of_an_object, 1),
    (a_helper_that_is_given_the_task, 1),
    (continued_by_the_loop, 0),
]
FAILS = {"in_a_raise"}


def register(worker):
    worker.add_activity(work)
    worker.add_activity(names)
    worker.add_entity(lock)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
