"""Every history that a test records, for the pytest plugin's ``--dt-determinism``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dt_testkit.determinism.check import check_determinism
from dt_testkit.errors import VersionRejected
from dt_testkit.hub.core import HubCore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dt_testkit.determinism.report import DeterminismReport
    from dt_testkit.history import History


class Watch:
    """Sees every hub that is made, whoever makes it, and checks what is new in their histories."""

    def __init__(self) -> None:
        # How many events of each generation were checked. Hubs may outlive a test, in fixtures.
        self._checked: WeakKeyDictionary[HubCore, dict[tuple[str, int], int]] = WeakKeyDictionary()
        self._of_the_test: list[HubCore] = []  # hubs that nobody else may keep, as those of drive()

    @contextmanager
    def over_hubs(self) -> Iterator[None]:
        made = HubCore.__init__

        def init(hub: HubCore, *arguments: Any, **options: Any) -> None:
            made(hub, *arguments, **options)
            self._checked[hub] = {}
            self._of_the_test.append(hub)

        HubCore.__init__ = init  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            HubCore.__init__ = made  # type: ignore[method-assign]

    def forget(self) -> None:
        """The test is over."""
        self._of_the_test.clear()

    def reports(self) -> Iterator[DeterminismReport]:
        """Reports on what was recorded since the last time, of those that found something new."""
        seen: set[Any] = set()
        for hub, checked in list(self._checked.items()):
            for history in _new_histories(hub, checked):
                try:
                    report = check_determinism(history, hub)
                except VersionRejected:
                    continue  # it waits for another worker, and nothing of it has run
                findings = []
                for finding in report.findings:
                    key = finding.hazard, finding.location
                    # A test may change the code on purpose, and the hub replays each history when it ends.
                    if finding.hazard is not None and key not in seen:
                        seen.add(key)
                        findings.append(finding)
                if findings:
                    yield replace(report, findings=tuple(findings))


def _new_histories(hub: Any, checked: dict[tuple[str, int], int]) -> Iterator[History]:
    for instance in hub.instances:
        if instance.name not in hub.orchestrators:
            continue
        for generation, history in enumerate(instance.histories):
            key = instance.instance_id, generation
            if len(history) > checked.get(key, 0):
                checked[key] = len(history)
                yield history
