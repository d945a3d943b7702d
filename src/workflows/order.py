"""An order: reserve, charge, ship, confirm. The pattern: function chaining, with compensation (a saga).

Choose it when a piece of work is a fixed sequence of steps in different systems, each step needs what the
one before it gave, and no transaction spans them all. When a step fails for good, whatever was done before
it is undone, the latest first, so that the customer is never left with half an order.

Every step has a key, made here and kept in the history, so that a step that is delivered twice is done once:
see `workflows.store`.

Some inputs fail on purpose, so that each path can be walked without faking anything: an `item` of ``"out-
of-stock"``, an `address` of ``"undeliverable"``, an `email` of ``"bounces"``, and the cards of
`workflows.local_gateway`.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, Task, TaskFailedError

from workflows.services import services

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
class Reservation:
    """What to set aside, and the key of doing so."""

    key: str
    item: str
    quantity: int


@dataclass(frozen=True)
class Payment:
    """What to take from a card, and the key of doing so."""

    key: str
    card: str
    amount: int


@dataclass(frozen=True)
class Parcel:
    """What to send, where, and the key of doing so."""

    key: str
    item: str
    quantity: int
    address: str


@dataclass(frozen=True)
class Confirmation:
    """What the customer is told at the end, about which reservation, and the key of doing so."""

    key: str
    reservation: str
    email: str
    tracking_number: str


@dataclass(frozen=True)
class Undo:
    """What to undo, a reservation, a payment or a shipment, and the key of doing so."""

    key: str
    what: str


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


Step = tuple[Callable[[ActivityContext, Undo], None], str]
"""A compensation, and what it is to undo."""


def order_workflow(ctx: OrchestrationContext, order: Order) -> Generator[Task[Any], Any, OrderResult]:
    """Fulfil an order, or leave nothing behind."""
    if order.quantity < 1:
        raise ValueError(f"an order is for at least one piece, not for {order.quantity}")
    log = ctx.create_replay_safe_logger(logger)
    key = ctx.new_uuid()  # the same on every replay, another for every run
    done: list[Step] = []
    try:
        ctx.set_custom_status("reserving")
        wanted = Reservation(f"{key}/reserve", order.item, order.quantity)
        reservation = yield ctx.call_activity(reserve, input=wanted)
        done.append((release, reservation))

        ctx.set_custom_status("charging")
        payment = Payment(f"{key}/charge", order.card, order.quantity * order.unit_price)
        payment_id = yield ctx.call_activity(charge, input=payment, retry_policy=PAYMENT_RETRY)
        done.append((refund, payment_id))

        ctx.set_custom_status("shipping")
        parcel = Parcel(f"{key}/ship", order.item, order.quantity, order.address)
        tracking_number = yield ctx.call_activity(ship, input=parcel)
        done.append((cancel_shipment, tracking_number))

        ctx.set_custom_status("confirming")
        confirmation = Confirmation(f"{key}/confirm", reservation, order.email, tracking_number)
        yield ctx.call_activity(confirm, input=confirmation)
    except TaskFailedError as failure:
        log.info("order %s is cancelled: %s", ctx.instance_id, failure.details.message)
        compensated, needs_attention = yield from compensate(ctx, key, done)
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
    ctx: OrchestrationContext, key: str, done: list[Step]
) -> Generator[Task[Any], Any, tuple[list[str], list[str]]]:
    """Undo what was done, the latest first. One that cannot be undone does not keep the others from it."""
    compensated: list[str] = []
    needs_attention: list[str] = []
    for undo, what in reversed(done):
        name = undo.__name__
        ctx.set_custom_status(f"compensating: {name}")
        try:
            yield ctx.call_activity(undo, input=Undo(f"{key}/{name}", what), retry_policy=UNDO_RETRY)
        except TaskFailedError:
            needs_attention.append(name)
        else:
            compensated.append(name)
    return compensated, needs_attention


def reserve(ctx: ActivityContext, wanted: Reservation) -> str:
    """Set the pieces aside; returns the reservation."""
    if wanted.item == "out-of-stock":
        raise StepFailed(f"{wanted.quantity} of {wanted.item} are not in stock")
    return services().store.reserve(wanted.key, f"RES-{ctx.orchestration_id}", wanted.item, wanted.quantity)


def charge(ctx: ActivityContext, payment: Payment) -> str:
    """Take the money; returns the payment."""
    payment_id = services().gateway.charge(payment.key, payment.card, payment.amount)
    services().store.book(payment.key, payment_id, payment.amount)
    return payment_id


def ship(ctx: ActivityContext, parcel: Parcel) -> str:
    """Hand the pieces to the carrier; returns the tracking number."""
    if parcel.address == "undeliverable":
        raise StepFailed("no carrier delivers to this address")
    return services().store.ship(
        parcel.key, f"TRACK-{ctx.orchestration_id}", parcel.item, parcel.quantity, parcel.address
    )


def confirm(ctx: ActivityContext, confirmation: Confirmation) -> None:
    """Tell the customer where the parcel is."""
    if confirmation.email == "bounces":
        raise StepFailed("the customer cannot be reached")
    services().store.confirm(
        confirmation.key,
        confirmation.reservation,
        confirmation.email,
        f"Your order is on its way: {confirmation.tracking_number}.",
    )


def cancel_shipment(ctx: ActivityContext, undo: Undo) -> None:
    """Call the parcel back."""
    services().store.call_back(undo.key, undo.what)


def refund(ctx: ActivityContext, undo: Undo) -> None:
    """Give the money back."""
    amount = services().gateway.refund(undo.key, undo.what)
    services().store.book(undo.key, undo.what, -amount)


def release(ctx: ActivityContext, undo: Undo) -> None:
    """Put the pieces back in stock."""
    services().store.release(undo.key, undo.what)


ORCHESTRATORS = (order_workflow,)
ACTIVITIES = (reserve, charge, ship, confirm, cancel_shipment, refund, release)
ENTITIES = ()
