"""Whoever has no history gets what people of the same segment choose, where that says something."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.recommender_peers import figures
from bench.recommender_worlds import sessions
from models.recommender import HISTORY, Recommender, SharedRecommender, Updates
from models.recommender.config import Config
from models.recommender.slate import REASONS, candidates
from models.recommender.vocabulary import MOST_SEGMENTS, SEGMENT_MARK
from stream.serving.catalogue import ServedCatalogue
from stream.serving.model import NOBODY, merged
from stream.serving.recommend import Question, recommend

SEGMENTS = ("young", "old", "trade")


class Town:
    """Visitors of three segments, each with a street of its own, who choose two things each."""

    def __init__(self, visitors: int = 3_000, *, planted: bool = True) -> None:
        rng = np.random.default_rng(3)
        kind = np.repeat(rng.integers(0, len(SEGMENTS), visitors), 2)
        appeal = 1.0 / (1.0 + np.arange(40.0))
        shop = rng.choice(40, 2 * visitors, p=appeal / appeal.sum())
        street = kind if planted else rng.integers(0, len(SEGMENTS), 2 * visitors)
        self.users = [f"u{visit // 2}" for visit in range(2 * visitors)]
        self.items = [f"{street}-{shop}" for street, shop in zip(street, shop, strict=True)]
        self.segments = [SEGMENTS[one] for one in kind]
        self.ts = 1.6e9 + 60.0 * np.arange(2.0 * visitors)

    def ranks(self, *, told: bool) -> NDArray[np.int32]:
        segments = self.segments if told else None
        return Recommender().learn_many(self.users, self.items, ts=self.ts, segments=segments).rank

    def taught(self) -> Recommender:
        model = Recommender()
        model.learn_many(self.users, self.items, ts=self.ts, segments=self.segments)
        return model


def test_strangers_get_what_their_segment_chooses() -> None:
    town = Town()
    with_segments, without = town.ranks(told=True), town.ranks(told=False)
    first = np.arange(2_000, len(town.users), 2)
    assert figures(with_segments[first]).ndcg > 1.5 * figures(without[first]).ndcg
    model = town.taught()
    for number, segment in enumerate(SEGMENTS):
        best = [item for item, _ in model.recommend("stranger", 5, segment=segment)]
        assert all(item.startswith(f"{number}-") for item in best)
    everybody = model.recommend("stranger", 5)
    assert model.recommend("stranger", 5, segment="never heard of") == everybody


@pytest.mark.parametrize("world", ["town", "sessions"])
def test_segments_that_say_nothing_do_no_harm(world: str) -> None:
    if world == "town":
        town = Town(planted=False)
        users, items, segments, ts = town.users, town.items, town.segments, town.ts
    else:
        stream = sessions(n=20_000)
        users = [f"u{user}" for user in stream.users.tolist()]
        items = [f"i{item}" for item in stream.items.tolist()]
        segments, ts = [SEGMENTS[user % 3] for user in stream.users.tolist()], stream.ts
    told = figures(Recommender().learn_many(users, items, ts=ts, segments=segments).rank)
    untold = figures(Recommender().learn_many(users, items, ts=ts).rank)
    assert told.ndcg >= 0.99 * untold.ndcg


@pytest.mark.parametrize("size", [1, 7, 400])
def test_a_split_into_calls_changes_no_bit(size: int) -> None:
    town = Town(500)
    whole, parts = town.taught(), Recommender()
    segments = [None if at % 5 == 0 else town.segments[at] for at in range(1_000)]
    whole = Recommender()
    whole.learn_many(town.users, town.items, ts=town.ts, segments=segments)
    for start in range(0, 1_000, size):
        part = slice(start, start + size)
        parts.learn_many(
            town.users[part], town.items[part], ts=town.ts[part], segments=segments[part]
        )
    assert whole.to_bytes() == parts.to_bytes()


def test_a_segment_is_no_item() -> None:
    town = Town(300)
    model = town.taught()
    assert model.n_items == len(set(town.items))
    for segment in (None, *SEGMENTS):
        found = model.recommend("stranger", 500, segment=segment)
        assert not [item for item, _ in found if item.startswith(SEGMENT_MARK)]


def test_an_item_called_like_a_segments_row_is_refused() -> None:
    model = Recommender()
    with pytest.raises(ValueError, match="must not begin with"):
        model.learn_many(["a", "a"], ["shoe", f"{SEGMENT_MARK}young"])
    assert len(model.vocabulary) == 0


def test_it_comes_back_from_a_snapshot_and_adds_up() -> None:
    town = Town(600)
    model = town.taught()
    again = Recommender.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    merged_twice = Recommender()
    merged_twice.merge(model)
    for segment in SEGMENTS:
        expected = model.recommend("stranger", 10, segment=segment)
        assert again.recommend("stranger", 10, segment=segment) == expected
        found = [item for item, _ in merged_twice.recommend("stranger", 10, segment=segment)]
        assert found == [item for item, _ in expected]


def test_segments_beyond_those_that_are_kept_apart_are_everybody() -> None:
    model = Recommender()
    n = 3 * MOST_SEGMENTS
    names = [f"s{at}" for at in range(n)]
    model.learn_many([f"u{at}" for at in range(n)], ["tea"] * n, segments=names)
    kept = [name for name in names if model.segment_index(name) >= 0]
    assert kept == names[:MOST_SEGMENTS]
    assert model.dropped_items == 0
    assert model.recommend("stranger", 1, segment=names[-1]) == model.recommend("stranger", 1)


def shared_step(model: SharedRecommender, town: Town) -> None:
    n = len(town.users)
    number = {user: at for at, user in enumerate(dict.fromkeys(town.users))}
    items, segment = model.indexes(town.items, town.segments)
    model.step_many(
        np.full((len(number), HISTORY), -1, np.int32),
        np.zeros((len(number), HISTORY), np.float32),
        np.zeros(len(number), np.int32),
        np.array([number[user] for user in town.users], np.int32),
        items,
        np.arange(n, dtype=np.int32),
        np.full(n, -1.0),
        np.ones(n),
        town.ts,
        np.zeros(n, np.int8),
        segment=segment,
    )


def test_other_processes_are_told() -> None:
    town = Town(600)
    here, there = SharedRecommender(None, 0), SharedRecommender(None, 1)
    shared_step(here, town)
    updates = here.publish()
    assert updates is not None
    there.world.take_in([(0, Updates.from_bytes(updates.to_bytes()))])
    anew = SharedRecommender(None, 1)
    anew.world.draw_up({0: here.contribution()})
    nobody = np.full(HISTORY, -1, np.int32), np.zeros(HISTORY, np.float32), 0
    for number, segment in enumerate(SEGMENTS):
        for model in (here, there, anew):
            core = model.world.core
            found, _ = core.recommend_for(*nobody, 5, segment=core.segment_index(segment))
            assert all(item.startswith(f"{number}-") for item in core.item_ids(found))


def test_an_answer_says_that_it_comes_from_the_segment() -> None:
    town = Town(600)
    model = merged({0: town.taught()}, Config(), "1")
    person = NOBODY._replace(segment="old")
    slate = recommend(model, ServedCatalogue(), person, Question("r", k=5))
    assert slate.reasons == ["segment"] * 5
    assert all(item_id.startswith("1-") for item_id in slate.item_ids)
    assert not [name for name in model.popular(10_000) if name.startswith(SEGMENT_MARK)]
    found = candidates(model.core, NOBODY.items, NOBODY.weights, 0, 5)
    assert "segment" not in {REASONS[at] for at in found.reason.tolist()}
