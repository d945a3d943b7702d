from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from textwrap import dedent

import pytest

# Loaded here, for pytester unloads what a run inside a test loads, and gRPC is not made to be loaded twice.
import dt_testkit.backends
import dt_testkit.cli
import dt_testkit.hub.channel
from dt_testkit import History, TaskHub

assert dt_testkit.backends
assert dt_testkit.cli
assert dt_testkit.hub.channel

APPLICATION = """
from datetime import timedelta

def charge(ctx, order):
    return f"paid {order}"

def order_workflow(ctx, order):
    payment = yield ctx.call_activity(charge, input=order)
    yield ctx.create_timer(timedelta(days=1))
    return payment

def approval(ctx, _):
    return (yield ctx.wait_for_external_event("approved"))

def again(ctx, left):
    if left:
        ctx.continue_as_new(left - 1)
    else:
        yield ctx.wait_for_external_event("never")

def many(ctx, count):
    for number in range(count):
        yield ctx.call_activity(charge, input=number)
    yield ctx.wait_for_external_event("never")

def register(worker):
    for orchestrator in (order_workflow, approval, again, many):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(charge)
"""
INI = """
[pytest]
addopts = -p no:asyncio -p no:hypothesispytest -p no:cacheprovider
filterwarnings = error
"""
WITH_APP = f"{INI}dt_app = shop:register\n"


@pytest.fixture
def project(pytester):
    """A project with an application, on which pytest is run."""
    pytester.makepyfile(shop=APPLICATION)
    pytester.makeini(WITH_APP)
    return pytester


def record(path, *, instance_id="order-1"):
    namespace = {"__name__": "shop"}
    exec(APPLICATION, namespace)
    hub = TaskHub()
    namespace["register"](hub)
    hub.run("order_workflow", input="desk", instance_id=instance_id).history.save(path)


def change_the_application(project):
    project.makepyfile(shop=APPLICATION.replace("days=1", "days=2"))


