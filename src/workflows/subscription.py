"""A subscription that is renewed for years, while the code changes. The pattern: version-aware orchestration.

Choose it when instances live longer than a release. Each carries the version it was started with, and code
that would do something else than before asks for `ctx.version`: an instance goes on as it began, whatever
was deployed meanwhile. A new name for the orchestrator does the same for larger changes.

Version 1 charged a renewal when it was due. Version 2 tells the subscriber of it some days before. Instances
of both are in flight; one without a version was started before there were any, and counts as version 1.

- A branch of an old version must stay as it is, to the letter, for as long as one of its instances may be
  in the middle of it: a worker replays it.
- ``continue_as_new`` is where an instance starts with an empty history, and so the place to move on to the
  current version. Every period does that, and after one period nothing runs the branch of version 1 any more:
  it can be deleted then.
- The input is older than the code, too. `Subscription.from_json` reads what the first release wrote.
- `versioning` tells the worker to leave alone what a newer release started.

Each charge has a key with the number of its period, which goes from run to run in the input. A card that is
refused ends the subscription, as does a gateway that stays away for hours; a charge that failed may have been
made all the same, so it is undone by its key. The subscriber cancels with the event ``"cancel"``; the period
that is being charged when it comes is the last.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
import re
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from durabletask.task import (
    ActivityContext,
    CancellableTask,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_any,
)

from workflows.services import services

if TYPE_CHECKING:
    from durabletask.worker import VersioningOptions

logger = logging.getLogger(__name__)

RELEASE = "2.0"
"""The version of this release; who starts an instance gives it as its ``version``."""

DAY = 24 * 60 * 60.0
YEAR = 365 * DAY
CANCEL_EVENT = "cancel"

# What fails for good ends what was to go on for years, so everything is tried for more than three hours.
RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=500),
    max_number_of_attempts=12,
    backoff_coefficient=3.0,
    max_retry_interval=timedelta(hours=1),
)


def versioning() -> "VersioningOptions":
    """What this release's worker does with versions.

    It takes instances of its version, of older ones and of none. Newer ones it hands back, for a worker of
    the newer release to take: during a deployment both are there. Without such a worker the task hub offers
    them again and again, and they do not even hear that they are terminated. Sub-orchestrations start with
    the version of the release, so that an older worker does not take the children of a newer one.
    """
    # Imported here: it brings gRPC along.
    from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

    return VersioningOptions(
        version=RELEASE,
        default_version=RELEASE,
        match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER,
        failure_strategy=VersionFailureStrategy.REJECT,
    )


@dataclass(frozen=True)
class Subscription:
    """Who subscribes, and at what price, in cents.

    Attributes
    ----------
    interval : float
        How many seconds a period lasts.
    announce_before : float
        How many seconds before it is charged a renewal is announced.
    period : int
        The period that is charged next, from 1.
    due : datetime | None
        When it is charged, in UTC; None for now.
    key : str | None
        What the keys of all charges begin with; the first run chooses it.
    """

    customer: str
    card: str
    price: int
    interval: float = YEAR
    announce_before: float = 7 * DAY
    period: int = 1
    due: datetime | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        for name in ("price", "interval", "period"):
            if getattr(self, name) <= 0:
                raise ValueError(f"the {name} of a subscription is more than 0, not {getattr(self, name)}")
        if not 0 <= self.announce_before < self.interval:
            raise ValueError(
                f"a renewal is announced within the period before it, of {self.interval:g} seconds, "
                f"and not {self.announce_before:g} seconds before it"
            )

    def to_json(self) -> dict[str, Any]:
        """Today's layout."""
        due = None if self.due is None else self.due.isoformat()
        return {"layout": 2, **asdict(self), "due": due}

    @classmethod
    def from_json(cls, value: Any) -> "Subscription":
        """Read today's layout, or that of the first release.

        The first release had no ``"layout"``, a price such as ``"9.90"`` and an interval in days.

        Raises
        ------
        ValueError
            If it is neither.
        """
        if not isinstance(value, dict):
            raise ValueError(
                f"a subscription is an object with a customer, a card and a price, not {value!r}"
            )
        fields: dict[str, Any] = dict(value)
        price = fields.get("price")
        layout = fields.pop("layout", 1 if isinstance(price, str) else 2)
        if layout == 1 and isinstance(price, str) and (parts := re.fullmatch(r"(\d+)\.(\d\d)", price)):
            fields["price"] = 100 * int(parts[1]) + int(parts[2])
            fields["interval"] = fields.pop("days", 365) * DAY
            fields["announce_before"] = min(cls.announce_before, fields["interval"] / 2)
        elif layout != 2 or type(price) is not int:
            raise ValueError(
                f"release {RELEASE} reads the layouts 1 and 2 of a subscription, not this: {value}"
            )
        if isinstance(fields.get("due"), str):
            fields["due"] = datetime.fromisoformat(fields["due"])
        try:
            return cls(**fields)
        except TypeError as error:  # a field is missing, is unknown, or is of another type
            raise ValueError(f"this is no subscription of layout {layout} ({error}): {value}") from None


@dataclass(frozen=True)
class PeriodCharge:
    """What to take from a card for a period, and the key of doing so."""

    key: str
    card: str
    amount: int


@dataclass(frozen=True)
class Charged:
    """What came of a charge: the id of the payment, or why the gateway refused it.

    The first release returned the id alone; the SDK makes one of these of it, as the id is the first field.
    """

    payment_id: str | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Letter:
    """What to tell a subscriber, and the key of doing so."""

    key: str
    to: str
    text: str


