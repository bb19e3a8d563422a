"""How soon a change is seen, and how often none is, beside the usual detectors.

Run ``python -m bench.drift`` (10⁷ votes without change) or ``--full`` (10⁹). Votes come in sessions
of 20 on average whose votes resemble each other (`bench.drift_streams`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from math import erfc, sqrt
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from bench.drift_streams import session_votes
from monitoring.drift import DriftMonitor
from monitoring.drift_budget import DriftBudget, false_alarms, threshold
from monitoring.lf_pairs import LfPairs
from monitoring.signals import DriftRules, SignalGroup, coverage_of, numbers
from monitoring.sparse_votes import sparse_votes

_CHUNK: Final = 1_000_000
_LEVELS: Final = (3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
_SHARE: Final = 0.2
_BINARY: Final = ("no", "yes")


class World(NamedTuple):
    """How votes of one session resemble each other, and how many sessions there are at a time."""

    name: str
    likeness: float
    concurrent: int


WORLDS: Final = (
    World("sessions, one after the other", 0.066, 1),
    World("50 sessions at a time", 0.066, 50),
    World("sessions much more alike", 0.2, 1),
    World("independent votes", 0.0, 1),
)


def _streams(
    world: World, each: int, streams: int, columns: int, seed: int
) -> Iterator[tuple[int, int, NDArray[np.int8]]]:
    """Yield chunks of streams without change, the same votes in every column."""
    for stream in range(streams):
        for start in range(0, each, _CHUNK):
            votes = session_votes(
                min(_CHUNK, each - start),
                _SHARE,
                likeness=world.likeness,
                concurrent=world.concurrent,
                seed=seed + stream * 1_000_003 + start,
            )
            yield stream, start, np.repeat(votes[:, None], columns, axis=1)


def calm(world: World, votes: int, streams: int, seed: int = 0) -> None:
    """Print detections without any change, at the budget's threshold and below it.

    The lower thresholds, which show the tail, only count once the reference is complete: a
    detection would end its growth. The budget's counts from the first value on.
    """
    rules = DriftRules()
    budgeted = threshold(rules.budget, rules.half_lives)
    limits = np.array((*_LEVELS, budgeted))
    group = SignalGroup("votes", tuple(f"z > {z:.2f}" for z in limits), _BINARY)
    found = np.zeros(len(limits), dtype=np.int64)
    seconds, each, monitor = 0.0, votes // streams, DriftMonitor([group], rules)
    for _, start, codes in _streams(world, each, streams, len(limits), seed):
        if start == 0:
            found += monitor.state.detected
            monitor = DriftMonitor([group], rules)
            monitor.layout.thresholds[:-1] = np.inf
        elif start == _CHUNK:
            monitor.layout.thresholds[:] = limits
        began = time.process_time()
        monitor.update("votes", codes, np.zeros(len(codes)))
        seconds += time.process_time() - began
    found += monitor.state.detected
    judged = (each - _CHUNK) * streams
    print(f"\n{world.name}: {streams * each:.3g} votes without change, {streams} references")
    print(f"  {'z >':>6} {'false alarms':>13} {'a 1e8 votes':>12} {'model':>9} {'ratio':>7}")
    for z, n in zip(limits.tolist(), found.tolist(), strict=True):
        model = sum(false_alarms(z, half) for half in rules.half_lives)
        rate = n / judged
        print(f"  {z:6.2f} {n:13d} {rate * 1e8:12.4g} {model * 1e8:9.3g} {rate / model:7.2f}")
    months = rules.budget.values_per_day * rules.budget.days
    _tail(limits, found, judged, budgeted, months)
    print(f"  {seconds / (each * streams * len(limits)) * 1e9:.0f} ns a vote")


def growing(world: World, streams: int, seed: int = 50_000) -> None:
    """Print how many streams without change are told changed before their reference is complete."""
    rules = DriftRules()
    limits = np.array((4.5, 5.0, 5.5, 6.0, threshold(rules.budget, rules.half_lives)))
    group = SignalGroup("votes", tuple(f"z > {z:.2f}" for z in limits), _BINARY)
    found, monitor = np.zeros(len(limits), dtype=np.int64), DriftMonitor([group], rules)
    each = rules.reference_values
    for _, start, codes in _streams(world, each, streams, len(limits), seed):
        if start == 0:
            found += monitor.state.detected > 0
            monitor = DriftMonitor([group], rules)
            monitor.layout.thresholds[:] = limits
        monitor.update("votes", codes, np.zeros(len(codes)))
    found += monitor.state.detected > 0
    print(f"\n{world.name}: {streams} references while they grow, {streams * each:.3g} votes")
    for z, n in zip(limits.tolist(), found.tolist(), strict=True):
        model = sum(false_alarms(z, half) for half in rules.half_lives) * streams * each
        print(f"  z > {z:.2f}: {n} told changed, by the model {model:.3g}")


def _tail(
    limits: NDArray[np.float64],
    found: NDArray[np.int64],
    judged: int,
    budgeted: float,
    votes: float,
) -> None:
    """Print what the measured tail says of the budgeted threshold."""
    enough = found >= 10
    if enough.sum() < 3:
        return
    # log(rate / z) is linear in z² for a normal tail: the slope and the height are measured.
    x, y = limits[enough] ** 2, np.log(found[enough] / judged / limits[enough])
    slope, height = np.polyfit(x, y, 1, w=np.sqrt(found[enough]))
    pages = float(np.exp(height + slope * budgeted**2)) * budgeted * votes
    print(
        f"  measured tail: exp({slope:.3f}·z²), a normal one is exp(-0.500·z²); extended to "
        f"z > {budgeted:.2f}: {pages:.2g} false pages in 30 days"
    )


# --- delays -------------------------------------------------------------------------------------


class _Detector(Protocol):
    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


Alarm = Callable[[NDArray[np.int8], int], tuple[int, int | None]]
"""Takes votes and where they change; gives false alarms before, and the delay after (or None)."""


def headrace(rules: DriftRules, limit: float | None = None) -> Alarm:
    """Return this project's detector, at its budgeted threshold unless another is given."""

    def run(votes: NDArray[np.int8], change: int) -> tuple[int, int | None]:
        monitor = DriftMonitor([SignalGroup("votes", ("lf",), _BINARY)], rules)
        if limit is not None:
            monitor.layout.thresholds[:] = limit
        monitor.update("votes", votes[:, None], np.arange(len(votes), dtype=np.float64))
        at = [int(found.ts) for found in monitor.detections]
        return _judged(at, change)

    return run


