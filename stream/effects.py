"""What a batch asks the shell to do: values with ids of their own, so that twice is once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.counts import STAGES
from stream.events import LABELS
from stream.records import Outgoing
from stream.rows import REASONS
from stream.user_state import Example, UserState

__all__ = ["Effects", "LabelBlock"]


_encode = msgspec.json.Encoder().encode
_record: Callable[[tuple[str, bytes, bytes, int | None]], Outgoing] = partial(
    tuple.__new__, Outgoing
)
"""Make a tuple of the fields a record, without a call of Python's own."""

_JUDGEMENTS = 8_192
"""So many texts of one task's judgements are kept for labels to come."""


@lru_cache(maxsize=65_536)
def _text(value: str) -> str:
    """Return a string as JSON has it; names of items and people come again and again."""
    return _encode(value).decode()


@lru_cache(maxsize=64)
def _stages(task: str) -> tuple[str, ...]:
    """Return what stands between the id and the revision of a label of a task, by stage."""
    return tuple(f'","task":{_text(task)},"stage":"{name}","revision":' for name in STAGES)


_REASONS = tuple(f',"reason":{_text(why)}}}' for why in REASONS)


@lru_cache(maxsize=64)
def _votes(classes: tuple[str, ...], lfs: tuple[tuple[str, int], ...]) -> list[list[str]]:
    """Return what stands before the weight of each function's vote for each class."""
    return [
        [
            f'{{"lf":{_text(lf)},"version":{version},"vote":{_text(name)},"weight":'
            for name in classes
        ]
        for lf, version in lfs
    ]


@lru_cache(maxsize=64)
def _judgements(
    classes: tuple[str, ...], lfs: tuple[tuple[str, int], ...], model_id: str
) -> dict[bytes, str]:
    """Return the texts known of these functions' judgements, by votes, weights and outcome."""
    return {}


@dataclass(slots=True)
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
        names = np.array([example.hash for example in self.examples], dtype=">u8").tobytes().hex()
        halves = [names[start : start + 16] for start in range(0, len(names), 16)]
        return [
            keys[user] + halves[example]
            for user, example in zip(self.user.tolist(), self.example.tolist(), strict=True)
        ]

    def records(self) -> Iterator[Outgoing]:
        """Return each label as a record of the labels topic; fields as in `stream.events.Label`.

        A label goes to the partition of the same number as its events: both are the user's.
        """
        keys = [user.user_id.encode() for user in self.users]
        names = [_text(user.user_id) for user in self.users]
        items = [_text(example.item_id) for example in self.examples]
        stages, reasons = _stages(self.task), _REASONS
        users = self.user.tolist()
        # All at once: from 1e-4 to 1e16 the texts are those of `repr`, for a third of the time.
        times = _encode(self.ts.tolist()).decode()[1:-1].split(",")
        rows = zip(
            self.example_ids(),
            users,
            self.example.tolist(),
            self.stage.tolist(),
            self.revision.tolist(),
            times,
            self._judged(),
            self.reason.tolist(),
            strict=True,
        )
        values = [
            (
                f'{{"example_id":"{example_id}{stages[at]}{number},"ts":{when},"user_id":'
                f'{names[user]},"item_id":{items[example]},{judged}{reasons[why]}'
            ).encode()
            for example_id, user, example, at, number, when, judged, why in rows
        ]
        owners = map(keys.__getitem__, users)
        return map(_record, zip(repeat(LABELS), owners, values, repeat(self.partition)))

    def _judged(self) -> list[str]:
        """Return what each row's label says about its classes, and who voted how.

        Rows with the same votes are judged alike until the model has learned another block: a few
        hundred texts serve thousands of labels.
        """
        n = len(self)
        alike = np.concatenate(
            [
                np.ascontiguousarray(self.votes).view(np.uint8).reshape(n, -1),
                np.ascontiguousarray(self.weights).view(np.uint8).reshape(n, -1),
                np.ascontiguousarray(self.proba).view(np.uint8).reshape(n, -1),
                np.ascontiguousarray(self.blocks).view(np.uint8).reshape(n, -1),
            ],
            axis=1,
        )
        data, size = alike.tobytes(), alike.shape[1]
        known = _judgements(tuple(self.classes), tuple(self.lfs), self.model_id)
        if len(known) > _JUDGEMENTS:
            known.clear()
        keys = [data[start : start + size] for start in range(0, len(data), size)]
        found = list(map(known.get, keys))
        if None in found:
            # Of equal rows the last one is as good as any.
            unknown = {keys[row]: row for row, text in enumerate(found) if text is None}
            known.update(zip(unknown, self._texts(list(unknown.values())), strict=True))
        return [known[key] for key in keys]

    def _texts(self, rows: list[int]) -> list[str]:
        """Return the texts of these rows' judgements."""
        votes = self.votes[rows]
        place, column = (votes >= 0).nonzero()
        said = votes[place, column].tolist()
        weights = self.weights[rows][place, column].tolist()
        begins = _votes(tuple(self.classes), tuple(self.lfs))
        cast: list[list[str]] = [[] for _ in rows]
        for at, lf, vote, weight in zip(
            place.tolist(), column.tolist(), said, weights, strict=True
        ):
            cast[at].append(f"{begins[lf][vote]}{round(weight, 6)!r}}}")
        names = [f"{_text(name)}:" for name in self.classes]
        found = []
        for chances, blocks, voted in zip(
            self.proba[rows].tolist(), self.blocks[rows].tolist(), cast, strict=True
        ):
            rounded = [round(chance, 6) for chance in chances]
            shown = ",".join(
                [f"{name}{chance!r}" for name, chance in zip(names, rounded, strict=True)]
            )
            found.append(
                f'"probabilities":{{{shown}}},"confidence":{max(rounded)!r},'
                f'"votes":[{",".join(voted)}],"model_version":"{self.model_id}-{blocks}"'
            )
        return found


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
            *chain.from_iterable(block.records() for block in self.labels),
        ]

    def extend(self, other: Effects) -> None:
        """Append what another batch asked for."""
        self.labels += other.labels
        self.dead_letters += other.dead_letters
        self.misplaced += other.misplaced
        self.governance += other.governance
