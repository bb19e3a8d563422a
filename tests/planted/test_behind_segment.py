"""A labeling function that breaks in one segment is named beside that segment, and nowhere else."""

from typing import Any

import numpy as np
import orjson
import pytest

from bench.label_scores import label_stream
from models import LabelModel
from monitoring.pipeline_drift import PipelineDrift, WatchedTask
from monitoring.sparse_votes import sparse_votes
from stream.merged_view import segment_rows

ACCURACY = np.array([0.9, 0.85, 0.8, 0.75, 0.7, 0.65])
NAMES = tuple(f"lf{at}" for at in range(len(ACCURACY)))
SEGMENTS = ("newcomer", "regular", "loyal")
BROKEN = 2


def rows(seed: int, *, wrong: bool = False, silent: bool = False) -> dict[str, dict[str, Any]]:
    """Return what is shown of each segment; one function is broken for loyal people only."""
    rng = np.random.default_rng(seed)
    n = 15_000
    truth = rng.random(n) < 0.3
    segment = rng.choice(len(SEGMENTS), n, p=(0.3, 0.55, 0.15))
    accuracy = np.repeat(ACCURACY[None, :], n, axis=0)
    abstention = np.full(accuracy.shape, 0.4)
    loyal = segment == SEGMENTS.index("loyal")
    if wrong:
        accuracy[loyal, BROKEN] = 0.2
    if silent:
        abstention[loyal, BROKEN] = 0.98
    right = rng.random(accuracy.shape) < accuracy
    votes = np.where(right, truth[:, None], ~truth[:, None])
    votes = np.where(rng.random(votes.shape) < abstention, -1, votes).astype(np.int8)
    proba = label_stream(LabelModel(["negative", "positive"], NAMES, (0.7, 0.3)), votes)
    task = WatchedTask(("negative", "positive"), NAMES, (1,) * len(NAMES))
    drift = PipelineDrift({"relevance": task}, ["click"], ["dwell_s"], segments=SEGMENTS)
    codes = drift.segment_codes([SEGMENTS[at] for at in segment.tolist()])
    drift.labelled("relevance", sparse_votes(votes), proba, np.arange(n), codes)
    shown = segment_rows(drift.recent)
    # As plain values: the status page is told so.
    assert orjson.loads(orjson.dumps(shown)) == shown
    return {row["segment"]: row for row in shown}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_function_that_is_wrong_in_one_segment_is_named_there(seed: int) -> None:
    found = rows(seed, wrong=True)
    first = found["loyal"]["functions"][0]
    assert first["name"] == NAMES[BROKEN]
    assert first["reason"] == "against the labels here"
    assert first["disagreement"] > first["disagreement_elsewhere"] + 0.2
    assert {name: row["functions"] for name, row in found.items() if name != "loyal"} == {
        "all": [], "newcomer": [], "regular": [], "other": [],
    }  # fmt: skip
    # What the segment's labels are worth stands beside it.
    assert (
        found["loyal"]["tasks"]["relevance"]["conflict"]
        > (found["regular"]["tasks"]["relevance"]["conflict"])
    )


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_function_that_is_silent_in_one_segment_is_named_there(seed: int) -> None:
    found = rows(seed, silent=True)
    (only,) = found["loyal"]["functions"]
    assert (only["name"], only["reason"]) == (NAMES[BROKEN], "votes less here")
    assert only["coverage"] < 0.1 < only["coverage_elsewhere"]
    assert not found["regular"]["functions"]


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_nobody_is_named_where_nothing_is_broken(seed: int) -> None:
    assert not any(row["functions"] for row in rows(seed).values())
