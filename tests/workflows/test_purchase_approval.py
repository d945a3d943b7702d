"""The purchase approval: a person decides, is reminded, is bypassed, or never answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import keyless

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.purchase_approval import (
    Approval,
    ApprovalRequest,
    Decision,
    Outcome,
    Purchase,
    escalate,
    notify_requester,
    purchase_approval,
    record_decision,
    request_approval,
    send_reminder,
)

if TYPE_CHECKING:
    from dt_testkit import Instance

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
CAR = Purchase("car", 42_000_00, "kim", approver="ana", manager="raj")
YES = Approval(approved=True, by="ana", comment="go on")
NO = Approval(approved=False, by="raj", comment="too red")


def asked(hub: TaskHub, purchase: Purchase = CAR) -> Instance:
    """A purchase about which the approver has been asked."""
    instance = hub.start(purchase_approval, input=purchase, instance_id="car-1")
    hub.settle()
    return instance


def decision_of(instance: Instance) -> Decision | None:
    return instance.get_output(Decision)


def kinds(instance: Instance) -> list[str]:
    return [operation.kind for operation in instance.waiting_for]


class TestAutoApproval:
    @pytest.mark.parametrize("amount", [0, 99_99, 100_00])
    def test_nobody_is_asked_up_to_the_limit(self, task_hub: TaskHub, amount: int) -> None:
        question = task_hub.stub(request_approval)
        instance = task_hub.run(purchase_approval, input=Purchase("paper", amount, "kim"))
        assert decision_of(instance) == Decision("auto-approved", "paper", "kim")
        assert question.calls == []

    def test_a_cent_over_the_limit_is_asked_about(self, task_hub: TaskHub) -> None:
        question = task_hub.stub(request_approval)
        asked(task_hub, Purchase("paper", 100_01, "kim", approver="ana"))
        assert [keyless(call.input) for call in question.calls] == [
            ApprovalRequest("", "ana", "paper", 100_01, "kim")
        ]

    def test_the_limit_is_that_of_the_purchase(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(purchase_approval, input=replace(CAR, auto_approve_limit=CAR.amount))
        assert decision_of(instance).status == "auto-approved"


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "decision"),
        [
            (YES, Decision("approved", "car", "kim", "ana", "go on")),
            (NO, Decision("rejected", "car", "kim", "raj", "too red")),
        ],
        ids=["approved", "rejected"],
    )
    def test_the_answer_decides(self, task_hub: TaskHub, answer: Approval, decision: Decision) -> None:
        instance = asked(task_hub)
        instance.raise_event("approval", answer)
        task_hub.settle()
        assert decision_of(instance) == decision

    @pytest.mark.parametrize("name", ["APPROVAL", "Approval", "aPPROVAL"])
    def test_the_case_of_the_event_name_does_not_matter(self, task_hub: TaskHub, name: str) -> None:
        instance = asked(task_hub)
        instance.raise_event(name, YES)
        task_hub.settle()
        assert decision_of(instance).status == "approved"

    def test_an_event_of_another_name_is_no_answer(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        instance.raise_event("aproval", YES)
        task_hub.settle()
        assert sorted(kinds(instance)) == ["event", "timer"]

    def test_an_answer_before_the_question_counts(self, task_hub: TaskHub) -> None:
        instance = task_hub.start(purchase_approval, input=CAR)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "approved"

    def test_an_answer_while_the_question_is_sent_counts(self, task_hub: TaskHub) -> None:
        task_hub.stub(request_approval, duration=timedelta(hours=1))
        instance = asked(task_hub)
        instance.raise_event("approval", YES)
        task_hub.advance(timedelta(hours=1))
        assert decision_of(instance).status == "approved"

    def test_an_answer_while_a_reminder_is_sent_counts_as_soon_as_it_is_sent(self, task_hub: TaskHub) -> None:
        task_hub.stub(send_reminder, duration=timedelta(hours=1))
        instance = asked(task_hub)
        task_hub.advance(DAY)
        instance.raise_event("approval", YES)
        task_hub.advance(timedelta(hours=1))
        assert decision_of(instance).status == "approved"

    def test_the_first_answer_counts(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        instance.raise_event("approval", NO)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "rejected"

    def test_an_answer_may_come_as_plain_json(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        instance.raise_event("approval", {"approved": True, "by": "ana"})
        task_hub.settle()
        assert decision_of(instance) == Decision("approved", "car", "kim", "ana")

    @pytest.mark.parametrize(
        "data",
        [
            "yes",
            True,
            None,
            [1],
            {"ok": 1},
            {"approved": True},
            {"approved": "false", "by": "ana"},
            {"approved": 1, "by": "ana"},
            {"approved": None, "by": "ana"},
            {"approved": True, "by": None},
        ],
    )
    def test_an_event_that_is_no_approval_is_left_out_and_the_wait_goes_on(
        self, task_hub: TaskHub, data: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        start = task_hub.now
        instance = asked(task_hub)
        task_hub.advance(DAY / 2)
        instance.raise_event("approval", data)
        task_hub.settle()
        assert caplog.messages == ["purchase car-1: an event 'approval' is no approval"]
        assert sorted(kinds(instance)) == ["event", "timer"]
        reminder = task_hub.stub(send_reminder)
        task_hub.advance(DAY)
        assert [call.time - start for call in reminder.calls] == [DAY]
        instance.raise_event("approval", YES)
        assert decision_of(instance.wait()).status == "approved"

    def test_an_event_that_is_no_approval_does_not_hide_the_answer_behind_it(self, task_hub: TaskHub) -> None:
        task_hub.stub(request_approval, duration=timedelta(hours=1))
        instance = asked(task_hub)
        for data in ("yes", {"approved": "no", "by": "ana"}, NO):
            instance.raise_event("approval", data)
        task_hub.advance(timedelta(hours=1))
        assert decision_of(instance).status == "rejected"

    def test_an_answer_after_the_end_changes_nothing(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(purchase_approval, input=CAR)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "timed out"


class TestSilence:
    def test_the_approver_is_reminded_each_day_and_then_the_manager_is_asked(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        reminder = task_hub.stub(send_reminder)
        escalation = task_hub.stub(escalate)
        task_hub.run(purchase_approval, input=CAR)
        assert [call.time - start for call in reminder.calls] == [DAY, 2 * DAY]
        assert [call.time - start for call in escalation.calls] == [3 * DAY]

    def test_reminders_go_to_the_approver_and_the_escalation_to_the_manager(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(send_reminder)
        escalation = task_hub.stub(escalate)
        task_hub.run(purchase_approval, input=CAR)
        assert {call.input.to for call in reminder.calls} == {"ana"}
        assert {call.input.to for call in escalation.calls} == {"raj"}

    def test_when_nobody_answers_it_times_out_after_six_days(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        instance = task_hub.run(purchase_approval, input=CAR)
        assert decision_of(instance) == Decision("timed out", "car", "kim")
        assert task_hub.now - start == 6 * DAY

    def test_without_reminders_the_manager_is_asked_after_a_day(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        reminder = task_hub.stub(send_reminder)
        escalation = task_hub.stub(escalate)
        task_hub.run(purchase_approval, input=replace(CAR, reminders=0))
        assert reminder.calls == []
        assert [call.time - start for call in escalation.calls] == [DAY]

    def test_the_manager_can_still_decide(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        task_hub.advance(5 * DAY)
        instance.raise_event("approval", NO)
        task_hub.settle()
        assert decision_of(instance) == Decision("rejected", "car", "kim", "raj", "too red")

    def test_the_custom_status_tells_who_is_waited_for_and_how_often_they_were_reminded(
        self, task_hub: TaskHub
    ) -> None:
        instance = asked(task_hub)
        seen = [instance.custom_status]
        for wait in (DAY, DAY, DAY, 3 * DAY):
            task_hub.advance(wait)
            seen.append(instance.custom_status)
        assert seen == [
            {"waiting_for": "ana", "reminders_sent": 0},
            {"waiting_for": "ana", "reminders_sent": 1},
            {"waiting_for": "ana", "reminders_sent": 2},
            {"waiting_for": "raj", "reminders_sent": 2},
            {"decision": "timed out"},
        ]


class TestRaces:
    def test_an_answer_a_moment_before_the_reminder_spares_it(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(send_reminder)
        instance = asked(task_hub)
        task_hub.advance(DAY - MOMENT)
        instance.raise_event("approval", YES)
        task_hub.advance(2 * MOMENT)
        assert decision_of(instance).status == "approved"
        assert reminder.calls == []

    def test_an_answer_right_after_the_reminder_counts_too(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(send_reminder)
        instance = asked(task_hub)
        task_hub.advance(DAY)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "approved"
        assert len(reminder.calls) == 1

    def test_an_answer_a_moment_before_the_last_deadline_counts(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        task_hub.advance(6 * DAY - MOMENT)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "approved"

    def test_an_answer_at_the_last_deadline_is_too_late(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        task_hub.advance(6 * DAY)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert decision_of(instance).status == "timed out"

    def test_when_both_arrive_in_one_turn_and_the_answer_first_it_counts(self) -> None:
        step = drive(purchase_approval, replace(CAR, reminders=0, escalate_after=0.0))
        step.complete(of=request_approval)
        step.advance(timedelta(0))
        step.complete(of=escalate)
        step.suspend()
        step.raise_event("approval", YES)
        step.advance(3 * DAY)
        step.resume()
        assert step.custom_status == {"decision": "approved"}

    def test_when_both_arrive_in_one_turn_and_the_deadline_first_it_is_too_late(self) -> None:
        step = drive(purchase_approval, replace(CAR, reminders=0, escalate_after=0.0))
        step.complete(of=request_approval)
        step.advance(timedelta(0))
        step.complete(of=escalate)
        step.suspend()
        step.advance(3 * DAY)
        step.raise_event("approval", YES)
        step.resume()
        assert step.custom_status == {"decision": "timed out"}


class TestLosers:
    def test_the_timer_that_lost_is_cancelled(self, task_hub: TaskHub) -> None:
        task_hub.stub(record_decision, duration=timedelta(hours=1))
        instance = asked(task_hub)
        instance.raise_event("approval", YES)
        task_hub.settle()
        assert [operation.name for operation in instance.waiting_for] == ["record_decision"]

    def test_the_answer_that_never_came_is_no_longer_waited_for(self, task_hub: TaskHub) -> None:
        task_hub.stub(record_decision, duration=timedelta(hours=1))
        instance = asked(task_hub)
        task_hub.advance(6 * DAY)
        assert [operation.name for operation in instance.waiting_for] == ["record_decision"]

    def test_no_one_is_bothered_after_the_answer(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(send_reminder)
        escalation = task_hub.stub(escalate)
        task_hub.stub(record_decision, duration=30 * DAY)
        instance = asked(task_hub)
        instance.raise_event("approval", YES)
        task_hub.advance(60 * DAY)
        assert instance.is_terminal
        assert reminder.calls + escalation.calls == []


class TestTheDecision:
    def test_it_is_recorded_and_told_at_the_same_time(self) -> None:
        step = drive(purchase_approval, Purchase("paper", 1, "kim"))
        outcome = Outcome("", Decision("auto-approved", "paper", "kim"))
        assert [(op.name, keyless(op.input)) for op in step.pending] == [
            ("record_decision", outcome),
            ("notify_requester", outcome),
        ]

    def test_it_is_made_when_both_have_been_done(self) -> None:
        step = drive(purchase_approval, Purchase("paper", 1, "kim"))
        step.complete(of=notify_requester)
        assert step.status is OrchestrationStatus.RUNNING
        step.complete(of=record_decision)
        assert step.status is OrchestrationStatus.COMPLETED

    @pytest.mark.parametrize(
        "activity", [request_approval, send_reminder, escalate, record_decision, notify_requester]
    )
    def test_an_activity_that_fails_for_good_fails_the_purchase_after_a_minute_of_attempts(
        self, task_hub: TaskHub, activity: Any
    ) -> None:
        stub = task_hub.stub(activity, side_effect=RuntimeError("no"))
        instance = task_hub.run(purchase_approval, input=CAR)
        assert instance.status is OrchestrationStatus.FAILED
        assert [call.attempt for call in stub.calls] == [1, 2, 3, 4, 5]
        assert stub.calls[-1].time - stub.calls[0].time == timedelta(seconds=1 + 4 + 16 + 64)


class TestReplay:
    def test_it_replays_after_every_turn(self) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        instance = asked(hub)
        hub.advance(4 * DAY)
        instance.raise_event("approval", NO)
        assert decision_of(instance.wait()).status == "rejected"

    def test_a_purchase_in_flight_replays(self, task_hub: TaskHub) -> None:
        instance = asked(task_hub)
        task_hub.advance(2 * DAY)
        assert not instance.is_terminal
        assert_replays(instance.history, purchase_approval)

    def test_the_path_of_a_purchase_that_the_manager_decides_is_kept(
        self, task_hub: TaskHub, dt_record: Any
    ) -> None:
        instance = asked(task_hub)
        task_hub.advance(4 * DAY)
        instance.raise_event("approval", NO)
        dt_record(instance.wait().history, "purchase-escalated")
