"""Events from outside and from other orchestrations."""

from dataclasses import dataclass

import grpc
import pytest
from durabletask.history import EventSentEvent
from durabletask.task import when_all, when_any
from world import failure, output, refused, unique


@dataclass
class Approval:
    approver: str
    amount: int


def register(worker):
    for orchestrator in (
        wait, collect, decide, busy, choose, given_up, tell, tell_wrongly, ping, pong, any_case,
        both_at_once,
    ):  # fmt: skip
        worker.add_orchestrator(orchestrator)
    worker.add_activity(work)


def work(ctx, value):
    return value


def wait(ctx, name):
    return (yield ctx.wait_for_external_event(name))


def test_an_event_carries_data(world):
    instance_id = world.start(wait, input="go")
    world.client.raise_orchestration_event(instance_id, "go", data={"by": ["ana"]})
    assert output(world.finish(instance_id)) == {"by": ["ana"]}


def test_an_event_without_data_is_none(world):
    instance_id = world.start(wait, input="go")
    world.client.raise_orchestration_event(instance_id, "go")
    assert output(world.finish(instance_id)) is None


def test_an_event_that_comes_before_the_orchestration_starts_is_kept(world):
    instance_id = world.client.schedule_new_orchestration(wait, input="go")
    world.client.raise_orchestration_event(instance_id, "go", data="early")
    assert output(world.finish(instance_id)) == "early"


def collect(ctx, count):
    seen = []
    for _ in range(count):
        seen.append((yield ctx.wait_for_external_event("item")))
    return seen


def test_events_of_one_name_come_in_the_order_of_raising(world):
    instance_id = world.start(collect, input=6)
    for number in range(6):
        world.client.raise_orchestration_event(instance_id, "item", data=number)
    assert output(world.finish(instance_id)) == [0, 1, 2, 3, 4, 5]


def decide(ctx, _):
    approval = yield ctx.wait_for_external_event("approval", data_type=Approval)
    return [type(approval).__name__, approval.approver, approval.amount]


def test_an_event_arrives_as_the_type_that_is_asked_for(world):
    instance_id = world.start(decide)
    world.client.raise_orchestration_event(instance_id, "approval", data=Approval("ana", 7))
    assert output(world.finish(instance_id)) == ["Approval", "ana", 7]


def any_case(ctx, _):
    return [(yield ctx.wait_for_external_event("Approval")), (yield ctx.wait_for_external_event("approval"))]


def test_the_case_of_a_name_does_not_matter(world):
    instance_id = world.start(any_case)
    world.client.raise_orchestration_event(instance_id, "APPROVAL", data=1)
    world.client.raise_orchestration_event(instance_id, "aPPROVAL", data=2)
    assert output(world.finish(instance_id)) == [1, 2]


def busy(ctx, _):
    yield ctx.wait_for_external_event("start")
    done = yield when_all([ctx.call_activity(work, input=n) for n in range(5)])
    return [done, (yield ctx.wait_for_external_event("late"))]


def test_an_event_nobody_waits_for_yet_is_buffered(world):
    instance_id = world.start(busy)
    world.client.raise_orchestration_event(instance_id, "late", data="kept")
    world.client.raise_orchestration_event(instance_id, "start")
    assert output(world.finish(instance_id)) == [[0, 1, 2, 3, 4], "kept"]


def choose(ctx, _):
    tasks = {name: ctx.wait_for_external_event(name) for name in ("yes", "no")}
    winner = yield when_any(list(tasks.values()))
    return [name for name, task in tasks.items() if task is winner]


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_whichever_event_comes_first(world, answer):
    instance_id = world.start(choose)
    world.client.raise_orchestration_event(instance_id, answer)
    assert output(world.finish(instance_id)) == [answer]


def both_at_once(ctx, _):
    first, second = ctx.wait_for_external_event("item"), ctx.wait_for_external_event("item")
    return (yield when_all([first, second]))


def test_two_waits_for_one_name_are_served_in_turn(world):
    instance_id = world.start(both_at_once)
    world.client.raise_orchestration_event(instance_id, "item", data="first")
    world.client.raise_orchestration_event(instance_id, "item", data="second")
    assert output(world.finish(instance_id)) == ["first", "second"]


def given_up(ctx, _):
    abandoned = ctx.wait_for_external_event("item")
    yield ctx.call_activity(work)
    abandoned.cancel()
    ctx.set_custom_status("given up")
    received = yield ctx.wait_for_external_event("item")
    return [abandoned.is_cancelled, received]


def test_a_wait_that_was_cancelled_takes_no_event(world):
    instance_id = world.start(given_up)
    world.until_status(instance_id, "given up")
    world.client.raise_orchestration_event(instance_id, "item", data="mine")
    assert output(world.finish(instance_id)) == [True, "mine"]


def test_an_event_for_what_has_ended_is_ignored(world):
    instance_id = world.start(wait, input="go")
    world.client.raise_orchestration_event(instance_id, "go", data=1)
    ended = world.finish(instance_id)
    world.client.raise_orchestration_event(instance_id, "go", data=2)
    state = world.client.get_orchestration_state(instance_id)
    assert (state.runtime_status, state.get_output()) == (ended.runtime_status, 1)


def test_an_event_for_nobody_is_refused(world):
    with refused(grpc.StatusCode.NOT_FOUND):
        world.client.raise_orchestration_event(unique("nobody"), "go")


# -- from one orchestration to another


def tell(ctx, to):
    ctx.send_event(to, "Go", data={"from": ctx.instance_id})
    yield ctx.call_activity(work)
    return "told"


def test_an_orchestration_sends_another_an_event(world):
    receiver = world.start(wait, input="go")
    sender = world.run(tell, input=receiver)
    assert output(sender) == "told"
    assert output(world.finish(receiver)) == {"from": sender.instance_id}
    events = world.client.get_orchestration_history(sender.instance_id)
    sent = [event for event in events if isinstance(event, EventSentEvent)]
    assert [(event.instance_id, event.name) for event in sent] == [(receiver, "Go")]


def test_an_event_sent_to_nobody_is_dropped(world):
    assert world.output_of(tell, input=unique("nobody")) == "told"


def tell_wrongly(ctx, to):
    ctx.send_event(*to)
    yield ctx.call_activity(work)


@pytest.mark.parametrize(
    ("to", "message"),
    [
        (["", "go"], "instance_id cannot be empty"),
        (["somebody", " "], "event_name cannot be empty"),
        (["@counter@1", "go"], "Instance IDs starting with '@' are reserved for entities"),
    ],
)
def test_an_event_needs_a_name_and_an_orchestration_to_go_to(world, to, message):
    details = failure(world.run(tell_wrongly, input=to))
    assert details.error_type == "builtins.ValueError"
    assert details.message.startswith(message)


def ping(ctx, other):
    heard = []
    for number in range(3):
        ctx.send_event(other, "ping", data=number)
        heard.append((yield ctx.wait_for_external_event("pong")))
    return heard


def pong(ctx, _):
    other = yield ctx.wait_for_external_event("opponent")
    for _ in range(3):
        ball = yield ctx.wait_for_external_event("ping")
        ctx.send_event(other, "pong", data=ball * 10)


def test_two_orchestrations_talk_to_each_other(world):
    second = world.start(pong)
    first = world.start(ping, input=second)
    world.client.raise_orchestration_event(second, "opponent", data=first)
    assert output(world.finish(first)) == [0, 10, 20]
    assert output(world.finish(second)) is None
