"""Whether what another policy would have earned can be told from a log.

Run ``python -m bench.off_policy``. Real logs first: for each campaign of the Open Bandit files,
`bts` is evaluated from what `random` logged, with both models of its propensities, and compared
with the click ratio that `bts` itself logged. The claim, judged here (exit 1): with the harmonic
mean, the 95 % interval of SNIPS (and of IPS and DR) holds it for both campaigns. Then a simulated
world whose truth is known: how often intervals hold it, and how far off the estimates are.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.off_policy import (
    Logged,
    estimate,
    estimate_logged,
    marginal_propensities,
    support,
)
from stream.commands.policy_logs import Codes, read_logs

_RUNS = 400


def shared_data() -> Path:
    root = os.environ.get("HEADRACE_SHARED_DATA")
    return Path(root) if root else Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


def campaign(folder: Path, name: str) -> tuple[Logged, Logged, tuple[int, int]]:
    """Return what `random` and `bts` logged, and the numbers of items and positions."""
    files = [folder / f"{policy}-{name}.events.ndjson.gz" for policy in ("random", "bts")]
    found = read_logs(files, {"click"}, values=False)
    items, positions = Codes(), Codes()
    random, bts = (
        found[policy].columns(items, positions, by_user=False, skip_missing=False)
        for policy in ("random", "bts")
    )
    return random, bts, (len(items.of), len(positions.of))


def real() -> bool:
    """Print the estimates for both campaigns; return whether the claim holds."""
    folder = shared_data() / "bandit"
    if not folder.is_dir():
        print("the bandit files are not there: the real logs are skipped")
        return True
    fine = True
    for name in ("men", "women"):
        random, bts, shape = campaign(folder, name)
        truth = estimate_logged(bts)
        print(
            f"\n{name}: random logged {random.reward.mean():.5f} a row, bts {truth.value:.5f} "
            f"({truth.low:.5f} to {truth.high:.5f})"
        )
        for mean in ("harmonic", "arithmetic"):
            target = marginal_propensities(bts, shape, mean)
            covered = support(random, target)
            print(f"  propensity model: {mean} mean per item and position", end="; ")
            print(f"mean weight {covered.mean:.3f}, worth {covered.effective:,.0f} rows")
            for one in estimate(random, target):
                held = one.holds(truth.value)
                fine = fine and (held or mean == "arithmetic")
                print(
                    f"    {one.estimator:6s} {one.value:.5f} ({one.low:.5f} to {one.high:.5f}) "
                    f"{'holds it' if held else 'MISSES IT'}"
                )
    return fine


def world(seed: int, n: int = 10_000, items: int = 30) -> tuple[Logged, Logged, float]:
    """Return logs of a uniform and of a contextual policy, and the latter's true value.

    The contextual one prefers other items in each of twenty contexts, of which the log is silent;
    reward depends on the item only.
    """
    rng = np.random.default_rng(seed)
    worth = rng.beta(2, 60, items)
    taste = rng.gumbel(size=(20, items)) + 30.0 * worth
    policy = np.exp(taste) / np.exp(taste).sum(axis=1, keepdims=True)
    truth = float((policy.mean(axis=0) * worth).sum())

    def logged(chances: NDArray[np.float64]) -> Logged:
        context = rng.integers(0, 20, n)
        steps = np.cumsum(chances, axis=1)[context]
        action = np.minimum((rng.random(n)[:, None] > steps).sum(axis=1), items - 1)
        return Logged(
            action,
            np.zeros(n, dtype=np.int64),
            chances[context, action],
            (rng.random(n) < worth[action]).astype(np.float64),
            np.arange(n),
        )

    return logged(np.full((20, items), 1.0 / items)), logged(policy), truth


def simulated() -> None:
    """Print coverage and error over many worlds."""
    print(
        f"\nsimulated, {_RUNS} worlds of 10,000 rows: how often the 95 % interval holds the truth"
    )
    held: dict[tuple[str, str, str], list[bool]] = {}
    error: dict[tuple[str, str, str], list[float]] = {}
    for seed in range(_RUNS):
        random, contextual, truth = world(seed)
        for mean in ("harmonic", "arithmetic"):
            target = marginal_propensities(contextual, (30, 1), mean)
            for interval in ("normal", "bernstein"):
                for one in estimate(random, target, interval=interval):
                    key = (mean, interval, one.estimator)
                    held.setdefault(key, []).append(one.holds(truth))
                    error.setdefault(key, []).append(one.value / truth - 1.0)
    for key, flags in held.items():
        off = np.array(error[key])
        print(
            f"  {key[0]:10s} {key[1]:9s} {key[2]:6s} held {100 * np.mean(flags):5.1f} %   "
            f"bias {100 * off.mean():+6.1f} %   spread {100 * off.std():5.1f} %"
        )


def main() -> int:
    """Print both; return 1 where the claim does not hold."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    fine = real()
    simulated()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
