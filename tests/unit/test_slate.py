"""Candidates in compiled code are those that plain sorting would find."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.recommender import HISTORY, Recommender
from models.recommender.choosing import AGAIN, SEGMENT
from models.recommender.entry import Part
from models.recommender.slate import candidates


@pytest.fixture(scope="module")
def model() -> Recommender:
    """Learn people who choose a few of many things, some of which are chosen equally often."""
    rng = np.random.default_rng(5)
    users = [f"u{user}" for user in range(200) for _ in range(4)]
    items = [f"i{item}" for item in (rng.zipf(1.3, len(users)) % 150).tolist()]
    learned = Recommender()
    learned.learn_many(users, items, ts=np.arange(len(users), dtype=np.float64) * 30.0 + 1e9)
    return learned


@pytest.mark.parametrize("user", ["u3", "u77", "u199", "nobody"])
@pytest.mark.parametrize("n", [1, 7, 1_000])
def test_the_best_are_those_of_all_scores(model: Recommender, user: str, n: int) -> None:
    items, weights, length = model.histories.find(user)
    item, parts = model.score(items, weights, length)
    excluded = np.array([item[0], -1], np.int32)
    kept = item != item[0]
    item, parts = item[kept], parts[kept]
    score = parts[:, Part.SCORE]
    order = np.lexsort((item, -score))[:n]
    experts = parts[order, : Part.SCORE]

    found = candidates(model, items, weights, length, n, excluded=excluded)

    reason = experts.argmax(axis=1)
    if not length:
        reason[reason < 2] = SEGMENT
    assert found.item.tolist() == item[order].tolist()
    assert found.score.tolist() == score[order].tolist()
    assert found.reason.tolist() == reason.tolist()
    assert found.share.tolist() == (experts.max(axis=1) / score[order]).clip(max=1.0).tolist()
    own = found.reason == AGAIN
    assert found.because[own].tolist() == found.item[own].tolist()
    assert set(found.because[~own].tolist()) <= {-1, *items[:length].tolist()}


def test_equally_good_ones_stand_in_the_order_of_their_items() -> None:
    model = Recommender()
    for item in "fadbec":
        model.learn_one(f"who chose {item}", item, True, {"ts": 1e9})
    items, weights, length = model.histories.find("nobody")
    found = candidates(model, items, weights, length, 4)
    assert len(set(found.score.tolist())) < len(found.score)
    assert found.item.tolist() == sorted(found.item.tolist())


def test_scratch_is_left_as_it_was(model: Recommender) -> None:
    def answer(items: NDArray[np.int32], length: int) -> list[list[float]]:
        weights, excluded = np.ones(HISTORY, np.float32), np.array([7, -1, 8, 7], np.int32)
        found = candidates(model, items, weights, length, 50, excluded=excluded)
        assert not {7, 8} & set(found.item.tolist())
        return [column.tolist() for column in found]

    # A history that names an item twice, which is a candidate twice then.
    twice = np.full(HISTORY, -1, np.int32)
    twice[:3] = (4, 9, 4)
    places = model.tables.places.copy()
    before = answer(twice, 3)
    assert (model.tables.places == places).all()
    assert answer(twice, 3) == before
