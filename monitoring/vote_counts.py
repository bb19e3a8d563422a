"""Count a block of votes per labeling function in one pass."""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.counts import ENTROPY_BOUNDS_BITS, TaskCounts

__all__ = ["VoteCounts", "count_disagreements", "count_labels", "count_votes"]


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
    voters = np.empty(m + 1, dtype=np.int64)
    for i in range(n):
        voting = 0
        # What is no voter is written, too, and then overwritten: no branch is mispredicted.
        for j in range(m):
            voters[voting] = j
            voting += votes[i, j] >= 0
        unanimous = True
        for at in range(voting):
            vote = votes[i, voters[at]]
            if vote >= k:
                position: int = i * m + voters[at]
                return position
            unanimous &= vote == votes[i, voters[0]]
        overlap = 1 if voting > 1 else 0
        conflict = 0 if unanimous else 1
        for at in range(voting):
            j = voters[at]
            by_class[j, votes[i, j]] += 1
            abstains[j] -= 1
            overlaps[j] += overlap
            conflicts[j] += conflict
    for j in range(m):
        abstains[j] += n
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
        _refuse(votes, wrong, n_classes)
    return counts


def _refuse(votes: NDArray[np.int8], position: int, n_classes: int) -> NoReturn:
    row, column = divmod(position, votes.shape[1])
    raise ValueError(
        f"vote {votes[row, column]} at row {row}, column {column}: "
        f"allowed are -1 (abstain) to {n_classes - 1}"
    )


@njit(cache=True, nogil=True)
def _disagree(
    votes: NDArray[np.int8], best: NDArray[np.int64], disagreements: NDArray[np.int64]
) -> None:
    for i in range(votes.shape[0]):
        right = best[i]
        for j in range(votes.shape[1]):
            disagreements[j] += (votes[i, j] >= 0) & (votes[i, j] != right)


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


_BOUNDS_BITS: Final = np.array(ENTROPY_BOUNDS_BITS)
_FLOOR: Final = 1e-12
_GRID: Final = 2.0**20


def count_labels(
    counts: TaskCounts,
    class_mass: NDArray[np.float64],
    votes: NDArray[np.int8],
    probabilities: NDArray[np.float64],
    stage: NDArray[np.int8],
) -> None:
    """Count a block of published labels: votes, disagreements, stages, entropies, in one pass.

    Probabilities and entropies are added on a grid of 2⁻²⁰, where sums are exact and do not
    depend on how the stream was cut.

    Parameters
    ----------
    counts
        Grows.
    class_mass
        Sum of the probabilities of each class, (K,); grows.
    votes, probabilities, stage
        Shapes (n, m), (n, K), and (n,), positions in `monitoring.counts.STAGES`.

    Raises
    ------
    ValueError
        A vote names a class that does not exist.

    Examples
    --------
    >>> counts = TaskCounts(("negative", "positive"), ("clicked",))
    >>> mass = np.zeros(2)
    >>> votes, stage = np.array([[0], [1]], dtype=np.int8), np.array([1, 1], dtype=np.int8)
    >>> count_labels(counts, mass, votes, np.array([[0.25, 0.75], [0.5, 0.5]]), stage)
    >>> counts.labels[1].tolist(), counts.disagreements.tolist(), mass.tolist()
    ([1, 1], [2], [0.75, 1.25])
    """
    entropy = counts.entropy_bits
    wrong, bits = _count_labels(
        votes,
        probabilities,
        stage,
        _BOUNDS_BITS,
        counts.votes,
        counts.abstains,
        counts.overlaps,
        counts.conflicts,
        counts.disagreements,
        counts.labels,
        entropy.counts,
        class_mass,
    )
    if wrong >= 0:
        _refuse(votes, int(wrong), probabilities.shape[1])
    entropy.total += float(bits)


@njit(cache=True, nogil=True)
def _count_labels(
    votes: NDArray[np.int8],
    probabilities: NDArray[np.float64],
    stage: NDArray[np.int8],
    bounds_bits: NDArray[np.float64],
    by_class: NDArray[np.int64],
    abstains: NDArray[np.int64],
    overlaps: NDArray[np.int64],
    conflicts: NDArray[np.int64],
    disagreements: NDArray[np.int64],
    labels: NDArray[np.int64],
    entropies: NDArray[np.int64],
    class_mass: NDArray[np.float64],
) -> tuple[int, float]:
    total_bits = 0.0
    wrong = _count(votes, by_class, abstains, overlaps, conflicts)
    if wrong >= 0:
        return wrong, total_bits
    n, n_classes = probabilities.shape
    best = np.empty(n, dtype=np.int64)
    for i in range(n):
        top = 0
        bits = 0.0
        for k in range(n_classes):
            p = probabilities[i, k]
            class_mass[k] += np.rint(p * _GRID) / _GRID
            if p > probabilities[i, top]:
                top = k
            p = max(p, _FLOOR)
            bits += p * np.log2(p)
        best[i] = top
        labels[stage[i], top] += 1
        bits = np.rint(-bits * _GRID) / _GRID
        total_bits += bits
        entropies[np.searchsorted(bounds_bits, bits)] += 1
    _disagree(votes, best, disagreements)
    return wrong, total_bits
