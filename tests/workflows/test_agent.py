"""The agent: it thinks, uses tools, answers, remembers, and ends."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from effects import delivered_twice
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import TaskHub, drive
from workflows import agent as module
from workflows import register
from workflows import services as process
from workflows.agent import (
    APOLOGY,
    GAVE_UP,
    KEPT_TURNS,
    MAX_TEXT,
    MAX_TOOL_CALLS,
    BadArgument,
    Chat,
    ChatResult,
    Conversation,
    Transcript,
    Turn,
    agent,
    calculate,
    order_status,
    think,
)
from workflows.model import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dt_testkit import Instance
    from workflows.store import Store

HOUR = timedelta(hours=1)
NO = RuntimeError("no")


@pytest.fixture
def asked(services: process.Services) -> Iterator[Callable[..., list[list[Message]]]]:
    """Put a model in place that gives these replies, and returns the messages it was asked with."""
    with ExitStack() as stack:

        def put(*replies: Any) -> list[list[Message]]:
            model = Scripted(*replies)
            stack.enter_context(process.use(replace(services, model=model)))
            return model.asked

        yield put


class Scripted:
    """A model that says what it was told to, one reply after the other, the last one for ever."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[list[Message]] = []

    def reply(self, messages: list[Message]) -> Message:
        self.asked.append(messages)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply  # type: ignore[no-any-return]


def answer(text: str) -> Message:
    return Message("assistant", text)


def wants(*calls: tuple[str, str]) -> Message:
    return Message("assistant", "", [ToolCall(*call) for call in calls])


def chat(hub: TaskHub, *messages: Any, instance_id: str = "chat-1", options: Chat | None = None) -> Instance:
    """An agent that was told these messages, one after the other has been answered."""
    instance = hub.start(agent, input=options or Chat(), instance_id=instance_id)
    for message in messages:
        tell(hub, instance, message)
    hub.settle()
    return instance


def tell(hub: TaskHub, instance: Instance, message: Any) -> Any:
    """Say something, and wait for the answer without letting the agent fall silent."""
    instance.raise_event("message", message)
    hub.settle()
    while instance.custom_status["state"] == "thinking" and not instance.is_terminal:
        hub.advance(timedelta(seconds=1))
    return instance.custom_status["answer"]


def transcript(hub: TaskHub, instance_id: str = "chat-1") -> Transcript:
    found = hub.client.get_entity(EntityInstanceId("Conversation", instance_id), include_state=True)
    return Transcript() if found is None else found.get_typed_state(Transcript) or Transcript()


def lines(hub: TaskHub, instance_id: str = "chat-1") -> list[tuple[str, str]]:
    """Who said what, in all turns that are kept."""
    turns = transcript(hub, instance_id).turns
    return [(message.role, message.text) for turn in turns for message in turn.messages]


def assert_proper(transcript: Transcript) -> None:
    """Every turn is a question, then rounds of tools, then an answer; the numbers go on without a gap."""
    numbers = [turn.number for turn in transcript.turns]
    assert numbers == list(range(transcript.next_turn))[-KEPT_TURNS:]
    for turn in transcript.turns:
        first, *rest = turn.messages
        assert first.role == "user"
        assert first.text
        while rest[0].tool_calls:
            calls = len(rest[0].tool_calls)
            assert [one.role for one in rest[: calls + 1]] == ["assistant"] + ["tool"] * calls
            rest = rest[calls + 1 :]
        assert [one.role for one in rest] == ["assistant"]


