"""Exploring slates: probabilities that are true, within the budget, and repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bandit import EpsilonGreedy, InverseGap, Policy, Thompson, choose, propensity_matrix

SCORES = np.array([0.2, 0.9, 0.85, 0.5, 0.1, 0.7, 0.3, 0.69])
SPREAD = np.full(len(SCORES), 0.2)
POLICIES: list[Policy] = [EpsilonGreedy(pool=6), InverseGap(pool=7), Thompson(pool=8, draws=32)]
NAMES = [type(policy).__name__ for policy in POLICIES]


def frequencies(policy: Policy, k: int, budget: float, n: int) -> NDArray[np.float64]:
    """Return how often each item was served at each rank, (items, k)."""
    counts = np.zeros((len(SCORES), k))
    for seed in range(n):
        chosen = choose(SCORES, k, policy, budget=budget, seed=seed, uncertainty=SPREAD)
        counts[chosen.items, np.arange(k)] += 1.0
    return counts / n


def mean_matrix(policy: Policy, k: int, budget: float, seeds: int) -> NDArray[np.float64]:
    """Return the stated probabilities over all items, mean over seeds, (items, k)."""
    total = np.zeros((len(SCORES), k))
    for seed in range(seeds):
        pool, matrix = propensity_matrix(
            SCORES, k, policy, budget=budget, seed=seed, uncertainty=SPREAD
        )
        total[pool] += matrix
    return total / seeds


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
@pytest.mark.parametrize("budget", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_items_are_served_as_often_as_stated(policy: Policy, budget: float, k: int) -> None:
    n = 6_000
    seeds = n if isinstance(policy, Thompson) else 1
    stated = mean_matrix(policy, k, budget, seeds)
    served = frequencies(policy, k, budget, n)
    error = np.sqrt(np.maximum(stated * (1 - stated), 1e-9) / n)
    assert (np.abs(served - stated) < 4.5 * error + 1e-3).all()


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_inverse_propensities_weigh_back_to_every_item(policy: Policy) -> None:
    """The mean of 1/p over what was served is the number of items that could be."""
    k, n, budget = 3, 20_000, 0.5
    total = np.zeros((len(SCORES), k))
    for seed in range(n):
        chosen = choose(SCORES, k, policy, budget=budget, seed=seed, uncertainty=SPREAD)
        total[chosen.items, np.arange(k)] += 1.0 / chosen.propensities
    pool, _ = propensity_matrix(SCORES, k, policy, budget=budget, seed=0, uncertainty=SPREAD)
    assert total[pool] / n == pytest.approx(np.ones((len(pool), k)), abs=0.35)
    assert (total[pool] / n).mean() == pytest.approx(1.0, abs=0.05)


@given(
    scores=st.lists(st.floats(-5, 5), min_size=1, max_size=30),
    k=st.integers(0, 12),
    budget=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    which=st.sampled_from(POLICIES),
)
@settings(max_examples=200, deadline=None)
def test_a_slate_is_sound(
    scores: list[float], k: int, budget: float, seed: int, which: Policy
) -> None:
    spread = np.full(len(scores), 0.5)
    chosen = choose(scores, k, which, budget=budget, seed=seed, uncertainty=spread)
    size = min(k, len(scores))
    assert len(set(chosen.items.tolist())) == len(chosen.items) == size
    assert ((chosen.propensities > 0) & (chosen.propensities <= 1 + 1e-12)).all()
    pool, matrix = propensity_matrix(scores, k, which, budget=budget, seed=seed, uncertainty=spread)
    assert matrix.shape == (len(pool), size)
    assert (matrix >= 0).all()
    if size:
        assert matrix.sum(axis=0) == pytest.approx(np.ones(size))
        assert matrix.sum(axis=1).max() <= 1 + 1e-9
        explored = 1.0 - np.diagonal(matrix).mean()
        assert explored <= budget + 1e-9
    again = choose(scores, k, which, budget=budget, seed=seed, uncertainty=spread)
    assert again.items.tobytes() == chosen.items.tobytes()
    assert again.propensities.tobytes() == chosen.propensities.tobytes()


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_every_item_of_the_pool_has_a_chance_everywhere(policy: Policy) -> None:
    _, matrix = propensity_matrix(SCORES, 4, policy, budget=0.1, seed=3, uncertainty=SPREAD)
    assert matrix.min() > 0


def test_without_a_budget_the_best_is_served() -> None:
    for policy in POLICIES:
        chosen = choose(SCORES, 3, policy, budget=0.0, seed=11, uncertainty=SPREAD)
        assert chosen.items.tolist() == [1, 2, 5]
        assert chosen.propensities.tolist() == [1.0, 1.0, 1.0]
        assert not chosen.explored.any()


def test_a_near_rival_is_tried_more_than_a_far_one() -> None:
    scores = [1.0, 0.95, 0.2, 0.0]
    _, matrix = propensity_matrix(scores, 1, InverseGap(), budget=0.2, seed=0)
    assert matrix[1, 0] > 2 * matrix[2, 0] > 0


def test_an_uncertain_item_is_tried_more_than_a_sure_one() -> None:
    scores, spread = [1.0, 0.5, 0.5], [0.1, 0.8, 0.01]
    _, matrix = propensity_matrix(
        scores, 1, Thompson(draws=512), budget=1.0, seed=0, uncertainty=spread
    )
    assert matrix[1, 0] > 3 * matrix[2, 0]


def test_equal_scores_keep_their_order() -> None:
    chosen = choose(np.zeros(500), 5, EpsilonGreedy(pool=20), budget=0.0, seed=1)
    assert chosen.items.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("scores", "policy", "budget", "uncertainty", "message"),
    [
        ([1.0, 2.0], EpsilonGreedy(), 1.5, None, "budget"),
        ([1.0, float("nan")], EpsilonGreedy(), 0.1, None, "finite"),
        ([1.0, 2.0], Thompson(), 0.1, None, "uncertainty"),
        ([1.0, 2.0], Thompson(), 0.1, [1.0], "uncertainty"),
    ],
)
def test_what_makes_no_sense_is_refused(
    scores: list[float],
    policy: Policy,
    budget: float,
    uncertainty: list[float] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(scores, 1, policy, budget=budget, seed=0, uncertainty=uncertainty)


def test_seeds_beyond_64_bits_and_below_zero_are_taken() -> None:
    for seed in (-1, 2**70 + 5):
        assert len(choose(SCORES, 2, EpsilonGreedy(), budget=0.5, seed=seed).items) == 2
