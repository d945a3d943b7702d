"""Waiting that stops the worker's thread, and that a replay does again."""

import concurrent.futures
import signal
import threading
import time
from threading import Event, Lock
from time import sleep

from durabletask.task import ActivityContext, OrchestrationContext

LOCK, TURNSTILE = Lock(), Lock()
READY = Event()
JOBS: "concurrent.futures.Future[int]" = concurrent.futures.Future()
JOBS.set_result(7)


def poll(ctx: ActivityContext, job: str) -> bool:
    return ctx.task_id > 1


def sleeps(ctx: OrchestrationContext, job: str):
    time.sleep(0.001)  #! DT104
    return (yield ctx.call_activity(poll, input=job))


def sleeps_by_name(ctx: OrchestrationContext, job: str):
    while not (yield ctx.call_activity(poll, input=job)):
        sleep(0.001)  #! DT104


def takes_a_lock(ctx: OrchestrationContext, job: str):
    with LOCK:  #! DT104
        result = job.upper()
    return (yield ctx.call_activity(poll, input=result))


def acquires(ctx: OrchestrationContext, job: str):
    TURNSTILE.acquire(timeout=0.001)  #! DT104
    yield ctx.call_activity(poll, input=job)


def waits_for_an_event(ctx: OrchestrationContext, job: str):
    READY.wait(timeout=0.001)  #! DT104
    yield ctx.call_activity(poll, input=job)


def waits_for_a_future(ctx: OrchestrationContext, job: str):
    yield ctx.call_activity(poll, input=job)
    return JOBS.result()  #! DT104


def waits_for_all_futures(ctx: OrchestrationContext, job: str):
    concurrent.futures.wait([JOBS])  #! DT104
    yield ctx.call_activity(poll, input=job)


def waits_for_a_local_condition(ctx: OrchestrationContext, job: str):
    changed = threading.Condition()
    with changed:  #? DT104 of changed
        changed.wait(0.001)  #! DT104
    yield ctx.call_activity(poll, input=job)


def waits_for_a_signal(ctx: OrchestrationContext, job: str):
    signal.pause()  #! DT104
    yield ctx.call_activity(poll, input=job)


RUN = [
    (sleeps, "job"),
    (sleeps_by_name, "job"),
    (takes_a_lock, "job"),
    (acquires, "job"),
    (waits_for_an_event, "job"),
    (waits_for_a_future, "job"),
    (waits_for_all_futures, "job"),
    (waits_for_a_local_condition, "job"),
    (waits_for_a_signal, "job"),
]


def register(worker) -> None:
    worker.add_activity(poll)
    worker.add_orchestrator(sleeps)
    worker.add_orchestrator(sleeps_by_name)
    worker.add_orchestrator(takes_a_lock)
    worker.add_orchestrator(acquires)
    worker.add_orchestrator(waits_for_an_event)
    worker.add_orchestrator(waits_for_a_future)
    worker.add_orchestrator(waits_for_all_futures)
    worker.add_orchestrator(waits_for_a_local_condition)
    worker.add_orchestrator(waits_for_a_signal)
