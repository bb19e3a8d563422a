"""Compiled handling of one row of votes: judge it, add it to the sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numba.cpython.unsafe.numbers import trailing_zeros

from models.label_model.compiling import compiled, hot
from models.label_model.layout import ColumnArray, FloatArray, Sizes, Tables
from models.label_model.vectors import FEW, add_few, exponentials

__all__ = [
    "add_belief",
    "add_counts",
    "add_up",
    "at_prior",
    "end_softmax",
    "fill_fair",
    "find_votes",
    "judge",
    "learn_evidence",
    "leave_out",
    "softmax",
    "start_softmax",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

TINY = 1e-12
"""Least probability of a class: a posterior of exactly 0 marks a gold answer instead."""
FOLD_BELOW = 1e-150
WORD = 8
"""Columns looked at in one step, as bytes of one number."""
BITS = 64
ABSTAINED = np.uint64(0x8080808080808080)
"""The top bits of eight votes that are all below 0."""
GATHER = np.uint64(0x0102040810204080)
"""Times the lowest bit of each byte of a number: these bits, in order, in the top byte."""
# The types of an intrinsic are not those of the function that describes it.
_trailing: Callable[[np.uint64], np.uint64] = cast(Any, trailing_zeros)


@hot
def softmax(score: FloatArray, out: FloatArray, powers: FloatArray, sizes: Sizes) -> None:
    """Write the softmax of ``score`` into ``out``, no value below TINY; ``powers`` is room."""
    start_softmax(score, powers, 0, sizes)
    exponentials(powers, len(sizes.classes))
    end_softmax(powers, 0, out, sizes)


@hot
def start_softmax(score: FloatArray, powers: FloatArray, first: int, sizes: Sizes) -> None:
    """Write what e is to be raised to for the softmax of ``score``, from ``first`` on."""
    k_n = len(sizes.classes)
    top = score[0]
    for k in range(1, k_n):
        top = max(top, score[k])
    for k in range(k_n):
        powers[np.uint64(first + k)] = score[k] - top


@hot
def end_softmax(powers: FloatArray, first: int, out: FloatArray, sizes: Sizes) -> None:
    """Write the softmax into ``out``, no value below TINY, from what e was raised to."""
    k_n = len(sizes.classes)
    total = 0.0
    for k in range(k_n):
        total += powers[np.uint64(first + k)]
    scale = 1.0 / total
    for k in range(k_n):
        out[k] = max(powers[np.uint64(first + k)] * scale, TINY)


@hot
def _voted(row: VoteArray, first: int) -> np.uint64:
    """Return which of eight columns voted, as the lowest bits of a number."""
    word = np.uint64(0)
    for j in range(WORD):
        word |= np.uint64(np.uint8(row[np.uint64(first + j)])) << np.uint64(WORD * j)
    # Each vote's top bit is moved to its own place in the top byte, and none to another's.
    return (((~word & ABSTAINED) >> np.uint64(7)) * GATHER) >> np.uint64(56)


@hot
def find_votes(row: VoteArray, n_classes: int, columns: ColumnArray, labels: ColumnArray) -> int:
    """List the columns that voted, in order, and their votes; return how many.

    Of many annotators few vote on an example: eight columns are looked at in one step, and who
    voted is gone through for up to 64 at once.
    """
    n = np.uint64(0)
    m = row.shape[0]
    whole = m - m % WORD
    for start in range(0, whole, BITS):
        voted = np.uint64(0)
        for first in range(start, min(start + BITS, whole), WORD):
            voted |= _voted(row, first) << np.uint64(first - start)
        while voted:
            v = np.uint64(start) + _trailing(voted)
            voted &= voted - np.uint64(1)
            columns[n] = v
            labels[n] = row[v]
            n += np.uint64(row[v] < n_classes)
    for w in range(whole, m):
        # Written in any case: who voted is not foreseen, and a branch would often be wrong.
        columns[n] = w
        labels[n] = row[w]
        n += np.uint64((row[w] >= 0) & (row[w] < n_classes))
    return int(np.int64(n))


@hot
def judge(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    shares: FloatArray,
    log_prior: FloatArray,
    log_like: FloatArray,
    score: FloatArray,
    posterior: FloatArray,
    powers: FloatArray,
    sizes: Sizes,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score`` and its softmax into ``posterior``.

    ``powers`` is room.
    """
    add_up(n, columns, labels, shares, log_prior, log_like, score, sizes)
    softmax(score, posterior, powers, sizes)


