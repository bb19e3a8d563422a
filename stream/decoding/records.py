"""Bytes of the topics beside the events to validated records: items, gold, control, decisions.

Not hot: each line goes straight to the public schema, and is refused in the same words.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from stream.decoding.decode import MAX_FUTURE_SKEW_S, MAX_LINE_BYTES
from stream.decoding.rejection import (
    Invalid,
    Origin,
    Rejected,
    explain,
    parse_object,
    refuse_future,
    refuse_long,
    split_lines,
)
from stream.records import RecordBatch

__all__ = [
    "DecodedRecords",
    "RecordDecoder",
    "line_of",
]

T = TypeVar("T", bound=BaseModel)


@dataclass(slots=True)
class DecodedRecords(Generic[T]):
    """What a batch of records holds, in the order of the log.

    ``origins`` says where each record lies. ``tombstones`` are the keys of records without a
    value, each with the number of records before it: a compacted topic's way to delete.
    """

    records: list[T] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    tombstones: list[tuple[int, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


class RecordDecoder(Generic[T]):
    r"""Decode and validate batches of one topic by its public schema.

    Parameters
    ----------
    adapter
        The schema, as ``TOPICS[ITEMS]`` of `stream.events`.
    max_line_bytes
        A longer line is rejected unread.
    max_future_skew_s
        How far a record's ``ts`` may be ahead of the log's own time of it, in seconds.

    Examples
    --------
    >>> line = b'{"example_id":"e","label":"positive","annotator":"ann","ts":60}'
    >>> batch = RecordBatch("headrace.gold", 0, [3], [line + b"\n[]"], [60.0])
    >>> from stream.events import Gold
    >>> decoded = RecordDecoder(TypeAdapter(Gold)).decode(batch)
    >>> decoded.records[0].label, decoded.origins[0].offset
    ('positive', 3)
    >>> decoded.rejected[0].line, decoded.rejected[0].reason
    (2, 'should be one JSON object; found an array of 0')
    """

    def __init__(
        self,
        adapter: TypeAdapter[T],
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_future_skew_s: float = MAX_FUTURE_SKEW_S,
    ) -> None:
        self._adapter = adapter
        self._max_line_bytes = max_line_bytes
        self._max_future_skew_s = max_future_skew_s

    def decode(self, batch: RecordBatch) -> DecodedRecords[T]:
        """Return the records, tombstones and rejected lines of a batch."""
        decoded: DecodedRecords[T] = DecodedRecords()
        for index, (offset, value) in enumerate(zip(batch.offsets, batch.values, strict=True)):
            key = batch.keys[index] if batch.keys is not None else None
            if not value and key is not None:
                decoded.tombstones.append((len(decoded.records), key))
                continue
            for number, line in enumerate(split_lines(value), 1):
                if not line or line.isspace():
                    continue
                origin = Origin(offset, number, batch.times[index])
                try:
                    record = self._decode_line(line, origin.ts)
                except Invalid as fault:
                    decoded.rejected.append(Rejected(*origin, fault.field, fault.reason, line))
                else:
                    decoded.records.append(record)
                    decoded.origins.append(origin)
        return decoded

    def _decode_line(self, line: bytes, log_ts: float) -> T:
        refuse_long(line, self._max_line_bytes)
        document = parse_object(line)
        try:
            record = self._adapter.validate_python(document)
        except ValidationError as error:
            raise explain(error) from error
        ts = getattr(record, "ts", None)
        if ts is None:
            # An absent time is the log's own, so that a replay of the log gives the same record.
            return record.model_copy(update={"ts": log_ts})
        refuse_future("ts", ts, log_ts + self._max_future_skew_s)
        return record


def line_of(batch: RecordBatch, origin: Origin) -> bytes:
    """Return the line that lies there, as it was sent."""
    value = batch.values[bisect_left(batch.offsets, origin.offset)]
    return split_lines(value)[origin.line - 1]
