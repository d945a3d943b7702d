from typing import TYPE_CHECKING

from shop.common.base import Flow
from shop.flows import orders

if TYPE_CHECKING:
    from durabletask.task import OrchestrationContext


class ReturnFlow(Flow):
    def steps(self, ctx, order):
        yield ctx.call_activity(orders.pack, input=f"{order} {self.lot()}")

    def return_flow(self, ctx: "OrchestrationContext", order: str):
        yield from self.steps(ctx, order)


def refund_flow(ctx: "OrchestrationContext", order: str):
    yield ctx.call_activity("refund", input=order)  #! DT120
