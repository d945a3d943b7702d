"""The fresh processes of net 2: what reaches them, and what becomes of those that die."""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
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
    assert names_of(report) == ([("DT101", ("imported at another time",))] if known else [])


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
    assert found == [[], [("DT101", ("imported at another time",))], []]


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


DRAWN = {
    "time.time()": ("DT101", "imported at another time"),
    "[random.randrange(1_000_000), 1]": ("DT102", "imported with another seed"),
    "os.urandom(8).hex()": ("DT102", "imported with another seed"),
    "repr(object())": ("DT103", "hash seed"),
    "hasattr(sys, 'of_this_process')": ("DT109", "fresh process"),
}


def found_of(value, header, folder, monkeypatch):
    (folder / "drawn.py").write_text(
        f"import os, random, sys, time\n{header}\nVALUE = {value}\n"
        "def flow(ctx, _):\n    yield ctx.call_activity('work', input=VALUE)\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "drawn", raising=False)
    import drawn  # type: ignore[import-not-found]

    report = check_determinism(record(drawn.flow), drawn.flow)
    monkeypatch.delitem(sys.modules, "drawn")
    assert not_tried(report) == []
    [finding] = report.findings
    return finding.hazard, finding.perturbations[0]


@pytest.mark.parametrize("value", DRAWN)
def test_what_a_value_of_the_import_goes_by_is_told(value, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "of_this_process", True, raising=False)
    assert found_of(value, "", tmp_path, monkeypatch) == DRAWN[value]


def test_of_a_project_that_can_be_imported_only_once_a_value_of_the_import_is_told_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "drawn_before", False, raising=False)
    once = "assert not getattr(sys, 'drawn_before', False)\nsys.drawn_before = True"
    assert found_of("time.time()", once, tmp_path, monkeypatch) == ("DT109", "fresh process")


def test_what_libraries_count_is_not_told_as_the_time_of_the_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "counted", [time.time()], raising=False)
    counts = "sys.counted = [*getattr(sys, 'counted', []), 1]"
    assert found_of("len(sys.counted)", counts, tmp_path, monkeypatch) == ("DT109", "fresh process")


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
    return processes._MAIN in sys.orig_argv


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


