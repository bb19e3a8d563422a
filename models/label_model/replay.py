"""Compiled second look at the first examples, whose posteriors knew least."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.layout import Config, FloatArray, Recent, Sums, Tables
from models.label_model.pairs import build_pairs, learn_pairs, pair_width
from models.label_model.rows import (
    add_belief,
    add_counts,
    fill_fair,
    fill_inverse,
    find_votes,
    judge,
)
from models.label_model.tables import build_tables

__all__ = ["find_recent", "replay_start"]

IntArray = npt.NDArray[np.int64]

REPLAY_ROWS = 256
"""Examples looked at in all passes of one replay, unless one pass alone takes more."""


@njit()
def find_recent(recent: Recent, size: int, clock: int) -> int:
    """Return the place of the example learned at ``clock``, or -1."""
    low = 0
    high = size
    while low < high:
        middle = (low + high) // 2
        if recent.clock[middle] < clock:
            low = middle + 1
        else:
            high = middle
    return low if low < size and recent.clock[low] == clock else -1


@njit()
def replay_start(
    size: int,
    now: int,
    recent: Recent,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    prior: FloatArray,
    forms: IntArray,
) -> None:
    """Run EM over the examples learned so far, all of which are at hand.

    For annotators only: many vote on few items each. Where labeling functions copy each other,
    EM on few examples would believe the copies before they can be told apart.

    Each pass judges them with the present tables and learns the difference to what the sums
    hold of them, so that the sums stay what one would get by learning them afresh.
    """
    m = forms.shape[0]
    h_n, k_n = own.mass.shape
    columns = np.empty(m, np.int64)
    shares = np.empty(m)
    score = np.empty(k_n)
    posterior = np.empty(k_n)
    change = np.empty(k_n)
    fair = np.empty(k_n)
    inverse = np.empty((m, k_n))
    factor = np.empty(h_n)
    width = min(m, pair_width(own))
    passes = max(min(config.replay_passes, REPLAY_ROWS // size), 1)
    for turn in range(passes):
        # How pairs agree hardly changes between passes, and takes longest to find out.
        pairs = config.use_pairs and turn == passes - 1
        if pairs:
            own.pairs[:, :] = 0.0
        own.belief[:, :] = 0.0
        fill_fair(tables, prior, fair)
        for i in range(size):
            row = recent.votes[i]
            n = find_votes(row, k_n, tables.rho, tables.scalars[2], columns, shares)
            judge(row, n, columns, shares, tables.log_prior, tables.log_like, score, posterior)
            for h in range(h_n):
                age = now - recent.clock[i]
                factor[h] = tables.weight[h] * 2.0 ** (-age / config.half_lives[h])
            answered = False
            for k in range(k_n):
                answered = answered or recent.posterior[i, k] == 0.0
            if answered:
                posterior[:] = recent.posterior[i]
            else:
                for k in range(k_n):
                    change[k] = posterior[k] - recent.posterior[i, k]
                    recent.posterior[i, k] = posterior[k]
                add_counts(row, change, factor, own.counts, own.mass)
            add_belief(posterior, factor, own.belief, fair)
            if pairs:
                fill_inverse(row, n, columns, shares, tables.log_like, inverse)
                learn_pairs(
                    row,
                    n,
                    columns,
                    inverse,
                    posterior,
                    own.pairs,
                    tables.agree,
                    tables.given_vote,
                    width,
                )
        build_tables(own, other, tables, config, prior, forms)
        if pairs:
            build_pairs(own, other, tables, config, forms, width)
