"""Random programs in a hub and on the SDK's in-memory backend: in the end, clients see the same."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from in_memory import Played, contending, on_a_hub, on_the_in_memory_backend, sequential

from dt_testkit import TaskHub
from dt_testkit.execution import FakeOrchestrationContext
from dt_testkit.hub.entities import EntityRunner

if TYPE_CHECKING:
    from in_memory import Outcome

KINDS = {"sequential": (sequential, 32), "contending": (contending, 10)}


@cache
def drawn(kind: str, count: int, first: int = 0) -> list[Played]:
    """Programs of a kind: the same for the same ``first``."""
    programs: list[Played] = []

    @seed(first)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(played=KINDS[kind][0])
    def draw(played: Played) -> None:
        programs.append(played)

    draw()
    return programs


def compare(kind: str, count: int, first: int = 0) -> list[Outcome]:
    """Play programs on both, a few at a time, for the in-memory backend takes a second to stop."""
    programs = drawn(kind, count, first)
    on_hubs = [on_a_hub(played) for played in programs]
    with ThreadPoolExecutor(8) as pool:
        for played, here, there in zip(
            programs, on_hubs, pool.map(on_the_in_memory_backend, programs, on_hubs), strict=True
        ):
            assert here == there, f"{played.program.source}\n# at the gates: {played.at_gates}"
    return on_hubs


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_and_the_in_memory_backend_come_to_the_same(kind: str) -> None:
    assert len(compare(kind, KINDS[kind][1])) == KINDS[kind][1]


def test_the_programs_for_the_in_memory_backend_meet_every_ending() -> None:
    met: Counter[str] = Counter()
    for kind, (_, count) in KINDS.items():
        for played in drawn(kind, count):
            outcome = on_a_hub(played)
            for name, status, output, failure, custom_status in outcome.instances.values():
                met.update((name, status))
                met[failure and failure[0]] += 1
                met["operation failed"] += "Operation '" in f"{output}{failure}"
                met["later generation"] += f"gate {played.program.left - 1}." in f"{output}{custom_status}"
            met.update(name for name, state in outcome.entities.items() if state is not None)
    expected = {"root", "kid", "leaf", "rival", "COMPLETED", "FAILED", "TERMINATED", "VersionMismatch"}
    expected |= {"durabletask.task.TaskFailedError", "operation failed", "later generation", *"ABC"}
    assert {name for name in expected if not met[name]} == set()


def _no_isolation(self: Any, operation: Any) -> bool:
    return True


def _granted_at_once(self: Any, request: Any) -> None:
    self._grant(self._entity(request.lock_set[request.position]), request)


def _never_left(self: Any) -> None:
    pass


def _no_check(self: Any, entity: Any, *, one_way: bool) -> None:
    pass


def _stateless(run: Any) -> Any:
    return lambda self, id, state, *arguments: run(self, id, None, *arguments)


# The name is that of what is broken, for which kind of programs notice it.
SABOTAGES = {
    "locks are granted though another has them": ("contending", TaskHub, "_lock_entities", _granted_at_once),
    "critical sections are not left": (
        "contending",
        FakeOrchestrationContext,
        "_exit_critical_section",
        _never_left,
    ),
    "entities forget": ("sequential", EntityRunner, "run", _stateless(EntityRunner.run)),
    "misuse is let through": ("sequential", FakeOrchestrationContext, "_check_entity_operation", _no_check),
    "signals get lost": ("sequential", TaskHub, "_signal_entity", lambda *_: None),
}


@pytest.mark.parametrize(("kind", "owner", "name", "broken"), SABOTAGES.values(), ids=SABOTAGES)
def test_these_programs_notice_when(
    kind: str, owner: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = drawn(kind, KINDS[kind][1])
    whole = [on_a_hub(played) for played in programs]
    monkeypatch.setattr(owner, name, broken)
    assert any(_differs(played, outcome) for played, outcome in zip(programs, whole, strict=True))


def _differs(played: Played, outcome: Outcome) -> bool:
    try:
        return on_a_hub(played) != outcome
    except AssertionError:  # it does not end
        return True
