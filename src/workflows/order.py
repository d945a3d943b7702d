"""An order: reserve, charge, ship, confirm. The pattern: function chaining, with compensation (a saga).

Choose it when a piece of work is a fixed sequence of steps in different systems, each step needs what the
one before it gave, and no transaction spans them all. When a step fails for good, whatever was done is
undone, the latest first, so that the customer is never left with half an order.

Every step has a key, made here and kept in the history, so that a step that is delivered twice is done once:
see `workflows.store`. The same key undoes it. A step that failed may have been done all the same, or may yet
be done: so its compensation is noted before it is asked for, and finds out whether there is anything to undo.

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

# Whatever a step asks is now and then not there. The SDK cannot tell a passing failure from a lasting one, so
# what is out of stock is asked for three times, too. The customer waits for the steps, so they are given up
# soon; nobody waits for what is undone, so that is tried for longer than most outages last: almost two hours.
STEP_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=3, backoff_coefficient=2.0
)
PAYMENT_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=500), max_number_of_attempts=3, backoff_coefficient=2.0
)
UNDO_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100),
    max_number_of_attempts=12,
    backoff_coefficient=3.0,
    max_retry_interval=timedelta(hours=1),
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
class OrderResult:
    """How an order ended.

    Attributes
    ----------
    status : str
        ``"completed"`` or ``"cancelled"``.
    reason : str | None
        Why it was cancelled.
    compensated : list[str]
        The compensations that undid something, in the order in which they were done.
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


Compensation = tuple[Callable[[ActivityContext, str], bool], str]
"""An activity that undoes a step, and the key of the step. It returns whether there was anything to undo."""


def order_workflow(ctx: OrchestrationContext, order: Order) -> Generator[Task[Any], Any, OrderResult]:
    """Fulfil an order, or leave nothing behind."""
    if order.quantity < 1:
        raise ValueError(f"an order is for at least one piece, not for {order.quantity}")
    if order.unit_price < 1:
        raise ValueError(f"a piece costs at least one cent, not {order.unit_price}")
    log = ctx.create_replay_safe_logger(logger)
    key = ctx.new_uuid()  # the same on every replay, another for every run
    undo: list[Compensation] = []
    try:
        ctx.set_custom_status("reserving")
        wanted = Reservation(f"{key}/reserve", order.item, order.quantity)
        undo.append((release, wanted.key))
        reservation = yield ctx.call_activity(reserve, input=wanted, retry_policy=STEP_RETRY)

        ctx.set_custom_status("charging")
        payment = Payment(f"{key}/charge", order.card, order.quantity * order.unit_price)
        undo.append((refund, payment.key))
        yield ctx.call_activity(charge, input=payment, retry_policy=PAYMENT_RETRY)

        ctx.set_custom_status("shipping")
        parcel = Parcel(f"{key}/ship", order.item, order.quantity, order.address)
        undo.append((cancel_shipment, parcel.key))
        tracking_number = yield ctx.call_activity(ship, input=parcel, retry_policy=STEP_RETRY)

        ctx.set_custom_status("confirming")
        confirmation = Confirmation(f"{key}/confirm", reservation, order.email, tracking_number)
        undo.append((apologize, confirmation.key))
        yield ctx.call_activity(confirm, input=confirmation, retry_policy=STEP_RETRY)
    except TaskFailedError as failure:
        log.info("order %s is cancelled: %s", ctx.instance_id, failure.details.message)
        compensated, needs_attention = yield from compensate(ctx, undo)
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
    ctx: OrchestrationContext, undo: list[Compensation]
) -> Generator[Task[Any], Any, tuple[list[str], list[str]]]:
    """Undo what was done, the latest first. One that cannot be undone does not keep the others from it."""
    compensated: list[str] = []
    needs_attention: list[str] = []
    for activity, step in reversed(undo):
        name = activity.__name__
        ctx.set_custom_status(f"compensating: {name}")
        try:
            undone = yield ctx.call_activity(activity, input=step, retry_policy=UNDO_RETRY)
        except TaskFailedError:
            needs_attention.append(name)
        else:
            if undone:
                compensated.append(name)
    return compensated, needs_attention


def reserve(ctx: ActivityContext, wanted: Reservation) -> str:
    """Set the pieces aside; returns the reservation."""
    if wanted.item == "out-of-stock":
        raise StepFailed(f"{wanted.quantity} of {wanted.item} are not in stock")
    name = name_of("RES", ctx, wanted.key)
    return services().store.reserve(wanted.key, name, wanted.item, wanted.quantity)


def charge(ctx: ActivityContext, payment: Payment) -> str:
    """Take the money; returns the id of the payment."""
    payment_id = services().gateway.charge(payment.key, payment.card, payment.amount)
    services().store.book(payment.key, payment_id, payment.amount)
    return payment_id


def ship(ctx: ActivityContext, parcel: Parcel) -> str:
    """Hand the pieces to the carrier; returns the tracking number."""
    if parcel.address == "undeliverable":
        raise StepFailed("no carrier delivers to this address")
    number = name_of("TRACK", ctx, parcel.key)
    return services().store.ship(parcel.key, number, parcel.item, parcel.quantity, parcel.address)


def name_of(kind: str, ctx: ActivityContext, key: str) -> str:
    """A name for what a step makes: of the instance, so that people know it, and of the run by its key."""
    return f"{kind}-{ctx.orchestration_id}-{key[:8]}"


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


def apologize(ctx: ActivityContext, step: str) -> bool:
    """Tell a customer to whom the order was confirmed that it is cancelled."""
    return services().store.retract(step, "Your order is cancelled. We are sorry.")


def cancel_shipment(ctx: ActivityContext, step: str) -> bool:
    """Call the parcel back."""
    return services().store.call_back(step)


def refund(ctx: ActivityContext, step: str) -> bool:
    """Give the money back."""
    amount = services().gateway.refund(step)
    services().store.reverse(step)
    return amount > 0


def release(ctx: ActivityContext, step: str) -> bool:
    """Put the pieces back in stock."""
    return services().store.release(step)


ORCHESTRATORS = (order_workflow,)
ACTIVITIES = (reserve, charge, ship, confirm, apologize, cancel_shipment, refund, release)
ENTITIES = ()
