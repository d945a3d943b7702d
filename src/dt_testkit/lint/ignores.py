"""Comments that ignore findings: ``# dt: ignore[DT101] reason``."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dt_testkit.hazards import BY_CODE
from dt_testkit.lint.report import Finding, message_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dt_testkit.lint.project import Module

_COMMENT = re.compile(r"#\s*dt:\s*ignore(?![\w-])(?:\s*\[([^\]]*)\])?\s*(.*)")
_NO_CODE = (
    "an ignore without a code ignores nothing: write `# dt: ignore[DT101] reason`, or delete the comment."
)
_NO_RULE = "there is no rule `{code}` to ignore: mend the code, or delete the comment."


@dataclass
class Ignore:
    """One such comment, and the lines that it is for."""

    line: int
    column: int
    codes: tuple[str, ...]
    reason: str
    lines: set[int]
    used: set[str] = field(default_factory=set)


def ignores_of(module: Module) -> list[Ignore]:
    """The comments of a file; text in strings is no comment.

    One in the first or the last line of a statement is for all of its lines.
    """
    if "dt:" not in module.source:
        return []
    found: list[Ignore] = []
    mine: list[Ignore] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            if match := _COMMENT.search(token.string):
                codes = tuple(code.strip().upper() for code in (match[1] or "").split(",") if code.strip())
                column = token.start[1] + match.start() + 1
                mine.append(Ignore(line, column, codes, match[2].strip(" :-—\t"), {line}))
        elif token.type == tokenize.NEWLINE:
            for ignore in mine:
                if ignore.line in (first, line):
                    ignore.lines.update(range(first, line + 1))
            found += mine
            mine, first = [], 0
        elif not first and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            first = line
    return found + mine


def apply_ignores(module: Module, findings: Iterable[Finding], disabled: frozenset[str]) -> Iterator[Finding]:
    """The findings in a file that are not ignored, and what is wrong with its ignores."""
    ignores = ignores_of(module)
    for finding in findings:
        for ignore in ignores:
            if finding.line in ignore.lines and finding.code in ignore.codes:
                ignore.used.add(finding.code)
                break
        else:
            yield finding
    for ignore in ignores:
        for code, message in _complaints(ignore, disabled):
            if code not in disabled:
                yield Finding(module.shown, ignore.line, ignore.column, code, BY_CODE[code].severity, message)


def _complaints(ignore: Ignore, disabled: frozenset[str]) -> Iterator[tuple[str, str]]:
    if not ignore.codes:
        yield "DT901", _NO_CODE
        return
    for code in ignore.codes:
        if code not in BY_CODE:
            yield "DT901", _NO_RULE.format(code=code)
    unused = [
        code for code in ignore.codes if code in BY_CODE and code not in ignore.used and code not in disabled
    ]
    if unused:
        yield "DT901", message_for("DT901", f"`{', '.join(unused)}` is not found here")
    if not ignore.reason:
        yield "DT902", message_for("DT902", "an ignore without a reason")
