"""Random programs on a served hub: the SDK's worker does the work, over gRPC, and the hub records it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from durabletask.client import OrchestrationStatus
from durabletask.worker import TaskHubGrpcWorker
from hypothesis import HealthCheck, Phase, given, settings
from laws import _replay_clean
from programs import ORCHESTRATORS, programs

from dt_testkit import TaskHub

if TYPE_CHECKING:
    from programs import Program

QUIET = logging.Logger("served_programs", logging.CRITICAL)
_closing = ThreadPoolExecutor(8)  # to stop a worker takes the SDK a second, for which nobody needs to wait


class ServedHub(TaskHub):
    """A hub that hands on to a worker what it is told: what to register, and which versions to take."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: Any = None

    def add_orchestrator(self, fn: Any) -> str:
        return self.worker.add_orchestrator(fn)

    def add_activity(self, fn: Any) -> str:
        return self.worker.add_activity(fn)

    def add_entity(self, fn: Any, name: str | None = None) -> str:
        return self.worker.add_entity(fn, name)

    def use_versioning(self, version: Any) -> None:
        super().use_versioning(version)
        self.worker.use_versioning(version)

    def settle(self, **options: Any) -> None:
        with suppress(RuntimeError):  # that it has been started
            self.worker.start()
        super().settle(**options)


def run_on_a_worker(program: Program) -> tuple[TaskHub, dict[str, Any]]:
    """A hub whose worker has done what the hub of the program would have done itself."""
    namespace, hub = program.load(), ServedHub()
    with hub.serve(patience=None) as server:
        hub.worker = TaskHubGrpcWorker(
            host_address=server.address, logger=QUIET, maximum_timer_interval=program.chunk
        )
        try:
            namespace["run"](hub)
        finally:
            _closing.submit(hub.worker.stop)
    return hub, namespace


def draw(count: int) -> list[Program]:
    """The same programs in every run."""
    drawn: list[Program] = []

    @settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=count,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate],
    )
    @given(program=programs)
    def note(program: Program) -> None:
        if "retry_timeout" not in program.source:  # a worker measures it by the clock on its wall
            drawn.append(program)

    note()
    return drawn


def test_what_a_worker_does_with_a_random_program_is_recorded_so_that_it_replays() -> None:
    # Not inside of hypothesis: with threads at work, no two runs are the same.
    ended = set()
    for program in draw(80):
        hub, namespace = run_on_a_worker(program)
        orchestrators = {name: namespace[name] for name in ORCHESTRATORS}
        histories = [history for instance in hub.instances for history in instance.histories]
        try:
            _replay_clean(program, histories, orchestrators, hub.worker_options.versioning)
        except AssertionError as error:
            raise AssertionError(f"{program.source}\n{error}") from error
        ended.update(instance.status for instance in hub.instances)
    assert {OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED} <= ended
