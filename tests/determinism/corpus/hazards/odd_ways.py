"""Hazards in less common clothes: operators, protocols, walruses, matches, tables, enums, star arguments."""

import asyncio
import calendar
import datetime as _dt
import email.utils
import enum
import os
import pathlib
import queue
import random as rnd
import tempfile
import time as _time
import urllib.request as web
import uuid as _uuid
from datetime import datetime as now_source
from functools import reduce, singledispatch
from operator import itemgetter
from os import path as p, urandom
from typing import NamedTuple

from durabletask.task import ActivityContext, OrchestrationContext, when_all

INBOX: "queue.Queue[str]" = queue.Queue()


def act(ctx: ActivityContext, text: str) -> str:
    if text == "fails":
        raise ValueError(text)
    return text


def in_a_walrus(ctx: OrchestrationContext, _):
    if (moment := _dt.datetime.now()).hour > 12:  #! DT101
        yield ctx.call_activity(act, input=str(moment))


def in_a_match(ctx: OrchestrationContext, _):
    match _time.localtime().tm_wday:  #! DT101
        case 5 | 6:
            return "weekend"
        case _:
            return (yield ctx.call_activity(act, input="day"))


def in_an_assertion(ctx: OrchestrationContext, limit: float):
    assert _time.time() < limit  #! DT101
    yield ctx.call_activity(act, input="in time")


def in_a_slice(ctx: OrchestrationContext, names: list):
    first = names[: rnd.randint(1, 50)]  #! DT102
    yield when_all([ctx.call_activity(act, input=name) for name in first])


def in_star_arguments(ctx: OrchestrationContext, _):
    options = {"input": _uuid.uuid4().hex}  #! DT103
    yield ctx.call_activity(act, **options)


def as_a_timer(ctx: OrchestrationContext, _):
    yield ctx.create_timer(now_source.now() + _dt.timedelta(hours=1))  #! DT101


def in_an_event_name(ctx: OrchestrationContext, _):
    yield ctx.wait_for_external_event(f"reply-{rnd.getrandbits(16)}")  #! DT102


def in_a_status(ctx: OrchestrationContext, _):
    ctx.set_custom_status({"at": _time.time()})  #! DT101
    yield ctx.call_activity(act, input="status")


def in_the_next_generation(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input="x")
    ctx.continue_as_new({"since": _time.monotonic()})  #! DT101


def in_the_result(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input="x")
    return {"finished": _dt.date.today().isoformat()}  #! DT101


def in_an_exception_handler(ctx: OrchestrationContext, _):
    try:
        yield ctx.call_activity(act, input="fails")
    except Exception:
        yield ctx.call_activity(act, input=f"failed at {_dt.datetime.utcnow()}")  #! DT101


def in_a_finally_block(ctx: OrchestrationContext, _):
    try:
        yield ctx.call_activity(act, input="x")
    finally:
        os.remove("lock")  #! DT105


def in_a_loop_header(ctx: OrchestrationContext, _):
    for number in range(rnd.randrange(5)):  #! DT102
        yield ctx.call_activity(act, input=str(number))


def in_a_conditional_import(ctx: OrchestrationContext, fast: bool):
    if fast:
        from time import monotonic_ns as tick
    else:
        from time import time_ns as tick
    yield ctx.call_activity(act, input=str(tick()))  #! DT101


def in_a_reduce(ctx: OrchestrationContext, numbers: list):
    total = reduce(lambda left, right: left + right * rnd.random(), numbers, 0.0)  #! DT102
    yield ctx.call_activity(act, input=str(total))


def in_a_max_key(ctx: OrchestrationContext, names: list):
    best = max(names, key=lambda name: (hash(name), itemgetter(0)(name)))  #! DT102
    yield ctx.call_activity(act, input=best)


def in_a_dictionary_comprehension(ctx: OrchestrationContext, names: list):
    keys = {name: urandom(4).hex() for name in names}  #! DT102
    yield ctx.call_activity(act, input=str(keys))


class Mode(enum.Enum):
    FAST = "fast"

    @classmethod
    def current(cls) -> "Mode":
        return cls(os.environ["MODE"])  #! DT106


def through_an_enum(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=Mode.current().value)


class Stamp(NamedTuple):
    text: str

    def stamped(self) -> str:
        return f"{self.text} {email.utils.formatdate()}"  #! DT101


