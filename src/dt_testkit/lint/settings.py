"""Settings: the table ``[tool.dt-testkit.lint]`` of pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dt_testkit.errors import DurableTestError
from dt_testkit.hazards import BY_CODE

if TYPE_CHECKING:
    from pathlib import Path


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

    def disabled(self) -> frozenset[str]:
        """The codes that are switched off."""
        for code in [*self.select, *self.ignore]:
            if not any(known.startswith(code) for known in BY_CODE) or not code:
                raise DurableTestError(f"No rule begins with {code!r}: the rules are {', '.join(BY_CODE)}.")
        off = {code for code in BY_CODE if self.ignore and code.startswith(tuple(self.ignore))}
        if self.select:
            off |= {code for code in BY_CODE if not code.startswith(tuple(self.select))}
        return frozenset(off)


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
    return Settings(root, **table)


def _parse(file: Path) -> dict[str, Any]:
    try:
        import tomllib as toml
    except ModuleNotFoundError:  # before Python 3.11
        try:
            import tomli as toml  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ModuleNotFoundError:
            if "tool.dt-testkit.lint" in file.read_text(encoding="utf-8"):
                raise DurableTestError(
                    f"{file}: install tomli, so that settings can be read on Python 3.10."
                ) from None
            return {}
    try:
        found: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DurableTestError(f"{file} cannot be read: {error}.") from None
    return found
