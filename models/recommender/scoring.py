"""Score candidates for a history by a learned mixture of experts, compiled.

Math
----
Each expert is a distribution over items. With j_k the item k steps back, w_k its weight, C the
decayed pair strengths and n the decayed counts, co-visitation gives
p(i) ∝ Σ_k γ^k·w_k·C[j_k→i] / ((n_{j_k}^β + 1)·n_i^α), once for the last few items and once for
many; popularity gives p(i) ∝ n_i, lately and over long. The mixture's weights are those of
online EM, learned by length of history. An item of the history is scored by the learned chance
r_k that the next one is the one k steps back, times the square root of how much more
co-visitation expects it than it does on average; so where nobody repeats, nothing is repeated.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender.counting import context_of, step_back, usual_weight
from models.recommender.guard import blend
from models.recommender.tables import (
    CHUNK_ROWS,
    CONTEXTS,
    Cell,
    Flag,
    Parameters,
    Tables,
    Total,
)

__all__ = ["clear", "gather", "learn_mixture", "top"]

_COUNT = Total.COUNT
_FRESH_TOTAL = Total.FRESH
_COVERED = Total.COVERED
_LISTED = Total.LISTED_FRESH
_IN_TOP = Flag.IN_TOP
_N, _INVERSE, _FRESH, _ROW_TS = Cell.COUNT, Cell.INVERSE, Cell.FRESH, Cell.ROW_TS
_NEAR, _FAR, _SCORE, _MARK = Cell.NEAR, Cell.FAR, Cell.SCORE, Cell.MARK

# Marks: not a candidate (0), a candidate, one that stands in the history.
_CANDIDATE = 1.0
_OWN = 2.0

_LAG_PRIOR = 0.01
"""A repeat at a lag never tried is expected this often, with the weight of one trial."""
_LAG_POOLING = 20.0
"""Trials after which a context's own chance of a repeat weighs as much as all contexts'."""
_LAG_SMOOTHING = 0.05
_MOST_REPEATS = 0.95
_MIN_SLOTS = 8


@numba.njit()
def _gather_neighbours(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    ts: float,
    unit: float,
    usual: float,
) -> int:
    """Let both co-visitation experts score the neighbours of the latest items."""
    neighbour, strength, filled = t.neighbour, t.strength, t.filled
    cells, touched = t.cells, t.touched
    n = 0
    near_step = 1.0
    far_step = 1.0
    for k in range(min(length, p.window)):
        j = items[k]
        age = (ts - t.cells[j, _ROW_TS]) / p.half_life_s
        source = weights[k] * (np.exp2(-age) if age > 0.0 else 1.0)
        source /= (t.cells[j, _N] / (unit * usual)) ** p.source_power + 1.0
        if k >= p.near_window:
            near_step = 0.0
        if source > 0.0:
            # What lies further back weighs less, and its weakest neighbours nothing.
            used = min(filled[j], max(_MIN_SLOTS, int(neighbour.shape[1] * far_step)))
            near_source = source * near_step
            far_source = source * far_step
            row, value = neighbour[j], strength[j]
            for x in range(used):
                c = row[x]
                gain = value[x] * cells[c, _INVERSE]
                if cells[c, _MARK] == 0.0:
                    cells[c, _MARK] = _CANDIDATE
                    touched[n] = c
                    n += 1
                    cells[c, _NEAR] = near_source * gain
                    cells[c, _FAR] = far_source * gain
                else:
                    cells[c, _NEAR] += near_source * gain
                    cells[c, _FAR] += far_source * gain
        near_step = step_back(near_step, p.near_decay, weights[k], usual)
        far_step = step_back(far_step, p.far_decay, weights[k], usual)
    return n


@numba.njit()
def gather(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    ts: float,
    unit: float,
    fresh_unit: float,
) -> int:
    """Score every candidate for this history; return how many stand in ``touched``.

    Call `clear` with the result before the next one. ``mixture`` is left holding the factor of
    each expert in the mixture, ``single`` its factor alone, ``lag_near`` what co-visitation gave
    to each item of the history.
    """
    cells, touched, totals = t.cells, t.touched, t.totals
    mixture, single = t.mixture, t.single
    usual = usual_weight(t)
    n = _gather_neighbours(t, p, items, weights, length, ts, unit, usual)
    for which in range(2):
        listed = t.listed[which]
        for x in range(int(totals[_LISTED + which])):
            c = listed[x]
            if cells[c, _MARK] == 0.0:
                cells[c, _MARK] = _CANDIDATE
                touched[n] = c
                n += 1
                cells[c, _NEAR] = 0.0
                cells[c, _FAR] = 0.0
    near_mass = 0.0
    far_mass = 0.0
    for x in range(n):
        near_mass += cells[touched[x], _NEAR]
        far_mass += cells[touched[x], _FAR]
    # Items of the history are scored as repeats, and by no expert.
    mass = near_mass + far_mass
    fresh_mass = totals[_FRESH_TOTAL]
    steady_mass = totals[_COUNT]
    for k in range(length):
        j = items[k]
        t.lag_near[k] = 0.0
        if cells[j, _MARK] == 0.0:
            touched[n] = j
            n += 1
        elif mass > 0.0:
            t.lag_near[k] = (cells[j, _NEAR] + cells[j, _FAR]) / mass
            near_mass -= cells[j, _NEAR]
            far_mass -= cells[j, _FAR]
        cells[j, _MARK] = _OWN
        fresh_mass -= cells[j, _FRESH]
        steady_mass -= cells[j, _N]
    here = context_of(length)
    prior = p.mixture_prior * unit
    total = 0.0
    for x in range(mixture.size):
        mixture[x] = t.evidence[here, x] + prior * t.prior[x]
    # A mass that is only what rounding left is none.
    if near_mass <= 1e-12 * mass:
        mixture[0] = near_mass = 0.0
    if far_mass <= 1e-12 * mass:
        mixture[1] = far_mass = 0.0
    for x in range(mixture.size):
        total += mixture[x]
    whole = 1.0 / total if total > 0.0 else 0.0
    single[0] = 1.0 / near_mass if near_mass > 0.0 else 0.0
    single[1] = 1.0 / far_mass if far_mass > 0.0 else 0.0
    # Popularity keeps a little for what nobody has seen yet.
    single[2] = 1.0 / max(fresh_mass, fresh_unit)
    single[3] = 1.0 / max(steady_mass, unit)
    # Chances of repeats.
    repeats = 0.0
    for k in range(length):
        chance = (t.lag_hits[CONTEXTS, k] + _LAG_PRIOR * unit) / (t.lag_seen[CONTEXTS, k] + unit)
        pooled = _LAG_POOLING * unit
        chance = (t.lag_hits[here, k] + pooled * chance) / (t.lag_seen[here, k] + pooled)
        if mass > 0.0:
            usual = (t.lag_expected[k] + _LAG_PRIOR * unit) / (t.lag_seen[CONTEXTS, k] + unit)
            chance *= math.sqrt(t.lag_near[k] / usual + _LAG_SMOOTHING)
        chance *= min(1.0, weights[k] / usual)
        cells[items[k], _SCORE] = chance
        repeats += chance
    if repeats > _MOST_REPEATS:
        for k in range(length):
            cells[items[k], _SCORE] *= _MOST_REPEATS / repeats
        repeats = _MOST_REPEATS
    for x in range(mixture.size):
        single[x] *= (1.0 - repeats) * (t.prior[x] > 0.0)
        mixture[x] *= whole * single[x]
    blend(t, length, unit)
    m0, m1, m2, m3 = t.blend[0], t.blend[1], t.blend[2], t.blend[3]
    for x in range(n):
        c = touched[x]
        if cells[c, _MARK] == _CANDIDATE:
            cells[c, _SCORE] = (
                m0 * cells[c, _NEAR]
                + m1 * cells[c, _FAR]
                + m2 * cells[c, _FRESH]
                + m3 * cells[c, _N]
            )
    return n


@numba.njit()
def clear(t: Tables, n: int) -> None:
    """Forget the candidates of the last `gather`."""
    cells, touched = t.cells, t.touched
    for x in range(n):
        cells[touched[x], _MARK] = 0.0


@numba.njit()
def learn_mixture(t: Tables, length: int, item: int, unit: float) -> None:
    """Credit the experts with the item that came, each by its share in the prediction.

    ``unit`` is what this event weighs. Call between `gather` and `clear`, before the item is
    learned. Repeats teach nothing here.
    """
    if t.cells[item, _MARK] == _OWN:
        return
    mixture = t.mixture
    listed = t.cells[item, _MARK] == _CANDIDATE
    near = mixture[0] * t.cells[item, _NEAR] if listed else 0.0
    far = mixture[1] * t.cells[item, _FAR] if listed else 0.0
    fresh = mixture[2] * t.cells[item, _FRESH]
    steady = mixture[3] * t.cells[item, _N]
    total = near + far + fresh + steady
    if total > 0.0:
        unit /= total
        evidence = t.evidence[context_of(length)]
        evidence[0] += near * unit
        evidence[1] += far * unit
        evidence[2] += fresh * unit
        evidence[3] += steady * unit


@numba.njit()
def top(t: Tables, n: int, best: NDArray[np.int32], mark: bool) -> float:
    """Put the best candidates into ``best``; return their mean self-information in bits.

    With ``mark``, each is remembered as recommended once (catalogue coverage).
    """
    cells, touched, flags = t.cells, t.touched, t.flags
    size = 0
    room = best.size
    last = -1.0
    for x in range(n):
        c = touched[x]
        s = cells[c, _SCORE]
        if s <= 0.0 or (size == room and (s < last or (s == last and c > best[room - 1]))):
            continue
        y = min(size, room - 1)
        while y > 0:
            b = best[y - 1]
            if cells[b, _SCORE] > s or (cells[b, _SCORE] == s and b < c):
                break
            best[y] = b
            y -= 1
        best[y] = c
        size = min(size + 1, room)
        if size == room:
            last = cells[best[room - 1], _SCORE]
    share = 1.0
    known = 0
    for x in range(size):
        c = best[x]
        # One logarithm of a product is ten times cheaper than ten; a share is above 1e-30.
        if cells[c, _N] > 0.0:
            share *= max(cells[c, _N] / t.totals[_COUNT], 1e-30)
            known += 1
        if mark and flags[c] & _IN_TOP == 0:
            flags[c] |= _IN_TOP
            t.totals[_COVERED] += 1.0
            t.dirty[c // CHUNK_ROWS] = 1
    for x in range(size, room):
        best[x] = -1
    return -math.log2(share) / known if known > 0 else 0.0
