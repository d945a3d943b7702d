"""The rules: what each of them looks at while `interpreter` goes through an orchestrator."""

from __future__ import annotations

import ast
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dt_testkit.hazards import BY_CODE, hazard_of_call, hazard_of_read
from dt_testkit.lint.fixes import Fix, fix_for
from dt_testkit.lint.project import Assigned, ClassInfo, FunctionInfo, Scope, last_name, root_name
from dt_testkit.lint.report import Finding, message_for
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
    ModuleValue,
    Partial,
    Policy,
    Replaying,
    Task,
    Value,
    each,
    holds_context,
    tasks_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dt_testkit.lint.interpreter import Frame, Interpreter

ORDER_FREE = frozenset(
    ["sorted", "len", "set", "frozenset", "sum", "min", "max", "any", "all", "bool", "isinstance", "type"]
)
"""Builtins whose result does not depend on the order of what they are given."""
_ORDERING = frozenset(
    [
        "list",
        "tuple",
        "enumerate",
        "iter",
        "map",
        "filter",
        "zip",
        "next",
        "reversed",
        "dict",
        "dict.fromkeys",
    ]
)
_LISTINGS = frozenset(
    [
        "os.listdir",
        "os.scandir",
        "os.walk",
        "pathlib.Path.iterdir",
        "pathlib.Path.glob",
        "pathlib.Path.rglob",
        "glob.glob",
        "glob.iglob",
    ]
)
_COMMANDS = frozenset(
    [
        "call_activity",
        "call_sub_orchestrator",
        "call_entity",
        "create_timer",
        "wait_for_external_event",
        "lock_entities",
        "signal_entity",
        "send_event",
        "call_http",
    ]
)
_INPUTS = {
    "call_activity": 1,
    "call_sub_orchestrator": 1,
    "call_entity": 2,
    "signal_entity": 2,
    "continue_as_new": 0,
    "set_custom_status": 0,
    "send_event": 9,
}
"""Which argument is the input, where it is no keyword."""
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
_SAFE_WITH_CONTEXT = (
    "functools.",
    "itertools.",
    "contextlib.",
    "collections.",
    "dataclasses.",
    "typing.",
    "operator.",
)


@dataclass(frozen=True)
class Taint:
    """A hazard of something that runs when its module is imported."""

    path: str
    node: ast.AST
    code: str
    what: str


class Reports:
    """Where the rules put what they find, each place once."""

    def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
        self.disabled = disabled
        self.findings: dict[tuple[str, int, int, str], Finding] = {}
        self._collected: list[list[Taint]] = []

    @contextmanager
    def collecting(self) -> Iterator[list[Taint]]:
        """Note what is found in there without reporting it."""
        found: list[Taint] = []
        self._collected.append(found)
        try:
            yield found
        finally:
            self._collected.pop()

    def collected(self) -> list[Taint]:
        return list(self._collected[-1]) if self._collected else []

    def repeat(self, taints: Sequence[Taint]) -> None:
        """Note again what was found when a function was gone through before."""
        if self._collected:
            self._collected[-1].extend(taints)

    def add(
        self, frame: Frame, node: ast.AST, code: str, what: str, message: str | None = None, path: str = ""
    ) -> None:
        if code in self.disabled:
            return
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        path = path or frame.module.shown
        if self._collected:
            self._collected[-1].append(Taint(path, node, code, what))
            return
        route = (*frame.route, f"{path}:{line} {frame.name}")
        key = path, line, column, code
        if key not in self.findings or len(self.findings[key].route) > len(route):
            fix: Fix | None = None
            if path == frame.module.shown:
                fix = fix_for(code, what, node, frame)
            text = message or message_for(code, what)
            self.findings[key] = Finding(path, line, column, code, BY_CODE[code].severity, text, route, fix)

    def note(self, frame: Frame, node: ast.AST, code: str, message: str) -> None:
        """Report something as a note, whatever its severity is otherwise."""
        if code in self.disabled or self._collected:
            return
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        key = frame.module.shown, line, column, code
        route = (*frame.route, f"{frame.module.shown}:{line} {frame.name}")
        self.findings.setdefault(key, Finding(*key[:3], code, "note", message, route))


# -- what is called and read


