"""Let items that hardly anybody chose yet borrow the co-visitation of items like them, compiled.

Math
----
Item i with decayed count n_i, among whose content neighbours b stand with w_b = cos²·n_b/(n_b + 5),
is scored by each co-visitation expert as

    s_i = (1 − g)·covis_i + g·Σ_b w_b·covis_b / (½ + Σ_b w_b),   g = 1/(1 + n_i).

An item can be recommended from its catalogue entry alone, and what it borrowed fades as it gets
a history of its own. What is borrowed is multiplied by what came of such scores before: came /
expected, counted by how much is known of the item, and for one that nobody chose by which part of
its lenders goes with the history. A likeness in words that mean nothing to people has few of them
there; one of a kind has most.

The neighbours b of the user's history are few and the borrowers many, so every lender holds a
list of its borrowers' edges, newest first: an edge is a place in the borrower's row of lenders.
"""

from __future__ import annotations

import numpy as np

from models.recommender.config import Parameters
from models.recommender.kernel import kernel
from models.recommender.lenders import Lending, release
from models.recommender.tables import AGES, FIXED, NEVER_CHOSEN, NOT_LENT, SHARES, Tables, Trait

__all__ = ["clear_lending", "learn_lending", "lend", "trust_in"]

_MOST_EDGES = 24
"""Borrowers of one lender that are looked at, the newest first."""
_SCORES_KEPT = 5.0
_LEAST_SHARE = 1.0 / 21.0
"""Below this the borrowed part is left out: after twenty engagements."""
_DOUBT = 0.5
_LEAST_LENT = 0.005
_AGES = (0.5, 1.5, 4.5)
_SURE = 2.0
_MOST_TRUST = 4.0

_INVERSE, _N, _FRESH, _PLACE = Trait.INVERSE, Trait.COUNT, Trait.FRESH, Trait.PLACE


@kernel
def lend(
    t: Tables,
    p: Parameters,
    n: int,
    near_mass: float,
    far_mass: float,
    unit: float,
    fresh_unit: float,
    now: float,
) -> tuple[int, float, float]:
    """Score what borrows from the candidates; return the first free place, and masses added.

    ``unit`` is what one event weighs now.
    """
    b = t.lending
    traits, places, touched, near, far = t.traits, t.places, t.touched, t.near, t.far
    borrowed_near, borrowed_far, active, borrowers = b.near, b.far, b.active, b.touched
    width = b.lender.shape[1]
    kept = _SCORES_KEPT * unit
    least_near = np.float32(max(_LEAST_LENT * near_mass, 1e-30))
    least_far = np.float32(max(_LEAST_LENT * far_mass, 1e-30))
    m = 0
    for x in range(FIXED, n):
        if near[x] < least_near and far[x] < least_far:
            continue
        j = touched[x]
        if j >= b.head.size:
            continue
        e = b.head[j]
        if e < 0:
            continue
        trust = np.float32(traits[j, _N] / (traits[j, _N] + kept))
        for _ in range(_MOST_EDGES):
            s = e // width
            w = trust * b.alike[s, e - s * width]
            if borrowed_near[s] == 0.0 and borrowed_far[s] == 0.0:
                borrowers[m] = s
                active[s] = 0.0
                m += 1
            borrowed_near[s] += w * near[x]
            borrowed_far[s] += w * far[x]
            active[s] += w
            e = b.after[e]
            if e < 0:
                break
    near_added = 0.0
    far_added = 0.0
    room = touched.size - 1
    b.used[1] = m
    for y in range(m):
        s = borrowers[y]
        near_sum, far_sum = borrowed_near[s], borrowed_far[s]
        borrowed_near[s] = 0.0
        borrowed_far[s] = 0.0
        i = b.item[s]
        count = float(traits[i, _N])
        share = unit / (unit + count)
        if share < _LEAST_SHARE:
            _retire(b, i, s)
            continue
        if near_sum < _LEAST_LENT * near_mass and far_sum < _LEAST_LENT * far_mass:
            b.group[s] = NOT_LENT
            continue
        known = 0.0
        for x in range(width):
            j = b.lender[s, x]
            if j >= 0:
                known += b.alike[s, x] * traits[j, _N] / (traits[j, _N] + kept)
        total = _DOUBT + known
        age = _age(count, unit, now - b.since[s] < p.fresh_half_life_s)
        group = age * SHARES + (_share_of(active[s], known) if age < NEVER_CHOSEN else 0)
        b.group[s] = group
        reliance = trust_in(t, group, fresh_unit)
        near_score = reliance * share * near_sum / total
        far_score = reliance * share * far_sum / total
        own = share * min(1.0, reliance)
        borrowed_near[s] = np.float32(near_score)
        borrowed_far[s] = np.float32(far_score)
        at = places[i, _PLACE]
        if at == 0:
            if n >= room:
                borrowed_near[s] = 0.0
                borrowed_far[s] = 0.0
                continue
            at = n
            n += 1
            places[i, _PLACE] = at
            touched[at] = i
            t.steady[at] = count
            t.fresh[at] = traits[i, _FRESH]
        else:
            near_score -= own * near[at]
            far_score -= own * far[at]
        near[at] += np.float32(near_score)
        far[at] += np.float32(far_score)
        near_added += near_score
        far_added += far_score
    return n, near_added, far_added


