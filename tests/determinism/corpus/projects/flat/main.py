"""A small project of plain files: one registers what the others define."""

from durabletask.worker import TaskHubGrpcWorker

import activities
import flows
import state
from compat import sleepy

RUN = [
    (flows.newsletter, [f"reader {number}" for number in range(100)]),
    (flows.campaign, ["ana", "raj"]),
    (flows.digest, ["Ana", "Raj", "Kim", "Eva", "Lin"]),
    (flows.survey, ["ana", "raj"]),
    (flows.audited, ["ana", "raj"]),
    (state.counting, "ana"),
    (sleepy, 0.01),
]


def main() -> None:
    with TaskHubGrpcWorker() as worker:
        worker.add_activity(activities.send)
        worker.add_orchestrator(flows.newsletter)
        worker.add_orchestrator(flows.campaign)
        worker.add_orchestrator(flows.digest)
        worker.add_orchestrator(flows.survey)
        worker.add_orchestrator(flows.audited)
        worker.add_orchestrator(state.counting)
        worker.add_orchestrator(sleepy)
        worker.start()


if __name__ == "__main__":
    main()
