"""Predict, learn and push a stream's rows in strict order, compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.covisitation import (
    clear,
    gather,
    inflation,
    learn_item,
    learn_pair,
    refuse,
    rescale,
    top,
)
from models.recommender.tables import SEEN, Parameters, Tables, Total

__all__ = ["CORRECT", "ENGAGE", "MISS", "NEGATIVE", "NOT_PREDICTED", "StepOutput", "step_rows"]

ENGAGE, CORRECT, NEGATIVE = 0, 1, 2
"""Kinds of rows: an engagement, a changed label of one, something shown and not wanted."""

MISS, NOT_PREDICTED = -1, -2
"""Ranks that are none: outside the top 100 or never seen before; a row that is not an engagement."""

TOP = 10
RANKED = 100
_COUNT_EPOCH = Total.COUNT_EPOCH


class StepOutput(NamedTuple):
    """What `Recommender.step_many` returns, one entry a row.

    ``rank`` is 0-based, or `MISS`, or `NOT_PREDICTED`; ``predicted`` the item's share of all
    candidates' score; ``novelty_bits`` the mean self-information of the top 10.
    """

    rank: NDArray[np.int32]
    predicted: NDArray[np.float32]
    novelty_bits: NDArray[np.float32]
    n_items: int


@numba.njit(cache=True)
def _rank(t: Tables, n: int, item: int) -> tuple[int, float]:
    """Return the item's rank among the candidates and its share of their score."""
    target = t.score[item]
    if t.marked[item] == 0 or t.flags[item] & SEEN == 0 or target <= 0.0:
        return MISS, 0.0
    before = 0
    total = 0.0
    for x in range(n):
        c = t.touched[x]
        s = t.score[c]
        total += s
        if s > target or (s == target and c < item):
            before += 1
    return (before if before < RANKED else MISS), target / total


@numba.njit(cache=True)
def _position(items: NDArray[np.int32], length: int, item: int) -> int:
    for k in range(length):
        if items[k] == item:
            return k
    return -1


@numba.njit(cache=True)
def _learn_repeats(
    t: Tables, p: Parameters, items: NDArray[np.int32], length: int, item: int, w: float, ts: float
) -> None:
    unit = w * inflation(ts, t.totals[_COUNT_EPOCH], p.half_life_s)
    for k in range(length):
        t.lag_seen[k] += unit
        if items[k] == item:
            t.lag_hits[k] += unit


@numba.njit(cache=True)
def _learn_engagement(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    w: float,
    ts: float,
) -> None:
    learn_item(t, p, item, w, ts)
    step = w
    for k in range(min(length, p.window)):
        j = items[k]
        amount = step * weights[k]
        if j != item and amount > 0.0:
            learn_pair(t, p, j, item, amount, ts)
            learn_pair(t, p, item, j, amount, ts)
        step *= p.pair_decay


@numba.njit(cache=True)
def _learn_correction(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    delta: float,
    ts: float,
) -> None:
    """Learn a label's difference with the history as it stands now.

    Pairs with what had left the window of the history since keep their old strength: the
    history that was there is not kept, and the difference is small beside their decay.
    """
    learn_item(t, p, item, delta, ts)
    position = _position(items, length, item)
    if position < 0:
        return
    for direction in (-1, 1):
        step = delta
        k = position + direction
        for _ in range(p.window):
            if k < 0 or k >= length:
                break
            amount = step * weights[k]
            if amount != 0.0:
                learn_pair(t, p, items[k], item, amount, ts)
                learn_pair(t, p, item, items[k], amount, ts)
            step *= p.pair_decay
            k += direction


@numba.njit(cache=True)
def _learn_refusal(
    t: Tables, p: Parameters, items: NDArray[np.int32], length: int, item: int, w: float
) -> None:
    part = p.refusal * w
    for k in range(min(length, p.window)):
        if items[k] != item:
            refuse(t, items[k], item, part)
        part *= p.pair_decay


@numba.njit(cache=True)
def _push(
    items: NDArray[np.int32], weights: NDArray[np.float32], length: int, item: int, w: float
) -> int:
    """Move the item to the front of the history; return the new length."""
    position = _position(items, length, item)
    if position < 0:
        position = min(length, items.size - 1)
        length = min(length + 1, items.size)
    for k in range(position, 0, -1):
        items[k] = items[k - 1]
        weights[k] = weights[k - 1]
    items[0] = item
    weights[0] = w
    return length


@numba.njit(cache=True)
def step_rows(
    t: Tables,
    p: Parameters,
    hist_items: NDArray[np.int32],
    hist_weights: NDArray[np.float32],
    hist_len: NDArray[np.int32],
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    example: NDArray[np.int32],
    ex_weight: NDArray[np.float64],
    weight: NDArray[np.float64],
    ts: NDArray[np.float64],
    kind: NDArray[np.int8],
    learn: bool,
    rank: NDArray[np.int32],
    predicted: NDArray[np.float32],
    novelty: NDArray[np.float32],
) -> None:
    """Handle every row; see `Recommender.step_many`."""
    best = np.empty(TOP, np.int32)
    for r in range(user.size):
        rank[r] = NOT_PREDICTED
        predicted[r] = 0.0
        novelty[r] = 0.0
        i = item[r]
        if i < 0:
            # The vocabulary was full: nothing can be known about the item.
            if kind[r] == ENGAGE:
                rank[r] = MISS
            continue
        items = hist_items[user[r]]
        weights = hist_weights[user[r]]
        length = hist_len[user[r]]
        w = min(1.0, max(0.0, weight[r]))
        if math.isnan(w):
            w = 0.0
        now = ts[r]
        if learn:
            rescale(t, p, now)
        if kind[r] == ENGAGE:
            n = gather(t, p, items, weights, length, now)
            found, share = _rank(t, n, i)
            rank[r] = found
            predicted[r] = share
            novelty[r] = top(t, n, best, learn)
            clear(t, n)
            if learn:
                _learn_repeats(t, p, items, length, i, w, now)
                _learn_engagement(t, p, items, weights, length, i, w, now)
            hist_len[user[r]] = _push(items, weights, length, i, w)
            ex_weight[example[r]] = w
        elif kind[r] == CORRECT:
            before = ex_weight[example[r]]
            delta = w - max(0.0, before)
            if learn and delta != 0.0:
                _learn_correction(t, p, items, weights, length, i, delta, now)
            position = _position(items, length, i)
            if position >= 0:
                weights[position] = w
            ex_weight[example[r]] = w
        elif kind[r] == NEGATIVE:
            if learn:
                _learn_refusal(t, p, items, length, i, w)
            position = _position(items, length, i)
            if position >= 0:
                weights[position] *= np.float32(1.0 - w)
