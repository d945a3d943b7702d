"""The job monitor: polls with growing pauses, expires, is stopped, continues as new."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, delivered_twice, run_with_dying_workers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.gateway import GatewayError
from workflows.job_monitor import Verdict, Watch, job_monitor, poll_job, report_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit import Instance, Stub
    from workflows.local_gateway import LocalGateway
    from workflows.store import Store

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)
FOREVER = Watch("endless", tell="ana")


def started(hub: TaskHub, watch: Watch = FOREVER) -> Instance:
    """A monitor that has polled once."""
    instance = hub.start(job_monitor, input=watch, instance_id="monitor-1")
    hub.settle()
    return instance


def verdict_of(instance: Instance) -> Verdict:
    return instance.get_output(Verdict)


def pauses(stub: Stub) -> list[float]:
    """The virtual time between one poll and the next, in seconds."""
    return [(later.time - earlier.time).total_seconds() for earlier, later in pairwise(stub.calls)]


def outbox(store: Store) -> list[Any]:
    return contents(store).get("outbox", [])


class TestTheJobEnds:
    def test_a_job_that_is_done_at_once_is_asked_about_once(self, task_hub: TaskHub, store: Store) -> None:
        start = task_hub.now
        instance = task_hub.run(job_monitor, input=Watch("ready-after-1", tell="ana"))
        assert verdict_of(instance) == Verdict("ready-after-1", "succeeded", polls=1)
        assert task_hub.now == start
        assert outbox(store) == [("ana", "The job ready-after-1 has succeeded.")]

    def test_a_job_that_fails_is_told_of_too(self, task_hub: TaskHub, store: Store) -> None:
        instance = task_hub.run(job_monitor, input=Watch("broken-after-3", tell="ana"))
        assert verdict_of(instance) == Verdict("broken-after-3", "failed", polls=3)
        assert outbox(store) == [("ana", "The job broken-after-3 has failed.")]

    def test_the_pauses_grow_up_to_the_longest(self, task_hub: TaskHub) -> None:
        poll = task_hub.stub(poll_job, side_effect=["running"] * 5 + ["succeeded"])
        watch = Watch("job", first_pause=10.0, growth=2.0, longest_pause=50.0)
        task_hub.run(job_monitor, input=watch)
        assert pauses(poll) == [10.0, 20.0, 40.0, 50.0, 50.0]

    def test_the_pauses_go_on_growing_across_generations(self, task_hub: TaskHub) -> None:
        poll = task_hub.stub(poll_job, side_effect=["running"] * 5 + ["succeeded"])
        watch = Watch("job", first_pause=10.0, growth=2.0, longest_pause=50.0, polls_per_generation=1)
        instance = task_hub.run(job_monitor, input=watch)
        assert len(instance.histories) == 6
        assert pauses(poll) == [10.0, 20.0, 40.0, 50.0, 50.0]

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(polls=st.integers(1, 30), a_generation=st.integers(1, 7), growth=st.sampled_from([1.0, 1.5, 3.0]))
    def test_how_often_it_continues_as_new_changes_nothing_else(
        self, polls: int, a_generation: int, growth: float
    ) -> None:
        def told(polls_per_generation: int) -> tuple[Any, list[float], int]:
            hub = TaskHub()
            hub.add_orchestrator(job_monitor)
            hub.stub(report_job)
            poll = hub.stub(poll_job, side_effect=["running"] * (polls - 1) + ["succeeded"])
            watch = Watch("job", first_pause=1.0, growth=growth, longest_pause=64.0, expires_after=1e6)
            watch = replace(watch, polls_per_generation=polls_per_generation)
            instance = hub.run(job_monitor, input=watch)
            return instance.output, pauses(poll), len(instance.histories)

        whole, in_parts = told(1000), told(a_generation)
        assert in_parts[:2] == whole[:2]
        assert (whole[2], in_parts[2]) == (1, (polls - 1) // a_generation + 1)


class TestPollsThatFail:
    def test_a_gateway_that_is_briefly_away_is_asked_again(self, task_hub: TaskHub) -> None:
        poll = task_hub.stub(poll_job, side_effect=[GatewayError("away"), GatewayError("away"), "succeeded"])
        instance = task_hub.run(job_monitor, input=FOREVER)
        assert verdict_of(instance) == Verdict("endless", "succeeded", polls=1)
        assert [call.attempt for call in poll.calls] == [1, 2, 3]

    def test_a_poll_that_fails_for_good_counts_as_unknown_and_the_monitor_goes_on(
        self, task_hub: TaskHub
    ) -> None:
        answers = [GatewayError("away")] * 3 + ["succeeded"]
        task_hub.stub(poll_job, side_effect=answers)
        instance = started(task_hub)
        task_hub.advance(timedelta(seconds=1))
        assert instance.custom_status == {"state": "unknown", "polls": 1}
        assert verdict_of(instance.wait()) == Verdict("endless", "succeeded", polls=2)

    def test_a_gateway_that_never_comes_back_makes_it_expire(self, task_hub: TaskHub) -> None:
        task_hub.stub(poll_job, side_effect=GatewayError("away"))
        assert verdict_of(task_hub.run(job_monitor, input=FOREVER)).outcome == "expired"

    def test_a_report_that_fails_is_tried_again(self, task_hub: TaskHub) -> None:
        report = task_hub.stub(report_job, side_effect=[OSError("full")] * 4 + [None])
        assert verdict_of(task_hub.run(job_monitor, input=Watch("ready-after-1"))).outcome == "succeeded"
        assert [call.attempt for call in report.calls] == [1, 2, 3, 4, 5]

    def test_a_report_that_fails_for_good_fails_the_monitor(self, task_hub: TaskHub) -> None:
        task_hub.stub(report_job, side_effect=RuntimeError("no outbox"))
        instance = task_hub.run(job_monitor, input=Watch("ready-after-1"))
        assert instance.status is OrchestrationStatus.FAILED
        assert "no outbox" in instance.failure.message


class TestExpiry:
    def test_it_expires_at_its_moment_in_the_middle_of_a_pause(self, task_hub: TaskHub, store: Store) -> None:
        start = task_hub.now
        instance = task_hub.run(job_monitor, input=replace(FOREVER, expires_after=100.0, growth=1.0))
        assert verdict_of(instance) == Verdict("endless", "expired", polls=2)
        assert task_hub.now - start == timedelta(seconds=100)
        assert outbox(store) == [("ana", "The job endless was not done in time and is not watched any more.")]

    def test_the_moment_does_not_move_when_it_continues_as_new(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        watch = replace(FOREVER, growth=1.0, expires_after=3600.0 + 1, polls_per_generation=2)
        instance = task_hub.run(job_monitor, input=watch)
        assert len(instance.histories) == 31
        assert task_hub.now - start == HOUR + timedelta(seconds=1)

    def test_it_expires_while_a_poll_hangs(self, task_hub: TaskHub) -> None:
        start = task_hub.now
        task_hub.stub(poll_job, return_value="running", duration=timedelta(days=9))
        instance = started(task_hub)
        task_hub.advance(timedelta(days=2))
        assert verdict_of(instance) == Verdict("endless", "expired", polls=0)
        assert task_hub.now - start == timedelta(days=2)

    def test_an_expiry_that_is_over_before_it_starts_lets_it_poll_once_at_most(
        self, task_hub: TaskHub, gateway: LocalGateway
    ) -> None:
        instance = task_hub.run(job_monitor, input=replace(FOREVER, expires_after=0.0))
        assert verdict_of(instance).outcome == "expired"
        assert gateway.requests["GET /jobs/endless"] <= 1

    @pytest.mark.parametrize("expires_after", [100, 10 * 86400])
    def test_a_long_expiry_in_several_timers_is_kept_to_the_moment(self, expires_after: int) -> None:
        hub = TaskHub(maximum_timer_interval=timedelta(days=3))
        register(hub)
        start = hub.now
        hub.run(job_monitor, input=replace(FOREVER, expires_after=float(expires_after)))
        assert hub.now - start == timedelta(seconds=expires_after)


class TestStop:
    def test_it_is_stopped_in_the_middle_of_a_pause(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance) == Verdict("endless", "stopped", polls=1)
        assert outbox(store) == [("ana", "The job endless is not watched any more, as someone asked.")]

    @pytest.mark.parametrize("name", ["STOP", "Stop"])
    def test_the_case_of_the_event_does_not_matter(self, task_hub: TaskHub, name: str) -> None:
        instance = started(task_hub)
        instance.raise_event(name, {"by": "ana"})
        task_hub.settle()
        assert verdict_of(instance).outcome == "stopped"

    def test_it_is_stopped_before_it_has_started(self, task_hub: TaskHub) -> None:
        instance = task_hub.start(job_monitor, input=FOREVER)
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance).outcome == "stopped"

    def test_it_is_stopped_in_the_middle_of_a_poll_without_waiting_for_it(self, task_hub: TaskHub) -> None:
        task_hub.stub(poll_job, return_value="running", duration=HOUR)
        instance = started(task_hub)
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance) == Verdict("endless", "stopped", polls=0)

    def test_it_is_stopped_between_two_attempts_of_a_poll(self, task_hub: TaskHub) -> None:
        task_hub.stub(poll_job, side_effect=GatewayError("away"))
        instance = started(task_hub)
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance) == Verdict("endless", "stopped", polls=0)

    @pytest.mark.parametrize("halves", range(12))
    def test_it_is_stopped_at_any_moment_of_any_generation(self, task_hub: TaskHub, halves: int) -> None:
        watch = replace(FOREVER, first_pause=60.0, growth=1.0, polls_per_generation=1)
        instance = started(task_hub, watch)
        task_hub.advance(halves * MINUTE / 2)
        assert len(instance.histories) == halves // 2 + 1
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance) == Verdict("endless", "stopped", polls=halves // 2 + 1)

    def test_a_stop_that_arrives_in_the_turn_that_continues_as_new_is_not_lost(
        self, task_hub: TaskHub
    ) -> None:
        instance = started(task_hub, replace(FOREVER, growth=1.0, polls_per_generation=1))
        instance.suspend()
        task_hub.advance(MINUTE)  # the pause is over, and nobody has been told of it
        instance.raise_event("stop")
        instance.resume()
        task_hub.settle()
        assert len(instance.histories) == 2
        assert verdict_of(instance).outcome == "stopped"

    def test_when_both_arrive_in_one_turn_and_the_stop_first_it_is_stopped(self) -> None:
        assert self.outcome_of_a_race(lambda step: step.raise_event("stop"), expire) == "stopped"

    def test_when_both_arrive_in_one_turn_and_the_expiry_first_it_is_expired(self) -> None:
        assert self.outcome_of_a_race(expire, lambda step: step.raise_event("stop")) == "expired"

    @staticmethod
    def outcome_of_a_race(first: Callable[[Any], None], second: Callable[[Any], None]) -> Any:
        step = drive(job_monitor, replace(FOREVER, expires_after=30.0))
        step.complete("running", of=poll_job)
        step.suspend()
        first(step)
        second(step)
        step.resume()
        return step.custom_status["state"]

    def test_a_stop_after_the_end_changes_nothing(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(job_monitor, input=Watch("ready-after-1"))
        instance.raise_event("stop")
        task_hub.settle()
        assert verdict_of(instance).outcome == "succeeded"


def expire(step: Any) -> None:
    step.advance(timedelta(seconds=30))


class TestBoundedHistory:
    def test_no_generation_is_longer_than_the_first(self, task_hub: TaskHub) -> None:
        watch = replace(FOREVER, growth=1.0, expires_after=60.0 * 505, polls_per_generation=10)
        instance = task_hub.run(job_monitor, input=watch)
        lengths = [len(history) for history in instance.histories]
        assert verdict_of(instance).polls == 505
        assert len(lengths) == 51
        assert max(lengths) == lengths[0]

    def test_a_later_generation_waits_for_nothing_that_an_earlier_one_asked_for(
        self, task_hub: TaskHub
    ) -> None:
        poll = task_hub.stub(poll_job, return_value="running")
        instance = started(task_hub, replace(FOREVER, growth=1.0, polls_per_generation=2))
        task_hub.advance(10 * MINUTE)
        assert len(instance.histories) == 6
        assert sorted(operation.kind for operation in instance.waiting_for) == ["event", "timer", "timer"]
        assert poll.call_count == 11


class TestInput:
    @pytest.mark.parametrize(
        "change",
        [{"first_pause": 0.0}, {"first_pause": -1.0}, {"longest_pause": 1.0}, {"growth": 0.5}],
        ids=str,
    )
    def test_pauses_that_shrink_or_are_none_are_refused(
        self, task_hub: TaskHub, change: dict[str, float]
    ) -> None:
        instance = task_hub.run(job_monitor, input=replace(FOREVER, **change))
        assert instance.status is OrchestrationStatus.FAILED
        assert instance.failure.message == (
            "the pauses of a monitor are longer than 0 seconds and do not shrink"
        )

    def test_a_generation_without_polls_is_refused(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(job_monitor, input=replace(FOREVER, polls_per_generation=0))
        assert instance.failure.message == "a monitor polls at least once before it continues as new"

    def test_plain_json_leaves_the_rest_to_the_workflow(self, task_hub: TaskHub) -> None:
        instance = task_hub.run(job_monitor, input={"job": "ready-after-2"})
        assert verdict_of(instance) == Verdict("ready-after-2", "succeeded", polls=2)


class TestOperations:
    def test_a_monitor_that_is_terminated_asks_and_tells_no_more(
        self, task_hub: TaskHub, gateway: LocalGateway, store: Store
    ) -> None:
        instance = started(task_hub)
        instance.terminate("enough")
        task_hub.advance(timedelta(days=3))
        assert instance.status is OrchestrationStatus.TERMINATED
        assert gateway.requests["GET /jobs/endless"] == 1
        assert contents(store) == {}

    def test_a_monitor_that_is_suspended_asks_again_only_when_it_is_resumed(
        self, task_hub: TaskHub, gateway: LocalGateway
    ) -> None:
        instance = started(task_hub, Watch("ready-after-2"))
        instance.suspend()
        task_hub.advance(HOUR)
        assert instance.status is OrchestrationStatus.SUSPENDED
        assert gateway.requests["GET /jobs/ready-after-2"] == 1
        instance.resume()
        assert verdict_of(instance.wait()).outcome == "succeeded"

    def test_suspension_does_not_stop_the_clock_of_the_expiry(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        instance.suspend()
        task_hub.advance(timedelta(days=3))
        instance.resume()
        task_hub.settle()
        assert verdict_of(instance).outcome == "expired"
        assert task_hub.now == datetime(2026, 1, 4)


class TestDelivery:
    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        delivered_twice(task_hub)
        watch = Watch("ready-after-9", tell="ana", polls_per_generation=2)
        assert verdict_of(task_hub.run(job_monitor, input=watch)).outcome == "succeeded"
        assert contents(store) == {"outbox": [("ana", "The job ready-after-9 has succeeded.")]}

    def test_what_dying_workers_did_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        watch = Watch("ready-after-5", tell="ana", polls_per_generation=2)
        instance = run_with_dying_workers(task_hub, lambda: task_hub.start(job_monitor, input=watch))
        assert verdict_of(instance).outcome == "succeeded"
        assert contents(store) == {"outbox": [("ana", "The job ready-after-5 has succeeded.")]}

    @pytest.mark.parametrize("minute", range(0, 20, 3))
    def test_a_worker_that_dies_at_any_moment_changes_nothing(
        self, task_hub: TaskHub, store: Store, minute: int
    ) -> None:
        instance = started(task_hub, Watch("ready-after-6", tell="ana", polls_per_generation=2))
        task_hub.advance(minute * MINUTE)
        task_hub.crash_worker()
        assert verdict_of(instance.wait()) == Verdict("ready-after-6", "succeeded", polls=6)
        assert contents(store) == {"outbox": [("ana", "The job ready-after-6 has succeeded.")]}


class TestReplay:
    @pytest.mark.dt_hub(check_replay="turn")
    @pytest.mark.parametrize("job", ["ready-after-9", "endless"])
    def test_it_replays_after_every_turn(self, task_hub: TaskHub, job: str) -> None:
        instance = task_hub.run(job_monitor, input=Watch(job, polls_per_generation=4))
        assert instance.status is OrchestrationStatus.COMPLETED
        for history in instance.histories:
            assert_replays(history, task_hub)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_in_which_things_arrive_does_not_matter(self, seed: int) -> None:
        hub = TaskHub(shuffle=True, seed=seed, check_replay="turn")
        register(hub)
        instance = hub.run(job_monitor, input=Watch("ready-after-9", polls_per_generation=2))
        assert verdict_of(instance) == Verdict("ready-after-9", "succeeded", polls=9)
