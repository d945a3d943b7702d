"""A gRPC server in front of a hub that is served: what a scheduler in the cloud does, and a hub does not.

It takes TLS, looks at the metadata of each call before it lets it through, and can carry trace contexts from
whoever schedules something to whoever does it.
"""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from durabletask.internal import orchestrator_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Refusal = tuple[grpc.StatusCode, str] | None

_STREAMS = ("GetWorkItems", "StreamInstanceHistory")


class Front(grpc.GenericRpcHandler):
    """Forwards every call to a hub.

    Parameters
    ----------
    hub_address : str
        Where the hub is served, as ``host:port``.
    tls : tuple[bytes, bytes] | None
        The private key and the certificate; without them there is no TLS.
    check : Callable
        Looks at the method and the metadata of a call, and refuses it with a status and a text.
    traces : bool
        Whether to carry trace contexts.
    """

    def __init__(
        self,
        hub_address: str,
        *,
        tls: tuple[bytes, bytes] | None = None,
        check: Callable[[str, dict[str, str]], Refusal] = lambda method, metadata: None,
        traces: bool = False,
    ) -> None:
        self._check = check
        self._traces = Traces() if traces else None
        self._channel = grpc.insecure_channel(hub_address)
        self._server = grpc.server(futures.ThreadPoolExecutor(50), handlers=(self,))
        if tls is None:
            self.port = self._server.add_insecure_port("localhost:0")
        else:
            self.port = self._server.add_secure_port("localhost:0", grpc.ssl_server_credentials([tls]))
        self._server.start()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(0.5).wait()
        self._channel.close()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        path = details.method
        name = path.rpartition("/")[2]
        refusal = self._check(name, {key: str(value) for key, value in details.invocation_metadata})

        def refuse(request: bytes, context: grpc.ServicerContext) -> Any:
            context.abort(*refusal)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            request = self._traces.on_request(name, request) if self._traces else request
            try:
                return self._channel.unary_unary(path)(request, timeout=_remaining(context))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            replies = self._channel.unary_stream(path)(request, timeout=_remaining(context))
            context.add_callback(replies.cancel)
            try:
                for reply in replies:
                    yield self._traces.on_reply(name, reply) if self._traces else reply
            except grpc.RpcError as error:
                if context.is_active():
                    context.abort(error.code(), error.details())

        if name in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(refuse if refusal else stream)
        return grpc.unary_unary_rpc_method_handler(refuse if refusal else call)


def _remaining(context: grpc.ServicerContext) -> float:
    """The deadline of a call; one without has a deadline far beyond what can be passed on."""
    return min(context.time_remaining(), 600.0)


class Traces:
    """Keeps the trace contexts of orchestrations and activities, and hands them on with the work."""

    def __init__(self) -> None:
        self._started: dict[str, pb.TraceContext] = {}
        self._orchestrations: dict[str, pb.OrchestrationTraceContext] = {}
        self._scheduled: dict[tuple[str, int], pb.TraceContext] = {}

    def on_request(self, name: str, message: bytes) -> bytes:
        if name == "StartInstance":
            request = pb.CreateInstanceRequest.FromString(message)
            self._started[request.instanceId] = request.parentTraceContext
        elif name == "CompleteOrchestratorTask":
            response = pb.OrchestratorResponse.FromString(message)
            self._orchestrations[response.instanceId] = response.orchestrationTraceContext
            for action in response.actions:
                if action.HasField("scheduleTask"):
                    context = action.scheduleTask.parentTraceContext
                    self._scheduled[response.instanceId, action.id] = context
        return message

    def on_reply(self, name: str, message: bytes) -> bytes:
        if name != "GetWorkItems":
            return message
        item = pb.WorkItem.FromString(message)
        if item.HasField("orchestratorRequest"):
            request = item.orchestratorRequest
            instance_id = request.instanceId
            if instance_id in self._orchestrations:
                request.orchestrationTraceContext.CopyFrom(self._orchestrations[instance_id])
            for event in (*request.pastEvents, *request.newEvents):
                if event.HasField("executionStarted") and instance_id in self._started:
                    event.executionStarted.parentTraceContext.CopyFrom(self._started[instance_id])
                elif event.HasField("taskScheduled") and (instance_id, event.eventId) in self._scheduled:
                    context = self._scheduled[instance_id, event.eventId]
                    event.taskScheduled.parentTraceContext.CopyFrom(context)
        elif item.HasField("activityRequest"):
            key = item.activityRequest.orchestrationInstance.instanceId, item.activityRequest.taskId
            if key in self._scheduled:
                item.activityRequest.parentTraceContext.CopyFrom(self._scheduled[key])
        return item.SerializeToString()
