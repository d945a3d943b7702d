"""The guard: what it stops in an orchestrator, and what it leaves alone."""

from __future__ import annotations

import copy
import datetime as dt
import ftplib
import functools
import gc
import gzip
import hashlib
import http.client
import io
import json
import locale
import logging
import os
import pathlib
import pickle
import platform
import queue
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import urllib.parse
import urllib.request
import uuid
import warnings
import xmlrpc.client
import zipfile
import zoneinfo
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from textwrap import dedent

import dateutil.parser
import freezegun
import pytest
import requests
import sqlalchemy
from durabletask.task import when_any

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
SYSTEM = random.SystemRandom()
HTTP = http.client.HTTPConnection("localhost:1")
CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
SOCKET = socket.socket()
READY = threading.Event()
DONE: Future[int] = Future()
DONE.set_result(1)


GZIPPED = gzip.compress(b"x")


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
    ("DT102", "secrets.choice", lambda: secrets.choice("ab")),
    ("DT102", "random.SystemRandom.random", lambda: SYSTEM.random()),
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
    ("DT105", "requests.get", lambda: requests.get("http://localhost:1", timeout=1)),
    (
        "DT105",
        "http.client.HTTPConnection.request",
        lambda: HTTP.request("GET", "/"),
    ),
    ("DT105", "gzip.open", lambda: gzip.open(os.devnull)),  # noqa: SIM115
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
    "the parts of a URL": lambda: urllib.parse.urlsplit("http://x/" + urllib.parse.quote("a b")),
    "a URL read back": lambda: urllib.parse.unquote(urllib.parse.urljoin("http://x", "/a%20b")),
    "a request that is not sent": lambda: requests.Request("GET", "http://x", params={"a": 1}).prepare(),
    "a request of urllib": lambda: urllib.request.Request("http://x", headers={"a": "b"}).get_header("A"),
    "a connection that is not opened": lambda: http.client.HTTPConnection("x"),
    "an exception of a library": lambda: (http.client.HTTPException("x"), sqlite3.Error(), TimeoutError()),
    "the headers of an answer": lambda: http.client.parse_headers(io.BytesIO(b"a: b\r\n\r\n")),
    "the text of a remote call": lambda: xmlrpc.client.loads(xmlrpc.client.dumps((1,))),
    "an answer of an FTP server": lambda: ftplib.parse257('257 "/x"'),
    "an address in bytes": lambda: socket.inet_aton("127.0.0.1"),
    "the line of a command": lambda: subprocess.list2cmdline(["a", "b c"]),
    "a statement of sqlalchemy": lambda: str(sqlalchemy.select(sqlalchemy.column("a")).limit(1)),
    "a table of sqlalchemy": lambda: sqlalchemy.Table("t", sqlalchemy.MetaData(), sqlalchemy.Column("a")),
    "an archive in memory": lambda: zipfile.ZipFile(io.BytesIO(), "w").close(),
    "a tar in memory": lambda: tarfile.open(fileobj=io.BytesIO(), mode="w").close(),
    "bytes unzipped": lambda: gzip.decompress(GZIPPED),
    "a date of a text": lambda: dateutil.parser.parse("2026-01-01T00:00:00Z"),
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


def test_what_a_library_does_in_turn_is_told_by_the_name_that_the_project_has_called():
    with pytest.raises(NonDeterministicCall) as stopped:
        run(lambda: requests.get("http://localhost:1", timeout=1))
    assert "`requests.get()` was called" in str(stopped.value)
    assert "do it in an activity" in stopped.value.instead
    assert "requests.api.get" in stopped.value.route
    assert stopped.value.route[-1] == "os.environ"


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: hash("desk"), "`hash()` was called"),
        (lambda: hash("desk"), "use `zlib.crc32` or `hashlib`"),
        (lambda: id(act), "compare objects with `is`"),
        (lambda: secrets.token_hex(), "draw it in an activity, whose"),
        (lambda: LOCK.acquire(blocking=False), "leave it out"),
        (lambda: os.environ.update(A="1"), "`os.environ` was used"),
    ],
)
def test_the_way_out_fits_the_call(work, words):
    with pytest.raises(NonDeterministicCall) as stopped:
        run(work)
    assert words in str(stopped.value)
    assert stopped.value.instead in str(stopped.value)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_the_error_can_be_copied_and_sent_to_another_process(again):
    with pytest.raises(NonDeterministicCall) as stopped:
        run(stamp)
    error = stopped.value
    other = again(error)
    assert type(other) is NonDeterministicCall
    assert (str(other), vars(other)) == (str(error), vars(error))


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


