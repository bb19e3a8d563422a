"""Compiled learning from gold answers that arrive late, each with its inclusion probability."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.columns import look
from models.label_model.corrector import correct, fit_corrector
from models.label_model.labels import crowd_score, hedge
from models.label_model.layout import (
    Answers,
    ColumnArray,
    Config,
    FloatArray,
    Room,
    Sizes,
    Sums,
    Tables,
)
from models.label_model.pairs import pair_width, start_pairs
from models.label_model.rows import add_counts, at_prior, judge
from models.label_model.tables import start_tables

__all__ = ["learn_gold_row"]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

WORST = -20.0
"""Least log-probability that one answer can add to a loss."""
FEW_ANSWERS = 32
REFIT_EVERY = 8


@njit(error_model="numpy")
def learn_gold_row(
    row: VoteArray,
    label: int,
    believed: FloatArray,
    known: bool,
    age: float,
    inclusion: float,
    now: int,
    answers: Answers,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Replace an example's posterior by its answer.

    ``believed`` is the posterior that the sums hold of it, if ``known``; else the present one
    takes its place. An answer whose inclusion probability is unknown (0 or NaN) was chosen for
    its votes: it replaces the posterior, which is fair given the votes, and moves nothing else
    but the corrector, which is a regression on those votes.
    """
    m = row.shape[0]
    k_n, h_n = len(sizes.classes), len(sizes.lives)
    columns, labels, shares = room.columns, room.labels, room.shares
    score, posterior = room.score, room.posterior
    limit = min(m, pair_width(own))
    n = look(row, limit, room, own, other, tables, config, forms, sizes)
    judge(
        n, columns, labels, shares, tables.log_prior, tables.log_like, score, posterior,
        room.powers, sizes,
    )  # fmt: skip
    if not known:
        believed[:] = posterior
    change = -believed
    change[label] += 1.0
    if inclusion > 0.0:
        at_prior(believed, tables, prior, posterior)
        for k in range(k_n):
            answer = 1.0 if k == label else 0.0
            own.gold_share[k] += (answer - posterior[k]) / inclusion
        crowd_score(n, columns, labels, shares, forms, tables.log_like, room.change, sizes)
        _score_answer(
            row, label, 1.0 / inclusion, score, room.change, n, columns, own, tables, config,
            room.powers, sizes,
        )  # fmt: skip
    factor = np.empty(h_n)
    for h in range(h_n):
        factor[h] = tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
    gain = np.empty((h_n, k_n))
    add_counts(n, columns, labels, change, factor, gain, room.counts, own.mass, sizes)
    believed[:] = 0.0
    believed[label] = 1.0
    place = answers.total[0] % answers.label.shape[0]
    answers.votes[place] = row
    answers.label[place] = label
    answers.clock[place] = now
    answers.total[0] += 1
    start_tables(room, own, other, tables, config, prior, forms, sizes)
    start_pairs(tables, config)
    if answers.total[0] <= FEW_ANSWERS or answers.total[0] % REFIT_EVERY == 0:
        size = min(answers.total[0], answers.label.shape[0])
        fit_corrector(answers, size, room, own, other, tables, config, forms, sizes)


@njit(error_model="numpy")
def _log_chance(chance: float) -> float:
    return float(max(math.log(chance), WORST))


@njit(error_model="numpy")
def _score_answer(
    row: VoteArray,
    label: int,
    weight: float,
    score: FloatArray,
    crowd: FloatArray,
    n: int,
    columns: ColumnArray,
    own: Sums,
    tables: Tables,
    config: Config,
    powers: FloatArray,
    sizes: Sizes,
) -> None:
    """Record what the answer says of balance, temperature and votes, before it is learned.

    ``crowd`` (K,) is the annotators' part of ``score``; ``powers`` is room.
    """
    k_n = score.shape[0]
    own.gold_size[0] += weight
    own.gold_size[1] += weight * weight
    own.gold_size[2] += 1.0
    for a in range(n):
        w = columns[a]
        own.gold_hits[w, 1] += weight
        if row[w] == label:
            own.gold_hits[w, 0] += weight
    tempered = np.empty(k_n)
    doubted = np.empty(k_n)
    hard = np.empty(k_n)
    for j in range(config.temperatures.shape[0]):
        for k in range(k_n):
            votes = score[k] - tables.log_prior[k]
            tempered[k] = tables.shown_prior[k] + votes / config.temperatures[j]
            doubted[k] = crowd[k] / config.temperatures[j]
        hedge(
            tempered, doubted, config.hard_share, config.hard_weight, hard, tempered, powers, sizes
        )
        own.gold_loss[j] -= weight * _log_chance(tempered[label])
    for k in range(k_n):
        votes = score[k] - tables.log_prior[k]
        tempered[k] = tables.shown_prior[k] + votes / tables.scalars[0]
        doubted[k] = crowd[k] / tables.scalars[0]
    corrected = np.empty(k_n)
    correct(row, n, columns, tables.corrector, tempered, corrected)
    hedge(tempered, doubted, config.hard_share, config.hard_weight, hard, tempered, powers, sizes)
    hedge(corrected, doubted, config.hard_share, config.hard_weight, hard, corrected, powers, sizes)
    gain = weight * (_log_chance(corrected[label]) - _log_chance(tempered[label]))
    own.gate[0] += weight
    own.gate[1] += gain
    own.gate[2] += gain * gain
    own.gate[3] += 1.0
