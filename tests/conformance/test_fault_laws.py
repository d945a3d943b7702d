"""What holds for every program under the hub's faults, and what shows that these laws can fail."""

from __future__ import annotations

import random
from copy import copy
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, note, settings
from hypothesis.errors import NoSuchExample
from programs import programs
from sdk_driver import virtual_clock

from dt_testkit import DurableTestError, TaskHub, replay
from dt_testkit.hub import core

if TYPE_CHECKING:
    from collections.abc import Callable

    from programs import Program

    from dt_testkit import Instance

# Derandomized: the same programs in every run.
law = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate, Phase.shrink],
)


class FrailHub(TaskHub):
    """A hub whose worker dies after every turn, and leaves alone the activities that take time."""

    def _take_turn(self, instance: Instance) -> None:
        super()._take_turn(instance)
        self._restart_worker()


class HastyHub(TaskHub):
    """A hub on which no activity takes time."""

    def stub(self, activity: Any, *, duration: Any = None, **options: Any) -> Any:
        return super().stub(activity, **options)


class HastyFrailHub(HastyHub):
    """A hub whose worker dies after every turn, as a test makes it die."""

    def _take_turn(self, instance: Instance) -> None:
        super()._take_turn(instance)
        self.crash_worker()


class TwiceHub(TaskHub):
    """A hub that runs every activity twice, but for the one that counts its calls."""

    def add_activity(self, fn: Any) -> str:
        name = super().add_activity(fn)
        if name != "flaky":
            self.stub(fn, wraps=fn, duplicate=True)
        return name

    def stub(self, activity: Any, **options: Any) -> Any:
        return super().stub(activity, **{**options, "duplicate": True})


def _run(program: Program, hub_class: type[TaskHub] = TaskHub, **options: Any) -> TaskHub:
    hub = hub_class(check_replay="never", maximum_timer_interval=program.chunk, **options)
    program.load()["run"](hub)
    return hub


def _recorded(hub: TaskHub) -> Any:
    return [
        (
            instance.instance_id,
            instance.status,
            instance._custom_status,
            instance.created_at,
            [str(operation) for operation in instance.waiting_for],
            [history.dumps(".json") for history in instance.histories],
        )
        for instance in hub.instances
    ] + [(entity._id, entity._state, entity.locked_by, entity.queue_length) for entity in hub.entities]


def a_worker_that_dies_after_every_turn_changes_nothing(program: Program) -> None:
    assert _recorded(_run(program, FrailHub)) == _recorded(_run(program))


def crash_worker_after_every_turn_changes_nothing_where_activities_take_no_time(program: Program) -> None:
    assert _recorded(_run(program, HastyFrailHub)) == _recorded(_run(program, HastyHub))


def activities_that_run_twice_change_nothing(program: Program) -> None:
    assert _recorded(_run(program, TwiceHub)) == _recorded(_run(program))


def a_shuffled_hub_records_the_same_with_the_same_seed(program: Program) -> None:
    seed = random.Random(program.source).getrandbits(32)
    assert _recorded(_run(program, shuffle=True, seed=seed)) == _recorded(
        _run(program, shuffle=True, seed=seed)
    )


def what_a_shuffled_hub_records_replays_clean(program: Program) -> None:
    """And the SDK's worker accepts it."""
    hub = _run(program, shuffle=True)
    with virtual_clock():
        for instance in hub.instances:
            for history in instance.histories:
                if not history.events or instance._rejected is not None:
                    continue  # no turn was taken
                report = replay(history, hub)
                assert report.ok, report
                # An instance in flight may be stuck for good by its own code, and would be on a worker.
                accepted = ("accepts",) if history.status is not None else ("accepts", "hangs")
                assert report.worker_outcome in accepted, (report.worker_explanation, str(history))


LAWS = (
    a_worker_that_dies_after_every_turn_changes_nothing,
    crash_worker_after_every_turn_changes_nothing_where_activities_take_no_time,
    activities_that_run_twice_change_nothing,
    a_shuffled_hub_records_the_same_with_the_same_seed,
    what_a_shuffled_hub_records_replays_clean,
)


@pytest.mark.parametrize("holds", LAWS, ids=lambda holds: holds.__name__)
def test_law(holds: Callable[[Program], Any]) -> None:
    @settings(law, max_examples=150)
    @given(program=programs)
    def check(program: Program) -> None:
        note(program.source)
        holds(program)

    check()


# -- negative controls


def _fails_for_some_program(holds: Callable[[Program], Any]) -> bool:
    def fails(program: Program) -> bool:
        try:
            holds(program)
        except (AssertionError, DurableTestError):
            return True
        return False

    try:
        find(programs, fails, settings=settings(law, max_examples=500, phases=[Phase.generate]))
    except NoSuchExample:
        return False
    return True


FRAIL = LAWS[:2]


@pytest.mark.parametrize("holds", FRAIL, ids=lambda holds: holds.__name__)
def test_this_law_notices_a_worker_that_is_rebuilt_without_its_last_turn(
    holds: Callable[[Program], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild = core.rebuild

    def forgetful(instance_id: str, events: Any, *rest: Any) -> Any:
        starts = [i for i, event in enumerate(events) if type(event).__name__ == "OrchestratorStartedEvent"]
        return rebuild(instance_id, events[: starts[-1]] if len(starts) > 1 else events, *rest)

    monkeypatch.setattr(core, "rebuild", forgetful)
    assert _fails_for_some_program(holds)


def test_running_the_one_activity_twice_that_counts_its_calls_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def all_twice(self: TaskHub, fn: Any) -> str:
        name = TaskHub.add_activity(self, fn)
        self.stub(fn, wraps=fn, duplicate=True)
        return name

    monkeypatch.setattr(TwiceHub, "add_activity", all_twice)
    assert _fails_for_some_program(activities_that_run_twice_change_nothing)


def test_an_order_that_is_not_drawn_from_the_seed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    init, draws = TaskHub.__init__, cycle([random.Random(1), random.Random(2)])

    def drawn_from_elsewhere(self: TaskHub, **options: Any) -> None:
        init(self, **options)
        self._shuffle = copy(next(draws))

    monkeypatch.setattr(TaskHub, "__init__", drawn_from_elsewhere)
    assert _fails_for_some_program(a_shuffled_hub_records_the_same_with_the_same_seed)


def test_the_order_is_another_with_another_seed_and_the_usual_one_without() -> None:
    def differs(**options: Any) -> Callable[[Program], Any]:
        def same(program: Program) -> None:
            assert _outputs(_run(program, **options)) == _outputs(_run(program, shuffle=True, seed=1))

        return same

    assert _fails_for_some_program(differs(shuffle=True, seed=2))
    assert _fails_for_some_program(differs(seed=1))


def _outputs(hub: TaskHub) -> Any:
    return [(instance.instance_id, instance._output) for instance in hub.instances]
