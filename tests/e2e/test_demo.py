"""``python -m workflows demo``: real histories on disk, and clear words when that cannot be."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from workflows import demo
from workflows.__main__ import cli
from workflows.demo import SCENARIOS, DemoError, record

EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = [sys.executable, "-m", "workflows", "demo", "--history-dir"]

ENDLESS_DEMO = """
import dataclasses
from workflows import __main__
__main__.configure_logging()
from workflows import demo
first = demo.SCENARIOS[0]
asked = next(scenario for scenario in demo.SCENARIOS if scenario.instance_id == "purchase-approved")
demo.SCENARIOS = (first, dataclasses.replace(asked, events=()))
__main__.cli()
"""


def load(path: Path) -> dict[str, Any]:
    """A history file of either kind, in the shape of the JSON kind."""
    if path.suffix != ".gz":
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return document
    header, *events = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    return {**header, "events": events}


def test_the_demo_exports_the_history_of_every_scenario(tmp_path: Path) -> None:
    stale = [tmp_path / "gone.history.json", tmp_path / "import-partial.history.json"]
    for path in stale:
        path.write_text("{}")
    kept = tmp_path / "notes.json"
    kept.write_text("{}")

    result = subprocess.run([*DEMO, tmp_path], capture_output=True, text=True, timeout=60, check=False)

    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [scenario.instance_id for scenario in SCENARIOS]
    assert lines[-1].startswith(f"{len(SCENARIOS)} histories in {tmp_path}")
    assert kept.exists()
    histories = {load(path)["instance_id"]: load(path) for path in tmp_path.glob("*.history.*")}
    assert histories.keys() == {scenario.instance_id for scenario in SCENARIOS}
    assert not any(path.exists() for path in stale)
    for document in histories.values():
        assert document["metadata"]["runtime_status"] in ("COMPLETED", "FAILED")
        assert document["events"][-1]["event_type"] == "ExecutionCompletedEvent"
    assert list(tmp_path.glob("*.history.jsonl.gz"))


def test_the_demo_uses_no_database_and_no_gateway_but_its_own_and_deletes_them(tmp_path: Path) -> None:
    temporary, histories = tmp_path / "tmp", tmp_path / "histories"
    temporary.mkdir()
    done = subprocess.run(
        [*DEMO, histories],
        cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": "nonsense", "GATEWAY_URL": "nonsense", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["histories", "tmp"]
    assert list(temporary.iterdir()) == []


def test_a_run_that_ends_otherwise_than_expected_is_an_error(tmp_path: Path) -> None:
    surprised = dataclasses.replace(SCENARIOS[0], expected="something else")
    with pytest.raises(DemoError, match=r"order-completed ended with .*, and not with something else"):
        list(record(tmp_path, (surprised,)))


def test_the_shell_tells_of_it_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(directory: Path, scenarios: Any) -> Any:
        raise DemoError("order-completed is Failed, not Completed")
        yield

    monkeypatch.setattr(demo, "record", fail)
    result = CliRunner().invoke(cli, ["demo", "--history-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == "The demo went wrong: order-completed is Failed, not Completed.\n"


def test_a_file_in_the_place_of_the_directory_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    result = CliRunner().invoke(cli, ["demo", "--history-dir", str(taken)])
    assert result.exit_code == 2
    assert result.stderr == f"Cannot write histories to '{taken}': it is a file, not a directory.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_stops_the_demo_cleanly(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-u", "-c", ENDLESS_DEMO, "demo", "--history-dir", tmp_path],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("order-completed")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "Stopped.\n")
    assert list(temporary.iterdir()) == []


def test_every_change_of_the_example_names_a_history_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    changes = importlib.import_module("changed_workflows").CHANGES
    assert len(changes) >= 8
    assert {change.history for change in changes} <= {scenario.instance_id for scenario in SCENARIOS}
