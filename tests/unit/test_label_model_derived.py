"""Tables of the label model that are derived when needed: nobody can tell when that was."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from models import LabelModel
from models.label_model.entry import restore
from models.label_model.pairs import pair_width, sum_pairs
from models.label_model.state import IN_BLOCK

CLASSES = ["no", "yes", "other"]


def sparse_votes(n: int, m: int, seed: int = 0, per_row: int = 4) -> npt.NDArray[np.int8]:
    """Return votes of many annotators, few of whom vote on an example."""
    rng = np.random.default_rng(seed)
    votes = np.full((n, m), -1, dtype=np.int8)
    truth = rng.integers(0, len(CLASSES), n)
    for i in range(n):
        who = rng.choice(m, per_row, replace=False)
        right = rng.random(per_row) < 0.5 + 0.4 * who / m
        votes[i, who] = np.where(right, truth[i], rng.integers(0, len(CLASSES), per_row))
    return votes


def new_model(form: str, m: int = 70) -> LabelModel:
    forms = {f"c{j}": "lf" for j in range(5)} if form == "mixed" else None
    return LabelModel(
        CLASSES, [f"c{j}" for j in range(m)], form="lf" if form == "lf" else "crowd", forms=forms
    )


@pytest.mark.parametrize("form", ["lf", "crowd", "mixed"])
def test_who_looks_at_a_model_does_not_change_what_it_learns(form: str) -> None:
    votes = sparse_votes(900, 70)
    alone, watched = new_model(form), new_model(form)
    rng = np.random.default_rng(1)
    for start in range(0, 900, 25):
        rows = votes[start : start + 25]
        alone.learn_many(rows)
        cut = int(rng.integers(0, 26))
        for part in (rows[:cut], rows[cut:]):
            watched.learn_many(part)
            watched.summary()
            watched.predict_proba_many(votes[:40])
            watched.to_bytes()
            watched.own_stats()
        if start % 100 == 0:
            label = [int(votes[start].max())]
            alone.learn_gold(votes[start : start + 1], label, inclusion=0.5)
            watched.learn_gold(votes[start : start + 1], label, inclusion=0.5)
    assert alone.to_bytes() == watched.to_bytes()


@pytest.mark.parametrize("form", ["lf", "crowd", "mixed"])
def test_half_lives_are_weighed_anew_whenever_evidence_changed(form: str) -> None:
    votes = sparse_votes(2000, 12)
    trusting, doubting = new_model(form, 12), new_model(form, 12)
    for start in range(0, len(votes), 40):
        rows = votes[start : start + 40]
        for model in (trusting, doubting):
            model.learn_many(rows)
            if model is doubting:
                model.state.tables.lives[:] = -1.0
            model.learn_gold(rows[:1], [int(rows[0].max())])
            model.own_stats()
    assert trusting.to_bytes() == doubting.to_bytes()


@pytest.mark.parametrize("form", ["lf", "crowd", "mixed"])
def test_a_restored_model_goes_on_equally_in_mid_block(form: str) -> None:
    votes = sparse_votes(1300, 70)
    model = new_model(form)
    model.learn_many(votes[:1000])
    while not model.state.counters[IN_BLOCK]:
        model.learn_many(votes[:1])
    again = LabelModel.from_bytes(model.to_bytes())
    for each in (model, again):
        each.learn_gold(votes[3:4], [1])
        each.learn_many(votes[1000:1150])
        each.learn_gold(votes[1001:1002], [2], delay=140)
        each.learn_many(votes[1150:])
    assert again.to_bytes() == model.to_bytes()


@pytest.mark.parametrize("form", ["crowd", "mixed"])
@pytest.mark.parametrize("n", [100, 400, 12_000])
def test_moments_of_pairs_are_those_of_all_pairs(form: str, n: int) -> None:
    model, other = new_model(form, 40), new_model(form, 40)
    votes = sparse_votes(n + 50, 40)
    other.learn_many(votes[n:])
    model.learn_many(votes[:30])
    model.set_others(other.own_stats())
    model.learn_many(votes[30:n])
    state = model.state
    found = state.tables.moments.copy()
    fresh = np.zeros(6)
    sum_pairs(state.own.pairs, state.other.pairs, state.forms, pair_width(state.own), fresh)
    assert np.abs(fresh).min() > 0.0
    assert np.allclose(found, fresh, rtol=1e-9, atol=1e-9)


def test_votes_far_apart_are_all_found() -> None:
    m = 200
    votes = np.full((60, m), -1, dtype=np.int8)
    for i in range(60):
        votes[i, [(7 * i) % m, (31 * i + 3) % m, m - 1]] = i % 3
    model = new_model("crowd", m)
    model.learn_many(votes)
    cast = np.bincount(np.nonzero(votes >= 0)[1], minlength=m)
    assert np.array_equal(model.state.own.cast, cast)


def test_pairs_of_a_long_stream_weigh_what_was_seen_lately() -> None:
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 2, (30_000, 3)).astype(np.int8)
    votes[:, 2] = votes[:, 1]
    model = LabelModel(["no", "yes"], ["a", "b", "copy"])
    model.learn_many(votes)
    number = (model.state.own.pairs[:, 1] + model.state.own.pairs[:, 2]).max()
    weight = model.state.tables.scalars[3]
    assert 1.0 <= weight < 2.1
    # A half-life of 5,000: a stream without end counts as 5,000 / ln 2 examples.
    assert number / weight == pytest.approx(5000 / np.log(2) * (1 - 2.0**-6), rel=0.01)
    assert model.summary()["lfs"]["b"]["correlated_with"]["copy"] > 0.5


def test_a_snapshot_without_moments_is_read() -> None:
    votes = sparse_votes(300, 20)
    model = new_model("crowd", 20)
    model.learn_many(votes)
    kept = model.state.tables.moments.copy()
    model.state.tables.moments[:] = 0.0
    restore(model.state.handle(), True)
    assert np.allclose(model.state.tables.moments, kept, rtol=1e-9, atol=1e-9)


def test_a_snapshot_without_pairs_that_never_voted_together_is_read() -> None:
    votes = sparse_votes(300, 70)
    model = new_model("crowd")
    model.learn_many(votes)
    model.summary()
    agree = model.state.tables.agree
    kept = agree.copy()
    never = model.state.own.pairs[:, 2] == 0.0
    assert 100 < never.sum() < len(never)
    # So programs wrote it that derived pairs when they were first seen.
    agree[never] = [-1.0, 0.0, 0.0]
    restore(model.state.handle(), True)
    assert np.allclose(agree, kept, rtol=1e-12)


def test_pairs_of_first_examples_are_compared_again_as_examples_grow_by_half() -> None:
    model = LabelModel(CLASSES, ["a", "b", "c", "d"], form="crowd")
    rng = np.random.default_rng(4)
    votes = np.full((120, 4), -1, dtype=np.int8)
    votes[:12, :2] = rng.integers(0, 3, (12, 2))
    votes[12:, 2:] = rng.integers(0, 3, (108, 2))
    model.learn_many(votes[:12])
    compared: list[int] = []
    # Of two who vote no more, nothing changes but when all examples are looked at again.
    before = model.state.own.pairs[0].copy()
    for n in range(12, 120):
        model.learn_many(votes[n : n + 1])
        if (model.state.own.pairs[0] != before).any():
            compared.append(n + 1)
            before = model.state.own.pairs[0].copy()
    assert len(compared) > 4
    assert all(later > 1.3 * earlier for earlier, later in pairwise(compared))
