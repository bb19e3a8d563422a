"""What is written is what is read, whoever keeps it."""

from __future__ import annotations

import os

import pytest

from stream.state import (
    SHARED_PREFIX,
    Epoch,
    Fenced,
    StateStore,
    StoreError,
    UserWrite,
)
from tests.conformance.stores.backends import ANN, BOB, EVE, A, Backend, at, contents, step


def test_partition_that_was_never_saved_is_empty(store: StateStore) -> None:
    head = store.claim(3, A)
    assert (head.partition, dict(head.next_offsets), list(head.timers), dict(head.chunks)) == (
        3,
        {},
        [],
        {},
    )
    assert store.load_users(3, [ANN, BOB]) == {}
    assert store.partitions() == {}
    assert store.find_user(ANN) is None
    assert store.find_user(ANN, 3) is None
    assert store.shared("", {}) == []


def test_save_is_read_back_by_another_client(backend: Backend, store: StateStore) -> None:
    store.claim(3, A)
    store.save(
        step(
            0, {ANN: UserWrite(b"1", 12.5), EVE: UserWrite(b"\x00\xff", None)}, {"own/ä": b"\x00"}
        ),
        A,
    )
    assert contents(backend.open(), A) == (
        at(1),
        {ANN: 12.5},
        {"own/ä": b"\x00"},
        {ANN: b"1", EVE: b"\x00\xff"},
    )


def test_later_save_overwrites_and_deletes_only_what_it_names(store: StateStore) -> None:
    store.claim(3, A)
    users = {key: UserWrite(b"old", 1.0) for key in (ANN, BOB, EVE)}
    store.save(step(0, users, {"kept": b"k", "gone": b"g", "new": b"1"}), A)
    store.save(step(1, {ANN: UserWrite(b"new", None), BOB: None}, {"gone": None, "new": b"2"}), A)
    assert contents(store, A) == (
        at(2),
        {EVE: 1.0},
        {"kept": b"k", "new": b"2"},
        {ANN: b"new", EVE: b"old"},
    )


def test_deleting_what_is_not_there_is_fine(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0, {ANN: None}, {"none": None}), A)
    assert contents(store, A) == (at(1), {}, {}, {})


def test_deleted_user_may_come_back(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"1", 1.0)}), A)
    store.save(step(1, {ANN: None}), A)
    store.save(step(2, {ANN: UserWrite(b"2", 3.0)}), A)
    assert contents(store, A) == (at(3), {ANN: 3.0}, {}, {ANN: b"2"})


@pytest.mark.parametrize(
    "due", [0.0, -1.5, 1_700_000_000.123456, 0.1 + 0.2, 5e-324, float("inf"), 2.0**53 + 1]
)
def test_due_times_are_exact(store: StateStore, due: float) -> None:
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"", due)}), A)
    assert store.claim(3, A).timers == [(ANN, due)]


def test_timers_move_both_ways(store: StateStore) -> None:
    store.claim(3, A)
    for n, due in enumerate([5.0, 5.0, 2.0, 9.0, -1.0]):
        store.save(step(n, {ANN: UserWrite(b"", due)}), A)
        assert store.claim(3, A).timers == [(ANN, due)]


def test_timer_due_at_no_time_is_refused(store: StateStore) -> None:
    store.claim(3, A)
    with pytest.raises(ValueError, match="NaN"):
        store.save(step(0, {ANN: UserWrite(b"", float("nan"))}), A)
    assert store.partitions() == {}


def test_every_byte_is_fine_in_keys_names_and_contents(store: StateStore) -> None:
    everything = bytes(range(256))
    users = {bytes([byte]) * 10: UserWrite(bytes([byte]), byte * 1.5) for byte in range(256)}
    users |= {everything: UserWrite(everything, 1.0), b"": UserWrite(b"", 2.0)}
    chunks: dict[str, bytes | None] = {"a b/ü:{}*'\"\x00\n": everything, "": b""}
    store.claim(3, A)
    store.save(step(0, users, chunks), A)
    assert store.load_users(3, list(users)) == {key: w.blob for key, w in users.items()}
    head = store.claim(3, A)
    assert dict(head.chunks) == chunks
    assert dict(head.timers) == {key: write.due for key, write in users.items()}


def test_partitions_do_not_mix(store: StateStore) -> None:
    for partition in (3, 30, 0):
        store.claim(partition, A)
        blob = str(partition).encode()
        store.save(step(0, {ANN: UserWrite(blob, None)}, {"c": blob}, partition), A)
    assert store.load_users(30, [ANN]) == {ANN: b"30"}
    assert dict(store.claim(0, A).chunks) == {"c": b"0"}
    assert store.partitions() == {0: at(1), 3: at(1), 30: at(1)}


def test_users_of_several_partitions_are_loaded_at_once(store: StateStore) -> None:
    for partition in (3, 30):
        store.claim(partition, A)
        users = {key: UserWrite(b"%d %s" % (partition, key), None) for key in (ANN, BOB)}
        store.save(step(0, users, {}, partition), A)
    assert store.load_users_of({3: [ANN, EVE], 30: [BOB, ANN], 4: [ANN], 5: []}) == {
        3: {ANN: b"3 " + ANN},
        30: {BOB: b"30 " + BOB, ANN: b"30 " + ANN},
        4: {},
        5: {},
    }
    assert store.load_users_of({}) == {}


def test_unknown_and_repeated_keys(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"1", None)}), A)
    assert store.load_users(3, []) == {}
    assert store.load_users(3, [BOB]) == {}
    assert store.load_users(3, [ANN, BOB, ANN]) == {ANN: b"1"}
    assert store.load_users(4, [ANN]) == {}


