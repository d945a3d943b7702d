"""Conditions, loops and handlers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import expressions
from dt_testkit.lint.project import last_name
from dt_testkit.lint.rules import tasks
from dt_testkit.lint.values import UNKNOWN, Collection, Const, External, Made, Replaying, Value, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter
    from dt_testkit.lint.project import FunctionInfo

_EVERYTHING = ("BaseException", "GeneratorExit")
_EMPTY: dict[str, object] = {"int": 0, "float": 0.0, "bool": False, "str": "", "list": [], "dict": {}}


def decides_in_place(it: Interpreter, frame: Frame, node: ast.expr, value: Value) -> Value:
    """`and` and `or` outside of a condition."""
    if frame.in_run and any(isinstance(one, Replaying) for one in each(value)):
        it.reports.add(frame, node, "DT113", "`is_replaying` decides")
        return UNKNOWN
    return value


def condition(it: Interpreter, frame: Frame, test: ast.expr, value: Value, body: Sequence[ast.stmt]) -> bool:
    """Something is decided; returns whether what depends on it is only written for people."""
    if not frame.in_run:
        return False
    tasks.used_as_value(it, frame, test, value)
    if any(isinstance(one, Replaying) for one in each(value)):
        if body and all(_only_writes(statement) for statement in body):
            return True
        it.reports.add(frame, test, "DT113", "`is_replaying` decides")
    return False


def _only_writes(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(statement)):
        return False
    if isinstance(function, ast.Name):
        return function.id in ("print", "log")
    return isinstance(function, ast.Attribute) and function.attr in (
        "debug", "info", "warning", "error", "exception", "critical", "log", "write", "echo",
    )  # fmt: skip


def _yields_inside(body: Sequence[ast.AST]) -> bool:
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))
    return False


def _leaves(body: Sequence[ast.stmt]) -> bool:
    """Whether there is a way out of a loop, or of a function, in this part of its body."""
    stack: list[tuple[ast.AST, bool]] = [(node, True) for node in body]
    while stack:
        node, breaks = stack.pop()
        if isinstance(node, ast.Return | ast.Raise) or (isinstance(node, ast.Break) and breaks):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        inner = breaks and not isinstance(node, ast.For | ast.While)
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))
    return False


def endless_while(it: Interpreter, frame: Frame, node: ast.While) -> None:
    if (isinstance(node.test, ast.Constant) and node.test.value) or _tests_what_stays(frame, node):
        _endless(it, frame, node)


def _tests_what_stays(frame: Frame, node: ast.While) -> bool:
    """Whether the condition is a local variable that keeps the loop going, and is not set in it."""
    negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
    tested = node.test.operand if isinstance(node.test, ast.UnaryOp) and negated else node.test
    if not isinstance(tested, ast.Name) or frame.info is None:
        return False
    value = frame.env.names.get(tested.id)
    if not isinstance(value, Const) or value.type not in ("bool", "NoneType") or bool(value.value) is negated:
        return False
    is_set = any(
        (isinstance(inner, ast.Name) and inner.id == tested.id and not isinstance(inner.ctx, ast.Load))
        or getattr(inner, "name", None) == tested.id
        for inner in ast.walk(node)
    )
    return not is_set and not any(
        isinstance(inner, ast.Nonlocal) and tested.id in inner.names for inner in ast.walk(frame.info.node)
    )


def endless_for(it: Interpreter, frame: Frame, node: ast.For, iterable: Value) -> None:
    made = {one.of for one in each(iterable) if isinstance(one, Made)}
    call = node.iter
    arguments = len(call.args) + len(call.keywords) if isinstance(call, ast.Call) else 0
    if (
        made & {"itertools.count", "itertools.cycle"}
        or ("itertools.repeat" in made and arguments == 1)
        or (isinstance(call, ast.Call) and arguments == 2 and _never_gives(it, frame, call))
    ):
        _endless(it, frame, node)


def _never_gives(it: Interpreter, frame: Frame, call: ast.Call) -> bool:
    """Whether it is `iter(kind, end)`, and making that kind of value never gives that end."""
    with it.reports.collecting():
        function, *given = (expressions.evaluate(it, frame, part) for part in (call.func, *call.args))
    if function != External("iter") or len(given) != 2:
        return False
    kind, end = given
    if not isinstance(kind, External) or not isinstance(end, Const) or kind.name not in _EMPTY:
        return False
    return end.type not in ("bytes", "complex", "ellipsis") and bool(_EMPTY[kind.name] != end.value)


def calls_itself(it: Interpreter, frame: Frame, node: ast.YieldFrom, info: FunctionInfo) -> None:
    """`yield from` of the function that it is in, with no way around it."""
    body = info.node.body
    if info is not frame.info or not isinstance(body, list) or not frame.in_run or not frame.delegated:
        return
    for position, statement in enumerate(body):
        if getattr(statement, "value", None) is node and not _leaves(body[:position]):
            it.reports.add(frame, node, "DT115", f"`{info.name}` goes on for ever: it calls itself")


def _endless(it: Interpreter, frame: Frame, node: ast.While | ast.For) -> None:
    continues = any(
        isinstance(inner, ast.Attribute) and inner.attr == "continue_as_new" for inner in ast.walk(node)
    )
    if (
        frame.in_run
        and frame.delegated
        and _yields_inside(node.body)
        and not continues
        and not _leaves(node.body)
    ):
        it.reports.add(frame, node, "DT115", "a loop without an end")


def handlers(it: Interpreter, frame: Frame, node: ast.Try) -> None:
    if not frame.in_run or not frame.delegated or not _yields_inside(node.body):
        return
    for handler in node.handlers:
        with it.reports.collecting():
            caught_value = expressions.evaluate(it, frame, handler.type)
        kinds = caught_value.items if isinstance(caught_value, Collection) else (caught_value,)
        everything = handler.type is None or any(
            isinstance(one, External) and one.name in _EVERYTHING for kind in kinds for one in each(kind)
        )
        if everything and not _raises(handler.body):
            caught = "`except:`" if handler.type is None else f"`except {ast.unparse(handler.type)}`"
            it.reports.add(frame, handler, "DT119", f"{caught} around a yield")
    for statement in node.finalbody:
        if isinstance(statement, ast.Return):
            it.reports.add(frame, statement, "DT119", "`return` in a `finally` around a yield")


def _raises(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Raise)


def suppresses(it: Interpreter, frame: Frame, node: ast.With, expression: ast.expr) -> None:
    if not isinstance(expression, ast.Call) or last_name(expression.func) != "suppress" or not frame.in_run:
        return
    if any(last_name(kind) in _EVERYTHING for kind in expression.args) and _yields_inside(node.body):
        it.reports.add(frame, node, "DT119", "`suppress(BaseException)` around a yield")
