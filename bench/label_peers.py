"""Batch label models of others, on the same votes in the same run, from an environment of theirs.

``HEADRACE_PEERS_PYTHON`` names a Python that has snorkel, crowd-kit or flyingsquid: their
dependencies are many, and some contradict ours. Without it, peers that this Python has are run.
crowd-kit runs with its defaults (100 iterations, or until the bound gains less than 1e-5); Snorkel
with its default of 100 epochs, or with the 500 of its own tutorials.
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

__all__ = ["PEERS", "REFIT_EVERY", "Fitted", "fit_peer", "keep_current"]

FloatArray = npt.NDArray[np.float64]
VoteArray = npt.NDArray[np.int8]
PEERS = {"crowd-kit": "crowdkit", "snorkel": "snorkel", "flyingsquid": "flyingsquid"}
"""Name of each peer, and of the module that shows whether it is there."""
REPEATS = 5
ENOUGH_S = 3.0
"""Runs of which the median time is taken, fewer where they take longer."""
EPOCHS = 100
"""Snorkel's default."""
REFIT_EVERY = 1000
"""Examples after which a batch model whose labels are to be current is fitted again, to all."""
TIMED = 6
"""Fits that are timed of those, at most: the others' times are interpolated between them."""


class Fitted(NamedTuple):
    """A peer's (n, K) probabilities after seeing all votes, and its median processor time."""

    proba: FloatArray
    seconds: float


def _crowd_kit(votes: VoteArray, n_classes: int, epochs: int) -> FloatArray:
    pandas: Any = importlib.import_module("pandas")
    aggregation: Any = importlib.import_module("crowdkit.aggregation")
    rows, columns = np.nonzero(votes >= 0)
    frame = pandas.DataFrame({"task": rows, "worker": columns, "label": votes[rows, columns]})
    fitted = aggregation.DawidSkene(n_iter=100).fit_predict_proba(frame)
    proba = np.full((len(votes), n_classes), 1e-12)
    for label in fitted.columns:
        proba[np.asarray(fitted.index), int(label)] = fitted[label].to_numpy()
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))


def _snorkel(votes: VoteArray, n_classes: int, epochs: int) -> FloatArray:
    labels: Any = importlib.import_module("snorkel.labeling.model")
    model = labels.LabelModel(cardinality=n_classes, verbose=False)
    model.fit(votes.astype(np.int64), n_epochs=epochs, seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(votes.astype(np.int64)))


def _flyingsquid(votes: VoteArray, n_classes: int, epochs: int) -> FloatArray:
    models: Any = importlib.import_module("flyingsquid.label_model")
    signed = np.where(votes < 0, 0, 2 * votes.astype(np.int64) - 1)
    model = models.LabelModel(votes.shape[1])
    model.fit(signed)
    return np.asarray(model.predict_proba(signed))


RUN: dict[str, Callable[[VoteArray, int, int], FloatArray]] = {
    "crowd-kit": _crowd_kit,
    "snorkel": _snorkel,
    "flyingsquid": _flyingsquid,
}


def fit_peer(name: str, votes: VoteArray, n_classes: int, *, epochs: int = EPOCHS) -> Fitted | None:
    """Return what a peer makes of the votes; None where it is absent, or cannot take them.

    ``epochs`` is for the peer that is told how many to run.
    """
    found = _run(name, votes, n_classes, epochs, [len(votes)])
    return None if found is None else Fitted(found[0], float(found[1][0]))


def keep_current(
    name: str, votes: VoteArray, n_classes: int, *, epochs: int = EPOCHS
) -> float | None:
    """Return the seconds in which a peer keeps labels current; None as `fit_peer` does.

    It is fitted to all votes so far after each `REFIT_EVERY` examples, and at the end.
    """
    ends = [*range(REFIT_EVERY, len(votes), REFIT_EVERY), len(votes)]
    some = np.unique(np.linspace(0, len(ends) - 1, min(TIMED, len(ends))).astype(np.int64))
    timed = [ends[j] for j in some]
    found = _run(name, votes, n_classes, epochs, timed)
    return None if found is None else float(np.interp(ends, timed, found[1]).sum())


def _run(
    name: str, votes: VoteArray, n_classes: int, epochs: int, ends: list[int]
) -> tuple[FloatArray, FloatArray] | None:
    """Return probabilities of all votes, and the seconds of fits to the first of them."""
    python = os.environ.get("HEADRACE_PEERS_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "votes.npy", Path(folder) / "fitted.npz"
        np.save(given, votes)
        command = [python, str(Path(__file__)), name, str(n_classes), str(epochs)]
        command += [str(given), str(result), *map(str, ends)]
        # One thread: what several of them burn would count as time that the peer takes.
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(  # noqa: S603 - our own
            command, check=False, capture_output=True, env={**os.environ, **one}
        )
        if done.returncode or not result.exists():
            return None
        with np.load(result) as content:
            return content["proba"], content["seconds"]


def main() -> None:
    """Fit one peer to votes in a file; write its probabilities and its times beside them."""
    name, given, result = sys.argv[1], sys.argv[4], sys.argv[5]
    n_classes, epochs, *ends = (int(text) for text in (*sys.argv[2:4], *sys.argv[6:]))
    if importlib.util.find_spec(PEERS[name]) is None:
        sys.exit(f"{name} is not installed")
    votes = np.load(given)
    # Imports and first calls are not what is measured.
    RUN[name](votes[:200], n_classes, epochs)
    seconds = []
    for end in ends:
        times: list[float] = []
        while len(times) < REPEATS and sum(times) < ENOUGH_S / len(ends):
            start = time.process_time()
            proba = RUN[name](votes[:end], n_classes, epochs)
            times.append(time.process_time() - start)
        seconds.append(np.median(times))
    np.savez(result, proba=proba, seconds=seconds)


if __name__ == "__main__":
    main()