def test_find_user_in_any_partition(store: StateStore) -> None:
    for partition, key in ((0, ANN), (1, BOB), (7, EVE)):
        store.claim(partition, A)
        store.save(step(0, {key: UserWrite(key[::-1], None)}, partition=partition), A)
    assert store.find_user(BOB) == (1, BOB[::-1])
    assert store.find_user(EVE) == (7, EVE[::-1])
    assert store.find_user(b"nobody----") is None
    assert store.find_user(EVE, 7) == (7, EVE[::-1])
    assert store.find_user(EVE, 1) is None
    assert store.find_user(EVE, 5) is None


def test_ten_megabytes_in_one_checkpoint(store: StateStore) -> None:
    big = os.urandom(10_000_000)
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(big, None)}, {"share/big": big, "own": big}), A)
    assert dict(store.claim(3, A).chunks) == {"share/big": big, "own": big}
    assert store.load_users(3, [ANN]) == {ANN: big}
    assert [chunk.data for chunk in store.shared(SHARED_PREFIX, {})] == [big]


def test_hundred_thousand_users_in_one_checkpoint(store: StateStore) -> None:
    users = {
        n.to_bytes(10, "big"): UserWrite(n.to_bytes(50, "little"), float(n) if n % 3 else None)
        for n in range(100_000)
    }
    store.claim(3, A)
    store.save(step(0, users), A)
    timers = dict(store.claim(3, A).timers)
    loaded = store.load_users(3, list(users))
    assert loaded == {key: write.blob for key, write in users.items()}
    assert timers == {key: write.due for key, write in users.items() if write.due is not None}


def test_shared_returns_every_partitions_contributions_once(
    backend: Backend, store: StateStore
) -> None:
    for partition in (0, 1):
        store.claim(partition, A)
        chunks = {"share/lm/a": b"a", "share/lm/b": b"b", "share/x": b"x", "own": b"o"}
        store.save(step(0, None, chunks, partition), A)
    reader = backend.open()
    found = reader.shared("share/lm/", {})
    assert sorted((c.partition, c.name, c.data) for c in found) == [
        (partition, name, data)
        for partition in (0, 1)
        for name, data in (("share/lm/a", b"a"), ("share/lm/b", b"b"))
    ]
    known = {(c.partition, c.name): c.version for c in found}
    assert reader.shared("share/lm/", known) == []
    assert len(reader.shared(SHARED_PREFIX, known)) == 2

    store.save(step(1, None, {"share/lm/b": b"B", "own": b"O"}, 1), A)
    (changed,) = reader.shared("share/lm/", known)
    assert (changed.partition, changed.name, changed.data) == (1, "share/lm/b", b"B")
    assert changed.version > known[1, "share/lm/b"]


def test_partitions_that_are_left_out_are_not_read(backend: Backend, store: StateStore) -> None:
    for partition in (0, 1, 2):
        store.claim(partition, A)
        store.save(step(0, None, {"share/x": b"%d" % partition}, partition), A)
    reader = backend.open()
    assert [c.data for c in reader.shared(SHARED_PREFIX, {}, besides={0, 2})] == [b"1"]
    assert reader.shared(SHARED_PREFIX, {}, besides=range(3)) == []


def test_prefix_is_no_pattern(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0, None, {"share/a": b"1", "share/%": b"2", "share/[a": b"3"}), A)
    assert [c.name for c in store.shared("share/%", {})] == ["share/%"]
    assert [c.name for c in store.shared("share/[", {})] == ["share/[a"]
    assert store.shared("share/*", {}) == []


def test_version_never_comes_back(store: StateStore) -> None:
    store.claim(3, A)
    seen: list[int] = []
    for n, data in enumerate([b"1", None, b"1", b"1"]):
        store.save(step(n, None, {"share/c": data}), A)
        seen += [c.version for c in store.shared(SHARED_PREFIX, {})]
    store.reset()
    store.claim(3, A)
    store.save(step(0, None, {"share/c": b"other"}), A)
    seen += [c.version for c in store.shared(SHARED_PREFIX, {})]
    assert seen == sorted(set(seen))
    assert len(seen) == 4


def test_reset_deletes_partitions_and_fences_their_owners(store: StateStore) -> None:
    for partition in (0, 1):
        store.claim(partition, A)
        write = {ANN: UserWrite(b"1", 1.0)}
        store.save(step(0, write, {"share/c": b"1"}, partition), A)
    store.reset([1, 99])
    assert store.partitions() == {0: at(1)}
    assert [c.partition for c in store.shared(SHARED_PREFIX, {})] == [0]
    with pytest.raises(Fenced):
        store.save(step(1, partition=1), A)
    store.save(step(1, partition=0), A)
    head = store.claim(1, Epoch(1, "first again"))
    assert (dict(head.next_offsets), list(head.timers), dict(head.chunks)) == ({}, [], {})
    assert store.load_users(1, [ANN]) == {}

    store.reset()
    assert store.partitions() == {}
    assert store.find_user(ANN) is None
    assert store.find_user(ANN, 3) is None


def test_ping_says_what_answers(backend: Backend, store: StateStore) -> None:
    assert backend.kind in store.ping().lower()


def test_closed_store_refuses_everything(store: StateStore) -> None:
    store.claim(3, A)
    store.close()
    store.close()
    for call in (
        lambda: store.claim(3, A),
        lambda: store.load_users(3, [ANN]),
        lambda: store.load_users(3, []),
        lambda: store.save(step(0), A),
        lambda: store.release(3, A),
        lambda: store.shared("", {}),
        store.partitions,
        lambda: store.find_user(ANN),
        store.reset,
        store.ping,
    ):
        with pytest.raises(StoreError, match="closed"):
            call()
