"""The tables of docs/coverage.md: public members of the SDK, each with a test that exercises it.

The tests in ``RUN`` run once, under ``coverage_recorder``, which says what exercising means. A row keeps its
test for as long as that test exercises the member, so tests can come and go without the table changing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from sdk_surface import members, public_objects

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
AGAIN = "then run: make coverage-table"

RUN = (
    "tests/scenarios",
    "tests/conformance/test_connections.py",
    "tests/conformance/test_members.py",
    "tests/conformance/test_recorded_events.py",
    "tests/unit/test_client.py",
    "tests/unit/test_hub.py",
    "tests/unit/test_scheduled.py",
)

# Scenarios run on three backends; here they run on the hub in process, and nobody counts them.
SELECTED = "not embedded and not timeskip and not scenario_table"

# What no test can or needs to exercise here, and why. Each pattern has to match, and only what has no test.
LEFT_OUT = {
    pattern: why
    for why, patterns in {
        "The SDK's own working parts under public names; an application has no reason to use them.": (
            "*Task(*=)",
            "*Task.on_child_completed",
            "*Task.set_*",
            "CompletableTask.complete",
            "CompletableTask.fail",
            "RetryableTask.increment_attempt_count",
            "ExecutionResults*",
            "client.new_orchestration_state",
            "client.new_purge_instances_result",
            "client.parse_orchestration_state",
            "EntityMetadata.from_entity_metadata",
            "EntityMetadata.from_entity_response",
            "Schedule*Options.*_json",
            "ScheduleStatus.*dotnet*",
            "ScheduledTaskClient.matches_filter",
            "Grpc*Options.to_*",
        ),
        "Nothing in the SDK 1.12 raises it or records it: no client, no worker, no in-memory backend.": (
            "ScheduleClientValidationError*",
            "ContinueAsNewEvent.*",
            "GenericEvent.*",
            "HistoryStateEvent.*",
            "ExecutionStartedEvent.orchestration_span_id",
            *(
                f"ExecutionRewoundEvent.{name}"
                for name in (
                    *("input", "instance_id", "name", "parent_execution_id", "parent_instance"),
                    *("parent_trace_context", "tags", "version"),
                )
            ),
            "EntityOperationCalledEvent.scheduled_time",
            "EntityOperationCalledEvent.parent_execution_id",
            "SubOrchestrationInstanceCreatedEvent.tags",
            "TaskScheduledEvent.version",
        ),
        "An exception that the application meets as the cause that another one names, without attributes.": (
            "EntityOperationFailedException.*",
            "ScheduleInvalidTransitionError.*",
        ),
        "A hub takes part in no trace.": (
            "ExecutionStartedEvent.parent_trace_context",
            "SubOrchestrationInstanceCreatedEvent.parent_trace_context",
            "TaskScheduledEvent.parent_trace_context",
            "TraceContext.*",
        ),
        "A hub is served without TLS.": ("*(secure_channel=)",),
    }.items()
    for pattern in patterns
}


Table = dict[str, str]


def record(tests: Sequence[str] = RUN, *, root: Path = ROOT) -> dict[str, list[str]]:
    """Run the tests, and return for each member those that exercise it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "COV_CORE_", "DT_")) and name != "PYTHONPATH"
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
                *("-p", "no:randomly"),
                *("-p", "coverage_recorder", f"--coverage-record={file}", "-k", SELECTED, *tests),
            ],
            cwd=root,
            env={**environment, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        # 1: a test failed. That is for the run of that test to say; here it counts for nothing.
        if done.returncode not in (0, 1):
            raise RuntimeError(f"The recorded run ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        recorded: dict[str, list[str]] = json.loads(file.read_text())
        return recorded


def surface() -> dict[str, list[str]]:
    """The members of each module."""
    return {module: members(objects) for module, objects in public_objects().items()}


def pattern_of(member: str, left_out: Mapping[str, str]) -> str | None:
    """The pattern that leaves a member out, if one does."""
    return next((pattern for pattern in left_out if fnmatchcase(member, pattern)), None)


def update(
    listed: Table, keys: Sequence[str], recorded: Mapping[str, Sequence[str]], left_out: Mapping[str, str]
) -> Table:
    """The new table: a row keeps its test, or gets the one that is about the fewest members."""
    breadth = Counter(test for tests in recorded.values() for test in tests)
    new = {}
    for key in keys:
        tests = recorded.get(key, ())
        if tests and pattern_of(key, left_out) is None:
            closest = min(tests, key=lambda test: (breadth[test], test))
            new[key] = listed[key] if listed.get(key) in tests else closest
    return new


def problems(
    listed: Table, keys: Sequence[str], recorded: Mapping[str, Sequence[str]], left_out: Mapping[str, str]
) -> list[str]:
    """What is wrong with a table, in a sentence each."""
    found = []
    for key in keys:
        tests = recorded.get(key, ())
        if (pattern := pattern_of(key, left_out)) is not None:
            if tests:
                found.append(f"{pattern}: covers {key}, which {min(tests)} exercises; take it out, {AGAIN}")
        elif not tests:
            found.append(f"{key}: no test exercises it; write one where coverage_table.RUN says, {AGAIN}")
        elif key not in listed:
            found.append(
                f"{key}: not in the table, though {min(tests)} exercises it; run: make coverage-table"
            )
        elif listed[key] not in tests:
            found.append(f"{key}: {listed[key]} no longer exercises it, but {min(tests)} does; {AGAIN}")
    found += [f"{key}: in the table, and not in the SDK; {AGAIN}" for key in listed if key not in keys]
    for pattern in left_out:
        if not any(fnmatchcase(key, pattern) for key in keys):
            found.append(f"{pattern}: in LEFT_OUT, and not in the SDK; take it out, {AGAIN}")
    return found


def render(page: str, table: Table, modules: Mapping[str, Sequence[str]], left_out: Mapping[str, str]) -> str:
    """The page with new tables, under its own introduction."""
    lines = [page.partition("\n## ")[0].rstrip()]
    for module, keys in modules.items():
        lines += [f"\n## {module}\n", "| Member | Test |", "| --- | --- |"]
        lines += [f"| `{key}` | `{_escape(table[key])}` |" for key in keys if key in table]
    lines += ["\n## Left out\n", "| Members | Why |", "| --- | --- |"]
    for why in dict.fromkeys(left_out.values()):
        patterns = ", ".join(f"`{pattern}`" for pattern, reason in left_out.items() if reason == why)
        lines.append(f"| {patterns} | {why} |")
    return "\n".join(lines) + "\n"


def read(page: str) -> Table:
    """The table of a page."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", page, re.MULTILINE)
    return {key: test.replace("\\|", "|") for key, test in rows}


def _escape(test: str) -> str:
    return test.replace("|", "\\|")


def main() -> int:
    modules = surface()
    keys = [key for module in modules.values() for key in module]
    recorded = record()
    page = PAGE.read_text()
    table = update(read(page), keys, recorded, LEFT_OUT)
    PAGE.write_text(render(page, table, modules, LEFT_OUT))
    left = problems(table, keys, recorded, LEFT_OUT)
    print(*left, f"{len(table)} of {len(keys)} members in {PAGE.relative_to(ROOT)}", sep="\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
