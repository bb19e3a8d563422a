"""The recommender as it is configured: which experts run, also over what others learned."""

from __future__ import annotations

import pytest

from bench.recommender_worlds import sessions
from models.recommender import EXPERTS, Config, Recommender
from stream.assembly import pipeline_spec
from stream.config import Settings


def test_all_experts_run_unless_told_otherwise() -> None:
    assert pipeline_spec(Settings(), partitions=1).recommender.config.experts == EXPERTS
    plain = Settings(recommender={"experts": ["near", "fresh"]})
    assert pipeline_spec(plain, partitions=1).recommender.config.experts == ("near", "fresh")


@pytest.mark.parametrize(("experts", "word"), [([], "at least 1"), (["crystal ball"], "near, far")])
def test_no_experts_and_unknown_ones_are_refused(experts: list[str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Settings(recommender={"experts": experts})


@pytest.mark.parametrize("experts", [("near",), ("far",), ("near", "fresh"), ("near", "far")])
def test_what_all_learned_is_taken_up_by_fewer_and_back(experts: tuple[str, ...]) -> None:
    stream = sessions(n=3_000, items=400)
    users = [f"u{user}" for user in stream.users.tolist()]
    items = [f"i{item}" for item in stream.items.tolist()]
    whole = Recommender()
    whole.learn_many(users[:2_000], items[:2_000], ts=stream.ts[:2_000])
    fewer = Recommender(Config(experts=experts))
    fewer.load_chunks(whole.all_chunks())
    before = fewer.all_chunks()
    first = fewer.recommend("nobody", 10)
    assert bool(first) == ("fresh" in experts)
    assert fewer.all_chunks() == before
    rank = fewer.learn_many(users[2_000:], items[2_000:], ts=stream.ts[2_000:]).rank
    assert ((rank >= 0) & (rank < 10)).mean() > 0.2
    again = Recommender()
    again.load_chunks(fewer.all_chunks())
    assert again.n_items == fewer.n_items
    again.learn_many(users[:1_000], items[:1_000], ts=stream.ts[-1_000:])
    copy = Recommender()
    copy.load_chunks(again.all_chunks())
    assert copy.all_chunks() == again.all_chunks()
    assert len({item for item, _ in again.recommend("nobody", 10)}) == 10
