"""The workflows pass all three nets; a copy of each with a hazard in it is caught by two of them at least."""

from __future__ import annotations

import importlib
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from durabletask.client import OrchestrationStatus

import workflows
from dt_testkit import History, NonDeterministicCall, TaskHub
from dt_testkit.determinism import check_determinism
from dt_testkit.lint import lint_paths
from workflows import services as process
from workflows.gateway import Gateway
from workflows.local_gateway import LocalGateway
from workflows.model import OfflineModel
from workflows.scenarios import SCENARIOS, Scenario
from workflows.settlement import Settlement, SettlementRequest
from workflows.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from dt_testkit import Instance

KEPT = sorted((Path(__file__).parents[1] / "histories" / "0.1.0").iterdir())
SUMMER = datetime(2026, 7, 1)
"""After the day that is settled, and before the appointments."""


@dataclass(frozen=True)
class Mutant:
    """A copy of a workflow with a hazard in it.

    Attributes
    ----------
    scenario : str
        The way through the workflow on which it does harm.
    nets : str
        The nets that catch it: ``"lint"``, ``"guard"`` and ``"replay"``.
    edits : tuple[tuple[str, str], ...]
        What is replaced by what. Each text is there once.
    """

    module: str
    kind: str
    scenario: str
    nets: str
    edits: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.module}-{self.kind}"


def importing(*modules: str) -> tuple[str, str]:
    """An edit: one more import."""
    first = "# No postponed annotations here:"
    return first, "".join(f"import {module}\n" for module in modules) + first


ALL = "lint guard replay"

