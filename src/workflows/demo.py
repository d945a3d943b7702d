"""Real histories: every workflow, several ways, through the real worker and client, exported to files.

The histories are what the SDK's own client returns, written by the SDK's own serializer.
"""

from __future__ import annotations

import errno
import functools
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durabletask.client import OrchestrationStatus
from durabletask.extensions.history_export import ExportFormat, ExportFormatKind
from durabletask.extensions.history_export.serialization import (
    file_extension_for,
    orchestration_state_to_dict,
    serialize_history,
)

from workflows import register
from workflows.batch_import import FailedBatch, ImportRequest, ImportSummary, batch_import
from workflows.connection import create_client, create_worker
from workflows.embedded import in_memory_backend
from workflows.order import Order, OrderResult, charge, order_workflow
from workflows.purchase_approval import APPROVAL_EVENT, Approval, Decision, Purchase, purchase_approval

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from durabletask.client import OrchestrationState, TaskHubGrpcClient
    from durabletask.task import Activity, ActivityContext, Orchestrator

    from workflows import Registrar
    from workflows.order import Payment

PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.02


class DemoError(Exception):
    """A run that did not end as expected."""


@dataclass(frozen=True)
class Scenario:
    """One way through a workflow.

    Attributes
    ----------
    story : str
        What happens, for the person who reads the output.
    expected : Any
        The output, or the message of the failure where `fails` is set.
    answer, answer_at : Approval | None, dict[str, Any] | None
        An approval to send, and the custom status at which to send it.
    """

    instance_id: str
    story: str
    orchestrator: Orchestrator[Any, Any]
    input: Any
    expected: Any
    fails: bool = False
    answer: Approval | None = None
    answer_at: dict[str, Any] | None = None
    file_kind: ExportFormatKind = ExportFormatKind.JSON


def order(instance_id: str, story: str, input: Order, expected: OrderResult) -> Scenario:
    return Scenario(instance_id, story, order_workflow, input, expected)


def cancelled(reason: str, *compensated: str) -> OrderResult:
    return OrderResult("cancelled", reason=reason, compensated=list(compensated))


SOON = 0.2
"""Seconds: an interval that is meant to pass. The others are days, so that no slow machine gets past them."""

