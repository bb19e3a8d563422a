"""What the stages of a batch counted: plain additive data that the pipeline fills, once a batch.

No clock, no metric library: the shell hands a `StageCounts` to `monitoring.feed.feed`, a replay
adds them up for its report, and a test compares them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DELAY_BOUNDS_S",
    "ENTROPY_BOUNDS_BITS",
    "STAGES",
    "BucketCounts",
    "JoinCounts",
    "PartitionGauges",
    "StageCounts",
    "TaskCounts",
]

_FEW: Final = 8
"""So many values are counted faster one by one than as an array."""

STAGES: Final = ("provisional", "final", "revised")
"""Stages of a label; the row of `TaskCounts.labels` is the position in this tuple."""

DELAY_BOUNDS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0, 604800.0)
"""Upper bounds of the delay between an exposure and the feedback that joined it, event time."""

ENTROPY_BOUNDS_BITS: Final = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
"""Upper bounds of the entropy of a label; 1 bit is complete ignorance of a binary task."""


@dataclass(slots=True)
class BucketCounts:
    """A histogram with fixed bounds: as many values as one likes, in bounded memory.

    Parameters
    ----------
    bounds
        Increasing upper bounds, inclusive as Prometheus has them; one bucket more lies above.
    """

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.bounds) + 1, dtype=np.int64)

    def observe_many(self, values: ArrayLike) -> None:
        """Count every value; NaN is left out, since it would spoil the sum for ever."""
        array = np.asarray(values, dtype=np.float64).ravel()
        if len(array) <= _FEW:
            for value in array.tolist():
                if not isnan(value):
                    self.counts[bisect_left(self.bounds, value)] += 1
                    self.total += value
            return
        array = array[~np.isnan(array)]
        if not array.size:
            return
        slots = np.searchsorted(np.asarray(self.bounds), array, side="left")
        self.counts += np.bincount(slots, minlength=len(self.counts))
        self.total += float(array.sum())

    def add(self, other: BucketCounts) -> None:
        """Add the counts of another histogram with the same bounds."""
        if self.bounds != other.bounds:
            raise ValueError(f"bounds differ: {self.bounds} and {other.bounds}")
        self.counts += other.counts
        self.total += other.total

    def since(self, earlier: BucketCounts) -> BucketCounts:
        """Return what was counted after ``earlier``, which is left as it is."""
        later = BucketCounts(self.bounds, self.total - earlier.total)
        later.counts = self.counts - earlier.counts
        return later


@dataclass(slots=True)
class TaskCounts:
    """What the labeling functions and the label model of one task did.

    Parameters
    ----------
    classes, lfs
        Names, in the order of the columns: of `votes` (m, K), and of the rest (m,).

    Attributes
    ----------
    votes, abstains
        Votes of each LF for each class, and examples on which it abstained.
    overlaps, conflicts
        Examples where the LF and another one vote; and where another one votes differently.
    disagreements
        Examples where the LF votes for another class than the label model thinks most probable.
    failures
        Calls that raised or answered nonsense, by (LF name, reason).
    seconds
        Time spent in each LF, where the shell measures it; zero in a pure run.
    labels
        Labels published, (stage, class): rows as in `STAGES`.
    gold
        Gold labels received.
    """

    classes: tuple[str, ...]
    lfs: tuple[str, ...]
    votes: NDArray[np.int64] = field(init=False)
    abstains: NDArray[np.int64] = field(init=False)
    overlaps: NDArray[np.int64] = field(init=False)
    conflicts: NDArray[np.int64] = field(init=False)
    disagreements: NDArray[np.int64] = field(init=False)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: NDArray[np.float64] = field(init=False)
    labels: NDArray[np.int64] = field(init=False)
    gold: int = 0
    entropy_bits: BucketCounts = field(default_factory=lambda: BucketCounts(ENTROPY_BOUNDS_BITS))

    def __post_init__(self) -> None:
        m, k = len(self.lfs), len(self.classes)
        self.votes = np.zeros((m, k), dtype=np.int64)
        self.abstains = np.zeros(m, dtype=np.int64)
        self.overlaps = np.zeros(m, dtype=np.int64)
        self.conflicts = np.zeros(m, dtype=np.int64)
        self.disagreements = np.zeros(m, dtype=np.int64)
        self.seconds = np.zeros(m, dtype=np.float64)
        self.labels = np.zeros((len(STAGES), k), dtype=np.int64)

    def add(self, other: TaskCounts) -> None:
        """Add the counts of the same task with the same classes and LFs."""
        if self.classes != other.classes or self.lfs != other.lfs:
            raise ValueError("counts of different classes or labeling functions cannot be added")
        self.votes += other.votes
        self.abstains += other.abstains
        self.overlaps += other.overlaps
        self.conflicts += other.conflicts
        self.disagreements += other.disagreements
        self.failures.update(other.failures)
        self.seconds += other.seconds
        self.labels += other.labels
        self.gold += other.gold
        self.entropy_bits.add(other.entropy_bits)

    def since(self, earlier: TaskCounts) -> TaskCounts:
        """Return what was counted after ``earlier``, which had the same classes and LFs."""
        if self.classes != earlier.classes or self.lfs != earlier.lfs:
            raise ValueError("counts of different classes or labeling functions have no difference")
        later = TaskCounts(self.classes, self.lfs)
        later.votes = self.votes - earlier.votes
        later.abstains = self.abstains - earlier.abstains
        later.overlaps = self.overlaps - earlier.overlaps
        later.conflicts = self.conflicts - earlier.conflicts
        later.disagreements = self.disagreements - earlier.disagreements
        later.failures = self.failures - earlier.failures
        later.seconds = self.seconds - earlier.seconds
        later.labels = self.labels - earlier.labels
        later.gold = self.gold - earlier.gold
        later.entropy_bits = self.entropy_bits.since(earlier.entropy_bits)
        return later


@dataclass(slots=True)
class JoinCounts:
    """What became of feedback and exposures.

    Attributes
    ----------
    matched
        Feedback joined to the exposure that it answers.
    organic
        Feedback that found no exposure and opened an example of its own.
    expired
        Examples closed without engagement.
    late_corrections
        Feedback inside the lateness horizon that revised a final label.
    duplicate_rewards
        Feedback that repeated what its example already knew.
    dropped
        What bounded state had to let go, by what it was (``open_examples``, ``history``, …).
    delay_s
        Event time between an exposure and its feedback.
    """

    matched: int = 0
    organic: int = 0
    expired: int = 0
    late_corrections: int = 0
    duplicate_rewards: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    delay_s: BucketCounts = field(default_factory=lambda: BucketCounts(DELAY_BOUNDS_S))

    def add(self, other: JoinCounts) -> None:
        """Add the counts of another batch."""
        self.matched += other.matched
        self.organic += other.organic
        self.expired += other.expired
        self.late_corrections += other.late_corrections
        self.duplicate_rewards += other.duplicate_rewards
        self.dropped.update(other.dropped)
        self.delay_s.add(other.delay_s)

    def since(self, earlier: JoinCounts) -> JoinCounts:
        """Return what was counted after ``earlier``."""
        return JoinCounts(
            matched=self.matched - earlier.matched,
            organic=self.organic - earlier.organic,
            expired=self.expired - earlier.expired,
            late_corrections=self.late_corrections - earlier.late_corrections,
            duplicate_rewards=self.duplicate_rewards - earlier.duplicate_rewards,
            dropped=self.dropped - earlier.dropped,
            delay_s=self.delay_s.since(earlier.delay_s),
        )


@dataclass(slots=True)
class PartitionGauges:
    """How a partition stands after the batch; the newest replaces the older, nothing is added.

    Attributes
    ----------
    pending
        Examples that wait for feedback or for their windows.
    oldest_pending_s
        Age of the oldest of them at the watermark; 0 without any.
    watermark
        Event time up to which the partition is complete; None before the first event.
    to_come
        Returns, of each late outcome of the last window's exposures, the share still to come:
        worked out when it is asked for; no part of a checkpoint.
    """

    pending: int = 0
    oldest_pending_s: float = 0.0
    watermark: float | None = None
    to_come: Callable[[], Mapping[str, float]] = field(default=dict, compare=False)


@dataclass(slots=True)
class StageCounts:
    """Everything counted while one batch, or many of them, went through the pipeline.

    Examples
    --------
    >>> counts = StageCounts()
    >>> counts.consumed["headrace.events"] += 3
    >>> relevance = counts.task("relevance", ("negative", "positive"), ("long_dwell",))
    >>> relevance.votes[0, 1] += 2
    >>> total = StageCounts()
    >>> total.add(counts); total.add(counts)
    >>> total.consumed["headrace.events"], int(total.tasks["relevance"].votes[0, 1])
    (6, 4)
    """

    consumed: Counter[str] = field(default_factory=Counter)
    """Events (lines, not records) read, by topic."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Lines that became dead letters, by (topic, reason code)."""
    duplicates: int = 0
    misplaced: int = 0
    """Events found in another partition than their user's, published anew to the right one."""
    ignored_fields: int = 0
    """Unknown fields that the configuration does not keep."""
    tasks: dict[str, TaskCounts] = field(default_factory=dict)
    join: JoinCounts = field(default_factory=JoinCounts)
    partitions: dict[int, PartitionGauges] = field(default_factory=dict)

    def task(self, name: str, classes: Iterable[str], lfs: Sequence[str]) -> TaskCounts:
        """Return the counts of a task, made on first use."""
        found = self.tasks.get(name)
        if found is None:
            found = self.tasks[name] = TaskCounts(tuple(classes), tuple(lfs))
        return found

    def add(self, other: StageCounts) -> None:
        """Add the counts of another batch; its gauges replace those of the same partition.

        *Complexity* — O(LFs × classes), whatever the number of events.
        """
        self.consumed.update(other.consumed)
        self.rejected.update(other.rejected)
        self.duplicates += other.duplicates
        self.misplaced += other.misplaced
        self.ignored_fields += other.ignored_fields
        for name, theirs in other.tasks.items():
            self.task(name, theirs.classes, theirs.lfs).add(theirs)
        self.join.add(other.join)
        self.partitions.update(other.partitions)

    def copy(self) -> StageCounts:
        """Return the same counts, which no longer grow with these."""
        copied = StageCounts()
        copied.add(self)
        return copied

    def since(self, earlier: StageCounts) -> StageCounts:
        """Return what was counted after ``earlier``, a copy made before; gauges as they are now.

        Examples
        --------
        >>> counts = StageCounts(duplicates=2)
        >>> before = counts.copy()
        >>> counts.duplicates += 5
        >>> counts.since(before).duplicates
        5
        """
        later = StageCounts(
            consumed=self.consumed - earlier.consumed,
            rejected=self.rejected - earlier.rejected,
            duplicates=self.duplicates - earlier.duplicates,
            misplaced=self.misplaced - earlier.misplaced,
            ignored_fields=self.ignored_fields - earlier.ignored_fields,
            join=self.join.since(earlier.join),
            partitions=dict(self.partitions),
        )
        for name, task in self.tasks.items():
            before = earlier.tasks.get(name)
            later.tasks[name] = (
                task.since(before)
                if before is not None
                else task.since(TaskCounts(task.classes, task.lfs))
            )
        return later
