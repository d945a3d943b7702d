"""Critical sections: several entities held by one orchestration."""

import pytest
from durabletask.entities import EntityInstanceId
from durabletask.task import TaskFailedError, when_all
from world import failure, output, unique, until


def register(worker):
    for orchestrator in (
        transfer, holds, fails_inside, returns_inside, continues_inside, misuse, deposits, gets, calls_both,
        after_the_section, locks_one_twice, catches_inside, increments, opposite_order,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_entity(account)
    worker.add_activity(think)


def account(ctx, amount):
    balance = ctx.get_state(int, 0)
    if ctx.operation == "add":
        balance += amount
    elif ctx.operation == "set":
        balance = amount
    elif ctx.operation == "fail":
        raise ValueError("no such operation")
    ctx.set_state(balance)
    return balance


def think(ctx, value):
    return value


def accounts(keys):
    return [EntityInstanceId("account", key) for key in keys]


def keys_of(count):
    return [unique("account") for _ in range(count)]


def balance(world, key):
    found = world.client.get_entity(EntityInstanceId("account", key))
    return found.get_typed_state(int)


def is_free(world, key):
    """Whether somebody else can lock the entity."""
    return world.output_of(deposits, input=[key, 0]) is not None


def is_locked(world, key):
    found = world.client.get_entity(EntityInstanceId("account", key))
    try:
        return found.get_locked_by() is not None
    except ValueError:  # the SDK takes the id of a critical section for that of an entity
        return True


def deposits(ctx, given):
    key, amount = given
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        return (yield ctx.call_entity(entity, "add", amount))


def transfer(ctx, given):
    source, target, amount = given
    source, target = accounts([source, target])
    with (yield ctx.lock_entities([source, target])):
        held = yield ctx.call_entity(source, "get")
        if held < amount:
            return False
        yield ctx.call_entity(source, "add", -amount)
        yield ctx.call_entity(target, "add", amount)
    return True


def test_money_goes_from_one_account_to_another(world):
    source, target = keys_of(2)
    world.run(deposits, input=[source, 100])
    assert world.output_of(transfer, input=[source, target, 30]) is True
    assert [balance(world, source), balance(world, target)] == [70, 30]
    assert world.output_of(transfer, input=[source, target, 300]) is False
    assert [balance(world, source), balance(world, target)] == [70, 30]


def calls_both(ctx, keys):
    entities = accounts(keys)
    with (yield ctx.lock_entities(entities)):
        return (yield when_all([ctx.call_entity(entity, "add", n) for n, entity in enumerate(entities)]))


def test_all_that_are_locked_can_be_called_at_once(world):
    assert world.output_of(calls_both, input=keys_of(3)) == [0, 1, 2]


def increments(ctx, given):
    key, _ = given
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        number = yield ctx.call_entity(entity, "get")
        number = yield ctx.call_activity(think, input=number)
        yield ctx.call_entity(entity, "set", number + 1)


def test_nobody_else_gets_in_between(world):
    (key,) = keys_of(1)
    started = [world.client.schedule_new_orchestration(increments, input=[key, n]) for n in range(8)]
    for instance_id in started:
        output(world.finish(instance_id))
    assert balance(world, key) == 8


def opposite_order(ctx, keys):
    entities = accounts(keys)
    with (yield ctx.lock_entities(entities)):
        yield ctx.call_activity(think)
        for entity in entities:
            yield ctx.call_entity(entity, "add", 1)


def test_two_that_lock_in_opposite_order_do_not_block_each_other(world):
    keys = keys_of(2)
    started = [
        world.client.schedule_new_orchestration(opposite_order, input=order)
        for order in (keys, keys[::-1], keys, keys[::-1])
    ]
    for instance_id in started:
        output(world.finish(instance_id))
    assert [balance(world, key) for key in keys] == [4, 4]


def holds(ctx, key):
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        ctx.set_custom_status("inside")
        yield ctx.wait_for_external_event("let go")
        yield ctx.call_entity(entity, "add", 1)


def test_whoever_comes_second_waits_for_the_first_to_leave(world):
    (key,) = keys_of(1)
    first = world.start(holds, input=key)
    world.until_status(first, "inside")
    second = world.start(holds, input=key)
    assert world.client.get_orchestration_state(second).get_custom_status() is None
    world.client.raise_orchestration_event(first, "let go")
    output(world.finish(first))
    world.until_status(second, "inside")
    world.client.raise_orchestration_event(second, "let go")
    output(world.finish(second))
    assert balance(world, key) == 2


def gets(ctx, key):
    (entity,) = accounts([key])
    return (yield ctx.call_entity(entity, "get"))


@pytest.mark.in_memory_lacks("lets others call an entity that is locked")
def test_who_does_not_hold_the_lock_waits_too(world):
    (key,) = keys_of(1)
    holder = world.start(holds, input=key)
    world.until_status(holder, "inside")
    world.client.signal_entity(*accounts([key]), "add", 10)
    caller = world.start(gets, input=key)
    assert world.client.get_orchestration_state(caller).runtime_status.name == "RUNNING"
    world.client.raise_orchestration_event(holder, "let go")
    output(world.finish(holder))
    assert output(world.finish(caller)) == 11


def test_a_locked_entity_shows_so(world):
    (key,) = keys_of(1)
    holder = world.start(holds, input=key)
    world.until_status(holder, "inside")
    locked = world.client.get_entity(*accounts([key]))
    with pytest.raises(ValueError, match="Entity ID must start with '@'"):  # and not None
        locked.get_locked_by()
    world.client.raise_orchestration_event(holder, "let go")
    output(world.finish(holder))
    until(lambda: not is_locked(world, key))
    assert world.client.get_entity(*accounts([key])).get_locked_by() is None


# -- how a section ends


def fails_inside(ctx, key):
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        yield ctx.call_entity(entity, "add", 1)
        raise LookupError("inside")


def test_a_failure_inside_lets_go(world):
    (key,) = keys_of(1)
    assert failure(world.run(fails_inside, input=key)).error_type == "builtins.LookupError"
    assert is_free(world, key)
    assert balance(world, key) == 1


def catches_inside(ctx, key):
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        try:
            yield ctx.call_entity(entity, "fail")
        except TaskFailedError:
            return (yield ctx.call_entity(entity, "add", 2))


def test_after_a_failed_call_the_lock_is_still_held(world):
    (key,) = keys_of(1)
    assert world.output_of(catches_inside, input=key) == 2
    assert is_free(world, key)


def returns_inside(ctx, key):
    yield ctx.lock_entities(accounts([key]))
    return "never entered the with block"


def test_completion_lets_go(world):
    (key,) = keys_of(1)
    assert world.output_of(returns_inside, input=key) == "never entered the with block"
    assert is_free(world, key)


def continues_inside(ctx, given):
    key, left = given
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity])):
        total = yield ctx.call_entity(entity, "add", 1)
        if not left:
            return total
        ctx.continue_as_new([key, left - 1])


