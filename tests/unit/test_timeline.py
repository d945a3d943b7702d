from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from durabletask.history import (
    EntityLockGrantedEvent,
    EntityLockRequestedEvent,
    EntityOperationCalledEvent,
    EntityOperationCompletedEvent,
    ExecutionCompletedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    HistoryStateEvent,
    OrchestratorCompletedEvent,
    OrchestratorStartedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask.task import FailureDetails
from event_strategies import histories, law
from hypothesis import given
from hypothesis import strategies as st

from dt_testkit.history import History
from dt_testkit.history.timeline import render

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
UNTIL = START + timedelta(minutes=1)


def lines_of(*events, **options):
    return render(History("order-1", events), **options).split("\n")


def text_of(*events, **options):
    return "\n".join(lines_of(*events, **options)[1:])


def order_history(stamp=EPOCH):
    """One order; as in the in-memory backend, only the turns carry the time."""
    later = START + timedelta(seconds=2)
    return [
        OrchestratorStartedEvent(-1, START),
        ExecutionStartedEvent(-1, stamp, name="order_workflow", input='{"sku":"desk"}'),
        TaskScheduledEvent(1, stamp, name="reserve", input='{"sku":"desk"}'),
        OrchestratorCompletedEvent(-1, stamp),
        OrchestratorStartedEvent(-1, later),
        TaskCompletedEvent(-1, stamp, task_scheduled_id=1, result='"R-1"'),
        TimerCreatedEvent(2, stamp, fire_at=UNTIL),
        OrchestratorCompletedEvent(-1, stamp),
        OrchestratorStartedEvent(-1, UNTIL),
        TimerFiredEvent(-1, stamp, fire_at=UNTIL, timer_id=2),
        ExecutionCompletedEvent(3, stamp, orchestration_status=1, result='"done"'),
        OrchestratorCompletedEvent(-1, stamp),
    ]


def test_a_timeline_has_a_header_a_mark_for_each_turn_and_a_line_for_each_event():
    assert render(History("order-1", order_history())) == (
        "order_workflow 'order-1'  COMPLETED  12 events  2026-01-01 00:00:00 → 00:01:00\n"
        "+0:00:00  ▶ turn 1\n"
        '          started        order_workflow(input={"sku":"desk"})\n'
        '   #1     activity       reserve({"sku":"desk"})\n'
        "+0:00:02  ▶ turn 2\n"
        '   #1     completed      reserve → "R-1"\n'
        "   #2     timer          until 2026-01-01 00:01:00\n"
        "+0:01:00  ▶ turn 3\n"
        "   #2     fired          timer of 2026-01-01 00:01:00\n"
        '          completed      order_workflow → "done"'
    )


def test_printing_a_history_shows_its_timeline():
    history = History("order-1", order_history())
    assert str(history) == render(history)


def test_a_history_without_an_end_is_in_flight():
    assert "  in flight  " in lines_of(*order_history()[:5])[0]


def test_a_rewound_instance_is_in_flight_again():
    assert "  in flight  " in lines_of(*order_history(), ExecutionRewoundEvent(-1, START, reason="fixed"))[0]


def test_the_moments_that_the_in_memory_backend_leaves_at_1970_are_not_printed():
    assert "1970" not in render(History("order-1", order_history()))


def test_without_any_moment_the_turns_have_no_offsets():
    assert lines_of(OrchestratorStartedEvent(-1, EPOCH)) == [
        "(orchestrator unknown) 'order-1'  in flight  1 event",
        "          ▶ turn 1",
    ]


def test_a_history_over_several_days_says_on_which_day_it_ends():
    end = START + timedelta(days=30, hours=1, milliseconds=125)
    header, _, last = lines_of(OrchestratorStartedEvent(-1, START), OrchestratorStartedEvent(-1, end))
    assert header.endswith("2026-01-01 00:00:00 → 2026-01-31 01:00:00")
    assert last == "+30d 1:00:00.125  ▶ turn 2"


def test_a_failure_shows_what_failed_with_type_and_message_on_one_line():
    failure = FailureDetails("reset\nby peer", "builtins.ConnectionError", "at line 1\n")
    assert "#1     failed         charge ✗ ConnectionError: reset\\nby peer" in text_of(
        TaskScheduledEvent(1, START, name="charge"),
        TaskFailedEvent(-1, START, task_scheduled_id=1, failure_details=failure),
    )


def test_the_answer_of_an_entity_names_the_operation_that_was_called():
    assert "#4     completed      @counter@k.add → 3" in text_of(
        EntityOperationCalledEvent(
            4, START, request_id="r", operation="add", target_instance_id="@counter@k"
        ),
        EntityOperationCompletedEvent(-1, START, request_id="r", output="3"),
    )


def test_a_granted_lock_names_what_is_locked():
    assert "#4     granted        lock of @a@1, @a@2" in text_of(
        EntityLockRequestedEvent(4, START, critical_section_id="c", lock_set=["@a@1", "@a@2"], position=0),
        EntityLockGrantedEvent(-1, START, critical_section_id="c"),
    )


def test_a_completion_of_something_never_scheduled_is_still_shown():
    assert "#9     completed      ? → 1" in text_of(
        TaskCompletedEvent(-1, START, task_scheduled_id=9, result="1")
    )


def test_an_event_without_a_form_of_its_own_shows_its_class_and_fields():
    assert text_of(HistoryStateEvent(-1, START, orchestration_state={"name": "x"})).split() == [
        "HistoryState",
        "orchestration_state={'name':",
        "'x'}",
    ]


@pytest.mark.parametrize("width", [30, 80])
def test_long_payloads_are_cut_to_the_width(width):
    line = text_of(TaskScheduledEvent(1, START, name="reserve", input="x" * 10_000), width=width)
    assert len(line) == width
    assert line.endswith("x…") or width == 30


def test_the_text_of_a_failure_is_cut_late_and_only_where_no_width_is_asked_for():
    failed = TaskFailedEvent(-1, START, 1, FailureDetails("x" * 200 + "y" * 120, "Problem", None))
    assert text_of(failed).endswith("y" * 120)
    assert len(text_of(failed, width=80)) == 80
    endless = TaskFailedEvent(-1, START, 1, FailureDetails("x" * 10_000, "Problem", None))
    assert len(text_of(endless)) == 400


def test_color_adds_escapes_and_changes_no_text():
    plain, colored = lines_of(*order_history()), lines_of(*order_history(), color=True)
    assert colored[0] == f"\x1b[1m{plain[0]}\x1b[0m"
    assert len(colored) == len(plain)


@law
@given(histories, st.integers(20, 200))
def test_any_history_renders_in_one_printable_line_an_event_within_the_width(history, width):
    header, *lines = render(history, width=width).split("\n")
    shown = [event for event in history if not isinstance(event, OrchestratorCompletedEvent)]
    assert len(lines) == len(shown)
    assert all(line.isprintable() for line in (header, *lines))
    assert all(len(line) <= width for line in lines if "▶" not in line)
