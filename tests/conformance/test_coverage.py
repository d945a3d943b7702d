"""docs/coverage.md names a test for each public member of the SDK, and that test exercises it."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from coverage_table import (
    LEFT_OUT,
    NOT_PROVED,
    PAGE,
    SLOW,
    candidates,
    pattern_of,
    problems,
    prove,
    read,
    record,
    render,
    surface,
    unproved,
    update,
)
from sdk_surface import members, public_objects


@pytest.fixture(scope="module")
def listed():
    return read(PAGE.read_text())


def test_each_public_member_of_the_sdk_is_exercised_by_the_test_that_the_page_names(listed):
    modules = surface()
    keys = [key for module in modules.values() for key in module]
    recorded = record()
    found = problems(listed, keys, recorded, LEFT_OUT)
    assert not found, "\n".join(found)
    # So are the rows without a proof or a test, and the order: all but the introduction is generated.
    table = update(candidates(listed, keys, recorded, LEFT_OUT), listed)
    page = PAGE.read_text()
    assert page == render(page, table, modules, LEFT_OUT, NOT_PROVED)


def test_the_test_that_the_page_names_fails_without_the_member(listed):
    rows = {
        member: [test]
        for member, test in listed.items()
        if not test.startswith(SLOW) and pattern_of(member, NOT_PROVED) is None
    }
    assert len(rows) > 400
    found = unproved(prove(rows, again=False), {})
    assert not found, "\n".join(found)


# -- what is public

RELEASE = """
import dataclasses
import enum

class Client:
    def __init__(self, address=None, retries=3, _hidden=None):
        self.retries = retries
        self._address = address
    def start(self, name, *, input=None): ...
    @property
    def address(self): ...
    @classmethod
    def connect(cls, to="here"): ...
    def __enter__(self): ...
    def _private(self): ...

class AzureClient(Client):
    def start(self, name, *, input=None): ...

@dataclasses.dataclass
class State:
    name: str
    output: str | None = None

class Status(enum.Enum):
    NEW = 1

class Refused(Exception): ...
class _Internal: ...
def connect(): ...
def _connect(): ...
LIMIT = 3
"""


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The name of a module as the SDK may have it one day."""
    (tmp_path / "durabletask_next.py").write_text(RELEASE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "durabletask_next"
    sys.modules.pop("durabletask_next", None)


def test_what_a_release_adds_is_found(release):
    assert members(public_objects((release,))[release]) == [
        "Client.start",
        "Client.start(input=)",
        "Client.address",
        "Client.connect",
        "Client.connect(to=)",
        "Client.__enter__",
        "Client.retries",
        "AzureClient",
        "State.name",
        "State.output",
        "Status.NEW",
        "Refused",
        "durabletask_next.connect",
    ]


def test_two_things_of_one_name_are_not_taken_for_one(release, monkeypatch):
    module = import_module(release)
    module.Agent = type("Client", (), {"__module__": release})
    with pytest.raises(AssertionError, match="Client names two things"):
        public_objects((release,))


# -- what exercises it

PROJECT = {
    "pytest.ini": "[pytest]\nasyncio_default_fixture_loop_scope = function\n",
    "conftest.py": """
from durabletask.client import TaskHubGrpcClient

async def coming(self): ...

TaskHubGrpcClient.coming = coming
TaskHubGrpcClient.brand_new = lambda self, volume=1: volume
TaskHubGrpcClient.refusing = lambda self: 1 / 0
TaskHubGrpcClient.unheard_of = lambda self: None
""",
    "test_it.py": """
import asyncio
from datetime import timedelta

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.serialization import DataConverter
from durabletask.task import RetryPolicy, TaskFailedError
from dt_testkit import TaskHub

def test_calls():
    TaskHub().client.brand_new(volume=1)

def test_gives_a_parameter():
    TaskHub().client.brand_new(2)

def test_awaits():
    asyncio.run(TaskHub().client.coming())

def test_is_refused():
    with pytest.raises(ZeroDivisionError):
        TaskHub().client.refusing()

def test_fails():
    TaskHub().client.unheard_of()
    assert False

@pytest.mark.xfail(strict=True)
def test_fails_as_expected():
    TaskHub().client.unheard_of()
    assert False

def test_starts_the_backend_of_the_sdk():
    from durabletask.testing import create_test_backend
    create_test_backend(port=0)
    TaskHub().client.unheard_of()

def asking(ctx, _):
    try:
        yield ctx.call_activity("missing")
    except TaskFailedError:
        return ctx.instance_id

def test_runs_on_a_hub():
    hub = TaskHub()
    hub.add_orchestrator(asking)
    state = hub.client.wait_for_orchestration_completion(hub.client.schedule_new_orchestration(asking))
    assert state.runtime_status is OrchestrationStatus.COMPLETED

def test_gives_a_field():
    RetryPolicy(first_retry_interval=timedelta(1), max_number_of_attempts=2, backoff_coefficient=1.0)

def test_implements_a_class():
    class Mine(DataConverter):
        def serialize(self, value):
            self.coerce(value)
            return None
        def deserialize(self, data, target_type=None):
            return None
        def coerce(self, value, target_type=None):
            return value
    TaskHub(data_converter=Mine()).start("x", input=1)
""",
}
EXERCISED_BY = {
    "TaskHubGrpcClient.brand_new": ["calls", "gives_a_parameter"],
    "TaskHubGrpcClient.brand_new(volume=)": ["gives_a_parameter"],
    "TaskHubGrpcClient.coming": ["awaits"],
    "TaskHubGrpcClient.refusing": [],  # it has not returned
    "TaskHubGrpcClient.unheard_of": [],  # no such test has passed on a hub
    "TaskHubGrpcClient.schedule_new_orchestration": ["runs_on_a_hub"],
    "TaskHubGrpcClient.schedule_new_orchestration(input=)": [],
    "TaskHubGrpcWorker.add_orchestrator": ["runs_on_a_hub"],
    "TaskHubGrpcWorker.start": [],  # TaskHub.start() is something else
    "OrchestrationContext.call_activity": ["runs_on_a_hub"],
    "OrchestrationContext.instance_id": ["runs_on_a_hub"],
    "OrchestrationContext.is_replaying": [],
    "OrchestrationState.runtime_status": ["runs_on_a_hub"],
    "OrchestrationState.name": [],
    "OrchestrationStatus.COMPLETED": ["runs_on_a_hub"],
    "OrchestrationStatus.RUNNING": [],
    "ActivityNotRegisteredError": ["runs_on_a_hub"],
    "EntityNotRegisteredError": [],
    "Task.is_complete": [],  # the harness reads it, and no test
    "RetryPolicy.max_number_of_attempts": ["gives_a_field"],
    "RetryPolicy.backoff_coefficient": [],  # that is the default
    "DataConverter.serialize": ["implements_a_class"],
    "DataConverter.coerce": [],  # called by the test itself
}


def test_what_counts_as_exercising(tmp_path):
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)
    recorded = record(["test_it.py"], root=tmp_path)
    assert {
        member: [test.partition("::test_")[2] for test in recorded[member]] for member in EXERCISED_BY
    } == EXERCISED_BY


