"""Where the rules put what they find."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dt_testkit.guard.table import GUARDED
from dt_testkit.hazards import BY_CODE
from dt_testkit.lint.fixes import Fix, fix_for, wants_context
from dt_testkit.lint.report import Finding, message_for

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator, Sequence

    from dt_testkit.lint.frame import Frame


_ALLOWED = frozenset(hazard.code for hazard in GUARDED)
"""What a block of allow_nondeterminism lets through."""


@dataclass(frozen=True)
class Taint:
    """A hazard of something that runs when its module is imported."""

    path: str
    node: ast.AST
    code: str
    what: str
    message: str | None = None


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
        if code in self.disabled or (frame.allowed and code in _ALLOWED):
            return
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        path = path or frame.module.shown
        if self._collected:
            self._collected[-1].append(Taint(path, node, code, what, message))
            return
        route = (*frame.route, f"{path}:{line} {frame.name}")
        key = path, line, column, code
        if key not in self.findings or len(self.findings[key].route) > len(route):
            fix: Fix | None = None
            wants = False
            if path == frame.module.shown:
                fix = fix_for(code, what, node, frame)
                wants = fix is None and wants_context(code, what, node, frame)
            text = message or message_for(code, what)
            severity = BY_CODE[code].severity
            self.findings[key] = Finding(path, line, column, code, severity, text, route, fix, wants)

    def note(self, frame: Frame, node: ast.AST, code: str, message: str) -> None:
        """Report something as a note, whatever its severity is otherwise."""
        if code in self.disabled or self._collected:
            return
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        key = frame.module.shown, line, column, code
        route = (*frame.route, f"{frame.module.shown}:{line} {frame.name}")
        self.findings.setdefault(key, Finding(*key[:3], code, "note", message, route))