def one_by_one(make: Callable[[], _Detector]) -> Alarm:
    """Return one of river's detectors; it sees the last 100,000 votes before the change."""

    def run(votes: NDArray[np.int8], change: int) -> tuple[int, int | None]:
        detector = make()
        start = max(0, change - 100_000)
        at = []
        update = detector.update
        for position, vote in enumerate(votes[start:].tolist(), start):
            update(vote)
            if detector.drift_detected:
                at.append(position)
                if position >= change:
                    break
        return _judged(at, change)

    return run


def chi_square(window: int = 1000) -> Alarm:
    """Return Evidently's default for a binary column of up to 1,000 rows, re-stated.

    A z test of two proportions in each window of rows against a reference of as many; p < 0.05 is
    drift. Evidently 0.7.23 itself, which is no dependency of this project, gave the same verdict
    on each of 498 windows.
    """

    def run(votes: NDArray[np.int8], change: int) -> tuple[int, int | None]:
        start = change - 100 * window
        before = float(votes[start - window : start].mean())
        at = []
        for begin in range(start, len(votes) - window, window):
            now = float(votes[begin : begin + window].mean())
            pooled = (before + now) / 2.0
            z = abs(now - before) / sqrt(2.0 * pooled * (1.0 - pooled) / window)
            if erfc(z / sqrt(2.0)) < 0.05:
                at.append(begin + window - 1)
                if begin >= change:
                    break
        return _judged(at, change)

    return run


def always(votes: NDArray[np.int8], change: int) -> tuple[int, int | None]:
    """Fire at every vote."""
    return min(change, 100_000), 1


def never(votes: NDArray[np.int8], change: int) -> tuple[int, int | None]:
    """Fire at none."""
    return 0, None


def _judged(at: list[int], change: int) -> tuple[int, int | None]:
    false = sum(change - 100_000 <= position < change for position in at)
    later = [position - change + 1 for position in at if position >= change]
    return false, later[0] if later else None


