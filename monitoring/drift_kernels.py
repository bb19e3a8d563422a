"""What happens to a signal when a block of its values is complete: decay, judge, collect.

`monitoring.drift_update` counts the values.
"""

from __future__ import annotations

from math import log, log1p, sqrt
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "BATCHES",
    "BINARY",
    "BLOCK",
    "LEVELS",
    "Crossings",
    "Layout",
    "State",
    "collect_block",
    "detect",
    "grow",
    "judge_block",
    "variance_factor",
    "zscore",
]

BLOCK: Final = 32
"""Values of a signal between two looks, unless it is looked at less often; small beside any
half-life."""

LEVELS: Final = 8
"""Batch lengths at which the reference's variance is measured: 1, 2, 4 … 128 blocks."""

BINARY: Final = 2
"""Of two shares one says it all."""

BATCHES: Final = 64
"""Fewest batches from which a variance is estimated, unless blocks are too long for as many."""

_LONGEST: Final = LEVELS - 3
_SMALLEST: Final = 1e-9
_RARE: Final = 256
_RARE_DEFF: Final = 20.0


class Layout(NamedTuple):
    """What does not change: where the categories of each signal lie, and the settings.

    ``first`` (S + 1): first category of each signal in the flat arrays. ``thresholds`` (S,).
    ``levels`` (S,): a signal is looked at every ``BLOCK << level`` values, and ``decay``
    (levels, scales): what is left of its decayed sums then. ``settle_blocks``: blocks of a signal
    that no reference is taken from. ``first_blocks``, ``reference_blocks``: blocks in its first
    reference and in its last, powers of two. Blocks are counted in those of `BLOCK` values.
    """

    first: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    levels: NDArray[np.int64]
    decay: NDArray[np.float64]
    settle_blocks: int
    first_blocks: int
    reference_blocks: int
    min_effect: float


class State(NamedTuple):
    """What changes, F categories of S signals.

    ``counts`` (F,): the block that is being filled, ``filled`` (S,) its size. ``sums`` (scales, F)
    and ``weights`` (scales, S): decayed. ``growing`` (S,): 1 while the reference is collected, to
    which ``blocks`` (S,), ``reference`` (F,), and ``batches``, ``squares`` (levels, F) belong:
    counts of it, of what is complete of the open batch, and squares of the closed ones. ``share``,
    ``deff`` (F,): the frozen reference and its design effects, of ``size`` (S,) blocks, if any.
    ``freedom`` (S,): degrees of freedom of its variance; ``since``, ``version`` (S,). ``firing``
    (S,): 1 from a detection until calm; ``detected`` (S,): detections ever. ``seen`` (S,): whole
    blocks ever.
    """

    counts: NDArray[np.int64]
    filled: NDArray[np.int64]
    sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    growing: NDArray[np.int64]
    blocks: NDArray[np.int64]
    reference: NDArray[np.int64]
    batches: NDArray[np.int64]
    squares: NDArray[np.int64]
    share: NDArray[np.float64]
    deff: NDArray[np.float64]
    size: NDArray[np.int64]
    freedom: NDArray[np.float64]
    since: NDArray[np.float64]
    version: NDArray[np.int64]
    firing: NDArray[np.int64]
    detected: NDArray[np.int64]
    seen: NDArray[np.int64]


class Crossings(NamedTuple):
    """Room for what a call finds: rows of (signal, category, row) and of (z, share, reference).

    ``means``: mean codes of closed blocks, for detectors that look on. ``used`` (1,): how many
    crossings there are.
    """

    where: NDArray[np.int64]
    values: NDArray[np.float64]
    means: NDArray[np.float64]
    used: NDArray[np.int64]


@njit(cache=True, nogil=True)
def variance_factor(weight: float, decay: float, block: int) -> float:
    """Return var(decayed mean) / long-run variance, for a decayed sum of this weight.

    *Math* — with n blocks of B values, λ left after each: Σw²/(Σw)² =
    (1 − λ)(1 + λⁿ) / ((1 + λ)(1 − λⁿ)) / B.
    """
    past = 1.0 - weight * (1.0 - decay) / block
    return (1.0 - decay) / (1.0 + decay) * (1.0 + past) / (1.0 - past) / block