# -- what is wrong with a table


def test_a_member_without_a_test_is_named():
    assert problems({"C.old": "t1"}, ["C.old", "C.new"], {"C.old": ["t1"], "C.new": []}, {}) == [
        "C.new: no test exercises it; write one where coverage_table.RUN says, then run: make coverage-table"
    ]


def test_a_row_whose_test_does_not_exercise_the_member_is_named():
    assert problems({"C.a": "t1"}, ["C.a"], {"C.a": ["t2"]}, {}) == [
        "C.a: t1 no longer exercises it, but t2 does; then run: make coverage-table"
    ]


def test_a_member_that_is_not_in_the_table_is_named_and_one_that_is_gone():
    found = problems({"C.gone": "t1"}, ["C.a"], {"C.a": ["t2"]}, {})
    assert [problem.partition(";")[0] for problem in found] == [
        "C.a: not in the table, though t2 exercises it",
        "C.gone: in the table, and not in the SDK",
    ]


def test_what_is_left_out_has_no_test_and_is_in_the_sdk():
    assert problems({}, ["C.a"], {"C.a": []}, {"C.*": "why"}) == []
    found = problems({}, ["C.a"], {"C.a": ["t1"]}, {"C.*": "why", "D.*": "why"})
    assert [problem.partition("; take")[0] for problem in found] == [
        "C.*: covers C.a, which t1 exercises",
        "D.*: in LEFT_OUT, and not in the SDK",
    ]


def test_a_row_keeps_its_test_for_as_long_as_it_exercises_the_member():
    recorded = {"C.a": ["broad", "narrow"], "C.b": ["broad"]}

    def chosen(listed):
        return update(candidates(listed, ["C.a", "C.b"], recorded, {}), {})

    assert chosen({}) == {"C.a": "narrow", "C.b": "broad"}
    assert chosen({"C.a": "broad"}) == {"C.a": "broad", "C.b": "broad"}
    assert chosen({"C.a": "gone"}) == {"C.a": "narrow", "C.b": "broad"}


def test_a_row_gets_the_test_that_proves_it():
    assert update({"C.a": ["closest", "proof"]}, {"C.a": "proof"}) == {"C.a": "proof"}


def test_a_member_that_no_test_proves_is_named_and_a_reason_that_is_none():
    proved = {"C.a": None, "C.b": None, "C.c": "t1", "C.d": "t2"}
    found = unproved(proved, {"C.b": "why", "C.c": "why", "D.*": "why"})
    assert [problem.partition("; ")[0] for problem in found] == [
        "C.a: no test fails when it is knocked out",
        "C.c: covers C.c, which t1 proves",
        "D.*: in NOT_PROVED, and not in the table",
    ]


