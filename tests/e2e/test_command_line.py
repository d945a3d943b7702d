"""``python -m workflows`` on a task hub that is served over gRPC, with a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner, Result
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.scheduled import ScheduledTaskClient

from dt_testkit import TaskHub
from dt_testkit.cli import main as dt_testkit
from workflows import cli as module
from workflows import register
from workflows.cli import cli
from workflows.connection import create_worker
from workflows.local_gateway import LocalGateway, serve
from workflows.settings import Settings
from workflows.settlement import create_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dt_testkit.hub.serving import HubServer

WORKFLOWS = (sys.executable, "-m", "workflows")
ORDER = '{"item": "desk", "quantity": 1, "unit_price": 500}'
CAR = '{"item": "car", "amount": 42000000, "requester": "ana"}'
STATE_KEYS = {
    "instance_id",
    "name",
    "status",
    "created_at",
    "last_updated_at",
    "input",
    "output",
    "custom_status",
    "failure",
}


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    """A task hub with a worker; its time jumps while a client waits."""
    with (
        TaskHub(start_time=datetime(2026, 1, 1)).serve(patience=None) as server,
        create_worker(Settings(f"http://{server.address}")) as worker,
    ):
        register(worker)
        worker.start()
        yield server


class Shell:
    """Runs commands against a task hub."""

    def __init__(self, hub: TaskHub, endpoint: str) -> None:
        self.hub = hub
        self.endpoint = endpoint

    def __call__(self, *args: str) -> Result:
        result = CliRunner().invoke(cli, args, env={"ENDPOINT": self.endpoint, "TASKHUB": "default"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def done(self, *args: str) -> str:
        """What a command prints that does what it was asked for."""
        result = self(*args)
        assert (result.exit_code, result.stderr) == (0, "")
        text: str = result.stdout
        return text

    def json(self, *args: str) -> Any:
        return json.loads(self.done(*args, "--json"))

    def refused(self, *args: str, status: int = 1) -> str:
        """The sentence of a command that does not."""
        result = self(*args)
        assert (result.exit_code, result.stdout) == (status, "")
        assert result.stderr.count("\n") == 1
        sentence: str = result.stderr.strip()
        return sentence


@pytest.fixture
def shell(server: HubServer) -> Shell:
    return Shell(server.hub, f"http://{server.address}")


def test_an_order_is_started_and_waited_for(shell: Shell) -> None:
    lines = shell.done("start", "order_workflow", "--input", ORDER, "--id", "waited", "--wait").splitlines()
    fields = {line[:13].strip(): line[15:] for line in lines}
    expected = {"instance": "waited", "orchestrator": "order_workflow", "status": "COMPLETED", "input": ORDER}
    assert fields.items() >= expected.items()
    assert json.loads(fields["output"])["tracking_number"].startswith("TRACK-waited-")


def test_a_script_gets_the_state_with_what_went_in_and_came_out(shell: Shell) -> None:
    state = shell.json("start", "order_workflow", "--input", ORDER, "--id", "scripted", "--wait")
    assert state.keys() == STATE_KEYS
    assert state["status"] == "COMPLETED"
    assert state["input"] == json.loads(ORDER)
    assert state["output"]["tracking_number"].startswith("TRACK-scripted-")
    assert state["failure"] is None
    assert datetime.fromisoformat(state["created_at"].removesuffix("Z")) >= datetime(2026, 1, 1)
    assert shell.json("status", "scripted") == state


def test_a_purchase_is_approved_by_an_event(shell: Shell) -> None:
    assert shell.done("start", "purchase_approval", "--input", CAR, "--id", "car") == (
        "purchase_approval 'car' is scheduled.\n"
    )
    shell.hub.settle()
    assert shell.json("status", "car")["custom_status"] == {"waiting_for": "approver", "reminders_sent": 0}
    answer = '{"approved": true, "by": "kim"}'
    assert shell.done("raise-event", "car", "approval", "--data", answer) == (
        "'approval' is raised for 'car'.\n"
    )
    shell.hub.settle()
    assert shell.json("status", "car")["output"]["status"] == "approved"


def test_without_an_id_one_is_drawn(shell: Shell) -> None:
    drawn = shell.json("start", "order_workflow", "--input", ORDER)
    assert drawn.keys() == {"instance_id"}
    assert shell.hub.instance(drawn["instance_id"]).name == "order_workflow"


def test_an_id_that_is_taken_is_refused(shell: Shell) -> None:
    shell.done("start", "order_workflow", "--input", ORDER, "--id", "taken", "--wait")
    sentence = shell.refused("start", "order_workflow", "--input", ORDER, "--id", "taken")
    assert sentence.startswith(f"The task hub 'default' at {shell.endpoint} has an instance of that id")
    assert sentence.endswith("choose another with --id.")


def test_an_orchestration_that_fails_fails_the_command(shell: Shell) -> None:
    day = '{"day": "2999-01-01"}'
    result = shell("start", "daily_settlement", "--input", day, "--id", "too-early", "--wait")
    assert result.exit_code == 1
    assert "status         FAILED\n" in result.stdout
    assert "failure        builtins.ValueError: 2999-01-01 is not over" in result.stdout
    failure = shell.json("status", "too-early")["failure"]
    assert failure.keys() == {"type", "message", "stack_trace"}
    assert failure["type"] == "builtins.ValueError"


def test_what_goes_on_is_terminated(shell: Shell) -> None:
    shell.done("start", "purchase_approval", "--input", CAR, "--id", "ended")
    assert shell.done("terminate", "ended", "--recursive") == (
        "'ended' is asked to terminate: 'status' shows when it has.\n"
    )
    shell.hub.settle()
    assert shell.json("status", "ended")["status"] == "TERMINATED"


@pytest.mark.parametrize("flags", [(), ("--recursive",)], ids=["alone", "recursive"])
def test_sub_orchestrations_are_terminated_where_one_asks_for_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        TaskHubGrpcClient,
        "terminate_orchestration",
        lambda client, instance_id, *, recursive: asked.append(recursive),
    )
    shell.done("start", "purchase_approval", "--input", CAR, "--id", f"parent-{len(flags)}")
    shell.done("terminate", f"parent-{len(flags)}", *flags)
    assert asked == [bool(flags)]


def test_a_start_can_be_at_a_moment_in_any_zone(shell: Shell) -> None:
    shell.done(
        "start", "order_workflow", "--input", ORDER, "--id", "later", "--at", "2030-05-01T02:00:00+02:00"
    )
    shell.hub.settle()
    assert shell.json("status", "later")["status"] == "PENDING"
    shell.hub.advance(datetime(2030, 5, 1) - shell.hub.now - timedelta(seconds=1))
    assert shell.json("status", "later")["status"] == "PENDING"
    shell.hub.advance(timedelta(seconds=2))
    assert shell.json("status", "later")["status"] == "COMPLETED"


@pytest.mark.parametrize(
    "command",
    [
        ("status", "nobody"),
        ("raise-event", "nobody", "approval"),
        ("suspend", "nobody"),
        ("resume", "nobody"),
        ("terminate", "nobody"),
        ("rewind", "nobody"),
        ("restart", "nobody"),
        ("purge", "nobody"),
        ("history", "nobody", "-o", "nobody.json"),
    ],
    ids=lambda command: command[0],
)
def test_an_instance_that_is_not_there_is_told_in_a_sentence(shell: Shell, command: tuple[str, ...]) -> None:
    assert shell.refused(*command) == (
        f"There is no instance 'nobody' in the task hub 'default' at {shell.endpoint}: "
        "'list' shows those there are."
    )


@pytest.fixture(scope="module")
def ended(server: HubServer) -> str:
    """An order that has completed."""
    shell = Shell(server.hub, f"http://{server.address}")
    shell.done("start", "order_workflow", "--input", ORDER, "--id", "over", "--wait")
    return "over"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("raise-event", "over", "approval"), "it takes no events any more"),
        (("suspend", "over"), "there is nothing to suspend"),
        (("resume", "over"), "there is nothing to resume; 'restart' starts it anew"),
        (("terminate", "over"), "there is nothing to terminate"),
        (("rewind", "over"), "only what is FAILED can be rewound"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("ended")
def test_what_has_ended_refuses_what_needs_it_running(
    shell: Shell, command: tuple[str, ...], why: str
) -> None:
    assert shell.refused(*command) == f"Instance 'over' is COMPLETED: {why}."


@pytest.mark.parametrize("command", ["restart", "purge"])
def test_what_goes_on_refuses_what_needs_its_end(shell: Shell, command: str) -> None:
    instance = f"{command}-me"
    shell.done("start", "purchase_approval", "--input", CAR, "--id", instance)
    shell.hub.settle()
    assert shell.refused(command, instance) == (
        f"Instance '{instance}' is RUNNING: only what has ended can be {command.rstrip('e')}ed; "
        "'terminate' ends it."
    )


def test_an_instance_is_suspended_and_resumed(shell: Shell) -> None:
    shell.done("start", "purchase_approval", "--input", CAR, "--id", "paused")
    shell.hub.settle()
    assert shell.json("suspend", "paused") == {"instance_id": "paused", "request": "suspend"}
    shell.hub.settle()
    assert shell.json("status", "paused")["status"] == "SUSPENDED"
    assert shell.json("resume", "paused") == {"instance_id": "paused", "request": "resume"}
    shell.hub.settle()
    assert shell.json("status", "paused")["status"] == "RUNNING"


def test_what_failed_is_rewound(shell: Shell) -> None:
    day = '{"day": "2999-01-01"}'
    shell("start", "daily_settlement", "--input", day, "--id", "again", "--wait")
    assert shell.json("rewind", "again") == {"instance_id": "again", "request": "rewind"}
    shell.hub.settle()
    assert shell.hub.instance("again").status is OrchestrationStatus.FAILED  # once more
    kinds = [type(event).__name__ for event in shell.hub.instance("again").history]
    assert "ExecutionRewoundEvent" in kinds


def test_what_has_ended_is_started_anew_under_its_id_or_another(shell: Shell) -> None:
    shell.done("start", "order_workflow", "--input", ORDER, "--id", "anew", "--wait")
    same = shell.json("restart", "anew")
    assert same == {"instance_id": "anew", "restarted": "anew"}
    shell.hub.settle()
    other = shell.json("restart", "anew", "--new-id")
    assert other["instance_id"] != "anew"
    shell.hub.settle()
    assert shell.json("status", other["instance_id"])["input"] == json.loads(ORDER)


def test_a_history_is_written_as_replay_reads_it(shell: Shell, tmp_path: Path, ended: str) -> None:
    for name in ("order.history.json", "order.history.jsonl.gz"):
        path = tmp_path / name
        done = shell.json("history", ended, "-o", str(path))
        assert done == {"instance_id": ended, "events": 20, "path": str(path)}
    replayed = CliRunner().invoke(dt_testkit, ["replay", str(tmp_path), "--app", "workflows:register"])
    assert replayed.exit_code == 0, replayed.output
    assert "2 histories: 2 clean" in replayed.output


def test_a_history_that_cannot_be_written_is_told_in_a_sentence(
    shell: Shell, tmp_path: Path, ended: str
) -> None:
    path = tmp_path / "nowhere" / "order.json"
    assert shell.refused("history", ended, "-o", str(path), status=2) == (
        f"The history cannot be written to '{path}': No such file or directory."
    )


def test_an_entity_is_signalled_and_shown(shell: Shell) -> None:
    assert shell.refused("entity", "account", "ana").startswith("There is no entity @account@ana in ")
    signalled = shell.json("signal-entity", "Account", "ana", "open", "--input", '"ana"')
    assert signalled == {"entity": "account", "key": "ana", "operation": "open"}
    shell.hub.settle()
    found = shell.json("entity", "account", "ana")
    assert found.keys() == {"entity", "key", "state", "last_modified"}
    assert (found["entity"], found["key"]) == ("account", "ana")
    assert f"state          {json.dumps(found['state'])}\n" in shell.done("entity", "account", "ana")


def test_the_schedule_is_made_paused_resumed_and_deleted(shell: Shell) -> None:
    assert shell.refused("schedule", "show") == (
        "There is no schedule 'settlement': 'schedule create' makes it."
    )
    made = shell.json("schedule", "create")
    assert (made["schedule"], made["status"]) == ("settlement", "ACTIVE")
    assert shell.json("schedule", "pause")["status"] == "PAUSED"
    assert shell.refused("schedule", "pause").startswith("Failed to 'pause_schedule' ")
    assert shell.json("schedule", "resume")["status"] == "ACTIVE"
    assert "status         ACTIVE\n" in shell.done("schedule", "show")
    assert shell.json("schedule", "delete")["status"] == "DELETED"


def test_a_schedule_that_no_worker_works_on_is_told() -> None:
    hub = TaskHub()
    register(hub)
    create_schedule(ScheduledTaskClient(hub.client))
    with hub.serve(patience=None) as server:
        shell = Shell(hub, f"http://{server.address}")
        assert shell.json("schedule", "show")["status"] == "ACTIVE"
        assert shell.refused("schedule", "pause", "--timeout", "0.5") == (
            "No worker has done 'pause' in time: start one, with 'worker'."
        )


@pytest.fixture
def own() -> Iterator[Shell]:
    """A task hub that no other test uses, with four orders, of which two have failed; no worker."""
    hub = TaskHub(start_time=datetime(2026, 1, 1))
    register(hub)
    for number in range(4):
        day = "2999-01-01" if number % 2 else "2025-12-31"
        hub.run("daily_settlement", input={"day": day}, instance_id=f"day-{number}")
        hub.advance(timedelta(hours=1))
    hub.start("purchase_approval", input=json.loads(CAR), instance_id="car")
    with hub.serve(patience=None) as server:
        yield Shell(hub, f"http://{server.address}")


def test_a_start_can_name_a_version(own: Shell) -> None:
    own.done("start", "order_workflow", "--input", ORDER, "--id", "versioned", "--version", "7.0.0")
    assert own.hub.instance("versioned").version == "7.0.0"


def ids(document: Any) -> list[str]:
    return [instance["instance_id"] for instance in document["instances"]]


def test_list_goes_through_all_pages(own: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    listed = own.json("list")
    assert ids(listed) == ["day-0", "day-1", "day-2", "day-3", "car"]
    assert listed["instances"][0].keys() == STATE_KEYS - {"input", "output", "custom_status", "failure"}


def test_list_takes_statuses_and_a_moment_of_creation(own: Shell) -> None:
    assert ids(own.json("list", "--status", "failed")) == ["day-1", "day-3"]
    assert ids(own.json("list", "--status", "failed", "--status", "PENDING")) == ["day-1", "day-3", "car"]
    assert ids(own.json("list", "--created-after", "2026-01-01T02:30:00")) == ["day-3", "car"]
    assert ids(own.json("list", "--created-after", "2026-01-01T02:30:00-01:00")) == ["car"]


def test_a_list_for_people_has_a_line_each_and_a_total(own: Shell) -> None:
    header, _, *rows, total = own.done("list").splitlines()
    assert header.split() == ["instance", "orchestrator", "status", "created", "updated"]
    assert [row.split()[0] for row in rows] == ["day-0", "day-1", "day-2", "day-3", "car"]
    assert total == "5 instances"
    assert own.done("list", "--status", "terminated") == "0 instances\n"


def test_a_purge_deletes_what_was_chosen(own: Shell) -> None:
    assert own.json("purge", "day-0") == {"purged": 1}
    assert own.json("purge", "--status", "failed") == {"purged": 2}
    assert ids(own.json("list")) == ["day-2", "car"]
    assert own.done("purge", "--older-than", "4000w") == "0 purged.\n"
    assert own.json("purge", "--older-than", "1d") == {"purged": 1}
    assert ids(own.json("list")) == ["car"]  # it has not ended


def test_wide_and_wild_values_are_shown_whole_and_harmless(own: Shell) -> None:
    name = "n" * 300 + "[red]\x1b[2J\n"
    own.hub.start("purchase_approval", input={"item": "wörk\x1b" * 100}, instance_id=name)
    shown = "n" * 300 + "[red]\\x1b[2J\\n"
    assert any(line.startswith(shown + " ") for line in own.done("list").splitlines())
    fields = own.done("status", name).splitlines()
    assert f"instance       {shown}" in fields
    assert any(line.endswith(json.dumps({"item": "wörk\x1b" * 100}, ensure_ascii=False)) for line in fields)
    assert own.json("status", name)["instance_id"] == name


# -- what is not a task hub


def test_an_endpoint_where_nothing_is_is_told_within_seconds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        sentence = Shell(TaskHub(), f"http://127.0.0.1:{taken.getsockname()[1]}").refused("list", status=2)
    assert re.fullmatch(
        r"http://127.0.0.1:\d+ cannot be reached \(UNAVAILABLE: .*Connection refused.*\): "
        r"check ENDPOINT, and that a task hub is served there.",
        sentence,
    )


def test_an_endpoint_that_does_not_answer_is_told_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sentence = Shell(TaskHub(), endpoint).refused("status", "order-1", "--timeout", "0.5", status=2)
    assert time.monotonic() - started < 8
    assert sentence.startswith(f"{endpoint} does not answer (DEADLINE_EXCEEDED")
    assert sentence.endswith("check ENDPOINT, or wait longer with --timeout.")


def test_an_endpoint_that_is_a_web_server_is_told() -> None:
    with serve(LocalGateway()) as url:
        sentence = Shell(TaskHub(), url).refused("list", "--timeout", "3", status=2)
    assert sentence.startswith(f"{url} ")
    assert "check ENDPOINT" in sentence


# -- processes


class Process:
    """A command in a process of its own, whose stderr is read as it comes."""

    def __init__(self, *args: str, **env: str) -> None:
        self.popen = subprocess.Popen(
            [*WORKFLOWS, *args],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = ""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._more:
                self.errors += line
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def says(self, text: str, timeout: float = 30) -> None:
        """Wait until it says something on stderr."""
        with self._more:
            found = self._more.wait_for(lambda: text in self.errors or not self._reader.is_alive(), timeout)
        assert found, f"{text!r} was not said within {timeout} s:\n{self.errors}"
        assert text in self.errors, f"it ended without {text!r}:\n{self.errors}"

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def ends(self, timeout: float = 30) -> int:
        code = self.popen.wait(timeout)
        self._reader.join(timeout)
        return code

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join()
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.popen.stdout.close()
        self.popen.stderr.close()


def until(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        pause.wait(0.02)


@contextmanager
def served(port: int = 0) -> Iterator[tuple[TaskHub, dict[str, str]]]:
    """A task hub without a worker, and the environment that leads there."""
    hub = TaskHub()
    with hub.serve(port, patience=None) as server:
        yield hub, {"ENDPOINT": f"http://{server.address}"}


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signals to another process")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_says_where_it_works_and_stops_when_asked(tmp_path: Path, number: signal.Signals) -> None:
    database = f"sqlite:///{tmp_path / 'own.db'}"
    with served() as (hub, env), Process("worker", "--json", **env, DATABASE_URL=database) as worker:
        worker.says(
            f"The worker is running: endpoint {env['ENDPOINT']}, taskhub default, database {database}, "
            "gateway local, model offline\n"
        )
        order = hub.run("order_workflow", input=json.loads(ORDER), instance_id="order-1")
        assert order.status is OrchestrationStatus.COMPLETED
        worker.popen.send_signal(number)
        assert worker.ends() == 0
        assert worker.errors.endswith("The worker has stopped.\n")
        assert "Traceback" not in worker.errors
        assert worker.popen.stdout is not None
        assert json.loads(worker.popen.stdout.read()) == {
            "endpoint": env["ENDPOINT"],
            "taskhub": "default",
            "database": database,
            "gateway": "local",
            "model": "offline",
        }


class SlowGateway(LocalGateway):
    """A gateway that answers when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> tuple[int, Any]:
        self.asked.set()
        assert self.may_answer.wait(30)
        return super().answer(method, path, key, body)