def test_what_was_asked_for_before_an_interruption_is_no_answer_to_the_next(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    def order(ctx, _):
        yield ctx.call_activity("work", input=[*{"a", "b", "c", "d"}])

    history = record(fine)
    monkeypatch.setattr(processes._Child, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_determinism(record(order), order)
    monkeypatch.undo()
    assert names_of(check_determinism(history, fine)) == []


def test_threads_may_check_at_once():
    def order(ctx, _):
        yield ctx.call_activity("work", input=[*{"a", "b", "c", "d"}])

    functions = [(order, record(order)), (fine, record(fine)), (fine, record(fine))]
    begin = threading.Barrier(len(functions))
    found: list[list[str]] = []
    before = time.sleep, time.time, os._exit, os.urandom, sys.stdout, logging.root.manager.disable

    def work(function, history):
        begin.wait()
        for _ in range(4):
            found.append([name for name, _ in names_of(check_determinism(history, function))])

    threads = [threading.Thread(target=work, args=each) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[]] * 8 + [["DT108"]] * 4
    assert before == (time.sleep, time.time, os._exit, os.urandom, sys.stdout, logging.root.manager.disable)


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_a_process_that_checks_has_children_of_its_own():
    history = record(fine)
    assert not_tried(check_determinism(history, fine)) == []
    mine = {child.process.pid for child in processes._children.values()}
    holds, over = threading.Event(), threading.Event()

    def checks():
        with processes.alone():
            holds.set()
            over.wait()

    other = threading.Thread(target=checks)
    other.start()
    holds.wait()
    pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(BaseException):
            signal.alarm(60)
            report = check_determinism(history, fine)
            theirs = {child.process.pid for child in processes._children.values()}
            status = 0 if not_tried(report) == [] and not mine & theirs else 2
            processes.stop()
        os._exit(status)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    over.set()
    other.join()
    assert ended == 0
    assert not_tried(check_determinism(history, fine)) == []
    assert {child.process.pid for child in processes._children.values()} == mine


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


FLAGS = """
    import time
    import warnings

    STARTED = time.time()

    def found(ctx, _):
        yield ctx.call_activity("work", input=STARTED)
        for name in {"a", "b", "c", "d"}:
            yield ctx.call_activity("work", input=name)

    def fine(ctx, _):
        yield ctx.call_activity("work", input=[__debug__, fine.__doc__])
        warnings.warn("old", DeprecationWarning)
        yield ctx.call_activity("work")
"""
OF_FLAGS = """
    import sys
    sys.path[:0] = {folders!r}
    from dt_testkit import TaskHub
    from dt_testkit.determinism import check_determinism
    from under_flags import fine, found

    for each in (found, fine):
        hub = TaskHub(guard="off", check_replay="never")
        hub.add_orchestrator(each)
        hub.stub("work", return_value=1)
        report = check_determinism(hub.run(each).history, hub)
        print([finding.hazard for finding in report.findings])
        print(*[each for each in report.skipped if each.perturbation != "locale"], sep="")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a directory that is in use cannot be removed there")
def test_a_working_directory_that_is_gone_changes_no_finding(tmp_path):
    (tmp_path / "under_flags.py").write_text(textwrap.dedent(FLAGS))
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = f"import os\nos.rmdir({str(gone)!r})\n"
    script = textwrap.dedent(OF_FLAGS).format(folders=[str(tmp_path), processes._SOURCE])
    (tmp_path / "script.py").write_text(leave + script)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("['DT101', 'DT108']\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ((), {"PYTHONWARNINGS": "error"}),
        (("-W", "error"), {}),
        (("-O",), {}),
        (("-I",), {"PYTHONHASHSEED": "0"}),
        (("-X", "dev"), {"PYTHONWARNINGS": "error"}),
    ],
    ids=str,
)
def test_how_python_was_started_changes_no_finding(tmp_path, flags, variables):
    (tmp_path / "under_flags.py").write_text(textwrap.dedent(FLAGS))
    (tmp_path / "script.py").write_text(
        textwrap.dedent(OF_FLAGS).format(folders=[str(tmp_path), processes._SOURCE])
    )
    done = subprocess.run(
        [sys.executable, *flags, str(tmp_path / "script.py")],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n") == ["['DT101', 'DT108']", "", "[]", "", ""], done.stderr


def test_the_guard_knows_after_a_check_what_was_moved_in_it(tmp_path):
    script = """
        import time
        from datetime import datetime
        from dt_testkit import History, NonDeterministicCall, TaskHub
        from dt_testkit.determinism import check_determinism
        from durabletask import history as h

        def sleeps(ctx, _):
            time.sleep(0)
            yield

        started = h.ExecutionStartedEvent(-1, datetime(2026, 1, 1), "sleeps", None, None, None, None)
        check_determinism(History("i", [h.OrchestratorStartedEvent(-1, started.timestamp), started]), sleeps)
        hub = TaskHub()
        hub.add_orchestrator(sleeps)
        try:
            hub.run(sleeps)
        except NonDeterministicCall as stopped:
            print(stopped.call)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "time.sleep\n", done.stderr


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


# -- what is imported, and what is allowed there


def report_on(source, folder, monkeypatch, name="a_shop", input=None):
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = __import__(name)
    hub = TaskHub(guard="off", check_replay="never")
    hub.add_orchestrator(module.flow)
    hub.stub("work", return_value="done")
    report = check_determinism(hub.run(module.flow, input=input).history, module.flow)
    monkeypatch.delitem(sys.modules, name)
    assert not_tried(report) == []
    return report


COUNTED = """
    import os, uuid

    BATCH = uuid.uuid4().hex[:8]
    LIMIT = float(os.environ.get("DT_NOBODY_SETS_THIS", "5000"))
    seen = {}

    def reference(customer):
        seen[customer] = seen.get(customer, 0) + 1
        return TEXT

    def flow(ctx, customer):
        if customer == "big" and LIMIT < 2:
            ctx.set_custom_status("waits")
            yield ctx.create_timer(ctx.current_utc_datetime)
        yield ctx.call_activity("work", input={"key": reference(customer)})
        yield ctx.call_activity("work", input="last")
"""
IN_WORDS = 'f"{BATCH}-{customer}-{seen[customer]}"'
BY_CHANCE = (
    "DT102",
    ("imported with another seed", "imported with a third seed", "imported with a fourth seed"),
)
BY_MEMORY = ("DT109", ("replayed again",))


def test_a_count_in_a_text_hides_no_other_word_of_it(tmp_path, monkeypatch):
    report = report_on(COUNTED.replace("TEXT", IN_WORDS), tmp_path, monkeypatch, input="kim")
    assert names_of(report) == [BY_MEMORY, BY_CHANCE]
    assert report.not_compared == ()
    assert "not compared" not in str(report)
    assert "`BATCH` of a_shop is" in report.findings[1].message


def test_what_a_text_that_has_other_words_each_time_hides_is_said(tmp_path, monkeypatch):
    text = 'BATCH + " and" * seen[customer]'
    report = report_on(COUNTED.replace("TEXT", text), tmp_path, monkeypatch, input="kim")
    assert names_of(report) == [BY_MEMORY]
    assert report.not_compared == ("what else changes activity 'work' (#1): input",)
    said = "not compared: what else changes activity 'work' (#1): input. Mend what was found first, and check"
    assert said in str(report)


def test_a_setting_that_decides_the_way_hides_no_other_value_of_the_import(tmp_path, monkeypatch):
    report = report_on(COUNTED.replace("TEXT", IN_WORDS), tmp_path, monkeypatch, input="big")
    assert sorted(names_of(report)) == [BY_CHANCE, ("DT106", ("imported elsewhere",)), BY_MEMORY]
    [message] = [each.message for each in report.findings if each.hazard == "DT106"]
    # Not a custom status: a command is held against a command, and the global that differs is named.
    assert "activity 'work' (#1) becomes a timer" in message
    assert "`LIMIT` of a_shop is 5000.0 and becomes 1.0" in message
    assert report.not_compared == ("what comes after activity 'work' (#1) (imported elsewhere)",)


def test_globals_that_the_orchestrator_does_not_go_by_are_not_named(tmp_path, monkeypatch):
    source = """
        import os

        OTHER = os.environ.get("PATH")
        REGION = os.environ.get("DT_NOBODY_SETS_THIS", "eu")

        def region():
            return REGION

        def flow(ctx, _):
            yield ctx.call_activity("work", input=region())
    """
    [finding] = report_on(source, tmp_path, monkeypatch).findings
    assert '`REGION` of a_shop is "eu" and becomes "1"' in finding.message
    assert "OTHER" not in finding.message


ALLOWED = """
    import os, time, uuid
    from dt_testkit import allow_nondeterminism

    def read():
        with allow_nondeterminism("a deployment constant"):
            return VALUE

    with allow_nondeterminism("another one, that nobody goes by"):
        NAME = os.environ.get("DT_NOBODY_SETS_THIS", "eu")
    CONSTANT = read()
    OTHER = os.environ.get("DT_NOBODY_SETS_THIS", "eu")

    def flow(ctx, also):
        if CONSTANT == "1":
            yield ctx.call_activity("work", input="besides")
        yield ctx.call_activity("work", input=[CONSTANT, OTHER if also else None])
"""


@pytest.mark.parametrize(
    ("value", "hazard"),
    [
        ('os.environ.get("DT_NOBODY_SETS_THIS", "eu")', "DT106"),
        ("time.time()", "DT101"),
        ("uuid.uuid4().hex", "DT102"),
    ],
)
def test_a_block_around_a_value_of_the_import_allows_what_it_changes(value, hazard, tmp_path, monkeypatch):
    report = report_on(ALLOWED.replace("VALUE", value), tmp_path, monkeypatch)
    assert report.ok, report
    [entry] = report.allowed
    assert (entry.reason, entry.hazard) == ("a deployment constant", hazard)
    assert (entry.call, entry.location.line) == ("the import", 6)
    assert f"({hazard}): a deployment constant" in str(report)


def test_a_block_around_one_value_of_the_import_allows_no_other(tmp_path, monkeypatch):
    source = ALLOWED.replace("VALUE", 'os.environ.get("DT_NOBODY_SETS_THIS", "eu")')
    report = report_on(source, tmp_path, monkeypatch, input=True)
    assert names_of(report) == [("DT106", ("imported elsewhere",))]
    assert "`OTHER` of a_shop" in report.findings[0].message
    assert "CONSTANT" not in report.findings[0].message
    assert [each.reason for each in report.allowed] == ["a deployment constant"]


def test_what_a_block_of_a_project_that_can_be_imported_only_once_lets_through_is_listed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "imported_before", False, raising=False)
    once = "import sys\nassert not getattr(sys, 'imported_before', False)\nsys.imported_before = True\n"
    source = textwrap.dedent(ALLOWED).replace("VALUE", 'os.environ.get("DT_NOBODY_SETS_THIS", "eu")')
    report = report_on(once + source, tmp_path, monkeypatch)
    assert report.ok
    assert [each.reason for each in report.allowed] == [
        "another one, that nobody goes by",
        "a deployment constant",
    ]
