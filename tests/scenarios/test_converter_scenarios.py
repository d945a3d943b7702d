"""Workers and clients with settings of their own: converters, properties of exceptions, payload stores."""

import json
from decimal import Decimal

import pytest
from durabletask import ExceptionPropertiesProvider
from durabletask.entities import EntityInstanceId
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.serialization import DataConverter
from durabletask.task import TaskFailedError
from world import failure, output, unique


class Exact(DataConverter):
    """Numbers as decimals, and a mark that shows who wrote a payload."""

    def serialize(self, value):
        return None if value is None else "exact:" + json.dumps(value, default=str)

    def deserialize(self, data, target_type=None):
        if not data:
            return None
        assert data.startswith("exact:"), data
        return self.coerce(json.loads(data[6:], parse_float=Decimal), target_type)

    def coerce(self, value, target_type=None):
        return target_type(value) if target_type is Decimal and value is not None else value

    def can_reconstruct(self, target_type):
        return target_type is Decimal


class WithCode(Exception):
    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


class Properties(ExceptionPropertiesProvider):
    def get_exception_properties(self, exception):
        return {"code": exception.code, "retry": False} if isinstance(exception, WithCode) else None


class Shelf(PayloadStore):
    """A payload store in memory."""

    def __init__(self):
        self.kept = {}

    @property
    def options(self):
        return LargePayloadStorageOptions(threshold_bytes=1000, max_stored_payload_bytes=100_000)

    def upload(self, data, *, instance_id=None):
        token = f"shelf:{len(self.kept)}"
        self.kept[token] = data
        return token

    async def upload_async(self, data, *, instance_id=None):
        return self.upload(data)

    def download(self, token):
        return self.kept[token]

    async def download_async(self, token):
        return self.download(token)

    def is_known_token(self, value):
        return value.startswith("shelf:")


EXACT, PROPERTIES, SHELF = Exact(), Properties(), Shelf()


def register(worker):
    for orchestrator in (tax, says, waits_for_a_price, keeps, refuses, catches, enlarges):
        worker.add_orchestrator(orchestrator)
    for activity in (add_tax, refuse, enlarge):
        worker.add_activity(activity)
    worker.add_entity(till)


exactly = pytest.mark.application(register=register, data_converter=EXACT)
with_properties = pytest.mark.application(register=register, exception_properties_provider=PROPERTIES)
with_a_store = pytest.mark.application(register=register, payload_store=SHELF)


def add_tax(ctx, amount: Decimal) -> Decimal:
    assert isinstance(amount, Decimal)
    return amount * Decimal("1.19")


def tax(ctx, amount: Decimal):
    taxed = yield ctx.call_activity(add_tax, input=amount)
    assert isinstance(taxed, Decimal)
    return taxed


@exactly
def test_inputs_and_results_go_through_the_converter(world):
    state = world.run(tax, input=Decimal("0.10"))
    assert (state.serialized_input, state.serialized_output) == ('exact:"0.10"', 'exact:"0.1190"')
    assert state.get_output(Decimal) == Decimal("0.1190")


def says(ctx, status):
    ctx.set_custom_status(status)
    return status


@exactly
def test_custom_statuses_go_through_the_converter(world):
    state = world.run(says, input={"price": Decimal("1.5")})
    assert state.serialized_custom_status == 'exact:{"price": "1.5"}'
    assert state.get_custom_status() == {"price": "1.5"}


def waits_for_a_price(ctx, _):
    price = yield ctx.wait_for_external_event("price", data_type=Decimal)
    return [type(price).__name__, price]


@exactly
def test_events_go_through_the_converter(world):
    instance_id = world.start(waits_for_a_price)
    world.client.raise_orchestration_event(instance_id, "price", data=Decimal("9.99"))
    assert output(world.finish(instance_id)) == ["Decimal", "9.99"]


@exactly
def test_the_output_of_a_termination_goes_through_the_converter(world):
    instance_id = world.start(waits_for_a_price)
    world.client.terminate_orchestration(instance_id, output=1)
    assert world.finish(instance_id).serialized_output == "exact:1"


def till(ctx, amount):
    total = ctx.get_state(Decimal, Decimal(0)) + Decimal(amount)
    ctx.set_state(total)
    return total


def keeps(ctx, key):
    yield ctx.call_entity(EntityInstanceId("till", key), "add", "0.1")
    return (yield ctx.call_entity(EntityInstanceId("till", key), "add", "0.2", return_type=Decimal))


@exactly
def test_the_state_of_an_entity_goes_through_the_converter(world):
    key = unique("till")
    assert world.output_of(keeps, input=key) == "0.3"
    entity = world.client.get_entity(EntityInstanceId("till", key))
    assert entity.get_state() == 'exact:"0.3"'
    assert entity.get_typed_state(Decimal) == Decimal("0.3")


def refuse(ctx, code):
    raise WithCode("declined", code)


def refuses(ctx, code):
    yield ctx.call_activity(refuse, input=code)


@with_properties
def test_a_failure_carries_the_properties_of_its_exception(world):
    details = failure(world.run(refuses, input="E51")).inner_failure
    assert (details.message, details.properties) == ("declined", {"code": "E51", "retry": False})


def catches(ctx, code):
    try:
        yield ctx.call_activity(refuse, input=code)
    except TaskFailedError as error:
        return error.details.properties["code"]


@with_properties
def test_an_orchestrator_can_read_the_properties_of_a_failure(world):
    assert world.output_of(catches, input=42) == 42


def test_without_a_provider_a_failure_has_no_properties(world):
    assert failure(world.run(refuses, input="E51")).inner_failure.properties is None


def enlarge(ctx, text):
    return text * 10


def enlarges(ctx, text):
    return (yield ctx.call_activity(enlarge, input=text))


@with_a_store
def test_large_payloads_are_kept_elsewhere(world):
    before = len(SHELF.kept)
    state = world.run(enlarges, input="0123456789" * 200)
    assert state.get_output() == "0123456789" * 2000
    assert state.get_input() == "0123456789" * 200
    assert len(SHELF.kept) > before


@with_a_store
def test_payloads_that_are_too_large_for_the_store_are_refused(world):
    with pytest.raises(ValueError, match="100000"):
        world.client.schedule_new_orchestration(enlarges, input=100_000 * "x")


@with_a_store
def test_small_payloads_are_not(world):
    before = len(SHELF.kept)
    assert world.output_of(enlarges, input="x") == 10 * "x"
    assert len(SHELF.kept) == before
