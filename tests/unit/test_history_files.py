from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask.client import OrchestrationStatus
from durabletask.extensions.history_export import ExportFormat, ExportFormatKind
from durabletask.extensions.history_export.serialization import serialize_history
from durabletask.history import (
    EventRaisedEvent,
    ExecutionCompletedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    OrchestrationInstance,
    ParentInstanceInfo,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
)
from durabletask.task import FailureDetails
from event_strategies import EVENT_CLASSES, events_of, histories, json_values, law, law_of_each_class
from hypothesis import given
from hypothesis import strategies as st

from dt_testkit.errors import HistoryFormatError, InstanceNotFound
from dt_testkit.history import History

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SUFFIXES = [".json", ".jsonl", ".json.gz", ".jsonl.gz"]
SAMPLE = History(
    "order-1",
    [
        ExecutionStartedEvent(
            -1,
            START,
            name="order_workflow",
            input='{"sku":"desk"}',
            parent_instance=ParentInstanceInfo(3, "parent", None, OrchestrationInstance("p", "e")),
            tags={"team": "\u2028é😀"},
        ),
        TaskScheduledEvent(1, START, name="charge"),
        TaskFailedEvent(
            -1,
            START,
            task_scheduled_id=1,
            failure_details=FailureDetails(
                "reset", "ConnectionError", None, FailureDetails("x", "KeyError", ""), {"code": [1, None]}
            ),
        ),
        TimerCreatedEvent(2, START, fire_at=START + timedelta(milliseconds=500)),
        ExecutionTerminatedEvent(-1, START, recurse=True),
        ExecutionCompletedEvent(3, START, orchestration_status=5, result='"stopped"'),
    ],
    metadata={"name": "order_workflow"},
)
DOCUMENT = json.loads(SAMPLE.dumps(".json"))


def with_event(index, **changes):
    """The sample as JSON, with fields of one event changed; ``...`` takes a field away."""
    document = copy.deepcopy(DOCUMENT)
    event = document["events"][index]
    event.update(changes)
    document["events"][index] = {key: value for key, value in event.items() if value is not ...}
    return json.dumps(document).encode()


def with_keys(**changes):
    """The sample as JSON, with keys at its top changed; ``...`` takes a key away."""
    return json.dumps(
        {key: value for key, value in {**DOCUMENT, **changes}.items() if value is not ...}
    ).encode()


def complaint(data, **options):
    """What reading these bytes is refused with, which is one sentence."""
    with pytest.raises(HistoryFormatError) as refusal:
        History.loads(data, source="order.json", **options)
    message = str(refusal.value)
    assert message.startswith("order.json")
    assert message.endswith(".")
    assert "\n" not in message
    return message


class TestRoundTrips:
    @pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.__name__)
    @law_of_each_class
    @given(data=st.data())
    def test_an_event_of_any_class_reads_as_it_was_written(self, cls, data):
        event = data.draw(events_of(cls))
        assert History.loads(History("i", [event]).dumps()).events == [event]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @law
    @given(history=histories)
    def test_a_history_reads_as_it_was_written_and_writes_the_same_bytes_again(self, suffix, history):
        data = history.dumps(suffix)
        loaded = History.loads(data)
        assert loaded == history
        assert loaded.metadata == history.metadata
        assert loaded.dumps(suffix) == data

    @pytest.mark.parametrize(
        ("suffix", "kind"), [(".json", ExportFormatKind.JSON), (".jsonl.gz", ExportFormatKind.JSONL_GZIP)]
    )
    @law
    @given(history=histories)
    def test_the_bytes_are_those_of_the_sdks_history_export(self, suffix, kind, history):
        exported = serialize_history(
            history.events,
            instance_id=history.instance_id,
            fmt=ExportFormat(kind=kind),
            metadata=history.metadata,
        )
        dumped = history.dumps(suffix)
        if suffix.endswith(".gz"):  # the SDK's header holds the second in which it was written
            dumped, exported = gzip.decompress(dumped), gzip.decompress(exported)
        assert dumped == exported

    def test_json_lines_are_the_unzipped_export(self):
        assert SAMPLE.dumps(".jsonl") == gzip.decompress(SAMPLE.dumps(".jsonl.gz"))

    def test_zipped_json_is_the_same_bytes_every_time(self):
        assert gzip.decompress(SAMPLE.dumps(".json.gz")) == SAMPLE.dumps(".json")
        assert SAMPLE.dumps(".json.gz") == SAMPLE.dumps(".json.gz")

    def test_a_history_without_events_is_a_history(self):
        assert [History.loads(History("i", []).dumps(suffix)) for suffix in SUFFIXES] == [
            History("i", [])
        ] * 4

    def test_the_format_is_told_from_the_content_and_not_from_the_name(self, tmp_path):
        for suffix in SUFFIXES:
            (tmp_path / "order").write_bytes(SAMPLE.dumps(suffix))
            assert History.load(tmp_path / "order") == SAMPLE

    def test_indented_json_is_read_like_any_other(self):
        assert History.loads(json.dumps(DOCUMENT, indent=2).encode()) == SAMPLE

    def test_a_byte_order_mark_and_windows_line_ends_are_accepted(self):
        assert History.loads(b"\xef\xbb\xbf" + SAMPLE.dumps(".jsonl").replace(b"\n", b"\r\n")) == SAMPLE

    def test_a_field_that_may_be_none_may_be_left_out(self):
        assert History.loads(with_event(1, input=..., tags=...)) == SAMPLE

    @pytest.mark.parametrize(
        "text",
        [
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:00:00.5000000Z",
            "2026-01-01T00:00:00.500000",
            "2026-01-01T02:00:00.500+02:00",
            "2025-12-31T18:30:00.500-0530",
        ],
    )
    def test_timestamps_of_any_offset_become_utc(self, text):
        timer = History.loads(with_event(3, fire_at=text)).events[3]
        assert timer.fire_at == START + timedelta(milliseconds=500)
        assert timer.fire_at.tzinfo is timezone.utc


