"""Net 2: what a replay does differently when one thing is moved."""

from __future__ import annotations

import builtins
import gc
import gzip
import json
import locale
import os
import pickle
import platform
import random
import secrets
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from email.utils import formatdate
from pathlib import Path
from typing import Any

import freezegun
import pytest
from durabletask.entities import EntityInstanceId
from durabletask.serialization import JsonDataConverter
from durabletask.task import RetryPolicy, when_all
from durabletask.worker import VersionFailureStrategy, VersioningOptions, VersionMatchStrategy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dt_testkit import History, TaskHub
from dt_testkit.application import register_application
from dt_testkit.determinism import DeterminismReport, allow_nondeterminism, check_determinism, watchdog
from dt_testkit.determinism import surroundings as surroundings_module
from dt_testkit.errors import HistoryFormatError, VersionRejected

HISTORIES = Path(__file__).parents[1] / "histories"
Orchestrator = Callable[..., Any]


def record(orchestrator: Orchestrator, input: Any = None, *, hub: TaskHub | None = None) -> History:
    hub = hub or new_hub()
    hub.add_orchestrator(orchestrator)
    instance = hub.start(orchestrator, input=input)
    hub.settle()
    return instance.history


def new_hub(**options: Any) -> TaskHub:
    hub = TaskHub(guard="off", check_replay="never", **options)
    hub.stub("work", return_value="done")
    return hub


def check(orchestrator: Orchestrator, input: Any = None) -> DeterminismReport:
    return check_determinism(record(orchestrator, input), orchestrator)


def not_tried(report: DeterminismReport) -> list[str]:
    """A machine with one locale alone says so, and that is all."""
    return [each.reason for each in report.skipped if each.perturbation != "locale"]


def work(ctx, value):
    return ctx.call_activity("work", input=value)


# -- one orchestrator that does it, and one beside it that does not


def reads_the_clock(ctx, _):
    yield work(ctx, datetime.now().isoformat())


def reads_the_time_of_the_orchestration(ctx, _):
    yield work(ctx, ctx.current_utc_datetime.isoformat())


def writes_a_time_out(ctx, _):
    yield work(ctx, f"{ctx.current_utc_datetime!r} {type(ctx.current_utc_datetime)}")


def asks_for_the_day(ctx, _):
    yield work(ctx, str(date.today()))


def builds_a_day(ctx, _):
    yield work(ctx, str(date(2026, 1, 1)))


def asks_for_the_month(ctx, _):
    yield work(ctx, time.gmtime().tm_mon)


def measures(ctx, _):
    before = time.perf_counter()
    yield work(ctx, 1)
    if time.perf_counter() - before > 600:
        yield work(ctx, "late")


def waits_for_a_timer(ctx, _):
    before = ctx.current_utc_datetime
    yield ctx.create_timer(timedelta(minutes=11))
    if ctx.current_utc_datetime - before > timedelta(minutes=10):
        yield work(ctx, "late")


def gives_up_long_after(ctx, _):
    if datetime.utcnow() > ctx.current_utc_datetime + timedelta(days=5 * 365):
        return
    yield work(ctx, 1)


def asks_for_the_local_hour(ctx, _):
    yield work(ctx, time.localtime(0).tm_hour)


def draws(ctx, _):
    yield work(ctx, random.random())


def draws_from_a_seed(ctx, _):
    yield work(ctx, random.Random(ctx.instance_id).random())


def draws_from_entropy(ctx, _):
    yield work(ctx, secrets.token_hex(4))


def makes_an_unseeded_source(ctx, _):
    yield work(ctx, random.Random().random())


def makes_an_id(ctx, _):
    yield work(ctx, str(uuid.uuid4()))


def makes_a_durable_id(ctx, _):
    yield work(ctx, ctx.new_uuid())


def reads_a_variable(ctx, _):
    yield work(ctx, os.environ.get("PATH"))


def reads_a_variable_that_is_not_set(ctx, _):
    if os.getenv("DT_NOBODY_SETS_THIS"):
        yield work(ctx, 1)
    yield work(ctx, 2)


def names_a_variable(ctx, _):
    yield work(ctx, "$PATH")


def reads_the_command_line(ctx, _):
    yield work(ctx, len(sys.argv[0]))


def reads_the_directory(ctx, _):
    yield work(ctx, os.path.abspath("."))


def joins_a_path(ctx, _):
    yield work(ctx, os.path.join(".", "file"))


def formats_by_locale(ctx, _):
    yield work(ctx, locale.format_string("%.2f", 1234.5, grouping=True))


def formats(ctx, _):
    yield work(ctx, f"{1234.5:,.2f}")


def asks_for_the_host(ctx, _):
    yield work(ctx, socket.gethostname())


def asks_for_the_platform(ctx, _):
    yield work(ctx, platform.node())


def goes_by_the_system(ctx, _):
    yield work(ctx, "\\" if platform.system() == "Windows" else "/")


def goes_by_the_name_of_the_system(ctx, _):
    yield work(ctx, sys.platform == "win32")


def asks_for_the_locale(ctx, _):
    yield work(ctx, str(locale.getlocale()))


def asks_for_the_process(ctx, _):
    yield work(ctx, os.getpid())


def asks_for_the_thread(ctx, _):
    yield work(ctx, threading.current_thread().name)


def goes_through_a_set(ctx, _):
    yield when_all([work(ctx, each) for each in {"a", "b", "c", "d"}])


def goes_through_a_sorted_set(ctx, _):
    yield when_all([work(ctx, each) for each in sorted({"a", "b", "c", "d"})])


def hashes(ctx, _):
    yield work(ctx, hash("text"))


