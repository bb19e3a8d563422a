"""Protocols that the learners of Headrace share."""

from __future__ import annotations

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["ABSTAIN", "Contributor", "LabelEstimator", "Snapshot"]

ABSTAIN = -1
"""A vote of a labeling function that has nothing to say."""


@runtime_checkable
class Snapshot(Protocol):
    """State as versioned bytes: restore(snapshot(m)) is bit for bit equal to m."""

    def to_bytes(self) -> bytes:
        """Return the whole state."""
        ...

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the model whose state this is; refuse bytes of a newer version."""
        ...


@runtime_checkable
class Contributor(Protocol):
    """A model whose global part is a sum of the partitions' contributions."""

    def own_stats(self) -> bytes:
        """Return this partition's own contribution."""
        ...

    def set_others(self, data: bytes | None) -> None:
        """Replace what is known of the other partitions, from the next block start on."""
        ...

    @staticmethod
    def merge_stats(contributions: list[bytes]) -> bytes | None:
        """Return the sum of contributions: associative and commutative."""
        ...


@runtime_checkable
class LabelEstimator(Protocol):
    """Turns votes of labeling functions into class probabilities."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        ...

    def predict_proba_many(self, votes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return (n, K) probabilities for (n, m) votes, -1 abstaining; change nothing."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return what was learned, in plain values."""
        ...
