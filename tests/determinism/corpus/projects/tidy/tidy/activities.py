import random
import time
from pathlib import Path

from durabletask.task import ActivityContext

from tidy import DEBUG
from tidy.support.times import stamp_now


def charge(ctx: ActivityContext, item: str) -> str:
    time.sleep(random.random() / 1000)
    return f"{item} {stamp_now()}" if DEBUG else item


def read_rates(ctx: ActivityContext, name: str) -> list:
    path = Path(name)
    return path.read_text().split() if path.exists() else []
