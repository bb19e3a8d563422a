"""Merging: sums of what parts of a stream taught."""

from __future__ import annotations

import numpy as np
import pytest

from models.recommender import Config, Recommender

_DAY = 86_400.0


def learned(users: list[str], items: list[str], ts: list[float]) -> Recommender:
    model = Recommender()
    model.learn_many(users, items, ts=ts)
    return model


def scores(model: Recommender, user: str, k: int = 10) -> dict[str, float]:
    return dict(model.recommend(user, k, ts=40 * _DAY))


def test_parts_by_user_merge_into_the_whole() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    users = rng.integers(0, 200, n)
    items = users % 8 * 6 + rng.integers(0, 6, n)
    ts = np.sort(rng.random(n)) * 30 * _DAY
    names, labels = [f"u{u}" for u in users], [f"i{i}" for i in items]
    whole = learned(names, labels, ts.tolist())
    parts = []
    for part in range(3):
        rows = np.flatnonzero(users % 3 == part).tolist()
        parts.append(
            learned([names[r] for r in rows], [labels[r] for r in rows], ts[rows].tolist())
        )
    merged = Recommender()
    for one in parts:
        merged.merge(one)
    assert merged.n_items == whole.n_items
    for user in ("u1", "u2", "nobody"):
        expected, got = scores(whole, user), scores(merged, user)
        # What experts and repeats are credited with depends on what each part knew, so scores
        # are near and not equal; what is recommended is the same but for the tail.
        assert len(set(list(expected)[:5]) & set(list(got)[:5])) >= 4
    again = Recommender()
    for one in reversed(parts):
        again.merge(one)
    for user in ("u1", "u2", "nobody"):
        forward, backward = scores(merged, user, 5), scores(again, user, 5)
        assert list(forward.values()) == pytest.approx(list(backward.values()), rel=1e-6)


def test_merging_decays_the_older_part() -> None:
    old = learned(["a", "a"] * 3, ["tea", "pot"] * 3, [0.0] * 6)
    new = learned(["b", "b"], ["tea", "cup"], [3650 * _DAY] * 2)
    for first, second in ((old, new), (new, old)):
        merged = Recommender()
        merged.merge(first)
        merged.merge(second)
        merged.learn_many(["c"], ["tea"], ts=[3650 * _DAY])
        assert merged.recommend("c", 1)[0][0] == "cup"


def test_merging_nothing_changes_nothing_that_is_recommended() -> None:
    model = learned(["a", "a", "b"], ["x", "y", "x"], [0.0, 1.0, 2.0])
    before = scores(model, "b")
    model.merge(Recommender())
    assert scores(model, "b") == before
    empty = Recommender()
    empty.merge(model)
    assert scores(empty, "b") == pytest.approx(before, rel=1e-12)


def test_other_stays_as_it_is() -> None:
    one = learned(["a", "a"], ["x", "y"], [0.0, 1.0])
    other = learned(["b", "b"], ["y", "z"], [0.0, 1.0])
    before = other.to_bytes()
    one.merge(other)
    assert other.to_bytes() == before
    assert dict(one.recommend("b", 3, exclude=["z"])).keys() >= {"x"}


def test_configurations_must_agree() -> None:
    with pytest.raises(ValueError, match="configurations"):
        Recommender().merge(Recommender(Config(half_life_s=1.0)))
    with pytest.raises(ValueError, match="experts"):
        Config(experts=("crystal ball",))
