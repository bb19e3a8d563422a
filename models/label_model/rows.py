"""Compiled handling of one row of votes: judge it, publish it, add it to the sums."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled
from models.label_model.layout import CROWD, FloatArray, Sizes, Tables

__all__ = [
    "add_belief",
    "add_counts",
    "at_prior",
    "crowd_score",
    "fill_fair",
    "find_votes",
    "hedge",
    "judge",
    "learn_evidence",
    "leave_out",
    "publish",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

TINY = 1e-12
"""Least probability of a class: a posterior of exactly 0 marks a gold answer instead."""
FOLD_BELOW = 1e-150
BINARY = 2
STRETCH = 32
"""Columns looked at in one step; a power of two."""


@compiled
def _softmax(score: FloatArray, out: FloatArray, sizes: Sizes) -> None:
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


@compiled
def find_votes(row: VoteArray, n_classes: int, columns: IntArray, labels: IntArray) -> int:
    """List the columns that voted, in order, and their votes; return how many.

    Of many annotators few vote on an example: stretches without any vote are skipped.
    """
    n = 0
    m = row.shape[0]
    w = 0
    while w < m:
        end = min(w + STRETCH, m)
        if end == w + STRETCH:
            silent = -1
            for j in range(STRETCH):
                silent &= row[w + j]
            if silent < 0:
                w = end
                continue
        for v in range(w, end):
            if 0 <= row[v] < n_classes:
                columns[n] = v
                labels[n] = row[v]
                n += 1
        w = end
    return n


@compiled
def judge(
    n: int,
    columns: IntArray,
    labels: IntArray,
    shares: FloatArray,
    log_prior: FloatArray,
    log_like: FloatArray,
    score: FloatArray,
    posterior: FloatArray,
    sizes: Sizes,
) -> None:
    """Write log π_k + Σ_w ω_w log θ_w(l|k) into ``score`` and its softmax into ``posterior``."""
    k_n = len(sizes.classes)
    for k in range(k_n):
        score[k] = log_prior[k]
    for a in range(n):
        for k in range(k_n):
            score[k] += shares[a] * log_like[columns[a], labels[a], k]
    _softmax(score, posterior, sizes)


@compiled
def crowd_score(
    n: int,
    columns: IntArray,
    labels: IntArray,
    shares: FloatArray,
    forms: IntArray,
    log_like: FloatArray,
    out: FloatArray,
    sizes: Sizes,
) -> bool:
    """Write what annotators' votes add to a score into ``out``; return whether there are any."""
    k_n = len(sizes.classes)
    found = False
    for k in range(k_n):
        out[k] = 0.0
    for a in range(n):
        if forms[columns[a]] == CROWD:
            found = True
            for k in range(k_n):
                out[k] += shares[a] * log_like[columns[a], labels[a], k]
    return found


@compiled
def hedge(
    score: FloatArray, crowd: FloatArray, share: float, weight: float, out: FloatArray, sizes: Sizes
) -> None:
    """Write log-probabilities that allow for hard items into ``out``, which may be ``score``.

    *Math* — p = (1 − h) softmax(score) + h softmax(score − (1 − g) crowd): of a ``share`` h of
    all items annotators' votes say a ``weight`` g of what they say of others. Their errors on
    such an item have one cause, which no confusion matrix of an annotator explains.
    """
    k_n = len(sizes.classes)
    top = score[0]
    hard_top = score[0] - (1.0 - weight) * crowd[0]
    for k in range(1, k_n):
        top = max(top, score[k])
        hard_top = max(hard_top, score[k] - (1.0 - weight) * crowd[k])
    total = 0.0
    hard_total = 0.0
    for k in range(k_n):
        total += math.exp(score[k] - top)
        hard_total += math.exp(score[k] - (1.0 - weight) * crowd[k] - hard_top)
    for k in range(k_n):
        easy = math.exp(score[k] - top) / total
        hard = math.exp(score[k] - (1.0 - weight) * crowd[k] - hard_top) / hard_total
        out[k] = math.log(max((1.0 - share) * easy + share * hard, TINY))


