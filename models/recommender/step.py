"""Predict, learn and push a stream's rows in strict order, compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Parameters
from models.recommender.counting import (
    decayed,
    learn_item,
    learn_pair,
    rescale,
    units,
    usual_weight,
)
from models.recommender.guard import context_of, learn_guard
from models.recommender.judging import popularity_rank, spread
from models.recommender.kernel import kernel
from models.recommender.lending import learn_lending
from models.recommender.newcomers import contender, hold_place, learn_place, rank_behind
from models.recommender.repeats import learn_repeats
from models.recommender.rows import row_of
from models.recommender.scoring import clear, gather, learn_mixture, rank_of, top
from models.recommender.tables import Row, Tables, Total

__all__ = [
    "CORRECT",
    "ENGAGE",
    "JUDGED",
    "MISS",
    "NEGATIVE",
    "NOT_PREDICTED",
    "StepOutput",
    "amount_of",
    "learn_row",
    "move_on",
    "position_of",
    "step_rows",
    "weight_of",
]

ENGAGE, CORRECT, NEGATIVE = 0, 1, 2
"""Kinds of rows: an engagement, a changed label of one, something shown and not wanted."""

MISS, NOT_PREDICTED = -1, -2
"""Ranks that are none: outside the top 100, or of an item never seen; not an engagement."""

JUDGED = 64
"""One row in this many has its top 10 judged for diversity."""

TOP = 10
RANKED = 100
_PRIME = 1_000_003
_EVENTS, _LATEST_UNIT = Total.EVENTS, Total.LATEST_UNIT
_FILLED, _FIRST = Row.FILLED, Row.FIRST
_PAIR_POWERS, _LONG_PAIR_POWERS = 2, 3


class StepOutput(NamedTuple):
    """What `Recommender.step_many` returns, one entry a row.

    ``rank`` is 0-based, or `MISS`, or `NOT_PREDICTED`; ``predicted`` the
    probability that the model gave the item; ``novelty_bits`` the mean self-information of the
    top 10. ``popular_rank`` is the item's rank among what is popular lately, for everybody the
    same: the baseline. ``diversity`` is how little the top 10 went together, from 0 to 1, NaN
    where it was not worked out: that is done for one row in `JUDGED`.
    """

    rank: NDArray[np.int32]
    predicted: NDArray[np.float32]
    novelty_bits: NDArray[np.float32]
    popular_rank: NDArray[np.int32]
    diversity: NDArray[np.float32]
    n_items: int

    def chosen(self, rows: NDArray[np.intp]) -> StepOutput:
        """Return these rows."""
        return StepOutput(
            self.rank[rows],
            self.predicted[rows],
            self.novelty_bits[rows],
            self.popular_rank[rows],
            self.diversity[rows],
            self.n_items,
        )

    @classmethod
    def joined(cls, parts: Sequence[StepOutput]) -> StepOutput:
        """Return the rows of all parts, in order; of at least one."""
        return cls(
            np.concatenate([part.rank for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.novelty_bits for part in parts]),
            np.concatenate([part.popular_rank for part in parts]),
            np.concatenate([part.diversity for part in parts]),
            parts[-1].n_items,
        )


@kernel
def position_of(items: NDArray[np.int32], length: int, item: int) -> int:
    """Return where the item stands in the history, -1 for nowhere."""
    for k in range(length):
        if items[k] == item:
            return k
    return -1


@kernel
def _refuse(t: Tables, a: int, b: int, part: float) -> None:
    """Take ``part`` of the strength of ``b`` among a's neighbours away."""
    start = row_of(t, a)
    row, value = t.pool[start:], t.strengths[start:]
    end = _FIRST + 2 * row[_FILLED]
    at = -1
    for x in range(_FIRST, end, 2):
        if row[x] == b:
            at = x
            break
    if at < 0:
        return
    left = np.float32(value[at + 1] * (1.0 - part))
    while at + 2 < end and value[at + 3] > left:
        value[at + 1] = value[at + 3]
        row[at] = row[at + 2]
        at += 2
    value[at + 1] = left
    row[at] = b
    t.dirty[a] = 1


@kernel
def learn_engagement(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    w: float,
    usual: float,
    long: bool,
) -> None:
    """Learn the pairs that an engagement makes with the latest of the history."""
    back = 0.0
    powers = _LONG_PAIR_POWERS if long else _PAIR_POWERS
    for k in range(min(length, p.window)):
        j = items[k]
        amount = w * decayed(t.powers, powers, back) * weights[k]
        if j >= 0 and j != item and amount > 0.0:
            learn_pair(t, j, item, amount)
            learn_pair(t, item, j, amount)
        back += min(1.0, weights[k] / usual)


@kernel
def learn_correction(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    delta: float,
    long: bool,
) -> None:
    """Learn a label's difference with the history as it stands now.

    Pairs with what had left the window of the history since keep their old strength: the
    history that was there is not kept, and the difference is small beside their decay.
    """
    position = position_of(items, length, item)
    if position < 0:
        return
    decay = p.long_pair_decay if long else p.pair_decay
    for direction in (-1, 1):
        step = delta
        k = position + direction
        for _ in range(p.window):
            if k < 0 or k >= length:
                break
            amount = step * weights[k]
            j = items[k]
            if j >= 0 and amount != 0.0:
                learn_pair(t, j, item, amount)
                learn_pair(t, item, j, amount)
            step *= decay
            k += direction


@kernel
def learn_refusal(
    t: Tables, p: Parameters, items: NDArray[np.int32], length: int, item: int, w: float
) -> None:
    """Weaken the pairs of what was refused with the latest of the history."""
    part = p.refusal * w
    for k in range(min(length, p.window)):
        if items[k] >= 0 and items[k] != item:
            _refuse(t, items[k], item, part)
        part *= p.pair_decay


