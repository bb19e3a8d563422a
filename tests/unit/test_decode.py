"""Bytes to events: each bad line alone is refused, with its line, field and reason."""

import base64
import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from stream.decoding.decode import Decoded, Decoder
from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import KEPT_BYTES, WHOLE_LINE, dead_letter
from stream.events import CONTROL, EVENTS, GOLD, ITEMS, TOPICS, Item
from stream.records import RecordBatch

LOG_TIME = 1_600_000_000.0
GOOD = b'{"event_id":"e","type":"click","ts":1,"user_id":"u","item_id":"i"}'


def batch_of(*values: bytes, first: int = 10) -> RecordBatch:
    offsets = range(first, first + len(values))
    return RecordBatch(EVENTS, 3, offsets, values, [LOG_TIME] * len(values))


def decode(*values: bytes, decoder: Decoder | None = None) -> Decoded:
    return (decoder or Decoder()).decode(batch_of(*values))


def with_fields(text: str) -> bytes:
    """Return the good line with more fields, which override its own."""
    return GOOD[:-1] + b"," + text.encode() + b"}"


BAD = [
    ("truncated", GOOD[:-7], WHOLE_LINE, "is not JSON: EOF"),
    ("cut in a string", GOOD[:14], WHOLE_LINE, "is not JSON: EOF"),
    ("trailing comma", GOOD[:-1] + b",}", WHOLE_LINE, "trailing comma"),
    ("two objects on a line", GOOD + GOOD, WHOLE_LINE, "trailing characters"),
    ("an array", b"[" + GOOD + b"]", WHOLE_LINE, "should be one JSON object; found an array of 1"),
    ("a number", b"12", WHOLE_LINE, "should be one JSON object; found 12"),
    ("null", b"null", WHOLE_LINE, "should be one JSON object; found null"),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD, WHOLE_LINE, "byte order mark"),
    ("invalid UTF-8", GOOD.replace(b'"u"', b'"\xff"'), WHOLE_LINE, "UTF-8 at byte 50 (0xff)"),
    ("a lone surrogate", with_fields(r'"user_id":"\ud800"'), WHOLE_LINE, "is not JSON"),
    ("a raw NUL", GOOD.replace(b'"u"', b'"\0"'), WHOLE_LINE, "control character"),
    ("an escaped NUL", with_fields(r'"user_id":"a\u0000"'), "user_id", "NUL character"),
    ("a NUL in context", with_fields(r'"context":{"k":"\u0000"}'), "context.k", "NUL character"),
    ("deep nesting", with_fields('"x":' + "[" * 5_000 + "]" * 5_000), WHOLE_LINE, "recursion"),
    ("an integer without end", with_fields('"value":' + "9" * 5_000), WHOLE_LINE, "not JSON"),
    ("a huge integer as number", with_fields('"value":' + "9" * 400), "value", "1329 bits"),
    ("a huge integer", with_fields('"position":' + "9" * 30), "position", "less than or equal"),
    ("a huge one in context", with_fields('"context":{"k":1' + "0" * 25 + "}"), "context.k", "64"),
    ("NaN", with_fields('"value":NaN'), "value", "should be a finite number; found NaN"),
    ("infinity", with_fields('"ts":-Infinity'), "ts", "finite number; found an infinite number"),
    ("beyond a float", with_fields('"value":1e999'), "value", "should be a finite number"),
    ("NaN in context", with_fields('"context":{"k":NaN}'), "context.k", "finite number"),
    ("NaN in an unknown field", with_fields('"x":{"y":[NaN]}'), "x.y.0", "finite number"),
    ("missing", b'{"event_id":"e"}', "type", "is missing; it is required (also wrong: ts, user_id"),
    ("an id as number", with_fields('"user_id":5'), "user_id", "valid string; found 5"),
    ("an id as null", with_fields('"user_id":null'), "user_id", "valid string; found null"),
    ("an empty id", with_fields('"item_id":""'), "item_id", "at least 1 character; found ''"),
    ("an event id too long", with_fields(f'"event_id":"{"x" * 129}"'), "event_id", "at most 128"),
    ("a user id too long", with_fields(f'"user_id":"{"x" * 257}"'), "user_id", "(257 characters)"),
    ("a segment too long", with_fields(f'"segment":"{"x" * 257}"'), "segment", "at most 256"),
    (
        "unknown type",
        with_fields('"type":"clik"'),
        "type",
        "is unknown; found 'clik', allowed: add_",
    ),
    ("milliseconds", with_fields('"ts":1590884413000'), "ts", "looks like milliseconds"),
    ("year 3000", with_fields('"ts":32503680000'), "ts", "ahead of the log's time; found 3250368"),
    ("just too early", with_fields(f'"ts":{LOG_TIME + 300.5}'), "ts", "allowed: at most 16000003"),
    ("before 1970", with_fields('"ts":-1'), "ts", "is before the epoch"),
    ("a time as boolean", with_fields('"ts":true'), "ts", "should be a valid number; found true"),
    ("no zone", with_fields('"ts":"2020-01-01T00:00:00"'), "ts", "has no zone"),
    ("a date", with_fields('"ts":"2020-01-01"'), "ts", "has no zone"),
    ("month 13", with_fields('"ts":"2020-13-01T00:00:00Z"'), "ts", "is no time"),
    ("zone +25", with_fields('"ts":"2020-01-01T00:00:00+25:00"'), "ts", "is no time"),
    ("zone +01:75", with_fields('"ts":"2020-01-01T00:00:00+01:75"'), "ts", "is no time"),
    ("second 61", with_fields('"ts":"2020-01-01T00:00:61Z"'), "ts", "is no time"),
    ("before 1970 as text", with_fields('"ts":"1969-12-31T23:59:59.5Z"'), "ts", "before the epoch"),
    ("a number as string", with_fields('"ts":"1590884413"'), "ts", "is no time"),
    ("RFC 3339 of 3000", with_fields('"ts":"3000-01-01T00:00:00Z"'), "ts", "ahead of the log's"),
    ("a fraction as position", with_fields('"position":1.5'), "position", "integer"),
    ("a boolean as position", with_fields('"position":true'), "position", "found true"),
    ("a boolean as value", with_fields('"value":false'), "value", "number; found false"),
    ("a string as value", with_fields('"value":"3"'), "value", "number; found '3'"),
    ("propensity 0", with_fields('"propensity":0'), "propensity", "greater than 0; found 0"),
    ("propensity 1.5", with_fields('"propensity":1.5'), "propensity", "less than or equal to 1"),
    ("context as array", with_fields('"context":[1]'), "context", "found an array of 1"),
    ("context nested", with_fields('"context":{"k":{"a":1}}'), "context.k", "found an object of 1"),
    (
        "65 keys",
        with_fields('"context":{' + ",".join(f'"k{i}":1' for i in range(65)) + "}"),
        "context",
        "at most 64 items",
    ),
    (
        "a long context string",
        with_fields(f'"context":{{"k":"{"x" * 8_193}"}}'),
        "context.k",
        "at most 8192 characters",
    ),
    ("2 MiB", with_fields(f'"x":"{"x" * 2**21}"'), WHOLE_LINE, "too long; found 2097"),
]


