"""Tracing with OpenTelemetry: an extra, set up by ``OTEL_EXPORTER_OTLP_ENDPOINT`` and absent without it.

The SDK emits the spans: one for each orchestration, activity and request of a client. It needs a tracer
provider to emit them to, and the task hub to hand their context on from one to the next.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_DEFAULT_SERVICE_NAME = "workflows"
_TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
_DEFAULT_TIMEOUT_SECONDS = 3.0  # at the end of a command, somebody waits


@contextmanager
def tracing(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Send spans to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, for the length of a block.

    Spans that wait are sent at its end. Without the variable this does nothing, and imports nothing.

    Raises
    ------
    SettingsError
        If the variable is set and the packages for it are missing.
    """
    if not environ.get(_ENDPOINT):
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"{_ENDPOINT} is set, and tracing needs a package that is not installed ({error}): run "
            "pip install 'dt-testkit[telemetry]', or unset it."
        ) from None
    name = environ.get("OTEL_SERVICE_NAME") or _DEFAULT_SERVICE_NAME
    resource = Resource.create({"service.name": name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # we do, below
    timeout = None if environ.get(_TIMEOUT) else _DEFAULT_TIMEOUT_SECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
