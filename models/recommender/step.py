"""Predict, learn and push a stream's rows in strict order, compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.counting import (
    learn_item,
    learn_pair,
    learn_repeats,
    rescale,
    step_back,
    units,
    usual_weight,
)
from models.recommender.guard import learn_guard
from models.recommender.scoring import clear, gather, learn_mixture, top
from models.recommender.tables import CHUNK_ROWS, Cell, Flag, Parameters, Tables, Total

__all__ = ["CORRECT", "ENGAGE", "MISS", "NEGATIVE", "NOT_PREDICTED", "StepOutput", "step_rows"]

ENGAGE, CORRECT, NEGATIVE = 0, 1, 2
"""Kinds of rows: an engagement, a changed label of one, something shown and not wanted."""

MISS, NOT_PREDICTED = -1, -2
"""Ranks that are none: outside the top 100, or of an item never seen; not an engagement."""

TOP = 10
RANKED = 100
_SEEN = Flag.SEEN
_EVENTS = Total.EVENTS
_SCORE, _MARK = Cell.SCORE, Cell.MARK


class StepOutput(NamedTuple):
    """What `Recommender.step_many` returns, one entry a row.

    ``rank`` is 0-based, or `MISS`, or `NOT_PREDICTED`; ``predicted`` the
    probability that the model gave the item; ``novelty_bits`` the mean self-information of the
    top 10.
    """

    rank: NDArray[np.int32]
    predicted: NDArray[np.float32]
    novelty_bits: NDArray[np.float32]
    n_items: int


@numba.njit()
def _rank(t: Tables, n: int, item: int) -> tuple[int, float]:
    """Return the item's rank among the candidates and its probability."""
    cells, touched = t.cells, t.touched
    target = cells[item, _SCORE]
    if cells[item, _MARK] == 0.0 or t.flags[item] & _SEEN == 0 or target <= 0.0:
        return MISS, 0.0
    before = 0
    for x in range(n):
        c = touched[x]
        s = cells[c, _SCORE]
        if s > target or (s == target and c < item):
            before += 1
    return (before if before < RANKED else MISS), target


@numba.njit()
def _position(items: NDArray[np.int32], length: int, item: int) -> int:
    for k in range(length):
        if items[k] == item:
            return k
    return -1


@numba.njit()
def _pair(t: Tables, p: Parameters, a: int, b: int, amount: float, ts: float) -> None:
    """Learn the pair in both directions."""
    neighbour, strength, filled, cells = t.neighbour, t.strength, t.filled, t.cells
    learn_pair(neighbour, strength, filled, cells, p.half_life_s, a, b, amount, ts)
    learn_pair(neighbour, strength, filled, cells, p.half_life_s, b, a, amount, ts)
    t.dirty[a // CHUNK_ROWS] = 1
    t.dirty[b // CHUNK_ROWS] = 1


@numba.njit()
def _refuse(t: Tables, a: int, b: int, part: float) -> None:
    """Take ``part`` of the strength of ``b`` among a's neighbours away."""
    row, value = t.neighbour[a], t.strength[a]
    used = t.filled[a]
    at = _position(row, used, b)
    if at < 0:
        return
    left = np.float32(value[at] * (1.0 - part))
    while at + 1 < used and value[at + 1] > left:
        value[at] = value[at + 1]
        row[at] = row[at + 1]
        at += 1
    value[at] = left
    row[at] = b
    t.dirty[a // CHUNK_ROWS] = 1


@numba.njit()
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
    usual = usual_weight(t)
    step = w
    for k in range(min(length, p.window)):
        j = items[k]
        amount = step * weights[k]
        if j != item and amount > 0.0:
            _pair(t, p, j, item, amount, ts)
        step = step_back(step, p.pair_decay, weights[k], usual)


@numba.njit()
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
                _pair(t, p, items[k], item, amount, ts)
            step *= p.pair_decay
            k += direction


@numba.njit()
def _learn_refusal(
    t: Tables, p: Parameters, items: NDArray[np.int32], length: int, item: int, w: float
) -> None:
    part = p.refusal * w
    for k in range(min(length, p.window)):
        if items[k] != item:
            _refuse(t, items[k], item, part)
        part *= p.pair_decay


@numba.njit()
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


@numba.njit()
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
        unit, fresh_unit = units(t, p, now)
        if kind[r] == ENGAGE:
            n = gather(t, p, items, weights, length, now, unit, fresh_unit)
            found, share = _rank(t, n, i)
            rank[r] = found
            predicted[r] = share
            novelty[r] = top(t, n, best, learn)
            if learn:
                learn_mixture(t, length, i, w * unit)
                usual = usual_weight(t)
                learn_guard(t, n, length, i, min(1.0, w / usual), unit)
            clear(t, n)
            if learn:
                learn_repeats(t, items, weights, length, i, w * unit, usual)
                t.totals[_EVENTS] += unit
                learn_item(t, p, i, w, unit, fresh_unit)
                _learn_engagement(t, p, items, weights, length, i, w, now)
            hist_len[user[r]] = _push(items, weights, length, i, w)
            ex_weight[example[r]] = w
        elif kind[r] == CORRECT:
            before = ex_weight[example[r]]
            delta = w - max(0.0, before)
            if learn and delta != 0.0:
                learn_item(t, p, i, delta, unit, fresh_unit)
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
