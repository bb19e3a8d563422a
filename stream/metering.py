"""A pipeline with its counts poured into the metrics of the process, about once a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from lfs.crowd import CROWD, is_annotator
from monitoring.drift_feed import DriftFeed
from monitoring.feed import CountsFeed
from monitoring.metrics import Labels, Metrics
from stream.effects import Effects
from stream.labelling import Labelling
from stream.pipeline import PartitionPipeline, Prepared
from stream.quality import LabelQuality
from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, PartitionHead, SharedChunk

__all__ = ["MeteredPipeline", "ProcessMeters"]

_log = logging.getLogger(__name__)

_FEED_EVERY_S: Final = 1.0
_MERGE_EVERY_S: Final = 1.0
_REST_EVERY_S: Final = 0.25
"""How often what came last before a rest is merged: partitions come to rest one by one."""
_TRIPLETS_EVERY_S: Final = 30.0
_NEARLY: Final = 1e-3


class ProcessMeters:
    """What the partitions of a process come to together, as metrics of the process.

    Parameters
    ----------
    metrics
        Filled by all of them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.drift = DriftFeed(metrics, adwin=ADWIN)
        self._pipelines: dict[int, PartitionPipeline] = {}
        self._merged_at = float("-inf")
        self.merges = 0
        """How often all partitions were merged into the metrics."""
        self._triplets_at = float("-inf")
        self._last_turn = float("-inf")
        for action in ("lf_enabled", "lf_disabled"):
            metrics.add("lf_changes_total", (action,), 0.0)
        for result in ("read", "refused"):
            metrics.add("config_reloads_total", (result,), 0.0)
        for name in ("lf_votes_total", "segment_hit_ratio"):
            metrics.add("metrics_overflow_total", (name,), 0.0)

    def begin(self, pipeline: PartitionPipeline) -> None:
        """Take a partition over, as it was restored."""
        if not self._pipelines:
            self._tell_bounds(pipeline)
        self._pipelines[pipeline.partition] = pipeline
        self.drift.begin(pipeline.partition, pipeline.watch.drift)

    def _tell_bounds(self, pipeline: PartitionPipeline) -> None:
        """Say what has no figures of its own, since there is too much of it."""
        drift = pipeline.watch.drift
        if beyond := len(drift.segments.left_out):
            _log.warning(
                "monitoring.segments: the first %d have figures of their own, %d more are `other`",
                len(drift.segments.names), beyond,
            )  # fmt: skip
            self.metrics.add("metrics_overflow_total", ("segment_hit_ratio",), float(beyond))
        for task, pairs in drift.pairs.items():
            if pairs.left_out:
                _log.warning(
                    "task %s: pairs of the first %d labeling functions are watched, %d more not",
                    task, pairs.watched, len(pairs.left_out),
                )  # fmt: skip

    def end(self, partition: int) -> None:
        """Forget a partition that has moved away."""
        self._pipelines.pop(partition, None)
        self.drift.end(partition)

    def next_turn(self, now: float) -> float:
        """Return when a partition that has just fed the metrics is to do so again.

        The partitions' turns lie apart: one after another they would hold labels up by their sum.
        """
        apart_s = _FEED_EVERY_S / max(len(self._pipelines), 1)
        self._last_turn = max(now + _FEED_EVERY_S, self._last_turn + apart_s)
        return self._last_turn

    def count(self, effects: Effects) -> None:
        """Count what a batch tells about governance."""
        for record in effects.governance:
            action = str(msgspec.json.decode(record.value)["action"])
            if action.startswith("reference"):
                self.metrics.add("reference_resets_total", ())
            else:
                self.metrics.add("lf_changes_total", (action,))

    def update(self, now: float, least_s: float = 0.0) -> None:
        """Merge all partitions into the metrics, if that was not done ``least_s`` ago."""
        if now < self._merged_at + least_s:
            return
        self._merged_at = now
        self.merges += 1
        self.drift.export()
        if self._pipelines:
            self._labels(list(self._pipelines.values()))
            if now >= self._triplets_at + _TRIPLETS_EVERY_S:
                self._triplets_at = now
                self._triplets(next(iter(self._pipelines.values())))

    def _triplets(self, pipeline: PartitionPipeline) -> None:
        """Compare accuracies with an estimate that shares the votes, and not the model."""
        for task in pipeline.labelling.tasks.values():
            gaps = task.model.triplet_gaps()
            for lf in task.spec.lfs:
                gap = gaps.get(f"{lf.name}@{lf.version}")
                if gap is not None and not is_annotator(lf.name):
                    self.metrics.set("lf_triplet_gap_ratio", (lf.name,), gap)

    def _labels(self, pipelines: Sequence[PartitionPipeline]) -> None:
        metrics = self.metrics
        # All partitions take each other's statistics in: one model is as good as the next.
        labelling = pipelines[0].labelling
        for name, task in labelling.tasks.items():
            spec = task.spec
            quality = LabelQuality(spec.classes, spec.layout.lfs)
            for pipeline in pipelines:
                quality.add(pipeline.labelling.tasks[name].quality)
                for waited_s in pipeline.watch.drain_answer_delays(name):
                    metrics.observe("annotation_latency_seconds", (name,), waited_s)
            gold = quality.gold()
            if gold["ece"] is not None and gold["brier"] is not None:
                metrics.set("calibration_error_ratio", (name,), gold["ece"])
                metrics.set("brier_score", (name,), gold["brier"])
            # Nobody is asked yet: no question waits.
            metrics.set("annotation_queue_size", (name,), 0.0)
            metrics.set("annotation_oldest_age_seconds", (name,), 0.0)
            _feed_functions(metrics, labelling, name, task.model.summary()["lfs"], quality)


