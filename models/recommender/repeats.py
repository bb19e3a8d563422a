"""Learn how likely people come back to what they had, compiled.

Math
----
The chance of the item k steps back is c_k·f(r_k). c_k is how often the one at this lag came next,
by length of history; r_k how much more co-visitation expects the item than it expects that lag on
average. f is learned by half octaves of r: what came, over what c alone expected. Until then, and
where little is known, f(r) = √(r + 1/20), r where the half octave begins; so where nobody repeats,
nothing is repeated.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import LAGS
from models.recommender.kernel import kernel
from models.recommender.tables import CONTEXTS, RATIOS, Tables

__all__ = ["chances", "learn_repeats"]

_PRIOR = 0.01
"""A repeat at a lag never tried is expected this often, with the weight of one trial."""
_POOLING = 20.0
"""Trials after which a context's own chance of a repeat weighs as much as all contexts'."""
_SMOOTHING = 0.05
_SURE = 2.0
"""Repeats after which what came of a ratio weighs as much as what is believed of it."""
_MOST = 0.95
_HALF_OCTAVE = math.sqrt(0.5)
_EVEN = 13
"""Number of the half octave that begins at an even ratio; the first one has all that is less."""
_RATIO = np.where(np.arange(RATIOS) > 0, 2.0 ** (0.5 * (np.arange(RATIOS) - _EVEN)), 0.0)
_BELIEVED = np.sqrt(_RATIO + _SMOOTHING)


@kernel
def _half_octave(ratio: float) -> int:
    """Return to which of `RATIOS` a ratio belongs."""
    if not ratio > 0.0:
        return 0
    part, exponent = math.frexp(ratio)
    number = 2 * exponent + (_EVEN - 2) + (1 if part >= _HALF_OCTAVE else 0)
    return min(RATIOS - 1, max(0, number))


@kernel
def chances(
    t: Tables,
    weights: NDArray[np.float32],
    length: int,
    here: int,
    mass: float,
    usual: float,
    unit: float,
) -> float:
    """Put into ``chance`` how likely each item of the history comes next; return their sum.

    ``here`` is the context, ``mass`` what co-visitation gave to all candidates, ``lag_near`` which
    part of it went to each item of the history.
    """
    hits, seen = t.lag_hits[CONTEXTS], t.lag_seen[CONTEXTS]
    hits_here, seen_here = t.lag_hits[here], t.lag_seen[here]
    came, expected = t.again[0], t.again[1]
    pooled, sure = _POOLING * unit, _SURE * unit
    total = 0.0
    for k in range(length):
        lag = min(k, LAGS - 1)
        trials = 1.0 / (seen[lag] + unit)
        chance = (hits[lag] + _PRIOR * unit) * trials
        chance = (hits_here[lag] + pooled * chance) / (seen_here[lag] + pooled)
        chance *= min(1.0, weights[k] / usual)
        t.lag_chance[k] = 0.0
        if mass > 0.0:
            ratio = t.lag_near[k] / ((t.lag_expected[lag] + _PRIOR * unit) * trials)
            x = _half_octave(ratio)
            t.lag_ratio[k] = x
            t.lag_chance[k] = chance
            chance *= (came[x] + sure * _BELIEVED[x]) / (expected[x] + sure)
        t.chance[k] = chance
        total += chance
    if total > _MOST:
        for k in range(length):
            t.chance[k] *= np.float32(_MOST / total)
        total = _MOST
    return total


@kernel
def learn_repeats(
    t: Tables,
    weights: NDArray[np.float32],
    length: int,
    here: int,
    own: int,
    unit: float,
    usual: float,
) -> None:
    """Count at which lag of the history the new item stands: ``own``, -1 for none.

    ``unit`` is what one such event weighs, ``here`` the context. Call after `chances`.
    """
    seen, seen_here = t.lag_seen[CONTEXTS], t.lag_seen[here]
    for k in range(length):
        # What stands there by mistake has no chance to be repeated.
        tried = unit * min(1.0, weights[k] / usual)
        lag = min(k, LAGS - 1)
        seen[lag] += tried
        seen_here[lag] += tried
        t.lag_expected[lag] += tried * t.lag_near[k]
        t.again[1, t.lag_ratio[k]] += unit * t.lag_chance[k]
    if own >= 0:
        lag = min(own, LAGS - 1)
        t.lag_hits[CONTEXTS, lag] += unit
        t.lag_hits[here, lag] += unit
        if t.lag_chance[own] > 0.0:
            t.again[0, t.lag_ratio[own]] += unit
