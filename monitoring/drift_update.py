"""The loops of drift detection: values in, arrays changed in place, detections out.

Everything is counted in whole blocks of `BLOCK` values of a signal, so that nothing depends on how
a stream was cut into calls, and a value costs one increment. A loop counts until `Closed` is full;
then `close_blocks` judges what was closed, signal by signal in the order of its values.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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

__all__ = [
    "Closed",
    "best_of",
    "bin_numbers",
    "close_blocks",
    "count_columns",
    "count_coverage",
    "count_numbers",
    "count_rows",
    "count_votes",
    "room_for",
]

_ROOM: Final = 4096
_NEAR: Final = 64


class Closed(NamedTuple):
    """Room for filled blocks: signal, row of the last value, and counts one after another.

    ``used`` (2,): how many blocks, and how many counts.
    """

    signals: NDArray[np.int64]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    used: NDArray[np.int64]


def room_for(columns: int, categories: int) -> tuple[Closed, Crossings]:
    """Return room for the blocks of groups of so many columns and categories at most."""
    # A row may close a block in each of its columns, overall and in its segment.
    room = max(_ROOM, 4 * columns)
    closed = Closed(
        np.zeros(room, dtype=np.int64),
        np.zeros(room, dtype=np.int64),
        np.zeros(max(_ROOM * BINARY, 4 * columns * categories), dtype=np.int64),
        np.zeros(2, dtype=np.int64),
    )
    found = Crossings(
        np.zeros((room, 3), dtype=np.int64),
        np.zeros((room, 3)),
        np.zeros(room),
        np.zeros(1, dtype=np.int64),
    )
    return closed, found


@njit(cache=True, nogil=True)
def _close(
    signal: int,
    begin: int,
    end: int,
    row: int,
    counts: NDArray[np.int64],
    signals: NDArray[np.int64],
    rows: NDArray[np.int64],
    kept: NDArray[np.int64],
    used: NDArray[np.int64],
) -> None:
    """Move a block's counts to those that are closed."""
    signals[used[0]] = signal
    rows[used[0]] = row
    used[0] += 1
    at = used[1]
    for f in range(begin, end):
        kept[at] = counts[f]
        counts[f] = 0
        at += 1
    used[1] = at


