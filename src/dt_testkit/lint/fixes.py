"""The fixes that are mechanical: each replaces one expression, and adds an import where it needs one."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dt_testkit.lint.interpreter import Frame


@dataclass(frozen=True)
class Fix:
    """What to put in the place of a piece of source; lines count from 1, columns are bytes from 0."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    import_: str = ""


def fix_for(code: str, what: str, node: ast.AST, frame: Frame) -> Fix | None:
    """The fix of a finding, if it is mechanical and the context is at hand."""
    from dt_testkit.lint.values import Context

    if (
        not isinstance(node, ast.Call)
        or code not in ("DT101", "DT103", "DT104")
        or not _has_places(node, frame)
    ):
        return None
    contexts = [
        name for name, value in frame.env.names.items() if isinstance(value, Context) and name.isidentifier()
    ]
    if not contexts:
        return None
    ctx = contexts[0]
    if code == "DT101" and what in ("`datetime.datetime.utcnow()`", "`datetime.datetime.now()`"):
        if what.startswith("`datetime.datetime.now") and not _is_utc(node):
            return None
        return _replace(node, f"{ctx}.current_utc_datetime")
    parent = _parents(frame).get(node)
    if code == "DT103" and what == "`uuid.uuid4()`":
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "str":
            return (
                _replace(parent, f"{ctx}.new_uuid()")
                if len(parent.args) == 1 and not parent.keywords
                else None
            )
        if isinstance(parent, ast.FormattedValue) and parent.conversion == -1 and parent.format_spec is None:
            return _replace(node, f"{ctx}.new_uuid()")
        return None
    if code == "DT104" and what == "`time.sleep()`" and isinstance(parent, ast.Expr) and frame.delegated:
        if len(node.args) != 1 or node.keywords or frame.info is None or not frame.info.is_generator:
            return None
        seconds = ast.get_source_segment(frame.module.source, node.args[0])
        name, import_ = _timedelta(frame)
        return _replace(node, f"yield {ctx}.create_timer({name}(seconds={seconds}))", import_)
    return None


def _is_utc(node: ast.Call) -> bool:
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return len(given) == 1 and ast.unparse(given[0]).endswith(("timezone.utc", "UTC"))


def _replace(node: ast.Call, text: str, import_: str = "") -> Fix:
    end = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return Fix((node.lineno, node.col_offset), end, text, import_)


def _has_places(node: ast.Call, frame: Frame) -> bool:
    """Whether the place of a node is right: inside an f-string it may be wrong before Python 3.12."""
    segment = ast.get_source_segment(frame.module.source, node) or ""
    try:
        return ast.dump(ast.parse(segment, mode="eval").body) == ast.dump(node)
    except SyntaxError:
        return False


def _parents(frame: Frame) -> dict[ast.AST, ast.AST]:
    tree = frame.info.node if frame.info is not None else frame.module.tree
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _timedelta(frame: Frame) -> tuple[str, str]:
    """How timedelta is called in the module, and the import that is missing."""
    from dt_testkit.lint.project import Imported

    for name, bindings in frame.module.scope.bindings.items():
        for binding in bindings:
            if isinstance(binding, Imported) and binding.module == "datetime" and not binding.level:
                if binding.attribute == "timedelta":
                    return name, ""
                if binding.attribute is None:
                    return f"{name}.timedelta", ""
    return "timedelta", "from datetime import timedelta"


def apply(path: Path, fixes: Iterable[Fix]) -> int:
    """Write the fixes into a file; returns how many. Nothing else in it changes."""
    raw = path.read_bytes()
    lines = raw.splitlines(keepends=True)
    done, imports = 0, set()
    last = (len(lines) + 1, 0)
    for fix in sorted(set(fixes), key=lambda fix: fix.start, reverse=True):
        if fix.end > last:
            continue
        first, end = lines[fix.start[0] - 1], lines[fix.end[0] - 1]
        lines[fix.start[0] - 1 : fix.end[0]] = [first[: fix.start[1]] + fix.text.encode() + end[fix.end[1] :]]
        last = fix.start
        done += 1
        if fix.import_:
            imports.add(fix.import_)
    source = b"".join(lines)
    for text in imports:
        at = _after_docstring(source)
        rows = source.splitlines(keepends=True)
        newline = b"\r\n" if rows and rows[0].endswith(b"\r\n") else b"\n"
        source = b"".join([*rows[:at], text.encode() + newline, *rows[at:]])
    ast.parse(source)
    if done:
        path.write_bytes(source)
    return done


def _after_docstring(source: bytes) -> int:
    """The line after which an import goes: the last import before anything else, or the docstring."""
    rows = source.splitlines()
    line = next((number for number, row in enumerate(rows) if not row.startswith(b"#")), len(rows))
    for node in ast.parse(source).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not isinstance(node, ast.Import | ast.ImportFrom):
            break
        line = node.end_lineno or line
    return line
