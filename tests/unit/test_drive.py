"""Stepping one orchestrator, with the test playing the world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.history import EntityUnlockSentEvent
from durabletask.task import RetryPolicy, TaskFailedError, when_all, when_any

from dt_testkit import ReplayDivergence, StepError, drive, replay


@dataclass
class Order:
    item: str
    quantity: int
    price: float


def reserve(ctx, order: Order) -> str: ...


def charge(ctx, amount): ...


def order_workflow(ctx, order: Order):
    reservation = yield ctx.call_activity(reserve, input=order)
    payment = yield ctx.call_activity(
        charge,
        input=order.price,
        retry_policy=RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=2),
    )
    return {"reservation": reservation, "payment": payment}


def fan_out(ctx, names):
    return (yield when_all([ctx.call_activity(name, input=name) for name in names]))


def patient(ctx, _):
    approval = ctx.wait_for_external_event("approval")
    timer = ctx.create_timer(timedelta(hours=1))
    winner = yield when_any([approval, timer])
    return "late" if winner is timer else approval.get_result()


DESK = Order("desk", 2, 50.0)


def test_stepping_through_a_workflow_with_a_retry():
    step = drive(order_workflow, DESK)
    assert (step.pending[0].name, step.pending[0].input) == ("reserve", DESK)
    step.complete("R-1")
    step.fail(ConnectionError("reset"), of=charge)
    retry = step.pending[0]
    assert (retry.kind, retry.name, retry.due) == ("timer", "charge", datetime(2026, 1, 1, 0, 0, 5))
    step.advance(timedelta(seconds=5))
    assert step.pending[0].attempt == 2
    step.complete("PAY-7", of="charge")
    assert step.status is OrchestrationStatus.COMPLETED
    assert step.output == {"reservation": "R-1", "payment": "PAY-7"}


def test_when_the_attempts_are_used_up_the_failure_reaches_the_orchestrator():
    step = drive(order_workflow, DESK)
    step.complete("R-1")
    step.fail(ConnectionError("reset"))
    step.advance(timedelta(seconds=5))
    step.fail(ConnectionError("reset again"))
    assert step.status is OrchestrationStatus.FAILED
    assert step.failure is not None
    assert step.failure.inner_failure is not None
    assert step.failure.inner_failure.is_caused_by(ConnectionError)


def test_operations_can_be_completed_in_any_order():
    step = drive(fan_out, ["a", "b", "c"])
    b = step.pending[1]
    step.complete(2, of=b)
    step.complete(3, of="c")
    step.complete(1)
    assert step.output == [1, 2, 3]


def test_an_event_and_a_timer_race():
    early, late = drive(patient), drive(patient)
    early.raise_event("Approval", "yes")
    late.advance(timedelta(hours=1))
    assert (early.output, late.output) == ("yes", "late")


def test_a_sub_orchestration_is_completed_by_the_test_as_well():
    def parent(ctx, _):
        try:
            return (yield ctx.call_sub_orchestrator("child", input=1))
        except TaskFailedError as error:
            return str(error)

    good, bad = drive(parent), drive(parent)
    assert (good.pending[0].kind, good.pending[0].instance_id) == ("sub_orchestration", "driven:0001")
    good.complete("done", of="child")
    bad.fail(ValueError("no"))
    assert (good.output, bad.output) == ("done", "Sub-orchestration task #1 failed: no")


def test_suspending_resuming_and_terminating():
    step = drive(patient)
    step.suspend()
    step.raise_event("approval", "yes")
    assert step.status is OrchestrationStatus.SUSPENDED
    step.resume()
    assert step.output == "yes"
    stopped = drive(patient)
    stopped.terminate("enough")
    assert (stopped.status, stopped.output) == (OrchestrationStatus.TERMINATED, "enough")


def test_the_history_of_the_steps_replays():
    step = drive(order_workflow, DESK)
    step.complete("R-1")
    assert replay(step.history, order_workflow).ok
    assert "reserve" in str(step.history)


def test_a_result_is_what_production_would_hand_over_and_not_the_object_of_the_test():
    def typed(ctx, _):
        order = yield ctx.call_activity(make)
        return [type(order).__name__, order.item]

    def make(ctx, _) -> Order: ...

    step = drive(typed)
    step.complete(DESK)
    assert step.output == ["Order", "desk"]


def test_a_step_that_does_not_replay_raises_from_that_step():
    draws = iter(range(100))

    def random_walk(ctx, _):
        yield ctx.call_activity("one")
        yield ctx.call_activity("two", input=next(draws))

    step = drive(random_walk)
    with pytest.raises(ReplayDivergence, match="input was 0 in the history and is 1 now"):
        step.complete()


def test_two_candidates_are_an_error_that_lists_them():
    step = drive(fan_out, ["a", "b"])
    with pytest.raises(StepError, match="2 operations fit") as error:
        step.complete(1)
    assert "activity 'a' (#1)" in str(error.value)
    assert "activity 'b' (#2)" in str(error.value)


def test_what_is_not_pending_is_an_error_that_lists_what_is():
    step = drive(order_workflow, DESK)
    with pytest.raises(StepError, match="nothing like that is pending") as error:
        step.complete(of=charge)
    assert "activity 'reserve' (#1)" in str(error.value)


def test_what_is_done_already_is_said_to_be():
    step = drive(fan_out, ["a", "b"])
    first = step.pending[0]
    step.complete(1, of=first)
    with pytest.raises(StepError, match="done already"):
        step.complete(1, of=first)


def test_timers_and_events_are_not_completed_but_waited_for_and_raised():
    step = drive(patient)
    event, timer = step.pending
    with pytest.raises(StepError, match=r"use raise_event\(\)"):
        step.complete(of="approval")
    with pytest.raises(StepError, match=r"use raise_event\(\)"):
        step.fail(ValueError(), of=event)
    with pytest.raises(StepError, match=r"use advance\(\)"):
        step.complete(of=timer)
    with pytest.raises(StepError, match=r"use advance\(\)\. an external event is raised; use raise_event"):
        step.complete()


def test_a_wrong_type_is_said_at_the_step():
    step = drive(order_workflow, DESK)
    for call, sentence in (
        (lambda: step.fail("boom"), "fail\\(\\) takes an exception"),
        (lambda: step.complete(of=1), "of= is an operation"),
        (lambda: drive("order_workflow"), "takes the orchestrator itself"),
        (lambda: replay(step, order_workflow), "takes a History first"),
        (lambda: replay("history.json", order_workflow), "takes a History first"),
    ):
        with pytest.raises(TypeError, match=sentence):
            call()


def test_an_exception_class_will_do_and_the_operation_may_come_second():
    step = drive(order_workflow, DESK)
    step.complete("R-1", reserve)
    step.fail(ConnectionError, charge)
    assert step.pending[0].kind == "timer"


def test_a_step_after_the_end_is_an_error():
    step = drive(fan_out, ["a"])
    step.complete(1)
    for act in (
        step.complete,
        step.suspend,
        step.resume,
        step.terminate,
        lambda: step.raise_event("x"),
        lambda: step.fail(ValueError()),
    ):
        with pytest.raises(StepError, match="has ended, COMPLETED"):
            act()


def test_stepping_through_generations():
    def counter(ctx, n):
        yield ctx.create_timer(timedelta(minutes=1))
        if n == 3:
            return n
        ctx.continue_as_new(n + 1)

    step = drive(counter, 0)
    step.advance(timedelta(minutes=4))
    assert (step.output, len(step.histories)) == (3, 4)


ANA, BEN = EntityInstanceId("Account", "ana"), EntityInstanceId("Account", "ben")


def transfer(ctx, amount):
    with (yield ctx.lock_entities([BEN, ANA])):
        balance = yield ctx.call_entity(ANA, "withdraw", amount)
        yield ctx.call_entity(BEN, "deposit", amount)
    ctx.signal_entity(EntityInstanceId("audit", "all"), "note", amount)
    return balance


def test_entities_and_locks_are_stepped_through():
    step = drive(transfer, 30)
    assert [(op.kind, op.name) for op in step.pending] == [("lock", "@account@ana, @account@ben")]
    step.complete()
    assert [(op.kind, op.name, op.instance_id, op.input) for op in step.pending] == [
        ("entity", "withdraw", "@account@ana", 30)
    ]
    step.complete(70, of="@account@ana")
    step.complete(of=BEN)
    assert step.output == 70
    recorded = [type(event).__name__ for event in step.history]
    assert recorded.count("EntityUnlockSentEvent") == 2
    assert recorded.count("EntityOperationSignaledEvent") == 1


def test_an_entity_operation_that_fails_releases_the_locks():
    step = drive(transfer, 30)
    step.complete()
    step.fail(ValueError("not enough"), of="withdraw")
    assert step.status is OrchestrationStatus.FAILED
    assert (
        "Operation 'withdraw' on entity '@account@ana' failed with error: not enough" in step.failure.message
    )
    assert sum(type(event) is EntityUnlockSentEvent for event in step.history) == 2


def test_a_lock_neither_fails_nor_has_a_result():
    step = drive(transfer, 30)
    with pytest.raises(StepError, match="a lock cannot fail"):
        step.fail(ValueError())
    with pytest.raises(StepError, match="a lock has no result"):
        step.complete("mine")
    with pytest.raises(StepError, match="nothing like that is pending"):
        step.complete(of=ANA)
    assert step.pending[0].kind == "lock"


def test_what_is_done_while_suspended_is_not_done_again():
    step = drive(fan_out, ["a", "b"])
    step.suspend()
    step.complete("A", of="a")
    for again in ("a", step.pending[0]):
        with pytest.raises(StepError, match="that is done already, and is seen when it is resumed"):
            step.complete("again", of=again)
        with pytest.raises(StepError, match="that is done already"):
            step.fail(ValueError("too late"), of=again)
    step.complete("B")  # the only one that is left
    with pytest.raises(StepError, match="that is done already"):
        step.complete()
    step.resume()
    assert step.output == ["A", "B"]


def test_an_entity_call_or_a_lock_that_is_done_while_suspended_is_not_done_again():
    step = drive(transfer, 30)
    for _ in range(3):
        step.suspend()
        step.complete()
        with pytest.raises(StepError, match="that is done already"):
            step.complete()
        step.resume()
    assert step.status is OrchestrationStatus.COMPLETED


def test_an_attempt_that_failed_while_suspended_leaves_the_next_one_to_be_done():
    step = drive(order_workflow, DESK)
    step.complete("R-1")
    step.suspend()
    step.fail(ConnectionError("reset"))
    with pytest.raises(StepError, match="that is done already"):
        step.complete("PAY-1")
    step.resume()
    step.advance(timedelta(seconds=5))
    step.complete("PAY-2")
    assert step.output["payment"] == "PAY-2"


def test_what_was_done_in_one_generation_is_to_be_done_in_the_next():
    def two_lives(ctx, life):
        result = yield ctx.call_activity("work", input=life)
        if life == 1:
            ctx.continue_as_new(2)
        return result

    def works_and_waits(ctx, life):
        return (yield from two_lives(ctx, life) if life == 1 else patient(ctx, life))

    step = drive(two_lives, 1)
    first = step.pending[0]
    step.complete("first")
    assert step.pending[0].id == first.id
    step.suspend()
    step.complete("second", of=step.pending[0])
    step.resume()
    assert step.output == "second"
    step = drive(works_and_waits, 1)
    first = step.pending[0]
    step.complete("first")
    with pytest.raises(StepError, match="nothing like that is pending"):  # and not: done already
        step.complete("again", of=first)
