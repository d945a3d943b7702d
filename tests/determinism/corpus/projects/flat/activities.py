import random
import time

from durabletask.task import ActivityContext


def send(ctx: ActivityContext, text: str) -> str:
    time.sleep(random.random() / 1000)
    return f"{text} at {time.time()}"


def tomorrow() -> float:
    return time.time() + 86_400  #! DT101
