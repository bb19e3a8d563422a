"""Thresholds that follow from how many false pages an operator accepts, and from the volume."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, pi, sqrt
from typing import Final

__all__ = ["DriftBudget", "false_alarms", "threshold"]

_LOWEST: Final = 3.0
_HIGHEST: Final = 40.0


@dataclass(frozen=True, slots=True)
class DriftBudget:
    """How many false pages are accepted, in how long, at which volume.

    Parameters
    ----------
    false_pages
        Pages without any change that an operator accepts in ``days``.
    days
        Length of that period.
    values_per_day
        Values that all signals of the deployment take a day, votes of labeling functions and
        everything else that is watched. A vote is a value.
    safety
        Factor by which real tails may be fatter than the model of `false_alarms`; measured by
        ``python -m bench.drift``: 0.5 to 1.9 where votes of a session correlate by 0.07; where
        they correlate by 0.2 it is 4 at z > 5, and grows.
    """

    false_pages: float = 1.0
    days: float = 30.0
    values_per_day: float = 1.1e10
    safety: float = 10.0

    def __post_init__(self) -> None:
        if min(self.false_pages, self.days, self.values_per_day, self.safety) <= 0.0:
            raise ValueError("every part of a budget of false pages must be above 0")


def false_alarms(z: float, half_life: float) -> float:
    """Return how often per value a stationary decayed mean leaves ±z of its own deviations.

    *Math* — a decayed mean is close to an Ornstein-Uhlenbeck process of time constant
    τ = half-life / ln 2; it leaves ±z 2·z·φ(z)/τ times a value, for large z.

    Examples
    --------
    >>> round(1 / false_alarms(6.0, 1000.0) / 1e9, 1)
    19.8
    """
    return 2.0 * z * exp(-0.5 * z * z) / sqrt(2.0 * pi) * log(2.0) / half_life


def threshold(budget: DriftBudget, half_lives: tuple[float, ...], shares: int = 1) -> float:
    """Return the z at which the budget is just kept.

    Parameters
    ----------
    half_lives
        Of every decayed mean that watches the same values.
    shares
        How many shares of one signal are watched: K of K categories, 1 of 2.

    Examples
    --------
    >>> round(threshold(DriftBudget(), (1000.0,)), 2)
    6.82
    >>> round(threshold(DriftBudget(values_per_day=1e6), (1000.0,)), 2)
    5.23
    """
    values = budget.values_per_day * budget.days * budget.safety * shares
    low, high = _LOWEST, _HIGHEST
    for _ in range(60):
        middle = 0.5 * (low + high)
        if values * sum(false_alarms(middle, h) for h in half_lives) > budget.false_pages:
            low = middle
        else:
            high = middle
    return high
