"""Compiled derivation of a column's tables from its sums: emissions, and their mixture."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled, hot, inlined
from models.label_model.layout import (
    CROWD,
    LF,
    ColumnArray,
    Config,
    FloatArray,
    Room,
    Sizes,
    Sums,
    Tables,
)
from models.label_model.pairs import pair_width, weigh
from models.label_model.rows import find_votes
from models.label_model.vectors import FEW, log_few

__all__ = ["derive_all", "derive_columns", "look", "restore_tables"]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]


@inlined
def look(
    row: VoteArray,
    limit: int,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    forms: IntArray,
    sizes: Sizes,
) -> int:
    """List who voted what and each one's share; return how many did. All they need is derived."""
    n = find_votes(row, len(sizes.classes), room.columns, room.labels)
    derive_columns(n, room.columns, room, own, other, tables, config, forms, sizes)
    weigh(n, limit, room, own, other, tables, config, forms, sizes)
    return n


@inlined
def derive_columns(
    n: int,
    columns: ColumnArray,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Derive the rows of columns that were not, since the block began."""
    late = 0
    for a in range(n):
        room.fresh[late] = columns[a]
        late += int(tables.derived[columns[a]] == 0)
    if late > 0:
        _derive_listed(
            room.fresh, late, tables.derived, forms, room.counts, room.others, own.before,
            other.before, own.evidence, other.evidence, config.lf_accuracy, config.lf_strength,
            config.crowd_strength, config.crowd_lasting, config.coin_strength,
            tables.alone[0] > 0, tables.column_prior, tables.start, tables.population,
            tables.pooled, tables.lives, tables.mixture, room.bank, tables.log_like,
            tables.given_vote, sizes,
        )  # fmt: skip


@compiled
def _derive_listed(
    listed: ColumnArray,
    n: int,
    derived: VoteArray,
    forms: IntArray,
    counts: FloatArray,
    others: FloatArray,
    before: FloatArray,
    others_before: FloatArray,
    evidence: FloatArray,
    others_evidence: FloatArray,
    lf_accuracy: float,
    lf_strength: float,
    crowd_strength: float,
    lasting: float,
    coin_strength: float,
    alone: bool,
    column_prior: FloatArray,
    start: FloatArray,
    population: FloatArray,
    pooled: FloatArray,
    lives: FloatArray,
    mixture: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
    sizes: Sizes,
) -> None:
    """Derive the listed columns: one call hands over what would take longer for each of them."""
    for j in range(n):
        w = listed[j]
        derived[w] = 1
        _derive_column(
            w, forms[w] == LF, counts, others, before, others_before, evidence,
            others_evidence, lf_accuracy, lf_strength, crowd_strength, lasting, coin_strength,
            alone, column_prior, start, population, pooled, lives, mixture, bank, log_like,
            given_vote, sizes,
        )  # fmt: skip


@hot
def _derive_column(
    w: int | np.uint32,
    joint: bool,
    counts: FloatArray,
    others: FloatArray,
    before: FloatArray,
    others_before: FloatArray,
    evidence: FloatArray,
    others_evidence: FloatArray,
    lf_accuracy: float,
    lf_strength: float,
    crowd_strength: float,
    lasting: float,
    coin_strength: float,
    alone: bool,
    column_prior: FloatArray,
    start: FloatArray,
    population: FloatArray,
    pooled: FloatArray,
    lives: FloatArray,
    mixture: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
    sizes: Sizes,
) -> None:
    """Derive θ of one column, by half-life and their mixture."""
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    first = w * k_n * h_n * k_n
    for j in range(k_n * h_n * k_n):
        cell = np.uint64(first + j)
        here = counts[cell]
        if not alone:
            here += others[cell]
        bank[cell] = max(here, 0.0)
    if lives[w, 0] < 0.0:
        for h in range(h_n):
            lives[w, h] = evidence[w, h] + others_evidence[w, h]
        if not joint:
            lives[w, h_n - 1] += lasting
        _softmax_row(w, lives, sizes)
    if joint:
        for h in range(h_n):
            for k in range(k_n):
                gone = before[w, h, k] + others_before[w, h, k]
                mixture[1 + k, h] = max(start[h, k] - gone, 0.0)
        accuracy, strength = lf_accuracy, lf_strength
        if column_prior[w, 1] > 0.0:
            accuracy, strength = column_prior[w, 0], column_prior[w, 1]
        _joint_form(w, accuracy, strength, lives, mixture, bank, log_like, given_vote, sizes)
    else:
        _conditional_form(
            w, crowd_strength, coin_strength, population, pooled, lives, bank, log_like,
            given_vote, sizes,
        )  # fmt: skip


@compiled
def _chance(theta: float) -> float:
    """Return a probability that has a logarithm."""
    return min(max(theta, 1e-9), 1.0)


@hot
def _take_logs(w: int | np.uint32, table: FloatArray, n: int) -> None:
    """Replace the ``n`` cells of a column by their logarithms."""
    whole = n - n % FEW
    for j in range(0, whole, FEW):
        log_few(table, w * n + j)
    for j in range(whole, n):
        label, k = j // table.shape[2], j % table.shape[2]
        table[w, label, k] = math.log(table[w, label, k])


@hot
def _softmax_row(w: int | np.uint32, lives: FloatArray, sizes: Sizes) -> None:
    """Turn evidence into weights, in place: how well each half-life predicted recent votes."""
    h_n = len(sizes.lives)
    top = lives[w, 0]
    for h in range(1, h_n):
        top = max(top, lives[w, h])
    total = 0.0
    for h in range(h_n):
        lives[w, h] = math.exp(lives[w, h] - top) if lives[w, h] < top else 1.0
        total += lives[w, h]
    for h in range(h_n):
        lives[w, h] /= total


@hot
def _joint_form(
    w: int | np.uint32,
    prior_accuracy: float,
    strength: float,
    lives: FloatArray,
    mixture: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
    sizes: Sizes,
) -> None:
    """θ(l|k) = (C[l,k] + s·p0(l|k)) / (N[k] + s), p0(l|k) = K·m(l)·(a0 or the rest).

    C is in ``bank`` at first, N[k] in row 1 + k of ``mixture``.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    first = w * k_n * h_n * k_n
    off = (1.0 - prior_accuracy) / max(k_n - 1, 1)
    for label in range(k_n):
        for k in range(k_n):
            log_like[w, label, k] = 0.0
            given_vote[w, label, k] = 0.0
    for h in range(h_n):
        examples = 2.0
        for k in range(k_n):
            examples += mixture[1 + k, h]
        share = strength * k_n / examples
        for label in range(k_n):
            cast = 1.0 / k_n
            for k in range(k_n):
                cast += bank[np.uint64(first + (label * h_n + h) * k_n + k)]
            for k in range(k_n):
                start = share * cast * (prior_accuracy if label == k else off)
                bank[np.uint64(first + (label * h_n + h) * k_n + k)] += start
        for k in range(k_n):
            total = 0.0
            for label in range(k_n):
                total += bank[np.uint64(first + (label * h_n + h) * k_n + k)]
            joint = lives[w, h] / (mixture[1 + k, h] + strength)
            total = 1.0 / total
            for label in range(k_n):
                cell = np.uint64(first + (label * h_n + h) * k_n + k)
                log_like[w, label, k] += joint * bank[cell]
                bank[cell] *= total
                given_vote[w, label, k] += lives[w, h] * bank[cell]
    for label in range(k_n):
        for k in range(k_n):
            log_like[w, label, k] = _chance(log_like[w, label, k])
    _take_logs(w, log_like, k_n * k_n)


@hot
def _conditional_form(
    w: int | np.uint32,
    strength: float,
    coin_strength: float,
    population: FloatArray,
    pooled: FloatArray,
    lives: FloatArray,
    bank: FloatArray,
    log_like: FloatArray,
    given_vote: FloatArray,
    sizes: Sizes,
) -> None:
    """θ(l|k) = normalise_l(C[l,k] + population + c·coin), C being in ``bank`` at first.

    The coin is the annotator's own overall accuracy, equal for all classes: with few votes of
    a class, one number is known better than a row of the confusion matrix. It starts from the
    accuracy of all annotators.
    """
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    first = w * k_n * h_n * k_n
    for label in range(k_n):
        for k in range(k_n):
            given_vote[w, label, k] = 0.0
    for h in range(h_n):
        right = strength * pooled[h]
        votes = strength
        for label in range(k_n):
            for k in range(k_n):
                cell = np.uint64(first + (label * h_n + h) * k_n + k)
                votes += bank[cell]
                if label == k:
                    right += bank[cell]
        coin = right / votes
        off = coin_strength * (1.0 - coin) / max(k_n - 1, 1)
        coin *= coin_strength
        for k in range(k_n):
            total = 0.0
            for label in range(k_n):
                cell = np.uint64(first + (label * h_n + h) * k_n + k)
                bank[cell] += population[label, h, k] + (coin if label == k else off)
                total += bank[cell]
            total = 1.0 / total
            for label in range(k_n):
                cell = np.uint64(first + (label * h_n + h) * k_n + k)
                bank[cell] *= total
                given_vote[w, label, k] += lives[w, h] * bank[cell]
    for label in range(k_n):
        for k in range(k_n):
            log_like[w, label, k] = _chance(given_vote[w, label, k])
    _take_logs(w, log_like, k_n * k_n)


@compiled
def derive_all(
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Derive what no row has needed in this block, for who looks at the tables."""
    m = forms.shape[0]
    for w in range(m):
        room.columns[w] = w
    derive_columns(m, room.columns, room, own, other, tables, config, forms, sizes)
    weigh(m, pair_width(own), room, own, other, tables, config, forms, sizes)


@compiled
def restore_tables(tables: Tables, config: Config, forms: IntArray) -> None:
    """Fill in what a snapshot, whose tables were all derived, leaves out."""
    tables.derived[:] = 1
    tables.turn[:] = tables.now[0]
    tables.scalars[2] = 1.0 if config.use_pairs else 0.0
    tables.common[0] = 0.0
    for w in range(forms.shape[0]):
        if forms[w] == CROWD:
            tables.common[0] += 1.0
