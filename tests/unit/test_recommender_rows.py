"""Narrow rows for most items, wide ones for those that have many neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from models.recommender import Config, Recommender
from models.recommender.core import RecommenderCore
from models.recommender.segments import SEGMENT_PREFIX
from models.recommender.snapshot import SnapshotError, body_of
from models.recommender.tables import NARROW, NARROW_LINES, Row, rows_of

MANY = 2 * NARROW


def with_hub(others: range, config: Config | None = None) -> Recommender:
    """Return a model in which one item went with many, with each later one more strongly."""
    model = Recommender(config)
    for n in others:
        model.learn_many([f"u{n}"] * 2, [f"i{n}", "hub"], [1.0, (n + 1) / 1000])
    return model


def neighbours(model: RecommenderCore, item: str) -> dict[str, float]:
    """Return the item's neighbours and their strengths, in the order in which they stand."""
    t = model.tables
    (start,) = rows_of(t, np.array([model.item_index(item)]))
    words = slice(start + Row.FIRST, start + Row.FIRST + 2 * t.pool[start + Row.FILLED])
    ids = model.item_ids(t.pool[words][::2])
    return dict(zip(ids, t.strengths[words][1::2].tolist(), strict=True))


def wide(model: RecommenderCore) -> list[str]:
    """Return the items whose rows are wide."""
    t = model.tables
    return model.item_ids(np.flatnonzero(t.lines >= len(t.lines) * NARROW_LINES).tolist())


def latest_first(others: range) -> list[str]:
    return [f"i{n}" for n in reversed(others)]


def test_only_an_item_that_outgrows_its_row_gets_a_wide_one() -> None:
    model = with_hub(range(NARROW))
    assert list(neighbours(model, "hub")) == latest_first(range(NARROW))
    assert wide(model) == []
    model = with_hub(range(MANY))
    found = neighbours(model, "hub")
    assert list(found) == latest_first(range(MANY))
    np.testing.assert_allclose(list(found.values()), np.arange(MANY, 0, -1) / 1000, rtol=1e-6)
    assert wide(model) == ["hub"]
    assert all(list(neighbours(model, f"i{n}")) == ["hub"] for n in range(MANY))


def test_where_items_become_too_many_the_strongest_neighbours_stay() -> None:
    config = Config(neighbours=MANY, min_neighbours=NARROW + 2, slots=4096 * MANY)
    model = with_hub(range(MANY), config)
    before = neighbours(model, "hub")
    model.item_indexes([f"x{n}" for n in range(10_000)])
    room = model.tables.room
    assert NARROW < room < MANY
    assert list(neighbours(model, "hub").items()) == list(before.items())[:room]
    assert list(neighbours(model, "i0")) == ["hub"]
    # The next wide row does not touch the first.
    for n in range(MANY):
        model.learn_many([f"v{n}"] * 2, [f"x{n}", "other hub"])
    assert len(neighbours(model, "other hub")) == room
    assert list(neighbours(model, "hub").items()) == list(before.items())[:room]
    assert wide(model) == ["hub", "other hub"]


def test_rows_that_may_become_narrower_than_narrow_ones_are_cut() -> None:
    config = Config(neighbours=MANY, min_neighbours=4, slots=4096 * MANY)
    model = with_hub(range(MANY), config)
    model.item_indexes([f"x{n}" for n in range(100_000)])
    room = model.tables.room
    assert room < NARROW
    assert list(neighbours(model, "hub")) == latest_first(range(MANY))[:room]
    model.learn_many(["u", "u"], ["x1", "hub"])
    assert next(iter(neighbours(model, "hub"))) == "x1"
    assert len(neighbours(model, "hub")) == room


def test_a_copy_has_rows_of_its_own() -> None:
    model = with_hub(range(MANY))
    copy = model.copy_learned()
    before = neighbours(model, "hub")
    assert neighbours(copy, "hub") == before
    for n in range(MANY):
        model.learn_many([f"v{n}"] * 2, [f"x{n}", "other hub"])
        model.learn_many([f"w{n}"] * 2, [f"x{n}", "hub"])
    assert neighbours(copy, "hub") == before
    assert wide(copy) == ["hub"]


def test_what_was_stored_gets_wide_rows_where_it_needs_them() -> None:
    model = with_hub(range(MANY))
    stored = model.to_bytes()
    restored = Recommender.from_bytes(stored)
    assert wide(restored) == ["hub"]
    assert neighbours(restored, "hub") == neighbours(model, "hub")
    assert restored.to_bytes() == stored


def test_a_copy_that_follows_widens_rows_that_were_narrow() -> None:
    model, copy = with_hub(range(4)), RecommenderCore()
    copy.apply_chunks(model.all_chunks())
    assert wide(copy) == []
    model.mark_clean()
    for n in range(4, MANY):
        model.learn_many([f"u{n}"] * 2, [f"i{n}", "hub"], [1.0, (n + 1) / 1000])
    copy.apply_chunks(model.dirty_chunks())
    assert wide(copy) == ["hub"]
    assert neighbours(copy, "hub") == neighbours(model, "hub")


def test_merged_rows_are_as_wide_as_both_need() -> None:
    half = NARROW - 2
    model, other = with_hub(range(half)), with_hub(range(half, 2 * half))
    assert wide(model) == wide(other) == []
    model.merge(other)
    assert wide(model) == ["hub"]
    assert list(neighbours(model, "hub")) == latest_first(range(2 * half))


def test_a_segment_that_names_a_row_twice_is_damaged() -> None:
    chunks: dict[str, bytes | None] = dict(with_hub(range(MANY)).all_chunks())
    name, data = next((n, d) for n, d in chunks.items() if d and n.startswith(SEGMENT_PREFIX))
    damaged = bytearray(data)
    _, start = body_of(data)
    damaged[start + 4 : start + 8] = damaged[start : start + 4]
    with pytest.raises(SnapshotError, match="damaged"):
        RecommenderCore().load_chunks(chunks | {name: bytes(damaged)})


def test_room_for_no_neighbour_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_neighbours must be above 0; found 0"):
        Config(neighbours=0, min_neighbours=0)
