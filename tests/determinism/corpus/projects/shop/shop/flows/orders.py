import shop.common.ids
from durabletask.task import ActivityContext, OrchestrationContext

from .. import common
from ..common import day, now_text
from ..common import make_key as key_of
from ..common.clocks import of
from ..common.config import config
from ..common.rates import service
from .parts import sub_steps


def pack(ctx: ActivityContext, text: str) -> str:
    return text


def reexported(ctx: OrchestrationContext, order: str):
    yield ctx.call_activity(pack, input=day())


def by_wildcard(ctx: OrchestrationContext, order: str):
    yield ctx.call_activity(pack, input=now_text())


def by_module(ctx: OrchestrationContext, order: str):
    yield ctx.call_activity(pack, input=shop.common.ids.make_key(order))


def through_a_package(ctx: OrchestrationContext, order: str):
    yield ctx.call_activity(pack, input=common.make_key(order) + key_of(order))


def a_service(ctx: OrchestrationContext, currency: str):
    yield ctx.call_activity(pack, input=str(service.rate(currency)))


def a_setting(ctx: OrchestrationContext, order: str):
    yield ctx.call_activity(pack, input=config().region)


def a_flag(ctx: OrchestrationContext, order: str):
    if config().debug:
        yield ctx.call_activity(pack, input=order)


def nested(ctx: OrchestrationContext, order: str):
    yield from sub_steps(ctx, order)


def imported_when_called(ctx: OrchestrationContext, order: str):
    from .late import label

    yield ctx.call_activity(pack, input=label(order))


def clean(ctx: OrchestrationContext, order: str):
    key = shop.common.ids.from_name(order)
    yield ctx.call_activity(pack, input=of(ctx.current_utc_datetime) + key)
