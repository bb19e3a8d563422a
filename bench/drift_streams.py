"""Votes that come in sessions: fast streams with a planted share, and a planted change."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["SESSION", "session_votes"]

SESSION = 20
"""Mean votes of a session."""


@njit(cache=True)
def _fill(
    out: NDArray[np.int8],
    before: float,
    after: float,
    change: int,
    likeness: float,
    concurrent: int,
    seed: int,
) -> None:
    np.random.seed(seed)
    left = np.zeros(concurrent, dtype=np.int64)
    rate = np.zeros(concurrent)
    strength = 1.0 / likeness - 1.0 if likeness > 0.0 else 0.0
    slot = 0
    for i in range(len(out)):
        if concurrent > 1:
            slot = int(np.random.random() * concurrent)
        if left[slot] == 0 or i == change:
            share = before if i < change else after
            if i == change:
                left[:] = 0
            left[slot] = np.random.geometric(1.0 / SESSION)
            if strength > 0.0:
                a = np.random.gamma(share * strength, 1.0)
                b = np.random.gamma((1.0 - share) * strength, 1.0)
                rate[slot] = a / (a + b)
            else:
                rate[slot] = share
        left[slot] -= 1
        out[i] = 1 if np.random.random() < rate[slot] else 0


def session_votes(
    n: int,
    before: float,
    after: float | None = None,
    *,
    change: int | None = None,
    likeness: float = 0.066,
    concurrent: int = 1,
    seed: int = 0,
) -> NDArray[np.int8]:
    """Return binary votes whose share changes from ``before`` to ``after`` at ``change``.

    Parameters
    ----------
    likeness
        Correlation of two votes of one session, whose own share is a beta variable. With sessions
        of geometric length, 20 on average, the variance of a mean is 1 + 38·likeness times that
        of independent votes: 3.5 times by default.
    concurrent
        Sessions at a time whose votes are interleaved at random.
    """
    out = np.empty(n, dtype=np.int8)
    _fill(out, before, before if after is None else after, n if change is None else change,
          likeness, concurrent, seed)  # fmt: skip
    return out
