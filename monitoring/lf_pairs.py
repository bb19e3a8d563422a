"""Which labeling functions contradict each other: decayed conflicts and errors in common.

Only pairs with enough joint votes are ranked, by what is certain of their ratio: a pair that met
three times does not stand above one that has contradicted itself a thousand times.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.sparse_votes import SparseVotes, sparse_votes

__all__ = ["MAX_FUNCTIONS", "WORST", "LfPairs", "Pair"]

MAX_FUNCTIONS: Final = 128
"""Functions of a task whose pairs are watched: the first ones; 8,128 pairs, 325 KB."""

WORST: Final = 20
"""Pairs that are shown."""

_FORMAT: Final = 2
"""1: sums as they are shown; 2: sums by what a pair of votes comes to."""
_CONFIDENCE: Final = 1.96
_LEAST: Final = 30.0
_HALVES: Final = 32
# Columns of the sums as they are shown.
_JOINT, _CONFLICT, _WRONG_A, _WRONG_B, _WRONG_BOTH = range(5)
# Columns of the sums as they are kept: who of the two is wrong, and if both, whether alike. Every
# pair of votes belongs to one of them.
_NEITHER, _ONLY_B, _ONLY_A, _ALIKE, _APART = range(5)
_SUMS: Final = 5


class Pair(NamedTuple):
    """Two functions, in the order of their columns, and a ratio: of conflicts, or correlation."""

    a: str
    b: str
    ratio: float
    joint: float


@njit(cache=True, nogil=True)
def _count(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    votes: NDArray[np.int8],
    best: NDArray[np.int64],
    watched: int,
    gain: float,
    weight: float,
    sums: NDArray[np.float64],
) -> float:
    """Add the pairs of votes, each row ``gain`` times heavier than the one before it."""
    wrong = np.empty(watched, dtype=np.int64)
    limit = 2.0**_HALVES
    for i in range(len(starts) - 1):
        weight *= gain
        if weight > limit:
            sums /= limit
            weight /= limit
        first = starts[i]
        for at in range(first, starts[i + 1]):
            b, vote = columns[at], votes[at]
            if b >= watched:
                break
            mine = 0 if vote == best[i] else 1
            wrong[at - first] = mine
            # Pairs (a, b), a < b, lie at b·(b − 1)/2 + a.
            base = b * (b - 1) // 2
            for before in range(first, at):
                outcome = 2 * wrong[before - first] + mine
                if outcome == _ALIKE and votes[before] != vote:
                    outcome = _APART
                sums[base + columns[before], outcome] += weight
    return weight


def _shown(kept: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return joint votes, conflicts, and errors of a, of b, of both, of sums by outcome."""
    wrong = kept[:, [_ONLY_A, _ONLY_B]]
    both = kept[:, _ALIKE] + kept[:, _APART]
    return np.stack(
        [
            kept.sum(axis=1),
            wrong.sum(axis=1) + kept[:, _APART],
            wrong[:, 0] + both,
            wrong[:, 1] + both,
            both,
        ],
        axis=1,
    )


