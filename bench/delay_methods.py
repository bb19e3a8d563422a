"""What others do about outcomes that arrive late, on the same model: peers of the reward heads.

All learn the same features with the same step (sums s and λ that fade, w = s/(λ₀ + λ)); they
differ in when they learn what. Those that need the delay curve are given the true one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from bench.delay_worlds import HOUR_S, Stream
from models.rewards import ARRIVED, EXPOSED, NO_FEATURE, HeadConfig, RewardHead

__all__ = ["METHODS", "Prediction", "matured", "peer"]

METHODS: Final = (
    "oracle: the outcome is known at once",
    "wait for the whole window",
    "wait a little, ignore what comes later",
    "negative at once, retracted",
    "fake-negative weighted (FNW)",
    "fake-negative calibrated (FNC)",
    "ES-DFM-style weights",
    "posterior of the delay model as soft label",
)
ORACLE, WINDOW, IGNORE, RETRACT, FNW, FNC, ES_DFM, SOFT = range(len(METHODS))

_EXPOSURE, _OUTCOME, _WAITED, _CLOSED = range(4)
_STEP: Final = 256


class Prediction(NamedTuple):
    """What was predicted at each exposure, and the CPU time it took, seconds."""

    chance: NDArray[np.float64]
    seconds: float


def timeline(
    stream: Stream, wait_h: float | None = None, window_h: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return all that happens in time order: when, what, to which exposure."""
    n = len(stream.ts)
    every = np.arange(n)
    came = np.flatnonzero(stream.outcome)
    parts = [
        (stream.ts, _EXPOSURE, every),
        (stream.ts[came] + stream.delay_s[came], _OUTCOME, came),
    ]
    if wait_h is not None:
        parts.append((stream.ts + wait_h * HOUR_S, _WAITED, every))
    if window_h is not None:
        parts.append((stream.ts + window_h * HOUR_S, _CLOSED, every))
    ts = np.concatenate([part[0] for part in parts])
    what = np.concatenate([np.full(len(part[0]), part[1]) for part in parts])
    which = np.concatenate([part[2] for part in parts])
    order = np.lexsort((what, ts))
    return ts[order], what[order], which[order]


def matured(stream: Stream, config: HeadConfig) -> Prediction:
    """Run the reward head over the stream, in micro-batches, as the pipeline does."""
    from time import process_time

    ts, what, which = timeline(stream)
    head = RewardHead(config)
    exposed = what == _EXPOSURE
    kinds = np.where(exposed, EXPOSED, ARRIVED).astype(np.int8)
    features = stream.features[which]
    age_s = ts - stream.ts[which]
    # Exposures are numbered in time order, and so are their rows.
    row_of = np.flatnonzero(exposed)
    first = np.empty(len(stream.ts))
    began = process_time()
    for start in range(0, len(ts), _STEP):
        part = slice(start, start + _STEP)
        about = which[part]
        origin = np.maximum(row_of[about] - start, -1)
        out = head.learn_many(
            features[part],
            ts[part],
            kinds[part],
            age_s=age_s[part],
            p0=first[about],
            origin=origin,
        )
        first[about[exposed[part]]] = out[exposed[part]]
    return Prediction(first, process_time() - began)


def peer(stream: Stream, method: int, config: HeadConfig) -> Prediction:
    """Run one of `METHODS` over the stream."""
    world = stream.world
    ts, what, which = timeline(stream, world.wait_h, world.window_h)
    delays = stream.delay_s[stream.outcome]
    present = (stream.features != NO_FEATURE).all(axis=0)
    used = stream.features[:, present].astype(np.int64)
    prior = np.full(used.shape[1], config.precision)
    prior[0] = 1.0
    chance = _run(
        method,
        ts,
        what,
        which,
        used,
        stream.outcome.astype(np.float64),
        (stream.delay_s <= world.wait_h * HOUR_S).astype(np.float64),
        float((delays <= world.wait_h * HOUR_S).mean()),
        int(used.max()) + 1,
        prior,
        float(np.log(config.base_rate / (1.0 - config.base_rate))),
        float(np.log(2.0) / config.half_life_s),
    )
    return Prediction(chance, float("nan"))


@numba.njit()
def _run(
    method: int,
    ts: NDArray[np.float64],
    what: NDArray[np.int64],
    which: NDArray[np.int64],
    features: NDArray[np.int64],
    outcome: NDArray[np.float64],
    soon: NDArray[np.float64],
    share_soon: float,
    width: int,
    prior: NDArray[np.float64],
    offset: float,
    fade: float,
) -> NDArray[np.float64]:
    n, k = features.shape
    total, precision, last = np.zeros(width), np.zeros(width), np.zeros(width)
    said, first, soft = np.empty(n), np.empty(n), np.zeros(n)
    weight, inverse = np.empty(k), np.empty(k)
    for row in range(len(ts)):
        i, event = which[row], what[row]
        score, spread = offset, 0.0
        for column in range(k):
            at = features[i, column]
            kept = np.exp(-fade * (ts[row] - last[at]))
            last[at] = ts[row]
            total[at] *= kept
            precision[at] *= kept
            inverse[column] = 1.0 / (precision[at] + prior[column])
            weight[column] = total[at] * inverse[column]
            score += weight[column]
            spread += inverse[column]
        p = 1.0 / (1.0 + np.exp(-score))
        if event == _EXPOSURE:
            first[i] = p
            said[i] = min(p / (1.0 - p), 1.0 - 1e-9) if method == FNC else p
        # How much of a row is learned, and its gradient; a row that only corrects has no mass.
        mass, slope = 0.0, 0.0
        if event == _EXPOSURE:
            if method == ORACLE:
                mass, slope = 1.0, outcome[i] - p
            elif method in (RETRACT, FNC):
                mass, slope = 1.0, -p
            elif method == FNW:
                mass = (1.0 - p) * (1.0 + p)
                slope = -p * mass
        elif event == _OUTCOME:
            if method == RETRACT:
                slope = 1.0 - p + first[i]
            elif method == FNW:
                slope = (1.0 - p) * (1.0 + first[i])
            elif method == FNC:
                mass, slope = 1.0, 1.0 - p
            elif method == ES_DFM and soon[i] == 0.0:
                mass = 1.0 + p * (1.0 - share_soon)
                slope = (1.0 - p) * mass
            elif method == SOFT and soon[i] == 0.0:
                slope = 1.0 - soft[i]
        elif event == _WAITED:
            if method == IGNORE:
                mass, slope = 1.0, soon[i] - p
            elif method == ES_DFM:
                mass = 1.0 + p * (1.0 - share_soon)
                if soon[i] > 0.0:
                    slope = (1.0 - p) * mass
                else:
                    mass *= (1.0 - p) / (1.0 - p * share_soon)
                    slope = -p * mass
            elif method == SOFT:
                left = first[i] * (1.0 - share_soon)
                soft[i] = 1.0 if soon[i] > 0.0 else left / (1.0 - first[i] + left)
                mass, slope = 1.0, soft[i] - p
        elif method == WINDOW:
            mass, slope = 1.0, outcome[i] - p
        elif method == SOFT and outcome[i] == 0.0:
            slope = -soft[i]
        if slope != 0.0:
            bend = p * (1.0 - p)
            for column in range(k):
                at = features[i, column]
                part = 1.0 / (1.0 + bend * (spread - inverse[column]))
                precision[at] += part * bend * mass
                total[at] += part * (bend * mass * weight[column] + slope)
    return said
