"""The table of docs/hazards.md: each hazard, its cases in the corpus, and what each net finds of them.

A comment in the corpus says what has to be found in its line:

- ``#! DT101``: this hazard; ``#! DT101 DT106``: both; ``#! DT104|DT105``: either will do.
- ``#! DT105 runtime``: this hazard, which no source shows. Lint may find it, and need not.
- ``#? DT109``: not the line itself, but another one of the same case. A finding there is no false alarm.
- ``#? DT101 of STARTED``: the same, of the case with that word in its line, which runs at import alone.

Notes of lint are what it could not follow. They are neither found nor false alarms.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
PAGE = ROOT / "docs" / "hazards.md"

COMMENT = re.compile(
    r"#(?P<kind>[!?]) (?P<codes>DT\d+(?:[ |]DT\d+)*)(?P<runtime> runtime)?(?: of (?P<of>\w+))?$"
)


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

    def __str__(self) -> str:
        return f"{self.place}: {'|'.join(self.codes)}{' runtime' * self.runtime}"


class Marks(NamedTuple):
    """What the comments of the corpus say; `shown` is where a case shows that runs at import."""

    cases: list[Case]
    tolerated: set[tuple[Place, str]]
    shown: dict[Place, Case]


class Found(NamedTuple):
    """What a net found: a hazard, or None for a change of the code, and the lines it points at.

    What `ran` are the other lines in which the cause may be, where a net sees an effect of it alone.
    """

    code: str | None
    places: tuple[Place, ...]
    ran: tuple[Place, ...] = ()

    def __str__(self) -> str:
        return f"{' -> '.join(map(str, self.places))}: {self.code}"


class Score(NamedTuple):
    """What a net made of the corpus.

    What was `found` was told under its code, and some of it `at` its line. The findings told `otherwise` are
    an effect of a case of their run, but have the code of another hazard, or none.
    """

    found: list[Case]
    missed: list[Case]
    false_alarms: list[Found]
    at: list[Case]
    otherwise: list[Found]

    @property
    def recall(self) -> float:
        """How much was found of what the source shows."""
        visible = [case for case in (*self.found, *self.missed) if not case.runtime]
        return sum(not case.runtime for case in self.found) / len(visible)


def files(folder: str = "") -> list[Path]:
    """Those of the corpus itself; what stands in for libraries is no part of it."""
    return sorted(
        path for path in (CORPUS / folder).rglob("*.py") if path.parts[len(CORPUS.parts)] != "installed"
    )


def units() -> list[Path]:
    """What is looked at by itself: each file, and each project as a whole."""
    alone = [*files("hazards"), *files("clean")]
    return [*alone, *sorted(path for path in (CORPUS / "projects").iterdir() if path.is_dir())]


def read_marks(paths: Iterable[Path], root: Path = CORPUS) -> Marks:
    """What the comments in some files say."""
    marks = Marks([], set(), {})
    for path in paths:
        with tokenize.open(path) as file:
            tokens = list(tokenize.generate_tokens(file.readline))
        of, lines = {}, {}
        for token in tokens:
            if token.type != tokenize.COMMENT or token.string[:2] not in ("#!", "#?"):
                continue
            place = Place(path.relative_to(root).as_posix(), token.start[0])
            if (comment := COMMENT.match(token.string)) is None:
                raise ValueError(f"{place}: {token.string!r} is not as hazard_table.py says")
            for codes in comment["codes"].split():
                either = tuple(codes.split("|"))
                if comment["kind"] == "!":
                    marks.cases.append(Case(place, either, bool(comment["runtime"])))
                    lines[marks.cases[-1]] = token.line
                else:
                    marks.tolerated.update((place, code) for code in either)
                    if comment["of"]:
                        of[place] = comment["of"], either
        for place, (word, codes) in of.items():
            cases = [
                case
                for case, line in lines.items()
                if codes == case.codes and re.search(rf"\b{word}\b", line)
            ]
            if len(cases) != 1:
                raise ValueError(
                    f"{place}: {len(cases)} cases of {'|'.join(codes)} have {word!r} in their line"
                )
            marks.shown[place] = cases[0]
    return marks


def lint(unit: Path, root: Path = CORPUS) -> list[Found]:
    """The errors and warnings in a file or a project."""
    from dt_testkit.lint import lint_paths

    base = unit if unit.is_dir() else unit.parent
    return [
        Found(each.code, (Place((base / each.path).resolve().relative_to(root).as_posix(), each.line),))
        for each in lint_paths([unit], root=base).findings
        if each.severity != "note"
    ]


SHOWN = {*(f"DT{number}" for number in range(101, 111)), "DT113", "DT117", "DT122"}
"""What makes a replay differ, if only in the text of a failure. The other hazards have no such effect."""


def score(marks: Marks, findings: Sequence[Found]) -> Score:
    """Hold what was found against the marks."""

    def cases_at(places: Iterable[Place]) -> Iterator[Case]:
        for place in places:
            yield from (case for case in marks.cases if case.place == place)
            if place in marks.shown:
                yield marks.shown[place]

    at: set[Case] = set()
    found: set[Case] = set()
    otherwise, false_alarms = [], []
    for each in dict.fromkeys(findings):
        if told := [case for case in cases_at(each.places) if each.code in case.codes]:
            at.update(told)
        elif not (told := [case for case in cases_at(each.ran) if each.code in case.codes]):
            if any((place, each.code) in marks.tolerated for place in (*each.places, *each.ran)):
                continue
            explained = any(SHOWN.intersection(case.codes) for case in cases_at(each.ran))
            (otherwise if explained else false_alarms).append(each)
        found.update(told)
    return Score(
        [case for case in marks.cases if case in found],
        [case for case in marks.cases if case not in found],
        false_alarms,
        [case for case in marks.cases if case in at],
        otherwise,
    )


NETS = {"lint": "lint", "guard": "the guard", "replay": "perturbed replay"}


def measure(caught: Callable[[Path], dict[str, list[Found]]] | None = None) -> dict[str, Score]:
    """Let each net at the corpus."""
    if caught is None:
        from corpus_runs import caught
    findings = [caught(unit) for unit in units()]
    marks = read_marks(files())
    return {net: score(marks, [each for found in findings for each in found[net]]) for net in NETS}


def union(scores: dict[str, Score]) -> Score:
    """What the nets make of the corpus together."""
    cases = [*scores["lint"].found, *scores["lint"].missed]
    found = {case for each in scores.values() for case in each.found}
    at = {case for each in scores.values() for case in each.at}
    return Score(
        [case for case in cases if case in found],
        [case for case in cases if case not in found],
        [alarm for each in scores.values() for alarm in each.false_alarms],
        [case for case in cases if case in at],
        [other for each in scores.values() for other in each.otherwise],
    )


def render(page: str, scores: dict[str, Score]) -> str:
    """The page with new tables, under its own introduction."""
    from dt_testkit.hazards import HAZARDS

    names = {hazard.code: hazard.name for hazard in HAZARDS}
    together = union(scores)
    cases = [*together.found, *together.missed]
    columns = {
        "Cases": cases,
        "Visible in source": [case for case in cases if not case.runtime],
        **{f"Found by {name}": scores[net].found for net, name in NETS.items()},
        "Found by any": together.found,
    }
    counts = [Counter(case.codes[0] for case in column) for column in columns.values()]
    lines = [
        page.partition("\n## ")[0].rstrip(),
        "\n## The hazards\n",
        f"| Code | Hazard | {' | '.join(columns)} |",
        f"| --- | --- |{' ---: |' * len(columns)}",
    ]
    for code in sorted(counts[0]):
        numbers = [count[code] for count in counts]
        lines.append(f"| {code} | {names[code]} | {' | '.join(map(str, numbers))} |")
    lines.append(f"| | together | {' | '.join(str(count.total()) for count in counts)} |")
    lines += [
        "\n## The nets\n",
        "| Net | Found | Recall of all | Recall of what is visible | Found by it alone "
        "| At the marked line | False alarms |",
        f"| --- |{' ---: |' * 6}",
    ]
    for net, result in {**scores, "together": together}.items():
        others = {case for other, each in scores.items() if other != net for case in each.found}
        alone = str(len(set(result.found) - others)) if net in scores else ""
        total = len(result.found) / len(cases)
        counted = map(len, (result.at, result.false_alarms))
        cells = (
            NETS.get(net, net),
            len(result.found),
            f"{total:.1%}",
            f"{result.recall:.1%}",
            alone,
            *counted,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if together.missed:
        untold = ", ".join(f"`{case.place}` ({'|'.join(case.codes)})" for case in together.missed)
        lines.append(f"\nTold by no net under its code: {untold}.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    scores = measure()
    PAGE.write_text(render(PAGE.read_text(), scores))
    for net, result in scores.items():
        for alarm in result.false_alarms:
            print(f"FALSE ALARM of {NETS[net]}: {alarm}")
        print(f"{NETS[net]}: {len(result.otherwise)} findings under another code")
    together = union(scores)
    for case in together.missed:
        print(f"MISSED by all: {case}")
    print(f"{len(together.found)} found, {len(together.missed)} missed; {PAGE.relative_to(ROOT)}")
    return 1 if together.recall < 1 or together.false_alarms or scores["lint"].recall < 0.95 else 0


if __name__ == "__main__":
    sys.exit(main())
