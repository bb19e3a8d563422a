"""What another policy would have earned, from what one policy logged.

A logged row says what was shown at which position, with what probability, and what came of it.
Weighing each row by (probability under the target policy) / (probability when logged) makes the
log look as if the target had chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Interval",
    "Logged",
    "Support",
    "estimate",
    "estimate_logged",
    "marginal_propensities",
    "support",
]

Estimator = Literal["ips", "snips", "dr"]
Interval = Literal["normal", "bernstein"]
ESTIMATORS: Final[tuple[Estimator, ...]] = ("ips", "snips", "dr")

_FOLDS: Final = 5
_PRIOR: Final = 20.0


@dataclass(frozen=True, slots=True)
class Logged:
    """Rows of a log as columns, each (n,).

    Parameters
    ----------
    action, position
        Codes of what was shown and where, from 0.
    propensity
        Probability, in (0, 1], with which the log's policy showed it there.
    reward
        What came of it.
    cluster
        Code of the decision that a row belongs to, from 0: rows of one slate are not independent.
    """

    action: NDArray[np.int64]
    position: NDArray[np.int64]
    propensity: NDArray[np.float64]
    reward: NDArray[np.float64]
    cluster: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.reward)
        columns = (self.action, self.position, self.propensity, self.cluster)
        if any(len(column) != n for column in columns):
            raise ValueError("columns of a log should be of one length")
        if n and not ((self.propensity > 0.0) & (self.propensity <= 1.0)).all():
            raise ValueError("propensities should be above 0 and at most 1")

    def __len__(self) -> int:
        return len(self.reward)


class Estimate(NamedTuple):
    """A value per row, and the interval that holds it with the confidence asked for."""

    estimator: str
    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether a value lies in the interval."""
        return self.low <= value <= self.high


class Support(NamedTuple):
    """How far the log can speak about the target.

    ``effective`` is the number of rows that the weighted ones are worth, ``largest`` the largest
    weight, ``mean`` their mean (1 where the log covers the target), and ``missing`` the share of
    the target's choices that the log never showed.
    """

    effective: float
    largest: float
    mean: float
    missing: float


def marginal_propensities(
    log_: Logged, shape: tuple[int, int], mean: Literal["harmonic", "arithmetic"] = "harmonic"
) -> NDArray[np.float64]:
    """Return a policy's probability of each action at each position from its own log.

    A policy that looks at the context, or learns, shows an item with many probabilities. The rows
    in which it was shown are a sample that is biased towards the larger ones: of probability p,
    a share p of the occasions is seen. The harmonic mean undoes exactly that,

        1 / E[1/p | shown] = E[p],

    while the arithmetic mean is too large by the relative variance of p.

    Parameters
    ----------
    shape
        Numbers of actions and positions; what was never shown has probability 0.
    """
    at = log_.action * shape[1] + log_.position
    size = shape[0] * shape[1]
    count = np.bincount(at, minlength=size).astype(np.float64)
    part = 1.0 / log_.propensity if mean == "harmonic" else log_.propensity
    total = np.bincount(at, weights=part, minlength=size)
    found = np.zeros(size)
    shown = count > 0
    if mean == "harmonic":
        found[shown] = count[shown] / total[shown]
    else:
        found[shown] = total[shown] / count[shown]
    return found.reshape(shape)


def estimate(
    log_: Logged,
    target: NDArray[np.float64],
    *,
    level: float = 0.95,
    interval: Interval = "normal",
    cap: float | None = None,
) -> list[Estimate]:
    """Return what the target would have earned a row, by each of `ESTIMATORS`.

    *Math* — with w = target / logged propensity, r the reward, and q̂ a mean reward per action and
    position (shrunk, fitted on other rows),

        IPS = mean(w·r),  SNIPS = Σ w·r / Σ w,  DR = mean(Σ_a π(a)·q̂(a) + w·(r − q̂)).

    Parameters
    ----------
    target
        Probability of each action at each position, (actions, positions).
    level
        Confidence of the intervals.
    interval
        ``normal``: by the variance between clusters (delta method for SNIPS). ``bernstein``:
        empirical Bernstein, which needs no limit theorem and is wider.
    cap
        Largest weight; lowers the variance and biases towards what was logged. None: no limit.

    References
    ----------
    Swaminathan and Joachims (2015) for SNIPS; Dudík et al. (2011) for DR; Maurer and Pontil
    (2009), theorem 4, for the Bernstein interval.
    """
    if not len(log_):
        raise ValueError("the log holds no rows")
    weight = _weights(log_, target, cap)
    reward = log_.reward
    ips = weight * reward
    # Rows that the target would never show say nothing about it.
    total = float(weight.sum())
    ratio = float(ips.sum()) / total if total > 0.0 else 0.0
    model, expected = _reward_model(log_, target)
    doubly = expected + weight * (reward - model)
    scale = weight.mean() if total > 0.0 else 1.0
    values = (
        (ESTIMATORS[0], float(ips.mean()), ips - ips.mean()),
        (ESTIMATORS[1], ratio, weight * (reward - ratio) / scale),
        (ESTIMATORS[2], float(doubly.mean()), doubly - doubly.mean()),
    )
    return [
        Estimate(name, value, *_around(value, influence, log_.cluster, level, interval))
        for name, value, influence in values
    ]


