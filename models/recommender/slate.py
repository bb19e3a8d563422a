"""Candidates for a user with what speaks for each: which expert, and which item of the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.kernel_cache import fingerprint
from models.recommender import choosing, rows
from models.recommender.choosing import choose
from models.recommender.core import RecommenderCore

__all__ = ["REASONS", "Candidates", "candidates"]

REASONS = ("together", "together_before", "popular_now", "popular", "again", "segment")
"""What speaks for an item: it goes with the last few items of the history, or with earlier ones;
many choose it lately, or over long; the user chose it before and people come back to things;
people of the user's segment choose it."""

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
    found, parts = core.score(items, weights, length, ts, segment)
    known = min(length, core.parameters.window)
    chosen, _ = _chosen(
        core.tables, items[:known], weights[:known], found, parts, excluded, n, length == 0
    )
    return Candidates(*chosen)


def _compiled(mark: int) -> Callable[..., tuple[tuple[NDArray[Any], ...], int]]:
    """Return the entry point; ``mark`` is part of the key under which it is kept."""

    @numba.njit(cache=True)
    def chosen(*columns: Any) -> Any:
        return choose(*columns), mark

    return chosen


_chosen = _compiled(fingerprint(choosing, rows))