class TestAnAnswer:
    def test_it_is_in_the_custom_status(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "Good morning")
        assert instance.custom_status == {
            "state": "waiting",
            "answered": 1,
            "answer": "You said: Good morning",
        }

    def test_it_is_in_the_conversation_after_the_question(self, task_hub: TaskHub) -> None:
        chat(task_hub, "Good morning")
        assert lines(task_hub) == [("user", "Good morning"), ("assistant", "You said: Good morning")]

    def test_before_it_the_agent_is_seen_to_think(self, task_hub: TaskHub) -> None:
        task_hub.stub(think, return_value=answer("yes"), duration=HOUR)
        instance = task_hub.start(agent, input=Chat())
        instance.raise_event("message", "Well?")
        task_hub.settle()
        assert instance.custom_status == {"state": "thinking", "answered": 0, "answer": None}

    def test_it_builds_on_what_was_said_before(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(answer("A"), answer("B"))
        chat(task_hub, "a?", "b?")
        assert seen[1] == [Message("user", "a?"), answer("A"), Message("user", "b?")]


class TestTools:
    def test_a_sum_is_done_by_a_tool(self, task_hub: TaskHub) -> None:
        chat(task_hub, "What is (3 + 4) * 2?")
        assert lines(task_hub)[1:] == [
            ("assistant", ""),
            ("tool", "(3 + 4) * 2 = 14"),
            ("assistant", "(3 + 4) * 2 = 14"),
        ]

    def test_an_order_is_looked_up_in_the_store(self, task_hub: TaskHub, store: Store) -> None:
        store.reserve("k", "RES-1", "desk", 1)
        instance = chat(task_hub, "Where is order RES-1, and order RES-2?")
        assert instance.custom_status["answer"] == "Order RES-1 is reserved. There is no order RES-2."

    def test_the_tools_of_one_reply_run_in_parallel(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked(wants(("calculate", "1+1"), ("calculate", "2+2"), ("order_status", "R")), answer("done"))
        sums = task_hub.stub(calculate, wraps=calculate, duration=HOUR)
        orders = task_hub.stub(order_status, wraps=order_status, duration=HOUR)
        chat(task_hub, "go")
        assert len({call.time for call in [*sums.calls, *orders.calls]}) == 1

    def test_their_results_have_the_order_of_the_calls(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(wants(("calculate", "1+1"), ("calculate", "2+2")), answer("done"))
        task_hub.stub(calculate, wraps=calculate, duration=lambda one: HOUR * 2 if one == "1+1" else HOUR)
        chat(task_hub, "go")
        assert [one.text for one in seen[1][-2:]] == ["1+1 = 2", "2+2 = 4"]

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            (("calculate", "1/0"), "calculate failed: '1/0' has no result: division by zero"),
            (("calculate", "2+"), "calculate failed: '2+' is not a sum"),
            (("fly", "home"), "There is no tool 'fly'; there are calculate and order_status."),
        ],
    )
    def test_the_model_is_told_of_one_that_fails_and_goes_on(
        self,
        task_hub: TaskHub,
        asked: Callable[..., list[list[Message]]],
        call: tuple[str, str],
        told: str,
    ) -> None:
        seen = asked(wants(call, ("calculate", "1+1")), answer("I see"))
        instance = chat(task_hub, "go")
        assert seen[1][-2:] == [Message("tool", told), Message("tool", "1+1 = 2")]
        assert instance.custom_status["answer"] == "I see"

    def test_one_that_fails_in_passing_is_tried_again(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(wants(("order_status", "R")), answer("done"))
        task_hub.stub(order_status, side_effect=[NO, "sent"])
        chat(task_hub, "go")
        assert seen[1][-1] == Message("tool", "sent")

    def test_after_its_rounds_the_agent_gives_up(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(wants(("calculate", "1+1")))
        instance = chat(task_hub, "go", options=Chat(max_rounds=3))
        assert (len(seen), instance.custom_status["answer"]) == (3, GAVE_UP)

    @pytest.mark.parametrize("rounds", [0, -1, 9])
    def test_rounds_that_make_no_sense_fail_at_once(self, task_hub: TaskHub, rounds: int) -> None:
        failed = task_hub.run(agent, input=Chat(max_rounds=rounds)).failure
        assert failed is not None
        assert failed.message == f"an agent needs max_rounds of 1 to 8, not {rounds}"


class TestAModelThatMisbehaves:
    def test_one_that_fails_in_passing_is_asked_again(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked(NO, NO, answer("there you are"))
        assert chat(task_hub, "go").custom_status["answer"] == "there you are"

    def test_one_that_fails_for_good_ends_the_turn_and_not_the_agent(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(NO, NO, NO, answer("back again"))
        instance = chat(task_hub, "a?", "b?")
        assert lines(task_hub)[1:] == [("assistant", APOLOGY), ("user", "b?"), ("assistant", "back again")]
        assert (instance.status, len(seen)) == (OrchestrationStatus.RUNNING, 4)

    def test_one_that_fails_after_tools_leaves_a_proper_conversation(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked(wants(("calculate", "1+1")), NO)
        assert chat(task_hub, "go").custom_status["answer"] == APOLOGY
        assert_proper(transcript(task_hub))

    def test_a_reply_that_is_no_message_counts_as_a_failure(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked("hello")
        assert chat(task_hub, "go").custom_status["answer"] == APOLOGY

    def test_a_reply_without_text_or_tools_is_an_empty_answer(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked(Message("assistant", None, None))  # type: ignore[arg-type]
        assert chat(task_hub, "go").custom_status["answer"] == ""

    def test_it_speaks_for_nobody_else(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        asked(Message("user", "give me money"))
        chat(task_hub, "go")
        assert lines(task_hub) == [("user", "go"), ("assistant", "give me money")]

    def test_what_it_says_and_asks_for_is_limited(
        self, task_hub: TaskHub, asked: Callable[..., list[list[Message]]]
    ) -> None:
        seen = asked(wants(*[("calculate", "1+1")] * 100), answer("x" * 1_000_000))
        instance = chat(task_hub, "go")
        assert len(seen[1]) == 1 + 1 + MAX_TOOL_CALLS
        assert instance.custom_status["answer"] == "x" * MAX_TEXT


class TestMessages:
    def test_those_that_come_while_it_thinks_are_answered_in_order(self, task_hub: TaskHub) -> None:
        task_hub.stub(think, wraps=think, duration=HOUR)
        instance = task_hub.start(agent, input=Chat(), instance_id="chat-1")
        for word in ("one", "two", "three", "four"):
            instance.raise_event("message", word)
            task_hub.advance(HOUR / 4)
        task_hub.advance(4 * HOUR)
        assert [text for role, text in lines(task_hub) if role == "user"] == ["one", "two", "three", "four"]
        assert instance.custom_status["answered"] == 4

    @pytest.mark.parametrize("nothing", [None, "", "  \n"])
    def test_an_empty_one_is_passed_over(self, task_hub: TaskHub, nothing: str | None) -> None:
        mind = task_hub.stub(think, return_value=answer("yes"))
        instance = chat(task_hub, "Well?", nothing)
        assert (mind.call_count, instance.custom_status["answered"]) == (1, 1)
        assert instance.status is OrchestrationStatus.RUNNING

    def test_one_that_is_no_text_is_taken_as_one(self, task_hub: TaskHub) -> None:
        assert chat(task_hub, {"a": [1]}).custom_status["answer"] == "You said: {'a': [1]}"

    def test_one_before_the_first_turn_is_answered(self, task_hub: TaskHub) -> None:
        instance = task_hub.start(agent, input=Chat())
        instance.raise_event("message", "early")
        task_hub.settle()
        assert instance.custom_status["answer"] == "You said: early"

    def test_each_generation_answers_one_so_that_no_history_grows(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, *[f"message {n}" for n in range(20)])
        assert max(len(history) for history in instance.histories[1:-1]) == len(instance.histories[1])
        assert len(instance.histories) == 21


class TestTheEnd:
    def test_it_ends_when_it_is_told_to(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "hello")
        instance.raise_event("end")
        assert instance.wait().get_output(ChatResult) == ChatResult("ended", 1, "You said: hello")
        assert instance.custom_status["state"] == "ended"

    def test_what_was_said_before_is_answered_first(self, task_hub: TaskHub) -> None:
        task_hub.stub(think, wraps=think, duration=HOUR)
        instance = chat(task_hub)
        for event, data in (("message", "one"), ("message", "two"), ("end", None)):
            instance.raise_event(event, data)
        assert instance.wait().get_output(ChatResult) == ChatResult("ended", 2, "You said: two")

    def test_an_end_that_comes_while_it_thinks_is_not_lost(self, task_hub: TaskHub) -> None:
        task_hub.stub(think, wraps=think, duration=HOUR)
        instance = chat(task_hub)
        instance.raise_event("message", "one")
        task_hub.settle()
        instance.raise_event("end")
        assert instance.wait(timeout=2 * HOUR).get_output(ChatResult).status == "ended"

    def test_it_ends_after_a_time_of_silence(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "hello", options=Chat(idle_after=3600.0))
        since = task_hub.now
        assert instance.wait().get_output(ChatResult) == ChatResult("idle", 1, "You said: hello")
        assert task_hub.now - since == HOUR

    def test_a_message_starts_the_silence_anew(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, options=Chat(idle_after=3600.0))
        for _ in range(3):
            task_hub.advance(HOUR * 0.9)
            tell(task_hub, instance, "still here")
        assert instance.status is OrchestrationStatus.RUNNING

    def test_thinking_for_long_is_no_silence(self, task_hub: TaskHub) -> None:
        task_hub.stub(think, wraps=think, duration=10 * HOUR)
        instance = chat(task_hub, options=Chat(idle_after=3600.0))
        instance.raise_event("message", "hm")
        assert instance.wait().get_output(ChatResult).answered == 1

    def test_started_again_it_goes_on_with_the_same_conversation(self, task_hub: TaskHub) -> None:
        chat(task_hub, "one").raise_event("end")
        task_hub.settle()
        task_hub.client.restart_orchestration("chat-1")
        tell(task_hub, task_hub.instance("chat-1"), "two")
        assert [text for role, text in lines(task_hub) if role == "user"] == ["one", "two"]
        assert_proper(transcript(task_hub))

    def test_one_that_is_terminated_leaves_no_half_of_a_turn(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "one")
        task_hub.stub(think, return_value=answer("two"), duration=HOUR)
        instance.raise_event("message", "two")
        task_hub.settle()
        instance.terminate()
        task_hub.advance(2 * HOUR)
        assert [text for role, text in lines(task_hub) if role == "user"] == ["one"]


class TestTheConversation:
    def test_two_do_not_mix(self, task_hub: TaskHub) -> None:
        ana, raj = (chat(task_hub, instance_id=name) for name in ("ana", "raj"))
        for word in ("one", "two"):
            tell(task_hub, ana, f"ana {word}")
            tell(task_hub, raj, f"raj {word}")
        for name in ("ana", "raj"):
            asked = [text for role, text in lines(task_hub, name) if role == "user"]
            assert asked == [f"{name} one", f"{name} two"]

    def test_only_the_latest_turns_are_kept(self, task_hub: TaskHub) -> None:
        chat(task_hub, *[f"message {n}" for n in range(KEPT_TURNS + 5)])
        kept = transcript(task_hub)
        assert_proper(kept)
        assert (len(kept.turns), kept.next_turn) == (KEPT_TURNS, KEPT_TURNS + 5)
        assert kept.turns[0].messages[0].text == "message 5"

    def test_a_turn_that_is_added_again_however_late_changes_nothing(self, task_hub: TaskHub) -> None:
        chat(task_hub, "one", "two", "three")
        before = transcript(task_hub)
        for turn in (before.turns[2], before.turns[0]):
            task_hub.client.signal_entity(EntityInstanceId("Conversation", "chat-1"), "add", turn)
            task_hub.settle()
        assert transcript(task_hub) == before

    def test_a_message_that_is_said_twice_is_there_twice(self, task_hub: TaskHub) -> None:
        chat(task_hub, "one", "one")
        assert [turn.number for turn in transcript(task_hub).turns] == [0, 1]

    def test_one_that_was_deleted_starts_anew(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "one")
        task_hub.client.signal_entity(EntityInstanceId("Conversation", "chat-1"), "delete")
        tell(task_hub, instance, "two")
        assert transcript(task_hub).turns == [
            Turn(0, [Message("user", "two"), answer("You said: two")]),
        ]

    def test_its_operations_are_those_of_the_entity(self) -> None:
        operations = {name for name in vars(Conversation) if not name.startswith("_")}
        assert operations == {"read", "add"}


class TestFaults:
    MESSAGES = ("What is 2+2, and order R-1?", "Good morning", "3*3")

    def undisturbed(self) -> tuple[list[tuple[str, str]], Any]:
        hub = TaskHub()
        register(hub)
        instance = chat(hub, *self.MESSAGES)
        return lines(hub), instance.custom_status

    def test_activities_that_run_twice_leave_one_conversation(self) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        delivered_twice(hub)
        instance = chat(hub, *self.MESSAGES)
        assert (lines(hub), instance.custom_status) == self.undisturbed()

    def test_workers_that_die_every_half_hour_leave_one_conversation(self) -> None:
        hub = TaskHub()
        register(hub)
        for activity in module.ACTIVITIES:
            hub.stub(activity, wraps=activity, duration=HOUR)
        instance = chat(hub, options=Chat(idle_after=1_000_000.0))
        for message in self.MESSAGES:
            instance.raise_event("message", message)
        while instance.custom_status["answered"] < len(self.MESSAGES) and not instance.is_terminal:
            hub.advance(HOUR / 2)
            hub.crash_worker()
            hub.advance(HOUR)
        assert (lines(hub), instance.custom_status) == self.undisturbed()

    @pytest.mark.parametrize("seed", range(5))
    def test_results_in_any_order_leave_one_conversation(self, seed: int) -> None:
        hub = TaskHub(shuffle=True, seed=seed)
        register(hub)
        instance = chat(hub, *self.MESSAGES)
        assert (lines(hub), instance.custom_status) == self.undisturbed()

    def test_a_suspended_agent_answers_when_it_is_resumed(self, task_hub: TaskHub) -> None:
        instance = chat(task_hub, "one")
        instance.suspend()
        for word in ("two", "three"):
            instance.raise_event("message", word)
        task_hub.settle()
        assert instance.custom_status["answered"] == 1
        instance.resume()
        task_hub.settle()
        assert [text for role, text in lines(task_hub) if role == "user"] == ["one", "two", "three"]


class TestStepByStep:
    def test_a_turn_is_read_thought_about_and_added(self) -> None:
        step = drive(agent, Chat())
        step.raise_event("message", "2+2")
        seen = []
        for result in (
            Transcript(),
            wants(("calculate", "2+2")),
            "2+2 = 4",
            answer("four"),
            None,
        ):
            (pending,) = [one for one in step.pending if one.kind != "timer"]
            seen.append(pending.name)
            step.complete(result, of=pending)
        assert seen == ["read", "think", "calculate", "think", "add"]
        assert step.custom_status == {"state": "waiting", "answered": 1, "answer": "four"}


class TestArithmetic:
    @pytest.mark.parametrize(
        ("sum", "result"),
        [
            ("1+1", "2"),
            (" 2 *\n(3 - 4.5) ", "-3.0"),
            ("7 // 2 + 7 % 4", "6"),
            ("-2 ** 2", "-4"),
            ("1/4", "0.25"),
            ("2**332", str(2**332)),
            ("+".join(["1"] * 100), "100"),
        ],
    )
    def test_it_does_sums(self, sum: str, result: str) -> None:
        assert calculate(None, sum).split(" = ")[1] == result  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("sum", "why"),
        [
            ("", "a sum has numbers"),
            ("__import__('os')", "a sum has numbers"),
            ("1" * 201, "at most 200 characters"),
            ("1e9", "a sum has numbers"),
            ("٣+٣", "a sum has numbers"),
            ("1 +", "is not a sum"),
            ("007", "is not a sum"),
            ("(" * 100 + "1" + ")" * 99, "is not a sum"),
            ("()", "no Tuple"),
            ("...", "no Constant"),
            ("(1)(2)", "no Call"),
            ("-" * 150 + "1", "nested at most 100 deep"),
            ("1/0", "division by zero"),
            ("0**-1", "has no result"),
            ("(-8)**.5", "no number"),
            ("9" * 101, "too large"),
            ("10**99 * 100", "too large"),
            ("9**9**9**9", "too large"),
            ("10**-100000", "too large"),
            ("2**1000000000", "too large"),
            ("(10**100) ** (10**100)", "too large"),
        ],
    )
    def test_it_refuses_what_is_no_sum_or_too_large_a_one(self, sum: str, why: str) -> None:
        with pytest.raises(BadArgument, match=why):
            calculate(None, sum)  # type: ignore[arg-type]

    @given(st.text("0123456789 .+*/%()-", max_size=200))
    def test_it_answers_or_refuses_and_nothing_else(self, sum: str) -> None:
        with suppress(BadArgument):
            assert calculate(None, sum).startswith(sum.strip() + " = ")  # type: ignore[arg-type]


CALLS = st.builds(
    ToolCall,
    st.sampled_from(["calculate", "order_status", "fly", ""]),
    st.sampled_from(["1+1", "1/0", "", "R"]),
)
REPLIES = st.one_of(
    st.builds(Message, st.sampled_from(["assistant", "user", "tool"]), st.text(max_size=5), st.lists(CALLS)),
    st.sampled_from([NO, None, 7, Message("assistant", None, None)]),  # type: ignore[arg-type]
)


class TestTheLaw:
    @settings(deadline=None, max_examples=60)
    @given(
        replies=st.lists(REPLIES, min_size=1),
        messages=st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=4),
        rounds=st.integers(1, 3),
        seed=st.integers(0, 3),
    )
    def test_whatever_the_model_says_the_agent_waits_and_then_ends(
        self, replies: list[Any], messages: list[str | None], rounds: int, seed: int
    ) -> None:
        services = process.services()
        hub = TaskHub(shuffle=seed > 0, seed=seed)
        register(hub)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process, "_services", replace(services, model=Scripted(*replies)))
            instance = hub.start(agent, input=Chat(max_rounds=rounds), instance_id="chat-1")
            for message in messages:
                instance.raise_event("message", message)
            hub.advance(HOUR)
            said = [message.strip() for message in messages if message and message.strip()]
            assert instance.custom_status["state"] == "waiting"
            assert instance.custom_status["answered"] == len(said)
            assert_proper(transcript(hub))
            assert [turn.messages[0].text for turn in transcript(hub).turns] == said
            assert instance.wait().get_output(ChatResult).status == "idle"
