"""The main job, from start to end; what ``make demo`` runs.

1. The application in ``src/workflows`` runs on the SDK's real worker and client, and its histories are
   exported with the SDK's own serializer. No line of dt_testkit is involved.
2. The histories are replayed with the same code: all must be clean.
3. They are replayed with ``examples/changed_workflows.py``, a release that nobody tested: every change that
   it lists must be found, where it is said to show.

Exits with 0 only if both hold. The histories go to ``build/histories``, or to the directory it is given.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.changed_workflows import CHANGES, Change

ROOT = Path(__file__).parents[1]
DEFAULT_DIRECTORY = "build/histories"


def main(histories: str = DEFAULT_DIRECTORY) -> int:
    heading("1. Record: the real worker and client on the SDK's in-memory backend")
    if run(sys.executable, "-m", "workflows", "demo", "--history-dir", histories) != 0:
        return 1

    heading("2. Replay with the same code")
    if replay(histories, "workflows:register") != 0:
        print("The histories do not replay with the code that made them.", file=sys.stderr)
        return 1

    heading("3. Replay with a release that nobody tested")
    changed = "examples.changed_workflows:register"
    if replay(histories, changed) != 1:
        print("The changed application was not caught.", file=sys.stderr)
        return 1
    report = subprocess.run(
        command(histories, changed, "--format", "json"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    missed = not_found(json.loads(report.stdout), CHANGES)
    print()
    for change in CHANGES:
        print(f"{'MISSED' if change in missed else 'found '}  {change.name}  ({change.history})")
    print(f"\n{len(CHANGES) - len(missed)} of {len(CHANGES)} changes were found.")
    return 1 if missed else 0


def not_found(report: dict[str, Any], changes: Iterable[Change]) -> list[Change]:
    """The changes that a report of ``dt-testkit replay --format json`` does not show where they are."""
    shown = {
        (history["instance_id"], divergence["kind"], divergence["field"])
        for history in report["histories"]
        for divergence in history["divergences"]
    }
    return [change for change in changes if (change.history, change.kind, change.field) not in shown]


def replay(histories: str, app: str) -> int:
    return run(*command(histories, app))


def command(histories: str, app: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "dt_testkit", "replay", histories, "--app", app, *more]


def run(*words: str) -> int:
    """Run a command from the root of the project, and say which."""
    shown = ["python", *words[1:]] if words[1:3] != ("-m", "dt_testkit") else ["dt-testkit", *words[3:]]
    print(f"$ {' '.join(shown)}\n", flush=True)
    return subprocess.run(words, cwd=ROOT, check=False).returncode


def heading(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
