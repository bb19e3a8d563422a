"""Evidence laid out by column, and which columns say anything at all, in one compiled pass."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stream.evidence import DEFAULTS

__all__ = ["Columns", "are_votes", "spread"]

_DEFAULTS: Final = np.array(DEFAULTS)


class Columns(NamedTuple):
    """Evidence by column, (columns, n), and which columns differ from their default anywhere.

    Rows of evidence lie 224 bytes apart: a look at one column of them waits for memory at every
    row, a look at a column laid out by itself does not.
    """

    table: NDArray[np.float64]
    seen: NDArray[np.bool_]


def spread(evidence: NDArray[np.float64]) -> Columns:
    """Return evidence (n, columns) by column; not a number says nothing, as a default does.

    Examples
    --------
    >>> evidence = np.tile(np.array(DEFAULTS), (2, 1))
    >>> evidence[1, 3] = 2.0
    >>> columns = spread(evidence)
    >>> columns.table[3].tolist(), columns.seen.nonzero()[0].tolist()
    ([0.0, 2.0], [3])
    """
    n, m = evidence.shape
    columns = Columns(np.empty((m, n)), np.zeros(m, dtype=np.bool_))
    _spread(np.ascontiguousarray(evidence), _DEFAULTS, *columns)
    columns.table.flags.writeable = False
    return columns


@njit(cache=True, nogil=True)
def _spread(
    evidence: NDArray[np.float64],
    defaults: NDArray[np.float64],
    table: NDArray[np.float64],
    seen: NDArray[np.bool_],
) -> None:
    n, m = evidence.shape
    for row in range(n):
        for column in range(m):
            value = evidence[row, column]
            table[column, row] = value
            # Not a number is unequal to itself, too.
            if value != defaults[column] and value == value:  # noqa: PLR0124
                seen[column] = True


@njit(cache=True, nogil=True)
def are_votes(votes: NDArray[np.int8], n_classes: int) -> bool:
    """Return whether every entry of (n, m) is a class or -1."""
    for vote in votes.flat:
        if vote < -1 or vote >= n_classes:
            return False
    return True
