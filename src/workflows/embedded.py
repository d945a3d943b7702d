"""The SDK's in-memory backend on a free port, for demonstrations and tests: nothing to install, nothing kept.

It forgets everything when it stops, and its timers run in real time.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from durabletask.testing import InMemoryOrchestrationBackend

from workflows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTEMPTS = 20


@contextmanager
def in_memory_backend() -> Iterator[Settings]:
    """Run an in-memory backend.

    Yields
    ------
    Settings
        What leads to the backend, as long as the context lasts.

    Raises
    ------
    RuntimeError
        If no port could be had.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        with _reserved_port() as port:
            backend = InMemoryOrchestrationBackend(port=port)
            try:
                backend.start()
            except RuntimeError:  # somebody else was quicker
                if attempt == _ATTEMPTS:
                    raise
                continue
            try:
                yield Settings(endpoint=f"http://localhost:{port}")
            finally:
                backend.stop()
                # Lets go of calls that wait for an instance: their threads would keep the process alive.
                backend.reset()  # type: ignore[no-untyped-call]
            return


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Reserve a free port for the backend.

    The backend is told its port; it cannot pick a free one and say which. A port that was found free and let
    go may be given to another process in between, and as gRPC sets SO_REUSEPORT, two servers on one port do
    not even clash: each gets a part of the other's calls. So the port is kept, by a socket that never listens
    but shares it with the backend: nobody who asks the system for a free port gets this one.
    """
    shared = getattr(socket, "SO_REUSEPORT", None)
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as keeper:
        if family == socket.AF_INET6:
            keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if shared is not None:
            keeper.setsockopt(socket.SOL_SOCKET, shared, 1)
        keeper.bind(("", 0))
        port: int = keeper.getsockname()[1]
        if shared is None:
            keeper.close()  # cannot be shared, so it is let go, and the caller tries again if it is lost
        yield port
