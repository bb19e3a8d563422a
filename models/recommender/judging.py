"""Judge recommendations by more than a hit: beside popularity, and by how diverse they are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.recommender.kernel import kernel
from models.recommender.rows import row_of
from models.recommender.tables import FIXED, Flag, Row, Tables, Trait

__all__ = ["popularity_rank", "spread"]

_FILLED, _FIRST = Row.FILLED, Row.FIRST
_N, _FRESH = Trait.COUNT, Trait.FRESH
_SEEN = Flag.SEEN


@kernel
def popularity_rank(t: Tables, item: int) -> int:
    """Return how many items were more popular lately, -1 if all that are listed were.

    Call before `gather` or after `clear`.
    """
    if t.flags[item] & _SEEN == 0:
        return -1
    fresh, touched = t.fresh, t.touched
    target = t.traits[item, _FRESH]
    popular = t.listed.shape[1]
    before = np.int32(0)
    for x in range(FIXED, FIXED + popular):
        ahead = (fresh[x] > target) | ((fresh[x] == target) & (touched[x] < item))
        before = np.int32(before + np.int32(ahead))
    return int(before) if before < popular else -1


@kernel
def spread(t: Tables, best: NDArray[np.int32]) -> float:
    """Return the mean of one less the cosine of co-visitation, over pairs of the best.

    NaN for fewer than two.
    """
    pairs = 0
    alike = 0.0
    for x in range(best.size):
        a = best[x]
        if a < 0:
            continue
        start = row_of(t, a)
        row, value = t.pool[start:], t.strengths[start:]
        own = float(t.traits[a, _N])
        for y in range(x + 1, best.size):
            b = best[y]
            if b < 0:
                continue
            pairs += 1
            both = own * float(t.traits[b, _N])
            for z in range(_FIRST, _FIRST + 2 * row[_FILLED], 2):
                if row[z] == b and both > 0.0:
                    alike += min(1.0, value[z + 1] / math.sqrt(both))
                    break
    return 1.0 - alike / pairs if pairs > 0 else math.nan
