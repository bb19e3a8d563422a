"""Let both co-visitation experts score what goes with the latest items of a history, compiled.

Math
----
Item j, k steps back, brings up its neighbours i with w_k·γ^k·C[j→i] / (n_j^β + 1). One with few
neighbours, as most items of a large catalogue have, brings up theirs as well: through each of its
strongest ones m, i gets

    w_k·γ^k / (n_j^β + 1) · ρ·min(1, C[j→m]) / (n_m^β + 1) · C[m→i].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Parameters
from models.recommender.counting import decayed
from models.recommender.kernel import kernel
from models.recommender.rows import row_of
from models.recommender.tables import Row, Tables, Trait

__all__ = ["FAR_POWERS", "walk"]

NEAR_POWERS, FAR_POWERS = 0, 1
_FILLED, _SOURCE, _FIRST = Row.FILLED, Row.SOURCE, Row.FIRST
_INVERSE, _PLACE = Trait.INVERSE, Trait.PLACE
_MIN_SLOTS = 8


@kernel
def walk(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    unit: float,
    usual: float,
    first: int,
    segment: int,
) -> int:
    """Let both co-visitation experts score the neighbours of the latest items.

    Of who has none, the far one scores what others of the ``segment`` (-1: none) choose.
    ``first`` is the first place for a candidate that has none yet. Returns the first free one.
    """
    pool, strengths, powers = t.pool, t.strengths, t.powers
    n = first
    back = 0.0
    counted = (unit * usual) ** -p.source_power
    for k in range(min(length, p.scored_window)):
        j = items[k]
        if j < 0:
            continue
        row = row_of(t, j)
        source = weights[k] / (strengths[row + _SOURCE] * counted + 1.0)
        if source > 0.0:
            far_step = decayed(powers, FAR_POWERS, back)
            near_step = decayed(powers, NEAR_POWERS, back) if k < p.near_window else 0.0
            near_source, far_source = source * near_step, source * far_step
            filled = pool[row + _FILLED]
            # What lies further back weighs less, and its weakest neighbours nothing.
            used = min(filled, max(_MIN_SLOTS, int(t.room * far_step)))
            n = _bring_up(t, row, used, near_source, far_source, n)
            if k < p.indirect_window and filled < p.indirect_below:
                start = row + _FIRST
                for x in range(start, start + 2 * min(filled, p.indirect_through), 2):
                    through = row_of(t, pool[x])
                    part = p.indirect_part * min(1.0, strengths[x + 1] / (unit * usual))
                    part /= strengths[through + _SOURCE] * counted + 1.0
                    used = pool[through + _FILLED]
                    n = _bring_up(t, through, used, near_source * part, far_source * part, n)
        back += min(1.0, weights[k] / usual)
    if length == 0 and segment >= 0:
        n = _bring_up_chosen(t, segment, n)
    return n


@kernel
def _bring_up(
    t: Tables, start: int, used: int, near_source: float, far_source: float, n: int
) -> int:
    """Add the strongest neighbours in a row to the candidates; return the first free place."""
    places, touched, near, far = t.places, t.touched, t.near, t.far
    row, value = t.pool[start:], t.strengths[start:]
    by_near, by_far = np.float32(near_source), np.float32(far_source)
    for x in range(_FIRST, _FIRST + 2 * used, 2):
        c = row[x]
        strength = value[x + 1]
        # Without a branch, which nobody could predict: a new candidate takes place n,
        # where there are zeros.
        at = places[c, _PLACE]
        new = at == 0
        at = n if new else at
        places[c, _PLACE] = at
        touched[n] = c
        near[at] += by_near * strength
        far[at] += by_far * strength
        n += new
    return n


@kernel
def _bring_up_chosen(t: Tables, segment: int, n: int) -> int:
    """Add what a segment chooses to the candidates; return the first free place."""
    places, touched, far = t.places, t.touched, t.far
    start = row_of(t, segment)
    row, value = t.pool[start:], t.strengths[start:]
    for x in range(_FIRST, _FIRST + 2 * row[_FILLED], 2):
        c = row[x]
        inverse = t.traits[c, _INVERSE]
        if inverse > 0.0:
            at = places[c, _PLACE]
            if at == 0:
                at = n
                n += 1
                places[c, _PLACE] = at
                touched[at] = c
            # By how often they choose it: what it is divided by later is taken back.
            far[at] += value[x + 1] / inverse
    return n
