"""How well events were predicted: beside popularity, by segment, and whatever was added up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.recommender_worlds import Stream, popularity_only, sessions
from models.recommender import Config, PrequentialMetrics, Recommender, StepOutput
from models.recommender.snapshot import pack, unpack


def outcome(stream: Stream, config: Config | None = None) -> StepOutput:
    model = Recommender(config)
    users, items = [f"u{u}" for u in stream.users], [f"i{i}" for i in stream.items]
    return model.learn_many(users, items, ts=stream.ts)


def rows(rank: NDArray[np.int32], seed: int = 0) -> StepOutput:
    rng = np.random.default_rng(seed)
    n = len(rank)
    share, bits = rng.random((2, n)).astype(np.float32)
    spread = np.where(rng.random(n) < 0.5, bits, np.nan).astype(np.float32)
    return StepOutput(rank, share, bits, rng.integers(-1, 30, n).astype(np.int32), spread, 30)


def test_popularity_is_what_counting_says() -> None:
    stream = popularity_only(2_000)
    growth = np.exp2((stream.ts - stream.ts[0]) / 86_400.0)
    count = np.zeros(1_000)
    expected = np.empty(len(stream), np.int64)
    for row, item in enumerate(stream.items.tolist()):
        expected[row] = np.count_nonzero(count > count[item]) if count[item] else -1
        count[item] += growth[row]
    got = outcome(stream).popular_rank
    listed = (expected >= 0) & (expected < 30)
    # Equally popular ones stand in the order of their indexes, here nobody before the others.
    assert np.mean(got[listed] == expected[listed]) > 0.9
    assert (got[expected < 0] == -1).all()


def test_whoever_knows_nothing_but_popularity_is_as_good_as_it() -> None:
    metrics = PrequentialMetrics()
    metrics.update_many(outcome(popularity_only(4_000), Config(experts=("fresh",))))
    found = metrics.as_dict()
    assert found["popularity"]["hit@10"] == pytest.approx(found["hit@10"], abs=0.02)


def test_sessions_are_predicted_better_than_by_popularity() -> None:
    metrics = PrequentialMetrics()
    metrics.update_many(outcome(sessions(6_000)))
    found = metrics.as_dict()
    assert found["ndcg@10"] > 3.0 * found["popularity"]["ndcg@10"] > 0.0
    assert 0.0 < found["log_loss"] < -math.log(1e-6)
    assert 0.2 < found["intra_list_diversity"] < 1.0


@pytest.mark.parametrize("size", [1, 7, 64])
def test_what_is_judged_does_not_depend_on_how_calls_are_split(size: int) -> None:
    stream = sessions(600)
    users, items = [f"u{u}" for u in stream.users], [f"i{i}" for i in stream.items]
    whole, parts = PrequentialMetrics(), PrequentialMetrics()
    one, other = Recommender(), Recommender()
    whole.update_many(one.learn_many(users, items, ts=stream.ts))
    for start in range(0, 600, size):
        part = slice(start, start + size)
        parts.update_many(other.learn_many(users[part], items[part], ts=stream.ts[part]))
    assert parts.to_bytes() == whole.to_bytes()


def test_partitions_add_up_in_any_order_with_their_segments() -> None:
    made = []
    for seed in range(3):
        rank = np.random.default_rng(seed).integers(-1, 20, 40).astype(np.int32)
        one = PrequentialMetrics()
        codes = np.array([one.segment_code("xyz"[(at + seed) % 3]) for at in range(40)], np.int32)
        one.update_many(rows(rank, seed), codes, covered=seed)
        made.append(one.to_bytes())
    left, right, last = map(PrequentialMetrics.from_bytes, made)
    left.merge(right)
    left.merge(last)
    first, middle, other = map(PrequentialMetrics.from_bytes, made)
    middle.merge(other)
    first.merge(middle)
    found, again = left.as_dict(), first.as_dict()
    assert set(found["segments"]) == {"x", "y", "z"}
    assert found["segments"]["x"]["log_loss"] == pytest.approx(again["segments"]["x"]["log_loss"])
    assert found["popularity"] == pytest.approx(again["popularity"])
    assert found["n"] == 120


def test_what_an_earlier_program_stored_is_read_and_goes_on() -> None:
    metrics = PrequentialMetrics()
    metrics.update_many(rows(np.array([0, -1, 5, -2], np.int32)))
    head, arrays = unpack(metrics.to_bytes())
    assert arrays["sums"].shape[1] == 5
    read = PrequentialMetrics.from_bytes(pack(head, {"sums": arrays["sums"]}))
    assert read.as_dict()["hit@10"] == metrics.as_dict()["hit@10"]
    assert read.as_dict()["log_loss"] is None
    read.update_many(rows(np.array([0], np.int32), seed=1))
    found = read.as_dict()
    assert found["n"] == 4
    assert found["log_loss"] > 0.0
