"""Orchestrations that begin anew."""

from dataclasses import dataclass

from durabletask.client import OrchestrationStatus
from durabletask.history import TaskScheduledEvent
from world import output


@dataclass
class Progress:
    done: int
    total: int


def register(worker):
    for orchestrator in (
        count_down, worker_loop, forgetful, upgraded, tallies, calls_a_loop, keeps_its_name, says_more,
        sends_afterwards, listens,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_activity(step)


def step(ctx, value):
    return value


def count_down(ctx, number):
    yield ctx.call_activity(step, input=number)
    if number:
        ctx.continue_as_new(number - 1)
        return None
    return "done"


def test_it_begins_anew_with_another_input_until_it_returns(world):
    state = world.run(count_down, input=5)
    assert output(state) == "done"
    assert state.get_input() == 0


def test_the_history_is_that_of_the_last_generation(world):
    state = world.run(count_down, input=3)
    events = world.client.get_orchestration_history(state.instance_id)
    assert [event.input for event in events if isinstance(event, TaskScheduledEvent)] == ["0"]


def worker_loop(ctx, seen):
    item = yield ctx.wait_for_external_event("item")
    if item == "stop":
        return seen
    ctx.continue_as_new([*seen, item], save_events=True)


def test_events_that_were_not_read_are_carried_over(world):
    instance_id = world.start(worker_loop, input=[])
    for item in ("a", "b", "c", "stop"):
        world.client.raise_orchestration_event(instance_id, "item", data=item)
    assert output(world.finish(instance_id)) == ["a", "b", "c"]


def forgetful(ctx, generation):
    ctx.set_custom_status(f"generation {generation}")
    yield ctx.wait_for_external_event("go")
    if generation == 1:
        ctx.continue_as_new(2)
        return None
    return (yield ctx.wait_for_external_event("extra"))


def test_events_that_were_not_read_are_lost_unless_they_are_saved(world):
    instance_id = world.start(forgetful, input=1)
    world.client.raise_orchestration_event(instance_id, "extra", data="old")
    world.client.raise_orchestration_event(instance_id, "go")
    world.until_status(instance_id, "generation 2")
    world.client.raise_orchestration_event(instance_id, "go")
    world.client.raise_orchestration_event(instance_id, "extra", data="new")
    assert output(world.finish(instance_id)) == "new"


def upgraded(ctx, seen):
    seen = [*seen, ctx.version]
    if len(seen) == 3:
        return seen
    ctx.continue_as_new(seen, new_version="2.0" if len(seen) == 2 else None)
    yield ctx.call_activity(step)


def test_a_new_version_is_taken_on(world):
    assert world.output_of(upgraded, input=[], version="1.0") == ["1.0", "1.0", "2.0"]


def tallies(ctx, progress: Progress):
    if progress.done < progress.total:
        ctx.continue_as_new(Progress(progress.done + 1, progress.total))
    return progress


def test_the_new_input_is_of_the_type_of_the_first(world):
    state = world.run(tallies, input=Progress(0, 3))
    assert state.get_output(Progress) == Progress(3, 3)


def calls_a_loop(ctx, number):
    return (yield ctx.call_sub_orchestrator(count_down, input=number))


def test_a_sub_orchestration_may_begin_anew(world):
    assert world.output_of(calls_a_loop, input=4) == "done"


def keeps_its_name(ctx, ids):
    if len(ids) < 2:
        ctx.continue_as_new([*ids, ctx.instance_id])
    return ids


def test_the_instance_is_the_same_and_is_never_seen_to_have_continued(world):
    state = world.run(keeps_its_name, input=[])
    assert output(state) == 2 * [state.instance_id]
    assert state.runtime_status is OrchestrationStatus.COMPLETED


def says_more(ctx, generation):
    if generation == 1:
        ctx.set_custom_status("of the first")
        yield ctx.call_activity(step)
        ctx.continue_as_new(2)
    else:
        yield ctx.call_activity(step)


def test_what_becomes_of_the_custom_status(world):
    state = world.run(says_more, input=1)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.get_custom_status() is None


def sends_afterwards(ctx, given):
    generation, listener = given
    if generation == 1:
        ctx.continue_as_new([2, listener])
        ctx.send_event(listener, "note", data="sent after continue_as_new")
    return generation
    yield


def listens(ctx, _):
    return (yield ctx.wait_for_external_event("note"))


def test_what_is_asked_for_after_it_is_done_all_the_same(world):
    listener = world.start(listens)
    assert world.output_of(sends_afterwards, input=[1, listener]) == 2
    assert output(world.finish(listener)) == "sent after continue_as_new"
