"""Spans of one order, from the process that starts it and the worker that does it, at a collector."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_front import Front
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from dt_testkit import TaskHub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDER = '{"item": "desk", "quantity": 1, "unit_price": 500, "card": "flaky"}'
OTEL = ("opentelemetry.sdk", "opentelemetry.exporter")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Takes spans over OTLP, as a collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield collector, f"http://localhost:{port}"
    server.stop(0.5).wait()


def run(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workflows", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to another process")
def test_the_spans_of_an_order_are_one_trace_and_none_is_doubled_by_replay(
    collector: tuple[Collector, str], tmp_path: Path
) -> None:
    gathered, endpoint = collector
    with TaskHub().serve(patience=None) as server, Front(server.address, traces=True) as front:
        env = {
            "ENDPOINT": f"http://localhost:{front.port}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "DATABASE_URL": f"sqlite:///{tmp_path / 'own.db'}",
        }
        worker = subprocess.Popen(
            [sys.executable, "-m", "workflows", "worker"],
            env={**os.environ, **env, "OTEL_SERVICE_NAME": "the-worker"},
            stderr=subprocess.PIPE,
        )
        try:
            started = run("start", "order_workflow", "--input", ORDER, "--id", "order-1", "--wait", env=env)
            assert started.returncode == 0, started.stderr
            worker.send_signal(signal.SIGTERM)
            errors = worker.communicate(timeout=30)[1]
            assert worker.returncode == 0, errors
        finally:
            worker.kill()
            worker.wait()

    spans = [span for _, span in gathered.spans]
    names = Counter((service, span.name, span.kind) for service, span in gathered.spans)
    producer, server_kind, client = 4, 2, 3
    retried = {"charge": 3}
    activities = ("reserve", "charge", "ship", "confirm")
    expected = Counter(
        {
            ("workflows", "create_orchestration:order_workflow", producer): 1,
            ("the-worker", "orchestration:order_workflow", server_kind): 1,
        }
    )
    for name in activities:
        expected["the-worker", f"activity:{name}", server_kind] = retried.get(name, 1)
        expected["the-worker", f"activity:{name}", client] = retried.get(name, 1)
    timers = {name: times for name, times in names.items() if name[1].endswith(":timer")}
    assert names - Counter(timers) == expected
    assert set(timers.values()) == {2}

    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "a span was sent twice"
    for span in spans:
        if span.name.startswith("create_orchestration"):
            assert not span.parent_span_id
        elif span.name.startswith("activity") and span.kind == server_kind:
            assert by_id[span.parent_span_id].name == span.name
            assert by_id[span.parent_span_id].kind == client
        elif span.name.startswith("activity") or span.name.endswith(":timer"):
            assert by_id[span.parent_span_id].name == "orchestration:order_workflow"
        else:
            assert by_id[span.parent_span_id].name == "create_orchestration:order_workflow"


def imported(env: dict[str, str]) -> str:
    program = (
        "import sys\nfrom workflows.cli import cli\n"
        "cli(['list', '--json'], standalone_mode=False)\n"
        f"print(sorted(name for name in sys.modules if name in {OTEL}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stderr.strip()


def test_without_the_setting_nothing_of_it_is_imported() -> None:
    with TaskHub().serve() as server:
        env = {"ENDPOINT": f"http://{server.address}"}
        assert imported(env) == "[]"
        assert imported({**env, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}) == "[]"


def test_with_the_setting_and_without_the_packages_a_sentence_says_what_to_install() -> None:
    program = (
        "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.grpc.trace_exporter'] = None\n"
        "from workflows.cli import cli\ncli(['list'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, and tracing needs a package that is not"
    )
    assert done.stderr.endswith("run pip install 'dt-testkit[telemetry]', or unset it.\n")
    assert done.stderr.count("\n") == 1


def test_a_collector_that_is_away_fails_nothing_and_is_told() -> None:
    with TaskHub().serve(patience=None) as server:
        env = {
            "ENDPOINT": f"http://{server.address}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        }
        done = run("start", "order_workflow", "--input", ORDER, "--id", "order-1", env=env)
    assert (done.returncode, done.stdout) == (0, "order_workflow 'order-1' is scheduled.\n")
    assert "Failed to export traces to localhost:1" in done.stderr
    assert "Traceback" not in done.stderr
