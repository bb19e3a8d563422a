"""What a partition learned since it last told: written down, sent, and learned elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.recommender.snapshot import pack, unpack
from models.recommender.tables import Tables, Total

__all__ = ["NO_ROWS", "NO_SUMS", "LearnedRows", "Sums", "Updates"]

_SUM_ARRAYS = ("lag_hits", "lag_seen", "lag_expected", "evidence", "gains")
_ROWS = ("item", "kind", "amount", "ts", "size", "near_items", "near_weights")


class LearnedRows(NamedTuple):
    """What rows of a stream teach, in order, without who they are about.

    ``item`` (n,), ``kind`` (n,), ``ts`` (n,) as in `RecommenderCore.step_many`; ``amount`` (n,)
    is how much is learned: an engagement's weight, a correction's difference. The next ``size``
    entries of ``near_items`` and ``near_weights`` are the history that a row is paired with.
    """

    item: NDArray[np.int32]
    kind: NDArray[np.int8]
    amount: NDArray[np.float64]
    ts: NDArray[np.float64]
    size: NDArray[np.int32]
    near_items: NDArray[np.int32]
    near_weights: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[LearnedRows]) -> LearnedRows:
        """Return the rows of all parts, in order; of at least one."""
        return parts[0] if len(parts) == 1 else cls(*map(np.concatenate, zip(*parts, strict=True)))

    def moved(self, places: NDArray[np.int32]) -> LearnedRows:
        """Return the rows with each item's index replaced by ``places`` of it."""
        with_none = np.append(places, np.int32(-1))
        return self._replace(item=with_none[self.item], near_items=with_none[self.near_items])


class Sums(NamedTuple):
    """What belongs to no item: sums over events, as one run of numbers in units of an epoch."""

    epoch: float
    values: NDArray[np.float64]

    def at(self, epoch: float, half_life_s: float) -> NDArray[np.float64]:
        """Return the values in units of another epoch."""
        if self.epoch == epoch or np.isnan(self.epoch):
            return self.values
        factor = float(np.exp2((self.epoch - epoch) / half_life_s))
        return self.values * factor

    def plus(self, later: Sums, earlier: Sums, half_life_s: float) -> Sums:
        """Return these and what others grew by between two moments."""
        grown = later.values
        if len(earlier.values):
            grown = grown - earlier.at(later.epoch, half_life_s)
        epoch = later.epoch if np.isnan(self.epoch) else self.epoch
        grown = Sums(later.epoch, grown).at(epoch, half_life_s)
        return Sums(epoch, self.values + grown if len(self.values) else grown)

    @classmethod
    def of(cls, tables: Tables) -> Self:
        """Return the sums that tables hold."""
        arrays = [getattr(tables, name).reshape(-1) for name in _SUM_ARRAYS]
        return cls(float(tables.totals[Total.COUNT_EPOCH]), np.concatenate(arrays))

    @staticmethod
    def put(tables: Tables, values: NDArray[np.float64]) -> None:
        """Replace the sums of tables by values in units of their epoch."""
        start = 0
        for name in _SUM_ARRAYS:
            array = getattr(tables, name)
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size


NO_SUMS = Sums(float("nan"), np.zeros(0))
"""Sums of whoever has learned nothing."""

NO_ROWS = LearnedRows(
    np.zeros(0, np.int32),
    np.zeros(0, np.int8),
    np.zeros(0),
    np.zeros(0),
    np.zeros(0, np.int32),
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
)


@dataclass(frozen=True, slots=True)
class Updates:
    """What a partition learned between two of its positions.

    Parameters
    ----------
    since
        Event time of the first row that the partition ever learned: tells its life from another,
        whose state was reset.
    start, stop
        Rows that the partition had learned before, and after.
    known, ids
        Items that its vocabulary held when it told the last time, and the ids of the later ones.
    rows
        By the partition's own indexes.
    sums
        The partition's, as they are at ``stop``: they replace the earlier ones.
    """

    since: float
    start: int
    stop: int
    known: int
    ids: Sequence[str]
    rows: LearnedRows
    sums: Sums

    def to_bytes(self) -> bytes:
        """Return the updates as a chunk of the snapshot's version."""
        names = [item_id.encode("utf-8", "surrogatepass") for item_id in self.ids]
        head = {
            "since": self.since,
            "start": self.start,
            "stop": self.stop,
            "known": self.known,
            "epoch": self.sums.epoch,
        }
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self.rows, name).astype(_TYPES[name], copy=False) for name in _ROWS
        }
        arrays["sums"] = self.sums.values
        arrays["lengths"] = np.array([len(name) for name in names], "<u4")
        arrays["ids"] = np.frombuffer(b"".join(names), "u1")
        return pack(head, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` wrote; `SnapshotError` if it is damaged or newer."""
        head, arrays = unpack(data)
        text = arrays["ids"].tobytes()
        ends = np.cumsum(arrays["lengths"], dtype=np.int64).tolist()
        return cls(
            float(head["since"]),
            int(head["start"]),
            int(head["stop"]),
            int(head["known"]),
            [
                text[first:stop].decode("utf-8", "surrogatepass")
                for first, stop in zip([0, *ends], ends, strict=False)
            ],
            LearnedRows(*(arrays[name] for name in _ROWS)),
            Sums(float(head["epoch"]), arrays["sums"]),
        )


_TYPES = {
    "item": "<i4",
    "kind": "i1",
    "amount": "<f8",
    "ts": "<f8",
    "size": "<i4",
    "near_items": "<i4",
    "near_weights": "<f4",
}