class TestTaskHub:
    def test_it_comes_with_the_application_and_fresh_for_each_test(self, project):
        project.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("number", [1, 2])
            def test_order(task_hub, number):
                assert task_hub.instances == []
                assert task_hub.run("order_workflow", input="desk").output == "paid desk"
            """
        )
        project.runpytest().assert_outcomes(passed=2)

    def test_a_marker_gives_it_its_arguments(self, project):
        project.makepyfile(
            """
            import pytest
            from datetime import datetime

            @pytest.mark.dt_hub(start_time=datetime(2030, 1, 1), check_replay="turn")
            def test_time(task_hub):
                assert task_hub.now == datetime(2030, 1, 1)

            @pytest.mark.dt_hub(check_reply="turn")
            def test_misspelt(task_hub):
                pass

            @pytest.mark.dt_hub(5)
            def test_positional(task_hub):
                pass
            """
        )
        result = project.runpytest()
        result.assert_outcomes(passed=1, errors=2)
        assert "@pytest.mark.dt_hub takes the keyword arguments of TaskHub alone." in result.stdout.str()
        result.stdout.fnmatch_lines(["@pytest.mark.dt_hub: *unexpected keyword argument 'check_reply'*"])

    def test_without_an_application_it_is_empty(self, project):
        project.makeini(INI)
        project.makepyfile("def test_empty(task_hub): assert task_hub.orchestrators == {}")
        project.runpytest().assert_outcomes(passed=1)

    def test_the_application_is_found_from_a_subdirectory_too(self, project, monkeypatch):
        project.mkdir("tests")
        project.makepyfile(**{"tests/test_it": "def test_it(task_hub): assert task_hub.orchestrators"})
        monkeypatch.chdir(project.path / "tests")
        project.runpytest().assert_outcomes(passed=1)

    def test_an_application_that_cannot_be_loaded_is_an_error_of_one_sentence(self, project):
        project.makeini(f"{INI}dt_app = shop:registr\n")
        project.makepyfile("def test_it(task_hub): pass")
        result = project.runpytest()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            ["dt_app: The module 'shop' has no 'registr': did you mean 'shop:register'?"]
        )
        result.stdout.no_fnmatch_line("*Traceback*")


class TestTimelines:
    def test_a_failing_test_shows_every_instance_and_what_it_waits_for(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                task_hub.run("order_workflow", input="desk", instance_id="order-1")
                task_hub.start("approval", instance_id="car-1")
                task_hub.settle()
                assert False
            """
        )
        result = project.runpytest()
        result.stdout.fnmatch_lines(
            [
                "*- dt_testkit: timeline of car-1 -*",
                "approval 'car-1'  in flight*",
                "waits for event 'approved'*",
                "*- dt_testkit: timeline of order-1 -*",
                "order_workflow 'order-1'  COMPLETED*",
                '*charge("desk")',
            ]
        )

    def test_a_passing_test_and_one_without_a_hub_show_none(self, project):
        project.makepyfile(
            """
            def test_with(task_hub): task_hub.run("order_workflow")
            def test_without(): assert False
            """
        )
        result = project.runpytest("-rA")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.no_fnmatch_line("*timeline*")

    def test_a_test_that_fails_while_it_is_torn_down_shows_them_too(self, project):
        project.makepyfile(
            """
            import pytest

            @pytest.fixture
            def fragile(task_hub):
                yield
                assert False

            def test_it(fragile, task_hub): task_hub.run("order_workflow", instance_id="order-1")
            """
        )
        project.runpytest().stdout.fnmatch_lines(["*timeline of order-1*"])

    def test_a_test_on_the_simulated_client_shows_them_too(self, project):
        project.makepyfile(
            """
            def test_it(dt_client):
                dt_client.schedule_new_orchestration("approval", instance_id="car-1")
                assert False
            """
        )
        project.runpytest().stdout.fnmatch_lines(["*timeline of car-1*"])

    def test_stubs_that_nobody_called_are_listed_for_one_may_be_misspelt(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                task_hub.stub("chrge", return_value=1)
                task_hub.stub("charge", return_value=1)
                assert task_hub.run("order_workflow").output == 2
            """
        )
        result = project.runpytest()
        result.stdout.fnmatch_lines(["*stubs that nobody called*", "chrge"])

    def test_a_long_one_is_cut_in_the_middle(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                task_hub.start("many", input=100, instance_id="long")
                task_hub.settle()
                assert False
            """
        )
        result = project.runpytest()
        result.stdout.fnmatch_lines(
            [
                "*charge(0)",
                "   … * lines left out; print(task_hub.instance('long').history) has them",
                '*"paid 99"',
                "waits for event 'never'*",
            ]
        )
        assert len(result.outlines) < 120
        result.stdout.no_fnmatch_line("*charge(50)*")

    def test_of_many_instances_those_that_have_not_completed_come_first(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                for number in range(30):
                    task_hub.run("order_workflow")
                task_hub.start("approval", instance_id="car-1")
                task_hub.settle()
                assert False
            """
        )
        result = project.runpytest()
        result.stdout.fnmatch_lines(["*timeline of car-1*", "6 more instances, not shown."])

    def test_of_an_eternal_orchestration_the_last_generation_is_shown(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                task_hub.start("again", input=3, instance_id="eternal")
                task_hub.settle()
                assert False
            """
        )
        project.runpytest().stdout.fnmatch_lines(
            ["generation 4, the last; *", "again 'eternal'  in flight*", "*again(input=0)*"]
        )

    def test_they_come_through_xdist(self, project):
        project.makepyfile(
            """
            def test_it(task_hub):
                task_hub.run("order_workflow", instance_id="order-1")
                assert False
            """
        )
        result = project.runpytest_subprocess("-n", "1")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*timeline of order-1*", "order_workflow 'order-1'  COMPLETED*"])


