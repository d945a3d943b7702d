"""One call of a function, while it is gone through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast

    from dt_testkit.lint.project import FunctionInfo, Module
    from dt_testkit.lint.values import Env, Value


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
    allowed: int = 0
    """How many blocks of allow_nondeterminism it is in."""
    returned: list[Value] = field(default_factory=list)
    yielded: list[Value] = field(default_factory=list)
    pending: dict[ast.AST, tuple[ast.AST, str]] = field(default_factory=dict)
    consumed: set[ast.AST] = field(default_factory=set)
    results: set[ast.AST] = field(default_factory=set)
    """The tasks whose results are taken."""
    passed: dict[str, ast.AST] = field(default_factory=dict)
    mutable_defaults: set[str] = field(default_factory=set)
    state: dict[str, tuple[bool, ast.AST, str]] = field(default_factory=dict)
    jumps: list[tuple[dict[str, Value], bool]] = field(default_factory=list)
    breaks: list[tuple[dict[str, Value], bool]] = field(default_factory=list)
    is_orchestrator: bool = False
    tested: ast.expr | None = None
