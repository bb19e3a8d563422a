"""Rows of evidence as they are stored with their people: what differs from a blank row.

Of some dozens of columns an example fills a few. All rows of a checkpoint are packed in one pass.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stream.evidence import DEFAULTS, Evidence, blank_row

__all__ = ["packed_rows", "unpacked_row"]

_MASK: Final = struct.Struct("<I")
_DOUBLE: Final = 8
_BLANK: Final = np.array(DEFAULTS, dtype="<f8").view("<u4")


def packed_rows(rows: Sequence[Evidence]) -> list[bytes]:
    """Return each row's bytes: a bit a column that is not as in a blank row, then their values."""
    if not rows:
        return []
    words = np.frombuffer(b"".join(rows), dtype="<u4").reshape(len(rows), len(_BLANK))
    out = np.empty(words.size + len(rows), dtype="<u4")
    ends = np.empty(len(rows), dtype=np.int64)
    _pack(words, _BLANK, out, ends)
    data = out[: ends[-1]].tobytes()
    stops = (4 * ends).tolist()
    return [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def unpacked_row(stored: bytes) -> Evidence:
    """Return the row that `packed_rows` wrote, or an older program: every column it knew.

    A row of a newer program is longer than this one's.
    """
    row = Evidence("d")
    if len(stored) % _DOUBLE == 0:
        row.frombytes(stored)
        return row
    row.frombytes(stored[_MASK.size :])
    columns = _columns(*_MASK.unpack_from(stored))
    filled = blank_row()
    if columns and columns[-1] >= len(filled):
        filled.extend([0.0] * (columns[-1] + 1 - len(filled)))
    for column, value in zip(columns, row, strict=True):
        filled[column] = value
    return filled


@lru_cache(maxsize=4096)
def _columns(mask: int) -> tuple[int, ...]:
    """Return the columns whose bits are set."""
    return tuple(column for column in range(mask.bit_length()) if mask >> column & 1)


@njit(cache=True)
def _pack(
    words: NDArray[np.uint32],
    blank: NDArray[np.uint32],
    out: NDArray[np.uint32],
    ends: NDArray[np.int64],
) -> None:
    """Write each row's mask and values one behind the other; a value is two words."""
    at = 0
    for i in range(words.shape[0]):
        place = at
        at += 1
        mask = np.uint32(0)
        for column in range(words.shape[1] // 2):
            low, high = words[i, 2 * column], words[i, 2 * column + 1]
            # By their bits: a column that holds -0.0, or another NaN, is kept as it is.
            if low != blank[2 * column] or high != blank[2 * column + 1]:
                mask |= np.uint32(1) << np.uint32(column)
                out[at] = low
                out[at + 1] = high
                at += 2
        out[place] = mask
        ends[i] = at