def estimate_logged(
    log_: Logged, *, level: float = 0.95, interval: Interval = "normal"
) -> Estimate:
    """Return what the log's own policy earned a row."""
    if not len(log_):
        raise ValueError("the log holds no rows")
    value = float(log_.reward.mean())
    around = _around(value, log_.reward - value, log_.cluster, level, interval)
    return Estimate("logged", value, *around)


def support(log_: Logged, target: NDArray[np.float64], cap: float | None = None) -> Support:
    """Return how far the log can speak about the target."""
    weight = _weights(log_, target, cap)
    squares = float((weight**2).sum())
    shown = np.zeros(target.shape, dtype=np.bool_)
    shown[log_.action, log_.position] = True
    mass = float(target.sum())
    return Support(
        effective=float(weight.sum()) ** 2 / squares if squares > 0.0 else 0.0,
        largest=float(weight.max()),
        mean=float(weight.mean()),
        missing=float(target[~shown].sum()) / mass if mass > 0.0 else 1.0,
    )


def _weights(log_: Logged, target: NDArray[np.float64], cap: float | None) -> NDArray[np.float64]:
    weight = target[log_.action, log_.position] / log_.propensity
    return np.asarray(weight if cap is None else np.minimum(weight, cap))


def _reward_model(
    log_: Logged, target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean reward of each row's action, and of the target's choice there, (n,) each.

    Fitted on other folds of clusters than the row's own.
    """
    shape = target.shape
    size = shape[0] * shape[1]
    at = log_.action * shape[1] + log_.position
    fold = log_.cluster % _FOLDS
    mass = target.sum(axis=0)
    share = np.divide(target, mass, out=np.zeros(shape), where=mass > 0.0)
    model, expected = np.zeros(len(log_)), np.zeros(len(log_))
    for held in range(_FOLDS):
        mine = fold == held
        others = ~mine if (~mine).any() else mine
        mean = log_.reward[others].mean()
        count = np.bincount(at[others], minlength=size)
        total = np.bincount(at[others], weights=log_.reward[others], minlength=size)
        fitted = (total + _PRIOR * mean) / (count + _PRIOR)
        model[mine] = fitted[at[mine]]
        by_position = (share * fitted.reshape(shape)).sum(axis=0)
        expected[mine] = by_position[log_.position[mine]]
    return model, expected


def _around(
    value: float,
    influence: NDArray[np.float64],
    cluster: NDArray[np.int64],
    level: float,
    interval: Interval,
) -> tuple[float, float]:
    """Return the interval of a mean whose rows have these influences."""
    n = len(influence)
    sums = np.bincount(cluster, weights=influence)
    present = np.bincount(cluster) > 0
    sums = sums[present]
    clusters = len(sums)
    if clusters == 1:
        return float("-inf"), float("inf")
    # Σ over clusters of squared sums: as many independent pieces as there are decisions.
    variance = clusters / (clusters - 1) * float((sums**2).sum()) / n**2
    if interval == "normal":
        half = NormalDist().inv_cdf(0.5 + level / 2.0) * sqrt(variance)
    else:
        # Two sides, and the variance is estimated: each gets its share of the risk.
        risk = log(4.0 / (1.0 - level))
        reach = float(sums.max() - sums.min()) * clusters / n
        half = sqrt(2.0 * variance * risk) + 7.0 * reach * risk / (3.0 * (clusters - 1))
    return value - half, value + half
