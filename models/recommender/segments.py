"""Write rows and ids as chunks, and read them back without losing a bit.

A segment holds any rows, in order of index; a chunk of ids holds `IDS` of them in a run. What
follows from counts is worked out again and not stored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel
from models.recommender.rows import give_wide, row_of
from models.recommender.snapshot import SnapshotError, body_of, headed, taken
from models.recommender.tables import NARROW, Cell, Row, Tables, rows_of

__all__ = [
    "IDS",
    "IDS_PREFIX",
    "SEGMENT_PREFIX",
    "TABLE",
    "copy_rows",
    "fill_rows",
    "ids_chunk_name",
    "pack_ids",
    "pack_segment",
    "pack_table",
    "segment_name",
    "segment_number",
    "segment_size",
    "unpack_ids",
    "unpack_segment",
    "unpack_table",
]

IDS = 256
"""Ids that are stored together: the last such chunk is written anew while it fills."""

IDS_PREFIX = "ids/"
SEGMENT_PREFIX = "segments/"
TABLE = "segments"

_FILLED, _FIRST = Row.FILLED, Row.FIRST
_SEGMENT = struct.Struct("<QII")
_IDS = struct.Struct("<II")
_TABLE = struct.Struct("<QI")


def ids_chunk_name(chunk: int) -> str:
    """Return the name of the chunk that holds the ids of items ``chunk * IDS`` and on."""
    return f"{IDS_PREFIX}{chunk:06d}"


def segment_name(slot: int) -> str:
    """Return the name of the chunk in a slot of the journal."""
    return f"{SEGMENT_PREFIX}{slot:03d}"


def pack_ids(first: int, ids: Sequence[str]) -> bytes:
    """Return the chunk of the ids of items ``first`` and on."""
    lengths = np.fromiter(map(len, ids), "<u4", len(ids))
    return headed(
        _IDS.pack(first, len(ids)),
        [lengths.tobytes(), "".join(ids).encode("utf-8", "surrogatepass")],
    )


def unpack_ids(data: bytes) -> tuple[int, list[str]]:
    """Return the index of the chunk's first item, and its ids."""
    head, at = body_of(data)
    if len(head) != _IDS.size:
        raise SnapshotError("a chunk of a recommender's ids is damaged")
    first, n = _IDS.unpack(head)
    lengths, at = taken(data, "<u4", n, at)
    text = data[at:].decode("utf-8", "surrogatepass")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if (ends[-1] if ends else 0) != len(text):
        raise SnapshotError("a chunk of a recommender's ids is cut short")
    return first, [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def pack_table(sequence: int, table: Mapping[int, int]) -> bytes:
    """Return the chunk that says which segments there are, by slot, and the next one's number."""
    numbers = np.fromiter(table.values(), "<i8", len(table))
    slots = np.fromiter(table, "<i4", len(table))
    return headed(_TABLE.pack(sequence, len(table)), [numbers.tobytes(), slots.tobytes()])


def unpack_table(data: bytes) -> tuple[int, dict[int, int]]:
    """Return what `pack_table` was given."""
    head, at = body_of(data)
    if len(head) != _TABLE.size:
        raise SnapshotError("the table of a recommender's segments is damaged")
    sequence, n = _TABLE.unpack(head)
    numbers, at = taken(data, "<i8", n, at)
    slots, _ = taken(data, "<i4", n, at)
    return sequence, dict(zip(slots.tolist(), numbers.tolist(), strict=True))


def pack_segment(
    t: Tables,
    number: int,
    rows: NDArray[np.int64],
    copy: Callable[[Tables, NDArray[np.int64], NDArray[np.int32]], object],
) -> bytes:
    """Return segment ``number``: these rows as they are now.

    ``copy`` is `copy_rows`, compiled.
    """
    filled = t.pool[rows_of(t, rows) + Row.FILLED]
    n_pairs = int(filled.sum(dtype=np.int64))
    words = np.empty(2 * n_pairs, np.int32)
    copy(t, rows, words)
    return headed(
        _SEGMENT.pack(number, len(rows), n_pairs),
        [
            rows.astype("<i4").tobytes(),
            filled.tobytes(),
            t.flags[rows].tobytes(),
            t.cells[rows].tobytes(),
            words.tobytes(),
        ],
    )


@kernel
def copy_rows(t: Tables, rows: NDArray[np.int64], words: NDArray[np.int32]) -> None:
    """Put the neighbours of these rows side by side."""
    n = 0
    for i in rows:
        row = t.pool[row_of(t, i) :]
        for x in range(_FIRST, _FIRST + 2 * row[_FILLED]):
            words[n] = row[x]
            n += 1


def segment_number(data: bytes) -> int:
    """Return the number of a segment."""
    return _segment_head(data)[0]


def segment_size(data: bytes) -> int:
    """Return how many rows a segment holds."""
    return _segment_head(data)[1]


def _segment_head(data: bytes) -> tuple[int, int, int]:
    head, _ = body_of(data)
    if len(head) != _SEGMENT.size:
        raise SnapshotError("a segment of a recommender's snapshot is damaged")
    number, n, n_pairs = _SEGMENT.unpack(head)
    return number, n, n_pairs


def unpack_segment(t: Tables, data: bytes, items: int) -> tuple[int, NDArray[np.int64]]:
    """Fill the rows of a segment, of ``items`` that there are; return its number and rows.

    Where its rows are longer than the table's, the first and strongest neighbours stay.
    """
    number, n, n_pairs = _segment_head(data)
    _, at = body_of(data)
    rows, at = taken(data, "<i4", n, at)
    filled, at = taken(data, "<i4", n, at)
    flags, at = taken(data, "u1", n, at)
    cells, at = taken(data, "<f8", n * Cell.SIZE, at)
    words = taken(data, "<i4", 2 * n_pairs, at)[0].reshape(n_pairs, 2)
    if (
        (n and not 0 <= rows.min() <= rows.max() < items)
        or bool((np.diff(rows) <= 0).any())
        or (n_pairs and not 0 <= words[:, 0].min() <= words[:, 0].max() < items)
        or (n and filled.min() < 0)
        or int(filled.sum(dtype=np.int64)) != n_pairs
    ):
        raise SnapshotError("a segment of a recommender's snapshot is damaged")
    t.flags[rows] = flags
    t.cells[rows] = cells.reshape(n, Cell.SIZE)
    fill_rows(t, rows, filled, words)
    return number, rows.astype(np.int64)


def fill_rows(
    t: Tables, rows: NDArray[np.int32], filled: NDArray[np.int32], words: NDArray[np.int32]
) -> None:
    """Fill different rows with their neighbours, (n, 2) words in a run, as far as there is room."""
    if not len(rows):
        return
    kept = np.minimum(filled, t.room)
    give_wide(t, rows[kept > NARROW])
    begin = rows_of(t, rows)
    t.pool[begin + Row.FILLED] = kept
    starts = np.concatenate([[0], np.cumsum(filled, dtype=np.int64)[:-1]])
    place = np.arange(len(words)) - np.repeat(starts, filled)
    fits = place < t.room
    at = np.repeat(begin, filled)[fits] + Row.FIRST + 2 * place[fits]
    t.pool[at] = words[fits, 0]
    t.pool[at + 1] = words[fits, 1]
