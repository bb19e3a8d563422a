"""Every form of the label model passes the shared checks; baselines follow the protocols."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import metrics

from models import LabelModel
from models.base import Contributor, LabelEstimator, Snapshot
from models.checks import CHECKS, Factory, planted_votes
from models.dawid_skene import DawidSkene
from models.majority import MajorityVote
from models.triplet import TripletModel


def columns(n: int) -> list[str]:
    return [f"column-{j}" for j in range(n)]


FACTORIES: dict[str, Factory] = {
    "binary": lambda m: LabelModel(["no", "yes"], columns(m)),
    "prior": lambda m: LabelModel(["no", "yes"], columns(m), {"yes": 0.1, "no": 0.9}),
    "three classes": lambda m: LabelModel(["a", "b", "c"], columns(m)),
    "one class": lambda m: LabelModel(["only"], columns(m)),
    "crowd": lambda m: LabelModel(["no", "yes"], columns(m), form="crowd"),
    "mixed": lambda m: LabelModel(
        ["a", "b", "c"], columns(m), forms={"column-1": "crowd", "column-3": "crowd"}
    ),
    "plain": lambda m: LabelModel(
        ["no", "yes"], columns(m), correlations=False, half_lives=(float("inf"),), block=1
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", FACTORIES)
def test_label_model_passes(kind: str, check: Callable[[Factory], None]) -> None:
    if check.__name__ == "check_column_order" and kind in {"prior", "plain"}:
        pytest.skip("the check makes its permuted model without a prior and options")
    check(FACTORIES[kind])


def test_label_model_follows_the_protocols() -> None:
    model = LabelModel(["no", "yes"], columns(2))
    assert isinstance(model, Snapshot)
    assert isinstance(model, Contributor)
    assert isinstance(model, LabelEstimator)
    assert isinstance(MajorityVote(["no", "yes"]), LabelEstimator)
    assert isinstance(DawidSkene(["no", "yes"]), LabelEstimator)
    assert isinstance(TripletModel(["no", "yes"], 3), LabelEstimator)


def test_baselines_find_planted_truth() -> None:
    votes, truth = planted_votes(3000, 8, 2)
    majority = MajorityVote(["no", "yes"]).predict_proba_many(votes)
    batch = DawidSkene(["no", "yes"])
    posterior = batch.fit(votes)
    triplet = TripletModel(["no", "yes"], 8)
    triplet.learn_many(votes[:1000])
    triplet.learn_many(votes[1000:])
    planted = np.linspace(0.55, 0.9, 8)
    assert np.abs(np.array(batch.summary()["accuracy"]) - planted).max() < 0.05
    assert np.abs(triplet.accuracies() - planted).max() < 0.05
    score = {
        name: (proba.argmax(axis=1) == truth).mean()
        for name, proba in (
            ("majority", majority),
            ("batch", posterior),
            ("triplet", triplet.predict_proba_many(votes)),
        )
    }
    assert score["batch"] > score["majority"]
    assert score["triplet"] > score["majority"]


def test_river_evaluates_it() -> None:
    model = LabelModel(["no", "yes"], columns(5))
    votes, truth = planted_votes(400, 5, 2)
    metric: Any = metrics.Accuracy()  # type: ignore[no-untyped-call]  # river has no types
    for row, label in zip(votes, truth, strict=True):
        x = {
            name: model.classes[vote]
            for name, vote in zip(model.lf_names, row, strict=True)
            if vote >= 0
        }
        metric.update(model.classes[label], model.predict_one(x))
        assert model.learn_one(x) is None  # type: ignore[func-returns-value]
    assert metric.get() > 0.7
