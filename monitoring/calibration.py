"""How far probabilities can be trusted lately: against gold, and without any."""

from __future__ import annotations

from math import sqrt
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["CONFIDENCE_EDGES", "LabelCalibration", "Trust"]

CONFIDENCE_EDGES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Upper ends of the bins in which the confidence of labels is watched for drift."""

_FORMAT: Final = 1
_BINS: Final = 10
# Rows of a bin: weight, confidence, right, squared weight.
_GOLD_ROWS: Final = 4


class Trust(NamedTuple):
    """What is known of the labels of late.

    ``estimated_accuracy``: mean confidence, the accuracy of calibrated labels (None: no labels).
    ``gold_accuracy``, ``calibration_error``: on gold; ``error_floor``: what the calibration error
    would be of perfectly calibrated probabilities with as many answers (None: no gold).
    """

    estimated_accuracy: float | None
    gold_accuracy: float | None
    calibration_error: float | None
    error_floor: float | None


@njit(cache=True, nogil=True)
def _observe(confidence: NDArray[np.float64], decay: float, sums: NDArray[np.float64]) -> None:
    for value in confidence:
        sums[0] = sums[0] * decay + 1.0
        sums[1] = sums[1] * decay + value


class LabelCalibration:
    """Decayed confidence of labels, and decayed calibration against gold answers.

    Parameters
    ----------
    half_life
        In labels, and in gold answers: each has its own clock.

    *State* — 42 numbers; sums, which add across partitions (`add`).

    Examples
    --------
    >>> recent = LabelCalibration()
    >>> recent.observe(np.array([[0.1, 0.9], [0.3, 0.7]]))
    >>> round(recent.trust().estimated_accuracy, 3)
    0.8
    """

    def __init__(self, half_life: float = 1000.0) -> None:
        self._decay = 2.0 ** (-1.0 / half_life)
        self._labels = np.zeros(2)
        self._gold = np.zeros((_BINS, _GOLD_ROWS))

    def observe(self, proba: NDArray[np.float64]) -> None:
        """Take labels in, (n, K), in the order of the stream."""
        self.observe_confidence(proba.max(axis=1))

    def observe_confidence(self, confidence: NDArray[np.float64]) -> None:
        """Take labels in of which the highest probability of each is known, (n,)."""
        _observe(np.ascontiguousarray(confidence), self._decay, self._labels)

    def answer(self, proba: NDArray[np.float64], label: int) -> None:
        """Score the probabilities (K,) that stood before an answer against it."""
        best = int(proba.argmax())
        confidence = float(proba[best])
        self._gold[:, :3] *= self._decay
        self._gold[:, 3] *= self._decay**2
        row = self._gold[min(int(confidence * _BINS), _BINS - 1)]
        row += (1.0, confidence, float(best == label), 1.0)

    def add(self, other: LabelCalibration) -> None:
        """Add another partition's sums."""
        self._labels += other._labels
        self._gold += other._gold

    def copy(self) -> LabelCalibration:
        """Return the same sums, which no longer change with these."""
        return LabelCalibration.from_bytes(self.to_bytes())

    def trust(self) -> Trust:
        """Return what the sums say."""
        labels, confidence = self._labels.tolist()
        estimated = confidence / labels if labels > 0.0 else None
        weight = float(self._gold[:, 0].sum())
        if weight <= 0.0:
            return Trust(estimated, None, None, None)
        used = self._gold[self._gold[:, 0] > 0.0]
        error = float(np.abs(used[:, 1] - used[:, 2]).sum()) / weight
        # E|mean of n errors| of a calibrated bin: its standard deviation times √(2/π).
        mean = used[:, 1] / used[:, 0]
        deviation = np.sqrt(mean * (1.0 - mean) * used[:, 3])
        floor = sqrt(2.0 / np.pi) * float(deviation.sum()) / weight
        return Trust(estimated, float(self._gold[:, 2].sum()) / weight, error, floor)

    def to_bytes(self) -> bytes:
        """Return the sums as versioned bytes."""
        return msgspec.msgpack.encode(
            (_FORMAT, self._decay, self._labels.tobytes(), self._gold.tobytes())
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LabelCalibration:
        """Return the sums that were written; ValueError if they are of a newer format."""
        stored: list[Any] = msgspec.msgpack.decode(data)
        if stored[0] > _FORMAT:
            raise ValueError(
                f"calibration has format {stored[0]}, this program reads up to {_FORMAT}"
            )
        made = cls()
        made._decay = float(stored[1])
        made._labels = np.frombuffer(stored[2], dtype=np.float64).copy()
        made._gold = np.frombuffer(stored[3], dtype=np.float64).reshape(_BINS, _GOLD_ROWS).copy()
        return made
