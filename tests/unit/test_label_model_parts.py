"""A label model's state in two parts, and contributions whose columns stand in another order."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import LabelModel
from models.label_model.snapshot import SNAPSHOT_VERSION, SnapshotError
from models.label_model.stats import align_sums

FIXTURES = Path(__file__).parents[1] / "replay" / "fixtures"


def taught(columns: int = 6, answers: int = 40, seed: int = 5) -> LabelModel:
    rng = np.random.default_rng(seed)
    model = LabelModel(["no", "yes"], [f"lf{column}@1" for column in range(columns)][::-1])
    truth = rng.integers(0, 2, 400)
    right = rng.random((400, columns)) < 0.75
    votes = np.where(right, truth[:, None], 1 - truth[:, None]).astype(np.int8)
    votes[rng.random((400, columns)) < 0.4] = -1
    other = LabelModel(["no", "yes"], list(model.lf_names))
    other.learn_many(votes[200:])
    model.learn_many(votes[:200])
    model.learn_gold(votes[:answers], truth[:answers])
    model.set_others(other.own_stats())
    model.learn_many(votes[:7])
    return model


@pytest.mark.parametrize("answers", [0, 40, 600])
def test_two_parts_are_the_whole(answers: int) -> None:
    model = taught(answers=min(answers, 200))
    for _ in range(answers // 200):
        model.learn_gold([[0, 1, 1, -1, 0, 1]] * 200, [1] * 200)
    whole, book = model.to_parts()
    again = LabelModel.from_bytes(whole, book)
    assert again.to_bytes() == model.to_bytes()
    assert again.to_parts() == (whole, book)
    assert len(whole) + len(book) < len(model.to_bytes()) or answers > 200


def test_only_answers_change_the_second_part() -> None:
    model = taught()
    whole, book = model.to_parts()
    model.learn_many([[1, 1, 0, -1, -1, 1]] * 50)
    assert model.to_parts()[0] != whole
    assert model.to_parts()[1] == book
    model.learn_gold([[1, 1, 0, -1, -1, 1]], [1])
    assert model.to_parts()[1] != book


def test_without_the_second_part_it_judges_the_same() -> None:
    model = taught()
    votes = [[1, 0, 0, -1, 1, 1], [-1, -1, 0, 0, 1, -1]]
    again = LabelModel.from_bytes(model.to_parts()[0])
    assert (again.predict_proba_many(votes) == model.predict_proba_many(votes)).all()


def test_the_first_version_is_read() -> None:
    data = zlib.decompress((FIXTURES / "label_model_v1.bin.z").read_bytes())
    model = LabelModel.from_bytes(data)
    assert model.to_bytes() == data
    assert model.state.answers.total[0] == 40
    assert LabelModel.from_bytes(*model.to_parts()).to_bytes() == data


@pytest.mark.parametrize("damage", ["cut", "no bytes", "newer"])
def test_damaged_parts_are_refused(damage: str) -> None:
    content = msgspec.msgpack.decode(taught().to_parts()[0])
    if damage == "cut":
        content["packed"] = content["packed"][:-9]
    elif damage == "no bytes":
        del content["packed"]
    else:
        content["version"] = SNAPSHOT_VERSION + 1
    with pytest.raises(SnapshotError):
        LabelModel.from_bytes(msgspec.msgpack.encode(content))


def test_columns_in_another_order_keep_their_pairs() -> None:
    sums = taught().state.own
    order = [3, 0, 5, 1, 4, 2]
    # With one column more, and then without it, each pair is looked up by itself.
    wide = align_sums(sums, [*order, -1])
    for found, wanted in zip(align_sums(sums, order), align_sums(wide, range(6)), strict=True):
        assert np.array_equal(found, wanted)
    back = align_sums(align_sums(sums, order), [order.index(column) for column in range(6)])
    for found, kept in zip(back, sums, strict=True):
        assert np.array_equal(found, kept)
