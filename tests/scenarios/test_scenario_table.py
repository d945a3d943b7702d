"""The scenarios are counted, and each is collected for all three backends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COLLECT = """
import json, sys, pytest

class Table:
    def pytest_collection_finish(self, session):
        table = {}
        for item in session.items:
            if "world" in item.fixturenames:
                name = f"{item.path.name}::{item.originalname}"
                backends, skips = table.setdefault(name, ([], []))
                backends.append(item.callspec.params["world"])
                skips += [m.name for m in item.iter_markers() if m.name in ("long_timers", "in_memory_lacks")]
        print("TABLE", json.dumps(table))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Table()]))
"""


@pytest.fixture(scope="module")
def table():
    """Each scenario, with the backends that it is collected for and the names of its markers."""
    command = [sys.executable, "-c", COLLECT, str(HERE)]
    collected = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent.parent)
    (line,) = [line for line in collected.stdout.splitlines() if line.startswith("TABLE ")]
    return json.loads(line.removeprefix("TABLE "))


def test_there_are_enough_scenarios_and_each_runs_on_all_three_backends(table):
    assert len(table) >= 60
    for name, (backends, _) in table.items():
        assert set(backends) == {"simulated", "timeskip", "embedded"}, name


def test_few_scenarios_skip_the_oracle(table):
    without = [name for name, (_, skips) in table.items() if skips]
    assert len(table) - len(without) >= 60
    assert len([name for name, (_, skips) in table.items() if "in_memory_lacks" in skips]) <= 12


def test_every_test_of_this_folder_is_a_scenario(table):
    modules = {name.partition("::")[0] for name in table}
    assert modules == {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
