"""What a worker is set up with, and what a hub makes of it: versions, filters, timers, failures."""

from __future__ import annotations

import inspect
import time
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from durabletask import history as h
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.task import TaskFailedError, when_all, when_any
from durabletask.worker import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    TaskHubGrpcWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)

from dt_testkit import OrchestrationBlocked, ReplayDivergence, TaskHub, replay
from dt_testkit.backends import _LOGGER, _in_memory_backend, embedded
from dt_testkit.errors import VersionRejected
from dt_testkit.hub.filters import Filters
from dt_testkit.sdk import Registry

START = datetime(2026, 1, 1)
NONE, STRICT, OLDER = (
    VersionMatchStrategy.NONE,
    VersionMatchStrategy.STRICT,
    VersionMatchStrategy.CURRENT_OR_OLDER,
)
FAIL, REJECT = VersionFailureStrategy.FAIL, VersionFailureStrategy.REJECT
COMPLETED, FAILED = OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED
PENDING, RUNNING = OrchestrationStatus.PENDING, OrchestrationStatus.RUNNING

ONLY_2 = VersioningOptions("2.0", "2.0", STRICT, FAIL)
ANY = VersioningOptions("2.0", "2.0", NONE, FAIL)


def which(ctx, _):
    return ctx.version


def patient(ctx, _):
    first = yield ctx.call_activity("work", input=1)
    ctx.set_custom_status("waiting")
    second = yield ctx.wait_for_external_event("go")
    third = yield ctx.call_activity("work", input=2)
    return [first, second, third]


def work(ctx, number):
    return number


@pytest.fixture
def hub():
    hub = TaskHub(check_replay="turn")
    for orchestrator in (which, patient):
        hub.add_orchestrator(orchestrator)
    hub.add_activity(work)
    return hub


# -- versions: which are taken

VERSIONS = [None, "1.0", "2", "2.0", "2.0.0", "2.0.1", "10.0", "beta", "alpha"]
TAKEN = [
    (NONE, "2.0", VERSIONS),
    (STRICT, "2.0", ["2", "2.0", "2.0.0"]),
    (STRICT, None, [None]),
    (STRICT, "beta", ["beta"]),
    (OLDER, "2.0", [None, "1.0", "2", "2.0", "2.0.0"]),
    (OLDER, "b", [None, "1.0", "2", "2.0", "2.0.0", "2.0.1", "10.0", "alpha"]),
    (OLDER, None, [None]),
    (None, "2.0", []),
]


@pytest.mark.parametrize(("match", "version", "taken"), TAKEN)
def test_the_versions_that_a_worker_takes(hub, match, version, taken):
    hub.use_versioning(VersioningOptions(version, None, match, FAIL))
    ended = {v: hub.run(which, version=v) for v in VERSIONS}
    assert [v for v, instance in ended.items() if instance.status is COMPLETED] == taken
    for v, instance in ended.items():
        if instance.status is FAILED:
            assert instance.failure.error_type == "VersionMismatch"
            assert repr(str(match)) in instance.failure.message or f"'{v}'" in instance.failure.message
        assert replay(instance.history, hub).ok
        assert replay(instance.history, hub).worker_outcome == "accepts"


def test_a_real_worker_takes_the_same_versions():
    for match, version, taken in (TAKEN[1], TAKEN[4], TAKEN[7]):

        def register(worker, match=match, version=version):
            worker.add_orchestrator(which)
            worker.use_versioning(VersioningOptions(version, None, match, FAIL))

        with embedded(register) as client:
            started = {v: client.schedule_new_orchestration(which, version=v) for v in VERSIONS}
            ended = {v: client.wait_for_orchestration_completion(i, timeout=20) for v, i in started.items()}
        assert [v for v in VERSIONS if ended[v].runtime_status is COMPLETED] == taken
        failures = {ended[v].failure_details.error_type for v in VERSIONS if v not in taken}
        assert failures <= {"VersionMismatch"}


def test_a_rejected_instance_waits_for_a_worker_that_takes_it(hub):
    hub.use_versioning(VersioningOptions("2.0", None, STRICT, REJECT))
    instance = hub.start(which, version="1.0", instance_id="old")
    with pytest.raises(OrchestrationBlocked, match=r"'old' \(which\) is rejected .* '1.0' does not match"):
        instance.wait()
    assert (instance.status, len(instance.history)) == (PENDING, 0)
    hub.use_versioning(VersioningOptions("3.0", None, OLDER, REJECT))
    assert instance.wait().output == "1.0"


