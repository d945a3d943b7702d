"""What a hub says of the common mistakes: in its log, where a failure stays what a worker records."""

import inspect
from datetime import timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.task import when_all, when_any

from dt_testkit import OrchestrationBlocked, ReplayDivergence, TaskHub

ACCOUNT = EntityInstanceId("account", "ana")
SECOND = timedelta(seconds=1)


def charge(ctx, amount):
    return amount


def child(ctx, amount):
    return amount


def account(ctx, amount):
    return amount


@pytest.fixture
def hub():
    hub = TaskHub()
    hub.add_activity(charge)
    hub.add_orchestrator(child)
    hub.add_entity(account)
    return hub


def line_of(function, text):
    """The place of the line of a function that has this text, as messages name it."""
    lines, first = inspect.getsourcelines(function)
    number = next(first + at for at, line in enumerate(lines) if text in line)
    return f"test_hints.py:{number} in {function.__name__}"


# -- a forgotten yield, of which the history does not replay


def writes_a_task_into_its_output(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(SECOND)
    return f"paid with {payment}"


def writes_a_task_into_an_input(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.call_activity(charge, input={"payment": str(payment)})


def writes_a_timer_into_an_event(ctx, amount):
    payment = ctx.create_timer(SECOND)
    yield ctx.create_timer(SECOND)
    ctx.send_event("other", "paid", data=repr([payment]))


@pytest.mark.parametrize(
    ("orchestrator", "what", "call"),
    [
        (writes_a_task_into_its_output, "activity 'charge'", "charge"),
        (writes_a_task_into_an_input, "activity 'charge'", "charge"),
        (writes_a_timer_into_an_event, "a timer until 2026-01-01 00:00:01", "payment = ctx.create_timer"),
    ],
)
def test_a_task_in_the_place_of_its_result_is_named_with_the_line_of_its_call(hub, orchestrator, what, call):
    hub.add_orchestrator(orchestrator)
    with pytest.raises(ReplayDivergence) as caught:
        hub.run(orchestrator, input=5)
    text = str(caught.value)
    assert f"The cause is a 'yield' that is missing: {what}, asked for at " in text
    assert f"{line_of(orchestrator, call)}, is written there as a task, and not as its result." in text
    assert "Way out" not in text


def test_a_group_of_tasks_in_the_place_of_its_results_is_named_without_a_line(hub):
    def group(ctx, _):
        payments = when_all([ctx.call_activity(charge, input=1)])
        yield ctx.create_timer(SECOND)
        return str(payments)

    hub.add_orchestrator(group)
    with pytest.raises(ReplayDivergence, match="missing: what is written there as a task"):
        hub.run(group)


def test_another_object_in_an_output_is_no_forgotten_yield(hub):
    class Order:
        pass

    def ordered(ctx, _):
        yield ctx.create_timer(SECOND)
        kept.append(order := Order())
        return f"{order}"

    kept = []  # so that no two have the same address
    hub.add_orchestrator(ordered)
    with pytest.raises(ReplayDivergence) as caught:
        hub.run(ordered)
    assert "Way out" in str(caught.value)
    assert "missing" not in str(caught.value)


# -- mistakes of which an orchestration fails


def returns_a_task(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(SECOND)
    return payment


def returns_a_task_at_once(ctx, amount):
    return ctx.call_activity(charge, input=amount)


def gives_a_task_as_an_input(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.call_activity(charge, input=payment)


def computes_with_a_task(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(SECOND)
    return payment + 1


def reads_a_task(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(SECOND)
    return payment["id"]


def raises_with_a_task(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    yield ctx.create_timer(SECOND)
    raise ValueError(f"no {payment}")


def delegates_to_a_task(ctx, amount):
    return (yield from ctx.call_activity(charge, input=amount))


def takes_a_result_too_soon(ctx, amount):
    payment = ctx.call_activity(charge, input=amount)
    return payment.get_result()
    yield


def yields_a_list(ctx, amount):
    yield [ctx.call_activity(charge, input=amount)]


def yields_a_list_later(ctx, amount):
    yield ctx.create_timer(SECOND)
    yield [ctx.call_activity(charge, input=amount)]


def yields_a_generator(ctx, amount):
    yield ctx.create_timer(SECOND)
    yield computes_with_a_task(ctx, amount)


def yields_none_later(ctx, amount):
    yield ctx.create_timer(SECOND)
    yield


def sleeps_for_a_number(ctx, amount):
    yield ctx.create_timer(5)


def gathers_a_generator(ctx, amount):
    yield when_all(ctx.call_activity(charge, input=one) for one in range(amount))


def gathers_one_by_one(ctx, amount):
    yield when_all(ctx.create_timer(SECOND), ctx.create_timer(SECOND))


def gathers_a_value(ctx, amount):
    yield when_any([ctx.create_timer(SECOND), amount])


def locks_without_a_yield(ctx, amount):
    with ctx.lock_entities([ACCOUNT]):
        yield ctx.create_timer(SECOND)


def passes_an_input_by_position(ctx, amount):
    yield ctx.call_activity(charge, amount)


def has_no_context(amount):
    return amount


def has_no_input(ctx):
    yield ctx.create_timer(SECOND)


def has_two_inputs(ctx, amount, currency):
    return amount


IS_A_TASK = "a task itself, and not its result, is used there; put 'yield' before it"
NO_LIST = "what it yielded is of type 'list', and no task; yield when_all([...]) of the tasks"
CALLED = "an orchestrator is called with its context and its input"


@pytest.mark.parametrize(
    ("orchestrator", "line", "hint"),
    [
        (returns_a_task, "return payment", IS_A_TASK),
        (returns_a_task_at_once, "def", IS_A_TASK),
        (gives_a_task_as_an_input, "input=payment", IS_A_TASK),
        (computes_with_a_task, "return payment", IS_A_TASK),
        (reads_a_task, "return payment", IS_A_TASK),
        (raises_with_a_task, "raise V", IS_A_TASK),
        (delegates_to_a_task, "yield from", IS_A_TASK),
        (
            takes_a_result_too_soon,
            "get_result",
            "nobody has waited for that task; 'yield' it before its get_",
        ),
        (yields_a_list, "yield [", NO_LIST),
        (yields_a_list_later, "yield [", NO_LIST),
        (yields_a_generator, "yield computes", "of type 'generator', and no task; delegate to a generator"),
        (
            yields_none_later,
            "    yield\n",
            "of type 'NoneType', and no task; yield what its context returns",
        ),
        (
            sleeps_for_a_number,
            "create_timer",
            "takes a timedelta or a datetime, such as timedelta(seconds=5)",
        ),
        (
            gathers_a_generator,
            "when_all",
            "when_all() was given a generator; give it a list: when_all([...])",
        ),
        (gathers_one_by_one, "when_all", "it takes one list of tasks: when_all([...])"),
        (gathers_a_value, "when_any", "when_all() and when_any() take tasks alone"),
        (locks_without_a_yield, "    with", "write 'with (yield ctx.lock_entities([...])):'"),
        (passes_an_input_by_position, "call_activity", "the input is passed by its name: input=..."),
        (has_no_context, "def", f"{CALLED}; write 'def has_no_context(ctx, amount)'"),
        (has_no_input, "def", f"{CALLED}; write 'def has_no_input(ctx, _)'"),
        (has_two_inputs, "def", f"{CALLED}, and no more; put what it takes into one input"),
    ],
)
def test_a_plain_mistake_is_logged_once_with_its_line_and_the_way_out(hub, caplog, orchestrator, line, hint):
    hub.add_orchestrator(orchestrator)
    failed = hub.run(orchestrator, input=5)
    assert failed.status is OrchestrationStatus.FAILED
    assert len(caplog.messages) == 1
    assert f"{line_of(orchestrator, line)}: " in caplog.text
    assert hint in caplog.text
    assert hint not in failed.failure.message  # which is the worker's


def test_an_orchestrator_that_nobody_registered_is_named_with_the_way_out(hub, caplog):
    hub.run(computes_with_a_task, input=5)
    assert "call hub.add_orchestrator(computes_with_a_task) before you start it" in caplog.text


def test_an_activity_that_cannot_be_called_is_named_with_the_way_out(hub, caplog):
    def refund(amount):
        return amount

    def refunds(ctx, amount):
        return (yield ctx.call_activity(refund, input=amount))

    hub.add_activity(refund)
    hub.add_orchestrator(refunds)
    assert "takes 1 positional argument but 2 were given" in hub.run(refunds, input=5).failure.message
    assert (
        "an activity is called with its context and its input; write 'def refund(ctx, amount)'" in caplog.text
    )


def test_a_list_that_is_yielded_first_with_nothing_to_come_is_told_by_what_waits(hub):
    def waits_for_an_empty_list(ctx, _):
        yield []

    hub.add_orchestrator(waits_for_an_empty_list)
    with pytest.raises(OrchestrationBlocked, match=r"yield when_all\(\[...\]\) of the tasks"):
        hub.run(waits_for_an_empty_list)


# -- failures that say enough


def has_an_error_of_its_own(ctx, amount):
    yield ctx.create_timer(SECOND)
    return amount.utcoffset()


def cancels_an_activity(ctx, amount):
    ctx.call_activity(charge, input=amount).cancel()
    yield


def fails_in_a_child(ctx, amount):
    yield ctx.call_sub_orchestrator("raises_with_a_task", input=amount)


def measures_a_generator(ctx, amount):
    yield ctx.create_timer(SECOND)
    return len(one for one in range(amount))


def calls_a_helper_wrongly(ctx, amount):
    yield ctx.create_timer(SECOND)
    charge(amount)


@pytest.mark.parametrize(
    "orchestrator",
    [has_an_error_of_its_own, cancels_an_activity, measures_a_generator, calls_a_helper_wrongly],
)
def test_a_failure_of_another_kind_is_not_explained(hub, caplog, orchestrator):
    hub.add_orchestrator(orchestrator)
    assert hub.run(orchestrator, input=5).failure is not None
    assert caplog.messages == []


def test_a_mistake_in_a_child_is_told_of_the_child_alone(hub, caplog):
    hub.add_orchestrator(fails_in_a_child)
    hub.add_orchestrator(raises_with_a_task)
    assert "durabletask.task.CompletableTask" in hub.run(fails_in_a_child, input=5).failure.message
    assert len(caplog.messages) == 1
    assert "(raises_with_a_task) failed with ValueError" in caplog.text


def test_an_activity_that_raises_a_type_error_of_its_own_is_not_explained(hub, caplog):
    def adds(ctx, amount):
        return amount + "1"

    def calls(ctx, amount):
        yield ctx.call_activity(adds, input=amount)

    hub.add_activity(adds)
    hub.add_orchestrator(calls)
    assert hub.run(calls, input=5).failure is not None
    assert caplog.messages == []


# -- an orchestrator without a yield


def asks_for_an_activity(ctx, amount):
    ctx.call_activity(charge, input=amount)
    return "done"


def asks_for_a_timer(ctx, amount):
    ctx.create_timer(SECOND)


def asks_for_a_child(ctx, amount):
    ctx.call_sub_orchestrator(child, input=amount)


def asks_for_an_event(ctx, amount):
    ctx.wait_for_external_event("approval")


@pytest.mark.parametrize("orchestrator", [asks_for_an_activity, asks_for_a_timer, asks_for_an_event])
def test_an_orchestrator_without_a_yield_that_asks_for_something_is_logged(hub, caplog, orchestrator):
    hub.add_orchestrator(orchestrator)
    assert hub.run(orchestrator, input=5).status is OrchestrationStatus.COMPLETED
    assert len(caplog.messages) == 1
    assert "completed and waited for nothing that it asked for" in caplog.text
    assert line_of(orchestrator, "    ctx.") in caplog.text
    assert "for it has no 'yield': write one before each call" in caplog.text


def test_an_orchestrator_without_a_yield_that_starts_a_child_is_not_logged(hub, caplog):
    hub.add_orchestrator(asks_for_a_child)
    assert hub.run(asks_for_a_child, input=5).status is OrchestrationStatus.COMPLETED
    assert caplog.messages == []


def only_signals(ctx, amount):
    ctx.signal_entity(ACCOUNT, "deposit", amount)
    ctx.send_event("other", "paid")
    return "done"


def lets_go_of_its_last_call(ctx, amount):
    yield ctx.create_timer(SECOND)
    ctx.call_activity(charge, input=amount)


def returns_a_generator(ctx, amount):
    return lets_go_of_its_last_call(ctx, amount)


def continues_without_a_yield(ctx, amount):
    if amount:
        ctx.call_sub_orchestrator(child, input=amount)
        ctx.continue_as_new(amount - 1)


@pytest.mark.parametrize(
    "orchestrator",
    [only_signals, lets_go_of_its_last_call, returns_a_generator, continues_without_a_yield, child],
)
def test_what_is_let_go_of_on_purpose_is_not_logged(hub, caplog, orchestrator):
    if orchestrator is not child:
        hub.add_orchestrator(orchestrator)
    assert hub.run(orchestrator, input=1).status is OrchestrationStatus.COMPLETED
    assert caplog.messages == []