@pytest.mark.parametrize("check_replay", ["generation", "turn", "never"])
def test_a_warning_that_a_filter_makes_an_error_leaves_the_hub_though_the_orchestrator_swallows_it(
    check_replay,
):
    def swallows(ctx, _):
        try:
            at = time.time()
        except Exception:
            at = 0
        yield ctx.call_activity("a", input=at)

    hub = TaskHub(guard="warn", check_replay=check_replay)
    hub.add_orchestrator(swallows)
    hub.stub("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NonDeterminismWarning)
        for _ in range(2):
            with pytest.raises(NonDeterminismWarning, match=r"`time\.time\(\)` was called .* 'swallows'"):
                hub.run(swallows)


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


def test_a_block_around_what_drives_a_hub_counts_for_all_that_runs_in_it():
    def child(ctx, _):
        yield ctx.create_timer(timedelta(days=1))
        uuid.uuid4()

    def order(ctx, _):
        time.time()
        return (yield ctx.call_sub_orchestrator(child))

    hub = TaskHub()
    hub.add_orchestrator(child)
    hub.add_orchestrator(order)
    with allow_nondeterminism("around the test"):
        assert hub.run(order).status.name == "COMPLETED"
    block = next(block for block in allowed_blocks() if block.reason == "around the test")
    assert block.calls == ("time.time", "uuid.uuid4")
    with pytest.raises(NonDeterministicCall):
        hub.run(order)


def test_a_block_around_counts_for_its_thread_alone():
    found = []

    def elsewhere():
        with pytest.raises(NonDeterministicCall) as stopped:
            run(stamp)
        found.append(stopped.value.call)

    with allow_nondeterminism("another thread is not meant"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == ["datetime.datetime.now"]


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


# -- whatever way the code is run


def driven(order):
    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator(order))

    hub = TaskHub()
    hub.add_orchestrator(order)
    hub.add_orchestrator(parent)
    return hub, parent


def test_it_is_stopped_in_a_sub_orchestrator_a_late_generation_and_a_rebuilt_orchestrator():
    generations, rebuilt = [], []

    def again(ctx, generation):
        yield ctx.create_timer(timedelta(days=1))
        generations.append(generation)
        if generation == 2:
            stamp()
        ctx.continue_as_new(generation + 1)

    def remembers(ctx, _):
        if rebuilt:
            stamp()
        yield ctx.create_timer(timedelta(days=1))

    def child(ctx, _):
        yield ctx.create_timer(timedelta(days=1))
        stamp()

    hub, parent = driven(child)
    with pytest.raises(NonDeterministicCall) as stopped:
        hub.run(parent)
    assert "in the orchestrator 'child'" in str(stopped.value)

    hub, _ = driven(again)
    with pytest.raises(NonDeterministicCall):
        hub.run(again, input=0)
    assert set(generations) == {0, 1, 2}

    hub, _ = driven(remembers)
    hub.start(remembers)
    hub.settle()
    rebuilt.append(True)

    def crash(hub=hub):
        hub.crash_worker()
        hub.advance(timedelta(days=2))

    with pytest.raises(NonDeterministicCall):
        crash()


def test_a_generator_that_is_thrown_away_runs_its_finally_unguarded():
    ended = []

    def order(ctx, _):
        try:
            yield ctx.wait_for_external_event("go")
        finally:
            ended.append(time.time())

    hub, _ = driven(order)
    instance = hub.start(order)
    hub.settle()
    instance.terminate()
    hub.settle()
    assert instance.status.name == "TERMINATED"
    del hub, instance
    gc.collect()
    assert ended


def test_hubs_of_two_threads_are_guarded_apart():
    together, found = threading.Barrier(2), []

    def stamps(ctx, _):
        for _ in range(20):
            yield ctx.create_timer(timedelta(days=1))
        stamp()

    def fine(ctx, _):
        for _ in range(50):
            yield ctx.create_timer(timedelta(days=1))

    def drives(order):
        hub, _ = driven(order)
        together.wait(10)
        try:
            found.append(hub.run(order).status.name)
        except NonDeterministicCall as stopped:
            found.append(stopped.call)

    threads = [threading.Thread(target=drives, args=[order]) for order in (stamps, fine)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["COMPLETED", "datetime.datetime.now"]


class Odd:
    @functools.cached_property
    def cached(self):
        return time.time()

    def __getattr__(self, name):
        return random.random()


class Meta(type):
    def __call__(cls):
        return time.time()


class Made(metaclass=Meta):
    pass


def deep(left):
    return deep(left - 1) if left else time.time()


HIDDEN = {
    "in a cached property": lambda: Odd().cached,
    "in __getattr__": lambda: Odd().other,
    "in a metaclass": lambda: Made(),
    "in exec": lambda: exec("import time; time.time()"),
    "in eval": lambda: eval("clock()", {"clock": time.time}),
    "in the default of an argument": lambda read=lambda: time.time(): read(),
    "in a cached function": lambda: functools.lru_cache(lambda: time.time())(),
    "deep down": lambda: deep(300),
    "with its arguments unpacked": lambda: dt.datetime.now(*(), tz=None),
}


@pytest.mark.parametrize("work", HIDDEN.values(), ids=HIDDEN)
def test_it_is_stopped_wherever_it_hides(work):
    with pytest.raises(NonDeterministicCall) as stopped:
        run(work)
    assert stopped.value.location.file.endswith("test_guard.py")


def test_endless_recursion_is_the_orchestrators_own_error():
    def endless():
        return endless()

    def work():
        with pytest.raises(RecursionError):
            endless()

    assert run(work).output == "done"


def test_numpy_is_stopped_where_it_draws_and_not_where_it_is_seeded():
    numpy = pytest.importorskip("numpy")
    for work in (lambda: numpy.random.rand(), lambda: numpy.random.default_rng().random()):
        with pytest.raises(NonDeterministicCall) as stopped:
            run(work)
        assert stopped.value.code == "DT102"
    assert run(lambda: numpy.random.default_rng(7).random()).output == "done"
    assert run(lambda: numpy.random.RandomState(7).rand()).output == "done"


# -- nothing is left behind


def busy(rounds):
    total = 0
    for number in range(rounds):
        total += len(str(number))
    return total


def test_a_task_that_is_asked_for_by_its_id_costs_little():
    """Libraries ask for the id of things all the time; what the argument is, is told by a slow way."""

    def order(ctx, _):
        for _ in range(100):
            yield when_any([ctx.create_timer(timedelta(hours=1)), ctx.wait_for_external_event("go")])

    hub, _ = driven(order)
    disassembled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dis.get_instructions", lambda *a, **k: disassembled.append(a) or [])
        hub.run(order)
    assert not disassembled


@from_3_12
def test_what_has_run_in_an_orchestrator_is_not_watched_afterwards():
    assert run(lambda: busy(10)).output == "done"
    tools = [tool for tool in range(6) if sys.monitoring.get_tool(tool) == "dt_testkit"]
    assert len(tools) == 1
    assert sys.monitoring.get_events(tools[0]) == 0
    assert sys.monitoring.get_local_events(tools[0], busy.__code__) == 0
    with pytest.raises(NonDeterministicCall):  # and is, when it runs in one again
        run(lambda: busy(10) and stamp())


def test_no_profile_function_is_left_behind():
    before = sys.getprofile()
    with suppress(NonDeterministicCall):
        run(stamp)
    assert sys.getprofile() is before


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