def test_a_rejected_instance_is_not_terminated_either(hub):
    """As on a real worker: the termination is part of the work that the worker gives back."""
    hub.use_versioning(VersioningOptions("2.0", None, STRICT, REJECT))
    instance = hub.start(which, version="1.0")
    hub.settle()
    instance.terminate()
    hub.settle()
    assert instance.status is PENDING
    hub.use_versioning(ANY)
    hub.settle()
    assert instance.status is COMPLETED


def test_without_a_failure_strategy_an_instance_stays_running_and_says_why(hub):
    hub.use_versioning(VersioningOptions("2.0", None, STRICT))
    instance = hub.start(which, version="1.0", instance_id="old")
    with pytest.raises(OrchestrationBlocked, match=r"'old' \(which\) stays Running for ever.* no failure_st"):
        instance.wait()
    assert instance.status is RUNNING
    report = replay(instance.history, hub)
    assert (report.ok, report.worker_outcome) == (True, "hangs")
    instance.terminate()
    hub.settle()
    assert instance.status is RUNNING  # it is deaf to that too


def test_a_real_worker_without_a_failure_strategy_answers_with_nothing():
    def register(worker):
        worker.add_orchestrator(which)
        worker.use_versioning(VersioningOptions("2.0", None, STRICT))

    with embedded(register) as client:
        deaf = client.schedule_new_orchestration(which, version="1.0")
        assert client.wait_for_orchestration_start(deaf, timeout=20).runtime_status is RUNNING
        client.terminate_orchestration(deaf)
        after = client.schedule_new_orchestration(which, version="2.0")
        client.wait_for_orchestration_completion(after, timeout=20)
        assert client.get_orchestration_state(deaf).runtime_status is RUNNING


# -- versions: another worker takes over


def in_flight(hub, version="1.0", **options):
    instance = hub.start(patient, version=version, **options)
    hub.settle()
    assert [operation.name for operation in instance.waiting_for] == ["go"]
    return instance


def test_a_worker_that_has_become_strict_fails_an_instance_in_its_next_turn(hub):
    instance = in_flight(hub)
    hub.use_versioning(ONLY_2)
    hub.settle()
    assert instance.status is RUNNING  # until something arrives for it
    assert [operation.name for operation in instance.waiting_for] == ["go"]
    instance.raise_event("go")
    hub.settle()
    assert (instance.status, instance.failure.error_type) == (FAILED, "VersionMismatch")
    report = replay(instance.history, hub)
    assert (report.ok, report.worker_outcome) == (True, "accepts")


def test_a_worker_that_has_become_strict_rejects_an_instance_in_flight_and_another_finishes_it(hub):
    instance = in_flight(hub)
    recorded = len(instance.history)
    hub.use_versioning(VersioningOptions("2.0", None, STRICT, REJECT))
    instance.raise_event("go", "on")
    with pytest.raises(OrchestrationBlocked, match="is rejected by the worker"):
        instance.wait()
    assert (instance.status, len(instance.history)) == (RUNNING, recorded)
    hub.use_versioning(ANY)
    assert instance.wait().output == [1, "on", 2]


def test_a_worker_that_has_become_strict_without_a_failure_strategy_leaves_an_instance_alone(hub):
    instance = in_flight(hub)
    hub.use_versioning(VersioningOptions("2.0", None, STRICT))
    instance.raise_event("go", "on")
    with pytest.raises(OrchestrationBlocked, match="stays Running for ever"):
        instance.wait()
    assert instance.status is RUNNING


@pytest.mark.parametrize("failure_strategy", [FAIL, REJECT, None])
def test_a_crash_leaves_it_to_the_next_turn_what_becomes_of_an_instance(hub, failure_strategy):
    instance = in_flight(hub)
    hub.use_versioning(VersioningOptions("2.0", None, STRICT, failure_strategy))
    hub.crash_worker()
    assert instance.status is RUNNING
    instance.raise_event("go")
    hub.settle()
    assert instance.status is (FAILED if failure_strategy is FAIL else RUNNING)


