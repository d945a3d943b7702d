"""Entities in a hub: who waits for one, who holds its lock, and how an operation runs.

An entity has a queue of what was asked of it, first in first out. It holds two kinds of entry: operations
(called by an orchestration, or signaled), and requests of orchestrations that want its lock. An entity that
is locked lets only the operations of the holder through; all else waits where it is. A request for several
entities travels: it locks the first, moves to the queue of the second, and so on, in the one order that the
SDK sorts them in, so that two orchestrations cannot each hold what the other wants.

Operations that are ready are run together, as a *batch*. One that fails is rolled back, its state and what it
asked for (signals, new orchestrations) alike; those before and after it count.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask.entities import DurableEntity, EntityContext, EntityInstanceId
from durabletask.worker import EntityNotRegisteredError

from dt_testkit.errors import DurableTestError
from dt_testkit.execution.execution import naive
from dt_testkit.sdk import StateShim, new_timestamp, type_discovery

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from durabletask.task import FailureDetails

    from dt_testkit.execution import Payloads
    from dt_testkit.hub.hub import TaskHub
    from dt_testkit.hub.instance import Instance


class Caller(NamedTuple):
    """Who called an operation or wants a lock: an instance in one of its generations."""

    instance: Instance
    generation: int


class EntityOperation(NamedTuple):
    """An operation asked of an entity: a call, or without a caller a signal by an instance or an entity."""

    name: str
    input: str | None
    request_id: str
    caller: Caller | None = None
    signaled_by: str = ""


class FailedOperation(NamedTuple):
    """An operation of an entity that failed, called or signaled.

    Attributes
    ----------
    name : str
        The operation.
    failure : FailureDetails
        Why it failed.
    time : datetime
        When. Naive UTC, virtual time.
    """

    name: str
    failure: FailureDetails
    time: datetime


class LockRequest(NamedTuple):
    """A request for the locks of some entities, which has got the first ``position`` of them."""

    caller: Caller
    critical_section_id: str
    lock_set: list[str]
    position: int = 0


class Signal(NamedTuple):
    """What an operation asked for: a signal to an entity."""

    entity_id: str
    name: str
    input: str | None
    scheduled_time: datetime | None


class NewOrchestration(NamedTuple):
    """What an operation asked for: a new orchestration."""

    name: str
    input: str | None
    instance_id: str
    version: str | None = None


class BatchResult(NamedTuple):
    """What came of a batch: a result or a failure for each operation, the state, and what was asked for."""

    results: list[str | FailureDetails | None]
    state: str | None
    actions: list[Signal | NewOrchestration]


def put_away(result: BatchResult, payloads: Payloads, entity_id: str) -> BatchResult:
    """What a worker with a payload store answers: tokens in the place of what is large."""
    return BatchResult(
        [
            payloads.answer(one, entity_id)
            if one is None or isinstance(one, str)
            else payloads.answer_failure(one, entity_id)
            for one in result.results
        ],
        payloads.answer(result.state, entity_id),
        [action._replace(input=payloads.answer(action.input, entity_id)) for action in result.actions],
    )


class Entity:
    """One entity: its state, who holds its lock, and how much waits for it.

    Made by :meth:`TaskHub.entity`. It is a live view: after ``hub.settle()`` it shows what happened.

    Attributes
    ----------
    entity_id : EntityInstanceId
        Its name, in lower case, and its key.
    last_modified_at : datetime
        When it was last locked, or last ran an operation. Naive UTC, virtual time.
    failures : list[FailedOperation]
        The operations that failed, each with ``name``, ``failure`` and ``time``. Of a signal that failed
        nobody hears otherwise.
    """

    def __init__(self, hub: TaskHub, entity_id: EntityInstanceId, now: datetime) -> None:
        self.entity_id = entity_id
        self.last_modified_at = now
        self.failures: list[FailedOperation] = []
        self._id = str(entity_id)
        self._hub = hub
        self._state: str | None = None
        self._waiting: deque[EntityOperation | LockRequest] = deque()
        self._holder: LockRequest | None = None
        self._passed_over = 0  # how much of what waits is known not to be the holder's
        self._queued = False
        self._running: list[EntityOperation] | None = None
        self._broken: BaseException | None = None

    def __repr__(self) -> str:
        held = f", locked by {self.locked_by!r}" if self.locked_by is not None else ""
        return f"<Entity {self._id}{held}, {self.queue_length} waiting>"

    @property
    def exists(self) -> bool:
        """Whether it has a state."""
        return self._state is not None

    @property
    def state(self) -> Any:
        """The state as plain JSON; None while there is none. For a typed one: :meth:`get_state`."""
        return self._hub._payloads.deserialize(self._state, None)

    def get_state(self, expected_type: type | None = None) -> Any:
        """The state, rebuilt as a type by the hub's data converter."""
        return self._hub._payloads.deserialize(self._state, expected_type)

    @property
    def locked_by(self) -> str | None:
        """The id of the instance that holds its lock; None if nobody does."""
        return self._holder.caller.instance.instance_id if self._holder is not None else None

    @property
    def queue_length(self) -> int:
        """How many operations and requests for its lock wait for it."""
        return len(self._waiting)

    # -- for the hub

    def _hold(self, holder: LockRequest) -> None:
        """Lock it. What waits by now is not the holder's, for it calls only what it has locked."""
        self._holder = holder
        self._passed_over = len(self._waiting)

    def _is_ready(self, entry: EntityOperation | LockRequest) -> bool:
        return isinstance(entry, EntityOperation) and self._lets_through(entry)

    def _lets_through(self, operation: EntityOperation) -> bool:
        holder = self._holder
        return holder is None or (operation.caller is not None and operation.caller == holder.caller)

    def _take_batch(self) -> list[EntityOperation]:
        """The operations that are ready, up to the next request for the lock. They are taken."""
        waiting = self._waiting
        batch: list[EntityOperation] = []
        if self._holder is None:
            while waiting and type(waiting[0]) is EntityOperation:
                batch.append(waiting.popleft())  # type: ignore[arg-type]
        else:
            # What was put back is in front, and what is new at the end; in between is nothing of the holder.
            while waiting and self._is_ready(waiting[0]):
                batch.append(waiting.popleft())  # type: ignore[arg-type]
            new = [waiting.pop() for _ in range(len(waiting) - self._passed_over)]
            for entry in reversed(new):
                (batch if self._is_ready(entry) else waiting).append(entry)  # type: ignore[arg-type]
            self._passed_over = len(waiting)
        return batch

    def _drop_request(self, caller: Caller, critical_section_id: str) -> None:
        """Forget the request of a critical section that has ended before it had all its locks."""
        section = caller, critical_section_id
        self._waiting = deque(
            entry for entry in self._waiting if not (isinstance(entry, LockRequest) and entry[:2] == section)
        )
        self._passed_over = 0


