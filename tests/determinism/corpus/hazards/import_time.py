"""Values that were drawn when the module was imported: they are others in the process that replays."""

import os
import platform
import random
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from durabletask.task import ActivityContext, OrchestrationContext

STARTED = datetime.now()  #! DT101
REGION = os.environ.get("REGION", "eu")  #! DT106
RUN_ID = str(uuid.uuid4())  #! DT103
SALT = random.randrange(100)  #! DT102
HOST = platform.node()  #! DT106
RULES = Path("rules.txt").exists()  #! DT107


def work(ctx: ActivityContext, text: str) -> str:
    return f"{text} {STARTED} {REGION} {RUN_ID} {SALT} {HOST} {RULES}"


def reads_when_it_started(ctx: OrchestrationContext, _):
    yield ctx.call_activity(work, input=STARTED.isoformat())  #? DT101 of STARTED


def reads_the_region(ctx: OrchestrationContext, _):
    if REGION == "eu":  #? DT106 of REGION
        yield ctx.call_activity(work, input="eu")


def reads_the_id_of_the_process(ctx: OrchestrationContext, _):
    yield ctx.call_activity(work, input=RUN_ID)  #? DT103 of RUN_ID


def reads_the_salt(ctx: OrchestrationContext, text: str):
    yield ctx.call_activity(work, input=salted(text))


def salted(text: str) -> str:
    return f"{text}{SALT}"  #? DT102 of SALT


def reads_the_host(ctx: OrchestrationContext, _):
    yield ctx.call_activity(work, input=HOST)  #? DT106 of HOST


def reads_whether_there_are_rules(ctx: OrchestrationContext, _):
    if RULES:  #? DT107 of RULES
        yield ctx.call_activity(work, input="rules")


def default_of_the_definition(ctx: OrchestrationContext, _, since=time.time()):  #! DT101
    yield ctx.call_activity(work, input=str(since))  #? DT101 of since


class Batch:
    created = time.time()  #! DT101


def attribute_of_a_class(ctx: OrchestrationContext, _):
    yield ctx.call_activity(work, input=str(Batch.created))  #? DT101 of created


@dataclass
class Order:
    item: str
    at: datetime = datetime.now()  #! DT101


def default_of_a_dataclass(ctx: OrchestrationContext, item: str):
    yield ctx.call_activity(work, input=str(Order(item).at))  #? DT101 of at


RUN = [
    (reads_when_it_started, None),
    (reads_the_region, None),
    (reads_the_id_of_the_process, None),
    (reads_the_salt, "desk"),
    (reads_the_host, None),
    (reads_whether_there_are_rules, None),
    (default_of_the_definition, None),
    (attribute_of_a_class, None),
    (default_of_a_dataclass, "desk"),
]


def register(worker):
    worker.add_activity(work)
    for orchestrator in (
        reads_when_it_started,
        reads_the_region,
        reads_the_id_of_the_process,
        reads_the_salt,
        reads_the_host,
        reads_whether_there_are_rules,
        default_of_the_definition,
        attribute_of_a_class,
        default_of_a_dataclass,
    ):
        worker.add_orchestrator(orchestrator)