@needs_signals
def test_a_worker_that_is_stopped_finishes_what_it_does_and_the_next_one_goes_on(tmp_path: Path) -> None:
    slow = SlowGateway()
    with served() as (hub, env), serve(slow) as url:
        env = {**env, "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}", "GATEWAY_URL": url}
        order = hub.start("order_workflow", input=json.loads(ORDER), instance_id="order-1")
        with Process("worker", **env) as first:
            assert slow.asked.wait(30)
            first.popen.send_signal(signal.SIGTERM)
            first.says("SIGTERM: the worker finishes what it has begun")
            first.says("No longer listening for work items")
            assert first.popen.poll() is None, "it did not wait for its activity"
            slow.may_answer.set()
            assert first.ends() == 0
        assert len(slow.payments) == 1
        with Process("worker", **env) as second:
            order.wait()
            second.popen.send_signal(signal.SIGTERM)
            assert second.ends() == 0
        assert order.status is OrchestrationStatus.COMPLETED
        assert [payment.amount for payment in slow.payments.values()] == [500]


@needs_signals
def test_a_second_signal_ends_a_worker_at_once(tmp_path: Path) -> None:
    slow = SlowGateway()
    with served() as (hub, env), serve(slow) as url:
        env = {**env, "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}", "GATEWAY_URL": url}
        hub.start("order_workflow", input=json.loads(ORDER))
        with Process("worker", **env) as worker:
            assert slow.asked.wait(30)
            worker.popen.send_signal(signal.SIGTERM)
            worker.says("a second signal ends it at once")
            worker.popen.send_signal(signal.SIGTERM)
            assert worker.ends() == 128 + signal.SIGTERM
        slow.may_answer.set()


