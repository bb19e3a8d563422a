"""A durable log in one SQLite file: topics, partitions, offsets, as Kafka has them.

Layout (log schema version 1), beside the state store's tables if the file is shared with it::

    meta         key, value     log_schema, log_partitions
    log_streams  stream         topic, partition, begin_offset, end_offset; one row a partition of a
                                topic, made at the topic's first record
    log_records  id             time (seconds since the epoch), key, value

``id`` is ``stream << 40 | offset``: SQLite's own row number, so that a record needs no index of
its own, an append goes to the end of its stream's pages, and a read is one range. A topic may
hold 2**40 records, a file 8 million partitions.

An append is durable (WAL, ``synchronous=FULL``) before it returns. Callers that append at the same
time share one transaction and its one fsync. Several processes may append to one file: the end of
each partition is read under the file's write lock.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stream.group_commit import GroupCommit
from stream.log_news import LogNews
from stream.partitioning import partition_for
from stream.records import Outgoing, RecordBatch
from stream.refusal import Refusal
from stream.sqlite_file import SqliteFile

__all__ = ["EmbeddedLog", "LogError", "OffsetOutOfRange"]

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE log_streams (
            stream INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
            begin_offset INTEGER NOT NULL DEFAULT 0, end_offset INTEGER NOT NULL DEFAULT 0,
            UNIQUE (topic, partition))""",
        """CREATE TABLE log_records (
            id INTEGER PRIMARY KEY, time REAL NOT NULL, key BLOB, value BLOB NOT NULL)""",
    ),
)
"""Statements that lead from version k to k + 1; an empty file starts at version 0."""

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_GROUP_BYTES = 16 * 1024 * 1024
_TRIM_ROWS = 20_000

MAX_RECORDS = 10_000
MAX_BYTES = 16 * 1024 * 1024


class LogError(Refusal):
    """The log refused, or could not write or read."""


class OffsetOutOfRange(LogError):
    """A read asked for records that retention has dropped, or that were never written."""


_Placed = tuple[str, int, bytes | None, bytes]
_Positions = list[tuple[str, int, int]]


