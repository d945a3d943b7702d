"""The short cuts for payloads give what the SDK's converter gives."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

import pytest
from durabletask.serialization import JsonDataConverter
from hypothesis import given
from hypothesis import strategies as st

from dt_testkit import Payloads


@dataclass
class Flat:
    name: str
    count: int
    price: float = 1.5
    done: bool = False
    note: str | None = None
    code: Optional[int] = None  # noqa: UP045 - both spellings
    either: int | str = 0


@dataclass(frozen=True)
class Picky:
    name: str

    def __post_init__(self):
        if self.name == "no":
            raise ValueError("no")


@dataclass
class Derived:
    name: str
    size: int = field(init=False, default=0)


@dataclass
class Nested:
    flat: Flat
    many: list[str]


@dataclass
class Hooked:
    name: str

    @classmethod
    def from_json(cls, value):
        return cls(f"hooked {value}")


class Plain:
    def __eq__(self, other):
        return isinstance(other, Plain)


CONVERTER = JsonDataConverter()
TYPES = [None, Flat, Picky, Derived, Nested, Hooked, Plain, int, str, list[Flat], Flat | None, dict, Any]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.just("__durabletask_autoobject__"), inner, max_size=3)
    ),
    max_leaves=8,
)
names = ["name", "count", "price", "done", "note", "code", "either", "size", "flat", "many", "stranger"]
records = st.dictionaries(st.sampled_from(names), scalars | st.just("no"), max_size=9)


def outcome(call, *args):
    try:
        return repr(call(*args))
    except Exception as error:
        return type(error), str(error)


@given(values | records)
def test_plain_values_are_written_as_the_sdk_writes_them(value):
    assert Payloads().serialize(value) == CONVERTER.serialize(value)


@pytest.mark.parametrize(
    "value", [Flat("a", 1), Nested(Flat("a", 1), ["x"]), {"deep": [Flat("a", 1)]}, {1, 2}, [object()], (1, 2)]
)
def test_other_values_are_written_or_refused_as_by_the_sdk(value):
    assert outcome(Payloads().serialize, value) == outcome(CONVERTER.serialize, value)


@given(values | records, st.sampled_from(TYPES), st.booleans())
def test_payloads_are_read_as_the_sdk_reads_them(value, target, escaped):
    data = json.dumps(value, ensure_ascii=escaped)
    assert outcome(Payloads().deserialize, data, target) == outcome(CONVERTER.deserialize, data, target)


@pytest.mark.parametrize("data", [None, "", "{", "nonsense", "NaN", '{"name": "a", "name": "b", "count": 1}'])
@pytest.mark.parametrize("target", [None, Flat])
def test_odd_payloads_are_read_or_refused_as_by_the_sdk(data, target):
    assert outcome(Payloads().deserialize, data, target) == outcome(CONVERTER.deserialize, data, target)


def test_a_converter_of_ones_own_is_asked_for_everything():
    class Loud(JsonDataConverter):
        def serialize(self, value):
            return "loud"

        def deserialize(self, data, target_type=None):
            return "loud"

    payloads = Payloads(Loud())
    assert payloads.serialize(1) == payloads.deserialize("1", Flat) == "loud"
