from __future__ import annotations

import builtins
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask.client import OrchestrationQuery, OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.scheduled import ScheduleCreationOptions, ScheduledTaskClient, schedule_entity
from durabletask.task import RetryPolicy
from durabletask.testing import InMemoryOrchestrationBackend

from dt_testkit import DurableTestError
from dt_testkit.backends import _in_memory_backend, _reserved_port, embedded, scheduler, timeskip
from dt_testkit.hub import process
from dt_testkit.hub.process import HubProcess


def double(ctx, number):
    return 2 * number


def double_twice(ctx, number):
    once = yield ctx.call_activity(double, input=number)
    return (yield ctx.call_activity(double, input=once))


def register(worker):
    worker.add_orchestrator(double_twice)
    worker.add_activity(double)


def output_of_a_run(client):
    instance_id = client.schedule_new_orchestration(double_twice, input=3)
    return client.wait_for_orchestration_completion(instance_id, timeout=20).get_output()


def all_end_but(before):
    gc.collect()  # gRPC's pools end their threads when they are collected
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=20)
        assert not thread.is_alive(), thread


@pytest.mark.parametrize("backend", [embedded, timeskip])
def test_a_backend_runs_an_application_and_leaves_no_thread_behind(backend):
    before = set(threading.enumerate())
    with backend(register) as client:
        assert output_of_a_run(client) == 12
    del client
    all_end_but(before)


def test_a_call_that_waits_does_not_outlive_the_in_memory_backend():
    def listen(ctx, _):
        yield ctx.wait_for_external_event("said")

    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        with embedded(lambda worker: worker.add_orchestrator(listen)) as client:
            instance_id = client.schedule_new_orchestration(listen)
            client.wait_for_orchestration_start(instance_id, timeout=20)
            waiting = pool.submit(client.wait_for_orchestration_completion, instance_id, timeout=100_000)
            until(waiting.running)
            with pytest.raises(FutureTimeoutError):  # so it waits, and not only runs
                waiting.result(timeout=0.2)
        assert isinstance(waiting.exception(timeout=20), grpc.RpcError)
    del client, waiting
    all_end_but(before)


@pytest.mark.parametrize("backend", [embedded, timeskip])
def test_an_application_that_cannot_be_registered_stops_everything(backend):
    def broken(worker):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), backend(broken):
        pass


def sleep(ctx, seconds):
    yield ctx.create_timer(timedelta(seconds=seconds))
    return ctx.current_utc_datetime.isoformat()


def test_timeskip_begins_at_the_present_and_jumps_while_a_client_waits():
    begun = datetime.now(timezone.utc).replace(tzinfo=None)
    with timeskip(lambda worker: worker.add_orchestrator(sleep)) as client:
        sleeping = client.schedule_new_orchestration(sleep, input=timedelta(days=365).total_seconds())
        state = client.wait_for_orchestration_completion(sleeping, timeout=20)
    assert begun <= state.created_at <= datetime.now(timezone.utc).replace(tzinfo=None)
    assert datetime.fromisoformat(state.get_output()) >= begun + timedelta(days=365)


def test_timeskip_moves_the_clock_of_recurring_schedules():
    def register(worker):
        worker.add_orchestrator(sleep)
        worker.configure_scheduled_tasks()

    with timeskip(register) as client:
        hourly = ScheduleCreationOptions(
            "hourly", "sleep", timedelta(hours=1), orchestration_input=1, start_immediately_if_late=True
        )
        schedule = ScheduledTaskClient(client, operation_timeout=20).create_schedule(hourly)
        sleeping = client.schedule_new_orchestration(sleep, input=5 * 3600 + 1800)
        client.wait_for_orchestration_completion(sleeping, timeout=20)
        schedule.delete()
        query = OrchestrationQuery(instance_id_prefix="hourly")
        assert len(client.get_all_orchestration_states(query)) == 6
    wall = datetime.now(timezone.utc)
    assert wall <= schedule_entity._now() <= wall + timedelta(minutes=1), "the clock was not given back"


