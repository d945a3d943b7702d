"""Classes, closures, decorators and partials, with nothing in them that changes."""

import functools
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta

from durabletask import task
from durabletask.task import ActivityContext, OrchestrationContext

try:
    import orjson as json
except ImportError:
    import json

logger = logging.getLogger(__name__)
RETRY = task.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)


def work(ctx: ActivityContext, text: str) -> str:
    logger.info("%s at %s", text, datetime.now())
    return text


class Flow(ABC):
    """Has settings that are set once, and a state that lives in the call."""

    prefix = "flow"

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def steps(self, ctx: OrchestrationContext, text: str): ...

    @property
    def title(self) -> str:
        return f"{self.prefix} {self.label}"


class Greeting(Flow):
    def steps(self, ctx: OrchestrationContext, text: str):
        return (yield ctx.call_activity(work, input=f"{self.title} {text}"))

    def greeting(self, ctx: OrchestrationContext, text: str):
        return (yield from self.steps(ctx, text))


class Stateful:
    """Made anew in each run of the orchestrator: what it holds is the run's own."""

    def __init__(self, ctx: OrchestrationContext) -> None:
        self.ctx = ctx
        self.done: list = []

    def do(self, text: str):
        self.done.append((yield self.ctx.call_activity(work, input=text)))


def object_of_the_run(ctx: OrchestrationContext, texts: list):
    flow = Stateful(ctx)
    for text in texts:
        yield from flow.do(text)
    return flow.done


def logged(function):
    @functools.wraps(function)
    def wrapper(ctx: OrchestrationContext, text: str):
        log = ctx.create_replay_safe_logger(logger)
        log.info("%s begins", function.__name__)
        result = yield from function(ctx, text)
        log.info("%s ends", function.__name__)
        return result

    return wrapper


@logged
def decorated(ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(work, input=text, retry_policy=RETRY))


def made_with(suffix: str):
    def made(ctx: OrchestrationContext, text: str):
        return (yield ctx.call_activity(work, input=text + suffix))

    return made


made = made_with("!")


def with_a_prefix(prefix: str, ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(work, input=prefix + text))


prefixed = functools.update_wrapper(functools.partial(with_a_prefix, "vip "), with_a_prefix)


@functools.lru_cache(maxsize=None)
def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def pure_and_cached(ctx: OrchestrationContext, number: int):
    return (yield ctx.call_activity(work, input=str(fibonacci(number))))


@dataclass(frozen=True)
class Point:
    x: int
    y: int

    def __add__(self, other: "Point") -> "Point":
        return Point(self.x + other.x, self.y + other.y)


def operators_of_ones_own(ctx: OrchestrationContext, _):
    total = sum([Point(1, 2), Point(3, 4)], start=Point(0, 0))
    return (yield ctx.call_activity(work, input=f"{total.x} {total.y}"))


def parses_a_text(ctx: OrchestrationContext, text: str):
    data = json.loads(text)
    return (yield ctx.call_activity(work, input=data["name"]))


def branches_on_its_version(ctx: OrchestrationContext, text: str):
    if ctx.version is None or ctx.version < "2.0":
        return (yield ctx.call_activity(work, input=text))
    return (yield ctx.call_activity(work, input=text * 2))


def asks_who_it_is(ctx: OrchestrationContext, _):
    parent = ctx.parent_instance_id or "nobody"
    return (yield ctx.call_activity(work, input=f"{ctx.instance_id[:0]}{parent}"))


def table_of_functions(ctx: OrchestrationContext, kind: str):
    return (yield ctx.call_activity(work, input=TABLE[kind]("Ana")))


TABLE = {"upper": str.upper, "lower": str.lower, "twice": lambda text: text * 2}


def plain_function(ctx: OrchestrationContext, text: str) -> str:
    return text.upper()


RUN = [
    (Greeting("hello").greeting, "ana"),
    (object_of_the_run, ["a", "b"]),
    (decorated, "x"),
    (made, "x"),
    (prefixed, "x"),
    (pure_and_cached, 7),
    (operators_of_ones_own, None),
    (parses_a_text, '{"name": "ana"}'),
    (branches_on_its_version, "x"),
    (asks_who_it_is, None),
    (table_of_functions, "twice"),
    (plain_function, "x"),
]


def register(worker):
    worker.add_activity(work)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