@pytest.mark.parametrize(("line", "field", "reason"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_a_bad_line_is_refused_alone_with_its_field(line: bytes, field: str, reason: str) -> None:
    decoded = decode(GOOD, GOOD + b"\n" + line + b"\n" + GOOD)
    assert [(r.offset, r.line, r.field) for r in decoded.rejected] == [(11, 2, field)]
    assert reason in decoded.rejected[0].reason
    assert decoded.rejected[0].raw == line
    assert list(zip(decoded.offsets, decoded.lines, strict=True)) == [(10, 1), (11, 1), (11, 3)]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('"ts":1.5', "ts", 1.5),
        ('"ts":0', "ts", 0.0),
        (f'"ts":{LOG_TIME + 300}', "ts", LOG_TIME + 300),
        ('"ts":"1970-01-01T00:00:01Z"', "ts", 1.0),
        ('"ts":"2019-11-24T01:01:04.979+01:00"', "ts", 1574553664.979),
        ('"ts":"2019-11-23t19:01:04.979123456789-05:00"', "ts", 1574553664.979123456),
        ('"ts":"2016-12-31 23:59:60Z"', "ts", 1483228800.0),
        ('"ts":"2016-12-31t23:59:60.5z"', "ts", 1483228800.5),
        ('"ts":"2020-01-01T00:00:00z"', "ts", 1577836800.0),
        ('"ts":"junk","ts":7', "ts", 7.0),
        ('"position":3.0', "position", 3),
        ('"position":-1', "position", -1),
        ('"propensity":1', "propensity", 1.0),
        ('"request_id":null', "request_id", None),
        ('"context":null', "context", None),
        ('"context":{"a":null,"b":"x"}', "context", {"b": "x"}),
        ('"context":{"":true,"n":1,"f":1.5}', "context", {"": True, "n": 1, "f": 1.5}),
        (r'"user_id":"\ud83d\ude00"', "user_id", "😀"),
        (r'"user_id":"\\u0000"', "user_id", r"\u0000"),
        (f'"user_id":"{"é" * 256}"', "user_id", "é" * 256),
    ],
)
def test_a_good_line_is_taken_as_it_is_meant(text: str, field: str, value: object) -> None:
    decoded = decode(with_fields(text))
    assert decoded.rejected == []
    found = getattr(decoded.events[0], field)
    assert found == value
    assert type(found) is type(value)


