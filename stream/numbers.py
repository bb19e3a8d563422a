"""The numbers that models remember of an example, as one packed record an example.

An example's last votes, posterior and clock are what the next stage learns the difference from;
its weight is what the recommender was told. A batch's records are joined into one table, worked
on in place, and cut again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = ["WEIGHT", "Layout", "TaskLayout", "weights_of", "with_weights"]

WEIGHT: Final = "weight"
"""Column of what the recommender was told of an example; -1: nothing yet."""

_UNSET: Final = -1
_WEIGHT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class TaskLayout:
    """A task's columns: classes, and ``name@version`` of its labeling functions."""

    name: str
    classes: tuple[str, ...]
    lfs: tuple[str, ...]


class Layout:
    """How the numbers of an example lie in its bytes, for a set of tasks.

    Fields: ``weight`` f8 (-1: never pushed); per task t ``clock_t`` i8 (-1: never learned),
    ``gold_t`` i1 (-1: none), ``proba_t`` f8 (K,), ``votes_t`` i1 (m,).

    Examples
    --------
    >>> layout = Layout([TaskLayout("relevance", ("negative", "positive"), ("clicked@1",))])
    >>> table = layout.table([layout.empty, layout.empty])
    >>> table["votes_relevance"][0, 0] = 1
    >>> wider = Layout([TaskLayout("relevance", ("negative", "positive"), ("a@1", "clicked@1"))])
    >>> wider.table([wider.converted(layout.cut(table)[0], layout)])["votes_relevance"].tolist()
    [[-1, 1]]
    """

    def __init__(self, tasks: Sequence[TaskLayout]) -> None:
        self.tasks = tuple(tasks)
        fields: list[tuple[Any, ...]] = [(WEIGHT, "<f8")]
        for task in self.tasks:
            fields += [
                (f"clock_{task.name}", "<i8"),
                (f"gold_{task.name}", "i1"),
                (f"proba_{task.name}", "<f8", (len(task.classes),)),
                (f"votes_{task.name}", "i1", (len(task.lfs),)),
            ]
        self.dtype = np.dtype(fields)
        empty = np.zeros(1, dtype=self.dtype)
        empty[WEIGHT] = _UNSET
        for task in self.tasks:
            empty[f"clock_{task.name}"] = _UNSET
            empty[f"gold_{task.name}"] = _UNSET
            empty[f"votes_{task.name}"] = _UNSET
        self.empty = empty.tobytes()
        self.id = f"{xxhash.xxh3_64_intdigest(self.to_bytes()):016x}"

    def to_bytes(self) -> bytes:
        """Return the layout's description, from which `from_bytes` makes it again."""
        return msgspec.msgpack.encode([(t.name, t.classes, t.lfs) for t in self.tasks])

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Return the layout that was described."""
        described = msgspec.msgpack.decode(
            data, type=list[tuple[str, tuple[str, ...], tuple[str, ...]]]
        )
        return cls([TaskLayout(*task) for task in described])

    def table(self, records: Sequence[bytes]) -> NDArray[np.void]:
        """Return the records as a writable structured array, shape (e,)."""
        return np.frombuffer(bytearray(b"".join(records)), dtype=self.dtype)

    def cut(self, table: NDArray[np.void]) -> list[bytes]:
        """Return the bytes of each row of the table."""
        data, size = table.tobytes(), self.dtype.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def converted(self, record: bytes, old: Layout) -> bytes:
        """Return a record of another layout in this one.

        Votes follow their ``name@version``; a function that is new abstained, one that is gone
        is forgotten, and so is a task whose classes changed.
        """
        before = np.frombuffer(record, dtype=old.dtype)
        after = np.frombuffer(bytearray(self.empty), dtype=self.dtype)
        after[WEIGHT] = before[WEIGHT]
        theirs: Mapping[str, TaskLayout] = {task.name: task for task in old.tasks}
        for task in self.tasks:
            previous = theirs.get(task.name)
            if previous is None or previous.classes != task.classes:
                continue
            for name in ("clock", "gold", "proba"):
                after[f"{name}_{task.name}"] = before[f"{name}_{task.name}"]
            columns = {lf: column for column, lf in enumerate(previous.lfs)}
            for column, lf in enumerate(task.lfs):
                if lf in columns:
                    votes = before[f"votes_{task.name}"]
                    after[f"votes_{task.name}"][0, column] = votes[0, columns[lf]]
        return after.tobytes()


def weights_of(records: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the weight in each record, which begins with it in every layout; writable."""
    return np.array(np.frombuffer(b"".join([one[:_WEIGHT_BYTES] for one in records]), dtype="<f8"))


def with_weights(records: Sequence[bytes], weights: NDArray[np.float64]) -> list[bytes]:
    """Return the records with other weights, (e,)."""
    data = weights.tobytes()
    return [
        data[_WEIGHT_BYTES * place : _WEIGHT_BYTES * (place + 1)] + record[_WEIGHT_BYTES:]
        for place, record in enumerate(records)
    ]
