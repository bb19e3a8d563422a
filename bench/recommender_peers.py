"""What a recommender is measured beside: popularity, and item-item cosine refreshed daily."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.recommender_worlds import Stream

__all__ = ["Figures", "daily_cosine", "figures", "popularity"]

_DAY = 86_400.0
_TOP = 10


class Figures(NamedTuple):
    """Prequential quality over all events; an item never seen is a miss."""

    hit: float
    ndcg: float


def figures(rank: NDArray[np.int32]) -> Figures:
    """Return hit rate and nDCG at 10 of 0-based ranks, negative ones being misses."""
    hit = (rank >= 0) & (rank < _TOP)
    gain = np.where(hit, 1.0 / np.log2(np.maximum(rank, 0) + 2.0), 0.0)
    return Figures(float(hit.mean()), float(gain.mean()))


def popularity(stream: Stream, half_life_s: float = _DAY) -> NDArray[np.int32]:
    """Return ranks by decayed counts, refreshed at every event."""
    count = np.zeros(int(stream.items.max()) + 1)
    rank = np.full(len(stream), -1, np.int32)
    growth = np.exp2((stream.ts - stream.ts[-1]) / half_life_s)
    for row, item in enumerate(stream.items.tolist()):
        if count[item] > 0.0:
            rank[row] = np.count_nonzero(count > count[item])
        count[item] += growth[row]
    return rank


class _Cosine:
    """Item-item cosine over users' baskets, by numpy alone."""

    def __init__(self, items: int, neighbours: int, decay: float) -> None:
        self._items = items
        self._neighbours = neighbours
        self._decay = decay
        self._rows: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def fit(self, baskets: dict[int, list[int]]) -> None:
        pairs = []
        count = np.zeros(self._items)
        for basket in baskets.values():
            own = np.unique(basket)
            count[own] += 1
            if len(own) > 1:
                left, right = np.meshgrid(own, own)
                pairs.append((left * self._items + right)[left != right])
        if not pairs:
            return
        code, together = np.unique(np.concatenate(pairs), return_counts=True)
        left, right = code // self._items, code % self._items
        cosine = together / np.sqrt(count[left] * count[right])
        edges = np.flatnonzero(np.diff(left)) + 1
        for rows in np.split(np.arange(len(left)), edges):
            best = rows[np.argsort(-cosine[rows], kind="stable")[: self._neighbours]]
            self._rows[int(left[rows[0]])] = (right[best], cosine[best])

    def rank(self, history: list[int], item: int) -> int:
        score: dict[int, float] = defaultdict(float)
        weight = 1.0
        for one in reversed(history[-5:]):
            if one in self._rows:
                for other, cosine in zip(*self._rows[one], strict=True):
                    score[int(other)] += weight * float(cosine)
            weight *= self._decay
        if item not in score:
            return -1
        return sum(value > score[item] for value in score.values())


def daily_cosine(
    stream: Stream, neighbours: int = 64, progress: Callable[[str], None] | None = None
) -> NDArray[np.int32]:
    """Return ranks by cosine of what went together up to the last midnight."""
    model = _Cosine(int(stream.items.max()) + 1, neighbours, decay=0.6)
    baskets: dict[int, list[int]] = {}
    rank = np.full(len(stream), -1, np.int32)
    day = stream.ts // _DAY
    today = day[0]
    for row, (user, item) in enumerate(
        zip(stream.users.tolist(), stream.items.tolist(), strict=True)
    ):
        if day[row] != today:
            today = day[row]
            model.fit(baskets)
            if progress:
                progress(f"cosine: refitted after {row} events")
        history = baskets.setdefault(user, [])
        rank[row] = model.rank(history, item)
        history.append(item)
    return rank
