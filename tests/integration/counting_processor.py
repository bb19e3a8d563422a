"""The smallest processor that proves exactness: counts per user, one effect for each event.

Events are lines ``{"event_id": ..., "user_id": ...}``. Per user it keeps how many distinct events
it saw and the sum of their numbers; a lost or doubled event changes one of them.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from stream.records import Outgoing, RecordBatch
from stream.state import Checkpoint, PartitionHead, SharedChunk, UserWrite

CACHE_USERS = 512
"""Small, so that users leave memory and are loaded again all the time."""


@dataclass
class CountedBatch:
    batch: RecordBatch
    events: list[tuple[int, str, int]]
    missing: list[bytes]


@dataclass
class CountedEffects:
    records: list[Outgoing] = field(default_factory=list)

    def outgoing(self) -> list[Outgoing]:
        return self.records


class CountingProcessor:
    """Count a partition's events per user."""

    def __init__(
        self,
        partition: int,
        *,
        events: str,
        labels: str | None,
        before_process: Callable[[RecordBatch], None] | None = None,
        busy_s: float = 0.0,
    ) -> None:
        self.partition = partition
        self.next_offsets: dict[str, int] = {}
        self.users: dict[bytes, tuple[int, int]] = {}
        self.dirty: dict[bytes, tuple[int, int]] = {}
        self.unsaved: dict[bytes, tuple[int, int]] = {}
        self.cut_at: dict[str, int] = {}
        self.skipped = 0
        self.total = 0
        self.others: dict[int, int] = {}
        self.ticks = 0
        self._events = events
        self._labels = labels
        self._before_process = before_process
        self._busy_s = busy_s

    def restore(self, head: PartitionHead) -> None:
        self.next_offsets = dict(head.next_offsets)
        self.cut_at = dict(head.next_offsets)
        self.total = int(head.chunks.get("share/total", b"0"))
        self.ticks = int(head.chunks.get("ticks", b"0"))

    def prepare(self, batch: RecordBatch) -> CountedBatch:
        events = []
        needed = set()
        first = self.next_offsets.get(batch.topic, 0)
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            if offset < first:
                self.skipped += 1
                continue
            for line in value.split(b"\n"):
                if batch.topic == self._events and line:
                    event = orjson.loads(line)
                    events.append((offset, event["user_id"], _number(event["event_id"])))
                    needed.add(event["user_id"].encode())
        missing = [key for key in sorted(needed) if key not in self.users and key not in self.dirty]
        return CountedBatch(batch, events, missing)

    def process(self, prepared: CountedBatch, loaded: Mapping[bytes, bytes]) -> CountedEffects:
        if self._before_process is not None:
            self._before_process(prepared.batch)
        if self._busy_s:
            time.sleep(self._busy_s)
        for key, blob in loaded.items():
            stored = blob.split()
            self.users[key] = int(stored[0]), int(stored[1])
        effects = CountedEffects()
        for offset, user, number in prepared.events:
            if user == "":
                self.ticks += 1
                continue
            key = user.encode()
            count, total = self.dirty.get(key) or self.users.get(key, (0, 0))
            self.dirty[key] = count + 1, total + number
            self.total += 1
            if self._labels is not None:
                label = {"user": user, "event": number, "count": count + 1, "offset": offset}
                effects.records.append(Outgoing(self._labels, key, orjson.dumps(label)))
        batch = prepared.batch
        reached = batch.offsets[-1] + 1
        if reached > self.next_offsets.get(batch.topic, 0):
            self.next_offsets[batch.topic] = reached
        return effects

    def settling(self) -> Sequence[Callable[[], None]]:
        return ()

    def cut(self) -> Checkpoint:
        assert not self.unsaved
        dirty, self.dirty = self.dirty, {}
        self.users |= dirty
        self.unsaved = dirty
        checkpoint = Checkpoint(
            partition=self.partition,
            expected=self.cut_at,
            next_offsets=dict(self.next_offsets),
            users={key: UserWrite(b"%d %d" % numbers, None) for key, numbers in dirty.items()},
            chunks={
                "share/total": str(self.total).encode(),
                "ticks": str(self.ticks).encode(),
            },
        )
        self.cut_at = dict(self.next_offsets)
        return checkpoint

    def saved(self) -> None:
        self.unsaved = {}
        for key in list(self.users)[:-CACHE_USERS]:
            del self.users[key]

    def tell(self) -> bool:
        return True  # It has no metrics.

    def take_in(self, chunks: Sequence[SharedChunk], *, whole: bool = False) -> None:
        assert not whole
        for chunk in chunks:
            assert chunk.partition != self.partition
            self.others[chunk.partition] = int(chunk.data)

    def close(self) -> None:
        self.users.clear()

    def tick(self, idle_s: float) -> Outgoing | None:
        value = orjson.dumps({"event_id": 0, "user_id": "", "idle_s": idle_s})
        return Outgoing(self._events, None, value)


def _number(event_id: int | str) -> int:
    return event_id if isinstance(event_id, int) else zlib.crc32(event_id.encode())
