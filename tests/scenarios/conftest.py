"""Scenarios: each is written once, with the methods of the SDK's client, and runs on three backends.

- ``simulated``: a ``TaskHub`` and ``hub.client``, in virtual time.
- ``timeskip``: a ``TaskHub`` that another process serves over gRPC, with the SDK's worker and client.
- ``embedded``: the SDK's in-memory backend, with the SDK's worker and client. What a client sees there is
  what the two others are held to, save where that backend has a known defect.

A module of scenarios has ``register(worker)``. Where a scenario needs another, or a worker with arguments, it
is marked with ``@pytest.mark.application(register=..., data_converter=...)``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite("world")

from world import BACKENDS, World, open_world  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "long_timers: waits for hours or days, so it skips 'embedded', whose timers take real time.",
    )
    config.addinivalue_line(
        "markers", "in_memory_lacks(reason): skips 'embedded' for a defect of that backend."
    )
    config.addinivalue_line(
        "markers",
        "application(register=..., **options): what is registered, and the arguments of the worker.",
    )


@pytest.fixture(scope="session")
def _closing() -> Iterator[ThreadPoolExecutor]:
    """Where worlds are closed: stopping a backend takes a second, which nobody needs to wait for."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture(scope="module")
def _worlds(_closing: ThreadPoolExecutor) -> Iterator[dict[Any, Any]]:
    worlds: dict[Any, Any] = {}
    yield worlds
    for _, close in worlds.values():
        _closing.submit(close)


@pytest.fixture(params=BACKENDS)
def world(request: pytest.FixtureRequest, _worlds: dict[Any, Any]) -> World:
    """A backend at work for the scenario's application. The scenarios of a module share it."""
    item, backend = request.node, request.param
    if backend == "embedded":
        if item.get_closest_marker("long_timers"):
            pytest.skip("the timers of the in-memory backend take real time")
        if (lacks := item.get_closest_marker("in_memory_lacks")) is not None:
            pytest.skip(f"the in-memory backend {lacks.args[0]}")
    marker = item.get_closest_marker("application")
    options = {"register": request.module.register, **(marker.kwargs if marker is not None else {})}
    key = (backend, *((name, id(value)) for name, value in sorted(options.items())))
    if key not in _worlds:
        opened = open_world(backend, **options)
        _worlds[key] = opened.__enter__(), lambda: opened.__exit__(None, None, None)
    made: World = _worlds[key][0]
    return made
