"""What calls give: of what is outside of the project, of the context, of the project's functions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.hazards import hazard_of_call
from dt_testkit.lint import names, objects
from dt_testkit.lint.project import MUTATORS, FunctionInfo, Imported
from dt_testkit.lint.rules import effects, order, payloads, state, tasks, unresolved
from dt_testkit.lint.values import (
    NONE,
    UNKNOWN,
    Class,
    Collection,
    Const,
    Context,
    Durable,
    External,
    Function,
    Generator,
    Instance,
    Made,
    ModuleValue,
    Partial,
    Replaying,
    Task,
    Value,
    each,
    element_of,
    join,
)

if TYPE_CHECKING:
    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter

_NO_RESULT = frozenset(["set_custom_status", "signal_entity", "send_event"])
_CALLERS = frozenset(  # builtins and others that call what they are given
    [
        "map",
        "filter",
        "sorted",
        "min",
        "max",
        "next",
        "iter",
        "list",
        "tuple",
        "set",
        "sum",
        "any",
        "all",
        "reduce",
    ]
)
_RETURNS = {
    "logging.getLogger": "logging.Logger",
    "datetime.datetime.now": "datetime.datetime",
    "datetime.datetime.utcnow": "datetime.datetime",
    "datetime.datetime.fromisoformat": "datetime.datetime",
    "concurrent.futures.ThreadPoolExecutor.submit": "concurrent.futures.Future",
    "concurrent.futures.ProcessPoolExecutor.submit": "concurrent.futures.Future",
    "pathlib.Path.cwd": "pathlib.Path",
    "pathlib.Path.home": "pathlib.Path",
    "pathlib.Path.joinpath": "pathlib.Path",
    "pathlib.PurePath": "pathlib.PurePath",
    "asyncio.create_task": "asyncio.Future",
    "structlog.get_logger": "structlog.get_logger",
    "structlog.getLogger": "structlog.get_logger",
}
_SPECIAL = {
    "str": ("__str__", "__repr__"),
    "repr": ("__repr__",),
    "format": ("__format__", "__str__"),
    "len": ("__len__",),
    "bool": ("__bool__", "__len__"),
    "int": ("__int__",),
    "float": ("__float__",),
    "hash": ("__hash__",),
    "next": ("__next__",),
    "[]": ("__getitem__",),
    "Eq": ("__eq__",),
    "NotEq": ("__ne__", "__eq__"),
    "Lt": ("__lt__", "__gt__"),
    "Gt": ("__gt__", "__lt__"),
    "LtE": ("__le__",),
    "GtE": ("__ge__",),
    "In": ("__contains__", "__iter__"),
    "NotIn": ("__contains__", "__iter__"),
    "Add": ("__add__",),
    "Sub": ("__sub__",),
    "Mult": ("__mul__",),
    "Div": ("__truediv__",),
    "Mod": ("__mod__",),
    "BitOr": ("__or__",),
}
_SCALARS = frozenset(["str", "int", "float", "bool", "bytes", "complex"])


def call(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    function: Value,
    args: list[Value],
    keywords: dict[str, Value],
) -> Value:
    """What a call gives; the rules see it, and functions of the project are gone through."""
    return join([_call_one(it, frame, node, one, args, keywords) for one in list(each(function))[:12]])


def _call_one(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    function: Value,
    args: list[Value],
    keywords: dict[str, Value],
) -> Value:
    if isinstance(function, External):
        return _call_external(it, frame, node, function.name, args, keywords)
    if isinstance(function, Durable):
        return _call_durable(it, frame, node, function.name, args, keywords)
    if isinstance(function, Partial):
        return call(
            it,
            frame,
            node,
            function.function,
            [*function.args, *args],
            {**dict(function.keywords), **keywords},
        )
    if isinstance(function, Function):
        info = function.info
        if isinstance(info.node, ast.AsyncFunctionDef):
            effects.concurrency(it, frame, node, info.name)
        if info.is_generator and not info.is_decorated("contextmanager"):
            return Generator(function, tuple(args), tuple(keywords.items()))
        if info.is_stub:
            unresolved.left_to_subclasses(it, frame, node, info)
            return UNKNOWN
        return it.enter(frame, node, function, args, keywords)
    if isinstance(function, Class):
        return objects.construct(it, frame, node, function.info, args, keywords)
    if isinstance(function, Instance):
        method = objects.attribute(it, frame, node, function, "__call__")
        return call(it, frame, node, method, args, keywords) if method is not UNKNOWN else UNKNOWN
    if isinstance(function, Made):
        made = f"{function.of}.__call__"
        known = hazard_of_call(made) is not None and not function.reported
        return _call_external(it, frame, node, made, args, keywords) if known else UNKNOWN
    if type(function) is Value:
        unresolved.unknown_call(it, frame, node, [*args, *keywords.values()])
        for value in [*args, *keywords.values()]:
            if isinstance(value, Function) and isinstance(value.info.node, ast.Lambda):
                call(it, frame, node, value, [UNKNOWN], {})
    return UNKNOWN


def consume(it: Interpreter, frame: Frame, node: ast.AST, value: Value) -> Value:
    """Iterate over a value; returns an element."""
    found: list[Value] = []
    for one in each(value):
        if isinstance(one, Generator):
            result = it.enter(frame, node, one.function, one.args, dict(one.keywords))
            found.append(element_of(result))
        elif isinstance(one, Instance):
            method = objects.attribute(it, frame, node, one, "__iter__")
            if isinstance(method, Function):
                found.append(consume(it, frame, node, call(it, frame, node, method, [], {})))
            else:
                found.append(UNKNOWN)
        else:
            found.append(element_of(one))
    return join(found)


def _call_external(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: list[Value], keywords: dict[str, Value]
) -> Value:
    first = args[0] if args else UNKNOWN
    last = name.rpartition(".")[2]
    if name in ("functools.partial", "functools.partialmethod") and args:
        return Partial(first, tuple(args[1:]), tuple(keywords.items()))
    if (
        name in ("importlib.import_module", "__import__")
        and isinstance(first, Const)
        and isinstance(first.value, str)
    ):
        return names.imported(it, Imported(first.value, 0, None), frame.module)
    if name == "getattr" and len(args) >= 2:
        if isinstance(args[1], Const) and isinstance(args[1].value, str):
            return objects.attribute(it, frame, node, first, args[1].value)
        unresolved.dynamic(it, frame, node, "getattr", first)
        return UNKNOWN
    if name in ("exec", "eval"):
        unresolved.dynamic(it, frame, node, name, Context())
        return UNKNOWN
    if name.startswith("durabletask."):
        return _call_sdk(it, frame, node, name, last, args, keywords)
    if args:
        call_special(it, frame, node, name, args[0])
    safe = Made("durabletask.task.ReplaySafeLogger")
    if name == "logging.LoggerAdapter" and (args[0] if args else keywords.get("logger")) == safe:
        return safe
    if name == "functools.update_wrapper" and args:
        return first
    reported = effects.external_call(it, frame, node, name, args, keywords)
    values = [*args, *keywords.values()]
    if frame.in_run and not reported:
        unresolved.outside_call(it, frame, node, name, values)
    if not frame.in_run or name in _CALLERS or "." in name or name in ("defaultdict",):
        for value in values:
            for one in each(value):
                if isinstance(one, Function) and (name in _CALLERS or ("." in name and frame.in_run)):
                    given = (
                        consume(it, frame, node, args[1])
                        if len(args) > 1 and name in ("map", "filter")
                        else UNKNOWN
                    )
                    result = call(it, frame, node, one, [given], {})
                    if name == "map":
                        return Collection("iterator", tuple(each(result)))
                elif (
                    isinstance(one, External)
                    and name in _CALLERS | {"iter"}
                    and one.name not in ("str", "int", "float")
                ):
                    _call_external(it, frame, node, one.name, [UNKNOWN], {})
                elif isinstance(one, Partial):
                    call(it, frame, node, one, [UNKNOWN], {})
                elif isinstance(one, Generator):
                    consume(it, frame, node, one)
    elif name in ("dict", "enumerate", "zip", "reversed"):
        for value in values:
            consume(it, frame, node, value)
    return _given_by(it, frame, node, name, last, args, reported)


def call_special(it: Interpreter, frame: Frame, node: ast.AST, name: str, value: Value) -> None:
    """The method of a class of the project that a builtin calls."""
    for method in _SPECIAL.get(name, ()):
        for one in each(value):
            if isinstance(one, Instance) and isinstance(
                objects.member_of(it, one.info, method), FunctionInfo
            ):
                call(it, frame, node, objects.attribute(it, frame, node, one, method), [], {})
                return


def _given_by(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, last: str, args: list[Value], reported: bool
) -> Value:
    first = args[0] if args else UNKNOWN
    unordered = any(isinstance(one, Collection) and one.unordered for value in args for one in each(value))
    if name in ("set", "frozenset"):
        return Collection("set", tuple(each(element_of(first))) if args else (), unordered=True)
    if name in (
        "list",
        "tuple",
        "sorted",
        "reversed",
        "iter",
        "enumerate",
        "zip",
        "filter",
        "itertools.chain",
    ):
        kind = name if name in ("tuple",) else "list"
        items = first.items if isinstance(first, Collection) and first.type != "dict" else ()
        if name in ("enumerate", "zip"):
            inner = tuple(element_of(value) for value in args)
            items = (Collection("tuple", (UNKNOWN, *inner) if name == "enumerate" else inner),)
        still = unordered and name in (
            "iter",
            "enumerate",
            "zip",
            "filter",
            "reversed",
            "itertools.chain",
        )
        return Collection(kind, items, unordered=still)
    if name == "dict":
        return Collection("dict", first.items if isinstance(first, Collection) else ())
    if name in ("str", "int", "float", "len") and isinstance(node, ast.Call) and node.args:
        tasks.used_as_value(it, frame, node.args[0], first)
    if name in _SCALARS or name in (
        "len",
        "repr",
        "round",
        "abs",
        "isinstance",
        "bool",
        "format",
        "ascii",
    ):
        return Made({"len": "int", "repr": "str", "isinstance": "bool"}.get(name, name))
    if name == "next":
        return element_of(first)
    if name == "bool" and any(isinstance(one, Replaying) for one in each(first)):
        return first
    if name in ("super",):
        return UNKNOWN
    if name in ("copy.copy", "copy.deepcopy", "dataclasses.replace"):
        return Instance(first.info) if isinstance(first, Instance) else first
    if name.startswith("typing.") and last == "cast" and len(args) > 1:
        return args[1]
    if name.endswith((".values", ".items", ".keys", ".get")) or name in (
        "min",
        "max",
        "sum",
        "any",
        "all",
        "type",
    ):
        return UNKNOWN
    if last in ("total_seconds", "timestamp") or last in ("isoformat", "strftime"):
        return Made("float" if last in ("total_seconds", "timestamp") else "str")
    if name in _RETURNS:
        return Made(_RETURNS[name], reported)
    if "." in name:
        return Made(name, reported)
    return UNKNOWN


def _call_sdk(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    name: str,
    last: str,
    args: list[Value],
    keywords: dict[str, Value],
) -> Value:
    if last == "EntityInstanceId":
        named = args[0] if args else keywords.get("entity", UNKNOWN)
        return Const(last, named.value if isinstance(named, Const) else None)
    if last == "RetryPolicy":
        return payloads.policy(it, frame, node, keywords)
    if last in ("when_all", "when_any"):
        task = Task(node)
        frame.pending[node] = (node, last)
        return task
    return Made(name)


def _call_durable(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: list[Value], keywords: dict[str, Value]
) -> Value:
    tasks.durable_call(it, frame, node, name, args, keywords)
    if name == "continue_as_new":
        frame.continued = True
        return NONE
    if name in tasks.TASKS or name in ("task_all", "task_any"):
        frame.pending[node] = (node, name)
        result = UNKNOWN
        if name == "call_activity" and args:
            result = payloads.activity_result(it, args[0], keywords)
        return Task(node, result)
    if name in ("new_uuid", "new_guid"):
        return Made("str" if name == "new_uuid" else "uuid.UUID")
    if name == "create_replay_safe_logger":
        return Made("durabletask.task.ReplaySafeLogger")
    return NONE if name in _NO_RESULT else UNKNOWN


def method_of_value(
    it: Interpreter, frame: Frame, node: ast.Call, receiver: Value, func: ast.Attribute, args: list[Value]
) -> Value | None:
    """What the methods of collections do and give."""
    name = func.attr
    if name in MUTATORS and not isinstance(receiver, Context | Instance | ModuleValue):
        state.mutation(it, frame, node, func.value)
    if isinstance(receiver, Collection):
        if name in ("append", "add", "insert", "extend") and isinstance(func.value, ast.Name) and args:
            added = each(args[-1]) if name != "extend" else each(element_of(args[-1]))
            items = tuple(dict.fromkeys([*receiver.items, *added]))
            if func.value.id in frame.env.names:
                frame.env.names[func.value.id] = Collection(receiver.type, items[:300], receiver.unordered)
            if name == "extend":
                order.ordered_use(it, frame, node, args[-1], "extend")
            return NONE
        if receiver.type == "set":
            if name == "pop":
                order.ordered_use(it, frame, node, receiver, "pop")
                return element_of(receiver)
            if name in ("union", "intersection", "difference", "symmetric_difference", "copy"):
                return receiver
        if receiver.type == "dict":
            if name in ("values", "items"):
                inner = (
                    receiver.items
                    if name == "values"
                    else (Collection("tuple", (UNKNOWN, join(receiver.items))),)
                )
                return Collection("view", inner)
            if name == "keys":
                return Collection("view")
            if name in ("get", "pop", "setdefault"):
                return join([*receiver.items, UNKNOWN])
        if name in ("pop", "popleft"):
            return element_of(receiver)
        if name in ("append", "add", "insert", "extend", "clear", "sort", "reverse", "remove", "update"):
            return NONE
    if name == "join" and args and isinstance(receiver, Const | Made):
        for value in args[:1]:
            order.ordered_use(it, frame, node, value, "join")
            consume(it, frame, node, value)
        return Made("str")
    return None
