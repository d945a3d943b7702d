"""What travels between an orchestrator and what it calls."""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from durabletask.task import ActivityContext, OrchestrationContext


@dataclass
class Order:
    item: str
    quantity: int


@dataclass
class Invoice:
    number: int


def double(ctx: ActivityContext, number: int) -> int:
    return number * 2


def pack(ctx: ActivityContext, order: Order) -> str:
    return order.item


def total(ctx: ActivityContext, numbers: list[int]) -> int:
    return sum(numbers)


def store(ctx: ActivityContext, value: Any) -> None:
    return None


def text_for_a_number(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(double, input="21"))  #! DT121


def nothing_for_a_number(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(double))  #! DT121


def list_for_a_number(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(double, input=[1, 2]))  #! DT121


def number_for_a_list(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(total, input=21))  #! DT121


def another_dataclass(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(pack, input=Invoice(7)))  #! DT121


def text_for_a_dataclass(ctx: OrchestrationContext, item: str):
    return (yield ctx.call_activity(pack, input=item))  #! DT121


def result_of_another_type(ctx: OrchestrationContext, _):
    text: str = yield ctx.call_activity(double, input=21)  #! DT121
    return text.upper()


def return_type_of_another_type(ctx: OrchestrationContext, order: Order):
    return (yield ctx.call_activity(pack, input=order, return_type=Invoice))  #! DT121


def through_a_name(ctx: OrchestrationContext, _):
    number = f"{21}"
    return (yield ctx.call_activity(double, input=number))  #! DT121


def a_function(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=lambda order: order)  #! DT122


def a_set(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input={"desk", "chair"})  #! DT122


def a_moment(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=ctx.current_utc_datetime)  #! DT122


def a_duration_in_a_dictionary(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input={"every": timedelta(days=1)})  #! DT122


def a_generator(ctx: OrchestrationContext, numbers: list):
    yield ctx.call_activity(store, input=(number * 2 for number in numbers))  #! DT122


def bytes_of_a_text(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(store, input=text.encode())  #! DT122


def an_exact_price(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=Decimal("9.99"))  #! DT122


def a_uuid(ctx: OrchestrationContext, _):
    import uuid

    yield ctx.call_activity(store, input=uuid.uuid5(uuid.NAMESPACE_URL, ctx.instance_id))  #! DT122


def the_context(ctx: OrchestrationContext, _):
    yield ctx.call_sub_orchestrator(a_set, input=ctx)  #! DT122


def a_task(ctx: OrchestrationContext, _):
    first = ctx.call_activity(double, input=1)
    yield first
    yield ctx.call_activity(store, input=first)  #! DT122


def a_lock(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=threading.Lock())  #! DT122


def an_object_of_ones_own(ctx: OrchestrationContext, _):
    yield ctx.call_activity(store, input=Basket())  #! DT122


class Basket:
    def __init__(self) -> None:
        self.items: list[str] = []


def a_constant_moment(ctx: OrchestrationContext, _):
    due = datetime(2026, 1, 1)
    yield ctx.call_activity(store, input={"due": due})  #! DT122


def the_next_generation(ctx: OrchestrationContext, names: list):
    yield ctx.create_timer(timedelta(days=1))
    ctx.continue_as_new(set(names))  #! DT122


def sets_an_item(ctx: OrchestrationContext, order: dict):
    packing = ctx.call_activity(store, input=order)  #? DT123
    order["packed"] = True  #! DT123
    yield packing


def appends(ctx: OrchestrationContext, names: list):
    storing = ctx.call_activity(store, input=names)  #? DT123
    names.append("kim")  #! DT123
    yield storing


def sets_an_attribute(ctx: OrchestrationContext, order: Order):
    packing = ctx.call_activity(pack, input=order)  #? DT123
    order.quantity -= 1  #! DT123
    yield packing


def updates(ctx: OrchestrationContext, order: dict):
    child = ctx.call_sub_orchestrator(sets_an_item, input=order)  #? DT123
    order.update(shipped=True)  #! DT123
    yield child


def deletes(ctx: OrchestrationContext, order: dict):
    storing = ctx.call_activity(store, input=order)  #? DT123
    del order["card"]  #! DT123
    yield storing


def in_a_loop(ctx: OrchestrationContext, names: list):
    from durabletask.task import when_all

    order = {"name": ""}
    tasks = []
    for name in names:
        order["name"] = name  #! DT123
        tasks.append(ctx.call_activity(store, input=order))  #? DT123
    yield when_all(tasks)


RUN = [
    (text_for_a_number, None),
    (nothing_for_a_number, None),
    (list_for_a_number, None),
    (number_for_a_list, None),
    (another_dataclass, None),
    (text_for_a_dataclass, "desk"),
    (result_of_another_type, None),
    (return_type_of_another_type, Order("desk", 1)),
    (through_a_name, None),
    (a_function, None),
    (a_set, None),
    (a_moment, None),
    (a_duration_in_a_dictionary, None),
    (a_generator, [1, 2]),
    (bytes_of_a_text, "desk"),
    (an_exact_price, None),
    (a_uuid, None),
    (the_context, None),
    (a_task, None),
    (a_lock, None),
    (an_object_of_ones_own, None),
    (a_constant_moment, None),
    (the_next_generation, ["ana", "raj"]),
    (sets_an_item, {"item": "desk"}),
    (appends, ["ana", "raj"]),
    (sets_an_attribute, Order("desk", 2)),
    (updates, {"item": "desk"}),
    (deletes, {"item": "desk", "card": "4242"}),
    (in_a_loop, ["ana", "raj"]),
]


def register(worker):
    for activity in (double, pack, total, store):
        worker.add_activity(activity)
    for orchestrator in (
        text_for_a_number,
        nothing_for_a_number,
        list_for_a_number,
        number_for_a_list,
        another_dataclass,
        text_for_a_dataclass,
        result_of_another_type,
        return_type_of_another_type,
        through_a_name,
        a_function,
        a_set,
        a_moment,
        a_duration_in_a_dictionary,
        a_generator,
        bytes_of_a_text,
        an_exact_price,
        a_uuid,
        the_context,
        a_task,
        a_lock,
        an_object_of_ones_own,
        a_constant_moment,
        the_next_generation,
        sets_an_item,
        appends,
        sets_an_attribute,
        updates,
        deletes,
        in_a_loop,
    ):
        worker.add_orchestrator(orchestrator)
