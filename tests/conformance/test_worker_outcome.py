"""What a change to an orchestrator does to a history: what ``replay`` says, and what a worker does.

Each class is one change: ``before`` records a history, ``after`` replays it. The table says which divergence
is found, in which field, and what the SDK's own executor makes of the same history: it *accepts* most changes
in silence, *fails* the instance on some and *hangs* on others. The line that the divergence names is the one
marked ``# here``; where it names no line, there is no mark.
"""

from __future__ import annotations

import inspect
import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from durabletask.entities import EntityInstanceId
from durabletask.task import RetryPolicy, TaskFailedError, when_all, when_any

from dt_testkit import History, ReplayDivergence, TaskHub, assert_replays, replay

if TYPE_CHECKING:
    from collections.abc import Callable


class Change(NamedTuple):
    before: Callable[..., Any]
    after: Callable[..., Any]
    kind: str
    field: str | None
    worker: str
    expected: Any
    actual: Any


CHANGES: dict[str, Change] = {}


def change(kind: str, field: str | None, worker: str, expected: Any = ..., actual: Any = ...) -> Any:
    def note(case: Any) -> Any:
        CHANGES[case.__name__] = Change(case.before, case.after, kind, field, worker, expected, actual)
        return case

    return note


DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ANA, BOB = EntityInstanceId("account", "ana"), EntityInstanceId("account", "bob")


@change("changed", "name", "fails", "charge", "bill")
class ActivityRenamed:
    def before(ctx, _):
        yield ctx.call_activity("charge", input=5)

    def after(ctx, _):
        yield ctx.call_activity("bill", input=5)  # here


@change("changed", "kind", "fails", "activity", "sub_orchestration")
class ActivityMadeASubOrchestration:
    def before(ctx, _):
        yield ctx.call_activity("charge", input=5)

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("charge", input=5)  # here


@change("changed", "kind", "fails", "timer", "activity")
class TimerMadeAnActivity:
    def before(ctx, _):
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        yield ctx.call_activity("wait")  # here


@change("changed", "input", "accepts", {"amount": 5}, {"amount": 6})
class ActivityInputChanged:
    def before(ctx, _):
        yield ctx.call_activity("charge", input={"amount": 5})

    def after(ctx, _):
        yield ctx.call_activity("charge", input={"amount": 6})  # here


@change("changed", "tags", "accepts", {"cost": "low"}, {"cost": "high"})
class TagsChanged:
    def before(ctx, _):
        yield ctx.call_activity("charge", tags={"cost": "low"})

    def after(ctx, _):
        yield ctx.call_activity("charge", tags={"cost": "high"})  # here


@change(
    "order", None, "fails", ["activity 'charge'", "activity 'ship'"], ["activity 'ship'", "activity 'charge'"]
)
class OrderSwappedInAFanOut:
    def before(ctx, _):
        yield when_all([ctx.call_activity("charge"), ctx.call_activity("ship")])

    def after(ctx, _):
        ship = ctx.call_activity("ship")  # here
        yield when_all([ctx.call_activity("charge"), ship])


@change("order", None, "accepts")
class InputsSwappedInAFanOut:
    def before(ctx, _):
        yield when_all([ctx.call_activity("charge", input=item) for item in (1, 2, 3)])

    def after(ctx, _):
        yield when_all([ctx.call_activity("charge", input=item) for item in (3, 2, 1)])  # here


@change("unexpected", None, "accepts", None, "activity 'ship'")
class SequenceMadeParallel:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("ship")

    def after(ctx, _):
        charge = ctx.call_activity("charge")
        ship = ctx.call_activity("ship")  # here
        yield when_all([charge, ship])


@change("missing", None, "fails", "activity 'ship'", None)
class FanOutMadeASequence:
    def before(ctx, _):
        yield when_all([ctx.call_activity("charge"), ctx.call_activity("ship")])

    def after(ctx, _):
        yield ctx.call_activity("charge")  # here
        yield ctx.call_activity("ship")


