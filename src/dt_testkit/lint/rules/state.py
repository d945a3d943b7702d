"""State that outlives a run: of modules, classes, closures and default arguments."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from dt_testkit.lint import names, objects
from dt_testkit.lint.project import Assigned, ClassInfo, Imported, Scope, last_name, root_name
from dt_testkit.lint.values import Class, External, Instance, Made, ModuleValue, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.collector import Taint
    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter


def shared_argument(it: Interpreter, frame: Frame, node: ast.Call, function: Value) -> None:
    """`next(numbers)`, where numbers is of the module."""
    if isinstance(function, External) and function.name == "next" and node.args and frame.in_run:
        root = root_name(node.args[0])
        if root is not None and names.is_outer(it, frame, root.id) is not None:
            _state(frame, root.id, node, written=True)


def is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(node, ast.Call) and last_name(node.func) in (
        "list", "dict", "set", "defaultdict", "Counter", "deque", "OrderedDict", "count", "bytearray",
    )  # fmt: skip


def _state(frame: Frame, name: str, node: ast.AST, written: bool) -> None:
    before = frame.state.get(name)
    if before is None or (written and not before[0]):
        frame.state[name] = (written, node, name)


def outer_name(
    it: Interpreter, frame: Frame, node: ast.AST, scope: Scope, value: Value, name: str | None = None
) -> None:
    """A name from outside the function is read."""
    name = name or (node.id if isinstance(node, ast.Name) else "")
    _import_time(it, frame, node, scope, it.taints.get((scope, name), ()))
    bindings = scope.bindings.get(name, [])
    if not any(isinstance(binding, Assigned) for binding in bindings):
        return
    if isinstance(value, Made) and value.of in ("logging.Logger", "threading.Lock", "contextvars.ContextVar"):
        return
    if name in scope.module.changed_names.get(scope, ()):
        _state(frame, name, node, written=False)


def mutation(it: Interpreter, frame: Frame, node: ast.AST, target: ast.expr, rebinds: bool = False) -> None:
    """Something is changed: a name is bound again, an attribute or item is set, a method changes it."""
    root = root_name(target)
    called = target
    while root is None and isinstance(called, ast.Attribute | ast.Subscript | ast.Call):
        called = called.func if isinstance(called, ast.Call) else called.value
        root = called if isinstance(called, ast.Name) else None
    if root is None or not frame.in_run:
        return
    name = root.id
    if isinstance(target, ast.Name) and rebinds and names.is_outer(it, frame, name) is None:
        frame.passed.pop(name, None) if not isinstance(node, ast.AugAssign) else None
        return
    local = frame.env.names.get(name)
    if name in frame.passed and not (isinstance(target, ast.Name) and rebinds):
        it.reports.add(frame, node, "DT123", f"`{name}` is changed after it was passed")
    if name in frame.mutable_defaults:
        _state(frame, name, node, written=True)
        return
    owner = local if local is not None else None
    if isinstance(owner, Class):
        _state(frame, f"{owner.info.name}.{_first_attribute(target)}", node, written=True)
        return
    if isinstance(owner, Instance):
        attribute = _first_attribute(target)
        if (
            owner.shared
            or (
                attribute not in owner.info.assigned_on_self
                and not isinstance(target, ast.Attribute)
                and _class_level(it, owner.info, attribute)
            )
            or (
                attribute not in owner.info.assigned_on_self
                and isinstance(node, ast.Call)
                and _class_level(it, owner.info, attribute)
            )
        ):
            _state(frame, f"self.{attribute}", node, written=True)
        return
    scope = names.is_outer(it, frame, name)
    if scope is not None:
        with it.reports.collecting():
            value = names.value_of_name(it, scope, name)
        if isinstance(value, ModuleValue | External) and not isinstance(
            target, ast.Attribute | ast.Subscript
        ):
            return
        if isinstance(value, Class):
            name = f"{value.info.name}.{_first_attribute(target)}"
        _state(frame, name, node, written=True)


def _first_attribute(target: ast.expr) -> str:
    found = ""
    while isinstance(target, ast.Attribute | ast.Subscript):
        if isinstance(target, ast.Attribute):
            found = target.attr
        target = target.value
    return found


def _class_level(it: Interpreter, info: ClassInfo, attribute: str) -> bool:
    if any(not isinstance(base, Class) for base in objects.bases(it, info)):
        return False  # a model of pydantic, for one, gives each instance a copy
    member = objects.member_of(it, info, attribute)
    return isinstance(member, Assigned) and member.how == "value" and is_mutable(member.value)


def class_state_read(
    it: Interpreter, frame: Frame, node: ast.AST, value: Instance | Class, name: str
) -> None:
    scope = value.info.scope
    _import_time(it, frame, node, scope, it.taints.get((scope, name), ()))


def imported_in_run(it: Interpreter, frame: Frame, node: ast.AST, binding: Imported) -> None:
    """A function imports a name when it runs."""
    _import_time(it, frame, node, frame.module.scope, names.taints_of(it, binding, frame.module))


def _import_time(it: Interpreter, frame: Frame, node: ast.AST, scope: Scope, taints: Sequence[Taint]) -> None:
    """Something is read that was made when its module was imported: tell what was done there."""
    where, when = "<module>", "the module is imported"
    if isinstance(scope.node, ast.ClassDef):
        where, when = scope.node.name, "the class is made"
    there = replace(frame, route=(*frame.route, it.place(frame, node)), name=where)
    for taint in taints:
        what = f"{taint.what}, when {when}"
        it.reports.add(there, taint.node, taint.code, what, taint.message, path=taint.path)