def _kept(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums by outcome of those that an older version wrote."""
    joint, conflict, wrong_a, wrong_b, both = shown.T
    only_a, only_b = wrong_a - both, wrong_b - both
    apart = conflict - only_a - only_b
    found = np.stack([joint - only_a - wrong_b, only_b, only_a, both - apart, apart], axis=1)
    outcomes: NDArray[np.float64] = np.maximum(found, 0.0)
    return outcomes


class LfPairs:
    """Joint votes of every two functions of one task, with a half-life in examples.

    *Math* — a row weighs 2^(n/half-life), n its number; only ratios of sums are used, so that is
    the same as decay, at one multiplication a row instead of one a pair.

    *State* — 5 sums a pair, of at most `MAX_FUNCTIONS` functions.

    *Complexity* — O(v²) for an example with v votes: one addition a pair.

    *Replay* — rows are added one by one in their order: the cut into calls changes no bit.

    Parameters
    ----------
    names
        Functions, in the order of the columns of the votes.
    half_life
        In examples.

    Examples
    --------
    >>> pairs = LfPairs(["viewed", "bought", "left"])
    >>> votes = np.array([[1, 1, 0], [0, 0, 1]] * 50, dtype=np.int8)
    >>> pairs.update(votes, votes[:, 0])
    >>> [(pair.a, pair.b, round(pair.ratio, 2)) for pair in pairs.conflicts()][:2]
    [('viewed', 'left', 1.0), ('bought', 'left', 1.0)]
    """

    def __init__(self, names: Sequence[str], half_life: float = 10_000.0) -> None:
        if half_life <= 0.0:
            raise ValueError("a half-life must be above 0")
        self.names = tuple(names)
        self.half_life = half_life
        self.watched = min(len(self.names), MAX_FUNCTIONS)
        self._weight = 1.0
        # Sums of one outcome beside each other: most votes are of the same few.
        self._sums = np.zeros((_SUMS, self.watched * (self.watched - 1) // 2)).T

    @property
    def left_out(self) -> tuple[str, ...]:
        """Functions whose pairs are not watched."""
        return self.names[self.watched :]

    def update(self, votes: NDArray[np.int8], best: NDArray[Any]) -> None:
        """Count examples: votes (n, m), −1 for none, and the label model's best class (n,)."""
        if votes.shape != (len(votes), len(self.names)):
            raise ValueError(f"votes of shape {votes.shape} for {len(self.names)} functions")
        self.update_votes(sparse_votes(votes), np.ascontiguousarray(best, dtype=np.int64))

    def update_votes(self, votes: SparseVotes, best: NDArray[np.int64]) -> None:
        """Count examples of which the votes are known by row; else as `update`."""
        if votes.functions != len(self.names):
            raise ValueError(f"votes of {votes.functions} functions for {len(self.names)}")
        self._weight = _count(
            votes.starts,
            votes.columns,
            votes.votes,
            best,
            self.watched,
            2.0 ** (1.0 / self.half_life),
            self._weight,
            self._sums,
        )

    @property
    def sums(self) -> NDArray[np.float64]:
        """Decayed sums of each pair, (pairs, 5): they add across partitions.

        Joint votes, those in conflict, and those on which a, b, or both are wrong.
        """
        return _shown(self._sums / self._weight)

    def matrix(self, sums: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the share of conflicts among joint votes of every two functions, (n, n).

        NaN where too few joint votes say anything, and on the diagonal.
        """
        known = self.sums if sums is None else sums
        found = np.full((self.watched, self.watched), np.nan)
        b, a = np.tril_indices(self.watched, -1)
        joint = known[:, _JOINT]
        ratio = np.where(joint >= _LEAST, known[:, _CONFLICT] / np.maximum(joint, 1.0), np.nan)
        found[a, b] = found[b, a] = ratio
        return found

    def conflicts(self, top: int = WORST, sums: NDArray[np.float64] | None = None) -> list[Pair]:
        """Return the pairs that surely contradict each other most often, worst first.

        Ranked by Wilson's lower bound of the ratio; ``sums`` of several partitions may be given.
        """
        known = self.sums if sums is None else sums
        joint = known[:, _JOINT]
        enough = np.flatnonzero(joint >= _LEAST)
        n = joint[enough]
        ratio = known[enough, _CONFLICT] / n
        z2 = _CONFIDENCE**2
        bound = (
            ratio + z2 / (2 * n) - _CONFIDENCE * np.sqrt(ratio * (1 - ratio) / n + z2 / (4 * n * n))
        ) / (1 + z2 / n)
        return self._top(enough, bound, ratio, joint, top)

    def correlations(self, top: int = WORST, sums: NDArray[np.float64] | None = None) -> list[Pair]:
        """Return the pairs whose errors, against the label model, surely go together most."""
        known = self.sums if sums is None else sums
        joint = known[:, _JOINT]
        share_a = known[:, _WRONG_A] / np.maximum(joint, 1.0)
        share_b = known[:, _WRONG_B] / np.maximum(joint, 1.0)
        spread = share_a * (1 - share_a) * share_b * (1 - share_b)
        enough = np.flatnonzero((joint >= _LEAST) & (spread > 0.0))
        covariance = known[enough, _WRONG_BOTH] / joint[enough] - share_a[enough] * share_b[enough]
        phi = covariance / np.sqrt(spread[enough])
        bound = phi - _CONFIDENCE / np.sqrt(joint[enough])
        return self._top(enough, bound, phi, joint, top)

    def _top(
        self,
        pairs: NDArray[np.intp],
        bound: NDArray[np.float64],
        ratio: NDArray[np.float64],
        joint: NDArray[np.float64],
        top: int,
    ) -> list[Pair]:
        order = np.lexsort((pairs, -bound))[:top]
        found = []
        for at in order.tolist():
            pair = int(pairs[at])
            b = int((1.0 + sqrt(1.0 + 8.0 * pair)) / 2.0)
            a = pair - b * (b - 1) // 2
            found.append(Pair(self.names[a], self.names[b], float(ratio[at]), float(joint[pair])))
        return found

    def to_bytes(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return msgspec.msgpack.encode(
            (_FORMAT, self.names, self.half_life, self._weight, self._sums.tobytes())
        )

    def load(self, data: bytes) -> None:
        """Take up the pairs of functions that are still here.

        Raises
        ------
        ValueError
            If the bytes are of a newer format.
        """
        stored: list[Any] = msgspec.msgpack.decode(data)
        if stored[0] > _FORMAT:
            raise ValueError(f"pairs have format {stored[0]}, this program reads up to {_FORMAT}")
        written, names, _, weight, raw = stored
        theirs = np.frombuffer(raw, dtype=np.float64).reshape(-1, _SUMS)
        if written == 1:
            theirs = _kept(theirs)
        column = {name: at for at, name in enumerate(self.names[: self.watched])}
        at = [column.get(name, -1) for name in names[:MAX_FUNCTIONS]]
        self._weight = weight
        self._sums[:] = 0.0
        for source_b in range(1, len(at)):
            for source_a in range(source_b):
                a, b = at[source_a], at[source_b]
                if min(a, b) < 0:
                    continue
                row = theirs[source_b * (source_b - 1) // 2 + source_a].copy()
                if a > b:
                    a, b = b, a
                    row[[_ONLY_A, _ONLY_B]] = row[[_ONLY_B, _ONLY_A]]
                self._sums[b * (b - 1) // 2 + a] = row