@change("changed", "fire_at", "accepts", datetime(2026, 1, 2), datetime(2026, 1, 3))
class TimerLengthened:
    def before(ctx, _):
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        yield ctx.create_timer(2 * DAY)  # here


@change("changed", "fire_at", "accepts", datetime(2026, 2, 1), datetime(2026, 2, 2))
class AbsoluteTimerChanged:
    def before(ctx, _):
        yield ctx.create_timer(datetime(2026, 2, 1))

    def after(ctx, _):
        yield ctx.create_timer(datetime(2026, 2, 2))  # here


@change("changed", "fire_at", "accepts", datetime(2026, 1, 1, 1), datetime(2026, 1, 1, 2))
class FirstRetryIntervalChanged:
    def before(ctx, _):
        yield ctx.call_activity(
            "flaky", retry_policy=RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3)
        )

    def after(ctx, _):
        yield ctx.call_activity(  # here
            "flaky", retry_policy=RetryPolicy(first_retry_interval=2 * HOUR, max_number_of_attempts=3)
        )


@change("changed", "fire_at", "accepts", datetime(2026, 1, 1, 2), datetime(2026, 1, 1, 3))
class RetryBackoffChanged:
    def before(ctx, _):
        yield ctx.call_activity(
            "flaky", retry_policy=RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3)
        )

    def after(ctx, _):
        policy = RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3, backoff_coefficient=2)
        yield ctx.call_activity("flaky", retry_policy=policy)  # here


@change("missing", None, "hangs")
class FewerRetryAttempts:
    def before(ctx, _):
        try:
            yield ctx.call_activity(
                "flaky", retry_policy=RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3)
            )
        except TaskFailedError:
            return "given up"

    def after(ctx, _):
        try:
            yield ctx.call_activity(
                "flaky", retry_policy=RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=1)
            )
        except TaskFailedError:
            return "given up"


@change("changed", "name", "fails", "pack", "wrap")
class SubOrchestrationRenamed:
    def before(ctx, _):
        yield ctx.call_sub_orchestrator("pack")

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("wrap")  # here


@change("changed", "input", "accepts", 5, 6)
class SubOrchestrationInputChanged:
    def before(ctx, _):
        yield ctx.call_sub_orchestrator("pack", input=5)

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("pack", input=6)  # here


@change("changed", "instance_id", "accepts", "pack-1", "pack-2")
class SubOrchestrationIdChanged:
    def before(ctx, _):
        yield ctx.call_sub_orchestrator("pack", instance_id="pack-1")

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("pack", instance_id="pack-2")  # here


@change("changed", "version", "accepts", "1.0", "2.0")
class SubOrchestrationVersionChanged:
    def before(ctx, _):
        yield ctx.call_sub_orchestrator("pack", version="1.0")

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("pack", version="2.0")  # here


@change("changed", "instance_id", "fails", "ana", "bob")
class EventTargetChanged:
    def before(ctx, _):
        ctx.send_event("ana", "approved", data=1)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.send_event("bob", "approved", data=1)  # here
        yield ctx.create_timer(DAY)


@change("changed", "name", "fails", "approved", "rejected")
class SentEventRenamed:
    def before(ctx, _):
        ctx.send_event("ana", "approved", data=1)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.send_event("ana", "rejected", data=1)  # here
        yield ctx.create_timer(DAY)


@change("changed", "data", "accepts", 1, 2)
class SentPayloadChanged:
    def before(ctx, _):
        ctx.send_event("ana", "approved", data=1)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.send_event("ana", "approved", data=2)  # here
        yield ctx.create_timer(DAY)


@change("result", "status", "hangs", "COMPLETED", "RUNNING")
class ExternalEventRenamed:
    def before(ctx, _):
        yield ctx.wait_for_external_event("approval")

    def after(ctx, _):
        yield ctx.wait_for_external_event("sign_off")  # here