class TestSaving:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_saving_makes_the_directories_and_leaves_one_file(self, tmp_path, suffix):
        path = tmp_path / "histories" / "2026" / f"order{suffix}"
        SAMPLE.save(path)
        assert History.load(path) == SAMPLE
        assert list(path.parent.iterdir()) == [path]

    def test_saving_replaces_what_was_there(self, tmp_path):
        path = tmp_path / "order.json"
        path.write_text("old")
        SAMPLE.save(str(path))
        assert path.read_bytes() == SAMPLE.dumps(".json")

    def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "order.json"
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            SAMPLE.save(path)
        assert list(tmp_path.iterdir()) == [path]

    def test_another_suffix_is_refused_with_the_four_there_are(self, tmp_path):
        with pytest.raises(
            HistoryFormatError, match=r"order\.yaml.*\.json, \.jsonl, \.json\.gz, \.jsonl\.gz"
        ):
            SAMPLE.save(tmp_path / "order.yaml")

    @pytest.mark.parametrize("value", [object(), "\ud800"])
    def test_what_json_cannot_hold_is_refused(self, value):
        with pytest.raises(HistoryFormatError, match="cannot be written"):
            History("i", [], metadata={"value": value}).dumps()


class TestContainer:
    def test_a_history_is_a_sized_iterable_of_its_events(self):
        assert len(SAMPLE) == 6
        assert list(SAMPLE) == SAMPLE.events

    def test_the_name_is_that_of_the_orchestrator_that_started(self):
        assert SAMPLE.orchestrator_name == "order_workflow"
        assert History("i", []).orchestrator_name is None

    def test_the_status_is_how_the_instance_ended(self):
        assert SAMPLE.status is OrchestrationStatus.TERMINATED

    def test_the_status_of_an_instance_in_flight_is_none(self):
        assert History("i", SAMPLE.events[:-1]).status is None
        assert History("i", [*SAMPLE.events, ExecutionRewoundEvent(-1, START)]).status is None

    def test_a_status_that_the_sdk_has_no_name_for_is_refused(self):
        with pytest.raises(HistoryFormatError, match="orchestration_status 4"):
            _ = History("i", [ExecutionCompletedEvent(1, START, orchestration_status=4)]).status

    def test_histories_are_equal_by_id_and_events(self):
        assert History("order-1", SAMPLE.events) == SAMPLE
        assert History("order-2", SAMPLE.events) != SAMPLE
        assert History("order-1", SAMPLE.events[1:]) != SAMPLE
        assert SAMPLE.events != SAMPLE

    def test_the_repr_is_short(self):
        assert repr(SAMPLE) == "<History 'order-1' of 'order_workflow': 6 events>"
        assert repr(History("i", SAMPLE.events[1:2])) == "<History 'i': 1 event>"


