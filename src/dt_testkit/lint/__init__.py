"""Finds in source what makes orchestrators take another way when they are replayed. Nothing is imported.

`project` holds the modules; `orchestrators` finds where to begin, and what is `registered`. `interpreter`
goes from there through functions: `statements` and `expressions` say what their code does; `names`, `calls`
and `objects` what it means, in `values`. The `rules` look at what is met, and what they find goes through
`collector`, `ignores`, `fixes` and `report`.
"""

from __future__ import annotations

import ast
import gc
import os
import warnings
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dt_testkit.errors import DurableTestError
from dt_testkit.lint import fixes
from dt_testkit.lint.collector import Reports
from dt_testkit.lint.ignores import apply_ignores
from dt_testkit.lint.interpreter import Interpreter
from dt_testkit.lint.orchestrators import find_orchestrators
from dt_testkit.lint.project import Module, Project
from dt_testkit.lint.registered import Registered, is_of_tests
from dt_testkit.lint.report import Finding, Report
from dt_testkit.lint.settings import Settings, check_codes, read_settings
from dt_testkit.lint.values import Function

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Finding", "Report", "fix_paths", "lint_paths"]

_MARKS = (b"rchestrat", b"yield", b"add_activity", b"add_entity", b"add_named_", b"stub(", b"dt:", b"Worker(")
_REGISTERS = (
    b"add_activity",
    b"add_orchestrator",
    b"add_entity",
    b"add_named_",
    b"stub(",
    b"stub_orchestrator(",
)
_SUFFIXES = ("", ".py", ".pyi", ".pyw")
_SKIPPED = frozenset(["__pycache__", "node_modules", "build", "dist", "venv", "site-packages"])