@change("missing", None, "fails", "activity 'ship'", None)
class ExternalEventRenamedBeforeAStep:
    def before(ctx, _):
        yield ctx.wait_for_external_event("approval")
        yield ctx.call_activity("ship")

    def after(ctx, _):
        yield ctx.wait_for_external_event("sign_off")  # here
        yield ctx.call_activity("ship")


@change("changed", "name", "fails", "ship", "pack")
class StepAddedInTheMiddle:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("ship")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("pack")  # here
        yield ctx.call_activity("ship")


@change("unexpected", None, "accepts", None, "activity 'thank'")
class StepAddedAtTheEnd:
    def before(ctx, _):
        yield ctx.call_activity("charge")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("thank")  # here


@change("changed", "name", "fails", "pack", "ship")
class StepRemovedFromTheMiddle:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("pack")
        yield ctx.call_activity("ship")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("ship")  # here


@change("missing", None, "hangs")
class StepRemovedFromTheEnd:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.call_activity("thank")

    def after(ctx, _):
        yield ctx.call_activity("charge")


@change("missing", None, "hangs")
class EarlyEnd:
    def before(ctx, _):
        paid = yield ctx.call_activity("charge")
        yield ctx.create_timer(DAY)
        return paid

    def after(ctx, _):
        paid = yield ctx.call_activity("charge")
        return paid


@change("unexpected", None, "accepts", None, "a timer until 2026-01-02 00:00:00")
class LateEnd:
    def before(ctx, _):
        return (yield ctx.call_activity("charge"))

    def after(ctx, _):
        paid = yield ctx.call_activity("charge")
        yield ctx.create_timer(DAY)  # here
        return paid


@change("result", "status", "hangs", "COMPLETED", "RUNNING")
class LateEndOnAnEvent:
    def before(ctx, _):
        return (yield ctx.call_activity("charge"))

    def after(ctx, _):
        yield ctx.call_activity("charge")
        yield ctx.wait_for_external_event("receipt")  # here


@change("missing", None, "hangs", "activity 'charge'", None)
class EndInTheFirstTurn:
    def before(ctx, _):
        yield ctx.call_activity("charge")

    def after(ctx, _):
        return "done"


@change("result", "output", "accepts", {"paid": 5}, {"paid": 6})
class OutputChanged:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        return {"paid": 5}

    def after(ctx, _):
        yield ctx.call_activity("charge")
        return {"paid": 6}


@change("result", "status", "fails", "COMPLETED", "FAILED")
class FailureInsteadOfOutput:
    def before(ctx, _):
        yield ctx.call_activity("charge")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        raise ValueError("no money")  # here


@change("result", "status", "accepts", "FAILED", "COMPLETED")
class OutputInsteadOfFailure:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        raise ValueError("no money")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        return "paid"


@change("result", "failure", "accepts", "builtins.ValueError: no money", "builtins.ValueError: poor")
class FailureMessageChanged:
    def before(ctx, _):
        yield ctx.call_activity("charge")
        raise ValueError("no money")

    def after(ctx, _):
        yield ctx.call_activity("charge")
        raise ValueError("poor")  # here


@change("changed", "input", "accepts")
class UuidDrawnEarlier:
    def before(ctx, _):
        yield ctx.call_activity("charge", input=ctx.new_uuid())

    def after(ctx, _):
        ctx.new_uuid()
        yield ctx.call_activity("charge", input=ctx.new_uuid())  # here


@change("result", "output", "accepts", 1, 2)
class NewInputOfTheNextGenerationChanged:
    def before(ctx, left):
        yield ctx.create_timer(DAY)
        if left is None:
            ctx.continue_as_new(1)

    def after(ctx, left):
        yield ctx.create_timer(DAY)
        if left is None:
            ctx.continue_as_new(2)


@change("result", "status", "accepts", "CONTINUED_AS_NEW", "COMPLETED")
class NoNextGeneration:
    def before(ctx, left):
        yield ctx.create_timer(DAY)
        if left is None:
            ctx.continue_as_new(1)

    def after(ctx, left):
        yield ctx.create_timer(DAY)


