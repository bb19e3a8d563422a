"""What a recommender learned that belongs to no item: sums, which partitions add up."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import EXPERTS, LAGS, Config
from models.recommender.tables import CONTEXTS, RATIOS, Tables, Total

__all__ = ["NO_SUMS", "Epochs", "Sums", "completed"]

_SLOW = ("lag_hits", "lag_seen", "lag_expected", "evidence", "gains", "again")
_AGAIN = 2 * RATIOS
_WITHOUT_AGAIN = (2 * CONTEXTS + 3) * LAGS + CONTEXTS * (2 * len(EXPERTS) + 1)


class Epochs(NamedTuple):
    """When an event counted one: in what decays slowly, and in what decays fast."""

    slow: float
    fresh: float


class Sums(NamedTuple):
    """The sums as runs of numbers, in units of their epochs; none yet: empty."""

    epochs: Epochs
    slow: NDArray[np.float64]
    fresh: NDArray[np.float64]

    def at(self, epochs: Epochs, config: Config) -> Sums:
        """Return the same in units of other epochs."""
        if epochs == self.epochs:
            return self
        return Sums(
            epochs,
            _moved(self.slow, self.epochs.slow, epochs.slow, config.half_life_s),
            _moved(self.fresh, self.epochs.fresh, epochs.fresh, config.fresh_half_life_s),
        )

    def plus(self, later: Sums, earlier: Sums, config: Config) -> Sums:
        """Return these and what others grew by between two moments, in units of these."""
        if not len(later.slow):
            # Others met new items and learned nothing yet.
            return self
        epochs = later.epochs if np.isnan(self.epochs.slow) else self.epochs
        slow, fresh = later.slow, later.fresh
        if len(earlier.slow):
            before = earlier.at(later.epochs, config)
            slow, fresh = slow - before.slow, fresh - before.fresh
        grown = Sums(later.epochs, slow, fresh).at(epochs, config)
        if not len(self.slow):
            return grown
        return Sums(epochs, self.slow + grown.slow, self.fresh + grown.fresh)

    @classmethod
    def of(cls, tables: Tables) -> Self:
        """Return a copy of the sums that tables hold."""
        slow = np.concatenate([getattr(tables, name).reshape(-1) for name in _SLOW])
        return cls(epochs_of(tables), slow, tables.borrowed.reshape(-1).copy())

    def put(self, tables: Tables, config: Config) -> None:
        """Replace the sums that tables hold."""
        moved = self.at(epochs_of(tables), config)
        start = 0
        for name in _SLOW:
            array = getattr(tables, name)
            array[...] = moved.slow[start : start + array.size].reshape(array.shape)
            start += array.size
        tables.borrowed[...] = moved.fresh.reshape(tables.borrowed.shape)


NO_SUMS = Sums(Epochs(float("nan"), float("nan")), np.zeros(0), np.zeros(0))
"""Sums of whoever has learned nothing."""


def completed(slow: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return slow sums of an earlier program with nothing in what it did not count."""
    return np.append(slow, np.zeros(_AGAIN)) if len(slow) == _WITHOUT_AGAIN else slow


def epochs_of(tables: Tables) -> Epochs:
    """Return the epochs that tables count from."""
    totals = tables.totals
    return Epochs(float(totals[Total.COUNT_EPOCH]), float(totals[Total.FRESH_EPOCH]))


def _moved(
    values: NDArray[np.float64], epoch: float, to: float, half_life_s: float
) -> NDArray[np.float64]:
    if epoch == to or np.isnan(epoch):
        return values
    factor = float(np.exp2((epoch - to) / half_life_s))
    return values * factor