def test_the_next_worker_replays_an_instance_with_its_own_eyes():
    """The generator of the worker before is gone: what it kept outside of the history is lost."""
    hub, seen = TaskHub(check_replay="never"), []

    def counting(ctx, _):
        seen.append(ctx.is_replaying)
        yield ctx.wait_for_external_event("go")
        return len(seen)

    hub.add_orchestrator(counting)
    instance = hub.start(counting)
    hub.settle()
    hub.use_versioning(ANY)
    instance.raise_event("go")
    assert instance.wait().output == 2
    assert seen == [False, True]


def test_the_next_worker_notices_code_that_does_not_replay():
    hub, colours = TaskHub(check_replay="never"), iter(["red", "blue"])

    def painted(ctx, _):
        yield ctx.call_activity("paint", input=next(colours))
        return (yield ctx.wait_for_external_event("go"))

    hub.add_orchestrator(painted)
    hub.stub("paint")
    instance = hub.start(painted)
    hub.settle()
    hub.use_versioning(ANY)
    instance.raise_event("go")
    with pytest.raises(ReplayDivergence, match='input was "red" in the history and is "blue" now'):
        hub.settle()


@contextmanager
def backend_with_one_instance_in_flight():
    """The in-memory backend, a worker that has brought ``patient`` to its event, and the next worker."""
    with _in_memory_backend() as address:
        client = TaskHubGrpcClient(host_address=address, logger=_LOGGER)
        workers = []

        def start_worker(versioning: VersioningOptions | None) -> None:
            worker = TaskHubGrpcWorker(host_address=address, logger=_LOGGER)
            worker.add_orchestrator(patient)
            worker.add_activity(work)
            if versioning is not None:
                worker.use_versioning(versioning)
            worker.start()
            workers.append(worker)

        try:
            start_worker(None)
            instance_id = client.schedule_new_orchestration(patient, version="1.0")
            deadline = time.monotonic() + 20  # what a worker holds when it is stopped, this backend loses
            while not client.get_orchestration_state(instance_id).get_custom_status():
                assert time.monotonic() < deadline
            workers.pop().stop()
            yield client, instance_id, start_worker
        finally:
            for worker in workers:
                worker.stop()
            client.close()


def test_a_real_worker_that_has_become_strict_fails_an_instance_in_its_next_turn():
    with backend_with_one_instance_in_flight() as (client, instance_id, start_worker):
        start_worker(ONLY_2)
        client.raise_orchestration_event(instance_id, "go")
        state = client.wait_for_orchestration_completion(instance_id, timeout=20)
    assert (state.runtime_status, state.failure_details.error_type) == (FAILED, "VersionMismatch")


def test_a_real_worker_rejects_an_instance_in_flight_and_another_finishes_it():
    with backend_with_one_instance_in_flight() as (client, instance_id, start_worker):
        start_worker(VersioningOptions("2.0", None, STRICT, REJECT))
        client.raise_orchestration_event(instance_id, "go", data="on")
        taken = client.schedule_new_orchestration(patient, version="2.0")
        client.raise_orchestration_event(taken, "go")
        client.wait_for_orchestration_completion(taken, timeout=20)
        assert client.get_orchestration_state(instance_id).runtime_status is RUNNING
        start_worker(ANY)  # beside the other, which goes on giving it back
        state = client.wait_for_orchestration_completion(instance_id, timeout=20)
    assert state.get_output() == [1, "on", 2]


# -- versions: replay


def test_replay_says_that_the_worker_of_a_history_would_not_take_it_today(hub):
    instance = in_flight(hub)
    report = replay(instance.history, patient, versioning=ONLY_2)
    assert report.worker_outcome == "fails"
    [divergence] = report.divergences
    assert "the code ends here, FAILED with VersionMismatch" in divergence.message
    assert "goes on with activity 'work' (#1)" in divergence.message
    with pytest.raises(VersionRejected):
        replay(instance.history, patient, versioning=VersioningOptions("2.0", None, STRICT, REJECT))
    report = replay(instance.history, patient, versioning=VersioningOptions("2.0", None, STRICT))
    assert report.worker_outcome == "hangs"
    assert "the worker does nothing, for it has no failure_strategy" in report.divergences[0].message


def test_an_instance_that_only_waits_is_known_to_fail_under_a_strict_worker():
    def waits(ctx, _):
        yield ctx.wait_for_external_event("go")

    hub = TaskHub()
    hub.add_orchestrator(waits)
    instance = hub.start(waits, version="1.0")
    hub.settle()
    assert replay(instance.history, hub).ok
    [divergence] = replay(instance.history, hub, versioning=ONLY_2).divergences
    assert "and the history waits on" in divergence.message


