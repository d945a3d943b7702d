"""Many things at once, and waiting for all of them or for the first."""

from datetime import timedelta

from durabletask.task import TaskFailedError, when_all, when_any


def register(worker):
    for orchestrator in (
        squares, first_of, all_or_failure, failures_of_two, groups, shared, counted, losers,
        one_failed_first, waves,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    for activity in (square, refuse):
        worker.add_activity(activity)


def square(ctx, number):
    return number * number


def refuse(ctx, why):
    raise PermissionError(why)


def squares(ctx, count):
    return (yield when_all([ctx.call_activity(square, input=n) for n in range(count)]))


def test_the_results_of_all_come_in_the_order_of_asking(world):
    assert world.output_of(squares, input=25) == [n * n for n in range(25)]


def first_of(ctx, _):
    event = ctx.wait_for_external_event("never")
    activity = ctx.call_activity(square, input=3)
    winner = yield when_any([event, activity])
    return [winner is activity, winner.get_result(), event.is_complete]


def test_the_first_of_several_is_the_task_itself(world):
    assert world.output_of(first_of) == [True, 9, False]


def all_or_failure(ctx, _):
    tasks = [ctx.call_activity(refuse, input="no"), *(ctx.call_activity(square, input=n) for n in (1, 2))]
    try:
        yield when_all(tasks)
    except TaskFailedError as error:
        return [error.details.error_type, [task.is_complete for task in tasks], tasks[2].get_result()]


def test_one_failure_among_all_is_raised_when_all_have_ended(world):
    assert world.output_of(all_or_failure) == ["builtins.PermissionError", [True, True, True], 4]


def failures_of_two(ctx, _):
    tasks = [ctx.call_activity(refuse, input=n) for n in ("one", "two")]
    try:
        yield when_all(tasks)
    except TaskFailedError:
        return sorted(task.get_exception().details.message for task in tasks if task.is_failed)


def test_each_failed_task_keeps_its_own_failure(world):
    assert world.output_of(failures_of_two) == ["one", "two"]


def groups(ctx, _):
    pairs = [
        when_all([ctx.call_activity(square, input=n), ctx.call_activity(square, input=-n)]) for n in (2, 3)
    ]
    race = when_any([ctx.wait_for_external_event("never"), when_all(pairs)])
    winner = yield race
    return winner.result


def test_groups_of_groups(world):
    assert world.output_of(groups) == [[4, 4], [9, 9]]


def shared(ctx, _):
    task = ctx.call_activity(square, input=4)
    both = when_all([task, task])
    either = when_any([task, ctx.wait_for_external_event("never")])
    results = yield both
    winner = yield either
    return [results, winner is task, (yield task)]


def test_one_task_in_several_groups_runs_once_and_counts_in_each(world):
    state = world.run(shared)
    assert state.get_output() == [[16, 16], True, 16]
    events = world.client.get_orchestration_history(state.instance_id)
    assert [type(event).__name__ for event in events].count("TaskScheduledEvent") == 1


def counted(ctx, _):
    timer = ctx.create_timer(timedelta(0))
    everything = when_all([ctx.wait_for_external_event("go"), timer])
    yield timer
    half_way = [everything.pending_tasks, everything.get_completed_tasks(), everything.is_complete]
    ctx.set_custom_status(half_way)
    yield everything
    return [everything.pending_tasks, everything.get_completed_tasks(), len(everything.get_tasks())]


def test_a_group_counts_what_it_waits_for(world):
    instance_id = world.start(counted)
    world.until_status(instance_id, [1, 1, False])
    world.client.raise_orchestration_event(instance_id, "go")
    assert world.finish(instance_id).get_output() == [0, 2, 2]


def losers(ctx, _):
    fast, slow = ctx.wait_for_external_event("fast"), ctx.wait_for_external_event("slow")
    yield when_any([fast, slow])
    return [fast.get_result(), (yield slow)]


def test_what_lost_a_race_can_still_be_waited_for(world):
    instance_id = world.start(losers)
    world.client.raise_orchestration_event(instance_id, "fast", data=1)
    world.client.raise_orchestration_event(instance_id, "slow", data=2)
    assert world.finish(instance_id).get_output() == [1, 2]


def one_failed_first(ctx, _):
    winner = yield when_any(
        [ctx.call_activity(refuse, input="at once"), ctx.wait_for_external_event("never")]
    )
    return [winner.is_complete, winner.is_failed, winner.get_exception().details.message]


def test_a_failed_task_wins_a_race_without_raising(world):
    assert world.output_of(one_failed_first) == [True, True, "at once"]


def waves(ctx, _):
    numbers = [1, 2, 3]
    for _ in range(3):
        numbers = yield when_all([ctx.call_activity(square, input=n) for n in numbers])
    return sum(numbers)


def test_one_wave_after_another(world):
    assert world.output_of(waves) == 1 + 256 + 6561
