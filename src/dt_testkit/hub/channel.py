"""gRPC channels without a socket: a call goes straight to the hub's service method of the same name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient

from dt_testkit.hub.service import HubService, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dt_testkit.hub.hub import TaskHub

_LOGGER = logging.getLogger("dt_testkit.client")


def connect(hub: TaskHub) -> TaskHubGrpcClient:
    """The SDK's client on a hub."""
    return TaskHubGrpcClient(
        channel=_Channel(HubService(hub)),
        data_converter=hub.data_converter,
        payload_store=hub.payload_store,
        logger=_LOGGER,
        emit_trace_spans=False,
    )


def connect_async(hub: TaskHub) -> AsyncTaskHubGrpcClient:
    """The SDK's asynchronous client on a hub."""
    return AsyncTaskHubGrpcClient(
        channel=_AioChannel(HubService(hub)),
        data_converter=hub.data_converter,
        payload_store=hub.payload_store,
        logger=_LOGGER,
        emit_trace_spans=False,
    )


def _handler(service: HubService, path: str) -> Any:
    method = path.rpartition("/")[2]

    def refuse(request: Any, timeout: float | None) -> Any:
        raise Refused(
            grpc.StatusCode.UNIMPLEMENTED,
            f"This release of dt_testkit does not simulate the client's {method} call.",
        )

    return getattr(service, method, refuse)


class _Call:
    """One method of a channel, called like grpc's multi-callables."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self, request: Any, timeout: float | None = None, **ignored: Any) -> Any:
        return self._handler(request, timeout)


class _Channel(grpc.Channel):  # type: ignore[misc]  # grpc has no types
    def __init__(self, service: HubService) -> None:
        self._service = service

    def unary_unary(self, method: str, *ignored: Any, **ignored_too: Any) -> _Call:
        return _Call(_handler(self._service, method))

    unary_stream = unary_unary
    stream_unary = unary_unary
    stream_stream = unary_unary

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class _AioUnary(_Call):
    async def __call__(self, request: Any, timeout: float | None = None, **ignored: Any) -> Any:
        try:
            return self._handler(request, timeout)
        except Refused as error:
            raise _refused(error) from None


class _AioStream(_Call):
    async def __call__(
        self, request: Any, timeout: float | None = None, **ignored: Any
    ) -> AsyncIterator[Any]:
        try:
            for message in self._handler(request, timeout):
                yield message
        except Refused as error:
            raise _refused(error) from None


def _refused(error: Refused) -> grpc.aio.AioRpcError:
    """The same answer in the type that asynchronous callers expect."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(error.code(), nothing, nothing, error.details())


class _AioChannel(grpc.aio.Channel):  # type: ignore[misc]
    def __init__(self, service: HubService) -> None:
        self._service = service

    def unary_unary(self, method: str, *ignored: Any, **ignored_too: Any) -> _AioUnary:
        return _AioUnary(_handler(self._service, method))

    def unary_stream(self, method: str, *ignored: Any, **ignored_too: Any) -> _AioStream:
        return _AioStream(_handler(self._service, method))

    stream_unary = unary_unary
    stream_stream = unary_stream

    async def close(self, grace: float | None = None) -> None:
        pass

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        pass

    async def channel_ready(self) -> None:
        pass

    async def __aenter__(self) -> _AioChannel:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass
