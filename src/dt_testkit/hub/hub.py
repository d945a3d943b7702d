"""The simulated task hub, as a test uses it: what is registered, what stands in, what drives it.

The state machine is :mod:`dt_testkit.hub.core`. Built around it here: the user's activities are run, and one
lock is held while the hub is driven, so that other threads may call in.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from durabletask import history as h
from durabletask import task
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.worker import ActivityNotRegisteredError, VersioningOptions, WorkItemFilters

from dt_testkit.errors import (
    DurableTestError,
    InstanceNotFound,
    InvalidTime,
    OrchestrationBlocked,
)
from dt_testkit.execution import Payloads, ScheduleActivity, WorkerOptions
from dt_testkit.execution.execution import naive
from dt_testkit.guard import hold, release
from dt_testkit.hub.core import MAX_GENERATIONS, ActivityWork, HubCore
from dt_testkit.hub.entities import Entity, EntityRunner, put_away
from dt_testkit.hub.filters import Filters
from dt_testkit.hub.hints import LOGGER, did_you_mean, explain_activity
from dt_testkit.hub.instance import TERMINAL, Instance
from dt_testkit.hub.stubs import Call, Stub, name_of
from dt_testkit.sdk import Registry, failure_of, pb, virtual_surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
    from durabletask.exception_properties import ExceptionPropertiesProvider
    from durabletask.payload import PayloadStore
    from durabletask.serialization import DataConverter

    from dt_testkit.guard import Mode
    from dt_testkit.hub.entities import EntityOperation
    from dt_testkit.hub.serving import HubServer

MAX_TURNS = 1_000_000
# How long time waits for an activity that another thread runs, in seconds of real time. It cannot wait for
# ever, for the activity may wait for this very thread.
_PATIENCE = 1.0
START_TIME = datetime(2026, 1, 1)
_AS_THEY_ARE = nullcontext()
_FROM_REGISTRATIONS = object()


class TaskHub(HubCore):
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
    shuffle : bool
        Whether the order of what is due at the same moment is drawn from the seed. The results of a fan-out
        then come in any order and in several turns, as they may in production. Default: the order in which
        it was asked for.
    guard : {"error", "warn", "off"}
        What becomes of a call in an orchestrator that would make a replay take another way: of the clock, of
        chance, of files. It raises :class:`NonDeterministicCall` there, and out of the call that was driving
        the hub; or it gives a :class:`NonDeterminismWarning`, once for each line; or nothing.
    maximum_timer_interval : timedelta | None
        As the worker's: timers longer than this are chunked. None, as in the worker for the Durable Task
        Scheduler, chunks nothing.
    exception_properties_provider : ExceptionPropertiesProvider | None
        As the worker's: adds properties to the failures that activities, entities and orchestrators report.
    payload_store : PayloadStore | None
        As the worker's and the client's: payloads above its threshold are kept there, and histories hold the
        tokens that stand for them. Orchestrators, activities, entities and clients see the values.

    Attributes
    ----------
    orchestrators : dict[str, Orchestrator]
        The registered orchestrators by name, stubs included.
    data_converter : DataConverter
        The converter in use.
    payload_store : PayloadStore | None
        The payload store in use.
    capabilities : set[int]
        What was given to :meth:`add_capability`.
    worker_options : WorkerOptions
        ``maximum_timer_interval``, ``versioning`` and ``exception_properties_provider``.

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
        shuffle: bool = False,
        guard: Mode = "error",
        maximum_timer_interval: timedelta | None = None,
        exception_properties_provider: ExceptionPropertiesProvider | None = None,
        payload_store: PayloadStore | None = None,
    ) -> None:
        if check_replay not in ("generation", "turn", "never"):
            raise ValueError(f"check_replay is 'generation', 'turn' or 'never', not {check_replay!r}.")
        if not isinstance(start_time, datetime):
            raise TypeError(f"start_time is a datetime, not {start_time!r}.")
        if not isinstance(seed, int):
            raise TypeError(f"seed is an int, not {seed!r}.")
        for name in ("serialize", "deserialize"):
            if data_converter is not None and not callable(getattr(data_converter, name, None)):
                raise TypeError(f"data_converter is a DataConverter of the SDK, not {data_converter!r}.")
        if maximum_timer_interval is not None and not isinstance(maximum_timer_interval, timedelta):
            raise TypeError(f"maximum_timer_interval is a timedelta, not {maximum_timer_interval!r}.")
        self._registry = Registry()  # type: ignore[no-untyped-call]
        super().__init__(
            self._registry.orchestrators,
            Payloads(data_converter, payload_store),
            start_time=start_time,
            seed=seed,
            check_replay=check_replay,
            shuffle=shuffle,
            guard=guard,
            options=WorkerOptions(maximum_timer_interval, None, exception_properties_provider),
        )
        self.data_converter = self._payloads.converter
        self.payload_store = payload_store
        self.capabilities: set[int] = set()
        self._has_schedules = False
        self._stubs: dict[str, Stub] = {}
        self._entity_runner = EntityRunner(self._registry.entities, self._payloads, self._new_id)
        self._server: HubServer | None = None
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        self._outside: dict[int, int] = {}  # how many activities each thread is running
        self._depth = 0  # how often the driving thread holds the lock
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
        """Register an entity, a function or a class; returns its name, which is looked up in lower case."""
        return self._registry.add_entity(fn, name)

    @property
    def maximum_timer_interval(self) -> timedelta | None:
        """The longest timer that is created in one piece, as it was given; None chunks nothing."""
        return self.worker_options.maximum_timer_interval

    def use_versioning(self, version: VersioningOptions | None) -> None:
        """Set the versioning options of the worker, now or later: a later one is another worker's.

        Instances that were rejected are looked at again at once. One in flight is replayed by the new worker
        in its next turn, and its version is evaluated then, as on every replay: a worker that has become
        strict fails or rejects it in the middle of its life.

        Parameters
        ----------
        version : VersioningOptions | None
            Which versions the worker takes, what becomes of the others, and the version of sub-orchestrations
            that are called without one. Without a ``failure_strategy`` the others stay Running for ever, as
            on the SDK's worker; what waits for one then raises :class:`OrchestrationBlocked` and says so.
            None takes every version, as at first.

        Examples
        --------
        >>> from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy
        >>> from dt_testkit import TaskHub
        >>> def greet(ctx, name):
        ...     return f"Hello {name}"
        >>> hub = TaskHub()
        >>> _ = hub.add_orchestrator(greet)
        >>> hub.use_versioning(
        ...     VersioningOptions("2.0", "2.0", VersionMatchStrategy.STRICT, VersionFailureStrategy.FAIL)
        ... )
        >>> hub.run(greet, version="1.0").failure.message
        "The orchestration version '1.0' does not match the worker version '2.0'."
        """
        if version is not None and not isinstance(version, VersioningOptions):
            raise TypeError(
                "use_versioning() takes VersioningOptions, such as VersioningOptions('2.0', '2.0', "
                f"VersionMatchStrategy.STRICT, VersionFailureStrategy.FAIL), not {version!r}."
            )
        with self._lock:
            self._refuse_in_a_turn()
            self.worker_options = self.worker_options._replace(versioning=version)
            self._registry.versioning = version
            for instance in self._instances.values():
                if instance._rejected is not None:
                    instance._rejected = None
                    self._enqueue(instance)

    def add_capability(self, capability: int) -> None:
        """Note a capability (``WORKER_CAPABILITY_*``), as the worker does; a hub does nothing with it."""
        self.capabilities.add(capability)

    def configure_scheduled_tasks(self) -> None:
        """Register what the SDK's recurring schedules need; their clock is the hub's.

        Examples
        --------
        >>> from datetime import timedelta
        >>> from durabletask.scheduled import ScheduleCreationOptions, ScheduledTaskClient
        >>> from dt_testkit import TaskHub
        >>> def report(ctx, _):
        ...     return ctx.current_utc_datetime.isoformat()
        >>> hub = TaskHub()
        >>> _ = hub.add_orchestrator(report)
        >>> hub.configure_scheduled_tasks()
        >>> daily = ScheduleCreationOptions("daily", "report", timedelta(days=1))
        >>> _ = ScheduledTaskClient(hub.client).create_schedule(daily)
        >>> hub.advance(timedelta(days=365))
        >>> reports = [instance for instance in hub.instances if instance.name == "report"]
        >>> len(reports), reports[0].output
        (365, '2026-01-02T00:00:00')
        """
        from durabletask.scheduled.orchestrator import execute_schedule_operation_orchestrator
        from durabletask.scheduled.schedule_entity import ENTITY_NAME, Schedule

        self.add_entity(Schedule, ENTITY_NAME)
        self.add_orchestrator(execute_schedule_operation_orchestrator)
        self.add_capability(pb.WORKER_CAPABILITY_SCHEDULED_TASKS)
        self._has_schedules = True

    def use_work_item_filters(self, filters: WorkItemFilters | object | None = _FROM_REGISTRATIONS) -> None:
        """Set the work item filters of the worker, now or later: later ones are another worker's.

        On a hub the only worker is itself. What the filters leave out stays where it is: an orchestration
        PENDING, an activity scheduled, an entity's operations waiting. What waits for it raises
        :class:`OrchestrationBlocked`, which says so.

        Parameters
        ----------
        filters : WorkItemFilters | None
            Default: what is registered, stubs included; with ``VersionMatchStrategy.STRICT`` only in the
            worker's version. None takes everything, as at first.

        Examples
        --------
        >>> from durabletask.worker import ActivityWorkItemFilter, WorkItemFilters
        >>> from dt_testkit import OrchestrationBlocked, TaskHub
        >>> def greet(ctx, name):
        ...     return f"Hello {name}"
        >>> hub = TaskHub()
        >>> _ = hub.add_orchestrator(greet)
        >>> hub.use_work_item_filters(WorkItemFilters(activities=[ActivityWorkItemFilter("send")]))
        >>> try:
        ...     hub.run(greet, input="ana", instance_id="one")
        ... except OrchestrationBlocked as blocked:
        ...     print(str(blocked).splitlines()[0])
        Instance 'one' (greet) is not worked on, for the worker's filters leave orchestration 'greet' out.
        """
        if not (filters is None or filters is _FROM_REGISTRATIONS or isinstance(filters, WorkItemFilters)):
            raise TypeError(f"The filters are WorkItemFilters, None or left away, not {filters!r}.")
        with self._lock:
            self._refuse_in_a_turn()
            explicit = filters if isinstance(filters, WorkItemFilters) else None
            self._filters = Filters(explicit, self._registry, self._stubs) if filters is not None else None
            self._look_again()

    def stub(
        self,
        activity: task.Activity[Any, Any] | str,
        *,
        return_value: Any = None,
        side_effect: Any = None,
        wraps: Callable[..., Any] | None = None,
        duration: timedelta | Callable[[Any], timedelta] = timedelta(0),
        duplicate: bool = False,
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
        duration : timedelta | Callable
            How long a call takes in virtual time, whether it succeeds or fails; or a function of the input
            that tells.
        duplicate : bool
            Whether every call is made twice, as may happen in production, where activities run at least
            once. The first outcome counts, be it a failure; the second is dropped.

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
            duplicate=duplicate,
        )
        return made

    def stub_orchestrator(
        self,
        orchestrator: task.Orchestrator[Any, Any] | str,
        *,
        return_value: Any = None,
        side_effect: Any = None,
        duration: timedelta | Callable[[Any], timedelta] = timedelta(0),
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
        # A stand-in is replayed like any orchestrator, and must answer the same again, until it is rewound.
        answers: dict[tuple[Any, ...], tuple[timedelta, Any, Exception | None]] = {}

        def stand_in(ctx: task.OrchestrationContext, input: Any) -> Generator[task.Task[Any], Any, Any]:
            instance = self._instances[ctx.instance_id]
            key = instance._serial, len(instance._generations), instance._rewinds
            if key not in answers:
                decoded = self._payloads.decode_input(instance._input, made.function)
                call = Call(decoded, instance._attempt, ctx.instance_id, 0, self._now)
                takes = made._takes(decoded)
                try:
                    answers[key] = takes, made._call(call, ctx), None  # dt: ignore[DT109, DT900] for replays
                except DurableTestError:
                    raise
                except Exception as error:
                    answers[key] = takes, None, error
            takes, result, failure = answers[key]
            if takes:
                yield ctx.create_timer(takes)
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
            instance_id = instance_id or self._new_id()
            return self._create(
                name_of(orchestrator, "orchestrator"),
                self._payloads.put_away(self._payloads.serialize(input), instance_id),
                instance_id,
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
            After ``max_turns`` turns it had not ended; or, with the default, after it had continued as new
            10,000 times, for an eternal orchestration would take minutes to a million turns.
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
            raise InstanceNotFound(self._not_there(instance_id)) from None

    def _not_there(self, instance_id: str) -> str:
        known = ", ".join(map(repr, list(self._instances)[:10])) or "none"
        return f"No instance '{instance_id}' in this hub; there are {len(self._instances)}: {known}."

    @property
    def instances(self) -> list[Instance]:
        """All instances, sub-orchestrations included, in the order in which they were created."""
        return list(self._instances.values())

    def entity(self, entity_id: EntityInstanceId | str) -> Entity:
        """The entity of that id: its state, who holds its lock, how much waits for it.

        Parameters
        ----------
        entity_id : EntityInstanceId | str
            ``EntityInstanceId("account", "ana")`` or ``"@account@ana"``; the name in any case. One that
            nobody has called yet has no state.

        Raises
        ------
        InstanceNotFound
            Nobody has called it, and no entity of that name is registered.
        """
        if isinstance(entity_id, str):
            try:
                entity_id = EntityInstanceId.parse(entity_id)
            except ValueError as error:
                raise InstanceNotFound(
                    f"{entity_id!r} is no id of an entity ({error}): write '@name@key', or "
                    "EntityInstanceId('name', 'key')."
                ) from None
        if not isinstance(entity_id, EntityInstanceId):
            raise TypeError(f"entity() takes an EntityInstanceId or '@name@key', not {entity_id!r}.")
        with self._lock:
            found = self._entities.get(str(entity_id))
            # The workers of a served hub know entities that it does not.
            if found is None and self._server is None and entity_id.entity not in self._registry.entities:
                known = ", ".join(sorted({*self._registry.entities, *self._entities})) or "none"
                raise InstanceNotFound(
                    f"No entity {entity_id} in this hub, and none named '{entity_id.entity}' is registered; "
                    f"there are: {known}."
                )
            return found if found is not None else self._entity_object(entity_id)

    @property
    def entities(self) -> list[Entity]:
        """All entities that have been called, signaled or locked, in the order in which they were first."""
        return list(self._entities.values())

    # -- time

    @property
    def now(self) -> datetime:
        """What the clock shows, naive UTC."""
        return self._now if self._server is None else self._server.now()

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

    # -- faults

    def crash_worker(self) -> None:
        """Let the worker die, and the next one take over. For between the calls that drive the hub.

        Every generator is dropped, and rebuilt by replay. Activities that take time (the ``duration`` of a
        stub) and are not done yet are lost: they are handed out again, and so run once more from the
        beginning, when the hub is driven next. What is recorded stays: histories, entities and their locks,
        timers, events that have arrived.

        Raises
        ------
        ReplayDivergence
            An orchestrator does not get back to where it was, for it depends on what no history records.
        DurableTestError
            The hub is in a turn, an activity or an entity is running, or the hub is served: then the workers
            are processes of their own, and it is those that can die.

        Examples
        --------
        >>> from datetime import timedelta
        >>> from dt_testkit import TaskHub
        >>> def order(ctx, amount):
        ...     return (yield ctx.call_activity("charge", input=amount))
        >>> hub = TaskHub()
        >>> _ = hub.add_orchestrator(order)
        >>> charge = hub.stub("charge", return_value="PAY-1", duration=timedelta(minutes=2))
        >>> instance = hub.start(order, input=42)
        >>> hub.advance(timedelta(minutes=1))
        >>> hub.crash_worker()
        >>> instance.wait().output, len(charge.calls), hub.now.minute
        ('PAY-1', 2, 3)
        """
        with self._lock:
            self._refuse_in_a_turn()
            if self._outside:
                raise DurableTestError(
                    "crash_worker() is called while an activity or an entity runs: give the activity a stub "
                    "with a duration, and crash the worker between the calls that drive the hub."
                )
            if self._server is not None:
                raise DurableTestError(
                    f"The hub is served on {self._server.address}, and has no worker of its own to crash: "
                    "stop one of those that are connected."
                )
            self._hand_out_again()
            with self._noticing():
                self._restart_worker()

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

    def serve(
        self,
        port: int = 0,
        *,
        host: str = "localhost",
        time: Literal["skip", "real"] = "skip",
        patience: float | None = 1.0,
    ) -> HubServer:
        """Let workers and clients of any language connect over gRPC. What is due is done by the workers.

        Parameters
        ----------
        port : int
            The port to listen on; 0 for any that is free.
        host : str
            The interface to listen on. Anything but this machine alone must be asked for: there is neither
            encryption nor authentication.
        time : {"skip", "real"}
            With ``"skip"``, virtual time jumps to the next due moment when nothing is in flight: at once
            while a client waits for an instance to start or complete, else after ``patience``. With
            ``"real"`` it passes as real time does.
        patience : float | None
            For how many seconds of real time no client may have asked for anything new (started an instance,
            raised an event, ...) before time jumps though nobody waits. None: then it never does.

        Returns
        -------
        HubServer
            With ``address``, for ``host_address``, and ``stop()``; leaving its context stops it.

        Raises
        ------
        DurableTestError
            The hub is served already, or the port is taken.

        Examples
        --------
        >>> from datetime import timedelta
        >>> from durabletask.client import TaskHubGrpcClient
        >>> from durabletask.worker import TaskHubGrpcWorker
        >>> from dt_testkit import TaskHub
        >>> def sleeper(ctx, days):
        ...     yield ctx.create_timer(timedelta(days=days))
        ...     return "awake"
        >>> with TaskHub().serve() as server, TaskHubGrpcWorker(host_address=server.address) as worker:
        ...     _ = worker.add_orchestrator(sleeper)
        ...     worker.start()
        ...     client = TaskHubGrpcClient(host_address=server.address)
        ...     sleeping = client.schedule_new_orchestration(sleeper, input=30)
        ...     client.wait_for_orchestration_completion(sleeping, timeout=10).get_output()
        ...     client.close()
        'awake'
        """
        from dt_testkit.hub.serving import HubServer

        if time not in ("skip", "real"):
            raise ValueError(f"time is 'skip' or 'real', not {time!r}.")
        if patience is not None and not 0 <= patience < float("inf"):
            raise ValueError(f"patience is a number of seconds, or None for ever, not {patience!r}.")
        with self._lock:
            self._refuse_in_a_turn()
            if self._outside:
                raise DurableTestError(
                    "serve() is called while an activity or an entity runs: call it before you drive the hub."
                )
            if self._server is not None:
                raise DurableTestError(f"The hub is served already, on {self._server.address}: stop() that.")
            self._server = HubServer(self, host, port, time, patience)
            return self._server

    def _put(self, work: Instance | Entity | ActivityWork) -> None:
        if self._server is None:
            super()._put(work)
        else:
            self._server.put(work)

    def _schedule(self, *arguments: Any, **keywords: Any) -> None:
        super()._schedule(*arguments, **keywords)
        if self._server is not None:
            self._server.called()

    def _signal_entity(self, entity_id: str, operation: EntityOperation, when: datetime | None) -> None:
        super()._signal_entity(entity_id, operation, when)
        if self._server is not None:
            self._server.called()

    def _refresh(self) -> None:
        if self._server is None:
            self._settle()
        else:
            self._deliver_due()

    def _settle(self) -> None:
        while (server := self._server) is not None:
            depth, self._depth = self._depth, 0
            turns, self._turns_left = self._turns_left, None  # others may drive it meanwhile
            try:
                taken = server.settle(turns if turns is not None else MAX_TURNS)
            finally:
                self._depth, self._turns_left = depth, turns
            if turns is not None:
                self._turns_left = turns - taken
            if self._server is server and not self._deliver_due():
                return
        super()._settle()

    def _blocked(self, instance: Instance, indent: str = "") -> list[str]:
        return super()._blocked(instance, indent) if self._server is None else self._server.blocked(instance)

    def _refuse_in_a_turn(self) -> None:
        super()._refuse_in_a_turn()
        if self._server is not None:  # who uses the hub in process passes here, and needs to know the time
            self._server.tick()

    # -- driving

    @contextmanager
    def _driving(self, max_turns: int = MAX_TURNS) -> Iterator[None]:
        with self._lock:
            self._refuse_in_a_turn()
            self._depth += 1
            if self._depth == 1:
                self._drive += 1
            outer, has_own_limit = self._turns_left, self._has_own_limit
            self._turns_left = max_turns if outer is None else min(outer, max_turns)
            self._has_own_limit |= max_turns != MAX_TURNS
            if self._guard is not None:
                hold()
            try:
                yield
            finally:
                if self._guard is not None:
                    release()
                self._turns_left, self._has_own_limit = outer, has_own_limit
                self._depth -= 1

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Guard what is rebuilt between the calls that drive the hub."""
        if self._guard is None:
            yield
            return
        hold()
        outer = self._guard.begin()
        try:
            yield
        finally:
            release()
            self._guard.end(outer)

    def _outside_the_lock(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run the user's code; a thread that it starts, and waits for, may use the hub meanwhile."""
        depth, self._depth = self._depth, 0
        # The limits are this thread's alone.
        turns, self._turns_left = self._turns_left, None
        has_own_limit, self._has_own_limit = self._has_own_limit, False
        thread = threading.get_ident()
        self._outside[thread] = self._outside.get(thread, 0) + 1
        for _ in range(depth):
            self._lock.release()
        try:
            return function(*arguments)
        finally:
            try:
                self._acquire(depth)
            finally:
                self._depth, self._turns_left, self._has_own_limit = depth, turns, has_own_limit
                self._outside[thread] -= 1
                if not self._outside[thread]:
                    del self._outside[thread]
                self._returned.notify_all()

    def _acquire(self, depth: int) -> None:
        """Take the lock as often as it was held; an interrupt meanwhile is raised only after that."""
        interrupt: BaseException | None = None
        while depth:
            try:
                self._lock.acquire()
                depth -= 1
            except KeyboardInterrupt as error:  # noqa: PERF203
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _next_due(self, until: datetime | None) -> bool:
        # Time does not pass while another thread runs an activity.
        if self._outside and self._outside.keys() - {threading.get_ident()}:
            depth, self._depth = self._depth, 0
            turns, self._turns_left = self._turns_left, None
            returned = self._returned.wait(_PATIENCE)
            self._depth, self._turns_left = depth, turns
            if returned:
                return True
        return super()._next_due(until)

    def _wait(self, instance: Instance, timeout: timedelta | None, max_turns: int = MAX_TURNS) -> None:
        if timeout is not None and not isinstance(timeout, timedelta):
            raise TypeError(f"The timeout is a timedelta, such as timedelta(hours=1), not {timeout!r}.")
        with self._driving(max_turns):
            until = self._later(timeout) if timeout is not None else None
            outer = self._awaited
            if until is None and not self._has_own_limit:
                self._awaited = instance, len(instance._generations) + MAX_GENERATIONS
            try:
                if self._run_until(lambda: instance.status in TERMINAL, until):
                    return
            finally:
                self._awaited = outer
            if until is None:
                lines = self._blocked(instance)
                if instance.waiting_for and instance.status is not OrchestrationStatus.SUSPENDED:
                    is_event = any(line.lstrip().startswith("- event ") for line in lines)
                    use = "use start(), settle() and advance() if something else is to come."
                    lines.append(f"Raise the event, or {use}" if is_event else f"{use[:1].upper()}{use[1:]}")
                raise OrchestrationBlocked("\n".join(lines))
            self._set_clock(until)
            raise TimeoutError("\n".join([f"After {timeout} of virtual time:", *self._blocked(instance)]))

    # -- running activities

    def _run_activity(self, instance: Instance, generation: int, command: ScheduleActivity) -> None:
        if self._filters is not None and self._leaves_out(ActivityWork(instance, generation, command)):
            return
        stub = self._stubs.get(command.name)
        try:
            event, duration = self._run_once(instance, command, stub)
            if stub is not None and stub.duplicate:
                self._run_once(instance, command, stub)
        except BaseException as problem:  # the test's own, or an interrupt: nobody runs it again
            instance._broken = problem
            raise
        if duration:
            work = ActivityWork(instance, generation, command)
            self._schedule(self._now + duration, instance, event, generation, work)
        else:
            self._deliver(instance, generation, event)

    def _run_once(
        self, instance: Instance, command: ScheduleActivity, stub: Stub | None
    ) -> tuple[h.HistoryEvent, timedelta]:
        """Run an activity: what comes of it, and how long it takes. What is the test's own is raised."""
        payloads, name = self._payloads, command.name
        duration = timedelta(0)
        try:
            context = task.ActivityContext(instance.instance_id, command.id)
            if stub is not None:
                function = stub.function or self._noted_function(instance, name)
                call = Call(
                    payloads.decode_input(command.input, function),
                    command.attempt,
                    instance.instance_id,
                    command.id,
                    self._now,
                )
                duration = stub._takes(call.input)
                result = payloads.serialize(self._outside_the_lock(stub._call, call, context))
            else:
                function = self._registry.activities.get(name)
                if function is None:
                    if hint := did_you_mean(name, {*self._registry.activities, *self._stubs}):
                        LOGGER.warning("No activity '%s' is registered%s", name, hint)
                    raise ActivityNotRegisteredError(f"Activity function named '{name}' was not registered!")
                data = command.input
                given = payloads.deserialize(data, payloads.input_type(function)) if data else None
                result = payloads.serialize(self._outside_the_lock(function, context, given))
            if payloads.store is not None:
                result = payloads.answer(result, instance.instance_id)
            return h.TaskCompletedEvent(-1, self._stamp, command.id, result), duration
        except Exception as error:
            if isinstance(error, AssertionError) and stub is not None:
                raise  # of a side_effect; not a failure of the activity it stands for
            if stub is None:
                explain_activity(instance, name, self._registry.activities.get(name), error)
            failure = payloads.answer_failure(self._failure_of(error), instance.instance_id)
            return h.TaskFailedEvent(-1, self._stamp, command.id, failure), duration

    def _run_entity(self, entity: Entity) -> None:
        if self._filters is not None and self._leaves_out(entity):
            return
        batch = self._begin_batch(entity)
        if batch is None:
            return
        try:
            with self._surroundings():
                result = self._outside_the_lock(
                    self._entity_runner.run, entity.entity_id, entity._state, batch, self._failure_of
                )
            if self._payloads.store is not None:
                result = put_away(result, self._payloads, entity._id)
        except BaseException as error:  # the test's own, an interrupt: nothing has happened
            self._undo_batch(entity)
            entity._broken = error
            raise
        entity._broken = None
        self._end_batch(entity, result)

    def _names_near(self, entity: Entity, operation: EntityOperation, failure: task.FailureDetails) -> str:
        kind, registered = failure.error_type.rpartition(".")[2], self._registry.entities
        if kind == "EntityNotRegisteredError":
            return did_you_mean(entity.entity_id.entity, registered)
        function = registered.get(entity.entity_id.entity)
        if kind != "AttributeError" or not isinstance(function, type) or hasattr(function, operation.name):
            return ""
        return did_you_mean(operation.name, [name for name in vars(function) if not name.startswith("_")])

    def _surroundings(self) -> AbstractContextManager[None]:
        """The clock, and the source of ids, that the SDK's schedules have while an entity runs."""
        if not self._has_schedules:
            return _AS_THEY_ARE
        now = self._stamp
        return virtual_surroundings(lambda: now, self._new_id)

    def _failure_of(self, error: Exception) -> task.FailureDetails:
        if isinstance(error, DurableTestError):
            raise error  # for the test, and no failure of what it tests
        return failure_of(error, self.worker_options.exception_properties_provider)

    def _noted_function(self, instance: Instance, name: str) -> Any:
        return instance._execution.context._functions.get(name) if instance._execution is not None else None
