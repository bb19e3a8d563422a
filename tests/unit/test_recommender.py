"""The recommender's steps: ranks, splits, corrections, refusals, checkpoints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.recommender import (
    CORRECT,
    ENGAGE,
    HISTORY,
    MISS,
    NEGATIVE,
    NOT_PREDICTED,
    Config,
    Recommender,
    StepOutput,
)
from models.recommender.segments import segment_size


class Stream(NamedTuple):
    """Rows of a stream, and the state that its owner keeps."""

    users: NDArray[np.int32]
    items: list[str]
    examples: NDArray[np.int32]
    weights: NDArray[np.float64]
    ts: NDArray[np.float64]
    kinds: NDArray[np.int8]


def mixed_stream(n: int = 3000, users: int = 60, items: int = 300, seed: int = 3) -> Stream:
    """Return engagements in clusters of items, with corrections and refusals among them."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n).astype(np.int32)
    cluster = (user + rng.integers(0, 2, n)) % 12
    item = cluster * (items // 12) + rng.integers(0, items // 12, n)
    kind = rng.choice([ENGAGE, CORRECT, NEGATIVE], n, p=[0.8, 0.1, 0.1]).astype(np.int8)
    example = np.arange(n, dtype=np.int32)
    names = [f"item-{x}" for x in item]
    for row in np.flatnonzero(kind == CORRECT):
        earlier = int(rng.integers(0, row)) if row else 0
        example[row], user[row], names[row] = example[earlier], user[earlier], names[earlier]
    ts = 1.6e9 + np.cumsum(rng.exponential(600.0, n))
    return Stream(user, names, example, rng.random(n), ts, kind)


class Owner:
    """Keeps the histories and the weights learned, as a partition does."""

    def __init__(self, model: Recommender, stream: Stream) -> None:
        users = int(stream.users.max()) + 1
        self.model = model
        self.stream = stream
        self.items = np.full((users, HISTORY), -1, np.int32)
        self.weights = np.zeros((users, HISTORY), np.float32)
        self.lengths = np.zeros(users, np.int32)
        self.learned = np.full(len(stream.users), -1.0)

    def step(self, start: int, stop: int, learn: bool = True) -> StepOutput:
        part = slice(start, stop)
        s = self.stream
        return self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            s.users[part],
            self.model.item_indexes(s.items[part]),
            s.examples[part],
            self.learned,
            s.weights[part],
            s.ts[part],
            s.kinds[part],
            learn,
        )


@pytest.mark.parametrize("size", [1, 7, 500])
def test_a_split_into_calls_changes_no_bit(size: int) -> None:
    stream = mixed_stream()
    n = len(stream.users)
    whole, parts = Owner(Recommender(), stream), Owner(Recommender(), stream)
    expected = whole.step(0, n)
    got = [parts.step(start, min(n, start + size)) for start in range(0, n, size)]
    for name in ("rank", "predicted", "novelty_bits"):
        assert np.array_equal(
            getattr(expected, name), np.concatenate([getattr(part, name) for part in got])
        )
    assert got[-1].n_items == expected.n_items
    assert whole.model.to_bytes() == parts.model.to_bytes()
    assert np.array_equal(whole.items, parts.items)
    assert np.array_equal(whole.weights, parts.weights)
    assert np.array_equal(whole.learned, parts.learned)


@pytest.mark.parametrize("size", [1, 30, 450])
def test_histories_grow_as_far_as_they_go_however_calls_are_split(size: int) -> None:
    n = HISTORY + 50
    users, items = ["often", "seldom"] * n, [f"i{x // 2}" for x in range(2 * n)]
    users[-1] = "once"
    whole, parts = Recommender(), Recommender()
    whole.learn_many(users, items)
    for start in range(0, 2 * n, size):
        parts.learn_many(users[start : start + size], items[start : start + size])
    assert whole.to_bytes() == parts.to_bytes()
    got, _, length = parts.histories.find("often")
    assert parts.item_ids(got[:length]) == [f"i{x}" for x in range(n - 1, 49, -1)]
    assert Recommender.from_bytes(parts.to_bytes()).to_bytes() == parts.to_bytes()


def test_what_was_had_long_ago_is_repeated_only_where_that_happens() -> None:
    rng = np.random.default_rng(0)
    order = [f"i{x}" for x in range(200)]
    returning, moving = Recommender(), Recommender()
    # One goes round in a circle of 200 things, the other never comes back to one.
    returning.learn_many(["u"] * 1200, order * 6)
    moving.learn_many(["u"] * 1200, [f"i{x}" for x in rng.permutation(1200)])
    next_ones = [item for item, _ in returning.recommend("u", 10)]
    assert "i0" in next_ones
    had, _, length = moving.histories.find("u")
    known = set(moving.item_ids(had[:length]))
    assert length == HISTORY
    assert not known & {item for item, _ in moving.recommend("u", 10)}


