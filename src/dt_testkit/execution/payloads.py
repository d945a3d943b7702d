"""Values to payloads and back, exactly as a worker with the same ``DataConverter`` does it."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import TYPE_CHECKING, Any

from durabletask.serialization import DataConverter, JsonDataConverter

from dt_testkit.sdk import AUTO_SERIALIZED, type_discovery

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = frozenset({dict, list, tuple, str, int, float, bool})
_SCALARS = frozenset({str, int, float, bool})


class Payloads:
    """What travels between orchestrators, activities and the history.

    Everything goes through the SDK's converter. With the default one, payloads of plain JSON and dataclasses
    of plain fields take a short cut, which gives the same text and the same value (a property test holds it
    to that): the SDK builds a JSON encoder and a decoder for every call, and resolves the annotations of a
    dataclass anew for every value.

    Parameters
    ----------
    converter : DataConverter | None
        The converter that the application gives its worker and client; None for the SDK's default.
    """

    def __init__(self, converter: DataConverter | None = None) -> None:
        self.converter = converter if converter is not None else JsonDataConverter()
        self.serialize: Callable[[Any], str | None] = self.converter.serialize
        self.deserialize: Callable[[str | None, Any], Any] = self.converter.deserialize
        if type(self.converter) is JsonDataConverter:
            self.serialize = self._serialize_json
            self.deserialize = self._deserialize_json
        self._flat: dict[Any, dict[str, tuple[type, ...]] | None] = {}
        self._return_types: dict[Any, Any] = {}
        self._input_types: dict[Any, Any] = {}

    def _serialize_json(self, value: Any) -> str | None:
        if type(value) in _PLAIN:
            try:
                return json.dumps(value)
            except TypeError:
                pass  # something inside needs the SDK's hook
        return self.converter.serialize(value)

    def _deserialize_json(self, data: str | None, target_type: Any = None) -> Any:
        # The decoder's hook looks for one marker key, left by old SDK versions; a key can only hide from this
        # test behind a \u escape.
        if not data or AUTO_SERIALIZED in data or "\\u" in data:
            return self.converter.deserialize(data, target_type)
        if target_type is None:
            return json.loads(data)
        try:
            fields = self._flat[target_type]
        except KeyError:
            fields = self._flat[target_type] = _flat_fields(target_type)
        except TypeError:  # unhashable hint
            fields = None
        if fields is not None:
            value = json.loads(data)
            if type(value) is dict:
                known = {name: value[name] for name in fields if name in value}
                if all(item is None or isinstance(item, fields[name]) for name, item in known.items()):
                    try:
                        return target_type(**known)
                    except Exception:
                        pass  # the SDK decides what becomes of it
        return self.converter.deserialize(data, target_type)

    def return_type(self, function: Any) -> Any:
        """The type that the worker rebuilds an activity's result to, from the return annotation."""
        try:
            return self._return_types[function]
        except KeyError:
            found = type_discovery.activity_output_type(function, self.converter)
            self._return_types[function] = found
            return found
        except TypeError:  # unhashable callable
            return type_discovery.activity_output_type(function, self.converter)

    def input_type(self, function: Any) -> Any:
        """The type that the worker rebuilds the input of an orchestrator or an activity to."""
        try:
            return self._input_types[function]
        except KeyError:
            found = type_discovery.activity_input_type(function, self.converter)
            self._input_types[function] = found
            return found
        except TypeError:
            return type_discovery.activity_input_type(function, self.converter)

    def decode_input(self, data: str | None, function: Any | None) -> Any:
        """Decode an input for a test to look at: with the function's annotation where it is known."""
        return self.deserialize(data, self.input_type(function) if function is not None else None)

    def show(self, data: str | None) -> Any:
        """Decode a payload for a report: plain JSON where it is JSON, else the text as it is."""
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return data


def _flat_fields(target_type: Any) -> dict[str, tuple[type, ...]] | None:
    """The fields of a dataclass with the types whose values the SDK passes to its constructor as they are.

    None if it is no dataclass, or one with anything that the SDK treats in a way of its own.
    """
    if (
        not isinstance(target_type, type)
        or not dataclasses.is_dataclass(target_type)
        or issubclass(target_type, dict)
        or hasattr(target_type, "from_json")
    ):
        return None
    try:
        hints = typing.get_type_hints(target_type)
    except Exception:
        return None
    flat = {}
    for field in dataclasses.fields(target_type):
        hint = hints.get(field.name)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = tuple(arg for arg in typing.get_args(hint) if arg is not type(None)) if union else (hint,)
        if not field.init or not _SCALARS.issuperset(kinds):
            return None
        flat[field.name] = kinds
    return flat
