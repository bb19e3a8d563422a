"""Compiled gold corrector: what answers say about votes that the label model got wrong.

A ridge regression of the answer on one-hot votes whose offset is the label model's calibrated
log-probability. It is fitted to the answers at hand, and used only while answers that come in,
judged before they are learned, have a better log-loss with it than without.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.columns import look
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
from models.label_model.pairs import pair_width
from models.label_model.rows import add_up

__all__ = ["correct", "fit_corrector"]

NEWTON_STEPS = 3
CONJUGATE_STEPS = 10


@njit(error_model="numpy")
def correct(
    row: npt.NDArray[np.int8],
    n: int,
    columns: ColumnArray,
    corrector: FloatArray,
    score: FloatArray,
    out: FloatArray,
) -> None:
    """Write ``score`` plus the corrector's part for the votes of ``row`` into ``out``."""
    k_n = score.shape[0]
    for k in range(k_n):
        out[k] = score[k] + corrector[0, k]
        for a in range(n):
            out[k] += corrector[1 + columns[a] * k_n + row[columns[a]], k]


@njit(error_model="numpy")
def _gradient(
    answers: Answers,
    used: npt.NDArray[np.int64],
    offsets: FloatArray,
    corrector: FloatArray,
    ridge: float,
    chances: FloatArray,
    out: FloatArray,
) -> None:
    """Write the gradient of the penalised log-loss, and each answer's class chances."""
    k_n = corrector.shape[1]
    m = answers.votes.shape[1]
    columns = np.empty(m, np.uint32)
    final = np.empty(k_n)
    out[:, :] = ridge * corrector
    for i in range(used.shape[0]):
        row = answers.votes[used[i]]
        n = 0
        for w in range(m):
            if 0 <= row[w] < k_n:
                columns[n] = w
                n += 1
        correct(row, n, columns, corrector, offsets[i], final)
        top = final.max()
        total = 0.0
        for k in range(k_n):
            final[k] = math.exp(final[k] - top)
            total += final[k]
        for k in range(k_n):
            chances[i, k] = final[k] / total
            error = chances[i, k] - (1.0 if answers.label[used[i]] == k else 0.0)
            out[0, k] += error
            for a in range(n):
                out[1 + columns[a] * k_n + row[columns[a]], k] += error


@njit(error_model="numpy")
def _curvature(
    answers: Answers,
    used: npt.NDArray[np.int64],
    chances: FloatArray,
    ridge: float,
    direction: FloatArray,
    out: FloatArray,
) -> None:
    """Write the product of the Hessian and ``direction``."""
    k_n = direction.shape[1]
    m = answers.votes.shape[1]
    step = np.empty(k_n)
    out[:, :] = ridge * direction
    for i in range(used.shape[0]):
        row = answers.votes[used[i]]
        mean = 0.0
        for k in range(k_n):
            step[k] = direction[0, k]
            for w in range(m):
                if 0 <= row[w] < k_n:
                    step[k] += direction[1 + w * k_n + row[w], k]
            mean += chances[i, k] * step[k]
        for k in range(k_n):
            step[k] = chances[i, k] * (step[k] - mean)
            out[0, k] += step[k]
            for w in range(m):
                if 0 <= row[w] < k_n:
                    out[1 + w * k_n + row[w], k] += step[k]


@njit(error_model="numpy")
def fit_corrector(
    answers: Answers,
    size: int,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    forms: npt.NDArray[np.int64],
    sizes: Sizes,
) -> None:
    """Fit the corrector to the answers at hand by Newton steps solved by conjugate gradients."""
    k_n = tables.log_prior.shape[0]
    m = answers.votes.shape[1]
    corrector = tables.corrector
    corrector[:, :] = 0.0
    used = np.arange(size)
    offsets = np.empty((size, k_n))
    columns, labels, shares = room.columns, room.labels, room.shares
    score = np.empty(k_n)
    limit = min(m, pair_width(own))
    for i in range(size):
        n = look(answers.votes[i], limit, room, own, other, tables, config, forms, sizes)
        add_up(n, columns, labels, shares, tables.log_prior, tables.log_like, score, sizes)
        for k in range(k_n):
            from_votes = score[k] - tables.log_prior[k]
            offsets[i, k] = tables.shown_prior[k] + from_votes / tables.scalars[0]
    chances = np.empty((size, k_n))
    ridge = 1.0 / config.corrector_variance
    residual = np.empty_like(corrector)
    product = np.empty_like(corrector)
    for _ in range(NEWTON_STEPS):
        _gradient(answers, used, offsets, corrector, ridge, chances, residual)
        residual[:, :] = -residual
        direction = residual.copy()
        square = (residual * residual).sum()
        for _step in range(CONJUGATE_STEPS):
            if square < 1e-20:  # noqa: PLR2004
                break
            _curvature(answers, used, chances, ridge, direction, product)
            length = square / (direction * product).sum()
            corrector += length * direction
            residual -= length * product
            new = (residual * residual).sum()
            direction[:, :] = residual + new / square * direction
            square = new
