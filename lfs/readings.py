"""What one visit says, in one compiled pass: how long, how sure, how human, and who votes on it.

Functions of the families `behaviour` and `trust` look at one visit. Of all that could be said of
it, the strongest reading alone is put to the vote: a click that was measured by its dwell is
judged by the dwell. Two votes on one fact would conflict, or agree, by construction, and the label
model could no longer tell what either is worth. Who votes, why, and where it errs is written at
each function in its family; by which numbers stands here, next to the others'.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lfs.core import ABSTAIN, ExampleBatch, Pass, Votes
from stream.evidence import Column

__all__ = ["JUDGED", "NEGATIVE", "POSITIVE", "VISITS", "judged"]

NEGATIVE: Final = 0
POSITIVE: Final = 1

LONG_DWELL_S: Final = 30.0
SHORT_DWELL_S: Final = 10.0
ACCIDENT_S: Final = 2.0
QUICK_RETURN_S: Final = 8.0
"""Who turns to something else within so many seconds came straight back."""
GLANCE_S: Final = 10.0
STAY_S: Final = 15.0
GOOD_RATING: Final = 4.0
BAD_RATING: Final = 2.0
SEEN_POSITIONS: Final = 3.0
TOP_POSITION: Final = 1.0
LIKELY_PROPENSITY: Final = 0.5
BURST_CLICKS: Final = 3.0
BURST_S: Final = 10.0
ROBOT_EVENTS_PER_MINUTE: Final = 100.0
"""Decayed events a minute, impressions included, that no person causes by hand."""

JUDGED: Final = (
    "accidental_click",
    "added_to_cart",
    "click_burst",
    "clicked",
    "dismissed",
    "ignored",
    "long_dwell",
    "position_explained",
    "purchased",
    "quick_return",
    "rated",
    "repeated",
    "returned",
    "robotic_rate",
    "shared_or_liked",
    "viewed",
)
"""Names of the functions that vote in the pass, in the order of their numbers."""

(
    _ACCIDENTAL_CLICK,
    _ADDED_TO_CART,
    _CLICK_BURST,
    _CLICKED,
    _DISMISSED,
    _IGNORED,
    _LONG_DWELL,
    _POSITION_EXPLAINED,
    _PURCHASED,
    _QUICK_RETURN,
    _RATED,
    _REPEATED,
    _RETURNED,
    _ROBOTIC_RATE,
    _SHARED_OR_LIKED,
    _VIEWED,
) = range(len(JUDGED))

_IMPRESSIONS: Final = int(Column.IMPRESSIONS)
_CLICKS: Final = int(Column.CLICKS)
_VIEWS: Final = int(Column.VIEWS)
_DWELLS: Final = int(Column.DWELLS)
_DWELL_S: Final = int(Column.DWELL_S)
_PLAYS: Final = int(Column.PLAYS)
_PLAY_S: Final = int(Column.PLAY_S)
_CARTS: Final = int(Column.CARTS)
_PURCHASES: Final = int(Column.PURCHASES)
_RETURNS: Final = int(Column.RETURNS)
_RATINGS: Final = int(Column.RATINGS)
_RATING: Final = int(Column.RATING)
_LIKES: Final = int(Column.LIKES)
_SHARES: Final = int(Column.SHARES)
_SKIPS: Final = int(Column.SKIPS)
_HIDES: Final = int(Column.HIDES)
_REPORTS: Final = int(Column.REPORTS)
_POSITION: Final = int(Column.POSITION)
_PROPENSITY: Final = int(Column.PROPENSITY)
_FIRST_FEEDBACK_TS: Final = int(Column.FIRST_FEEDBACK_TS)
_LAST_TS: Final = int(Column.LAST_TS)
_AWAY_S: Final = int(Column.AWAY_S)
_REPEATS: Final = int(Column.REPEATS)
_USER_RATE: Final = int(Column.USER_RATE)
_CLOSED: Final = int(Column.CLOSED)

_EACH: Final = np.arange(len(JUDGED))


def judged(batch: ExampleBatch, name: str) -> Votes:
    """Return one function's votes (n,), its own; those of all are worked out once a batch."""
    return batch.once("judged", _judged)[:, JUDGED.index(name)].copy()


def _judged(batch: ExampleBatch) -> Votes:
    votes = np.full((len(batch), len(JUDGED)), ABSTAIN, dtype=np.int8)
    VISITS.vote(batch.evidence, _EACH, votes)
    votes.flags.writeable = False
    return votes


def _vote(evidence: NDArray[np.float64], columns: NDArray[np.int64], votes: Votes) -> None:
    _judge(evidence if evidence.flags.carray else evidence.copy(), columns, votes)


VISITS: Final = Pass(JUDGED, _vote)
"""The pass of all of them."""


@njit(inline="always")
def _say(votes: Votes, row: int, column: int, vote: int) -> None:
    if column >= 0:
        votes[row, column] = vote


