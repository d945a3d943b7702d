"""Proof of who we are, on a server with TLS that looks at the token and the task hub of each call."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_front import Front

from dt_testkit import TaskHub
from workflows import register
from workflows.connection import create_async_client, create_worker
from workflows.order import Order, OrderResult
from workflows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SCOPE = "https://durabletask.io/.default"
TASKHUB = "orders"

FAKE = """
import asyncio, os, sys, threading, time
from azure.core.credentials import AccessToken
from workflows import connection

class Fake:
    asked_from = None

    def get_token(self, *scopes, **options):
        Fake.asked_from = threading.current_thread()
        expires = int(time.time()) + int(os.environ["VALID_FOR"])
        return AccessToken(f"{os.environ['WHO']};{scopes[0]};{expires}", expires)
"""

CLI = """
connection.create_credential = lambda settings: Fake() if os.environ["WHO"] else None
from workflows.cli import cli
cli(prog_name="python -m workflows")
"""

PASSED = """
from workflows import register
from workflows.order import Order, OrderResult
from workflows.settings import Settings

class AsyncFake:
    async def get_token(self, *scopes, **options):
        return Fake().get_token(*scopes, **options)

settings = Settings.from_environment()
desk = Order("desk", 1, 5_00)

def check(state):
    assert state.get_output(OrderResult).status == "completed", state

async def twice():
    async with connection.create_async_client(settings, AsyncFake()) as client:
        await client.schedule_new_orchestration("order_workflow", input=desk, instance_id="async")
        check(await client.wait_for_orchestration_completion("async", timeout=30))
    connection.create_credential = lambda settings: Fake()
    async with connection.create_async_client(settings) as client:
        check(await client.get_orchestration_state("async"))
    assert Fake.asked_from is not threading.main_thread(), "the event loop was blocked"

fake = Fake()
with connection.create_worker(settings, fake) as worker, connection.create_client(settings, fake) as client:
    register(worker)
    worker.start()
    client.schedule_new_orchestration("order_workflow", input=desk, instance_id="sync")
    check(client.wait_for_orchestration_completion("sync", timeout=30))
    asyncio.run(twice())
