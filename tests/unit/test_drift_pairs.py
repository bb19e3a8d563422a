"""Pairs of labeling functions that contradict each other, and calibration of late."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from monitoring.calibration import LabelCalibration
from monitoring.lf_pairs import MAX_FUNCTIONS, LfPairs
from monitoring.recent import Recent
from monitoring.sparse_votes import sparse_votes


def votes_of(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    good = np.where(rng.random((n, 2)) < 0.9, truth[:, None], 1 - truth[:, None])
    flipped = 1 - truth
    twin = np.where(rng.random(n) < 0.95, good[:, 0], 1 - good[:, 0])
    columns = [good[:, 0], good[:, 1], flipped, twin]
    votes = np.stack(columns, axis=1).astype(np.int8)
    votes[rng.random(votes.shape) < 0.3] = -1
    return np.concatenate([votes, truth[:, None].astype(np.int8)], axis=1)


def filled(n: int = 3_000) -> LfPairs:
    made, pairs = votes_of(n), LfPairs(["a", "b", "flipped", "twin"])
    pairs.update(made[:, :4], made[:, 4])
    return pairs


def test_the_flipped_function_leads_the_conflicts() -> None:
    worst = filled().conflicts()
    assert {"flipped" in (pair.a, pair.b) for pair in worst[:3]} == {True}
    assert worst[0].ratio > 0.8
    assert len(worst) == 6


def test_a_function_and_its_twin_err_together() -> None:
    first = filled().correlations()[0]
    assert (first.a, first.b) == ("a", "twin")
    assert first.ratio > 0.5


def test_few_joint_votes_do_not_lead() -> None:
    pairs = LfPairs(["a", "b", "c"])
    votes = np.full((1_000, 3), -1, dtype=np.int8)
    votes[:, 0] = 1
    votes[:, 1] = np.arange(1_000) % 2
    votes[:31, 2] = np.arange(31) % 5 > 1
    pairs.update(votes, votes[:, 0])
    assert [(pair.a, pair.b) for pair in pairs.conflicts()][0] == ("a", "b")
    votes[:] = -1
    assert LfPairs(["a", "b"]).conflicts() == []


def test_the_cut_into_calls_changes_no_bit() -> None:
    made = votes_of(2_000)
    whole, parts = LfPairs(["a", "b", "c", "d"], 50.0), LfPairs(["a", "b", "c", "d"], 50.0)
    whole.update(made[:, :4], made[:, 4])
    for start in range(0, 2_000, 7):
        rows = slice(start, start + 7)
        parts.update(made[rows, :4], made[rows, 4])
    assert parts.to_bytes() == whole.to_bytes()
    # Weights were scaled back many times by now.
    assert whole.sums[:, 0].max() == pytest.approx(0.49 * 50.0 / np.log(2.0), rel=0.4)


def test_bytes_follow_functions_to_their_new_columns() -> None:
    pairs = filled()
    same = LfPairs(pairs.names)
    same.load(pairs.to_bytes())
    assert same.to_bytes() == pairs.to_bytes()
    turned = LfPairs(["twin", "new", "flipped", "a"])
    turned.load(pairs.to_bytes())
    first = turned.correlations()[0]
    assert {first.a, first.b} == {"a", "twin"}
    with pytest.raises(ValueError, match="format 9"):
        same.load(msgspec.msgpack.encode((9,)))


def test_sums_of_an_older_version_are_read() -> None:
    pairs = filled()
    # Format 1 kept what is shown now: joint votes, conflicts, errors of a, of b, and of both.
    older = msgspec.msgpack.encode((1, pairs.names, pairs.half_life, 1.0, pairs.sums.tobytes()))
    turned = LfPairs(tuple(reversed(pairs.names)))
    turned.load(older)
    known = {frozenset((pair.a, pair.b)): pair for pair in pairs.conflicts()}
    for pair in turned.conflicts():
        assert pair.ratio == pytest.approx(known[frozenset((pair.a, pair.b))].ratio)
    assert turned.correlations()[0].ratio == pytest.approx(pairs.correlations()[0].ratio)


def recent_of(n: int = 500) -> Recent:
    made, recent = votes_of(n), Recent({"t": (("no", "yes"), ("a", "b", "c", "d"))}, ["mobile"])
    best = made[:, 4].astype(np.int64)
    proba = np.where(np.arange(2) == best[:, None], 0.8, 0.2)
    segments = np.arange(n) % 2
    recent.labelled("t", sparse_votes(made[:, :4]), proba, best, np.arange(float(n)), segments)
    return recent


def test_recent_votes_of_an_older_version_are_read() -> None:
    recent = recent_of()
    shown = recent.tasks()["t"]
    assert 0.0 < shown.functions[0, 2, 1] < shown.functions[0, 2, 0]
    _, segments, max_ts, engaged, tasks = msgspec.msgpack.decode(recent.to_bytes())
    (classes, lfs, weights, head, mass, _, last) = tasks["t"]
    # Format 1 kept what is shown now, at the same weights: votes, in conflict, against the model.
    kept = shown.functions * np.frombuffer(weights)[:, None, None]
    older = (classes, lfs, weights, head, mass, kept.tobytes(), last)
    again = Recent({"t": (tuple(classes), tuple(lfs))}, segments)
    again.load(msgspec.msgpack.encode((1, segments, max_ts, engaged, {"t": older})))
    assert again.tasks()["t"].functions == pytest.approx(shown.functions)


def test_recent_figures_of_a_task_without_functions_restore() -> None:
    tasks: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"t": (("no", "yes"), ())}
    recent = Recent(tasks, ["mobile"])
    proba = np.full((8, 2), 0.5)
    silent, segments = sparse_votes(np.zeros((8, 0), dtype=np.int8)), np.arange(8) % 2
    recent.labelled("t", silent, proba, proba.argmax(axis=1), np.arange(8.0), segments)
    again = Recent(tasks, ["mobile"])
    again.load(recent.to_bytes())
    assert again.to_bytes() == recent.to_bytes()


def test_recent_figures_restore_copy_and_split_exactly() -> None:
    recent = recent_of()
    same = Recent({"t": (("no", "yes"), ("a", "b", "c", "d"))}, ["mobile"])
    same.load(recent.to_bytes())
    assert same.to_bytes() == recent.to_bytes()
    assert recent.copy().tasks()["t"].functions == pytest.approx(recent.tasks()["t"].functions)


def test_functions_beyond_the_bound_are_named() -> None:
    pairs = LfPairs([f"f{at}" for at in range(300)])
    votes = np.ones((40, 300), dtype=np.int8)
    pairs.update(votes, votes[:, 0])
    assert len(pairs.left_out) == 300 - MAX_FUNCTIONS
    assert len(pairs.conflicts()) == 20
    with pytest.raises(ValueError, match="300 functions"):
        pairs.update(votes[:, :5], votes[:, 0])


def test_calibrated_labels_lie_at_the_floor_and_overconfident_ones_above() -> None:
    rng = np.random.default_rng(0)
    errors = {}
    for name, right in (("calibrated", 1.0), ("overconfident", 0.7)):
        recent = LabelCalibration()
        p = rng.uniform(0.5, 1.0, 6_000)
        recent.observe(np.stack([1 - p, p], axis=1))
        for each in p.tolist():
            recent.answer(np.array([1 - each, each]), int(rng.random() < each * right))
        found = recent.trust()
        assert found.calibration_error is not None
        assert found.error_floor is not None
        assert found.estimated_accuracy == pytest.approx(0.75, abs=0.02)
        errors[name] = found.calibration_error / found.error_floor
    assert errors["calibrated"] < 2.0
    assert errors["overconfident"] > 5.0


def test_calibration_restores_and_splits_exactly() -> None:
    rng = np.random.default_rng(1)
    proba = rng.dirichlet((1.0, 1.0), 100)
    whole, parts = LabelCalibration(), LabelCalibration()
    whole.observe(proba)
    parts.observe(proba[:33])
    parts.observe(proba[33:])
    whole.answer(proba[0], 1)
    parts.answer(proba[0], 1)
    assert parts.to_bytes() == whole.to_bytes()
    assert LabelCalibration.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()
    assert LabelCalibration().trust().gold_accuracy is None
    with pytest.raises(ValueError, match="format 9"):
        LabelCalibration.from_bytes(msgspec.msgpack.encode((9,)))
