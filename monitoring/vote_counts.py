"""Count a block of votes per labeling function in one pass."""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn

import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.binning import best_of
from monitoring.counts import ENTROPY_BOUNDS_BITS, TaskCounts
from monitoring.sparse_votes import SparseVotes, sparse_votes

__all__ = ["VoteCounts", "count_labels", "count_votes"]


class VoteCounts(NamedTuple):
    """Counts of a block, one row or entry per labeling function (int64).

    ``overlaps``: examples where it votes and at least one other votes. ``conflicts``: where it
    votes and another votes differently. The names are those of `monitoring.counts.TaskCounts`.
    """

    votes: NDArray[np.int64]
    abstains: NDArray[np.int64]
    overlaps: NDArray[np.int64]
    conflicts: NDArray[np.int64]


# What a vote comes to: it is alone, others say the same, or another differs; then the same of
# votes against the best class.
_TOGETHER: Final = 1
_DISPUTED: Final = 2
_OUTCOMES: Final = 3


@njit(cache=True, nogil=True)
def _count(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    votes: NDArray[np.int8],
    best: NDArray[np.int64],
    by_class: NDArray[np.int64],
    abstains: NDArray[np.int64],
    overlaps: NDArray[np.int64],
    conflicts: NDArray[np.int64],
    disagreements: NDArray[np.int64],
) -> int:
    """Add the votes of `SparseVotes`; return the position of one for no class, −1 without any."""
    n = len(starts) - 1
    m, k = by_class.shape
    # Two additions a vote instead of five.
    outcomes = np.zeros((m, 2 * _OUTCOMES), dtype=np.int64)
    for i in range(n):
        first, end = starts[i], starts[i + 1]
        outcome = _TOGETHER if end > first + 1 else 0
        for at in range(first + 1, end):
            outcome = _DISPUTED if votes[at] != votes[first] else outcome
        for at in range(first, end):
            j, vote = columns[at], votes[at]
            if vote >= k:
                wrong: int = at
                return wrong
            by_class[j, vote] += 1
            outcomes[j, outcome + (_OUTCOMES if vote != best[i] else 0)] += 1
    for j in range(m):
        conflict = outcomes[j, _DISPUTED] + outcomes[j, _OUTCOMES + _DISPUTED]
        overlap = conflict + outcomes[j, _TOGETHER] + outcomes[j, _OUTCOMES + _TOGETHER]
        abstains[j] += n - overlap - outcomes[j, 0] - outcomes[j, _OUTCOMES]
        overlaps[j] += overlap
        conflicts[j] += conflict
        disagreements[j] += outcomes[j, _OUTCOMES:].sum()
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
    cast = sparse_votes(votes)
    unknown, unused = np.zeros(len(votes), dtype=np.int64), np.zeros(m, dtype=np.int64)
    wrong = _count(*cast[1:], unknown, *counts, unused)
    if wrong >= 0:
        _refuse(cast, wrong, n_classes)
    return counts


def _refuse(votes: SparseVotes, position: int, n_classes: int) -> NoReturn:
    row = int(np.searchsorted(votes.starts, position, side="right")) - 1
    raise ValueError(
        f"vote {votes.votes[position]} at row {row}, column {votes.columns[position]}: "
        f"allowed are -1 (abstain) to {n_classes - 1}"
    )


_BOUNDS_BITS: Final = np.array(ENTROPY_BOUNDS_BITS)
_FLOOR: Final = 1e-12
_GRID: Final = 2.0**20


def count_labels(
    counts: TaskCounts,
    class_mass: NDArray[np.float64],
    votes: SparseVotes,
    probabilities: NDArray[np.float64],
    stage: NDArray[np.int8],
) -> None:
    """Count a block of published labels: votes, disagreements, stages, entropies.

    A function disagrees where it votes for another class than the most probable one, of equals the
    first. Probabilities and entropies are added on a grid of 2⁻²⁰, where sums are exact and do not
    depend on how the stream was cut.

    Parameters
    ----------
    counts
        Grows.
    class_mass
        Sum of the probabilities of each class, (K,); grows.
    votes, probabilities, stage
        Votes of n rows, shape (n, K), and (n,), positions in `monitoring.counts.STAGES`.

    Raises
    ------
    ValueError
        A vote names a class that does not exist.

    Examples
    --------
    >>> counts = TaskCounts(("negative", "positive"), ("clicked",))
    >>> mass = np.zeros(2)
    >>> votes = sparse_votes(np.array([[0], [1]], dtype=np.int8))
    >>> stage = np.array([1, 1], dtype=np.int8)
    >>> count_labels(counts, mass, votes, np.array([[0.25, 0.75], [0.5, 0.5]]), stage)
    >>> counts.labels[1].tolist(), counts.disagreements.tolist(), mass.tolist()
    ([1, 1], [2], [0.75, 1.25])
    """
    entropy = counts.entropy_bits
    wrong, bits = _count_labels(
        votes.starts,
        votes.columns,
        votes.votes,
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
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
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
    best = best_of(probabilities)[0]
    wrong = _count(
        starts, columns, votes, best, by_class, abstains, overlaps, conflicts, disagreements
    )
    if wrong >= 0:
        return wrong, total_bits
    n, n_classes = probabilities.shape
    for i in range(n):
        bits = 0.0
        for k in range(n_classes):
            p = probabilities[i, k]
            class_mass[k] += np.rint(p * _GRID) / _GRID
            p = max(p, _FLOOR)
            bits += p * np.log2(p)
        labels[stage[i], best[i]] += 1
        bits = np.rint(-bits * _GRID) / _GRID
        total_bits += bits
        entropies[np.searchsorted(bounds_bits, bits)] += 1
    return wrong, total_bits
