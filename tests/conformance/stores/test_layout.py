"""State of every version that was ever written is read; the layout moves only with its version."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from stream.embedded_log import EmbeddedLog
from stream.sqlite_file import SqliteFile
from stream.state import SCHEMA_VERSION, Checkpoint, NewerSchema, StoreError
from stream.stores import SqliteStore, open_store
from tests.conformance.stores import layout
from tests.services import ExternalRedis, RedisServer

VERSIONS = range(1, SCHEMA_VERSION + 1)
MOVED = (
    "the stored layout has changed: raise SCHEMA_VERSION, teach the store to read the older one,"
    " and write new fixtures with `python -m tests.conformance.stores.layout`"
)


@pytest.mark.parametrize("version", VERSIONS)
def test_sqlite_state_of_every_version_is_read_and_continued(tmp_path: Path, version: int) -> None:
    path = tmp_path / "state.db"
    layout.load_sqlite(path, (layout.FIXTURES / f"store_v{version}.sql").read_text())
    for _ in range(2):
        with closing(SqliteStore(path)) as store:
            assert layout.read_state(store) == layout.STATE
    with closing(SqliteStore(path)) as store:
        store.claim(1, layout.EPOCH)
        store.save(Checkpoint(1, layout.OFFSETS, {"headrace.events": 50}), layout.EPOCH)
        assert store.partitions() == {1: {"headrace.events": 50}}
        assert f"schema {SCHEMA_VERSION}" in store.ping()


@pytest.mark.parametrize("version", VERSIONS)
def test_redis_state_of_every_version_is_read_and_continued(
    redis_server: RedisServer | ExternalRedis, version: int
) -> None:
    instance = f"fixture-{uuid.uuid4().hex}"
    text = (layout.FIXTURES / f"store_v{version}.redis.json").read_text()
    with closing(Redis.from_url(redis_server.url)) as client:
        layout.load_redis(client, instance, text)
    with closing(open_store(redis_server.url, instance=instance)) as store:
        assert layout.read_state(store) == layout.STATE
        store.save(Checkpoint(1, layout.OFFSETS, {"headrace.events": 50}), layout.EPOCH)
        assert store.partitions() == {1: {"headrace.events": 50}}
        store.reset()


@pytest.mark.parametrize("version", range(1, layout.LOG_VERSION + 1))
def test_log_of_every_version_is_read_and_continued(tmp_path: Path, version: int) -> None:
    path = tmp_path / "log.db"
    layout.load_sqlite(path, (layout.FIXTURES / f"log_v{version}.sql").read_text())
    with closing(EmbeddedLog(path, 2)) as log:
        batch = log.read("headrace.events", 0, 1)
        assert (list(batch.offsets), list(batch.values)) == ([1], [layout.RECORDS[1].value])
        assert (list(batch.keys or ()), list(batch.times)) == ([b"ann"], [1_700_000_000.5])
        assert list(log.read("headrace.items", 1, 0).values) == [b"\x00\xff"]
        assert log.begin_offsets("headrace.events") == {0: 1, 1: 0}
        assert log.append(layout.RECORDS[:1]) == [("headrace.events", 0, 2)]


def test_sqlite_layout_is_the_one_of_its_version(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(SqliteStore(path)) as store:
        layout.write_state(store)
    fixture = layout.FIXTURES / f"store_v{SCHEMA_VERSION}.sql"
    assert layout.dump_sqlite(path) == fixture.read_text(), MOVED


def test_redis_layout_is_the_one_of_its_version(
    redis_server: RedisServer | ExternalRedis,
) -> None:
    instance = f"fixture-{uuid.uuid4().hex}"
    with closing(open_store(redis_server.url, instance=instance)) as store:
        layout.write_state(store)
        with closing(Redis.from_url(redis_server.url)) as client:
            found = layout.dump_redis(client, instance)
        store.reset()
    fixture = layout.FIXTURES / f"store_v{SCHEMA_VERSION}.redis.json"
    assert found == fixture.read_text(), MOVED


def test_log_layout_is_the_one_of_its_version(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(EmbeddedLog(path, 2, clock=lambda: 1_700_000_000.5)) as log:
        layout.write_log(log)
    fixture = layout.FIXTURES / f"log_v{layout.LOG_VERSION}.sql"
    assert layout.dump_sqlite(path) == fixture.read_text(), MOVED


STEPS = (
    ("CREATE TABLE thing (name TEXT)", "INSERT INTO thing VALUES ('first')"),
    ("ALTER TABLE thing ADD COLUMN size INTEGER", "UPDATE thing SET size = 5"),
    ("ALTER TABLE thing RENAME COLUMN size TO length",),
)


def rows(file: SqliteFile) -> list[tuple[object, ...]]:
    with file.read() as connection:
        return connection.execute("SELECT * FROM thing").fetchall()


def test_migration_goes_on_where_the_file_stands(tmp_path: Path) -> None:
    with closing(SqliteFile(tmp_path / "x.db", StoreError)) as file:
        file.migrate("thing", STEPS[:1])
        assert rows(file) == [("first",)]
        file.migrate("thing", STEPS)
        file.migrate("thing", STEPS)
        assert rows(file) == [("first", 5)]
        with pytest.raises(NewerSchema, match="thing has schema version 3, .* reads up to 2"):
            file.migrate("thing", STEPS[:2])
        file.migrate("other", ())


def test_migration_that_fails_leaves_the_older_version(tmp_path: Path) -> None:
    with closing(SqliteFile(tmp_path / "x.db", StoreError)) as file:
        file.migrate("thing", STEPS[:1])
        with pytest.raises(StoreError, match="no such table"):
            file.migrate("thing", (*STEPS[:2], ("DELETE FROM missing",)))
        assert rows(file) == [("first",)]
        file.migrate("thing", STEPS)
        assert rows(file) == [("first", 5)]
