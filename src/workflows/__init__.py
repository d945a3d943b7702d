"""A small application of the Durable Task SDK: one workflow a module, each showing one pattern.

===========================  ====================================================================
`workflows.order`            steps in a chain; when one fails for good, the earlier ones are undone
`workflows.batch_import`     many pieces in parallel, a few at a time, some of which may fail
`workflows.purchase_approval`  a person decides, is reminded, is bypassed, or never answers
===========================  ====================================================================

Importing this package is cheap: what connects to a task hub, `workflows.connection`, is imported by those who
connect.
"""

from typing import Any, Protocol

from durabletask.task import Activity, Orchestrator

from workflows import batch_import, order, purchase_approval

__all__ = ["Registrar", "register"]


class Registrar(Protocol):
    """What workflows can be registered with: the SDK's worker, and whatever has the same methods."""

    def add_orchestrator(self, fn: Orchestrator[Any, Any], /) -> Any:
        """Add an orchestrator under its function's name."""

    def add_activity(self, fn: Activity[Any, Any], /) -> Any:
        """Add an activity under its function's name."""


def register(worker: Registrar) -> None:
    """Add every orchestrator and every activity of the application.

    Parameters
    ----------
    worker : Registrar
        The SDK's worker, or anything with its ``add_orchestrator`` and ``add_activity``.
    """
    for module in (order, batch_import, purchase_approval):
        for orchestrator in module.ORCHESTRATORS:
            worker.add_orchestrator(orchestrator)
        for activity in module.ACTIVITIES:
            worker.add_activity(activity)
