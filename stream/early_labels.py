"""Provisional labels that say what is expected in the end: the stage between heads and labels.

Pure. Which outcomes an open example still awaits, and with what chance, comes from the reward
heads (`stream.forecasts`); what that means for a label is learned (`models.foresight`). The label
model learns, and the recommender is told, the posterior of what has come so far: what is expected
is no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from models.foresight import Foresight
from models.formats import refuse_newer
from stream.forecasts import Awaited, Forecasts
from stream.rows import Rows
from stream.tasks import TaskSpec

if TYPE_CHECKING:
    from stream.pipeline import PartitionPipeline

__all__ = ["EARLY_CHUNK", "EarlyLabels", "foresight"]

EARLY_CHUNK: Final = "own/early-labels"

_FORMAT: Final = 1
_DOUBLE: Final = 8


class EarlyLabels:
    """What is foreseen of one partition's open examples, and what became of it.

    An example's record holds, until its final labels, what each task's provisional label was.
    Nothing is foreseen of an example at the very event that opens it: nothing was predicted of
    it before, and what is seen of it is seen at once.

    *State* — some dozens of sums a task.
    """

    def __init__(self, tasks: Sequence[TaskSpec], forecasts: Forecasts) -> None:
        self.forecasts = forecasts
        names = [[task.name, *task.classes] for task in tasks] + [forecasts.names]
        # Exact as a float.
        self._mark = float(xxhash.xxh32_intdigest(msgspec.msgpack.encode(names)))
        self.models = {
            task.name: Foresight(len(task.classes), len(forecasts.names)) for task in tasks
        }
        self.columns: dict[str, int] = {}
        self._width = 1
        for name, model in self.models.items():
            self.columns[name] = self._width
            self._width += model.width
        self._marked = np.array([self._mark]).tobytes()
        self._blank = bytes(_DOUBLE * self._width)

    def look(self, rows: Rows, number: int) -> Ahead | None:
        """Return what rows say of examples of which something is foreseen; None without any."""
        touched = rows.touched
        slots = [slot for slot, one in enumerate(touched) if one.foreseen]
        # Nothing was predicted before the event that opens an example.
        slots += [slot for _, slot in rows.early]
        if not slots:
            return None
        records = [self._blank] * len(touched)
        remembered = bytearray(len(touched))
        for slot in slots:
            data = touched[slot].foreseen
            if len(data) == len(self._blank) and data.startswith(self._marked):
                records[slot] = data
                remembered[slot] = True
        table = np.frombuffer(bytearray(b"".join(records))).reshape(len(touched), self._width)
        known = np.frombuffer(remembered, dtype=np.bool_)
        awaited = self.forecasts.awaited(rows, known, number)
        return Ahead(self, awaited, rows, table, slots)

    def remember(self, rows: Rows, table: NDArray[np.float64], slots: Sequence[int]) -> None:
        """Write to examples what to remember of them; nothing of those that are closed."""
        touched, size = rows.touched, len(self._blank)
        marks = table[:, list(self.columns.values())]
        is_open: list[bool] = np.any(marks > 0.0, axis=1).tolist()
        table[:, 0] = self._mark
        data = table.tobytes()
        for slot in slots:
            known = data[size * slot : size * (slot + 1)] if is_open[slot] else b""
            touched[slot].foreseen = known

    def to_bytes(self) -> bytes:
        """Return the state as versioned bytes."""
        models = {name: model.to_bytes() for name, model in self.models.items()}
        return msgspec.msgpack.encode((_FORMAT, self._mark, models))

    def load(self, data: bytes) -> None:
        """Go on from stored state; one of other tasks or outcomes is of no use.

        Raises
        ------
        ValueError
            If it is of a newer format than this program reads.
        """
        stored = msgspec.msgpack.decode(data)
        refuse_newer("what is foreseen of labels", stored[0], _FORMAT)
        if stored[1] == self._mark:
            self.models = {name: Foresight.from_bytes(model) for name, model in stored[2].items()}


class Ahead:
    """Rows of one batch that speak of open examples, or close them."""

    def __init__(
        self,
        stage: EarlyLabels,
        awaited: Awaited,
        rows: Rows,
        table: NDArray[np.float64],
        slots: Sequence[int],
    ) -> None:
        self._slots = slots
        self._stage = stage
        self._awaited = awaited
        self._rows = rows
        self._table = table

    def said(
        self,
        task: str,
        proba: NDArray[np.float64],
        answered: NDArray[np.bool_] | None,
        learn: bool,
    ) -> NDArray[np.float64]:
        """Return what a task's labels say: posteriors (n, K), those of open examples foreseen.

        What a person has ``answered``, (n,), is neither foreseen nor learned from.
        """
        stage, awaited = self._stage, self._awaited
        return stage.models[task].step(
            awaited.kind,
            self._rows.columns.example,
            proba,
            awaited.chance,
            awaited.came,
            self._table,
            at=stage.columns[task],
            answered=answered,
            learn=learn,
        )

    def keep(self) -> None:
        """Let the examples remember what was foreseen of them."""
        self._stage.remember(self._rows, self._table, self._slots)


def foresight(parts: Sequence[PartitionPipeline], task: str) -> dict[str, Any] | None:
    """Return what the report says of a task's early labels, of all partitions together.

    The log-loss of what was foreseen against the label of when an awaited outcome came, or the
    final one if none did, and that of the posteriors as they were; None where nothing is foreseen.
    """
    models = [part.early.models[task] for part in parts if part.early is not None]
    if not models:
        return None
    n, raw, ahead = (sum(part) for part in zip(*(m.losses for m in models), strict=True))
    return {
        "n": n,
        "log_loss": ahead / n if n else None,
        "posterior_log_loss": raw / n if n else None,
    }
