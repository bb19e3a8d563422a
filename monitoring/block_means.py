"""Means of blocks of drift's signals, kept for detectors that look on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockMeans"]

_KEPT: Final = 1024
_TOGETHER: Final = 4


class BlockMeans:
    """What was closed lately, in the order of each signal's values; no part of any state.

    Examples
    --------
    >>> kept = BlockMeans()
    >>> for mean in (0.0, 0.5, 1.0, 0.5, 0.25):
    ...     kept.keep(np.array([0, 1]), np.array([mean, 0.75]))
    >>> list(kept.drain(np.array([True, False])))
    [(0, 0.5)]
    """

    def __init__(self) -> None:
        self._blocks: deque[tuple[NDArray[np.int64], NDArray[np.float64]]] = deque(maxlen=_KEPT)
        self._rest: tuple[NDArray[np.int64], NDArray[np.float64]] = (
            np.zeros(0, dtype=np.int64),
            np.zeros(0),
        )

    def keep(self, signals: NDArray[np.int64], means: NDArray[np.float64]) -> None:
        """Keep a copy of blocks: the signal of each, and the mean of its codes on 0 to 1."""
        self._blocks.append((signals.copy(), means.copy()))

    def drain(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, float]]:
        """Yield the mean of every four blocks of a signal, of those kept since the last call.

        Those of wanted signals, that is: one flag each, in the order of the signals.
        """
        signals, means = map(np.concatenate, zip(self._rest, *self._blocks, strict=True))
        self._blocks.clear()
        chosen = np.flatnonzero(wanted[signals])
        chosen = chosen[np.argsort(signals[chosen], kind="stable")]
        signals, means = signals[chosen], means[chosen]
        place = np.arange(len(signals)) - np.searchsorted(signals, signals)
        whole = place < (np.bincount(signals) // _TOGETHER * _TOGETHER)[signals]
        self._rest = signals[~whole], means[~whole]
        of_four = means[whole].reshape(-1, _TOGETHER).mean(axis=1)
        yield from zip(signals[whole][::_TOGETHER].tolist(), of_four.tolist(), strict=True)