def test_timeskip_moves_the_clock_of_a_retry_timeout():
    attempts = []

    def fail(ctx, _):
        attempts.append(ctx)
        raise ConnectionError("down")

    def retry(ctx, _):
        policy = RetryPolicy(
            first_retry_interval=timedelta(hours=1),
            max_number_of_attempts=10,
            retry_timeout=timedelta(hours=2, minutes=30),
        )
        yield ctx.call_activity(fail, retry_policy=policy)

    def register(worker):
        worker.add_orchestrator(retry)
        worker.add_activity(fail)

    with timeskip(register) as client:
        started = client.schedule_new_orchestration(retry)
        state = client.wait_for_orchestration_completion(started, timeout=20)
    assert state.failure_details is not None
    assert len(attempts) == 3


def nobody_listens_at(address):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within 20 s"
        time.sleep(0.01)


def test_the_process_of_a_timeskip_hub_ends_with_it():
    with HubProcess(datetime(2030, 1, 1)) as hub:
        assert hub.now() == datetime(2030, 1, 1)
        address = hub.address
        assert not nobody_listens_at(address)
    assert nobody_listens_at(address)


def test_the_process_of_a_timeskip_hub_ends_with_the_one_that_asked_for_it():
    code = """
from datetime import datetime
from dt_testkit.hub import process
from dt_testkit.hub.process import HubProcess
with HubProcess(datetime(2030, 1, 1)) as hub:
    print(hub.address, flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as asking:
        address = asking.stdout.readline().decode().strip()
        assert not nobody_listens_at(address)
        asking.kill()
    until(lambda: nobody_listens_at(address))


def test_the_process_of_a_timeskip_hub_leaves_nobody_waiting_who_reads_what_its_asker_writes():
    code = """
import os
from dt_testkit.backends import timeskip
def answer(ctx, _):
    return 42
with timeskip(lambda worker: worker.add_orchestrator(answer)) as client:
    print(client.wait_for_orchestration_completion(client.schedule_new_orchestration(answer)).get_output())
    os._exit(7)
