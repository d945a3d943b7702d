"""The fresh processes of net 2: what reaches them, and what becomes of those that die."""

from __future__ import annotations

import itertools
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


def not_tried(report) -> list[str]:
    """A machine with one locale alone says so, and that is all."""
    return [each.reason for each in report.skipped if each.perturbation != "locale"]


def names_of(report):
    return [(finding.hazard, finding.perturbations) for finding in report.findings]


def test_a_local_function_with_what_it_closes_over_reaches_them():
    names = {"a", "b", "c", "d"}

    def closure(ctx, _):
        for name in names:
            yield ctx.call_activity("work", input=name)

    assert names_of(check_determinism(record(closure), closure)) == [("DT108", ("hash seed",))]


def test_what_a_function_carries_with_it_by_value_is_said(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from dt_testkit import TaskHub\n"
        "from dt_testkit.determinism import check_determinism\n"
        "CACHE, NAMES, COUNT = {}, ('a', 'b'), 0\n"
        "def count():\n"
        "    global COUNT\n"
        "    COUNT = 1\n"
        "def fills(ctx, _):\n"
        "    count()\n"
        "    yield ctx.call_activity('work', input=[CACHE.setdefault('rate', 1), NAMES])\n"
        "def plain(ctx, _):\n"
        "    yield ctx.call_activity('work', input=NAMES)\n"
        "hub = TaskHub(guard='off')\n"
        "hub.stub('work', return_value=1)\n"
        "for each in (fills, plain):\n"
        "    hub.add_orchestrator(each)\n"
        "    print(check_determinism(hub.run(each).history, each))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fills, plain = done.stdout.split("\nplain ")
    assert "not tried: fresh process: the orchestrator is of a script" in fills
    assert "by value, with CACHE, COUNT as it is by now" in fills
    assert "fresh process" not in plain


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
    assert not_tried(report) == []
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
    [skipped] = not_tried(report)
    assert "cannot be passed to another process" in skipped
    assert "not tried: fresh process" in str(report)


SETTINGS = """
    import functools, os, platform
    from pathlib import Path

    REGION = os.environ.get("DT_NOBODY_SETS_THIS", "eu")
    PATH = os.environ.get("PATH")
    HOST = platform.node()
    RULES = Path("rules.txt").exists()
    ORDERED = sorted(["b", "a"])

    @functools.lru_cache
    def config():
        return os.environ.get("PATH")

    def region(ctx, _):
        yield ctx.call_activity("work", input=REGION)

    def path(ctx, _):
        yield ctx.call_activity("work", input=PATH)

    def host(ctx, _):
        yield ctx.call_activity("work", input=HOST)

    def rules(ctx, _):
        yield ctx.call_activity("work", input=RULES)

    def cached(ctx, _):
        yield ctx.call_activity("work", input=config())

    def ordered(ctx, _):
        yield ctx.call_activity("work", input=ORDERED)
"""


@pytest.mark.parametrize("name", ["region", "path", "host", "rules", "cached", "ordered"])
def test_what_a_module_reads_when_it_is_imported_is_found(name, tmp_path, monkeypatch):
    (tmp_path / "settings_of_a_shop.py").write_text(textwrap.dedent(SETTINGS))
    (tmp_path / "rules.txt").touch()
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "settings_of_a_shop", raising=False)
    import settings_of_a_shop  # type: ignore[import-not-found]

    if name == "cached":
        settings_of_a_shop.config()  # and nobody sees it read again
    orchestrator = getattr(settings_of_a_shop, name)
    report = check_determinism(record(orchestrator), orchestrator)
    monkeypatch.delitem(sys.modules, "settings_of_a_shop")
    assert not_tried(report) == []
    assert names_of(report) == ([] if name == "ordered" else [("DT106", ("imported elsewhere",))]), str(
        report
    )
    assert report.ok or "importing the module gives another value" in str(report)


