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

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SEGMENTS", "Journal", "Plan"]

MAX_SEGMENTS = 128
"""Segments that are kept; a segment's slot is used again when it is given up."""

_SPARE_ROWS = 4096
_FREE = -1


class Plan(NamedTuple):
    """What a save writes: these rows, by index, into a slot; and which slots it gives up."""

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
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._sizes = np.zeros(MAX_SEGMENTS, np.int64)

    def table(self) -> dict[int, int]:
        """Return the number of the segment in each slot that is taken."""
        taken = np.flatnonzero(self._number != _FREE)
        return dict(zip(taken.tolist(), self._number[taken].tolist(), strict=True))

    def _reserve(self, items: int) -> None:
        known = len(self._where)
        if items > known:
            more = np.full(max(items, 2 * known) - known, _FREE, np.int16)
            self._where = np.concatenate([self._where, more])

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of these rows each segment holds."""
        where = self._where[rows]
        return np.bincount(where[where != _FREE], minlength=MAX_SEGMENTS)

    def plan(self, dirty: NDArray[np.int64], items: int) -> Plan:
        """Return what to write when these of ``items`` rows changed; changes nothing."""
        self._reserve(items)
        if not len(dirty):
            # Cleaning waits for a save: where nothing changed, none is made.
            return Plan(dirty, 0, [])
        live = self._live - self._places(dirty)
        taken = self._number != _FREE
        kept = taken & (live > 0)
        room = 2 * items + _SPARE_ROWS - len(dirty)
        stored = int(self._sizes[kept].sum())
        n = int(np.count_nonzero(kept))
        parts = [dirty]
        victims: list[int] = []
        if n >= MAX_SEGMENTS or stored > room:
            # The fewest live rows first, the oldest of equals.
            order = np.lexsort((self._number, live))
            victims = order[kept[order]].tolist()
        for victim in victims:
            if n < MAX_SEGMENTS and stored <= room:
                break
            own = self._rows[victim]
            own = own[self._where[own] == victim]
            parts.append(own)
            kept[victim] = False
            n -= 1
            stored -= len(self._rows[victim])
            room -= len(own)
        rows = dirty
        if len(parts) > 1:
            # What changed and what is cleaned overlap.
            chosen = np.zeros(items, np.bool_)
            for part in parts:
                chosen[part] = True
            rows = np.flatnonzero(chosen)
        freed = np.flatnonzero(taken & ~kept).tolist()
        slot = freed[0] if freed else int(np.argmin(taken))
        return Plan(rows, slot, freed[1:])

    def commit(self, plan: Plan) -> None:
        """Take note that the plan was carried out."""
        self.forget({*plan.freed, plan.slot})
        self.note(plan.slot, self.sequence, plan.rows)

    def forget(self, slots: Iterable[int]) -> None:
        """Give segments up: nothing in them counts any more."""
        for slot in slots:
            self._number[slot] = _FREE
            self._live[slot] = 0
            self._sizes[slot] = 0
            self._rows.pop(slot, None)

    def note(self, slot: int, number: int, rows: NDArray[np.int64]) -> None:
        """Take note that a segment, newer than all others, holds these rows."""
        self.sequence = max(self.sequence, number + 1)
        if not len(rows):
            return
        self._reserve(int(rows[-1]) + 1)
        self._live = np.maximum(self._live - self._places(rows), 0)
        self._where[rows] = slot
        self._number[slot] = number
        self._live[slot] = len(rows)
        self._rows[slot] = rows
        self._sizes[slot] = len(rows)
