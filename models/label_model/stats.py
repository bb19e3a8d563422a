"""Contributions of partitions: sums with names and a clock, moved, aligned and merged as bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.label_model.config import default_config
from models.label_model.entry import scale
from models.label_model.layout import (
    PAIR_LIMIT,
    Config,
    FloatArray,
    Sums,
    new_sums,
    pair_count,
)
from models.label_model.snapshot import SnapshotError, pack, pack_arrays, unpack, unpack_arrays

__all__ = [
    "Contribution",
    "aged",
    "align_sums",
    "decode",
    "encode",
    "merge_contributions",
    "merged",
]

KIND = "headrace label statistics"

_DECODED: Final = 128
"""Contributions that are kept as they were read: each partition of a process takes the same in."""
_DECODED_BYTES: Final = 1 << 18
"""Of a contribution that is kept, at most: those of hundreds of annotators take megabytes."""
_OF_EACH: Final = ("counts", "before", "evidence", "cast", "gold_hits")
_OF_ALL: Final = ("mass", "belief", "gold_share", "gold_size", "gold_loss", "gate")
"""Of the `Sums`, those of each column and those that have none; the pairs are neither."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """Sums of one or more partitions, as of a point of the stream's clock.

    ``clock`` is the stream's count at that point, ``count`` the examples in the sums, and
    ``votes_seen`` (m,) each column's count of votes, by which its evidence decays.
    """

    lfs: tuple[str, ...]
    count: int
    clock: int
    half_lives: tuple[float, ...]
    votes_seen: FloatArray
    sums: Sums


def _pair_matrix(sums: Sums) -> FloatArray:
    m = len(sums.cast)
    width = 0
    while pair_count(width) < len(sums.pairs):
        width += 1
    dense = np.zeros((m, m, 4))
    rows, cols = np.tril_indices(width, -1)
    dense[rows, cols] = sums.pairs
    dense[cols, rows] = sums.pairs
    return dense


def align_sums(sums: Sums, columns: Sequence[int]) -> Sums:
    """Return sums whose column j is the old column ``columns[j]``, or a new one for -1."""
    index = np.asarray(columns, dtype=np.int64)
    m = len(index)
    old_m, n_classes, n_bank, _ = sums.counts.shape
    if m == old_m and np.array_equal(index, np.arange(m)):
        return Sums(*(array.copy() for array in sums))
    if m == old_m <= PAIR_LIMIT and np.array_equal(np.sort(index), np.arange(m)):
        return _reordered(sums, index)
    out = new_sums(m, n_classes, n_bank)
    for name in _OF_ALL:
        getattr(out, name)[...] = getattr(sums, name)
    out.before[...] = sums.mass
    here = np.flatnonzero(index >= 0)
    for name in _OF_EACH:
        getattr(out, name)[here] = getattr(sums, name)[index[here]]
    if len(here):
        dense = np.zeros((m, m, 4))
        dense[np.ix_(here, here)] = _pair_matrix(sums)[np.ix_(index[here], index[here])]
        rows, cols = np.tril_indices(min(m, PAIR_LIMIT), -1)
        out.pairs[...] = dense[rows, cols]
    return out


def _reordered(sums: Sums, columns: npt.NDArray[np.int64]) -> Sums:
    """Return sums of the same columns in another order."""
    by_column = {name: getattr(sums, name)[columns] for name in _OF_EACH}
    alike = {name: getattr(sums, name).copy() for name in _OF_ALL}
    pairs = sums.pairs[_places_of_pairs(tuple(columns.tolist()))]
    return Sums(pairs=pairs, **by_column, **alike)


@lru_cache(maxsize=64)
def _places_of_pairs(columns: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return where each pair of reordered columns stands among the pairs of the old order."""
    index = np.array(columns, dtype=np.int64)
    rows, cols = np.tril_indices(len(index), -1)
    one, other = index[rows], index[cols]
    later = np.maximum(one, other)
    return np.asarray(later * (later - 1) // 2 + np.minimum(one, other), dtype=np.int64)


def encode(contribution: Contribution) -> bytes:
    """Return the contribution as bytes, its columns in the order of their names."""
    order = sorted(range(len(contribution.lfs)), key=contribution.lfs.__getitem__)
    sums = align_sums(contribution.sums, order)
    return pack(
        KIND,
        {
            "lfs": [contribution.lfs[j] for j in order],
            "count": contribution.count,
            "clock": contribution.clock,
            "half_lives": list(contribution.half_lives),
            "arrays": pack_arrays({"votes_seen": contribution.votes_seen[order], **sums._asdict()}),
        },
    )


def decode(data: bytes) -> Contribution:
    """Return the contribution that `encode` wrote: for all who ask the same one, never changed."""
    return _kept(data) if len(data) <= _DECODED_BYTES else _read(data)


def _read(data: bytes) -> Contribution:
    content = unpack(KIND, data)
    arrays: dict[str, npt.NDArray[Any]] = unpack_arrays(content["arrays"])
    for array in arrays.values():
        array.flags.writeable = False
    return Contribution(
        lfs=tuple(content["lfs"]),
        count=content["count"],
        clock=content["clock"],
        half_lives=tuple(content["half_lives"]),
        votes_seen=arrays.pop("votes_seen"),
        sums=Sums(**arrays),
    )


_kept = lru_cache(maxsize=_DECODED)(_read)


def age_evidence(sums: Sums, votes: FloatArray, half_life: float) -> None:
    """Decay evidence by the votes that were cast since."""
    sums.evidence[...] *= 2.0 ** (-np.maximum(votes, 0.0) / half_life)[:, None]


def aged(age: float, config: Config) -> FloatArray:
    """Return by what sums of each half-life are divided after ``age`` examples, (H,).

    Bounded: what is a thousand half-lives old counts for nothing, and is no overflow.
    """
    weight: FloatArray = 2.0 ** np.minimum(age / config.half_lives, 1000.0)
    return weight


def merged(contributions: Sequence[bytes]) -> Contribution:
    """Return the sum of at least one contribution, each as bytes."""
    parts = [decode(data) for data in contributions]
    config = _config_of(parts[0].half_lives)
    small = max(map(len, contributions)) <= _DECODED_BYTES
    return merge_contributions(parts, config, _kept_at if small else _at)


@lru_cache(maxsize=8)
def _config_of(half_lives: tuple[float, ...]) -> Config:
    return default_config(learn_balance=False, correlations=True, half_lives=half_lives)


def _at(
    part: Contribution, names: tuple[str, ...], clock: int, config: Config | None = None
) -> tuple[Sums, FloatArray]:
    """Return a contribution's sums of these columns at a later time, and its votes seen.

    How much its evidence counts by then depends on the others, and is left as it was.
    """
    if config is None:
        config = _config_of(part.half_lives)
    where = {name: j for j, name in enumerate(part.lfs)}
    columns = [where.get(name, -1) for name in names]
    seen = np.array([part.votes_seen[j] if j >= 0 else 0.0 for j in columns])
    sums = align_sums(part.sums, columns)
    age = float(clock - part.clock)
    scale(sums, config, age, aged(age, config))
    return sums, seen


# Each partition of a process adds up the others': nearly the same ones, moved to the same time.
_kept_at = lru_cache(maxsize=_DECODED)(_at)


def merge_contributions(
    parts: Sequence[Contribution],
    config: Config,
    at: Callable[[Contribution, tuple[str, ...], int], tuple[Sums, FloatArray]] | None = None,
) -> Contribution:
    """Return the sum of contributions at the latest of their times.

    *Math* — (t1, S1) ⊕ (t2, S2) = (t*, Σ 2^(−(t* − ti)/h) Si), t* = max ti.
    """
    if not parts:
        message = "nothing to merge"
        raise SnapshotError(message)
    names = tuple(sorted({name for part in parts for name in part.lfs}))
    clock = max(part.clock for part in parts)
    moved = [at(p, names, clock) if at else _at(p, names, clock, config) for p in parts]
    votes_seen = np.zeros(len(names))
    for _, seen in moved:
        votes_seen = np.maximum(votes_seen, seen)
    n_classes, n_bank = parts[0].sums.counts.shape[1:3]
    total = new_sums(len(names), n_classes, n_bank)
    for kept, seen in moved:
        sums = kept._replace(evidence=kept.evidence.copy())
        age_evidence(sums, votes_seen - seen, config.evidence_half_life)
        for into, more in zip(total, sums, strict=True):
            np.add(into, more, out=into)
    count = sum(part.count for part in parts)
    return Contribution(names, count, clock, parts[0].half_lives, votes_seen, total)
