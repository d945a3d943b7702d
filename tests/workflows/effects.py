"""What activities leave behind, and deliveries that repeat them: no effect may come twice.

A test of a workflow runs it twice: once as it is and once with one of the faults below. What `contents` gives
must be the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import DateTime, select

from dt_testkit import OrchestrationNotFinished
from workflows import MODULES
from workflows.store import Base, Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dt_testkit import Instance, TaskHub
    from workflows.store import Store

T = TypeVar("T")

MINUTE = timedelta(minutes=1)


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """What is in the tables: the rows of each that has any, sorted; no time stamps, no numbers of rows.

    The keys of the effects are left out: `keys` gives them.
    """
    found = {}
    with store.session() as session:
        for table in Base.metadata.sorted_tables:
            columns = [
                column
                for column in table.columns
                if not isinstance(column.type, DateTime) and column.autoincrement is not True
            ]
            rows = [tuple(row) for row in session.execute(select(*columns))]
            if rows and table is not Effect.__table__:
                found[table.name] = sorted(rows, key=repr)
    return found


def keys(store: Store) -> list[str]:
    """The keys of all effects, sorted."""
    with store.session() as session:
        return sorted(session.scalars(select(Effect.key)))


def keyless(value: T) -> T:
    """The input of an activity with an empty key, to compare the rest of it. It must have had one."""
    key = value.key  # type: ignore[attr-defined]
    assert isinstance(key, str)
    assert key
    return replace(value, key="")  # type: ignore[type-var]


def delivered_twice(hub: TaskHub) -> None:
    """From now on every activity of the application is delivered twice, at once."""
    for activity in activities():
        hub.stub(activity, wraps=activity, duplicate=True)


class Deliveries:
    """Notes what succeeds on a hub from now on, so that it can be delivered again later, by `repeat`."""

    def __init__(self, hub: TaskHub) -> None:
        self.made: list[tuple[Callable[..., Any], Any, Any]] = []
        for activity in activities():
            hub.stub(activity, side_effect=self._noting(activity))

    def _noting(self, activity: Callable[..., Any]) -> Callable[..., Any]:
        def call(ctx: Any, input: Any) -> Any:
            result = activity(ctx, input)
            self.made.append((activity, ctx, input))
            return result

        return call

    def repeat(self) -> None:
        """Deliver what succeeded again, the latest first: what comes late comes in any order."""
        for activity, ctx, input in reversed(self.made):
            activity(ctx, input)


def run_with_dying_workers(
    hub: TaskHub, start: Callable[[], Instance], meanwhile: Callable[[Instance], object] = bool
) -> Instance:
    """Run an instance while workers die, each when its activities have done all and nobody has heard of it.

    An activity takes a minute, so that one is under way when the worker dies; every activity is done twice.
    Timers of the workflow should be minutes at most: workers die every one and a half. `meanwhile` is called
    now and then, to raise events.
    """
    for activity in activities():
        hub.stub(activity, wraps=activity, duration=MINUTE)
    instance = start()
    while not instance.is_terminal:
        hub.advance(MINUTE / 2)
        hub.crash_worker()
        hub.advance(MINUTE)
        meanwhile(instance)
    return instance


def run_with_a_crash_after_every_turn(
    hub: TaskHub, start: Callable[[], Instance], meanwhile: Callable[[Instance], object] = bool
) -> Instance:
    """Run an instance on workers that die as soon as they have taken one turn."""
    instance = start()
    while not instance.is_terminal:
        try:
            hub.advance(MINUTE, max_turns=1)
        except OrchestrationNotFinished:  # there is more to do
            hub.crash_worker()
        meanwhile(instance)
    return instance


def activities() -> Iterator[Callable[..., Any]]:
    """All activities of the application."""
    for module in MODULES:
        yield from module.ACTIVITIES
