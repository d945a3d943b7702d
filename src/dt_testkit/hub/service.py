"""What a hub answers to the SDK's client: the methods of the task hub service, by their names on the wire.

A method takes the request message and the caller's timeout, and returns the response message; it refuses
with :class:`Refused`. To serve one more call, add a method.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
from durabletask.client import OrchestrationStatus
from google.protobuf import empty_pb2, timestamp_pb2, wrappers_pb2

from dt_testkit.errors import InstanceAlreadyExists
from dt_testkit.history.codec import events_to_protobuf, failure_to_protobuf
from dt_testkit.sdk import pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dt_testkit.hub.hub import TaskHub
    from dt_testkit.hub.instance import Instance

_CHUNK = 100


class Refused(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """An answer that is an error, as grpc's own errors show themselves to the client."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class HubService:
    """The service methods of one hub."""

    def __init__(self, hub: TaskHub) -> None:
        self._hub = hub

    def Hello(self, request: Any, timeout: float | None) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def StartInstance(
        self, request: pb.CreateInstanceRequest, timeout: float | None
    ) -> pb.CreateInstanceResponse:
        hub = self._hub
        with hub._lock:
            try:
                instance = hub._create(
                    request.name,
                    _text(request, "input"),
                    request.instanceId or f"{hub._random.getrandbits(128):032x}",
                    version=_text(request, "version"),
                    tags=dict(request.tags),
                    start_at=request.scheduledStartTimestamp.ToDatetime()
                    if request.HasField("scheduledStartTimestamp")
                    else None,
                    replaceable=frozenset(request.orchestrationIdReusePolicy.replaceableStatus),
                )
            except InstanceAlreadyExists as error:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, str(error)) from None
        return pb.CreateInstanceResponse(instanceId=instance.instance_id)

    def GetInstance(self, request: pb.GetInstanceRequest, timeout: float | None) -> pb.GetInstanceResponse:
        with self._hub._driving():
            self._hub._settle()
            return self._state(self._hub._instances.get(request.instanceId), request.getInputsAndOutputs)

    def WaitForInstanceStart(
        self, request: pb.GetInstanceRequest, timeout: float | None
    ) -> pb.GetInstanceResponse:
        return self._wait(request, timeout, lambda i: i.status is not OrchestrationStatus.PENDING)

    def WaitForInstanceCompletion(
        self, request: pb.GetInstanceRequest, timeout: float | None
    ) -> pb.GetInstanceResponse:
        return self._wait(request, timeout, lambda i: i.is_terminal)

    def _wait(
        self, request: pb.GetInstanceRequest, timeout: float | None, done: Any
    ) -> pb.GetInstanceResponse:
        hub = self._hub
        with hub._driving():
            hub._settle()
            instances, instance_id = hub._instances, request.instanceId
            if instance_id not in instances:
                return pb.GetInstanceResponse(exists=False)
            until = hub.now + timedelta(seconds=timeout) if timeout is not None else None
            # By id, not by instance: continuing after a retry, the id may belong to another instance.
            if not hub._run_until(lambda: done(instances[instance_id]), until):
                if until is not None:
                    hub._set_clock(until)
                waits = "\n".join(hub._blocked(instances[instance_id]))
                raise Refused(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"After {timeout} s of virtual time: {waits}"
                )
            return self._state(instances[instance_id], request.getInputsAndOutputs)

    def StreamInstanceHistory(
        self, request: pb.StreamInstanceHistoryRequest, timeout: float | None
    ) -> Iterator[pb.HistoryChunk]:
        with self._hub._driving():
            self._hub._settle()
            messages = events_to_protobuf(self._find(request.instanceId)._generations[-1])
        return (
            pb.HistoryChunk(events=messages[start : start + _CHUNK])
            for start in range(0, len(messages), _CHUNK)
        )

    def RaiseEvent(self, request: pb.RaiseEventRequest, timeout: float | None) -> pb.RaiseEventResponse:
        with self._hub._lock:
            self._hub._raise_event(self._find(request.instanceId), request.name, _text(request, "input"))
        return pb.RaiseEventResponse()

    def SuspendInstance(self, request: pb.SuspendRequest, timeout: float | None) -> pb.SuspendResponse:
        with self._hub._lock:
            self._hub._suspend(self._find(request.instanceId), _text(request, "reason"))
        return pb.SuspendResponse()

    def ResumeInstance(self, request: pb.ResumeRequest, timeout: float | None) -> pb.ResumeResponse:
        with self._hub._lock:
            self._hub._resume(self._find(request.instanceId), _text(request, "reason"))
        return pb.ResumeResponse()

    def TerminateInstance(self, request: pb.TerminateRequest, timeout: float | None) -> pb.TerminateResponse:
        with self._hub._lock:
            # Unlike the others this is no error where there is no such instance, as in the SDK's backend.
            instance = self._hub._instances.get(request.instanceId)
            if instance is not None:
                self._hub._terminate(instance, _text(request, "output"), request.recursive)
        return pb.TerminateResponse()

    def _find(self, instance_id: str) -> Instance:
        instance = self._hub._instances.get(instance_id)
        if instance is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Orchestration instance '{instance_id}' not found")
        return instance

    @staticmethod
    def _state(instance: Instance | None, payloads: bool) -> pb.GetInstanceResponse:
        if instance is None:
            return pb.GetInstanceResponse(exists=False)
        return pb.GetInstanceResponse(
            exists=True,
            orchestrationState=pb.OrchestrationState(
                instanceId=instance.instance_id,
                name=instance.name,
                version=_string(instance.version),
                orchestrationStatus=instance.status.value,
                createdTimestamp=_timestamp(instance.created_at),
                lastUpdatedTimestamp=_timestamp(instance.last_updated_at),
                completedTimestamp=_timestamp(instance.last_updated_at) if instance.is_terminal else None,
                input=_string(instance._input) if payloads else None,
                output=_string(instance._output) if payloads else None,
                customStatus=_string(instance._custom_status),
                failureDetails=failure_to_protobuf(instance.failure) if instance.failure else None,
                tags=instance.tags,
            ),
        )


def _text(message: Any, field: str) -> str | None:
    return getattr(message, field).value if message.HasField(field) else None


def _string(value: str | None) -> wrappers_pb2.StringValue | None:
    return wrappers_pb2.StringValue(value=value) if value is not None else None


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(moment.replace(tzinfo=timezone.utc))
    return made
