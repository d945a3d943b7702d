"""What a project registers, as far as source shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit.lint.project import ClassInfo, FunctionInfo, Module
    from dt_testkit.lint.values import Partial


@dataclass
class Names:
    """What some of the files register."""

    known: dict[str, set[str]] = field(
        default_factory=lambda: {"activity": set(), "orchestrator": set(), "entity": set()}
    )
    entities: dict[str, set[ClassInfo | None]] = field(default_factory=dict)
    """The classes of each entity; None is what is no class of the project."""
    orchestrators: set[FunctionInfo] = field(default_factory=set)
    hidden: bool = False
    """Whether something is registered that source does not show."""


@dataclass
class Registered:
    """What the files that were read register, and how they use orchestrators."""

    app: Names = field(default_factory=Names)
    tests: Names = field(default_factory=Names)
    """What tests register: stubs, and what only they run."""
    partials: list[Partial] = field(default_factory=list)
    """Methods of certain instances, and functions that are registered with some of their arguments."""
    used: set[str] = field(default_factory=set)
    """The names by which orchestrators are scheduled."""
    wrappers: dict[str, int] = field(default_factory=dict)
    """Functions of the project that register what they are given, and which argument it is."""
    helpers: set[FunctionInfo] = field(default_factory=set)
    """What may be an orchestrator, or a helper that one delegates to."""
    seen: set[Module] = field(default_factory=set)
    """The files of which this is known."""
    followed: bool = False
    """Whether that includes the files that were not asked for, and are imported."""
    sees_all: Callable[[bool], bool] = lambda with_tests: True
    """Tells whether no other file may register something, those of tests included or not."""

    def by(self, module: Module) -> Names:
        """What the files of this kind register."""
        return self.tests if is_of_tests(module.shown) else self.app

    def is_of_app(self, orchestrator: FunctionInfo | None) -> bool:
        """Whether the application itself registers an orchestrator, so that a stub is not enough for it."""
        return orchestrator in self.app.orchestrators

    def for_(self, orchestrator: FunctionInfo | None) -> tuple[Names, ...]:
        """What there is for an orchestrator: what tests register does not exist in production."""
        return (self.app,) if self.is_of_app(orchestrator) else (self.app, self.tests)


def is_of_tests(shown: str) -> bool:
    """Whether a file is one of tests, as pytest names them, or in a directory of them."""
    path = PurePath(shown)
    named = path.name == "conftest.py" or path.stem.startswith("test_") or path.stem.endswith("_test")
    return named or bool({"test", "tests"} & set(path.parts[:-1]))
