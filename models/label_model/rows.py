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

__all__ = [
    "add_belief",
    "add_counts",
    "add_up",
    "at_prior",
    "fill_fair",
    "find_votes",
    "judge",
    "learn_evidence",
    "leave_out",
    "softmax",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

TINY = 1e-12
"""Least probability of a class: a posterior of exactly 0 marks a gold answer instead."""
FOLD_BELOW = 1e-150
WORD = 8
"""Columns looked at in one step, as bytes of one number."""
ABSTAINED = np.uint64(0x8080808080808080)
"""The top bits of eight votes that are all below 0."""
# The types of an intrinsic are not those of the function that describes it.
_trailing: Callable[[np.uint64], np.uint64] = cast(Any, trailing_zeros)


@hot
def softmax(score: FloatArray, out: FloatArray, sizes: Sizes) -> None:
    """Write the softmax of ``score`` into ``out``, no value below TINY."""
    k_n = len(sizes.classes)
    top = score[0]
    for k in range(1, k_n):
        top = max(top, score[k])
    total = 0.0
    for k in range(k_n):
        # exp(0) is 1: one call less for each row.
        out[k] = math.exp(score[k] - top) if score[k] < top else 1.0
        total += out[k]
    for k in range(k_n):
        out[k] = max(out[k] / total, TINY)


@hot
def _silent(row: VoteArray, first: int) -> np.uint64:
    """Return the top bits of eight votes, each set where there is none."""
    word = np.uint64(0)
    for j in range(WORD):
        word |= np.uint64(np.uint8(row[first + j])) << np.uint64(WORD * j)
    return word & ABSTAINED


@compiled
def find_votes(row: VoteArray, n_classes: int, columns: ColumnArray, labels: ColumnArray) -> int:
    """List the columns that voted, in order, and their votes; return how many.

    Of many annotators few vote on an example: eight columns are looked at in one step.
    """
    n = 0
    m = row.shape[0]
    whole = m - m % WORD
    for first in range(0, whole, WORD):
        voted = _silent(row, first) ^ ABSTAINED
        while voted:
            v = np.uint32(np.uint64(first) + (_trailing(voted) >> np.uint64(3)))
            voted &= voted - np.uint64(1)
            columns[n] = v
            labels[n] = row[v]
            n += int(row[v] < n_classes)
    for w in range(whole, m):
        # Written in any case: who voted is not foreseen, and a branch would often be wrong.
        columns[n] = w
        labels[n] = row[w]
        n += int((row[w] >= 0) & (row[w] < n_classes))
    return n


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
    sizes: Sizes,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score`` and its softmax into ``posterior``."""
    add_up(n, columns, labels, shares, log_prior, log_like, score, sizes)
    softmax(score, posterior, sizes)


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
    table: FloatArray,
    taken: IntArray,
    inverse: FloatArray,
    without: FloatArray,
    sizes: Sizes,
) -> None:
    """Write what takes each vote out of a posterior, θ_w(l|k)^−ω, into ``inverse`` (n, K).

    Up to a factor: ``without`` (n, K) are the posteriors without each vote, not normalised.
    ``table`` holds the inverses of whole votes, and ``taken`` the votes whose inverses are there
    already, the same having voted on the row before.
    """
    k_n = len(sizes.classes)
    for a in range(n):
        w, label, share = columns[a], labels[a], shares[a]
        if taken[a] != label:
            taken[a] = label
            if share == 1.0:
                for k in range(k_n):
                    inverse[a, k] = table[w, label, k]
            else:
                inverse[a, 0] = 1.0
                for k in range(1, k_n):
                    apart = log_like[w, label, 0] - log_like[w, label, k]
                    inverse[a, k] = math.exp(share * apart)
        for k in range(k_n):
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
