"""Give every item a stable index, in order of first appearance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Vocabulary"]

UNKNOWN = -1
"""Index of an item that is not in the vocabulary."""


class Vocabulary:
    """Item ids by index and back, bounded.

    Parameters
    ----------
    max_items
        Items admitted; later ones get `UNKNOWN` and are counted in ``dropped``.
    """

    def __init__(self, max_items: int) -> None:
        self.max_items = max_items
        self.dropped = 0
        self._index: dict[str, int] = {}
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, item_id: str) -> int:
        """Return the item's index, or `UNKNOWN`; admits nothing."""
        return self._index.get(item_id, UNKNOWN)

    def admit(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting the new ones in order."""
        known = self._index.get
        found = [known(item_id, UNKNOWN) for item_id in item_ids]
        if UNKNOWN in found:
            for position, index in enumerate(found):
                if index == UNKNOWN:
                    found[position] = self._admit_one(item_ids[position])
        return np.array(found, np.int32)

    def _admit_one(self, item_id: str) -> int:
        index = self._index.get(item_id, UNKNOWN)
        if index != UNKNOWN:
            return index
        if len(self._ids) >= self.max_items:
            self.dropped += 1
            return UNKNOWN
        index = len(self._ids)
        self._index[item_id] = index
        self._ids.append(item_id)
        return index

    def ids(self, indexes: Iterable[int]) -> list[str]:
        """Return the ids of these indexes."""
        ids = self._ids
        return [ids[index] for index in indexes]

    def part(self, start: int, stop: int) -> list[str]:
        """Return the ids of the indexes from ``start`` up to ``stop``."""
        return self._ids[start:stop]
