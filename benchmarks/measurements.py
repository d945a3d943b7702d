"""What is measured. What is compared runs in turn with what it is compared with, and the best run counts."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from durabletask import task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import EntityContext, EntityInstanceId
from durabletask.history import ExecutionCompletedEvent, OrchestratorStartedEvent
from durabletask.serialization import JsonDataConverter

from dt_testkit import History, TaskHub, replay
from dt_testkit.backends import embedded, timeskip
from dt_testkit.history.codec import events_to_protobuf
from dt_testkit.lint import lint_paths
from dt_testkit.sdk import OrchestrationExecutor, Registry


@dataclass(frozen=True)
class Row:
    what: str
    ours: str
    other: str
    ratio: str
    wanted: str
    ok: bool


@dataclass
class Step:
    order: str
    number: int
    amount: float


@dataclass
class Receipt:
    id: str
    ok: bool


def act(ctx: task.ActivityContext, step: dict[str, Any]) -> dict[str, Any]:
    return {"id": "R-1", "ok": True}


def chain(ctx: task.OrchestrationContext, length: int) -> Generator[Any, Any, Any]:
    result = None
    for number in range(length):
        result = yield ctx.call_activity(act, input={"order": "A-1", "number": number, "amount": 12.5})
    return result


def typed_act(ctx: task.ActivityContext, step: Step) -> Receipt:
    return Receipt("R-1", True)


def typed_chain(ctx: task.OrchestrationContext, length: int) -> Generator[Any, Any, Any]:
    result = None
    for number in range(length):
        result = yield ctx.call_activity(typed_act, input=Step("A-1", number, 12.5))
    return result


def hourly(ctx: task.OrchestrationContext, hours: int) -> Generator[Any, Any, None]:
    for _ in range(hours):
        yield ctx.create_timer(timedelta(hours=1))


def thirty_days(ctx: task.OrchestrationContext, _: Any) -> Generator[Any, Any, None]:
    for _ in range(30):
        yield ctx.create_timer(timedelta(days=1))


def counter(ctx: EntityContext, amount: int) -> int:
    total = int(ctx.get_state(int, 0)) + amount
    ctx.set_state(total)
    return total


def entity_calls(ctx: task.OrchestrationContext, calls: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(calls):
        total = yield ctx.call_entity(EntityInstanceId("counter", "c"), "add", 1)
    return total


def register(worker: Any) -> None:
    for orchestrator in (chain, typed_chain, hourly, thirty_days, entity_calls):
        worker.add_orchestrator(orchestrator)
    for activity in (act, typed_act):
        worker.add_activity(activity)
    worker.add_entity(counter)


def hub() -> TaskHub:
    made = TaskHub()
    register(made)
    return made


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_in_turn(rounds: int, *works: Callable[[], object]) -> list[float]:
    """The best time of each, run in turn."""
    times = [[seconds(work) for work in works] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def ms(value: float) -> str:
    return f"{value * 1000:,.1f} ms"


def chain_of_200() -> list[Row]:
    """A chain of 200 activities, against the SDK's in-memory backend with the real worker."""
    with embedded(register) as client:

        def backend() -> None:
            state = client.wait_for_orchestration_completion(
                client.schedule_new_orchestration(chain, input=200), timeout=60
            )
            assert state is not None
            assert state.runtime_status is OrchestrationStatus.COMPLETED

        ours, other = best_in_turn(8, lambda: hub().run(chain, input=200), backend)
    return [
        Row(
            "chain of 200 activities, replay check included",
            ms(ours),
            f"SDK's in-memory backend: {ms(other)}",
            f"{other / ours:,.0f}×",
            "≥ 100×",
            other / ours >= 100,
        )
    ]


def _cost(length: int) -> tuple[float, float]:
    """Seconds for each activity of a chain, and the peak memory of the process in MB."""
    best = min(seconds(lambda: hub().run(chain, input=length)) for _ in range(3))
    return best / length, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def long_chains() -> list[Row]:
    """The cost of an activity in a chain of 1,000 and of 100,000, each in a process of its own."""
    results = []
    for length in (1_000, 100_000):
        with get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(_cost, (length,)))
    (short, _), (long, memory) = results
    return [
        Row(
            "an activity in a chain of 100,000",
            f"{long * 1e6:.1f} µs",
            f"in a chain of 1,000: {short * 1e6:.1f} µs",
            f"{long / short:.2f}×",
            "≤ 1.5×",
            long / short <= 1.5,
        ),
        Row("peak memory of that process", f"{memory:.0f} MB", "–", "–", "< 400 MB", memory < 400),
    ]


def _executor(history: History, orchestrator: Any) -> Callable[[], None]:
    """The SDK's executor on a history, the conversion to protobuf not counted."""
    events = [event for event in history.events if not isinstance(event, ExecutionCompletedEvent)]
    last = max(n for n, event in enumerate(events) if isinstance(event, OrchestratorStartedEvent))
    messages = events_to_protobuf(events)
    registry: Any = Registry()  # type: ignore[no-untyped-call]
    registry.add_orchestrator(orchestrator)
    silent = logging.Logger("silent", logging.CRITICAL)

    def run() -> None:
        executor = OrchestrationExecutor(registry, silent, JsonDataConverter())
        result = executor.execute(history.instance_id, messages[:last], messages[last:])
        assert result.actions[-1].HasField("completeOrchestration")

    return run


