"""An application of several packages, with re-exports, relative imports and a registry of its own."""

from .flows import ORCHESTRATORS
from .flows.orders import pack

__all__ = ["RUN", "register"]

RUN = [(orchestrator.__name__, "eur") for orchestrator in ORCHESTRATORS]


def register(worker) -> None:
    worker.add_activity(pack)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
