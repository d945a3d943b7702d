"""What expressions stand for; each kind of node has a function."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from dt_testkit.lint import calls, names, objects, statements
from dt_testkit.lint.rules import flow, order, state, tasks
from dt_testkit.lint.values import (
    NONE,
    UNKNOWN,
    Class,
    Collection,
    Const,
    External,
    Function,
    Generator,
    Made,
    Replaying,
    Task,
    Value,
    each,
    element_of,
    join,
    tasks_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter


def evaluate(it: Interpreter, frame: Frame, node: ast.expr | None) -> Value:
    """What an expression stands for."""
    if node is None:
        return NONE
    method = _BY_KIND.get(type(node))
    if method is not None:
        return method(it, frame, node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            evaluate(it, frame, child)
    return UNKNOWN


def _constant(it: Interpreter, frame: Frame, node: ast.Constant) -> Value:
    value = node.value
    return Const(type(value).__name__, value if isinstance(value, str | int | float | bool) else None)


def _name(it: Interpreter, frame: Frame, node: ast.Name) -> Value:
    value = names.lookup(it, frame, node)
    for task in tasks_in(value):
        frame.consumed.add(task.origin)
    return value


def _attribute(it: Interpreter, frame: Frame, node: ast.Attribute) -> Value:
    if names.is_super(node.value):
        return objects.above(it, frame, node)
    return objects.attribute(it, frame, node, evaluate(it, frame, node.value), node.attr)


def _subscript(it: Interpreter, frame: Frame, node: ast.Subscript) -> Value:
    value, index = evaluate(it, frame, node.value), evaluate(it, frame, node.slice)
    tasks.used_as_value(it, frame, node.value, value)
    calls.call_special(it, frame, node, "[]", value)
    if isinstance(value, Collection):
        if isinstance(node.slice, ast.Slice):
            return value
        position = index.value if isinstance(index, Const) else None
        if value.type == "tuple" and isinstance(position, int):
            if -len(value.items) <= position < len(value.items):
                return value.items[position]
            return UNKNOWN
        return join(value.items) if value.type == "dict" else element_of(value)
    if isinstance(value, Class):
        return value
    return UNKNOWN


def _slice(it: Interpreter, frame: Frame, node: ast.Slice) -> Value:
    for part in (node.lower, node.upper, node.step):
        if part is not None:
            evaluate(it, frame, part)
    return UNKNOWN


def _starred(it: Interpreter, frame: Frame, node: ast.Starred) -> Value:
    value = evaluate(it, frame, node.value)
    order.ordered_use(it, frame, node, value, "unpacking")
    return calls.consume(it, frame, node, value)


def _joined_str(it: Interpreter, frame: Frame, node: ast.JoinedStr) -> Value:
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            value = evaluate(it, frame, part.value)
            tasks.used_as_value(it, frame, part.value, value)
            calls.call_special(it, frame, part.value, "str", value)
    return Made("str")


def _collection(it: Interpreter, frame: Frame, node: ast.List | ast.Tuple | ast.Set, kind: str) -> Value:
    items: list[Value] = []
    for part in node.elts:
        items.extend(each(evaluate(it, frame, part)))
    return Collection(kind, tuple(items[:300]), unordered=kind == "set")


def _list(it: Interpreter, frame: Frame, node: ast.List) -> Value:
    return _collection(it, frame, node, "list")


def _tuple(it: Interpreter, frame: Frame, node: ast.Tuple) -> Value:
    return _collection(it, frame, node, "tuple")


def _set(it: Interpreter, frame: Frame, node: ast.Set) -> Value:
    return _collection(it, frame, node, "set")


def _dict(it: Interpreter, frame: Frame, node: ast.Dict) -> Value:
    items: list[Value] = []
    for key, part in zip(node.keys, node.values, strict=True):
        if key is not None:
            evaluate(it, frame, key)
            items.extend(each(evaluate(it, frame, part)))
        else:
            evaluate(it, frame, part)
    return Collection("dict", tuple(dict.fromkeys(items)))


def _bin_op(it: Interpreter, frame: Frame, node: ast.BinOp) -> Value:
    left, right = evaluate(it, frame, node.left), evaluate(it, frame, node.right)
    calls.call_special(it, frame, node, type(node.op).__name__, left)
    tasks.used_as_value(it, frame, node.left, left)
    tasks.used_as_value(it, frame, node.right, right)
    sides = [one for side in (left, right) for one in each(side)]
    if any(isinstance(one, Collection) and one.type == "set" for one in sides):
        return Collection("set", unordered=True)
    if any(isinstance(one, Collection) and one.type == "list" for one in sides):
        return Collection("list", tuple(i for one in sides if isinstance(one, Collection) for i in one.items))
    if isinstance(left, Made) and left.of in ("pathlib.Path", "datetime.timedelta") and not left.reported:
        return left
    if isinstance(left, Made | Const) and (left.of if isinstance(left, Made) else left.type) == "str":
        return Made("str")
    if isinstance(left, Const) and isinstance(right, Const) and left.type == right.type:
        return Const(left.type)
    if (
        isinstance(left, Made)
        and left.of == "datetime.datetime"
        and isinstance(right, Made)
        and right.of == "datetime.timedelta"
    ):
        return left
    return UNKNOWN


def _bool_op(it: Interpreter, frame: Frame, node: ast.BoolOp) -> Value:
    value = join([evaluate(it, frame, value) for value in node.values])
    if node is not frame.tested:
        return flow.decides_in_place(it, frame, node, value)
    return value


def _unary_op(it: Interpreter, frame: Frame, node: ast.UnaryOp) -> Value:
    value = evaluate(it, frame, node.operand)
    if isinstance(node.op, ast.Not):
        return value if any(isinstance(one, Replaying) for one in each(value)) else Made("bool")
    return value if isinstance(value, Const) else UNKNOWN


def _compare(it: Interpreter, frame: Frame, node: ast.Compare) -> Value:
    sides = [evaluate(it, frame, node.left), *(evaluate(it, frame, part) for part in node.comparators)]
    for side in sides:
        calls.call_special(it, frame, node, type(node.ops[0]).__name__, side)
    if any(isinstance(one, Replaying) for side in sides for one in each(side)):
        return Replaying()
    if all(
        not isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn | ast.Eq | ast.NotEq) for op in node.ops
    ):
        for part, side in zip([node.left, *node.comparators], sides, strict=True):
            tasks.used_as_value(it, frame, part, side)
    return Made("bool")


def _if_exp(it: Interpreter, frame: Frame, node: ast.IfExp) -> Value:
    statements.condition(it, frame, node.test, [])
    return join([evaluate(it, frame, node.body), evaluate(it, frame, node.orelse)])


def _named_expr(it: Interpreter, frame: Frame, node: ast.NamedExpr) -> Value:
    value = evaluate(it, frame, node.value)
    statements.assign(it, frame, node.target, value)
    return value


def _await(it: Interpreter, frame: Frame, node: ast.Await) -> Value:
    return evaluate(it, frame, node.value)


def _lambda(it: Interpreter, frame: Frame, node: ast.Lambda) -> Value:
    return Function(frame.module.function(node, frame.env.scope), None, frame.env if frame.in_run else None)


def _yield(it: Interpreter, frame: Frame, node: ast.Yield) -> Value:
    value = evaluate(it, frame, node.value)
    frame.yielded.append(value)
    frame.consumed.update(task.origin for task in tasks_in(value))
    tasks.yields(it, frame, node, value)
    results = [one.result if isinstance(one, Task) else UNKNOWN for one in each(value)]
    frame.passed.clear()
    return join(results)


def _yield_from(it: Interpreter, frame: Frame, node: ast.YieldFrom) -> Value:
    value = evaluate(it, frame, node.value)
    found: list[Value] = []
    for one in each(value):
        if isinstance(one, Generator):
            flow.calls_itself(it, frame, node, one.function.info)
            found.append(
                it.enter(frame, node.value, one.function, one.args, dict(one.keywords), delegated=True)
            )
        else:
            if isinstance(one, Collection):
                tasks.yields_from(it, frame, node, one)
            found.append(UNKNOWN)
    frame.passed.clear()
    return join(found)


def _comprehension(
    it: Interpreter,
    frame: Frame,
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp,
    element: ast.expr,
) -> tuple[Value, bool]:
    unordered = False
    before = dict(frame.env.names)
    quiet = set(frame.consumed)
    for generator in node.generators:
        iterable = evaluate(it, frame, generator.iter)
        unordered = unordered or order.is_unordered(iterable)
        if isinstance(node, ast.ListComp | ast.DictComp) and not getattr(node, "_order_free", False):
            order.ordered_use(it, frame, generator.iter, iterable, "a comprehension")
        statements.assign(it, frame, generator.target, calls.consume(it, frame, generator.iter, iterable))
        for test in generator.ifs:
            statements.condition(it, frame, test, [])
    if isinstance(node, ast.DictComp):
        evaluate(it, frame, node.key)
    value = evaluate(it, frame, element)
    if _takes_results(node, element) and tasks.result_taken(it, frame, node.generators[0].iter, iterable):
        frame.consumed = quiet
    frame.env.names = {**frame.env.names, **before}
    for name in set(frame.env.names) - set(before):
        del frame.env.names[name]
    return value, unordered


def _takes_results(
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, element: ast.expr
) -> bool:
    """Whether it is ``task.get_result() for task in tasks``, and no more."""
    return (
        isinstance(element, ast.Call)
        and isinstance(element.func, ast.Attribute)
        and element.func.attr == "get_result"
        and isinstance(element.func.value, ast.Name)
        and [ast.unparse(one.target) for one in node.generators if not one.ifs] == [element.func.value.id]
    )


def _list_comp(it: Interpreter, frame: Frame, node: ast.ListComp) -> Value:
    value, _ = _comprehension(it, frame, node, node.elt)
    return Collection("list", tuple(each(value)))


def _set_comp(it: Interpreter, frame: Frame, node: ast.SetComp) -> Value:
    value, _ = _comprehension(it, frame, node, node.elt)
    return Collection("set", tuple(each(value)), unordered=True)


def _generator_exp(it: Interpreter, frame: Frame, node: ast.GeneratorExp) -> Value:
    value, unordered = _comprehension(it, frame, node, node.elt)
    return Collection("generator", tuple(each(value)), unordered=unordered)


def _dict_comp(it: Interpreter, frame: Frame, node: ast.DictComp) -> Value:
    value, _ = _comprehension(it, frame, node, node.value)
    return Collection("dict", tuple(each(value)))


def _call(it: Interpreter, frame: Frame, node: ast.Call) -> Value:
    receiver: Value = UNKNOWN
    if isinstance(node.func, ast.Attribute) and names.is_super(node.func.value):
        function = objects.above(it, frame, node.func)
    elif isinstance(node.func, ast.Attribute):
        quiet = set(frame.consumed)
        receiver = evaluate(it, frame, node.func.value)
        grows = (
            node.func.attr in ("append", "extend", "add", "insert")
            and isinstance(node.func.value, ast.Name)
            and isinstance(receiver, Collection)
        )
        if grows or (
            node.func.attr == "get_result" and tasks.result_taken(it, frame, node.func.value, receiver)
        ):
            frame.consumed = quiet
        function = objects.attribute(it, frame, node.func, receiver, node.func.attr)
    else:
        function = evaluate(it, frame, node.func)
    if isinstance(function, External) and function.name in order.ORDER_FREE:
        for argument in node.args:
            if isinstance(argument, ast.ListComp):
                argument._order_free = True  # type: ignore[attr-defined]
    args: list[Value] = []
    for argument in node.args:
        value = evaluate(it, frame, argument)
        if isinstance(argument, ast.Starred):
            args.extend([value])
        else:
            args.append(value)
    keywords = {keyword.arg: evaluate(it, frame, keyword.value) for keyword in node.keywords if keyword.arg}
    for keyword in node.keywords:
        if keyword.arg is None:
            evaluate(it, frame, keyword.value)
    if isinstance(node.func, ast.Attribute):
        special = calls.method_of_value(it, frame, node, receiver, node.func, args)
        if special is not None:
            return special
    if function is UNKNOWN and isinstance(node.func, ast.Attribute) and frame.in_run:
        inherited = objects.inherited(it, receiver, node.func.attr)
        if inherited is not None:
            calls.call(it, frame, node, inherited, args, keywords)
            return UNKNOWN
    state.shared_argument(it, frame, node, function)
    return calls.call(it, frame, node, function, args, keywords)


_BY_KIND: dict[type[ast.AST], Callable[[Interpreter, Frame, Any], Value]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Starred: _starred,
    ast.JoinedStr: _joined_str,
    ast.List: _list,
    ast.Tuple: _tuple,
    ast.Set: _set,
    ast.Dict: _dict,
    ast.BinOp: _bin_op,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _unary_op,
    ast.Compare: _compare,
    ast.IfExp: _if_exp,
    ast.NamedExpr: _named_expr,
    ast.Await: _await,
    ast.Lambda: _lambda,
    ast.Yield: _yield,
    ast.YieldFrom: _yield_from,
    ast.ListComp: _list_comp,
    ast.SetComp: _set_comp,
    ast.GeneratorExp: _generator_exp,
    ast.DictComp: _dict_comp,
    ast.Call: _call,
}
