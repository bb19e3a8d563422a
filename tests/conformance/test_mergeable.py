"""What partitions contribute to monitoring merges in any order, and twice is once."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.calibration import LabelCalibration
from monitoring.drift import DriftMonitor
from monitoring.drift_view import DriftView, contribution
from monitoring.lf_pairs import LfPairs
from monitoring.signals import DriftRules, SignalGroup

GROUPS = [
    SignalGroup("lf_votes", ("viewed", "bought"), ("no", "yes")),
    SignalGroup("labels", ("relevance",), ("a", "b", "c"), by_segment=True),
]
RULES = DriftRules(first_reference=2048, reference_values=8192)


def monitor(seed: int, n: int = 12_000) -> DriftMonitor:
    made = DriftMonitor(GROUPS, RULES, ("mobile",))
    rng = np.random.default_rng(seed)
    made.update("lf_votes", (rng.random((n, 2)) < 0.3).astype(np.int8), np.arange(float(n)))
    made.update("labels", rng.integers(0, 3, (n, 1)), np.arange(float(n)), rng.integers(0, 2, n))
    return made


MONITORS = [monitor(seed) for seed in range(3)]
SIGNALS = MONITORS[0].signals


def view(*partitions: int) -> DriftView:
    return DriftView({number: contribution(MONITORS[number]) for number in partitions})


def same(one: DriftView, other: DriftView) -> bool:
    left, right = one.readings(SIGNALS), other.readings(SIGNALS)
    return one.partitions == other.partitions and all(
        a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True)
    )


def test_drift_merges_in_any_order() -> None:
    a, b, c = view(0), view(1), view(2)
    assert same(a.merge(b), b.merge(a))
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(b).merge(c), c.merge(a).merge(b))


def test_drift_merged_twice_is_merged_once() -> None:
    a, b = view(0), view(1)
    assert same(a.merge(b).merge(b).merge(a), a.merge(b))
    assert same(a.merge(DriftView()), a)


def test_the_newer_contribution_of_a_partition_wins_either_way() -> None:
    longer = monitor(0)
    rng = np.random.default_rng(9)
    longer.update("lf_votes", (rng.random((4_000, 2)) < 0.6).astype(np.int8), np.zeros(4_000))
    newer, older = DriftView({0: contribution(longer)}), view(0)
    assert same(older.merge(newer), newer)
    assert same(newer.merge(older), newer)


def test_merging_changes_neither_side() -> None:
    a, b = view(0), view(1)
    before = a.readings(SIGNALS), b.readings(SIGNALS)
    a.merge(b).readings(SIGNALS)
    for old, now in zip(before, (a.readings(SIGNALS), b.readings(SIGNALS)), strict=True):
        assert all(x.tobytes() == y.tobytes() for x, y in zip(old, now, strict=True))


def test_a_contribution_is_a_copy() -> None:
    made = monitor(5)
    taken = contribution(made)
    before = taken.sums.tobytes()
    made.update("lf_votes", np.ones((320, 2)), np.zeros(320))
    assert taken.sums.tobytes() == before


def test_other_signals_are_left_out() -> None:
    other = DriftMonitor([SignalGroup("labels", ("other",), ("a", "b"))])
    mixed = view(0).merge(DriftView({1: contribution(other)}))
    assert mixed.readings(SIGNALS).z.tobytes() == view(0).readings(SIGNALS).z.tobytes()


def test_pairs_add_up_over_partitions() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(3):
        pairs = LfPairs(["a", "b", "c"])
        votes = rng.integers(-1, 2, (500, 3)).astype(np.int8)
        pairs.update(votes, votes.max(axis=1))
        parts.append(pairs)
    total = sum((part.sums for part in parts[1:]), parts[0].sums)
    found = parts[0].conflicts(sums=total)
    joint = {(pair.a, pair.b): pair.joint for pair in found}
    for pair in parts[0].conflicts(sums=total):
        alone = [
            next(p.joint for p in part.conflicts() if (p.a, p.b) == (pair.a, pair.b))
            for part in parts
        ]
        assert joint[pair.a, pair.b] == pytest.approx(sum(alone))


def test_calibration_adds_up_over_partitions() -> None:
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(2):
        part = LabelCalibration()
        proba = rng.dirichlet((1.0, 1.0), 200)
        part.observe(proba)
        for row in proba[:50]:
            part.answer(row, int(rng.random() < row[1]))
        parts.append(part)
    left, right = LabelCalibration(), LabelCalibration()
    left.add(parts[0])
    left.add(parts[1])
    right.add(parts[1])
    right.add(parts[0])
    assert left.to_bytes() == right.to_bytes()
