"""What of drift reaches the metrics, and how often."""

from __future__ import annotations

import re

import numpy as np
import pytest
from river.drift import ADWIN

from monitoring.drift_feed import SEGMENT_SERIES, DriftFeed
from monitoring.metrics import Metrics
from monitoring.pipeline_drift import PipelineDrift, WatchedTask, drift_report
from monitoring.signals import WIDE_BLOCK, DriftRules
from monitoring.sparse_votes import sparse_votes

RULES = DriftRules(first_reference=2048, reference_values=8192)
RELEVANCE = {"relevance": WatchedTask(("no", "yes"), ("viewed", "bought"), (1, 1))}


def fed(drift: PipelineDrift, share: float, n: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    votes = (rng.random((n, 2)) < share).astype(np.int8)
    proba = np.full((n, 2), 0.3)
    proba[:, 1] = 0.7
    drift.labelled(
        "relevance", sparse_votes(votes), proba, np.full(n, 5.0), drift.segment_codes([None] * n)
    )


def made(*, keep_blocks: bool = False) -> PipelineDrift:
    return PipelineDrift(RELEVANCE, ["click"], ["dwell_s"], RULES, keep_blocks=keep_blocks)


def changed(seed: int = 0) -> PipelineDrift:
    drift = made()
    fed(drift, 0.2, 20_000, seed)
    fed(drift, 0.8, 10_000, seed)
    return drift


def test_a_detection_is_counted_once() -> None:
    metrics = Metrics(process=False)
    feed, drift = DriftFeed(metrics), made()
    feed.begin(0, drift)
    labels = ("lf_votes/viewed", "zscore")
    assert b'drift_detections_total{detector="zscore",signal="lf_votes/viewed"} 0\n' in (
        metrics.render()
    )
    fed(drift, 0.2, 20_000)
    feed.put(0, drift)
    feed.export()
    assert metrics.value("drift_detections_total", labels) == 0.0
    fed(drift, 0.8, 10_000)
    for _ in range(3):
        feed.put(0, drift)
    feed.export()
    assert metrics.value("drift_detections_total", labels) == 1.0
    assert metrics.value("drift_zscore", ("lf_votes/viewed",)) > 6.0
    series = ("lf_votes/viewed", "psi")
    assert metrics.value("drift_score", series) > metrics.value("drift_noise_floor", series)
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 8192
    assert metrics.value("drift_reference_timestamp_seconds", ("lf_votes/viewed",)) == 5.0


def test_pairs_and_estimated_accuracy_are_shown() -> None:
    metrics = Metrics(process=False)
    feed, drift = DriftFeed(metrics), made()
    fed(drift, 0.5, 2_000)
    feed.put(0, drift)
    feed.export()
    assert metrics.value("lf_pair_conflict_ratio", ("viewed", "bought")) == pytest.approx(0.5, 0.1)
    assert metrics.value("estimated_accuracy_ratio", ("relevance",)) == pytest.approx(0.7)


def test_segments_of_every_task_are_shown_and_the_furthest_out_first() -> None:
    tasks = {
        name: WatchedTask(("no", "yes"), tuple(f"{name}_{n}" for n in range(15)), (1,) * 15)
        for name in ("first", "second")
    }
    metrics, drift = Metrics(process=False), PipelineDrift(tasks, ["click"], [], RULES, ["mobile"])
    n = 400
    codes = drift.segment_codes(["mobile", None] * (n // 2))
    for gap, task in ((0, "first"), (1, "second")):
        votes = np.full((n, 15), -1, dtype=np.int8)
        for column in range(15):
            # The later the function and the task, the fewer vote elsewhere.
            votes[::2, column] = 0
            votes[1 :: 2 * (1 + 2 * column + gap), column] = 0
        drift.labelled(task, sparse_votes(votes), np.full((n, 2), 0.5), np.arange(float(n)), codes)
    feed = DriftFeed(metrics)
    feed.put(0, drift)
    feed.export()
    page = metrics.render()
    shown = re.findall(rb'headrace_segment_lf_coverage_ratio\{lf="(\w+)_(\d+)",', page)
    assert len(shown) == 20
    assert {task for task, _ in shown} == {b"first", b"second"}
    assert min(int(number) for _, number in shown) >= 8


def test_where_there_is_no_room_for_all_it_is_functions_that_are_left_out() -> None:
    functions = tuple(f"f{at}" for at in range(300))
    drift = PipelineDrift(
        {"relevance": WatchedTask(("no", "yes"), functions, (1,) * 300)}, ["click"], ["dwell_s"]
    )
    metrics = Metrics(process=False)
    feed = DriftFeed(metrics)
    feed.put(0, drift)
    feed.export()
    shown = re.findall(r'headrace_drift_zscore\{signal="([^"]+)"\}', metrics.render().decode())
    assert len(shown) == 512
    assert {"labels:relevance/class", "features/dwell_s", "rewards/weight"} <= set(shown)
    assert metrics.value("metrics_overflow_total", ("drift_zscore",)) > 0


def test_detections_of_before_a_restart_are_not_counted_again() -> None:
    metrics = Metrics(process=False)
    feed, drift = DriftFeed(metrics), made()
    drift.load(changed().to_bytes())
    assert [found["signal"] for found in drift_report([drift])]
    feed.begin(0, drift)
    feed.put(0, drift)
    feed.export()
    assert metrics.value("drift_detections_total", ("lf_votes/viewed", "zscore")) == 0.0


def test_partitions_share_the_gauges_and_a_moved_one_leaves() -> None:
    metrics = Metrics(process=False)
    feed, parts = DriftFeed(metrics), [changed(0), changed(1)]
    for partition, drift in enumerate(parts):
        feed.begin(partition, drift)
        feed.put(partition, drift)
        feed.export()
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 2 * 8192
    feed.end(1)
    feed.put(0, parts[0])
    feed.export()
    assert metrics.value("drift_reference_samples", ("lf_votes/viewed",)) == 8192


def test_adwin_looks_on() -> None:
    metrics = Metrics(process=False)
    feed, drift = DriftFeed(metrics, adwin=ADWIN), made(keep_blocks=True)
    feed.begin(0, drift)
    fed(drift, 0.2, 20_000)
    fed(drift, 0.8, 10_000)
    feed.put(0, drift)
    feed.export()
    assert metrics.value("drift_detections_total", ("lf_votes/viewed", "adwin")) >= 1.0


def test_the_number_of_series_is_bounded() -> None:
    names = tuple(f"lf{at}" for at in range(50))
    tasks = {"relevance": WatchedTask(("no", "yes"), names, (1,) * 50)}
    columns = [f"column{at}" for at in range(28)]
    segments = [f"s{at}" for at in range(1000)]
    drift = PipelineDrift(tasks, ["click"], columns, RULES, segments)
    metrics = Metrics(process=False)
    feed = DriftFeed(metrics)
    feed.begin(0, drift)
    feed.put(0, drift)
    feed.export()
    lines = [line for line in metrics.render().decode().splitlines() if "_drift_" in line]
    series = [line for line in lines if not line.startswith("#")]
    overall = sum(drift.monitor.overall)
    assert sum("drift_zscore" in line for line in series) == overall + SEGMENT_SERIES
    assert len(series) < 800


def test_many_classes_are_watched_as_far_as_there_are_categories() -> None:
    classes = tuple(f"class{at}" for at in range(100))
    drift = PipelineDrift({"kind": WatchedTask(classes, ("f",), (1,))}, ["click"], [])
    votes = np.arange(100, dtype=np.int8)[:, None]
    drift.labelled(
        "kind", sparse_votes(votes), np.eye(100), np.zeros(100), drift.segment_codes([None] * 100)
    )
    group = drift.monitor.groups["labels:kind"]
    assert group.categories[-2:] == ("class62", "other classes")


def test_a_task_without_functions_is_watched_all_the_same() -> None:
    drift = PipelineDrift({"kind": WatchedTask(("a", "b"), (), ())}, ["click"], [])
    votes, proba = np.empty((40, 0), dtype=np.int8), np.tile([0.3, 0.7], (40, 1))
    drift.labelled(
        "kind", sparse_votes(votes), proba, np.zeros(40), drift.segment_codes([None] * 40)
    )
    seen = dict(zip(drift.monitor.signals, drift.monitor.state.seen.tolist(), strict=True))
    assert seen["labels:kind/class"] == 1


def test_rows_that_wait_change_nothing() -> None:
    once, often = made(), made()
    fed(once, 0.3, 3_000)
    rng = np.random.default_rng(0)
    votes = (rng.random((3_000, 2)) < 0.3).astype(np.int8)
    proba = np.tile([0.3, 0.7], (3_000, 1))
    for at in range(0, 3_000, 7):
        rows = slice(at, at + 7)
        n = len(votes[rows])
        segments = often.segment_codes([None] * n)
        often.labelled(
            "relevance", sparse_votes(votes[rows]), proba[rows], np.full(n, 5.0), segments
        )
        if at % 70 == 0:
            assert often.monitor.signals
    assert often.to_bytes() == once.to_bytes()


def test_every_stage_fills_its_signals_and_bytes_carry_all_of_it() -> None:
    drift = PipelineDrift(RELEVANCE, ["click"], ["dwell_s", "last_ts"], RULES, ["mobile"])
    n = WIDE_BLOCK
    segments = drift.segment_codes(["mobile", None] * (n // 2))
    ts = np.arange(n, dtype=np.float64)
    proba = np.tile([0.4, 0.6], (n, 1))
    drift.labelled("relevance", sparse_votes(np.ones((n, 2), dtype=np.int8)), proba, ts, segments)
    drift.evidence(np.full((n, 2), 3.0), np.arange(n), ts)
    drift.events(["click", "no such type"] * (n // 2), ts)
    drift.engaged(np.arange(n), np.full(n, 0.1), np.full(n, 0.8), ts, segments)
    for _ in range(n):
        drift.answered("relevance", proba[0], 1, 3.0)
    seen = dict(zip(drift.monitor.signals, drift.monitor.state.seen.tolist(), strict=True))
    assert {name for name, blocks in seen.items() if blocks == 0} == set()
    assert "features/dwell_s" in seen
    assert "features/last_ts" not in seen
    again = PipelineDrift(RELEVANCE, ["click"], ["dwell_s", "last_ts"], RULES, ["mobile"])
    again.load(drift.to_bytes())
    assert again.to_bytes() == drift.to_bytes()
    with pytest.raises(ValueError, match="no state of drift"):
        again.load(b"\xc1")
