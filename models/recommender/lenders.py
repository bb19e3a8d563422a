"""Who borrows from whom: for each item that is new, the items that are like it."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel

__all__ = ["LENDERS", "SLOTS", "Lending", "no_lending", "release", "set_lenders", "wider"]

SLOTS = 4_096
"""Items that can borrow; the one announced longest ago makes room for the newest."""

LENDERS = 32


class Lending(NamedTuple):
    """Who borrows from whom; all of it follows from the catalogue, none is stored.

    ``item`` (slots,) and ``slot`` (items,) name each other, -1 for none. ``lender``, ``alike``
    (slots, lenders): items and squared cosines. ``since`` (slots,): event time from which the item
    is there. ``head`` (items,): a lender's newest edge; ``after``, ``before`` (slots · lenders,):
    the next older and newer one. ``near``, ``far``, ``active``, ``group``, ``touched`` (slots,)
    are scratch. ``used`` (2,): slots given out since the beginning, and slots touched by the
    scoring at hand.
    """

    item: NDArray[np.int32]
    slot: NDArray[np.int32]
    lender: NDArray[np.int32]
    alike: NDArray[np.float32]
    since: NDArray[np.float64]
    head: NDArray[np.int32]
    after: NDArray[np.int32]
    before: NDArray[np.int32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]
    active: NDArray[np.float32]
    group: NDArray[np.int32]
    touched: NDArray[np.int32]
    used: NDArray[np.int64]


def no_lending() -> Lending:
    """Return what costs nothing, for a catalogue of which nothing is known."""
    return _lending(0, 0)


def _lending(slots: int, items: int) -> Lending:
    return Lending(
        item=np.full(slots, -1, np.int32),
        slot=np.full(items, -1, np.int32),
        lender=np.full((slots, LENDERS), -1, np.int32),
        alike=np.zeros((slots, LENDERS), np.float32),
        since=np.full(slots, -np.inf),
        head=np.full(items, -1, np.int32),
        after=np.full(slots * LENDERS, -1, np.int32),
        before=np.full(slots * LENDERS, -1, np.int32),
        near=np.zeros(slots, np.float32),
        far=np.zeros(slots, np.float32),
        active=np.zeros(slots, np.float32),
        group=np.zeros(slots, np.int32),
        touched=np.zeros(slots, np.int32),
        used=np.zeros(2, np.int64),
    )


def wider(lending: Lending, items: int) -> Lending:
    """Return a copy with room for ``items`` items."""
    slots = len(lending.item) or SLOTS
    larger = _lending(slots, items)
    for name in Lending._fields:
        old = getattr(lending, name)
        getattr(larger, name)[: len(old)] = old
    return larger


@kernel
def release(b: Lending, e: int, lender: int) -> None:
    """Take an edge out of its lender's list, if there is one (-1: none)."""
    if lender < 0:
        return
    if b.before[e] >= 0:
        b.after[b.before[e]] = b.after[e]
    else:
        b.head[lender] = b.after[e]
    if b.after[e] >= 0:
        b.before[b.after[e]] = b.before[e]


@numba.njit(cache=True)
def set_lenders(
    b: Lending,
    items: NDArray[np.int32],
    lenders: NDArray[np.int32],
    alike: NDArray[np.float32],
    since: NDArray[np.float64],
) -> None:
    """Let items borrow from these, (n, lenders), -1 for none; whoever borrows already anew."""
    width = b.lender.shape[1]
    for r in range(items.size):
        i = items[r]
        if i < 0:
            continue
        s = b.slot[i]
        if s < 0:
            s = b.used[0] % b.item.size
            b.used[0] += 1
            if b.item[s] >= 0:
                b.slot[b.item[s]] = -1
            b.item[s] = i
            b.slot[i] = s
        b.since[s] = since[r]
        for x in range(width):
            e = s * width + x
            release(b, e, b.lender[s, x])
            j = lenders[r, x] if x < lenders.shape[1] else -1
            if j == i:
                j = -1
            b.lender[s, x] = j
            b.alike[s, x] = alike[r, x] if j >= 0 else 0.0
            b.before[e] = -1
            b.after[e] = -1
            if j >= 0:
                b.after[e] = b.head[j]
                if b.head[j] >= 0:
                    b.before[b.head[j]] = e
                b.head[j] = e
