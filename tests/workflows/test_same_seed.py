"""Same seed, same bytes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dt_testkit import TaskHub
from workflows import register
from workflows.batch_import import ImportRequest
from workflows.order import Order
from workflows.purchase_approval import Approval, Purchase

if TYPE_CHECKING:
    from pathlib import Path


def save_histories(directory: Path, seed: int) -> None:
    """Run every workflow on one hub, with ids from its seed, and save what it recorded."""
    hub = TaskHub(seed=seed)
    register(hub)
    hub.start("order_workflow", input=Order("desk", 1, 1, card="irrefundable", email="bounces"))
    rows = ["a,1", "unreadable", "c", "d,4"]
    hub.start("batch_import", input=ImportRequest("s.csv", rows, batch_size=1, parallel_batches=2))
    purchase = hub.start("purchase_approval", input=Purchase("car", 42_000_00, "kim"))
    hub.start("purchase_approval", input=Purchase("bus", 99_000_00, "kim"))
    hub.advance(timedelta(days=2))
    purchase.raise_event("approval", Approval(approved=True, by="ana"))
    hub.advance(timedelta(days=30))
    assert all(instance.is_terminal for instance in hub.instances)
    for number, instance in enumerate(hub.instances):
        instance.history.save(directory / f"{number}-{instance.name}.history.json.gz")
        instance.history.save(directory / f"{number}-{instance.name}.history.jsonl")


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "one", tmp_path / "two"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_the_same_seed_gives_the_same_bytes(directories: tuple[Path, Path]) -> None:
    for directory in directories:
        save_histories(directory, seed=7)
    one, two = map(contents, directories)
    assert len(one) == 8
    assert one == two


def test_another_seed_gives_other_bytes(directories: tuple[Path, Path]) -> None:
    for seed, directory in enumerate(directories):
        save_histories(directory, seed=seed)
    one, two = map(contents, directories)
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)
