"""A pytest plugin that knocks members of the SDK out, and says which test fails for it: ``-p knock_outs``.

A member that is knocked out has no effect where the tests, or the application they test, use it:

- a method or function does nothing, and returns what says nothing: None, "", 0, an empty list, or, in an
  orchestrator, a task that completes at once with None;
- a property reads as the same, an attribute as None;
- a parameter is left out, so that its default rules; one without a default says nothing;
- a member of an enum is taken for another of its enum, where it is given and where it is read;
- ``__enter__``: leaving the ``with`` does nothing;
- an exception is one of another type.

``--knock-outs FILE`` is a JSON file: each member with its tests. They run, the member knocked out, up to the
first that fails, and that runs again as it is, and has to pass. A test that has to be stopped after
``SECONDS`` counts where no other fails. Then the file holds that test for each member, or None. With
``--knock-outs-once`` nothing runs again: for tests that are known to pass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from coverage_recorder import Member, Recorder, watch
from durabletask import task

SECONDS = 3  # Most tests take a hundredth of it.

# Where the neutral value of the type is not neutral.
INSTEAD: dict[str, Callable[..., Any]] = {
    # What they register has its name all the same.
    "TaskHubGrpcWorker.add_orchestrator": lambda worker, fn: task.get_name(fn),
    "TaskHubGrpcWorker.add_activity": lambda worker, fn: task.get_name(fn),
    "TaskHubGrpcWorker.add_entity": lambda worker, fn, name=None: name or task.get_entity_name(fn),
    "RetryPolicy.max_number_of_attempts": lambda _: 1,
    "OrchestrationContext.create_replay_safe_logger": lambda ctx, logger: logger,
    "OrchestrationContext.lock_entities": lambda ctx, _: _at_once(ctx, nullcontext()),
    "task.when_all": lambda tasks: tasks[0] if tasks else task.CompletableTask(),
    "task.when_any": lambda tasks: tasks[0] if tasks else task.CompletableTask(),
}


class Stopped(BaseException):
    """Stops a test: not an Exception, which somebody may catch."""


class KnockOuts(Recorder):
    """Knocks out one member at a time."""

    key = ""
    status = 0

    def called(self, member: Member, caller: str, args: Any, kwargs: Any) -> Callable[[], Any]:
        if not self.counts(member, caller):
            return super().called(member, caller, args, kwargs)
        if member.key == self.key and not _is_entering(self.key):
            value = self._result(member, args, kwargs)
            return functools.partial(_soon if inspect.iscoroutinefunction(member.function) else _now, value)
        call = member.signature.bind(*args, **kwargs)
        for name, value in member.given(args, kwargs).items():
            if member.parameters[name] != self.key:
                call.arguments[name] = self._taken(value)
            elif member.signature.parameters[name].default is inspect.Parameter.empty:
                call.arguments[name] = INSTEAD.get(self.key, neutral)(_hint(member.function, name))
            else:
                del call.arguments[name]
        return functools.partial(member.function, *call.args, **call.kwargs)

    def returned(self, result: Any, member: Member, caller: str, args: Any, kwargs: Any) -> Any:
        return self._taken(result) if self.counts(member, caller) else result

    def read(self, key: str, value: Any) -> Any:
        return None if key == self.key else self._taken(value)

    def made(self, key: str, instance: Any) -> None:
        if key == self.key and isinstance(instance, Exception):
            instance.__class__ = type("KnockedOut", type(instance).__bases__, {})

    def _result(self, member: Member, args: Any, kwargs: Any) -> Any:
        """What a method or function returns that is knocked out."""
        if self.key in INSTEAD:
            return INSTEAD[self.key](*args, **kwargs)
        hint = _hint(member.function, "return")
        kind = typing.get_origin(hint) or hint
        return _at_once(args[0]) if isinstance(kind, type) and issubclass(kind, task.Task) else neutral(hint)

    def _taken(self, value: Any) -> Any:
        """The value, with another member of the enum in the place of the one that is knocked out."""
        if isinstance(value, list):
            return [self._taken(each) for each in value] if any(map(self._is_out, value)) else value
        if not self._is_out(value):
            return value
        return next(other for other in type(value) if other is not value)

    def _is_out(self, value: Any) -> bool:
        return isinstance(value, Enum) and f"{type(value).__name__}.{value.name}" == self.key

    def knock_out(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key = key
        if _is_entering(key):
            name, _, method = key.partition(".")
            leaving = method.replace("enter", "exit")
            monkeypatch.setattr(self.objects[name], leaving, self._unless_theirs(self.objects[name], leaving))

    def _unless_theirs(self, cls: type, leaving: str) -> Callable[..., Any]:
        real = getattr(cls, leaving)

        def leave(*args: Any) -> Any:
            if not self.is_theirs(sys._getframe(1).f_code.co_filename):
                return real(*args)
            return _soon(None) if inspect.iscoroutinefunction(real) else None

        return leave

    # -- running the tests

    def proof(self, key: str, items: Sequence[pytest.Item]) -> str | None:
        """The test that fails for want of a member, and passes with it."""
        if isinstance(cls := self.objects.get(key), type) and not issubclass(cls, Exception):
            return None  # It has nothing of its own.
        stopped = None
        for item in items:
            with pytest.MonkeyPatch.context() as monkeypatch:
                self.knock_out(key, monkeypatch)
                outcome = _outcome(item)
            self.key = ""
            if outcome in ("failed", "stopped") and item.config.getoption("knock_outs_once"):
                return item.nodeid
            if outcome == "failed" and _outcome(item) == "passed":
                return item.nodeid
            # One that is merely slow is nearly as slow as it is.
            if outcome == "stopped" and stopped is None and _outcome(item, SECONDS - 1) == "passed":
                stopped = item.nodeid
        return stopped

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # A file could not be collected: pytest says so, and ends.
        file = Path(session.config.getoption("knock_outs"))
        items = {item.nodeid: item for item in session.items}
        asked: dict[str, list[str]] = json.loads(file.read_text())
        proofs = {
            key: self.proof(key, [items[test] for test in tests if test in items])
            for key, tests in asked.items()
        }
        file.write_text(json.dumps(proofs, indent=1))
        return True

    def pytest_runtest_logstart(self) -> None: ...

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None: ...

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.status = int(session.exitstatus)

    def pytest_unconfigure(self) -> None:
        # A worker whose stop() was knocked out would keep the process.
        sys.stdout.flush()
        os._exit(self.status)


def _is_entering(key: str) -> bool:
    return key.endswith(("__enter__", "__aenter__"))


def neutral(hint: Any) -> Any:
    """The value of a type that says nothing."""
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type):
        return None
    if kind in (str, bytes, int, float, bool, list, dict, timedelta):
        return kind()
    if kind is datetime:
        return datetime(1970, 1, 1)
    if dataclasses.is_dataclass(kind):
        return kind(**{field.name: neutral(_hint(kind, field.name)) for field in dataclasses.fields(kind)})
    return None


def _at_once(ctx: task.OrchestrationContext, result: Any = None) -> Any:
    """A task that completes at once. One that is complete does not do: not the first that is waited for."""
    timer = inspect.unwrap(type(ctx).create_timer)(ctx, timedelta(0))
    timer.get_result = lambda: result  # type: ignore[method-assign]
    return timer


def _hint(thing: Any, name: str) -> Any:
    try:
        return typing.get_type_hints(thing).get(name)
    except NameError:  # a name that is imported for the checker of types alone
        return None


def _now(value: Any) -> Any:
    return value


async def _soon(value: Any) -> Any:
    return value


def _outcome(item: pytest.Item, seconds: int = SECONDS) -> str:
    """What becomes of a test: passed, failed or stopped (or skipped)."""
    stopped = False

    def stop(*ignored: Any) -> None:
        nonlocal stopped
        stopped = True
        raise Stopped

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        outcomes = [report.outcome for report in runtestprotocol(item, log=False, nextitem=None)]
    finally:
        signal.alarm(0)
    return "stopped" if stopped else next((each for each in outcomes if each != "passed"), "passed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--knock-outs", metavar="FILE", required=True)
    parser.addoption("--knock-outs-once", action="store_true")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(watch(KnockOuts, config.rootpath))
