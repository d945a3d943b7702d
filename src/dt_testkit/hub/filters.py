"""Which work a hub does, where the application gives its worker work item filters.

A backend hands a worker only what its filters let through, and keeps the rest for others. A hub that works in
process has no other, so what is left out waits: an orchestration is not started, an activity is not run, an
entity keeps its operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from durabletask.worker import VersionMatchStrategy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from durabletask.worker import WorkItemFilters

Kind: TypeAlias = Literal["orchestration", "activity", "entity"]


class Filters:
    """What the worker takes.

    Parameters
    ----------
    explicit : WorkItemFilters | None
        The filters; None for those that follow from what is registered, whenever work is looked at.
    registry : Registry
        What is registered, and the versioning options.
    stubs : Mapping[str, Stub]
        Stand-ins for activities, which count as registered.
    """

    def __init__(self, explicit: WorkItemFilters | None, registry: Any, stubs: Mapping[str, Any]) -> None:
        self._registry = registry
        self._stubs = stubs
        self._accepted: dict[Kind, dict[str, set[str]]] | None = None
        if explicit is not None:
            self._accepted = {
                "orchestration": _by_name(explicit.orchestrations),
                "activity": _by_name(explicit.activities),
                "entity": _by_name(explicit.entities),
            }

    def why_not(self, kind: Kind, name: str, version: str | None = None) -> str | None:
        """Why that work is left out; None if it is not."""
        names, versions = self._of(kind, name)
        what = f"{kind} '{name}'"
        if name not in names:
            return f"the worker's filters leave {what} out."
        if versions and (version or "") not in versions:
            has = f"version '{version}'" if version else "no version"
            taken = " or ".join(map(repr, sorted(versions)))
            return f"the worker's filters leave {what} out, which has {has}: they take {taken}."
        return None

    def _of(self, kind: Kind, name: str) -> tuple[Collection[str], Collection[str]]:
        """The names that are taken of a kind, and of one name the versions; none stand for all."""
        if self._accepted is not None:
            return self._accepted[kind], self._accepted[kind].get(name, ())
        registry = self._registry
        if kind == "entity":
            return registry.entities, ()
        names = registry.orchestrators if kind == "orchestration" else {**registry.activities, **self._stubs}
        versioning = registry.versioning
        is_strict = versioning is not None and versioning.match_strategy is VersionMatchStrategy.STRICT
        return names, (versioning.version,) if is_strict and versioning.version else ()


def _by_name(filters: Iterable[Any]) -> dict[str, set[str]]:
    """The versions of each name. As on a backend, one of a name without versions adds none."""
    accepted: dict[str, set[str]] = {}
    for one in filters:
        accepted.setdefault(one.name, set()).update(getattr(one, "versions", ()))
    return accepted
