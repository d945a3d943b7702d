from __future__ import annotations

from durabletask.task import OrchestrationContext, when_all

from . import activities
from .support import add_days, key_for
from .support.keys import FixedKeys
from .support.times import now as time


def checkout(ctx: OrchestrationContext, item: str):
    due = add_days(time(ctx), 3)
    yield ctx.create_timer(due)
    return (yield ctx.call_activity(activities.charge, input=f"{key_for(ctx.instance_id, item)}"))


def invoice(ctx: OrchestrationContext, item: str):
    keys = FixedKeys(ctx.instance_id)
    return (yield ctx.call_activity(activities.charge, input=keys.label(item)))


def overview(ctx: OrchestrationContext, names: list):
    rates = yield ctx.call_activity("read_rates", input="no-such-file")
    yield when_all([ctx.call_activity("charge", input=name) for name in sorted({*names, *rates})])


def reserve(ctx: OrchestrationContext, item: str):
    result = yield from steps(ctx, item)
    return (yield ctx.call_sub_orchestrator(invoice, input=result))


def steps(ctx: OrchestrationContext, item: str):
    return (yield ctx.call_activity(activities.charge, input=item))


ORCHESTRATORS = (checkout, invoice, overview, reserve)