def lint_paths(
    paths: Sequence[str | Path] = (),
    *,
    root: str | Path | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Report:
    """Look for hazards in the orchestrators of files and directories.

    Parameters
    ----------
    paths : Sequence[str | Path]
        Files and directories; none stands for what the settings name, or else the root.
    root : str | Path | None
        The directory that paths in findings are relative to, and up to which imports are looked for; by
        default where pyproject.toml is, or the current directory.
    select, ignore : Sequence[str]
        Codes or their beginnings: the only ones to look for, and those to leave out.

    Raises
    ------
    DurableTestError
        If a path does not exist, or a setting is wrong.
    """
    settings = read_settings(Path(root).resolve() if root is not None else Path.cwd())
    if root is not None:
        settings = replace(settings, root=Path(root).resolve())
    check_codes([*select, *ignore])
    settings = replace(settings, select=list(select) or settings.select, ignore=[*settings.ignore, *ignore])
    with _without_collector():
        return _lint(paths or _default(settings), settings)


def _default(settings: Settings) -> list[Path]:
    return [settings.root / path for path in settings.paths or ["."]]


def _sees_all(asked: list[Path], settings: Settings, registered: Registered, with_tests: bool) -> bool:
    """Whether none of the other files of the project may register something."""
    marks = [*_REGISTERS, *(name.encode() for name in registered.wrappers)]
    for file in set(_files((path for path in _default(settings) if path.exists()), settings)) - set(asked):
        if with_tests or not is_of_tests(os.path.relpath(file, settings.root)):
            try:
                source = file.read_bytes()
            except OSError:
                return False
            if any(mark in source for mark in marks):
                return False
    return True


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees are many objects that stay: to look for garbage costs more than to read them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def fix_paths(report: Report, *, root: str | Path | None = None, write: bool = True) -> list[fixes.Rewritten]:
    """Write the fixes of a report's findings into their files, or only tell what they would be."""
    base = Path(root).resolve() if root is not None else read_settings(Path.cwd()).root
    by_path: dict[str, list[fixes.Fix]] = {}
    for finding in report.findings:
        if finding.fix is not None:
            by_path.setdefault(finding.path, []).append(finding.fix)
    try:
        files = [fixes.apply(base / path, path, found, write=write) for path, found in by_path.items()]
    except OSError as error:
        raise DurableTestError(f"{error.filename} cannot be rewritten: {error.strerror}.") from None
    return [file for file in files if file.done]


def _lint(paths: Iterable[str | Path], settings: Settings) -> Report:
    disabled = settings.disabled
    project = Project(settings.root)
    modules: list[Module] = []
    paths = list(paths)
    files = list(dict.fromkeys(_files(paths, settings)))
    if not files:
        where = ", ".join(map(str, paths))
        raise DurableTestError(f"There is no Python source under {where}: name files or directories of it.")
    for file in files:
        if not _may_matter(file):
            continue
        module = project.load(file)
        if module is not None:
            modules.append(module)
    reports = Reports(disabled)
    interpreter = Interpreter(project, reports)
    orchestrators, interpreter.registered = find_orchestrators(interpreter, modules)
    interpreter.registered.sees_all = cache(partial(_sees_all, files, settings, interpreter.registered))
    count = 0
    helpers = interpreter.registered.helpers
    for info in orchestrators:
        if info not in helpers:
            interpreter.orchestrator(Function(info))
            count += 1
    for given in interpreter.registered.partials:
        if isinstance(given.function, Function):
            interpreter.orchestrator(given.function, given)
            count += 1
    for info in orchestrators:
        if info in helpers and info not in interpreter.entered:
            interpreter.orchestrator(Function(info))
            count += 1
    by_path: dict[str, list[Finding]] = {}
    for finding in reports.findings.values():
        by_path.setdefault(finding.path, []).append(finding)
    found: list[Finding] = []
    shown = {module.shown: module for module in [*modules, *filter(None, project.modules.values())]}
    for path, module in shown.items():
        if path in by_path or module in modules:
            mine = [_in_characters(finding, module) for finding in by_path.get(path, [])]
            found.extend(apply_ignores(module, mine, disabled))
    for path, line, column, message in project.broken:
        text = f"the file cannot be read ({message}), so nothing is found in it."
        if "DT900" not in disabled:
            found.append(Finding(path, line, column, "DT900", "note", text))
    found.sort(key=lambda finding: (finding.path, finding.line, finding.column, finding.code))
    return Report(found, len(files), count)


def _in_characters(finding: Finding, module: Module) -> Finding:
    """A finding with its column in characters: syntax trees count bytes."""
    line = module.source.split("\n")[finding.line - 1]
    if line.isascii():
        return finding
    return replace(finding, column=len(line.encode()[: finding.column - 1].decode(errors="ignore")) + 1)


def _may_matter(file: Path) -> bool:
    """Whether there may be an orchestrator, a registration or an ignore in a file, or it cannot be read.

    Most have none of them, and their syntax trees need not be kept.
    """
    try:
        source = file.read_bytes()
        if any(mark in source for mark in _MARKS):
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return False


def _files(paths: Iterable[str | Path], settings: Settings) -> Iterator[Path]:
    for given in paths:
        try:
            path = Path(given).resolve(strict=True)
        except (OSError, RuntimeError):  # Python before 3.13 raises the latter for a loop of links
            path = Path(os.path.abspath(given))
        if path.is_file():
            if path.suffix not in _SUFFIXES:
                raise DurableTestError(
                    f"{given} is not Python source (.py): name files or directories with Python source."
                )
            yield path
        elif path.is_dir():
            unreadable: list[OSError] = []
            for directory, names, files in os.walk(path, onerror=unreadable.append):
                names[:] = sorted(n for n in names if not n.startswith(".") and n not in _SKIPPED)
                for name in sorted(files):
                    file = Path(directory, name)
                    if name.endswith(".py") and not _excluded(file, settings):
                        yield file
            yield from (Path(error.filename) for error in unreadable)
        else:
            raise DurableTestError(f"{given} does not exist: name files or directories with Python source.")


def _excluded(file: Path, settings: Settings) -> bool:
    shown = os.path.relpath(file, settings.root)
    patterns = [pattern.rstrip("/") for pattern in settings.exclude]
    return any(fnmatch(shown, pattern) or fnmatch(shown, f"{pattern}/*") for pattern in patterns)