def external_call(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value], keywords: dict[str, Value]
) -> bool:
    """Something from outside the project is called; returns whether that is a hazard."""
    hazard = hazard_of_call(name)
    if hazard is None or _is_harmless(name, args, keywords):
        external_order(it, frame, node, name, args)
        return False
    if hazard.code == "DT116" and (frame.guarded or not frame.in_run):
        return False
    if not frame.in_run and hazard.code in ("DT104", "DT105", "DT110") and _is_resource(name):
        return False  # to make a client when the module is imported is fine; to use it is not
    if _order_of(args) and name not in ORDER_FREE:
        external_order(it, frame, node, name, args)
    it.reports.add(
        frame, node, hazard.code, f"`{name}()`" if "__enter__" not in name else f"`with {name[:-10]}()`"
    )
    return True


def _is_resource(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last[:1].isupper() or last in (
        "create_engine",
        "client",
        "resource",
        "connect",
        "from_url",
        "from_env",
        "session",
    )


def _is_harmless(name: str, args: Sequence[Value], keywords: dict[str, Value]) -> bool:
    values = [*args, *keywords.values()]
    if name in ("random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "random.seed"):
        return name != "random.seed" and bool(values) and not any(v == Const("NoneType") for v in values)
    if name in ("time.localtime", "time.gmtime", "time.ctime", "time.asctime", "email.utils.formatdate"):
        return bool(values)
    if name == "time.strftime":
        return len(values) > 1
    if name in ("hash",):
        return bool(args) and all(
            (isinstance(one, Const) and one.type in ("int", "float", "bool", "NoneType"))
            or (isinstance(one, Made) and one.of in ("int", "float", "bool"))
            for one in each(args[0])
        )
    if name == "numpy.random.SeedSequence":
        return bool(values)
    if name == "print":
        return "file" in keywords and not isinstance(keywords["file"], External)
    if name == "zipfile.ZipFile" or name == "tarfile.open":
        return any(isinstance(one, Made) and one.of.startswith("io.") for v in values for one in each(v))
    if name == "io.open":
        return False
    return False


def external_read(it: Interpreter, frame: Frame, node: ast.AST, name: str) -> None:
    hazard = hazard_of_read(name)
    if hazard is not None:
        it.reports.add(frame, node, hazard.code, f"`{name}`")


def external_order(it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value]) -> None:
    if name in _ORDERING or name.startswith("itertools.") or name.endswith((".extend", ".fromkeys")):
        for value in args:
            if name in ("enumerate", "zip", "iter", "reversed", "filter"):
                continue  # whatever goes through its result is told
            ordered_use(it, frame, node, value, f"`{name}()`")


def _order_of(args: Sequence[Value]) -> bool:
    return any(is_unordered(value) for value in args)


def shared_argument(it: Interpreter, frame: Frame, node: ast.Call, function: Value) -> None:
    """`next(numbers)`, where numbers is of the module."""
    if isinstance(function, External) and function.name == "next" and node.args and frame.in_run:
        root = root_name(node.args[0])
        if root is not None and it.is_outer(frame, root.id) is not None:
            _state(frame, root.id, node, written=True)


def outside_call(it: Interpreter, frame: Frame, node: ast.AST, name: str, values: Sequence[Value]) -> None:
    """A call of what is not of the project, with a context or a task: it may do anything."""
    if "." in name and holds_context(values) and not name.startswith(_SAFE_WITH_CONTEXT):
        head = name.partition(".")[0]
        if head not in ("list", "dict", "set", "tuple", "generator", "str", "view"):
            _unresolved(
                it, frame, node, f"`{name}()` is not of the project, and is given the context or a task"
            )


def unknown_call(it: Interpreter, frame: Frame, node: ast.AST, values: Sequence[Value]) -> None:
    if not frame.in_run or not isinstance(node, ast.Call):
        return
    if any(isinstance(one, Context) for value in values for one in each(value)):
        _unresolved(
            it, frame, node, f"`{ast.unparse(node.func)}()` is given the context, and cannot be found"
        )


def dynamic(it: Interpreter, frame: Frame, node: ast.AST, name: str, target: Value) -> None:
    if frame.in_run and isinstance(target, Context | ModuleValue | External):
        _unresolved(it, frame, node, f"what `{name}()` gets at is known only when it runs")


def _unresolved(it: Interpreter, frame: Frame, node: ast.AST, what: str) -> None:
    it.reports.add(frame, node, "DT900", what)


def too_deep(it: Interpreter, frame: Frame, node: ast.AST) -> None:
    _unresolved(it, frame, node, f"`{frame.name}` is nested too deeply")


def concurrency(it: Interpreter, frame: Frame, node: ast.AST, name: str) -> None:
    if frame.in_run:
        it.reports.add(frame, node, "DT110", f"`{name}()` is async")


def orchestrator(it: Interpreter, info: FunctionInfo) -> None:
    if isinstance(info.node, ast.AsyncFunctionDef):
        from dt_testkit.lint.interpreter import Frame
        from dt_testkit.lint.values import Env

        frame = Frame(info, info.module, Env(info.scope), (), info.name)
        it.reports.add(frame, info.node, "DT110", f"`{info.name}` is an async orchestrator")


# -- order


def is_unordered(value: Value) -> bool:
    return any(
        (isinstance(one, Collection) and one.unordered) or (isinstance(one, Made) and one.of in _LISTINGS)
        for one in each(value)
    )


def ordered_use(
    it: Interpreter, frame: Frame, node: ast.AST, value: Value, how: str, loop: ast.For | None = None
) -> None:
    """Something is gone through in its order."""
    if not frame.in_run:
        return
    if is_unordered(value):
        listing = any(isinstance(one, Made) for one in each(value))
        it.reports.add(frame, node, "DT108", f"{how} goes through {'a directory' if listing else 'a set'}")
    elif (
        loop is not None
        and any(isinstance(one, Collection) and one.type in ("dict", "view") for one in each(value))
        and any(
            isinstance(inner, ast.Yield | ast.YieldFrom) for part in loop.body for inner in ast.walk(part)
        )
    ):
        it.reports.note(
            frame, node, "DT108",
            "a loop with a yield goes through a dictionary: it keeps the order in which it was filled, "
            "so make sure that this is the same on every replay.",
        )  # fmt: skip


# -- state


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
    for taint in it.taints.get((scope, name), []):
        what = f"{taint.what}, when the module is imported,"
        it.reports.add(frame, taint.node, taint.code, what, path=taint.path)
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
    if isinstance(target, ast.Name) and rebinds and it.is_outer(frame, name) is None:
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
    scope = it.is_outer(frame, name)
    if scope is not None:
        with it.reports.collecting():
            value = it.value_of_name(scope, name)
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
    member = it.member(info, attribute)
    return isinstance(member, Assigned) and member.how == "value" and is_mutable(member.value)


def class_state_read(
    it: Interpreter, frame: Frame, node: ast.AST, value: Instance | Class, name: str
) -> None:
    for taint in it.taints.get((value.info.scope, name), []):
        it.reports.add(
            frame, taint.node, taint.code, f"{taint.what}, when the class is made,", path=taint.path
        )


def function_ends(it: Interpreter, frame: Frame) -> None:
    """The body was gone through: tell what is left over."""
    if not frame.in_run:
        return
    for _, node, name in frame.state.values():
        it.reports.add(frame, node, "DT109", f"`{name}` outlives the run")
    for origin, (node, name) in frame.pending.items():
        if origin not in frame.consumed and name != "call_sub_orchestrator":  # which has a life of its own
            it.reports.add(frame, node, "DT111", f"the task of `{name}` is not yielded")


# -- tasks


def thrown_away(it: Interpreter, frame: Frame, node: ast.Expr, value: Value) -> None:
    """An expression statement gives a value that nobody takes."""
    if not frame.in_run:
        return
    for one in each(value):
        if isinstance(one, Generator) and holds_context([*one.args, *(v for _, v in one.keywords)]):
            it.reports.add(
                frame, node.value, "DT111", f"`{one.function.info.name}()` is a generator that is never run"
            )
        elif isinstance(one, Task) and one.origin not in frame.pending:
            it.reports.add(frame, node.value, "DT111", "the task that the helper returns is not yielded")
        elif isinstance(one, Collection) and not (
            isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        ):
            for task in tasks_in(one):
                if task.origin not in frame.pending:
                    it.reports.add(frame, node.value, "DT111", "the tasks are not yielded")
                    break


def used_as_value(it: Interpreter, frame: Frame, node: ast.expr, value: Value) -> None:
    """A value is computed with, compared or printed."""
    if frame.in_run and isinstance(value, Task):
        it.reports.add(frame, node, "DT111", "a task is used where its result is meant")


def yields(it: Interpreter, frame: Frame, node: ast.Yield, value: Value) -> None:
    if not frame.in_run or not frame.delegated or (frame.info and frame.info.is_decorated("contextmanager")):
        return
    wrong = [_no_task(one) for one in each(value)]
    if wrong and all(wrong):
        it.reports.add(frame, node, "DT112", f"{wrong[0]} is no task")


def yields_from(it: Interpreter, frame: Frame, node: ast.YieldFrom, value: Collection) -> None:
    ordered_use(it, frame, node, value, "yield from")
    if frame.in_run and frame.delegated:
        frame.consumed.update(task.origin for task in tasks_in(value))
        it.reports.add(frame, node, "DT112", f"`yield from` a {value.type}, which cannot take the results,")


def _no_task(value: Value) -> str:
    if isinstance(value, Const):
        return "nothing" if value.type == "NoneType" else f"a constant ({value.type})"
    if isinstance(value, Collection):
        return f"a {value.type}"
    if isinstance(value, Generator):
        return f"the generator `{value.function.info.name}()`"
    if isinstance(value, Made):
        return "" if value.of.startswith("durabletask.") or value.reported else f"`{value.of}`"
    if isinstance(value, Function | Class | Partial | Context | Durable | Replaying | ModuleValue):
        return "what is not called" if isinstance(value, Durable | Function) else "this"
    if isinstance(value, Instance):
        return f"`{value.info.name}`"
    return ""


def decides_in_place(it: Interpreter, frame: Frame, node: ast.expr, value: Value) -> Value:
    """`and` and `or` outside of a condition."""
    if frame.in_run and any(isinstance(one, Replaying) for one in each(value)):
        it.reports.add(frame, node, "DT113", "`is_replaying` decides")
        return UNKNOWN
    return value


def returns(it: Interpreter, frame: Frame, node: ast.Return, value: Value) -> Value:
    """Something is returned; what the caller is to see of it."""
    if frame.in_run and frame.is_orchestrator and frame.info is not None:
        if isinstance(value, Task) and frame.info.is_generator:
            it.reports.add(frame, node, "DT111", "a task is returned instead of its result")
        elif (why := _no_json(it, frame, value)) and not isinstance(value, Task):
            it.reports.add(frame, node, "DT122", f"the result is {why}")
    return value


def durable_call(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value], keywords: dict[str, Value]
) -> None:
    """A method of the context is called."""
    if not frame.in_run:
        return
    if frame.continued and name in _COMMANDS:
        it.reports.add(frame, node, "DT114", f"`{name}` after `continue_as_new`")
    if name in ("call_activity", "call_sub_orchestrator"):
        from dt_testkit.lint.orchestrators import check_name

        check_name(it, frame, node, name, args)
    if name in ("call_entity", "signal_entity"):
        from dt_testkit.lint.orchestrators import check_name

        check_name(
            it, frame, node, name, args[:1] or [keywords.get("entity", keywords.get("entity_id", UNKNOWN))]
        )
    policy = keywords.get("retry_policy")
    if policy is not None:
        for one in each(policy):
            if isinstance(one, Policy):
                for code, place, what in one.problems:
                    it.reports.add(frame, place, code, what, path=one.module.shown)
    if name not in _INPUTS:
        return
    given = keywords.get(
        "input", keywords.get("data", keywords.get("new_input", keywords.get("custom_status")))
    )
    if given is None and len(args) > _INPUTS[name]:
        given = args[_INPUTS[name]]
    if given is not None and (why := _no_json(it, frame, given)):
        it.reports.add(frame, node, "DT122", f"the input of `{name}` is {why}")
    if name == "call_activity" and args:
        _check_input(it, frame, node, args[0], given, keywords)
    if name not in ("set_custom_status", "continue_as_new") and isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg in ("input", "data") and isinstance(keyword.value, ast.Name):
                frame.passed[keyword.value.id] = node
        position = _INPUTS[name]
        if (
            name.endswith("_entity")
            and len(node.args) > position
            and isinstance(node.args[position], ast.Name)
        ):
            passed = node.args[position]
            if isinstance(passed, ast.Name):
                frame.passed[passed.id] = node


