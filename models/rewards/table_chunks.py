"""A head's table as chunks of a checkpoint, so that a save costs what changed.

Each save writes the rows that changed since the last one. Beside them the blocks of the table that
were looked at longest ago are written whole, if a row of theirs has changed since: half as many
rows as changed. So after a while every block was written anew, and the changes of before may be
overwritten; those that count are twice the table at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.rewards.kernels import WIDTH

__all__ = ["TableChunks"]

_BLOCK: Final = 512
_CHANGES: Final = "changes-"
_KEPT: Final = 32
"""Saves after which every block was looked at, if few rows change; sooner if many do."""
_CHANGED_MOST: Final = 1 / 2
"""Share of the rows that is written as changes; of more, the blocks are written whole."""


class TableChunks:
    """What is stored of a table, and what has changed since.

    Parameters
    ----------
    rows
        How many rows the table has.

    *State* — a flag a row; a flag and a number a block. What is stored is at most twice the table,
    and as much again for changes.
    """

    def __init__(self, rows: int) -> None:
        self._changed = np.zeros(rows, dtype=np.bool_)
        # Whether the newest version of some row of a block stands among the changes.
        self._stale = np.zeros(-(-rows // _BLOCK), dtype=np.bool_)
        # The save that last looked at each block, and whose changes each place holds.
        self._looked_at = np.zeros(len(self._stale), dtype=np.int64)
        self._places: list[int] = []
        self._owed = 0.0
        self._saves = 0

    def touch(self, rows: NDArray[np.int64]) -> None:
        """Note that rows changed, by index; negative ones are none."""
        self._changed[rows[rows >= 0]] = True

    def touch_all(self) -> None:
        """Note that all of the table changed."""
        self._changed[:] = True

    def written(self, table: NDArray[np.float64]) -> dict[str, bytes]:
        """Return what changed since the last call, by name."""
        changed = np.flatnonzero(self._changed)
        if not len(changed):
            return {}
        chunks: dict[str, bytes] = {}
        self._saves += 1
        self._changed[:] = False
        self._stale[changed // _BLOCK] = True
        share = len(changed) / len(table)
        few = share <= _CHANGED_MOST
        due = self._next(max(1.0 / _KEPT, share / 2.0) if few else 1.0)
        self._looked_at[due] = self._saves
        if few:
            chunks[f"{_CHANGES}{self._place()}"] = msgspec.msgpack.encode(
                (self._saves, changed.astype("<u4").tobytes(), table[changed].tobytes())
            )
        for block in due[self._stale[due]].tolist():
            chunks[f"{block}"] = _packed(_rows_of(table, block), self._saves)
        self._stale[due] = False
        return chunks

    def read(self, table: NDArray[np.float64], chunks: Mapping[str, bytes]) -> None:
        """Overwrite what the chunks hold."""
        written = np.zeros(len(self._stale), dtype=np.int64)
        for name, data in chunks.items():
            if not name.startswith(_CHANGES) and int(name) < len(written):
                written[int(name)] = _unpack(data, _rows_of(table, int(name)))
        self._saves = int(written.max())
        self._looked_at = written
        changes = []
        for name, data in chunks.items():
            if name.startswith(_CHANGES):
                changes.append(_changes(data))
                place = int(name.removeprefix(_CHANGES))
                self._places += [0] * (place + 1 - len(self._places))
                self._places[place] = changes[-1][0]
        for save, where, rows in sorted(changes, key=itemgetter(0)):
            known = where < len(table)
            newer = known.copy()
            newer[known] = written[where[known] // _BLOCK] < save
            table[where[newer]] = rows[newer]
            self._stale[where[newer] // _BLOCK] = True
            self._saves = max(self._saves, save)
        # All that was stored of the other blocks stands in them, and no change is kept for them.
        self._looked_at[~self._stale] = self._saves
        # What was owed is not known: a process that never saves twice must get through, too.
        self._owed = 1.0

    def _next(self, share: float) -> NDArray[np.intp]:
        """Return this share of the blocks: those that were looked at longest ago."""
        self._owed = min(self._owed + share * len(self._stale), float(len(self._stale)))
        n = int(self._owed)
        self._owed -= n
        return np.argsort(self._looked_at, kind="stable")[:n]

    def _place(self) -> int:
        """Return where to keep this save's changes: over those that every block has by now."""
        oldest = int(self._looked_at.min())
        free = (at for at, save in enumerate(self._places) if save <= oldest)
        place = next(free, len(self._places))
        self._places[place : place + 1] = [self._saves]
        return place

    def supersede(self, chunks: Mapping[str, bytes]) -> None:
        """Let nothing of these chunks count any more once the next save is stored."""
        unread = np.zeros((_BLOCK, WIDTH))
        for name, data in chunks.items():
            save = _changes(data)[0] if name.startswith(_CHANGES) else _unpack(data, unread)
            self._saves = max(self._saves, save)
        self.touch_all()

    @staticmethod
    def everything(table: NDArray[np.float64]) -> dict[str, bytes]:
        """Return all of a table, the same however it was stored before."""
        blocks = range(-(-len(table) // _BLOCK))
        return {
            f"{block}": _packed(_rows_of(table, block), 0)
            for block in blocks
            if _rows_of(table, block).any()
        }


def _rows_of(table: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    return table[block * _BLOCK : (block + 1) * _BLOCK]


def _packed(rows: NDArray[np.float64], save: int) -> bytes:
    """Return rows of a table, those that were ever learned only, and the save that wrote them."""
    used = np.empty(len(rows), dtype="<u2")
    learned = np.empty_like(rows)
    n = _gather(rows, used, learned)
    return msgspec.msgpack.encode((used[:n].tobytes(), learned[:n].tobytes(), save))


@njit(cache=True)
def _gather(
    rows: NDArray[np.float64], used: NDArray[np.uint16], learned: NDArray[np.float64]
) -> int:
    """Copy the rows that are not all zero to the front, and say which they are.

    A checkpoint looks through whole blocks; `any` by rows and a gather took twice as long.
    """
    n = 0
    for row in range(len(rows)):
        for column in range(rows.shape[1]):
            if rows[row, column] != 0.0:
                used[n] = row
                learned[n] = rows[row]
                n += 1
                break
    return n


def _unpack(data: bytes, rows: NDArray[np.float64]) -> int:
    """Overwrite a block; return the save that wrote it, 0 where that was not told."""
    used, learned, *save = msgspec.msgpack.decode(data, type=list[Any])
    rows[:] = 0.0
    rows[np.frombuffer(used, dtype="<u2")] = np.frombuffer(learned, dtype="<f8").reshape(-1, WIDTH)
    return int(save[0]) if save else 0


def _changes(data: bytes) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """Return a save's number, and the rows that it changed: where, and what they are."""
    save, where, rows = msgspec.msgpack.decode(data, type=tuple[int, bytes, bytes])
    return (
        save,
        np.frombuffer(where, dtype="<u4").astype(np.int64),
        np.frombuffer(rows, dtype="<f8").reshape(-1, WIDTH),
    )
