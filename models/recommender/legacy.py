"""Read snapshots of version 1.

A chunk of rows holds 16 items with their ids. Each row's strengths are in units of the row's own
epoch, and the counts' epochs may lie hundreds of half-lives back.
"""

from __future__ import annotations

import json
import math

import numpy as np

from models.recommender.config import Config
from models.recommender.segments import fill_rows
from models.recommender.snapshot import SnapshotError, body_of, taken
from models.recommender.tables import Cell, Tables, Total

__all__ = ["ROWS_PREFIX", "bring_forward", "read_rows"]

ROWS_PREFIX = "rows/"

_COLUMNS = 4
_N, _FRESH, _ROW_TS = 0, 2, 3


def read_rows(t: Tables, data: bytes, config: Config, epoch: float) -> tuple[int, list[str]]:
    """Fill the rows of a chunk; return the index of its first item, and its ids.

    ``epoch`` is that of the counts: the strengths are brought to its units.
    """
    encoded, at = body_of(data)
    head = json.loads(encoded)
    start, n = int(head["first"]), int(head["rows"])
    stored, at = taken(data, "<f8", n * _COLUMNS, at)
    filled, at = taken(data, "<i4", n, at)
    flags, at = taken(data, "u1", n, at)
    slots = int(filled.sum(dtype=np.int64))
    neighbour, at = taken(data, "<i4", slots, at)
    strength, at = taken(data, "<f4", slots, at)
    lengths, at = taken(data, "<u4", n, at)
    ids = []
    for length in lengths.tolist():
        ids.append(data[at : at + length].decode())
        at += length
    if at > len(data) or start < 0 or start + n > len(t.flags):
        raise SnapshotError("a chunk of a recommender's snapshot is cut short")
    cells = stored.reshape(n, _COLUMNS)
    rows = slice(start, start + n)
    t.flags[rows] = flags
    t.cells[rows, Cell.COUNT] = cells[:, _N]
    t.cells[rows, Cell.FRESH] = cells[:, _FRESH]
    age = (np.where(filled > 0, cells[:, _ROW_TS], epoch) - epoch) / config.half_life_s
    words = np.empty((slots, 2), np.int32)
    words[:, 0] = neighbour
    brought = strength * np.exp2(np.repeat(age, filled) - _ahead(t))
    words[:, 1] = brought.astype(np.float32).view(np.int32)
    fill_rows(t, np.arange(start, start + n, dtype=np.int32), filled, words)
    return start, ids


def _ahead(t: Tables) -> float:
    """Return by how many half-lives the epoch of the counts must come forward."""
    latest = t.totals[Total.LATEST_UNIT]
    return float(math.floor(math.log2(latest))) if latest > 1.0 else 0.0


def bring_forward(t: Tables, config: Config) -> None:
    """Move the epochs to where the newest counts are small enough for float32."""
    totals = t.totals
    ahead = _ahead(t)
    if ahead:
        factor = 2.0**-ahead
        totals[Total.COUNT_EPOCH] += ahead * config.half_life_s
        t.cells[:, Cell.COUNT] *= factor
        for one in (Total.COUNT, Total.LOWEST_STEADY, Total.LATEST_UNIT, Total.EVENTS):
            totals[one] *= factor
        for array in (t.lag_hits, t.lag_seen, t.lag_expected, t.evidence, t.gains):
            np.multiply(array, factor, out=array)
    fresh = totals[Total.FRESH]
    # The sum of decayed counts is at least what the newest one weighs.
    ahead = float(math.floor(math.log2(fresh))) if fresh > 1.0 else 0.0
    if ahead:
        factor = 2.0**-ahead
        totals[Total.FRESH_EPOCH] += ahead * config.fresh_half_life_s
        t.cells[:, Cell.FRESH] *= factor
        for one in (Total.FRESH, Total.LOWEST_FRESH):
            totals[one] *= factor
