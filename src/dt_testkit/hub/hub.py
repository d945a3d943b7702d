"""The simulated task hub.

Theory of operation
===================

A hub is a state machine with a clock that only the hub moves. What there is to do lies in two places:

* ``_queue``: work that is due now, first in first out. It is either an instance with new events, which gets a
  *turn*, or an activity to be run.
* ``_agenda``: work that is due later, ordered by its moment: timers, activities that take time, delayed
  starts.

:meth:`TaskHub.settle` empties the queue; the clock stands still. :meth:`TaskHub.advance` also moves the clock
from one due moment to the next. :meth:`TaskHub.run` does so until one instance has ended. All that happens
within a turn is recorded as the SDK's backends record it::

    OrchestratorStarted, the new events, what confirms the commands, OrchestratorCompleted

The generator of an instance stays alive between turns, so a turn costs the same however long the history is.
That the code would also get through by replay, as it must in production, is checked by replaying the
recorded history through a fresh generator when a generation ends (``check_replay``).

No wall clock, no socket, no sleep, no thread is used here. Other threads may call in: one lock is held while
the hub is driven.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import deque
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.worker import ActivityNotRegisteredError

from dt_testkit.errors import (
    DurableTestError,
    InstanceAlreadyExists,
    InstanceNotFound,
    InvalidTime,
    OrchestrationBlocked,
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
from dt_testkit.hub.stubs import Call, Stub, name_of
from dt_testkit.replaying.check import check
from dt_testkit.sdk import Registry, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
    from durabletask.serialization import DataConverter

MAX_TURNS = 1_000_000
START_TIME = datetime(2026, 1, 1)


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


class TaskHub:
    """A task hub in virtual time, on which orchestrators and activities run as on a worker.

    Parameters
    ----------
    start_time : datetime
        What the clock shows at first. Naive means UTC.
    seed : int
        Decides every choice that the hub makes, the ids of instances among them. Two hubs with one seed and
        the same calls record the same histories, byte for byte.
    data_converter : DataConverter | None
        The converter of the application's worker and client; default: the SDK's.
    check_replay : {"generation", "turn", "never"}
        When the recorded history is replayed through a fresh generator: when a generation ends, after every
        turn (slow for long histories, quick to find the place), or never. A difference raises
        :class:`ReplayDivergence` out of the call that was driving the hub.
    maximum_timer_interval : timedelta | None
        As the worker's: timers longer than this are chunked. None, as in the worker for the Durable Task
        Scheduler, chunks nothing.

    Attributes
    ----------
    orchestrators : dict[str, Orchestrator]
        The registered orchestrators by name, stubs included.
    data_converter : DataConverter
        The converter in use.
    maximum_timer_interval : timedelta | None
        The longest timer that is not chunked.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from dt_testkit import TaskHub
    >>> def hello(ctx, name):
    ...     return f"Hello {name}"
    >>> def greet_tomorrow(ctx, name):
    ...     yield ctx.create_timer(timedelta(days=1))
    ...     return (yield ctx.call_activity(hello, input=name))
    >>> hub = TaskHub()
    >>> _ = hub.add_orchestrator(greet_tomorrow), hub.add_activity(hello)
    >>> hub.run(greet_tomorrow, input="ana").output
    'Hello ana'
    >>> hub.now
    datetime.datetime(2026, 1, 2, 0, 0)
    """

    def __init__(
        self,
        *,
        start_time: datetime = START_TIME,
        seed: int = 0,
        data_converter: DataConverter | None = None,
        check_replay: Literal["generation", "turn", "never"] = "generation",
        maximum_timer_interval: timedelta | None = None,
    ) -> None:
        if check_replay not in ("generation", "turn", "never"):
            raise ValueError(f"check_replay is 'generation', 'turn' or 'never', not {check_replay!r}.")
        self._payloads = Payloads(data_converter)
        self.data_converter = self._payloads.converter
        self._check_replay = check_replay
        self.maximum_timer_interval = maximum_timer_interval
        self._random = random.Random(seed)
        self._registry = Registry()  # type: ignore[no-untyped-call]
        self.orchestrators: dict[str, task.Orchestrator[Any, Any]] = self._registry.orchestrators
        self._stubs: dict[str, Stub] = {}
        self._instances: dict[str, Instance] = {}
        self._queue: deque[Instance | _Activity] = deque()
        self._agenda: list[_Due] = []
        self._serial = count(1)
        self._lock = threading.RLock()
        self._depth = 0  # how often the driving thread holds the lock
        self._turn_of: Instance | None = None
        self._turns_left: int | None = None
        if not isinstance(start_time, datetime):
            raise TypeError(f"start_time is a datetime, not {start_time!r}.")
        self._now = naive(start_time)
        self._stamp = self._now.replace(tzinfo=timezone.utc)
        self._client: TaskHubGrpcClient | None = None
        self._async_client: AsyncTaskHubGrpcClient | None = None

    def __repr__(self) -> str:
        return f"<TaskHub at {self._now}, {len(self._instances)} instances>"

    # -- registration: the names of the SDK's worker

    def add_orchestrator(self, fn: task.Orchestrator[Any, Any]) -> str:
        """Register an orchestrator; returns its name. As on the worker, a name is registered once."""
        return self._registry.add_orchestrator(fn)

    def add_activity(self, fn: task.Activity[Any, Any]) -> str:
        """Register an activity; returns its name. As on the worker, a name is registered once."""
        return self._registry.add_activity(fn)

    def add_entity(self, fn: task.Entity[Any, Any], name: str | None = None) -> str:
        """Register an entity, so that an application's ``register(worker)`` goes through.

        This release does not simulate entities: an orchestrator that calls one raises
        :class:`NotSimulated` out of the call that drives the hub.
        """
        return self._registry.add_entity(fn, name)

    def stub(
        self,
        activity: task.Activity[Any, Any] | str,
        *,
        return_value: Any = None,
        side_effect: Any = None,
        wraps: Callable[..., Any] | None = None,
        duration: timedelta = timedelta(0),
    ) -> Stub:
        """Put a stand-in in the place of an activity, registered or not.

        Parameters
        ----------
        activity : Activity | str
            The activity or its name.
        return_value : Any
            What every call returns.
        side_effect : Exception | Callable | Iterable | None
            An exception to raise; a function that is called like the activity, with its context and input;
            or an iterable of results and exceptions, one for each call.
        wraps : Callable | None
            The function to call, the activity itself for one; calls are noted.
        duration : timedelta
            How long a call takes in virtual time, whether it succeeds or fails.

        Returns
        -------
        Stub
            With ``calls``, in the order in which they were made.
        """
        name = name_of(activity, "activity")
        known = self._registry.get_activity(name) if isinstance(activity, str) else activity
        self._stubs[name] = made = Stub(
            name,
            known,
            return_value=return_value,
            side_effect=side_effect,
            wraps=wraps,
            duration=duration,
        )
        return made

    def stub_orchestrator(
        self,
        orchestrator: task.Orchestrator[Any, Any] | str,
        *,
        return_value: Any = None,
        side_effect: Any = None,
        duration: timedelta = timedelta(0),
    ) -> Stub:
        """Put a stand-in in the place of an orchestrator, as :meth:`stub` does for an activity."""
        name = name_of(orchestrator, "orchestrator")
        known = self.orchestrators.get(name) if isinstance(orchestrator, str) else orchestrator
        made = Stub(
            name,
            known,
            return_value=return_value,
            side_effect=side_effect,
            wraps=None,
            duration=duration,
        )
        # A stand-in is replayed like any orchestrator, and must answer the same again.
        answers: dict[tuple[str, int, int], tuple[Any, Exception | None]] = {}

        def stand_in(ctx: task.OrchestrationContext, input: Any) -> Generator[task.Task[Any], Any, Any]:
            instance = self._instances[ctx.instance_id]
            key = ctx.instance_id, instance._serial, len(instance._generations)
            if key not in answers:
                decoded = self._payloads.decode_input(instance._input, made.function)
                call = Call(decoded, instance._attempt, ctx.instance_id, 0, ctx.current_utc_datetime)
                try:
                    answers[key] = made._call(call, ctx), None
                except DurableTestError:
                    raise
                except Exception as error:
                    answers[key] = None, error
            if made.duration:
                yield ctx.create_timer(made.duration)
            result, failure = answers[key]
            if failure is not None:
                raise failure
            return result

        self.orchestrators[name] = stand_in
        return made

    # -- instances

    def start(
        self,
        orchestrator: task.Orchestrator[Any, Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        tags: dict[str, str] | None = None,
        start_at: datetime | None = None,
    ) -> Instance:
        """Schedule a new instance; it takes its first turn when the hub is driven.

        Parameters
        ----------
        orchestrator : Orchestrator | str
            The orchestrator or its name. As in production, an instance of one that nobody registered fails.
        input : Any
            Its input; it travels through the data converter.
        instance_id : str | None
            Default: drawn from the hub's seed.
        version : str | None
            Its version.
        tags : dict[str, str] | None
            Its tags.
        start_at : datetime | None
            Start it at that moment. Naive means UTC.

        Returns
        -------
        Instance
            A live view of it.

        Raises
        ------
        InstanceAlreadyExists
            An instance of that id exists, running or not.
        """
        if instance_id is not None and not isinstance(instance_id, str):
            raise TypeError(f"instance_id is a string, not {instance_id!r}.")
        if start_at is not None and not isinstance(start_at, datetime):
            raise TypeError(
                f"start_at is a datetime, such as hub.now + timedelta(hours=1), not {start_at!r}."
            )
        with self._lock:
            return self._create(
                name_of(orchestrator, "orchestrator"),
                self._payloads.serialize(input),
                instance_id or f"{self._random.getrandbits(128):032x}",
                version=version,
                tags=tags,
                start_at=naive(start_at) if start_at is not None else None,
            )

    def run(
        self,
        orchestrator: task.Orchestrator[Any, Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        tags: dict[str, str] | None = None,
        start_at: datetime | None = None,
        max_turns: int = MAX_TURNS,
    ) -> Instance:
        """Start an instance and drive the hub until it has ended, skipping time.

        An instance that fails does not raise: look at its ``status`` and ``failure``.

        Takes what :meth:`start` takes, and ``max_turns``.

        Raises
        ------
        OrchestrationBlocked
            The instance waits for something that only the outside can do; the message lists it.
        OrchestrationNotFinished
            After ``max_turns`` turns it had not ended.
        ReplayDivergence
            Its history does not replay.
        """
        instance = self.start(
            orchestrator,
            input=input,
            instance_id=instance_id,
            version=version,
            tags=tags,
            start_at=start_at,
        )
        self._wait(instance, None, max_turns)
        return instance

    def instance(self, instance_id: str) -> Instance:
        """The instance of that id; :class:`InstanceNotFound` if there is none."""
        try:
            return self._instances[instance_id]
        except KeyError:
            known = ", ".join(map(repr, list(self._instances)[:10])) or "none"
            raise InstanceNotFound(
                f"No instance '{instance_id}' in this hub; there are {len(self._instances)}: {known}."
            ) from None

    @property
    def instances(self) -> list[Instance]:
        """All instances, sub-orchestrations included, in the order in which they were created."""
        return list(self._instances.values())

    # -- time

    @property
    def now(self) -> datetime:
        """What the clock shows, naive UTC."""
        return self._now

    def settle(self, *, max_turns: int = MAX_TURNS) -> None:
        """Do all that is due now, and what follows from it. The clock stands still.

        Raises
        ------
        OrchestrationNotFinished
            After ``max_turns`` turns there was still work to do.
        ReplayDivergence
            A history does not replay.
        """
        with self._driving(max_turns):
            self._settle()

    def advance(self, by: timedelta, *, max_turns: int = MAX_TURNS) -> None:
        """Let time pass; everything that is due in between happens, in order.

        Raises
        ------
        InvalidTime
            ``by`` is negative.
        OrchestrationNotFinished
            After ``max_turns`` turns there was still work to do.
        ReplayDivergence
            A history does not replay.
        """
        if not isinstance(by, timedelta):
            raise TypeError(f"advance() takes a timedelta, for instance timedelta(hours=1), not {by!r}.")
        if by < timedelta(0):
            raise InvalidTime(f"Time does not go backwards: advance() was given {by}.")
        with self._driving(max_turns):
            target = self._later(by)
            self._settle()
            while self._next_due(target):
                self._settle()
            self._set_clock(target)

    # -- clients

    @property
    def client(self) -> TaskHubGrpcClient:
        """The SDK's client, connected to this hub without a socket. Its ``timeout=`` is virtual time."""
        if self._client is None:
            from dt_testkit.hub.channel import connect

            self._client = connect(self)
        return self._client

    @property
    def async_client(self) -> AsyncTaskHubGrpcClient:
        """The SDK's asynchronous client, connected to this hub without a socket."""
        if self._async_client is None:
            from dt_testkit.hub.channel import connect_async

            self._async_client = connect_async(self)
        return self._async_client

    # -- driving

    @contextmanager
    def _driving(self, max_turns: int = MAX_TURNS) -> Iterator[None]:
        with self._lock:
            self._refuse_in_a_turn()
            self._depth += 1
            outer = self._turns_left
            self._turns_left = max_turns if outer is None else min(outer, max_turns)
            try:
                yield
            finally:
                self._turns_left = outer
                self._depth -= 1

    def _refuse_in_a_turn(self) -> None:
        if self._turn_of is not None:
            raise DurableTestError(
                f"The hub is used from inside an orchestrator (instance '{self._turn_of.instance_id}'): "
                "orchestrators only ask, through their context."
            )

    def _outside_the_lock(self, function: Callable[[Any, Any], Any], context: Any, given: Any) -> Any:
        """Run the user's code; a thread that it starts, and waits for, may use the hub meanwhile."""
        depth, self._depth = self._depth, 0
        for _ in range(depth):
            self._lock.release()
        try:
            return function(context, given)
        finally:
            for _ in range(depth):
                self._lock.acquire()
            self._depth = depth

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

    def _wait(self, instance: Instance, timeout: timedelta | None, max_turns: int = MAX_TURNS) -> None:
        if timeout is not None and not isinstance(timeout, timedelta):
            raise TypeError(f"The timeout is a timedelta, such as timedelta(hours=1), not {timeout!r}.")
        with self._driving(max_turns):
            until = self._later(timeout) if timeout is not None else None
            if self._run_until(lambda: instance.status in TERMINAL, until):
                return
            if until is None:
                way_out = (
                    "Raise the event, or use start(), settle() and advance() if something else is to come."
                )
                raise OrchestrationBlocked("\n".join([*self._blocked(instance), way_out]))
            self._set_clock(until)
            raise TimeoutError("\n".join([f"After {timeout} of virtual time:", *self._blocked(instance)]))

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
        instance = Instance(self, instance_id, name, self._now, next(self._serial))
        instance.version = version
        instance.tags = dict(tags or {})
        instance._input = input
        instance._parent = parent
        instance._attempt = attempt
        later = start_at is not None and start_at > self._now
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
        if later and start_at is not None:
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
        payloads = self._payloads
        name = command.name
        duration = timedelta(0)
        event: h.HistoryEvent
        try:
            context = task.ActivityContext(instance.instance_id, command.id)
            stub = self._stubs.get(name)
            if stub is not None:
                duration = stub.duration
                function = stub.function or self._noted_function(instance, name)
                call = Call(
                    payloads.decode_input(command.input, function),
                    command.attempt,
                    instance.instance_id,
                    command.id,
                    self._now,
                )
                result = payloads.serialize(self._outside_the_lock(stub._call, call, context))
            else:
                function = self._registry.activities.get(name)
                if function is None:
                    raise ActivityNotRegisteredError(f"Activity function named '{name}' was not registered!")
                data = command.input
                given = payloads.deserialize(data, payloads.input_type(function)) if data else None
                result = payloads.serialize(self._outside_the_lock(function, context, given))
            event = h.TaskCompletedEvent(-1, self._stamp, command.id, result)
        except Exception as error:
            try:
                if isinstance(error, DurableTestError):
                    raise
                if isinstance(error, AssertionError) and name in self._stubs:
                    raise  # the test's own, in a side_effect; not a failure of the activity it stands for
                event = h.TaskFailedEvent(-1, self._stamp, command.id, failure_of(error))
            except Exception as problem:
                instance._broken = problem
                raise
        if duration:
            self._schedule(self._now + duration, instance, event, generation)
        else:
            self._deliver(instance, generation, event)

    def _noted_function(self, instance: Instance, name: str) -> Any:
        return instance._execution.context._functions.get(name) if instance._execution is not None else None

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
        with self._lock:
            self._refuse_in_a_turn()
            if instance.status in TERMINAL:
                return
            instance._inbox.append(h.EventRaisedEvent(-1, self._stamp, name, data))
            if instance.status is not OrchestrationStatus.SUSPENDED:
                self._enqueue(instance)

    def _suspend(self, instance: Instance, reason: str | None) -> None:
        with self._lock:
            if instance.status is not OrchestrationStatus.SUSPENDED:
                event = h.ExecutionSuspendedEvent(-1, self._stamp, reason)
                self._deliver(instance, len(instance._generations), event)

    def _resume(self, instance: Instance, reason: str | None) -> None:
        with self._lock:
            event = h.ExecutionResumedEvent(-1, self._stamp, reason)
            self._deliver(instance, len(instance._generations), event)

    def _terminate(self, instance: Instance, output: str | None, recursive: bool) -> None:
        with self._lock:
            if instance.status in TERMINAL:
                return  # and what it started lives on
            event = h.ExecutionTerminatedEvent(-1, self._stamp, output, recursive)
            self._deliver(instance, len(instance._generations), event)
            if recursive:
                for child in self.instances:
                    if child._parent is not None and child._parent.instance is instance:
                        self._terminate(child, output, recursive)
