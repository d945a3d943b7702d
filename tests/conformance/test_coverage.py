"""docs/coverage.md names a test for each public member of the SDK, and that test exercises it."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from coverage_table import LEFT_OUT, PAGE, problems, read, record, render, surface, update
from sdk_surface import members, public_objects


def test_each_public_member_of_the_sdk_is_exercised_by_the_test_that_the_page_names():
    modules = surface()
    keys = [key for module in modules.values() for key in module]
    page = PAGE.read_text()
    recorded = record()
    found = problems(read(page), keys, recorded, LEFT_OUT)
    assert not found, "\n".join(found)
    # So are the rows that are left out, and the order: all but the introduction is generated.
    assert page == render(page, update(read(page), keys, recorded, LEFT_OUT), modules, LEFT_OUT)


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
    assert update({}, ["C.a", "C.b"], recorded, {}) == {"C.a": "narrow", "C.b": "broad"}
    assert update({"C.a": "broad"}, ["C.a", "C.b"], recorded, {}) == {"C.a": "broad", "C.b": "broad"}
    assert update({"C.a": "gone"}, ["C.a"], recorded, {}) == {"C.a": "narrow"}


def test_a_page_is_read_as_it_was_written():
    table = {"C.a(b=)": "tests/test_x.py::test_y[a|b-[c]]"}
    page = render("# Title\n\nWords.\n", table, {"m": ["C.a(b=)", "C.c"], "n": ["D.a"]}, {"C.c": "why"})
    assert page.startswith("# Title\n\nWords.\n\n## m\n")
    assert read(page) == table
    assert render(page, table, {"m": ["C.a(b=)", "C.c"], "n": ["D.a"]}, {"C.c": "why"}) == page
