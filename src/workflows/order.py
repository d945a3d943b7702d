"""An order: reserve, charge, ship, confirm. The pattern: function chaining, with compensation (a saga).

Choose it when a piece of work is a fixed sequence of steps in different systems, each step needs what the
one before it gave, and no transaction spans them all. When a step fails for good, whatever was done before
it is undone, the latest first, so that the customer is never left with half an order.

Some inputs fail on purpose, so that each path can be walked without faking anything: an `item` of ``"out-
of-stock"``, a `card` of ``"declined"`` or ``"irrefundable"``, an `address` of ``"undeliverable"``, an
`email` of ``"bounces"``.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, Task, TaskFailedError

logger = logging.getLogger(__name__)

# A payment gateway is another company's system, and now and then it is not there. The SDK cannot tell a
# passing failure from a lasting one, so a declined card is asked three times, too.
PAYMENT_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=500), max_number_of_attempts=3, backoff_coefficient=2.0
)
UNDO_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=4, backoff_coefficient=2.0
)


@dataclass(frozen=True)
class Order:
    """What a customer asks for. Money is in cents."""

    item: str
    quantity: int
    unit_price: int
    card: str = "4242"
    address: str = "1 Harbour Street"
    email: str = "customer"


@dataclass(frozen=True)
class Payment:
    """What to take from a card."""

    card: str
    amount: int


@dataclass(frozen=True)
class Shipment:
    """What to send, and where."""

    item: str
    quantity: int
    address: str


@dataclass(frozen=True)
class Confirmation:
    """What the customer is told at the end."""

    email: str
    tracking_number: str


@dataclass(frozen=True)
class OrderResult:
    """How an order ended.

    Attributes
    ----------
    status : str
        ``"completed"`` or ``"cancelled"``.
    reason : str | None
        Why it was cancelled.
    compensated : list[str]
        The compensations that were done, in the order in which they were done.
    needs_attention : list[str]
        The compensations that failed for good: a person has to do these.
    """

    status: str
    tracking_number: str | None = None
    reason: str | None = None
    compensated: list[str] = field(default_factory=list)
    needs_attention: list[str] = field(default_factory=list)


class StepFailed(Exception):
    """A step of an order cannot be done."""


Undo = tuple[Callable[[ActivityContext, str], None], str]
"""A compensation and its input."""


def order_workflow(ctx: OrchestrationContext, order: Order) -> Generator[Task[Any], Any, OrderResult]:
    """Fulfil an order, or leave nothing behind."""
    if order.quantity < 1:
        raise ValueError(f"an order is for at least one piece, not for {order.quantity}")
    log = ctx.create_replay_safe_logger(logger)
    done: list[Undo] = []
    try:
        ctx.set_custom_status("reserving")
        reservation = yield ctx.call_activity(reserve, input=order)
        done.append((release, reservation))

        ctx.set_custom_status("charging")
        payment = Payment(order.card, order.quantity * order.unit_price)
        payment_id = yield ctx.call_activity(charge, input=payment, retry_policy=PAYMENT_RETRY)
        done.append((refund, payment_id))

        ctx.set_custom_status("shipping")
        shipment = Shipment(order.item, order.quantity, order.address)
        tracking_number = yield ctx.call_activity(ship, input=shipment)
        done.append((cancel_shipment, tracking_number))

        ctx.set_custom_status("confirming")
        yield ctx.call_activity(confirm, input=Confirmation(order.email, tracking_number))
    except TaskFailedError as failure:
        log.info("order %s is cancelled: %s", ctx.instance_id, failure.details.message)
        compensated, needs_attention = yield from compensate(ctx, done)
        ctx.set_custom_status("cancelled")
        return OrderResult(
            "cancelled",
            reason=failure.details.message,
            compensated=compensated,
            needs_attention=needs_attention,
        )
    ctx.set_custom_status("completed")
    return OrderResult("completed", tracking_number=tracking_number)


def compensate(
    ctx: OrchestrationContext, done: list[Undo]
) -> Generator[Task[Any], Any, tuple[list[str], list[str]]]:
    """Undo what was done, the latest first. One that cannot be undone does not keep the others from it."""
    compensated: list[str] = []
    needs_attention: list[str] = []
    for undo, argument in reversed(done):
        ctx.set_custom_status(f"compensating: {undo.__name__}")
        try:
            yield ctx.call_activity(undo, input=argument, retry_policy=UNDO_RETRY)
        except TaskFailedError:
            needs_attention.append(undo.__name__)
        else:
            compensated.append(undo.__name__)
    return compensated, needs_attention


def reserve(ctx: ActivityContext, order: Order) -> str:
    """Set the pieces aside; returns the reservation."""
    if order.item == "out-of-stock":
        raise StepFailed(f"{order.quantity} of {order.item} are not in stock")
    return f"RES-{ctx.orchestration_id}"


def charge(ctx: ActivityContext, payment: Payment) -> str:
    """Take the money; returns the payment."""
    if payment.card == "declined":
        raise StepFailed("the card was declined")
    return f"PAY-{ctx.orchestration_id}-{payment.card}"


def ship(ctx: ActivityContext, shipment: Shipment) -> str:
    """Hand the pieces to the carrier; returns the tracking number."""
    if shipment.address == "undeliverable":
        raise StepFailed("no carrier delivers to this address")
    return f"TRACK-{ctx.orchestration_id}"


def confirm(ctx: ActivityContext, confirmation: Confirmation) -> None:
    """Tell the customer where the parcel is."""
    if confirmation.email == "bounces":
        raise StepFailed("the customer cannot be reached")


def cancel_shipment(ctx: ActivityContext, tracking_number: str) -> None:
    """Call the parcel back."""


def refund(ctx: ActivityContext, payment_id: str) -> None:
    """Give the money back."""
    if payment_id.endswith("-irrefundable"):
        raise StepFailed("the card takes no refunds")


def release(ctx: ActivityContext, reservation: str) -> None:
    """Put the pieces back in stock."""


ORCHESTRATORS = (order_workflow,)
ACTIVITIES = (reserve, charge, ship, confirm, cancel_shipment, refund, release)
