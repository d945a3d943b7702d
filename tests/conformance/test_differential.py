"""Random programs, in the hub and on the SDK's own executor: the laws, and what shows that they can fail."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections import Counter
from datetime import timedelta
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from durabletask import history as h
from durabletask import task
from durabletask.entities import EntityLock
from durabletask.internal.entity_state_shim import StateShim
from durabletask.worker import VersionFailureStrategy
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from laws import ALL, SLOW, runs_as_on_the_sdk
from programs import (
    Action,
    Ask,
    Line,
    Moment,
    Program,
    Wait,
    entity_programs,
    plain_programs,
    takeover_programs,
    version_programs,
)
from sdk_driver import SdkBackend, comparable
from test_fault_laws import a_worker_that_dies_after_every_turn_changes_nothing

from dt_testkit import TaskHub, replay
from dt_testkit.execution import Execution, FakeOrchestrationContext, context, execution
from dt_testkit.execution.context import Retry
from dt_testkit.hub import core, entities
from dt_testkit.hub.entities import Entity, EntityRunner
from dt_testkit.replaying import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The same programs in every run, drawn a batch at a time. `make fuzz` draws others.
BATCH = 50
KINDS = {
    "plain": plain_programs,
    "entity": entity_programs,
    "version": version_programs,
    "takeover": takeover_programs,
}
BATCHES = {"plain": 3, "entity": 3, "version": 1, "takeover": 1}


def _over_a_batch(kind: str, number: int, what: Callable[[Program], Any]) -> None:
    """Do something with each program of a batch; Hypothesis shrinks the one that fails."""

    @seed(number)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(program=KINDS[kind])
    def over_all(program: Program) -> None:
        note(program.source)
        what(program)

    over_all()


@cache
def _batch(kind: str, number: int) -> list[Program]:
    drawn: list[Program] = []
    _over_a_batch(kind, number, drawn.append)
    return drawn


def _programs(kind: str, batches: int) -> Iterator[Program]:
    return chain.from_iterable(_batch(kind, number) for number in range(batches))


def _holds_for_batch(law: Callable[[Program], Any], kind: str, number: int) -> None:
    failed: Exception | None = None
    try:
        for program in _batch(kind, number)[: BATCH // 2 if law in SLOW else BATCH]:
            law(program)
    except Exception as error:
        failed = error
    # Not while the exception is handled: it would be the context of every exception that a program raises.
    if failed is not None:
        _over_a_batch(kind, number, law)  # to see it fail on a program as small as can be
        raise failed


def _holds(law: Callable[[Program], Any], program: Program) -> bool:
    try:
        law(program)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("holds", "kind"),
    [(law, kind) for law in ALL for kind in KINDS if kind != "takeover" or law is runs_as_on_the_sdk],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_law(holds: Callable[[Program], Any], kind: str) -> None:
    for number in range(BATCHES[kind]):
        _holds_for_batch(holds, kind, number)


def test_the_random_programs_meet_every_event_and_every_ending() -> None:
    expected = {cls.__name__ for cls in vars(h).values() if isinstance(cls, type)}
    expected = {name for name in expected if name.endswith("Event")}
    expected -= {"HistoryEvent", "GenericEvent", "ExecutionRewoundEvent", "HistoryStateEvent"}
    expected -= {"ContinueAsNewEvent"}  # declared by the protocol, and recorded by no backend
    expected |= {
        *("COMPLETED", "FAILED", "TERMINATED", "RUNNING", "SUSPENDED", "PENDING"),
        *("later generation", "chunked timer", "rejected", "VersionMismatch", "failed operation"),
        "signaled by a client",
        *("waiting for a lock", "lock kept by an instance that ended", *MISUSES),
        *(f"unlocked, {status}" for status in ("COMPLETED", "FAILED", "TERMINATED", "CONTINUED_AS_NEW")),
    }
    met: Counter[str] = Counter()
    for number in range(MEET_WITHIN):
        for kind in KINDS:
            for program in _batch(kind, number):
                _count_run(met, program)
        if all(met[name] for name in expected):
            return
    assert {name: met[name] for name in expected if met[name] == 0} == {}


def _count_run(met: Counter[str], program: Program) -> None:
    hub = program.load()["run"](check_replay="never")
    met["chunked timer"] += program.chunk is not None
    met["signaled by a client"] += "hub.client.signal_entity(" in program.source
    met["lock kept by an instance that ended"] += any(
        entity._holder is not None and entity._holder.caller.instance.is_terminal for entity in hub.entities
    )
    met["waiting for a lock"] += any(entity.queue_length for entity in hub.entities)
    for instance in hub.instances:
        _count(met, instance)


# Batches; two or three are enough as a rule. What a seed draws changes with Hypothesis and our constants.
MEET_WITHIN = 8
MISUSES = (
    "Must not signal a locked entity from a critical section.",
    "Must await the completion of the lock request prior to calling any entity.",
    "Must not call an entity from a critical section if it is not one of the locked entities.",
    "Must not enter another critical section from within a critical section.",
    "Failed to create entity lock request.",
)


def _count(met: Counter[str], instance: Any) -> None:
    met[instance.status.name] += 1
    met["later generation"] += len(instance.histories) - 1
    met["rejected"] += instance._rejected is not None
    met["failed operation"] += "TaskFailedError: Operation '" in (instance._output or "")
    if instance.failure is not None:
        met[instance.failure.error_type] += 1
    for misuse in MISUSES:
        met[misuse] += misuse in f"{instance._output}{instance.failure}"
    for history in instance.histories:
        met.update({type(event).__name__ for event in history.events})
        if history.status is not None and any(isinstance(e, h.EntityUnlockSentEvent) for e in history.events):
            met[f"unlocked, {history.status.name}"] += 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_program_can_be_pasted_into_a_file_and_does_the_same(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    for program in _batch(kind, 0)[:5]:
        path = tmp_path_factory.mktemp("pasted") / "program.py"
        path.write_text(program.source)
        spec = importlib.util.spec_from_file_location("pasted_program", path)
        assert spec is not None
        assert spec.loader is not None
        pasted = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(pasted)
        assert _recorded(pasted.run(check_replay="never")) == _recorded(program.load()["run"]())


def _recorded(hub: TaskHub) -> Any:
    instances = [[comparable(e) for h in instance.histories for e in h.events] for instance in hub.instances]
    return instances, [(str(entity), entity.state) for entity in hub.entities]


# -- the machinery notices a hub that is wrong


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """Put ``wrapper(original, *arguments)`` in the place of a method."""
    original = getattr(owner, name)

    def sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, lambda *args, **named: wrapper(original, *args, **named))

    return sabotage


def _reversed_inbox(take_turn: Any, hub: Any, instance: Any) -> None:
    started, *rest = instance._inbox or [None]
    instance._inbox = [started, *reversed(rest)] if started is not None else []
    take_turn(hub, instance)


def _without(part: str) -> Callable[..., Any]:
    def delay(original: Any, retry: Retry, attempt: int, now: Any) -> Any:
        policy = retry.policy
        options = {
            "first_retry_interval": policy.first_retry_interval,
            "max_number_of_attempts": policy.max_number_of_attempts,
            "backoff_coefficient": policy.backoff_coefficient,
            "max_retry_interval": policy.max_retry_interval,
            "retry_timeout": policy.retry_timeout,
        }
        options[part] = None
        return original(retry._replace(policy=task.RetryPolicy(**options)), attempt, now)  # type: ignore[arg-type]

    return delay


def _timers_that_cannot_be_cancelled(arm: Any, self: Any, timer: Any, command: Any) -> None:
    arm(self, timer, command)
    timer.set_cancel_handler(lambda: None)


SABOTAGES = {
    "a retry waits a second longer": _wrap(
        Retry, "delay", lambda delay, *args: (d := delay(*args)) and d + timedelta(seconds=1)
    ),
    "the backoff is ignored": _wrap(Retry, "delay", _without("backoff_coefficient")),
    "the longest retry interval is ignored": _wrap(Retry, "delay", _without("max_retry_interval")),
    "the retry timeout is ignored": _wrap(Retry, "delay", _without("retry_timeout")),
    "uuids are drawn from one another": _wrap(
        FakeOrchestrationContext, "new_uuid", lambda new_uuid, self: new_uuid(self) and new_uuid(self)
    ),
    "unread events are carried over backwards": _wrap(
        FakeOrchestrationContext, "_unread_events", lambda unread, self: reversed(list(unread(self)))
    ),
    "unread events are not carried over": _wrap(
        FakeOrchestrationContext, "_unread_events", lambda unread, self: iter(())
    ),
    "event names are case-sensitive": _wrap(
        FakeOrchestrationContext,
        "wait_for_external_event",
        lambda wait, self, name, **named: wait(self, name if name.islower() else f"{name}?", **named),
    ),
    "a cancelled timer is created": _wrap(FakeOrchestrationContext, "_arm", _timers_that_cannot_be_cancelled),
    "continuing as new stops the orchestrator": _wrap(
        FakeOrchestrationContext,
        "_take_commands",
        lambda take, self, site: [c for c in take(self, site) if c.kind == "complete" or not self._new_input],
    ),
    "a child has another id by default": _wrap(
        FakeOrchestrationContext,
        "call_sub_orchestrator",
        lambda call, self, *args, instance_id=None, **named: call(
            self, *args, instance_id=instance_id or f"{self.instance_id}:{self._last_id + 1}", **named
        ),
    ),
    "a failure has another message": _wrap(
        Execution, "_operation_failed", lambda failed, self, event, what: failed(self, event, f"The {what}")
    ),
    "events of one turn come in another order": _wrap(TaskHub, "_take_turn", _reversed_inbox),
    "results for an earlier generation are delivered": _wrap(
        TaskHub,
        "_deliver",
        lambda deliver, hub, instance, generation, event: deliver(
            hub, instance, len(instance._generations), event
        ),
    ),
    "timers fire late": _wrap(
        TaskHub,
        "_schedule",
        lambda schedule, hub, moment, *args: schedule(hub, moment + timedelta(seconds=1), *args),
    ),
    "what came while suspended is forgotten": lambda monkeypatch: monkeypatch.setitem(
        execution._HANDLERS, h.ExecutionResumedEvent, lambda self, event: setattr(self, "_suspended", False)
    ),
    "a failure inside a failure is lost": lambda monkeypatch: monkeypatch.setattr(
        context,
        "failure_of",
        lambda error, _: task.FailureDetails(str(error), type(error).__qualname__, None),
    ),
}


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)
def test_the_random_programs_notice_when(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert _some_program_notices(runs_as_on_the_sdk, "plain")


@pytest.mark.parametrize("holds", ALL, ids=lambda holds: holds.__name__)
def test_where_timers_are_off_at_random_this_does_not_hold(
    holds: Callable[[Program], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inexact(arm: Any, self: Any, timer: Any, command: Any) -> None:
        command.fire_at += timedelta(microseconds=random.randrange(1, 1000))
        arm(self, timer, command)

    _wrap(FakeOrchestrationContext, "_arm", inexact)(monkeypatch)
    assert _some_program_notices(holds, "plain")


def _some_program_notices(law: Callable[[Program], Any], kind: str) -> bool:
    return not all(_holds(law, program) for program in _programs(kind, 20))


class _KeptState(StateShim):
    def rollback(self) -> None:
        self._checkpoint_state = self._current_state
        super().rollback()


class _KeptActions(StateShim):
    def rollback(self) -> None:
        self._actions_checkpoint_state = len(self._operation_actions)
        super().rollback()


class _AsWritten(context.OrchestrationEntityContext):
    def emit_acquire_message(self, section: str, entities: Any) -> Any:
        action, target = super().emit_acquire_message(section, entities)
        if action is not None:
            self.critical_section_locks = list(entities)
            action.entityLockRequested.lockSet[:] = map(str, entities)
        return action, target


class _CallableOnce(context.OrchestrationEntityContext):
    def recover_lock_after_call(self, entity_id: Any) -> None:
        pass


def _no_unlock_by(*callers: Any) -> Callable[[pytest.MonkeyPatch], None]:
    codes = [caller.__code__ for caller in callers]

    def exit_critical_section(leave: Any, self: Any) -> None:
        if sys._getframe(2).f_code not in codes:
            leave(self)

    return _wrap(FakeOrchestrationContext, "_exit_critical_section", exit_critical_section)


def _rebuilt_without(forget: Callable[[Execution], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def rebuild(original: Any, *arguments: Any) -> Any:
        rebuilt, asked = original(*arguments)
        forget(rebuilt)
        return rebuilt, asked

    return _wrap(core, "rebuild", rebuild)


def _first_in_line(ask: Any, hub: Any, entity: Any, entry: Any) -> None:
    entity._waiting.appendleft(entry)
    hub._enqueue_entity(entity)


def _signal_later_by(by: timedelta) -> Callable[..., Any]:
    return lambda signal, hub, id, operation, when: signal(hub, id, operation, when and when + by)


ENTITY_SABOTAGES = {
    "an entity serves the last first": _wrap(TaskHub, "_ask_entity", _first_in_line),
    "others may call a locked entity": _wrap(
        Entity,
        "_lets_through",
        lambda lets, self, operation: operation.caller is not None or lets(self, operation),
    ),
    "others may signal a locked entity": _wrap(
        Entity,
        "_lets_through",
        lambda lets, self, operation: operation.caller is None or lets(self, operation),
    ),
    "a lock is granted though another has it": _wrap(
        TaskHub,
        "_lock_entities",
        lambda lock, hub, request: hub._grant(hub._entity(request.lock_set[request.position]), request),
    ),
    "only the first entity is locked": _wrap(
        TaskHub,
        "_grant",
        lambda grant, hub, entity, request: grant(
            hub, entity, request._replace(position=len(request.lock_set))
        ),
    ),
    "locks are taken in the order in which they are written": lambda monkeypatch: monkeypatch.setattr(
        context, "OrchestrationEntityContext", _AsWritten
    ),
    "locks are kept after the section": _no_unlock_by(EntityLock.__exit__),
    "locks are kept after completion": _no_unlock_by(FakeOrchestrationContext._complete),
    "locks are kept after failure": _no_unlock_by(FakeOrchestrationContext._fail_with),
    "locks are kept after continuing as new": _no_unlock_by(FakeOrchestrationContext.continue_as_new),
    "who has ended still waits for its lock": _wrap(Entity, "_drop_request", lambda *_: None),
    "misuse in a critical section is let through": _wrap(
        FakeOrchestrationContext, "_check_entity_operation", lambda *_, **named: None
    ),
    "a locked entity can be called once only": lambda monkeypatch: monkeypatch.setattr(
        context, "OrchestrationEntityContext", _CallableOnce
    ),
    "a failed operation leaves its state behind": lambda monkeypatch: monkeypatch.setattr(
        entities, "StateShim", _KeptState
    ),
    "a failed operation sends its signals": lambda monkeypatch: monkeypatch.setattr(
        entities, "StateShim", _KeptActions
    ),
    "a deleted state comes back": _wrap(
        EntityRunner,
        "run",
        lambda run, self, id, state, *args: (done := run(self, id, state, *args))._replace(
            state=done.state or state
        ),
    ),
    "callers get each other's results": _wrap(
        EntityRunner,
        "run",
        lambda run, *args: (done := run(*args))._replace(results=done.results[::-1]),
    ),
    "signals have no time": _wrap(
        TaskHub, "_signal_entity", lambda signal, hub, id, operation, when: signal(hub, id, operation, None)
    ),
    "signals come a second late": _wrap(TaskHub, "_signal_entity", _signal_later_by(timedelta(seconds=1))),
    "what an entity starts does not begin": _wrap(TaskHub, "_start_from_entity", lambda *_: None),
}


@pytest.mark.parametrize("sabotage", ENTITY_SABOTAGES.values(), ids=ENTITY_SABOTAGES)
def test_the_random_programs_with_entities_notice_when(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert _some_program_notices(runs_as_on_the_sdk, "entity")


def _with_options(**options: Any) -> Callable[[pytest.MonkeyPatch], None]:
    def use_versioning(use: Any, hub: Any, versioning: Any) -> None:
        vars(versioning).update(options)
        use(hub, versioning)

    return _wrap(TaskHub, "use_versioning", use_versioning)


VERSION_SABOTAGES = {
    "any version is taken": lambda monkeypatch: monkeypatch.setattr(
        execution, "version_failure", lambda *_: None
    ),
    "a rejected version fails": _with_options(failure_strategy=VersionFailureStrategy.FAIL),
    "a failed version is rejected": _with_options(failure_strategy=VersionFailureStrategy.REJECT),
    "sub-orchestrations have no default version": _with_options(default_version=None),
    "a worker that takes over lets those in flight be": _wrap(
        TaskHub,
        "_execution_of",
        lambda of, hub, instance, new: (
            (instance._execution, []) if instance._execution else of(hub, instance, new)
        ),
    ),
}


@pytest.mark.parametrize("sabotage", VERSION_SABOTAGES.values(), ids=VERSION_SABOTAGES)
def test_the_random_programs_of_versions_notice_when(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    assert _some_program_notices(runs_as_on_the_sdk, "takeover")


CRASH_SABOTAGES = {
    "calls of entities": lambda monkeypatch: monkeypatch.setattr(check, "_NOTED", ()),
    "the critical section": _rebuilt_without(lambda rebuilt: setattr(rebuilt.context, "_critical", None)),
    "events that nobody has read": _rebuilt_without(lambda rebuilt: rebuilt.context._received.clear()),
    "how many ids were drawn": _rebuilt_without(lambda rebuilt: setattr(rebuilt.context, "_uuid_count", 0)),
    "that it is suspended": _rebuilt_without(lambda rebuilt: setattr(rebuilt, "_suspended", False)),
    "the custom status": _rebuilt_without(lambda rebuilt: setattr(rebuilt.context, "_custom_status", None)),
    "which timer is a retry": _rebuilt_without(lambda rebuilt: rebuilt.context._retry_timers.clear()),
}


@pytest.mark.parametrize("sabotage", CRASH_SABOTAGES.values(), ids=CRASH_SABOTAGES)
def test_the_random_programs_notice_when_a_crash_makes_the_hub_forget(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    law = a_worker_that_dies_after_every_turn_changes_nothing
    assert _some_program_notices(law, "entity") or _some_program_notices(law, "plain")


# -- where the two are known to differ


def test_a_worker_asks_again_while_suspended_in_the_turn_that_asked_and_the_hub_does_not() -> None:
    """The SDK's executor holds back the confirmation too: it runs the activity once more for every turn,
    and fails on what that recorded when it is resumed, though nobody changed the code.
    """
    activity = Ask("ctx.call_activity(slow, input=1)")
    program = Program(
        root=(Wait(activity), Wait(activity)),
        early=(Action("first", "suspend"),),
        moments=(Moment(5, (Action("first", "resume"),)),),
    )
    on_the_sdk = SdkBackend(program).lives["root"]
    assert on_the_sdk.failure[0] == "durabletask.task.NonDeterminismError"
    in_the_hub = program.load()["run"]().instance("root")
    assert in_the_hub.status.name == "COMPLETED"
    scheduled = [e.event_id for e in in_the_hub.history.events if isinstance(e, h.TaskScheduledEvent)]
    assert scheduled == [1, 2]


def test_a_worker_hangs_on_an_old_history_with_a_retry_timeout_and_replay_is_clean() -> None:
    """The SDK measures ``retry_timeout`` by the wall clock: the reason for ``virtual_clock`` in the laws."""
    policy = (
        "RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2, "
        "retry_timeout=timedelta(minutes=1))"
    )
    program = Program(
        root=(Wait(Ask(f"ctx.call_activity(flaky, input=1, retry_policy={policy})"), guarded=True),)
    )
    report = replay(program.load()["run"]().instance("root").history, program.load()["root"])
    assert report.ok
    assert report.worker_outcome == "hangs"


def test_a_generation_whose_new_input_cannot_be_serialized_replays_clean() -> None:
    program = Program(
        root=(Line("ctx.continue_as_new(Opaque())"), Wait(Ask("ctx.create_timer(timedelta(seconds=1))")))
    )
    runs_as_on_the_sdk(program)
    replay_report = replay(
        program.load()["run"](check_replay="never").instance("root").history, program.load()["root"]
    )
    assert replay_report.ok


def test_a_failure_that_names_an_address_in_memory_replays_clean_in_another_process() -> None:
    def fails_at(address: int) -> Any:
        def orchestrator(ctx: task.OrchestrationContext, _: Any) -> Any:
            raise ValueError(f"cannot ship <Order object at {address:#x}>")

        return orchestrator

    hub = TaskHub()
    hub.orchestrators["ship"] = fails_at(0x7F9EC57BBF60)
    assert replay(hub.run("ship").history, fails_at(0x7F9EC62CAA50)).ok
