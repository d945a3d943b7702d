"""Which of the loaded modules are the project's own: not Python's, not installed, not ours."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_PYTHONS = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_found: dict[str, ModuleType] = {}
_looked_at: set[str] = set()


def project_modules() -> dict[str, ModuleType]:
    """The project's modules that are loaded, by name."""
    if _looked_at.symmetric_difference(sys.modules) or any(
        sys.modules.get(name) is not module for name, module in _found.items()
    ):
        _looked_at.clear()
        _found.clear()
        for name, module in list(sys.modules.items()):
            _looked_at.add(name)
            if is_of_the_project(file_of(module)):
                _found[name] = module
    return _found


def file_of(module: object) -> str | None:
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) else None


def is_of_the_project(file: str | None) -> bool:
    if file is None or file.startswith(_OURS):
        return False
    return not file.startswith(_PYTHONS) and not any(place in file for place in _INSTALLED)
