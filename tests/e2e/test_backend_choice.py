"""``make e2e BACKEND=...``: every way to choose, in a process of its own, with a stand-in for Docker.

The stand-in is the only ``docker`` on the PATH. It notes how it is called, and its emulator is an in-memory
backend in another process.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import where
from where import BACKENDS, silence

from workflows.embedded import _reserved_port
from workflows.purchase_approval import Decision, Purchase, purchase_approval
from workflows.settings import Settings

ROOT = Path(__file__).parents[2]
WHERE = ROOT / "tests" / "e2e" / "where.py"
SCENARIO = [
    "tests/e2e/test_workflows.py::TestOrder::test_the_whole_amount_is_charged",
    *("-q", "-p", "no:cacheprovider"),
]

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the stand-in is a script, and is sent signals"
)

BACKEND = """
import sys
from workflows.embedded import in_memory_backend
with in_memory_backend() as settings:
    print(settings.endpoint, flush=True)
    sys.stdin.read()
"""

# With "bare", the port is open at first and nobody behind it speaks gRPC: a container that still starts.
EMULATOR = """
import os, socket, sys, threading
port = int(os.environ["EMULATOR_PORT"])
if sys.argv[1] == "bare":
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        print("open", flush=True)
        listener.accept()[0].close()
else:
    print("open", flush=True)
