"""What an agent thinks with. A model is asked for a reply to a conversation; the rest is the workflow's.

`OfflineModel`, the default, needs no network and answers the same way each time. Another one is named in
``MODEL``, as ``"module:function"``: the function is called without arguments and returns a `Model`.
"""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from workflows.settings import SettingsError


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants used, and what with."""

    tool: str
    argument: str


@dataclass(frozen=True)
class Message:
    """Something that was said.

    Attributes
    ----------
    role : str
        Who said it: ``"user"``, ``"assistant"`` or ``"tool"``.
    tool_calls : list[ToolCall]
        Of the assistant: the tools that it wants used before it goes on.
    """

    role: str
    text: str
    tool_calls: list[ToolCall] = field(default_factory=list)


@runtime_checkable
class Model(Protocol):
    """Replies to conversations."""

    def reply(self, messages: list[Message]) -> Message:
        """The assistant's next message: an answer, or tool calls. It may raise; it is asked again then."""
        ...


_ORDER = re.compile(r"\border ([\w-]*\d[\w-]*)", re.IGNORECASE)
_SUM = re.compile(r"[0-9(][0-9\s.+*/%()-]*[0-9)]")


class OfflineModel:
    """A model that knows two tools, ``calculate`` and ``order_status``, and little else."""

    def reply(self, messages: list[Message]) -> Message:
        """Use a tool for what looks like a sum or an order, and repeat what the tools say."""
        asked = max((at for at, one in enumerate(messages) if one.role == "user"), default=None)
        if asked is None:
            return Message("assistant", "How can I help?")
        found = [one.text for one in messages[asked:] if one.role == "tool"]
        if found:
            return Message("assistant", " ".join(found))
        question = messages[asked].text
        orders: list[str] = _ORDER.findall(question)
        sums = [
            one for one in _SUM.findall(_ORDER.sub(" order ", question)) if re.search(r"\d.*[-+*/%]", one)
        ]
        calls = [ToolCall("calculate", one) for one in sums]
        calls += [ToolCall("order_status", one) for one in orders]
        if calls:
            return Message("assistant", "", calls)
        return Message("assistant", f"You said: {question}")


def load_model(name: str | None) -> Model:
    """Make the model of a name; None stands for the `OfflineModel`.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    if name is None:
        return OfflineModel()
    try:
        model = pkgutil.resolve_name(name)()
    except Exception as error:
        raise SettingsError(
            f"MODEL {name!r} is not usable ({type(error).__name__}: {error}): a right one is "
            "'module:function', where the function takes no arguments and returns an object with a method "
            "reply(messages)."
        ) from error
    if not isinstance(model, Model):
        raise SettingsError(
            f"MODEL {name!r} gives a {type(model).__name__}, which has no method reply(messages)."
        )
    return model