@needs_signals
def test_the_health_file_is_touched_while_the_task_hub_answers(tmp_path: Path) -> None:
    health = tmp_path / "health"
    with served() as (_, env), Process("worker", "--health-file", str(health), **env):
        until(health.exists, "the health file is there")
        os.utime(health, (0, 0))
        until(lambda: health.stat().st_mtime > 0, "the health file is touched again")
        assert CliRunner().invoke(cli, ["health", "--health-file", str(health)]).exit_code == 0


@needs_signals
def test_a_worker_goes_on_trying_while_the_task_hub_is_away(tmp_path: Path) -> None:
    health = tmp_path / "health"
    with served() as (_, env):
        endpoint = env["ENDPOINT"]
    with Process("worker", "--health-file", str(health), ENDPOINT=endpoint) as worker:
        worker.says(f"ERROR workflows.cli: {endpoint} cannot be reached (UNAVAILABLE: ")
        assert not health.exists()
        with served(int(endpoint.rpartition(":")[2])) as (hub, _):
            worker.says("The task hub answers again.")
            until(health.exists, "the health file is there")
            order = hub.run("order_workflow", input=json.loads(ORDER))
            assert order.status is OrchestrationStatus.COMPLETED
        os.utime(health, (0, 0))
        worker.popen.send_signal(signal.SIGTERM)
        assert worker.ends() == 0
        assert worker.errors.count("ERROR workflows.cli") == 1  # and not once every few seconds
        assert "\tstatus = " not in worker.errors  # the SDK's errors of gRPC take a line each