@change("changed", "input", "accepts", 1, 2)
class WinnerOfARaceReadDifferently:
    def before(ctx, _):
        charge, late = ctx.call_activity("charge"), ctx.create_timer(DAY)
        winner = yield when_any([charge, late])
        late.cancel()
        yield ctx.call_activity("ship", input=1 if winner is charge else 2)

    def after(ctx, _):
        charge, late = ctx.call_activity("charge"), ctx.create_timer(DAY)
        winner = yield when_any([charge, late])
        yield ctx.call_activity("ship", input=2 if winner is charge else 1)  # here


@change("changed", "version", "accepts", None, "2.0")
class SubOrchestrationVersionAdded:
    def before(ctx, _):
        yield ctx.call_sub_orchestrator("pack")

    def after(ctx, _):
        yield ctx.call_sub_orchestrator("pack", version="2.0")  # here


@change("changed", "operation", "accepts", "deposit", "withdraw")
class EntityOperationRenamed:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 5)

    def after(ctx, _):
        yield ctx.call_entity(ANA, "withdraw", 5)  # here


@change("changed", "entity_id", "accepts", "@account@ana", "@account@bob")
class EntityKeyChanged:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 5)

    def after(ctx, _):
        yield ctx.call_entity(BOB, "deposit", 5)  # here


@change("changed", "entity_id", "accepts", "@account@ana", "@ledger@ana")
class EntityRenamed:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 5)

    def after(ctx, _):
        yield ctx.call_entity(EntityInstanceId("ledger", "ana"), "deposit", 5)  # here


@change("changed", "input", "accepts", 5, 6)
class EntityInputChanged:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 5)

    def after(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 6)  # here


@change("changed", "kind", "fails", "entity", "signal_entity")
class EntityCallMadeASignal:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)  # here
        yield ctx.create_timer(DAY)


@change("changed", "kind", "fails", "activity", "entity")
class ActivityMadeAnEntityCall:
    def before(ctx, _):
        yield ctx.call_activity("charge", input=5)

    def after(ctx, _):
        yield ctx.call_entity(ANA, "charge", 5)  # here


@change("unexpected", None, "accepts", None, "activity 'ship'")
class EntityCallNoLongerWaitedFor:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "withdraw", 5)
        yield ctx.call_activity("ship")

    def after(ctx, _):
        ctx.call_entity(ANA, "withdraw", 5)
        yield ctx.call_activity("ship")  # here


@change("order", None, "accepts")
class EntityCallsSwappedInAFanOut:
    def before(ctx, _):
        yield when_all([ctx.call_entity(ANA, "withdraw", 5), ctx.call_entity(BOB, "deposit", 5)])

    def after(ctx, _):
        deposit = ctx.call_entity(BOB, "deposit", 5)  # here
        yield when_all([ctx.call_entity(ANA, "withdraw", 5), deposit])


@change("unexpected", None, "fails", None, "a signal 'deposit' to entity @account@ana")
class SignalAdded:
    def before(ctx, _):
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)  # here
        yield ctx.create_timer(DAY)


@change("unexpected", None, "accepts", None, "a signal 'deposit' to entity @account@ana")
class SignalAddedAtTheEnd:
    def before(ctx, _):
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        yield ctx.create_timer(DAY)
        ctx.signal_entity(ANA, "deposit", 5)  # here


@change("missing", None, "fails", "a signal 'deposit' to entity @account@ana", None)
class SignalRemoved:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        yield ctx.create_timer(DAY)  # here


@change("missing", None, "hangs", "a signal 'deposit' to entity @account@ana", None)
class SignalRemovedFromTheEnd:
    def before(ctx, _):
        yield ctx.create_timer(DAY)
        ctx.signal_entity(ANA, "deposit", 5)

    def after(ctx, _):
        yield ctx.create_timer(DAY)


@change("changed", "operation", "accepts", "deposit", "withdraw")
class SignaledOperationRenamed:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "withdraw", 5)  # here
        yield ctx.create_timer(DAY)


