"""The job monitor through the real worker and the real client. Each test has a job of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from durabletask.client import OrchestrationStatus

from workflows.demo import wait_for_custom_status
from workflows.job_monitor import Verdict, Watch, job_monitor

if TYPE_CHECKING:
    from durabletask.client import TaskHubGrpcClient

SOON = 0.05
TIMEOUT = 20


def start(client: TaskHubGrpcClient, watch: Watch) -> str:
    return client.schedule_new_orchestration(job_monitor, input=watch)


def verdict(client: TaskHubGrpcClient, instance_id: str) -> Verdict | None:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    return state.get_output(Verdict)


@pytest.mark.parametrize(("job", "outcome"), [("ready-after-05", "succeeded"), ("broken-after-05", "failed")])
def test_a_job_is_watched_through_several_generations_until_it_ends(
    client: TaskHubGrpcClient, job: str, outcome: str
) -> None:
    watch = Watch(job, first_pause=SOON, longest_pause=2 * SOON, polls_per_generation=2)
    instance_id = start(client, watch)
    assert verdict(client, instance_id) == Verdict(job, outcome, polls=5)
    state = client.get_orchestration_state(instance_id)
    assert state is not None
    assert state.get_custom_status() == {"state": outcome, "polls": 5}


def test_a_monitor_expires_though_it_continues_as_new(client: TaskHubGrpcClient) -> None:
    watch = Watch("expires", first_pause=SOON, growth=1.0, expires_after=8 * SOON, polls_per_generation=1)
    found = verdict(client, start(client, watch))
    assert found is not None
    assert found.outcome == "expired"
    assert 1 <= found.polls <= 8


def test_a_monitor_is_stopped_in_a_pause(client: TaskHubGrpcClient) -> None:
    instance_id = start(client, Watch("stopped"))
    wait_for_custom_status(client, instance_id, {"state": "running", "polls": 1})
    client.raise_orchestration_event(instance_id, "stop")
    assert verdict(client, instance_id) == Verdict("stopped", "stopped", polls=1)


def test_a_stop_that_comes_while_it_is_suspended_counts_when_it_is_resumed(
    client: TaskHubGrpcClient,
) -> None:
    instance_id = start(client, Watch("suspended"))
    wait_for_custom_status(client, instance_id, {"state": "running", "polls": 1})
    client.suspend_orchestration(instance_id)
    client.raise_orchestration_event(instance_id, "stop")
    client.resume_orchestration(instance_id)
    assert verdict(client, instance_id) == Verdict("suspended", "stopped", polls=1)


def test_a_monitor_is_terminated(client: TaskHubGrpcClient) -> None:
    instance_id = start(client, Watch("terminated"))
    wait_for_custom_status(client, instance_id, {"state": "running", "polls": 1})
    client.terminate_orchestration(instance_id)
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.TERMINATED
