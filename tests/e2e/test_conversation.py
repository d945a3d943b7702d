"""The agent, through the real worker and the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId

from workflows.agent import Chat, ChatResult, Transcript, agent
from workflows.demo import wait_for_custom_status

if TYPE_CHECKING:
    from durabletask.client import TaskHubGrpcClient

TIMEOUT = 20


def tell(client: TaskHubGrpcClient, instance_id: str, *messages: str) -> None:
    for message in messages:
        client.raise_orchestration_event(instance_id, "message", data=message)


def wait_for_answer(client: TaskHubGrpcClient, instance_id: str, number: int, answer: str) -> None:
    status = {"state": "waiting", "answered": number, "answer": answer}
    wait_for_custom_status(client, instance_id, status)


def finish(client: TaskHubGrpcClient, instance_id: str) -> ChatResult:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    result: ChatResult = state.get_output(ChatResult)
    return result


def questions(client: TaskHubGrpcClient, instance_id: str) -> list[str]:
    found: Any = client.get_entity(EntityInstanceId("Conversation", instance_id), include_state=True)
    return [turn.messages[0].text for turn in found.get_typed_state(Transcript).turns]


def test_it_answers_message_after_message_and_ends_when_it_is_told_to(client: TaskHubGrpcClient) -> None:
    chat = client.schedule_new_orchestration(agent, input=Chat())
    tell(client, chat, "What is 6 * 7?")
    wait_for_answer(client, chat, 1, "6 * 7 = 42")
    tell(client, chat, "Where is order RES-nowhere-1?")
    wait_for_answer(client, chat, 2, "There is no order RES-nowhere-1.")
    client.raise_orchestration_event(chat, "end")
    assert finish(client, chat) == ChatResult("ended", 2, "There is no order RES-nowhere-1.")


def test_messages_that_come_all_at_once_are_answered_in_order(client: TaskHubGrpcClient) -> None:
    chat = client.schedule_new_orchestration(agent, input=Chat())
    words = [f"message {n}" for n in "abcdef"]
    tell(client, chat, *words)
    wait_for_answer(client, chat, 6, "You said: message f")
    assert questions(client, chat) == words
    client.raise_orchestration_event(chat, "end")
    assert finish(client, chat).answered == 6


def test_two_conversations_do_not_mix(client: TaskHubGrpcClient) -> None:
    ana, raj = (client.schedule_new_orchestration(agent, input=Chat()) for _ in range(2))
    for word in ("one", "two"):
        tell(client, ana, f"ana {word}")
        tell(client, raj, f"raj {word}")
    for name, chat in (("ana", ana), ("raj", raj)):
        wait_for_answer(client, chat, 2, f"You said: {name} two")
        assert questions(client, chat) == [f"{name} one", f"{name} two"]
        client.raise_orchestration_event(chat, "end")
        finish(client, chat)


def test_silence_ends_it(client: TaskHubGrpcClient) -> None:
    chat = client.schedule_new_orchestration(agent, input=Chat(idle_after=0.05))
    assert finish(client, chat) == ChatResult("idle", 0)
