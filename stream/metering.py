"""A pipeline with its counts poured into the metrics of the process, once a batch at most."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from monitoring.drift_feed import DriftFeed
from monitoring.feed import CountsFeed
from monitoring.metrics import Metrics
from stream.effects import Effects
from stream.labelling import Labelling
from stream.pipeline import PartitionPipeline, Prepared
from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, PartitionHead, SharedChunk

__all__ = ["MeteredPipeline"]

_FEED_EVERY_S: Final = 0.25
_DRIFT_EVERY_S: Final = 1.0


class MeteredPipeline:
    """Implements `stream.processor.Processor` by a pipeline; adds metrics and nothing else.

    Parameters
    ----------
    drift
        Shared by all partitions of a process; one for this partition alone unless given.
    """

    def __init__(
        self, pipeline: PartitionPipeline, metrics: Metrics, drift: DriftFeed | None = None
    ) -> None:
        self.pipeline = pipeline
        self._metrics = metrics
        self._feed = CountsFeed(metrics)
        self._drift = drift or DriftFeed(metrics)
        self._feed_at = 0.0
        self._drift_at = 0.0

    @property
    def next_offsets(self) -> Mapping[str, int]:
        """First offset not applied yet, by input topic."""
        return self.pipeline.next_offsets

    def restore(self, head: PartitionHead) -> None:
        """Begin from a checkpoint."""
        self.pipeline.restore(head)
        self._feed.begin(self.pipeline.partition, self.pipeline.counts)
        self._drift.begin(self.pipeline.partition, self.pipeline.watch.drift)

    def prepare(self, batch: RecordBatch) -> Prepared:
        """Decode a batch, and say which users must be loaded first."""
        return self.pipeline.prepare(batch)

    def process(self, prepared: Prepared, loaded: Mapping[bytes, bytes]) -> Effects:
        """Apply a batch."""
        began = time.perf_counter()
        effects = self.pipeline.process(prepared, loaded)
        ended = time.perf_counter()
        self._metrics.observe("batch_duration_seconds", (), ended - began)
        if ended >= self._feed_at:
            self.feed()
            self._feed_at = ended + _FEED_EVERY_S
        if ended >= self._drift_at:
            self._drift.update(self.pipeline.partition, self.pipeline.watch.drift)
            self._drift_at = ended + _DRIFT_EVERY_S
        return effects

    def feed(self) -> None:
        """Bring the metrics up to date."""
        pipeline, metrics = self.pipeline, self._metrics
        self._feed.update(pipeline.partition, pipeline.counts)
        figures = pipeline.learning.metrics.as_dict()
        if figures["n"]:
            metrics.set("prequential_hit_ratio", ("10",), figures["hit@10"])
            metrics.set("prequential_ndcg", ("10",), figures["ndcg@10"])
            metrics.set("catalogue_coverage_ratio", (), figures["catalogue_coverage"])
            metrics.set("novelty_bits", (), figures["novelty_bits"])
        _feed_labels(metrics, pipeline.labelling)

    def cut(self) -> Checkpoint:
        """Return everything that changed since the last cut."""
        self.feed()
        return self.pipeline.cut()

    def saved(self) -> None:
        """Learn that the last cut was saved."""
        self.pipeline.saved()

    def take_in(self, chunks: Sequence[SharedChunk]) -> None:
        """Replace other partitions' contributions by newer ones."""
        self.pipeline.take_in(chunks)

    def tick(self, idle_s: float) -> Outgoing | None:
        """Return the record that tells this partition that time has passed, if any is due."""
        return self.pipeline.tick(idle_s)

    def close(self) -> None:
        """Take the partition's gauges away: it has moved."""
        self._feed.end(self.pipeline.partition)
        self._drift.end(self.pipeline.partition)


def _feed_labels(metrics: Metrics, labelling: Labelling) -> None:
    for name, task in labelling.tasks.items():
        spec, quality = task.spec, task.quality
        for label, share in quality.class_share(spec.classes).items():
            if share is not None:
                metrics.set("class_share_ratio", (name, label), share)
        gold = quality.gold()
        if gold["ece"] is not None and gold["brier"] is not None:
            metrics.set("calibration_error_ratio", (name,), gold["ece"])
            metrics.set("brier_score", (name,), gold["brier"])
        on = labelling.enabled(name)
        estimates = task.model.summary()["lfs"]
        for lf, enabled in zip(spec.lfs, on, strict=True):
            metrics.set("lf_enabled", (lf.name,), float(enabled))
            row = estimates[f"{lf.name}@{lf.version}"]
            metrics.set("lf_estimated_accuracy_ratio", (lf.name,), row["estimated_accuracy"])
            if row["gold_accuracy"] is not None:
                metrics.set("lf_gold_accuracy_ratio", (lf.name,), row["gold_accuracy"])
