"""Accounts, the counter, and transfers that move all of the money or none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus
from durabletask.entities import EntityInstanceId
from hypothesis import given, settings
from hypothesis import strategies as st

from dt_testkit import OrchestrationNotFinished, TaskHub, assert_replays, drive
from workflows import register
from workflows.account import (
    TRANSFERS,
    AccountState,
    TransferOrder,
    TransferResult,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit import Instance

COUNTER = EntityInstanceId("counter", "c")


def account(name: str) -> EntityInstanceId:
    return EntityInstanceId("account", name)


def open_accounts(hub: TaskHub, **balances: int) -> None:
    for name, balance in balances.items():
        hub.client.signal_entity(account(name), "open", name)
        if balance:
            hub.client.signal_entity(account(name), "deposit", balance)
    hub.settle()


def balances(hub: TaskHub, *names: str) -> dict[str, int]:
    return {name: hub.entity(account(name)).state["balance"] for name in names}


def operate(ctx: Any, call: Any) -> Any:
    """Call one operation of one entity."""
    return (yield ctx.call_entity(EntityInstanceId.parse(call[0]), call[1], call[2]))


def do(hub: TaskHub, entity: EntityInstanceId, operation: str, input: Any = None) -> Any:
    """The result of an operation, or the reason why it failed."""
    done = hub.run(operate, input=[str(entity), operation, input])
    if done.failure is None:
        return done.output
    assert done.failure.message.startswith(f"Operation '{operation}' on entity '{entity}' failed")
    return done.failure.message.partition("failed with error: ")[2]


def moved(hub: TaskHub, source: str, target: str, amount: int) -> Instance:
    return hub.run(transfer, input=TransferOrder(source, target, amount))


def turns(hub: TaskHub, number: int) -> None:
    """Do so many turns, if there are."""
    try:
        hub.settle(max_turns=number)
    except OrchestrationNotFinished:
        return


@pytest.fixture
def hub(task_hub: TaskHub) -> TaskHub:
    task_hub.add_orchestrator(operate)
    return task_hub


class TestAccount:
    def test_what_is_put_in_and_taken_out_changes_the_balance(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=0)
        assert do(hub, account("ana"), "deposit", 30_00) == 30_00
        assert do(hub, account("ana"), "withdraw", 10_00) == 20_00
        assert do(hub, account("ana"), "balance") == 20_00

    def test_it_may_be_emptied_to_the_last_cent(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=5)
        assert do(hub, account("ana"), "withdraw", 5) == 0

    def test_it_is_not_overdrawn_and_the_failure_undoes_what_the_operation_set(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=5)
        assert do(hub, account("ana"), "withdraw", 6) == "account ana has 0.05, and not 0.06"
        assert do(hub, account("ana"), "balance") == 5

    @pytest.mark.parametrize("operation", ["deposit", "withdraw"])
    @pytest.mark.parametrize("amount", [0, -1, 0.5, "7", True, None])
    def test_only_whole_cents_are_moved(self, hub: TaskHub, operation: str, amount: Any) -> None:
        open_accounts(hub, ana=100)
        refused = do(hub, account("ana"), operation, amount)
        assert refused == f"what can be moved is a whole number of cents of at least 1, not {amount!r}"
        assert balances(hub, "ana") == {"ana": 100}

    @pytest.mark.parametrize(
        ("operation", "input"), [("deposit", 1), ("withdraw", 1), ("balance", None), ("close", None)]
    )
    def test_one_that_was_never_opened_refuses(self, hub: TaskHub, operation: str, input: Any) -> None:
        assert do(hub, account("kim"), operation, input) == "account kim does not exist"
        assert hub.entity(account("kim")).state is None

    def test_opened_again_for_the_same_owner_it_stays_as_it_is(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=5)
        assert do(hub, account("ana"), "open", "ana") is None
        assert balances(hub, "ana") == {"ana": 5}

    def test_it_is_not_given_to_another_owner(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=5)
        refused = do(hub, account("ana"), "open", "raj")
        assert refused == "account ana cannot be opened for raj: it is somebody else's"
        assert hub.entity(account("ana")).state["owner"] == "ana"

    def test_one_with_money_in_it_cannot_be_closed(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=5)
        assert do(hub, account("ana"), "close") == "account ana cannot be closed: withdraw its 0.05 first"
        assert do(hub, account("ana"), "deposit", 1) == 6

    @pytest.mark.parametrize(
        ("operation", "input"),
        [("open", "ana"), ("deposit", 1), ("withdraw", 1), ("balance", None), ("close", None)],
    )
    def test_a_closed_one_refuses(self, hub: TaskHub, operation: str, input: Any) -> None:
        open_accounts(hub, ana=0)
        assert do(hub, account("ana"), "close") is None
        assert do(hub, account("ana"), operation, input) == "account ana is closed"

    def test_it_can_be_looked_at_whatever_it_is(self, hub: TaskHub) -> None:
        assert do(hub, account("ana"), "look") is None
        open_accounts(hub, ana=0)
        do(hub, account("ana"), "close")
        seen = hub.client.get_entity(account("ana")).get_typed_state(AccountState)
        assert seen == AccountState("ana", closed=True)


class TestCounter:
    def test_it_counts_by_one_unless_told_otherwise(self, hub: TaskHub) -> None:
        assert [do(hub, COUNTER, "add", amount) for amount in (None, 5, -2)] == [1, 6, 4]

    def test_it_can_be_read_before_anything_was_counted(self, hub: TaskHub) -> None:
        assert do(hub, COUNTER, "get") == 0
        assert hub.entity(COUNTER).state is None

    def test_it_is_reset(self, hub: TaskHub) -> None:
        do(hub, COUNTER, "add", 5)
        assert do(hub, COUNTER, "reset") == 0
        assert do(hub, COUNTER, "get") == 0

    def test_what_it_does_not_know_changes_nothing(self, hub: TaskHub) -> None:
        do(hub, COUNTER, "add", 5)
        assert do(hub, COUNTER, "double") == "a counter can add, get and reset, and not double"
        assert do(hub, COUNTER, "get") == 5


class TestTransfer:
    def test_money_moves_from_one_account_to_the_other_and_is_counted(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=100, raj=0)
        done = moved(hub, "ana", "raj", 30)
        assert done.get_output(TransferResult) == TransferResult("completed")
        assert done.custom_status == "completed"
        assert balances(hub, "ana", "raj") == {"ana": 70, "raj": 30}
        hub.settle()
        assert hub.entity(TRANSFERS).state == 1

    def test_the_accounts_are_free_afterwards(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=100, raj=0)
        for amount in (30, 500):
            moved(hub, "ana", "raj", amount)
            assert [hub.entity(account(name)).locked_by for name in ("ana", "raj")] == [None, None]

    @pytest.mark.parametrize(
        ("source", "target", "amount", "reason"),
        [
            ("ana", "raj", 101, "account ana has 1.00, and not 1.01"),
            ("ana", "nobody", 1, "account nobody does not exist"),
            ("nobody", "raj", 1, "account nobody does not exist"),
            ("ana", "closed", 1, "account closed is closed"),
            ("closed", "ana", 1, "account closed is closed"),
        ],
    )
    def test_what_cannot_be_done_is_refused_and_nothing_has_moved(
        self, hub: TaskHub, source: str, target: str, amount: int, reason: str
    ) -> None:
        open_accounts(hub, ana=100, raj=0, closed=0)
        do(hub, account("closed"), "close")
        done = moved(hub, source, target, amount)
        assert done.get_output(TransferResult) == TransferResult("refused", reason)
        assert balances(hub, "ana", "raj", "closed") == {"ana": 100, "raj": 0, "closed": 0}
        assert hub.entity(TRANSFERS).state is None

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            (TransferOrder("ana", "ana", 1), "account ana cannot transfer to itself"),
            (TransferOrder("ana", "raj", 0), "at least 1, not 0"),
            (TransferOrder("ana", "raj", -5), "at least 1, not -5"),
            (TransferOrder("ana", "", 5), "Entity key cannot be empty"),
        ],
    )
    def test_what_makes_no_sense_fails_before_an_account_is_touched(self, order: Any, message: str) -> None:
        step = drive(transfer, order)
        assert step.status is OrchestrationStatus.FAILED
        assert step.failure is not None
        assert message in step.failure.message
        assert "lock" not in str(step.history)

    def test_the_withdrawal_and_the_deposit_are_asked_for_in_one_turn(self) -> None:
        step = drive(transfer, TransferOrder("ana", "raj", 30))
        assert [op.kind for op in step.pending] == ["lock"]
        step.complete()
        step.complete(AccountState("ana", 100), of=account("ana"))
        assert [op.name for op in step.pending] == ["look"]
        step.complete(AccountState("raj"), of=account("raj"))
        assert [(op.name, op.input) for op in step.pending] == [("withdraw", 30), ("deposit", 30)]
        step.complete(70, of="withdraw")
        step.complete(30, of="deposit")
        assert step.output == {"status": "completed", "reason": None}

    def test_two_in_opposite_directions_do_not_wait_for_each_other_for_ever(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=10, raj=10)
        there = hub.start(transfer, input=TransferOrder("ana", "raj", 10))
        back = hub.start(transfer, input=TransferOrder("raj", "ana", 10))
        hub.settle()
        assert [t.get_output(TransferResult).status for t in (there, back)] == ["completed"] * 2
        assert balances(hub, "ana", "raj") == {"ana": 10, "raj": 10}

    def test_of_two_that_cannot_both_be_done_one_is(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=10, raj=0, kim=0)
        both = [hub.start(transfer, input=TransferOrder("ana", name, 10)) for name in ("raj", "kim")]
        hub.settle()
        assert sorted(t.get_output(TransferResult).status for t in both) == ["completed", "refused"]
        assert balances(hub, "ana")["ana"] == 0

    def test_a_signal_that_comes_in_between_waits_until_the_transfer_is_done(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=10, raj=0)
        done = hub.start(transfer, input=TransferOrder("ana", "raj", 10))
        while done.custom_status != "checking":
            turns(hub, 1)
        hub.client.signal_entity(account("ana"), "withdraw", 10)
        hub.client.signal_entity(account("raj"), "close")
        hub.settle()
        assert done.get_output(TransferResult) == TransferResult("completed")
        assert balances(hub, "ana", "raj") == {"ana": 0, "raj": 10}


MOMENTS = range(12)
"""Enough turns to get from before the start of a transfer to behind its end."""


class TestInterruptions:
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_worker_may_die_at_any_moment(self, hub: TaskHub, moment: int) -> None:
        open_accounts(hub, ana=100, raj=0)
        done = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        turns(hub, moment)
        hub.crash_worker()
        hub.settle()
        assert done.get_output(TransferResult) == TransferResult("completed")
        assert balances(hub, "ana", "raj") == {"ana": 70, "raj": 30}
        assert hub.entity(TRANSFERS).state == 1

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_it_may_be_suspended_and_resumed_at_any_moment(self, hub: TaskHub, moment: int) -> None:
        open_accounts(hub, ana=100, raj=0)
        done = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        turns(hub, moment)
        done.suspend()
        hub.advance(timedelta(days=1))
        assert sum(balances(hub, "ana", "raj").values()) == 100
        done.resume()
        hub.settle()
        assert done.get_output(TransferResult) == TransferResult("completed")
        assert balances(hub, "ana", "raj") == {"ana": 70, "raj": 30}

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_terminated_at_any_moment_it_has_moved_all_or_nothing(self, hub: TaskHub, moment: int) -> None:
        open_accounts(hub, ana=100, raj=0)
        ended = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        turns(hub, moment)
        ended.terminate()
        hub.settle()
        assert ended.is_terminal
        hub.client.clean_entity_storage()  # as the module says: accounts may be locked
        hub.settle()
        count = do(hub, TRANSFERS, "get")
        assert balances(hub, "ana", "raj") == {"ana": 100 - 30 * count, "raj": 30 * count}
        assert moved(hub, "raj", "ana", 1).status is OrchestrationStatus.COMPLETED

    def test_the_moments_of_a_termination_include_some_before_and_some_behind_the_move(self) -> None:
        """What shows that the test above can tell: money moves for some moments, and not for others."""
        seen = set()
        for moment in MOMENTS:
            hub = TaskHub()
            register(hub)
            open_accounts(hub, ana=100, raj=0)
            ended = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
            turns(hub, moment)
            ended.terminate()
            hub.settle()
            seen.add((ended.status.name, balances(hub, "raj")["raj"]))
        assert seen == {("TERMINATED", 0), ("TERMINATED", 30), ("COMPLETED", 30)}

    def test_terminated_while_it_waits_for_locks_it_keeps_nobody_waiting(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=100, raj=0, kim=0)
        first = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        while first.custom_status != "checking":
            turns(hub, 1)
        first.suspend()
        hub.settle()
        second = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        hub.settle()
        assert [op.kind for op in second.waiting_for] == ["lock"]
        second.terminate()
        hub.settle()
        first.resume()
        hub.settle()
        hub.client.clean_entity_storage()
        hub.settle()
        assert first.status is OrchestrationStatus.COMPLETED
        assert moved(hub, "ana", "kim", 70).get_output(TransferResult) == TransferResult("completed")
        assert balances(hub, "ana", "raj", "kim") == {"ana": 0, "raj": 30, "kim": 70}


NAMES = ("ana", "raj", "kim")
ORDERS = st.builds(
    TransferOrder, st.sampled_from(NAMES), st.sampled_from([*NAMES, "nobody"]), st.integers(1, 120)
).filter(lambda order: order.source != order.target)


def money_moves(
    orders: list[TransferOrder], seed: int, between: Callable[[TaskHub, int, list[Instance]], None]
) -> tuple[TaskHub, list[Instance]]:
    """Do transfers at the same time, turn by turn; `between` is called after each, with its number."""
    hub = TaskHub(seed=seed, shuffle=True, check_replay="turn")
    register(hub)
    open_accounts(hub, ana=100, raj=100, kim=100)
    transfers = [hub.start(transfer, input=order) for order in orders]
    for number in range(1_000):
        try:
            hub.settle(max_turns=1)
            break
        except OrchestrationNotFinished:
            assert min(balances(hub, *NAMES).values()) >= 0
            between(hub, number, transfers)
    while hub.client.clean_entity_storage().orphaned_locks_released:
        hub.settle()
    return hub, transfers


class TestLaws:
    @settings(max_examples=25, deadline=None)
    @given(
        orders=st.lists(ORDERS, min_size=1, max_size=6),
        crashes=st.sets(st.integers(0, 40), max_size=8),
        seed=st.integers(0, 999),
    )
    def test_concurrent_transfers_all_end_and_move_what_they_say(
        self, orders: list[TransferOrder], crashes: set[int], seed: int
    ) -> None:
        def between(hub: TaskHub, number: int, transfers: list[Instance]) -> None:
            if number in crashes:
                hub.crash_worker()

        hub, transfers = money_moves(orders, seed, between)
        results = [done.get_output(TransferResult).status for done in transfers]
        expected = dict.fromkeys(NAMES, 100)
        for order, result in zip(orders, results, strict=True):
            if result == "completed":
                expected[order.source] -= order.amount
                expected[order.target] += order.amount
        assert balances(hub, *NAMES) == expected
        assert (hub.entity(TRANSFERS).state or 0) == results.count("completed")

    @settings(max_examples=25, deadline=None)
    @given(
        orders=st.lists(ORDERS, min_size=1, max_size=6),
        ends=st.dictionaries(st.integers(0, 40), st.integers(0, 5), max_size=4),
        seed=st.integers(0, 999),
    )
    def test_whatever_is_terminated_no_money_is_lost_and_the_others_end(
        self, orders: list[TransferOrder], ends: dict[int, int], seed: int
    ) -> None:
        ended = set()

        def between(hub: TaskHub, number: int, transfers: list[Instance]) -> None:
            if number in ends:
                index = ends[number] % len(transfers)
                ended.add(index)
                transfers[index].terminate()

        hub, transfers = money_moves(orders, seed, between)
        assert sum(balances(hub, *NAMES).values()) == 300
        for index, done in enumerate(transfers):
            assert done.is_terminal
            assert index in ended or done.status is OrchestrationStatus.COMPLETED


class TestReplay:
    @pytest.mark.parametrize("amount", [30, 300])
    def test_it_replays_after_every_turn(self, amount: int) -> None:
        hub = TaskHub(check_replay="turn")
        register(hub)
        open_accounts(hub, ana=100, raj=0)
        assert moved(hub, "ana", "raj", amount).status is OrchestrationStatus.COMPLETED

    def test_one_in_flight_replays(self, hub: TaskHub) -> None:
        open_accounts(hub, ana=100, raj=0)
        done = hub.start(transfer, input=TransferOrder("ana", "raj", 30))
        while done.custom_status != "moving":
            turns(hub, 1)
        assert_replays(done.history, transfer)
