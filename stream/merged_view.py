"""The deployment as one: every partition's contributions, read from the store and added up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from models import LabelModel
from models.recommender import PrequentialMetrics
from monitoring.counts import STAGES, StageCounts
from monitoring.counts_snapshot import counts_from_bytes
from stream.labelling import TaskSpec, stats_chunk
from stream.quality import LabelQuality
from stream.report import lf_rows
from stream.state import SHARED_PREFIX, StateStore

__all__ = ["MergedView"]

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
    tasks
        The tasks of the deployment.
    """

    def __init__(self, store: StateStore, tasks: Sequence[TaskSpec]) -> None:
        self._store = store
        self._tasks = {task.name: task for task in tasks}
        self._chunks: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        """Return the deployment's figures as plain values; `StoreError` if it does not answer.

        *Complexity* — the contributions that changed, plus O(partitions × labeling functions²).
        """
        with self._lock:
            known = {place: version for place, (version, _) in self._chunks.items()}
            for chunk in self._store.shared(SHARED_PREFIX, known):
                self._chunks[chunk.partition, chunk.name] = (chunk.version, chunk.data)
            return self._figures()

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
        return {
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
            "recommender": metrics.as_dict(),
            "tasks": {name: self._task(spec, counts) for name, spec in self._tasks.items()},
        }

    def _lf_names(self) -> dict[str, list[str]]:
        return {name: [lf.name for lf in spec.lfs] for name, spec in self._tasks.items()}

    def _task(self, spec: TaskSpec, counts: StageCounts) -> dict[str, Any]:
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
        for column, lf in enumerate(spec.lfs):
            row = rows[lf.name]
            del row["seconds"]  # measured by one process, not by the deployment
            described = {"name": lf.name, "version": lf.version, "family": lf.family}
            functions.append({**described, "votes": counted.votes[column].tolist(), **row})
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
