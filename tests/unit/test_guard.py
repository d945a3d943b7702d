"""The guard: what it stops in an orchestrator, and what it leaves alone."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import hashlib
import json
import locale
import logging
import os
import pathlib
import platform
import queue
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
import uuid
import zoneinfo
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from textwrap import dedent

import freezegun
import pytest

from dt_testkit import (
    NonDeterminismWarning,
    NonDeterministicCall,
    TaskHub,
    allow_nondeterminism,
    drive,
    replay,
)
from dt_testkit.guard import allowed_blocks, observe

from_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="C calling C is seen from 3.12 on")
LOCK = threading.Lock()
CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
SOCKET = socket.socket()
READY = threading.Event()
DONE: Future[int] = Future()
DONE.set_result(1)


class Moment(dt.datetime):
    pass


@dataclass
class Stamped:
    at: float = field(default_factory=time.time)


def act(ctx, value):
    return value


def orchestrator_of(work):
    def order(ctx, _):
        yield ctx.call_activity(act, input=1)
        work()
        return "done"

    return order


def run(work, **arguments):
    hub = TaskHub(**arguments)
    hub.add_activity(act)
    orchestrator = orchestrator_of(work)
    hub.add_orchestrator(orchestrator)
    return hub.run(orchestrator)


STOPPED = [
    ("DT101", "datetime.datetime.now", lambda: dt.datetime.now(dt.timezone.utc)),
    ("DT101", "datetime.datetime.now", lambda: Moment.now()),
    ("DT101", "datetime.datetime.now", lambda: type(dt.datetime(2026, 1, 1)).now()),
    ("DT101", "datetime.date.today", lambda: dt.date.today()),
    ("DT101", "time.time", time.time),
    ("DT101", "time.time", lambda: Stamped()),
    ("DT101", "time.perf_counter", lambda: time.perf_counter()),
    ("DT101", "time.gmtime", lambda: time.gmtime()),
    ("DT101", "time.strftime", lambda: time.strftime("%Y")),
    ("DT102", "random.random", lambda: random.random()),
    ("DT102", "random.randint", lambda: random.randint(1, 6)),
    ("DT102", "random.shuffle", lambda: random.shuffle([1, 2])),
    ("DT102", "random.Random", lambda: random.Random()),
    ("DT102", "os.urandom", lambda: os.urandom(4)),
    ("DT102", "secrets.token_hex", lambda: secrets.token_hex()),
    ("DT102", "hash", lambda: hash("desk")),
    ("DT103", "uuid.uuid4", lambda: uuid.uuid4()),
    ("DT103", "uuid.uuid4", lambda: [uuid.uuid4() for _ in [1]]),
    ("DT103", "uuid.uuid4", functools.partial(uuid.uuid4)),
    ("DT103", "id", lambda: id(act)),
    ("DT104", "time.sleep", lambda: time.sleep(0)),
    ("DT104", "threading.Lock.acquire", lambda: LOCK.acquire(blocking=False)),
    ("DT104", "threading.Event.wait", lambda: READY.wait(0)),
    ("DT104", "concurrent.futures.Future.result", lambda: DONE.result()),
    ("DT105", "open", lambda: open(os.devnull).close()),
    ("DT105", "pathlib.Path.read_text", lambda: pathlib.Path(os.devnull).read_text()),
    ("DT105", "socket.socket.sendall", lambda: SOCKET.sendall(b"")),
    ("DT105", "urllib.request.urlopen", lambda: urllib.request.urlopen("http://localhost:1")),
    ("DT105", "sqlite3.connect", lambda: sqlite3.connect(":memory:")),
    ("DT105", "sqlite3.Connection.execute", lambda: CONNECTION.execute("select 1")),
    ("DT105", "subprocess.run", lambda: subprocess.run(["true"], check=True)),
    ("DT105", "tempfile.mkdtemp", lambda: tempfile.mkdtemp()),
    ("DT105", "queue.Queue.put", lambda: queue.Queue().put(1)),
    ("DT106", "os.environ", lambda: os.environ.get("HOME")),
    ("DT106", "os.environ", lambda: "HOME" in os.environ),
    ("DT106", "os.getenv", lambda: os.getenv("HOME")),
    ("DT106", "os.getcwd", lambda: os.getcwd()),
    ("DT106", "platform.node", lambda: platform.node()),
    ("DT106", "locale.getlocale", lambda: locale.getlocale()),
    ("DT107", "os.path.exists", lambda: os.path.exists("x")),
    ("DT107", "pathlib.Path.exists", lambda: pathlib.Path("x").exists()),
    ("DT107", "os.listdir", lambda: os.listdir(".")),
    ("DT110", "threading.Thread", lambda: threading.Thread(target=act)),
    ("DT110", "concurrent.futures.ThreadPoolExecutor", lambda: ThreadPoolExecutor()),
]


@pytest.mark.parametrize(
    ("code", "call", "work"), STOPPED, ids=lambda one: one if isinstance(one, str) else ""
)
def test_it_is_stopped_and_named(code, call, work):
    with pytest.raises(NonDeterministicCall) as stopped:
        run(work)
    found = stopped.value
    assert found.code == code
    assert found.call == call
    assert found.location.file.endswith("test_guard.py")
    assert str(found).startswith(f"`{found.call}")


@from_3_12
@pytest.mark.parametrize(
    "work",
    [lambda: functools.partial(time.time)(), lambda: list(map(id, [1])), functools.partial(time.monotonic)],
)
def test_from_3_12_a_function_in_c_that_is_given_to_another_is_stopped(work):
    with pytest.raises(NonDeterministicCall):
        run(work)


FINE = {
    "a seeded random": lambda: random.Random("order-1").randint(1, 6),
    "a moment from a number": lambda: time.gmtime(0),
    "a format with a moment": lambda: time.strftime("%Y", time.gmtime(0)),
    "parsing a date": lambda: dt.datetime.strptime("2026-01-01", "%Y-%m-%d"),
    "an id of a name": lambda: uuid.uuid5(uuid.NAMESPACE_URL, "order"),
    "the hash of a number": lambda: hash(3),
    "a deep copy": lambda: copy.deepcopy([{"a": 1}]),
    "a digest": lambda: hashlib.sha256(b"x").hexdigest(),
    "json": lambda: json.loads(json.dumps({"a": [1]}, indent=1)),
    "a time zone": lambda: dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Rome")).isoformat(),
    "logging": lambda: logging.getLogger("orders").warning("working"),
    "a key of a frozen dataclass": lambda: {("a", 1): 2},
    "a text": lambda: textwrap.dedent("  x"),
}


@pytest.mark.parametrize("work", FINE.values(), ids=FINE)
def test_it_is_left_alone(work):
    assert run(work).output == "done"


def test_an_import_in_an_orchestrator_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "tables_of_mine.py").write_text("import time\nLOADED = time.time()\nopen(__file__).close()\n")
    monkeypatch.syspath_prepend(tmp_path)

    def work():
        import tables_of_mine  # noqa: F401

    assert run(work).output == "done"


def test_what_is_imported_in_the_orchestrator_is_guarded_at_once():
    code = dedent("""
        import sys
        from dt_testkit import NonDeterministicCall, TaskHub
        assert "wave" not in sys.modules and "secrets" not in sys.modules
        def order(ctx, _):
            import secrets
            secrets.token_hex()
            yield
        hub = TaskHub()
        hub.add_orchestrator(order)
        try:
            hub.run(order)
        except NonDeterministicCall as stopped:
            print(stopped.call)
    """)
    assert python(code) == "secrets.token_hex\n"


def python(code, *options, **environment):
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- how it says it


def stamp():
    return dt.datetime.now()


def test_the_message_names_the_call_the_line_the_way_to_it_and_what_to_do_instead():
    with pytest.raises(NonDeterministicCall) as stopped:
        run(stamp)
    text = str(stopped.value)
    line = stamp.__code__.co_firstlineno + 1
    assert "`datetime.datetime.now()` was called in the orchestrator 'order' at " in text
    assert f"test_guard.py:{line} in stamp" in text
    assert "use `ctx.current_utc_datetime`" in text
    assert [step.rpartition(" ")[2] for step in stopped.value.route][-1] == "stamp"
    assert len(stopped.value.route) == 2


def test_the_line_is_the_users_where_a_library_makes_the_call():
    with pytest.raises(NonDeterministicCall) as stopped:
        run(lambda: socket.create_connection(("localhost", 1)))
    assert stopped.value.location.file.endswith("test_guard.py")


def test_the_instance_has_failed_and_the_hub_goes_on():
    hub = TaskHub()
    hub.add_activity(act)
    orchestrator, fine = orchestrator_of(stamp), lambda ctx, _: "fine"
    hub.add_orchestrator(orchestrator)
    fine.__name__ = "fine"
    hub.add_orchestrator(fine)
    with pytest.raises(NonDeterministicCall):
        hub.run(orchestrator, instance_id="one")
    instance = hub.instance("one")
    assert instance.status.name == "FAILED"
    assert instance.failure.error_type.endswith("NonDeterministicCall")
    assert type(instance.history.events[-1]).__name__ == "ExecutionCompletedEvent"
    assert hub.run(fine).output == "fine"
    hub.settle()


@pytest.mark.parametrize("kind", [Exception, BaseException])
def test_it_leaves_the_hub_also_where_the_orchestrator_swallows_it(kind):
    def swallow():
        with suppress(kind):
            stamp()

    with pytest.raises(NonDeterministicCall):
        run(swallow)


def test_steps_advance_settle_and_the_client_raise_it():
    def order(ctx, _):
        yield ctx.create_timer(timedelta(days=1))
        stamp()

    step = drive(order)
    with pytest.raises(NonDeterministicCall):
        step.advance(timedelta(days=1))

    hub = TaskHub()
    hub.add_orchestrator(order)
    hub.start(order)
    hub.settle()
    with pytest.raises(NonDeterministicCall):
        hub.advance(timedelta(days=1))

    hub = TaskHub()
    hub.add_orchestrator(order)
    id = hub.client.schedule_new_orchestration(order)
    with pytest.raises(NonDeterministicCall):
        hub.client.wait_for_orchestration_completion(id, timeout=100_000)


# -- modes, and whom it leaves alone


def test_off_is_off():
    assert run(stamp, guard="off").output == "done"


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="guard is 'error', 'warn' or 'off', not 'loud'"):
        TaskHub(guard="loud")


def test_a_warning_is_given_once_for_each_line():
    def twice():
        for _ in range(3):
            stamp()
        time.time()

    with pytest.warns(NonDeterminismWarning) as given:
        assert run(twice, guard="warn").output == "done"
    assert [str(one.message).split("`")[1] for one in given] == ["datetime.datetime.now()", "time.time()"]
    assert given[0].filename.endswith("test_guard.py")


def test_activities_entities_and_stand_ins_do_what_they_like():
    def clock(ctx, _):
        return time.time() + random.random()

    def counter(ctx, _):
        ctx.set_state(time.time())

    def order(ctx, _):
        yield ctx.call_activity(clock)
        yield ctx.call_activity("stubbed")
        yield ctx.call_sub_orchestrator("child")
        yield ctx.call_entity(
            __import__("durabletask.entities").entities.EntityInstanceId("counter", "a"), "add"
        )

    hub = TaskHub()
    hub.add_activity(clock)
    hub.add_entity(counter)
    hub.add_orchestrator(order)
    hub.stub("stubbed", side_effect=lambda ctx, _: time.time())
    hub.stub_orchestrator("child", side_effect=lambda ctx, _: time.time())
    assert hub.run(order).status.name == "COMPLETED"


def test_another_thread_and_another_hub_are_left_alone():
    inside, go_on, seen = threading.Event(), threading.Event(), []

    def elsewhere():
        inside.wait(10)
        seen.append(time.time())
        seen.append(run(stamp, guard="off").output)
        go_on.set()

    def work():
        with allow_nondeterminism("the test waits"):
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert run(work).output == "done"
    thread.join()
    assert seen[1:] == ["done"]


def test_a_converter_and_a_finalizer_are_left_alone():
    class Clock:
        def __del__(self):
            time.time()

    def work():
        Clock()

    assert run(work).output == "done"


def test_a_frozen_clock_is_a_clock():
    with freezegun.freeze_time("2026-01-01"):
        for work in (lambda: dt.datetime.now(), lambda: time.time(), lambda: dt.date.today()):
            with pytest.raises(NonDeterministicCall) as stopped:
                run(work)
            assert stopped.value.code == "DT101"


# -- letting through


def test_a_block_is_let_through_and_noted():
    def work():
        with allow_nondeterminism("only measured"):
            time.perf_counter()

    assert run(work).output == "done"
    block = next(block for block in allowed_blocks() if block.reason == "only measured")
    assert block.calls == ("time.perf_counter",)
    assert block.location.line == work.__code__.co_firstlineno + 1


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_a_reason_is_wanted(reason):
    with pytest.raises(ValueError, match="wants the reason"):
        allow_nondeterminism(reason)


def test_after_the_block_it_is_stopped_again():
    def work():
        with allow_nondeterminism("first"):
            stamp()
        stamp()

    with pytest.raises(NonDeterministicCall) as stopped:
        run(work)
    assert stopped.value.location.function == "stamp"


def test_a_block_around_a_yield_counts_for_its_orchestrator_alone():
    def first(ctx, _):
        with allow_nondeterminism("mine"):
            yield ctx.create_timer(timedelta(days=2))
            stamp()

    def second(ctx, _):
        yield ctx.create_timer(timedelta(days=1))
        stamp()

    hub = TaskHub()
    hub.add_orchestrator(first)
    hub.add_orchestrator(second)
    mine, other = hub.start(first), hub.start(second)
    with pytest.raises(NonDeterministicCall):
        hub.advance(timedelta(days=1))
    assert other.status.name == "FAILED"
    mine.wait()
    assert mine.status.name == "COMPLETED"


# -- observing


def test_observed_calls_are_noted_in_order_and_not_stopped():
    def order(ctx, _):
        yield ctx.call_activity(act, input=1)
        uuid.uuid4()
        with allow_nondeterminism("why not"):
            time.time()

    hub = TaskHub(guard="off")
    hub.add_activity(act)
    hub.add_orchestrator(order)
    history = hub.run(order).history
    with observe() as calls:
        assert replay(history, order).ok
    assert [(one.code, one.call, one.allowed) for one in calls] == [
        ("DT103", "uuid.uuid4", None),
        ("DT101", "time.time", "why not"),
    ]


# -- beside other tools

TOOLS = dedent("""
    import sys, time
    from dt_testkit import NonDeterministicCall, TaskHub
    def order(ctx, _):
        time.time()
        yield
    def again():
        hub = TaskHub()
        hub.add_orchestrator(order)
        try:
            hub.run(order)
        except NonDeterministicCall as stopped:
            return stopped.call
