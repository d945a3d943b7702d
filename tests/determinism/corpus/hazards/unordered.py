"""An order that nobody promised."""

import os
from pathlib import Path

from durabletask.task import ActivityContext, OrchestrationContext, when_all

REGIONS = {"eu", "us", "asia"}
VIPS = frozenset({"ana", "kim"})


def notify(ctx: ActivityContext, name: str) -> str:
    return name


def loop_over_a_set(ctx: OrchestrationContext, names: list):
    for name in set(names):  #! DT108
        yield ctx.call_activity(notify, input=name)


def set_display(ctx: OrchestrationContext, _):
    for name in {"ana", "raj", "kim", "eva", "bo", "lin"}:  #! DT108
        yield ctx.call_activity(notify, input=name)


def comprehension_over_a_set(ctx: OrchestrationContext, names: list):
    unique = {name.lower() for name in names}
    yield when_all([ctx.call_activity(notify, input=name) for name in unique])  #! DT108


def set_of_the_module(ctx: OrchestrationContext, _):
    for region in REGIONS:  #! DT108
        yield ctx.call_activity(notify, input=region)


def frozen_set(ctx: OrchestrationContext, _):
    yield when_all([ctx.call_activity(notify, input=name) for name in VIPS])  #! DT108


def list_of_a_set(ctx: OrchestrationContext, names: list):
    unique = list(set(names))  #! DT108
    yield ctx.call_activity(notify, input=unique[0])


def joined_set(ctx: OrchestrationContext, names: list):
    yield ctx.call_activity(notify, input=",".join(set(names)))  #! DT108


def difference_of_sets(ctx: OrchestrationContext, names: list):
    for name in set(names) - VIPS:  #! DT108
        yield ctx.call_activity(notify, input=name)


def pops_from_a_set(ctx: OrchestrationContext, names: list):
    left = set(names)
    while left:
        yield ctx.call_activity(notify, input=left.pop())  #! DT108


def directory_listing(ctx: OrchestrationContext, folder: str):
    for name in os.listdir(folder):  #! DT107 DT108
        yield ctx.call_activity(notify, input=name)


def directory_as_a_path(ctx: OrchestrationContext, folder: str):
    for file in Path(folder).iterdir():  #! DT107 DT108
        yield ctx.call_activity(notify, input=file.name)


def map_over_a_set(ctx: OrchestrationContext, names: list):
    tasks = list(map(lambda name: ctx.call_activity(notify, input=name), set(names)))  #! DT108
    yield when_all(tasks)


def enumerated(ctx: OrchestrationContext, names: list):
    found = set(names).union(REGIONS)
    for number, name in enumerate(found):  #! DT108
        yield ctx.call_activity(notify, input=f"{number} {name}")


NAMES = ["ana", "kim", "raj", "eva", "bo", "lin"]

RUN = [
    (loop_over_a_set, NAMES),
    (set_display, None),
    (comprehension_over_a_set, NAMES),
    (set_of_the_module, None),
    (frozen_set, None),
    (list_of_a_set, NAMES),
    (joined_set, NAMES),
    (difference_of_sets, NAMES),
    (pops_from_a_set, NAMES),
    (directory_listing, "data"),
    (directory_as_a_path, "data"),
    (map_over_a_set, NAMES),
    (enumerated, NAMES),
]


def register(worker):
    worker.add_activity(notify)
    worker.add_orchestrator(loop_over_a_set)
    worker.add_orchestrator(set_display)
    worker.add_orchestrator(comprehension_over_a_set)
    worker.add_orchestrator(set_of_the_module)
    worker.add_orchestrator(frozen_set)
    worker.add_orchestrator(list_of_a_set)
    worker.add_orchestrator(joined_set)
    worker.add_orchestrator(difference_of_sets)
    worker.add_orchestrator(pops_from_a_set)
    worker.add_orchestrator(directory_listing)
    worker.add_orchestrator(directory_as_a_path)
    worker.add_orchestrator(map_over_a_set)
    worker.add_orchestrator(enumerated)
