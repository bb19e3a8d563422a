"""Choose the best candidates and say what led to each, compiled."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.config import POWER_STEPS
from models.recommender.entry import Part
from models.recommender.rows import row_of
from models.recommender.tables import Row, Tables, Trait
from models.recommender.walk import FAR_POWERS

__all__ = ["AGAIN", "SEGMENT", "choose"]

# Positions in `slate.REASONS`: of the experts as their parts lie, and one behind them.
AGAIN, SEGMENT = Part.AGAIN, Part.AGAIN + 1
_POPULAR_NOW = Part.FRESH

_FILLED, _SOURCE, _FIRST = Row.FILLED, Row.SOURCE, Row.FIRST
_PLACE = Trait.PLACE
_SCORE = Part.SCORE
_EXCLUDED = -1
_TINY = float(np.finfo(np.float64).tiny)


@numba.njit()
def choose(
    t: Tables,
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
    """Return the columns of `slate.Candidates` for what was ``found``.

    ``excluded`` are items that may not be among them; -1 is none.

    ``Tables.places`` is scratch as well: what stands there between scorings, none of which is
    negative, is put back. A vector of one number an item would have to be cleared for each answer.
    """
    places = t.places
    held = np.empty(excluded.size, np.int32)
    for x in range(excluded.size):
        if excluded[x] >= 0:
            held[x] = places[excluded[x], _PLACE]
            places[excluded[x], _PLACE] = _EXCLUDED
    kept = np.empty(found.size, np.int64)
    lowered = np.empty(found.size)
    m = 0
    for x in range(found.size):
        kept[m] = x
        lowered[m] = -parts[x, _SCORE]
        m += places[found[x], _PLACE] != _EXCLUDED
    for x in range(excluded.size - 1, -1, -1):
        if excluded[x] >= 0:
            places[excluded[x], _PLACE] = held[x]
    if 0 < n < m:
        # Ties at the edge are kept, and cut by item below.
        edge = np.partition(lowered[:m], n - 1)[n - 1]
        near = 0
        for x in range(m):
            kept[near] = kept[x]
            least = lowered[x]
            lowered[near] = least
            near += least <= edge
        m = near
    by_item = np.argsort(found[kept[:m]], kind="mergesort")
    order = kept[by_item[np.argsort(lowered[by_item], kind="mergesort")]][:n]
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
    _attribute(t, items, weights, because)
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
def _attribute(
    t: Tables, items: NDArray[np.int32], weights: NDArray[np.float32], because: NDArray[np.int32]
) -> None:
    """Put into ``because`` the item of the history that gave most to each chosen one."""
    pool, strengths, places = t.pool, t.strengths, t.places
    best = np.zeros(because.size)
    for k in range(items.size):
        j = items[k]
        if j < 0:
            continue
        weight = t.powers[FAR_POWERS, k * POWER_STEPS] * weights[k]
        row = row_of(t, j)
        source = weight / (1.0 + strengths[row + _SOURCE])
        first = row + _FIRST
        for y in range(first, first + 2 * pool[row + _FILLED], 2):
            x = -1 - places[pool[y], _PLACE]
            if x >= 0 and source * strengths[y + 1] > best[x]:
                best[x] = source * strengths[y + 1]
                because[x] = j
