"""Compiled start of a block's tables: class balance, the average annotator, temperature."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled, hot
from models.label_model.layout import CROWD, Config, FloatArray, Room, Sizes, Sums, Tables
from models.label_model.pairs import shared_excess

__all__ = ["find_alone", "start_tables"]

IntArray = npt.NDArray[np.int64]

LEAST = 1e-12
LEAST_ANSWERS = 20
BINARY = 2
LEAST_STRENGTH = 0.5
"""Votes that the average annotator stands for, at least."""


@compiled
def find_alone(other: Sums, tables: Tables) -> None:
    """Find out whether others' sums of votes are all zero: then no block need look at them.

    They are replaced between blocks, and else only scaled.
    """
    tables.alone[0] = 0
    for w in range(other.counts.shape[0]):
        for label in range(other.counts.shape[1]):
            for h in range(other.counts.shape[2]):
                for k in range(other.counts.shape[3]):
                    if other.counts[w, label, h, k] != 0.0:
                        return
    for p in range(other.pairs.shape[0]):
        for c in range(other.pairs.shape[1]):
            if other.pairs[p, c] != 0.0:
                return
    tables.alone[0] = 1


@compiled
def start_tables(
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Derive class balance and temperature; have the rows of columns derived when needed."""
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    tables.derived[:] = 0
    for h in range(h_n):
        for k in range(k_n):
            tables.start[h, k] = own.mass[h, k] + other.mass[h, k]
    _build_population(room.counts, room.others, tables, config, forms, sizes)
    _build_balance(own, other, tables, config, prior, forms)
    _build_temperature(own, other, tables, config)


