"""Whose doing a call is: the frames from it out to the orchestrator."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from typing import TYPE_CHECKING

from dt_testkit.guard.instructions import UNKNOWN, arguments_given, last_argument
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from types import FrameType

    from dt_testkit.guard.table import Forbidden, Table

# What these do is theirs, and not the orchestrator's, whoever calls them: the harness and the SDK, logging,
# imports, what shows warnings and source, test runners, tracers, the time zone database.
_EXEMPT = frozenset(
    [
        "dt_testkit",
        "durabletask",
        "grpc",
        "logging",
        "importlib",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "pkgutil",
        "zipimport",
        "linecache",
        "traceback",
        "warnings",
        "tokenize",
        "inspect",
        "unittest",
        "_pytest",
        "pytest",
        "pluggy",
        "xdist",
        "execnet",
        "coverage",
        "pdb",
        "bdb",
        "_pydev_bundle",
        "_pydevd_bundle",
        "pydevd",
        "debugpy",
        "hypothesis",
        "cProfile",
        "profile",
        "zoneinfo",
        "tzdata",
        "pytz",
        "tzlocal",
        "encodings",
        "codecs",
        "weakref",
        "_weakrefset",
        "_strptime",
        "opentelemetry",
        "gettext",
    ]
)
# A parser of dateutil's asks for the day whatever it is given, and needs it for few texts.
_EXEMPT_BELOW = (
    "google.protobuf",
    "dateutil.tz",
    "dateutil.zoneinfo",
    "dateutil.parser",
    "pendulum.tz",
    "pandas.compat",
    "pydantic.plugin",
    "http.cookiejar",
)
_LIBRARIES = tuple(
    {
        os.path.realpath(path).rstrip(os.sep) + os.sep
        for path in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            site.getusersitepackages() if site.ENABLE_USER_SITE else "",
        )
        if path
    }
    | {
        path.rstrip(os.sep) + os.sep
        for path in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
        if path
    }
)
_PACKAGES = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"

# What is made of a text, as the methods of dataclasses are, has no place of its own.
_MADE = ("<string>", "<attrs", "<frozen ", "<__array_function__")


def is_exempt(name: str) -> bool:
    """Whether a module of that name is one whose doings are its own."""
    return name.partition(".")[0] in _EXEMPT or name.startswith(_EXEMPT_BELOW)


def _root_of(file: str) -> str | None:
    """The package in a library directory that a file belongs to; None where it is the project's."""
    for packages in _PACKAGES:
        head, found, rest = file.rpartition(packages)
        if found:
            return head + found + rest.partition(os.sep)[0]
    for library in _LIBRARIES:
        if file.startswith(library):
            return library + file[len(library) :].partition(os.sep)[0]
    return None


def route_of(frame: FrameType | None, table: Table) -> list[FrameType] | None:
    """The frames from a call out to the orchestrator, innermost first; None where it is not its doing."""
    frames: list[FrameType] = []
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name == "dt_testkit.guard.engine":
            return frames or None
        if frame.f_code.co_name == "__del__":
            return None  # it runs when it likes
        if is_exempt(name) and not frame.f_code.co_filename.startswith("<doctest"):
            return None
        if table.of_frame(frame) is not None:
            return None  # what a forbidden call does in turn has been judged with it
        frames.append(frame)
        frame = frame.f_back
    return None


def users_frames(frames: list[FrameType]) -> list[FrameType]:
    """Those of the project: of no library, or of the one that the orchestrator itself is in."""
    own = _root_of(frames[-1].f_code.co_filename)
    return [
        frame
        for frame in frames
        if frame is frames[-1]
        or (
            not frame.f_code.co_filename.startswith(_MADE)
            and _root_of(frame.f_code.co_filename) in (None, own)
        )
    ]


def is_near(forbidden: Forbidden, frames: list[FrameType], users: list[FrameType], first: object) -> bool:
    """Whether what libraries do for themselves is done here by the project."""
    if frames[0] is not users[0] or frames[0].f_code.co_name == "__hash__":
        return False
    if forbidden.name != "hash":
        return True
    return not _has_a_fixed_hash(last_argument(frames[0]) if first is UNKNOWN else first)


def is_seeded_by_numpy(forbidden: Forbidden, caller: FrameType) -> bool:
    """Whether this is ``RandomState(7)``, which first draws a seed of its own, and then takes that one."""
    return (
        forbidden.name in ("secrets.randbits", "random.SystemRandom.getrandbits")
        and "RandomState" in caller.f_code.co_names
        and arguments_given(caller, caller.f_lasti) != 0
    )


def _has_a_fixed_hash(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_has_a_fixed_hash, value))  # type: ignore[call-overload]
    return type(value) in (int, float, bool, complex)


def location_of(frame: FrameType) -> Location:
    location = Location.of((frame.f_code, frame.f_lasti))
    assert location is not None
    return location


def text_of_route(frames: list[FrameType], users: list[FrameType]) -> tuple[str, ...]:
    """How the orchestrator got there: places in the project, and the names of what libraries call."""
    route = []
    for frame in reversed(frames):
        if frame in users:
            place = location_of(frame)
            route.append(f"{place.file}:{place.line} {place.function}")
        else:
            route.append(f"{frame.f_globals.get('__name__')}.{function_of(frame)}")
    return tuple(route)


def function_of(frame: FrameType) -> str:
    """Its qualified name. Code knows it from Python 3.11 on; before, a method is looked up by its object."""
    code = frame.f_code
    if sys.version_info < (3, 11) and code.co_argcount:
        owner = frame.f_locals.get(code.co_varnames[0])
        for kind in (owner if isinstance(owner, type) else type(owner)).__mro__:
            method = vars(kind).get(code.co_name)
            if getattr(getattr(method, "__func__", method), "__code__", None) is code:
                return f"{kind.__qualname__}.{code.co_name}"
    return location_of(frame).function


def is_harness(file: str) -> bool:
    """Whether nothing in a file can be an orchestrator's doing; for what is asked of each code object."""
    return file.startswith(_HARNESS)


_HARNESS = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    "<frozen importlib",
    "<frozen zipimport",
    "<frozen abc>",
    # What these call is judged by what they do it with, or by their own name.
    *(
        os.path.join(sysconfig.get_path("stdlib"), *name.split("/"))
        for name in (
            [
                "logging/",
                "importlib/",
                "json/",
                "linecache.py",
                "traceback.py",
                "warnings.py",
                "tokenize.py",
                "abc.py",
                "enum.py",
                "typing.py",
                "inspect.py",
                "contextlib.py",
                "threading.py",
                "copy.py",
            ]
        )
    ),
    *(
        os.path.join(path, *name.split("/"))
        for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        for name in ("durabletask/", "grpc/", "google/protobuf/", "_pytest/", "pluggy/", "coverage/")
    ),
)
