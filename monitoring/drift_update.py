"""The loops of drift detection: values in, arrays changed in place, detections out.

Everything is counted in whole blocks of a signal, of `BLOCK` values or more, so that nothing
depends on how a stream was cut into calls, and a value costs one increment. A loop counts until
`Closed` is full; then `close_blocks` judges what was closed, signal by signal in the order of its
values. What is done for every block is inlined: each array that is an argument is counted as held,
atomically, at every call.
"""

from __future__ import annotations

from typing import Final, NamedTuple

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
    "close_blocks",
    "count_columns",
    "count_coverage",
    "count_numbers",
    "count_rows",
    "count_votes",
    "room_for",
]

_ROOM: Final = 4096


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


@njit(cache=True, nogil=True, inline="always")
def _close(
    signal: int,
    begin: int,
    end: int,
    row: int,
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: NDArray[np.int64],
    rows: NDArray[np.int64],
    kept: NDArray[np.int64],
    used: NDArray[np.int64],
) -> None:
    """Move a full block, up to a row, to those that are closed."""
    filled[signal] = 0
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
def _most_rows(columns: int, size: int, block: int, closed: Closed) -> int:
    """Return of how many rows there is room for every block that may be closed."""
    blocks = min(len(closed.signals), len(closed.counts) // size)
    return (blocks // max(columns, 1) - 1) * block


@njit(cache=True, nogil=True)
def count_rows(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    block: int,
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
                if filled[signal] == block:
                    _close(signal, begin, begin + size, i, counts, filled, ends, rows, kept, used)
    return n


@njit(cache=True, nogil=True)
def count_votes(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    block: int,
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
            begin = zero + j * size
            counts[begin + code] += 1
            signal = signals + j
            filled[signal] += 1
            if filled[signal] == block:
                _close(signal, begin, begin + size, i, counts, filled, ends, rows, kept, used)
            if several:
                begin += shift * size
                counts[begin + code] += 1
                signal += shift
                filled[signal] += 1
                if filled[signal] == block:
                    _close(signal, begin, begin + size, i, counts, filled, ends, rows, kept, used)
    return n


@njit(cache=True, nogil=True)
def count_coverage(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    block: int,
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
    room = min(len(ends), len(kept) // BINARY) - functions
    voted = np.zeros(functions, dtype=np.int64)
    at = start
    while at < n:
        if used[0] > room:
            return at
        # As far as no signal's block is filled before: usually all are at the same value.
        until = n
        for j in range(functions):
            until = min(until, at + block - filled[signals + j])
        for entry in range(starts[at], starts[until]):
            voted[columns[entry]] += 1
        for j in range(functions):
            begin = zero + BINARY * j
            counts[begin] += until - at - voted[j]
            counts[begin + 1] += voted[j]
            voted[j] = 0
            signal = signals + j
            filled[signal] += until - at
            if filled[signal] == block:
                _close(signal, begin, begin + BINARY, until - 1, counts, filled, ends, rows, kept,
                       used)  # fmt: skip
        at = until
    return n


@njit(cache=True, nogil=True)
def count_columns(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    block: int,
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
    stop: int = min(n, start + _most_rows(c, size, block, closed))
    for j in range(c):
        signal = signals + j
        begin = first[signal]
        at = start
        while at < stop:
            until = min(stop, at + block - filled[signal])
            for i in range(at, until):
                counts[begin + codes[j, i]] += 1
            filled[signal] += until - at
            if filled[signal] == block:
                _close(signal, begin, begin + size, until - 1, counts, filled, ends, rows, kept,
                       used)  # fmt: skip
            at = until
    return stop


@njit(cache=True, nogil=True)
def count_numbers(
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    filled: NDArray[np.int64],
    signals: int,
    block: int,
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
    stop: int = min(n, start + _most_rows(c, size, block, closed))
    near = np.empty(block)
    low = start
    while low < stop:
        # As many rows of all columns after each other as a block has: they are still in the cache.
        high = min(stop, low + block)
        for j in range(c):
            signal, column = signals + j, columns[j]
            begin = first[signal]
            at = low
            while at < high:
                until = min(high, at + block - filled[signal])
                rest = until - at
                missing = 0
                for i in range(rest):
                    value = values[chosen[at + i], column]
                    near[i] = value
                    missing += 1 if np.isnan(value) else 0
                counts[begin] += missing
                # How many lie above each edge: without branches, and several values at a time.
                within = rest - missing
                for k in range(len(edges)):
                    edge = edges[k]
                    above = 0
                    for i in range(rest):
                        above += 1 if near[i] > edge else 0
                    counts[begin + 1 + k] += within - above
                    within = above
                counts[begin + size - 1] += within
                filled[signal] += rest
                if filled[signal] == block:
                    _close(signal, begin, begin + size, until - 1, counts, filled, ends, rows, kept,
                           used)  # fmt: skip
                at = until
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
    first, levels, decay, seen = layout.first, layout.levels, layout.decay, state.seen
    limits = layout.thresholds
    settle, first_blocks, min_effect = layout.settle_blocks, layout.first_blocks, layout.min_effect
    sums, weights, share, deff = state.sums, state.weights, state.share, state.deff
    size, freedom, firing, growing = state.size, state.freedom, state.firing, state.growing
    reference, batches, squares = state.reference, state.batches, state.squares
    collected = state.blocks
    signals, rows, counts = closed.signals, closed.rows, closed.counts
    means = found.means
    found.used[0] = 0
    at = 0
    for number in range(closed.used[0]):
        signal = signals[number]
        begin, end, level = first[signal], first[signal + 1], levels[signal]
        mean = 0.0
        for k in range(end - begin):
            mean += k * counts[at + k]
        means[number] = mean / ((BLOCK << level) * (end - begin - 1))
        furthest = judge_block(
            begin, end, signal, level, decay, counts, at, sums, weights, share, deff, size[signal],
            freedom[signal], min_effect, 0.0 if firing[signal] else limits[signal],
        )  # fmt: skip
        if furthest[0] != 0.0 or firing[signal]:
            detect(layout, state, signal, rows[number], furthest, found)
        if (
            growing[signal]
            and seen[signal] >= settle
            and collect_block(
                signal, level, begin, end, first_blocks, counts, at, reference, batches, squares,
                collected,
            )
            and collected[signal] > size[signal]
        ):  # fmt: skip
            grow(layout, state, signal, ts[rows[number]])
        seen[signal] += 1 << level
        at += end - begin
