"""Compiled handling of one row of votes: judge it, publish it, add it to the sums."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_layout import FloatArray, Sums, Tables

__all__ = [
    "add_belief",
    "add_counts",
    "at_prior",
    "fill_inverse",
    "find_votes",
    "judge",
    "learn_evidence",
    "learn_pairs",
    "publish",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

TINY = 1e-12
"""Least probability of a class: a posterior of exactly 0 marks a gold answer instead."""
FOLD_BELOW = 1e-150
BINARY = 2


@njit()
def _softmax(score: FloatArray, out: FloatArray) -> None:
    """Write the softmax of ``score`` into ``out``, no value below TINY."""
    k_n = score.shape[0]
    top = score[0]
    for k in range(1, k_n):
        top = max(top, score[k])
    total = 0.0
    for k in range(k_n):
        out[k] = math.exp(score[k] - top)
        total += out[k]
    for k in range(k_n):
        out[k] = max(out[k] / total, TINY)


@njit()
def find_votes(
    row: VoteArray, n_classes: int, tables: Tables, columns: IntArray, shares: FloatArray
) -> int:
    """List the columns that voted and each one's share (1 / (1 + Σ rho)); return how many."""
    n = 0
    for w in range(row.shape[0]):
        if 0 <= row[w] < n_classes:
            columns[n] = w
            n += 1
    if tables.scalars[2] > 0.0:
        for a in range(n):
            total = 1.0
            for b in range(n):
                total += tables.rho[columns[a], columns[b]]
            shares[a] = 1.0 / total
    else:
        for a in range(n):
            shares[a] = 1.0
    return n