class MeteredPipeline:
    """Implements `stream.processor.Processor` by a pipeline; adds metrics and nothing else.

    Parameters
    ----------
    meters
        Shared by all partitions of a process; of this partition alone unless given.
    tell_at_cut
        Bring the metrics up to date at each cut. A worker, which may cut more often than anybody
        reads them, calls `tell` itself when a partition has come to rest.
    """

    def __init__(
        self,
        pipeline: PartitionPipeline,
        metrics: Metrics,
        meters: ProcessMeters | None = None,
        *,
        tell_at_cut: bool = True,
    ) -> None:
        self.pipeline = pipeline
        self._metrics = metrics
        self._meters = meters or ProcessMeters(metrics)
        self._feed = CountsFeed(metrics)
        self._tell_at_cut = tell_at_cut
        self._feed_at = 0.0
        self._fed = False
        self._shown_by = 0
        self._answers = (0, 0)
        self._learning_s = 0.0

    @property
    def next_offsets(self) -> Mapping[str, int]:
        """First offset not applied yet, by input topic."""
        return self.pipeline.next_offsets

    def restore(self, head: PartitionHead) -> None:
        """Begin from a checkpoint."""
        self.pipeline.restore(head)
        self._feed.begin(self.pipeline.partition, self.pipeline.counts)
        self._answers = self._settled()
        self._meters.begin(self.pipeline)

    def prepare(self, batch: RecordBatch) -> Prepared:
        """Decode a batch, and say which users must be loaded first."""
        return self.pipeline.prepare(batch)

    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Effects:
        """Apply a batch."""
        began = time.perf_counter()
        effects = self.pipeline.process(prepared, loaded)
        ended = time.perf_counter()
        self._fed = False
        self._metrics.observe("batch_duration_seconds", (), ended - began)
        learned_s = self.pipeline.learning.seconds
        if learned_s > self._learning_s:
            self._metrics.observe("update_duration_seconds", (), learned_s - self._learning_s)
            self._learning_s = learned_s
        if effects.governance:
            self._meters.count(effects)
        if ended >= self._feed_at:
            self.feed()
            self._feed_at = self._meters.next_turn(ended)
        self._meters.update(ended, _MERGE_EVERY_S)
        return effects

    def feed(self) -> None:
        """Bring the metrics up to date."""
        pipeline, metrics = self.pipeline, self._metrics
        self._fed, self._shown_by = True, self._meters.merges + 1
        self._feed.update(pipeline.partition, pipeline.counts)
        self._meters.drift.put(pipeline.partition, pipeline.watch.drift)
        figures = pipeline.learning.metrics.as_dict()
        if figures["n"]:
            metrics.set("catalogue_coverage_ratio", (), figures["catalogue_coverage"])
            metrics.set("novelty_bits", (), figures["novelty_bits"])
            popular = figures["popularity"]
            metrics.set("popularity_hit_ratio", ("10",), popular["hit@10"])
            metrics.set("popularity_ndcg", ("10",), popular["ndcg@10"])
            if popular["ndcg@10"] > 0.0:
                lift = figures["ndcg@10"] / popular["ndcg@10"]
                metrics.set("prequential_lift_ratio", (), lift)
            if figures["intra_list_diversity"] is not None:
                spread = figures["intra_list_diversity"]
                metrics.set("intra_list_diversity_ratio", (), spread)
        before, self._answers = self._answers, self._settled()
        for outcome, n, m in zip(("learned", "unmatched"), self._answers, before, strict=True):
            metrics.add("annotations_total", (outcome,), float(n - m))

    def _settled(self) -> tuple[int, int]:
        """Return how many answers were learned, and how many belonged to nothing."""
        counts, tasks = self.pipeline.counts, self.pipeline.labelling.tasks
        learned = sum(task.gold for task in counts.tasks.values())
        return learned, sum(task.quality.unmatched for task in tasks.values())

    def tell(self) -> bool:
        """Bring the metrics up to date; return whether they show what came last before a rest.

        Else another partition has just had all of them merged, without that: call again.
        """
        if not self._fed:
            self.feed()
        if self._meters.merges < self._shown_by:
            self._meters.update(time.perf_counter(), _REST_EVERY_S)
        return self._meters.merges >= self._shown_by

    def settling(self) -> Sequence[Callable[[], None]]:
        """Return what a cut begins with."""
        return self.pipeline.settling()

    def cut(self) -> Checkpoint:
        """Return everything that changed since the last cut."""
        if self._tell_at_cut:
            self.tell()
        return self.pipeline.cut()

    def saved(self) -> None:
        """Learn that the last cut was saved."""
        self.pipeline.saved()

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> str | None:
        """Replace other partitions' contributions by newer ones."""
        return self.pipeline.take_in(chunks, whole=whole)

    def tick(self, idle_s: float) -> Outgoing | None:
        """Return the record that tells this partition that time has passed, if any is due."""
        return self.pipeline.tick(idle_s)

    def close(self) -> None:
        """Take the partition's gauges away: it has moved."""
        self.pipeline.leave()
        self._feed.end(self.pipeline.partition)
        self._meters.end(self.pipeline.partition)


