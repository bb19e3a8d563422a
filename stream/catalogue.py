"""What is known of the items: read whole by every process, looked up by labeling functions."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from models.content import ContentIndex
from stream.decoding.decode import MAX_LINE_BYTES
from stream.decoding.records import RecordDecoder
from stream.decoding.rejection import Rejected
from stream.events import Item
from stream.records import RecordBatch

__all__ = ["Catalogue", "CatalogueReading"]

_EMPTY: Final[Mapping[str, Any]] = {}
_REFUSED: Final = 10_000
_REFUSED_BYTES: Final = 16 << 20
_FORGOTTEN: Final = 1_000_000


class Catalogue:
    """Items by id; the last entry of an item counts.

    ``next_offset`` is the first offset not taken in, of a topic that has one partition;
    ``refused`` are the latest lines that are no items, ``forgotten`` the offsets of those before.

    *State* — one entry an item, as the items topic holds after compaction, which items are alike
    (``content``), and at most 10,000 refused lines or 16 MiB of them.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._items: dict[str, Mapping[str, Any]] = {}
        self.content = ContentIndex()
        self.next_offset = 0
        self.refused: deque[Rejected] = deque()
        self.forgotten = array("q")
        self._refused_bytes = 0
        self._decoder = RecordDecoder(TypeAdapter(Item), max_line_bytes=max_line_bytes)

    def __len__(self) -> int:
        return len(self._items)

    def __call__(self, item_id: str) -> Mapping[str, Any]:
        """Return an item's entry, empty if there is none."""
        return self._items.get(item_id, _EMPTY)

    def take_in(self, batch: RecordBatch) -> None:
        """Take a batch in; what is no item is left out."""
        self.apply(batch)

    def apply(self, batch: RecordBatch) -> list[Rejected]:
        """Take a batch of the items topic in; return the lines that are no items.

        A record without a value is a tombstone: the item of its key is forgotten.
        """
        if len(batch):
            self.next_offset = max(self.next_offset, batch.offsets[-1] + 1)
        decoded = self._decoder.decode(batch)
        tombstones = iter([*decoded.tombstones, (len(decoded.records) + 1, b"")])
        position, key = next(tombstones)
        for number, item in enumerate(decoded.records):
            while position <= number:
                self._forget(key.decode("utf-8", "replace"))
                position, key = next(tombstones)
            entry = item.model_dump(exclude_none=True)
            before = self._items.get(item.item_id)
            self._items[item.item_id] = entry
            self.content.add(item.item_id, entry)
            self._changed(item.item_id, before, entry)
        while position <= len(decoded.records):
            self._forget(key.decode("utf-8", "replace"))
            position, key = next(tombstones)
        self._refuse(decoded.rejected)
        return decoded.rejected

    def _refuse(self, lines: Sequence[Rejected]) -> None:
        """Keep refused lines for whoever tells of them; the oldest go where they are too many."""
        kept = self.refused
        for line in lines:
            kept.append(line)
            self._refused_bytes += len(line.raw)
            while len(kept) > _REFUSED or (len(kept) > 1 and self._refused_bytes > _REFUSED_BYTES):
                gone = kept.popleft()
                self._refused_bytes -= len(gone.raw)
                self.forgotten.append(gone.offset)
        if len(self.forgotten) > _FORGOTTEN:
            del self.forgotten[: _FORGOTTEN // 2]

    def _forget(self, item_id: str) -> None:
        before = self._items.pop(item_id, None)
        if before is not None:
            self._changed(item_id, before, None)

    def _changed(
        self, item_id: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:
        """Take note that an entry is another one now, or gone; for whoever keeps an index."""


class CatalogueReading:
    """How far a partition knows that the catalogue's topic was read, and what it tells of it.

    Parameters
    ----------
    catalogue
        Read by the process, for all its partitions.
    tells
        Whether this is the partition that sends lines which are no items to the dead letters.
    """

    def __init__(self, catalogue: Catalogue, *, tells: bool) -> None:
        self._catalogue = catalogue
        self._tells = tells
        self._told = 0

    def begin(self, next_offset: int) -> None:
        """Go on where a checkpoint stands: what lies before was told."""
        self._told = next_offset

    def untold(self) -> tuple[list[Rejected], int]:
        """Return the lines that were refused since the last call, and how many more have gone.

        All of them count as told now.
        """
        found, gone = self._waiting(), self._gone()
        if found:
            # What has gone is older, or of the same record: the newest line is always kept.
            self._told = found[-1].offset + 1
        return found, len(gone)

    @property
    def waits(self) -> bool:
        """Whether lines were refused that are not told yet."""
        return bool(self._waiting() or self._gone())

    @property
    def next_offset(self) -> int:
        """First offset that a checkpoint does not cover: not read, or refused and not told."""
        if gone := self._gone():
            return gone[0]
        waiting = self._waiting()
        return waiting[0].offset if waiting else self._catalogue.next_offset

    def _gone(self) -> array[int]:
        forgotten = self._catalogue.forgotten
        if not self._tells or not forgotten or forgotten[-1] < self._told:
            return array("q")
        return forgotten[bisect_left(forgotten, self._told) :]

    def _waiting(self) -> list[Rejected]:
        refused = self._catalogue.refused
        if not self._tells or not refused or refused[-1].offset < self._told:
            return []
        return [one for one in tuple(refused) if one.offset >= self._told]
