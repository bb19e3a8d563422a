"""Real votes with truth: the label model beside majority vote and the batch peers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.label_peers import PEERS, fit_peer
from bench.label_scores import (
    CONSOLE,
    accuracy,
    calibration_error,
    label_batches,
    label_stream,
    log_loss,
    mark,
    names,
    table,
)
from bench.label_worlds import VoteSet, data_folder, load_set
from models import LabelModel
from models.dawid_skene import DawidSkene
from models.majority import MajorityVote
from models.triplet import TripletModel

__all__ = ["TARGETS", "bench_sets", "new_model"]

FloatArray = npt.NDArray[np.float64]

# name: accuracy and log-loss to reach
TARGETS = {
    "product": (93.5, 0.20),
    "rte": (92.3, 0.27),
    "duck": (88.0, 1.11),
    "face": (64.9, 2.20),
    "zencrowd": (84.0, 0.99),
    "facts": (89.5, 1.20),
    "tennis": (89.3, 1.14),
}


def new_model(data: VoteSet) -> LabelModel:
    """Return the model of a set, with the default configuration."""
    classes = [str(k) for k in range(data.n_classes)]
    return LabelModel(classes, names(data.votes.shape[1]), form=data.form)


def _cell(proba: FloatArray | None, data: VoteSet) -> str:
    if proba is None:
        return "–"
    error = calibration_error(proba, data.truth)
    return f"{accuracy(proba, data.truth):.1f} / {log_loss(proba, data.truth):.2f} / {error:.1f}"


def bench_sets() -> None:
    """Real votes: accuracy / log-loss / calibration error, beside the peers.

    ``row`` judges each example before its votes are learned, ``32`` after a batch of votes is;
    both before any truth is. The target is held against the first.
    """
    folder = data_folder()
    if folder is None:
        CONSOLE.print("sets: skipped, no folder of vote sets (HEADRACE_SHARED_DATA)")
        return
    out = table(
        "Real votes: accuracy % / log-loss / ECE %",
        "set", "majority", "batch DS", "triplet", *PEERS, "online, 32", "online, row", "target", "",
    )  # fmt: skip
    for name, (least, most) in TARGETS.items():
        data = load_set(folder, name)
        classes = [str(k) for k in range(data.n_classes)]
        triplet = None
        if len(classes) == 2:
            model = TripletModel(classes, data.votes.shape[1])
            model.learn_many(data.votes)
            triplet = model.predict_proba_many(data.votes)
        peers = [fit_peer(peer, data.votes, data.n_classes) for peer in PEERS]
        rows = label_stream(new_model(data), data.votes)
        reached = (
            round(accuracy(rows, data.truth), 1) >= least
            and round(log_loss(rows, data.truth), 2) <= most
        )
        out.add_row(
            name,
            _cell(MajorityVote(classes).predict_proba_many(data.votes), data),
            _cell(DawidSkene(classes).fit(data.votes), data),
            _cell(triplet, data),
            *(_cell(peer.proba if peer else None, data) for peer in peers),
            _cell(label_batches(new_model(data), data.votes), data),
            _cell(rows, data),
            f"{least:.1f} / {most:.2f}",
            mark(reached),
        )
    CONSOLE.print(out)
