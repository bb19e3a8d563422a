"""The deployment as one: every partition's contributions, read from the store and added up."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import msgspec
import numpy as np

from lfs.crowd import CROWD, is_annotator
from models import LabelModel
from models.recommender import PrequentialMetrics
from monitoring.attention import concerns
from monitoring.behind import behind_segment
from monitoring.counts import STAGES, StageCounts
from monitoring.counts_snapshot import counts_from_bytes
from monitoring.drift_feed import DriftFeed
from monitoring.drift_view import DriftView, contribution
from monitoring.lf_pairs import LfPairs
from monitoring.metrics import Metrics
from monitoring.pipeline_drift import PipelineDrift, drift_report
from monitoring.recent import HIT_AT, Recent
from monitoring.recent_feed import together
from monitoring.references import Reference, merged_references
from stream.events import EVENTS
from stream.pipeline_spec import PipelineSpec
from stream.quality import LabelQuality
from stream.report import lf_rows
from stream.state import SHARED_PREFIX, StateStore
from stream.tasks import TaskSpec, stats_chunk
from stream.watching import DRIFT_CHUNK, GOVERNANCE_CHUNK, pipeline_drift

__all__ = ["MergedView", "segment_rows"]

_CHANGES = 20
_SIGNALS = 20
_HEATED = 40
_COUNTS = f"{SHARED_PREFIX}counts"
_PREQUENTIAL = f"{SHARED_PREFIX}recommender/prequential"


class MergedView:
    """Reads what changed since the last time, and adds contributions up.

    The sum depends on nothing but the newest contribution of each partition, so any number of
    processes may show it. Usable from any thread.

    Parameters
    ----------
    store
        Where the partitions' contributions lie.
    spec
        Of the deployment's pipelines.
    """

    def __init__(self, store: StateStore, spec: PipelineSpec) -> None:
        self._store = store
        self._spec = spec
        self._tasks = {task.name: task for task in spec.tasks}
        self._chunks: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._drift: dict[int, tuple[int, PipelineDrift]] = {}
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        """Return the deployment's figures as plain values; `StoreError` if it does not answer.

        *Complexity* — the contributions that changed, plus O(partitions × labeling functions²).
        """
        with self._lock:
            self._read()
            return self._figures()

    def export(self, metrics: Metrics, feed: DriftFeed | None = None) -> None:
        """Set the gauges that only the whole deployment has; `StoreError` if it does not answer.

        Parameters
        ----------
        feed
            Gauges of drift and of recent figures are filled through it, where no pipeline of this
            process fills them itself. It counts no detections: the workers do.
        """
        with self._lock:
            self._read()
            figures = self._figures()
            for name, value in _records(figures).items():
                metrics.set("merged_records", (name,), value)
            if feed is None:
                return
            for partition, drift in self._drifts().items():
                feed.put(partition, drift)
            feed.export()
        for task in figures["tasks"].values():
            for lf in task["lfs"]:
                labels = (CROWD if is_annotator(lf["name"]) else lf["name"],)
                for metric, key in (
                    ("lf_estimated_accuracy_ratio", "estimated_accuracy"),
                    ("lf_gold_accuracy_ratio", "gold_accuracy"),
                ):
                    if lf[key] is not None:
                        metrics.set(metric, labels, lf[key])

    def references(self) -> list[Reference]:
        """Return the references of drift detection, of all partitions together."""
        with self._lock:
            self._read()
            return merged_references(
                drift.monitor.references() for drift in self._drifts().values()
            )

    def _read(self) -> None:
        known = {place: version for place, (version, _) in self._chunks.items()}
        for chunk in self._store.shared(SHARED_PREFIX, known):
            self._chunks[chunk.partition, chunk.name] = (chunk.version, chunk.data)

    def _drifts(self) -> dict[int, PipelineDrift]:
        """Return what every partition watches; only what changed is read anew."""
        for (partition, name), (version, data) in sorted(self._chunks.items()):
            if name != DRIFT_CHUNK:
                continue
            known = self._drift.get(partition)
            if known is None or known[0] != version:
                spec = self._spec
                drift = pipeline_drift(
                    spec.tasks, sorted(spec.rules.types), spec.segments, spec.drift
                )
                drift.load(data)
                self._drift[partition] = (version, drift)
        return {partition: drift for partition, (_, drift) in sorted(self._drift.items())}

    def _named(self, name: str) -> list[bytes]:
        return [data for (_, chunk), (_, data) in sorted(self._chunks.items()) if chunk == name]

    def _figures(self) -> dict[str, Any]:
        counts = StageCounts()
        for data in self._named(_COUNTS):
            counts.add(counts_from_bytes(data, self._lf_names()))
        metrics = PrequentialMetrics()
        for data in self._named(_PREQUENTIAL):
            metrics.merge(PrequentialMetrics.from_bytes(data))
        join = counts.join
        drifts = list(self._drifts().values())
        recent = together([drift.recent for drift in drifts])
        figures = {
            "partitions": len(self._named(_COUNTS)),
            "events": dict(counts.consumed),
            "rejected": sum(counts.rejected.values()),
            "duplicates": counts.duplicates,
            "join": {
                "matched": join.matched,
                "organic": join.organic,
                "expired": join.expired,
                "late_corrections": join.late_corrections,
                "dropped": sum(join.dropped.values()),
                "pending": sum(gauges.pending for gauges in counts.partitions.values()),
            },
            "recommender": {
                **metrics.as_dict(),
                "recent": {} if recent is None else recent.quality().get("", {}),
            },
            "tasks": {
                name: self._task(spec, counts, recent)
                | {"heat": _heat([drift.pairs[name] for drift in drifts])}
                for name, spec in self._tasks.items()
            },
            "segments": [] if recent is None else segment_rows(recent),
            "drift": _drift(drifts),
            "governance": self._governance(),
        }
        return {**figures, "concerns": concerns(figures)}

    def _governance(self) -> list[dict[str, Any]]:
        """Return the latest changes, newest first; who made them is for the governance log."""
        found = {}
        for data in self._named(GOVERNANCE_CHUNK):
            for record in msgspec.msgpack.decode(data):
                found[record["id"]] = record
        newest = sorted(found.values(), key=lambda one: (-one["ts"], one["id"]))[:_CHANGES]
        shown = ("ts", "action", "subject", "why")
        return [{key: record[key] for key in shown} for record in newest]

    def _lf_names(self) -> dict[str, list[str]]:
        return {name: [lf.name for lf in spec.lfs] for name, spec in self._tasks.items()}

    def _task(self, spec: TaskSpec, counts: StageCounts, recent: Recent | None) -> dict[str, Any]:
        names = [lf.name for lf in spec.lfs]
        counted = counts.task(spec.name, spec.classes, names)
        wanted = spec.layout.lfs
        quality = LabelQuality(spec.classes, wanted)
        for data in self._named(f"{SHARED_PREFIX}labels/{spec.name}/quality"):
            stored = LabelQuality.from_bytes(data)
            if stored.classes == spec.classes:
                quality.add(stored.with_lfs(wanted))
        rows = lf_rows(counted, quality, self._estimates(spec))
        functions = []
        task = None if recent is None else recent.tasks()[spec.name]
        for column, lf in enumerate(spec.lfs):
            row = rows[lf.name]
            del row["seconds"]  # measured by one process, not by the deployment
            described = {"name": lf.name, "version": lf.version, "family": lf.family}
            late: dict[str, float | None] = {"disagreement": None, "silence_s": None}
            if task is not None and recent is not None:
                late["disagreement"] = task.function(0, column)["disagreement"]
                if (last := float(task.last[column])) > -np.inf:
                    late["silence_s"] = recent.max_ts - last
            functions.append({**described, "votes": counted.votes[column].tolist(), **row, **late})
        return {
            "classes": list(spec.classes),
            "labels": dict(zip(STAGES, counted.labels.sum(axis=1).tolist(), strict=True)),
            "class_share": quality.class_share(spec.classes),
            "gold": quality.gold(),
            "calibration": [
                {"n": int(n), "confidence": total / n, "accuracy": right / n}
                for n, total, right in quality.bins.tolist()
                if n
            ],
            "lfs": functions,
        }

    def _estimates(self, spec: TaskSpec) -> dict[str, dict[str, Any]] | None:
        """Return what all partitions together estimate of each ``name@version``, if they do."""
        parts = self._named(stats_chunk(spec))
        if not parts:
            return None
        model: LabelModel = spec.model()
        model.set_others(LabelModel.merge_stats(parts))
        estimates: dict[str, dict[str, Any]] = model.summary()["lfs"]
        return estimates


def _records(figures: Mapping[str, Any]) -> dict[str, float]:
    tasks = figures["tasks"].values()
    return {
        "partitions": figures["partitions"],
        "events": figures["events"].get(EVENTS, 0),
        "rejected": figures["rejected"],
        "duplicates": figures["duplicates"],
        **figures["join"],
        "labels": sum(sum(task["labels"].values()) for task in tasks),
        "gold": sum(task["gold"]["n"] for task in tasks),
    }


def _heat(parts: Sequence[LfPairs]) -> dict[str, Any]:
    """Return conflicts of every two functions that meet; the most contradicted ones of very many.

    ``rows`` are ratios in the order of ``names``, None where nothing is known.
    """
    if not parts:
        return {"names": [], "rows": []}
    matrix = parts[0].matrix(np.sum([part.sums for part in parts], axis=0))
    known = ~np.isnan(matrix)
    people = [is_annotator(name) for name in parts[0].names[: len(matrix)]]
    meets = np.flatnonzero(known.any(axis=0) & ~np.array(people, dtype=bool))
    worst = np.where(known, matrix, -1.0).max(axis=0, initial=-1.0)[meets]
    shown = np.sort(meets[np.lexsort((meets, -worst))[:_HEATED]])
    return {
        "names": [parts[0].names[at] for at in shown.tolist()],
        "rows": [
            [None if isnan(value) else value for value in row]
            for row in matrix[np.ix_(shown, shown)].tolist()
        ],
    }


def _drift(parts: Sequence[PipelineDrift]) -> dict[str, Any]:
    """Return how the signals stand together, those furthest out first, and what was detected."""
    if not parts:
        return {"watched": 0, "with_reference": 0, "firing": 0, "signals": [], "detections": []}
    monitors = [part.monitor for part in parts]
    view = DriftView({at: contribution(monitor) for at, monitor in enumerate(monitors)})
    names = monitors[0].signals
    readings = view.readings(names)
    overall = np.flatnonzero(np.array(monitors[0].overall))
    order = np.lexsort((overall, -np.abs(readings.z[overall]), -readings.firing[overall]))
    return {
        "watched": len(overall),
        "with_reference": int((readings.samples[overall] > 0).sum()),
        "firing": int(readings.firing[overall].sum()),
        "signals": [
            {
                "signal": names[at],
                "z": float(readings.z[at]),
                "effect": float(readings.effect[at]),
                "limit": float(monitors[0].layout.thresholds[at]),
                "firing": bool(readings.firing[at]),
                "since": float(readings.since[at]),
            }
            for at in overall[order][:_SIGNALS].tolist()
            if readings.samples[at] > 0
        ],
        "detections": drift_report(parts)[-_SIGNALS:][::-1],
    }


def segment_rows(recent: Recent) -> list[dict[str, Any]]:
    """Return what stands beside each other of every segment: hits, confidence, votes, conflict.

    ``functions`` names those that are otherwise there than in any other segment.
    """
    quality, tasks = recent.quality(), recent.tasks()
    rows = []
    for part, segment in enumerate(recent.parts):
        hits = quality.get(segment, {})
        behind = [one for task in tasks.values() for one in behind_segment(task, part)]
        rows.append(
            {
                "segment": segment or "all",
                "engagements": hits.get("n", 0.0),
                f"hit@{HIT_AT}": hits.get("hit_ratio"),
                "tasks": {name: task.figures(part) for name, task in tasks.items()},
                "functions": [
                    one._asdict() for one in sorted(behind, key=lambda one: -one.affected)
                ],
            }
        )
    return rows
