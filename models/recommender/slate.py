"""Candidates for a user with what speaks for each: which expert, and which item of the history."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.core import RecommenderCore
from models.recommender.entry import score_history
from models.recommender.tables import Cell

__all__ = ["AGAIN", "REASONS", "Candidates", "candidates"]

REASONS = ("together", "together_before", "popular_now", "popular", "again")
"""What speaks for an item: it goes with the last few items of the history, or with earlier ones;
many choose it lately, or over long; the user chose it before and people come back to things."""

AGAIN = 4

_COLUMNS = [Cell.NEAR, Cell.FAR, Cell.FRESH, Cell.COUNT]
_OWN = 2.0


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
) -> Candidates:
    """Return the ``n`` best items for a history, ties by index; fewer where there are fewer.

    Arguments as for `RecommenderCore.recommend_for`.
    """
    t, p = core.tables, core.parameters
    found = score_history(t, p, items, weights, length, ts)
    index = t.touched[:found].copy()
    cells = t.cells[index]
    t.cells[index, Cell.MARK] = 0.0
    score = cells[:, Cell.SCORE]
    usable = score > 0.0
    if excluded is not None and len(excluded):
        usable &= ~np.isin(index, excluded)
    if not usable.all():
        index, cells, score = index[usable], cells[usable], score[usable]
    if len(score) > n:
        # Ties at the edge are kept, and cut by index below.
        near = score >= np.partition(score, len(score) - n)[len(score) - n]
        index, cells, score = index[near], cells[near], score[near]
    order = np.lexsort((index, -score))[:n]
    index, cells, score = index[order], cells[order], score[order]
    parts = cells[:, _COLUMNS] * t.blend
    own = cells[:, Cell.MARK] == _OWN
    reason = parts.argmax(axis=1).astype(np.int8)
    share = parts.max(axis=1, initial=0.0) / np.maximum(score, np.finfo(float).tiny)
    reason[own] = AGAIN
    share[own] = 1.0
    because = np.full(len(index), -1, np.int32)
    steps = np.float64(p.far_decay) ** np.arange(min(length, p.window))
    _attribute(
        t.neighbour,
        t.strength,
        t.filled,
        t.cells[:, Cell.COUNT],
        items[: len(steps)],
        (steps * weights[: len(steps)]).astype(np.float64),
        p.source_power,
        index,
        np.zeros(len(t.filled), np.int32),
        because,
    )
    because[reason > 1] = -1
    because[own] = index[own]
    return Candidates(index, score, reason, np.minimum(share, 1.0), because)


@numba.njit(cache=True)
def _attribute(
    neighbour: NDArray[np.int32],
    strength: NDArray[np.float32],
    filled: NDArray[np.int32],
    count: NDArray[np.float64],
    items: NDArray[np.int32],
    weights: NDArray[np.float64],
    source_power: float,
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
        source = weights[k] / (1.0 + max(0.0, count[j]) ** source_power)
        for y in range(filled[j]):
            x = place[neighbour[j, y]] - 1
            if x >= 0 and source * strength[j, y] > best[x]:
                best[x] = source * strength[j, y]
                because[x] = j
