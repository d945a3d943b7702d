"""What no source shows: names, objects and code that come into being while the program runs.

Marked `runtime`: a linter is not expected to report these, the guard and a perturbed replay are.
"""

import functools
import gzip
import importlib
import json
import operator
import os
import pathlib
import random
import time
from datetime import datetime

from durabletask.task import ActivityContext, OrchestrationContext


def step(ctx: ActivityContext, text: str) -> str:
    return text


def an_attribute_by_name(ctx: OrchestrationContext, name: str):
    value = getattr(time, name)()  #! DT101 runtime
    yield ctx.call_activity(step, input=str(value))


def a_module_by_name(ctx: OrchestrationContext, module: str):
    yield ctx.call_activity(step, input=str(importlib.import_module(module).random()))  #! DT102 runtime


def code_in_a_text(ctx: OrchestrationContext, rule: str):
    yield ctx.call_activity(step, input=str(eval(rule)))  #! DT101 runtime


def the_class_of_a_value(ctx: OrchestrationContext, _):
    now = type(ctx.current_utc_datetime).now()  #! DT101 runtime
    yield ctx.call_activity(step, input=now.isoformat())


def a_method_caller(ctx: OrchestrationContext, _):
    draw = operator.methodcaller("".join(["ran", "dom"]))
    yield ctx.call_activity(step, input=str(draw(random)))  #! DT102 runtime


def a_path_of_attributes(ctx: OrchestrationContext, path: str):
    found = functools.reduce(getattr, path.split("."), os)
    yield ctx.call_activity(step, input=str(found("order.txt")))  #! DT107 runtime


def the_dictionary_of_a_module(ctx: OrchestrationContext, name: str):
    yield ctx.call_activity(step, input=str(vars(time)[name]()))  #! DT101 runtime


HOOKS = []


def install(hook) -> None:
    HOOKS.append(hook)


def a_hook_from_elsewhere(ctx: OrchestrationContext, text: str):
    for hook in tuple(HOOKS):  #? DT109
        text = hook(text)  #! DT105 runtime
    yield ctx.call_activity(step, input=text)


def the_encoder_of_a_library(ctx: OrchestrationContext, _):
    text = json.dumps({"key": object()}, default=ENCODERS["json"])  #! DT103 runtime
    yield ctx.call_activity(step, input=text)


ENCODERS = {"json": getattr(__import__("builtins"), "i" + "d")}


class Settings:
    def __getattr__(self, name: str) -> str:
        return getattr(os, "get" + "env")(name.upper(), "")  #! DT106 runtime


def an_attribute_that_is_made_up(ctx: OrchestrationContext, _):
    yield ctx.call_activity(step, input=Settings().region)


def a_set_by_another_name(ctx: OrchestrationContext, groups: list):
    make = getattr(__import__("builtins"), "frozen" + "set")
    for name in make(groups):  #! DT108 runtime
        yield ctx.call_activity(step, input=name)


def the_text_of_an_object(ctx: OrchestrationContext, _):
    # The text of an object without __repr__ holds its address.
    yield ctx.call_activity(step, input=str(object()))  #! DT103 runtime


def a_pause_by_name(ctx: OrchestrationContext, name: str):
    getattr(time, name)(0.001)  #! DT104 runtime
    yield ctx.call_activity(step, input="awake")


def a_method_by_name(ctx: OrchestrationContext, name: str):
    mark = getattr(pathlib.Path("sent.txt"), name)
    mark()  #! DT105 runtime
    yield ctx.call_activity(step, input="sent")


def the_time_zone_of_the_worker(ctx: OrchestrationContext, _):
    # A time without a zone is taken to be in that of the machine.
    yield ctx.call_activity(step, input=str(ctx.current_utc_datetime.timestamp()))  #! DT101|DT106 runtime


def a_moment_as_the_worker_sees_it(ctx: OrchestrationContext, seconds: int):
    yield ctx.call_activity(step, input=str(datetime.fromtimestamp(seconds)))  #! DT101|DT106 runtime


def the_time_in_a_header(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(step, input=gzip.compress(text.encode(), mtime=None).hex())  #! DT101 runtime


def a_name_that_is_made(ctx: OrchestrationContext, kind: str):
    return (yield ctx.call_activity(f"step_{kind}", input=kind))  #! DT120 runtime


install(eval("lambda name: open(name).read()"))

RUN = [
    (an_attribute_by_name, "time"),
    (a_module_by_name, "random"),
    (code_in_a_text, "__import__('time').time()"),
    (the_class_of_a_value, None),
    (a_method_caller, None),
    (a_path_of_attributes, "path.exists"),
    (the_dictionary_of_a_module, "time"),
    (a_hook_from_elsewhere, "order.txt"),
    (the_encoder_of_a_library, None),
    (an_attribute_that_is_made_up, None),
    (a_set_by_another_name, ["ana", "kim", "raj", "eva", "bo"]),
    (the_text_of_an_object, None),
    (a_pause_by_name, "sleep"),
    (a_method_by_name, "touch"),
    (the_time_zone_of_the_worker, None),
    (a_moment_as_the_worker_sees_it, 1_800_000_000),
    (the_time_in_a_header, "desk"),
    (a_name_that_is_made, "express"),
]


def register(worker):
    worker.add_activity(step)
    for orchestrator in (
        an_attribute_by_name,
        a_module_by_name,
        code_in_a_text,
        the_class_of_a_value,
        a_method_caller,
        a_path_of_attributes,
        the_dictionary_of_a_module,
        a_hook_from_elsewhere,
        the_encoder_of_a_library,
        an_attribute_that_is_made_up,
        a_set_by_another_name,
        the_text_of_an_object,
        a_pause_by_name,
        a_method_by_name,
        the_time_zone_of_the_worker,
        a_moment_as_the_worker_sees_it,
        the_time_in_a_header,
        a_name_that_is_made,
    ):
        worker.add_orchestrator(orchestrator)
