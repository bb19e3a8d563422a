"""The loops of drift detection: codes in, arrays changed in place, detections out.

Everything is counted in whole blocks of `BLOCK` values of a signal, so that nothing depends on how
a stream was cut into calls, and a value costs one increment.
"""

from __future__ import annotations

from math import isnan, log, log1p, sqrt
from typing import Any, Final, NamedTuple

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
    "bin_values",
    "update_codes",
    "variance_factor",
    "zscore",
]

BLOCK: Final = 32
"""Values of a signal between two looks; small beside any half-life."""

LEVELS: Final = 8
"""Batch lengths at which the reference's variance is measured: 1, 2, 4 … 128 blocks."""

BINARY: Final = 2
"""Of two shares one says it all."""

BATCHES: Final = 64
"""Fewest batches from which a variance is estimated."""

_LONGEST: Final = LEVELS - 3
_SMALLEST: Final = 1e-9
_RARE: Final = 256
_RARE_DEFF: Final = 20.0


class Layout(NamedTuple):
    """What does not change: where the categories of each signal lie, and the settings.

    ``first`` (S + 1): first category of each signal in the flat arrays. ``thresholds`` (S,).
    ``decay`` (scales,): what is left of a decayed sum after a block. ``settle_blocks``:
    blocks of a signal that no reference is taken from. ``first_blocks``, ``reference_blocks``:
    blocks in its first reference and in its last, powers of two.
    """

    first: NDArray[np.int64]
    thresholds: NDArray[np.float64]
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
    counts of it, of the open batch, and squares of the closed ones. ``share``, ``deff`` (F,): the
    frozen reference and its design effects, of ``size`` (S,) blocks; 0: none yet. ``freedom``
    (S,): degrees of freedom of its variance; ``since``, ``version`` (S,). ``firing`` (S,): 1 from
    a detection until calm; ``detected`` (S,): detections ever. ``seen`` (S,): whole blocks ever.
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

    ``blocks`` and ``means``: signals and mean codes of closed blocks, for detectors that look on.
    ``used`` (2,): how many of each are filled.
    """

    where: NDArray[np.int64]
    values: NDArray[np.float64]
    blocks: NDArray[np.int64]
    means: NDArray[np.float64]
    used: NDArray[np.int64]


@njit(cache=True, nogil=True)
def variance_factor(weight: float, decay: float) -> float:
    """Return var(decayed mean) / long-run variance, for a decayed sum of this weight.

    *Math* — with n blocks of B values, λ left after each: Σw²/(Σw)² =
    (1 − λ)(1 + λⁿ) / ((1 + λ)(1 − λⁿ)) / B.
    """
    past = 1.0 - weight * (1.0 - decay) / BLOCK
    return (1.0 - decay) / (1.0 + decay) * (1.0 + past) / (1.0 - past) / BLOCK


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
    shortest = 0
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


@njit(cache=True, nogil=True)
def _collect(layout: Layout, state: State, signal: int, ts: float) -> None:
    """Add a block to the reference; freeze it whenever its size has doubled."""
    begin, end = layout.first[signal], layout.first[signal + 1]
    state.blocks[signal] += 1
    done = state.blocks[signal]
    counts, reference, batches, squares = (
        state.counts,
        state.reference,
        state.batches,
        state.squares,
    )
    for f in range(begin, end):
        reference[f] += counts[f]
        for level in range(LEVELS):
            batches[level, f] += counts[f]
            if done & ((1 << level) - 1) == 0:
                squares[level, f] += batches[level, f] * batches[level, f]
                batches[level, f] = 0
    if done >= layout.first_blocks and done & (done - 1) == 0:
        _freeze(layout, state, signal, ts)
    if done >= layout.reference_blocks:
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


@njit(cache=True, nogil=True)
def _furthest(
    begin: int,
    end: int,
    signal: int,
    decay: NDArray[np.float64],
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    share: NDArray[np.float64],
    deff: NDArray[np.float64],
    blocks: int,
    freedom: float,
    min_effect: float,
) -> tuple[float, int, float]:
    """Return the z that is furthest out, of shares that moved enough; its category and share."""
    worst, where, seen = 0.0, begin, 0.0
    start = begin + 1 if end - begin == BINARY else begin
    for scale in range(len(decay)):
        weight = weights[scale, signal]
        for f in range(start, end):
            p = share[f]
            x = sums[scale, f] / weight
            if abs(x - p) < min_effect:
                continue
            factor = variance_factor(weight, decay[scale]) + 1.0 / (blocks * BLOCK)
            z = zscore(x, p, p * (1.0 - p) * deff[f] * factor, freedom)
            if abs(z) > abs(worst):
                worst, where, seen = z, f, x
    return worst, where, seen


@njit(cache=True, nogil=True)
def _detect(
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


@njit(cache=True, nogil=True)
def update_codes(
    layout: Layout,
    state: State,
    signals: int,
    codes: NDArray[np.int8],
    ts: NDArray[np.float64],
    segments: NDArray[np.int64],
    start: int,
    found: Crossings,
) -> int:
    """Count codes (n, c) from row ``start`` on; column j is signal ``signals + j``.

    Negative codes are left out. ``segments`` (n,): the segment of each row, or nothing: its signals
    follow those of all rows, c for each segment. Returns the first row that was not counted for
    want of room in ``found``, n if there is none; −1 − row if a code does not exist.
    """
    n: int = codes.shape[0]
    c = codes.shape[1]
    parts = 2 if len(segments) else 1
    room = min(len(found.where), len(found.blocks)) - parts * c
    # Held by name: whatever is looked up in a tuple is counted as held, atomically, each time.
    first, decay, min_effect = layout.first, layout.decay, layout.min_effect
    counts, filled, sums, weights = state.counts, state.filled, state.sums, state.weights
    share, deff, size, freedom = state.share, state.deff, state.size, state.freedom
    growing, firing, passed = state.growing, state.firing, state.seen
    used, blocks, means = found.used, found.blocks, found.means
    for i in range(start, n):
        if used[0] > room or used[1] > room:
            return i
        for part in range(parts):
            base = signals
            if part == 1:
                base += c * (1 + segments[i])
            for j in range(c):
                code = codes[i, j]
                if code < 0:
                    continue
                signal = base + j
                begin, end = first[signal], first[signal + 1]
                if begin + code >= end:
                    bad: int = -1 - i
                    return bad
                counts[begin + code] += 1
                filled[signal] += 1
                if filled[signal] < BLOCK:
                    continue
                mean = 0.0
                for f in range(begin, end):
                    mean += (f - begin) * counts[f]
                blocks[used[1]] = signal
                means[used[1]] = mean / (BLOCK * (end - begin - 1))
                used[1] += 1
                for scale in range(len(decay)):
                    weights[scale, signal] = weights[scale, signal] * decay[scale] + BLOCK
                    for f in range(begin, end):
                        sums[scale, f] = sums[scale, f] * decay[scale] + counts[f]
                if size[signal] > 0:
                    furthest = _furthest(
                        begin, end, signal, decay, sums, weights, share, deff, size[signal],
                        freedom[signal], min_effect,
                    )  # fmt: skip
                    if furthest[0] != 0.0 or firing[signal]:
                        _detect(layout, state, signal, i, furthest, found)
                if growing[signal] and passed[signal] >= layout.settle_blocks:
                    _collect(layout, state, signal, ts[i])
                for f in range(begin, end):
                    counts[f] = 0
                filled[signal] = 0
                passed[signal] += 1
    return n


@njit(cache=True, nogil=True)
def bin_values(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[Any]:
    """Return the bin of each value, (n, c) int8: 0 if it is NaN, else 1 + the edges below it."""
    n, c = values.shape
    codes = np.zeros((n, c), dtype=np.int8)
    for i in range(n):
        for j in range(c):
            value = values[i, j]
            if isnan(value):
                continue
            code = 1
            for edge in edges:
                if value > edge:
                    code += 1
            codes[i, j] = code
    return codes
