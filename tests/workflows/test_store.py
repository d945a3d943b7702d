"""The store: each effect once, whoever delivers it, however often.

The tests use a new SQLite file each. For another database, which they empty before each test::

    STORE_TEST_URL=postgresql+psycopg://user@host/name pytest tests/workflows/test_store.py -p no:xdist
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from effects import contents, keys
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlalchemy import text as sql
from sqlalchemy.exc import IntegrityError, NoResultFound, SQLAlchemyError

from workflows.settings import SettingsError
from workflows.store import Base, Document, LedgerEntry, Message, Store, StoreError, Undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

NOON = "2026-03-29 12:00:00"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database without rows."""
    given_url = os.environ.get("STORE_TEST_URL")
    if given_url is None:
        return f"sqlite:///{tmp_path / 'tested.db'}"
    with closing(Store(given_url)) as store:
        clear(store)
    return given_url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(Store(url)) as opened:
        yield opened


def drop_tables(url: str) -> None:
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    engine.dispose()


def clear(store: Store) -> None:
    with store.session() as session:
        for table in Base.metadata.sorted_tables:
            session.execute(table.delete())


def say(text: str) -> Callable[[Session], str]:
    """An effect: a message, and its text in capitals as the result."""

    def do(session: Session) -> str:
        session.add(Message(recipient="ana", text=text))
        return text.upper()

    return do


def take_back(session: Session, result: str) -> None:
    """Undoes `say`, with a message of its own."""
    session.add(Message(recipient="ana", text=f"not {result}"))


def said(store: Store) -> list[str]:
    return [text for _, text in contents(store).get("outbox", [])]


class TestOnce:
    def test_an_effect_is_there_with_its_key(self, store: Store) -> None:
        assert store.once("k", say("hello")) == "HELLO"
        assert (said(store), keys(store)) == (["hello"], ["k"])

    def test_the_same_key_gives_the_first_result_and_does_nothing(self, store: Store) -> None:
        store.once("k", say("hello"))
        assert store.once("k", say("again")) == "HELLO"
        assert said(store) == ["hello"]

    def test_another_key_is_another_effect(self, store: Store) -> None:
        store.once("k/1", say("one"))
        store.once("k/2", say("two"))
        assert said(store) == ["one", "two"]

    @pytest.mark.parametrize("result", [None, 0, "", "text", 1.5, True, [], {"a": [1, None]}])
    def test_a_result_is_kept_as_it_is(self, store: Store, result: Any) -> None:
        first = store.once("k", lambda _: result)
        again = store.once("k", lambda _: pytest.fail("done twice"))
        assert (first, again) == (result, result)

    def test_an_effect_outlives_the_store(self, url: str) -> None:
        for text in ("hello", "again"):
            with closing(Store(url)) as store:
                assert store.once("k", say(text)) == "HELLO"

    @pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(1)])
    def test_an_exception_undoes_the_effect_and_its_key(self, store: Store, error: BaseException) -> None:
        def half(session: Session) -> None:
            say("half")(session)
            session.flush()
            raise error

        with pytest.raises(type(error)):
            store.once("k", half)
        assert (said(store), keys(store)) == ([], [])
        assert store.once("k", say("whole")) == "WHOLE"
        assert said(store) == ["whole"]

    def test_a_result_that_json_cannot_hold_undoes_the_effect(self, store: Store) -> None:
        def do(session: Session) -> Any:
            say("hello")(session)
            return object()

        with pytest.raises(Exception, match="JSON"):
            store.once("k", do)
        assert (said(store), keys(store)) == ([], [])

    def test_a_row_that_the_database_refuses_is_an_error_in_the_end(self, store: Store) -> None:
        def collide(session: Session) -> None:
            session.add_all([Document(name="same", body=1), Document(name="same", body=2)])
            session.flush()

        with pytest.raises(IntegrityError):
            store.once("k", collide)
        assert (contents(store), keys(store)) == ({}, [])

    def test_any_interleaving_of_deliveries_leaves_what_one_delivery_leaves(self, url: str) -> None:
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            deliveries=st.lists(
                st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["done", "lost", "failed"])),
                max_size=12,
            )
        )
        def check(deliveries: list[tuple[str, str]]) -> None:
            with closing(Store(url)) as store:
                clear(store)
                succeeded = set()
                for key, outcome in deliveries:

                    def do(session: Session, key: str = key, outcome: str = outcome) -> str:
                        result = say(key)(session)
                        if outcome == "failed":
                            raise RuntimeError("no")
                        return result

                    with suppress(RuntimeError):
                        assert store.once(key, do) == key.upper()
                        succeeded.add(key)
                assert (said(store), keys(store)) == (sorted(succeeded), sorted(succeeded))

        check()


