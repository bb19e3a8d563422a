"""A shift of labels shows in what most votes say, whatever the label model makes of it."""

import numpy as np
from numpy.typing import NDArray

from bench.label_scores import label_stream
from models import LabelModel
from monitoring.pipeline_drift import PipelineDrift, WatchedTask
from monitoring.signals import DriftRules
from monitoring.sparse_votes import majority_of, sparse_votes

ACCURACY = np.array([0.9, 0.8, 0.75, 0.7, 0.65, 0.6])
NAMES = tuple(f"lf{at}" for at in range(len(ACCURACY)))
RULES = DriftRules(first_reference=2048, reference_values=8192)
MAJORITY = "label_majority:relevance/class"


def voted(n: int, positive: float, accuracy: NDArray[np.float64], seed: int) -> NDArray[np.int8]:
    """Return votes (n, m), four in ten abstaining, where a share of examples is positive."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < positive
    right = rng.random((n, len(accuracy))) < accuracy
    votes = np.where(right, truth[:, None], ~truth[:, None])
    return np.where(rng.random(votes.shape) < 0.4, -1, votes).astype(np.int8)


def detected(votes: NDArray[np.int8]) -> dict[str, list[int]]:
    """Return the rows at which each signal was detected, as the label model watches its votes."""
    proba = label_stream(LabelModel(["negative", "positive"], NAMES), votes)
    drift = PipelineDrift(
        {"relevance": WatchedTask(("negative", "positive"), NAMES, (1,) * len(NAMES))},
        ["click"], ["dwell_s"], RULES,
    )  # fmt: skip
    n = len(votes)
    drift.labelled(
        "relevance", sparse_votes(votes), proba, np.arange(n), drift.segment_codes([None] * n)
    )
    found: dict[str, list[int]] = {}
    for detection in drift.monitor.detections:
        found.setdefault(detection.signal, []).append(int(detection.ts))
    return found


def test_a_shift_of_labels_is_seen_after_a_function_flipped() -> None:
    flipped = ACCURACY.copy()
    flipped[0] = 1.0 - ACCURACY[0]
    calm, wrong = voted(12_000, 0.3, ACCURACY, 1), voted(3_000, 0.3, flipped, 2)
    shifted = voted(6_000, 0.6, flipped, 3)
    found = detected(np.concatenate([calm, wrong, shifted]))
    assert 12_000 <= found["lf_votes/lf0"][0] < 14_000
    (at,) = found[MAJORITY]
    assert 15_000 <= at < 17_500


def test_a_shift_of_labels_is_seen_while_every_function_is_as_good_as_before() -> None:
    before, after = voted(12_000, 0.3, ACCURACY, 4), voted(6_000, 0.6, ACCURACY, 5)
    found = detected(np.concatenate([before, after]))
    assert 12_000 <= found[MAJORITY][0] < 14_000


def test_a_weak_function_that_breaks_is_no_shift_of_labels() -> None:
    broken = ACCURACY.copy()
    broken[3] = 1.0 - ACCURACY[3]
    before, after = voted(20_000, 0.3, ACCURACY, 6), voted(12_000, 0.3, broken, 7)
    found = detected(np.concatenate([before, after]))
    assert found.keys() == {"lf_votes/lf3"}


def test_the_majority_of_several_classes() -> None:
    votes = np.array([[2, 2, 0], [2, 1, -1], [-1, 3, -1], [3, 3, 2]], dtype=np.int8)
    assert majority_of(sparse_votes(votes), 4).tolist() == [2, -1, 3, 3]