SEEN: list[int] = []
ONCE: set[str] = set()
IMPORTED_AT = time.time()
IN_ORDER = list({"a", "b", "c", "d"})
SORTED = sorted({"a", "b", "c", "d"})


def counts_runs(ctx, _):
    SEEN.append(1)
    yield work(ctx, len(SEEN))


def counts_in_its_own_list(ctx, _):
    seen = [1]
    yield work(ctx, len(seen))


def has_a_mutable_default(ctx, _, seen=[]):  # noqa: B006
    seen.append(1)
    yield work(ctx, len(seen))


class Counter:
    runs = 0


def counts_on_a_class(ctx, _):
    Counter.runs += 1
    yield work(ctx, Counter.runs)


def asks_once_in_a_process(ctx, _):
    if "asked" not in ONCE:
        ONCE.add("asked")
        yield work(ctx, "first")
    yield work(ctx, "always")


def reads_a_constant_of_the_import(ctx, _):
    yield work(ctx, IMPORTED_AT)


def goes_through_an_order_of_the_import(ctx, _):
    for each in IN_ORDER:
        yield work(ctx, each)


def goes_through_a_sorted_list_of_the_import(ctx, _):
    for each in SORTED:
        yield work(ctx, each)


def asks_whether_it_replays(ctx, _):
    if not ctx.is_replaying:
        yield work(ctx, "first run")
    yield work(ctx, "always")


def logs_when_it_does_not_replay(ctx, _):
    if not ctx.is_replaying:
        print("the first time")
    yield work(ctx, "always")


CASES = [
    (reads_the_clock, "DT101", "clock forward", reads_the_time_of_the_orchestration),
    (reads_the_clock, "DT101", "clock back", writes_a_time_out),
    (reads_the_clock, "DT101", "time zone", reads_the_time_of_the_orchestration),
    (reads_the_clock, "DT101", "clock half a day on", reads_the_time_of_the_orchestration),
    (asks_for_the_day, "DT101", "clock across midnight", builds_a_day),
    (asks_for_the_day, "DT101", "clock on another kind of day", builds_a_day),
    (asks_for_the_month, "DT101", "clock across a month's end", builds_a_day),
    (asks_for_the_day, "DT101", "clock across a year's end", builds_a_day),
    (measures, "DT101", "clock slowed down", waits_for_a_timer),
    (gives_up_long_after, "DT101", "clock ten years on", reads_the_time_of_the_orchestration),
    (asks_for_the_local_hour, "DT101", "time zone", builds_a_day),
    (draws, "DT102", "random seed", draws_from_a_seed),
    (draws_from_entropy, "DT102", "entropy", draws_from_a_seed),
    (makes_an_unseeded_source, "DT102", "entropy", draws_from_a_seed),
    (makes_an_id, "DT103", "entropy", makes_a_durable_id),
    (reads_a_variable, "DT106", "environment changed", names_a_variable),
    (reads_a_variable, "DT106", "environment removed", names_a_variable),
    (reads_a_variable_that_is_not_set, "DT106", "environment all set", names_a_variable),
    (reads_the_command_line, "DT106", "command line", names_a_variable),
    (reads_the_directory, "DT106", "current directory", joins_a_path),
    (formats_by_locale, "DT106", "locale", formats),
    (asks_for_the_host, "DT106", "machine", names_a_variable),
    (asks_for_the_platform, "DT106", "machine", names_a_variable),
    (goes_by_the_system, "DT106", "operating system", names_a_variable),
    (goes_by_the_name_of_the_system, "DT106", "operating system", names_a_variable),
    (asks_for_the_locale, "DT106", "locale", formats),
    (asks_for_the_process, "DT106", "machine", names_a_variable),
    (asks_for_the_thread, "DT106", "thread", names_a_variable),
    (goes_through_a_set, "DT108", "hash seed", goes_through_a_sorted_set),
    (hashes, "DT102", "hash seed", draws_from_a_seed),
    (counts_runs, "DT109", "replayed again", counts_in_its_own_list),
    (has_a_mutable_default, "DT109", "replayed again", counts_in_its_own_list),
    (counts_on_a_class, "DT109", "replayed again", counts_in_its_own_list),
    (asks_once_in_a_process, "DT109", "replayed again in a fresh process", counts_in_its_own_list),
    (reads_a_constant_of_the_import, "DT101", "imported at another time", builds_a_day),
    (goes_through_an_order_of_the_import, "DT108", "hash seed", goes_through_a_sorted_list_of_the_import),
    (asks_whether_it_replays, "DT113", "is_replaying as it first ran", logs_when_it_does_not_replay),
]


@pytest.mark.parametrize(
    ("hazardous", "hazard", "perturbation", "clean"),
    CASES,
    ids=[f"{case[2]}-{case[0].__name__}" for case in CASES],
)
def test_a_perturbation_finds_what_it_is_for_and_nothing_beside_it(hazardous, hazard, perturbation, clean):
    report = check(hazardous)
    assert [finding.hazard for finding in report.findings] == [hazard], str(report)
    assert perturbation in report.findings[0].perturbations, str(report)
    assert report.findings[0].location.function in (hazardous.__name__, "work")

    beside = check(clean)
    assert beside.ok, str(beside)
    assert not_tried(beside) == []


def test_a_turn_is_also_replayed_as_a_worker_first_meets_it():
    def asks_late(ctx, _):
        past = ctx.is_replaying
        yield work(ctx, 1)
        yield work(ctx, "changed" if past and not ctx.is_replaying else "same")

    [finding] = check(asks_late).findings
    assert finding.perturbations == ("is_replaying until turn 2",)


