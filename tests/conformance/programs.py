"""Random orchestrator programs, as data and as Python.

A :class:`Program` is data: up to four orchestrators, made of the few nodes below, and what the outside does
to them. Its one meaning is the Python source it prints: :attr:`Program.source` is a module that can be pasted
into a file and run, and the same text is what the tests execute. So a failure cannot print another program
than the one that failed.

The orchestrators are ``root``, which may call ``kid``, which may call ``leaf``, and ``rival``, which runs
beside ``root`` and wants the same entities. Each keeps what it saw in ``out``, which it returns, and the
tasks it started in ``t``. ``left`` counts down the generations that are left, and entities start but a few
orchestrations, so every program ends or comes to rest. Whether an activity fails is decided by its input and
by how often it was called for one step, so every backend meets the same outcomes.

:data:`plain_programs` have no entities. :data:`entity_programs` are mostly about them: calls, signals,
critical sections that are left in every way and misused in every way. :data:`version_programs` run on a
worker that takes some versions only. :data:`programs` is all of these. In :data:`takeover_programs` another
worker takes over, which takes other versions: what the first has recorded need not replay clean on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import chain, product
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRELUDE = '''\
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from durabletask.entities import DurableEntity, EntityInstanceId, EntityLock
from durabletask.task import (
    CancellableTask, RetryPolicy, Task, TaskCancelledError, TaskFailedError, when_all, when_any,
)
from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy

calls = Counter()
A, B = EntityInstanceId("counter", "a"), EntityInstanceId("Counter", "b")
C = EntityInstanceId("LEDGER", "c")
GHOST = EntityInstanceId("ghost", "g")


@dataclass
class Point:
    x: int
    y: int = 0


class Opaque:
    """Nothing can serialize this, and its repr is the same in every run."""

    __slots__ = ()

    def __repr__(self):
        return "opaque"


def work(ctx, value):
    return value


def slow(ctx, value):
    return value


def junk(ctx, value):
    return Opaque()


def shift(ctx, point: Point) -> Point:
    return Point(point.x + 1, point.y)


def flaky(ctx, fail_times):
    step = ctx.orchestration_id, ctx.task_id
    calls[step] += 1
    if calls[step] <= fail_times:
        raise ConnectionError(f"attempt {calls[step]}")
    return calls[step]


def start(ctx, name, input, instance_id):
    """Start an orchestration from an entity; seldom, for it may call the entity again."""
    calls["started"] += 1
    if calls["started"] <= 3:
        return ctx.schedule_new_orchestration(name, input, instance_id)


def counter(ctx, value):
    """An entity that is a function; it knows counter A and counter B."""
    state, other = ctx.get_state(default=0), B if ctx.entity_id == A else A
    match ctx.operation:
        case "get":
            return state
        case "add":
            ctx.set_state(state + value)
            return state + value
        case "put":
            ctx.set_state(value)
        case "fail":
            ctx.set_state(-1)
            ctx.signal_entity(other, "add", 1000)
            start(ctx, "leaf", Point(5), "never")
            raise ValueError(f"failed with {value!r}")
        case "silent":
            raise KeyError()
        case "drop":
            ctx.set_state(None)
        case "tell":
            ctx.signal_entity(other, "tell" if value else "add", value - 1)
            ctx.set_state(state + 10)
        case "later":
            in_athens = datetime(2026, 1, 1, 2, 0, value, tzinfo=timezone(timedelta(hours=2)))
            ctx.signal_entity(other, "add", 50, in_athens)
            then = datetime(2026, 1, 1) + timedelta(seconds=value)
            ctx.signal_entity(C, "move", Point(value), signal_time=then)
        case "spawn":
            return start(ctx, "leaf", Point(value), f"leaf-{value}")
        case "whoami":
            return [str(ctx.entity_id), ctx.orchestration_id]
        case "junk":
            return Opaque()
        case "keep junk":
            ctx.set_state(Opaque())
    return "done"


class Ledger(DurableEntity):
    """An entity that is a class, with a state of its own type."""

    limit = 5

    def move(self, by: Point) -> Point:
        at = self.get_state(Point, Point(0))
        self.set_state(Point(at.x + by.x, at.y + by.y))
        return self.get_state(Point)

    def total(self):
        at = self.get_state(default={"x": 0, "y": 0})
        return at["x"] + at["y"]

    def maybe(self, value=3):
        self.set_state(Point(value))

    def broken(self, value):
        self.move(Point(100))
        self.signal_entity(A, "add", 1000)
        raise RuntimeError("outer") from KeyError(value)

    def tell(self, value):
        self.signal_entity(B, "add", value)
        start(self, "kid", 0, "kid-1")


def show(value):
    if isinstance(value, Task):
        return f"failed: {value.get_exception()}" if value.is_failed else show(value.get_result())
    if isinstance(value, EntityLock):
        return "locked"
    if isinstance(value, list):
        return [show(item) for item in value]
    return repr(value)
'''

EPILOGUE = """\
if __name__ == "__main__":
    for instance in run().instances:
        print(instance, instance.output, instance.failure, *instance.histories, sep="\\n")
