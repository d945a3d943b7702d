"""Workers die, of SIGKILL, at every point of every workflow. What is left is what an undisturbed run leaves.

Each workflow runs twice: on a hub in this process, and on a served hub whose worker is a process that dies at
each point once; see `dying_worker`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dying_worker
import httpx
import pytest
from durabletask.entities import EntityInstanceId
from effects import contents

from dt_testkit import Instance, TaskHub
from workflows import MODULES
from workflows.account import TransferOrder, transfer
from workflows.agent import Chat, agent
from workflows.appointment import Appointment, NewTime, WallTime, appointment
from workflows.batch_import import ImportRequest, batch_import
from workflows.gateway import Gateway
from workflows.job_monitor import Watch, job_monitor
from workflows.local_gateway import LocalGateway, serve
from workflows.model import OfflineModel
from workflows.order import Order, order_workflow
from workflows.order_digest import DigestState, Entry, order_digest
from workflows.purchase_approval import Approval, Purchase, purchase_approval
from workflows.quotes import Supplier, Tender, buyer
from workflows.sales_report import ReportRequest, sales_report
from workflows.services import Services, use
from workflows.settlement import SettlementRequest, daily_settlement
from workflows.store import LedgerEntry, Store
from workflows.subscription import Subscription, subscription

PATIENCE_SECONDS = 120.0
STOP_SECONDS = 20.0
DAY = timedelta(days=1)


# -- the stories: each starts a workflow and takes part in it; what it returns has to end


def an_order(hub: TaskHub) -> Instance:
    return hub.start(order_workflow, input=Order("desk", 2, 150_00, card="flaky"), instance_id="order")


def an_order_that_is_undone(hub: TaskHub) -> Instance:
    return hub.start(order_workflow, input=Order("desk", 2, 150_00, email="bounces"), instance_id="order")


def an_import(hub: TaskHub) -> Instance:
    rows = ["a,1", "b,two", "c,3", "unreadable", "e,5", "f,6", ",7", "h,8", "i,9"]
    return hub.start(batch_import, input=ImportRequest("s.csv", rows, 2, 2), instance_id="import")


def a_purchase_that_is_approved(hub: TaskHub) -> Instance:
    purchase = hub.start(purchase_approval, input=Purchase("desk", 400_00, "kim"), instance_id="purchase")
    hub.advance(1.5 * DAY)
    purchase.raise_event("approval", Approval(True, "ana"))
    return purchase


def a_purchase_that_nobody_decides_on(hub: TaskHub) -> Instance:
    return hub.start(purchase_approval, input=Purchase("desk", 400_00, "kim"), instance_id="purchase")


def a_chat(hub: TaskHub) -> Instance:
    chat = hub.start(agent, input=Chat(), instance_id="chat")
    for message in ("What is 6 * 7, and where is order RES-1?", "Good morning", "2+2"):
        chat.raise_event("message", message)
    chat.raise_event("end")
    return chat


def a_job(hub: TaskHub) -> Instance:
    return hub.start(job_monitor, input=Watch("ready-after-1"), instance_id="job")


def a_job_that_never_ends(hub: TaskHub) -> Instance:
    watch = Watch("endless", expires_after=6 * 3600.0, polls_per_generation=4)
    return hub.start(job_monitor, input=watch, instance_id="job")


def a_digest(hub: TaskHub) -> Instance:
    digest = hub.start(order_digest, input=DigestState(), instance_id="digest")
    for day in range(3):
        digest.raise_event("entry", Entry(f"order-{day}", 100 + day))
        hub.advance(DAY)
    digest.raise_event("entry", Entry("order-last", 1))
    digest.raise_event("close")
    return digest


def a_report(hub: TaskHub) -> Instance:
    request = ReportRequest("2025", ["north", "shaky", "nowhere", "south"])
    return hub.start(sales_report, input=request, instance_id="report")


def an_appointment(hub: TaskHub) -> Instance:
    wanted = Appointment("dentist", "ana", WallTime("2026-03-27T09:00", "Europe/Berlin"))
    meeting = hub.start(appointment, input=wanted, instance_id="appointment")
    hub.advance(DAY)
    meeting.raise_event("move", NewTime("2026-03-29T02:30"))
    return meeting


def a_transfer(hub: TaskHub) -> Instance:
    for name, balance in (("ana", 100_00), ("raj", 1_00)):
        account = EntityInstanceId("account", name)
        hub.client.signal_entity(account, "open", name)
        hub.client.signal_entity(account, "deposit", balance)
    hub.settle()
    return hub.start(transfer, input=TransferOrder("ana", "raj", 30_00), instance_id="transfer")


def a_subscription(hub: TaskHub) -> Instance:
    wanted = Subscription("ana", "4242", 99_00)
    paper = hub.start(subscription, input=wanted, instance_id="subscription")
    hub.advance(800 * DAY)
    paper.raise_event("cancel")
    return paper


def a_subscription_that_lapses(hub: TaskHub) -> Instance:
    wanted = Subscription("ana", "declined", 99_00)
    return hub.start(subscription, input=wanted, instance_id="subscription")


def a_tender(hub: TaskHub) -> Instance:
    suppliers = [
        Supplier("north", 90_00, 60.0),
        Supplier("south", 80_00, 3600.0),
        Supplier("west", None),
        Supplier("late", 1_00, 40 * 3600.0),
    ]
    return hub.start(buyer, input=Tender("desk", 3, suppliers), instance_id="tender")


def a_settlement(hub: TaskHub) -> Instance:
    return hub.start(daily_settlement, input=SettlementRequest("2025-12-31"), instance_id="settlement")


def without_a_key(hub: TaskHub) -> Instance:
    return hub.start(dying_worker.careless, input="careless", instance_id="careless")


Story = Callable[[TaskHub], Instance]

STORIES: tuple[Story, ...] = (
    an_order,
    an_order_that_is_undone,
    an_import,
    a_purchase_that_is_approved,
    a_purchase_that_nobody_decides_on,
    a_chat,
    a_job,
    a_job_that_never_ends,
    a_digest,
    a_report,
    an_appointment,
    a_transfer,
    a_subscription,
    a_subscription_that_lapses,
    a_tender,
    a_settlement,
)


# -- what is left of a story


@dataclass(frozen=True)
class Left:
    """What there is when everything has ended: how each instance did, and what it did to the world."""

    instances: dict[str, Any]
    entities: dict[str, Any]
    store: dict[str, Any]
    payments: list[dict[str, Any]]


def tell(story: Story, hub: TaskHub) -> Instance:
    """Tell a story to its end, and to that of all instances that it started."""
    instance = story(hub)
    instance.wait()
    while others := [one for one in hub.instances if not one.is_terminal]:
        others[0].wait()
    hub.settle()
    return instance


def left(hub: TaskHub, store: Store, gateway: LocalGateway) -> Left:
    entities = hub.client.get_all_entities()
    return Left(
        {one.instance_id: (one.status, one.output, one.custom_status) for one in hub.instances},
        {str(one.id): one.get_state() for one in entities},
        contents(store),
        sorted((asdict(payment) for payment in gateway.payments.values()), key=repr),
    )


def seeded_store(path: Path) -> Store:
    """A store in which something was there before."""
    store = Store(f"sqlite:///{path}")
    store.reserve("seed", "RES-1", "lamp", 1)
    with store.session() as session:
        session.add(LedgerEntry(reference="old", amount=7_00, booked_at=datetime(2025, 12, 31, 12)))
    return store


def undisturbed(story: Story, path: Path) -> tuple[Left, set[str]]:
    """What a story leaves when nobody dies, and the points it comes by."""
    gateway, points = LocalGateway(), set[str]()
    client = httpx.Client(transport=gateway.transport(), base_url="http://gateway")
    with use(Services(seeded_store(path / "undisturbed.db"), Gateway(client), OfflineModel())) as services:
        hub = TaskHub()
        dying_worker.register_all(dying_worker.Watched(hub, points.add))
        tell(story, hub)
        return left(hub, services.store, gateway), points


# -- the processes


class Keeper:
    """The process that keeps a worker alive; see `dying_worker`."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, dying_worker.__file__]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def kill(self) -> None:
        """End what hangs. The hub then finds no worker, and tells what there is to do."""
        self._process.kill()

    def restart(self) -> None:
        self.close()
        self._process = self._start()

    def close(self) -> None:
        self._process.communicate()  # closes its input, which ends it and its worker, and waits for it


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    """One for all tests of this file: it takes a second to start."""
    keeper = Keeper()
    yield keeper
    keeper.close()


