"""Conditions, loops and handlers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import expressions
from dt_testkit.lint.project import last_name
from dt_testkit.lint.rules import tasks
from dt_testkit.lint.values import (
    UNKNOWN,
    Collection,
    Const,
    External,
    Function,
    Made,
    Replaying,
    Value,
    each,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter
    from dt_testkit.lint.project import FunctionInfo

_EVERYTHING = ("BaseException", "GeneratorExit")
_ENDLESS = frozenset(["itertools.count", "itertools.cycle"])
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
    if _made(iterable) & _ENDLESS or _never_ends(it, frame, node.iter):
        _endless(it, frame, node)


def _made(value: Value) -> set[str]:
    return {one.of for one in each(value) if isinstance(one, Made)}


def _never_ends(it: Interpreter, frame: Frame, node: ast.expr) -> bool:
    """Whether an iterator always has one more."""
    if isinstance(node, ast.GeneratorExp):
        return any(_never_ends(it, frame, generator.iter) for generator in node.generators)
    with it.reports.collecting():
        value = expressions.evaluate(it, frame, node)
        function = expressions.evaluate(it, frame, node.func) if isinstance(node, ast.Call) else None
    if _made(value) & _ENDLESS:
        return True
    if not isinstance(node, ast.Call) or not isinstance(function, External):
        return False
    if function.name == "itertools.repeat":
        return len(node.args) + len(node.keywords) == 1
    if function.name == "iter" and len(node.args) == 2:
        return _never_gives(it, frame, *node.args)
    through = {
        **dict.fromkeys(("iter", "enumerate", "itertools.accumulate"), node.args[:1]),
        **dict.fromkeys(("map", "filter", "itertools.filterfalse", "itertools.dropwhile"), node.args[1:]),
        "zip": node.args,
    }.get(function.name, ())
    if function.name == "itertools.chain":
        return any(_never_ends(it, frame, part) for part in node.args)
    return bool(through) and all(_never_ends(it, frame, part) for part in through)


def _never_gives(it: Interpreter, frame: Frame, make: ast.expr, until: ast.expr) -> bool:
    """Whether `iter(make, until)` goes on: what is made is always the same, and not that."""
    with it.reports.collecting():
        kind, end = expressions.evaluate(it, frame, make), expressions.evaluate(it, frame, until)
    if not isinstance(end, Const) or end.type in ("bytes", "complex", "ellipsis"):
        return False
    if isinstance(kind, Function) and isinstance(kind.info.node, ast.Lambda):
        same = kind.info.node.body
        return isinstance(same, ast.Constant) and bool(same.value != end.value)
    return isinstance(kind, External) and kind.name in _EMPTY and bool(_EMPTY[kind.name] != end.value)


def calls_itself(it: Interpreter, frame: Frame, node: ast.YieldFrom, info: FunctionInfo) -> None:
    """`yield from` with no way around it, which leads back to the function that it is in."""
    mine = frame.info
    if mine is None or not isinstance(mine.node.body, list) or not frame.in_run or not frame.delegated:
        return
    body = mine.node.body
    at = [place for place, statement in enumerate(body) if getattr(statement, "value", None) is node]
    if not at or _leaves(body[: at[0]]):
        return
    it.always.setdefault(mine, {})[info] = None
    around = _way(it.always, info, mine)
    if around is None or it.circles.setdefault(frozenset(around), node) is not node:
        return
    what = "it calls itself"
    if len(around) > 1:
        what = "it calls itself through " + " and ".join(f"`{info.name}`" for info in around[:-1])
    it.reports.add(frame, node, "DT115", f"`{mine.name}` goes on for ever: {what}")


def _way(
    always: dict[FunctionInfo, dict[FunctionInfo, None]], start: FunctionInfo, end: FunctionInfo
) -> list[FunctionInfo] | None:
    """The functions from one to another, both with them, of which each always calls the next."""
    ways = [[start]]
    seen = {start}
    for way in ways:
        if way[-1] is end:
            return way
        for following in always.get(way[-1], ()):
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


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
