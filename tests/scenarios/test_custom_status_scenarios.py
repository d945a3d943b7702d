"""What an orchestration says about itself while it runs."""

from dataclasses import dataclass

from durabletask.client import OrchestrationStatus
from world import failure


@dataclass
class Progress:
    done: int
    total: int


def register(worker):
    for orchestrator in (reports, reports_once, takes_it_back, says_nothing, fails_after_all, waits):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(step)


def step(ctx, value):
    return value


def reports(ctx, total):
    for done in range(total):
        ctx.set_custom_status(Progress(done, total))
        yield ctx.wait_for_external_event("next")
    ctx.set_custom_status({"finished": True})


def test_it_is_seen_while_the_orchestration_waits(world):
    instance_id = world.start(reports, input=2)
    for done in range(2):
        world.until_status(instance_id, {"done": done, "total": 2})
        state = world.client.get_orchestration_state(instance_id)
        assert state.runtime_status is OrchestrationStatus.RUNNING
        assert state.get_custom_status(Progress) == Progress(done, 2)
        world.client.raise_orchestration_event(instance_id, "next")
    assert world.finish(instance_id).get_custom_status() == {"finished": True}


def reports_once(ctx, statuses):
    for status in statuses:
        ctx.set_custom_status(status)
    yield ctx.call_activity(step)


def test_of_several_in_a_turn_the_last_counts_and_it_outlives_the_orchestration(world):
    state = world.run(reports_once, input=["one", "two", "three"])
    assert (state.runtime_status, state.get_custom_status()) == (OrchestrationStatus.COMPLETED, "three")


def takes_it_back(ctx, _):
    ctx.set_custom_status("for now")
    yield ctx.wait_for_external_event("next")
    ctx.set_custom_status(None)


def test_it_can_be_taken_back(world):
    instance_id = world.start(takes_it_back)
    world.until_status(instance_id, "for now")
    world.client.raise_orchestration_event(instance_id, "next")
    state = world.finish(instance_id)
    assert (state.serialized_custom_status, state.get_custom_status()) == (None, None)


def says_nothing(ctx, _):
    return (yield ctx.call_activity(step))


def test_without_one_it_is_none(world):
    assert world.run(says_nothing).get_custom_status() is None


def fails_after_all(ctx, _):
    ctx.set_custom_status("almost there")
    yield ctx.call_activity(step)
    raise ValueError("no")


def test_a_failed_orchestration_keeps_it(world):
    state = world.run(fails_after_all)
    assert failure(state).message == "no"
    assert state.get_custom_status() == "almost there"


def waits(ctx, status):
    ctx.set_custom_status(status)
    yield ctx.wait_for_external_event("next")


def test_it_is_shown_even_where_payloads_are_not_asked_for(world):
    instance_id = world.start(waits, input="shown")
    world.until_status(instance_id, "shown")
    state = world.client.get_orchestration_state(instance_id, fetch_payloads=False)
    assert (state.serialized_input, state.get_custom_status()) == (None, "shown")