@change("changed", "entity_id", "accepts", "@account@ana", "@account@bob")
class SignalTargetChanged:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(BOB, "deposit", 5)  # here
        yield ctx.create_timer(DAY)


@change("changed", "input", "accepts", 5, 6)
class SignalInputChanged:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "deposit", 6)  # here
        yield ctx.create_timer(DAY)


@change("changed", "signal_time", "accepts", datetime(2026, 2, 1), datetime(2026, 3, 1))
class SignalTimeChanged:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5, signal_time=datetime(2026, 2, 1))
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5, signal_time=datetime(2026, 3, 1))  # here
        yield ctx.create_timer(DAY)


@change("changed", "signal_time", "accepts", None, datetime(2026, 3, 1))
class SignalDelayed:
    def before(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5)
        yield ctx.create_timer(DAY)

    def after(ctx, _):
        ctx.signal_entity(ANA, "deposit", 5, signal_time=datetime(2026, 3, 1))  # here
        yield ctx.create_timer(DAY)


@change("changed", "lock_set", "accepts", "@account@ana", "@account@ana, @account@bob")
class LockSetWidened:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)

    def after(ctx, _):
        with (yield ctx.lock_entities([BOB, ANA])):  # here
            yield ctx.call_entity(ANA, "withdraw", 5)


@change("changed", "lock_set", "accepts", "@account@ana, @account@bob", "@account@ana")
class LockSetNarrowed:
    def before(ctx, _):
        with (yield ctx.lock_entities([BOB, ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA])):  # here
            yield ctx.call_entity(ANA, "withdraw", 5)


@change("changed", "lock_set", "accepts", "@account@ana", "@account@bob")
class AnotherEntityLocked:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.create_timer(DAY)

    def after(ctx, _):
        with (yield ctx.lock_entities([BOB])):  # here
            yield ctx.create_timer(DAY)


@change("changed", "kind", "fails", "lock", "entity")
class LockRemoved:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)

    def after(ctx, _):
        yield ctx.call_entity(ANA, "withdraw", 5)  # here


@change("changed", "kind", "fails", "entity", "lock")
class LockAdded:
    def before(ctx, _):
        yield ctx.call_entity(ANA, "withdraw", 5)

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA])):  # here
            yield ctx.call_entity(ANA, "withdraw", 5)


@change("unexpected", None, "fails", None, "the unlock of @account@ana")
class SectionLeftEarlier:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)
            yield ctx.call_activity("ship")

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA])):  # here
            yield ctx.call_entity(ANA, "withdraw", 5)
        yield ctx.call_activity("ship")


@change("missing", None, "fails", "the unlock of @account@ana", None)
class SectionLeftLater:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)
        yield ctx.call_activity("ship")

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "withdraw", 5)
            yield ctx.call_activity("ship")  # here


@change("changed", "kind", "fails", "lock", "entity")
class CallMovedBeforeTheSection:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA])):
            yield ctx.call_entity(ANA, "get")
            yield ctx.create_timer(DAY)

    def after(ctx, _):
        yield ctx.call_entity(ANA, "get")  # here
        with (yield ctx.lock_entities([ANA])):
            yield ctx.create_timer(DAY)


@change("changed", "entity_id", "accepts", "@account@ana", "@account@bob")
class CallsSwappedInTheSection:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA, BOB])):
            yield ctx.call_entity(ANA, "get")
            yield ctx.call_entity(BOB, "get")

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA, BOB])):
            yield ctx.call_entity(BOB, "get")  # here
            yield ctx.call_entity(ANA, "get")


@change("changed", "lock_set", "fails", "@account@ana, @account@bob", "@account@ana")
class EntityCalledNoLongerLocked:
    def before(ctx, _):
        with (yield ctx.lock_entities([ANA, BOB])):
            yield ctx.call_entity(BOB, "get")
            yield ctx.create_timer(DAY)

    def after(ctx, _):
        with (yield ctx.lock_entities([ANA])):  # here
            yield ctx.call_entity(BOB, "get")
            yield ctx.create_timer(DAY)