def replays() -> list[Row]:
    """Replay of 40,000 events with all checks on, against the SDK's executor."""
    rows = []
    for what, orchestrator in (("plain", chain), ("dataclass", typed_chain)):
        history = hub().run(orchestrator, input=10_000).history

        def ours(history: History = history, orchestrator: Any = orchestrator) -> None:
            assert replay(history, orchestrator).ok

        mine, other = best_in_turn(7, ours, _executor(history, orchestrator))
        rows.append(
            Row(
                f"replay of {len(history):,} events, {what} payloads",
                f"{len(history) / mine:,.0f} events/s",
                f"SDK's executor: {len(history) / other:,.0f} events/s",
                f"{other / mine:.2f}×",
                "≥ 1.5×",
                other / mine >= 1.5,
            )
        )
    return rows


def timers() -> list[Row]:
    """Timers, one after the other: a year of them by the hour, and thirty days."""
    year, thirty = best_in_turn(3, lambda: hub().run(hourly, input=8_760), lambda: hub().run(thirty_days))
    return [
        Row("a year of hourly timers (8,760)", ms(year), "real time: 1 year", "–", "< 1 s", year < 1),
        Row("30 one-day timers", ms(thirty), "real time: 30 days", "–", "< 5 ms", thirty < 0.005),
    ]


def plugin() -> list[Row]:
    """The start of pytest with the plugin installed and not used, against without."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n")  # whatever lies above it is left out
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        # Compiled modules are kept, as Python does unless it is told otherwise.
        keep = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

        def run(*more: str) -> None:
            subprocess.run([*command, *more], check=True, capture_output=True, cwd=folder, env=keep)

        run()
        with_it, without = best_in_turn(25, run, partial(run, "-p", "no:dt_testkit"))
    added = with_it - without
    return [
        Row(
            "added to the start of pytest by the unused plugin",
            ms(added),
            f"pytest without it: {ms(without)}",
            "–",
            "< 15 ms",
            added < 0.015,
        )
    ]


def entities() -> list[Row]:
    """Entity calls of one orchestration, one after the other."""
    calls = 10_000

    def call() -> None:
        assert hub().run(entity_calls, input=calls).output == calls

    (best,) = best_in_turn(5, call)
    rate = calls / best
    what, ours = "entity calls, replay check included", f"{rate:,.0f} calls/s"
    return [Row(what, ours, "–", "–", "≥ 10,000 calls/s", rate >= 10_000)]


def thousand_at_once() -> list[Row]:
    """A thousand chains of 20 alive at once, against the same one after the other, each in a new hub."""

    def run(instances: int) -> None:
        one_hub = hub()
        started = [one_hub.start(chain, input=20) for _ in range(instances)]
        one_hub.settle()
        assert all(instance.status is OrchestrationStatus.COMPLETED for instance in started)

    def one_by_one() -> None:
        for _ in range(1_000):
            run(1)

    at_once, alone = best_in_turn(20, partial(run, 1_000), one_by_one)
    return [
        Row(
            "a chain of 20, a thousand alive at once",
            f"{at_once:.2f} ms each",
            f"one alone in its hub: {alone:.2f} ms",
            f"{at_once / alone:.2f}×",
            "≤ 1×",
            at_once <= alone,
        )
    ]


def guarded() -> list[Row]:
    """A chain of 10,000 activities with the guard, against the same without."""

    def run(guard: Literal["error", "off"]) -> None:
        made = TaskHub(guard=guard)
        register(made)
        assert made.run(chain, input=10_000).status is OrchestrationStatus.COMPLETED

    on, off = best_in_turn(5, partial(run, "error"), partial(run, "off"))
    bound = 1.5 if sys.version_info >= (3, 12) else 2.5
    return [
        Row(
            "guarded chain of 10,000",
            ms(on),
            f'`guard="off"`: {ms(off)}',
            f"{on / off:.2f}×",
            f"≤ {bound}×",
            on / off <= bound,
        )
    ]


def linted() -> list[Row]:
    """Lint of the workflows and of the corpus of hazards: files that are full of orchestrators."""
    root = Path(__file__).parents[1]
    corpus = root / "tests" / "determinism" / "corpus"
    paths = [root / "src" / "workflows", corpus / "hazards", corpus / "clean"]
    files = [file for path in paths for file in path.rglob("*.py")]
    lines = sum(len(file.read_text().splitlines()) for file in files)
    (best,) = best_in_turn(3, lambda: lint_paths(paths, root=root))
    rate = lines / best
    what = f"lint of {lines:,} lines of workflows"
    return [Row(what, f"{rate:,.0f} lines/s", "–", "–", "≥ 10,000 lines/s", rate >= 10_000)]


def over_the_wire() -> list[Row]:
    """The real worker and client: on a served hub in skipped time, against the SDK's in-memory backend."""

    def run(client: TaskHubGrpcClient, chains: int, length: int) -> None:
        started = [client.schedule_new_orchestration(chain, input=length) for _ in range(chains)]
        for instance_id in started:
            state = client.wait_for_orchestration_completion(instance_id, timeout=120)
            assert state is not None
            assert state.runtime_status is OrchestrationStatus.COMPLETED

    rows = []
    with timeskip(register) as served, embedded(register) as in_memory:
        for what, chains, length in (("100 chains of 5 at once", 100, 5), ("one chain of 500", 1, 500)):
            ours, other = best_in_turn(
                10 if chains > 1 else 4,
                partial(run, served, chains, length),
                partial(run, in_memory, chains, length),
            )
            rows.append(
                Row(
                    f"{what}, over gRPC (`timeskip`)",
                    ms(ours),
                    f"SDK's in-memory backend: {ms(other)}",
                    f"{other / ours:.2f}×",
                    "≥ 1×",
                    ours <= other,
                )
            )
    return rows


ALL: list[Callable[[], list[Row]]] = [
    chain_of_200,
    long_chains,
    replays,
    timers,
    entities,
    thousand_at_once,
    guarded,
    linted,
    over_the_wire,
    plugin,
]
