"""Compiled loop of the label model: rows judged and learned in order, cut into blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.label_model.agreements import learn_pairs
from models.label_model.columns import derive_columns, look
from models.label_model.compiling import compiled
from models.label_model.labels import publish
from models.label_model.layout import Config, FloatArray, Recent, Room, Sizes, Sums, Tables
from models.label_model.pairs import age_pairs, pair_width, start_pairs
from models.label_model.replay import find_recent, replay_start
from models.label_model.rows import (
    add_belief,
    add_counts,
    add_up,
    fill_fair,
    find_votes,
    judge,
    learn_evidence,
    leave_out,
)
from models.label_model.tables import start_tables
from models.label_model.vectors import FEW, log_few

__all__ = ["block_length", "fold_evidence", "scale_sums", "start_block", "step_rows"]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

EARLY_SHARE = 8
"""A block is at most an eighth of what was learned: what the first examples teach is new."""
LATE_SHARE = 32
"""A block that grows is at most a 32nd of what was learned."""
LATEST_SHARE = 64
"""A block that grows twice as far is at most a 64th of it."""
REVISED_BLOCKS = 8
"""Later stages of examples end a block too, if so many blocks of them come and nothing new."""


@compiled
def fold_evidence(sums: Sums, other: Sums, tables: Tables, config: Config, sizes: Sizes) -> None:
    """Move the block's predictive likelihoods into the sums, decayed by votes cast."""
    h_n = len(sizes.lives)
    for w in range(tables.voted.shape[0]):
        if tables.voted[w] > 0.0:
            keep = 2.0 ** (-tables.voted[w] / config.evidence_half_life)
            if h_n % FEW == 0:
                for h in range(0, h_n, FEW):
                    log_few(tables.product, w * h_n + h)
            else:
                for h in range(h_n):
                    tables.product[w, h] = math.log(tables.product[w, h])
            for h in range(h_n):
                sums.evidence[w, h] = keep * sums.evidence[w, h] + tables.product[w, h]
                other.evidence[w, h] *= keep
                tables.product[w, h] = 1.0
            tables.voted[w] = 0.0
            tables.lives[w, 0] = -1.0


