"""Write down what a stream's rows teach, and learn it elsewhere without predicting, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Parameters
from models.recommender.counting import rescale, units
from models.recommender.kernel import kernel
from models.recommender.step import (
    CORRECT,
    NEGATIVE,
    amount_of,
    learn_row,
    move_on,
    position_of,
    weight_of,
)
from models.recommender.tables import Tables

__all__ = ["NEIGHBOURHOOD", "apply_rows", "record_rows"]

NEIGHBOURHOOD = 2
"""Windows of the history that lie around a corrected item; an engagement needs one."""


@kernel
def record_rows(
    p: Parameters,
    hist_items: NDArray[np.int32],
    hist_weights: NDArray[np.float32],
    hist_len: NDArray[np.int32],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    example: NDArray[np.int32],
    ex_weight: NDArray[np.float64],
    weight: NDArray[np.float64],
    kind: NDArray[np.int8],
    amount: NDArray[np.float64],
    size: NDArray[np.int32],
    long: NDArray[np.int8],
    near_items: NDArray[np.int32],
    near_weights: NDArray[np.float32],
) -> int:
    """Write down each row's amount, and the part of the history that it is learned with.

    Histories and ``ex_weight`` are moved on as `step_rows` moves them. ``size`` is -1 for a row
    that teaches nothing. Returns how much of ``near_items`` and ``near_weights`` is used.
    """
    used = 0
    for r in range(user.size):
        size[r] = -1
        i = item[r]
        if i < 0:
            continue
        items = hist_items[user[r]]
        weights = hist_weights[user[r]]
        length = hist_len[user[r]]
        w = weight_of(weight[r])
        position = position_of(items, length, i)
        amount[r] = amount_of(kind[r], w, ex_weight[example[r]])
        first, stop = 0, min(length, p.window)
        if kind[r] == CORRECT:
            first, stop = 0, 0
            if position >= 0:
                first = max(0, position - p.window)
                stop = min(length, position + p.window + 1)
        if kind[r] != CORRECT or amount[r] != 0.0:
            size[r] = stop - first
            long[r] = length >= p.long_from
            for k in range(first, stop):
                near_items[used] = items[k]
                near_weights[used] = weights[k]
                used += 1
        hist_len[user[r]] = move_on(items, weights, length, i, position, kind[r], w)
        if kind[r] != NEGATIVE:
            ex_weight[example[r]] = w
    return used


@kernel
def apply_rows(
    t: Tables,
    p: Parameters,
    item: NDArray[np.int32],
    kind: NDArray[np.int8],
    amount: NDArray[np.float64],
    ts: NDArray[np.float64],
    size: NDArray[np.int32],
    long: NDArray[np.int8],
    near_items: NDArray[np.int32],
    near_weights: NDArray[np.float32],
    segment: NDArray[np.int32],
) -> None:
    """Learn the counts and pairs that rows teach; an item of index -1 has no place here."""
    stop = 0
    for r in range(item.size):
        first, stop = stop, stop + size[r]
        i = item[r]
        if i < 0:
            continue
        items, weights = near_items[first:stop], near_weights[first:stop]
        rescale(t, p, ts[r])
        unit, fresh_unit = units(t, p, ts[r])
        learn_row(
            t,
            p,
            items,
            weights,
            size[r],
            long[r] != 0,
            i,
            kind[r],
            amount[r],
            unit,
            fresh_unit,
            segment[r],
        )