def test_a_time_as_text_is_the_same_float_as_the_same_time_as_number() -> None:
    for fraction in range(1000):
        text = decode(with_fields(f'"ts":"2019-11-24T00:01:04.{fraction:03}Z"')).events[0]
        number = decode(with_fields(f'"ts":1574553664.{fraction:03}')).events[0]
        assert text.ts == number.ts


def test_lines_of_a_record_are_separated_by_newlines_and_blank_ones_skipped() -> None:
    decoded = decode(b"", b"\n \r\n", b"\n" + GOOD + b"\r\n\n" + GOOD + b"\n")
    assert decoded.rejected == []
    assert list(zip(decoded.offsets, decoded.lines, strict=True)) == [(12, 2), (12, 4)]


def test_one_object_may_be_laid_out_over_several_lines() -> None:
    decoded = decode(json.dumps(json.loads(GOOD), indent=2).encode() + b"\n")
    assert decoded.rejected == []
    assert len(decoded.events) == 1
    assert decoded.lines == [1]


def test_two_bad_lines_never_make_a_good_one() -> None:
    head, tail = b'{"event_id":"e","type":"click",', b'"ts":1,"user_id":"u","item_id":"i"}'
    decoded = decode(GOOD + b"\n" + head + b"\n" + tail)
    assert len(decoded.events) == 1
    assert [r.line for r in decoded.rejected] == [2, 3]


def test_ticks_stand_between_the_events_that_surround_them() -> None:
    decoded = decode(b'{"tick":5}', GOOD, b'{"tick":6.5}\n' + GOOD, b'{"tick":7}')
    assert [(t.position, t.ts, t.offset) for t in decoded.ticks] == [
        (0, 5.0, 10),
        (1, 6.5, 12),
        (2, 7.0, 13),
    ]
    assert decoded.rejected == []


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"tick":"soon"}', "tick"),
        (b'{"tick":1e10}', "tick"),
        (b'{"tick":NaN}', "tick"),
        (b'{"tick":true}', "tick"),
        (b'{"tick":1,"more":1}', "event_id"),
    ],
)
def test_a_bad_tick_is_refused(line: bytes, field: str) -> None:
    decoded = decode(line)
    assert decoded.ticks == []
    assert [r.field for r in decoded.rejected] == [field]


def test_a_client_cannot_send_ticks_where_they_are_not_accepted() -> None:
    decoded = decode(b'{"tick":5}', decoder=Decoder(accept_ticks=False))
    assert decoded.ticks == []
    assert [r.field for r in decoded.rejected] == ["event_id"]


def test_configured_types_skew_and_length_hold() -> None:
    decoder = Decoder({"bookmark"}, max_line_bytes=110, max_future_skew_s=0)
    values = [
        with_fields('"type":"bookmark"'),
        GOOD,
        with_fields(f'"type":"bookmark","ts":{LOG_TIME + 1}'),
        with_fields(f'"type":"bookmark","x":"{"x" * 40}"'),
    ]
    decoded = decode(*values, decoder=decoder)
    assert decoded.offsets == [10]
    assert [r.field for r in decoded.rejected] == ["type", "ts", WHOLE_LINE]


def test_unknown_fields_are_ignored_and_counted() -> None:
    decoded = decode(GOOD, with_fields('"a":1,"b":{"c":[]}'), b'{"a":1}')
    assert len(decoded.events) == 2
    assert decoded.unknown_fields == 2
    assert decoded.events[0] == decoded.events[1]


def test_unknown_fields_are_kept_in_context_if_configured() -> None:
    decoder = Decoder(keep_unknown=True)
    decoded = decode(with_fields('"b":2,"a":"x","nested":{},"none":null'), decoder=decoder)
    assert decoded.events[0].context == {"a": "x", "b": 2}
    assert decoded.unknown_fields == 4
    decoded = decode(with_fields('"context":{"a":1,"c":null},"a":2,"c":3'), decoder=decoder)
    assert decoded.events[0].context == {"a": 1, "c": 3}
    full = '"context":{' + ",".join(f'"k{i}":1' for i in range(64)) + "}"
    decoded = decode(with_fields(full + ',"a":1'), decoder=decoder)
    assert len(decoded.events[0].context or {}) == 64


