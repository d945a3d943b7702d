"""Names of activities, orchestrators and entities that are called: whether a worker knows them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from dt_testkit.lint import objects, orchestrators
from dt_testkit.lint.registered import is_of_tests
from dt_testkit.lint.values import Class, Const, External, Function, Value, each

if TYPE_CHECKING:
    import ast

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter
    from dt_testkit.lint.project import ClassInfo

_OF_ENTITIES = frozenset(["get_state", "set_state", "signal_entity", "schedule_new_orchestration", "delete"])
"""What each class of an entity has from the SDK."""
_DURABLE_ENTITY = ("durabletask.entities.DurableEntity", "durabletask.entities.durable_entity.DurableEntity")
_PLAIN_BASES = ("object", "abc.ABC", "typing.Generic", "typing.Protocol")
_DYNAMIC = ("__getattr__", "__getattribute__", "__new__")


def check_name(it: Interpreter, frame: Frame, node: ast.AST, kind: str, called: Value) -> None:
    """Whether what is called is registered somewhere."""
    for one in each(called):
        if isinstance(one, Const) and isinstance(one.value, str):
            name = one.value
        elif isinstance(one, Function):
            name = one.info.name
        else:
            continue
        if _is_missing(it, kind, name):
            _report(it, frame, node, f"{kind} `{name}`")


def check_entity(it: Interpreter, frame: Frame, node: ast.AST, entity: Value, operation: Value) -> None:
    """Whether an entity is called by its id, is registered, and has the operation."""
    for one in each(entity):
        if not isinstance(one, Const) or not isinstance(one.value, str):
            continue
        name = one.value.lower()
        if one.type == "str":
            text = f'`"{one.value}"` is no id, so nobody answers: write `EntityInstanceId("name", "key")`.'
            it.reports.add(frame, node, "DT120", "", text)
            continue
        if _is_missing(it, "entity", name):
            _report(it, frame, node, f"entity `{name}`")
            continue
        for wanted in each(operation):
            if isinstance(wanted, Const) and isinstance(wanted.value, str):
                _check_operation(it, frame, node, name, wanted.value)


def _check_operation(it: Interpreter, frame: Frame, node: ast.AST, entity: str, operation: str) -> None:
    def lacks_it() -> list[str] | None:
        """The operations there are, if this is none of them."""
        there: list[str] = []
        registered = [names.entities.get(entity, set()) for names in it.registered.for_(it.root)]
        for info in set().union(*registered) or {None}:
            operations = _operations(it, info) if info is not None else None
            if operations is None or operation in operations or hasattr(object, operation):
                return None
            there += sorted(each for each in operations if not each.startswith("_"))
        return there

    if lacks_it() is None:
        return
    orchestrators.read_imported(it, it.registered)  # it may have another class there
    there = lacks_it()
    if there is not None:
        near = get_close_matches(operation, there, 1)
        hint = f"did you mean `{near[0]}`?" if near else "mend the name, or write the method."
        text = f"the entity `{entity}` has no operation `{operation}`, so it fails each time: {hint}"
        _report(it, frame, node, f"operation `{operation}` of the entity `{entity}`", text)


def _operations(it: Interpreter, info: ClassInfo) -> set[str] | None:
    """What instances of an entity's class have; None if source does not tell."""
    found = set(_OF_ENTITIES)
    is_entity = False
    for one in objects.lineage(it, info):
        if isinstance(one, External):
            is_entity |= one.name in _DURABLE_ENTITY
            if one.name not in (*_DURABLE_ENTITY, *_PLAIN_BASES):
                return None
        elif isinstance(one, Class):
            node, scope = one.info.node, one.info.scope
            if node.keywords or node.decorator_list or scope.stars or scope.bindings.keys() & set(_DYNAMIC):
                return None
            if "setattr(" in one.info.module.source:
                return None
            found |= scope.bindings.keys() | one.info.assigned_on_self
        else:
            return None
    return found if is_entity else None


def _is_missing(it: Interpreter, kind: str, name: str) -> bool:
    """Whether some of this kind are registered, and not this, in files that were asked for or imported."""

    def known() -> list[set[str]]:
        return [names.known[kind] for names in it.registered.for_(it.root)]

    if not any(known()) or any(name in names for names in known()):
        return False
    orchestrators.read_imported(it, it.registered)
    return all(name not in names for names in known())


def _report(it: Interpreter, frame: Frame, node: ast.AST, what: str, text: str | None = None) -> None:
    """An error, if lint saw everything that could register it, and a note otherwise."""
    registered = it.registered
    if any(names.hidden for names in registered.for_(it.root)):
        why = "not all registrations can be seen"
    elif not registered.sees_all(not registered.is_of_app(it.root)) and not any(
        orchestrators.makes_worker(module) for module in registered.seen if not is_of_tests(module.shown)
    ):
        why = "not all files of the project were looked at"
    else:
        it.reports.add(frame, node, "DT120", f"the {what}", text)
        return
    it.reports.note(frame, node, "DT120", f"no registration of the {what} was found, but {why}.")
