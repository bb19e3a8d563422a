"""Micro-batches of one partition: made of what was fetched, joined, cut into slices.

Faust hands a stream one record at a time, which costs 65 µs each; our consumer hands over batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from faust.types import TP

from stream.records import RecordBatch

__all__ = ["Linger", "Pacer", "joined", "part_of", "to_batch", "to_batches"]


def to_batch(topic: str, partition: int, records: Sequence[Any]) -> RecordBatch:
    """Return aiokafka's records of one partition as one batch; a tombstone's value is empty."""
    return RecordBatch(
        topic=topic,
        partition=partition,
        offsets=[record.offset for record in records],
        values=[record.value or b"" for record in records],
        times=[record.timestamp / 1000.0 for record in records],
        keys=[record.key for record in records],
    )


def to_batches(fetched: Mapping[TP, Sequence[Any]]) -> list[RecordBatch]:
    """Return what a fetch brought, as one batch for each partition that has records.

    Order: by topic name, then partition; so events come before gold.
    """
    return [to_batch(tp.topic, tp.partition, fetched[tp]) for tp in sorted(fetched) if fetched[tp]]


class Pacer:
    """Cut batches into slices that each take about as long as the loop may be blocked.

    Parameters
    ----------
    slice_s
        How long a slice may take; heartbeats, acknowledgements and commits wait that long.

    Replay: slices depend on the clock, results do not depend on slices.
    """

    FIRST_BYTES = 64 * 1024
    SMOOTHING = 0.2
    #: Smaller slices say little about how long a byte takes.
    TELLING_BYTES = 1024

    def __init__(self, slice_s: float) -> None:
        self._slice_s = slice_s
        self._bytes = float(self.FIRST_BYTES)

    def observe(self, size_bytes: int, elapsed_s: float) -> None:
        """Learn from a slice that was processed."""
        if size_bytes < self.TELLING_BYTES or elapsed_s <= 0.0:
            return
        fitting = self._slice_s * size_bytes / elapsed_s
        # Never trust one fast slice with more than twice the size.
        fitting = min(fitting, 2.0 * self._bytes)
        self._bytes += self.SMOOTHING * (fitting - self._bytes)

    def slices(self, batch: RecordBatch) -> Iterator[tuple[RecordBatch, int]]:
        """Yield parts of the batch, in order, with their size in bytes."""
        start, size = 0, 0
        for index, value in enumerate(batch.values):
            size += len(value)
            if size >= self._bytes:
                yield part_of(batch, start, index + 1), size
                start, size = index + 1, 0
        if start < len(batch):
            yield part_of(batch, start, len(batch)), size


class Linger:
    """Say how long thin traffic is let gather, so that small batches leave most of the time free.

    A batch costs as much as dozens of records. What is spent on one round of batches is learned as
    it goes, and the pause is a multiple of it: a busy worker takes fewer and fuller batches, an
    idle one waits for nobody.

    Parameters
    ----------
    least_s
        Shortest pause; 0 for none ever.
    longest_s
        Longest pause, unless the shortest is longer; `LONGEST_S` if absent.
    share
        Share of the time that rounds may take. A quarter leaves labels waiting for company where
        the machine has time; two fifths leave too little of it to what else a worker does.

    Replay: batches depend on the clock, results do not depend on batches.
    """

    SMOOTHING = 0.1
    LONGEST_S = 0.025

    def __init__(
        self, least_s: float, *, longest_s: float | None = None, share: float = 1.0 / 3.0
    ) -> None:
        self._least_s = least_s
        self._longest_s = self.LONGEST_S if longest_s is None else longest_s
        self._pauses_per_round = 1.0 / share - 1.0
        self._round_s = 0.0
        self._spent_s = 0.0

    def pause_s(self, spent_s: float) -> float:
        """Return the pause before the next round, given the seconds spent on all until now."""
        if self._least_s <= 0.0:
            return 0.0
        last_s, self._spent_s = spent_s - self._spent_s, spent_s
        self._round_s += self.SMOOTHING * (last_s - self._round_s)
        return max(self._least_s, min(self._longest_s, self._round_s * self._pauses_per_round))


def joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    """Return batches of one partition, which follow each other, as one."""
    if len(batches) == 1:
        return batches[0]
    keys = [batch.keys for batch in batches if batch.keys is not None]
    return RecordBatch(
        topic=batches[0].topic,
        partition=batches[0].partition,
        offsets=list(chain.from_iterable(batch.offsets for batch in batches)),
        values=list(chain.from_iterable(batch.values for batch in batches)),
        times=list(chain.from_iterable(batch.times for batch in batches)),
        keys=list(chain.from_iterable(keys)) if len(keys) == len(batches) else None,
    )


def part_of(batch: RecordBatch, start: int, stop: int) -> RecordBatch:
    """Return the records from position ``start`` up to ``stop``."""
    if start == 0 and stop == len(batch):
        return batch
    return RecordBatch(
        topic=batch.topic,
        partition=batch.partition,
        offsets=batch.offsets[start:stop],
        values=batch.values[start:stop],
        times=batch.times[start:stop],
        keys=None if batch.keys is None else batch.keys[start:stop],
    )
