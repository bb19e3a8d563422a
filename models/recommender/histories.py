"""Keep the latest items of each user, for callers that bring no user state of their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import HISTORY

__all__ = ["Histories", "pack_histories", "unpack_histories", "width_for"]

_FIRST_WIDTH = 32


def width_for(lengths: NDArray[np.int32], rows: NDArray[np.int32]) -> int:
    """Return how wide histories of these (u,) lengths must be when items come to these rows."""
    if not len(lengths):
        return 0
    return min(HISTORY, int((lengths + np.bincount(rows, minlength=len(lengths))).max()))


class Histories:
    """Histories of the users seen latest.

    Parameters
    ----------
    max_users
        Users kept; beyond that the one seen longest ago is forgotten and counted in ``dropped``.
    """

    def __init__(self, max_users: int) -> None:
        self.max_users = max_users
        self.dropped = 0
        self._rows: OrderedDict[str, int] = OrderedDict()
        self.items = np.full((1, _FIRST_WIDTH), -1, np.int32)
        self.weights = np.zeros((1, _FIRST_WIDTH), np.float32)
        self.lengths = np.zeros(1, np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def make_room(self, rows: NDArray[np.int32]) -> None:
        """Let each history hold one item more for every time that its row is named, or `HISTORY`.

        Most histories stay short: they are as wide as the longest one.
        """
        width = width_for(self.lengths, rows)
        have = self.items.shape[1]
        if width > have:
            shape = (len(self.lengths), min(HISTORY, max(width, 2 * have)) - have)
            self.items = np.hstack([self.items, np.full(shape, -1, np.int32)])
            self.weights = np.hstack([self.weights, np.zeros(shape, np.float32)])

    def find(self, user: str) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """Return (items, weights, length) of the user, empty for an unknown one."""
        row = self._rows.get(user)
        if row is None:
            return np.full(HISTORY, -1, np.int32), np.zeros(HISTORY, np.float32), 0
        return self.items[row], self.weights[row], int(self.lengths[row])

    def admit(self, user: str) -> int:
        """Return the user's row, making room for it if it is new."""
        row = self._rows.get(user)
        if row is not None:
            self._rows.move_to_end(user)
            return row
        if len(self._rows) < self.max_users:
            row = len(self._rows)
            if row >= len(self.lengths):
                self._grow(min(self.max_users, 2 * len(self.lengths)))
        else:
            _, row = self._rows.popitem(last=False)
            self.dropped += 1
            self.items[row] = -1
            self.weights[row] = 0.0
            self.lengths[row] = 0
        self._rows[user] = row
        return row

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.lengths)
        shape = (more, self.items.shape[1])
        self.items = np.concatenate([self.items, np.full(shape, -1, np.int32)])
        self.weights = np.concatenate([self.weights, np.zeros(shape, np.float32)])
        self.lengths = np.concatenate([self.lengths, np.zeros(more, np.int32)])

    def merge(self, other: Histories, target: NDArray[np.int32]) -> None:
        """Take over the users that only ``other`` knows; its item ``o`` is ``target[o]`` here."""
        for user, theirs in other._rows.items():
            if user in self._rows:
                continue
            length = int(other.lengths[theirs])
            items = target[other.items[theirs, :length]]
            kept = items >= 0
            row = self.admit(user)
            size = int(kept.sum())
            self.make_room(np.full(size, row, np.int32))
            self.items[row, :size] = items[kept]
            self.weights[row, :size] = other.weights[theirs, :length][kept]
            self.lengths[row] = size

    def export(self) -> tuple[list[str], dict[str, NDArray[np.int32] | NDArray[np.float32]]]:
        """Return the users, seen longest ago first, and their arrays in that order."""
        rows = list(self._rows.values())
        lengths = self.lengths[rows]
        # How wide the arrays are depends on how calls were split, what is in them does not.
        width = int(lengths.max()) if rows else 0
        return list(self._rows), {
            "items": self.items[rows, :width],
            "weights": self.weights[rows, :width],
            "lengths": lengths,
        }

    def load(
        self,
        users: list[str],
        items: NDArray[np.int32],
        weights: NDArray[np.float32],
        lengths: NDArray[np.int32],
    ) -> None:
        """Replace everything by what `export` returned."""
        self._rows = OrderedDict((user, row) for row, user in enumerate(users))
        if users:
            self.items, self.weights, self.lengths = items, weights, lengths


def pack_histories(
    items: NDArray[np.int32], weights: NDArray[np.float32], lengths: NDArray[np.int32]
) -> list[bytes]:
    """Return each user's history as bytes, 8 an item that is there."""
    all_items, all_weights = items.tobytes(), weights.tobytes()
    width = 4 * items.shape[1]
    return [
        all_items[start : start + 4 * length] + all_weights[start : start + 4 * length]
        for start, length in zip(range(0, len(all_items), width), lengths.tolist(), strict=True)
    ]


_NO_ITEMS = memoryview(np.full(HISTORY, -1, np.int32).tobytes())
_NO_WEIGHTS = memoryview(bytes(4 * HISTORY))


def unpack_histories(
    packed: Sequence[bytes],
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Return (items, weights, lengths), writable, from what `pack_histories` returned.

    Of a history longer than `HISTORY` the newest items are taken.
    """
    parts: list[bytes | memoryview] = []
    lengths = np.empty(len(packed), np.int32)
    for row, data in enumerate(packed):
        half = len(data) // 2
        used = min(half, 4 * HISTORY)
        lengths[row] = used // 4
        parts += (data[:used], _NO_ITEMS[used:], data[half : half + used], _NO_WEIGHTS[used:])
    both = np.frombuffer(bytearray().join(parts), np.dtype("<i4")).reshape(-1, 2, HISTORY)
    return both[:, 0].copy(), both[:, 1].view(np.float32).copy(), lengths
