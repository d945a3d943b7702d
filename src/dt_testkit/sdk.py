"""The only module that imports private names of the SDK.

Checked against ``durabletask`` 1.12.0. Everything else in dt_testkit takes these names from here, so a new
release of the SDK is looked at in one place; on a version that was not checked, importing this module fails
with one sentence that says which versions were.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

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
    protobuf_value_from_python,
)
from durabletask.internal.json_encode_output_exception import JsonEncodeOutputException  # noqa: E402
from durabletask.internal.orchestration_entity_context import OrchestrationEntityContext  # noqa: E402
from durabletask.internal.shared import AUTO_SERIALIZED  # noqa: E402
from durabletask.internal.tracing import suppress_span_emission  # noqa: E402
from durabletask.worker import VersionFailureStrategy  # noqa: E402
from durabletask.worker import _EntityExecutor as EntityExecutor  # noqa: E402
from durabletask.worker import _OrchestrationExecutor as OrchestrationExecutor  # noqa: E402
from durabletask.worker import _Registry as Registry  # noqa: E402

if TYPE_CHECKING:
    from durabletask.exception_properties import ExceptionPropertiesProvider
    from durabletask.worker import VersioningOptions

__all__ = [
    "AUTO_SERIALIZED",
    "SUPPORTED",
    "EntityExecutor",
    "JsonEncodeOutputException",
    "OrchestrationEntityContext",
    "OrchestrationExecutor",
    "Registry",
    "StateShim",
    "VersionFailureStrategy",
    "event_from_protobuf",
    "failure_details_from_protobuf",
    "failure_of",
    "get_qualified_name",
    "pb",
    "protobuf_value_from_python",
    "relative_path",
    "suppress_span_emission",
    "type_discovery",
    "version_failure",
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
    except ValueError:  # another drive
        return path
    return path if relative.startswith("..") else relative
