"""State in one SQLite file: the default, for one machine.

Layout (schema version 1), beside the embedded log's tables if the file is shared with it::

    meta              key, value               state_schema, state_instance
    state_partitions  partition                generation, owner, offsets (JSON, NULL: never
                                               saved), saves (counts saves; never goes back)
    state_users       partition, key           blob
    state_timers      partition, key           due (event time, seconds)
    state_chunks      partition, name          version (``saves`` when it was written), data

Timers have a table of their own, so that a claim reads them without reading every user. Users have
row numbers: without, a user of 1 kB would take a page of 4 kB of its own (measured: a save 4 times
slower, the file 4 times larger).
A save is one ``BEGIN IMMEDIATE`` transaction with ``synchronous=FULL``: the checks come first
under the write lock, and what follows is committed as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from stream.sqlite_file import SqliteFile
from stream.state import (
    SCHEMA_VERSION,
    Checkpoint,
    ClaimRefused,
    Epoch,
    Fenced,
    PartitionHead,
    SharedChunk,
    StoreError,
)
from stream.stores.refusals import (
    check_dues,
    decode_offsets,
    encode_offsets,
    older_generation,
    wrong_offsets,
    wrong_owner,
)

__all__ = ["SqliteStore"]

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE state_partitions (
            partition INTEGER PRIMARY KEY, generation INTEGER, owner TEXT NOT NULL DEFAULT '',
            offsets TEXT, saves INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE state_users (
            partition INTEGER NOT NULL, key BLOB NOT NULL, blob BLOB NOT NULL,
            PRIMARY KEY (partition, key))""",
        """CREATE TABLE state_timers (
            partition INTEGER NOT NULL, key BLOB NOT NULL, due REAL NOT NULL,
            PRIMARY KEY (partition, key)) WITHOUT ROWID""",
        """CREATE TABLE state_chunks (
            partition INTEGER NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
            data BLOB NOT NULL, PRIMARY KEY (partition, name))""",
    ),
)
"""Statements that lead from version k to k + 1; an empty file starts at version 0."""

if len(_MIGRATIONS) != SCHEMA_VERSION:  # pragma: no cover
    raise AssertionError("stream.state.SCHEMA_VERSION moved without a migration here")

_KEYS_PER_QUERY = 500
_LOAD = "SELECT key, blob FROM state_users WHERE partition = ? AND key IN (:keys)".replace(
    ":keys", ",".join("?" * _KEYS_PER_QUERY)
)
_PUT_USER = """INSERT INTO state_users (partition, key, blob) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET blob = excluded.blob"""
# A timer that has not moved dirties no page.
_PUT_TIMER = """INSERT INTO state_timers (partition, key, due) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET due = excluded.due WHERE due <> excluded.due"""
_PUT_CHUNK = """INSERT INTO state_chunks (partition, name, version, data) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET version = excluded.version, data = excluded.data"""


