"""The daily settlement, and the schedule that starts it: a month in virtual time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.scheduled import (
    ScheduledTaskClient,
    ScheduleNotFoundError,
    ScheduleStatus,
    ScheduleUpdateOptions,
)
from effects import contents, delivered_twice

from dt_testkit import TaskHub
from workflows import register
from workflows.settlement import (
    SCHEDULE_ID,
    Settlement,
    SettlementRequest,
    add_up_day,
    create_schedule,
    daily_settlement,
    publish_settlement,
)
from workflows.store import LedgerEntry

if TYPE_CHECKING:
    from dt_testkit import Instance
    from workflows.store import Store

START = datetime(2026, 1, 1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def book(store: Store, **amounts: int) -> None:
    """Enter amounts at noon of days of January, named ``jan_1`` and so on."""
    with store.session() as session:
        for name, amount in amounts.items():
            noon = datetime(2026, 1, int(name.removeprefix("jan_")), 12)
            session.add(LedgerEntry(reference=name, amount=amount, booked_at=noon))


def published(store: Store) -> dict[str, int]:
    """The totals of the settlements among the documents, by their days."""
    documents = contents(store).get("documents", [])
    assert all(name == f"settlement/{body['day']}" for name, body in documents)
    return {body["day"]: body["total"] for _, body in documents}


def runs(hub: TaskHub) -> list[Instance]:
    return [instance for instance in hub.instances if instance.name == "daily_settlement"]


def on(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute)


def advance_to(hub: TaskHub, moment: datetime) -> None:
    hub.advance(moment - hub.now)


class TestSettlement:
    @pytest.fixture
    def hub(self) -> TaskHub:
        hub = TaskHub(start_time=on(10, 8), check_replay="turn")
        register(hub)
        return hub

    def test_the_day_before_is_added_up_and_published(self, hub: TaskHub, store: Store) -> None:
        book(store, jan_8=1_00, jan_9=2_00, jan_10=4_00)
        done = hub.run(daily_settlement, input=SettlementRequest())
        assert done.get_output(Settlement) == Settlement("2026-01-09", 2_00)
        assert published(store) == {"2026-01-09": 2_00}

    def test_a_day_is_from_midnight_to_midnight(self, hub: TaskHub, store: Store) -> None:
        with store.session() as session:
            for moment in (
                on(9),
                on(10) - timedelta(microseconds=1),
                on(9) - timedelta(microseconds=1),
                on(10),
            ):
                session.add(LedgerEntry(reference="r", amount=1, booked_at=moment))
        assert hub.run(daily_settlement).output["total"] == 2

    def test_refunds_count_against_it(self, hub: TaskHub, store: Store) -> None:
        with store.session() as session:
            for amount in (5, -8):
                session.add(LedgerEntry(reference="r", amount=amount, booked_at=on(9, 12)))
        assert hub.run(daily_settlement).output["total"] == -3

    def test_a_day_on_which_nothing_was_booked_is_published_too(self, hub: TaskHub, store: Store) -> None:
        hub.run(daily_settlement)
        assert published(store) == {"2026-01-09": 0}

    def test_another_day_can_be_settled_by_hand(self, hub: TaskHub, store: Store) -> None:
        book(store, jan_3=7)
        hub.run(daily_settlement, input=SettlementRequest("2026-01-03"))
        assert published(store) == {"2026-01-03": 7}

    @pytest.mark.parametrize("day", ["2026-01-10", "2026-01-11"])
    def test_a_day_that_is_not_over_is_refused(self, hub: TaskHub, store: Store, day: str) -> None:
        done = hub.run(daily_settlement, input=SettlementRequest(day))
        assert done.failure is not None
        assert done.failure.message.startswith(f"{day} is not over")
        assert published(store) == {}

    def test_what_is_no_day_is_refused(self, hub: TaskHub) -> None:
        done = hub.run(daily_settlement, input={"day": "yesterday"})
        assert done.failure is not None
        assert "yesterday" in done.failure.message

    def test_a_day_that_was_published_is_not_published_again(self, hub: TaskHub, store: Store) -> None:
        book(store, jan_9=2)
        hub.run(daily_settlement)
        book(store, jan_9=100)  # too late
        hub.run(daily_settlement)
        assert published(store) == {"2026-01-09": 2}

    @pytest.mark.parametrize("failing", [add_up_day, publish_settlement])
    def test_a_store_that_is_briefly_away_is_asked_again(
        self, hub: TaskHub, store: Store, failing: Any
    ) -> None:
        book(store, jan_9=2)
        away = iter([RuntimeError("away"), RuntimeError("away")])

        def sometimes(ctx: Any, input: Any) -> Any:
            for error in away:
                raise error
            return failing(ctx, input)

        calls = hub.stub(failing, side_effect=sometimes)
        assert hub.run(daily_settlement).status is OrchestrationStatus.COMPLETED
        assert [call.time for call in calls.calls] == [
            on(10, 8) + timedelta(seconds=seconds) for seconds in (0, 10, 40)
        ]
        assert published(store) == {"2026-01-09": 2}

    @pytest.mark.parametrize("failing", [add_up_day, publish_settlement])
    def test_it_fails_when_the_store_stays_away(self, hub: TaskHub, store: Store, failing: Any) -> None:
        calls = hub.stub(failing, side_effect=RuntimeError("away"))
        assert hub.run(daily_settlement).status is OrchestrationStatus.FAILED
        assert len(calls.calls) == 5
        assert published(store) == {}

    def test_it_settles_the_day_before_its_start_however_long_it_takes(
        self, hub: TaskHub, store: Store
    ) -> None:
        hub.stub(add_up_day, wraps=add_up_day, duration=3 * DAY)
        book(store, jan_9=2, jan_12=5)
        done = hub.start(daily_settlement)
        hub.advance(DAY)
        hub.crash_worker()
        done.suspend()
        hub.advance(10 * DAY)
        assert published(store) == {}
        done.resume()
        hub.settle()
        assert published(store) == {"2026-01-09": 2}

    def test_terminated_it_publishes_nothing(self, hub: TaskHub, store: Store) -> None:
        hub.stub(add_up_day, return_value=1, duration=HOUR)
        done = hub.start(daily_settlement)
        hub.settle()
        done.terminate()
        hub.advance(DAY)
        assert done.status is OrchestrationStatus.TERMINATED
        assert published(store) == {}


class TestSchedule:
    def test_a_month_passes_and_each_day_is_published_once_it_is_over(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        book(store, **{f"jan_{day}": day for day in range(1, 32)})
        create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(31, 23))
        assert published(store) == {
            "2025-12-31": 0,
            **{f"2026-01-{day:02}": day for day in range(1, 31)},
        }

    def test_it_runs_at_five_past_midnight(self, task_hub: TaskHub, store: Store) -> None:
        advance_to(task_hub, on(3, 15))
        create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(4, 0, 4))
        assert published(store) == {}
        advance_to(task_hub, on(4, 0, 5))
        assert published(store) == {"2026-01-03": 0}

    def test_it_says_when_it_ran_and_runs_next(self, task_hub: TaskHub) -> None:
        schedule = create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(5, 12))
        described = schedule.describe()
        assert described.schedule_id == SCHEDULE_ID
        assert described.status is ScheduleStatus.ACTIVE
        assert described.last_run_at == on(5, 0, 5).replace(tzinfo=timezone.utc)
        assert described.next_run_at == on(6, 0, 5).replace(tzinfo=timezone.utc)

    def test_days_of_a_pause_are_settled_by_hand(self, task_hub: TaskHub, store: Store) -> None:
        schedule = create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2, 12))
        schedule.pause()
        advance_to(task_hub, on(5, 12))
        assert schedule.describe().status is ScheduleStatus.PAUSED
        assert list(published(store)) == ["2025-12-31", "2026-01-01"]
        schedule.resume()
        advance_to(task_hub, on(7, 12))
        assert list(published(store))[2:] == ["2026-01-05", "2026-01-06"]
        for day in (2, 3, 4):
            task_hub.run(daily_settlement, input=SettlementRequest(f"2026-01-0{day}"))
        assert list(published(store))[1:] == [f"2026-01-0{day}" for day in range(1, 7)]

    def test_it_can_be_moved_to_another_hour(self, task_hub: TaskHub) -> None:
        schedule = create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2, 12))
        schedule.update(ScheduleUpdateOptions(start_at=on(1, 6).replace(tzinfo=timezone.utc)))
        advance_to(task_hub, on(4, 12))
        times = [run.history.events[0].timestamp.replace(tzinfo=None) for run in runs(task_hub)]
        assert times == [on(1, 0, 5), on(2, 0, 5), on(3, 6), on(4, 6)]

    def test_run_twice_a_day_it_publishes_once_a_day(self, task_hub: TaskHub, store: Store) -> None:
        book(store, jan_1=1, jan_2=2)
        create_schedule(ScheduledTaskClient(task_hub.client), interval=12 * HOUR)
        advance_to(task_hub, on(3, 23))
        assert len(runs(task_hub)) == 6
        assert published(store) == {"2025-12-31": 0, "2026-01-01": 1, "2026-01-02": 2}

    def test_a_second_schedule_publishes_nothing_twice(self, task_hub: TaskHub, store: Store) -> None:
        book(store, jan_1=1)
        for schedule_id in ("here", "there"):
            create_schedule(ScheduledTaskClient(task_hub.client), schedule_id)
        advance_to(task_hub, on(2, 12))
        assert len(runs(task_hub)) == 4
        assert published(store) == {"2025-12-31": 0, "2026-01-01": 1}

    def test_created_again_it_is_still_one(self, task_hub: TaskHub) -> None:
        for _ in range(2):
            create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(3, 12))
        assert [
            schedule.schedule_id for schedule in ScheduledTaskClient(task_hub.client).list_schedules()
        ] == [SCHEDULE_ID]
        assert len(runs(task_hub)) == 3

    def test_deleted_it_runs_no_more(self, task_hub: TaskHub) -> None:
        schedule = create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2, 12))
        schedule.delete()
        advance_to(task_hub, on(20))
        assert len(runs(task_hub)) == 2
        with pytest.raises(ScheduleNotFoundError):
            schedule.describe()

    def test_a_run_that_fails_does_not_keep_the_next_from_running(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        task_hub.stub(add_up_day, side_effect=[*[RuntimeError("away")] * 5, 7])
        create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2, 12))
        assert [run.status.name for run in runs(task_hub)] == ["FAILED", "COMPLETED"]
        assert published(store) == {"2026-01-01": 7}

    @pytest.mark.parametrize("minute", range(0, 12, 2))
    def test_a_worker_may_die_at_any_moment(self, task_hub: TaskHub, store: Store, minute: int) -> None:
        book(store, jan_1=1)
        for activity in (add_up_day, publish_settlement):
            task_hub.stub(activity, wraps=activity, duration=3 * MINUTE)
        create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2) + minute * MINUTE)
        task_hub.crash_worker()
        advance_to(task_hub, on(2, 12))
        assert published(store) == {"2025-12-31": 0, "2026-01-01": 1}

    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        delivered_twice(task_hub)
        book(store, jan_1=1)
        create_schedule(ScheduledTaskClient(task_hub.client))
        advance_to(task_hub, on(2, 12))
        assert published(store) == {"2025-12-31": 0, "2026-01-01": 1}

    def test_it_replays_after_every_turn(self) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        create_schedule(ScheduledTaskClient(hub.client))
        hub.advance(10 * DAY)
        assert [run.status.name for run in runs(hub)] == ["COMPLETED"] * 10