def test_the_failure_for_a_version_is_compared_with_what_was_recorded(hub):
    hub.use_versioning(ONLY_2)
    history = hub.run(which, version="1.0").history
    assert replay(history, hub).ok
    strict_3 = VersioningOptions("3.0", "3.0", STRICT, FAIL)
    [divergence] = replay(history, hub, versioning=strict_3).divergences
    assert (divergence.kind, divergence.field) == ("result", "failure")
    [divergence] = replay(history, hub, versioning=ANY).divergences
    assert (divergence.field, divergence.actual) == ("status", "COMPLETED")


# -- versions: sub-orchestrations


def parent(ctx, version):
    explicit = {"version": version} if version else {}
    mine = yield ctx.call_sub_orchestrator(which, **explicit)
    yield ctx.wait_for_external_event("go")
    return mine


def with_parent(versioning):
    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(parent)
    hub.add_orchestrator(which)
    if versioning is not None:
        hub.use_versioning(versioning)
    return hub


@pytest.mark.parametrize(
    ("versioning", "explicit", "expected"),
    [
        (None, None, None),
        (None, "1.5", "1.5"),
        (VersioningOptions("2.0", "2.0", NONE, FAIL), None, "2.0"),
        (VersioningOptions("2.0", "2.0", NONE, FAIL), "1.5", "1.5"),
        (VersioningOptions("2.0", None, NONE, FAIL), None, None),
    ],
)
def test_the_default_version_of_sub_orchestrations(versioning, explicit, expected):
    hub = with_parent(versioning)
    instance = hub.start(parent, input=explicit)
    instance.raise_event("go")
    assert instance.wait().output == expected


def test_a_real_worker_gives_sub_orchestrations_the_same_default_version():
    def register(worker):
        worker.add_orchestrator(parent)
        worker.add_orchestrator(which)
        worker.use_versioning(VersioningOptions("2.0", "2.0", NONE, FAIL))

    with embedded(register) as client:
        for explicit, expected in ((None, "2.0"), ("1.5", "1.5")):
            instance_id = client.schedule_new_orchestration(parent, input=explicit)
            client.raise_orchestration_event(instance_id, "go")
            state = client.wait_for_orchestration_completion(instance_id, timeout=20)
            assert state.get_output() == expected


def test_another_default_version_does_not_stop_what_is_in_flight():
    """The default version changes with every release of a worker, which compares it with nothing."""
    hub = with_parent(VersioningOptions("1.0", "1.0", NONE, FAIL))
    instances = [hub.start(parent), hub.start(parent, input="1.5")]
    hub.settle()
    hub.use_versioning(ANY)
    for instance in instances:
        instance.raise_event("go")
        instance.wait()
    assert [instance.output for instance in instances] == ["1.0", "1.5"]
    for instance in instances:
        assert replay(instance.history, hub).ok
        assert replay(instance.history, hub).worker_outcome == "accepts"


def test_another_explicit_version_is_a_divergence():
    hub = with_parent(ANY)
    instance = hub.start(parent, input="1.5")
    instance.raise_event("go")
    history = instance.wait().history

    def changed(ctx, _):
        yield ctx.call_sub_orchestrator(which, version="1.6")
        yield ctx.wait_for_external_event("go")
        return "1.5"

    [divergence] = replay(history, {"parent": changed}, versioning=ANY).divergences
    assert (divergence.field, divergence.expected, divergence.actual) == ("version", "1.5", "1.6")


def test_a_sub_orchestration_that_is_rejected_is_named_by_who_waits_for_it():
    hub = with_parent(VersioningOptions("2.0", "1.0", STRICT, REJECT))
    with pytest.raises(OrchestrationBlocked, match=r"sub-orchestration 'which' (?s:.*)is rejected by the"):
        hub.run(parent, version="2.0")


def test_a_new_version_of_continue_as_new_is_evaluated(hub):
    def moving_on(ctx, left):
        yield ctx.create_timer(timedelta(seconds=1))
        if left:
            ctx.continue_as_new(left - 1, new_version="2.0")
        return ctx.version

    hub.add_orchestrator(moving_on)
    hub.use_versioning(VersioningOptions("1.0", None, STRICT, FAIL))
    instance = hub.run(moving_on, input=1, version="1.0")
    assert (instance.status, instance.failure.error_type) == (FAILED, "VersionMismatch")
    hub.use_versioning(VersioningOptions("2.0", None, OLDER, FAIL))
    assert hub.run(moving_on, input=1, version="1.0").output == "2.0"


