"""Chance: the modules that draw, and hashes that differ from process to process."""

import os
import random
import secrets
from random import SystemRandom, choice, shuffle as mix

from durabletask.task import ActivityContext, OrchestrationContext

try:
    import numpy as np
    from numpy.random import default_rng
except ImportError:
    np = default_rng = None


def draw(ctx: ActivityContext, number: float) -> float:
    return number


def a_number(ctx: OrchestrationContext, _):
    return (yield ctx.call_activity(draw, input=random.random()))  #! DT102


def a_choice(ctx: OrchestrationContext, regions):
    region = choice(regions)  #! DT102
    yield ctx.call_activity(draw, input=len(region))


def shuffled(ctx: OrchestrationContext, items):
    mix(items)  #! DT102
    for item in items:
        yield ctx.call_activity(draw, input=item)


def a_token(ctx: OrchestrationContext, _):
    token = secrets.token_hex(8)  #! DT102
    yield ctx.call_activity(draw, input=len(token))
    return token


def entropy(ctx: OrchestrationContext, _):
    yield ctx.call_activity(draw, input=int.from_bytes(os.urandom(4), "big"))  #! DT102


def hash_of_a_string(ctx: OrchestrationContext, customer: str):
    shard = hash(customer) % 8  #! DT102
    yield ctx.call_activity(draw, input=shard)


def unseeded_generator(ctx: OrchestrationContext, _):
    rng = random.Random()  #! DT102
    yield ctx.call_activity(draw, input=rng.randint(1, 6))  #? DT102


def system_generator(ctx: OrchestrationContext, _):
    rng = SystemRandom()  #! DT102
    yield ctx.call_activity(draw, input=rng.random())  #? DT102


def numpy_module(ctx: OrchestrationContext, _):
    yield ctx.call_activity(draw, input=float(np.random.rand()))  #! DT102


def numpy_generator(ctx: OrchestrationContext, _):
    rng = default_rng()  #! DT102
    yield ctx.call_activity(draw, input=float(rng.random()))  #? DT102


def jittered_backoff(ctx: OrchestrationContext, attempts: int):
    from datetime import timedelta

    for attempt in range(attempts):
        pause = timedelta(seconds=2**attempt * random.uniform(0.5, 1.5))  #! DT102
        yield ctx.create_timer(pause)


def seeded_by_hand(ctx: OrchestrationContext, seed: int):
    # Other instances draw from the same generator in between.
    random.seed(seed)  #! DT102
    yield ctx.call_activity(draw, input=1.0)
    return "seeded"


def sample_in_a_generator_expression(ctx: OrchestrationContext, numbers):
    total = sum(number * random.gauss(1, 0.1) for number in numbers)  #! DT102
    yield ctx.call_activity(draw, input=total)


RUN = [
    (a_number, None),
    (a_choice, ["x" * length for length in range(1, 100)]),
    (shuffled, [1, 2, 3, 4, 5]),
    (a_token, None),
    (entropy, None),
    (hash_of_a_string, "kim"),
    (unseeded_generator, None),
    (system_generator, None),
    (numpy_module, None),
    (numpy_generator, None),
    (jittered_backoff, 2),
    (seeded_by_hand, 7),
    (sample_in_a_generator_expression, [1, 2, 3]),
]


def register(worker):
    worker.add_activity(draw)
    worker.add_orchestrator(a_number)
    worker.add_orchestrator(a_choice)
    worker.add_orchestrator(shuffled)
    worker.add_orchestrator(a_token)
    worker.add_orchestrator(entropy)
    worker.add_orchestrator(hash_of_a_string)
    worker.add_orchestrator(unseeded_generator)
    worker.add_orchestrator(system_generator)
    worker.add_orchestrator(numpy_module)
    worker.add_orchestrator(numpy_generator)
    worker.add_orchestrator(jittered_backoff)
    worker.add_orchestrator(seeded_by_hand)
    worker.add_orchestrator(sample_in_a_generator_expression)
