"""Ways through the workflows, and what each comes to: for the demo, and the histories of a release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from durabletask.entities import EntityInstanceId
from durabletask.extensions.history_export import ExportFormatKind

from workflows.account import TransferOrder, TransferResult, transfer
from workflows.agent import Chat, ChatResult, agent
from workflows.appointment import Appointment, AppointmentResult, NewTime, WallTime, appointment
from workflows.batch_import import FailedBatch, ImportRequest, ImportSummary, batch_import
from workflows.job_monitor import Verdict, Watch, job_monitor
from workflows.order import Order, OrderResult, order_workflow
from workflows.order_digest import DigestState, Entry, order_digest
from workflows.purchase_approval import APPROVAL_EVENT, Approval, Decision, Purchase, purchase_approval
from workflows.quotes import Quote, Supplier, Tender, TenderResult, buyer
from workflows.sales_report import MissingRegion, RegionalSales, ReportRequest, SalesReport, sales_report
from workflows.settlement import Settlement, SettlementRequest, daily_settlement
from workflows.subscription import RELEASE, Subscription, SubscriptionEnd, subscription

if TYPE_CHECKING:
    from durabletask.task import Orchestrator


@dataclass(frozen=True)
class Sent:
    """An event, and the custom status at which to send it; None to send it at once."""

    name: str
    data: Any = None
    at: Any = None


@dataclass(frozen=True)
class Signal:
    """What to tell an entity."""

    entity: EntityInstanceId
    operation: str
    input: Any = None


@dataclass(frozen=True)
class Scenario:
    """One way through a workflow.

    Attributes
    ----------
    story : str
        What happens, for the person who reads the output.
    expected : Any
        The output, or the message of the failure where `fails` is set; or a function that says whether the
        output is right.
    events : tuple[Sent, ...]
        What to send to it, one after the other.
    signals : tuple[Signal, ...]
        What to tell entities before it starts.
    """

    instance_id: str
    story: str
    orchestrator: Orchestrator[Any, Any]
    input: Any
    expected: Any
    fails: bool = False
    events: tuple[Sent, ...] = ()
    signals: tuple[Signal, ...] = ()
    version: str | None = None
    file_kind: ExportFormatKind = ExportFormatKind.JSON


def order(instance_id: str, story: str, input: Order, expected: Any) -> Scenario:
    return Scenario(instance_id, story, order_workflow, input, expected)


def shipped(result: Any) -> bool:
    """Whether an order was completed; no two have the same tracking number."""
    return bool(result["status"] == "completed" and result["tracking_number"].startswith("TRACK-order-"))


def cancelled(reason: str, *compensated: str) -> OrderResult:
    return OrderResult("cancelled", reason=reason, compensated=list(compensated))


SOON = 0.2
"""Seconds: an interval that is meant to pass. The others are days, so that no slow machine gets past them."""

SCENARIOS = (
    order(
        "order-completed",
        "reserved, charged, shipped, confirmed",
        Order("desk", 2, 150_00),
        shipped,
    ),
    order(
        "order-charge-retried",
        "the payment gateway answers at the third attempt",
        Order("lamp", 1, 40_00, card="flaky"),
        shipped,
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
        events=(Sent(APPROVAL_EVENT, Approval(True, "ana"), at={"waiting_for": "ana", "reminders_sent": 0}),),
    ),
    Scenario(
        "purchase-rejected",
        "rejected, with a comment",
        purchase_approval,
        Purchase("espresso machine", 2_500_00, "kim", approver="ana"),
        Decision("rejected", "espresso machine", "kim", by="ana", comment="tea is fine"),
        events=(
            Sent(
                APPROVAL_EVENT,
                Approval(False, "ana", "tea is fine"),
                at={"waiting_for": "ana", "reminders_sent": 0},
            ),
        ),
    ),
    Scenario(
        "purchase-reminded",
        "approved after a reminder",
        purchase_approval,
        Purchase("laptop", 1_800_00, "kim", approver="ana", reminders=1, remind_after=SOON),
        Decision("approved", "laptop", "kim", by="ana"),
        events=(Sent(APPROVAL_EVENT, Approval(True, "ana"), at={"waiting_for": "ana", "reminders_sent": 1}),),
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
        events=(Sent(APPROVAL_EVENT, Approval(True, "raj"), at={"waiting_for": "raj", "reminders_sent": 1}),),
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
    Scenario(
        "monitor-succeeded",
        "a job that is done at the third poll; continued as new after two",
        job_monitor,
        Watch("ready-after-3", first_pause=SOON, longest_pause=SOON, polls_per_generation=2),
        Verdict("ready-after-3", "succeeded", 3),
    ),
    Scenario(
        "monitor-stopped",
        "a job that never ends, until someone says stop",
        job_monitor,
        Watch("endless"),
        Verdict("endless", "stopped", 1),
        events=(Sent("stop", at={"state": "running", "polls": 1}),),
    ),
    Scenario(
        "digest-closed",
        "two entries are published when the digest is closed",
        order_digest,
        DigestState(),
        1,
        events=(
            Sent("entry", Entry("order-1", 300_00)),
            Sent("entry", Entry("order-2", 40_00)),
            Sent("close", at={"digest": 1, "entries": 2}),
        ),
    ),
    Scenario(
        "report-partial",
        "a region that answers at the third attempt, and one that is not known",
        sales_report,
        ReportRequest("first quarter", ["north", "shaky", "nowhere"]),
        SalesReport(
            "first quarter",
            850_639,
            [RegionalSales("north", 752_514), RegionalSales("shaky", 98_125)],
            [MissingRegion("nowhere", "there is no region 'nowhere'")],
        ),
    ),
    Scenario(
        "appointment-cancelled",
        "moved from an hour that does not exist in Berlin, and cancelled",
        appointment,
        Appointment("review", "kim", WallTime("2099-03-29T02:30", "Europe/Berlin")),
        AppointmentResult("cancelled", "2099-03-30T07:30:00", 1),
        events=(
            Sent(
                "move",
                NewTime("2099-03-30T09:30"),
                at={"status": "waiting", "at": "2099-03-29T01:30:00", "next": "reminder"},
            ),
            Sent("cancel", at={"status": "waiting", "at": "2099-03-30T07:30:00", "next": "reminder"}),
        ),
    ),
    Scenario(
        "transfer-completed",
        "money moves between two accounts that are locked",
        transfer,
        TransferOrder("ana", "raj", 25_00),
        TransferResult("completed"),
        signals=(
            Signal(EntityInstanceId("account", "ana"), "open", "ana"),
            Signal(EntityInstanceId("account", "ana"), "deposit", 100_00),
            Signal(EntityInstanceId("account", "raj"), "open", "raj"),
        ),
    ),
    Scenario(
        "transfer-refused",
        "there is no such account, so nothing moves",
        transfer,
        TransferOrder("nobody", "raj", 1_00),
        TransferResult("refused", "account nobody does not exist"),
    ),
    Scenario(
        "subscription-lapsed",
        "a card that takes one payment, and the version of the first release",
        subscription,
        {"customer": "kim", "card": "declined", "price": "9.90", "days": 30},
        SubscriptionEnd("lapsed", 0, "the card was declined"),
    ),
    Scenario(
        "subscription-cancelled",
        "cancelled before the renewal that this release announces",
        subscription,
        Subscription("kim", "4242", 9_90, period=2, due=datetime(2099, 1, 1), key="SUB-1"),
        SubscriptionEnd("cancelled", 1),
        version=RELEASE,
        events=(Sent("cancel", at={"period": 2, "due": "2099-01-01T00:00:00"}),),
    ),
    Scenario(
        "tender-awarded",
        "two suppliers send their quotes; the cheaper is chosen",
        buyer,
        Tender("desk", 10, [Supplier("east", 90_00), Supplier("north", 85_00)]),
        TenderResult("north", [Quote("north", 850_00), Quote("east", 900_00)]),
    ),
    Scenario(
        "settlement",
        "a day without a payment is added up",
        daily_settlement,
        SettlementRequest("2026-01-31"),
        Settlement("2026-01-31", 0),
    ),
    Scenario(
        "agent-ended",
        "two tools are used for one answer",
        agent,
        Chat(),
        ChatResult("ended", 1, "6 * 7 = 42 There is no order RES-9."),
        events=(
            Sent("message", "What is 6 * 7, and how is order RES-9?"),
            Sent(
                "end",
                at={"state": "waiting", "answered": 1, "answer": "6 * 7 = 42 There is no order RES-9."},
            ),
        ),
    ),
)