# -- work item filters


def caller(ctx, _):
    yield ctx.call_activity(work, input=1)
    return (yield ctx.call_entity(EntityInstanceId("counter", "it"), "add", 2))


def locker(ctx, _):
    with (yield ctx.lock_entities([EntityInstanceId("counter", "it")])):
        return "locked"


def counter(ctx, amount):
    ctx.set_state(ctx.get_state(int, 0) + amount)
    return ctx.get_state(int)


def filtered(*filters, **options):
    hub = TaskHub(**options)
    for orchestrator in (which, caller, locker):
        hub.add_orchestrator(orchestrator)
    hub.add_activity(work)
    hub.add_entity(counter)
    hub.use_work_item_filters(*filters)
    return hub


def why(hub, orchestrator, **options):
    with pytest.raises(OrchestrationBlocked) as blocked:
        hub.run(orchestrator, instance_id="it", **options)
    return str(blocked.value)


ALL_BUT = {
    "orchestrations": [OrchestrationWorkItemFilter("caller"), OrchestrationWorkItemFilter("locker")],
    "activities": [ActivityWorkItemFilter("work")],
    "entities": [EntityWorkItemFilter("Counter")],
}


def test_an_orchestration_that_the_filters_leave_out_stays_pending_and_says_so():
    hub = filtered(WorkItemFilters(**ALL_BUT))
    assert why(hub, which).startswith(
        "Instance 'it' (which) is not worked on, for the worker's filters leave orchestration 'which' out."
    )
    assert hub.instance("it").status is PENDING
    hub.use_work_item_filters(None)
    assert hub.instance("it").wait().status is COMPLETED


def test_an_activity_that_the_filters_leave_out_stays_scheduled_and_says_so():
    hub = filtered(WorkItemFilters(**{**ALL_BUT, "activities": []}))
    assert "for the worker's filters leave activity 'work' out." in why(hub, caller)
    hub.use_work_item_filters()
    assert hub.instance("it").wait().output == 2


def test_an_entity_that_the_filters_leave_out_keeps_its_operations_and_says_so():
    hub = filtered(WorkItemFilters(**{**ALL_BUT, "entities": []}))
    assert "for the worker's filters leave entity 'counter' out." in why(hub, caller)
    assert hub.entity("@counter@it").queue_length == 1
    hub.use_work_item_filters()
    assert hub.instance("it").wait().output == 2


def test_locks_are_no_work_and_are_not_filtered():
    hub = filtered(WorkItemFilters(**{**ALL_BUT, "entities": []}))
    assert hub.run(locker).output == "locked"


def test_versions_in_a_filter_are_compared_as_text():
    hub = filtered(
        WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("which", versions=["1.0", ""])])
    )
    assert hub.run(which, version="1.0").output == "1.0"
    assert hub.run(which).output is None  # no version is the empty one
    assert "which has version '1': they take '' or '1.0'." in why(hub, which, version="1")


def test_two_filters_of_one_name_take_the_versions_of_both():
    filters = [OrchestrationWorkItemFilter("which", versions=[v]) for v in ("1", "2")]
    hub = filtered(WorkItemFilters(orchestrations=filters))
    assert [hub.run(which, version=v).output for v in ("1", "2")] == ["1", "2"]


def test_what_is_registered_is_what_the_filters_take_by_default():
    hub = filtered()
    assert hub.run(caller).output == 2
    hub.stub("stand_in", return_value="done")

    def calls_others(ctx, name):
        return (yield ctx.call_activity(name))

    hub.add_orchestrator(calls_others)  # registrations count whenever they are made
    assert hub.run(calls_others, input="stand_in").output == "done"
    assert "filters leave activity 'nobody' out" in why(hub, calls_others, input="nobody")
    hub.add_activity(lambda_named("nobody"))
    hub.use_work_item_filters()
    assert hub.instance("it").wait().output == "here I am"


def lambda_named(name):
    def activity(ctx, _):
        return "here I am"

    activity.__name__ = name
    return activity


