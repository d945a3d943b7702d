"""What has ended, begun again: restarted from its input, or rewound to where it failed."""

from collections import Counter
from dataclasses import dataclass

import grpc
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.history import ExecutionRewoundEvent, ExecutionStartedEvent, TaskFailedEvent
from durabletask.task import TaskFailedError, when_all
from world import failure, output, refused, unique

CALLS = Counter()
BROKEN = set()


@dataclass
class Order:
    part: str
    number: int


def register(worker):
    for orchestrator in (
        counted, waits, fails, orders, charges, parent, child, two_fail, catches_and_fails, fails_by_itself,
        grandparent,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    for activity in (count, charge):
        worker.add_activity(activity)


def count(ctx, key):
    CALLS[key] += 1
    return CALLS[key]


def charge(ctx, key):
    CALLS[key] += 1
    if key in BROKEN:
        raise ConnectionError(f"{key} is broken")
    return f"charged {key}"


# -- restarted


def counted(ctx, key):
    return (yield ctx.call_activity(count, input=key))


def test_what_has_ended_runs_again_under_its_id(world):
    key = unique("key")
    state = world.run(counted, input=key)
    assert world.client.restart_orchestration(state.instance_id) == state.instance_id
    assert [output(state), output(world.finish(state.instance_id))] == [1, 2]


def test_what_has_ended_runs_again_under_another_id(world):
    key = unique("key")
    state = world.run(counted, input=key)
    again = world.client.restart_orchestration(state.instance_id, restart_with_new_instance_id=True)
    assert again != state.instance_id
    assert output(world.finish(again)) == 2
    assert output(world.client.get_orchestration_state(state.instance_id)) == 1


def orders(ctx, order: Order):
    assert isinstance(order, Order)
    return [order.part, order.number, ctx.version]


def test_a_restart_keeps_input_and_version(world):
    state = world.run(orders, input=Order("bolt", 3), version="1.5")
    again = world.client.restart_orchestration(state.instance_id, restart_with_new_instance_id=True)
    assert output(world.finish(again)) == ["bolt", 3, "1.5"]


def fails(ctx, key):
    CALLS[key] += 1
    yield ctx.call_activity(charge, input=key)


def test_what_has_failed_can_be_restarted(world):
    key = unique("key")
    BROKEN.add(key)
    state = world.run(fails, input=key)
    assert failure(state).inner_failure.message == f"{key} is broken"
    BROKEN.remove(key)
    world.client.restart_orchestration(state.instance_id)
    assert world.finish(state.instance_id).runtime_status is OrchestrationStatus.COMPLETED


def waits(ctx, _):
    return (yield ctx.wait_for_external_event("go"))


def test_what_was_terminated_can_be_restarted(world):
    instance_id = world.start(waits)
    world.client.terminate_orchestration(instance_id)
    world.finish(instance_id)
    world.client.restart_orchestration(instance_id)
    world.client.raise_orchestration_event(instance_id, "go", data="again")
    assert output(world.finish(instance_id)) == "again"


def test_what_runs_cannot_be_restarted(world):
    instance_id = world.start(waits)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        world.client.restart_orchestration(instance_id)


@pytest.mark.parametrize("method", ["restart_orchestration", "rewind_orchestration"])
def test_nobody_cannot_be_restarted_or_rewound(world, method):
    with refused(grpc.StatusCode.NOT_FOUND):
        getattr(world.client, method)(unique("nobody"))


# -- rewound


def charges(ctx, key):
    first = yield ctx.call_activity(count, input=f"before {key}")
    charged = yield ctx.call_activity(charge, input=key)
    return [first, charged]


def broken(world, orchestrator, *, depth=1):
    """An instance that failed for a reason that is gone by now, and its key."""
    key = unique("key")
    BROKEN.add(key)
    state = world.run(orchestrator, input=key)
    assert failure(state).error_type == "durabletask.task.TaskFailedError"
    BROKEN.remove(key)
    return state.instance_id, key


def test_a_rewound_orchestration_does_again_only_what_failed(world):
    instance_id, key = broken(world, charges)
    world.client.rewind_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [1, f"charged {key}"]
    assert (CALLS[f"before {key}"], CALLS[key]) == (1, 2)


def test_the_history_says_that_and_why_it_was_rewound(world):
    instance_id, _ = broken(world, charges)
    world.client.rewind_orchestration(instance_id, reason="the card works again")
    world.finish(instance_id)
    events = world.client.get_orchestration_history(instance_id)
    rewound = [event for event in events if isinstance(event, ExecutionRewoundEvent)]
    assert [event.reason for event in rewound] == ["the card works again"]
    assert not [event for event in events if isinstance(event, TaskFailedEvent)]


def test_it_can_fail_and_be_rewound_again(world):
    instance_id, key = broken(world, charges)
    BROKEN.add(key)
    world.client.rewind_orchestration(instance_id)
    assert failure(world.finish(instance_id)).inner_failure.message == f"{key} is broken"
    BROKEN.remove(key)
    world.client.rewind_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [1, f"charged {key}"]
    assert CALLS[key] == 3


def two_fail(ctx, key):
    tasks = [ctx.call_activity(charge, input=key) for _ in range(2)]
    tasks.insert(1, ctx.call_activity(count, input=f"between {key}"))
    return (yield when_all(tasks))


def test_all_that_failed_is_done_again(world):
    instance_id, key = broken(world, two_fail)
    world.client.rewind_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [f"charged {key}", 1, f"charged {key}"]
    assert (CALLS[key], CALLS[f"between {key}"]) == (4, 1)


def child(ctx, key):
    first = yield ctx.call_activity(count, input=f"in child of {key}")
    return [first, (yield ctx.call_activity(charge, input=key))]


def parent(ctx, key):
    return (yield ctx.call_sub_orchestrator(child, input=key))


def grandparent(ctx, key):
    return (yield ctx.call_sub_orchestrator(parent, input=key))


@pytest.mark.parametrize("orchestrator", [parent, grandparent])
def test_sub_orchestrations_that_failed_are_rewound_with_it(world, orchestrator):
    instance_id, key = broken(world, orchestrator)
    world.client.rewind_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [1, f"charged {key}"]
    assert (CALLS[f"in child of {key}"], CALLS[key]) == (1, 2)


def test_a_sub_orchestration_that_was_purged_is_run_anew(world):
    instance_id, key = broken(world, parent)
    world.client.purge_orchestration(f"{instance_id}:0001")
    world.client.rewind_orchestration(instance_id)
    assert output(world.finish(instance_id)) == [2, f"charged {key}"]


def catches_and_fails(ctx, key):
    try:
        yield ctx.call_activity(charge, input=key)
    except TaskFailedError:
        raise LookupError("nothing else to try") from None
    return "went well"


def test_what_the_orchestrator_made_of_a_failure_is_forgotten(world):
    key = unique("key")
    BROKEN.add(key)
    state = world.run(catches_and_fails, input=key)
    assert failure(state).error_type == "builtins.LookupError"
    BROKEN.remove(key)
    world.client.rewind_orchestration(state.instance_id)
    assert output(world.finish(state.instance_id)) == "went well"


def test_what_has_completed_cannot_be_rewound(world):
    state = world.run(counted, input=unique("key"))
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        world.client.rewind_orchestration(state.instance_id)


def fails_by_itself(ctx, _):
    yield ctx.call_activity(count, input="something")
    raise ValueError("as always")


def test_what_fails_by_itself_fails_again_when_it_is_rewound(world):
    state = world.run(fails_by_itself)
    world.client.rewind_orchestration(state.instance_id)
    assert failure(world.finish(state.instance_id)).message == "as always"


def test_a_rewound_orchestration_is_another_execution(world):
    instance_id, _ = broken(world, charges)
    world.client.rewind_orchestration(instance_id)
    world.finish(instance_id)
    events = world.client.get_orchestration_history(instance_id)
    (started,) = [event for event in events if isinstance(event, ExecutionStartedEvent)]
    execution_id = started.orchestration_instance.execution_id
    assert execution_id
    assert world.client.get_orchestration_history(instance_id, execution_id=execution_id) == events
