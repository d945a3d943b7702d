"""What fails, how it fails, and what the client learns of it."""

import pytest
from durabletask.client import OrchestrationFailedError, OrchestrationStatus
from durabletask.task import TaskFailedError, when_all
from world import failure, output


class OutOfStock(Exception):
    """As an application would have one."""

    def __init__(self, part):
        super().__init__(f"no {part} left")


class Opaque:
    """Nothing can serialize this."""

    __slots__ = ()

    def __repr__(self):
        return "something opaque"


def register(worker):
    for orchestrator in (
        fails_itself, lets_it_through, details_of, goes_on, undoes, chained, unregistered, not_a_task,
        opaque_output, opaque_result, opaque_input, raises_another, asks_what_caused_it, fails_at_once,
        assertion,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    for activity in (fail, ship, undo, fail_with_a_cause, fail_with_context, give_opaque, fail_silently):
        worker.add_activity(activity)


def fail(ctx, kind):
    raise {"value": ValueError, "key": KeyError, "stock": OutOfStock}[kind]("bolts")


def ship(ctx, what):
    return f"shipped {what}"


def fails_itself(ctx, _):
    yield ctx.call_activity(ship, input="bolts")
    raise OutOfStock("nuts")


def test_an_exception_of_the_orchestrator_fails_it(world):
    state = world.run(fails_itself)
    details = failure(state)
    assert details.error_type.endswith("test_failure_scenarios.OutOfStock")
    assert (details.message, details.inner_failure) == ("no nuts left", None)
    assert state.serialized_output is None


def fails_at_once(ctx, _):
    raise ValueError("before anything")


def test_an_exception_before_the_first_yield_fails_it(world):
    details = world.failure_of(fails_at_once)
    assert (details.error_type, details.message) == ("builtins.ValueError", "before anything")


def lets_it_through(ctx, kind):
    yield ctx.call_activity(fail, input=kind)


@pytest.mark.parametrize(
    ("kind", "error_type", "message"),
    [
        ("value", "builtins.ValueError", "bolts"),
        ("key", "builtins.KeyError", "'bolts'"),
        ("stock", "test_failure_scenarios.OutOfStock", "no bolts left"),
    ],
)
def test_a_failed_activity_that_nobody_catches_fails_the_orchestration(world, kind, error_type, message):
    state = world.run(lets_it_through, input=kind)
    details = failure(state)
    assert details.error_type == "durabletask.task.TaskFailedError"
    assert details.message == f"{state.instance_id}: Activity task #1 failed: {message}"
    assert details.inner_failure.error_type.endswith(error_type)
    assert details.inner_failure.message == message


def details_of(ctx, kind):
    try:
        yield ctx.call_activity(fail, input=kind)
    except TaskFailedError as error:
        details = error.details
        return [details.error_type, details.message, "in fail" in details.stack_trace, details.inner_failure]


def test_the_orchestrator_sees_the_type_the_message_and_the_place(world):
    assert world.output_of(details_of, input="value") == ["builtins.ValueError", "bolts", True, None]


def asks_what_caused_it(ctx, kind):
    try:
        yield ctx.call_activity(fail, input=kind)
    except TaskFailedError as error:
        causes = [LookupError, KeyError, ValueError, "KeyError", "builtins.KeyError", "ValueError"]
        return [error.details.is_caused_by(cause) for cause in causes]


def test_a_failure_knows_its_kind_by_type_and_by_name(world):
    assert world.output_of(asks_what_caused_it, input="key") == [True, True, False, True, True, False]


def goes_on(ctx, _):
    try:
        yield ctx.call_activity(fail, input="value")
    except TaskFailedError:
        return (yield ctx.call_activity(ship, input="something else"))


def test_after_a_failure_it_goes_on(world):
    assert world.output_of(goes_on) == "shipped something else"


def undo(ctx, what):
    return f"undid {what}"


def undoes(ctx, _):
    done, undone = [], []
    try:
        for what in ("flight", "hotel"):
            yield ctx.call_activity(ship, input=what)
            done.append(what)
        yield ctx.call_activity(fail, input="stock")
    except TaskFailedError as error:
        for what in reversed(done):
            undone.append((yield ctx.call_activity(undo, input=what)))
        return {"undone": undone, "because": error.details.message}


def test_a_saga_undoes_what_was_done_in_reverse(world):
    assert world.output_of(undoes) == {"undone": ["undid hotel", "undid flight"], "because": "no bolts left"}


def fail_with_a_cause(ctx, _):
    try:
        raise ConnectionError("the cable")
    except ConnectionError as error:
        raise RuntimeError("no network") from error


def fail_with_context(ctx, _):
    try:
        {}["missing"]
    except KeyError:
        raise RuntimeError("while looking")  # noqa: B904


def chained(ctx, activity):
    yield ctx.call_activity(activity)


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        (
            "fail_with_a_cause",
            [("builtins.RuntimeError", "no network"), ("builtins.ConnectionError", "the cable")],
        ),
        (
            "fail_with_context",
            [("builtins.RuntimeError", "while looking"), ("builtins.KeyError", "'missing'")],
        ),
    ],
)
def test_the_causes_of_a_failure_are_kept(world, activity, expected):
    details = world.failure_of(chained, input=activity).inner_failure
    chain = []
    while details is not None:
        chain.append((details.error_type, details.message))
        details = details.inner_failure
    assert chain == expected