@njit(cache=True, nogil=True)
def _judge(
    evidence: NDArray[np.float64], columns: NDArray[np.int64], votes: NDArray[np.int8]
) -> None:
    """Fill in the votes of each function that has a column, on each row; the rest stays as it is.

    Comparisons with what is not known, NaN, are false.
    """
    for row in range(len(evidence)):
        seen = evidence[row]
        clicks, purchases = seen[_CLICKS], seen[_PURCHASES]
        first_ts, position = seen[_FIRST_FEEDBACK_TS], seen[_POSITION]
        # How often the thing was opened, and whether the product reported how long it was looked
        # at or played.
        visits = clicks + seen[_VIEWS] + seen[_PLAYS]
        visited = visits > 0.0
        measured = seen[_DWELLS] > 0.0 or seen[_PLAY_S] > 0.0
        # Whether the person said or did more than to look.
        stated = (
            seen[_CARTS] > 0.0
            or purchases > 0.0
            or seen[_RETURNS] > 0.0
            or seen[_RATINGS] > 0.0
            or seen[_LIKES] > 0.0
            or seen[_SHARES] > 0.0
            or seen[_SKIPS] > 0.0
            or seen[_HIDES] > 0.0
            or seen[_REPORTS] > 0.0
        )
        robotic = seen[_USER_RATE] >= ROBOT_EVENTS_PER_MINUTE
        # The dwell or play time that was reported; else, after a bare visit, how soon the person
        # turned to another thing. What followed a cart or a like says nothing about the visit.
        spent_s = np.nan
        if measured:
            spent_s = seen[_DWELL_S] + seen[_PLAY_S]
        elif visited and not stated:
            spent_s = seen[_AWAY_S]
        # Nothing more is known of a visit: no time, no quick return, no robot.
        bare = not (measured or spent_s < QUICK_RETURN_S or robotic)

        if visited and spent_s < ACCIDENT_S and not stated:
            _say(votes, row, columns[_ACCIDENTAL_CLICK], NEGATIVE)
        if seen[_CARTS] > 0.0 and purchases == 0.0:
            _say(votes, row, columns[_ADDED_TO_CART], POSITIVE)
        burst = clicks >= BURST_CLICKS and seen[_LAST_TS] - first_ts <= BURST_S
        if burst and not stated and not robotic:
            _say(votes, row, columns[_CLICK_BURST], NEGATIVE)
        if clicks > 0.0 and bare:
            _say(votes, row, columns[_CLICKED], POSITIVE)
        if seen[_SKIPS] + seen[_HIDES] + seen[_REPORTS] > 0.0:
            _say(votes, row, columns[_DISMISSED], NEGATIVE)
        untouched = seen[_IMPRESSIONS] > 0.0 and seen[_CLOSED] > 0.0 and np.isnan(first_ts)
        if untouched and not position > SEEN_POSITIONS and not stated:
            _say(votes, row, columns[_IGNORED], NEGATIVE)
        if measured and spent_s >= LONG_DWELL_S:
            _say(votes, row, columns[_LONG_DWELL], POSITIVE)
        if measured and ACCIDENT_S <= spent_s < SHORT_DWELL_S:
            _say(votes, row, columns[_LONG_DWELL], NEGATIVE)
        glance = measured and GLANCE_S <= spent_s < STAY_S and clicks > 0.0
        first = position <= TOP_POSITION or seen[_PROPENSITY] > LIKELY_PROPENSITY
        if glance and first and not stated:
            _say(votes, row, columns[_POSITION_EXPLAINED], NEGATIVE)
        if purchases > seen[_RETURNS]:
            _say(votes, row, columns[_PURCHASED], POSITIVE)
        if not measured and ACCIDENT_S <= spent_s < QUICK_RETURN_S:
            _say(votes, row, columns[_QUICK_RETURN], NEGATIVE)
        if seen[_RATING] >= GOOD_RATING:
            _say(votes, row, columns[_RATED], POSITIVE)
        if seen[_RATING] <= BAD_RATING:
            _say(votes, row, columns[_RATED], NEGATIVE)
        again = visits > 1.0 or (visited and seen[_REPEATS] > 0.0)
        if again and (spent_s >= SHORT_DWELL_S or stated) and not robotic:
            _say(votes, row, columns[_REPEATED], POSITIVE)
        if seen[_RETURNS] > 0.0:
            _say(votes, row, columns[_RETURNED], NEGATIVE)
        if visited and robotic:
            _say(votes, row, columns[_ROBOTIC_RATE], NEGATIVE)
        if seen[_LIKES] + seen[_SHARES] > 0.0:
            _say(votes, row, columns[_SHARED_OR_LIKED], POSITIVE)
        if visited and clicks == 0.0 and bare:
            _say(votes, row, columns[_VIEWED], POSITIVE)
