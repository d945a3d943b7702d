"""Inputs that fit and can be serialized, and objects that an orchestrator may change."""

import enum
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

from durabletask.task import ActivityContext, OrchestrationContext, when_all

DEFAULTS = {"quantity": 1}
LEVELS = ["low", "high"]


class Level(str, enum.Enum):
    LOW = "low"


@dataclass
class Order:
    item: str
    quantity: int = 1
    notes: list[str] = field(default_factory=list)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def to_json(self) -> int:
        return self.cents


def pack(ctx: ActivityContext, order: Order) -> str:
    return order.item


def double(ctx: ActivityContext, number: int) -> int:
    return number * 2


def half(ctx: ActivityContext, number: float) -> float:
    return number / 2


def store(ctx: ActivityContext, value: Any) -> None:
    return None


def maybe(ctx: ActivityContext, number: "int | None" = None) -> int:
    return number or 0


def fits(ctx: OrchestrationContext, _):
    number: int = yield ctx.call_activity(double, input=21)
    return (yield ctx.call_activity(half, input=number))


def whole_number_for_a_float(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(half, input=3))


def dictionary_for_a_dataclass(ctx: OrchestrationContext, item: str):
    # The SDK makes the dataclass of it.
    return (yield ctx.call_activity(pack, input={"item": item, "quantity": 2}))


def optional_input(ctx: OrchestrationContext, _):
    first = yield ctx.call_activity(maybe)
    return first + (yield ctx.call_activity(maybe, input=3))


def own_serialization(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=Money(500))
    yield ctx.call_activity(store, input=SimpleNamespace(cents=500))
    yield ctx.call_activity(store, input=Level.LOW)


def tuples_and_dataclasses(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=("a", 1, [Order("desk")], {"x": None}))
    yield ctx.call_activity(store, input=asdict(Order("desk")))


def text_of_a_moment(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=ctx.current_utc_datetime.isoformat())


def text_of_a_path(ctx: OrchestrationContext, name: str):
    # A pure path touches no disk.
    yield ctx.call_activity(store, input=str(PurePosixPath("data") / name))


def changed_before(ctx: OrchestrationContext, order: Order):
    order.quantity += 1
    order.notes.append("gift")
    return (yield ctx.call_activity(pack, input=order))


def copy_is_changed(ctx: OrchestrationContext, order: Order):
    packing = ctx.call_activity(pack, input=order)
    order = replace(order, quantity=0)
    yield packing
    return order.quantity


def changed_between_steps(ctx: OrchestrationContext, numbers: list):
    # Each step has been waited for before the list is changed: it has had the list as it was.
    results = []
    for number in numbers:
        yield ctx.call_activity(store, input=results)
        results.append(number)
    return results


def local_state(ctx: OrchestrationContext, items: list):
    counts: dict = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    totals = {**DEFAULTS, **counts}
    yield when_all([ctx.call_activity(store, input=name) for name in totals])
    return totals


def closure_of_its_own(ctx: OrchestrationContext, numbers: list):
    total = 0
    log = []

    def add(number: int) -> None:
        nonlocal total
        total += number
        log.append(number)

    for number in numbers:
        add((yield ctx.call_activity(double, input=number)))
    return total


def object_of_its_own(ctx: OrchestrationContext, items: list):
    order = Order("desk")
    for item in items:
        order.notes.append(item)
    return (yield ctx.call_activity(pack, input=order))


def none_as_a_default(ctx: OrchestrationContext, item: str, basket: "list | None" = None):
    basket = basket or []
    basket.append(item)
    return (yield ctx.call_activity(store, input=basket))


def default_that_is_only_read(ctx: OrchestrationContext, item: str, options=("fast",)):
    return (yield ctx.call_activity(store, input=[item, *options]))


def copies_a_constant(ctx: OrchestrationContext, item: str):
    levels = list(LEVELS)
    levels.append(item)
    options = DEFAULTS.copy()
    options["item"] = item
    yield ctx.call_activity(store, input=levels)
    return options


RUN = [
    (fits, None),
    (whole_number_for_a_float, None),
    (dictionary_for_a_dataclass, "desk"),
    (optional_input, None),
    (own_serialization, None),
    (tuples_and_dataclasses, None),
    (text_of_a_moment, None),
    (text_of_a_path, "x"),
    (changed_before, Order("desk")),
    (copy_is_changed, Order("desk")),
    (changed_between_steps, [1, 2]),
    (local_state, ["a", "b", "a"]),
    (closure_of_its_own, [1, 2]),
    (object_of_its_own, ["a"]),
    (none_as_a_default, "a"),
    (default_that_is_only_read, "a"),
    (copies_a_constant, "a"),
]


def register(worker):
    for activity in (pack, double, half, store, maybe):
        worker.add_activity(activity)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
