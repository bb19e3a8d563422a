"""Rows that wait until there are enough of them to be taken in together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from monitoring.sparse_votes import SparseVotes

__all__ = ["HeldRows", "joined", "placed", "runs"]

_RUN: Final = 512

_Labels = tuple[SparseVotes, NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
_Evidence = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
_Engaged = tuple[
    NDArray[Any], NDArray[Any], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]
]


@dataclass(slots=True)
class HeldRows:
    """Rows that wait, in their order: each kind on its own."""

    labels: dict[str, list[_Labels]]
    evidence: list[_Evidence] = field(default_factory=list)
    engaged: list[_Engaged] = field(default_factory=list)
    events: list[tuple[NDArray[np.int8], NDArray[np.float64]]] = field(default_factory=list)
    rows: int = 0


def runs(parts: Sequence[_Evidence]) -> Iterator[list[_Evidence]]:
    """Yield consecutive parts together that are small: a large one alone is not copied."""
    run: list[_Evidence] = []
    rows = 0
    for part in parts:
        run.append(part)
        rows += len(part[1])
        if rows >= _RUN:
            yield run
            run, rows = [], 0
    if run:
        yield run


def placed(parts: Sequence[_Evidence]) -> list[_Evidence]:
    """Return the parts with their rows counted from the first value of all."""
    before, found = 0, []
    for values, rows, ts in parts:
        found.append((values, rows + before if before else rows, ts))
        before += len(values)
    return found


def joined(parts: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """Return parts as one, not copied if there is only one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
