"""Learn decayed counts, pairs and repeats, compiled.

Everything here mutates `Tables` in place, allocates nothing, and uses no fast-math, so that
results are bit-identical under any split. Arrays are bound to names of their own first: reading
one out of the tuple inside a loop costs a reference count each time (four times slower).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import POWER_STEPS, Parameters
from models.recommender.kernel import kernel
from models.recommender.listing import list_popular, relist
from models.recommender.rows import is_narrow, row_of, widen
from models.recommender.tables import NARROW, Cell, Flag, Row, Tables, Total, Trait

__all__ = [
    "decayed",
    "derive",
    "inflation",
    "learn_item",
    "learn_pair",
    "rescale",
    "scale_row",
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
_N, _FRESH = Cell.COUNT, Cell.FRESH
_FILLED, _SOURCE, _FIRST = Row.FILLED, Row.SOURCE, Row.FIRST
_INVERSE, _N32, _FRESH32, _PLACE = Trait.INVERSE, Trait.COUNT, Trait.FRESH, Trait.PLACE
_SEEN = Flag.SEEN

# Half-lives that an epoch may lie back before its units are rescaled, or an event before it:
# float32 holds what lies between, and what a million events add up to.
_MAX_AGE = 64.0
_MIN_AGE = -64.0
# A strength below this is none: arithmetic on what float32 holds with fewer bits is slow.
_LEAST_STRENGTH = 1e-30


@kernel
def usual_weight(t: Tables) -> float:
    """Return the mean weight of engagements, 1 before there are any.

    Where a labeler believes every engagement by half, half is as sure as it gets: the model must
    not depend on the scale of what it is told.
    """
    events = t.totals[_EVENTS]
    return max(_LEAST_USUAL, t.totals[_COUNT] / events) if events > 0.0 else 1.0


@kernel
def decayed(powers: NDArray[np.float64], which: int, back: float) -> float:
    """Return the decay ``which`` raised to ``back`` steps, from the table.

    A history's item of less than the usual weight is perhaps no engagement, and perhaps took no
    step: it counts as a part of one.
    """
    place = back * POWER_STEPS
    at = int(place)
    low = powers[which, at]
    power: float = low + (place - at) * (powers[which, at + 1] - low)
    return power


@kernel
def inflation(ts: float, epoch: float, half_life: float) -> float:
    """Return what one event at ``ts`` weighs in the units of ``epoch``."""
    age = (ts - epoch) / half_life
    # An event from long before the epoch counts next to nothing; an unset epoch counts one.
    if not age > _MIN_AGE:
        age = _MIN_AGE if age <= _MIN_AGE else 0.0
    unit: float = np.exp2(min(age, 1.5 * _MAX_AGE))
    return unit


@kernel
def units(t: Tables, p: Parameters, ts: float) -> tuple[float, float]:
    """Return what one event at ``ts`` weighs in slow and in fast counts."""
    return (
        inflation(ts, t.totals[_COUNT_EPOCH], p.half_life_s),
        inflation(ts, t.totals[_FRESH_EPOCH], p.fresh_half_life_s),
    )


@kernel
def derive(t: Tables, p: Parameters, i: int) -> None:
    """Work out of the item's counts what scoring reads instead of them."""
    count = t.cells[i, _N]
    traits = t.traits[i]
    traits[_N32] = count
    traits[_FRESH32] = t.cells[i, _FRESH]
    if count > 0.0:
        traits[_INVERSE] = count**-p.target_power
        t.strengths[row_of(t, i) + _SOURCE] = count**p.source_power
    else:
        traits[_INVERSE] = 0.0
        t.strengths[row_of(t, i) + _SOURCE] = 0.0


@kernel
def _scale(values: NDArray[np.float64], factor: float) -> None:
    for x in range(values.size):
        values[x] *= factor


@kernel
def scale_row(t: Tables, i: int, factor: float) -> None:
    """Multiply the strengths of a row."""
    start = row_of(t, i)
    row, value = t.pool[start:], t.strengths[start:]
    by = np.float32(factor)
    for x in range(_FIRST, _FIRST + 2 * row[_FILLED], 2):
        strength = value[x + 1] * by
        value[x + 1] = strength if strength >= _LEAST_STRENGTH else np.float32(0.0)