@compiled
def scale_sums(
    sums: Sums, counts: FloatArray, config: Config, age: float, keep: FloatArray, sizes: Sizes
) -> None:
    """Express sums at a time ``age`` examples later; of the bank's, ``keep`` (H,) is left.

    ``counts`` are those of the sums, in one row of cells. Pairs are left alone: see `age_pairs`.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    for h in range(h_n):
        for k in range(k_n):
            sums.mass[h, k] *= keep[h]
            sums.belief[h, k] *= keep[h]
    for w in range(sums.cast.shape[0]):
        for h in range(h_n):
            for k in range(k_n):
                sums.before[w, h, k] *= keep[h]
    for first in range(0, counts.shape[0], h_n * k_n):
        for h in range(h_n):
            for k in range(k_n):
                counts[np.uint64(first + h * k_n + k)] *= keep[h]
    if sums.gold_size[2] > 0.0 and math.isfinite(config.gold_half_life):
        kept = 2.0 ** (-age / config.gold_half_life)
        for part in (sums.gold_share, sums.gold_size, sums.gold_loss, sums.gate):
            for j in range(part.shape[0]):
                part[j] *= kept
        for w in range(sums.cast.shape[0]):
            sums.gold_hits[w, 0] *= kept
            sums.gold_hits[w, 1] *= kept


@compiled
def keep_row(row: Any, table: Any, i: int) -> None:
    """Write a row of votes or of probabilities into row ``i`` of a table of them."""
    for j in range(row.shape[0]):
        table[i, j] = row[j]


@compiled
def _any_above(table: FloatArray) -> bool:
    """Return whether anything is above 0; `max` of a table cannot be compiled without counting."""
    for h in range(table.shape[0]):
        for k in range(table.shape[1]):
            if table[h, k] > 0.0:
                return True
    return False


@compiled
def start_block(
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    age: float,
    sizes: Sizes,
) -> None:
    """Bring the sums to the present and derive the tables of the next block."""
    fold_evidence(own, other, tables, config, sizes)
    keep = tables.mixture[0]
    for h in range(len(sizes.lives)):
        keep[h] = 1.0 / tables.weight[h]
        tables.weight[h] = 1.0
    scale_sums(own, room.counts, config, age, keep, sizes)
    if _any_above(other.mass) or other.gold_size[2] > 0.0:
        scale_sums(other, room.others, config, age, keep, sizes)
    start_tables(room, own, other, tables, config, prior, forms, sizes)
    if config.use_pairs:
        age_pairs(own, other, tables, config, forms, age)
        start_pairs(tables, config)


@compiled
def block_length(own: int, clock: int, block: int, growth: int) -> int:
    """Return the own examples that make up a block of the whole stream, a sixteenth of it at least.

    A partition that sees a quarter of the stream learns after a quarter of a block, so that all
    follow a change at the same speed. The first blocks are short: what they teach is new. Late
    ones may be ``growth`` times as long, and the latest twice that, as far as that is little
    beside what was learned.
    """
    if growth > 1:
        late = min(growth * block, clock // LATE_SHARE)
        block = max(block, late, min(2 * growth * block, clock // LATEST_SHARE))
    share = max(block * own // clock, block // 16) if clock > 0 else block
    return int(max(min(share, own // EARLY_SHARE), 1))


@compiled
def _next_block(
    counters: IntArray,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """End the block under way and start the next."""
    start_block(room, own, other, tables, config, prior, forms, float(counters[2]), sizes)
    counters[2] = 0
    counters[5] = block_length(counters[0], counters[1], counters[3], config.block_growth)
    counters[7] = 0


@compiled
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
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    proba: FloatArray,
    weights: FloatArray,
    clock: IntArray,
    sizes: Sizes,
) -> int:
    """Judge rows in order, learn those that are emitted; return the first row not processed.

    Stops early after a block start when ``counters[4]`` says that other partitions' sums wait.
    Counters: own examples, stream clock, examples in this block, block size, whether others'
    sums wait, length of this block, examples at hand for a second look, later stages in this block.
    """
    n = len(votes)
    m = votes.shape[1]
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    # Without a table of examples each row is one that was not there before.
    listed = ex_clock.shape[0] > 0
    columns, labels, shares = room.columns, room.labels, room.shares
    before, labels_before = room.before, room.labels_before
    score, posterior, fair = room.score, room.posterior, room.fair
    inverse, without = room.inverse, room.without
    factor, gain = room.factor, room.gain
    fill_fair(tables, prior, fair)
    limit = min(m, pair_width(own))
    hard_share = config.hard_share if tables.common[0] > 0.0 else 0.0
    for i in range(first, n):
        row = votes[i]
        n_votes = look(row, limit, room, own, other, tables, config, forms, sizes)
        if learn or listed:
            judge(
                n_votes, columns, labels, shares, tables.log_prior, tables.log_like, score,
                posterior, room.powers, sizes,
            )  # fmt: skip
        else:
            add_up(
                n_votes, columns, labels, shares, tables.log_prior, tables.log_like, score, sizes
            )
        if proba.shape[0] > 0:
            publish(
                i, n_votes, columns, labels, shares, forms, tables.log_prior, tables.shown_prior,
                tables.log_like, tables.corrector, tables.scalars, tables.common[0] == m,
                hard_share, config.hard_weight, score, room.published, room.powers, proba, weights,
                sizes,
            )  # fmt: skip
        if listed:
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
                    keep_row(row, ex_votes, e)
                    keep_row(posterior, ex_proba, e)
                continue
            if known:
                place = find_recent(recent, counters[6], ex_clock[e])
                if place >= 0:
                    keep_row(recent.votes[place], ex_votes, e)
                    keep_row(recent.posterior[place], ex_proba, e)
                age = counters[1] - ex_clock[e]
                for h in range(h_n):
                    factor[h] = -tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
                n_before = find_votes(ex_votes[e], k_n, before, labels_before)
                derive_columns(n_before, before, room, own, other, tables, config, forms, sizes)
                add_counts(
                    n_before, before, labels_before, ex_proba[e], factor, gain, room.counts,
                    own.mass, sizes,
                )  # fmt: skip
                add_belief(ex_proba[e], factor, own.belief, fair, sizes)
                for h in range(h_n):
                    factor[h] = -factor[h]
                add_counts(
                    n_votes, columns, labels, posterior, factor, gain, room.counts, own.mass, sizes
                )
                add_belief(posterior, factor, own.belief, fair, sizes)
                leave_out(
                    n_votes, columns, labels, shares, posterior, tables.log_like, room.powers,
                    inverse, without, sizes,
                )  # fmt: skip
                learn_evidence(
                    n_votes, columns, labels, without, True, ex_votes[e], own.cast, own.evidence,
                    room.bank, tables.lives, tables.product, tables.voted, sizes,
                )  # fmt: skip
                keep_row(row, ex_votes, e)
                keep_row(posterior, ex_proba, e)
                if place >= 0:
                    keep_row(row, recent.votes, place)
                    keep_row(posterior, recent.posterior, place)
                counters[7] += 1
                if counters[7] >= REVISED_BLOCKS * counters[3]:
                    _next_block(counters, room, own, other, tables, config, prior, forms, sizes)
                    fill_fair(tables, prior, fair)
                    if counters[4] > 0:
                        return i + 1
                continue
        elif not learn:
            continue
        for h in range(h_n):
            tables.weight[h] *= config.growth[h]
        add_counts(
            n_votes, columns, labels, posterior, tables.weight, gain, room.counts, own.mass, sizes
        )
        add_belief(posterior, tables.weight, own.belief, fair, sizes)
        leave_out(
            n_votes, columns, labels, shares, posterior, tables.log_like, room.powers,
            inverse, without, sizes,
        )  # fmt: skip
        learn_evidence(
            n_votes, columns, labels, without, False, row, own.cast, own.evidence,
            room.bank, tables.lives, tables.product, tables.voted, sizes,
        )  # fmt: skip
        if config.use_pairs:
            learn_pairs(
                n_votes, columns, labels, inverse, without, limit, forms, tables.common[0] > 1.0,
                tables.alone[0] > 0, tables.scalars[3], own.pairs, other.pairs, tables.agree,
                tables.moments, sizes,
            )  # fmt: skip
        counters[0] += 1
        counters[1] += 1
        counters[2] += 1
        if listed:
            ex_clock[e] = counters[1]
            clock[i] = counters[1]
            keep_row(row, ex_votes, e)
            keep_row(posterior, ex_proba, e)
        at_hand = (
            config.learn_balance
            and counters[0] == counters[6] + 1
            and counters[6] < recent.clock.shape[0]
        )
        if at_hand:
            keep_row(row, recent.votes, counters[6])
            keep_row(posterior, recent.posterior, counters[6])
            recent.clock[counters[6]] = counters[1]
            counters[6] += 1
        if counters[2] >= counters[5]:
            grown = counters[2]
            _next_block(counters, room, own, other, tables, config, prior, forms, sizes)
            if at_hand:
                replay_start(
                    counters[6] - grown, counters[6], counters[1], recent, room, own, other,
                    tables, config, prior, forms, sizes,
                )  # fmt: skip
            fill_fair(tables, prior, fair)
            if counters[4] > 0:
                return i + 1
    return n
