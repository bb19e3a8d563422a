"""Deliver records to a Faust agent as micro-batches of one partition.

Faust hands a stream one record at a time, which costs 65 µs each. A consumer scheduler is asked
in which order fetched records are delivered; ours answers with whole batches that look, to Faust,
like single records whose value is a `RecordBatch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faust.serializers.schemas import Schema
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP, AppT, EventT, Message

from stream.records import RecordBatch

__all__ = ["BatchRecord", "BatchScheduler", "BatchSchema", "Pacer", "part_of", "to_batch"]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch in the shape of one aiokafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    value: RecordBatch
    key: None = None
    headers: tuple[()] = ()
    checksum: None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 0


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


class BatchScheduler(DefaultSchedulingStrategy):
    """Deliver everything that was fetched of a partition at once.

    Order: by topic name, then partition; so events come before gold.
    """

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, BatchRecord]]:
        """Yield one batch for each partition that has records."""
        for tp in sorted(records):
            fetched = records[tp]
            if fetched:
                yield (
                    tp,
                    BatchRecord(
                        topic=tp.topic,
                        partition=tp.partition,
                        offset=fetched[0].offset,
                        timestamp=fetched[-1].timestamp,
                        timestamp_type=fetched[-1].timestamp_type,
                        value=to_batch(tp.topic, tp.partition, fetched),
                    ),
                )


class BatchSchema(Schema):  # type: ignore[type-arg]  # generic only in Faust's stub part
    """Hand the batch over as it is: decoding belongs to the pipeline."""

    def compile(self, app: AppT, **kwargs: Any) -> Any:
        """Return the function that makes an event of a message."""
        create_event = app.create_event

        async def decode(message: Message, *, propagate: bool = False) -> EventT[Any]:
            return create_event(None, message.value, {}, message)

        return decode


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
