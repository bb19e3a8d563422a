"""Gold answers wait for their moment: the first event that happened after them."""

from __future__ import annotations

import heapq
from typing import Final

import msgspec
from pydantic import TypeAdapter

from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import Invalid, Origin, Rejected
from stream.events import Gold
from stream.ids import KEY_BYTES
from stream.records import RecordBatch

__all__ = ["GoldAnswer", "GoldQueue"]

_NEVER: Final = float("inf")
_KEY_HEX: Final = 2 * KEY_BYTES
_ID_HEX: Final = _KEY_HEX + 16
_DECODER: Final = RecordDecoder(TypeAdapter(Gold))


class GoldAnswer(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One answer, ordered by its time, then by where it lay in the log.

    ``inclusion`` is the probability with which the example was drawn for the random audit;
    None when it was chosen for another reason.
    """

    ts: float
    offset: int
    line: int
    key: bytes
    hash: int
    task: str
    label: str
    inclusion: float | None = None
    annotator: str = ""


class GoldQueue:
    """Answers whose time has not come yet, smallest time first.

    An answer is applied right before the first event that happened after it, so that it does not
    matter which of the two topics was fetched first.
    """

    def __init__(self) -> None:
        self._heap: list[GoldAnswer] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first_ts(self) -> float:
        """Return the time of the next answer, infinity without any."""
        return self._heap[0].ts if self._heap else _NEVER

    def push(self, answer: GoldAnswer) -> None:
        """Let an answer wait."""
        heapq.heappush(self._heap, answer)

    def pop_before(self, ts: float) -> list[GoldAnswer]:
        """Remove and return the answers given before ``ts``, in order."""
        ready = []
        while self._heap and self._heap[0].ts < ts:
            ready.append(heapq.heappop(self._heap))
        return ready

    def keys_before(self, ts: float) -> list[bytes]:
        """Return the user keys of the answers given before ``ts``; looks at no others."""
        heap, found, stack = self._heap, [], [0]
        while stack:
            at = stack.pop()
            if at < len(heap) and heap[at].ts < ts:
                found.append(heap[at].key)
                stack += (2 * at + 1, 2 * at + 2)
        return found

    def decode(self, batch: RecordBatch) -> tuple[list[GoldAnswer], list[Rejected]]:
        """Return the answers of a batch of records, and the lines that are none."""
        decoded = _DECODER.decode(batch)
        answers: list[GoldAnswer] = []
        for gold, origin in zip(decoded.records, decoded.origins, strict=True):
            try:
                answers.append(_answer(gold, origin))
            except Invalid as fault:
                raw = gold.model_dump_json().encode()
                decoded.rejected.append(Rejected(*origin, fault.field, fault.reason, raw))
        return answers, decoded.rejected

    def to_bytes(self) -> bytes:
        """Return the answers that wait."""
        return msgspec.msgpack.encode(sorted(self._heap))

    def load(self, data: bytes) -> None:
        """Replace the answers that wait by stored ones."""
        self._heap = msgspec.msgpack.decode(data, type=list[GoldAnswer])
        heapq.heapify(self._heap)


def _answer(gold: Gold, origin: Origin) -> GoldAnswer:
    name = gold.example_id
    try:
        if len(name) != _ID_HEX:
            raise ValueError
        key, half = bytes.fromhex(name[:_KEY_HEX]), int(name[_KEY_HEX:], 16)
    except ValueError as error:
        raise Invalid(
            "example_id", f"found {name[:60]!r}, allowed: {_ID_HEX} hexadecimal digits"
        ) from error
    return GoldAnswer(
        gold.ts,
        origin.offset,
        origin.line,
        key,
        half,
        gold.task,
        gold.label,
        gold.inclusion,
        gold.annotator,
    )
