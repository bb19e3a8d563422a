"""How well a head predicted, scored before it learned, while outcomes are still due."""

from __future__ import annotations

from math import log
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.formats import refuse_newer
from models.rewards.kernels import ARRIVED, EXPOSED, UNDONE

__all__ = ["HeadScore"]

_FORMAT: Final = 1
_GRID: Final = 2.0**20
_FLOOR: Final = 1e-12


class HeadScore:
    """Sums over predictions made at the exposure; additive across partitions.

    An exposure is scored as one without the outcome, and scored again when the outcome arrives or
    is undone, by what was predicted at first. Sums lie on a grid of 2⁻²⁰, where additions are
    exact: they do not depend on how the stream was cut.
    """

    def __init__(self) -> None:
        self.n = 0
        self.positives = 0
        self._loss = 0
        self._predicted = 0

    def observe(self, kind: NDArray[np.int8], p0: NDArray[np.float64]) -> None:
        """Score rows, each (n,): what happened, and what was predicted at the exposure."""
        # As it is kept with an exposure: in half the digits.
        kept = p0.astype(np.float32).astype(np.float64)
        p = np.minimum(np.maximum(kept, _FLOOR), 1.0 - _FLOOR)
        negative = -np.log1p(-p)
        exposed = kind == EXPOSED
        n = int(np.count_nonzero(exposed))
        # Usually all of them: nothing to choose then.
        at_once = (negative, p) if n == len(kind) else (negative[exposed], p[exposed])
        loss, predicted = (int(np.rint(part * _GRID).sum()) for part in at_once)
        self._loss += loss
        self._predicted += predicted
        self.n += n
        if n == len(kind):
            return
        for told, sign in ((kind == ARRIVED, 1), (kind == UNDONE, -1)):
            if told.any():
                switch = -np.log(p[told]) - negative[told]
                self._loss += sign * int(np.rint(switch * _GRID).sum())
                self.positives += sign * int(np.count_nonzero(told))

    @property
    def log_loss(self) -> float | None:
        """Return the mean log-loss, outcomes so far; None without exposures."""
        return self._loss / _GRID / self.n if self.n else None

    @property
    def calibration(self) -> float | None:
        """Return predicted / seen outcomes; None without any. Above 1 while some are due."""
        return self._predicted / _GRID / self.positives if self.positives > 0 else None

    @property
    def base_log_loss(self) -> float | None:
        """Return the log-loss of always predicting the rate that was seen in the end."""
        if not 0 < self.positives < self.n:
            return None
        rate = self.positives / self.n
        return -(rate * log(rate) + (1.0 - rate) * log(1.0 - rate))

    def add(self, other: HeadScore) -> None:
        """Add another partition's sums."""
        self.n += other.n
        self.positives += other.positives
        self._loss += other._loss
        self._predicted += other._predicted

    def to_bytes(self) -> bytes:
        """Return the sums as versioned bytes."""
        return msgspec.msgpack.encode(
            (_FORMAT, self.n, self.positives, self._loss, self._predicted)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the sums that were written.

        Raises
        ------
        ValueError
            If they are of a newer format than this program reads.
        """
        stored: list[Any] = msgspec.msgpack.decode(data)
        refuse_newer("a head's score", stored[0], _FORMAT)
        made = cls()
        made.n, made.positives, made._loss, made._predicted = stored[1:5]
        return made