@pytest.mark.parametrize("match", [None, NONE, STRICT, OLDER])
def test_the_default_filters_are_those_that_the_sdk_makes(match):
    registry = Registry()
    for orchestrator in (which, caller):
        registry.add_orchestrator(orchestrator)
    registry.add_activity(work)
    registry.add_entity(counter)
    registry.versioning = VersioningOptions("2.0", None, match, FAIL)
    made = WorkItemFilters._from_registry(registry)
    ours, theirs = Filters(None, registry, {}), Filters(made, registry, {})
    questions = [
        (kind, name, version)
        for kind in ("orchestration", "activity", "entity")
        for name in ("which", "caller", "work", "counter", "nobody")
        for version in (None, "", "1.0", "2.0", "2")
    ]
    answers = [ours.why_not(*question) for question in questions]
    assert answers == [theirs.why_not(*question) for question in questions]
    assert 0 < answers.count(None) < len(answers)


STRICT_2 = VersioningOptions("2.0", "2.0", STRICT, FAIL)


def test_a_strict_worker_with_default_filters_never_runs_an_activity():
    """For the SDK gives activities no version, and such filters take its own version only."""
    hub = filtered()
    hub.use_versioning(STRICT_2)
    assert "filters leave activity 'work' out, which has no version" in why(hub, caller, version="2.0")


def test_nor_does_a_real_worker():
    def register(worker):
        for orchestrator in (which, caller):
            worker.add_orchestrator(orchestrator)
        worker.add_activity(work)
        worker.use_versioning(STRICT_2)
        worker.use_work_item_filters()

    with embedded(register) as client:
        instance_id = client.schedule_new_orchestration(caller, version="2.0")
        client.wait_for_orchestration_start(instance_id, timeout=20)
        for _ in range(5):  # all of these are worked on while the activity waits
            other = client.schedule_new_orchestration(which, version="2.0")
            assert client.wait_for_orchestration_completion(other, timeout=20).get_output() == "2.0"
        assert client.get_orchestration_state(instance_id).runtime_status is RUNNING
        scheduled, *rest = client.get_orchestration_history(instance_id)[2:]
    assert (scheduled.name, len(rest)) == ("work", 1)


def test_a_new_version_of_continue_as_new_may_be_left_out():
    def moving_on(ctx, left):
        if left:
            ctx.continue_as_new(left - 1, new_version="2.0")
        else:
            return ctx.version
        yield ctx.create_timer(timedelta(seconds=1))

    hub = TaskHub()
    hub.add_orchestrator(moving_on)
    hub.use_work_item_filters(
        WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("moving_on", versions=["1.0"])])
    )
    assert "which has version '2.0'" in why(hub, moving_on, input=1, version="1.0")
    hub.use_work_item_filters(None)
    assert hub.instance("it").wait().output == "2.0"


def test_events_for_what_is_left_out_arrive_in_order_once_it_is_taken_up():
    def collect(ctx, count):
        seen = []
        for _ in range(count):
            seen.append((yield ctx.wait_for_external_event("item")))
        return seen

    hub = filtered(WorkItemFilters())
    hub.add_orchestrator(collect)
    instance = hub.start(collect, input=3)
    for item in "abc":
        instance.raise_event("item", item)
        hub.settle()
    hub.use_work_item_filters()
    assert instance.wait().output == ["a", "b", "c"]


def test_filters_that_are_none_are_refused():
    with pytest.raises(TypeError, match="The filters are WorkItemFilters, None or left away, not 'caller'"):
        TaskHub().use_work_item_filters("caller")


def test_capabilities_are_kept():
    hub = TaskHub()
    hub.add_capability(3)
    hub.add_capability(3)
    assert hub.capabilities == {3}


def test_a_hub_has_what_a_worker_has_to_register_with():
    """An application's ``register(worker)`` takes a hub unchanged."""
    names = {
        name
        for name, member in vars(TaskHubGrpcWorker).items()
        if callable(member) and name.split("_")[0] in ("add", "use", "configure")
    }
    assert len(names) >= 7
    for name in names:
        theirs = inspect.signature(getattr(TaskHubGrpcWorker, name)).parameters
        ours = inspect.signature(getattr(TaskHub, name)).parameters
        assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]


# -- suspended, terminated, and results that nobody waits for


def waits_for_everything(ctx, _):
    ctx.set_custom_status("waiting")
    slow = ctx.call_activity("slow")
    nap = ctx.create_timer(timedelta(hours=2))
    answer = ctx.wait_for_external_event("answer")
    sub = ctx.call_sub_orchestrator(sleeper, instance_id="sub")
    held = ctx.lock_entities([EntityInstanceId("counter", "taken")])
    return (yield when_all([slow, nap, answer, sub, held]))


