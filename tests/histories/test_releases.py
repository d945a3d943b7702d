"""What releases have recorded: the files beside this one are tests themselves, which replay them.

Here: that they show all of the application. `record.py` made them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.history import ExecutionStartedEvent, TaskScheduledEvent

from dt_testkit import History
from workflows import MODULES

if TYPE_CHECKING:
    from collections.abc import Iterable

RELEASES = sorted(
    path for path in Path(__file__).parent.iterdir() if (path / "order-completed.history.json").exists()
)


def names(histories: Iterable[History], kind: type[Any]) -> set[str]:
    return {event.name for history in histories for event in history.events if isinstance(event, kind)}


@pytest.fixture(scope="module")
def histories() -> list[History]:
    """Those of the latest release."""
    return [History.load(path) for path in sorted(RELEASES[-1].iterdir())]


def test_each_orchestrator_is_in_the_histories_of_the_latest_release(histories: list[History]) -> None:
    registered = {each.__name__ for module in MODULES for each in module.ORCHESTRATORS}
    assert names(histories, ExecutionStartedEvent) >= registered


def test_each_activity_is_in_the_histories_of_the_latest_release(histories: list[History]) -> None:
    registered = {each.__name__ for module in MODULES for each in module.ACTIVITIES}
    assert names(histories, TaskScheduledEvent) >= registered


def test_what_is_missing_would_be_noticed(histories: list[History]) -> None:
    without = [history for history in histories if history.orchestrator_name != "transfer"]
    assert "transfer" not in names(without, ExecutionStartedEvent)


def test_no_history_tells_of_the_machine_it_was_recorded_on(histories: list[History]) -> None:
    assert not [history for history in histories if 'File "' in str(list(history.events))]
