"""The corpus: what it holds, that its clean part is clean, and what lint finds in it."""

from __future__ import annotations

import ast
import fcntl
import os
import pickle
import subprocess
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from corpus_runs import NOT_EVERYWHERE, NOT_RUN, caught, drive, hub_for, lines_run, loaded, runs, surroundings
from durabletask.client import OrchestrationStatus
from hazard_table import (
    CORPUS,
    NETS,
    PAGE,
    Case,
    Found,
    Marks,
    Place,
    Score,
    files,
    measure,
    read_marks,
    render,
    score,
    union,
    units,
)

from dt_testkit import TaskHub

CODES = {f"DT{number}" for number in range(101, 124)}


@pytest.fixture
def load(monkeypatch):
    """Imports a file of the corpus, under a name of its own."""

    def load(path: Path) -> ModuleType:
        spec = spec_from_file_location(f"corpus_{path.parent.name}_{path.stem}", path)
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


class Registrations:
    """Stands in for a worker, and notes what is registered."""

    def __init__(self) -> None:
        self.orchestrators, self.activities, self.entities = [], [], []
        self.add_orchestrator = self.orchestrators.append
        self.add_activity = self.activities.append
        self.add_entity = self.entities.append


# -- what it holds


def test_there_are_enough_cases_of_every_hazard_and_of_what_source_cannot_show():
    cases = read_marks(files()).cases
    by_code = Counter(case.codes[0] for case in cases)
    assert set(by_code) == CODES
    assert min(by_code.values()) >= 4
    assert sum(case.runtime for case in cases) >= 12
    # One hazard an orchestrator, or nearly so: a listing is two, and so is an async one that sleeps.
    assert len({case.place for case in cases}) >= 0.98 * len(cases)


def test_there_are_150_orchestrators_with_a_hazard_and_each_is_registered(load):
    names = Registrations()
    for path in files("hazards"):
        module = load(path)
        if path.stem not in ("found_by", "names"):  # those register otherwise, on purpose
            module.register(names)
    assert len(names.orchestrators) >= 150


def test_there_are_60_clean_orchestrators_and_no_mark_among_them(load):
    assert sum(len(load(path).RUN) for path in files("clean")) >= 60
    assert read_marks(files("clean")) == Marks([], set(), {})


@pytest.mark.parametrize("path", [*files("hazards"), *files("clean")], ids=lambda path: path.stem)
def test_a_file_can_be_imported(path, load):
    assert load(path).__doc__


RUN_ALL = """
from app import RUN, register
from dt_testkit import TaskHub
for orchestrator, input in RUN:
    hub = TaskHub(check_replay="turn")
    register(hub)
    assert hub.run(orchestrator, input=input).status.name == "COMPLETED", orchestrator
"""


