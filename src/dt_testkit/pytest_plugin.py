"""The pytest plugin: hubs and clients as fixtures, timelines in failure reports, history files as tests.

pytest imports this module at every start, so it imports nothing but what pytest has loaded already; the rest
is imported by what needs it.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from datetime import timedelta
    from pathlib import Path

    from durabletask.client import TaskHubGrpcClient

    from dt_testkit.determinism.report import Finding
    from dt_testkit.determinism.watch import Watch
    from dt_testkit.history import History
    from dt_testkit.hub import Instance, TaskHub

_SUFFIXES = (".history.json", ".history.jsonl", ".history.json.gz", ".history.jsonl.gz")
_MAX_LINES = 80
_MAX_INSTANCES = 25
_MAX_PLACES = 3

_hub_of = pytest.StashKey["TaskHub"]()
_application = pytest.StashKey["TaskHub"]()
_started = pytest.StashKey["tuple[TaskHubGrpcClient, list[str]]"]()
_written = pytest.StashKey["dict[str, History]"]()
_watch = pytest.StashKey["Watch"]()
_findings = pytest.StashKey[str]()
_not_tried_by_workers = pytest.StashKey[list[Any]]()
_allowed_before = pytest.StashKey[set[Any]]()
_allowed_by_workers = pytest.StashKey[list[Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dt-testkit", "dt-testkit (Durable Task)")
    group.addoption(
        "--dt-backend",
        choices=("simulated", "timeskip", "embedded", "emulator", "scheduler"),
        default="simulated",
        help="Where dt_client runs scenarios: simulated (default), timeskip, embedded, emulator, scheduler.",
    )
    group.addoption(
        "--dt-update-histories",
        action="store_true",
        help="Write the histories that tests record with dt_record, instead of comparing them.",
    )
    group.addoption(
        "--dt-determinism",
        action="store_true",
        help="Replay each history that tests record again and again, with the clock, chance, ... moved.",
    )
    group.addoption(
        "--dt-guard",
        choices=("error", "warn", "off"),
        help="What task_hub does about the clock, chance, files, ... in orchestrators; default: dt_guard.",
    )
    parser.addini("dt_guard", "As --dt-guard: error (default), warn or off.", default="error")
    parser.addini("dt_app", "The application under test: 'module:function', as in 'workflows:register'.")
    parser.addini(
        "dt_maximum_timer_interval",
        "In days, for recorded histories of a worker that chunks long timers: 3 for TaskHubGrpcWorker.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "dt_hub(**arguments): the arguments of the TaskHub of task_hub.")
    config.stash[_allowed_before] = set(_allowed_here())
    if (guard := config.getini("dt_guard")) not in ("error", "warn", "off"):
        raise pytest.UsageError(f"dt_guard is error, warn or off, not {guard!r}.")
    _maximum_timer_interval(config)
    backend = config.getoption("dt_backend")
    if backend != "simulated" and not config.getini("dt_app"):
        raise pytest.UsageError(f"--dt-backend={backend} needs an application to run: {_SET_DT_APP}")
    if backend != "simulated":
        _keep_the_time_of_workers()


def _keep_the_time_of_workers() -> None:
    """What freezegun freezes for a test is not for the worker beside it, which would never end its waits."""
    try:
        import freezegun
    except ImportError:
        return
    from asyncio import BaseEventLoop
    from time import monotonic

    freezegun.configure(extend_ignore_list=["grpc"])
    # Not all of asyncio: coroutines of a test are to see its time.
    BaseEventLoop.time = lambda self: monotonic()  # type: ignore[method-assign]


def _maximum_timer_interval(config: pytest.Config) -> timedelta | None:
    from datetime import timedelta

    days = config.getini("dt_maximum_timer_interval")
    try:
        interval = timedelta(days=float(days)) if days else None
    except (ValueError, OverflowError):
        interval = timedelta(0)
    if interval is not None and interval <= timedelta(0):
        raise pytest.UsageError(f"dt_maximum_timer_interval is a number of days, such as 3, not {days!r}.")
    return interval


_SET_DT_APP = (
    "set dt_app in the pytest configuration to the function that registers it, as in "
    "dt_app = workflows:register (in quotes if the configuration is TOML)."
)


# -- fixtures


@pytest.fixture
def task_hub(request: pytest.FixtureRequest) -> TaskHub:
    """A fresh simulated task hub, with the application of ``dt_app`` registered if there is one.

    ``@pytest.mark.dt_hub(check_replay="turn", seed=7)`` passes arguments to :class:`~dt_testkit.TaskHub`. If
    the test fails, its report shows the timeline of every instance of the hub, and the stubs nobody called.

    Examples
    --------
    ::

        def test_a_small_purchase_needs_no_approval(task_hub):
            order = task_hub.run(purchase_approval, input=Purchase("desk", 120_00, "kim"))
            assert order.output["status"] == "auto-approved"
    """
    marker = request.node.get_closest_marker("dt_hub")
    if marker is not None and marker.args:
        pytest.fail("@pytest.mark.dt_hub takes the keyword arguments of TaskHub alone.", pytrace=False)
    guard = request.config.getoption("dt_guard") or request.config.getini("dt_guard")
    hub = _new_hub(request.config, {"guard": guard, **(marker.kwargs if marker is not None else {})})
    request.node.stash[_hub_of] = hub
    return hub


@pytest.fixture
def dt_client(request: pytest.FixtureRequest) -> Iterator[TaskHubGrpcClient]:
    """The SDK's client, on the backend of ``--dt-backend``, with the application of ``dt_app`` at work there.

    ``simulated`` is the client of ``task_hub``. The others share one worker and one client in a test run:
    ``timeskip`` is a hub behind a port, in a process of its own, whose time jumps while a client waits;
    ``embedded`` is the SDK's in-memory backend in this process, in real time; ``emulator`` and ``scheduler``
    connect to the task hub ``TASKHUB`` at ``ENDPOINT``. A hub that is shared remembers, so let it choose the
    ids.

    Examples
    --------
    ::

        def test_an_approval_is_waited_for(dt_client):
            purchase = dt_client.schedule_new_orchestration(purchase_approval, input=...)
            dt_client.raise_orchestration_event(purchase, "approval", data=...)
            state = dt_client.wait_for_orchestration_completion(purchase, timeout=30)
            assert state.runtime_status is OrchestrationStatus.COMPLETED
    """
    if request.config.getoption("dt_backend") == "simulated":
        hub: TaskHub = request.getfixturevalue("task_hub")
        yield hub.client
        return
    client: TaskHubGrpcClient = request.getfixturevalue("_dt_connection")
    started: list[str] = []
    request.node.stash[_started] = client, started
    schedule = client.schedule_new_orchestration

    @wraps(schedule)
    def noting_the_id(*args: Any, **keywords: Any) -> str:
        instance_id = schedule(*args, **keywords)
        started.append(instance_id)
        return instance_id

    client.schedule_new_orchestration = noting_the_id  # type: ignore[method-assign]
    try:
        yield client
    finally:
        del client.schedule_new_orchestration  # and that of its class is back


@pytest.fixture(scope="session")
def _dt_connection(request: pytest.FixtureRequest) -> Iterator[TaskHubGrpcClient]:
    from functools import partial

    from dt_testkit import backends
    from dt_testkit.application import register_application
    from dt_testkit.errors import ApplicationError, DurableTestError

    config = request.config
    register = partial(register_application, config.getini("dt_app"), directory=config.rootpath)
    backend = config.getoption("dt_backend")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080" if backend == "emulator" else "")
    if backend in ("timeskip", "embedded"):
        connection = getattr(backends, backend)(register)
    else:
        connection = backends.scheduler(register, endpoint, os.environ.get("TASKHUB", "default"))
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connection)
        except DurableTestError as error:
            setting = "dt_app" if isinstance(error, ApplicationError) else f"--dt-backend={backend}"
            raise _fails(f"{setting}: {error}") from None
        yield client


@pytest.fixture
def dt_record(request: pytest.FixtureRequest) -> Callable[[History, str], None]:
    """Compare a history with a recorded one, or record it: ``dt_record(history, name)``.

    The record is ``histories/<name>.history.jsonl`` beside the test's file, one event a line, and belongs in
    version control: it is also collected as a replay test. Run pytest with ``--dt-update-histories`` to write
    it, the first time and after an intended change; without, the test fails if there is no record, or if the
    history is not, to the byte, what was recorded. Stack traces, which change with every edit, are left out.
    Histories of ``task_hub`` are the same in every run; those of other backends, with their ids and times,
    are not.

    Examples
    --------
    ::

        def test_the_order_of_the_steps_is_kept(task_hub, dt_record):
            order = task_hub.run(order_workflow, input=Order("desk", 2, 50.0))
            dt_record(order.history, "order-completed")
    """

    def record(history: Any, name: Any) -> None:
        __tracebackhide__ = True
        if not isinstance(name, str) or name != os.path.basename(name) or not name or ".history" in name:
            pytest.fail(f"dt_record wants a plain name for a file, such as 'order-completed', not {name!r}.")
        if not hasattr(history, "events"):
            pytest.fail(f"dt_record takes a History first, such as instance.history, not {history!r}.")
        if not history.events:
            pytest.fail(
                f"The history of {history.instance_id!r} has no events yet: drive the hub first, with "
                "settle(), advance() or wait()."
            )
        history = _without_stack_traces(history)
        path = request.path.parent / "histories" / f"{name}.history.jsonl"
        written = request.config.stash.setdefault(_written, {})
        if not request.config.getoption("dt_update_histories"):
            if difference := _difference(path, history):
                pytest.fail(difference)
        elif written.setdefault(str(path), history) == history:
            history.save(path)
        else:
            pytest.fail(f"Two different histories are recorded as {name!r}: give each a name of its own.")

    return record


def _new_hub(config: pytest.Config, arguments: dict[str, Any]) -> TaskHub:
    from dt_testkit.application import register_application
    from dt_testkit.errors import ApplicationError
    from dt_testkit.hub import TaskHub

    try:
        hub = TaskHub(**arguments)
    except (TypeError, ValueError) as error:
        raise _fails(f"@pytest.mark.dt_hub: {error}") from None
    if spec := config.getini("dt_app"):
        try:
            register_application(spec, hub, directory=config.rootpath)
        except ApplicationError as error:
            raise _fails(f"dt_app: {error}") from None
    return hub


def _fails(why: str) -> BaseException:
    """What pytest.fail() raises; to be raised without what it was raised for."""
    error: BaseException = pytest.fail.Exception(why, pytrace=False)
    return error


# -- recorded histories


def _without_stack_traces(history: History) -> History:
    from dataclasses import replace

    from dt_testkit.history import History

    def bare(failure: Any) -> Any:
        if failure is None:
            return None
        return replace(failure, stack_trace=None, inner_failure=bare(failure.inner_failure))

    events = (
        replace(event, failure_details=bare(event.failure_details))  # type: ignore[call-arg, attr-defined]
        if getattr(event, "failure_details", None) is not None
        else event
        for event in history.events
    )
    return History(history.instance_id, events, metadata=history.metadata)


def _difference(path: Path, history: History) -> str | None:
    """In what a history differs from its record, in a sentence."""
    from dt_testkit.errors import HistoryFormatError
    from dt_testkit.history import History

    shown = os.path.relpath(path)
    if not path.exists():
        return f"There is no {shown} to compare with: run pytest with --dt-update-histories to record it."
    if path.read_bytes() == history.dumps(".jsonl"):
        return None
    way_out = (
        "if that is intended, run pytest with --dt-update-histories to record it anew. Instances in flight "
        "have what was recorded: keep that file too, under another name, and it goes on being replayed."
    )
    try:
        recorded = History.load(path)
    except HistoryFormatError as error:
        return f"{error} Or run pytest with --dt-update-histories to record it anew."
    if recorded.instance_id != history.instance_id:
        what = f"it is of instance {recorded.instance_id!r}, and now of {history.instance_id!r}"
    elif recorded.events == history.events:
        what = "it has the same events, and other metadata or another layout of the file"
    else:
        both = min(len(recorded), len(history))
        at = next((i for i in range(both) if recorded.events[i] != history.events[i]), both)
        was, now = recorded.events[at : at + 1], history.events[at : at + 1]
        what = f"event {at + 1} is the first that differs: "
        if was and now and type(was[0]) is type(now[0]):
            changes = (
                f"{field.name} was {getattr(was[0], field.name)!r} and is {getattr(now[0], field.name)!r}"
                for field in fields(was[0])
                if getattr(was[0], field.name) != getattr(now[0], field.name)
            )
            what += f"{type(was[0]).__name__}, whose {', '.join(changes)}"
        else:
            what += f"it was {was[0] if was else 'not there'}, and is {now[0] if now else 'not there'}"
    return f"The history is not what {shown} has recorded: {what}; {way_out}"


# -- timelines in failure reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if call.when == "call":
        # What a test of unittest fails with, pytest looks up when it makes the report.
        for excinfo in filter(None, (call.excinfo, *(getattr(item, "_excinfo", None) or ()))):
            _hide_own_frames(excinfo)
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    by_findings = isinstance(error, Findings)
    if isinstance(error, Findings) and (crash := getattr(report.longrepr, "reprcrash", None)) is not None:
        # For the summary of failures, which shows all of a message with -vv and on CI.
        crash.message = error.in_short
    findings = item.stash.get(_findings, None)
    if findings is not None and report.when == "call":
        if report.failed and not by_findings:
            report.sections.append((f"dt_testkit: {_RECORDED}", findings))
        del item.stash[_findings]
    hub = item.stash.get(_hub_of, None)
    if hub is not None and report.failed and not by_findings:
        report.sections.extend(_timelines(hub))
        if not hub.orchestrators and hub.instances and not item.config.getini("dt_app"):
            report.sections.append(
                ("dt_testkit: nothing is registered", f"To have it on task_hub, {_SET_DT_APP}")
            )
        if _started in item.stash:
            report.sections.append(
                ("dt_testkit: dt_client is not of task_hub", _elsewhere(item.config.getoption("dt_backend")))
            )
    if _started in item.stash and report.failed and report.when != "teardown" and not by_findings:
        report.sections.extend(_recorded_so_far(*item.stash[_started]))
    if hub is not None and report.when == "teardown":
        del item.stash[_hub_of]  # items live to the end of the run, and hubs need not
    return report


def _elsewhere(backend: str) -> str:
    return (
        f"With --dt-backend={backend}, dt_client does not talk to task_hub, which has nothing of what that "
        "starts: ask dt_client for the state of an instance, or drive task_hub alone, always simulated."
    )


def _hide_own_frames(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Where the harness tells of a mistake, the way through the harness tells nothing more."""
    for entry in excinfo.traceback:
        if _is_own(entry):
            entry.frame.f_globals["__tracebackhide__"] = _is_told