@dataclass
class World:
    """A served hub with a store and a gateway, all of this process.

    Attributes
    ----------
    environment : dict[str, str]
        What a worker in another process needs to work for it.
    killed : int
        How many workers had been killed when it ended.
    """

    hub: TaskHub
    store: Store
    gateway: LocalGateway
    environment: dict[str, str]
    killed: int = 0

    def left(self) -> Left:
        return left(self.hub, self.store, self.gateway)


@contextmanager
def world(path: Path, gateway: LocalGateway, kill: Callable[[], None]) -> Generator[World, None, None]:
    """Make one, with no worker yet. If it takes too long, the test fails: `kill` is called then, and a hub
    that finds no worker says what is left to do.
    """
    too_late = threading.Event()

    def give_up() -> None:
        too_late.set()
        kill()

    watchdog = threading.Timer(PATIENCE_SECONDS, give_up)
    with (
        serve(gateway) as url,
        closing(seeded_store(path / "store.db")) as store,
        TaskHub().serve(patience=None) as server,
    ):
        environment = {
            "ENDPOINT": f"http://{server.address}",
            "DATABASE_URL": f"sqlite:///{path / 'store.db'}",
            "GATEWAY_URL": url,
        }
        watchdog.start()
        try:
            yield World(server.hub, store, gateway, environment)
        finally:
            watchdog.cancel()
            watchdog.join()
            if too_late.is_set():
                pytest.fail(
                    f"After {PATIENCE_SECONDS:g} s it had not ended; the error before says what is left."
                )


