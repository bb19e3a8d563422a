"""Drift over all partitions: what each of them contributes, merged when somebody looks."""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from monitoring.drift import DriftMonitor
from monitoring.drift_kernels import BINARY, BLOCK, variance_factor, zscore

__all__ = ["Contribution", "DriftView", "Readings", "contribution"]

_SMALLEST: Final = 1e-6


class Contribution(NamedTuple):
    """What one partition knows of every signal, copied: arrays as in `drift_kernels.State`.

    ``clock``: grows with whatever the partition saw; of two the newer one counts.
    """

    clock: tuple[int, int]
    signals: tuple[str, ...]
    first: NDArray[np.int64]
    levels: NDArray[np.int64]
    decay: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    min_effect: float
    sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    share: NDArray[np.float64]
    deff: NDArray[np.float64]
    size: NDArray[np.int64]
    freedom: NDArray[np.float64]
    since: NDArray[np.float64]
    firing: NDArray[np.int64]


class Readings(NamedTuple):
    """How each signal stands, each (S,); all 0 where there is no reference yet.

    ``z``: the change that is furthest out, in its own deviations. ``psi``, ``js``: population
    stability index and Jensen-Shannon divergence (nats) of the shares of the first half-life.
    ``psi_floor``, ``js_floor``: what they are without any change, (K − 1)/n_eff and an eighth of
    it. ``effect``: largest change of a share. ``firing``: 1 where a partition has detected a change
    that still lasts, or all together are beyond the threshold. ``since``, ``samples``: of the
    reference.
    """

    z: NDArray[np.float64]
    psi: NDArray[np.float64]
    psi_floor: NDArray[np.float64]
    js: NDArray[np.float64]
    js_floor: NDArray[np.float64]
    effect: NDArray[np.float64]
    firing: NDArray[np.int64]
    since: NDArray[np.float64]
    samples: NDArray[np.int64]


def contribution(monitor: DriftMonitor) -> Contribution:
    """Return a copy of what a partition's monitor contributes."""
    state, layout = monitor.state, monitor.layout
    return Contribution(
        (int(state.seen.sum()), int(state.version.sum())),
        tuple(monitor.signals),
        layout.first,
        layout.levels,
        layout.decay,
        layout.thresholds,
        layout.min_effect,
        state.sums.copy(),
        state.weights.copy(),
        state.share.copy(),
        state.deff.copy(),
        state.size.copy(),
        state.freedom.copy(),
        state.since.copy(),
        state.firing.copy(),
    )


class DriftView:
    """Contributions by partition; those of other signals than the newest's are left out.

    Merging is a union in which the newer contribution of a partition wins, so it is commutative,
    associative and idempotent to the last bit; sums are taken in the order of the partitions.

    Examples
    --------
    >>> from monitoring.signals import SignalGroup
    >>> monitor = DriftMonitor([SignalGroup("labels", ("relevance",), ("no", "yes"))])
    >>> view = DriftView({0: contribution(monitor)})
    >>> view.merge(DriftView({1: contribution(monitor)})).partitions
    [0, 1]
    """

    def __init__(self, contributions: dict[int, Contribution] | None = None) -> None:
        self._contributions = dict(contributions or {})

    @property
    def partitions(self) -> list[int]:
        """Partitions that contribute."""
        return sorted(self._contributions)

    def items(self) -> list[tuple[int, Contribution]]:
        """Return the contributions in the order of their partitions."""
        return [(partition, self._contributions[partition]) for partition in self.partitions]

    def put(self, partition: int, newer: Contribution) -> None:
        """Take a partition's contribution, unless a newer one is here."""
        known = self._contributions.get(partition)
        if known is None or newer.clock >= known.clock:
            self._contributions[partition] = newer

    def drop(self, partition: int) -> None:
        """Forget a partition that is somebody else's now."""
        self._contributions.pop(partition, None)

    def merge(self, other: DriftView) -> DriftView:
        """Return both views together."""
        merged = DriftView(self._contributions)
        for partition, theirs in other.items():
            merged.put(partition, theirs)
        return merged

    def readings(self, signals: Iterable[str]) -> Readings:
        """Return how the signals stand; they must be those of the monitors, in their order."""
        names = tuple(signals)
        parts = [part for _, part in self.items() if part.signals == names]
        found = _nothing(len(names))
        if not parts:
            return found
        head = parts[0]
        scales, categories = len(head.weights), int(head.first[-1])
        weight, freedom = np.zeros((scales, len(names))), np.zeros(len(names))
        share = np.zeros(categories)
        delta, variance = np.zeros((scales, categories)), np.zeros((scales, categories))
        for part in parts:
            _accumulate(part, weight, share, delta, variance, freedom, found)
        _finish(head, weight, share, delta, variance, freedom, found)
        return found


