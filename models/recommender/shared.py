"""Recommend by what all partitions learned, and contribute what this one learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Config
from models.recommender.core import RecommenderCore
from models.recommender.step import StepOutput
from models.recommender.vocabulary import UNKNOWN

__all__ = ["SharedRecommender"]

_NOTHING: NDArray[np.int32] = np.zeros(0, np.int32)


class SharedRecommender:
    """One partition's recommender among several.

    It steps like a `Recommender`, and its chunks are what this partition learned: its
    contribution. Predictions come from a view: own contribution plus the others' as they were
    when last taken in, plus everything that came here since. A partition alone keeps no second
    copy and pays nothing.

    Parameters
    ----------
    config
        The same one for every partition.

    Replay
    ------
    The state is the own contribution and which contributions of others were taken in, and when
    in the stream; the same ones give the same bits.

    Complexity
    ----------
    A step learns twice when there are others. Taking in costs about 1 µs an item and partition.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.own = RecommenderCore(config)
        self._others: dict[int, RecommenderCore] = {}
        self._view = self.own
        self._places: dict[int, NDArray[np.int32]] = {}

    @property
    def n_items(self) -> int:
        """Items that anybody engaged with, as far as it is known here."""
        return self._view.n_items

    @property
    def covered(self) -> int:
        """Items that were ever in a top 10, as far as it is known here."""
        return self._view.covered

    def item_indexes(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting new ones in order; -1 where there is no room."""
        found = self.own.item_indexes(item_ids)
        if self._view is not self.own:
            self._view.item_indexes(item_ids)
        return found

    def set_lenders(
        self, items: NDArray[np.int32], lenders: NDArray[np.int32], alike: NDArray[np.float32]
    ) -> None:
        """Let items that are new borrow; see `RecommenderCore.set_lenders`."""
        self.own.set_lenders(items, lenders, alike)
        if self._view is not self.own:
            self._view.set_lenders(items, lenders, alike)

    def item_ids(self, indexes: Sequence[int] | NDArray[np.int32]) -> list[str]:
        """Return the ids of these indexes."""
        return self.own.item_ids(indexes)

    def step_many(
        self,
        hist_items: NDArray[np.int32],
        hist_weights: NDArray[np.float32],
        hist_len: NDArray[np.int32],
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        example: NDArray[np.int32],
        ex_weight: NDArray[np.float64],
        weight: NDArray[np.float64],
        ts: NDArray[np.float64],
        kind: NDArray[np.int8],
        learn: bool = True,
    ) -> StepOutput:
        """Predict, learn and push rows, strictly in order; see `RecommenderCore.step_many`."""
        if self._view is not self.own and learn:
            self.own.step_many(
                hist_items.copy(),
                hist_weights.copy(),
                hist_len.copy(),
                user,
                item,
                example,
                ex_weight.copy(),
                weight,
                ts,
                kind,
            )
        return self._view.step_many(
            hist_items,
            hist_weights,
            hist_len,
            user,
            item,
            example,
            ex_weight,
            weight,
            ts,
            kind,
            learn,
        )

    def recommend_for(
        self,
        hist_items: NDArray[np.int32],
        hist_weights: NDArray[np.float32],
        hist_len: int,
        k: int,
        exclude: NDArray[np.int32] = _NOTHING,
        ts: float = 0.0,
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the k best items and their scores; see `RecommenderCore.recommend_for`."""
        return self._view.recommend_for(hist_items, hist_weights, hist_len, k, exclude, ts)

    def take_in(self, changed: Mapping[int, Mapping[str, bytes | None] | None]) -> None:
        """Take in what changed in other partitions' contributions, by partition.

        A new partition's chunks come whole, later only the changed ones and ``meta``; None
        forgets a partition. Indexes that were given out stay as they are.
        """
        for partition, chunks in sorted(changed.items()):
            if chunks is None:
                self._others.pop(partition, None)
                continue
            if partition not in self._others:
                self._others[partition] = RecommenderCore(self.own.config)
            self._others[partition].apply_chunks(chunks)
        self._places = {}
        if not self._others:
            self._view = self.own
            return
        for partition, other in sorted(self._others.items()):
            # Everybody's items have a place in the own vocabulary, so that histories kept
            # here mean the same in the contribution and in the view.
            ids = other.vocabulary.part(0, len(other.vocabulary))
            self._places[partition] = self.own.item_indexes(ids)
        self._view = self.own.copy_learned()
        for _, other in sorted(self._others.items()):
            self._view.merge(other)

    def translate(self, partition: int, items: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the indexes here of items by another partition's index (-1 stays)."""
        return np.append(self._places[partition], np.int32(UNKNOWN))[items]

    def dirty_chunks(self) -> dict[str, bytes | None]:
        """Return what changed of the contribution since `mark_clean`, by name of chunk."""
        return self.own.dirty_chunks()

    def mark_clean(self) -> None:
        """Take note that what `dirty_chunks` returned is stored."""
        self.own.mark_clean()

    def all_chunks(self) -> dict[str, bytes]:
        """Return the whole contribution, by name of chunk."""
        return self.own.all_chunks()

    def load_chunks(self, chunks: Mapping[str, bytes | None]) -> None:
        """Replace the contribution; what others learned must be taken in again."""
        self.own.load_chunks(chunks)
        self._others = {}
        self._places = {}
        self._view = self.own
