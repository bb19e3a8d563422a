"""What happened lately, overall and by segment, in sums that add across partitions.

Beside each other stand how well the recommender predicts a segment, how sure its labels are, and
who votes on them: a segment that goes wrong points to the labeling functions behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, log2
from typing import Any, Final

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.sparse_votes import SparseVotes

__all__ = ["HIT_AT", "Recent", "TaskRecent"]

HIT_AT: Final = 10

_FORMAT: Final = 2
"""1: votes of functions as they are shown; 2: by what a vote comes to."""
_HALF_LIFE: Final = 1000.0
_HALVES: Final = 32
_FLOOR: Final = 1e-6
# Columns of what is known of engagements.
_ENGAGED: Final = 4
# Columns of what is known of labels, and of a function's votes.
_LABELS, _CONFIDENCE, _VOTED, _OVERLAP, _CONFLICT = range(5)
_HEAD: Final = 5
_RATIOS: Final = {
    "confidence": _CONFIDENCE, "coverage": _VOTED, "overlap": _OVERLAP, "conflict": _CONFLICT,
}  # fmt: skip
# Columns of a function's votes as they are kept: whether another function differs (the last two),
# and whether the model does. Every vote belongs to one of them.
_ACCEPTED, _OVERRULED, _DISPUTED, _LOST = range(4)
_OUTCOMES: Final = 4
# Of a function's votes as they are shown, and as format 1 kept them.
_SHOWN: Final = 3


@njit(cache=True, nogil=True)
def _engage(
    rank: NDArray[np.int64],
    predicted: NDArray[np.float64],
    parts: NDArray[np.int64],
    decay: float,
    sums: NDArray[np.float64],
) -> None:
    for i in range(len(rank)):
        hit, gain = 0.0, 0.0
        if 0 <= rank[i] < HIT_AT:
            hit, gain = 1.0, 1.0 / log2(rank[i] + 2.0)
        loss = -log(max(predicted[i], _FLOOR))
        for part in (0, 1 + parts[i]):
            row = sums[part]
            row[0] = row[0] * decay + 1.0
            row[1] = row[1] * decay + hit
            row[2] = row[2] * decay + gain
            row[3] = row[3] * decay + loss


@njit(cache=True, nogil=True)
def _label(
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    votes: NDArray[np.int8],
    proba: NDArray[np.float64],
    best: NDArray[np.int64],
    ts: NDArray[np.float64],
    parts: NDArray[np.int64],
    several: bool,
    gain: float,
    weights: NDArray[np.float64],
    head: NDArray[np.float64],
    mass: NDArray[np.float64],
    functions: NDArray[np.float64],
    last: NDArray[np.float64],
) -> None:
    """Add labels, each ``gain`` times heavier than the one before it in its part."""
    limit = 2.0**_HALVES
    for i in range(len(ts)):
        first, end = starts[i], starts[i + 1]
        differ = False
        for at in range(first, end):
            differ |= votes[at] != votes[first]
            j = columns[at]
            last[j] = max(last[j], ts[i])
        for which in range(2 if several else 1):
            part = 0 if which == 0 else 1 + parts[i]
            weight = weights[part] * gain
            if weight > limit:
                head[part] /= limit
                mass[part] /= limit
                functions[part] /= limit
                weight /= limit
            weights[part] = weight
            head[part, 0] += weight
            head[part, 1] += weight * proba[i, best[i]]
            if end > first:
                head[part, 2] += weight
            if end > first + 1:
                head[part, 3] += weight
            if differ:
                head[part, 4] += weight
            for k in range(proba.shape[1]):
                mass[part, k] += weight * proba[i, k]
            # A vote belongs to one of four outcomes: one addition instead of three.
            outcome = 2 if differ else 0
            for at in range(first, end):
                against = 0 if votes[at] == best[i] else 1
                functions[part, columns[at], outcome + against] += weight


@dataclass(slots=True)
class TaskRecent:
    """Labels of one task lately; parts are everything, then each segment, then all others.

    Attributes
    ----------
    head
        (parts, 5): labels, confidence, labels with a vote, with several, with different ones.
    mass
        (parts, K): probability of each class.
    functions
        (parts, m, 3): votes of each function, those in conflict, those against the model.
    last
        (m,): event time of each function's latest vote; minus infinity without any.
    """

    classes: tuple[str, ...]
    lfs: tuple[str, ...]
    head: NDArray[np.float64]
    mass: NDArray[np.float64]
    functions: NDArray[np.float64]
    last: NDArray[np.float64]

    def figures(self, part: int) -> dict[str, float | None]:
        """Return ratios of a part: confidence, coverage, overlap, conflict; None without labels."""
        labels = float(self.head[part, _LABELS])
        row = self.head[part].tolist()
        return {"labels": labels} | {
            name: _ratio(row[column], labels) for name, column in _RATIOS.items()
        }

    def ratios(self, parts: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
        """Return the ratios of parts that have labels, each (n,)."""
        rows = self.head[parts]
        return {name: rows[:, column] / rows[:, _LABELS] for name, column in _RATIOS.items()}

    def class_share(self, part: int) -> dict[str, float | None]:
        """Return the mean probability of each class."""
        labels = float(self.head[part, _LABELS])
        shares = self.mass[part].tolist()
        return {
            name: _ratio(share, labels) for name, share in zip(self.classes, shares, strict=True)
        }

    def function(self, part: int, column: int) -> dict[str, float | None]:
        """Return coverage, conflict and disagreement with the model of one function."""
        votes, conflicts, against = self.functions[part, column].tolist()
        return {
            "coverage": _ratio(votes, float(self.head[part, _LABELS])),
            "conflict": _ratio(conflicts, votes),
            "disagreement": _ratio(against, votes),
        }


class _TaskSums:
    """Weighted sums of one task; only their ratios within a part mean something."""

    def __init__(self, parts: int, classes: tuple[str, ...], lfs: tuple[str, ...]) -> None:
        self.classes, self.lfs = classes, lfs
        self.weights = np.ones(parts)
        self.head = np.zeros((parts, _HEAD))
        self.mass = np.zeros((parts, len(classes)))
        self.functions = np.zeros((parts, len(lfs), _OUTCOMES))
        self.last = np.full(len(lfs), -np.inf)

    def add(self, other: _TaskSums) -> None:
        """Add another partition's sums; from then on the latest labels of both weigh 1."""
        mine, theirs = (1.0 / sums.weights[:, None] for sums in (self, other))
        self.head = self.head * mine + other.head * theirs
        self.mass = self.mass * mine + other.mass * theirs
        functions = other.functions * theirs[..., None]
        self.functions = self.functions * mine[..., None] + functions
        self.weights = np.ones_like(self.weights)
        self.last = np.maximum(self.last, other.last)

    def settled(self) -> TaskRecent:
        """Return decayed sums: the latest label weighs 1."""
        scale = 1.0 / self.weights
        return TaskRecent(
            self.classes,
            self.lfs,
            self.head * scale[:, None],
            self.mass * scale[:, None],
            _shown(self.functions * scale[:, None, None]),
            self.last.copy(),
        )


