"""What a bad line is told: where it lies, which field is at fault, what was found, what is allowed.

The arbiter of every topic: `parse_object` decides what is JSON, pydantic decides what is valid.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from math import isfinite, isnan
from typing import Any, Final, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from stream.events import DeadLetter

__all__ = [
    "KEPT_BYTES",
    "WHOLE_LINE",
    "Invalid",
    "Origin",
    "Rejected",
    "dead_letter",
    "explain",
    "parse_object",
    "reason_of",
    "refuse_future",
    "refuse_long",
    "refuse_non_finite",
    "split_lines",
]

WHOLE_LINE: Final = "line"
"""Name of the field at fault when it is the line itself."""

KEPT_BYTES: Final = 65_536
"""How much of a rejected line its dead letter keeps."""

_SHOWN_CHARACTERS: Final = 60
_SHOWN_BITS: Final = 100
_SHOWN_FIELDS: Final = 5


class Origin(NamedTuple):
    """Where a line lies: offset of its record, line in it (from 1), the log's time of it."""

    offset: int
    line: int
    ts: float


class Invalid(Exception):
    """A line that is refused: the field at fault and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused line of a record.

    Parameters
    ----------
    offset, line, ts
        Offset of the record, number of the line in it (from 1), the log's time of the record.
    field
        Field at fault, as ``context.price``; ``line`` when it is the line itself.
    reason
        What was found and what is allowed. May quote the line: never log it.
    raw
        The whole line.
    """

    offset: int
    line: int
    ts: float
    field: str
    reason: str
    raw: bytes


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object that the line holds; of a repeated key, the last value counts.

    NaN, infinities and numbers beyond a float come back as such, so that the field which holds
    them can be named; `explain` and `refuse_non_finite` refuse them.

    Raises
    ------
    Invalid
        For anything but one JSON object.
    """
    try:
        document = from_json(line, allow_inf_nan=True)
    except ValueError as error:
        raise Invalid(WHOLE_LINE, f"is not JSON: {_syntax_error(line, error)}") from error
    if not isinstance(document, dict):
        raise Invalid(WHOLE_LINE, f"should be one JSON object; found {_shown(document)}")
    return document


def _syntax_error(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as unicode_error:
        at = unicode_error.start
        return f"invalid UTF-8 at byte {at + 1} (0x{line[at]:02x})"
    if line.startswith(codecs.BOM_UTF8):
        return "it starts with a byte order mark"
    return str(error)


def refuse_long(line: bytes, max_line_bytes: int) -> None:
    """Refuse a line that is too long to be read."""
    if len(line) > max_line_bytes:
        raise Invalid(
            WHOLE_LINE, f"is too long; found {len(line)} bytes, allowed: {max_line_bytes}"
        )


def refuse_non_finite(field: str, value: object) -> None:
    """Refuse NaN and infinities anywhere below a field that no schema looks at."""
    waiting = [(field, value)]
    while waiting:
        name, part = waiting.pop()
        if isinstance(part, float) and not isfinite(part):
            raise Invalid(name, f"should be a finite number; found {_shown(part)}")
        if isinstance(part, dict):
            waiting.extend((f"{name}.{key}", below) for key, below in part.items())
        elif isinstance(part, list):
            waiting.extend((f"{name}.{index}", below) for index, below in enumerate(part))


def refuse_future(field: str, ts: float, latest: float) -> None:
    """Refuse a time that is further ahead of the log's own time than is allowed."""
    if ts > latest:
        raise Invalid(
            field,
            f"is {ts - latest:.0f} s beyond the allowed skew ahead of the log's time; "
            f"found {ts!r}, allowed: at most {latest:.3f}",
        )


def explain(error: ValidationError) -> Invalid:
    """Return the first fault of a refused object; the reason names the other fields at fault."""
    faults = error.errors(include_url=False, include_context=False)
    first = faults[0]
    field = _field(first)
    reason = reason_of(first)
    others = dict.fromkeys(_field(fault) for fault in faults[1:])
    others.pop(field, None)
    if others:
        names = list(others)
        more = "" if len(names) <= _SHOWN_FIELDS else f" and {len(names) - _SHOWN_FIELDS} more"
        reason = f"{reason} (also wrong: {', '.join(names[:_SHOWN_FIELDS])}{more})"
    return Invalid(field, reason)


def _field(fault: ErrorDetails) -> str:
    parts = [_clipped(str(part)) for part in fault["loc"] if part != "[key]"]
    return ".".join(parts) or WHOLE_LINE


def reason_of(fault: ErrorDetails) -> str:
    """Return what is wrong with a field, what was found, and what is allowed."""
    kind = fault["type"]
    if kind == "missing":
        return "is missing; it is required"
    message = fault["msg"]
    for subject in ("Input ", "String ", "Value ", "List ", "Dictionary "):
        message = message.removeprefix(subject)
    message = message.removesuffix(" after validation, not more")
    if kind == "string_pattern_mismatch" and "\0" in str(fault["input"]):
        message = "should not contain a NUL character"
    return f"{message}; found {_shown(fault['input'])}"


def _shown(value: object) -> str:
    match value:
        case str() if len(value) > _SHOWN_CHARACTERS:
            shown = f"{_clipped(value)!r} ({len(value)} characters)"
        case None | bool():
            shown = {None: "null", True: "true", False: "false"}[value]
        case list():
            shown = f"an array of {len(value)}"
        case dict():
            shown = f"an object of {len(value)} keys"
        case float() if not isfinite(value):
            shown = "NaN" if isnan(value) else "an infinite number"
        case int() if value.bit_length() > _SHOWN_BITS:
            shown = f"an integer of {value.bit_length()} bits"
        case _:
            shown = repr(value)
    return shown


def _clipped(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return text[:_SHOWN_CHARACTERS] + "…"


def split_lines(value: bytes) -> Sequence[bytes]:
    """Return the lines of a record: one, if all of it is one JSON object laid out over several."""
    lines = value.removesuffix(b"\n").split(b"\n")
    first = next((line for line in lines if line and not line.isspace()), b"")
    if first.lstrip().startswith(b"{") and not first.rstrip().endswith(b"}"):
        try:
            whole = from_json(value)
        except ValueError:
            return lines
        if isinstance(whole, dict):
            return (value,)
    return lines


def dead_letter(rejected: Rejected, topic: str, partition: int) -> DeadLetter:
    """Return the dead letter of a refused line; its id is derived from where the line lies."""
    origin = f"{topic}\0{partition}\0{rejected.offset}\0{rejected.line}".encode()
    encoding, value = _kept(rejected.raw)
    return DeadLetter(
        id=blake2b(origin, digest_size=16).hexdigest(),
        topic=topic,
        partition=partition,
        offset=rejected.offset,
        line=rejected.line,
        ts=rejected.ts,
        field=rejected.field,
        reason=rejected.reason,
        encoding=encoding,
        value=value,
        value_bytes=len(rejected.raw),
        sha256=sha256(rejected.raw).hexdigest(),
    )


def _kept(raw: bytes) -> tuple[Literal["utf-8", "base64"], str]:
    """Write the head of a line as text, or as base64 where it is not UTF-8."""
    head = raw[:KEPT_BYTES]
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # A character cut in two by the limit is left out, not an error.
        return "utf-8", decoder.decode(head, final=len(raw) <= KEPT_BYTES)
    except UnicodeDecodeError:
        return "base64", base64.b64encode(head).decode()
