"""Pour what a batch counted into the metrics of the process."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lfs.crowd import CROWD, is_annotator
from monitoring.counts import STAGES, JoinCounts, PartitionGauges, StageCounts, TaskCounts
from monitoring.metrics import Labels, Metrics

__all__ = ["CountsFeed", "feed", "forget_partitions"]

_PARTITION_GAUGES = (
    "join_pending",
    "join_oldest_pending_seconds",
    "watermark_delay_seconds",
    "checkpoint_timestamp_seconds",
)


class _Series(NamedTuple):
    by_function: tuple[Labels, ...]
    by_vote: tuple[Labels, ...]
    by_label: tuple[Labels, ...]


@lru_cache(maxsize=64)
def _series(task: str, classes: tuple[str, ...], functions: tuple[str, ...]) -> _Series:
    # Made once a task: the metrics recognise the same object and skip their look-ups.
    return _Series(
        by_function=tuple((name,) for name in functions),
        by_vote=tuple((name, label) for name in functions for label in classes),
        by_label=tuple((task, label, stage) for stage in STAGES for label in classes),
    )


def feed(metrics: Metrics, counts: StageCounts) -> None:
    """Add the counts of a batch to the metrics; the caller starts the next batch from zero.

    *Complexity* — O(labeling functions × classes) a batch, whatever the number of events.
    """
    for topic, n in counts.consumed.items():
        metrics.add("events_consumed_total", (topic,), n)
    for (topic, reason), n in counts.rejected.items():
        metrics.add("event_failures_total", (topic, reason), n)
        metrics.add("dead_letters_total", (topic,), n)
    metrics.add("duplicate_events_total", (), counts.duplicates)
    metrics.add("misplaced_events_total", (), counts.misplaced)
    metrics.add("ignored_fields_total", (), counts.ignored_fields)
    for name, task in counts.tasks.items():
        _feed_task(metrics, name, task)
    _feed_join(metrics, counts.join)
    for partition, gauges in counts.partitions.items():
        _feed_partition(metrics, str(partition), gauges)


class CountsFeed:
    """Feed counts that grow with a partition's whole life: only what is new each time.

    A restored partition brings counts that other processes have fed already, so `begin` is told
    where they stand.

    Examples
    --------
    >>> metrics, counts = Metrics(process=False), StageCounts(duplicates=7)
    >>> growing = CountsFeed(metrics)
    >>> growing.begin(3, counts)
    >>> counts.duplicates += 2
    >>> growing.update(3, counts)
    >>> metrics.value("duplicate_events_total")
    2.0
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._fed: dict[int, StageCounts] = {}

    def begin(self, partition: int, counts: StageCounts) -> None:
        """Take a partition's counts, as restored, for its beginning here."""
        self._fed[partition] = counts.copy()

    def update(self, partition: int, counts: StageCounts) -> None:
        """Feed what a partition counted since the last time."""
        feed(self._metrics, counts.since(self._fed.get(partition, StageCounts())))
        self._fed[partition] = counts.copy()

    def end(self, partition: int) -> None:
        """Forget a partition that has moved away, and its gauges."""
        fed = self._fed.pop(partition, StageCounts()).partitions.get(partition, PartitionGauges())
        for outcome in fed.to_come():
            self._metrics.forget("outcomes_to_come_ratio", (str(partition), outcome))
        forget_partitions(self._metrics, [partition])


def forget_partitions(metrics: Metrics, partitions: Iterable[int]) -> None:
    """Remove the gauges of partitions that this process no longer owns."""
    for partition in partitions:
        for name in _PARTITION_GAUGES:
            metrics.forget(name, (str(partition),))


def _together(task: TaskCounts) -> TaskCounts:
    """Return the counts with all annotators as one: no series tells of a single person."""
    if not any(map(is_annotator, task.lfs)):
        return task
    names = [CROWD if is_annotator(name) else name for name in task.lfs]
    lfs = tuple(dict.fromkeys(names))
    where = [lfs.index(name) for name in names]
    folded = TaskCounts(task.classes, lfs)
    for attribute in ("votes", "abstains", "overlaps", "conflicts", "disagreements", "seconds"):
        np.add.at(getattr(folded, attribute), where, getattr(task, attribute))
    for (name, reason), n in task.failures.items():
        folded.failures[CROWD if is_annotator(name) else name, reason] += n
    folded.labels, folded.gold, folded.entropy_bits = task.labels, task.gold, task.entropy_bits
    return folded


def _feed_task(metrics: Metrics, name: str, task: TaskCounts) -> None:
    task = _together(task)
    series = _series(name, task.classes, task.lfs)
    metrics.add_array("lf_votes_total", series.by_vote, task.votes.ravel())
    metrics.add_array("lf_abstains_total", series.by_function, task.abstains)
    metrics.add_array("lf_overlaps_total", series.by_function, task.overlaps)
    metrics.add_array("lf_conflicts_total", series.by_function, task.conflicts)
    metrics.add_array("lf_model_disagreements_total", series.by_function, task.disagreements)
    if task.seconds.any():
        metrics.observe_each("lf_duration_seconds", series.by_function, task.seconds)
    for (function, reason), n in task.failures.items():
        metrics.add("lf_failures_total", (function, reason), n)
    metrics.add_array("labels_total", series.by_label, task.labels.ravel())
    metrics.add("gold_labels_total", (name,), task.gold)
    metrics.add_buckets("label_entropy_bits", (name,), task.entropy_bits)


def _feed_join(metrics: Metrics, join: JoinCounts) -> None:
    metrics.add("join_matched_total", (), join.matched)
    metrics.add("join_organic_total", (), join.organic)
    metrics.add("join_expired_total", (), join.expired)
    metrics.add("join_late_corrections_total", (), join.late_corrections)
    metrics.add("join_duplicate_rewards_total", (), join.duplicate_rewards)
    for what, n in join.dropped.items():
        metrics.add("join_dropped_total", (what,), n)
    metrics.add_buckets("join_delay_seconds", (), join.delay_s)


def _feed_partition(metrics: Metrics, partition: str, gauges: PartitionGauges) -> None:
    metrics.set("join_pending", (partition,), gauges.pending)
    metrics.set("join_oldest_pending_seconds", (partition,), gauges.oldest_pending_s)
    for outcome, share in gauges.to_come().items():
        metrics.set("outcomes_to_come_ratio", (partition, outcome), share)
    if gauges.watermark is not None:
        # An age, so that a watermark that stands still is seen to fall behind.
        metrics.set_since("watermark_delay_seconds", (partition,), gauges.watermark)
