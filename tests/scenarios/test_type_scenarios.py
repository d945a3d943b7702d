"""Values of the application's own types, through the SDK's converter."""

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace

from durabletask.task import when_all


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Item:
    name: str
    price: float
    size: Size = Size.SMALL


@dataclass
class Basket:
    owner: str
    items: list[Item] = field(default_factory=list)
    note: str | None = None


class Money:
    """A type that says itself how it is written and read."""

    def __init__(self, cents):
        self.cents = cents

    def to_json(self):
        return f"{self.cents / 100:.2f} EUR"

    @classmethod
    def from_json(cls, text):
        return cls(round(float(text.split()[0]) * 100))


Point = namedtuple("Point", "x y")


def register(worker):
    for orchestrator in (
        price_basket,
        adds_money,
        plain,
        asks_for_a_type,
        coerced,
        untyped,
        tuples,
        optional,
    ):
        worker.add_orchestrator(orchestrator)
    for activity in (price_item, add_a_cent, describe, move, raise_price, nothing_or_item):
        worker.add_activity(activity)


def price_item(ctx, item: Item) -> float:
    assert isinstance(item.size, Size)
    return item.price * (2 if item.size is Size.LARGE else 1)


def price_basket(ctx, basket: Basket):
    assert all(isinstance(item, Item) for item in basket.items)
    prices = yield when_all([ctx.call_activity(price_item, input=item) for item in basket.items])
    return Basket(basket.owner, [Item("all of it", sum(prices), Size.LARGE)], note="priced")


def test_dataclasses_within_dataclasses(world):
    basket = Basket("ana", [Item("desk", 100.0), Item("shelf", 40.0, Size.LARGE)])
    state = world.run(price_basket, input=basket)
    assert state.get_output(Basket) == Basket("ana", [Item("all of it", 180.0, Size.LARGE)], "priced")
    assert state.get_input(Basket) == basket


def test_without_a_type_the_client_sees_plain_data(world):
    state = world.run(price_basket, input=Basket("ana", [Item("desk", 2.5)]))
    assert state.get_input() == {
        "owner": "ana",
        "items": [{"name": "desk", "price": 2.5, "size": "s"}],
        "note": None,
    }
    assert state.get_output()["items"] == [{"name": "all of it", "price": 2.5, "size": "l"}]


def add_a_cent(ctx, money: Money) -> Money:
    return Money(money.cents + 1)


def adds_money(ctx, money: Money):
    return (yield ctx.call_activity(add_a_cent, input=money))


def test_a_type_that_writes_and_reads_itself(world):
    state = world.run(adds_money, input=Money(199))
    assert (state.serialized_input, state.serialized_output) == ('"1.99 EUR"', '"2.00 EUR"')
    assert state.get_output(Money).cents == 200


def describe(ctx, value):
    return [type(value).__name__, value]


def plain(ctx, _):
    return (yield ctx.call_activity(describe, input=Item("desk", 1.0)))


def test_what_asks_for_no_type_is_given_plain_data(world):
    assert world.output_of(plain) == ["dict", {"name": "desk", "price": 1.0, "size": "s"}]


def raise_price(ctx, item: Item):
    return Item(item.name, item.price + 1, item.size)


def asks_for_a_type(ctx, _):
    item = yield ctx.call_activity("raise_price", input=Item("desk", 1.0), return_type=Item)
    other = yield ctx.call_activity("raise_price", input=Item("lamp", 1.0))
    return [type(item).__name__, item.price, type(other).__name__]


def test_the_caller_may_name_the_type_of_the_result(world):
    assert world.output_of(asks_for_a_type) == ["Item", 2.0, "dict"]


def coerced(ctx, item: Item):
    return type(item).__name__


def test_an_input_that_does_not_fit_the_type_is_passed_on_as_it_is(world):
    assert world.output_of(coerced, input=["not", "an", "item"]) == "list"


def untyped(ctx, given):
    return SimpleNamespace(given=given, nested=SimpleNamespace(n=1))


def test_namespaces_are_plain_data_too(world):
    assert world.output_of(untyped, input={"a": 1}) == {"given": {"a": 1}, "nested": {"n": 1}}


def move(ctx, point):
    return Point(point[0] + 1, point[1])


def tuples(ctx, _):
    moved = yield ctx.call_activity(move, input=Point(1, 2))
    return [type(moved).__name__, moved]


def test_tuples_become_lists(world):
    assert world.output_of(tuples) == ["list", [2, 2]]


def nothing_or_item(ctx, give: bool) -> Item | None:
    return Item("lamp", 2.0) if give else None


def optional(ctx, _):
    items = yield when_all([ctx.call_activity(nothing_or_item, input=give) for give in (True, False)])
    return [type(item).__name__ for item in items]


def test_a_result_that_may_be_none(world):
    assert world.output_of(optional) == ["Item", "NoneType"]
