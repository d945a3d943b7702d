"""The batch import: batches in parallel, a few at a time, some of which may fail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, keyless

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.batch_import import (
    Announcement,
    Batch,
    BatchResult,
    FailedBatch,
    ImportRequest,
    ImportSummary,
    batch_import,
    import_rows,
    publish_summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit import Instance, Step
    from workflows.store import Store

HOUR = timedelta(hours=1)
RETRY_WAIT = timedelta(milliseconds=100)
NO = RuntimeError("no")


def request(batches: int, parallel: int = 2) -> ImportRequest:
    """One good row a batch."""
    return ImportRequest("s.csv", ["a,1"] * batches, batch_size=1, parallel_batches=parallel)


def summary_of(instance: Instance) -> ImportSummary:
    return instance.get_output(ImportSummary)


def rows_under_way(waiting: Instance | Step) -> list[int]:
    """The first rows of the batches that are being imported at this moment."""
    operations = waiting.pending if hasattr(waiting, "pending") else waiting.waiting_for
    return [op.input.first_row for op in operations if op.kind == "activity"]


def failing_rows(*first_rows: int) -> Callable[[Any, Batch], BatchResult]:
    """An activity that never imports the batches that start at these rows."""

    def activity(ctx: Any, batch: Batch) -> BatchResult:
        if batch.first_row in first_rows:
            raise RuntimeError(f"row {batch.first_row} is cursed")
        return BatchResult(len(batch.rows), [])

    return activity


class TestHappyPath:
    def test_every_row_is_imported(self, task_hub: TaskHub) -> None:
        rows = [f"sku-{n},{n}" for n in range(25)]
        instance = task_hub.run(batch_import, input=ImportRequest("spring.csv", rows))
        assert summary_of(instance) == ImportSummary("spring.csv", imported=25)

    def test_rows_are_cut_into_batches_and_the_last_one_is_shorter(self, task_hub: TaskHub) -> None:
        imports = task_hub.stub(import_rows, wraps=import_rows)
        task_hub.run(batch_import, input=ImportRequest("s.csv", ["a,1", "b,2", "c,3"], batch_size=2))
        assert [keyless(call.input) for call in imports.calls] == [
            Batch("", "s.csv", 1, ["a,1", "b,2"]),
            Batch("", "s.csv", 3, ["c,3"]),
        ]

    def test_the_summary_is_published_once_and_is_the_output(self, task_hub: TaskHub) -> None:
        published = task_hub.stub(publish_summary)
        instance = task_hub.run(batch_import, input=request(3))
        assert [call.input.summary for call in published.calls] == [summary_of(instance)]

    def test_an_import_of_nothing_is_published_all_the_same(self, task_hub: TaskHub) -> None:
        imports = task_hub.stub(import_rows)
        published = task_hub.stub(publish_summary)
        task_hub.run(batch_import, input=ImportRequest("empty.csv", []))
        assert imports.calls == []
        assert [keyless(call.input) for call in published.calls] == [
            Announcement("", ImportSummary("empty.csv"))
        ]

    @pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"parallel_batches": 0}, {"batch_size": -1}])
    def test_sizes_under_one_fail_before_anything_is_imported(
        self, task_hub: TaskHub, sizes: dict[str, int]
    ) -> None:
        imports = task_hub.stub(import_rows)
        instance = task_hub.run(batch_import, input=ImportRequest("s.csv", ["a,1"], **sizes))
        assert instance.status is OrchestrationStatus.FAILED
        assert imports.calls == []


class TestWindows:
    def test_no_more_batches_are_under_way_than_allowed(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        instance = task_hub.start(batch_import, input=request(7, parallel=3))
        task_hub.settle()
        assert rows_under_way(instance) == [1, 2, 3]

    def test_the_windows_follow_each_other(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        instance = task_hub.start(batch_import, input=request(7, parallel=3))
        task_hub.settle()
        seen = []
        while not instance.is_terminal:
            seen.append(rows_under_way(instance))
            task_hub.advance(HOUR)
        assert seen == [[1, 2, 3], [4, 5, 6], [7]]

    def test_an_import_takes_as_long_as_its_windows_and_not_as_its_batches(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        started = task_hub.now
        task_hub.run(batch_import, input=request(7, parallel=3))
        assert task_hub.now - started == 3 * HOUR

    def test_a_window_wider_than_the_import_holds_all_batches(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        instance = task_hub.start(batch_import, input=request(2, parallel=9))
        task_hub.settle()
        assert rows_under_way(instance) == [1, 2]

    def test_a_window_waits_for_its_slowest_batch(self) -> None:
        step = drive(batch_import, request(4, parallel=2))
        step.complete(BatchResult(1, []), of=step.pending[1])
        assert rows_under_way(step) == [1]

    def test_a_window_waits_for_its_retries(self) -> None:
        step = drive(batch_import, request(4, parallel=2))
        slow, failing = step.pending
        step.fail(NO, of=failing)
        step.complete(BatchResult(1, []), of=slow)
        assert [(op.kind, op.due) for op in step.pending] == [("timer", step.now + RETRY_WAIT)]

    def test_batches_may_end_in_any_order_and_are_counted_in_that_of_the_rows(self) -> None:
        step = drive(batch_import, request(3, parallel=3))
        for operation in reversed(step.pending):
            step.complete(BatchResult(0, [operation.input.first_row]), of=operation)
        assert step.pending[0].input.summary == ImportSummary("s.csv", rejected_rows=[1, 2, 3])

    def test_the_custom_status_counts_the_batches_of_finished_windows(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        instance = task_hub.start(batch_import, input=request(5, parallel=2))
        task_hub.settle()
        seen = [instance.custom_status]
        for _ in range(3):
            task_hub.advance(HOUR)
            seen.append(instance.custom_status)
        assert seen == [{"batches": 5, "finished": n} for n in (0, 2, 4, 5)]


class TestPartialFailures:
    @pytest.mark.parametrize("digits", [19, 30, 5000])
    def test_a_quantity_that_no_database_holds_rejects_its_row_only(
        self, task_hub: TaskHub, store: Store, digits: int
    ) -> None:
        rows = [f"a,{'9' * 18}", f"b,{'1' * digits}"]
        instance = task_hub.run(batch_import, input=ImportRequest("s.csv", rows))
        assert summary_of(instance) == ImportSummary("s.csv", imported=1, rejected_rows=[2])
        assert contents(store) == {
            "stock": [("s.csv", 1, "a", 10**18 - 1)],
            "documents": [("import/s.csv", instance.output)],
        }

    def test_bad_rows_are_rejected_by_number_and_the_others_imported(self, task_hub: TaskHub) -> None:
        rows = ["a,1", "b,two", "c,3", ",4", "e"]
        instance = task_hub.run(batch_import, input=ImportRequest("s.csv", rows, batch_size=2))
        assert summary_of(instance) == ImportSummary("s.csv", imported=2, rejected_rows=[2, 4, 5])

    def test_an_unreadable_row_costs_its_whole_batch_and_no_other(self, task_hub: TaskHub) -> None:
        rows = ["a,1", "b,2", "c,3", "unreadable", "e,5"]
        instance = task_hub.run(batch_import, input=ImportRequest("s.csv", rows, batch_size=2))
        assert summary_of(instance) == ImportSummary(
            "s.csv", imported=3, failed_batches=[FailedBatch(3, 2, "row 4 cannot be read")]
        )

    def test_every_failed_batch_of_a_window_is_told_with_its_own_reason(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, side_effect=failing_rows(1, 3))
        instance = task_hub.run(batch_import, input=request(3, parallel=3))
        assert summary_of(instance).failed_batches == [
            FailedBatch(1, 1, "row 1 is cursed"),
            FailedBatch(3, 1, "row 3 is cursed"),
        ]

    def test_a_failed_batch_does_not_keep_the_next_window_from_starting(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, side_effect=failing_rows(1))
        instance = task_hub.run(batch_import, input=request(4, parallel=2))
        assert summary_of(instance).imported == 3

    def test_an_import_of_which_nothing_is_left_completes(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, side_effect=NO)
        instance = task_hub.run(batch_import, input=request(2))
        assert instance.status is OrchestrationStatus.COMPLETED
        assert [batch.reason for batch in summary_of(instance).failed_batches] == ["no", "no"]

    def test_an_import_that_cannot_be_published_fails(self, task_hub: TaskHub) -> None:
        task_hub.stub(publish_summary, side_effect=NO)
        assert task_hub.run(batch_import, input=request(1)).status is OrchestrationStatus.FAILED


class TestRetries:
    def test_a_batch_is_tried_twice_a_tenth_of_a_second_apart(self, task_hub: TaskHub) -> None:
        imports = task_hub.stub(import_rows, side_effect=NO)
        task_hub.run(batch_import, input=request(1))
        first, second = imports.calls
        assert (first.attempt, second.attempt) == (1, 2)
        assert second.time - first.time == RETRY_WAIT

    def test_a_batch_that_succeeds_the_second_time_is_imported(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, side_effect=[NO, BatchResult(1, [])])
        assert summary_of(task_hub.run(batch_import, input=request(1))) == ImportSummary("s.csv", imported=1)

    def test_only_the_batch_that_failed_is_tried_again(self, task_hub: TaskHub) -> None:
        imports = task_hub.stub(import_rows, side_effect=failing_rows(2))
        task_hub.run(batch_import, input=request(3, parallel=3))
        assert [(call.input.first_row, call.attempt) for call in imports.calls] == [
            (1, 1),
            (2, 1),
            (3, 1),
            (2, 2),
        ]

    def test_the_summary_is_published_though_it_takes_more_than_a_minute_of_attempts(
        self, task_hub: TaskHub
    ) -> None:
        published = task_hub.stub(publish_summary, side_effect=[NO] * 4 + [None])
        done = task_hub.run(batch_import, input=request(1))
        assert done.status is OrchestrationStatus.COMPLETED
        assert published.calls[-1].time - published.calls[0].time == timedelta(seconds=1 + 4 + 16 + 64)


class TestReplay:
    def test_it_replays_after_every_turn(self) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        hub.stub(import_rows, side_effect=failing_rows(2, 3))
        instance = hub.run(batch_import, input=request(7, parallel=3))
        assert len(summary_of(instance).failed_batches) == 2

    def test_an_import_in_flight_replays(self, task_hub: TaskHub) -> None:
        task_hub.stub(import_rows, wraps=import_rows, duration=HOUR)
        instance = task_hub.start(batch_import, input=request(7, parallel=3))
        task_hub.advance(HOUR)
        assert not instance.is_terminal
        assert_replays(instance.history, batch_import)

    def test_the_path_of_an_import_with_losses_is_kept(self, dt_record: Any) -> None:
        step = drive(batch_import, request(3, parallel=2), instance_id="import-losses")
        good, bad = step.pending
        step.fail(RuntimeError("no"), of=bad)
        step.complete(BatchResult(1, []), of=good)
        step.advance(RETRY_WAIT)
        step.fail(RuntimeError("no"), of=import_rows)
        step.complete(BatchResult(0, [3]), of=import_rows)
        step.complete(of=publish_summary)
        assert step.output["failed_batches"] == [{"first_row": 2, "rows": 1, "reason": "no"}]
        dt_record(step.history, "import-losses")
