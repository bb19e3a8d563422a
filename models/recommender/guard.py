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

import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel
from models.recommender.tables import FIXED, Tables, Total, Trait

__all__ = ["blend", "context_of", "hold_gains", "learn_guard"]

_PLACE = Trait.PLACE
_LATEST_UNIT = Total.LATEST_UNIT
_CUT = 10
_PATIENCE = 10.0
_MIXTURE_PRIOR = 0.9


@kernel
def context_of(length: int) -> int:
    """Return which mixture a history of this length uses."""
    if length == 0:
        return 0
    if length < 3:  # noqa: PLR2004 - the bounds are what the docstring of CONTEXTS lists
        return 1
    if length < 8:  # noqa: PLR2004
        return 2
    return 3 if length < 20 else 4  # noqa: PLR2004


@kernel
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


@kernel
def _above(values: NDArray[np.float32], n: int, bar: float) -> int:
    """Return how many candidates have more than ``bar``."""
    limit = np.float32(bar)
    found = np.int32(0)
    for x in range(FIXED, n):
        found = np.int32(found + np.int32(values[x] > limit))
    return int(found)


@kernel
def _mixture_above(t: Tables, n: int, bar: float) -> int:
    near, far, fresh, steady = t.near, t.far, t.fresh, t.steady
    m0, m1 = np.float32(t.mixture[0]), np.float32(t.mixture[1])
    m2, m3 = np.float32(t.mixture[2]), np.float32(t.mixture[3])
    limit = np.float32(bar)
    found = np.int32(0)
    for x in range(FIXED, n):
        whole = (m0 * near[x] + m1 * far[x]) + (m2 * fresh[x] + m3 * steady[x])
        found = np.int32(found + np.int32(whole > limit))
    return int(found)


@kernel
def _credit(
    gains: NDArray[np.float64], v: int, before: int, bar: float, length: int, t: Tables, unit: float
) -> None:
    """Credit ``v``, which alone would put ``before`` candidates before what came."""
    if before >= _CUT:
        return
    for k in range(length):
        before += t.chance[k] > bar
    if before < _CUT:
        gains[v] += unit / math.log2(before + 2.0)


def hold_gains(t: Tables) -> None:
    """Hold every expert within the patience of the best, after gains were added up."""
    best = np.maximum(t.gains.max(axis=1), 0.0)
    floor = best - _PATIENCE * t.totals[_LATEST_UNIT]
    np.maximum(t.gains, floor[:, None], out=t.gains)


@kernel
def learn_guard(t: Tables, n: int, length: int, item: int, own: int, w: float, unit: float) -> None:
    """Credit the mixture and each expert with the rank that it gave to the item that came.

    ``own`` is where the item stands in the history (-1: it does not), ``w`` the event's weight,
    ``unit`` what a whole one weighs. Call between `gather` and `clear`.
    """
    totals, single, mixture = t.totals, t.single, t.mixture
    totals[_LATEST_UNIT] = max(unit, totals[_LATEST_UNIT])
    at = t.places[item, _PLACE]
    if (at == 0 and own < 0) or w <= 0.0:
        return
    gains = t.gains[context_of(length)]
    credit = w * unit
    if own >= 0:
        bar = float(t.chance[own])
        if bar > 0.0:
            _credit(gains, 0, _mixture_above(t, n, bar), bar, length, t, credit)
            for e, values in enumerate((t.near, t.far, t.fresh, t.steady)):
                before = _above(values, n, bar / single[e]) if single[e] > 0.0 else 0
                _credit(gains, 1 + e, before, bar, length, t, credit)
    else:
        near, far, fresh, steady = t.near, t.far, t.fresh, t.steady
        m0, m1 = np.float32(mixture[0]), np.float32(mixture[1])
        m2, m3 = np.float32(mixture[2]), np.float32(mixture[3])
        # The same sum as for the others, to the bit: an item is not before itself.
        bar = (m0 * near[at] + m1 * far[at]) + (m2 * fresh[at] + m3 * steady[at])
        if bar > 0.0:
            _credit(gains, 0, _mixture_above(t, n, bar), bar, length, t, credit)
        for e, values in enumerate((near, far, fresh, steady)):
            bar = values[at]
            share = bar * single[e]
            if share > 0.0:
                _credit(gains, 1 + e, _above(values, n, bar), share, length, t, credit)
    best = 0.0
    for v in range(gains.size):
        best = max(best, gains[v])
    floor = best - _PATIENCE * totals[_LATEST_UNIT]
    for v in range(gains.size):
        gains[v] = max(gains[v], floor)
