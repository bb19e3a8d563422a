"""Compiled loop of the label model: rows judged and learned in order, cut into blocks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.layout import Config, FloatArray, Recent, Sums, Tables
from models.label_model.pairs import build_pairs, learn_pairs, pair_width
from models.label_model.replay import find_recent, replay_start
from models.label_model.rows import (
    add_belief,
    add_counts,
    fill_fair,
    fill_inverse,
    find_votes,
    judge,
    learn_evidence,
    publish,
)
from models.label_model.tables import build_tables

__all__ = ["block_length", "fold_evidence", "scale_sums", "start_block", "step_rows"]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

EARLY_SHARE = 8
"""A block is at most an eighth of what was learned: what the first examples teach is new."""
REVISED_BLOCKS = 8
"""Later stages of examples end a block too, if so many blocks of them come and nothing new."""


@njit()
def fold_evidence(sums: Sums, other: Sums, tables: Tables, config: Config) -> None:
    """Move the block's predictive likelihoods into the sums, decayed by votes cast."""
    for w in range(tables.voted.shape[0]):
        if tables.voted[w] > 0.0:
            keep = 2.0 ** (-tables.voted[w] / config.evidence_half_life)
            for h in range(tables.product.shape[1]):
                sums.evidence[w, h] = keep * sums.evidence[w, h] + math.log(tables.product[w, h])
                other.evidence[w, h] *= keep
                tables.product[w, h] = 1.0
            tables.voted[w] = 0.0


@njit()
def scale_sums(sums: Sums, config: Config, age: float, weight: FloatArray) -> None:
    """Express sums at a time ``age`` examples later; ``weight`` (H,) divides the bank's sums."""
    m = sums.cast.shape[0]
    h_n, k_n = sums.mass.shape
    for h in range(h_n):
        keep = 1.0 / weight[h]
        if keep == 1.0:
            continue
        for k in range(k_n):
            sums.mass[h, k] *= keep
            sums.belief[h, k] *= keep
        for w in range(m):
            for k in range(k_n):
                sums.before[w, h, k] *= keep
            for label in range(k_n):
                for k in range(k_n):
                    sums.counts[w, label, h, k] *= keep
    if config.use_pairs:
        keep = 2.0 ** (-age / config.pair_half_life)
        for p in range(sums.pairs.shape[0]):
            for c in range(4):
                sums.pairs[p, c] *= keep
    if sums.gold_size[2] > 0.0 and math.isfinite(config.gold_half_life):
        keep = 2.0 ** (-age / config.gold_half_life)
        sums.gold_share[:] *= keep
        sums.gold_size[:] *= keep
        sums.gold_loss[:] *= keep
        sums.gate[:] *= keep
        sums.gold_hits[:, :] *= keep


@njit()
def start_block(
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    age: float,
) -> None:
    """Bring the sums to the present and derive the tables of the next block."""
    fold_evidence(own, other, tables, config)
    scale_sums(own, config, age, tables.weight)
    if other.mass.max() > 0.0 or other.gold_size[2] > 0.0:
        scale_sums(other, config, age, tables.weight)
    tables.weight[:] = 1.0
    build_tables(own, other, tables, config, prior, forms)
    if config.use_pairs:
        build_pairs(own, other, tables, config, forms, pair_width(own))


