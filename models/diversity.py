"""Order items so that a slate is not ten times the same thing (maximal marginal relevance)."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["intra_list_diversity", "marginal_relevance", "overlaps"]


def overlaps(features: Sequence[frozenset[str]]) -> NDArray[np.float64]:
    """Return how alike items are, (n, n): features in common over all features (Jaccard).

    Items without features are like none.

    Examples
    --------
    >>> overlaps([frozenset("ab"), frozenset("bc"), frozenset()])[0].round(2).tolist()
    [1.0, 0.33, 0.0]
    """
    columns: dict[str, int] = {}
    rows: list[int] = []
    places: list[int] = []
    for row, names in enumerate(features):
        for name in names:
            rows.append(row)
            places.append(columns.setdefault(name, len(columns)))
    table = np.zeros((len(features), max(1, len(columns))), np.float32)
    table[rows, places] = 1.0
    common = (table @ table.T).astype(np.float64)
    sizes = common.diagonal()
    union = sizes[:, None] + sizes[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0.0)


def marginal_relevance(
    scores: ArrayLike, similarity: NDArray[np.float64], k: int, diversity: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return all items in a new order with the value of each, never rising; the first ``k`` count.

    Parameters
    ----------
    scores
        At least 0, higher is better, shape (n,).
    similarity
        From 0 to 1, shape (n, n).
    k
        Places that are filled one after another; what is left follows by its value then.
    diversity
        0: by score alone; 1: by difference alone.

    Math
    ----
    The next item is the one of highest (1 − d)·score / highest score − d·(highest similarity to
    an item before it). Equal ones keep their order.

    *Complexity* — O(k · n).

    References
    ----------
    Carbonell and Goldstein (1998), "The use of MMR".

    Examples
    --------
    >>> alike = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> marginal_relevance([1.0, 0.9, 0.5], alike, 2, 0.5)[0].tolist()
    [0, 2, 1]
    """
    values = np.asarray(scores, np.float64)
    if not 0.0 <= diversity <= 1.0:
        raise ValueError(f"diversity should be from 0 to 1; found {diversity}")
    highest = values.max(initial=0.0)
    relevance = values / highest if highest > 0.0 else np.zeros_like(values)
    order, value = _greedy(relevance, np.ascontiguousarray(similarity), int(k), float(diversity))
    return order, np.minimum.accumulate(value)


@numba.njit(cache=True)
def _greedy(
    relevance: NDArray[np.float64], similarity: NDArray[np.float64], k: int, diversity: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    n = relevance.size
    closest = np.zeros(n)
    left = np.ones(n, np.bool_)
    order = np.empty(n, np.int64)
    value = np.empty(n)
    marginal = (1.0 - diversity) * relevance
    placed = min(k, n)
    for place in range(placed):
        best = -1
        for i in range(n):
            if left[i] and (best < 0 or marginal[i] > marginal[best]):
                best = i
        order[place] = best
        value[place] = marginal[best]
        left[best] = False
        for i in range(n):
            if left[i] and similarity[best, i] > closest[i]:
                closest[i] = similarity[best, i]
                marginal[i] = (1.0 - diversity) * relevance[i] - diversity * closest[i]
    rest = np.flatnonzero(left)
    by_value = rest[np.argsort(-marginal[rest], kind="mergesort")]
    order[placed:] = by_value
    value[placed:] = marginal[by_value]
    return order, value


def intra_list_diversity(similarity: NDArray[np.float64]) -> float:
    """Return 1 minus the mean similarity of the pairs of a slate, (n, n); 1 below two items.

    Examples
    --------
    >>> intra_list_diversity(np.array([[1.0, 0.5], [0.5, 1.0]]))
    0.5
    """
    n = len(similarity)
    if n < 2:  # noqa: PLR2004 - a pair has two items
        return 1.0
    return float(1.0 - (similarity.sum() - np.trace(similarity)) / (n * (n - 1)))
