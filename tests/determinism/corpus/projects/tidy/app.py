"""A clean project: its modules hold clocks, files and chance, and its orchestrators call what has none."""

from tidy.activities import charge, read_rates
from tidy.flows import ORCHESTRATORS, checkout, invoice, overview, reserve

RUN = [(checkout, "desk"), (invoice, "desk"), (overview, ["raj", "ana", "raj"]), (reserve, "desk")]


def register(worker) -> None:
    worker.add_activity(charge)
    worker.add_activity(read_rates)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
