"""Who may write, and that a write is whole."""

from __future__ import annotations

import threading

import pytest

from stream.state import (
    SCHEMA_VERSION,
    SHARED_PREFIX,
    Checkpoint,
    ClaimRefused,
    Epoch,
    Fenced,
    NewerSchema,
    StateStore,
    StoreError,
    UserWrite,
)
from stream.stores import open_store
from tests.conformance.stores.backends import ANN, BOB, EVE, A, B, Backend, at, contents, step


def test_claim_is_idempotent_for_the_same_epoch(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    assert dict(store.claim(3, A).next_offsets) == at(1)
    store.save(step(1), A)


def test_older_generation_is_refused_and_changes_nothing(store: StateStore) -> None:
    store.claim(3, A)
    with pytest.raises(ClaimRefused, match="generation 5"):
        store.claim(3, Epoch(4, "late"))
    store.save(step(0), A)


def test_force_takes_a_partition_from_a_group_that_is_gone(store: StateStore) -> None:
    store.claim(3, Epoch(900, "old group"))
    store.save(step(0), Epoch(900, "old group"))
    first = Epoch(1, "new group")
    assert dict(store.claim(3, first, force=True).next_offsets) == at(1)
    store.save(step(1), first)
    with pytest.raises(Fenced):
        store.save(step(2), Epoch(900, "old group"))


def test_generations_are_compared_as_numbers(store: StateStore) -> None:
    store.claim(3, Epoch(9, "a"))
    store.claim(3, Epoch(10, "b"))
    with pytest.raises(ClaimRefused):
        store.claim(3, Epoch(9, "a"))


def test_newer_generation_fences_the_older(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"a", 1.0)}), A)
    newer = Epoch(6, "process-b")
    assert dict(store.claim(3, newer).next_offsets) == at(1)
    with pytest.raises(Fenced, match="generation 6"):
        store.save(step(1, {ANN: None}, {"c": b"zombie"}), A)
    assert contents(store, newer) == (at(1), {ANN: 1.0}, {}, {ANN: b"a"})


def test_restarted_static_member_takes_over_within_its_generation(store: StateStore) -> None:
    store.claim(3, A)
    store.claim(3, B)
    with pytest.raises(Fenced, match="process-b"):
        store.save(step(0), A)
    store.save(step(0), B)


