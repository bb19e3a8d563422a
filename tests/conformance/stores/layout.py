"""Stored state as text: fixtures of every version that was ever written.

`python -m tests.conformance.stores.layout` writes those of the current version, after the schema
version was raised; fixtures of older versions are never written again.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from redis import Redis

from stream.embedded_log import EmbeddedLog
from stream.records import Outgoing
from stream.state import SCHEMA_VERSION, Checkpoint, Epoch, StateStore, UserWrite
from stream.stores import SqliteStore, open_store

FIXTURES = Path(__file__).parents[2] / "replay" / "fixtures"
LOG_VERSION = 1
EPOCH = Epoch(7, "process-a")
PARTS = ("head", "users", "timers", "chunks", "versions")

USERS = {
    b"ann-------": UserWrite(b"state of ann", 1_700_000_000.5),
    b"bob-------": UserWrite(b"\x00\x01\xff", None),
}
CHUNKS = {"share/label-model": b"\x02sums", "own": b"position"}
OFFSETS = {"headrace.events": 42, "headrace.gold": 3}
RECORDS = [
    Outgoing("headrace.events", b"ann", b'{"event_id": "1"}', 0),
    Outgoing("headrace.events", b"ann", b'{"event_id": "2"}', 0),
    Outgoing("headrace.events", b"bob", b'{"event_id": "3"}', 1),
    Outgoing("headrace.items", None, b"\x00\xff", 1),
]


def write_state(store: StateStore) -> None:
    """Save twice, so that versions differ from the number of chunks, and leave a gap in users."""
    store.claim(1, EPOCH)
    first = {**USERS, b"eve-------": UserWrite(b"gone", 1.0)}
    store.save(Checkpoint(1, {}, {"headrace.events": 40}, first, {"own": b"older"}), EPOCH)
    second = Checkpoint(1, {"headrace.events": 40}, OFFSETS, {b"eve-------": None}, dict(CHUNKS))
    store.save(second, EPOCH)


def read_state(store: StateStore) -> object:
    head = store.claim(1, EPOCH)
    return (
        dict(head.next_offsets),
        dict(head.timers),
        dict(head.chunks),
        store.load_users(1, [*USERS, b"eve-------"]),
        [(c.partition, c.name, c.data) for c in store.shared("share/", {})],
    )


STATE = (
    OFFSETS,
    {key: write.due for key, write in USERS.items() if write.due is not None},
    CHUNKS,
    {key: write.blob for key, write in USERS.items()},
    [(1, "share/label-model", CHUNKS["share/label-model"])],
)


def write_log(log: EmbeddedLog) -> None:
    log.append(RECORDS)
    log.trim("headrace.events", 0, 1)


def dump_sqlite(path: Path) -> str:
    """Return the statements that make the file again, in one order on every version of SQLite."""
    lines: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
        ).fetchall()
        for name, sql in tables:
            lines.append(" ".join(sql.split()) + ";")
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            quoted = ", ".join(f"quote({column})" for column in columns)
            rows = connection.execute(" ".join(("SELECT", quoted, "FROM", name, "ORDER BY 1, 2")))
            lines += [" ".join(("INSERT INTO", name, "VALUES", f"({', '.join(r)});")) for r in rows]
    return "\n".join(lines) + "\n"


def load_sqlite(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(text)


def dump_redis(client: Redis, instance: str) -> str:
    """Return the hashes as JSON; each byte is the character of its number."""
    raw: Callable[[str], dict[Any, Any]] = client.hgetall
    parts = {
        part: {
            key.decode("latin-1"): value.decode("latin-1")
            for key, value in sorted(raw(f"{{{instance}:1}}:{part}").items())
        }
        for part in PARTS
    }
    return json.dumps(parts, indent=1) + "\n"


def load_redis(client: Redis, instance: str, text: str) -> None:
    client.sadd(f"{instance}:partitions", 1)
    for part, fields in json.loads(text).items():
        for key, value in fields.items():
            client.hset(f"{{{instance}:1}}:{part}", key.encode("latin-1"), value.encode("latin-1"))


def main() -> None:
    """Write the fixtures of the current version; the argument is the URL of a Redis."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with closing(SqliteStore(path)) as store:
            write_state(store)
        (FIXTURES / f"store_v{SCHEMA_VERSION}.sql").write_text(dump_sqlite(path))
        path = Path(folder) / "log.db"
        with closing(EmbeddedLog(path, 2, clock=lambda: 1_700_000_000.5)) as log:
            write_log(log)
        (FIXTURES / f"log_v{LOG_VERSION}.sql").write_text(dump_sqlite(path))
    instance = f"fixture-{uuid.uuid4().hex}"
    with closing(open_store(sys.argv[1], instance=instance)) as store:
        write_state(store)
        with closing(Redis.from_url(sys.argv[1])) as client:
            text = dump_redis(client, instance)
        (FIXTURES / f"store_v{SCHEMA_VERSION}.redis.json").write_text(text)
        store.reset()


if __name__ == "__main__":
    main()
