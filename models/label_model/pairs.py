"""Compiled derivation of who leans on whom: agreement beyond what accuracies explain.

A pair's sums are kept relative to the weight of the next agreement, which grows, so that time
passes for all pairs at once; and what a pair's excess means is derived when a row needs it. Most
pairs of a wide task never vote together: no step of learning looks at all of them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled, hot, inlined
from models.label_model.layout import (
    CROWD,
    Config,
    FloatArray,
    Room,
    Sizes,
    Sums,
    Tables,
)

__all__ = [
    "LIST_BASE",
    "age_pairs",
    "complete_pairs",
    "pair_width",
    "shared_excess",
    "start_pairs",
    "sum_pairs",
    "weigh",
]

IntArray = npt.NDArray[np.int64]
VoteArray = npt.NDArray[np.int8]

COMMON_ROOM = 100.0
"""Agreements that stand for no excess, before any are seen."""
LIST_BASE = 1024
"""A listed pair is one number, v times this + w: above all columns that have pairs."""
HEAVIEST = 2.0
"""Weight of the next agreement at which all sums are brought to the present."""


@compiled
def pair_width(sums: Sums) -> int:
    """Return how many columns have pairwise statistics."""
    return int((1.0 + math.sqrt(1.0 + 8.0 * sums.pairs.shape[0])) / 2.0 + 1e-9)


@compiled
def sum_pairs(
    pairs: FloatArray, others: FloatArray, forms: IntArray, limit: int, moments: FloatArray
) -> None:
    """Sum up annotators' pairs: x, q, u, x², x q, q² of each one's excess, room and variance."""
    moments[:] = 0.0
    for v in range(1, min(limit, forms.shape[0])):
        for w in range(v):
            if forms[w] == CROWD and forms[v] == CROWD:
                p = v * (v - 1) // 2 + w
                x = pairs[p, 0] + others[p, 0] - pairs[p, 1] - others[p, 1]
                q = pairs[p, 2] + others[p, 2]
                moments[0] += x
                moments[1] += q
                moments[2] += pairs[p, 3] + others[p, 3]
                moments[3] += x * x
                moments[4] += x * q
                moments[5] += q * q


@compiled
def age_pairs(
    own: Sums, other: Sums, tables: Tables, config: Config, forms: IntArray, age: float
) -> None:
    """Let ``age`` examples pass for all pairs."""
    tables.scalars[3] *= 2.0 ** (age / config.pair_half_life)
    if tables.scalars[3] >= HEAVIEST:
        for p in range(own.pairs.shape[0]):
            for c in range(4):
                own.pairs[p, c] /= tables.scalars[3]
                other.pairs[p, c] /= tables.scalars[3]
        tables.scalars[3] = 1.0
        sum_pairs(own.pairs, other.pairs, forms, pair_width(own), tables.moments)


@compiled
def shared_excess(tables: Tables) -> float:
    """Return the excess agreement that annotators' pairs share."""
    scale = 1.0 / tables.scalars[3]
    share = tables.moments[0] * scale / (COMMON_ROOM + tables.moments[1] * scale)
    return float(min(max(share, 0.0), 1.0))


@compiled
def start_pairs(tables: Tables, config: Config) -> None:
    """Have all pairs derived anew, and find out how annotators' pairs differ.

    Annotators all lean on what makes an item hard, a little: their pairs share an excess c, and
    the variance of what each adds to it tells how much one pair is to be believed.

    *Math* — x_p observed minus expected agreements, q_p their room, u_p their variance under
    independence: Σ (x_p − c q_p)² = Σ u_p + τ² Σ q_p².
    """
    tables.now[0] += 2
    tables.scalars[2] = 1.0 if config.use_pairs else 0.0
    scale = 1.0 / tables.scalars[3]
    u, xx, xq, qq = (
        tables.moments[2] * scale,
        tables.moments[3] * scale * scale,
        tables.moments[4] * scale * scale,
        tables.moments[5] * scale * scale,
    )
    common = shared_excess(tables)
    over = xx - 2.0 * common * xq + common * common * qq - u
    tables.common[1] = common
    tables.common[2] = max(over / (COMMON_ROOM + qq), 0.0)


