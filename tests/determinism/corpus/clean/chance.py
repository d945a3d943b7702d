"""Ids and draws that are functions of what is known, and are the same in each replay."""

import hashlib
import random
import uuid
import zlib
from uuid import NAMESPACE_URL, UUID, uuid5

from durabletask.task import ActivityContext, OrchestrationContext


def draw(ctx: ActivityContext, label: str) -> str:
    return f"{label}-{random.random()}-{uuid.uuid4()}"


def id_of_the_context(ctx: OrchestrationContext, _):
    key = ctx.new_uuid()
    return (yield ctx.call_activity(draw, input=str(key)))


def id_of_a_name(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(draw, input=str(uuid5(NAMESPACE_URL, name))))


def id_of_a_digest(ctx: OrchestrationContext, name: str):
    return (yield ctx.call_activity(draw, input=str(uuid.uuid3(uuid.NAMESPACE_DNS, name))))


def parses_an_id(ctx: OrchestrationContext, text: str):
    return (yield ctx.call_activity(draw, input=uuid.UUID(text).hex + UUID(int=7).hex))


def seeded(ctx: OrchestrationContext, names: list):
    rng = random.Random(ctx.instance_id)
    rng.shuffle(names)
    return (yield ctx.call_activity(draw, input=f"{rng.choice(names)} {rng.random()}"))


def seeded_in_a_helper(ctx: OrchestrationContext, names: list):
    return (yield ctx.call_activity(draw, input=pick(random.Random(7), names)))


def pick(rng: random.Random, names: list) -> str:
    return rng.choice(names)


def digest(ctx: OrchestrationContext, name: str):
    shard = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 8 + zlib.crc32(name.encode()) % 8
    return (yield ctx.call_activity(draw, input=f"shard {shard}"))


def shard_of_a_number(ctx: OrchestrationContext, number: int):
    # A number needs no hash: it is its own.
    return (yield ctx.call_activity(draw, input=f"shard {number % 8}"))


def seeded_by_the_id(ctx: OrchestrationContext, _):
    generator = random.Random(f"{ctx.instance_id}/delay")
    jitter = generator.uniform(0, 1)
    return (yield ctx.call_activity(draw, input=f"{jitter:.3f}"))


RUN = [
    (id_of_the_context, None),
    (id_of_a_name, "desk"),
    (id_of_a_digest, "desk"),
    (parses_an_id, "12345678123456781234567812345678"),
    (seeded, ["ana", "kim", "raj"]),
    (seeded_in_a_helper, ["ana", "kim", "raj"]),
    (digest, "desk"),
    (shard_of_a_number, 77),
    (seeded_by_the_id, None),
]


def register(worker):
    worker.add_activity(draw)
    worker.add_orchestrator(id_of_the_context)
    worker.add_orchestrator(id_of_a_name)
    worker.add_orchestrator(id_of_a_digest)
    worker.add_orchestrator(parses_an_id)
    worker.add_orchestrator(seeded)
    worker.add_orchestrator(seeded_in_a_helper)
    worker.add_orchestrator(digest)
    worker.add_orchestrator(shard_of_a_number)
    worker.add_orchestrator(seeded_by_the_id)
