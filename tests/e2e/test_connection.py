"""The settings lead to a scheduler in another process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workflows import register
from workflows.connection import create_client, create_worker
from workflows.order import Order, OrderResult, order_workflow
from workflows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

BACKEND = """
import sys
from workflows.embedded import in_memory_backend
with in_memory_backend() as settings:
    print(settings.endpoint, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The endpoint of a backend in a process of its own, which ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", BACKEND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=20)


def test_an_order_runs_on_the_scheduler_that_the_environment_names(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDPOINT", endpoint)
    monkeypatch.setenv("TASKHUB", "orders")
    settings = Settings.from_environment()
    with create_worker(settings) as worker, create_client(settings) as client:
        register(worker)
        worker.start()
        instance_id = client.schedule_new_orchestration(order_workflow, input=Order("desk", 1, 150_00))
        state = client.wait_for_orchestration_completion(instance_id, timeout=20)
    assert state is not None
    assert state.get_output(OrderResult).status == "completed"


def run_one_scenario(endpoint: str) -> subprocess.CompletedProcess[str]:
    """What ``make e2e BACKEND=emulator`` does, with one scenario."""
    scenario = ["tests/e2e/test_workflows.py", "-k", "test_the_whole_amount_is_charged"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--dt-backend=emulator", *scenario],
        cwd=ROOT,
        env={**os.environ, "ENDPOINT": endpoint, "TASKHUB": "orders"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_scenarios_run_on_the_backend_that_the_environment_names(endpoint: str) -> None:
    done = run_one_scenario(endpoint)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_an_endpoint_that_does_not_answer_fails_at_once_with_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        done = run_one_scenario(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert done.returncode == 1
    assert "start the emulator there, or set ENDPOINT" in done.stdout
