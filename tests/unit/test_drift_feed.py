"""What of drift reaches the metrics, and how often."""

from __future__ import annotations

import numpy as np

from monitoring.drift import DriftMonitor
from monitoring.drift_feed import SEGMENT_SERIES, DriftFeed
from monitoring.metrics import Metrics
from monitoring.signals import DriftRules, SignalGroup, coverage_of

VOTES = SignalGroup("lf_votes", ("viewed",), ("no", "yes"))
RULES = DriftRules(first_reference=2048, reference_values=8192)


def fed(monitor: DriftMonitor, codes: np.ndarray) -> None:
    monitor.update("lf_votes", codes.astype(np.int8)[:, None], np.zeros(len(codes)) + 5.0)


def changed(seed: int = 0, *, keep_blocks: bool = False) -> DriftMonitor:
    monitor = DriftMonitor([VOTES, coverage_of(VOTES)], RULES, keep_blocks=keep_blocks)
    rng = np.random.default_rng(seed)
    fed(monitor, rng.random(20_000) < 0.2)
    fed(monitor, rng.random(10_000) < 0.8)
    return monitor


def test_a_detection_is_counted_once() -> None:
    metrics = Metrics(process=False)
    drift, monitor = DriftFeed(metrics), DriftMonitor([VOTES], RULES)
    drift.begin(0, monitor)
    labels = ("lf_votes/viewed", "zscore")
    assert b'drift_detections_total{detector="zscore",signal="lf_votes/viewed"} 0.0' in (
        metrics.render()
    )
    rng = np.random.default_rng(0)
    fed(monitor, rng.random(20_000) < 0.2)
    drift.update(0, monitor)
    assert metrics.value("drift_detections_total", labels) == 0.0
    fed(monitor, rng.random(10_000) < 0.8)
    for _ in range(3):
        drift.update(0, monitor)
    assert metrics.value("drift_detections_total", labels) == 1.0
    assert metrics.value("drift_zscore", ("lf_votes/viewed",)) > 6.0
    for measure in ("psi", "js"):
        series = ("lf_votes/viewed", measure)
        assert metrics.value("drift_score", series) > metrics.value("drift_noise_floor", series)
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 8192
    assert metrics.value("drift_reference_timestamp_seconds", ("lf_votes/viewed",)) == 5.0


def test_detections_of_before_a_restart_are_not_counted_again() -> None:
    metrics = Metrics(process=False)
    drift, monitor = DriftFeed(metrics), changed()
    drift.begin(0, monitor)
    drift.update(0, monitor)
    assert metrics.value("drift_detections_total", ("lf_votes/viewed", "zscore")) == 0.0


def test_partitions_share_the_gauges_and_a_moved_one_leaves() -> None:
    metrics = Metrics(process=False)
    drift = DriftFeed(metrics)
    for partition in range(2):
        drift.begin(partition, changed(partition))
        drift.update(partition, changed(partition))
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 2 * 8192
    drift.end(1)
    drift.update(0, changed())
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 8192


def test_adwin_looks_on() -> None:
    metrics = Metrics(process=False)
    drift = DriftFeed(metrics)
    monitor = DriftMonitor([VOTES], RULES, keep_blocks=True)
    drift.begin(0, monitor)
    rng = np.random.default_rng(0)
    fed(monitor, rng.random(20_000) < 0.2)
    fed(monitor, rng.random(10_000) < 0.8)
    drift.update(0, monitor)
    assert metrics.value("drift_detections_total", ("lf_votes/viewed", "adwin")) >= 1.0


def test_the_number_of_series_is_bounded() -> None:
    names = tuple(f"lf{at}" for at in range(50))
    votes = SignalGroup("lf_votes", names, ("no", "yes"), by_segment=True)
    monitor = DriftMonitor([votes, coverage_of(votes)], RULES, tuple(f"s{at}" for at in range(20)))
    metrics = Metrics(process=False)
    drift = DriftFeed(metrics)
    drift.begin(0, monitor)
    drift.update(0, monitor)
    lines = [line for line in metrics.render().decode().splitlines() if "_drift_" in line]
    series = [line for line in lines if not line.startswith("#")]
    assert sum("drift_zscore" in line for line in series) == 100 + SEGMENT_SERIES
    assert len(series) < 750