def test_a_retry_timeout_is_found_by_the_worker_that_looks_at_the_wall_clock():
    def limited(ctx, timeout):
        policy = RetryPolicy(
            first_retry_interval=timedelta(seconds=1),
            max_number_of_attempts=3,
            retry_timeout=timedelta(minutes=5) if timeout else None,
        )
        return (yield ctx.call_activity("flaky", retry_policy=policy))

    hub = TaskHub()
    hub.add_orchestrator(limited)
    hub.stub("flaky", side_effect=[ValueError("no"), "yes", ValueError("no"), "yes"])
    [finding] = check_determinism(hub.run(limited, input=True).history, limited).findings
    assert (finding.hazard, finding.perturbations) == ("DT117", ("clock ten years on",))
    assert "limited" in str(finding.location)
    assert check_determinism(hub.run(limited, input=False).history, limited).ok


def test_a_retry_timeout_is_found_although_an_input_is_another_one_in_each_replay():
    seen: list[int] = []

    def limited(ctx, takes_another_way):
        policy = RetryPolicy(
            first_retry_interval=timedelta(seconds=1),
            max_number_of_attempts=3,
            retry_timeout=timedelta(minutes=5),
        )
        yield ctx.call_activity("flaky", retry_policy=policy)
        seen.append(1)
        if takes_another_way and len(seen) % 2 == 0:
            yield ctx.create_timer(timedelta(days=1))
        yield work(ctx, len(seen))

    hub = new_hub()
    hub.add_orchestrator(limited)
    hub.stub("flaky", side_effect=[ValueError("no"), "yes"] * 2)
    report = check_determinism(hub.run(limited, input=False).history, limited)
    assert [each.hazard for each in report.findings] == ["DT109", "DT117"]
    seen.clear()
    report = check_determinism(hub.run(limited, input=True).history, limited)
    assert "DT117" not in [each.hazard for each in report.findings]
    assert "what the retry_timeout of activity 'flaky' does ten years on" in report.not_compared


# -- what a finding says


def test_a_finding_names_what_was_moved_what_it_changed_where_and_what_to_do():
    report = check(reads_the_clock)
    [finding] = report.findings
    [change] = finding.divergences
    assert (change.kind, change.event_id, change.field) == ("changed", 1, "input")
    assert change.expected != change.actual
    assert finding.call == "datetime.datetime.now"
    line = reads_the_clock.__code__.co_firstlineno + 1
    assert finding.location.line == line
    text = str(report)
    for part in (
        "reads_the_clock",
        "1 finding in 40 replays",
        "activity 'work' (#1): input",
        f"test_determinism.py:{line}",
        "datetime.datetime.now changes with: clock (8 ways), time zone",
        "ctx.current_utc_datetime",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "status, timer", "activity 'work' (#1) becomes a timer"),
        ("status, timer", "", "a timer until 2030-01-01 00:00:00 (#1) becomes activity 'work' (#1)"),
        ("", "status", "a custom status is asked for besides"),
        ("status", "", "a custom status is no longer asked for"),
    ],
)
def test_a_command_is_held_against_the_next_command_and_not_against_a_status(before, after, told):
    def goes_by_the_year(ctx, _):
        steps = after if time.time() > datetime(2035, 1, 1).timestamp() else before
        if "status" in steps:
            ctx.set_custom_status("waits")
        if "timer" in steps:
            yield ctx.create_timer(datetime(2030, 1, 1))
        yield work(ctx, 1)

    report = check(goes_by_the_year)
    assert [each.hazard for each in report.findings] == ["DT101"]
    assert f"{told}" in report.findings[0].message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{count}-kim-{random}", ["DT109", "DT102"]),
        ("{count} at {clock}", ["DT109", "DT101"]),
        ("{count}:{clock}", ["DT109"]),  # a clock carries, so numbers side by side are one
        ("{random}", ["DT102"]),
    ],
)
def test_of_a_text_each_word_is_compared(text, found):
    count = iter(range(10_000))

    def writes(ctx, _):
        value = text.format(count=next(count), random=random.random(), clock=int(time.time()))
        yield work(ctx, value)

    report = check(writes)
    assert [each.hazard for each in report.findings] == found
    assert report.not_compared == ()


def test_what_comes_after_another_way_is_said_to_be_not_compared():
    turns: list[int] = []

    def remembers(ctx, _):
        turns.append(1)
        yield work(ctx, 1)
        if len(turns) % 2:
            yield work(ctx, 2)
            yield work(ctx, time.time())
        else:
            yield ctx.create_timer(timedelta(1))
            yield work(ctx, time.time())

    report = check(remembers)
    assert [each.hazard for each in report.findings] == ["DT109"]
    [said] = report.not_compared
    assert said.startswith("what comes after ")
    assert "(#2)" in said
    assert f"not compared: {said}. Mend what was found first, and check again." in str(report)


def test_one_hazard_that_flows_into_later_inputs_is_one_finding():
    def flows(ctx, _):
        started = time.time()
        for step in range(3):
            yield work(ctx, [started, step])
        return started

    report = check(flows)
    [finding] = report.findings
    assert "and 3 later" in finding.message
    assert len({each.event_id for each in finding.divergences}) == 4


def test_threads_beside_it_keep_their_time():
    stop, seen = threading.Event(), []

    def look():
        while not stop.is_set():
            seen.append((time.monotonic(), time.time(), datetime.now().timestamp()))

    class Starts(JsonDataConverter):
        """Threads before the replays, and once they are going on."""

        def __init__(self) -> None:
            self.threads = [threading.Thread(target=look) for _ in range(2)]
            self.threads[0].start()

        def serialize(self, value: Any) -> str | None:
            if self.threads[1].ident is None and time.time() < datetime(2026, 1, 2).timestamp():
                self.threads[1].start()
            return super().serialize(value)

    began = time.monotonic(), time.time(), time.time()
    history, starts = record(reads_the_clock), Starts()
    try:
        report = check_determinism(history, reads_the_clock, data_converter=starts)
    finally:
        stop.set()
        for thread in starts.threads:
            thread.join()
    assert [finding.hazard for finding in report.findings] == ["DT101"], str(report)
    for each in seen:
        assert all(-1 < now - was < 3600 for now, was in zip(each, began, strict=True))


