"""A purchase that a person approves or rejects. The pattern: human interaction, with reminders and a limit.

Choose it when a workflow has to wait for someone: for minutes or for weeks, through restarts and
deployments, at no cost while it waits. An external event races against timers: the approver is asked, is
reminded a few times, then the manager is asked in their place; when nobody answers in the end, the purchase
times out.

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
    CancellableTask,
    OrchestrationContext,
    Task,
    when_all,
    when_any,
)

from workflows.services import services

logger = logging.getLogger(__name__)

DAY = 24 * 60 * 60.0
APPROVAL_EVENT = "approval"


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
            ctx.call_activity(record_decision, input=Outcome(f"{key}/record", decision)),
            ctx.call_activity(notify_requester, input=Outcome(f"{key}/notify", decision)),
        ]
    )
    return decision


def ask(
    ctx: OrchestrationContext, purchase: Purchase, key: str
) -> Generator[Task[Any], Any, Approval | None]:
    """Ask the approver, remind them, ask the manager; None if nobody answers."""
    answer = ctx.wait_for_external_event(APPROVAL_EVENT, data_type=Approval)
    question = request(purchase, f"{key}/ask", purchase.approver)
    yield ctx.call_activity(request_approval, input=question)

    for reminders_sent in range(purchase.reminders):
        ctx.set_custom_status({"waiting_for": purchase.approver, "reminders_sent": reminders_sent})
        if (yield from answered_within(ctx, answer, purchase.remind_after)):
            return read(answer)
        reminder = request(purchase, f"{key}/remind/{reminders_sent + 1}", purchase.approver)
        yield ctx.call_activity(send_reminder, input=reminder)

    ctx.set_custom_status({"waiting_for": purchase.approver, "reminders_sent": purchase.reminders})
    if (yield from answered_within(ctx, answer, purchase.escalate_after)):
        return read(answer)

    question = request(purchase, f"{key}/escalate", purchase.manager)
    yield ctx.call_activity(escalate, input=question)
    ctx.set_custom_status({"waiting_for": purchase.manager, "reminders_sent": purchase.reminders})
    if (yield from answered_within(ctx, answer, purchase.give_up_after)):
        return read(answer)
    answer.cancel()
    return None


def request(purchase: Purchase, key: str, to: str) -> ApprovalRequest:
    """The message to someone who can decide on a purchase."""
    return ApprovalRequest(key, to, purchase.item, purchase.amount, purchase.requester)


def answered_within(
    ctx: OrchestrationContext, answer: CancellableTask[Approval], seconds: float
) -> Generator[Task[Any], Any, bool]:
    """Wait for the answer, but only so long. The timer that lost is cancelled, the answer is not."""
    timer = ctx.create_timer(timedelta(seconds=seconds))
    contenders: list[Task[Any]] = [answer, timer]
    winner = yield when_any(contenders)
    if winner is timer:
        return False
    timer.cancel()
    return True


def read(answer: CancellableTask[Approval]) -> Approval:
    """The answer; an event without data is not taken for a yes, nor for silence."""
    approval: Approval | None = answer.get_result()
    if approval is None:
        return Approval(approved=False, by="unknown", comment="the answer was empty")
    return approval


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