@njit(cache=True, nogil=True)
def zscore(share: float, reference: float, variance: float, freedom: float) -> float:
    """Return how many of its own deviations a share lies from its reference.

    *Math* — near the reference it is (x − p)/σ. Far out, shares of sessions are skewed: the
    decayed share of compound arrivals is a ratio of gammas, a beta, whose tail is that of
    n·KL(p‖x), with n = p(1 − p)/σ²; the binomial's is n·KL(x‖p). The smaller, thus the more
    cautious, is taken: r² = 2n·min(KL(p‖x), KL(x‖p)). Since σ itself was estimated with ν degrees
    of freedom, r is a Student variable; Wallace's transform makes it normal:
    z = (8ν + 1)/(8ν + 3) · √(ν·ln(1 + r²/ν)).
    """
    if variance <= 0.0 or freedom <= 0.0:
        return 0.0
    p = min(max(reference, _SMALLEST), 1.0 - _SMALLEST)
    x = min(max(share, _SMALLEST), 1.0 - _SMALLEST)
    up = log(p / x)
    down = log((1.0 - p) / (1.0 - x))
    divergence = min(p * up + (1.0 - p) * down, -x * up - (1.0 - x) * down)
    squared = 2.0 * p * (1.0 - p) / variance * max(divergence, 0.0)
    z = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * sqrt(freedom * log1p(squared / freedom))
    return z if x >= p else -z


@njit(cache=True, nogil=True)
def _freeze(layout: Layout, state: State, signal: int, ts: float) -> None:
    """Make what was collected the reference."""
    begin, end = layout.first[signal], layout.first[signal + 1]
    blocks = state.blocks[signal]
    n = blocks * BLOCK
    k = end - begin
    shortest = layout.levels[signal]
    while shortest < _LONGEST and blocks >> (shortest + 1) >= BATCHES:
        shortest += 1
    spread = 0.0
    traces = np.zeros(LEVELS)
    for f in range(begin, end):
        state.share[f] = (state.reference[f] + 0.5) / (n + 0.5 * k)
        spread += state.share[f] * (1.0 - state.share[f])
        for level in range(shortest, shortest + 3):
            traces[level] += _variance(state, f, level, blocks)
    # Longer batches are honest about longer sessions, and noisier: they count only if they say
    # significantly more than the shortest.
    chosen = shortest
    for level in range(shortest + 1, shortest + 3):
        if traces[level] > traces[shortest] * (1.0 + 2.0 * sqrt(2.0 / (blocks >> level))):
            chosen = level
    pooled = max(traces[chosen] / spread, 1.0)
    for f in range(begin, end):
        count = state.reference[f]
        own = _variance(state, f, chosen, blocks) / (state.share[f] * (1.0 - state.share[f]))
        # What was hardly seen may come in bursts (one robot's session): a handful of values does
        # not tell, so that of long sessions stands in.
        rare = min(count, n - count) < _RARE
        state.deff[f] = max(own, pooled, _RARE_DEFF) if rare else max(own, 1.0)
    state.size[signal] = blocks
    state.freedom[signal] = (blocks >> chosen) - 1.0
    state.since[signal] = ts
    state.version[signal] += 1


@njit(cache=True, nogil=True)
def _variance(state: State, f: int, level: int, blocks: int) -> float:
    """Return the long-run variance of one value, from batches of 2**level blocks."""
    m = blocks >> level
    count = state.reference[f]
    variance: float = (state.squares[level, f] - count * (count / m)) / (m - 1)
    return variance / (BLOCK << level)


@njit(cache=True, nogil=True, inline="always")
def collect_block(
    signal: int,
    level: int,
    begin: int,
    end: int,
    first_blocks: int,
    counts: NDArray[np.int64],
    at: int,
    reference: NDArray[np.int64],
    batches: NDArray[np.int64],
    squares: NDArray[np.int64],
    blocks: NDArray[np.int64],
) -> bool:
    """Add a block's counts, from ``at`` on, to the reference; tell whether its size has doubled.

    A complete batch goes into the one of the next length: two additions a block, not eight. The
    shortest batch is a block.
    """
    blocks[signal] += 1 << level
    done: int = blocks[signal]
    for f in range(begin, end):
        carried = counts[at + f - begin]
        reference[f] += carried
        squares[level, f] += carried * carried
        for longer in range(level + 1, LEVELS):
            batches[longer, f] += carried
            if done & ((1 << longer) - 1) != 0:
                break
            carried = batches[longer, f]
            squares[longer, f] += carried * carried
            batches[longer, f] = 0
    return done >= first_blocks and done & (done - 1) == 0