def test_continuing_as_new_lets_go(world):
    (key,) = keys_of(1)
    assert world.output_of(continues_inside, input=[key, 2]) == 3
    assert is_free(world, key)


def after_the_section(ctx, keys):
    first, second = accounts(keys)
    with (yield ctx.lock_entities([first])):
        yield ctx.call_entity(first, "add", 1)
    ctx.signal_entity(first, "add", 1)
    yield ctx.call_entity(second, "add", 1)
    with (yield ctx.lock_entities([second])):
        yield ctx.call_entity(second, "add", 1)
    return (yield ctx.call_entity(first, "get"))


def test_one_section_after_another_and_free_calls_in_between(world):
    assert world.output_of(after_the_section, input=keys_of(2)) == 2


def locks_one_twice(ctx, key):
    (entity,) = accounts([key])
    with (yield ctx.lock_entities([entity, entity])):
        return (yield ctx.call_entity(entity, "add", 1))


def test_an_entity_named_twice_is_locked_once(world):
    assert world.output_of(locks_one_twice, input=unique("account")) == 1


# -- what must not be done inside


def misuse(ctx, given):
    how, keys = given
    first, second = accounts(keys)
    with (yield ctx.lock_entities([first])):
        if how == "call another":
            yield ctx.call_entity(second, "get")
        elif how == "signal the locked":
            ctx.signal_entity(first, "add", 1)
        elif how == "call twice at once":
            yield when_all([ctx.call_entity(first, "get"), ctx.call_entity(first, "get")])
        elif how == "lock again":
            yield ctx.lock_entities([second])
        elif how == "signal another":
            ctx.signal_entity(second, "add", 1)
    return "allowed"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "call another",
            "Must not call an entity from a critical section if it is not one of the locked entities.",
        ),
        ("signal the locked", "Must not signal a locked entity from a critical section."),
        ("lock again", "Must not enter another critical section from within a critical section."),
    ],
)
def test_what_must_not_be_done_inside_fails_the_orchestration_and_lets_go(world, how, message):
    keys = keys_of(2)
    details = failure(world.run(misuse, input=[how, keys]))
    assert (details.error_type, details.message) == ("builtins.RuntimeError", message)
    assert is_free(world, keys[0])


def test_a_section_that_ends_with_a_call_pending_leaves_its_entity_locked(world):
    """An oversight of SDK 1.12: it forgets to let go of an entity that is being called. Cleaning up helps."""
    keys = keys_of(2)
    details = failure(world.run(misuse, input=["call twice at once", keys]))
    assert details.error_type == "builtins.RuntimeError"
    assert details.message.startswith("Must not call an entity from a critical section")
    assert is_locked(world, keys[0])
    assert world.client.clean_entity_storage(remove_empty_entities=False).orphaned_locks_released >= 1
    assert not is_locked(world, keys[0])
    assert is_free(world, keys[0])


def test_another_entity_may_be_signalled_from_inside(world):
    keys = keys_of(2)
    assert world.output_of(misuse, input=["signal another", keys]) == "allowed"
    until(lambda: world.client.get_entity(accounts(keys)[1]) is not None and balance(world, keys[1]) == 1)