"""

ORCHESTRATORS = ("root", "kid", "leaf", "rival")
ACTIVITIES = ("work", "slow", "junk", "shift", "flaky")
ENTITIES = ("counter", "Ledger")
SLOW_SECONDS = 3


# -- nodes: expressions are tasks, statements are lines


@dataclass(frozen=True)
class Ask:
    """One operation: an activity, a timer, an event, a sub-orchestration, an entity call, a lock."""

    call: str

    def code(self, known: int) -> str:
        return self.call


@dataclass(frozen=True)
class Earlier:
    """A task that was started before, complete or not."""

    index: int

    def code(self, known: int) -> str:
        return f"t[{self.index % known}]" if known else "ctx.create_timer(timedelta(0))"


@dataclass(frozen=True)
class Join:
    """``when_all`` or ``when_any``."""

    name: str
    parts: tuple[Expression, ...]

    def code(self, known: int) -> str:
        return f"{self.name}([{', '.join(part.code(known) for part in self.parts)}])"


Expression: TypeAlias = "Ask | Earlier | Join"


@dataclass(frozen=True)
class Line:
    """Anything that is one line and starts no task."""

    text: str

    def lines(self, scope: Scope) -> Iterator[str]:
        yield self.text


@dataclass(frozen=True)
class Start:
    """Start a task without waiting for it."""

    task: Expression

    def lines(self, scope: Scope) -> Iterator[str]:
        yield f"t.append({self.task.code(scope.known)})"
        scope.known += 1


@dataclass(frozen=True)
class Wait:
    """Wait for a task and note what it gave; where it fails, note that and go on, or not."""

    task: Expression
    guarded: bool = False

    def lines(self, scope: Scope) -> Iterator[str]:
        wait = f"out.append(show((yield {self.task.code(scope.known)})))"
        yield from _guarded([wait]) if self.guarded else [wait]


@dataclass(frozen=True)
class Cancel:
    """Cancel a task that was started before, if it is of a kind that can be."""

    index: int

    def lines(self, scope: Scope) -> Iterator[str]:
        task = Earlier(self.index).code(scope.known)
        yield f"out.append(isinstance(task := {task}, CancellableTask) and task.cancel())"


@dataclass(frozen=True)
class Try:
    """Statements of which the rest is skipped after a failure."""

    body: tuple[Statement, ...]

    def lines(self, scope: Scope) -> Iterator[str]:
        known = scope.known
        yield from _guarded(line for statement in self.body for line in statement.lines(scope))
        scope.known = known  # what the body starts may not be reached


@dataclass(frozen=True)
class Twice:
    """A loop."""

    body: tuple[Statement, ...]

    def lines(self, scope: Scope) -> Iterator[str]:
        yield "for _ in range(2):"
        for statement in self.body:
            yield from _indented(statement.lines(scope))


@dataclass(frozen=True)
class Locked:
    """A critical section."""

    entities: str
    body: tuple[Statement, ...]

    def lines(self, scope: Scope) -> Iterator[str]:
        yield f"with (yield ctx.lock_entities([{self.entities}])):"
        for statement in self.body:
            yield from _indented(statement.lines(scope))


@dataclass(frozen=True)
class Gate:
    """Stand still, show by the custom status where, and go on when somebody raises an event of that name."""

    def lines(self, scope: Scope) -> Iterator[str]:
        yield "ctx.set_custom_status(gate := f'gate {left}.{len(out)}')"
        yield "out.append(show((yield ctx.wait_for_external_event(gate))))"


@dataclass(frozen=True)
class Increment:
    """Read a counter and write it back, with time in between: right only if nobody else does meanwhile."""

    entity: str

    def lines(self, scope: Scope) -> Iterator[str]:
        yield f"n = yield ctx.call_entity({self.entity}, 'get')"
        yield "yield ctx.call_activity(work)"
        yield f"yield ctx.call_entity({self.entity}, 'put', n + 1)"


Statement: TypeAlias = "Line | Start | Wait | Cancel | Try | Twice | Locked | Gate | Increment"


@dataclass
class Scope:
    """How many tasks are known to be in ``t``."""

    known: int = 0


@dataclass(frozen=True)
class Action:
    """What the outside does: to ``root``, ``rival``, the instance created last, an entity, the worker."""

    target: str
    verb: str
    arguments: str = ""

    @property
    def code(self) -> str:
        return f"{self.target}.{self.verb}({self.arguments})"


@dataclass(frozen=True)
class Moment:
    """Things that the outside does at once, some time after the moment before."""

    after_seconds: int
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Program:
    root: tuple[Statement, ...] = ()
    kid: tuple[Statement, ...] = ()
    leaf: tuple[Statement, ...] = ()
    rival: tuple[Statement, ...] = ()
    early: tuple[Action, ...] = ()
    moments: tuple[Moment, ...] = ()
    left: int = 0
    chunk_seconds: int | None = None
    versioning: str | None = None

    @cached_property
    def source(self) -> str:
        parts = [
            PRELUDE,
            *_function("def root(ctx, left):", self.root),
            *_function("def kid(ctx, left):", self.kid),
            *_function("def leaf(ctx, left: Point):", self.leaf),
            *_function("def rival(ctx, left):", self.rival),
            "",
            "def run(hub=None, **options):",
            *_indented(self._run()),
            "",
            "",
            EPILOGUE,
        ]
        return "\n".join(parts)

    def _run(self) -> Iterator[str]:
        yield "from dt_testkit import TaskHub"
        chunk = f"maximum_timer_interval=timedelta(seconds={self.chunk_seconds}), " if self.chunk else ""
        yield f"hub = hub or TaskHub({chunk}**options)"
        for what, names in (("orchestrator", ORCHESTRATORS), ("activity", ACTIVITIES), ("entity", ENTITIES)):
            yield f"for function in ({', '.join(names)}):"
            yield f"    hub.add_{what}(function)"
        yield f"hub.stub(slow, wraps=slow, duration=timedelta(seconds={SLOW_SECONDS}))"
        if self.versioning is not None:
            yield f"hub.use_versioning({self.versioning})"
        start = f"hub.start(root, input={self.left}, instance_id='root', version='1.0', tags={{'a': 'b'}})"
        yield f"first = {start}"
        if self.rival:
            yield f"second = hub.start(rival, input={self.left}, instance_id='rival')"
        yield from (action.code for action in self.early)
        yield "hub.settle()"
        for moment in self.moments:
            yield f"hub.advance(timedelta(seconds={moment.after_seconds}))"
            yield from (action.code for action in moment.actions)
            yield "hub.settle()"
        yield "hub.advance(timedelta(hours=1))"
        yield "return hub"

    @property
    def chunk(self) -> timedelta | None:
        """The worker's ``maximum_timer_interval``."""
        return timedelta(seconds=self.chunk_seconds) if self.chunk_seconds else None

    def load(self) -> dict[str, Any]:
        """Execute the source: fresh functions, and no activity called yet."""
        namespace: dict[str, Any] = {"__name__": "program"}
        exec(self._code, namespace)
        return namespace

    @cached_property
    def _code(self) -> Any:
        return compile(self.source, "<program>", "exec", dont_inherit=True)


