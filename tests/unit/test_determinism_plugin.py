"""``--dt-determinism``: net 2 on everything that tests record."""

from __future__ import annotations

import pytest

# Loaded here, for pytester unloads what a run inside a test loads, and gRPC is not made to be loaded twice.
import dt_testkit.determinism.watch
import dt_testkit.hub.channel
from dt_testkit import TaskHub

assert dt_testkit.determinism.watch
assert dt_testkit.hub.channel

APPLICATION = """
import time

def hello(ctx, name):
    return f"hello {name}"

def clean(ctx, left):
    yield ctx.call_activity(hello, input=str(ctx.current_utc_datetime))
    if left:
        ctx.continue_as_new(left - 1)

def hazardous(ctx, _):
    yield ctx.call_activity(hello, input=time.time())

def late(ctx, left):
    if left == 0:
        yield ctx.call_activity(hello, input=time.time())
    else:
        yield ctx.call_activity(hello)
        ctx.continue_as_new(left - 1)

def parent(ctx, _):
    yield ctx.call_sub_orchestrator(hazardous)

def register(worker):
    for orchestrator in (clean, hazardous, late, parent):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(hello)
"""
TESTS = """
import pytest
from dt_testkit import TaskHub, drive
from shop import clean, hazardous, hello, late, parent, register

off = pytest.mark.dt_hub(guard="off", check_replay="never")

def test_clean(task_hub):
    task_hub.run(clean, input=2)

@off
def test_hub_of_the_fixture(task_hub):
    task_hub.run(hazardous)
    task_hub.run(hazardous)

@off
def test_last_generation(task_hub):
    task_hub.run(late, input=2)

@off
def test_child(task_hub):
    task_hub.run(parent)

def test_own_hub():
    hub = TaskHub(guard="off", check_replay="never")
    register(hub)
    hub.run(hazardous)

@pytest.fixture(scope="module")
def shared():
    hub = TaskHub(guard="off", check_replay="never")
    register(hub)
    return hub

def test_shared_and_clean(shared):
    shared.run(clean)

def test_shared_and_hazardous(shared):
    shared.run(hazardous)

def test_shared_and_clean_again(shared):
    shared.run(clean)

def test_code_that_is_changed_on_purpose(task_hub):
    task_hub.run(clean)
    task_hub.orchestrators["clean"] = hello

def test_drive():
    drive(clean).complete("hello")

def test_failed_before(task_hub):
    task_hub.run(clean)
    assert False, "for another reason"
"""
INI = """
[pytest]
addopts = -p no:asyncio -p no:hypothesispytest -p no:cacheprovider
filterwarnings = error
dt_app = shop:register
"""


@pytest.fixture
def project(pytester):
    pytester.makepyfile(shop=APPLICATION, test_shop=TESTS)
    pytester.makeini(INI)
    return pytester


def test_a_test_fails_if_what_it_has_recorded_has_findings(project):
    result = project.runpytest_subprocess("--dt-determinism", "-rA")
    outcomes = {
        line.split("::")[1].split(" ")[0]: line.split(" ")[0]
        for line in result.outlines
        if line.startswith(("PASSED ", "FAILED "))
    }
    assert outcomes == {
        "test_clean": "PASSED",
        "test_hub_of_the_fixture": "FAILED",
        "test_last_generation": "FAILED",
        "test_child": "FAILED",
        "test_own_hub": "FAILED",
        "test_shared_and_clean": "PASSED",
        "test_shared_and_hazardous": "FAILED",
        "test_shared_and_clean_again": "PASSED",
        "test_code_that_is_changed_on_purpose": "PASSED",
        "test_drive": "PASSED",
        "test_failed_before": "FAILED",
    }
    text = result.stdout.str()
    assert text.count("--dt-determinism, on what this test has recorded:") >= 5
    assert "instead: use `ctx.current_utc_datetime`" in text
    assert "for another reason" in text


@pytest.mark.parametrize("shows", ["in short", "on CI"])
def test_one_hazard_is_told_once_in_a_test(project, monkeypatch, shows):
    """The summary of failures shows all of a message on CI."""
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    monkeypatch.setenv("CI", "1" if shows == "on CI" else "")
    monkeypatch.setenv("COLUMNS", "200")
    result = project.runpytest_subprocess("--dt-determinism", "-k", "hub_of_the_fixture")
    assert result.stdout.str().count("DT101 the wall clock") == 1
    result.stdout.fnmatch_lines(["FAILED *hub_of_the_fixture - --dt-determinism: DT101 at shop.py:12*"])


def test_without_the_option_nothing_of_it_is_done(project):
    project.runpytest_subprocess("-k", "not failed_before").assert_outcomes(passed=10, deselected=1)


