"""Candidates for a user with what speaks for each: which expert, and which item of the history."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.config import POWER_STEPS
from models.recommender.core import RecommenderCore
from models.recommender.entry import Part
from models.recommender.tables import LINE_WORDS, Row
from models.recommender.walk import FAR_POWERS

__all__ = ["AGAIN", "REASONS", "Candidates", "candidates"]

REASONS = ("together", "together_before", "popular_now", "popular", "again", "segment")
"""What speaks for an item: it goes with the last few items of the history, or with earlier ones;
many choose it lately, or over long; the user chose it before and people come back to things;
people of the user's segment choose it."""

AGAIN, SEGMENT = 4, 5
_POPULAR_NOW = 2

_FILLED, _SOURCE, _FIRST = Row.FILLED, Row.SOURCE, Row.FIRST


class Candidates(NamedTuple):
    """Items by score, best first, shapes (n,).

    ``item`` is the index. ``reason`` is the position in `REASONS` of what contributes most,
    ``share`` its share of the score, ``because`` the item of the history that brought it up, -1
    where none did.
    """

    item: NDArray[np.int32]
    score: NDArray[np.float64]
    reason: NDArray[np.int8]
    share: NDArray[np.float64]
    because: NDArray[np.int32]


def candidates(
    core: RecommenderCore,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    n: int,
    ts: float = 0.0,
    excluded: NDArray[np.int32] | None = None,
    segment: int = -1,
) -> Candidates:
    """Return the ``n`` best items for a history, ties by index; fewer where there are fewer.

    Arguments as for `RecommenderCore.recommend_for`.
    """
    t, p = core.tables, core.parameters
    index, parts = core.score(items, weights, length, ts, segment)
    if excluded is not None and len(excluded):
        usable = ~np.isin(index, excluded)
        index, parts = index[usable], parts[usable]
    score = parts[:, Part.SCORE]
    if len(score) > n:
        # Ties at the edge are kept, and cut by index below.
        near = score >= np.partition(score, len(score) - n)[len(score) - n]
        index, parts, score = index[near], parts[near], score[near]
    order = np.lexsort((index, -score))[:n]
    index, parts, score = index[order], parts[order, : Part.SCORE], score[order]
    reason = parts.argmax(axis=1).astype(np.int8)
    share = parts.max(axis=1, initial=0.0) / np.maximum(score, np.finfo(float).tiny)
    because = np.full(len(index), -1, np.int32)
    steps = t.powers[FAR_POWERS, ::POWER_STEPS][: min(length, p.window)]
    _attribute(
        t.pool,
        t.strengths,
        t.lines,
        items[: len(steps)],
        (steps * weights[: len(steps)]).astype(np.float64),
        index,
        np.zeros(len(t.flags), np.int32),
        because,
    )
    because[reason > 1] = -1
    if length == 0:
        # Of who has no history nothing else is said by what scores co-visitation.
        reason[reason < _POPULAR_NOW] = SEGMENT
    own = reason == AGAIN
    because[own] = index[own]
    return Candidates(index, score, reason, np.minimum(share, 1.0), because)


@numba.njit(cache=True)
def _attribute(
    pool: NDArray[np.int32],
    strengths: NDArray[np.float32],
    lines: NDArray[np.int32],
    items: NDArray[np.int32],
    weights: NDArray[np.float64],
    chosen: NDArray[np.int32],
    place: NDArray[np.int32],
    because: NDArray[np.int32],
) -> None:
    """Put into ``because`` the item of the history that gave most to each chosen one.

    ``place`` is scratch of one zero an item.
    """
    best = np.zeros(chosen.size)
    for x in range(chosen.size):
        place[chosen[x]] = x + 1
    for k in range(items.size):
        j = items[k]
        if j < 0:
            continue
        row = lines[j] * LINE_WORDS
        source = weights[k] / (1.0 + strengths[row + _SOURCE])
        first = row + _FIRST
        for y in range(first, first + 2 * pool[row + _FILLED], 2):
            x = place[pool[y]] - 1
            if x >= 0 and source * strengths[y + 1] > best[x]:
                best[x] = source * strengths[y + 1]
                because[x] = j
