"""A pytest plugin that notes which test exercises which member of the SDK: ``-p coverage_recorder``.

A test exercises a member if it passes and, while it runs,

- its own code, or that of the application it tests (what lies below the root directory, is not installed and
  not the harness), calls the method and the call returns, or gives the attribute a value that is
  not its default, or reads one that is not None;
- a parameter: the call gives it a value that is not its default;
- a member of an enum: such a call or attribute takes it or yields it;
- a method that the application implements, of an abstract class or protocol: the SDK or the harness calls it;
- an exception, or a class with nothing of its own: the SDK or the harness makes one, or one of a subclass.

Everything runs on the harness: the context is its own (what the SDK's own context is asked for does not
count), ``TaskHub`` counts for the worker, and the SDK's in-memory backend refuses to start.
``--coverage-record FILE`` is the JSON file to write: each member with its tests.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import pkgutil
import sys
import sysconfig
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from _pytest.runner import runtestprotocol
from sdk_surface import constructor_key, function_of, key_of, members, own_names, public_objects

NOTHING: Any = object()
R = TypeVar("R", bound="Recorder")


class Member(NamedTuple):
    """A method, property or function that is watched.

    ``parameters`` are the keys of its parameters; ``inward``: the SDK or the harness calls it.
    """

    function: Callable[..., Any]
    key: str
    signature: inspect.Signature
    parameters: dict[str, str]
    inward: bool
    is_read: bool

    def given(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments of a call that are not the default."""
        return {
            name: value
            for name, value in self.signature.bind(*args, **kwargs).arguments.items()
            if value is not (default := self.signature.parameters[name].default)
            and (type(value) is not type(default) or value != default)
        }


