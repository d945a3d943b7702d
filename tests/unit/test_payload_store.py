"""Large payloads in a store: tokens in the histories, values for everybody who looks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from durabletask import history as h
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.serialization import JsonDataConverter
from durabletask.task import TaskFailedError
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import DurableTestError, History, TaskHub, replay
from dt_testkit.backends import _LOGGER, _in_memory_backend

THRESHOLD = 300
LIMIT = 5000


class MemoryStore(PayloadStore):
    def __init__(self):
        self.kept = {}
        self.owners = []
        self.downloads = 0

    options = LargePayloadStorageOptions(threshold_bytes=THRESHOLD, max_stored_payload_bytes=LIMIT)

    def upload(self, data, *, instance_id=None):
        token = f"store:{len(self.kept)}"
        self.kept[token] = data.decode()
        self.owners.append(instance_id)
        return token

    async def upload_async(self, data, *, instance_id=None):
        return self.upload(data, instance_id=instance_id)

    def download(self, token):
        self.downloads += 1
        return self.kept[token].encode()

    async def download_async(self, token):
        return self.download(token)

    def is_known_token(self, value):
        return value.startswith("store:")


@dataclass
class Book:
    title: str
    text: str


def large(letter):
    return letter * (THRESHOLD + 1)


def is_large(text):
    return len(text) > THRESHOLD


ARCHIVE = EntityInstanceId("archive", "main")


class Archive(DurableEntity):
    def add(self, text):
        self.set_state([*self.get_state(list, []), text])
        return text.upper()

    def pass_on(self, text):
        self.signal_entity(ARCHIVE, "add", text)
        self.schedule_new_orchestration("child", text, instance_id="started")


def shout(ctx, book: Book) -> Book:
    assert is_large(book.text)
    return Book(book.title, book.text.upper())


def child(ctx, text):
    yield ctx.create_timer(timedelta(seconds=1))
    return text + "!"


def everything(ctx, book: Book):
    """Large payloads in each place that has one; the second generation keeps an event of the first."""
    assert is_large(book.text)
    if book.title == "second":
        kept = yield ctx.wait_for_external_event("later")
        return [book.text[0], kept]
    ctx.set_custom_status(large("s"))
    loud = yield ctx.call_activity(shout, input=book)
    assert loud.text == book.text.upper()
    assert (yield ctx.call_sub_orchestrator(child, input=large("c"))) == large("c") + "!"
    event = yield ctx.wait_for_external_event("page", data_type=Book)
    assert event == Book("page", large("p"))
    assert (yield ctx.call_entity(ARCHIVE, "add", large("e"))) == large("E")
    ctx.signal_entity(ARCHIVE, "add", large("g"))
    yield ctx.call_entity(EntityInstanceId("archive", "copy"), "pass_on", large("q"))
    ctx.continue_as_new(Book("second", large("n")), save_events=True)


def register(worker):
    for orchestrator in (everything, child):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(shout)
    worker.add_entity(Archive, "archive")


def play(client):
    """One run of ``everything`` with a client: the state it ends in."""
    instance_id = client.schedule_new_orchestration(
        everything, input=Book("first", large("b")), instance_id="it"
    )
    client.raise_orchestration_event(instance_id, "page", data=Book("page", large("p")))
    client.raise_orchestration_event(instance_id, "later", data=large("l"))
    return client.wait_for_orchestration_completion(instance_id, timeout=20)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def hub(store):
    hub = TaskHub(payload_store=store, check_replay="turn")
    register(hub)
    return hub


def test_everybody_sees_the_values_and_the_histories_hold_the_tokens(hub, store):
    state = play(hub.client)
    instance = hub.instance("it")
    assert state.get_output() == instance.output == ["n", large("l")]
    assert instance.get_output(list) == ["n", large("l")]
    assert instance.input == Book("second", large("n"))
    assert instance._input.startswith("store:")
    archived = [large(letter) for letter in "egq"]
    assert hub.entity(ARCHIVE).state == archived
    assert hub.client.get_entity(ARCHIVE).get_typed_state(list) == archived
    assert hub.instance("started").wait().output == large("q") + "!"
    assert hub.instance("started")._input.startswith("store:")
    for history in (history for one in hub.instances for history in one.histories):
        assert not is_large(max(history.dumps(".jsonl").decode().split('"'), key=len))
        assert large("l") not in str(history)
        assert replay(history, hub).ok
        assert replay(history, hub).worker_outcome == "accepts"


def test_a_real_worker_and_client_put_the_same_payloads_into_the_store(hub, store):
    state = play(hub.client)
    hub.client.wait_for_orchestration_completion("started")
    real = MemoryStore()
    with _in_memory_backend() as address:
        worker = TaskHubGrpcWorker(host_address=address, logger=_LOGGER, payload_store=real)
        client = TaskHubGrpcClient(host_address=address, logger=_LOGGER, payload_store=real)
        register(worker)
        worker.start()
        try:
            real_state = play(client)
            client.wait_for_orchestration_completion("started", timeout=20)
        finally:
            worker.stop()
            client.close()
    assert real_state.get_output() == state.get_output()
    assert set(real.kept.values()) == set(store.kept.values())
    assert set(real.owners) == set(store.owners)
    assert set(store.owners) == {"it", "it:0002", "started", "@archive@main", "@archive@copy"}


def test_the_client_puts_away_and_fetches_by_itself(hub, store):
    def echo(ctx, text):
        ctx.set_custom_status(text)
        return (yield ctx.wait_for_external_event("on"))

    hub.add_orchestrator(echo)
    client = hub.client
    instance_id = client.schedule_new_orchestration(echo, input=large("i"))
    assert hub.instance(instance_id)._input == "store:0"
    state = client.get_orchestration_state(instance_id)
    assert state.get_custom_status() == hub.instance(instance_id).custom_status == large("i")
    assert hub.instance(instance_id)._custom_status == "store:1"
    client.terminate_orchestration(instance_id, output=large("t"))
    assert client.wait_for_orchestration_completion(instance_id).get_output() == large("t")
    events = client.get_orchestration_history(instance_id)
    assert [e.input for e in events if isinstance(e, h.ExecutionStartedEvent)] == [f'"{large("i")}"']
    client.signal_entity(ARCHIVE, "add", large("a"))
    hub.settle()
    assert hub.entity(ARCHIVE).state == [large("a")]
    assert set(store.kept.values()) == {f'"{large(c)}"' for c in "itaA"} | {f'["{large("a")}"]'}


def test_the_asynchronous_client_does_too(hub):
    async def ask():
        client = hub.async_client
        instance_id = await client.schedule_new_orchestration(child, input=large("x"))
        state = await client.wait_for_orchestration_completion(instance_id, timeout=60)
        return state.get_output()

    assert asyncio.run(ask()) == large("x") + "!"


def test_instances_put_away_what_a_test_gives_them(hub, store):
    def echo(ctx, text):
        assert is_large(text)
        return (yield ctx.wait_for_external_event("on")) == large("r")

    hub.add_orchestrator(echo)
    one, other = hub.start(echo, input=large("i")), hub.start(echo, input=large("j"), instance_id="other")
    one.raise_event("on", large("r"))
    other.terminate(large("t"))
    hub.settle()
    assert (one.output, other.output) == (True, large("t"))
    assert one.input == large("i")
    assert [(text[1], owner) for text, owner in zip(store.kept.values(), store.owners, strict=True)] == [
        ("i", one.instance_id),
        ("j", "other"),
        ("r", one.instance_id),
        ("t", "other"),
    ]


def test_what_is_small_stays_where_it_is(hub, store):
    assert hub.run(child, input="x" * (THRESHOLD - 3)).output == "x" * (THRESHOLD - 3) + "!"
    assert store.kept == {}  # with its quotes the output has as many bytes as the threshold allows
    hub.run(child, input="x" * (THRESHOLD - 2))
    assert list(store.kept.values()) == [f'"{"x" * (THRESHOLD - 2)}!"']


def test_stubs_and_what_is_waited_for_show_values(hub):
    book = Book("first", large("b"))
    stub = hub.stub(shout, return_value=Book("first", large("B")), duration=timedelta(hours=1))
    instance = hub.start(everything, input=book)
    hub.settle()
    assert [operation.input for operation in instance.waiting_for] == [book]
    hub.advance(timedelta(hours=1))
    assert [call.input for call in stub.calls] == [book]
    assert [operation.input for operation in instance.waiting_for] == [large("c")]


def test_a_retried_activity_is_given_its_payload_again(hub):
    from durabletask.task import RetryPolicy

    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)

    def persistent(ctx, text):
        return (yield ctx.call_activity("try", input=text, retry_policy=policy))

    hub.add_orchestrator(persistent)
    tried = hub.stub("try", side_effect=[OSError("no"), OSError("no"), large("y")])
    assert hub.run(persistent, input=large("x")).output == large("y")
    assert [call.input for call in tried.calls] == [large("x")] * 3


def test_stack_traces_are_put_away_and_fetched(hub, store):
    def deep(ctx, depth):
        if depth:
            return deep(ctx, depth - 1)
        raise ValueError("too deep")

    def caught(ctx, _):
        try:
            yield ctx.call_activity(deep, input=10)
        except TaskFailedError as error:
            return error.details.stack_trace
        return None

    def uncaught(ctx, _):
        yield ctx.call_activity(deep, input=10)

    hub.add_activity(deep)
    for orchestrator in (caught, uncaught):
        hub.add_orchestrator(orchestrator)
    instance = hub.run(caught)
    [failed] = [e for e in instance.history.events if isinstance(e, h.TaskFailedEvent)]
    assert failed.failure_details.stack_trace.startswith("store:")
    assert instance.output.count("return deep(ctx, depth - 1)") == 10
    failure = hub.run(uncaught).failure
    assert failure.inner_failure.stack_trace == instance.output
    client = hub.client
    state = client.get_orchestration_state(hub.instances[-1].instance_id)
    assert state.failure_details.stack_trace == failure.stack_trace
    assert not failure.stack_trace.startswith("store:")


def test_replay_compares_values_and_not_tokens(hub, store):
    play(hub.client)
    history = hub.instance("it").histories[0]
    again = MemoryStore()
    again.kept = {f"store:{n}": text for n, text in enumerate(store.kept.values())}
    assert replay(history, everything, payload_store=again).ok
    assert len(again.kept) == len(store.kept)  # a replay puts nothing into the store

    def changed(ctx, book: Book):
        book = replace(book, text=book.text.replace("b", "d"))
        return (yield from everything(ctx, book))

    divergence = replay(history, changed, payload_store=store).divergences[0]
    assert (divergence.kind, divergence.field) == ("changed", "input")
    assert divergence.expected == {"title": "first", "text": large("b")}
    assert divergence.actual == {"title": "first", "text": large("d")}


def test_without_the_store_the_tokens_are_all_that_replay_can_see(hub):
    play(hub.client)
    history = hub.instance("it").histories[0]
    assert not replay(history, everything).ok


def test_the_order_of_steps_is_compared_by_value(hub):
    def two(ctx, letters):
        for letter in letters:
            ctx.call_activity("keep", input=large(letter))
        yield ctx.create_timer(timedelta(seconds=1))

    def turned_round(ctx, letters):
        return (yield from two(ctx, letters[::-1]))

    hub.add_orchestrator(two)
    hub.stub("keep")
    history = hub.run(two, input="ab").history
    [divergence] = replay(history, turned_round, payload_store=hub.payload_store).divergences
    assert divergence.kind == "order"


def test_a_history_in_a_file_is_replayed_with_the_store(hub, tmp_path):
    play(hub.client)
    path = tmp_path / "it.history.json"
    hub.instance("it").history.save(path)
    assert large("n") not in path.read_text()
    assert replay(History.load(path), hub).ok


def test_after_a_crash_the_next_worker_fetches_the_payloads(hub):
    instance = hub.start(everything, input=Book("first", large("b")))
    hub.advance(timedelta(seconds=1))
    hub.crash_worker()
    instance.raise_event("page", Book("page", large("p")))
    instance.raise_event("later", "on")
    assert instance.wait().output == ["n", "on"]


def test_the_converter_sees_the_text_and_never_a_token(store):
    class Reversing(JsonDataConverter):
        def serialize(self, value):
            return (super().serialize(value) or "")[::-1] or None

        def deserialize(self, data, target_type=None):
            assert not data.startswith("store:")
            return super().deserialize(data[::-1], target_type)

    hub = TaskHub(payload_store=store, data_converter=Reversing(), check_replay="turn")
    register(hub)
    assert play(hub.client).get_output() == ["n", large("l")]
    assert replay(hub.instance("it").histories[0], hub).ok
    assert replay(hub.instance("it").histories[0], hub).worker_outcome == "accepts"


# -- what the store does not take or give


def too_large(ctx, where):
    if where == "activity":
        return (yield ctx.call_activity("make"))
    if where == "entity":
        return (yield ctx.call_entity(EntityInstanceId("maker", "it"), "make"))
    if where == "status":
        ctx.set_custom_status("x" * LIMIT)
    return "x" * LIMIT


def maker(ctx, _):
    return "x" * LIMIT


@pytest.mark.parametrize("where", ["activity", "entity", "status", "output"])
def test_an_answer_that_is_too_large_is_told_for_a_worker_would_never_deliver_it(hub, where):
    hub.add_orchestrator(too_large)
    hub.stub("make", return_value="x" * LIMIT)
    hub.add_entity(maker)
    with pytest.raises(DurableTestError, match=r"does not take a payload of 5002 .*its answer never arrives"):
        hub.run(too_large, input=where)
    assert hub.instances[0].status in (OrchestrationStatus.RUNNING, OrchestrationStatus.PENDING)


def test_an_input_that_is_too_large_is_refused_as_by_the_client(hub):
    for start in (hub.start, hub.client.schedule_new_orchestration):
        with pytest.raises(ValueError, match="exceeds the maximum allowed size of 5000 bytes"):
            start(child, input="x" * LIMIT)
    assert hub.instances == []


def test_a_payload_that_the_store_has_lost_is_told(hub, store):
    instance = hub.start(child, input=large("c"))
    store.kept.clear()
    with pytest.raises(DurableTestError, match=r"does not give out what token 'store:0' .* never goes on"):
        hub.settle()
    assert instance.failure is None
