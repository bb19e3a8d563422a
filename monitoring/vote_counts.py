"""Count a block of votes per labeling function in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["VoteCounts", "count_disagreements", "count_votes"]


class VoteCounts(NamedTuple):
    """Counts of a block, one row or entry per labeling function (int64).

    ``overlaps``: examples where it votes and at least one other votes. ``conflicts``: where it
    votes and another votes differently. The names are those of `monitoring.counts.TaskCounts`.
    """

    votes: NDArray[np.int64]
    abstains: NDArray[np.int64]
    overlaps: NDArray[np.int64]
    conflicts: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _count(
    votes: NDArray[np.int8],
    by_class: NDArray[np.int64],
    abstains: NDArray[np.int64],
    overlaps: NDArray[np.int64],
    conflicts: NDArray[np.int64],
) -> int:
    n, m = votes.shape
    k = by_class.shape[1]
    for i in range(n):
        voting = 0
        first = -1
        unanimous = True
        for j in range(m):
            vote = votes[i, j]
            if vote < 0:
                continue
            if vote >= k:
                position: int = i * m + j
                return position
            voting += 1
            if first < 0:
                first = vote
            elif vote != first:
                unanimous = False
        for j in range(m):
            vote = votes[i, j]
            if vote < 0:
                abstains[j] += 1
                continue
            by_class[j, vote] += 1
            if voting > 1:
                overlaps[j] += 1
                if not unanimous:
                    conflicts[j] += 1
    return -1


def count_votes(votes: NDArray[np.int8], n_classes: int) -> VoteCounts:
    """Return votes by class, abstentions, overlaps and conflicts of each column.

    Two voters that differ make every voter of that example conflict: whoever agrees with one
    differs from the other.

    Parameters
    ----------
    votes
        Shape (n, m), −1 (any negative) abstains, classes from 0.
    n_classes
        Number of classes; a vote that is not below it raises.

    Raises
    ------
    ValueError
        A vote names a class that does not exist.

    Examples
    --------
    >>> counts = count_votes(np.array([[0, 1, -1], [1, 1, -1], [0, -1, -1]], dtype=np.int8), 2)
    >>> counts.votes.tolist(), counts.abstains.tolist()
    ([[2, 1], [0, 2], [0, 0]], [0, 1, 3])
    >>> counts.overlaps.tolist(), counts.conflicts.tolist()
    ([2, 2, 0], [1, 1, 0])
    """
    m = votes.shape[1]
    counts = VoteCounts(
        np.zeros((m, n_classes), dtype=np.int64),
        np.zeros(m, dtype=np.int64),
        np.zeros(m, dtype=np.int64),
        np.zeros(m, dtype=np.int64),
    )
    wrong = int(_count(np.ascontiguousarray(votes, dtype=np.int8), *counts))
    if wrong >= 0:
        row, column = divmod(wrong, m)
        raise ValueError(
            f"vote {votes[row, column]} at row {row}, column {column}: "
            f"allowed are -1 (abstain) to {n_classes - 1}"
        )
    return counts


@njit(cache=True, nogil=True)
def _disagree(
    votes: NDArray[np.int8], best: NDArray[np.int64], disagreements: NDArray[np.int64]
) -> None:
    for i in range(votes.shape[0]):
        for j in range(votes.shape[1]):
            if votes[i, j] >= 0 and votes[i, j] != best[i]:
                disagreements[j] += 1


def count_disagreements(
    votes: NDArray[np.int8], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how often each column votes for another class than the most probable one.

    Parameters
    ----------
    votes
        Shape (n, m).
    probabilities
        Posterior of the label model, shape (n, K); of equal ones the first class counts.
    """
    disagreements = np.zeros(votes.shape[1], dtype=np.int64)
    best = np.argmax(probabilities, axis=1).astype(np.int64)
    _disagree(np.ascontiguousarray(votes, dtype=np.int8), best, disagreements)
    return disagreements