@compiled
def _build_population(
    counts: FloatArray,
    others: FloatArray,
    tables: Tables,
    config: Config,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Write (K, H, K) pseudo-votes of an annotator: half the average one, half a diagonal start.

    And the accuracy of all annotators, (H,), from which each one's own is learned.

    How many there are is learned too, from how much annotators' accuracies differ beyond what
    their numbers of votes explain (the moments of a beta-binomial): where all are alike, one
    more of them is known before he votes; where some are experts and some guess, he is not.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    out = tables.population
    tables.common[0] = 0.0
    for w in range(forms.shape[0]):
        if forms[w] == CROWD:
            if tables.common[0] == 0.0:
                out[:, :, :] = 0.0
                tables.tally[:, :] = 0.0
            tables.common[0] += 1.0
            _tally(w, counts, others, tables.alone[0] > 0, out, tables.tally, sizes)
    if tables.common[0] == 0.0:
        return
    # The balance needs the plain share of votes, before they become pseudo-votes.
    for label in range(k_n):
        tables.voted_share[label] = 0.0
        for k in range(k_n):
            tables.voted_share[label] += out[label, h_n - 1, k]
    off = (1.0 - config.crowd_accuracy) / max(k_n - 1, 1)
    for h in range(h_n):
        tables.mixture[0, h] = _likeness(h, out, tables.tally, tables.pooled, config)
    for h in range(h_n):
        for k in range(k_n):
            total = config.crowd_strength
            for label in range(k_n):
                total += out[label, h, k]
            for label in range(k_n):
                start = config.crowd_accuracy if label == k else off
                average = (out[label, h, k] + config.crowd_strength * start) / total
                out[label, h, k] = tables.mixture[0, h] * 0.5 * (average + start)


@hot
def _tally(
    w: int,
    counts: FloatArray,
    others: FloatArray,
    alone: bool,
    total: FloatArray,
    tally: FloatArray,
    sizes: Sizes,
) -> None:
    """Add an annotator's counts to all annotators', and what tells how these differ."""
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    for h in range(h_n):
        votes, hits = 0.0, 0.0
        for label in range(k_n):
            for k in range(k_n):
                cell = np.uint64(((w * k_n + label) * h_n + h) * k_n + k)
                here = counts[cell]
                if not alone:
                    here += others[cell]
                here = max(here, 0.0)
                total[label, h, k] += here
                votes += here
                if k == label:
                    hits += here
        if votes > 0.0:
            more = max(votes - 1.0, 0.0)
            tally[0, h] += 1.0
            tally[1, h] += hits * hits / votes
            tally[2, h] += more
            tally[3, h] += more * votes


@compiled
def _likeness(
    h: int, total: FloatArray, tally: FloatArray, pooled: FloatArray, config: Config
) -> float:
    """Return how many votes the average annotator stands for, in judging any one.

    *Math* — accuracies q_w of n_w votes vary around q, which is written into ``pooled``, by
    Σ n_w (q_w − q)² = q (1 − q) Σ (1 − n_w / n) (1 + (n_w − 1) ι); the strength is 1 / ι − 1.
    """
    cast, hits = 0.0, 0.0
    for k in range(total.shape[0]):
        hits += total[k, h, k]
        for label in range(total.shape[0]):
            cast += total[label, h, k]
    votes = cast + config.crowd_strength
    mean = (hits + config.crowd_strength * config.crowd_accuracy) / votes
    pooled[h] = mean
    spread = max(tally[1, h] - 2.0 * mean * hits + mean * mean * cast, 0.0)
    chance = tally[0, h] - cast / votes
    room = tally[2, h] - tally[3, h] / votes + config.spread_votes
    likeness = spread / (mean * (1.0 - mean)) - chance
    likeness = (likeness + config.spread_votes / (config.crowd_strength + 1.0)) / room
    likeness = min(max(likeness, 1e-4), 0.9999)
    return float(min(max(1.0 / likeness - 1.0, LEAST_STRENGTH), config.crowd_limit))


@compiled
def _scale_to(share: FloatArray, size: float) -> None:
    """Scale to a sum of ``size``, in place."""
    total = 0.0
    for k in range(share.shape[0]):
        total += share[k]
    for k in range(share.shape[0]):
        share[k] *= size / total


@compiled
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
    believed, judged = tables.balance[0], tables.balance[1]
    for k in range(k_n):
        believed[k] = prior[k]
    if config.learn_balance:
        votes = 0.0
        if tables.common[0] > 0.0:
            for k in range(k_n):
                votes += tables.voted_share[k]
        for k in range(k_n):
            believed[k] *= config.crowd_prior_strength
            if votes > 0.0:
                believed[k] += max(own.mass[last, k] + other.mass[last, k], 0.0)
                believed[k] += config.vote_share * tables.voted_share[k] / votes
    strength = config.balance_strength if config.learn_balance else config.prior_strength
    _scale_to(believed, strength)
    size = own.gold_size[0] + other.gold_size[0]
    effective = 0.0
    if size > 0.0:
        # What votes say of all examples, corrected by the mean error on those with an answer.
        effective = size * size / (own.gold_size[1] + other.gold_size[1])
        effective *= effective / (effective + config.balance_answers)
        for k in range(k_n):
            judged[k] = max(own.belief[last, k] + other.belief[last, k], 0.0) + prior[k]
        _scale_to(judged, 1.0)
        for k in range(k_n):
            judged[k] += (own.gold_share[k] + other.gold_share[k]) / size
            judged[k] = min(max(judged[k], 1e-3), 1.0)
        _scale_to(judged, effective)
        for k in range(k_n):
            believed[k] += judged[k]
    for k in range(k_n):
        share_k = believed[k] / (strength + effective)
        tables.log_prior[k] = math.log(max(share_k, LEAST))
        tables.shown_prior[k] = tables.log_prior[k]
    if config.learn_balance and k_n > BINARY and tables.common[0] > 0.0:
        held = _not_believed(own, other, tables) * strength / (strength + effective)
        for k in range(k_n):
            tables.shown_prior[k] += held * (math.log(prior[k]) - tables.log_prior[k])


@compiled
def _not_believed(own: Sums, other: Sums, tables: Tables) -> float:
    """Return the part of the balance's log-odds that published labels leave out.

    A class's share of the votes holds K − 1 kinds of error. An annotator's own ones his confusion
    matrix explains; those that an item calls forth in all, nothing does. Learning needs the
    balance as it is, or else confusion matrices explain a rare class away; published labels
    believe the less of it against the configured one, the more errors are shared.

    *Math* — 1 − 1 / (1 + (K − 2) s); s = n c / (1 − c) is how many times the shared part of the
    variance of an item's mean error exceeds its annotators' own, with n votes on an item whose
    errors correlate by c: the excess agreement that annotators' pairs share.
    """
    k_n: int = tables.log_prior.shape[0]
    last = own.mass.shape[0] - 1
    examples = 1.0
    votes = 0.0
    for k in range(k_n):
        examples += max(own.mass[last, k] + other.mass[last, k], 0.0)
        votes += tables.voted_share[k]
    common = shared_excess(tables)
    shared: float = max(votes / examples, 1.0) * common / max(1.0 - common, LEAST)
    return 1.0 - 1.0 / (1.0 + (k_n - BINARY) * shared)


@compiled
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