"""
    # It ends when all that has its standard error has ended.
    ran = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (7, "42\n")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("#!/bin/sh\nexit 3\n", "has ended, with status 3"),
        (None, "cannot be started .*: sys.executable, which is '.*python', has to be"),
    ],
)
def test_the_process_of_a_timeskip_hub_that_cannot_start_is_told(tmp_path, monkeypatch, python, message):
    path = tmp_path / "python"
    if python is not None:
        path.write_text(python)
        path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))
    with pytest.raises(DurableTestError, match=message), timeskip(register):
        pass


def test_the_process_of_a_timeskip_hub_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr(process, "_PATIENCE", 0.2)
    with HubProcess(datetime(2030, 1, 1)) as hub:
        os.kill(hub._process.pid, signal.SIGSTOP)
        with pytest.raises(DurableTestError, match=r"has not answered within 0\.2 s"):
            hub.now()
        os.kill(hub._process.pid, signal.SIGCONT)
        monkeypatch.setattr(process, "_PATIENCE", 20)
        assert hub.address.startswith("localhost:"), "it was the answer to another question"


def test_ctrl_c_does_not_end_the_process_of_a_timeskip_hub():
    with HubProcess(datetime(2030, 1, 1)) as hub:
        assert hub.now() == datetime(2030, 1, 1)
        os.kill(hub._process.pid, signal.SIGINT)
        assert hub.now() == datetime(2030, 1, 1)


def test_the_process_of_a_timeskip_hub_finds_python_s_own_modules_first_and_minds_no_other_output(
    tmp_path, monkeypatch
):
    (tmp_path / "types.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "sitecustomize.py").write_text("print('hello\\nyou', end='')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "no-such-directory"))
    with HubProcess(datetime(2030, 1, 1)) as hub:
        assert hub.now() == datetime(2030, 1, 1)
    (tmp_path / "types.py").unlink()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with HubProcess(datetime(2030, 1, 1)) as hub:
        assert hub.now() == datetime(2030, 1, 1)


def test_what_a_timeskip_hub_logs_is_logged_here(caplog):
    def fail(ctx, _):
        raise ValueError("no")

    def signal_it(ctx, _):
        ctx.signal_entity(EntityInstanceId("fail", "k"), "bad")

    def register(worker):
        worker.add_orchestrator(signal_it)
        worker.add_entity(fail)

    with timeskip(register) as client, caplog.at_level(logging.WARNING, "dt_testkit"):
        client.schedule_new_orchestration(signal_it)
        until(lambda: "Signal 'bad' to entity @fail@k failed" in caplog.text)
    record = next(each for each in caplog.records if "Signal 'bad'" in each.getMessage())
    assert (record.name, record.levelname, record.filename) == ("dt_testkit", "WARNING", "core.py")
    assert not any(
        each.levelno < logging.WARNING for each in caplog.records if each.name == "dt_testkit.server"
    )


def test_time_stands_still_at_a_timeskip_hub_while_nobody_waits():
    with timeskip(lambda worker: worker.add_orchestrator(sleep)) as client:
        sleeping = client.schedule_new_orchestration(sleep, input=3600)
        client.wait_for_orchestration_start(sleeping, timeout=20)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            state = client.get_orchestration_state(sleeping)
            assert state.runtime_status is OrchestrationStatus.RUNNING
        state = client.wait_for_orchestration_completion(sleeping, timeout=20)
        assert state.runtime_status is OrchestrationStatus.COMPLETED


def test_the_process_of_a_timeskip_hub_that_dies_ends_the_calls_that_wait_for_it(monkeypatch):
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    def die(ctx, _):
        started[0].kill()

    def call(ctx, _):
        yield ctx.call_activity(die)

    def register(worker):
        worker.add_orchestrator(call)
        worker.add_activity(die)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    with timeskip(register) as client:
        instance_id = client.schedule_new_orchestration(call)
        with pytest.raises(grpc.RpcError) as refused:
            client.wait_for_orchestration_completion(instance_id, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(DurableTestError, match="has ended, with status -9"):
            schedule_entity._now()


def test_many_backends_at_once_each_have_a_port_of_their_own():
    everybody = threading.Barrier(8)

    def address_of_one(_):
        with _in_memory_backend() as address:
            everybody.wait(20)
            return address

    with ThreadPoolExecutor(8) as pool:
        addresses = list(pool.map(address_of_one, range(8)))
    assert len(set(addresses)) == 8


def test_a_port_that_somebody_else_took_is_tried_again_with_another(monkeypatch):
    start, failures = InMemoryOrchestrationBackend.start, [RuntimeError("taken"), RuntimeError("taken")]

    def unlucky(self):
        if failures:
            raise failures.pop()
        return start(self)

    monkeypatch.setattr(InMemoryOrchestrationBackend, "start", unlucky)
    with _in_memory_backend():
        assert not failures


def test_a_scheduler_is_talked_to_by_the_worker_and_client_for_it():
    # The in-memory backend answers where the emulator would: over http, without a credential.
    with (
        _in_memory_backend() as address,
        scheduler(register, f"http://{address}", "default") as client,
    ):
        assert type(client).__name__ == "DurableTaskSchedulerClient"
        assert output_of_a_run(client) == 12


def test_an_endpoint_that_does_not_answer_is_given_up_with_what_to_do():
    with _reserved_port() as nobody_listens:
        endpoint = f"http://localhost:{nobody_listens}"
        with (
            pytest.raises(DurableTestError, match=f"{endpoint} answers .* start the emulator there"),
            scheduler(register, endpoint, "default", patience=0.1),
        ):
            pass


def test_a_server_that_does_not_speak_grpc_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(DurableTestError, match="Nothing at"),
            scheduler(register, endpoint, "default", patience=0.1),
        ):
            pass


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost:8080",
        "ftp://localhost:8080",
        "http://",
        "http://localhost:port",
        "http://localhost:99999",
        "http://localhost:8080/hub",
        "http://localhost:8080?hub=a",
    ],
)
def test_a_malformed_endpoint_is_refused_with_right_ones(endpoint):
    with (
        pytest.raises(DurableTestError, match=r"is not usable: set ENDPOINT to one such as"),
        scheduler(register, endpoint, "default"),
    ):
        pass


def test_a_password_in_an_endpoint_is_not_repeated():
    with (
        pytest.raises(DurableTestError) as caught,
        scheduler(register, "https://me:secret@host", "default"),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_without_the_package_for_the_scheduler_the_extra_is_named(monkeypatch):
    real_import = builtins.__import__

    def without_azure(name, *args, **kwargs):
        if name.startswith("durabletask.azuremanaged"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_azure)
    with (
        pytest.raises(DurableTestError, match=r"pip install 'dt-testkit\[azure\]'"),
        scheduler(register, "http://localhost:8080", "default"),
    ):
        pass
