"""Goes through orchestrators and what they call, statement by statement, and shows the rules what it meets.

Nothing runs: names stand for values as `values` describes them, a function is gone through once for each set
of values that it is called with, both branches of an ``if`` are taken, and loops are gone through twice.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dt_testkit.hazards import hazard_of_call
from dt_testkit.lint import rules
from dt_testkit.lint.orchestrators import Registered
from dt_testkit.lint.project import (
    MUTATORS,
    Assigned,
    Binding,
    ClassInfo,
    FunctionInfo,
    Imported,
    Module,
    Parameter,
    Project,
    Scope,
    last_name,
    root_name,
)
from dt_testkit.lint.values import (
    NONE,
    UNKNOWN,
    Class,
    Collection,
    Const,
    Context,
    Durable,
    Env,
    External,
    Function,
    Generator,
    Instance,
    Made,
    Many,
    ModuleValue,
    Partial,
    Replaying,
    Task,
    Value,
    each,
    element_of,
    join,
    tasks_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TASKS = frozenset(
    [
        "call_activity",
        "call_sub_orchestrator",
        "call_entity",
        "create_timer",
        "wait_for_external_event",
        "lock_entities",
        "call_http",
    ]
)
_TEXT = frozenset(["instance_id", "parent_instance_id", "version"])
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
_ALIASES = {
    "posixpath": "os.path",
    "ntpath": "os.path",
    "_thread.allocate_lock": "threading.Lock",
    "pathlib.PosixPath": "pathlib.Path",
    "concurrent.futures.thread.ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "concurrent.futures.process.ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "uuid.SafeUUID": "uuid.SafeUUID",
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
_CONTEXTS = ("durabletask.task.OrchestrationContext", "durabletask.OrchestrationContext")
_DEEPEST = 25
_DEEPEST_OUTSIDE = 5


@dataclass
class Frame:
    """One call of a function."""

    info: FunctionInfo | None
    module: Module
    env: Env
    route: tuple[str, ...] = ()
    name: str = "<module>"
    delegated: bool = True
    """Whether what it yields goes to the worker."""
    in_run: bool = True
    """Whether it is part of an orchestrator's run, rather than of an import."""
    continued: bool = False
    guarded: int = 0
    returned: list[Value] = field(default_factory=list)
    yielded: list[Value] = field(default_factory=list)
    pending: dict[ast.AST, tuple[ast.AST, str]] = field(default_factory=dict)
    consumed: set[ast.AST] = field(default_factory=set)
    passed: dict[str, ast.AST] = field(default_factory=dict)
    mutable_defaults: set[str] = field(default_factory=set)
    state: dict[str, tuple[bool, ast.AST, str]] = field(default_factory=dict)
    jumps: list[tuple[dict[str, Value], bool]] = field(default_factory=list)
    breaks: list[tuple[dict[str, Value], bool]] = field(default_factory=list)
    is_orchestrator: bool = False
    tested: ast.expr | None = None


