"""One SQLite file in WAL mode, as the embedded log and the SQLite store use it.

Both may live in the same file: each opens a `SqliteFile` of its own, and SQLite lets one of them
write at a time. The ``meta`` table is common ground: it holds one schema version per tenant
(``log_schema``, ``state_schema``), so that each is migrated, or refused, by itself.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stream.state import NewerSchema

__all__ = ["SqliteFile", "explain", "sqlite_path"]

_SQLITE = "sqlite:///"
_RETRY_FIRST_S = 0.0005
_RETRY_LAST_S = 0.002
_CACHE_KIB = 16_384
_CHECKPOINT_PAGES = 4_000
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


def explain(error: sqlite3.Error, path: Path) -> str:
    """Return what went wrong with the file and what to do about it."""
    # The low byte is the primary code; the rest says which system call it was.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    remedies = {
        sqlite3.SQLITE_FULL: "the disk is full: free space and try again",
        sqlite3.SQLITE_BUSY: "another process keeps it locked: see who has it open (a backup, a"
        " shell with an open transaction, a second service) and end that",
        sqlite3.SQLITE_LOCKED: "another connection keeps a table locked: try again",
        sqlite3.SQLITE_READONLY: "it cannot be written: check the permissions of the file, of its"
        " -wal and -shm companions, and of the folder",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that the folder exists and may be"
        " written",
        sqlite3.SQLITE_IOERR: "reading or writing failed: the disk may be full, over quota or"
        " failing; see the system's log",
        sqlite3.SQLITE_CORRUPT: "it is damaged: restore it from a backup, or move it away with its"
        " -wal and -shm companions to start anew",
        sqlite3.SQLITE_NOTADB: "it is not an SQLite database: point the URL at another file",
    }
    return f"{path}: {remedies.get(code, 'SQLite refused')} ({error})"


def sqlite_path(url: str) -> Path:
    """Return the file of ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

    Raises
    ------
    ValueError
        It is another kind of URL, or names no file.

    Examples
    --------
    >>> sqlite_path("sqlite:///.headrace/headrace.db").as_posix()
    '.headrace/headrace.db'
    >>> sqlite_path("sqlite:////var/lib/headrace.db").as_posix()
    '/var/lib/headrace.db'
    """
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/"):
        raise ValueError(
            "an SQLite URL is sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    return Path(path)


class SqliteFile:
    """A writer's and a reader's connection to one file, each usable from any thread.

    Readers see the last commit and never wait for the writer. Writers queue for the file's single
    write lock, within the process and across processes, for at most ``busy_timeout_s``.

    Parameters
    ----------
    path
        The file; it (readable by its owner only) and its folder are created.
    error
        What sqlite3's errors are raised as.
    busy_timeout_s
        How long a writer waits for another one, in seconds.
    folds
        Whether a commit now and then folds the write-ahead log into the file, which takes as long
        as dozens of commits. Where another process writes too, it may do it for both.
    """

    def __init__(
        self,
        path: str | Path,
        error: type[Exception],
        busy_timeout_s: float = 30.0,
        *,
        folds: bool = True,
    ) -> None:
        self.path = Path(path)
        self._fold_pages = _CHECKPOINT_PAGES if folds else 0
        self._error = error
        self._busy_timeout_s = busy_timeout_s
        self._closed = False
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # It will hold what people did: for its owner only, as will be its companions.
            self.path.touch(0o600, exist_ok=True)
            self._writer = self._connect()
            try:
                # `write` waits by itself: SQLite's own waiting, which readers keep, backs off to
                # 100 ms; a log that shares the file with a store would feel it at each checkpoint.
                self._writer.execute("PRAGMA busy_timeout=0")
                self._reader = self._connect()
            except BaseException:
                self._writer.close()
                raise
        except OSError as failure:
            raise error(f"{self.path}: cannot be made ({failure})") from failure
        except sqlite3.Error as failure:
            raise error(explain(failure, self.path)) from failure

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            # Of several that change a new file's mode at once, SQLite refuses all but one without
            # waiting, whatever its timeout.
            (mode,) = self._patiently(connection, "PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise self._error(
                    f"{self.path}: SQLite cannot share memory there (a network file system?): put"
                    " it on a local disk"
                )
            # FULL makes a commit in WAL mode survive a power loss: one fsync of the WAL.
            connection.execute("PRAGMA synchronous=FULL")
            # Pragmas take no parameters; these are constants of this module.
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint={self._fold_pages}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def migrate(self, tenant: str, steps: Sequence[Sequence[str]]) -> None:
        """Bring a tenant's tables to the version ``len(steps)``; step k leads from k to k + 1.

        Raises
        ------
        NewerSchema
            The file was written by a newer version.
        """
        with self.write() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS meta"
                " (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            found = self.check_schema(connection, tenant, len(steps))
            for statements in steps[found:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"{tenant}_schema", str(len(steps)))
            )

    def check_schema(self, connection: sqlite3.Connection, tenant: str, known: int) -> int:
        """Return the tenant's version in the file (0: not there), refusing a newer one."""
        row = connection.execute(
            "SELECT value FROM meta WHERE key = ?", (f"{tenant}_schema",)
        ).fetchone()
        found = int(row[0]) if row else 0
        if found > known:
            raise NewerSchema(
                f"{self.path}: its {tenant} has schema version {found}, this program reads up to"
                f" {known}; run the version of Headrace that wrote it (or a later one), or point"
                " the URL at another file"
            )
        return found

    def bind(self, key: str, value: str) -> str:
        """Fix a setting at the file's creation, and return the one that holds."""
        with self.write() as connection:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0])

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run one durable transaction: committed at the end, rolled back on any exception."""
        with self._write_lock:
            self._check_open()
            try:
                self._patiently(self._writer, "BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        # A full disk may have rolled back already.
                        self._writer.execute("ROLLBACK")
                    raise
            except sqlite3.Error as failure:
                raise self._error(explain(failure, self.path)) from failure

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        deadline = time.monotonic() + self._busy_timeout_s
        pause = _RETRY_FIRST_S
        while True:
            try:
                return connection.execute(statement)
            except sqlite3.OperationalError as failure:
                if failure.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() >= deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 1.5, _RETRY_LAST_S)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give the reader's connection, on one consistent snapshot."""
        with self._read_lock:
            self._check_open()
            try:
                self._reader.execute("BEGIN")
                try:
                    yield self._reader
                finally:
                    with suppress(sqlite3.Error):
                        self._reader.execute("COMMIT")
            except sqlite3.Error as failure:
                raise self._error(explain(failure, self.path)) from failure

    def look_up(self, query: str, arguments: Sequence[object]) -> tuple[Any, ...] | None:
        """Return the first row of one query, None if there is none.

        A statement is a snapshot by itself. Each lets other threads have the interpreter, and
        waits until it is given back: a transaction around it would cost that three times.
        """
        with self._read_lock:
            self._check_open()
            try:
                row: tuple[Any, ...] | None = self._reader.execute(query, arguments).fetchone()
            except sqlite3.Error as failure:
                raise self._error(explain(failure, self.path)) from failure
        return row

    def data_version(self) -> int:
        """Return a number that changes when any other connection has written to the file."""
        with self._read_lock:
            self._check_open()
            try:
                return int(self._reader.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error as failure:
                raise self._error(explain(failure, self.path)) from failure

    def _check_open(self) -> None:
        if self._closed:
            raise self._error(f"{self.path}: closed")

    def close(self) -> None:
        """Close both connections; harmless when repeated."""
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                self._reader.close()
                self._writer.close()