# -- payloads


def _no_json(it: Interpreter, frame: Frame, value: Value) -> str:
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
        if info.is_dataclass or info.node.bases or it.member(info, "to_json") is not None:
            return ""
        return f"a `{info.name}`, which is no dataclass and has no to_json"
    return ""


def _check_input(
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
                kinds = _kinds(it, it.annotated(arguments[1].annotation, info.outer))
                if required and kinds and "NoneType" not in kinds:
                    it.reports.add(frame, node, "DT121", f"`{info.name}` wants an input and gets none")
            else:
                _compare(it, frame, node, given, arguments[1].annotation, info, f"the input of `{info.name}`")
        if not isinstance(info.node, ast.Lambda) and (wanted := keywords.get("return_type")) is not None:
            have = it.annotated(info.node.returns, info.outer)
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
    if annotation is not None and not _may_be(it, given, it.annotated(annotation, info.outer)):
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
        value = it.annotated(activity.info.node.returns, activity.info.outer)
        return UNKNOWN if value == Const("NoneType") else value
    return UNKNOWN


def annotated_result(it: Interpreter, frame: Frame, node: ast.AnnAssign, value: Value) -> None:
    if isinstance(node.value, ast.Yield) and frame.in_run:
        declared = it.annotated(node.annotation, frame.env.scope)
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
                for binding in _bindings(frame, keyword.value.id):
                    if isinstance(binding, Assigned) and isinstance(binding.value, ast.Dict):
                        for key, part in zip(binding.value.keys, binding.value.values, strict=True):
                            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                                options[key.value] = it.eval(frame, part)
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


def _bindings(frame: Frame, name: str) -> list[object]:
    scope: Scope | None = frame.env.scope
    while scope is not None:
        if name in scope.bindings:
            return list(scope.bindings[name])
        scope = scope.parent
    return []


# -- control flow


def condition(it: Interpreter, frame: Frame, test: ast.expr, value: Value, body: Sequence[ast.stmt]) -> bool:
    """Something is decided; returns whether what depends on it is only written for people."""
    if not frame.in_run:
        return False
    used_as_value(it, frame, test, value)
    if any(isinstance(one, Replaying) for one in each(value)):
        if body and all(_only_writes(statement) for statement in body):
            return True
        it.reports.add(frame, test, "DT113", "`is_replaying` decides")
    return False


def _only_writes(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(statement)):
        return False
    if isinstance(function, ast.Name):
        return function.id in ("print", "log")
    return isinstance(function, ast.Attribute) and function.attr in (
        "debug", "info", "warning", "error", "exception", "critical", "log", "write", "echo",
    )  # fmt: skip


def _yields_inside(body: Sequence[ast.AST]) -> bool:
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))
    return False


