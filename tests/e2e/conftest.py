"""The application behind a real worker and a real client, over gRPC: embedded, or where ENDPOINT says."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dt_testkit import DurableTestError, backends
from workflows import register
from workflows.connection import create_client, create_worker
from workflows.demo import WithFlakyGateway
from workflows.embedded import in_memory_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask.client import TaskHubGrpcClient


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> Iterator[TaskHubGrpcClient]:
    """A client of a task hub that a worker with the whole application works for."""
    backend = request.config.getoption("dt_backend")
    with external() if backend in ("emulator", "scheduler") else embedded() as connected:
        yield connected


@contextmanager
def embedded() -> Iterator[TaskHubGrpcClient]:
    with (
        in_memory_backend() as settings,
        create_worker(settings) as worker,
        create_client(settings) as client,
    ):
        register(WithFlakyGateway(worker))
        worker.start()
        yield client


@contextmanager
def external() -> Iterator[TaskHubGrpcClient]:
    try:
        with backends.scheduler(
            lambda worker: register(WithFlakyGateway(worker)),
            os.environ.get("ENDPOINT", "http://localhost:8080"),
            os.environ.get("TASKHUB", "default"),
        ) as client:
            yield client
    except DurableTestError as error:
        pytest.fail(str(error), pytrace=False)
