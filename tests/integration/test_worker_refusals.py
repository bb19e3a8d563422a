"""Where log, store and group do not fit together, the worker stops and says what to do."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from stream.state import SCHEMA_VERSION, Epoch
from stream.stores.redis import RedisStore
from tests.integration.worker_harness import (
    PARTITIONS,
    PATIENCE_S,
    Group,
    expected_users,
    fill,
    group,
    read_all,
    wait_until,
)
from tests.services.ports import PortLease

TOTAL = 4_000
REFUSED = 2


@pytest.fixture
def workers(kafka: Any, redis_server: Any, tmp_path: Path) -> Iterator[Group]:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as running:
        running.create_topics()
        fill(kafka.bootstrap, running.events, TOTAL)
        yield running


def run_once(workers: Group) -> None:
    """Let a worker process everything, commit, and leave."""
    worker = workers.start_worker()
    workers.wait_saved(TOTAL)
    wait_until(lambda: workers.committed_events() == TOTAL, PATIENCE_S, workers.logs)
    worker.terminate()
    assert worker.returncode == 0


def stops(workers: Group, *words: str) -> None:
    """Start a worker, and check that it refuses with these words."""
    worker = workers.start_worker()
    assert worker.wait(PATIENCE_S) == REFUSED, worker.tail()
    *_, last = worker.output.read_text().splitlines()
    for word in words:
        assert word in last, worker.tail()


def test_emptied_store(workers: Group) -> None:
    run_once(workers)
    store = RedisStore(workers.redis_url, instance=workers.tag)
    store.reset()
    store.close()
    stops(workers, "committed offset", "the store was emptied", "headrace state reset")
    assert workers.users() == {}


def test_range_dropped_by_retention(workers: Group) -> None:
    run_once(workers)
    fill(workers.bootstrap, workers.events, TOTAL, first=TOTAL)
    gone = {TopicPartition(workers.events, number): -1 for number in range(PARTITIONS)}
    with closing(KafkaAdminClient(bootstrap_servers=workers.bootstrap)) as admin:
        admin.delete_records(gone)
    stops(workers, "retention has dropped", "headrace state reset --partition")


def test_committed_offset_beyond_the_checkpoint_rewinds(workers: Group) -> None:
    run_once(workers)
    older = workers.redis.hgetall(f"{{{workers.tag}:0}}:head")
    assert older
    # An older backup of the store: partition 0 as if it had never been processed but for one.
    store = RedisStore(workers.redis_url, instance=workers.tag)
    store.reset([0])
    store.close()
    back = workers.start_worker()
    assert back.wait(PATIENCE_S) == REFUSED  # Nothing at all is not a backup.
    rewind_partition(workers, 0)
    again = workers.start_worker()
    workers.wait_saved(TOTAL)
    assert "going back" in again.output.read_text()
    assert workers.users() == expected_users(TOTAL)


def rewind_partition(workers: Group, partition: int) -> None:
    """Write the checkpoint that stood after no record: as an older backup would hold it."""
    key = f"{{{workers.tag}:{partition}}}:head"
    workers.redis.hset(key, "offsets", f'{{"{workers.events}":0}}')
    workers.redis.hset(key, mapping={"schema": SCHEMA_VERSION, "generation": 0, "owner": ""})
    workers.redis.hset(key, "saves", 1)


def test_topic_created_anew(workers: Group) -> None:
    run_once(workers)
    anew = {workers.events: {"num_partitions": PARTITIONS, "replication_factor": 1}}
    with closing(KafkaAdminClient(bootstrap_servers=workers.bootstrap)) as admin:
        admin.delete_topics([workers.events])
        wait_until(lambda: workers.events not in admin.list_topics(), PATIENCE_S)
        admin.create_topics(anew)
    stops(workers, "the topic was created anew")


def test_newer_schema(workers: Group) -> None:
    run_once(workers)
    workers.redis.hset(f"{{{workers.tag}:3}}:head", "schema", SCHEMA_VERSION + 1)
    stops(workers, "has schema version 2", "run the version of Headrace that wrote it")


def test_newer_owner(workers: Group) -> None:
    run_once(workers)
    store = RedisStore(workers.redis_url, instance=workers.tag)
    store.claim(2, Epoch(1_000_000, "somebody else"))
    store.close()
    stops(workers, "partition 2 was refused", "another log.group")


def test_forgotten_group_is_taken_over(workers: Group) -> None:
    run_once(workers)
    store = RedisStore(workers.redis_url, instance=workers.tag)
    for partition in range(PARTITIONS):
        store.claim(partition, Epoch(1_000_000, ""))
    store.close()
    with closing(KafkaAdminClient(bootstrap_servers=workers.bootstrap)) as admin:

        def forgotten() -> bool:
            # Refused, in the answer, until the broker knows that the worker has left.
            admin.delete_groups([workers.tag])
            return not workers.committed()

        wait_until(forgotten, PATIENCE_S)
    fill(workers.bootstrap, workers.events, TOTAL, first=TOTAL)
    worker = workers.start_worker()
    workers.wait_saved(2 * TOTAL)
    assert "is gone; taking it over" in worker.output.read_text()
    workers.assert_exact(2 * TOTAL)


def test_two_deployments_on_one_store_do_not_share_a_partition(workers: Group) -> None:
    """The second group's claim is newer or older; either way only one of them goes on."""
    first = workers.start_worker()
    workers.wait_saved(TOTAL)
    thief = RedisStore(workers.redis_url, instance=workers.tag)
    thief.claim(5, Epoch(1_000_000, "somebody else"))
    thief.close()
    fill(workers.bootstrap, workers.events, TOTAL, first=TOTAL)
    assert first.wait(PATIENCE_S) == REFUSED
    assert "another process owns its state" in first.output.read_text()


