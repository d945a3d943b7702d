"""An orchestration instance in a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask.client import OrchestrationStatus

from dt_testkit.errors import InstanceNotFound, InvalidState
from dt_testkit.history import History

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from durabletask.history import ExecutionStartedEvent, HistoryEvent
    from durabletask.task import FailureDetails

    from dt_testkit.errors import VersionRejected
    from dt_testkit.execution import Execution, Operation
    from dt_testkit.hub.core import ActivityWork
    from dt_testkit.hub.hub import TaskHub
    from dt_testkit.hub.wire import EncodedHistory

TERMINAL = frozenset(
    {OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED}
)


class Parent(NamedTuple):
    """Who waits for a sub-orchestration: an instance in one of its generations, under a task id."""

    instance: Instance
    generation: int
    task_id: int


class Instance:
    """One orchestration instance: what it did, what it waits for, and what can be done to it.

    Made by :meth:`TaskHub.start` and :meth:`TaskHub.run`, found again with :meth:`TaskHub.instance`. It is a
    live view: after ``hub.settle()`` it shows what happened.

    Attributes
    ----------
    instance_id, name : str
        Its id, and the name of its orchestrator.
    version : str | None
        Its version.
    status : OrchestrationStatus
        The SDK's status.
    failure : FailureDetails | None
        Why it failed.
    created_at, last_updated_at : datetime
        Naive UTC, virtual time.
    tags : dict[str, str]
        The tags it was scheduled with.
    """

    def __init__(self, hub: TaskHub, instance_id: str, name: str, created_at: datetime, serial: int) -> None:
        self.instance_id = instance_id
        self.name = name
        self.version: str | None = None
        self.status = OrchestrationStatus.PENDING
        self.failure: FailureDetails | None = None
        self.created_at = created_at
        self.last_updated_at = created_at
        self.tags: dict[str, str] = {}
        self._hub = hub
        self._serial = serial
        self._ended = 0  # its place among all that have ended
        self._parent: Parent | None = None
        self._waits_for_its_id: Parent | None = None  # the parent of a running one whose place it took
        self._children: dict[str, Instance] = {}  # those that are in the hub, by their ids
        self._input: str | None = None
        self._output: str | None = None
        self._custom_status: str | None = None
        self._execution: Execution | None = None
        self._start_event: ExecutionStartedEvent | None = None
        self._generations: list[list[HistoryEvent]] = [[]]
        # Of its generations: which it was, in which call that drives the hub, and when.
        self._first_at_a_moment = 1, 0, created_at
        self._inbox: list[HistoryEvent] = []
        self._aside: list[tuple[HistoryEvent, ActivityWork | None]] = []
        self._queued = False
        self._attempt = 1
        self._broken: BaseException | None = None
        self._held_until: datetime | None = None
        self._rejected: VersionRejected | None = None
        self._rewound = False
        self._rewinds = 0
        self._encoded: EncodedHistory | None = None

    def __repr__(self) -> str:
        return f"<Instance {self.instance_id!r} of {self.name} {self.status.name}>"

    # -- what it is

    @property
    def input(self) -> Any:
        """The input of the current generation, decoded with the orchestrator's annotation if there is one."""
        payloads = self._hub._payloads
        return payloads.decode_input(self._input, self._hub.orchestrators.get(self.name))

    @property
    def output(self) -> Any:
        """The output as plain JSON; None while there is none. For a typed one: :meth:`get_output`."""
        return self._hub._payloads.deserialize(self._output, None)

    def get_output(self, expected_type: type | None = None) -> Any:
        """The output, rebuilt as a type by the hub's data converter."""
        return self._hub._payloads.deserialize(self._output, expected_type)

    @property
    def custom_status(self) -> Any:
        """The custom status as plain JSON."""
        return self._hub._payloads.deserialize(self._custom_status, None)

    @property
    def is_terminal(self) -> bool:
        """Whether it has completed, failed or been terminated."""
        return self.status in TERMINAL

    @property
    def history(self) -> History:
        """The history of the current generation, the last one if the instance has ended."""
        events = self._generations[-1]
        metadata = None if self.is_terminal else {"runtime_status": self.status.name}
        if metadata is not None and not events:  # no event that has its name
            metadata["name"] = self.name
        history = History(self.instance_id, events, metadata=metadata)
        history._stands_still = self._stands_still() if not events else None
        return history

    @property
    def histories(self) -> list[History]:
        """The histories of all generations, one for each life between two ``continue_as_new``."""
        return [*(History(self.instance_id, events) for events in self._generations[:-1]), self.history]

    @property
    def waiting_for(self) -> list[Operation]:
        """The operations that are open, in the order in which the orchestrator asked for them."""
        if self._execution is None or self.is_terminal:
            return []
        return self._execution.operations()

    def _stands_still(self) -> str | None:
        """Why it does not move, where it does not wait for anything that it asked for itself."""
        hub, execution = self._hub, self._execution
        is_held = self._held_until is not None and self._held_until > hub.now
        is_ignored = execution is not None and execution.error is not None  # and has not failed by it
        is_turned_away = self._rejected is not None or is_ignored or self in hub._left_out
        if self.is_terminal or not (is_held or is_turned_away):
            return None
        return "\n".join(hub._blocked(self))

    # -- what can be done to it

    def raise_event(self, name: str, data: Any = None) -> None:
        """Send it an external event. It is delivered by what drives the hub next, ``settle()`` for one.

        An event for an instance that has ended is dropped, as in production.
        """
        if not isinstance(name, str):
            raise TypeError(f"The name of an event is a string, not {name!r}.")
        with self._hub._lock:
            payloads = self._hub._payloads
            encoded = payloads.put_away(payloads.serialize(data), self.instance_id)
            self._hub._raise_event(self, name, encoded)

    def suspend(self, reason: str | None = None) -> None:
        """Suspend it: events are kept, and handled when it is resumed."""
        with self._hub._lock:
            self._hub._suspend(self, reason)

    def resume(self, reason: str | None = None) -> None:
        """Resume it. One that is not suspended *fails* by this: that is what the SDK's worker does."""
        with self._hub._lock:
            self._hub._resume(self, reason)

    def terminate(self, output: Any = None, *, recursive: bool = True) -> None:
        """End it, and what it started, as TERMINATED."""
        with self._hub._lock:
            payloads = self._hub._payloads
            encoded = payloads.put_away(payloads.serialize(output), self.instance_id)
            self._hub._terminate(self, encoded, recursive)

    def rewind(self, reason: str | None = None) -> None:
        """Try again what failed: activities that failed run once more, sub-orchestrations are rewound too.

        As on the SDK's worker, an activity or a sub-orchestration that was retried by a policy cannot be
        rewound: the timers between its attempts stay in the history, and the code no longer gets by them.

        Raises
        ------
        InstanceNotFound
            It is not in the hub any more: it was purged, or another instance has its id.
        InvalidState
            It has not failed.
        """
        from dt_testkit.hub.rewinding import rewind

        with self._hub._lock:
            self._refuse_if_gone("rewound")
            if self.status is not OrchestrationStatus.FAILED:
                raise InvalidState(
                    f"Instance '{self.instance_id}' is {self.status.name}: only one that FAILED is rewound."
                )
            rewind(self._hub, self, reason)

    def restart(self, *, restart_with_new_instance_id: bool = False) -> Instance:
        """Start it again, once it has ended, with the input, version and tags it was first started with.

        Parameters
        ----------
        restart_with_new_instance_id : bool
            Whether the new instance gets an id drawn from the hub's seed. Otherwise it has this one's id and
            takes its place in the hub; this object still shows the life that has ended.

        Returns
        -------
        Instance
            The new one. It takes its first turn when the hub is driven.

        Raises
        ------
        InstanceNotFound
            It is not in the hub any more: it was purged, or another instance has its id.
        InvalidState
            It has not ended.

        Examples
        --------
        >>> from dt_testkit import TaskHub
        >>> def greet(ctx, name):
        ...     return f"Hello {name}"
        >>> hub = TaskHub()
        >>> _ = hub.add_orchestrator(greet)
        >>> first = hub.run(greet, input="ana")
        >>> second = first.restart(restart_with_new_instance_id=True)
        >>> second.wait().output
        'Hello ana'
        """
        with self._hub._lock:
            self._refuse_if_gone("restarted")
            if not self.is_terminal:
                raise InvalidState(
                    f"Instance '{self.instance_id}' is {self.status.name}, and only one that has ended can "
                    "be restarted: wait() for it, or terminate() it and settle() the hub."
                )
            return self._hub._restart(self, restart_with_new_instance_id)

    def _refuse_if_gone(self, done: str) -> None:
        if self._hub._instances.get(self.instance_id) is not self:
            raise InstanceNotFound(
                f"Instance '{self.instance_id}' cannot be {done}, for it was purged or another has taken its "
                "id: start() a new one, or take the other from hub.instance()."
            )

    def wait(self, timeout: timedelta | None = None) -> Instance:
        """Drive the hub until it has ended.

        Parameters
        ----------
        timeout : timedelta | None
            How much virtual time may pass; None for as much as it takes.

        Raises
        ------
        TimeoutError
            It did not end in that time.
        OrchestrationBlocked
            Without a timeout: nothing that the hub could do would move it.
        OrchestrationNotFinished
            Without a timeout: it has continued as new 10,000 times meanwhile.
        """
        self._hub._wait(self, timeout)
        return self
