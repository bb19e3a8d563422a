"""Score candidates for a history by a learned mixture of experts, compiled.

Math
----
Each expert is a distribution over items. With j_k the item k steps back, w_k its weight, C the
decayed pair strengths and n the decayed counts, co-visitation gives
p(i) ∝ Σ_k γ^k·w_k·C[j_k→i] / ((n_{j_k}^β + 1)·n_i^α), once for the last few items and once for
many; popularity gives p(i) ∝ n_i, lately and over long. The mixture's weights are those of
online EM, learned by length of history. An item of the history is scored by the learned chance
that it comes next again (`models.recommender.repeats`), and by no expert.

Candidates stand side by side in arrays of their own, so that everything after the walk over the
neighbours reads memory in order, several candidates at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.recommender.config import Parameters
from models.recommender.counting import usual_weight
from models.recommender.guard import blend, context_of
from models.recommender.kernel import kernel
from models.recommender.lending import clear_lending, lend
from models.recommender.repeats import chances
from models.recommender.tables import FIXED, Flag, Tables, Total, Trait
from models.recommender.walk import walk

__all__ = ["clear", "gather", "learn_mixture", "rank_of", "top"]

_COUNT = Total.COUNT
_FRESH_TOTAL = Total.FRESH
_COVERED = Total.COVERED
_LATEST_UNIT = Total.LATEST_UNIT
_IN_TOP = Flag.IN_TOP
_SEEN = Flag.SEEN
_INVERSE, _N, _FRESH, _PLACE = Trait.INVERSE, Trait.COUNT, Trait.FRESH, Trait.PLACE


@kernel
def _fill(t: Tables, first: int, n: int) -> tuple[float, float]:
    """Look up what the candidates are, and return the experts' masses."""
    traits, touched, near, far = t.traits, t.touched, t.near, t.far
    fresh, steady, inverse = t.fresh, t.steady, t.inverse
    for x in range(first, n):
        c = touched[x]
        inverse[x] = traits[c, _INVERSE]
        steady[x] = traits[c, _N]
        fresh[x] = traits[c, _FRESH]
    for x in range(FIXED, n):
        near[x] *= inverse[x]
        far[x] *= inverse[x]
    # Four sums at a time, in an order that is the same on every processor.
    n0 = n1 = n2 = n3 = 0.0
    f0 = f1 = f2 = f3 = 0.0
    x = FIXED
    while x + 3 < n:
        n0 += near[x]
        n1 += near[x + 1]
        n2 += near[x + 2]
        n3 += near[x + 3]
        f0 += far[x]
        f1 += far[x + 1]
        f2 += far[x + 2]
        f3 += far[x + 3]
        x += 4
    while x < n:
        n0 += near[x]
        f0 += far[x]
        x += 1
    return (n0 + n1) + (n2 + n3), (f0 + f1) + (f2 + f3)


@kernel
def gather(
    t: Tables,
    p: Parameters,
    items: NDArray[np.int32],
    weights: NDArray[np.float32],
    length: int,
    unit: float,
    fresh_unit: float,
    now: float,
    segment: int,
) -> int:
    """Score every candidate for this history; return the first place that is free.

    Call `clear` with the result before the next one. ``mixture`` is left holding the factor of
    each expert in the mixture, ``single`` its factor alone, ``lag_near`` what co-visitation gave
    to each item of the history, ``chance`` the scores of these.
    """
    places, traits, totals = t.places, t.traits, t.totals
    near, far, fresh, steady, score = t.near, t.far, t.fresh, t.steady, t.score
    mixture, single = t.mixture, t.single
    usual = usual_weight(t)
    # A late event, or a question about now, meets what was learned until then.
    unit = max(unit, totals[_LATEST_UNIT])
    first = FIXED + t.listed.size if p.lists else FIXED
    n = walk(t, p, items, weights, length, unit, usual, first, segment)
    near_mass, far_mass = _fill(t, first, n)
    if t.lending.item.size > 0:
        n, near_added, far_added = lend(t, p, n, near_mass, far_mass, unit, fresh_unit, now)
        near_mass += near_added
        far_mass += far_added
    # Items of the history are scored as repeats, and by no expert.
    mass = near_mass + far_mass
    fresh_mass = totals[_FRESH_TOTAL]
    steady_mass = totals[_COUNT]
    for k in range(length):
        j = items[k]
        t.lag_near[k] = 0.0
        if j < 0:
            continue
        at = places[j, _PLACE]
        if at > 0:
            if mass > 0.0:
                t.lag_near[k] = (near[at] + far[at]) / mass
                near_mass -= near[at]
                far_mass -= far[at]
            near[at] = far[at] = fresh[at] = steady[at] = 0.0
        fresh_mass -= traits[j, _FRESH]
        steady_mass -= traits[j, _N]
    here = context_of(length)
    prior = p.mixture_prior * unit
    total = 0.0
    for x in range(mixture.size):
        mixture[x] = t.evidence[here, x] + prior * t.prior[x]
    # A mass that is only what rounding left is none.
    if near_mass <= 1e-12 * mass:
        mixture[0] = near_mass = 0.0
    if far_mass <= 1e-12 * mass:
        mixture[1] = far_mass = 0.0
    for x in range(mixture.size):
        total += mixture[x]
    whole = 1.0 / total if total > 0.0 else 0.0
    single[0] = 1.0 / near_mass if near_mass > 0.0 else 0.0
    single[1] = 1.0 / far_mass if far_mass > 0.0 else 0.0
    # Popularity keeps a little for what nobody has seen yet.
    single[2] = 1.0 / max(fresh_mass, fresh_unit)
    single[3] = 1.0 / max(steady_mass, unit)
    repeats = chances(t, weights, length, here, mass, usual, unit)
    for x in range(mixture.size):
        single[x] *= (1.0 - repeats) * (t.prior[x] > 0.0)
        mixture[x] *= whole * single[x]
    if p.mixed:
        blend(t, length, unit)
    else:
        for x in range(mixture.size):
            t.blend[x] = mixture[x]
    m0, m1 = np.float32(t.blend[0]), np.float32(t.blend[1])
    m2, m3 = np.float32(t.blend[2]), np.float32(t.blend[3])
    for x in range(FIXED, n):
        score[x] = (m0 * near[x] + m1 * far[x]) + (m2 * fresh[x] + m3 * steady[x])
    return n


