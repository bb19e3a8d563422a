"""Items that nobody chose yet: who is like them, and what they borrow."""

import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from models.content import ContentIndex, features
from models.recommender import HISTORY, Recommender, SharedRecommender
from models.recommender.borrowing import Borrowing
from models.recommender.lenders import SLOTS
from models.recommender.world import Contribution


def described(index: ContentIndex, names: dict[str, str]) -> ContentIndex:
    for name, words in names.items():
        index.add(name, {"title": words})
    return index


def taught(model: Recommender, people: int = 30) -> Recommender:
    """Tea is followed by a pot, coffee by a mill."""
    for person in range(people):
        for ts, item in enumerate(("tea", "pot") if person % 2 else ("coffee", "mill")):
            model.learn_one(f"u{person}", item, True, {"ts": 1e9 + person * 60 + ts})
    return model


CATALOGUE = {
    "tea": "tea leaves",
    "pot": "clay vessel",
    "coffee": "coffee beans",
    "mill": "steel grinder",
    "new pot": "clay vessel",
    "new mill": "steel grinder",
}


def asked(model: Recommender, item: str) -> list[str]:
    model.learn_one("somebody", item, True, {"ts": 1e9 + 10_000})
    return [name for name, _ in model.recommend("somebody", 4)]


def test_an_item_that_nobody_chose_is_recommended_where_its_likes_are() -> None:
    model = taught(Recommender())
    Borrowing(described(ContentIndex(), CATALOGUE)).catch_up(model)
    found = asked(model, "tea")
    assert found[0] == "pot"
    assert found.index("new pot") < 3
    assert "new pot" in found
    assert "new mill" not in found[: found.index("new pot")]


def test_without_a_catalogue_nothing_changes_and_with_one_only_new_items_do() -> None:
    plain, lent = taught(Recommender()), taught(Recommender())
    Borrowing(described(ContentIndex(), {"other": "thing apart"})).catch_up(lent)
    assert asked(plain, "tea") == asked(lent, "tea")


def test_a_first_choice_is_ranked_and_the_same_in_any_split() -> None:
    ranks = []
    for size in (1, 7):
        model = taught(Recommender())
        borrowing = Borrowing(described(ContentIndex(), CATALOGUE))
        users = ["a", "a", "b", "b", "b", "c", "c"]
        items = ["tea", "new pot", "coffee", "new mill", "mill", "tea", "new pot"]
        found: list[int] = []
        for start in range(0, len(users), size):
            borrowing.catch_up(model)
            part = slice(start, start + size)
            ts = [1e9 + 20_000 + at for at in range(len(users))][part]
            found += model.learn_many(users[part], items[part], ts=ts).rank.tolist()
        ranks.append((found, model.to_bytes()))
    assert ranks[0] == ranks[1]
    assert 0 <= ranks[0][0][1] < 5


def test_what_borrowing_is_worth_is_learned() -> None:
    """Where the catalogue misleads, new items soon get nothing."""
    model = taught(Recommender())
    misleading = CATALOGUE | {"new pot": "steel grinder", "new mill": "clay vessel"}
    Borrowing(described(ContentIndex(), misleading)).catch_up(model)
    scores = []
    for person in range(200):
        user = f"w{person}"
        model.learn_one(user, "tea", True, {"ts": 1e9 + 30_000 + person * 10})
        scores.append(model.predict_one(user, "new mill"))
        model.learn_one(user, "pot", True, {"ts": 1e9 + 30_001 + person * 10})
    assert scores[0] > 0.0
    assert scores[-1] < 0.2 * scores[0]


def test_items_with_a_history_of_their_own_borrow_no_longer() -> None:
    model = taught(Recommender())
    Borrowing(described(ContentIndex(), CATALOGUE)).catch_up(model)
    index = model.item_index("new pot")
    assert model.tables.lending.slot[index] >= 0
    for person in range(40):
        user = f"v{person}"
        model.learn_one(user, "tea", True, {"ts": 1e9 + 30_000 + person * 10})
        model.learn_one(user, "new pot", True, {"ts": 1e9 + 30_001 + person * 10})
    assert model.tables.lending.slot[index] == -1


def test_a_checkpoint_keeps_what_borrowing_is_worth_and_the_catalogue_restores_the_rest() -> None:
    model = taught(Recommender())
    content = described(ContentIndex(), CATALOGUE)
    Borrowing(content).catch_up(model)
    asked(model, "tea")
    again = Recommender.from_bytes(model.to_bytes())
    Borrowing(content).catch_up(again)
    assert again.recommend("somebody", 6) == model.recommend("somebody", 6)


def test_shared_recommenders_lend_in_what_they_predict_from() -> None:
    content = described(ContentIndex(), CATALOGUE)
    shared = SharedRecommender()
    borrowing = Borrowing(content)
    borrowing.catch_up(shared.predicting)
    # Whoever missed something draws the world up anew: the lenders must be told again.
    shared.world.draw_up({1: Contribution(taught(Recommender()), 1e9, 60)})
    borrowing.catch_up(shared.predicting)
    core = shared.predicting
    items = np.full(HISTORY, -1, np.int32)
    items[0] = core.item_indexes(["tea"])[0]
    weights = np.ones(HISTORY, np.float32)
    found, _ = core.recommend_for(items, weights, 1, 5)
    assert "new pot" in core.item_ids(found)
    assert len(shared.own.vocabulary) == 0


def test_the_newest_items_push_the_oldest_out_of_bounded_room() -> None:
    model = Recommender()
    content = ContentIndex(neighbours=4)
    borrowing = Borrowing(content)
    for start in range(0, SLOTS + 100, 50):
        described(content, {f"i{n}": f"word{n % 40}" for n in range(start, start + 50)})
        borrowing.catch_up(model)
    lending = model.tables.lending
    held = lending.item[lending.item >= 0]
    assert len(set(held.tolist())) == len(held) == SLOTS
    # Every edge stands in the list of its lender, once.
    edges = 0
    for lender in np.flatnonzero(lending.head >= 0).tolist():
        edge = int(lending.head[lender])
        while edge >= 0:
            assert lending.lender.ravel()[edge] == lender
            edges += 1
            edge = int(lending.after[edge])
    assert edges == int((lending.lender >= 0).sum())


@pytest.mark.parametrize("entry", [{}, {"title": None}, {"price": 0.0}, {"attributes": {"a": 0}}])
def test_an_entry_that_says_nothing_has_no_features_and_no_neighbours(
    entry: dict[str, object],
) -> None:
    assert features(entry) == []
    index = described(ContentIndex(), {"a": "word"})
    index.add("b", entry)
    assert index.neighbours("b") == []


def test_items_may_be_taken_in_while_another_thread_tells_of_them() -> None:
    names = {f"i{n}": f"word{n % 40}" for n in range(2_000)}
    content, model = ContentIndex(neighbours=4), Recommender()
    borrowing = Borrowing(content)
    feed = threading.Thread(target=described, args=(content, names))
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        feed.start()
        while feed.is_alive():
            borrowing.catch_up(model)
    finally:
        feed.join()
        sys.setswitchinterval(usual)
    borrowing.catch_up(model)
    whole = Recommender()
    Borrowing(content).catch_up(whole)

    def lenders(one: Recommender) -> NDArray[np.int32]:
        lending = one.tables.lending
        return lending.lender[lending.slot[one.item_indexes([*names])]]

    assert np.array_equal(lenders(model), lenders(whole))
