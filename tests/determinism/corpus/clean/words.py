"""Hazards in words alone: docstrings, comments, texts, annotations, imports for type checkers, dead ends.

An orchestrator never calls datetime.now(), time.time() or random.random(); `uuid.uuid4()` neither.
"""

import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durabletask.task import ActivityContext, OrchestrationContext

if TYPE_CHECKING:
    from datetime import datetime

    from requests import Session

NOW = "datetime.now()"


def work(ctx: ActivityContext, text: str) -> str:
    return text


def docstring(ctx: OrchestrationContext, _):
    """Not time.sleep(5): a timer.

    >>> time.sleep(5)  # doctest: +SKIP
    """
    yield ctx.create_timer(timedelta(seconds=5))


def comments(ctx: OrchestrationContext, _):
    # started = datetime.now()
    started = ctx.current_utc_datetime  # not datetime.utcnow()
    yield ctx.create_timer(started + timedelta(seconds=5))  # was: time.sleep(random.random())


def texts(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(work, input="time.time() and os.environ['HOME'] " + NOW))


def annotations(ctx: OrchestrationContext, _: None, after: "datetime | None" = None) -> Any:
    when: "datetime" = after or ctx.current_utc_datetime
    session: "Session | None" = None
    yield ctx.create_timer(when + timedelta(seconds=1))
    return session


def annotation_with_a_call(ctx: OrchestrationContext, text: "datetime.now()") -> "time.time()":
    return (yield ctx.call_activity(work, input=text))


def a_function_that_is_never_called(ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(work, input=text))


def unused_helper() -> float:
    return time.time() + random.random()


class Unused:
    def now(self) -> float:
        return time.time()

    def label(self, text: str) -> str:
        return text.title()


def another_method_of_the_class(ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(work, input=Unused().label(text)))


def reference_without_a_call(ctx: OrchestrationContext, text: str):
    name = time.sleep.__name__
    return (yield ctx.call_activity(work, input=f"{name} {text}"))


def test_of_an_orchestrator() -> None:
    """What a project's tests do is their own affair."""
    started = time.perf_counter()
    time.sleep(0)
    generator = texts(None, random.random())
    assert time.perf_counter() >= started
    generator.close()


RUN = [
    (docstring, None),
    (comments, None),
    (texts, None),
    (annotations, None),
    (annotation_with_a_call, "x"),
    (a_function_that_is_never_called, "x"),
    (another_method_of_the_class, "x"),
    (reference_without_a_call, "x"),
]


def register(worker):
    worker.add_activity(work)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