def _leaves(loop: ast.While | ast.For) -> bool:
    """Whether there is a way out of a loop."""
    stack: list[tuple[ast.AST, bool]] = [(node, True) for node in loop.body]
    while stack:
        node, breaks = stack.pop()
        if isinstance(node, ast.Return | ast.Raise) or (isinstance(node, ast.Break) and breaks):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        inner = breaks and not isinstance(node, ast.For | ast.While)
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))
    return False


def endless_while(it: Interpreter, frame: Frame, node: ast.While) -> None:
    if isinstance(node.test, ast.Constant) and node.test.value:
        _endless(it, frame, node)


def endless_for(it: Interpreter, frame: Frame, node: ast.For, iterable: Value) -> None:
    if any(
        isinstance(one, Made) and one.of in ("itertools.count", "itertools.cycle") for one in each(iterable)
    ):
        _endless(it, frame, node)


def _endless(it: Interpreter, frame: Frame, node: ast.While | ast.For) -> None:
    continues = any(
        isinstance(inner, ast.Attribute) and inner.attr == "continue_as_new" for inner in ast.walk(node)
    )
    if frame.in_run and frame.delegated and _yields_inside(node.body) and not continues and not _leaves(node):
        it.reports.add(frame, node, "DT115", "a loop without an end")