@hot
def _expect(
    w: int | np.uint32,
    v: int | np.uint32,
    p: int | np.uint32,
    given_vote: FloatArray,
    agree: FloatArray,
    k_n: int,
) -> None:
    """Write the chance that independent votes of a pair agree, given the class."""
    for k in range(k_n):
        total = 0.0
        for label in range(k_n):
            total += given_vote[w, label, k] * given_vote[v, label, k]
        agree[p, k] = total


@compiled
def complete_pairs(limit: int, given_vote: FloatArray, agree: FloatArray) -> None:
    """Fill in what earlier programs left out of pairs that never voted together, -1 in a table."""
    for v in range(1, limit):
        for w in range(v):
            p = v * (v - 1) // 2 + w
            if agree[p, 0] < 0.0:
                _expect(w, v, p, given_vote, agree, agree.shape[1])


@inlined
def derive_pair(
    w: int | np.uint32,
    v: int | np.uint32,
    p: int | np.uint32,
    annotators: bool,
    alone: bool,
    pairs: FloatArray,
    others: FloatArray,
    scale: float,
    common: FloatArray,
    crowd_shrinkage: float,
    shrinkage: float,
    least_z: float,
    floor: float,
    given_vote: FloatArray,
    agree: FloatArray,
    rho: FloatArray,
    sizes: Sizes,
) -> None:
    """Derive the agreement expected of a pair, and how far the observed one exceeds it.

    Between labeling functions an excess counts when it is large and significant: copies are
    few. A pair of annotators is shrunk towards the excess of all, the more the less pairs
    differ (empirical Bayes). ``scale`` is what sums are multiplied by, 1 / the present weight.
    """
    _expect(w, v, p, given_vote, agree, len(sizes.classes))
    excess = pairs[p, 0] - pairs[p, 1]
    room = pairs[p, 2]
    spread = pairs[p, 3]
    if not alone:
        excess += others[p, 0] - others[p, 1]
        room += others[p, 2]
        spread += others[p, 3]
    excess *= scale
    room *= scale
    spread *= scale
    if annotators:
        noise = spread + crowd_shrinkage
        found = excess * room * common[2] + common[1] * noise
        found = min(max(found / (room * room * common[2] + noise), 0.0), 1.0)
    else:
        found = min(max(excess / (room + shrinkage), 0.0), 1.0)
        if found < floor or excess < least_z * math.sqrt(spread + 1.0):
            found = 0.0
    rho[w, v] = found
    rho[v, w] = found


@inlined
def weigh(
    n: int,
    limit: int,
    room: Room,
    own: Sums,
    other: Sums,
    tables: Tables,
    config: Config,
    forms: IntArray,
    sizes: Sizes,
) -> None:
    """Write the share of each of a row's votes, 1 / (1 + Σ rho); derive the pairs of the row.

    Where the same voted as on the row before, which is usual where people answer page by page,
    their shares are at hand.
    """
    columns, shares, weighed = room.columns, room.shares, room.weighed
    if tables.scalars[2] > 0.0:
        now = tables.now[0]
        m = columns.shape[0]
        same = weighed[m] == n and weighed[m + 1] == now
        if same:
            # All are looked at: which of them is the first to differ is not foreseen.
            for a in range(n):
                same &= weighed[a] == columns[a]
        if not same:
            for a in range(n):
                shares[a] = 1.0
                weighed[a] = columns[a]
            weighed[m] = n
            weighed[m + 1] = now
            scale = 1.0 / tables.scalars[3]
            alone = tables.alone[0] > 0
            watched = 0
            for b in range(n):
                v = columns[b]
                if v >= limit:
                    break
                watched += 1
                first = v * (v - 1) // 2
                annotator = forms[v] == CROWD
                total = 1.0
                for a in range(b):
                    w = columns[a]
                    p = np.uint32(first + w)
                    if tables.turn[p] < now:
                        tables.turn[p] = now
                        derive_pair(
                            w, v, p, annotator and forms[w] == CROWD, alone, own.pairs,
                            other.pairs, scale, tables.common, config.crowd_shrinkage,
                            config.pair_shrinkage, config.pair_z, config.pair_floor,
                            tables.given_vote, tables.agree, tables.rho, sizes,
                        )  # fmt: skip
                    rho = tables.rho[v, w]
                    total += rho
                    shares[a] += rho
                shares[b] = total
            for a in range(watched):
                shares[a] = 1.0 / shares[a]
    else:
        for a in range(n):
            shares[a] = 1.0