@njit(cache=True, nogil=True)
def grow(layout: Layout, state: State, signal: int, ts: float) -> None:
    """Make what was collected the reference; stop when it is as long as it shall be."""
    _freeze(layout, state, signal, ts)
    if state.blocks[signal] >= layout.reference_blocks:
        _stop_growing(layout, state, signal)


@njit(cache=True, nogil=True)
def _stop_growing(layout: Layout, state: State, signal: int) -> None:
    begin, end = layout.first[signal], layout.first[signal + 1]
    state.growing[signal] = 0
    state.blocks[signal] = 0
    for f in range(begin, end):
        state.reference[f] = 0
        for level in range(LEVELS):
            state.batches[level, f] = 0
            state.squares[level, f] = 0


@njit(cache=True, nogil=True, inline="always")
def judge_block(
    begin: int,
    end: int,
    signal: int,
    level: int,
    decay: NDArray[np.float64],
    counts: NDArray[np.int64],
    at: int,
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    share: NDArray[np.float64],
    deff: NDArray[np.float64],
    blocks: int,
    freedom: float,
    min_effect: float,
    limit: float,
) -> tuple[float, int, float]:
    """Take a block's counts, from ``at`` on, into the decayed sums, and compare with the reference.

    Returns the z that is furthest out, of shares that moved enough and may be ``limit`` away; its
    category and share.

    *Math* — KL(x‖p) ≤ (x − p)²/(p(1 − p)), so z² ≤ r² ≤ 2(x − p)²/σ²: where that is below the
    limit no logarithm is needed.
    """
    worst, where, seen = 0.0, begin, 0.0
    block = BLOCK << level
    for scale in range(len(weights)):
        left = decay[level, scale]
        weights[scale, signal] = weights[scale, signal] * left + block
        for f in range(begin, end):
            sums[scale, f] = sums[scale, f] * left + counts[at + f - begin]
    if blocks == 0:
        return worst, where, seen
    start = begin + 1 if end - begin == BINARY else begin
    for scale in range(len(weights)):
        weight = weights[scale, signal]
        least = min_effect * weight
        factor = 0.0
        for f in range(start, end):
            p = share[f]
            moved = abs(sums[scale, f] - p * weight)
            if moved < least:
                continue
            if factor == 0.0:
                factor = variance_factor(weight, decay[level, scale], block)
                factor += 1.0 / (blocks * BLOCK)
            variance = p * (1.0 - p) * deff[f] * factor
            if 2.0 * moved * moved < variance * (limit * weight) ** 2:
                continue
            x = sums[scale, f] / weight
            z = zscore(x, p, variance, freedom)
            if abs(z) > abs(worst):
                worst, where, seen = z, f, x
    return worst, where, seen


@njit(cache=True, nogil=True)
def detect(
    layout: Layout,
    state: State,
    signal: int,
    row: int,
    furthest: tuple[float, int, float],
    found: Crossings,
) -> None:
    """Note a crossing, once until it is calm again."""
    worst, where, seen = furthest
    limit = layout.thresholds[signal]
    if state.firing[signal]:
        if abs(worst) < 0.5 * limit:
            state.firing[signal] = 0
    elif abs(worst) >= limit:
        state.firing[signal] = 1
        state.detected[signal] += 1
        # What changed must not find its way into what it is compared with.
        _stop_growing(layout, state, signal)
        at = found.used[0]
        found.where[at, 0] = signal
        found.where[at, 1] = where - layout.first[signal]
        found.where[at, 2] = row
        found.values[at, 0] = worst
        found.values[at, 1] = seen
        found.values[at, 2] = state.share[where]
        found.used[0] = at + 1
