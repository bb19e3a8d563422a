"""Several partitions: contributions, views, and histories on their way."""

from __future__ import annotations

import numpy as np
import pytest

from bench.recommender_peers import figures
from bench.recommender_worlds import Stream, sessions
from models.recommender import (
    HISTORY,
    Recommender,
    SharedRecommender,
    pack_histories,
    unpack_histories,
)
from models.recommender.snapshot import SnapshotError


class Partition:
    """A partition's side: whose rows are its own, and its users' histories."""

    def __init__(self, stream: Stream) -> None:
        users = int(stream.users.max()) + 1
        self.stream = stream
        self.model = SharedRecommender()
        self.items = np.full((users, HISTORY), -1, np.int32)
        self.weights = np.zeros((users, HISTORY), np.float32)
        self.lengths = np.zeros(users, np.int32)

    def step(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
        s = self.stream
        n = len(rows)
        index = self.model.item_indexes([f"i{item}" for item in s.items[rows].tolist()])
        out = self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            s.users[rows],
            index,
            np.arange(n, dtype=np.int32),
            np.full(n, -1.0),
            np.ones(n),
            s.ts[rows],
            np.zeros(n, np.int8),
        )
        ranks: list[int] = out.rank.tolist()
        return ranks


def run(stream: Stream, workers: int, every: int) -> tuple[list[Partition], float]:
    """Step through the stream with an exchange of what changed every so many events."""
    partitions = [Partition(stream) for _ in range(workers)]
    rank = np.full(len(stream), -1, np.int32)
    for start in range(0, len(stream), every):
        here = np.arange(start, min(len(stream), start + every))
        for number, partition in enumerate(partitions):
            rows = here[stream.users[here] % workers == number]
            rank[rows] = partition.step(rows)
        chunks = [partition.model.dirty_chunks() for partition in partitions]
        for number, partition in enumerate(partitions):
            partition.model.mark_clean()
            partition.model.take_in(
                {other: c for other, c in enumerate(chunks) if other != number and c}
            )
    return partitions, figures(rank).ndcg


def test_alone_it_is_the_recommender_itself() -> None:
    stream = sessions(n=3000)
    (alone,), _ = run(stream, 1, 500)
    plain = Recommender()
    plain.learn_many(
        [f"u{user}" for user in stream.users.tolist()],
        [f"i{item}" for item in stream.items.tolist()],
        ts=stream.ts,
    )
    ours, theirs = alone.model.all_chunks(), plain.all_chunks()
    assert {k: v for k, v in ours.items() if k != "meta"} == {
        k: v for k, v in theirs.items() if k != "meta"
    }


def test_four_workers_lose_little_and_learn_from_each_other() -> None:
    stream = sessions(n=20_000, items=600)
    _, one = run(stream, 1, 250)
    _, four = run(stream, 4, 250)
    _, strangers = run(stream, 4, len(stream))
    assert four > 0.98 * one
    assert four > strangers


def test_following_by_changes_is_following_by_wholes() -> None:
    stream = sessions(n=4000)
    partitions, _ = run(stream, 2, 400)
    first, second = (partition.model for partition in partitions)
    late = SharedRecommender()
    late.load_chunks(first.all_chunks())
    late.take_in({1: second.all_chunks()})
    first.take_in({1: second.all_chunks()})
    nobody = np.full(HISTORY, -1, np.int32), np.zeros(HISTORY, np.float32), 0
    expected, got = first.recommend_for(*nobody, 20), late.recommend_for(*nobody, 20)
    for a, b in ((expected[0], got[0]), (expected[1], got[1])):
        assert np.array_equal(a, b)
    assert late.all_chunks() == first.all_chunks()


def test_indexes_stay_and_translate() -> None:
    stream = sessions(n=2000)
    partitions, _ = run(stream, 2, 500)
    first, second = (partition.model for partition in partitions)
    before = first.item_ids(range(20))
    first.take_in({1: second.all_chunks()})
    assert first.item_ids(range(20)) == before
    theirs = np.array([0, 3, -1, 1], np.int32)
    here = first.translate(1, theirs)
    assert here[2] == -1
    assert first.item_ids(here[[0, 1, 3]]) == second.item_ids([0, 3, 1])


def test_a_partition_can_be_forgotten() -> None:
    stream = sessions(n=2000)
    partitions, _ = run(stream, 2, 500)
    first = partitions[0].model
    with_both = first.n_items
    first.take_in({1: None})
    assert first.n_items < with_both


@pytest.mark.parametrize("missing", ["ids/000000", "segments/000"])
def test_changes_without_what_they_change_are_refused(missing: str) -> None:
    model = Recommender()
    model.learn_many(["a"] * 40, [f"i{x}" for x in range(40)])
    chunks = model.dirty_chunks()
    model.mark_clean()
    model.learn_many(["b"], ["i39"])
    chunks |= model.dirty_chunks()
    del chunks[missing]
    with pytest.raises(SnapshotError):
        SharedRecommender().take_in({1: chunks})


def test_histories_pack_to_what_is_there() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([0, 1, HISTORY, 7], np.int32)
    there = np.arange(HISTORY) < lengths[:, None]
    items = np.where(there, rng.integers(0, 99, there.shape), -1).astype(np.int32)
    weights = np.where(there, rng.random(there.shape), 0.0).astype(np.float32)
    packed = pack_histories(items, weights, lengths)
    assert [len(data) for data in packed] == (8 * lengths).tolist()
    got = unpack_histories(packed)
    assert np.array_equal(got[0], items)
    assert np.array_equal(got[1], weights)
    assert np.array_equal(got[2], lengths)
    assert all(array.flags.writeable for array in got)
    longer = pack_histories(
        np.arange(2 * HISTORY, dtype=np.int32)[None],
        np.ones((1, 2 * HISTORY), np.float32),
        np.array([2 * HISTORY], np.int32),
    )
    assert unpack_histories(longer)[0][0].tolist() == list(range(HISTORY))
    assert unpack_histories([])[2].tolist() == []
