"""``make demo``: real histories, replayed with the code that made them and with a release nobody tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.changed_workflows import CHANGES
from examples.demo import not_found

ROOT = Path(__file__).parents[2]


def report(*found):
    return {
        "histories": [
            {"instance_id": change.history, "divergences": [{"kind": change.kind, "field": change.field}]}
            for change in found
        ]
    }


def test_the_main_job_ends_with_every_change_found(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CHANGES)} of {len(CHANGES)} changes were found." in done.stdout


def test_a_change_that_is_not_found_is_missed():
    assert not_found(report(*CHANGES), CHANGES) == []
    for missed in CHANGES:
        others = [change for change in CHANGES if change is not missed]
        assert not_found(report(*others), CHANGES) == [missed]


def test_a_change_that_is_found_in_another_history_only_is_missed():
    elsewhere = {"histories": [{**report(CHANGES[0])["histories"][0], "instance_id": "another"}]}
    assert not_found(elsewhere, CHANGES[:1]) == [CHANGES[0]]