class Interpreter:
    """Goes through functions, and reports what the rules find."""

    def __init__(self, project: Project, reports: rules.Reports) -> None:
        self.project = project
        self.reports = reports
        self.registered = Registered()
        self.taints: dict[tuple[Scope, str], list[rules.Taint]] = {}
        self._static: dict[tuple[Scope, str], Value] = {}
        self._evaluating: set[tuple[Scope, str]] = set()
        self._memo: dict[object, tuple[Value, bool]] = {}
        self._taints_of: dict[object, list[rules.Taint]] = {}
        self._stack: list[FunctionInfo] = []
        self.entered: set[FunctionInfo] = set()

    # -- names

    def value_of_name(self, scope: Scope, name: str) -> Value:
        """What a name means in a scope that is not run, or outside of it."""
        outer: Scope | None = scope
        while outer is not None:
            if name in outer.bindings and (not outer.is_class or outer is scope):
                return self.value_in(outer, name)
            for star in outer.stars:
                found = self._star(star, name, outer.module)
                if found is not UNKNOWN:
                    return found
            outer = outer.parent
        return External(name) if hasattr(builtins, name) else UNKNOWN

    def _star(self, star: Imported, name: str, module: Module) -> Value:
        found, _ = self.project.find(Imported(star.module, star.level, None), module)
        if found is not None:
            return (
                self.value_of_name(found.scope, name)
                if name in found.scope.bindings or found.scope.stars
                else UNKNOWN
            )
        dotted = f"{star.module}.{name}"
        return self.external(dotted) if hazard_of_call(dotted) else UNKNOWN

    def value_in(self, scope: Scope, name: str) -> Value:
        """What a name of exactly this scope means, whatever of its bindings holds."""
        key = scope, name
        if key in self._static:
            return self._static[key]
        if key in self._evaluating:
            return UNKNOWN
        self._evaluating.add(key)
        try:
            values = [self._bound(scope, name, binding) for binding in scope.bindings.get(name, [])]
        finally:
            self._evaluating.discard(key)
        known = [value for value in values if value is not UNKNOWN]
        self._static[key] = result = join(known) if known else UNKNOWN
        return result

    def _bound(self, scope: Scope, name: str, binding: Binding) -> Value:
        if isinstance(binding, FunctionInfo):
            return self.decorated(binding, None)
        if isinstance(binding, ClassInfo):
            return Class(binding)
        if isinstance(binding, Imported):
            return self.imported(binding, scope.module)
        if isinstance(binding, Parameter):
            owner = scope.module.owner_of(scope.node)
            if owner is not None and binding.argument.arg in ("self", "cls"):
                return Instance(owner, shared=True) if binding.argument.arg == "self" else Class(owner)
            return self.annotated(binding.argument.annotation, scope)
        if binding.how == "annotation":
            return self.annotated(binding.value, scope)
        if binding.how in ("other", "augmented"):
            return UNKNOWN
        frame = Frame(None, scope.module, Env(scope), in_run=False)
        with self.reports.collecting() as found:
            value = self.eval(frame, binding.value)
        if found:
            self.taints.setdefault((scope, name), []).extend(found)
        if binding.how == "element":
            value = element_of(value)
        if binding.position is not None:
            value = self._part(value, binding.position)
        if isinstance(value, Instance):
            value = Instance(value.info, shared=True)
        if isinstance(value, Made) and value.reported:
            value = Made(value.of)
        return value

    def _part(self, value: Value, position: int) -> Value:
        found: list[Value] = []
        for one in each(value):
            if isinstance(one, Collection) and one.type == "tuple" and position < len(one.items):
                found.append(one.items[position])
            else:
                found.append(element_of(one))
        return join(found)

    def imported(self, binding: Imported, module: Module) -> Value:
        found, attribute = self.project.find(binding, module)
        if found is None:
            if binding.level:
                return UNKNOWN
            return self.external(".".join(filter(None, [binding.module, binding.attribute])))
        if attribute is None:
            return ModuleValue(found)
        return (
            self.value_of_name(found.scope, attribute)
            if attribute in found.scope.bindings or found.scope.stars
            else UNKNOWN
        )

    def external(self, name: str) -> External:
        name = name.removeprefix("builtins.")
        head, dot, rest = name.partition(".")
        if head in _ALIASES:
            name = _ALIASES[head] + dot + rest
        return External(_ALIASES.get(name, name))

    def annotated(self, annotation: ast.expr | None, scope: Scope) -> Value:
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
            return join([self.annotated(annotation.left, scope), self.annotated(annotation.right, scope)])
        if isinstance(annotation, ast.Subscript):
            head = last_name(annotation.value)
            if head in ("Annotated", "Optional", "Final", "ClassVar"):
                inner = annotation.slice
                first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
                value = self.annotated(first, scope)
                return join([value, NONE]) if head == "Optional" else value
            annotation = annotation.value
        if not isinstance(annotation, ast.Name | ast.Attribute):
            return UNKNOWN
        if last_name(annotation) == "OrchestrationContext":
            return Context()
        frame = Frame(None, scope.module, Env(scope), in_run=False)
        with self.reports.collecting():
            value = self.eval(frame, annotation)
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

    def lookup(self, frame: Frame, node: ast.Name) -> Value:
        env: Env | None = frame.env
        outermost = frame.env
        name = node.id
        while env is not None:
            if name in env.scope.declared_global:
                return self._outer(frame, node, env.scope.module.scope)
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
        return self._outer(
            frame, node, outermost.scope if not frame.in_run else outermost.scope.parent or outermost.scope
        )

    def _outer(self, frame: Frame, node: ast.Name, scope: Scope) -> Value:
        value = self.value_of_name(scope, node.id)
        if isinstance(value, External):
            rules.external_read(self, frame, node, value.name)
        if frame.in_run:
            owner: Scope | None = scope
            while owner is not None and node.id not in owner.bindings:
                owner = owner.parent
            if owner is not None:
                rules.outer_name(self, frame, node, owner, value)
        return value

    def is_outer(self, frame: Frame, name: str) -> Scope | None:
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

    # -- functions

    def decorated(self, info: FunctionInfo, closure: Env | None) -> Value:
        """What a def statement leaves behind, after the decorators of the project."""
        value: Value = Function(info, None, closure)
        for decorator in reversed(info.decorators):
            if info.is_decorated(
                "property", "cached_property", "staticmethod", "classmethod", "contextmanager"
            ):
                break
            frame = Frame(None, info.module, closure or Env(info.outer), in_run=False)
            with self.reports.collecting():
                wrapper = self.eval(frame, decorator)
                if isinstance(wrapper, Function) and not wrapper.info.is_generator:
                    result = self.call(frame, decorator, wrapper, [value], {})
                    if any(isinstance(one, Function | Partial) for one in each(result)):
                        value = result
        return value

    def orchestrator(self, info: FunctionInfo, before: tuple[Value, ...] = ()) -> None:
        """Go through an orchestrator, with the arguments that partial() gives it."""
        try:
            self._orchestrator(info, before)
        except RecursionError:
            frame = Frame(info, info.module, Env(info.scope), (), info.name)
            rules.too_deep(self, frame, info.node)

    def _orchestrator(self, info: FunctionInfo, before: tuple[Value, ...]) -> None:
        arguments = [arg for arg in info.parameters if not (info.owner and arg.arg in ("self", "cls"))]
        inputs = [
            self.annotated(arg.annotation, info.scope) for arg in arguments[len(before) + 1 : len(before) + 2]
        ]
        values: list[Value] = [*before, Context(), *inputs]
        bound = Instance(info.owner, shared=True) if info.owner is not None else None
        function = Function(info, bound)
        rules.orchestrator(self, info)
        positional = len(info.node.args.posonlyargs) + len(info.node.args.args) - (bound is not None)
        self.run(function, values[: max(positional, 1)], {}, (), delegated=True, is_orchestrator=True)
        decorated = self.decorated(info, None)
        for one in each(decorated):
            if isinstance(one, Function) and one.info is not info:
                self.run(one, [Context(), UNKNOWN], {}, (), delegated=True, is_orchestrator=True)

    def run(
        self,
        function: Function,
        args: Sequence[Value],
        keywords: dict[str, Value],
        route: tuple[str, ...],
        *,
        delegated: bool = False,
        in_run: bool = True,
        continued: bool = False,
        guarded: int = 0,
        is_orchestrator: bool = False,
        node: ast.AST | None = None,
    ) -> tuple[Value, bool]:
        """Go through the body of a function; returns what it returns, and whether it continued as new."""
        info = function.info
        key = (
            function,
            tuple(args),
            tuple(keywords.items()),
            delegated,
            in_run,
            continued,
            guarded > 0,
            is_orchestrator,
        )
        if key in self._memo:
            self.reports.repeat(self._taints_of.get(key, ()))
            return self._memo[key]
        if info in self._stack or len(self._stack) > (_DEEPEST if in_run else _DEEPEST_OUTSIDE):
            return UNKNOWN, False
        env = Env(info.scope, function.closure)
        frame = Frame(
            info,
            info.module,
            env,
            route,
            info.name,
            delegated,
            in_run,
            continued,
            guarded,
            is_orchestrator=is_orchestrator,
        )
        if in_run:
            self.entered.add(info)
        self._stack.append(info)
        before = self.reports.collected()
        try:
            self._bind_arguments(frame, function, args, keywords)
            body = info.node.body
            if isinstance(body, list):
                self.block(frame, body)
            else:
                frame.returned.append(self.eval(frame, body))
                frame.consumed.update(frame.pending)
            rules.function_ends(self, frame)
        finally:
            self._stack.pop()
        if info.is_generator and not delegated:
            value: Value = Collection("generator", tuple(frame.yielded[:50]))
        else:
            value = join(frame.returned) if frame.returned else NONE
            if not info.is_generator and isinstance(value, Many) and len(value.values) > 20:
                value = UNKNOWN
        result = value, frame.continued
        self._memo[key] = result
        if not in_run:
            self._taints_of[key] = self.reports.collected()[len(before) :]
        return result

    def _bind_arguments(
        self, frame: Frame, function: Function, args: Sequence[Value], keywords: dict[str, Value]
    ) -> None:
        info = function.info
        spec = info.node.args
        values = list(args)
        if function.bound is not None:
            values.insert(0, function.bound)
        names = frame.env.names
        positional = [*spec.posonlyargs, *spec.args]
        given = set()
        for argument, value in zip(positional, values, strict=False):
            declared = self.annotated(argument.annotation, info.outer) if value is UNKNOWN else value
            names[argument.arg] = declared
            given.add(argument.arg)
        for name, value in keywords.items():
            if name not in given:
                names[name] = value
                given.add(name)
        if spec.vararg:
            names[spec.vararg.arg] = Collection("tuple", tuple(values[len(positional) :]))
        if spec.kwarg:
            names[spec.kwarg.arg] = Collection("dict", tuple(keywords.values()))
        defaults = dict(
            zip(
                [a.arg for a in positional][len(positional) - len(spec.defaults) :],
                spec.defaults,
                strict=True,
            )
        )
        defaults.update(
            {a.arg: d for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None}
        )
        for argument in [*positional, *spec.kwonlyargs]:
            default = defaults.get(argument.arg)
            if default is not None and rules.is_mutable(default):
                frame.mutable_defaults.add(argument.arg)
            if argument.arg in given:
                if default is not None and names[argument.arg] is not UNKNOWN:
                    frame.mutable_defaults.discard(argument.arg)
                continue
            value = self.annotated(argument.annotation, info.outer)
            if default is not None:
                outside = Frame(None, info.module, function.closure or Env(info.outer), in_run=False)
                if frame.in_run:
                    outside.route, outside.name = frame.route, info.name
                found = self.eval(outside, default)
                value = found if value is UNKNOWN else join([value, found])
            names[argument.arg] = value

    def call(
        self, frame: Frame, node: ast.AST, function: Value, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """What a call gives; the rules see it, and functions of the project are gone through."""
        return join([self._call(frame, node, one, args, keywords) for one in list(each(function))[:12]])

    def _call(
        self, frame: Frame, node: ast.AST, function: Value, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        if isinstance(function, External):
            return self._call_external(frame, node, function.name, args, keywords)
        if isinstance(function, Durable):
            return self._call_durable(frame, node, function.name, args, keywords)
        if isinstance(function, Partial):
            return self.call(
                frame,
                node,
                function.function,
                [*function.args, *args],
                {**dict(function.keywords), **keywords},
            )
        if isinstance(function, Function):
            info = function.info
            if isinstance(info.node, ast.AsyncFunctionDef):
                rules.concurrency(self, frame, node, info.name)
            if info.is_generator and not info.is_decorated("contextmanager"):
                return Generator(function, tuple(args), tuple(keywords.items()))
            return self.enter(frame, node, function, args, keywords)
        if isinstance(function, Class):
            return self._construct(frame, node, function.info, args, keywords)
        if isinstance(function, Instance):
            method = self.attribute(frame, node, function, "__call__")
            return self.call(frame, node, method, args, keywords) if method is not UNKNOWN else UNKNOWN
        if isinstance(function, Made):
            return UNKNOWN
        if type(function) is Value:
            rules.unknown_call(self, frame, node, [*args, *keywords.values()])
            for value in [*args, *keywords.values()]:
                if isinstance(value, Function) and isinstance(value.info.node, ast.Lambda):
                    self.call(frame, node, value, [UNKNOWN], {})
        return UNKNOWN

    def enter(
        self,
        frame: Frame,
        node: ast.AST,
        function: Function,
        args: Sequence[Value],
        keywords: dict[str, Value],
        delegated: bool = False,
    ) -> Value:
        route = (*frame.route, self.place(frame, node)) if frame.in_run else frame.route
        value, continued = self.run(
            function,
            args,
            keywords,
            route,
            delegated=delegated and frame.delegated,
            in_run=frame.in_run,
            continued=frame.continued,
            guarded=frame.guarded,
        )
        if continued:
            frame.continued = True
        return value

    def place(self, frame: Frame, node: ast.AST) -> str:
        return f"{frame.module.shown}:{getattr(node, 'lineno', 1)} {frame.name}"

    def consume(self, frame: Frame, node: ast.AST, value: Value) -> Value:
        """Iterate over a value; returns an element."""
        found: list[Value] = []
        for one in each(value):
            if isinstance(one, Generator):
                result = self.enter(frame, node, one.function, one.args, dict(one.keywords))
                found.append(element_of(result))
            elif isinstance(one, Instance):
                method = self.attribute(frame, node, one, "__iter__")
                if isinstance(method, Function):
                    found.append(self.consume(frame, node, self.call(frame, node, method, [], {})))
                else:
                    found.append(UNKNOWN)
            else:
                found.append(element_of(one))
        return join(found)

    def _call_external(
        self, frame: Frame, node: ast.AST, name: str, args: list[Value], keywords: dict[str, Value]
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
            return self.imported(Imported(first.value, 0, None), frame.module)
        if name == "getattr" and len(args) >= 2:
            if isinstance(args[1], Const) and isinstance(args[1].value, str):
                return self.attribute(frame, node, first, args[1].value)
            rules.dynamic(self, frame, node, "getattr", first)
            return UNKNOWN
        if name in ("exec", "eval"):
            rules.dynamic(self, frame, node, name, Context())
            return UNKNOWN
        if name.startswith("durabletask."):
            return self._call_sdk(frame, node, name, last, args, keywords)
        if args:
            self._special(frame, node, name, args[0])
        if name == "functools.update_wrapper" and args:
            return first
        reported = rules.external_call(self, frame, node, name, args, keywords)
        values = [*args, *keywords.values()]
        if frame.in_run and not reported:
            rules.outside_call(self, frame, node, name, values)
        if not frame.in_run or name in _CALLERS or "." in name or name in ("defaultdict",):
            for value in values:
                for one in each(value):
                    if isinstance(one, Function) and (name in _CALLERS or "." in name):
                        given = (
                            self.consume(frame, node, args[1])
                            if len(args) > 1 and name in ("map", "filter")
                            else UNKNOWN
                        )
                        result = self.call(frame, node, one, [given], {})
                        if name == "map":
                            return Collection("iterator", tuple(each(result)))
                    elif (
                        isinstance(one, External)
                        and name in _CALLERS | {"iter"}
                        and one.name not in ("str", "int", "float")
                    ):
                        self._call_external(frame, node, one.name, [UNKNOWN], {})
                    elif isinstance(one, Partial):
                        self.call(frame, node, one, [UNKNOWN], {})
                    elif isinstance(one, Generator):
                        self.consume(frame, node, one)
        elif name in ("dict", "enumerate", "zip", "reversed"):
            for value in values:
                self.consume(frame, node, value)
        return self._given_by(frame, node, name, last, args, reported)

    def _special(self, frame: Frame, node: ast.AST, name: str, value: Value) -> None:
        """The method of a class of the project that a builtin calls."""
        for method in _SPECIAL.get(name, ()):
            for one in each(value):
                if isinstance(one, Instance) and isinstance(self.member(one.info, method), FunctionInfo):
                    self.call(frame, node, self.attribute(frame, node, one, method), [], {})
                    return

    def _given_by(
        self, frame: Frame, node: ast.AST, name: str, last: str, args: list[Value], reported: bool
    ) -> Value:
        first = args[0] if args else UNKNOWN
        unordered = any(
            isinstance(one, Collection) and one.unordered for value in args for one in each(value)
        )
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
        self, frame: Frame, node: ast.AST, name: str, last: str, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        if last == "EntityInstanceId" and args:
            named = args[0]
            return Const(last, named.value if isinstance(named, Const) else None)
        if last == "RetryPolicy":
            return rules.policy(self, frame, node, keywords)
        if last in ("when_all", "when_any"):
            task = Task(node)
            frame.pending[node] = (node, last)
            return task
        return Made(name)

    def _call_durable(
        self, frame: Frame, node: ast.AST, name: str, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        rules.durable_call(self, frame, node, name, args, keywords)
        if name == "continue_as_new":
            frame.continued = True
            return NONE
        if name in TASKS:
            frame.pending[node] = (node, name)
            result = UNKNOWN
            if name == "call_activity" and args:
                result = rules.activity_result(self, args[0], keywords)
            return Task(node, result)
        if name == "new_uuid":
            return Made("str")
        if name == "create_replay_safe_logger":
            return Made("durabletask.task.ReplaySafeLogger")
        return NONE

    def _construct(
        self, frame: Frame, node: ast.AST, info: ClassInfo, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        instance = Instance(info, shared=not frame.in_run)
        found = False
        for name in ("__new__", "__init__", "__post_init__"):
            method = self.member(info, name)
            if isinstance(method, FunctionInfo):
                found = True
                given = [] if name == "__post_init__" else args
                self.enter(
                    frame,
                    node,
                    Function(method, instance),
                    given,
                    {} if name == "__post_init__" else keywords,
                )
        if info.is_dataclass or not found:
            self._default_factories(frame, node, info, args, keywords)
        return instance

    def _default_factories(
        self, frame: Frame, node: ast.AST, info: ClassInfo, args: list[Value], keywords: dict[str, Value]
    ) -> None:
        fields = [
            s for s in info.node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
        ]
        for statement in fields[len(args) :]:
            value, target = statement.value, statement.target
            if not isinstance(value, ast.Call) or last_name(value.func) not in (
                "field",
                "Field",
                "Factory",
                "ib",
            ):
                continue
            if isinstance(target, ast.Name) and target.id in keywords:
                continue
            for keyword in value.keywords:
                if keyword.arg in ("default_factory", "factory"):
                    outside = Frame(None, info.module, Env(info.scope), in_run=False)
                    with self.reports.collecting():
                        factory = self.eval(outside, keyword.value)
                    inside = Frame(
                        None, info.module, Env(info.scope), (*frame.route, self.place(frame, node)), info.name
                    )
                    if not isinstance(factory, Class):
                        inside.in_run = frame.in_run
                        self.call(inside, keyword.value, factory, [], {})

    def member(self, info: ClassInfo, name: str, depth: int = 0) -> Binding | None:
        """What a class, or one of its bases in the project, has under a name."""
        bindings = info.scope.bindings.get(name)
        if bindings:
            return bindings[-1]
        if depth < 8:
            for base in info.node.bases:
                with self.reports.collecting():
                    node = base.value if isinstance(base, ast.Subscript) else base
                    value = self.eval(Frame(None, info.module, Env(info.outer), in_run=False), node)
                if (
                    isinstance(value, Class)
                    and (found := self.member(value.info, name, depth + 1)) is not None
                ):
                    return found
        return None

    # -- expressions

    def attribute(self, frame: Frame, node: ast.AST, value: Value, name: str) -> Value:
        return join([self._attribute(frame, node, one, name) for one in list(each(value))[:12]])

    def _attribute(self, frame: Frame, node: ast.AST, value: Value, name: str) -> Value:
        if isinstance(value, External):
            found = (
                self.external(f"{value.name}.{name}")
                if "." in value.name or not hasattr(builtins, value.name)
                else None
            )
            if found is None:
                return External(f"{value.name}.{name}")
            rules.external_read(self, frame, node, found.name)
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
                found_value = self.value_of_name(scope, name)
                if frame.in_run and name in scope.bindings and isinstance(node, ast.Attribute):
                    rules.outer_name(self, frame, node, scope, found_value, name)
                return found_value
            deeper = self.project.submodule(value.module, name)
            return ModuleValue(deeper) if deeper is not None else UNKNOWN
        if isinstance(value, Instance | Class):
            return self._member_value(frame, node, value, name)
        if isinstance(value, Task):
            return value.result if name == "result" else External(f"durabletask.task.Task.{name}")
        if isinstance(value, Collection):
            if value.type == "dict" and name in ("items", "values", "keys"):
                return External(f"dict.{name}")
            return External(f"{value.type}.{name}")
        if isinstance(value, Const):
            return External(f"{value.type}.{name}")
        return UNKNOWN

    def _member_value(self, frame: Frame, node: ast.AST, value: Instance | Class, name: str) -> Value:
        member = self.member(value.info, name)
        if isinstance(member, FunctionInfo):
            if member.is_decorated("property", "cached_property") and isinstance(value, Instance):
                return self.enter(frame, node, Function(member, value), [], {})
            if member.is_decorated("staticmethod"):
                return Function(member)
            if member.is_decorated("classmethod"):
                return Function(member, Class(value.info))
            return Function(member, value if isinstance(value, Instance) else None)
        if isinstance(member, ClassInfo):
            return Class(member)
        if isinstance(member, Assigned):
            found = (
                self._bound(value.info.scope, name, member)
                if member.how != "annotation"
                else self.annotated(member.value, value.info.scope)
            )
            if frame.in_run:
                rules.class_state_read(self, frame, node, value, name)
            return found
        if isinstance(value, Instance):
            return self._instance_attribute(value, name)
        return UNKNOWN

    def _instance_attribute(self, value: Instance, name: str) -> Value:
        """What a method of the class, __init__ for one, has put there."""
        scope = value.info.scope
        key = scope, f"self.{name}"
        if key in self._static:
            return self._static[key]
        if key in self._evaluating:
            return UNKNOWN
        self._evaluating.add(key)
        found: list[Value] = []
        try:
            for statement in value.info.node.body:
                if (
                    isinstance(statement, ast.AnnAssign)
                    and isinstance(statement.target, ast.Name)
                    and statement.target.id == name
                ):
                    found.append(self.annotated(statement.annotation, scope))
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
                            expression = (
                                inner.value if isinstance(inner, ast.Assign | ast.AnnAssign) else None
                            )
                            if expression is not None:
                                with self.reports.collecting():
                                    frame = Frame(None, info.module, Env(info.scope), in_run=False)
                                    found.append(self.eval(frame, expression))
        finally:
            self._evaluating.discard(key)
        result = join([v if not isinstance(v, Made) else Made(v.of) for v in found])
        self._static[key] = result
        return result

    def eval(self, frame: Frame, node: ast.expr | None) -> Value:
        """What an expression stands for."""
        if node is None:
            return NONE
        method = getattr(self, f"_eval_{type(node).__name__}", None)
        if method is not None:
            value: Value = method(frame, node)
            return value
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.eval(frame, child)
        return UNKNOWN

    def _eval_Constant(self, frame: Frame, node: ast.Constant) -> Value:
        value = node.value
        return Const(type(value).__name__, value if isinstance(value, str | int | float | bool) else None)

    def _eval_Name(self, frame: Frame, node: ast.Name) -> Value:
        value = self.lookup(frame, node)
        for task in tasks_in(value):
            frame.consumed.add(task.origin)
        return value

    def _eval_Attribute(self, frame: Frame, node: ast.Attribute) -> Value:
        return self.attribute(frame, node, self.eval(frame, node.value), node.attr)

    def _eval_Subscript(self, frame: Frame, node: ast.Subscript) -> Value:
        value, index = self.eval(frame, node.value), self.eval(frame, node.slice)
        self._special(frame, node, "[]", value)
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

    def _eval_Slice(self, frame: Frame, node: ast.Slice) -> Value:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self.eval(frame, part)
        return UNKNOWN

    def _eval_Starred(self, frame: Frame, node: ast.Starred) -> Value:
        value = self.eval(frame, node.value)
        rules.ordered_use(self, frame, node, value, "unpacking")
        return self.consume(frame, node, value)

    def _eval_JoinedStr(self, frame: Frame, node: ast.JoinedStr) -> Value:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.eval(frame, part.value)
                rules.used_as_value(self, frame, part.value, value)
                self._special(frame, part.value, "str", value)
        return Made("str")

    def _collection(self, frame: Frame, node: ast.List | ast.Tuple | ast.Set, kind: str) -> Value:
        items: list[Value] = []
        for part in node.elts:
            items.extend(each(self.eval(frame, part)))
        return Collection(kind, tuple(items[:300]), unordered=kind == "set")

    def _eval_List(self, frame: Frame, node: ast.List) -> Value:
        return self._collection(frame, node, "list")

    def _eval_Tuple(self, frame: Frame, node: ast.Tuple) -> Value:
        return self._collection(frame, node, "tuple")

    def _eval_Set(self, frame: Frame, node: ast.Set) -> Value:
        return self._collection(frame, node, "set")

    def _eval_Dict(self, frame: Frame, node: ast.Dict) -> Value:
        items: list[Value] = []
        for key, part in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.eval(frame, key)
                items.extend(each(self.eval(frame, part)))
            else:
                self.eval(frame, part)
        return Collection("dict", tuple(dict.fromkeys(items)))

    def _eval_BinOp(self, frame: Frame, node: ast.BinOp) -> Value:
        left, right = self.eval(frame, node.left), self.eval(frame, node.right)
        self._special(frame, node, type(node.op).__name__, left)
        rules.used_as_value(self, frame, node.left, left)
        rules.used_as_value(self, frame, node.right, right)
        sides = [one for side in (left, right) for one in each(side)]
        if any(isinstance(one, Collection) and one.type == "set" for one in sides):
            return Collection("set", unordered=True)
        if any(isinstance(one, Collection) and one.type == "list" for one in sides):
            return Collection(
                "list", tuple(i for one in sides if isinstance(one, Collection) for i in one.items)
            )
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

    def _eval_BoolOp(self, frame: Frame, node: ast.BoolOp) -> Value:
        value = join([self.eval(frame, value) for value in node.values])
        if node is not frame.tested:
            return rules.decides_in_place(self, frame, node, value)
        return value

    def _eval_UnaryOp(self, frame: Frame, node: ast.UnaryOp) -> Value:
        value = self.eval(frame, node.operand)
        if isinstance(node.op, ast.Not):
            return value if any(isinstance(one, Replaying) for one in each(value)) else Made("bool")
        return value if isinstance(value, Const) else UNKNOWN

    def _eval_Compare(self, frame: Frame, node: ast.Compare) -> Value:
        sides = [self.eval(frame, node.left), *(self.eval(frame, part) for part in node.comparators)]
        for side in sides:
            self._special(frame, node, type(node.ops[0]).__name__, side)
        if any(isinstance(one, Replaying) for side in sides for one in each(side)):
            return Replaying()
        if all(
            not isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn | ast.Eq | ast.NotEq)
            for op in node.ops
        ):
            for part, side in zip([node.left, *node.comparators], sides, strict=True):
                rules.used_as_value(self, frame, part, side)
        return Made("bool")

    def _eval_IfExp(self, frame: Frame, node: ast.IfExp) -> Value:
        self.condition(frame, node.test, [])
        return join([self.eval(frame, node.body), self.eval(frame, node.orelse)])

    def _eval_NamedExpr(self, frame: Frame, node: ast.NamedExpr) -> Value:
        value = self.eval(frame, node.value)
        self.assign(frame, node.target, value)
        return value

    def _eval_Await(self, frame: Frame, node: ast.Await) -> Value:
        return self.eval(frame, node.value)

    def _eval_Lambda(self, frame: Frame, node: ast.Lambda) -> Value:
        return Function(
            frame.module.function(node, frame.env.scope), None, frame.env if frame.in_run else None
        )

    def _eval_Yield(self, frame: Frame, node: ast.Yield) -> Value:
        value = self.eval(frame, node.value)
        frame.yielded.append(value)
        frame.consumed.update(task.origin for task in tasks_in(value))
        rules.yields(self, frame, node, value)
        results = [one.result if isinstance(one, Task) else UNKNOWN for one in each(value)]
        frame.passed.clear()
        return join(results)

    def _eval_YieldFrom(self, frame: Frame, node: ast.YieldFrom) -> Value:
        value = self.eval(frame, node.value)
        found: list[Value] = []
        for one in each(value):
            if isinstance(one, Generator):
                found.append(
                    self.enter(frame, node.value, one.function, one.args, dict(one.keywords), delegated=True)
                )
            else:
                if isinstance(one, Collection):
                    rules.yields_from(self, frame, node, one)
                found.append(UNKNOWN)
        frame.passed.clear()
        return join(found)

    def _comprehension(
        self,
        frame: Frame,
        node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp,
        element: ast.expr,
    ) -> tuple[Value, bool]:
        unordered = False
        before = dict(frame.env.names)
        for generator in node.generators:
            iterable = self.eval(frame, generator.iter)
            unordered = unordered or rules.is_unordered(iterable)
            if isinstance(node, ast.ListComp | ast.DictComp) and not getattr(node, "_order_free", False):
                rules.ordered_use(self, frame, generator.iter, iterable, "a comprehension")
            self.assign(frame, generator.target, self.consume(frame, generator.iter, iterable))
            for test in generator.ifs:
                self.condition(frame, test, [])
        if isinstance(node, ast.DictComp):
            self.eval(frame, node.key)
        value = self.eval(frame, element)
        frame.env.names = {**frame.env.names, **before}
        for name in set(frame.env.names) - set(before):
            del frame.env.names[name]
        return value, unordered

    def _eval_ListComp(self, frame: Frame, node: ast.ListComp) -> Value:
        value, _ = self._comprehension(frame, node, node.elt)
        return Collection("list", tuple(each(value)))

    def _eval_SetComp(self, frame: Frame, node: ast.SetComp) -> Value:
        value, _ = self._comprehension(frame, node, node.elt)
        return Collection("set", tuple(each(value)), unordered=True)

    def _eval_GeneratorExp(self, frame: Frame, node: ast.GeneratorExp) -> Value:
        value, unordered = self._comprehension(frame, node, node.elt)
        return Collection("generator", tuple(each(value)), unordered=unordered)

    def _eval_DictComp(self, frame: Frame, node: ast.DictComp) -> Value:
        value, _ = self._comprehension(frame, node, node.value)
        return Collection("dict", tuple(each(value)))

    def _eval_Call(self, frame: Frame, node: ast.Call) -> Value:
        receiver: Value = UNKNOWN
        if isinstance(node.func, ast.Attribute):
            quiet = set(frame.consumed)
            receiver = self.eval(frame, node.func.value)
            if node.func.attr in ("append", "extend", "add", "insert") and isinstance(
                node.func.value, ast.Name
            ):
                frame.consumed = quiet
            function = self.attribute(frame, node.func, receiver, node.func.attr)
        else:
            function = self.eval(frame, node.func)
        if isinstance(function, External) and function.name in rules.ORDER_FREE:
            for argument in node.args:
                if isinstance(argument, ast.ListComp):
                    argument._order_free = True  # type: ignore[attr-defined]
        args: list[Value] = []
        for argument in node.args:
            value = self.eval(frame, argument)
            if isinstance(argument, ast.Starred):
                args.extend([value])
            else:
                args.append(value)
        keywords = {keyword.arg: self.eval(frame, keyword.value) for keyword in node.keywords if keyword.arg}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.eval(frame, keyword.value)
        if isinstance(node.func, ast.Attribute):
            special = self._method_of_value(frame, node, receiver, node.func, args)
            if special is not None:
                return special
        if isinstance(function, External) and function.name == "super" and frame.info and frame.info.owner:
            for base in frame.info.owner.node.bases:
                with self.reports.collecting():
                    value = self.eval(Frame(None, frame.module, Env(frame.info.outer), in_run=False), base)
                if isinstance(value, Class):
                    return Instance(value.info)
        rules.shared_argument(self, frame, node, function)
        return self.call(frame, node, function, args, keywords)

    def _method_of_value(
        self, frame: Frame, node: ast.Call, receiver: Value, func: ast.Attribute, args: list[Value]
    ) -> Value | None:
        """What the methods of collections do and give."""
        name = func.attr
        if name in MUTATORS and not isinstance(receiver, Context | Instance | ModuleValue):
            rules.mutation(self, frame, node, func.value)
        if isinstance(receiver, Collection):
            if name in ("append", "add", "insert", "extend") and isinstance(func.value, ast.Name) and args:
                added = each(args[-1]) if name != "extend" else each(element_of(args[-1]))
                items = tuple(dict.fromkeys([*receiver.items, *added]))
                if func.value.id in frame.env.names:
                    frame.env.names[func.value.id] = Collection(
                        receiver.type, items[:300], receiver.unordered
                    )
                if name == "extend":
                    rules.ordered_use(self, frame, node, args[-1], "extend")
                return NONE
            if receiver.type == "set":
                if name == "pop":
                    rules.ordered_use(self, frame, node, receiver, "pop")
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
                rules.ordered_use(self, frame, node, value, "join")
                self.consume(frame, node, value)
            return Made("str")
        return None

    # -- statements

    def block(self, frame: Frame, body: Sequence[ast.stmt]) -> bool:
        """Go through statements; returns whether the code after them is not reached."""
        return any(self.statement(frame, statement) for statement in body)

    def statement(self, frame: Frame, node: ast.stmt) -> bool:
        method = getattr(self, f"_do_{type(node).__name__}", None)
        if method is not None:
            before = set(frame.pending)
            ends: bool = method(frame, node)
            if not isinstance(
                node,
                ast.Expr | ast.Assign | ast.AnnAssign | ast.If | ast.For | ast.While | ast.With | ast.Try,
            ):
                frame.consumed.update(set(frame.pending) - before)
            return ends
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.eval(frame, child)
        return False

    def _do_Expr(self, frame: Frame, node: ast.Expr) -> bool:
        before = set(frame.pending)
        value = self.eval(frame, node.value)
        left = {task.origin for task in tasks_in(value)}
        function = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr in ("append", "add", "insert"):
            target = frame.env.names.get(last_name(function.value), UNKNOWN)
            if isinstance(target, Collection):
                left = {task.origin for task in tasks_in(target)}
        if isinstance(node.value, ast.Yield | ast.YieldFrom | ast.Await):
            left = set()
        frame.consumed.update(set(frame.pending) - before - left)
        if not isinstance(node.value, ast.Yield | ast.YieldFrom):
            rules.thrown_away(self, frame, node, value)
        return False

    def _do_Assign(self, frame: Frame, node: ast.Assign) -> bool:
        before = set(frame.pending)
        value = self.eval(frame, node.value)
        kept: set[ast.AST] = set()
        if all(isinstance(target, ast.Name) for target in node.targets):
            kept = {task.origin for task in tasks_in(value)}
        if isinstance(node.value, ast.Yield | ast.YieldFrom | ast.Await):
            kept = set()
        frame.consumed.update(set(frame.pending) - before - kept)
        if isinstance(node.value, ast.Name):
            for task in tasks_in(value):
                frame.consumed.add(task.origin)
        for target in node.targets:
            self.assign(frame, target, value)
        return False

    def _do_AnnAssign(self, frame: Frame, node: ast.AnnAssign) -> bool:
        if node.value is None:
            return False
        before = set(frame.pending)
        value = self.eval(frame, node.value)
        kept = (
            {task.origin for task in tasks_in(value)}
            if not isinstance(node.value, ast.Yield | ast.YieldFrom)
            else set()
        )
        frame.consumed.update(set(frame.pending) - before - kept)
        rules.annotated_result(self, frame, node, value)
        declared = self.annotated(node.annotation, frame.env.scope)
        self.assign(frame, node.target, declared if value is UNKNOWN else value)
        return False

    def _do_AugAssign(self, frame: Frame, node: ast.AugAssign) -> bool:
        value = self.eval(frame, node.value)
        rules.mutation(self, frame, node, node.target, rebinds=True)
        if isinstance(node.target, ast.Name):
            old = frame.env.names.get(node.target.id, UNKNOWN)
            if isinstance(old, Collection):
                rules.ordered_use(self, frame, node, value, "+=") if old.type == "list" else None
                items = value.items if isinstance(value, Collection) else ()
                frame.env.names[node.target.id] = Collection(
                    old.type, (*old.items, *items)[:300], old.unordered
                )
            else:
                frame.env.names[node.target.id] = UNKNOWN if not isinstance(old, Made) else old
        return False

    def assign(self, frame: Frame, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            if target.id in frame.env.scope.declared_global | frame.env.scope.declared_nonlocal:
                rules.mutation(self, frame, target, target, rebinds=True)
            frame.env.names[target.id] = value
            frame.passed.pop(target.id, None)
            frame.mutable_defaults.discard(target.id)
        elif isinstance(target, ast.Tuple | ast.List):
            rules.ordered_use(self, frame, target, value, "unpacking")
            if isinstance(value, Generator):
                self.consume(frame, target, value)
            for position, part in enumerate(target.elts):
                self.assign(frame, part, self._part(value, position))
        elif isinstance(target, ast.Starred):
            self.assign(frame, target.value, UNKNOWN)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            if isinstance(target, ast.Subscript):
                self.eval(frame, target.slice)
            root = root_name(target)
            if root is not None:
                local = frame.env.names.get(root.id)
                if (
                    isinstance(target, ast.Subscript)
                    and isinstance(target.value, ast.Name)
                    and isinstance(local, Collection)
                ):
                    items = tuple(dict.fromkeys([*local.items, *each(value)]))[:300]
                    frame.env.names[root.id] = Collection(local.type, items, local.unordered)
            rules.mutation(self, frame, target, target)

    def _do_Delete(self, frame: Frame, node: ast.Delete) -> bool:
        for target in node.targets:
            if isinstance(target, ast.Attribute | ast.Subscript):
                rules.mutation(self, frame, target, target)
        return False

    def _do_Return(self, frame: Frame, node: ast.Return) -> bool:
        value = self.eval(frame, node.value)
        frame.returned.append(rules.returns(self, frame, node, value))
        return True

    def _do_Raise(self, frame: Frame, node: ast.Raise) -> bool:
        for part in (node.exc, node.cause):
            if part is not None:
                self.eval(frame, part)
        return True

    def _do_Break(self, frame: Frame, node: ast.Break) -> bool:
        frame.breaks.append((frame.env.names, frame.continued))
        return True

    def _do_Continue(self, frame: Frame, node: ast.Continue) -> bool:
        frame.jumps.append((frame.env.names, frame.continued))
        return True

    def condition(self, frame: Frame, test: ast.expr, body: Sequence[ast.stmt]) -> bool:
        """Evaluate a condition; returns whether its body is only for the first run, and only writes."""
        frame.tested = test
        value = self.eval(frame, test)
        frame.tested = None
        return rules.condition(self, frame, test, value, body)

    def _branches(self, frame: Frame, branches: list[Sequence[ast.stmt]]) -> bool:
        before, continued = dict(frame.env.names), frame.continued
        ended: list[bool] = []
        states: list[tuple[dict[str, Value], bool]] = []
        for branch in branches:
            frame.env.names, frame.continued = dict(before), continued
            end = self.block(frame, branch)
            ended.append(end)
            if not end:
                states.append((frame.env.names, frame.continued))
        if not states:
            frame.env.names = before
            frame.continued = continued
            return True
        self._merge(frame, states)
        return False

    def _merge(self, frame: Frame, states: list[tuple[dict[str, Value], bool]]) -> None:
        names = {name: None for state, _ in states for name in state}
        if len(states) == 1:
            frame.env.names = states[0][0]
        else:
            frame.env.names = {name: join([s[name] for s, _ in states if name in s], 12) for name in names}
        frame.continued = any(continued for _, continued in states)

    def _do_If(self, frame: Frame, node: ast.If) -> bool:
        before = set(frame.pending)
        quiet = self.condition(frame, node.test, [*node.body, *node.orelse])
        frame.consumed.update(set(frame.pending) - before)
        frame.guarded += quiet
        ended = self._branches(frame, [node.body, node.orelse])
        frame.guarded -= quiet
        return ended

    def _do_Match(self, frame: Frame, node: ast.Match) -> bool:
        self.condition(frame, node.subject, [])
        for case in node.cases:
            for pattern in ast.walk(case.pattern):
                if isinstance(pattern, ast.MatchAs | ast.MatchStar) and pattern.name:
                    frame.env.names[pattern.name] = UNKNOWN
            if case.guard is not None:
                self.condition(frame, case.guard, [])
        catches_all = any(
            isinstance(c.pattern, ast.MatchAs) and c.pattern.pattern is None and c.guard is None
            for c in node.cases
        )
        return self._branches(frame, [*(case.body for case in node.cases), *([] if catches_all else [[]])])

    def _loop(self, frame: Frame, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        before = dict(frame.env.names), frame.continued
        jumps, breaks = frame.jumps, frame.breaks
        frame.breaks = []
        for _ in range(2):
            start = dict(frame.env.names), frame.continued
            frame.jumps = []
            ended = self.block(frame, body)
            states = (
                [before, *frame.jumps]
                if ended
                else [before, *frame.jumps, (frame.env.names, frame.continued)]
            )
            self._merge(frame, states)
            if (frame.env.names, frame.continued) == start:
                break
        self.block(frame, orelse)
        self._merge(frame, [(frame.env.names, frame.continued), *frame.breaks])
        frame.jumps, frame.breaks = jumps, breaks

    def _do_For(self, frame: Frame, node: ast.For) -> bool:
        iterable = self.eval(frame, node.iter)
        rules.ordered_use(self, frame, node.iter, iterable, "a loop", loop=node)
        self.assign(frame, node.target, self.consume(frame, node.iter, iterable))
        rules.endless_for(self, frame, node, iterable)
        self._loop(frame, node.body, node.orelse)
        return False

    def _do_AsyncFor(self, frame: Frame, node: ast.AsyncFor) -> bool:
        self.eval(frame, node.iter)
        self.assign(frame, node.target, UNKNOWN)
        self._loop(frame, node.body, node.orelse)
        return False

    def _do_While(self, frame: Frame, node: ast.While) -> bool:
        self.condition(frame, node.test, node.body)
        rules.endless_while(self, frame, node)
        forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._loop(frame, node.body, node.orelse)
        return forever and not any(isinstance(n, ast.Break) for n in _loop_nodes(node))

    def _do_With(self, frame: Frame, node: ast.With) -> bool:
        for item in node.items:
            value = self.eval(frame, item.context_expr)
            rules.suppresses(self, frame, node, item.context_expr)
            entered: list[Value] = []
            for one in each(value):
                if isinstance(one, Made):
                    if not one.reported:
                        rules.external_call(self, frame, item.context_expr, f"{one.of}.__enter__", [], {})
                    entered.append(one)
                elif isinstance(one, Instance):
                    for name in ("__enter__", "__exit__"):
                        method = self.attribute(frame, item.context_expr, one, name)
                        if isinstance(method, Function):
                            args: list[Value] = [UNKNOWN] * 3 if name == "__exit__" else []
                            result = self.call(frame, item.context_expr, method, args, {})
                            if name == "__enter__":
                                entered.append(result)
                elif isinstance(one, Collection):
                    entered.append(element_of(one))
                else:
                    entered.append(UNKNOWN)
            if item.optional_vars is not None:
                self.assign(frame, item.optional_vars, join(entered))
        return self.block(frame, node.body)

    def _do_AsyncWith(self, frame: Frame, node: ast.AsyncWith) -> bool:
        for item in node.items:
            self.eval(frame, item.context_expr)
            if item.optional_vars is not None:
                self.assign(frame, item.optional_vars, UNKNOWN)
        return self.block(frame, node.body)

    def _do_Try(self, frame: Frame, node: ast.Try) -> bool:
        rules.handlers(self, frame, node)
        before, continued = dict(frame.env.names), frame.continued
        states: list[tuple[dict[str, Value], bool]] = []
        ended = self.block(frame, node.body)
        after = frame.env.names
        if not ended:
            ended = self.block(frame, node.orelse)
        if not ended:
            states.append((frame.env.names, frame.continued))
        for handler in node.handlers:
            frame.env.names = {
                name: join([v for v in (before.get(name), after.get(name)) if v is not None], 12)
                for name in {**before, **after}
            }
            frame.continued = continued
            if handler.name:
                frame.env.names[handler.name] = UNKNOWN
            if not self.block(frame, handler.body):
                states.append((frame.env.names, frame.continued))
        if states:
            self._merge(frame, states)
        return self.block(frame, node.finalbody) or not states

    _do_TryStar = _do_Try

    def _do_Import(self, frame: Frame, node: ast.Import) -> bool:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            frame.env.names[name] = self.imported(
                Imported(alias.name if alias.asname else name, 0, None), frame.module
            )
        return False

    def _do_ImportFrom(self, frame: Frame, node: ast.ImportFrom) -> bool:
        for alias in node.names:
            if alias.name != "*":
                imported = Imported(node.module or "", node.level, alias.name)
                frame.env.names[alias.asname or alias.name] = self.imported(imported, frame.module)
        return False

    def _do_FunctionDef(self, frame: Frame, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        info = frame.module.function(node, frame.env.scope)
        frame.env.names[node.name] = self.decorated(info, frame.env)
        return False

    _do_AsyncFunctionDef = _do_FunctionDef

    def _do_ClassDef(self, frame: Frame, node: ast.ClassDef) -> bool:
        frame.env.names[node.name] = Class(frame.module.class_(node, frame.env.scope))
        return False

    def _do_Assert(self, frame: Frame, node: ast.Assert) -> bool:
        self.condition(frame, node.test, [])
        return False


def _is_class(name: str) -> bool:
    return name.rpartition(".")[2][:1].isupper()


def _loop_nodes(loop: ast.While | ast.For) -> list[ast.AST]:
    """The nodes of a loop's body, without those of loops and functions in it."""
    found: list[ast.AST] = []
    stack: list[ast.AST] = list(loop.body)
    while stack:
        node = stack.pop()
        found.append(node)
        if not isinstance(
            node, ast.For | ast.While | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
        ):
            stack.extend(ast.iter_child_nodes(node))
    return found
