"""The application of `workflows` after a release that nobody tested against the instances in flight.

`register` registers orchestrators of the same names, each changed the way code gets changed: something is
renamed, something takes longer, something is dropped. An instance that the old code started would not survive
the new one, or would survive it with another result. `CHANGES` lists what was done, and for each change a
history of ``python -m workflows demo`` in which it shows.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durabletask.entities import EntityInstanceId
from durabletask.task import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_all,
    when_any,
)

from workflows import MODULES, Registrar
from workflows import account as accounts
from workflows import batch_import as imports
from workflows import order as orders
from workflows import purchase_approval as purchases
from workflows.account import AccountState, TransferOrder, TransferResult
from workflows.batch_import import Announcement, BatchResult, FailedBatch, ImportSummary
from workflows.order import Order, OrderResult, Payment, Reservation
from workflows.purchase_approval import Approval, ApprovalRequest, Decision, Outcome, Purchase


@dataclass(frozen=True)
class Change:
    """A change of this release, and where a replay has to find it.

    Attributes
    ----------
    history : str
        The instance id of a recorded history in which the change shows.
    kind : str
        The kind of divergence: ``"missing"``, ``"unexpected"``, ``"changed"``, ``"order"`` or ``"result"``.
    field : str | None
        What differs, where the kind is ``"changed"`` or ``"result"``.
    """

    name: str
    history: str
    kind: str
    field: str | None = None


CHANGES = (
    Change("payments are retried later", "order-charge-retried", "changed", "fire_at"),
    Change("shipments name their carrier", "order-completed", "changed", "input"),
    Change("orders are no longer confirmed", "order-unconfirmed", "missing"),
    Change("refund is called refund_payment", "order-undeliverable", "changed", "name"),
    Change("reasons name the item", "order-out-of-stock", "result", "output"),
    Change("an invalid order is cancelled, and does not fail", "order-invalid", "result", "status"),
    Change("batches are larger unless told otherwise", "import-defaults", "changed", "input"),
    Change("an import with losses is held before it is published", "import-partial", "changed", "kind"),
    Change("the end of an import is announced", "import-clean", "unexpected"),
    Change("reminders come later", "purchase-reminded", "changed", "fire_at"),
    Change("the event is called decision", "purchase-approved", "missing"),
    Change("the manager is paged", "purchase-escalated", "changed", "name"),
    Change("the requester hears of it before it is recorded", "purchase-auto-approved", "order"),
    Change("the deposit comes before the withdrawal", "transfer-completed", "order"),
)


# ---- orders

PAYMENT_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=2),  # was half a second
    max_number_of_attempts=3,
    backoff_coefficient=2.0,
)


@dataclass(frozen=True)
class Parcel(orders.Parcel):
    carrier: str = "bicycle"  # is new


def order_workflow(ctx: OrchestrationContext, order: Order) -> Generator[Task[Any], Any, OrderResult]:
    if order.quantity < 1:
        return OrderResult("cancelled", reason="nothing was ordered")  # was an exception
    key = ctx.new_uuid()
    undo: list[orders.Compensation] = []
    try:
        wanted = Reservation(f"{key}/reserve", order.item, order.quantity)
        undo.append((orders.release, wanted.key))
        yield ctx.call_activity(orders.reserve, input=wanted, retry_policy=orders.STEP_RETRY)

        payment = Payment(f"{key}/charge", order.card, order.quantity * order.unit_price)
        undo.append((refund_payment, payment.key))  # was refund
        yield ctx.call_activity(orders.charge, input=payment, retry_policy=PAYMENT_RETRY)

        parcel = Parcel(f"{key}/ship", order.item, order.quantity, order.address)
        undo.append((orders.cancel_shipment, parcel.key))
        tracking_number = yield ctx.call_activity(orders.ship, input=parcel, retry_policy=orders.STEP_RETRY)
        # Here, the customer was told.
    except TaskFailedError as failure:
        compensated, needs_attention = yield from orders.compensate(ctx, undo)
        return OrderResult(
            "cancelled",
            reason=f"{order.item}: {failure.details.message}",  # was without the item
            compensated=compensated,
            needs_attention=needs_attention,
        )
    return OrderResult("completed", tracking_number=tracking_number)


def refund_payment(ctx: ActivityContext, step: str) -> bool:
    return orders.refund(ctx, step)


# ---- imports


@dataclass(frozen=True)
class ImportRequest(imports.ImportRequest):
    batch_size: int = 12  # was 10


def batch_import(
    ctx: OrchestrationContext, request: ImportRequest
) -> Generator[Task[Any], Any, ImportSummary]:
    key = ctx.new_uuid()
    batches = imports.split(request, key)
    imported = 0
    rejected_rows: list[int] = []
    failed_batches: list[FailedBatch] = []
    for start in range(0, len(batches), request.parallel_batches):
        window = batches[start : start + request.parallel_batches]
        tasks: list[Task[BatchResult]] = [
            ctx.call_activity(imports.import_rows, input=batch, retry_policy=imports.BATCH_RETRY)
            for batch in window
        ]
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
    summary = ImportSummary(request.source, imported, rejected_rows, failed_batches)
    if failed_batches:
        yield ctx.create_timer(timedelta(minutes=5))  # is new: time for a person to step in
    yield ctx.call_activity(imports.publish_summary, input=Announcement(f"{key}/publish", summary))
    yield ctx.call_activity(announce, input=request.source)  # is new
    return summary


def announce(ctx: ActivityContext, source: str) -> None:
    """Tell everybody."""


# ---- purchases


def purchase_approval(ctx: OrchestrationContext, purchase: Purchase) -> Generator[Task[Any], Any, Decision]:
    key = ctx.new_uuid()
    if purchase.amount <= purchase.auto_approve_limit:
        decision = Decision("auto-approved", purchase.item, purchase.requester)
    else:
        approval = yield from ask(ctx, purchase, key)
        decision = purchases.decide(purchase, approval)
    yield when_all(
        [
            # Was the second.
            ctx.call_activity(purchases.notify_requester, input=Outcome(f"{key}/notify", decision)),
            ctx.call_activity(purchases.record_decision, input=Outcome(f"{key}/record", decision)),
        ]
    )
    return decision


def ask(
    ctx: OrchestrationContext, purchase: Purchase, key: str
) -> Generator[Task[Any], Any, Approval | None]:
    question = purchases.request(purchase, f"{key}/ask", purchase.approver)
    yield ctx.call_activity(purchases.request_approval, input=question)

    for sent in range(purchase.reminders):
        later = 2 * purchase.remind_after  # was half of it
        if approval := (yield from answer_within(ctx, later)):
            return approval
        reminder = purchases.request(purchase, f"{key}/remind/{sent + 1}", purchase.approver)
        yield ctx.call_activity(purchases.send_reminder, input=reminder)
    if approval := (yield from answer_within(ctx, purchase.escalate_after)):
        return approval

    question = purchases.request(purchase, f"{key}/escalate", purchase.manager)
    yield ctx.call_activity(page_manager, input=question)  # was escalate
    return (yield from answer_within(ctx, purchase.give_up_after))


def answer_within(ctx: OrchestrationContext, seconds: float) -> Generator[Task[Any], Any, Approval | None]:
    timer = ctx.create_timer(timedelta(seconds=seconds))
    while True:
        answer = ctx.wait_for_external_event("decision")  # was "approval"
        contenders: list[Task[Any]] = [answer, timer]
        if (yield when_any(contenders)) is timer:
            answer.cancel()
            return None
        if approval := purchases.read(answer.get_result()):
            timer.cancel()
            return approval


def page_manager(ctx: ActivityContext, request: ApprovalRequest) -> None:
    """Wake the manager."""


# ---- transfers


def transfer(ctx: OrchestrationContext, order: TransferOrder) -> Generator[Task[Any], Any, TransferResult]:
    source, target = EntityInstanceId("account", order.source), EntityInstanceId("account", order.target)
    with (yield ctx.lock_entities([source, target])):
        looks: list[Task[Any]] = [
            ctx.call_entity(account, "look", return_type=AccountState) for account in (source, target)
        ]
        giver, taker = yield when_all(looks)
        reason = accounts.refusal(order, giver, taker)
        if reason is None:
            # The deposit was the second.
            deposit = ctx.call_entity(target, "deposit", order.amount)
            withdrawal = ctx.call_entity(source, "withdraw", order.amount)
            ctx.signal_entity(accounts.TRANSFERS, "add", 1)
            yield when_all([withdrawal, deposit])
    return TransferResult("completed") if reason is None else TransferResult("refused", reason)


def register(worker: Registrar) -> None:
    """Add the changed orchestrators in place of those of `workflows`, and the new activities."""
    changed = {each.__name__: each for each in (order_workflow, batch_import, purchase_approval, transfer)}
    for module in MODULES:
        for orchestrator in module.ORCHESTRATORS:
            worker.add_orchestrator(changed.get(orchestrator.__name__, orchestrator))
        for activity in module.ACTIVITIES:
            worker.add_activity(activity)
        for entity in module.ENTITIES:
            worker.add_entity(entity)
    for activity in (refund_payment, announce, page_manager):
        worker.add_activity(activity)
