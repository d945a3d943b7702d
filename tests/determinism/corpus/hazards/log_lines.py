"""Lines that are written again by every replay."""

import logging
import sys
from logging import getLogger, info

from durabletask.task import ActivityContext, OrchestrationContext

logger = logging.getLogger(__name__)
audit = getLogger("audit")


def pay(ctx: ActivityContext, amount: int) -> int:
    if amount < 0:
        raise ValueError("nothing to pay")
    return amount


def a_logger(ctx: OrchestrationContext, amount: int):
    logger.info("paying %s", amount)  #! DT116
    return (yield ctx.call_activity(pay, input=amount))


def another_logger(ctx: OrchestrationContext, amount: int):
    paid = yield ctx.call_activity(pay, input=amount)
    audit.warning("paid %s", paid)  #! DT116


def the_root_logger(ctx: OrchestrationContext, amount: int):
    logging.error("paying %s", amount)  #! DT116
    yield ctx.call_activity(pay, input=amount)


def an_imported_function(ctx: OrchestrationContext, amount: int):
    info("paying")  #! DT116
    yield ctx.call_activity(pay, input=amount)


def prints(ctx: OrchestrationContext, amount: int):
    print("paying", amount)  #! DT116
    yield ctx.call_activity(pay, input=amount)


def a_local_logger(ctx: OrchestrationContext, amount: int):
    log = logging.getLogger(f"{__name__}.payments")
    try:
        yield ctx.call_activity(pay, input=amount)
    except Exception:
        log.exception("not paid")  #! DT116


def writes_to_the_terminal(ctx: OrchestrationContext, amount: int):
    sys.stderr.write("paying\n")  #! DT116
    yield ctx.call_activity(pay, input=amount)


def in_a_helper(ctx: OrchestrationContext, amount: int):
    announce(amount)
    yield ctx.call_activity(pay, input=amount)


def announce(amount: int) -> None:
    logger.debug("paying %s", amount)  #! DT116


RUN = [
    (a_logger, 7),
    (another_logger, 7),
    (the_root_logger, 7),
    (an_imported_function, 7),
    (prints, 7),
    (a_local_logger, -7),
    (writes_to_the_terminal, 7),
    (in_a_helper, 7),
]


def register(worker):
    worker.add_activity(pay)
    worker.add_orchestrator(a_logger)
    worker.add_orchestrator(another_logger)
    worker.add_orchestrator(the_root_logger)
    worker.add_orchestrator(an_imported_function)
    worker.add_orchestrator(prints)
    worker.add_orchestrator(a_local_logger)
    worker.add_orchestrator(writes_to_the_terminal)
    worker.add_orchestrator(in_a_helper)
