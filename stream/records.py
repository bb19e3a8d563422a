"""Values that pass between a log, the pipeline and whoever publishes: records in, records out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Outgoing", "RecordBatch"]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition of one topic, in offset order.

    Parameters
    ----------
    topic, partition
        Where the records lie.
    offsets
        Offset of each record, increasing; gaps are allowed.
    values
        Bytes of each record: one JSON object, or several separated by newlines.
    times
        The log's own time of each record (append time), seconds since the epoch. What a client
        claims about time is judged against this, so a replay of the same log judges the same.
    keys
        Key of each record, where the log keeps one.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    values: Sequence[bytes]
    times: Sequence[float]
    keys: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.offsets)


class Outgoing(NamedTuple):
    """One record to publish; ``partition`` None lets the key decide (Kafka's murmur2)."""

    topic: str
    key: bytes | None
    value: bytes
    partition: int | None = None
