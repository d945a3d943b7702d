"""An assistant that talks with someone and uses tools. The pattern: a stateful agent.

Choose it when a model decides what to do next, and what it has decided must not be lost or done over when a
process dies. The entity `Conversation` holds what was said and outlives the agent. The orchestrator goes
round: the activity `think` asks the model, the tools that the model wants run as activities, in parallel,
until the model has an answer. Then the agent continues as new and waits for the next message, so that its
history never holds more than one turn of the conversation.

Send messages with the event ``"message"``. The answer is in the custom status, with the number of messages
that have been answered; messages that come meanwhile wait, in order. ``"end"`` ends the agent, and so does
silence. Started again under the same id, it goes on with the same conversation.

A model and its tools may fail: the model is told of a tool that failed, and a user whose message the model
could not answer gets an apology. A turn is added to the conversation as a whole and under its number, so none
is there by half or twice.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and activities.
import ast
import logging
import math
import operator
import re
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.task import (
    ActivityContext,
    CancellableTask,
    OrchestrationContext,
    RetryPolicy,
    Task,
    TaskFailedError,
    when_all,
    when_any,
)

from workflows.model import Message, ToolCall
from workflows.services import services

logger = logging.getLogger(__name__)

MESSAGE_EVENT = "message"
END_EVENT = "end"
DAY = 24 * 60 * 60.0

THINK_RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, backoff_coefficient=2.0
)
TOOL_RETRY = RetryPolicy(first_retry_interval=timedelta(milliseconds=500), max_number_of_attempts=2)

# What a conversation may grow to: with these, a few hundred kilobytes at the very most.
KEPT_TURNS = 10
MAX_ROUNDS = 8
MAX_TOOL_CALLS = 4
MAX_TEXT = 2_000

APOLOGY = "Sorry, I cannot think just now. Please try again later."
GAVE_UP = "Sorry, I did not come to an answer."


@dataclass(frozen=True)
class Chat:
    """How an agent behaves.

    Attributes
    ----------
    idle_after : float
        After how many seconds without a message it ends.
    max_rounds : int
        How often it asks the model, at most, for the answer to one message.
    answered, answer
        How many messages have been answered, and the last answer: the agent's own, from run to run.
    """

    idle_after: float = 1 * DAY
    max_rounds: int = 5
    answered: int = 0
    answer: str | None = None


@dataclass(frozen=True)
class ChatResult:
    """How a chat ended: ``"ended"`` or ``"idle"``."""

    status: str
    answered: int
    answer: str | None = None


@dataclass(frozen=True)
class Turn:
    """A message of the user and all that came of it, up to the answer; the first turn has number 0."""

    number: int
    messages: list[Message]


@dataclass(frozen=True)
class Transcript:
    """The latest turns of a conversation, and the number that the next one gets."""

    next_turn: int = 0
    turns: list[Turn] = field(default_factory=list)


class Conversation(DurableEntity):
    """What was said: an entity for each agent, whose key is the id of the agent's instance."""

    def read(self) -> Transcript:
        """The latest turns."""
        return self.get_state(Transcript, Transcript())

    def add(self, turn: Turn) -> None:
        """Add a turn, unless it was added before; the oldest ones are forgotten."""
        transcript = self.read()
        if turn.number >= transcript.next_turn:
            self.set_state(Transcript(turn.number + 1, [*transcript.turns, turn][-KEPT_TURNS:]))


def agent(ctx: OrchestrationContext, chat: Chat) -> Generator[Task[Any], Any, ChatResult | None]:
    """Answer a message, and continue as new for the next; or end."""
    if not 1 <= chat.max_rounds <= MAX_ROUNDS:
        raise ValueError(f"an agent needs max_rounds of 1 to {MAX_ROUNDS}, not {chat.max_rounds}")
    show(ctx, "waiting", chat)
    said, event = yield from listen(ctx, chat.idle_after)
    if event != MESSAGE_EVENT:
        show(ctx, "ended", chat)
        return ChatResult("ended" if event == END_EVENT else "idle", chat.answered, chat.answer)
    if said:
        show(ctx, "thinking", chat)
        conversation = EntityInstanceId("Conversation", ctx.instance_id)
        transcript = yield ctx.call_entity(conversation, "read", return_type=Transcript)
        messages = yield from take_turn(ctx, transcript, said, chat.max_rounds)
        yield ctx.call_entity(conversation, "add", Turn(transcript.next_turn, messages))
        chat = replace(chat, answered=chat.answered + 1, answer=messages[-1].text)
    ctx.continue_as_new(chat, save_events=True)
    return None


def show(ctx: OrchestrationContext, state: str, chat: Chat) -> None:
    """Tell the world how far the chat is."""
    ctx.set_custom_status({"state": state, "answered": chat.answered, "answer": chat.answer})


def listen(ctx: OrchestrationContext, seconds: float) -> Generator[Task[Any], Any, tuple[str, str | None]]:
    """Wait for a message; returns what was said and the name of the event, or None after a time of silence.

    No wait is left behind: an event that came to one would be lost when the agent continues as new.
    """
    message = ctx.wait_for_external_event(MESSAGE_EVENT)
    end = ctx.wait_for_external_event(END_EVENT)
    silence = ctx.create_timer(timedelta(seconds=seconds))
    contenders: list[CancellableTask[Any]] = [message, end, silence]
    winner = yield when_any(contenders)
    for loser in contenders:
        if loser is not winner:
            loser.cancel()
    if winner is not message:
        return "", END_EVENT if winner is end else None
    said = message.get_result()
    return ("" if said is None else str(said).strip()[:MAX_TEXT]), MESSAGE_EVENT