@njit()
def judge(
    row: VoteArray,
    n: int,
    columns: IntArray,
    shares: FloatArray,
    tables: Tables,
    score: FloatArray,
    posterior: FloatArray,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score`` and its softmax into ``posterior``."""
    k_n = score.shape[0]
    for k in range(k_n):
        score[k] = tables.log_prior[k]
    for a in range(n):
        w = columns[a]
        label = row[w]
        for k in range(k_n):
            score[k] += shares[a] * tables.log_like[w, label, k]
    _softmax(score, posterior)


@njit()
def publish(
    row: VoteArray,
    n: int,
    columns: IntArray,
    shares: FloatArray,
    tables: Tables,
    score: FloatArray,
    proba: FloatArray,
    weights: FloatArray,
) -> None:
    """Write calibrated probabilities, and each vote's weight in log-odds for the chosen class.

    The weights and the prior's log-odds sum to the posterior's. With more than two classes the
    gain in log-odds is split along the straight path from the prior (Aumann-Shapley).
    """
    k_n = score.shape[0]
    temper = 1.0 / tables.scalars[0]
    corrected = tables.scalars[1] > 0.0
    final = np.empty(k_n)
    for k in range(k_n):
        final[k] = tables.log_prior[k] + (score[k] - tables.log_prior[k]) * temper
        if corrected:
            final[k] += tables.corrector[0, k]
            for a in range(n):
                w = columns[a]
                final[k] += tables.corrector[1 + w * k_n + row[w], k]
    _softmax(final, proba)
    best = 0
    for k in range(1, k_n):
        if proba[k] > proba[best]:
            best = k
    weights[:] = 0.0
    if k_n == 1 or n == 0:
        return
    base = np.empty(k_n)
    for k in range(k_n):
        base[k] = tables.log_prior[k]
    mix = np.zeros(k_n)
    if k_n == BINARY:
        mix[1 - best] = 1.0
    else:
        other = np.empty(k_n)
        for step in range(3):
            at = (0.1127016653792583, 0.5, 0.8872983346207417)[step]
            share = (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0)[step]
            top = -np.inf
            for k in range(k_n):
                other[k] = base[k] + at * (final[k] - base[k])
                if k != best:
                    top = max(top, other[k])
            total = 0.0
            for k in range(k_n):
                if k != best:
                    total += math.exp(other[k] - top)
            for k in range(k_n):
                if k != best:
                    mix[k] += share * math.exp(other[k] - top) / total
    explained = 0.0
    for a in range(n):
        w = columns[a]
        label = row[w]
        gain = 0.0
        for k in range(k_n):
            part = shares[a] * tables.log_like[w, label, k] * temper
            if corrected:
                part += tables.corrector[1 + w * k_n + label, k]
            gain += part if k == best else -mix[k] * part
        weights[w] = gain
        explained += gain
    rest = _log_odds(final, best) - _log_odds(base, best) - explained
    for a in range(n):
        weights[columns[a]] += rest / n


@njit()
def _log_odds(score: FloatArray, best: int) -> float:
    """Return log(p / (1 − p)) of class ``best`` under unnormalised log-probabilities."""
    top = -np.inf
    for k in range(score.shape[0]):
        if k != best:
            top = max(top, score[k])
    total = 0.0
    for k in range(score.shape[0]):
        if k != best:
            total += math.exp(score[k] - top)
    return float(score[best] - top - math.log(total))


@njit()
def _fold_row(w: int, sums: Sums, tables: Tables) -> None:
    for h in range(tables.product.shape[1]):
        sums.evidence[w, h] += math.log(tables.product[w, h])
        tables.product[w, h] = 1.0


@njit()
def fill_inverse(
    row: VoteArray,
    n: int,
    columns: IntArray,
    shares: FloatArray,
    tables: Tables,
    inverse: FloatArray,
) -> None:
    """Write what takes each vote out of a posterior, θ_w(l|k)^−ω, into ``inverse`` (n, K)."""
    for a in range(n):
        w = columns[a]
        for k in range(inverse.shape[1]):
            inverse[a, k] = math.exp(-shares[a] * tables.log_like[w, row[w], k])


@njit()
def learn_evidence(
    row: VoteArray,
    label_of: VoteArray,
    n: int,
    columns: IntArray,
    inverse: FloatArray,
    posterior: FloatArray,
    sums: Sums,
    tables: Tables,
) -> None:
    """Score each half-life's prediction of a vote by the posterior without that vote.

    ``label_of`` holds the votes already learned: those are not scored again.
    """
    k_n, h_n = posterior.shape[0], tables.weight.shape[0]
    for a in range(n):
        w = columns[a]
        label = row[w]
        if label_of[w] >= 0:
            continue
        total = 0.0
        for k in range(k_n):
            total += posterior[k] * inverse[a, k]
        low = 1.0
        for h in range(h_n):
            p = 0.0
            for k in range(k_n):
                p += posterior[k] * inverse[a, k] * tables.bank[w, label, h, k]
            tables.product[w, h] *= max(p / total, 1e-6)
            low = min(low, tables.product[w, h])
        tables.voted[w] += 1.0
        sums.cast[w] += 1.0
        if low < FOLD_BELOW:
            _fold_row(w, sums, tables)


@njit()
def learn_pairs(
    row: VoteArray,
    n: int,
    columns: IntArray,
    inverse: FloatArray,
    posterior: FloatArray,
    sums: Sums,
    tables: Tables,
    limit: int,
) -> None:
    """Compare each pair's agreement with what its accuracies explain, leaving both out."""
    k_n = posterior.shape[0]
    for b in range(1, n):
        v = columns[b]
        if v >= limit:
            break
        first = v * (v - 1) // 2
        for a in range(b):
            w = columns[a]
            total = 0.0
            expected = 0.0
            for k in range(k_n):
                r = posterior[k] * inverse[a, k] * inverse[b, k]
                total += r
                expected += r * tables.agree[first + w, k]
            expected /= total
            if row[w] == row[v]:
                sums.pairs[first + w, 0] += 1.0
            sums.pairs[first + w, 1] += expected
            sums.pairs[first + w, 2] += 1.0 - expected
            sums.pairs[first + w, 3] += expected * (1.0 - expected)


@njit()
def add_counts(row: VoteArray, posterior: FloatArray, factor: FloatArray, sums: Sums) -> None:
    """Add one example's posterior to its votes' cells and to the mass, ``factor`` (H,) times."""
    k_n, h_n = posterior.shape[0], factor.shape[0]
    for w in range(row.shape[0]):
        label = row[w]
        if 0 <= label < k_n:
            for h in range(h_n):
                for k in range(k_n):
                    sums.counts[w, label, h, k] += factor[h] * posterior[k]
    for h in range(h_n):
        for k in range(k_n):
            sums.mass[h, k] += factor[h] * posterior[k]


@njit()
def at_prior(posterior: FloatArray, tables: Tables, prior: FloatArray, out: FloatArray) -> None:
    """Write what ``posterior`` would be under the configured class balance into ``out``."""
    total = 0.0
    for k in range(posterior.shape[0]):
        out[k] = posterior[k] * math.exp(math.log(prior[k]) - tables.log_prior[k])
        total += out[k]
    for k in range(posterior.shape[0]):
        out[k] /= total


@njit()
def add_belief(
    posterior: FloatArray,
    factor: FloatArray,
    sums: Sums,
    tables: Tables,
    prior: FloatArray,
    fair: FloatArray,
) -> None:
    """Add what the votes of one example say under the configured balance, ``factor`` times.

    Gold corrects the mean of it; both must mean the same whatever balance gold has led to.
    """
    at_prior(posterior, tables, prior, fair)
    for h in range(factor.shape[0]):
        for k in range(posterior.shape[0]):
            sums.belief[h, k] += factor[h] * fair[k]
