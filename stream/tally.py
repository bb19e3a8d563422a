"""Published labels on their way to the counts and to what is watched: some hundreds at a time.

Nothing depends on how rows are cut into calls, so nobody can tell that they wait: whoever looks
has everything taken in first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.counts import TaskCounts
from monitoring.held_rows import joined
from monitoring.sparse_votes import sparse_votes
from monitoring.vote_counts import count_labels
from stream.effects import LabelBlock
from stream.rows import Rows
from stream.tasks import TaskAtWork
from stream.watching import Watch

__all__ = ["Tally"]

_HELD: Final = 512


class _Held(NamedTuple):
    """Rows of one task: votes, probabilities, stages, times and segments."""

    votes: NDArray[np.int8]
    proba: NDArray[np.float64]
    stage: NDArray[np.int8]
    ts: NDArray[np.float64]
    segments: NDArray[np.int64]


class Tally:
    """Counts the labels of one partition, and has them watched.

    Parameters
    ----------
    tasks
        By name; the mass of their classes is counted.
    watch
        Told of the labels; None: nobody watches.

    *State* — at most some hundreds of rows more than a batch, not yet counted.
    """

    def __init__(self, tasks: dict[str, TaskAtWork], watch: Watch | None) -> None:
        self._tasks = tasks
        self._watch = watch
        self._held: dict[str, list[_Held]] = {name: [] for name in tasks}
        self._counted: dict[str, TaskCounts] = {}
        self._rows = 0

    def take(self, rows: Rows, blocks: Sequence[LabelBlock], counted: Sequence[TaskCounts]) -> None:
        """Take in what was published of rows: a block a task, and the counts that are to grow."""
        if not blocks:
            return
        head, watch = blocks[0], self._watch
        if watch is not None:
            segments = watch.published(rows, head)
        else:
            segments = np.zeros(len(head), dtype=np.int64)
        for block, counts in zip(blocks, counted, strict=True):
            self._held[block.task].append(
                _Held(block.votes, block.proba, block.stage, block.ts, segments)
            )
            self._counted[block.task] = counts
        self._rows += len(head)
        if self._rows >= _HELD:
            self.flush()

    def flush(self) -> None:
        """Count everything that waits."""
        if not self._rows:
            return
        self._rows = 0
        for name, parts in self._held.items():
            if not parts:
                continue
            self._held[name] = []
            votes, proba, stage, ts, segments = map(joined, zip(*parts, strict=True))
            cast, quality = sparse_votes(votes), self._tasks[name].quality
            quality.labels += len(ts)
            count_labels(self._counted[name], quality.class_mass, cast, proba, stage)
            if self._watch is not None:
                self._watch.drift.labelled(name, cast, proba, ts, segments)
