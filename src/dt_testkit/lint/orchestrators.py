"""Which functions are orchestrators, and what is registered."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint import expressions, names, objects
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.project import FunctionInfo, Imported, Module, Scope, last_name, statements_in
from dt_testkit.lint.registered import Names, Registered
from dt_testkit.lint.rules import unresolved
from dt_testkit.lint.values import (
    Class,
    Collection,
    Const,
    Context,
    Env,
    External,
    Function,
    Instance,
    Partial,
    Value,
    each,
)

if TYPE_CHECKING:
    from collections.abc import Collection as Collection_
    from collections.abc import Iterable, Iterator, Sequence

    from dt_testkit.lint.interpreter import Interpreter

# Where the orchestrator is among the arguments of a call.
_REGISTRATIONS = {"add_orchestrator": 0, "add_named_orchestrator": 1, "stub_orchestrator": 0}
_USES = {
    "call_sub_orchestrator": 0,
    "call_sub_orchestrator_with_retry": 0,
    "schedule_new_orchestration": 0,
    "start_new": 0,
    "drive": 0,
    "replay": 1,
    "assert_replays": 1,
    "check_determinism": 1,
}
_HUB_USES = {"run": 0, "start": 0}
_DECORATORS = frozenset(
    [
        "orchestrator",
        "orchestrators",
        "orchestration",
        "orchestration_trigger",
        "register_orchestrator",
        "workflow",
        "durable_orchestrator",
    ]
)
_DURABLE = frozenset(
    [
        "call_activity",
        "call_activity_with_retry",
        "call_sub_orchestrator",
        "call_sub_orchestrator_with_retry",
        "call_entity",
        "call_http",
        "create_timer",
        "wait_for_external_event",
        "continue_as_new",
        "lock_entities",
        "signal_entity",
    ]
)
_NAMES = frozenset(["ctx", "context"])
_OTHERS = {
    "add_activity": (0, "activity"),
    "add_named_activity": (0, "activity"),
    "stub": (0, "activity"),
    "add_entity": (0, "entity"),
    "add_named_entity": (0, "entity"),
}
_WORKERS = frozenset(["TaskHubGrpcWorker", "DurableTaskSchedulerWorker"])
_WANTED = _REGISTRATIONS.keys() | _USES.keys() | _HUB_USES.keys() | _OTHERS.keys()


def find_orchestrators(it: Interpreter, modules: Sequence[Module]) -> tuple[list[FunctionInfo], Registered]:
    """The orchestrators of the modules, by how they are registered, annotated and used."""
    found: dict[FunctionInfo, None] = {}
    similar: dict[FunctionInfo, None] = {}
    delegated: set[str] = set()
    called: set[str] = set()
    registered = Registered()
    for module in modules:
        for info in module.functions:
            if _looks_like_one(it, info):
                similar[info] = None
                called.update(last_name(node.func) for node in info.nodes if isinstance(node, ast.Call))
            for node in info.nodes:
                if isinstance(node, ast.YieldFrom) and isinstance(node.value, ast.Call):
                    delegated.add(last_name(node.value.func))
    _registrations(it, modules, found, registered)
    for module in modules:
        for info in module.functions:
            if info.name in registered.used and info.is_generator and info.owner is None and info.parameters:
                found[info] = None
    for partial in registered.partials:
        if isinstance(partial.function, Function):
            similar.pop(partial.function.info, None)
    registered.helpers = {
        info for info in similar if info not in found and (info.name in delegated or not _runs(info))
    }
    # What only looks like one may be the helper of another: it comes last.
    likely = sorted(similar, key=lambda info: (info.name in delegated, info.name in called))
    return list(dict.fromkeys([*found, *likely])), registered


def _registrations(
    it: Interpreter,
    modules: Sequence[Module],
    found: dict[FunctionInfo, None],
    registered: Registered,
) -> None:
    """Note what the modules register, directly or through functions of theirs."""
    registered.seen.update(modules)
    for module in modules:
        for scope, call in _calls(module, _WANTED):
            _look_at(it, scope, call, found, registered)
    for module in modules:
        if any(name in module.source for name in registered.wrappers):
            for scope, call in _calls(module, registered.wrappers.keys()):
                _through_wrapper(it, scope, call, found, registered)
            for info in module.functions:
                if info.is_generator and info.is_decorated(*registered.wrappers):
                    found[info] = None


def read_imported(it: Interpreter, registered: Registered) -> None:
    """Note, too, what is registered in files that were not asked for, and that those lead to which were."""
    if registered.followed:
        return
    registered.followed = True
    seen = set(registered.seen)
    stack = list(seen)
    while stack:
        module = stack.pop()
        for imported in _imports(module.tree):
            found, _ = it.project.find(imported, module)
            if found is not None and found not in seen:
                seen.add(found)
                stack.append(found)
    with it.reports.collecting():
        # What runs is what was asked for: of the others, only what they register counts.
        others = Registered(app=registered.app, tests=registered.tests, wrappers=registered.wrappers)
        _registrations(it, sorted(seen - registered.seen, key=lambda module: module.shown), {}, others)
    registered.seen |= others.seen


def _imports(tree: ast.AST) -> Iterator[Imported]:
    """What a file imports, in functions too."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name, 0, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Imported(node.module or "", node.level, alias.name if alias.name != "*" else None)
        stack.extend(statements_in(node))