@dataclass(frozen=True)
class SubscriptionEnd:
    """How a subscription ended.

    Attributes
    ----------
    status : str
        ``"cancelled"``, or ``"lapsed"`` where a period could not be charged.
    periods : int
        How many periods were paid for.
    """

    status: str
    periods: int
    reason: str | None = None


def subscription(
    ctx: OrchestrationContext, wanted: Subscription
) -> Generator[Task[Any], Any, SubscriptionEnd | None]:
    """Charge one period when it is due, and continue with the next."""
    if not isinstance(wanted, Subscription):
        # The SDK hands on, as it came, what it cannot read; read again, it says why.
        wanted = Subscription.from_json(wanted)
    key = wanted.key or ctx.new_uuid()
    due = wanted.due or ctx.current_utc_datetime
    ctx.set_custom_status({"period": wanted.period, "due": due.isoformat()})
    cancelled = ctx.wait_for_external_event(CANCEL_EVENT)

    if announces_renewals(ctx.version) and wanted.period > 1:
        announced = due - timedelta(seconds=wanted.announce_before)
        if (yield from cancelled_before(ctx, cancelled, announced)):
            return (yield from cancel(ctx, wanted, key))
        text = f"Your subscription renews on {due:%Y-%m-%d}, for {wanted.price / 100:.2f}."
        letter = Letter(f"{key}/announce/{wanted.period}", wanted.customer, text)
        yield ctx.call_activity(write_to_subscriber, input=letter, retry_policy=RETRY)
    if (yield from cancelled_before(ctx, cancelled, due)):
        return (yield from cancel(ctx, wanted, key))

    charge = PeriodCharge(f"{key}/charge/{wanted.period}", wanted.card, wanted.price)
    try:
        charged = yield ctx.call_activity(charge_period, input=charge, retry_policy=RETRY)
    except TaskFailedError as failure:
        why = "the payment could not be made"  # the message is for those who run this, not for the subscriber
        return (yield from lapse(ctx, wanted, key, charge, failure.details.message, why))
    if charged.refusal is not None:
        return (yield from lapse(ctx, wanted, key, charge, charged.refusal, charged.refusal))
    following = replace(
        wanted, period=wanted.period + 1, due=due + timedelta(seconds=wanted.interval), key=key
    )
    if cancelled.is_complete:  # while it was being charged: the next run would not hear of it
        return (yield from cancel(ctx, following, key))
    ctx.continue_as_new(following, save_events=True, new_version=RELEASE)
    return None


def announces_renewals(version: str | None) -> bool:
    """Whether instances of a version announce renewals: version 2 was the first."""
    return int((version or "1").partition(".")[0]) >= 2


def cancelled_before(
    ctx: OrchestrationContext, cancelled: CancellableTask[Any], moment: datetime
) -> Generator[Task[Any], Any, bool]:
    """Wait until a moment or a cancellation; a moment that has passed is over at once."""
    timer = ctx.create_timer(moment)
    contenders: list[Task[Any]] = [cancelled, timer]
    yield when_any(contenders)
    if cancelled.is_complete:
        timer.cancel()
    return cancelled.is_complete


def cancel(
    ctx: OrchestrationContext, wanted: Subscription, key: str
) -> Generator[Task[Any], Any, SubscriptionEnd]:
    """End as the subscriber wishes; `wanted.period` is the one that is not paid for."""
    result = SubscriptionEnd("cancelled", wanted.period - 1)
    return (yield from end(ctx, wanted, key, result, "Your subscription is cancelled."))


def lapse(
    ctx: OrchestrationContext,
    wanted: Subscription,
    key: str,
    charge: PeriodCharge,
    reason: str,
    why: str,
) -> Generator[Task[Any], Any, SubscriptionEnd]:
    """Undo the charge, of which nobody knows whether it was made, and end; the subscriber is told `why`."""
    try:
        yield ctx.call_activity(undo_charge, input=charge.key, retry_policy=RETRY)
    except TaskFailedError:
        reason += f"; a person has to find out whether {charge.key} was charged, and give it back"
    result = SubscriptionEnd("lapsed", wanted.period - 1, reason)
    return (yield from end(ctx, wanted, key, result, f"Your subscription is lapsed: {why}."))


def end(
    ctx: OrchestrationContext, wanted: Subscription, key: str, result: SubscriptionEnd, text: str
) -> Generator[Task[Any], Any, SubscriptionEnd]:
    """Tell the subscriber that it is over."""
    letter = Letter(f"{key}/end", wanted.customer, text)
    yield ctx.call_activity(write_to_subscriber, input=letter, retry_policy=RETRY)
    ctx.create_replay_safe_logger(logger).info("subscription %s is %s", ctx.instance_id, result.status)
    ctx.set_custom_status({"status": result.status})
    return result


def charge_period(ctx: ActivityContext, charge: PeriodCharge) -> Charged:
    """Take the money for a period. A refusal is an answer, not a failure: asking again would not help."""
    from workflows.gateway import Refused  # imported here: it brings httpx along

    try:
        payment_id = services().gateway.charge(charge.key, charge.card, charge.amount)
    except Refused as refusal:
        return Charged(refusal=str(refusal))
    services().store.book(charge.key, payment_id, charge.amount)
    return Charged(payment_id)


def undo_charge(ctx: ActivityContext, key: str) -> None:
    """Give back what was taken with a key, or see to it that it does not come later."""
    services().gateway.refund(key)
    services().store.reverse(key)


def write_to_subscriber(ctx: ActivityContext, letter: Letter) -> None:
    """Put a letter into the outbox."""
    services().store.notify(letter.key, letter.to, letter.text)


ORCHESTRATORS = (subscription,)
ACTIVITIES = (charge_period, undo_charge, write_to_subscriber)
ENTITIES = ()
