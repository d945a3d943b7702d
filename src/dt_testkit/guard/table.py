"""What may not be called: the names of the hazards, resolved to the functions and types of this process.

Only what is loaded can be called, so names are looked up among the loaded modules, and again when there are
new ones. A function in Python is known by its code object, which is noticed whoever calls it; one in C by
itself, and its methods by their name and the type that they belong to.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
import threading
from dataclasses import dataclass
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from dt_testkit.guard.entry_points import JUDGED_BY_WHAT_THEY_OPEN, NAMED
from dt_testkit.hazards import BARE, HAZARDS, hazard_of_call, hazard_of_read, is_of_libraries

if TYPE_CHECKING:
    from types import CodeType, FrameType

GUARDED = tuple(
    hazard
    for hazard in HAZARDS
    if hazard.code in {f"DT{n}" for n in (101, 102, 103, 104, 105, 106, 107, 110)}
)

# What a name of the table is, where it is a function that makes one.
_MADE_BY = {
    "threading.Lock": "_thread.LockType",
    "threading.RLock": "_thread.RLock",
    "multiprocessing.Lock": "multiprocessing.synchronize.SemLock",
    "multiprocessing.Queue": "multiprocessing.queues.Queue",
}

# The clocks that freezegun puts in the place of Python's, and Python's, which it keeps.
_FROZEN = {
    **{
        f"{kind}.{name}": f"datetime.datetime.{name}"
        for kind in ("FakeDatetime", "real_datetime")
        for name in ("now", "utcnow", "today")
    },
    **{f"{kind}.today": "datetime.date.today" for kind in ("FakeDate", "real_date")},
    **{
        f"{kind}_{name}": f"time.{name}"
        for kind in ("fake", "real")
        for name in (
            [
                "time",
                "monotonic",
                "perf_counter",
                "time_ns",
                "monotonic_ns",
                "perf_counter_ns",
                "localtime",
                "gmtime",
                "strftime",
            ]
        )
    },
}

_ANY = object()
_CALLS_ITS_FIRST: tuple[Any, ...] = (map, filter)


@dataclass(frozen=True, eq=False)
class Forbidden:
    """Something that an orchestrator may not call."""

    name: str
    code: str
    read: bool = False
    of: Any = _ANY  # the only object whose method it is
    bare: int | None = None  # harmless with more arguments
    near: bool = False  # only where the project's own code calls it


class Table:
    """The forbidden functions of this process."""

    def __init__(self) -> None:
        self.codes: dict[int, tuple[CodeType, list[Forbidden]]] = {}
        self.homes: set[int] = set()  # of the globals of these
        self.seen = -1  # how many modules there were
        self.importing = False  # whether one of them was not complete
        self.builtin_names: set[str] = set()
        self._builtins: dict[Any, Forbidden] = {}
        self._methods: dict[str, list[tuple[type, Forbidden]]] = {}
        self._others: dict[int, tuple[Any, Forbidden]] = {}
        self._names: dict[str, tuple[str, bool]] = {}  # what to look up: what it is called, whether read
        names = [name for hazard in GUARDED for name in hazard.calls if not name.endswith(".**")]
        self._stars = {name.removesuffix(".*") for name in (*names, *NAMED) if "*" in name}
        for name in (*NAMED, *names):
            if "*" not in name and name not in JUDGED_BY_WHAT_THEY_OPEN:
                self._names.setdefault(_real_name(name), (name, False))
        for hazard in GUARDED:
            for name in hazard.reads:
                self._names.setdefault(name, (name, True))
        self._names |= {f"freezegun.api.{name}": (as_, False) for name, as_ in _FROZEN.items()}
        self._lock = threading.Lock()

    # -- asked

    def of_call(self, callable: Any, first: Any, missing: Any = None) -> Forbidden | None:
        """What it means to call that, with that first argument; None for what is fine.

        Functions in Python are fine here: they are judged when they start, by :meth:`of_frame`.
        """
        kind = type(callable)
        if kind is FunctionType:
            return None
        if kind is MethodType:
            callable, first = callable.__func__, callable.__self__
            if type(callable) is FunctionType:
                return None
        if kind is BuiltinFunctionType:
            return self.of_builtin(callable)
        if kind is MethodDescriptorType:
            name = callable.__name__
            if name not in self.builtin_names or callable.__objclass__ not in type(first).__mro__:
                return None
            return self._builtins.get(callable.__get__(first)) or self._method(name, type(first))
        if kind is functools.partial:
            arguments = callable.args
            return self.of_call(callable.func, arguments[0] if arguments else first, missing)
        if kind is operator.methodcaller and isinstance(first, (ModuleType, type)):
            name = callable.__reduce__()[1][0]
            return self.of_call(getattr(first, name, None), missing, missing)
        if kind is ClassMethodDescriptorType:
            return None
        if any(callable is one for one in _CALLS_ITS_FIRST):
            return self.of_call(first, missing, missing)
        found = self._others.get(id(callable))
        if found is None or (found[1].of is not _ANY and found[1].of is not first):
            return None
        return found[1]

    def of_builtin(self, callable: Any) -> Forbidden | None:
        """What it means to call a function in C, bound or not."""
        name = callable.__name__
        if name not in self.builtin_names:
            return None
        found = self._builtins.get(callable)
        if found is not None:
            return found
        owner = callable.__self__
        if owner is None or type(owner) is ModuleType:
            return None
        return self._method(name, owner if issubclass(type(owner), type) else type(owner))

    def _method(self, name: str, kind: type) -> Forbidden | None:
        for owner, forbidden in self._methods.get(name, ()):
            if owner in kind.__mro__:
                return forbidden
        return None

    def of_frame(self, frame: FrameType) -> Forbidden | None:
        """What it means that this frame starts, or is under way; None for what is fine."""
        found = self.codes.get(id(frame.f_code))
        if found is None:
            return None
        code, candidates = found
        local: dict[str, Any] | None = None
        for forbidden in candidates:
            if forbidden.of is _ANY and forbidden.bare is None:
                return forbidden
            if local is None:
                local = frame.f_locals
            names = code.co_varnames
            if forbidden.of is not _ANY:
                if names and local.get(names[0]) is forbidden.of:
                    return forbidden
            elif forbidden.bare is not None:
                position = forbidden.bare + (code.co_name == "__init__")
                if position >= code.co_argcount or local.get(names[position]) is None:
                    return forbidden
        return None

    # -- filled

    def refresh(self) -> None:
        """Look up what has been loaded since."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is at it
        try:
            self._refresh(sys.modules)
        finally:
            self._lock.release()

    def _refresh(self, modules: dict[str, ModuleType]) -> None:
        self.seen = len(modules)
        self.importing = False
        for name in [name for name in self._names if name.partition(".")[0] in modules or "." not in name]:
            as_, read = self._names[name]
            found, value, owner = self._look_up(name)
            if found:
                del self._names[name]
                self._add(value, as_, owner, read)
        for name in [name for name in self._stars if name.partition(".")[0] in modules]:
            found, value, _ = (True, modules[name], None) if name in modules else self._look_up(name)
            if found and (not isinstance(value, ModuleType) or self._is_complete(value)):
                self._stars.discard(name)
                self._add_all_of(name, value)

    def _is_complete(self, module: Any) -> bool:
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            self.importing = True
            self.seen = -1
            return False
        return True

    def _look_up(self, name: str) -> tuple[bool, Any, Any]:
        """Whether there is something of that name; it, and the type that it is an attribute of."""
        parts = name.split(".")
        if len(parts) == 1:
            parts = ["builtins", *parts]
        for length in range(len(parts) - 1, 0, -1):
            module = sys.modules.get(".".join(parts[:length]))
            if module is None:
                continue
            if not self._is_complete(module):
                return False, None, None
            value, owner = vars(module).get(parts[length], _ANY), None
            for part in parts[length + 1 :]:
                if value is _ANY or isinstance(value, ModuleType):
                    return False, None, None
                owner, value = value, inspect.getattr_static(value, part, _ANY)
            if value is _ANY:
                return False, None, None
            return True, value, owner
        return False, None, None

    def _add(self, value: Any, name: str, owner: Any = None, read: bool = False) -> None:
        hazard = hazard_of_read(name) if read else hazard_of_call(name)
        if hazard is None or hazard not in GUARDED:
            return

        def forbidden(of: Any = _ANY, called: str = name) -> Forbidden:
            return Forbidden(called, hazard.code, read, of, BARE.get(name), is_of_libraries(name))

        if read:
            # A value that is merely read is not noticed, but for what has methods in Python: os.environ.
            for function in vars(type(value)).values():
                if isinstance(function, FunctionType) and type(value).__module__ == "os":
                    self._add_code(function, forbidden(value))
            return
        of = _ANY
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        elif isinstance(value, MethodType):
            of = _ANY if isinstance(value.__self__, type) else value.__self__
            value = value.__func__
        if isinstance(value, (FunctionType, functools._lru_cache_wrapper)):
            self._add_code(value, forbidden(of))
            if not isinstance(value, FunctionType):
                self._others[id(value)] = value, forbidden()
        elif isinstance(value, type):
            init = vars(value).get("__init__")
            if isinstance(init, FunctionType):
                self._add_code(init, forbidden())
            else:
                self._others[id(value)] = value, forbidden()
        elif isinstance(value, MethodDescriptorType) and owner is not None and not isinstance(owner, type):
            self._add(getattr(owner, value.__name__), name)  # the method of one object, such as sys.stdin
        elif isinstance(value, (MethodDescriptorType, ClassMethodDescriptorType)) or (
            isinstance(value, BuiltinFunctionType) and isinstance(owner, type)
        ):
            self.builtin_names.add(value.__name__)
            self._methods.setdefault(value.__name__, []).append((owner, forbidden()))
        elif isinstance(value, BuiltinFunctionType):
            self.builtin_names.add(value.__name__)
            self._builtins.setdefault(value, forbidden())
        elif callable(value):
            self._others.setdefault(id(value), (value, forbidden(of)))

    def _add_code(self, function: Any, forbidden: Forbidden) -> None:
        plain = inspect.unwrap(function)
        code = getattr(plain, "__code__", None)
        if code is None:
            return
        home = getattr(sys.modules.get(plain.__module__), "__file__", None)
        if home is not None and code.co_filename not in (home, home + "c") and code.co_filename[0] != "<":
            return  # the code of a decorator, which others have too
        self.homes.add(id(plain.__globals__))
        _, all_of_it = self.codes.setdefault(id(code), (code, []))
        if not any(other.name == forbidden.name for other in all_of_it):
            all_of_it.append(forbidden)
            all_of_it.sort(key=lambda each: each.of is _ANY)  # what is known better comes first

    def _add_all_of(self, name: str, owner: Any) -> None:
        """The functions of a module that are its own, or the methods of a type."""
        is_type = isinstance(owner, type)
        # With its other half in C, as socket.socket has.
        holders = [one for one in owner.__mro__ if one.__name__ == owner.__name__] if is_type else [owner]
        for holder in holders:
            kind = holder if is_type else None
            for attribute, value in list(vars(holder).items()):
                home = getattr(value, "__module__", None) or name
                its_own = kind is not None or home in (name, f"_{name}") or home.startswith(f"{name}.")
                if not attribute.startswith("_") and its_own and _is_function(value):
                    self._add(value, f"{name}.{attribute}", kind)


def _is_function(value: Any) -> bool:
    return isinstance(value, _FUNCTIONS) or type(value).__name__ == "cython_function_or_method"


_FUNCTIONS = (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    classmethod,
    functools._lru_cache_wrapper,
    staticmethod,
)


def _real_name(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{_MADE_BY[head]}.{last}" if head in _MADE_BY else name
