"""Orchestrators that are known only by how they are used: annotated, started, called, put into a list."""

import time
from collections.abc import Generator
from datetime import datetime
from random import random
from typing import TYPE_CHECKING, Any

import durabletask.task
import durabletask.task as dt
from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker

if TYPE_CHECKING:
    from durabletask.task import OrchestrationContext as Context


def work(ctx: dt.ActivityContext, value: float) -> float:
    return value


def annotated_as_text(ctx: "Context", _: None):
    yield ctx.call_activity(work, input=random())  #! DT102


def annotated_by_the_full_path(ctx: durabletask.task.OrchestrationContext, _: None):
    yield ctx.call_activity(work, input=time.time())  #! DT101


def annotated_by_a_module_alias(orchestration: dt.OrchestrationContext, _: None) -> Generator[Any, Any, float]:
    return (yield orchestration.call_activity(work, input=time.monotonic()))  #! DT101


def annotated_as_optional(c: "task.OrchestrationContext | None", _: None):
    yield c.call_activity(work, input=random())  #! DT102


def annotated_by_its_type(workflow, _):
    yield workflow.call_activity(work, input=time.time())  #! DT101


flow: "task.Orchestrator[None, None]" = annotated_by_its_type


def started_by_a_client(c, _):
    yield c.call_activity(work, input=random())  #! DT102


def start(client: TaskHubGrpcClient) -> str:
    return client.schedule_new_orchestration(started_by_a_client)


def parent(ctx: task.OrchestrationContext, _: None):
    yield ctx.call_sub_orchestrator(called_as_a_child)


def called_as_a_child(c, _):
    yield c.create_timer(datetime.now())  #! DT101


def in_a_tuple(c, _):
    yield c.call_activity(work, input=random())  #! DT102


def in_a_dictionary(c, _):
    yield c.call_activity(work, input=time.time())  #! DT101


class Flows:
    """Registered by a loop over what it lists."""

    @staticmethod
    def static(c, _):
        yield c.call_activity(work, input=random())  #! DT102

    def bound(self, c, _):
        yield c.call_activity(work, input=time.time_ns())  #! DT101

    def register(self, worker):
        for flow in (self.static, self.bound):
            worker.add_orchestrator(flow)


class OnARegistry:
    """Wraps the worker, as applications do that have several of them."""

    def __init__(self, worker: TaskHubGrpcWorker) -> None:
        self.worker = worker

    def add(self, function):
        self.worker.add_orchestrator(function)
        return function


def registered_by_a_wrapper(c, _):
    yield c.call_activity(work, input=random())  #! DT102


def make(kind: str):
    def made(c, _):
        yield c.call_activity(work, input=time.process_time())  #! DT101

    made.__name__ = f"made_{kind}"
    return made


def no_generator(ctx: task.OrchestrationContext, _: None) -> str:
    return datetime.now().isoformat()  #! DT101


ORCHESTRATORS = (annotated_as_text, in_a_tuple)
BY_NAME = {"in_a_dictionary": in_a_dictionary}


RUN = [
    (annotated_as_text, None),
    (annotated_by_the_full_path, None),
    (annotated_by_a_module_alias, None),
    (annotated_as_optional, None),
    (annotated_by_its_type, None),
    (started_by_a_client, None),
    (parent, None),
    (in_a_tuple, None),
    (in_a_dictionary, None),
    ("static", None),
    ("bound", None),
    (registered_by_a_wrapper, None),
    ("made_blue", None),
    (no_generator, None),
]


def main(worker: TaskHubGrpcWorker) -> None:
    worker.add_activity(work)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    for orchestrator in BY_NAME.values():
        worker.add_orchestrator(orchestrator)
    worker.add_orchestrator(annotated_by_the_full_path)
    worker.add_orchestrator(annotated_by_a_module_alias)
    worker.add_orchestrator(annotated_as_optional)
    worker.add_orchestrator(flow)
    worker.add_orchestrator(started_by_a_client)
    worker.add_orchestrator(parent)
    worker.add_orchestrator(called_as_a_child)
    Flows().register(worker)
    OnARegistry(worker).add(registered_by_a_wrapper)
    worker.add_orchestrator(make("blue"))
    worker.add_orchestrator(no_generator)
