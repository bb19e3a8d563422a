"""Evidence as it is stored: every bit comes back, and a newer program's row is longer."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from stream.evidence import DEFAULTS, Evidence, blank_row
from stream.stored_evidence import packed_rows, unpacked_row


def test_every_bit_of_a_row_comes_back() -> None:
    rng = np.random.default_rng(3)
    odd = [0.0, -0.0, float("nan"), -float("nan"), 1.5, 1e300, struct.unpack("<d", b"\1" * 8)[0]]
    rows = [blank_row()]
    for _ in range(200):
        row = blank_row()
        for column in rng.integers(0, len(row), int(rng.integers(0, len(row)))).tolist():
            row[column] = odd[int(rng.integers(0, len(odd)))]
        rows.append(row)
    packed = packed_rows(rows)
    assert len(packed[0]) == 4
    assert [unpacked_row(one).tobytes() for one in packed] == [row.tobytes() for row in rows]
    # The same, however many are packed at once.
    assert [packed_rows([row])[0] for row in rows] == packed
    assert packed_rows([]) == []


def test_a_row_of_which_all_is_stored_is_read() -> None:
    row = Evidence("d", range(len(DEFAULTS)))
    assert unpacked_row(row.tobytes()) == row
    assert len(unpacked_row(row.tobytes()[:-8])) == len(DEFAULTS) - 1


@pytest.mark.parametrize("column", [len(DEFAULTS), 31])
def test_a_column_that_is_not_known_makes_a_row_longer(column: int) -> None:
    stored = struct.pack("<Id", 1 << column, 7.0)
    assert len(unpacked_row(stored)) == column + 1


def test_a_row_that_was_cut_short_is_refused() -> None:
    row = blank_row()
    row[0] = 3.0
    with pytest.raises(ValueError, match="shorter"):
        unpacked_row(packed_rows([row])[0][:-8])