SCENARIOS = (
    order(
        "order-completed",
        "reserved, charged, shipped, confirmed",
        Order("desk", 2, 150_00),
        OrderResult("completed", tracking_number="TRACK-order-completed"),
    ),
    order(
        "order-charge-retried",
        "the payment gateway answers at the third attempt",
        Order("lamp", 1, 40_00, card="flaky"),
        OrderResult("completed", tracking_number="TRACK-order-charge-retried"),
    ),
    order(
        "order-declined",
        "the card is declined: released",
        Order("desk", 1, 150_00, card="declined"),
        cancelled("the card was declined", "release"),
    ),
    order(
        "order-out-of-stock",
        "nothing to reserve, nothing to undo",
        Order("out-of-stock", 3, 10_00),
        cancelled("3 of out-of-stock are not in stock"),
    ),
    order(
        "order-undeliverable",
        "cannot be shipped: refunded, released",
        Order("shelf", 1, 80_00, address="undeliverable"),
        cancelled("no carrier delivers to this address", "refund", "release"),
    ),
    order(
        "order-unconfirmed",
        "cannot be confirmed: called back, refunded, released",
        Order("chair", 4, 60_00, email="bounces"),
        cancelled("the customer cannot be reached", "cancel_shipment", "refund", "release"),
    ),
    Scenario(
        "order-invalid",
        "an order for no pieces fails",
        order_workflow,
        Order("desk", 0, 150_00),
        "an order is for at least one piece, not for 0",
        fails=True,
    ),
    Scenario(
        "import-clean",
        "8 rows in batches of 2, 3 batches at a time",
        batch_import,
        ImportRequest("spring.csv", [f"sku-{n},{n}" for n in range(1, 9)], batch_size=2, parallel_batches=3),
        ImportSummary("spring.csv", imported=8),
    ),
    Scenario(
        "import-partial",
        "2 rows rejected, 1 batch unreadable, the others imported",
        batch_import,
        ImportRequest(
            "summer.csv",
            ["a,1", "b,two", "c,3", "d,4", "unreadable", "f,6", "g,7", "h,8", ""],
            batch_size=3,
            parallel_batches=2,
        ),
        ImportSummary(
            "summer.csv",
            imported=4,
            rejected_rows=[2, 9],
            failed_batches=[FailedBatch(4, 3, "row 5 cannot be read")],
        ),
        file_kind=ExportFormatKind.JSONL_GZIP,
    ),
    Scenario(
        "import-defaults",
        "20 rows, started by plain JSON that leaves the sizes to the workflow",
        batch_import,
        {"source": "autumn.csv", "rows": [f"sku-{n},{n}" for n in range(1, 21)]},
        ImportSummary("autumn.csv", imported=20),
    ),
    Scenario(
        "purchase-auto-approved",
        "under the limit, nobody is asked",
        purchase_approval,
        Purchase("paper", 12_00, "kim"),
        Decision("auto-approved", "paper", "kim"),
    ),
    Scenario(
        "purchase-approved",
        "approved at once, the reminder is cancelled",
        purchase_approval,
        Purchase("monitor", 400_00, "kim", approver="ana"),
        Decision("approved", "monitor", "kim", by="ana"),
        answer=Approval(True, "ana"),
        answer_at={"waiting_for": "ana", "reminders_sent": 0},
    ),
    Scenario(
        "purchase-rejected",
        "rejected, with a comment",
        purchase_approval,
        Purchase("espresso machine", 2_500_00, "kim", approver="ana"),
        Decision("rejected", "espresso machine", "kim", by="ana", comment="tea is fine"),
        answer=Approval(False, "ana", "tea is fine"),
        answer_at={"waiting_for": "ana", "reminders_sent": 0},
    ),
    Scenario(
        "purchase-reminded",
        "approved after a reminder",
        purchase_approval,
        Purchase("laptop", 1_800_00, "kim", approver="ana", reminders=1, remind_after=SOON),
        Decision("approved", "laptop", "kim", by="ana"),
        answer=Approval(True, "ana"),
        answer_at={"waiting_for": "ana", "reminders_sent": 1},
    ),
    Scenario(
        "purchase-escalated",
        "the approver is silent, the manager approves",
        purchase_approval,
        Purchase(
            "server",
            9_000_00,
            "kim",
            approver="ana",
            manager="raj",
            reminders=1,
            remind_after=SOON,
            escalate_after=SOON,
        ),
        Decision("approved", "server", "kim", by="raj"),
        answer=Approval(True, "raj"),
        answer_at={"waiting_for": "raj", "reminders_sent": 1},
    ),
    Scenario(
        "purchase-timed-out",
        "two reminders, an escalation, and no answer",
        purchase_approval,
        Purchase(
            "car", 42_000_00, "kim", reminders=2, remind_after=SOON, escalate_after=SOON, give_up_after=SOON
        ),
        Decision("timed out", "car", "kim"),
    ),
)


class WithFlakyGateway:
    """Registers the application with a payment gateway that drops two calls of an order with a flaky card.

    An activity is not told which attempt it is, so someone has to count, and the application itself does not.
    """

    def __init__(self, worker: Registrar) -> None:
        self.add_orchestrator = worker.add_orchestrator
        self._add_activity = worker.add_activity
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    def add_activity(self, fn: Activity[Any, Any], /) -> Any:
        return self._add_activity(self._flaky_charge if fn is charge else fn)

    @property
    def _flaky_charge(self) -> Activity[Payment, str]:
        @functools.wraps(charge)
        def flaky_charge(ctx: ActivityContext, payment: Payment) -> str:
            with self._lock:
                self._calls[ctx.orchestration_id] += 1
                calls = self._calls[ctx.orchestration_id]
            if payment.card == "flaky" and calls <= 2:
                raise ConnectionError("the payment gateway hung up")
            return charge(ctx, payment)

        return flaky_charge


@dataclass(frozen=True)
class Recording:
    """The exported history of a scenario."""

    scenario: Scenario
    path: Path
    events: int


