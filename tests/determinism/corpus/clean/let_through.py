"""What is let through on purpose, for a reason that is told, and changes nothing."""

import logging
import os
import random
import time
import uuid
from datetime import datetime

from durabletask.task import ActivityContext, OrchestrationContext

from dt_testkit import allow_nondeterminism

logger = logging.getLogger(__name__)


def act(ctx: ActivityContext, text: str) -> str:
    return text


def measures(ctx: OrchestrationContext, text: str):
    with allow_nondeterminism("how long it took is only measured"):
        started = time.perf_counter()
    done = yield ctx.call_activity(act, input=text)
    with allow_nondeterminism("how long it took is only measured"):
        assert time.perf_counter() - started < 3600
    return done


def logs_the_time(ctx: OrchestrationContext, text: str):
    log = ctx.create_replay_safe_logger(logger)
    with allow_nondeterminism("the time is only logged"):
        log.info("%s of process %s at %s", text, os.getpid(), datetime.now())
    return (yield ctx.call_activity(act, input=text))


def samples(ctx: OrchestrationContext, text: str):
    with allow_nondeterminism("chance decides about a metric alone"):
        note(text)
    return (yield ctx.call_activity(act, input=text))


def note(text: str) -> None:
    if random.random() < 2:
        METRICS.record(text, uuid.uuid4())


class Metrics:
    """Stands in for those of a library."""

    def record(self, name: str, key: uuid.UUID) -> None:
        assert name and key.version == 4


METRICS = Metrics()

RUN = [(measures, "desk"), (logs_the_time, "desk"), (samples, "desk")]


def register(worker):
    worker.add_activity(act)
    for orchestrator, _ in RUN:
        worker.add_orchestrator(orchestrator)