@hot
def add_up(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    shares: FloatArray,
    log_prior: FloatArray,
    log_like: FloatArray,
    score: FloatArray,
    sizes: Sizes,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score``."""
    k_n = len(sizes.classes)
    for k in range(k_n):
        score[k] = log_prior[k]
    for a in range(n):
        for k in range(k_n):
            score[k] += shares[a] * log_like[columns[a], labels[a], k]


@hot
def leave_out(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    shares: FloatArray,
    posterior: FloatArray,
    log_like: FloatArray,
    powers: FloatArray,
    inverse: FloatArray,
    without: FloatArray,
    sizes: Sizes,
) -> None:
    """Write what takes each vote out of a posterior, θ_w(l|k)^−ω, into ``inverse`` (n, K).

    Up to a factor: ``without`` (n, K) are the posteriors without each vote, not normalised.
    ``powers`` is room.
    """
    k_n = len(sizes.classes)
    for a in range(n):
        w, label, share = columns[a], labels[a], shares[a]
        for k in range(1, k_n):
            apart = log_like[w, label, 0] - log_like[w, label, k]
            powers[np.uint64(a * (k_n - 1) + k - 1)] = share * apart
    exponentials(powers, n * (k_n - 1))
    for a in range(n):
        inverse[a, 0] = 1.0
        without[a, 0] = posterior[0]
        for k in range(1, k_n):
            inverse[a, k] = powers[np.uint64(a * (k_n - 1) + k - 1)]
            without[a, k] = posterior[k] * inverse[a, k]


@hot
def learn_evidence(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    without: FloatArray,
    again: bool,
    learned: VoteArray,
    cast: FloatArray,
    evidence: FloatArray,
    bank: FloatArray,
    lives: FloatArray,
    product: FloatArray,
    voted: FloatArray,
    sizes: Sizes,
) -> None:
    """Score each half-life's prediction of a vote by the posterior without that vote.

    ``learned`` holds the votes that are known ``again``: those are not scored twice.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    for a in range(n):
        w = columns[a]
        label = labels[a]
        if again and learned[w] >= 0:
            continue
        total = 0.0
        for k in range(k_n):
            total += without[a, k]
        scale = 1.0 / total
        low = 1.0
        first = (w * k_n + label) * h_n * k_n
        for h in range(h_n):
            p = 0.0
            for k in range(k_n):
                p += without[a, k] * bank[np.uint64(first + h * k_n + k)]
            product[w, h] *= max(p * scale, 1e-6)
            low = min(low, product[w, h])
        voted[w] += 1.0
        cast[w] += 1.0
        if low < FOLD_BELOW:
            lives[w, 0] = -1.0
            for h in range(h_n):
                evidence[w, h] += math.log(product[w, h])
                product[w, h] = 1.0


@hot
def add_counts(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    posterior: FloatArray,
    factor: FloatArray,
    gain: FloatArray,
    counts: FloatArray,
    mass: FloatArray,
    sizes: Sizes,
) -> None:
    """Add one example's posterior to its votes' cells and to the mass, ``factor`` (H,) times.

    ``counts`` are all cells in one row; ``gain`` (H, K) is room for what is added to each.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    for h in range(h_n):
        for k in range(k_n):
            gain[h, k] = factor[h] * posterior[k]
            mass[h, k] += gain[h, k]
    for a in range(n):
        first = (columns[a] * k_n + labels[a]) * h_n * k_n
        if h_n % FEW == 0:
            for j in range(0, h_n * k_n, FEW):
                add_few(counts, first + j, gain, j)
        else:
            for h in range(h_n):
                for k in range(k_n):
                    counts[np.uint64(first + h * k_n + k)] += gain[h, k]


@compiled
def at_prior(posterior: FloatArray, tables: Tables, prior: FloatArray, out: FloatArray) -> None:
    """Write what ``posterior`` would be under the configured class balance into ``out``."""
    total = 0.0
    for k in range(posterior.shape[0]):
        out[k] = posterior[k] * math.exp(math.log(prior[k]) - tables.log_prior[k])
        total += out[k]
    for k in range(posterior.shape[0]):
        out[k] /= total


@compiled
def fill_fair(tables: Tables, prior: FloatArray, fair: FloatArray) -> None:
    """Write what turns a posterior into one under the configured balance into ``fair``."""
    for k in range(prior.shape[0]):
        fair[k] = prior[k] * math.exp(-tables.log_prior[k])


@hot
def add_belief(
    posterior: FloatArray, factor: FloatArray, belief: FloatArray, fair: FloatArray, sizes: Sizes
) -> None:
    """Add what the votes of one example say under the configured balance, ``factor`` times.

    Gold corrects the mean of it; both must mean the same whatever balance gold has led to.
    """
    total = 0.0
    for k in range(len(sizes.classes)):
        total += posterior[k] * fair[k]
    scale = 1.0 / total
    for h in range(len(sizes.lives)):
        for k in range(len(sizes.classes)):
            belief[h, k] += factor[h] * (posterior[k] * fair[k] * scale)
