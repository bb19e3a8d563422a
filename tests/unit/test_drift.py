"""Drift detection: what it keeps, what it takes over, and what it refuses."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import DriftMonitor
from monitoring.drift_kernels import BLOCK
from monitoring.references import references_from_bytes, references_to_bytes
from monitoring.segments import Segments
from monitoring.signals import WIDE_BLOCK, DriftRules, SignalGroup, coverage_of, numbers
from monitoring.sparse_votes import sparse_votes

RULES = DriftRules(first_reference=2048, reference_values=8192)
VOTES = SignalGroup("lf_votes", ("viewed", "bought"), ("no", "yes"), ("1", "1"), by_segment=True)
GROUPS = [VOTES, coverage_of(VOTES), numbers("features", ["dwell_s"]),
          SignalGroup("labels", ("relevance",), ("a", "b", "c"))]  # fmt: skip
N = 16_000


def made(rules: DriftRules = RULES) -> DriftMonitor:
    return DriftMonitor(GROUPS, rules, ("mobile",))


def fill(monitor: DriftMonitor, cuts: list[int], seed: int = 0, share: float = 0.2) -> None:
    rng = np.random.default_rng(seed)
    votes = (rng.random((N, 2)) < share).astype(np.int8)
    votes[rng.random((N, 2)) < 0.3] = -1
    late = rng.random((N, 2)) < 0.9
    votes[N // 2 :][late[N // 2 :]] = 1
    dwell = rng.exponential(30.0, (N, 1))
    labels = rng.integers(0, 3, (N, 1)).astype(np.int8)
    ts = np.arange(N) / 10.0
    segments = rng.integers(0, 2, N)
    edges = [0, *sorted(cuts), N]
    for start, stop in zip(edges, edges[1:], strict=False):
        rows = slice(start, stop)
        monitor.update_votes("lf_votes", sparse_votes(votes[rows]), ts[rows], segments[rows])
        monitor.update("features", dwell[rows], ts[rows])
        monitor.update("labels", labels[rows], ts[rows])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, N), max_size=6))
def test_the_cut_into_calls_changes_no_bit(cuts: list[int]) -> None:
    whole, parts = made(), made()
    fill(whole, [])
    fill(parts, cuts)
    assert parts.to_bytes() == whole.to_bytes()
    assert {found.signal for found in whole.detections} >= {"lf_votes/viewed", "lf_votes/bought"}


def test_bytes_carry_everything() -> None:
    monitor = made()
    fill(monitor, [])
    restored = made()
    restored.load(monitor.to_bytes())
    assert restored.to_bytes() == monitor.to_bytes()
    assert restored.detections == monitor.detections
    fill(monitor, [], seed=1)
    fill(restored, [], seed=1)
    assert restored.to_bytes() == monitor.to_bytes()


def test_bytes_while_references_grow() -> None:
    monitor = made(DriftRules(first_reference=2048, reference_values=1 << 20))
    fill(monitor, [])
    restored = made(monitor.rules)
    restored.load(monitor.to_bytes())
    assert restored.to_bytes() == monitor.to_bytes()
    assert monitor.state.growing.any()


def test_a_new_function_starts_afresh_and_the_others_go_on() -> None:
    monitor = made()
    fill(monitor, [])
    votes = SignalGroup(
        "lf_votes", ("new", "viewed", "bought"), ("no", "yes"), ("1", "1", "2"), by_segment=True
    )
    other = DriftMonitor([votes], RULES, ("mobile",))
    other.load(monitor.to_bytes())
    kept = {reference.signal for reference in other.references()}
    # `bought` is of another version now: what it was is no reference for it.
    assert kept == {"lf_votes/viewed", "lf_votes/viewed/mobile", "lf_votes/viewed/other"}
    before = {reference.signal: reference for reference in monitor.references()}
    assert all(before[found.signal] == found for found in other.references())


def test_a_newer_format_is_refused() -> None:
    stored = msgspec.msgpack.decode(made().to_bytes())
    with pytest.raises(ValueError, match="format 9"):
        made().load(msgspec.msgpack.encode({**stored, "format": 9}))
    with pytest.raises(ValueError, match="no state of drift"):
        made().load(b"\xc1")


def test_references_are_recorded_reset_and_set() -> None:
    monitor = made()
    fill(monitor, [])
    recorded = references_from_bytes(references_to_bytes(monitor.references()))
    assert recorded == monitor.references()
    first = {reference.signal: reference for reference in recorded}["lf_votes/viewed"]
    assert first.values >= RULES.first_reference
    assert first.since < N / 10.0
    monitor.reset("lf_votes/viewed")
    assert "lf_votes/viewed" not in {reference.signal for reference in monitor.references()}
    assert "lf_votes/viewed" not in monitor.firing
    assert monitor.set_references([first]) == ["lf_votes/viewed"]
    again = {reference.signal: reference for reference in monitor.references()}["lf_votes/viewed"]
    assert again.shares == first.shares
    assert again.version == first.version + 1


def test_a_reference_of_something_else_is_not_taken() -> None:
    monitor = made()
    fill(monitor, [])
    other = DriftMonitor([SignalGroup("lf_votes", ("viewed",), ("no", "yes"), ("2",))], RULES)
    assert other.set_references(monitor.references()) == []


def test_one_change_is_one_detection() -> None:
    group = SignalGroup("labels", ("relevance",), ("no", "yes"))
    monitor = DriftMonitor([group], RULES)
    rng = np.random.default_rng(2)
    for share, n in ((0.2, 20_000), (0.6, 30_000)):
        codes = (rng.random((n, 1)) < share).astype(np.int8)
        monitor.update("labels", codes, np.arange(n, dtype=np.float64))
    assert len(monitor.detections) == 1
    assert monitor.detections[0].z > 0.0
    assert monitor.firing == ["labels/relevance"]
    # Back to what it was, and gone again.
    for share, n in ((0.2, 30_000), (0.6, 10_000)):
        codes = (rng.random((n, 1)) < share).astype(np.int8)
        monitor.update("labels", codes, np.arange(n, dtype=np.float64) + 1e6)
    assert len(monitor.detections) == 2


def test_a_detected_change_does_not_move_a_growing_reference() -> None:
    group = SignalGroup("labels", ("relevance",), ("no", "yes"))
    monitor = DriftMonitor([group], DriftRules(first_reference=8192))
    rng = np.random.default_rng(3)
    for share, n in ((0.2, 10_000), (0.7, 200_000)):
        codes = (rng.random((n, 1)) < share).astype(np.int8)
        monitor.update("labels", codes, np.zeros(n))
    (reference,) = monitor.references()
    assert reference.values == 8192
    assert reference.shares[1] == pytest.approx(0.2, abs=0.02)


def test_a_reference_that_grew_stands_until_as_much_was_seen_in_blocks_of_another_length() -> None:
    rules = DriftRules(first_reference=2048, reference_values=1 << 20)
    short, long = (
        DriftMonitor([SignalGroup("labels", ("relevance",), ("no", "yes"), block=block)], rules)
        for block in (BLOCK, WIDE_BLOCK)
    )
    rng = np.random.default_rng(3)
    codes = (rng.random((60_000, 1)) < 0.2).astype(np.int8)
    short.update("labels", codes[:20_000], np.zeros(20_000))
    long.load(short.to_bytes())
    (stood,) = long.references()
    assert [stood] == short.references()
    long.update("labels", codes[: stood.values], np.ones(stood.values))
    assert long.references() == [stood]
    long.update("labels", codes[: stood.values], np.full(stood.values, 2.0))
    (grown,) = long.references()
    assert (grown.values, grown.version) == (2 * stood.values, stood.version + 1)
    assert long.detections == []


def test_one_burst_of_what_was_never_seen_is_no_detection_and_a_new_normal_is() -> None:
    group = SignalGroup("lf_coverage", ("robotic_rate",), ("abstain", "vote"))
    monitor = DriftMonitor([group], RULES)
    for codes in (np.zeros(20_000), np.ones(60), np.zeros(5_000)):
        monitor.update("lf_coverage", codes[:, None], np.zeros(len(codes)))
        assert monitor.detections == []
    monitor.update("lf_coverage", (np.arange(5_000) % 3 == 0)[:, None], np.ones(5_000))
    assert [found.ts for found in monitor.detections] == [1.0]


def test_a_reference_waits_until_a_signal_has_settled() -> None:
    group = SignalGroup("labels", ("relevance",), ("no", "yes"))
    rules = DriftRules(settle_values=10_000, first_reference=2048, reference_values=2048)
    monitor = DriftMonitor([group], rules)
    monitor.update("labels", np.ones((10_016, 1)), np.zeros(10_016))
    assert monitor.references() == []
    monitor.update("labels", (np.arange(2_048) % 2)[:, None], np.zeros(2_048))
    (reference,) = monitor.references()
    assert reference.shares[1] == pytest.approx(0.5)
    # A reset begins at once: what is there has settled long ago.
    monitor.reset()
    monitor.update("labels", np.zeros((2_048, 1)), np.zeros(2_048))
    assert len(monitor.references()) == 1


def test_detections_are_bounded() -> None:
    names = tuple(f"f{at}" for at in range(40))
    group = SignalGroup("lf_votes", names, ("no", "yes"))
    rules = DriftRules(first_reference=2048, reference_values=2048, detections=10)
    monitor = DriftMonitor([group], rules)
    monitor.update("lf_votes", (np.arange(4096) % 5 == 0)[:, None].repeat(40, 1), np.zeros(4096))
    monitor.update("lf_votes", np.ones((4096, 40)), np.ones(4096))
    assert int(monitor.state.detected.sum()) == 40
    assert len(monitor.detections) == 10


@pytest.mark.parametrize(
    ("codes", "segments", "why"),
    [
        (np.full((2, 2), 2), np.zeros(2, dtype=np.int64), "no category"),
        (np.zeros((2, 3)), np.zeros(2, dtype=np.int64), "columns"),
        (np.zeros((2, 2)), None, "segment is needed"),
        (np.zeros((2, 2)), np.full(2, 5), "segments must be"),
    ],
)
def test_what_does_not_fit_is_refused(
    codes: np.ndarray, segments: np.ndarray | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        made().update("lf_votes", codes, np.zeros(2), segments)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="references need"):
        DriftRules(first_reference=100)
    with pytest.raises(ValueError, match="half-life"):
        DriftRules(half_lives=())
    with pytest.raises(ValueError, match="categories"):
        SignalGroup("a", ("b",), ("only",))
    with pytest.raises(ValueError, match="tag"):
        SignalGroup("a", ("b",), ("x", "y"), ("1", "2"))
    with pytest.raises(ValueError, match="same name"):
        DriftMonitor([SignalGroup("a", ("b", "b"), ("x", "y"))])


def test_more_segments_than_allowed_become_other() -> None:
    segments = Segments([f"s{at}" for at in range(1000)])
    assert len(segments.names) == 20
    assert len(segments.left_out) == 980
    assert segments.codes(["s19", "s20", None]).tolist() == [19, 20, 20]
