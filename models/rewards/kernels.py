"""The hot loop of the reward heads: rows in, probabilities out.

A weight's row holds, in this order, the sum of what was learned (natural parameter), its
precision, three pools of negatives that have not matured yet, its outcomes by component of the
delay curve (four), and when it was last brought up to date. Everything a compiled entry point
calls is in this file, so that its cache is never stale.
"""

from __future__ import annotations

from math import exp
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["AMOUNT", "ARRIVED", "EXPOSED", "UNDONE", "WIDTH", "bring_up", "learn_rows"]

EXPOSED: Final = 0
ARRIVED: Final = 1
UNDONE: Final = 2
AMOUNT: Final = 3

_POOLS: Final = 3
_PARTS: Final = _POOLS + 1
WIDTH: Final = 2 + _POOLS + _PARTS + 1
_SUM: Final = 0
_PRECISION: Final = 1
_POOL: Final = 2
_PART: Final = _POOL + _POOLS
_LAST: Final = WIDTH - 1
_COMMON: Final = 20.0
"""How many outcomes of its own a weight needs to trust its own delays as much as everybody's."""
_NEAR: Final = 0.02
_EMPTY: Final = 30.0
_BUSY: Final = 0.05
"""Part of the fastest pool's time that may pass before a weight is looked at again."""


@numba.njit(inline="always")
def _decay(x: float) -> float:
    """Return exp(−x); most steps are so short that five terms are exact to 3e-11."""
    if x < _NEAR:
        return 1.0 - x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x / 24.0)))
    return exp(-x)


@numba.njit(inline="always")
def _bring_up(
    table: NDArray[np.float64],
    at: int,
    ts: float,
    rates: NDArray[np.float64],
    fade: float,
    least_s: float,
) -> None:
    """Let the pools of one weight flow and its past fade up to ``ts``, if that is long enough."""
    dt = ts - table[at, _LAST]
    if dt <= least_s:
        return
    table[at, _LAST] = ts
    kept = _decay(fade * dt)
    total = table[at, _SUM] * kept
    table[at, _PRECISION] *= kept
    for place in range(_PARTS):
        table[at, _PART + place] *= kept
    for pool in range(_POOLS):
        held = table[at, _POOL + pool]
        if held != 0.0:
            rate = rates[pool]
            # An empty pool costs nothing, and no number so small that it is slow to reckon with.
            left = held * _decay(rate * dt) if rate * dt < _EMPTY else 0.0
            # What flows out on the way has faded since it did.
            total -= rate * (held * kept - left) / (rate - fade)
            table[at, _POOL + pool] = left
    table[at, _SUM] = total


@numba.njit(inline="always")
def _explain(
    age_s: float,
    rates: NDArray[np.float64],
    shares: NDArray[np.float64],
    at_once_s: float,
    likely: NDArray[np.float64],
) -> None:
    """Fill in how likely each component is to have brought an outcome of this age."""
    likely[0] = shares[0] / at_once_s if age_s <= at_once_s else 0.0
    total = likely[0]
    for pool in range(_POOLS):
        likely[pool + 1] = shares[pool + 1] * rates[pool] * exp(-rates[pool] * age_s)
        total += likely[pool + 1]
    for place in range(_PARTS):
        likely[place] = likely[place] / total if total > 0.0 else shares[place]


@numba.njit(inline="always")
def _fetched(features: NDArray[np.int64], table: NDArray[np.float64]) -> float:
    """Touch the weights of all rows: they come from memory side by side, not one by one."""
    total = 0.0
    for row in range(len(features)):
        for column in range(features.shape[1]):
            at = features[row, column]
            if at >= 0:
                total += table[at, 0] + table[at, WIDTH - 1]
    return total


@numba.njit(cache=True)
def learn_rows(
    features: NDArray[np.int64],
    ts: NDArray[np.float64],
    kind: NDArray[np.int8],
    detail: NDArray[np.float64],
    table: NDArray[np.float64],
    prior: NDArray[np.float64],
    offset: float,
    rates: NDArray[np.float64],
    shares: NDArray[np.float64],
    at_once_s: float,
    fade: float,
    linear: bool,
    learn: bool,
    out: NDArray[np.float64],
) -> None:
    """Predict each row, then learn it.

    Parameters
    ----------
    features
        (n, f) rows of the table; -1 is no feature.
    kind, detail
        (n,) what happened: exposed, arrived (at what age, s), undone, or an amount to regress on.
    prior
        (f,) precision that each column of features starts with.
    offset
        Logit (linear: value) before anything was learned.
    rates, shares
        (3,) outflow of the pools, 1/s, and (4,) share of all outcomes that come at once, which
        is within ``at_once_s``, and with the delays of each pool.
    fade
        Rate of forgetting, 1/s.
    out
        (n,) prediction of each row, before it was learned.
    """
    n_features = features.shape[1]
    least_s = _BUSY / rates[0]
    looked = np.full((1, WIDTH), _fetched(features, table))
    likely = np.empty(_PARTS)
    weight = np.empty(n_features)
    inverse = np.empty(n_features)
    for row in range(len(ts)):
        score, spread = offset, 0.0
        for column in range(n_features):
            at = features[row, column]
            if at < 0:
                continue
            if learn:
                _bring_up(table, at, ts[row], rates, fade, least_s)
                inverse[column] = 1.0 / (table[at, _PRECISION] + prior[column])
                weight[column] = table[at, _SUM] * inverse[column]
            else:
                # Whoever only looks changes nothing.
                looked[0] = table[at]
                _bring_up(looked, 0, ts[row], rates, fade, least_s)
                inverse[column] = 1.0 / (looked[0, _PRECISION] + prior[column])
                weight[column] = looked[0, _SUM] * inverse[column]
            score += weight[column]
            spread += inverse[column]
        if linear:
            chance, bend = score, 1.0
        else:
            chance = 1.0 / (1.0 + exp(-score))
            bend = chance * (1.0 - chance)
        out[row] = chance
        if not learn:
            continue
        if kind[row] == ARRIVED:
            _explain(detail[row], rates, shares, at_once_s, likely)
        for column in range(n_features):
            at = features[row, column]
            if at < 0:
                continue
            # Features of one row share what it tells, by what the others leave open.
            part = 1.0 / (1.0 + bend * (spread - inverse[column]))
            if kind[row] == EXPOSED:
                told = part * bend
                own = _COMMON
                for place in range(_PARTS):
                    own += table[at, _PART + place]
                due = part * chance / own
                table[at, _PRECISION] += told
                table[at, _SUM] += told * weight[column] - due * (
                    _COMMON * shares[0] + table[at, _PART]
                )
                for pool in range(_POOLS):
                    table[at, _POOL + pool] += due * (
                        _COMMON * shares[pool + 1] + table[at, _PART + pool + 1]
                    )
            elif kind[row] == ARRIVED:
                table[at, _SUM] += part
                for place in range(_PARTS):
                    table[at, _PART + place] += likely[place]
            elif kind[row] == UNDONE:
                table[at, _SUM] -= part
            else:
                told = part * bend
                table[at, _PRECISION] += told
                table[at, _SUM] += told * weight[column] + part * (detail[row] - chance)


@numba.njit(cache=True)
def bring_up(
    table: NDArray[np.float64], ts: float, rates: NDArray[np.float64], fade: float
) -> None:
    """Bring every weight up to ``ts``."""
    for at in range(len(table)):
        _bring_up(table, at, ts, rates, fade, 0.0)
