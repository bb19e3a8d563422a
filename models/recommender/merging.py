"""Add what two recommenders learned from different events into one.

Counts, repeats and evidence add up exactly, once they are in units of the same epoch. Rows of
neighbours add up too and keep the strongest. Lists of the popular are drawn up anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.tables import Cell, Config, Flag, Tables, Total

__all__ = ["add_rows", "merge_tables"]

_N, _INVERSE, _FRESH, _ROW_TS = Cell.COUNT, Cell.INVERSE, Cell.FRESH, Cell.ROW_TS
_SCORE, _MARK = Cell.SCORE, Cell.MARK


@numba.njit()
def add_rows(own: Tables, other: Tables, target: NDArray[np.int32], half_life: float) -> None:
    """Add every row of ``other`` to own row ``target[row]``, -1 for rows that have no place."""
    cells, touched = own.cells, own.touched
    values = np.empty(own.neighbour.shape[1] + other.neighbour.shape[1], np.float32)
    for o in range(target.size):
        a = target[o]
        if a < 0 or other.filled[o] == 0:
            continue
        ours = cells[a, _ROW_TS] if own.filled[a] > 0 else other.cells[o, _ROW_TS]
        theirs = other.cells[o, _ROW_TS]
        epoch = max(ours, theirs)
        n = 0
        factor = np.exp2((ours - epoch) / half_life)
        for x in range(own.filled[a]):
            c = own.neighbour[a, x]
            touched[n] = c
            n += 1
            cells[c, _MARK] = 1.0
            cells[c, _SCORE] = own.strength[a, x] * factor
        factor = np.exp2((theirs - epoch) / half_life)
        for x in range(other.filled[o]):
            c = target[other.neighbour[o, x]]
            if c < 0:
                continue
            if cells[c, _MARK] == 0.0:
                cells[c, _MARK] = 1.0
                cells[c, _SCORE] = 0.0
                touched[n] = c
                n += 1
            cells[c, _SCORE] += other.strength[o, x] * factor
        # Smaller indexes first among equals, whichever side they came from.
        found = np.sort(touched[:n])
        for x in range(n):
            values[x] = -np.float32(cells[found[x], _SCORE])
            cells[found[x], _MARK] = 0.0
        order = np.argsort(values[:n], kind="mergesort")
        kept = min(n, own.neighbour.shape[1])
        for x in range(kept):
            own.neighbour[a, x] = found[order[x]]
            own.strength[a, x] = -values[order[x]]
        own.filled[a] = kept
        cells[a, _ROW_TS] = epoch


def _meet(own: float, other: float, half_life: float) -> tuple[float, float, float]:
    """Return the later epoch, and what turns own and other values into its units."""
    epoch = max(own, other)
    return (
        epoch,
        float(np.exp2((own - epoch) / half_life)),
        float(np.exp2((other - epoch) / half_life)),
    )


def _list_anew(tables: Tables, which: int, items: int) -> None:
    flag = np.uint8(Flag.FRESH if which == 0 else Flag.STEADY)
    values = tables.cells[:items, _FRESH if which == 0 else _N]
    flags = tables.flags[:items]
    flags &= np.uint8(255) ^ flag
    seen = np.flatnonzero(flags & np.uint8(Flag.SEEN))
    listed = seen[np.lexsort((seen, -values[seen]))[: tables.listed.shape[1]]]
    tables.listed[which] = -1
    tables.listed[which, : len(listed)] = listed
    flags[listed] |= flag
    tables.totals[Total.LISTED_FRESH + which] = len(listed)
    lowest = values[listed].min() if len(listed) else 0.0
    tables.totals[Total.LOWEST_FRESH + which] = lowest


def merge_tables(
    own: Tables,
    other: Tables,
    target: NDArray[np.int32],
    items: int,
    config: Config,
    add: Callable[[Tables, Tables, NDArray[np.int32], float], object],
) -> None:
    """Add ``other`` to ``own``; its item ``o`` is own item ``target[o]``, or has no place (-1).

    ``add`` is `add_rows`, compiled.
    """
    if np.isnan(other.totals[Total.COUNT_EPOCH]):
        return
    if np.isnan(own.totals[Total.COUNT_EPOCH]):
        own.totals[Total.COUNT_EPOCH] = other.totals[Total.COUNT_EPOCH]
        own.totals[Total.FRESH_EPOCH] = other.totals[Total.FRESH_EPOCH]
    totals = own.totals
    epoch, ours, theirs = _meet(
        totals[Total.COUNT_EPOCH], other.totals[Total.COUNT_EPOCH], config.half_life_s
    )
    fresh_epoch, fresh_ours, fresh_theirs = _meet(
        totals[Total.FRESH_EPOCH], other.totals[Total.FRESH_EPOCH], config.fresh_half_life_s
    )
    add(own, other, target, config.half_life_s)
    placed = target >= 0
    rows = target[placed]
    source = other.cells[: len(target)][placed]
    own.cells[:, _N] *= ours
    own.cells[rows, _N] += source[:, _N] * theirs
    own.cells[:, _FRESH] *= fresh_ours
    own.cells[rows, _FRESH] += source[:, _FRESH] * fresh_theirs
    counts = own.cells[:, _N]
    own.cells[:, _INVERSE] = np.where(
        counts > 0.0, np.maximum(counts, np.finfo(float).tiny) ** -config.target_power, 0.0
    )
    own.flags[rows] |= other.flags[: len(target)][placed] & np.uint8(Flag.SEEN | Flag.IN_TOP)
    totals[Total.LATEST_UNIT] = max(
        totals[Total.LATEST_UNIT] * ours, other.totals[Total.LATEST_UNIT] * theirs
    )
    totals[Total.EVENTS] = totals[Total.EVENTS] * ours + other.totals[Total.EVENTS] * theirs
    totals[Total.COUNT_EPOCH] = epoch
    totals[Total.FRESH_EPOCH] = fresh_epoch
    totals[Total.COUNT] = own.cells[:items, _N].sum()
    totals[Total.FRESH] = own.cells[:items, _FRESH].sum()
    totals[Total.SEEN] = np.count_nonzero(own.flags[:items] & Flag.SEEN)
    totals[Total.COVERED] = np.count_nonzero(own.flags[:items] & Flag.IN_TOP)
    for name in ("lag_hits", "lag_seen", "lag_expected", "evidence", "gains"):
        values = getattr(own, name)
        values *= ours
        values += getattr(other, name) * theirs
    for which in range(2):
        _list_anew(own, which, items)
    own.dirty[:] = 1
