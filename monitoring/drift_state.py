"""The arrays of drift detection: how large they are, and how they become versioned bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.detections import Detection
from monitoring.drift_budget import threshold
from monitoring.drift_kernels import BINARY, BLOCK, LEVELS, Layout, State
from monitoring.packing import packed, unpacked
from monitoring.references import Reference
from monitoring.signals import DriftRules, SignalGroup

__all__ = [
    "BY_CATEGORY",
    "DECAYED",
    "Stored",
    "change_block",
    "empty_state",
    "forget_reference",
    "layout_of",
    "pack_signals",
    "pack_state",
    "take_reference",
    "unpack_state",
]

BY_CATEGORY: Final = frozenset(
    {"counts", "sums", "reference", "batches", "squares", "share", "deff"}
)
"""Arrays whose last axis counts categories; that of all others counts signals."""

DECAYED: Final = frozenset({"sums", "weights"})
"""Arrays that mean something only with their half-lives."""

_FORMAT: Final = 3
"""1: signals as they are; 2: compressed; 3: with the length of their blocks."""
# What lies beside each other in memory, entry by entry: a block reads and writes it together, and
# with hundreds of signals nothing of it is in the cache.
_TOGETHER: Final = (
    ("counts",),
    ("filled",),
    ("sums", "share", "deff"),
    ("reference", "batches", "squares"),
    ("weights", "freedom", "since"),
    ("growing", "blocks", "size", "firing", "seen", "version", "detected"),
)
# What is 0 in a signal whose reference does not grow, and is not written then.
_COLLECTED: Final = frozenset({"reference", "batches", "squares"})


class Stored(NamedTuple):
    """What was written: (name, tag, categories, block) of each signal, where they begin, …"""

    signals: list[tuple[str, str, tuple[str, ...], int]]
    half_lives: tuple[float, ...]
    first: list[int]
    arrays: dict[str, NDArray[Any]]
    detections: list[Detection]


def layout_of(owners: Sequence[SignalGroup], rules: DriftRules) -> Layout:
    """Return the layout of signals, by the group of each."""
    sizes = [len(group.categories) for group in owners]
    limits = {
        k: threshold(rules.budget, rules.half_lives, 1 if k == BINARY else k) for k in set(sizes)
    }
    levels = [(group.block // BLOCK).bit_length() - 1 for group in owners]
    return Layout(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([limits[k] for k in sizes], dtype=np.float64),
        np.array(levels, dtype=np.int64),
        np.array(
            [
                [2.0 ** (-(BLOCK << level) / half) for half in rules.half_lives]
                for level in range(max(levels, default=0) + 1)
            ]
        ),
        -(-rules.settle_values // BLOCK),
        rules.first_blocks,
        rules.reference_blocks,
        rules.min_effect,
    )


def empty_state(first: NDArray[np.int64], scales: int) -> State:
    """Return the state of signals that saw nothing yet."""
    shapes = _shapes(len(first) - 1, int(first[-1]), scales)
    arrays: dict[str, NDArray[Any]] = {}
    for names in _TOGETHER:
        widths = [prod(shapes[name][0][:-1]) for name in names]
        (*_, entries), kind = shapes[names[0]]
        base: NDArray[Any] = np.zeros((entries, sum(widths)), dtype=kind)
        for name, part in zip(names, np.split(base, np.cumsum(widths[:-1]), axis=1), strict=True):
            arrays[name] = part.T if len(shapes[name][0]) > 1 else part[:, 0]
    state = State(**arrays)
    state.growing[:] = 1
    return state


def forget_reference(layout: Layout, state: State, signal: int) -> None:
    """Begin to collect a new reference of a signal."""
    begin, end = layout.first[signal : signal + 2]
    state.reference[begin:end] = 0
    state.batches[:, begin:end] = 0
    state.squares[:, begin:end] = 0
    state.blocks[signal] = 0
    state.growing[signal] = 1
    state.size[signal] = 0
    state.freedom[signal] = 0.0
    state.firing[signal] = 0


def change_block(layout: Layout, state: State, signal: int) -> None:
    """Go on with a signal that was looked at after blocks of another length.

    What was half collected cannot be told apart in the new ones. A reference stands as it is; one
    that still grows, until twice as much was collected anew.
    """
    begin, end = layout.first[signal : signal + 2]
    state.counts[begin:end] = 0
    state.filled[signal] = 0
    state.reference[begin:end] = 0
    state.batches[:, begin:end] = 0
    state.squares[:, begin:end] = 0
    state.blocks[signal] = 0


def take_reference(layout: Layout, state: State, signal: int, reference: Reference) -> None:
    """Compare a signal with a recorded reference from now on."""
    forget_reference(layout, state, signal)
    begin, end = layout.first[signal : signal + 2]
    state.share[begin:end] = reference.shares
    state.deff[begin:end] = reference.design_effects
    state.growing[signal] = 0
    state.size[signal] = max(reference.values // BLOCK, 1)
    state.freedom[signal] = reference.freedom
    state.since[signal] = reference.since
    state.version[signal] = max(int(state.version[signal]) + 1, reference.version)


def pack_signals(signals: Sequence[tuple[str, str, tuple[str, ...], int]]) -> bytes:
    """Return (name, tag, categories, block) of each signal as bytes: they repeat each other."""
    return zlib.compress(msgspec.msgpack.encode(signals))


def pack_state(
    signals: bytes,
    half_lives: tuple[float, ...],
    first: NDArray[np.int64],
    state: State,
    detections: Sequence[Detection],
) -> bytes:
    """Return the state as bytes; equal states, of packed signals, give equal bytes."""
    growing = np.repeat(state.growing == 1, np.diff(first))
    arrays = {
        name: np.ascontiguousarray(array[..., growing] if name in _COLLECTED else array).tobytes()
        for name, array in state._asdict().items()
    }
    return msgspec.msgpack.encode(
        {
            "format": _FORMAT,
            "half_lives": half_lives,
            "signals": signals,
            "arrays": packed(msgspec.msgpack.encode(arrays)),
            "detections": detections,
        }
    )


def unpack_state(data: bytes) -> Stored:
    """Return what was written.

    Raises
    ------
    ValueError
        If the bytes are none of these, or of a newer format.
    """
    try:
        stored: dict[str, Any] = msgspec.msgpack.decode(data)
        written = int(stored["format"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ValueError(f"this is no state of drift detection: {error}") from error
    if written > _FORMAT:
        raise ValueError(f"drift state has format {written}, this program reads up to {_FORMAT}")
    written_signals = stored["signals"]
    if written > 1:
        written_signals = msgspec.msgpack.decode(zlib.decompress(written_signals))
    signals = [
        (name, tag, tuple(categories), *(block or (BLOCK,)))
        for name, tag, categories, *block in written_signals
    ]
    sizes = [len(categories) for _, _, categories, _ in signals]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Stored(
        signals,
        tuple(stored["half_lives"]),
        first.tolist(),
        _arrays(
            msgspec.msgpack.decode(unpacked(stored["arrays"]), type=dict[str, bytes]),
            first,
            len(stored["half_lives"]),
        ),
        [msgspec.convert(each, Detection) for each in stored["detections"]],
    )


def _shapes(signals: int, categories: int, scales: int) -> dict[str, tuple[tuple[int, ...], type]]:
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        name: ((signals,), np.int64) for name in State._fields
    }
    for name in ("counts", "reference"):
        shapes[name] = ((categories,), np.int64)
    for name in ("batches", "squares"):
        shapes[name] = ((LEVELS, categories), np.int64)
    for name in ("share", "deff"):
        shapes[name] = ((categories,), np.float64)
    for name in ("freedom", "since"):
        shapes[name] = ((signals,), np.float64)
    shapes["sums"] = ((scales, categories), np.float64)
    shapes["weights"] = ((scales, signals), np.float64)
    return shapes


def _arrays(
    stored: dict[str, bytes], first: NDArray[np.int64], scales: int
) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    growing = np.repeat(np.frombuffer(stored["growing"], dtype=np.int64) == 1, np.diff(first))
    for name, (shape, kind) in _shapes(len(first) - 1, int(first[-1]), scales).items():
        array: NDArray[Any] = np.frombuffer(stored[name], dtype=kind)
        if name in _COLLECTED:
            found[name] = np.zeros(shape, dtype=kind)
            found[name][..., growing] = array.reshape(*shape[:-1], int(growing.sum()))
        else:
            found[name] = array.reshape(shape)
    return found
