"""What a batch asks the shell to do: values with ids of their own, so that twice is once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.counts import STAGES
from stream.events import LABELS
from stream.records import Outgoing
from stream.rows import REASONS
from stream.user_state import Example, UserState

__all__ = ["Effects", "LabelBlock"]


class _Vote(msgspec.Struct, gc=False):
    """One vote of a label; encodes twice as fast as a dictionary does."""

    lf: str
    version: int
    vote: str
    weight: float


class _Label(msgspec.Struct, gc=False):
    """A label on its way out."""

    example_id: str
    task: str
    stage: str
    revision: int
    ts: float
    user_id: str
    item_id: str
    probabilities: dict[str, float]
    confidence: float
    votes: list[_Vote]
    model_version: str
    reason: str


_encode = msgspec.json.Encoder().encode


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
    partition
        Partition that the users belong to; None: their ids decide.
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
    partition: int | None = None

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
        """Yield each label as a record of the labels topic; fields as in `stream.events.Label`.

        A label goes to the partition of the same number as its events: both are the user's.
        """
        classes, task = self.classes, self.task
        best = self.proba.argmax(axis=1).tolist()
        proba = np.round(self.proba, 6).tolist()
        users = [self.users[slot].user_id for slot in self.user.tolist()]
        items = [self.examples[slot].item_id for slot in self.example.tolist()]
        stage, revision, ts = self.stage.tolist(), self.revision.tolist(), self.ts.tolist()
        blocks, reason = self.blocks.tolist(), self.reason.tolist()
        votes, ends = self._votes()
        begin = 0
        for row, example_id in enumerate(self.example_ids()):
            user_id, chances, end = users[row], proba[row], ends[row]
            label = _Label(
                example_id,
                task,
                STAGES[stage[row]],
                revision[row],
                ts[row],
                user_id,
                items[row],
                dict(zip(classes, chances, strict=True)),
                chances[best[row]],
                votes[begin:end],
                f"{self.model_id}-{blocks[row]}",
                REASONS[reason[row]],
            )
            begin = end
            yield Outgoing(LABELS, user_id.encode(), _encode(label), self.partition)

    def _votes(self) -> tuple[list[_Vote], list[int]]:
        """Return all votes, row after row, and where each row's end."""
        voted = self.votes >= 0
        rows, columns = np.nonzero(voted)
        said = self.votes[rows, columns].tolist()
        weights = np.round(self.weights[rows, columns], 6).tolist()
        lfs, classes = self.lfs, self.classes
        votes = [
            _Vote(*lfs[column], classes[vote], weight)
            for column, vote, weight in zip(columns.tolist(), said, weights, strict=True)
        ]
        return votes, voted.sum(axis=1).cumsum().tolist()


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