@kernel
def learn_row(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    long: bool,
    item: int,
    kind: int,
    amount: float,
    unit: float,
    fresh_unit: float,
    segment: int,
) -> None:
    """Learn the counts and pairs that one row teaches.

    ``items``, ``weights`` and ``length`` are the history, or as much of it as the row is paired
    with; ``long`` says whether it was long. ``amount`` is an engagement's or a refusal's weight,
    a correction's difference. ``segment`` is the row of who did it, -1 for none.
    """
    if kind == NEGATIVE:
        learn_refusal(t, p, items, length, item, amount)
        return
    if kind == ENGAGE:
        t.totals[_LATEST_UNIT] = max(unit, t.totals[_LATEST_UNIT])
        t.totals[_EVENTS] += unit
    learn_item(t, p, item, amount, unit, fresh_unit)
    amount *= unit
    if kind == ENGAGE:
        learn_engagement(t, p, items, weights, length, item, amount, usual_weight(t), long)
    else:
        learn_correction(t, p, items, weights, length, item, amount, long)
    if segment >= 0:
        learn_pair(t, segment, item, amount)


@kernel
def weight_of(weight: float) -> float:
    """Return the weight within [0, 1]; what is no number counts as nothing."""
    return 0.0 if math.isnan(weight) else min(1.0, max(0.0, weight))


@kernel
def amount_of(kind: int, w: float, learned: float) -> float:
    """Return what a row teaches: its weight, or of a correction the difference to ``learned``."""
    return w - max(0.0, learned) if kind == CORRECT else w


@kernel
def move_on(
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    position: int,
    kind: int,
    w: float,
) -> int:
    """Enter a row into the history, in which its item stands at ``position`` (-1: nowhere).

    Returns the new length.
    """
    if kind == ENGAGE:
        return push(items, weights, length, item, position, w)
    if position >= 0:
        weights[position] = w if kind == CORRECT else weights[position] * np.float32(1.0 - w)
    return length


@kernel
def push(
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    position: int,
    w: float,
) -> int:
    """Move the item, which stands at ``position`` or nowhere (-1), to the front of the history.

    Returns the new length.
    """
    if position < 0:
        position = min(length, items.size - 1)
        length = min(length + 1, items.size)
    for k in range(position, 0, -1):
        items[k] = items[k - 1]
        weights[k] = weights[k - 1]
    items[0] = item
    weights[0] = w
    return length


@kernel
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
    segment: NDArray[np.int32],
    learn: bool,
    rank: NDArray[np.int32],
    predicted: NDArray[np.float32],
    novelty: NDArray[np.float32],
    popular_rank: NDArray[np.int32],
    diversity: NDArray[np.float32],
) -> None:
    """Handle every row; see `Recommender.step_many`."""
    best, scores = t.best, t.best_scores
    for r in range(user.size):
        rank[r] = NOT_PREDICTED
        predicted[r] = 0.0
        novelty[r] = 0.0
        popular_rank[r] = MISS
        diversity[r] = np.nan
        i = item[r]
        if i < 0:
            # The vocabulary was full: nothing can be known about the item.
            if kind[r] == ENGAGE:
                rank[r] = MISS
            continue
        items = hist_items[user[r]]
        weights = hist_weights[user[r]]
        length = hist_len[user[r]]
        w = weight_of(weight[r])
        own = position_of(items, length, i)
        amount = amount_of(kind[r], w, ex_weight[example[r]])
        now = ts[r]
        if learn:
            rescale(t, p, now)
        unit, fresh_unit = units(t, p, now)
        if kind[r] == ENGAGE:
            if p.lists:
                popular_rank[r] = popularity_rank(t, i)
            n = gather(t, p, items, weights, length, unit, fresh_unit, now, segment[r])
            novelty[r] = top(t, items, length, n, best, scores, learn)
            before, share = rank_of(t, n, items, length, i, own)
            newcomer, group = 0, 0
            if t.lending.used[1] > 0 and best[TOP - 1] >= 0:
                newcomer, group = contender(t, scores[TOP - 1])
            if newcomer > 0:
                held = hold_place(t, group, fresh_unit)
                if learn:
                    at = t.touched[newcomer]
                    learn_place(t, i, at, group, best, min(1.0, w / usual_weight(t)) * fresh_unit)
                if held:
                    before = rank_behind(t, i, before, share, newcomer, TOP)
                    best[TOP - 1] = t.touched[newcomer]
            rank[r] = before if 0 <= before < RANKED else MISS
            predicted[r] = share
            # By what the row is, so that the choice does not depend on how calls are split.
            if (i * 40_503 + length * 9_973 + int(now) % _PRIME) % JUDGED == 0:
                diversity[r] = spread(t, best)
            if learn:
                usual = usual_weight(t)
                if p.mixed:
                    learn_lending(t, i, w * fresh_unit, fresh_unit)
                    learn_mixture(t, length, i, own, w * unit)
                    learn_guard(t, n, length, i, own, min(1.0, w / usual), unit)
            clear(t, items, length, n, p.lists)
            if learn:
                learn_repeats(t, weights, length, context_of(length), own, w * unit, usual)
        if learn and (kind[r] != CORRECT or amount != 0.0):
            long = length >= p.long_from
            learn_row(
                t,
                p,
                items,
                weights,
                length,
                long,
                i,
                kind[r],
                amount,
                unit,
                fresh_unit,
                segment[r],
            )
        hist_len[user[r]] = move_on(items, weights, length, i, own, kind[r], w)
        if kind[r] != NEGATIVE:
            ex_weight[example[r]] = w