def _function(head: str, body: tuple[Statement, ...]) -> Iterator[str]:
    scope = Scope()
    yield from ("", head, "    t, out = [], [show(left)]")
    for statement in body:
        yield from _indented(statement.lines(scope))
    yield from ("    return out", "")


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _guarded(lines: Iterable[str]) -> Iterator[str]:
    yield "try:"
    yield from _indented(lines)
    yield "except (TaskFailedError, TaskCancelledError, ValueError, RuntimeError) as error:"
    yield "    out.append(f'{type(error).__name__}: {error}')"


# -- strategies


def _codes(template: str, **options: Iterable[object]) -> list[str]:
    """The template with every choice of options; what is listed first is what failures shrink to."""
    return [
        template.format(**dict(zip(options, choice, strict=True))) for choice in product(*options.values())
    ]


_DATA = (None, 7, "'text'", "[1, None]", "{'x': 4, 'y': 5}", "Point(1, 2)", 0, "''")
_EVENTS = ("'go'", "'Go'", "'GO'", "'stop'")
_RETRIES = _codes(
    ", retry_policy=RetryPolicy(first_retry_interval=timedelta(seconds={first}), "
    "max_number_of_attempts={attempts}{backoff}{cap}{timeout})",
    first=(1, 2.5, 0),
    attempts=(3, 4, 2, 1),
    backoff=("", ", backoff_coefficient=2.0", ", backoff_coefficient=None"),
    cap=("", ", max_retry_interval=timedelta(seconds=3)", ", max_retry_interval=timedelta(0)"),
    timeout=("", *(f", retry_timeout=timedelta(seconds={seconds})" for seconds in (2, 5, 0))),
)
_ACTIVITIES = [
    _codes(
        "ctx.call_activity({name}, input={input}{tags})",
        name=("work", "'work'", "slow", "slow", "'slow'", "junk", "'ghost'"),
        input=_DATA,
        tags=("", ", tags={'k': 'v'}", ", tags={}"),
    ),
    _codes(
        "ctx.call_activity(flaky, input={fail_times}{retry}{tags})",
        fail_times=(1, 2, 9),
        retry=("", *_RETRIES),
        tags=("", ", tags={'k': 'v'}"),
    ),
    _codes(
        "ctx.call_activity(flaky, input={fail_times}, retry_policy=RetryPolicy(first_retry_interval="
        "timedelta(seconds=1), max_number_of_attempts=4, backoff_coefficient=2.0{cap}))",
        fail_times=(2, 3, 9),
        cap=("", ", max_retry_interval=timedelta(seconds=3)"),
    ),
    _codes(
        "ctx.call_activity({shift}, input={input}{more})",
        shift=("shift", "'shift'"),
        input=("Point(1, 2)", "{'x': 3}", None, 7),
        more=("", ", return_type=Point", *_RETRIES[::99]),
    ),
]
_TIMERS = [
    *_codes("ctx.create_timer(timedelta(seconds={seconds}))", seconds=(1, 2, 3, 5, 0.5, 0, -5)),
    "ctx.create_timer(ctx.current_utc_datetime + timedelta(seconds=3))",
    "ctx.create_timer(ctx.current_utc_datetime)",
    "ctx.create_timer(datetime(2026, 1, 1, 0, 0, 4))",
    "ctx.create_timer(datetime(2026, 1, 1, 2, 0, 6, tzinfo=timezone(timedelta(hours=2))))",
    "ctx.create_timer(datetime(2020, 1, 1))",
]
_WAITS = _codes("ctx.wait_for_external_event({name}{type})", name=_EVENTS, type=("", ", data_type=Point"))
_CHILDREN = {
    name: _codes(
        "ctx.call_sub_orchestrator({function}, input={input}{id}{version}{retry})",
        function=(name, name, name, f"'{name}'", f"'{name}'", "'ghost'"),
        input=inputs,
        id=("", f", instance_id='{name}-1'"),
        version=("", ", version='2.0'"),
        retry=("", "", *_RETRIES[::27]),
    )
    for name, inputs in {"kid": (1, 0), "leaf": ("Point(3)", None, 7)}.items()
}
_NOTES = _codes(
    "out.append({what})",
    what=(
        "ctx.new_uuid()",
        "str(ctx.current_utc_datetime)",
        "ctx.version",
        "ctx.parent_instance_id",
        "ctx.instance_id",
    ),
)
_STATUSES = _codes(
    "ctx.set_custom_status({value})", value=("'busy'", "{'n': len(out)}", None, "Point(1)", 0, "''")
)
_SENDS = _codes(
    "ctx.send_event({target}, {name}, data={data})",
    target=(
        "ctx.instance_id",
        "'root'",
        "ctx.parent_instance_id or 'nobody'",
        "'kid-1'",
        "'leaf-1'",
        'f"{ctx.instance_id}:0001"',
    ),
    name=_EVENTS,
    data=_DATA,
)
_NEXT_GENERATIONS = _codes(
    "if left: ctx.continue_as_new(left - 1{save}{version})",
    save=(", save_events=True", ""),
    version=("", ", new_version='3.0'"),
)
_ENDS = [
    "return {'left': left, 'out': out}",
    "return Point(1, 2)",
    "return Opaque()",
    "return",
    "raise ValueError('boom')",
    "raise RuntimeError('outer') from KeyError('inner')",
    "raise StopIteration(3)",
    "if len(out) > 3: return out",
    "yield 42",
    "yield None",
    "yield when_all([])",
    "ctx.send_event('', 'go')",
    "ctx.send_event('@counter@a', 'go')",
    "ctx.call_activity(work, input=Opaque())",
]


