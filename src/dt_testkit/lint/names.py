"""What names mean, in a scope that is run or from outside of it, and what annotations promise."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from dt_testkit.hazards import hazard_of_call
from dt_testkit.lint import expressions
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.project import (
    Assigned,
    Binding,
    ClassInfo,
    FunctionInfo,
    Imported,
    Module,
    Parameter,
    Scope,
    last_name,
    statements_in,
)
from dt_testkit.lint.rules import effects, state
from dt_testkit.lint.values import (
    NONE,
    UNKNOWN,
    Class,
    Collection,
    Context,
    Env,
    External,
    Instance,
    Made,
    ModuleValue,
    Value,
    each,
    element_of,
    join,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dt_testkit.lint.collector import Taint
    from dt_testkit.lint.interpreter import Interpreter

_ALIASES = {
    "posixpath": "os.path",
    "ntpath": "os.path",
    "_thread.allocate_lock": "threading.Lock",
    "pathlib.PosixPath": "pathlib.Path",
    "concurrent.futures.thread.ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.process.ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "uuid.SafeUUID": "uuid.SafeUUID",
}
_CONTEXTS = ("durabletask.task.OrchestrationContext", "durabletask.OrchestrationContext")


def value_of_name(it: Interpreter, scope: Scope, name: str) -> Value:
    """What a name means in a scope that is not run, or outside of it."""
    outer: Scope | None = scope
    while outer is not None:
        if name in outer.bindings and (not outer.is_class or outer is scope):
            return value_in(it, outer, name)
        for star in outer.stars:
            found = _star(it, star, name, outer.module)
            if found is not UNKNOWN:
                return found
        outer = outer.parent
    return External(name) if hasattr(builtins, name) else UNKNOWN


def _star(it: Interpreter, star: Imported, name: str, module: Module) -> Value:
    found, _ = it.project.find(Imported(star.module, star.level, None), module)
    if found is not None:
        return (
            value_of_name(it, found.scope, name)
            if name in found.scope.bindings or found.scope.stars
            else UNKNOWN
        )
    dotted = f"{star.module}.{name}"
    return external(it, dotted) if hazard_of_call(dotted) else UNKNOWN


def _star_scope(it: Interpreter, module: Module, name: str) -> Scope | None:
    """The scope of a module from which `from module import *` takes a name."""
    for star in module.scope.stars:
        found, _ = it.project.find(Imported(star.module, star.level, None), module)
        if found is not None and name in found.scope.bindings:
            return found.scope
    return None


def value_in(it: Interpreter, scope: Scope, name: str) -> Value:
    """What a name of exactly this scope means, whatever of its bindings holds."""
    key = scope, name
    if key in it.static:
        return it.static[key]
    if key in it.evaluating:
        return UNKNOWN
    it.evaluating.add(key)
    try:
        values = [bound_to(it, scope, name, binding) for binding in scope.bindings.get(name, [])]
    finally:
        it.evaluating.discard(key)
    known = [value for value in values if value is not UNKNOWN]
    it.static[key] = result = join(known) if known else UNKNOWN
    return result


def bound_to(it: Interpreter, scope: Scope, name: str, binding: Binding) -> Value:
    if isinstance(binding, FunctionInfo):
        return it.decorated(binding, None)
    if isinstance(binding, ClassInfo):
        return Class(binding)
    if isinstance(binding, Imported):
        value = imported(it, binding, scope.module)
        if it.taints:
            it.taints.setdefault((scope, name), []).extend(taints_of(it, binding, scope.module))
        return value
    if isinstance(binding, Parameter):
        owner = scope.module.owner_of(scope.node)
        if owner is not None and binding.argument.arg in ("self", "cls"):
            return Instance(owner, shared=True) if binding.argument.arg == "self" else Class(owner)
        return annotated(it, binding.argument.annotation, scope)
    if binding.how == "annotation":
        return annotated(it, binding.value, scope)
    if binding.how in ("other", "augmented"):
        return UNKNOWN
    frame = Frame(None, scope.module, Env(scope), in_run=False)
    with it.reports.collecting() as found:
        value = expressions.evaluate(it, frame, binding.value)
    if found and (blocks := list(_blocks_around(scope.node, binding.value))):
        with it.reports.collecting() as found:
            frame.allowed = sum(effects.allows(it, frame, item) for item in blocks)
            value = expressions.evaluate(it, frame, binding.value)
    if found:
        it.taints.setdefault((scope, name), []).extend(found)
    if binding.how == "element":
        value = element_of(value)
    if binding.position is not None:
        value = part_of(it, value, binding.position)
    if isinstance(value, Instance):
        value = Instance(value.info, shared=True)
    if isinstance(value, Made) and value.reported:
        value = Made(value.of)
    return value


def _blocks_around(outer: ast.AST, inner: ast.expr) -> Iterator[ast.expr]:
    """What the `with` statements around an expression enter, in a module or a class."""
    for node in statements_in(outer):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.With) and node.lineno <= inner.lineno <= (node.end_lineno or 0):
            yield from (item.context_expr for item in node.items)
        yield from _blocks_around(node, inner)


def part_of(it: Interpreter, value: Value, position: int) -> Value:
    found: list[Value] = []
    for one in each(value):
        if isinstance(one, Collection) and one.type == "tuple" and position < len(one.items):
            found.append(one.items[position])
        else:
            found.append(element_of(one))
    return join(found)


def imported(it: Interpreter, binding: Imported, module: Module) -> Value:
    found, attribute = it.project.find(binding, module)
    if found is None:
        if binding.level:
            dots = "." * binding.level
            name = dots + ".".join(filter(None, [binding.module, binding.attribute]))
            return External(name) if {name, dots + binding.module} & it.project.unread.keys() else UNKNOWN
        return external(it, ".".join(filter(None, [binding.module, binding.attribute])))
    if attribute is None:
        return ModuleValue(found)
    return (
        value_of_name(it, found.scope, attribute)
        if attribute in found.scope.bindings or found.scope.stars
        else UNKNOWN
    )


def taints_of(it: Interpreter, binding: Imported, module: Module) -> list[Taint]:
    """What was done when the value of an import was made, in the module that it is from."""
    found, attribute = it.project.find(binding, module)
    return it.taints.get((found.scope, attribute), []) if found is not None and attribute is not None else []


def external(it: Interpreter, name: str) -> External:
    name = name.removeprefix("builtins.")
    head, dot, rest = name.partition(".")
    if head in _ALIASES:
        name = _ALIASES[head] + dot + rest
    return External(_ALIASES.get(name, name))


def annotated(it: Interpreter, annotation: ast.expr | None, scope: Scope) -> Value:
    """What a value of this annotation is."""
    if annotation is None:
        return UNKNOWN
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value.strip(), mode="eval").body
        except SyntaxError:
            return UNKNOWN
    if isinstance(annotation, ast.Constant):
        return NONE if annotation.value is None else UNKNOWN
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return join([annotated(it, annotation.left, scope), annotated(it, annotation.right, scope)])
    if isinstance(annotation, ast.Subscript):
        head = last_name(annotation.value)
        if head in ("Annotated", "Optional", "Final", "ClassVar"):
            inner = annotation.slice
            first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
            value = annotated(it, first, scope)
            return join([value, NONE]) if head == "Optional" else value
        annotation = annotation.value
    if not isinstance(annotation, ast.Name | ast.Attribute):
        return UNKNOWN
    if last_name(annotation).endswith("OrchestrationContext"):
        return Context()
    if isinstance(annotation, ast.Name):
        for binding in scope.module.scope.bindings.get(annotation.id, []):
            if isinstance(binding, Assigned) and isinstance(binding.value, ast.Subscript | ast.BinOp):
                return annotated(it, binding.value, scope.module.scope)  # an alias
    frame = Frame(None, scope.module, Env(scope), in_run=False)
    with it.reports.collecting():
        value = expressions.evaluate(it, frame, annotation)
    found: list[Value] = []
    for one in each(value):
        if isinstance(one, External):
            if one.name in _CONTEXTS:
                found.append(Context())
            elif one.name in (
                "set",
                "frozenset",
                "collections.abc.Set",
                "typing.Set",
                "typing.FrozenSet",
            ):
                found.append(Collection("set", unordered=True))
            elif one.name in ("list", "dict", "tuple"):
                found.append(Collection(one.name))
            elif (
                one.name.startswith("typing.")
                or one.name.startswith("collections.abc.")
                or one.name == "object"
            ):
                found.append(UNKNOWN)
            else:
                found.append(Made(one.name))
        elif isinstance(one, Class):
            found.append(Instance(one.info))
        else:
            found.append(UNKNOWN)
    return join(found)


def lookup(it: Interpreter, frame: Frame, node: ast.Name) -> Value:
    env: Env | None = frame.env
    outermost = frame.env
    name = node.id
    while env is not None:
        if name in env.scope.declared_global:
            return _outer(it, frame, node, env.scope.module.scope)
        if name in env.names:
            return env.names[name]
        if (
            env is frame.env
            and env.scope.owns(name)
            and frame.in_run
            and not env.scope.is_class
            and env.scope.parent
        ):
            return UNKNOWN
        outermost = env
        env = env.parent
    return _outer(
        it, frame, node, outermost.scope if not frame.in_run else outermost.scope.parent or outermost.scope
    )


def _outer(it: Interpreter, frame: Frame, node: ast.Name, scope: Scope) -> Value:
    value = value_of_name(it, scope, node.id)
    if isinstance(value, External):
        effects.external_read(it, frame, node, value.name)
    if frame.in_run:
        owner: Scope | None = scope
        while owner is not None and node.id not in owner.bindings:
            owner = owner.parent
        if owner is None:
            owner = _star_scope(it, scope.module, node.id)
        if owner is not None:
            state.outer_name(it, frame, node, owner, value)
    return value


def is_super(node: ast.AST) -> bool:
    """Whether an expression is a call of `super`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def is_outer(it: Interpreter, frame: Frame, name: str) -> Scope | None:
    """The scope of a name that outlives the run; None if it is of the run, or not of the project."""
    env: Env | None = frame.env
    outermost = frame.env
    while env is not None:
        if name in env.scope.declared_global:
            return env.scope.module.scope
        if name in env.names and name not in env.scope.declared_nonlocal:
            return None
        if env.scope.owns(name) and env.scope.parent is not None and env.scope.parent is not env.scope:
            return None
        outermost = env
        env = env.parent
    scope: Scope | None = outermost.scope.parent
    while scope is not None and (scope.is_class or name not in scope.bindings):
        scope = scope.parent
    return scope
