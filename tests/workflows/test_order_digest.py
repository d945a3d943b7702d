"""The order digest: collects, publishes, continues as new, for ever, and loses nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, delivered_twice, keys, run_with_dying_workers
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.order_digest import Digest, DigestState, Entry, order_digest, publish_digest

if TYPE_CHECKING:
    from dt_testkit import Instance
    from workflows.store import Store

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
DAILY = DigestState()
DESK, LAMP, CHAIR = Entry("desk", 150_00), Entry("lamp", 40_00), Entry("chair", 60_00)


def started(hub: TaskHub, state: DigestState = DAILY) -> Instance:
    """A digest that listens."""
    instance = hub.start(order_digest, input=state, instance_id="digest-1")
    hub.settle()
    return instance


def published(store: Store) -> dict[str, list[str]]:
    """The orders in each digest, by its number."""
    return {
        name.rpartition("/")[2]: [entry["order"] for entry in body["orders"]]
        for name, body in contents(store).get("documents", [])
    }


def close(instance: Instance) -> Any:
    instance.raise_event("close")
    return instance.wait(2 * DAY).output


class TestPeriods:
    def test_what_came_in_is_published_at_the_end_of_the_period(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        instance.raise_event("entry", LAMP)
        task_hub.advance(DAY - MOMENT)
        assert contents(store) == {}
        task_hub.advance(MOMENT)
        orders = [{"order": "desk", "amount": 150_00}, {"order": "lamp", "amount": 40_00}]
        assert contents(store) == {"documents": [("digest/digest-1/1", {"orders": orders, "total": 190_00})]}

    def test_each_period_has_a_digest_of_its_own(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        for entry in (DESK, LAMP, CHAIR):
            instance.raise_event("entry", entry)
            task_hub.advance(DAY)
        assert published(store) == {"1": ["desk"], "2": ["lamp"], "3": ["chair"]}

    def test_an_empty_period_publishes_nothing_and_takes_no_number(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(5 * DAY)
        instance.raise_event("entry", LAMP)
        task_hub.advance(DAY)
        assert len(instance.histories) == 7
        assert published(store) == {"1": ["desk"], "2": ["lamp"]}

    def test_publishing_that_takes_long_does_not_move_the_periods(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        publish = task_hub.stub(publish_digest, duration=timedelta(hours=5))
        instance = started(task_hub)
        for _ in range(3):
            instance.raise_event("entry", DESK)
            task_hub.advance(DAY)
        assert [call.time - start for call in publish.calls] == [1 * DAY, 2 * DAY, 3 * DAY]

    def test_periods_that_are_over_when_publishing_is_done_are_left_out(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        publish = task_hub.stub(publish_digest, duration=2.5 * DAY)
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(1.5 * DAY)
        instance.raise_event("entry", LAMP)
        task_hub.advance(10 * DAY)
        assert [call.time - start for call in publish.calls] == [1 * DAY, 4 * DAY]
        assert [[entry.order for entry in call.input.entries] for call in publish.calls] == [
            ["desk"],
            ["lamp"],
        ]

    def test_the_custom_status_tells_what_has_been_collected(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        seen = [instance.custom_status]
        instance.raise_event("entry", DESK)
        task_hub.settle()
        seen.append(instance.custom_status)
        task_hub.advance(DAY)
        seen.append(instance.custom_status)
        assert seen == [
            {"digest": 1, "entries": 0},
            {"digest": 1, "entries": 1},
            {"digest": 2, "entries": 0},
        ]


class TestNothingIsLost:
    def test_an_entry_before_the_first_turn_counts(self, task_hub: TaskHub, store: Store) -> None:
        instance = task_hub.start(order_digest, input=DAILY)
        instance.raise_event("entry", DESK)
        assert close(instance) == 1
        assert published(store) == {"1": ["desk"]}

    def test_entries_that_come_while_a_digest_is_published_are_in_the_next_in_order(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        task_hub.stub(publish_digest, wraps=publish_digest, duration=timedelta(hours=1))
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(DAY)
        instance.raise_event("entry", LAMP)
        task_hub.settle()
        instance.raise_event("entry", CHAIR)
        task_hub.advance(2 * DAY)
        assert published(store) == {"1": ["desk"], "2": ["lamp", "chair"]}

    def test_entries_that_come_in_the_turn_that_continues_as_new_are_in_the_next(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.settle()
        instance.suspend()
        task_hub.advance(DAY)  # the period is over, and nobody has been told of it
        instance.raise_event("entry", LAMP)
        instance.raise_event("entry", CHAIR)
        instance.resume()
        task_hub.advance(DAY)
        assert published(store) == {"1": ["desk"], "2": ["lamp", "chair"]}

    def test_an_entry_that_comes_right_before_the_end_of_the_period_is_in_it(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        task_hub.advance(DAY - MOMENT)
        instance.raise_event("entry", DESK)
        task_hub.advance(MOMENT)
        assert published(store) == {"1": ["desk"]}

    @settings(max_examples=40, deadline=None)
    @given(
        waits=st.lists(st.integers(0, 40), max_size=25),
        publishing=st.integers(0, 30),
        seed=st.integers(0, 1000),
    )
    def test_whenever_entries_come_each_is_in_one_digest_and_in_order(
        self, waits: list[int], publishing: int, seed: int
    ) -> None:
        hub = TaskHub(seed=seed, shuffle=True)
        hub.add_orchestrator(order_digest)
        publish = hub.stub(publish_digest, duration=timedelta(minutes=publishing))
        instance = started(hub, DigestState(period=20 * 60.0))
        for number, minutes in enumerate(waits):
            hub.advance(timedelta(minutes=minutes))
            instance.raise_event("entry", Entry(str(number), number))
        assert close(instance) == publish.call_count
        digests = [call.input for call in publish.calls]
        assert [digest.number for digest in digests] == list(range(1, len(digests) + 1))
        assert len({digest.key for digest in digests}) == len(digests)
        assert all(digest.entries for digest in digests)
        assert [int(entry.order) for digest in digests for entry in digest.entries] == list(range(len(waits)))


class TestClose:
    def test_it_publishes_what_there_is_and_ends(self, task_hub: TaskHub, store: Store) -> None:
        start = task_hub.now
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        assert close(instance) == 1
        assert task_hub.now == start
        assert published(store) == {"1": ["desk"]}

    def test_with_nothing_to_publish_it_just_ends(self, task_hub: TaskHub, store: Store) -> None:
        assert close(started(task_hub)) == 0
        assert contents(store) == {}

    def test_the_output_is_the_number_of_digests(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        for _ in range(3):
            instance.raise_event("entry", DESK)
            task_hub.advance(2 * DAY)
        assert close(instance) == 3

    def test_a_close_while_a_digest_is_published_waits_for_the_entries_before_it(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        task_hub.stub(publish_digest, wraps=publish_digest, duration=timedelta(hours=1))
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(DAY)
        instance.raise_event("entry", LAMP)
        assert close(instance) == 2
        assert published(store) == {"1": ["desk"], "2": ["lamp"]}
        assert task_hub.now == datetime(2026, 1, 2, 2)

    def test_an_entry_after_the_close_is_in_no_digest(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        instance.raise_event("close")
        instance.raise_event("entry", LAMP)
        assert instance.wait(DAY).output == 1
        assert published(store) == {"1": ["desk"]}

    def test_when_both_arrive_in_one_turn_and_the_end_first_the_close_is_kept(self) -> None:
        step = drive(order_digest, DAILY)
        step.raise_event("entry", DESK)
        step.suspend()
        step.advance(DAY)
        step.raise_event("close")
        step.resume()
        assert step.status is OrchestrationStatus.RUNNING
        step.complete(of=publish_digest)
        assert step.output == 1


class TestBoundedHistory:
    def test_after_a_thousand_periods_the_history_is_as_short_as_the_second(self) -> None:
        hub = TaskHub()
        hub.add_orchestrator(order_digest)
        publish = hub.stub(publish_digest)
        instance = started(hub)
        for _ in range(1000):
            instance.raise_event("entry", DESK)
            hub.advance(DAY)
        assert publish.call_count == 1000
        assert publish.calls[-1].input.number == 1000
        lengths = [len(history) for history in instance.histories[:-1]]
        assert len(lengths) == 1000
        assert lengths[-1] == lengths[1]
        assert set(lengths) == {lengths[1]}
        assert len(publish.calls[-1].input.entries) == 1

    def test_a_thousand_empty_periods_leave_as_little_behind(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        task_hub.advance(1000 * DAY)
        assert len(instance.histories) == 1001
        assert len({len(history) for history in instance.histories[:-1]}) == 1
        assert instance.custom_status == {"digest": 1, "entries": 0}


class TestKeys:
    def test_they_differ_though_the_tasks_of_each_generation_have_the_same_ids(
        self, task_hub: TaskHub
    ) -> None:
        publish = task_hub.stub(publish_digest)
        instance = started(task_hub)
        for _ in range(3):
            instance.raise_event("entry", DESK)
            task_hub.advance(DAY)
        assert len({call.task_id for call in publish.calls}) == 1
        start = publish.calls[0].input.key.removesuffix("1")
        assert [call.input.key for call in publish.calls] == [start + "1", start + "2", start + "3"]

    def test_they_differ_in_generations_of_the_same_virtual_time(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        task_hub.stub(publish_digest, wraps=publish_digest, duration=timedelta(0))
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.settle()
        instance.suspend()
        task_hub.advance(DAY)
        instance.raise_event("entry", LAMP)
        instance.raise_event("close")
        instance.resume()
        task_hub.settle()
        assert instance.output == 2
        assert task_hub.now == datetime(2026, 1, 2)
        assert len(keys(store)) == 2
        assert published(store) == {"1": ["desk"], "2": ["lamp"]}

    def test_another_run_has_others(self, task_hub: TaskHub) -> None:
        publish = task_hub.stub(publish_digest)
        for instance_id in ("one", "two"):
            instance = task_hub.start(order_digest, input=DigestState(), instance_id=instance_id)
            instance.raise_event("entry", DESK)
            close(instance)
        assert len({call.input.key for call in publish.calls}) == 2


class TestMistakes:
    @pytest.mark.parametrize(
        "data",
        [
            None,
            "desk",
            {"order": "desk"},
            {"order": "a", "amount": None},
            {"order": "a", "amount": "5"},
            {"order": "a", "amount": 9.99},
            {"order": "a", "amount": True},
            {"order": 7, "amount": 5},
        ],
    )
    def test_an_event_that_is_no_entry_is_left_out(self, task_hub: TaskHub, store: Store, data: Any) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        instance.raise_event("entry", data)
        instance.raise_event("entry", LAMP)
        assert close(instance) == 1
        assert published(store) == {"1": ["desk", "lamp"]}

    def test_an_entry_may_come_as_plain_json_under_a_name_in_any_case(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("Entry", {"order": "desk", "amount": 1})
        assert close(instance) == 1
        assert published(store) == {"1": ["desk"]}

    @pytest.mark.parametrize("period", [0.0, -5.0])
    def test_a_period_that_has_no_length_is_refused(self, task_hub: TaskHub, period: float) -> None:
        instance = task_hub.run(order_digest, input=DigestState(period=period))
        assert instance.status is OrchestrationStatus.FAILED
        assert instance.failure.message == f"the period of a digest is not {period:g} seconds long"

    def test_publishing_is_tried_again_for_hours(self, task_hub: TaskHub) -> None:
        publish = task_hub.stub(publish_digest, side_effect=[ConnectionError("away")] * 11 + [None])
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        assert close(instance) == 1
        assert [call.attempt for call in publish.calls] == list(range(1, 13))
        assert task_hub.now - datetime(2026, 1, 1) > timedelta(hours=2)

    def test_publishing_that_fails_for_good_fails_it(self, task_hub: TaskHub) -> None:
        task_hub.stub(publish_digest, side_effect=ConnectionError("away"))
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(3 * DAY)
        assert instance.status is OrchestrationStatus.FAILED
        assert "away" in instance.failure.message


class TestOperations:
    def test_it_can_be_terminated_and_publishes_no_more(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.settle()
        instance.terminate("enough")
        task_hub.advance(3 * DAY)
        assert instance.status is OrchestrationStatus.TERMINATED
        assert contents(store) == {}

    def test_what_comes_while_it_is_suspended_is_kept_and_the_periods_slept_through_are_one(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.settle()
        instance.suspend()
        task_hub.advance(timedelta(hours=12))
        instance.raise_event("entry", LAMP)
        task_hub.advance(4 * DAY)
        instance.raise_event("entry", CHAIR)
        assert contents(store) == {}
        instance.resume()
        task_hub.settle()
        assert published(store) == {"1": ["desk", "lamp"]}
        task_hub.advance(DAY / 2)
        assert published(store) == {"1": ["desk", "lamp"], "2": ["chair"]}
        assert len(instance.histories) == 3


class TestDelivery:
    def expected(self, store: Store) -> None:
        assert published(store) == {"1": ["desk"], "2": ["lamp", "chair"]}
        assert len(keys(store)) == 2

    def tell(self, hub: TaskHub, instance: Instance, crash: bool = False) -> None:
        for entry, wait in ((DESK, 1.25 * DAY), (LAMP, DAY / 4), (CHAIR, DAY)):
            instance.raise_event("entry", entry)
            hub.advance(wait)
            if crash:
                hub.crash_worker()

    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        delivered_twice(task_hub)
        instance = started(task_hub)
        self.tell(task_hub, instance)
        assert close(instance) == 2
        self.expected(store)

    def test_workers_that_die_between_entries_change_nothing(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        self.tell(task_hub, instance, crash=True)
        assert close(instance) == 2
        self.expected(store)

    def test_what_dying_workers_published_is_published_once(self, task_hub: TaskHub, store: Store) -> None:
        def start() -> Instance:
            instance = task_hub.start(order_digest, input=DigestState(period=600.0))
            for entry in (DESK, LAMP):
                instance.raise_event("entry", entry)
            instance.raise_event("close")
            return instance

        assert run_with_dying_workers(task_hub, start).output == 1
        assert published(store) == {"1": ["desk", "lamp"]}

    @pytest.mark.parametrize("hours", range(0, 60, 7))
    def test_a_worker_that_dies_at_any_moment_changes_nothing(
        self, task_hub: TaskHub, store: Store, hours: int
    ) -> None:
        task_hub.stub(publish_digest, wraps=publish_digest, duration=timedelta(hours=4))
        instance = started(task_hub)
        instance.raise_event("entry", DESK)
        task_hub.advance(timedelta(hours=hours))
        task_hub.crash_worker()
        instance.raise_event("entry", LAMP)
        task_hub.advance(timedelta(hours=60))
        close(instance)
        assert [order for digest in published(store).values() for order in digest] == ["desk", "lamp"]


class TestReplay:
    @pytest.mark.dt_hub(check_replay="turn")
    def test_it_replays_after_every_turn(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        TestDelivery().tell(task_hub, instance)
        assert_replays(instance.history, task_hub)
        assert close(instance) == 2

    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_in_which_things_arrive_does_not_matter(self, seed: int, store: Store) -> None:
        hub = TaskHub(shuffle=True, seed=seed, check_replay="turn")
        register(hub)
        instance = started(hub)
        TestDelivery().tell(hub, instance)
        assert close(instance) == 2
        TestDelivery().expected(store)


def test_a_digest_to_publish_is_what_its_period_collected(task_hub: TaskHub) -> None:
    publish = task_hub.stub(publish_digest)
    instance = started(task_hub, DigestState(number=7))
    instance.raise_event("entry", DESK)
    assert close(instance) == 7
    (call,) = publish.calls
    assert replace(call.input, key="") == Digest("", 7, [DESK])