def _nothing(n: int) -> Readings:
    """Return readings of n signals without a reference."""
    return Readings(
        z=np.zeros(n),
        psi=np.zeros(n),
        psi_floor=np.zeros(n),
        js=np.zeros(n),
        js_floor=np.zeros(n),
        effect=np.zeros(n),
        firing=np.zeros(n, dtype=np.int64),
        since=np.zeros(n),
        samples=np.zeros(n, dtype=np.int64),
    )


@njit(cache=True, nogil=True)
def _add(
    first: NDArray[np.int64],
    levels: NDArray[np.int64],
    decay: NDArray[np.float64],
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    shares: NDArray[np.float64],
    deff: NDArray[np.float64],
    size: NDArray[np.int64],
    weight: NDArray[np.float64],
    share: NDArray[np.float64],
    delta: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    for s in range(len(first) - 1):
        if size[s] == 0:
            continue
        for scale in range(len(weights)):
            w = weights[scale, s]
            if w <= 0.0:
                continue
            weight[scale, s] += w
            factor = variance_factor(w, decay[levels[s], scale], BLOCK << levels[s])
            factor += 1.0 / (size[s] * BLOCK)
            for f in range(first[s], first[s + 1]):
                p = shares[f]
                if scale == 0:
                    share[f] += w * p
                delta[scale, f] += sums[scale, f] - w * p
                variance[scale, f] += w * w * p * (1.0 - p) * deff[f] * factor


def _accumulate(
    part: Contribution,
    weight: NDArray[np.float64],
    share: NDArray[np.float64],
    delta: NDArray[np.float64],
    variance: NDArray[np.float64],
    freedom: NDArray[np.float64],
    found: Readings,
) -> None:
    """Add a partition: each is compared with its own reference, for its people differ."""
    _add(part.first, part.levels, part.decay, part.sums, part.weights, part.share, part.deff,
         part.size, weight, share, delta, variance)  # fmt: skip
    known = part.size > 0
    freedom += np.where(known, part.freedom, 0.0)
    np.maximum(found.since, np.where(known, part.since, 0.0), out=found.since)
    np.maximum(found.firing, part.firing, out=found.firing)
    found.samples[:] += part.size * BLOCK


@njit(cache=True, nogil=True)
def _read(
    first: NDArray[np.int64],
    min_effect: float,
    thresholds: NDArray[np.float64],
    weight: NDArray[np.float64],
    share: NDArray[np.float64],
    delta: NDArray[np.float64],
    variance: NDArray[np.float64],
    freedom: NDArray[np.float64],
    z: NDArray[np.float64],
    psi: NDArray[np.float64],
    floor: NDArray[np.float64],
    js: NDArray[np.float64],
    effect: NDArray[np.float64],
    firing: NDArray[np.int64],
) -> None:
    for s in range(len(first) - 1):
        if weight[0, s] <= 0.0:
            continue
        begin, end = first[s], first[s + 1]
        start = begin + 1 if end - begin == BINARY else begin
        beyond = False
        for f in range(begin, end):
            p = share[f] / weight[0, s]
            for scale in range(len(weight)):
                w = weight[scale, s]
                if f < start or w <= 0.0:
                    continue
                change = delta[scale, f] / w
                found = zscore(p + change, p, variance[scale, f] / (w * w), freedom[s])
                if abs(found) > abs(z[s]):
                    z[s] = found
                if abs(change) > effect[s]:
                    effect[s] = abs(change)
                if abs(found) >= thresholds[s] and abs(change) >= min_effect:
                    beyond = True
            q = max(p, _SMALLEST)
            x = max(p + delta[0, f] / weight[0, s], _SMALLEST)
            psi[s] += (x - q) * log(x / q)
            js[s] += 0.5 * (x * log(2.0 * x / (x + q)) + q * log(2.0 * q / (x + q)))
            floor[s] += variance[0, f] / weight[0, s] ** 2 / q
        if beyond:
            firing[s] = 1


def _finish(
    head: Contribution,
    weight: NDArray[np.float64],
    share: NDArray[np.float64],
    delta: NDArray[np.float64],
    variance: NDArray[np.float64],
    freedom: NDArray[np.float64],
    found: Readings,
) -> None:
    _read(head.first, head.min_effect, head.thresholds, weight, share, delta, variance, freedom,
          found.z, found.psi, found.psi_floor, found.js, found.effect, found.firing)  # fmt: skip
    # JS is PSI / 8 to second order.
    found.js_floor[:] = found.psi_floor / 8.0