class TestHistoryFiles:
    @pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz"])
    def test_each_format_is_a_test_that_is_named_after_its_instance(self, project, suffix):
        record(project.path / "histories" / f"a.history{suffix}")
        result = project.runpytest("--collect-only", "-q")
        result.stdout.fnmatch_lines([f"histories/a.history{suffix}::order_workflow/order-1"])
        project.runpytest().assert_outcomes(passed=1)

    def test_other_files_are_not_collected(self, project):
        record(project.path / "order.json")
        assert project.runpytest().ret == pytest.ExitCode.NO_TESTS_COLLECTED

    def test_a_divergence_fails_with_the_report_and_no_traceback(self, project):
        record(project.path / "a.history.json")
        change_the_application(project)
        result = project.runpytest()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "*replay of a.history.json*",
                "order_workflow 'order-1': 1 divergence in 12 events",
                "1. changed: *",
            ]
        )
        result.stdout.no_fnmatch_line("*Error*")
        result.stdout.no_fnmatch_line("*.py:[0-9]*: *")

    def test_without_an_application_the_error_says_to_set_one(self, project):
        project.makeini(INI)
        record(project.path / "a.history.json")
        result = project.runpytest()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*set dt_app in the pytest configuration*dt_app = workflows:register (in quotes *"]
        )

    def test_a_file_that_cannot_be_read_fails_alone_with_its_sentence(self, project):
        record(project.path / "good.history.json")
        (project.path / "bad.history.json").write_text('{"schema_version": "1.0"')
        result = project.runpytest()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*bad.history.json, line 1, column *: expected JSON*"])
        result.stdout.no_fnmatch_line("*Traceback*")

    def test_chunked_timers_replay_with_the_interval_of_the_worker(self, project):
        hub = TaskHub(maximum_timer_interval=timedelta(hours=10))
        exec(APPLICATION, namespace := {})
        namespace["register"](hub)
        hub.run("order_workflow", input="desk").history.save(project.path / "a.history.json")
        result = project.runpytest()
        result.assert_outcomes(failed=1)
        told = re.search("dt_maximum_timer_interval = [0-9.]+[0-9]", result.stdout.str())[0]
        project.makeini(f"{WITH_APP}{told}\n")
        project.runpytest().assert_outcomes(passed=1)

    @pytest.mark.parametrize("days", ["three", "0", "-1", "nan", "1e300"])
    def test_an_interval_that_is_no_number_of_days_is_told(self, project, days):
        project.makeini(f"{WITH_APP}dt_maximum_timer_interval = {days}\n")
        result = project.runpytest()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [f"ERROR: dt_maximum_timer_interval is a number of days, such as 3, not '{days}'."]
        )

    def test_an_error_that_is_not_ours_keeps_its_traceback(self, project, monkeypatch):
        def broken(*_):
            raise ZeroDivisionError("oh")

        monkeypatch.setattr("dt_testkit.replaying.assert_replays", broken)
        record(project.path / "good.history.json")
        project.runpytest().stdout.fnmatch_lines(["*raise ZeroDivisionError*", "*ZeroDivisionError: oh"])


