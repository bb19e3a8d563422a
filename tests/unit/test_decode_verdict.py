"""The fast path and the public schema give one verdict on every line, and the same event."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decoding.arbiter import Arbiter
from stream.decoding.decode import Decoded, Decoder
from stream.decoding.rejection import Invalid
from stream.events import EVENTS, Event
from stream.records import RecordBatch

LOG_TIME = 1_600_000_000.0
GOOD = b'{"event_id":"e","type":"click","ts":1,"user_id":"u","item_id":"i"}'
FIELDS = tuple(Event.model_fields)

NUMBERS = [
    *("-0", "-0.0", "0", "0.0", "1", "1.0", "1E0", "-1", "0.5", "1.0000000000000002", "1.5"),
    *("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-400", "-1e-400", "5e-324"),
    *("1e11", "100000000000", "99999999999", "99999999999.99999", "99999999999.999999999"),
    *("1600000300", "1600000300.0000002", "1600000301", "1590884413000"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "-1.7976931348623157e308"),
    *("9223372036854775807", "9223372036854775808", "9223372036854775807.0"),
    *("-9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("9007199254740993", "9" * 40, "9" * 400, "9" * 5_000),
    *("01", "+1", ".5", "1.", "0x1", "1_000", "1e", "--1"),
]
LENGTHS = (0, 1, 64, 65, 128, 129, 256, 257, 8_192, 8_193)
STRINGS = [
    *(json.dumps("x" * length) for length in LENGTHS),
    *(json.dumps("😀" * length, ensure_ascii=False) for length in LENGTHS),
    *(r'"\u0000"', r'"a\u0000b"', r'"\\u0000"', r'"\ud800"', r'"\ud83d\ude00"', '"a\tb"', '"a\0b"'),
    *('"click"', '"view"', '"clik"', '"1"', '"true"', '"2020-01-01T00:00:00Z"', '"2020-01-01"'),
]
OTHERS = ["true", "false", "null", "[]", "{}", "[1]", '{"a":{}}', '{"a":[]}', "tru", "", "'a'"]
CONTEXTS = [
    *(f'{{"k":{value}}}' for value in (*NUMBERS, *STRINGS, *OTHERS)),
    *(f"{{{key}:1}}" for key in (*STRINGS, "1", "null")),
    *("{" + ",".join(f'"k{i}":1' for i in range(count)) + "}" for count in (63, 64, 65)),
    "{" + ",".join(f'"k{i}":null' for i in range(65)) + "}",
    "{" + '"k":1,' * 70 + '"k":2}',
]


def _override(name: str, value: str) -> bytes:
    return GOOD[:-1] + f',"{name}":{value}}}'.encode()


def _decode(*values: bytes, keep_unknown: bool = False) -> Decoded:
    batch = RecordBatch(EVENTS, 3, range(len(values)), values, [LOG_TIME] * len(values))
    return Decoder(keep_unknown=keep_unknown).decode(batch)


def _judged(arbiter: Arbiter, line: bytes) -> tuple[str, int, str]:
    """Return the schema's verdict, telling 1 from 1.0 and from True, and 0.0 from -0.0."""
    if not line.strip():
        return "", 0, ""
    try:
        verdict = arbiter.judge(line, LOG_TIME)
    except Invalid as fault:
        return "", 0, f"{fault.field}: {fault.reason}"
    return repr(verdict.event), verdict.unknown_fields, ""


@pytest.mark.parametrize("keep_unknown", [False, True])
@pytest.mark.parametrize("field", [*FIELDS, "new"])
def test_at_every_boundary_of_every_field(field: str, keep_unknown: bool) -> None:
    arbiter = Arbiter(keep_unknown=keep_unknown)
    accepted = 0
    for value in (*NUMBERS, *STRINGS, *OTHERS, *(CONTEXTS if field == "context" else ())):
        line = _override(field, value)
        event, unknown, reason = _judged(arbiter, line)
        decoded = _decode(line, keep_unknown=keep_unknown)
        assert [repr(e) for e in decoded.events] == [event] * (not reason), line[:200]
        assert [f"{r.field}: {r.reason}" for r in decoded.rejected] == [reason] * bool(reason)
        assert decoded.unknown_fields == unknown
        accepted += not reason
    assert 0 < accepted


