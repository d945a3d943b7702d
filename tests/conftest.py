"""What all tests share: no test writes a database into the directory that it is run in."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A database for this run; also for the processes that tests start."""
    directory: Path = tmp_path_factory.mktemp("database")
    os.environ["DATABASE_URL"] = f"sqlite:///{directory / 'workflows.db'}"
    yield
    from workflows import services

    if services._services is not None:
        services._services.close()


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """A command that is run in this process sets what is logged; the next test does not inherit that."""
    loggers = [logging.getLogger(name) for name in (None, "durabletask.worker", "httpx", "azure")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
