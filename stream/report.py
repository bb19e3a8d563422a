"""The prequential report: what a run of the pipeline came to, from its partitions' sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from models.recommender import PrequentialMetrics
from monitoring.counts import STAGES, StageCounts, TaskCounts
from monitoring.pipeline_drift import drift_report
from stream.early_labels import foresight
from stream.events import EVENTS
from stream.pipeline import PartitionPipeline
from stream.quality import LabelQuality
from stream.rewards import delay_report

__all__ = ["SCHEMA_VERSION", "lf_rows", "report"]

SCHEMA_VERSION = 1


def report(
    pipelines: Sequence[PartitionPipeline], *, seconds: float, peak_rss_bytes: int
) -> dict[str, Any]:
    """Return the report of the partitions together; ratios without any cases are None."""
    counts = StageCounts()
    for pipeline in pipelines:
        pipeline.settle()
        counts.add(pipeline.counts)
    events = counts.consumed[EVENTS]
    rejected = sum(n for (topic, _), n in counts.rejected.items() if topic == EVENTS)
    metrics = PrequentialMetrics()
    for pipeline in pipelines:
        metrics.merge(pipeline.learning.metrics)
    names = Counter(lf for task in pipelines[0].labelling.tasks.values() for lf in task.names)
    labels: dict[str, Any] = {}
    lfs: dict[str, Any] = {}
    for name, task in pipelines[0].labelling.tasks.items():
        spec = task.spec
        quality = LabelQuality(spec.classes, spec.layout.lfs)
        for pipeline in pipelines:
            quality.add(pipeline.labelling.tasks[name].quality)
        counted = counts.task(name, spec.classes, task.names)
        by_stage = counted.labels.sum(axis=1).tolist()
        labels[name] = {
            "count": int(sum(by_stage)),
            **dict(zip(STAGES, by_stage, strict=True)),
            "gold": quality.gold(),
            "gold_unmatched": quality.unmatched,
            "foresight": foresight(pipelines, name),
            "class_share": quality.class_share(spec.classes),
        }
        for lf, row in lf_rows(counted, quality, task.model.summary()["lfs"]).items():
            # Names are unique in a task only.
            lfs[lf if names[lf] == 1 else f"{name}/{lf}"] = row
    join = counts.join
    return {
        "schema_version": SCHEMA_VERSION,
        "events": events,
        "rejected": rejected,
        "duplicates": counts.duplicates,
        "seconds": seconds,
        "events_per_second": events / seconds if seconds > 0 else None,
        "peak_rss_bytes": peak_rss_bytes,
        "labels": labels,
        "lfs": lfs,
        "recommender": {"prequential": metrics.as_dict()},
        "join": {
            "matched": join.matched,
            "organic": join.organic,
            "expired": join.expired,
            "late_corrections": join.late_corrections,
            "too_late": sum(pipeline.join.too_late for pipeline in pipelines),
            "dropped": dict(join.dropped),
            "pending": sum(pipeline.join.pending for pipeline in pipelines),
        },
        "delay": delay_report([pipeline.rewards for pipeline in pipelines]),
        "drift": drift_report([pipeline.watch.drift for pipeline in pipelines]),
    }


def lf_rows(
    counted: TaskCounts, quality: LabelQuality, estimates: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, dict[str, Any]]:
    """Return what is known of each function, by name.

    ``estimates`` are the label model's, by ``name@version``: it also knows versions that were
    retired. None where there is no model yet.
    """
    rows: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(counted.lfs):
        votes = int(counted.votes[column].sum())
        asked = votes + int(counted.abstains[column])
        gold, right = quality.lf_gold[column].tolist()
        believed = None if estimates is None else estimates[quality.lfs[column]]
        rows[name] = {
            "coverage": votes / asked if asked else None,
            "overlap": int(counted.overlaps[column]) / asked if asked else None,
            "conflict": int(counted.conflicts[column]) / asked if asked else None,
            "estimated_accuracy": None if believed is None else believed["estimated_accuracy"],
            "gold_accuracy": right / gold if gold else None,
            "failures": sum(n for (lf, _), n in counted.failures.items() if lf == name),
            "seconds": float(counted.seconds[column]),
        }
    return rows
