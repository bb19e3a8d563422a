"""Batch Dawid-Skene by expectation-maximisation: the classic that sees all votes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DawidSkene"]

FloatArray = npt.NDArray[np.float64]


class DawidSkene:
    """Estimate a confusion matrix for each annotator, and the class balance, from all votes.

    *Math* — E: r_k ∝ π_k Π_w θ_w(l_w|k). M: θ_w(l|k) ∝ Σ r_k [l_w = l] + smoothing.

    Parameters
    ----------
    classes
        Names of the classes.
    iterations, tolerance
        EM stops after so many rounds, or when no posterior moves by more than the tolerance.
    smoothing
        Pseudo-votes in each cell, so that no estimate is 0.

    *Complexity* — iterations × votes × K.

    References
    ----------
    Dawid and Skene (1979), eq. 2.3 to 2.5; started from majority vote, as there.
    """

    def __init__(
        self,
        classes: Sequence[str],
        iterations: int = 100,
        tolerance: float = 1e-5,
        smoothing: float = 0.01,
    ) -> None:
        self.classes = tuple(classes)
        self.iterations = iterations
        self.tolerance = tolerance
        self.smoothing = smoothing
        self.confusion: FloatArray = np.zeros((0, len(classes), len(classes)))
        self.balance: FloatArray = np.full(len(classes), 1.0 / len(classes))

    def fit(self, votes: npt.ArrayLike) -> FloatArray:
        """Fit to (n, m) votes, -1 abstaining, and return their (n, K) posteriors."""
        matrix = np.asarray(votes, dtype=np.int64)
        n, m = matrix.shape
        k_n = len(self.classes)
        rows, columns = np.nonzero(matrix >= 0)
        cell = columns * k_n + matrix[rows, columns]
        counts = np.zeros((n, k_n))
        np.add.at(counts, (rows, matrix[rows, columns]), 1.0)
        posterior = (counts + 1e-9) / (counts + 1e-9).sum(axis=1, keepdims=True)
        for _ in range(self.iterations):
            self.balance = posterior.mean(axis=0) if n else self.balance
            table = np.stack(
                [np.bincount(cell, posterior[rows, k], minlength=m * k_n) for k in range(k_n)],
                axis=1,
            ).reshape(m, k_n, k_n)
            smooth = table + self.smoothing
            self.confusion = smooth / smooth.sum(axis=1, keepdims=True)
            new = self._posterior(rows, cell, n)
            moved = float(np.abs(new - posterior).max()) if n else 0.0
            posterior = new
            if moved < self.tolerance:
                break
        return np.asarray(posterior)

    def predict_proba_many(self, votes: npt.ArrayLike) -> FloatArray:
        """Return (n, K) posteriors of (n, m) votes under what was fitted."""
        matrix = np.asarray(votes, dtype=np.int64)
        rows, columns = np.nonzero(matrix >= 0)
        cell = columns * len(self.classes) + matrix[rows, columns]
        return self._posterior(rows, cell, len(matrix))

    def _posterior(
        self, rows: npt.NDArray[np.int64], cell: npt.NDArray[np.int64], n: int
    ) -> FloatArray:
        k_n = len(self.classes)
        likelihood = np.log(self.confusion).reshape(-1, k_n)
        score = np.tile(np.log(np.maximum(self.balance, 1e-12)), (n, 1))
        for k in range(k_n):
            score[:, k] += np.bincount(rows, likelihood[cell, k], minlength=n)
        score -= score.max(axis=1, keepdims=True)
        proba = np.exp(score)
        return np.asarray(proba / proba.sum(axis=1, keepdims=True))

    def summary(self) -> dict[str, Any]:
        """Return the class balance and each column's accuracy, in plain values."""
        right = np.einsum("wkk,k->w", self.confusion, self.balance)
        return {
            "class_balance": dict(zip(self.classes, self.balance.tolist(), strict=True)),
            "accuracy": right.tolist(),
        }
