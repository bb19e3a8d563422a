"""How labels are scored and shown: accuracy, log-loss, calibration, and tables that say reached."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from models import LabelModel

__all__ = [
    "BATCH",
    "CONSOLE",
    "accuracy",
    "calibration_error",
    "label_batches",
    "label_stream",
    "log_loss",
    "mark",
    "names",
    "table",
]

FloatArray = npt.NDArray[np.float64]
BATCH = 32
CONSOLE = Console(width=170)


def accuracy(proba: FloatArray, truth: npt.NDArray[np.int64]) -> float:
    """Return the share of right labels, in percent, where the truth is known."""
    known = truth >= 0
    return 100.0 * float((proba[known].argmax(axis=1) == truth[known]).mean())


def log_loss(proba: FloatArray, truth: npt.NDArray[np.int64]) -> float:
    """Return the mean of −log p(truth), p floored at 1e-12."""
    known = np.flatnonzero(truth >= 0)
    return float(-np.log(np.maximum(proba[known, truth[known]], 1e-12)).mean())


def calibration_error(proba: FloatArray, truth: npt.NDArray[np.int64], bins: int = 10) -> float:
    """Return the expected calibration error of the most probable class, in percent."""
    known = truth >= 0
    top = proba[known].max(axis=1)
    right = proba[known].argmax(axis=1) == truth[known]
    place = np.minimum((top * bins).astype(np.int64), bins - 1)
    total = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            total += inside.mean() * abs(float(top[inside].mean()) - float(right[inside].mean()))
    return 100.0 * total


def names(n: int) -> list[str]:
    """Return column names."""
    return [f"lf{j:03d}" for j in range(n)]


def label_stream(model: LabelModel, votes: npt.NDArray[np.int8]) -> FloatArray:
    """Label each row with what was known at its arrival: judge, then learn, row by row."""
    n, m = votes.shape
    result = model.step_many(
        np.ascontiguousarray(votes),
        np.arange(n, dtype=np.int32),
        np.ones(n, dtype=np.bool_),
        np.empty((n, m), dtype=np.int8),
        np.empty((n, model.n_classes)),
        np.full(n, -1, dtype=np.int64),
    )
    return result.proba


def label_batches(model: LabelModel, votes: npt.NDArray[np.int8]) -> FloatArray:
    """Label batches of 32 after learning their votes; their truth is not known then either."""
    parts = []
    for start in range(0, len(votes), BATCH):
        model.learn_many(votes[start : start + BATCH])
        parts.append(model.predict_proba_many(votes[start : start + BATCH]))
    return np.concatenate(parts)


def mark(reached: bool) -> str:
    """Return how a comparison with a target is shown."""
    return "reached" if reached else "NOT REACHED"


def table(title: str, *columns: str) -> Table:
    """Return an empty table."""
    out = Table(title=title, title_justify="left")
    for j, column in enumerate(columns):
        out.add_column(column, justify="left" if j == 0 else "right")
    return out
