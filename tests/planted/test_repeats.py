"""What people come back to is told by more than how long ago they had it."""

from __future__ import annotations

import numpy as np

from bench.recommender_peers import figures
from bench.recommender_worlds import sessions
from models.recommender import Config, Recommender, SharedRecommender, Updates
from models.recommender.snapshot import META, pack, unpack
from models.recommender.sums import Sums, completed
from models.recommender.tables import RATIOS


def visits(people: int = 1_500, seed: int = 2) -> tuple[list[str], list[str]]:
    """Return people who keep coming back to one rare thing of their own, among what all have."""
    rng = np.random.default_rng(seed)
    users: list[str] = []
    items: list[str] = []
    for person in range(people):
        own = f"own{rng.integers(400)}"
        fashion = rng.permutation(30)[:6].tolist()
        last = ""
        for _ in range(10):
            if last != own and rng.random() < 0.5:
                last = own
            elif fashion:
                last = f"all{fashion.pop()}"
            else:
                continue
            users.append(f"u{person}")
            items.append(last)
    return users, items


def test_what_nobody_comes_back_to_is_told_from_what_everybody_does() -> None:
    users, items = visits()
    model = Recommender()
    model.learn_many(users, items, ts=1.6e9 + np.arange(float(len(users))))
    model.learn_many(["x"] * 3, ["own7", "all3", "all4"])
    scores = dict(model.recommend("x", 400))
    # The latest but one would be the likelier one by its place alone.
    assert scores["own7"] > 2.0 * scores["all3"]


def test_items_with_few_neighbours_are_found_through_them() -> None:
    stream = sessions(n=20_000, items=6_000, seed=4)
    users = [f"u{user}" for user in stream.users.tolist()]
    items = [f"i{item}" for item in stream.items.tolist()]
    with_them, without = (
        figures(Recommender(Config(indirect_part=part)).learn_many(users, items, ts=stream.ts).rank)
        for part in (Config().indirect_part, 0.0)
    )
    assert with_them.hit > 1.01 * without.hit
    assert with_them.ndcg > without.ndcg


def test_a_snapshot_without_these_sums_is_read() -> None:
    users, items = visits(50)
    model = Recommender()
    model.learn_many(users, items)
    chunks = model.all_chunks()
    head, arrays = unpack(chunks[META])
    del arrays["again"]
    chunks[META] = pack(head, arrays)
    other = Recommender()
    other.load_chunks(chunks)
    assert other.n_items == model.n_items
    assert not other.tables.again.any()
    other.learn_many(users, items)
    assert other.tables.again.any()


def test_updates_without_these_sums_are_read() -> None:
    here, there = SharedRecommender(None, 0), SharedRecommender(None, 1)
    users, items = visits(50)
    number = {user: at for at, user in enumerate(dict.fromkeys(users))}
    n = len(users)
    here.step_many(
        np.full((len(number), 16), -1, np.int32),
        np.zeros((len(number), 16), np.float32),
        np.zeros(len(number), np.int32),
        np.array([number[user] for user in users], np.int32),
        here.item_indexes(items),
        np.arange(n, dtype=np.int32),
        np.full(n, -1.0),
        np.ones(n),
        1.6e9 + np.arange(float(n)),
        np.zeros(n, np.int8),
    )
    updates = here.publish()
    assert updates is not None
    short = updates.sums._replace(slow=updates.sums.slow[: -2 * RATIOS])
    old = Updates(
        updates.since, updates.start, updates.stop, updates.known, updates.ids, updates.rows, short
    )
    there.world.take_in([(0, Updates.from_bytes(old.to_bytes()))])
    found = Sums.of(there.world.core.tables).slow
    assert np.allclose(found[: -2 * RATIOS], updates.sums.slow[: -2 * RATIOS])
    assert not found[-2 * RATIOS :].any()
    assert len(completed(np.zeros(0))) == 0