print("both completed")
"""


class Scheduler:
    """A task hub with a guard."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.address = ""

    def check(self, method: str, metadata: dict[str, str]) -> tuple[grpc.StatusCode, str] | None:
        self.calls.append((method, metadata))
        kind, _, token = metadata.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return grpc.StatusCode.UNAUTHENTICATED, "there is no token"
        who, scope, expires = token.split(";")
        if who != "ana":
            return grpc.StatusCode.UNAUTHENTICATED, f"the token of {who} is not known"
        if scope != SCOPE:
            return grpc.StatusCode.UNAUTHENTICATED, f"the token is for {scope}"
        if int(expires) < time.time():
            return grpc.StatusCode.UNAUTHENTICATED, "the token has expired"
        if metadata.get("taskhub") != TASKHUB:
            return grpc.StatusCode.PERMISSION_DENIED, f"no access to task hub {metadata.get('taskhub')}"
        return None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Path]:
    """A self-signed certificate for this machine: its key, itself, and the file of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    path = tmp_path_factory.mktemp("tls") / "roots.pem"
    path.write_bytes(public)
    return private, public, path


@pytest.fixture
def scheduler(certificate: tuple[bytes, bytes, Path]) -> Iterator[Scheduler]:
    """A task hub behind TLS, and a guard who wants the token of ana, for the right audience and task hub."""
    guarded = Scheduler()
    with (
        TaskHub().serve(patience=None) as server,
        Front(server.address, tls=certificate[:2], check=guarded.check) as front,
    ):
        guarded.address = f"https://localhost:{front.port}"
        yield guarded


@pytest.fixture
def environ(scheduler: Scheduler, certificate: tuple[bytes, bytes, Path]) -> dict[str, str]:
    """The environment of one that is let in."""
    return {
        **os.environ,
        "ENDPOINT": scheduler.address,
        "TASKHUB": TASKHUB,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate[2]),
        "WHO": "ana",
        "VALID_FOR": "3600",
    }


def run(program: str, *args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAKE + program, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_worker_and_clients_show_a_token_for_the_audience_and_the_task_hub_with_each_call(
    scheduler: Scheduler, environ: dict[str, str]
) -> None:
    done = run(PASSED, env=environ)
    assert (done.returncode, done.stdout) == (0, "both completed\n"), done.stderr
    methods = {method for method, _ in scheduler.calls}
    assert methods >= {
        "Hello",
        "GetWorkItems",
        "CompleteActivityTask",
        "CompleteOrchestratorTask",
        "StartInstance",
        "WaitForInstanceCompletion",
        "GetInstance",
    }
    for method, metadata in scheduler.calls:
        who, scope, _ = metadata["authorization"].removeprefix("Bearer ").split(";")
        assert (who, scope, metadata["taskhub"]) == ("ana", SCOPE, TASKHUB), method
        assert ("workerid" in metadata) == (method in ("Hello", "GetWorkItems") or "Complete" in method[:8])


def test_the_command_line_is_let_in(environ: dict[str, str]) -> None:
    done = run(CLI, "list", "--json", env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '{\n  "instances": []\n}\n'


REFUSED = [
    pytest.param({"WHO": "raj"}, "the token of raj is not known", "check CREDENTIAL ('default')", id="wrong"),
    pytest.param({"WHO": ""}, "there is no token", "check CREDENTIAL ('default')", id="missing"),
    pytest.param({"VALID_FOR": "-60"}, "the token has expired", "check CREDENTIAL ('default')", id="expired"),
    pytest.param(
        {"REGION_NAME": "usgovvirginia"},
        "the token is for https://durabletask.azure.us/.default",
        "check CREDENTIAL ('default')",
        id="other audience",
    ),
    pytest.param(
        {"TASKHUB": "stock"},
        "no access to task hub stock",
        "check TASKHUB, and that our identity has the role 'Durable Task Data Contributor'",
        id="other task hub",
    ),
]


@pytest.mark.parametrize("command", [("status", "order-1"), ("worker",)], ids=lambda command: command[0])
@pytest.mark.parametrize(("wrong", "reason", "next_step"), REFUSED)
def test_whoever_is_refused_is_told_why_and_what_to_check(
    environ: dict[str, str], command: tuple[str, ...], wrong: dict[str, str], reason: str, next_step: str
) -> None:
    done = run(CLI, *command, env={**environ, **wrong})
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert next_step in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"The task hub '{wrong.get('TASKHUB', TASKHUB)}' at https://localhost:")


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(environ: dict[str, str]) -> None:
    del environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    done = run(CLI, "list", "--timeout", "5", env=environ)
    assert done.returncode == 2
    assert f"{environ['ENDPOINT']} cannot be reached (UNAVAILABLE: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["list"], ["worker"]], ids=" ".join)
def test_a_credential_that_has_no_token_is_explained(
    environ: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workflows", *command],
        env={**environ, "CREDENTIAL": "azure-cli", "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"No token for {environ['ENDPOINT']} could be had with CREDENTIAL 'azure-cli'"
    )
    assert "Azure CLI not found on path" in done.stderr
    assert done.stderr.endswith("install the Azure CLI, and run 'az login'.\n")
    assert done.stderr.count("\n") == 1


@pytest_asyncio.fixture
async def local() -> AsyncIterator[Settings]:
    """A task hub without TLS, with a worker."""
    with TaskHub().serve(patience=None) as server:
        settings = Settings(f"http://{server.address}")
        with create_worker(settings) as worker:
            register(worker)
            worker.start()
            yield settings


@pytest.mark.asyncio
async def test_the_client_for_asyncio_takes_an_order_to_its_end(local: Settings) -> None:
    unused: Any = object()  # no token is sent without TLS
    async with create_async_client(local, unused) as client:
        started = await client.schedule_new_orchestration(
            "order_workflow", input=Order("desk", 1, 5_00), instance_id="order-1"
        )
        state = await client.wait_for_orchestration_completion(started, timeout=30)
        assert state is not None
        result = state.get_output(OrderResult)
        assert (result.status, result.tracking_number[:14]) == ("completed", "TRACK-order-1-")
        events = await client.get_orchestration_history(started)
        assert len(events) == 20
