"""The application behind a real worker and a real client, over gRPC: where `where` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from where import connected

from workflows.services import Services, use
from workflows.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask.client import TaskHubGrpcClient


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """What the activities of this run work with: a database of the run, and the local gateway."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    with use(Services.open(ServiceSettings(url))) as chosen:
        yield chosen


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest, services: Services) -> Iterator[TaskHubGrpcClient]:
    """A client of a task hub that a worker with the whole application works for."""
    with connected(request.config.getoption("dt_backend")) as client:
        yield client


@pytest.fixture
def real_time(request: pytest.FixtureRequest) -> None:
    """For a test that polls until a timer has fired: on timeskip no time passes while a client only looks."""
    if request.config.getoption("dt_backend") == "timeskip":
        pytest.skip("it looks on while time passes")
