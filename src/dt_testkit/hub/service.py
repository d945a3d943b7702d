"""What a hub answers to the SDK's client: the methods of the task hub service, by their names on the wire.

A method takes the request message and the caller's timeout, and returns the response message; it refuses
with :class:`Refused`. To serve one more call, add a method.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from google.protobuf import empty_pb2, timestamp_pb2, wrappers_pb2

from dt_testkit.errors import InstanceAlreadyExists
from dt_testkit.history.codec import events_to_protobuf, failure_to_protobuf
from dt_testkit.hub.entities import EntityOperation
from dt_testkit.hub.rewinding import rewind
from dt_testkit.sdk import pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dt_testkit.hub.entities import Entity
    from dt_testkit.hub.hub import TaskHub
    from dt_testkit.hub.instance import Instance

_CHUNK = 100
_PAGE = 100


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
                    request.instanceId or hub._new_id(),
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
            self._hub._refresh()
            instance = self._hub._instances.get(request.instanceId)
            if instance is None:
                return pb.GetInstanceResponse(exists=False)
            return found_state(instance, request.getInputsAndOutputs)

    def WaitForInstanceStart(
        self, request: pb.GetInstanceRequest, timeout: float | None
    ) -> pb.GetInstanceResponse:
        return self._wait(request, timeout, lambda i: i.status is not OrchestrationStatus.PENDING)

    def WaitForInstanceCompletion(
        self, request: pb.GetInstanceRequest, timeout: float | None
    ) -> pb.GetInstanceResponse:
        return self._wait(request, timeout, lambda i: i.is_terminal)

    def _wait(
        self, request: pb.GetInstanceRequest, timeout: float | None, done: Callable[[Instance], bool]
    ) -> pb.GetInstanceResponse:
        hub = self._hub
        with hub._driving():
            hub._refresh()
            instance = hub._instances.get(request.instanceId)
            until = hub.now + timedelta(seconds=timeout) if timeout is not None else None

            def is_done() -> bool:
                nonlocal instance
                # By id: it may be started later, and after a retry belong to another instance. One that is
                # purged meanwhile, by an activity for one, had ended, and that answers the wait.
                instance = hub._instances.get(request.instanceId, instance)
                return instance is not None and done(instance)

            if not hub._run_until(is_done, until):
                if until is not None:
                    hub._set_clock(until)
                waits = "\n".join(hub._blocked(instance)) if instance else hub._not_there(request.instanceId)
                raise Refused(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"After {timeout} s of virtual time: {waits}"
                )
            assert instance is not None
            return found_state(instance, request.getInputsAndOutputs)

    def StreamInstanceHistory(
        self, request: pb.StreamInstanceHistoryRequest, timeout: float | None
    ) -> Iterator[pb.HistoryChunk]:
        with self._hub._driving():
            self._hub._refresh()
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

    def QueryInstances(
        self, request: pb.QueryInstancesRequest, timeout: float | None
    ) -> pb.QueryInstancesResponse:
        query = request.query
        last_seen = _serial_in(query.continuationToken.value)
        with self._hub._driving():
            self._hub._refresh()
            # In the order in which they were created. A page begins behind the instance that the page before
            # ended with, so what is purged or started in between makes no difference to the others.
            instances = sorted(
                (
                    i
                    for i in self._chosen(query)
                    if i._serial > last_seen and i.instance_id.startswith(query.instanceIdPrefix.value)
                ),
                key=lambda i: i._serial,
            )
            page = instances[: query.maxInstanceCount] if query.maxInstanceCount > 0 else instances
            return pb.QueryInstancesResponse(
                orchestrationState=[_state(i, query.fetchInputsAndOutputs) for i in page],
                continuationToken=_string(str(page[-1]._serial)) if len(page) < len(instances) else None,
            )

    def ListInstanceIds(
        self, request: pb.ListInstanceIdsRequest, timeout: float | None
    ) -> pb.ListInstanceIdsResponse:
        last_seen = _serial_in(request.lastInstanceKey.value)
        statuses = frozenset(request.runtimeStatus)
        with self._hub._driving():
            self._hub._refresh()
            # In the order in which they ended, which at one moment of virtual time their ids do not tell.
            ended = sorted(
                (
                    i
                    for i in self._hub._instances.values()
                    if i.is_terminal
                    and i._ended > last_seen
                    and (not statuses or i.status.value in statuses)
                    and _is_within(i.last_updated_at, request, "completedTime")
                ),
                key=lambda i: i._ended,
            )
            page = ended[: request.pageSize if request.pageSize > 0 else _PAGE]
            return pb.ListInstanceIdsResponse(
                instanceIds=[i.instance_id for i in page],
                lastInstanceKey=_string(str(page[-1]._ended)) if len(page) < len(ended) else None,
            )

    def PurgeInstances(
        self, request: pb.PurgeInstancesRequest, timeout: float | None
    ) -> pb.PurgeInstancesResponse:
        hub = self._hub
        with hub._driving():
            hub._refresh()
            if request.HasField("purgeInstanceFilter"):  # its timeout is long enough: no time passes here
                purged = hub._purge(self._chosen(request.purgeInstanceFilter), request.recursive)
            else:
                instance = hub._instances.get(request.instanceId)
                purged = hub._purge([instance], request.recursive) if instance is not None else 0
        return pb.PurgeInstancesResponse(
            deletedInstanceCount=purged, isComplete=wrappers_pb2.BoolValue(value=True)
        )

    def RestartInstance(
        self, request: pb.RestartInstanceRequest, timeout: float | None
    ) -> pb.RestartInstanceResponse:
        with self._hub._driving():
            self._hub._refresh()
            instance = self._find(request.instanceId)
            if not instance.is_terminal:
                raise Refused(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Orchestration instance '{request.instanceId}' is not in a terminal state",
                )
            restarted = self._hub._restart(instance, request.restartWithNewInstanceId)
        return pb.RestartInstanceResponse(instanceId=restarted.instance_id)

    def RewindInstance(
        self, request: pb.RewindInstanceRequest, timeout: float | None
    ) -> pb.RewindInstanceResponse:
        with self._hub._driving():
            self._hub._refresh()
            instance = self._find(request.instanceId)
            if instance.status is not OrchestrationStatus.FAILED:
                raise Refused(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Orchestration instance '{request.instanceId}' is not in a failed state",
                )
            rewind(self._hub, instance, _text(request, "reason"))
        return pb.RewindInstanceResponse()

    def SignalEntity(self, request: pb.SignalEntityRequest, timeout: float | None) -> pb.SignalEntityResponse:
        when = request.scheduledTime.ToDatetime() if request.HasField("scheduledTime") else None
        operation = EntityOperation(request.name, _text(request, "input"), request.requestId)
        entity_id = _entity_id(request.instanceId)
        with self._hub._lock:
            self._hub._entity(entity_id)  # a client makes it at once, as in the SDK's backend
            self._hub._signal_entity(entity_id, operation, when)
        return pb.SignalEntityResponse()

    def GetEntity(self, request: pb.GetEntityRequest, timeout: float | None) -> pb.GetEntityResponse:
        with self._hub._driving():
            self._hub._refresh()
            entity = self._hub._entities.get(request.instanceId)
            if entity is None:
                return pb.GetEntityResponse(exists=False)
            return pb.GetEntityResponse(exists=True, entity=_entity(entity, request.includeState))

    def QueryEntities(
        self, request: pb.QueryEntitiesRequest, timeout: float | None
    ) -> pb.QueryEntitiesResponse:
        query = request.query
        with self._hub._driving():
            self._hub._refresh()
            # By their ids. A page begins behind the last id of the page before.
            entities = sorted(
                (
                    entity
                    for id, entity in self._hub._entities.items()
                    if id > query.continuationToken.value
                    and id.startswith(query.instanceIdStartsWith.value)
                    and _is_within(entity.last_modified_at, query, "lastModified")
                    and (query.includeTransient or not entity.queue_length)
                ),
                key=lambda entity: entity._id,
            )
            size = query.pageSize.value
            page = entities[:size] if size > 0 else entities
            return pb.QueryEntitiesResponse(
                entities=[_entity(entity, query.includeState) for entity in page],
                continuationToken=_string(page[-1]._id) if len(page) < len(entities) else None,
            )

    def CleanEntityStorage(
        self, request: pb.CleanEntityStorageRequest, timeout: float | None
    ) -> pb.CleanEntityStorageResponse:
        with self._hub._driving():
            self._hub._refresh()
            released = self._hub._release_orphaned_locks() if request.releaseOrphanedLocks else 0
            self._hub._refresh()
            removed = self._hub._remove_empty_entities() if request.removeEmptyEntities else 0
        return pb.CleanEntityStorageResponse(emptyEntitiesRemoved=removed, orphanedLocksReleased=released)

    def CreateTaskHub(self, request: Any, timeout: float | None) -> pb.CreateTaskHubResponse:
        return pb.CreateTaskHubResponse()  # as in the SDK's backend, neither does anything

    def DeleteTaskHub(self, request: Any, timeout: float | None) -> pb.DeleteTaskHubResponse:
        return pb.DeleteTaskHubResponse()

    def _chosen(self, criteria: Any) -> Iterator[Instance]:
        """What a query or the filter of a purge asks for, by status and time of creation."""
        statuses = frozenset(criteria.runtimeStatus)
        return (
            i
            for i in self._hub._instances.values()
            if (not statuses or i.status.value in statuses)
            and _is_within(i.created_at, criteria, "createdTime")
        )

    def _find(self, instance_id: str) -> Instance:
        instance = self._hub._instances.get(instance_id)
        if instance is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Orchestration instance '{instance_id}' not found")
        return instance


def found_state(instance: Instance, payloads: bool) -> pb.GetInstanceResponse:
    return pb.GetInstanceResponse(exists=True, orchestrationState=_state(instance, payloads))


def _state(instance: Instance, payloads: bool) -> pb.OrchestrationState:
    parent = instance._parent
    return pb.OrchestrationState(
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
        parentInstanceId=_string(parent.instance.instance_id) if parent is not None else None,
        tags=instance.tags,
    )


def _entity(entity: Entity, with_state: bool) -> pb.EntityMetadata:
    return pb.EntityMetadata(
        instanceId=entity._id,
        lastModifiedTime=_timestamp(entity.last_modified_at),
        backlogQueueSize=entity.queue_length,
        lockedBy=_string(entity.locked_by),
        serializedState=_string(entity._state) if with_state else None,
    )


def _entity_id(text: str) -> str:
    try:
        return str(EntityInstanceId.parse(text))
    except ValueError as error:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{text[:100]!r} is no id of an entity ({error}): write '@name@key'.",
        ) from None


def _is_within(moment: datetime, request: Any, name: str) -> bool:
    """Whether a moment lies in the range of a request: from its begin on, and before its end."""
    begin, end = f"{name}From", f"{name}To"
    return (not request.HasField(begin) or moment >= getattr(request, begin).ToDatetime()) and (
        not request.HasField(end) or moment < getattr(request, end).ToDatetime()
    )


def _serial_in(token: str) -> int:
    """Where the page before ended: the instance's serial number; 0 for the first page."""
    try:
        if token and not token.isdecimal():
            raise ValueError
        return int(token or "0")
    except ValueError:
        raise _not_ours(token) from None


def _not_ours(token: str) -> Refused:
    return Refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"The continuation token {token[:100]!r} is not one that this hub has given: ask for the first page "
        "without one, and for each next page with the token of the page before.",
    )


def _text(message: Any, field: str) -> str | None:
    return getattr(message, field).value if message.HasField(field) else None


def _string(value: str | None) -> wrappers_pb2.StringValue | None:
    return wrappers_pb2.StringValue(value=value) if value is not None else None


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(moment.replace(tzinfo=timezone.utc))
    return made
