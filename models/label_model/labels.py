"""Compiled labels as they are shown: calibrated, allowing for hard items, each vote's weight."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled, hot
from models.label_model.layout import CROWD, ColumnArray, FloatArray, Sizes
from models.label_model.rows import TINY, end_softmax, softmax, start_softmax
from models.label_model.vectors import exponentials

__all__ = ["crowd_score", "hedge", "publish"]

IntArray = npt.NDArray[np.int64]

BINARY = 2


@hot
def crowd_score(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
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


@hot
def hedge(
    score: FloatArray,
    crowd: FloatArray,
    share: float,
    weight: float,
    hard: FloatArray,
    out: FloatArray,
    powers: FloatArray,
    sizes: Sizes,
) -> None:
    """Write probabilities that allow for hard items into ``out``, which may be ``score``.

    *Math* — p = (1 − h) softmax(score) + h softmax(score − (1 − g) crowd): of a ``share`` h of
    all items annotators' votes say a ``weight`` g of what they say of others. Their errors on
    such an item have one cause, which no confusion matrix of an annotator explains. ``hard`` is
    room (K,) for the second, ``powers`` for both.
    """
    k_n = len(sizes.classes)
    for k in range(k_n):
        hard[k] = score[k] - (1.0 - weight) * crowd[k]
    start_softmax(hard, powers, 0, sizes)
    start_softmax(score, powers, k_n, sizes)
    exponentials(powers, 2 * k_n)
    end_softmax(powers, 0, hard, sizes)
    end_softmax(powers, k_n, out, sizes)
    for k in range(k_n):
        out[k] = max((1.0 - share) * out[k] + share * hard[k], TINY)


@hot
def publish(
    i: int,
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    shares: FloatArray,
    forms: IntArray,
    log_prior: FloatArray,
    shown_prior: FloatArray,
    log_like: FloatArray,
    corrector: FloatArray,
    scalars: FloatArray,
    annotators: bool,
    hard_share: float,
    hard_weight: float,
    score: FloatArray,
    scratch: FloatArray,
    powers: FloatArray,
    proba: FloatArray,
    weights: FloatArray,
    sizes: Sizes,
) -> None:
    """Write row ``i`` of calibrated probabilities, and of each vote's weight in log-odds.

    Weights are those for the most probable class, and may have no rows. They and the prior's
    log-odds sum to the posterior's. With more than two classes the gain in log-odds is split
    along the straight path from the prior (Aumann-Shapley). What hard items take from it, they
    take from each vote in proportion. ``annotators`` says whether there are only these: then all
    that votes add to a score is theirs. ``scratch`` is (6, K).
    """
    k_n = len(sizes.classes)
    temper = 1.0 / scalars[0]
    corrected = scalars[1] > 0.0
    final, mix, other, crowd = scratch[0], scratch[2], scratch[3], scratch[4]
    for k in range(k_n):
        final[k] = shown_prior[k] + (score[k] - log_prior[k]) * temper
        if corrected:
            final[k] += corrector[0, k]
            for a in range(n):
                final[k] += corrector[1 + columns[a] * k_n + labels[a], k]
    if annotators:
        hedged = hard_share > 0.0 and n > 0
        for k in range(k_n):
            crowd[k] = score[k] - log_prior[k]
    else:
        hedged = hard_share > 0.0 and crowd_score(
            n, columns, labels, shares, forms, log_like, crowd, sizes
        )
    if hedged:
        for k in range(k_n):
            crowd[k] *= temper
        hedge(final, crowd, hard_share, hard_weight, mix, other, powers, sizes)
    else:
        softmax(final, other, powers, sizes)
    for k in range(k_n):
        proba[i, k] = other[k]
    if weights.shape[0] > 0:
        best = 0
        for k in range(k_n):
            if other[k] > other[best]:
                best = k
        _explain(
            i, n, best, columns, labels, shares, shown_prior, log_like, corrector, temper,
            corrected, hedged, scratch, weights, sizes,
        )  # fmt: skip


@compiled
def _explain(
    i: int,
    n: int,
    best: int,
    columns: ColumnArray,
    labels: ColumnArray,
    shares: FloatArray,
    shown_prior: FloatArray,
    log_like: FloatArray,
    corrector: FloatArray,
    temper: float,
    corrected: bool,
    hedged: bool,
    scratch: FloatArray,
    weights: FloatArray,
    sizes: Sizes,
) -> None:
    """Write row ``i`` of each vote's weight; ``scratch`` is as `publish` left it."""
    k_n = len(sizes.classes)
    final, base, mix, other = scratch[0], scratch[1], scratch[2], scratch[3]
    shown = scratch[5]
    for w in range(weights.shape[1]):
        weights[i, w] = 0.0
    if k_n == 1 or n == 0:
        return
    for k in range(k_n):
        shown[k] = other[k]
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
        for k in range(k_n):
            shown[k] = math.log(shown[k])
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
