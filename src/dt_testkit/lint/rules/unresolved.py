"""What cannot be followed, which is noted, so that silence means something."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import names
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.project import OUTSIDE, FunctionInfo, Imported, Scope, root_name
from dt_testkit.lint.rules import effects, payloads
from dt_testkit.lint.values import (
    Class,
    Context,
    Env,
    External,
    Instance,
    ModuleValue,
    Value,
    each,
    holds_context,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.interpreter import Interpreter

_SAFE_WITH_CONTEXT = (
    "functools.",
    "itertools.",
    "contextlib.",
    "collections.",
    "dataclasses.",
    "typing.",
    "operator.",
    "azure.functions.",
    "azure.durable_functions.",
)


def outside_call(it: Interpreter, frame: Frame, node: ast.AST, name: str, values: Sequence[Value]) -> None:
    """A call of what is not of the project: given a context or a task, or not known, it may do anything."""
    head = name.partition(".")[0]
    if "." not in name or name.startswith(_SAFE_WITH_CONTEXT):
        return
    if holds_context(values):
        if head not in ("list", "dict", "set", "tuple", "generator", "str", "view"):
            _note(it, frame, node, f"`{name}()` is not of the project, and is given the context or a task")
    elif frame.in_run and head not in OUTSIDE and (stranger := _stranger(frame, node, name)) is not None:
        if stranger in it.strangers:
            return
        it.strangers.add(stranger)
        broken = (path for module, path in it.project.unread.items() if name.startswith(f"{module}."))
        if (path := next(broken, None)) is not None and isinstance(node, ast.Call):
            _note(it, frame, node, f"`{ast.unparse(node.func)}()` is of {path}, which cannot be read")
        else:
            _note(it, frame, node, f"{effects.shown(name)} is of another package")


def _stranger(frame: Frame, node: ast.AST, name: str) -> str | None:
    """What is noted once: a function of another package, or a class of which a method is called."""
    head, *parts = name.split(".")
    for length, part in enumerate(parts, 1):
        if part[:1].isupper():
            makes = parts[length:] in ([], ["__init__"], ["__new__"])  # which is nothing yet
            return None if makes else ".".join([head, *parts[:length]])
    is_called = isinstance(node, ast.Call) and parts[-1] != "__enter__" and _is_imported(frame, node.func)
    return name if is_called else None


def unknown_call(it: Interpreter, frame: Frame, node: ast.AST, values: Sequence[Value]) -> None:
    """Something is called of which source does not tell what it is."""
    if not frame.in_run or not isinstance(node, ast.Call):
        return
    what = f"`{ast.unparse(node.func)}()`"
    if any(isinstance(one, Context) for value in values for one in each(value)):
        _note(it, frame, node, f"{what} is given the context, and cannot be found")
    elif isinstance(node.func, ast.Name) or _is_imported(frame, node.func) or _is_above(frame, node.func):
        _note(it, frame, node, f"{what} cannot be found")


def _is_imported(frame: Frame, function: ast.expr) -> bool:
    root = root_name(function)
    return root is not None and any(isinstance(one, Imported) for one in payloads.bindings(frame, root.id))


def _is_above(frame: Frame, function: ast.expr) -> bool:
    """Whether it is a method of `super()` that some base, which cannot be found, may have."""
    if not isinstance(function, ast.Attribute) or not names.is_super(function.value):
        return False
    return function.attr not in vars(object)


def unknown_orchestrator(it: Interpreter, scope: Scope, call: ast.Call) -> None:
    frame = Frame(None, scope.module, Env(scope))
    _note(it, frame, call, f"`{ast.unparse(call.args[-1])}` is registered, and cannot be found")


def left_to_subclasses(it: Interpreter, frame: Frame, node: ast.AST, info: FunctionInfo) -> None:
    if frame.in_run and info.owner is not None:
        name = f"{info.owner.name}.{info.name}"
        _note(it, frame, node, f"`{name}()` is left to subclasses, and which of them it is")


def dynamic(it: Interpreter, frame: Frame, node: ast.AST, name: str, target: Value) -> None:
    plain = isinstance(target, Instance) and target.info.is_dataclass
    if frame.in_run and isinstance(target, Context | ModuleValue | External | Instance | Class) and not plain:
        _note(it, frame, node, f"what `{name}()` gets at is known only when it runs")


def _note(it: Interpreter, frame: Frame, node: ast.AST, what: str) -> None:
    it.reports.add(frame, node, "DT900", what)


def too_deep(it: Interpreter, frame: Frame, node: ast.AST) -> None:
    _note(it, frame, node, f"`{frame.name}` is nested too deeply")
