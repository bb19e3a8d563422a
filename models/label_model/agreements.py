"""Compiled comparison of pairs' votes with what accuracies explain: what `pairs` derives from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.label_model.compiling import compiled, hot
from models.label_model.layout import CROWD, ColumnArray, FloatArray, Sizes
from models.label_model.pairs import LIST_BASE
from models.label_model.vectors import add_four

__all__ = ["compare_pairs", "learn_pairs", "put_back"]

IntArray = npt.NDArray[np.int64]


@hot
def _explained(
    p: int | np.uint32,
    a: int,
    b: int,
    inverse: FloatArray,
    without: FloatArray,
    agree: FloatArray,
    sizes: Sizes,
) -> float:
    """Return the chance that a pair agrees on a row, by the posterior without either's vote."""
    total = without[a, 0] * inverse[b, 0]
    expected = total * agree[p, 0]
    for k in range(1, len(sizes.classes)):
        r = without[a, k] * inverse[b, k]
        total += r
        expected += r * agree[p, k]
    return float(expected / total)


@hot
def learn_pairs(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    inverse: FloatArray,
    without: FloatArray,
    limit: int,
    forms: IntArray,
    annotators: bool,
    alone: bool,
    weight: float,
    pairs: FloatArray,
    others: FloatArray,
    agree: FloatArray,
    moments: FloatArray,
    sizes: Sizes,
) -> None:
    """Compare each pair's agreement with what its accuracies explain, leaving both out.

    ``annotators`` says whether there are pairs of annotators, whose moments to keep.
    """
    x1, q1, u1, xx, xq, qq = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for b in range(1, n):
        v = columns[b]
        if v >= limit:
            break
        first = v * (v - 1) // 2
        watched = annotators and forms[v] == CROWD
        for a in range(b):
            w = columns[a]
            p = np.uint32(first + w)
            expected = _explained(p, a, b, inverse, without, agree, sizes)
            agreed = weight if labels[a] == labels[b] else 0.0
            rest = weight * (1.0 - expected)
            spread = rest * expected
            expected *= weight
            if watched and forms[w] == CROWD:
                x = pairs[p, 0] - pairs[p, 1]
                q = pairs[p, 2]
                if not alone:
                    x += others[p, 0] - others[p, 1]
                    q += others[p, 2]
                more_x = agreed - expected
                x1 += more_x
                q1 += rest
                u1 += spread
                xx += more_x * (2.0 * x + more_x)
                xq += x * rest + q * more_x + more_x * rest
                qq += rest * (2.0 * q + rest)
            add_four(pairs, np.uint64(p) * np.uint64(4), agreed, expected, rest, spread)
    if annotators:
        moments[0] += x1
        moments[1] += q1
        moments[2] += u1
        moments[3] += xx
        moments[4] += xq
        moments[5] += qq


@hot
def _move_moments(
    v: int | np.uint32,
    w: int | np.uint32,
    sign: float,
    pairs: FloatArray,
    others: FloatArray,
    forms: IntArray,
    moments: FloatArray,
) -> None:
    """Add what a pair of annotators is to all pairs' moments, or take it away (``sign`` −1)."""
    if forms[w] == CROWD and forms[v] == CROWD:
        p = np.uint32(v * (v - 1) // 2 + w)
        x = pairs[p, 0] - pairs[p, 1] + others[p, 0] - others[p, 1]
        q = pairs[p, 2] + others[p, 2]
        moments[0] += sign * x
        moments[1] += sign * q
        moments[2] += sign * (pairs[p, 3] + others[p, 3])
        moments[3] += sign * x * x
        moments[4] += sign * x * q
        moments[5] += sign * q * q


@hot
def compare_pairs(
    n: int,
    columns: ColumnArray,
    labels: ColumnArray,
    inverse: FloatArray,
    without: FloatArray,
    limit: int,
    forms: IntArray,
    weight: float,
    now: int,
    listed: ColumnArray,
    n_listed: int,
    pairs: FloatArray,
    others: FloatArray,
    agree: FloatArray,
    turn: IntArray,
    moments: FloatArray,
    sizes: Sizes,
) -> int:
    """Compare pairs as `learn_pairs` does, but forget what each one held before the turn ``now``.

    Each such pair is listed once, and taken out of the moments until `put_back` adds it again: not
    every row on which it votes looks at them. Returns how many are ``listed``.
    """
    for b in range(1, n):
        v = columns[b]
        if v >= limit:
            break
        first = v * (v - 1) // 2
        for a in range(b):
            p = np.uint32(first + columns[a])
            if turn[p] < now:
                turn[p] = now
                _move_moments(v, columns[a], -1.0, pairs, others, forms, moments)
                listed[n_listed] = v * LIST_BASE + columns[a]
                n_listed += 1
                for c in range(4):
                    pairs[p, c] = 0.0
            expected = _explained(p, a, b, inverse, without, agree, sizes)
            rest = weight * (1.0 - expected)
            agreed = weight if labels[a] == labels[b] else 0.0
            add_four(
                pairs, np.uint64(p) * np.uint64(4), agreed, weight * expected, rest,
                rest * expected,
            )  # fmt: skip
    return n_listed


@compiled
def put_back(
    listed: ColumnArray,
    n_listed: int,
    pairs: FloatArray,
    others: FloatArray,
    forms: IntArray,
    moments: FloatArray,
) -> None:
    """Add the pairs that `compare_pairs` listed to the moments, as they are now."""
    for j in range(n_listed):
        v, w = listed[j] // LIST_BASE, listed[j] % LIST_BASE
        _move_moments(v, w, 1.0, pairs, others, forms, moments)
