"""Every history that a test records, for the pytest plugin's ``--dt-determinism``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from dt_testkit.determinism import processes
from dt_testkit.determinism.check import check_determinism
from dt_testkit.errors import DurableTestError, NonDeterministicCall
from dt_testkit.guard.threads import local
from dt_testkit.hub.core import HubCore
from dt_testkit.locations import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dt_testkit.determinism.report import DeterminismReport, Finding
    from dt_testkit.history import History
    from dt_testkit.hub import Instance, TaskHub


@dataclass
class _Known:
    """What is known of an instance; it may outlive a test, in the hub of a fixture."""

    lengths: dict[int, int] = field(default_factory=dict)  # of each generation, when it was looked at last
    told: set[Any] = field(default_factory=set)
    stopped: bool = False
    allowed: bool = False

    def has_told(self, finding: Finding) -> bool:
        """Whether somebody has told already, or wants it so."""
        return _key(finding) in self.told or (self.allowed and finding.call is not None)


class Watch:
    """Sees every hub that is made, whoever makes it, and checks what is new in their histories."""

    def __init__(self) -> None:
        self.not_tried: dict[tuple[str, str], None] = {}
        """What could not be moved and why, and the orchestrator that it could not be moved for."""
        self._hubs: WeakSet[Any] = WeakSet()
        self._known: WeakKeyDictionary[Instance, _Known] = WeakKeyDictionary()
        self._of_the_test: list[HubCore] = []  # hubs that nobody else may keep, as those of drive()
        self._files: list[tuple[History, TaskHub]] = []

    @contextmanager
    def over_hubs(self) -> Iterator[None]:
        made, take_turn = HubCore.__init__, HubCore._take_turn

        def init(hub: HubCore, *arguments: Any, **options: Any) -> None:
            made(hub, *arguments, **options)
            processes.start()
            self._hubs.add(hub)
            self._of_the_test.append(hub)

        def turn(hub: HubCore, instance: Instance) -> None:
            if local.allowing:  # a block of the test's, which is left when the histories are checked
                self._of(instance).allowed = True
            try:
                take_turn(hub, instance)
            except NonDeterministicCall as stopped:
                known = self._of(instance)
                known.stopped = True
                known.told.add((stopped.code, stopped.location))
                raise

        HubCore.__init__ = init  # type: ignore[method-assign, assignment]
        HubCore._take_turn = turn  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            HubCore.__init__ = made  # type: ignore[method-assign]
            HubCore._take_turn = take_turn  # type: ignore[method-assign]

    def also(self, history: History, hub: TaskHub) -> None:
        """The test is about a history that was recorded before."""
        self._files.append((history, hub))

    def forget(self) -> None:
        """A test begins or is over: what there is by now is not the next one's."""
        for hub in list(self._hubs):
            for instance in hub.instances:
                self._is_looked_at(instance)
        self._of_the_test.clear()
        self._files.clear()

    def reports(self, *, failed: bool) -> Iterator[DeterminismReport]:
        """Reports on what the test has recorded, of those that found something; each finding is in one.

        What the guard has stopped is of interest only where the test has ``failed``: else it was meant.
        """
        seen: set[Any] = set()
        for known, history, hub in list(self._recorded()):
            if known.stopped and not failed:
                continue
            try:
                report = check_determinism(history, hub)
            except DurableTestError:
                continue  # what stops a replay has stopped the hub, or the test of the file, and was told
            for skipped in report.skipped:
                self.not_tried[str(skipped), _place(hub, report.orchestrator_name)] = None
            # A test may change the code on purpose, and the hub replays each history when it ends.
            found = {_key(each): each for each in reversed(report.findings) if each.hazard is not None}
            findings = tuple(
                each
                for each in reversed(found.values())
                if _key(each) not in seen and not known.has_told(each)
            )
            seen.update(found)
            known.told.update(found)
            if findings:
                yield replace(report, findings=findings, skipped=())

    def _recorded(self) -> Iterator[tuple[_Known, History, TaskHub]]:
        for hub in list(self._hubs):
            for instance in hub.instances:
                changed = self._is_looked_at(instance)
                if changed and instance.name in hub.orchestrators:
                    histories = instance.histories
                    for generation in changed:
                        yield self._of(instance), histories[generation], hub
        for history, hub in self._files:
            yield _Known(), history, hub

    def _is_looked_at(self, instance: Instance) -> list[int]:
        """The generations that have changed since the last time."""
        lengths = self._of(instance).lengths
        now = {generation: len(events) for generation, events in enumerate(instance._generations)}
        changed = [generation for generation, length in now.items() if length != lengths.get(generation, 0)]
        lengths.update(now)
        return changed

    def _of(self, instance: Instance) -> _Known:
        return self._known.setdefault(instance, _Known())


def _key(finding: Finding) -> tuple[str | None, Location | None]:
    return finding.hazard, finding.location


def _place(hub: TaskHub, name: str | None) -> str:
    function: Any = hub.orchestrators.get(name or "")
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    code = getattr(function, "__code__", None)
    return str(Location.of((code, 0))) if code is not None else str(name)
