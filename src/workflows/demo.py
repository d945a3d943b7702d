"""Real histories: every workflow, several ways, through the real worker and client, exported to files.

The histories are what the SDK's own client returns, written by the SDK's own serializer.
"""

from __future__ import annotations

import errno
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durabletask.client import OrchestrationStatus
from durabletask.extensions.history_export import ExportFormat
from durabletask.extensions.history_export.serialization import (
    file_extension_for,
    orchestration_state_to_dict,
    serialize_history,
)

from workflows import register
from workflows.connection import create_client, create_worker
from workflows.embedded import in_memory_backend
from workflows.scenarios import SCENARIOS, Scenario
from workflows.services import Services, use
from workflows.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.client import OrchestrationState, TaskHubGrpcClient

__all__ = ["SCENARIOS", "DemoError", "Recording", "Scenario", "prepare_directory", "record"]

PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.02


class DemoError(Exception):
    """A run that did not end as expected."""


@dataclass(frozen=True)
class Recording:
    """The exported history of a scenario."""

    scenario: Scenario
    path: Path
    events: int


def prepare_directory(directory: Path) -> None:
    """Make the directory, check that it can be written to, and clear it of earlier histories.

    Raises
    ------
    OSError
        If that cannot be done.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a directory", str(directory))
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass
    for pattern in ("*.history.json", "*.history.jsonl", "*.history.json.gz", "*.history.jsonl.gz"):
        for path in directory.glob(pattern):
            path.unlink()


def record(directory: Path, scenarios: tuple[Scenario, ...]) -> Generator[Recording, None, None]:
    """Run scenarios on an in-memory backend, all at the same time, and export their histories.

    Parameters
    ----------
    directory : Path
        Where the histories go; see `prepare_directory`.
    scenarios : tuple[Scenario, ...]
        What to run.

    Yields
    ------
    Recording
        One for each scenario, in their order.

    Raises
    ------
    DemoError
        If a run ended otherwise than expected, or did not end.
    """
    with (
        services_of_its_own(),
        in_memory_backend() as settings,
        create_worker(settings) as worker,
        create_client(settings) as client,
    ):
        register(worker)
        worker.start()  # type: ignore[no-untyped-call]
        for scenario in scenarios:
            for signal in scenario.signals:
                client.signal_entity(signal.entity, signal.operation, input=signal.input)
        for scenario in scenarios:
            client.schedule_new_orchestration(
                scenario.orchestrator,
                input=scenario.input,
                instance_id=scenario.instance_id,
                version=scenario.version,
            )
        for scenario in scenarios:
            for sent in scenario.events:
                if sent.at is not None:
                    wait_for_custom_status(client, scenario.instance_id, sent.at)
                client.raise_orchestration_event(scenario.instance_id, sent.name, data=sent.data)
        for scenario in scenarios:
            state = wait_for_end(client, scenario.instance_id)
            check(scenario, state)
            yield export(directory, client, scenario, state)


@contextmanager
def services_of_its_own() -> Generator[None, None, None]:
    """Give the activities a database that is deleted afterwards, and the local gateway."""
    with tempfile.TemporaryDirectory(prefix="workflows-demo-") as directory:
        url = f"sqlite:///{Path(directory) / 'demo.db'}"
        with use(Services.open(ServiceSettings(url))):
            yield


def wait_for_custom_status(
    client: TaskHubGrpcClient, instance_id: str, custom_status: Any, timeout: float = PATIENCE_SECONDS
) -> None:
    """Wait until an instance has a certain custom status: until it waits for what comes next.

    Raises
    ------
    DemoError
        If it ended before, or took longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        state = client.get_orchestration_state(instance_id)
        found = None if state is None else state.get_custom_status()
        if found == custom_status:
            return
        if state is not None and is_over(state):
            raise DemoError(f"{instance_id} ended before it came to {custom_status}: its last was {found}")
        if time.monotonic() > deadline:
            raise DemoError(
                f"{instance_id} did not come to {custom_status} in {timeout:g} s: it is at {found}"
            )
        pause.wait(_POLL_SECONDS)


def is_over(state: OrchestrationState) -> bool:
    return state.runtime_status in (
        OrchestrationStatus.COMPLETED,
        OrchestrationStatus.FAILED,
        OrchestrationStatus.TERMINATED,
    )


def wait_for_end(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    try:
        state = client.wait_for_orchestration_completion(instance_id, timeout=PATIENCE_SECONDS)
    except TimeoutError:
        raise DemoError(f"{instance_id} did not end within {PATIENCE_SECONDS:g} s") from None
    if state is None:
        raise DemoError(f"{instance_id} is unknown to the backend")
    return state


def check(scenario: Scenario, state: OrchestrationState) -> None:
    """Compare the end of a run with the one expected."""
    wanted = OrchestrationStatus.FAILED if scenario.fails else OrchestrationStatus.COMPLETED
    failure = None if state.failure_details is None else state.failure_details.message
    if state.runtime_status is not wanted:
        because = "" if failure is None else f": {failure}"
        raise DemoError(f"{scenario.instance_id} is {state.runtime_status}, not {wanted}{because}")
    if callable(scenario.expected):
        found = state.get_output()
        right, expected = scenario.expected(found), scenario.expected.__name__
    else:
        found = failure if scenario.fails else state.get_output(type(scenario.expected))
        right, expected = found == scenario.expected, scenario.expected
    if not right:
        raise DemoError(f"{scenario.instance_id} ended with {found}, and not with {expected}")


def export(
    directory: Path, client: TaskHubGrpcClient, scenario: Scenario, state: OrchestrationState
) -> Recording:
    """Write the history of an instance with the SDK's own serializer."""
    file_format = ExportFormat(scenario.file_kind)
    events = client.get_orchestration_history(scenario.instance_id)
    path = directory / f"{scenario.instance_id}.history{file_extension_for(file_format)}"
    path.write_bytes(
        serialize_history(
            events,
            instance_id=scenario.instance_id,
            fmt=file_format,
            metadata=orchestration_state_to_dict(state),
        )
    )
    return Recording(scenario, path, len(events))
