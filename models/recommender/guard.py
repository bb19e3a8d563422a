"""Keep the mixture from being worse than one of its experts alone, compiled.

Math
----
What is scored is Σ_v a_v·p_v over the mixture and each expert alone, with
a_v ∝ prior_v·exp(G_v), G_v the decayed sum of nDCG that v alone would have had in histories of
this length (exponential weights, η = 1; 90 % prior on the mixture). All are linear in the same
four terms, so that the guard costs no second scoring. G_v is held within ``_PATIENCE`` of the
best, so that a change of fortune is followed within that many hits.
"""

from __future__ import annotations

import math

import numba

from models.recommender.counting import context_of
from models.recommender.tables import Cell, Tables, Total

__all__ = ["blend", "learn_guard"]

_N, _FRESH, _NEAR, _FAR = Cell.COUNT, Cell.FRESH, Cell.NEAR, Cell.FAR
_SCORE, _MARK = Cell.SCORE, Cell.MARK
_LATEST_UNIT = Total.LATEST_UNIT
_OWN = 2.0
_CUT = 10
_PATIENCE = 10.0
_MIXTURE_PRIOR = 0.9


@numba.njit()
def blend(t: Tables, length: int, unit: float) -> None:
    """Put into ``blend`` the factor of each term of the score, from ``mixture`` and ``single``."""
    gains, mixture, single, factor = t.gains[context_of(length)], t.mixture, t.single, t.blend
    experts = mixture.size
    # A late event does not make the experts' differences larger than they are.
    unit = max(unit, t.totals[_LATEST_UNIT])
    best = gains[0]
    for v in range(1, experts + 1):
        best = max(best, gains[v])
    whole = _MIXTURE_PRIOR * math.exp((gains[0] - best) / unit)
    total = whole
    for e in range(experts):
        share = (1.0 - _MIXTURE_PRIOR) * t.prior[e] * math.exp((gains[1 + e] - best) / unit)
        total += share
        if single[e] > 0.0:
            factor[e] = share * single[e]
        else:
            # An expert that has nothing to say leaves its part to the mixture.
            factor[e] = 0.0
            whole += share
    for e in range(experts):
        factor[e] = (factor[e] + whole * mixture[e]) / total


@numba.njit()
def learn_guard(t: Tables, n: int, length: int, item: int, w: float, unit: float) -> None:
    """Credit the mixture and each expert with the rank that it gave to the item that came.

    ``w`` is the event's weight, ``unit`` what a whole one weighs. Call between `gather` and
    `clear`.
    """
    cells, touched, totals = t.cells, t.touched, t.totals
    totals[_LATEST_UNIT] = max(unit, totals[_LATEST_UNIT])
    if cells[item, _MARK] == 0.0 or w <= 0.0:
        return
    m0, m1, m2, m3 = t.mixture[0], t.mixture[1], t.mixture[2], t.mixture[3]
    s0, s1, s2, s3 = t.single[0], t.single[1], t.single[2], t.single[3]
    near, far = cells[item, _NEAR], cells[item, _FAR]
    fresh, steady = cells[item, _FRESH], cells[item, _N]
    if cells[item, _MARK] == _OWN:
        t0 = t1 = t2 = t3 = t4 = cells[item, _SCORE]
    else:
        t0 = m0 * near + m1 * far + m2 * fresh + m3 * steady
        t1, t2, t3, t4 = s0 * near, s1 * far, s2 * fresh, s3 * steady
    b0 = b1 = b2 = b3 = b4 = 0
    for x in range(n):
        c = touched[x]
        if cells[c, _MARK] == _OWN:
            own = cells[c, _SCORE]
            b0 += own > t0
            b1 += own > t1
            b2 += own > t2
            b3 += own > t3
            b4 += own > t4
        else:
            near, far = cells[c, _NEAR], cells[c, _FAR]
            fresh, steady = cells[c, _FRESH], cells[c, _N]
            b0 += m0 * near + m1 * far + m2 * fresh + m3 * steady > t0
            b1 += s0 * near > t1
            b2 += s1 * far > t2
            b3 += s2 * fresh > t3
            b4 += s3 * steady > t4
    gains = t.gains[context_of(length)]
    best = 0.0
    for v, before, target in ((0, b0, t0), (1, b1, t1), (2, b2, t2), (3, b3, t3), (4, b4, t4)):
        if target > 0.0 and before < _CUT:
            gains[v] += w * unit / math.log2(before + 2.0)
        best = max(best, gains[v])
    for v in range(gains.size):
        gains[v] = max(gains[v], best - _PATIENCE * totals[_LATEST_UNIT])
