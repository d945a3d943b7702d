"""Rewinding an instance that failed, through the instance itself; the client's call is in the scenarios."""

from __future__ import annotations

from datetime import timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.history import ExecutionRewoundEvent, TaskFailedEvent
from durabletask.task import RetryPolicy, TaskFailedError, when_all

from dt_testkit import InstanceNotFound, InvalidState, ReplayDivergence, TaskHub, replay


class Machine:
    """Activities that can be out of order."""

    def __init__(self):
        self.broken = True
        self.runs = []

    def press(self, ctx, part):
        self.runs.append(part)
        if self.broken:
            raise RuntimeError(f"{part} is stuck")
        return f"{part} pressed"


def press_one(ctx, part):
    return (yield ctx.call_activity("press", input=part))


def press_and_wait(ctx, part):
    tea_break = ctx.create_timer(timedelta(hours=1))
    painting = ctx.call_activity("paint", input=part)
    pressed = yield ctx.call_activity("press", input=part)
    painted = yield painting
    yield tea_break
    return [pressed, painted]


def order(ctx, parts):
    yield ctx.call_activity("paint", input="frame")
    return (yield when_all([ctx.call_sub_orchestrator(press_one, input=part) for part in parts]))


def own_fault(ctx, _):
    yield ctx.call_activity("paint", input="frame")
    raise ValueError("the orchestrator's own")


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture(params=["generation", "turn"])
def hub(request, machine):
    hub = TaskHub(check_replay=request.param)
    for orchestrator in (press_one, press_and_wait, order, own_fault):
        hub.add_orchestrator(orchestrator)
    hub.stub("press", side_effect=machine.press)
    hub.stub("paint", return_value="painted", duration=timedelta(seconds=20))
    return hub


def test_only_what_failed_is_done_again(hub, machine):
    made = hub.run(order, input=["door", "lid"])
    assert made.status is OrchestrationStatus.FAILED
    machine.broken = False
    made.rewind("mended")
    made.wait()
    assert made.output == ["door pressed", "lid pressed"]
    assert machine.runs == ["door", "lid", "door", "lid"]
    assert len(hub._stubs["paint"].calls) == 1
    (rewound,) = [event for event in made.history if isinstance(event, ExecutionRewoundEvent)]
    assert rewound.reason == "mended"
    assert not any(isinstance(event, TaskFailedEvent) for event in made.history)
    for instance in hub.instances:
        report = replay(instance.history, hub)
        assert (report.ok, report.worker_outcome) == (True, "accepts"), report


@pytest.mark.parametrize(
    "later", [timedelta(0), timedelta(seconds=10), timedelta(minutes=5), timedelta(hours=2)]
)
def test_what_was_open_when_it_failed_still_comes(hub, machine, later):
    made = hub.run(press_and_wait, input="door")
    assert made.status is OrchestrationStatus.FAILED
    failed_at = hub.now
    hub.advance(later)
    machine.broken = False
    made.rewind()
    made.wait()
    assert made.output == ["door pressed", "painted"]
    assert hub.now == failed_at + max(later, timedelta(hours=1))  # the timer is due when it was due
    assert len(hub._stubs["paint"].calls) == 1  # its result was kept
    assert replay(made.history, hub).ok


def test_an_instance_is_rewound_as_often_as_it_fails(hub, machine):
    made = hub.run(press_one, input="door")
    for _ in range(3):
        made.rewind()
        made.wait()
        assert made.status is OrchestrationStatus.FAILED
    machine.broken = False
    made.rewind()
    assert made.wait().output == "door pressed"
    report = replay(made.history, hub)
    assert (report.ok, report.worker_outcome) == (True, "accepts"), report


def test_an_error_of_its_own_is_met_again_until_the_code_is_mended(hub):
    made = hub.run(own_fault)
    made.rewind()
    assert made.wait().failure.message == "the orchestrator's own"
    assert replay(made.history, hub).ok

    def mended(ctx, _):
        yield ctx.call_activity("paint", input="frame")
        return "mended"

    hub.orchestrators["own_fault"] = mended
    made.rewind()
    assert made.wait().output == "mended"
    assert replay(made.history, hub).ok


def test_code_that_took_another_way_before_the_failure_is_a_divergence(hub):
    made = hub.run(own_fault)

    def other(ctx, _):
        yield ctx.call_activity("press", input="frame")
        return "another way"

    hub.orchestrators["own_fault"] = other
    made.rewind()
    with pytest.raises(ReplayDivergence, match="#1 was activity 'paint' in the history"):
        made.wait()


def test_a_step_taken_away_is_found_in_a_rewound_history_too(hub, machine):
    made = hub.run(press_and_wait, input="door")
    machine.broken = False
    made.rewind()
    made.wait()

    def shorter(ctx, part):
        tea_break = ctx.create_timer(timedelta(hours=1))
        pressed = yield ctx.call_activity("press", input=part)
        yield tea_break
        return pressed

    report = replay(made.history, shorter)
    assert [(d.kind, d.field, d.event_id) for d in report.divergences] == [("changed", "name", 2)]


def test_only_an_instance_that_failed_is_rewound(hub, machine):
    machine.broken = False
    made = hub.run(press_one, input="door")
    with pytest.raises(InvalidState, match="is COMPLETED: only one that FAILED is rewound"):
        made.rewind()
    hub.client.purge_orchestration(made.instance_id)
    with pytest.raises(InstanceNotFound, match="cannot be rewound, for it was purged"):
        made.rewind()


