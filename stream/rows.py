"""Rows: examples as they stood when something happened to them, on their way to the models."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stream.evidence import COLUMNS, Column
from stream.user_state import PROVISIONAL, Example, UserState

__all__ = [
    "ASSESSED",
    "CORRECT",
    "ENGAGE",
    "Happened",
    "NEGATIVE",
    "NOTHING",
    "REASONS",
    "REVISED",
    "RowColumns",
    "Rows",
]

NOTHING: Final = -1
ENGAGE: Final = 0
CORRECT: Final = 1
NEGATIVE: Final = 2
"""What a row asks of the recommender; numbers as in `models.recommender`."""

ASSESSED: Final = 0
"""Stage of a row that only asks for a posterior and publishes nothing."""
REVISED: Final = 3

REASONS: Final = (
    "first feedback",
    "early",
    "windows closed",
    "late feedback",
    "gold",
    "state bound",
)

_ROW: Final = Struct("=6qdq")
"""Slots of example and user, stage, reason, kind, revision, time, and how much had happened."""
_WIDTH: Final = 8
_TS: Final = 6
_UNPUBLISHED: Final = -1
_OPENED: Final = int(Column.OPENED_TS)
_pack: Final = _ROW.pack


Happened = tuple[UserState, Example, bool, str, float, float | None, float]
"""What happened to an exposure that outcomes are awaited of, as the join saw it.

Person, example, whether this is the exposure itself, type of the event, its time, its position
(exposure) or value (feedback), and how active the person was.
"""


class RowColumns(NamedTuple):
    """Rows as columns, each (n,): slots of example and user, what happened, and when.

    ``revision`` is the number of the label, -1 for a row that publishes none; ``after`` how much
    of what happened to exposures came before the row.
    """

    example: NDArray[np.int32]
    user: NDArray[np.int32]
    stage: NDArray[np.int8]
    reason: NDArray[np.int8]
    kind: NDArray[np.int8]
    revision: NDArray[np.int64]
    ts: NDArray[np.float64]
    after: NDArray[np.int64]


class Rows:
    """Examples as they stood when something happened to them, in order.

    Parameters
    ----------
    first_stage
        First stage that is published: such a row takes the next revision of its example.

    Attributes
    ----------
    touched, users
        Each example and each person once; a row names them by slot.
    happened
        Exposures and outcomes in order, for the stage of late rewards.
    early
        Place and slot of the example of each row that publishes the first label of an example
        later than what opened it.
    """

    __slots__ = (
        "_columns",
        "_evidence",
        "_first_stage",
        "_published",
        "_table",
        "early",
        "happened",
        "touched",
        "users",
    )

    def __init__(self, first_stage: int = ASSESSED + 1) -> None:
        self.touched: list[Example] = []
        self.users: list[UserState] = []
        self.happened: list[Happened] = []
        self.early: list[tuple[int, int]] = []
        self._first_stage = first_stage
        self._evidence = bytearray()
        self._table = bytearray()
        self._columns: RowColumns | None = None
        self._published: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self._table) // _ROW.size

    def add(
        self, user: UserState, example: Example, stage: int, reason: int, kind: int, ts: float
    ) -> None:
        """Append the example as it stands."""
        slot = example.slot
        if slot < 0:
            slot = example.slot = len(self.touched)
            self.touched.append(example)
        who = user.slot
        if who < 0:
            who = user.slot = len(self.users)
            self.users.append(user)
        revision = _UNPUBLISHED
        if stage >= self._first_stage:
            revision = example.revision
            example.revision = revision + 1
            if stage == PROVISIONAL and ts > example.evidence[_OPENED]:
                self.early.append((len(self), slot))
        self._evidence += example.evidence
        self._table += _pack(slot, who, stage, reason, kind, revision, ts, len(self.happened))

    @property
    def columns(self) -> RowColumns:
        """The rows as columns; no row may be added any more."""
        if self._columns is None:
            table = np.frombuffer(self._table, dtype=np.int64).reshape(-1, _WIDTH)
            n = len(table)
            self._columns = RowColumns(
                np.empty(n, dtype=np.int32),
                np.empty(n, dtype=np.int32),
                np.empty(n, dtype=np.int8),
                np.empty(n, dtype=np.int8),
                np.empty(n, dtype=np.int8),
                np.empty(n, dtype=np.int64),
                np.empty(n),
                np.empty(n, dtype=np.int64),
            )
            _cut(table, table.view(np.float64), *self._columns)
        return self._columns

    @property
    def published(self) -> NDArray[np.intp]:
        """The rows that publish a label; no row may be added any more."""
        if self._published is None:
            self._published = (self.columns.revision >= 0).nonzero()[0]
        return self._published

    def evidence(self) -> NDArray[np.float64]:
        """Return the evidence of each row, (n, columns); no row may be added any more."""
        return np.frombuffer(self._evidence, dtype=np.float64).reshape(-1, len(COLUMNS))

    def release(self) -> None:
        """Give the slots back: examples and people may appear in other rows."""
        for example in self.touched:
            example.slot = -1
        for user in self.users:
            user.slot = -1


@njit(cache=True, nogil=True)
def _cut(
    table: NDArray[np.int64],
    as_floats: NDArray[np.float64],
    example: NDArray[np.int32],
    user: NDArray[np.int32],
    stage: NDArray[np.int8],
    reason: NDArray[np.int8],
    kind: NDArray[np.int8],
    revision: NDArray[np.int64],
    ts: NDArray[np.float64],
    after: NDArray[np.int64],
) -> None:
    for row in range(len(table)):
        example[row] = np.int32(table[row, 0])
        user[row] = np.int32(table[row, 1])
        stage[row] = np.int8(table[row, 2])
        reason[row] = np.int8(table[row, 3])
        kind[row] = np.int8(table[row, 4])
        revision[row] = table[row, 5]
        ts[row] = as_floats[row, _TS]
        after[row] = table[row, 7]