def account(ctx, amount):
    return amount


def _record(orchestrator: Callable[..., Any]) -> History:
    """The history of the first generation, of a run in which everything succeeds but for ``flaky``."""
    hub = TaskHub()
    hub.orchestrators["order"] = orchestrator
    for name in ("charge", "bill", "ship", "pack", "wait", "thank"):
        hub.stub(name, return_value=f"{name}d")
    hub.stub("flaky", side_effect=[ConnectionError("1"), ConnectionError("2"), "ok"])
    for name in ("charge", "pack", "wrap"):
        hub.stub_orchestrator(name)
    hub.add_entity(account)
    instance = hub.start("order", instance_id="order-1")
    if "approval" in orchestrator.__code__.co_consts:
        instance.raise_event("approval")
    hub.advance(100 * DAY)
    return instance.histories[0]


@pytest.mark.parametrize("name", CHANGES)
def test_the_unchanged_code_replays_clean_and_is_accepted(name: str) -> None:
    before = CHANGES[name].before
    report = replay(_record(before), before)
    assert report.ok, report
    assert report.worker_outcome == "accepts"


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_named(name: str) -> None:
    case = CHANGES[name]
    report = replay(_record(case.before), case.after)
    (first, *_) = report.divergences
    assert (first.kind, first.field) == (case.kind, case.field), report
    if case.expected is not ...:
        assert (first.expected, first.actual) == (case.expected, case.actual)
    lines, start = inspect.getsourcelines(case.after)
    marked = [start + i for i, line in enumerate(lines) if "# here" in line]
    assert first.location is not None
    assert os.path.abspath(first.location.file) == __file__
    assert first.location.function.rpartition(".")[2] == "after"
    assert first.location.line in (marked or range(start, start + len(lines))), report


@pytest.mark.parametrize("name", CHANGES)
def test_a_worker_does_with_the_change_what_was_measured(name: str) -> None:
    case = CHANGES[name]
    assert replay(_record(case.before), case.after).worker_outcome == case.worker


@pytest.mark.parametrize("name", CHANGES)
def test_assert_replays_fails_on_the_change_with_the_report(name: str) -> None:
    case = CHANGES[name]
    history = _record(case.before)
    with pytest.raises(ReplayDivergence) as raised:
        assert_replays(history, case.after)
    assert str(raised.value) == str(replay(history, case.after))


def test_what_no_history_records_is_no_divergence() -> None:
    """A custom status, a version for the next generation and whether unread events go with it."""

    def before(ctx, left):
        yield ctx.create_timer(DAY)
        if left is None:
            ctx.continue_as_new(1)

    def after(ctx, left):
        ctx.set_custom_status("waiting")
        yield ctx.create_timer(DAY)
        if left is None:
            ctx.continue_as_new(1, save_events=True, new_version="2.0")

    assert replay(_record(before), after).ok


def test_what_the_sdk_takes_for_the_same_is_no_divergence() -> None:
    """The order in which a lock set is written, an entity in it twice, and the case of an entity's name."""

    def before(ctx, _):
        with (yield ctx.lock_entities([ANA, BOB])):
            yield ctx.call_entity(ANA, "withdraw", 5)

    def after(ctx, _):
        with (yield ctx.lock_entities([BOB, ANA, BOB])):
            yield ctx.call_entity(EntityInstanceId("Account", "ana"), "withdraw", 5)

    assert replay(_record(before), after).ok


def test_a_worker_notices_few_of_the_changes_and_the_docs_say_how_few() -> None:
    outcomes = Counter(case.worker for case in CHANGES.values())
    assert outcomes["fails"] < len(CHANGES) / 2
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    assert (
        f"Of {len(CHANGES)} ways of changing an orchestrator under a recorded history, the SDK's worker "
        f"(1.12) reports {outcomes['fails']}. It accepts {outcomes['accepts']} in silence, and leaves the "
        f"instance Running for ever on {outcomes['hangs']}."
    ) in page