def test_zombie_that_claims_back_meets_the_offsets(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    store.claim(3, B)
    store.save(step(1, {ANN: UserWrite(b"b", None)}), B)
    store.claim(3, A)  # The same generation: nothing tells them apart but the offsets.
    with pytest.raises(Fenced, match="claim it again"):
        store.save(Checkpoint(3, at(1), {"events": 7}, {ANN: None}), A)
    assert store.load_users(3, [ANN]) == {ANN: b"b"}


def test_save_without_claim_is_refused(store: StateStore) -> None:
    with pytest.raises(Fenced, match="nobody"):
        store.save(step(0), A)
    assert store.partitions() == {}


@pytest.mark.parametrize("expected", [{}, {"events": 1}, {"events": 1, "gold": 3}, {"gold": 2}])
def test_save_that_does_not_continue_is_refused(
    store: StateStore, expected: dict[str, int]
) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    with pytest.raises(Fenced, match="continues from"):
        store.save(Checkpoint(3, expected, at(9), {ANN: UserWrite(b"", None)}), A)
    assert contents(store, A) == (at(1), {}, {}, {})


def test_order_of_topics_does_not_matter(store: StateStore) -> None:
    store.claim(3, A)
    store.save(Checkpoint(3, {}, {"b": 1, "ä": 2}), A)
    store.save(Checkpoint(3, {"ä": 2, "b": 1}, {"b": 2, "ä": 2}), A)
    assert store.partitions() == {3: {"ä": 2, "b": 2}}


def test_repeated_save_counts_as_done(store: StateStore) -> None:
    store.claim(3, A)
    first = step(0, {ANN: UserWrite(b"1", 1.0)}, {"share/c": b"1"})
    store.save(first, A)
    before = store.shared(SHARED_PREFIX, {})
    store.save(first, A)
    assert store.shared(SHARED_PREFIX, {}) == before
    store.save(step(1), A)
    with pytest.raises(Fenced):
        store.save(first, A)


def test_repetition_by_another_owner_is_refused(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    store.claim(3, B)
    with pytest.raises(Fenced):
        store.save(step(0), A)


def test_save_without_progress_is_written(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    store.save(Checkpoint(3, at(1), at(1), chunks={"c": b"1"}), A)
    assert dict(store.claim(3, A).chunks) == {"c": b"1"}


def test_released_partition_takes_no_save_and_keeps_its_generation(store: StateStore) -> None:
    store.claim(3, A)
    store.save(step(0), A)
    store.release(3, A)
    with pytest.raises(Fenced, match="released"):
        store.save(step(1), A)
    with pytest.raises(ClaimRefused):
        store.claim(3, Epoch(4, "late"))
    assert dict(store.claim(3, B).next_offsets) == at(1)


@pytest.mark.parametrize("epoch", [B, Epoch(4, "process-a")])
def test_release_by_another_changes_nothing(store: StateStore, epoch: Epoch) -> None:
    store.release(3, epoch)
    store.claim(3, A)
    store.release(3, epoch)
    store.save(step(0), A)


def test_store_is_used_from_other_threads_than_its_opener(store: StateStore) -> None:
    failures: list[BaseException] = []

    def work(partition: int) -> None:
        try:
            store.claim(partition, A)
            for n in range(10):
                blob = str(n).encode()
                store.save(step(n, {ANN: UserWrite(blob, 1.0)}, {"share/c": blob}, partition), A)
                assert store.load_users(partition, [ANN]) == {ANN: blob}
                store.shared(SHARED_PREFIX, {})
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(partition,)) for partition in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.partitions() == {partition: at(10) for partition in range(4)}


def test_failure_in_the_middle_of_a_save_writes_nothing(durable: Backend) -> None:
    store = durable.open()
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"1", 1.0), BOB: UserWrite(b"1", 1.0)}), A)
    durable.break_chunks(3)
    bad = step(1, {ANN: UserWrite(b"2", 2.0), BOB: None, EVE: UserWrite(b"", 9.0)}, {"c": b"1"})
    with pytest.raises(StoreError):
        store.save(bad, A)
    durable.repair_chunks(3)
    assert contents(durable.open(), A) == (
        at(1),
        {ANN: 1.0, BOB: 1.0},
        {},
        {ANN: b"1", BOB: b"1"},
    )
    store.save(bad, A)
    assert contents(durable.open(), A) == (
        at(2),
        {ANN: 2.0, EVE: 9.0},
        {"c": b"1"},
        {ANN: b"2", EVE: b""},
    )


def test_state_of_a_newer_version_is_refused_with_a_remedy(durable: Backend) -> None:
    running = durable.open()
    running.claim(3, A)
    running.save(step(0, {ANN: UserWrite(b"1", None)}), A)
    durable.pretend_newer(3, SCHEMA_VERSION + 1)
    remedy = f"version {SCHEMA_VERSION + 1}, this program reads up to {SCHEMA_VERSION}; run the"
    with pytest.raises(NewerSchema, match=remedy):
        durable.open().claim(3, A, force=True)
    with pytest.raises(NewerSchema, match=remedy):
        running.save(step(1, {ANN: None}), A)
    with pytest.raises(NewerSchema, match=remedy):
        running.shared(SHARED_PREFIX, {})
    durable.pretend_newer(3, SCHEMA_VERSION)
    assert contents(durable.open(), A) == (at(1), {}, {}, {ANN: b"1"})


def test_another_instance_sees_nothing(durable: Backend) -> None:
    store = durable.open()
    store.claim(3, A)
    store.save(step(0, {ANN: UserWrite(b"1", None)}), A)
    if durable.kind == "sqlite":
        with pytest.raises(StoreError, match="holds the state of instance 'headrace'"):
            open_store(durable.url, instance="other")
    else:
        other = open_store(durable.url, instance=durable.instance + "-2")
        assert other.find_user(ANN) is None
        other.reset()
        other.close()
    assert store.find_user(ANN) == (3, b"1")