def test_two_hazards_of_a_kind_are_two_findings_each_at_its_line():
    def two(ctx, _):
        yield work(ctx, time.time())
        yield work(ctx, "nothing")
        yield work(ctx, time.time())

    findings = check(two).findings
    first = two.__code__.co_firstlineno
    assert [(each.hazard, each.location.line - first) for each in findings] == [("DT101", 1), ("DT101", 3)]


def test_two_hazards_of_two_kinds_are_two_findings():
    def two(ctx, _):
        yield work(ctx, time.time())
        yield work(ctx, random.random())

    assert [each.hazard for each in check(two).findings] == ["DT101", "DT102"]


LETTERS = ("north", "south", "east", "west")


def makes_an_id_and_then_goes_through_a_set(ctx, _):
    yield work(ctx, str(uuid.uuid4()))
    for each in set(LETTERS):
        yield work(ctx, each)


def makes_an_id_beside_a_draw(ctx, _):
    yield work(ctx, [str(uuid.uuid4()), random.random()])


def makes_an_id_beside_the_time(ctx, _):
    yield work(ctx, {"time": time.time(), "id": str(uuid.uuid4())})


def makes_an_id_beside_a_set(ctx, _):
    yield work(ctx, [str(uuid.uuid4()), list(set(LETTERS))])


def reads_a_variable_beside_a_set(ctx, _):
    yield work(ctx, [os.getenv("PATH"), list(set(LETTERS))])


def makes_an_id_beside_a_memory(ctx, _):
    ALL_RUNS.append(1)
    yield work(ctx, [len(ALL_RUNS), str(uuid.uuid4())])


ALL_RUNS: list[int] = []


@pytest.mark.parametrize(
    ("orchestrator", "expected"),
    [
        (makes_an_id_and_then_goes_through_a_set, {"DT103": "entropy", "DT108": "hash seed"}),
        (makes_an_id_beside_a_draw, {"DT103": "entropy", "DT102": "random seed"}),
        (makes_an_id_beside_the_time, {"DT103": "entropy", "DT101": "clock forward"}),
        (makes_an_id_beside_a_set, {"DT103": "entropy", "DT108": "hash seed"}),
        (reads_a_variable_beside_a_set, {"DT106": "environment changed", "DT108": "hash seed"}),
        (makes_an_id_beside_a_memory, {"DT109": "replayed again", "DT103": "entropy"}),
    ],
)
def test_hazards_of_different_families_are_different_findings_also_in_one_input(orchestrator, expected):
    report = check(orchestrator)
    found = {finding.hazard: finding.perturbations for finding in report.findings}
    assert found.keys() == expected.keys(), str(report)
    assert len(report.findings) == len(expected)
    for hazard, perturbation in expected.items():
        assert perturbation in found[hazard], str(report)
        others = set(expected.values()) - {perturbation}
        assert not others.intersection(found[hazard]), str(report)


def test_a_hazard_behind_a_helper_is_told_by_the_line_of_the_call():
    [finding] = check(asks_through_a_helper).findings
    assert finding.location.function == "helper"


def helper():
    return time.time()


def asks_through_a_helper(ctx, _):
    yield work(ctx, helper())


def test_another_way_is_one_finding_however_much_comes_after_it():
    def forks(ctx, _):
        if time.time() % 2 < 1:
            yield work(ctx, "even")
        for step in range(5):
            yield work(ctx, step)

    with freezegun.freeze_time("2026-01-01"):
        history = record(forks)
    [finding] = check_determinism(history, forks).findings
    assert finding.hazard == "DT101"


@pytest.mark.parametrize(
    "hazard", [reads_the_clock, draws, makes_an_id, goes_through_a_set, asks_for_the_host]
)
def test_what_is_set_as_the_custom_status_is_looked_at_too(hazard):
    def shows(ctx, _):
        generator = hazard(_Shown(ctx), None)
        next(generator)
        yield work(ctx, 1)

    [finding] = check(shows).findings
    assert "custom status" in finding.message


class _Shown:
    """Sets the custom status where an activity would be called."""

    def __init__(self, ctx):
        self.ctx = ctx
        self.shown = []

    def call_activity(self, name, *, input):
        self.shown.append(input)
        self.ctx.set_custom_status(self.shown)
        return self.ctx.wait_for_external_event("never")


def test_an_output_a_failure_and_a_new_input_are_looked_at_too():
    def returns(ctx, _):
        return random.random()
        yield

    def fails(ctx, _):
        raise ValueError(str(random.random()))
        yield

    def continues(ctx, round):
        yield work(ctx, 1)
        if round is None:
            ctx.continue_as_new(random.random())

    assert [each.divergences[0].field for each in check(returns).findings] == ["output"]
    assert [each.divergences[0].field for each in check(fails).findings] == ["failure"]
    hub = new_hub()
    hub.add_orchestrator(continues)
    first, last = hub.run(continues).histories
    assert [each.divergences[0].field for each in check_determinism(first, hub).findings] == ["output"]
    assert check_determinism(last, hub).ok


# -- what is no hazard


