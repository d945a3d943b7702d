"""What holds for every program: laws as functions that raise ``AssertionError``."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from sdk_driver import SdkBackend, comparable, executor_turns, failure, registry_of, virtual_clock

from dt_testkit import History, Instance, TaskHub, replay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durabletask.worker import VersioningOptions
    from programs import Program

    from dt_testkit.hub.entities import Entity


class WatchedHub(TaskHub):
    """A hub that notes the custom status after every turn, by instance and generation."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.custom_statuses: dict[tuple[Instance, int], list[str | None]] = {}

    def _take_turn(self, instance: Instance) -> None:
        events = instance._generations[-1]
        generation, before = len(instance._generations) - 1, len(events)
        super()._take_turn(instance)
        if len(events) > before:
            self.custom_statuses.setdefault((instance, generation), []).append(instance._custom_status)


@lru_cache(maxsize=400)  # of what nothing in dt_testkit has a part in
def on_the_sdk(program: Program) -> SdkBackend:
    return SdkBackend(program)


def runs_as_on_the_sdk(program: Program) -> TaskHub:
    """The hub records, event for event, what a backend records that runs the SDK's executors."""
    hub = program.load()["run"](check_replay="never")
    backend = on_the_sdk(program)
    assert [instance.instance_id for instance in hub.instances] == list(backend.lives)
    assert [_seen_of(entity) for entity in hub.entities] == [
        (
            being.entity_id,
            being.state,
            being.owner and being.owner.life.instance_id,
            len(being.line),
            being.changed,
        )
        for being in backend.beings.values()
    ]
    for instance in hub.instances:
        life = backend.lives[instance.instance_id]
        for history, events in zip(instance.histories, life.histories, strict=True):
            for our, their in zip(history.events, events, strict=False):
                assert comparable(our) == comparable(their), str(history)
            assert len(history.events) == len(events), str(history)
        assert (instance.status.name, instance._output or None) == (life.status, life.result or None)
        assert failure(instance.failure) == life.failure
        assert instance._custom_status == life.custom_status
    return hub


def _seen_of(entity: Entity) -> tuple[Any, ...]:
    return (
        str(entity.entity_id),
        entity._state,
        entity.locked_by,
        entity.queue_length,
        entity.last_modified_at,
    )


def each_turn_is_what_the_executor_answers(program: Program) -> None:
    """Handed the hub's histories turn by turn, the SDK's executor asks for what the hub recorded."""
    namespace = program.load()
    chunk = program.chunk
    hub = namespace["run"](WatchedHub(check_replay="never", maximum_timer_interval=chunk))
    registry = registry_of(namespace, hub.worker_options.versioning)
    with virtual_clock():
        for instance in hub.instances:
            for generation, history in enumerate(instance.histories):
                turns = list(executor_turns(history, registry, chunk))
                assert [turn.recorded for turn in turns] == [turn.answered for turn in turns]
                statuses = [turn.custom_status for turn in turns]
                assert statuses == hub.custom_statuses.get((instance, generation), [])


def histories_of_the_sdk_replay_clean(program: Program) -> None:
    """What the SDK's executor did, in the hub's order or any other, is what dt_testkit does on replay."""
    for backend in (on_the_sdk(program), SdkBackend(program, Random(program.source))):
        for life in (*backend.lives.values(), *backend.replaced):
            histories = (History(life.instance_id, events) for events in life.histories)
            _replay_clean(program, histories, backend.registry.orchestrators, backend.registry.versioning)


def histories_of_the_hub_replay_clean(program: Program) -> None:
    """A fresh history never diverges, and the SDK's worker accepts it."""
    hub = program.load()["run"](check_replay="never")
    histories = (history for instance in hub.instances for history in instance.histories)
    _replay_clean(program, histories, hub, hub.worker_options.versioning)


def _replay_clean(
    program: Program, histories: Iterable[History], orchestrators: Any, versioning: VersioningOptions | None
) -> None:
    with virtual_clock():
        for history in histories:
            if not history.events:
                continue  # created, and no turn taken yet
            report = replay(
                history, orchestrators, maximum_timer_interval=program.chunk, versioning=versioning
            )
            assert report.ok, report
            # An instance in flight may be stuck for good by its own code, and would be on a worker.
            accepted = ("accepts",) if history.status is not None else ("accepts", "hangs")
            assert report.worker_outcome in accepted, (report.worker_explanation, str(history))


def prefixes_replay_clean(program: Program) -> None:
    """However short a history is cut, replay finds nothing wrong with what is left."""
    hub = program.load()["run"](check_replay="never")
    for instance in hub.instances:
        if instance.name not in hub.orchestrators:
            continue  # cut before it failed by that, it is the history of an orchestrator that was removed
        for history in instance.histories:
            for length in range(2, len(history)):  # with less there is no beginning, and replay refuses
                prefix = History(history.instance_id, history.events[:length])
                report = replay(prefix, hub, maximum_timer_interval=program.chunk)
                assert report.ok, (length, str(report))


def one_seed_gives_one_history(program: Program) -> None:
    """Two hubs record the same bytes, however often they check the replay."""
    recorded = []
    for check_replay in ("never", "never", "generation", "turn"):
        hub = program.load()["run"](check_replay=check_replay)
        recorded.append([history.dumps(".json") for each in hub.instances for history in each.histories])
    assert recorded.count(recorded[0]) == len(recorded)


ALL = (
    runs_as_on_the_sdk,
    each_turn_is_what_the_executor_answers,
    histories_of_the_sdk_replay_clean,
    histories_of_the_hub_replay_clean,
    prefixes_replay_clean,
    one_seed_gives_one_history,
)
SLOW = (prefixes_replay_clean, one_seed_gives_one_history)