def test_history_files_are_checked_too(project):
    """With code that goes by the clock, and asks for what was recorded until some day to come."""
    by_the_year = APPLICATION.replace("input=time.time()", "input=1 if time.gmtime().tm_year < 2036 else 2")
    namespace = {"__name__": "shop"}
    exec(by_the_year, namespace)
    hub = TaskHub(guard="off")
    namespace["register"](hub)
    for name in ("clean", "hazardous"):
        hub.run(name).history.save(project.path / f"{name}.history.json")
    project.makepyfile(shop=by_the_year)
    files = ["clean.history.json", "hazardous.history.json"]
    project.runpytest_subprocess(*files).assert_outcomes(passed=2)
    result = project.runpytest_subprocess("--dt-determinism", *files)
    result.assert_outcomes(passed=1, failed=1)
    assert "DT101" in result.stdout.str()


def test_a_history_file_that_diverges_is_checked_too(project):
    namespace = {"__name__": "shop"}
    exec(APPLICATION, namespace)
    hub = TaskHub(guard="off", check_replay="never")
    namespace["register"](hub)
    hub.run("hazardous").history.save(project.path / "old.history.json")
    result = project.runpytest_subprocess("--dt-determinism", "old.history.json")
    result.assert_outcomes(failed=1)
    assert "input" in result.stdout.str().split(RECORDED)[0]  # the divergence, told first
    (section,) = sections_of(result)
    assert "DT101" in section
    assert "whatever is moved" not in section


OTHERS = """
import threading
import time
import unittest
from datetime import timedelta
import pytest
from dt_testkit import NonDeterministicCall, OrchestrationBlocked, TaskHub, allow_nondeterminism, drive
from shop import hello

class Odd:
    def to_json(self):
        raise KeyError("odd")

def odd(ctx, _):
    yield ctx.create_timer(timedelta(0))
    return Odd()

def stamp(ctx, _):
    yield ctx.call_activity(hello, input=time.time())

def letters(ctx, _):
    for letter in {"a", "b", "c", "d"}:
        yield ctx.call_activity(hello, input=letter)

def letters_and_stamp(ctx, _):
    for letter in {"a", "b", "c", "d"}:
        yield ctx.call_activity(hello, input=letter)
    yield ctx.call_activity(hello, input=time.time())

def wait_for_stamp(ctx, _):
    yield ctx.wait_for_external_event("go")
    yield ctx.call_activity(hello, input=time.time())

def swallow(ctx, _):
    try:
        started = time.time()
    except BaseException:
        started = 0
    yield ctx.call_activity(hello, input=started)

def new_hub(**options):
    hub = TaskHub(**options)
    for each in (stamp, letters, letters_and_stamp, wait_for_stamp, swallow):
        hub.add_orchestrator(each)
    hub.add_activity(hello)
    return hub

def unguarded():
    return new_hub(guard="off", check_replay="never")
"""


def outcomes_of(result):
    return {
        line.split("::")[-1].split(" ")[0]: line.split(" ")[0]
        for line in result.outlines
        if line.startswith(("PASSED ", "FAILED ", "ERROR "))
    }


def sections_of(result):
    """The text of each section of findings in a failure report."""
    text = result.stdout.str()
    return [part.split("\n---")[0] for part in text.split(f"dt_testkit: {RECORDED} ---")[1:]]


RECORDED = "--dt-determinism, on what this test has recorded"


def run(project, tests, *options):
    project.makepyfile(shop=APPLICATION, others=OTHERS, test_others=f"from others import *\n{tests}")
    project.makeini(INI.replace("dt_app = shop:register\n", ""))
    return project.runpytest_subprocess("--dt-determinism", "-rA", *options)


def test_what_a_failed_test_leaves_behind_is_not_the_next_ones(pytester):
    result = run(
        pytester,
        """
kept = unguarded()

def test_a_fails():
    new_hub().run(letters_and_stamp)

def test_b_nothing():
    pass

def test_c_fails_with_the_hub_of_the_module():
    kept.run(letters)
    assert False, "for another reason"

def test_d_nothing():
    pass

@pytest.fixture
def afterwards():
    hub = unguarded()
    yield
    hub.run(letters)
    pytest.hub = hub

def test_e_is_over(afterwards):
    pass

def test_f_nothing():
    pass
""",
    )
    assert outcomes_of(result) == {
        "test_a_fails": "FAILED",
        "test_b_nothing": "PASSED",
        "test_c_fails_with_the_hub_of_the_module": "FAILED",
        "test_d_nothing": "PASSED",
        "test_e_is_over": "PASSED",
        "test_f_nothing": "PASSED",
    }


def test_an_instance_that_goes_on_in_another_test_is_told_of_once(pytester):
    result = run(
        pytester,
        """
@pytest.fixture(scope="session")
def hub():
    return unguarded()

def test_a_begins(hub):
    for name in ("one", "two"):
        hub.start(wait_for_stamp, instance_id=name)
    hub.settle()

def test_b_goes_on(hub):
    hub.instance("one").raise_event("go")
    hub.settle()

def test_c_has_nothing_new(hub):
    assert hub.instance("one").is_terminal

def test_d_goes_on(hub):
    hub.instance("two").raise_event("go")
    hub.settle()

def test_e_restarts(hub):
    hub.run(letters, instance_id="three")

def test_f_restarts_again(hub):
    hub.instance("three").restart()
    hub.settle()
""",
    )
    assert outcomes_of(result) == {
        "test_a_begins": "PASSED",
        "test_b_goes_on": "FAILED",
        "test_c_has_nothing_new": "PASSED",
        "test_d_goes_on": "FAILED",
        "test_e_restarts": "FAILED",
        "test_f_restarts_again": "FAILED",
    }