class Recorder:
    """Wraps classes and functions in place, and notes what the running test does with them."""

    def __init__(self, objects: dict[str, Any], root: Path) -> None:
        import dt_testkit

        self.objects = objects
        self.members = set(members(objects))
        self.tests: dict[str, set[str]] = {key: set() for key in self.members}
        self.current: set[str] = set()
        self._root = str(root) + os.sep
        others = (str(Path(dt_testkit.__file__).parent), *map(sysconfig.get_path, ("purelib", "platlib")))
        self._others = tuple(other + os.sep for other in others)

    def is_theirs(self, filename: str) -> bool:
        """Whether a source file belongs to the tests, or to the application under test."""
        return filename.startswith(self._root) and not filename.startswith(self._others)

    def note(self, key: str, value: Any = None) -> None:
        self.current.add(key)
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, Enum):
                self.current.add(f"{type(each).__name__}.{each.name}")

    # -- what the wrapped classes and functions tell

    def called(self, member: Member, caller: str, args: Any, kwargs: Any) -> Callable[[], Any]:
        """What to call in the place of a method or function that code in the file ``caller`` calls."""
        return functools.partial(member.function, *args, **kwargs)

    def returned(self, result: Any, member: Member, caller: str, args: Any, kwargs: Any) -> Any:
        """The result of that call, for the caller."""
        if self.counts(member, caller) and not (member.is_read and result is None):
            self.note(member.key, result)
            for name, value in member.given(args, kwargs).items():
                self.note(member.parameters[name], value)
        return result

    def counts(self, member: Member, caller: str) -> bool:
        return self.is_theirs(caller) is not member.inward

    def read(self, key: str, value: Any) -> Any:
        """The value of an attribute that their code reads."""
        if value is not None:
            self.note(key, value)
        return value

    def made(self, key: str, instance: Any) -> None:
        """The SDK or the harness has made an instance of a class."""
        self.note(key)

    # -- what pytest tells

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Open a world for each scenario: what its application does counts for each, not for the first."""
        if "world" not in getattr(item, "fixturenames", ()):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=None)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_runtest_logstart(self) -> None:
        self.current = set()
        self._outcomes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._outcomes.append(report.outcome)
        if report.when == "teardown" and self._outcomes == ["passed"] * 3:
            for key in self.current & self.members:
                self.tests[key].add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        recorded = {key: sorted(tests) for key, tests in sorted(self.tests.items())}
        Path(session.config.getoption("coverage_record")).write_text(json.dumps(recorded, indent=1))

    # -- wrapping

    def wrap_all(self) -> None:
        for key, value in self.objects.items():
            if not isinstance(value, type):
                self._replace(value, self._watched(value, key))
            elif not issubclass(value, Enum):
                self.wrap(value)
                for ours in filter(_is_ours, value.__subclasses__()):
                    self.wrap(ours)
                if inspect.isabstract(value) or getattr(value, "_is_protocol", False):
                    self._watch_implementations(value)

    def wrap(
        self, cls: type, named: type | None = None, *, but: tuple[str, ...] = (), inward: bool = False
    ) -> None:
        """Wrap what a class itself defines.

        ``named``: the class of the SDK that it stands in for, ``but`` for some names. ``inward``: the class
        is the application's, and the SDK or the harness calls it.
        """
        named = named or cls
        init = vars(cls).get("__init__")
        for name in own_names(cls):
            key = key_of(named, name)
            held = vars(cls).get(name, NOTHING)
            function = function_of(held)
            if key not in self.members or name in but:
                continue
            if function is None:
                setattr(cls, name, Attribute(self, key, name, held))
            elif isinstance(held, property):
                watched = self._watched(function, key, inward=inward, is_read=True)
                setattr(cls, name, property(watched, held.fset, held.fdel, held.__doc__))
            else:
                watched = self._watched(function, key, inward=inward)
                setattr(cls, name, watched if held is function else type(held)(watched))
        if cls.__name__ in self.members:
            self._watch_making(cls)
        elif init is not None and not inward:
            keys = {name: constructor_key(named, name) for name in inspect.signature(init).parameters}
            cls.__init__ = self._watched(init, named.__name__, keys)  # type: ignore[misc]

    def _watched(
        self,
        function: Callable[..., Any],
        key: str,
        parameters: dict[str, str] | None = None,
        *,
        inward: bool = False,
        is_read: bool = False,
    ) -> Callable[..., Any]:
        signature = inspect.signature(function)
        parameters = parameters or {name: f"{key}({name}=)" for name in signature.parameters}
        member = Member(function, key, signature, parameters, inward, is_read)

        async def awaited(result: Any, *call: Any) -> Any:
            return self.returned(await result, *call)

        done = awaited if inspect.iscoroutinefunction(function) else self.returned
        # A lambda: the harness, which notes where commands are asked for, takes it for a part of its caller.
        return functools.update_wrapper(
            lambda *args, **kwargs: done(
                self.called(member, _caller(), args, kwargs)(), member, _caller(), args, kwargs
            ),
            function,
        )

    def _watch_making(self, cls: type) -> None:
        init: Any = cls.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def made(instance: Any, *args: Any, **kwargs: Any) -> None:
            init(instance, *args, **kwargs)
            if not self.is_theirs(_caller()):
                self.made(cls.__name__, instance)

        cls.__init__ = made  # type: ignore[misc]

    def _watch_implementations(self, cls: type) -> None:
        def implemented(implementation: type, **arguments: Any) -> None:
            super(cls, implementation).__init_subclass__(**arguments)
            if self.is_theirs(str(sys.modules[implementation.__module__].__file__)):
                self.wrap(implementation, inward=True)

        cls.__init_subclass__ = classmethod(implemented)  # type: ignore[assignment]

    @staticmethod
    def _replace(function: Any, watched: Any) -> None:
        """Replace a function in every module that has imported it."""
        for name, module in list(sys.modules.items()):
            if name.startswith(("durabletask", "dt_testkit")):
                for public, value in list(vars(module).items()):
                    if value is function:
                        setattr(module, public, watched)


class Attribute:
    """An attribute of the instances of a class, that notes when it is read."""

    def __init__(self, recorder: Recorder, key: str, name: str, held: Any) -> None:
        self._recorder, self._key, self._name = recorder, key, name
        self._slot = held if inspect.ismemberdescriptor(held) else None
        self._default = held

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None and self._default is not NOTHING:
            return self._default
        if self._slot is not None:
            value = self._slot.__get__(instance, owner)
        else:
            value = getattr(instance, "__dict__", {}).get(self._name, self._default)
        if value is NOTHING:
            raise AttributeError(f"{owner.__name__!r} has no attribute {self._name!r}")
        return self._recorder.read(self._key, value) if self._recorder.is_theirs(_caller()) else value

    def __set__(self, instance: Any, value: Any) -> None:
        if self._slot is not None:
            self._slot.__set__(instance, value)
        else:
            instance.__dict__[self._name] = value

    def __delete__(self, instance: Any) -> None:
        if self._slot is not None:
            self._slot.__delete__(instance)
        else:
            del instance.__dict__[self._name]


def _caller() -> str:
    """The file of the code that called the function that asks."""
    return sys._getframe(2).f_code.co_filename


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("dt_testkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--coverage-record", metavar="FILE", required=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(watch(Recorder, config.rootpath))


def watch(kind: type[R], root: Path) -> R:
    """Wrap the whole surface of the SDK, and what the harness has in its place."""
    from durabletask.testing import InMemoryOrchestrationBackend

    import dt_testkit

    for module in pkgutil.walk_packages(dt_testkit.__path__, "dt_testkit."):
        if not module.name.endswith("__main__"):
            import_module(module.name)

    def refuse(*ignored: Any) -> None:
        raise RuntimeError("The SDK's in-memory backend is not what is recorded.")

    InMemoryOrchestrationBackend.start = refuse
    objects = {key: value for module in public_objects().values() for key, value in module.items()}
    recorder = kind(objects, root)
    recorder.wrap_all()
    for cls in dt_testkit.TaskHub.__mro__:
        if _is_ours(cls):
            # TaskHub.start() starts an instance, and not a worker.
            recorder.wrap(cls, objects["TaskHubGrpcWorker"], but=("start",))
    return recorder
