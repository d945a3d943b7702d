"""The services of the application, for one test: a database of its own, and the local gateway, not served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from workflows import services as process
from workflows.gateway import Gateway
from workflows.local_gateway import LocalGateway
from workflows.model import OfflineModel
from workflows.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def gateway() -> LocalGateway:
    """What the activities' gateway asks."""
    return LocalGateway()


@pytest.fixture(autouse=True)
def services(tmp_path: Path, gateway: LocalGateway) -> Iterator[process.Services]:
    """What the activities work with."""
    client = httpx.Client(transport=gateway.transport(), base_url="http://gateway")
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    with process.use(process.Services(store, Gateway(client), OfflineModel())) as chosen:
        yield chosen


@pytest.fixture
def store(services: process.Services) -> Store:
    """The database of the activities."""
    return services.store
