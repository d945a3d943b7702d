"""Puts something else in the place of functions: where they live, and wherever they were imported to."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import update_wrapper
from types import FunctionType
from typing import TYPE_CHECKING, Any

from dt_testkit.determinism.modules import project_modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Prefixes of modules that keep what they have: waiting with a timeout needs the clock as it is, and the
# harness and the SDK are not what is looked at.
_LEFT_ALONE = (
    "threading",
    "queue",
    "multiprocessing",
    "_pytest.",
    "six.moves",
    "durabletask.",
    "dt_testkit.",
    "freezegun.",
)

_holding: dict[str, tuple[int, int, list[str]]] = {}
"""Names that a module has one of the functions by; looked at again when it holds more or fewer names."""


@contextmanager
def replaced(
    fakes: Iterable[tuple[Any, str, Any]], namespaces: Iterable[dict[str, Any]], *, libraries: bool = False
) -> Iterator[None]:
    """Replace attributes of modules, wherever the project has imported them; or any library, if told so."""
    pairs: list[tuple[Any, Any]] = []
    homes: list[tuple[Any, str, Any]] = []
    try:
        for home, name, fake in fakes:
            original = vars(home).get(name)
            homes.append((home, name, original))
            if callable(original):
                pairs.append((original, fake))
                if isinstance(fake, FunctionType):
                    update_wrapper(fake, original)  # its name may be asked for
                    del vars(fake)["__wrapped__"]
            setattr(home, name, fake)
        with swapped(pairs, namespaces, libraries=libraries):
            yield
    finally:
        for home, name, original in reversed(homes):
            setattr(home, name, original)


@contextmanager
def swapped(
    pairs: Iterable[tuple[Any, Any]],
    namespaces: Iterable[dict[str, Any]],
    *,
    libraries: bool = False,
    everything: bool = False,
) -> Iterator[None]:
    """Let names that stand for the first of a pair stand for the second.

    In the project's modules and the given namespaces; in libraries that are loaded, if told so; or in
    everything that is loaded, Python's own modules and the SDK among it.
    """
    pairs = list(pairs)
    by_id = {id(original): other for original, other in pairs}
    backwards = {id(other): original for original, other in pairs}
    before = set(sys.modules)
    undo: list[tuple[dict[str, Any], str, Any]] = []
    spaces = [(space, list(space)) for space in (vars(module) for module in project_modules().values())]
    spaces += [(space, list(space)) for space in namespaces]
    if everything:
        spaces += [(space, list(space)) for _, space in _loaded(("freezegun.",))]
    elif libraries:
        spaces += [(space, _names(name, space, by_id)) for name, space in _loaded(_LEFT_ALONE)]
    try:
        for space, names in spaces:
            for name in names:
                value = space.get(name)
                if id(value) in by_id:
                    undo.append((space, name, value))
                    space[name] = by_id[id(value)]
        yield
    finally:
        for space, name, value in reversed(undo):
            space[name] = value
        for module in set(sys.modules) - before:  # what was imported meanwhile has imported the others
            space = getattr(sys.modules[module], "__dict__", {})
            for name, value in list(space.items()):
                if id(value) in backwards:
                    space[name] = backwards[id(value)]


def _loaded(but: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, module in list(sys.modules.items()):
        space = getattr(module, "__dict__", None)
        if isinstance(space, dict) and not name.startswith(but):
            yield name, space


def _names(module: str, space: dict[str, Any], by_id: dict[int, Any]) -> list[str]:
    known = _holding.get(module)
    if known is None or known[:2] != (id(space), len(space)):
        names = [name for name, value in space.items() if id(value) in by_id]
        known = _holding[module] = id(space), len(space), names
    return known[2]
