"""The guard in pytest: how it is set, and what the summary says."""

from __future__ import annotations

import pytest

import dt_testkit.backends
import dt_testkit.guard
import dt_testkit.hub.channel

assert dt_testkit.backends
assert dt_testkit.guard
assert dt_testkit.hub.channel

INI = "[pytest]\naddopts = -p no:asyncio -p no:hypothesispytest -p no:cacheprovider\n"
TEST = """
import time
import pytest
from dt_testkit import NonDeterministicCall, allow_nondeterminism

def order(ctx, _):
    time.time()
    return "done"

def test_order(task_hub):
    task_hub.add_orchestrator(order)
    assert task_hub.run(order).output == "done"
"""
ALLOWED = """
import time
from dt_testkit import allow_nondeterminism

def order(ctx, _):
    with allow_nondeterminism("only logged"):
        time.monotonic()

def test_order(task_hub):
    task_hub.add_orchestrator(order)
    task_hub.run(order)
    task_hub.run(order)

def test_again(task_hub):
    task_hub.add_orchestrator(order)
    task_hub.run(order)
"""


@pytest.fixture
def project(pytester):
    pytester.makeini(INI)
    return pytester


def test_task_hub_is_guarded(project):
    project.makepyfile(TEST)
    result = project.runpytest_subprocess("-p", "no:xdist")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        "*NonDeterministicCall: `time.time()` was called in the orchestrator 'order'*"
    )


@pytest.mark.parametrize("guard", ["error", "warn", "off"])
def test_the_setting_and_the_option_say_what_it_does(project, guard):
    project.makepyfile(TEST)
    expected = {"error": {"failed": 1}, "warn": {"passed": 1, "warnings": 1}, "off": {"passed": 1}}[guard]
    project.runpytest_subprocess("-p", "no:xdist", f"--dt-guard={guard}").assert_outcomes(**expected)
    project.makeini(f"{INI}dt_guard = {guard}\n")
    project.runpytest_subprocess("-p", "no:xdist").assert_outcomes(**expected)


def test_a_marker_goes_before_the_setting(project):
    project.makepyfile(TEST.replace("def test_order", '@pytest.mark.dt_hub(guard="off")\ndef test_order'))
    project.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)


def test_another_setting_is_refused(project):
    project.makeini(f"{INI}dt_guard = loud\n")
    result = project.runpytest_subprocess("-p", "no:xdist")
    result.stderr.fnmatch_lines("*dt_guard is error, warn or off, not 'loud'.")


@pytest.mark.parametrize("options", [("-p", "no:xdist"), ("-n", "2")], ids=["alone", "with xdist"])
def test_the_summary_lists_what_was_let_through(project, options):
    project.makepyfile(test_orders=ALLOWED)
    result = project.runpytest_subprocess(*options)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*dt_testkit: allowed nondeterminism*", "test_orders.py:5 in order: only logged (time.monotonic)"]
    )
    assert str(result.stdout).count("only logged") == 1
