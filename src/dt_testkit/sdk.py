"""The only module that imports private names of the SDK.

Checked against ``durabletask`` 1.12.0. Everything else in dt_testkit takes these names from here, so a new
release of the SDK is looked at in one place; on a version that was not checked, importing this module fails
with one sentence that says which versions were.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import traceback
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone, tzinfo
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from dt_testkit.errors import DurableTestError, UnsupportedSdkError

SUPPORTED = "1.12"


def _check_version() -> None:
    try:
        installed = version("durabletask")
    except PackageNotFoundError:
        raise UnsupportedSdkError(
            f"dt_testkit needs the Durable Task SDK: pip install 'durabletask=={SUPPORTED}.*'."
        ) from None
    if installed.split(".")[:2] != SUPPORTED.split("."):
        raise UnsupportedSdkError(
            f"dt_testkit was checked against durabletask {SUPPORTED}.x, and {installed} is installed: "
            f"install 'durabletask=={SUPPORTED}.*', or a newer dt-testkit."
        )


_check_version()

from durabletask import task  # noqa: E402
from durabletask.history import _from_protobuf as event_from_protobuf  # noqa: E402
from durabletask.internal import orchestrator_service_pb2 as pb  # noqa: E402
from durabletask.internal import type_discovery  # noqa: E402
from durabletask.internal.entity_state_shim import StateShim  # noqa: E402
from durabletask.internal.helpers import (  # noqa: E402
    failure_details_from_protobuf,
    get_qualified_name,
    new_failure_details,
    new_timestamp,
    protobuf_value_from_python,
)
from durabletask.internal.json_encode_output_exception import JsonEncodeOutputException  # noqa: E402
from durabletask.internal.orchestration_entity_context import OrchestrationEntityContext  # noqa: E402
from durabletask.internal.shared import AUTO_SERIALIZED  # noqa: E402
from durabletask.internal.tracing import suppress_span_emission  # noqa: E402
from durabletask.worker import VersionFailureStrategy  # noqa: E402
from durabletask.worker import _OrchestrationExecutor as OrchestrationExecutor  # noqa: E402
from durabletask.worker import _Registry as Registry  # noqa: E402
from durabletask.worker import _RuntimeOrchestrationContext as RuntimeOrchestrationContext  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durabletask.exception_properties import ExceptionPropertiesProvider
    from durabletask.worker import VersioningOptions

__all__ = [
    "AUTO_SERIALIZED",
    "SUPPORTED",
    "JsonEncodeOutputException",
    "OrchestrationEntityContext",
    "OrchestrationExecutor",
    "Registry",
    "RuntimeOrchestrationContext",
    "StateShim",
    "VersionFailureStrategy",
    "event_from_protobuf",
    "failure_details_from_protobuf",
    "failure_of",
    "get_qualified_name",
    "new_timestamp",
    "pb",
    "protobuf_value_from_python",
    "relative_path",
    "suppress_span_emission",
    "type_discovery",
    "version_failure",
    "virtual_now",
    "virtual_surroundings",
]


def version_failure(versioning: VersioningOptions, version: str | None) -> task.FailureDetails | None:
    """Why a worker with these options does not take an orchestration of that version; None if it does."""
    executor = OrchestrationExecutor.__new__(OrchestrationExecutor)  # the method reads nothing of it
    details = executor.evaluate_orchestration_versioning(versioning, version)
    return failure_details_from_protobuf(details) if details is not None else None


def failure_of(
    error: Exception, properties: ExceptionPropertiesProvider | None = None
) -> task.FailureDetails:
    """The failure that a worker reports for an exception, the failure of a task inside it included.

    Its stack trace holds the user's frames alone, with paths from the working directory on: a recorded
    history is to be the same in another checkout, and after an edit of the harness.
    """
    try:
        details = new_failure_details(error, properties)
    except Exception as problem:
        raise DurableTestError(
            f"A failure with {type(error).__name__} cannot be put into words ({type(problem).__name__} from "
            "its str()): a worker gives that work up, and its instance never goes on."
        ) from error
    level, cause = details, error
    while True:
        level.stackTrace.value = _stack_trace(cause)
        inner = cause.__cause__ or cause.__context__
        if not level.HasField("innerFailure") or not isinstance(inner, Exception):
            break
        level, cause = level.innerFailure, inner
    if isinstance(error, task.TaskFailedError):
        details.innerFailure.CopyFrom(error._failure_details)
    return failure_details_from_protobuf(details)


_OURS = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (sys.modules[__name__], task))
_PYTHONS = (*{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")}, "<frozen ")


def _is_users(file: str) -> bool:
    return not file.startswith(_OURS) and (not file.startswith(_PYTHONS) or "-packages" in file)


def _stack_trace(error: BaseException) -> str:
    frames = (f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename))
    return "".join(
        f'  File "{relative_path(f.filename)}", line {f.lineno}, in {f.name}\n    {f.line}\n' for f in frames
    )


def relative_path(path: str) -> str:
    """A path from the working directory on, where it lies below that."""
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive; a working directory that is gone
        return path
    return path if relative.startswith("..") else relative


# -- the clock of the SDK's own code
#
# Two places in the SDK ask what time it is, and mean the time of the task hub: the entity behind recurring
# schedules, and a retry policy with a retry_timeout. They look the clock up as a global of their module, and
# find the one below there.


class _Surroundings(NamedTuple):
    now: Callable[[], datetime]
    new_id: Callable[[], str] | None = None


_local: ContextVar[_Surroundings | None] = ContextVar("dt_testkit_surroundings", default=None)
_everywhere: tuple[_Surroundings, ...] = ()
_everywhere_lock = threading.Lock()


def _surroundings() -> _Surroundings | None:
    here, everywhere = _local.get(), _everywhere
    return here if here is not None else (everywhere[-1] if everywhere else None)


def _now() -> datetime:
    around = _surroundings()
    if around is None:
        return datetime.now(timezone.utc)
    moment = around.now()
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _new_token() -> str:
    around = _surroundings()
    return around.new_id() if around is not None and around.new_id is not None else uuid.uuid4().hex


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        moment = _now()
        return moment.astimezone(tz) if tz is not None else moment.astimezone().replace(tzinfo=None)


def _watch_schedules() -> None:
    """Let recurring schedules ask us for the time and for their tokens; without surroundings as ever.

    Each time anew: someone (pytest's ``pytester``, for one) may have unloaded and loaded the modules.
    """
    from durabletask.scheduled import models, schedule_entity

    for module, name, ours in ((schedule_entity, "_now", _now), (models, "_new_token", _new_token)):
        getattr(module, name)  # an AttributeError is a release of the SDK that was not looked at
        setattr(module, name, ours)


@contextmanager
def virtual_surroundings(now: Callable[[], datetime], new_id: Callable[[], str]) -> Iterator[None]:
    """Give the SDK's schedules a clock, and a source of ids, for what runs in this context alone.

    Parameters
    ----------
    now : Callable
        Called without arguments, it tells the time: UTC, naive or aware.
    new_id : Callable
        Called without arguments, it returns a new id.
    """
    _watch_schedules()
    token = _local.set(_Surroundings(now, new_id))
    try:
        yield
    finally:
        _local.reset(token)


@contextmanager
def virtual_now(clock: Callable[[], datetime]) -> Iterator[None]:
    """Give the SDK's own code a clock in the whole process, for workers that run in threads of their own.

    It is what recurring schedules and ``retry_timeout`` go by. The clock that was given last counts; a
    :class:`~dt_testkit.TaskHub` that works in process keeps its own.

    Parameters
    ----------
    clock : Callable
        Called without arguments, it tells the time: UTC, naive or aware. It is called from any thread.

    Examples
    --------
    >>> from datetime import datetime
    >>> from durabletask.scheduled.models import ScheduleState
    >>> from durabletask.scheduled import schedule_entity
    >>> from dt_testkit.sdk import virtual_now
    >>> with virtual_now(lambda: datetime(2030, 1, 1)):
    ...     schedule_entity._now()
    datetime.datetime(2030, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    global _everywhere
    mine = _Surroundings(clock)
    with _everywhere_lock:
        _watch_schedules()
        vars(task)["datetime"] = _Datetime
        _everywhere = (*_everywhere, mine)
    try:
        yield
    finally:
        with _everywhere_lock:
            _everywhere = tuple(one for one in _everywhere if one is not mine)
            if not _everywhere:
                vars(task)["datetime"] = datetime
