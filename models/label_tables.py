"""Compiled derivation of a block's tables from the sums: balance, emissions, correlations."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_layout import CROWD, LF, Config, FloatArray, Sums, Tables

__all__ = ["build_pairs", "build_tables", "pair_width"]

IntArray = npt.NDArray[np.int64]

LEAST = 1e-12
LEAST_ANSWERS = 20


@njit(cache=True)
def pair_width(sums: Sums) -> int:
    """Return how many columns have pairwise statistics."""
    return int((1.0 + math.sqrt(1.0 + 8.0 * sums.pairs.shape[0])) / 2.0 + 1e-9)


@njit(cache=True)
def build_tables(
    own: Sums, other: Sums, tables: Tables, config: Config, prior: FloatArray, forms: IntArray
) -> None:
    """Derive class balance, emissions, their mixture over half-lives, and the temperature."""
    h_n, k_n = own.mass.shape
    population = _population(own, other, config, forms)
    _build_balance(own, other, tables, config, prior, forms)
    theta = np.empty((k_n, h_n, k_n))
    mix = np.empty(h_n)
    for w in range(own.cast.shape[0]):
        _mixture(w, own, other, mix)
        if forms[w] == LF:
            _joint_form(w, own, other, config, theta)
        else:
            _conditional_form(w, own, other, config, population, theta)
        _store_column(w, theta, mix, tables)
    _build_temperature(own, other, tables, config)


@njit(cache=True)
def _mixture(w: int, own: Sums, other: Sums, mix: FloatArray) -> None:
    """Weigh the half-lives of a column by how well each one predicted its recent votes."""
    top = -np.inf
    for h in range(mix.shape[0]):
        mix[h] = own.evidence[w, h] + other.evidence[w, h]
        top = max(top, mix[h])
    total = 0.0
    for h in range(mix.shape[0]):
        mix[h] = math.exp(mix[h] - top)
        total += mix[h]
    for h in range(mix.shape[0]):
        mix[h] /= total


@njit(cache=True)
def _joint_form(w: int, own: Sums, other: Sums, config: Config, theta: FloatArray) -> None:
    """θ(l|k) = (C[l,k] + s·p0(l|k)) / (N[k] + s), p0(l|k) = K·m(l)·(a0 or the rest)."""
    k_n, h_n = theta.shape[0], theta.shape[1]
    off = (1.0 - config.lf_accuracy) / max(k_n - 1, 1)
    base = np.empty(k_n)
    for h in range(h_n):
        examples = 0.0
        for k in range(k_n):
            base[k] = max(
                own.mass[h, k] + other.mass[h, k] - own.before[w, h, k] - other.before[w, h, k], 0.0
            )
            examples += base[k]
        for label in range(k_n):
            cast = 0.0
            for k in range(k_n):
                here = own.counts[w, label, h, k] + other.counts[w, label, h, k]
                theta[label, h, k] = max(here, 0.0)
                cast += theta[label, h, k]
            marginal = (cast + 1.0 / k_n) / (examples + 2.0)
            for k in range(k_n):
                start = k_n * marginal * (config.lf_accuracy if label == k else off)
                theta[label, h, k] = (theta[label, h, k] + config.lf_strength * start) / (
                    base[k] + config.lf_strength
                )


@njit(cache=True)
def _population(own: Sums, other: Sums, config: Config, forms: IntArray) -> FloatArray:
    """Return (K, H, K) pseudo-counts of an annotator: a diagonal start and the average one."""
    h_n, k_n = own.mass.shape
    out = np.zeros((k_n, h_n, k_n))
    for w in range(forms.shape[0]):
        if forms[w] == CROWD:
            for label in range(k_n):
                for h in range(h_n):
                    for k in range(k_n):
                        here = own.counts[w, label, h, k] + other.counts[w, label, h, k]
                        out[label, h, k] += max(here, 0.0)
    off = (1.0 - config.crowd_accuracy) / max(k_n - 1, 1)
    for h in range(h_n):
        for k in range(k_n):
            total = 0.0
            for label in range(k_n):
                start = config.crowd_strength * (config.crowd_accuracy if label == k else off)
                out[label, h, k] += start
                total += out[label, h, k]
            for label in range(k_n):
                start = config.crowd_strength * (config.crowd_accuracy if label == k else off)
                out[label, h, k] = config.population_strength * out[label, h, k] / total + start
    return out


@njit(cache=True)
def _conditional_form(
    w: int,
    own: Sums,
    other: Sums,
    config: Config,
    population: FloatArray,
    theta: FloatArray,
) -> None:
    """θ(l|k) = normalise_l(C[l,k] + population + c·√n·coin).

    The coin is the annotator's own overall accuracy, equal for all classes: with few votes of
    a class, one number is known better than a row of the confusion matrix.
    """
    k_n, h_n = theta.shape[0], theta.shape[1]
    for h in range(h_n):
        right = config.crowd_strength * config.crowd_accuracy
        votes = config.crowd_strength
        for label in range(k_n):
            for k in range(k_n):
                here = own.counts[w, label, h, k] + other.counts[w, label, h, k]
                theta[label, h, k] = max(here, 0.0)
                votes += theta[label, h, k]
                if label == k:
                    right += theta[label, h, k]
        coin = right / votes
        off = (1.0 - coin) / max(k_n - 1, 1)
        for k in range(k_n):
            n = 0.0
            for label in range(k_n):
                n += theta[label, h, k]
            strength = config.coin_strength * math.sqrt(n)
            total = 0.0
            for label in range(k_n):
                theta[label, h, k] += population[label, h, k]
                theta[label, h, k] += strength * (coin if label == k else off)
                total += theta[label, h, k]
            for label in range(k_n):
                theta[label, h, k] /= total


@njit(cache=True)
def _store_column(w: int, theta: FloatArray, mix: FloatArray, tables: Tables) -> None:
    k_n, h_n = theta.shape[0], theta.shape[1]
    for k in range(k_n):
        for label in range(k_n):
            joint = 0.0
            for h in range(h_n):
                joint += mix[h] * theta[label, h, k]
            tables.log_like[w, label, k] = math.log(min(max(joint, 1e-9), 1.0))
            tables.given_vote[w, label, k] = 0.0
        for h in range(h_n):
            total = 0.0
            for label in range(k_n):
                total += theta[label, h, k]
            for label in range(k_n):
                tables.bank[w, label, h, k] = theta[label, h, k] / total
                tables.given_vote[w, label, k] += mix[h] * tables.bank[w, label, h, k]


@njit(cache=True)
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
    """
    k_n = prior.shape[0]
    last = config.half_lives.shape[0] - 1
    believed = config.prior_strength * prior
    if config.learn_balance:
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


