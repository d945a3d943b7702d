"""What statements do to the variables of a frame; each kind of node has a function."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any

from dt_testkit.lint import calls, expressions, names, objects
from dt_testkit.lint.project import Imported, last_name, root_name
from dt_testkit.lint.rules import effects, flow, order, payloads, state, tasks, unresolved
from dt_testkit.lint.values import (
    UNKNOWN,
    Class,
    Collection,
    Function,
    Generator,
    Instance,
    Made,
    Value,
    each,
    element_of,
    join,
    tasks_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter


def block(it: Interpreter, frame: Frame, body: Sequence[ast.stmt]) -> bool:
    """Go through statements; returns whether the code after them is not reached."""
    return any(statement(it, frame, one) for one in body)


def statement(it: Interpreter, frame: Frame, node: ast.stmt) -> bool:
    method = _BY_KIND.get(type(node))
    if method is not None:
        before = set(frame.pending)
        ends = method(it, frame, node)
        if not isinstance(
            node,
            ast.Expr | ast.Assign | ast.AnnAssign | ast.If | ast.For | ast.While | ast.With | ast.Try,
        ):
            frame.consumed.update(set(frame.pending) - before)
        return ends
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            expressions.evaluate(it, frame, child)
    return False


def _expr(it: Interpreter, frame: Frame, node: ast.Expr) -> bool:
    before = set(frame.pending)
    value = expressions.evaluate(it, frame, node.value)
    left = {task.origin for task in tasks_in(value)}
    function = node.value.func if isinstance(node.value, ast.Call) else None
    if isinstance(function, ast.Attribute) and function.attr in ("append", "add", "insert"):
        target = frame.env.names.get(last_name(function.value), UNKNOWN)
        if isinstance(target, Collection):
            left = {task.origin for task in tasks_in(target)}
    if isinstance(node.value, ast.Yield | ast.YieldFrom | ast.Await):
        left = set()
    frame.consumed.update(set(frame.pending) - before - left)
    if not isinstance(node.value, ast.Yield | ast.YieldFrom):
        tasks.thrown_away(it, frame, node, value)
    return False


def _assign(it: Interpreter, frame: Frame, node: ast.Assign) -> bool:
    before = set(frame.pending)
    value = expressions.evaluate(it, frame, node.value)
    kept: set[ast.AST] = set()
    if all(isinstance(target, ast.Name) for target in node.targets):
        kept = {task.origin for task in tasks_in(value)}
    if isinstance(node.value, ast.Yield | ast.YieldFrom | ast.Await):
        kept = set()
    frame.consumed.update(set(frame.pending) - before - kept)
    if isinstance(node.value, ast.Name):
        for task in tasks_in(value):
            frame.consumed.add(task.origin)
    for target in node.targets:
        assign(it, frame, target, value)
    return False


def _ann_assign(it: Interpreter, frame: Frame, node: ast.AnnAssign) -> bool:
    if node.value is None:
        return False
    before = set(frame.pending)
    value = expressions.evaluate(it, frame, node.value)
    kept = (
        {task.origin for task in tasks_in(value)}
        if not isinstance(node.value, ast.Yield | ast.YieldFrom)
        else set()
    )
    frame.consumed.update(set(frame.pending) - before - kept)
    payloads.annotated_result(it, frame, node, value)
    declared = names.annotated(it, node.annotation, frame.env.scope)
    assign(it, frame, node.target, declared if value is UNKNOWN else value)
    return False


def _aug_assign(it: Interpreter, frame: Frame, node: ast.AugAssign) -> bool:
    value = expressions.evaluate(it, frame, node.value)
    state.mutation(it, frame, node, node.target, rebinds=True)
    if isinstance(node.target, ast.Name):
        old = frame.env.names.get(node.target.id, UNKNOWN)
        if isinstance(old, Collection):
            order.ordered_use(it, frame, node, value, "+=") if old.type == "list" else None
            items = value.items if isinstance(value, Collection) else ()
            frame.env.names[node.target.id] = Collection(old.type, (*old.items, *items)[:300], old.unordered)
        else:
            frame.env.names[node.target.id] = UNKNOWN if not isinstance(old, Made) else old
    return False


def assign(it: Interpreter, frame: Frame, target: ast.expr, value: Value) -> None:
    if isinstance(target, ast.Name):
        if target.id in frame.env.scope.declared_global | frame.env.scope.declared_nonlocal:
            state.mutation(it, frame, target, target, rebinds=True)
        frame.env.names[target.id] = value
        frame.passed.pop(target.id, None)
        frame.mutable_defaults.discard(target.id)
    elif isinstance(target, ast.Tuple | ast.List):
        order.ordered_use(it, frame, target, value, "unpacking")
        if isinstance(value, Generator):
            calls.consume(it, frame, target, value)
        for position, part in enumerate(target.elts):
            assign(it, frame, part, names.part_of(it, value, position))
    elif isinstance(target, ast.Starred):
        assign(it, frame, target.value, UNKNOWN)
    elif isinstance(target, ast.Attribute | ast.Subscript):
        if isinstance(target, ast.Subscript):
            expressions.evaluate(it, frame, target.slice)
        root = root_name(target)
        if root is not None:
            local = frame.env.names.get(root.id)
            if (
                isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Name)
                and isinstance(local, Collection)
            ):
                items = tuple(dict.fromkeys([*local.items, *each(value)]))[:300]
                frame.env.names[root.id] = Collection(local.type, items, local.unordered)
        state.mutation(it, frame, target, target)


def _delete(it: Interpreter, frame: Frame, node: ast.Delete) -> bool:
    for target in node.targets:
        if isinstance(target, ast.Attribute | ast.Subscript):
            state.mutation(it, frame, target, target)
    return False


def _return(it: Interpreter, frame: Frame, node: ast.Return) -> bool:
    value = expressions.evaluate(it, frame, node.value)
    frame.returned.append(tasks.returns(it, frame, node, value))
    return True


def _raise(it: Interpreter, frame: Frame, node: ast.Raise) -> bool:
    for part in (node.exc, node.cause):
        if part is not None:
            expressions.evaluate(it, frame, part)
    return True


def _break(it: Interpreter, frame: Frame, node: ast.Break) -> bool:
    frame.breaks.append((frame.env.names, frame.continued))
    return True


def _continue(it: Interpreter, frame: Frame, node: ast.Continue) -> bool:
    frame.jumps.append((frame.env.names, frame.continued))
    return True


def condition(it: Interpreter, frame: Frame, test: ast.expr, body: Sequence[ast.stmt]) -> bool:
    """Evaluate a condition; returns whether its body is only for the first run, and only writes."""
    frame.tested = test
    value = expressions.evaluate(it, frame, test)
    frame.tested = None
    calls.call_special(it, frame, test, "bool", value)
    return flow.condition(it, frame, test, value, body)


def _branches(it: Interpreter, frame: Frame, branches: list[Sequence[ast.stmt]]) -> bool:
    before, continued = dict(frame.env.names), frame.continued
    ended: list[bool] = []
    states: list[tuple[dict[str, Value], bool]] = []
    for branch in branches:
        frame.env.names, frame.continued = dict(before), continued
        end = block(it, frame, branch)
        ended.append(end)
        if not end:
            states.append((frame.env.names, frame.continued))
    if not states:
        frame.env.names = before
        frame.continued = continued
        return True
    _merge(it, frame, states)
    return False


def _merge(it: Interpreter, frame: Frame, states: list[tuple[dict[str, Value], bool]]) -> None:
    names = {name: None for state, _ in states for name in state}
    if len(states) == 1:
        frame.env.names = states[0][0]
    else:
        frame.env.names = {name: join([s[name] for s, _ in states if name in s], 12) for name in names}
    frame.continued = any(continued for _, continued in states)


def _if(it: Interpreter, frame: Frame, node: ast.If) -> bool:
    before = set(frame.pending)
    quiet = condition(it, frame, node.test, [*node.body, *node.orelse])
    frame.consumed.update(set(frame.pending) - before)
    frame.guarded += quiet
    ended = _branches(it, frame, [node.body, node.orelse])
    frame.guarded -= quiet
    return ended


def _match(it: Interpreter, frame: Frame, node: ast.Match) -> bool:
    condition(it, frame, node.subject, [])
    for case in node.cases:
        for pattern in ast.walk(case.pattern):
            if isinstance(pattern, ast.MatchAs | ast.MatchStar) and pattern.name:
                frame.env.names[pattern.name] = UNKNOWN
        if case.guard is not None:
            condition(it, frame, case.guard, [])
    catches_all = any(
        isinstance(c.pattern, ast.MatchAs) and c.pattern.pattern is None and c.guard is None
        for c in node.cases
    )
    return _branches(it, frame, [*(case.body for case in node.cases), *([] if catches_all else [[]])])


def _loop(it: Interpreter, frame: Frame, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
    before = dict(frame.env.names), frame.continued
    jumps, breaks = frame.jumps, frame.breaks
    frame.breaks = []
    for _ in range(2):
        start = dict(frame.env.names), frame.continued
        frame.jumps = []
        ended = block(it, frame, body)
        states = (
            [before, *frame.jumps] if ended else [before, *frame.jumps, (frame.env.names, frame.continued)]
        )
        _merge(it, frame, states)
        if (frame.env.names, frame.continued) == start:
            break
    block(it, frame, orelse)
    _merge(it, frame, [(frame.env.names, frame.continued), *frame.breaks])
    frame.jumps, frame.breaks = jumps, breaks


def _for(it: Interpreter, frame: Frame, node: ast.For) -> bool:
    iterable = expressions.evaluate(it, frame, node.iter)
    order.ordered_use(it, frame, node.iter, iterable, "a loop", loop=node)
    assign(it, frame, node.target, calls.consume(it, frame, node.iter, iterable))
    flow.endless_for(it, frame, node, iterable)
    _loop(it, frame, node.body, node.orelse)
    return False


def _async_for(it: Interpreter, frame: Frame, node: ast.AsyncFor) -> bool:
    expressions.evaluate(it, frame, node.iter)
    assign(it, frame, node.target, UNKNOWN)
    _loop(it, frame, node.body, node.orelse)
    return False


def _while(it: Interpreter, frame: Frame, node: ast.While) -> bool:
    condition(it, frame, node.test, node.body)
    flow.endless_while(it, frame, node)
    forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
    _loop(it, frame, node.body, node.orelse)
    return forever and not any(isinstance(n, ast.Break) for n in _loop_nodes(node))


def _with(it: Interpreter, frame: Frame, node: ast.With) -> bool:
    allowed = frame.allowed
    for item in node.items:
        frame.allowed += effects.allows(it, frame, item.context_expr)
        value = expressions.evaluate(it, frame, item.context_expr)
        flow.suppresses(it, frame, node, item.context_expr)
        entered: list[Value] = []
        for one in each(value):
            if isinstance(one, Made):
                enter = f"{one.of}.__enter__"
                if not one.reported and not effects.external_call(
                    it, frame, item.context_expr, enter, [], {}
                ):
                    unresolved.outside_call(it, frame, item.context_expr, enter, [])
                entered.append(one)
            elif isinstance(one, Instance):
                for name in ("__enter__", "__exit__"):
                    method = objects.attribute(it, frame, item.context_expr, one, name)
                    if isinstance(method, Function):
                        args: list[Value] = [UNKNOWN] * 3 if name == "__exit__" else []
                        result = calls.call(it, frame, item.context_expr, method, args, {})
                        if name == "__enter__":
                            entered.append(result)
            elif isinstance(one, Collection):
                entered.append(element_of(one))
            else:
                entered.append(UNKNOWN)
        if item.optional_vars is not None:
            assign(it, frame, item.optional_vars, join(entered))
    ended = block(it, frame, node.body)
    frame.allowed = allowed
    return ended


def _async_with(it: Interpreter, frame: Frame, node: ast.AsyncWith) -> bool:
    for item in node.items:
        expressions.evaluate(it, frame, item.context_expr)
        if item.optional_vars is not None:
            assign(it, frame, item.optional_vars, UNKNOWN)
    return block(it, frame, node.body)


def _try(it: Interpreter, frame: Frame, node: ast.Try) -> bool:
    flow.handlers(it, frame, node)
    before, continued = dict(frame.env.names), frame.continued
    states: list[tuple[dict[str, Value], bool]] = []
    ended = block(it, frame, node.body)
    after = frame.env.names
    if not ended:
        ended = block(it, frame, node.orelse)
    if not ended:
        states.append((frame.env.names, frame.continued))
    for handler in node.handlers:
        frame.env.names = {
            name: join([v for v in (before.get(name), after.get(name)) if v is not None], 12)
            for name in {**before, **after}
        }
        frame.continued = continued
        if handler.name:
            frame.env.names[handler.name] = UNKNOWN
        if not block(it, frame, handler.body):
            states.append((frame.env.names, frame.continued))
    if states:
        _merge(it, frame, states)
    return block(it, frame, node.finalbody) or not states


def _import(it: Interpreter, frame: Frame, node: ast.Import) -> bool:
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        frame.env.names[name] = names.imported(
            it, Imported(alias.name if alias.asname else name, 0, None), frame.module
        )
    return False


def _import_from(it: Interpreter, frame: Frame, node: ast.ImportFrom) -> bool:
    for alias in node.names:
        if alias.name != "*":
            imported = Imported(node.module or "", node.level, alias.name)
            frame.env.names[alias.asname or alias.name] = names.imported(it, imported, frame.module)
            state.imported_in_run(it, frame, node, imported)
    return False


def _function_def(it: Interpreter, frame: Frame, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    info = frame.module.function(node, frame.env.scope)
    frame.env.names[node.name] = it.decorated(info, frame.env)
    return False


def _class_def(it: Interpreter, frame: Frame, node: ast.ClassDef) -> bool:
    frame.env.names[node.name] = Class(frame.module.class_(node, frame.env.scope))
    return False


def _assert(it: Interpreter, frame: Frame, node: ast.Assert) -> bool:
    condition(it, frame, node.test, [])
    return False


def _loop_nodes(loop: ast.While | ast.For) -> list[ast.AST]:
    """The nodes of a loop's body, without those of loops and functions in it."""
    found: list[ast.AST] = []
    stack: list[ast.AST] = list(loop.body)
    while stack:
        node = stack.pop()
        found.append(node)
        if not isinstance(
            node, ast.For | ast.While | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
        ):
            stack.extend(ast.iter_child_nodes(node))
    return found


_BY_KIND: dict[type[ast.AST], Callable[[Interpreter, Frame, Any], bool]] = {
    ast.Expr: _expr,
    ast.Assign: _assign,
    ast.AnnAssign: _ann_assign,
    ast.AugAssign: _aug_assign,
    ast.Delete: _delete,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.If: _if,
    ast.Match: _match,
    ast.For: _for,
    ast.AsyncFor: _async_for,
    ast.While: _while,
    ast.With: _with,
    ast.AsyncWith: _async_with,
    ast.Try: _try,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.FunctionDef: _function_def,
    ast.ClassDef: _class_def,
    ast.Assert: _assert,
    ast.AsyncFunctionDef: _function_def,
}
if sys.version_info >= (3, 11):
    _BY_KIND[ast.TryStar] = _try
