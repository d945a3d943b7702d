"""Activities, entities, clients and start-up code do what they like; orchestrators call them durably."""

import logging
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext, when_all

logger = logging.getLogger(__name__)
STARTED = datetime.now()
LOCK = threading.Lock()
REGION = os.environ.get("REGION_OF_THE_CORPUS", "eu")
_sent = 0


def read_file(ctx: ActivityContext, name: str) -> bool:
    with LOCK:
        return Path(name).exists() and open(name).read() != ""


def download(ctx: ActivityContext, url: str) -> str:
    return urlopen(url).read().decode()


def convert(ctx: ActivityContext, names: list) -> list:
    global _sent
    _sent += len(names)
    logger.info("converting %s", names)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(str.upper, names))


def setting(ctx: ActivityContext, name: str) -> str:
    return os.environ.get(name, socket.gethostname())


def slow(ctx: ActivityContext, seconds: float) -> float:
    time.sleep(seconds)
    return random.random()


class Basket(DurableEntity):
    def add(self, item: str) -> int:
        items = self.get_state(list, [])
        items.append({"item": item, "at": time.time(), "id": str(uuid.uuid4())})
        self.set_state(items)
        return len(items)


def reads(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(read_file, input=name))


def downloads(ctx: OrchestrationContext, url: str):
    return (yield ctx.call_activity(download, input=url))


def converts(ctx: OrchestrationContext, names: list):
    return (yield ctx.call_activity(convert, input=names))


def asks_for_a_setting(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(setting, input=name))


def takes_its_time(ctx: OrchestrationContext, _):
    return (yield when_all([ctx.call_activity(slow, input=0.0) for _ in range(3)]))


def fills_a_basket(ctx: OrchestrationContext, item: str):
    basket = EntityInstanceId("Basket", ctx.instance_id)
    with (yield ctx.lock_entities([basket])):
        return (yield ctx.call_entity(basket, "add", item))


def by_name(ctx: OrchestrationContext, names: list):
    return (yield ctx.call_activity("convert", input=names))


def start(client, name: str) -> str:
    instance_id = f"{name}-{uuid.uuid4()}-{int(time.time())}"
    return client.schedule_new_orchestration(reads, input=name, instance_id=instance_id)


def main(worker) -> None:
    print("starting", sys.argv, datetime.now() - STARTED)
    subprocess.run(["true"], check=True)
    register(worker)
    worker.start()
    while True:
        time.sleep(1)


STUBS = {"download": "page"}
RUN = [
    (reads, "no-such-file"),
    (downloads, "https://example.test"),
    (converts, ["ana"]),
    (asks_for_a_setting, "NO_SUCH_VARIABLE"),
    (takes_its_time, None),
    (fills_a_basket, "desk"),
    (by_name, ["raj"]),
]


def register(worker):
    for activity in (read_file, download, convert, setting, slow):
        worker.add_activity(activity)
    worker.add_entity(Basket)
    for orchestrator in (reads, downloads, converts, asks_for_a_setting, takes_its_time, fills_a_basket, by_name):
        worker.add_orchestrator(orchestrator)
