"""What a worker is set up with, where it changes what an orchestration does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import timedelta

    from durabletask.exception_properties import ExceptionPropertiesProvider
    from durabletask.worker import VersioningOptions


class WorkerOptions(NamedTuple):
    """The settings of a worker, by the names that ``TaskHubGrpcWorker`` has for them.

    Attributes
    ----------
    maximum_timer_interval : timedelta | None
        The longest timer that is created in one piece; longer ones are chunked. None, as in the worker for
        the Durable Task Scheduler, chunks nothing; ``TaskHubGrpcWorker`` has three days.
    versioning : VersioningOptions | None
        What was given to ``use_versioning``.
    exception_properties_provider : ExceptionPropertiesProvider | None
        What adds properties to the failures that are reported.
    """

    maximum_timer_interval: timedelta | None = None
    versioning: VersioningOptions | None = None
    exception_properties_provider: ExceptionPropertiesProvider | None = None


DEFAULT_OPTIONS = WorkerOptions()
