"""Accounts, and transfers between them. The pattern: entities, and a critical section over two of them.

Choose an entity for a small piece of state that many use at a time and that has rules of its own: its
operations come one after the other, and one that fails leaves the state as it was. Choose a critical section
(`ctx.lock_entities`) when a decision is about several entities at once. For records that are searched or
added up, a database is the better place.

`transfer` never loses or makes money, whatever happens to it:

- it looks at both accounts first, and as both are locked, what it saw stays true until it is done;
- it then asks for the withdrawal and the deposit in one turn. What a turn asks for is sent as a whole or not
  at all, and neither can be refused any more. So both happen or none does, even if the instance is
  terminated between two turns or its worker dies.

A transfer that is *terminated* inside its critical section may leave accounts locked: in SDK 1.12 a
termination does not unlock an entity that is being called. No money is lost, but the account answers nobody
until someone calls ``client.clean_entity_storage()``, which releases the locks of orchestrations that have
ended. A transfer ends by itself as soon as it has its locks, so there is hardly a reason to terminate one;
to keep many from going on, suspend them.
"""

# No postponed annotations here: the SDK rebuilds inputs from the annotations of orchestrators and entities.
import logging
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from durabletask.entities import DurableEntity, EntityContext, EntityInstanceId
from durabletask.task import OrchestrationContext, Task, when_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccountState:
    """An account. Money is in cents; a closed account is kept, and takes no more of it."""

    owner: str
    balance: int = 0
    closed: bool = False


class AccountError(Exception):
    """An operation that an account refuses; the message says which account, and why."""


class Overdrawn(AccountError):
    """There is not enough on the account."""


class Account(DurableEntity):
    """An account. Every operation but `look` and `open` needs one that was opened, and is not closed."""

    def open(self, owner: str) -> None:
        """Open the account for its owner. Opened again for the same owner it stays as it is."""
        if self.look() is None:
            self.set_state(AccountState(owner))
        elif self._opened().owner != owner:
            raise AccountError(f"{self._name()} cannot be opened for {owner}: it is somebody else's")

    def deposit(self, amount: int) -> int:
        """Put money in; returns the balance."""
        return self._move(checked(amount))

    def withdraw(self, amount: int) -> int:
        """Take money out; returns the balance."""
        return self._move(-checked(amount))

    def balance(self) -> int:
        """What there is."""
        return self._opened().balance

    def close(self) -> None:
        """Take no more operations. There may be no money left, for it would have to go somewhere."""
        state = self._opened()
        if state.balance:
            raise AccountError(f"{self._name()} cannot be closed: withdraw its {euros(state.balance)} first")
        self.set_state(replace(state, closed=True))

    def look(self) -> AccountState | None:
        """All there is to know; None for an account that was never opened."""
        return self.get_state(AccountState)

    def _move(self, amount: int) -> int:
        state = self._opened()
        moved = replace(state, balance=state.balance + amount)
        self.set_state(moved)
        if moved.balance < 0:  # what is raised undoes what was set
            raise Overdrawn(f"{self._name()} has {euros(state.balance)}, and not {euros(-amount)}")
        return moved.balance

    def _opened(self) -> AccountState:
        state = self.look()
        if state is None or state.closed:
            raise AccountError(f"{self._name()} {'does not exist' if state is None else 'is closed'}")
        return state

    def _name(self) -> str:
        return f"account {self.entity_context.entity_id.key}"


def checked(amount: int) -> int:
    """The amount, if it is one that can be moved."""
    if type(amount) is not int or amount < 1:
        raise AccountError(f"what can be moved is a whole number of cents of at least 1, not {amount!r}")
    return amount


def euros(amount: int) -> str:
    """An amount of cents, for people."""
    return f"{amount / 100:.2f}"


def counter(ctx: EntityContext, amount: int | None) -> int:
    """A number that is added to (by 1, unless told otherwise), read and reset; each returns the number."""
    count = ctx.get_state(int, 0)
    match ctx.operation:
        case "add":
            count += 1 if amount is None else amount
        case "reset":
            count = 0
        case "get":
            return count
        case unknown:
            raise ValueError(f"a counter can add, get and reset, and not {unknown}")
    ctx.set_state(count)
    return count


TRANSFERS = EntityInstanceId("counter", "transfers")
"""Counts the transfers that moved money."""


@dataclass(frozen=True)
class TransferOrder:
    """How much to move, in cents, from which account to which."""

    source: str
    target: str
    amount: int


@dataclass(frozen=True)
class TransferResult:
    """How a transfer ended.

    Attributes
    ----------
    status : str
        ``"completed"`` or ``"refused"``.
    reason : str | None
        Why it was refused; nothing was moved then.
    """

    status: str
    reason: str | None = None


def transfer(ctx: OrchestrationContext, order: TransferOrder) -> Generator[Task[Any], Any, TransferResult]:
    """Move money from one account to another, or leave both as they are."""
    checked(order.amount)
    if order.source == order.target:
        raise AccountError(f"account {order.source} cannot transfer to itself")
    source, target = EntityInstanceId("account", order.source), EntityInstanceId("account", order.target)
    ctx.set_custom_status("waiting")
    with (yield ctx.lock_entities([source, target])):
        ctx.set_custom_status("checking")
        looks: list[Task[Any]] = [
            ctx.call_entity(account, "look", return_type=AccountState) for account in (source, target)
        ]
        giver, taker = yield when_all(looks)
        reason = refusal(order, giver, taker)
        if reason is None:
            ctx.set_custom_status("moving")
            # All of this in one turn: see the top of this module.
            withdrawal = ctx.call_entity(source, "withdraw", order.amount)
            deposit = ctx.call_entity(target, "deposit", order.amount)
            ctx.signal_entity(TRANSFERS, "add", 1)
            yield when_all([withdrawal, deposit])
    result = TransferResult("completed") if reason is None else TransferResult("refused", reason)
    ctx.create_replay_safe_logger(logger).info("transfer %s is %s", ctx.instance_id, result.status)
    ctx.set_custom_status(result.status)
    return result


def refusal(order: TransferOrder, giver: AccountState | None, taker: AccountState | None) -> str | None:
    """Why a transfer cannot be done; None if it can."""
    for name, state in ((order.source, giver), (order.target, taker)):
        if state is None or state.closed:
            return f"account {name} {'does not exist' if state is None else 'is closed'}"
    assert giver is not None
    if giver.balance < order.amount:
        return f"account {order.source} has {euros(giver.balance)}, and not {euros(order.amount)}"
    return None


ORCHESTRATORS = (transfer,)
ACTIVITIES = ()
ENTITIES = (Account, counter)
