"""Orchestrations that start others and wait for them."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.task import RetryPolicy, TaskFailedError, when_all
from world import failure, output, unique, until

ATTEMPTS = {}


@dataclass
class Part:
    name: str
    weight: int


def register(worker):
    for orchestrator in (
        parent, child, grandparent, many, broken, catches, does_not_catch, named, who_is_my_parent,
        asks_for_its_parent, typed, makes_a_part, taken, patient, steady, flaky, gives_up,
        waits_for_patient, without_a_wait, unknown,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_activity(double)
    worker.add_activity(count_attempts)


def double(ctx, number):
    return 2 * number


def child(ctx, number):
    return (yield ctx.call_activity(double, input=number))


def parent(ctx, number):
    return (yield ctx.call_sub_orchestrator(child, input=number)) + 1


def test_the_result_of_a_sub_orchestration(world):
    assert world.output_of(parent, input=5) == 11


def test_a_sub_orchestration_is_an_instance_like_any_other(world):
    state = world.run(parent, input=5)
    sub = world.client.get_orchestration_state(f"{state.instance_id}:0001")
    assert (sub.name, sub.runtime_status) == ("child", OrchestrationStatus.COMPLETED)
    assert (sub.get_input(), sub.get_output()) == (5, 10)


def grandparent(ctx, number):
    return (yield ctx.call_sub_orchestrator("parent", input=number)) * 100


def test_three_generations(world):
    state = world.run(grandparent, input=1)
    assert output(state) == 300
    assert world.client.get_orchestration_state(f"{state.instance_id}:0001:0001").get_output() == 2


def many(ctx, count):
    return (yield when_all([ctx.call_sub_orchestrator(child, input=n) for n in range(count)]))


def test_many_sub_orchestrations_at_once(world):
    assert world.output_of(many, input=8) == [0, 2, 4, 6, 8, 10, 12, 14]


def named(ctx, name):
    return (yield ctx.call_sub_orchestrator(child, input=1, instance_id=name))


def test_a_sub_orchestration_may_be_given_an_id(world):
    name = unique("named")
    assert world.output_of(named, input=name) == 2
    assert world.client.get_orchestration_state(name).name == "child"


def who_is_my_parent(ctx, _):
    return ctx.parent_instance_id


def asks_for_its_parent(ctx, _):
    return [ctx.parent_instance_id, (yield ctx.call_sub_orchestrator(who_is_my_parent))]


@pytest.mark.in_memory_lacks("does not tell a sub-orchestration who its parent is")
def test_a_sub_orchestration_knows_its_parent(world):
    state = world.run(asks_for_its_parent)
    assert output(state) == [None, state.instance_id]


def makes_a_part(ctx, part: Part):
    return Part(part.name.upper(), part.weight + 1)


def typed(ctx, _):
    task = ctx.call_sub_orchestrator(makes_a_part, input=Part("wheel", 3), return_type=Part)
    part = yield task
    return [type(part).__name__, part.name, part.weight]


def test_input_and_result_have_the_types_that_are_asked_for(world):
    assert world.output_of(typed) == ["Part", "WHEEL", 4]


# -- failures


def broken(ctx, why):
    yield ctx.call_activity(double, input=1)
    raise LookupError(why)


def catches(ctx, why):
    try:
        yield ctx.call_sub_orchestrator(broken, input=why)
    except TaskFailedError as error:
        return str(error)


def test_the_failure_of_a_sub_orchestration_can_be_caught(world):
    state = world.run(catches, input="no such part")
    child_id = f"{state.instance_id}:0001"
    assert output(state) == "Sub-orchestration task #1 failed: no such part"
    assert failure(world.client.get_orchestration_state(child_id)).error_type == "builtins.LookupError"


def does_not_catch(ctx, why):
    yield ctx.call_sub_orchestrator(broken, input=why)


def test_a_failure_that_nobody_catches_goes_up(world):
    details = world.failure_of(does_not_catch, input="no such part")
    assert details.error_type == "durabletask.task.TaskFailedError"
    assert details.message == "Sub-orchestration task #1 failed: no such part"
    assert details.inner_failure.message == "no such part"


@pytest.mark.in_memory_lacks("reports every failed sub-orchestration as a plain Exception")
def test_the_type_of_the_failure_goes_up_with_it(world):
    details = world.failure_of(does_not_catch, input="no such part")
    assert details.inner_failure.error_type == "builtins.LookupError"
    assert details.inner_failure.is_caused_by(LookupError)


def unknown(ctx, _):
    try:
        yield ctx.call_sub_orchestrator("nobody_registered_this")
    except TaskFailedError as error:
        return error.details.message


def test_a_sub_orchestration_that_nobody_registered_fails(world):
    assert world.output_of(unknown) == "A 'nobody_registered_this' orchestrator was not registered."


def patient(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def taken(ctx, child_id):
    try:
        yield ctx.call_sub_orchestrator(child, input=1, instance_id=child_id)
    except TaskFailedError as error:
        return [error.details.error_type, error.details.message]


def test_the_id_of_an_instance_that_runs_cannot_be_taken(world):
    running = world.start(patient)
    assert world.output_of(taken, input=running) == [
        "builtins.ValueError",
        f"Orchestration instance '{running}' already exists",
    ]
    assert world.client.get_orchestration_state(running).runtime_status is OrchestrationStatus.RUNNING


def waits_for_patient(ctx, child_id):
    try:
        yield ctx.call_sub_orchestrator(patient, instance_id=child_id)
    except TaskFailedError as error:
        return error.details.message


def test_a_terminated_sub_orchestration_is_a_failure_to_its_parent(world):
    child_id = unique("child")
    parent_id = world.start(waits_for_patient, input=child_id)
    until(lambda: world.client.get_orchestration_state(child_id))
    world.client.terminate_orchestration(child_id, output="out")
    assert output(world.finish(parent_id)) == "Sub-orchestration failed"


def steady(ctx, times):
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=4)
    return (yield ctx.call_sub_orchestrator(flaky, input=times, retry_policy=policy))


def flaky(ctx, times):
    attempt = yield ctx.call_activity(count_attempts)
    if attempt <= times:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


def count_attempts(ctx, _):
    ATTEMPTS[ctx.orchestration_id] = ATTEMPTS.get(ctx.orchestration_id, 0) + 1
    return ATTEMPTS[ctx.orchestration_id]


def test_a_sub_orchestration_is_retried_under_its_id(world):
    state = world.run(steady, input=2)
    assert output(state) == 3
    assert output(world.client.get_orchestration_state(f"{state.instance_id}:0001")) == 3


def gives_up(ctx, _):
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=2)
    try:
        yield ctx.call_sub_orchestrator(flaky, input=99, retry_policy=policy)
    except TaskFailedError as error:
        return error.details.message


def test_when_the_attempts_are_used_up_the_last_failure_is_raised(world):
    assert world.output_of(gives_up) == "attempt 2"


def without_a_wait(ctx, child_id):
    ctx.call_sub_orchestrator(child, input=21, instance_id=child_id)
    yield ctx.call_activity(double, input=1)
    return "did not wait"


def test_a_sub_orchestration_that_nobody_waits_for_runs_all_the_same(world):
    child_id = unique("child")
    assert world.output_of(without_a_wait, input=child_id) == "did not wait"
    assert output(world.finish(child_id)) == 42