def raises_another(ctx, _):
    try:
        yield ctx.call_activity(fail, input="value")
    except TaskFailedError as error:
        raise OutOfStock("time") from error


def test_an_exception_raised_for_another_has_it_inside(world):
    details = world.failure_of(raises_another)
    assert details.error_type.endswith("test_failure_scenarios.OutOfStock")
    assert details.inner_failure.error_type == "durabletask.task.TaskFailedError"


def fail_silently(ctx, _):
    raise TimeoutError


@pytest.mark.in_memory_lacks("records an activity that fails with an empty message as completed")
def test_a_failure_without_a_message_is_a_failure(world):
    details = world.failure_of(chained, input="fail_silently")
    assert details.inner_failure.error_type == "builtins.TimeoutError"


def assertion(ctx, _):
    assert ctx.instance_id == "somebody else", "not me"
    yield


def test_a_failed_assertion_is_a_failure(world):
    details = world.failure_of(assertion)
    assert details.error_type == "builtins.AssertionError"
    assert details.message.startswith("not me")


# -- what is missing or wrong


def test_an_orchestrator_that_nobody_registered_fails(world):
    details = world.failure_of("nobody_registered_this")
    assert details.error_type == "durabletask.worker.OrchestratorNotRegisteredError"
    assert details.message == "A 'nobody_registered_this' orchestrator was not registered."


def unregistered(ctx, _):
    try:
        yield ctx.call_activity("nobody_registered_this")
    except TaskFailedError as error:
        return [error.details.error_type, error.details.message]


def test_an_activity_that_nobody_registered_fails(world):
    assert world.output_of(unregistered) == [
        "durabletask.worker.ActivityNotRegisteredError",
        "Activity function named 'nobody_registered_this' was not registered!",
    ]


def not_a_task(ctx, _):
    yield ctx.call_activity(ship, input="bolts")
    yield "something that is no task"


def test_to_yield_what_is_no_task_fails(world):
    details = world.failure_of(not_a_task)
    assert (details.error_type, details.message) == (
        "builtins.TypeError",
        "The orchestrator generator yielded a non-Task object",
    )


def opaque_output(ctx, _):
    return Opaque()


def test_an_output_that_cannot_be_serialized_fails(world):
    details = world.failure_of(opaque_output)
    assert details.error_type.endswith("JsonEncodeOutputException")
    assert details.message.endswith("something opaque")


def give_opaque(ctx, _):
    return Opaque()


def opaque_result(ctx, _):
    yield ctx.call_activity(give_opaque)


def test_a_result_that_cannot_be_serialized_fails_the_activity(world):
    assert world.failure_of(opaque_result).inner_failure.error_type == "builtins.TypeError"


def opaque_input(ctx, _):
    try:
        yield when_all([ctx.call_activity(ship, input=Opaque())])
    except TypeError as error:
        return str(error)


def test_an_input_that_cannot_be_serialized_is_an_error_where_it_is_asked_for(world):
    assert "Failed to serialize object of type 'Opaque'" in world.output_of(opaque_input)


# -- what the client makes of it


def test_a_failed_state_raises_on_request_and_others_do_not(world):
    state = world.run(lets_it_through, input="value")
    with pytest.raises(OrchestrationFailedError, match="bolts") as caught:
        state.raise_if_failed()
    assert caught.value.failure_details == state.failure_details
    world.run(goes_on).raise_if_failed()


def test_a_failed_instance_shows_its_failure_whenever_it_is_looked_at(world):
    state = world.run(lets_it_through, input="key")
    again = world.client.get_orchestration_state(state.instance_id)
    assert (again.runtime_status, again.failure_details) == (
        OrchestrationStatus.FAILED,
        state.failure_details,
    )
    assert output(world.run(goes_on)) == "shipped something else"
