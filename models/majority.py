"""Majority vote: the baseline that every label model must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MajorityVote"]


class MajorityVote:
    """Share of the votes cast for each class; the uniform distribution where nobody votes.

    Examples
    --------
    >>> MajorityVote(["no", "yes"]).predict_proba_many([[1, 1, 0, -1], [-1, -1, -1, -1]]).round(2)
    array([[0.33, 0.67],
           [0.5 , 0.5 ]])
    """

    def __init__(self, classes: Sequence[str], lfs: Sequence[str] = ()) -> None:
        self.classes = tuple(classes)
        self.lf_names = tuple(lfs)

    def learn_many(self, votes: npt.ArrayLike) -> None:
        """Learn nothing: a vote is a vote."""

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Learn nothing: a vote is a vote."""

    def predict_proba_many(self, votes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return (n, K) shares of (n, m) votes, -1 abstaining."""
        matrix = np.asarray(votes, dtype=np.int64)
        counts = np.stack(
            [(matrix == k).sum(axis=1) for k in range(len(self.classes))], axis=1
        ).astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        uniform = 1.0 / len(self.classes)
        return np.where(total > 0, counts / np.maximum(total, 1.0), uniform)

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the share of each class, given a mapping of column to class."""
        cast = [vote for vote in x.values() if vote in self.classes]
        if not cast:
            return dict.fromkeys(self.classes, 1.0 / len(self.classes))
        return {name: cast.count(name) / len(cast) for name in self.classes}

    def summary(self) -> dict[str, Any]:
        """Return the names of the classes: there is nothing else to tell."""
        return {"classes": list(self.classes)}