def take_turn(
    ctx: OrchestrationContext, transcript: Transcript, said: str, max_rounds: int
) -> Generator[Task[Any], Any, list[Message]]:
    """Think and use tools until there is an answer; returns all that was said, the answer last."""
    log = ctx.create_replay_safe_logger(logger)
    before = [message for turn in transcript.turns for message in turn.messages]
    turn = [Message("user", said)]
    for _ in range(max_rounds):
        try:
            reply = yield ctx.call_activity(think, input=[*before, *turn], retry_policy=THINK_RETRY)
        except TaskFailedError as failure:
            log.warning("the model of agent %s failed: %s", ctx.instance_id, failure.details.message)
            return [*turn, Message("assistant", APOLOGY)]
        if not reply.tool_calls:
            return [*turn, reply]
        results = yield from use_tools(ctx, reply.tool_calls)
        turn += [reply, *results]
    log.warning("agent %s gave up after %d rounds", ctx.instance_id, max_rounds)
    return [*turn, Message("assistant", GAVE_UP)]


def use_tools(ctx: OrchestrationContext, calls: list[ToolCall]) -> Generator[Task[Any], Any, list[Message]]:
    """Use all tools at once; returns what each of them says. One that fails says so."""
    tasks: list[Task[str] | None] = [
        ctx.call_activity(TOOLS[call.tool], input=call.argument, retry_policy=TOOL_RETRY)
        if call.tool in TOOLS
        else None
        for call in calls
    ]
    under_way = [task for task in tasks if task is not None]
    if under_way:
        # when_all fails once all have ended, and about one of them only: each task tells how it went itself.
        with suppress(TaskFailedError):
            yield when_all(under_way)
    return [Message("tool", outcome(call, task)) for call, task in zip(calls, tasks, strict=True)]


def outcome(call: ToolCall, task: Task[str] | None) -> str:
    """What the model is told about the use of a tool."""
    if task is None:
        return f"There is no tool {call.tool[:100]!r}; there are {' and '.join(TOOLS)}."
    if task.is_failed:
        return f"{call.tool} failed: {task.get_exception().details.message}"[:MAX_TEXT]
    return str(task.get_result())[:MAX_TEXT]


def think(ctx: ActivityContext, messages: list[Message]) -> Message:
    """Ask the model. It changes nothing, so it needs no key; asked twice, its first reply counts."""
    reply = services().model.reply(messages)
    if not isinstance(reply, Message):
        raise TypeError(f"the model replied with a {type(reply).__name__}, not with a Message")
    wanted = (reply.tool_calls or [])[:MAX_TOOL_CALLS]
    calls = [ToolCall(str(call.tool)[:MAX_TEXT], str(call.argument)[:MAX_TEXT]) for call in wanted]
    return Message("assistant", str(reply.text or "")[:MAX_TEXT], calls)


class BadArgument(Exception):
    """A tool cannot do anything with what it was given."""


def order_status(ctx: ActivityContext, reservation: str) -> str:
    """Tell how far an order is."""
    status = services().store.order_status(reservation.strip())
    if status is None:
        return f"There is no order {reservation}."
    return f"Order {reservation} is {status}."


def calculate(ctx: ActivityContext, sum: str) -> str:
    """Do a sum: numbers, brackets, + - * / // % and **."""
    text = sum.strip()
    if not re.fullmatch(r"[0-9\s.+*/%()-]{1,200}", text):
        raise BadArgument("a sum has numbers, brackets, + - * / // % and **, and at most 200 characters")
    try:
        result = evaluate(ast.parse(" ".join(text.split()), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError):
        raise BadArgument(f"{text!r} is not a sum") from None
    except (ZeroDivisionError, OverflowError) as error:
        raise BadArgument(f"{text!r} has no result: {error}") from None
    return f"{text} = {result}"


Number = int | float

LARGEST = 10**100
DEEPEST = 100


def power(base: Number, exponent: Number) -> Any:
    """A power, if it can be had without calculating for long."""
    if abs(base) > 1 and abs(exponent) * math.log10(abs(base)) > 2 * math.log10(LARGEST):
        raise BadArgument("the power is too large")
    return base**exponent


UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}


def evaluate(node: ast.expr, depth: int = 0) -> Number:
    """The value of an expression, which a model wrote: nothing but sums, none of them large."""
    if depth > DEEPEST:
        raise BadArgument(f"a sum is nested at most {DEEPEST} deep")
    match node:
        case ast.Constant(int() | float() as value):
            result: Any = value
        case ast.UnaryOp(op, operand) if type(op) in UNARY:
            result = UNARY[type(op)](evaluate(operand, depth + 1))
        case ast.BinOp(left, op, right) if type(op) in BINARY:
            result = BINARY[type(op)](evaluate(left, depth + 1), evaluate(right, depth + 1))
        case _:
            raise BadArgument(f"a sum has no {type(node).__name__}")
    if isinstance(result, complex) or not math.isfinite(result) or abs(result) > LARGEST:
        raise BadArgument("the result is no number, or too large a one")
    return result  # type: ignore[no-any-return]


TOOLS: dict[str, Callable[[ActivityContext, str], str]] = {
    "calculate": calculate,
    "order_status": order_status,
}

ORCHESTRATORS = (agent,)
ACTIVITIES = (think, calculate, order_status)
ENTITIES = (Conversation,)
