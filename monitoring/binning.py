"""Numbers as categories, and probabilities as classes: what drift detection is told of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["best_of", "bin_numbers"]


@njit(cache=True, nogil=True)
def bin_numbers(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[Any]:
    """Return the bin of each value, int8: 0 if it is NaN, else 1 + the edges below it."""
    codes = np.empty(len(values), dtype=np.int8)
    for i in range(len(values)):
        value = values[i]
        code = 0 if np.isnan(value) else 1
        for edge in range(len(edges)):
            code += 1 if value > edges[edge] else 0
        codes[i] = code
    return codes


@njit(cache=True, nogil=True)
def best_of(proba: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the most probable class of each row of probabilities (n, K), and how probable it is.

    Of equals the first.
    """
    n, k = proba.shape
    best = np.zeros(n, dtype=np.int64)
    confidence = np.empty(n)
    for i in range(n):
        highest = proba[i, 0]
        top = 0
        for c in range(1, k):
            value = proba[i, c]
            top = c if value > highest else top
            highest = max(value, highest)
        best[i] = top
        confidence[i] = highest
    return best, confidence
