"""The imports that a fix leaves behind, and that nothing in the module uses any more."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MENDED = ("datetime", "time", "uuid")
"""The modules of which a fix takes uses away; to import them does nothing else."""


def without_unused(before: str, after: str) -> str:
    """A module as it is after its fixes, without the imports that were used before them and are no more."""
    gone = _used(ast.parse(before)) - _used(tree := ast.parse(after))
    lines = after.encode().splitlines(keepends=True)
    found = [node for node in _imports(tree, lines) if any(_bound(alias) in gone for alias in node.names)]
    for node in sorted(found, key=lambda node: node.lineno, reverse=True):
        names, is_last = node.names, True
        if all(_bound(alias) in gone for alias in names):
            del lines[node.lineno - 1 : node.end_lineno]
            continue
        for place, alias in reversed(list(enumerate(names))):
            if _bound(alias) not in gone:
                is_last = False
            elif is_last:
                _cut(lines, _end(names[place - 1]), _end(alias))
            else:
                _cut(lines, _start(alias), _start(names[place + 1]))
    return b"".join(lines).decode()


def _used(tree: ast.Module) -> set[str]:
    """The names in a module, and the words in its strings, which may be names too; prose is none."""
    used: set[str] = set()
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value if id(node) not in prose or ">>>" in node.value else ""
            used.update(re.findall(r"\w+", words))
    return used


def _imports(tree: ast.Module, lines: list[bytes]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that may go: alone in their lines, without a comment, and not all that a block holds."""
    for block in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(block, name, None)
            for node in body if isinstance(body, list) and len(body) > 1 else ():
                if isinstance(node, ast.Import):
                    mended = any(alias.name in _MENDED for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    mended = node.module in _MENDED and not node.level
                else:
                    continue
                rows = lines[node.lineno - 1 : node.end_lineno]
                alone = not rows[0][: node.col_offset].strip() and not rows[-1][node.end_col_offset :].strip()
                if mended and alone and b"#" not in b"".join(rows):
                    yield node


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name


def _start(alias: ast.alias) -> tuple[int, int]:
    return alias.lineno, alias.col_offset


def _end(alias: ast.alias) -> tuple[int, int]:
    return alias.end_lineno or alias.lineno, alias.end_col_offset or alias.col_offset


def _cut(lines: list[bytes], start: tuple[int, int], end: tuple[int, int]) -> None:
    """Take a piece out of lines, which stay as many as they were."""
    (first, left), (last, right) = (start[0] - 1, start[1]), (end[0] - 1, end[1])
    rest = lines[last][right:]
    lines[first : last + 1] = [lines[first][:left] + rest, *[b""] * (last - first)]
