"""Rows and blocks of the label model: who voted is found in any width, blocks grow for a crowd."""

import numpy as np
import pytest

from models import LabelModel
from models.label_model.kernels import block_length
from models.label_model.rows import find_votes


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 37, 64, 65, 71, 72, 130, 176])
def test_votes_of_a_row_are_found_in_order(width: int) -> None:
    rng = np.random.default_rng(width)
    columns, labels = np.empty(width, dtype=np.uint32), np.empty(width, dtype=np.uint32)
    for share in (0.0, 0.1, 0.5, 1.0):
        # Votes beyond the classes that there are count as none.
        row = np.where(rng.random(width) < share, rng.integers(0, 4, width), -1).astype(np.int8)
        n = find_votes(row, 3, columns, labels)
        expected = np.flatnonzero((row >= 0) & (row < 3))
        assert columns[:n].tolist() == expected.tolist()
        assert labels[:n].tolist() == row[expected].tolist()


@pytest.mark.parametrize(
    ("learned", "growth", "expected"),
    [
        (8_000, 4, 128), (8_256, 4, 129), (12_800, 4, 200), (16_384, 4, 256), (10**6, 4, 256),
        (10**6, 1, 32), (3_200, 4, 100),
    ],
)  # fmt: skip
def test_the_latest_blocks_are_longest(learned: int, growth: int, expected: int) -> None:
    assert block_length(learned, learned, 32, growth) == expected


@pytest.mark.parametrize(("form", "longest"), [("lf", 32), ("crowd", 128)])
def test_late_blocks_are_longer_for_annotators(form: str, longest: int) -> None:
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, 2, (6000, 4)).astype(np.int8)
    model = LabelModel(["no", "yes"], [f"c{j}" for j in range(4)], form=form)
    model.learn_many(votes[:5000])
    changes = []
    before = model.predict_proba_many(votes[:20])
    for i in range(5000, 5600):
        model.learn_many(votes[i : i + 1])
        now = model.predict_proba_many(votes[:20])
        if not np.array_equal(now, before):
            changes.append(i)
        before = now
    assert set(np.diff(changes).tolist()) == {longest}
