"""What an expression stands for, as far as source shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Iterator

    from dt_testkit.lint.project import ClassInfo, FunctionInfo, Module, Scope


class Env:
    """The variables of one call of a function, or of a module; other names are looked up outside."""

    def __init__(self, scope: Scope, parent: Env | None = None) -> None:
        self.scope = scope
        self.parent = parent
        self.names: dict[str, Value] = {}


@dataclass(frozen=True)
class Value:
    """Something that source does not tell."""


UNKNOWN = Value()


@dataclass(frozen=True)
class External(Value):
    """Something from outside the project, by its dotted name; a builtin has no dot."""

    name: str


@dataclass(frozen=True)
class Made(Value):
    """What calling something from outside gives."""

    of: str
    reported: bool = False


@dataclass(frozen=True)
class Const(Value):
    """A literal."""

    type: str
    value: Any = None


NONE = Const("NoneType")


@dataclass(frozen=True)
class Context(Value):
    """The orchestration context."""


@dataclass(frozen=True)
class Durable(Value):
    """A method of the context, not called yet."""

    name: str


@dataclass(frozen=True)
class Replaying(Value):
    """Whether the orchestrator replays."""


@dataclass(frozen=True)
class Task(Value):
    """A durable task."""

    origin: ast.AST
    result: Value = UNKNOWN


@dataclass(frozen=True)
class Function(Value):
    """A function of the project."""

    info: FunctionInfo
    bound: Value | None = None
    closure: Env | None = None


@dataclass(frozen=True)
class Generator(Value):
    """A generator function of the project that was called; its body runs when it is iterated."""

    function: Function
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Partial(Value):
    """What functools.partial gives."""

    function: Value
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Class(Value):
    """A class of the project."""

    info: ClassInfo


@dataclass(frozen=True)
class Instance(Value):
    """An instance of a class of the project."""

    info: ClassInfo
    shared: bool = False
    """Whether it outlives a run."""
    held: tuple[tuple[str, Value], ...] = ()
    """What it was given when it was made, by the attribute that keeps it."""


@dataclass(frozen=True)
class ModuleValue(Value):
    """A module of the project."""

    module: Module


@dataclass(frozen=True)
class Collection(Value):
    """A list, tuple, set, dict (its values), or something else that is iterated."""

    type: str
    items: tuple[Value, ...] = ()
    unordered: bool = False


@dataclass(frozen=True)
class Policy(Value):
    """A retry policy, with what is wrong with it."""

    problems: tuple[tuple[str, ast.AST, str], ...] = ()
    module: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Many(Value):
    """One of several."""

    values: tuple[Value, ...]


def each(value: Value) -> Iterator[Value]:
    """The values that it may be."""
    if isinstance(value, Many):
        yield from value.values
    else:
        yield value


def join(values: Iterable[Value], most: int = 300) -> Value:
    """One of these."""
    values = list(values)
    if len(values) == 1:
        return values[0]
    found: dict[Value, None] = {}
    for value in values:
        for one in each(value):
            found[one] = None
    if not found:
        return UNKNOWN
    if len(found) == 1:
        return next(iter(found))
    return Many(tuple(found)[:most])


def element_of(value: Value) -> Value:
    """What iterating gives."""
    found: list[Value] = []
    for one in each(value):
        found.extend(
            one.items if isinstance(one, Collection) and one.items and one.type != "dict" else [UNKNOWN]
        )
    return join(found)


def tasks_in(value: Value) -> Iterator[Task]:
    """The tasks in a value, in a collection too."""
    for one in each(value):
        if isinstance(one, Task):
            yield one
        elif isinstance(one, Collection):
            for item in one.items:
                yield from tasks_in(item)


def holds_context(values: Iterable[Value]) -> bool:
    """Whether a context or a task is among the values."""
    return any(isinstance(one, Context | Task) for value in values for one in each(value))