def makes_worker(module: Module) -> bool:
    """Whether a worker is made in a file: what it is to know is registered there, or reached from there."""
    return next(_calls(module, _WORKERS), None) is not None


def _looks_like_one(it: Interpreter, info: FunctionInfo) -> bool:
    if isinstance(info.node, ast.Lambda):
        return False
    if info.is_decorated(*_DECORATORS):
        return True
    parameters = [arg for arg in info.parameters if not (info.owner and arg.arg in ("self", "cls"))]
    if not parameters:
        return False
    first = parameters[0]
    if first.annotation is not None:
        possible = _runs(info) or not (
            info.name.startswith("__") or info.is_stub or first.arg in info.defaults
        )
        declared = each(names.annotated(it, first.annotation, info.outer)) if possible else ()
        return any(isinstance(one, Context) for one in declared)
    if first.arg in _NAMES and info.is_generator:
        return any(
            isinstance(node, ast.Attribute)
            and node.attr in _DURABLE
            and isinstance(node.value, ast.Name)
            and node.value.id == first.arg
            for node in info.nodes
        )
    return False


def _runs(info: FunctionInfo) -> bool:
    """Whether a function waits for something; what does not is mostly the helper of an orchestrator."""
    return info.is_generator or isinstance(info.node, ast.AsyncFunctionDef) or info.is_decorated(*_DECORATORS)


def _calls(module: Module, wanted: Collection_[str]) -> Iterator[tuple[Scope, ast.Call]]:
    bodies: list[tuple[Scope, Iterable[ast.AST]]] = [(module.scope, _top(module.tree))]
    bodies += [(info.scope, info.nodes) for info in module.functions]
    for scope, nodes in bodies:
        for node in nodes:
            if isinstance(node, ast.Call) and last_name(node.func) in wanted:
                yield scope, node


def _top(tree: ast.Module) -> Iterator[ast.AST]:
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))