class RpcError(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code


class TestFromClient:
    class Client:
        def __init__(self, error=None):
            self.error = error

        def get_orchestration_history(self, instance_id):
            if self.error:
                raise self.error
            return SAMPLE.events

    def test_the_history_is_what_the_client_returned(self):
        assert History.from_client(self.Client(), "order-1") == SAMPLE

    def test_an_unknown_instance_is_named(self):
        with pytest.raises(InstanceNotFound, match="no instance 'order-9'"):
            History.from_client(self.Client(RpcError(grpc.StatusCode.NOT_FOUND)), "order-9")

    @pytest.mark.parametrize("error", [RpcError(grpc.StatusCode.UNAVAILABLE), RuntimeError("no")])
    def test_any_other_error_stays_what_it_is(self, error):
        with pytest.raises(type(error)) as raised:
            History.from_client(self.Client(error), "order-1")
        assert raised.value is error

    def test_an_async_client_is_refused_with_what_to_write_instead(self):
        class Client:
            async def get_orchestration_history(self, instance_id): ...

        with pytest.raises(TypeError, match="await client"):
            History.from_client(Client(), "order-1")


class TestRefusedFiles:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(HistoryFormatError, match=r"order\.json does not exist"):
            History.load(tmp_path / "order.json")

    def test_a_directory_is_named(self, tmp_path):
        with pytest.raises(HistoryFormatError, match="is a directory"):
            History.load(tmp_path)

    def test_a_path_that_cannot_be_is_refused(self):
        with pytest.raises(HistoryFormatError, match="could not be read"):
            History.load("order\0.json")

    @pytest.mark.parametrize("data", [b"", b" \n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
    def test_an_empty_file_is_called_empty(self, data):
        assert "is empty" in complaint(data)

    def test_bytes_that_are_no_text_are_refused_by_their_place(self):
        assert "byte 2 is 0xff" in complaint(b"{}\xff")

    @pytest.mark.parametrize("suffix", [".json.gz", ".jsonl.gz"])
    def test_cut_gzip_is_refused(self, suffix):
        assert "cut or damaged gzip" in complaint(SAMPLE.dumps(suffix)[:-10])

    def test_gzip_with_a_wrong_checksum_is_refused(self):
        data = bytearray(SAMPLE.dumps(".json.gz"))
        data[-6] ^= 1
        assert "cut or damaged gzip" in complaint(bytes(data))

    def test_cut_json_is_refused_by_line_and_column(self):
        assert complaint(SAMPLE.dumps(".json")[:-3]).startswith("order.json, line 1, column ")

    def test_a_cut_json_line_is_refused_by_its_number(self):
        assert complaint(SAMPLE.dumps(".jsonl")[:-3]).startswith("order.json, line 7, column ")

    def test_json_lines_without_metadata_are_refused(self):
        lines = SAMPLE.dumps(".jsonl").split(b"\n", 1)[1]
        assert 'line 1: expected a metadata line ("kind":"metadata")' in complaint(lines)

    @pytest.mark.parametrize(
        ("data", "found"), [(b"[]", "a list"), (b"null", "null"), (b"7", "7"), (b'"text"', "'text'")]
    )
    def test_json_that_is_no_object_is_refused(self, data, found):
        assert f"expected an object with the events of a history, found {found}" in complaint(data)

    def test_a_key_that_appears_twice_is_refused(self):
        assert "the key 'a' appears twice" in complaint(b'{"a":1,"a":2}')

    def test_half_a_surrogate_pair_is_refused(self):
        assert "surrogate" in complaint(with_keys(instance_id="\ud800"))

    def test_absurd_nesting_is_refused(self):
        assert "levels of nesting" in complaint(b"[" * 100_000)

    def test_an_absurdly_nested_failure_is_refused(self):
        failure = None
        for _ in range(450):
            failure = {"message": "", "error_type": "", "stack_trace": None, "inner_failure": failure}
        assert "event 3 (TaskFailedEvent): expected at most" in complaint(
            with_event(2, failure_details=failure)
        )

    def test_a_number_of_too_many_digits_is_refused(self):
        complaint(with_event(1, event_id=7).replace(b'"event_id": 7', b'"event_id": ' + b"9" * 5000))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_more_than_max_bytes_is_refused_with_the_limit(self, suffix):
        assert "more than the 1,000 bytes allowed" in complaint(SAMPLE.dumps(suffix), max_bytes=1000)

    def test_exactly_max_bytes_is_accepted(self):
        data = SAMPLE.dumps(".json")
        assert History.loads(data, max_bytes=len(data)) == SAMPLE

    def test_a_gzip_bomb_is_not_expanded_past_the_limit(self):
        bomb = gzip.compress(bytes(32_000_000), 1)
        tracemalloc.start()
        try:
            assert "once unzipped" in complaint(bomb, max_bytes=1_000_000)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


class TestRefusedContent:
    @pytest.mark.parametrize("version", ["2.0", 1.0, None])
    def test_an_unknown_schema_is_refused_with_the_known_one(self, version):
        assert "expected schema_version '1.0'" in complaint(with_keys(schema_version=version))

    @pytest.mark.parametrize("key", ["schema_version", "instance_id", "events"])
    def test_a_missing_key_is_named(self, key):
        assert f"expected the key {key!r}" in complaint(with_keys(**{key: ...}))

    @pytest.mark.parametrize("key", ["instance_id", "events", "metadata"])
    def test_a_key_of_the_wrong_type_is_named(self, key):
        assert f"key {key!r}: expected" in complaint(with_keys(**{key: 7}))

    def test_an_unknown_key_is_named(self):
        assert "key 'colour'" in complaint(with_keys(colour="red"))

    @pytest.mark.parametrize(
        ("index", "changes", "place"),
        [
            (1, {"event_type": ...}, "event 2, field 'event_type': expected"),
            (1, {"event_type": 7}, "event 2, field 'event_type': expected"),
            (1, {"event_type": "HistoryEvent"}, "event 2, field 'event_type': expected"),
            (1, {"event_type": "TaskLostEvent"}, "found 'TaskLostEvent'"),
            (1, {"name": ...}, "event 2 (TaskScheduledEvent), field 'name': expected a value"),
            (1, {"name": None}, "event 2 (TaskScheduledEvent), field 'name': expected a string, found null"),
            (1, {"colour": "red"}, "event 2 (TaskScheduledEvent), field 'colour': expected no such field"),
            (1, {"event_id": True}, "field 'event_id': expected a 32-bit integer, found true"),
            (1, {"event_id": 1.5}, "field 'event_id': expected a 32-bit integer, found 1.5"),
            (1, {"event_id": 2**31}, "field 'event_id': expected a 32-bit integer, found 2147483648"),
            (1, {"tags": {"a": 1}}, "field 'tags.a': expected a string, found 1"),
            (1, {"tags": []}, "field 'tags': expected an object, found a list"),
            (4, {"recurse": 1}, "field 'recurse': expected true or false, found 1"),
            (0, {"parent_instance": {"task_scheduled_id": "3"}}, "field 'parent_instance.task_scheduled_id'"),
            (2, {"failure_details": {"message": "", "error_type": 1}}, "field 'failure_details.error_type'"),
            (3, {"fire_at": "soon"}, "event 4 (TimerCreatedEvent), field 'fire_at': expected an ISO 8601"),
            (3, {"fire_at": "2026-13-01T00:00:00Z"}, "field 'fire_at': expected an ISO 8601"),
            (3, {"fire_at": "0001-01-01T00:00:00+01:00"}, "field 'fire_at': expected an ISO 8601"),
            (3, {"fire_at": 7}, "field 'fire_at': expected a string, found 7"),
        ],
    )
    def test_a_wrong_event_is_refused_by_its_number_class_and_field(self, index, changes, place):
        assert place in complaint(with_event(index, **changes))

    def test_an_event_that_is_no_object_is_refused(self):
        assert "event 1: expected an object, found a list" in complaint(with_keys(events=[[]]))

    def test_an_item_of_a_list_is_refused_by_its_index(self):
        event = {
            "event_type": "EntityLockRequestedEvent",
            "event_id": 1,
            "timestamp": "2026-01-01T00:00:00Z",
            "critical_section_id": "c",
            "lock_set": ["@a@1", 2],
            "position": 0,
        }
        assert "field 'lock_set.1': expected a string, found 2" in complaint(with_keys(events=[event]))

    def test_a_wrong_event_in_json_lines_is_refused_by_its_line_too(self):
        lines = SAMPLE.dumps(".jsonl").replace(b'"event_type":"TaskFailedEvent"', b'"event_type":"Nothing"')
        assert "order.json, line 4, event 3, field 'event_type'" in complaint(lines)


def assert_read_or_refused(data):
    try:
        history = History.loads(data, max_bytes=100_000)
    except HistoryFormatError:
        return
    assert History.loads(history.dumps()) == history


class TestDamage:
    @law
    @given(st.sampled_from(SUFFIXES), st.data())
    def test_a_file_cut_anywhere_is_read_or_refused(self, suffix, data):
        content = SAMPLE.dumps(suffix)
        assert_read_or_refused(content[: data.draw(st.integers(0, len(content)))])

    @law
    @given(st.sampled_from(SUFFIXES), st.data())
    def test_a_file_with_flipped_bytes_is_read_or_refused(self, suffix, data):
        content = bytearray(SAMPLE.dumps(suffix))
        places = st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255))
        for place, mask in data.draw(st.lists(places, min_size=1, max_size=4)):
            content[place] ^= mask
        assert_read_or_refused(bytes(content))

    @law
    @given(st.binary())
    def test_random_bytes_are_refused(self, data):
        complaint(data)

    @law
    @given(st.data())
    def test_a_file_with_any_value_replaced_is_read_or_refused(self, data):
        document = copy.deepcopy(DOCUMENT)
        node = document
        while True:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if not (isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans())):
                break
            node = node[key]
        node[key] = data.draw(json_values)
        assert_read_or_refused(json.dumps(document).encode())


def test_reading_tells_the_time_of_an_event_to_the_microsecond():
    event = EventRaisedEvent(-1, START + timedelta(microseconds=1), name="approval")
    assert History.loads(History("i", [event]).dumps()).events == [event]
