"""Calls and reads of what is outside of the project that the table of hazards knows; async code."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from dt_testkit.hazards import hazard_of_call, hazard_of_read
from dt_testkit.lint import expressions
from dt_testkit.lint.frame import Frame
from dt_testkit.lint.project import root_name
from dt_testkit.lint.rules import order
from dt_testkit.lint.values import NONE, Const, External, Made, Value, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dt_testkit.lint.interpreter import Interpreter
    from dt_testkit.lint.project import FunctionInfo

_ALLOWING = frozenset(
    f"{module}.allow_nondeterminism"
    for module in ("dt_testkit", "dt_testkit.determinism", "dt_testkit.guard", "dt_testkit.guard.guard")
)


def external_call(
    it: Interpreter, frame: Frame, node: ast.AST, name: str, args: Sequence[Value], keywords: dict[str, Value]
) -> bool:
    """Something from outside the project is called; returns whether that is a hazard."""
    hazard = hazard_of_call(name)
    if hazard is None or _is_harmless(name, args, keywords):
        order.external_order(it, frame, node, name, args)
        return False
    if hazard.code == "DT116" and (frame.guarded or not frame.in_run):
        return False
    if not frame.in_run and hazard.code in ("DT104", "DT105", "DT110") and _is_resource(name):
        return False  # to make a client when the module is imported is fine; to use it is not
    if order.order_of(args) and name not in order.ORDER_FREE:
        order.external_order(it, frame, node, name, args)
    it.reports.add(frame, node, hazard.code, shown(name))
    return True


def shown(name: str) -> str:
    """A call of this name, as it is told."""
    name = name.replace(".__call__", "")
    made = name.removesuffix(".__enter__")
    return f"`with {made}()`" if made != name else f"`{name}()`"


def _is_resource(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last[:1].isupper() or last in (
        "create_engine",
        "create_async_engine",
        "sessionmaker",
        "async_sessionmaker",
        "scoped_session",
        "__call__",
        "client",
        "resource",
        "connect",
        "from_url",
        "from_env",
        "session",
    )


def _is_harmless(name: str, args: Sequence[Value], keywords: dict[str, Value]) -> bool:
    values = [*args, *keywords.values()]
    if name in ("random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "random.seed"):
        return name != "random.seed" and bool(values) and not any(v == Const("NoneType") for v in values)
    if name in ("time.localtime", "time.gmtime", "time.ctime", "time.asctime", "email.utils.formatdate"):
        return bool(values)
    if name == "time.strftime":
        return len(values) > 1
    if name in ("hash",):
        return bool(args) and all(
            (isinstance(one, Const) and one.type in ("int", "float", "bool", "NoneType"))
            or (isinstance(one, Made) and one.of in ("int", "float", "bool"))
            for one in each(args[0])
        )
    if name == "numpy.random.SeedSequence":
        return bool(values)
    if name == "print":
        return "file" in keywords and not isinstance(keywords["file"], External)
    if name == "zipfile.ZipFile" or name == "tarfile.open":
        return any(isinstance(one, Made) and one.of.startswith("io.") for v in values for one in each(v))
    if name == "io.open":
        return False
    return False


def allows(it: Interpreter, frame: Frame, node: ast.expr) -> bool:
    """Whether what `with` enters is allow_nondeterminism; it wants a reason, as an ignore does."""
    if not isinstance(node, ast.Call) or root_name(node.func) is None:
        return False
    function = expressions.evaluate(it, frame, node.func)
    if not any(isinstance(one, External) and one.name in _ALLOWING for one in each(function)):
        return False
    reasons = [*node.args, *(keyword.value for keyword in node.keywords)]
    given = [expressions.evaluate(it, frame, reason) for reason in reasons]
    if not any(one != NONE and not _is_blank(one) for value in given for one in each(value)):
        it.reports.add(
            frame, node, "DT902", "",
            "an `allow_nondeterminism` without a reason: it raises when it is run; say why that is safe: "
            "`allow_nondeterminism(\"only in a log line\")`.",
        )  # fmt: skip
    return True


def _is_blank(value: Value) -> bool:
    return isinstance(value, Const) and isinstance(value.value, str) and not value.value.strip()


def external_read(it: Interpreter, frame: Frame, node: ast.AST, name: str) -> None:
    hazard = hazard_of_read(name)
    if hazard is not None:
        it.reports.add(frame, node, hazard.code, f"`{name}`")


def concurrency(it: Interpreter, frame: Frame, node: ast.AST, name: str) -> None:
    if frame.in_run:
        it.reports.add(frame, node, "DT110", f"`{name}()` is async")


def orchestrator(it: Interpreter, info: FunctionInfo) -> None:
    if isinstance(info.node, ast.AsyncFunctionDef):
        from dt_testkit.lint.values import Env

        frame = Frame(info, info.module, Env(info.scope), (), info.name)
        it.reports.add(frame, info.node, "DT110", f"`{info.name}` is an async orchestrator")
