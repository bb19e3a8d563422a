"""Histories of people as the recommender takes them, and as they are kept: only what is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.recommender import width_for

__all__ = ["pack", "unpack"]

Items = NDArray[np.int32]
Weights = NDArray[np.float32]


def unpack(
    packed: Sequence[bytes], lengths: NDArray[np.int32], rows: NDArray[np.int32]
) -> tuple[Items, Weights]:
    """Return items and weights, each (u, h), newest first; -1 and 0 beyond the length.

    A packed history is its items (int32), then its weights (float32). There is room for one item
    more every time that ``rows`` names a user, as far as a history goes.

    Examples
    --------
    >>> one = np.array([7, 5], "<i4").tobytes() + np.array([1.0, 0.5], "<f4").tobytes()
    >>> lengths = np.array([2, 0], dtype=np.int32)
    >>> items, weights = unpack([one, b""], lengths, np.array([0, 1, 0]))
    >>> items.tolist(), weights[0].tolist()
    ([[7, 5, -1, -1], [-1, -1, -1, -1]], [1.0, 0.5, 0.0, 0.0])
    >>> pack(items, weights, lengths) == [one, b""]
    True
    """
    shape = (len(packed), width_for(lengths, rows))
    items, weights = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.float32)
    joined = np.frombuffer(b"".join(packed), dtype=np.int32)
    _unpack(joined, joined.view(np.float32), lengths, items, weights)
    return items, weights


def pack(items: Items, weights: Weights, lengths: NDArray[np.int32]) -> list[bytes]:
    """Return each history as it is kept."""
    joined = np.empty(2 * int(lengths.sum()), dtype=np.int32)
    _pack(items, weights, lengths, joined, joined.view(np.float32))
    data, start, packed = joined.tobytes(), 0, []
    for length in lengths.tolist():
        stop = start + 8 * length
        packed.append(data[start:stop])
        start = stop
    return packed


@njit(cache=True, nogil=True)
def _unpack(
    integers: Items, floats: Weights, lengths: NDArray[np.int32], items: Items, weights: Weights
) -> None:
    at = 0
    items[:] = -1
    weights[:] = 0.0
    for user in range(len(lengths)):
        length = lengths[user]
        items[user, :length] = integers[at : at + length]
        weights[user, :length] = floats[at + length : at + 2 * length]
        at += 2 * length


@njit(cache=True, nogil=True)
def _pack(
    items: Items, weights: Weights, lengths: NDArray[np.int32], integers: Items, floats: Weights
) -> None:
    at = 0
    for user in range(len(lengths)):
        length = lengths[user]
        integers[at : at + length] = items[user, :length]
        floats[at + length : at + 2 * length] = weights[user, :length]
        at += 2 * length
