"""How much of the harm done by late outcomes each method undoes, and at what cost.

Run ``python -m bench.delay``. The worlds are specified in `bench.delay_worlds`. For each, over
three seeds: the share of the log-loss gap between waiting for the whole window and knowing every
outcome at once that a method closes, over the whole stream and in the week after half of the
items changed; and its calibration, predicted over true. Both are scored once the first window is
over: before, whoever waits has learned nothing, and the gap would measure the prior. The share
with that first week is shown too. Exit 1 if the reward heads do not reach what is required.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.delay_methods import FNC, METHODS, ORACLE, WINDOW, Prediction, matured, peer
from bench.delay_worlds import HOUR_S, WORLDS, Stream, World, stream
from models.rewards import HeadConfig

__all__ = ["judge"]

_CALIBRATION: Final = (0.98, 1.02)
_OURS: Final = "reward head: negatives mature along the curve"


def log_loss(chance: NDArray[np.float64], outcome: NDArray[np.bool_]) -> NDArray[np.float64]:
    p = np.clip(chance, 1e-9, 1.0 - 1e-9)
    return np.asarray(-np.where(outcome, np.log(p), np.log1p(-p)))


def losses(found: Prediction, of: Stream) -> NDArray[np.float64]:
    """Return log-loss after the first window, after the shift, of all; and calibration, (4,)."""
    loss = log_loss(found.chance, of.outcome)
    scored = of.ts >= of.world.window_h * HOUR_S
    return np.array(
        [
            loss[scored].mean(),
            loss[of.week_after()].mean(),
            loss.mean(),
            found.chance[scored].mean() / of.outcome[scored].mean(),
        ]
    )


def judge(world: World, seeds: int, methods: tuple[int, ...]) -> bool:
    """Print a world's table; return whether the reward heads do what is required."""
    config = HeadConfig(window_s=world.window_h * 3600.0)
    names = [_OURS, *(METHODS[method] for method in methods)]
    found = np.empty((len(names), seeds, 4))
    microseconds = []
    for seed in range(seeds):
        of = stream(world, seed)
        ours = matured(of, config)
        microseconds.append(ours.seconds / len(of.ts) * 1e6)
        found[0, seed] = losses(ours, of)
        for place, method in enumerate(methods, start=1):
            found[place, seed] = losses(peer(of, method, config), of)
    oracle = found[1 + methods.index(ORACLE)]
    window = found[1 + methods.index(WINDOW)]
    gap = (window - found)[..., :3] / (window - oracle)[..., :3]
    print(f"\n{world.name}: {world.exposures:,} exposures, {seeds} seeds")
    print(f"  log-loss: window {window[:, 0].mean():.5f}, oracle {oracle[:, 0].mean():.5f}")
    print(f"  {'share of the gap closed, %':48s} {'overall':>7} (each seed)           ", end="")
    print("week after  with first window  calibration")
    for place, name in enumerate(names):
        overall, after, whole = (100 * gap[place, :, part] for part in range(3))
        each = " ".join(f"{share:.1f}" for share in overall)
        print(
            f"  {name:48s} {overall.mean():7.1f} {f'({each})':22s} {after.mean():10.1f} "
            f"{whole.mean():18.1f} {found[place, :, 3].mean():12.3f}"
        )
    ratio = found[0, :, 3]
    fine = bool(
        gap[0, :, 0].mean() >= world.required
        and _CALIBRATION[0] <= ratio.min()
        and ratio.max() <= _CALIBRATION[1]
    )
    print(
        f"  required: {100 * world.required:.0f} % of the gap, calibration at every seed "
        f"{_CALIBRATION[0]} to {_CALIBRATION[1]}: {'reached' if fine else 'MISSED'}; "
        f"{min(microseconds):.2f} µs an exposure, outcomes included"
    )
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    methods = (ORACLE, WINDOW, *(m for m in range(FNC + 3) if m not in (ORACLE, WINDOW)))
    return 0 if all([judge(world, seeds, methods) for world in WORLDS]) else 1


if __name__ == "__main__":
    sys.exit(main())
