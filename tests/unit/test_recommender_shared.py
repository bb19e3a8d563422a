"""Several partitions: what each contributes, and what a process knows of all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.recommender_peers import figures
from bench.recommender_worlds import Stream, sessions
from models.recommender import (
    CORRECT,
    HISTORY,
    NEGATIVE,
    Config,
    Recommender,
    SharedRecommender,
    Updates,
    World,
    contribution_of,
    pack_histories,
    unpack_histories,
)
from models.recommender.snapshot import NewerSnapshotError, SnapshotError, pack, unpack
from models.recommender.tables import Total
from stream.peers import Peers, update_chunk
from stream.state import SharedChunk


class Partition:
    """A partition's side: whose rows are its own, and its users' histories."""

    def __init__(self, stream: Stream, number: int = 0, world: World | None = None) -> None:
        users = int(stream.users.max()) + 1
        self.stream = stream
        self.number = number
        self.model = SharedRecommender(None, number, world)
        self.items = np.full((users, HISTORY), -1, np.int32)
        self.weights = np.zeros((users, HISTORY), np.float32)
        self.lengths = np.zeros(users, np.int32)
        self.examples = np.full(len(stream), -1.0)

    def step(self, rows: NDArray[np.int64]) -> list[int]:
        s = self.stream
        n = len(rows)
        index = self.model.item_indexes([f"i{item}" for item in s.items[rows].tolist()])
        out = self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            s.users[rows],
            index,
            rows.astype(np.int32),
            self.examples,
            np.ones(n),
            s.ts[rows],
            np.zeros(n, np.int8),
        )
        ranks: list[int] = out.rank.tolist()
        return ranks

    def judge(self, rows: NDArray[np.int64], kind: int, weight: float) -> None:
        """Correct, or refuse, what was engaged with."""
        s = self.stream
        n = len(rows)
        self.model.step_many(
            self.items,
            self.weights,
            self.lengths,
            s.users[rows],
            self.model.item_indexes([f"i{item}" for item in s.items[rows].tolist()]),
            rows.astype(np.int32),
            self.examples,
            np.full(n, weight),
            s.ts[rows],
            np.full(n, kind, np.int8),
        )

    def told(self) -> Updates | None:
        """Return what others are told, as they receive it."""
        updates = self.model.publish()
        return None if updates is None else Updates.from_bytes(updates.to_bytes())


def exchange(partitions: list[Partition]) -> None:
    """Tell every partition's process what the others learned."""
    told = [(one.number, updates) for one in partitions if (updates := one.told()) is not None]
    for partition in partitions:
        partition.model.world.take_in(told)
        assert not partition.model.world.lacking


def run(
    stream: Stream, workers: int, every: int, *, together: bool = False
) -> tuple[list[Partition], float]:
    """Step through the stream with an exchange of what was learned every so many events."""
    world = World() if together else None
    partitions = [Partition(stream, number, world) for number in range(workers)]
    rank = np.full(len(stream), -1, np.int32)
    for start in range(0, len(stream), every):
        here = np.arange(start, min(len(stream), start + every))
        for number, partition in enumerate(partitions):
            rows = here[stream.users[here] % workers == number]
            rank[rows] = partition.step(rows)
        exchange(partitions)
    return partitions, figures(rank).ndcg


def ranked(world: World, n: int = 20) -> list[str]:
    """Return what a process recommends to a stranger."""
    nobody = np.full(HISTORY, -1, np.int32), np.zeros(HISTORY, np.float32), 0
    return world.core.item_ids(world.core.recommend_for(*nobody, n)[0])


def counts(world: World) -> dict[str, float]:
    """Return every item's count, in units of one epoch."""
    core = world.core
    ids = core.vocabulary.part(0, len(core.vocabulary))
    epoch = core.tables.totals[Total.COUNT_EPOCH] / core.config.half_life_s
    values = core.tables.cells[: len(ids), 0] * np.exp2(epoch)
    return dict(zip(ids, values.tolist(), strict=True))


