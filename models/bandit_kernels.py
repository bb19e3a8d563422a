"""Draw a slate and the matrix of its probabilities: arrays in, arrays out.

Random numbers are a counter hashed with the seed (SplitMix64): the same on every machine and with
every version of numpy, and two streams of one seed do not overlap.
"""

from __future__ import annotations

from math import cos, log, pi, sqrt
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Drawn", "draw_slate"]

Drawn = tuple[
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.int64],
    NDArray[np.float64],
]
"""The slate's positions in the scores, the probability of each at its rank, and whether the best
slate has another one there, shapes (k,); the pool's positions (m,), best first, and P(item of the
pool at rank), (m, k)."""

_INVERSE_GAP: Final = 1
_THOMPSON: Final = 2
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_S30: Final = np.uint64(30)
_S27: Final = np.uint64(27)
_S31: Final = np.uint64(31)
_S11: Final = np.uint64(11)
_ONE: Final = np.uint64(1)
_UNIT: Final = 2.0**-53


@numba.njit(inline="always")
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S30)) * _FIRST
    value = (value ^ (value >> _S27)) * _SECOND
    return value ^ (value >> _S31)


@numba.njit(inline="always")
def _uniform(state: NDArray[np.uint64]) -> float:
    """Return the next number in [0, 1)."""
    state[0] += _STEP
    return float(_mixed(state[0]) >> _S11) * _UNIT


@numba.njit(inline="always")
def _below(state: NDArray[np.uint64], n: int) -> int:
    return min(int(_uniform(state) * n), n - 1)


@numba.njit()
def _binomial_inverse(trials: int, chance: float, m: int) -> float:
    """Return E[1 / (m − B)] for B ~ Binomial(trials, chance), trials < m."""
    if chance >= 1.0:
        return 1.0 / (m - trials)
    mass = (1.0 - chance) ** trials
    total = mass / m
    for kept in range(trials):
        mass *= (trials - kept) / (kept + 1.0) * chance / (1.0 - chance)
        total += mass / (m - kept - 1)
    return total


