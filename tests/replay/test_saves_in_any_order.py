"""Changes, saves, empty, failed and repeated ones, and restarts in any order: nothing is lost.

What is taken up from the store must be what stood there when the last save was made, and what goes
on from it must end where a run ends that was never disturbed.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from models.recommender import ENGAGE, HISTORY, NEGATIVE, Recommender
from models.recommender.journal import MAX_SEGMENTS, Journal
from models.rewards import EXPOSED, FEATURES, HEAD_STATE, HeadConfig, RewardHead
from stream.events import CONTROL, DECISIONS, EVENTS, GOLD
from stream.pipeline import PartitionPipeline
from stream.records import RecordBatch
from stream.runner import PartitionRunner
from stream.state import Checkpoint, Epoch, StoreError
from stream.stores.memory import MemoryStore
from tests.replay.streams import decision_lines, gold_lines, random_lines
from tests.replay.test_exactness import EPOCH, batches, small_spec, stored


class Unreliable(MemoryStore):
    """A store of which a save may fail, before or after it was written."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.fails = False

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        """Write the checkpoint, or not, and tell nobody."""
        if not self.fails:
            super().save(checkpoint, epoch)
            return
        if self._rng.random() < 0.5:
            super().save(checkpoint, epoch)
        raise StoreError("the connection died")


def shuffled_together(rng: random.Random, *topics: list[RecordBatch]) -> list[RecordBatch]:
    """Return the batches of several topics, each topic's own in order."""
    waiting = [list(reversed(each)) for each in topics]
    merged = []
    while any(waiting):
        merged.append(rng.choice([each for each in waiting if each]).pop())
    return merged


