"""Inputs and results: whether they can be serialized and fit their annotations; retry policies."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import expressions, names, objects
from dt_testkit.lint.project import Assigned, ClassInfo, FunctionInfo, Scope, last_name
from dt_testkit.lint.values import (
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
    Partial,
    Policy,
    Task,
    Value,
    each,
)

if TYPE_CHECKING:
    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter

_NO_JSON = frozenset(
    [
        "datetime.datetime",
        "datetime.date",
        "datetime.time",
        "datetime.timedelta",
        "uuid.uuid3",
        "uuid.uuid5",
        "re.compile",
        "str.encode",
        "bytes",
        "complex",
        "bytearray",
        "memoryview",
        "collections.deque",
        "array.array",
        "open",
        "range",
    ]
)
_NO_JSON_IN = (
    "decimal.",
    "fractions.",
    "uuid.",
    "threading.",
    "pathlib.",
    "io.",
    "asyncio.",
    "concurrent.futures.",
    "logging.",
    "ipaddress.",
    "queue.",
    "zoneinfo.",
)


def no_json(it: Interpreter, frame: Frame, value: Value) -> str:
    """Why a value cannot be serialized; nothing where the project has a converter of its own."""
    if "data_converter" in frame.module.source:
        return ""
    found = [_one_no_json(it, one, 0) for one in each(value)]
    return found[0] if found and all(found) else ""


def _one_no_json(it: Interpreter, value: Value, depth: int) -> str:
    if isinstance(value, Collection):
        if value.type in ("set", "generator", "iterator", "view"):
            return f"a {value.type}"
        if depth < 4 and value.type in ("list", "tuple", "dict"):
            for item in value.items:
                if why := _one_no_json(it, item, depth + 1):
                    return f"a {value.type} with {why}"
        return ""
    if isinstance(value, Function | Partial | Generator | Durable):
        return "a function" if not isinstance(value, Generator) else "a generator"
    if isinstance(value, Context):
        return "the context"
    if isinstance(value, Task):
        return "a task, not its result"
    if isinstance(value, Const):
        return value.type if value.type in ("bytes", "complex", "ellipsis") else ""
    if isinstance(value, Made):
        head, _, last = value.of.rpartition(".")
        known = value.of in _NO_JSON or (
            value.of.startswith(_NO_JSON_IN) and head + "." in _NO_JSON_IN and last[:1].isupper()
        )
        return f"`{value.of}`, which JSON does not know" if known and not value.reported else ""
    if isinstance(value, Instance):
        info = value.info
        if info.is_dataclass or info.node.bases or objects.member_of(it, info, "to_json") is not None:
            return ""
        return f"a `{info.name}`, which is no dataclass and has no to_json"
    return ""


def check_input(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    activity: Value,
    given: Value | None,
    keywords: dict[str, Value],
) -> None:
    for one in each(activity):
        if not isinstance(one, Function):
            continue
        info = one.info
        arguments = [a for a in info.parameters if not (info.owner and a.arg == "self")]
        if len(arguments) > 1:
            required = len(info.node.args.defaults) == 0
            if given is None and _has_unpacking(node):
                pass
            elif given is None:
                kinds = _kinds(it, names.annotated(it, arguments[1].annotation, info.outer))
                if required and kinds and "NoneType" not in kinds:
                    it.reports.add(frame, node, "DT121", f"`{info.name}` wants an input and gets none")
            else:
                _compare(it, frame, node, given, arguments[1].annotation, info, f"the input of `{info.name}`")
        if not isinstance(info.node, ast.Lambda) and (wanted := keywords.get("return_type")) is not None:
            have = names.annotated(it, info.node.returns, info.outer)
            kind: Value = UNKNOWN
            if isinstance(wanted, Class):
                kind = Instance(wanted.info)
            elif isinstance(wanted, External):
                kind = Made(wanted.name)
            if not _may_be(it, have, kind):
                it.reports.add(
                    frame, node, "DT121", f"`{info.name}` is annotated with another result than `return_type`"
                )


def _has_unpacking(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (
        any(keyword.arg is None for keyword in node.keywords)
        or any(isinstance(arg, ast.Starred) for arg in node.args)
    )


def _compare(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    given: Value,
    annotation: ast.expr | None,
    info: FunctionInfo,
    what: str,
) -> None:
    if annotation is not None and not _may_be(it, given, names.annotated(it, annotation, info.outer)):
        it.reports.add(
            frame, node, "DT121", f"{what} is annotated `{ast.unparse(annotation)}` and gets something else"
        )


def activity_result(it: Interpreter, activity: Value, keywords: dict[str, Value]) -> Value:
    """What a call of an activity results in."""
    wanted = keywords.get("return_type")
    if isinstance(wanted, Class):
        return Instance(wanted.info)
    if isinstance(wanted, External):
        return Made(wanted.name)
    if isinstance(activity, Function) and not isinstance(activity.info.node, ast.Lambda):
        value = names.annotated(it, activity.info.node.returns, activity.info.outer)
        return UNKNOWN if value == Const("NoneType") else value
    return UNKNOWN


def annotated_result(it: Interpreter, frame: Frame, node: ast.AnnAssign, value: Value) -> None:
    if isinstance(node.value, ast.Yield) and frame.in_run:
        declared = names.annotated(it, node.annotation, frame.env.scope)
        if not _may_be(it, value, declared):
            it.reports.add(
                frame,
                node,
                "DT121",
                f"the result is annotated `{ast.unparse(node.annotation)}`, and the activity otherwise",
            )


def _may_be(it: Interpreter, value: Value, declared: Value) -> bool:
    have, want = _kinds(it, value), _kinds(it, declared)
    if have is None or want is None:
        return True
    return any(_fits(it, a, b) for a in have for b in want)


def _kinds(it: Interpreter, value: Value) -> list[str | ClassInfo] | None:
    """The types that a value may have; None if one of them is not known."""
    found: list[str | ClassInfo] = []
    for one in each(value):
        if isinstance(one, Const):
            found.append(one.type)
        elif isinstance(one, Made) and one.of in (
            "str",
            "int",
            "float",
            "bool",
            "bytes",
            "datetime.datetime",
        ):
            found.append(one.of)
        elif isinstance(one, Collection) and one.type in ("list", "tuple", "dict", "set"):
            found.append(one.type)
        elif isinstance(one, Instance):
            if one.info.node.bases and not one.info.is_dataclass:
                return None
            found.append(one.info)
        else:
            return None
    return found


def _fits(it: Interpreter, have: str | ClassInfo, want: str | ClassInfo) -> bool:
    if have == want:
        return True
    if isinstance(have, ClassInfo):
        if isinstance(want, ClassInfo):
            return any(last_name(base) == want.name for base in have.node.bases)
        return want == "dict"
    if isinstance(want, ClassInfo):
        return have == "dict" or not want.is_dataclass
    pairs = {("int", "float"), ("bool", "int"), ("bool", "float"), ("list", "tuple"), ("tuple", "list"),
             ("list", "set"), ("tuple", "set"), ("set", "list"), ("str", "datetime.datetime")}  # fmt: skip
    return (have, want) in pairs


def policy(it: Interpreter, frame: Frame, node: ast.AST, keywords: dict[str, Value]) -> Value:
    """A retry policy is made."""
    problems: list[tuple[str, ast.AST, str]] = []
    options: dict[str, Value] = dict(keywords)
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is None and isinstance(keyword.value, ast.Name):
                for binding in bindings(frame, keyword.value.id):
                    if isinstance(binding, Assigned) and isinstance(binding.value, ast.Dict):
                        for key, part in zip(binding.value.keys, binding.value.values, strict=True):
                            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                                options[key.value] = expressions.evaluate(it, frame, part)
    timeout = options.get("retry_timeout")
    if timeout is not None and timeout != Const("NoneType"):
        problems.append(("DT117", node, "`retry_timeout`"))
    for name in ("first_retry_interval", "max_retry_interval", "retry_timeout"):
        value = options.get(name)
        if value is None:
            continue
        kinds = _kinds(it, value)
        if kinds and all(isinstance(kind, str) and kind in ("int", "float", "str", "bool") for kind in kinds):
            problems.append(("DT118", node, f"`{name}` is no timedelta"))
    if frame.in_run:
        for code, place, what in problems:
            it.reports.add(frame, place, code, what)
    return Policy(tuple(problems), frame.module)


def bindings(frame: Frame, name: str) -> list[object]:
    scope: Scope | None = frame.env.scope
    while scope is not None:
        if name in scope.bindings:
            return list(scope.bindings[name])
        scope = scope.parent
    return []
