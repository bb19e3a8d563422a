"""Planted drift and partitions: the label model beside an oracle that knows everything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.label_scores import (
    BATCH,
    CONSOLE,
    calibration_error,
    label_stream,
    mark,
    names,
    table,
)
from bench.label_worlds import Stream, drifting_stream
from models import LabelModel

__all__ = ["bench_drift", "bench_merge", "label_partitions", "stream_model"]

FloatArray = npt.NDArray[np.float64]


def stream_model(stream: Stream, prior: tuple[float, float] | None = None) -> LabelModel:
    """Return the model of a planted stream, with the default configuration."""
    return LabelModel(["0", "1"], names(stream.votes.shape[1]), prior)


def recovery(gaps: FloatArray, within: float, window: int, step: int = 25) -> int | None:
    """Return the end of the first window whose mean gap is within, or None."""
    for end in range(window, len(gaps) + 1, step):
        if gaps[end - window : end].mean() <= within:
            return end
    return None


def bench_drift(seeds: int = 10) -> None:
    """Planted drift, with and without copied LFs, against an oracle that knows everything."""
    out = table("Planted drift", "figure", "measured", "target", "")
    for copied in (False, True):
        right = np.zeros((seeds, 20_000))
        oracle = np.zeros_like(right)
        errors, eces, found, false = [], [], 0, 0
        for seed in range(seeds):
            stream = drifting_stream(1000 + seed, copied=copied)
            model = stream_model(stream)
            proba = label_stream(model, stream.votes)
            right[seed] = proba.argmax(axis=1) == stream.truth
            oracle[seed] = (stream.oracle > 0.5) == (stream.truth == 1)
            eces.append(calibration_error(proba, stream.truth) / 100.0)
            summary = model.summary()["lfs"]
            believed = np.array([lf["estimated_accuracy"] for lf in summary.values()])
            errors.append(float(np.abs(believed - stream.accuracy[1]).mean()))
            columns = list(summary)
            pairs = {
                (columns.index(a), columns.index(b))
                for a, lf in summary.items()
                for b in lf["correlated_with"]
                if a < b
            }
            found += len(pairs & set(stream.copies))
            false += len(pairs - set(stream.copies))
        gap = (oracle - right).mean(axis=0)
        change = right.shape[1] // 2
        last = 100.0 * float(gap[-5000:].mean())
        after = recovery(100.0 * gap[change:], 2.0, 250)
        label = "with copies: " if copied else ""
        limit, error_limit = (1000, 0.03) if copied else (500, 0.02)
        rows = [
            ("gap to the oracle, last 5,000 (points)", f"{last:.2f}", "≤ 0.5", last <= 0.5),
            ("examples until within 2 points", str(after), f"≤ {limit}",
             after is not None and after <= limit),
            ("mean error of accuracies", f"{np.mean(errors):.3f}", f"≤ {error_limit}",
             float(np.mean(errors)) <= error_limit),
            ("ECE", f"{np.mean(eces):.4f}", "≤ 0.02", float(np.mean(eces)) <= 0.02),
        ]  # fmt: skip
        if copied:
            rows.append(
                ("copied pairs found", f"{found} of {3 * seeds}", "all", found == 3 * seeds)
            )
        rows.append(("false pairs at the end", str(false), "0", false == 0))
        for figure, measured, target, reached in rows:
            out.add_row(label + figure, measured, target, mark(reached))
    false = 0
    for seed in range(20):
        stream = drifting_stream(2000 + seed)
        model = stream_model(stream)
        model.learn_many(stream.votes)
        false += sum(len(lf["correlated_with"]) for lf in model.summary()["lfs"].values()) // 2
    out.add_row("false pairs, 20 seeds without copies", str(false), "0", mark(false == 0))
    CONSOLE.print(out)


def label_partitions(votes: npt.NDArray[np.int8], count: int, every: int) -> FloatArray:
    """Label a stream dealt out to partitions, synchronised every so many examples of it."""
    n, m = votes.shape
    models = [LabelModel(["0", "1"], names(m)) for _ in range(count)]
    proba = np.empty((n, 2))
    for start in range(0, n, every):
        rows = np.arange(start, min(start + every, n))
        for p, model in enumerate(models):
            mine = rows[rows % count == p]
            if len(mine):
                proba[mine] = label_stream(model, votes[mine])
        shared = [model.own_stats() for model in models]
        for p, model in enumerate(models):
            model.set_others(LabelModel.merge_stats(shared[:p] + shared[p + 1 :]))
    return proba


def bench_merge(seeds: int = 10) -> None:
    """Partitions: one clock, the same recovery, little loss."""
    out = table("Merge", "figure", "measured", "target", "")
    gaps: dict[int, list[float]] = {1: [], 4: [], 16: []}
    curves: dict[int, list[FloatArray]] = {1: [], 4: [], 16: []}
    for seed in range(seeds):
        stream = drifting_stream(4000 + seed)
        oracle = (stream.oracle > 0.5) == (stream.truth == 1)
        for count, found in gaps.items():
            seldom = label_partitions(stream.votes, count, 8 * BATCH)
            right = seldom.argmax(axis=1) == stream.truth
            found.append(100.0 * float((oracle.astype(float) - right).mean()))
            often = label_partitions(stream.votes, count, 2 * BATCH)
            right = often.argmax(axis=1) == stream.truth
            curves[count].append((oracle.astype(float) - right)[stream.change :])
    one = float(np.mean(gaps[1]))
    for count, found in gaps.items():
        loss = float(np.mean(found)) - one
        out.add_row(
            f"{count} partitions, synchronised every 256 examples: loss (points)",
            f"{loss:.2f}",
            "≤ 0.4",
            mark(loss <= 0.4),
        )
    for count, gap in curves.items():
        after = recovery(100.0 * np.mean(gap, axis=0), 2.0, 250)
        out.add_row(
            f"{count} partitions, every 64: examples until within 2 points",
            str(after),
            "≤ 500",
            mark(after is not None and after <= 500),
        )
    CONSOLE.print(out)