def test_a_change_of_the_code_is_one_finding_and_no_hazard():
    def before(ctx, _):
        yield work(ctx, 1)
        yield work(ctx, 2)

    def after(ctx, _):
        yield work(ctx, 3)
        yield work(ctx, 4)

    report = check_determinism(record(before), after)
    [finding] = report.findings
    assert (finding.hazard, finding.perturbations) == (None, ())
    assert len(finding.divergences) == 2
    assert "whatever is moved" in str(report)


def test_a_change_of_the_code_beside_a_hazard_is_told_apart_from_it():
    def before(ctx, _):
        yield work(ctx, 1)
        yield work(ctx, time.time())

    def after(ctx, _):
        yield work(ctx, 2)
        yield work(ctx, time.time())

    findings = check_determinism(record(before), after).findings
    assert [each.hazard for each in findings] == ["DT101", None]
    assert [each.event_id for each in findings[1].divergences] == [1]


def test_what_is_allowed_is_listed_with_its_reason_and_is_no_finding():
    def allowed(ctx, _):
        with allow_nondeterminism("a label, and nobody reads it"):
            label = time.time()
        yield work(ctx, label)

    report = check(allowed)
    assert report.ok
    [entry] = report.allowed
    assert (entry.reason, entry.call, entry.hazard) == ("a label, and nobody reads it", "time.time", "DT101")
    assert "a label, and nobody reads it" in str(report)


def test_an_allowed_call_does_not_hide_one_that_is_not():
    def both(ctx, _):
        yield work(ctx, time.time())
        with allow_nondeterminism("a label"):
            label = time.time()
        yield work(ctx, label)

    report = check(both)
    assert [each.location.line - both.__code__.co_firstlineno for each in report.findings] == [1]
    assert [each.reason for each in report.allowed] == ["a label"]


def fan_out(ctx, names):
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=3)
    results = yield when_all([ctx.call_activity("flaky", input=n, retry_policy=policy) for n in names])
    yield ctx.create_timer(timedelta(days=10))
    entity = EntityInstanceId("counter", "a")
    with (yield ctx.lock_entities([entity])):
        total = yield ctx.call_entity(entity, "add", 5)
    child = yield ctx.call_sub_orchestrator(makes_a_durable_id)
    ctx.set_custom_status({"done": total})
    answer = yield ctx.wait_for_external_event("go")
    return [results, child, answer]


def counter(ctx, amount):
    ctx.set_state((ctx.get_state(int) or 0) + amount)
    return ctx.get_state(int)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "in flight"])
def test_every_kind_of_step_is_deterministic_if_the_code_is(ended, tmp_path):
    hub = new_hub(maximum_timer_interval=timedelta(days=3))
    for each in (fan_out, makes_a_durable_id):
        hub.add_orchestrator(each)
    hub.add_entity(counter)
    hub.stub("flaky", side_effect=[OSError("reset"), 1, 2, 3])
    instance = hub.start(fan_out, input=["a", "b", "c"])
    hub.advance(timedelta(days=11))
    if ended:
        instance.raise_event("go", data=1)
        hub.settle()
        assert instance.output[2] == 1
    instance.history.save(tmp_path / "all.history.json")
    for history, code in ((instance.history, hub), (History.load(tmp_path / "all.history.json"), [fan_out])):
        options = {} if code is hub else {"maximum_timer_interval": timedelta(days=3)}
        report = check_determinism(history, code, **options)
        assert report.ok, str(report)


def test_it_takes_what_replay_takes():
    history = record(reads_the_clock)
    hub = new_hub()
    hub.add_orchestrator(reads_the_clock)
    for orchestrators in (
        reads_the_clock,
        [draws, reads_the_clock],
        {"reads_the_clock": reads_the_clock},
        hub,
    ):
        assert [each.hazard for each in check_determinism(history, orchestrators).findings] == ["DT101"]
    [finding] = check_determinism(history, [draws]).findings
    assert finding.divergences[0].field == "orchestrator"
    assert "(known: draws)" in finding.message


def test_bad_input_is_told_in_a_sentence():
    with pytest.raises(TypeError, match=r"check_determinism\(\) takes a History first"):
        check_determinism("history.json", draws)  # type: ignore[arg-type]
    history = record(draws_from_a_seed)
    for bad, told in (
        (3, "not 'int'"),
        ("draws_from_a_seed", "not 'str'; pass the function itself"),
        ({"draws_from_a_seed": 5}, "and 5 in it is no orchestrator"),
        ([draws, "draws_from_a_seed"], "and 'draws_from_a_seed' in it is no orchestrator"),
    ):
        with pytest.raises(TypeError, match=r"check_determinism\(\) takes an orchestrator") as raised:
            check_determinism(history, bad)
        assert told in str(raised.value)
    with pytest.raises(HistoryFormatError, match="no ExecutionStarted"):
        check_determinism(History("x", []), draws)


def test_a_version_that_the_worker_rejects_is_raised_as_replay_raises_it():
    options = VersioningOptions(
        version="1.0",
        match_strategy=VersionMatchStrategy.STRICT,
        failure_strategy=VersionFailureStrategy.REJECT,
    )
    history = record(makes_a_durable_id)
    with pytest.raises(VersionRejected):
        check_determinism(history, makes_a_durable_id, versioning=options)


# -- names


def calls_nobody(ctx, kind):
    try:
        if kind == "activity":
            yield ctx.call_activity("nobody_does_this", input=1)
        elif kind == "child":
            yield ctx.call_sub_orchestrator("nobody_does_this", input=1)
        elif kind == "retried":
            policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)
            yield ctx.call_activity("nobody_does_this", retry_policy=policy)
        elif kind == "entity":
            yield ctx.call_entity(EntityInstanceId("nobody_does_this", "a"), "add", 5)
        else:
            yield ctx.call_activity("fails", input=1)
    except Exception as error:
        ctx.set_custom_status(str(error)[:20])
    yield work(ctx, 1)


