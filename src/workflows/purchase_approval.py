"""A purchase that a person approves or rejects. The pattern: human interaction, with reminders and a limit.

Choose it when a workflow has to wait for someone: for minutes or for weeks, through restarts and
deployments, at no cost while it waits. An external event races against timers: the approver is asked, is
reminded a few times, then the manager is asked in their place; when nobody answers in the end, the purchase
times out. An event that is no proper answer decides nothing: the wait goes on as if it had not come.

The intervals are part of the input, in seconds: days in production, fractions of a second in a
demonstration.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import logging
from collections.abc import Generator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from durabletask.task import (
    ActivityContext,
    OrchestrationContext,
    RetryPolicy,
    Task,
    when_all,
    when_any,
)

from workflows.services import services

logger = logging.getLogger(__name__)

DAY = 24 * 60 * 60.0
APPROVAL_EVENT = "approval"
TELL_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=5, backoff_coefficient=4.0
)


@dataclass(frozen=True)
class Purchase:
    """What someone wants to buy, and who decides. Money is in cents.

    Attributes
    ----------
    auto_approve_limit : int
        Up to this amount nobody is asked.
    reminders : int
        How often the approver is reminded, each time after `remind_after` seconds without an answer.
    escalate_after : float
        How many seconds after the last reminder the manager is asked.
    give_up_after : float
        How many seconds the manager has.
    """

    item: str
    amount: int
    requester: str
    approver: str = "approver"
    manager: str = "manager"
    auto_approve_limit: int = 100_00
    reminders: int = 2
    remind_after: float = 1 * DAY
    escalate_after: float = 1 * DAY
    give_up_after: float = 3 * DAY


@dataclass(frozen=True)
class Approval:
    """The answer: the payload of the event ``"approval"``."""

    approved: bool
    by: str
    comment: str = ""


@dataclass(frozen=True)
class ApprovalRequest:
    """A message to someone who can decide, and the key of sending it."""

    key: str
    to: str
    item: str
    amount: int
    requester: str


@dataclass(frozen=True)
class Decision:
    """How a purchase ended.

    Attributes
    ----------
    status : str
        ``"auto-approved"``, ``"approved"``, ``"rejected"`` or ``"timed out"``.
    by : str | None
        Who decided, where a person did.
    """

    status: str
    item: str
    requester: str
    by: str | None = None
    comment: str = ""


@dataclass(frozen=True)
class Outcome:
    """A decision to tell of, and the key of doing so."""

    key: str
    decision: Decision


def purchase_approval(ctx: OrchestrationContext, purchase: Purchase) -> Generator[Task[Any], Any, Decision]:
    """Get a decision on a purchase, from a person where it takes one."""
    key = ctx.new_uuid()
    if purchase.amount <= purchase.auto_approve_limit:
        decision = Decision("auto-approved", purchase.item, purchase.requester)
    else:
        approval = yield from ask(ctx, purchase, key)
        decision = decide(purchase, approval)
    ctx.create_replay_safe_logger(logger).info("purchase %s is %s", ctx.instance_id, decision.status)
    ctx.set_custom_status({"decision": decision.status})
    yield when_all(
        [
            ctx.call_activity(activity, input=Outcome(f"{key}/{step}", decision), retry_policy=TELL_RETRY)
            for activity, step in ((record_decision, "record"), (notify_requester, "notify"))
        ]
    )
    return decision


def ask(
    ctx: OrchestrationContext, purchase: Purchase, key: str
) -> Generator[Task[Any], Any, Approval | None]:
    """Ask the approver, remind them, ask the manager; None if nobody answers."""
    question = request(purchase, f"{key}/ask", purchase.approver)
    yield ctx.call_activity(request_approval, input=question, retry_policy=TELL_RETRY)

    for reminders_sent in range(purchase.reminders):
        ctx.set_custom_status({"waiting_for": purchase.approver, "reminders_sent": reminders_sent})
        if approval := (yield from answer_within(ctx, purchase.remind_after)):
            return approval
        reminder = request(purchase, f"{key}/remind/{reminders_sent + 1}", purchase.approver)
        yield ctx.call_activity(send_reminder, input=reminder, retry_policy=TELL_RETRY)

    ctx.set_custom_status({"waiting_for": purchase.approver, "reminders_sent": purchase.reminders})
    if approval := (yield from answer_within(ctx, purchase.escalate_after)):
        return approval

    question = request(purchase, f"{key}/escalate", purchase.manager)
    yield ctx.call_activity(escalate, input=question, retry_policy=TELL_RETRY)
    ctx.set_custom_status({"waiting_for": purchase.manager, "reminders_sent": purchase.reminders})
    return (yield from answer_within(ctx, purchase.give_up_after))


def request(purchase: Purchase, key: str, to: str) -> ApprovalRequest:
    """The message to someone who can decide on a purchase."""
    return ApprovalRequest(key, to, purchase.item, purchase.amount, purchase.requester)


def answer_within(ctx: OrchestrationContext, seconds: float) -> Generator[Task[Any], Any, Approval | None]:
    """Wait for an answer, but only so long. One that comes when nobody waits is kept for the next wait."""
    timer = ctx.create_timer(timedelta(seconds=seconds))
    while True:
        answer = ctx.wait_for_external_event(APPROVAL_EVENT)
        contenders: list[Task[Any]] = [answer, timer]
        if (yield when_any(contenders)) is timer:
            answer.cancel()
            return None
        if approval := read(answer.get_result()):
            timer.cancel()
            return approval
        log = ctx.create_replay_safe_logger(logger)
        log.warning("purchase %s: an event %r is no approval", ctx.instance_id, APPROVAL_EVENT)


def read(data: Any) -> Approval | None:
    """The answer in the data of an event, if it is one.

    Given the type, the SDK would make an answer of almost anything: ``bool("false")`` is true.
    """
    match data:
        case {"approved": bool(approved), "by": str(by)}:
            return Approval(approved, by, str(data.get("comment", "")))
    return None


def decide(purchase: Purchase, approval: Approval | None) -> Decision:
    """Put the answer, or the lack of one, into words."""
    if approval is None:
        return Decision("timed out", purchase.item, purchase.requester)
    status = "approved" if approval.approved else "rejected"
    return Decision(status, purchase.item, purchase.requester, approval.by, approval.comment)


def request_approval(ctx: ActivityContext, request: ApprovalRequest) -> None:
    """Ask someone to decide."""
    write(request, "Please decide on")


def send_reminder(ctx: ActivityContext, request: ApprovalRequest) -> None:
    """Ask again."""
    write(request, "Please do not forget to decide on")


def escalate(ctx: ActivityContext, request: ApprovalRequest) -> None:
    """Ask the manager, telling them that the approver did not answer."""
    write(request, "The approver did not answer: please decide on")


def write(request: ApprovalRequest, plea: str) -> None:
    """Put a request into the outbox."""
    text = f"{plea} {request.item} for {request.amount / 100:.2f}, which {request.requester} wants to buy."
    services().store.notify(request.key, request.to, text)


def record_decision(ctx: ActivityContext, outcome: Outcome) -> None:
    """Publish the decision among the documents."""
    services().store.publish(outcome.key, f"decision/{ctx.orchestration_id}", asdict(outcome.decision))


def notify_requester(ctx: ActivityContext, outcome: Outcome) -> None:
    """Tell the requester what became of it."""
    decision = outcome.decision
    services().store.notify(outcome.key, decision.requester, f"Your {decision.item}: {decision.status}.")


ORCHESTRATORS = (purchase_approval,)
ACTIVITIES = (request_approval, send_reminder, escalate, record_decision, notify_requester)
ENTITIES = ()
