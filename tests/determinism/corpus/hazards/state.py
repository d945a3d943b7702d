"""State that outlives a run of the code, so that a replay finds it changed."""

import itertools
from collections import Counter, defaultdict

from durabletask.task import ActivityContext, OrchestrationContext

count = 0
last_order = None
CACHE: dict[str, str] = {}
seen = []
numbers = itertools.count(1)
TOTALS: Counter = Counter()


def price(ctx: ActivityContext, item: str) -> int:
    return len(item)


def counts_in_a_global(ctx: OrchestrationContext, item: str):
    global count  #? DT109
    count += 1  #! DT109
    yield ctx.call_activity(price, input=item)


def remembers_in_a_global(ctx: OrchestrationContext, item: str):
    global last_order  #? DT109
    yield ctx.call_activity(price, input=item)
    last_order = item  #! DT109


def caches_in_the_module(ctx: OrchestrationContext, item: str):
    if item not in CACHE:  #? DT109
        CACHE[item] = yield ctx.call_activity(price, input=item)  #! DT109
    return CACHE[item]  #? DT109


def appends_to_the_module(ctx: OrchestrationContext, item: str):
    seen.append(item)  #! DT109
    yield ctx.call_activity(price, input=item)


def draws_numbers(ctx: OrchestrationContext, item: str):
    yield ctx.call_activity(price, input=f"{item}-{next(numbers)}")  #! DT109


def updates_a_counter(ctx: OrchestrationContext, item: str):
    TOTALS.update([item])  #! DT109
    yield ctx.call_activity(price, input=item)


FLAGS: dict[str, bool] = {}
maintenance = False


def set_flag(ctx: ActivityContext, name: str) -> None:
    global maintenance
    maintenance = True
    FLAGS[name] = True


def reads_what_an_activity_changes(ctx: OrchestrationContext, item: str):
    yield ctx.call_activity(set_flag, input=item)
    if FLAGS.get("express"):  #! DT109
        yield ctx.call_activity(price, input=item)


def reads_a_global_that_an_activity_sets(ctx: OrchestrationContext, item: str):
    while maintenance:  #! DT109
        yield ctx.call_activity(price, input=item)
    return item


class Shop:
    orders = 0
    customers: list[str] = []

    def run(self, ctx: OrchestrationContext, item: str):
        Shop.orders += 1  #! DT109
        yield ctx.call_activity(price, input=item)


class Register:
    open_tills: list[str] = []

    @classmethod
    def take(cls, ctx: OrchestrationContext, item: str):
        cls.open_tills.append(item)  #! DT109
        yield ctx.call_activity(price, input=item)


class Stateful:
    def __init__(self) -> None:
        self.attempts = 0

    def attempt(self, ctx: OrchestrationContext, item: str):
        self.attempts += 1  #! DT109
        yield ctx.call_activity(price, input=f"{item} {self.attempts}")  #? DT109


def mutable_default(ctx: OrchestrationContext, item: str, basket=[]):  #? DT109
    basket.append(item)  #! DT109
    yield ctx.call_activity(price, input=",".join(basket))


def mutable_default_of_a_helper(ctx: OrchestrationContext, item: str):
    yield ctx.call_activity(price, input=str(remember(item)))


def remember(item, memory={}):  #? DT109
    memory[item] = len(memory)  #! DT109
    return memory[item]  #? DT109


def make_counting():
    runs = 0

    def counting(ctx: OrchestrationContext, item: str):
        nonlocal runs  #? DT109
        runs += 1  #! DT109
        yield ctx.call_activity(price, input=f"{item} {runs}")  #? DT109

    return counting


def make_collecting(worker):
    collected = defaultdict(list)

    def collecting(ctx: OrchestrationContext, item: str):
        collected[ctx.instance_id].append(item)  #! DT109
        yield ctx.call_activity(price, input=item)

    worker.add_orchestrator(collecting)


def in_a_helper(ctx: OrchestrationContext, item: str):
    number = next_number()
    yield ctx.call_activity(price, input=f"{item} {number}")


def next_number() -> int:
    global count  #? DT109
    count = count + 1  #! DT109
    return count  #? DT109


RUN = [
    (counts_in_a_global, "desk"),
    (remembers_in_a_global, "desk"),
    (caches_in_the_module, "desk"),
    (appends_to_the_module, "desk"),
    (draws_numbers, "desk"),
    (updates_a_counter, "desk"),
    (reads_a_global_that_an_activity_sets, "desk"),
    (reads_what_an_activity_changes, "desk"),
    ("run", "desk"),
    ("take", "desk"),
    ("attempt", "desk"),
    (mutable_default, "desk"),
    (mutable_default_of_a_helper, "desk"),
    ("counting", "desk"),
    ("collecting", "desk"),
    (in_a_helper, "desk"),
]


def register(worker):
    worker.add_activity(price)
    worker.add_activity(set_flag)
    worker.add_orchestrator(reads_what_an_activity_changes)
    worker.add_orchestrator(reads_a_global_that_an_activity_sets)
    worker.add_orchestrator(counts_in_a_global)
    worker.add_orchestrator(remembers_in_a_global)
    worker.add_orchestrator(caches_in_the_module)
    worker.add_orchestrator(appends_to_the_module)
    worker.add_orchestrator(draws_numbers)
    worker.add_orchestrator(updates_a_counter)
    worker.add_orchestrator(Shop().run)
    worker.add_orchestrator(Register.take)
    worker.add_orchestrator(Stateful().attempt)
    worker.add_orchestrator(mutable_default)
    worker.add_orchestrator(mutable_default_of_a_helper)
    worker.add_orchestrator(make_counting())
    worker.add_orchestrator(in_a_helper)
    make_collecting(worker)
