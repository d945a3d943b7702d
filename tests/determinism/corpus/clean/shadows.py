"""Names that look like others: parameters, methods and functions of one's own."""

from __future__ import annotations

import time as _time
from datetime import timedelta

from durabletask.task import ActivityContext, OrchestrationContext, Task


def work(ctx: ActivityContext, text: str) -> str:
    return f"{text} {_time.time()}"


def now(ctx):
    return ctx.current_utc_datetime


def uuid4(ctx) -> str:
    return ctx.new_uuid()


def sleep(ctx, seconds: float) -> Task:
    return ctx.create_timer(timedelta(seconds=seconds))


def print(*words: str) -> str:
    return " ".join(words)


def own_functions(ctx: OrchestrationContext, _):
    started = now(ctx)
    yield sleep(ctx, 30)
    return (yield ctx.call_activity(work, input=print(str(started), str(uuid4(ctx)))))


def parameter_called_time(ctx: OrchestrationContext, order: dict):
    return (yield ctx.call_activity(work, input=label(order["time"], order["random"])))


def label(time: dict, random: dict) -> str:
    return time.get("time", "") + random.get("choice", "") + str(time.pop("sleep", None))


def variable_called_random(ctx: OrchestrationContext, names: list):
    random = names
    random.sort()
    datetime = random[0]
    return (yield ctx.call_activity(work, input=datetime.upper()))


class Clock:
    """The clock of an orchestration."""

    def __init__(self, ctx: OrchestrationContext) -> None:
        self.ctx = ctx

    def now(self):
        return self.ctx.current_utc_datetime

    def sleep(self, seconds: float):
        yield self.ctx.create_timer(timedelta(seconds=seconds))

    @property
    def today(self):
        return self.now().date()


def clock_of_ones_own(ctx: OrchestrationContext, _):
    clock = Clock(ctx)
    yield from clock.sleep(5)
    return (yield ctx.call_activity(work, input=f"{clock.now()} {clock.today}"))


class Requests:
    """No HTTP: it only collects."""

    def __init__(self) -> None:
        self.urls = []

    def get(self, url: str) -> Requests:
        self.urls.append(url)
        return self


def object_called_requests(ctx: OrchestrationContext, url: str):
    requests = Requests()
    requests.get(url).get(url)
    return (yield ctx.call_activity(work, input=",".join(requests.urls)))


def key_called_environ(ctx: OrchestrationContext, data: dict):
    os = data["os"]
    return (yield ctx.call_activity(work, input=os["environ"]["HOME"]))


def list_of_ones_own(ctx: OrchestrationContext, _):
    open = ["a", "b"]
    open.append("c")
    queue = list(open)
    while queue:
        yield ctx.call_activity(work, input=queue.pop(0))
    return len(open)


def attribute_called_id(ctx: OrchestrationContext, order: dict):
    id = order["id"]
    hash = order.get("hash")
    return (yield ctx.call_activity(work, input=f"{id} {hash}"))


RUN = [
    (own_functions, None),
    (parameter_called_time, {"time": {"time": "noon"}, "random": {"choice": "x"}}),
    (variable_called_random, ["raj", "ana"]),
    (clock_of_ones_own, None),
    (object_called_requests, "https://example.test"),
    (key_called_environ, {"os": {"environ": {"HOME": "/"}}}),
    (list_of_ones_own, None),
    (attribute_called_id, {"id": 7}),
]


def register(worker):
    worker.add_activity(work)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
