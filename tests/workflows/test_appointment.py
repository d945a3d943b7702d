"""The appointment: a wall-clock time, reminders before it, and moving and cancelling until it begins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from durabletask.client import OrchestrationStatus
from effects import contents, delivered_twice, keys, run_with_dying_workers
from freezegun import freeze_time
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st

from dt_testkit import TaskHub, assert_replays, drive
from workflows import register
from workflows.appointment import (
    Appointment,
    AppointmentResult,
    NewTime,
    Reminder,
    UnusableTime,
    WallTime,
    appointment,
    in_words,
    remind,
    tell_attendee,
    to_utc,
    utc_of,
)

if TYPE_CHECKING:
    from dt_testkit import Instance
    from workflows.store import Store

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
BERLIN = "Europe/Berlin"
NOON = datetime(2026, 7, 1, 10)  # UTC: noon in Berlin, in summer
DENTIST = Appointment("dentist", "ana", WallTime("2026-07-01T12:00", BERLIN))


def started(hub: TaskHub, wanted: Appointment = DENTIST) -> Instance:
    """An appointment that waits."""
    instance = hub.start(appointment, input=wanted, instance_id="dentist-1")
    hub.settle()
    return instance


def result_of(instance: Instance) -> AppointmentResult:
    return instance.get_output(AppointmentResult)


def until(hub: TaskHub, moment: datetime) -> None:
    hub.advance(moment - hub.now)


def told(store: Store) -> list[str]:
    """What the attendee was told, in order."""
    from sqlalchemy import select

    from workflows.store import Message

    with store.session() as session:
        messages = session.scalars(select(Message).order_by(Message.id))
        return [message.text.removeprefix("The appointment dentist ") for message in messages]


# -- the conversion, held against an oracle that only ever asks what the clocks show at a moment

ZONES = sorted(available_timezones() - {"Factory", "localtime"})


def shown(moment: datetime, zone: str) -> datetime:
    """What the clocks of a zone show at a moment."""
    return moment.replace(tzinfo=timezone.utc).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def changes(zone: str, year: int) -> list[datetime]:
    """The moments of a year at which the clocks of a zone are changed."""

    def offset(moment: datetime) -> timedelta:
        return shown(moment, zone) - moment

    found = []
    day = datetime(year, 1, 1)
    while day.year == year:
        before, after = day, day + 7 * DAY
        day = after
        if offset(before) == offset(after):
            continue
        while after - before > SECOND:
            middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
            before, after = (middle, after) if offset(middle) == offset(before) else (before, middle)
        found.append(after)
    return found


@st.composite
def wall_times(draw: st.DrawFn) -> tuple[datetime, str]:
    """A time in a zone, most often close to where the clocks are changed."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(1975, 2037))
    found = changes(zone, year)
    near = draw(st.sampled_from(found)) if found else datetime(year, 6, 1)
    minutes = draw(st.integers(-300, 300) if found else st.integers(-200_000, 200_000))
    return shown(near, zone) + timedelta(minutes=minutes), zone