@numba.njit()
def _epsilon(
    m: int, k: int, chance: float, state: NDArray[np.uint64], matrix: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Fill what a coin a position leaves open, by chance from what is not kept."""
    slate = np.arange(k)
    if chance <= 0.0:
        for rank in range(k):
            matrix[rank, rank] = 1.0
        return slate
    # The others keep their item or not: that many fewer are there to draw from.
    mine = _binomial_inverse(k - 1, 1.0 - chance, m)
    theirs = _binomial_inverse(k - 2, 1.0 - chance, m) if k > 1 else 0.0
    for rank in range(k):
        for item in range(m):
            if item >= k:
                matrix[item, rank] = chance * mine
            elif item != rank:
                matrix[item, rank] = chance * chance * theirs
            else:
                matrix[item, rank] = 1.0 - chance + chance * mine
    is_open = np.zeros(m, np.bool_)
    for rank in range(k):
        is_open[rank] = _uniform(state) < chance
    free = np.empty(m, np.int64)
    n_free = 0
    for item in range(m):
        if item >= k or is_open[item]:
            free[n_free] = item
            n_free += 1
    for rank in range(k):
        if is_open[rank]:
            at = _below(state, n_free)
            slate[rank] = free[at]
            n_free -= 1
            free[at] = free[n_free]
    return slate


@numba.njit()
def _inverse_gap(
    scores: NDArray[np.float64],
    k: int,
    gamma: float,
    state: NDArray[np.uint64],
    matrix: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Deal what is beyond the slate to its positions; each position draws by inverse gap."""
    m = len(scores)
    reserve = m - k
    slate = np.arange(k)
    each = (reserve + k - 1) // k
    scale = scores[0] - scores[m - 1]
    scale = gamma / scale if scale > 0.0 else 0.0
    for rank in range(k):
        rest = 1.0
        for item in range(k, m):
            matrix[item, rank] = 1.0 / (each + 1 + scale * (scores[rank] - scores[item])) / k
            rest -= matrix[item, rank]
        matrix[rank, rank] = rest
    dealt = np.arange(k, m)
    for last in range(reserve - 1, 0, -1):
        other = _below(state, last + 1)
        dealt[last], dealt[other] = dealt[other], dealt[last]
    first = _below(state, k)
    left = np.empty(k)
    for rank in range(k):
        left[rank] = _uniform(state)
    for turn in range(reserve):
        rank = (first + turn) % k
        if left[rank] < 0.0:
            continue
        left[rank] -= matrix[dealt[turn], rank] * k
        if left[rank] < 0.0:
            slate[rank] = dealt[turn]
    return slate


@numba.njit()
def _thompson(
    scores: NDArray[np.float64],
    spread: NDArray[np.float64],
    k: int,
    draws: int,
    state: NDArray[np.uint64],
    matrix: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Rank by scores drawn ``draws`` times; serve one of the rankings."""
    m = len(scores)
    slate = np.arange(k)
    served = _below(state, draws)
    top = np.empty(k, np.int64)
    value = np.empty(k)
    for draw in range(draws):
        filled = 0
        for item in range(m):
            # 1 − u lies in (0, 1]: its logarithm is finite.
            radius = sqrt(-2.0 * log(1.0 - _uniform(state)))
            score = scores[item] + spread[item] * radius * cos(2.0 * pi * _uniform(state))
            if filled == k and score <= value[k - 1]:
                continue
            at = min(filled, k - 1)
            while at > 0 and value[at - 1] < score:
                value[at], top[at] = value[at - 1], top[at - 1]
                at -= 1
            value[at], top[at] = score, item
            filled = min(filled + 1, k)
        for rank in range(k):
            matrix[top[rank], rank] += 1.0 / draws
        if draw == served:
            slate[:] = top
    return slate


@numba.njit()
def _by_chance(m: int, k: int, state: NDArray[np.uint64]) -> NDArray[np.int64]:
    order = np.arange(m)
    for rank in range(k):
        other = rank + _below(state, m - rank)
        order[rank], order[other] = order[other], order[rank]
    return order[:k].copy()


@numba.njit()
def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the positions of the ``count`` highest scores, best first, ties by position."""
    n = scores.size
    if count >= n:
        near = np.arange(n)
    elif count <= 0:
        near = np.arange(0)
    else:
        # Everything above the last that fits, then of the equal ones the first.
        last = np.partition(scores, n - count)[n - count]
        level = count
        for x in range(n):
            level -= scores[x] > last
        near = np.empty(count, np.int64)
        taken = 0
        for x in range(n):
            equal = scores[x] == last
            if scores[x] > last or (equal and level > 0):
                near[taken] = x
                taken += 1
                level -= equal
    return near[np.argsort(-scores[near], kind="mergesort")]


@numba.njit(cache=True)
def draw_slate(
    kind: int,
    scores: NDArray[np.float64],
    spread: NDArray[np.float64],
    k: int,
    pool: int,
    budget: float,
    gamma: float,
    floor: float,
    draws: int,
    seed: np.uint64,
) -> Drawn:
    """Draw ``k`` of the scores (n,), or all, from the best ``pool`` of them, at least ``k``.

    Raises
    ------
    ValueError
        A score is not finite.
    """
    for x in range(scores.size):
        if not np.isfinite(scores[x]):
            raise ValueError("scores should be finite")
    k = max(0, min(k, scores.size))
    best = _best(scores, max(k, pool))
    slate, matrix = _draw(
        kind,
        scores[best],
        spread[best] if spread.size > 0 else spread,
        k,
        budget,
        gamma,
        floor,
        draws,
        seed,
    )
    propensities, explored = np.empty(k), np.empty(k, np.bool_)
    for rank in range(k):
        propensities[rank] = matrix[slate[rank], rank]
        explored[rank] = slate[rank] != rank
    return best[slate], propensities, explored, best, matrix


@numba.njit()
def _draw(
    kind: int,
    scores: NDArray[np.float64],
    spread: NDArray[np.float64],
    k: int,
    budget: float,
    gamma: float,
    floor: float,
    draws: int,
    seed: np.uint64,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the slate (k,) and P(item at rank), (m, k), for scores (m,), best first."""
    m = len(scores)
    matrix = np.zeros((m, k))
    state = np.empty(1, np.uint64)
    state[0] = _mixed(seed + _ONE)
    if k == 0:
        return np.arange(k), matrix
    if kind not in (_INVERSE_GAP, _THOMPSON):
        return _epsilon(m, k, budget, state, matrix), matrix
    by_chance = floor * budget
    which, whether = _uniform(state), _uniform(state)
    if kind == _THOMPSON:
        slate = _thompson(scores, spread, k, draws, state, matrix)
    else:
        slate = _inverse_gap(scores, k, gamma, state, matrix)
    explored = 0.0
    for rank in range(k):
        explored += (1.0 - matrix[rank, rank]) / k
    share = 1.0
    allowed = (budget - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else 0.0
    if explored > allowed:
        share = allowed / explored
    for item in range(m):
        for rank in range(k):
            kept = 1.0 - share if item == rank else 0.0
            matrix[item, rank] = by_chance / m + (1.0 - by_chance) * (
                share * matrix[item, rank] + kept
            )
    if which < by_chance:
        slate = _by_chance(m, k, state)
    elif whether >= share:
        slate = np.arange(k)
    return slate, matrix