class TestRecord:
    TEST = """
        def test_it(task_hub, dt_record):
            order = task_hub.run("order_workflow", input="desk", instance_id="order-1")
            dt_record(order.history, "completed")
        """

    @pytest.fixture
    def recorded(self, project):
        project.makepyfile(**{"tests/test_it": self.TEST})
        project.runpytest("--dt-update-histories", "tests/test_it.py").assert_outcomes(passed=1)
        return project

    @staticmethod
    def path(project):
        return project.path / "tests" / "histories" / "completed.history.jsonl"

    def test_without_a_record_the_failure_says_how_to_make_one(self, project):
        project.makepyfile(self.TEST)
        result = project.runpytest()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                '>*dt_record(order.history, "completed")',
                "E *There is no histories/completed.history.jsonl to compare with: run pytest with "
                "--dt-update-histories to record it.",
            ]
        )

    def test_the_option_writes_it_beside_the_test_and_from_then_on_it_is_compared(self, recorded):
        assert History.load(self.path(recorded)).instance_id == "order-1"
        recorded.runpytest("tests").assert_outcomes(passed=2)  # the test, and the replay of its record

    def test_a_difference_is_told_with_the_event_and_both_values(self, recorded):
        recorded.makepyfile(shop=APPLICATION.replace("paid {order}", "bought {order}"))
        result = recorded.runpytest("tests/test_it.py")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "E *The history is not what tests/histories/completed.history.jsonl has recorded: event 6 "
                "is the first that differs: TaskCompletedEvent, whose result was '\"paid desk\"' and is "
                "'\"bought desk\"'; if that is intended, run pytest with --dt-update-histories *"
            ]
        )

    def test_updating_writes_first_and_replays_then(self, recorded):
        change_the_application(recorded)
        recorded.runpytest("tests").assert_outcomes(failed=2)
        recorded.runpytest("tests", "--dt-update-histories").assert_outcomes(passed=2)
        recorded.runpytest("tests").assert_outcomes(passed=2)

    def test_an_event_of_another_kind_is_told(self, recorded):
        recorded.makepyfile(shop=APPLICATION.replace("yield ctx.create_timer(timedelta(days=1))", "pass"))
        recorded.runpytest("tests/test_it.py").stdout.fnmatch_lines(
            ["E *event 7 is the first that differs: it was TimerCreatedEvent(*, and is Orchestrator*"]
        )

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                lambda lines: [lines[0].replace("order-1", "other"), *lines[1:]],
                "it is of instance 'other', and now of",
            ),
            (
                lambda lines: [lines[0].replace("{", '{"metadata":{},', 1), *lines[1:]],
                "it has the same events, and other metadata",
            ),
            (lambda lines: lines[:-1], "it was not there, and is ExecutionCompletedEvent("),
            (lambda lines: [*lines[:-1], lines[-1][:20]], "line"),
        ],
        ids=["instance", "metadata", "end", "broken"],
    )
    def test_any_other_difference_is_told_too(self, recorded, change, sentence):
        lines = self.path(recorded).read_text().splitlines()
        self.path(recorded).write_text("\n".join([*change(lines), ""]))
        result = recorded.runpytest("tests/test_it.py")
        result.assert_outcomes(failed=1)
        assert sentence in result.stdout.str()
        assert "--dt-update-histories" in result.stdout.str()

    @pytest.mark.parametrize(
        ("call", "sentence"),
        [
            ("dt_record(None, '../completed')", "*wants a plain name for a file*not '../completed'."),
            (
                "dt_record(None, 'completed.history.json')",
                "*plain name*not 'completed.history.json'.",
            ),
            ("dt_record('completed', None)", "*wants a plain name for a file*not None."),
            ("dt_record(5, 'completed')", "*takes a History first, such as instance.history, not 5."),
            (
                "dt_record(task_hub.start('order_workflow').history, 'completed')",
                "*has no events yet: drive the hub first*",
            ),
        ],
    )
    def test_what_cannot_be_recorded_is_refused(self, project, call, sentence):
        project.makepyfile(f"def test_it(dt_record, task_hub): {call}")
        for options in ([], ["--dt-update-histories"]):
            project.runpytest(*options).stdout.fnmatch_lines([f"E {sentence}"])

    def test_two_different_histories_of_one_name_are_refused(self, project):
        project.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("item", ["desk", "lamp"])
            def test_it(task_hub, dt_record, item):
                order = task_hub.run("order_workflow", input=item, instance_id="order-1")
                dt_record(order.history, "completed")
            """
        )
        result = project.runpytest("--dt-update-histories")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["E *Two different histories are recorded as 'completed'*"])

    def test_a_record_survives_an_edit_that_moves_lines(self, project):
        test = """
            def broken(ctx, _):
                raise ValueError("broken")

            def test_it(task_hub, dt_record):
                task_hub.stub("charge", side_effect=broken)
                dt_record(task_hub.run("order_workflow", instance_id="order-1").history, "broken")
        """
        project.makepyfile(test_it=test)
        project.runpytest("test_it.py", "--dt-update-histories").assert_outcomes(passed=1)
        project.makepyfile(test_it=f"# one line more\n{dedent(test)}")
        project.runpytest("test_it.py").assert_outcomes(passed=1)


SCENARIO = """
    import threading
    from durabletask.client import OrchestrationStatus

    def test_an_approval_is_waited_for(dt_client):
        instance_id = dt_client.schedule_new_orchestration("approval")
        dt_client.wait_for_orchestration_start(instance_id, timeout=20)
        dt_client.raise_orchestration_event(instance_id, "approved", data="ana")
        state = dt_client.wait_for_orchestration_completion(instance_id, timeout=20)
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert state.get_output() == "ana"

    def test_another(dt_client):
        assert dt_client.schedule_new_orchestration("approval")
    """


DAY = """
    def test_a_day_passes_while_it_is_waited_for(dt_client):
        instance_id = dt_client.schedule_new_orchestration("order_workflow")
        before = dt_client.get_orchestration_state(instance_id).created_at
        state = dt_client.wait_for_orchestration_completion(instance_id, timeout=20)
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert (state.last_updated_at - before).days == 1

    def test_one_worker_and_one_client_are_shared(dt_client, request):
        assert dt_client is request.getfixturevalue("_dt_connection")