@pytest.mark.parametrize("kind", ["activity", "child", "retried", "entity"])
def test_a_name_that_nobody_registers_is_found_at_the_line_that_calls_it(kind):
    report = check(calls_nobody, kind)
    [finding] = report.findings
    assert (finding.hazard, finding.perturbations) == ("DT120", ())
    assert "nobody registers 'nobody_does_this'" in str(report)
    line = finding.location.line - calls_nobody.__code__.co_firstlineno
    assert line == {"activity": 3, "child": 5, "retried": 8, "entity": 10}[kind]


def test_a_call_that_fails_otherwise_is_none():
    hub = new_hub()
    hub.stub("fails", side_effect=ValueError("no"))
    history = record(calls_nobody, "failing", hub=hub)
    assert check_determinism(history, calls_nobody).ok


# -- what is made at import


def test_a_value_made_at_import_is_told_with_what_to_do_about_it():
    [finding] = check(reads_a_constant_of_the_import).findings
    assert "importing the module gives another value in each process" in finding.message
    assert "pass it in the input" in finding.message
    assert "local variables" not in finding.message


def test_the_address_in_a_text_is_an_identity():
    def shows_an_object(ctx, _):
        yield work(ctx, str(object()))

    def shows_one_of_the_module(ctx, _):
        yield work(ctx, f"{PLAIN}")

    for orchestrator in (shows_an_object, shows_one_of_the_module):
        [finding] = check(orchestrator).findings
        assert finding.hazard == "DT103"
        assert "__repr__" in finding.message


PLAIN = object()


# -- times stay times


MADE_AT_IMPORT = datetime(2026, 3, 1)
A_DAY = date(2026, 3, 1)


class Moment(datetime):
    """One of ones own."""


def test_no_type_of_a_fake_clock_is_seen():
    def shows(ctx, _):
        now = ctx.current_utc_datetime
        kinds = [type(now) is datetime, isinstance(now, date), type(now.date()) is date, type(MADE_AT_IMPORT)]
        kinds += [now.__reduce__()[0] is datetime, type(now + timedelta(1)) is datetime]
        yield work(ctx, f"{kinds} {now!r} {MADE_AT_IMPORT!r} {A_DAY!r} {type(A_DAY)} {Moment(2026, 1, 1)!r}")
        yield work(ctx, pickle.dumps([now, MADE_AT_IMPORT, A_DAY]).hex())

    report = check(shows)
    assert report.ok, str(report)
    assert "datetime.datetime(2026, 3, 1, 0, 0)" in str(record(shows).events)


def test_the_types_of_times_that_were_read_are_what_they_are():
    def shows(ctx, _):
        kinds = [type(datetime.now()) is datetime, type(date.today()) is date, type(Moment.now()) is Moment]
        kinds += [type(datetime.utcnow()) is datetime, type(Moment.today()) is Moment]
        yield work(ctx, kinds)

    report = check(shows)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    "read",
    [
        lambda: datetime.now(timezone.utc).isoformat(),
        lambda: datetime.utcnow().isoformat(),
        lambda: date.today().isoformat(),
        lambda: datetime.today().isoformat(),
        lambda: Moment.now().isoformat(),
        lambda: time.time_ns(),
        lambda: time.monotonic_ns(),
        lambda: time.process_time(),
        lambda: time.ctime(),
        lambda: time.asctime(),
        lambda: time.strftime("%c"),
        lambda: time.localtime().tm_yday,
        lambda: str(uuid.uuid1()),
        lambda: formatdate(),
        lambda: gzip.compress(b"x", mtime=None).hex(),
    ],
)
def test_every_clock_is_moved(read):
    def reads(ctx, _):
        yield work(ctx, read())

    [finding] = check(reads).findings
    assert any(name.startswith("clock") for name in finding.perturbations), str(finding)


def test_a_history_that_was_recorded_with_a_frozen_clock_has_ordinary_times():
    def shows(ctx, _):
        yield work(ctx, f"{ctx.current_utc_datetime!r} {type(ctx.current_utc_datetime) is datetime}")

    with freezegun.freeze_time("2026-01-01"):
        history = record(shows)
        frozen = check_determinism(history, shows)
    # What was recorded are freezegun's types, which the code sees no more; but nothing that is moved shows.
    for report in (frozen, check_determinism(history, shows)):
        assert [finding.hazard for finding in report.findings] == [None], str(report)


# -- chance


DRAWS = {
    "half": lambda source: source.random() < 0.5,
    "randrange": lambda source: source.randrange(2),
    "choice": lambda source: source.choice("ab"),
    "choices": lambda source: source.choices("ab")[0],
    "sample": lambda source: source.sample("ab", 2),
    "bit": lambda source: source.getrandbits(1),
    "shuffle": lambda source: (pair := ["a", "b"], source.shuffle(pair))[0],
}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(DRAWS)),
    st.integers(0, 7),
    st.sampled_from([lambda: random, random.Random, random.SystemRandom]),
)
def test_a_draw_from_two_is_another_one_under_some_seed(draw, position, source):
    def draws_from_two(ctx, _):
        own = source()
        drawn = [DRAWS[draw](own) for _ in range(position + 1)]
        yield work(ctx, drawn[-1])

    findings = check(draws_from_two).findings
    assert [finding.hazard for finding in findings] == ["DT102"]


# -- what is done once