from durabletask.testing import InMemoryOrchestrationBackend
InMemoryOrchestrationBackend(port=port).start()
threading.Event().wait()
"""

DOCKER = """#!{python}
import json, os, signal, subprocess, sys
home, modes = {home!r}, os.environ.get("STAND_IN", "").split()
arguments = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # as Docker does, though it was told to ignore it
verb = next(word for word in ("info", "version", "up", "logs", "down") if word in arguments)
with open(os.path.join(home, "calls"), "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
def tell():
    with open(os.path.join(home, "fifo"), "w") as fifo:
        fifo.write(verb)
if verb + "-fails" in modes:
    sys.exit("Error: " + verb + " does not work today")
if verb + "-hangs" in modes:
    if "tell" in modes:
        tell()
    while True:
        signal.pause()
if verb == "up" and "up-dead" not in modes:
    emulator = subprocess.Popen(
        [sys.executable, "-c", {emulator!r}, "bare" if "up-bare" in modes else "serve"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    with open(os.path.join(home, "pid"), "w") as pid:
        pid.write(str(emulator.pid))
    emulator.stdout.readline()
if verb == "logs":
    print("emulator-1  | the licence has expired")
if verb == "down":
    if "down-slow" in modes:
        tell()
        with open(os.path.join(home, "go-on")) as fifo:
            fifo.read(2)
    path = os.path.join(home, "pid")
    if os.path.exists(path):
        os.kill(int(open(path).read()), signal.SIGKILL)
        os.remove(path)
    with open(os.path.join(home, "calls"), "a") as calls:
        calls.write(json.dumps(["done"]) + "\\n")
"""


@dataclass
class StandIn:
    """A ``docker`` that is a script, and what it was asked for."""

    home: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.home / "bin" / "docker"
        path.parent.mkdir()
        path.write_text(DOCKER.format(python=sys.executable, home=str(self.home), emulator=EMULATOR))
        path.chmod(0o755)
        os.mkfifo(self.home / "fifo")
        os.mkfifo(self.home / "go-on")
        kept = {name: value for name, value in os.environ.items() if name not in ("ENDPOINT", "TASKHUB")}
        self.environment = {**kept, "PATH": str(path.parent), "EMULATOR_PORT": str(self.port)}

    @property
    def settings(self) -> Settings:
        return Settings(f"http://localhost:{self.port}")

    @property
    def calls(self) -> list[list[str]]:
        path = self.home / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def verbs(self) -> list[str]:
        return [
            word for call in self.calls for word in call if re.fullmatch("info|version|up|logs|down", word)
        ]

    def make_e2e(
        self, backend: str, *arguments: str | Path, modes: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, WHERE, backend, *(arguments or SCENARIO)],
            cwd=ROOT,
            env={**self.environment, "STAND_IN": modes, **environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def begin_e2e(self, backend: str, *arguments: str | Path, modes: str = "") -> subprocess.Popen[str]:
        """The same, in a process group of its own, as the terminal's shell would start it."""
        return subprocess.Popen(
            [sys.executable, WHERE, backend, *arguments],
            cwd=ROOT,
            env={**self.environment, "STAND_IN": modes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def hear(self) -> str:
        """What is said into the fifo, at last: who does not say it lets the test fail, and not hang."""
        said = os.open(self.home / "fifo", os.O_RDWR)
        try:
            assert select.select([said], [], [], 120)[0], "nothing is said"
            return os.read(said, 100).decode()
        finally:
            os.close(said)

    def end(self) -> None:
        if (path := self.home / "pid").exists():
            os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[StandIn]:
    with _reserved_port() as port:
        stand_in = StandIn(tmp_path, port)
        yield stand_in
        stand_in.end()


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The endpoint of a backend in a process of its own, which ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", BACKEND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=20)


@pytest.fixture
def dead_endpoint() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


def a_test(tmp_path: Path, body: str) -> list[str | Path]:
    """Arguments for a run of one test alone, which does something."""
    path = tmp_path / "test_of_the_day.py"
    path.write_text(f"def test_of_the_day():\n    {body}\n")
    return [path, "-q", "-p", "no:cacheprovider"]


def first_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[0]


# -- what can be asked for


def test_an_unknown_backend_is_refused_with_those_there_are(docker: StandIn) -> None:
    done = docker.make_e2e("simulated")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "make e2e BACKEND=simulated: there is no such backend: choose one of "
        "auto, embedded, timeskip, emulator, scheduler.\n"
    )


@pytest.mark.parametrize(("asked", "name"), [("", "auto"), *((f"BACKEND={name}", name) for name in BACKENDS)])
def test_make_hands_the_backend_on_and_chooses_by_itself_if_there_is_none(asked: str, name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("BACKEND", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "e2e", *asked.split()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].endswith(f"/python tests/e2e/where.py '{name}'")


def test_the_list_of_backends_in_the_help_is_complete() -> None:
    assert f"BACKEND={'|'.join(BACKENDS)}" in (ROOT / "Makefile").read_text()


# -- without Docker


@pytest.mark.parametrize("backend", ["embedded", "timeskip"])
def test_what_needs_nothing_from_outside_asks_nobody(
    docker: StandIn, dead_endpoint: str, backend: str
) -> None:
    done = docker.make_e2e(backend, ENDPOINT=dead_endpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    assert first_line(done).startswith(f"The end-to-end tests run on {backend}")
    assert "1 passed" in done.stdout
    assert docker.calls == []


def test_on_timeskip_days_pass_while_a_client_waits() -> None:
    with where.connected("timeskip") as client:
        instance_id = client.schedule_new_orchestration(
            purchase_approval, input=Purchase("car", 42_000_00, "kim")
        )
        state = client.wait_for_orchestration_completion(instance_id, timeout=20)
    assert state is not None
    assert state.get_output(Decision).status == "timed out"
    assert (state.last_updated_at - state.created_at).days >= 1


@pytest.mark.parametrize(
    ("modes", "reason"),
    [
        ("info-fails", "no docker engine answers (Error: info does not work today)"),
        ("version-fails", "docker has no compose plugin (Error: version does not work today)"),
    ],
)
class TestWithoutDocker:
    def test_auto_takes_embedded_and_says_so_on_the_first_line(
        self, docker: StandIn, modes: str, reason: str
    ) -> None:
        done = docker.make_e2e("auto", modes=modes)
        assert done.returncode == 0, done.stdout + done.stderr
        assert first_line(done) == (
            "The end-to-end tests run on embedded, the SDK's in-memory backend, as the emulator cannot be "
            f"started: {reason}."
        )
        assert "1 passed" in done.stdout

    def test_the_emulator_is_refused_with_what_to_do(self, docker: StandIn, modes: str, reason: str) -> None:
        done = docker.make_e2e("emulator", modes=modes)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"make e2e BACKEND=emulator: nothing serves at http://localhost:{docker.port}, and the emulator "
            f"cannot be started there: {reason}. Install or start Docker with its compose plugin, or set "
            "ENDPOINT to an emulator that runs, or take BACKEND=embedded.\n"
        )
        assert "up" not in docker.verbs


def test_where_there_is_no_docker_command_that_is_the_reason(docker: StandIn, tmp_path: Path) -> None:
    chosen = docker.make_e2e("auto", "--version", PATH=str(tmp_path))
    refused = docker.make_e2e("emulator", PATH=str(tmp_path))
    assert chosen.returncode == 0
    assert first_line(chosen).endswith("cannot be started: there is no 'docker' command.")
    assert refused.returncode == 2
    assert "cannot be started there: there is no 'docker' command. Install" in refused.stderr


def test_an_engine_that_is_silent_is_not_waited_for(docker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", docker.environment["PATH"])
    monkeypatch.setenv("STAND_IN", "info-hangs")
    monkeypatch.setattr(where, "DOCKER_SECONDS", 0.5)
    assert where.what_docker_lacks() == "no docker engine answers within 0.5 s"


def test_a_docker_command_that_cannot_be_run_is_as_good_as_none(
    docker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docker.home / "bin" / "docker").write_text("#!/nowhere/python\n")
    monkeypatch.setenv("PATH", docker.environment["PATH"])
    assert where.what_docker_lacks() == "the 'docker' command cannot be run (No such file or directory)"


# -- the emulator


@pytest.mark.parametrize("backend", ["auto", "emulator"])
def test_the_emulator_is_started_waited_for_until_it_serves_and_stopped(
    docker: StandIn, backend: str
) -> None:
    done = docker.make_e2e(backend, modes="up-bare")
    assert done.returncode == 0, done.stdout + done.stderr
    assert first_line(done) == (
        "The end-to-end tests run on the emulator, started from deploy/compose.yaml to serve at "
        f"http://localhost:{docker.port}."
    )
    assert "1 passed" in done.stdout
    compose = ["compose", "--project-name", "dt-testkit-e2e", "--file", str(ROOT / "deploy" / "compose.yaml")]
    assert docker.calls[-3:] == [
        [*compose, "up", "--detach", "emulator"],
        [*compose, "down", "--volumes"],
        ["done"],
    ]
    assert silence(docker.settings) is not None


def test_an_emulator_that_serves_already_is_used_and_left_running(docker: StandIn, endpoint: str) -> None:
    for backend, asked in (("emulator", []), ("auto", ["info", "version"])):
        (docker.home / "calls").unlink(missing_ok=True)
        done = docker.make_e2e(backend, EMULATOR_PORT=endpoint.rpartition(":")[2])
        assert done.returncode == 0, done.stdout + done.stderr
        assert first_line(done) == (
            f"The end-to-end tests run on the emulator that serves at {endpoint} already, and is left "
            "running."
        )
        assert "1 passed" in done.stdout
        assert docker.verbs == asked
    assert silence(Settings(endpoint)) is None


def test_a_container_that_cannot_be_started_is_told_at_once(docker: StandIn) -> None:
    done = docker.make_e2e("emulator", modes="up-fails")
    assert done.returncode == 2
    assert "Error: up does not work today" in done.stderr
    assert "could not start the emulator (exit status 1), and says above why" in done.stderr
    assert "set EMULATOR_PORT to another" in done.stderr
    assert docker.verbs[-2:] == ["up", "down"]


def test_an_emulator_that_does_not_come_up_in_time_shows_the_end_of_its_log(docker: StandIn) -> None:
    done = docker.make_e2e("emulator", modes="up-dead", EMULATOR_SECONDS="0.5")
    assert done.returncode == 2
    assert f"does not serve at http://localhost:{docker.port} after 0.5 s (UNAVAILABLE: " in done.stderr
    assert done.stderr.endswith("here:\nemulator-1  | the licence has expired\n")
    assert docker.verbs[-3:] == ["up", "logs", "down"]


def test_tests_that_fail_fail_the_run_and_the_emulator_is_stopped(docker: StandIn, tmp_path: Path) -> None:
    done = docker.make_e2e("emulator", *a_test(tmp_path, "assert False"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert docker.calls[-1] == ["done"]
    assert silence(docker.settings) is not None


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_the_tests_stops_the_emulator(docker: StandIn, tmp_path: Path, sent: int) -> None:
    wait = "import pathlib, threading; pathlib.Path({!r}).write_text('runs'); threading.Event().wait()"
    arguments = a_test(tmp_path, wait.format(str(tmp_path / "fifo")))
    with docker.begin_e2e("emulator", *arguments) as process:
        assert docker.hear() == "runs"
        os.killpg(process.pid, sent)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, output + errors
    assert docker.calls[-1] == ["done"]
    assert silence(docker.settings) is not None


def test_ctrl_c_while_the_emulator_starts_stops_it(docker: StandIn) -> None:
    with docker.begin_e2e("emulator", *SCENARIO, modes="up-hangs tell") as process:
        assert docker.hear() == "up"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("Stopped.\n")
    assert docker.verbs[-2:] == ["up", "down"]


def test_a_second_ctrl_c_does_not_keep_the_emulator_from_being_stopped(
    docker: StandIn, tmp_path: Path
) -> None:
    go_on = os.open(docker.home / "go-on", os.O_RDWR)
    with docker.begin_e2e("emulator", *a_test(tmp_path, "pass"), modes="down-slow") as process:
        assert docker.hear() == "down"
        os.killpg(process.pid, signal.SIGINT)
        os.write(go_on, b"go")
        output, errors = process.communicate(timeout=60)
    os.close(go_on)
    assert process.returncode == 0, output + errors
    assert docker.calls[-1] == ["done"]


def test_an_emulator_that_cannot_be_stopped_is_told_with_how_to_stop_it(
    docker: StandIn, tmp_path: Path
) -> None:
    done = docker.make_e2e("emulator", *a_test(tmp_path, "pass"), modes="down-fails")
    assert done.returncode == 0
    assert done.stderr.endswith(
        "The emulator may still run (Error: down does not work today). To stop it: docker compose "
        f"--project-name dt-testkit-e2e --file {ROOT / 'deploy' / 'compose.yaml'} down --volumes\n"
    )


# -- ENDPOINT


@pytest.mark.parametrize("backend", ["auto", "emulator", "scheduler"])
class TestEndpoint:
    def test_the_task_hub_that_the_environment_names_is_used(
        self, docker: StandIn, endpoint: str, backend: str
    ) -> None:
        done = docker.make_e2e(backend, ENDPOINT=endpoint, TASKHUB="orders")
        assert done.returncode == 0, done.stdout + done.stderr
        assert first_line(done) == f"The end-to-end tests run on the task hub 'orders' at {endpoint}."
        assert "1 passed" in done.stdout
        assert docker.calls == []

    def test_one_that_does_not_answer_fails_at_once_with_what_to_do(
        self, docker: StandIn, dead_endpoint: str, backend: str
    ) -> None:
        done = docker.make_e2e(backend, ENDPOINT=dead_endpoint)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"ENDPOINT '{dead_endpoint}' does not answer as a task hub does (UNAVAILABLE: " in done.stderr
        assert "set ENDPOINT (and TASKHUB) to what does" in done.stderr
        assert docker.calls == []


def test_the_scheduler_needs_an_endpoint(docker: StandIn) -> None:
    done = docker.make_e2e("scheduler")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "make e2e BACKEND=scheduler: set ENDPOINT to the scheduler's, such as 'https://"
    )


def test_an_endpoint_that_is_of_no_use_is_told_as_the_application_tells_it(docker: StandIn) -> None:
    done = docker.make_e2e("scheduler", ENDPOINT="my-scheduler")
    assert done.returncode == 2
    assert "ENDPOINT 'my-scheduler' is not usable" in done.stderr


def test_a_server_that_knows_no_task_hubs_is_not_one() -> None:
    import grpc

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        assert str(silence(Settings(f"http://localhost:{port}"))).startswith("UNIMPLEMENTED: ")
    finally:
        server.stop(None)


def test_pytest_alone_runs_on_what_the_environment_names_too(
    docker: StandIn, endpoint: str, dead_endpoint: str
) -> None:
    command = [sys.executable, "-m", "pytest", "--dt-backend=emulator", *SCENARIO]
    ends = {}
    for address in (endpoint, dead_endpoint):
        environment = {**docker.environment, "ENDPOINT": address}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        ends[address] = done
    assert ends[endpoint].returncode == 0, ends[endpoint].stdout
    assert ends[dead_endpoint].returncode == 1
    assert f"{dead_endpoint} does not serve (UNAVAILABLE" in ends[dead_endpoint].stdout
