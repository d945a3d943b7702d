"""``make e2e BACKEND=...``: choose where the end-to-end tests run, see that it serves, and run them there.

=========  ==========================================================================================
auto       ``ENDPOINT`` if it is set; else the emulator, if a docker engine answers; else embedded
embedded   the SDK's in-memory backend, in the process of the tests
timeskip   a hub of the harness, in a process of its own: time jumps while a client waits
emulator   ``ENDPOINT`` if it is set; else what serves at the emulator's port, and is left running; else
           the emulator, started from ``deploy/compose.yaml`` and stopped afterwards
scheduler  ``ENDPOINT``
=========  ==========================================================================================

The first line of the output says which it is. Where one is asked for that cannot be had, there is one
sentence on stderr and the exit status 2; else the exit status is pytest's. Further arguments go to pytest:
``python tests/e2e/where.py timeskip tests/e2e/test_workflows.py -k order``.

``ENDPOINT``, ``TASKHUB``, ``CREDENTIAL`` and ``AZURE_CLIENT_ID`` are the application's own. ``EMULATOR_PORT``
is the port for the emulator, 8080 by default, and ``EMULATOR_SECONDS`` is how long it may take to start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from workflows.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask.client import TaskHubGrpcClient

ROOT = Path(__file__).parents[2]
BACKENDS = ("auto", "embedded", "timeskip", "emulator", "scheduler")
# A project of its own, so that what `down` stops is what `up` has started here.
COMPOSE = (
    "docker",
    "compose",
    "--project-name",
    "dt-testkit-e2e",
    "--file",
    str(ROOT / "deploy/compose.yaml"),
)
# All end-to-end tests, unless the arguments name some.
OPTIONS = ("-c", str(ROOT / "pyproject.toml"), "-o", "testpaths=tests/e2e")
DOCKER_SECONDS = 10.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 5.0
LOG_LINES = 20


class CannotRun(Exception):
    """The tests cannot run where they should; the message says why and what to do."""


def main(arguments: list[str]) -> int:
    name, *for_pytest = arguments or ["auto"]
    os.chdir(ROOT)
    # gRPC's core writes to stderr by itself; it reads this when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    try:
        with chosen(name) as backend:
            return int(pytest.main([*OPTIONS, f"--dt-backend={backend}", *for_pytest]))
    except (CannotRun, SettingsError) as error:
        print(f"make e2e BACKEND={name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


@contextmanager
def chosen(name: str) -> Iterator[str]:
    """Have a backend, as long as the context lasts; its name is what ``--dt-backend`` calls it."""
    if name not in BACKENDS:
        raise CannotRun(f"there is no such backend: choose one of {', '.join(BACKENDS)}.")
    endpoint = os.environ.get("ENDPOINT")
    if name == "scheduler" and not endpoint:
        raise CannotRun(
            "set ENDPOINT to the scheduler's, such as 'https://my-scheduler.westeurope.durabletask.io', and "
            "TASKHUB to a task hub of it."
        )
    if name == "embedded":
        announce("embedded, the SDK's in-memory backend.")
        yield name
    elif name == "timeskip":
        announce("timeskip, a hub of the harness behind a port, where time jumps while a client waits.")
        yield name
    elif endpoint:
        settings = Settings.from_environment()
        if problem := silence(settings):
            raise CannotRun(
                f"ENDPOINT {endpoint!r} does not answer as a task hub does ({problem}): start what should "
                "serve there, or set ENDPOINT (and TASKHUB) to what does, or leave it out."
            )
        announce(f"the task hub {settings.taskhub!r} at {endpoint}.")
        yield "scheduler"
    elif name == "auto" and (missing := what_docker_lacks()):
        announce(f"embedded, the SDK's in-memory backend, as the emulator cannot be started: {missing}.")
        yield "embedded"
    else:
        with emulator():
            yield "emulator"


def announce(what: str) -> None:
    print(f"The end-to-end tests run on {what}", flush=True)


def silence(settings: Settings, patience: float = ANSWER_SECONDS) -> str | None:
    """Why nobody can work at an endpoint; None if a task hub answers a call there.

    An open port is not enough: Docker opens it before the emulator listens.
    """
    import grpc
    from google.protobuf.empty_pb2 import Empty

    if settings.secure:
        channel = grpc.secure_channel(settings.host_address, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(settings.host_address)
    with channel:
        hello = channel.unary_unary(
            "/TaskHubSidecarService/Hello",
            request_serializer=Empty.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        try:
            hello(Empty(), timeout=patience, metadata=[("taskhub", settings.taskhub)])
        except grpc.RpcError as error:
            refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            if not (refused and settings.secure):
                return f"{error.code().name}: {error.details()}"
            # A scheduler that refuses who comes without a token is there. The tests' worker brings one.
    return None


# -- the emulator


def what_docker_lacks() -> str | None:
    """What is missing to start a container from a compose file; None if nothing is."""
    if shutil.which("docker") is None:
        return "there is no 'docker' command"
    for arguments, lack in (
        (["info", "--format", "{{.ServerVersion}}"], "no docker engine answers"),
        (["compose", "version"], "docker has no compose plugin"),
    ):
        try:
            done = subprocess.run(
                ["docker", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DOCKER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{lack} within {DOCKER_SECONDS:g} s"
        except OSError as error:
            return f"the 'docker' command cannot be run ({error.strerror})"
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            return f"{lack} ({said[0].rstrip('.')})"
    return None


@contextmanager
def emulator() -> Iterator[None]:
    """Have the emulator serve, and ENDPOINT name it. One that serves already is left running."""
    endpoint = f"http://localhost:{os.environ.get('EMULATOR_PORT') or '8080'}"
    settings = Settings(endpoint, os.environ.get("TASKHUB", "default"))
    os.environ["ENDPOINT"] = endpoint
    if silence(settings) is None:
        announce(f"the emulator that serves at {endpoint} already, and is left running.")
        yield
        return
    if missing := what_docker_lacks():
        raise CannotRun(
            f"nothing serves at {endpoint}, and the emulator cannot be started there: {missing}. Install or "
            "start Docker with its compose plugin, or set ENDPOINT to an emulator that runs, or take "
            "BACKEND=embedded."
        )
    announce(f"the emulator, started from deploy/compose.yaml to serve at {endpoint}.")
    try:
        start(settings)
        yield
    finally:
        stop()


def start(settings: Settings) -> None:
    """Start the emulator, and wait until it serves."""
    seconds = float(os.environ.get("EMULATOR_SECONDS") or 60)
    # Its output is not caught: to fetch the image can take minutes, and people want to see that.
    done = subprocess.run([*COMPOSE, "up", "--detach", "emulator"], stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise CannotRun(
            f"docker compose could not start the emulator (exit status {done.returncode}), and says above "
            "why. If its port is taken, set EMULATOR_PORT to another."
        )
    deadline = time.monotonic() + seconds
    while problem := silence(settings, patience=2.0):
        if time.monotonic() > deadline:
            give_up(settings, seconds, problem)
        time.sleep(0.2)


def give_up(settings: Settings, seconds: float, problem: str) -> NoReturn:
    logs = subprocess.run(
        [*COMPOSE, "logs", "--no-color", "--tail", str(LOG_LINES), "emulator"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    raise CannotRun(
        f"the emulator was started and does not serve at {settings.endpoint} after {seconds:g} s "
        f"({problem}): set EMULATOR_SECONDS to give it longer, or see what is wrong in the last lines of its "
        f"log, here:\n{(logs.stdout + logs.stderr).rstrip() or '(it is empty)'}"
    )


def stop() -> None:
    """Stop what `start` has started, though somebody is in a hurry."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    command = [*COMPOSE, "down", "--volumes"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
            start_new_session=True,  # a second Ctrl-C in the terminal is not for it
        )
        problem = "" if done.returncode == 0 else (done.stderr + done.stdout).strip()
    except subprocess.TimeoutExpired:
        problem = f"it takes longer than {STOP_SECONDS:g} s"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if problem:
        print(
            f"The emulator may still run ({problem}). To stop it: {' '.join(command)}",
            file=sys.stderr,
        )


# -- a worker and a client there


@contextmanager
def connected(backend: str) -> Iterator[TaskHubGrpcClient]:
    """A client of a task hub that a worker with the whole application works for."""
    from workflows import register
    from workflows.connection import create_client, create_worker

    with task_hub(backend) as settings, create_worker(settings) as worker, create_client(settings) as client:
        register(worker)
        worker.start()
        yield client


@contextmanager
def task_hub(backend: str) -> Iterator[Settings]:
    if backend in ("emulator", "scheduler"):
        settings = Settings.from_environment()
        if problem := silence(settings):
            pytest.fail(f"{settings.endpoint} does not serve ({problem}): set ENDPOINT.", pytrace=False)
        yield settings
    elif backend == "timeskip":
        from dt_testkit.hub.process import HubProcess
        from dt_testkit.sdk import virtual_now

        with HubProcess(datetime.now(timezone.utc)) as hub, virtual_now(hub.now):
            yield Settings(f"http://{hub.address}")
    else:
        from workflows.embedded import in_memory_backend

        with in_memory_backend() as settings:
            yield settings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
