"""The store: what the activities do to the world, each thing once.

A task hub delivers an activity *at least* once: a worker may die after the work is done and before the hub
hears of it, and then another does it again. So each effect has a key, which the orchestrator makes and hands
to the activity, and `Store.once` writes the effect and its key in one transaction. Whoever comes later with
the same key gets the first result and changes nothing. The same key undoes it: an activity that failed may
have done its work all the same, or may be at it yet, so `Store.undo` looks whether the effect is there, and
keeps it from coming later if it is not.

What makes a good key
    It has to be the same for every delivery of one effect, and different for another effect.

    - ``ctx.new_uuid()``, drawn at the start of an orchestration, is the same on every replay, so every retry
      and every redelivery of an activity gets it; append the name of the step.
    - A sub-orchestration that is retried is another run and draws another uuid: its parent makes the key.
    - ``continue_as_new`` starts another run, too, and the ids of tasks start again at 1 (so an id such as
      ``ctx.task_id`` is no key): carry a number in the input from run to run.

The default is an SQLite file. ``DATABASE_URL`` names another database, such as
``postgresql+psycopg://user@host/name``, as SQLAlchemy takes it.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import JSON, BigInteger, Engine, Integer, create_engine, event, func, make_url, select
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from workflows.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_BUSY_SECONDS = 30
_ATTEMPTS = 2


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Undone(Exception):
    """What is to be done was undone before it came, and is not done any more."""


def utcnow() -> datetime:
    """The time of the clock, naive UTC. For activities: an orchestrator asks its context."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


class Base(DeclarativeBase):
    """The tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        Any: JSON,
        int: BigInteger().with_variant(Integer, "sqlite"),
    }


class Effect(Base):
    """Something that was done, and what came of it.

    Its status is ``"done"``, ``"undone"``, or ``"void"`` if it was undone before it came.
    """

    __tablename__ = "effects"
    key: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[Any]
    status: Mapped[str] = mapped_column(default="done")
    done_at: Mapped[datetime] = mapped_column(default=utcnow)


class Order(Base):
    """An order, and how far it has come: ``"reserved"``, ``"confirmed"`` or ``"released"``."""

    __tablename__ = "orders"
    reservation: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]
    status: Mapped[str]


class LedgerEntry(Base):
    """Money that moved, in cents. What came in is positive, what went out is negative."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    reference: Mapped[str] = mapped_column(index=True)
    amount: Mapped[int]
    booked_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class Shipment(Base):
    """A parcel, ``"sent"`` or ``"called back"``."""

    __tablename__ = "shipments"
    tracking_number: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]
    address: Mapped[str]
    status: Mapped[str]


