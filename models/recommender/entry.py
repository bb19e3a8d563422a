"""The compiled functions that Python calls, kept on disk for the next process.

Everything that they call is compiled into them, and is not kept by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.kernel_cache import fingerprint
from models.recommender import (
    counting,
    guard,
    judging,
    lending,
    listing,
    merging,
    newcomers,
    repeats,
    rows,
    scoring,
    segments,
    step,
    walk,
)
from models.recommender.config import Parameters
from models.recommender.counting import units
from models.recommender.merging import add_rows, derive_all
from models.recommender.newcomers import contender, hold_place
from models.recommender.scoring import clear, gather, top
from models.recommender.segments import copy_rows
from models.recommender.step import step_rows
from models.recommender.tables import FIXED, Flag, Tables

__all__ = ["Part", "add", "copy", "derive_items", "score_history", "step_through"]


class Part:
    """Columns of what makes up a score: what each expert gives, the chance of a repeat; the sum."""

    NEAR = 0
    FAR = 1
    FRESH = 2
    STEADY = 3
    AGAIN = 4
    SCORE = 5
    SIZE = 6


_SEEN = Flag.SEEN
_ABOVE = np.float32(1.0 + 1e-6)
_NEAR, _AGAIN, _SCORE, _PARTS = Part.NEAR, Part.AGAIN, Part.SCORE, Part.SIZE


def _compiled(mark: int) -> tuple[Callable[..., int], ...]:
    """Return the entry points; ``mark`` is part of the key under which they are kept.

    What learns lets other threads run meanwhile; who answers has no time to wait for its turn.
    """

    @numba.njit(cache=True, nogil=True)
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
        segment: int,
        found: NDArray[np.int32],
        parts: NDArray[np.float64],
    ) -> int:
        unit, fresh_unit = units(t, p, ts)
        stop = gather(t, p, items, weights, length, unit, fresh_unit, ts, segment)
        n = 0 * mark
        if t.lending.used[1] > 0:
            top(t, items, length, stop, t.best, t.best_scores, False)
            if t.best[-1] >= 0:
                newcomer, group = contender(t, t.best_scores[-1])
                if newcomer > 0 and hold_place(t, group, fresh_unit):
                    t.score[newcomer] = t.best_scores[-1] * _ABOVE
        for k in range(length):
            # What nobody chose yet may stand in a history, and does not come again.
            if items[k] >= 0 and t.chance[k] > 0.0 and t.flags[items[k]] & _SEEN != 0:
                found[n] = items[k]
                for x in range(_PARTS):
                    parts[n, x] = 0.0
                parts[n, _AGAIN] = parts[n, _SCORE] = t.chance[k]
                n += 1
        for x in range(FIXED, stop):
            if t.score[x] > 0.0:
                found[n] = t.touched[x]
                parts[n, _NEAR] = t.blend[0] * t.near[x]
                parts[n, _NEAR + 1] = t.blend[1] * t.far[x]
                parts[n, _NEAR + 2] = t.blend[2] * t.fresh[x]
                parts[n, _NEAR + 3] = t.blend[3] * t.steady[x]
                parts[n, _AGAIN] = 0.0
                parts[n, _SCORE] = t.score[x]
                n += 1
        clear(t, items, length, stop, p.lists)
        return n

    @numba.njit(cache=True, nogil=True)
    def rows(
        own: Tables, other: Tables, target: NDArray[np.int32], ours: float, theirs: float
    ) -> int:
        add_rows(own, other, target, ours, theirs)
        return mark

    @numba.njit(cache=True, nogil=True)
    def derived(t: Tables, p: Parameters, items: int) -> int:
        derive_all(t, p, items)
        return mark

    @numba.njit(cache=True, nogil=True)
    def copied(t: Tables, rows: NDArray[np.int64], words: NDArray[np.int32]) -> int:
        copy_rows(t, rows, words)
        return mark

    return through, score, rows, derived, copied


step_through, score_history, add, derive_items, copy = _compiled(
    fingerprint(
        counting,
        guard,
        judging,
        lending,
        listing,
        merging,
        newcomers,
        repeats,
        rows,
        scoring,
        segments,
        step,
        walk,
    )
)