@njit(cache=True, nogil=True)
def _most_rows(columns: int, size: int, closed: Closed) -> int:
    """Return of how many rows there is room for every block that may be closed."""
    blocks = min(len(closed.signals), len(closed.counts) // size)
    return (blocks // max(columns, 1) - 1) * BLOCK


@njit(cache=True, nogil=True)
def count_rows(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    codes: NDArray[np.int8],
    segments: NDArray[np.int64],
    start: int,
    closed: Closed,
) -> int:
    """Count codes (n, c) from row ``start`` on; column j is signal ``signals + j``.

    Negative codes are left out. ``segments`` (n,): the segment of each row, or nothing: its signals
    follow those of all rows, c for each segment. Returns the first row that was not counted for
    want of room, n if there is none; −1 − row if a code does not exist.
    """
    n: int = codes.shape[0]
    c = codes.shape[1]
    size = first[signals + 1] - first[signals]
    parts = 2 if len(segments) else 1
    ends, rows, kept, used = closed.signals, closed.rows, closed.counts, closed.used
    room = min(len(ends), len(kept) // size) - parts * c
    for i in range(start, n):
        if used[0] > room:
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
                begin = first[signal]
                if code >= size:
                    bad: int = -1 - i
                    return bad
                counts[begin + code] += 1
                filled[signal] += 1
                if filled[signal] == BLOCK:
                    filled[signal] = 0
                    _close(signal, begin, begin + size, i, counts, ends, rows, kept, used)
    return n


@njit(cache=True, nogil=True)
def count_votes(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    functions: int,
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    votes: NDArray[np.int8],
    segments: NDArray[np.int64],
    start: int,
    closed: Closed,
) -> int:
    """Count votes of `SparseVotes` from row ``start`` on; else as `count_rows`."""
    n: int = len(starts) - 1
    size = first[signals + 1] - first[signals]
    zero = first[signals]
    several = len(segments) > 0
    ends, rows, kept, used = closed.signals, closed.rows, closed.counts, closed.used
    room = min(len(ends), len(kept) // size) - 2 * functions
    for i in range(start, n):
        if used[0] > room:
            return i
        shift = functions * (1 + segments[i]) if several else 0
        for at in range(starts[i], starts[i + 1]):
            j = columns[at]
            code = votes[at]
            if code >= size:
                bad: int = -1 - i
                return bad
            counts[zero + j * size + code] += 1
            filled[signals + j] += 1
            if filled[signals + j] == BLOCK:
                filled[signals + j] = 0
                begin = zero + j * size
                _close(signals + j, begin, begin + size, i, counts, ends, rows, kept, used)
            if several:
                signal = signals + shift + j
                begin = zero + (shift + j) * size
                counts[begin + code] += 1
                filled[signal] += 1
                if filled[signal] == BLOCK:
                    filled[signal] = 0
                    _close(signal, begin, begin + size, i, counts, ends, rows, kept, used)
    return n


@njit(cache=True, nogil=True)
def count_coverage(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    functions: int,
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    start: int,
    closed: Closed,
) -> int:
    """Count who voted at all, from row ``start`` on; signals of two categories; as `count_rows`."""
    n: int = len(starts) - 1
    zero = first[signals]
    ends, rows, kept, used = closed.signals, closed.rows, closed.counts, closed.used
    room = min(len(ends), len(kept) // 2) - functions
    voted = np.zeros(functions, dtype=np.int64)
    at = start
    while at < n:
        if used[0] > room:
            return at
        # As far as no signal's block is filled before: usually all are at the same value.
        until = n
        for j in range(functions):
            until = min(until, at + BLOCK - filled[signals + j])
        for entry in range(starts[at], starts[until]):
            voted[columns[entry]] += 1
        for j in range(functions):
            begin = zero + 2 * j
            counts[begin] += until - at - voted[j]
            counts[begin + 1] += voted[j]
            voted[j] = 0
            filled[signals + j] += until - at
            if filled[signals + j] == BLOCK:
                filled[signals + j] = 0
                _close(signals + j, begin, begin + 2, until - 1, counts, ends, rows, kept, used)
        at = until
    return n


@njit(cache=True, nogil=True)
def count_columns(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    codes: NDArray[np.int8],
    start: int,
    closed: Closed,
) -> int:
    """Count codes (c, n) that all have a category; row j is signal ``signals + j``.

    Returns the position of the first that was not counted for want of room, n if there is none.
    """
    c = codes.shape[0]
    n: int = codes.shape[1]
    size = first[signals + 1] - first[signals]
    ends, rows, kept, used = closed.signals, closed.rows, closed.counts, closed.used
    stop: int = min(n, start + _most_rows(c, size, closed))
    for j in range(c):
        signal = signals + j
        begin = first[signal]
        fill = filled[signal]
        at = start
        while at < stop:
            until = min(stop, at + BLOCK - fill)
            for i in range(at, until):
                counts[begin + codes[j, i]] += 1
            fill += until - at
            at = until
            if fill == BLOCK:
                fill = 0
                _close(signal, begin, begin + size, at - 1, counts, ends, rows, kept, used)
        filled[signal] = fill
    return stop


@njit(cache=True, nogil=True)
def count_numbers(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    values: NDArray[np.float64],
    chosen: NDArray[np.int64],
    columns: NDArray[np.int64],
    edges: NDArray[np.float64],
    start: int,
    closed: Closed,
) -> int:
    """Count some columns of chosen rows of values (n, c) in bins; else as `count_columns`."""
    n: int = len(chosen)
    c = len(columns)
    size = len(edges) + 2
    ends, rows, kept, used = closed.signals, closed.rows, closed.counts, closed.used
    stop: int = min(n, start + _most_rows(c, size, closed))
    codes = np.empty(_NEAR, dtype=np.int64)
    near = np.empty(_NEAR)
    low = start
    while low < stop:
        # A few rows of all columns after each other: they are still in the cache.
        high = min(stop, low + _NEAR)
        for j in range(c):
            signal, column = signals + j, columns[j]
            begin = first[signal]
            fill = filled[signal]
            for i in range(high - low):
                near[i] = values[chosen[low + i], column]
                codes[i] = begin if np.isnan(near[i]) else begin + 1
            # Without branches, and several values at a time.
            for k in range(len(edges)):
                edge = edges[k]
                for i in range(high - low):
                    codes[i] += 1 if near[i] > edge else 0
            at = low
            while at < high:
                until = min(high, at + BLOCK - fill)
                for i in range(at, until):
                    counts[codes[i - low]] += 1
                fill += until - at
                at = until
                if fill == BLOCK:
                    fill = 0
                    _close(signal, begin, begin + size, at - 1, counts, ends, rows, kept, used)
            filled[signal] = fill
        low = high
    return stop


@njit(cache=True, nogil=True)
def close_blocks(
    layout: Layout,
    state: State,
    closed: Closed,
    ts: NDArray[np.float64],
    found: Crossings,
) -> None:
    """Judge closed blocks, and take them into references that still grow.

    Fills ``found`` with crossings, and with the mean code of every block.
    """
    # Held by name: whatever is looked up in a tuple is counted as held, atomically, each time.
    first, decay, seen = layout.first, layout.decay, state.seen
    settle, first_blocks, min_effect = layout.settle_blocks, layout.first_blocks, layout.min_effect
    sums, weights, share, deff = state.sums, state.weights, state.share, state.deff
    size, freedom, firing, growing = state.size, state.freedom, state.firing, state.growing
    reference, batches, squares = state.reference, state.batches, state.squares
    collected = state.blocks
    signals, rows, counts = closed.signals, closed.rows, closed.counts
    means = found.means
    found.used[0] = 0
    at = 0
    for block in range(closed.used[0]):
        signal = signals[block]
        begin, end = first[signal], first[signal + 1]
        mine = counts[at : at + end - begin]
        at += end - begin
        mean = 0.0
        for k in range(end - begin):
            mean += k * mine[k]
        means[block] = mean / (BLOCK * (end - begin - 1))
        furthest = judge_block(
            begin, end, signal, decay, mine, sums, weights, share, deff, size[signal],
            freedom[signal], min_effect,
        )  # fmt: skip
        if furthest[0] != 0.0 or firing[signal]:
            detect(layout, state, signal, rows[block], furthest, found)
        if (
            growing[signal]
            and seen[signal] >= settle
            and collect_block(
                signal, begin, end, first_blocks, mine, reference, batches, squares, collected
            )
        ):
            grow(layout, state, signal, ts[rows[block]])
        seen[signal] += 1


@njit(cache=True, nogil=True)
def bin_numbers(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[Any]:
    """Return the bin of each value, int8: 0 if it is NaN, else 1 + the edges below it."""
    codes = np.empty(len(values), dtype=np.int8)
    for i in range(len(values)):
        value = values[i]
        code = 0 if np.isnan(value) else 1
        for edge in range(len(edges)):
            code += 1 if value > edges[edge] else 0
        codes[i] = code
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
        top = 0
        for c in range(1, k):
            value = proba[i, c]
            top = c if value > highest else top
            highest = max(value, highest)
        best[i] = top
        confidence[i] = highest
    return best, confidence
