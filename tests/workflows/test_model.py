"""What the agent thinks with: the model that needs no network, and models by name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.model import Message, Model, OfflineModel, ToolCall, load_model
from workflows.settings import SettingsError

NOT_A_MODEL = "builtins:dict"


def said(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


class TestOfflineModel:
    def test_it_greets_whoever_has_said_nothing(self) -> None:
        assert OfflineModel().reply([]) == Message("assistant", "How can I help?")

    def test_it_repeats_what_it_does_not_understand(self) -> None:
        assert OfflineModel().reply(said("Good morning")).text == "You said: Good morning"

    @pytest.mark.parametrize(
        ("question", "calls"),
        [
            ("What is 2 * (3 + 4)?", [ToolCall("calculate", "2 * (3 + 4)")]),
            ("What is (3 + 4) * 2?", [ToolCall("calculate", "(3 + 4) * 2")]),
            ("7 - 2, and 2**3", [ToolCall("calculate", "7 - 2"), ToolCall("calculate", "2**3")]),
            ("Where is order RES-17?", [ToolCall("order_status", "RES-17")]),
            ("Order RES-17 and order 4-5.", [ToolCall("order_status", one) for one in ("RES-17", "4-5")]),
            ("5 % 3 of order A1", [ToolCall("calculate", "5 % 3"), ToolCall("order_status", "A1")]),
            ("In order to wait 5 minutes", []),
            ("I am 42 years old", []),
        ],
    )
    def test_it_wants_a_tool_for_each_sum_and_each_order(self, question: str, calls: list[ToolCall]) -> None:
        assert OfflineModel().reply(said(question)).tool_calls == calls

    def test_it_repeats_what_the_tools_have_said_since_the_question(self) -> None:
        messages = [*said("1+1"), Message("tool", "old"), *said("2+2"), Message("assistant", "")]
        messages += [Message("tool", "4"), Message("tool", "four")]
        assert OfflineModel().reply(messages) == Message("assistant", "4 four")

    @given(st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "tool"]), st.text())))
    def test_it_answers_anything_and_the_same_way_each_time(self, messages: list[Message]) -> None:
        reply = OfflineModel().reply(messages)
        assert reply.role == "assistant"
        assert reply == OfflineModel().reply(messages)

    @pytest.mark.parametrize("text", ["(" * 2_000, "1+" * 1_000, "(+" * 1_000, "order " * 300, "-" * 2_000])
    def test_no_text_keeps_it_busy(self, text: str) -> None:
        started = time.process_time()
        OfflineModel().reply(said(text + "x"))
        assert time.process_time() - started < 1


class TestModelsByName:
    def test_without_a_name_it_is_the_one_that_needs_no_network(self) -> None:
        assert isinstance(load_model(None), OfflineModel)

    def test_a_name_is_that_of_a_function_that_makes_one(self) -> None:
        model = load_model("workflows.model:OfflineModel")
        assert isinstance(model, Model)

    @pytest.mark.parametrize("name", ["", "no_such_module:make", "workflows.model:make", "workflows.model"])
    def test_a_name_of_nothing_says_what_a_right_one_looks_like(self, name: str) -> None:
        with pytest.raises(SettingsError, match=r"MODEL .* is not usable .*'module:function'"):
            load_model(name)

    def test_something_that_cannot_reply_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=r"gives a dict, which has no method reply\(messages\)"):
            load_model(NOT_A_MODEL)
