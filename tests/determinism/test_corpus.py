"""The corpus: what it holds, that its clean part is clean, and what lint finds in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from durabletask.client import OrchestrationStatus
from hazard_table import (
    CORPUS,
    PAGE,
    Case,
    Found,
    Marks,
    Place,
    Score,
    files,
    lint,
    measure,
    read_marks,
    render,
    score,
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
    assert read_marks(files("clean")) == Marks([], set())


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


# -- what lint finds


@pytest.fixture(scope="module")
def result() -> Score:
    return measure()


@pytest.mark.parametrize("unit", units(), ids=lambda path: path.stem)
def test_lint_raises_no_false_alarm(unit):
    marks = read_marks(files())
    alarms = score(marks, lint(unit)).false_alarms
    assert not alarms, "\n".join(f"{alarm.place}: {alarm.code}" for alarm in alarms)


def test_lint_finds_nearly_all_that_source_shows(result):
    missed = [f"{case.place}: {'|'.join(case.codes)}" for case in result.missed if not case.runtime]
    assert result.recall >= 0.95, "\n".join(missed)


@pytest.mark.parametrize("code", sorted(CODES))
def test_lint_finds_most_cases_of_each_hazard(result, code):
    mine = [case for case in (*result.found, *result.missed) if code in case.codes and not case.runtime]
    missed = [str(case.place) for case in mine if case in result.missed]
    assert len(missed) <= 0.2 * len(mine), "\n".join(missed)


def test_the_page_says_what_lint_finds(result):
    assert PAGE.read_text() == render(PAGE.read_text(), result), "run: make hazard-table"


# -- the counting


def test_a_comment_says_what_is_to_be_found(tmp_path):
    (tmp_path / "flow.py").write_text(
        "a = 1  #! DT101 DT106\nb = 2  #? DT109\nc = '#! DT102'\nd = 4  #! DT104|DT105 runtime\n"
    )
    marks = read_marks([tmp_path / "flow.py"], tmp_path)
    assert marks.cases == [
        Case(Place("flow.py", 1), ("DT101",), False),
        Case(Place("flow.py", 1), ("DT106",), False),
        Case(Place("flow.py", 4), ("DT104", "DT105"), True),
    ]
    assert marks.tolerated == {(Place("flow.py", 2), "DT109")}


def test_a_comment_that_nobody_understands_is_refused(tmp_path):
    (tmp_path / "flow.py").write_text("a = 1  #! DT101 and more\n")
    with pytest.raises(ValueError, match=r"flow\.py:1: '#! DT101 and more'"):
        read_marks([tmp_path / "flow.py"], tmp_path)


def test_misses_and_false_alarms_are_counted():
    first, second, third, elsewhere = (Place("flow.py", line) for line in (1, 2, 3, 9))
    cases = [
        Case(first, ("DT101",), False),
        Case(second, ("DT104", "DT105"), False),
        Case(third, ("DT102",), True),
    ]
    marks = Marks(cases, {(elsewhere, "DT109")})

    nothing = score(marks, [])
    assert (nothing.found, nothing.missed, nothing.recall) == ([], cases, 0.0)

    half = score(marks, [Found(first, "DT102"), Found(second, "DT105"), Found(elsewhere, "DT109")])
    assert (half.found, half.recall) == ([cases[1]], 0.5)
    assert half.false_alarms == [Found(first, "DT102")]

    # What only the run of a program shows may be found, and does not count.
    everything = score(marks, [Found(first, "DT101"), Found(second, "DT104"), Found(third, "DT102")])
    assert (everything.missed, everything.recall, everything.false_alarms) == ([], 1.0, [])