def test_chunks_written_while_dirty_restore_every_bit() -> None:
    stream = mixed_stream()
    owner = Owner(Recommender(), stream)
    stored: dict[str, bytes | None] = {}
    for start in range(0, 2000, 250):
        owner.step(start, start + 250)
        stored.update(owner.model.dirty_chunks())
        owner.model.mark_clean()
        assert owner.model.dirty_chunks() == {}
    restored = Recommender()
    restored.load_chunks(stored)
    assert restored.to_bytes() == owner.model.to_bytes()
    successor = Owner(restored, stream)
    successor.items, successor.weights = owner.items.copy(), owner.weights.copy()
    successor.lengths, successor.learned = owner.lengths.copy(), owner.learned.copy()
    expected, got = owner.step(2000, 3000), successor.step(2000, 3000)
    assert np.array_equal(expected.rank, got.rank)
    assert restored.to_bytes() == owner.model.to_bytes()


def rows_written(chunks: dict[str, bytes | None]) -> int:
    """Return how many rows the segments among the chunks hold."""
    return sum(
        segment_size(data) for name, data in chunks.items() if data and name.startswith("segments/")
    )


def test_only_what_changed_is_dirty() -> None:
    stream = mixed_stream(items=3000)
    owner = Owner(Recommender(), stream)
    owner.step(0, 2999)
    everything = owner.model.dirty_chunks()
    assert rows_written(everything) == len(owner.model.vocabulary)
    owner.model.mark_clean()
    owner.step(0, 1)  # an item that is there already
    changed = owner.model.dirty_chunks()
    # The item, a window of its neighbours, and who was in a top 10 for the first time.
    assert 1 < rows_written(changed) <= 1 + 20 + 10
    assert set(changed) == {"meta", "segments", "segments/001"}
    owner.model.mark_clean()
    owner.step(1, 2, learn=False)
    assert owner.model.dirty_chunks() == {}


def test_checkpoints_without_number_stay_small_and_restore_every_bit() -> None:
    stream = mixed_stream(items=900)
    owner = Owner(Recommender(), stream)
    stored: dict[str, bytes | None] = {}
    written = 0
    for start in range(0, 3000, 4):
        owner.step(start, start + 4)
        changed = owner.model.dirty_chunks()
        owner.model.mark_clean()
        stored.update(changed)
        written += rows_written(changed)
        if start % 500 == 0:
            restored = Recommender()
            restored.load_chunks(stored)
            assert restored.all_chunks() == owner.model.all_chunks()
            # It goes on where the other stopped.
            assert restored.dirty_chunks() == {}
            owner.model.load_chunks(stored)
    items = len(owner.model.vocabulary)
    assert rows_written(stored) <= 2 * items + 4096
    assert sum(data is not None for data in stored.values()) <= 128 + 2 + items // 256 + 1
    assert written < 750 * 4 * 25


def test_frozen_ranks_alike_and_learns_nothing() -> None:
    stream = mixed_stream()
    learning, frozen = Owner(Recommender(), stream), Owner(Recommender(), stream)
    learning.step(0, 2000)
    frozen.step(0, 2000)
    frozen.model.item_indexes(stream.items)
    before = frozen.model.to_bytes()
    first = learning.step(2000, 2001)
    assert np.array_equal(frozen.step(2000, 2001, learn=False).rank, first.rank)
    frozen.step(2001, 3000, learn=False)
    assert frozen.model.to_bytes() == before


def test_an_item_never_seen_is_a_miss_and_then_is_found() -> None:
    model = Recommender()
    first = model.learn_many(["a", "a", "b", "b"], ["x", "y", "x", "y"])
    assert first.rank.tolist() == [MISS, MISS, 0, 0]
    assert first.n_items == 2


def test_repeats_are_learned_where_users_repeat() -> None:
    model = Recommender()
    users = [f"u{x // 6}" for x in range(1200)]
    items = [f"i{x // 6 % 40}-{x % 2}" for x in range(1200)]
    out = model.learn_many(users, items)
    again = np.arange(1200) % 6 >= 2
    assert (out.rank[600:][again[600:]] == 0).mean() > 0.95


