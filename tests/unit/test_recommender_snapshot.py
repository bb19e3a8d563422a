"""Snapshots: versioned, whole, and refused with words when they are not."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest

from models.recommender import Config, Recommender
from models.recommender.journal import MAX_SEGMENTS
from models.recommender.snapshot import NewerSnapshotError, SnapshotError, unframe

FIXTURES = Path(__file__).parents[1] / "replay" / "fixtures"


def small() -> Recommender:
    model = Recommender()
    model.learn_many(["a", "a", "b"], ["é", "y", "x" * 300], [1.0, 0.5, 0.25], [0.0, 9.0, 9.5])
    return model


def test_bytes_restore_every_bit() -> None:
    model = small()
    restored = Recommender.from_bytes(model.to_bytes())
    assert restored.to_bytes() == model.to_bytes()
    assert restored.recommend("a", 5) == model.recommend("a", 5)


def test_empty_restores() -> None:
    model = Recommender()
    assert Recommender.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()


def newer(data: bytes) -> bytes:
    return data[:4] + struct.pack("<H", 999) + data[6:]


def test_a_newer_version_is_refused() -> None:
    data = small().to_bytes()
    with pytest.raises(NewerSnapshotError, match="999"):
        Recommender.from_bytes(newer(data))
    chunks = small().all_chunks()
    with pytest.raises(NewerSnapshotError, match="upgrade"):
        Recommender().load_chunks({name: newer(chunk) for name, chunk in chunks.items()})


@pytest.mark.parametrize("keep", [0, 3, 20, -1])
def test_a_damaged_snapshot_is_refused(keep: int) -> None:
    with pytest.raises(SnapshotError):
        Recommender.from_bytes(small().to_bytes()[:keep])
    with pytest.raises(SnapshotError):
        Recommender.from_bytes(b"not a snapshot at all, but long enough to be read")


def test_a_missing_chunk_is_refused() -> None:
    model = Recommender()
    model.learn_many(["a"] * 50, [f"i{x}" for x in range(50)])
    chunks = model.all_chunks()
    for name in ("meta", "segments", "segments/000", "ids/000000"):
        with pytest.raises(SnapshotError):
            Recommender().load_chunks({k: v for k, v in chunks.items() if k != name})


def test_a_refused_snapshot_leaves_the_model_as_it_was() -> None:
    model = small()
    before = model.to_bytes()
    broken = model.all_chunks()
    del broken["segments/000"]
    with pytest.raises(SnapshotError):
        model.load_chunks(broken)
    assert model.to_bytes() == before


def test_more_items_than_configured_are_refused() -> None:
    with pytest.raises(SnapshotError, match="max_items"):
        Recommender(Config(max_items=2)).load_chunks(small().all_chunks())


def test_rows_longer_than_configured_keep_the_strongest() -> None:
    model = Recommender()
    for other in range(20):
        for _ in range(20 - other):
            model.learn_many([f"u{other}-{_}"] * 2, ["hub", f"i{other}"])
    short = Recommender(Config(neighbours=4, min_neighbours=4))
    short.load_chunks(model.all_chunks())
    short.learn_one("new", "hub", True)
    assert [item for item, _ in short.recommend("new", 4)] == ["i0", "i1", "i2", "i3"]


def first_version() -> tuple[bytes, float, dict[str, list[tuple[str, float]]]]:
    """Return a snapshot of version 1, the time of its last event, and what it recommended."""
    data = zlib.decompress((FIXTURES / "recommender_v1.bin.z").read_bytes())
    expected = json.loads((FIXTURES / "recommender_v1.expected.json").read_bytes())
    return data, expected["last_ts"], expected["recommended"]


def test_the_first_version_is_read_and_recommends_the_same() -> None:
    data, ts, expected = first_version()
    model = Recommender.from_bytes(data)
    for user, items in expected.items():
        got = dict(model.recommend(user, 10, ts=ts))
        # Who has a history is reached through neighbours, and comes back to things, otherwise now.
        near = 1e-4 if user == "stranger" else 0.05
        assert got == pytest.approx(dict(items), abs=near)
    # It goes on in the version of today.
    model.learn_many(["new"], ["item é1"], ts=[ts + 1.0])
    again = Recommender.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    assert again.recommend("user 1", 5) == model.recommend("user 1", 5)


def test_a_store_of_the_first_version_is_written_anew_and_tidied() -> None:
    stored: dict[str, bytes | None] = dict(unframe(first_version()[0]))
    old = [name for name in stored if name.startswith("rows/")]
    del stored["histories"]
    model = Recommender(Config(half_life_s=86_400.0, fresh_half_life_s=3_600.0, popular=8))
    model.load_chunks(stored)
    changed = model.dirty_chunks()
    assert old
    assert all(changed[name] is None for name in old)
    stored.update(changed)
    model.mark_clean()
    assert model.dirty_chunks() == {}
    restored = Recommender(model.config)
    restored.load_chunks({name: data for name, data in stored.items() if data is not None})
    assert restored.all_chunks() == model.all_chunks()


def test_what_belongs_to_no_item_is_small_where_histories_are_short() -> None:
    assert len(small().all_chunks()["meta"]) < 3_000
    model = Recommender()
    model.learn_many(["a"] * 150, [f"i{x}" for x in range(150)])
    assert Recommender.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()


def test_saves_without_a_change_keep_what_is_stored_whole() -> None:
    # More saves than there are segments: rows of older ones are brought together now and then.
    model, stored = small(), dict[str, bytes]()
    for step in range(2 * MAX_SEGMENTS):
        if step % 3:
            model.item_indexes([f"later {step}"])
        changed = model.dirty_chunks()
        model.mark_clean()
        stored |= {name: data for name, data in changed.items() if data is not None}
        for name in changed.keys() - {n for n, data in changed.items() if data is not None}:
            del stored[name]
        again = Recommender()
        again.load_chunks(stored)
        assert again.all_chunks() == model.all_chunks()
