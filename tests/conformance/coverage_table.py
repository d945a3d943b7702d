"""The tables of docs/coverage.md: public members of the SDK, each with a test that exercises it.

The tests in ``RUN`` run once, under ``coverage_recorder``, which says what exercising means. Then those that
exercise a member run with it knocked out (``knock_outs``), and its row names one that failed for it. A row
keeps its test for as long as it does, so tests can come and go without the table changing.
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
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from sdk_surface import members, public_objects

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
AGAIN = "then run: make coverage-table"
PATH = os.pathsep.join((str(Path(__file__).parent), str(ROOT / "src")))

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

# What a test exercises and none can prove, and why. Each pattern has to match, and only such members.
NOT_PROVED = {
    pattern: why
    for why, patterns in {
        "A class with nothing of its own, of which nothing could be knocked out.": (
            "JsonDataConverter",
            "Orchestrator*Event",
            "WhenAnyTask",
        ),
        "It is for the SDK's own channel to heed; a hub has no part in it.": (
            "*(metadata=)",
            "*(channel_options=)",
            "*(resiliency_options=)",
            "GrpcChannelOptions.*",
            "GrpcRetryPolicyOptions.*",
        ),
        "It is for the SDK's own worker to heed, which tells no backend.": (
            "ConcurrencyOptions.maximum_concurrent_entity_work_items",
            "ConcurrencyOptions.maximum_thread_pool_workers",
        ),
        "It is for a store to heed that the application brings.": (
            "LargePayloadStorageOptions.enable_compression",
        ),
        "A hub takes it and does the same without it: it keeps one history of an instance.": (
            "*.get_orchestration_history(*=)",
        ),
        "It bounds how long something may take that takes a hub no time.": (
            "*.purge_orchestrations_by(timeout=)",
            "*Schedule*Client(operation_timeout=)",
        ),
        "The SDK does not use it.": ("DurableEntity.delete(input=)",),
    }.items()
    for pattern in patterns
}

TRIED = 100  # tests for each member, at most

# The tests in there start servers and workers, and take a second or more each.
SLOW = "tests/conformance/test_connections.py"

Table = dict[str, str]


def record(tests: Sequence[str] = RUN, *, root: Path = ROOT) -> dict[str, list[str]]:
    """Run the tests, and return for each member those that exercise it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        _run(tests, root, "-p", "coverage_recorder", f"--coverage-record={file}")
        recorded: dict[str, list[str]] = json.loads(file.read_text())
        return recorded


def prove(
    candidates: Mapping[str, Sequence[str]],
    tests: Sequence[str] = RUN,
    *,
    root: Path = ROOT,
    again: bool = True,
    at_once: int = 1,
) -> dict[str, str | None]:
    """Knock each member out, and return for each the first of its candidates that fails for it.

    ``again``: that test runs once more as it is, and has to pass.
    """

    def some(keys: Sequence[str]) -> dict[str, str | None]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "knock_outs.json"
            file.write_text(json.dumps({key: candidates[key] for key in keys}))
            # What an earlier test left behind is no failure of the test that is running.
            strays = ("-p", "no:unraisableexception", "-p", "no:threadexception")
            once = () if again else ("--knock-outs-once",)
            _run(tests, root, *strays, "-p", "knock_outs", f"--knock-outs={file}", *once)
            proved: dict[str, str | None] = json.loads(file.read_text())
            return proved

    keys = list(candidates)
    with ThreadPoolExecutor(at_once) as pool:
        parts = pool.map(some, [keys[first::at_once] for first in range(at_once)])
        return {key: test for part in parts for key, test in part.items()}


def _run(tests: Sequence[str], root: Path, *options: str) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COV_CORE_", "DT_")) and name != "PYTHONPATH"
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"),
            *("-p", "no:randomly", *options, "-k", SELECTED, *tests),
        ],
        cwd=root,
        env={**environment, "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    # 1: a test failed. That is for the run of that test to say; here it counts for nothing.
    if done.returncode not in (0, 1):
        raise RuntimeError(
            f"The run with {options} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )


def surface() -> dict[str, list[str]]:
    """The members of each module."""
    return {module: members(objects) for module, objects in public_objects().items()}


def pattern_of(member: str, left_out: Mapping[str, str]) -> str | None:
    """The pattern that leaves a member out, if one does."""
    return next((pattern for pattern in left_out if fnmatchcase(member, pattern)), None)


def candidates(
    listed: Table, keys: Sequence[str], recorded: Mapping[str, Sequence[str]], left_out: Mapping[str, str]
) -> dict[str, list[str]]:
    """The tests that exercise each member: the one of its row first, then those about the fewest members."""
    breadth = Counter(test for tests in recorded.values() for test in tests)
    return {
        key: sorted(tests, key=lambda test: (test != listed.get(key), SLOW in test, breadth[test], test))[
            :TRIED
        ]
        for key in keys
        if (tests := recorded.get(key)) and pattern_of(key, left_out) is None
    }


def update(asked: Mapping[str, Sequence[str]], proved: Mapping[str, str | None]) -> Table:
    """The new table: for each member the test that proves it, or else the first that exercises it."""
    return {key: proved.get(key) or tests[0] for key, tests in asked.items()}


def unproved(proved: Mapping[str, str | None], reasons: Mapping[str, str]) -> list[str]:
    """What is wrong with the proofs, in a sentence each."""
    found = []
    for key, test in proved.items():
        pattern = pattern_of(key, reasons)
        if test is None and pattern is None:
            found.append(f"{key}: no test fails when it is knocked out; write one that does, {AGAIN}")
        elif test is not None and pattern is not None:
            found.append(f"{pattern}: covers {key}, which {test} proves; take it out, {AGAIN}")
    for pattern in reasons:
        if not any(fnmatchcase(key, pattern) for key in proved):
            found.append(f"{pattern}: in NOT_PROVED, and not in the table; take it out, {AGAIN}")
    return found


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


def render(
    page: str,
    table: Table,
    modules: Mapping[str, Sequence[str]],
    left_out: Mapping[str, str],
    not_proved: Mapping[str, str],
) -> str:
    """The page with new tables, under its own introduction."""
    lines = [page.partition("\n## ")[0].rstrip()]
    for module, keys in modules.items():
        lines += [f"\n## {module}\n", "| Member | Test |", "| --- | --- |"]
        lines += [f"| `{key}` | `{_escape(table[key])}` |" for key in keys if key in table]
    for title, reasons in {"Not proved": not_proved, "Left out": left_out}.items():
        lines += [f"\n## {title}\n", "| Members | Why |", "| --- | --- |"]
        for why in dict.fromkeys(reasons.values()):
            patterns = ", ".join(f"`{pattern}`" for pattern, reason in reasons.items() if reason == why)
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
    asked = candidates(read(page), keys, recorded, LEFT_OUT)
    proved = prove(asked, at_once=os.cpu_count() or 1)
    table = update(asked, proved)
    PAGE.write_text(render(page, table, modules, LEFT_OUT, NOT_PROVED))
    left = problems(table, keys, recorded, LEFT_OUT) + unproved(proved, NOT_PROVED)
    proofs = sum(test is not None for test in proved.values())
    print(
        *left, f"{len(table)} of {len(keys)} members in {PAGE.relative_to(ROOT)}, {proofs} proved", sep="\n"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
