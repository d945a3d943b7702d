"""Entities in a hub: what operations do, who waits for whom, how a critical section is entered and left."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.serialization import JsonDataConverter
from durabletask.task import TaskFailedError, when_all, when_any

from dt_testkit import InstanceNotFound, OrchestrationBlocked, OrchestrationNotFinished, TaskHub

A, B, C = (EntityInstanceId("counter", key) for key in "abc")
ACCOUNT = EntityInstanceId("account", "ana")
HOUR = timedelta(hours=1)


def counter(ctx, value):
    state = ctx.get_state(int, 0)
    match ctx.operation:
        case "get":
            return state
        case "add":
            ctx.set_state(state + value)
            return state + value
        case "spoil":
            ctx.set_state(-1)
            ctx.signal_entity(B, "add", 100)
            ctx.schedule_new_orchestration("noted", instance_id="never")
            raise ValueError(f"spoiled by {value!r}")
        case "pass on":
            ctx.signal_entity(B, "add", value)
        case "remind":
            ctx.signal_entity(B, "add", 1, signal_time=datetime(2026, 1, 1) + value * HOUR)
        case "spin":
            ctx.signal_entity(ctx.entity_id, "spin")
        case "tick":
            ctx.set_state(state + 1)
            ctx.signal_entity(ctx.entity_id, "tick", None, datetime(2026, 1, 1) + (state + 1) * HOUR)
        case "start":
            return ctx.schedule_new_orchestration("noted", input=value, instance_id=value)
    return None


@dataclass
class Balance:
    owner: str
    cents: int


class Account(DurableEntity):
    limit = 5

    def open(self, balance: Balance) -> Balance:
        assert isinstance(balance, Balance)
        self.set_state(balance)
        return balance

    def deposit(self, cents: int = 100):
        balance = self.get_state(Balance, Balance("nobody", 0))
        balance.cents += cents
        self.set_state(balance)
        return balance.cents

    def peek(self):
        self.get_state(Balance).cents = 0  # a copy: nobody sees it


def asks(ctx, steps):
    """Calls of entities, one after the other: ``[[id, operation, input], ...]``."""
    results = []
    for entity, operation, value in steps:
        results.append((yield from _result_or_failure(ctx, EntityInstanceId.parse(entity), operation, value)))
    return results


def _result_or_failure(ctx, entity, operation, value):
    try:
        return (yield ctx.call_entity(entity, operation, value))
    except TaskFailedError as error:
        failure = error.details.inner_failure
        return f"{failure.error_type}: {failure.message}"


def noted(ctx, value):
    yield ctx.create_timer(HOUR)
    return value


def holds(ctx, entities):
    """Hold the locks until somebody says so, and add to each."""
    locked = [EntityInstanceId.parse(entity) for entity in entities]
    with (yield ctx.lock_entities(locked)):
        yield ctx.wait_for_external_event("leave")
        for entity in locked:
            yield ctx.call_entity(entity, "add", 1)


@pytest.fixture
def hub() -> TaskHub:
    hub = TaskHub()
    hub.add_entity(counter, name="Counter")
    hub.add_entity(Account)
    for orchestrator in (asks, noted, holds):
        hub.add_orchestrator(orchestrator)
    return hub


def ask(hub: TaskHub, *steps: tuple[Any, str] | tuple[Any, str, Any]) -> Any:
    """The results of calls, made by one orchestration."""
    return hub.run(asks, input=[[str(entity), *rest, None][:3] for entity, *rest in steps]).output


def run(hub: TaskHub, orchestrator: Any, **options: Any) -> Any:
    hub.orchestrators["it"] = orchestrator
    return hub.run("it", **options)


# -- operations and states


def test_an_entity_is_made_by_its_first_call_and_keeps_its_state(hub):
    assert ask(hub, (A, "add", 2), (A, "add", 3), (A, "get")) == [2, 5, 5]
    entity = hub.entity(A)
    assert (entity.state, entity.exists, entity.locked_by, entity.queue_length) == (5, True, None, 0)
    assert repr(entity) == "<Entity @counter@a, 0 waiting>"


def test_looking_at_an_entity_does_not_make_it(hub):
    assert (hub.entity(A).exists, hub.entity("@counter@a").state, hub.entities) == (False, None, [])


def test_names_are_in_any_case_and_keys_are_not(hub):
    upper = EntityInstanceId("COUNTER", "a")
    assert ask(hub, (A, "add", 1), (upper, "add", 1), ("@counter@A", "add", 5)) == [1, 2, 5]
    assert [str(entity.entity_id) for entity in hub.entities] == ["@counter@a", "@counter@A"]
    assert hub.entity("@COUNTER@a").state == 2


def test_an_entity_nobody_registered_is_refused_to_the_test_and_fails_its_caller(hub):
    with pytest.raises(
        InstanceNotFound, match=r"none named 'ghost' is registered; there are: account, counter"
    ):
        hub.entity("@ghost@x")
    with pytest.raises(InstanceNotFound, match="'ghost' is no id of an entity"):
        hub.entity("ghost")
    with pytest.raises(TypeError, match="takes an EntityInstanceId or '@name@key', not 5"):
        hub.entity(5)  # type: ignore[arg-type]
    assert ask(hub, ("@ghost@x", "get")) == [
        "durabletask.worker.EntityNotRegisteredError: Entity function named 'ghost' was not registered!"
    ]
    assert hub.entity("@ghost@x").state is None  # known by now, for it was called


def test_a_class_has_typed_inputs_results_and_state(hub):
    def opens(ctx, _):
        opened = yield ctx.call_entity(ACCOUNT, "open", Balance("ana", 5), return_type=Balance)
        assert opened == Balance("ana", 5)
        yield ctx.call_entity(ACCOUNT, "peek")
        return (yield ctx.call_entity(ACCOUNT, "deposit"))

    assert run(hub, opens).output == 105
    assert hub.entity(ACCOUNT).get_state(Balance) == Balance("ana", 105)
    assert hub.entity(ACCOUNT).state == {"owner": "ana", "cents": 105}


def test_a_state_can_be_deleted(hub):
    assert ask(hub, (ACCOUNT, "deposit"), (ACCOUNT, "delete"), (ACCOUNT, "deposit")) == [100, None, 100]
    ask(hub, (ACCOUNT, "delete"))
    assert not hub.entity(ACCOUNT).exists


def test_what_an_entity_does_not_have_fails_its_caller(hub):
    assert ask(hub, (ACCOUNT, "close"), (ACCOUNT, "limit")) == [
        "builtins.AttributeError: Entity '@account@ana' does not have operation 'close'",
        "builtins.TypeError: Entity operation 'limit' is not callable",
    ]


class Money(JsonDataConverter):
    def serialize(self, value: Any) -> str | None:
        return super().serialize({"cents": str(value)} if isinstance(value, Decimal) else value)

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        value = super().deserialize(data, None if target_type is Decimal else target_type)
        return Decimal(value["cents"]) if target_type is Decimal and value is not None else value

    def can_reconstruct(self, target_type: Any) -> bool:
        return target_type is Decimal or super().can_reconstruct(target_type)


class Purse(DurableEntity):
    def put(self, amount: Decimal) -> Decimal:
        total = self.get_state(Decimal, Decimal(0)) + amount
        self.set_state(total)
        return total


def test_states_inputs_and_results_travel_through_the_converter():
    purse = EntityInstanceId("purse", "p")

    def puts(ctx, _):
        yield ctx.call_entity(purse, "put", Decimal("1.10"))
        total = yield ctx.call_entity(purse, "put", Decimal("2.20"), return_type=Decimal)
        return str(total)

    hub = TaskHub(data_converter=Money())
    hub.add_entity(Purse)
    assert run(hub, puts).output == "3.30"
    assert hub.entity(purse).get_state(Decimal) == Decimal("3.30")
    assert hub.entity(purse).state == {"cents": "3.30"}


# -- failures


def test_a_failed_operation_is_undone_its_state_its_signals_and_what_it_started(hub):
    assert ask(hub, (A, "add", 1), (A, "spoil", 7), (A, "get")) == [
        1,
        "builtins.ValueError: spoiled by 7",
        1,
    ]
    assert not hub.entity(B).exists
    with pytest.raises(InstanceNotFound):
        hub.instance("never")


def test_a_failure_reaches_the_caller_in_the_words_of_the_sdk(hub):
    def calls(ctx, _):
        yield ctx.call_entity(A, "spoil", 7)

    failure = run(hub, calls).failure
    assert (failure.error_type, failure.message) == (
        "durabletask.task.TaskFailedError",
        "Operation 'spoil' on entity '@counter@a' failed with error: spoiled by 7",
    )
    assert failure.inner_failure.inner_failure.message == "spoiled by 7"


def test_in_a_batch_the_operations_before_and_after_a_failed_one_count(hub):
    def calls(ctx, _):
        tasks = [ctx.call_entity(A, operation, 1) for operation in ("add", "spoil", "add")]
        with suppress(TaskFailedError):
            yield when_all(tasks)
        yield ctx.create_timer(HOUR)
        return [task.is_failed for task in tasks], tasks[2].get_result()

    assert run(hub, calls).output == [[False, True, False], 2]


@pytest.mark.parametrize("operation", ["return", "keep"])
def test_what_cannot_be_serialized_fails_the_operation_alone(hub, operation):
    def odd(ctx, _):
        if ctx.operation == "keep":
            ctx.set_state(object())
        return object()

    hub.add_entity(odd)
    (failed,) = ask(hub, ("@odd@o", operation))
    assert failed.startswith("builtins.TypeError: Failed to serialize object of type 'object' to JSON")
    assert not hub.entity("@odd@o").exists


def test_failures_have_the_properties_that_the_worker_adds():
    class Provider(ExceptionPropertiesProvider):
        def get_exception_properties(self, exception):
            return {"code": 42} if isinstance(exception, ValueError) else None

    def calls(ctx, _):
        try:
            yield ctx.call_entity(A, "spoil")
        except TaskFailedError as error:
            return error.details.inner_failure.properties

    hub = TaskHub(exception_properties_provider=Provider())
    hub.add_entity(counter)
    assert run(hub, calls).output == {"code": 42}


def test_an_interrupted_operation_says_so_and_is_done_once_with_what_comes_next(hub):
    interrupts = [KeyboardInterrupt("Ctrl-C")]

    def shaky(ctx, value):
        ctx.set_state(ctx.get_state(int, 0) + 1)
        if interrupts:
            raise interrupts.pop()

    hub.add_entity(shaky)
    instance = hub.start(asks, input=[["@shaky@s", "do", None]])
    with pytest.raises(KeyboardInterrupt):
        hub.settle()
    with pytest.raises(OrchestrationBlocked, match="KeyboardInterrupt: Ctrl-C"):
        instance.wait()
    ask(hub, ("@shaky@s", "do"))
    assert instance.status is OrchestrationStatus.COMPLETED
    assert hub.entity("@shaky@s").state == 2


# -- signals, and what entities ask for


def signals(ctx, given):
    operation, value, when = given
    moment = datetime.fromisoformat(when) if when else None
    ctx.signal_entity(A, operation, value, signal_time=moment)
    yield ctx.create_timer(timedelta(0))
    return ctx.current_utc_datetime.isoformat()


@pytest.fixture
def signal(hub):
    hub.add_orchestrator(signals)

    def send(operation, value=None, when=None):
        return hub.run(signals, input=[operation, value, when]).output

    return send


def test_nobody_waits_for_a_signal_or_hears_that_it_failed(hub, signal):
    signal("add", 5)
    signal("spoil", 1)
    assert hub.entity(A).state == 5


@pytest.mark.parametrize("when", ["2026-01-01T05:00:00", "2026-01-01T07:00:00+02:00"])
def test_a_signal_with_a_time_comes_in_virtual_time(hub, signal, when):
    assert signal("add", 5, when) == "2026-01-01T00:00:00"
    hub.advance(timedelta(hours=4, minutes=59))
    assert hub.entity(A).state is None
    hub.advance(timedelta(minutes=1))
    assert (hub.entity(A).state, hub.entity(A).last_modified_at) == (5, datetime(2026, 1, 1, 5))


@pytest.mark.parametrize("when", ["2020-01-01T00:00:00", "2026-01-01T00:00:00"])
def test_a_signal_for_now_or_for_the_past_comes_at_once(hub, signal, when):
    signal("add", 5, when)
    assert (hub.entity(A).state, hub.now) == (5, datetime(2026, 1, 1))


def test_entities_signal_entities_now_and_later(hub, signal):
    signal("pass on", 7)
    signal("remind", 3)
    assert hub.entity(B).state == 7
    hub.advance(3 * HOUR)
    assert hub.entity(B).state == 8


def test_an_entity_starts_an_orchestration_that_lives_by_itself(hub):
    assert ask(hub, (A, "start", "one")) == ["one"]
    started = hub.instance("one")
    assert (started.status, started.input) == (OrchestrationStatus.RUNNING, "one")
    hub.advance(HOUR)
    assert started.output == "one"


def test_an_orchestration_that_runs_already_is_let_be_and_one_that_has_ended_is_started_again(hub):
    ask(hub, (A, "start", "one"), (A, "start", "one"))
    first = hub.instance("one")
    hub.advance(HOUR)
    ask(hub, (A, "start", "one"))
    assert hub.instance("one") is not first
    assert [instance.instance_id for instance in hub.instances].count("one") == 1


def test_the_id_of_what_an_entity_starts_is_drawn_from_the_seed():
    ids = []
    for seed in (1, 1, 2):
        hub = TaskHub(seed=seed)
        hub.add_entity(counter)
        for orchestrator in (asks, noted):
            hub.add_orchestrator(orchestrator)
        ids += ask(hub, (A, "start"))
    assert ids[0] == ids[1] != ids[2]


def test_an_entity_that_signals_itself_for_ever_is_an_error_and_no_hang(hub):
    hub.add_orchestrator(signals)
    hub.start(signals, input=["spin", None, None])
    with pytest.raises(
        OrchestrationNotFinished, match=r"entity @counter@a still has work .* give the signal a time"
    ):
        hub.settle(max_turns=100)


def test_an_eternal_entity_lives_as_long_as_time_is_let_pass(hub, signal):
    signal("tick")
    hub.advance(timedelta(days=1))
    assert (hub.entity(A).state, hub.now) == (25, datetime(2026, 1, 2))


def test_an_eternal_entity_does_not_hide_for_ever_that_an_orchestration_is_blocked(hub, signal):
    signal("tick")
    with pytest.raises(OrchestrationNotFinished, match="limit of turns"):
        hub.run(holds, input=["@counter@b"], max_turns=100)


# -- who waits for whom


def enter(hub: TaskHub, instance_id: str, *entities: EntityInstanceId) -> Any:
    instance = hub.start(holds, input=[str(entity) for entity in entities], instance_id=instance_id)
    hub.settle()
    return instance


def leave(hub: TaskHub, instance: Any) -> None:
    instance.raise_event("leave")
    hub.settle()


def test_a_locked_entity_shows_who_holds_it_and_how_much_waits(hub):
    first = enter(hub, "first", A)
    enter(hub, "second", A, B)
    entity = hub.entity(A)
    assert (entity.locked_by, entity.queue_length, hub.entity(B).locked_by) == ("first", 1, None)
    assert repr(entity) == "<Entity @counter@a, locked by 'first', 1 waiting>"
    leave(hub, first)
    assert [hub.entity(each).locked_by for each in (A, B)] == ["second", "second"]


def test_operations_and_signals_of_others_wait_and_are_done_in_order_afterwards(hub):
    done = []

    def log(ctx, value):
        done.append(value)

    hub.add_entity(log)
    entity = EntityInstanceId("log", "l")

    def logs(ctx, value):
        if value.startswith("signal"):
            ctx.signal_entity(entity, "do", value)
        else:
            yield ctx.call_entity(entity, "do", value)

    def section(ctx, _):
        with (yield ctx.lock_entities([entity])):
            yield ctx.wait_for_external_event("go on")
            yield ctx.call_entity(entity, "do", "holder")

    hub.add_orchestrator(logs)
    hub.add_orchestrator(section)
    holder = hub.start(section)
    hub.settle()
    for value in ("call 1", "signal 2", "call 3"):
        hub.start(logs, input=value)
    hub.settle()
    assert (done, hub.entity(entity).queue_length) == ([], 3)
    holder.raise_event("go on")
    hub.settle()
    assert done == ["holder", "call 1", "signal 2", "call 3"]


def test_locks_are_given_in_the_order_in_which_they_were_asked_for(hub):
    instances = [enter(hub, name, A) for name in ("one", "two", "three")]
    for instance in instances:
        assert hub.entity(A).locked_by == instance.instance_id
        leave(hub, instance)
    assert (hub.entity(A).state, hub.entity(A).locked_by) == (3, None)


def test_two_that_lock_the_same_in_opposite_order_do_not_block_each_other(hub):
    one = enter(hub, "one", A, B, C)
    two = enter(hub, "two", C, B, A)
    leave(hub, one)
    leave(hub, two)
    assert [hub.entity(entity).state for entity in (A, B, C)] == [2, 2, 2]


def test_an_entity_named_twice_is_locked_once(hub):
    leave(hub, enter(hub, "one", A, A))
    assert (hub.entity(A).state, hub.entity(A).locked_by) == (2, None)


def test_what_blocks_an_orchestration_says_who_holds_the_lock(hub):
    enter(hub, "greedy", A, B)
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(holds, input=["@counter@b", "@counter@c"], instance_id="poor")
    message = str(blocked.value)
    assert "Instance 'poor' (holds) waits for" in message
    assert "lock of @counter@b, @counter@c (#1)" in message
    assert "@counter@b is locked by instance 'greedy'." in message


def test_a_child_that_wants_what_its_parent_holds_is_told_apart(hub):
    def parent(ctx, _):
        with (yield ctx.lock_entities([A])):
            yield ctx.call_sub_orchestrator(asks, input=[["@counter@a", "get", None]], instance_id="child")

    with pytest.raises(OrchestrationBlocked) as blocked:
        run(hub, parent, instance_id="parent")
    assert "Instance 'child' (asks) waits for" in str(blocked.value)
    assert "entity operation 'get' on @counter@a" in str(blocked.value)
    assert "@counter@a is locked by instance 'parent'." in str(blocked.value)


def test_a_lock_is_given_to_whoever_is_suspended_and_entered_when_resumed(hub):
    holder = enter(hub, "holder", A)
    waits = enter(hub, "waits", A)
    waits.suspend()
    hub.settle()
    leave(hub, holder)
    assert (hub.entity(A).locked_by, waits.status) == ("waits", OrchestrationStatus.SUSPENDED)
    waits.resume()
    leave(hub, waits)
    assert (waits.status, hub.entity(A).state) == (OrchestrationStatus.COMPLETED, 2)


def test_a_critical_section_survives_a_crash_of_the_worker(hub):
    first, second = enter(hub, "first", A), enter(hub, "second", A)
    hub.crash_worker()
    leave(hub, first)
    hub.crash_worker()
    leave(hub, second)
    assert (hub.entity(A).state, hub.entity(A).locked_by) == (2, None)


# -- the ways out of a critical section


def _at_its_end(ctx, _):
    with (yield ctx.lock_entities([A, B])):
        yield ctx.call_entity(A, "add", 1)
    yield ctx.wait_for_external_event("later")


def _by_an_exception(ctx, _):
    try:
        with (yield ctx.lock_entities([A, B])):
            yield ctx.call_entity(A, "spoil")
    except TaskFailedError:
        yield ctx.wait_for_external_event("later")


def _by_completion(ctx, _):
    yield ctx.lock_entities([A, B])
    return (yield ctx.call_entity(A, "add", 1))


def _by_failure(ctx, _):
    yield ctx.lock_entities([A, B])
    raise ValueError("inside")


def _by_continuing_as_new(ctx, again):
    if again != "again":
        with (yield ctx.lock_entities([A, B])):
            ctx.continue_as_new("again")
            return
    yield ctx.wait_for_external_event("later")


def _by_termination(ctx, _):
    with (yield ctx.lock_entities([A, B])):
        yield ctx.wait_for_external_event("later")


@pytest.mark.parametrize(
    "leaves",
    [_at_its_end, _by_an_exception, _by_completion, _by_failure, _by_continuing_as_new, _by_termination],
    ids=lambda leaves: leaves.__name__.strip("_"),
)
def test_a_critical_section_is_left(hub, leaves):
    hub.orchestrators["leaves"] = leaves
    instance = hub.start("leaves")
    next_one = hub.start(holds, input=["@counter@b", "@counter@a"], instance_id="next")
    hub.settle()
    if leaves is _by_termination:
        assert hub.entity(A).locked_by == instance.instance_id
        instance.terminate()
        hub.settle()
    assert [hub.entity(entity).locked_by for entity in (A, B)] == ["next", "next"]
    leave(hub, next_one)
    assert [hub.entity(entity).locked_by for entity in (A, B)] == [None, None]


def test_who_is_terminated_while_it_waits_for_a_lock_is_forgotten(hub):
    first, second, _ = (enter(hub, name, A, B) for name in ("first", "second", "third"))
    second.terminate()
    hub.settle()
    assert hub.entity(A).queue_length == 1
    leave(hub, first)
    assert [hub.entity(entity).locked_by for entity in (A, B)] == ["third", "third"]


def test_who_is_terminated_with_some_of_its_locks_lets_these_go(hub):
    enter(hub, "holder", B)
    half = enter(hub, "half", A, B)
    assert (hub.entity(A).locked_by, hub.entity(B).queue_length) == ("half", 1)
    half.terminate()
    hub.settle()
    assert (hub.entity(A).locked_by, hub.entity(B).queue_length) == (None, 0)


def test_the_lock_of_a_generation_is_not_that_of_the_next(hub):
    """What is locked after continue_as_new() is granted to nobody, and an unlock of the next lets it be."""

    def careless(ctx, again):
        if again != "again":
            ctx.continue_as_new("again")
        with (yield ctx.lock_entities([A])):
            pass

    hub.orchestrators["careless"] = careless
    instance = hub.start("careless")
    hub.settle()
    instance.terminate()
    hub.settle()
    assert (hub.entity(A).locked_by, hub.entity(A).queue_length) == (instance.instance_id, 0)


# -- misuse, refused in the SDK's words


def _signals_what_it_has_locked(ctx):
    yield ctx.lock_entities([A])
    ctx.signal_entity(A, "add", 1)


def _calls_what_it_has_not_locked(ctx):
    yield ctx.lock_entities([A])
    yield ctx.call_entity(B, "get")


def _calls_the_same_twice_at_once(ctx):
    yield ctx.lock_entities([A])
    yield when_all([ctx.call_entity(A, "get"), ctx.call_entity(A, "get")])


def _calls_before_it_has_the_lock(ctx):
    ctx.lock_entities([A])
    yield ctx.call_entity(A, "get")


def _locks_within_a_lock(ctx):
    yield ctx.lock_entities([A])
    yield ctx.lock_entities([B])


def _locks_twice_at_once(ctx):
    yield when_any([ctx.lock_entities([A]), ctx.lock_entities([B])])


def _locks_nothing(ctx):
    yield ctx.lock_entities([])


MISUSES = {
    _signals_what_it_has_locked: "Must not signal a locked entity from a critical section.",
    _calls_what_it_has_not_locked: (
        "Must not call an entity from a critical section if it is not one of the locked entities."
    ),
    # That a prior call is pending is what the SDK means to say, but its list of locks is short of A by then.
    _calls_the_same_twice_at_once: (
        "Must not call an entity from a critical section if it is not one of the locked entities."
    ),
    _calls_before_it_has_the_lock: (
        "Must await the completion of the lock request prior to calling any entity."
    ),
    _locks_within_a_lock: "Must not enter another critical section from within a critical section.",
    _locks_twice_at_once: "Must not enter another critical section from within a critical section.",
    _locks_nothing: "Failed to create entity lock request.",
}


@pytest.mark.parametrize(
    ("misuse", "words"), MISUSES.items(), ids=lambda part: getattr(part, "__name__", "")[1:]
)
def test_misuse_of_a_critical_section_is_refused(hub, misuse, words):
    def misuses(ctx, _):
        yield from misuse(ctx)

    failure = run(hub, misuses).failure
    assert (failure.error_type, failure.message) == ("builtins.RuntimeError", words)


def test_all_else_is_allowed_in_a_critical_section(hub):
    def section(ctx, _):
        with (yield ctx.lock_entities([A, B])):
            both = yield when_all([ctx.call_entity(A, "add", 1), ctx.call_entity(B, "add", 2)])
            again = yield ctx.call_entity(A, "add", 1)
            ctx.signal_entity(C, "add", 3)
            child = yield ctx.call_sub_orchestrator(noted, input="child")
            yield ctx.create_timer(HOUR)
        with (yield ctx.lock_entities([A])):
            return [*both, again, child, (yield ctx.call_entity(A, "get"))]

    assert run(hub, section).output == [1, 2, 2, "child", 2]
    assert hub.entity(C).state == 3


def test_a_call_that_nobody_waits_for_keeps_its_entity_locked_as_on_the_sdk(hub):
    """The SDK unlocks what no call is open on: an entity that is being called is not in its list."""

    def forgets(ctx, _):
        with (yield ctx.lock_entities([A, B])):
            ctx.call_entity(A, "add", 1)

    instance = run(hub, forgets)
    assert instance.status is OrchestrationStatus.COMPLETED
    assert [hub.entity(entity).locked_by for entity in (A, B)] == [instance.instance_id, None]
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(holds, input=["@counter@a"])
    kept = f"@counter@a is locked by instance '{instance.instance_id}', by a generation of it that has ended"
    assert f"{kept}: clean_entity_storage() frees it." in str(blocked.value)
    assert hub.client.clean_entity_storage().orphaned_locks_released == 1
    assert hub.entity(A).locked_by == hub.instances[-1].instance_id


def test_who_waits_for_a_lock_may_call_what_it_has_called_before(hub):
    """By the SDK's book-keeping: the first call came before the request, and its answer gave A free."""

    def calls(ctx, _):
        first = ctx.call_entity(A, "add", 1)
        lock = ctx.lock_entities([A])
        yield first
        second = ctx.call_entity(A, "add", 1)
        with (yield lock):
            return (yield second)

    holder = enter(hub, "holder", A)
    hub.orchestrators["calls"] = calls
    instance = hub.start("calls")
    hub.settle()
    leave(hub, holder)
    assert (instance.status, hub.entity(A).state) == (OrchestrationStatus.COMPLETED, 3)


