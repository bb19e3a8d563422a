"""Owners that do not know they are replaced: only accepted saves, in sequence, are the state."""

from __future__ import annotations

import hashlib
import threading
import uuid
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.state import Checkpoint, ClaimRefused, Epoch, Fenced, StateStore, UserWrite
from tests.conformance.stores.backends import Backend

KEYS = (b"user-a----", b"user-b----", b"user-c----")


@dataclass
class Actor:
    """A process that believes it owns the partition."""

    store: StateStore
    name: str
    epoch: Epoch = Epoch(0, "")
    expected: dict[str, int] = field(default_factory=dict)
    last: Checkpoint | None = None


@dataclass
class Expected:
    """What the port's documentation says is stored."""

    epoch: Epoch | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    users: dict[bytes, UserWrite] = field(default_factory=dict)
    chunks: dict[str, bytes] = field(default_factory=dict)

    def accepts(self, checkpoint: Checkpoint, epoch: Epoch) -> bool:
        continues = self.offsets in (dict(checkpoint.expected), dict(checkpoint.next_offsets))
        return self.epoch == epoch and continues

    def apply(self, checkpoint: Checkpoint) -> None:
        if self.offsets != checkpoint.expected:
            return
        self.offsets = dict(checkpoint.next_offsets)
        for key, write in checkpoint.users.items():
            if write is None:
                self.users.pop(key, None)
            else:
                self.users[key] = write
        for name, data in checkpoint.chunks.items():
            if data is None:
                self.chunks.pop(name, None)
            else:
                self.chunks[name] = data


writes = st.one_of(
    st.none(),
    st.builds(UserWrite, st.binary(max_size=8), st.none() | st.floats(0, 2e9, allow_nan=False)),
)
claims = st.tuples(
    st.just("claim"), st.integers(0, 1), st.integers(-1, 1), st.booleans(), st.booleans()
)
saves = st.tuples(
    st.just("save"),
    st.integers(0, 1),
    st.integers(1, 2),
    st.dictionaries(st.sampled_from(KEYS), writes),
    st.dictionaries(st.sampled_from(["share/x", "own"]), st.none() | st.binary(max_size=8)),
)
others = st.tuples(
    st.sampled_from(["repeat", "release"]), st.integers(0, 1), st.none(), st.none(), st.none()
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.one_of(claims, saves, others), max_size=25))
def test_two_owners_in_any_order(
    backend: Backend,
    operations: list[tuple[str, int, object, object, object]],
) -> None:
    clients = backend.open(), backend.open()
    clients[0].reset()
    actors = [Actor(client, name) for client, name in zip(clients, "ab", strict=True)]
    expected = Expected()
    for operation, who, *arguments in operations:
        run(operation, actors[who], expected, arguments)
        # What readers see is right at any time.
        saved = {3: expected.offsets} if expected.offsets else {}
        assert actors[1 - who].store.partitions() == saved
    head = clients[0].claim(3, Epoch(0, "reader"), force=True)
    users = clients[0].load_users(3, KEYS)
    assert dict(head.next_offsets) == expected.offsets
    assert dict(head.chunks) == expected.chunks
    assert users == {key: write.blob for key, write in expected.users.items()}
    assert dict(head.timers) == {
        key: write.due for key, write in expected.users.items() if write.due is not None
    }
    assert {c.name: c.data for c in clients[1].shared("share/", {})} == {
        name: data for name, data in expected.chunks.items() if name.startswith("share/")
    }


def run(operation: str, actor: Actor, expected: Expected, arguments: list[object]) -> None:
    if operation == "claim":
        claim(actor, expected, arguments)
    elif operation == "release":
        actor.store.release(3, actor.epoch)
        if expected.epoch == actor.epoch:
            expected.epoch = Epoch(actor.epoch.generation, "")
    else:
        if operation == "save":
            advance, users, chunks = arguments
            assert isinstance(advance, int)
            assert isinstance(users, dict)
            assert isinstance(chunks, dict)
            to = {"events": actor.expected.get("events", 0) + advance}
            actor.last = Checkpoint(3, actor.expected, to, users, chunks)
        if actor.last is not None:
            save(actor, expected, actor.last)


def claim(actor: Actor, expected: Expected, arguments: list[object]) -> None:
    step, force, restarted = arguments
    assert isinstance(step, int)
    stored = expected.epoch.generation if expected.epoch else 5
    owner = f"{actor.name}-{uuid.uuid4()}" if restarted else actor.name
    epoch = Epoch(stored + step, owner)
    try:
        head = actor.store.claim(3, epoch, force=bool(force))
    except ClaimRefused:
        assert expected.epoch is not None
        assert epoch.generation < stored
        assert not force
        return
    assert expected.epoch is None or force or epoch.generation >= stored
    assert dict(head.next_offsets) == expected.offsets
    assert dict(head.chunks) == expected.chunks
    expected.epoch = actor.epoch = epoch
    actor.expected = dict(head.next_offsets)


def save(actor: Actor, expected: Expected, checkpoint: Checkpoint) -> None:
    accepted = expected.accepts(checkpoint, actor.epoch)
    try:
        actor.store.save(checkpoint, actor.epoch)
    except Fenced:
        assert not accepted
    else:
        assert accepted
        expected.apply(checkpoint)
        actor.expected = dict(checkpoint.next_offsets)


def link(blob: bytes, name: str) -> bytes:
    return hashlib.sha256(blob + name.encode()).digest()


def test_racing_owners_leave_one_chain_of_saves(backend: Backend) -> None:
    """Each save hashes what it continues: a lost or a repeated one would break the chain."""
    accepted: dict[int, str] = {}
    failures: list[BaseException] = []
    barrier = threading.Barrier(3)

    def race(name: str, store: StateStore) -> None:
        try:
            barrier.wait()
            generation = 1
            for _ in range(12):
                try:
                    head = store.claim(3, Epoch(generation, name))
                except ClaimRefused:
                    generation += 2
                    continue
                own(name, store, Epoch(generation, name), dict(head.next_offsets))
                generation += len(name) % 2
        except BaseException as failure:
            failures.append(failure)

    def own(name: str, store: StateStore, epoch: Epoch, at: dict[str, int]) -> None:
        blob = store.load_users(3, KEYS[:1]).get(KEYS[0], b"")
        for _ in range(8):
            done = at.get("events", 0)
            blob = link(blob, name)
            to = {"events": done + 1}
            users = {KEYS[0]: UserWrite(blob, float(done))}
            try:
                store.save(Checkpoint(3, at, to, users, {"share/chain": blob}), epoch)
            except Fenced:
                return
            assert accepted.setdefault(done, name) == name
            at = to

    threads = [
        threading.Thread(target=race, args=(name, backend.open())) for name in ("a", "bb", "ccc")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    head = backend.open().claim(3, Epoch(0, "reader"), force=True)
    done = head.next_offsets["events"]
    blob = b""
    for n in range(done):
        blob = link(blob, accepted[n])
    assert sorted(accepted) == list(range(done))
    assert dict(head.chunks) == {"share/chain": blob}
    assert list(head.timers) == [(KEYS[0], float(done - 1))]