_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.25e}"),
    st.decimals(allow_nan=False, allow_infinity=False, places=20).map(str),
    st.sampled_from(NUMBERS),
)
_strings = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda s: json.dumps(s, ensure_ascii=False)),
    st.integers(126, 130).map(lambda n: json.dumps("é" * n, ensure_ascii=False)),
    st.integers(255, 258).map(lambda n: json.dumps("x" * n)),
    st.sampled_from([r'"\u0000"', r'"\ud800"', r'"\\u0000"', '"a\tb"', '"click"', '"view"']),
)
_scalars = st.one_of(_numbers, _strings, st.sampled_from(["true", "false", "null"]))
_contexts = st.lists(st.tuples(_strings, _scalars), max_size=3).map(
    lambda pairs: "{" + ",".join(f"{k}:{v}" for k, v in pairs) + "}"
)
_values = st.one_of(_scalars, _contexts, st.sampled_from(["[]", "{}", "[1]", '{"a":{}}']))
_times = st.one_of(
    st.builds(
        lambda us, zone: datetime.fromtimestamp(us / 1e6, timezone(timedelta(minutes=zone))),
        st.integers(-(10**14), 4 * 10**15),
        st.integers(-1439, 1439),
    ).map(lambda t: json.dumps(t.isoformat())),
    st.from_regex(
        r'"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9]'
        r'(\.[0-9]{1,12})?(Z|z|[+-][0-2][0-9]:[0-9]{2})?"',
        fullmatch=True,
    ),
)
_deep = st.integers(195, 205).map(lambda n: "[" * n + "]" * n)
_plain = {name: '"x"' for name in ("event_id", "user_id", "item_id")} | {
    "type": '"click"',
    "ts": "1",
}


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Draw an event line, good or bad: most fields right, some drawn from anything."""
    fields = dict(_plain)
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        fields[name] = draw({"context": _contexts, "ts": _times}.get(name, _values))
    if draw(st.booleans()):
        fields.pop(draw(st.sampled_from(FIELDS)), None)
    pairs = list(fields.items())
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from([*FIELDS, "new", "newer", "newest"]))
        pairs.append((name, draw(st.one_of(_values, _deep))))
    space = draw(st.sampled_from(["", "", " ", "\t", "\r"]))
    text = "{" + ",".join(f'"{k}"{space}:{space}{v}' for k, v in pairs) + "}"
    line = text.encode("utf-8", "surrogatepass").replace(b"\n", b"")
    cut = draw(st.integers(0, 30))
    return line[:-cut] if 0 < cut < 3 else line


_bytes = st.binary(max_size=20).map(lambda data: data.replace(b"\n", b""))
_damaged = st.builds(
    lambda at, length, junk: GOOD[:at] + junk + GOOD[at + length :],
    st.integers(0, len(GOOD)),
    st.integers(0, 2),
    st.one_of(_bytes, st.sampled_from([b"{", b"}", b'"', b":", b",", b"\\", b"\xff", b"0"])),
)


@pytest.mark.parametrize("keep_unknown", [False, True])
@given(drawn=st.lists(st.one_of(lines(), _damaged, _bytes), min_size=1, max_size=3))
def test_on_anything_drawn_in_any_batch(keep_unknown: bool, drawn: list[bytes]) -> None:
    arbiter = Arbiter(keep_unknown=keep_unknown)
    verdicts = [_judged(arbiter, line) for line in drawn]
    for values in (drawn, [GOOD + b"\n" + b"\n".join(drawn)]):
        decoded = _decode(*values, keep_unknown=keep_unknown)
        events = decoded.events if values is drawn else decoded.events[1:]
        assert [repr(event) for event in events] == [v[0] for v in verdicts if v[0]]
        assert [f"{r.field}: {r.reason}" for r in decoded.rejected] == [
            v[2] for v in verdicts if v[2]
        ]
        assert decoded.unknown_fields == sum(v[1] for v in verdicts)