def orders(n: int) -> list[bytes]:
    """Return orders that switch functions off and on again."""
    return [
        b'{"kind":"lf","name":"%s","enabled":%s,"ts":%d,"who":"ann","why":"a test"}'
        % (name, b"true" if number % 2 else b"false", 1_700_000_000 + number)
        for number in range(n)
        for name in (b"clicked", b"purchased")
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_partition(seed: int) -> None:
    rng = random.Random(seed)
    spec = small_spec(worker={"cached_users": 6})
    lines = random_lines(seed, 700, users=25)
    topics = {
        EVENTS: lines,
        GOLD: gold_lines(seed, lines, 50),
        DECISIONS: decision_lines(seed, lines, 0.3),
        CONTROL: orders(5),
    }
    parts = shuffled_together(
        rng,
        *(
            batches(of, rng.sample(range(1, len(of)), len(of) // 12), topic)
            for topic, of in topics.items()
        ),
    )
    undisturbed = MemoryStore()
    runner = PartitionRunner(PartitionPipeline(spec, 0), undisturbed, 0, EPOCH)
    for part in parts:
        runner.run(part)
    runner.checkpoint()

    store = Unreliable(rng)
    pipeline = PartitionPipeline(spec, 0)
    runner = PartitionRunner(pipeline, store, 0, EPOCH)
    position, failed = 0, False
    while position < len(parts) or failed:
        what = rng.random()
        if what < 0.55 and position < len(parts):
            runner.run(parts[position])
            position += 1
        elif what < 0.9:
            store.fails = rng.random() < 0.3
            try:
                # Twice: the second time, nothing has changed, or the first has failed.
                runner.checkpoint()
                runner.checkpoint()
                failed = False
            except StoreError:
                failed = True
            store.fails = False
        else:
            pipeline = PartitionPipeline(spec, 0)
            runner = PartitionRunner(pipeline, store, 0, EPOCH)
            done = pipeline.next_offsets
            position = next(
                (n for n, part in enumerate(parts) if part.offsets[-1] >= done.get(part.topic, 0)),
                len(parts),
            )
            failed = False
    runner.checkpoint()
    runner.checkpoint()
    assert stored(store) == stored(undisturbed)


def test_where_rows_of_a_recommender_lie() -> None:
    rng = np.random.default_rng(5)
    journal = Journal()
    versions = np.zeros(0, np.int64)
    segments: dict[int, tuple[int, dict[int, int]]] = {}
    dirty = np.zeros(0, np.bool_)
    for save in range(6 * MAX_SEGMENTS):
        if save % 5 == 0:
            fresh = int(rng.integers(0, 40))
            versions = np.append(versions, np.ones(fresh, np.int64))
            dirty = np.append(dirty, np.ones(fresh, np.bool_))
        if len(versions) and rng.random() < 0.7:
            changed = rng.choice(len(versions), int(rng.integers(1, 9)))
            versions[changed] += 1
            dirty[changed] = True
        plan = journal.plan(np.flatnonzero(dirty), len(versions))
        if rng.random() < 0.2:
            continue  # Looked at, and not saved: more is dirty when it is.
        if len(plan.rows):
            for slot in plan.freed:
                del segments[slot]
            held = {row: int(versions[row]) for row in plan.rows.tolist()}
            segments[plan.slot] = journal.sequence, held
            journal.commit(plan)
        dirty[:] = False
        assert journal.table() == {slot: number for slot, (number, _) in segments.items()}
        assert len(segments) <= MAX_SEGMENTS
        newest: dict[int, int] = {}
        for _, rows in sorted(segments.values(), key=lambda segment: segment[0]):
            newest |= rows
        assert newest == dict(enumerate(versions.tolist()))
        if rng.random() < 0.02:
            journal = read_again(segments)


def read_again(segments: dict[int, tuple[int, dict[int, int]]]) -> Journal:
    """Return the journal of what is stored."""
    journal = Journal()
    for slot, (number, rows) in sorted(segments.items(), key=lambda segment: segment[1][0]):
        journal.note(slot, number, np.array(sorted(rows), np.int64))
    return journal


class Histories:
    """Steps a recommender with rows of its own drawing."""

    def __init__(self, rng: np.random.Generator, users: int = 300) -> None:
        self._rng = rng
        self.items: NDArray[np.int32] = np.full((users, HISTORY), -1, np.int32)
        self.weights: NDArray[np.float32] = np.zeros((users, HISTORY), np.float32)
        self.lengths: NDArray[np.int32] = np.zeros(users, np.int32)
        self.ts = 1.6e9

    def resume(
        self, items: NDArray[np.int32], weights: NDArray[np.float32], lengths: NDArray[np.int32]
    ) -> None:
        """Take up what people had when it was saved."""
        self.items, self.weights, self.lengths = items.copy(), weights.copy(), lengths.copy()

    def step(self, model: Recommender, n: int, learn: bool) -> None:
        """Predict, and perhaps learn, some rows: of a few items, and of ones never seen before."""
        rng = self._rng
        names = [f"i{x}" for x in rng.integers(0, 10, n).tolist()]
        # Rows that are not touched again keep segments alive, until there are as many as may be.
        names.append(f"new{self.ts}")
        n += 1
        self.ts += float(rng.exponential(3_600.0))
        model.step_many(
            self.items,
            self.weights,
            self.lengths,
            rng.integers(0, len(self.lengths), n).astype(np.int32),
            model.item_indexes(names),
            np.arange(n, dtype=np.int32),
            np.full(n, -1.0),
            rng.random(n),
            np.full(n, self.ts),
            rng.choice([ENGAGE, NEGATIVE], n, p=[0.8, 0.2]).astype(np.int8),
            learn,
        )


@pytest.mark.parametrize("seed", range(3))
def test_a_recommender(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, stream = Recommender(), Histories(rng)
    stored: dict[str, bytes | None] = {}
    unsaved: list[dict[str, bytes | None]] = []
    expected = model.all_chunks()
    histories = stream.items.copy(), stream.weights.copy(), stream.lengths.copy()
    for _ in range(420):
        if rng.random() < 0.8:
            stream.step(model, int(rng.integers(0, 4)), bool(rng.random() < 0.9))
        if rng.random() < 0.2:
            model.dirty_chunks()  # Whoever only looks takes nothing.
        if rng.random() < 0.9:
            unsaved.append(model.dirty_chunks())
            model.mark_clean()
            if rng.random() < 0.8:
                # What failed is repeated before what came after it.
                for changed in unsaved:
                    stored |= changed
                unsaved = []
                expected = model.all_chunks()
                histories = stream.items.copy(), stream.weights.copy(), stream.lengths.copy()
        if stored and rng.random() < 0.1:
            again = Recommender()
            again.load_chunks(there(stored))
            assert again.all_chunks() == expected
            assert again.dirty_chunks() == {}
            if rng.random() < 0.5:
                model, unsaved = again, []
                stream.resume(*histories)


def there(stored: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: data for name, data in stored.items() if data is not None}


@pytest.mark.parametrize("seed", range(3))
def test_a_reward_head(seed: int) -> None:
    rng = np.random.default_rng(seed)
    configs = [HeadConfig(window_s=86_400.0, bits=bits) for bits in (12, 13)]
    head = RewardHead(configs[0])
    stored: dict[str, bytes] = {}
    unsaved: list[dict[str, bytes]] = []
    # What a start with each configuration finds in the store.
    nothing = {config: RewardHead(config).to_bytes() for config in configs}
    expected = dict(nothing)
    for save in range(300):
        # Now a few rows, now more than are written as changes, and at times none.
        learn_some(head, rng, int(rng.choice([0, 1, 5, 400], p=[0.2, 0.4, 0.35, 0.05])), save)
        unsaved.append(head.dirty_chunks())
        if rng.random() < 0.8:
            for changed in unsaved:
                stored |= changed
            unsaved = []
            expected = {**nothing, head.config: head.to_bytes()}
        if rng.random() < 0.1:
            # Started again: now and then configured otherwise, or after it was given up.
            if rng.random() < 0.2:
                stored.pop(HEAD_STATE, None)
                expected = dict(nothing)
            head, unsaved = RewardHead(configs[int(rng.random() < 0.2)]), []
            head.load_chunks(stored)
            assert head.to_bytes() == expected[head.config]


def learn_some(head: RewardHead, rng: np.random.Generator, n: int, save: int) -> None:
    rows = rng.integers(0, len(head.table), (n, FEATURES)).astype(np.uint32)
    head.learn_many(rows, np.full(n, 1.7e9 + save), np.full(n, EXPOSED))
