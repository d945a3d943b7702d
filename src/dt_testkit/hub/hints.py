"""What a hub logs: the way out of a failure that says little, and names that are nearly another.

What is recorded stays as a worker records it. Pytest shows the log of a test that fails.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from durabletask import task
from durabletask.client import OrchestrationStatus

from dt_testkit.execution import LockEntities
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dt_testkit.execution import Complete, Execution, Payloads
    from dt_testkit.hub.instance import Instance

LOGGER = logging.getLogger("dt_testkit")

# A task in the words of Python, and of what it was written into.
_TASK = re.compile(r"\b(Completable|Cancellable|Retryable|Timer|WhenAll|WhenAny)Task\b")
_TASK_WRITTEN = re.compile(r"<durabletask\.task\.\w+ object at ")
_NO_RESULT = "a task itself, and not its result, is used there; put 'yield' before it"
_CONTEXTS = re.compile(r"_*|.*(ctx|context)_?")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to put behind a sentence, or nothing where no known name is near."""
    near = get_close_matches(name, [one for one in known if one != name], 1)
    return f": did you mean {near[0]!r}?" if near else ""


def told(failure: task.FailureDetails) -> str:
    """A failure in one line."""
    return f"{failure.error_type.rpartition('.')[2]}: {' '.join(failure.message.split())}".rstrip(".! ")


def instead_of(awaited: Any) -> str:
    """What to yield instead of something that is no task."""
    if isinstance(awaited, GeneratorType):
        return "delegate to a generator with 'yield from'"
    if isinstance(awaited, Collection) and not isinstance(awaited, (str, bytes)):
        return "yield when_all([...]) of the tasks"
    return "yield what its context returns, such as ctx.call_activity(...)"


def explain(
    instance: Instance,
    failure: task.FailureDetails,
    functions: dict[str, Any],
    payloads: Payloads,
    execution: Execution | None,
    completion: Complete,
) -> None:
    """Log the way out of a failure of an orchestration that says little about it."""
    kind, function, hint = failure.error_type.rpartition(".")[2], functions.get(instance.name), ""
    if kind == "OrchestratorNotRegisteredError":
        hint = did_you_mean(instance.name, functions)
        if not hint and execution is not None:
            hint = f": call hub.add_orchestrator({instance.name}) before you start it"
    elif kind == "JsonEncodeOutputException" and (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        hint = ": it is an 'async def', and orchestrators are generators; write 'def' and 'yield'"
    elif execution is not None and execution.error is not None and (why := _mistake(execution)):
        hint = f": {why}"
    elif kind in ("AttributeError", "TypeError") and function is not None:
        with suppress(Exception):  # of the user's converter
            misfit = payloads.misfit(instance._input, function)
            hint = f": its input {misfit}" if misfit is not None else ""
    elif kind == "JsonEncodeOutputException" and _TASK_WRITTEN.search(failure.message):
        hint = f": {_NO_RESULT}"
    if hint:
        location = Location.of(completion.site)
        where = f" at {location}" if location is not None else ""
        LOGGER.warning(
            "Instance '%s' (%s) failed with %s%s%s", instance.instance_id, instance.name, kind, where, hint
        )


def look_at_end(instance: Instance, execution: Execution) -> None:
    """Log that an orchestrator without a ``yield`` has asked for what it did not wait for.

    One that yields may let go of what it asks for last, on purpose; lint tells of that.
    """
    if execution.status is OrchestrationStatus.COMPLETED and execution._generator is None:
        # A sub-orchestration has a life of its own.
        operations = [each for each in execution.operations() if each.kind != "sub_orchestration"]
        if operations:
            LOGGER.warning(
                "Instance '%s' (%s) completed and waited for nothing that it asked for (%s), for it has no "
                "'yield': write one before each call",
                instance.instance_id,
                instance.name,
                "; ".join(map(str, operations)),
            )


def explain_activity(instance: Instance, name: str, function: Any, error: Exception) -> None:
    """Log the way out of a failure of an activity that could not be called."""
    if isinstance(error, TypeError) and function is not None and (why := _signature(function, "activity")):
        code = getattr(function, "__code__", None)
        where = f" at {Location.of((code, -1))}" if code is not None else ""
        LOGGER.warning("Activity '%s' of '%s' failed%s: %s", name, instance.instance_id, where, why)


def _mistake(execution: Execution) -> str:
    """What an orchestrator was perhaps meant to do, where its failure is of a well-known kind."""
    error, awaited, generator = execution.error, execution.awaited, execution._generator
    if isinstance(error, task.TaskFailedError):  # which says what another has to say
        return ""
    text, raised_by = str(error), _raised_by(error)
    yielded = raised_by == "dt_testkit.execution.execution._resume"
    if generator is not None and yielded and not isinstance(awaited, task.Task):
        return f"what it yielded is of type '{type(awaited).__name__}', and no task; {instead_of(awaited)}"
    if isinstance(awaited, task.WhenAllTask) and isinstance(awaited._tasks, GeneratorType):
        return "when_all() was given a generator; give it a list: when_all([...])"
    if raised_by == "dt_testkit.execution.context._start_timer" and isinstance(error, AttributeError):
        return "create_timer() takes a timedelta or a datetime, such as timedelta(seconds=5)"
    if raised_by == "durabletask.task.get_result" and "has not completed" in text:
        return "nobody has waited for that task; 'yield' it before its get_result()"
    if isinstance(error, TypeError) and text.startswith(("when_all() takes", "when_any() takes")):
        return f"it takes one list of tasks: {text[:8]}([...])"
    if raised_by == "durabletask.task.__init__" and "'is_complete'" in text:
        return "when_all() and when_any() take tasks alone"
    if isinstance(error, TypeError) and "OrchestrationContext.call_" in text and "positional" in text:
        return "the input is passed by its name: input=..."
    if isinstance(error, TypeError) and (why := _signature(execution.function, "orchestrator")):
        return why
    if not isinstance(error, (TypeError, AttributeError)):
        return _NO_RESULT if _TASK_WRITTEN.search(text) else ""
    if ("context manager" in text or "__enter__" in text) and any(
        isinstance(entry.command, LockEntities) for entry in execution.context._open.values()
    ):
        return "write 'with (yield ctx.lock_entities([...])):'"
    if _TASK.search(text):
        missing = getattr(error, "name", None)
        return _NO_RESULT if missing not in dir(task.TimerTask) else ""  # as only some tasks can be cancelled
    return ""


def _raised_by(error: BaseException | None) -> str:
    """The function that raised an exception, with its module."""
    traceback = error.__traceback__ if error is not None else None
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"


def _signature(function: Any, what: str) -> str:
    """How a function is to be written that cannot be called as it is registered."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not tell what it takes
        return ""
    try:
        signature.bind(None, None)
    except TypeError:
        pass
    else:
        return ""
    names = list(signature.parameters)
    called = f"an {what} is called with its context and its input"
    if len(names) > 2:
        return f"{called}, and no more; put what it takes into one input"
    first = names[0] if names else "_"
    both = f"{first}, _" if names and _CONTEXTS.fullmatch(first) else f"ctx, {first}"
    return f"{called}; write 'def {getattr(function, '__name__', '...')}({both})'"
