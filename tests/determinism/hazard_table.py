"""The table of docs/hazards.md: each hazard, its cases in the corpus, and what lint finds of them.

A comment in the corpus says what has to be found in its line:

- ``#! DT101``: this hazard; ``#! DT101 DT106``: both; ``#! DT104|DT105``: either will do.
- ``#! DT105 runtime``: this hazard, which no source shows. Lint may find it, and need not.
- ``#? DT109``: not the line itself, but another one of the same case. A finding there is no false alarm.

Notes are what lint could not follow. They are neither found nor false alarms.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
PAGE = ROOT / "docs" / "hazards.md"

COMMENT = re.compile(r"#(?P<kind>[!?]) (?P<codes>DT\d+(?:[ |]DT\d+)*)(?P<runtime> runtime)?$")


class Place(NamedTuple):
    """A line of a file of the corpus."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Case(NamedTuple):
    """A hazard that is to be found; under which code, or codes if either will do."""

    place: Place
    codes: tuple[str, ...]
    runtime: bool


class Marks(NamedTuple):
    """What the comments of the corpus say."""

    cases: list[Case]
    tolerated: set[tuple[Place, str]]


class Found(NamedTuple):
    """An error or a warning."""

    place: Place
    code: str


class Score(NamedTuple):
    """What lint made of the corpus."""

    found: list[Case]
    missed: list[Case]
    false_alarms: list[Found]

    @property
    def recall(self) -> float:
        """How much was found of what the source shows."""
        visible = [case for case in (*self.found, *self.missed) if not case.runtime]
        return sum(not case.runtime for case in self.found) / len(visible)


def files(folder: str = "") -> list[Path]:
    return sorted((CORPUS / folder).rglob("*.py"))


def units() -> list[Path]:
    """What is linted by itself: each file, and each project as a whole."""
    alone = [*files("hazards"), *files("clean")]
    return [*alone, *sorted(path for path in (CORPUS / "projects").iterdir() if path.is_dir())]


def read_marks(paths: Iterable[Path], root: Path = CORPUS) -> Marks:
    cases, tolerated = [], set()
    for path in paths:
        with tokenize.open(path) as file:
            tokens = list(tokenize.generate_tokens(file.readline))
        for token in tokens:
            if token.type != tokenize.COMMENT or token.string[:2] not in ("#!", "#?"):
                continue
            place = Place(path.relative_to(root).as_posix(), token.start[0])
            if (comment := COMMENT.match(token.string)) is None:
                raise ValueError(f"{place}: {token.string!r} is not as hazard_table.py says")
            for codes in comment["codes"].split():
                either = tuple(codes.split("|"))
                if comment["kind"] == "!":
                    cases.append(Case(place, either, bool(comment["runtime"])))
                else:
                    tolerated |= {(place, code) for code in either}
    return Marks(cases, tolerated)


def lint(unit: Path, root: Path = CORPUS) -> list[Found]:
    """The errors and warnings in a file or a project."""
    from dt_testkit.lint import lint_paths

    base = unit if unit.is_dir() else unit.parent
    return [
        Found(Place((base / each.path).resolve().relative_to(root).as_posix(), each.line), each.code)
        for each in lint_paths([unit], root=base).findings
        if each.severity != "note"
    ]


def score(marks: Marks, findings: Sequence[Found]) -> Score:
    reported = set(findings)
    found, missed, expected = [], [], set(marks.tolerated)
    for case in marks.cases:
        places = {(case.place, code) for code in case.codes}
        expected |= places
        (found if places & reported else missed).append(case)
    false_alarms = [each for each in dict.fromkeys(findings) if (each.place, each.code) not in expected]
    return Score(found, missed, false_alarms)


def measure() -> Score:
    """Lint the corpus."""
    return score(read_marks(files()), [each for unit in units() for each in lint(unit)])


def render(page: str, result: Score) -> str:
    """The page with a new table, under its own introduction."""
    from dt_testkit.hazards import HAZARDS

    names = {hazard.code: hazard.name for hazard in HAZARDS}
    cases = Counter(case.codes[0] for case in (*result.found, *result.missed))
    visible = Counter(case.codes[0] for case in (*result.found, *result.missed) if not case.runtime)
    found = Counter(case.codes[0] for case in result.found if not case.runtime)
    alarms = Counter(each.code for each in result.false_alarms)
    lines = [
        page.partition("\n## ")[0].rstrip(),
        "\n## The table\n",
        "| Code | Hazard | Cases | Visible in source | Found by lint | False alarms |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for code in sorted({*cases, *alarms}):
        row = (code, names[code], cases[code], visible[code], found[code], alarms[code])
        lines.append("| " + " | ".join(map(str, row)) + " |")
    totals = [sum(column.values()) for column in (cases, visible, found, alarms)]
    lines.append("| | together | " + " | ".join(map(str, totals)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    result = measure()
    PAGE.write_text(render(PAGE.read_text(), result))
    for case in result.missed:
        print(f"{case.place}: {'|'.join(case.codes)} {'runtime, not found' if case.runtime else 'MISSED'}")
    for alarm in result.false_alarms:
        print(f"{alarm.place}: {alarm.code} FALSE ALARM")
    print(f"recall {result.recall:.1%}, {len(result.false_alarms)} false alarms; {PAGE.relative_to(ROOT)}")
    return 1 if result.false_alarms or result.recall < 0.95 else 0


if __name__ == "__main__":
    sys.exit(main())