def test_a_test_that_fails_by_itself_shows_the_findings_too(pytester):
    result = run(
        pytester,
        """
def test_an_assertion():
    unguarded().run(letters)
    assert False, "for another reason"

def test_a_divergence():
    new_hub(guard="off").run(stamp)

def test_a_stopped_call():
    new_hub().run(letters_and_stamp)

class TestOfUnittest(unittest.TestCase):
    def test_unittest(self):
        unguarded().run(letters)
        self.fail("for another reason")

@pytest.mark.xfail(reason="known")
def test_xfail():
    unguarded().run(letters)
    assert False

def test_skip():
    unguarded().run(letters)
    pytest.skip("later")

def test_nothing_to_find():
    assert False, "for another reason"
""",
    )
    result.assert_outcomes(failed=5, xfailed=1, skipped=1)
    by_assertion, by_divergence, by_stop, in_unittest = sections_of(result)
    assert "DT108" in by_assertion
    assert "DT101" in by_divergence
    assert "DT108" in by_stop
    assert "DT101" not in by_stop  # which the guard has told
    assert "DT108" in in_unittest
    assert f"{RECORDED}:" not in result.stdout.str()  # it is not what they fail with


def test_what_the_guard_has_stopped_and_what_is_allowed_fails_nothing(pytester):
    result = run(
        pytester,
        """
def test_drive():
    with pytest.raises(NonDeterministicCall):
        drive(stamp)

def test_hub():
    with pytest.raises(NonDeterministicCall):
        new_hub().run(stamp)

def test_swallowed():
    with pytest.raises(NonDeterministicCall):
        new_hub().run(swallow)

def test_allowed():
    with allow_nondeterminism("the time is only logged"):
        new_hub(check_replay="never").run(stamp)

def test_the_order_of_a_set_is_not_what_the_guard_allows():
    with allow_nondeterminism("the time is only logged"):
        new_hub(check_replay="never").run(letters_and_stamp)

def test_another_instance():
    hub = new_hub()
    with pytest.raises(NonDeterministicCall):
        hub.run(stamp)
    hub.run(letters)

def test_an_output_that_cannot_be_serialized():
    hub = new_hub()
    hub.add_orchestrator(odd)
    with pytest.raises(OrchestrationBlocked):
        hub.run(odd)
""",
    )
    assert outcomes_of(result) == {
        "test_drive": "PASSED",
        "test_hub": "PASSED",
        "test_swallowed": "PASSED",
        "test_allowed": "PASSED",
        "test_the_order_of_a_set_is_not_what_the_guard_allows": "FAILED",
        "test_another_instance": "FAILED",
        "test_an_output_that_cannot_be_serialized": "PASSED",
    }
    assert "DT101" not in result.stdout.str()


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "2")], ids=["alone", "with xdist"])
def test_the_summary_lists_what_could_not_be_tried(pytester, options):
    tests = """
lock = threading.Lock()

def locked(lock):
    def closed_over(ctx, _):
        with lock:
            letters = {"a", "b", "c", "d"}
        for letter in letters:
            yield ctx.call_activity(hello, input=letter)
    return closed_over

@pytest.mark.parametrize("n", range(3))
def test_closed_over(n):
    hub = new_hub()
    hub.add_orchestrator(locked(lock))
    hub.run("closed_over")
    hub.run("closed_over")
"""
    result = run(pytester, tests, *options)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*dt_testkit: not tried by --dt-determinism*",
            "test_others.py:6 in closed_over: fresh process: it cannot be passed to another process (*",
        ]
    )
    assert str(result.stdout).count("it cannot be passed to another process") == 1


def test_several_runs_show_a_finding_once_and_no_timelines(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    tests = """
@pytest.mark.dt_hub(guard="off", check_replay="never")
@pytest.mark.parametrize("fails", [False, True])
def test_many(task_hub, fails):
    task_hub.add_orchestrator(letters)
    task_hub.add_activity(hello)
    for _ in range(4):
        task_hub.run(letters)
    assert not fails
"""
    told, _, summary = run(pytester, tests).stdout.str().partition("short test summary info")
    alone, _, with_reason = told.partition("test_many[True] __")
    assert alone.count("DT108") == 1
    assert "timeline of" not in alone
    assert with_reason.count("DT108 ") == 1
    assert with_reason.count("timeline of") == 4
    assert "test_many[False] - --dt-determinism: DT108 at others.py:" in summary
