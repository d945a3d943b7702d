"""The application on the SDK's in-memory backend: a real worker and a real client, over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workflows import register
from workflows.connection import create_client, create_worker
from workflows.demo import WithFlakyGateway
from workflows.embedded import in_memory_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask.client import TaskHubGrpcClient


@pytest.fixture(scope="session")
def client() -> Iterator[TaskHubGrpcClient]:
    """A client of a task hub that a worker with the whole application works for."""
    with (
        in_memory_backend() as settings,
        create_worker(settings) as worker,
        create_client(settings) as client,
    ):
        register(WithFlakyGateway(worker))
        worker.start()
        yield client
