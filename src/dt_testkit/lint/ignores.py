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

_COMMENT = re.compile(r"#\s*dt:\s*ignore(?:\[([^\]]*)\])?\s*(.*)")


@dataclass
class Ignore:
    """One such comment."""

    line: int
    column: int
    codes: tuple[str, ...]
    reason: str
    used: set[str] = field(default_factory=set)


def ignores_of(module: Module) -> list[Ignore]:
    """The comments of a file; text in strings is no comment."""
    if "dt:" not in module.source:
        return []
    found = []
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT and (match := _COMMENT.search(token.string)):
            codes = tuple(code.strip() for code in (match[1] or "").split(",") if code.strip())
            column = token.start[1] + match.start() + 1
            found.append(Ignore(token.start[0], column, codes, match[2].strip(" :-—\t")))
    return found


def apply_ignores(module: Module, findings: Iterable[Finding], disabled: frozenset[str]) -> Iterator[Finding]:
    """The findings in a file that are not ignored, and what is wrong with its ignores."""
    ignores = ignores_of(module)
    by_line = {ignore.line: ignore for ignore in ignores}
    for finding in findings:
        ignore = by_line.get(finding.line)
        if ignore is not None and finding.code in ignore.codes:
            ignore.used.add(finding.code)
        else:
            yield finding
    for ignore in ignores:
        unused = [code for code in ignore.codes if code not in ignore.used and code not in disabled]
        place = module.shown, ignore.line, ignore.column
        if (unused or not ignore.codes) and "DT901" not in disabled:
            what = f"`{', '.join(unused)}` is not found here" if unused else "an ignore without a code"
            yield Finding(*place, "DT901", BY_CODE["DT901"].severity, message_for("DT901", what))
        if not ignore.reason and "DT902" not in disabled:
            yield Finding(
                *place, "DT902", BY_CODE["DT902"].severity, message_for("DT902", "an ignore without a reason")
            )
