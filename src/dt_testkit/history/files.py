"""The file formats of a history: the two that the SDK's ``history_export`` writes, each plain or gzipped.

Writing is the SDK's own function. The SDK has no reader, so the one here is derived from the dataclasses of
the events: their fields and type hints become, once per class, a table of checks. Whatever is wrong ends in a
:class:`~dt_testkit.errors.HistoryFormatError` that names the file, the place, and what was expected there.
"""

from __future__ import annotations

import gzip
import json
import re
import types
import zlib
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Union, get_args, get_origin, get_type_hints

from durabletask import history as sdk_history
from durabletask.history import HistoryEvent

from dt_testkit.errors import HistoryFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
SCHEMA_VERSION = "1.0"
MAX_BYTES = 256 * 1024 * 1024

_CHUNK = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_AGAIN = "correct it, or export the history again"


class Content(NamedTuple):
    """What a history file holds."""

    instance_id: str
    events: list[HistoryEvent]
    metadata: dict[str, Any] | None


def suffix_of(name: str) -> str:
    """Return which of the four suffixes a file name ends in.

    Raises
    ------
    HistoryFormatError
        If it is none of them.
    """
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise HistoryFormatError(f"{name!r} names no history format: end it in {', '.join(SUFFIXES)}.")


def write(
    instance_id: str, events: Sequence[HistoryEvent], metadata: Mapping[str, Any] | None, suffix: str
) -> bytes:
    """Serialize a history in the format that the suffix stands for."""
    from durabletask.extensions.history_export import ExportFormat, ExportFormatKind
    from durabletask.extensions.history_export.serialization import serialize_history

    suffix = suffix_of(suffix)
    kind = ExportFormatKind.JSON if suffix in (".json", ".json.gz") else ExportFormatKind.JSONL_GZIP
    try:
        data = serialize_history(
            events,
            instance_id=instance_id,
            fmt=ExportFormat(kind=kind, schema_version=SCHEMA_VERSION),
            metadata=metadata,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise HistoryFormatError(
            f"The history of {instance_id!r} cannot be written as JSON ({error}): "
            "keep to what JSON can hold in its events and metadata."
        ) from error
    if suffix == ".jsonl":
        return gzip.decompress(data)
    return gzip.compress(data, mtime=0) if suffix == ".json.gz" else data


def read(stream: BinaryIO, source: str, max_bytes: int) -> Content:
    """Read a history in any of the formats, told apart by their content.

    Raises
    ------
    HistoryFormatError
        If the bytes are anything but a whole, well-formed history of a known schema.
    """
    text = _text(stream, source, max_bytes)
    if not text.strip():
        raise HistoryFormatError(f"{source} is empty: export the history again.")
    head, _, rest = text.partition("\n")
    single = not rest.strip()
    try:
        first = _parse(head, source, 1)
    except HistoryFormatError:
        if single:
            raise
        first = _parse(text, source)
        single = True
    if isinstance(first, dict) and first.get("kind") == "metadata" and "events" not in first:
        _check_envelope(first, source, {"kind"})
        events = _read_events(_lines(rest, source), source)
    elif single:
        _check_envelope(first, source, {"events"})
        if type(first["events"]) is not list:
            raise _wrong(source, "key 'events'", f"expected a list, found {_shown(first['events'])}")
        events = _read_events((("", payload) for payload in first["events"]), source)
    else:
        raise _wrong(
            source, "line 1", 'expected a metadata line ("kind":"metadata") before the lines of the events'
        )
    return Content(first["instance_id"], events, first.get("metadata"))


def _text(stream: BinaryIO, source: str, max_bytes: int) -> str:
    zipped = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    stream.seek(0)
    data = bytearray()
    try:
        plain: Any = gzip.GzipFile(fileobj=stream) if zipped else stream
        while chunk := plain.read(min(_CHUNK, max_bytes + 1 - len(data))):
            data += chunk
            if len(data) > max_bytes:
                unzipped = " once unzipped" if zipped else ""
                raise HistoryFormatError(
                    f"{source} holds more than the {max_bytes:,} bytes allowed{unzipped}: "
                    "if you trust it, raise the limit: History.load(path, max_bytes=...)."
                )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise HistoryFormatError(
            f"{source} is cut or damaged gzip data ({error}): copy it or export the history again."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HistoryFormatError(
            f"{source} is not UTF-8 text (byte {error.start:,} is 0x{error.object[error.start]:02x}): "
            "a history is JSON or JSON lines, plain or gzipped, so check that this is the right file."
        ) from None


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKey(f"the key {twice!r} appears twice in one object")
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _parse(text: str, source: str, line: int | None = None) -> Any:
    try:
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {line or error.lineno}, column {error.colno}"
        raise HistoryFormatError(
            f"{source}, {place}: expected JSON ({error.msg}); "
            "the file may be cut or edited, so export the history again."
        ) from None
    except RecursionError:
        raise _too_deep(source, f"line {line}" if line else "") from None
    except ValueError as error:
        raise _wrong(
            source, f"line {line}" if line else "", f"expected JSON that can be read back ({error})"
        ) from None
    return value


def _lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 2):
        if line.strip():
            yield f"line {number}, ", _parse(line, source, number)


def _check_envelope(document: Any, source: str, own: set[str]) -> None:
    if type(document) is not dict:
        raise _wrong(source, "", f"expected an object with the events of a history, found {_shown(document)}")
    version = document.get("schema_version", MISSING)
    if version is not MISSING and version != SCHEMA_VERSION:
        raise HistoryFormatError(
            f"{source}: expected schema_version {SCHEMA_VERSION!r}, found {_shown(version)}: "
            "export the history in the known schema, or use a dt-testkit that knows this one."
        )
    required = own | {"schema_version", "instance_id"}
    for missing in sorted(required - document.keys()):
        raise _wrong(source, "", f"expected the key {missing!r} at the top of a history, found none")
    for unknown in sorted(document.keys() - required - {"metadata"}):
        raise _wrong(source, f"key {unknown!r}", "expected no such key at the top of a history")
    if type(document["instance_id"]) is not str:
        raise _wrong(
            source, "key 'instance_id'", f"expected a string, found {_shown(document['instance_id'])}"
        )
    if type(document.get("metadata", {})) is not dict:
        raise _wrong(source, "key 'metadata'", f"expected an object, found {_shown(document['metadata'])}")


def _read_events(payloads: Iterable[tuple[str, Any]], source: str) -> list[HistoryEvent]:
    events: list[HistoryEvent] = []
    try:
        for line, payload in payloads:  # noqa: B007 - where the one that failed was
            events.append(_event(payload))
    except (_Problem, RecursionError) as problem:
        kind = payload.get("event_type") if type(payload) is dict else None
        place = f"{line}event {len(events) + 1}"
        if type(kind) is str and kind in _event_classes():
            place += f" ({kind})"
        if isinstance(problem, RecursionError):
            raise _too_deep(source, place) from None
        if problem.path:
            place += f", field {'.'.join(problem.path)!r}"
        raise _wrong(source, place, problem.what) from None
    return events


def _wrong(source: str, place: str, what: str) -> HistoryFormatError:
    return HistoryFormatError(f"{source}{', ' if place else ''}{place}: {what}; {_AGAIN}.")


def _too_deep(source: str, place: str) -> HistoryFormatError:
    return _wrong(source, place, "expected at most a few hundred levels of nesting")


def _shown(value: Any) -> str:
    if value is None or type(value) is bool:
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


# From here on: one event. A _Problem carries the path of the field outward; _read_events adds the rest.


class _Problem(Exception):
    def __init__(self, what: str, *path: str) -> None:
        self.what = what
        self.path = list(path)


class _Field(NamedTuple):
    name: str
    read: Callable[[Any], Any]
    default: Any


@cache
def _event_classes() -> dict[str, type[HistoryEvent]]:
    public = (getattr(sdk_history, name) for name in sdk_history.__all__)
    return {
        cls.__name__: cls
        for cls in public
        if isinstance(cls, type) and issubclass(cls, HistoryEvent) and cls is not HistoryEvent
    }


def _event(payload: Any) -> HistoryEvent:
    if type(payload) is not dict:
        raise _Problem(f"expected an object, found {_shown(payload)}")
    if "event_type" not in payload:
        raise _Problem("expected the name of an event class, found no such field", "event_type")
    kind = payload["event_type"]
    cls = _event_classes().get(kind) if type(kind) is str else None
    if cls is None:
        raise _Problem(f"expected an event class of durabletask.history, found {_shown(kind)}", "event_type")
    event: HistoryEvent = _object(cls, payload, 1)
    return event


def _object(cls: Any, payload: Any, extra: int = 0) -> Any:
    if type(payload) is not dict:
        raise _Problem(f"expected an object, found {_shown(payload)}")
    values = []
    for name, read_value, default in _table(cls):
        if name in payload:
            try:
                values.append(read_value(payload[name]))
            except _Problem as problem:
                problem.path.insert(0, name)
                raise
        elif default is MISSING:
            raise _Problem("expected a value, found no such field", name)
        else:
            values.append(default)
            extra -= 1
    if len(payload) != len(values) + extra:
        unknown = payload.keys() - {field.name for field in _table(cls)} - {"event_type"}
        raise _Problem(f"expected no such field in {cls.__name__}", min(unknown, default="event_type"))
    return cls(*values)


@cache
def _table(cls: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(cls)
    return tuple(
        _Field(
            field.name,
            _reader(hints[field.name]),
            None
            if field.default is MISSING and types.NoneType in get_args(hints[field.name])
            else field.default,
        )
        for field in fields(cls)
    )


def _reader(hint: Any) -> Callable[[Any], Any]:
    if hint in _SCALARS:
        return _SCALARS[hint]
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (_reader(argument) for argument in arguments if argument is not types.NoneType)
        return lambda value: None if value is None else inner(value)
    if get_origin(hint) is list:
        item = _reader(arguments[0])
        return lambda value: [
            _at(index, item, each) for index, each in enumerate(_exactly(list, "a list", value))
        ]
    if get_origin(hint) is dict:
        item = _reader(arguments[1])
        return lambda value: {
            key: _at(key, item, each) for key, each in _exactly(dict, "an object", value).items()
        }
    if is_dataclass(hint) and isinstance(hint, type):
        return lambda value: _object(hint, value)
    raise NotImplementedError(f"a field of type {hint!r} in an event of durabletask.history")


def _at(key: object, read_value: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read_value(value)
    except _Problem as problem:
        problem.path.insert(0, str(key))
        raise


def _exactly(kind: type[Any], expected: str, value: Any) -> Any:
    if type(value) is not kind:
        raise _Problem(f"expected {expected}, found {_shown(value)}")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise _Problem(f"expected a 32-bit integer, found {_shown(value)}")
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _Problem(f"expected a string, found {_shown(value)}")
    return value


_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?"
    r"(?:[Zz]|([+-]\d\d):?(\d\d)(:\d\d(?:\.\d{6})?)?)?",
    re.ASCII,
)


def _timestamp(value: Any) -> datetime:
    match = _TIMESTAMP.fullmatch(_string(value))
    if match is not None:
        day, time, fraction, hours, minutes, seconds = match.groups()
        offset = f"{hours}:{minutes}{seconds or ''}" if hours else "+00:00"
        try:
            # Python 3.10 reads only what isoformat() writes: six digits or none, and no "Z".
            moment = datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:<06}{offset}")
            return moment.astimezone(timezone.utc)
        except (ValueError, OverflowError):
            pass
    raise _Problem(
        f"expected an ISO 8601 timestamp such as '2026-01-01T00:00:00+00:00', found {_shown(value)}"
    )


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _string,
    int: _integer,
    bool: lambda value: _exactly(bool, "true or false", value),
    datetime: _timestamp,
    Any: lambda value: value,
}
