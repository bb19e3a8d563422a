"""The loops of drift detection: values in, arrays changed in place, detections out.

Everything is counted in whole blocks of `BLOCK` values of a signal, so that nothing depends on how
a stream was cut into calls, and a value costs one increment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.drift_kernels import (
    BINARY,
    BLOCK,
    Crossings,
    Layout,
    State,
    collect_block,
    detect,
    grow,
    judge_block,
)

__all__ = ["best_of", "bin_columns", "update_columns", "update_sparse"]


@njit(cache=True, nogil=True)
def update_sparse(
    layout: Layout,
    state: State,
    signals: int,
    codes: NDArray[np.int8],
    ts: NDArray[np.float64],
    segments: NDArray[np.int64],
    start: int,
    found: Crossings,
) -> int:
    """Count codes (n, c) from row ``start`` on; column j is signal ``signals + j``.

    Negative codes are left out. ``segments`` (n,): the segment of each row, or nothing: its signals
    follow those of all rows, c for each segment. Returns the first row that was not counted for
    want of room in ``found``, n if there is none; −1 − row if a code does not exist.
    """
    n: int = codes.shape[0]
    c = codes.shape[1]
    parts = 2 if len(segments) else 1
    room = min(len(found.where), len(found.blocks)) - parts * c
    # Held by name: whatever is looked up in a tuple is counted as held, atomically, each time.
    first, decay, counts, filled = layout.first, layout.decay, state.counts, state.filled
    settle, first_blocks, min_effect = layout.settle_blocks, layout.first_blocks, layout.min_effect
    sums, weights, share, deff = state.sums, state.weights, state.share, state.deff
    size, freedom, firing, growing = state.size, state.freedom, state.firing, state.growing
    reference, batches, squares = state.reference, state.batches, state.squares
    collected, passed = state.blocks, state.seen
    used, blocks, means = found.used, found.blocks, found.means
    for i in range(start, n):
        if used[0] > room or used[1] > room:
            return i
        for part in range(parts):
            base = signals
            if part == 1:
                base += c * (1 + segments[i])
            for j in range(c):
                code = codes[i, j]
                if code < 0:
                    continue
                signal = base + j
                begin, end = first[signal], first[signal + 1]
                if begin + code >= end:
                    bad: int = -1 - i
                    return bad
                counts[begin + code] += 1
                filled[signal] += 1
                if filled[signal] < BLOCK:
                    continue
                mean = 0.0
                for f in range(begin, end):
                    mean += (f - begin) * counts[f]
                blocks[used[1]] = signal
                means[used[1]] = mean / (BLOCK * (end - begin - 1))
                used[1] += 1
                furthest = judge_block(
                    begin, end, signal, decay, counts, sums, weights, share, deff, size[signal],
                    freedom[signal], min_effect,
                )  # fmt: skip
                if furthest[0] != 0.0 or firing[signal]:
                    detect(layout, state, signal, i, furthest, found)
                if (
                    growing[signal]
                    and passed[signal] >= settle
                    and collect_block(
                        signal,
                        begin,
                        end,
                        first_blocks,
                        counts,
                        reference,
                        batches,
                        squares,
                        collected,
                    )
                ):
                    grow(layout, state, signal, ts[i])
                for f in range(begin, end):
                    counts[f] = 0
                passed[signal] += 1
                filled[signal] = 0
    return n


@njit(cache=True, nogil=True)
def update_columns(
    layout: Layout,
    state: State,
    signals: int,
    codes: NDArray[np.int8],
    ts: NDArray[np.float64],
    start: int,
    found: Crossings,
) -> int:
    """Count codes (c, n) that all have a category; row j is signal ``signals + j``.

    As many values as there is room for in ``found``; means of blocks are not kept. Returns the
    position of the first that was not counted, n if there is none.
    """
    c = codes.shape[0]
    n: int = codes.shape[1]
    stop: int = min(n, start + max(len(found.where) // max(c, 1) - 1, 1) * BLOCK)
    # Held by name: whatever is looked up in a tuple is counted as held, atomically, each time.
    first, decay, counts, filled = layout.first, layout.decay, state.counts, state.filled
    settle, first_blocks, min_effect = layout.settle_blocks, layout.first_blocks, layout.min_effect
    sums, weights, share, deff = state.sums, state.weights, state.share, state.deff
    size, freedom, firing, growing = state.size, state.freedom, state.firing, state.growing
    reference, batches, squares = state.reference, state.batches, state.squares
    collected, passed = state.blocks, state.seen
    for j in range(c):
        signal = signals + j
        begin, end = first[signal], first[signal + 1]
        fill = filled[signal]
        at = start
        while at < stop:
            until = min(stop, at + BLOCK - fill)
            if end - begin == BINARY:
                ones = 0
                for i in range(at, until):
                    ones += codes[j, i]
                counts[begin] += until - at - ones
                counts[begin + 1] += ones
            else:
                for i in range(at, until):
                    counts[begin + codes[j, i]] += 1
            fill += until - at
            at = until
            if fill == BLOCK:
                furthest = judge_block(
                    begin, end, signal, decay, counts, sums, weights, share, deff, size[signal],
                    freedom[signal], min_effect,
                )  # fmt: skip
                if furthest[0] != 0.0 or firing[signal]:
                    detect(layout, state, signal, at - 1, furthest, found)
                if (
                    growing[signal]
                    and passed[signal] >= settle
                    and collect_block(
                        signal,
                        begin,
                        end,
                        first_blocks,
                        counts,
                        reference,
                        batches,
                        squares,
                        collected,
                    )
                ):
                    grow(layout, state, signal, ts[at - 1])
                for f in range(begin, end):
                    counts[f] = 0
                passed[signal] += 1
                fill = 0
        filled[signal] = fill
    return stop


@njit(cache=True, nogil=True)
def bin_columns(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    edges: NDArray[np.float64],
) -> NDArray[Any]:
    """Return the bins of some columns of some rows of values (n, c), as (columns, rows) int8.

    0 if a value is NaN, else 1 + the edges below it.
    """
    codes = np.empty((len(columns), len(rows)), dtype=np.int8)
    lowest = edges[0]
    for i in range(len(rows)):
        row = rows[i]
        for j in range(len(columns)):
            value = values[row, columns[j]]
            if value <= lowest:
                codes[j, i] = 1
            elif value > lowest:
                code = 2
                while code <= len(edges) and value > edges[code - 1]:
                    code += 1
                codes[j, i] = code
            else:
                codes[j, i] = 0
    return codes


@njit(cache=True, nogil=True)
def best_of(proba: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the most probable class of each row of probabilities (n, K), and how probable it is.

    Of equals the first.
    """
    n, k = proba.shape
    best = np.zeros(n, dtype=np.int64)
    confidence = np.empty(n)
    for i in range(n):
        highest = proba[i, 0]
        for c in range(1, k):
            if proba[i, c] > highest:
                highest = proba[i, c]
                best[i] = c
        confidence[i] = highest
    return best, confidence