def without(chunks: Mapping[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: data for name, data in chunks.items() if name not in names}


def test_what_is_contributed_is_what_one_recommender_learns() -> None:
    stream = sessions(n=3000)
    (alone,), _ = run(stream, 1, 500)
    plain = Recommender()
    plain.learn_many(
        [f"u{user}" for user in stream.users.tolist()],
        [f"i{item}" for item in stream.items.tolist()],
        ts=stream.ts,
    )
    ours, theirs = alone.model.all_chunks(), plain.all_chunks()
    assert without(ours, "meta", "position") == without(theirs, "meta")
    mine, its = alone.model.own.tables, plain.tables
    for name in ("evidence", "gains", "lag_hits", "lag_seen", "lag_expected"):
        assert np.allclose(getattr(mine, name), getattr(its, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("together", [True, False])
def test_four_partitions_lose_little_and_learn_from_each_other(together: bool) -> None:
    stream = sessions(n=20_000, items=600)
    _, one = run(stream, 1, 250)
    _, four = run(stream, 4, 250, together=together)
    _, strangers = run(stream, 4, len(stream))
    assert four > 0.99 * one
    assert four > strangers


def test_following_adds_up_to_what_the_contributions_are() -> None:
    stream = sessions(n=4000)
    partitions, _ = run(stream, 2, 400)
    following = partitions[0].model.world
    followed = counts(following)
    sums = following.core.tables.evidence.copy()
    first = ranked(following)
    following.draw_up({1: partitions[1].model.contribution()})
    anew = counts(following)
    assert anew.keys() == followed.keys()
    assert all(anew[item] == pytest.approx(count) for item, count in followed.items())
    assert np.allclose(following.core.tables.evidence, sums)
    assert len(set(ranked(following)) & set(first)) >= 18


def test_corrections_and_refusals_are_followed() -> None:
    stream = sessions(n=600, items=50)
    partitions = [Partition(stream, number) for number in range(2)]
    rows = np.arange(len(stream))
    partitions[0].step(rows)
    partitions[0].judge(rows[::3], CORRECT, 0.25)
    partitions[0].judge(rows[::7], NEGATIVE, 1.0)
    exchange(partitions)
    here, there = (one.model.world.core.tables for one in partitions)
    n = len(partitions[0].model.own.vocabulary)
    assert np.allclose(here.cells[:n, 0], there.cells[:n, 0])
    assert ranked(partitions[0].model.world) == ranked(partitions[1].model.world)


def test_updates_are_learned_once() -> None:
    stream = sessions(n=900)
    partitions = [Partition(stream, number) for number in range(2)]
    partitions[0].step(np.arange(900))
    told = partitions[0].told()
    assert told is not None
    world = partitions[1].model.world
    world.take_in([(0, told)])
    once = counts(world)
    world.take_in([(0, told), (0, told)])
    assert counts(world) == once
    assert partitions[0].told() is None


def test_who_missed_updates_needs_the_whole() -> None:
    stream = sessions(n=900)
    partitions = [Partition(stream, number) for number in range(2)]
    first, second = (partition.model for partition in partitions)
    partitions[0].step(np.arange(300))
    assert first.publish() is not None
    partitions[0].step(np.arange(300, 600))
    later = partitions[0].told()
    assert later is not None
    second.world.take_in([(0, later)])
    assert second.world.lacking
    chunks = first.all_chunks()
    second.world.draw_up({0: contribution_of(chunks, first.own.config)})
    assert counts(second.world) == counts(first.world)
    partitions[0].step(np.arange(600, 900))
    exchange(partitions)
    assert counts(second.world).keys() == counts(first.world).keys()


def test_what_is_known_is_kept_until_the_whole_is_brought() -> None:
    stream = sessions(n=900)
    world = World(awaits=True)
    here, elsewhere, moving = Partition(stream, 0, world), *(Partition(stream, n) for n in (1, 2))
    for number, partition in enumerate((here, elsewhere, moving)):
        partition.step(np.arange(200 * number, 200 * number + 200))
    told = {one.number: one.told() for one in (elsewhere, moving)}
    world.take_in((number, updates) for number, updates in told.items() if updates is not None)
    known = counts(world)
    # One of them moves here, from a checkpoint behind what it had told already.
    moved = Partition(stream, 2, world)
    moved.step(np.arange(400, 500))
    saved = moved.model.all_chunks()
    moved.model.load_chunks(saved)
    assert world.lacking
    here.step(np.arange(600, 700))
    moved.step(np.arange(500, 600))
    assert world.lacking
    assert counts(world).keys() >= known.keys()
    contributions = {1: elsewhere.model.contribution()}
    world.draw_up(contributions)
    anew = World()
    anew.draw_up({0: here.model.contribution(), 2: moved.model.contribution(), **contributions})
    assert counts(world) == counts(anew)


def test_another_life_of_a_partition_is_noticed() -> None:
    stream = sessions(n=900)
    before, after, other = (Partition(stream, number) for number in (0, 0, 1))
    before.step(np.arange(600))
    told = before.told()
    assert told is not None
    other.model.world.take_in([(0, told)])
    after.step(np.arange(600, 700))
    told = after.told()
    assert told is not None
    other.model.world.take_in([(0, told)])
    assert other.model.world.lacking


def test_a_partition_moves_with_what_it_learned() -> None:
    stream = sessions(n=1200)
    here, there = World(), World()
    staying, moving = Partition(stream, 0, here), Partition(stream, 1, here)
    staying.step(np.arange(400))
    moving.step(np.arange(400, 800))
    for one in (staying, moving):
        one.model.publish()
    chunks = {one.number: one.model.all_chunks() for one in (staying, moving)}
    moving.model.leave()
    moved = Partition(stream, 1, there)
    moved.model.load_chunks(chunks[1])
    there.draw_up({0: contribution_of(chunks[0], staying.model.own.config)})
    moved.items, moved.weights, moved.lengths = moving.items, moving.weights, moving.lengths
    moved.step(np.arange(800, 1200))
    told = moved.told()
    assert told is not None
    here.take_in([(1, told)])
    assert not here.lacking
    assert counts(here) == pytest.approx(counts(there))


def test_a_restart_goes_on_to_the_same_bits() -> None:
    stream = sessions(n=2000)
    world = World()
    partitions = [Partition(stream, number, world) for number in range(2)]
    for number, partition in enumerate(partitions):
        partition.step(np.flatnonzero(stream.users[:1000] % 2 == number))
    saved = [partition.model.all_chunks() for partition in partitions]
    world.draw_up({})
    again = World()
    restored = [Partition(stream, number, again) for number in range(2)]
    for old, new, chunks in zip(partitions, restored, saved, strict=True):
        new.model.load_chunks(chunks)
        new.items, new.weights = old.items.copy(), old.weights.copy()
        new.lengths, new.examples = old.lengths.copy(), old.examples.copy()
    for number in range(2):
        rows = 1000 + np.flatnonzero(stream.users[1000:] % 2 == number)
        assert partitions[number].step(rows) == restored[number].step(rows)
    for old, new in zip(partitions, restored, strict=True):
        assert old.model.all_chunks() == new.model.all_chunks()


@pytest.mark.parametrize("missing", ["ids/000000", "segments/000"])
def test_chunks_that_are_not_whole_are_refused(missing: str) -> None:
    model = Recommender()
    model.learn_many(["a"] * 40, [f"i{x}" for x in range(40)])
    chunks = model.all_chunks()
    with pytest.raises(SnapshotError):
        contribution_of(without(chunks, missing), model.config)


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


def told_of_tea(model: SharedRecommender) -> Updates:
    model.step_many(
        np.full((1, HISTORY), -1, np.int32),
        np.zeros((1, HISTORY), np.float32),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        model.item_indexes(["tea"]),
        np.zeros(1, np.int32),
        np.full(1, -1.0),
        np.ones(1),
        np.full(1, 1.6e9),
        np.zeros(1, np.int8),
    )
    updates = model.publish()
    assert updates is not None
    return updates


def test_updates_of_an_earlier_program_are_of_short_histories() -> None:
    updates = told_of_tea(SharedRecommender())
    head, arrays = unpack(updates.to_bytes())
    del arrays["long"]
    read = Updates.from_bytes(pack(head, arrays))
    assert read.rows.long.tolist() == [0]
    assert read.rows.item.tolist() == updates.rows.item.tolist()


def test_updates_of_an_earlier_program_tell_nothing_of_borrowing() -> None:
    world = World()
    head, arrays = unpack(told_of_tea(SharedRecommender()).to_bytes())
    del arrays["borrowed"]
    arrays["fresh_sums"] = np.ones(8)
    world.take_in([(0, Updates.from_bytes(pack(head, arrays)))])
    assert not world.core.tables.borrowed.any()
    assert world.core.n_items == 1


def test_updates_of_a_later_program_are_refused_and_left_out() -> None:
    head, arrays = unpack(told_of_tea(SharedRecommender()).to_bytes())
    data = pack({**head, "format": head["format"] + 1}, arrays)
    with pytest.raises(NewerSnapshotError, match="upgrade the program"):
        Updates.from_bytes(data)
    peers = Peers(Config())
    peers.take_in([SharedChunk(1, update_chunk(1), 1, data)])
    assert peers.world.core.n_items == 0
    peers.take_in([SharedChunk(1, update_chunk(1), 2, pack(head, arrays))])
    assert peers.world.core.n_items == 1


def test_news_are_updates_that_nobody_here_was_given() -> None:
    data = told_of_tea(SharedRecommender()).to_bytes()
    told = SharedChunk(1, update_chunk(1), 1, data)
    peers = Peers(Config())
    assert peers.is_news([SharedChunk(1, "share/labels/stats", 1, b""), told])
    peers.take_in([told])
    assert not peers.is_news([told, SharedChunk(1, "share/labels/stats", 2, b"")])
    assert peers.is_news([told, told._replace(version=2)])
    assert peers.is_news([told._replace(partition=2)])
