"""Hypothesis strategies for the events of every class, derived from the type hints of their fields."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from typing import Any, Union, get_args, get_origin, get_type_hints

from durabletask import history as sdk_history
from durabletask.history import HistoryEvent
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dt_testkit.history import History

law = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
law_of_each_class = settings(law, max_examples=20)

EVENT_CLASSES = [
    cls
    for cls in (getattr(sdk_history, name) for name in sdk_history.__all__)
    if isinstance(cls, type) and issubclass(cls, HistoryEvent) and cls is not HistoryEvent
]

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)

_orchestration_states = st.fixed_dictionaries(
    {"instanceId": st.text(min_size=1)},
    optional={
        "orchestrationStatus": st.sampled_from(
            ["ORCHESTRATION_STATUS_FAILED", "ORCHESTRATION_STATUS_PENDING"]
        ),
        "createdTimestamp": st.just("2026-01-01T00:00:00.500Z"),
        "input": st.text(),
        "failureDetails": st.just({"errorType": "ValueError", "errorMessage": "no"}),
        "tags": st.dictionaries(st.text(), st.text(), min_size=1, max_size=2),
    },
)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint is str:
        return st.text(max_size=20)
    if hint is int:
        return st.integers(-(2**31), 2**31 - 1)
    if hint is bool:
        return st.booleans()
    if hint is datetime:
        return st.datetimes(timezones=st.just(timezone.utc))
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of(st.none() if part is types.NoneType else _values(part) for part in get_args(hint))
    if get_origin(hint) is list:
        return st.lists(_values(get_args(hint)[0]), max_size=3)
    if get_origin(hint) is dict:
        items = json_values if get_args(hint)[1] is Any else _values(get_args(hint)[1])
        return st.dictionaries(st.text(max_size=8), items, min_size=1, max_size=3)
    assert is_dataclass(hint)
    return st.deferred(lambda: _objects(hint))


def _objects(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{field.name: _values(hints[field.name]) for field in fields(cls)})


def events_of(cls: type[HistoryEvent]) -> st.SearchStrategy[HistoryEvent]:
    if cls is sdk_history.HistoryStateEvent:
        times = _values(datetime)
        return st.builds(
            cls, event_id=_values(int), timestamp=times, orchestration_state=_orchestration_states
        )
    return _objects(cls)


events = st.sampled_from(EVENT_CLASSES).flatmap(events_of)

histories = st.builds(
    History,
    st.text(),
    st.lists(events, max_size=4),
    metadata=st.none() | st.dictionaries(st.text(max_size=4), json_values, max_size=2),
)