@needs_signals
def test_a_worker_that_is_stopped_before_it_begins_does_not_begin() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Process("worker", "--timeout", "1", ENDPOINT=endpoint) as worker:
            silent.accept()[0].close()  # it asks
            worker.popen.send_signal(signal.SIGTERM)
            assert worker.ends() == 0
            assert "Stopped before the worker was started." in worker.errors
            assert "The worker is running" not in worker.errors


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "DATABASE_URL is not usable"),
        ("postgresql+psycopg9://ana:s3cret@localhost:1/shop", "DATABASE_URL is not usable"),
        ("sqlite:////proc/nowhere/shop.db", "The directory of the database cannot be made"),
    ],
)
def test_a_wrong_database_is_told_before_anything_is_connected(url: str, sentence: str) -> None:
    with Process("worker", DATABASE_URL=url, ENDPOINT="http://localhost:1") as worker:
        assert worker.ends() == 2
        assert worker.errors.startswith(sentence)
        assert worker.errors.count("\n") == 1
        assert "s3cret" not in worker.errors


def test_a_health_file_that_cannot_be_touched_is_told(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "health"
    with served() as (_, env), Process("worker", "--health-file", str(path), **env) as worker:
        assert worker.ends() == 2
        assert worker.errors == (f"The health file '{path}' cannot be touched: No such file or directory.\n")


@needs_signals
def test_a_line_of_an_orchestrator_is_logged_once_though_it_is_replayed(tmp_path: Path) -> None:
    with served() as (hub, env):
        env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'own.db'}"
        with Process("worker", **env, LOG_LEVEL="debug") as worker:
            car = hub.start("purchase_approval", input=json.loads(CAR), instance_id="car-1")
            hub.settle()
            car.raise_event("approval", {"approved": True, "by": "kim"})
            car.wait()
            worker.popen.send_signal(signal.SIGTERM)
            assert worker.ends() == 0
        assert worker.errors.count("car-1: Beginning replay") > 2
        assert worker.errors.count("INFO workflows.purchase_approval: purchase car-1 is approved\n") == 1