def test_a_signal_that_fails_is_kept_by_the_entity_and_logged(caplog):
    hub = TaskHub()
    hub.add_entity(Account)
    hub.client.signal_entity(ACCOUNT, "despoit", 1)
    hub.client.signal_entity(EntityInstanceId("acount", "ana"), "deposit", 1)
    hub.advance(HOUR)
    unknown, misspelt = hub.entity(ACCOUNT).failures, hub.entity("@acount@ana").failures
    assert [(one.name, one.failure.error_type, one.time) for one in (*unknown, *misspelt)] == [
        ("despoit", "builtins.AttributeError", datetime(2026, 1, 1)),
        ("deposit", "durabletask.worker.EntityNotRegisteredError", datetime(2026, 1, 1)),
    ]
    assert {(record.name, record.levelname) for record in caplog.records} == {("dt_testkit", "WARNING")}
    assert [record.getMessage() for record in caplog.records] == [
        "Signal 'despoit' to entity @account@ana failed, and no caller hears of it (AttributeError: Entity "
        "'@account@ana' does not have operation 'despoit'): did you mean 'deposit'?",
        "Signal 'deposit' to entity @acount@ana failed, and no caller hears of it (EntityNotRegisteredError: "
        "Entity function named 'acount' was not registered): did you mean 'account'?",
    ]


def test_a_call_that_fails_is_kept_too_and_not_logged_for_its_caller_is_told(caplog):
    def calls(ctx, _):
        yield ctx.call_entity(A, "spoil", 1)

    hub = TaskHub()
    hub.add_entity(counter)
    hub.add_orchestrator(calls)
    assert hub.run(calls).failure is not None
    assert [one.failure.message for one in hub.entity(A).failures] == ["spoiled by 1"]
    assert caplog.records == []


def test_a_call_with_a_name_that_is_nearly_another_is_logged(caplog):
    def calls(ctx, _):
        yield ctx.call_entity(EntityInstanceId("conter", "a"), "add", 1)

    hub = TaskHub()
    hub.add_entity(counter)
    hub.add_orchestrator(calls)
    assert "'conter' was not registered" in hub.run(calls).failure.message
    assert [record.getMessage() for record in caplog.records] == [
        "Call of 'add' to entity @conter@a failed (EntityNotRegisteredError: Entity function named 'conter' "
        "was not registered): did you mean 'counter'?"
    ]