class EmbeddedLog:
    """Topics of a fixed number of partitions in one file; usable from any thread.

    Parameters
    ----------
    path
        The file; it and its folder are created. It may be the state store's.
    partitions
        Partitions of every topic, fixed when the file is made: another number is refused, since
        keys would move to other partitions than their state.
    topics
        Topics with a number of partitions of their own. Any other topic is made at its first
        record.
    clock
        Time of an append, seconds since the epoch.
    busy_timeout_s
        How long an append waits for another process that is writing, in seconds.
    folds
        See `SqliteFile`; False in a process beside the one that learns.

    Raises
    ------
    LogError
        The file cannot be opened, or was made with another number of partitions.
    NewerSchema
        The file was written by a newer version.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(folder.name + "/log.db", partitions=2)
    >>> log.append([Outgoing("headrace.events", b"ann", b"{}")])
    [('headrace.events', 0, 0)]
    >>> log.read("headrace.events", 0, 0).values
    [b'{}']
    >>> log.close(); folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        partitions: int,
        *,
        topics: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.time,
        busy_timeout_s: float = 30.0,
        folds: bool = True,
    ) -> None:
        self.partitions = partitions
        self._topics = dict(topics or {})
        if min([partitions, *self._topics.values()]) < 1:
            raise LogError("log.partitions: at least 1")
        self._clock = clock
        self._file = SqliteFile(path, LogError, busy_timeout_s, folds=folds)
        try:
            self._file.migrate("log", _MIGRATIONS)
            self._check_partitions()
        except BaseException:
            self._file.close()
            raise
        self._commit: GroupCommit[list[_Placed], _Positions] = GroupCommit(
            self._write, _GROUP_BYTES, LogError
        )
        self._news = LogNews(self._file.data_version)

    def _check_partitions(self) -> None:
        settled = {"": self._file.bind("log_partitions", str(self.partitions))}
        with self._file.read() as connection:
            settled |= connection.execute(
                "SELECT topic, count(*) FROM log_streams GROUP BY topic"
            ).fetchall()
        for topic, found in settled.items():
            wanted = self.partitions_of(topic)
            if int(found) != wanted:
                raise LogError(
                    f"{self._file.path}: log.partitions{' of ' + topic if topic else ''} was"
                    f" {found} when the log was made, and is {wanted} now; set it back to {found},"
                    " or start with another file (users would move to other partitions than"
                    " their state)"
                )

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        return self._topics.get(topic, self.partitions)

    def append(self, records: Sequence[Outgoing]) -> list[tuple[str, int, int]]:
        """Append the records, all or none, and return (topic, partition, offset) of each.

        They are on the disk when this returns. Records of one call keep their order within a
        partition. A record without partition and key goes to partition 0.

        Raises
        ------
        LogError
            Nothing of this call was appended; the message says why and what to do.
        """
        if not records:
            return []
        placed = [self._placed(record) for record in records]
        return self._commit.submit(placed, sum(len(value) for _, _, _, value in placed))

    def _placed(self, record: Outgoing) -> _Placed:
        topic, key, value, partition = record
        number = self._topics.get(topic, self.partitions)
        if partition is None:
            partition = 0 if key is None else partition_for(key, number)
        elif not 0 <= partition < number:
            raise LogError(f"{topic}: no partition {partition}, it has {number}")
        return topic, partition, key, value

    def _write(self, calls: Sequence[list[_Placed]]) -> list[_Positions]:
        now = self._clock()
        rows: list[tuple[int, float, bytes | None, bytes]] = []
        next_ids: dict[tuple[str, int], int] = {}
        written: list[_Positions] = []
        with self._file.write() as connection:
            for call in calls:
                positions: _Positions = []
                for topic, partition, key, value in call:
                    place = topic, partition
                    next_id = next_ids.get(place)
                    if next_id is None:
                        next_id = self._end_id(connection, topic, partition)
                    next_ids[place] = next_id + 1
                    rows.append((next_id, now, key, value))
                    positions.append((topic, partition, next_id & _OFFSET_MASK))
                written.append(positions)
            connection.executemany("INSERT INTO log_records VALUES (?, ?, ?, ?)", rows)
            connection.executemany(
                "UPDATE log_streams SET end_offset = ? WHERE stream = ?",
                [(end & _OFFSET_MASK, end >> _OFFSET_BITS) for end in next_ids.values()],
            )
        self._news.tell()
        return written

    def _end_id(self, connection: sqlite3.Connection, topic: str, partition: int) -> int:
        find = "SELECT stream, end_offset FROM log_streams WHERE topic = ? AND partition = ?"
        row = connection.execute(find, (topic, partition)).fetchone()
        if row is None:
            # All partitions at once: their number is settled by the topic's first record.
            connection.executemany(
                "INSERT INTO log_streams (topic, partition) VALUES (?, ?)",
                [(topic, number) for number in range(self.partitions_of(topic))],
            )
            row = connection.execute(find, (topic, partition)).fetchone()
        stream, end = row
        return int(stream << _OFFSET_BITS | end)

    def read(
        self,
        topic: str,
        partition: int,
        next_offset: int,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> RecordBatch:
        """Return records from ``next_offset`` on, at least one if there is one.

        ``max_bytes`` bounds keys and values together, except that one record always fits.

        Raises
        ------
        OffsetOutOfRange
            Retention has dropped ``next_offset``, or the log ends before it.
        """
        offsets: list[int] = []
        times: list[float] = []
        keys: list[bytes | None] = []
        values: list[bytes] = []
        with self._file.read() as connection:
            stream, begin, end = connection.execute(
                "SELECT ifnull(max(stream), 0), ifnull(max(begin_offset), 0),"
                " ifnull(max(end_offset), 0) FROM log_streams WHERE topic = ? AND partition = ?",
                (topic, partition),
            ).fetchone()
            if not begin <= next_offset <= end:
                raise OffsetOutOfRange(_out_of_range(topic, partition, next_offset, begin, end))
            if next_offset < end:
                first = stream << _OFFSET_BITS
                n_bytes = 0
                for row, when, key, value in connection.execute(
                    "SELECT id, time, key, value FROM log_records WHERE id >= ? AND id < ?"
                    " ORDER BY id LIMIT ?",
                    (first + next_offset, first + end, max_records),
                ):
                    n_bytes += len(value) + (len(key) if key else 0)
                    if offsets and n_bytes > max_bytes:
                        break
                    offsets.append(row & _OFFSET_MASK)
                    times.append(when)
                    keys.append(key)
                    values.append(value)
        return RecordBatch(topic, partition, offsets, values, times, keys)

    def topics(self) -> list[str]:
        """Return the topics that hold records, or did."""
        with self._file.read() as connection:
            rows = connection.execute("SELECT DISTINCT topic FROM log_streams ORDER BY topic")
            return [topic for (topic,) in rows.fetchall()]

    def used_bytes(self) -> int:
        """Return how much of the file is in use; the rest waits to be written again."""
        with self._file.read() as connection:
            pages, free, size = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def begin_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset that is still there, for every partition of the topic."""
        return self._offsets(topic, 0)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset that the next record will get, for every partition of the topic."""
        return self._offsets(topic, 1)

    def _offsets(self, topic: str, which: int) -> dict[int, int]:
        with self._file.read() as connection:
            rows = connection.execute(
                "SELECT partition, begin_offset, end_offset FROM log_streams WHERE topic = ?",
                (topic,),
            ).fetchall()
        found = dict.fromkeys(range(self.partitions_of(topic)), 0)
        return found | {row[0]: row[1 + which] for row in rows}

    def offset_at(self, topic: str, partition: int, ts: float) -> int:
        """Return the first offset whose append time is ``ts`` or later, else the end.

        *Complexity*: a binary search, which takes append times as increasing.
        """
        with self._file.read() as connection:
            row = connection.execute(
                "SELECT stream, begin_offset, end_offset FROM log_streams"
                " WHERE topic = ? AND partition = ?",
                (topic, partition),
            ).fetchone()
            if row is None:
                return 0
            stream, low, high = row
            while low < high:
                middle = (low + high) // 2
                (when,) = connection.execute(
                    "SELECT time FROM log_records WHERE id = ?", (stream << _OFFSET_BITS | middle,)
                ).fetchone()
                if when < ts:
                    low = middle + 1
                else:
                    high = middle
        return int(low)

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """Drop records before an offset and return how many; appends go on meanwhile.

        Their space in the file is used again by later records; the file does not shrink.
        """
        dropped = 0
        while True:
            with self._file.write() as connection:
                row = connection.execute(
                    "SELECT stream, begin_offset, end_offset FROM log_streams"
                    " WHERE topic = ? AND partition = ?",
                    (topic, partition),
                ).fetchone()
                if row is None:
                    return 0
                stream, begin, end = row
                # A bounded piece at a time: the file's write lock is never held for long.
                to = min(before_offset, end, begin + _TRIM_ROWS)
                if to <= begin:
                    return dropped
                first = stream << _OFFSET_BITS
                connection.execute(
                    "UPDATE log_streams SET begin_offset = ? WHERE stream = ?", (to, stream)
                )
                connection.execute(
                    "DELETE FROM log_records WHERE id >= ? AND id < ?", (first + begin, first + to)
                )
                dropped += to - begin

    def wait(self, timeout: float, positions: Mapping[tuple[str, int], int] | None = None) -> bool:
        """Wait until there is something new to read; tell whether there is.

        Appends of this process wake it at once, those of others within 20 ms.

        Parameters
        ----------
        timeout
            Seconds; at most so long.
        positions
            Next offset of each (topic, partition) that the caller reads: returns True as soon as
            one of them has a record. Without them, returns True if anything was written to the
            file since the previous call returned: it may be no news to the caller, but with one
            waiting caller none is missed.
        """
        if positions is None:
            return self._news.wait(timeout)
        return self._news.wait(timeout, lambda: self._any_after(positions))

    def _any_after(self, positions: Mapping[tuple[str, int], int]) -> bool:
        with self._file.read() as connection:
            return any(
                connection.execute(
                    "SELECT 1 FROM log_streams"
                    " WHERE topic = ? AND partition = ? AND end_offset > ?",
                    (*place, next_offset),
                ).fetchone()
                for place, next_offset in positions.items()
            )

    def ping(self) -> str:
        """Return what the log holds, or raise `LogError` saying why it does not answer."""
        with self._file.read() as connection:
            records, topics = connection.execute(
                "SELECT ifnull(sum(end_offset - begin_offset), 0), count(DISTINCT topic)"
                " FROM log_streams"
            ).fetchone()
        return f"embedded log {self._file.path}, {topics} topics, {records} records"

    def close(self) -> None:
        """Close the file and wake who waits; afterwards every call raises `LogError`."""
        self._news.close()
        self._file.close()


def _out_of_range(topic: str, partition: int, next_offset: int, begin: int, end: int) -> str:
    where = f"{topic}, partition {partition}: the log holds offsets {begin} to {end}"
    if next_offset < begin:
        return (
            f"{where}; retention has dropped {next_offset}. Records are lost to this reader:"
            " restore an older log, or accept the loss with `headrace state reset`"
        )
    return (
        f"{where}, and {next_offset} is beyond its end: state and log are not of the same time."
        " Restore both from one backup, or start anew with `headrace state reset`"
    )
