"""Orders that are not fixed: sets, and directories that are listed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.lint.values import Collection, Made, Value, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.frame import Frame
    from dt_testkit.lint.interpreter import Interpreter

ORDER_FREE = frozenset(
    ["sorted", "len", "set", "frozenset", "sum", "min", "max", "any", "all", "bool", "isinstance", "type"]
)
"""Builtins whose result does not depend on the order of what they are given."""
_ORDERING = frozenset(
    [
        "list",
        "tuple",
        "enumerate",
        "iter",
        "map",
        "filter",
        "zip",
        "next",
        "reversed",
        "dict",
        "dict.fromkeys",
    ]
)
_LISTINGS = frozenset(
    [
        "os.listdir",
        "os.scandir",
        "os.walk",
        "pathlib.Path.iterdir",
        "pathlib.Path.glob",
        "pathlib.Path.rglob",
        "glob.glob",
        "glob.iglob",
    ]
)


def external_order(it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value]) -> None:
    if name in _ORDERING or name.startswith("itertools.") or name.endswith((".extend", ".fromkeys")):
        for value in args:
            if name in ("enumerate", "zip", "iter", "reversed", "filter"):
                continue  # whatever goes through its result is told
            ordered_use(it, frame, node, value, f"`{name}()`")


def order_of(args: Sequence[Value]) -> bool:
    return any(is_unordered(value) for value in args)


def is_unordered(value: Value) -> bool:
    return any(
        (isinstance(one, Collection) and one.unordered) or (isinstance(one, Made) and one.of in _LISTINGS)
        for one in each(value)
    )


def ordered_use(
    it: Interpreter, frame: Frame, node: ast.AST, value: Value, how: str, loop: ast.For | None = None
) -> None:
    """Something is gone through in its order."""
    if not frame.in_run:
        return
    if is_unordered(value):
        listing = any(isinstance(one, Made) for one in each(value))
        it.reports.add(frame, node, "DT108", f"{how} goes through {'a directory' if listing else 'a set'}")
    elif (
        loop is not None
        and any(isinstance(one, Collection) and one.type in ("dict", "view") for one in each(value))
        and any(
            isinstance(inner, ast.Yield | ast.YieldFrom) for part in loop.body for inner in ast.walk(part)
        )
    ):
        it.reports.note(
            frame, node, "DT108",
            "a loop with a yield goes through a dictionary: it keeps the order in which it was filled, "
            "so make sure that this is the same on every replay.",
        )  # fmt: skip