def _is_told(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    from dt_testkit.errors import DurableTestError, NonDeterminismWarning

    if isinstance(excinfo.value, (TypeError, ValueError)):  # told by what the user has called, and not deeper
        return [_is_own(entry) for entry in excinfo.traceback][-2:] == [False, True]
    return isinstance(excinfo.value, (DurableTestError, NonDeterminismWarning))


def _is_own(entry: Any) -> bool:
    return str(entry.path).startswith(os.path.dirname(__file__) + os.sep)


def _timelines(hub: TaskHub) -> Iterator[tuple[str, str]]:
    # Where there are many, those that have not completed are the interesting ones.
    instances = sorted(hub.instances, key=lambda instance: instance.status.name == "COMPLETED")
    for instance in instances[:_MAX_INSTANCES]:
        yield f"dt_testkit: timeline of {instance.instance_id}", _timeline(instance)
    if unused := sorted(name for name, stub in hub._stubs.items() if not stub.called):
        yield "dt_testkit: stubs that nobody called", ", ".join(unused)
    if (left_out := len(instances) - _MAX_INSTANCES) > 0:
        yield "dt_testkit: more timelines", f"{left_out} more instances, not shown."


def _recorded_so_far(client: TaskHubGrpcClient, started: list[str]) -> Iterator[tuple[str, str]]:
    """The timelines of what a test has started on another backend than ``simulated``."""
    from dt_testkit.history import History

    for instance_id in started[:_MAX_INSTANCES]:
        try:
            history = History.from_client(client, instance_id)
        except Exception as error:  # purged, or the backend is gone: the test has failed for that, or another
            told = f"It cannot be had any more: {(str(error).splitlines() or [type(error).__name__])[0]}"
        else:
            told = "\n".join(_shortened(history, f"History.from_client(dt_client, {instance_id!r})"))
        yield f"dt_testkit: timeline of {instance_id}", told
    if (left_out := len(started) - _MAX_INSTANCES) > 0:
        yield "dt_testkit: more timelines", f"{left_out} more instances, not shown."


def _shortened(history: History, as_code: str) -> list[str]:
    lines = str(history).splitlines()
    if (cut := len(lines) - _MAX_LINES) > 0:
        half = _MAX_LINES // 2
        lines = [*lines[:half], f"   … {cut} lines left out; print({as_code}) has them", *lines[-half:]]
    return lines


def _timeline(instance: Instance) -> str:
    histories = instance.histories
    lines = _shortened(histories[-1], f"task_hub.instance({instance.instance_id!r}).history")
    if len(histories) > 1:
        lines.insert(0, f"generation {len(histories)}, the last; continue_as_new ended the ones before")
    if waiting := instance.waiting_for:
        lines.append(f"waits for {' and '.join(map(str, waiting))}")
    elif histories[-1].events and (why := instance._stands_still()) is not None:
        lines.append(why)
    return "\n".join(lines)


# -- what allow_nondeterminism let through


def _allowed_here() -> list[tuple[str, str, tuple[str, ...]]]:
    """Place, reason and calls of each block; nothing where no hub was guarded yet."""
    guard = sys.modules.get("dt_testkit.guard")
    blocks = guard.allowed_blocks() if guard is not None else ()
    return [(str(block.location), block.reason, block.calls) for block in blocks]


def _allowed_in(config: pytest.Config) -> list[Any]:
    before = config.stash[_allowed_before]
    return [block for block in _allowed_here() if block not in before]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # of a worker of xdist
    if output is not None:
        output["dt_allowed"] = _allowed_in(session.config)
        output["dt_not_tried"] = _not_tried_in(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(_allowed_by_workers, []).extend(output.get("dt_allowed", []))
    node.config.stash.setdefault(_not_tried_by_workers, []).extend(output.get("dt_not_tried", []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    calls: dict[tuple[str, str], dict[str, None]] = {}
    for place, reason, names in [*_allowed_in(config), *config.stash.get(_allowed_by_workers, [])]:
        calls.setdefault((place, reason), {}).update(dict.fromkeys(names))
    if calls:
        terminalreporter.section("dt_testkit: allowed nondeterminism")
        for (place, reason), names in sorted(calls.items()):
            terminalreporter.line(f"{place}: {reason} ({', '.join(names)})")
    places: dict[str, set[str]] = {}
    for what, place in [*_not_tried_in(config), *config.stash.get(_not_tried_by_workers, [])]:
        places.setdefault(what, set()).add(place)
    if places:
        terminalreporter.section("dt_testkit: not tried by --dt-determinism")
        for what, where in sorted(places.items()):
            shown = sorted(where)[:_MAX_PLACES]
            more = f" and {len(where) - len(shown)} more" if len(where) > len(shown) else ""
            terminalreporter.line(f"{', '.join(shown)}{more}: {what}")


# -- determinism


_RECORDED = "--dt-determinism, on what this test has recorded"


class Findings(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """Nothing else is wrong with a test."""

    def __init__(self, in_full: str, in_short: str) -> None:
        super().__init__(f"{_RECORDED}:\n\n{in_full}", pytrace=False)
        self.in_short = in_short


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if config.getoption("dt_determinism") and not config.option.collectonly:
        from dt_testkit.determinism.watch import Watch

        config.stash[_watch] = watch = Watch()
        stack = ExitStack()
        stack.enter_context(watch.over_hubs())
        config.add_cleanup(stack.close)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if (watch := item.config.stash.get(_watch, None)) is not None:
        watch.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    watch = item.config.stash.get(_watch, None)
    if watch is None:
        return (yield)
    try:
        result = yield
    except (Exception, pytest.fail.Exception):
        _look(watch, item, failed=True)
        raise
    # A test of unittest has put aside what it failed with, and is reported with that.
    if findings := _look(watch, item, failed=bool(getattr(item, "_excinfo", None))):
        where = [f"{each.hazard} at {each.location}" if each.location else each.hazard for each in findings]
        raise Findings(item.stash[_findings], f"--dt-determinism: {', '.join(map(str, where))}")
    return result


def _look(watch: Watch, item: pytest.Item, *, failed: bool) -> list[Finding]:
    reports = list(watch.reports(failed=failed))
    if reports:
        item.stash[_findings] = "\n\n".join(map(str, reports))
    return [finding for report in reports for finding in report.findings]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    try:
        yield
    finally:
        if (watch := item.config.stash.get(_watch, None)) is not None:
            watch.forget()


def _not_tried_in(config: pytest.Config) -> list[tuple[str, str]]:
    watch = config.stash.get(_watch, None)
    return list(watch.not_tried) if watch is not None else []


# -- history files


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(_SUFFIXES):
        return HistoryFile.from_parent(parent, path=file_path)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("dt_update_histories"):  # first written, then replayed
        items.sort(key=lambda item: isinstance(item, HistoryItem))


class HistoryFile(pytest.File):
    """A recorded history: one test, which replays it with the application of ``dt_app``."""

    def collect(self) -> Iterator[pytest.Item]:
        from dt_testkit.errors import HistoryFormatError
        from dt_testkit.history import History

        try:
            history = History.load(self.path)
            name = f"{history.orchestrator_name or '?'}/{history.instance_id}"
        except HistoryFormatError:
            name = "unreadable"  # the test says why
        yield HistoryItem.from_parent(self, name=name)


class HistoryItem(pytest.Item):
    """The replay of one history."""

    def runtest(self) -> None:
        from dt_testkit.history import History
        from dt_testkit.replaying import assert_replays

        # Read again, not kept: there may be many, and large ones, between collection and now.
        history, orchestrators = History.load(self.path), self._orchestrators()
        if (watch := self.config.stash.get(_watch, None)) is not None:
            watch.also(history, orchestrators)
        assert_replays(history, orchestrators)

    def _orchestrators(self) -> TaskHub:
        if not self.config.getini("dt_app"):
            pytest.fail(f"A history can be replayed only with an application: {_SET_DT_APP}", pytrace=False)
        stash = self.config.stash
        if _application not in stash:
            interval = _maximum_timer_interval(self.config)
            stash[_application] = _new_hub(self.config, {"maximum_timer_interval": interval})
        return stash[_application]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from dt_testkit.errors import DurableTestError

        if isinstance(excinfo.value, DurableTestError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"replay of {self.path.name}"