@pytest.mark.parametrize("how", ["a file", "a thread", "a wait", "swallowed"])
def test_input_output_is_done_in_the_first_replay_alone_and_is_a_finding(how, tmp_path):
    done = []

    def does_it(ctx, path):
        yield work(ctx, time.time())
        if how == "a wait":
            threading.Event().wait(0.01)
        elif how == "a thread":
            threading.Thread(target=done.append, args=(1,)).start()
        else:
            try:
                with open(path, "a") as file:
                    file.write("done\n")
            except Exception:
                yield work(ctx, "swallowed")
        yield work(ctx, random.random())

    path = tmp_path / "log.txt"
    history = record(does_it, str(path))
    path.unlink(missing_ok=True)
    done.clear()
    report = check_determinism(history, does_it)

    if how == "a thread":
        assert done == [1]
    elif how != "a wait":
        assert path.read_text() == "done\n"
    first = report.findings[0]
    assert first.hazard == {"a wait": "DT104", "a thread": "DT110"}.get(how, "DT105")
    assert (first.perturbations, first.location.function) == ((), "does_it")
    assert "all but the first were ended there" in first.message
    # What comes before it is compared as ever, what comes after it is not.
    assert [finding.hazard for finding in report.findings[1:]] == ["DT101"], str(report)


def test_what_is_allowed_is_not_stopped(tmp_path):
    def reads(ctx, path):
        with allow_nondeterminism("it is part of the installation"):
            text = Path(path).read_text()
        yield work(ctx, [text, random.random()])

    path = tmp_path / "version.txt"
    path.write_text("1")
    report = check_determinism(record(reads, str(path)), reads)
    assert [finding.hazard for finding in report.findings] == ["DT102"], str(report)


def test_sleep_and_locks_are_passed_over_and_the_rest_is_compared():
    def waits(ctx, _):
        with threading.Lock():
            time.sleep(0)
        yield work(ctx, random.random())

    assert [finding.hazard for finding in check(waits).findings] == ["DT102"]


# -- what does not end


@pytest.mark.parametrize(
    "how", ["a loop", "a clock that does not come", "an exit", "a recursion", "sys.exit"]
)
def test_a_replay_that_does_not_end_by_itself_is_ended_and_found(how, monkeypatch):
    if how == "a loop":  # the others end by themselves, on a slow machine after a while
        monkeypatch.setattr(watchdog, "SECONDS", 0.5)

    def recurses():
        recurses()

    def ends_badly(ctx, _):
        if platform.platform() == "Another-0.0.0":
            while how == "a loop":
                pass
            while how == "a clock that does not come":
                time.time()
            if how == "an exit":
                os._exit(3)
            if how == "a recursion":
                recurses()
            sys.exit(4)
        yield work(ctx, 1)

    report = check(ends_badly)
    [finding] = report.findings
    assert (finding.hazard, finding.perturbations) == ("DT106", ("machine",)), str(report)
    told = {
        "a loop": "it does not end within 0.5 s",
        "a clock that does not come": "waits for a time that does not come",
        "an exit": "os._exit()",
        "a recursion": "RecursionError",
        "sys.exit": "SystemExit: 4",
    }
    assert told[how] in str(report)


def test_a_loop_until_a_day_far_away_ends():
    def polls(ctx, _):
        while platform.platform() == "Another-0.0.0" and datetime.now() < datetime(2030, 1, 1):
            pass
        yield work(ctx, 1)

    assert check(polls).ok


def test_code_that_does_not_end_with_nothing_moved_is_one_finding(monkeypatch):
    monkeypatch.setattr(watchdog, "SECONDS", 0.5)

    def loops(ctx, _):
        while True:
            pass
        yield work(ctx, 1)

    [finding] = check_determinism(record_as(loops), loops).findings
    assert (finding.hazard, finding.perturbations) == (None, ())
    assert "it does not end within 0.5 s" in finding.message


def test_a_machine_with_one_locale_alone_says_what_was_done_instead(monkeypatch):
    monkeypatch.setattr(surroundings_module, "_LOCALES", ("nobody_NOWHERE.UTF-8",))
    report = check(formats_by_locale)
    assert [finding.hazard for finding in report.findings] == ["DT106"]
    [skipped] = report.skipped
    assert str(skipped).startswith("locale: no other locale is installed here; in its place")
    assert "not tried" not in str(report)  # the same in each report of such a machine


# -- all of it is put back