def test_shop_file_decodes_without_a_rejection() -> None:
    root = Path(__file__).parents[2]
    shared = Path(os.environ.get("HEADRACE_SHARED_DATA", root.parent / "shared" / "data"))
    path = shared / "clicks" / "shop.events.ndjson.gz"
    if not path.exists():
        pytest.skip(f"the shared data is not here: {path}")
    lines = gzip.decompress(path.read_bytes()).splitlines()
    decoded = decode(*lines)
    assert len(decoded.events) == len(lines) == 116_285
    assert decoded.rejected == []
    assert decoded.unknown_fields == 0


# --- dead letters -------------------------------------------------------------------------------


def test_a_dead_letter_keeps_the_line_and_its_origin() -> None:
    line = '{"event_id":"é"'.encode()
    letter = dead_letter(decode(GOOD, line).rejected[0], EVENTS, 3)
    assert (letter.topic, letter.partition, letter.offset, letter.line) == (EVENTS, 3, 11, 1)
    assert (letter.field, letter.ts) == (WHOLE_LINE, LOG_TIME)
    assert (letter.encoding, letter.value, letter.value_bytes) == ("utf-8", line.decode(), 16)
    assert letter.sha256 == hashlib.sha256(line).hexdigest()


def test_a_dead_letter_of_bytes_is_base64() -> None:
    line = b"\xff\xfe"
    letter = dead_letter(decode(line).rejected[0], EVENTS, 3)
    assert letter.encoding == "base64"
    assert base64.b64decode(letter.value) == line


def test_a_dead_letter_keeps_the_first_64_kib_and_cuts_no_character() -> None:
    line = b"x" + "é".encode() * KEPT_BYTES
    letter = dead_letter(decode(line).rejected[0], EVENTS, 3)
    assert letter.encoding == "utf-8"
    assert letter.value == "x" + "é" * (KEPT_BYTES // 2 - 1)
    assert letter.value_bytes == len(line)
    assert letter.sha256 == hashlib.sha256(line).hexdigest()


def test_ids_of_dead_letters_come_from_where_the_line_lies() -> None:
    rejected = decode(b"x\nx", b"x").rejected
    ids = [dead_letter(one, EVENTS, p).id for one in rejected for p in (3, 4)]
    assert len(set(ids)) == 6
    assert ids[:2] == [dead_letter(decode(b"y\nx", b"z").rejected[0], EVENTS, p).id for p in (3, 4)]


# --- the other topics ----------------------------------------------------------------------------


def test_an_item_without_a_time_has_the_log_s() -> None:
    values = [b'{"item_id":"a"}', b'{"item_id":"b","ts":5}', b"", b'{"item_id":""}', b"{"]
    keys = [b"a", b"b", b"c", b"", b""]
    batch = RecordBatch(ITEMS, 0, range(5), values, [LOG_TIME] * 5, keys)
    decoded = RecordDecoder(TypeAdapter(Item)).decode(batch)
    assert [(item.item_id, item.ts) for item in decoded.records] == [("a", LOG_TIME), ("b", 5.0)]
    assert decoded.tombstones == [(2, b"c")]
    assert [(r.offset, r.field) for r in decoded.rejected] == [(3, "item_id"), (4, WHOLE_LINE)]


@pytest.mark.parametrize(
    ("topic", "line", "field"),
    [
        (GOLD, b'{"example_id":"e","label":"x","annotator":"a","ts":32503680000}', "ts"),
        (GOLD, b'{"example_id":"e","label":"x","annotator":"a","ts":1,"inclusion":0}', "inclusion"),
        (CONTROL, b'{"kind":"lf","ts":1,"who":"a","why":"","name":"x","enabled":1}', "lf.why"),
        (CONTROL, b'{"kind":"stop","ts":1,"who":"a","why":"b"}', WHOLE_LINE),
        (CONTROL, b'{"kind":"erase_user","ts":1,"who":"a","why":"b"}', "erase_user.user_hash"),
    ],
)
def test_records_of_other_topics_are_refused_in_the_same_words(
    topic: str, line: bytes, field: str
) -> None:
    decoded = RecordDecoder(TOPICS[topic]).decode(RecordBatch(topic, 0, [4], [line], [LOG_TIME]))
    assert decoded.records == []
    assert [(r.offset, r.line, r.field) for r in decoded.rejected] == [(4, 1, field)]
