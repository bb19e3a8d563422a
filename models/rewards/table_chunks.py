"""A head's table as chunks of a checkpoint, so that a save costs what changed.

Each save writes the rows that changed since the last one. Beside them a few blocks of the table are
written whole, in turn, if a row of theirs has changed since: after `_KEPT` saves every block was
written anew, and the changes of so long ago may be overwritten.
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
_CHANGED_MOST: Final = 1 / 16
"""Share of the rows that is written as changes; of more, the blocks are written whole."""


class TableChunks:
    """What is stored of a table, and what has changed since.

    Parameters
    ----------
    rows
        How many rows the table has.

    *State* — two flags: one a row, one a block. What is stored is at most twice the table, and as
    much again for changes.
    """

    def __init__(self, rows: int) -> None:
        self._changed = np.zeros(rows, dtype=np.bool_)
        # Whether the newest version of some row of a block stands among the changes.
        self._stale = np.zeros(-(-rows // _BLOCK), dtype=np.bool_)
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
        self._stale[np.unique(changed // _BLOCK)] = True
        due = np.arange(len(self._stale))
        if len(changed) <= _CHANGED_MOST * len(table):
            turn = self._saves % _KEPT
            due = due[turn::_KEPT]
            chunks[f"{_CHANGES}{turn}"] = msgspec.msgpack.encode(
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
        changes = [_changes(data) for name, data in chunks.items() if name.startswith(_CHANGES)]
        for save, where, rows in sorted(changes, key=itemgetter(0)):
            known = where < len(table)
            newer = known.copy()
            newer[known] = written[where[known] // _BLOCK] < save
            table[where[newer]] = rows[newer]
            self._stale[where[newer] // _BLOCK] = True
            self._saves = max(self._saves, save)

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
