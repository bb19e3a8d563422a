"""From a question to a slate, without a service around it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import orjson
import pytest

from models.content import ContentIndex
from models.diversity import intra_list_diversity, marginal_relevance, overlaps
from models.recommender import HISTORY, Config, Recommender
from stream.events import ITEMS
from stream.ids import user_key
from stream.records import RecordBatch
from stream.serving.catalogue import ServedCatalogue
from stream.serving.model import NOBODY, Person, ServedModel, merged
from stream.serving.recommend import Question, recommend
from stream.serving.sources import StoreSource
from stream.state import Checkpoint, Epoch, StoreError, UserWrite
from stream.stores.memory import MemoryStore
from stream.user_state import USER_FORMAT

ITEM_IDS = ("pot", "cup", "mill", "spoon", "whisk")


def taught(people: range) -> Recommender:
    """After tea comes one of five things, the first the most often."""
    model = Recommender()
    for person in people:
        second = ITEM_IDS[(0, 0, 0, 0, 1, 1, 2, 3, 4)[person % 9]]
        model.learn_one(f"u{person}", "tea", True, {"ts": 1e9 + person * 60})
        model.learn_one(f"u{person}", second, True, {"ts": 1e9 + person * 60 + 1})
    return model


def served(model: Recommender) -> ServedModel:
    return merged({0: model}, Config(), "1")


def drinker(model: ServedModel, partition: int = 0) -> Person:
    items = np.full(HISTORY, -1, np.int32)
    items[0] = model.index("tea")
    return Person(partition, items, np.ones(HISTORY, np.float32), 1, None)


def catalogue(*items: Mapping[str, object]) -> ServedCatalogue:
    known = ServedCatalogue()
    lines = [orjson.dumps(item) for item in items]
    numbers = list(range(len(lines)))
    known.take_in(RecordBatch(ITEMS, 0, numbers, lines, [1e9] * len(lines)))
    return known


def test_propensities_are_true_and_add_up_at_each_position() -> None:
    model = served(taught(range(60)))
    person, nothing = drinker(model), catalogue()
    shown: Counter[tuple[int, str]] = Counter()
    told: defaultdict[tuple[int, str], set[float]] = defaultdict(set)
    asked = 2_000
    for number in range(asked):
        question = Question(f"r{number}", k=2, policy="inverse_gap", exploration=0.5)
        slate = recommend(model, nothing, person, question)
        for position, place in enumerate(zip(slate.item_ids, slate.propensities, strict=True)):
            item_id, propensity = place
            shown[position, item_id] += 1
            told[position, item_id].add(round(propensity, 12))
    assert {len(probabilities) for probabilities in told.values()} == {1}
    for position in range(2):
        places = [key for key in told if key[0] == position]
        assert sum(next(iter(told[key])) for key in places) == pytest.approx(1.0, abs=1e-9)
        for key in places:
            (probability,) = told[key]
            assert shown[key] / asked == pytest.approx(probability, abs=0.04)


def test_the_same_request_is_answered_the_same_way() -> None:
    model = served(taught(range(60)))
    question = Question("r", k=3, policy="inverse_gap", exploration=1.0)
    once, again = (recommend(model, catalogue(), drinker(model), question) for _ in range(2))
    assert once == again


def test_partitions_are_added_up_and_histories_mean_the_same_in_the_sum() -> None:
    left, right = taught(range(30)), taught(range(30, 60))
    right.learn_one("x", "only here", True, {"ts": 1e9 + 9_999})
    model = merged({3: left, 5: right}, Config(), "2")
    # Everybody brings the indexes of their own partition.
    for partition, part in ((3, left), (5, right)):
        items = np.full(HISTORY, -1, np.int32)
        items[0] = part.item_index("tea")
        person = Person(partition, items, np.ones(HISTORY, np.float32), 1, None)
        slate = recommend(model, catalogue(), person, Question("r", k=2))
        assert slate.item_ids[0] == "pot"
        assert slate.because[0] == "tea"


def test_an_item_of_the_history_that_the_model_does_not_know_yet_is_left_out() -> None:
    model = served(taught(range(30)))
    person = drinker(model)
    items = person.items.copy()
    items[1], items[0] = items[0], 10_000
    slate = recommend(model, catalogue(), person._replace(items=items, length=2), Question("r"))
    assert slate.because[0] == "tea"


def test_a_stranger_gets_what_is_popular_and_nobody_gets_what_is_excluded() -> None:
    model = served(taught(range(60)))
    slate = recommend(model, catalogue(), NOBODY, Question("r", k=3, exclude=["tea"]))
    assert slate.item_ids[0] == "pot"
    assert "tea" not in set(slate.item_ids)
    known = catalogue({"item_id": "new"})
    assert recommend(None, known, NOBODY, Question("r")) == (
        recommend(None, known, NOBODY, Question("q"))
    )


def test_a_new_item_is_served_from_its_entry_alone() -> None:
    content = ContentIndex()
    for item in ("pot", "new pot"):
        content.add(item, {"title": "clay vessel"})
    model = merged({0: taught(range(60))}, Config(), "1", content)
    slate = recommend(model, catalogue(), drinker(model), Question("r", k=4))
    assert "new pot" in set(slate.item_ids)


def test_what_is_unavailable_follows_its_last_entry() -> None:
    model = served(taught(range(60)))
    known = catalogue({"item_id": "pot", "available": False}, {"item_id": "cup"})
    person = drinker(model)

    def items(*, available_only: bool = True) -> Sequence[str]:
        question = Question("r", k=3, available_only=available_only)
        return recommend(model, known, person, question).item_ids

    def entry(value: bytes) -> None:
        offset = known.next_offset
        batch = RecordBatch(ITEMS, 0, [offset], [value], [1e9], [b"pot"])
        known.take_in(batch)

    assert items()[0] == "cup"
    assert items(available_only=False)[0] == "pot"
    entry(b'{"item_id": "pot", "available": true}')
    assert items()[0] == "pot"
    entry(b'{"item_id": "pot", "available": false}')
    assert items()[0] == "cup"
    # Nothing is known of an item whose entry is gone.
    entry(b"")
    assert items()[0] == "pot"
    assert not known.unavailable


def test_diversity_brings_other_categories_forward() -> None:
    model = served(taught(range(90)))
    known = catalogue(
        *({"item_id": item, "categories": ["clay"]} for item in ("tea", "pot", "cup")),
        *({"item_id": item, "categories": ["steel"]} for item in ("mill", "spoon", "whisk")),
    )
    names = [
        recommend(model, known, NOBODY, Question("r", k=2, diversity=diversity)).item_ids
        for diversity in (0.0, 0.9)
    ]
    assert names[0][0] == names[1][0]
    kinds = [{known(item)["categories"][0] for item in slate} for slate in names]
    assert (len(kinds[0]), len(kinds[1])) == (1, 2)


def test_marginal_relevance_orders_everything_once_and_never_rises() -> None:
    rng = np.random.default_rng(0)
    features = [frozenset(rng.choice(list("abcdef"), 3).tolist()) for _ in range(30)]
    alike, scores = overlaps(features), rng.random(30)
    for diversity in (0.0, 0.3, 1.0):
        order, values = marginal_relevance(scores, alike, 10, diversity)
        assert sorted(order.tolist()) == list(range(30))
        assert (np.diff(values) <= 0).all()
    plain = marginal_relevance(scores, alike, 10, 0.0)[0]
    assert plain.tolist() == np.argsort(-scores, kind="stable").tolist()
    varied = marginal_relevance(scores, alike, 10, 0.7)[0][:10]
    chosen = plain[:10]
    assert intra_list_diversity(alike[np.ix_(varied, varied)]) > intra_list_diversity(
        alike[np.ix_(chosen, chosen)]
    )


def test_a_person_whom_a_newer_program_saved_cannot_be_read() -> None:
    store, epoch = MemoryStore(), Epoch(0, "newer")
    store.claim(0, epoch)
    users = {user_key("u"): UserWrite(msgspec.msgpack.encode([USER_FORMAT + 1]), None)}
    store.save(Checkpoint(0, {}, {"headrace.events": 1}, users), epoch)
    source = StoreSource(store, Config(), b"")
    assert source.person("stranger") is NOBODY
    # Whoever asks recommends without a history then.
    with pytest.raises(StoreError, match="run the newer version"):
        source.person("u")
