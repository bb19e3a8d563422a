"""What is expected of open examples, as of a moment that positions alone decide.

Reward heads learn rows some hundreds at a time, and whoever looks in between makes them learn
what waits: the result is the same, but the looking costs more than the learning. Labels look at
what needs no such haste: what was predicted of an exposure some hundreds of rows ago, or a minute,
where there was no feedback: so it has been written, or the stream is slow and looking costs
nothing that matters; and the delay curves as they were at the last of the marks, which stand at
fixed numbers of rows. For an exposure of this moment everybody's share of the outcome must do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from struct import Struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.foresight_kernels import MOST_OUTCOMES, await_rows
from models.rewards import ExposureRecords, RewardHead
from stream.evidence import COUNT_COLUMN, Column
from stream.outcomes import Outcome
from stream.rows import Rows

__all__ = ["MARKED", "Awaited", "Forecasts"]

MARKED: Final = 1024
"""The curves that labels go by are those after a multiple of so many rows."""

_OPENED: Final = int(Column.OPENED_TS)
_FIRST: Final = int(Column.FIRST_FEEDBACK_TS)
_SETTLED_S: Final = 60.0
_NONE: Final = -1
_NUMBERS: Final = 0xFFFFFFFF
_HEAD: Final = Struct("<II")
"""What a record of an exposure begins with: whose it is, and its number."""


class Awaited(NamedTuple):
    """What rows are, (n,); the chance of each outcome that it still comes, and whether it has."""

    kind: NDArray[np.int8]
    chance: NDArray[np.float64]
    came: NDArray[np.bool_]


class _Mark(NamedTuple):
    number: int
    incidence: NDArray[np.float64]
    cdf: NDArray[np.float64]


class Forecasts:
    """The chances of what is awaited of one partition's open examples.

    Only outcomes of examples that events with a column of their own bring about can be told from
    the evidence, and are foreseen; the first twelve of them.

    Parameters
    ----------
    outcomes, records
        What is awaited, and how it lies with an example.
    settled
        An exposure has been predicted so many rows later.
    settle
        Makes that true of all of them.

    *State* — the curves at the last mark.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        records: ExposureRecords,
        settled: int,
        settle: Callable[[], None],
    ) -> None:
        chosen = [
            (place, outcome)
            for place, outcome in enumerate(outcomes)
            if outcome.events and all(name in COUNT_COLUMN for name in outcome.events)
        ][:MOST_OUTCOMES]
        self.names = [outcome.name for _, outcome in chosen]
        self._places = [place for place, _ in chosen]
        self._windows_s = np.array([outcome.window_s for _, outcome in chosen])
        most = max((len(outcome.events) for _, outcome in chosen), default=0)
        self._columns = np.full((len(chosen), most), _NONE, dtype=np.int64)
        for row, (_, outcome) in enumerate(chosen):
            self._columns[row, : len(outcome.events)] = [COUNT_COLUMN[e] for e in outcome.events]
        self._records = records
        self._size = records.dtype.itemsize
        self._said = Struct(f"<{len(outcomes)}f")
        self._settled = settled
        self._settle = settle
        self._ages_s = np.empty((0, 0))
        self._marks: list[_Mark] = []

    def mark(self, number: int, heads: Mapping[str, RewardHead]) -> None:
        """Take the curves as they are after so many rows for those that hold from there on."""
        curves = [heads[name].curve for name in self.names]
        corners = [curve.corners for curve in curves]
        shape = (len(corners), len(corners[0][0]) if corners else 0)
        self._ages_s = np.array([ages for ages, _ in corners]).reshape(shape)
        cdf = np.array([cdf for _, cdf in corners]).reshape(shape)
        self._marks.append(_Mark(number, np.array([c.incidence for c in curves]), cdf))
        self._stack()

    def forget(self) -> None:
        """Drop the marks that no row to come will need."""
        if len(self._marks) > 1:
            del self._marks[:-1]
            self._stack()

    def _stack(self) -> None:
        self._starts = np.array([mark.number for mark in self._marks])
        self._incidence = np.array([mark.incidence for mark in self._marks])
        self._cdf = np.array([mark.cdf for mark in self._marks])

    def awaited(
        self,
        rows: Rows,
        remembered: NDArray[np.bool_],
        number: int,
    ) -> Awaited:
        """Return what rows are, and what may still come of examples, looked at each at its time.

        Parameters
        ----------
        remembered
            (e,) of which of the touched examples something is foreseen; changed.
        number
            How much had happened before the rows began.
        """
        n, o = len(rows), len(self.names)
        columns, evidence = rows.columns, rows.evidence()
        early = np.zeros(n, dtype=np.bool_)
        for row, _ in rows.early:
            early[row] = True
        found = Awaited(
            np.empty(n, dtype=np.int8), np.empty((n, o)), np.empty((n, o), dtype=np.bool_)
        )
        await_rows(
            evidence,
            columns.ts,
            _OPENED,
            _FIRST,
            columns.stage,
            early,
            columns.example,
            remembered,
            self._columns,
            self._predicted(rows, number),
            self._curves(rows, number),
            self._windows_s,
            self._incidence,
            self._ages_s,
            self._cdf,
            found.kind,
            found.came,
            found.chance,
        )
        return found

    def _curves(self, rows: Rows, number: int) -> NDArray[np.int64]:
        if len(self._marks) == 1:
            return np.zeros(len(rows), dtype=np.int64)
        return np.searchsorted(self._starts, rows.columns.after + number, side="right") - 1

    def _predicted(self, rows: Rows, number: int) -> NDArray[np.float64]:
        """Return what was predicted of the early rows' exposures, (n, o); NaN where unknown."""
        p0 = np.full((len(rows), len(self.names)), np.nan)
        columns, touched, evidence = rows.columns, rows.touched, rows.evidence()
        ts, after, size = columns.ts, columns.after, self._size
        # Few rows give first labels; each is looked at by itself.
        for row, slot in rows.early:
            one = touched[slot]
            # Without feedback, what was predicted is all that is known.
            long_ago = ts[row] - evidence[row, _OPENED] > _SETTLED_S and isnan(
                evidence[row, _FIRST]
            )
            if long_ago and not one.reward:
                self._settle()
            if len(one.reward) == size:
                mark, version = _HEAD.unpack_from(one.reward)
                since = (int(after[row]) + number - version) & _NUMBERS
                settled = long_ago or since > self._settled
                if settled and mark == self._records.mark:
                    said = self._said.unpack_from(one.reward, self._records.said_at)
                    p0[row] = [said[place] for place in self._places]
        return p0

    def state(self) -> tuple[int, list[str], list[float], list[list[float]]]:
        """Return the last mark as plain values."""
        last = self._marks[-1]
        return last.number, self.names, last.incidence.tolist(), last.cdf.tolist()

    def load(self, stored: tuple[int, list[str], list[float], list[list[float]]]) -> None:
        """Go on from a stored mark; one of other outcomes is of no use."""
        number, names, incidence, cdf = stored
        if names == self.names:
            shape = self._marks[-1].cdf.shape
            self._marks = [_Mark(number, np.array(incidence), np.array(cdf).reshape(shape))]
            self._stack()
