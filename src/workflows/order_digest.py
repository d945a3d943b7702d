"""A digest of orders, one a day, for ever. The pattern: an eternal orchestration.

Choose it when something has to go on for ever and remembers little from one round to the next. A period is
one generation: it collects the events ``"entry"``, publishes them at its end and continues as new, so its
history is never longer than one period makes it. The event ``"close"`` publishes what there is and ends it.

No event is lost on the way. At the end of a period it stops listening; what comes from then on is buffered,
and ``save_events=True`` carries it into the next generation.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from durabletask.task import ActivityContext, OrchestrationContext, RetryPolicy, Task, when_any

from workflows.services import services

logger = logging.getLogger(__name__)

DAY = 24 * 60 * 60.0
ENTRY_EVENT = "entry"
CLOSE_EVENT = "close"

# A digest that cannot be published ends everything that comes after it, so much is done before giving up.
PUBLISH_RETRY = RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=12, backoff_coefficient=3.0
)


@dataclass(frozen=True)
class DigestState:
    """How often to publish, in seconds; the rest is what a generation hands to the next.

    Attributes
    ----------
    number : int
        Of the next digest. It makes the keys: the ids of tasks start again in each generation.
    key : str | None
        What the keys start with; None to start.
    ends_at : str | None
        When the period ends, UTC in ISO format; None to start. Periods follow one another without drifting.
    """

    period: float = 1 * DAY
    number: int = 1
    key: str | None = None
    ends_at: str | None = None


@dataclass(frozen=True)
class Entry:
    """An order to tell of: the payload of the event ``"entry"``. Money is in cents."""

    order: str
    amount: int


@dataclass(frozen=True)
class Digest:
    """What to publish, and the key of doing so."""

    key: str
    number: int
    entries: list[Entry] = field(default_factory=list)


def order_digest(ctx: OrchestrationContext, state: DigestState) -> Generator[Task[Any], Any, int | None]:
    """Collect entries for a period, publish them, go on; returns how many digests there were."""
    if state.period <= 0:
        raise ValueError(f"the period of a digest is not {state.period:g} seconds long")
    log = ctx.create_replay_safe_logger(logger)
    key = state.key or ctx.new_uuid()
    period = timedelta(seconds=state.period)
    ends_at = datetime.fromisoformat(state.ends_at) if state.ends_at else ctx.current_utc_datetime + period

    entries: list[Entry] = []
    entry = ctx.wait_for_external_event(ENTRY_EVENT)
    close = ctx.wait_for_external_event(CLOSE_EVENT)
    end = ctx.create_timer(ends_at)
    status(ctx, state.number, entries)
    while True:
        events: list[Task[Any]] = [entry, close, end]
        if (yield when_any(events)) is not entry:
            break
        if received := read(entry.get_result()):
            entries.append(received)
        else:  # someone's mistake, which must not end what others rely on
            log.warning("digest %s: an event %r is no entry", ctx.instance_id, ENTRY_EVENT)
        status(ctx, state.number, entries)
        entry = ctx.wait_for_external_event(ENTRY_EVENT)

    closed = close.is_complete
    for task in (entry, close, end):  # nobody listens from here on: what comes now is for the next generation
        task.cancel()
    published = state.number - 1
    if entries:
        published += 1
        digest = Digest(f"{key}/digest/{published}", published, entries)
        yield ctx.call_activity(publish_digest, input=digest, retry_policy=PUBLISH_RETRY)
    if closed:
        log.info("digest %s is closed after %d", ctx.instance_id, published)
        return published

    ends_at += ((ctx.current_utc_datetime - ends_at) // period + 1) * period  # periods slept through are over
    following = replace(state, number=published + 1, key=key, ends_at=ends_at.isoformat())
    ctx.continue_as_new(following, save_events=True)
    return None


def status(ctx: OrchestrationContext, number: int, entries: list[Entry]) -> None:
    """Say which digest is being collected, and how much there is for it."""
    ctx.set_custom_status({"digest": number, "entries": len(entries)})


def read(data: Any) -> Entry | None:
    """The entry in the data of an event, if it is one.

    Given the type, the SDK would make an entry of almost anything: ``int(9.99)`` is 9.
    """
    match data:
        case {"order": str(order), "amount": amount} if type(amount) is int:
            return Entry(order, amount)
    return None


def publish_digest(ctx: ActivityContext, digest: Digest) -> None:
    """Publish a digest among the documents."""
    body = {
        "orders": [asdict(entry) for entry in digest.entries],
        "total": sum(entry.amount for entry in digest.entries),
    }
    services().store.publish(digest.key, f"digest/{ctx.orchestration_id}/{digest.number}", body)


ORCHESTRATORS = (order_digest,)
ACTIVITIES = (publish_digest,)
ENTITIES = ()
