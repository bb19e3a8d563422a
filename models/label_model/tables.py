"""Compiled derivation of a block's tables from the sums: balance, emissions, correlations."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.layout import CROWD, LF, Config, FloatArray, Sums, Tables

__all__ = ["build_tables"]

IntArray = npt.NDArray[np.int64]

LEAST = 1e-12
LEAST_ANSWERS = 20
BINARY = 2
LEAST_STRENGTH = 0.5
"""Votes that the average annotator stands for, at least."""


@njit()
def build_tables(
    own: Sums, other: Sums, tables: Tables, config: Config, prior: FloatArray, forms: IntArray
) -> None:
    """Derive class balance, emissions, their mixture over half-lives, and the temperature."""
    h_n, k_n = own.mass.shape
    population = _population(own, other, config, forms)
    _build_balance(own, other, tables, config, prior, forms)
    counts = np.empty((k_n, h_n, k_n))
    mass = np.empty((h_n, k_n))
    mix = np.empty(h_n)
    scratch = np.empty((2, h_n, k_n))
    for w in range(own.cast.shape[0]):
        _mixture(w, own, other, 0.0 if forms[w] == LF else config.crowd_lasting, mix)
        for label in range(k_n):
            for h in range(h_n):
                for k in range(k_n):
                    here = own.counts[w, label, h, k] + other.counts[w, label, h, k]
                    counts[label, h, k] = max(here, 0.0)
        if forms[w] == LF:
            for h in range(h_n):
                for k in range(k_n):
                    here = own.mass[h, k] + other.mass[h, k]
                    mass[h, k] = max(here - own.before[w, h, k] - other.before[w, h, k], 0.0)
            accuracy, strength = config.lf_accuracy, config.lf_strength
            if tables.column_prior[w, 1] > 0.0:
                accuracy, strength = tables.column_prior[w, 0], tables.column_prior[w, 1]
            _joint_form(
                counts, mass, mix, accuracy, strength, scratch,
                tables.bank[w], tables.log_like[w], tables.given_vote[w],
            )  # fmt: skip
        else:
            _conditional_form(config, population, counts)
            _store_column(counts, mix, tables.bank[w], tables.log_like[w], tables.given_vote[w])
    _build_temperature(own, other, tables, config)


@njit()
def _mixture(w: int, own: Sums, other: Sums, lasting: float, mix: FloatArray) -> None:
    """Weigh the half-lives of a column by how well each one predicted its recent votes.

    ``lasting`` is the head start, in nats, of the longest one.
    """
    top = -np.inf
    for h in range(mix.shape[0]):
        mix[h] = own.evidence[w, h] + other.evidence[w, h]
        if h == mix.shape[0] - 1:
            mix[h] += lasting
        top = max(top, mix[h])
    total = 0.0
    for h in range(mix.shape[0]):
        mix[h] = math.exp(mix[h] - top)
        total += mix[h]
    for h in range(mix.shape[0]):
        mix[h] /= total


@njit()
def _joint_form(
    counts: FloatArray,
    mass: FloatArray,
    mix: FloatArray,
    prior_accuracy: float,
    strength: float,
    scratch: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
) -> None:
    """θ(l|k) = (C[l,k] + s·p0(l|k)) / (N[k] + s), p0(l|k) = K·m(l)·(a0 or the rest).

    ``counts`` (K, H, K) and ``mass`` (H, K) are those of one column, whose rows of the tables
    are written. Whole sums are not handed over: copying their description costs more than this.
    """
    h_n, k_n = mass.shape
    off = (1.0 - prior_accuracy) / max(k_n - 1, 1)
    part, total = scratch[0], scratch[1]
    for h in range(h_n):
        examples = 2.0
        for k in range(k_n):
            examples += mass[h, k]
            part[h, k] = 1.0 / (mass[h, k] + strength)
            total[h, k] = 0.0
        share = strength * k_n / examples
        for label in range(k_n):
            cast = 1.0 / k_n
            for k in range(k_n):
                cast += counts[label, h, k]
            for k in range(k_n):
                start = share * cast * (prior_accuracy if label == k else off)
                theta = (counts[label, h, k] + start) * part[h, k]
                bank[label, h, k] = theta
                total[h, k] += theta
    for h in range(h_n):
        for k in range(k_n):
            total[h, k] = 1.0 / total[h, k]
    for label in range(k_n):
        for k in range(k_n):
            joint = 0.0
            given = 0.0
            for h in range(h_n):
                theta = bank[label, h, k]
                joint += mix[h] * theta
                bank[label, h, k] = theta * total[h, k]
                given += mix[h] * bank[label, h, k]
            log_like[label, k] = math.log(min(max(joint, 1e-9), 1.0))
            given_vote[label, k] = given


@njit()
def _population(own: Sums, other: Sums, config: Config, forms: IntArray) -> FloatArray:
    """Return (K, H, K) pseudo-votes of an annotator: half the average one, half a diagonal start.

    How many there are is learned too, from how much annotators' accuracies differ beyond what
    their numbers of votes explain (the moments of a beta-binomial): where all are alike, one
    more of them is known before he votes; where some are experts and some guess, he is not.
    """
    h_n, k_n = own.mass.shape
    out = np.zeros((k_n, h_n, k_n))
    n_crowd = 0
    for w in range(forms.shape[0]):
        if forms[w] == CROWD:
            n_crowd += 1
            for label in range(k_n):
                for h in range(h_n):
                    for k in range(k_n):
                        here = own.counts[w, label, h, k] + other.counts[w, label, h, k]
                        out[label, h, k] += max(here, 0.0)
    if n_crowd == 0:
        return out
    off = (1.0 - config.crowd_accuracy) / max(k_n - 1, 1)
    strength = np.empty(h_n)
    for h in range(h_n):
        strength[h] = _likeness(h, out, own, other, config, forms)
    for h in range(h_n):
        for k in range(k_n):
            total = config.crowd_strength
            for label in range(k_n):
                total += out[label, h, k]
            for label in range(k_n):
                start = config.crowd_accuracy if label == k else off
                average = (out[label, h, k] + config.crowd_strength * start) / total
                out[label, h, k] = strength[h] * 0.5 * (average + start)
    return out


@njit()
def _likeness(
    h: int, total: FloatArray, own: Sums, other: Sums, config: Config, forms: IntArray
) -> float:
    """Return how many votes the average annotator stands for, in judging any one.

    *Math* — accuracies q_w of n_w votes vary by Σ n_w (q_w − q)² = q (1 − q) Σ (1 − n_w / n)
    (1 + (n_w − 1) ι); the strength is 1 / ι − 1.
    """
    k_n = total.shape[0]
    right = config.crowd_strength * config.crowd_accuracy
    votes = config.crowd_strength
    for k in range(k_n):
        right += total[k, h, k]
        for label in range(k_n):
            votes += total[label, h, k]
    mean = right / votes
    spread = 0.0
    chance = 0.0
    room = 0.0
    for w in range(forms.shape[0]):
        if forms[w] != CROWD:
            continue
        n = 0.0
        hits = 0.0
        for label in range(k_n):
            for k in range(k_n):
                here = max(own.counts[w, label, h, k] + other.counts[w, label, h, k], 0.0)
                n += here
                if label == k:
                    hits += here
        if n > 0.0:
            part = 1.0 - n / votes
            spread += n * (hits / n - mean) ** 2
            chance += part
            room += part * max(n - 1.0, 0.0)
    likeness = (
        spread / (mean * (1.0 - mean)) - chance + config.spread_votes / (config.crowd_strength + 1)
    ) / (room + config.spread_votes)
    likeness = min(max(likeness, 1e-4), 0.9999)
    return float(min(max(1.0 / likeness - 1.0, LEAST_STRENGTH), config.crowd_limit))


@njit()
def _conditional_form(config: Config, population: FloatArray, theta: FloatArray) -> None:
    """θ(l|k) = normalise_l(C[l,k] + population + c·coin), C being in ``theta`` at first.

    The coin is the annotator's own overall accuracy, equal for all classes: with few votes of
    a class, one number is known better than a row of the confusion matrix.
    """
    k_n, h_n = theta.shape[0], theta.shape[1]
    for h in range(h_n):
        right = config.crowd_strength * config.crowd_accuracy
        votes = config.crowd_strength
        for label in range(k_n):
            for k in range(k_n):
                votes += theta[label, h, k]
                if label == k:
                    right += theta[label, h, k]
        coin = right / votes
        off = (1.0 - coin) / max(k_n - 1, 1)
        for k in range(k_n):
            total = 0.0
            for label in range(k_n):
                theta[label, h, k] += population[label, h, k]
                theta[label, h, k] += config.coin_strength * (coin if label == k else off)
                total += theta[label, h, k]
            for label in range(k_n):
                theta[label, h, k] /= total


@njit()
def _store_column(
    theta: FloatArray,
    mix: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
) -> None:
    """Store θ that sums to 1 over the votes."""
    k_n, h_n = theta.shape[0], theta.shape[1]
    for k in range(k_n):
        for label in range(k_n):
            joint = 0.0
            for h in range(h_n):
                joint += mix[h] * theta[label, h, k]
                bank[label, h, k] = theta[label, h, k]
            log_like[label, k] = math.log(min(max(joint, 1e-9), 1.0))
            given_vote[label, k] = joint


@njit()
def _build_balance(
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
) -> None:
    """Class balance: the configured prior, gold's share, and for a crowd what it votes.

    Learned from posteriors alone, balance and confusion matrices talk each other into a
    collapse while examples are few: the plain share of votes stands in as pseudo-examples.

    A class's share of the votes holds K − 1 kinds of error. Learning needs it, or else confusion
    matrices explain a rare class away; published labels believe a (K − 1)th of it, in log-odds
    against the configured balance, until answers tell.
    """
    k_n = prior.shape[0]
    last = config.half_lives.shape[0] - 1
    believed = config.prior_strength * prior
    if config.learn_balance:
        believed = config.crowd_prior_strength * prior
        share = np.zeros(k_n)
        for w in range(forms.shape[0]):
            if forms[w] == CROWD:
                for label in range(k_n):
                    for k in range(k_n):
                        here = own.counts[w, label, last, k] + other.counts[w, label, last, k]
                        share[label] += max(here, 0.0)
        votes = share.sum()
        if votes > 0.0:
            for k in range(k_n):
                believed[k] += max(own.mass[last, k] + other.mass[last, k], 0.0)
                believed[k] += config.vote_share * share[k] / votes
    strength = config.balance_strength if config.learn_balance else config.prior_strength
    believed *= strength / believed.sum()
    size = own.gold_size[0] + other.gold_size[0]
    effective = 0.0
    if size > 0.0:
        # What votes say of all examples, corrected by the mean error on those with an answer.
        effective = size * size / (own.gold_size[1] + other.gold_size[1])
        effective *= effective / (effective + config.balance_answers)
        judged = np.empty(k_n)
        for k in range(k_n):
            judged[k] = max(own.belief[last, k] + other.belief[last, k], 0.0) + prior[k]
        judged /= judged.sum()
        for k in range(k_n):
            judged[k] += (own.gold_share[k] + other.gold_share[k]) / size
            judged[k] = min(max(judged[k], 1e-3), 1.0)
        believed += judged / judged.sum() * effective
    for k in range(k_n):
        share_k = believed[k] / (strength + effective)
        tables.log_prior[k] = math.log(max(share_k, LEAST))
        tables.shown_prior[k] = tables.log_prior[k]
    if config.learn_balance and k_n > BINARY:
        held = (1.0 - 1.0 / (k_n - 1)) * strength / (strength + effective)
        for k in range(k_n):
            tables.shown_prior[k] += held * (math.log(prior[k]) - tables.log_prior[k])


@njit()
def _build_temperature(own: Sums, other: Sums, tables: Tables, config: Config) -> None:
    """Pick the temperature of least gold log-loss, with pseudo-counts for T = 1.

    The corrector is on while its gain on incoming answers is significant.
    """
    size = own.gold_size[0] + other.gold_size[0]
    tables.scalars[0] = 1.0
    tables.scalars[1] = 0.0
    if size <= 0.0:
        return
    gain = own.gate[1] + other.gate[1]
    number = own.gate[3] + other.gate[3]
    spread = math.sqrt(own.gate[2] + other.gate[2])
    if number >= LEAST_ANSWERS and gain > config.corrector_z * spread:
        tables.scalars[1] = 1.0
    effective = size * size / (own.gold_size[1] + other.gold_size[1])
    least = np.inf
    for j in range(config.temperatures.shape[0]):
        loss = effective * (own.gold_loss[j] + other.gold_loss[j]) / size
        loss += config.temperature_strength * math.log(config.temperatures[j]) ** 2
        if loss < least - 1e-9:
            least = loss
            tables.scalars[0] = config.temperatures[j]