class Message(Base):
    """The outbox: a message to someone, for a mailer to send."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    recipient: Mapped[str] = mapped_column(index=True)
    text: Mapped[str]
    written_at: Mapped[datetime] = mapped_column(default=utcnow)


class Stock(Base):
    """A row of an import."""

    __tablename__ = "stock"
    source: Mapped[str] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    quantity: Mapped[int]


class Document(Base):
    """Something that was published: a summary, a decision, a report."""

    __tablename__ = "documents"
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[Any]
    published_at: Mapped[datetime] = mapped_column(default=utcnow)


class Store:
    """The tables of one database. Any number of threads and processes may use it.

    Parameters
    ----------
    url : str
        A database, as SQLAlchemy names it. The tables, and the directory of an SQLite file, are made if they
        are not there.

    Raises
    ------
    SettingsError
        If the URL is malformed, or its database has no driver here.
    StoreError
        If the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        usable = (
            "a right one is 'sqlite:///workflows.db', or 'postgresql+psycopg://user:password@host/name' with "
            "the package psycopg."
        )
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # which may repeat the URL, and so a password
            raise SettingsError(f"DATABASE_URL is not usable, as it is no URL: {usable}") from None
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database in (None, "", ":memory:"):
            raise SettingsError(
                f"DATABASE_URL names a database in memory, which no two threads would share: {usable}"
            )
        try:
            if sqlite:
                Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            arguments = {"timeout": _BUSY_SECONDS} if sqlite else {}
            # Errors are kept in histories: without what was to be written, such as names and addresses.
            self._engine = create_engine(
                parsed, connect_args=arguments, pool_pre_ping=not sqlite, hide_parameters=True
            )
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            raise SettingsError(f"DATABASE_URL is not usable ({error}): {usable}") from None
        except OSError as error:
            raise StoreError(f"The directory of the database cannot be made: {error}.") from error
        shown = parsed.set(query={}).render_as_string(hide_password=True)  # a query may hold secrets, too
        if sqlite:
            _prepare_sqlite(self._engine)
        try:
            self._create_tables()
        except (SQLAlchemyError, TypeError) as error:  # the latter: an argument that the driver does not know
            self.close()
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise StoreError(
                f"The database {shown!r} cannot be opened ({reason}): check DATABASE_URL and the server."
            ) from error
        except BaseException:
            self.close()
            raise
        self.url = shown

    def _create_tables(self) -> None:
        """Make the tables. Whoever is told of one that is there by now looks again: two may start at once."""
        for _ in range(_ATTEMPTS):
            with suppress(IntegrityError, ProgrammingError), self._engine.begin() as connection:
                return Base.metadata.create_all(connection)
        with self._engine.begin() as connection:
            return Base.metadata.create_all(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, undone if the block raises."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def once(self, key: str, do: Callable[[Session], T]) -> T:
        """Do something, unless it has been done.

        Parameters
        ----------
        key : str
            What tells this effect from all others; see the top of this module.
        do : Callable[[Session], T]
            Does it, with the session of the transaction, and returns what JSON can hold. What it raises
            undoes everything, the key too: the next attempt does it.

        Returns
        -------
        T
            What `do` returned the first time.

        Raises
        ------
        Undone
            If `undo` came first.
        """
        return _again(lambda: self._once(key, do))

    def _once(self, key: str, do: Callable[[Session], T]) -> T:
        with self.session() as session:
            effect = session.get(Effect, key)
            if effect is None:
                effect = Effect(key=key, result=None)
                session.add(effect)
                session.flush()  # whoever else is at it waits here, or is told that the key is taken
                effect.result = do(session)
            elif effect.status == "void":
                raise Undone(f"{key!r} was undone before it could be done, so it is not done any more.")
            result: T = effect.result
            return result

    def undo(self, key: str, do: Callable[[Session, Any], object]) -> bool:
        """Undo what `once` did with this key. If it did nothing, whoever comes later with the key is refused.

        Parameters
        ----------
        key : str
            The key of the effect.
        do : Callable[[Session, Any], object]
            Undoes it, with the session of the transaction and what `once` returned.

        Returns
        -------
        bool
            Whether there was anything to undo; the same each time.
        """
        return _again(lambda: self._undo(key, do))

    def _undo(self, key: str, do: Callable[[Session, Any], object]) -> bool:
        with self.session() as session:
            effect = session.get(Effect, key, with_for_update=True)
            if effect is None:
                effect = Effect(key=key, result=None, status="void")
                session.add(effect)  # if it is being done just now, this fails, and looks again
            elif effect.status == "done":
                do(session, effect.result)
                effect.status = "undone"
            return effect.status == "undone"

    # -- what is done once for each key, and undone by that key: see `once` and `undo`

    def reserve(self, key: str, reservation: str, item: str, quantity: int) -> str:
        """Set pieces aside. A reservation of the same name is replaced: the order was started anew."""

        def do(session: Session) -> str:
            session.merge(Order(reservation=reservation, item=item, quantity=quantity, status="reserved"))
            return reservation

        return self.once(key, do)

    def release(self, key: str) -> bool:
        """Put the pieces back that `reserve` set aside with this key; returns whether it did."""

        def do(session: Session, reservation: str) -> None:
            session.get_one(Order, reservation).status = "released"

        return self.undo(key, do)

    def confirm(self, key: str, reservation: str, recipient: str, text: str) -> None:
        """Mark an order as confirmed, and tell the customer."""

        def do(session: Session) -> str:
            session.get_one(Order, reservation).status = "confirmed"
            session.add(Message(recipient=recipient, text=text))
            return recipient

        self.once(key, do)

    def retract(self, key: str, text: str) -> bool:
        """Write to whom `confirm` told something with this key; returns whether it did."""
        return self.undo(key, lambda session, told: session.add(Message(recipient=told, text=text)))

    def book(self, key: str, reference: str, amount: int) -> None:
        """Enter money that moved, in cents, into the ledger."""

        def do(session: Session) -> tuple[str, int]:
            session.add(LedgerEntry(reference=reference, amount=amount))
            return reference, amount

        self.once(key, do)

    def reverse(self, key: str) -> bool:
        """Enter the opposite of what `book` entered with this key; returns whether it did."""

        def do(session: Session, booked: tuple[str, int]) -> None:
            reference, amount = booked
            session.add(LedgerEntry(reference=reference, amount=-amount))

        return self.undo(key, do)

    def ship(self, key: str, tracking_number: str, item: str, quantity: int, address: str) -> str:
        """Hand a parcel to the carrier."""

        def do(session: Session) -> str:
            parcel = Shipment(tracking_number=tracking_number, item=item, quantity=quantity)
            parcel.address, parcel.status = address, "sent"
            session.merge(parcel)
            return tracking_number

        return self.once(key, do)

    def call_back(self, key: str) -> bool:
        """Have the parcel brought back that `ship` sent with this key; returns whether it did."""

        def do(session: Session, tracking_number: str) -> None:
            session.get_one(Shipment, tracking_number).status = "called back"

        return self.undo(key, do)

    def notify(self, key: str, recipient: str, text: str) -> None:
        """Put a message into the outbox."""
        self.once(key, lambda session: session.add(Message(recipient=recipient, text=text)))

    def import_rows(self, key: str, source: str, rows: dict[int, tuple[str, int]]) -> None:
        """Write rows of an import, each with its number, its article and its quantity."""

        def do(session: Session) -> None:
            for number, (sku, quantity) in rows.items():
                session.merge(Stock(source=source, row=number, sku=sku, quantity=quantity))

        self.once(key, do)

    def publish(self, key: str, name: str, body: Any) -> None:
        """Publish a document, which JSON can hold; a later one of the same name takes its place."""

        def do(session: Session) -> None:
            session.merge(Document(name=name, body=body))

        self.once(key, do)

    # -- what can be looked up

    def order_status(self, reservation: str) -> str | None:
        """How far an order has come; None if there is none."""
        with self.session() as session:
            order = session.get(Order, reservation)
            return None if order is None else order.status

    def turnover(self, start: datetime, end: datetime) -> int:
        """What was booked from one moment up to another, both naive UTC: the sum, in cents."""
        with self.session() as session:
            when = LedgerEntry.booked_at
            total = select(func.sum(LedgerEntry.amount)).where(when >= start, when < end)
            return int(session.scalar(total) or 0)  # PostgreSQL gives a Decimal


def _again(attempt: Callable[[], T]) -> T:
    """Try, and try again when somebody else wrote the key, or the same row, just now."""
    for _ in range(_ATTEMPTS):
        with suppress(IntegrityError):
            return attempt()
    return attempt()


def _prepare_sqlite(engine: Engine) -> None:
    """Let threads and processes wait for one another, rather than fail; lose nothing in a power cut."""

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself: see `begin`
        with suppress(sqlite3.OperationalError):  # another connection is at it, and does it for all
            connection.execute("PRAGMA journal_mode = WAL")
        # With less, a write-ahead log loses the last commits, of which the hub has been told, in a power cut.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A transaction that reads and then writes has to take the lock first, or two of them deadlock.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
