"""The fixes that are mechanical: each replaces one expression, and adds an import where it needs one."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import TYPE_CHECKING

from dt_testkit.lint.imports import without_unused
from dt_testkit.lint.project import Imported, Scope
from dt_testkit.lint.values import Context, each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dt_testkit.lint.frame import Frame

_UTC = re.compile(r"(\w+\.)*(timezone\.utc|UTC)")
_NO_VALUE = (ast.Starred, ast.NamedExpr, ast.GeneratorExp)
"""What cannot be the value of a keyword argument."""


@dataclass(frozen=True)
class Fix:
    """What to put in the place of a piece of source; lines count from 1, columns are bytes from 0."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    import_: str = ""
    code: str = ""


@dataclass(frozen=True)
class Rewritten:
    """A file with its fixes, and what it was before; `done` are those that went in, by line."""

    shown: str
    before: str
    after: str
    done: tuple[Fix, ...]

    def told(self) -> Iterator[str]:
        """Each fix in a line: where, which code, and what became what."""
        rows = self.before.encode().splitlines()
        for fix in self.done:
            first, last = fix.start[0] - 1, fix.end[0] - 1
            old = [*rows[first:last], rows[last][: fix.end[1]]]
            old[0] = old[0][fix.start[1] :]
            was, now = (" ".join(text.split()) for text in (b" ".join(old).decode(), fix.text))
            import_ = f" ({fix.import_})" if fix.import_ else ""
            yield f"{self.shown}:{fix.start[0]} {fix.code} {was} -> {now}{import_}"

    def diff(self) -> str:
        """What changed, as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        lines = unified_diff(before, after, f"a/{self.shown}", f"b/{self.shown}")
        return "\n".join(line.rstrip("\r\n") for line in lines)


def fix_for(code: str, what: str, node: ast.AST, frame: Frame) -> Fix | None:
    """The fix of a finding, if it is mechanical and the context is at hand."""
    ctx = _context(frame)
    return _fix_with(ctx, code, what, node, frame) if ctx else None


def wants_context(code: str, what: str, node: ast.AST, frame: Frame) -> bool:
    """Whether there would be a fix if the helper that a finding is in had the context."""
    known = frame.env.names.values()
    is_named = frame.info is not None and not isinstance(frame.info.node, ast.Lambda)
    return (
        is_named
        and not any(isinstance(one, Context) for value in known for one in each(value))
        and _fix_with("ctx", code, what, node, frame) is not None
    )


def _fix_with(ctx: str, code: str, what: str, node: ast.AST, frame: Frame) -> Fix | None:
    if not isinstance(node, ast.Call) or code not in ("DT101", "DT103", "DT104"):
        return None
    source = _source_of(node, frame)
    if not source:
        return None
    parent = _parents(frame).get(node)
    fix = None
    if code == "DT101":
        fix = _clock(what, node, source, ctx)
    elif code == "DT103" and what == "`uuid.uuid4()`":
        fix = _uuid(node, parent, ctx, frame)
    elif code == "DT104" and what == "`time.sleep()`" and isinstance(parent, ast.Expr):
        fix = _sleep(node, source, ctx, frame)
    return replace(fix, code=code) if fix is not None else None


def _clock(what: str, node: ast.Call, source: str, ctx: str) -> Fix | None:
    if "#" in source:
        return None
    if what == "`datetime.datetime.utcnow()`":
        return _replace(node, f"{ctx}.current_utc_datetime")
    if what == "`datetime.datetime.now()`":  # of which the local time cannot be told from the history
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if len(given) == 1 and _UTC.fullmatch(zone := ast.unparse(given[0])):
            return _replace(node, f"{ctx}.current_utc_datetime.replace(tzinfo={zone})")
    return None


def _uuid(node: ast.Call, parent: ast.AST | None, ctx: str, frame: Frame) -> Fix | None:
    """Where a string is wanted: `new_uuid()` gives one."""
    if parent is None or "#" in (ast.get_source_segment(frame.module.source, parent) or "#"):
        return None
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "str":
        alone = parent.args == [node] and not parent.keywords
        return _replace(parent, f"{ctx}.new_uuid()") if alone else None
    if isinstance(parent, ast.FormattedValue) and parent.conversion == -1 and parent.format_spec is None:
        return _replace(node, f"{ctx}.new_uuid()")
    return None


def _sleep(node: ast.Call, source: str, ctx: str, frame: Frame) -> Fix | None:
    """Where the orchestrator, or a helper that it delegates to, can wait for a timer."""
    if not frame.delegated or frame.info is None or not frame.info.is_generator:
        return None
    if len(node.args) != 1 or node.keywords or isinstance(node.args[0], _NO_VALUE):
        return None
    function = ast.get_source_segment(frame.module.source, node.func) or "("
    arguments = source.removeprefix(function).lstrip()
    name, import_ = _timedelta(frame)
    if not source.startswith(function) or not arguments.startswith("(") or not name:
        return None
    return _replace(node, f"yield {ctx}.create_timer({name}(seconds={arguments[1:]})", import_)


def _replace(node: ast.Call, text: str, import_: str = "") -> Fix:
    end = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return Fix((node.lineno, node.col_offset), end, text, import_)


def _source_of(node: ast.Call, frame: Frame) -> str:
    """The source of a call; nothing if its place is wrong, as in an f-string before Python 3.12."""
    source = ast.get_source_segment(frame.module.source, node) or ""
    try:
        same = ast.dump(ast.parse(f"({source}\n)", mode="eval").body) == ast.dump(node)
    except SyntaxError:
        return ""
    return source if same else ""


def _context(frame: Frame) -> str:
    """The name of the context; nothing if a caller may leave it out."""
    optional = frame.info.defaults if frame.info is not None else {}
    names = frame.env.names.items()
    found = (name for name, value in names if isinstance(value, Context) and name.isidentifier())
    return next((name for name in found if name not in optional), "")


def _parents(frame: Frame) -> dict[ast.AST, ast.AST]:
    tree = frame.info.node if frame.info is not None else frame.module.tree
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _timedelta(frame: Frame) -> tuple[str, str]:
    """How timedelta is called, and the import that is missing; nothing if its name means something else."""
    for statement in frame.module.tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        for alias in statement.names:
            name = alias.asname or alias.name
            if isinstance(statement, ast.Import) and alias.name == "datetime" and _is_imported(frame, name):
                return f"{name}.timedelta", ""
            if alias.name == "timedelta" and _is_imported(frame, name):
                return name, ""
    free = _is_imported(frame, "timedelta") or not any("timedelta" in s.bindings for s in _scopes(frame))
    return ("timedelta", "from datetime import timedelta") if free else ("", "")


def _is_imported(frame: Frame, name: str) -> bool:
    """Whether a name is of the datetime module, and nothing else."""
    bound = [binding for scope in _scopes(frame) for binding in scope.bindings.get(name, [])]
    wanted = (Imported("datetime", 0, None), Imported("datetime", 0, "timedelta"))
    return bool(bound) and all(binding in wanted for binding in bound)


def _scopes(frame: Frame) -> Iterable[Scope]:
    scope: Scope | None = frame.env.scope
    while scope is not None:
        yield scope
        scope = scope.parent


def apply(path: Path, shown: str, fixes: Iterable[Fix], *, write: bool) -> Rewritten:
    """Put the fixes into a file. Nothing else in it changes."""
    raw = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    before = raw.decode(encoding)
    newline = match[0] if (match := re.search(r"\r\n|\r|\n", before)) else "\n"
    lines = before.encode().splitlines(keepends=True)
    done: list[Fix] = []
    imports: set[str] = set()
    last = (len(lines) + 1, 0)
    for fix in sorted(set(fixes), key=lambda fix: fix.start, reverse=True):
        if fix.end > last:
            continue
        first, end = lines[fix.start[0] - 1], lines[fix.end[0] - 1]
        text = fix.text.replace("\n", newline).encode()
        lines[fix.start[0] - 1 : fix.end[0]] = [first[: fix.start[1]] + text + end[fix.end[1] :]]
        last = fix.start
        done.insert(0, fix)
        if fix.import_:
            imports.add(fix.import_)
    source = b"".join(lines)
    for import_ in imports:
        at = _after_docstring(source)
        rows = source.splitlines(keepends=True)
        source = b"".join([*rows[:at], (import_ + newline).encode(), *rows[at:]])
    try:
        if path.name != "__init__.py":  # of which imports are for others
            source = without_unused(before, source.decode()).encode()
        ast.parse(source.decode())
    except SyntaxError:  # rather leave it than break it
        return Rewritten(shown, before, before, ())
    if done and write:
        path.write_bytes(source.decode().encode(encoding))
    return Rewritten(shown, before, source.decode(), tuple(done))


def _after_docstring(source: bytes) -> int:
    """The line after which an import goes: the last import before anything else, or the docstring."""
    rows = source.splitlines()
    line = next((number for number, row in enumerate(rows) if not row.startswith(b"#")), len(rows))
    for node in ast.parse(source.decode()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not isinstance(node, ast.Import | ast.ImportFrom):
            break
        line = node.end_lineno or line
    return line