@st.composite
def gaps(draw: st.DrawFn) -> tuple[datetime, timedelta, str]:
    """The first time that does not exist, how much longer there are none, and the zone."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(1975, 2037))
    for moment in (moment for n in range(63) for moment in changes(zone, 1975 + (year - 1975 + n) % 63)):
        begin = shown(moment - SECOND, zone) + SECOND
        if shown(moment, zone) > begin:
            return begin, shown(moment, zone) - begin, zone
    return reject()


def moments_of(local: datetime, zone: str) -> list[datetime]:
    """Every moment at which the clocks of a zone show a time."""
    around = (local + n * timedelta(hours=6) for n in range(-8, 9))
    candidates = {local - (shown(moment, zone) - moment) for moment in around}
    return sorted(moment for moment in candidates if shown(moment, zone) == local)


def converted(local: datetime, zone: str) -> datetime:
    return utc_of(WallTime(local.isoformat(), zone))


class TestConversion:
    @pytest.mark.parametrize(
        ("at", "zone", "moment"),
        [
            ("2026-01-15T12:00", BERLIN, "2026-01-15T11:00"),
            ("2026-07-15T12:00", BERLIN, "2026-07-15T10:00"),
            ("2026-07-15T12:00", "UTC", "2026-07-15T12:00"),
            ("2026-07-15T12:00", "Asia/Kathmandu", "2026-07-15T06:15"),
            ("2026-01-01T00:30", "Pacific/Kiritimati", "2025-12-31T10:30"),
            ("2026-07-15T12:00:30.500000", "America/New_York", "2026-07-15T16:00:30.500000"),
        ],
    )
    def test_a_time_that_comes_once(self, at: str, zone: str, moment: str) -> None:
        assert utc_of(WallTime(at, zone)) == datetime.fromisoformat(moment)

    @pytest.mark.parametrize(
        ("at", "zone", "moment", "local"),
        [
            ("2026-03-29T02:00", BERLIN, "2026-03-29T01:00", "2026-03-29T03:00"),
            ("2026-03-29T02:30", BERLIN, "2026-03-29T01:30", "2026-03-29T03:30"),
            ("2026-10-04T02:15", "Australia/Lord_Howe", "2026-10-03T15:45", "2026-10-04T02:45"),
            ("2011-12-30T12:00", "Pacific/Apia", "2011-12-30T22:00", "2011-12-31T12:00"),
        ],
        ids=["gap-begins", "gap", "gap-of-half-an-hour", "gap-of-a-day"],
    )
    def test_a_time_that_does_not_exist_is_moved_by_the_length_of_the_gap(
        self, at: str, zone: str, moment: str, local: str
    ) -> None:
        assert utc_of(WallTime(at, zone)) == datetime.fromisoformat(moment)
        assert shown(utc_of(WallTime(at, zone)), zone) == datetime.fromisoformat(local)

    @pytest.mark.parametrize(
        ("at", "zone", "moment"),
        [
            ("2026-10-25T02:30", BERLIN, "2026-10-25T00:30"),
            ("2026-10-25T03:00", BERLIN, "2026-10-25T02:00"),
            ("2026-11-01T01:59", "America/New_York", "2026-11-01T05:59"),
        ],
    )
    def test_of_a_time_that_comes_twice_the_first_is_meant(self, at: str, zone: str, moment: str) -> None:
        assert utc_of(WallTime(at, zone)) == datetime.fromisoformat(moment)

    @settings(max_examples=150, deadline=None)
    @given(wall_times())
    @example((datetime(2026, 3, 29, 2, 30), BERLIN))
    @example((datetime(2026, 10, 25, 2, 30), BERLIN))
    def test_a_time_that_exists_comes_back_and_is_the_first_that_does(
        self, time: tuple[datetime, str]
    ) -> None:
        local, zone = time
        moments = moments_of(local, zone)
        assume(moments)
        assert converted(local, zone) == moments[0]
        assert shown(converted(local, zone), zone) == local

    @settings(max_examples=150, deadline=None)
    @given(gaps(), st.floats(0, 1, exclude_max=True))
    def test_a_time_that_does_not_exist_comes_back_later_by_the_length_of_the_gap(
        self, gap: tuple[datetime, timedelta, str], place: float
    ) -> None:
        begin, length, zone = gap
        local = begin + timedelta(seconds=int(place * length.total_seconds()))
        assert moments_of(local, zone) == []
        assert shown(converted(local, zone), zone) == local + length

    @settings(max_examples=150, deadline=None)
    @given(wall_times(), st.integers(1, 600))
    def test_of_two_times_that_exist_the_later_is_later(
        self, time: tuple[datetime, str], minutes: int
    ) -> None:
        (local, zone), later = time, time[0] + timedelta(minutes=minutes)
        assume(moments_of(local, zone) and moments_of(later, zone))
        assert converted(local, zone) < converted(later, zone)

    @pytest.mark.parametrize(
        "zone", ["Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "Europe", "a\0b"]
    )
    def test_a_zone_that_is_not_known_is_named(self, zone: Any) -> None:
        with pytest.raises(UnusableTime) as raised:
            utc_of(WallTime("2026-07-01T12:00", zone))
        assert str(raised.value) == f"the time zone {zone!r} is not known: take one like 'Europe/Berlin'"

    @pytest.mark.parametrize("at", ["", "noon", "2026-02-30T12:00", "2026-07-01T25:00", None])
    def test_a_time_that_is_none_is_named(self, at: Any) -> None:
        with pytest.raises(UnusableTime) as raised:
            utc_of(WallTime(at, BERLIN))
        assert str(raised.value) == f"the time {at!r} is not understood: take one like '2026-03-29T09:30'"

    def test_a_time_with_an_offset_is_refused(self) -> None:
        with pytest.raises(UnusableTime, match="has an offset of its own: leave it to Europe/Berlin"):
            utc_of(WallTime("2026-07-01T12:00+02:00", BERLIN))

    @pytest.mark.parametrize(
        ("at", "zone"), [("9999-12-31T23:00", "America/New_York"), ("0001-01-01T01:00", "Asia/Tokyo")]
    )
    def test_a_time_at_the_end_of_the_calendar_is_refused(self, at: str, zone: str) -> None:
        with pytest.raises(UnusableTime, match="is out of range"):
            utc_of(WallTime(at, zone))


class TestItBegins:
    def test_at_its_moment_and_not_before(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        until(task_hub, NOON - MOMENT)
        assert instance.status is OrchestrationStatus.RUNNING
        task_hub.advance(MOMENT)
        assert result_of(instance) == AppointmentResult("begun", NOON.isoformat(), moved=0)

    def test_reminders_come_a_day_and_an_hour_before_it(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        task_hub.run(appointment, input=DENTIST)
        assert [call.time for call in reminder.calls] == [NOON - DAY, NOON - HOUR]
        assert [replace(call.input, key="") for call in reminder.calls] == [
            Reminder("", "ana", "dentist", NOON.isoformat())
        ] * 2

    def test_reminders_that_are_close_to_each_other_are_all_sent(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        month = 30 * DAY.total_seconds()
        task_hub.run(appointment, input=replace(DENTIST, reminders=[month, month + 1, month + 0.001, month]))
        assert len(told(store)) == 3 + 1

    def test_a_reminder_that_cannot_be_sent_at_once_is_sent_a_little_later(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind, side_effect=[OSError("full"), OSError("full"), None, None])
        note = task_hub.stub(tell_attendee, side_effect=[OSError("full"), None])
        assert result_of(task_hub.run(appointment, input=DENTIST)).status == "begun"
        assert [call.attempt for call in reminder.calls] == [1, 2, 3, 1]
        assert [call.time - NOON for call in note.calls] == [timedelta(0), SECOND]

    def test_an_appointment_of_which_nobody_can_be_told_fails(self, task_hub: TaskHub) -> None:
        task_hub.stub(remind, side_effect=OSError("full"))
        instance = task_hub.run(appointment, input=DENTIST)
        assert instance.status is OrchestrationStatus.FAILED
        assert "full" in instance.failure.message

    def test_the_attendee_is_told_when_it_begins(self, task_hub: TaskHub) -> None:
        note = task_hub.stub(tell_attendee)
        task_hub.run(appointment, input=DENTIST)
        (call,) = note.calls
        assert (call.time, call.input.to, call.input.text) == (
            NOON,
            "ana",
            "The appointment dentist begins now.",
        )

    def test_a_reminder_counts_in_hours_that_pass_and_not_in_those_of_the_clock(
        self, task_hub: TaskHub
    ) -> None:
        reminder = task_hub.stub(remind)
        when = WallTime("2026-03-29T12:00", BERLIN)  # the clocks were put forward in the night before
        task_hub.run(appointment, input=replace(DENTIST, when=when))
        assert shown(reminder.calls[0].time, BERLIN) == datetime(2026, 3, 28, 11)

    def test_the_conversion_is_asked_once_and_its_answer_is_in_the_history(self, task_hub: TaskHub) -> None:
        task_hub.stub(to_utc, return_value="2026-02-01T00:00:00")  # what another time zone database says
        instance = task_hub.run(appointment, input=DENTIST)
        assert task_hub.now == datetime(2026, 2, 1)
        assert_replays(instance.history, task_hub)

    @settings(max_examples=60, deadline=None)
    @given(
        minutes=st.integers(1, 400 * 24 * 60),
        reminders=st.lists(st.integers(1, 500 * 24 * 60), max_size=6),
        zone=st.sampled_from(ZONES),
        chunks=st.sampled_from([None, 3]),
    )
    def test_all_reminders_that_are_not_over_come_exactly_then(
        self, minutes: int, reminders: list[int], zone: str, chunks: int | None
    ) -> None:
        hub = TaskHub(maximum_timer_interval=None if chunks is None else chunks * DAY)
        hub.add_orchestrator(appointment)
        hub.add_activity(to_utc)
        reminder, note = hub.stub(remind), hub.stub(tell_attendee)
        start = hub.now
        local = shown(start + timedelta(minutes=minutes), zone)
        moment = converted(local, zone)
        assume(moment > start)
        when = WallTime(local.isoformat(), zone)
        seconds = [minutes * 60.0 for minutes in reminders]
        hub.run(appointment, input=Appointment("x", "ana", when, seconds))
        due = sorted(moment - timedelta(minutes=before) for before in {*reminders})
        assert [call.time for call in reminder.calls] == [at for at in due if at >= start]
        assert [call.time for call in note.calls] == [moment]

    def test_the_custom_status_tells_what_comes_next(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        at = NOON.isoformat()
        seen = [instance.custom_status]
        for moment in (NOON - DAY, NOON - HOUR, NOON):
            until(task_hub, moment)
            seen.append(instance.custom_status)
        assert seen == [
            {"status": "waiting", "at": at, "next": "reminder"},
            {"status": "waiting", "at": at, "next": "reminder"},
            {"status": "waiting", "at": at, "next": "begin"},
            {"status": "begun", "at": at},
        ]


class TestThePast:
    def test_reminders_in_the_past_are_left_out(self) -> None:
        hub = TaskHub(start_time=NOON - 2 * HOUR)
        register(hub)
        reminder = hub.stub(remind)
        hub.run(appointment, input=DENTIST)
        assert [call.time for call in reminder.calls] == [NOON - HOUR]

    @pytest.mark.parametrize("seconds", [1e12, 1e20, float("inf")])
    def test_a_reminder_that_would_be_before_all_days_is_left_out(
        self, task_hub: TaskHub, seconds: float
    ) -> None:
        reminder = task_hub.stub(remind)
        done = task_hub.run(appointment, input=replace(DENTIST, reminders=[seconds, 60.0]))
        assert done.status is OrchestrationStatus.COMPLETED
        assert [call.time for call in reminder.calls] == [NOON - timedelta(minutes=1)]

    def test_a_reminder_that_is_due_at_once_is_sent_at_once(self) -> None:
        hub = TaskHub(start_time=NOON - HOUR)
        register(hub)
        reminder = hub.stub(remind)
        started(hub)
        assert [call.time for call in reminder.calls] == [NOON - HOUR]

    def test_an_appointment_in_the_past_is_missed(self, store: Store) -> None:
        hub = TaskHub(start_time=NOON + MOMENT)
        register(hub)
        instance = hub.run(appointment, input=DENTIST)
        assert result_of(instance) == AppointmentResult("missed", NOON.isoformat(), moved=0)
        assert told(store) == ["would have been in the past."]

    def test_an_appointment_at_this_moment_begins(self) -> None:
        hub = TaskHub(start_time=NOON)
        register(hub)
        assert result_of(hub.run(appointment, input=DENTIST)).status == "begun"


class TestUnusable:
    @pytest.mark.parametrize(
        ("when", "message"),
        [
            (WallTime("2026-07-01T12:00", "Europe/Atlantis"), "the time zone 'Europe/Atlantis' is not known"),
            (WallTime("at noon", BERLIN), "the time 'at noon' is not understood"),
        ],
    )
    def test_an_appointment_at_no_time_fails_in_one_sentence(
        self, task_hub: TaskHub, store: Store, when: WallTime, message: str
    ) -> None:
        instance = task_hub.run(appointment, input=replace(DENTIST, when=when))
        assert instance.status is OrchestrationStatus.FAILED
        assert message in instance.failure.message
        assert contents(store) == {}

    @pytest.mark.parametrize("reminders", [[-1.0], [60.0, 0.0]])
    def test_a_reminder_that_would_not_come_before_it_is_refused(
        self, task_hub: TaskHub, reminders: list[float]
    ) -> None:
        instance = task_hub.run(appointment, input=replace(DENTIST, reminders=reminders))
        assert instance.failure.message == "a reminder comes before its appointment"


class TestMove:
    def test_it_begins_at_the_new_time(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()) == AppointmentResult("begun", "2026-08-01T10:00:00", moved=1)
        assert told(store)[0] == "is now at 2026-08-01T12:00 (Europe/Berlin)."

    def test_it_may_be_moved_to_an_earlier_time_and_to_another_zone(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        instance.raise_event("move", {"at": "2026-02-01T12:00", "zone": "Asia/Tokyo"})
        instance.raise_event("move", {"at": "2026-01-20T12:00"})
        assert result_of(instance.wait()) == AppointmentResult("begun", "2026-01-20T03:00:00", moved=2)
        assert task_hub.now == datetime(2026, 1, 20, 3)

    def test_the_reminders_move_with_it(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        until(task_hub, NOON - 2 * HOUR)
        instance.raise_event("move", NewTime("2026-07-11T12:00"))
        instance.wait()
        later = NOON + 10 * DAY
        assert [call.time for call in reminder.calls] == [NOON - DAY, later - DAY, later - HOUR]
        assert len({call.input.key for call in reminder.calls}) == 3

    def test_no_reminder_of_the_old_time_comes(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        instance.raise_event("move", NewTime("2026-09-01T12:00"))
        until(task_hub, NOON + 30 * DAY)
        assert reminder.calls == []
        assert not instance.is_terminal

    def test_it_is_moved_while_the_first_time_is_converted(self, task_hub: TaskHub) -> None:
        task_hub.stub(to_utc, wraps=to_utc, duration=HOUR)
        instance = started(task_hub)
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()).at == "2026-08-01T10:00:00"

    def test_it_is_moved_while_a_reminder_is_sent(self, task_hub: TaskHub) -> None:
        task_hub.stub(remind, duration=timedelta(minutes=5))
        instance = started(task_hub)
        until(task_hub, NOON - HOUR)
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()).at == "2026-08-01T10:00:00"

    def test_moves_that_come_together_are_made_one_after_the_other(
        self, task_hub: TaskHub, store: Store
    ) -> None:
        instance = started(task_hub)
        for day in (2, 3, 4):
            instance.raise_event("move", NewTime(f"2026-02-0{day}T12:00"))
        task_hub.settle()
        assert told(store) == [f"is now at 2026-02-0{day}T12:00 (Europe/Berlin)." for day in (2, 3, 4)]
        assert result_of(instance.wait()) == AppointmentResult("begun", "2026-02-04T11:00:00", moved=3)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (NewTime("2026-08-01T12:00", "Mars/Olympus"), "the time zone 'Mars/Olympus' is not known"),
            (NewTime("later"), "the time 'later' is not understood"),
            (NewTime("2025-08-01T12:00"), "2025-08-01T12:00 (Europe/Berlin) is over"),
            ("tomorrow", "the time 'tomorrow' is not understood"),
            ({"zone": BERLIN}, "a new time was asked for that is none"),
            (None, "a new time was asked for that is none"),
        ],
        ids=["zone", "time", "past", "text", "no time", "nothing"],
    )
    def test_a_move_to_no_time_or_to_the_past_leaves_it_where_it_was(
        self, task_hub: TaskHub, store: Store, data: Any, reason: str
    ) -> None:
        instance = started(task_hub)
        instance.raise_event("move", data)
        task_hub.settle()
        (text,) = told(store)
        assert text.startswith(f"stays where it was: {reason}")
        assert result_of(instance.wait()) == AppointmentResult("begun", NOON.isoformat(), moved=0)

    def test_a_move_that_is_refused_does_not_remind_again(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        until(task_hub, NOON - DAY)
        instance.raise_event("move", NewTime("2025-08-01T12:00"))
        task_hub.settle()
        until(task_hub, NOON - 2 * HOUR)
        instance.raise_event("move", NewTime("never"))
        instance.wait()
        assert sorted({(call.time, call.input.key[-8:]) for call in reminder.calls}) == [
            (NOON - DAY, "/86400.0"),
            (NOON - HOUR, "d/3600.0"),
        ]

    def test_to_this_very_moment_lets_it_begin(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        instance.raise_event("move", NewTime(task_hub.now.isoformat(), "UTC"))
        task_hub.settle()
        assert result_of(instance) == AppointmentResult("begun", "2026-01-01T00:00:00", moved=1)

    def test_the_timer_of_the_old_time_is_cancelled(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        instance.raise_event("move", NewTime("2026-09-01T12:00"))
        task_hub.settle()
        assert [operation.kind for operation in instance.waiting_for] == ["event", "event", "timer"]

    def test_a_move_after_it_has_begun_changes_nothing(self, task_hub: TaskHub) -> None:
        task_hub.stub(tell_attendee, duration=HOUR)
        instance = started(task_hub)
        until(task_hub, NOON)
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()).at == NOON.isoformat()


class TestCancel:
    @pytest.mark.parametrize("before", [100 * DAY, DAY, DAY - MOMENT, HOUR, MOMENT])
    def test_it_is_cancelled_at_any_moment_before_it(
        self, task_hub: TaskHub, store: Store, before: timedelta
    ) -> None:
        instance = started(task_hub)
        until(task_hub, NOON - before)
        instance.raise_event("cancel")
        task_hub.settle()
        assert result_of(instance) == AppointmentResult("cancelled", NOON.isoformat(), moved=0)
        assert told(store)[-1] == "is cancelled."

    def test_nobody_is_reminded_after_that(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        instance.raise_event("cancel")
        until(task_hub, NOON + DAY)
        assert instance.is_terminal
        assert reminder.calls == []

    def test_before_the_first_turn_counts(self, task_hub: TaskHub) -> None:
        instance = task_hub.start(appointment, input=DENTIST)
        instance.raise_event("cancel")
        task_hub.settle()
        assert result_of(instance).status == "cancelled"

    def test_while_a_move_is_made_counts(self, task_hub: TaskHub) -> None:
        task_hub.stub(tell_attendee, duration=HOUR)
        instance = started(task_hub)
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        task_hub.settle()
        instance.raise_event("cancel")
        assert result_of(instance.wait()) == AppointmentResult("cancelled", "2026-08-01T10:00:00", moved=1)

    @pytest.mark.parametrize("first", ["cancel", "move"])
    def test_with_a_move_while_the_time_is_converted_wins_over_it(
        self, task_hub: TaskHub, first: str
    ) -> None:
        task_hub.stub(to_utc, wraps=to_utc, duration=HOUR)
        instance = started(task_hub)
        for name in (first, "move" if first == "cancel" else "cancel"):
            instance.raise_event(name, NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()) == AppointmentResult("cancelled", NOON.isoformat(), moved=0)

    def test_before_a_move_wins_over_it(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        instance.raise_event("cancel")
        instance.raise_event("move", NewTime("2026-08-01T12:00"))
        assert result_of(instance.wait()) == AppointmentResult("cancelled", NOON.isoformat(), moved=0)

    def test_after_it_has_begun_changes_nothing(self, task_hub: TaskHub) -> None:
        instance = started(task_hub)
        until(task_hub, NOON)
        instance.raise_event("cancel")
        task_hub.settle()
        assert result_of(instance).status == "begun"

    @pytest.mark.parametrize(("cancel_first", "status"), [(True, "cancelled"), (False, "begun")])
    def test_when_both_arrive_in_one_turn_the_first_counts(self, cancel_first: bool, status: str) -> None:
        step = drive(appointment, replace(DENTIST, reminders=[]))
        step.complete(NOON.isoformat(), of=to_utc)
        step.suspend()
        if cancel_first:
            step.raise_event("cancel")
        step.advance(NOON - step.now)
        if not cancel_first:
            step.raise_event("cancel")
        step.resume()
        assert step.custom_status["status"] == status


class TestOperations:
    def test_an_appointment_that_is_terminated_reminds_nobody(self, task_hub: TaskHub, store: Store) -> None:
        instance = started(task_hub)
        instance.terminate("enough")
        until(task_hub, NOON + DAY)
        assert instance.status is OrchestrationStatus.TERMINATED
        assert contents(store) == {}

    def test_one_that_is_suspended_over_a_reminder_sends_it_late(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        instance.suspend()
        until(task_hub, NOON - 2 * HOUR)
        assert reminder.calls == []
        instance.resume()
        instance.wait()
        assert [call.time for call in reminder.calls] == [NOON - 2 * HOUR, NOON - HOUR]

    def test_one_that_is_suspended_until_after_it_begins_late(self, task_hub: TaskHub) -> None:
        reminder = task_hub.stub(remind)
        instance = started(task_hub)
        instance.suspend()
        until(task_hub, NOON + DAY)
        instance.resume()
        assert result_of(instance.wait()).status == "begun"
        assert task_hub.now == NOON + DAY
        # The reminder that was due while it was suspended is sent, as the SDK's worker shows the orchestrator
        # the time at which it was due; the other one is left out.
        assert [call.input.key[-8:] for call in reminder.calls] == ["/86400.0"]


class TestWords:
    @pytest.mark.parametrize(
        ("left", "words"),
        [
            (timedelta(days=14), "begins in 14 days"),
            (timedelta(hours=47), "begins in 47 hours"),
            (DAY, "begins in 24 hours"),
            (DAY - timedelta(seconds=2), "begins in 24 hours"),
            (3 * HOUR, "begins in 3 hours"),
            (HOUR, "begins in 60 minutes"),
            (timedelta(minutes=1), "begins in 1 minute"),
            (timedelta(seconds=89), "begins in 1 minute"),
            (timedelta(seconds=59), "begins now"),
            (timedelta(0), "begins now"),
            (-MOMENT, "has begun"),
        ],
    )
    def test_how_soon_something_is(self, left: timedelta, words: str) -> None:
        assert in_words(left) == words

    @pytest.mark.parametrize(
        ("clock", "words"),
        [
            ("2026-06-30 10:00:00", "begins in 24 hours"),
            ("2026-07-01 07:00:00", "begins in 3 hours"),
            ("2026-07-01 09:59:30", "begins now"),
            ("2026-07-02 09:59:30", "has begun"),
        ],
    )
    def test_a_reminder_says_how_soon_it_is_by_the_clock(
        self, task_hub: TaskHub, store: Store, clock: str, words: str
    ) -> None:
        with freeze_time(clock):
            task_hub.run(appointment, input=replace(DENTIST, reminders=[60.0]))
        assert told(store) == [f"{words}.", "begins now."]

    def test_a_reminder_that_is_delivered_again_later_says_no_other_thing(self, store: Store) -> None:
        reminder = Reminder("key", "ana", "dentist", NOON.isoformat())
        for clock in (NOON - 3 * HOUR, NOON - 2 * HOUR):
            with freeze_time(clock):
                remind(None, reminder)  # type: ignore[arg-type]
        assert told(store) == ["begins in 3 hours."]


class TestDelivery:
    CLOCK = "2026-06-30 10:00"  # what reminders say depends on it
    TOLD = [
        "begins in 24 hours.",
        "is now at 2026-07-11T12:00 (Europe/Berlin).",
        "stays where it was: the time 'never' is not understood: take one like '2026-03-29T09:30'.",
        "begins in 11 days.",
        "begins in 11 days.",
        "begins now.",
    ]

    def story(self, hub: TaskHub) -> Instance:
        """An appointment that is moved once; another move is refused."""
        instance = started(hub)
        until(hub, NOON - 2 * HOUR)
        instance.raise_event("move", NewTime("2026-07-11T12:00"))
        instance.raise_event("move", NewTime("never"))
        hub.settle()
        return instance

    @freeze_time(CLOCK)
    def test_the_attendee_is_told_of_everything_once(self, task_hub: TaskHub, store: Store) -> None:
        self.story(task_hub).wait()
        assert told(store) == self.TOLD

    @freeze_time(CLOCK)
    def test_what_is_delivered_twice_is_done_once(self, task_hub: TaskHub, store: Store) -> None:
        delivered_twice(task_hub)
        self.story(task_hub).wait()
        assert told(store) == self.TOLD
        assert len(keys(store)) == len(self.TOLD)

    def test_what_dying_workers_did_is_done_once(self, store: Store) -> None:
        hub = TaskHub(start_time=NOON - 6 * timedelta(minutes=1))
        register(hub)
        wanted = replace(DENTIST, reminders=[240.0, 60.0])
        instance = run_with_dying_workers(hub, lambda: hub.start(appointment, input=wanted))
        assert result_of(instance).status == "begun"
        assert len(told(store)) == len(keys(store)) == 3

    @pytest.mark.parametrize("days", [0, 1, 100, 180, 181, 185, 190])
    def test_a_worker_that_dies_at_any_moment_changes_nothing(
        self, task_hub: TaskHub, store: Store, days: int
    ) -> None:
        instance = started(task_hub)
        task_hub.advance(days * DAY)
        task_hub.crash_worker()
        if not instance.is_terminal:
            instance.raise_event("move", NewTime("2026-07-11T12:00"))
            task_hub.crash_worker()
        assert result_of(instance.wait()).status == "begun"
        assert told(store)[-1] == "begins now."
        assert len(told(store)) == len(keys(store))


class TestReplay:
    @pytest.mark.dt_hub(check_replay="turn", maximum_timer_interval=3 * DAY)
    def test_it_replays_after_every_turn(self, task_hub: TaskHub) -> None:
        instance = TestDelivery().story(task_hub)
        assert_replays(instance.history, task_hub)
        assert result_of(instance.wait()) == AppointmentResult("begun", "2026-07-11T10:00:00", moved=1)
        assert_replays(instance.history, task_hub)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_in_which_things_arrive_does_not_matter(self, seed: int) -> None:
        hub = TaskHub(shuffle=True, seed=seed, check_replay="turn")
        register(hub)
        assert result_of(TestDelivery().story(hub).wait()).moved == 1
