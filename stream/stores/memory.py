"""State in this process only: for tests, and for a replay whose state nobody keeps."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream.state import (
    Checkpoint,
    ClaimRefused,
    Epoch,
    Fenced,
    PartitionHead,
    SharedChunk,
    StoreError,
)
from stream.stores.refusals import check_dues, older_generation, wrong_offsets, wrong_owner

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Partition:
    generation: int | None = None
    owner: str = ""
    offsets: dict[str, int] | None = None
    saves: int = 0
    users: dict[bytes, bytes] = field(default_factory=dict)
    timers: dict[bytes, float] = field(default_factory=dict)
    chunks: dict[str, tuple[int, bytes]] = field(default_factory=dict)


class MemoryStore:
    """A `stream.state.StateStore` in dictionaries; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}
        self._closed = False

    def claim(self, partition: int, epoch: Epoch, *, force: bool = False) -> PartitionHead:
        """Take the partition and return its head; see `stream.state.StateStore.claim`."""
        with self._lock:
            self._check_open()
            held = self._partitions.setdefault(partition, _Partition())
            if held.generation is not None and epoch.generation < held.generation and not force:
                raise ClaimRefused(older_generation(partition, epoch, held.generation))
            held.generation, held.owner = epoch
            return PartitionHead(
                partition,
                dict(held.offsets or {}),
                list(held.timers.items()),
                {name: data for name, (_, data) in held.chunks.items()},
            )

    def load_users(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored users among ``keys``."""
        with self._lock:
            self._check_open()
            held = self._partitions.get(partition)
            if held is None:
                return {}
            return {key: held.users[key] for key in keys if key in held.users}

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        """Return the stored users of several partitions."""
        return {partition: self.load_users(partition, keys) for partition, keys in wanted.items()}

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        """Write the checkpoint atomically; see `stream.state.StateStore.save`."""
        check_dues(checkpoint)
        with self._lock:
            self._check_open()
            partition = checkpoint.partition
            held = self._partitions.get(partition)
            if held is None:
                raise Fenced(wrong_owner(partition, epoch, None, ""))
            if (held.generation, held.owner) != epoch:
                raise Fenced(wrong_owner(partition, epoch, held.generation, held.owner))
            stored = held.offsets or {}
            if stored != checkpoint.expected:
                if stored == checkpoint.next_offsets:
                    return  # A repetition of the save that was written last.
                raise Fenced(wrong_offsets(partition, checkpoint.expected, stored))
            held.saves += 1
            held.offsets = dict(checkpoint.next_offsets)
            self._apply(held, checkpoint)

    @staticmethod
    def _apply(held: _Partition, checkpoint: Checkpoint) -> None:
        for key, write in checkpoint.users.items():
            if write is None:
                held.users.pop(key, None)
            else:
                held.users[key] = write.blob
            if write is None or write.due is None:
                held.timers.pop(key, None)
            else:
                held.timers[key] = write.due
        for name, data in checkpoint.chunks.items():
            if data is None:
                held.chunks.pop(name, None)
            else:
                held.chunks[name] = (held.saves, data)

    def release(self, partition: int, epoch: Epoch) -> None:
        """Give the partition up; no-op if not owned."""
        with self._lock:
            self._check_open()
            held = self._partitions.get(partition)
            if held is not None and (held.generation, held.owner) == epoch:
                held.owner = ""

    def shared(
        self,
        prefix: str,
        known: Mapping[tuple[int, str], int],
        *,
        besides: Container[int] = (),
    ) -> list[SharedChunk]:
        """Return contributions whose version is not known, by partition and name."""
        with self._lock:
            self._check_open()
            return [
                SharedChunk(partition, name, version, data)
                for partition, held in sorted(self._partitions.items())
                if partition not in besides
                for name, (version, data) in sorted(held.chunks.items())
                if name.startswith(prefix) and known.get((partition, name)) != version
            ]

    def partitions(self) -> dict[int, dict[str, int]]:
        """Return next offsets of every partition that was ever saved."""
        with self._lock:
            self._check_open()
            return {
                partition: dict(held.offsets)
                for partition, held in sorted(self._partitions.items())
                if held.offsets is not None
            }

    def find_user(self, key: bytes, partition: int | None = None) -> tuple[int, bytes] | None:
        """Return (partition, blob) of the user with this key."""
        with self._lock:
            self._check_open()
            for place, held in sorted(self._partitions.items()):
                if partition in (None, place) and key in held.users:
                    return place, held.users[key]
            return None

    def reset(self, partitions: Iterable[int] | None = None) -> None:
        """Delete the state of these partitions, or everything."""
        with self._lock:
            self._check_open()
            for partition in list(self._partitions) if partitions is None else partitions:
                if partition in self._partitions:
                    # The counter stays: a version that a reader knows must not come back.
                    self._partitions[partition] = _Partition(
                        saves=self._partitions[partition].saves
                    )

    def ping(self) -> str:
        """Return a short description."""
        with self._lock:
            self._check_open()
            return "memory: state is gone when the process ends"

    def close(self) -> None:
        """Refuse every later call."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("memory store: closed")
