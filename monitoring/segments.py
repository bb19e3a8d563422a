"""Codes of configured segments; whatever else comes is one segment more, ``other``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SEGMENTS", "Segments"]

MAX_SEGMENTS: Final = 20
"""Segments that may have figures of their own: each costs series and state."""


class Segments:
    """Names of segments as numbers.

    Parameters
    ----------
    names
        The configured ones. Those beyond the first `MAX_SEGMENTS` are counted as ``other``, and
        named in `left_out` so that somebody says so.

    Examples
    --------
    >>> segments = Segments(["mobile", "desktop"])
    >>> segments.codes(["desktop", None, "tv"]).tolist()
    [1, 2, 2]
    """

    def __init__(self, names: Sequence[str]) -> None:
        distinct = tuple(dict.fromkeys(names))
        self.names = distinct[:MAX_SEGMENTS]
        self.left_out = distinct[MAX_SEGMENTS:]
        self._codes: dict[str | None, int] = {name: at for at, name in enumerate(self.names)}

    def codes(self, segments: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the code of each, shape (n,)."""
        # At most `MAX_SEGMENTS` and one: each fits into a byte.
        found = bytes(list(map(self._codes.get, segments, repeat(len(self.names)))))
        return np.frombuffer(found, dtype=np.uint8).astype(np.int64)
