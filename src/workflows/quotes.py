"""A purchase that suppliers compete for. The pattern: orchestrations that send events to one another.

Choose it when the parties of a process live lives of their own: each is an orchestration, and
`ctx.send_event` carries a message to the one whose id is known. Where one party only waits for the others to
end, what they return is the message: see `workflows.sales_report`.

The buyer starts its suppliers without waiting for them to end, under ids it makes, asks each for a quote,
takes the best of those that came before the deadline and tells everybody. Nobody relies on an answer:

- each wait has a limit, so a party that never hears of another ends all the same;
- an event for an orchestration that has ended, or that does not exist, is dropped, and the sender does not
  hear of it. So a late quote does nothing, and a supplier that gave up early misses nothing;
- anybody can send an event: one that is not what it should be is left out, and the wait goes on;
- an event that comes before anybody waits for it is kept: a supplier that still thinks when the purchase is
  decided finds the verdict when it is done;
- a start and an event that are asked for in one turn arrive in that order: the supplier is there to be asked.

Of equal quotes the one of the supplier that comes first in the alphabet is taken, whichever came first.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, Task, when_any

from workflows.services import services

logger = logging.getLogger(__name__)

T = TypeVar("T")

HOUR = 60 * 60.0
REQUEST_EVENT, QUOTE_EVENT, VERDICT_EVENT = "request", "quote", "verdict"
TELL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class Supplier:
    """Someone who can be asked.

    Attributes
    ----------
    unit_price : int | None
        What one piece costs, in cents; None if they never answer.
    thinks_for : float
        How many seconds they take to answer.
    """

    name: str
    unit_price: int | None
    thinks_for: float = 0.0


@dataclass(frozen=True)
class Tender:
    """What is wanted, from whom, and how many seconds they have to make an offer."""

    item: str
    quantity: int
    suppliers: list[Supplier]
    deadline: float = 24 * HOUR


@dataclass(frozen=True)
class SupplierTask:
    """The input of a supplier; `patience` is how many seconds it waits for whoever should write to it."""

    supplier: Supplier
    patience: float


@dataclass(frozen=True)
class QuoteRequest:
    """The payload of ``"request"``: what is wanted, and the id of the orchestration to send a quote to."""

    buyer: str
    item: str
    quantity: int


@dataclass(frozen=True)
class Quote:
    """The payload of ``"quote"``: what a supplier asks for all of it, in cents."""

    supplier: str
    price: int


@dataclass(frozen=True)
class Verdict:
    """The payload of ``"verdict"``: who was chosen, if anybody was."""

    winner: str | None


@dataclass(frozen=True)
class Delivery:
    """What a supplier that was chosen has to deliver, and the key of telling it."""

    key: str
    supplier: str
    item: str
    quantity: int


@dataclass(frozen=True)
class TenderResult:
    """Who was chosen, if anybody offered, and all quotes that came in time, the best first."""

    winner: str | None
    quotes: list[Quote] = field(default_factory=list)


@dataclass(frozen=True)
class Award:
    """A result to publish, and the key of doing so."""

    key: str
    result: TenderResult


def buyer(ctx: OrchestrationContext, tender: Tender) -> Generator[Task[Any], Any, TenderResult]:
    """Ask all suppliers, take the best quote, and tell everybody."""
    names = [supplier.name for supplier in tender.suppliers]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a tender needs suppliers, each with a name of its own, not {names}")
    key = ctx.new_uuid()
    ids = {name: f"{key}:{name}" for name in names}
    request = QuoteRequest(ctx.instance_id, tender.item, tender.quantity)
    for supplier in tender.suppliers:
        task = SupplierTask(supplier, patience=2 * tender.deadline)
        ctx.call_sub_orchestrator(
            supplier_offer,  # type: ignore[arg-type]  # mypy infers nothing from the SDK's overload
            input=task,
            instance_id=ids[supplier.name],
        )
        ctx.send_event(ids[supplier.name], REQUEST_EVENT, data=request)

    quotes = yield from collect(ctx, names, tender.deadline)
    best = sorted(quotes, key=lambda quote: (quote.price, quote.supplier))
    result = TenderResult(best[0].supplier if best else None, best)
    for name in names:
        ctx.send_event(ids[name], VERDICT_EVENT, data=Verdict(result.winner))
    ctx.create_replay_safe_logger(logger).info("tender %s goes to %s", ctx.instance_id, result.winner)
    yield ctx.call_activity(publish_award, input=Award(f"{key}/publish", result), retry_policy=TELL_RETRY)
    return result


def collect(
    ctx: OrchestrationContext, names: list[str], seconds: float
) -> Generator[Task[Any], Any, list[Quote]]:
    """The quotes that come before the deadline: the first of each supplier, until all have made one."""
    quotes: dict[str, Quote] = {}
    deadline = ctx.create_timer(timedelta(seconds=seconds))
    while len(quotes) < len(names):
        ctx.set_custom_status({"quotes": len(quotes), "asked": len(names)})
        offered = ctx.wait_for_external_event(QUOTE_EVENT)
        contenders: list[Task[Any]] = [offered, deadline]
        if (yield when_any(contenders)) is deadline:
            offered.cancel()
            return list(quotes.values())
        quote = read_quote(offered.get_result())
        if quote and quote.supplier in names:
            quotes.setdefault(quote.supplier, quote)
        else:
            left_out(ctx, QUOTE_EVENT)
    deadline.cancel()
    return list(quotes.values())


def supplier_offer(ctx: OrchestrationContext, task: SupplierTask) -> Generator[Task[Any], Any, str]:
    """Wait to be asked, make an offer, and wait for the verdict; returns how it went."""
    key = ctx.new_uuid()
    supplier = task.supplier
    ctx.set_custom_status("waiting to be asked")
    request = yield from received(ctx, REQUEST_EVENT, read_request, task.patience)
    if request is None:
        return "never asked"
    if supplier.unit_price is None:
        return "not interested"
    ctx.set_custom_status("thinking")
    yield ctx.create_timer(timedelta(seconds=supplier.thinks_for))
    quote = Quote(supplier.name, supplier.unit_price * request.quantity)
    ctx.send_event(request.buyer, QUOTE_EVENT, data=quote)
    ctx.set_custom_status("waiting for the verdict")
    verdict = yield from received(ctx, VERDICT_EVENT, read_verdict, task.patience)
    if verdict is None:
        return "never told"
    if verdict.winner != supplier.name:
        return "refused"
    delivery = Delivery(f"{key}/deliver", supplier.name, request.item, request.quantity)
    yield ctx.call_activity(prepare_delivery, input=delivery, retry_policy=TELL_RETRY)
    return "awarded"


def received(
    ctx: OrchestrationContext, name: str, read: Callable[[Any], T | None], seconds: float
) -> Generator[Task[Any], Any, T | None]:
    """The payload of the first proper event, if one comes in time; None otherwise."""
    limit = ctx.create_timer(timedelta(seconds=seconds))
    while True:
        event = ctx.wait_for_external_event(name)
        contenders: list[Task[Any]] = [event, limit]
        if (yield when_any(contenders)) is limit:
            event.cancel()
            return None
        if payload := read(event.get_result()):
            limit.cancel()
            return payload
        left_out(ctx, name)


def left_out(ctx: OrchestrationContext, name: str) -> None:
    """Log that an event was not what it should be."""
    log = ctx.create_replay_safe_logger(logger)
    log.warning("tender %s: an event %r is left out, as its data is unusable", ctx.instance_id, name)


# What is in the data of an event, if it is what it should be. Given the type, the SDK would make it of almost
# anything: ``int(9.99)`` is 9.


def read_request(data: Any) -> QuoteRequest | None:
    """A request that can be answered: the SDK sends nothing to an entity, whose id starts with "@"."""
    match data:
        case {"buyer": str(buyer), "item": str(item), "quantity": quantity} if is_number(quantity):
            if buyer.strip() and not buyer.startswith("@"):
                return QuoteRequest(buyer, item, quantity)
    return None


def read_quote(data: Any) -> Quote | None:
    """A quote with a price."""
    match data:
        case {"supplier": str(supplier), "price": price} if is_number(price):
            return Quote(supplier, price)
    return None


def read_verdict(data: Any) -> Verdict | None:
    """A verdict, with a winner or without."""
    match data:
        case {"winner": str() | None as winner}:
            return Verdict(winner)
    return None


def is_number(value: Any) -> bool:
    """Whether a price or a quantity is a whole number above 0."""
    return type(value) is int and value > 0


def publish_award(ctx: ActivityContext, award: Award) -> None:
    """Publish who was chosen among the documents."""
    services().store.publish(award.key, f"tender/{ctx.orchestration_id}", asdict(award.result))


def prepare_delivery(ctx: ActivityContext, delivery: Delivery) -> None:
    """Tell the people of the supplier what to deliver."""
    text = f"Please deliver {delivery.quantity} of {delivery.item}."
    services().store.notify(delivery.key, delivery.supplier, text)


ORCHESTRATORS = (buyer, supplier_offer)
ACTIVITIES = (publish_award, prepare_delivery)
ENTITIES = ()