def through_a_named_tuple(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(act, input=Stamp(text).stamped())


class Chain:
    def __init__(self) -> None:
        self.parts = []

    def add(self, part: str) -> "Chain":
        self.parts.append(part)
        return self

    def lot(self) -> "Chain":
        return self.add(str(rnd.random()))  #! DT102


def through_a_chain(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(act, input=",".join(Chain().add(text).lot().parts))


class Basket:
    def __len__(self) -> int:
        return rnd.randint(1, 5)  #! DT102

    def __getitem__(self, key: str) -> str:
        return os.getenv(key, "")  #! DT106

    def __iter__(self):
        yield str(_uuid.uuid4())  #! DT103

    def __eq__(self, other: object) -> bool:
        return p.exists("same")  #! DT107

    __hash__ = None


def asks_for_the_length(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=str(len(Basket())))


def asks_for_an_item(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=Basket()["REGION"])


def goes_through_it(ctx: OrchestrationContext, _):
    for item in Basket():
        yield ctx.call_activity(act, input=item)


def compares(ctx: OrchestrationContext, _):
    basket = Basket()
    if basket == 7:
        yield ctx.call_activity(act, input="same")


@singledispatch
def describe(value) -> str:
    return f"{value} {_time.ctime()}"  #! DT101


def through_single_dispatch(ctx: OrchestrationContext, value):
    yield ctx.call_activity(act, input=describe(value))


def generator_of_values(count: int):
    for _ in range(count):
        yield rnd.random()  #! DT102


def goes_through_a_generator(ctx: OrchestrationContext, count: int):
    for value in generator_of_values(count):
        yield ctx.call_activity(act, input=str(value))


def takes_from_a_queue(ctx: OrchestrationContext, _):
    text = INBOX.get(timeout=0.001)  #! DT105
    yield ctx.call_activity(act, input=text)


def makes_a_directory(ctx: OrchestrationContext, _):
    folder = tempfile.mkdtemp()  #! DT105
    yield ctx.call_activity(act, input=folder)


def downloads(ctx: OrchestrationContext, url: str):
    web.urlretrieve(url, "page.html")  #! DT105
    yield ctx.call_activity(act, input=url)


def home(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=str(pathlib.Path.home() / "x"))  #! DT106


def waits_in_a_loop_of_asyncio(ctx: OrchestrationContext, _):
    loop = asyncio.new_event_loop()  #! DT110
    yield ctx.call_activity(act, input=str(loop))


def calls_a_parameter_with_a_default(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=label())


def label(clock=_time.time) -> str:
    return f"at {clock()}"  #! DT101


def kept_in_an_attribute(ctx: OrchestrationContext, _):
    yield ctx.call_activity(act, input=Service(_uuid.uuid4).key())


class Service:
    def __init__(self, make_id) -> None:
        self.make_id = make_id

    def key(self) -> str:
        return self.make_id().hex  #! DT103


def this_month(ctx: OrchestrationContext, _):
    year, month = now_source.today().year, 7  #! DT101
    yield ctx.call_activity(act, input=calendar.month_name[month] + str(year))


ORCHESTRATORS = [
    in_a_walrus,
    in_a_match,
    in_an_assertion,
    in_a_slice,
    in_star_arguments,
    as_a_timer,
    in_an_event_name,
    in_a_status,
    in_the_next_generation,
    in_the_result,
    in_an_exception_handler,
    in_a_finally_block,
    in_a_loop_header,
    in_a_conditional_import,
    in_a_reduce,
    in_a_max_key,
    in_a_dictionary_comprehension,
    through_an_enum,
    through_a_named_tuple,
    through_a_chain,
    asks_for_the_length,
    asks_for_an_item,
    goes_through_it,
    compares,
    through_single_dispatch,
    goes_through_a_generator,
    takes_from_a_queue,
    makes_a_directory,
    downloads,
    home,
    waits_in_a_loop_of_asyncio,
    calls_a_parameter_with_a_default,
    kept_in_an_attribute,
    this_month,
]


NAMES = ["ana", "raj", "kim", "eva"]

RUN = [
    (in_a_walrus, None),
    (in_a_match, None),
    (in_an_assertion, 2e9),
    (in_a_slice, NAMES * 12),
    (in_star_arguments, None),
    (as_a_timer, None),
    (in_an_event_name, None),
    (in_a_status, None),
    (in_the_next_generation, None),
    (in_the_result, None),
    (in_an_exception_handler, None),
    (in_a_finally_block, None),
    (in_a_loop_header, None),
    (in_a_conditional_import, False),
    (in_a_reduce, [1, 2, 3]),
    (in_a_max_key, NAMES),
    (in_a_dictionary_comprehension, NAMES),
    (through_an_enum, None),
    (through_a_named_tuple, "desk"),
    (through_a_chain, "desk"),
    (asks_for_the_length, None),
    (asks_for_an_item, None),
    (goes_through_it, None),
    (compares, None),
    (through_single_dispatch, "desk"),
    (goes_through_a_generator, 2),
    (takes_from_a_queue, None),
    (makes_a_directory, None),
    (downloads, "http://127.0.0.1:1/"),
    (home, None),
    (waits_in_a_loop_of_asyncio, None),
    (calls_a_parameter_with_a_default, None),
    (kept_in_an_attribute, None),
    (this_month, None),
]


def register(worker):
    worker.add_activity(act)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
