"""The compiled functions that Python calls, kept on disk for the next process.

Everything that they call is compiled into them, and is not kept by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.recommender import counting, guard, merging, scoring, step
from models.recommender.counting import units
from models.recommender.fingerprint import fingerprint
from models.recommender.merging import add_rows
from models.recommender.scoring import gather
from models.recommender.step import step_rows
from models.recommender.tables import Parameters, Tables

__all__ = ["add", "score_history", "step_through"]


def _compiled(mark: int) -> tuple[Callable[..., int], Callable[..., int], Callable[..., int]]:
    """Return the entry points; ``mark`` is part of the key under which they are kept."""

    @numba.njit(cache=True)
    def through(*rows: Any) -> int:
        step_rows(*rows)
        return mark

    @numba.njit(cache=True)
    def score(
        t: Tables,
        p: Parameters,
        items: NDArray[np.int32],
        weights: NDArray[np.float32],
        length: int,
        ts: float,
    ) -> int:
        unit, fresh_unit = units(t, p, ts)
        return gather(t, p, items, weights, length, ts, unit, fresh_unit) + 0 * mark

    @numba.njit(cache=True)
    def rows(own: Tables, other: Tables, target: NDArray[np.int32], half_life: float) -> int:
        add_rows(own, other, target, half_life)
        return mark

    return through, score, rows


step_through, score_history, add = _compiled(fingerprint(counting, guard, merging, scoring, step))
