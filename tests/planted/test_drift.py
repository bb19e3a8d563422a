"""Drift detection finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import numpy as np
import pytest
from river.drift import ADWIN

from bench.drift import one_by_one
from bench.drift_streams import session_votes
from monitoring.drift import DriftMonitor
from monitoring.drift_budget import DriftBudget, false_alarms, threshold
from monitoring.drift_view import DriftView, contribution
from monitoring.signals import DriftRules, SignalGroup, coverage_of, numbers
from monitoring.sparse_votes import sparse_votes

BINARY = ("no", "yes")
ONE = SignalGroup("votes", ("lf",), BINARY)


def watch(votes: np.ndarray, rules: DriftRules | None = None) -> DriftMonitor:
    monitor = DriftMonitor([ONE], rules)
    monitor.update("votes", votes[:, None], np.arange(len(votes), dtype=np.float64))
    return monitor


@pytest.mark.parametrize(
    ("likeness", "concurrent", "streams"),
    [(0.066, 1, 12), (0.066, 50, 3), (0.2, 1, 3), (0.0, 1, 3)],
)
def test_no_false_page_without_change(likeness: float, concurrent: int, streams: int) -> None:
    # Ten million votes of the sessions that delays are measured on; most of them meet a reference
    # that is still growing.
    found = 0
    for seed in range(streams):
        votes = session_votes(840_000, 0.2, likeness=likeness, concurrent=concurrent, seed=seed)
        found += int(watch(votes).state.detected.sum())
    assert found == 0


def test_the_tail_is_the_model_s() -> None:
    # At a z that is crossed often enough to be counted.
    rules = DriftRules()
    crossed, votes = 0, 0
    for seed in range(8):
        monitor = DriftMonitor([ONE], rules)
        monitor.layout.thresholds[:] = 3.5
        made = session_votes(1_000_000, 0.2, seed=seed)
        monitor.update("votes", made[:, None], np.zeros(len(made)))
        crossed += int(monitor.state.detected.sum())
        votes += len(made)
    expected = votes * sum(false_alarms(3.5, half) for half in rules.half_lives)
    assert expected / rules.budget.safety < crossed < expected * rules.budget.safety


@pytest.mark.parametrize(("after", "limit"), [(0.3, 6000.0), (0.4, 2000.0)])
def test_a_change_is_seen_in_time_at_the_budgeted_threshold(after: float, limit: float) -> None:
    rules = DriftRules()
    change = rules.reference_values + 20_000
    waits = []
    for seed in range(100):
        votes = session_votes(change + 20_000, 0.2, after, change=change, seed=seed)
        found = [at.ts for at in watch(votes, rules).detections]
        assert all(ts >= change for ts in found)
        waits.append(found[0] - change if found else np.inf)
    assert np.quantile(waits, 0.9) <= limit


def test_adwin_fires_without_any_change_where_this_does_not() -> None:
    votes = session_votes(100_000, 0.2, seed=1)
    fired, _ = one_by_one(ADWIN)(votes, len(votes))
    assert fired > 5
    assert watch(votes).detections == []


def test_the_design_effect_of_sessions_is_found() -> None:
    votes = session_votes(524_288, 0.2, likeness=0.066)
    (reference,) = watch(votes).references()
    assert reference.shares[1] == pytest.approx(0.2, abs=0.01)
    assert reference.design_effects[1] == pytest.approx(1 + 38 * 0.066, rel=0.25)


def test_psi_lies_at_its_floor_without_change_and_far_above_it_after_one() -> None:
    ratios, jensen = [], []
    for seed in range(40):
        monitor = watch(session_votes(300_000, 0.2, seed=seed))
        now = DriftView({0: contribution(monitor)}).readings(monitor.signals)
        ratios.append(now.psi[0] / now.psi_floor[0])
        jensen.append(now.js[0] / now.js_floor[0])
    assert 0.6 < float(np.mean(ratios)) < 1.5
    assert 0.6 < float(np.mean(jensen)) < 1.5
    monitor = watch(session_votes(300_000, 0.2, 0.4, change=290_000))
    now = DriftView({0: contribution(monitor)}).readings(monitor.signals)
    assert now.psi[0] > 20 * now.psi_floor[0]
    assert now.firing[0] == 1


def test_partitions_together_see_what_none_sees_alone() -> None:
    view = DriftView()
    signals: list[str] = []
    for partition in range(16):
        votes = session_votes(600_000, 0.2, 0.235, change=590_000, seed=partition)
        monitor = watch(votes)
        view.put(partition, contribution(monitor))
        signals = monitor.signals
    alone = [DriftView({number: part}).readings(signals).z[0] for number, part in view.items()]
    together = view.readings(signals)
    assert abs(together.z[0]) > max(map(abs, alone))
    assert together.firing[0] == 1
    assert together.samples[0] == 16 * 524_288


def test_a_collapsed_coverage_and_a_shifted_number_are_seen() -> None:
    votes = SignalGroup("lf_votes", ("lf",), BINARY)
    rules = DriftRules(reference_values=65_536, budget=DriftBudget(values_per_day=1e7))
    monitor = DriftMonitor([votes, coverage_of(votes), numbers("features", ["dwell_s"])], rules)
    rng = np.random.default_rng(0)
    for start, coverage, dwell in ((0, 0.5, 20.0), (200_000, 0.3, 60.0)):
        n = 200_000 if start == 0 else 20_000
        cast = np.where(rng.random((n, 1)) < coverage, rng.integers(0, 2, (n, 1)), -1)
        ts = np.arange(n, dtype=np.float64) + start
        monitor.update_votes("lf_votes", sparse_votes(cast.astype(np.int8)), ts)
        monitor.update("features", rng.exponential(dwell, (n, 1)), ts)
    found = {at.signal: at for at in monitor.detections}
    assert set(found) == {"lf_coverage/lf", "features/dwell_s"}
    assert found["lf_coverage/lf"].z < 0.0
    assert all(at.ts >= 200_000 for at in found.values())


def test_a_smaller_volume_buys_a_lower_threshold() -> None:
    half_lives = DriftRules().half_lives
    limits = [
        threshold(DriftBudget(values_per_day=values), half_lives) for values in (1e5, 1e7, 1.1e10)
    ]
    assert limits == sorted(limits)
    assert limits[-1] - limits[0] > 1.5
    months = DriftBudget().values_per_day * DriftBudget().days
    expected = months * sum(false_alarms(limits[-1], half) for half in half_lives)
    assert expected == pytest.approx(1.0 / DriftBudget().safety, rel=1e-3)
