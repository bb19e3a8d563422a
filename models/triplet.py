"""FlyingSquid's triplet estimate of binary accuracies: a cross-check with no iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TripletModel", "triplet_accuracies"]

FloatArray = npt.NDArray[np.float64]
SIGNS = 2


def triplet_accuracies(moments: FloatArray, counts: FloatArray) -> FloatArray:
    """Return each column's P(vote = class | voted) from products of signed votes.

    *Math* — for conditionally independent votes in {−1, +1}, E[λi λj] = ai aj, so that
    |ai| = √(E[λi λj] E[λi λk] / E[λj λk]); the median over all pairs (j, k), with ai > 0.

    Parameters
    ----------
    moments, counts
        (m, m) sums of products over examples where both voted, and numbers of those examples.

    *Complexity* — m³.

    References
    ----------
    Fu et al., *Fast and three-rious* (2020), algorithm 1; median of triplets, not the mean.
    """
    m = len(moments)
    mean = moments / np.maximum(counts, 1.0)
    out = np.full(m, 0.5)
    for i in range(m):
        others = np.array([j for j in range(m) if j != i and counts[i, j] > 0], dtype=np.int64)
        if len(others) < SIGNS:
            continue
        j, k = np.triu_indices(len(others), 1)
        below = mean[others[j], others[k]]
        usable = (np.abs(below) > 1e-3) & (counts[others[j], others[k]] > 0)  # noqa: PLR2004
        if not usable.any():
            continue
        above = mean[i, others[j]] * mean[i, others[k]]
        edge = np.sqrt(np.abs(above[usable] / below[usable]))
        out[i] = (1.0 + min(float(np.median(edge)), 1.0)) / 2.0
    return out


class TripletModel:
    """Label binary examples with triplet accuracies, from sums that add up over partitions."""

    def __init__(self, classes: Sequence[str], n_columns: int) -> None:
        if len(classes) != SIGNS:
            message = f"the triplet estimate is for two classes, not {len(classes)}"
            raise ValueError(message)
        self.classes = tuple(classes)
        self.moments: FloatArray = np.zeros((n_columns, n_columns))
        self.counts: FloatArray = np.zeros((n_columns, n_columns))

    def learn_many(self, votes: npt.ArrayLike) -> None:
        """Add (n, m) votes, -1 abstaining."""
        signed = self._signed(votes)
        cast = np.abs(signed)
        self.moments += signed.T @ signed
        self.counts += cast.T @ cast

    def accuracies(self) -> FloatArray:
        """Return each column's accuracy where it votes."""
        return triplet_accuracies(self.moments, self.counts)

    def predict_proba_many(self, votes: npt.ArrayLike) -> FloatArray:
        """Return (n, 2) probabilities, both classes being equally frequent."""
        accuracy = np.clip(self.accuracies(), 0.01, 0.99)
        score = self._signed(votes) @ np.log(accuracy / (1.0 - accuracy))
        positive = 1.0 / (1.0 + np.exp(-np.clip(score, -500.0, 500.0)))
        return np.stack([1.0 - positive, positive], axis=1)

    def summary(self) -> dict[str, Any]:
        """Return the accuracies, in plain values."""
        return {"accuracy": self.accuracies().tolist()}

    @staticmethod
    def _signed(votes: npt.ArrayLike) -> FloatArray:
        matrix = np.asarray(votes, dtype=np.int64)
        return np.where(matrix < 0, 0.0, 2.0 * matrix - 1.0)
