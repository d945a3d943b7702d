from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree as ET

import grpc
import pytest
from click.testing import CliRunner
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import History, TaskHub, __version__
from dt_testkit.application import register_application
from dt_testkit.cli import main
from dt_testkit.replaying import ReplayReport

APPLICATION = """
from datetime import timedelta

def charge(ctx, order):
    return "PAY-1"

def order_workflow(ctx, order):
    payment = yield ctx.call_activity({activity!r}, input=order)
    yield ctx.create_timer(timedelta(days=1))
    return payment

def other_workflow(ctx, _):
    {asks}

def register(worker):
    {register}
    worker.add_orchestrator(order_workflow)
    worker.add_orchestrator(other_workflow)
    worker.add_activity(charge)
"""
REJECTS = """from durabletask.worker import VersioningOptions, VersionFailureStrategy, VersionMatchStrategy
    rejects = VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT
    worker.use_versioning(VersioningOptions("2", "2", *rejects))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    before = set(sys.modules)
    yield Project(tmp_path)
    for module in set(sys.modules) - before:
        if module.startswith("app_"):
            del sys.modules[module]


class Project:
    def __init__(self, path):
        self.path = path
        self.app = f"{self.write_app('app_clean')}:register"

    def write_app(self, name, *, activity="charge", asks="return 1", register="pass"):
        """Write an application; the default is the one that the histories are of."""
        name = f"{name}_{self.path.name}"
        source = APPLICATION.format(activity=activity, asks=asks, register=register)
        (self.path / f"{name}.py").write_text(source)
        return name

    def changed_app(self):
        return f"{self.write_app('app_changed', activity='charge_card')}:register"

    def record(self, *files, orchestrator="order_workflow", version=None):
        for file in files:
            hub = TaskHub()
            register_application(self.app, hub)
            instance_id = os.path.basename(file).partition(".")[0]
            order = hub.run(orchestrator, input="desk", instance_id=instance_id, version=version)
            order.history.save(self.path / file)

    def run(self, *arguments):
        return CliRunner().invoke(main, [*map(str, arguments)])

    def replay(self, *arguments, app=None):
        return self.run("replay", *arguments, "--app", app or self.app)

    def shell(self, *arguments, **options):
        """The command as a process."""
        command = [sys.executable, "-c", "from dt_testkit.cli import main; main(prog_name='dt-testkit')"]
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=self.path,
            capture_output=True,
            timeout=60,
            encoding="utf-8",
            **options,
        )


class TestReplay:
    def test_clean_histories_are_listed_and_end_in_0(self, project):
        project.record("histories/order-1.json", "histories/2026/order-2.jsonl.gz")
        result = project.replay("histories")
        assert result.exit_code == 0
        assert result.stderr == ""
        assert [re.split(r"  +", line) for line in result.stdout.splitlines()] == [
            ["history", "orchestrator", "events", "result", "a worker"],
            [result.stdout.splitlines()[1]],
            ["histories/order-1.json", "order_workflow", "12", "clean", "accepts"],
            ["histories/2026/order-2.jsonl.gz", "order_workflow", "12", "clean", "accepts"],
            [""],
            ["2 histories: 2 clean"],
        ]

    def test_a_divergence_is_told_in_full_and_ends_in_1(self, project):
        project.record("order-1.json")
        result = project.replay("order-1.json", app=project.changed_app())
        assert result.exit_code == 1
        assert "1 divergence" in result.stdout.splitlines()[2]
        assert "fails" in result.stdout.splitlines()[2]
        assert "order-1.json: order_workflow 'order-1': 1 divergence in 12 events" in result.stdout
        assert "#1 was activity 'charge' in the history" in result.stdout
        assert result.stdout.endswith("1 history: 0 clean, 1 with 1 divergence\n")

    def test_a_broken_file_among_good_ones_ends_in_2_after_the_others(self, project):
        project.record("a.json", "c.json")
        (project.path / "b.json").write_bytes((project.path / "a.json").read_bytes()[:-100])
        result = project.replay("a.json", "b.json", "c.json")
        assert result.exit_code == 2
        assert "a.json" in result.stdout
        assert "c.json" in result.stdout
        assert result.stdout.endswith("2 histories: 2 clean; 1 file could not be replayed\n")
        assert re.fullmatch(r"Error: b\.json, line 1, column \d+: expected JSON .*\n", result.stderr)

    def test_an_error_outweighs_a_divergence(self, project):
        project.record("a.json")
        assert project.replay("a.json", "nowhere.json", app=project.changed_app()).exit_code == 2

    def test_a_file_that_does_not_exist_is_one_sentence(self, project):
        project.record("a.json")
        result = project.replay("nowhere.json", "a.json")
        assert result.exit_code == 2
        assert (
            result.stderr == "Error: nowhere.json does not exist: check the path, or save a history there.\n"
        )
        assert "a.json" in result.stdout

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("empty.json", b""),
            ("binary.json", b"\x00\xff\x00"),
            ("cut.json", b'{"events": [{"event_'),
            ("zipped.json.gz", gzip.compress(b"[1, 2]", mtime=0)[:-9]),
            ("utf16.jsonl", '{"a": 1}'.encode("utf-16")),
            ("headless.jsonl", b'{"event_type": "OrchestratorStartedEvent", "event_id": -1}\n'),
            ("events.json", b'[{"event_type": "OrchestratorStartedEvent"}]'),
        ],
    )
    def test_in_a_directory_what_is_damaged_may_be_a_history_and_is_an_error(self, project, name, content):
        project.record("data/order.json")
        (project.path / "data" / name).write_bytes(content)
        result = project.replay("data")
        assert result.exit_code == 2
        assert name in result.stderr

    @pytest.mark.parametrize("days", ["nan", "inf", "1e300", "-1", "three"])
    def test_an_interval_that_is_no_number_of_days_is_refused(self, project, days):
        project.record("data/order.json")
        result = project.replay("data", "--maximum-timer-interval", days)
        assert result.exit_code == 2
        assert "maximum-timer-interval" in result.stderr

    def test_a_history_of_a_worker_that_splits_timers_says_what_to_pass(self, project):
        project.record("plain.json")
        hub = TaskHub(maximum_timer_interval=timedelta(hours=6))
        register_application(project.app, hub)
        hub.run("order_workflow", input="desk").history.save(project.path / "split.json")
        result = project.replay("split.json", "plain.json")
        assert result.exit_code == 1
        assert "(--maximum-timer-interval 0.25 in the shell, " in result.stdout
        assert "if the code was changed on purpose" not in result.stdout
        assert project.replay("split.json", "--maximum-timer-interval", "0.25").exit_code == 0
        result = project.replay("plain.json", "--maximum-timer-interval", "0.25")
        assert "a worker that splits no timers: leave maximum_timer_interval out" in result.stdout

    def test_a_history_that_cannot_be_replayed_is_named(self, project):
        History("x", []).save(project.path / "data" / "nothing.json")
        result = project.replay("data")
        assert result.exit_code == 2
        assert "nothing.json: The history of 'x' has no ExecutionStarted event" in result.stderr

    def test_a_pipe_is_refused_and_not_waited_for(self, project):
        os.mkfifo(project.path / "pipe.json")
        project.record("data/order.json")
        (project.path / "data" / "link.json").symlink_to("../pipe.json")
        assert project.replay("data").exit_code == 0
        result = project.replay("pipe.json")
        assert result.exit_code == 2
        assert "no regular file" in result.stderr

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("package.json", b'{"name": "shop", "events": "3.0"}'),
            ("lines.jsonl", b'{"a": 1}\n{"a": 2}\n'),
            ("bom.json", b'\xef\xbb\xbf{"a": 1}'),
            ("zipped.json.gz", gzip.compress(b"[1, 2]", mtime=0)),
        ],
    )
    def test_in_a_directory_what_is_no_history_is_skipped_with_a_note(self, project, name, content):
        project.record("data/order.json")
        (project.path / "data" / name).write_bytes(content)
        result = project.replay("data")
        assert result.exit_code == 0
        assert result.stderr.startswith(f"Note: skipped, for it is no history: data/{name}")
        assert result.stdout.endswith("1 history: 1 clean\n")

    @pytest.mark.parametrize("name", ["order.history.json", "order.history.jsonl.gz"])
    def test_in_a_directory_a_file_that_is_named_a_history_has_to_be_one(self, project, name):
        project.record("data/good.json")
        (project.path / "data" / name).write_bytes(b"{}")
        result = project.replay("data")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: data/{name}")

    @pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz"])
    def test_in_a_directory_a_history_that_was_cut_is_an_error(self, project, suffix):
        project.record(f"data/order{suffix}")
        path = project.path / f"data/order{suffix}"
        path.write_bytes(path.read_bytes()[:-20])
        result = project.replay("data")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: data/order{suffix}")

    def test_other_files_and_hidden_directories_are_left_alone(self, project):
        project.record("data/order.json", "data/.venv/other.json")
        (project.path / "data" / "README.md").write_text("none")
        (project.path / "data" / "directory.json").mkdir()
        assert project.replay("data").stdout.endswith("1 history: 1 clean\n")

    def test_a_directory_that_cannot_be_searched_is_not_passed_over(self, project, monkeypatch):
        project.record("data/order.json", "data/locked/order.json")
        scandir = os.scandir

        def locked(path):
            if os.fspath(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", locked)
        result = project.replay("data")
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: data/locked cannot be searched (Permission denied): ")

    def test_nothing_to_replay_ends_in_2_with_a_sentence(self, project):
        (project.path / "empty").mkdir()
        result = project.replay("empty")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("Error: There are no histories under empty: ")

    def test_a_history_that_is_named_twice_is_replayed_once(self, project):
        project.record("data/order.json")
        result = project.replay("data", project.path / "data" / "order.json", "data")
        assert result.stdout.count("data/order.json") == 1

    def test_an_orchestrator_that_nobody_registered_is_a_divergence(self, project):
        project.record("order.json")
        (project.path / "app_other.py").write_text(
            "def other(ctx, _): ...\ndef register(worker): worker.add_orchestrator(other)"
        )
        result = project.replay("order.json", app="app_other:register")
        assert result.exit_code == 1
        assert "'order_workflow', which is not registered (known: other)" in result.stdout

    def test_what_the_worker_would_not_take_is_an_error_of_its_history_alone(self, project):
        project.record("a.json")
        project.record("b.json", version="2")
        app = f"{project.write_app('app_rejects', register=REJECTS)}:register"
        result = project.replay("a.json", "b.json", app=app)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: a.json: ")
        assert "does not match the worker version '2'" in result.stderr
        assert result.stdout.endswith("1 history: 1 clean; 1 file could not be replayed\n")

    def test_an_orchestrator_that_exits_is_an_error_of_its_history_alone(self, project):
        project.record("a.json", orchestrator="other_workflow")
        project.record("b.json")
        app = f"{project.write_app('app_exit', asks='raise SystemExit(7)')}:register"
        result = project.replay("a.json", "b.json", app=app)
        assert result.exit_code == 2
        assert result.stderr == "Error: a.json: replaying it raised SystemExit: 7\n"

    def test_a_clean_history_on_which_a_worker_hangs_is_explained(self, project, monkeypatch):
        monkeypatch.setattr(ReplayReport, "worker_outcome", "hangs")
        monkeypatch.setattr(ReplayReport, "worker_explanation", "it hangs.")
        project.record("a.json")
        result = project.replay("a.json")
        assert result.exit_code == 0
        assert "replays clean (12 events), but it hangs." in result.stdout

    def test_an_application_that_cannot_be_loaded_ends_in_2_with_its_sentence(self, project):
        project.record("a.json")
        result = project.replay("a.json", app="app_nowhere:register")
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: There is no module 'app_nowhere'")

    def test_what_the_application_prints_does_not_mix_with_the_output(self, project):
        project.record("a.json")
        app = f"{project.write_app('app_chatty', register='print(42)')}:register"
        result = project.replay("a.json", "--format", "json", app=app)
        assert json.loads(result.stdout)["summary"]["clean"] == 1
        assert result.stderr == "42\n"

    def test_paths_are_neither_cut_nor_coloured_nor_taken_for_markup_in_a_pipe(self, project):
        path = f"data/{'long-' * 30}/[red]order.json"
        project.record(path)
        result = project.replay("data", app=project.changed_app())
        assert any(line.startswith(f"{path}  ") for line in result.stdout.splitlines())
        assert "\x1b" not in result.stdout


class TestFormats:
    def test_json_has_one_entry_a_history(self, project):
        project.record("a.json")
        (project.path / "b.history.json").write_bytes(b"{")
        result = project.replay(".", "--format", "json", app=project.changed_app())
        assert result.exit_code == 2
        document = json.loads(result.stdout)
        (entry,) = document["histories"]
        (divergence,) = entry.pop("divergences")
        explanation = entry.pop("worker_explanation")
        assert explanation.startswith("the worker fails the instance with NonDeterminismError")
        assert entry == {
            "path": "a.json",
            "instance_id": "a",
            "orchestrator": "order_workflow",
            "events": 12,
            "compared": 4,
            "ok": False,
            "worker_outcome": "fails",
        }
        location, message = divergence.pop("location"), divergence.pop("message")
        assert divergence == {
            "kind": "changed",
            "event_id": 1,
            "field": "name",
            "expected": "charge",
            "actual": "charge_card",
        }
        assert location["function"] == "order_workflow"
        assert location["line"] == 8
        assert "charge_card" in message
        assert [error["path"] for error in document["errors"]] == ["b.history.json"]
        assert document["summary"] == {
            "histories": 1,
            "clean": 0,
            "diverging": 1,
            "divergences": 1,
            "errors": 1,
            "skipped": 0,
        }

    def test_values_that_json_does_not_know_are_written_as_text(self, project):
        project.record("a.json")
        source = (project.path / f"app_clean_{project.path.name}.py").read_text()
        (project.path / "app_later.py").write_text(source.replace("days=1", "days=2"))
        result = project.replay("a.json", "--format", "json", app="app_later:register")
        (divergence,) = json.loads(result.stdout)["histories"][0]["divergences"]
        assert divergence["expected"] == "2026-01-02 00:00:00"

    def test_junit_has_one_test_case_a_history(self, project):
        project.record("a.json", "b.json")
        (project.path / "c.history.json").write_bytes(b"{")
        document = json.loads((project.path / "b.json").read_bytes())
        renamed = json.dumps(document).replace('"charge"', '"\\u0001<charge>\\ud800"')
        History.loads(renamed.replace("\\ud800", "\\uffff").encode()).save("b.json")
        result = project.replay(".", "--format", "junit")
        assert result.exit_code == 2
        suite = ET.fromstring(result.stdout).find("testsuite")
        assert [suite.get(count) for count in ("tests", "failures", "errors")] == ["3", "1", "1"]
        a, b, c = suite
        assert (a.get("classname"), a.get("name"), len(a)) == ("order_workflow", "a.json", 0)
        assert r"\x01<charge>\uffff" in b.find("failure").text
        assert r"\x01<charge>\uffff" in b.find("failure").get("message")
        assert c.find("error").get("message").startswith("c.history.json, line 1")


class TestProcess:
    def test_jobs_change_nothing_but_the_time(self, project):
        project.record(*(f"data/order-{n}.json" for n in range(5)))
        (project.path / "data" / "order-2.json").write_bytes(b"{}")
        app = project.changed_app()
        one = project.shell("replay", "data", "--app", app)
        two = project.shell("replay", "data", "--app", app, "--jobs", "2")
        assert two.returncode == 1
        assert one.stdout.startswith("history ")
        assert (two.stdout, two.stderr) == (one.stdout, one.stderr)

    @pytest.mark.parametrize("jobs", ["x", "0", "1.5"])
    def test_jobs_that_are_no_number_of_processes_are_a_sentence(self, project, jobs):
        result = project.shell("replay", "data", "--app", "app:register", "--jobs", jobs)
        sentence = f"Error: --jobs is the number of processes to replay in, such as 4, not '{jobs}'.\n"
        assert (result.returncode, result.stderr) == (2, sentence)

    def test_a_process_that_dies_is_a_sentence(self, project):
        project.record("a.json", "b.json", orchestrator="other_workflow")
        app = f"{project.write_app('app_dies', asks='import os; os._exit(1)')}:register"
        result = project.shell("replay", "a.json", "b.json", "--app", app, "--jobs", "2")
        assert result.returncode == 2
        assert result.stderr.startswith("Error: A process that replayed histories ended abruptly")
        assert "Traceback" not in result.stderr

    def test_an_interrupt_is_quiet_and_ends_in_130(self, project):
        project.record("a.json", orchestrator="other_workflow")
        interrupt = f"import os; os.kill(os.getpid(), {int(signal.SIGINT)}); ctx.wait_for_ever()"
        app = f"{project.write_app('app_interrupt', asks=interrupt)}:register"
        result = project.shell("replay", "a.json", "--app", app)
        assert (result.returncode, result.stdout, result.stderr) == (130, "", "")

    def test_an_interrupt_also_ends_the_processes_of_jobs(self, project):
        project.record("a.json", "b.json", orchestrator="other_workflow")
        interrupt = f"import os; os.kill(os.getppid(), {int(signal.SIGINT)})\n    while True: pass"
        app = f"{project.write_app('app_endless', asks=interrupt)}:register"
        result = project.shell("replay", "a.json", "b.json", "--app", app, "--jobs", "2")
        assert (result.returncode, result.stdout, result.stderr) == (130, "", "")

    def test_a_reader_that_goes_away_is_quiet(self, project):
        project.record("a.json")
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-c", "from dt_testkit.cli import main; main()"]
        result = subprocess.run(
            [*command, "show", "a.json"],
            cwd=project.path,
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        os.close(write)
        assert (result.returncode, result.stderr) == (141, b"")

    def test_an_encoding_without_the_characters_is_no_error(self, project):
        project.record("a.json")
        environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        result = project.shell("show", "a.json", env=environment)
        assert result.returncode == 0
        assert "? turn 1" in result.stdout

    def test_the_help_answers_without_loading_the_sdk(self):
        code = (
            "import sys; from click.testing import CliRunner; from dt_testkit.cli import main\n"
            "assert CliRunner().invoke(main, ['replay', '--help']).exit_code == 0\n"
            "assert CliRunner().invoke(main, ['serve', '--help']).exit_code == 0\n"
            "print([m for m in ('durabletask', 'grpc', 'rich') if m in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (result.stdout, result.stderr) == ("[]\n", "")

    @pytest.mark.skipif(shutil.which("script") is None, reason="needs script(1) for a terminal")
    def test_a_terminal_gets_colours_unless_it_wants_none(self, project):
        project.record("a.json")
        command = f"{sys.executable} -c 'from dt_testkit.cli import main; main()' replay a.json"
        coloured, plain = (
            subprocess.run(
                ["script", "-qec", f"{command} --app {project.app}", os.devnull],
                cwd=project.path,
                capture_output=True,
                env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", **extra},
                stdin=subprocess.DEVNULL,
                timeout=60,
            ).stdout
            for extra in ({}, {"NO_COLOR": "1"})
        )
        assert b"\x1b[32mclean" in coloured
        assert b"\x1b[32mclean" not in plain


class TestShow:
    def test_the_timelines_are_printed_with_a_line_between(self, project):
        project.record("a.json", "b.json.gz")
        result = project.run("show", "a.json", "b.json.gz")
        assert result.exit_code == 0
        assert result.stdout == f"{History.load('a.json')}\n\n{History.load('b.json.gz')}\n"

    def test_lines_are_cut_where_asked(self, project):
        project.record("a.json")
        result = project.run("show", "a.json", "--width", "30")
        assert max(map(len, result.stdout.splitlines()[1:])) == 30

    def test_a_file_that_cannot_be_read_ends_in_2_after_the_others(self, project):
        project.record("a.json")
        result = project.run("show", "nowhere.json", "a.json")
        assert result.exit_code == 2
        assert result.stdout.startswith("order_workflow 'a'")
        assert result.stderr.startswith("Error: nowhere.json does not exist")

    def test_a_directory_without_histories_ends_in_2(self, project):
        result = project.run("show", ".")
        assert result.exit_code == 2
        assert "There are no histories under ." in result.stderr


@contextmanager
def served(*options):
    """``dt-testkit serve`` as a process, and the line that it has printed."""
    command = [sys.executable, "-c", "from dt_testkit.cli import main; main()", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def connect(line):
    return TaskHubGrpcClient(host_address=line.split()[0], logger=logging.getLogger("test_cli"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")
class TestServe:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_serves_until_it_is_told_to_end(self, number):
        with served() as (process, line), connect(line) as client:
            assert client.get_orchestration_state("nobody") is None
            process.send_signal(number)
            rest, errors = process.communicate(timeout=20)
        assert (process.returncode, rest, errors) == (0, "", "")
        assert re.fullmatch(
            r"localhost:\d+ serves a task hub\. Its time starts at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d and jumps "
            r"to what is due next while a client waits for an instance, or after 1 s without a new call "
            r"\(--time real: as real time does\)\.\n",
            line,
        )

    def test_it_ends_though_a_client_waits_and_a_worker_works(self):
        def work(ctx, _):
            began.set()
            go_on.wait(20)

        def workflow(ctx, _):
            yield ctx.call_activity(work)

        began, go_on = threading.Event(), threading.Event()
        with served("-v") as (process, line), connect(line) as client:
            worker = TaskHubGrpcWorker(host_address=line.split()[0], logger=logging.getLogger("test_cli"))
            worker.add_orchestrator(workflow)
            worker.add_activity(work)
            worker.start()
            started = client.schedule_new_orchestration(workflow)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(client.wait_for_orchestration_completion, started, timeout=20)
                assert began.wait(20)
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=20)
                assert isinstance(waiting.exception(), grpc.RpcError)
            go_on.set()
            worker.stop()
        assert process.returncode == 0
        assert re.search(r"^[\d-]+ [\d:,]+ A worker has connected: there are 1 now\.$", errors, re.MULTILINE)
        assert "A worker has gone: there are 0 now, and 1 items" in errors
        assert "Traceback" not in errors

    def test_time_starts_where_it_is_told_to_and_jumps(self):
        def sleep(ctx, days):
            yield ctx.create_timer(timedelta(days=days))
            return ctx.current_utc_datetime.isoformat()

        with served("--start-time", "2030-01-01T02:00:00+02:00", "--patience", "inf") as (_, line):
            assert "starts at 2030-01-01T00:00:00 and jumps to what is due next while a client" in line
            assert line.endswith("waits for an instance (--time real: as real time does).\n")
            worker = TaskHubGrpcWorker(host_address=line.split()[0], logger=logging.getLogger("test_cli"))
            worker.add_orchestrator(sleep)
            worker.start()
            with connect(line) as client:
                sleeping = client.schedule_new_orchestration(sleep, input=365)
                state = client.wait_for_orchestration_completion(sleeping, timeout=20)
            worker.stop()
        assert state.created_at == datetime(2030, 1, 1)
        assert state.get_output() == "2031-01-01T00:00:00"

    def test_time_passes_as_it_does_from_the_present(self):
        before = datetime.now(timezone.utc).replace(tzinfo=None)
        with served("--time", "real") as (_, line), connect(line) as client:
            assert line.endswith("and passes as real time does.\n")
            first, second = (client.schedule_new_orchestration("any") for _ in range(2))
            created = [client.get_orchestration_state(one).created_at for one in (first, second)]
        assert before < created[0] < created[1] < datetime.now(timezone.utc).replace(tzinfo=None)

    def test_a_port_that_is_taken_is_one_sentence(self, project):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = project.shell("serve", "--port", port)
        assert (result.returncode, result.stdout) == (2, "")
        ours = [line for line in result.stderr.splitlines(keepends=True) if line.startswith("Error: ")]
        assert "Traceback" not in result.stderr  # gRPC itself may log before it
        assert "".join(ours) == (
            f"Error: The hub cannot be served on localhost:{port}, for that port is taken or not permitted, "
            "or this machine has no such interface: choose another port, or 0 for any that is free.\n"
        )

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--start-time", "soon"], "--start-time is a moment such as 2026-01-01T09:30:00, not 'soon'."),
            (["--patience", "-1"], "--patience is a number of seconds, such as 0.5, or 'inf', not -1.0."),
            (["--patience", "nan"], "--patience is a number of seconds, such as 0.5, or 'inf', not nan."),
            (["--port", "70000"], "Invalid value for '--port': 70000 is not in the range 0<=x<=65535."),
            (["--time", "fast"], "Invalid value for '--time': 'fast' is not one of 'skip', 'real'."),
        ],
    )
    def test_options_that_mean_nothing_end_in_2(self, project, options, says):
        result = project.run("serve", *options)
        assert result.exit_code == 2
        assert result.stderr.endswith(f"Error: {says}\n")


def test_bad_usage_ends_in_2():
    for arguments in ([], ["replay"], ["replay", "x"], ["nonsense"], ["show", "x", "--width", "zero"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, arguments
        assert "Usage:" in result.output


def test_the_version_is_told():
    assert CliRunner().invoke(main, ["--version"]).output == f"dt-testkit, version {__version__}\n"


def test_each_command_says_in_a_line_what_it_is_for():
    output = CliRunner().invoke(main, ["--help"]).output
    assert "Replay recorded histories with the code of today." in output
    assert "Print the timelines of recorded histories." in output
    assert "Serve a task hub over gRPC, for workers and clients of any" in output
