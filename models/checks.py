"""Checks that every label model must pass; tests run them over each one that is exported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.label_model import LabelModel

__all__ = ["CHECKS", "planted_votes"]

FloatArray = npt.NDArray[np.float64]
VoteArray = npt.NDArray[np.int8]
Factory = Callable[[int], LabelModel]
"""Makes a model with so many columns, which are named in an order of their own."""


def planted_votes(
    n: int, m: int, n_classes: int, seed: int = 0
) -> tuple[VoteArray, npt.NDArray[np.int64]]:
    """Return votes of columns of accuracy .55 to .9 that abstain four times in ten, and truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    right = rng.random((n, m)) < np.linspace(0.55, 0.9, max(m, 1))[:m]
    other = (truth[:, None] + rng.integers(1, max(n_classes, 2), (n, m))) % n_classes
    votes = np.where(right, truth[:, None], other)
    return np.where(rng.random((n, m)) < 0.4, -1, votes).astype(np.int8), truth  # noqa: PLR2004


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def check_probabilities(make: Factory) -> None:
    """Probabilities are finite, positive and sum to 1, before and after learning."""
    model = make(5)
    votes, _ = planted_votes(200, 5, model.n_classes)
    for _ in range(2):
        proba = model.predict_proba_many(votes)
        _require(proba.shape == (200, model.n_classes), f"shape {proba.shape}")
        _require(bool(np.isfinite(proba).all() and (proba > 0).all()), "not positive and finite")
        _require(bool(np.allclose(proba.sum(axis=1), 1.0, atol=1e-9)), "rows do not sum to 1")
        model.learn_many(votes)


def check_predict_changes_nothing(make: Factory) -> None:
    """Predicting leaves the state as it is, in the middle of a block too."""
    model = make(5)
    votes, _ = planted_votes(77, 5, model.n_classes)
    model.learn_many(votes)
    before = model.to_bytes()
    model.predict_proba_many(votes)
    model.predict_proba_one(dict(zip(model.lf_names, model.classes, strict=False)))
    model.summary()
    _require(model.to_bytes() == before, "predict changed the state")


def check_inputs_untouched(make: Factory) -> None:
    """Learning leaves the caller's arrays as they are, and returns nothing."""
    model = make(5)
    votes, truth = planted_votes(50, 5, model.n_classes)
    copy = votes.copy()
    x = {model.lf_names[0]: model.classes[0]}
    learn: tuple[Callable[[], object], ...] = (
        lambda: model.learn_many(votes),
        lambda: model.learn_gold(votes, truth),
        lambda: model.learn_one(x),
    )
    returned = [run() for run in learn]
    _require(bool((votes == copy).all()), "votes were changed")
    _require(returned == [None, None, None], "learning returned something")
    _require(x == {model.lf_names[0]: model.classes[0]}, "x was changed")


def check_restore_equals(make: Factory) -> None:
    """Restore a model: it has the same bytes, and goes on to the same bytes."""
    model = make(5)
    votes, truth = planted_votes(300, 5, model.n_classes)
    model.learn_many(votes[:107])
    model.learn_gold(votes[:30], truth[:30], delay=50, inclusion=0.5)
    model.set_others(make(5).own_stats())
    again = type(model).from_bytes(model.to_bytes())
    _require(again.to_bytes() == model.to_bytes(), "restored differently")
    for one in (model, again):
        one.learn_many(votes[107:])
        one.learn_gold(votes[30:60], truth[30:60])
    _require(again.to_bytes() == model.to_bytes(), "went on differently")


def check_splits(make: Factory) -> None:
    """Any split of a stream into calls gives exactly the same state."""
    votes, truth = planted_votes(400, 5, make(5).n_classes)
    states = []
    for seed in range(3):
        model = make(5)
        rng = np.random.default_rng(seed)
        for lot, learn in ((votes[:211], True), (votes[:40], False), (votes[211:], True)):
            start = 0
            while start < len(lot):
                stop = start + (len(lot) if seed == 0 else int(rng.integers(1, 50)))
                if learn:
                    model.learn_many(lot[start:stop])
                else:
                    model.learn_gold(lot[start:stop], truth[start : min(stop, len(lot))], 7, 0.2)
                start = stop
        states.append(model.to_bytes())
    _require(states[0] == states[1] == states[2], "the split showed")


def check_column_order(make: Factory) -> None:
    """Permuted columns give the same probabilities."""
    model = make(6)
    votes, truth = planted_votes(300, 6, model.n_classes)
    order = np.array([3, 1, 5, 0, 2, 4])
    other = LabelModel(
        model.classes, [model.lf_names[j] for j in order], form=model.form, forms=_forms(model)
    )
    for one, seen in ((model, votes), (other, votes[:, order])):
        one.learn_many(seen)
        one.learn_gold(seen[:60], truth[:60], delay=10)
    gap = np.abs(model.predict_proba_many(votes) - other.predict_proba_many(votes[:, order])).max()
    _require(float(gap) < 1e-9, f"columns' order showed: {gap}")  # noqa: PLR2004


def _forms(model: LabelModel) -> dict[str, str]:
    return {name: lf["form"] for name, lf in model.summary()["lfs"].items()}


def check_contributions(make: Factory) -> None:
    """Merge contributions in any order: the result is the same."""
    parts = []
    for seed in range(3):
        model = make(5)
        votes, truth = planted_votes(100 + 61 * seed, 5, model.n_classes, seed)
        model.learn_many(votes)
        model.learn_gold(votes[:9], truth[:9])
        parts.append(model.own_stats())
    results = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        a, b, c = (parts[j] for j in order)
        pair = LabelModel.merge_stats([a, b])
        _require(pair is not None, "nothing merged")
        assert pair is not None  # noqa: S101
        for merged in (LabelModel.merge_stats([pair, c]), LabelModel.merge_stats([c, b, a])):
            model = make(5)
            model.set_others(merged)
            results.append(model.predict_proba_many(votes))
    gap = max(float(np.abs(one - results[0]).max()) for one in results)
    _require(gap < 1e-11, f"the order of merging showed: {gap}")  # noqa: PLR2004


def check_weights(make: Factory) -> None:
    """Add each column's weight to the prior's log-odds: the posterior's come out."""
    model = make(5)
    if model.n_classes == 1:
        return
    votes, truth = planted_votes(300, 5, model.n_classes)
    model.learn_many(votes)
    model.learn_gold(votes[:80], truth[:80])
    result = model.assess_many(votes)
    nobody = model.predict_proba_many(np.full((1, 5), -1))[0]
    best = result.proba.argmax(axis=1)
    top = result.proba[np.arange(len(best)), best]
    start = np.log(nobody[best] / (1.0 - nobody[best]))
    silent = (votes < 0).all(axis=1)
    gap = np.abs(start + result.weights.sum(axis=1) - np.log(top / (1.0 - top)))[~silent].max()
    if not model.summary()["corrector_on"]:
        _require(float(gap) < 1e-8, f"weights do not sum to the posterior: {gap}")  # noqa: PLR2004
    _require(bool((result.weights[votes < 0] == 0).all()), "an abstention has a weight")


CHECKS: tuple[Callable[[Factory], None], ...] = (
    check_probabilities,
    check_predict_changes_nothing,
    check_inputs_untouched,
    check_restore_equals,
    check_splits,
    check_column_order,
    check_contributions,
    check_weights,
)
