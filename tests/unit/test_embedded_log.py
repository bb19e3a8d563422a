"""The embedded log: offsets without gaps, bounded reads, retention, what it refuses to open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.embedded_log import EmbeddedLog, LogError, OffsetOutOfRange
from stream.partitioning import partition_for
from stream.records import Outgoing
from stream.state import Checkpoint, Epoch, NewerSchema
from stream.stores import SqliteStore

TOPIC = "headrace.events"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "headrace.db"


@pytest.fixture
def log(path: Path) -> Iterator[EmbeddedLog]:
    made = EmbeddedLog(path, 4)
    yield made
    made.close()


def records(n: int, partition: int | None = 0, topic: str = TOPIC) -> list[Outgoing]:
    return [Outgoing(topic, b"k%d" % i, b"v%d" % i, partition) for i in range(n)]


def test_records_come_back_in_order_with_key_and_time(path: Path) -> None:
    times = iter([100.25, 99.0])
    log = EmbeddedLog(path, 4, clock=lambda: next(times))
    assert log.append(records(2)) == [(TOPIC, 0, 0), (TOPIC, 0, 1)]
    assert log.append([Outgoing(TOPIC, None, b"\x00\xff", 0)]) == [(TOPIC, 0, 2)]
    batch = log.read(TOPIC, 0, 0)
    assert (batch.topic, batch.partition, list(batch.offsets)) == (TOPIC, 0, [0, 1, 2])
    assert list(batch.values) == [b"v0", b"v1", b"\x00\xff"]
    assert list(batch.keys or ()) == [b"k0", b"k1", None]
    assert list(batch.times) == [100.25, 100.25, 99.0]
    log.close()


def test_key_decides_the_partition_as_on_kafka(log: EmbeddedLog) -> None:
    positions = log.append(records(50, partition=None))
    assert [p for _, p, _ in positions] == [partition_for(b"k%d" % i, 4) for i in range(50)]
    ends = log.end_offsets(TOPIC)
    assert sum(ends.values()) == 50
    for partition, end in ends.items():
        assert list(log.read(TOPIC, partition, 0).offsets) == list(range(end))


def test_record_without_key_goes_to_partition_zero(log: EmbeddedLog) -> None:
    assert log.append([Outgoing(TOPIC, None, b"x")]) == [(TOPIC, 0, 0)]


def test_topics_and_partitions_count_by_themselves(log: EmbeddedLog) -> None:
    mixed = records(2, 0) + records(1, 1) + records(1, 1, "other") + records(1, 0)
    assert log.append(mixed) == [
        (TOPIC, 0, 0),
        (TOPIC, 0, 1),
        (TOPIC, 1, 0),
        ("other", 1, 0),
        (TOPIC, 0, 2),
    ]
    assert log.end_offsets(TOPIC) == {0: 3, 1: 1, 2: 0, 3: 0}
    assert log.end_offsets("other") == {0: 0, 1: 1, 2: 0, 3: 0}
    assert log.end_offsets("never written") == {0: 0, 1: 0, 2: 0, 3: 0}


def test_reads_are_bounded_by_records_and_bytes(log: EmbeddedLog) -> None:
    log.append([Outgoing(TOPIC, b"k", b"x" * 99, 0) for _ in range(10)])
    assert list(log.read(TOPIC, 0, 3, max_records=4).offsets) == [3, 4, 5, 6]
    assert list(log.read(TOPIC, 0, 3, max_bytes=250).offsets) == [3, 4]
    assert list(log.read(TOPIC, 0, 3, max_bytes=1).offsets) == [3]
    assert list(log.read(TOPIC, 0, 8).offsets) == [8, 9]
    assert len(log.read(TOPIC, 0, 10)) == 0
    assert len(log.read(TOPIC, 1, 0)) == 0


def test_sixteen_mebibytes_in_one_record(log: EmbeddedLog) -> None:
    value = bytes(16 * 1024 * 1024)
    log.append([Outgoing(TOPIC, None, value, 0), Outgoing(TOPIC, None, b"after", 0)])
    assert list(log.read(TOPIC, 0, 0).values) == [value]
    assert list(log.read(TOPIC, 0, 1).values) == [b"after"]


def test_no_records_is_no_write(log: EmbeddedLog) -> None:
    assert log.append([]) == []
    assert log.end_offsets(TOPIC) == dict.fromkeys(range(4), 0)


def test_unknown_partition_is_refused_and_nothing_is_appended(log: EmbeddedLog) -> None:
    with pytest.raises(LogError, match="no partition 4, it has 4"):
        log.append([*records(1, 0), *records(1, 4)])
    assert log.end_offsets(TOPIC)[0] == 0


def test_log_goes_on_after_it_is_opened_again(path: Path) -> None:
    for n in range(3):
        log = EmbeddedLog(path, 4)
        assert log.append(records(2)) == [(TOPIC, 0, 2 * n), (TOPIC, 0, 2 * n + 1)]
        log.close()


# Opening


def test_number_of_partitions_is_fixed(path: Path) -> None:
    EmbeddedLog(path, 4).close()
    with pytest.raises(LogError, match="log.partitions was 4 when the log was made, and is 8 now"):
        EmbeddedLog(path, 8)


def test_topics_may_have_their_own_number(path: Path) -> None:
    log = EmbeddedLog(path, 4, topics={"headrace.items": 1})
    assert log.append([Outgoing("headrace.items", b"anything", b"")]) == [("headrace.items", 0, 0)]
    assert log.end_offsets("headrace.items") == {0: 1}
    log.close()
    with pytest.raises(LogError, match="log.partitions of headrace.items was 1 .* and is 4 now"):
        EmbeddedLog(path, 4)


@pytest.mark.parametrize("partitions", [0, -1])
def test_no_partitions_is_refused(path: Path, partitions: int) -> None:
    with pytest.raises(LogError, match="at least 1"):
        EmbeddedLog(path, partitions)
    assert not path.exists()


def test_newer_file_is_refused_with_a_remedy(path: Path) -> None:
    EmbeddedLog(path, 4).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'log_schema'")
    connection.close()
    with pytest.raises(NewerSchema, match="log has schema version 2, this program reads up to 1"):
        EmbeddedLog(path, 4)


def test_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(LogError, match=r"headrace\.db: it is not an SQLite database"):
        EmbeddedLog(path, 4)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be made"):
        EmbeddedLog(tmp_path / "file" / "headrace.db", 4)


def test_file_is_for_its_owner_only(path: Path, log: EmbeddedLog) -> None:
    log.append(records(1))
    for file in (path, path.with_name(path.name + "-wal")):
        assert file.stat().st_mode & 0o077 == 0


def test_closed_log_refuses(log: EmbeddedLog) -> None:
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append(records(1))
    with pytest.raises(LogError, match="closed"):
        log.read(TOPIC, 0, 0)
    with pytest.raises(LogError, match="closed"):
        log.wait(0)


def test_log_and_store_share_a_file(path: Path, log: EmbeddedLog) -> None:
    store = SqliteStore(path)
    epoch = Epoch(1, "a")
    store.claim(0, epoch)
    for n in range(20):
        log.append(records(10))
        store.save(Checkpoint(0, {TOPIC: n} if n else {}, {TOPIC: n + 1}), epoch)
    assert log.end_offsets(TOPIC)[0] == 200
    store.reset()
    assert len(log.read(TOPIC, 0, 0)) == 200
    assert "200 records" in log.ping()
    store.close()


# Retention


def test_trim_drops_the_past_and_keeps_counting(log: EmbeddedLog) -> None:
    log.append(records(50_001))
    assert log.trim(TOPIC, 0, 50_000) == 50_000
    assert log.trim(TOPIC, 0, 100) == 0
    assert (log.begin_offsets(TOPIC)[0], log.end_offsets(TOPIC)[0]) == (50_000, 50_001)
    assert list(log.read(TOPIC, 0, 50_000).values) == [b"v50000"]
    assert log.trim(TOPIC, 0, 10**9) == 1
    assert log.trim("never written", 0, 5) == 0
    assert log.append(records(1)) == [(TOPIC, 0, 50_001)]


def test_space_of_trimmed_records_is_used_again(path: Path, log: EmbeddedLog) -> None:
    sizes = []
    for n in range(1, 9):
        log.append([Outgoing(TOPIC, None, bytes(1000), 0)] * 2000)
        log.trim(TOPIC, 0, n * 2000)
        sizes.append(path.stat().st_size)
    assert max(sizes) < 3 * 2000 * 1100


def test_read_of_what_is_not_there_is_refused(log: EmbeddedLog) -> None:
    log.append(records(10))
    log.trim(TOPIC, 0, 5)
    with pytest.raises(OffsetOutOfRange, match="retention has dropped 4"):
        log.read(TOPIC, 0, 4)
    with pytest.raises(OffsetOutOfRange, match="11 is beyond its end"):
        log.read(TOPIC, 0, 11)


def test_offset_at_a_time(path: Path) -> None:
    times = iter(range(100, 200))
    log = EmbeddedLog(path, 4, clock=lambda: float(next(times)))
    for _ in range(20):
        log.append(records(3))
    log.trim(TOPIC, 0, 6)
    assert log.offset_at(TOPIC, 0, 105.0) == 15
    assert log.offset_at(TOPIC, 0, 104.5) == 15
    assert log.offset_at(TOPIC, 0, 0.0) == 6
    assert log.offset_at(TOPIC, 0, 1e9) == 60
    assert log.offset_at("never written", 0, 1.0) == 0
    log.close()
