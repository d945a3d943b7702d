"""Goes through orchestrators and what they call, statement by statement, and shows the rules what it meets.

Nothing runs: names stand for values as `values` describes them, a function is gone through once for each set
of values that it is called with, both branches of an ``if`` are taken, and loops are gone through twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dt_testkit.lint import calls, expressions, names, statements
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.registered import Registered
from dt_testkit.lint.rules import effects, state, tasks, unresolved
from dt_testkit.lint.values import (
    NONE,
    UNKNOWN,
    Collection,
    Context,
    Env,
    Function,
    Instance,
    Many,
    Partial,
    Value,
    each,
    join,
)

if TYPE_CHECKING:
    import ast
    from collections.abc import Sequence

    from dt_testkit.lint.collector import Reports, Taint
    from dt_testkit.lint.project import FunctionInfo, Project, Scope

_DEEPEST = 25
_DEEPEST_OUTSIDE = 5


class Interpreter:
    """Goes through functions, and reports what the rules find."""

    def __init__(self, project: Project, reports: Reports) -> None:
        self.project = project
        self.reports = reports
        self.registered = Registered()
        self.root: FunctionInfo | None = None
        """The orchestrator that is gone through."""
        self.taints: dict[tuple[Scope, str], list[Taint]] = {}
        self.static: dict[tuple[Scope, str], Value] = {}
        self.evaluating: set[tuple[Scope, str]] = set()
        self._memo: dict[object, tuple[Value, bool]] = {}
        self._taints_of: dict[object, list[Taint]] = {}
        self._stack: list[FunctionInfo] = []
        self.entered: set[FunctionInfo] = set()
        self.always: dict[FunctionInfo, dict[FunctionInfo, None]] = {}
        """What a function delegates to whatever happens in it."""
        self.circles: dict[frozenset[FunctionInfo], ast.AST] = {}
        """Functions that always lead to each other, and where that was found."""
        self.strangers: set[str] = set()
        """What was called of other packages: each is noted once."""

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
                wrapper = expressions.evaluate(self, frame, decorator)
                if isinstance(wrapper, Function) and not wrapper.info.is_generator:
                    result = calls.call(self, frame, decorator, wrapper, [value], {})
                    if any(isinstance(one, Function | Partial) for one in each(result)):
                        value = _innermost(result)
        return value

    def orchestrator(self, function: Function, partial: Partial | None = None) -> None:
        """Go through an orchestrator, with the arguments that partial() gives it."""
        info = self.root = function.info
        try:
            self._orchestrator(info, function.bound, partial or Partial(function, (), ()))
        except RecursionError:
            frame = Frame(info, info.module, Env(info.scope), (), info.name)
            unresolved.too_deep(self, frame, info.node)

    def _orchestrator(self, info: FunctionInfo, bound: Value | None, partial: Partial) -> None:
        arguments = [arg for arg in info.parameters if not (info.owner and arg.arg in ("self", "cls"))]
        inputs = [
            names.annotated(self, arg.annotation, info.scope)
            for arg in arguments[len(partial.args) + 1 :][:1]
        ]
        values: list[Value] = [*partial.args, Context(), *inputs]
        surely = info.is_generator or info not in self.registered.helpers
        if bound is None and info.owner is not None:
            bound = Instance(info.owner, shared=surely)
        function = Function(info, bound)
        effects.orchestrator(self, info)
        positional = len(info.node.args.posonlyargs) + len(info.node.args.args) - (bound is not None)
        given, keywords = values[: max(positional, 1)], dict(partial.keywords)
        self.run(function, given, keywords, (), delegated=True, is_orchestrator=surely)
        decorated = self.decorated(info, None)
        for one in each(decorated):
            if isinstance(one, Function) and one.info is not info and one.info.parameters:
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
        allowed: int = 0,
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
            allowed > 0,
            is_orchestrator,
            self.registered.is_of_app(self.root),
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
            allowed,
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
                statements.block(self, frame, body)
            else:
                frame.returned.append(expressions.evaluate(self, frame, body))
                frame.consumed.update(frame.pending)
            tasks.function_ends(self, frame)
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
        bound = frame.env.names
        positional = [*spec.posonlyargs, *spec.args]
        given = set()
        for argument, value in zip(positional, values, strict=False):
            declared = names.annotated(self, argument.annotation, info.outer) if value is UNKNOWN else value
            bound[argument.arg] = declared
            given.add(argument.arg)
        for name, value in keywords.items():
            if name not in given:
                bound[name] = value
                given.add(name)
        if spec.vararg:
            bound[spec.vararg.arg] = Collection("tuple", tuple(values[len(positional) :]))
        if spec.kwarg:
            bound[spec.kwarg.arg] = Collection("dict", tuple(keywords.values()))
        for argument in [*positional, *spec.kwonlyargs]:
            default = info.defaults.get(argument.arg)
            if default is not None and state.is_mutable(default):
                frame.mutable_defaults.add(argument.arg)
            if argument.arg in given:
                if default is not None and bound[argument.arg] is not UNKNOWN:
                    frame.mutable_defaults.discard(argument.arg)
                continue
            value = names.annotated(self, argument.annotation, info.outer)
            if default is not None:
                outside = Frame(None, info.module, function.closure or Env(info.outer), in_run=False)
                if frame.in_run:
                    outside.route, outside.name, outside.allowed = frame.route, info.name, frame.allowed
                found = expressions.evaluate(self, outside, default)
                value = found if value is UNKNOWN else join([value, found])
            bound[argument.arg] = value

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
            allowed=frame.allowed,
        )
        if continued:
            frame.continued = True
        return value

    def place(self, frame: Frame, node: ast.AST) -> str:
        return f"{frame.module.shown}:{getattr(node, 'lineno', 1)} {frame.name}"


def _innermost(value: Value) -> Value:
    """Without the functions that make others of it: a decorator gives them if it is called without one."""
    made_in = {one.info.outer for one in each(value) if isinstance(one, Function)}
    return join(one for one in each(value) if not isinstance(one, Function) or one.info.scope not in made_in)
