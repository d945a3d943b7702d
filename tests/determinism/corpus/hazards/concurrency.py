"""Work beside the orchestrator: the worker knows nothing of it, and no history records it."""

import asyncio
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import Pool, Process
from threading import Thread, Timer

from durabletask.task import ActivityContext, OrchestrationContext


def convert(ctx: ActivityContext, page: int) -> int:
    return page * 2


def starts_a_thread(ctx: OrchestrationContext, page: int):
    threading.Thread(target=print, args=(page,)).start()  #! DT110
    yield ctx.call_activity(convert, input=page)


def starts_a_named_thread(ctx: OrchestrationContext, page: int):
    worker = Thread(target=print)  #! DT110
    worker.start()  #? DT110
    yield ctx.call_activity(convert, input=page)


def starts_a_timer(ctx: OrchestrationContext, page: int):
    Timer(0.01, print).start()  #! DT110
    yield ctx.call_activity(convert, input=page)


def pool_of_threads(ctx: OrchestrationContext, pages: list):
    with ThreadPoolExecutor() as pool:  #! DT110
        doubled = list(pool.map(abs, pages))  #? DT110
    yield ctx.call_activity(convert, input=doubled[0])


def pool_of_processes(ctx: OrchestrationContext, pages: list):
    pool = ProcessPoolExecutor(max_workers=2)  #! DT110
    yield ctx.call_activity(convert, input=pages[0])
    return str(pool)


def multiprocessing_pool(ctx: OrchestrationContext, pages: list):
    with Pool(2) as pool:  #! DT110
        name = str(pool)
    yield ctx.call_activity(convert, input=len(name))


def starts_a_process(ctx: OrchestrationContext, page: int):
    Process(target=print).start()  #! DT110
    yield ctx.call_activity(convert, input=page)


async def fetch(page: int) -> int:
    return page


def runs_a_loop(ctx: OrchestrationContext, page: int):
    got = asyncio.run(fetch(page))  #! DT110
    yield ctx.call_activity(convert, input=got)


async def is_async(ctx: OrchestrationContext, page: int):  #! DT110
    return await ctx.call_activity(convert, input=page)


async def is_an_async_generator(ctx: OrchestrationContext, page: int):  #! DT110
    yield ctx.call_activity(convert, input=page)


async def sleeps_asynchronously(ctx: OrchestrationContext, page: int):  #! DT110
    await asyncio.sleep(5)  #! DT104
    yield ctx.call_activity(convert, input=page)


RUN = [
    (starts_a_thread, 7),
    (starts_a_named_thread, 7),
    (starts_a_timer, 7),
    (pool_of_threads, [1, 2]),
    (pool_of_processes, [1, 2]),
    (multiprocessing_pool, [1, 2]),
    (starts_a_process, 7),
    (runs_a_loop, 7),
    (is_async, 7),
    (is_an_async_generator, 7),
    (sleeps_asynchronously, 7),
]


def register(worker):
    worker.add_activity(convert)
    worker.add_orchestrator(starts_a_thread)
    worker.add_orchestrator(starts_a_named_thread)
    worker.add_orchestrator(starts_a_timer)
    worker.add_orchestrator(pool_of_threads)
    worker.add_orchestrator(pool_of_processes)
    worker.add_orchestrator(multiprocessing_pool)
    worker.add_orchestrator(starts_a_process)
    worker.add_orchestrator(runs_a_loop)
    worker.add_orchestrator(is_async)
    worker.add_orchestrator(is_an_async_generator)
    worker.add_orchestrator(sleeps_asynchronously)
