"""Finds in source what makes orchestrators take another way when they are replayed. Nothing is imported.

`project` knows what names mean, `orchestrators` where to begin, `interpreter` goes through the code and shows
it to the `rules`, and `ignores`, `report` and `fixes` are for what they find.
"""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from dt_testkit.errors import DurableTestError
from dt_testkit.lint import fixes
from dt_testkit.lint.ignores import apply_ignores
from dt_testkit.lint.interpreter import Interpreter
from dt_testkit.lint.orchestrators import find_orchestrators
from dt_testkit.lint.project import Module, Project
from dt_testkit.lint.report import Finding, Report
from dt_testkit.lint.rules import Reports
from dt_testkit.lint.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Finding", "Report", "fix_paths", "lint_paths"]

_MARKS = (b"rchestrat", b"yield", b"add_activity", b"add_entity", b"stub(", b"dt:")
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
    settings = replace(settings, select=list(select) or settings.select, ignore=[*settings.ignore, *ignore])
    with _without_collector():
        return _lint(paths or [settings.root / path for path in settings.paths or ["."]], settings)


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


def fix_paths(report: Report, *, root: str | Path | None = None) -> int:
    """Write the fixes of a report's findings into their files; returns how many."""
    base = Path(root).resolve() if root is not None else read_settings(Path.cwd()).root
    by_path: dict[str, list[fixes.Fix]] = {}
    for finding in report.findings:
        if finding.fix is not None:
            by_path.setdefault(finding.path, []).append(finding.fix)
    return sum(fixes.apply(base / path, found) for path, found in by_path.items())


def _lint(paths: Iterable[str | Path], settings: Settings) -> Report:
    disabled = settings.disabled()
    project = Project(settings.root)
    modules: list[Module] = []
    files = list(dict.fromkeys(_files(paths, settings)))
    for file in files:
        if not _may_matter(file):
            continue
        module = project.load(file)
        if module is not None:
            modules.append(module)
    reports = Reports(disabled)
    interpreter = Interpreter(project, reports)
    orchestrators, interpreter.registered = find_orchestrators(interpreter, modules)
    count = 0
    for info in orchestrators:
        if info not in interpreter.registered.helpers or info not in interpreter.entered:
            interpreter.orchestrator(info)
            count += 1
    for info, arguments in interpreter.registered.partials:
        interpreter.orchestrator(info, arguments)
    by_path: dict[str, list[Finding]] = {}
    for finding in reports.findings.values():
        by_path.setdefault(finding.path, []).append(finding)
    found: list[Finding] = []
    shown = {module.shown: module for module in [*modules, *filter(None, project.modules.values())]}
    for path, module in shown.items():
        if path in by_path or module in modules:
            found.extend(apply_ignores(module, by_path.get(path, []), disabled))
    for path, line, column, message in project.broken:
        text = f"the file cannot be read ({message}), so nothing is found in it."
        found.append(Finding(path, line, column, "DT900", "note", text))
    found.sort(key=lambda finding: (finding.path, finding.line, finding.column, finding.code))
    return Report(found, len(files), count)


def _may_matter(file: Path) -> bool:
    """Whether there may be an orchestrator, a registration or an ignore in a file: most have none of them."""
    try:
        source = file.read_bytes()
    except OSError:
        return True
    return any(mark in source for mark in _MARKS)


def _files(paths: Iterable[str | Path], settings: Settings) -> Iterator[Path]:
    for path in paths:
        path = Path(path).resolve()
        if path.is_file():
            yield path
        elif path.is_dir():
            for directory, names, files in os.walk(path):
                names[:] = sorted(n for n in names if not n.startswith(".") and n not in _SKIPPED)
                for name in sorted(files):
                    file = Path(directory, name)
                    if name.endswith(".py") and not _excluded(file, settings):
                        yield file
        else:
            raise DurableTestError(f"{path} does not exist: name files or directories with Python source.")


def _excluded(file: Path, settings: Settings) -> bool:
    shown = os.path.relpath(file, settings.root)
    return any(fnmatch(shown, pattern) or fnmatch(shown, f"{pattern}/*") for pattern in settings.exclude)