def sleeper(ctx, _):
    yield ctx.create_timer(timedelta(hours=3))
    return "slept"


def holder(ctx, _):
    with (yield ctx.lock_entities([EntityInstanceId("counter", "taken")])):
        yield ctx.create_timer(timedelta(hours=4))


@pytest.fixture
def busy():
    """A hub with an instance that waits for one of each, and the events that arrive for it later."""
    hub = TaskHub(check_replay="turn")
    for orchestrator in (waits_for_everything, sleeper, holder, which):
        hub.add_orchestrator(orchestrator)
    hub.add_entity(counter)
    hub.stub("slow", return_value="done", duration=timedelta(hours=1))
    hub.start(holder, instance_id="holder")
    hub.settle()
    instance = hub.start(waits_for_everything, instance_id="it")
    hub.settle()
    kinds = [operation.kind for operation in instance.waiting_for]
    assert kinds == ["activity", "timer", "event", "sub_orchestration", "lock"]
    return hub


@pytest.mark.parametrize("recursive", [True, False])
def test_what_waits_for_everything_is_terminated_and_all_that_comes_later_is_harmless(busy, recursive):
    instance = busy.instance("it")
    instance.terminate("enough", recursive=recursive)
    busy.settle()
    assert (instance.status, instance.output) == (OrchestrationStatus.TERMINATED, "enough")
    recorded = instance.history.dumps(".jsonl")
    instance.raise_event("answer", "too late")
    busy.advance(timedelta(hours=5))
    assert instance.history.dumps(".jsonl") == recorded
    assert replay(instance.history, busy).ok
    assert replay(instance.history, busy).worker_outcome == "accepts"
    sub = OrchestrationStatus.TERMINATED if recursive else COMPLETED
    assert busy.instance("sub").status is sub
    assert busy.instance("holder").status is COMPLETED


def test_a_lock_that_is_granted_to_what_was_terminated_does_not_stay_locked(busy):
    busy.instance("it").terminate()
    busy.advance(timedelta(hours=5))
    assert busy.entity("@counter@taken").locked_by is None
    busy.start(holder, instance_id="next")
    busy.settle()
    assert busy.entity("@counter@taken").locked_by == "next"


@pytest.mark.parametrize("recovered", [True, False])
def test_what_arrives_while_suspended_is_handled_in_order_after_resuming(recovered):
    """Also where another worker takes over meanwhile."""

    def collect(ctx, _):
        seen = []
        waits = {
            "slow": ctx.call_activity("slow"),
            "nap": ctx.create_timer(timedelta(minutes=90)),
            "item": ctx.wait_for_external_event("item"),
        }
        while len(seen) < 5:
            first = yield when_any(list(waits.values()))
            name = next(name for name, wait in waits.items() if wait is first)
            seen.append(first.get_result() or name)
            if name == "item":
                waits["item"] = ctx.wait_for_external_event("item")
            else:
                del waits[name]
        return seen

    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(collect)
    hub.stub("slow", return_value="done", duration=timedelta(hours=1))
    instance = hub.start(collect)
    hub.settle()
    instance.suspend()
    hub.settle()
    instance.raise_event("item", 1)
    hub.advance(timedelta(hours=2))  # the activity ends and the timer fires
    instance.raise_event("item", 2)
    hub.advance(timedelta(hours=2))
    assert (instance.status, len(instance.waiting_for)) == (OrchestrationStatus.SUSPENDED, 3)
    if recovered:
        hub.crash_worker()
    instance.resume()
    instance.raise_event("item", 3)
    assert instance.wait().output == [1, "done", "nap", 2, 3]
    assert replay(instance.history, hub).worker_outcome == "accepts"


def test_results_for_an_earlier_generation_are_dropped():
    def impatient(ctx, left):
        slow = ctx.call_activity("slow", input=left)
        nap = ctx.create_timer(timedelta(minutes=10))
        first = yield when_any([slow, nap])
        if first is nap and left:
            ctx.continue_as_new(left - 1)
            return None
        return first.get_result()

    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(impatient)
    # The first call ends while the second generation waits for its own, which has the same id.
    durations = [timedelta(minutes=15), timedelta(minutes=8)]
    stub = hub.stub("slow", side_effect=["first", "second"], duration=lambda _: durations.pop(0))
    instance = hub.run(impatient, input=1)
    assert (instance.output, len(stub.calls), len(instance.histories)) == ("second", 2, 2)
    assert hub.now == START + timedelta(minutes=18)


