"""What several labeling functions read from the same columns: how long, how sure, how human.

Functions of one family look at one visit. Of all that could be said of it, the strongest reading
alone is put to the vote: a click that was measured by its dwell is judged by the dwell. Two votes
on one fact would conflict, or agree, by construction, and the label model could no longer tell
what either is worth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lfs.core import ABSTAIN, ExampleBatch, Votes

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "ROBOT_EVENTS_PER_MINUTE",
    "has_statement",
    "is_measured",
    "is_robotic",
    "spent_s",
    "visits",
    "votes",
]

NEGATIVE: Final = 0
POSITIVE: Final = 1

ROBOT_EVENTS_PER_MINUTE: Final = 100.0
"""Decayed events a minute, impressions included, that no person causes by hand."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_STATEMENTS: Final = (
    "carts",
    "purchases",
    "returns",
    "ratings",
    "likes",
    "shares",
    "skips",
    "hides",
    "reports",
)


def visits(batch: ExampleBatch) -> Floats:
    """Return how often the thing was opened: clicks, views and plays, shape (n,)."""
    return batch.reading("visits", _visits)


def is_measured(batch: ExampleBatch) -> Flags:
    """Return where the product reported how long the thing was looked at or played."""
    return batch.reading("is_measured", _is_measured)


def has_statement(batch: ExampleBatch) -> Flags:
    """Return where the person said or did more than to look."""
    return batch.reading("has_statement", _has_statement)


def spent_s(batch: ExampleBatch) -> Floats:
    """Return the seconds spent with the thing, NaN where nobody can tell.

    The dwell or play time that was reported; else, after a bare visit, how soon the person
    turned to another thing. What followed a cart or a like says nothing about the visit.
    """
    return batch.reading("spent_s", _spent_s)


def is_robotic(batch: ExampleBatch) -> Flags:
    """Return where events came faster than a person can cause them."""
    return batch.reading("is_robotic", _is_robotic)


def votes(
    batch: ExampleBatch, *, positive: Flags | None = None, negative: Flags | None = None
) -> Votes:
    """Return votes (n,) for rows that are marked, abstaining on the rest; negative wins."""
    out = np.full(len(batch), ABSTAIN, dtype=np.int8)
    if positive is not None:
        out[positive] = POSITIVE
    if negative is not None:
        out[negative] = NEGATIVE
    return out


def _visits(batch: ExampleBatch) -> Floats:
    return batch.column("clicks") + batch.column("views") + batch.column("plays")


def _is_measured(batch: ExampleBatch) -> Flags:
    return (batch.column("dwells") > 0) | (batch.column("play_s") > 0)


def _has_statement(batch: ExampleBatch) -> Flags:
    said: Flags = np.zeros(len(batch), dtype=np.bool_)
    for name in _STATEMENTS:
        said |= batch.column(name) > 0
    return said


def _spent_s(batch: ExampleBatch) -> Floats:
    bare = (visits(batch) > 0) & ~has_statement(batch)
    guessed = np.where(bare, batch.column("away_s"), np.nan)
    measured_s = batch.column("dwell_s") + batch.column("play_s")
    return np.where(is_measured(batch), measured_s, guessed)


def _is_robotic(batch: ExampleBatch) -> Flags:
    return batch.column("user_rate") >= ROBOT_EVENTS_PER_MINUTE
