"""Every form of the label model passes the shared checks; baselines follow the protocols."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest
from river import evaluate, metrics

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


def test_rivers_own_loop_runs_it() -> None:
    model = LabelModel(["no", "yes"], columns(5), forms={"column-2": "crowd"})
    votes, truth = planted_votes(400, 5, 2)
    stream: list[tuple[dict[Hashable, Any], Any]] = [
        (
            {
                name: model.classes[vote]
                for name, vote in zip(model.lf_names, row, strict=True)
                if vote >= 0
            },
            model.classes[label],
        )
        for row, label in zip(votes, truth, strict=True)
    ]
    found: list[Any] = [metrics.Accuracy(), metrics.CrossEntropy()]  # type: ignore[no-untyped-call]
    for metric in found:
        fresh = model.clone()
        assert fresh.to_bytes() == model.to_bytes()
        evaluate.progressive_val_score(stream, fresh, metric)
        assert fresh.clock == len(stream)
        assert metric.get() > 0.7 if metric.bigger_is_better else metric.get() < 0.5
    assert repr(model).startswith("LabelModel(['no', 'yes'], ['column-0'")


def test_a_clone_begins_with_the_same_priors() -> None:
    model = LabelModel(["no", "yes"], ["x", "y"], [0.3, 0.7], accuracies={"x": 0.95})
    assert model.clone().to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    ("votes", "told"),
    [
        ([[0, 1], [2, 0]], r"votes\[1, 0\] is 2; allowed: -1 \(abstains\)"),
        ([[0, -2]], r"votes\[0, 1\] is -2"),
        ([[0, 256]], "is 256"),
        ([[0.5, 1.0]], r"is 0\.5"),
        ([[float("nan"), 1.0]], "is nan"),
        ([["yes", "no"]], "must be whole numbers, not <U3: .*yes"),
        ([0, 1], r"must be \(n, 2\), not \(2,\)"),
        ([[0]], r"must be \(n, 2\), not \(1, 1\)"),
    ],
)
def test_votes_that_are_none_are_refused(votes: list[Any], told: str) -> None:
    model = LabelModel(["no", "yes"], columns(2))
    before = model.to_bytes()
    for use in (
        model.learn_many,
        model.predict_proba_many,
        lambda given: model.learn_gold(given, [0] * len(given)),
    ):
        with pytest.raises(ValueError, match=told):
            use(votes)
    assert model.to_bytes() == before


def test_answers_that_are_none_are_refused() -> None:
    model = LabelModel(["no", "yes"], columns(2))
    before = model.to_bytes()
    row = [[0, 1]]
    for wrong, told in (
        ({"labels": [2]}, r"labels\[0\] must be one of .*; found 2"),
        ({"labels": ["maybe"]}, "must be one of 'no', 'yes', or a position in them; found 'maybe'"),
        ({"labels": [-1]}, "is none"),
        ({"labels": [0, 1]}, "2 labels beside 1 rows"),
        ({"labels": [0], "delay": -1}, "delay is -1.0; allowed: 0 to inf"),
        ({"labels": [0], "inclusion": 1.5}, "inclusion is 1.5; allowed: 0 to 1"),
        ({"labels": [0], "inclusion": float("nan")}, "inclusion is nan"),
        ({"labels": [0], "delay": [1, 2]}, "delay must be one number or 1"),
    ):
        with pytest.raises(ValueError, match=told):
            model.learn_gold(row, **wrong)
    for x, y in (({"column-0": "maybe"}, None), ({"column-0": "no"}, "maybe")):
        with pytest.raises(ValueError, match="found 'maybe'"):
            model.learn_one(x, y)
    assert model.to_bytes() == before
    with pytest.raises(ValueError, match=r"forms names \['other'\]"):
        LabelModel(["no", "yes"], columns(2), forms={"other": "crowd"})


def test_nothing_is_a_legal_input() -> None:
    model = LabelModel(["no", "yes"], columns(2))
    before = model.to_bytes()
    empty = np.zeros((0, 2), dtype=np.int8)
    lots: list[Any] = [[], empty]
    for nothing in lots:
        model.learn_many(nothing)
        model.learn_gold(nothing, [])
        assert model.predict_proba_many(nothing).shape == (0, 2)
    assert model.to_bytes() == before
    silent = {"column-0": None, "column-1": -1, "unheard of": "yes"}
    assert model.predict_proba_one(silent) == model.predict_proba_one({})
