"""The embedded log under several writers, with waiting readers, full disks and kills."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.embedded_log import EmbeddedLog, LogError
from stream.records import Outgoing
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


# Several at once


def test_threads_get_offsets_without_gaps(log: EmbeddedLog) -> None:
    given: list[tuple[str, int, int]] = []

    def work(name: bytes) -> None:
        for n in range(50):
            given.extend(log.append([Outgoing(TOPIC, name, b"%s %d" % (name, n), 0)] * 2))

    threads = [threading.Thread(target=work, args=(b"t%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(offset for _, _, offset in given) == list(range(800))
    batch = log.read(TOPIC, 0, 0)
    for n in range(8):
        own = [int(v.split()[1]) for v in batch.values if v.startswith(b"t%d " % n)]
        assert own == sorted(own)


def append_hundred(path: Path, name: int) -> None:
    # Writers queue in no order: on a slow disk one of them may wait for nearly all others.
    log = EmbeddedLog(path, 4, busy_timeout_s=300)
    for n in range(100):
        log.append([Outgoing(TOPIC, None, b"%d %d" % (name, n), 0)])
    log.close()


def test_processes_share_a_log(path: Path) -> None:
    log = EmbeddedLog(path, 4, busy_timeout_s=300)
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=append_hundred, args=(path, name)) for name in (1, 2)]
    for other in others:
        other.start()
    for n in range(100):
        log.append([Outgoing(TOPIC, None, b"0 %d" % n, 0)])
    for other in others:
        other.join(350)
        assert other.exitcode == 0
    values = [v.split() for v in log.read(TOPIC, 0, 0).values]
    for name in (b"0", b"1", b"2"):
        assert [int(n) for who, n in values if who == name] == list(range(100))
    log.close()


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    # SQLite refuses without waiting in some of a hundred such races: one would show it seldom.
    paths = [tmp_path / f"{number}" / "headrace.db" for number in range(60)]
    failures: list[BaseException] = []
    barrier = threading.Barrier(8, timeout=60)

    def work() -> None:
        for path in paths:
            barrier.wait()
            try:
                log, store = EmbeddedLog(path, 4), SqliteStore(path)
                log.append(records(1))
                log.close()
                store.close()
            except BaseException as failure:
                failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_wait_sees_what_was_appended_before_it(log: EmbeddedLog) -> None:
    log.append(records(1))
    assert log.wait(0) is True
    assert log.wait(0) is False
    assert log.wait(0, {(TOPIC, 0): 0, (TOPIC, 1): 0}) is True
    assert log.wait(0, {(TOPIC, 0): 1, (TOPIC, 1): 0}) is False


@pytest.mark.parametrize("positions", [None, {(TOPIC, 0): 0}])
def test_wait_is_woken_by_an_append(
    log: EmbeddedLog, positions: dict[tuple[str, int], int] | None
) -> None:
    timer = threading.Timer(0.1, log.append, args=(records(1),))
    timer.start()
    # Were it not woken, it would sleep beyond the limit of the test.
    assert log.wait(1_000, positions) is True
    timer.join()


@pytest.mark.parametrize("positions", [None, {(TOPIC, 0): 0}])
def test_wait_is_woken_by_another_process(
    path: Path, log: EmbeddedLog, positions: dict[tuple[str, int], int] | None
) -> None:
    # Another object on the same file is as strange to this one as another process.
    other = EmbeddedLog(path, 4)
    log.wait(0)
    timer = threading.Timer(0.1, other.append, args=(records(1),))
    timer.start()
    assert log.wait(1_000, positions) is True
    timer.join()
    other.close()


def test_wait_for_a_position_is_not_ended_by_other_news(log: EmbeddedLog) -> None:
    timer = threading.Timer(0.05, log.append, args=(records(1, partition=1),))
    timer.start()
    assert log.wait(0.3, {(TOPIC, 0): 0}) is False
    timer.join()


# Failures


def test_lock_of_another_is_waited_for_then_named(path: Path, log: EmbeddedLog) -> None:
    impatient = EmbeddedLog(path, 4, busy_timeout_s=0.1)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogError, match="another process keeps it locked"):
        impatient.append(records(1))
    impatient.close()
    timer = threading.Timer(0.1, other.execute, args=("ROLLBACK",))
    timer.start()
    assert log.append(records(1)) == [(TOPIC, 0, 0)]
    # The append can be done before the thread that made room for it.
    timer.join()
    other.close()


FULL_DISK = """
    import resource, sys
    from stream.embedded_log import EmbeddedLog, LogError
    from stream.records import Outgoing

    log = EmbeddedLog(sys.argv[1], 1)
    log.append([Outgoing("t", None, b"first")])
    # The kernel refuses to let any file of this process grow beyond this.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        log.append([Outgoing("t", None, bytes(1_000_000))])
    except LogError as failure:
        print(failure)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(log.append([Outgoing("t", None, b"second")]))
    print(log.read("t", 0, 0).values)
"""


def test_full_disk_refuses_the_append_and_nothing_else(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=150,
    )
    refusal, position, values = run.stdout.splitlines()
    assert "the disk may be full" in refusal
    assert (position, values) == ("[('t', 0, 1)]", "[b'first', b'second']")


KILLED = """
    import sys
    from stream.embedded_log import EmbeddedLog
    from stream.records import Outgoing

    log = EmbeddedLog(sys.argv[1], 1)
    while True:
        end = log.append([Outgoing("t", None, b"x" * 500)] * 20)[-1][2]
        print(end, flush=True)
"""


def test_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    acknowledged = -1
    for pause in (0.0, 0.03, 0.1):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
            acknowledged = int(([first, *writer.stdout])[-1])
        log = EmbeddedLog(path, 1)
        end = log.end_offsets("t")[0]
        assert end % 20 == 0
        assert end > acknowledged
        assert len(log.read("t", 0, end - 20)) == 20
        log.close()
