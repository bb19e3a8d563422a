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
from stream.rows import REASONS
from stream.user_state import Example, UserState

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
    examples, users
        What the rows are about; a row names them by position in ``example`` and ``user``, (n,).
    stage
        Index into `monitoring.counts.STAGES`, shape (n,).
    revision, ts
        Shape (n,); event time of the stage, seconds.
    proba, votes, weights
        Shapes (n, K), (n, m), (n, m).
    reason
        Why the label was given, index into `stream.rows.REASONS`, (n,).
    """

    task: str
    classes: Sequence[str]
    lfs: Sequence[tuple[str, int]]
    model_id: str
    blocks: NDArray[np.int64]
    examples: Sequence[Example]
    users: Sequence[UserState]
    example: NDArray[np.int32]
    user: NDArray[np.int32]
    stage: NDArray[np.int8]
    revision: NDArray[np.int64]
    ts: NDArray[np.float64]
    proba: NDArray[np.float64]
    votes: NDArray[np.int8]
    weights: NDArray[np.float64]
    reason: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ts)

    def example_ids(self) -> list[str]:
        """Return the example ids, shape (n,)."""
        keys = [user.key.hex() for user in self.users]
        hashes = [example.hash for example in self.examples]
        return [
            f"{keys[user]}{hashes[example]:016x}"
            for user, example in zip(self.user.tolist(), self.example.tolist(), strict=True)
        ]

    def records(self) -> Iterator[Outgoing]:
        """Yield each label as a record of the labels topic."""
        classes, lfs, task = self.classes, self.lfs, self.task
        best = self.proba.argmax(axis=1).tolist()
        proba = np.round(self.proba, 6).tolist()
        votes = self.votes.tolist()
        weights = np.round(self.weights, 6).tolist()
        names = [name for name, _ in lfs]
        versions = [version for _, version in lfs]
        users = [self.users[slot].user_id for slot in self.user.tolist()]
        items = [self.examples[slot].item_id for slot in self.example.tolist()]
        stage, revision, ts = self.stage.tolist(), self.revision.tolist(), self.ts.tolist()
        blocks, reason = self.blocks.tolist(), self.reason.tolist()
        for row, example_id in enumerate(self.example_ids()):
            user_id = users[row]
            chances = proba[row]
            label = {
                "example_id": example_id,
                "task": task,
                "stage": STAGES[stage[row]],
                "revision": revision[row],
                "ts": ts[row],
                "user_id": user_id,
                "item_id": items[row],
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
                "model_version": f"{self.model_id}-{blocks[row]}",
                "reason": REASONS[reason[row]],
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