def test_a_module_that_cannot_be_imported_elsewhere_is_an_entry(tmp_path, monkeypatch):
    (tmp_path / "reads_its_rules.py").write_text(
        "import pathlib\nRULES = pathlib.Path('rules.txt').read_text()\n"
        "def flow(ctx, _):\n    yield ctx.call_activity('work')\n"
    )
    (tmp_path / "rules.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import reads_its_rules  # type: ignore[import-not-found]

    report = check_determinism(record(reads_its_rules.flow), reads_its_rules.flow)
    monkeypatch.delitem(sys.modules, "reads_its_rules")
    assert report.ok
    [entry] = [each for each in report.skipped if each.perturbation == "imported elsewhere"]
    assert "rules.txt" in entry.reason


PAIRS = [f"{a}{b}" for a, b in itertools.combinations("abcdxyz0123", 2)]


def test_a_set_of_two_comes_in_both_orders():
    def pairs(ctx, _):
        for pair in PAIRS:
            ctx.set_custom_status([*{pair[0], pair[1]}])
        yield ctx.call_activity("work")

    [finding] = check_determinism(record(pairs), pairs).findings
    assert finding.hazard == "DT108"
    assert len(finding.divergences) > 0.9 * len(PAIRS)


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
    assert set(not_tried(report)) == {"the process was ended by SIGKILL."}
    assert not_tried(check_determinism(record(fine), fine)) == []


def fine(ctx, _):
    yield ctx.call_activity("work")


def test_a_process_that_exits_is_a_finding():
    def exits(ctx, _):
        if in_a_child():
            os._exit(3)
        yield ctx.call_activity("work")

    [finding] = check_determinism(record(exits), exits).findings
    assert "os._exit()" in finding.message


@posix
def test_a_process_that_does_not_answer_is_ended_and_is_an_entry(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 6)

    def hangs(ctx, _):
        while in_a_child():
            pass
        yield ctx.call_activity("work")

    report = check_determinism(record(hangs), hangs)
    assert report.ok
    [skipped] = set(not_tried(report))
    assert skipped == "the process was ended because it did not answer in time."


@posix
def test_a_process_that_somebody_stopped_or_ended_is_replaced(monkeypatch):
    assert not_tried(check_determinism(record(fine), fine)) == []
    pids = [child.process.pid for child in processes._children.values()]
    assert len(pids) == len(processes.ROLES)
    os.kill(pids[0], signal.SIGSTOP)
    monkeypatch.setattr(processes, "PATIENCE", 2)
    [skipped] = not_tried(check_determinism(record(fine), fine))
    assert "did not answer within 2 s" in skipped
    monkeypatch.undo()
    for child in processes._children.values():
        if child.process is not None:
            child.process.kill()
            child.process.wait()
    assert not_tried(check_determinism(record(fine), fine)) == []


def test_an_orchestrator_that_cannot_be_imported_there_is_an_entry(tmp_path, monkeypatch):
    (tmp_path / "vanishing.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    import vanishing  # type: ignore[import-not-found]

    (tmp_path / "vanishing.py").unlink()
    report = check_determinism(record(vanishing.workflow), vanishing.workflow)
    monkeypatch.delitem(sys.modules, "vanishing")
    [skipped] = set(not_tried(report))
    assert "vanishing" in skipped


def test_without_forks_a_process_is_started_for_each_request(monkeypatch):
    monkeypatch.setattr(processes, "FORKS", False)

    def order(ctx, _):
        print("not an answer")
        for name in {"a", "b", "c", "d"}:
            yield ctx.call_activity("work", input=name)

    for _ in range(2):
        report = check_determinism(record(order), order)
        assert names_of(report) == [("DT108", ("hash seed",))]
        assert not_tried(report) == []


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
    skipped = [each for each in report.skipped if each.perturbation != "locale"]
    print([finding.hazard for finding in report.findings], skipped, flush=True)
"""


@posix
@pytest.mark.parametrize("ending", ["", "\nimport os; os.kill(os.getpid(), 9)\n"], ids=["at exit", "killed"])
def test_a_script_finds_what_it_does_itself_and_leaves_no_process_behind(tmp_path, ending):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT) + ending)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if ending else 0), done.stderr
    pids, result = done.stdout.splitlines()
    assert result == "['DT108'] []"
    until = time.monotonic() + 30
    while any(map(lives, pids.split())):
        assert time.monotonic() < until, "a process outlived the script"


def lives(pid: str) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] not in ("", "Z")
