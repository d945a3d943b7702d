"""What a hub logs: the way out of a failure that says little, and names that are nearly another.

What is recorded stays as a worker records it. Pytest shows the log of a test that fails.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durabletask.task import FailureDetails

    from dt_testkit.execution import Payloads
    from dt_testkit.hub.instance import Instance

LOGGER = logging.getLogger("dt_testkit")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to put behind a sentence, or nothing where no known name is near."""
    near = get_close_matches(name, [one for one in known if one != name], 1)
    return f": did you mean {near[0]!r}?" if near else ""


def told(failure: FailureDetails) -> str:
    """A failure in one line."""
    return f"{failure.error_type.rpartition('.')[2]}: {' '.join(failure.message.split())}".rstrip(".! ")


def explain(
    instance: Instance, failure: FailureDetails, functions: dict[str, Any], payloads: Payloads
) -> None:
    """Log the way out of a failure of an orchestration that says little about it."""
    kind, function, hint = failure.error_type.rpartition(".")[2], functions.get(instance.name), ""
    if kind == "OrchestratorNotRegisteredError":
        hint = did_you_mean(instance.name, functions)
    elif kind == "JsonEncodeOutputException":
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            hint = ": it is an 'async def', and orchestrators are generators; write 'def' and 'yield'"
    elif kind in ("AttributeError", "TypeError") and function is not None:
        with suppress(Exception):  # of the user's converter
            misfit = payloads.misfit(instance._input, function)
            hint = f": its input {misfit}" if misfit is not None else ""
    if hint:
        LOGGER.warning("Instance '%s' (%s) failed with %s%s", instance.instance_id, instance.name, kind, hint)
