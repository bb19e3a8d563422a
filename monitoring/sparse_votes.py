"""Votes as lists of who voted: most functions are silent about most examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["SparseVotes", "joined_votes", "majority_of", "sparse_votes"]


_BINARY: Final = 2


class SparseVotes(NamedTuple):
    """The votes of row i are those from ``starts[i]`` up to ``starts[i + 1]``.

    ``functions``: how many there are, silent ones included. ``starts`` (n + 1,). ``columns``,
    ``votes``: of each vote its function, in their order, and its class.
    """

    functions: int
    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    votes: NDArray[np.int8]


def sparse_votes(votes: NDArray[np.int8]) -> SparseVotes:
    """Return votes (n, m), of which negative ones are none, by row.

    Examples
    --------
    >>> found = sparse_votes(np.array([[1, -1, 0], [-1, -1, -1]], dtype=np.int8))
    >>> found.starts.tolist(), found.columns.tolist(), found.votes.tolist()
    ([0, 2, 2], [0, 2], [1, 0])
    """
    starts, columns, kept = _sparse(np.ascontiguousarray(votes, dtype=np.int8))
    return SparseVotes(votes.shape[1], starts, columns, kept)


@njit(cache=True, nogil=True)
def _sparse(votes: NDArray[np.int8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    n, m = votes.shape
    total = 0
    for i in range(n):
        for j in range(m):
            total += votes[i, j] >= 0
    starts = np.zeros(n + 1, dtype=np.int64)
    # One more: what is no vote is written, too, and then overwritten. No branch is mispredicted.
    columns = np.empty(total + 1, dtype=np.int32)
    kept = np.empty(total + 1, dtype=np.int8)
    at = 0
    for i in range(n):
        for j in range(m):
            columns[at] = j
            kept[at] = votes[i, j]
            at += votes[i, j] >= 0
        starts[i + 1] = at
    return starts, columns[:total], kept[:total]


def joined_votes(parts: Sequence[SparseVotes]) -> SparseVotes:
    """Return the rows of several, one after another; of the same functions, at least one.

    Examples
    --------
    >>> first = sparse_votes(np.array([[1, -1], [0, 1]], dtype=np.int8))
    >>> joined = joined_votes([first, first])
    >>> joined.starts.tolist(), joined.columns.tolist()
    ([0, 1, 3, 4, 6], [0, 0, 1, 0, 0, 1])
    """
    if len(parts) == 1:
        return parts[0]
    starts, before = [parts[0].starts], int(parts[0].starts[-1])
    for part in parts[1:]:
        starts.append(part.starts[1:] + before)
        before += int(part.starts[-1])
    return SparseVotes(
        parts[0].functions,
        np.concatenate(starts),
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.votes for part in parts]),
    )


def majority_of(votes: SparseVotes, classes: int) -> NDArray[np.int8]:
    """Return the class that most votes of each row are for; −1 of equals and of silence.

    A label that no model has a hand in. A shift of labels, P(Y) changed and every function as good
    as before, cannot be told from the label model's own answers: while its class balance is held,
    votes that all change at once are explained in part by functions that changed, and the labels
    stay where they were. Black-box shift detection needs a predictor that stays as it is and does
    better than chance, no more; the majority is one without a parameter.

    References
    ----------
    Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors (2018).
    Rabanser, Günnemann, Lipton: Failing Loudly (2019), where predicted classes are tested.

    Examples
    --------
    >>> votes = np.array([[1, 1, 0], [0, 1, -1], [-1, -1, -1]], dtype=np.int8)
    >>> majority_of(sparse_votes(votes), 2).tolist()
    [1, -1, -1]
    """
    found: NDArray[np.int8] = _majority(votes.starts, votes.votes, classes)
    return found


@njit(cache=True, nogil=True)
def _majority(starts: NDArray[np.int64], votes: NDArray[np.int8], classes: int) -> NDArray[Any]:
    n = len(starts) - 1
    found = np.empty(n, np.int8)
    if classes == _BINARY:
        # One count says it all.
        for i in range(n):
            balance = starts[i] - starts[i + 1]
            for at in range(starts[i], starts[i + 1]):
                balance += 2 * votes[at]
            found[i] = 1 if balance > 0 else 0 if balance < 0 else -1
        return found
    counts = np.zeros(classes, dtype=np.int64)
    for i in range(n):
        for at in range(starts[i], starts[i + 1]):
            counts[votes[at]] += 1
        # Without a branch that depends on the votes.
        most = 0
        leading = -1
        for k in range(classes):
            count = counts[k]
            counts[k] = 0
            leading = k if count > most else -1 if count == most else leading
            most = max(most, count)
        found[i] = leading
    return found
