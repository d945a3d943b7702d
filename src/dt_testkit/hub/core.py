"""The state machine of a task hub.

Theory of operation
===================

A hub is a state machine with a clock that only the hub moves. What there is to do lies in two places:

* ``_queue``: work that is due now, first in first out. It is an instance with new events, which gets a
  *turn*, an activity to be run, or an entity with operations that are ready.
* ``_agenda``: work that is due later, ordered by its moment: timers, activities that take time, delayed
  starts, signals with a time.

To settle is to empty the queue; the clock stands still. To let time pass is to move the clock from one due
moment to the next, and to settle at each. All that happens within a turn is recorded as the SDK's backends
record it::

    OrchestratorStarted, the new events, what confirms the commands, OrchestratorCompleted

The generator of an instance stays alive between turns, so a turn costs the same however long the history is.
That the code would also get through by replay, as it must in production, is checked by replaying the
recorded history through a fresh generator when a generation ends (``check_replay``).

No wall clock, no socket, no sleep, no thread and no lock is used here. What runs activities, takes calls from
other threads and talks to clients is built around it: :class:`~dt_testkit.TaskHub`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakValueDictionary

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId

from dt_testkit.errors import (
    DurableTestError,
    InstanceAlreadyExists,
    InvalidTime,
    OrchestrationNotFinished,
    ReplayDivergence,
    VersionRejected,
)
from dt_testkit.execution import (
    CallEntity,
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Execution,
    LockEntities,
    Payloads,
    ScheduleActivity,
    SendEvent,
    SignalEntity,
    UnlockEntity,
    WorkerOptions,
)
from dt_testkit.execution.execution import VersionMismatch, naive
from dt_testkit.guard import Guard, unguarded
from dt_testkit.hub.entities import (
    BatchResult,
    Caller,
    Entity,
    EntityOperation,
    FailedOperation,
    LockRequest,
    NewOrchestration,
    Signal,
)
from dt_testkit.hub.hints import LOGGER, did_you_mean, explain, instead_of, look_at_end, told
from dt_testkit.hub.instance import TERMINAL, Instance, Parent
from dt_testkit.replaying.check import check, rebuild
from dt_testkit.replaying.report import plural
from dt_testkit.sdk import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dt_testkit.execution import Operation
    from dt_testkit.guard import Mode
    from dt_testkit.hub.filters import Filters
    from dt_testkit.hub.hub import TaskHub


@dataclass(slots=True, eq=False)
class ActivityWork:
    """An activity to be run."""

    instance: Instance
    generation: int
    command: ScheduleActivity

    def is_wanted(self) -> bool:
        """Whether the generation that asked for it still lives, or may live again by a rewind."""
        instance = self.instance
        return self.generation == len(instance._generations) and (
            instance.status not in TERMINAL or instance.status is OrchestrationStatus.FAILED
        )


class _Due(NamedTuple):
    """An event for an instance or an operation for an entity, delivered when the clock gets there."""

    moment: datetime
    order: int
    target: Instance | Entity
    generation: int
    event: h.HistoryEvent | EntityOperation | None
    activity: ActivityWork | None = None  # that runs until then


# How often an instance may continue as new while its end is waited for, or virtual time stands still.
MAX_GENERATIONS = 10_000
_BLOCKED_LEVELS = 10  # of sub-orchestrations are explained one by one


def _is_ignored(instance: Instance) -> bool:
    """Whether the worker neither takes the version of an instance nor says so: no failure strategy."""
    return instance._execution is not None and isinstance(instance._execution.error, VersionMismatch)


class HubCore:
    """Instances, the queue, the agenda and the clock; :class:`~dt_testkit.TaskHub` explains the arguments."""

    def __init__(
        self,
        orchestrators: dict[str, task.Orchestrator[Any, Any]],
        payloads: Payloads,
        *,
        start_time: datetime,
        seed: int,
        check_replay: str,
        options: WorkerOptions,
        shuffle: bool,
        guard: Mode,
    ) -> None:
        self.orchestrators = orchestrators
        self._guard = Guard.of(guard)
        self.worker_options = options
        self._payloads = payloads
        self._check_replay = check_replay
        self._seed = seed
        self._random = random.Random(seed)
        self._shuffle = random.Random(seed) if shuffle else None  # its own: ids do not depend on it
        self._instances: dict[str, Instance] = {}
        self._entities: dict[str, Entity] = {}
        self._unused_entities: WeakValueDictionary[str, Entity] = WeakValueDictionary()
        self._queue: deque[Instance | Entity | ActivityWork] = deque()
        self._filters: Filters | None = None
        self._left_out: list[Instance | ActivityWork] = []  # by the filters
        self._agenda: list[_Due] = []
        self._serial = count(1)
        self._turn_of: Instance | None = None
        self._turns_left: int | None = None
        self._drive = 0  # counts the calls that drive it
        self._has_own_limit = False  # whether who drives it has said how many turns
        self._awaited: tuple[Instance, int] | None = None  # who is waited for, and up to which generation
        self._now = naive(start_time)
        self._stamp = self._now.replace(tzinfo=timezone.utc)

    # -- time

    def _settle(self) -> None:
        queue, shuffle = self._queue, self._shuffle
        while True:
            while queue:
                if shuffle is not None:
                    queue.rotate(shuffle.randrange(len(queue)))
                work = queue.popleft()
                if type(work) is Instance:
                    self._take_turn(work)
                elif type(work) is Entity:
                    self._run_entity(work)
                else:
                    self._run_activity(work.instance, work.generation, work.command)  # type: ignore[union-attr]
            if not self._deliver_due():
                return

    def _put(self, work: Instance | Entity | ActivityWork) -> None:
        self._queue.append(work)

    def _refresh(self) -> None:
        """Do what is to be done before somebody looks: all that is due now."""
        self._settle()

    def _deliver_due(self) -> bool:
        """Deliver what the agenda has up to now."""
        agenda, now = self._agenda, self._now
        any_due = False
        while agenda and agenda[0].moment <= now:
            _, _, target, generation, event, _ = heapq.heappop(agenda)
            any_due = True
            if isinstance(target, Entity):
                entity = self._entity(target._id)  # it may have been removed since, or not be there yet
                self._ask_entity(entity, cast("EntityOperation", event))
            elif event is None:
                self._enqueue(target)
            else:
                self._deliver(target, generation, cast("h.HistoryEvent", event))
        return any_due

    def _next_due(self, until: datetime | None) -> bool:
        """Move the clock to the next due moment, if there is one by then."""
        agenda = self._agenda
        while agenda:
            target, generation = agenda[0].target, agenda[0].generation
            if isinstance(target, Entity) or (
                target.status not in TERMINAL and generation == len(target._generations)
            ):
                break
            _, _, _, _, event, activity = heapq.heappop(agenda)
            self._put_aside(target, generation, cast("h.HistoryEvent | None", event), activity)
        if not agenda or (until is not None and agenda[0].moment > until):
            return False
        self._set_clock(agenda[0].moment)
        return True

    def _later(self, by: timedelta) -> datetime:
        try:
            return self._now + by
        except OverflowError:
            raise InvalidTime(f"{self._now} + {by} is past the end of the calendar.") from None

    def _set_clock(self, moment: datetime) -> None:
        if moment > self._now:
            self._now = moment
            self._stamp = moment.replace(tzinfo=timezone.utc)

    def _run_until(self, done: Callable[[], bool], until: datetime | None) -> bool:
        while True:
            self._settle()
            if done():
                return True
            if not self._next_due(until):
                return False

    def _blocked(self, instance: Instance, indent: str = "") -> list[str]:
        """Why an instance does not move, for people."""
        title = f"{indent}Instance '{instance.instance_id}' ({instance.name})"
        if instance.status is OrchestrationStatus.SUSPENDED:
            return [f"{title} is suspended: resume() it."]
        if instance._held_until is not None and instance._held_until > self._now:
            return [f"{title} starts at {instance._held_until}, and hub.advance() gets there."]
        if instance in self._left_out:
            return [f"{title} is not worked on, for {self._why_not(instance)}"]
        if instance._rejected is not None and instance._execution is None:
            return [f"{indent}{instance._rejected}"]
        if instance._broken is not None:
            why = f"{type(instance._broken).__name__}: {instance._broken}"
            return [f"{title} does not go on, for its work was cut short by {why}"]
        if _is_ignored(instance):
            mismatch = cast("Execution", instance._execution).error
            return [
                f"{title} stays Running for ever, for the worker's VersioningOptions have no "
                f"failure_strategy: {mismatch}. Set VersionFailureStrategy.FAIL or REJECT."
            ]
        operations = instance.waiting_for
        if instance._execution is None and instance._generations[-1]:
            return [
                f"{title} waits for what a worker has asked for that is connected no longer: its history "
                "shows what that is, and its next turn is taken here."
            ]
        if not operations:
            execution = instance._execution
            awaited = execution.awaited if execution is not None else None
            what = "nothing that can ever complete"
            instead = "yield a task that is open (when_all([]) never completes)"
            if not isinstance(awaited, task.Task):
                what = f"something that is no task ({awaited!r})"
                instead = instead_of(awaited)
            elif awaited.is_complete:
                what = "a task that is complete already, in its first yield"
                instead = "take its get_result() and do not yield it"
            location = execution.location if execution is not None else None
            return [
                f"{title} waits for {what}, as it would for ever on a worker: it yielded at {location}; "
                f"{instead}."
            ]
        lines = [f"{title} waits for"]
        for operation in operations:
            lines.append(f"{indent}  - {operation}")
            if self._filters is not None:
                lines += self._left_out_of(self._filters, operation, indent + "    ")
            lines += self._holders(instance, operation, indent + "    ")
            entity = self._entities.get(operation.instance_id or "")
            if entity is not None and entity._broken is not None:
                why = f"{type(entity._broken).__name__}: {entity._broken}"
                lines.append(f"{indent}    The entity does not go on, for its work was cut short by {why}")
            child = self._instances.get(operation.instance_id or "")
            if child is not None and child.status not in TERMINAL:
                lines += self._blocked_below(child, indent + "    ")
        unread = instance._execution.unread_events if instance._execution is not None else []
        if unread:
            awaited_events = [op.name for op in operations if op.kind == "event" and op.name is not None]
            for name in unread:
                hint = did_you_mean(name, awaited_events)
                lines.append(f"{indent}  The event {name!r} came, and nobody took it{hint or '.'}")
        return lines

    def _blocked_below(self, child: Instance, indent: str) -> list[str]:
        """Why a sub-orchestration does not move; of a long chain of them the first ones and the last."""
        if len(indent) < _BLOCKED_LEVELS * 4:
            return self._blocked(child, indent)
        chain = [child]
        while chain[-1].status is OrchestrationStatus.RUNNING:  # one that is suspended says no more
            waits_for = (self._instances.get(op.instance_id or "") for op in chain[-1].waiting_for)
            below = next((one for one in waits_for if one is not None and one.status not in TERMINAL), None)
            if below is None or below in chain:
                break
            chain.append(below)
        lines = self._blocked(chain[-1], indent)
        if len(chain) > 1:
            lines.insert(0, f"{indent}... and so on, {plural(len(chain) - 1, 'level')}, down to")
        return lines

    def _holders(self, instance: Instance, operation: Operation, indent: str) -> list[str]:
        """Who holds the locks that an instance waits for, or of an entity that it calls."""
        opened = instance._execution.context._open if instance._execution is not None else {}
        command = opened[operation.id].command if operation.id in opened else None
        wanted: list[str] = []
        if isinstance(command, LockEntities):
            wanted = command.lock_set
        elif isinstance(command, CallEntity):
            wanted = [command.entity_id]
        own = Caller(instance, len(instance._generations))
        lines = []
        for name in wanted:
            entity = self._entities.get(name)
            holder = entity._holder.caller if entity is not None and entity._holder is not None else own
            if holder != own:
                ended = ""
                if not self._is_alive(holder):
                    ended = ", by a generation of it that has ended: clean_entity_storage() frees it"
                lines.append(f"{indent}{name} is locked by instance '{holder.instance.instance_id}'{ended}.")
        return lines

    # -- a turn

    def _take_turn(self, instance: Instance) -> None:
        if self._guard is None:
            self._turn(instance)
        else:
            outer = self._guard.begin()
            try:
                self._turn(instance)
            finally:
                self._guard.end(outer)

    def _turn(self, instance: Instance) -> None:
        if self._filters is not None and self._leaves_out(instance):
            return
        new = self._begin_turn(instance)
        if new is None:
            return
        self._turn_of = instance
        try:
            execution, again = self._execution_of(instance, new)
            for event in new:
                execution.process(event)
            if execution.unread_events and not execution.suspended:
                self._look_at_events(instance, execution, new)
            commands, custom_status = again + execution.take_commands(), execution.custom_status
            if self._payloads.store is not None:
                answer, instance_id = self._payloads.answer_command, instance.instance_id
                commands = [answer(command, instance_id) for command in commands]
                custom_status = self._payloads.answer(custom_status, instance_id)
        except VersionRejected as rejection:
            instance._rejected = rejection
            instance._execution = None
            self._undo_turn(instance, new)
            return
        except BaseException as error:
            instance._broken = error
            raise
        finally:
            self._turn_of = None
        self._end_turn(instance, commands, custom_status, suspended=execution.suspended)

    @staticmethod
    def _look_at_events(instance: Instance, execution: Execution, new: list[h.HistoryEvent]) -> None:
        """Say so where an event came that nobody took, and one is waited for whose name is near."""
        awaited = [op.name for op in execution.operations() if op.kind == "event" and op.name is not None]
        for event in new:
            if isinstance(event, h.EventRaisedEvent) and event.name.casefold() in execution.unread_events:
                hint = did_you_mean(event.name, awaited)
                if hint:
                    LOGGER.warning(
                        "Nobody took the event '%s' that came to instance '%s' (%s)%s",
                        event.name,
                        instance.instance_id,
                        instance.name,
                        hint,
                    )

    def _execution_of(self, instance: Instance, new: list[h.HistoryEvent]) -> tuple[Execution, list[Command]]:
        """The live execution of an instance, made or rebuilt if it has none.

        With it comes what the code asks for and the history no longer records: after a rewind, all that is to
        be tried again.
        """
        execution = instance._execution
        again: list[Command] = []
        # With other options it is another worker's, and that replays the instance for itself.
        if execution is None or execution.context._options is not self.worker_options:
            past = instance._generations[-1][: -len(new)]
            how = instance.instance_id, self.orchestrators, self._payloads, self.worker_options
            if past:
                execution, again = rebuild(how[0], past, *how[1:])
            else:
                execution = Execution(*how)
            instance._execution = execution
        return execution, again

    def _begin_turn(self, instance: Instance) -> list[h.HistoryEvent] | None:
        """Take the events of an instance's next turn, and record them; None if there is nothing to do."""
        instance._queued = False
        inbox = instance._inbox
        if not (inbox or instance._rewound) or instance.status in TERMINAL:
            return None
        self._count_turn(instance)
        instance._inbox = []
        instance._rewound = False
        new = [h.OrchestratorStartedEvent(-1, self._stamp), *inbox]
        instance._generations[-1] += new
        return new

    def _undo_turn(self, instance: Instance, new: list[h.HistoryEvent]) -> None:
        """Take back a turn that has begun: its events wait again."""
        del instance._generations[-1][-len(new) :]
        instance._inbox = new[1:] + instance._inbox
        instance._rewound = len(new) == 1

    def _end_turn(
        self, instance: Instance, commands: list[Command], custom_status: str | None, *, suspended: bool
    ) -> None:
        """Record what was asked for in a turn, and do it."""
        events, stamp = instance._generations[-1], self._stamp
        instance.status = OrchestrationStatus.SUSPENDED if suspended else OrchestrationStatus.RUNNING
        instance._custom_status = custom_status
        instance.last_updated_at = self._now
        completion: Complete | None = None
        for command in commands:
            if type(command) is Complete:
                completion = command
            else:
                self._carry_out(instance, events, command, stamp)
        events.append(h.OrchestratorCompletedEvent(-1, stamp))
        if completion is not None:
            self._finish(instance, events, completion, stamp)
        elif self._check_replay == "turn" and not _is_ignored(instance):
            self._check(instance, events)

    def _count_turn(self, work: Instance | Entity) -> None:
        if self._turns_left is None:
            return
        if isinstance(work, Instance) and len(work._generations) > MAX_GENERATIONS:
            self._look_for_a_circle(work)
        is_endless = (
            self._awaited is not None
            and work is self._awaited[0]
            and len(self._awaited[0]._generations) >= self._awaited[1]
        )
        if self._turns_left <= 0 or is_endless:
            work._queued = True
            self._queue.appendleft(work)
            if isinstance(work, Entity):
                raise OrchestrationNotFinished(
                    f"The limit of turns was reached at {self._now}, and entity {work._id} still has work to "
                    "do: if it signals itself, give the signal a time, or raise max_turns."
                )
            limit = "generations" if is_endless else "turns"
            raise OrchestrationNotFinished(
                f"The limit of {limit} was reached at {self._now}, and instance '{work.instance_id}' "
                f"({work.name}, generation {len(work._generations)}) still has work to do: let "
                "an eternal orchestration run with start() and advance(), or raise max_turns."
            )
        self._turns_left -= 1

    def _look_for_a_circle(self, instance: Instance) -> None:
        """Refuse to go round for ever at one moment."""
        first, drive, moment = instance._first_at_a_moment
        in_this = drive == self._drive and moment == self._now
        if self._has_own_limit or not in_this or len(instance._generations) - first < MAX_GENERATIONS:
            return
        instance._queued = True
        self._queue.appendleft(instance)
        raise OrchestrationNotFinished(
            f"Instance '{instance.instance_id}' ({instance.name}) has continued as new {MAX_GENERATIONS:,} "
            f"times while virtual time stood still at {self._now}: let it wait for a timer or an event in "
            "each generation, or pass max_turns where it is to go round so often."
        )

    def _carry_out(
        self, instance: Instance, events: list[h.HistoryEvent], command: Command, stamp: datetime
    ) -> None:
        """Record a command as the backends do, and do what it asks."""
        if isinstance(command, ScheduleActivity):
            events.append(
                h.TaskScheduledEvent(command.id, stamp, command.name, None, command.input, None, command.tags)
            )
            self._start_activity(instance, command)
        elif isinstance(command, CreateTimer):
            due = command.fire_at.replace(tzinfo=timezone.utc)
            events.append(h.TimerCreatedEvent(command.id, stamp, due))
            self._schedule(command.fire_at, instance, h.TimerFiredEvent(-1, due, due, command.id))
        elif isinstance(command, CallSubOrchestrator):
            events.append(
                h.SubOrchestrationInstanceCreatedEvent(
                    command.id, stamp, command.instance_id, command.name, command.version, command.input
                )
            )
            self._start_sub_orchestration(instance, command)
        elif isinstance(command, SendEvent):
            events.append(
                h.EventSentEvent(command.id, stamp, command.instance_id, command.name, command.data)
            )
            target = self._instances.get(command.instance_id)
            if target is not None:
                self._raise_event(target, command.name, command.data)
        else:
            self._carry_out_entity_command(instance, events, command, stamp)

    def _carry_out_entity_command(
        self, instance: Instance, events: list[h.HistoryEvent], command: Command, stamp: datetime
    ) -> None:
        record: h.HistoryEvent
        if isinstance(command, CallEntity):
            record = h.EntityOperationCalledEvent(
                command.id,
                stamp,
                command.request_id,
                command.name,
                None,
                command.input,
                instance.instance_id,
                None,
                command.entity_id,
            )
            self._note(instance, record)
            caller = Caller(instance, len(instance._generations))
            operation = EntityOperation(command.name, command.input, command.request_id, caller)
            self._call_entity(instance, command, operation)
        elif isinstance(command, SignalEntity):
            when = command.scheduled_time
            record = h.EntityOperationSignaledEvent(
                command.id,
                stamp,
                command.request_id,
                command.name,
                when.replace(tzinfo=timezone.utc) if when is not None else None,
                command.input,
                command.entity_id,
            )
            operation = EntityOperation(
                command.name, command.input, command.request_id, None, instance.instance_id
            )
            self._signal_entity(command.entity_id, operation, when)
        elif isinstance(command, LockEntities):
            record = h.EntityLockRequestedEvent(
                command.id,
                stamp,
                command.critical_section_id,
                list(command.lock_set),
                0,
                instance.instance_id,
            )
            self._note(instance, record)
            caller = Caller(instance, len(instance._generations))
            self._lock_entities(LockRequest(caller, command.critical_section_id, list(command.lock_set)))
        elif isinstance(command, UnlockEntity):
            record = h.EntityUnlockSentEvent(
                command.id, stamp, command.critical_section_id, instance.instance_id, command.entity_id
            )
            caller = Caller(instance, len(instance._generations))
            self._unlock(command.entity_id, caller, command.critical_section_id)
        else:
            raise TypeError(f"A command of an unknown kind: {command!r}")
        events.append(record)

    @staticmethod
    def _note(instance: Instance, record: h.HistoryEvent) -> None:
        """Tell a live execution under which request it will be answered."""
        if instance._execution is not None:
            instance._execution.process(record)

    def _finish(
        self, instance: Instance, events: list[h.HistoryEvent], completion: Complete, stamp: datetime
    ) -> None:
        """End a generation, and the instance if it does not continue as new."""
        status = completion.status
        events.append(
            h.ExecutionCompletedEvent(-1, stamp, status.value, completion.result, completion.failure)
        )
        execution, instance._execution = instance._execution, None
        if status is OrchestrationStatus.CONTINUED_AS_NEW:
            instance.status = OrchestrationStatus.PENDING
            self._begin_generation(instance, completion, stamp)
        else:
            instance.status = status
            instance._ended = next(self._serial)
            instance._output = completion.result
            failure = completion.failure
            if failure is not None:
                instance.failure = self._payloads.fetch_failure(failure)
                explain(instance, instance.failure, self.orchestrators, self._payloads, execution, completion)
            elif execution is not None:
                look_at_end(instance, execution)
            instance._inbox = []
            self._tell_parent(instance, completion, stamp)
        if self._check_replay != "never":
            self._check(instance, events)

    def _begin_generation(self, instance: Instance, completion: Complete, stamp: datetime) -> None:
        previous = instance._start_event
        assert previous is not None
        instance._input = completion.result
        if completion.new_version is not None:
            instance.version = completion.new_version
        if instance._first_at_a_moment[1:] != (self._drive, self._now):
            instance._first_at_a_moment = len(instance._generations), self._drive, self._now
        instance._generations.append([])
        instance._start_event = h.ExecutionStartedEvent(
            -1,
            stamp,
            instance.name,
            instance.version,
            instance._input,
            previous.orchestration_instance,
            previous.parent_instance,
            tags=previous.tags,
        )
        instance._inbox = [instance._start_event, *completion.carryover, *instance._inbox]
        self._enqueue(instance)

    def _tell_parent(self, instance: Instance, completion: Complete, stamp: datetime) -> None:
        parent = instance._parent or instance._waits_for_its_id
        if parent is None:
            return
        event: h.HistoryEvent
        if completion.status is OrchestrationStatus.COMPLETED:
            event = h.SubOrchestrationInstanceCompletedEvent(-1, stamp, parent.task_id, completion.result)
        else:
            failure = completion.failure or failure_of(Exception("Sub-orchestration failed"))
            event = h.SubOrchestrationInstanceFailedEvent(-1, stamp, parent.task_id, failure)
        self._deliver(parent.instance, parent.generation, event)

    def _check(self, instance: Instance, events: list[h.HistoryEvent]) -> None:
        # The guard has seen this code run. Only where it has stopped a call, that is part of what happened.
        has_stopped = self._guard is not None and self._guard.has_stopped
        with nullcontext() if has_stopped else unguarded():
            report = check(
                instance.instance_id, events, self.orchestrators, self._payloads, self.worker_options
            )
        if not report.ok:
            raise ReplayDivergence(report)

    # -- what commands and callers ask for

    def _refuse_in_a_turn(self) -> None:
        if self._turn_of is not None:
            raise DurableTestError(
                f"The hub is used from inside an orchestrator (instance '{self._turn_of.instance_id}'): "
                "orchestrators only ask, through their context."
            )

    def _create(
        self,
        name: str,
        input: str | None,
        instance_id: str,
        *,
        version: str | None = None,
        tags: Mapping[str, str] | None = None,
        start_at: datetime | None = None,
        parent: Parent | None = None,
        attempt: int = 1,
        replaceable: frozenset[int] = frozenset(),
    ) -> Instance:
        self._refuse_in_a_turn()
        existing, waits = self._instances.get(instance_id), None
        if existing is not None:
            # A sub-orchestration takes the place of one that has ended: a retry uses the same id.
            if parent is not None:
                replaceable = frozenset(status.value for status in TERMINAL)
            if existing.status.value not in replaceable:
                raise InstanceAlreadyExists(
                    f"Orchestration instance '{instance_id}' already exists ({existing.name}, "
                    f"{existing.status.name}): choose another instance_id."
                )
            if existing.status not in TERMINAL:
                existing.status = OrchestrationStatus.TERMINATED  # what is still to come for it is dropped
                waits = existing._parent or existing._waits_for_its_id
            self._forget(existing)
        instance = Instance(cast("TaskHub", self), instance_id, name, self._now, next(self._serial))
        instance.version = version
        instance.tags = dict(tags or {})
        instance._input = input
        instance._parent = parent
        instance._waits_for_its_id = waits
        if parent is not None:
            parent.instance._children[instance_id] = instance
        instance._attempt = attempt
        instance._start_event = h.ExecutionStartedEvent(
            -1,
            self._stamp,
            name,
            version,
            input,
            h.OrchestrationInstance(instance_id),
            h.ParentInstanceInfo(
                parent.task_id,
                parent.instance.name,
                parent.instance.version,
                h.OrchestrationInstance(parent.instance.instance_id),
            )
            if parent is not None
            else None,
            start_at.replace(tzinfo=timezone.utc) if start_at is not None else None,
            tags=instance.tags or None,
        )
        instance._inbox = [instance._start_event]
        self._instances[instance_id] = instance
        if start_at is not None and start_at > self._now:
            instance._held_until = start_at
            self._schedule(start_at, instance, None)
        else:
            self._enqueue(instance)
        return instance

    def _start_activity(self, instance: Instance, command: ScheduleActivity) -> None:
        self._put(ActivityWork(instance, len(instance._generations), command))

    def _start_sub_orchestration(self, instance: Instance, command: CallSubOrchestrator) -> None:
        parent = Parent(instance, len(instance._generations), command.id)
        try:
            self._create(
                command.name,
                command.input,
                command.instance_id,
                version=command.version,
                parent=parent,
                attempt=command.attempt,
            )
        except InstanceAlreadyExists:
            failure = failure_of(ValueError(f"Orchestration instance '{command.instance_id}' already exists"))
            event = h.SubOrchestrationInstanceFailedEvent(-1, self._stamp, command.id, failure)
            self._deliver(instance, parent.generation, event)

    def _run_activity(self, instance: Instance, generation: int, command: ScheduleActivity) -> None:
        raise NotImplementedError

    def _run_entity(self, entity: Entity) -> None:
        raise NotImplementedError

    def _schedule(
        self,
        moment: datetime,
        instance: Instance,
        event: h.HistoryEvent | None,
        generation: int | None = None,
        activity: ActivityWork | None = None,
    ) -> None:
        moment = max(moment, self._now)
        if event is not None:
            event.timestamp = moment.replace(tzinfo=timezone.utc)
        if generation is None:
            generation = len(instance._generations)
        heapq.heappush(self._agenda, _Due(moment, self._place(), instance, generation, event, activity))

    def _place(self) -> int:
        """The place of something among all that is due at the same moment."""
        return self._shuffle.getrandbits(128) if self._shuffle is not None else next(self._serial)

    def _place_of_signal(self, entity: Entity, operation: EntityOperation, when: datetime) -> int:
        """Its place, behind all that the same caller has asked of the entity for that moment."""
        if self._shuffle is None:
            return self._place()
        drawn = random.Random(f"{self._seed} {when} {entity._id} {operation.signaled_by}")
        return (drawn.getrandbits(64) << 64) + next(self._serial)

    # -- entities

    def _entity(self, entity_id: str) -> Entity:
        """The entity of that id, made if it was not there."""
        entity = self._entities.get(entity_id)
        if entity is None:
            entity = self._entity_object(EntityInstanceId.parse(entity_id))
            if entity._id not in self._entities:
                self._entities[entity._id] = entity
                entity.last_modified_at = self._now
        return entity

    def _entity_object(self, entity_id: EntityInstanceId) -> Entity:
        """The entity of that id, which need not be there; a test or the agenda may hold it already."""
        found = self._entities.get(str(entity_id))
        if found is not None:
            return found
        made = Entity(cast("TaskHub", self), entity_id, self._now)
        return self._unused_entities.setdefault(made._id, made)

    def _call_entity(self, instance: Instance, command: CallEntity, operation: EntityOperation) -> None:
        self._ask_entity(self._entity(command.entity_id), operation)

    def _signal_entity(self, entity_id: str, operation: EntityOperation, when: datetime | None) -> None:
        if when is not None and when > self._now:
            entity = self._entity_object(EntityInstanceId.parse(entity_id))
            place = self._place_of_signal(entity, operation, when)
            heapq.heappush(self._agenda, _Due(when, place, entity, 0, operation))
        else:
            self._ask_entity(self._entity(entity_id), operation)

    def _ask_entity(self, entity: Entity, entry: EntityOperation | LockRequest) -> None:
        entity._waiting.append(entry)
        self._enqueue_entity(entity)

    def _enqueue_entity(self, entity: Entity) -> None:
        if not entity._queued:
            entity._queued = True
            self._put(entity)

    def _lock_entities(self, request: LockRequest) -> None:
        self._ask_entity(self._entity(request.lock_set[request.position]), request)

    def _unlock(self, entity_id: str, caller: Caller, critical_section_id: str) -> None:
        entity = self._entity(entity_id)
        holder = entity._holder
        # An id is drawn from the clock, so two generations may have the same.
        if holder is not None and holder[:2] == (caller, critical_section_id):
            entity._holder = None
        else:
            entity._drop_request(caller, critical_section_id)
        self._enqueue_entity(entity)

    def _begin_batch(self, entity: Entity) -> list[EntityOperation] | None:
        """Take the operations of an entity that are ready; None if there is nothing to run now."""
        entity._queued = False
        if entity._running is not None:
            return None
        if entity._waiting:
            self._count_turn(entity)
        batch = entity._take_batch()
        if batch:
            entity._running = batch
            return batch
        if entity._holder is None and entity._waiting:
            self._grant(entity, cast("LockRequest", entity._waiting.popleft()))
            if entity._waiting:  # the new holder may have called it meanwhile
                self._enqueue_entity(entity)
        return None

    def _grant(self, entity: Entity, request: LockRequest) -> None:
        """Lock an entity that is free, and go on to the next of the set, or tell who asked."""
        entity._hold(request)
        entity.last_modified_at = self._now
        position = request.position + 1
        if position < len(request.lock_set):
            self._lock_entities(request._replace(position=position))
        else:
            event = h.EntityLockGrantedEvent(-1, self._stamp, request.critical_section_id)
            self._deliver(request.caller.instance, request.caller.generation, event)

    def _undo_batch(self, entity: Entity) -> None:
        """Take back a batch that has begun: its operations wait again, in front."""
        batch, entity._running = entity._running, None
        entity._waiting.extendleft(reversed(batch or []))

    def _end_batch(self, entity: Entity, result: BatchResult) -> None:
        """Keep the new state, answer who called, and do what the operations asked for."""
        batch, entity._running = entity._running, None
        entity._state = result.state
        entity.last_modified_at = self._now
        for operation, answer in zip(batch or [], result.results, strict=False):
            if isinstance(answer, task.FailureDetails):
                self._note_failure(entity, operation, self._payloads.fetch_failure(answer))
            if operation.caller is not None:
                event: h.HistoryEvent
                if isinstance(answer, task.FailureDetails):
                    event = h.EntityOperationFailedEvent(-1, self._stamp, operation.request_id, answer)
                else:
                    event = h.EntityOperationCompletedEvent(-1, self._stamp, operation.request_id, answer)
                self._deliver(operation.caller.instance, operation.caller.generation, event)
        for action in result.actions:
            if isinstance(action, Signal):
                signal = EntityOperation(action.name, action.input, self._new_id(), None, entity._id)
                self._signal_entity(action.entity_id, signal, action.scheduled_time)
            else:
                self._start_from_entity(action)
        if entity._waiting:
            self._enqueue_entity(entity)

    def _note_failure(self, entity: Entity, operation: EntityOperation, failure: task.FailureDetails) -> None:
        entity.failures.append(FailedOperation(operation.name, failure, self._now))
        near = self._names_near(entity, operation, failure)
        if operation.caller is None:
            what = "Signal '%s' to entity %s failed, and no caller hears of it (%s)%s"
        elif near:
            what = "Call of '%s' to entity %s failed (%s)%s"
        else:
            return
        LOGGER.warning(what, operation.name, entity._id, told(failure), near)

    def _names_near(self, entity: Entity, operation: EntityOperation, failure: task.FailureDetails) -> str:
        """The name that was perhaps meant, of the entity or its operation."""
        return ""

    def _release_orphaned_locks(self) -> int:
        """Unlock the entities whose holder has ended or is gone. Returns how many there were."""
        orphaned = [
            (entity, entity._holder)
            for entity in self._entities.values()
            if entity._holder is not None and not self._is_alive(entity._holder.caller)
        ]
        for entity, holder in orphaned:
            self._unlock(entity._id, holder.caller, holder.critical_section_id)
        return len(orphaned)

    def _is_alive(self, caller: Caller) -> bool:
        instance = caller.instance
        return (
            self._instances.get(instance.instance_id) is instance
            and instance.status not in TERMINAL
            and caller.generation == len(instance._generations)
        )

    def _remove_empty_entities(self) -> int:
        """Forget the entities without a state that nobody waits for or holds. Returns how many there were."""
        empty = [
            id
            for id, entity in self._entities.items()
            if entity._state is None
            and not entity._waiting
            and entity._holder is None
            and entity._running is None
        ]
        for id in empty:
            self._unused_entities[id] = self._entities.pop(id)
        return len(empty)

    def _start_from_entity(self, action: NewOrchestration) -> None:
        ended = frozenset(status.value for status in TERMINAL)
        with suppress(InstanceAlreadyExists):  # as the backends do: it runs already
            self._create(
                action.name,
                action.input,
                action.instance_id or self._new_id(),
                version=action.version,
                replaceable=ended,
            )

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    # -- what the worker's filters leave out

    def _leaves_out(self, work: Instance | Entity | ActivityWork) -> bool:
        """Whether that work is left out; it is then taken up again where the filters change."""
        if self._why_not(work) is None:
            return False
        if isinstance(work, Entity):
            work._queued = False
            # Locks are the backend's business, and no work.
            if work._holder is None and work._waiting and isinstance(work._waiting[0], LockRequest):
                self._grant(work, cast("LockRequest", work._waiting.popleft()))
        else:
            self._left_out.append(work)  # an instance counts as queued, so it is here once
        return True

    def _why_not(self, work: Instance | Entity | ActivityWork) -> str | None:
        filters = self._filters
        if filters is None:
            return None
        if isinstance(work, Instance):
            return filters.why_not("orchestration", work.name, work.version)
        if isinstance(work, Entity):
            return filters.why_not("entity", work.entity_id.entity)
        return filters.why_not("activity", work.command.name)  # the SDK gives activities no version

    def _left_out_of(self, filters: Filters, operation: Operation, indent: str) -> list[str]:
        """Why nobody works on what an instance waits for, if the filters leave it out."""
        problem = None
        if operation.kind == "activity":
            problem = filters.why_not("activity", operation.name or "")
        elif operation.kind == "entity":
            problem = self._why_not(self._entity(operation.instance_id or ""))
        return [f"{indent}Nobody works on it, for {problem}"] if problem is not None else []

    def _look_again(self) -> None:
        """Take up what was left out: the filters have changed."""
        self._queue.extend(self._left_out)
        self._left_out.clear()
        for entity in self._entities.values():
            if entity._waiting:
                self._enqueue_entity(entity)

    # -- a worker that stops

    def _hand_out_again(self) -> None:
        """Take back the activities that are running, and let them be run from the beginning."""
        agenda = self._agenda
        lost = {due.order: due.activity for due in agenda if due.activity is not None}
        agenda[:] = [due for due in agenda if due.activity is None]
        heapq.heapify(agenda)
        for order in sorted(lost):
            if lost[order].is_wanted():
                self._put(lost[order])

    def _restart_worker(self) -> None:
        """Drop all generators, and rebuild them from what is recorded, as the next worker does.

        Where the code does not get there, that instance goes no further; the first such divergence is raised
        once all others are rebuilt.
        """
        divergence: ReplayDivergence | None = None
        for instance in self._instances.values():
            execution = instance._execution
            if execution is None or instance._broken is not None:
                continue
            if execution.context._options is not self.worker_options:
                continue  # it is rebuilt in its next turn
            try:
                instance._execution, _ = rebuild(
                    instance.instance_id,
                    instance._generations[-1],
                    self.orchestrators,
                    self._payloads,
                    self.worker_options,
                )
            except ReplayDivergence as error:
                instance._execution, instance._broken = None, error
                divergence = divergence or error
        if divergence is not None:
            raise divergence

    def _deliver(self, instance: Instance, generation: int, event: h.HistoryEvent) -> None:
        """Hand an event to an instance, if the generation that it is for still lives."""
        if instance.status in TERMINAL or len(instance._generations) != generation:
            self._put_aside(instance, generation, event)
            return
        instance._inbox.append(event)
        self._enqueue(instance)

    def _put_aside(
        self,
        instance: Instance,
        generation: int,
        event: h.HistoryEvent | None,
        activity: ActivityWork | None = None,
    ) -> None:
        """Keep what comes to an instance that has failed: a rewind may want it. All else is dropped."""
        if (
            event is not None
            and instance.status is OrchestrationStatus.FAILED
            and generation == len(instance._generations)
        ):
            instance._aside.append((event, activity))

    def _enqueue(self, instance: Instance) -> None:
        if instance._queued or (instance._held_until is not None and instance._held_until > self._now):
            return
        instance._queued = True
        self._put(instance)

    def _raise_event(self, instance: Instance, name: str, data: str | None) -> None:
        self._refuse_in_a_turn()
        if instance.status in TERMINAL:
            return
        instance._inbox.append(h.EventRaisedEvent(-1, self._stamp, name, data))
        if instance.status is not OrchestrationStatus.SUSPENDED:
            self._enqueue(instance)

    def _suspend(self, instance: Instance, reason: str | None) -> None:
        self._refuse_in_a_turn()
        if instance.status is not OrchestrationStatus.SUSPENDED:
            event = h.ExecutionSuspendedEvent(-1, self._stamp, reason)
            self._deliver(instance, len(instance._generations), event)

    def _resume(self, instance: Instance, reason: str | None) -> None:
        self._refuse_in_a_turn()
        event = h.ExecutionResumedEvent(-1, self._stamp, reason)
        self._deliver(instance, len(instance._generations), event)

    def _terminate(self, instance: Instance, output: str | None, recursive: bool) -> None:
        self._refuse_in_a_turn()
        left = [instance]
        while left:
            one = left.pop()
            if one.status in TERMINAL:
                continue  # and what it started lives on
            if one._held_until is not None and one._held_until > self._now:
                # What waits for its start time never starts, so none of its code runs.
                one._held_until, one._inbox = None, []
            event = h.ExecutionTerminatedEvent(-1, self._stamp, output, recursive)
            self._deliver(one, len(one._generations), event)
            if recursive:
                left += reversed(one._children.values())

    def _restart(self, instance: Instance, with_new_id: bool) -> Instance:
        """Start again what an instance that has ended was started with, whatever it continued as."""
        self._refuse_in_a_turn()
        instance_id = self._new_id() if with_new_id else instance.instance_id
        if not with_new_id and self._instances.get(instance_id) is instance:
            self._forget(instance)
        recorded = (e for e in instance._generations[0] if isinstance(e, h.ExecutionStartedEvent))
        started = next(recorded, instance._start_event)
        assert started is not None
        return self._create(
            started.name, started.input, instance_id, version=started.version, tags=started.tags
        )

    def _forget(self, instance: Instance) -> None:
        """Take an instance out of the hub, and away from who started it."""
        del self._instances[instance.instance_id]
        if instance._parent is not None:
            instance._parent.instance._children.pop(instance.instance_id, None)

    def _purge(self, instances: Iterable[Instance], recursive: bool) -> int:
        """Forget those that have ended, and where ``recursive`` what they started; returns how many.

        What has not ended stays, and all that it started with it. Nothing has to be taken from the queue or
        the agenda: what they hold for an instance that has ended does nothing.
        """
        self._refuse_in_a_turn()
        left, purged = list(instances), 0
        while left:
            instance = left.pop()
            if instance.status in TERMINAL and self._instances.get(instance.instance_id) is instance:
                self._forget(instance)
                purged += 1
                if recursive:
                    left += instance._children.values()
        return purged
