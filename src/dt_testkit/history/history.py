"""The container: the events of one instance, in order."""

from __future__ import annotations

import inspect
import io
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from durabletask.history import (
    ExecutionCompletedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    HistoryEvent,
)

from dt_testkit.errors import HistoryFormatError, InstanceNotFound
from dt_testkit.history import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from durabletask.client import OrchestrationStatus


class _HistoryClient(Protocol):
    def get_orchestration_history(self, instance_id: str, /) -> Iterable[HistoryEvent]: ...


class History:
    """What happened to one orchestration instance: its id and its events.

    Parameters
    ----------
    instance_id : str
        The instance that the events belong to.
    events : Iterable[durabletask.history.HistoryEvent]
        The events, oldest first, as ``client.get_orchestration_history()`` returns them.
    metadata : Mapping[str, Any] | None
        What an export noted about the instance. It is kept so that a file can be written back unchanged.

    Attributes
    ----------
    instance_id : str
    events : list[durabletask.history.HistoryEvent]
    metadata : dict[str, Any] | None

    Notes
    -----
    Two histories are equal if their ids and events are; the metadata does not count.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> from durabletask.history import ExecutionStartedEvent
    >>> from dt_testkit.history import History
    >>> started = ExecutionStartedEvent(-1, datetime(2026, 1, 1, tzinfo=timezone.utc), name="order_workflow")
    >>> history = History("order-1", [started])
    >>> history
    <History 'order-1' of 'order_workflow': 1 event>
    >>> History.loads(history.dumps(".jsonl")) == history
    True
    """

    def __init__(
        self,
        instance_id: str,
        events: Iterable[HistoryEvent],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._stands_still: str | None = None  # why an instance of a hub has no events yet
        self.instance_id = instance_id
        self.events = list(events)
        self.metadata = None if metadata is None else dict(metadata)

    @property
    def orchestrator_name(self) -> str | None:
        """The name in the first ``ExecutionStartedEvent``, or None if there is none."""
        return next((event.name for event in self.events if isinstance(event, ExecutionStartedEvent)), None)

    @property
    def status(self) -> OrchestrationStatus | None:
        """How the instance ended, or None while it is in flight (a rewound instance is, again).

        Raises
        ------
        HistoryFormatError
            If the history records a status that the SDK has no name for.
        """
        from durabletask.client import OrchestrationStatus

        number = self._status_number()
        try:
            return None if number is None else OrchestrationStatus(number)
        except ValueError:
            raise HistoryFormatError(
                f"The history of {self.instance_id!r} ends in orchestration_status {number}, "
                "for which durabletask.client.OrchestrationStatus has no name: read it from the event."
            ) from None

    def _status_number(self) -> int | None:
        for event in reversed(self.events):
            if isinstance(event, ExecutionCompletedEvent):
                return event.orchestration_status
            if isinstance(event, ExecutionRewoundEvent):
                return None
        return None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_bytes: int = files.MAX_BYTES) -> History:
        """Read a history from a file, in any of the formats, whatever its name.

        Parameters
        ----------
        path : str | os.PathLike[str]
            The file.
        max_bytes : int
            The most bytes to accept, counted after decompression.

        Raises
        ------
        HistoryFormatError
            If the file does not exist, cannot be read, or is not a whole, well-formed history.
        """
        source = os.fspath(path)
        try:
            if not stat.S_ISREG(os.stat(source).st_mode) and not os.path.isdir(source):
                raise HistoryFormatError(f"{source} is no regular file: write the history to one first.")
            with open(source, "rb") as stream:
                instance_id, events, metadata = files.read(stream, source, max_bytes)
        except HistoryFormatError:
            raise
        except FileNotFoundError:
            raise HistoryFormatError(
                f"{source} does not exist: check the path, or save a history there."
            ) from None
        except IsADirectoryError:
            raise HistoryFormatError(f"{source} is a directory: name a history file in it.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HistoryFormatError(
                f"{source!r} could not be read ({reason}): check the path and its permissions."
            ) from error
        return cls(instance_id, events, metadata=metadata)

    @classmethod
    def loads(cls, data: bytes, *, source: str = "<bytes>", max_bytes: int = files.MAX_BYTES) -> History:
        """Read a history from bytes, in any of the formats.

        Parameters
        ----------
        data : bytes
            What a history file holds.
        source : str
            What to call the bytes in an error.
        max_bytes : int
            The most bytes to accept, counted after decompression.

        Raises
        ------
        HistoryFormatError
            If the bytes are not a whole, well-formed history.
        """
        instance_id, events, metadata = files.read(io.BytesIO(data), source, max_bytes)
        return cls(instance_id, events, metadata=metadata)

    @classmethod
    def from_client(cls, client: _HistoryClient, instance_id: str) -> History:
        """Fetch a history from a backend.

        Parameters
        ----------
        client : durabletask.client.TaskHubGrpcClient
            A client of the emulator, of Azure, of the in-memory backend or of a hub; with an async client use
            ``History(instance_id, await client.get_orchestration_history(instance_id))``.
        instance_id : str
            The instance.

        Raises
        ------
        InstanceNotFound
            If the backend does not know the instance.
        """
        try:
            events = client.get_orchestration_history(instance_id)
        except Exception as error:
            code = getattr(error, "code", None)  # of a grpc.RpcError
            if callable(code) and getattr(code(), "name", None) == "NOT_FOUND":
                raise InstanceNotFound(
                    f"The backend has no instance {instance_id!r}: check the id, and the client's task hub."
                ) from error
            raise
        if inspect.iscoroutine(events):
            events.close()
            raise TypeError(
                "History.from_client wants a synchronous client: with an async one, write "
                "History(instance_id, await client.get_orchestration_history(instance_id))."
            )
        return cls(instance_id, events, metadata=_metadata(client, instance_id))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history to a file: whole, or not at all.

        Parameters
        ----------
        path : str | os.PathLike[str]
            The file; its name ends in .json, .jsonl, .json.gz or .jsonl.gz. Missing directories are made.

        Raises
        ------
        HistoryFormatError
            If the name ends in something else, or an event holds what JSON cannot.
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        data = self.dumps(files.suffix_of(target.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def dumps(self, suffix: str = ".json") -> bytes:
        """Return what :meth:`save` writes to a file with this suffix.

        Parameters
        ----------
        suffix : str
            ``".json"``, ``".jsonl"``, ``".json.gz"`` or ``".jsonl.gz"``.

        Raises
        ------
        HistoryFormatError
            If it is another suffix, or an event holds what JSON cannot.
        """
        return files.write(self.instance_id, self.events, self.metadata, suffix)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[HistoryEvent]:
        return iter(self.events)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self.instance_id == other.instance_id and self.events == other.events

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        name = self.orchestrator_name
        of = "" if name is None else f" of {name!r}"
        return f"<History {self.instance_id!r}{of}: {len(self)} event{'' if len(self) == 1 else 's'}>"

    def __str__(self) -> str:
        from dt_testkit.history.timeline import render

        return render(self)


def _metadata(client: Any, instance_id: str) -> dict[str, Any] | None:
    """What the SDK's export notes beside the events: the state of the instance, its status above all."""
    get_state = getattr(client, "get_orchestration_state", None)
    state = get_state(instance_id) if get_state is not None else None
    if state is None:
        return None
    from durabletask.extensions.history_export.serialization import orchestration_state_to_dict

    return orchestration_state_to_dict(state)
