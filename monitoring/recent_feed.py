"""Pour recent figures into the metrics of a process, all its partitions together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from lfs.crowd import CROWD, is_annotator
from monitoring.metrics import Labels, Metrics
from monitoring.recent import HIT_AT, Recent, TaskRecent

__all__ = ["SHOWN", "export_recent", "together"]

SHOWN: Final = 20
"""Functions, and pairs of a segment and a function, that have a series: the worst of each kind."""

_LEAST: Final = 30.0

_Worst = dict[str, list[tuple[float, Labels, float]]]
"""By metric: how far out a pair of a segment and a function is, its labels, and its value."""


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
    worst: _Worst = {}
    for name, task in total.tasks().items():
        for label, share in task.class_share(0).items():
            if share is not None:
                metrics.set("class_share_ratio", (name, label), share)
        _export_segments(metrics, name, total, task)
        if total.segments:
            _find_worst(worst, total, task)
        _export_functions(metrics, task)
        for lf, last in zip(task.lfs, task.last.tolist(), strict=True):
            if last > -np.inf and not is_annotator(lf):
                silent[(lf,)] = total.max_ts - last
    longest = sorted(silent.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    metrics.replace("lf_silence_seconds", [key for key, _ in longest], [age for _, age in longest])
    for metric, found in worst.items():
        _export_worst(metrics, metric, found)


@lru_cache(maxsize=256)
def _series(functions: tuple[str, ...]) -> tuple[Labels, ...]:
    # Made once: the metrics recognise the same object and skip their look-ups.
    return tuple((name,) for name in functions)


def _export_functions(metrics: Metrics, task: TaskRecent) -> None:
    """Set what each function did lately; one without votes has a coverage only."""
    if not task.head[0, 0] > 0.0:
        return
    votes, conflicts, against = task.functions[0].T
    named = [column for column, lf in enumerate(task.lfs) if not is_annotator(lf)]
    voted = [column for column in named if votes[column] > 0.0]
    for key, columns, part, whole in (
        ("coverage", named, votes, task.head[0, 0]),
        ("conflict", voted, conflicts, votes[voted]),
        ("disagreement", voted, against, votes[voted]),
    ):
        labels = _series(tuple(task.lfs[column] for column in columns))
        metrics.set_array(f"lf_{key}_ratio", labels, part[columns] / whole)


@lru_cache(maxsize=256)
def _of_segments(
    task: str, segments: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[tuple[Labels, ...], tuple[Labels, ...]]:
    pairs = tuple((task, segment) for segment in segments)
    return pairs, tuple((*pair, label) for pair in pairs for label in classes)


def _export_segments(metrics: Metrics, name: str, total: Recent, task: TaskRecent) -> None:
    """Set what the labels of each segment were lately; of one without any nothing."""
    known = 1 + np.flatnonzero(task.head[1 : len(total.parts), 0] > 0.0)
    segments = tuple(total.parts[part] for part in known.tolist())
    pairs, shares = _of_segments(name, segments, task.classes)
    ratios = task.ratios(known)
    metrics.set_array(
        "segment_label_share_ratio", shares, (task.mass[known] / task.head[known, :1]).ravel()
    )
    for metric, key in (
        ("segment_label_confidence_ratio", "confidence"),
        ("segment_coverage_ratio", "coverage"),
        ("segment_conflict_ratio", "conflict"),
    ):
        metrics.set_array(metric, pairs, ratios[key])


def _find_worst(worst: _Worst, total: Recent, task: TaskRecent) -> None:
    """Add a task's pairs of a segment and a function that are furthest out, by metric."""
    labels, votes = task.head[: len(total.parts), 0, None], task.functions[: len(total.parts), :, 0]
    coverage = votes / np.maximum(labels, 1e-300)
    conflict = task.functions[: len(total.parts), :, 1] / np.maximum(votes, 1e-300)
    known = (labels[1:] >= _LEAST) & np.ones_like(votes[1:], dtype=np.bool_)
    for metric, values, order, shown in (
        ("segment_lf_coverage_ratio", coverage, np.abs(coverage - coverage[0]), known),
        ("segment_lf_conflict_ratio", conflict, conflict, known & (votes[1:] >= _LEAST)),
    ):
        # Rounded, so that equals are taken in their order, and not by an error of the last digit.
        out = np.where(shown, order[1:].round(9), -1.0)
        found: dict[Labels, tuple[float, Labels, float]] = {}
        for at in np.argsort(-out, axis=None, kind="stable").tolist():
            part, column = divmod(at, len(task.lfs))
            if len(found) >= SHOWN or out[part, column] < 0.0:
                break
            lf = task.lfs[column]
            # No series tells of a single person.
            name = (total.parts[1 + part], CROWD if is_annotator(lf) else lf)
            found.setdefault(
                name, (float(out[part, column]), name, float(values[1 + part, column]))
            )
        worst.setdefault(metric, []).extend(found.values())


def _export_worst(metrics: Metrics, metric: str, found: list[tuple[float, Labels, float]]) -> None:
    """Show the pairs of all tasks that are first; of equals those of the earlier task."""
    shown: dict[Labels, float] = {}
    for _, labels, value in sorted(found, key=lambda pair: -pair[0]):
        if len(shown) < SHOWN:
            shown.setdefault(labels, value)
    metrics.replace(metric, tuple(shown), list(shown.values()))