def delays(runs: int, peers: int) -> None:
    """Print delays of a change, and false alarms before it, for every detector."""
    rules = DriftRules()
    limit = threshold(rules.budget, rules.half_lives)
    pages = rules.budget.false_pages
    print(
        f"\ndelay in votes after a change; budget: {pages:g} false page in {rules.budget.days:g} "
        f"days at {rules.budget.values_per_day:.3g} votes a day, so z > {limit:.2f}"
    )
    rows: list[tuple[str, Alarm, int]] = [
        (f"headrace, z > {limit:.2f}", headrace(rules), runs),
        ("headrace, z > 6, one half-life", headrace(DriftRules((1000.0,)), 6.0), runs),
        ("headrace, first reference only", headrace(DriftRules(reference_values=8192)), runs),
        ("river ADWIN", one_by_one(ADWIN), peers),
        ("river Page-Hinkley", one_by_one(PageHinkley), peers),
        ("Evidently's default, re-stated", chi_square(), peers),
        ("always fire", always, 1),
        ("never fire", never, 1),
    ]
    print(f"  {'':<32}{'false/100k':>11}" + "".join(
        f"{f'.2 > {after:g}: p50':>15}{'p90':>8}{'seen':>7}" for after in (0.3, 0.4)))  # fmt: skip
    change = rules.reference_values + 150_000
    for name, alarm, n in rows:
        line, false, total = "", 0, 0
        for after in (0.3, 0.4):
            waits: list[float] = []
            for run in range(n):
                votes = session_votes(change + 40_000, _SHARE, after, change=change, seed=run)
                before, wait = alarm(votes, change)
                false, total = false + before, total + 1
                waits.append(np.inf if wait is None else wait)
            p50, p90 = np.quantile(waits, (0.5, 0.9), method="higher")
            seen = float(np.isfinite(waits).mean())
            line += f"{p50:>15.0f}{p90:>8.0f}{seen:>7.0%}"
        print(f"  {name:<32}{false / total:>11.4g}{line}", flush=True)


# --- cost ---------------------------------------------------------------------------------------


def _rows(n: int, seed: int = 0) -> Iterator[tuple[str, NDArray[np.float64], int]]:
    rng = np.random.default_rng(seed)
    votes = np.where(rng.random((n, 50)) < 0.5, rng.integers(0, 2, (n, 50)), -1)
    yield "votes", votes.astype(np.float64), 50
    yield "evidence", rng.exponential(20.0, (n, 28)), 28


def cost(n: int = 40_000, batch: int = 500) -> None:
    """Print what a vote costs, with 50 functions, their coverage, pairs, and 28 columns."""
    (_, votes_, _), (_, evidence, columns) = _rows(n)
    votes = np.ascontiguousarray(votes_, dtype=np.int8)
    names = tuple(f"lf{at}" for at in range(50))
    group = SignalGroup("lf_votes", names, _BINARY)
    groups = [group, coverage_of(group), numbers("features", [f"c{at}" for at in range(columns)]),
              SignalGroup("labels", ("relevance",), _BINARY)]  # fmt: skip
    monitor, pairs = DriftMonitor(groups, DriftRules(first_reference=2048)), LfPairs(names)
    ts, cast = np.zeros(n), int((votes >= 0).sum())
    steps: dict[str, Callable[[slice], None]] = {
        "votes and coverage": lambda rows: monitor.update_votes(
            "lf_votes", sparse_votes(votes[rows]), ts[rows]
        ),
        "28 columns of evidence": lambda rows: monitor.update("features", evidence[rows], ts[rows]),
        "labels": lambda rows: monitor.update("labels", votes[rows, :1], ts[rows]),
        "pairs": lambda rows: pairs.update(votes[rows], votes[rows, 0]),
    }
    print(f"\ncost with 50 functions, half of them voting, batches of {batch}: {cast} votes")
    whole = 0.0
    for name, step in steps.items():
        best = np.inf
        step(slice(0, batch))
        for _ in range(5):
            began = time.process_time()
            for start in range(0, n, batch):
                step(slice(start, start + batch))
            best = min(best, time.process_time() - began)
        whole += best
        print(f"  {name:<26}{best / cast * 1e9:7.1f} ns a vote")
    print(f"  {'all':<26}{whole / cast * 1e9:7.1f} ns a vote")
    began = time.process_time()
    for _ in range(20):
        data = monitor.to_bytes()
    print(
        f"  state {len(data)} bytes, written in {(time.process_time() - began) / 20 * 1e3:.2f} ms"
    )


def thresholds() -> None:
    """Print the threshold for several volumes."""
    half_lives = DriftRules().half_lives
    print("threshold for 1 false page in 30 days, by votes a day")
    for values in (1e6, 1e8, 1.1e10):
        budget = DriftBudget(values_per_day=values)
        z = threshold(budget, half_lives)
        print(f"  {values:8.2g}: z > {z:.2f}   (normal tail probability {erfc(z / sqrt(2)):.1e})")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="10^9 votes without change, not 10^7")
    parser.add_argument("--runs", type=int, default=200, help="changes for each delay")
    parser.add_argument("--peers", type=int, default=20, help="the same for slow detectors")
    given = parser.parse_args()
    thresholds()
    cost()
    delays(given.runs, given.peers)
    votes = 1_000_000_000 if given.full else 10_000_000
    for world in WORLDS:
        share = votes if world is WORLDS[0] else votes // 10
        # Many references, since a bad one would be bad for long; none shorter than it needs.
        calm(world, max(share, 10_000_000), 40 if given.full else 5)
        growing(world, 200 if given.full else 20)


if __name__ == "__main__":
    main()