def test_a_correction_to_zero_undoes_the_engagement() -> None:
    stream = Stream(
        users=np.array([0, 0, 0], np.int32),
        items=["x", "y", "y"],
        examples=np.array([0, 1, 1], np.int32),
        weights=np.array([1.0, 0.8, 0.0]),
        ts=np.full(3, 1e9),
        kinds=np.array([ENGAGE, ENGAGE, CORRECT], np.int8),
    )
    owner = Owner(Recommender(), stream)
    owner.step(0, 2)
    index = owner.model.item_indexes(["x", "y"])
    before, _ = owner.model.recommend_for(owner.items[0][1:].copy(), owner.weights[0][1:], 1, 5)
    assert index[1] in before
    out = owner.step(2, 3)
    assert out.rank[0] == NOT_PREDICTED
    assert owner.learned[1] == 0.0
    assert owner.weights[0, 0] == 0.0
    after, _ = owner.model.recommend_for(owner.items[0][1:].copy(), owner.weights[0][1:], 1, 5)
    assert index[1] not in after


def test_a_refusal_weakens_the_pair_at_once() -> None:
    model = Recommender(Config(refusal=0.5))
    for user in "abcdefgh":
        model.learn_many([user, user], ["tea", "pot"])
        model.learn_many([user], ["cup"])
    model.learn_one("new", "tea", True)
    before = model.predict_one("new", "pot")
    model.learn_one("new", "pot", False)
    assert model.predict_one("new", "pot") < before


def test_a_full_vocabulary_counts_what_it_drops() -> None:
    model = Recommender(Config(max_items=3))
    out = model.learn_many(list("aaaaa"), ["1", "2", "3", "4", "1"])
    assert model.dropped_items == 1
    assert out.n_items == 3
    assert out.rank[3] == MISS
    assert model.item_index("5") == -1


def test_growing_past_the_first_capacity_keeps_everything() -> None:
    model = Recommender()
    model.learn_many(["u", "u"], ["a", "b"])
    before = model.recommend("u", 2)
    model.item_indexes([f"x{n}" for n in range(20_000)])
    assert model.recommend("u", 2) == before


def test_rows_move_only_where_they_must_become_narrower() -> None:
    model = Recommender()
    model.learn_many(["u", "u"], ["a", "b"])
    pool, room = model.tables.pool, model.tables.room
    model.item_indexes([f"x{n}" for n in range(model.config.widest_rows() - 2)])
    assert model.tables.pool is pool
    model.item_indexes(["one more"])
    assert model.tables.room < room


def test_what_went_together_lately_beats_what_once_did() -> None:
    model = Recommender(Config(half_life_s=100.0, fresh_half_life_s=100.0))
    users = [f"u{x // 2}" for x in range(40)]
    model.learn_many(users, ["tea", "pot"] * 20, ts=np.full(40, 0.0))
    users = [f"v{x // 2}" for x in range(8)]
    model.learn_many(users, ["tea", "cup"] * 4, ts=np.full(8, 1000.0))
    model.learn_many(["w"], ["tea"], ts=[1000.0])
    assert [item for item, _ in model.recommend("w", 1)] == ["cup"]


def test_a_jump_of_a_thousand_half_lives_keeps_the_order() -> None:
    model = Recommender(Config(half_life_s=1.0, fresh_half_life_s=1.0))
    model.learn_many(["a", "a"], ["x", "y"], ts=[0.0, 0.0])
    model.learn_many(["b", "b", "c"], ["x", "y", "x"], ts=[1000.0, 1000.0, 1000.0])
    best = model.recommend("c", 2)
    assert best[0][0] == "y"
    assert all(np.isfinite(score) for _, score in best)


def test_recommend_excludes_and_breaks_ties_by_age() -> None:
    model = Recommender()
    model.learn_many(["a", "b", "c"], ["x", "y", "z"])
    names = [item for item, _ in model.recommend("nobody", 10)]
    assert names == ["x", "y", "z"]
    assert [item for item, _ in model.recommend("nobody", 10, exclude=["x", "?"])] == ["y", "z"]


def test_predicting_changes_nothing() -> None:
    stream = mixed_stream()
    owner = Owner(Recommender(), stream)
    owner.step(0, 1000)
    before = owner.model.to_bytes()
    owner.model.recommend("nobody", 10)
    owner.model.predict_one("nobody", stream.items[0])
    owner.model.predict_one("nobody", "never heard of")
    owner.model.rank("nobody", stream.items[:5])
    assert owner.model.to_bytes() == before


def test_arrays_that_cannot_be_mutated_are_refused() -> None:
    stream = mixed_stream(10)
    owner = Owner(Recommender(), stream)
    owner.weights = owner.weights.astype(np.float64)
    with pytest.raises(TypeError, match="hist_weights"):
        owner.step(0, 10)


def test_histories_of_users_are_bounded() -> None:
    model = Recommender(max_users=10)
    model.learn_many([f"u{x}" for x in range(100)], ["x"] * 100)
    assert model.forgotten_users == 90
    restored = Recommender.from_bytes(model.to_bytes())
    assert restored.forgotten_users == 90
    assert restored.to_bytes() == model.to_bytes()
