"""The table in which behaviour is drawn before it is written: one row an event."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["EVENT_TYPES", "GOLD", "NO_REQUEST", "Rows", "code_of", "row_dtype"]

Rows: TypeAlias = NDArray[np.void]

EVENT_TYPES = (
    "impression",
    "click",
    "view",
    "dwell",
    "add_to_cart",
    "purchase",
    "return",
    "rating",
    "like",
    "share",
    "skip",
    "hide",
    "report",
    "search",
)

GOLD = len(EVENT_TYPES)
"""Code of a row that is no event but an annotator's answer."""

NO_REQUEST = -1


def code_of(name: str) -> int:
    """Return the code of an event type in a row's ``type``."""
    return EVENT_TYPES.index(name)


def row_dtype(vote_groups: int) -> np.dtype[np.void]:
    """Return the type of a row.

    Parameters
    ----------
    vote_groups
        How many codes hold the votes of the simulated LFs.
    """
    return np.dtype(
        [
            ("arrival_ms", np.int64),
            ("ts_ms", np.int64),
            ("number", np.int64),
            ("origin", np.int64),
            ("request", np.int64),
            ("session", np.int64),
            ("value", np.float64),
            ("propensity", np.float64),
            ("user", np.int32),
            ("item", np.int32),
            ("votes", np.int16, (vote_groups,)),
            ("position", np.int16),
            ("type", np.int8),
            ("device", np.int8),
            ("policy", np.int8),
            ("relevance", np.int8),
            ("intent", np.int8),
            ("bot", np.int8),
            ("copy", np.int8),
        ]
    )