class EntityRunner:
    """Runs operations of registered entities as the SDK's worker does.

    Parameters
    ----------
    entities : dict[str, Entity]
        The registered functions and classes, by name in lower case.
    payloads : Payloads
        What inputs, results and states travel through.
    new_id : Callable
        Draws the id of an orchestration that is started without one.
    """

    def __init__(self, entities: dict[str, Any], payloads: Payloads, new_id: Callable[[], str]) -> None:
        self._entities = entities
        self._payloads = payloads
        self._new_id = new_id
        self._input_types: dict[tuple[Any, str], Any] = {}
        self._wants_input: dict[tuple[type, str], bool] = {}

    def run(
        self,
        entity_id: EntityInstanceId,
        state: str | None,
        operations: list[EntityOperation],
        describe: Callable[[Exception], FailureDetails],
    ) -> BatchResult:
        """Run a batch on a state; ``describe`` tells of an operation that fails, or raises itself."""
        shim: Any = StateShim(state, self._payloads, is_serialized=True)  # type: ignore[arg-type]
        results: list[str | FailureDetails | None] = []
        for operation in operations:
            try:
                results.append(self._run_one(entity_id, shim, operation))
            except Exception as error:  # noqa: PERF203
                results.append(describe(error))
                shim.rollback()
            else:
                shim.commit()
        return BatchResult(results, shim.encode_state() or None, shim.get_operation_actions())

    def _run_one(self, entity_id: EntityInstanceId, shim: Any, operation: EntityOperation) -> str | None:
        function = self._entities.get(entity_id.entity)
        if function is None:
            raise EntityNotRegisteredError(f"Entity function named '{entity_id.entity}' was not registered!")
        name, payloads = operation.name, self._payloads
        given = None
        if operation.input:
            given = payloads.deserialize(operation.input, self._input_type(function, name))
        context = _Context(entity_id, name, shim, payloads, self._new_id)
        if not (isinstance(function, type) and issubclass(function, DurableEntity)):
            return payloads.serialize(function(context, given))
        entity = function()
        if not hasattr(entity, name):
            raise AttributeError(f"Entity '{entity_id}' does not have operation '{name}'")
        method = getattr(entity, name)
        if not callable(method):
            raise TypeError(f"Entity operation '{name}' is not callable")
        entity._initialize_entity_context(context)
        if given is not None or self._has_required_parameter(function, name, method):
            return payloads.serialize(method(given))
        return payloads.serialize(method())

    def _input_type(self, function: Any, operation: str) -> Any:
        key = (function, operation if isinstance(function, type) else "")
        try:
            return self._input_types[key]
        except KeyError:
            found = type_discovery.entity_input_type(function, operation, self._payloads.converter)
            self._input_types[key] = found
            return found
        except TypeError:  # unhashable callable
            return type_discovery.entity_input_type(function, operation, self._payloads.converter)

    def _has_required_parameter(self, cls: type, name: str, method: Any) -> bool:
        try:
            return self._wants_input[cls, name]
        except KeyError:
            found = any(
                parameter.default is parameter.empty
                and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
                for parameter in inspect.signature(method).parameters.values()
            )
            self._wants_input[cls, name] = found
            return found


class _Context(EntityContext):
    """The SDK's context, whose new ids come from the hub's seed."""

    def __init__(
        self,
        entity_id: EntityInstanceId,
        operation: str,
        state: Any,
        payloads: Payloads,
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(str(entity_id), operation, state, entity_id, payloads)  # type: ignore[arg-type]
        self._payloads = payloads
        self._new_id = new_id

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation: str,
        input: Any | None = None,
        signal_time: datetime | None = None,
    ) -> None:
        if not isinstance(entity_instance_id, EntityInstanceId):
            raise DurableTestError(
                f"Entity {self.entity_id} signals {entity_instance_id!r} in its operation "
                f"'{self.operation}', which is no EntityInstanceId: write EntityInstanceId('name', 'key')."
            )
        encoded = self._payloads.serialize(input)
        when = None
        if signal_time is not None:
            new_timestamp(signal_time)  # raises what the SDK raises where it is no datetime
            when = naive(signal_time)
        self._ask_for(Signal(str(entity_instance_id), operation, encoded, when))

    def schedule_new_orchestration(
        self, orchestration_name: str, input: Any | None = None, instance_id: str | None = None
    ) -> str:
        encoded = self._payloads.serialize(input)
        instance_id = instance_id or self._new_id()
        self._ask_for(NewOrchestration(orchestration_name, encoded, instance_id))
        return instance_id

    def _ask_for(self, action: Signal | NewOrchestration) -> None:
        self._state.add_operation_action(action)  # type: ignore[arg-type]
