"""What a partition learned since it last told: written down, sent, and learned elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.recommender.snapshot import NewerSnapshotError, pack, unpack
from models.recommender.sums import Epochs, Sums, completed
from models.recommender.tables import BORROWED

__all__ = ["NO_ROWS", "LearnedRows", "Updates"]

_FORMAT = 3
"""1: without what tells long histories, and with other sums of what was borrowed; not told then.
2: without segments, and without what tells repeats by what co-visitation expects."""
_ROWS = ("item", "kind", "amount", "ts", "size", "long", "near_items", "near_weights", "segment")


class LearnedRows(NamedTuple):
    """What rows of a stream teach, in order, without who they are about.

    ``item`` (n,), ``kind`` (n,), ``ts`` (n,) as in `RecommenderCore.step_many`; ``amount`` (n,)
    is how much is learned: an engagement's weight, a correction's difference. The next ``size``
    entries of ``near_items`` and ``near_weights`` are the history that a row is paired with;
    ``long`` (n,) says whether the whole one was long. ``segment`` (n,) is the row of who
    did it, -1 for none.
    """

    item: NDArray[np.int32]
    kind: NDArray[np.int8]
    amount: NDArray[np.float64]
    ts: NDArray[np.float64]
    size: NDArray[np.int32]
    long: NDArray[np.int8]
    near_items: NDArray[np.int32]
    near_weights: NDArray[np.float32]
    segment: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: Sequence[LearnedRows]) -> LearnedRows:
        """Return the rows of all parts, in order; of at least one."""
        return parts[0] if len(parts) == 1 else cls(*map(np.concatenate, zip(*parts, strict=True)))

    def moved(self, places: NDArray[np.int32]) -> LearnedRows:
        """Return the rows with each item's index replaced by ``places`` of it."""
        with_none = np.append(places, np.int32(-1))
        return self._replace(
            item=with_none[self.item],
            near_items=with_none[self.near_items],
            segment=with_none[self.segment],
        )


NO_ROWS = LearnedRows(
    np.zeros(0, np.int32),
    np.zeros(0, np.int8),
    np.zeros(0),
    np.zeros(0),
    np.zeros(0, np.int32),
    np.zeros(0, np.int8),
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
    np.zeros(0, np.int32),
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
            "format": _FORMAT,
            "since": self.since,
            "start": self.start,
            "stop": self.stop,
            "known": self.known,
            "epochs": list(self.sums.epochs),
        }
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self.rows, name).astype(_TYPES[name], copy=False) for name in _ROWS
        }
        arrays["sums"] = self.sums.slow
        arrays["borrowed"] = self.sums.fresh
        arrays["lengths"] = np.array([len(name) for name in names], "<u4")
        arrays["ids"] = np.frombuffer(b"".join(names), "u1")
        return pack(head, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` wrote; `SnapshotError` if it is damaged or newer."""
        head, arrays = unpack(data)
        if head.get("format", 1) > _FORMAT:
            raise NewerSnapshotError(
                f"the updates of a recommender have format {head['format']}, and this program "
                f"reads up to {_FORMAT}: upgrade the program"
            )
        # Earlier programs did not tell long histories from others.
        arrays = {"long": np.zeros(len(arrays["item"]), np.int8), **arrays}
        # Nor people by segment.
        arrays = {"segment": np.full(len(arrays["item"]), -1, np.int32), **arrays}
        # And kept other sums of what was borrowed.
        arrays = {"borrowed": np.zeros(BORROWED if len(arrays["sums"]) else 0), **arrays}
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
            Sums(
                Epochs(*map(float, head["epochs"])), completed(arrays["sums"]), arrays["borrowed"]
            ),
        )


_TYPES = {
    "item": "<i4",
    "kind": "i1",
    "amount": "<f8",
    "ts": "<f8",
    "size": "<i4",
    "long": "i1",
    "near_items": "<i4",
    "near_weights": "<f4",
    "segment": "<i4",
}
