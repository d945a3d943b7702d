"""Record the histories of a release, once: ``python tests/histories/record.py 0.1.0``.

They go to a directory of the release's name beside this file, which must not be there yet: what a release has
recorded stays as it is, and every later release has to replay it. Most come from the real worker and client,
as in ``python -m workflows demo``. Of workflows that continue as new a client gets the last generation alone,
so the earlier ones come from a hub. Stack traces are left out, as they tell of the machine.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dt_testkit import History, TaskHub
from workflows import register
from workflows.agent import Chat
from workflows.appointment import Appointment, NewTime, WallTime
from workflows.demo import SCENARIOS, prepare_directory, record, services_of_its_own
from workflows.gateway import GatewayError
from workflows.job_monitor import Watch, poll_job
from workflows.order_digest import DigestState, Entry
from workflows.quotes import Supplier, Tender
from workflows.sales_report import ReportRequest
from workflows.subscription import RELEASE, Subscription

if TYPE_CHECKING:
    from dt_testkit import Instance

HERE = Path(__file__).parent
DAY = 24 * 60 * 60.0
START = datetime(2026, 1, 1)


def main(release: str) -> None:
    directory = HERE / release
    if directory.exists():
        sys.exit(f"{directory} is there already: the histories of a release are recorded once.")
    try:
        prepare_directory(directory)
        for recording in record(directory, SCENARIOS):
            bare(History.load(recording.path)).save(recording.path)
        with services_of_its_own():
            for instance in simulated():
                _, colon, last = instance.instance_id.rpartition(":")
                name = f"{instance.name}-{last}" if colon else last
                for number, history in enumerate(instance.histories, start=1):
                    bare(history).save(directory / f"{name}-{number}.history.jsonl")
    except BaseException:
        shutil.rmtree(directory)
        raise


def bare(history: History) -> History:
    """The history without the stack traces of failures."""

    def without(failure: Any) -> Any:
        if failure is None:
            return None
        return replace(failure, stack_trace=None, inner_failure=without(failure.inner_failure))

    events = [
        replace(event, failure_details=without(event.failure_details))
        if getattr(event, "failure_details", None) is not None
        else event
        for event in history.events
    ]
    metadata = dict(history.metadata or {})
    metadata.pop("failure_details", None)
    return History(history.instance_id, events, metadata=metadata or None)


def simulated() -> list[Instance]:
    """Instances of a hub: ended and in flight, of one generation and of several."""
    hub = TaskHub(start_time=START)
    register(hub)

    def start(name: str, input: Any, instance_id: str, version: str | None = None) -> Instance:
        return hub.start(name, input=input, instance_id=instance_id, version=version)

    failures = [GatewayError("the gateway answered with status 503")]

    def away_once(ctx: Any, job: str) -> str:
        if job == "ready-after-3" and failures:
            raise failures.pop()
        return poll_job(ctx, job)

    hub.stub("poll_job", side_effect=away_once)
    monitor = start("job_monitor", Watch("ready-after-5", polls_per_generation=2), "monitor")
    retried = start("job_monitor", Watch("ready-after-3"), "monitor-retried")
    digest = start("order_digest", DigestState(period=40 * DAY), "digest")
    digest.raise_event("entry", Entry("order-1", 300_00))
    agent = start("agent", Chat(), "agent")
    agent.raise_event("message", "How much is 6 * 7, and how is order RES-9?")
    agent.raise_event("message", "Thank you.")
    first = start("subscription", {"customer": "kim", "card": "4242", "price": "9.90", "days": 30}, "first")
    second = start("subscription", Subscription("ana", "4242", 9_90), "second", version=RELEASE)
    # A renewal, where the versions differ: one that is waited for, and one that is made.
    renewal = Subscription("raj", "4242", 9_90, period=2, due=START + timedelta(days=200), key="SUB-1")
    renewing = start("subscription", renewal, "version-1-renewing", version="1.0")
    made = replace(renewal, due=START + timedelta(days=30), key="SUB-2")
    renewed = start("subscription", made, "version-1-renewed", version="1.0")
    begun = start(
        "appointment", Appointment("review", "kim", WallTime("2026-03-29T02:30", "Europe/Berlin")), "begun"
    )
    moved = start(
        "appointment", Appointment("audit", "kim", WallTime("2027-01-15T09:00", "Asia/Tokyo")), "moved"
    )
    suppliers = [Supplier("east", 90_00, 60.0), Supplier("west", None)]
    tender = start("buyer", Tender("desk", 10, suppliers, deadline=3600.0), "tender")
    start("sales_report", ReportRequest("second quarter", ["north", "nowhere"]), "report")
    hub.advance(timedelta(days=1))
    moved.raise_event("move", NewTime("2027-01-16T09:00"))
    digest.raise_event("entry", Entry("order-2", 40_00))
    hub.advance(timedelta(days=100))
    renewed.raise_event("cancel")
    hub.settle()
    others = [each for each in hub.instances if each.name in ("supplier_offer", "regional_report")]
    subscriptions = [first, second, renewing, renewed]
    return [monitor, retried, digest, agent, *subscriptions, begun, moved, tender, *others]


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).name != sys.argv[1]:
        sys.exit("usage: python tests/histories/record.py RELEASE, such as 0.1.0")
    main(sys.argv[1])
