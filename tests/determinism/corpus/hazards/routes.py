"""The long way to a hazard: through helpers, methods, properties, decorators, nested generators."""

import contextlib
import datetime
import functools
import os
import random
import time
import uuid
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps

from durabletask.task import ActivityContext, OrchestrationContext


def step(ctx: ActivityContext, text: str) -> str:
    return text


# -- functions


def one_away(ctx, _):
    yield ctx.call_activity(step, input=stamp())


def stamp() -> str:
    return datetime.datetime.now().isoformat()  #! DT101


def three_away(ctx, _):
    yield ctx.call_activity(step, input=outer())


def outer() -> str:
    return middle(3)


def middle(times: int) -> str:
    return "".join(inner() for _ in range(times))


def inner() -> str:
    return random.choice("abc")  #! DT102


def function_inside(ctx, _):
    def key() -> str:
        return uuid.uuid4().hex  #! DT103

    yield ctx.call_activity(step, input=key())


def passed_as_an_argument(ctx, _):
    yield ctx.call_activity(step, input=call(pick_region))


def call(function):
    return function()


def pick_region() -> str:
    return os.environ.get("REGION", "eu")  #! DT106


def passed_to_map(ctx, names):
    yield ctx.call_activity(step, input=",".join(map(salted, names)))


def salted(name: str) -> str:
    return f"{name}{random.randint(0, 9)}"  #! DT102


def evaluated_as_a_default(ctx, _):
    def due(after=time.time()) -> float:  #! DT101
        return after + 60

    yield ctx.call_activity(step, input=str(due()))


def recursive(ctx, depth):
    yield ctx.call_activity(step, input=str(nested(depth)))


def nested(depth: int) -> float:
    return time.perf_counter() if depth == 0 else nested(depth - 1)  #! DT101


TABLE = {"now": lambda: str(time.time_ns()), "never": lambda: ""}  #! DT101


def through_a_table(ctx, _):
    yield ctx.call_activity(step, input=TABLE["now"]())


# -- generators


def delegates(ctx, _):
    return (yield from wait_until_noon(ctx))


def wait_until_noon(ctx):
    noon = datetime.datetime.now().replace(hour=12)  #! DT101
    yield ctx.create_timer(noon)


def delegates_twice(ctx, names):
    for name in names:
        yield from first_level(ctx, name)


def first_level(ctx, name):
    result = yield from second_level(ctx, name)
    return result


def second_level(ctx, name):
    time.sleep(0.001)  #! DT104
    return (yield ctx.call_activity(step, input=name))


def delegates_to_a_method(ctx, _):
    yield from Steps(ctx).all()


class Steps:
    def __init__(self, ctx):
        self.ctx = ctx

    def all(self):
        yield self.ctx.call_activity(step, input=self.key())

    def key(self) -> str:
        return str(uuid.uuid1())  #! DT103


# -- classes


class Clock:
    @property
    def now(self):
        return datetime.datetime.utcnow()  #! DT101

    @staticmethod
    def ticks() -> int:
        return time.monotonic_ns()  #! DT101

    @classmethod
    def year(cls) -> int:
        return datetime.date.today().year  #! DT101

    @cached_property
    def zone(self) -> str:
        return os.environ["TZ"]  #! DT106


def reads_a_property(ctx, _):
    clock = Clock()
    yield ctx.create_timer(clock.now)


def calls_a_static_method(ctx, _):
    yield ctx.call_activity(step, input=str(Clock.ticks()))


def calls_a_class_method(ctx, _):
    yield ctx.call_activity(step, input=str(Clock().year()))


def reads_a_cached_property(ctx, _):
    yield ctx.call_activity(step, input=Clock().zone)


class Ticket:
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.number = random.getrandbits(32)  #! DT102


def constructs(ctx, owner):
    yield ctx.call_activity(step, input=str(Ticket(owner).number))


@dataclass
class Visit:
    name: str

    def __post_init__(self) -> None:
        self.at = time.time()  #! DT101


def constructs_a_dataclass(ctx, name):
    yield ctx.call_activity(step, input=str(Visit(name).at))


class Base:
    def suffix(self) -> str:
        return random.choice("abcdefghij")  #! DT102


class Derived(Base):
    def label(self, name: str) -> str:
        return name + self.suffix()


def inherits(ctx, name):
    yield ctx.call_activity(step, input=Derived().label(name))


class Pipeline:
    """Registered by its bound method."""

    def pipeline(self, ctx, name):
        yield ctx.call_activity(step, input=self._tagged(name))

    def _tagged(self, name: str) -> str:
        return f"{name} {os.getenv('TAG')}"  #! DT106


