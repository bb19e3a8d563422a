"""What a batch asks the shell to do: values with ids of their own, so that twice is once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from monitoring.counts import STAGES
from stream.events import LABELS
from stream.records import Outgoing

__all__ = ["Effects", "LabelBlock"]


@dataclass(frozen=True, slots=True)
class LabelBlock:
    """Labels of one task, as columns; records are made only for who wants them.

    Parameters
    ----------
    classes, lfs
        Names of the classes; (name, version) of each labeling function.
    model_id, blocks
        Which label model, and after how many blocks of examples it gave each row, (n,).
    user_ids, keys, hashes, item_ids
        Who and what; a key and a hash make the example id.
    stage
        Index into `monitoring.counts.STAGES`, shape (n,).
    revision, ts
        Shape (n,); event time of the stage, seconds.
    proba, votes, weights
        Shapes (n, K), (n, m), (n, m).
    reasons
        Why the label was given, (n,).
    """

    task: str
    classes: Sequence[str]
    lfs: Sequence[tuple[str, int]]
    model_id: str
    blocks: Sequence[int]
    user_ids: Sequence[str]
    keys: Sequence[bytes]
    hashes: Sequence[int]
    item_ids: Sequence[str]
    stage: Sequence[int]
    revision: Sequence[int]
    ts: Sequence[float]
    proba: NDArray[np.float64]
    votes: NDArray[np.int8]
    weights: NDArray[np.float64]
    reasons: Sequence[str]

    def __len__(self) -> int:
        return len(self.ts)

    def example_ids(self) -> list[str]:
        """Return the example ids, shape (n,)."""
        return [f"{key.hex()}{name:016x}" for key, name in zip(self.keys, self.hashes, strict=True)]

    def records(self) -> Iterator[Outgoing]:
        """Yield each label as a record of the labels topic."""
        classes, lfs, task = self.classes, self.lfs, self.task
        best = self.proba.argmax(axis=1).tolist()
        proba = np.round(self.proba, 6).tolist()
        votes = self.votes.tolist()
        weights = np.round(self.weights, 6).tolist()
        names = [name for name, _ in lfs]
        versions = [version for _, version in lfs]
        for row, example_id in enumerate(self.example_ids()):
            user_id = self.user_ids[row]
            chances = proba[row]
            label = {
                "example_id": example_id,
                "task": task,
                "stage": STAGES[self.stage[row]],
                "revision": self.revision[row],
                "ts": self.ts[row],
                "user_id": user_id,
                "item_id": self.item_ids[row],
                "probabilities": dict(zip(classes, chances, strict=True)),
                "confidence": chances[best[row]],
                "votes": [
                    {
                        "lf": names[column],
                        "version": versions[column],
                        "vote": classes[vote],
                        "weight": weights[row][column],
                    }
                    for column, vote in enumerate(votes[row])
                    if vote >= 0
                ],
                "model_version": f"{self.model_id}-{self.blocks[row]}",
                "reason": self.reasons[row],
            }
            yield Outgoing(LABELS, user_id.encode(), orjson.dumps(label))


@dataclass(slots=True)
class Effects:
    """Everything that one batch asks for, in the order in which it was decided."""

    labels: list[LabelBlock] = field(default_factory=list)
    dead_letters: list[Outgoing] = field(default_factory=list)
    misplaced: list[Outgoing] = field(default_factory=list)
    governance: list[Outgoing] = field(default_factory=list)

    def outgoing(self) -> list[Outgoing]:
        """Return the records to publish."""
        return [
            *self.misplaced,
            *self.dead_letters,
            *self.governance,
            *(record for block in self.labels for record in block.records()),
        ]

    def extend(self, other: Effects) -> None:
        """Append what another batch asked for."""
        self.labels += other.labels
        self.dead_letters += other.dead_letters
        self.misplaced += other.misplaced
        self.governance += other.governance
