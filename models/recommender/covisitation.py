"""Score and learn decayed co-visitation, repeats and popularity, compiled.

Everything here mutates `Tables` in place, row by row in stream order, allocates nothing that
outlives a call, and uses no fast-math, so that results are bit-identical under any split.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.tables import (
    CHUNK_ROWS,
    IN_TOP,
    POPULAR_LISTED,
    SEEN,
    Parameters,
    Tables,
    Total,
)

__all__ = ["clear", "gather", "inflation", "learn_item", "learn_pair", "refuse", "rescale", "top"]

_COUNT_EPOCH = Total.COUNT_EPOCH
_POPULARITY_EPOCH = Total.POPULARITY_EPOCH
_COUNT = Total.COUNT
_SEEN_TOTAL = Total.SEEN
_COVERED = Total.COVERED
_POPULAR = Total.POPULAR

# Half-lives that an epoch may lie back before the units are rescaled, or an event before it.
_MAX_AGE = 256.0
_MIN_AGE = -64.0
# A repeat at a lag never tried is expected as often as this, with the weight of one trial.
_LAG_PRIOR = 0.01


@numba.njit(cache=True)
def inflation(ts: float, epoch: float, half_life: float) -> float:
    """Return what one event at ``ts`` weighs in the units of ``epoch``."""
    age = (ts - epoch) / half_life
    # A late event from long ago counts next to nothing, and an unset epoch counts one.
    if not age > _MIN_AGE:
        age = _MIN_AGE if age <= _MIN_AGE else 0.0
    unit: float = 2.0 ** min(age, 2.0 * _MAX_AGE)
    return unit


@numba.njit(cache=True)
def _rescaled(values: NDArray[np.float64], factor: float) -> None:
    for x in range(values.size):
        values[x] *= factor


@numba.njit(cache=True)
def rescale(t: Tables, p: Parameters, ts: float) -> None:
    """Move the epochs forward when ``ts`` is far from them (about once in years of events)."""
    if math.isnan(t.totals[_COUNT_EPOCH]):
        t.totals[_COUNT_EPOCH] = ts
        t.totals[_POPULARITY_EPOCH] = ts
        return
    age = (ts - t.totals[_COUNT_EPOCH]) / p.half_life_s
    if age > _MAX_AGE:
        whole = math.floor(age)
        factor = 2.0**-whole
        t.totals[_COUNT_EPOCH] += whole * p.half_life_s
        t.totals[_COUNT] *= factor
        _rescaled(t.counts, factor)
        _rescaled(t.lag_hits, factor)
        _rescaled(t.lag_seen, factor)
        for i in range(t.counts.size):
            t.inverse[i] = t.counts[i] ** -p.target_power if t.counts[i] > 0.0 else 0.0
        t.dirty[:] = 1
    age = (ts - t.totals[_POPULARITY_EPOCH]) / p.popularity_half_life_s
    if age > _MAX_AGE:
        whole = math.floor(age)
        t.totals[_POPULARITY_EPOCH] += whole * p.popularity_half_life_s
        _rescaled(t.popularity, 2.0**-whole)
        t.dirty[:] = 1


@numba.njit(cache=True)
def gather(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    ts: float,
) -> int:
    """Score every candidate for this history; return how many stand in ``touched``.

    Call `clear` with the result before the next `gather`.
    """
    n = 0
    unit = inflation(ts, t.totals[_COUNT_EPOCH], p.half_life_s)
    popular_unit = inflation(ts, t.totals[_POPULARITY_EPOCH], p.popularity_half_life_s)
    target_unit = unit**p.target_power
    # Co-visitation: what followed, or went before, the user's latest items.
    mass = 0.0
    step = 1.0
    for k in range(min(length, p.window)):
        j = items[k]
        age = (ts - t.row_ts[j]) / p.half_life_s
        decay = 2.0**-age if age > 0.0 else 1.0
        source = step * weights[k] * decay * target_unit
        source /= (t.counts[j] / unit) ** p.source_power + 1.0
        if source > 0.0:
            for x in range(t.filled[j]):
                c = t.neighbour[j, x]
                if t.marked[c] == 0:
                    t.marked[c] = 1
                    t.score[c] = 0.0
                    t.touched[n] = c
                    n += 1
                gain = source * t.strength[j, x] * t.inverse[c]
                t.score[c] += gain
                mass += gain
        step *= p.score_decay
    if mass <= 0.0:
        mass = 1.0
    # Repeats: the learned chance that the next item is the one this many steps back.
    for k in range(length):
        j = items[k]
        if t.marked[j] == 0:
            t.marked[j] = 1
            t.score[j] = 0.0
            t.touched[n] = j
            n += 1
        chance = (t.lag_hits[k] + _LAG_PRIOR * unit) / (t.lag_seen[k] + unit)
        t.score[j] += chance * weights[k] * mass
    for x in range(int(t.totals[_POPULAR])):
        c = t.popular[x]
        if t.marked[c] == 0:
            t.marked[c] = 1
            t.score[c] = 0.0
            t.touched[n] = c
            n += 1
    for x in range(n):
        c = t.touched[x]
        t.score[c] += p.popularity_share * t.popularity[c] / popular_unit
    return n


@numba.njit(cache=True)
def clear(t: Tables, n: int) -> None:
    """Forget the candidates of the last `gather`."""
    for x in range(n):
        t.marked[t.touched[x]] = 0


@numba.njit(cache=True)
def top(t: Tables, n: int, best: NDArray[np.int32], mark: bool) -> float:
    """Put the best candidates into ``best``; return their mean self-information in bits.

    With ``mark``, each is remembered as recommended once (catalogue coverage).
    """
    size = 0
    room = best.size
    for x in range(n):
        c = t.touched[x]
        s = t.score[c]
        if s <= 0.0:
            continue
        if size == room:
            last = best[size - 1]
            if s < t.score[last] or (s == t.score[last] and c > last):
                continue
            size -= 1
        y = size
        while y > 0:
            b = best[y - 1]
            if t.score[b] > s or (t.score[b] == s and b < c):
                break
            best[y] = b
            y -= 1
        best[y] = c
        size += 1
    bits = 0.0
    total = t.totals[_COUNT]
    for x in range(size):
        c = best[x]
        if t.counts[c] > 0.0:
            bits -= math.log2(t.counts[c] / total)
        if mark and t.flags[c] & IN_TOP == 0:
            t.flags[c] |= IN_TOP
            t.totals[_COVERED] += 1.0
            t.dirty[c // CHUNK_ROWS] = 1
    for x in range(size, room):
        best[x] = -1
    return bits / size if size > 0 else 0.0


@numba.njit(cache=True)
def _list_popular(t: Tables, i: int) -> None:
    """Let the item into the list of popular ones if it is more so than the last of them."""
    if t.flags[i] & POPULAR_LISTED != 0:
        return
    size = int(t.totals[_POPULAR])
    if size < t.popular.size:
        t.popular[size] = i
        t.totals[_POPULAR] += 1.0
        t.flags[i] |= POPULAR_LISTED
        return
    least = 0
    for x in range(1, size):
        if t.popularity[t.popular[x]] < t.popularity[t.popular[least]]:
            least = x
    out = t.popular[least]
    if t.popularity[i] > t.popularity[out]:
        t.flags[out] &= 255 - POPULAR_LISTED
        t.dirty[out // CHUNK_ROWS] = 1
        t.popular[least] = i
        t.flags[i] |= POPULAR_LISTED


@numba.njit(cache=True)
def learn_item(t: Tables, p: Parameters, i: int, amount: float, ts: float) -> None:
    """Add ``amount`` engagements (negative: take back) to the item's counts."""
    unit = inflation(ts, t.totals[_COUNT_EPOCH], p.half_life_s)
    before = t.counts[i]
    t.counts[i] = max(0.0, before + amount * unit)
    t.totals[_COUNT] = max(0.0, t.totals[_COUNT] + t.counts[i] - before)
    t.inverse[i] = t.counts[i] ** -p.target_power if t.counts[i] > 0.0 else 0.0
    unit = inflation(ts, t.totals[_POPULARITY_EPOCH], p.popularity_half_life_s)
    t.popularity[i] = max(0.0, t.popularity[i] + amount * unit)
    if t.flags[i] & SEEN == 0:
        t.flags[i] |= SEEN
        t.totals[_SEEN_TOTAL] += 1.0
    t.dirty[i // CHUNK_ROWS] = 1
    if amount > 0.0:
        _list_popular(t, i)


@numba.njit(cache=True)
def learn_pair(t: Tables, p: Parameters, a: int, b: int, amount: float, ts: float) -> None:
    """Add ``amount`` (negative: take back) to the strength of ``b`` among a's neighbours.

    A full row gives its weakest slot up to a stronger newcomer; to a weaker one it loses half
    the newcomer's weight, so that what keeps coming gets in.
    """
    filled = t.filled[a]
    age = (ts - t.row_ts[a]) / p.half_life_s
    if filled == 0:
        t.row_ts[a] = ts
    elif age > 0.0:
        decay = np.float32(2.0**-age)
        for x in range(filled):
            t.strength[a, x] *= decay
        t.row_ts[a] = ts
    elif age < 0.0:
        amount *= 2.0**age
    t.dirty[a // CHUNK_ROWS] = 1
    weakest = 0
    for x in range(filled):
        if t.neighbour[a, x] == b:
            t.strength[a, x] = max(np.float32(0.0), t.strength[a, x] + np.float32(amount))
            return
        if t.strength[a, x] < t.strength[a, weakest]:
            weakest = x
    if amount <= 0.0:
        return
    if filled < t.neighbour.shape[1]:
        t.neighbour[a, filled] = b
        t.strength[a, filled] = amount
        t.filled[a] = filled + 1
    elif t.strength[a, weakest] <= amount:
        t.neighbour[a, weakest] = b
        t.strength[a, weakest] = amount
    else:
        t.strength[a, weakest] -= np.float32(0.5 * amount)


@numba.njit(cache=True)
def refuse(t: Tables, a: int, b: int, part: float) -> None:
    """Take ``part`` of the strength of ``b`` among a's neighbours away."""
    for x in range(t.filled[a]):
        if t.neighbour[a, x] == b:
            t.strength[a, x] *= np.float32(1.0 - part)
            t.dirty[a // CHUNK_ROWS] = 1
            return
