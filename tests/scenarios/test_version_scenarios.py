"""Versions of orchestrations, and which of them a worker takes."""

import pytest
from durabletask import VersioningOptions
from durabletask.client import OrchestrationStatus
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.worker import VersionFailureStrategy, VersionMatchStrategy
from world import failure, output

NONE, STRICT = VersionMatchStrategy.NONE, VersionMatchStrategy.STRICT
OLDER = VersionMatchStrategy.CURRENT_OR_OLDER
FAIL, REJECT = VersionFailureStrategy.FAIL, VersionFailureStrategy.REJECT


def register(worker):
    for orchestrator in (my_version, parent, branches, chooses):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(echo)


def versioned(**options):
    def register_versioned(worker):
        register(worker)
        worker.use_versioning(VersioningOptions(**options))

    return pytest.mark.application(register=register_versioned)


strict = versioned(version="2.0.0", match_strategy=STRICT, failure_strategy=FAIL)
current_or_older = versioned(version="2.0.0", match_strategy=OLDER, failure_strategy=FAIL)
any_version = versioned(version="2.0.0", match_strategy=NONE, failure_strategy=FAIL)
with_default = versioned(version="2.0.0", default_version="7.0.0", match_strategy=NONE)
rejecting = versioned(version="2.0.0", match_strategy=STRICT, failure_strategy=REJECT)


def echo(ctx, value):
    return value


def my_version(ctx, _):
    return ctx.version


@pytest.mark.parametrize("version", ["1.0.0", "2.0", "anything at all"])
def test_an_orchestration_knows_its_version(world, version):
    assert world.output_of(my_version, version=version) == version


def test_without_a_version_it_is_none(world):
    assert world.output_of(my_version) is None


def test_the_client_may_have_a_version_for_all_that_it_schedules(world):
    world.client.default_version = "3.1.4"
    try:
        assert world.output_of(my_version) == "3.1.4"
        assert world.output_of(my_version, version="1.0") == "1.0"
    finally:
        world.client.default_version = None


def branches(ctx, _):
    if ctx.version == "1.0":
        return (yield ctx.call_activity(echo, input="the old way"))
    return (yield ctx.call_activity(echo, input="the new way"))


def test_code_chooses_its_way_by_the_version(world):
    assert world.output_of(branches, version="1.0") == "the old way"
    assert world.output_of(branches, version="2.0") == "the new way"


@strict
def test_a_strict_worker_takes_its_own_version(world):
    assert world.output_of(my_version, version="2.0.0") == "2.0.0"


@strict
@pytest.mark.parametrize("version", ["1.9.9", "2.0.1", None])
def test_a_strict_worker_fails_every_other(world, version):
    details = failure(world.run(my_version, version=version))
    assert details.error_type == "VersionMismatch"
    assert (
        details.message == f"The orchestration version '{version}' does not match the worker version '2.0.0'."
    )


@current_or_older
@pytest.mark.parametrize("version", ["2.0.0", "1.10.3", "0.1", None])
def test_a_worker_may_take_older_versions_too(world, version):
    assert world.output_of(my_version, version=version) == version


@current_or_older
@pytest.mark.parametrize("version", ["2.0.1", "10.0.0"])
def test_and_fails_newer_ones(world, version):
    details = failure(world.run(my_version, version=version))
    assert details.error_type == "VersionMismatch"
    assert (
        details.message
        == f"The orchestration version '{version}' is greater than the worker version '2.0.0'."
    )


@any_version
@pytest.mark.parametrize("version", ["1.0.0", "3.0.0", None])
def test_a_worker_may_take_any_version(world, version):
    assert world.output_of(my_version, version=version) == version


def parent(ctx, version):
    return [ctx.version, (yield ctx.call_sub_orchestrator(my_version, version=version))]


def test_a_sub_orchestration_has_the_version_it_is_given(world):
    assert world.output_of(parent, input="5.0", version="1.0") == ["1.0", "5.0"]


def test_a_sub_orchestration_does_not_inherit_the_version(world):
    assert world.output_of(parent, version="1.0") == ["1.0", None]


@with_default
def test_sub_orchestrations_have_the_default_version_of_the_worker(world):
    assert world.output_of(parent, version="1.0") == ["1.0", "7.0.0"]
    assert world.output_of(parent, input="5.0") == [None, "5.0"]


def chooses(ctx, version):
    try:
        return (yield ctx.call_sub_orchestrator(my_version, version=version))
    except Exception as error:
        return error.details.message


@strict
def test_a_sub_orchestration_of_another_version_fails(world):
    assert world.output_of(chooses, input="2.0.0", version="2.0.0") == "2.0.0"
    refusal = world.output_of(chooses, input="1.0.0", version="2.0.0")
    assert refusal == "The orchestration version '1.0.0' does not match the worker version '2.0.0'."


@rejecting
def test_a_worker_that_rejects_other_versions_takes_its_own(world):
    assert output(world.run(my_version, version="2.0.0")) == "2.0.0"


@rejecting
@pytest.mark.in_memory_lacks("never runs an instance that took the place of one whose turn was under way")
def test_what_a_worker_rejects_waits_for_another(world):
    instance_id = world.client.schedule_new_orchestration(my_version, version="1.0.0")
    with pytest.raises(TimeoutError):
        world.client.wait_for_orchestration_start(instance_id, timeout=0.2)
    assert world.client.get_orchestration_state(instance_id).runtime_status is OrchestrationStatus.PENDING
    again = pb.OrchestrationIdReusePolicy(replaceableStatus=[OrchestrationStatus.PENDING.value])
    state = world.run(my_version, version="2.0.0", instance_id=instance_id, reuse_id_policy=again)
    assert output(state) == "2.0.0"
