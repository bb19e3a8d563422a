"""How long an outcome keeps one waiting: a delay curve, learned while outcomes are still due.

Young streams have seen short delays only, so delays cannot be counted by themselves. What is
counted is, for each age, how many outcomes came at it and how many exposures have reached it;
their ratio is the incidence at that age, and its running sum the curve.
"""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.delay_kernels import count_delays, count_exposures, exposed_before, fit_shares
from models.formats import refuse_newer

__all__ = ["DelayCurve"]

_FORMAT: Final = 1
_INCIDENCE: Final = 10
"""Place of what states did not hold at first; who does not know it reads over it."""
_BINS: Final = 32
_PER_OCTAVE: Final = 2
_SLOTS: Final = 128
_PRIOR: Final = 4.0
_PRIOR_SHARES: Final = (0.1, 0.3, 0.3, 0.3)
_FIT_STEPS: Final = 60
_SCALES: Final = (1 / 64, 1 / 16, 1 / 4)
_AT_ONCE: Final = 2.0**-12
"""Part of the window below which an outcome counts as having come at once."""
_DAY_S: Final = 86_400.0


class DelayCurve:
    """P(an outcome has come by age a | it will come within the window).

    *Math* — with d_b the outcomes that came at an age in bin b and E_b the exposures that reached
    it, both decayed by event time, and q the prior over bins with weight κ,

        h_b = (d_b + κ·q_b) / (E_b + κ/r),   F(a) = Σ_{b ≤ a} h_b / Σ_b h_b,

    r being the incidence so far. Bins are half octaves of age, so the curve is as fine at seconds
    as at weeks. An open example of age a that was given p₀ at first will still bring the outcome
    with probability p₀·(1 − F(a)) / (1 − p₀·F(a)).

    Parameters
    ----------
    window_s
        Longest delay that counts; a later outcome is refused by the caller.
    half_life_s
        After how much event time an observation counts half.

    ``incidence`` is Σ_b h_b as of the last fit: the share of exposures that bring the outcome.
    ``rates`` (1/s) are those of each component after the first, which comes at once.

    *State* — 32 bins and a ring of 128 slots of time, whatever the stream.
    *Complexity* — about 30 ns an exposure, O(bins · slots) a fit, which the caller schedules.
    *Replay* — sums by event time: the order of observations does not matter beyond rounding, and
    curves of several partitions add (`merge`).

    Examples
    --------
    >>> curve = DelayCurve(window_s=3600.0)
    >>> curve.expose(np.arange(0.0, 36_000.0, 10.0))
    >>> curve.arrive(np.arange(60.0, 36_060.0, 100.0), np.full(360, 60.0))
    >>> curve.fit()
    >>> bool(curve.cdf(30.0) < 0.1 < 0.9 < curve.cdf(90.0))
    True
    >>> bool(curve.eventual(0.5, 600.0) < 0.02)
    True
    """

    def __init__(self, window_s: float, half_life_s: float = 28 * _DAY_S) -> None:
        if not (window_s > 0.0 and half_life_s > 0.0):
            raise ValueError("window_s and half_life_s should be above 0")
        self.window_s = float(window_s)
        self.rates = 1.0 / (self.window_s * np.array(_SCALES))
        self.half_life_s = float(half_life_s)
        self._slot_s = window_s / (_SLOTS - 2)
        self._ids = np.full(_SLOTS, -1, dtype=np.int64)
        self._counts = np.zeros(_SLOTS)
        self._base = np.array([0.0, 0.0])
        self._bins = np.zeros(_BINS)
        self._reached = np.array([0.0])
        exponents = (np.arange(_BINS) + 1 - _BINS) / _PER_OCTAVE
        self._edges = window_s * 2.0**exponents
        self._parts = self._components()
        self._prior = np.array(_PRIOR_SHARES) @ self._parts
        self._prior /= self._prior.sum()
        self._cdf = np.cumsum(self._prior)
        self.incidence = 0.0
        self.fit()

    # --- learn ----------------------------------------------------------------------------

    def expose(self, ts: ArrayLike) -> None:
        """Count exposures by when they were, (n,)."""
        moments = np.asarray(ts, dtype=np.float64)
        count_exposures(
            moments, self._slot_s, self.half_life_s, self._ids, self._counts, self._base
        )

    def arrive(self, ts: ArrayLike, age_s: ArrayLike, *, sign: float = 1.0) -> None:
        """Count outcomes by when they came and how long after their exposure, both (n,).

        ``sign`` -1 takes back what was counted.
        """
        count_delays(
            np.asarray(ts, dtype=np.float64),
            np.asarray(age_s, dtype=np.float64),
            sign,
            self._edges,
            self.half_life_s,
            self._bins,
            self._reached,
        )

    def fit(self) -> None:
        """Bring the curve up to date with what was counted."""
        now = self.now
        exposed = self._exposed(now - np.append(self._middles(), 0.0))
        came = self._bins.sum()
        rate = (came + 1.0) / (exposed[-1] + 10.0)
        hazard = np.maximum(self._bins + _PRIOR * self._prior, 0.0)
        hazard /= exposed[:-1] + _PRIOR / rate
        self.incidence = min(1.0, float(hazard.sum()))
        mass = hazard / hazard.sum()
        self._cdf = np.cumsum(mass)
        self._cdf[-1] = 1.0
        self.shares = fit_shares(mass, self._parts, _FIT_STEPS)

    # --- read -----------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Return the newest event time that is known of, up to a slot."""
        latest = int(self._ids.max())
        return max(float(self._reached[0]), (latest + 1) * self._slot_s if latest >= 0 else 0.0)

    @property
    def outcomes(self) -> float:
        """Return the number of outcomes counted, decayed to now."""
        return float(self._bins.sum())

    @property
    def at_once_s(self) -> float:
        """Return the age up to which an outcome counts as having come at once."""
        return self.window_s * _AT_ONCE

    @property
    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ages (b + 1,) between which the curve is straight, and what it is there."""
        return np.concatenate(([0.0], self._edges)), np.concatenate(([0.0], self._cdf))

    def cdf(self, age_s: ArrayLike) -> NDArray[np.float64]:
        """Return P(come by this age | will come); any shape."""
        return np.asarray(np.interp(np.asarray(age_s, dtype=np.float64), *self.corners))

    def to_come(self, age_s: ArrayLike) -> NDArray[np.float64]:
        """Return the share of outcomes of exposures of this age that is still to come."""
        return 1.0 - self.cdf(age_s)

    def eventual(self, p0: ArrayLike, age_s: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that an example without the outcome so far will have it."""
        first = np.asarray(p0, dtype=np.float64)
        left = first * self.to_come(age_s)
        return np.asarray(left / np.maximum(1.0 - first + left, 1e-300))

    def share_to_come(self) -> float:
        """Return, of what the exposures of the last window will bring, the share still to come."""
        live = self._ids >= 0
        age_s = self.now - (self._ids[live] + 0.5) * self._slot_s
        counts = self._counts[live] * (age_s <= self.window_s)
        total = float(counts.sum())
        return (
            float((counts * self.to_come(np.maximum(age_s, 0.0))).sum()) / total if total else 0.0
        )

    # --- add and keep ---------------------------------------------------------------------

    def merge(self, other: DelayCurve) -> None:
        """Add what another partition counted of the same outcome.

        Raises
        ------
        ValueError
            If its window or half-life is another one.
        """
        if (self.window_s, self.half_life_s) != (other.window_s, other.half_life_s):
            raise ValueError("curves of different windows or half-lives do not add")
        reached = max(float(self._reached[0]), float(other._reached[0]))
        self._bins = self._decayed(reached) + other._decayed(reached)
        self._reached[0] = reached
        slot = max(float(self._base[1]), float(other._base[1]))
        self._base = np.array([self._base_at(slot) + other._base_at(slot), slot])
        theirs = [(i, n) for i, n in zip(other._ids, other._counts, strict=True) if i >= 0]
        for slot_id, count in sorted(theirs):
            at = slot_id % _SLOTS
            mine = self._ids[at]
            if mine == slot_id:
                self._counts[at] += count
                continue
            older, mass = (slot_id, count) if mine > slot_id else (mine, self._counts[at])
            if mine < slot_id:
                self._ids[at], self._counts[at] = slot_id, count
            if older >= 0:
                behind = float(self._base[1]) - older
                if behind < 0:
                    self._base = np.array([self._base_at(float(older)), float(older)])
                    behind = 0.0
                self._base[0] += mass * 2.0 ** (-behind * self._slot_s / self.half_life_s)
        self.fit()

    def to_bytes(self) -> bytes:
        """Return the state as versioned bytes."""
        return msgspec.msgpack.encode(
            (
                _FORMAT,
                self.window_s,
                self.half_life_s,
                self._ids.tolist(),
                self._counts.tolist(),
                self._base.tolist(),
                self._bins.tolist(),
                float(self._reached[0]),
                self._cdf.tolist(),
                self.shares.tolist(),
                self.incidence,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the curve that was written.

        Raises
        ------
        ValueError
            If it is of a newer format than this program reads.
        """
        stored: list[Any] = msgspec.msgpack.decode(data)
        refuse_newer("a delay curve", stored[0], _FORMAT)
        made = cls(stored[1], stored[2])
        made._ids = np.array(stored[3], dtype=np.int64)
        made._counts, made._base, made._bins = (np.array(part) for part in stored[4:7])
        made._reached[0] = stored[7]
        # As it was fitted last, which need not be what was counted since.
        made._cdf, made.shares = np.array(stored[8]), np.array(stored[9])
        made.incidence = float(stored[10]) if len(stored) > _INCIDENCE else made.incidence
        return made

    # --- inside ---------------------------------------------------------------------------

    def _middles(self) -> NDArray[np.float64]:
        below = np.concatenate(([0.0], self._edges[:-1]))
        return (below + self._edges) / 2.0

    def _exposed(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        return exposed_before(
            moments, self._slot_s, self.half_life_s, self._ids, self._counts, self._base
        )

    def _components(self) -> NDArray[np.float64]:
        """Return the mass of each component in each bin, (c, b)."""
        at_once = np.where(self._edges <= self.at_once_s, 1.0, 0.0)
        at_once /= at_once.sum()
        edges = np.concatenate(([0.0], self._edges))
        tails = np.exp(-edges[None, :] / (self.window_s * np.array(_SCALES))[:, None])
        return np.vstack((at_once, tails[:, :-1] - tails[:, 1:]))

    def _decayed(self, ts: float) -> NDArray[np.float64]:
        """Return the outcomes by age as they count at ``ts``."""
        return np.asarray(self._bins * 2.0 ** ((float(self._reached[0]) - ts) / self.half_life_s))

    def _base_at(self, slot: float) -> float:
        behind = (slot - float(self._base[1])) * self._slot_s / self.half_life_s
        return float(self._base[0] * 2.0**-behind)
