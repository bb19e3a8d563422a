"""What a label model is given: wrong arguments are named, odd ones have a defined outcome."""

import numpy as np
import pytest

from models import LabelModel
from models.checks import planted_votes
from models.label_model.stats import decode, encode

CLASSES = ["no", "yes"]


def columns(n: int) -> list[str]:
    return [f"lf{j}" for j in range(n)]


@pytest.mark.parametrize("form", ["lf", "crowd"])
@pytest.mark.parametrize(("n_classes", "m"), [(1, 3), (2, 0), (2, 1), (5, 4), (2, 500)])
def test_degenerate_shapes_are_finite(form: str, n_classes: int, m: int) -> None:
    model = LabelModel([str(k) for k in range(n_classes)], columns(m), form=form)
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, n_classes, (60, m)).astype(np.int8)
    silent = np.full((40, m), -1, dtype=np.int8)
    model.learn_many(votes)
    model.learn_many(silent)
    # Contradictory gold: the same votes, every class in turn.
    model.learn_gold(np.tile(votes[:1], (12, 1)), np.arange(12) % n_classes, delay=3)
    for rows in (votes, silent):
        proba = model.predict_proba_many(rows)
        assert np.isfinite(proba).all()
        assert np.allclose(proba.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["a", "a"]}, "distinct"),
        ({"prior": [1.0]}, "prior"),
        ({"prior": [1.0, 0.0]}, "prior"),
        ({"form": "people"}, "form"),
        ({"block": 0}, "block"),
        ({"prior": {"yes": 1.0}}, "prior"),
        ({"prior": {"yes": 0.5, "no": 0.4, "maybe": 0.1}}, "prior"),
        ({"lfs": "ab"}, "lfs"),
        ({"accuracies": {"nobody": 0.8}}, "accuracies names \\['nobody'\\]"),
        ({"half_lives": []}, "half_lives"),
        ({"half_lives": [0.0, 10.0]}, "half_lives"),
        ({"half_lives": [float("inf"), float("inf")]}, "half_lives"),
        ({"half_lives": [float("nan")]}, "half_lives"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"classes": CLASSES, "lfs": columns(2), **arguments}
    with pytest.raises(ValueError, match=message):
        LabelModel(**given)  # type: ignore[arg-type]


def test_wrong_votes_and_labels_are_named() -> None:
    model = LabelModel(CLASSES, columns(2))
    with pytest.raises(ValueError, match="votes must be"):
        model.learn_many([[0, 1, 1]])
    with pytest.raises(ValueError, match="labels"):
        model.learn_gold([[0, 1]], [7])
    with pytest.raises(ValueError, match="labels"):
        model.learn_gold([[0, 1]], ["maybe"])


def test_names_and_positions_mean_the_same() -> None:
    by_name, by_position = (LabelModel(CLASSES, columns(2)) for _ in range(2))
    by_name.learn_one({"lf0": "yes", "unknown": "no"}, "yes")
    by_position.learn_one({"lf0": 1}, 1)
    assert by_name.to_bytes() == by_position.to_bytes()


@pytest.mark.parametrize(
    ("delay", "inclusion"), [(float("inf"), 1.0), (1e300, 1.0), (3.0, 1e-300), (3.0, 1e-12)]
)
def test_no_answer_makes_what_is_known_no_number(delay: float, inclusion: float) -> None:
    votes, _ = planted_votes(200, 3, 2)
    model = LabelModel(CLASSES, columns(3))
    model.learn_many(votes)
    model.learn_gold(votes[:1], [1], delay=delay, inclusion=inclusion)
    model.learn_many(votes)
    assert np.isfinite(model.predict_proba_many(votes)).all()
    assert np.isfinite(model.state.own.gold_size).all()


def test_more_columns_than_pairs_are_watched_of_are_exchanged_all_the_same() -> None:
    rng = np.random.default_rng(0)
    # Not in the order of their names, in which contributions travel.
    names = [f"lf{column}" for column in range(520)]
    votes = rng.integers(-1, 2, (40, 520)).astype(np.int8)
    one, two = (LabelModel(CLASSES, names) for _ in range(2))
    one.learn_many(votes)
    two.add_lf("another")
    two.set_others(LabelModel.merge_stats([one.own_stats(), one.own_stats()]))
    two.merge(one)
    assert two.summary()["examples"] == 40
    assert np.isfinite(two.predict_proba_many(np.c_[votes, votes[:, 0]])).all()


def test_wide_contributions_are_not_kept_in_memory() -> None:
    small, wide = (LabelModel(CLASSES, columns(m)).own_stats() for m in (3, 200))
    assert decode(small) is decode(small)
    first, second = decode(wide), decode(wide)
    assert first is not second
    assert encode(first) == encode(second) == wide


def test_columns_of_different_forms_are_not_merged() -> None:
    one = LabelModel(CLASSES, columns(2))
    other = LabelModel(CLASSES, columns(2), forms={columns(2)[1]: "crowd"})
    before = one.to_bytes()
    with pytest.raises(ValueError, match="column 'lf1' is of another form"):
        one.merge(other)
    assert one.to_bytes() == before


def test_an_example_that_nobody_answered_is_learned_without_a_label() -> None:
    silent, unsaid = (LabelModel(CLASSES, columns(2)) for _ in range(2))
    silent.learn_one({"lf0": "yes"}, None)
    unsaid.learn_one({"lf0": "yes"}, -1)
    assert silent.to_bytes() == unsaid.to_bytes()


def test_labels_may_be_whole_floats_as_votes_may() -> None:
    floats, whole = (LabelModel(CLASSES, columns(2)) for _ in range(2))
    floats.learn_gold([[1.0, 0.0]], np.array([1.0]))
    whole.learn_gold([[1, 0]], [1])
    assert floats.to_bytes() == whole.to_bytes()
    with pytest.raises(ValueError, match=r"found 0\.5"):
        whole.learn_gold([[1, 0]], [0.5])