@kernel
def clear(t: Tables, items: NDArray[np.int32], length: int, n: int, lists: bool) -> None:
    """Forget the candidates of the last `gather` for this history."""
    places, traits, touched, near, far = t.places, t.traits, t.touched, t.near, t.far
    first = FIXED + t.listed.size if lists else FIXED
    for x in range(first, n):
        places[touched[x], _PLACE] = 0
    clear_lending(t)
    for x in range(FIXED, n):
        near[x] = 0.0
        far[x] = 0.0
    for k in range(length):
        j = items[k]
        at = places[j, _PLACE] if j >= 0 else 0
        if at > 0:
            t.fresh[at] = traits[j, _FRESH]
            t.steady[at] = traits[j, _N]


@kernel
def rank_of(
    t: Tables, n: int, items: NDArray[np.int32], length: int, item: int, own: int
) -> tuple[int, float]:
    """Return how many candidates stand before the item, -1 for none that can be told; its share.

    ``own`` is where the item stands in the history, -1 if it does not.
    """
    at = t.places[item, _PLACE]
    if (at == 0 and own < 0) or (own >= 0 and t.flags[item] & _SEEN == 0):
        return -1, 0.0
    score, touched = t.score, t.touched
    target = t.chance[own] if own >= 0 else score[at]
    if not target > 0.0:
        return -1, 0.0
    before = np.int32(0)
    for x in range(FIXED, n):
        before = np.int32(
            before + np.int32((score[x] > target) | ((score[x] == target) & (touched[x] < item)))
        )
    rank = int(before)
    for k in range(length):
        s = t.chance[k]
        rank += s > target or (s == target and items[k] < item)
    return rank, target


@kernel
def learn_mixture(t: Tables, length: int, item: int, own: int, unit: float) -> None:
    """Credit the experts with the item that came, each by its share in the prediction.

    ``unit`` is what this event weighs. Call between `gather` and `clear`, before the item is
    learned. Repeats teach nothing here.
    """
    if own >= 0:
        return
    mixture = t.mixture
    at = t.places[item, _PLACE]
    near = mixture[0] * t.near[at]
    far = mixture[1] * t.far[at]
    fresh = mixture[2] * t.traits[item, _FRESH]
    steady = mixture[3] * t.traits[item, _N]
    total = near + far + fresh + steady
    if total > 0.0:
        unit /= total
        evidence = t.evidence[context_of(length)]
        evidence[0] += near * unit
        evidence[1] += far * unit
        evidence[2] += fresh * unit
        evidence[3] += steady * unit


@kernel
def _insert(
    best: NDArray[np.int32], scores: NDArray[np.float32], size: int, item: int, s: float
) -> int:
    """Let the item into the best if it belongs there; return how many these are now."""
    y = size
    if size == best.size:
        y -= 1
        if s < scores[y] or (s == scores[y] and item > best[y]):
            return size
    while y > 0 and (scores[y - 1] < s or (scores[y - 1] == s and best[y - 1] > item)):
        best[y] = best[y - 1]
        scores[y] = scores[y - 1]
        y -= 1
    best[y] = item
    scores[y] = s
    return min(size + 1, best.size)


@kernel
def top(
    t: Tables,
    items: NDArray[np.int32],
    length: int,
    n: int,
    best: NDArray[np.int32],
    scores: NDArray[np.float32],
    mark: bool,
) -> float:
    """Put the best candidates into ``best``; return their mean self-information in bits.

    With ``mark``, each is remembered as recommended once (catalogue coverage).
    """
    touched, flags, score, traits, likely = t.touched, t.flags, t.score, t.traits, t.likely
    room = best.size
    size = 0
    for k in range(length):
        if items[k] >= 0 and t.chance[k] > 0.0:
            size = _insert(best, scores, size, items[k], t.chance[k])
    # What was popular enough last time raises the bar, over which few others get.
    for y in range(likely.size):
        x = likely[y]
        if x > 0 and score[x] > 0.0:
            size = _insert(best, scores, size, touched[x], score[x])
    for x in range(FIXED, n):
        s = score[x]
        if s > 0.0 and (size < room or s >= scores[room - 1]):
            c = touched[x]
            there = False
            for y in range(size):
                there |= best[y] == c
            if not there:
                size = _insert(best, scores, size, c, s)
    if length == 0:
        for y in range(size):
            likely[y] = t.places[best[y], _PLACE]
        for y in range(size, room):
            likely[y] = 0
    share = 1.0
    known = 0
    total = 1.0 / max(t.totals[_COUNT], 1e-300)
    for x in range(size):
        c = best[x]
        count = traits[c, _N]
        # One logarithm of a product is ten times cheaper than ten; a share is above 1e-30.
        if count > 0.0:
            share *= max(count * total, 1e-30)
            known += 1
        if mark and flags[c] & (_IN_TOP | _SEEN) == _SEEN:
            flags[c] |= _IN_TOP
            t.totals[_COVERED] += 1.0
            t.dirty[c] = 1
    for x in range(size, room):
        best[x] = -1
    return -math.log2(share) / known if known > 0 else 0.0
