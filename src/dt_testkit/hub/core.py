"""The state machine of a task hub.

Theory of operation
===================

A hub is a state machine with a clock that only the hub moves. What there is to do lies in two places:

* ``_queue``: work that is due now, first in first out. It is either an instance with new events, which gets a
  *turn*, or an activity to be run.
* ``_agenda``: work that is due later, ordered by its moment: timers, activities that take time, delayed
  starts.

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
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus

from dt_testkit.errors import (
    DurableTestError,
    InstanceAlreadyExists,
    InvalidTime,
    OrchestrationNotFinished,
    ReplayDivergence,
)
from dt_testkit.execution import (
    CallSubOrchestrator,
    Command,
    Complete,
    CreateTimer,
    Execution,
    Payloads,
    ScheduleActivity,
    SendEvent,
)
from dt_testkit.execution.execution import naive
from dt_testkit.hub.instance import TERMINAL, Instance, Parent
from dt_testkit.replaying.check import check
from dt_testkit.sdk import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dt_testkit.hub.hub import TaskHub


class _Activity(NamedTuple):
    """An activity to be run."""

    instance: Instance
    generation: int
    command: ScheduleActivity


class _Due(NamedTuple):
    """An event for an instance, to be delivered when the clock gets there."""

    moment: datetime
    order: int
    instance: Instance
    generation: int
    event: h.HistoryEvent | None


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
        maximum_timer_interval: timedelta | None,
    ) -> None:
        self.orchestrators = orchestrators
        self.maximum_timer_interval = maximum_timer_interval
        self._payloads = payloads
        self._check_replay = check_replay
        self._random = random.Random(seed)
        self._instances: dict[str, Instance] = {}
        self._queue: deque[Instance | _Activity] = deque()
        self._agenda: list[_Due] = []
        self._serial = count(1)
        self._turn_of: Instance | None = None
        self._turns_left: int | None = None
        self._now = naive(start_time)
        self._stamp = self._now.replace(tzinfo=timezone.utc)

    # -- time

    def _settle(self) -> None:
        queue = self._queue
        while True:
            while queue:
                work = queue.popleft()
                if type(work) is Instance:
                    self._take_turn(work)
                else:
                    self._run_activity(*work)  # type: ignore[misc]
            if not self._deliver_due():
                return

    def _deliver_due(self) -> bool:
        """Deliver what the agenda has up to now."""
        agenda, now = self._agenda, self._now
        any_due = False
        while agenda and agenda[0].moment <= now:
            _, _, instance, generation, event = heapq.heappop(agenda)
            any_due = True
            if event is None:
                self._enqueue(instance)
            else:
                self._deliver(instance, generation, event)
        return any_due

    def _next_due(self, until: datetime | None) -> bool:
        """Move the clock to the next due moment, if there is one by then."""
        agenda = self._agenda
        while agenda and (
            agenda[0].instance.status in TERMINAL
            or agenda[0].generation != len(agenda[0].instance._generations)
        ):
            heapq.heappop(agenda)
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
        if instance._broken is not None:
            why = f"{type(instance._broken).__name__}: {instance._broken}"
            return [f"{title} does not go on, for its work was cut short by {why}"]
        operations = instance.waiting_for
        if not operations:
            awaited = instance._execution.awaited if instance._execution is not None else None
            what = "nothing that can ever complete"
            if not isinstance(awaited, task.Task):
                what = f"something that is no task ({awaited!r})"
            elif awaited.is_complete:
                what = "a task that is complete already, in its first yield"
            location = instance._execution.location if instance._execution is not None else None
            return [f"{title} waits for {what}, as it would for ever on a worker: it yielded at {location}."]
        lines = [f"{title} waits for"]
        for operation in operations:
            lines.append(f"{indent}  - {operation}")
            child = self._instances.get(operation.instance_id or "")
            if child is not None and child.status not in TERMINAL:
                lines += self._blocked(child, indent + "    ")
        unread = instance._execution.unread_events if instance._execution is not None else []
        if unread:
            lines.append(f"{indent}  It has not read the events that have arrived: {', '.join(unread)}.")
        return lines

    # -- a turn

    def _take_turn(self, instance: Instance) -> None:
        instance._queued = False
        inbox = instance._inbox
        if not inbox or instance.status in TERMINAL:
            return
        self._count_turn(instance)
        instance._inbox = []
        execution = instance._execution
        if execution is None:
            instance._execution = execution = Execution(
                instance.instance_id,
                self.orchestrators,
                self._payloads,
                maximum_timer_interval=self.maximum_timer_interval,
            )
            instance.status = OrchestrationStatus.RUNNING
        stamp = self._stamp
        events = instance._generations[-1]
        started = h.OrchestratorStartedEvent(-1, stamp)
        events.append(started)
        events += inbox
        self._turn_of = instance
        try:
            execution.process(started)
            for event in inbox:
                execution.process(event)
            commands = execution.take_commands()
        except BaseException as error:
            instance._broken = error
            raise
        finally:
            self._turn_of = None
        if execution.suspended:
            instance.status = OrchestrationStatus.SUSPENDED
        elif instance.status is OrchestrationStatus.SUSPENDED:
            instance.status = OrchestrationStatus.RUNNING
        instance._custom_status = execution.custom_status
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
        elif self._check_replay == "turn":
            self._check(instance, events)

    def _count_turn(self, instance: Instance) -> None:
        if self._turns_left is not None:
            if self._turns_left <= 0:
                self._enqueue(instance)
                raise OrchestrationNotFinished(
                    f"The limit of turns was reached at {self._now}, and instance '{instance.instance_id}' "
                    f"({instance.name}, generation {len(instance._generations)}) still has work to do: let "
                    "an eternal orchestration run with start() and advance(), or raise max_turns."
                )
            self._turns_left -= 1

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

    def _finish(
        self, instance: Instance, events: list[h.HistoryEvent], completion: Complete, stamp: datetime
    ) -> None:
        """End a generation, and the instance if it does not continue as new."""
        status = completion.status
        events.append(
            h.ExecutionCompletedEvent(-1, stamp, status.value, completion.result, completion.failure)
        )
        instance._execution = None
        if status is OrchestrationStatus.CONTINUED_AS_NEW:
            instance.status = OrchestrationStatus.PENDING
            self._begin_generation(instance, completion, stamp)
        else:
            instance.status = status
            instance._output = completion.result
            instance.failure = completion.failure
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
        parent = instance._parent
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
        report = check(
            instance.instance_id, events, self.orchestrators, self._payloads, self.maximum_timer_interval
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
        existing = self._instances.get(instance_id)
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
        instance = Instance(cast("TaskHub", self), instance_id, name, self._now, next(self._serial))
        instance.version = version
        instance.tags = dict(tags or {})
        instance._input = input
        instance._parent = parent
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
        self._queue.append(_Activity(instance, len(instance._generations), command))

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

    def _schedule(
        self,
        moment: datetime,
        instance: Instance,
        event: h.HistoryEvent | None,
        generation: int | None = None,
    ) -> None:
        moment = max(moment, self._now)
        if event is not None:
            event.timestamp = moment.replace(tzinfo=timezone.utc)
        if generation is None:
            generation = len(instance._generations)
        heapq.heappush(self._agenda, _Due(moment, next(self._serial), instance, generation, event))

    def _deliver(self, instance: Instance, generation: int, event: h.HistoryEvent) -> None:
        """Hand an event to an instance, if the generation that it is for still lives."""
        if instance.status in TERMINAL or len(instance._generations) != generation:
            return
        instance._inbox.append(event)
        self._enqueue(instance)

    def _enqueue(self, instance: Instance) -> None:
        if instance._queued or (instance._held_until is not None and instance._held_until > self._now):
            return
        instance._queued = True
        self._queue.append(instance)

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
        if instance.status in TERMINAL:
            return  # and what it started lives on
        event = h.ExecutionTerminatedEvent(-1, self._stamp, output, recursive)
        self._deliver(instance, len(instance._generations), event)
        if recursive:
            for child in list(self._instances.values()):
                if child._parent is not None and child._parent.instance is instance:
                    self._terminate(child, output, recursive)