def test_a_result_for_an_instance_that_was_replaced_does_not_reach_the_new_one():
    def asks(ctx, _):
        return (yield ctx.call_activity("slow"))

    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(asks)
    answers = iter(["old", "new"])
    durations = [timedelta(hours=1), timedelta(hours=3)]
    hub.stub("slow", side_effect=lambda ctx, _: next(answers), duration=lambda _: durations.pop(0))
    first = hub.start(asks, instance_id="it")
    hub.settle()
    first.terminate()
    hub.settle()
    second = first.restart()
    hub.advance(timedelta(hours=2))
    assert second.status is RUNNING  # the old answer has come in between
    hub.advance(timedelta(hours=2))
    assert second.output == "new"
    assert first.status is OrchestrationStatus.TERMINATED


def test_a_timer_that_was_cancelled_fires_for_nobody():
    def cancels(ctx, _):
        timeout = ctx.create_timer(timedelta(hours=1))
        yield ctx.wait_for_external_event("go")
        timeout.cancel()
        yield ctx.create_timer(timedelta(hours=2))
        return ctx.current_utc_datetime.hour

    hub = TaskHub(check_replay="turn")
    hub.add_orchestrator(cancels)
    instance = hub.start(cancels)
    hub.settle()
    instance.raise_event("go")
    assert instance.wait().output == 2
    fired = [e for e in instance.history.events if isinstance(e, h.TimerFiredEvent)]
    assert len(fired) == 2
    assert replay(instance.history, hub).worker_outcome == "accepts"


# -- timers, failures


@pytest.mark.parametrize(("interval", "chunks"), [(None, 1), (timedelta(days=3), 4), (timedelta(0), 1)])
def test_long_timers_are_chunked_as_the_interval_says(interval, chunks):
    hub = TaskHub(maximum_timer_interval=interval, check_replay="turn")

    def sleeps(ctx, days):
        yield ctx.create_timer(timedelta(days=days))
        return ctx.current_utc_datetime.isoformat()

    hub.add_orchestrator(sleeps)
    instance = hub.run(sleeps, input=10)
    assert instance.output == "2026-01-11T00:00:00"
    created = [e for e in instance.history.events if isinstance(e, h.TimerCreatedEvent)]
    assert len(created) == chunks
    assert replay(instance.history, hub).ok


class Shortage(Exception):
    def __init__(self, item, missing):
        super().__init__(f"{missing} of {item} are missing")
        self.item, self.missing = item, missing


class Properties:
    def get_exception_properties(self, exception):
        if isinstance(exception, Shortage):
            return {"item": exception.item, "missing": exception.missing}
        return None


def test_the_properties_of_an_exception_reach_who_catches_it_and_who_looks():
    def short(ctx, _):
        raise Shortage("desk", 2)

    def shelf(ctx, _):
        raise Shortage("pen", 3)

    def asks(ctx, _):
        seen = []
        for call in (ctx.call_activity(short), ctx.call_entity(EntityInstanceId("shelf", "a"), "take")):
            try:
                yield call
            except TaskFailedError as error:  # noqa: PERF203
                seen.append(error.details.properties)
        ctx.set_custom_status(seen)
        raise Shortage("hope", 1)

    hub = TaskHub(exception_properties_provider=Properties(), check_replay="turn")
    hub.add_orchestrator(asks)
    hub.add_activity(short)
    hub.add_entity(shelf)
    instance = hub.run(asks)
    assert instance.custom_status == [{"item": "desk", "missing": 2}, {"item": "pen", "missing": 3}]
    assert instance.failure.properties == {"item": "hope", "missing": 1}
    assert hub.client.get_orchestration_state(instance.instance_id).failure_details.properties == {
        "item": "hope",
        "missing": 1,
    }


@pytest.mark.parametrize("interval", [None, timedelta(days=2)])
def test_a_hub_tells_its_interval_as_the_worker_does(interval):
    worker = TaskHubGrpcWorker(maximum_timer_interval=interval, logger=_LOGGER)
    hub = TaskHub(maximum_timer_interval=interval)
    assert hub.maximum_timer_interval == worker.maximum_timer_interval == interval
