"""A reference application of the Durable Task SDK: one workflow a module, each showing one pattern.

=============================  ==================================================================
`workflows.order`              steps in a chain; when one fails for good, the earlier ones are undone
`workflows.batch_import`       many pieces in parallel, a few at a time, some of which may fail
`workflows.purchase_approval`  a person decides, is reminded, is bypassed, or never answers
`workflows.agent`              a model decides what to do next; what was said is kept by an entity
`workflows.job_monitor`        a job elsewhere is asked about, less and less often, until it is done
`workflows.order_digest`       what has come in is published each day, for ever
`workflows.sales_report`       each region is a workflow of its own; all at the same time
`workflows.appointment`        something happens at a time of day somewhere, and can be moved
`workflows.account`            money moves between entities, under locks: all of it or none
`workflows.subscription`       instances of several versions of the code, renewed for years
`workflows.quotes`             a buyer and its suppliers send events to one another
`workflows.settlement`         a recurring schedule starts a workflow every day
=============================  ==================================================================

Importing this package is cheap. What connects to a task hub, `workflows.connection`, is imported by those who
connect, and the database and the gateway when the first activity needs them.
"""

from typing import TYPE_CHECKING, Any, Protocol

from durabletask.task import Activity, Entity, Orchestrator

from workflows import (
    account,
    agent,
    appointment,
    batch_import,
    job_monitor,
    order,
    order_digest,
    purchase_approval,
    quotes,
    sales_report,
    settlement,
    subscription,
)

if TYPE_CHECKING:
    from durabletask.worker import VersioningOptions

__all__ = ["MODULES", "Registrar", "register"]

MODULES = (
    order,
    batch_import,
    purchase_approval,
    agent,
    job_monitor,
    order_digest,
    sales_report,
    appointment,
    account,
    subscription,
    quotes,
    settlement,
)
"""The workflows. Each module has ``ORCHESTRATORS``, ``ACTIVITIES`` and ``ENTITIES``."""


class Registrar(Protocol):
    """What workflows can be registered with: the SDK's worker, and whatever has the same methods."""

    def add_orchestrator(self, fn: Orchestrator[Any, Any], /) -> Any:
        """Add an orchestrator under its function's name."""

    def add_activity(self, fn: Activity[Any, Any], /) -> Any:
        """Add an activity under its function's name."""

    def add_entity(self, fn: Entity[Any, Any], /) -> Any:
        """Add an entity under the name of its function or class."""

    def use_versioning(self, version: "VersioningOptions", /) -> Any:
        """Say which versions of orchestrations the worker takes."""

    def configure_scheduled_tasks(self) -> Any:
        """Add what the SDK's recurring schedules need."""


def register(worker: Registrar) -> None:
    """Add every orchestrator, activity and entity of the application, and set versions and schedules up.

    Parameters
    ----------
    worker : Registrar
        The SDK's worker, or anything with the same methods. It must not have been started.
    """
    for module in MODULES:
        for orchestrator in module.ORCHESTRATORS:
            worker.add_orchestrator(orchestrator)
        for activity in module.ACTIVITIES:
            worker.add_activity(activity)
        for entity in module.ENTITIES:
            worker.add_entity(entity)
    worker.use_versioning(subscription.versioning())
    worker.configure_scheduled_tasks()
