"""How calls are noticed: by sys.monitoring from Python 3.12 on, before that by a profile function.

Both see what is called from Python; an audit hook sees files, sockets and processes from wherever they are
opened. All of them ask first whether this thread runs a guarded orchestrator, and return at once if not;
:meth:`Run.judge` decides about the others.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from functools import cache
from sys import getprofile, setprofile
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from dt_testkit.guard.frames import is_harness
from dt_testkit.guard.table import GUARDED, Forbidden, Table
from dt_testkit.guard.threads import local, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from dt_testkit.guard.guard import Run


_monitoring: Any = getattr(sys, "monitoring", None)  # from 3.12 on


class _Engine:
    """Notices calls while somebody holds it."""

    def __init__(self) -> None:
        self._holders = 0
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                _add_audit_hook()
                self._start()

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._stop()

    def _start(self) -> None:
        pass

    def _stop(self) -> None:
        pass

    def call(self, run: Run, function: Callable[..., Any], *arguments: Any) -> Any:
        raise NotImplementedError

    def unnoticed(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function of the harness's, as quick as if nobody noticed calls, where that can be had."""
        return function


class _Monitoring(_Engine):
    def __init__(self, tool: int) -> None:
        super().__init__()
        self._tool = tool
        monitoring = _monitoring
        events = monitoring.events
        monitoring.use_tool_id(tool, "dt_testkit")
        self._on = events.PY_START | events.PY_RESUME
        disable, set_events, one = monitoring.DISABLE, monitoring.set_local_events, events.CALL
        missing, modules, codes = monitoring.MISSING, sys.modules, table.codes
        harness: dict[str, bool] = {}
        self._watched: dict[int, ReferenceType[CodeType]] = {}  # their calls are noticed while this is held
        watched = self._watched

        def started(code: CodeType, offset: int) -> Any:
            run = local.run
            if len(modules) != table.seen:
                table.refresh()
            if id(code) in codes:
                if run is not None:
                    _function_started(run, sys._getframe(1))
                return None
            file = code.co_filename
            ours = harness.get(file)
            if ours is None:
                ours = harness[file] = is_harness(file)
            if ours:
                return disable
            if (run is None and file != "<string>") or table.importing:
                return None
            set_events(tool, code, one)
            watched[id(code)] = ref(code)
            return disable

        def called(code: CodeType, offset: int, callable: Any, first: Any) -> None:
            run = local.run
            if run is None:
                return
            if len(modules) != table.seen:
                table.refresh()
            forbidden = table.of_call(callable, first, missing)
            if forbidden is not None:
                local.run = None
                try:
                    run.judge(forbidden, sys._getframe(1), first=first, offset=offset)
                finally:
                    local.run = run

        monitoring.register_callback(tool, events.PY_START, started)
        monitoring.register_callback(tool, events.PY_RESUME, started)
        self._called = called

    def _start(self) -> None:
        self._watch(_monitoring.events.CALL)
        _monitoring.register_callback(self._tool, _monitoring.events.CALL, self._called)
        _monitoring.set_events(self._tool, self._on)

    def _stop(self) -> None:
        _monitoring.set_events(self._tool, 0)
        _monitoring.register_callback(self._tool, _monitoring.events.CALL, None)
        self._watch(0)  # or what has run in an orchestrator would be slow for ever

    def _watch(self, events: int) -> None:
        for key, each in list(self._watched.items()):
            code = each()
            if code is None:
                del self._watched[key]
            else:
                _monitoring.set_local_events(self._tool, code, events)

    def call(self, run: Run, function: Callable[..., Any], *arguments: Any) -> Any:
        outer, local.run = local.run, run
        try:
            return function(*arguments)
        finally:
            local.run = outer


class _Profile(_Engine):
    def call(self, run: Run, function: Callable[..., Any], *arguments: Any) -> Any:
        previous = getprofile()
        outer, local.run = local.run, run
        if previous is None:
            setprofile(_profile)
            try:
                return function(*arguments)
            finally:
                setprofile(None)
                local.run = outer
        try:
            with _set_aside(previous):
                return function(*arguments)
        finally:
            local.run = outer

    def unnoticed(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def quick(argument: Any) -> Any:
            profile = getprofile()
            if profile is not _profile:
                return function(argument)
            setprofile(None)
            try:
                return function(argument)
            finally:
                setprofile(profile)

        return quick


@contextmanager
def _set_aside(previous: Any) -> Iterator[None]:
    """Have another profile function called too, or wait where it is cProfile's, which is not in Python."""
    in_c = hasattr(previous, "enable")
    if in_c:
        previous.disable()
    setprofile(_profile if in_c or previous is _profile else _before(previous))
    try:
        yield
    finally:
        setprofile(None if in_c else previous)
        if in_c:
            previous.enable()


def _profile(
    frame: FrameType,
    event: str,
    argument: Any,
    # Looked up some ninety times for each task of an orchestrator, so they are at hand.
    builtin: Any = BuiltinFunctionType,
    names: set[str] = table.builtin_names,
    homes: set[int] = table.homes,
    modules: dict[str, Any] = sys.modules,
    table: Table = table,
) -> None:
    if event == "c_call":
        if type(argument) is builtin and argument.__name__ in names:
            _function_called(frame, argument)
    elif event == "call":
        if len(modules) != table.seen:
            table.refresh()
        if id(frame.f_globals) in homes:  # f_code is audited, and so is dear
            run = local.run
            if run is not None:
                _function_started(run, frame)


def _before(previous: Any) -> Callable[[FrameType, str, Any], None]:
    def both(frame: FrameType, event: str, argument: Any) -> None:
        previous(frame, event, argument)
        _profile(frame, event, argument)

    return both


def _function_called(frame: FrameType, function: Any) -> None:
    run = local.run
    forbidden = table.of_builtin(function)
    if run is not None and forbidden is not None:
        local.run = None
        try:
            run.judge(forbidden, frame, offset=frame.f_lasti)
        finally:
            local.run = run


def _function_started(run: Run, frame: FrameType) -> None:
    local.run = None
    try:
        forbidden = table.of_frame(frame)
        if forbidden is not None:
            run.judge(forbidden, frame.f_back)
    finally:
        local.run = run


# -- what is audited

_audited: dict[str, Forbidden] = {}
_ZONES = f"{os.sep}zoneinfo{os.sep}"  # zoneinfo is written in C, and has no frame that says so


def _add_audit_hook() -> None:
    if not _audited:
        for hazard in GUARDED:
            for event in hazard.audits:
                name = event.removeprefix("builtins.").removesuffix(".__new__")
                name = "socket.socket" if name == "socket" else name
                _audited[event] = Forbidden(name, hazard.code)
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    run = local.run
    if run is None:
        return
    forbidden = _audited.get(event)
    if forbidden is None or (event == "open" and _ZONES in str(arguments[0])):
        return
    local.run = None
    try:
        run.judge(forbidden, sys._getframe(1), is_audit=True)
    finally:
        local.run = run


@cache
def engine() -> _Engine:
    """The engine of this process, chosen when it is first needed."""
    if _monitoring is not None:
        for tool in (3, 4, 2, 5, 1, 0):
            if _monitoring.get_tool(tool) is None:
                return _Monitoring(tool)
    return _Profile()
