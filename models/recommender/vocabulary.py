"""Give every item a stable index, in order of first appearance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_SEGMENTS", "SEGMENT_MARK", "UNKNOWN", "Vocabulary"]

UNKNOWN = -1
"""Index of an item that is not in the vocabulary."""

SEGMENT_MARK = "\x00segment:"
"""What the name of a segment's row begins with."""

MOST_SEGMENTS = 64
"""Segments that get a row; people of later ones are treated as everybody."""


class _Indexes(dict[str, int]):
    """Index by id; looking up what is not there admits it, or says `UNKNOWN` and counts it."""

    def __init__(self, ids: list[str], max_items: int) -> None:
        super().__init__()
        self._ids = ids
        self._max_items = max_items
        self.dropped = 0
        self.segments = 0

    def __missing__(self, item_id: str) -> int:
        index = len(self._ids)
        if item_id.startswith(SEGMENT_MARK):
            if self.segments >= MOST_SEGMENTS or index >= self._max_items:
                return UNKNOWN
            self.segments += 1
        if index >= self._max_items:
            self.dropped += 1
            return UNKNOWN
        self[item_id] = index
        self._ids.append(item_id)
        return index


class Vocabulary:
    """Item ids by index and back, bounded.

    Parameters
    ----------
    max_items
        Items admitted; later ones get `UNKNOWN` and are counted in ``dropped``.
    """

    def __init__(self, max_items: int) -> None:
        self.max_items = max_items
        self._ids: list[str] = []
        self._index = _Indexes(self._ids, max_items)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dropped(self) -> int:
        """Times that an item was refused because there was no room."""
        return self._index.dropped

    @dropped.setter
    def dropped(self, times: int) -> None:
        self._index.dropped = times

    def copy(self) -> Vocabulary:
        """Return a vocabulary of the same items, which goes on by itself."""
        other = Vocabulary(self.max_items)
        other._ids.extend(self._ids)
        other._index.update(self._index)
        other._index.segments = self._index.segments
        other.dropped = self.dropped
        return other

    def find(self, item_id: str) -> int:
        """Return the item's index, or `UNKNOWN`; admits nothing."""
        return self._index.get(item_id, UNKNOWN)

    def admit(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the items' indexes, admitting the new ones in order."""
        return np.fromiter(map(self._index.__getitem__, item_ids), np.int32, len(item_ids))

    def ids(self, indexes: Iterable[int]) -> list[str]:
        """Return the ids of these indexes."""
        ids = self._ids
        return [ids[index] for index in indexes]

    def part(self, start: int, stop: int) -> list[str]:
        """Return the ids of the indexes from ``start`` up to ``stop``."""
        return self._ids[start:stop]