class Recent:
    """Decayed figures of one partition, or of several together.

    Parameters
    ----------
    tasks
        Name to classes, and to the functions' names.
    segments
        The configured ones; whatever else comes is ``other``.

    State
    -----
    Three numbers a function and segment, at most 22 segments.

    Replay
    ------
    Rows are added one by one in their order: the cut into calls changes no bit.

    Examples
    --------
    >>> recent = Recent({"relevance": (("no", "yes"), ("viewed",))}, ["mobile"])
    >>> ranks, chances = np.array([0, 30]), np.array([0.5, 0.01])
    >>> recent.engaged(ranks, chances, np.array([0, 1]))
    >>> [(name, round(row["hit_ratio"], 2)) for name, row in recent.quality().items()]
    [('', 0.5), ('mobile', 1.0), ('other', 0.0)]
    """

    def __init__(
        self,
        tasks: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
        segments: Sequence[str],
        half_life: float = _HALF_LIFE,
    ) -> None:
        self.segments = tuple(segments)
        self.parts = ("", *self.segments, "other") if self.segments else ("",)
        self._half_life = half_life
        # Without segments everything is ``other``, too: a part that nobody looks at.
        self._rows = 2 + len(self.segments)
        self._engaged = np.zeros((self._rows, _ENGAGED))
        self._tasks = {
            name: _TaskSums(self._rows, classes, lfs) for name, (classes, lfs) in tasks.items()
        }
        self.max_ts = -np.inf

    # --- values in ------------------------------------------------------------------------

    def engaged(
        self, rank: NDArray[Any], predicted: NDArray[Any], segments: NDArray[np.int64]
    ) -> None:
        """Take engagements in: the rank that was predicted, and the probability."""
        _engage(
            rank.astype(np.int64),
            predicted.astype(np.float64),
            segments,
            2.0 ** (-1.0 / self._half_life),
            self._engaged,
        )

    def labelled(
        self,
        task: str,
        votes: SparseVotes,
        proba: NDArray[np.float64],
        best: NDArray[np.int64],
        ts: NDArray[np.float64],
        segments: NDArray[np.int64],
    ) -> None:
        """Take published labels in: votes by row, probabilities (n, K), best class (n,)."""
        sums = self._tasks[task]
        if len(ts):
            self.max_ts = max(self.max_ts, float(ts.max()))
        _label(
            votes.starts,
            votes.columns,
            votes.votes,
            np.ascontiguousarray(proba),
            best,
            np.ascontiguousarray(ts, dtype=np.float64),
            segments,
            bool(self.segments),
            2.0 ** (1.0 / self._half_life),
            sums.weights,
            sums.head,
            sums.mass,
            sums.functions,
            sums.last,
        )

    # --- what they say --------------------------------------------------------------------

    def quality(self) -> dict[str, dict[str, float]]:
        """Return how well engagements were predicted, by part; "" is everything.

        ``n``: decayed number of engagements; parts without any are left out.
        """
        found = {}
        for name, (n, hits, gain, loss) in zip(self.parts, self._engaged.tolist(), strict=False):
            if n > 0.0:
                found[name] = {
                    "n": n, "hit_ratio": hits / n, "ndcg": gain / n, "log_loss": loss / n,
                }  # fmt: skip
        return found

    def tasks(self) -> dict[str, TaskRecent]:
        """Return the labels of each task."""
        return {name: sums.settled() for name, sums in self._tasks.items()}

    def add(self, other: Recent) -> None:
        """Add another partition's figures, if they are of the same segments and functions."""
        if other.segments != self.segments:
            return
        self.max_ts = max(self.max_ts, other.max_ts)
        self._engaged += other._engaged
        for name, sums in self._tasks.items():
            theirs = other._tasks.get(name)
            if theirs is None or (theirs.classes, theirs.lfs) != (sums.classes, sums.lfs):
                continue
            sums.add(theirs)

    def copy(self) -> Recent:
        """Return the same figures, which no longer change with these."""
        tasks = {name: (sums.classes, sums.lfs) for name, sums in self._tasks.items()}
        copied = Recent(tasks, self.segments, self._half_life)
        copied.add(self)
        return copied

    # --- bytes ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        tasks = {
            name: (
                sums.classes,
                sums.lfs,
                *(
                    array.tobytes()
                    for array in (sums.weights, sums.head, sums.mass, sums.functions, sums.last)
                ),
            )
            for name, sums in self._tasks.items()
        }
        return msgspec.msgpack.encode(
            (_FORMAT, self.segments, self.max_ts, self._engaged.tobytes(), tasks)
        )

    def load(self, data: bytes) -> None:
        """Take up what was written, as far as segments, classes and functions still are the same.

        Raises
        ------
        ValueError
            If it is of a newer format.
        """
        stored: Any = msgspec.msgpack.decode(data)
        if stored[0] > _FORMAT:
            raise ValueError(
                f"recent figures have format {stored[0]}, this program reads up to {_FORMAT}"
            )
        written, segments, max_ts, engaged, tasks = stored
        if tuple(segments) != self.segments:
            return
        self.max_ts = max_ts
        self._engaged = np.frombuffer(engaged).reshape(self._rows, _ENGAGED).copy()
        for name, sums in self._tasks.items():
            classes, lfs, *arrays = tasks.get(name, ((), ()))
            if tuple(classes) != sums.classes:
                continue
            weights, head, mass, functions, last = (np.frombuffer(array) for array in arrays)
            sums.weights = weights.copy()
            sums.head = head.reshape(sums.head.shape).copy()
            sums.mass = mass.reshape(sums.mass.shape).copy()
            theirs = functions.reshape(self._rows, len(lfs), _OUTCOMES if written > 1 else _SHOWN)
            if written == 1:
                theirs = _kept(theirs)
            known = {lf: column for column, lf in enumerate(lfs)}
            for column, lf in enumerate(sums.lfs):
                if lf in known:
                    sums.functions[:, column] = theirs[:, known[lf]]
                    sums.last[column] = last[known[lf]]


def _shown(kept: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return votes, those in conflict, and those against the model, of sums by outcome."""
    disputed = kept[..., _DISPUTED] + kept[..., _LOST]
    against = kept[..., _OVERRULED] + kept[..., _LOST]
    return np.stack([kept.sum(axis=-1), disputed, against], axis=-1)


def _kept(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums by outcome of those that an older version wrote.

    It did not tell which votes in conflict were those against the model: as many as can be.
    """
    votes, disputed, against = np.moveaxis(shown, -1, 0)
    lost = np.minimum(disputed, against)
    accepted = votes - disputed - against + lost
    found = np.stack([accepted, against - lost, disputed - lost, lost], axis=-1)
    outcomes: NDArray[np.float64] = np.maximum(found, 0.0)
    return outcomes


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0.0 else None
