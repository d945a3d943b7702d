"""The fresh processes of net 2: what reaches them, and what becomes of those that die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from dt_testkit import History, TaskHub
from dt_testkit.determinism import check_determinism, processes

posix = pytest.mark.skipif(not processes.FORKS, reason="forks and signals")


@pytest.fixture(autouse=True)
def own_processes() -> Iterator[None]:
    """A test may break the processes, and another one has new ones."""
    yield
    processes.stop()


def record(orchestrator) -> History:
    hub = TaskHub(guard="off", check_replay="never")
    hub.add_orchestrator(orchestrator)
    hub.stub("work", return_value="done")
    return hub.run(orchestrator).history


def names_of(report):
    return [(finding.hazard, finding.perturbations) for finding in report.findings]


def test_a_local_function_with_what_it_closes_over_reaches_them():
    names = {"a", "b", "c", "d"}

    def closure(ctx, _):
        for name in names:
            yield ctx.call_activity("work", input=name)

    assert names_of(check_determinism(record(closure), closure)) == [("DT108", ("hash seed",))]


def test_a_lambda_reaches_them():
    report = check_determinism(
        record_as("shuffled"), {"shuffled": lambda ctx, _: ctx.set_custom_status(hash("x"))}
    )
    assert ("DT102", ("hash seed",)) in names_of(report)


def record_as(name: str) -> History:
    hub = TaskHub(guard="off")
    hub.orchestrators[name] = lambda ctx, _: None
    return hub.run(name).history


MODULE = """
    import time

    STARTED = time.time()

    def workflow(ctx, _):
        yield ctx.call_activity("work", input=STARTED)
"""


@pytest.mark.parametrize("known", [True, False], ids=["known by its name", "known to nobody"])
def test_a_module_that_was_loaded_from_a_file_reaches_them(tmp_path, monkeypatch, known):
    file = tmp_path / "some file.py"
    file.write_text(textwrap.dedent(MODULE))
    spec = spec_from_file_location("loaded_from_a_file", file)
    module = module_from_spec(spec)
    if known:
        monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    report = check_determinism(record(module.workflow), module.workflow)
    assert report.skipped == ()
    # By value a function takes its globals along, and nothing is imported again.
    assert names_of(report) == ([("DT109", ("fresh process",))] if known else [])


def test_a_changed_file_is_imported_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number, constant in enumerate(["0", "time.time()", "1"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "changing.py").write_text(textwrap.dedent(MODULE).replace("time.time()", constant))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        from changing import workflow  # type: ignore[import-not-found]

        found.append(names_of(check_determinism(record(workflow), workflow)))
    monkeypatch.delitem(sys.modules, "changing")
    assert found == [[], [("DT109", ("fresh process",))], []]


def test_what_cannot_be_passed_on_is_said_and_the_rest_is_done():
    lock = threading.Lock()

    def closure(ctx, _):
        assert lock is not None
        yield ctx.call_activity("work", input=random.random())

    report = check_determinism(record(closure), closure)
    assert [finding.hazard for finding in report.findings] == ["DT102"]
    [skipped] = report.skipped
    assert skipped.perturbation == "fresh process"
    assert "cannot be passed to another process" in skipped.reason
    assert "not tried: fresh process" in str(report)


def in_a_child() -> bool:
    return getattr(sys.modules["__main__"].__spec__, "name", "") == "dt_testkit.determinism.child"


@posix
def test_a_process_that_dies_is_an_entry_and_the_next_check_works():
    def dies(ctx, _):
        if in_a_child():
            os.kill(os.getpid(), signal.SIGKILL)
        yield ctx.call_activity("work")

    report = check_determinism(record(dies), dies)
    assert report.ok
    assert [each.reason for each in report.skipped] == ["the process was ended by SIGKILL."]
    assert check_determinism(record(fine), fine).skipped == ()


def fine(ctx, _):
    yield ctx.call_activity("work")


@posix
def test_a_process_that_exits_is_an_entry():
    def exits(ctx, _):
        if in_a_child():
            os._exit(3)
        yield ctx.call_activity("work")

    report = check_determinism(record(exits), exits)
    assert [each.reason for each in report.skipped] == ["the process was ended without an answer."]


@posix
def test_a_process_that_does_not_answer_is_ended_and_is_an_entry(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 6)

    def hangs(ctx, _):
        while in_a_child():
            pass
        yield ctx.call_activity("work")

    report = check_determinism(record(hangs), hangs)
    assert report.ok
    [skipped] = report.skipped
    assert skipped.reason == "the process was ended because it did not answer in time."


@posix
def test_a_process_that_somebody_stopped_or_ended_is_replaced(monkeypatch):
    assert check_determinism(record(fine), fine).skipped == ()
    pids = [child.process.pid for child in processes._children.values()]
    assert len(pids) == len(processes.HASH_SEEDS)
    os.kill(pids[0], signal.SIGSTOP)
    monkeypatch.setattr(processes, "PATIENCE", 2)
    [skipped] = check_determinism(record(fine), fine).skipped
    assert "did not answer within 2 s" in skipped.reason
    monkeypatch.undo()
    for child in processes._children.values():
        if child.process is not None:
            child.process.kill()
            child.process.wait()
    assert check_determinism(record(fine), fine).skipped == ()


def test_an_orchestrator_that_cannot_be_imported_there_is_an_entry(tmp_path, monkeypatch):
    (tmp_path / "vanishing.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    import vanishing  # type: ignore[import-not-found]

    (tmp_path / "vanishing.py").unlink()
    report = check_determinism(record(vanishing.workflow), vanishing.workflow)
    monkeypatch.delitem(sys.modules, "vanishing")
    [skipped] = report.skipped
    assert "vanishing" in skipped.reason


def test_without_forks_a_process_is_started_for_each_request(monkeypatch):
    monkeypatch.setattr(processes, "FORKS", False)

    def order(ctx, _):
        print("not an answer")
        for name in {"a", "b", "c", "d"}:
            yield ctx.call_activity("work", input=name)

    for _ in range(2):
        report = check_determinism(record(order), order)
        assert names_of(report) == [("DT108", ("hash seed",))]
        assert report.skipped == ()


SCRIPT = """
    import time
    from dt_testkit import TaskHub
    from dt_testkit.determinism import check_determinism, processes

    def workflow(ctx, _):
        for name in {"a", "b", "c", "d"}:
            yield ctx.call_activity("work", input=name)

    hub = TaskHub()
    hub.add_orchestrator(workflow)
    hub.stub("work", return_value=1)
    report = check_determinism(hub.run(workflow).history, hub)
    print(*[child.process.pid for child in processes._children.values()])
    print([finding.hazard for finding in report.findings], report.skipped, flush=True)
"""


@posix
@pytest.mark.parametrize("ending", ["", "\nimport os; os.kill(os.getpid(), 9)\n"], ids=["at exit", "killed"])
def test_a_script_finds_what_it_does_itself_and_leaves_no_process_behind(tmp_path, ending):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT) + ending)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if ending else 0), done.stderr
    pids, result = done.stdout.splitlines()
    assert result == "['DT108'] ()"
    until = time.monotonic() + 30
    while any(map(lives, pids.split())):
        assert time.monotonic() < until, "a process outlived the script"


def lives(pid: str) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] not in ("", "Z")
