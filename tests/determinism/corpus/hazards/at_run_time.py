"""What no source shows: names, objects and code that come into being while the program runs.

Marked `runtime`: a linter is not expected to report these, the guard and a perturbed replay are.
"""

import functools
import importlib
import json
import operator
import os
import random
import time

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
    yield ctx.call_activity(step, input=str(found("/tmp")))  #! DT107 runtime


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


def a_name_that_is_made(ctx: OrchestrationContext, kind: str):
    return (yield ctx.call_activity(f"step_{kind}", input=kind))  #! DT120 runtime


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
        a_name_that_is_made,
    ):
        worker.add_orchestrator(orchestrator)
