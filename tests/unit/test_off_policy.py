"""Off-policy estimates: right on known policies, honest about what they cannot know."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.off_policy import campaign, world
from models.off_policy import (
    ESTIMATORS,
    Logged,
    estimate,
    estimate_logged,
    marginal_propensities,
    support,
)

ROOT = Path(__file__).parents[2]
WORTH = np.array([0.02, 0.1, 0.3])


def uniform_log(n: int, seed: int = 0, slate: int = 1) -> Logged:
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 3, n)
    return Logged(
        action,
        np.zeros(n, dtype=np.int64),
        np.full(n, 1 / 3),
        (rng.random(n) < WORTH[action]).astype(np.float64),
        np.arange(n) // slate,
    )


def table(*chances: float) -> NDArray[np.float64]:
    return np.array(chances)[:, None]


@pytest.mark.parametrize("estimator", range(len(ESTIMATORS)), ids=ESTIMATORS)
@pytest.mark.parametrize("chances", [(1.0, 0.0, 0.0), (0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3)])
def test_a_known_policy_is_valued_right(estimator: int, chances: tuple[float, ...]) -> None:
    truth = float(np.array(chances) @ WORTH)
    found = estimate(uniform_log(60_000), table(*chances))[estimator]
    assert found.value == pytest.approx(truth, rel=0.1)
    assert found.low < truth < found.high


@pytest.mark.parametrize("estimator", range(len(ESTIMATORS)), ids=ESTIMATORS)
def test_intervals_hold_the_truth_as_often_as_they_say(estimator: int) -> None:
    truth = float(np.array((0.1, 0.2, 0.7)) @ WORTH)
    runs = [
        estimate(uniform_log(1_500, seed), table(0.1, 0.2, 0.7), level=0.9)[estimator]
        for seed in range(400)
    ]
    share = np.mean([one.holds(truth) for one in runs])
    assert 0.86 < share < 0.94
    assert np.mean([one.value for one in runs]) == pytest.approx(truth, rel=0.01)


def test_the_policy_itself_is_its_logged_value() -> None:
    log = uniform_log(2_000)
    own = estimate_logged(log)
    for one in estimate(log, table(1 / 3, 1 / 3, 1 / 3))[:2]:
        assert (one.value, one.low, one.high) == pytest.approx((own.value, own.low, own.high))


def test_rows_of_one_decision_count_as_one() -> None:
    """A slate that is rewarded as a whole must not look like independent evidence."""
    rng = np.random.default_rng(1)
    n, size = 500, 10
    slate = np.repeat((rng.random(n) < 0.3).astype(np.float64), size)
    zeros = np.zeros(n * size, dtype=np.int64)
    decision = np.repeat(np.arange(n), size)
    ones = np.ones(n * size)
    together = estimate_logged(Logged(zeros, zeros, ones, slate, decision))
    apart = estimate_logged(Logged(zeros, zeros, ones, slate, np.arange(n * size)))
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(size), rel=0.02)


def test_bernstein_is_wider_and_never_sure_of_little() -> None:
    log = uniform_log(200)
    for normal, wide in zip(
        estimate(log, table(0.2, 0.2, 0.6)),
        estimate(log, table(0.2, 0.2, 0.6), interval="bernstein"),
        strict=True,
    ):
        assert wide.low < normal.low < normal.high < wide.high


def test_one_decision_proves_nothing() -> None:
    one = uniform_log(1)
    assert estimate_logged(one).low == -np.inf
    with pytest.raises(ValueError, match="no rows"):
        estimate(uniform_log(0), table(1.0, 0.0, 0.0))


def test_the_harmonic_mean_is_the_true_mean_of_a_policy_that_looks_at_the_context() -> None:
    rng = np.random.default_rng(2)
    chances = rng.dirichlet(np.full(4, 0.5), 8)
    context = rng.integers(0, 8, 200_000)
    steps = np.cumsum(chances, axis=1)[context]
    action = np.minimum((rng.random(len(context))[:, None] > steps).sum(axis=1), 3)
    zeros = np.zeros(len(context))
    log = Logged(
        action,
        zeros.astype(np.int64),
        np.maximum(chances[context, action], 1e-12),
        zeros,
        np.arange(len(context)),
    )
    truth = chances.mean(axis=0)
    harmonic = marginal_propensities(log, (4, 1))[:, 0]
    arithmetic = marginal_propensities(log, (4, 1), "arithmetic")[:, 0]
    assert harmonic == pytest.approx(truth, rel=0.1)
    assert (arithmetic > 1.2 * truth).all()


def test_a_contextual_policy_is_valued_right_only_with_the_harmonic_mean() -> None:
    held = {"harmonic": 0, "arithmetic": 0}
    for seed in range(40):
        random, contextual, truth = world(seed)
        for mean in ("harmonic", "arithmetic"):
            target = marginal_propensities(
                contextual, (30, 1), "harmonic" if mean == "harmonic" else "arithmetic"
            )
            held[mean] += estimate(random, target)[1].holds(truth)
    assert held["harmonic"] >= 33
    assert held["arithmetic"] < 28


def test_support_tells_how_far_the_log_can_speak() -> None:
    log = uniform_log(3_000)
    same = support(log, table(1 / 3, 1 / 3, 1 / 3))
    assert same.effective == pytest.approx(3_000)
    assert (same.largest, same.mean, same.missing) == pytest.approx((1.0, 1.0, 0.0))
    narrow = support(log, table(0.0, 0.0, 1.0))
    assert narrow.effective == pytest.approx(1_000, rel=0.1)
    unseen = support(log, table(0.25, 0.25, 0.25, 0.25))
    assert unseen.missing == pytest.approx(0.25)
    assert support(log, table(0.0, 0.0, 1.0), cap=2.0).largest == 2.0


@pytest.mark.parametrize("name", ["men", "women"])
def test_the_bandit_campaigns_are_held(name: str) -> None:
    root = os.environ.get("HEADRACE_SHARED_DATA")
    folder = (Path(root) if root else ROOT / ".." / "shared" / "data") / "bandit"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    random, bts, shape = campaign(folder, name)
    truth = float(bts.reward.mean())
    for one in estimate(random, marginal_propensities(bts, shape)):
        assert one.holds(truth), one.estimator


@pytest.mark.parametrize("propensity", [0.0, 1.5])
def test_impossible_propensities_are_refused(propensity: float) -> None:
    zeros = np.zeros(1, dtype=np.int64)
    with pytest.raises(ValueError, match="propensities"):
        Logged(zeros, zeros, np.array([propensity]), np.zeros(1), zeros)


def test_columns_of_different_lengths_are_refused() -> None:
    zeros = np.zeros(2, dtype=np.int64)
    with pytest.raises(ValueError, match="one length"):
        Logged(zeros, zeros, np.ones(1), np.zeros(2), zeros)
