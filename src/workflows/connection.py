"""The worker and the clients for the task hub that the settings name, and words for what goes wrong there.

Importing this module imports gRPC; importing ``workflows`` does not, so that what only looks at the
workflows (a test, a replay) starts quickly. ``azure.identity`` is imported for the first connection that
needs a credential.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.grpc_options import GrpcWorkerResiliencyOptions

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

    from workflows.settings import Settings

# Given no logger, the SDK makes its own, with their own handlers, out of reach of logging's configuration.
_WORKER_LOGGER = logging.getLogger("durabletask.worker")
_CLIENT_LOGGER = logging.getLogger("durabletask.client")

_STREAM_SECONDS = 300.0
_HELLO_SECONDS = 10.0  # so long a worker that is told to stop may wait for a task hub that says nothing
_RPC_ERROR = re.compile(
    r'<\w+ of RPC that .*?status = StatusCode\.(\w+)\s+details = "(.*?)"\n.*?>', re.DOTALL
)
ROLE = "Durable Task Data Contributor"


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what is none, and put the errors of gRPC, which the SDK logs as they are, on one line."""
    message = record.getMessage()
    if "Error in work item stream" in message and "Locally cancelled by application" in message:
        return False  # a worker that is stopped warns of the stream that it has just closed itself
    if " of RPC that " in message:
        record.msg, record.args = _RPC_ERROR.sub(r"\1: \2", message), ()
    return True


_WORKER_LOGGER.addFilter(_is_news)


def create_credential(settings: Settings) -> TokenCredential | None:
    """Choose how to prove who we are.

    Parameters
    ----------
    settings : Settings
        Where the connection goes, and which credential to take there.

    Returns
    -------
    TokenCredential | None
        None for a scheduler on this machine, which asks for none. A credential asks for a token, over the
        network, only when the first call is made.
    """
    if not settings.secure:
        return None
    from azure.identity import AzureCliCredential, DefaultAzureCredential, ManagedIdentityCredential

    if settings.credential == "managed-identity":
        return ManagedIdentityCredential(client_id=settings.client_id)
    if settings.credential == "azure-cli":
        return AzureCliCredential()
    return DefaultAzureCredential()


def create_worker(
    settings: Settings, credential: TokenCredential | None = None
) -> DurableTaskSchedulerWorker:
    """Make a worker, with nothing registered yet and not started.

    Parameters
    ----------
    settings : Settings
        The task hub to work for.
    credential : TokenCredential | None
        The credential for a secure connection; by default the one that `create_credential` chooses.

    Returns
    -------
    DurableTaskSchedulerWorker
        Register the workflows with ``workflows.register(worker)``, then start it; leaving its ``with`` block
        stops it.
    """
    return DurableTaskSchedulerWorker(
        host_address=settings.host_address,
        taskhub=settings.taskhub,
        token_credential=_credential_for(settings, credential),
        secure_channel=settings.secure,
        resiliency_options=GrpcWorkerResiliencyOptions(hello_timeout_seconds=_HELLO_SECONDS),
        logger=_WORKER_LOGGER,
    )


def create_client(
    settings: Settings, credential: TokenCredential | None = None, *, timeout: float | None = None
) -> DurableTaskSchedulerClient:
    """Make a client.

    Parameters
    ----------
    settings : Settings
        The task hub to talk to.
    credential : TokenCredential | None
        The credential for a secure connection; by default the one that `create_credential` chooses.
    timeout : float | None
        How many seconds to wait for an answer; None for as long as it takes.

    Returns
    -------
    DurableTaskSchedulerClient
        Leaving its ``with`` block closes it.
    """
    return DurableTaskSchedulerClient(
        host_address=settings.host_address,
        taskhub=settings.taskhub,
        token_credential=_credential_for(settings, credential),
        secure_channel=settings.secure,
        interceptors=None if timeout is None else [_Patience(timeout)],
        logger=_CLIENT_LOGGER,
    )


def create_async_client(
    settings: Settings, credential: AsyncTokenCredential | None = None
) -> AsyncDurableTaskSchedulerClient:
    """Make a client for asyncio.

    Parameters
    ----------
    settings : Settings
        The task hub to talk to.
    credential : AsyncTokenCredential | None
        The credential for a secure connection; by default the one that `create_credential` chooses, which
        is asked in a thread.

    Returns
    -------
    AsyncDurableTaskSchedulerClient
        Leaving its ``async with`` block closes it.
    """
    if not settings.secure:
        credential = None
    elif credential is None and (chosen := create_credential(settings)) is not None:
        credential = _AskedInThread(chosen)
    return AsyncDurableTaskSchedulerClient(
        host_address=settings.host_address,
        taskhub=settings.taskhub,
        token_credential=credential,
        secure_channel=settings.secure,
        logger=_CLIENT_LOGGER,
    )