@contextmanager
def kept_alive(
    keeper: Keeper, path: Path, *, dies: bool = False, gateway: LocalGateway | None = None
) -> Generator[World, None, None]:
    """A world with a worker, which is replaced when it is killed, and must not end in any other way."""
    markers = path / "died"
    markers.mkdir()
    with world(path, gateway or LocalGateway(), keeper.kill) as disturbed:
        keeper.ask(start=disturbed.environment, markers=str(markers) if dies else None)
        try:
            yield disturbed
        except BaseException:
            keeper.restart()
            raise
        end = keeper.ask(stop=True)
    assert end["ended"] is None, f"a worker ended by itself: {end['ended']}"
    disturbed.killed = end["killed"]


class HoldingGateway(LocalGateway):
    """A gateway that has done what it was asked for, and keeps the first such answer back.

    Attributes
    ----------
    holds : threading.Event
        Set when it does.
    release : threading.Event
        Set it, and it answers.
    """

    def __init__(self, request: str) -> None:
        super().__init__()
        self.holds, self.release = threading.Event(), threading.Event()
        self._request = request

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> tuple[int, Any]:
        answer = super().answer(method, path, key, body)
        if re.fullmatch(self._request, f"{method} {path}") and not self.holds.is_set():
            self.holds.set()
            self.release.wait(PATIENCE_SECONDS)
        return answer

    @contextmanager
    def held(self, then: Callable[[], object]) -> Iterator[None]:
        """In another thread: wait until it holds an answer, do something, and let go."""

        def hold() -> None:
            try:
                assert self.holds.wait(PATIENCE_SECONDS), f"nobody asked for {self._request}"
                then()
            finally:
                self.release.set()

        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(hold)
            yield
            done.result()


def deaths(path: Path) -> set[str]:
    return {marker.name for marker in (path / "died").iterdir()}


