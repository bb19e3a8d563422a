"""Where an item's row stands: its neighbours, and what is read together with them.

Most items of a large catalogue have few neighbours. Every item has a narrow row, so that memory is
needed for what is there, and a visit finds much of it in the caches. An item that gets more is
given one of the wide rows behind all narrow ones, in the order in which they are asked for, and
keeps it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel
from models.recommender.tables import LINE_WORDS, NARROW, NARROW_LINES, Row, Tables

__all__ = ["give_wide", "is_narrow", "row_of", "widen"]

_FIRST = Row.FIRST


@kernel
def row_of(t: Tables, i: int) -> int:
    """Return where the item's row begins in ``Tables.pool``."""
    start: int = t.lines[i] * LINE_WORDS
    return start


@kernel
def is_narrow(t: Tables, i: int) -> bool:
    """Return whether the item's row holds no more than `NARROW` neighbours."""
    narrow: bool = t.lines[i] < t.lines.size * NARROW_LINES
    return narrow


@kernel
def widen(t: Tables, i: int) -> int:
    """Move a narrow row to where a wide one begins; return that."""
    line: int = t.wide[0]
    t.wide[0] = line + t.wide[1]
    start, first = row_of(t, i), line * LINE_WORDS
    for x in range(_FIRST + 2 * NARROW):
        t.pool[first + x] = t.pool[start + x]
    t.lines[i] = line
    return first


def give_wide(t: Tables, items: NDArray[np.signedinteger]) -> None:
    """Let the rows of different items be wide; what stood in those that were not is gone."""
    items = items[t.lines[items] < len(t.lines) * NARROW_LINES]
    line, step = t.wide.tolist()
    t.lines[items] = line + step * np.arange(len(items))
    t.wide[0] = line + step * len(items)
