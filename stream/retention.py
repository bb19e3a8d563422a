"""Let go of what the embedded log has kept for long enough, and of nothing that is still needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from stream.events import CONTROL, DECISIONS, EVENTS, GOLD, ITEMS

__all__ = ["KEPT_WHOLE", "Retention"]

KEPT_WHOLE: Final = frozenset({CONTROL, ITEMS})
"""Topics of which the last word counts, however old: they are read from their beginning."""

_APPLIED: Final = frozenset({EVENTS, GOLD, DECISIONS})
_EIGHTH: Final = 8
_MAX_RECORDS: Final = 100_000


class Log(Protocol):
    """What retention asks of a log."""

    def topics(self) -> list[str]:
        """Return the topics that hold records, or did."""
        ...

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset that is still there, by partition."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset that the next record will get, by partition."""
        ...

    def offset_at(self, topic: str, partition: int, ts: float) -> int:
        """Return the first offset whose append time is ``ts`` or later, else the end."""
        ...

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """Drop records before an offset and return how many."""
        ...

    def used_bytes(self) -> int:
        """Return how much of the file is in use."""
        ...


class Retention:
    """Trims a log by age and by the size of its file.

    A record that a partition has yet to apply, or has applied since its last checkpoint, is kept
    whatever its age.

    Parameters
    ----------
    age_s
        How long records are kept, by the log's own time; 0: for ever.
    size_bytes
        While more than this of the file is in use, the oldest eighth of every topic is given up;
        0: no bound. State lies in the same file unless told otherwise, and counts.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        log: Log,
        age_s: float,
        size_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._age_s = age_s
        self._size_bytes = size_bytes
        self._clock = clock

    def trim(self, saved: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
        """Drop what is due, a bounded piece of it, and return how much of each topic.

        ``saved`` holds the next offsets of every partition's checkpoint, by input topic.
        """
        crowded = 0 < self._size_bytes < self._log.used_bytes()
        dropped: dict[str, int] = {}
        for topic in self._log.topics():
            if topic in KEPT_WHOLE:
                continue
            begins, ends = self._log.begin_offsets(topic), self._log.end_offsets(topic)
            for partition, begin in begins.items():
                before = begin
                if self._age_s > 0.0:
                    oldest = self._clock() - self._age_s
                    before = max(before, self._log.offset_at(topic, partition, oldest))
                if crowded:
                    before = max(before, begin + -(-(ends[partition] - begin) // _EIGHTH))
                if topic in _APPLIED:
                    before = min(before, saved.get(partition, {}).get(topic, 0))
                before = min(before, begin + _MAX_RECORDS)
                if before > begin:
                    dropped[topic] = dropped.get(topic, 0) + self._log.trim(
                        topic, partition, before
                    )
        return dropped