@pytest.mark.parametrize(
    ("project", "code"),
    [("shop", "import shop"), ("flat", "import main, flows, audit, counters, compat"), ("tidy", RUN_ALL)],
)
def test_a_project_can_be_imported_and_a_clean_one_replays(project, code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=CORPUS / "projects" / project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- the clean ones


def test_a_clean_file_registers_what_it_runs(load):
    for path in files("clean"):
        names = Registrations()
        module = load(path)
        module.register(names)
        assert {run[0] for run in module.RUN} <= set(names.orchestrators), path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", files("clean"), ids=lambda path: path.stem)
def test_a_clean_orchestrator_replays_after_every_turn(path, load):
    module = load(path)
    for orchestrator, input, *events in module.RUN:
        hub = TaskHub(check_replay="turn")
        module.register(hub)
        for name, result in getattr(module, "STUBS", {}).items():
            hub.stub(name, return_value=result)
        instance = hub.start(orchestrator, input=input)
        for name, data in events[0] if events else ():
            instance.raise_event(name, data)
        instance.wait()
        hub.settle()
        fails = orchestrator.__name__ in getattr(module, "FAILS", ())
        expected = OrchestrationStatus.FAILED if fails else OrchestrationStatus.COMPLETED
        assert instance.status is expected, f"{orchestrator.__name__}: {instance.failure}"
        assert len(hub.instances) == 1 or all(other.is_terminal for other in hub.instances)


# -- the others run as well


RUNNABLE = [*files("hazards"), CORPUS / "projects" / "flat", CORPUS / "projects" / "shop"]


@pytest.mark.parametrize("unit", RUNNABLE, ids=lambda path: path.stem)
def test_every_line_with_a_hazard_runs_on_a_hub(unit, tmp_path):
    with surroundings(tmp_path), lines_run() as ran, loaded(unit) as module:
        for run in runs(module):
            if run.name not in NOT_RUN:
                drive(hub_for(module, guard="off"), run)
    places = {case.place for case in read_marks(files()).cases}
    mine = {place for place in places if (CORPUS / place.path).is_relative_to(unit)}
    assert mine
    excused = {place for place in mine if function_at(place) in NOT_RUN}
    assert sorted(mine - ran) == sorted(excused - ran)


def function_at(place: Place) -> str | None:
    """The function of a file that a line is in."""
    tree = ast.parse((CORPUS / place.path).read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return next((each.name for each in functions if each.lineno <= place.line <= each.end_lineno), None)


def test_a_file_registers_what_it_runs_and_what_does_not_run_is_there(tmp_path):
    everywhere = set()
    for unit in RUNNABLE:
        with surroundings(tmp_path), loaded(unit) as module:
            names = [run.name for run in runs(module)]
            assert set(names) <= set(hub_for(module).orchestrators), unit
        assert len(names) == len(set(names)), unit
        everywhere |= set(names)
    assert {*NOT_RUN, *NOT_EVERYWHERE["guard"], *NOT_EVERYWHERE["replay"]} <= everywhere


# -- what the nets find


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict[str, Score]:
    """The work is shared: each of the processes that run the tests takes what no other has taken yet."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def shared(unit: Path, wait: bool = True) -> dict[str, list[Found]] | None:
        kept = folder / f"{unit.parent.name}-{unit.stem}.found"
        with open(f"{kept}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return None
            if not kept.exists():
                kept.write_bytes(pickle.dumps(caught(unit)))
        return pickle.loads(kept.read_bytes())

    for unit in units():
        shared(unit, wait=False)
    return measure(shared)


@pytest.mark.parametrize("net", NETS)
def test_a_net_raises_no_false_alarm(scores, net):
    alarms = scores[net].false_alarms
    assert not alarms, "\n".join(map(str, alarms))


def test_nothing_gets_through_all_nets(scores):
    missed = union(scores).missed
    assert not missed, "\n".join(map(str, missed))


def test_lint_finds_nearly_all_that_source_shows(scores):
    missed = [str(case) for case in scores["lint"].missed if not case.runtime]
    assert scores["lint"].recall >= 0.95, "\n".join(missed)


@pytest.mark.parametrize("code", sorted(CODES))
def test_lint_finds_most_cases_of_each_hazard(scores, code):
    result = scores["lint"]
    mine = [case for case in (*result.found, *result.missed) if code in case.codes and not case.runtime]
    missed = [str(case.place) for case in mine if case in result.missed]
    assert len(missed) <= 0.2 * len(mine), "\n".join(missed)


@pytest.mark.parametrize(
    ("net", "path", "orchestrator"),
    [
        ("lint", "hazards/not_yielded.py", "a_forgotten_name"),
        ("lint", "hazards/log_lines.py", "prints"),
        ("guard", "hazards/at_run_time.py", "a_pause_by_name"),
        ("replay", "hazards/at_run_time.py", "a_set_by_another_name"),
        ("replay", "hazards/at_run_time.py", "the_text_of_an_object"),
        ("replay", "hazards/at_run_time.py", "the_time_zone_of_the_worker"),
    ],
)
def test_a_net_finds_what_no_other_finds(scores, net, path, orchestrator):
    by = {
        other
        for other, result in scores.items()
        for case in result.found
        if case.place.path == path and function_at(case.place) == orchestrator
    }
    assert by == {net}


def test_the_page_says_what_is_found(scores):
    assert PAGE.read_text() == render(PAGE.read_text(), scores), "run: make hazard-table"


# -- the counting


def test_a_comment_says_what_is_to_be_found(tmp_path):
    (tmp_path / "flow.py").write_text(
        "a = 1  #! DT101 DT106\nb = 2  #? DT109\nc = '#! DT102'\nd = 4  #! DT104|DT105 runtime\n"
        "e = a  #? DT106 of a\n"
    )
    marks = read_marks([tmp_path / "flow.py"], tmp_path)
    assert marks.cases == [
        Case(Place("flow.py", 1), ("DT101",), False),
        Case(Place("flow.py", 1), ("DT106",), False),
        Case(Place("flow.py", 4), ("DT104", "DT105"), True),
    ]
    assert marks.tolerated == {(Place("flow.py", 2), "DT109"), (Place("flow.py", 5), "DT106")}
    assert marks.shown == {Place("flow.py", 5): marks.cases[1]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a = 1  #! DT101 and more", r"flow\.py:1: '#! DT101 and more'"),
        ("a = 1  #? DT101 of b", r"flow\.py:1: 0 cases of DT101 have 'b' in their line"),
    ],
)
def test_a_comment_that_nobody_understands_is_refused(tmp_path, line, message):
    (tmp_path / "flow.py").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        read_marks([tmp_path / "flow.py"], tmp_path)


FIRST, SECOND, THIRD, FOURTH, ELSEWHERE, SHOWS = (Place("flow.py", line) for line in (1, 2, 3, 4, 8, 9))
CASES = [
    Case(FIRST, ("DT101",), False),
    Case(SECOND, ("DT104", "DT105"), False),
    Case(THIRD, ("DT102",), True),
    Case(FOURTH, ("DT116",), False),
]
MARKS = Marks(CASES, {(ELSEWHERE, "DT109")}, {SHOWS: CASES[0]})


def test_misses_and_false_alarms_are_counted():
    assert score(MARKS, []) == Score([], CASES, [], [], [])

    alarm = Found("DT102", (FIRST,))
    some = score(MARKS, [alarm, Found("DT105", (SECOND,)), Found("DT109", (ELSEWHERE,))])
    assert some == Score([CASES[1]], [CASES[0], *CASES[2:]], [alarm], [CASES[1]], [])
    assert some.recall == 1 / 3

    # What only the run of a program shows may be found, and does not count.
    found = [Found("DT101", (FIRST,)), Found("DT104", (SECOND,)), Found("DT116", (FOURTH,))]
    assert score(MARKS, found).recall == 1.0
    assert score(MARKS, [*found, Found("DT102", (THIRD,))]).missed == []


@pytest.mark.parametrize(
    ("finding", "at"),
    [
        (Found("DT101", (ELSEWHERE, FIRST)), True),  # by its route
        (Found("DT101", (SHOWS,)), True),  # where a line shows it that runs later
        (Found("DT101", (ELSEWHERE,), (FIRST, SECOND)), False),  # somewhere in its run
        (Found("DT101", (), (SHOWS,)), False),
        (Found("DT101", (SECOND,), (FIRST, SECOND)), False),  # at the line of another
    ],
)
def test_a_case_is_found_under_its_code_at_its_line_or_elsewhere_in_its_run(finding, at):
    assert score(MARKS, [finding]) == Score(CASES[:1], CASES[1:], [], CASES[:1] * at, [])


@pytest.mark.parametrize("code", ["DT103", None])
def test_a_finding_under_another_code_finds_nothing_and_is_a_false_alarm_where_nothing_explains_it(code):
    explained = Found(code, (ELSEWHERE,), (FIRST, FOURTH))
    assert score(MARKS, [explained]) == Score([], CASES, [], [], [explained])
    for ran in ((), (FOURTH,), (ELSEWHERE,)):  # what is logged makes no replay differ
        alarm = Found(code, (FIRST,), ran)
        assert score(MARKS, [alarm]) == Score([], CASES, [alarm], [], [])


def test_together_the_nets_find_what_one_of_them_finds():
    one, two, three = (Case(Place("flow.py", line), ("DT101",), False) for line in (1, 2, 3))
    alarm, other = Found("DT102", (one.place,)), Found(None, (), (three.place,))
    scores = {
        "lint": Score([one], [two, three], [], [one], []),
        "guard": Score([two], [one, three], [alarm], [], [other]),
    }
    assert union(scores) == Score([one, two], [three], [alarm], [one], [other])
