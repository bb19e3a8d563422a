"""How good the labels are: what gold says of them, as sums that add across partitions."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.formats import refuse_newer

__all__ = ["LabelQuality"]

_FORMAT = 2
_BINS = 10
_FLOOR = 1e-12


class LabelQuality:
    """Sums over the labels and the gold answers of one task.

    Gold is scored against the probabilities that stood before it arrived, so the figures are
    prequential. `monitoring.vote_counts` adds the labels to ``class_mass``, exactly.

    Parameters
    ----------
    classes, lfs
        Names of the task's classes, and ``name@version`` of its labeling functions.

    *State* — O(classes + labeling functions).
    """

    def __init__(self, classes: Sequence[str], lfs: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.lfs = tuple(lfs)
        self.labels = 0
        self.class_mass = np.zeros(len(self.classes))
        self.n = 0
        self.correct = 0
        self.log_loss = 0.0
        self.brier = 0.0
        self.unmatched = 0
        self.bins = np.zeros((_BINS, 3))
        self.lf_gold = np.zeros((len(self.lfs), 2), dtype=np.int64)

    def answer(self, proba: NDArray[np.float64], votes: NDArray[np.int8], label: int) -> None:
        """Score one example's probabilities (K,) and votes (m,) against its gold label."""
        best = int(proba.argmax())
        confidence = float(proba[best])
        right = best == label
        self.n += 1
        self.correct += int(right)
        self.log_loss -= log(max(float(proba[label]), _FLOOR))
        self.brier += float(sum((float(p) - (k == label)) ** 2 for k, p in enumerate(proba)))
        self.bins[min(int(confidence * _BINS), _BINS - 1)] += (1.0, confidence, float(right))
        voted = votes >= 0
        self.lf_gold[:, 0] += voted
        self.lf_gold[:, 1] += voted & (votes == label)

    def add(self, other: LabelQuality) -> None:
        """Add another partition's sums, of the same classes and functions."""
        self._add_common(other)
        self.lf_gold += other.lf_gold

    def _add_common(self, other: LabelQuality) -> None:
        self.labels += other.labels
        self.class_mass += other.class_mass
        self.n += other.n
        self.correct += other.correct
        self.log_loss += other.log_loss
        self.brier += other.brier
        self.unmatched += other.unmatched
        self.bins += other.bins

    def gold(self) -> dict[str, float | int | None]:
        """Return what the report says about gold; ratios are None without any."""
        n = self.n
        if n == 0:
            return {"n": 0, "accuracy": None, "log_loss": None, "brier": None, "ece": None}
        gaps = np.abs(self.bins[:, 1] - self.bins[:, 2]).sum() / n
        return {
            "n": n,
            "accuracy": self.correct / n,
            "log_loss": self.log_loss / n,
            "brier": self.brier / n,
            "ece": float(gaps),
        }

    def with_lfs(self, lfs: Sequence[str]) -> LabelQuality:
        """Return the same sums for other functions: each keeps its own, new ones have none."""
        made = LabelQuality(self.classes, lfs)
        columns = {name: column for column, name in enumerate(self.lfs)}
        made._add_common(self)
        for column, name in enumerate(made.lfs):
            if name in columns:
                made.lf_gold[column] = self.lf_gold[columns[name]]
        return made

    def class_share(self, classes: tuple[str, ...]) -> dict[str, float | None]:
        """Return the mean probability of each class over all labels."""
        total = self.labels
        return {
            name: float(mass) / total if total else None
            for name, mass in zip(classes, self.class_mass, strict=True)
        }

    def to_bytes(self) -> bytes:
        """Return the sums as versioned bytes."""
        return msgspec.msgpack.encode(
            (
                _FORMAT,
                self.labels,
                self.class_mass.tolist(),
                self.n,
                self.correct,
                self.log_loss,
                self.brier,
                self.unmatched,
                self.bins.tolist(),
                self.lf_gold.tolist(),
                self.classes,
                self.lfs,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LabelQuality:
        """Return the sums that were written.

        Those of format 1 did not say of which classes and functions they were: they are of none.

        Raises
        ------
        ValueError
            If they are of a newer format than this program reads.
        """
        stored: tuple[Any, ...] = tuple(msgspec.msgpack.decode(data))
        refuse_newer("label quality", stored[0], _FORMAT)
        if stored[0] == 1:
            return cls((), ())
        made = cls(stored[10], stored[11])
        made.labels, made.n, made.correct = stored[1], stored[3], stored[4]
        made.class_mass = np.asarray(stored[2], dtype=np.float64)
        made.log_loss, made.brier, made.unmatched = stored[5], stored[6], stored[7]
        made.bins = np.asarray(stored[8], dtype=np.float64)
        made.lf_gold = np.asarray(stored[9], dtype=np.int64).reshape(-1, 2)
        return made
