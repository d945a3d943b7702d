"""Random programs, in the hub and on the SDK's own executor: the laws, and what shows that they can fail."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask import history as h
from durabletask import task
from hypothesis import HealthCheck, Phase, find, given, note, settings
from hypothesis.errors import NoSuchExample
from laws import ALL, SLOW, runs_as_on_the_sdk
from programs import Action, Ask, Line, Moment, Program, Wait, programs
from sdk_driver import SdkBackend, comparable

from dt_testkit import TaskHub, replay
from dt_testkit.execution import Execution, FakeOrchestrationContext, context, execution
from dt_testkit.execution.context import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

# Derandomized: the same programs in every run. `make fuzz` draws others.
law = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate, Phase.shrink],
)


@pytest.mark.parametrize("holds", ALL, ids=lambda holds: holds.__name__)
def test_law(holds: Callable[[Program], Any]) -> None:
    @settings(law, max_examples=150 if holds in SLOW else 300)
    @given(program=programs)
    def check(program: Program) -> None:
        note(program.source)
        holds(program)

    check()


def test_the_random_programs_meet_every_event_and_every_ending() -> None:
    met: Counter[str] = Counter()

    @settings(law, max_examples=300)
    @given(program=programs)
    def count(program: Program) -> None:
        for instance in program.load()["run"](check_replay="never").instances:
            met[instance.status.name] += 1
            met["later generation"] += len(instance.histories) - 1
            met["chunked timer"] += program.chunk is not None
            for history in instance.histories:
                met.update({type(event).__name__ for event in history.events})

    count()
    expected = {cls.__name__ for cls in vars(h).values() if isinstance(cls, type)}
    expected = {name for name in expected if name.endswith("Event") and "Entity" not in name}
    expected -= {"HistoryEvent", "GenericEvent", "ExecutionRewoundEvent", "HistoryStateEvent"}
    expected -= {"ContinueAsNewEvent"}  # declared by the protocol, and recorded by no backend
    expected |= {
        "COMPLETED",
        "FAILED",
        "TERMINATED",
        "RUNNING",
        "SUSPENDED",
        "later generation",
        "chunked timer",
    }
    assert {name: met[name] for name in expected if met[name] == 0} == {}


@settings(law, max_examples=10)
@given(program=programs)
def test_a_printed_program_can_be_pasted_into_a_file_and_does_the_same(
    tmp_path_factory: pytest.TempPathFactory, program: Program
) -> None:
    path = tmp_path_factory.mktemp("pasted") / "program.py"
    path.write_text(program.source)
    spec = importlib.util.spec_from_file_location("pasted_program", path)
    assert spec is not None
    assert spec.loader is not None
    pasted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pasted)
    assert _recorded(pasted.run()) == _recorded(program.load()["run"]())


def _recorded(hub: TaskHub) -> Any:
    return [[comparable(e) for h in instance.histories for e in h.events] for instance in hub.instances]


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
    assert not _holds_for_all_programs(runs_as_on_the_sdk)


@pytest.mark.parametrize("holds", ALL, ids=lambda holds: holds.__name__)
def test_where_timers_are_off_at_random_this_does_not_hold(
    holds: Callable[[Program], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inexact(arm: Any, self: Any, timer: Any, command: Any) -> None:
        command.fire_at += timedelta(microseconds=random.randrange(1, 1000))
        arm(self, timer, command)

    _wrap(FakeOrchestrationContext, "_arm", inexact)(monkeypatch)
    assert not _holds_for_all_programs(holds)


def _holds_for_all_programs(holds: Callable[[Program], Any]) -> bool:
    def fails(program: Program) -> bool:
        try:
            holds(program)
        except AssertionError:
            return True
        return False

    try:
        find(programs, fails, settings=settings(law, max_examples=1500, phases=[Phase.generate]))
    except NoSuchExample:
        return True
    return False


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