@njit()
def block_length(own: int, clock: int, block: int) -> int:
    """Return the own examples that make up a block of the whole stream, a sixteenth of it at least.

    A partition that sees a quarter of the stream learns after a quarter of a block, so that all
    follow a change at the same speed. The first blocks are short: what they teach is new.
    """
    share = max(block * own // clock, block // 16) if clock > 0 else block
    return int(max(min(share, own // EARLY_SHARE), 1))


@njit()
def _next_block(
    counters: IntArray,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
) -> None:
    """End the block under way and start the next."""
    start_block(own, other, tables, config, prior, forms, float(counters[2]))
    counters[2] = 0
    counters[5] = block_length(counters[0], counters[1], counters[3])
    counters[7] = 0


@njit()
def step_rows(
    first: int,
    votes: VoteArray,
    example: npt.NDArray[np.int32],
    emit: npt.NDArray[np.bool_],
    ex_votes: VoteArray,
    ex_proba: FloatArray,
    ex_clock: IntArray,
    learn: bool,
    counters: IntArray,
    recent: Recent,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    proba: FloatArray,
    weights: FloatArray,
    clock: IntArray,
) -> int:
    """Judge rows in order, learn those that are emitted; return the first row not processed.

    Stops early after a block start when ``counters[4]`` says that other partitions' sums wait.
    Counters: own examples, stream clock, examples in this block, block size, whether others'
    sums wait, length of this block, examples at hand for a second look, later stages in this block.
    """
    n = len(votes)
    m = votes.shape[1]
    h_n, k_n = own.mass.shape
    columns = np.empty(m, np.int64)
    shares = np.empty(m)
    score = np.empty(k_n)
    posterior = np.empty(k_n)
    fair = np.empty(k_n)
    fill_fair(tables, prior, fair)
    scratch = np.empty((4, k_n))
    inverse = np.empty((m, k_n))
    factor = np.empty(h_n)
    limit = min(m, pair_width(own))
    for i in range(first, n):
        row = votes[i]
        n_votes = find_votes(row, k_n, tables.rho, tables.scalars[2], columns, shares)
        judge(row, n_votes, columns, shares, tables.log_prior, tables.log_like, score, posterior)
        if proba.shape[0] > 0:
            publish(
                row, n_votes, columns, shares, tables.log_prior, tables.shown_prior,
                tables.log_like, tables.corrector, tables.scalars, score, scratch,
                proba[i], weights[i],
            )  # fmt: skip
        e = example[i]
        clock[i] = counters[1]
        if not emit[i]:
            continue
        known = ex_clock[e] >= 0
        if known:
            answered = False
            for k in range(k_n):
                answered = answered or ex_proba[e, k] == 0.0
            if answered:
                for k in range(k_n):
                    posterior[k] = ex_proba[e, k]
        if not learn:
            # What the sums hold of a learned example must stay on record as it is.
            if not known:
                ex_votes[e] = row
                ex_proba[e] = posterior
            continue
        if known:
            place = find_recent(recent, counters[6], ex_clock[e])
            if place >= 0:
                ex_votes[e] = recent.votes[place]
                ex_proba[e] = recent.posterior[place]
            age = counters[1] - ex_clock[e]
            for h in range(h_n):
                factor[h] = -tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
            add_counts(ex_votes[e], ex_proba[e], factor, own.counts, own.mass)
            add_belief(ex_proba[e], factor, own.belief, fair)
            for h in range(h_n):
                factor[h] = -factor[h]
            add_counts(row, posterior, factor, own.counts, own.mass)
            add_belief(posterior, factor, own.belief, fair)
            fill_inverse(row, n_votes, columns, shares, tables.log_like, inverse)
            learn_evidence(
                row,
                ex_votes[e],
                n_votes,
                columns,
                inverse,
                posterior,
                own.cast,
                own.evidence,
                tables.bank,
                tables.product,
                tables.voted,
            )
            ex_votes[e] = row
            ex_proba[e] = posterior
            if place >= 0:
                recent.votes[place] = row
                recent.posterior[place] = posterior
            counters[7] += 1
            if counters[7] >= REVISED_BLOCKS * counters[3]:
                _next_block(counters, own, other, tables, config, prior, forms)
                fill_fair(tables, prior, fair)
                if counters[4] > 0:
                    return i + 1
            continue
        ex_votes[e] = -1
        for h in range(h_n):
            tables.weight[h] *= config.growth[h]
        add_counts(row, posterior, tables.weight, own.counts, own.mass)
        add_belief(posterior, tables.weight, own.belief, fair)
        fill_inverse(row, n_votes, columns, shares, tables.log_like, inverse)
        learn_evidence(
            row,
            ex_votes[e],
            n_votes,
            columns,
            inverse,
            posterior,
            own.cast,
            own.evidence,
            tables.bank,
            tables.product,
            tables.voted,
        )
        if config.use_pairs:
            learn_pairs(
                row,
                n_votes,
                columns,
                inverse,
                posterior,
                own.pairs,
                tables.agree,
                tables.given_vote,
                limit,
            )
        counters[0] += 1
        counters[1] += 1
        counters[2] += 1
        ex_clock[e] = counters[1]
        clock[i] = counters[1]
        ex_votes[e] = row
        ex_proba[e] = posterior
        at_hand = (
            config.learn_balance
            and counters[0] == counters[6] + 1
            and counters[6] < recent.clock.shape[0]
        )
        if at_hand:
            recent.votes[counters[6]] = row
            recent.posterior[counters[6]] = posterior
            recent.clock[counters[6]] = counters[1]
            counters[6] += 1
        if counters[2] >= counters[5]:
            _next_block(counters, own, other, tables, config, prior, forms)
            if at_hand:
                replay_start(
                    counters[6], counters[1], recent, own, other, tables, config, prior, forms
                )
            fill_fair(tables, prior, fair)
            if counters[4] > 0:
                return i + 1
    return n
