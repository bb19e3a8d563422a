"""What several labeling functions read from the same columns: how long, how sure, how human.

Functions of one family look at one visit. Of all that could be said of it, the strongest reading
alone is put to the vote: a click that was measured by its dwell is judged by the dwell. Two votes
on one fact would conflict, or agree, by construction, and the label model could no longer tell
what either is worth.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lfs.core import ABSTAIN, ExampleBatch, Votes
from stream.evidence import Column

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "QUICK_RETURN_S",
    "ROBOT_EVENTS_PER_MINUTE",
    "has_statement",
    "is_bare",
    "is_measured",
    "is_robotic",
    "is_visited",
    "spent_s",
    "visits",
    "votes",
]

NEGATIVE: Final = 0
POSITIVE: Final = 1

ROBOT_EVENTS_PER_MINUTE: Final = 100.0
"""Decayed events a minute, impressions included, that no person causes by hand."""

QUICK_RETURN_S: Final = 8.0
"""Who turns to something else within so many seconds came straight back."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CLICKS: Final = int(Column.CLICKS)
_VIEWS: Final = int(Column.VIEWS)
_PLAYS: Final = int(Column.PLAYS)
_DWELLS: Final = int(Column.DWELLS)
_DWELL_S: Final = int(Column.DWELL_S)
_PLAY_S: Final = int(Column.PLAY_S)
_AWAY_S: Final = int(Column.AWAY_S)
_USER_RATE: Final = int(Column.USER_RATE)
_STATEMENTS: Final = (
    int(Column.CARTS),
    int(Column.PURCHASES),
    int(Column.RETURNS),
    int(Column.RATINGS),
    int(Column.LIKES),
    int(Column.SHARES),
    int(Column.SKIPS),
    int(Column.HIDES),
    int(Column.REPORTS),
)


class _Readings(NamedTuple):
    visits: Floats
    spent_s: Floats
    is_visited: Flags
    is_measured: Flags
    is_bare: Flags
    has_statement: Flags
    is_robotic: Flags


def visits(batch: ExampleBatch) -> Floats:
    """Return how often the thing was opened: clicks, views and plays, shape (n,)."""
    return batch.once("readings", _readings).visits


def is_visited(batch: ExampleBatch) -> Flags:
    """Return where the thing was opened at all."""
    return batch.once("readings", _readings).is_visited


def is_bare(batch: ExampleBatch) -> Flags:
    """Return where nothing more is known of a visit: no time, no quick return, no robot."""
    return batch.once("readings", _readings).is_bare


def is_measured(batch: ExampleBatch) -> Flags:
    """Return where the product reported how long the thing was looked at or played."""
    return batch.once("readings", _readings).is_measured


def has_statement(batch: ExampleBatch) -> Flags:
    """Return where the person said or did more than to look."""
    return batch.once("readings", _readings).has_statement


def spent_s(batch: ExampleBatch) -> Floats:
    """Return the seconds spent with the thing, NaN where nobody can tell.

    The dwell or play time that was reported; else, after a bare visit, how soon the person
    turned to another thing. What followed a cart or a like says nothing about the visit.
    """
    return batch.once("readings", _readings).spent_s


def is_robotic(batch: ExampleBatch) -> Flags:
    """Return where events came faster than a person can cause them."""
    return batch.once("readings", _readings).is_robotic


def votes(
    batch: ExampleBatch, *, positive: Flags | None = None, negative: Flags | None = None
) -> Votes:
    """Return votes (n,) for rows that are marked, abstaining on the rest; negative wins."""
    # To abstain is one less than negative, and that one less than positive.
    if positive is None:
        if negative is None:
            return np.full(len(batch), ABSTAIN, dtype=np.int8)
        return negative.view(np.int8) + ABSTAIN
    out = (positive.view(np.int8) << 1) + ABSTAIN
    if negative is not None:
        out[negative] = NEGATIVE
    return out


def _readings(batch: ExampleBatch) -> _Readings:
    n = len(batch)
    readings = _Readings(
        np.empty(n),
        np.empty(n),
        *(np.empty(n, dtype=np.bool_) for _ in range(5)),
    )
    _read(batch.by_column(), *readings)
    for reading in readings:
        reading.flags.writeable = False
    return readings


@njit(cache=True, nogil=True)
def _read(
    columns: Floats,
    visits: Floats,
    spent_s: Floats,
    is_visited: Flags,
    is_measured: Flags,
    is_bare: Flags,
    has_statement: Flags,
    is_robotic: Flags,
) -> None:
    for row in range(columns.shape[1]):
        visits[row] = columns[_CLICKS, row] + columns[_VIEWS, row] + columns[_PLAYS, row]
        is_visited[row] = visits[row] > 0
        is_measured[row] = columns[_DWELLS, row] > 0 or columns[_PLAY_S, row] > 0
        said = False
        for column in _STATEMENTS:
            said |= columns[column, row] > 0
        has_statement[row] = said
        is_robotic[row] = columns[_USER_RATE, row] >= ROBOT_EVENTS_PER_MINUTE
        if is_measured[row]:
            spent_s[row] = columns[_DWELL_S, row] + columns[_PLAY_S, row]
        elif visits[row] > 0 and not said:
            spent_s[row] = columns[_AWAY_S, row]
        else:
            spent_s[row] = np.nan
        quick = spent_s[row] < QUICK_RETURN_S
        is_bare[row] = not (is_measured[row] or quick or is_robotic[row])