class TestUndo:
    def test_an_effect_is_undone_once_with_what_it_returned(self, store: Store) -> None:
        store.once("k", say("hello"))
        assert [store.undo("k", take_back) for _ in range(2)] == [True, True]
        assert (said(store), keys(store)) == (["hello", "not HELLO"], ["k"])

    def test_an_effect_that_was_undone_is_not_done_again(self, store: Store) -> None:
        store.once("k", say("hello"))
        store.undo("k", take_back)
        assert store.once("k", say("again")) == "HELLO"
        assert said(store) == ["hello", "not HELLO"]

    def test_where_there_is_no_effect_there_is_nothing_to_undo(self, store: Store) -> None:
        assert [store.undo("k", take_back) for _ in range(2)] == [False, False]
        assert (contents(store), keys(store)) == ({}, ["k"])

    def test_an_effect_that_comes_after_its_undoing_is_refused_each_time(self, store: Store) -> None:
        store.undo("k", take_back)
        for _ in range(2):
            with pytest.raises(Undone, match=r"^'k' was undone before it could be done"):
                store.once("k", say("late"))
        assert store.undo("k", take_back) is False
        assert contents(store) == {}

    def test_the_effect_of_another_key_stays(self, store: Store) -> None:
        store.once("k/1", say("one"))
        store.undo("k/2", take_back)
        assert said(store) == ["one"]

    def test_what_cannot_be_undone_is_undone_by_the_next_attempt(self, store: Store) -> None:
        def half(session: Session, result: str) -> None:
            take_back(session, result)
            session.flush()
            raise RuntimeError("no")

        store.once("k", say("hello"))
        with pytest.raises(RuntimeError, match="no"):
            store.undo("k", half)
        assert said(store) == ["hello"]
        assert store.undo("k", take_back) is True
        assert said(store) == ["hello", "not HELLO"]

    def test_any_interleaving_of_deliveries_leaves_the_effect_undone_or_never_done(self, url: str) -> None:
        deliveries = st.lists(st.sampled_from(["once", "undo"]), min_size=1, max_size=8)

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(deliveries)
        def check(deliveries: list[str]) -> None:
            with closing(Store(url)) as store:
                clear(store)
                undone = set()
                for delivery in deliveries:
                    if delivery == "undo":
                        undone.add(store.undo("k", take_back))
                    else:
                        with suppress(Undone):
                            store.once("k", say("hello"))
                done = deliveries[0] == "once"
                assert undone == ({done} if "undo" in deliveries else set())
                assert said(store) == ["hello"] * done + ["not HELLO"] * (done and bool(undone))

        check()

    def test_of_many_threads_that_do_and_undo_it_at_once_none_leaves_it_half_done(self, store: Store) -> None:
        together = threading.Barrier(8)

        def deliver(number: int) -> bool | None:
            together.wait()
            for round in range(10):
                if number % 2:
                    undone[round].add(store.undo(f"k/{round}", take_back))
                else:
                    with suppress(Undone):
                        store.once(f"k/{round}", say("hello"))

        undone: list[set[bool]] = [set() for _ in range(10)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(deliver, range(8)))
        assert all(len(answers) == 1 for answers in undone)
        times = sum(map(sum, undone))
        assert said(store) == ["hello"] * times + ["not HELLO"] * times

    def test_who_undoes_what_is_being_done_waits_and_undoes_it(self, store: Store) -> None:
        started, go_on = threading.Event(), threading.Event()

        def slowly(session: Session) -> str:
            started.set()
            assert go_on.wait(20)
            return say("hello")(session)

        with ThreadPoolExecutor(2) as threads:
            step = threads.submit(store.once, "k", slowly)
            assert started.wait(20)
            undone = threads.submit(store.undo, "k", take_back)
            go_on.set()
            assert (step.result(20), undone.result(20)) == ("HELLO", True)
        assert said(store) == ["hello", "not HELLO"]