@compiled
def publish(
    i: int,
    n: int,
    columns: IntArray,
    labels: IntArray,
    shares: FloatArray,
    forms: IntArray,
    log_prior: FloatArray,
    shown_prior: FloatArray,
    log_like: FloatArray,
    corrector: FloatArray,
    scalars: FloatArray,
    hard_share: float,
    hard_weight: float,
    score: FloatArray,
    scratch: FloatArray,
    proba: FloatArray,
    weights: FloatArray,
    sizes: Sizes,
) -> None:
    """Write row ``i`` of calibrated probabilities, and of each vote's weight in log-odds.

    Weights are those for the most probable class, and may have no rows. They and the prior's
    log-odds sum to the posterior's. With more than two classes the gain in log-odds is split
    along the straight path from the prior (Aumann-Shapley). What hard items take from it, they
    take from each vote in proportion. ``scratch`` is (6, K).
    """
    k_n = len(sizes.classes)
    temper = 1.0 / scalars[0]
    corrected = scalars[1] > 0.0
    final, base, mix, other = scratch[0], scratch[1], scratch[2], scratch[3]
    crowd, shown = scratch[4], scratch[5]
    for k in range(k_n):
        final[k] = shown_prior[k] + (score[k] - log_prior[k]) * temper
        if corrected:
            final[k] += corrector[0, k]
            for a in range(n):
                final[k] += corrector[1 + columns[a] * k_n + labels[a], k]
    hedged = hard_share > 0.0 and crowd_score(
        n, columns, labels, shares, forms, log_like, crowd, sizes
    )
    if hedged:
        for k in range(k_n):
            crowd[k] *= temper
        hedge(final, crowd, hard_share, hard_weight, shown, sizes)
    else:
        for k in range(k_n):
            shown[k] = final[k]
    _softmax(shown, other, sizes)
    best = 0
    for k in range(k_n):
        proba[i, k] = other[k]
        if other[k] > other[best]:
            best = k
    if weights.shape[0] == 0:
        return
    for w in range(weights.shape[1]):
        weights[i, w] = 0.0
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
        label = labels[a]
        gain = 0.0
        for k in range(k_n):
            part = shares[a] * log_like[w, label, k] * temper
            if corrected:
                part += corrector[1 + w * k_n + label, k]
            gain += part if k == best else -mix[k] * part
        weights[i, w] = gain
        explained += gain
    prior_odds = _log_odds(base, best)
    gained = _log_odds(final, best) - prior_odds
    rest = gained - explained
    kept = 1.0
    if hedged:
        left = _log_odds(shown, best) - prior_odds
        if 0.0 < left * gained <= gained * gained:
            kept = left / gained
        else:
            rest += left - gained
    for a in range(n):
        weights[i, columns[a]] = kept * (weights[i, columns[a]] + rest / n)


@compiled
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


@compiled
def leave_out(
    n: int,
    columns: IntArray,
    labels: IntArray,
    shares: FloatArray,
    posterior: FloatArray,
    log_like: FloatArray,
    table: FloatArray,
    inverse: FloatArray,
    without: FloatArray,
    sizes: Sizes,
) -> None:
    """Write what takes each vote out of a posterior, θ_w(l|k)^−ω, into ``inverse`` (n, K).

    ``without`` (n, K) are the posteriors without each vote, not normalised; ``table`` holds the
    inverses of whole votes.
    """
    k_n = len(sizes.classes)
    for a in range(n):
        w, label, share = columns[a], labels[a], shares[a]
        for k in range(k_n):
            if share == 1.0:
                inverse[a, k] = table[w, label, k]
            else:
                inverse[a, k] = math.exp(-share * log_like[w, label, k])
            without[a, k] = posterior[k] * inverse[a, k]


@compiled
def learn_evidence(
    n: int,
    columns: IntArray,
    labels: IntArray,
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
        for h in range(h_n):
            p = 0.0
            for k in range(k_n):
                p += without[a, k] * bank[w, label, h, k]
            product[w, h] *= max(p * scale, 1e-6)
            low = min(low, product[w, h])
        voted[w] += 1.0
        cast[w] += 1.0
        if low < FOLD_BELOW:
            for h in range(h_n):
                evidence[w, h] += math.log(product[w, h])
                product[w, h] = 1.0


@compiled
def add_counts(
    n: int,
    columns: IntArray,
    labels: IntArray,
    posterior: FloatArray,
    factor: FloatArray,
    gain: FloatArray,
    counts: FloatArray,
    mass: FloatArray,
    sizes: Sizes,
) -> None:
    """Add one example's posterior to its votes' cells and to the mass, ``factor`` (H,) times.

    ``gain`` (H, K) is room for what is added to each.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    for h in range(h_n):
        for k in range(k_n):
            gain[h, k] = factor[h] * posterior[k]
            mass[h, k] += gain[h, k]
    for a in range(n):
        for h in range(h_n):
            for k in range(k_n):
                counts[columns[a], labels[a], h, k] += gain[h, k]


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


@compiled
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
