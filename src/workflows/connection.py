"""The worker and the client for the task hub that the settings name.

Importing this module imports gRPC; importing ``workflows`` does not, so that what only looks at the
workflows (a test, a replay) starts quickly. ``azure.identity`` is imported for the first connection that
needs a credential.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from workflows.settings import Settings

# Given no logger, the SDK makes its own, with their own handlers, out of reach of logging's configuration.
_WORKER_LOGGER = logging.getLogger("durabletask.worker")
_CLIENT_LOGGER = logging.getLogger("durabletask.client")


def _is_news(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not ("Error in work item stream" in message and "Locally cancelled by application" in message)


# A worker that is stopped warns of the stream that it has just closed itself.
_WORKER_LOGGER.addFilter(_is_news)


def create_credential(settings: Settings) -> TokenCredential | None:
    """Choose how to prove who we are.

    Parameters
    ----------
    settings : Settings
        Where the connection goes.

    Returns
    -------
    TokenCredential | None
        None for a scheduler on this machine, which asks for none; ``DefaultAzureCredential`` otherwise. It
        asks for a token, over the network, only when the first call is made.
    """
    if not settings.secure:
        return None
    from azure.identity import DefaultAzureCredential

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
        logger=_WORKER_LOGGER,
    )


def create_client(
    settings: Settings, credential: TokenCredential | None = None
) -> DurableTaskSchedulerClient:
    """Make a client.

    Parameters
    ----------
    settings : Settings
        The task hub to talk to.
    credential : TokenCredential | None
        The credential for a secure connection; by default the one that `create_credential` chooses.

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
        logger=_CLIENT_LOGGER,
    )


def _credential_for(settings: Settings, credential: TokenCredential | None) -> TokenCredential | None:
    if not settings.secure:
        return None  # a token sent without TLS is a token given away
    return credential if credential is not None else create_credential(settings)
