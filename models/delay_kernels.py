"""Counting delays and fitting their curve: arrays in, arrays out."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["count_delays", "count_exposures", "exposed_before", "fit_shares"]

_BASE: Final = 0
_BASE_SLOT: Final = 1
_NONE: Final = -1


@numba.njit(cache=True)
def count_exposures(
    ts: NDArray[np.float64],
    slot_s: float,
    half_life_s: float,
    ids: NDArray[np.int64],
    counts: NDArray[np.float64],
    base: NDArray[np.float64],
) -> None:
    """Count exposures by slots of time; what leaves the ring is folded into the base, decayed.

    ``ids`` (-1: empty) and ``counts`` are the ring, (slots,); ``base`` is (mass, slot it is of).
    """
    n = len(ids)
    for row in range(len(ts)):
        slot = int(ts[row] // slot_s)
        at = slot % n
        if ids[at] == slot:
            counts[at] += 1.0
        elif ids[at] < slot:
            if ids[at] != _NONE:
                _fold(ids[at], counts[at], slot_s, half_life_s, base)
            ids[at] = slot
            counts[at] = 1.0
        else:
            _fold(slot, 1.0, slot_s, half_life_s, base)


@numba.njit()
def _fold(
    slot: int, mass: float, slot_s: float, half_life_s: float, base: NDArray[np.float64]
) -> None:
    ahead = slot - base[_BASE_SLOT]
    if ahead > 0.0:
        base[_BASE] = base[_BASE] * 2.0 ** (-ahead * slot_s / half_life_s) + mass
        base[_BASE_SLOT] = float(slot)
    else:
        base[_BASE] += mass * 2.0 ** (ahead * slot_s / half_life_s)


@numba.njit(cache=True)
def count_delays(
    ts: NDArray[np.float64],
    age_s: NDArray[np.float64],
    sign: float,
    edges: NDArray[np.float64],
    half_life_s: float,
    bins: NDArray[np.float64],
    reached: NDArray[np.float64],
) -> None:
    """Count outcomes by age, decayed to the newest; ``ts`` is when they came about.

    ``edges`` are the upper ends of the bins, (b,); ``reached`` is (newest time,).
    """
    for row in range(len(ts)):
        ahead = ts[row] - reached[0]
        mass = sign
        if ahead > 0.0:
            bins *= 2.0 ** (-ahead / half_life_s)
            reached[0] = ts[row]
        else:
            mass *= 2.0 ** (ahead / half_life_s)
        at = np.searchsorted(edges, age_s[row])
        bins[min(at, len(bins) - 1)] += mass


@numba.njit(cache=True)
def exposed_before(
    moments: NDArray[np.float64],
    slot_s: float,
    half_life_s: float,
    ids: NDArray[np.int64],
    counts: NDArray[np.float64],
    base: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the exposures before each moment, decayed to that moment, (n,).

    Within a slot they are taken to be spread evenly.
    """
    found = np.empty(len(moments))
    for row in range(len(moments)):
        moment = moments[row]
        gap = moment / slot_s - base[_BASE_SLOT] - 1.0
        total = 0.0
        if gap >= 0.0:
            total = base[_BASE] * 2.0 ** (-gap * slot_s / half_life_s)
        for at in range(len(ids)):
            if ids[at] == _NONE:
                continue
            start = ids[at] * slot_s
            if start >= moment:
                continue
            share = min(1.0, (moment - start) / slot_s)
            age_s = max(0.0, moment - start - slot_s * 0.5)
            total += counts[at] * share * 2.0 ** (-age_s / half_life_s)
        found[row] = total
    return found


@numba.njit(cache=True)
def fit_shares(
    mass: NDArray[np.float64], parts: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Return the shares (c,) of components ``parts`` (c, b) that explain ``mass`` (b,) best.

    Expectation maximisation from equal shares; the components may lie partly beyond the bins.
    """
    n_parts, n_bins = parts.shape
    shares = np.full(n_parts, 1.0 / n_parts)
    fresh = np.empty(n_parts)
    for _ in range(steps):
        fresh[:] = 0.0
        for at in range(n_bins):
            total = 0.0
            for part in range(n_parts):
                total += shares[part] * parts[part, at]
            if total > 0.0:
                for part in range(n_parts):
                    fresh[part] += mass[at] * shares[part] * parts[part, at] / total
        whole = fresh.sum()
        if whole <= 0.0:
            break
        shares[:] = fresh / whole
    return shares
