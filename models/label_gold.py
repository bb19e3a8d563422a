"""Compiled learning from gold answers that arrive late, each with its inclusion probability."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_layout import Config, FloatArray, Sums, Tables
from models.label_rows import add_counts, find_votes, judge
from models.label_tables import build_tables

__all__ = ["learn_gold_row"]


@njit(cache=True)
def learn_gold_row(
    row: npt.NDArray[np.int8],
    label: int,
    believed: FloatArray,
    known: bool,
    age: float,
    inclusion: float,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: npt.NDArray[np.int64],
) -> None:
    """Replace an example's posterior by its answer, and count the answer ``gold_boost`` times.

    ``believed`` is the posterior that the sums hold of it, if ``known``; else the present one
    takes its place. An answer whose inclusion probability is unknown (0 or NaN) was chosen for
    its votes: it replaces the posterior, which is fair given the votes, and moves nothing else.
    """
    m = row.shape[0]
    h_n, k_n = own.mass.shape
    columns = np.empty(m, np.int64)
    shares = np.empty(m)
    score = np.empty(k_n)
    posterior = np.empty(k_n)
    n = find_votes(row, k_n, tables, columns, shares)
    judge(row, n, columns, shares, tables, score, posterior)
    if not known:
        believed[:] = posterior
    factor = np.empty(h_n)
    for h in range(h_n):
        factor[h] = tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
    change = -believed
    change[label] += 1.0
    add_counts(row, change, factor, own)
    if inclusion > 0.0:
        weight = 1.0 / inclusion
        _score_answer(row, label, weight, score, n, columns, own, tables, config)
        size = own.gold_size[0] + other.gold_size[0]
        number = own.gold_size[2] + other.gold_size[2]
        change[:] = 0.0
        change[label] = config.gold_boost * weight * number / size
        add_counts(row, change, factor, own)
    believed[:] = 0.0
    believed[label] = 1.0
    build_tables(own, other, tables, config, prior, forms)


@njit(cache=True)
def _score_answer(
    row: npt.NDArray[np.int8],
    label: int,
    weight: float,
    score: FloatArray,
    n: int,
    columns: npt.NDArray[np.int64],
    own: Sums,
    tables: Tables,
    config: Config,
) -> None:
    """Record what the answer says of balance, temperature and votes, before it is learned."""
    own.gold_share[label] += weight
    own.gold_size[0] += weight
    own.gold_size[1] += weight * weight
    own.gold_size[2] += 1.0
    for a in range(n):
        w = columns[a]
        own.gold_hits[w, 1] += weight
        if row[w] == label:
            own.gold_hits[w, 0] += weight
    k_n = score.shape[0]
    for j in range(config.temperatures.shape[0]):
        top = -np.inf
        for k in range(k_n):
            base = tables.log_prior[k]
            top = max(top, base + (score[k] - base) / config.temperatures[j])
        total = 0.0
        for k in range(k_n):
            base = tables.log_prior[k]
            total += math.exp(base + (score[k] - base) / config.temperatures[j] - top)
        base = tables.log_prior[label]
        truth = base + (score[label] - base) / config.temperatures[j] - top - math.log(total)
        own.gold_loss[j] -= weight * max(truth, -20.0)