def _credential_for(settings: Settings, credential: TokenCredential | None) -> TokenCredential | None:
    if not settings.secure:
        return None  # a token sent without TLS is a token given away
    return credential if credential is not None else create_credential(settings)


class _AskedInThread:
    """A credential for asyncio. Those of ``azure.identity.aio`` need an HTTP library of their own."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return await asyncio.to_thread(self._credential.get_token, *scopes, **options)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> _AskedInThread:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class _CallDetails(NamedTuple):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Patience(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Gives a deadline to calls that have none: the SDK's client would wait for ever."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(_with_timeout(details, self._seconds), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        # A long history may take longer than any other answer.
        return continuation(_with_timeout(details, max(self._seconds, _STREAM_SECONDS)), request)


def _with_timeout(details: Any, seconds: float) -> Any:
    if details.timeout is not None:
        return details
    return _CallDetails(
        details.method,
        seconds,
        details.metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )


class Problem(NamedTuple):
    """What is wrong, and what to do.

    Attributes
    ----------
    sentence : str
        For people.
    with_connection : bool
        Whether the task hub could not be reached, or does not let us in; else it refused one request.
    is_refusal : bool
        Whether waiting will not help: who we are, or what we may do, has to change.
    """

    sentence: str
    with_connection: bool = False
    is_refusal: bool = False


def explain(error: BaseException, settings: Settings) -> Problem | None:
    """Put an error of a call to the task hub into words; None if it is another kind of error."""
    if isinstance(error, grpc.RpcError):
        return _explain_status(error.code(), _one_line(error.details()), settings)
    from azure.core.exceptions import AzureError, ClientAuthenticationError

    if isinstance(error, AzureError):  # of the credential: nothing else here is Azure's
        return Problem(
            f"No token for {settings.endpoint} could be had with CREDENTIAL {settings.credential!r} "
            f"({_one_line(error.message)}): {_NEXT[settings.credential]}.",
            with_connection=True,
            is_refusal=isinstance(error, ClientAuthenticationError),
        )
    return None


_NEXT = {
    "default": "run 'az login', or set CREDENTIAL to managed-identity where the machine has one",
    "managed-identity": "give this machine a managed identity, and set AZURE_CLIENT_ID to its client id if "
    "it is user-assigned, or unset it if it is not",
    "azure-cli": "install the Azure CLI, and run 'az login'",
}


def _explain_status(code: grpc.StatusCode, details: str, settings: Settings) -> Problem:
    where = f"The task hub {settings.taskhub!r} at {settings.endpoint}"
    said = f"{code.name}: {details}" if details else code.name
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            next_step = (
                f"check CREDENTIAL ({settings.credential!r}) and whose token it gives"
                if settings.secure
                else "over http no token is sent, so use https"
            )
            return Problem(f"{where} does not accept our token ({said}): {next_step}.", True, True)
        case grpc.StatusCode.PERMISSION_DENIED:
            return Problem(
                f"{where} does not let us in ({said}): check TASKHUB, and that our identity has the role "
                f"{ROLE!r} on it.",
                True,
                True,
            )
        case grpc.StatusCode.UNAVAILABLE:
            return Problem(
                f"{settings.endpoint} cannot be reached ({said}): check ENDPOINT, and that a task hub is "
                "served there.",
                True,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Problem(
                f"{settings.endpoint} does not answer ({said}): check ENDPOINT, or wait longer with "
                "--timeout.",
                True,
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return Problem(
                f"What answers at {settings.endpoint} does not know this request ({said}): check that "
                "ENDPOINT is a task hub, and its version.",
                True,
            )
        case grpc.StatusCode.ALREADY_EXISTS:
            return Problem(f"{where} has an instance of that id ({said}): choose another with --id.")
        case grpc.StatusCode.FAILED_PRECONDITION:
            return Problem(f"{where} refuses ({said}): look at the instance with 'status'.")
        case _:
            return Problem(f"{where} refuses ({said}).")


def _one_line(text: str | None) -> str:
    """The first line of what somebody else has to say, without the full stop."""
    lines = (text or "").strip().splitlines()
    return lines[0].strip().rstrip(".:")[:500] if lines else ""
