"""Add what two recommenders learned from different events into one.

Counts, repeats and evidence add up exactly, once they are in units of the same epoch. Rows of
neighbours add up too and keep the strongest. Lists of the popular are drawn up anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Config, Parameters
from models.recommender.counting import derive, scale_row
from models.recommender.listing import relist
from models.recommender.rows import is_narrow, row_of, widen
from models.recommender.tables import NARROW, Cell, Flag, Row, Tables, Total

__all__ = ["add_rows", "derive_all", "merge_tables"]

_N, _FRESH = Cell.COUNT, Cell.FRESH
_FILLED, _FIRST = Row.FILLED, Row.FIRST


@numba.njit()
def add_rows(
    own: Tables, other: Tables, target: NDArray[np.int32], ours: float, theirs: float
) -> None:
    """Add every row of ``other`` to own row ``target[row]``, -1 for rows that have no place.

    ``ours`` and ``theirs`` bring the strengths to units of the same epoch.
    """
    if ours != 1.0:
        for i in range(own.flags.size):
            scale_row(own, i, ours)
    slots = np.zeros(own.flags.size, np.int32)
    ids = np.empty(own.room + other.room, np.int32)
    sums = np.empty(own.room + other.room, np.float32)
    by = np.float32(theirs)
    for o in range(target.size):
        a = target[o]
        start = row_of(other, o)
        brought, strength = other.pool[start:], other.strengths[start:]
        filled = brought[_FILLED]
        if a < 0 or filled == 0:
            continue
        start = row_of(own, a)
        row, value = own.pool[start:], own.strengths[start:]
        n = row[_FILLED]
        for x in range(n):
            ids[x] = row[_FIRST + 2 * x]
            sums[x] = value[_FIRST + 2 * x + 1]
            slots[ids[x]] = x + 1
        for x in range(_FIRST, _FIRST + 2 * filled, 2):
            c = target[brought[x]]
            if c < 0:
                continue
            at = slots[c]
            if at == 0:
                ids[n] = c
                sums[n] = 0.0
                n += 1
                at = n
                slots[c] = n
            sums[at - 1] += strength[x + 1] * by
        for x in range(n):
            slots[ids[x]] = 0
        # Smaller indexes first among equals, whichever side they came from.
        by_id = np.argsort(ids[:n])
        order = by_id[np.argsort(-sums[:n][by_id], kind="mergesort")]
        kept = min(n, own.room)
        if kept > NARROW and is_narrow(own, a):
            start = widen(own, a)
            row, value = own.pool[start:], own.strengths[start:]
        for x in range(kept):
            row[_FIRST + 2 * x] = ids[order[x]]
            value[_FIRST + 2 * x + 1] = sums[order[x]]
        row[_FILLED] = kept


@numba.njit()
def derive_all(t: Tables, p: Parameters, items: int) -> None:
    """Work out anew what follows from the counts and lists of all items."""
    for i in range(items):
        derive(t, p, i)
    relist(t, p.lists)


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
    add: Callable[[Tables, Tables, NDArray[np.int32], float, float], object],
    derive_items: Callable[[Tables, Parameters, int], object],
) -> None:
    """Add ``other`` to ``own``; its item ``o`` is own item ``target[o]``, or has no place (-1).

    ``add`` is `add_rows`, ``derive_items`` `derive_all`, both compiled.
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
    add(own, other, target, ours, theirs)
    placed = target >= 0
    rows = target[placed]
    source = other.cells[: len(target)][placed]
    own.cells[:, _N] *= ours
    own.cells[rows, _N] += source[:, _N] * theirs
    own.cells[:, _FRESH] *= fresh_ours
    own.cells[rows, _FRESH] += source[:, _FRESH] * fresh_theirs
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
    for name in ("lag_hits", "lag_seen", "lag_expected", "again", "evidence", "gains"):
        values = getattr(own, name)
        values *= ours
        values += getattr(other, name) * theirs
    own.borrowed[:] = own.borrowed * fresh_ours + other.borrowed * fresh_theirs
    parameters = config.parameters()
    if parameters.lists:
        for which in range(2):
            _list_anew(own, which, items)
    derive_items(own, parameters, items)
    own.dirty[:items] = 1
