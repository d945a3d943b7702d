"""A backend with an application at work on it, and a client to it."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import TaskHub, backends
from dt_testkit.hub.process import HubProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durabletask.client import OrchestrationState
    from durabletask.task import FailureDetails

T = TypeVar("T")

BACKENDS = ("simulated", "timeskip", "embedded")
YEARS = timedelta(days=3650).total_seconds()


@dataclass
class World:
    """What a scenario is given.

    Attributes
    ----------
    client : TaskHubGrpcClient
        The SDK's client of the backend.
    new_async_client : Callable
        Makes the SDK's asynchronous client of it.
    patience : float
        How many seconds to wait for the end of an instance: of virtual time where there is nothing else.
    clock : Callable | None
        What a hub that another process serves shows, for what reads the clock of the worker's machine.
    """

    client: TaskHubGrpcClient
    new_async_client: Callable[[], AsyncTaskHubGrpcClient]
    patience: float
    clock: Callable[[], datetime] | None = None

    def start(self, orchestrator: Any, **options: Any) -> str:
        """Schedule an instance, and wait until it has started."""
        instance_id = self.client.schedule_new_orchestration(orchestrator, **options)
        assert self.client.wait_for_orchestration_start(instance_id, timeout=self.patience) is not None
        return instance_id

    def finish(self, instance_id: str) -> OrchestrationState:
        """Wait for the end of an instance."""
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=self.patience)
        assert state is not None
        return state

    def run(self, orchestrator: Any, **options: Any) -> OrchestrationState:
        """Schedule an instance, and wait for its end."""
        return self.finish(self.client.schedule_new_orchestration(orchestrator, **options))

    def output_of(self, orchestrator: Any, **options: Any) -> Any:
        """The output of a new instance, which completes."""
        return output(self.run(orchestrator, **options))

    def failure_of(self, orchestrator: Any, **options: Any) -> FailureDetails:
        """The failure of a new instance, which fails."""
        return failure(self.run(orchestrator, **options))

    def until_status(self, instance_id: str, custom_status: Any) -> None:
        """Wait until the instance has that custom status."""
        until(lambda: self.client.get_orchestration_state(instance_id).get_custom_status() == custom_status)

    def now(self) -> datetime:
        """What the clock of the backend shows, naive UTC."""
        return datetime.fromisoformat(self.output_of(what_time_is_it))


def what_time_is_it(ctx, _):
    return ctx.current_utc_datetime.isoformat()


def output(state: OrchestrationState) -> Any:
    """The output of an instance that has completed."""
    assert state.runtime_status is OrchestrationStatus.COMPLETED, state.failure_details
    return state.get_output()


def failure(state: OrchestrationState) -> FailureDetails:
    """The failure of an instance that has failed."""
    assert state.runtime_status is OrchestrationStatus.FAILED, state
    assert state.failure_details is not None
    return state.failure_details


def until(condition: Callable[[], T]) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + 15
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come true within 15 s"
        time.sleep(0.005)
    return answer


def unique(name: str) -> str:
    """An id that no other scenario has."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[None]:
    """The backend refuses the call with that status code."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value


# -- opening one


@contextmanager
def open_world(backend: str, register: Callable[[Any], object], **options: Any) -> Iterator[World]:
    """Set the application to work on a backend. ``options`` are those of the worker."""

    def register_all(worker: Any) -> None:
        register(worker)
        worker.add_orchestrator(what_time_is_it)

    if backend == "simulated":
        # As on the worker; None, as for the Durable Task Scheduler, is the hub's default.
        hub = TaskHub(**{"maximum_timer_interval": timedelta(days=3), **options})
        register_all(hub)
        yield World(hub.client, lambda: hub.async_client, YEARS)
    elif backend == "timeskip":
        # As in backends.timeskip, whose worker takes no options.
        with (
            HubProcess(datetime.now(timezone.utc)) as hub,
            _at_work(hub.address, register_all, options) as world,
        ):
            world.clock = hub.now
            yield world
    else:
        with backends._in_memory_backend() as address, _at_work(address, register_all, options) as world:
            yield world


@contextmanager
def _at_work(address: str, register: Callable[[Any], object], options: dict[str, Any]) -> Iterator[World]:
    shared = {name: options[name] for name in ("data_converter", "payload_store") if name in options}
    connection = {"host_address": address, "logger": backends._LOGGER}
    worker = TaskHubGrpcWorker(**connection, **options)
    client = TaskHubGrpcClient(**connection, **shared)
    with backends._running(register, worker, client):
        yield World(client, lambda: AsyncTaskHubGrpcClient(**connection, **shared), 20)
