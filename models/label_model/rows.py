"""Compiled handling of one row of votes: judge it, publish it, add it to the sums."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.layout import FloatArray, Tables

__all__ = [
    "add_belief",
    "add_counts",
    "at_prior",
    "fill_fair",
    "fill_inverse",
    "find_votes",
    "judge",
    "learn_evidence",
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
    row: VoteArray,
    n_classes: int,
    rho: FloatArray,
    any_rho: float,
    columns: IntArray,
    shares: FloatArray,
) -> int:
    """List the columns that voted and each one's share (1 / (1 + Σ rho)); return how many."""
    n = 0
    for w in range(row.shape[0]):
        if 0 <= row[w] < n_classes:
            columns[n] = w
            n += 1
    if any_rho > 0.0:
        for a in range(n):
            total = 1.0
            for b in range(n):
                total += rho[columns[a], columns[b]]
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
    log_prior: FloatArray,
    log_like: FloatArray,
    score: FloatArray,
    posterior: FloatArray,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score`` and its softmax into ``posterior``."""
    k_n = score.shape[0]
    for k in range(k_n):
        score[k] = log_prior[k]
    for a in range(n):
        w = columns[a]
        label = row[w]
        for k in range(k_n):
            score[k] += shares[a] * log_like[w, label, k]
    _softmax(score, posterior)


@njit()
def publish(
    row: VoteArray,
    n: int,
    columns: IntArray,
    shares: FloatArray,
    log_prior: FloatArray,
    shown_prior: FloatArray,
    log_like: FloatArray,
    corrector: FloatArray,
    scalars: FloatArray,
    score: FloatArray,
    scratch: FloatArray,
    proba: FloatArray,
    weights: FloatArray,
) -> None:
    """Write calibrated probabilities, and each vote's weight in log-odds for the chosen class.

    The weights and the prior's log-odds sum to the posterior's. With more than two classes the
    gain in log-odds is split along the straight path from the prior (Aumann-Shapley).
    ``scratch`` is (4, K).
    """
    k_n = score.shape[0]
    temper = 1.0 / scalars[0]
    corrected = scalars[1] > 0.0
    final, base, mix, other = scratch[0], scratch[1], scratch[2], scratch[3]
    for k in range(k_n):
        final[k] = shown_prior[k] + (score[k] - log_prior[k]) * temper
        if corrected:
            final[k] += corrector[0, k]
            for a in range(n):
                w = columns[a]
                final[k] += corrector[1 + w * k_n + row[w], k]
    _softmax(final, proba)
    best = 0
    for k in range(1, k_n):
        if proba[k] > proba[best]:
            best = k
    weights[:] = 0.0
    if k_n == 1 or n == 0:
        return
    for k in range(k_n):
        base[k] = shown_prior[k]
        mix[k] = 0.0
    if k_n == BINARY:
        mix[1 - best] = 1.0
    else:
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
            part = shares[a] * log_like[w, label, k] * temper
            if corrected:
                part += corrector[1 + w * k_n + label, k]
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
def fill_inverse(
    row: VoteArray,
    n: int,
    columns: IntArray,
    shares: FloatArray,
    log_like: FloatArray,
    inverse: FloatArray,
) -> None:
    """Write what takes each vote out of a posterior, θ_w(l|k)^−ω, into ``inverse`` (n, K)."""
    for a in range(n):
        w = columns[a]
        for k in range(inverse.shape[1]):
            inverse[a, k] = math.exp(-shares[a] * log_like[w, row[w], k])


@njit()
def learn_evidence(
    row: VoteArray,
    label_of: VoteArray,
    n: int,
    columns: IntArray,
    inverse: FloatArray,
    posterior: FloatArray,
    cast: FloatArray,
    evidence: FloatArray,
    bank: FloatArray,
    product: FloatArray,
    voted: FloatArray,
) -> None:
    """Score each half-life's prediction of a vote by the posterior without that vote.

    ``label_of`` holds the votes already learned: those are not scored again.
    """
    k_n, h_n = posterior.shape[0], product.shape[1]
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
                p += posterior[k] * inverse[a, k] * bank[w, label, h, k]
            product[w, h] *= max(p / total, 1e-6)
            low = min(low, product[w, h])
        voted[w] += 1.0
        cast[w] += 1.0
        if low < FOLD_BELOW:
            for h in range(h_n):
                evidence[w, h] += math.log(product[w, h])
                product[w, h] = 1.0


@njit()
def add_counts(
    row: VoteArray,
    posterior: FloatArray,
    factor: FloatArray,
    counts: FloatArray,
    mass: FloatArray,
) -> None:
    """Add one example's posterior to its votes' cells and to the mass, ``factor`` (H,) times."""
    k_n, h_n = posterior.shape[0], factor.shape[0]
    for w in range(row.shape[0]):
        label = row[w]
        if 0 <= label < k_n:
            for h in range(h_n):
                for k in range(k_n):
                    counts[w, label, h, k] += factor[h] * posterior[k]
    for h in range(h_n):
        for k in range(k_n):
            mass[h, k] += factor[h] * posterior[k]


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
def fill_fair(tables: Tables, prior: FloatArray, fair: FloatArray) -> None:
    """Write what turns a posterior into one under the configured balance into ``fair``."""
    for k in range(prior.shape[0]):
        fair[k] = prior[k] * math.exp(-tables.log_prior[k])


@njit()
def add_belief(
    posterior: FloatArray, factor: FloatArray, belief: FloatArray, fair: FloatArray
) -> None:
    """Add what the votes of one example say under the configured balance, ``factor`` times.

    Gold corrects the mean of it; both must mean the same whatever balance gold has led to.
    """
    total = 0.0
    for k in range(posterior.shape[0]):
        total += posterior[k] * fair[k]
    for h in range(factor.shape[0]):
        for k in range(posterior.shape[0]):
            belief[h, k] += factor[h] * posterior[k] * fair[k] / total
