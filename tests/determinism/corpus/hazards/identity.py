"""Identities that nobody gave: each replay makes another one."""

import uuid
import uuid as ids
from dataclasses import asdict, dataclass, field
from uuid import uuid4 as new_id

from durabletask import task


@dataclass
class Parcel:
    item: str
    number: str = field(default_factory=lambda: str(uuid.uuid4()))  #! DT103


def ship(ctx: task.ActivityContext, number: str) -> str:
    return number


def pack(ctx: task.ActivityContext, parcel: dict) -> str:
    return parcel["number"]


def random_uuid(ctx, _):
    yield ctx.call_activity(ship, input=str(uuid.uuid4()))  #! DT103


def renamed(ctx, _):
    key = new_id().hex  #! DT103
    yield ctx.call_activity(ship, input=key)


def of_the_host(ctx, _):
    yield ctx.call_activity(ship, input=ids.uuid1().hex)  #! DT103


def of_the_time(ctx, _):
    yield ctx.call_activity(ship, input=str(uuid.uuid7()))  #! DT103


def ordered_by_time(ctx, _):
    yield ctx.call_activity(ship, input=str(uuid.uuid6()))  #! DT103


def address_of_an_object(ctx, order):
    key = f"order-{id(order)}"  #! DT103
    yield ctx.call_activity(ship, input=key)


def child_id(ctx, order):
    yield ctx.call_sub_orchestrator(renamed, instance_id=f"child-{uuid.uuid4()}")  #! DT103


def from_a_default_factory(ctx, item):
    yield ctx.call_activity(pack, input=asdict(Parcel(item)))


def several_at_once(ctx, count):
    keys = [ids.uuid4().hex[:8] for _ in range(count)]  #! DT103
    yield task.when_all([ctx.call_activity(ship, input=key) for key in keys])


ORCHESTRATORS = (
    random_uuid,
    renamed,
    of_the_host,
    of_the_time,
    ordered_by_time,
    address_of_an_object,
    child_id,
    from_a_default_factory,
    several_at_once,
)


RUN = [
    *((orchestrator, None) for orchestrator in ORCHESTRATORS[:5]),
    (address_of_an_object, {"item": "desk"}),
    (child_id, {"item": "desk"}),
    (from_a_default_factory, "desk"),
    (several_at_once, 3),
]


def register(worker):
    worker.add_activity(ship)
    worker.add_activity(pack)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
