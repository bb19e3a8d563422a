"""Write down what a stream's rows teach, and learn it elsewhere without predicting, compiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Parameters
from models.recommender.counting import learn_item, rescale, units, usual_weight
from models.recommender.kernel import kernel
from models.recommender.step import (
    CORRECT,
    ENGAGE,
    learn_correction,
    learn_engagement,
    learn_refusal,
    position_of,
    push,
)
from models.recommender.tables import Tables, Total

__all__ = ["NEIGHBOURHOOD", "apply_rows", "record_rows"]

_EVENTS, _LATEST_UNIT = Total.EVENTS, Total.LATEST_UNIT

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
        w = min(1.0, max(0.0, weight[r]))
        if math.isnan(w):
            w = 0.0
        position = position_of(items, length, i)
        first, stop = 0, min(length, p.window)
        amount[r] = w
        if kind[r] == CORRECT:
            amount[r] = w - max(0.0, ex_weight[example[r]])
            first, stop = 0, 0
            if position >= 0:
                first = max(0, position - p.window)
                stop = min(length, position + p.window + 1)
        if kind[r] != CORRECT or amount[r] != 0.0:
            size[r] = stop - first
            for k in range(first, stop):
                near_items[used] = items[k]
                near_weights[used] = weights[k]
                used += 1
        if kind[r] == ENGAGE:
            hist_len[user[r]] = push(items, weights, length, i, position, w)
            ex_weight[example[r]] = w
        elif kind[r] == CORRECT:
            if position >= 0:
                weights[position] = w
            ex_weight[example[r]] = w
        elif position >= 0:
            weights[position] *= np.float32(1.0 - w)
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
    near_items: NDArray[np.int32],
    near_weights: NDArray[np.float32],
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
        if kind[r] == ENGAGE:
            t.totals[_LATEST_UNIT] = max(unit, t.totals[_LATEST_UNIT])
            t.totals[_EVENTS] += unit
            learn_item(t, p, i, amount[r], unit, fresh_unit)
            learn_engagement(t, p, items, weights, size[r], i, amount[r] * unit, usual_weight(t))
        elif kind[r] == CORRECT:
            learn_item(t, p, i, amount[r], unit, fresh_unit)
            learn_correction(t, p, items, weights, size[r], i, amount[r] * unit)
        else:
            learn_refusal(t, p, items, size[r], i, amount[r])
