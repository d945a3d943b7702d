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


def test_one_hazard_is_told_once_in_a_test(project):
    result = project.runpytest_subprocess("--dt-determinism", "-k", "hub_of_the_fixture")
    assert result.stdout.str().count("DT101 the wall clock") == 1


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