def test_a_page_is_read_as_it_was_written():
    table = {"C.a(b=)": "tests/test_x.py::test_y[a|b-[c]]"}
    rest = {"m": ["C.a(b=)", "C.c"], "n": ["D.a"]}, {"C.c": "why"}, {"C.a*": "because"}
    page = render("# Title\n\nWords.\n", table, *rest)
    assert page.startswith("# Title\n\nWords.\n\n## m\n")
    assert read(page) == table
    assert render(page, table, *rest) == page


# -- what proves it

KNOCKED_OUT = {
    "pytest.ini": "[pytest]\nasyncio_default_fixture_loop_scope = function\n",
    "test_it.py": """
import asyncio
import time
from datetime import datetime, timedelta

from durabletask.client import OrchestrationStatus
from durabletask.serialization import JsonDataConverter
from durabletask.task import RetryPolicy, TaskFailedError, when_any
from dt_testkit import TaskHub

def greet(ctx, name):
    yield ctx.create_timer(timedelta(hours=1))
    try:
        yield ctx.call_activity("missing", retry_policy=RetryPolicy(
            first_retry_interval=timedelta(hours=1), max_number_of_attempts=2))
    except TaskFailedError:
        return f"hello {name}"

def run(**options):
    hub = TaskHub(**options)
    hub.add_orchestrator(greet)
    id = hub.client.schedule_new_orchestration(greet, input="ana", start_at=datetime(2026, 1, 2))
    return hub, hub.client.wait_for_orchestration_completion(id, timeout=10**6)

def test_is_vacuous():
    hub = TaskHub()
    hub.add_orchestrator(greet)
    hub.client.schedule_new_orchestration(greet, input="ana", start_at=datetime(2026, 1, 2))

def test_asks_whether_it_ended():
    assert run()[1] is not None

def test_asks_how_it_ended():
    assert run()[1].runtime_status is OrchestrationStatus.COMPLETED

def test_asks_what_came_out():
    assert run()[1].get_output() == "hello ana"

def test_asks_when_it_ended():
    assert run()[0].now == datetime(2026, 1, 2, 2)

def test_waits_for_the_clock():
    hub, _ = run()
    while hub.now < datetime(2026, 1, 2, 2):
        time.sleep(0.01)

def test_awaits():
    async def ask():
        async with TaskHub().async_client as client:
            return await client.get_orchestration_state("nobody")
    assert asyncio.run(ask()) is None

class Loud(JsonDataConverter):
    def serialize(self, value):
        return super().serialize("LOUD")

def test_is_loud():
    assert run(data_converter=Loud())[1].get_output() == "LOUD"

def test_fails():
    run()
    assert False
""",
}
# For each member the tests that are tried, and how many of them do not prove it.
PROOFS = {
    "TaskHubGrpcClient.schedule_new_orchestration": (["is_vacuous", "fails", "asks_whether_it_ended"], 2),
    "TaskHubGrpcClient.schedule_new_orchestration(input=)": (["asks_how_it_ended", "asks_what_came_out"], 1),
    "TaskHubGrpcClient.schedule_new_orchestration(start_at=)": (["is_vacuous", "asks_how_it_ended"], 2),
    "TaskHubGrpcClient.wait_for_orchestration_completion(timeout=)": (["asks_what_came_out"], 0),
    "OrchestrationContext.call_activity(retry_policy=)": (["asks_how_it_ended", "asks_when_it_ended"], 1),
    "OrchestrationStatus.COMPLETED": (["asks_whether_it_ended", "asks_how_it_ended"], 1),
    "OrchestrationState.runtime_status": (["asks_whether_it_ended", "asks_how_it_ended"], 1),
    "TaskFailedError": (["asks_whether_it_ended", "asks_how_it_ended"], 1),
    "DataConverter.serialize": (["asks_what_came_out", "is_loud"], 1),
    "AsyncTaskHubGrpcClient.get_orchestration_state": (["awaits"], 1),  # nobody has no state either way
    "JsonDataConverter": (["is_loud", "asks_what_came_out"], 2),  # nothing to knock out
    # A test that has to be stopped counts where no other fails.
    "OrchestrationContext.create_timer": (["waits_for_the_clock"], 0),
    "RetryPolicy.first_retry_interval": (["waits_for_the_clock", "asks_when_it_ended"], 1),
}


def test_what_proves_a_member(tmp_path):
    for name, text in KNOCKED_OUT.items():
        (tmp_path / name).write_text(text)
    asked = {member: [f"test_it.py::test_{test}" for test in tests] for member, (tests, _) in PROOFS.items()}
    expected = {member: [*asked[member], None][vacuous] for member, (_, vacuous) in PROOFS.items()}
    assert prove(asked, ["test_it.py"], root=tmp_path) == expected


def test_tests_that_cannot_be_collected_prove_nothing(tmp_path):
    (tmp_path / "pytest.ini").write_text(KNOCKED_OUT["pytest.ini"])
    (tmp_path / "test_it.py").write_text("import nothing_of_the_kind")
    with pytest.raises(RuntimeError, match="No module named 'nothing_of_the_kind'"):
        prove({"task.get_name": ["test_it.py::test_it"]}, ["test_it.py"], root=tmp_path)
