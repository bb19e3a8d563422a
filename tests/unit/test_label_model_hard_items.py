"""Items that are hard for all annotators: labels allow for some, and say what each vote weighs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models import LabelModel
from models.label_model.state import LabelState

Votes = npt.NDArray[np.int8]


def crowd_votes(n: int, k: int, hard: float, seed: int = 0) -> tuple[Votes, npt.NDArray[np.int64]]:
    """Return votes of nine annotators; ``hard`` of the items lead nearly all of them astray."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    seen = np.where(rng.random(n) < hard, (truth + rng.integers(1, k, n)) % k, truth)
    wrong = (seen[:, None] + rng.integers(1, k, (n, 9))) % k
    votes = np.where(rng.random((n, 9)) < 0.8, seen[:, None], wrong).astype(np.int8)
    votes[rng.random((n, 9)) < 0.4] = -1
    return votes, truth


def learned(votes: Votes, k: int, form: str = "crowd") -> LabelModel:
    """Return a model that has learned the votes."""
    names = [f"a{j}" for j in range(votes.shape[1])]
    model = LabelModel([str(c) for c in range(k)], names, form=form)
    model.learn_many(votes)
    return model


def with_share(model: LabelModel, share: float) -> LabelModel:
    """Return the same model, holding another share of all items to be hard."""
    other = LabelModel.from_bytes(model.to_bytes())
    config = model.state.config._replace(hard_share=share)
    other.state = LabelState.load(other.state.dump(), config)
    return other


def loss(model: LabelModel, votes: Votes, truth: npt.NDArray[np.int64]) -> float:
    """Return the log-loss of a model's labels."""
    proba = model.predict_proba_many(votes)
    return float(-np.log(proba[np.arange(len(truth)), truth]).mean())


@pytest.mark.parametrize("k", [2, 3])
def test_a_label_mixes_what_it_would_be_if_its_item_were_easy_or_hard(k: int) -> None:
    votes, _ = crowd_votes(300, k, 0.0)
    model = learned(votes, k)
    share = model.state.config.hard_share
    easy = with_share(model, 0.0).predict_proba_many(votes)
    hard = with_share(model, 1.0).predict_proba_many(votes)
    mixed = (1.0 - share) * easy + share * hard
    np.testing.assert_allclose(model.predict_proba_many(votes), mixed, rtol=1e-9)
    assert hard.max() < easy.max()


@pytest.mark.parametrize("k", [2, 4])
def test_votes_for_a_label_keep_their_sign_and_sum_to_it(k: int) -> None:
    votes, _ = crowd_votes(300, k, 0.05)
    model = learned(votes, k)
    silent = np.full((1, 9), -1, dtype=np.int8)
    prior = model.predict_proba_many(silent)[0]
    unanimous = np.repeat(np.arange(k, dtype=np.int8)[:, None], 9, axis=1)
    for rows in (votes[:100], unanimous):
        result = model.assess_many(rows)
        best = result.proba.argmax(axis=1)
        chance = result.proba[np.arange(len(rows)), best]
        start = np.log(prior[best] / (1.0 - prior[best]))
        told = np.log(chance / (1.0 - chance)) - start
        np.testing.assert_allclose(result.weights.sum(axis=1), told, atol=1e-6)
    assert (result.weights > 0.0).all()


def test_items_that_mislead_all_annotators_cost_less() -> None:
    votes, truth = crowd_votes(1000, 2, 0.05)
    model = learned(votes, 2)
    assert loss(model, votes, truth) < loss(with_share(model, 0.0), votes, truth) - 0.02


def test_labels_of_functions_do_not_doubt_items() -> None:
    votes, _ = crowd_votes(300, 2, 0.05)
    model = learned(votes, 2, "lf")
    assert (
        model.predict_proba_many(votes).tobytes()
        == with_share(model, 0.0).predict_proba_many(votes).tobytes()
    )
