"""The hub, as a test uses it: virtual time, stubs, what instances show."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import namedtuple
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.serialization import JsonDataConverter
from durabletask.task import RetryPolicy, TaskFailedError, when_all, when_any
from durabletask.worker import (
    OrchestrationWorkItemFilter,
    VersionMatchStrategy,
    WorkItemFilters,
    _RuntimeOrchestrationContext,
)

from dt_testkit import (
    DurableTestError,
    InstanceAlreadyExists,
    InstanceNotFound,
    OrchestrationBlocked,
    OrchestrationNotFinished,
    ReplayDivergence,
    StubExhausted,
    TaskHub,
    replay,
)

THREE_TIMES = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=3)


@dataclass
class Order:
    item: str
    quantity: int
    price: float


def reserve(ctx, order: Order) -> str:
    return f"R-{order.item}"


def charge(ctx, amount):
    return f"PAY-{amount}"


def order_workflow(ctx, order: Order):
    ctx.set_custom_status("reserving")
    reservation = yield ctx.call_activity(reserve, input=order)
    ctx.set_custom_status("charging")
    payment = yield ctx.call_activity(charge, input=order.price * order.quantity, retry_policy=THREE_TIMES)
    return {"reservation": reservation, "payment": payment}


def purchase_approval(ctx, order: Order):
    if order.price < 1000:
        return "auto-approved"
    approval = ctx.wait_for_external_event("approval")
    timeout = ctx.create_timer(timedelta(hours=24))
    winner = yield when_any([approval, timeout])
    if winner is timeout:
        return "timed out"
    timeout.cancel()
    return f"approved by {approval.get_result()['approver']}"


def nap(ctx, hours):
    yield ctx.create_timer(timedelta(hours=hours))
    return ctx.current_utc_datetime.isoformat()


@pytest.fixture
def hub():
    hub = TaskHub()
    for orchestrator in (order_workflow, purchase_approval, nap):
        hub.add_orchestrator(orchestrator)
    hub.add_activity(reserve)
    hub.add_activity(charge)
    return hub


DESK = Order("desk", 2, 60.0)
CAR = Order("car", 1, 42_000.0)


def test_run_drives_an_orchestration_to_its_end(hub):
    order = hub.run(order_workflow, input=DESK)
    assert order.status is OrchestrationStatus.COMPLETED
    assert order.output == {"reservation": "R-desk", "payment": "PAY-120.0"}


def test_an_instance_shows_its_input_as_the_annotated_type_and_its_custom_status(hub):
    order = hub.run(order_workflow, input=DESK)
    assert (order.input, order.custom_status) == (DESK, "charging")


def test_the_clock_starts_where_it_is_told_to_and_stands_still_while_settling():
    hub = TaskHub(start_time=datetime(2030, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))))
    hub.settle()
    assert hub.now == datetime(2030, 5, 1, 12)


def test_run_skips_time_to_the_moment_at_which_the_orchestration_ends(hub):
    assert hub.run(nap, input=8760).output == "2027-01-01T00:00:00"
    assert hub.now == datetime(2027, 1, 1)


def test_advance_lets_everything_that_is_due_in_between_happen_in_order(hub):
    long, short = hub.start(nap, input=3), hub.start(nap, input=1)
    hub.advance(timedelta(hours=2))
    assert (long.status, short.output) == (OrchestrationStatus.RUNNING, "2026-01-01T01:00:00")
    hub.advance(timedelta(hours=2))
    assert long.output == "2026-01-01T03:00:00"


def test_an_instance_lists_what_it_waits_for_in_the_order_in_which_it_asked(hub):
    order = hub.start(purchase_approval, input=CAR)
    hub.settle()
    assert [(op.kind, op.name) for op in order.waiting_for] == [("event", "approval"), ("timer", None)]
    assert order.waiting_for[1].due == datetime(2026, 1, 2)
    assert "test_hub.py" in str(order.waiting_for[0])


def test_an_event_moves_an_instance_whatever_the_case_of_its_name(hub):
    order = hub.start(purchase_approval, input=CAR, instance_id="car-1")
    hub.settle()
    hub.instance("car-1").raise_event("APPROVAL", {"approver": "ana"})
    hub.settle()
    assert order.output == "approved by ana"


def test_an_event_that_arrives_before_anybody_waits_is_kept(hub):
    order = hub.start(purchase_approval, input=CAR)
    order.raise_event("approval", {"approver": "ana"})
    hub.settle()
    assert order.output == "approved by ana"


def test_time_runs_out_for_whoever_waits(hub):
    late = hub.start(purchase_approval, input=CAR)
    hub.advance(timedelta(hours=25))
    assert late.output == "timed out"


def test_run_of_what_only_an_event_can_move_says_what_it_waits_for(hub):
    def ask(ctx, _):
        yield when_all([ctx.wait_for_external_event("approval"), ctx.wait_for_external_event("budget")])

    def parent(ctx, _):
        yield ctx.call_sub_orchestrator(ask, instance_id="asked")

    hub.add_orchestrator(ask)
    hub.add_orchestrator(parent)
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(parent)
    text = str(blocked.value)
    assert all(part in text for part in ("event 'approval'", "event 'budget'", "'asked'", "test_hub.py"))


def test_run_of_a_suspended_instance_says_that_it_is_suspended(hub):
    order = hub.start(nap, input=1)
    hub.settle()
    order.suspend()
    with pytest.raises(OrchestrationBlocked, match=r"suspended: resume\(\) it"):
        order.wait()
    order.resume()
    assert order.wait().status is OrchestrationStatus.COMPLETED


def test_an_eternal_orchestration_under_run_is_an_error_and_not_a_hang():
    def eternal(ctx, n):
        yield ctx.create_timer(timedelta(hours=1))
        ctx.continue_as_new(n + 1)

    hub = TaskHub()
    hub.add_orchestrator(eternal)
    with pytest.raises(OrchestrationNotFinished, match="advance"):
        hub.run(eternal, input=0, max_turns=1000)


def _counts_down(ctx, left):
    yield ctx.create_timer(timedelta(hours=1))
    if left != 1:
        ctx.continue_as_new(left - 1)


def test_an_eternal_orchestration_is_given_up_after_ten_thousand_generations_and_can_be_waited_for_again():
    hub = TaskHub(check_replay="never", guard="off")
    hub.add_orchestrator(_counts_down)
    with pytest.raises(
        OrchestrationNotFinished, match=r"limit of generations .* generation 10001\).* advance"
    ):
        hub.run(_counts_down, input=10_003)
    assert hub.instances[0].wait().status is OrchestrationStatus.COMPLETED
    assert len(hub.instances[0].histories) == 10_003


def _goes_round(ctx, turns):
    if turns != 1:
        ctx.continue_as_new(turns - 1)


@pytest.mark.parametrize(
    "drive",
    [
        lambda hub: hub.settle(),
        lambda hub: hub.advance(timedelta(seconds=1)),
        lambda hub: hub.instances[0].wait(timedelta(seconds=1)),
        lambda hub: hub.client.wait_for_orchestration_completion(hub.instances[0].instance_id, timeout=1),
    ],
)
def test_going_round_ten_thousand_times_at_one_moment_is_an_error_and_can_be_gone_on_with(drive):
    hub = TaskHub(check_replay="never", guard="off")
    hub.add_orchestrator(_goes_round)
    instance = hub.start(_goes_round, input=10_003)
    message = r"\(_goes_round\) has continued as new 10,000 times while virtual time stood still at 2026-"
    with pytest.raises(OrchestrationNotFinished, match=message):
        drive(hub)
    drive(hub)
    assert instance.status is OrchestrationStatus.COMPLETED
    assert len(instance.histories) == 10_003


def test_going_round_once_in_each_of_many_calls_is_no_error():
    def mailbox(ctx, count):
        yield ctx.wait_for_external_event("letter")
        ctx.continue_as_new(count + 1)

    hub = TaskHub(check_replay="never", guard="off")
    hub.add_orchestrator(mailbox)
    instance = hub.start(mailbox, input=0)
    for _ in range(10_002):
        instance.raise_event("letter")
        hub.settle()
    assert instance.input == 10_002


def test_going_round_at_one_moment_is_no_error_where_it_is_asked_for_nor_where_time_passes():
    hub = TaskHub(check_replay="never", guard="off")
    hub.add_orchestrator(_goes_round)
    hub.add_orchestrator(_counts_down)
    instance = hub.start(_goes_round, input=10_003)
    hub.settle(max_turns=20_000)
    assert instance.status is OrchestrationStatus.COMPLETED
    hourly = hub.start(_counts_down, input=10_003)
    hub.advance(timedelta(hours=10_003))
    assert hourly.status is OrchestrationStatus.COMPLETED


def test_a_limit_of_turns_that_was_asked_for_is_the_only_one():
    hub = TaskHub(check_replay="never", guard="off")
    hub.add_orchestrator(_counts_down)
    ended = hub.run(_counts_down, input=10_003, max_turns=25_000)
    assert len(ended.histories) == 10_003


def test_an_eternal_orchestration_under_advance_lives_one_generation_after_another():
    def eternal(ctx, n):
        yield ctx.create_timer(timedelta(hours=1))
        ctx.continue_as_new(n + 1)

    hub = TaskHub()
    hub.add_orchestrator(eternal)
    instance = hub.start(eternal, input=0)
    hub.advance(timedelta(hours=100, minutes=1))
    assert instance.input == 100
    assert len(instance.histories) == 101


def test_an_orchestration_that_raises_fails_and_does_not_raise_in_the_test(hub):
    def broken(ctx, _):
        raise LookupError("no such order")
        yield

    hub.add_orchestrator(broken)
    failed = hub.run(broken)
    assert failed.status is OrchestrationStatus.FAILED
    assert failed.failure is not None
    assert (failed.failure.error_type, failed.failure.message) == ("builtins.LookupError", "no such order")


def test_what_is_not_registered_fails_with_the_errors_of_the_sdk(hub):
    def asks(ctx, _):
        yield ctx.call_activity("nobody")

    hub.add_orchestrator(asks)
    assert "OrchestratorNotRegisteredError" in hub.run("nobody").failure.error_type
    failure = hub.run(asks).failure
    assert failure.inner_failure is not None
    assert "ActivityNotRegisteredError" in failure.inner_failure.error_type


def test_an_output_that_cannot_be_serialized_fails_the_orchestration(hub):
    def odd(ctx, _):
        return {1, 2}

    hub.add_orchestrator(odd)
    assert "JsonEncodeOutputException" in hub.run(odd).failure.error_type


def test_an_orchestrator_that_is_no_generator_completes_with_what_it_returns(hub):
    def plain(ctx, n):
        return n + 1

    hub.add_orchestrator(plain)
    assert hub.run(plain, input=1).output == 2


@pytest.mark.parametrize("value", [None, 5, "a string"])
def test_a_first_yield_of_no_task_is_a_wait_without_end_and_said_to_be(hub, value):
    def odd(ctx, _):
        yield value

    hub.add_orchestrator(odd)
    with pytest.raises(OrchestrationBlocked, match="no task") as blocked:
        hub.run(odd)
    assert "test_hub.py" in str(blocked.value)
    assert str(blocked.value).endswith("yield what its context returns, such as ctx.call_activity(...).")
    assert "Raise the event" not in str(blocked.value)


def test_who_waits_for_no_event_is_not_told_to_raise_one(hub):
    def holds(ctx, key):
        with (yield ctx.lock_entities([EntityInstanceId("counter", key)])):
            yield ctx.wait_for_external_event("go")

    def calls(ctx, key):
        yield ctx.call_entity(EntityInstanceId("counter", key), "get")

    hub.add_entity(lambda ctx, _: None, "counter")
    hub.add_orchestrator(holds)
    hub.add_orchestrator(calls)
    hub.start(holds, input="a")
    hub.settle()
    with pytest.raises(OrchestrationBlocked, match="is locked by") as blocked:
        hub.run(calls, input="a")
    assert "Raise the event" not in str(blocked.value)
    assert "Use start(), settle() and advance()" in str(blocked.value)


def test_a_wrong_option_of_a_hub_is_refused_at_once():
    for options, sentence in (
        ({"seed": "x"}, "seed is an int, not 'x'"),
        ({"seed": None}, "seed is an int, not None"),
        ({"data_converter": 5}, "data_converter is a DataConverter of the SDK, not 5"),
        ({"maximum_timer_interval": 5}, "maximum_timer_interval is a timedelta, not 5"),
    ):
        with pytest.raises(TypeError, match=sentence):
            TaskHub(**options)


def _calls_misspelt(ctx, _):
    yield ctx.call_activity("resrve")


async def _is_async(ctx, _):
    pass


@pytest.mark.parametrize(
    ("start", "failure", "hint"),
    [
        (
            _calls_misspelt,
            "Activity function named 'resrve' was not registered!",
            "No activity 'resrve' is registered: did you mean 'reserve'?",
        ),
        (
            "purchase_aproval",
            "A 'purchase_aproval' orchestrator was not registered.",
            "failed with OrchestratorNotRegisteredError: did you mean 'purchase_approval'?",
        ),
    ],
)
def test_a_name_that_is_nearly_another_is_logged_and_the_failure_stays_the_workers(
    hub, caplog, start, failure, hint
):
    hub.add_orchestrator(_calls_misspelt)
    failed = hub.run(start)
    assert failed.failure.message.endswith(failure)
    assert [(record.name, record.levelname) for record in caplog.records] == [("dt_testkit", "WARNING")]
    assert hint in caplog.text


@pytest.mark.filterwarnings("ignore:coroutine '_is_async' was never awaited")
def test_an_orchestrator_that_is_an_async_def_is_named_with_the_way_out(hub, caplog):
    hub.add_orchestrator(_is_async)
    failed = hub.run(_is_async)
    assert "could not be encoded" in failed.failure.message
    assert "it is an 'async def', and orchestrators are generators; write 'def' and 'yield'" in caplog.text


def test_an_orchestrator_that_fails_on_an_input_that_does_not_fit_its_annotation_is_explained(hub, caplog):
    assert "no attribute 'price'" in hub.run(purchase_approval, input={"item": "desk"}).failure.message
    assert "its input does not fit its annotation Order, so the orchestrator is given a dict" in caplog.text


def test_an_orchestrator_that_fails_on_an_input_that_fits_is_not_explained(hub, caplog):
    assert hub.run(purchase_approval, input=Order("desk", 1, None)).failure is not None
    assert caplog.records == []


def test_an_event_whose_name_is_nearly_one_that_is_waited_for_is_logged_once(hub, caplog):
    order = hub.start(purchase_approval, input=CAR)
    hub.settle()
    order.raise_event("aproval")
    order.raise_event("something else")
    hub.advance(timedelta(days=2))
    assert order.output == "timed out"
    assert [record.getMessage() for record in caplog.records] == [
        f"Nobody took the event 'aproval' that came to instance '{order.instance_id}' (purchase_approval): "
        "did you mean 'approval'?"
    ]


def test_a_history_in_which_nothing_has_run_yet_says_how_to_go_on(hub):
    order = hub.start(purchase_approval, input=CAR, instance_id="car")
    assert str(order.history).splitlines() == [
        "purchase_approval 'car'  in flight  0 events",
        "nothing has run yet: hub.settle() takes the first turn",
    ]
    hub.settle()
    assert "nothing has run yet" not in str(order.history)


def test_a_history_in_which_nothing_may_run_says_why(hub):
    later = hub.start(purchase_approval, input=CAR, start_at=datetime(2026, 1, 2))
    left_out = hub.start(nap, input=0)
    hub.use_work_item_filters(
        WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("purchase_approval")])
    )
    hub.settle()
    assert str(later.history).endswith("starts at 2026-01-02 00:00:00, and hub.advance() gets there.")
    assert b"gets there" not in later.history.dumps(".json")
    with pytest.raises(TimeoutError, match=r"\(purchase_approval\) starts at 2026-01-02 00:00:00, and hub"):
        later.wait(timedelta(hours=1))
    assert str(left_out.history).endswith("the worker's filters leave orchestration 'nap' out.")
    hub.use_work_item_filters(None)
    hub.advance(timedelta(days=1))
    assert len(later.history)
    assert len(left_out.history)


def test_a_later_yield_of_no_task_fails_the_orchestration_as_on_the_worker(hub):
    def odd(ctx, _):
        yield ctx.create_timer(timedelta(0))
        yield 5

    hub.add_orchestrator(odd)
    assert "non-Task" in hub.run(odd).failure.message


def test_when_all_of_nothing_never_completes_as_on_the_worker(hub):
    def odd(ctx, _):
        yield when_all([])

    hub.add_orchestrator(odd)
    with pytest.raises(OrchestrationBlocked, match="nothing that can ever complete"):
        hub.run(odd)


def test_a_timer_in_the_past_fires_at_once(hub):
    def late(ctx, _):
        yield ctx.create_timer(datetime(2020, 1, 1))
        return ctx.current_utc_datetime.year

    hub.add_orchestrator(late)
    assert hub.run(late).output == 2026


def test_aware_and_naive_moments_name_the_same_timer(hub):
    def both(ctx, _):
        moment = ctx.current_utc_datetime + timedelta(hours=5)
        aware = moment.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=-8)))
        yield when_all([ctx.create_timer(moment), ctx.create_timer(aware)])

    hub.add_orchestrator(both)
    timers = [e for e in hub.run(both).history if type(e).__name__ == "TimerCreatedEvent"]
    assert timers[0].fire_at == timers[1].fire_at


def test_a_delayed_start_waits_for_its_moment(hub):
    instance = hub.start(nap, input=0, start_at=datetime(2026, 2, 1))
    hub.advance(timedelta(days=30))
    assert instance.status is OrchestrationStatus.PENDING
    hub.advance(timedelta(days=1))
    assert instance.output == "2026-02-01T00:00:00"


def test_a_clash_of_ids_is_refused_also_when_the_first_has_ended(hub):
    hub.run(nap, input=1, instance_id="twice")
    with pytest.raises(InstanceAlreadyExists, match=r"'twice' already exists \(nap, COMPLETED\)"):
        hub.start(nap, input=1, instance_id="twice")


def test_an_unknown_instance_is_a_clear_error_that_lists_the_known_ones(hub):
    hub.run(nap, input=1, instance_id="known")
    with pytest.raises(InstanceNotFound, match="'known'"):
        hub.instance("unknown").raise_event("x")


def test_time_does_not_go_backwards(hub):
    with pytest.raises(ValueError, match="backwards"):
        hub.advance(timedelta(hours=-1))


def test_advance_takes_a_timedelta_and_says_so(hub):
    with pytest.raises(TypeError, match=r"timedelta\(hours=1\)"):
        hub.advance(3600)  # type: ignore[arg-type]


def test_advancing_past_the_end_of_the_calendar_is_refused(hub):
    with pytest.raises(ValueError, match="calendar"):
        hub.advance(timedelta(days=3_000_000))


# -- stubs


def test_a_stub_answers_with_one_result_or_exception_after_the_other(hub):
    stub = hub.stub("charge", side_effect=[ConnectionError("reset"), TimeoutError, "PAY-7"])
    order = hub.run(order_workflow, input=DESK)
    assert order.output["payment"] == "PAY-7"
    assert [(call.input, call.attempt) for call in stub.calls] == [(120.0, 1), (120.0, 2), (120.0, 3)]
    assert [call.time.second for call in stub.calls] == [0, 5, 10]


def test_a_stub_sees_its_input_as_the_type_that_the_function_is_annotated_with(hub):
    stub = hub.stub(reserve, return_value="R-1")
    hub.run(order_workflow, input=DESK)
    assert stub.calls[0].input == DESK


def test_a_stub_by_name_alone_knows_the_function_that_the_orchestrator_passed():
    hub = TaskHub()
    hub.add_orchestrator(order_workflow)
    stub = hub.stub("reserve", return_value="R-1")
    hub.stub("charge")
    hub.run(order_workflow, input=DESK)
    assert stub.calls[0].input == DESK


def test_a_stub_takes_virtual_time_and_can_wrap_the_real_activity(hub):
    hub.stub(reserve, wraps=reserve, duration=timedelta(hours=3))
    assert hub.run(order_workflow, input=DESK).output["reservation"] == "R-desk"
    assert hub.now == datetime(2026, 1, 1, 3)


def test_the_function_of_a_stub_is_called_like_the_activity(hub):
    hub.stub(charge, side_effect=lambda ctx, amount: f"{ctx.task_id}:{amount}")
    assert hub.run(order_workflow, input=DESK).output["payment"] == "2:120.0"


def test_a_stub_that_runs_out_of_results_is_an_error_of_the_test_and_not_of_the_activity(hub):
    hub.stub(charge, side_effect=[])
    with pytest.raises(StubExhausted, match=r"'charge' was called once more than .* results \(0\)"):
        hub.run(order_workflow, input=DESK)


def test_a_stub_refuses_what_is_no_side_effect(hub):
    with pytest.raises(TypeError, match="return_value"):
        hub.stub(charge, side_effect="PAY-1")
    with pytest.raises(ValueError, match="negative"):
        hub.stub(charge, duration=timedelta(seconds=-1))
    with pytest.raises(TypeError, match=r"timedelta\(hours=3\), not 5"):
        hub.stub(charge, duration=5)
    with pytest.raises(TypeError, match="one answer, and is given return_value and side_effect"):
        hub.stub(charge, return_value=1, side_effect=[2])


def test_an_assertion_in_a_stub_is_the_tests_own_and_fails_the_test(hub):
    def check(ctx, amount):
        assert amount == 5, "another amount"

    hub.stub(charge, side_effect=check)
    with pytest.raises(AssertionError, match="another amount"):
        hub.run(order_workflow, input=DESK)


def test_a_stub_counts_its_calls(hub):
    stub = hub.stub(charge, return_value="PAY-1")
    assert (stub.called, stub.call_count) == (False, 0)
    hub.run(order_workflow, input=DESK)
    assert (stub.called, stub.call_count) == (True, 1)


def test_one_exception_raised_many_times_is_the_same_in_every_history():
    failure = ConnectionError("reset")

    def recorded():
        hub = TaskHub()
        hub.add_orchestrator(order_workflow)
        hub.stub("reserve")
        hub.stub("charge", side_effect=failure)
        return hub.run(order_workflow, input=DESK).history.dumps()

    assert recorded() == recorded()


def test_the_stack_trace_of_a_failed_activity_has_the_frames_of_the_user_alone(hub):
    def broken(ctx, _):
        raise ValueError("broken") from KeyError("why")

    def asks(ctx, _):
        yield ctx.call_activity(broken)

    hub.add_orchestrator(asks)
    hub.add_activity(broken)
    failure = hub.run(asks).failure.inner_failure
    assert failure.stack_trace.count("File") == 1
    assert "in broken" in failure.stack_trace
    assert "test_hub.py" in failure.stack_trace
    assert failure.inner_failure.error_type == "builtins.KeyError"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda hub: hub.start(nap, input=1, instance_id=5), "instance_id is a string, not 5"),
        (lambda hub: hub.start(nap, input=1, start_at="tomorrow"), "start_at is a datetime"),
        (lambda hub: hub.run(nap(None, 1)), "Pass the orchestrator 'nap' itself, and do not call it"),
        (lambda hub: hub.run(None), "The orchestrator is a function or its name, not None"),
        (lambda hub: hub.stub(3), "The activity is a function or its name, not 3"),
        (lambda hub: hub.start(nap, input=1).wait(5), "The timeout is a timedelta"),
        (lambda hub: hub.start(nap, input=1).raise_event(None), "The name of an event is a string, not None"),
    ],
)
def test_a_wrong_type_is_said_at_the_call(hub, call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call(hub)


def test_a_misspelt_event_shows_where_the_wait_is_reported(hub):
    order = hub.start(purchase_approval, input=CAR)
    order.raise_event("aproval")
    with pytest.raises(TimeoutError, match="'aproval' came, and nobody took it: did you mean 'approval'"):
        order.wait(timedelta(hours=1))


def test_a_stubbed_orchestrator_stands_in_for_a_sub_orchestration():
    def parent(ctx, n):
        try:
            return (yield ctx.call_sub_orchestrator("child", input=n, retry_policy=THREE_TIMES))
        except TaskFailedError as error:
            return error.details.error_type

    hub = TaskHub()
    hub.add_orchestrator(parent)
    child = hub.stub_orchestrator(
        "child", side_effect=[ValueError("busy"), "done"], duration=timedelta(minutes=1)
    )
    assert hub.run(parent, input=3).output == "done"
    assert [(call.input, call.attempt) for call in child.calls] == [(3, 1), (3, 2)]
    assert hub.now == datetime(2026, 1, 1, 0, 2, 5)
    hub.stub_orchestrator("child", side_effect=KeyError("gone"))
    assert hub.run(parent, input=4).output == "builtins.KeyError"


# -- sub-orchestrations and events between instances


def test_a_sub_orchestration_gets_the_default_id_and_knows_its_parent(hub):
    def child(ctx, _):
        return [ctx.instance_id, ctx.parent_instance_id, ctx.version]

    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator(child, version="2.0"))

    hub.add_orchestrator(child)
    hub.add_orchestrator(parent)
    assert hub.run(parent, instance_id="p").output == ["p:0001", "p", "2.0"]


def test_the_failure_of_a_sub_orchestration_reaches_the_parent_with_its_type(hub):
    def child(ctx, _):
        raise ValueError("broken")
        yield

    def parent(ctx, _):
        try:
            yield ctx.call_sub_orchestrator(child)
        except TaskFailedError as error:
            return [error.details.is_caused_by(ValueError), str(error)]

    hub.add_orchestrator(child)
    hub.add_orchestrator(parent)
    assert hub.run(parent).output == [True, "Sub-orchestration task #1 failed: broken"]


def test_a_sub_orchestration_under_a_taken_id_fails_in_the_parent(hub):
    def parent(ctx, _):
        yield ctx.call_sub_orchestrator(nap, input=1, instance_id="taken")

    hub.add_orchestrator(parent)
    hub.start(nap, input=100, instance_id="taken")
    assert "'taken' already exists" in hub.run(parent).failure.message


def test_instances_send_events_to_one_another_and_to_nobody(hub):
    def listener(ctx, _):
        return (yield ctx.wait_for_external_event("news", data_type=Order))

    def sender(ctx, _):
        ctx.send_event("listener", "News", data=DESK)
        ctx.send_event("nobody", "news", data=1)
        yield ctx.create_timer(timedelta(0))

    hub.add_orchestrator(listener)
    hub.add_orchestrator(sender)
    listening = hub.start(listener, instance_id="listener")
    hub.run(sender)
    assert listening.get_output(Order) == DESK


def test_terminating_a_parent_terminates_what_it_started(hub):
    def parent(ctx, _):
        yield ctx.call_sub_orchestrator(nap, input=10, instance_id="child")

    hub.add_orchestrator(parent)
    running = hub.start(parent)
    hub.settle()
    running.terminate({"why": "test"})
    hub.settle()
    assert (running.status, running.output) == (OrchestrationStatus.TERMINATED, {"why": "test"})
    assert hub.instance("child").status is OrchestrationStatus.TERMINATED


def test_resuming_what_is_not_suspended_fails_it_as_the_worker_does(hub):
    instance = hub.start(nap, input=10)
    hub.settle()
    instance.resume()
    hub.settle()
    assert instance.failure is not None
    assert "executionResumed" in instance.failure.message


def test_events_raised_while_suspended_are_handled_after_resuming(hub):
    order = hub.start(purchase_approval, input=CAR)
    hub.settle()
    order.suspend()
    hub.settle()
    order.raise_event("approval", {"approver": "ana"})
    hub.settle()
    assert order.status is OrchestrationStatus.SUSPENDED
    order.resume()
    hub.settle()
    assert order.output == "approved by ana"


# -- continue as new


def test_unread_events_are_carried_over_if_asked_for(hub):
    def collect(ctx, seen):
        first = yield ctx.wait_for_external_event("item")
        seen = [*seen, first]
        if len(seen) == 3:
            return seen
        ctx.continue_as_new(seen, save_events=True)

    hub.add_orchestrator(collect)
    instance = hub.start(collect, input=[])
    for item in "abc":
        instance.raise_event("item", item)
    hub.settle()
    assert instance.output == ["a", "b", "c"]


def test_a_new_version_takes_effect_with_the_next_generation(hub):
    def upgrade(ctx, _):
        if ctx.version == "2":
            return "two"
        yield ctx.create_timer(timedelta(0))
        ctx.continue_as_new(None, new_version="2")

    hub.add_orchestrator(upgrade)
    assert hub.run(upgrade, version="1").output == "two"


def test_a_result_for_an_earlier_generation_is_dropped(hub):
    def restless(ctx, n):
        if n == 1:
            return (yield ctx.call_activity(charge, input="second"))
        ctx.call_activity("slow")
        yield ctx.create_timer(timedelta(seconds=1))
        ctx.continue_as_new(1)

    hub.add_orchestrator(restless)
    hub.stub("slow", return_value="from the first", duration=timedelta(seconds=1))
    hub.stub(charge, return_value="from the second", duration=timedelta(minutes=1))
    assert hub.run(restless, input=0).output == "from the second"


# -- values


class Colour(Enum):
    RED = "red"


Point = namedtuple("Point", "x y")


class Money:
    def __init__(self, cents):
        self.cents = cents

    def to_json(self):
        return {"cents": self.cents}

    @classmethod
    def from_json(cls, value):
        return cls(value["cents"])


def test_custom_types_travel_through_the_converter_of_the_sdk(hub):
    seen = []

    def look(ctx, money: Money) -> Order:
        seen.append(money.cents)
        return DESK

    def typed(ctx, money: Money):
        order = yield ctx.call_activity(look, input=money)
        colour = yield ctx.call_activity("colour", return_type=Colour)
        point = yield ctx.call_activity("point", input=Point(1, 2))
        return [order.item, colour.name, point, money.cents]

    hub.add_orchestrator(typed)
    hub.add_activity(look)
    hub.stub("colour", return_value=Colour.RED)
    hub.stub("point", side_effect=lambda ctx, value: value)
    assert hub.run(typed, input=Money(250)).output == ["desk", "RED", [1, 2], 250]
    assert seen == [250]


def test_a_converter_of_the_application_is_used_throughout():
    class Shouting(JsonDataConverter):
        def serialize(self, value):
            return super().serialize(value.upper() if isinstance(value, str) else value)

    def echo(ctx, text):
        return (yield ctx.call_activity("echo", input=text))

    hub = TaskHub(data_converter=Shouting())
    hub.add_orchestrator(echo)
    stub = hub.stub("echo", side_effect=lambda ctx, text: text + "!")
    assert hub.run(echo, input="hi").output == "HI!"
    assert stub.calls[0].input == "HI"


# -- honesty


def test_an_orchestrator_that_does_not_replay_is_caught_when_its_generation_ends():
    draws = iter(range(100))

    def random_walk(ctx, _):
        yield ctx.call_activity("step", input=next(draws))

    hub = TaskHub()
    hub.add_orchestrator(random_walk)
    hub.stub("step")
    with pytest.raises(ReplayDivergence, match="input was 0 in the history and is 1 now") as caught:
        hub.run(random_walk)
    location = caught.value.report.divergences[0].location
    assert location.file.endswith("test_hub.py")
    assert location.function == "random_walk"


def test_control_flow_on_is_replaying_is_caught():
    def logs(ctx, _):
        if not ctx.is_replaying:
            ctx.call_activity("log")
        yield ctx.create_timer(timedelta(0))

    hub = TaskHub()
    hub.add_orchestrator(logs)
    hub.stub("log")
    with pytest.raises(ReplayDivergence, match="activity 'log'"):
        hub.run(logs)


def test_without_the_check_a_divergence_goes_unnoticed_and_with_every_turn_it_shows_at_once():
    draws = iter(range(100))

    def random_walk(ctx, _):
        yield ctx.call_activity("step", input=next(draws))
        yield ctx.wait_for_external_event("never")

    def hub_with(check):
        hub = TaskHub(check_replay=check)
        hub.add_orchestrator(random_walk)
        hub.stub("step")
        hub.start(random_walk)
        return hub

    hub_with("never").settle()
    hub_with("generation").settle()
    with pytest.raises(ReplayDivergence):
        hub_with("turn").settle()


def test_an_unknown_kind_of_check_is_refused():
    with pytest.raises(ValueError, match="'generation', 'turn' or 'never'"):
        TaskHub(check_replay="sometimes")  # type: ignore[arg-type]


def test_the_hub_is_not_driven_from_inside_an_orchestrator(hub):
    def meddles(ctx, _):
        hub.settle()
        yield

    hub.add_orchestrator(meddles)
    with pytest.raises(Exception, match="inside an orchestrator"):
        hub.run(meddles)


def test_the_replay_safe_logger_speaks_once(hub, caplog):
    import logging

    def chatty(ctx, _):
        log = ctx.create_replay_safe_logger(logging.getLogger("app"))
        log.info("before")
        yield ctx.create_timer(timedelta(0))
        log.info("after")

    hub.add_orchestrator(chatty)
    with caplog.at_level("INFO", "app"):
        hub.run(chatty)
    assert caplog.messages == ["before", "after"]


def test_the_seed_decides_the_ids():
    ids = []
    for seed in (1, 1, 2):
        hub = TaskHub(seed=seed)
        hub.add_orchestrator(nap)
        ids.append(hub.start(nap, input=0).instance_id)
    assert ids[0] == ids[1] != ids[2]


def test_other_threads_may_call_in(hub):
    orders = [hub.start(purchase_approval, input=CAR, instance_id=f"car-{n}") for n in range(20)]
    hub.settle()

    def approve(n):
        hub.client.raise_orchestration_event(f"car-{n}", "approval", data={"approver": "ana"})
        hub.client.wait_for_orchestration_completion(f"car-{n}")

    threads = [threading.Thread(target=approve, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {order.output for order in orders} == {"approved by ana"}


def test_an_activity_may_use_the_client(hub):
    def approve(ctx, instance_id):
        hub.client.raise_orchestration_event(instance_id, "approval", data={"approver": "robot"})

    def robot(ctx, instance_id):
        yield ctx.call_activity(approve, input=instance_id)

    hub.add_orchestrator(robot)
    hub.add_activity(approve)
    order = hub.start(purchase_approval, input=CAR, instance_id="car-1")
    hub.run(robot, input="car-1")
    assert order.output == "approved by robot"


def test_long_timers_are_chunked_as_on_a_worker_that_chunks():
    hub = TaskHub(maximum_timer_interval=timedelta(days=3))
    hub.add_orchestrator(nap)
    instance = hub.run(nap, input=24 * 8)
    fired = [e.fire_at.day for e in instance.history if type(e).__name__ == "TimerFiredEvent"]
    assert (fired, instance.output) == ([4, 7, 9], "2026-01-09T00:00:00")


# -- found by review


def test_a_thread_that_an_activity_waits_for_may_use_the_hub(hub):
    def approve(ctx, instance_id):
        def work():
            hub.client.raise_orchestration_event(instance_id, "approval", data={"approver": "thread"})
            assert hub.client.get_orchestration_state(instance_id) is not None
            done.set()

        done = threading.Event()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert done.wait(10)
        thread.join()

    def robot(ctx, instance_id):
        yield ctx.call_activity(approve, input=instance_id)

    hub.add_orchestrator(robot)
    hub.add_activity(approve)
    order = hub.start(purchase_approval, input=CAR, instance_id="car-1")
    assert hub.run(robot, input="car-1").failure is None
    assert order.output == "approved by thread"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def test_a_failure_that_cannot_be_put_into_words_is_said_to_leave_the_instance_stuck(hub):
    def broken(ctx, _):
        raise Mute

    def broken_itself(ctx, _):
        yield ctx.create_timer(timedelta(0))
        raise Mute

    def asks(ctx, _):
        yield ctx.call_activity(broken)

    for orchestrator in (asks, broken_itself):
        hub.add_orchestrator(orchestrator)
    hub.add_activity(broken)
    for orchestrator in (asks, broken_itself):
        instance = hub.start(orchestrator)
        with pytest.raises(DurableTestError, match="Mute cannot be put into words"):
            hub.settle()
        with pytest.raises(OrchestrationBlocked, match="cut short by DurableTestError: A failure with Mute"):
            instance.wait()
    assert hub.run(nap, input=1).status is OrchestrationStatus.COMPLETED


class Odd:
    def to_json(self):
        raise KeyError("odd")


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("output", [Odd, deep])
def test_an_output_on_which_a_worker_would_hang_is_said_to_do_so(hub, output):
    def odd(ctx, _):
        yield ctx.create_timer(timedelta(0))
        return output()

    hub.add_orchestrator(odd)
    with pytest.raises(OrchestrationBlocked, match="it would leave it Running for ever"):
        hub.run(odd)


def test_a_timer_of_an_earlier_generation_does_not_move_the_clock(hub):
    def restless(ctx, again):
        if again:
            ctx.create_timer(timedelta(days=30))
            ctx.continue_as_new(False)
            return
        yield ctx.wait_for_external_event("never")

    hub.add_orchestrator(restless)
    with pytest.raises(OrchestrationBlocked):
        hub.run(restless, input=True)
    assert hub.now == datetime(2026, 1, 1)


def test_an_orchestrator_cannot_start_instances_on_the_hub(hub):
    def meddles(ctx, _):
        hub.start(nap, input=1)
        yield

    hub.add_orchestrator(meddles)
    with pytest.raises(DurableTestError, match="used from inside an orchestrator"):
        hub.run(meddles)


def test_waiting_past_the_end_of_the_calendar_is_refused(hub):
    with pytest.raises(ValueError, match="calendar"):
        hub.start(nap, input=1).wait(timedelta.max)


def drive_in(hub, target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_time_stands_still_while_another_thread_runs_an_activity(hub):
    running, go_on = threading.Event(), threading.Event()

    def slow(ctx, _):
        running.set()
        assert go_on.wait(10)
        return "slow"

    def race(ctx, _):
        activity, timer = ctx.call_activity(slow), ctx.create_timer(timedelta(days=1))
        return "timer" if (yield when_any([activity, timer])) is timer else "activity"

    hub.add_orchestrator(race)
    hub.add_activity(slow)
    instance = hub.start(race)
    thread = drive_in(hub, hub.settle)
    assert running.wait(10)
    waiting = drive_in(hub, instance.wait)
    go_on.set()
    for each in (thread, waiting):
        each.join(10)
    assert (instance.output, hub.now) == ("activity", datetime(2026, 1, 1))


def test_the_limit_of_turns_of_one_thread_is_not_that_of_another(hub):
    here, there = threading.Event(), threading.Event()
    inside = {"first": here, "second": there}
    leave = {"first": threading.Event(), "second": threading.Event()}

    def stay(ctx, name):
        inside[name].set()
        assert leave[name].wait(10)

    def stays(ctx, name):
        yield ctx.call_activity(stay, input=name)

    hub.add_orchestrator(stays)
    hub.add_activity(stay)
    hub.start(stays, input="first")
    first = drive_in(hub, lambda: hub.settle(max_turns=5))
    assert here.wait(10)
    hub.start(stays, input="second")
    second = drive_in(hub, hub.settle)
    assert there.wait(10)
    for name, thread in (("first", first), ("second", second)):
        leave[name].set()
        thread.join(10)
    for _ in range(10):
        hub.start(nap, input=1)
    hub.advance(timedelta(hours=2))
    assert all(instance.is_terminal for instance in hub.instances)


def test_an_interrupt_in_an_activity_leaves_the_hub_usable_and_is_told(hub):
    def interrupted(ctx, _):
        raise KeyboardInterrupt

    def asks(ctx, _):
        yield ctx.call_activity(interrupted)

    hub.add_orchestrator(asks)
    hub.add_activity(interrupted)
    instance = hub.start(asks)
    with pytest.raises(KeyboardInterrupt):
        hub.settle()
    drive_in(hub, lambda: hub.run(nap, input=1)).join(10)
    assert hub.instances[-1].is_terminal
    with pytest.raises(OrchestrationBlocked, match="cut short by KeyboardInterrupt"):
        instance.wait()


def test_an_orchestrator_cannot_act_on_other_instances_but_through_its_context(hub):
    victim = hub.start(nap, input=1)

    def meddles(ctx, action):
        getattr(victim, action)()
        yield

    hub.add_orchestrator(meddles)
    for action in ("terminate", "suspend", "resume"):
        with pytest.raises(DurableTestError, match="used from inside an orchestrator"):
            hub.run(meddles, input=action)


def test_the_stack_trace_has_no_frames_of_python_itself(hub):
    def reads(ctx, _):
        import json

        return json.loads("{")

    def asks(ctx, _):
        yield ctx.call_activity(reads)

    hub.add_orchestrator(asks)
    hub.add_activity(reads)
    trace = hub.run(asks).failure.inner_failure.stack_trace
    assert trace.count("File") == 1
    assert "in reads" in trace


class TestEntitiesThatGoWrong:
    COUNTER = EntityInstanceId("counter", "c")

    @pytest.mark.parametrize(
        "ask",
        [
            lambda ctx: ctx.call_entity("@counter@c", "add"),
            lambda ctx: ctx.signal_entity("@counter@c", "add"),
            lambda ctx: ctx.lock_entities(["@counter@c"]),
        ],
    )
    def test_what_is_no_id_of_an_entity_is_named_with_the_line(self, hub, ask):
        def careless(ctx, _):
            yield ask(ctx)

        hub.add_orchestrator(careless)
        with pytest.raises(
            DurableTestError, match=r"test_hub.py:\d+ .*given '@counter@c', which is no EntityIn"
        ):
            hub.run(careless)

    def test_a_signal_of_an_entity_to_no_entity_is_named(self, hub):
        def careless(ctx, _):
            ctx.signal_entity("counter", "add")

        hub.add_entity(careless)
        hub.client.signal_entity(EntityInstanceId("careless", "e"), "go")
        with pytest.raises(DurableTestError, match="@careless@e signals 'counter' in its operation 'go'"):
            hub.settle()

    def test_an_interrupted_operation_waits_and_the_cause_is_said(self, hub):
        def counter(ctx, _):
            raise KeyboardInterrupt

        def counts(ctx, _):
            return (yield ctx.call_entity(self.COUNTER, "add"))

        hub.add_entity(counter)
        hub.add_orchestrator(counts)
        counting = hub.start(counts)
        with pytest.raises(KeyboardInterrupt):
            hub.settle()
        assert hub.entity(self.COUNTER).queue_length == 1
        with pytest.raises(OrchestrationBlocked, match="cut short by KeyboardInterrupt"):
            counting.wait()

    def test_a_view_of_an_unused_entity_comes_to_life_with_it(self, hub):
        def counter(ctx, amount):
            ctx.set_state(amount)

        hub.add_entity(counter)
        view = hub.entity(self.COUNTER)
        assert (view.exists, hub.entities) == (False, [])
        hub.client.signal_entity(self.COUNTER, "set", 7)
        hub.settle()
        assert view.state == 7
        hub.client.signal_entity(self.COUNTER, "set")
        hub.client.clean_entity_storage()
        assert (view.exists, hub.entities) == (False, [])
        hub.client.signal_entity(self.COUNTER, "set", 8)
        hub.settle()
        assert view.state == 8


def test_an_instance_that_was_terminated_before_its_start_replays(hub):
    instance = hub.start(nap, input=1, start_at=hub.now + timedelta(days=1))
    instance.terminate()
    hub.settle()
    report = replay(instance.history, hub)
    assert (instance.status, report.ok) == (OrchestrationStatus.TERMINATED, True)


# -- long chains, and children that are replaced


def in_a_chain(ctx, level):
    if level:
        return (
            yield ctx.call_sub_orchestrator(in_a_chain, input=level - 1, instance_id=f"level-{level - 1}")
        )
    return (yield ctx.wait_for_external_event("go"))


def test_a_chain_of_a_thousand_sub_orchestrations_says_in_few_words_what_it_waits_for():
    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(in_a_chain)
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(in_a_chain, input=1200, instance_id="level-1200")
    text = str(blocked.value)
    assert len(text) < 4000
    assert "Instance 'level-1199' (in_a_chain) waits for" in text
    assert "... and so on, 1,190 levels, down to\n" in text
    assert "Instance 'level-0' (in_a_chain) waits for" in text
    assert "- event 'go'" in text
    assert "level-600" not in text
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.instance("level-11").wait()
    assert "and so on, 1 level, down to" in str(blocked.value)
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.instance("level-10").wait()
    assert "so on" not in str(blocked.value)


def test_a_chain_of_a_thousand_sub_orchestrations_is_terminated():
    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(in_a_chain)
    top = hub.start(in_a_chain, input=1200, instance_id="level-1200")
    hub.settle()
    top.terminate()
    hub.settle()
    assert {instance.status for instance in hub.instances} == {OrchestrationStatus.TERMINATED}
    assert len(hub.instances) == 1201
    assert hub.client.purge_orchestration("level-1200").deleted_instance_count == 1201


def test_a_sub_orchestration_that_is_retried_or_purged_is_let_go():
    def child(ctx, _):
        raise ValueError("again")
        yield

    def parent(ctx, _):
        with suppress(TaskFailedError):
            yield ctx.call_sub_orchestrator(
                child,
                instance_id="child",
                retry_policy=RetryPolicy(
                    first_retry_interval=timedelta(seconds=1),
                    max_number_of_attempts=50,
                    backoff_coefficient=1,
                ),
            )
        yield ctx.call_sub_orchestrator(nap, input=1, instance_id="napping")
        yield ctx.wait_for_external_event("never")

    hub = TaskHub()
    for orchestrator in (parent, child, nap):
        hub.add_orchestrator(orchestrator)
    made = hub.start(parent)
    first = None
    for _ in range(50):
        hub.settle()
        first = first or weakref.ref(hub.instance("child"))
        hub.advance(timedelta(seconds=1))
    hub.advance(timedelta(hours=2))
    gc.collect()
    assert first() is None  # with its history
    napped = weakref.ref(hub.instance("napping"))
    hub.client.purge_orchestration("napping")
    gc.collect()
    assert napped() is None
    made.terminate()
    hub.settle()
    assert hub.client.purge_orchestration(made.instance_id).deleted_instance_count == 2


def test_terminating_does_not_reach_who_took_the_id_of_a_sub_orchestration(hub):
    def parent(ctx, _):
        yield ctx.call_sub_orchestrator(nap, input=1, instance_id="child")
        yield ctx.wait_for_external_event("never")

    hub.add_orchestrator(parent)
    made = hub.start(parent)
    hub.advance(timedelta(hours=2))
    stranger = hub.instance("child").restart()
    hub.settle()
    made.terminate()
    hub.settle()
    assert made.status is OrchestrationStatus.TERMINATED
    assert stranger.status is OrchestrationStatus.RUNNING


@pytest.mark.parametrize("given", ["1.0", 1, VersionMatchStrategy.STRICT])
def test_use_versioning_takes_versioning_options_and_says_so(hub, given):
    with pytest.raises(TypeError, match=r"use_versioning\(\) takes VersioningOptions, such as"):
        hub.use_versioning(given)
    hub.use_versioning(None)
    assert hub.run(purchase_approval, input=Order("pen", 1, 2.0)).output is not None


def test_wrong_arguments_of_the_context_are_recorded_in_the_words_of_a_worker():
    def mistaken(ctx, _):
        yield ctx.call_activity("charge", 42)

    hub = TaskHub()
    hub.add_orchestrator(mistaken)
    with pytest.raises(TypeError) as in_a_worker:
        _RuntimeOrchestrationContext.call_activity(object(), "charge", 42)
    failure = hub.run(mistaken).failure
    assert failure.message == str(in_a_worker.value)
