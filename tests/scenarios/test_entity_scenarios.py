"""Entities: called, signalled, looked at."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from durabletask import task
from durabletask.client import EntityQuery
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.task import TaskFailedError, when_all
from world import output, unique, until


@dataclass
class Account:
    owner: str
    balance: int = 0
    bookings: list[int] = field(default_factory=list)


def register(worker):
    for orchestrator in (
        add_up, calls, names_badly, signals, introduces, books, spoils, catches, knows_itself, called_by_name,
        asks_for_a_type, counts_to, greeted, mixed_case, signals_later, waits_an_hour, all_at_once, relays,
        deletes, spends_twice, looks_later, signals_a_second_later,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_entity(counter)
    worker.add_entity(Ledger)
    worker.add_entity(Doorman)
    worker.add_entity(relay)
    worker.add_entity(introspective, name="Mirror")
    worker.add_entity(alarm)


def counter(ctx, amount):
    if ctx.operation == "get":
        return ctx.get_state(int, 0)
    if ctx.operation == "fail":
        ctx.set_state(-1)
        raise ArithmeticError("not today")
    total = ctx.get_state(int, 0) + (amount or 0)
    ctx.set_state(total)
    return total


class Ledger(DurableEntity):
    def book(self, amount: int) -> int:
        account = self.get_state(Account, Account("nobody"))
        account.balance += amount
        account.bookings.append(amount)
        self.set_state(account)
        return account.balance

    def spend(self, amount: int) -> int:
        balance = self.book(-amount)
        if balance < 0:
            raise ValueError(f"{-balance} short")
        return balance

    def owner(self):
        return self.get_state(Account, Account("nobody")).owner

    def rename(self, account: Account) -> Account:
        assert isinstance(account, Account)
        self.set_state(account)
        return account

    def close(self):
        self.book(1)
        self.delete("closed")
        return self.get_state()

    attribute = 5


def an(entity, key=None):
    return EntityInstanceId(entity, key or unique(entity))


def state_of(world, entity):
    """The state of an entity as JSON, None while there is none."""
    found = world.client.get_entity(entity)
    return found.get_typed_state() if found is not None and found.get_state() else None


# -- called


def add_up(ctx, key):
    entity = EntityInstanceId("counter", key)
    results = []
    for amount in (1, 2, 3):
        results.append((yield ctx.call_entity(entity, "add", amount)))
    return results


def test_each_call_finds_the_state_that_the_one_before_left(world):
    entity = an("counter")
    assert world.output_of(add_up, input=entity.key) == [1, 3, 6]
    assert world.output_of(add_up, input=entity.key) == [7, 9, 12]
    assert state_of(world, entity) == 12


def calls(ctx, given):
    name, key, operation, value = given
    return (yield ctx.call_entity(EntityInstanceId(name, key), operation, value))


def test_an_entity_is_there_as_soon_as_it_is_called(world):
    assert world.output_of(calls, input=["counter", unique("new"), "get", None]) == 0


def books(ctx, key):
    ledger = EntityInstanceId("ledger", key)
    balances = []
    for amount in (100, -30):
        balances.append((yield ctx.call_entity(ledger, "book", amount)))
    return [balances, (yield ctx.call_entity(ledger, "owner"))]


def test_a_class_has_its_methods_as_operations_and_a_dataclass_as_state(world):
    entity = an("ledger")
    assert world.output_of(books, input=entity.key) == [[100, 70], "nobody"]
    found = world.client.get_entity(entity)
    assert found.get_typed_state(Account) == Account("nobody", 70, [100, -30])


def asks_for_a_type(ctx, key):
    account = yield ctx.call_entity(
        EntityInstanceId("ledger", key), "rename", Account("ana", 5), return_type=Account
    )
    return [type(account).__name__, account.owner]


def test_inputs_and_results_of_operations_have_types(world):
    assert world.output_of(asks_for_a_type, input=unique("ledger")) == ["Account", "ana"]


def all_at_once(ctx, key):
    entity = EntityInstanceId("counter", key)
    return (yield when_all([ctx.call_entity(entity, "add", 1) for _ in range(10)]))


def test_calls_made_at_once_are_done_one_by_one_in_order(world):
    assert world.output_of(all_at_once, input=unique("counter")) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def called_by_name(ctx, key):
    return (yield ctx.call_entity(EntityInstanceId.parse(f"@counter@{key}"), "add", 5))


def test_an_id_can_be_read_from_text(world):
    assert world.output_of(called_by_name, input=unique("counter")) == 5


def introspective(ctx, value):
    return [str(ctx.entity_id), ctx.operation, ctx.orchestration_id, value]


def knows_itself(ctx, key):
    return (yield ctx.call_entity(EntityInstanceId("mirror", key), "look", {"a": [1]}))


def test_an_entity_knows_its_id_and_what_is_asked(world):
    entity = an("mirror")
    assert world.output_of(knows_itself, input=entity.key) == [str(entity), "look", str(entity), {"a": [1]}]


def mixed_case(ctx, key):
    first = yield ctx.call_entity(EntityInstanceId("COUNTER", key), "add", 1)
    second = yield ctx.call_entity(EntityInstanceId("Counter", key), "add", 1)
    third = yield ctx.call_entity(EntityInstanceId(task.get_entity_name(counter), key), "add", 1)
    return [first, second, third]


def test_the_case_of_the_name_does_not_matter_that_of_the_key_does(world):
    key = unique("Key")
    assert world.output_of(mixed_case, input=key) == [1, 2, 3]
    assert state_of(world, EntityInstanceId("counter", key.lower())) is None


# -- failures


def catches(ctx, given):
    name, key, operation, value = given
    entity = EntityInstanceId(name, key)
    try:
        yield ctx.call_entity(entity, operation, value)
    except TaskFailedError as error:
        inner = error.details.inner_failure
        return [error.details.error_type, error.details.message, inner.error_type, inner.message]


@pytest.mark.parametrize(
    ("name", "operation", "error_type", "message"),
    [
        ("counter", "fail", "builtins.ArithmeticError", "not today"),
        (
            "ledger",
            "nothing_like_that",
            "builtins.AttributeError",
            "does not have operation 'nothing_like_that'",
        ),
        ("ledger", "attribute", "builtins.TypeError", "Entity operation 'attribute' is not callable"),
        ("nobody", "get", "durabletask.worker.EntityNotRegisteredError", "'nobody' was not registered!"),
    ],
)
def test_a_failed_operation_is_a_failure_to_its_caller(world, name, operation, error_type, message):
    entity = an(name)
    caught = world.output_of(catches, input=[name, entity.key, operation, 1])
    assert caught[0].endswith(".EntityOperationFailedException")
    assert caught[1].startswith(f"Operation '{operation}' on entity '{entity}' failed with error: ")
    assert caught[1].endswith(message)
    assert caught[2] == error_type
    assert caught[3].endswith(message)


def test_a_failure_that_nobody_catches_fails_the_orchestration(world):
    details = world.failure_of(calls, input=["counter", unique("counter"), "fail", None])
    assert details.error_type == "durabletask.task.TaskFailedError"
    assert "failed with error: not today" in details.message
    assert details.inner_failure.inner_failure.error_type == "builtins.ArithmeticError"


def spoils(ctx, key):
    entity = EntityInstanceId("counter", key)
    yield ctx.call_entity(entity, "add", 7)
    try:
        yield ctx.call_entity(entity, "fail")
    except TaskFailedError:
        return (yield ctx.call_entity(entity, "get"))


def test_a_failed_operation_leaves_the_state_as_it_was(world):
    entity = an("counter")
    assert world.output_of(spoils, input=entity.key) == 7
    assert state_of(world, entity) == 7


def spends_twice(ctx, key):
    ledger = EntityInstanceId("ledger", key)
    tasks = [
        ctx.call_entity(ledger, name, amount) for name, amount in (("book", 10), ("spend", 20), ("spend", 4))
    ]
    try:
        yield when_all(tasks)
    except TaskFailedError as error:
        return [error.details.inner_failure.message, tasks[2].get_result()]


def test_in_a_batch_only_the_operation_that_failed_is_rolled_back(world):
    entity = an("ledger")
    assert world.output_of(spends_twice, input=entity.key) == ["10 short", 6]
    assert state_of(world, entity)["bookings"] == [10, -4]


def names_badly(ctx, given):
    EntityInstanceId.validate_entity_name("counter")
    EntityInstanceId.validate_key("one")
    name, key = given
    yield ctx.call_entity(EntityInstanceId(name, key), "get")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["", "one"], "Entity name cannot be empty."),
        (["counter", ""], "Entity key cannot be empty."),
        (["co@unter", "one"], "Entity name cannot contain '@' symbol."),
        (["counter", "o@ne"], "Entity key cannot contain '@' symbol."),
    ],
)
def test_an_entity_that_is_named_badly_fails_the_orchestration(world, given, message):
    details = world.failure_of(names_badly, input=given)
    assert (details.error_type, details.message) == ("builtins.ValueError", message)


# -- signalled


def test_the_client_signals_an_entity(world):
    entity = an("counter")
    for amount in (1, 10, 100):
        world.client.signal_entity(entity, "add", amount)
    until(lambda: state_of(world, entity) == 111)


def test_signals_come_before_a_call_that_is_made_later(world):
    entity = an("counter")
    for _ in range(20):
        world.client.signal_entity(entity, "add", 1)
    assert world.output_of(calls, input=["counter", entity.key, "get", None]) == 20


def signals(ctx, key):
    entity = EntityInstanceId("counter", key)
    ctx.signal_entity(entity, "add", 5)
    ctx.signal_entity(entity, "add", 6)
    return (yield ctx.call_entity(entity, "get"))


def test_an_orchestrator_signals_without_waiting(world):
    assert world.output_of(signals, input=unique("counter")) == 11


def test_a_signal_that_fails_is_noticed_by_nobody_and_changes_nothing(world):
    entity = an("counter")
    world.client.signal_entity(entity, "add", 3)
    world.client.signal_entity(entity, "fail")
    assert world.output_of(calls, input=["counter", entity.key, "get", None]) == 3


def alarm(ctx, given):
    rung = ctx.get_state(list, [])
    if ctx.operation == "ring":
        ctx.set_state([*rung, given])
    elif ctx.operation == "snooze":
        later = datetime.fromisoformat(given)
        ctx.signal_entity(ctx.entity_id, "ring", "snoozed", signal_time=later)
    return rung


def signals_later(ctx, key):
    entity = EntityInstanceId("alarm", key)
    start = ctx.current_utc_datetime
    for hours in (3, 1):
        ctx.signal_entity(entity, "ring", hours, signal_time=start + timedelta(hours=hours))
    seen = []
    for hours in (0, 1, 2, 3):
        yield ctx.create_timer(start + timedelta(hours=hours, minutes=1))
        seen.append((yield ctx.call_entity(entity, "look")))
    return seen


@pytest.mark.long_timers
def test_a_signal_may_be_sent_for_later(world):
    assert world.output_of(signals_later, input=unique("alarm")) == [[], [1], [1], [1, 3]]


def waits_an_hour(ctx, key):
    yield ctx.create_timer(timedelta(hours=1))
    return (yield ctx.call_entity(EntityInstanceId("alarm", key), "look"))


@pytest.mark.long_timers
def test_the_client_may_signal_for_later(world):
    entity = an("alarm")
    moment = world.now().replace(tzinfo=timezone.utc) + timedelta(minutes=50)
    world.client.signal_entity(entity, "ring", "wake up", signal_time=moment)
    assert state_of(world, entity) is None
    assert world.output_of(waits_an_hour, input=entity.key) == ["wake up"]


@pytest.mark.long_timers
def test_an_entity_may_signal_itself_for_later(world):
    entity = an("alarm")
    moment = world.now() + timedelta(minutes=50)
    world.client.signal_entity(entity, "snooze", moment.isoformat())
    assert world.output_of(waits_an_hour, input=entity.key) == ["snoozed"]


def looks_later(ctx, key):
    yield ctx.create_timer(timedelta(seconds=2))
    return (yield ctx.call_entity(EntityInstanceId("alarm", key), "look"))


def test_a_signal_for_later_outlives_the_removal_of_its_entity(world):
    entity = an("alarm")
    moment = world.now().replace(tzinfo=timezone.utc) + timedelta(seconds=1)
    world.client.signal_entity(entity, "ring", "wake up", signal_time=moment)
    assert world.client.get_entity(entity) is not None
    assert world.client.clean_entity_storage().empty_entities_removed >= 1
    assert world.client.get_entity(entity) is None
    assert world.output_of(looks_later, input=entity.key) == ["wake up"]
    assert state_of(world, entity) == ["wake up"]


def signals_a_second_later(ctx, key):
    moment = ctx.current_utc_datetime + timedelta(seconds=1)
    ctx.signal_entity(EntityInstanceId("alarm", key), "ring", "later", signal_time=moment)


def test_an_entity_is_there_when_the_signal_of_an_orchestration_is_due(world):
    entity = an("alarm")
    world.output_of(signals_a_second_later, input=entity.key)
    assert world.client.get_entity(entity) is None
    assert world.output_of(looks_later, input=entity.key) == ["later"]


def test_a_signal_for_a_moment_that_has_passed_is_for_now(world):
    entity = an("alarm")
    world.client.signal_entity(entity, "ring", "late", signal_time=datetime(2020, 1, 1, tzinfo=timezone.utc))
    until(lambda: state_of(world, entity) == ["late"])


# -- entities that act


def relay(ctx, given):
    if ctx.operation == "start":
        return ctx.schedule_new_orchestration("greeted", given, instance_id=f"{ctx.entity_id.key}-run")
    for key in given:
        ctx.signal_entity(EntityInstanceId("counter", key), "add", 1)
    return None


def relays(ctx, keys):
    yield ctx.call_entity(EntityInstanceId("relay", ctx.instance_id), "pass_on", keys)


def test_an_entity_signals_others(world):
    entities = [an("counter"), an("counter")]
    world.run(relays, input=[entity.key for entity in entities] + [entities[0].key])
    until(lambda: [state_of(world, entity) for entity in entities] == [2, 1])


class Doorman(DurableEntity):
    def greet(self, name):
        instance_id = f"{self.entity_context.entity_id.key}-{name}"
        return self.schedule_new_orchestration("greeted", name, instance_id=instance_id)

    def greet_somehow(self, name):
        return self.schedule_new_orchestration("greeted", name)

    def tell(self, other):
        past = datetime(2020, 1, 1)
        self.signal_entity(EntityInstanceId("doorman", other), "remember", "told", signal_time=past)

    def remember(self, what):
        self.set_state(what)


def greeted(ctx, name):
    return f"hello {name}"


def introduces(ctx, given):
    key, operation, name = given
    return (yield ctx.call_entity(EntityInstanceId("doorman", key), operation, name))


def test_an_entity_that_is_a_function_starts_an_orchestration(world):
    entity = an("relay")
    started = world.output_of(calls, input=["relay", entity.key, "start", "bo"])
    assert started == f"{entity.key}-run"
    until(lambda: world.client.get_orchestration_state(started))
    assert output(world.finish(started)) == "hello bo"


@pytest.mark.parametrize("operation", ["greet", "greet_somehow"])
def test_an_entity_starts_an_orchestration(world, operation):
    started = world.output_of(introduces, input=[unique("door"), operation, "ana"])
    until(lambda: world.client.get_orchestration_state(started))
    assert output(world.finish(started)) == "hello ana"


def test_an_entity_of_a_class_signals_another(world):
    other = an("doorman")
    world.run(introduces, input=[unique("door"), "tell", other.key])
    until(lambda: state_of(world, other) == "told")


# -- looked at, and removed


def counts_to(ctx, given):
    key, number = given
    yield ctx.call_entity(EntityInstanceId("counter", key), "add", number)


def test_an_entity_shows_its_state_and_when_it_changed(world):
    entity = an("counter")
    before = world.now()
    world.run(counts_to, input=[entity.key, 4])
    found = world.client.get_entity(entity)
    assert (found.id, found.includes_state, found.backlog_queue_size) == (entity, True, 0)
    assert (found.get_state(), found.get_state(int), found.get_typed_state(int)) == ("4", 4, 4)
    assert found.get_locked_by() is None
    assert before <= found.last_modified.replace(tzinfo=None) <= world.now()


def test_the_state_is_left_out_on_request(world):
    entity = an("counter")
    world.run(counts_to, input=[entity.key, 4])
    found = world.client.get_entity(entity, include_state=False)
    assert (found.includes_state, found.get_state(), found.get_typed_state()) == (False, None, None)


def test_an_entity_that_nobody_used_does_not_exist(world):
    assert world.client.get_entity(an("counter")) is None


def test_entities_are_found_by_the_beginning_of_their_ids(world):
    prefix = unique("set")
    for number in (3, 1, 2):
        world.run(counts_to, input=[f"{prefix}-{number}", number])
    world.run(counts_to, input=[unique("other"), 9])
    query = EntityQuery(instance_id_starts_with=f"@counter@{prefix}", page_size=2)
    found = world.client.get_all_entities(query)
    assert [(entity.id.key, entity.get_typed_state()) for entity in found] == [
        (f"{prefix}-1", 1),
        (f"{prefix}-2", 2),
        (f"{prefix}-3", 3),
    ]
    both = EntityQuery(instance_id_starts_with=query.instance_id_starts_with, include_transient=True)
    assert [entity.id for entity in world.client.get_all_entities(both)] == [entity.id for entity in found]
    without = world.client.get_all_entities(EntityQuery(query.instance_id_starts_with, include_state=False))
    assert [entity.get_state() for entity in without] == [None, None, None]


def test_entities_are_found_by_the_time_of_their_last_change(world):
    prefix = unique("timed")
    world.run(counts_to, input=[prefix, 1])
    moment = world.client.get_entity(EntityInstanceId("counter", prefix)).last_modified
    for query, expected in (
        (EntityQuery(last_modified_from=moment), True),
        (EntityQuery(last_modified_from=moment + timedelta(seconds=1)), False),
        (EntityQuery(last_modified_to=moment + timedelta(seconds=1)), True),
        (EntityQuery(last_modified_to=moment - timedelta(seconds=1)), False),
    ):
        query.instance_id_starts_with = f"@counter@{prefix}"
        assert bool(world.client.get_all_entities(query)) is expected, query


def deletes(ctx, key):
    ledger = EntityInstanceId("ledger", key)
    yield ctx.call_entity(ledger, "book", 100)
    yield ctx.call_entity(ledger, "delete")
    closed = yield ctx.call_entity(ledger, "close")
    return [closed, (yield ctx.call_entity(ledger, "owner"))]


def test_a_deleted_entity_begins_anew(world):
    entity = an("ledger")
    assert world.output_of(deletes, input=entity.key) == [None, "nobody"]
    assert state_of(world, entity) is None


def test_entities_without_state_are_cleaned_up_on_request(world):
    empty, kept = an("ledger"), an("counter")
    world.run(deletes, input=empty.key)
    world.run(counts_to, input=[kept.key, 1])
    result = world.client.clean_entity_storage(release_orphaned_locks=False)
    assert result.empty_entities_removed >= 1
    assert result.orphaned_locks_released == 0
    assert world.client.get_entity(empty) is None
    assert state_of(world, kept) == 1