"""


class TestBackends:
    def test_a_scenario_runs_simulated_by_default(self, project):
        project.makepyfile(SCENARIO + "\n    def test_which(dt_client, task_hub):\n"
            "        assert dt_client is task_hub.client")  # fmt: skip
        project.runpytest().assert_outcomes(passed=3)

    def test_the_same_scenario_runs_embedded(self, project):
        project.makepyfile(SCENARIO)
        project.runpytest("--dt-backend=embedded").assert_outcomes(passed=2)

    def test_the_same_scenario_runs_in_skipped_time_and_one_that_waits_for_a_day_does_too(self, project):
        project.makepyfile(SCENARIO + DAY)
        project.runpytest("--dt-backend=timeskip").assert_outcomes(passed=4)

    @pytest.mark.parametrize("backend", ["timeskip", "embedded"])
    def test_a_failure_shows_what_the_test_has_started_and_nothing_else(self, project, backend):
        project.makepyfile(
            SCENARIO
            + """
    import pytest

    def test_that_waits_in_vain(dt_client):
        instance_id = dt_client.schedule_new_orchestration("approval", instance_id="in-vain")
        dt_client.wait_for_orchestration_completion(instance_id, timeout=0.5)

    def test_that_purges(dt_client):
        instance_id = dt_client.schedule_new_orchestration("approval", instance_id="gone")
        dt_client.terminate_orchestration(instance_id)
        dt_client.wait_for_orchestration_completion(instance_id, timeout=20)
        dt_client.purge_orchestration(instance_id)
        raise AssertionError

    @pytest.fixture
    def begun(dt_client):
        dt_client.schedule_new_orchestration("approval", instance_id="begun")
        dt_client.get_orchestration_history = broken
        yield
        del dt_client.get_orchestration_history

    def broken(instance_id):
        raise TimeoutError

    def test_whose_setup_fails(begun, unheard_of):
        pass
    """
        )
        run = project.runpytest(f"--dt-backend={backend}")
        run.assert_outcomes(passed=2, failed=2, errors=1)
        shown = run.stdout.str()
        assert shown.count("dt_testkit: timeline of") == 3
        run.stdout.fnmatch_lines(
            [
                "*- dt_testkit: timeline of begun -*",
                "It cannot be had any more: TimeoutError",
                "*- dt_testkit: timeline of in-vain -*",
                "*approval*",
                "*- dt_testkit: timeline of gone -*",
                "It cannot be had any more: *gone*",
            ]
        )

    def test_a_worker_beside_a_test_whose_time_is_frozen_goes_on_and_stops(self, project):
        frozen = """
    import asyncio, time
    import freezegun

    @freezegun.freeze_time("2020-05-05")
    def test_a_coroutine_sees_the_frozen_time():
        async def year():
            await asyncio.sleep(0.01)
            return time.gmtime(time.time()).tm_year

        assert asyncio.run(year()) == 2020

    @freezegun.freeze_time("2020-05-05")
    def test_a_day_passes_while_it_is_waited_for(dt_client):"""
        day = DAY.replace("\n    def test_a_day_passes_while_it_is_waited_for(dt_client):", frozen)
        assert "freeze_time" in day
        project.makepyfile(SCENARIO + day)
        run = project.runpytest_subprocess("--dt-backend=timeskip", timeout=60)
        run.assert_outcomes(passed=5)

    def test_the_same_scenario_runs_where_an_emulator_answers(self, project, monkeypatch):
        with dt_testkit.backends._in_memory_backend() as address:
            monkeypatch.setenv("ENDPOINT", f"http://{address}")
            project.makepyfile(SCENARIO)
            project.runpytest("--dt-backend=emulator").assert_outcomes(passed=2)

    def test_where_nothing_answers_each_test_is_an_error_with_what_to_do(self, project, monkeypatch):
        real = dt_testkit.backends.scheduler
        monkeypatch.setattr("dt_testkit.backends.scheduler", lambda *args: real(*args, patience=0.1))
        with dt_testkit.backends._reserved_port() as port:
            monkeypatch.setenv("ENDPOINT", f"http://localhost:{port}")
            project.makepyfile(SCENARIO)
            result = project.runpytest("--dt-backend=emulator")
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines([f"--dt-backend=emulator: Nothing at http://localhost:{port} answers *"])

    def test_a_scheduler_without_an_endpoint_is_an_error_that_says_to_set_it(self, project, monkeypatch):
        monkeypatch.delenv("ENDPOINT", raising=False)
        project.makepyfile(SCENARIO)
        result = project.runpytest("--dt-backend=scheduler")
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(
            ["--dt-backend=scheduler: The endpoint '' is not usable: set ENDPOINT to *"]
        )

    def test_an_application_that_cannot_be_registered_is_an_error_of_one_sentence(self, project):
        project.makeini(f"{INI}dt_app = shop:charge\n")
        project.makepyfile(SCENARIO)
        result = project.runpytest("--dt-backend=embedded")
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(["dt_app: The application 'shop:charge' does not take a worker alone*"])

    def test_a_real_backend_without_an_application_is_a_usage_error(self, project):
        project.makeini(INI)
        project.makepyfile(SCENARIO)
        result = project.runpytest("--dt-backend=embedded")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: --dt-backend=embedded needs an application to run: set dt_app in *"]
        )


@pytest.mark.parametrize("options", [(), ("--full-trace",)], ids=["as it is", "in full"])
def test_a_traceback_shows_the_code_of_the_user(project, options):
    project.makepyfile(
        """
        import time
        import unittest
        from dt_testkit import TaskHub

        def stamp(ctx, _):
            yield ctx.create_timer(now())

        def now():
            return time.time()

        def test_stamp(task_hub):
            task_hub.add_orchestrator(stamp)
            task_hub.run(stamp)

        class TestOfUnittest(unittest.TestCase):
            def test_stamp(self):
                task_hub = TaskHub()
                task_hub.add_orchestrator(stamp)
                task_hub.run(stamp)
        """
    )
    result = project.runpytest(*options)
    result.assert_outcomes(failed=2)
    told, _, _ = result.stdout.str().partition("short test summary")
    assert told.count("NonDeterministicCall: `time.time()`") - told.count("failed         stamp") == 2
    shown = [
        line
        for line in ("task_hub.run(stamp)", "ctx.create_timer(now())", "return time.time()")
        if line in told
    ]
    assert len(shown) == 3
    assert (f"dt_testkit{os.sep}hub" in told) is bool(options)


def test_a_wrong_argument_is_told_at_the_line_that_gives_it(project):
    project.makepyfile(
        """
        def test_advance(task_hub):
            task_hub.advance(3600)
        """
    )
    told = project.runpytest().stdout.str()
    assert "task_hub.advance(3600)" in told
    assert "E   TypeError: " in told.replace("E       ", "E   ")
    assert "dt_testkit" + os.sep not in told


@pytest.mark.parametrize(
    ("settings", "test", "words"),
    [
        ("dt_app = shop:regster", "def test_it(task_hub): pass", "dt_app: *did you mean 'shop:register'?"),
        (
            "",
            "import pytest\n@pytest.mark.dt_hub(sed=1)\ndef test_it(task_hub): pass",
            "@pytest.mark.dt_hub: *'sed'*",
        ),
    ],
    ids=["dt_app", "dt_hub"],
)
def test_a_setting_that_does_not_fit_is_told_once(pytester, settings, test, words):
    pytester.makepyfile(test, shop=APPLICATION)
    pytester.makeini(INI + settings)
    told = pytester.runpytest()
    told.assert_outcomes(errors=1)
    told.stdout.fnmatch_lines([words])
    told.stdout.no_fnmatch_line("*During handling*")


@pytest.mark.parametrize("app", ["", "dt_app = shop:register"], ids=["without", "with"])
def test_a_hub_with_nothing_on_it_says_how_to_register_the_application(pytester, app):
    pytester.makepyfile(
        """
        def test_order(task_hub):
            assert task_hub.run("orders").output == 1
        """,
        shop=APPLICATION,
    )
    pytester.makeini(INI + app)
    told = pytester.runpytest()
    told.assert_outcomes(failed=1)
    assert ("To have it on task_hub, set dt_app in the pytest configuration" in told.stdout.str()) is (
        not app
    )


def test_a_mistake_of_the_harness_shows_its_frames(project):
    project.makepyfile(
        """
        def test_stamp(task_hub):
            task_hub.run("order_workflow", input=object())
        """
    )
    told = project.runpytest().stdout.str()
    assert "TypeError" in told
    assert f"dt_testkit{os.sep}hub" in told


def test_the_help_has_a_line_for_everything(project):
    project.runpytest("--help").stdout.fnmatch_lines(
        [
            "dt-testkit (Durable Task):",
            "*--dt-backend={simulated,timeskip,embedded,emulator,scheduler}",
            "*--dt-update-histories",
            "*dt_app (string):*The application under test: *",
        ]
    )
    project.makepyfile("def test_it(): pass")
    fixtures = project.runpytest("--fixtures").stdout.str()
    assert "    A fresh simulated task hub," in fixtures
    assert "    The SDK's client, on the backend of" in fixtures
    assert "    Compare a history with a recorded one," in fixtures


def test_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, dt_testkit.pytest_plugin\n"
        "heavy = 'durabletask', 'grpc', 'google.protobuf', 'rich', 'click', 'asyncio', 'dt_testkit.hub'\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "print(sorted(name for name in sys.modules if name.startswith('dt_testkit')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n['dt_testkit', 'dt_testkit.pytest_plugin']\n", result.stderr


def test_an_instance_of_a_version_that_is_rejected_says_so_in_its_timeline(project):
    project.makepyfile(
        """
        from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

        def test_order(task_hub):
            task_hub.use_versioning(
                VersioningOptions("2.0", "2.0", VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT)
            )
            order = task_hub.start("order_workflow", version="1.0", instance_id="old")
            task_hub.settle()
            assert order.output == "paid"

        def test_in_flight(task_hub):
            order = task_hub.start("approval", version="1.0", instance_id="flight")
            task_hub.settle()
            task_hub.use_versioning(
                VersioningOptions("2.0", "2.0", VersionMatchStrategy.STRICT, VersionFailureStrategy.REJECT)
            )
            order.raise_event("approved")
            task_hub.settle()
            assert order.output
        """
    )
    told = project.runpytest().stdout
    told.fnmatch_lines(
        [
            "order_workflow 'old'  in flight  0 events",
            "Instance 'old' (order_workflow) is rejected by the worker, for *'1.0' does not match*'2.0'*",
            "approval 'flight'  in flight  3 events *",
            "Instance 'flight' (approval) is rejected by the worker, for *'1.0' does not match*'2.0'*",
        ]
    )
    told.no_fnmatch_line("*hub.settle() takes the first turn*")


@pytest.mark.parametrize("backend", ["simulated", "timeskip"])
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("worker.start()", "dt_app: The application 'shop:register' starts its worker (*leave start() to *"),
        (
            "worker.add_activity(charge)",
            "dt_app: *ValueError: A 'charge' activity already exists (*shop.py, *",
        ),
    ],
)
def test_an_application_that_does_more_than_to_register_once_is_told(pytester, backend, mistake, words):
    pytester.makepyfile("def test_it(dt_client): pass", shop=f"{APPLICATION}\n    {mistake}\n")
    pytester.makeini(WITH_APP)
    told = pytester.runpytest(f"--dt-backend={backend}")
    told.assert_outcomes(errors=1)
    told.stdout.fnmatch_lines([words])


@pytest.mark.parametrize(("backend", "is_told"), [("simulated", False), ("timeskip", True)])
def test_a_client_that_does_not_talk_to_the_hub_beside_it_is_told(project, backend, is_told):
    project.makepyfile(
        """
        def test_both(dt_client, task_hub):
            order = dt_client.schedule_new_orchestration("order_workflow", input="desk")
            dt_client.wait_for_orchestration_completion(order, timeout=90000)
            assert task_hub.instance(order).output == "paid"

        def test_the_client_alone(dt_client):
            assert not dt_client
        """
    )
    told = project.runpytest(f"--dt-backend={backend}")
    told.assert_outcomes(failed=2)
    assert told.stdout.str().count("dt_client does not talk to task_hub") == is_told