@kernel
def _retire(b: Lending, i: int, s: int) -> None:
    """Take the item, which has enough of its own, off its lenders' lists."""
    width = b.lender.shape[1]
    for x in range(width):
        release(b, s * width + x, b.lender[s, x])
        b.lender[s, x] = -1
    b.item[s] = -1
    b.slot[i] = -1


@kernel
def _age(count: float, unit: float, new: bool) -> int:
    """Return to which of `AGES` an item of this count belongs; ``new``: it was announced lately."""
    if new and count <= _AGES[0] * unit:
        return 0
    age = 1
    while age < AGES - 1 and count > _AGES[age - 1] * unit:
        age += 1
    return age


@kernel
def _share_of(active: float, known: float) -> int:
    """Return to which of `SHARES` a borrower belongs of whose lenders these were candidates."""
    share = 0
    bound = known
    while share < SHARES - 1:
        bound *= 0.5
        if active > bound:
            break
        share += 1
    return share


@kernel
def trust_in(t: Tables, group: int, unit: float) -> float:
    """Return by what factor a borrowed score is right, as far as that has shown."""
    sure = _SURE * unit
    trust: float = (t.borrowed[1, group] + sure) / (t.borrowed[0, group] + sure)
    return min(trust, _MOST_TRUST)


@kernel
def learn_lending(t: Tables, item: int, w: float, fresh_unit: float) -> None:
    """Compare what was borrowed with what came.

    ``w`` is what the event weighs. Call between `gather` and `clear`.
    """
    b = t.lending
    m0, m1 = t.blend[0], t.blend[1]
    for y in range(b.used[1]):
        s = b.touched[y]
        i = b.item[s]
        if i < 0:
            continue
        at = t.places[i, _PLACE]
        borrowed = m0 * b.near[s] + m1 * b.far[s]
        if borrowed <= 0.0 or at == 0 or (t.near[at] == 0.0 and t.far[at] == 0.0):
            continue
        group = b.group[s]
        t.borrowed[0, group] += w * borrowed / trust_in(t, group, fresh_unit)
        if i == item and t.score[at] > 0.0:
            t.borrowed[1, group] += w * min(1.0, borrowed / t.score[at])


@kernel
def clear_lending(t: Tables) -> None:
    """Forget what was borrowed in the last scoring."""
    b = t.lending
    for y in range(b.used[1]):
        b.near[b.touched[y]] = 0.0
        b.far[b.touched[y]] = 0.0
    b.used[1] = 0