_EVERYTHING = ("BaseException", "GeneratorExit")


def handlers(it: Interpreter, frame: Frame, node: ast.Try) -> None:
    if not frame.in_run or not frame.delegated or not _yields_inside(node.body):
        return
    for handler in node.handlers:
        with it.reports.collecting():
            caught_value = it.eval(frame, handler.type)
        kinds = caught_value.items if isinstance(caught_value, Collection) else (caught_value,)
        everything = handler.type is None or any(
            isinstance(one, External) and one.name in _EVERYTHING for kind in kinds for one in each(kind)
        )
        if everything and not _raises(handler.body):
            caught = "`except:`" if handler.type is None else f"`except {ast.unparse(handler.type)}`"
            it.reports.add(frame, handler, "DT119", f"{caught} around a yield")
    for statement in node.finalbody:
        if isinstance(statement, ast.Return):
            it.reports.add(frame, statement, "DT119", "`return` in a `finally` around a yield")


def _raises(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Raise)


def suppresses(it: Interpreter, frame: Frame, node: ast.With, expression: ast.expr) -> None:
    if not isinstance(expression, ast.Call) or last_name(expression.func) != "suppress" or not frame.in_run:
        return
    if any(last_name(kind) in _EVERYTHING for kind in expression.args) and _yields_inside(node.body):
        it.reports.add(frame, node, "DT119", "`suppress(BaseException)` around a yield")