LEDGER = EntityInstanceId("ledger", "l")


def ledger(ctx, amount):
    ctx.set_state(ctx.get_state(int, 0) + amount)
    return ctx.get_state(int)


def holds(ctx, _):
    with (yield ctx.lock_entities([LEDGER])):
        yield ctx.wait_for_external_event("let go")


def books(ctx, amount):
    booking = ctx.call_entity(LEDGER, "add", amount)
    yield ctx.call_activity("press", input="door")
    return (yield booking)


def presses_under_lock(ctx, amount):
    with (yield ctx.lock_entities([LEDGER])):
        yield ctx.call_activity("press", input="door")
        return (yield ctx.call_entity(LEDGER, "add", amount))


@pytest.fixture
def ledger_hub(hub):
    hub.add_entity(ledger)
    for orchestrator in (holds, books, presses_under_lock):
        hub.add_orchestrator(orchestrator)
    return hub


def test_the_answer_of_an_entity_that_came_after_the_failure_is_not_lost(ledger_hub, machine):
    hub = ledger_hub
    holder = hub.start(holds)
    hub.settle()
    made = hub.run(books, input=5)
    assert made.status is OrchestrationStatus.FAILED
    holder.raise_event("let go")
    hub.settle()
    assert hub.entity(LEDGER).state == 5
    machine.broken = False
    made.rewind()
    assert made.wait().output == 5
    assert hub.entity(LEDGER).state == 5
    report = replay(made.history, hub)
    assert (report.ok, report.worker_outcome) == (True, "accepts"), report


def test_what_failed_in_a_critical_section_goes_on_without_the_lock(ledger_hub, machine):
    hub = ledger_hub
    made = hub.run(presses_under_lock, input=5)
    assert hub.entity(LEDGER).locked_by is None
    machine.broken = False
    made.rewind()
    assert made.wait().output == 5
    report = replay(made.history, hub)
    assert (report.ok, report.worker_outcome) == (True, "accepts"), report


def test_a_child_that_was_restarted_by_itself_counts_for_its_parent(hub, machine):
    made = hub.run(order, input=["door"])
    machine.broken = False
    hub.client.restart_orchestration(f"{made.instance_id}:0002")
    hub.settle()
    made.rewind()
    assert made.wait().output == ["door pressed"]


def test_an_activity_that_failed_when_nobody_was_told_is_tried_again(hub, machine):
    hub.stub("paint", side_effect=[OSError("no paint"), "painted"], duration=timedelta(minutes=1))
    made = hub.run(press_and_wait, input="door")
    hub.advance(timedelta(minutes=5))
    machine.broken = False
    made.rewind()
    assert made.wait().output == ["door pressed", "painted"]


def test_a_stubbed_sub_orchestration_is_called_again_and_keeps_its_new_answer(hub):
    def parent(ctx, _):
        first = yield ctx.call_sub_orchestrator("child", input=1)
        yield ctx.create_timer(timedelta(hours=1))
        return first

    hub.add_orchestrator(parent)
    stub = hub.stub_orchestrator(
        "child", side_effect=[ValueError("busy"), ValueError("busy"), "done"], duration=timedelta(minutes=1)
    )
    made = hub.run(parent)
    hub.advance(timedelta(days=1))
    made.rewind()
    assert made.wait().status is OrchestrationStatus.FAILED
    made.rewind()
    hub.settle()
    hub.crash_worker()  # replays give the answer that was given
    assert made.wait().output == "done"
    assert [(call.input, call.attempt) for call in stub.calls] == [(1, 1)] * 3
    assert [call.time.day for call in stub.calls] == [1, 2, 2]
    for instance in hub.instances:
        assert replay(instance.history, hub).ok


def test_a_stubbed_orchestrator_without_a_duration_is_called_again_too(hub):
    hub.stub_orchestrator("alone", side_effect=[ValueError("busy"), 7])
    made = hub.run("alone")
    made.rewind()
    assert made.wait().output == 7
    assert replay(made.history, hub).ok


def test_a_long_chain_of_sub_orchestrations_is_rewound(hub, machine):
    def chain(ctx, level):
        try:
            if level:
                return (yield ctx.call_sub_orchestrator(chain, input=level - 1, instance_id=f"level-{level}"))
            return (yield ctx.call_activity("press", input="door"))
        except TaskFailedError:
            pass
        raise ValueError("stuck")  # and not a failure in a failure, 600 times

    hub.add_orchestrator(chain)
    made = hub.run(chain, input=600)
    machine.broken = False
    made.rewind()
    assert made.wait().output == "door pressed"
    assert machine.runs == ["door", "door"]


@pytest.mark.parametrize("what", ["activity", "sub_orchestration"])
def test_what_a_policy_retried_cannot_be_rewound(hub, what):
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=2)

    def retried(ctx, _):
        if what == "activity":
            return (yield ctx.call_activity("press", retry_policy=policy))
        return (yield ctx.call_sub_orchestrator(press_one, retry_policy=policy))

    hub.add_orchestrator(retried)
    made = hub.run(retried)
    made.rewind()
    with pytest.raises(ReplayDivergence, match="a timer until 2026-01-01 00:00:05"):
        made.wait()
