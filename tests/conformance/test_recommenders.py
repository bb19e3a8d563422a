"""What every recommender keeps to, however it is configured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import evaluate, metrics, preprocessing
from river.reco.base import Ranker

from models.recommender import Config, Recommender
from models.recommender.config import EXPERTS

CONFIGS = {
    "default": Config(),
    "small": Config(max_items=40, neighbours=4, min_neighbours=4, popular=5),
    "forgetful": Config(half_life_s=60.0, fresh_half_life_s=1.0),
    **{f"only {expert}": Config(experts=(expert,)) for expert in EXPERTS},
}

Rows = tuple[list[str], list[str], list[float], list[float], list[int]]


@pytest.fixture(params=sorted(CONFIGS))
def model(request: pytest.FixtureRequest) -> Recommender:
    return Recommender(CONFIGS[request.param], max_users=30)


def rows(n: int = 600, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 50, n)
    items = users % 5 * 12 + rng.integers(0, 12, n)
    return (
        [f"user {u}" for u in users],
        [f"item {i}" for i in items],
        rng.random(n).tolist(),
        np.cumsum(rng.exponential(5.0, n)).tolist(),
        rng.choice([0, 0, 0, 2], n).tolist(),
    )


def learn(model: Recommender, given: Rows) -> None:
    users, items, weights, ts, kinds = given
    model.learn_many(users, items, weights, ts, kinds)


def test_bytes_carry_everything(model: Recommender) -> None:
    learn(model, rows())
    restored = Recommender.from_bytes(model.to_bytes())
    assert restored.to_bytes() == model.to_bytes()
    more = rows(200, seed=1)
    learn(model, more)
    learn(restored, more)
    assert restored.to_bytes() == model.to_bytes()


def test_splits_change_no_bit(model: Recommender) -> None:
    given = rows()
    other = Recommender(model.config, max_users=30)
    learn(model, given)
    for start in range(0, 600, 13):
        learn(other, tuple(column[start : start + 13] for column in given))  # type: ignore[arg-type]
    assert other.to_bytes() == model.to_bytes()


def test_prediction_changes_nothing(model: Recommender) -> None:
    learn(model, rows())
    before = model.to_bytes()
    for user in ("user 1", "stranger"):
        model.recommend(user, 20, exclude=["item 1", "unheard of"])
        model.predict_one(user, "item 1")
        model.predict_one(user, "unheard of", {"ts": 1e12})
        model.rank(user, ["item 1", "unheard of"])
    assert model.to_bytes() == before


def test_scores_are_probabilities_in_order(model: Recommender) -> None:
    learn(model, rows())
    for user in ("user 1", "user 49", "stranger"):
        found = model.recommend(user, 100)
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0.0 < score <= 1.0 + 1e-9 for score in scores)
        assert len({item for item, _ in found}) == len(found)
        assert sum(scores) <= 1.0 + 1e-6
        assert model.rank(user, [item for item, _ in found]) == [item for item, _ in found]


def test_memory_is_bounded(model: Recommender) -> None:
    n = 3000
    users = [f"u{x}" for x in range(n)]
    model.learn_many(users, [f"i{x % 500}" for x in range(n)], ts=np.arange(n, dtype=float))
    size = len(model.to_bytes())
    model.learn_many(users, [f"i{x % 500}" for x in range(n)], ts=np.arange(n, 2 * n, dtype=float))
    assert len(model.to_bytes()) <= 1.2 * size
    assert len(model.histories) <= 30
    assert model.n_items <= model.config.max_items


def test_inputs_stay_as_they_are(model: Recommender) -> None:
    given = rows()
    arrays = [np.array(column) for column in given[2:]]
    copies = [array.copy() for array in arrays]
    weights, ts, kinds = arrays
    model.learn_many(given[0], given[1], weights, ts, kinds)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


@pytest.mark.parametrize(
    ("weight", "ts"),
    [(0.0, 0.0), (-1.0, 0.0), (7.0, 0.0), (float("nan"), 0.0), (1.0, -1e12), (1.0, 4e9)],
)
def test_odd_numbers_leave_finite_scores(model: Recommender, weight: float, ts: float) -> None:
    learn(model, rows())
    model.learn_many(["user 1"] * 2, ["item 1", "item 2"], [weight] * 2, [ts] * 2)
    learn(model, rows(50, seed=2))
    for user in ("user 1", "stranger"):
        assert all(np.isfinite(score) for _, score in model.recommend(user, 50))


def test_rivers_conventions_hold(model: Recommender) -> None:
    names = {"learn_one", "predict_one", "rank"}
    assert names <= {name for name in dir(Ranker) if not name.startswith("_")}
    assert model.learn_one("a", "x", 1.0, {"ts": 3.0}) is None  # type: ignore[func-returns-value]
    assert model.learn_one("a", "y", False) is None  # type: ignore[func-returns-value]
    assert isinstance(model.predict_one("a", "x"), float)
    assert set(model.rank("a", ["x", "y", "z"])) == {"x", "y", "z"}


def test_river_evaluates_it_as_it_does_its_own_rankers() -> None:
    rows: Any = [
        ({"hour": 1.0}, float(n % 2), {"user": f"u{n % 5}", "item": f"i{n % 7}"}) for n in range(60)
    ]
    # River compares regression metrics with what `PredClipper` makes of a ranker.
    clipped: Any = preprocessing.PredClipper(Recommender(), y_min=0.0, y_max=1.0)  # type: ignore[arg-type]  # as river's own example does
    metric: Any = metrics.MAE()  # type: ignore[no-untyped-call]  # river has no types
    evaluate.progressive_val_score(rows, clipped, metric)
    assert 0.0 < metric.get() < 1.0


def test_a_set_is_ranked_in_one_order() -> None:
    model = Recommender()
    unheard = {f"item {n}" for n in range(50)}
    assert model.rank("anybody", unheard) == sorted(unheard)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"popular": 0}, "popular must be above 0; found 0"),
        ({"half_life_s": -1.0}, "half_life_s must be above 0; found -1"),
        ({"fresh_half_life_s": float("nan")}, "fresh_half_life_s must be above 0; found nan"),
        ({"max_items": -5}, "max_items must be at least 0; found -5"),
        ({"near_window": 50}, r"near_window \(50\) must be at most window \(20\)"),
        ({"window": 500}, "at most 400"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**sizes)


def test_empty_knows_nothing_and_says_so(model: Recommender) -> None:
    assert model.recommend("anybody", 10) == []
    assert model.predict_one("anybody", "anything") == 0.0
    assert model.learn_many([], []).rank.tolist() == []


def test_what_cannot_be_learned_is_refused_and_changes_nothing(model: Recommender) -> None:
    learn(model, rows())
    before = model.to_bytes()
    nothing: Any = None
    with pytest.raises(ValueError, match="2 items beside 1 users"):
        model.learn_many(["a"], ["x", "y"])
    with pytest.raises(ValueError, match="weights must be 1 values"):
        model.learn_many(["a"], ["x"], [1.0, 1.0])
    with pytest.raises(TypeError, match="users must be a sequence of ids; found 'abc'"):
        model.learn_many("abc", ["x", "y", "z"])
    with pytest.raises(TypeError, match="user must be a string or a whole number; found None"):
        model.learn_one(nothing, "x", 1.0)
    with pytest.raises(ValueError, match="y must be a number; found nan"):
        model.learn_one("a", "x", float("nan"))
    for when in (float("inf"), float("nan"), 1e300):
        with pytest.raises(ValueError, match="ts must be seconds since the epoch; found"):
            model.learn_many(["a"], ["x"], ts=[when])
        with pytest.raises(ValueError, match="ts must be seconds since the epoch; found"):
            model.learn_one("a", "x", 1.0, {"ts": when})
    with pytest.raises(ValueError, match=r"kinds must be 0 \(ENGAGE\), .*; found 7"):
        model.learn_many(["a"], ["x"], kinds=[7])
    with pytest.raises(ValueError, match="max_users must be at least 1; found 0"):
        Recommender(model.config, max_users=0)
    with pytest.raises(ValueError, match="k must be at least 0; found -1"):
        model.recommend("user 1", -1)
    assert model.recommend("user 1", 0) == []
    assert model.to_bytes() == before


def test_whole_numbers_are_ids_too(model: Recommender) -> None:
    number: Any = 7
    model.learn_one(number, number, 1.0, {"ts": 1e9})
    assert Recommender.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()
    assert model.rank(number, [number, "other"]) == [7, "other"]
    assert model.predict_one(number, number) == model.predict_one("7", "7")
