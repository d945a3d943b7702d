"""Replaying histories: what is reported, where it stops, and in which words.

That each kind of change is found, and what a worker makes of it, is in tests/conformance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from durabletask import history as h
from durabletask.entities import EntityInstanceId
from durabletask.task import when_all, when_any

from dt_testkit import (
    History,
    HistoryFormatError,
    ReplayDivergence,
    ScheduleActivity,
    TaskHub,
    assert_replays,
    replay,
)


def chain(ctx, names):
    results = []
    for name in names:
        results.append((yield ctx.call_activity(name, input={"step": name})))
    return results


def recorded(orchestrator, input=None, **options) -> History:
    hub = TaskHub(**options)
    hub.add_orchestrator(orchestrator)
    for name in "abcd":
        hub.stub(name, return_value=name.upper())
    return hub.run(orchestrator, input=input, instance_id="i").history


SOURCE = Path(__file__).read_text().splitlines()
ABC = recorded(chain, ["a", "b", "c"])


def test_a_fresh_history_replays_clean_and_says_so_in_one_line():
    report = replay(ABC, chain)
    assert report.ok
    assert str(report) == "chain 'i': replays clean (16 events)"
    assert report.worker_outcome == "accepts"
    assert report.next_commands == []


@pytest.mark.parametrize(
    "given",
    [chain, [chain], {"chain": chain}],
    ids=["function", "iterable", "mapping"],
)
def test_the_code_is_given_in_the_way_that_is_at_hand(given):
    assert replay(ABC, given).ok


def test_the_code_may_be_a_hub():
    hub = TaskHub()
    hub.add_orchestrator(chain)
    assert replay(ABC, hub).ok


def test_a_single_function_is_used_whatever_its_name():
    def chain_v2(ctx, names):
        return (yield from chain(ctx, names))

    assert replay(ABC, chain_v2).ok


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="not 'int'"):
        replay(ABC, 5)


def test_an_orchestrator_that_is_not_registered_is_a_divergence_that_names_the_known_ones():
    def other(ctx, _): ...

    report = replay(ABC, [other])
    assert [(d.kind, d.field, d.expected) for d in report.divergences] == [
        ("missing", "orchestrator", "chain")
    ]
    assert "known: other" in str(report)
    assert report.worker_outcome == "fails"


def test_assert_replays_raises_an_assertion_with_the_report():
    def changed(ctx, names):
        yield ctx.call_activity("z")

    assert_replays(ABC, chain)
    with pytest.raises(AssertionError, match="activity 'z'") as error:
        assert_replays(ABC, changed)
    assert isinstance(error.value, ReplayDivergence)
    assert error.value.report.divergences[0].field == "name"


def test_every_prefix_of_a_history_is_one_of_an_instance_in_flight_and_replays_clean():
    for length in range(2, len(ABC) + 1):
        assert replay(History("i", ABC.events[:length]), chain).ok


def test_what_the_code_would_do_next_is_listed_and_no_divergence():
    until_b_completed = next(
        n
        for n, e in enumerate(ABC.events)
        if isinstance(e, h.TaskCompletedEvent) and e.task_scheduled_id == 2
    )
    report = replay(History("i", ABC.events[: until_b_completed + 1]), chain)
    [command] = report.next_commands
    assert isinstance(command, ScheduleActivity)
    assert (command.name, command.id) == ("c", 3)


def test_changes_of_values_are_all_reported_and_the_replay_goes_on():
    def changed(ctx, names):
        results = []
        for name in names:
            results.append((yield ctx.call_activity(name, input={"step": name.upper()})))
        return results[:2]

    report = replay(ABC, changed)
    assert [(d.kind, d.event_id, d.field) for d in report.divergences] == [
        ("changed", 1, "input"),
        ("changed", 2, "input"),
        ("changed", 3, "input"),
        ("result", -1, "output"),
    ]
    assert report.compared == report.events


def test_after_a_change_of_shape_the_replay_stops_so_that_one_change_is_one_divergence():
    def changed(ctx, names):
        yield ctx.call_activity("audit")
        return (yield from chain(ctx, names))

    report = replay(ABC, changed)
    assert [(d.kind, d.event_id, d.field, d.expected, d.actual) for d in report.divergences] == [
        ("changed", 1, "name", "a", "audit")
    ]
    assert report.compared < report.events
    assert "were not compared" in str(report)


def test_a_divergence_names_the_line_the_values_and_the_way_out():
    def changed(ctx, names):
        yield ctx.call_activity("a", input={"step": "z"})  # the line

    report = replay(ABC, changed)
    location = report.divergences[0].location
    assert location is not None
    assert "# the line" in SOURCE[location.line - 1]
    assert location.function == "changed"
    text = str(report)
    assert '{"step": "a"}' in text
    assert '{"step": "z"}' in text
    assert f"{location.file}:{location.line}" in text
    assert "Way out" in text


def test_the_line_inside_a_comprehension_belongs_to_the_function_around_it():
    def fan(ctx, word):
        yield when_all([ctx.call_activity("a", input=word + str(n)) for n in range(2)])

    history = recorded(fan, "x")
    history.events[1] = replace(history.events[1], input='"y"')
    assert {d.location.function for d in replay(history, fan).divergences} == {"fan"}


def test_the_line_inside_a_helper_is_the_line_of_the_helper():
    def helper(ctx, n):
        return ctx.call_activity("a", input=n)

    def with_helper(ctx, n):
        yield helper(ctx, n)

    history = recorded(with_helper, 1)
    history.events[1] = replace(history.events[1], input="2")
    assert replay(history, with_helper).divergences[0].location.function == "helper"


def test_the_place_where_the_code_ended_is_the_line_it_returned_or_raised_at():
    def returns(ctx, names):
        yield ctx.call_activity("a", input={"step": "a"})
        return "early"  # here it returns

    def raises(ctx, names):
        yield ctx.call_activity("a", input={"step": "a"})
        raise ValueError("no")  # here it raises

    for code, mark in ((returns, "# here it returns"), (raises, "# here it raises")):
        [divergence] = replay(ABC, code).divergences
        assert divergence.kind == "missing"
        assert mark in SOURCE[divergence.location.line - 1]


def test_json_that_differs_in_the_order_of_keys_only_is_the_same_input():
    def ordered(ctx, swap):
        data = {"b": 1, "a": 2} if swap else {"a": 2, "b": 1}
        yield ctx.call_activity("a", input=data)

    history = recorded(ordered, False)
    history.events[1] = replace(history.events[1], input="true")
    assert replay(history, ordered).ok


def test_a_history_of_the_sdk_backend_has_no_times_and_no_tags_and_replays_all_the_same():
    def tagged(ctx, _):
        yield ctx.call_activity("a", tags={"team": "x"})

    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    history = recorded(tagged)
    untimed = [
        replace(e, timestamp=epoch, tags=None, input="") if isinstance(e, h.TaskScheduledEvent) else e
        for e in history.events
    ]
    assert replay(History("i", untimed), tagged).ok


def test_a_backend_may_hand_late_results_to_an_instance_that_has_ended():
    late = [
        h.OrchestratorStartedEvent(-1, ABC.events[0].timestamp),
        h.TaskCompletedEvent(-1, ABC.events[0].timestamp, 9, '"late"'),
        h.OrchestratorCompletedEvent(-1, ABC.events[0].timestamp),
        ABC.events[-1],
    ]
    assert replay(History("i", [*ABC.events, *late]), chain).ok


def test_a_backend_may_record_the_end_before_it_closes_the_turn():
    events = [*ABC.events[:-2], ABC.events[-1], ABC.events[-2]]
    assert replay(History("i", events), chain).ok


def test_long_timers_of_a_worker_that_chunks_replay_with_its_interval():
    def sleeper(ctx, _):
        yield ctx.create_timer(timedelta(days=8))

    three_days = timedelta(days=3)
    history = recorded(sleeper, maximum_timer_interval=three_days)
    assert replay(history, sleeper, maximum_timer_interval=three_days).ok
    assert replay(history, sleeper).divergences[0].field == "fire_at"
    hub = TaskHub(maximum_timer_interval=three_days)
    hub.add_orchestrator(sleeper)
    assert replay(history, hub).ok


@pytest.mark.parametrize("events", [[], ABC.events[:1]], ids=["empty", "headless"])
def test_a_history_without_a_beginning_is_refused_and_not_called_clean(events):
    with pytest.raises(HistoryFormatError, match="has no ExecutionStarted event among its"):
        replay(History("i", events), chain)


def test_a_history_that_ends_in_an_unknown_way_is_refused():
    odd = replace(ABC.events[-1], orchestration_status=99)
    with pytest.raises(HistoryFormatError, match="status 99"):
        replay(History("i", [*ABC.events[:-1], odd]), chain)


def test_a_wall_clock_timeout_that_a_worker_would_judge_otherwise_is_explained():
    from durabletask.task import RetryPolicy

    policy = RetryPolicy(
        first_retry_interval=timedelta(seconds=1),
        max_number_of_attempts=3,
        retry_timeout=timedelta(minutes=1),
    )

    def retried(ctx, _):
        return (yield ctx.call_activity("a", retry_policy=policy))

    hub = TaskHub(start_time=datetime(2020, 1, 1))
    hub.add_orchestrator(retried)
    hub.stub("a", side_effect=[ValueError("once"), "A"])
    report = replay(hub.run(retried).history, retried)
    assert report.ok
    assert report.worker_outcome == "fails"
    assert "measures by the wall clock" in str(report)


def waits(ctx, _):
    yield ctx.call_activity("a")
    yield ctx.wait_for_external_event("go")


def test_code_that_ends_where_an_instance_in_flight_waits_is_a_divergence():
    def ends(ctx, _):
        yield ctx.call_activity("a")
        return "done"

    hub = TaskHub()
    hub.add_orchestrator(waits)
    hub.stub("a")
    instance = hub.start(waits, instance_id="i")
    hub.settle()
    for history in (instance.history, History.from_client(hub.client, "i")):
        assert replay(history, waits).ok
        [divergence] = replay(history, ends).divergences
        assert (divergence.kind, divergence.actual) == ("missing", "COMPLETED")
        assert "the history waits on" in divergence.message
    unknown = replay(History("i", instance.history.events), ends)
    assert unknown.ok
    assert unknown.next_commands[0].kind == "complete"


def test_what_a_worker_would_never_finish_is_called_a_hang_and_does_not_hang_the_replay():
    hub = TaskHub()
    hub.add_orchestrator(waits)
    hub.stub("a")
    instance = hub.start(waits)
    hub.settle()
    instance.suspend()
    instance.suspend()
    hub.settle()
    instance.resume()
    instance.raise_event("go")
    hub.settle()
    report = replay(instance.history, waits)
    assert report.ok
    assert report.worker_outcome == "hangs"
    assert "never ends that loop" in report.worker_explanation


def test_an_instance_that_was_suspended_once_and_resumed_is_accepted():
    hub = TaskHub()
    hub.add_orchestrator(waits)
    hub.stub("a")
    instance = hub.start(waits)
    hub.settle()
    instance.suspend()
    hub.settle()
    instance.resume()
    instance.raise_event("go")
    hub.settle()
    assert instance.is_terminal
    assert replay(instance.history, waits).worker_outcome == "accepts"


def test_a_recorded_failure_that_the_worker_meets_again_is_accepted():
    class Odd:
        def to_json(self):
            raise KeyError("odd")

    def odd(ctx, _):
        yield ctx.create_timer(timedelta(0))
        ctx.continue_as_new(Odd())

    hub = TaskHub()
    hub.add_orchestrator(odd)
    report = replay(hub.run(odd).history, odd)
    assert (report.ok, report.worker_outcome) == (True, "accepts")


def fails(ctx, _):
    yield ctx.create_timer(timedelta(0))
    raise ValueError("broken")


def test_an_orchestrator_that_is_not_registered_is_found_in_a_failed_history_too():
    history = recorded(fails)
    report = replay(history, [chain])
    assert [(d.kind, d.field) for d in report.divergences] == [("missing", "orchestrator")]
    assert not report.ok


def test_a_recorded_lack_of_the_orchestrator_replays_clean_while_it_lasts():
    history = TaskHub().run("nobody", instance_id="i").history
    assert replay(history, [chain]).ok
    assert replay(history, {"nobody": chain}).divergences[0].kind in ("result", "unexpected")


@pytest.mark.parametrize("steps", [["a"], ["a", "b"]])
def test_steps_that_are_the_same_under_other_ids_are_found(steps):
    def before(ctx, _):
        yield when_all([ctx.call_activity(name) for name in steps])

    def after(ctx, _):
        ctx.create_timer(timedelta(1)).cancel()  # takes an id, and leaves no step
        yield when_all([ctx.call_activity(name) for name in steps])

    report = replay(recorded(before), after)
    assert [(d.kind, d.event_id, d.field, d.expected, d.actual) for d in report.divergences] == [
        ("changed", 1, "id", 1, 2)
    ]
    assert report.worker_outcome == "fails"


# -- critical sections

LEDGER = EntityInstanceId("ledger", "a")


def book(ctx, input):
    return input


def books(ctx, _):
    with (yield ctx.lock_entities([LEDGER])):
        yield ctx.call_entity(LEDGER, "book", 1)
    return (yield ctx.call_activity("a"))


def booked() -> History:
    hub = TaskHub()
    hub.add_orchestrator(books)
    hub.add_entity(book, "ledger")
    hub.stub("a")
    return hub.run(books, instance_id="i").history


def test_an_id_drawn_before_a_lock_is_reported_at_the_lock_and_nowhere_else():
    def draws_first(ctx, _):
        ctx.new_uuid()
        return (yield from books(ctx, _))

    report = replay(booked(), draws_first)
    (divergence,) = report.divergences
    assert (divergence.kind, divergence.event_id, divergence.field) == ("changed", 1, "critical_section_id")
    assert divergence.message.startswith("a lock of @ledger@a (#1): critical_section_id was ")
    assert divergence.message.endswith("and the code draws more or fewer before it.")
    assert report.worker_outcome == "fails"
    assert "Unexpected lock acquire for critical section" in str(report)


def test_an_id_drawn_before_an_entity_call_is_no_divergence_for_a_worker_goes_by_the_recorded_one():
    def draws_inside(ctx, _):
        with (yield ctx.lock_entities([LEDGER])):
            ctx.new_uuid()
            yield ctx.call_entity(LEDGER, "book", 1)
        return (yield ctx.call_activity("a"))

    report = replay(booked(), draws_inside)
    assert (report.ok, report.worker_outcome) == (True, "accepts")


def test_what_made_the_code_fail_inside_a_critical_section_is_said_once():
    def raises_inside(ctx, _):
        with (yield ctx.lock_entities([LEDGER])):
            raise KeyError("no such page")

    first, *others = replay(booked(), raises_inside).divergences
    assert first.message == (
        "#2 was a call of 'book' to entity @ledger@a in the history; the code now asks for the unlock of "
        "@ledger@a, which the history has later, as #3, and fails with KeyError: 'no such page'."
    )
    assert not any("KeyError" in other.message for other in others)


def test_what_made_the_code_fail_after_a_step_that_is_new_is_said_with_that_step():
    def asks_and_raises(ctx, names):
        yield from chain(ctx, names)
        ctx.call_activity("d")
        raise ValueError("gone wrong")

    (divergence,) = replay(ABC, asks_and_raises).divergences
    assert divergence.message.startswith("the code asks for activity 'd' (#4) here")
    assert divergence.message.endswith(", and fails with ValueError: gone wrong.")


@pytest.mark.parametrize("where", [0, 5, 150, 400, 999])
def test_long_values_are_shown_where_they_differ(where):
    def asks(ctx, text):
        yield ctx.call_activity("a", input=text)

    def changed(ctx, text):
        yield ctx.call_activity("a", input=f"{text[:where]}!{text[where + 1 :]}")

    history = recorded(asks, "".join(chr(ord("a") + n % 26) for n in range(1000)))
    message = str(replay(history, changed).divergences[0])
    was, now = message.split(" was ")[1].split(" now.")[0].split(" in the history and is ")
    assert was != now
    assert "!" in now
    assert "!" not in was
    assert max(len(was), len(now)) <= 200


# -- what a worker does with steps that are scheduled already


START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def _in_flight(orchestrator) -> History:
    hub = TaskHub(check_replay="never")
    hub.add_orchestrator(orchestrator)
    hub.stub("a", return_value="A", duration=timedelta(hours=1))
    hub.stub("quick")
    instance = hub.start(orchestrator, instance_id="i")
    hub.settle()
    return instance.history


def _waits_for_days(days: int):
    def waits(ctx, _):
        yield ctx.create_timer(timedelta(days=days))
        return f"late at {ctx.current_utc_datetime}"

    return waits


def test_a_changed_timer_that_is_scheduled_still_fires_at_the_recorded_time_and_the_report_says_so():
    history = _in_flight(_waits_for_days(3))
    report = replay(history, _waits_for_days(5))
    assert report.worker_outcome == "accepts"
    assert report.worker_explanation == (
        "the worker notices nothing, and still waits for what was recorded: a timer until "
        "2026-01-04 00:00:00 (#1). What the code says of it now counts for new instances only."
    )
    fired = h.TimerFiredEvent(-1, START + timedelta(days=3), START + timedelta(days=3), 1)
    turn = [h.OrchestratorStartedEvent(-1, START + timedelta(days=3)), fired]
    later = History("i", [*history.events, *turn])
    report = replay(later, _waits_for_days(5))
    assert "the instance ends COMPLETED" in report.worker_explanation
    assert [command.result for command in report.next_commands] == ['"late at 2026-01-04 00:00:00"']


def test_a_chunked_timer_goes_on_behind_the_recorded_one_and_the_report_says_so():
    history = _in_flight(_waits_for_days(2))
    report = replay(history, _waits_for_days(5), maximum_timer_interval=timedelta(days=3))
    assert (
        "a timer until 2026-01-03 00:00:00 (#1) with another behind it, up to 2026-01-06 00:00:00"
        in report.worker_explanation
    )


def _asks(amount: int):
    def asks(ctx, _):
        yield when_all(
            [
                ctx.call_activity("a", input=amount),
                ctx.call_sub_orchestrator(_forever, input=amount),
                ctx.call_entity(EntityInstanceId("till", "1"), "take", input=amount),
            ]
        )

    return asks


def _forever(ctx, _):
    yield ctx.wait_for_external_event("never")


def test_a_step_that_is_under_way_keeps_what_it_was_given_and_the_report_says_so():
    hub = TaskHub(check_replay="never")
    first = _asks(1)
    hub.add_orchestrator(first)
    hub.add_orchestrator(_forever)
    hub.stub("a", duration=timedelta(hours=1))
    hub.add_entity(lambda ctx, amount: None, "till")
    instance = hub.start(first, instance_id="i")
    hub.settle()
    events = [e for e in instance.history.events if not isinstance(e, h.EntityOperationCompletedEvent)]
    report = replay(History("i", events), _asks(2))
    assert report.worker_outcome == "accepts"
    assert report.worker_explanation == (
        "the worker notices nothing, and still waits for what was recorded: activity 'a' (#1), "
        "sub-orchestration '_forever' (#2) and a call of 'take' to entity @till@1 (#3). What the code says "
        "of them now counts for new instances only."
    )


def test_where_a_step_of_the_past_has_changed_the_report_says_what_the_instance_waits_for():
    def before(ctx, _):
        yield ctx.call_activity("quick", input=1)
        yield when_any([ctx.call_activity("a"), ctx.wait_for_external_event("Go")])

    def after(ctx, _):
        yield ctx.call_activity("quick", input=2)
        yield when_any([ctx.call_activity("a"), ctx.wait_for_external_event("Go")])

    report = replay(_in_flight(before), {"before": after})
    assert report.worker_explanation == (
        "the worker notices nothing, and waits for activity 'a' (#2) and an event 'go'."
    )


def test_an_instance_that_ends_or_continues_earlier_than_its_history_is_said_to_do_that():
    def waits(ctx, _):
        yield ctx.wait_for_external_event("go")

    def ends(ctx, _):
        return 1

    def continues(ctx, _):
        ctx.continue_as_new(1)

    history = _in_flight(waits)
    ended, continued = replay(history, {"waits": ends}), replay(history, {"waits": continues})
    assert ended.worker_explanation == "the worker notices nothing: the instance ends COMPLETED."
    assert continued.worker_explanation == (
        "the worker notices nothing: the instance continues as new, as the code says now."
    )


def test_the_way_out_names_state_that_outlives_a_run_and_what_finds_the_line():
    text = str(replay(ABC, lambda ctx, _: None))
    assert "state that outlives a run, ctx.is_replaying" in text
    assert "check_determinism(history, ...) or `dt-testkit lint`" in text


@dataclass
class Parcel:
    id: str
    weight: float


def weighs(ctx, parcel: Parcel):
    if not ctx.is_replaying:
        print(parcel.id)
    yield ctx.call_activity("a", input=parcel.weight)


def test_where_both_runs_fail_the_report_tells_the_failure_its_line_and_that_the_input_does_not_fit():
    hub = TaskHub()
    hub.add_orchestrator(weighs)
    with pytest.raises(ReplayDivergence) as raised:
        hub.run(weighs, input={"id": "x"}, instance_id="i")
    first, *_ = lines = str(raised.value).splitlines()[1:]
    assert first.startswith(
        """1. result: the failure was "builtins.AttributeError: 'dict' object has no attribute 'id'" at """
    )
    assert "test_replay.py" in first
    assert "in weighs in the history and is" in first
    assert lines[2:4] == [
        'The input {"id": "x"} does not fit its annotation Parcel, so the orchestrator is given a dict, as '
        "on a worker.",
        "The cause is ctx.is_replaying: where it is False, as in a first run, the code does what the history "
        "has.",
    ]


def test_is_replaying_is_not_blamed_for_what_has_another_cause():
    def changed(ctx, names):
        if not ctx.is_replaying:
            print("first run")
        yield ctx.call_activity("z")

    text = str(replay(ABC, changed))
    assert "The cause" not in text
    assert "does not fit" not in text