""")


def test_it_works_beside_a_debugger():
    code = (
        TOOLS
        + "seen = []\nsys.settrace(lambda *a: seen.append(a[1]) or None)\n"
        + "print(again(), bool(seen), bool(sys.gettrace()))"
    )
    assert python(code) == "time.time True True\n"


def test_it_works_beside_a_profile_function_and_gives_it_back():
    code = TOOLS + (
        "seen = []\ndef mine(f, e, a):\n    if f.f_code is order.__code__: seen.append(e)\n"
        "sys.setprofile(mine)\nfound = again()\nback = sys.getprofile() is mine\nsys.setprofile(None)\n"
        "print(found, back, 'call' in seen)"
    )
    assert python(code) == "time.time True True\n"


def test_it_works_beside_cprofile():
    code = TOOLS + (
        "import cProfile\np = cProfile.Profile()\np.enable()\n"
        "found = again(), again()\nsum([1])\np.disable()\n"
        "print(found, len(p.getstats()) > 0)"
    )
    assert python(code) == "('time.time', 'time.time') True\n"


@pytest.mark.parametrize("core", ["ctrace", "pytrace", *(["sysmon"] if sys.version_info >= (3, 12) else [])])
def test_it_works_under_coverage(core, tmp_path):
    (tmp_path / "flows.py").write_text(TOOLS + "print(again())\nprint(again())\n")
    done = subprocess.run(
        [sys.executable, "-m", "coverage", "run", "flows.py"],
        cwd=tmp_path,
        env={**os.environ, "COVERAGE_CORE": core, "COVERAGE_FILE": str(tmp_path / ".coverage")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "time.time\ntime.time\n", done.stderr
    assert (tmp_path / ".coverage").exists()