@lru_cache(maxsize=64)
def _series(functions: tuple[str, ...]) -> tuple[Labels, ...]:
    # No series tells of a single person. Made once: the metrics recognise the same object.
    return tuple((CROWD if is_annotator(name) else name,) for name in functions)


def _feed_functions(
    metrics: Metrics,
    labelling: Labelling,
    task: str,
    estimates: Mapping[str, Mapping[str, Any]],
    quality: LabelQuality,
) -> None:
    spec = labelling.tasks[task].spec
    series = _series(tuple(lf.name for lf in spec.lfs))
    rows = [estimates[f"{lf.name}@{lf.version}"] for lf in spec.lfs]
    accuracy = np.array([row["estimated_accuracy"] for row in rows])
    metrics.set_array("lf_enabled", series, np.array(labelling.enabled(task), dtype=np.float64))
    metrics.set_array("lf_estimated_accuracy_ratio", series, accuracy)
    metrics.set_array("lf_weight", series, _log_odds(accuracy, len(spec.classes)))
    for labels, row, (answers, right) in zip(series, rows, quality.lf_gold.tolist(), strict=True):
        audited = row["gold_accuracy"]
        if audited is not None:
            metrics.set("lf_gold_accuracy_ratio", labels, audited)
        elif answers:
            metrics.set("lf_gold_accuracy_ratio", labels, right / answers)


def _log_odds(accuracy: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Return how much likelier a class is if functions of these accuracies vote for it, in nats."""
    right = np.clip(accuracy, _NEARLY, 1.0 - _NEARLY)
    odds: NDArray[np.float64] = np.log(right * (classes - 1) / (1.0 - right))
    return odds
