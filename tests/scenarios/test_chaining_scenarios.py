"""One step after another, and what a step is told about where it runs."""

import logging
import uuid
from datetime import datetime

from durabletask import task
from durabletask.client import OrchestrationStatus
from world import unique

LOGGER = logging.getLogger("scenarios.chaining")


def register(worker):
    for orchestrator in (
        chain, constant, by_name, nothing, branching, with_a_helper, contexts, logged, uuids, clocks,
        collatz, echoed,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    for activity in (double, echo, where_am_i):
        worker.add_activity(activity)


def double(ctx, number):
    return 2 * number


def echo(ctx, value):
    return value


def where_am_i(ctx, _):
    return [ctx.orchestration_id, ctx.task_id]


def chain(ctx, number):
    for _ in range(5):
        number = yield ctx.call_activity(double, input=number)
    return number


def test_each_step_gets_the_result_of_the_one_before(world):
    assert world.output_of(chain, input=3) == 96


def constant(ctx, given):
    return {"given": given}


def test_an_orchestrator_that_waits_for_nothing_completes(world):
    assert world.output_of(constant, input=[1, 2]) == {"given": [1, 2]}


def by_name(ctx, number):
    number = yield ctx.call_activity("double", input=number)
    return (yield ctx.call_activity(task.get_name(double), input=number))


def test_orchestrators_and_activities_go_by_their_names_too(world):
    assert world.output_of("by_name", input=4) == 16


def nothing(ctx, given):
    assert given is None
    return (yield ctx.call_activity(echo))


def test_no_input_and_no_output_is_none_all_the_way(world):
    state = world.run(nothing)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert (state.serialized_input, state.serialized_output) == (None, None)
    assert (state.get_input(), state.get_output()) == (None, None)


def branching(ctx, limit):
    seen = []
    while len(seen) < limit:
        value = yield ctx.call_activity(echo, input=len(seen))
        seen.append(value if value % 2 else (yield ctx.call_activity(double, input=value)))
    return seen


def test_what_is_asked_next_depends_on_results(world):
    assert world.output_of(branching, input=5) == [0, 1, 4, 3, 8]


def collatz(ctx, number):
    steps = 0
    while number != 1:
        number = yield ctx.call_activity(echo, input=number // 2 if number % 2 == 0 else 3 * number + 1)
        steps += 1
    return steps


def test_a_long_chain_is_replayed_from_its_history_again_and_again(world):
    assert world.output_of(collatz, input=7) == 16


def twice(ctx, number):
    number = yield ctx.call_activity(double, input=number)
    return (yield ctx.call_activity(double, input=number))


def with_a_helper(ctx, number):
    return (yield from twice(ctx, number)) + (yield from twice(ctx, 1))


def test_a_generator_helps_another(world):
    assert world.output_of(with_a_helper, input=5) == 24


def contexts(ctx, _):
    first = yield ctx.call_activity(where_am_i)
    second = yield ctx.call_activity(where_am_i)
    return [ctx.instance_id, first, second]


def test_orchestrators_and_activities_know_the_instance_and_the_task(world):
    instance_id = unique("contexts")
    assert world.output_of(contexts, instance_id=instance_id) == [
        instance_id,
        [instance_id, 1],
        [instance_id, 2],
    ]


def logged(ctx, _):
    logger = ctx.create_replay_safe_logger(LOGGER)
    for step in range(3):
        logger.info("%s: before step %s", ctx.instance_id, step)
        yield ctx.call_activity(echo, input=step)
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s: after all, and replaying: %s", ctx.instance_id, ctx.is_replaying)


def test_a_replay_safe_logger_says_everything_once(world, caplog):
    instance_id = unique("logged")
    with caplog.at_level(logging.INFO, LOGGER.name):
        world.run(logged, instance_id=instance_id)
    assert [message for message in caplog.messages if message.startswith(instance_id)] == [
        f"{instance_id}: before step 0",
        f"{instance_id}: before step 1",
        f"{instance_id}: before step 2",
        f"{instance_id}: after all, and replaying: False",
    ]


def uuids(ctx, _):
    first, second = ctx.new_uuid(), ctx.new_uuid()
    sent = yield ctx.call_activity(echo, input=[first, second])
    third = ctx.new_uuid()
    yield ctx.call_activity(echo)
    return [sent, [first, second], third]


def test_uuids_are_drawn_again_the_same(world):
    sent, drawn, third = world.output_of(uuids)
    assert sent == drawn
    assert len({*drawn, third}) == 3
    assert uuid.UUID(third).version == 5


def clocks(ctx, _):
    first = ctx.current_utc_datetime
    sent = yield ctx.call_activity(echo, input=first.isoformat())
    return [sent, first.isoformat(), ctx.current_utc_datetime.isoformat(), str(first.tzinfo)]


def test_the_clock_stands_still_within_a_turn_and_shows_the_same_on_replay(world):
    sent, first, later, zone = world.output_of(clocks)
    assert sent == first
    assert datetime.fromisoformat(later) >= datetime.fromisoformat(first)
    assert zone == "None"


def echoed(ctx, value):
    return (yield ctx.call_activity(echo, input=value))


def test_text_and_structures_of_any_kind_arrive_as_they_were_sent(world):
    value = {
        "naïve": '日本語 🎉\n"quoted"',
        "deep": [[[]], {"x": {"y": None}}],
        "numbers": [0, -1.5, 1e300, True],
    }
    state = world.run(echoed, input=value)
    assert (state.get_input(), state.get_output()) == (value, value)


def test_a_payload_of_half_a_megabyte_arrives(world):
    value = "x" * 500_000
    assert world.output_of(echoed, input=value) == value
