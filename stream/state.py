"""What a partition is, when nobody is processing it: the port that every state store implements.

A partition's state is (next offsets by input topic, users, timers, chunks), written as one atomic
checkpoint and fenced by who owns the partition. Stores move bytes; they never look inside.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from stream.refusal import Refusal

__all__ = [
    "PEER_PREFIX",
    "SCHEMA_VERSION",
    "SHARED_PREFIX",
    "Checkpoint",
    "ClaimRefused",
    "Epoch",
    "Fenced",
    "NewerSchema",
    "PartitionHead",
    "SharedChunk",
    "StateStore",
    "StoreError",
    "Unreadable",
    "UserWrite",
]

SCHEMA_VERSION = 1
"""Version of the stored layout. A store reads every version up to this one, and refuses newer."""

SHARED_PREFIX = "share/"
"""Chunks under this name are contributions: other partitions and API servers read them."""

PEER_PREFIX = "peers/"
"""Chunks under this name say what was learned lately: only other partitions read them."""


class StoreError(Refusal):
    """Base of everything that a store refuses."""


class Fenced(StoreError):
    """A save came from an owner that no longer owns the partition, or from a wrong offset."""


class ClaimRefused(StoreError):
    """A claim came from an older generation than the owner's."""


class NewerSchema(StoreError):
    """The stored state was written by a newer version than this program reads."""


class Unreadable(StoreError, ValueError):
    """A partition's state is damaged, or holds what only a newer version can read."""


class Epoch(NamedTuple):
    """Ownership of a partition: consumer-group generation, and the process (a uuid)."""

    generation: int
    owner: str


class UserWrite(NamedTuple):
    """State of one user: bytes, and when its next timer is due (event time, seconds)."""

    blob: bytes
    due: float | None


@dataclass(frozen=True, slots=True)
class PartitionHead:
    """What a claim returns: all that is needed before the first record, users excepted.

    ``next_offsets`` is empty for a partition that was never saved. ``timers`` holds (user key,
    due) in no particular order. ``chunks`` holds the partition's own chunks by name.
    """

    partition: int
    next_offsets: Mapping[str, int] = field(default_factory=dict)
    timers: Sequence[tuple[bytes, float]] = ()
    chunks: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One atomic write: everything of a partition that changed since the last one.

    ``expected`` are the next offsets of the previous checkpoint (empty for the first): a save
    whose ``expected`` differs from what is stored is refused with `Fenced`. ``users`` and
    ``chunks`` map a key to new content, or to None to delete it.
    """

    partition: int
    expected: Mapping[str, int]
    next_offsets: Mapping[str, int]
    users: Mapping[bytes, UserWrite | None] = field(default_factory=dict)
    chunks: Mapping[str, bytes | None] = field(default_factory=dict)


class SharedChunk(NamedTuple):
    """A contribution as another partition sees it; ``version`` grows with every save of it."""

    partition: int
    name: str
    version: int
    data: bytes


@runtime_checkable
class StateStore(Protocol):
    """Port of a state store. Synchronous: a worker calls it from a thread of its own.

    User keys are 10 raw bytes (a hash of the user id; see `stream.join.user_key`), so that an
    example id, which starts with the key in hex, leads to its user without another index.
    """

    def claim(self, partition: int, epoch: Epoch, *, force: bool = False) -> PartitionHead:
        """Take the partition and return its head.

        Idempotent for the same epoch. Refused with `ClaimRefused` when the stored generation is
        newer, unless ``force`` (the group that numbered it is known to be gone). Within one
        generation the last to claim owns: a restarted static member keeps its generation. Raises
        `NewerSchema` when the state was written by a newer version.
        """
        ...

    def load_users(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored users among ``keys``, in one round trip; unknown keys are absent."""
        ...

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        """Return for each partition what `load_users` would, in one round trip for all."""
        ...

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        """Write the checkpoint atomically, or raise `Fenced` and write nothing.

        Any other `StoreError` may leave the outcome unknown (the connection died): repeat the same
        checkpoint, unchanged and before any later one. If it was written after all, the stored
        offsets are its own and so is the owner, and the repetition counts as done.
        """
        ...

    def release(self, partition: int, epoch: Epoch) -> None:
        """Give the partition up (keeps the generation, clears the owner); no-op if not owned."""
        ...

    def shared(
        self,
        prefix: str,
        known: Mapping[tuple[int, str], int],
        *,
        besides: Container[int] = (),
    ) -> list[SharedChunk]:
        """Return contributions whose name starts with ``prefix`` and whose version is not known.

        ``known`` maps (partition, name) to the version that the caller holds; partitions in
        ``besides`` are left out. Chunks of one partition are of one checkpoint. A deleted chunk is
        not reported: save an empty one instead.
        """
        ...

    def partitions(self) -> dict[int, dict[str, int]]:
        """Return next offsets of every partition that was ever saved."""
        ...

    def find_user(self, key: bytes, partition: int | None = None) -> tuple[int, bytes] | None:
        """Return (partition, blob) of the user with this key, wherever it lives.

        Whoever knows the one partition where it can live names it: only that one is asked.
        """
        ...

    def reset(self, partitions: Iterable[int] | None = None) -> None:
        """Delete the state of these partitions, or everything of this instance.

        Who owned them is fenced. Versions of contributions go on counting, so that a reader never
        takes new content for what it knows.
        """
        ...

    def ping(self) -> str:
        """Return a short description of what answers, or raise `StoreError` saying why not."""
        ...

    def close(self) -> None:
        """Release connections; afterwards every call raises `StoreError`."""
        ...