_COUNTERS = ("A", "B", "A", "B", "EntityInstanceId.parse('@CounteR@a')")
_CALLS = [
    _codes(
        "ctx.call_entity({entity}, {operation}{input}{type})",
        entity=_COUNTERS,
        operation=("'add'", "'add'", "'get'", "'tell'", "'spawn'", "'fail'", "'drop'"),
        input=(", 1", ", input=2", ", 3"),
        type=("", ", return_type=int"),
    ),
    [
        *_codes(
            "ctx.call_entity({entity}, {operation}, {input})",
            entity=_COUNTERS,
            operation=("'add'", "'later'", "'fail'", "'tell'"),
            input=(*_DATA, 4),
        ),
        *_codes(
            "ctx.call_entity({entity}, {operation})",
            entity=("A", "B"),
            operation=("'drop'", "'silent'", "'whoami'", "'junk'", "'keep junk'", "'nothing'"),
        ),
        "ctx.call_entity(GHOST, 'get')",
        "ctx.call_entity(A, 'add', Opaque())",
    ],
    [
        *_codes("ctx.call_entity(C, 'move', {by}{type})", by=_DATA, type=("", ", return_type=Point")),
        *_codes(
            "ctx.call_entity(C, {operation}{input})",
            operation=("'total'", "'maybe'", "'broken'", "'tell'", "'delete'", "'limit'", "'nothing'"),
            input=("", ", 1", ", 'text'"),
        ),
    ],
]
_SIGNALS = [
    *_codes(
        "ctx.signal_entity({entity}, {operation}, {input}{time})",
        entity=("A", "B"),
        operation=("'add'", "'tell'", "'fail'", "'later'", "'drop'"),
        input=(1, 2),
        time=(
            "",
            "",
            ", signal_time=ctx.current_utc_datetime + timedelta(seconds=2)",
            ", signal_time=datetime(2020, 1, 1)",
            ", signal_time=datetime(2026, 1, 1, 2, 0, 4, tzinfo=timezone(timedelta(hours=2)))",
        ),
    ),
    *_codes(
        "ctx.signal_entity(C, {operation})",
        operation=("'move', Point(2, 1)", "'delete'", "'broken'", "'tell', 7"),
    ),
    "ctx.signal_entity(GHOST, 'get')",
]
_LOCK_SETS = (
    "A",
    "B",
    "A, B",
    "B, A",
    "C",
    "C, B, A",
    "A, C, EntityInstanceId('COUNTER', 'a')",
    "GHOST, B",
    "",
)
_LOCKS = [f"ctx.lock_entities([{entities}])" for entities in _LOCK_SETS]


