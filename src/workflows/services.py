"""What activities work with: the store, the gateway and the model. One set a process.

Activities are plain functions, so that orchestrators can name them and workers register them; they ask
`services` for the rest. Orchestrators never do: whatever they learn from the world has to be in
their history.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflows.gateway import Gateway
    from workflows.model import Model
    from workflows.store import Store

_lock = threading.Lock()
_services: Services | None = None


@dataclass(frozen=True)
class Services:
    """What activities work with.

    Parameters
    ----------
    store : Store
        The database.
    gateway : Gateway
        Payments, jobs and sales figures.
    model : Model
        What the agent thinks with.
    """

    store: Store
    gateway: Gateway
    model: Model

    @classmethod
    def open(cls, settings: ServiceSettings) -> Services:
        """Open what the settings name.

        Raises
        ------
        SettingsError, StoreError
            If one of them cannot be opened.
        """
        # Imported here: whoever only replays or simulates the orchestrators needs none of it.
        import httpx

        from workflows.gateway import Gateway
        from workflows.local_gateway import LocalGateway
        from workflows.model import load_model
        from workflows.store import Store

        model = load_model(settings.model)
        store = Store(settings.database_url)
        if settings.gateway_url is not None:
            gateway = Gateway.at(settings.gateway_url)
        else:
            local = httpx.Client(transport=LocalGateway().transport(), base_url="http://local-gateway")
            gateway = Gateway(local)
        return cls(store, gateway, model)

    def close(self) -> None:
        """Close all connections."""
        self.store.close()
        self.gateway.close()


def services() -> Services:
    """The services of this process; opened, as the environment says, by the first who asks."""
    global _services
    with _lock:
        if _services is None:
            _services = Services.open(ServiceSettings.from_environment())
        return _services


@contextmanager
def use(chosen: Services) -> Iterator[Services]:
    """Use certain services in the whole process, for the length of a block; they are closed at its end."""
    global _services
    with _lock:
        before, _services = _services, chosen
    try:
        yield chosen
    finally:
        with _lock:
            _services = before
        chosen.close()