def prepare_directory(directory: Path) -> None:
    """Make the directory, check that it can be written to, and clear it of earlier histories.

    Raises
    ------
    OSError
        If that cannot be done.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a directory", str(directory))
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass
    for pattern in ("*.history.json", "*.history.jsonl", "*.history.json.gz", "*.history.jsonl.gz"):
        for path in directory.glob(pattern):
            path.unlink()


def record(directory: Path, scenarios: tuple[Scenario, ...]) -> Generator[Recording, None, None]:
    """Run scenarios on an in-memory backend, all at the same time, and export their histories.

    Parameters
    ----------
    directory : Path
        Where the histories go; see `prepare_directory`.
    scenarios : tuple[Scenario, ...]
        What to run.

    Yields
    ------
    Recording
        One for each scenario, in their order.

    Raises
    ------
    DemoError
        If a run ended otherwise than expected, or did not end.
    """
    with (
        in_memory_backend() as settings,
        create_worker(settings) as worker,
        create_client(settings) as client,
    ):
        register(WithFlakyGateway(worker))
        worker.start()  # type: ignore[no-untyped-call]
        for scenario in scenarios:
            client.schedule_new_orchestration(
                scenario.orchestrator, input=scenario.input, instance_id=scenario.instance_id
            )
        for scenario in scenarios:
            if scenario.answer is not None:
                wait_for_custom_status(client, scenario.instance_id, scenario.answer_at)
                client.raise_orchestration_event(scenario.instance_id, APPROVAL_EVENT, data=scenario.answer)
        for scenario in scenarios:
            state = wait_for_end(client, scenario.instance_id)
            check(scenario, state)
            yield export(directory, client, scenario, state)


def wait_for_custom_status(
    client: TaskHubGrpcClient, instance_id: str, custom_status: Any, timeout: float = PATIENCE_SECONDS
) -> None:
    """Wait until an instance has a certain custom status: until it waits for what comes next.

    Raises
    ------
    DemoError
        If it ended before, or took longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        state = client.get_orchestration_state(instance_id)
        found = None if state is None else state.get_custom_status()
        if found == custom_status:
            return
        if state is not None and is_over(state):
            raise DemoError(f"{instance_id} ended before it came to {custom_status}: its last was {found}")
        if time.monotonic() > deadline:
            raise DemoError(
                f"{instance_id} did not come to {custom_status} in {timeout:g} s: it is at {found}"
            )
        pause.wait(_POLL_SECONDS)


def is_over(state: OrchestrationState) -> bool:
    return state.runtime_status in (
        OrchestrationStatus.COMPLETED,
        OrchestrationStatus.FAILED,
        OrchestrationStatus.TERMINATED,
    )


def wait_for_end(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    try:
        state = client.wait_for_orchestration_completion(instance_id, timeout=PATIENCE_SECONDS)
    except TimeoutError:
        raise DemoError(f"{instance_id} did not end within {PATIENCE_SECONDS:g} s") from None
    if state is None:
        raise DemoError(f"{instance_id} is unknown to the backend")
    return state


def check(scenario: Scenario, state: OrchestrationState) -> None:
    """Compare the end of a run with the one expected."""
    wanted = OrchestrationStatus.FAILED if scenario.fails else OrchestrationStatus.COMPLETED
    failure = None if state.failure_details is None else state.failure_details.message
    if state.runtime_status is not wanted:
        because = "" if failure is None else f": {failure}"
        raise DemoError(f"{scenario.instance_id} is {state.runtime_status}, not {wanted}{because}")
    found = failure if scenario.fails else state.get_output(type(scenario.expected))
    if found != scenario.expected:
        raise DemoError(f"{scenario.instance_id} ended with {found}, and not with {scenario.expected}")


def export(
    directory: Path, client: TaskHubGrpcClient, scenario: Scenario, state: OrchestrationState
) -> Recording:
    """Write the history of an instance with the SDK's own serializer."""
    file_format = ExportFormat(scenario.file_kind)
    events = client.get_orchestration_history(scenario.instance_id)
    path = directory / f"{scenario.instance_id}.history{file_extension_for(file_format)}"
    path.write_bytes(
        serialize_history(
            events,
            instance_id=scenario.instance_id,
            fmt=file_format,
            metadata=orchestration_state_to_dict(state),
        )
    )
    return Recording(scenario, path, len(events))
