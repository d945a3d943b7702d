"""Settings: the table ``[tool.dt-testkit.lint]`` of pyproject.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dt_testkit.errors import DurableTestError
from dt_testkit.hazards import BY_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DIGITS = str.maketrans("OIL", "011")
"""The digits that letters are taken for."""


@dataclass(frozen=True)
class Settings:
    """What to lint, and for what.

    Attributes
    ----------
    root : Path
        The directory that paths are relative to: where pyproject.toml is.
    paths, exclude : list[str]
        Where to look if nothing is named, and what to leave out (patterns of paths).
    select, ignore : list[str]
        Codes, or their beginnings.
    """

    root: Path
    paths: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    select: list[str] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)

    @property
    def disabled(self) -> frozenset[str]:
        """The codes that are switched off."""
        off = {code for code in BY_CODE if self.ignore and code.startswith(tuple(self.ignore))}
        if self.select:
            off |= {code for code in BY_CODE if not code.startswith(tuple(self.select))}
        return frozenset(off)


def check_codes(codes: Iterable[str], where: str = "") -> None:
    """Refuse what no code of a rule begins with."""
    for code in codes:
        if not code or not any(known.startswith(code) for known in BY_CODE):
            digits = f"{code[:2]}{code[2:].translate(_DIGITS)}"
            near = [digits] if digits in BY_CODE else get_close_matches(code, BY_CODE, 1)
            hint = f"did you mean {near[0]}?" if near else f"the rules are {', '.join(BY_CODE)}."
            raise DurableTestError(f"{where}No rule begins with {code!r}: {hint}")


def read_settings(start: Path) -> Settings:
    """The settings of the project that a directory is in."""
    for directory in (start, *start.parents):
        file = directory / "pyproject.toml"
        if file.is_file():
            return _check(_parse(file), directory, file)
    return Settings(start)


def _check(table: Any, root: Path, file: Path) -> Settings:
    path = ("tool", "dt-testkit", "lint")
    for depth, name in enumerate(path, 1):
        for other in table:
            # All names inside of ours are ours; beside it are those of others, and perhaps it, misspelt.
            if other != name and (depth == 3 or (depth == 2 and _is_nearly(other, name))):
                wrong, right = (".".join([*path[: depth - 1], each]) for each in (other, name))
                raise DurableTestError(f"{file}: [{wrong}] is not read: did you mean [{right}]?")
        table = table.get(name, {})
        if not isinstance(table, dict):
            where = ".".join(path[:depth])
            raise DurableTestError(f"{file}: {where} is a table, [{where}], not {table!r}.")
    known = ("paths", "exclude", "select", "ignore")
    for name, value in table.items():
        if name not in known:
            raise DurableTestError(
                f"{file}: [tool.dt-testkit.lint] has no setting {name!r}: there are {', '.join(known)}."
            )
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise DurableTestError(
                f"{file}: {name} in [tool.dt-testkit.lint] is a list of strings, not {value!r}."
            )
    for name in ("select", "ignore"):
        table[name] = [code.upper() for code in table.get(name, [])]
        check_codes(table[name], f"{file}: {name} in [tool.dt-testkit.lint]: ")
    return Settings(root, **table)


def _is_nearly(name: str, wanted: str) -> bool:
    return bool(get_close_matches(name.lower().replace("_", "-"), [wanted], 1, 0.9))


def _parse(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        import tomli as toml
    try:
        found: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DurableTestError(f"{file} cannot be read: {error}.") from None
    return found
