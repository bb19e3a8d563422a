"""Candidates for a user with what speaks for each: which expert, and which item of the history."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.config import POWER_STEPS
from models.recommender.core import RecommenderCore
from models.recommender.entry import Part, score_history
from models.recommender.tables import LINE_WORDS, Flag, Row, Trait
from models.recommender.walk import FAR_POWERS

__all__ = ["AGAIN", "REASONS", "Candidates", "candidates"]

REASONS = ("together", "together_before", "popular_now", "popular", "again", "segment")
"""What speaks for an item: it goes with the last few items of the history, or with earlier ones;
many choose it lately, or over long; the user chose it before and people come back to things;
people of the user's segment choose it."""

AGAIN, SEGMENT = 4, 5
_POPULAR_NOW = 2

_FILLED, _SOURCE, _FIRST = Row.FILLED, Row.SOURCE, Row.FIRST
_PLACE, _SEEN = Trait.PLACE, Flag.SEEN
_SCORE = Part.SCORE
_TINY = np.finfo(np.float64).tiny
_NOTHING = np.zeros(0, np.int32)


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
    excluded: NDArray[np.int32] = _NOTHING,
    segment: int = -1,
) -> Candidates:
    """Return the ``n`` best items for a history, ties by index; fewer where there are fewer.

    Arguments as for `RecommenderCore.recommend_for`.
    """
    t, p = core.tables, core.parameters
    room = len(t.touched) + length
    found, parts = np.empty(room, np.int32), np.empty((room, Part.SIZE))
    m = score_history(t, p, items, weights, length, ts, segment, found, parts)
    known = min(length, p.window)
    return Candidates(
        *_best(
            t.pool,
            t.strengths,
            t.lines,
            t.places,
            t.flags,
            t.powers,
            items[:known],
            weights[:known],
            found[:m],
            parts[:m],
            excluded,
            n,
            length == 0,
        )
    )


@numba.njit(cache=True)
def _best(
    pool: NDArray[np.int32],
    strengths: NDArray[np.float32],
    lines: NDArray[np.int32],
    places: NDArray[np.int32],
    flags: NDArray[np.uint8],
    powers: NDArray[np.float64],
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    found: NDArray[np.int32],
    parts: NDArray[np.float64],
    excluded: NDArray[np.int32],
    n: int,
    stranger: bool,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.int8],
    NDArray[np.float64],
    NDArray[np.int32],
]:
    """Return the columns of `Candidates` for what was ``found``.

    ``places`` is scratch as well: what stands there between scorings, none of which is negative,
    is put back. A vector of one number an item would have to be cleared for each answer.
    """
    kept = np.empty(found.size, np.int64)
    lowered = np.empty(found.size)
    m = 0
    for x in range(found.size):
        if _usable(flags, found, parts, x) and not _has(excluded, found[x]):
            kept[m] = x
            lowered[m] = -parts[x, _SCORE]
            m += 1
    order = kept[np.argsort(lowered[:m], kind="mergesort")]
    _order_ties(order, found, parts, n)
    order = order[:n]
    m = order.size
    item, score, reason = np.empty(m, np.int32), np.empty(m), np.empty(m, np.int8)
    share, because = np.empty(m), np.full(m, -1, np.int32)
    before = np.empty(m, np.int32)
    for x in range(m):
        row = parts[order[x]]
        most = 0
        for y in range(1, _SCORE):
            if row[y] > row[most]:
                most = y
        item[x], score[x], reason[x] = found[order[x]], row[_SCORE], most
        share[x] = min(max(row[most], 0.0) / max(score[x], _TINY), 1.0)
        before[x] = places[item[x], _PLACE]
        places[item[x], _PLACE] = -1 - x
    _attribute(pool, strengths, lines, places, powers, items, weights, because)
    for x in range(m - 1, -1, -1):
        places[item[x], _PLACE] = before[x]
        if reason[x] == AGAIN:
            because[x] = item[x]
        elif reason[x] >= _POPULAR_NOW:
            because[x] = -1
        elif stranger:
            # Of who has no history nothing else is said by what scores co-visitation.
            reason[x] = SEGMENT
    return item, score, reason, share, because


@numba.njit()
def _usable(
    flags: NDArray[np.uint8], found: NDArray[np.int32], parts: NDArray[np.float64], x: int
) -> bool:
    """Return whether a candidate is one, as `RecommenderCore.score` says."""
    seen: bool = flags[found[x]] & _SEEN != 0
    return bool(parts[x, _SCORE] > 0.0) and (seen or bool(parts[x, AGAIN] == 0.0))


@numba.njit()
def _has(items: NDArray[np.int32], item: int) -> bool:
    for x in range(items.size):
        if items[x] == item:
            return True
    return False


@numba.njit()
def _order_ties(
    order: NDArray[np.int64], found: NDArray[np.int32], parts: NDArray[np.float64], n: int
) -> None:
    """Put candidates of the same score, which stand side by side, in the order of their items.

    As far as that decides who is among the first ``n``.
    """
    start = 0
    while start < min(n, order.size):
        stop = start + 1
        while stop < order.size and parts[order[stop], _SCORE] == parts[order[start], _SCORE]:
            stop += 1
        if stop - start > 1:
            alike = order[start:stop].copy()
            order[start:stop] = alike[np.argsort(found[alike])]
        start = stop


@numba.njit()
def _attribute(
    pool: NDArray[np.int32],
    strengths: NDArray[np.float32],
    lines: NDArray[np.int32],
    places: NDArray[np.int32],
    powers: NDArray[np.float64],
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    because: NDArray[np.int32],
) -> None:
    """Put into ``because`` the item of the history that gave most to each chosen one."""
    best = np.zeros(because.size)
    for k in range(items.size):
        j = items[k]
        if j < 0:
            continue
        weight = powers[FAR_POWERS, k * POWER_STEPS] * weights[k]
        row = lines[j] * LINE_WORDS
        source = weight / (1.0 + strengths[row + _SOURCE])
        first = row + _FIRST
        for y in range(first, first + 2 * pool[row + _FILLED], 2):
            x = -1 - places[pool[y], _PLACE]
            if x >= 0 and source * strengths[y + 1] > best[x]:
                best[x] = source * strengths[y + 1]
                because[x] = j
