"""Runs what the corpus holds: each orchestrator on a hub, in a folder and an environment of its own."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple
from unittest import mock

from hazard_table import CORPUS, Found, Marks, Place, files, lint, read_marks

from dt_testkit import NonDeterministicCall, TaskHub
from dt_testkit.determinism import check_determinism
from dt_testkit.errors import OrchestrationNotFinished

VARIABLES = {"REGION": "eu", "MODE": "fast", "TZ": "UTC", "no_proxy": "*"}
FILES = (
    "order.txt",
    "rules.txt",
    "settings.ini",
    "lock",
    "data/order.txt",
    "data/lamp.txt",
    "data/desk.done",
    "same",
    "out/index.txt",
)
INSTALLED = CORPUS / "installed"
"""Stands in for libraries that are not installed."""

PROJECTS = {"shop": "shop", "flat": "main", "tidy": "app"}
"""Which module of a project has what is run. The others need libraries that are not here."""

TURNS = 40
"""More than any of them needs; those that never end stop there."""

NOT_RUN = {
    "waits_for_a_signal": "it waits for a signal that nobody sends",
    "multiprocessing_pool": "it forks the process of the tests",
    "starts_a_process": "it forks the process of the tests",
    "sleeps_asynchronously": "no worker runs what is in an async orchestrator",
}
"""What runs under the guard alone, which stops it in time, and why."""

NOT_EVERYWHERE = {
    "guard": {
        "a_method_caller": "C calls C, which is seen from Python 3.12 on",
        "through_partial": "C calls C, which is seen from Python 3.12 on",
        "starts_a_process": "it is a fork, under another code, before Python 3.12",
        "takes_a_lock": "the block is entered by C before Python 3.14",
        "of_the_time": "there is no uuid7 before Python 3.14",
        "ordered_by_time": "there is no uuid6 before Python 3.14",
    },
    "replay": {
        "of_the_time": "there is no uuid7 before Python 3.14",
        "ordered_by_time": "there is no uuid6 before Python 3.14",
    },
}
"""What a net finds on some versions of Python alone, which does not count."""


class Run(NamedTuple):
    """One orchestrator of the corpus, and what it is given."""

    module: ModuleType
    orchestrator: Callable[..., Any] | str
    input: Any
    events: list[tuple[str, Any]]

    @property
    def name(self) -> str:
        return self.orchestrator if isinstance(self.orchestrator, str) else self.orchestrator.__name__


@contextlib.contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Files to read, variables, somebody who answers, and silence."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("desk")
    before = Path.cwd()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, VARIABLES))
        stack.enter_context(mock.patch.object(sys, "argv", ["worker", "-v"]))
        stack.enter_context(mock.patch.object(sys, "stdin", io.StringIO("yes\n" * 100)))
        stack.enter_context(mock.patch.object(sys, "path", [*sys.path, str(CORPUS.parent), str(INSTALLED)]))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        stack.callback(logging.disable, logging.root.manager.disable)
        stack.callback(os.chdir, before)
        # What is left open, or never awaited, is not told in the middle of another test.
        stack.enter_context(mock.patch.object(sys, "unraisablehook"))
        stack.callback(gc.collect)
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        os.chdir(folder)
        yield


@contextlib.contextmanager
def loaded(unit: Path) -> Iterator[ModuleType]:
    """A file or a project of the corpus, imported anew, under names by which another process finds it too."""
    if unit.is_dir():
        folder, name = unit, PROJECTS[unit.name]
    else:
        folder, name = CORPUS.parent, ".".join(unit.relative_to(CORPUS.parent).with_suffix("").parts)
    before = set(sys.modules)
    importlib.invalidate_caches()
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        try:
            yield importlib.import_module(name)
        finally:
            for new in set(sys.modules) - before:
                if str(getattr(sys.modules[new], "__file__", None)).startswith(str(CORPUS)):
                    del sys.modules[new]


def runs(module: ModuleType) -> list[Run]:
    return [Run(module, run[0], run[1], run[2] if len(run) > 2 else []) for run in module.RUN]


def hub_for(module: ModuleType, **options: Any) -> TaskHub:
    """A hub with the application of the module, however it registers."""

    class Worker(TaskHub):
        def __enter__(self) -> Worker:
            return self

        def __exit__(self, *error: object) -> None: ...

        def start(self, orchestrator: Any = None, **keywords: Any) -> Any:
            return super().start(orchestrator, **keywords) if orchestrator is not None else None

    hub = Worker(check_replay="never", **options)
    if hasattr(module, "register"):
        module.register(hub)
    elif inspect.signature(module.main).parameters:
        module.main(hub)
    else:
        with mock.patch.object(module, "TaskHubGrpcWorker", return_value=hub):
            module.main()
    for name, result in getattr(module, "STUBS", {}).items():
        hub.stub(name, return_value=result)
    return hub


def drive(hub: TaskHub, run: Run) -> None:
    """Until nothing more can happen, or it has gone on long enough."""
    instance = hub.start(run.orchestrator, input=run.input)
    for name, data in run.events:
        instance.raise_event(name, data)
    with contextlib.suppress(OrchestrationNotFinished):
        hub.advance(timedelta(days=800), max_turns=TURNS)


@contextlib.contextmanager
def lines_run() -> Iterator[set[Place]]:
    """The lines of the corpus that run in this thread meanwhile."""
    seen: set[Place] = set()
    root = str(CORPUS)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(root):
            return None
        seen.add(Place(frame.f_code.co_filename[len(root) + 1 :], frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def caught(unit: Path) -> dict[str, list[Found]]:
    """What each net finds in a file or a project."""
    found: dict[str, list[Found]] = {"lint": lint(unit), "guard": [], "replay": []}
    if unit.is_dir() and unit.name not in PROJECTS:
        return found
    marks = read_marks(files())
    with tempfile.TemporaryDirectory() as folder, surroundings(Path(folder)):
        with loaded(unit) as module:
            for run in runs(module):
                if run.name not in NOT_EVERYWHERE["guard"]:
                    found["guard"] += guarded(run)
        with loaded(unit) as module:
            for run in runs(module):
                if run.name not in NOT_RUN and run.name not in NOT_EVERYWHERE["replay"]:
                    found["replay"] += perturbed(run, marks)
    return found


def guarded(run: Run) -> list[Found]:
    """What the guard stops; what a library does in turn may have another code than the line that calls it."""
    try:
        drive(hub_for(run.module, guard="error"), run)
    except NonDeterministicCall as stopped:
        steps = [re.match(r"(.+?):(\d+)(?: |$)", step) for step in stopped.route]
        route = [corpus_places([(step[1], int(step[2]))] if step else []) for step in steps]
        places = tuple(place for step in route for place in step)
        return [Found(stopped.code, places, () if route[-1] else places)]
    return []


def perturbed(run: Run, marks: Marks) -> list[Found]:
    """What perturbed replay finds, and the marked lines that ran: it may see only where a value shows."""
    marked = {case.place for case in marks.cases} | {place for place, _ in marks.tolerated}
    hub = hub_for(run.module, guard="off")
    with lines_run() as ran:
        drive(hub, run)
    return [
        Found(
            each.hazard,
            corpus_places([(each.location.file, each.location.line)] if each.location else []),
            tuple(sorted(ran & marked)),
        )
        for instance in hub.instances  # of those that begin anew for ever, the first generation
        for each in check_determinism(instance.histories[0], hub).findings
    ]


def corpus_places(lines: Iterable[tuple[str, int]]) -> tuple[Place, ...]:
    """Those of the lines that are in the corpus."""
    found = [(Path(file).resolve(), line) for file, line in lines]
    return tuple(
        Place(file.relative_to(CORPUS).as_posix(), line)
        for file, line in found
        if file.is_relative_to(CORPUS) and not file.is_relative_to(INSTALLED)
    )
