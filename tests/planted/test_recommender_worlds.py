"""In worlds of known kinds the recommender finds what there is, and trusts the right expert."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.recommender_peers import figures, popularity
from bench.recommender_worlds import WORLDS, Stream, habits, long_histories, sessions
from models.recommender import Config, Recommender
from models.recommender.config import EXPERTS


def ranks(stream: Stream, config: Config | None = None) -> NDArray[np.int32]:
    model = Recommender(config)
    return model.learn_many(
        [f"u{user}" for user in stream.users.tolist()],
        [f"i{item}" for item in stream.items.tolist()],
        ts=stream.ts,
    ).rank


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_the_whole_is_no_worse_than_its_best_expert(world: str) -> None:
    stream = WORLDS[world](n=20_000)
    whole = figures(ranks(stream)).ndcg
    alone = {x: figures(ranks(stream, Config(experts=(x,)))).ndcg for x in EXPERTS}
    assert whole >= 0.99 * max(alone.values()), alone


@pytest.mark.parametrize("world", ["sessions", "long histories", "habits"])
def test_it_beats_popularity_where_there_is_more_to_know(world: str) -> None:
    stream = WORLDS[world](n=15_000)
    assert figures(ranks(stream)).ndcg > 1.3 * figures(popularity(stream)).ndcg


def test_nothing_is_repeated_where_nobody_repeats() -> None:
    stream = long_histories(n=10_000)
    model = Recommender()
    users = [f"u{user}" for user in stream.users.tolist()]
    model.learn_many(users, [f"i{item}" for item in stream.items.tolist()], ts=stream.ts)
    for user in users[-20:]:
        items, _, length = model.histories.find(user)
        own = set(model.item_ids(items[:length]))
        assert not own & {item for item, _ in model.recommend(user, 10)}


def test_own_things_come_first_where_people_have_habits() -> None:
    stream = habits(n=20_000)
    model = Recommender()
    users = [f"u{user}" for user in stream.users.tolist()]
    model.learn_many(users, [f"i{item}" for item in stream.items.tolist()], ts=stream.ts)
    found = []
    for user in users[-50:]:
        items, _, length = model.histories.find(user)
        own = set(model.item_ids(items[:length]))
        found.append(len(own & {item for item, _ in model.recommend(user, 5)}))
    assert np.mean(found) > 4.0


def test_it_follows_a_world_that_is_turned_upside_down() -> None:
    first, second = sessions(n=12_000, seed=1), sessions(n=12_000, seed=2)
    # The same items, in other company.
    other = np.random.default_rng(5).permutation(2_000).astype(np.int32)
    stream = Stream(
        "turned",
        np.concatenate([first.users, second.users + first.users.max() + 1]).astype(np.int32),
        np.concatenate([first.items, other[second.items]]),
        np.concatenate([first.ts, second.ts + 31 * 86_400.0]),
    )
    alone = figures(ranks(Stream("alone", second.users, other[second.items], second.ts)))
    late = slice(18_000, None)
    after = figures(ranks(stream)[late])
    fresh_start = figures(
        ranks(Stream("alone", second.users, other[second.items], second.ts))[6_000:]
    )
    assert after.ndcg > 0.9 * fresh_start.ndcg
    assert after.ndcg > 0.9 * alone.ndcg


def test_weights_of_probability_save_what_false_clicks_cost() -> None:
    stream = sessions(n=20_000)
    rng = np.random.default_rng(0)
    n = len(stream)
    false = rng.random(n) < 0.3
    items = np.where(false, rng.integers(0, 2_000, n), stream.items).astype(np.int32)
    # How sure somebody is that a click is true: right four times in five.
    weight = np.where(rng.random(n) < 0.8, ~false, false) * 0.6 + 0.2
    users = [f"u{user}" for user in stream.users.tolist()]
    names = [f"i{item}" for item in items.tolist()]
    hits = {}
    known = np.where(false, 0.0, 1.0)
    for name, weights in (("believed", np.ones(n)), ("weighted", weight), ("known", known)):
        rank = Recommender().learn_many(users, names, weights.tolist(), stream.ts).rank
        hits[name] = figures(rank[~false]).hit
    assert hits["weighted"] > hits["believed"] + 0.25 * (hits["known"] - hits["believed"])


def test_the_scale_of_weights_is_nothing_to_it() -> None:
    stream = sessions(n=15_000)
    users = [f"u{user}" for user in stream.users.tolist()]
    names = [f"i{item}" for item in stream.items.tolist()]
    sure, half = (
        figures(Recommender().learn_many(users, names, np.full(15_000, w), stream.ts).rank)
        for w in (1.0, 0.5)
    )
    assert half.ndcg == pytest.approx(sure.ndcg, rel=0.01)
