"""Where a scenario runs for real: a worker and a client of the SDK, connected to a backend."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dt_testkit.errors import DurableTestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durabletask.client import TaskHubGrpcClient

_ATTEMPTS = 20
# Given no logger, the SDK makes its own, with handlers that write past pytest's capturing.
_LOGGER = logging.getLogger("dt_testkit.worker")


def _is_news(record: logging.LogRecord) -> bool:
    # A worker that is stopped warns of the stream that it has just closed itself.
    return "Locally cancelled by application" not in record.getMessage()


_LOGGER.addFilter(_is_news)


@contextmanager
def embedded(register: Callable[[Any], object]) -> Iterator[TaskHubGrpcClient]:
    """Run an application on the SDK's in-memory backend: a real worker and a real client, in this process.

    Parameters
    ----------
    register : Callable
        Called with the worker before it is started.

    Yields
    ------
    TaskHubGrpcClient
        A client of the backend. Leaving the context stops all three.

    Examples
    --------
    >>> from dt_testkit.backends import embedded
    >>> def answer(ctx, question):
    ...     return 42
    >>> with embedded(lambda worker: worker.add_orchestrator(answer)) as client:
    ...     started = client.schedule_new_orchestration(answer)
    ...     state = client.wait_for_orchestration_completion(started, timeout=10)
    >>> state.get_output()
    42
    """
    from durabletask.client import TaskHubGrpcClient
    from durabletask.worker import TaskHubGrpcWorker

    with _in_memory_backend() as address:
        worker = TaskHubGrpcWorker(host_address=address, logger=_LOGGER)
        client = TaskHubGrpcClient(host_address=address, logger=_LOGGER)
        with _running(register, worker, client):
            yield client


@contextmanager
def timeskip(register: Callable[[Any], object]) -> Iterator[TaskHubGrpcClient]:
    """Run an application on a hub behind a port: a real worker and a real client, and time that jumps.

    The hub has a process of its own, so that it and the worker do not wait for one interpreter. Virtual time
    starts at the present, and moves only while a client waits for an instance to start or complete: then at
    once to what is due next, whenever nothing is in flight. Recurring schedules and the ``retry_timeout`` of
    a policy, which the SDK measures by the clock of the worker's process, go by it too.

    Parameters
    ----------
    register : Callable
        Called with the worker before it is started.

    Yields
    ------
    TaskHubGrpcClient
        A client of the hub; its timeouts are real time. Leaving the context stops all three.

    Raises
    ------
    DurableTestError
        The hub's process cannot be started.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from dt_testkit.backends import timeskip
    >>> def sleep_for_a_year(ctx, _):
    ...     yield ctx.create_timer(timedelta(days=365))
    ...     return "awake"
    >>> with timeskip(lambda worker: worker.add_orchestrator(sleep_for_a_year)) as client:
    ...     started = client.schedule_new_orchestration(sleep_for_a_year)
    ...     state = client.wait_for_orchestration_completion(started, timeout=10)
    >>> state.get_output()
    'awake'
    """
    from dt_testkit.hub.process import HubProcess

    with HubProcess(datetime.now(timezone.utc)) as hub:
        # Imported while it starts.
        from durabletask.client import TaskHubGrpcClient
        from durabletask.worker import TaskHubGrpcWorker

        from dt_testkit.sdk import virtual_now

        address = hub.address
        worker = TaskHubGrpcWorker(host_address=address, logger=_LOGGER)
        client = TaskHubGrpcClient(host_address=address, logger=_LOGGER)
        with virtual_now(hub.now), _running(register, worker, client):
            yield client


@contextmanager
def scheduler(
    register: Callable[[Any], object], endpoint: str, taskhub: str, *, patience: float = 5.0
) -> Iterator[TaskHubGrpcClient]:
    """Run an application against a Durable Task Scheduler or its emulator.

    Parameters
    ----------
    register : Callable
        Called with the worker before it is started.
    endpoint : str
        ``http://host:port`` for the emulator: no TLS, no credential. ``https://host`` for a scheduler: TLS
        and ``DefaultAzureCredential``.
    taskhub : str
        The name of the task hub.
    patience : float
        How many seconds the endpoint has to answer.

    Yields
    ------
    TaskHubGrpcClient
        A ``DurableTaskSchedulerClient``. Leaving the context stops it and the worker.

    Raises
    ------
    DurableTestError
        The endpoint is malformed or does not answer, or a package is missing.
    """
    secure, address = _parse(endpoint)
    try:
        from durabletask.azuremanaged.client import DurableTaskSchedulerClient
        from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

        credential = _credential() if secure else None
    except ImportError as error:
        raise DurableTestError(
            f"The emulator and scheduler backends need more packages ({error}): "
            "pip install 'dt-testkit[azure]'."
        ) from error
    _wait_for_answer(endpoint, address, secure, patience)
    settings: dict[str, Any] = {
        "host_address": address,
        "taskhub": taskhub,
        "token_credential": credential,
        "secure_channel": secure,
        "logger": _LOGGER,
    }
    worker, client = DurableTaskSchedulerWorker(**settings), DurableTaskSchedulerClient(**settings)
    with _running(register, worker, client):
        yield client


@contextmanager
def _running(register: Callable[[Any], object], worker: Any, client: TaskHubGrpcClient) -> Iterator[None]:
    try:
        register(worker)
        worker.start()
        yield
    finally:
        worker.stop()
        client.close()


def _parse(endpoint: str) -> tuple[bool, str]:
    """Whether an endpoint wants TLS, and its address as gRPC takes it."""
    try:
        url = urlsplit(endpoint)
        default = {"http": 80, "https": 443}[url.scheme]
        port = url.port or default
        good = url.hostname and endpoint.rstrip("/").endswith(f"//{url.netloc}") and "@" not in url.netloc
    except (KeyError, ValueError):
        good = False
    if not good:
        raise DurableTestError(
            f"The endpoint {endpoint.rpartition('@')[2]!r} is not usable: set ENDPOINT to one such as "
            "'http://localhost:8080' (the emulator) or 'https://my-scheduler.westeurope.durabletask.io'."
        )
    host = f"[{url.hostname}]" if ":" in str(url.hostname) else url.hostname
    return url.scheme == "https", f"{host}:{port}"


def _credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def _wait_for_answer(endpoint: str, address: str, secure: bool, patience: float) -> None:
    import grpc

    channel = (
        grpc.secure_channel(address, grpc.ssl_channel_credentials())
        if secure
        else grpc.insecure_channel(address)
    )
    ready = grpc.channel_ready_future(channel)
    try:
        ready.result(timeout=patience)
    except grpc.FutureTimeoutError:
        start = "check it and the network" if secure else "start the emulator there"
        raise DurableTestError(
            f"Nothing at {endpoint} answers gRPC calls within {patience:g} s: {start}, or set ENDPOINT (and "
            "TASKHUB) to what does."
        ) from None
    finally:
        ready.cancel()
        channel.close()


@contextmanager
def _in_memory_backend() -> Iterator[str]:
    from durabletask.testing import InMemoryOrchestrationBackend

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
                yield f"localhost:{port}"
            finally:
                backend.stop()
                # Lets go of calls that wait for an instance: their threads would keep the process alive.
                backend.reset()  # type: ignore[no-untyped-call]
            return


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Keep a free port for the backend, which is told its port and cannot choose a free one itself.

    A port found free and let go may be given to another process in between, and as gRPC sets SO_REUSEPORT,
    two servers on one port do not even clash: each gets a part of the other's calls. So a socket that never
    listens keeps the port, and shares it with the backend.
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
