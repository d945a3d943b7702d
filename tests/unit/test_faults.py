"""Faults on a hub: a worker that dies, activities that run twice, results in any order, events too early."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

import grpc
import pytest
from durabletask import history as h
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.task import RetryPolicy, TaskFailedError, when_all, when_any
from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

from dt_testkit import (
    DurableTestError,
    History,
    InstanceNotFound,
    OrchestrationNotFinished,
    ReplayDivergence,
    StubExhausted,
    TaskHub,
    replay,
)

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RETRIES = RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=3)
COUNTER = EntityInstanceId("counter", "a")


def charge(ctx, amount):
    return f"PAY-{amount}"


@dataclass
class Parcel:
    weight: int


def ship(ctx, parcel: Parcel) -> str:
    return f"{parcel.weight} kg"


def pay(ctx, amount):
    return (yield ctx.call_activity(charge, input=amount))


def gather(ctx, items):
    return (yield when_all([ctx.call_activity("pack", input=item) for item in items]))


def in_order_of_arrival(ctx, items):
    left = [ctx.call_activity("pack", input=item) for item in items]
    seen = []
    while left:
        done = yield when_any(left)
        left.remove(done)
        seen.append(done.get_result())
    return seen


def counter(ctx, amount):
    if ctx.operation == "add":
        ctx.set_state(ctx.get_state(int, 0) + amount)
    return ctx.get_state(int, 0)


@pytest.fixture
def hub():
    hub = TaskHub()
    for orchestrator in (pay, gather, in_order_of_arrival):
        hub.add_orchestrator(orchestrator)
    hub.add_activity(charge)
    hub.add_entity(counter)
    return hub


def echo(ctx, item):
    return item


# -- a worker that dies


def test_a_worker_that_takes_over_gets_to_the_same_place_by_replay():
    replaying = []

    def two_steps(ctx, _):
        yield ctx.create_timer(HOUR)
        replaying.append(ctx.is_replaying)
        yield ctx.create_timer(HOUR)
        replaying.append(ctx.is_replaying)
        return "done"

    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(two_steps)
    instance = hub.start(two_steps)
    hub.advance(timedelta(minutes=90))
    before = instance.waiting_for
    hub.crash_worker()
    assert instance.waiting_for == before
    assert instance.wait().output == "done"
    assert replaying == [False, True, False]


def everything(ctx, _):
    out = []
    ctx.set_custom_status("busy")
    timer, event = ctx.create_timer(timedelta(hours=5)), ctx.wait_for_external_event("stop")
    out.append((yield ctx.call_activity("flaky", retry_policy=RETRIES)))
    out.append((yield ctx.call_sub_orchestrator(child, input=2)))
    out.append(ctx.new_uuid())
    with (yield ctx.lock_entities([COUNTER])):
        out.append((yield ctx.call_entity(COUNTER, "add", 1)))
        yield ctx.create_timer(HOUR)
        out.append((yield ctx.call_entity(COUNTER, "add", 1)))
    out.append((yield when_any([timer, event])) is event)
    out.append((yield ctx.wait_for_external_event("early")))
    out.append((yield ctx.wait_for_external_event("early")))
    return out


def child(ctx, left):
    yield ctx.create_timer(HOUR)
    if left:
        ctx.continue_as_new(left - 1)
    return ctx.parent_instance_id


def everything_at(crash_hours):
    hub = TaskHub()
    hub.add_orchestrator(everything)
    hub.add_orchestrator(child)
    hub.add_entity(counter)
    hub.stub("flaky", side_effect=[ConnectionError("1"), ConnectionError("2"), "third"])
    instance = hub.start(everything, instance_id="all")
    for hour in range(12):
        if hour in crash_hours:
            hub.crash_worker()
        if hour in (1, 3):
            instance.raise_event("early", hour)
        if hour == 4:
            instance.suspend()
        if hour == 5:
            instance.resume()
        hub.advance(HOUR)
    assert instance.status is OrchestrationStatus.COMPLETED
    return [history.dumps() for each in hub.instances for history in each.histories]


@pytest.mark.parametrize("hours", [[hour] for hour in range(12)] + [range(12)], ids=str)
def test_whenever_the_worker_dies_the_histories_are_the_same(hours):
    assert everything_at(hours) == everything_at([])


def test_the_worker_can_die_before_the_first_turn_and_after_the_last(hub):
    instance = hub.start(pay, input=5)
    hub.crash_worker()
    assert instance.wait().output == "PAY-5"
    hub.crash_worker()
    hub.settle()
    assert len(instance.history) == 8


def test_the_worker_can_die_after_every_turn_of_several_instances():
    def recorded(drive):
        hub = TaskHub()
        for function in (in_order_of_arrival, ask_and_wait):
            hub.add_orchestrator(function)
        hub.add_entity(counter)
        hub.stub("pack", side_effect=echo)
        for n in range(3):
            hub.start(in_order_of_arrival, input=[n, n + 1], instance_id=f"pack-{n}")
            hub.start(ask_and_wait, input=n, instance_id=f"ask-{n}")
        drive(hub)
        return [(each.output, each.history.dumps()) for each in hub.instances]

    def ask_and_wait(ctx, n):
        return (yield ctx.call_entity(COUNTER, "add", 10**n))

    crashes = []

    def crash_after_every_turn(hub):
        while True:
            try:
                return hub.settle(max_turns=1)
            except OrchestrationNotFinished:  # noqa: PERF203
                hub.crash_worker()
                crashes.append(1)

    assert recorded(crash_after_every_turn) == recorded(TaskHub.settle)
    assert len(crashes) > 10


def test_state_outside_the_history_is_caught_and_the_line_is_named():
    calls = 0

    def numbered(ctx, _):
        nonlocal calls
        calls += 1
        yield ctx.call_activity("number", input=calls)

    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(numbered)
    hub.stub("number", duration=HOUR)
    hub.start(numbered)
    hub.settle()
    with pytest.raises(ReplayDivergence, match="input was 1 in the history and is 2 now") as caught:
        hub.crash_worker()
    [divergence] = caught.value.report.divergences
    assert divergence.location.function == "numbered"
    assert divergence.location.line == numbered.__code__.co_firstlineno + 3


def test_an_orchestrator_that_is_gone_when_the_next_worker_comes_is_a_divergence(hub):
    hub.stub(charge, duration=HOUR)
    hub.start(pay, input=5)
    hub.settle()
    del hub.orchestrators["pay"]
    with pytest.raises(ReplayDivergence, match="'pay', which is not registered"):
        hub.crash_worker()


def test_an_activity_that_was_running_runs_again_from_the_beginning(hub):
    stub = hub.stub(charge, side_effect=["first", "second"], duration=HOUR)
    instance = hub.start(pay, input=5)
    hub.advance(timedelta(minutes=40))
    hub.crash_worker()
    hub.advance(timedelta(minutes=59))
    assert not instance.is_terminal
    hub.advance(MINUTE)
    assert instance.output == "second"
    assert [(call.input, call.attempt, call.task_id, call.time.minute) for call in stub.calls] == [
        (5, 1, 1, 0),
        (5, 1, 1, 40),
    ]
    completed = [event for event in instance.history.events if isinstance(event, h.TaskCompletedEvent)]
    assert [event.timestamp.replace(tzinfo=None) for event in completed] == [datetime(2026, 1, 1, 1, 40)]


def test_an_activity_that_fails_only_later_runs_again_too_and_takes_no_attempt(hub):
    def patient(ctx, _):
        return (yield ctx.call_activity("flaky", retry_policy=RETRIES))

    hub.add_orchestrator(patient)
    stub = hub.stub(
        "flaky", side_effect=[ConnectionError, ConnectionError, ConnectionError, "OK"], duration=HOUR
    )
    instance = hub.start(patient)
    hub.advance(MINUTE)
    hub.crash_worker()
    assert instance.wait().output == "OK"
    assert [call.attempt for call in stub.calls] == [1, 1, 2, 3]


def test_an_activity_that_is_done_does_not_run_again(hub):
    stub = hub.stub("pack", side_effect=echo, duration=lambda item: item * HOUR)
    instance = hub.start(gather, input=[1, 3, 2])
    hub.advance(timedelta(minutes=90))
    hub.crash_worker()
    assert instance.wait().output == [1, 3, 2]
    assert [call.input for call in stub.calls] == [1, 3, 2, 3, 2]


def first_of_two(ctx, then):
    slow, fast = ctx.call_activity("pack", input=5), ctx.call_activity("pack", input=1)
    yield when_any([slow, fast])
    if then == "again":
        ctx.continue_as_new("wait")
    else:
        yield ctx.create_timer(timedelta(hours=20))
    return "went on"


def test_what_is_due_is_still_done_in_order_of_time_after_a_crash(hub):
    def nap(ctx, hours):
        ctx.call_activity("pack", input=1000 - hours)
        yield ctx.create_timer(hours * HOUR)
        return (ctx.current_utc_datetime - datetime(2026, 1, 1)) // HOUR

    hours = list(range(1, 41))
    Random(1).shuffle(hours)
    hub.add_orchestrator(nap)
    hub.stub("pack", duration=lambda hours: hours % 41 * HOUR + MINUTE)
    naps = []
    for each in hours:
        naps.append(hub.start(nap, input=each))
        hub.settle()
    hub.crash_worker()
    hub.advance(timedelta(hours=50))
    assert [instance.output for instance in naps] == hours


@pytest.mark.parametrize(("then", "calls"), [("wait", [5, 1, 5]), ("again", [5, 1, 5, 1, 5])])
def test_an_activity_nobody_waits_for_any_more_runs_again_while_its_generation_lives(then, calls):
    hub = TaskHub()
    hub.add_orchestrator(first_of_two)
    stub = hub.stub("pack", side_effect=echo, duration=lambda item: item * HOUR)
    instance = hub.start(first_of_two, input=then)
    hub.advance(timedelta(hours=2, minutes=30))
    hub.crash_worker()
    assert instance.wait().output == "went on"
    assert [call.input for call in stub.calls] == calls


def test_an_activity_of_an_instance_that_has_ended_does_not_run_again(hub):
    stub = hub.stub(charge, duration=HOUR)
    instance = hub.start(pay, input=5)
    hub.settle()
    instance.terminate()
    hub.settle()
    hub.crash_worker()
    hub.advance(HOUR)
    assert len(stub.calls) == 1


def test_entities_and_their_locks_outlive_the_worker(hub):
    def holds(ctx, _):
        with (yield ctx.lock_entities([COUNTER])):
            yield ctx.call_entity(COUNTER, "add", 5)
            yield ctx.create_timer(HOUR)

    def wants(ctx, _):
        return (yield ctx.call_entity(COUNTER, "add", 1))

    hub.add_orchestrator(holds)
    hub.add_orchestrator(wants)
    hub.start(holds, instance_id="holder")
    hub.settle()
    waits = hub.start(wants)
    hub.settle()
    hub.crash_worker()
    hub.settle()
    entity = hub.entity(COUNTER)
    assert (entity.state, entity.locked_by, entity.queue_length) == (5, "holder", 1)
    assert waits.wait().output == 6
    assert (entity.locked_by, hub.now) == (None, datetime(2026, 1, 1, 1))


def test_a_stubbed_orchestrator_does_not_answer_twice():
    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator("part"))

    hub = TaskHub()
    hub.add_orchestrator(parent)
    part = hub.stub_orchestrator("part", side_effect=["once"], duration=HOUR)
    instance = hub.start(parent)
    hub.advance(MINUTE)
    hub.crash_worker()
    assert instance.wait().output == "once"
    assert part.call_count == 1


def test_the_worker_can_die_after_a_rewind(hub):
    stub = hub.stub(charge, side_effect=[ConnectionError("reset"), "PAY-5", "PAY-5 again"], duration=HOUR)
    instance = hub.run(pay, input=5)
    instance.rewind()
    hub.crash_worker()
    hub.advance(MINUTE)
    hub.crash_worker()
    assert instance.wait().output == "PAY-5 again"
    assert stub.call_count == 3


def test_a_worker_of_another_version_may_take_over_and_the_instance_waits(hub):
    def release(version):
        hub.use_versioning(
            VersioningOptions(version, version, VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT)
        )

    hub.stub(charge, duration=HOUR)
    instance = hub.start(pay, input=5, version="1.0")
    hub.advance(MINUTE)
    release("2.0")
    hub.crash_worker()
    hub.advance(timedelta(hours=3))
    assert not instance.is_terminal
    release("1.0")
    hub.settle()
    assert instance.status is OrchestrationStatus.COMPLETED


def test_an_orchestrator_cannot_crash_the_worker():
    def suicidal(ctx, _):
        hub.crash_worker()
        yield ctx.create_timer(HOUR)

    hub = TaskHub()
    hub.add_orchestrator(suicidal)
    with pytest.raises(DurableTestError, match="used from inside an orchestrator"):
        hub.run(suicidal)
    hub.crash_worker()  # what is broken is not run again


def test_while_an_activity_or_an_entity_runs_the_worker_cannot_be_crashed(hub):
    hub.stub(charge, side_effect=lambda ctx, amount: hub.crash_worker())
    with pytest.raises(DurableTestError, match="while an activity or an entity runs: give"):
        hub.run(pay, input=5)

    def crashing(ctx, _):
        hub.crash_worker()

    def asks(ctx, _):
        yield ctx.call_entity(EntityInstanceId("crashing", "a"), "go")

    hub.add_entity(crashing)
    hub.add_orchestrator(asks)
    with pytest.raises(DurableTestError, match="while an activity or an entity runs: give"):
        hub.run(asks)


def test_the_workers_of_a_served_hub_are_not_the_hubs_to_crash(hub):
    with hub.serve() as server, pytest.raises(DurableTestError, match=f"served on {server.address}"):
        hub.crash_worker()


def test_what_is_broken_by_the_tests_own_error_stays_so_and_does_not_hinder_the_rest(hub):
    hub.stub("pack", side_effect=[])
    broken = hub.start(gather, input=[1])
    with pytest.raises(StubExhausted):
        hub.settle()
    hub.crash_worker()
    assert hub.run(pay, input=5).output == "PAY-5"
    with pytest.raises(TimeoutError, match="cut short by StubExhausted"):
        broken.wait(HOUR)


# -- activities that run twice


def test_a_duplicate_runs_the_function_twice_and_keeps_one_result(hub):
    booked = []

    def book(ctx, amount):
        booked.append(amount)
        return len(booked)

    stub = hub.stub(charge, wraps=book, duplicate=True)
    instance = hub.run(pay, input=5)
    assert (instance.output, booked) == (1, [5, 5])
    assert stub.calls[0] == stub.calls[1]
    assert sum(isinstance(event, h.TaskCompletedEvent) for event in instance.history.events) == 1


def test_each_run_of_a_duplicate_gets_an_input_of_its_own(hub):
    def consume(ctx, items):
        return items.pop()

    hub.stub(charge, side_effect=consume, duplicate=True)
    assert hub.run(pay, input=[1, 2]).output == 2


@pytest.mark.parametrize(
    ("outcomes", "output"),
    [
        (["first", "second"], "first"),
        (["first", ConnectionError("second")], "first"),
        ([ConnectionError("first"), "second"], "first"),
    ],
)
def test_of_a_duplicate_the_first_outcome_counts_be_it_a_failure(hub, outcomes, output):
    def forgiving(ctx, _):
        try:
            return (yield ctx.call_activity("charge"))
        except TaskFailedError as error:
            return error.details.message

    hub.add_orchestrator(forgiving)
    hub.stub("charge", side_effect=outcomes, duplicate=True, duration=HOUR)
    assert hub.run(forgiving).output == output
    assert hub.now == datetime(2026, 1, 1, 1)


def test_every_attempt_of_a_retried_activity_is_duplicated(hub):
    def patient(ctx, _):
        return (yield ctx.call_activity("flaky", retry_policy=RETRIES))

    hub.add_orchestrator(patient)
    stub = hub.stub("flaky", side_effect=[ConnectionError, "dropped", "kept", "dropped"], duplicate=True)
    assert hub.run(patient).output == "kept"
    assert [call.attempt for call in stub.calls] == [1, 1, 2, 2]


def test_the_tests_own_errors_leave_the_hub_from_a_duplicate_too(hub):
    hub.stub(charge, side_effect=["only one"], duplicate=True)
    with pytest.raises(StubExhausted, match="once more"):
        hub.run(pay, input=5)

    def once(ctx, amount):
        assert stub.call_count == 1, "charged twice"

    stub = hub.stub(charge, side_effect=once, duplicate=True)
    with pytest.raises(AssertionError, match="charged twice"):
        hub.run(pay, input=5)


def test_duplicate_is_yes_or_no(hub):
    with pytest.raises(TypeError, match="duplicate is True or False, not 3"):
        hub.stub(charge, duplicate=3)


def test_a_completion_that_is_delivered_twice_is_harmless(hub):
    def two_payments(ctx, _):
        yield ctx.call_activity(charge, input=1)
        return (yield ctx.call_activity(charge, input=2))

    hub.add_orchestrator(two_payments)
    recorded = hub.run(two_payments).history
    twice = []
    for event in recorded.events:
        twice += [event] * (1 + isinstance(event, h.TaskCompletedEvent))
    report = replay(History(recorded.instance_id, twice), two_payments)
    assert (len(twice), report.ok, report.worker_outcome) == (len(recorded) + 2, True, "accepts")


# -- how long it takes, and in which order


def test_a_duration_may_be_a_function_of_the_input(hub):
    hub.stub("pack", side_effect=echo, duration=lambda item: item * HOUR)
    instance = hub.run(in_order_of_arrival, input=[3, 1, 0, 2])
    assert (instance.output, hub.now) == ([0, 1, 2, 3], datetime(2026, 1, 1, 3))


def test_a_duration_that_is_a_function_gets_the_input_as_the_activity_does(hub):
    def ship_it(ctx, _):
        return (yield ctx.call_activity(ship, input=Parcel(3)))

    hub.add_orchestrator(ship_it)
    hub.stub(ship, wraps=ship, duration=lambda parcel: parcel.weight * HOUR)
    assert hub.run(ship_it).output == "3 kg"
    assert hub.now == datetime(2026, 1, 1, 3)


def test_a_stubbed_orchestrator_takes_a_duration_by_its_input_too():
    def parent(ctx, hours):
        return (yield ctx.call_sub_orchestrator("part", input=hours))

    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(parent)
    hub.stub_orchestrator("part", return_value="done", duration=lambda hours: hours * HOUR)
    assert hub.run(parent, input=7).output == "done"
    assert hub.now.hour == 7


@pytest.mark.parametrize(
    ("duration", "sentence"),
    [
        (lambda item: 5, "'pack': its duration gave 5 for input 'a'"),
        (lambda item: -HOUR, r"its duration gave datetime.timedelta\(.*not negative"),
        (lambda item: {"b": HOUR}[item], "its duration raised KeyError for input 'a'"),
    ],
)
def test_a_mistake_in_a_duration_is_the_tests_own(hub, duration, sentence):
    hub.stub("pack", duration=duration)
    with pytest.raises(DurableTestError, match=sentence):
        hub.run(gather, input=["a"])


def arrivals(seed, **options):
    hub = TaskHub(seed=seed, **options)
    hub.add_orchestrator(in_order_of_arrival)
    hub.stub("pack", side_effect=echo, duration=lambda item: HOUR * (item % 2))
    instance = hub.run(in_order_of_arrival, input=list(range(12)), instance_id="shuffled")
    return instance.output, instance.history.dumps()


def test_results_due_at_the_same_moment_arrive_in_an_order_drawn_from_the_seed():
    orders = [arrivals(seed, shuffle=True)[0] for seed in range(10)]
    assert len({tuple(order) for order in orders}) == 10
    for order in orders:  # time still passes in order
        assert sorted(order[:6]) == [0, 2, 4, 6, 8, 10]
        assert sorted(order[6:]) == [1, 3, 5, 7, 9, 11]


def test_a_seed_gives_one_order_and_without_shuffle_it_is_that_of_asking():
    assert arrivals(3, shuffle=True) == arrivals(3, shuffle=True)
    assert arrivals(3)[0] == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


def test_a_shuffled_fan_out_gathers_in_its_own_order():
    for seed in range(5):
        hub = TaskHub(shuffle=True, seed=seed)
        hub.add_orchestrator(gather)
        hub.stub("pack", side_effect=echo)
        assert hub.run(gather, input=list(range(9))).output == list(range(9))


def test_shuffled_results_come_in_turns_of_their_own():
    def turns(**options):
        hub = TaskHub(**options)
        hub.add_orchestrator(gather)
        hub.stub("pack")
        events = hub.run(gather, input=list(range(6))).history.events
        return sum(isinstance(event, h.OrchestratorStartedEvent) for event in events)

    assert turns() == 2
    assert max(turns(shuffle=True, seed=seed) for seed in range(5)) > 3


def test_shuffling_changes_no_ids():
    def ids(**options):
        hub = TaskHub(seed=7, **options)
        hub.add_orchestrator(gather)
        hub.stub("pack")
        return [hub.run(gather, input=[1, 2, 3]).instance_id for _ in range(3)]

    assert ids(shuffle=True) == ids()


def test_timers_and_activities_due_at_the_same_moment_are_shuffled_too():
    def race(ctx, _):
        entries = {ctx.create_timer(HOUR): n for n in range(4)}
        seen = []
        while entries:
            seen.append(entries.pop((yield when_any(list(entries)))))
        return seen

    def outcome(**options):
        hub = TaskHub(**options)
        hub.add_orchestrator(race)
        return tuple(hub.run(race).output)

    assert outcome() == (0, 1, 2, 3)
    assert len({outcome(shuffle=True, seed=seed) for seed in range(10)}) > 5


def test_signals_and_calls_to_one_entity_keep_their_order_when_shuffled():
    def appends(ctx, item):
        ctx.set_state([*ctx.get_state(list, []), item])

    def writes(ctx, start):
        log = EntityInstanceId("appends", "log")
        for item in range(start, start + 10):
            ctx.signal_entity(log, "add", item)
        yield ctx.call_entity(log, "add", start + 10)

    for seed in range(5):
        hub = TaskHub(shuffle=True, seed=seed)
        hub.add_entity(appends)
        hub.add_orchestrator(writes)
        hub.start(writes, input=0)
        hub.start(writes, input=100)
        hub.settle()
        state = hub.entity("@appends@log").state
        assert [item for item in state if item < 100] == list(range(11))
        assert [item for item in state if item >= 100] == list(range(100, 111))


# -- completions that come late


def test_a_result_that_comes_after_its_task_was_given_up_is_recorded_and_ignored(hub):
    def impatient(ctx, _):
        task, timeout = ctx.call_activity(charge, input=5), ctx.create_timer(MINUTE)
        winner = yield when_any([task, timeout])
        yield ctx.create_timer(timedelta(hours=2))
        return winner is timeout

    hub.add_orchestrator(impatient)
    hub.stub(charge, return_value="PAY", duration=HOUR)
    instance = hub.run(impatient)
    assert instance.output is True
    assert any(isinstance(event, h.TaskCompletedEvent) for event in instance.history.events)


def test_a_failure_that_comes_after_its_task_was_given_up_fails_nothing(hub):
    def impatient(ctx, _):
        yield when_any([ctx.call_activity(charge, input=5), ctx.create_timer(MINUTE)])
        yield ctx.create_timer(timedelta(hours=2))
        return "fine"

    hub.add_orchestrator(impatient)
    hub.stub(charge, side_effect=ConnectionError("late"), duration=HOUR)
    assert hub.run(impatient).output == "fine"


def test_a_result_that_comes_after_the_end_leaves_no_trace(hub):
    stub = hub.stub(charge, duration=HOUR)
    instance = hub.start(pay, input=5)
    hub.settle()
    instance.terminate("enough")
    hub.settle()
    before = instance.history.dumps()
    hub.advance(timedelta(hours=2))
    assert (stub.call_count, instance.output, instance.history.dumps()) == (1, "enough", before)


def test_a_result_for_an_earlier_generation_does_not_reach_the_task_of_the_same_id(hub):
    def again(ctx, round):
        task = ctx.call_activity("pack", input=round)
        done = yield when_any([task, ctx.create_timer(MINUTE if round == 1 else 3 * HOUR)])
        if round == 1:
            ctx.continue_as_new(2)
            return None
        return done.get_result()

    hub.add_orchestrator(again)
    hub.stub("pack", side_effect=echo, duration=HOUR)
    instance = hub.run(again, input=1)
    assert instance.output == 2
    assert hub.now == datetime(2026, 1, 1, 1, 1)


# -- events before anybody waits


def collect(ctx, count):
    yield ctx.create_timer(HOUR)
    items = []
    for _ in range(count):
        items.append((yield ctx.wait_for_external_event("item")))
    return items


@pytest.fixture
def collecting(hub):
    hub.add_orchestrator(collect)
    return hub


def test_events_are_kept_from_before_the_first_turn_and_from_before_anybody_waits(collecting):
    instance = collecting.start(collect, input=3)
    instance.raise_event("item", "before the first turn")
    collecting.settle()
    instance.raise_event("Item", "before anybody waits")
    collecting.crash_worker()
    collecting.advance(timedelta(hours=2))
    instance.raise_event("item", "in time")
    assert instance.wait().output == ["before the first turn", "before anybody waits", "in time"]


def test_events_for_an_instance_that_is_to_start_later_wait_for_it(collecting):
    instance = collecting.start(collect, input=1, start_at=datetime(2026, 1, 2))
    instance.raise_event("item", "early")
    collecting.advance(HOUR)
    assert (instance.status, len(instance.history)) == (OrchestrationStatus.PENDING, 0)
    assert instance.wait().output == ["early"]


def test_events_for_a_suspended_instance_wait_until_it_is_resumed(collecting):
    instance = collecting.start(collect, input=2)
    instance.suspend()
    collecting.advance(timedelta(hours=2))
    for item in (1, 2):
        instance.raise_event("item", item)
    collecting.crash_worker()
    collecting.advance(HOUR)
    assert instance.status is OrchestrationStatus.SUSPENDED
    instance.resume()
    collecting.settle()
    assert instance.output == [1, 2]


def test_an_event_for_an_id_that_does_not_exist_yet_is_refused_as_by_the_sdks_backend(collecting):
    with pytest.raises(grpc.RpcError) as refused:
        collecting.client.raise_orchestration_event("later", "item", data=1)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(InstanceNotFound, match="No instance 'later'"):
        collecting.instance("later")
    instance = collecting.start(collect, input=1, instance_id="later")
    with pytest.raises(TimeoutError, match="event 'item'"):
        instance.wait(timedelta(hours=2))


def test_an_event_that_an_orchestrator_sends_to_nobody_is_recorded_and_lost(collecting):
    def tell(ctx, _):
        ctx.send_event("later", "item", data=1)
        yield ctx.create_timer(MINUTE)

    collecting.add_orchestrator(tell)
    told = collecting.run(tell)
    assert any(isinstance(event, h.EventSentEvent) for event in told.history.events)
    instance = collecting.start(collect, input=1, instance_id="later")
    with pytest.raises(TimeoutError):
        instance.wait(timedelta(hours=2))


def test_an_event_for_an_instance_that_has_ended_is_dropped(collecting):
    instance = collecting.start(collect, input=0)
    instance.wait()
    before = len(instance.history)
    instance.raise_event("item", 1)
    collecting.settle()
    assert len(instance.history) == before


def pages_of_the_diary(seed, *, rounds, **options):
    """What two callers wrote for the same moments, each in order."""

    def writes(ctx, writer):
        for page in range(5):
            for hour in range(rounds):
                ctx.signal_entity(
                    EntityInstanceId("diary", "d"),
                    "write",
                    [hour, writer, page],
                    signal_time=ctx.current_utc_datetime + HOUR * (1 + hour),
                )

    def passes_on(ctx, entry):
        for page in range(5):
            at = hub.now + HOUR * rounds
            ctx.signal_entity(EntityInstanceId("diary", "d"), "write", [rounds - 1, "clerk", page], at)

    def diary(ctx, entry):
        ctx.set_state([*ctx.get_state(list, []), entry])

    hub = TaskHub(seed=seed, **options)
    hub.add_orchestrator(writes)
    hub.add_entity(diary)
    hub.add_entity(passes_on, "clerk")
    for writer in "ab":
        hub.start(writes, input=writer, instance_id=writer)
    hub.client.signal_entity(EntityInstanceId("clerk", "c"), "write")
    hub.advance(HOUR * (rounds + 1))
    return hub.entity("@diary@d").state


def test_shuffled_signals_of_one_caller_for_one_moment_keep_their_order():
    first_of_the_hours = set()
    for seed in range(10):
        entries = pages_of_the_diary(seed, rounds=4, shuffle=True)
        assert len(entries) == 45
        for hour in range(4):
            for writer in ("a", "b", "clerk"):
                pages = [page for at, by, page in entries if (at, by) == (hour, writer)]
                assert pages == list(range(len(pages)))
        first_of_the_hours.add(tuple(entries[hour * 10][1] for hour in range(4)))
    assert len(first_of_the_hours) > 3  # the callers overtake one another


def test_the_order_of_shuffled_signals_is_that_of_the_seed():
    def pages(seed):
        return pages_of_the_diary(seed, rounds=4, shuffle=True)

    assert pages(5) == pages(5)
    assert len({str(pages(seed)) for seed in range(5)}) > 2
