"""Every exception that dt_testkit raises.

::

    DurableTestError
    ├── UnsupportedSdkError       also an ImportError
    ├── HistoryFormatError        also a ValueError
    ├── ApplicationError          also a ValueError
    ├── ReplayDivergence          also an AssertionError
    ├── OrchestrationBlocked
    ├── OrchestrationNotFinished
    ├── VersionRejected
    ├── InstanceNotFound          also a LookupError
    ├── InstanceAlreadyExists     also a ValueError
    ├── InvalidState              also a ValueError
    ├── InvalidTime               also a ValueError
    ├── NonDeterministicCall
    ├── StepError
    └── StubExhausted

A warning, for hubs that only warn: ``NonDeterminismWarning``, a ``UserWarning``.

Each message is one sentence that names the thing, the place and the next step; where a list helps (the
operations an instance waits for, the divergences of a replay), it follows on lines of its own.

What the SDK itself raises, or records as the failure of an instance, stays what it is: an activity nobody
registered fails with the SDK's ``ActivityNotRegisteredError``, as it would in production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dt_testkit.locations import Location
    from dt_testkit.replaying import ReplayReport


class DurableTestError(Exception):
    """The root of the hierarchy: ``except DurableTestError`` catches all that dt_testkit raises."""


class UnsupportedSdkError(DurableTestError, ImportError):
    """The installed ``durabletask`` is not a version that dt_testkit was checked against."""


class HistoryFormatError(DurableTestError, ValueError):
    """A history could not be read: the file is cut, malformed, of an unknown schema, or too large."""


class ApplicationError(DurableTestError, ValueError):
    """An application named as ``module:attribute`` could not be loaded or registered."""


class ReplayDivergence(DurableTestError, AssertionError):
    """Replaying a history did not ask for what the history recorded.

    Attributes
    ----------
    report : ReplayReport
        What was found; its text is the message of the exception.
    """

    def __init__(self, report: ReplayReport) -> None:
        super().__init__(str(report))
        self.report = report


class OrchestrationBlocked(DurableTestError):
    """Nothing that the hub could do would move the instance: it waits for something from outside."""


class OrchestrationNotFinished(DurableTestError):
    """A limit of turns or generations was reached and there was still work: an eternal orchestration."""


class VersionRejected(DurableTestError):
    """The worker's versioning options reject the version of an instance, which waits for another worker."""


class InstanceNotFound(DurableTestError, LookupError):
    """No instance of that id."""


class InstanceAlreadyExists(DurableTestError, ValueError):
    """An instance of that id exists, and the SDK does not replace it unless told to."""


class InvalidState(DurableTestError, ValueError):
    """What is asked of an instance does not go with its status: rewind wants FAILED, restart an ended one."""


class InvalidTime(DurableTestError, ValueError):
    """A moment or a span of virtual time that cannot be: the clock does not go backwards."""


class NonDeterministicCall(DurableTestError):
    """An orchestrator did what a replay would do otherwise, and was stopped there: see ``docs/guard.md``.

    Attributes
    ----------
    call : str
        What was called, or read: ``"datetime.datetime.now"``.
    code : str
        The hazard it is: ``"DT101"``.
    location : Location | None
        The line of the user's code that led to it.
    route : tuple[str, ...]
        How the orchestrator got there: ``"path:line function"`` for each call, the orchestrator first.
    instead : str
        The durable way to do it.
    """

    def __init__(
        self,
        message: str,
        call: str = "",
        code: str = "",
        location: Location | None = None,
        route: tuple[str, ...] = (),
        instead: str = "",
    ) -> None:
        super().__init__(message)
        self.call = call
        self.code = code
        self.location = location
        self.route = route
        self.instead = instead


class NonDeterminismWarning(UserWarning):
    """What :class:`NonDeterministicCall` says, of a hub with ``guard="warn"``: once for each line."""


class StepError(DurableTestError):
    """A step of :func:`~dt_testkit.drive` that is impossible: nothing pending, already done, or ambiguous."""


class StubExhausted(DurableTestError):
    """A stub was called more often than its ``side_effect`` has results."""
