"""The globals that a function goes by, and what the project's functions that it calls go by."""

from __future__ import annotations

import copy
import dis
import sys
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from dt_testkit.determinism.modules import file_of, is_of_the_project

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def globals_of(code: CodeType) -> Iterator[tuple[str, bool]]:
    """The globals that code goes by, and whether it gives them another value."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL"):
            yield instruction.argval, instruction.opname == "STORE_GLOBAL"
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from globals_of(each)


def values_reached(functions: Iterable[Any]) -> dict[str, Any]:
    """Simple values that functions go by: those of the project's modules."""
    found: dict[str, Any] = {}
    functions, seen = list(functions), set()
    while functions:
        function = functions.pop()
        function = getattr(function, "__wrapped__", function)
        if not isinstance(function, FunctionType) or function in seen or not _is_own(function.__module__):
            continue
        seen.add(function)
        for name in dict(globals_of(function.__code__)):
            value = function.__globals__.get(name)
            places = [(function.__module__, name, value)]
            if isinstance(value, ModuleType) and _is_own(value.__name__):
                names = {*_names(function.__code__)} & vars(value).keys()
                places = [(value.__name__, each, getattr(value, each)) for each in sorted(names)]
            for module, name, value in places:
                if isinstance(value, FunctionType):
                    functions.append(value)
                elif name in vars(sys.modules[module]) and _is_simple(value):
                    found[f"`{name}` of {module}"] = copy.deepcopy(value)
    return found


def _is_own(module: str | None) -> bool:
    return is_of_the_project(file_of(sys.modules.get(module or "")))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _is_simple(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_is_simple, [*value.keys(), *value.values()]))
    if type(value) in (list, tuple):
        return all(map(_is_simple, value))
    return value is None or type(value) in (bool, int, float, complex, str, bytes)