def _look_at(
    it: Interpreter, scope: Scope, call: ast.Call, found: dict[FunctionInfo, None], registered: Registered
) -> None:
    partials, names = registered.partials, registered.by(scope.module)
    name = last_name(call.func)
    if name in _OTHERS:
        position, kind = _OTHERS[name]
    elif name in _REGISTRATIONS:
        position, kind = _REGISTRATIONS[name], "orchestrator"
    else:
        position, kind = _USES.get(name, _HUB_USES.get(name, 0)), ""
    if len(call.args) <= position:
        if kind:
            names.hidden = True
        return
    value = _evaluate(it, scope, call.args[position])
    if kind == "entity":
        _entity(it, scope, call, name, names)
        return
    if name.startswith("add_named_"):
        label = _evaluate(it, scope, call.args[0])
        if isinstance(label, Const) and isinstance(label.value, str):
            names.known[kind].add(label.value)
        else:
            names.hidden = True
    known = False
    for one in _all(value):
        if isinstance(one, Instance):
            method = objects.member_of(it, one.info, "__call__")
            if isinstance(method, FunctionInfo) and method.is_generator:
                one = Function(method, one)
        if isinstance(one, Function):
            known = True
            if kind:
                names.known[kind].add(one.info.name)
            if kind != "activity" and _may_be_one(one.info, name):
                if isinstance(one.bound, Instance):
                    partials.append(Partial(one, (), ()))
                else:
                    found[one.info] = None
                if kind:
                    names.orchestrators.add(one.info)
        elif isinstance(one, Partial) and isinstance(one.function, Function) and kind == "orchestrator":
            known = True
            partials.append(one)
            names.hidden = True
        elif isinstance(one, Const) and isinstance(one.value, str):
            known = True
            if kind:
                names.known[kind].add(one.value)
            elif name in _USES:
                registered.used.add(one.value)
    if kind and not known:
        names.hidden = True
        of_sdk = any(isinstance(one, External) and one.name.startswith("durabletask.") for one in each(value))
        if (
            kind == "orchestrator"
            and not of_sdk
            and not _note_wrapper(scope, call.args[position], registered)
        ):
            unresolved.unknown_orchestrator(it, scope, call)


def _entity(it: Interpreter, scope: Scope, call: ast.Call, how: str, names: Names) -> None:
    """An entity is registered: by the name that is given, or else by its own."""
    given = [*call.args, *(key.value for key in call.keywords if key.arg in ("name", "fn"))][:2]
    entity, *label = given if how != "add_named_entity" else reversed(given)
    named = _evaluate(it, scope, label[0]) if label else None
    known = False
    for one in _all(_evaluate(it, scope, entity)):
        info = one.info if isinstance(one, Class | Function) else None
        if isinstance(named, Const) and isinstance(named.value, str):
            name = named.value
        elif named is None and info is not None:
            name = info.name
        else:
            continue
        known = True
        names.known["entity"].add(name.lower())
        names.entities.setdefault(name.lower(), set()).add(one.info if isinstance(one, Class) else None)
    names.hidden |= not known


def _note_wrapper(scope: Scope, argument: ast.expr, registered: Registered) -> bool:
    """Whether a function registers its own parameter: then whoever calls it registers."""
    node = scope.node
    if isinstance(argument, ast.Name) and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [
            arg.arg for arg in [*node.args.posonlyargs, *node.args.args] if arg.arg not in ("self", "cls")
        ]
        if argument.id in names:
            registered.wrappers[node.name] = names.index(argument.id)
            return True
    return False


def _through_wrapper(
    it: Interpreter, scope: Scope, call: ast.Call, found: dict[FunctionInfo, None], registered: Registered
) -> None:
    position = registered.wrappers[last_name(call.func)]
    if len(call.args) > position:
        for one in _all(_evaluate(it, scope, call.args[position])):
            if isinstance(one, Function) and one.info.is_generator:
                found[one.info] = None
                names = registered.by(scope.module)
                names.known["orchestrator"].add(one.info.name)
                names.orchestrators.add(one.info)


def _may_be_one(info: FunctionInfo, how: str) -> bool:
    parameters = [arg for arg in info.parameters if not (info.owner and arg.arg in ("self", "cls"))]
    if isinstance(info.node, ast.Lambda) and how in _HUB_USES:
        return False
    if how in _HUB_USES:
        return bool(parameters) and (parameters[0].arg in _NAMES or info.is_generator)
    return bool(parameters)


def _evaluate(it: Interpreter, scope: Scope, node: ast.expr) -> Value:
    with it.reports.collecting():
        return expressions.evaluate(it, Frame(None, scope.module, Env(scope), in_run=False), node)


def _all(value: Value) -> Iterator[Value]:
    for one in each(value):
        if isinstance(one, Collection):
            for item in one.items:
                yield from _all(item)
        else:
            yield one
