"""The same records give the same bytes: however cut, repeated, interrupted or resumed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from models import Recommender
from stream.assembly import pipeline_spec
from stream.checkpointing import RECOMMENDER_CHUNKS
from stream.config import Settings
from stream.events import DECISIONS, EVENTS, GOLD
from stream.learning import Learning
from stream.pipeline import PartitionPipeline, PipelineSpec
from stream.records import Outgoing, RecordBatch
from stream.rewards import Rewards
from stream.rows import Rows
from stream.runner import PartitionRunner
from stream.state import Epoch
from stream.stores.memory import MemoryStore
from tests.replay.streams import DAY_S, START_TS, decision_lines, gold_lines, random_lines

NOW = START_TS + 1000 * DAY_S
EPOCH = Epoch(1, "one")


def small_spec(**sections: Any) -> PipelineSpec:
    join = {"max_open_examples_per_user": 8, "lateness_horizon_s": DAY_S, "early_after_s": 600.0}
    return pipeline_spec(
        Settings(**{"join": join, "events": {"dedup_horizon_s": 3 * DAY_S}, **sections}),
        partitions=1,
    )


def batches(lines: Sequence[bytes], cuts: Iterable[int], topic: str = EVENTS) -> list[RecordBatch]:
    edges = [0, *sorted(set(cuts)), len(lines)]
    return [
        RecordBatch(topic, 0, range(a, b), lines[a:b], [NOW] * (b - a))
        for a, b in pairwise(edges)
        if b > a
    ]


def run(
    spec: PipelineSpec,
    parts: Iterable[RecordBatch],
    *,
    save_every: int = 1,
    store: MemoryStore | None = None,
    restart: bool = False,
) -> tuple[list[Outgoing], dict[str, object]]:
    """Run the batches; return what was published, and the stored state."""
    store = store or MemoryStore()
    runner = PartitionRunner(PartitionPipeline(spec, 0), store, 0, EPOCH)
    published: list[Outgoing] = []
    for number, part in enumerate(parts, 1):
        published += runner.run(part).outgoing()
        if number % save_every == 0:
            runner.checkpoint()
            if restart:
                runner = PartitionRunner(PartitionPipeline(spec, 0), store, 0, EPOCH)
    runner.checkpoint()
    return published, stored(store)


def stored(store: MemoryStore) -> dict[str, object]:
    head = store.claim(0, EPOCH)
    keys = [key for key, _ in head.timers]
    # The recommender's rows and the reward heads' are written as they change: what they add up to
    # is compared.
    learned = {k: v for k, v in head.chunks.items() if k.startswith(RECOMMENDER_CHUNKS)}
    recommender = Recommender()
    if learned:
        recommender.load_chunks({k.removeprefix(RECOMMENDER_CHUNKS): v for k, v in learned.items()})
    rewards = Rewards(small_spec().outcomes)
    rewards.load(head.chunks)
    return {
        "offsets": dict(head.next_offsets),
        "timers": sorted(head.timers),
        "users": store.load_users(0, keys),
        "chunks": {
            k: v
            for k, v in head.chunks.items()
            if k not in learned and not k.startswith("own/rewards/")
        },
        "rewards": [
            [reward.to_bytes() for reward in heads.values()]
            for heads in (rewards.heads, rewards.amounts)
        ],
        "recommender": recommender.all_chunks(),
    }


@pytest.mark.parametrize("seed", range(4))
def test_any_cut_of_a_stream_gives_the_same_effects_and_state(seed: int) -> None:
    lines = random_lines(seed, 1500)
    whole = run(small_spec(), batches(lines, []))
    rng = random.Random(seed)
    for n_cuts in (1, 7, 150, 1499):
        cuts = rng.sample(range(1, len(lines)), n_cuts)
        assert run(small_spec(), batches(lines, cuts)) == whole


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_wait_are_learned_before_those_that_do_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few are enough that batches of every size come while others wait.
    monkeypatch.setattr("stream.learning._HELD", 12)
    taken: list[bool] = []
    make_way = Learning.make_way

    def watched(learning: Learning, rows: Rows, learn: bool) -> bool:
        taken.append(make_way(learning, rows, learn))
        return taken[-1]

    monkeypatch.setattr(Learning, "make_way", watched)
    lines = random_lines(seed, 1500)
    whole = run(small_spec(), batches(lines, []))
    cuts = random.Random(seed).sample(range(1, len(lines)), 60)
    assert run(small_spec(), batches(lines, cuts), save_every=9) == whole
    assert (False, True) in pairwise(taken)


def test_restarting_after_every_batch_changes_nothing() -> None:
    lines = random_lines(11, 1200)
    whole = run(small_spec(), batches(lines, []))
    again = run(small_spec(), batches(lines, range(1, len(lines), 37)), restart=True)
    assert again == whole


def test_people_who_leave_memory_come_back_as_they_were() -> None:
    lines = random_lines(5, 1500, users=60)
    whole = run(small_spec(), batches(lines, []))
    tight = small_spec(worker={"cached_users": 5})
    assert run(tight, batches(lines, range(1, len(lines), 11))) == whole


@pytest.mark.parametrize("seed", range(3))
def test_forgotten_people_stay_forgotten_however_the_stream_is_cut_and_saved(seed: int) -> None:
    short: dict[str, object] = {
        "join": {"user_horizon_s": DAY_S, "lateness_horizon_s": 3600.0, "early_after_s": 600.0},
        "events": {"dedup_horizon_s": 6 * 3600.0},
    }
    lines = random_lines(seed, 1200, users=50)
    answers = batches(gold_lines(seed, lines, 60), [], GOLD)
    whole = run(small_spec(**short), [*answers, *batches(lines, [])])
    tight = small_spec(**short, worker={"cached_users": 4})
    rng = random.Random(seed)
    for save_every in (1, 3, 1000):
        cuts = rng.sample(range(1, len(lines)), 120)
        parts = [*answers, *batches(lines, cuts)]
        assert run(tight, parts, save_every=save_every) == whole
    assert run(tight, parts, restart=True) == whole


def test_decisions_are_believed_however_the_stream_is_cut_and_saved() -> None:
    lines = random_lines(3, 400, users=20)
    decisions = batches(decision_lines(3, lines, 0.5), [], DECISIONS)
    whole = run(small_spec(), [*decisions, *batches(lines, [])])
    assert whole != run(small_spec(), batches(lines, []))
    rng = random.Random(3)
    tight = small_spec(worker={"cached_users": 4})
    for save_every, restart in ((5, False), (1, True)):
        parts = [*decisions, *batches(lines, rng.sample(range(1, len(lines)), 15))]
        assert run(tight, parts, save_every=save_every, restart=restart) == whole


def test_a_crash_before_the_checkpoint_repeats_the_same_effects() -> None:
    lines = random_lines(7, 900)
    parts = batches(lines, range(1, len(lines), 50))
    whole, state = run(small_spec(), parts)
    store = MemoryStore()
    runner = PartitionRunner(PartitionPipeline(small_spec(), 0), store, 0, EPOCH)
    published: list[Outgoing] = []
    rng = random.Random(3)
    position = saved = 0
    while position < len(parts):
        published += runner.run(parts[position]).outgoing()
        position += 1
        if rng.random() < 0.3:
            runner.checkpoint()
            saved = position
        elif rng.random() < 0.4:
            runner = PartitionRunner(PartitionPipeline(small_spec(), 0), store, 0, EPOCH)
            position = saved
    runner.checkpoint()
    assert stored(store) == state
    assert len(published) > len(whole)
    assert set(published) == set(whole)


def test_records_below_the_next_offset_are_skipped() -> None:
    lines = random_lines(2, 400)
    whole = run(small_spec(), batches(lines, []))
    overlapping = [
        RecordBatch(EVENTS, 0, range(a, b), lines[a:b], [NOW] * (b - a))
        for a, b in ((0, 200), (100, 300), (0, 300), (299, len(lines)))
    ]
    assert run(small_spec(), overlapping) == whole


@pytest.mark.parametrize("order", ["each event twice", "the whole file again"])
def test_a_repeated_stream_learns_nothing_twice(order: str) -> None:
    # A person must not be forgotten between the copies: the horizons are longer than the file.
    horizons = {"events": {"dedup_horizon_s": 400 * DAY_S}, "join": {"user_horizon_s": 900 * DAY_S}}
    lines = list(dict.fromkeys(random_lines(9, 800)))
    if order == "each event twice":
        twice = [line for line in lines for _ in range(2)]
    else:
        twice = lines + lines
    once_effects, once_state = run(small_spec(**horizons), batches(lines, []))
    store = MemoryStore()
    pipeline = PartitionPipeline(small_spec(**horizons), 0)
    runner = PartitionRunner(pipeline, store, 0, EPOCH)
    effects = []
    for part in batches(twice, range(1, len(twice), 100)):
        effects += runner.run(part).outgoing()
        runner.checkpoint()
    assert pipeline.counts.duplicates == len(lines)
    assert effects == once_effects
    twice_state = stored(store)
    assert twice_state["users"] == once_state["users"]
    assert twice_state["timers"] == once_state["timers"]
    assert twice_state["recommender"] == once_state["recommender"]
    counted = {"own/clock", "share/counts"}  # the duplicates themselves are counted there
    assert {k: v for k, v in _chunks(twice_state).items() if k not in counted} == {
        k: v for k, v in _chunks(once_state).items() if k not in counted
    }


def _chunks(state: dict[str, object]) -> dict[str, bytes]:
    chunks = state["chunks"]
    assert isinstance(chunks, dict)
    return chunks


def test_gold_is_applied_at_its_event_time_whenever_it_was_read() -> None:
    lines = random_lines(21, 900)
    answers = gold_lines(4, lines, 60)
    early = run(small_spec(), [*batches(answers, [], GOLD), *batches(lines, [])])
    cut = run(
        small_spec(), [*batches(answers, range(1, 60, 7), GOLD), *batches(lines, range(1, 900, 13))]
    )
    assert cut == early
    revised = [record for record in early[0] if b'"reason":"gold"' in record.value]
    assert revised


def test_ticks_close_windows_of_an_idle_partition() -> None:
    spec = small_spec()
    lines = [
        b'{"event_id":"a","type":"impression","ts":1700000000,"user_id":"u","item_id":"i"}',
        b'{"tick":1700001000}',
        b'{"tick":1700009000}',
    ]
    published, _ = run(spec, batches(lines, []))
    stages = [(b'"final"' in record.value, record.value) for record in published]
    assert [final for final, _ in stages] == [False, True]
    pipeline = PartitionPipeline(spec, 0)
    runner = PartitionRunner(pipeline, MemoryStore(), 0, EPOCH)
    runner.run(batches(lines[:1], [])[0])
    assert pipeline.tick(60.0) is None
    tick = pipeline.tick(3_000.0)
    assert tick is not None
    assert tick.value == b'{"tick":1700003000.0}'
