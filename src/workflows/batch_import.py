"""An import of many rows. The pattern: fan-out/fan-in, in batches, a few at a time, some of which may fail.

Choose it when the work falls into many pieces that do not depend on each other. Two things keep it healthy
at any size: batches, so that the history grows with the number of batches and not of rows, and windows, so
that no more than a few batches load the other systems at a time. A batch that fails is part of the answer;
it does not lose the work of the others.

A row is ``"sku,quantity"``. Others are rejected one by one; a row of ``"unreadable"`` makes its whole batch
fail.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
from collections.abc import Generator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from durabletask.task import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_all,
)

from workflows.services import services

LONGEST_QUANTITY = 18  # digits: what every database can hold
BATCH_RETRY = RetryPolicy(first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=2)
TELL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how much of it at a time.

    Attributes
    ----------
    batch_size : int
        How many rows one activity imports.
    parallel_batches : int
        How many batches are under way at a time.
    """

    source: str
    rows: list[str]
    batch_size: int = 10
    parallel_batches: int = 4


@dataclass(frozen=True)
class Batch:
    """Consecutive rows, and the key of importing them; `first_row` counts from 1, as people do."""

    key: str
    source: str
    first_row: int
    rows: list[str]


@dataclass(frozen=True)
class BatchResult:
    """What became of the rows of a batch that could be imported."""

    imported: int
    rejected_rows: list[int]


@dataclass(frozen=True)
class FailedBatch:
    """A batch of which nothing was imported, and why."""

    first_row: int
    rows: int
    reason: str


@dataclass(frozen=True)
class ImportSummary:
    """What became of all rows."""

    source: str
    imported: int = 0
    rejected_rows: list[int] = field(default_factory=list)
    failed_batches: list[FailedBatch] = field(default_factory=list)


@dataclass(frozen=True)
class Announcement:
    """A summary to publish, and the key of doing so."""

    key: str
    summary: ImportSummary


class UnreadableBatch(Exception):
    """A batch that cannot be imported at all."""


def batch_import(
    ctx: OrchestrationContext, request: ImportRequest
) -> Generator[Task[Any], Any, ImportSummary]:
    """Import all rows that can be imported, and say which could not."""
    key = ctx.new_uuid()
    batches = split(request, key)
    imported = 0
    rejected_rows: list[int] = []
    failed_batches: list[FailedBatch] = []
    for start in range(0, len(batches), request.parallel_batches):
        ctx.set_custom_status({"batches": len(batches), "finished": start})
        window = batches[start : start + request.parallel_batches]
        tasks: list[Task[BatchResult]] = [
            ctx.call_activity(import_rows, input=batch, retry_policy=BATCH_RETRY) for batch in window
        ]
        # when_all fails once all have ended, and about one of them only: each task tells how it went itself.
        with suppress(TaskFailedError):
            yield when_all(tasks)
        for batch, task in zip(window, tasks, strict=True):
            if task.is_failed:
                reason = task.get_exception().details.message
                failed_batches.append(FailedBatch(batch.first_row, len(batch.rows), reason))
            else:
                result = task.get_result()
                imported += result.imported
                rejected_rows += result.rejected_rows
    ctx.set_custom_status({"batches": len(batches), "finished": len(batches)})
    summary = ImportSummary(request.source, imported, rejected_rows, failed_batches)
    announcement = Announcement(f"{key}/publish", summary)
    yield ctx.call_activity(publish_summary, input=announcement, retry_policy=TELL_RETRY)
    return summary


def split(request: ImportRequest, key: str) -> list[Batch]:
    """Cut the rows into batches, each with a key of its own."""
    if request.batch_size < 1 or request.parallel_batches < 1:
        raise ValueError("an import needs a batch_size and parallel_batches of at least 1")
    return [
        Batch(
            f"{key}/rows/{start + 1}",
            request.source,
            start + 1,
            request.rows[start : start + request.batch_size],
        )
        for start in range(0, len(request.rows), request.batch_size)
    ]


def import_rows(ctx: ActivityContext, batch: Batch) -> BatchResult:
    """Import the good rows of a batch."""
    if "unreadable" in batch.rows:
        raise UnreadableBatch(f"row {batch.first_row + batch.rows.index('unreadable')} cannot be read")
    good: dict[int, tuple[str, int]] = {}
    for number, row in enumerate(batch.rows, start=batch.first_row):
        sku, _, quantity = row.partition(",")
        if sku and quantity.isdecimal() and len(quantity) <= LONGEST_QUANTITY:
            good[number] = sku, int(quantity)
    services().store.import_rows(batch.key, batch.source, good)
    rows = range(batch.first_row, batch.first_row + len(batch.rows))
    return BatchResult(len(good), [number for number in rows if number not in good])


def publish_summary(ctx: ActivityContext, announcement: Announcement) -> None:
    """Tell whoever asked for the import how it went."""
    summary = announcement.summary
    services().store.publish(announcement.key, f"import/{summary.source}", asdict(summary))


ORCHESTRATORS = (batch_import,)
ACTIVITIES = (import_rows, publish_summary)
ENTITIES = ()
