"""Damage to event lines, with the fault that each must be rejected for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

__all__ = ["KINDS", "OVERSIZE_BYTES", "Rejection", "corrupt"]

OVERSIZE_BYTES = 2 * 1024 * 1024
"""Length of an oversized line: twice what a line may have."""

WHOLE_LINE = "line"
"""Name of the field at fault when it is the line itself."""

_YEAR_3000 = 32_503_680_000.0
_MILLISECONDS = 1_000.0
# A clock that counts milliseconds gives numbers of this size today.
_LATE_SECONDS = 1_700_000_000.0
_WRONG: tuple[tuple[str, object], ...] = (
    ("user_id", 17),
    ("item_id", None),
    ("ts", "soon"),
    ("ts", True),
    ("position", "first"),
    ("propensity", 1.5),
    ("propensity", 0),
    ("value", "much"),
    ("context", ["mobile"]),
    ("request_id", {"id": 1}),
    ("event_id", ""),
    ("event_id", "x" * 129),
)
_REQUIRED = ("event_id", "type", "ts", "user_id", "item_id")
_MARK = "\ue000number\ue000"


class Rejection(NamedTuple):
    """What must be said of a damaged line.

    Parameters
    ----------
    line
        Its number, from 1.
    field
        The field at fault; ``line`` where it is the line itself.
    kind
        How it was damaged: one of `KINDS`.
    """

    line: int
    field: str
    kind: str


Damage = Callable[[bytes, np.random.Generator], tuple[bytes, str]]


def _truncated(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    return line[: int(rng.integers(1, len(line)))], WHOLE_LINE


def _wrong_type(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    field, value = _WRONG[int(rng.integers(len(_WRONG)))]
    return _with(line, field, value), field


def _missing_field(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    field = _REQUIRED[int(rng.integers(len(_REQUIRED)))]
    document = _document(line)
    del document[field]
    return orjson.dumps(document), field


def _not_finite(literals: tuple[bytes, ...]) -> Damage:
    def damage(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
        field = ("value", "ts", "propensity")[int(rng.integers(3))]
        literal = literals[int(rng.integers(len(literals)))]
        return _with(line, field, _MARK).replace(orjson.dumps(_MARK), literal), field

    return damage


def _oversized(line: bytes, _: np.random.Generator) -> tuple[bytes, str]:
    return _with(line, "padding", "x" * (OVERSIZE_BYTES - len(line))), WHOLE_LINE


def _unknown_type(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    name = ("teleport", "Click", "impressions", "")[int(rng.integers(4))]
    return _with(line, "type", name), "type"


def _ms_timestamp(line: bytes, _: np.random.Generator) -> tuple[bytes, str]:
    ts = _document(line).get("ts")
    seconds = max(float(ts) if isinstance(ts, int | float) else 0.0, _LATE_SECONDS)
    return _with(line, "ts", int(seconds * _MILLISECONDS)), "ts"


def _year_3000(line: bytes, _: np.random.Generator) -> tuple[bytes, str]:
    return _with(line, "ts", _YEAR_3000), "ts"


def _invalid_utf8(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    # An overlong slash, a lone continuation, half a surrogate pair, a byte that never occurs.
    bad = (b"\xc0\xaf", b"\x80", b"\xed\xa0\x80", b"\xff")[int(rng.integers(4))]
    return _with(line, "user_id", _MARK).replace(_MARK.encode(), b"u" + bad), WHOLE_LINE


def _not_an_object(line: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    whole = (b"[" + line + b"]", b'"event"', b"null", b"42", line + line)
    return whole[int(rng.integers(len(whole)))], WHOLE_LINE


_DAMAGE: dict[str, Damage] = {
    "truncated": _truncated,
    "wrong_type": _wrong_type,
    "missing_field": _missing_field,
    "nan": _not_finite((b"NaN",)),
    "infinity": _not_finite((b"Infinity", b"-Infinity", b"1e999")),
    "oversized": _oversized,
    "unknown_type": _unknown_type,
    "ms_timestamp": _ms_timestamp,
    "year_3000": _year_3000,
    "invalid_utf8": _invalid_utf8,
    "not_an_object": _not_an_object,
}

KINDS = tuple(_DAMAGE)
"""Every way in which a line is damaged."""

# Two MiB each: rare, or a large file would be little else.
_OVERSIZED_WEIGHT = 0.1


def corrupt(
    lines: Sequence[bytes], share: float, seed: int, kinds: Sequence[str] = KINDS
) -> tuple[list[bytes], list[Rejection]]:
    """Return the lines with a share of them damaged, and what must be said of each of those.

    Damaged lines take the place of the whole ones; the others keep their bytes and numbers. Where
    enough lines are damaged, every kind occurs.

    Parameters
    ----------
    lines
        Valid event lines, each one JSON object, without line ends.
    share
        Of the lines to damage, 0 to 1; rounded to a whole number of lines.
    seed
        The same seed damages the same lines in the same way.
    kinds
        Ways of damage to choose from.

    Examples
    --------
    >>> line = b'{"event_id":"e1","type":"click","ts":1,"user_id":"u1","item_id":"i1"}'
    >>> damaged, faults = corrupt([line] * 4, 0.25, seed=1, kinds=["year_3000"])
    >>> faults
    [Rejection(line=2, field='ts', kind='year_3000')]
    >>> damaged[1]
    b'{"event_id":"e1","type":"click","ts":32503680000.0,"user_id":"u1","item_id":"i1"}'
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share of damaged lines must be between 0 and 1, not {share}")
    rng = np.random.Generator(np.random.PCG64(seed))
    count = round(share * len(lines))
    places = np.sort(rng.choice(len(lines), size=count, replace=False)).tolist()
    weights = np.array([_OVERSIZED_WEIGHT if kind == "oversized" else 1.0 for kind in kinds])
    drawn = rng.choice(len(kinds), size=count, p=weights / weights.sum())
    if count >= len(kinds):
        drawn[: len(kinds)] = np.arange(len(kinds))
        rng.shuffle(drawn)
    damaged, faults = list(lines), []
    for place, which in zip(places, drawn.tolist(), strict=True):
        kind = kinds[which]
        damaged[place], field = _DAMAGE[kind](lines[place], rng)
        faults.append(Rejection(place + 1, field, kind))
    return damaged, faults


def _document(line: bytes) -> dict[str, Any]:
    document = orjson.loads(line)
    if not isinstance(document, dict):
        raise ValueError("a line to damage must be a JSON object")
    return document


def _with(line: bytes, field: str, value: object) -> bytes:
    document = _document(line)
    document[field] = value
    return orjson.dumps(document)