def test_idle_partitions_get_ticks_and_come_to_rest(workers: Group) -> None:
    workers.start_worker(options={"tick_idle_s": 0.5})
    workers.wait_saved(TOTAL + 2 * PARTITIONS)
    records = asyncio.run(read_all(workers.bootstrap, workers.events))
    ticks = [record for record in records if record["user_id"] == ""]
    assert len(ticks) >= 2 * PARTITIONS
    assert all(tick["idle_s"] >= 0.5 for tick in ticks)
    assert workers.users() == expected_users(TOTAL)


def test_health_metrics_and_no_faust_web(workers: Group) -> None:
    with PortLease() as lease:
        url = f"http://127.0.0.1:{lease.port}"
        worker = workers.start_worker(options={"metrics_port": lease.port})
        workers.wait_saved(TOTAL)
        with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE_S) as answer:
            assert answer.status == 200
            assert b'"status":"ok"' in answer.read()

        def metrics() -> str:
            with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_S) as answer:
                return str(answer.read().decode())

        no_lag = f'headrace_consumer_lag_messages{{partition="0",topic="{workers.events}"}} 0\n'
        wait_until(lambda: no_lag in metrics(), PATIENCE_S, metrics)
        assert 'headrace_checkpoints_total{result="saved"}' in metrics()
        assert listening(worker.pid) == {lease.port}


def listening(pid: int) -> set[int]:
    """Return the TCP ports at which a process listens."""
    opened = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # Some are closed while they are looked at.
        with suppress(FileNotFoundError):
            opened.add(os.readlink(path))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in opened:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


def test_stalled_store_stops_the_worker_after_its_patience(
    kafka: Any, redis_factory: Any, tmp_path: Path
) -> None:
    redis = redis_factory()
    with group(kafka.bootstrap, redis.url, tmp_path) as workers:
        workers.create_topics()
        worker = workers.start_worker(options={"store_patience_s": 4.0})
        fill(kafka.bootstrap, workers.events, TOTAL)
        workers.wait_saved(TOTAL)
        redis.kill()
        assert worker.wait(PATIENCE_S) == REFUSED
        assert "the state store has not answered" in worker.output.read_text()


def test_stalled_consumer_stops_the_worker(workers: Group) -> None:
    worker = workers.start_worker(options={"stall_s": 2.0}, hang=True)
    assert worker.wait(PATIENCE_S) == REFUSED
    assert "the consumer has stalled" in worker.output.read_text()
