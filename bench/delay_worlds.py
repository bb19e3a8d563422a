"""Three worlds in which outcomes arrive late, as a specification, and what it generates.

A world is a stream of exposures at a constant mean rate. An exposure has an item, a segment and a
position, and brings its outcome with probability

    p = σ(base + item + segment + position + item·segment),

where the item's effect is drawn from N(0, 0.8²) and, for half of the items, drawn anew in the
middle of the stream; segments' effects from N(0, 0.3²), those of pairs from N(0, 0.2²), and each
position takes 0.08 off. ``base`` makes the mean of p the world's rate. Items are drawn by a power
law (exponent 0.7). The outcome, if there is one, comes after an exponential delay whose mean is
the item's own, drawn uniformly between a fiftieth and a half of the longest delay; longer delays
do not occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.rewards import FEATURES, NO_FEATURE

__all__ = ["HOUR_S", "WORLDS", "Stream", "World", "stream"]

HOUR_S: Final = 3_600.0
_SHARPNESS: Final = 0.8
_SEGMENT: Final = 0.3
_PAIR: Final = 0.2
_POSITION: Final = 0.08
_POPULARITY: Final = 0.7


@dataclass(frozen=True, slots=True)
class World:
    """A world by its numbers.

    Parameters
    ----------
    rate
        Share of exposures that bring the outcome.
    longest_h
        Longest delay of an outcome, hours.
    wait_h
        How long those methods wait that wait a little, hours.
    required
        Share of the gap between waiting and knowing that is to be closed (`bench.delay`).
    window_h
        How long an outcome may take, hours: who waits for certainty waits so long.
    """

    name: str
    rate: float
    longest_h: float
    wait_h: float
    required: float
    window_h: float = 168.0
    exposures: int = 300_000
    days: float = 56.0
    items: int = 400
    segments: int = 8
    positions: int = 10


WORLDS: Final = (
    World("rate 15 %, delays to 60 h", 0.15, 60.0, 24.0, required=0.93),
    World("rate 4 %, delays to 120 h", 0.04, 120.0, 24.0, required=0.85),
    World("rate 4 %, delays to 60 h, wait 1 h", 0.04, 60.0, 1.0, required=0.92),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """Exposures in time order, each (n,): features are (n, FEATURES); delays inf for none."""

    world: World
    ts: NDArray[np.float64]
    features: NDArray[np.uint32]
    outcome: NDArray[np.bool_]
    delay_s: NDArray[np.float64]
    chance: NDArray[np.float64]
    item: NDArray[np.int64]

    @property
    def shift_s(self) -> float:
        """Return when half of the items change."""
        return self.world.days * 12 * HOUR_S

    def week_after(self) -> NDArray[np.bool_]:
        """Return which exposures lie in the week after the shift."""
        since = self.ts - self.shift_s
        return np.asarray((since >= 0) & (since < 168 * HOUR_S))


def stream(world: World, seed: int) -> Stream:
    """Return a stream of the world."""
    rng = np.random.default_rng(seed)
    n, items, segments = world.exposures, world.items, world.segments
    ts = np.sort(rng.random(n)) * world.days * 24 * HOUR_S
    popularity = 1.0 / (1.0 + rng.permutation(items)) ** _POPULARITY
    item = rng.choice(items, n, p=popularity / popularity.sum())
    segment = rng.integers(0, segments, n)
    position = rng.integers(0, world.positions, n)
    before = rng.normal(0.0, _SHARPNESS, items)
    after = before.copy()
    moved = rng.permutation(items)[: items // 2]
    after[moved] = rng.normal(0.0, _SHARPNESS, len(moved))
    effect = np.where(ts < world.days * 12 * HOUR_S, before[item], after[item])
    effect += rng.normal(0.0, _SEGMENT, segments)[segment]
    effect += rng.normal(0.0, _PAIR, (items, segments))[item, segment]
    effect -= _POSITION * position
    chance = _with_mean(effect, world.rate)
    outcome = rng.random(n) < chance
    mean_s = world.longest_h * HOUR_S * rng.uniform(0.02, 0.5, items)[item]
    # An exponential that ends at the longest delay.
    cut = -np.expm1(-world.longest_h * HOUR_S / mean_s)
    delay_s = -mean_s * np.log1p(-rng.random(n) * cut)
    columns = np.full((n, FEATURES), NO_FEATURE, dtype=np.uint32)
    columns[:, 0] = 0
    first = 1
    for column, (codes, size) in enumerate(
        (
            (item, items),
            (segment, segments),
            (position, world.positions),
            (item * segments + segment, items * segments),
        ),
        start=1,
    ):
        columns[:, column] = first + codes
        first += size
    return Stream(world, ts, columns, outcome, np.where(outcome, delay_s, np.inf), chance, item)


def _with_mean(effect: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return σ(base + effect) with the base that gives it this mean."""
    low, high = -15.0, 15.0
    for _ in range(60):
        base = (low + high) / 2.0
        chance = 1.0 / (1.0 + np.exp(-(base + effect)))
        if chance.mean() < mean:
            low = base
        else:
            high = base
    return np.asarray(chance)