class SqliteStore:
    """A `stream.state.StateStore` in one SQLite file, usable from any thread.

    Parameters
    ----------
    path
        The file; it and its folder are created. It may be the embedded log's.
    instance
        Name of the deployment. A file holds one: another name is refused.
    busy_timeout_s
        How long a write waits for another process that is writing, in seconds.
    """

    def __init__(
        self, path: str | Path, *, instance: str = "headrace", busy_timeout_s: float = 30.0
    ) -> None:
        self._file = SqliteFile(path, StoreError, busy_timeout_s)
        try:
            self._file.migrate("state", _MIGRATIONS)
            found = self._file.bind("state_instance", instance)
            if found != instance:
                raise StoreError(
                    f"{path}: holds the state of instance {found!r}, not of {instance!r}; give"
                    " each instance a file of its own"
                )
        except BaseException:
            self._file.close()
            raise

    def claim(self, partition: int, epoch: Epoch, *, force: bool = False) -> PartitionHead:
        """Take the partition and return its head; see `stream.state.StateStore.claim`."""
        with self._file.write() as connection:
            # Again here: a newer version may have migrated the file since it was opened.
            self._file.check_schema(connection, "state", SCHEMA_VERSION)
            row = connection.execute(
                "SELECT generation, offsets FROM state_partitions WHERE partition = ?",
                (partition,),
            ).fetchone()
            generation, offsets = row or (None, None)
            if generation is not None and epoch.generation < generation and not force:
                raise ClaimRefused(older_generation(partition, epoch, generation))
            connection.execute(
                """INSERT INTO state_partitions (partition, generation, owner) VALUES (?, ?, ?)
                ON CONFLICT DO UPDATE SET generation = excluded.generation,
                owner = excluded.owner""",
                (partition, epoch.generation, epoch.owner),
            )
            timers = connection.execute(
                "SELECT key, due FROM state_timers WHERE partition = ?", (partition,)
            ).fetchall()
            chunks = connection.execute(
                "SELECT name, data FROM state_chunks WHERE partition = ?", (partition,)
            ).fetchall()
        return PartitionHead(
            partition, decode_offsets(offsets) if offsets else {}, timers, dict(chunks)
        )

    def load_users(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored users among ``keys``."""
        found: dict[bytes, bytes] = {}
        remaining = iter(keys)
        with self._file.read() as connection:
            while some := list(islice(remaining, _KEYS_PER_QUERY)):
                # Repeating the last key keeps it one prepared statement for every length.
                some += some[-1:] * (_KEYS_PER_QUERY - len(some))
                found.update(connection.execute(_LOAD, (partition, *some)))
        return found

    def load_users_of(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, bytes]]:
        """Return the stored users of several partitions."""
        return {partition: self.load_users(partition, keys) for partition, keys in wanted.items()}

    def save(self, checkpoint: Checkpoint, epoch: Epoch) -> None:
        """Write the checkpoint in one transaction; see `stream.state.StateStore.save`."""
        check_dues(checkpoint)
        partition = checkpoint.partition
        # Rows are made before the transaction, so that the file's write lock is held for less, and
        # in the order of their keys, so that neighbours share a page while it is at hand.
        writes = sorted(checkpoint.users.items())
        users = [(partition, key, w.blob) for key, w in writes if w]
        timers = [(partition, key, w.due) for key, w in writes if w and w.due is not None]
        no_user = [(partition, key) for key, w in writes if w is None]
        no_timer = [(partition, key) for key, w in writes if w is None or w.due is None]
        chunks = [(partition, n, data) for n, data in checkpoint.chunks.items() if data is not None]
        no_chunk = [(partition, n) for n, data in checkpoint.chunks.items() if data is None]
        with self._file.write() as connection:
            self._file.check_schema(connection, "state", SCHEMA_VERSION)
            row = connection.execute(
                "SELECT generation, owner, offsets, saves FROM state_partitions"
                " WHERE partition = ?",
                (partition,),
            ).fetchone()
            generation, owner, offsets, saves = row or (None, "", None, 0)
            if (generation, owner) != epoch:
                raise Fenced(wrong_owner(partition, epoch, generation, owner))
            stored = decode_offsets(offsets) if offsets else {}
            if stored != checkpoint.expected:
                if stored == checkpoint.next_offsets:
                    return  # A repetition of the save that was written last.
                raise Fenced(wrong_offsets(partition, checkpoint.expected, stored))
            connection.execute(
                "UPDATE state_partitions SET offsets = ?, saves = ? WHERE partition = ?",
                (encode_offsets(checkpoint.next_offsets), saves + 1, partition),
            )
            connection.executemany(_PUT_USER, users)
            connection.executemany(_PUT_TIMER, timers)
            connection.executemany(
                "DELETE FROM state_users WHERE partition = ? AND key = ?", no_user
            )
            connection.executemany(
                "DELETE FROM state_timers WHERE partition = ? AND key = ?", no_timer
            )
            connection.executemany(
                _PUT_CHUNK, [(p, name, saves + 1, data) for p, name, data in chunks]
            )
            connection.executemany(
                "DELETE FROM state_chunks WHERE partition = ? AND name = ?", no_chunk
            )

    def release(self, partition: int, epoch: Epoch) -> None:
        """Give the partition up; no-op if not owned."""
        with self._file.write() as connection:
            connection.execute(
                "UPDATE state_partitions SET owner = ''"
                " WHERE partition = ? AND generation = ? AND owner = ?",
                (partition, epoch.generation, epoch.owner),
            )

    def shared(
        self,
        prefix: str,
        known: Mapping[tuple[int, str], int],
        *,
        besides: Container[int] = (),
    ) -> list[SharedChunk]:
        """Return contributions whose version is not known, by partition and name."""
        with self._file.read() as connection:
            self._file.check_schema(connection, "state", SCHEMA_VERSION)
            names = connection.execute(
                "SELECT partition, name, version FROM state_chunks ORDER BY partition, name"
            ).fetchall()
            changed: list[SharedChunk] = []
            for partition, name, version in names:
                if partition in besides:
                    continue
                if name.startswith(prefix) and known.get((partition, name)) != version:
                    (data,) = connection.execute(
                        "SELECT data FROM state_chunks WHERE partition = ? AND name = ?",
                        (partition, name),
                    ).fetchone()
                    changed.append(SharedChunk(partition, name, version, data))
        return changed

    def partitions(self) -> dict[int, dict[str, int]]:
        """Return next offsets of every partition that was ever saved."""
        with self._file.read() as connection:
            rows = connection.execute(
                "SELECT partition, offsets FROM state_partitions WHERE offsets IS NOT NULL"
                " ORDER BY partition"
            ).fetchall()
        return {partition: decode_offsets(offsets) for partition, offsets in rows}

    def find_user(self, key: bytes, partition: int | None = None) -> tuple[int, bytes] | None:
        """Return (partition, blob) of the user with this key."""
        # The subquery makes it one look-up a partition, without an index of keys alone.
        row = self._file.look_up(
            """SELECT partition, blob FROM state_users WHERE key = ?1 AND partition IN
            (SELECT partition FROM state_partitions WHERE ifnull(?2, partition) = partition)
            ORDER BY partition LIMIT 1""",
            (key, partition),
        )
        return (int(row[0]), bytes(row[1])) if row else None

    def reset(self, partitions: Iterable[int] | None = None) -> None:
        """Delete the state of these partitions, or everything."""
        with self._file.write() as connection:
            if partitions is None:
                rows = connection.execute("SELECT partition FROM state_partitions").fetchall()
            else:
                rows = [(partition,) for partition in partitions]
            connection.executemany("DELETE FROM state_users WHERE partition = ?", rows)
            connection.executemany("DELETE FROM state_timers WHERE partition = ?", rows)
            connection.executemany("DELETE FROM state_chunks WHERE partition = ?", rows)
            # The counter stays: a version that a reader knows must not come back.
            connection.executemany(
                "UPDATE state_partitions SET generation = NULL, owner = '', offsets = NULL"
                " WHERE partition = ?",
                rows,
            )

    def ping(self) -> str:
        """Return where the state lies and how large the file is, or say why it does not answer."""
        with self._file.read() as connection:
            version = self._file.check_schema(connection, "state", SCHEMA_VERSION)
            (saved,) = connection.execute(
                "SELECT count(*) FROM state_partitions WHERE offsets IS NOT NULL"
            ).fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        return (
            f"SQLite file {self._file.path}, {pages * page_bytes / 1e6:.1f} MB, schema {version},"
            f" {saved} partitions saved"
        )

    def close(self) -> None:
        """Close the file; afterwards every call raises `StoreError`."""
        self._file.close()