@kernel
def rescale(t: Tables, p: Parameters, ts: float) -> None:
    """Move the epochs forward when ``ts`` is far from them (tens of half-lives)."""
    totals = t.totals
    if math.isnan(totals[_COUNT_EPOCH]):
        totals[_COUNT_EPOCH] = ts
        totals[_FRESH_EPOCH] = ts
        return
    age = (ts - totals[_COUNT_EPOCH]) / p.half_life_s
    fresh_age = (ts - totals[_FRESH_EPOCH]) / p.fresh_half_life_s
    if not (age > _MAX_AGE or fresh_age > _MAX_AGE):
        return
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
        _scale(t.again.reshape(-1), factor)
        _scale(t.evidence.reshape(-1), factor)
        _scale(t.gains.reshape(-1), factor)
        for i in range(t.flags.size):
            scale_row(t, i, factor)
    if fresh_age > _MAX_AGE:
        whole = math.floor(fresh_age)
        factor = 2.0**-whole
        totals[_FRESH_EPOCH] += whole * p.fresh_half_life_s
        totals[_FRESH_TOTAL] *= factor
        totals[_LOWEST] *= factor
        _scale(t.borrowed.reshape(-1), factor)
        _scale(t.cells[:, _FRESH], factor)
    for i in range(t.flags.size):
        derive(t, p, i)
        t.dirty[i] = 1
    relist(t, p.lists)


@kernel
def learn_item(
    t: Tables, p: Parameters, i: int, amount: float, unit: float, fresh_unit: float
) -> None:
    """Add ``amount`` engagements (negative: take back) to the item's counts."""
    totals, cell = t.totals, t.cells[i]
    before = cell[_N]
    count = max(0.0, before + amount * unit)
    cell[_N] = count
    totals[_COUNT] = max(0.0, totals[_COUNT] + count - before)
    before = cell[_FRESH]
    fresh = max(0.0, before + amount * fresh_unit)
    cell[_FRESH] = fresh
    totals[_FRESH_TOTAL] = max(0.0, totals[_FRESH_TOTAL] + fresh - before)
    if t.flags[i] & _SEEN == 0:
        t.flags[i] |= _SEEN
        totals[_SEEN_TOTAL] += 1.0
    t.dirty[i] = 1
    derive(t, p, i)
    if p.lists:
        list_popular(t, i, fresh, count)


@kernel
def learn_pair(t: Tables, a: int, b: int, amount: float) -> None:
    """Add ``amount`` (negative: take back) to the strength of ``b`` among a's neighbours.

    A full row gives its weakest slot up to a stronger newcomer; to a weaker one it loses half
    the newcomer's weight, so that what keeps coming gets in.
    """
    start = row_of(t, a)
    row, value = t.pool[start:], t.strengths[start:]
    end = _FIRST + 2 * row[_FILLED]
    gain = np.float32(amount)
    at = -1
    for x in range(_FIRST, end, 2):
        if row[x] == b:
            at = x
            break
    if at >= 0:
        new = max(np.float32(0.0), value[at + 1] + gain)
    elif amount <= 0.0:
        return
    elif row[_FILLED] < t.room:
        if row[_FILLED] == NARROW and is_narrow(t, a):
            start = widen(t, a)
            row, value = t.pool[start:], t.strengths[start:]
        at = end
        row[_FILLED] += 1
        new = gain
    else:
        at = end - 2
        if value[at + 1] > gain:
            value[at + 1] -= np.float32(0.5) * gain
            t.dirty[a] = 1
            return
        new = gain
    t.dirty[a] = 1
    # Keep the strongest first.
    while at > _FIRST and value[at - 1] < new:
        value[at + 1] = value[at - 1]
        row[at] = row[at - 2]
        at -= 2
    while at + 2 < end and value[at + 3] > new:
        value[at + 1] = value[at + 3]
        row[at] = row[at + 2]
        at += 2
    value[at + 1] = new
    row[at] = b