MUTANTS = (
    Mutant(
        "order",
        "uuid",
        "order-completed",
        ALL,
        (importing("uuid"), ("key = ctx.new_uuid()", "key = str(uuid.uuid4())")),
    ),
    Mutant(
        "order",
        "retry-timeout",
        "order-charge-retried",
        "lint replay",
        (
            (
                "first_retry_interval=timedelta(milliseconds=500), max_number_of_attempts=3,",
                "first_retry_interval=timedelta(milliseconds=500), max_number_of_attempts=3,\n"
                "    retry_timeout=timedelta(minutes=5),",
            ),
        ),
    ),
    Mutant(
        "order",
        "is-replaying",
        "order-completed",
        "lint replay",
        (
            (
                '        ctx.set_custom_status("confirming")\n',
                "        if ctx.is_replaying:\n"
                '            return OrderResult("completed", tracking_number=tracking_number)\n'
                '        ctx.set_custom_status("confirming")\n',
            ),
        ),
    ),
    Mutant(
        "batch_import",
        "random",
        "import-clean",
        ALL,
        (
            importing("random"),
            (
                "    batches = split(request, key)\n",
                "    batches = split(request, key)\n    random.shuffle(batches)\n",
            ),
        ),
    ),
    Mutant(
        "batch_import",
        "set-order",
        "import-clean",
        "lint replay",
        (('f"{key}/publish"', '"/".join({key, "publish", "summary", request.source})'),),
    ),
    Mutant(
        "batch_import",
        "environment",
        "import-clean",
        ALL,
        (
            importing("os"),
            ("ImportSummary(request.source, imported,", 'ImportSummary(os.environ["REGION"], imported,'),
        ),
    ),
    Mutant(
        "purchase_approval",
        "clock",
        "purchase-approved",
        ALL,
        (importing("time"), ('f"{key}/ask"', 'f"{key}/ask/{time.time()}"')),
    ),
    Mutant(
        "purchase_approval",
        "global-state",
        "purchase-approved",
        "lint replay",
        (
            ("DAY = 24 * 60 * 60.0\n", "DAY = 24 * 60 * 60.0\nASKED: list[str] = []\n"),
            (
                '    question = request(purchase, f"{key}/ask", ',
                "    ASKED.append(purchase.item)\n"
                '    question = request(purchase, f"{key}/ask/{len(ASKED)}", ',
            ),
        ),
    ),
    Mutant(
        "purchase_approval",
        "file",
        "purchase-approved",
        ALL,
        (
            importing("os.path"),
            (
                "if purchase.amount <= purchase.auto_approve_limit:",
                'if purchase.amount <= purchase.auto_approve_limit or not os.path.exists("approvers.txt"):',
            ),
        ),
    ),
    Mutant(
        "job_monitor",
        "clock",
        "monitor-succeeded",
        ALL,
        (("ctx.current_utc_datetime + timedelta", "datetime.now() + timedelta"),),
    ),
    Mutant(
        "job_monitor",
        "sleep",
        "monitor-succeeded",
        "lint guard",
        (
            importing("time"),
            (
                "        pause = ctx.create_timer",
                "        time.sleep(0.001)\n        pause = ctx.create_timer",
            ),
        ),
    ),
    Mutant(
        "order_digest",
        "random",
        "digest-closed",
        ALL,
        (
            importing("random"),
            ('f"{key}/digest/{published}"', 'f"{random.randrange(10**9)}/digest/{published}"'),
        ),
    ),
    Mutant(
        "order_digest",
        "host-name",
        "digest-closed",
        ALL,
        (
            importing("socket"),
            ('"entries": len(entries)}', '"entries": len(entries), "host": socket.gethostname()}'),
        ),
    ),
    Mutant(
        "sales_report",
        "set-order",
        "report-partial",
        "lint replay",
        (("        for name in request.regions\n", "        for name in set(request.regions)\n"),),
    ),
    Mutant(
        "sales_report",
        "thread",
        "report-partial",
        ALL,
        (
            importing("threading"),
            (
                '    ctx.set_custom_status({"regions": len(request.regions)})\n',
                "    threading.Thread(target=len, args=(key,)).start()\n"
                '    ctx.set_custom_status({"regions": len(request.regions)})\n',
            ),
        ),
    ),
    Mutant(
        "appointment",
        "uuid-of-the-host",
        "appointment-cancelled",
        ALL,
        (importing("uuid"), ("key = ctx.new_uuid()", "key = str(uuid.uuid1())")),
    ),
    Mutant(
        "appointment",
        "entropy",
        "appointment-cancelled",
        ALL,
        (
            importing("os"),
            (
                'note = Note(f"{calendar.key}/{step}"',
                'note = Note(f"{calendar.key}/{step}/{os.urandom(2).hex()}"',
            ),
        ),
    ),
    Mutant(
        "account",
        "random",
        "transfer-completed",
        ALL,
        (
            importing("random"),
            (
                'ctx.signal_entity(TRANSFERS, "add", 1)',
                'ctx.signal_entity(TRANSFERS, "add", random.getrandbits(40))',
            ),
        ),
    ),
    Mutant(
        "account",
        "hash",
        "transfer-completed",
        ALL,
        (
            (
                'ctx.signal_entity(TRANSFERS, "add", 1)',
                'ctx.signal_entity(TRANSFERS, "add", hash(order.source))',
            ),
        ),
    ),
    Mutant(
        "subscription",
        "clock",
        "subscription-lapsed",
        ALL,
        (("due = wanted.due or ctx.current_utc_datetime", "due = wanted.due or datetime.now()"),),
    ),
    Mutant(
        "subscription",
        "import-time",
        "subscription-lapsed",
        "lint replay",
        (
            importing("time"),
            ("DAY = 24 * 60 * 60.0\n", "DAY = 24 * 60 * 60.0\nSTARTED = time.time()\n"),
            ('letter = Letter(f"{key}/end"', 'letter = Letter(f"{key}/end/{STARTED}"'),
        ),
    ),
    Mutant(
        "quotes",
        "set-order",
        "tender-awarded",
        "lint replay",
        (
            (
                "    for name in names:\n        ctx.send_event",
                "    for name in {*names, key, ctx.instance_id}:\n"
                "        if name not in ids:\n"
                "            ctx.set_custom_status(name)\n"
                "            continue\n"
                "        ctx.send_event",
            ),
        ),
    ),
    Mutant(
        "quotes",
        "address",
        "tender-awarded",
        ALL,
        (
            (
                'ids = {name: f"{key}:{name}" for name in names}',
                'ids = {name: f"{id(names)}:{name}" for name in names}',
            ),
        ),
    ),
    Mutant(
        "settlement",
        "clock",
        "settlement-of-yesterday",
        ALL,
        (("today = ctx.current_utc_datetime.date()", "today = date.today()"),),
    ),
    Mutant(
        "settlement",
        "file",
        "settlement",
        ALL,
        (
            (
                "    settlement = Settlement(day.isoformat(), total)\n",
                "    settlement = Settlement(day.isoformat(), total)\n"
                '    with open("settled.txt", "w") as file:\n'
                "        file.write(settlement.day)\n",
            ),
        ),
    ),
    # What no source shows.
    Mutant(
        "account",
        "by-name",
        "transfer-completed",
        "guard replay",
        (
            importing("random"),
            (
                'ctx.signal_entity(TRANSFERS, "add", 1)',
                'ctx.signal_entity(TRANSFERS, "add", vars(random)["rand" + "range"](10**9))',
            ),
        ),
    ),
    Mutant(
        "settlement",
        "class-of-a-value",
        "settlement-of-yesterday",
        "guard replay",
        (
            (
                "today = ctx.current_utc_datetime.date()",
                "today = type(ctx.current_utc_datetime).today().date()",
            ),
        ),
    ),
    Mutant(
        "agent",
        "uuid",
        "agent-ended",
        ALL,
        (
            importing("uuid"),
            (
                'EntityInstanceId("Conversation", ctx.instance_id)',
                'EntityInstanceId("Conversation", uuid.uuid4().hex)',
            ),
        ),
    ),
    Mutant(
        "agent",
        "counter",
        "agent-ended",
        "lint replay",
        (
            importing("itertools"),
            ("APOLOGY =", "NUMBERS = itertools.count()\nAPOLOGY ="),
            ("Turn(transcript.next_turn, messages)", "Turn(next(NUMBERS), messages)"),
        ),
    ),
)