@njit(cache=True)
def _build_temperature(own: Sums, other: Sums, tables: Tables, config: Config) -> None:
    """Pick the temperature of least gold log-loss, with pseudo-counts for T = 1.

    The corrector is on while its gain on incoming answers exceeds a standard error.
    """
    size = own.gold_size[0] + other.gold_size[0]
    tables.scalars[0] = 1.0
    tables.scalars[1] = 0.0
    if size <= 0.0:
        return
    gain = own.gate[1] + other.gate[1]
    number = own.gate[3] + other.gate[3]
    if number >= LEAST_ANSWERS and gain > math.sqrt(own.gate[2] + other.gate[2]):
        tables.scalars[1] = 1.0
    effective = size * size / (own.gold_size[1] + other.gold_size[1])
    least = np.inf
    for j in range(config.temperatures.shape[0]):
        loss = effective * (own.gold_loss[j] + other.gold_loss[j]) / size
        loss += config.temperature_strength * math.log(config.temperatures[j]) ** 2
        if loss < least - 1e-9:
            least = loss
            tables.scalars[0] = config.temperatures[j]


@njit(cache=True)
def build_pairs(
    own: Sums, other: Sums, tables: Tables, config: Config, forms: IntArray, limit: int
) -> None:
    """Derive the agreement expected of each pair, and how far the observed one exceeds it.

    Between labeling functions an excess counts when it is large and significant: copies are
    few. Annotators all lean on what makes an item hard, a little, so that each of their pairs
    is shrunk towards the excess of all.
    """
    k_n = tables.log_prior.shape[0]
    limit = min(limit, forms.shape[0])
    common_excess = 0.0
    common_room = 100.0
    for v in range(1, limit):
        first = v * (v - 1) // 2
        for w in range(v):
            p = first + w
            for k in range(k_n):
                total = 0.0
                for label in range(k_n):
                    total += tables.given_vote[w, label, k] * tables.given_vote[v, label, k]
                tables.agree[p, k] = total
            if forms[w] == CROWD and forms[v] == CROWD:
                common_excess += own.pairs[p, 0] + other.pairs[p, 0]
                common_excess -= own.pairs[p, 1] + other.pairs[p, 1]
                common_room += own.pairs[p, 2] + other.pairs[p, 2]
    common = min(max(common_excess / common_room, 0.0), 1.0)
    found = 0.0
    for v in range(1, limit):
        first = v * (v - 1) // 2
        for w in range(v):
            p = first + w
            excess = own.pairs[p, 0] + other.pairs[p, 0] - own.pairs[p, 1] - other.pairs[p, 1]
            room = own.pairs[p, 2] + other.pairs[p, 2]
            if forms[w] == CROWD and forms[v] == CROWD:
                rho = (excess + config.crowd_shrinkage * common) / (room + config.crowd_shrinkage)
                rho = min(max(rho, 0.0), 1.0)
            else:
                spread = own.pairs[p, 3] + other.pairs[p, 3]
                rho = min(max(excess / (room + config.pair_shrinkage), 0.0), 1.0)
                if rho < config.pair_floor or excess < config.pair_z * math.sqrt(spread + 1.0):
                    rho = 0.0
            if rho > 0.0:
                found = 1.0
            tables.rho[w, v] = rho
            tables.rho[v, w] = rho
    tables.scalars[2] = found
