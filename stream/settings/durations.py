"""Durations in settings: a number of seconds, or a string with a unit."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["UNITS_S", "Duration", "parse_duration", "written_duration"]

UNITS_S: Final[dict[str, float]] = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
"""Seconds in each unit that a duration may be written in."""

_ENDLESS_S: Final = 1e11
_WRITTEN: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ]*)\s*")
_ALLOWED: Final = f'a number of seconds, or a string as "30m" with one of {", ".join(UNITS_S)}'


def parse_duration(value: object) -> object:
    """Return seconds for a string with a unit; numbers stay as they are.

    Raises
    ------
    PydanticCustomError
        For anything that is no duration; the message names the units that are allowed.

    Examples
    --------
    >>> parse_duration("30m"), parse_duration("1.5 h"), parse_duration(".25"), parse_duration(7)
    (1800.0, 5400.0, 0.25, 7)
    """
    if isinstance(value, str):
        match = _WRITTEN.fullmatch(value)
        if match is None:
            raise PydanticCustomError("duration", f"should be a duration: {_ALLOWED}")
        number, unit = match.groups()
        if unit and unit not in UNITS_S:
            raise PydanticCustomError("duration_unit", f"has an unknown unit; allowed: {_ALLOWED}")
        value = float(number) * UNITS_S[unit or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value < _ENDLESS_S:
        raise PydanticCustomError("duration", f"should be a duration: {_ALLOWED}")
    return value


def written_duration(seconds: float) -> str:
    """Write a duration with the largest unit that divides it.

    Examples
    --------
    >>> written_duration(1800), written_duration(172800), written_duration(0.25)
    ('30m', '2d', '250ms')
    """
    for unit in ("d", "h", "m", "s"):
        count = seconds / UNITS_S[unit]
        if count >= 1 and count.is_integer():
            return f"{count:.0f}{unit}"
    milliseconds = seconds * 1_000
    if milliseconds.is_integer() and seconds:
        return f"{milliseconds:.0f}ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
"""Seconds, at least 0."""
