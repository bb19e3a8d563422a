"""Compiled derivation of who leans on whom: agreement beyond what accuracies explain."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from models.label_model.layout import CROWD, Config, FloatArray, Sums, Tables

__all__ = ["build_pairs", "learn_pairs", "pair_width"]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

NOT_DERIVED = -1.0
"""Stands where the agreement of a pair that never voted together would."""
COMMON_ROOM = 100.0
"""Agreements that stand for no excess, before any are seen."""


@njit()
def pair_width(sums: Sums) -> int:
    """Return how many columns have pairwise statistics."""
    return int((1.0 + math.sqrt(1.0 + 8.0 * sums.pairs.shape[0])) / 2.0 + 1e-9)


@njit()
def agreement(w: int, v: int, k: int, given_vote: FloatArray) -> float:
    """Return the chance that independent votes of two columns agree, given the class."""
    total = 0.0
    for label in range(given_vote.shape[1]):
        total += given_vote[w, label, k] * given_vote[v, label, k]
    return total


@njit()
def learn_pairs(
    row: VoteArray,
    n: int,
    columns: IntArray,
    inverse: FloatArray,
    posterior: FloatArray,
    pairs: FloatArray,
    agree: FloatArray,
    given_vote: FloatArray,
    limit: int,
) -> None:
    """Compare each pair's agreement with what its accuracies explain, leaving both out."""
    k_n = posterior.shape[0]
    for b in range(1, n):
        v = columns[b]
        if v >= limit:
            break
        first = v * (v - 1) // 2
        for a in range(b):
            w = columns[a]
            p = first + w
            if agree[p, 0] == NOT_DERIVED:
                for k in range(k_n):
                    agree[p, k] = agreement(w, v, k, given_vote)
            total = 0.0
            expected = 0.0
            for k in range(k_n):
                r = posterior[k] * inverse[a, k] * inverse[b, k]
                total += r
                expected += r * agree[p, k]
            expected /= total
            if row[w] == row[v]:
                pairs[p, 0] += 1.0
            pairs[p, 1] += expected
            pairs[p, 2] += 1.0 - expected
            pairs[p, 3] += expected * (1.0 - expected)


@njit()
def _common(
    own: Sums, other: Sums, config: Config, forms: IntArray, limit: int
) -> tuple[float, float]:
    """Return the excess that annotators' pairs share, and the variance of what pairs add to it.

    *Math* — x_p observed minus expected agreements, q_p their room, u_p their variance under
    independence: Σ (x_p − c q_p)² = Σ u_p + τ² Σ q_p².
    """
    excess = 0.0
    room = COMMON_ROOM
    for v in range(1, limit):
        for w in range(v):
            if forms[w] == CROWD and forms[v] == CROWD:
                p = v * (v - 1) // 2 + w
                excess += own.pairs[p, 0] + other.pairs[p, 0] - own.pairs[p, 1] - other.pairs[p, 1]
                room += own.pairs[p, 2] + other.pairs[p, 2]
    common = min(max(excess / room, 0.0), 1.0)
    over = 0.0
    square = COMMON_ROOM
    for v in range(1, limit):
        for w in range(v):
            if forms[w] == CROWD and forms[v] == CROWD:
                p = v * (v - 1) // 2 + w
                x = own.pairs[p, 0] + other.pairs[p, 0] - own.pairs[p, 1] - other.pairs[p, 1]
                q = own.pairs[p, 2] + other.pairs[p, 2]
                over += (x - common * q) ** 2 - own.pairs[p, 3] - other.pairs[p, 3]
                square += q * q
    return common, max(over / square, 0.0)


@njit()
def build_pairs(
    own: Sums, other: Sums, tables: Tables, config: Config, forms: IntArray, limit: int
) -> None:
    """Derive the agreement expected of each pair, and how far the observed one exceeds it.

    Between labeling functions an excess counts when it is large and significant: copies are
    few. Annotators all lean on what makes an item hard, a little, so that each of their pairs
    is shrunk towards the excess of all, the more the less pairs differ (empirical Bayes).
    """
    k_n = tables.log_prior.shape[0]
    limit = min(limit, forms.shape[0])
    common, variance = _common(own, other, config, forms, limit)
    found = 0.0
    for v in range(1, limit):
        first = v * (v - 1) // 2
        for w in range(v):
            p = first + w
            room = own.pairs[p, 2] + other.pairs[p, 2]
            if room <= 0.0:
                # Never seen together: most pairs of a wide task. See `learn_pairs`.
                tables.agree[p, 0] = NOT_DERIVED
                rho = common if forms[w] == CROWD and forms[v] == CROWD else 0.0
                if rho > 0.0:
                    found = 1.0
                tables.rho[w, v] = rho
                tables.rho[v, w] = rho
                continue
            for k in range(k_n):
                tables.agree[p, k] = agreement(w, v, k, tables.given_vote)
            excess = own.pairs[p, 0] + other.pairs[p, 0] - own.pairs[p, 1] - other.pairs[p, 1]
            spread = own.pairs[p, 3] + other.pairs[p, 3]
            if forms[w] == CROWD and forms[v] == CROWD:
                noise = spread + config.crowd_shrinkage
                rho = excess * room * variance + common * noise
                rho = min(max(rho / (room * room * variance + noise), 0.0), 1.0)
            else:
                rho = min(max(excess / (room + config.pair_shrinkage), 0.0), 1.0)
                if rho < config.pair_floor or excess < config.pair_z * math.sqrt(spread + 1.0):
                    rho = 0.0
            if rho > 0.0:
                found = 1.0
            tables.rho[w, v] = rho
            tables.rho[v, w] = rho
    tables.scalars[2] = found
