"""The second oracle: programs on the SDK's in-memory backend, with the SDK's worker and client over gRPC.

A program is played through the client alone, so the same lines play it on that backend and on a hub. What is
compared is what a client sees in the end: of each instance its status, output, failure and custom status, of
each entity its state.

The in-memory backend has limits, and what is drawn here stays within them:

* Its timers take real time, so they are short, and nothing races with them.
* An entity that is locked lets everybody else through. So either one orchestration after the other uses the
  entities (:data:`sequential`), or they are used within critical sections only, for what comes to the same in
  any order (:data:`contending`).
* An activity that fails without a message is recorded as completed. None does here.
* A result for an earlier generation reaches the next. So nothing is open when a generation ends.
* The failure of a sub-orchestration has its message alone, and no parent's id or tags are known.
* Who is terminated still gets the lock that it waits for, and keeps it; the children of who is terminated
  live on. So what is terminated stands at a gate, and waits for nothing else.
* A worker that rejects a version is asked again and again, at once: versions fail here, or are taken.

As the SDK's worker drops the versions, ids and times that the two backends do not share, orchestrators do not
look at them. What entities start is waited for before anything is compared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask.client import OrchestrationQuery, OrchestrationStatus
from hypothesis import strategies as st
from programs import (
    ACTIVITIES,
    ENTITIES,
    ORCHESTRATORS,
    Ask,
    Gate,
    Increment,
    Join,
    Line,
    Locked,
    Program,
    Statement,
    Try,
    Twice,
    Wait,
    _codes,
)

from dt_testkit import TaskHub
from dt_testkit.backends import embedded

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask.client import OrchestrationState, TaskHubGrpcClient

_ENDED = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)


@dataclass(frozen=True)
class Played:
    """A program, and what is done at the gates of ``root`` and ``rival``, one thing after the other."""

    program: Program
    at_gates: tuple[str, ...] = ("go",)


class Outcome(NamedTuple):
    """What a client sees in the end, of instances and of entities."""

    instances: dict[str, Any]
    entities: dict[str, Any]


# -- playing


def on_the_in_memory_backend(played: Played, expected: Outcome) -> Outcome:
    """The outcome there, as soon as it is the expected one; any after a while."""
    namespace = played.program.load()
    with embedded(lambda worker: _register(worker, namespace, played.program)) as client:
        deadline = time.monotonic() + 30

        def pause() -> None:
            assert time.monotonic() < deadline, "the program does not end"
            time.sleep(0.005)

        _play(played, client, pause)
        return _until(lambda: _outcome(client, namespace), lambda outcome: outcome == expected)


def on_a_hub(played: Played) -> Outcome:
    namespace = played.program.load()
    hub = TaskHub()
    _register(hub, namespace, played.program)
    deadline = hub.now + timedelta(seconds=10)

    def pause() -> None:
        assert hub.now < deadline, "the program does not end"
        hub.advance(timedelta(seconds=0.1))

    _play(played, hub.client, pause)
    hub.advance(timedelta(seconds=10))
    return _outcome(hub.client, namespace)


def _register(worker: Any, namespace: dict[str, Any], program: Program) -> None:
    for name in ORCHESTRATORS:
        worker.add_orchestrator(namespace[name])
    for name in ACTIVITIES:
        worker.add_activity(namespace[name])
    for name in ENTITIES:
        worker.add_entity(namespace[name])
    if program.versioning is not None:
        worker.use_versioning(eval(program.versioning, namespace))


def _play(played: Played, client: TaskHubGrpcClient, pause: Callable[[], Any]) -> None:
    program = played.program
    tops = {"root": "1.0", "rival": None} if program.rival else {"root": "1.0"}
    for name, version in tops.items():
        client.schedule_new_orchestration(name, input=program.left, instance_id=name, version=version)
    passed: dict[str, list[str]] = {name: [] for name in tops}
    while tops:
        for name in list(tops):
            state = _state(client, name)
            gate = state.get_custom_status() if state.serialized_custom_status else ""
            if state.runtime_status in _ENDED:
                del tops[name]
            elif isinstance(gate, str) and gate.startswith("gate") and gate not in passed[name]:
                action = played.at_gates[len(passed[name]) % len(played.at_gates)]
                passed[name].append(gate)
                _at_gate(client, name, gate, action, pause)
        pause()


def _at_gate(
    client: TaskHubGrpcClient, instance_id: str, gate: str, action: str, pause: Callable[[], Any]
) -> None:
    if action == "terminate":
        client.terminate_orchestration(instance_id, output={"at": gate})
        return
    if action == "suspend":
        client.suspend_orchestration(instance_id)
        while _state(client, instance_id).runtime_status is not OrchestrationStatus.SUSPENDED:
            pause()
    client.raise_orchestration_event(instance_id, gate.upper() if action == "GO" else gate, data=[gate])
    if action == "suspend":
        client.resume_orchestration(instance_id)


def _state(client: TaskHubGrpcClient, instance_id: str) -> OrchestrationState:
    state = client.get_orchestration_state(instance_id)
    assert state is not None
    return state


def _outcome(client: TaskHubGrpcClient, namespace: dict[str, Any]) -> Outcome:
    instances = {
        state.instance_id: (
            state.name,
            state.runtime_status.name,
            state.serialized_output or None,
            (state.failure_details.error_type, state.failure_details.message)
            if state.failure_details is not None
            else None,
            state.serialized_custom_status or None,
        )
        for state in client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
    }
    entities = {}
    for name in ("A", "B", "C", "GHOST"):
        found = client.get_entity(namespace[name])
        entities[name] = found.get_state() if found is not None and found.get_state() else None
    return Outcome(instances, entities)


def _until(look: Callable[[], Outcome], good: Callable[[Outcome], bool]) -> Outcome:
    deadline = time.monotonic() + 5
    while not good(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen


# -- strategies

_RETRY = ", retry_policy=RetryPolicy(first_retry_interval=timedelta(seconds={}), max_number_of_attempts=3)"
_INPUTS = (None, 7, "'text'", "[1, None]", "Point(1, 2)")
_CERTAIN = [
    *_codes("ctx.call_activity({name}, input={input})", name=("work", "'work'"), input=_INPUTS),
    "ctx.call_activity(shift, input=Point(1, 2))",
    f"ctx.call_activity(flaky, input=2{_RETRY.format(0.01)})",
    "ctx.create_timer(timedelta(seconds=0.02))",
    "ctx.create_timer(timedelta(0))",
    "ctx.create_timer(datetime(2020, 1, 1))",
]
_ACTIVITIES = [
    *_CERTAIN,
    "ctx.call_activity(junk)",
    "ctx.call_activity('ghost')",
    "ctx.call_activity(flaky, input=1)",
    f"ctx.call_activity(flaky, input=9{_RETRY.format(0)})",
]
_CHILDREN = {
    "kid": _codes(
        "ctx.call_sub_orchestrator({kid}, input=1{version})",
        kid=("kid", "'kid'"),
        version=("", ", version='2.0'"),
    ),
    "leaf": [
        *_codes("ctx.call_sub_orchestrator(leaf, input={input})", input=("Point(3)", None, 7)),
        "ctx.call_sub_orchestrator('ghost')",
    ],
}
_COUNTER_CALLS = [
    *_codes(
        "ctx.call_entity({entity}, {operation}, {input})",
        entity=("A", "B"),
        operation=("'add'", "'add'", "'get'", "'fail'", "'put'"),
        input=(1, 2, None, "'text'", "Point(1)"),
    ),
    *_codes(
        "ctx.call_entity({entity}, {operation})",
        entity=("A", "B"),
        operation=(
            "'drop'",
            "'junk'",
            "'keep junk'",
            "'whoami'",
            "'silent'",
            "'nothing'",
            "'tell', 0",
            "'spawn', 4",
        ),
    ),
]
_LEDGER_CALLS = [
    *_codes("ctx.call_entity(C, 'move', {by})", by=("Point(1, 2)", "{'x': 3}", 7)),
    *_codes(
        "ctx.call_entity(C, {operation})",
        operation=("'total'", "'maybe'", "'broken', 1", "'delete'", "'limit'", "'maybe', 8"),
    ),
    "ctx.call_entity(GHOST, 'get')",
]
_SIGNALS = [
    *_codes(
        "ctx.signal_entity({entity}, {operation}, 1)",
        entity=("A", "B"),
        operation=("'add'", "'fail'", "'drop'"),
    ),
    "ctx.signal_entity(C, 'move', Point(2, 1))",
    "ctx.signal_entity(A, 'add', 3, signal_time=datetime(2020, 1, 1))",
    "ctx.signal_entity(GHOST, 'get')",
]
_LINES = [
    "out.append(ctx.version)",
    "out.append(ctx.instance_id)",
    "ctx.set_custom_status({'n': len(out)})",
    "ctx.send_event('nobody', 'go')",
]
_LOCK_SETS = ("A", "B, A", "A, B", "C, B, A", "C, C", "GHOST", "")
_ENDS = [
    "return {'left': left, 'out': out}",
    "return Point(1, 2)",
    "return Opaque()",
    "return",
    "raise ValueError('boom')",
    "raise RuntimeError('outer') from KeyError('inner')",
    "raise StopIteration(3)",
]
_NEXT = _codes(
    "return ctx.continue_as_new(left - 1{more}) if left else out",
    more=("", ", save_events=True", ", new_version='3.0'"),
)


def _ends(size: int, codes: list[str]) -> st.SearchStrategy[tuple[Statement, ...]]:
    return st.sampled_from([()] * size + [(Line(text),) for text in codes])


def _steps(kinds: list[list[str]], lines: list[str], *, gates: bool) -> Any:
    ask = st.one_of([st.sampled_from(codes) for codes in kinds]).map(Ask)
    certain = st.lists(st.sampled_from(_CERTAIN).map(Ask), min_size=1, max_size=3).map(tuple)
    all_of = certain.map(lambda parts: Join("when_all", parts))
    one_of = st.sampled_from(_CERTAIN[:3]).map(
        lambda code: Join("when_any", (Ask(code), Ask("ctx.wait_for_external_event('never')")))
    )
    steps = st.one_of(
        st.builds(Wait, ask | ask | all_of | one_of, st.just(True)),
        st.builds(Wait, ask, st.booleans()),
        st.sampled_from(lines).map(Line),
    )
    return steps | st.just(Gate()) if gates else steps


def _some(steps: Any) -> Any:
    return st.lists(steps, min_size=1, max_size=3).map(tuple)


def _sequential(child: str | None, size: int, *, entities: bool = True, top: bool = False) -> Any:
    kinds = [_ACTIVITIES, _COUNTER_CALLS, _LEDGER_CALLS] if entities else [_ACTIVITIES]
    lines = [*_SIGNALS, *_LINES] if entities else _LINES
    children = [_CHILDREN[child]] if child is not None else []
    ends = _ends(15, [*_ENDS, *_NEXT] if top else _ENDS)
    steps = _steps(kinds + children, lines, gates=top)
    steps |= st.builds(Twice, _some(steps)) | st.builds(Try, _some(steps))
    if entities:
        # A child could want what its parent has locked, and wait for ever.
        inside = _some(_steps(kinds, lines, gates=top))
        lock_set = st.sampled_from(_LOCK_SETS)
        section = st.builds(lambda names, body, end: Locked(names, (*body, *end)), lock_set, inside, ends)
        nested = st.builds(lambda names, inner: Locked(names, (inner,)), lock_set, section)
        steps |= section | (section | nested).map(lambda section: Try((section,)))
    bodies = st.lists(steps, min_size=size // 2, max_size=size)
    return st.builds(lambda body, end: (*body, *end), bodies, ends)


def _contending(size: int) -> Any:
    entities = st.permutations(["A", "B"]) | st.sampled_from([["A"], ["B"]])
    waits = ("ctx.call_activity(work)", "ctx.create_timer(timedelta(seconds=0.02))")
    pause = st.just(Gate()) | st.sampled_from(waits).map(lambda code: Wait(Ask(code)))
    end = _ends(6, ["return out", "raise ValueError('inside')", *_NEXT])

    def section(names: list[str], pauses: list[Statement], end: tuple[Statement, ...]) -> Statement:
        body = [
            part
            for name, pause in zip(names, [*pauses, *pauses], strict=False)
            for part in (pause, Increment(name))
        ]
        return Try((Locked(", ".join(names), (*body, *end)),))

    return st.lists(
        st.builds(section, entities, st.lists(pause, min_size=1, max_size=2), end), min_size=1, max_size=size
    ).map(tuple)


_versioning = st.sampled_from(
    _codes(
        "VersioningOptions({version}, {default}, VersionMatchStrategy.{match}, VersionFailureStrategy.FAIL)",
        version=("'1.0'", "'2.0'", "None"),
        default=("'1.0'", "None"),
        match=("STRICT", "CURRENT_OR_OLDER", "NONE"),
    )
)
_at_gates = st.lists(
    st.sampled_from(["go", "GO", "suspend", "go", "suspend", "terminate"]), min_size=1, max_size=4
).map(tuple)
sequential: st.SearchStrategy[Played] = st.builds(
    Played,
    st.builds(
        Program,
        root=_sequential("kid", 9, top=True),
        kid=_sequential("leaf", 5),
        leaf=_sequential(None, 3, entities=False),
        left=st.sampled_from([0, 1, 2]),
        versioning=st.none() | _versioning,
    ),
    _at_gates,
)
contending: st.SearchStrategy[Played] = st.builds(
    Played,
    st.builds(Program, root=_contending(3), rival=_contending(3), left=st.sampled_from([0, 1, 2])),
    _at_gates,
)
