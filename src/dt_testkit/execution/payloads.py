"""Values to payloads and back, exactly as a worker with the same ``DataConverter`` does it.

With a payload store, what is large travels as a *token* that the store gave for it. A worker exchanges them
at its door: texts for tokens in what it answers, tokens for texts in what it is sent. Here the one is done
where a hub takes over what was asked for (``put_away``), and the other where a payload is decoded, so a
history holds the tokens and nobody who looks at a value sees one.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import TYPE_CHECKING, Any

from durabletask.payload import deexternalize_payloads, externalize_payloads
from durabletask.serialization import DataConverter, JsonDataConverter
from google.protobuf import wrappers_pb2

from dt_testkit.errors import DurableTestError
from dt_testkit.execution.commands import Complete
from dt_testkit.history.codec import failure_to_protobuf
from dt_testkit.sdk import AUTO_SERIALIZED, failure_details_from_protobuf, pb, type_discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask.payload import PayloadStore
    from durabletask.task import FailureDetails

    from dt_testkit.execution.commands import Command

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
    store : PayloadStore | None
        The payload store that the application gives its worker and client, if it does.
    """

    def __init__(self, converter: DataConverter | None = None, store: PayloadStore | None = None) -> None:
        self.converter = converter if converter is not None else JsonDataConverter()
        self.serialize: Callable[[Any], str | None] = self.converter.serialize
        self.deserialize: Callable[[str | None, Any], Any] = self.converter.deserialize
        if type(self.converter) is JsonDataConverter:
            self.serialize = self._serialize_json
            self.deserialize = self._deserialize_json
        self.store = store
        if store is not None:
            self._decode = self.deserialize
            self.deserialize = self._deserialize_stored
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
        if type(target_type) is type and target_type in _SCALARS:
            value = json.loads(data)
            if value is None or isinstance(value, target_type):
                return value
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

    def _deserialize_stored(self, data: str | None, target_type: Any = None) -> Any:
        return self._decode(self.fetch(data), target_type)

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

    def misfit(self, data: str | None, function: Any) -> str | None:
        """What is to be said of an input that does not fit its annotation, and so comes as plain JSON."""
        wanted = self.input_type(function)
        if not data or not isinstance(wanted, type) or typing.get_origin(wanted) is not None:
            return None
        given = self.deserialize(data, wanted)
        if given is None or isinstance(given, wanted):
            return None
        return (
            f"does not fit its annotation {wanted.__name__}, so the orchestrator is given a "
            f"{type(given).__name__}, as on a worker"
        )

    def show(self, data: str | None) -> Any:
        """Decode a payload for a report: plain JSON where it is JSON, else the text as it is."""
        data = self.fetch(data)
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return data

    # -- with a payload store

    def fetch(self, data: str | None) -> str | None:
        """The text that a token stands for; of anything else, what it is.

        Raises
        ------
        DurableTestError
            The store does not give it out.
        """
        store = self.store
        if store is None or not data or not store.is_known_token(data):
            return data
        try:
            return store.download(data).decode("utf-8")
        except Exception as error:
            raise DurableTestError(
                f"The payload store does not give out what token {data!r} stands for ({_told(error)}): a "
                "worker drops the work that needs it, and the instance never goes on."
            ) from error

    def fetch_failure(self, failure: FailureDetails) -> FailureDetails:
        """The same for the stack traces of a failure."""
        if self.store is None:
            return failure
        message = failure_to_protobuf(failure)
        deexternalize_payloads(message, self.store)
        return failure_details_from_protobuf(message)

    def put_away(self, data: str | None, instance_id: str) -> str | None:
        """What travels in the place of a text: a token of the store if it is above the threshold.

        Raises what the SDK raises: ``ValueError`` for a text that is too large for the store.
        """
        if self.store is None or not data:
            return data
        message = pb.ActivityResponse(result=wrappers_pb2.StringValue(value=data))
        externalize_payloads(message, self.store, instance_id=instance_id)
        return message.result.value

    def answer(self, data: str | None, instance_id: str) -> str | None:
        """:meth:`put_away` for what a worker answers.

        Raises
        ------
        DurableTestError
            The store does not take it.
        """
        try:
            return self.put_away(data, instance_id)
        except Exception as error:
            raise DurableTestError(
                f"The payload store does not take a payload of {len(data or '')} characters of "
                f"'{instance_id}' ({_told(error)}): a worker logs that, and its answer never arrives."
            ) from error

    def answer_failure(self, failure: FailureDetails, instance_id: str) -> FailureDetails:
        """The same for the stack traces of a failure."""
        if self.store is None:
            return failure
        message = failure_to_protobuf(failure)
        level = message
        while True:
            if level.HasField("stackTrace"):
                level.stackTrace.value = self.answer(level.stackTrace.value, instance_id) or ""
            if not level.HasField("innerFailure"):
                return failure_details_from_protobuf(message)
            level = level.innerFailure

    def answer_command(self, command: Command, instance_id: str) -> Command:
        """The same for all that a command carries, save the events it carries over: those have arrived so.

        Ids, names and versions are left as they are.
        """
        changes: dict[str, Any] = {
            name: self.answer(data, instance_id)
            for name in ("input", "data", "result")
            if (data := getattr(command, name, None))
        }
        if isinstance(command, Complete) and command.failure is not None:
            changes["failure"] = self.answer_failure(command.failure, instance_id)
        return dataclasses.replace(command, **changes) if changes else command


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": .")


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