class Callable:
    def __call__(self, ctx, name):
        yield ctx.call_activity(step, input=f"{name} {time.time()}")  #! DT101


called = Callable()
called.__name__ = "called"


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __str__(self) -> str:
        return f"{self.cents} on {datetime.date.today()}"  #! DT101


def formats(ctx, cents):
    yield ctx.call_activity(step, input=str(Money(cents)))


class Timed:
    def __enter__(self):
        self.started = time.monotonic()  #! DT101
        return self

    def __exit__(self, *error):
        return None


def enters(ctx, _):
    with Timed():
        yield ctx.call_activity(step, input="timed")


@contextlib.contextmanager
def scratch():
    os.mkdir("scratch")  #! DT105
    yield "scratch"


def enters_a_generator(ctx, _):
    with scratch() as folder:
        yield ctx.call_activity(step, input=folder)


# -- decorators


def timed(function):
    @wraps(function)
    def wrapper(ctx, value):
        started = time.perf_counter()  #! DT101
        result = yield from function(ctx, value)
        return {"result": result, "started": started}

    return wrapper


@timed
def decorated(ctx, _):
    return (yield ctx.call_activity(step, input="decorated"))


def with_label(label):
    def decorate(function):
        @wraps(function)
        def wrapper(ctx, value):
            return (yield from function(ctx, f"{label}-{random.random()}-{value}"))  #! DT102

        return wrapper

    return decorate


@with_label("vip")
def decorated_with_arguments(ctx, name):
    return (yield ctx.call_activity(step, input=name))


@lru_cache
def cached_setting() -> str:
    with open("settings.ini") as file:  #! DT105
        return file.name


def reads_a_cached_setting(ctx, _):
    yield ctx.call_activity(step, input=cached_setting())


REGISTRY = []


def orchestrator(function):
    REGISTRY.append(function)
    return function


@orchestrator
def registered_by_a_decorator(context, _):
    yield context.call_activity(step, input=str(uuid.uuid4()))  #! DT103


# -- partial


def calls_a_partial(ctx, name):
    yield ctx.call_activity(step, input=draw_one())  #! DT102


draw_one = functools.partial(random.choice, "abcdefghij")  #? DT102


def calls_a_partial_of_ones_own(ctx, name):
    yield ctx.call_activity(step, input=numbered(name))


def number(prefix: str, name: str) -> str:
    return f"{prefix}{name}{random.randrange(100)}"  #! DT102


numbered = functools.partial(number, "no-")


def partial_orchestrator(label, ctx, name):
    yield ctx.call_activity(step, input=f"{label} {name} {time.time()}")  #! DT101


labelled = functools.update_wrapper(functools.partial(partial_orchestrator, "blue"), partial_orchestrator)


RUN = [
    (one_away, None),
    (three_away, None),
    (function_inside, None),
    (passed_as_an_argument, None),
    (passed_to_map, ["ana", "raj"]),
    (evaluated_as_a_default, None),
    (recursive, 2),
    (through_a_table, None),
    (delegates, None),
    (delegates_twice, ["ana", "raj"]),
    (delegates_to_a_method, None),
    (reads_a_property, None),
    (calls_a_static_method, None),
    (calls_a_class_method, None),
    (reads_a_cached_property, None),
    (constructs, "kim"),
    (constructs_a_dataclass, "kim"),
    (inherits, "kim"),
    (formats, 7),
    (enters, None),
    (enters_a_generator, None),
    (decorated, None),
    (decorated_with_arguments, "kim"),
    (reads_a_cached_setting, None),
    (calls_a_partial, "kim"),
    (calls_a_partial_of_ones_own, "kim"),
    (registered_by_a_decorator, None),
    ("pipeline", "kim"),
    ("called", "kim"),
    ("partial_orchestrator", "kim"),
]


def register(worker):
    worker.add_activity(step)
    for function in (
        one_away,
        three_away,
        function_inside,
        passed_as_an_argument,
        passed_to_map,
        evaluated_as_a_default,
        recursive,
        through_a_table,
        delegates,
        delegates_twice,
        delegates_to_a_method,
        reads_a_property,
        calls_a_static_method,
        calls_a_class_method,
        reads_a_cached_property,
        constructs,
        constructs_a_dataclass,
        inherits,
        formats,
        enters,
        enters_a_generator,
        decorated,
        decorated_with_arguments,
        reads_a_cached_setting,
        calls_a_partial,
        calls_a_partial_of_ones_own,
        *REGISTRY,
    ):
        worker.add_orchestrator(function)
    worker.add_orchestrator(Pipeline().pipeline)
    worker.add_orchestrator(called)
    worker.add_orchestrator(labelled)