WAYS = {scenario.instance_id: scenario for scenario in SCENARIOS}
WAYS["settlement-of-yesterday"] = Scenario(
    "settlement-of-yesterday",
    "the day before is settled",
    WAYS["settlement"].orchestrator,
    SettlementRequest(),
    Settlement("2026-06-30", 0),
)


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mutants look at."""
    (tmp_path / "approvers.txt").write_text("ana")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGION", "eu")


@contextmanager
def new_services() -> Iterator[None]:
    """A store and a gateway that remember nothing."""
    client = httpx.Client(transport=LocalGateway().transport(), base_url="http://gateway")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        with process.use(process.Services(store, Gateway(client), OfflineModel())):
            yield


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Imports a copy of a workflow, from where another process finds it too."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    imported: list[str] = []

    def copy(module: str, kind: str, edits: Iterable[tuple[str, str]] = ()) -> ModuleType:
        name = f"{module}_{kind.replace('-', '_')}"
        source = Path(importlib.import_module(f"workflows.{module}").__file__ or "").read_text()
        (folder / f"{name}.py").write_text(edited(source, edits, module))
        importlib.invalidate_caches()
        imported.append(name)
        return importlib.import_module(name)

    yield copy
    for name in imported:
        sys.modules.pop(name, None)


def edited(source: str, edits: Iterable[tuple[str, str]], module: str) -> str:
    for old, new in edits:
        times = source.count(old)
        assert times == 1, (
            f"workflows.{module} has {times} times, and not once, what is to be replaced: {old!r}"
        )
        source = source.replace(old, new)
    return source


def hub_with(modules: Iterable[ModuleType], guard: Literal["error", "off"], **options: Any) -> TaskHub:
    hub = TaskHub(start_time=SUMMER, guard=guard, **options)
    for module in modules:
        for orchestrator in module.ORCHESTRATORS:
            hub.add_orchestrator(orchestrator)
        for activity in module.ACTIVITIES:
            hub.add_activity(activity)
        for entity in module.ENTITIES:
            hub.add_entity(entity)
    return hub


def play(hub: TaskHub, scenario: Scenario) -> Instance:
    """Walk one way through a workflow, to its end."""
    with new_services():
        return walk(hub, scenario)


def walk(hub: TaskHub, scenario: Scenario) -> Instance:
    for signal in scenario.signals:
        hub.client.signal_entity(signal.entity, signal.operation, input=signal.input)
    instance = hub.start(
        scenario.orchestrator.__name__,
        input=scenario.input,
        instance_id=scenario.instance_id,
        version=scenario.version,
    )
    for sent in scenario.events:
        for _ in range(100):
            if sent.at is None or said(instance.custom_status, sent.at):
                break
            hub.advance(timedelta(seconds=0.1))
        else:
            pytest.fail(f"{scenario.instance_id} never says {sent.at}, but {instance.custom_status}")
        instance.raise_event(sent.name, sent.data)
    instance.wait()
    hub.settle()
    return instance


def said(status: Any, wanted: Any) -> bool:
    """Whether a custom status is the wanted one, or says more than that."""
    return status == wanted or (
        isinstance(wanted, dict) and isinstance(status, dict) and wanted.items() <= status.items()
    )


def histories_of(hub: TaskHub) -> list[History]:
    return [history for instance in hub.instances for history in instance.histories]


def caught_by(module: ModuleType, scenario: Scenario) -> list[str]:
    """The nets that catch something in a workflow."""
    hub = hub_with([module], "off", check_replay="never")
    play(hub, scenario)
    return [
        net
        for net, caught in (
            ("lint", is_caught_by_lint(Path(module.__file__ or ""))),
            ("guard", is_caught_by_the_guard(module, scenario)),
            ("replay", not all(check_determinism(each, hub).ok for each in histories_of(hub))),
        )
        if caught
    ]


def is_caught_by_lint(path: Path) -> bool:
    return any(each.severity != "note" for each in lint_paths([path], root=path.parent).findings)


def is_caught_by_the_guard(module: ModuleType, scenario: Scenario) -> bool:
    try:
        play(hub_with([module], "error", check_replay="never"), scenario)
    except NonDeterministicCall:
        return True
    return False


# -- the workflows themselves


@pytest.mark.parametrize("scenario", WAYS.values(), ids=WAYS)
def test_a_workflow_passes_the_guard_and_perturbed_replay(scenario: Scenario) -> None:
    hub = TaskHub(start_time=SUMMER)
    workflows.register(hub)
    instance = play(hub, scenario)
    expected = OrchestrationStatus.FAILED if scenario.fails else OrchestrationStatus.COMPLETED
    assert instance.status is expected, instance.failure
    reports = [check_determinism(history, hub) for history in histories_of(hub)]
    assert reports
    assert all(report.ok for report in reports), "\n".join(map(str, reports))


def test_lint_finds_nothing_in_the_workflows() -> None:
    source = Path(workflows.__file__).parent
    report = lint_paths([source], root=source.parent)
    assert not [each for each in report.findings if each.severity != "note"]


@pytest.mark.parametrize("path", KEPT, ids=[path.name.partition(".")[0] for path in KEPT])
def test_perturbed_replay_finds_nothing_in_a_kept_history(path: Path) -> None:
    hub = TaskHub()
    workflows.register(hub)
    report = check_determinism(History.load(path), hub)
    assert report.ok, str(report)


# -- and with a hazard in them


@pytest.mark.parametrize("module", [module.__name__.rpartition(".")[2] for module in workflows.MODULES])
def test_a_copy_without_a_hazard_is_caught_by_no_net(module: str, copy: Callable[..., ModuleType]) -> None:
    scenario = next(WAYS[mutant.scenario] for mutant in MUTANTS if mutant.module == module)
    assert caught_by(copy(module, "as_it_is"), scenario) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_copy_with_a_hazard_is_caught_by_at_least_two_nets(
    mutant: Mutant, copy: Callable[..., ModuleType]
) -> None:
    found = caught_by(copy(mutant.module, mutant.kind, mutant.edits), WAYS[mutant.scenario])
    assert found == mutant.nets.split()
    assert len(found) >= 2


def test_every_workflow_has_two_mutants_of_different_kinds() -> None:
    kinds = {(mutant.module, mutant.kind) for mutant in MUTANTS}
    assert len(kinds) == len(MUTANTS)
    modules = [mutant.module for mutant in MUTANTS]
    assert all(modules.count(module.__name__.rpartition(".")[2]) >= 2 for module in workflows.MODULES)


def test_an_edit_whose_text_is_gone_says_so() -> None:
    with pytest.raises(AssertionError, match=r"workflows\.order has 0 times, and not once, .*'no such line'"):
        edited("one line", [("no such line", "another")], "order")