@needs_signals
def test_only_warnings_are_logged_where_the_level_says_so(tmp_path: Path) -> None:
    health = tmp_path / "health"
    with served() as (_, env):
        with Process("worker", "--health-file", str(health), **env, LOG_LEVEL="WARNING") as worker:
            until(health.exists, "the worker has connected")
            worker.popen.send_signal(signal.SIGTERM)
            assert worker.ends() == 0
        assert worker.errors == ""


@needs_signals
def test_ctrl_c_ends_the_waiting_and_not_the_orchestration(tmp_path: Path) -> None:
    with (
        served() as (hub, env),
        Process("start", "order_workflow", "--input", ORDER, "--id", "order-1", "--wait", **env) as start,
    ):
        until(lambda: len(hub.instances) == 1, "it has started")
        start.popen.send_signal(signal.SIGINT)
        assert start.ends() == 130
        assert start.errors == "Stopped.\n"
        assert start.line() == ""
        assert hub.instance("order-1").status is OrchestrationStatus.PENDING


@needs_signals
@pytest.mark.parametrize(
    "command",
    [
        ("start", "order_workflow", "--input", ORDER),
        ("status", "order-1"),
        ("list",),
        ("purge", "order-1"),
        ("history", "order-1", "-o", "order-1.json"),
        ("entity", "account", "ana"),
        ("schedule", "show"),
    ],
    ids=lambda command: command[0],
)
def test_ctrl_c_ends_a_command_that_waits_for_an_answer(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Process(*command, ENDPOINT=endpoint) as process:
            connection, _ = silent.accept()
            with connection:
                process.popen.send_signal(signal.SIGINT)
                assert (process.ends(), process.errors) == (130, "Stopped.\n")


@needs_signals
def test_on_a_terminal_one_sees_how_far_it_is_and_standard_output_stays_clean() -> None:
    import pty

    shown, terminal = pty.openpty()
    with (
        TaskHub().serve(time="real") as server,
        create_worker(Settings(f"http://{server.address}")) as worker,
    ):
        register(worker)
        worker.start()
        start = subprocess.Popen(
            [*WORKFLOWS, "start", "purchase_approval", "--input", CAR, "--id", "car", "--wait"],
            env={**os.environ, "ENDPOINT": f"http://{server.address}", "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
        )
        os.close(terminal)
        seen = b""
        while b"car is RUNNING" not in seen:
            seen += os.read(shown, 4096)  # an error when the command ends without it
        server.hub.instance("car").raise_event("approval", {"approved": True, "by": "kim"})
        drain = threading.Thread(target=_read_all, args=(shown,))
        drain.start()
        output = start.communicate(timeout=30)[0]
        drain.join()
        os.close(shown)
    assert start.returncode == 0
    assert b'"waiting_for": "approver"' in seen
    assert output.startswith("instance       car\n")
    assert "\x1b" not in output


def _read_all(descriptor: int) -> None:
    with suppress(OSError):  # that is how a terminal says that nobody writes any more
        while os.read(descriptor, 4096):
            pass


@needs_signals
def test_an_orchestration_that_is_terminated_fails_the_command_that_waits_for_it() -> None:
    with TaskHub().serve(time="real") as server:
        env = {"ENDPOINT": f"http://{server.address}"}
        with (
            create_worker(Settings(env["ENDPOINT"])) as worker,
            Process("start", "purchase_approval", "--input", CAR, "--id", "car", "--wait", **env) as start,
        ):
            register(worker)
            worker.start()
            until(lambda: len(server.hub.instances) == 1, "it has started")
            Shell(server.hub, env["ENDPOINT"]).done("terminate", "car")
            assert (start.ends(), start.errors) == (1, "")
            assert "status         TERMINATED\n" in start.popen.stdout.read()


@needs_signals
def test_the_gateway_serves_until_it_is_stopped() -> None:
    with Process("gateway", "--port", "0") as gateway:
        line = gateway.line()
        assert line.endswith(" serves a local gateway: set GATEWAY_URL to that for the worker.\n")
        assert httpx.get(f"{line.split()[0]}/jobs/ready-after-1").json() == {"state": "succeeded"}
        gateway.popen.send_signal(signal.SIGTERM)
        assert (gateway.ends(), gateway.errors) == (0, "")


def test_a_port_that_is_taken_is_told() -> None:
    with serve(LocalGateway()) as url, Process("gateway", "--port", url.rpartition(":")[2]) as gateway:
        assert gateway.ends() == 2
        assert gateway.errors == (
            f"The gateway cannot be served on port {url.rpartition(':')[2]}: Address already in use.\n"
        )


def test_the_demo_tells_a_script_what_it_has_written(tmp_path: Path) -> None:
    with Process("demo", "--history-dir", str(tmp_path), "--json") as demo:
        assert demo.popen.stdout is not None
        histories = json.loads(demo.popen.stdout.read())["histories"]
        assert demo.ends() == 0
    assert {entry["path"] for entry in histories} == {str(path) for path in tmp_path.glob("*.history.*")}