def _bodies(
    child: str | None, size: int, *, entities: bool = False
) -> st.SearchStrategy[tuple[Statement, ...]]:
    operations = [*_ACTIVITIES, _TIMERS, _WAITS]
    lines = [_NOTES, _STATUSES, _SENDS]
    if entities:
        operations = [*_CALLS, *_CALLS, _LOCKS, _ACTIVITIES[0], _TIMERS, _WAITS]
        lines = [_SIGNALS, _SIGNALS, _NOTES, _STATUSES]
    if child is not None:
        operations.append(_CHILDREN[child])
        lines.append(_NEXT_GENERATIONS)
    ask = st.one_of([st.sampled_from(codes) for codes in operations]).map(Ask)
    index = st.sampled_from(range(6))
    task: st.SearchStrategy[Expression] = st.recursive(
        ask | ask | st.builds(Earlier, index),
        lambda part: st.builds(
            Join, st.sampled_from(["when_all", "when_any"]), st.lists(part, min_size=1, max_size=3).map(tuple)
        ),
        max_leaves=4,
    )
    simple = st.one_of(
        st.builds(Wait, task, st.just(True)),
        st.builds(Wait, task, st.booleans()),
        st.builds(Start, task),
        st.one_of([st.sampled_from(codes) for codes in lines]).map(Line),
        st.builds(Cancel, index),
    )
    some = st.lists(simple, min_size=1, max_size=3).map(tuple)
    block = st.builds(Try, some) | st.builds(Twice, some)
    ends = st.sampled_from([()] * 2 * len(_ENDS) + [(Line(text),) for text in _ENDS])
    if entities:
        section = st.builds(
            lambda lock_set, body, end: Locked(lock_set, (*body, *end)),
            st.sampled_from(_LOCK_SETS),
            some,
            ends,
        )
        nested = st.builds(
            lambda lock_set, inner: Locked(lock_set, (inner,)), st.sampled_from(_LOCK_SETS), section
        )
        tried = st.builds(lambda section: Try((section,)), section | nested)
        block = st.one_of(section, section, tried, tried, nested, block)
    bodies = st.lists(simple | simple | block, min_size=size // 3, max_size=size)
    return st.builds(lambda body, end: (*body, *end), bodies, ends)


_signaled = st.sampled_from(
    _codes(
        "A, {operation}, 3{time}",
        operation=("'add'", "'fail'", "'tell'"),
        time=("", ", datetime(2026, 1, 1, 0, 0, 5)", ", datetime(2020, 1, 1)"),
    )
).map(lambda arguments: Action("hub.client", "signal_entity", arguments))


def _moments(*targets: str) -> st.SearchStrategy[tuple[Moment, ...]]:
    """What happens to the instances: events, being suspended for a while, termination."""
    raised = st.builds(
        Action,
        st.sampled_from([*targets, *targets, "hub.instances[-1]"]),
        st.just("raise_event"),
        st.sampled_from(_codes("{name}, {data}", name=_EVENTS, data=_DATA)),
    )
    events = st.lists(raised | _signaled if "second" in targets else raised, max_size=2).map(tuple)
    pause, target = st.sampled_from(range(3)), st.sampled_from(targets)
    resume, suspend, terminate = ("resume", ""), ("suspend", ""), ("terminate", "'end'")
    # To be suspended in a turn that also asks for something, or twice in one turn, breaks the SDK's worker
    # (see the end of test_differential.py). So a suspension comes first in its moment, with nothing due
    # before it.
    return st.one_of(
        st.builds(lambda pause, events: (Moment(pause, events),), pause, events),
        st.builds(
            lambda pause, target, held, more, later, end: (
                Moment(pause, (Action(target, "suspend"), *held)),
                Moment(later, more),
                Moment(0, (Action(target, *end), *held)),
            ),
            pause,
            target,
            events,
            events,
            pause,
            st.sampled_from([resume, resume, suspend, suspend, terminate]),
        ),
        st.builds(
            lambda pause, target, data: (Moment(pause, (Action(target, "terminate", str(data)),)),),
            pause,
            target,
            st.sampled_from(_DATA),
        ),
    )


def _programs(
    moments: st.SearchStrategy[tuple[Moment, ...]], **parts: st.SearchStrategy[Any]
) -> st.SearchStrategy[Program]:
    return st.builds(
        Program,
        left=st.sampled_from([0, 1, 2, 2]),
        chunk_seconds=st.sampled_from([None, None, 2]),
        moments=st.lists(moments, min_size=1, max_size=3).map(lambda some: tuple(chain.from_iterable(some))),
        **parts,
    )


_early = st.lists(
    st.builds(
        Action,
        st.sampled_from(["first", "first", "hub.instances[-1]"]),
        st.just("raise_event"),
        st.sampled_from(_codes("{name}, {data}", name=_EVENTS, data=_DATA)),
    ),
    max_size=2,
).map(tuple)
_versioning = st.sampled_from(
    _codes(
        "VersioningOptions({version}{default}VersionMatchStrategy.{match}, VersionFailureStrategy.{failure})",
        version=("'1.0', ", "'2.0', ", "'2.0.0', ", "None, ", "'', ", "'beta', "),
        default=("'1.0', ", "None, ", "'3.0', ", "'', "),
        match=("STRICT", "CURRENT_OR_OLDER", "NONE"),
        failure=("FAIL", "FAIL", "REJECT"),
    )
)

plain_programs = _programs(
    _moments("first"), root=_bodies("kid", 8), kid=_bodies("leaf", 4), leaf=_bodies(None, 3), early=_early
)
entity_programs = _programs(
    _moments("first", "second"),
    root=_bodies("kid", 6, entities=True),
    kid=_bodies("leaf", 3, entities=True),
    leaf=_bodies(None, 2, entities=True),
    rival=_bodies("kid", 4, entities=True).filter(bool),
    early=_early,
)
_of_versions: dict[str, Any] = {
    "root": _bodies("kid", 5),
    "kid": _bodies("leaf", 3),
    "leaf": _bodies(None, 2, entities=True),
    "rival": _bodies("leaf", 3, entities=True).filter(bool),
    "early": _early,
    "versioning": _versioning,
}
version_programs = _programs(_moments("first", "second"), **_of_versions)
_in_flight = {
    name: _of_versions[name].map(lambda body: (Wait(Ask("ctx.call_activity(slow, input=1)"), True), *body))
    for name in ("root", "rival")
}
takeover_programs = _programs(
    _moments("first", "second")
    | _versioning.map(lambda options: (Moment(1, (Action("hub", "use_versioning", options),)),)),
    **{**_of_versions, **_in_flight},
)
programs = st.one_of(plain_programs, entity_programs, entity_programs, version_programs)