@pytest.fixture
def surroundings():
    """What a check might leave moved."""

    def look():
        return (
            {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            os.getcwd(),
            random.getstate(),
            locale.setlocale(locale.LC_ALL),
            sys.argv,
            time.tzname,
            [vars(os)[name] for name in ("urandom", "getpid", "uname", "cpu_count") if hasattr(os, name)],
            [vars(time)[name] for name in ("time", "sleep", "monotonic", "process_time")],
            (datetime, date, random.seed, random.Random.seed, uuid.getnode, socket.gethostname),
            (sys.platform, sys.executable, threading.active_count()),
        )

    before = look()
    yield
    after = look()
    for was, now in zip(before, after, strict=True):
        assert was == now


def meddles(ctx, _):
    os.environ["DT_LEFT_BEHIND"] = "1"
    os.environ.pop("PATH", None)
    os.chdir(os.sep)
    random.seed(1)
    sys.argv = []
    locale.setlocale(locale.LC_ALL, "C")
    yield work(ctx, 1)


def test_everything_is_put_back(surroundings):
    assert not check(reads_the_clock).ok


def test_what_the_orchestrator_moves_itself_is_put_back(surroundings):
    meddled = History("m", record_elsewhere(meddles).events)
    check_determinism(meddled, meddles)
    assert "DT_LEFT_BEHIND" not in os.environ
    assert os.environ["PATH"]


def record_elsewhere(orchestrator):
    """Record without letting the orchestrator move what is around it: with code that asks for the same."""

    def harmless(ctx, _):
        yield work(ctx, 1)

    hub = new_hub()
    hub.orchestrators[orchestrator.__name__] = harmless
    return hub.run(orchestrator.__name__).history


def test_everything_is_put_back_when_the_orchestrator_interrupts(surroundings):
    def interrupts(ctx, _):
        if os.getpid() == 4_000_001:
            raise KeyboardInterrupt
        yield work(ctx, 1)

    history = record(interrupts)
    with pytest.raises(KeyboardInterrupt):
        check_determinism(history, interrupts)
    assert check(reads_the_time_of_the_orchestration).ok, "and the next check works"


def test_it_works_inside_of_ones_own_frozen_time():
    with freezegun.freeze_time("2020-02-02") as frozen:
        report = check(reads_the_clock)
        assert datetime.now() == datetime(2020, 2, 2)
        frozen.tick(timedelta(days=1))
        assert datetime.now() == datetime(2020, 2, 3)
    assert [each.hazard for each in report.findings] == ["DT101"]
    assert datetime.now().year > 2020


def test_no_activity_runs_and_nothing_is_printed_or_slept(capsys):
    def sleepy(ctx, _):
        print("hello")
        time.sleep(3600)
        yield ctx.call_activity("work", input=1)

    def awake(ctx, _):
        yield ctx.call_activity("work", input=1)

    hub = new_hub()
    stub = hub.stub("work", return_value=1)
    hub.orchestrators["sleepy"] = awake
    history = hub.run("sleepy").history
    calls = len(stub.calls)
    began = time.monotonic()
    report = check_determinism(history, sleepy)
    assert report.ok, str(report)
    assert time.monotonic() - began < 600
    assert len(stub.calls) == calls
    assert capsys.readouterr().out == ""


def test_who_looks_at_the_clock_when_garbage_is_collected_moves_it_for_nobody():
    def makes_garbage(ctx, _):
        kept = [[each] for each in range(5000)]
        yield work(ctx, [len(kept), time.time()])

    before = gc.get_threshold()
    look = lambda phase, details: time.perf_counter()  # noqa: E731
    gc.callbacks.append(look)
    gc.set_threshold(70)
    try:
        report = check(makes_garbage)
    finally:
        gc.callbacks.remove(look)
        gc.set_threshold(*before)
    assert [finding.hazard for finding in report.findings] == ["DT101"], str(report)
    assert gc.isenabled()


def test_a_loop_that_waits_for_the_clock_ends():
    def polls(ctx, _):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            pass
        yield work(ctx, 1)

    assert check_determinism(record_as(polls), polls).ok


def record_as(orchestrator):
    def quick(ctx, _):
        yield work(ctx, 1)

    hub = new_hub()
    hub.orchestrators[orchestrator.__name__] = quick
    return hub.run(orchestrator.__name__).history


# -- a law


steps = st.recursive(
    st.sampled_from(["work", "timer", "uuid", "status", "clock"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=8,
)


def program(ctx, step):
    """Whatever is in there, in lists: what is beside each other runs beside each other."""
    if isinstance(step, list):
        for each in step:
            yield from program(ctx, each)
        yield when_all([work(ctx, str(each)) for each in step])
    elif step == "work":
        yield work(ctx, step)
    elif step == "timer":
        yield ctx.create_timer(timedelta(hours=30))
    elif step == "uuid":
        yield work(ctx, ctx.new_uuid())
    elif step == "status":
        ctx.set_custom_status({"at": ctx.current_utc_datetime.isoformat()})
    else:
        yield work(ctx, ctx.current_utc_datetime.isoformat())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
def test_a_program_without_hazards_has_no_findings(step):
    hub = new_hub()
    hub.add_orchestrator(program)
    report = check_determinism(hub.run(program, input=[step]).history, program)
    assert report.ok, str(report)
    assert not_tried(report) == []


def test_what_the_releases_have_recorded_is_deterministic():
    hub = TaskHub()
    register_application("workflows:register", hub)
    histories = [History.load(path) for path in sorted(HISTORIES.rglob("*.history.json*"))]
    assert len(histories) > 20
    for history in histories:
        report = check_determinism(history, hub)
        assert report.ok, str(report)
        assert not_tried(report) == []


@pytest.mark.parametrize(
    "of", [lambda ctx: ctx, lambda ctx: type(ctx).__name__, lambda ctx: str(type(ctx)), lambda ctx: [ctx]]
)
def test_the_context_in_an_input_is_what_it_was(of):
    def passes(ctx, _):
        yield ctx.call_activity("work", input=of(ctx))

    report = check(passes)
    assert report.ok, str(report)


@pytest.mark.parametrize("of", [repr, lambda ctx: repr(ctx.call_activity)])
def test_the_address_of_the_context_is_an_identity(of):
    def passes(ctx, _):
        yield ctx.call_activity("work", input=of(ctx))

    [finding] = check(passes).findings
    assert finding.hazard == "DT103"
    assert "FakeOrchestrationContext" in finding.message
    assert "determinism" not in finding.divergences[0].actual


def test_a_number_that_is_an_address_is_an_identity_and_a_counter_is_state():
    seen = []

    def named(ctx, _):
        yield work(ctx, json.dumps({"key": object()}, default=builtins.id))

    def counted(ctx, _):
        seen.append(1)
        yield work(ctx, [2**40 + len(seen), 2**40 + 16 * (len(seen) % 2)])

    assert [finding.hazard for finding in check(named).findings] == ["DT103"]
    assert [finding.hazard for finding in check(counted).findings] == ["DT109"]
