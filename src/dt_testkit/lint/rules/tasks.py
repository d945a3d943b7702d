"""Tasks: that each is yielded, that nothing else is, and what the methods of the context are given."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import objects
from dt_testkit.lint.rules import order, payloads, registration
from dt_testkit.lint.values import (
    UNKNOWN,
    Class,
    Collection,
    Const,
    Context,
    Durable,
    Function,
    Generator,
    Instance,
    Made,
    ModuleValue,
    Partial,
    Policy,
    Replaying,
    Task,
    Value,
    each,
    holds_context,
    tasks_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter

TASKS = frozenset(
    [
        "call_activity",
        "call_activity_with_retry",  # this and others of Azure Functions
        "call_sub_orchestrator",
        "call_sub_orchestrator_with_retry",
        "call_entity",
        "create_timer",
        "wait_for_external_event",
        "lock_entities",
        "call_http",
    ]
)
"""The methods of the context that ask for something and give its task."""
_COMMANDS = TASKS | {"signal_entity", "send_event"}
_KINDS = {"call_activity": "activity", "call_sub_orchestrator": "orchestrator"}
_INPUTS = {
    "call_activity": 1,
    "call_sub_orchestrator": 1,
    "call_entity": 2,
    "signal_entity": 2,
    "continue_as_new": 0,
    "set_custom_status": 0,
    "send_event": 9,
}
"""Which argument is the input, where it is no keyword."""
_SCALARS = frozenset(["str", "int", "float", "bool", "bytes", "complex"])
_NO_TASK_IN = (
    "asyncio.",
    "base64.",
    "concurrent.",
    "datetime.",
    "decimal.",
    "hashlib.",
    "json.",
    "math.",
    "os.",
    "pathlib.",
    "re.",
    "str.",
    "threading.",
    "time.",
    "uuid.",
)
"""Modules whose functions give no task, whatever they are given."""


def function_ends(it: Interpreter, frame: Frame) -> None:
    """The body was gone through: tell what is left over."""
    if not frame.in_run:
        return
    for _, node, name in frame.state.values():
        it.reports.add(frame, node, "DT109", f"`{name}` outlives the run")
    for origin, (node, name) in frame.pending.items():
        # A sub-orchestration has a life of its own.
        is_let_go = name == "call_sub_orchestrator" and origin not in frame.results
        if origin not in frame.consumed and not is_let_go:
            it.reports.add(frame, node, "DT111", f"the task of `{name}` is not yielded")


def thrown_away(it: Interpreter, frame: Frame, node: ast.Expr, value: Value) -> None:
    """An expression statement gives a value that nobody takes."""
    if not frame.in_run:
        return
    for one in each(value):
        if isinstance(one, Generator) and holds_context([*one.args, *(v for _, v in one.keywords)]):
            it.reports.add(
                frame, node.value, "DT111", f"`{one.function.info.name}()` is a generator that is never run"
            )
        elif isinstance(one, Task) and one.origin not in frame.pending:
            it.reports.add(frame, node.value, "DT111", "the task that the helper returns is not yielded")
        elif isinstance(one, Collection) and not (
            isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        ):
            for task in tasks_in(one):
                if task.origin not in frame.pending:
                    it.reports.add(frame, node.value, "DT111", "the tasks are not yielded")
                    break


def result_taken(it: Interpreter, frame: Frame, node: ast.expr, value: Value) -> bool:
    """The result of a task is taken: whether that says nothing of its being yielded, before or after."""
    taken = [task.origin for task in tasks_in(value) if task.origin in frame.pending]
    names = {frame.pending[origin][1] for origin in taken}
    if not taken or not names <= TASKS:  # a group is complete when its tasks are
        return False
    if isinstance(node, ast.Name):
        if frame.info is not None and _may_be_yielded_by_others(frame.info.node, taken):
            return False
        if any(getattr(origin, "lineno", 0) >= node.lineno for origin in taken):
            return False  # of an earlier round of a loop, whose condition may have yielded it
        frame.results.update(taken)
        return True
    if node in taken and frame.in_run and names != {"wait_for_external_event"}:  # it may have come already
        it.reports.add(frame, node, "DT111", f"the task of `{frame.pending[node][1]}` is not yielded")
    return False


def _may_be_yielded_by_others(function: ast.AST, origins: list[ast.AST]) -> bool:
    """Whether there are inner functions, which share its names, or somebody is handed one of the tasks."""
    for node in ast.walk(function):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and node is not function:
            return True
        if isinstance(node, ast.Call) and any(argument in origins for argument in node.args):
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if method not in ("append", "insert"):  # of a list
                return True
    return False


def used_as_value(it: Interpreter, frame: Frame, node: ast.expr, value: Value) -> None:
    """A value is computed with, compared or printed."""
    if frame.in_run and isinstance(value, Task):
        it.reports.add(frame, node, "DT111", "a task is used where its result is meant")


def yields(it: Interpreter, frame: Frame, node: ast.Yield, value: Value) -> None:
    if not frame.in_run or not frame.delegated or (frame.info and frame.info.is_decorated("contextmanager")):
        return
    wrong = [_no_task(it, one) for one in each(value)]
    if wrong and all(wrong):
        it.reports.add(frame, node, "DT112", f"{wrong[0]} is no task")


def yields_from(it: Interpreter, frame: Frame, node: ast.YieldFrom, value: Collection) -> None:
    order.ordered_use(it, frame, node, value, "yield from")
    if frame.in_run and frame.delegated:
        frame.consumed.update(task.origin for task in tasks_in(value))
        it.reports.add(frame, node, "DT112", f"`yield from` a {value.type}, which cannot take the results,")


def _no_task(it: Interpreter, value: Value) -> str:
    if isinstance(value, Const):
        return "`None`" if value.type == "NoneType" else f"a constant ({value.type})"
    if isinstance(value, Collection):
        return f"a {value.type}"
    if isinstance(value, Generator):
        return f"the generator `{value.function.info.name}()`"
    if isinstance(value, Made):
        plain = value.of in _SCALARS or value.of.startswith(_NO_TASK_IN)
        return f"`{value.of}`" if plain and not value.reported else ""
    if isinstance(value, Function | Class | Partial | Context | Durable | Replaying | ModuleValue):
        return "what is not called" if isinstance(value, Durable | Function) else "this"
    if isinstance(value, Instance) and all(isinstance(base, Class) for base in objects.bases(it, value.info)):
        return f"`{value.info.name}`"
    return ""


def returns(it: Interpreter, frame: Frame, node: ast.Return, value: Value) -> Value:
    """Something is returned; what the caller is to see of it."""
    if frame.in_run and frame.is_orchestrator and frame.info is not None:
        # What a decorator makes of a plain function may yield what that returns.
        function = frame.info.node
        is_bare = isinstance(function, ast.FunctionDef) and not function.decorator_list
        is_whole = frame.info.is_generator or is_bare
        if isinstance(value, Task) and is_whole:
            it.reports.add(frame, node, "DT111", "a task is returned instead of its result")
        elif (why := payloads.no_json(it, frame, value)) and not isinstance(value, Task):
            it.reports.add(frame, node, "DT122", f"the result is {why}")
    return value


def durable_call(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value], keywords: dict[str, Value]
) -> None:
    """A method of the context is called."""
    if not frame.in_run:
        return
    if frame.continued and name in _COMMANDS:
        it.reports.add(frame, node, "DT114", f"`{name}` after `continue_as_new`")
    if name in _KINDS and args:
        registration.check_name(it, frame, node, _KINDS[name], args[0])
    if name in ("call_entity", "signal_entity"):
        named = [keywords.get("entity", keywords.get("entity_id", UNKNOWN)),
                 keywords.get("operation", keywords.get("operation_name", UNKNOWN))]  # fmt: skip
        entity, operation = [*args[:2], *named[len(args[:2]) :]]
        registration.check_entity(it, frame, node, entity, operation)
    policy = keywords.get("retry_policy")
    if policy is not None:
        for one in each(policy):
            if isinstance(one, Policy):
                for code, place, what in one.problems:
                    it.reports.add(frame, place, code, what, path=one.module.shown)
    if name not in _INPUTS:
        return
    given = keywords.get(
        "input", keywords.get("data", keywords.get("new_input", keywords.get("custom_status")))
    )
    if given is None and len(args) > _INPUTS[name]:
        given = args[_INPUTS[name]]
    if given is not None and (why := payloads.no_json(it, frame, given)):
        it.reports.add(frame, node, "DT122", f"the input of `{name}` is {why}")
    if name == "call_activity" and args:
        payloads.check_input(it, frame, node, args[0], given, keywords)
    if name not in ("set_custom_status", "continue_as_new") and isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg in ("input", "data") and isinstance(keyword.value, ast.Name):
                frame.passed[keyword.value.id] = node
        position = _INPUTS[name]
        if (
            name.endswith("_entity")
            and len(node.args) > position
            and isinstance(node.args[position], ast.Name)
        ):
            passed = node.args[position]
            if isinstance(passed, ast.Name):
                frame.passed[passed.id] = node
