"""Field types that the public schemas are made of, with their limits.

Every limit is written once, here: the pydantic models, the JSON Schemas and the fast decoder all
take it from these constants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "MAX_CONTEXT_KEYS",
    "MAX_CONTEXT_KEY_LENGTH",
    "MAX_CONTEXT_STRING_LENGTH",
    "MAX_EVENT_ID_LENGTH",
    "MAX_FINITE",
    "MAX_ID_LENGTH",
    "MAX_SENTENCE_LENGTH",
    "MAX_TEXT_LENGTH",
    "MAX_TYPE_LENGTH",
    "NOT_NUL",
    "TS_LIMIT",
    "Attributes",
    "Context",
    "EventId",
    "EventType",
    "Finite",
    "Id",
    "Integer",
    "Probability",
    "Propensity",
    "Scalar",
    "Sentence",
    "Text",
    "Timestamp",
    "keepable",
    "parse_timestamp",
]

MAX_EVENT_ID_LENGTH: Final = 128
MAX_ID_LENGTH: Final = 256
MAX_TYPE_LENGTH: Final = 64
MAX_SENTENCE_LENGTH: Final = 2_048
MAX_TEXT_LENGTH: Final = 65_536
MAX_CONTEXT_KEYS: Final = 64
MAX_CONTEXT_KEY_LENGTH: Final = 256
MAX_CONTEXT_STRING_LENGTH: Final = 8_192
MAX_FINITE: Final = 1.7976931348623157e308
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

TS_LIMIT: Final = 1e11
"""First number that cannot be seconds since the epoch (the year 5138): surely milliseconds."""

NOT_NUL: Final = r"^[^\x00]*$"

Scalar = str | bool | int | float

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:(\d\d)(?:\.(\d+))?(?:[Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)
_NO_ZONE: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?)?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_SECOND: Final = "60"
_MICROSECOND_DIGITS: Final = 6
_TS_ALLOWED: Final = "seconds since the epoch, or an RFC 3339 string with a zone"


def parse_timestamp(value: object) -> object:
    """Return seconds since the epoch for an RFC 3339 string; anything else as it is.

    Raises
    ------
    PydanticCustomError
        For a string that is not RFC 3339, or has no zone, and for a number that must be
        milliseconds.
    """
    if isinstance(value, str):
        return _parse_rfc3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and not isfinite(value):
        return value
    # An integer of JSON may be too large for a float: compare it, never convert it.
    if value >= TS_LIMIT:
        raise PydanticCustomError(
            "ts_milliseconds", f"looks like milliseconds; allowed: {_TS_ALLOWED}"
        )
    if value < 0:
        raise PydanticCustomError(
            "ts_negative", f"is before the epoch (1970); allowed: {_TS_ALLOWED}"
        )
    return value


def _parse_rfc3339(text: str) -> float:
    match = _RFC3339.fullmatch(text)
    if match is None:
        if _NO_ZONE.fullmatch(text):
            raise PydanticCustomError("ts_zone", f"has no zone; allowed: {_TS_ALLOWED}")
        raise PydanticCustomError("ts_format", f"is no time; allowed: {_TS_ALLOWED}")
    text = text.upper()
    second, fraction = match.groups()
    start, end = match.span(1)
    leap = second == _LEAP_SECOND
    try:
        if leap or (fraction and len(fraction) > _MICROSECOND_DIGITS):
            zone = text[end:].lstrip(".0123456789")
            moment = datetime.fromisoformat(f"{text[:start]}{'59' if leap else second}{zone}")
            whole = round((moment - _EPOCH).total_seconds()) + leap
            # Rounded once, as a JSON number with the same digits would be.
            ts = float(f"{whole}.{fraction or 0}") if whole >= 0 else float(whole)
        else:
            ts = (datetime.fromisoformat(text) - _EPOCH).total_seconds()
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("ts_format", f"is no time; allowed: {_TS_ALLOWED}") from error
    if ts < 0:
        raise PydanticCustomError(
            "ts_negative", f"is before the epoch (1970); allowed: {_TS_ALLOWED}"
        )
    return ts


def _integral(value: object) -> object:
    """Take 3.0 for 3, as JSON Schema does; other floats stay and are refused."""
    if isinstance(value, float) and value.is_integer() and INT64_MIN <= value < INT64_MAX:
        return int(value)
    return value


def _scalar(value: object) -> Scalar:
    match value:
        case bool():
            return value
        case str():
            if len(value) > MAX_CONTEXT_STRING_LENGTH:
                raise PydanticCustomError(
                    "context_length",
                    f"should have at most {MAX_CONTEXT_STRING_LENGTH} characters",
                )
            if "\0" in value:
                raise PydanticCustomError("nul", "should not contain a NUL character")
            return value
        case int() if INT64_MIN <= value <= INT64_MAX:
            return value
        case int():
            raise PydanticCustomError(
                "context_integer", "should be within 64 bits (send larger ones as a string)"
            )
        case float() if isfinite(value):
            return value
    raise PydanticCustomError("context_value", "should be a string, a finite number, true or false")


def keepable(name: str, value: object) -> bool:
    """Tell whether the pair is valid in a ``context``."""
    if len(name) > MAX_CONTEXT_KEY_LENGTH or "\0" in name:
        return False
    try:
        _scalar(value)
    except PydanticCustomError:
        return False
    return True


def _without_nulls(value: object) -> object:
    """Take a null for an absent key, as for any other optional field."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


_SCALAR_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_CONTEXT_STRING_LENGTH, "pattern": NOT_NUL},
        {"type": "boolean"},
        {"type": "integer", "minimum": INT64_MIN, "maximum": INT64_MAX},
        {"type": "number"},
        {"type": "null", "description": "The same as an absent key."},
    ]
}

EventId = Annotated[str, Field(min_length=1, max_length=MAX_EVENT_ID_LENGTH, pattern=NOT_NUL)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=NOT_NUL)]
EventType = Annotated[str, Field(min_length=1, max_length=MAX_TYPE_LENGTH, pattern=NOT_NUL)]
Sentence = Annotated[str, Field(max_length=MAX_SENTENCE_LENGTH, pattern=NOT_NUL)]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH, pattern=NOT_NUL)]
Finite = Annotated[float, Field(ge=-MAX_FINITE, le=MAX_FINITE)]
Probability = Annotated[float, Field(ge=0, le=1)]
Propensity = Annotated[float, Field(gt=0, le=1)]
# Limits stand before the validators that run before them: only so do they reach the JSON Schema.
Integer = Annotated[int, Field(ge=INT64_MIN, le=INT64_MAX), BeforeValidator(_integral)]
Timestamp = Annotated[
    float,
    Field(ge=0, lt=TS_LIMIT),
    BeforeValidator(parse_timestamp),
    WithJsonSchema(
        {
            "description": f"Event time: {_TS_ALLOWED}.",
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": TS_LIMIT},
                {"type": "string", "format": "date-time"},
            ],
        }
    ),
]
_ContextKey = Annotated[str, Field(max_length=MAX_CONTEXT_KEY_LENGTH, pattern=NOT_NUL)]
_ContextValue = Annotated[Scalar, PlainValidator(_scalar), WithJsonSchema(_SCALAR_SCHEMA)]
_Scalars = dict[_ContextKey, _ContextValue]
Context = Annotated[_Scalars, Field(max_length=MAX_CONTEXT_KEYS), BeforeValidator(_without_nulls)]
Attributes = Annotated[_Scalars, Field(max_length=256), BeforeValidator(_without_nulls)]
