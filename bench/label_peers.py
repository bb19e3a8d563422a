"""Batch label models of others, on the same votes in the same run, from an environment of theirs.

``HEADRACE_PEERS_PYTHON`` names a Python that has snorkel, crowd-kit or flyingsquid: their
dependencies are many, and some contradict ours. Without it, peers that this Python has are run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["PEERS", "Fitted", "fit_peer"]

FloatArray = npt.NDArray[np.float64]
VoteArray = npt.NDArray[np.int8]
PEERS = {"crowd-kit": "crowdkit", "snorkel": "snorkel", "flyingsquid": "flyingsquid"}
"""Name of each peer, and of the module that shows whether it is there."""
REPEATS = 5
ENOUGH_S = 3.0
"""Runs of which the median time is taken, fewer where they take longer."""


class Fitted(NamedTuple):
    """A peer's (n, K) probabilities after seeing all votes, and its median processor time."""

    proba: FloatArray
    seconds: float


def _crowd_kit(votes: VoteArray, n_classes: int) -> FloatArray:
    pandas: Any = importlib.import_module("pandas")
    aggregation: Any = importlib.import_module("crowdkit.aggregation")
    rows, columns = np.nonzero(votes >= 0)
    frame = pandas.DataFrame({"task": rows, "worker": columns, "label": votes[rows, columns]})
    fitted = aggregation.DawidSkene(n_iter=100).fit_predict_proba(frame)
    proba = np.full((len(votes), n_classes), 1e-12)
    for label in fitted.columns:
        proba[np.asarray(fitted.index), int(label)] = fitted[label].to_numpy()
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))


def _snorkel(votes: VoteArray, n_classes: int) -> FloatArray:
    labels: Any = importlib.import_module("snorkel.labeling.model")
    model = labels.LabelModel(cardinality=n_classes, verbose=False)
    model.fit(votes.astype(np.int64), seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(votes.astype(np.int64)))


def _flyingsquid(votes: VoteArray, n_classes: int) -> FloatArray:
    models: Any = importlib.import_module("flyingsquid.label_model")
    signed = np.where(votes < 0, 0, 2 * votes.astype(np.int64) - 1)
    model = models.LabelModel(votes.shape[1])
    model.fit(signed)
    return np.asarray(model.predict_proba(signed))


RUN: dict[str, Callable[[VoteArray, int], FloatArray]] = {
    "crowd-kit": _crowd_kit,
    "snorkel": _snorkel,
    "flyingsquid": _flyingsquid,
}


def fit_peer(name: str, votes: VoteArray, n_classes: int) -> Fitted | None:
    """Return what a peer makes of the votes; None where it is absent, or cannot take them."""
    python = os.environ.get("HEADRACE_PEERS_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "votes.npy", Path(folder) / "fitted.npz"
        np.save(given, votes)
        command = [python, str(Path(__file__)), name, str(n_classes), str(given), str(result)]
        # One thread: what several of them burn would count as time that the peer takes.
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(  # noqa: S603 - our own
            command, check=False, capture_output=True, env={**os.environ, **one}
        )
        if done.returncode or not result.exists():
            return None
        with np.load(result) as content:
            return Fitted(content["proba"], float(content["seconds"]))


def main() -> None:
    """Fit one peer to votes in a file; write its probabilities and its time beside them."""
    name, n_classes, given, result = sys.argv[1:]
    if importlib.util.find_spec(PEERS[name]) is None:
        sys.exit(f"{name} is not installed")
    votes = np.load(given)
    # Imports and first calls are not what is measured.
    RUN[name](votes[:200], int(n_classes))
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < ENOUGH_S:
        start = time.process_time()
        proba = RUN[name](votes, int(n_classes))
        times.append(time.process_time() - start)
    np.savez(result, proba=proba, seconds=np.median(times))


if __name__ == "__main__":
    main()