# -- the tests


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_workers_that_die_everywhere_leave_what_an_undisturbed_run_leaves(
    story: Story, keeper: Keeper, tmp_path: Path
) -> None:
    expected, points = undisturbed(story, tmp_path)
    with kept_alive(keeper, tmp_path, dies=True) as disturbed:
        tell(story, disturbed.hub)
        found = disturbed.left()
    assert found == expected
    assert deaths(tmp_path) == points


def test_the_stories_come_by_every_orchestrator_activity_and_entity(tmp_path: Path) -> None:
    found: set[str] = set()
    for story in STORIES:
        (tmp_path / story.__name__).mkdir()
        found |= undisturbed(story, tmp_path / story.__name__)[1]
    activities = {fn.__name__ for module in MODULES for fn in module.ACTIVITIES}
    orchestrators = {fn.__name__ for module in MODULES for fn in module.ORCHESTRATORS}
    entities = {fn.__name__ for module in MODULES for fn in module.ENTITIES}
    assert {point.removeprefix("after ") for point in found if point.startswith("after ")} == activities
    assert {point.removeprefix("end of ") for point in found if point.startswith("end of ")} == orchestrators
    assert {point.rpartition(" of ")[2] for point in found if point.startswith("in ")} == entities


def test_an_effect_without_a_key_is_doubled_and_found(keeper: Keeper, tmp_path: Path) -> None:
    expected, _ = undisturbed(without_a_key, tmp_path)
    with kept_alive(keeper, tmp_path, dies=True) as disturbed:
        tell(without_a_key, disturbed.hub)
        found = disturbed.left()
    assert found.instances == expected.instances
    assert expected.store["ledger"].count(("careless", 1)) == 1
    assert found.store["ledger"].count(("careless", 1)) == 2


@pytest.mark.parametrize(
    ("story", "request_"),
    [
        (an_order, "POST /payments"),
        (an_order_that_is_undone, "POST /payments/.*/refunds"),
        (a_subscription, "POST /payments"),
        (a_job, "GET /jobs/.*"),
        (a_report, "GET /sales/south"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_worker_that_is_killed_while_it_waits_for_the_gateway_loses_and_doubles_nothing(
    story: Story, request_: str, keeper: Keeper, tmp_path: Path
) -> None:
    expected, _ = undisturbed(story, tmp_path)
    gateway = HoldingGateway(request_)
    with kept_alive(keeper, tmp_path, gateway=gateway) as disturbed:
        with gateway.held(lambda: keeper.ask(kill=True)):
            tell(story, disturbed.hub)
        found = disturbed.left()
    assert found == expected
    assert disturbed.killed == 1


# -- a worker that is told to stop


class Worker:
    """``python -m workflows worker``; leaving its context kills it, if it has not ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workflows", "worker"],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """Tell it to stop, and see it end in time, with status 0 and not in a panic."""
        self.process.send_signal(signal.SIGTERM)
        self.see_it_end()

    def see_it_end(self) -> None:
        try:
            _, said = self.process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
            pytest.fail(f"The worker did not stop in {STOP_SECONDS:g} s. It said:\n{said}")
        assert self.process.returncode == 0, said
        assert "Traceback" not in said, said


def test_a_worker_that_is_told_to_stop_leaves_the_rest_to_the_next_one(tmp_path: Path) -> None:
    expected, _ = undisturbed(an_order, tmp_path)
    gateway = HoldingGateway("POST /payments")
    with ExitStack() as workers:

        def relieve() -> None:
            first.process.send_signal(signal.SIGTERM)
            gateway.release.set()
            first.see_it_end()
            workers.enter_context(Worker(place.environment))

        with world(tmp_path, gateway, workers.close) as place:
            first = workers.enter_context(Worker(place.environment))
            with gateway.held(relieve):
                tell(an_order, place.hub)
            assert place.left() == expected


def test_an_idle_worker_stops_when_it_is_told_to(tmp_path: Path) -> None:
    with ExitStack() as workers, world(tmp_path, LocalGateway(), workers.close) as place:
        worker = workers.enter_context(Worker(place.environment))
        tell(a_job, place.hub)
        worker.stop()
