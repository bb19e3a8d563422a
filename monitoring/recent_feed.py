"""Pour recent figures into the metrics of a process, all its partitions together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lfs.crowd import CROWD, is_annotator
from monitoring.metrics import Labels, Metrics
from monitoring.recent import HIT_AT, Recent, TaskRecent

__all__ = ["SHOWN", "export_recent", "together"]

SHOWN: Final = 20
"""Functions, and pairs of a segment and a function, that have a series: the worst of each kind."""

_LEAST: Final = 30.0


def together(parts: Sequence[Recent]) -> Recent | None:
    """Return the figures of several partitions as one; None without any."""
    if not parts:
        return None
    total = parts[0].copy()
    for part in parts[1:]:
        total.add(part)
    return total


def export_recent(metrics: Metrics, parts: Sequence[Recent]) -> None:
    """Set the gauges of recommender quality, segments and silence."""
    total = together(parts)
    if total is None:
        return
    quality = total.quality()
    whole = quality.pop("", None)
    if whole is not None:
        metrics.set("prequential_hit_ratio", (str(HIT_AT),), whole["hit_ratio"])
        metrics.set("prequential_ndcg", (str(HIT_AT),), whole["ndcg"])
        metrics.set("prequential_loss", (), whole["log_loss"])
    for segment, figures in quality.items():
        metrics.set("segment_hit_ratio", (segment,), figures["hit_ratio"])
    silent: dict[Labels, float] = {}
    for name, task in total.tasks().items():
        for label, share in task.class_share(0).items():
            if share is not None:
                metrics.set("class_share_ratio", (name, label), share)
        _export_segments(metrics, name, total, task)
        for column, (lf, last) in enumerate(zip(task.lfs, task.last.tolist(), strict=True)):
            if is_annotator(lf):
                continue
            for key, value in task.function(0, column).items():
                if value is not None:
                    metrics.set(f"lf_{key}_ratio", (lf,), value)
            if last > -np.inf:
                silent[(lf,)] = total.max_ts - last
    worst = sorted(silent.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    metrics.replace("lf_silence_seconds", [key for key, _ in worst], [age for _, age in worst])


def _export_segments(metrics: Metrics, name: str, total: Recent, task: TaskRecent) -> None:
    uneven: list[tuple[float, Labels, float]] = []
    disputed: list[tuple[float, Labels, float]] = []
    for part, segment in enumerate(total.parts[1:], start=1):
        figures = task.figures(part)
        for label, share in task.class_share(part).items():
            if share is not None:
                metrics.set("segment_label_share_ratio", (name, segment, label), share)
        for metric, key in (
            ("segment_label_confidence_ratio", "confidence"),
            ("segment_coverage_ratio", "coverage"),
            ("segment_conflict_ratio", "conflict"),
        ):
            value = figures[key]
            if value is not None:
                metrics.set(metric, (name, segment), value)
        if (figures["labels"] or 0.0) < _LEAST:
            continue
        for column, lf in enumerate(task.lfs):
            labels: Labels = (segment, CROWD if is_annotator(lf) else lf)
            here, everywhere = task.function(part, column), task.function(0, column)
            if here["coverage"] is not None and everywhere["coverage"] is not None:
                gap = abs(here["coverage"] - everywhere["coverage"])
                uneven.append((-gap, labels, here["coverage"]))
            votes = float(task.functions[part, column, 0])
            if here["conflict"] is not None and votes >= _LEAST:
                disputed.append((-here["conflict"], labels, here["conflict"]))
    if total.segments:
        for metric, found in (
            ("segment_lf_coverage_ratio", uneven),
            ("segment_lf_conflict_ratio", disputed),
        ):
            shown: dict[Labels, float] = {}
            for _, labels, value in sorted(found):
                if len(shown) < SHOWN:
                    shown.setdefault(labels, value)
            metrics.replace(metric, tuple(shown), list(shown.values()))
