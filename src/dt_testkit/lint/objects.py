"""Instances and classes of the project: how they are made, and what their attributes are."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from dt_testkit.lint import calls, expressions, names
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.project import OUTSIDE, Assigned, Binding, ClassInfo, FunctionInfo, last_name
from dt_testkit.lint.rules import effects, state
from dt_testkit.lint.values import (
    UNKNOWN,
    Class,
    Collection,
    Const,
    Context,
    Durable,
    Env,
    External,
    Function,
    Instance,
    Made,
    ModuleValue,
    Partial,
    Replaying,
    Task,
    Value,
    each,
    join,
)

if TYPE_CHECKING:
    from dt_testkit.lint.interpreter import Interpreter

_TEXT = frozenset(["instance_id", "parent_instance_id", "version"])


def construct(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    info: ClassInfo,
    args: list[Value],
    keywords: dict[str, Value],
) -> Value:
    instance = Instance(info, not frame.in_run, _held(it, info, args, keywords))
    found = False
    for name in ("__new__", "__init__", "__post_init__"):
        method = member_of(it, info, name)
        if isinstance(method, FunctionInfo):
            found = True
            given = [] if name == "__post_init__" else args
            it.enter(
                frame,
                node,
                Function(method, instance),
                given,
                {} if name == "__post_init__" else keywords,
            )
    if info.is_dataclass or not found:
        _default_factories(it, frame, node, info, args, keywords)
    return instance


def _held(
    it: Interpreter, info: ClassInfo, args: list[Value], keywords: dict[str, Value]
) -> tuple[tuple[str, Value], ...]:
    """What the attributes of an instance keep of the arguments that it is made with."""
    made = member_of(it, info, "__init__")
    given: dict[str, Value] = {}
    if isinstance(made, FunctionInfo):
        names = [arg.arg for arg in [*made.node.args.posonlyargs, *made.node.args.args]][1:]
        kept = made.kept_on_self
        outside = Frame(None, made.module, Env(made.outer), in_run=False)
        with it.reports.collecting():
            for name in set(kept.values()) & made.defaults.keys():
                given[name] = expressions.evaluate(it, outside, made.defaults[name])
    else:
        names = list(info.fields)
        kept = {name: name for name in names}
    given |= {**dict(zip(names, args, strict=False)), **keywords}
    held = {attribute: given[name] for attribute, name in kept.items() if name in given}
    return tuple((name, value) for name, value in held.items() if _can_be_followed(value))


def _default_factories(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    info: ClassInfo,
    args: list[Value],
    keywords: dict[str, Value],
) -> None:
    for name, value in list(info.fields.items())[len(args) :]:
        if not isinstance(value, ast.Call) or last_name(value.func) not in (
            "field",
            "Field",
            "Factory",
            "ib",
        ):
            continue
        if name in keywords:
            continue
        for keyword in value.keywords:
            if keyword.arg in ("default_factory", "factory"):
                outside = Frame(None, info.module, Env(info.scope), in_run=False)
                with it.reports.collecting():
                    factory = expressions.evaluate(it, outside, keyword.value)
                inside = Frame(
                    None, info.module, Env(info.scope), (*frame.route, it.place(frame, node)), info.name
                )
                if not isinstance(factory, Class):
                    inside.in_run = frame.in_run
                    calls.call(it, inside, keyword.value, factory, [], {})


def member_of(it: Interpreter, info: ClassInfo, name: str, depth: int = 0) -> Binding | None:
    """What a class, or one of its bases in the project, has under a name."""
    bindings = info.scope.bindings.get(name)
    if bindings:
        return bindings[-1]
    if depth < 8:
        for base in bases(it, info):
            if isinstance(base, Class) and (found := member_of(it, base.info, name, depth + 1)) is not None:
                return found
    return None


def bases(it: Interpreter, info: ClassInfo) -> list[Value]:
    """What a class is derived from."""
    found: list[Value] = []
    for base in info.node.bases:
        with it.reports.collecting():
            node = base.value if isinstance(base, ast.Subscript) else base
            found.append(
                expressions.evaluate(it, Frame(None, info.module, Env(info.outer), in_run=False), node)
            )
    return found


def above(it: Interpreter, frame: Frame, node: ast.Attribute) -> Value:
    """What `super()` has under a name: the classes after the one that the method is in have it."""
    owner = frame.info.owner if frame.info is not None else None
    if frame.info is None or owner is None:
        return UNKNOWN
    first = frame.info.parameters[0].arg if frame.info.parameters else ""
    given = frame.env.names.get(first)
    value = given if isinstance(given, Instance | Class) else Instance(owner)
    line = lineage(it, value.info)
    if Class(owner) not in line:
        line = lineage(it, owner)
    after = line[line.index(Class(owner)) + 1 :]
    for base in after:
        if isinstance(base, Class) and node.attr in base.info.scope.bindings:
            return _member_value(it, frame, node, value, node.attr, base.info)
    foreign = [base for base in after if isinstance(base, External) and "." in base.name]
    foreign.sort(key=lambda base: base.name.partition(".")[0] in OUTSIDE)
    return External(f"{foreign[0].name}.{node.attr}") if foreign else UNKNOWN


def lineage(it: Interpreter, info: ClassInfo, depth: int = 0) -> list[Value]:
    """A class and what it is derived from, in the order in which Python looks for a name."""
    found: list[Value] = [Class(info)]
    for base in bases(it, info) if depth < 8 else ():
        found += lineage(it, base.info, depth + 1) if isinstance(base, Class) else [base]
    return list(reversed(dict.fromkeys(reversed(found))))


def inherited(it: Interpreter, value: Value, name: str) -> External | None:
    """The method of another package that an object of the project has from a base of its class."""
    for one in each(value):
        if isinstance(one, Instance | Class) and member_of(it, one.info, name) is None:
            for base in _foreign_bases(it, one.info):
                return External(f"{base.name}.{name}")
    return None


def _foreign_bases(it: Interpreter, info: ClassInfo, depth: int = 0) -> list[External]:
    found: list[External] = []
    for base in bases(it, info):
        if isinstance(base, External) and "." in base.name and base.name.partition(".")[0] not in OUTSIDE:
            found.append(base)
        elif isinstance(base, Class) and depth < 8:
            found.extend(_foreign_bases(it, base.info, depth + 1))
    return found


def attribute(it: Interpreter, frame: Frame, node: ast.AST, value: Value, name: str) -> Value:
    return join([_attribute_of_one(it, frame, node, one, name) for one in list(each(value))[:12]])


def _attribute_of_one(it: Interpreter, frame: Frame, node: ast.AST, value: Value, name: str) -> Value:
    if isinstance(value, External):
        found = (
            names.external(it, f"{value.name}.{name}")
            if "." in value.name or not hasattr(builtins, value.name)
            else None
        )
        if found is None:
            return External(f"{value.name}.{name}")
        effects.external_read(it, frame, node, found.name)
        return found
    if isinstance(value, Made):
        return UNKNOWN if value.reported and not _is_class(value.of) else External(f"{value.of}.{name}")
    if isinstance(value, Context):
        if name == "is_replaying":
            return Replaying()
        if name == "current_utc_datetime":
            return Made("datetime.datetime")
        return Made("str") if name in _TEXT else Durable(name)
    if isinstance(value, ModuleValue):
        scope = value.module.scope
        if name in scope.bindings or scope.stars:
            found_value = names.value_of_name(it, scope, name)
            if frame.in_run and name in scope.bindings and isinstance(node, ast.Attribute):
                state.outer_name(it, frame, node, scope, found_value, name)
            return found_value
        deeper = it.project.submodule(value.module, name)
        if deeper is None and (namespace := value.module.namespace):
            return names.external(it, f"{namespace}.{name}")  # there may be a regular package of this name
        if deeper is None and (part := value.module.part(name)) in it.project.unread:
            return External(part)
        return ModuleValue(deeper) if deeper is not None else UNKNOWN
    if isinstance(value, Instance | Class):
        return _member_value(it, frame, node, value, name)
    if isinstance(value, Task):
        return value.result if name == "result" else External(f"durabletask.task.Task.{name}")
    if isinstance(value, Collection):
        if value.type == "dict" and name in ("items", "values", "keys"):
            return External(f"dict.{name}")
        return External(f"{value.type}.{name}")
    if isinstance(value, Const):
        return External(f"{value.type}.{name}")
    return UNKNOWN


def _member_value(
    it: Interpreter,
    frame: Frame,
    node: ast.AST,
    value: Instance | Class,
    name: str,
    above: ClassInfo | None = None,
) -> Value:
    member = member_of(it, above or value.info, name)
    if isinstance(member, FunctionInfo):
        if member.is_decorated("property", "cached_property") and isinstance(value, Instance):
            return it.enter(frame, node, Function(member, value), [], {})
        if member.is_decorated("staticmethod"):
            return Function(member)
        if member.is_decorated("classmethod"):
            return Function(member, Class(value.info))
        return Function(member, value if isinstance(value, Instance) else None)
    if isinstance(member, ClassInfo):
        return Class(member)
    if isinstance(value, Instance) and name in (held := dict(value.held)):
        return held[name]
    if isinstance(member, Assigned):
        found = (
            names.bound_to(it, value.info.scope, name, member)
            if member.how != "annotation"
            else names.annotated(it, member.value, value.info.scope)
        )
        if frame.in_run:
            state.class_state_read(it, frame, node, value, name)
        return found
    if isinstance(value, Instance):
        return _instance_attribute(it, value, name)
    return UNKNOWN


def _instance_attribute(it: Interpreter, value: Instance, name: str) -> Value:
    """What a method of the class, __init__ for one, has put there."""
    scope = value.info.scope
    key = scope, f"self.{name}"
    if key in it.static:
        return it.static[key]
    if key in it.evaluating:
        return UNKNOWN
    it.evaluating.add(key)
    found: list[Value] = []
    try:
        for statement in value.info.node.body:
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and statement.target.id == name
            ):
                found.append(names.annotated(it, statement.annotation, scope))
            if not isinstance(statement, ast.FunctionDef) or name not in value.info.assigned_on_self:
                continue
            info = value.info.module.function(statement, scope)
            for inner in ast.walk(statement):
                targets = (
                    inner.targets
                    if isinstance(inner, ast.Assign)
                    else [inner.target]
                    if isinstance(inner, ast.AnnAssign)
                    else []
                )
                for target in targets:
                    if (
                        isinstance(target, ast.Attribute)
                        and target.attr == name
                        and last_name(target.value) == "self"
                    ):
                        expression = inner.value if isinstance(inner, ast.Assign | ast.AnnAssign) else None
                        if expression is not None:
                            with it.reports.collecting():
                                frame = Frame(None, info.module, Env(info.scope), in_run=False)
                                found.append(expressions.evaluate(it, frame, expression))
    finally:
        it.evaluating.discard(key)
    result = join([v if not isinstance(v, Made) else Made(v.of) for v in found])
    it.static[key] = result
    return result


def _can_be_followed(value: Value) -> bool:
    """Whether it matters what an attribute keeps: functions, the context, or an instance that has some."""
    return all(
        isinstance(one, Function | External | Partial | Context)
        or (isinstance(one, Instance) and not any(isinstance(kept, Instance) for _, kept in one.held))
        for one in each(value)
    )


def _is_class(name: str) -> bool:
    return name.rpartition(".")[2][:1].isupper()
