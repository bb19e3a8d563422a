"""Gold: late answers, and answers asked for because the model was unsure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.label_drift import stream_model
from bench.label_scores import (
    BATCH,
    CONSOLE,
    accuracy,
    calibration_error,
    label_batches,
    label_stream,
    log_loss,
    mark,
    table,
)
from bench.label_sets import TARGETS, new_model
from bench.label_worlds import VoteSet, data_folder, load_set, rare_stream
from models import LabelModel

__all__ = ["bench_audit", "bench_gold", "with_gold"]

FloatArray = npt.NDArray[np.float64]


def with_gold(
    model: LabelModel,
    data: VoteSet,
    asked: npt.NDArray[np.int64],
    delay: int,
    inclusion: float,
) -> FloatArray:
    """Label a stream whose answers for ``asked`` arrive ``delay`` examples late."""
    parts = []
    due = {int(i) + delay: int(i) for i in asked}
    for start in range(0, len(data.votes), BATCH):
        rows = data.votes[start : start + BATCH]
        model.learn_many(rows)
        parts.append(model.predict_proba_many(rows))
        for at in range(start, start + len(rows)):
            if at in due:
                i = due[at]
                model.learn_gold(
                    data.votes[i : i + 1], data.truth[i : i + 1], model.clock - i, inclusion
                )
    return np.concatenate(parts)


def bench_gold(draws: int = 20) -> None:
    """Five per cent of the truth, late: scored on the items that were not asked about."""
    folder = data_folder()
    if folder is None:
        CONSOLE.print("gold: skipped, no folder of vote sets (HEADRACE_SHARED_DATA)")
        return
    out = table(
        "5 % gold, 100 examples late: accuracy / log-loss / ECE %",
        "set", "without", "with gold", "log-loss no worse", "ECE ≤ 3 %",
    )  # fmt: skip
    for name in TARGETS:
        data = load_set(folder, name)
        plain = label_batches(new_model(data), data.votes)
        scores = []
        known = np.flatnonzero(data.truth >= 0)
        for draw in range(draws if len(data.votes) < 10_000 else 5):
            rng = np.random.default_rng(draw)
            asked = known[rng.random(len(known)) < 0.05]
            late = min(100, len(data.votes) // 10)
            proba = with_gold(new_model(data), data, asked, late, 0.05)
            rest = data.truth.copy()
            rest[asked] = -1
            scores.append(
                [
                    *(f(plain, rest) for f in (accuracy, log_loss, calibration_error)),
                    *(f(proba, rest) for f in (accuracy, log_loss, calibration_error)),
                ]
            )
        mean = np.mean(scores, axis=0)
        out.add_row(
            name,
            f"{mean[0]:.1f} / {mean[1]:.3f} / {mean[2]:.1f}",
            f"{mean[3]:.1f} / {mean[4]:.3f} / {mean[5]:.1f}",
            mark(mean[4] <= mean[1] + 5e-4),
            mark(mean[5] <= 3.0) if name in {"rte", "product"} else "",
        )
    CONSOLE.print(out)


def bench_audit(seeds: int = 10) -> None:
    """Gold on the 500 most uncertain of 20,000, beside a random audit of 5 %."""
    out = table("Uncertain gold with an audit", "figure", "bias", "target", "")
    balances, errors, temperatures, audited = [], [], [], []
    for seed in range(seeds):
        stream = rare_stream(3000 + seed)
        rng = np.random.default_rng(seed)
        model = stream_model(stream, (0.8, 0.2))
        reference = stream_model(stream, (0.8, 0.2))
        proba = label_stream(model, stream.votes)
        label_stream(reference, stream.votes)
        unsure = np.argsort(proba.max(axis=1), kind="stable")[:500]
        audit = np.flatnonzero(rng.random(len(proba)) < 0.05)
        order = np.sort(np.concatenate([unsure, audit]))
        chosen = np.isin(order, unsure)
        keep = np.concatenate([[True], order[1:] != order[:-1]])
        order, chosen = order[keep], chosen[keep]
        age = len(proba) - order
        for i, was_chosen, late in zip(order, chosen, age, strict=True):
            model.learn_gold(
                stream.votes[i : i + 1],
                stream.truth[i : i + 1],
                int(late),
                1.0 if was_chosen else 0.05,
            )
        for i in audit:
            reference.learn_gold(
                stream.votes[i : i + 1], stream.truth[i : i + 1], len(proba) - int(i), 0.05
            )
        summary = model.summary()
        balances.append(summary["class_balance"]["1"] - stream.truth.mean())
        believed = np.array([lf["estimated_accuracy"] for lf in summary["lfs"].values()])
        gold = np.array([lf["gold_accuracy"] for lf in summary["lfs"].values()])
        errors.append(believed - stream.accuracy[1])
        audited.append(gold - stream.accuracy[1])
        temperatures.append(summary["temperature"] - reference.summary()["temperature"])
    bias = np.abs(np.mean(errors, axis=0))
    gold_bias = np.abs(np.mean(audited, axis=0))
    for figure, value in (
        ("class balance", abs(float(np.mean(balances)))),
        ("accuracies as estimated, worst LF", float(bias.max())),
        ("accuracies on gold, worst LF", float(gold_bias.max())),
        ("temperature, against an audit alone", abs(float(np.mean(temperatures)))),
    ):
        out.add_row(figure, f"{value:.4f}", "≤ 0.02", mark(value <= 0.02))
    CONSOLE.print(out)