class TestAtTheSameTime:
    def test_of_many_threads_with_one_key_one_does_it(self, store: Store) -> None:
        together = threading.Barrier(8)

        def deliver(number: int) -> str:
            together.wait()
            return store.once("k", say(f"thread {number}"))

        with ThreadPoolExecutor(8) as threads:
            results = set(threads.map(deliver, range(8)))
        (message,) = said(store)
        assert results == {message.upper()}

    def test_threads_with_keys_of_their_own_all_do_it(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(
                threads.map(
                    lambda number: store.once(f"k/{number % 20}", say(f"{number % 20:02}")), range(60)
                )
            )
        assert said(store) == [f"{number:02}" for number in range(20)]

    def test_threads_that_write_the_same_row_under_different_keys_all_succeed(self, store: Store) -> None:
        together = threading.Barrier(6)

        def publish(number: int) -> None:
            together.wait()
            store.publish(f"k/{number}", "report", {"sum": 1})

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(publish, range(6)))
        assert (contents(store), len(keys(store))) == ({"documents": [("report", {"sum": 1})]}, 6)

    def test_who_comes_while_it_is_being_done_waits_for_its_result(self, store: Store) -> None:
        started, go_on = threading.Event(), threading.Event()

        def slowly(session: Session) -> str:
            started.set()
            assert go_on.wait(20)
            return say("first")(session)

        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(store.once, "k", slowly)
            assert started.wait(20)
            second = threads.submit(store.once, "k", say("second"))
            assert not second.done()
            go_on.set()
            assert (first.result(20), second.result(20)) == ("FIRST", "FIRST")
        assert said(store) == ["first"]

    def test_who_waits_does_it_when_the_other_fails(self, store: Store) -> None:
        started, go_on = threading.Event(), threading.Event()

        def fail(session: Session) -> str:
            say("first")(session)
            started.set()
            assert go_on.wait(20)
            raise RuntimeError("no")

        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(store.once, "k", fail)
            assert started.wait(20)
            second = threads.submit(store.once, "k", say("second"))
            go_on.set()
            assert second.result(20) == "SECOND"
            with pytest.raises(RuntimeError, match="no"):
                first.result(20)
        assert said(store) == ["second"]

    @pytest.mark.skipif(sys.platform == "win32", reason="no signals")
    @pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
    def test_a_process_that_is_stopped_in_the_middle_leaves_nothing(self, url: str, name: str) -> None:
        program = """
import os, signal, sys
from workflows.store import Message, Store
def do(session):
    session.add(Message(recipient="ana", text="half"))
    session.flush()
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
Store(sys.argv[1]).once("k", do)
"""
        done = subprocess.run([sys.executable, "-c", program, url, name], capture_output=True, check=False)
        assert done.returncode == -getattr(signal, name)
        with closing(Store(url)) as store:
            assert (said(store), keys(store)) == ([], [])
            assert store.once("k", say("whole")) == "WHOLE"

    def test_two_processes_that_start_at_once_do_each_effect_once(self, url: str) -> None:
        program = """
import sys
from workflows.store import Store
store = Store(sys.argv[1])
for number in range(40):
    store.notify(f"k/{number}", "ana", f"{number:02}")
store.close()
"""
        processes = [
            subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
        with closing(Store(url)) as store:
            assert said(store) == [f"{number:02}" for number in range(40)]


class TestVerbs:
    """Every verb: what it writes, and that it writes it once."""

    @pytest.mark.parametrize(
        ("verb", "left"),
        [
            (
                lambda store: store.reserve("k", "RES-1", "desk", 2),
                {"orders": [("RES-1", "desk", 2, "reserved")]},
            ),
            (lambda store: store.book("k", "PAY-1", -5_00), {"ledger": [("PAY-1", -5_00)]}),
            (
                lambda store: store.ship("k", "TRACK-1", "desk", 2, "2 Hill Road"),
                {"shipments": [("TRACK-1", "desk", 2, "2 Hill Road", "sent")]},
            ),
            (lambda store: store.notify("k", "ana", "hello"), {"outbox": [("ana", "hello")]}),
            (
                lambda store: store.import_rows("k", "s.csv", {2: ("a", 1), 5: ("b", 0)}),
                {"stock": [("s.csv", 2, "a", 1), ("s.csv", 5, "b", 0)]},
            ),
            (lambda store: store.import_rows("k", "s.csv", {}), {}),
            (
                lambda store: store.publish("k", "report", {"sum": [1]}),
                {"documents": [("report", {"sum": [1]})]},
            ),
        ],
        ids=["reserve", "book", "ship", "notify", "import_rows", "import_rows-none", "publish"],
    )
    def test_it_writes_once(
        self, store: Store, verb: Callable[[Store], Any], left: dict[str, list[tuple[Any, ...]]]
    ) -> None:
        assert verb(store) == verb(store)
        assert (contents(store), keys(store)) == (left, ["k"])

    def test_an_order_goes_from_reserved_to_confirmed_with_a_message(self, store: Store) -> None:
        store.reserve("1", "RES-1", "desk", 2)
        for _ in range(2):
            store.confirm("2", "RES-1", "ana", "it comes")
        assert contents(store) == {
            "orders": [("RES-1", "desk", 2, "confirmed")],
            "outbox": [("ana", "it comes")],
        }

    def test_what_was_released_stays_released_when_the_reservation_comes_again(self, store: Store) -> None:
        store.reserve("1", "RES-1", "desk", 2)
        store.release("1")
        store.reserve("1", "RES-1", "desk", 2)
        assert store.order_status("RES-1") == "released"

    def test_an_order_that_is_started_anew_replaces_the_reservation(self, store: Store) -> None:
        store.reserve("1", "RES-1", "desk", 2)
        store.release("1")
        store.reserve("2", "RES-1", "desk", 1)
        assert contents(store) == {"orders": [("RES-1", "desk", 1, "reserved")]}

    def test_a_reservation_that_was_replaced_is_not_released_by_an_order_that_could_not_reserve(
        self, store: Store
    ) -> None:
        store.reserve("1", "RES-1", "desk", 2)
        assert store.release("2") is False
        assert store.order_status("RES-1") == "reserved"

    @pytest.mark.parametrize(
        ("step", "undo", "left"),
        [
            (
                lambda store: store.reserve("k", "RES-1", "desk", 2),
                lambda store: store.release("k"),
                {"orders": [("RES-1", "desk", 2, "released")]},
            ),
            (
                lambda store: store.book("k", "PAY-1", 5_00),
                lambda store: store.reverse("k"),
                {"ledger": [("PAY-1", -5_00), ("PAY-1", 5_00)]},
            ),
            (
                lambda store: store.ship("k", "TRACK-1", "desk", 2, "2 Hill Road"),
                lambda store: store.call_back("k"),
                {"shipments": [("TRACK-1", "desk", 2, "2 Hill Road", "called back")]},
            ),
            (
                lambda store: store.confirm("k", "RES-0", "ana", "it comes"),
                lambda store: store.retract("k", "it does not"),
                {"outbox": [("ana", "it comes"), ("ana", "it does not")]},
            ),
        ],
        ids=["release", "reverse", "call_back", "retract"],
    )
    def test_a_step_is_undone_once_and_one_that_was_not_done_cannot_be_done_any_more(
        self,
        store: Store,
        step: Callable[[Store], Any],
        undo: Callable[[Store], bool],
        left: dict[str, list[tuple[Any, ...]]],
    ) -> None:
        store.reserve("0", "RES-0", "lamp", 1)
        step(store)
        assert [undo(store) for _ in range(2)] == [True, True]
        found = contents(store)
        found["orders"] = [row for row in found["orders"] if row[0] != "RES-0"]
        assert {table: rows for table, rows in found.items() if rows} == left

        clear(store)
        assert [undo(store) for _ in range(2)] == [False, False]
        with pytest.raises(Undone):
            step(store)
        assert contents(store) == {}

    def test_an_order_that_is_not_there_cannot_be_confirmed(self, store: Store) -> None:
        with pytest.raises(NoResultFound):
            store.confirm("k", "RES-9", "ana", "it comes")
        assert (contents(store), keys(store)) == ({}, [])

    def test_a_later_document_takes_the_place_of_the_earlier(self, store: Store) -> None:
        store.publish("1", "report", {"sum": 1})
        store.publish("2", "report", {"sum": 2})
        assert contents(store) == {"documents": [("report", {"sum": 2})]}

    def test_the_status_of_an_order_that_is_not_there_is_none(self, store: Store) -> None:
        assert store.order_status("RES-9") is None

    def test_amounts_may_be_larger_than_four_bytes(self, store: Store) -> None:
        store.book("k", "PAY-1", 10**12)
        assert contents(store) == {"ledger": [("PAY-1", 10**12)]}


class TestTime:
    def test_what_is_written_bears_the_time_of_the_clock_as_naive_utc(self, store: Store) -> None:
        with freeze_time(f"{NOON[:11]}14:00:00+02:00"):
            store.notify("1", "ana", "hello")
            store.book("2", "PAY-1", 1)
            store.publish("3", "report", {})
        with store.session() as session:
            stamps = [
                session.scalars(select(column)).one()
                for column in (Message.written_at, LedgerEntry.booked_at, Document.published_at)
            ]
        assert stamps == [datetime.fromisoformat(NOON)] * 3

    def test_a_delivery_that_comes_later_does_not_change_the_time(self, store: Store) -> None:
        for moment in (NOON, "2026-03-30"):
            with freeze_time(moment):
                store.notify("1", "ana", "hello")
        with store.session() as session:
            assert session.scalars(select(Message.written_at)).all() == [datetime.fromisoformat(NOON)]

    def test_the_turnover_is_that_from_one_moment_up_to_another(self, store: Store) -> None:
        for day, amount in enumerate((1, 10, 100, -1000), start=1):
            with freeze_time(datetime(2026, 3, day)):
                store.book(f"{day}", "PAY-1", amount)
        assert store.turnover(datetime(2026, 3, 2), datetime(2026, 3, 4)) == 110
        assert store.turnover(datetime(2026, 3, 1), datetime(2026, 4, 1)) == -889

    def test_the_turnover_is_a_whole_number_also_where_there_was_none(self, store: Store) -> None:
        store.book("k", "PAY-1", 5)
        for year, amount in ((2000, 0), (datetime.now().year, 5)):
            turnover = store.turnover(datetime(year, 1, 1), datetime(year + 2, 1, 1))
            assert (type(turnover), turnover) == (int, amount)


def refusal(url: str, kind: type[Exception]) -> str:
    """What somebody is told who cannot open a database; it must be one line."""
    with pytest.raises(kind) as caught:
        Store(url)
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message
    assert message.endswith(".")
    return message


class TestOpening:
    def test_the_tables_and_the_directory_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "new.db"
        with closing(Store(f"sqlite:///{path}")) as store:
            assert contents(store) == {}
        assert path.exists()

    def test_the_address_is_shown_without_the_password(self, tmp_path: Path) -> None:
        with closing(Store(f"sqlite:///{tmp_path / 'x.db'}")) as store:
            assert store.url == f"sqlite:///{tmp_path / 'x.db'}"

    def test_the_address_is_shown_without_the_query(self, tmp_path: Path) -> None:
        with closing(Store(f"sqlite:///{tmp_path / 'x.db'}?timeout=5")) as store:
            assert store.url == f"sqlite:///{tmp_path / 'x.db'}"

    def test_a_database_that_cannot_be_opened_is_named_without_the_query(self, tmp_path: Path) -> None:
        message = refusal(f"sqlite:///{tmp_path}?timeout=5", StoreError)
        assert f"'sqlite:///{tmp_path}' cannot be opened" in message

    def test_an_error_does_not_tell_what_was_to_be_written(self, store: Store) -> None:
        with store.session() as session:
            session.execute(sql("DROP TABLE outbox"))
        with pytest.raises(SQLAlchemyError) as caught:
            store.notify("k", "ana", "1 Harbour Street")
        assert "outbox" in str(caught.value)
        assert "1 Harbour Street" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "workflows.db",
            "sqlite:workflows.db",
            "://",
            "postgresql+psycopg://ana:s3cret@host:port/name",
        ],
    )
    def test_what_is_no_url_is_told_with_a_right_one(self, url: str) -> None:
        message = refusal(url, SettingsError)
        assert message.startswith("DATABASE_URL is not usable")
        assert "sqlite:///workflows.db" in message

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("nonsense://ana:s3cret@host/name", "nonsense"),
            ("mysql+mysqldb://ana:s3cret@host/name", "No module named 'MySQLdb'"),
        ],
    )
    def test_a_database_without_a_driver_is_told_with_the_reason(self, url: str, why: str) -> None:
        assert why in refusal(url, SettingsError)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_a_database_in_memory_is_refused(self, url: str) -> None:
        assert "in memory" in refusal(url, SettingsError)

    def test_a_directory_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        assert str(tmp_path / "taken") in refusal(f"sqlite:///{tmp_path}/taken/x.db", StoreError)

    def test_a_directory_in_the_place_of_the_file_is_an_error(self, tmp_path: Path) -> None:
        message = refusal(f"sqlite:///{tmp_path}", StoreError)
        assert f"'sqlite:///{tmp_path}' cannot be opened (unable to open database file)" in message

    def test_a_file_that_is_no_database_is_an_error_and_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear ana, " * 200)
        assert "file is not a database" in refusal(f"sqlite:///{path}", StoreError)
        assert path.read_text() == "Dear ana, " * 200

    def test_an_argument_of_the_wrong_kind_is_an_error(self, tmp_path: Path) -> None:
        assert "soon" in refusal(f"sqlite:///{tmp_path}/x.db?timeout=soon", SettingsError)

    @pytest.mark.skipif(
        not os.environ.get("STORE_TEST_URL", "").startswith("postgresql"), reason="needs the driver"
    )
    def test_a_server_that_is_not_there_is_told_without_the_password(self) -> None:
        message = refusal("postgresql+psycopg://ana:s3cret@127.0.0.1:1/name", StoreError)
        assert "'postgresql+psycopg://ana:***@127.0.0.1:1/name' cannot be opened" in message

    def test_stores_that_open_a_new_database_at_once_all_open(self, url: str) -> None:
        drop_tables(url)
        together = threading.Barrier(6)

        def open_and_write(number: int) -> None:
            together.wait()
            with closing(Store(url)) as store:
                store.notify(f"k/{number}", "ana", f"{number}")

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(open_and_write, range(6)))
        with closing(Store(url)) as store:
            assert said(store) == [f"{number}" for number in range(6)]


@pytest.mark.skipif("STORE_TEST_URL" in os.environ, reason="is about SQLite")
def test_a_commit_is_on_the_disk_before_it_is_told(store: Store) -> None:
    full = 2
    with store.session() as session:
        assert session.connection().exec_driver_sql("PRAGMA synchronous").scalar() == full


def test_a_database_that_is_closed_twice_is_closed(store: Store) -> None:
    store.close()
    store.close()
