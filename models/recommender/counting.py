"""Learn decayed counts, pairs and repeats, compiled.

Everything here mutates `Tables` in place, allocates nothing, and uses no fast-math, so that
results are bit-identical under any split. Arrays are bound to names of their own first: reading
one out of the tuple inside a loop costs a reference count each time (four times slower).
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.tables import CHUNK_ROWS, CONTEXTS, Cell, Flag, Parameters, Tables, Total

__all__ = [
    "context_of",
    "inflation",
    "learn_item",
    "learn_pair",
    "learn_repeats",
    "rescale",
    "units",
    "usual_weight",
]

_COUNT_EPOCH = Total.COUNT_EPOCH
_FRESH_EPOCH = Total.FRESH_EPOCH
_COUNT = Total.COUNT
_FRESH_TOTAL = Total.FRESH
_SEEN_TOTAL = Total.SEEN
_LOWEST = Total.LOWEST_FRESH
_LATEST_UNIT = Total.LATEST_UNIT
_EVENTS = Total.EVENTS
_LEAST_USUAL = 0.01
_N, _INVERSE, _FRESH, _ROW_TS = Cell.COUNT, Cell.INVERSE, Cell.FRESH, Cell.ROW_TS
_SEEN = Flag.SEEN
_LISTED = Total.LISTED_FRESH
_FLAG_FRESH = Flag.FRESH
_FLAG_STEADY = Flag.STEADY

# Half-lives that an epoch may lie back before its units are rescaled, or an event before it.
_MAX_AGE = 256.0
_MIN_AGE = -64.0
# The same for a row of float32.
_MAX_ROW_AGE = 16.0


@numba.njit()
def context_of(length: int) -> int:
    """Return which mixture a history of this length uses."""
    if length == 0:
        return 0
    if length < 3:  # noqa: PLR2004 - the bounds are what the docstring of CONTEXTS lists
        return 1
    if length < 8:  # noqa: PLR2004
        return 2
    return 3 if length < 20 else 4  # noqa: PLR2004


@numba.njit()
def usual_weight(t: Tables) -> float:
    """Return the mean weight of engagements, 1 before there are any.

    Where a labeler believes every engagement by half, half is as sure as it gets: the model must
    not depend on the scale of what it is told.
    """
    events = t.totals[_EVENTS]
    return max(_LEAST_USUAL, t.totals[_COUNT] / events) if events > 0.0 else 1.0


@numba.njit()
def step_back(step: float, decay: float, weight: float, usual: float) -> float:
    """Return the factor of the item that lies one behind an item of this weight.

    What was perhaps no engagement perhaps took no step.
    """
    back: float = step * decay if weight >= usual else step * decay ** (weight / usual)
    return back


@numba.njit()
def inflation(ts: float, epoch: float, half_life: float) -> float:
    """Return what one event at ``ts`` weighs in the units of ``epoch``."""
    age = (ts - epoch) / half_life
    # An event from long before the epoch counts next to nothing; an unset epoch counts one.
    if not age > _MIN_AGE:
        age = _MIN_AGE if age <= _MIN_AGE else 0.0
    unit: float = np.exp2(min(age, 2.0 * _MAX_AGE))
    return unit


@numba.njit()
def units(t: Tables, p: Parameters, ts: float) -> tuple[float, float]:
    """Return what one event at ``ts`` weighs in slow and in fast counts."""
    return (
        inflation(ts, t.totals[_COUNT_EPOCH], p.half_life_s),
        inflation(ts, t.totals[_FRESH_EPOCH], p.fresh_half_life_s),
    )


@numba.njit()
def _scale(values: NDArray[np.float64], factor: float) -> None:
    for x in range(values.size):
        values[x] *= factor


@numba.njit()
def rescale(t: Tables, p: Parameters, ts: float) -> None:
    """Move the epochs forward when ``ts`` is far from them (hundreds of half-lives)."""
    totals = t.totals
    if math.isnan(totals[_COUNT_EPOCH]):
        totals[_COUNT_EPOCH] = ts
        totals[_FRESH_EPOCH] = ts
        return
    age = (ts - totals[_COUNT_EPOCH]) / p.half_life_s
    if age > _MAX_AGE:
        whole = math.floor(age)
        factor = 2.0**-whole
        totals[_COUNT_EPOCH] += whole * p.half_life_s
        totals[_COUNT] *= factor
        totals[_LOWEST + 1] *= factor
        totals[_LATEST_UNIT] *= factor
        totals[_EVENTS] *= factor
        _scale(t.cells[:, _N], factor)
        _scale(t.lag_hits.reshape(-1), factor)
        _scale(t.lag_seen.reshape(-1), factor)
        _scale(t.lag_expected, factor)
        _scale(t.evidence.reshape(-1), factor)
        _scale(t.gains.reshape(-1), factor)
        for i in range(t.filled.size):
            n = t.cells[i, _N]
            t.cells[i, _INVERSE] = n**-p.target_power if n > 0.0 else 0.0
        t.dirty[:] = 1
    age = (ts - totals[_FRESH_EPOCH]) / p.fresh_half_life_s
    if age > _MAX_AGE:
        whole = math.floor(age)
        totals[_FRESH_EPOCH] += whole * p.fresh_half_life_s
        factor = 2.0**-whole
        totals[_FRESH_TOTAL] *= factor
        totals[_LOWEST] *= factor
        _scale(t.cells[:, _FRESH], factor)
        t.dirty[:] = 1


@numba.njit()
def _list_popular(t: Tables, which: int, i: int, value: float) -> None:
    """Let the item into a list of popular ones if it is more so than the last of them.

    Most are not, and are turned away by a bound that is never above the last one's value.
    """
    totals, flags, listed = t.totals, t.flags, t.listed
    flag = _FLAG_FRESH if which == 0 else _FLAG_STEADY
    column = _FRESH if which == 0 else _N
    if flags[i] & flag != 0:
        totals[_LOWEST + which] = min(totals[_LOWEST + which], value)
        return
    size = int(totals[_LISTED + which])
    if size < listed.shape[1]:
        listed[which, size] = i
        totals[_LISTED + which] += 1.0
        totals[_LOWEST + which] = min(totals[_LOWEST + which], value) if size > 0 else value
        flags[i] |= flag
        return
    if value <= totals[_LOWEST + which]:
        return
    least = 0
    lowest = t.cells[listed[which, 0], column]
    for x in range(1, size):
        v = t.cells[listed[which, x], column]
        if v < lowest:
            lowest = v
            least = x
    totals[_LOWEST + which] = lowest
    if value > lowest:
        out = listed[which, least]
        flags[out] &= 255 - flag
        t.dirty[out // CHUNK_ROWS] = 1
        listed[which, least] = i
        flags[i] |= flag


@numba.njit()
def learn_item(
    t: Tables, p: Parameters, i: int, amount: float, unit: float, fresh_unit: float
) -> None:
    """Add ``amount`` engagements (negative: take back) to the item's counts."""
    totals, cell = t.totals, t.cells[i]
    before = cell[_N]
    count = max(0.0, before + amount * unit)
    cell[_N] = count
    cell[_INVERSE] = count**-p.target_power if count > 0.0 else 0.0
    totals[_COUNT] = max(0.0, totals[_COUNT] + count - before)
    before = cell[_FRESH]
    fresh = max(0.0, before + amount * fresh_unit)
    cell[_FRESH] = fresh
    totals[_FRESH_TOTAL] = max(0.0, totals[_FRESH_TOTAL] + fresh - before)
    if t.flags[i] & _SEEN == 0:
        t.flags[i] |= _SEEN
        totals[_SEEN_TOTAL] += 1.0
    t.dirty[i // CHUNK_ROWS] = 1
    _list_popular(t, 0, i, fresh)
    _list_popular(t, 1, i, count)


@numba.njit()
def learn_pair(
    neighbour: NDArray[np.int32],
    strength: NDArray[np.float32],
    filled: NDArray[np.int32],
    cells: NDArray[np.float64],
    half_life: float,
    a: int,
    b: int,
    amount: float,
    ts: float,
) -> None:
    """Add ``amount`` (negative: take back) to the strength of ``b`` among a's neighbours.

    A full row gives its weakest slot up to a stronger newcomer; to a weaker one it loses half
    the newcomer's weight, so that what keeps coming gets in.
    """
    used = filled[a]
    row = neighbour[a]
    value = strength[a]
    if used == 0:
        cells[a, _ROW_TS] = ts
    age = (ts - cells[a, _ROW_TS]) / half_life
    if age > _MAX_ROW_AGE:
        decay = np.float32(np.exp2(-age))
        for x in range(used):
            value[x] *= decay
        cells[a, _ROW_TS] = ts
    else:
        amount *= np.exp2(age)
    at = -1
    for x in range(used):
        if row[x] == b:
            at = x
            break
    if at >= 0:
        new = max(np.float32(0.0), value[at] + np.float32(amount))
    elif amount <= 0.0:
        return
    elif used < row.size:
        at = used
        filled[a] = used + 1
        new = np.float32(amount)
    else:
        at = used - 1
        if value[at] > amount:
            value[at] -= np.float32(0.5 * amount)
            return
        new = np.float32(amount)
    # Keep the strongest first.
    while at > 0 and value[at - 1] < new:
        value[at] = value[at - 1]
        row[at] = row[at - 1]
        at -= 1
    while at + 1 < used and value[at + 1] > new:
        value[at] = value[at + 1]
        row[at] = row[at + 1]
        at += 1
    value[at] = new
    row[at] = b


@numba.njit()
def learn_repeats(
    t: Tables,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    item: int,
    unit: float,
    usual: float,
) -> None:
    """Count at which lag of the history, if any, the new item stands.

    ``unit`` is what one such event weighs, ``lag_near`` what the last scoring gave to each lag.
    """
    here = context_of(length)
    seen, seen_here = t.lag_seen[CONTEXTS], t.lag_seen[here]
    expected, near = t.lag_expected, t.lag_near
    for k in range(length):
        # What stands there by mistake has no chance to be repeated.
        tried = unit * min(1.0, weights[k] / usual)
        seen[k] += tried
        seen_here[k] += tried
        expected[k] += tried * near[k]
        if items[k] == item:
            t.lag_hits[CONTEXTS, k] += unit
            t.lag_hits[here, k] += unit
