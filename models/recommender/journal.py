"""Decide which rows a checkpoint writes, and where, so that it costs what changed.

Math
----
Each save writes one segment: the rows that changed since the last one. A row's newest version
counts, so older segments hold more and more that is superseded. Before a segment is written, the
ones with the fewest live rows are cleaned: their live rows join it, and they are given up, while
there are more than `MAX_SEGMENTS` or more than half of what is stored is superseded (a
log-structured file system with greedy cleaning: Rosenblum and Ousterhout, 1992).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SEGMENTS", "Journal", "Plan"]

MAX_SEGMENTS = 128
"""Segments that are kept; a segment's slot is used again when it is given up."""

_SPARE_ROWS = 4096
_FREE = -1


class Plan(NamedTuple):
    """What a save writes: these rows, in order, into a slot; and what it gives up."""

    rows: NDArray[np.int64]
    slot: int
    freed: list[int]


class Journal:
    """Where the newest stored version of each row is.

    Attributes
    ----------
    sequence
        Number of the next segment; segments are read in the order of their numbers.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self._where = np.full(0, _FREE, np.int16)
        self._number = np.full(MAX_SEGMENTS, _FREE, np.int64)
        self._live = np.zeros(MAX_SEGMENTS, np.int64)
        self._size = np.zeros(MAX_SEGMENTS, np.int64)

    def table(self) -> dict[int, int]:
        """Return the number of the segment in each slot that is taken."""
        taken = np.flatnonzero(self._number != _FREE)
        return dict(zip(taken.tolist(), self._number[taken].tolist(), strict=True))

    def _reserve(self, items: int) -> None:
        known = len(self._where)
        if items > known:
            more = np.full(max(items, 2 * known) - known, _FREE, np.int16)
            self._where = np.concatenate([self._where, more])

    def forget(self, kept: set[int]) -> None:
        """Give up the segments in other slots: nothing in them counts any more."""
        for slot in set(self.table()) - kept:
            self._number[slot] = _FREE
            self._live[slot] = self._size[slot] = 0

    def plan(self, dirty: NDArray[np.int64], items: int) -> Plan:
        """Return what to write when these of ``items`` rows changed; changes nothing."""
        self._reserve(items)
        where = self._where
        live, size = self._live.copy(), self._size.copy()
        before = where[dirty]
        live -= np.bincount(before[before != _FREE], minlength=MAX_SEGMENTS)
        taken = self._number != _FREE
        freed = taken & (live == 0)
        rows = dirty
        while True:
            kept = taken & ~freed
            n = np.count_nonzero(kept)
            stored = int(size[kept].sum()) + len(rows)
            if n < MAX_SEGMENTS and (n == 0 or stored <= 2 * items + _SPARE_ROWS):
                break
            candidates = np.flatnonzero(kept)
            victim = candidates[np.lexsort((self._number[candidates], live[candidates]))[0]]
            freed[victim] = True
            own = np.flatnonzero(where[:items] == victim)
            rows = np.union1d(rows, own)
        slots = np.flatnonzero(~taken | freed)
        given_up = np.flatnonzero(freed).tolist()
        slot = int(given_up[0]) if given_up else int(slots[0])
        return Plan(rows, slot, [one for one in given_up if one != slot])

    def commit(self, plan: Plan) -> None:
        """Take note that the plan was carried out."""
        for slot in (*plan.freed, plan.slot):
            self._number[slot] = _FREE
            self._live[slot] = self._size[slot] = 0
        self.note(plan.slot, self.sequence, plan.rows)

    def note(self, slot: int, number: int, rows: NDArray[np.int64]) -> None:
        """Take note that a segment, newer than all others, holds these rows."""
        self.sequence = max(self.sequence, number + 1)
        if not len(rows):
            return
        self._reserve(int(rows.max()) + 1)
        before = self._where[rows]
        self._live -= np.bincount(before[before != _FREE], minlength=MAX_SEGMENTS)
        np.maximum(self._live, 0, out=self._live)
        self._where[rows] = slot
        self._number[slot] = number
        self._live[slot] = self._size[slot] = len(rows)
