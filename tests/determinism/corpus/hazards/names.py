"""Names that nobody registers. All that this application registers is in `main`."""

from durabletask.entities import EntityInstanceId
from durabletask.task import ActivityContext, OrchestrationContext
from durabletask.worker import TaskHubGrpcWorker

CHARGE = "chrage"


def charge(ctx: ActivityContext, amount: int) -> int:
    return amount


def refund(ctx: ActivityContext, amount: int) -> int:
    return -amount


def stock(ctx, amount: int) -> int:
    return amount


def misspelt(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity("chagre", input=amount))  #! DT120


def misspelt_in_a_constant(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity(CHARGE, input=amount))  #! DT120


def in_another_case(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity("Charge", input=amount))  #! DT120


def function_nobody_registers(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity(refund, input=amount))  #! DT120


def child_nobody_registers(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_sub_orchestrator("misspellt", input=amount))  #! DT120


def orchestrator_called_as_an_activity(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_activity("misspelt", input=amount))  #! DT120


def activity_called_as_a_child(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_sub_orchestrator(charge, input=amount))  #! DT120


def entity_nobody_registers(ctx: OrchestrationContext, amount: int):
    return (yield ctx.call_entity(EntityInstanceId("stocks", "desk"), "take", amount))  #! DT120


RUN = [
    (misspelt, 7),
    (misspelt_in_a_constant, 7),
    (in_another_case, 7),
    (function_nobody_registers, 7),
    (child_nobody_registers, 7),
    (orchestrator_called_as_an_activity, 7),
    (activity_called_as_a_child, 7),
    (entity_nobody_registers, 7),
]


def main() -> None:
    with TaskHubGrpcWorker() as worker:
        worker.add_activity(charge)
        worker.add_entity(stock)
        worker.add_orchestrator(misspelt)
        worker.add_orchestrator(misspelt_in_a_constant)
        worker.add_orchestrator(in_another_case)
        worker.add_orchestrator(function_nobody_registers)
        worker.add_orchestrator(child_nobody_registers)
        worker.add_orchestrator(orchestrator_called_as_an_activity)
        worker.add_orchestrator(activity_called_as_a_child)
        worker.add_orchestrator(entity_nobody_registers)
        worker.start()


if __name__ == "__main__":
    main()
