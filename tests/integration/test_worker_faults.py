"""Counts stay exact whatever dies: workers, the broker, Redis, each step of the order of commit."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.worker_harness import (
    PATIENCE_S,
    Feed,
    event,
    expected_users,
    fill,
    group,
    wait_until,
)

TOTAL = 12_000
RATE = 3000.0


def test_counts_are_exact_and_lag_is_zero_after_quiet(
    kafka: Any, redis_server: Any, tmp_path: Path
) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        fill(kafka.bootstrap, workers.events, TOTAL)
        worker = workers.start_worker()
        workers.wait_saved(TOTAL)
        wait_until(lambda: workers.committed_events() == TOTAL, PATIENCE_S, workers.logs)
        workers.assert_exact(TOTAL)
        worker.terminate()
        assert worker.returncode == 0


def test_a_claimed_partition_is_saved_at_once_and_then_in_its_turn(
    kafka: Any, redis_server: Any, tmp_path: Path
) -> None:
    every = PATIENCE_S * 100
    # Were it expelled, it would claim anew, and save.
    options = {"checkpoint_interval_s": every, "session_timeout_s": 30.0}
    with group(kafka.bootstrap, redis_server.url, tmp_path, **options) as workers:
        workers.create_topics()
        fill(kafka.bootstrap, workers.events, TOTAL)
        workers.start_worker()
        wait_until(lambda: min(workers.saved().values()) > 0, PATIENCE_S, workers.logs)
        saved = workers.saved()
        fill(kafka.bootstrap, workers.events, TOTAL, TOTAL)
        # Many times as long as the first saves took.
        time.sleep(2)
        assert workers.saved() == saved


@pytest.mark.parametrize("step", ["processed", "published", "acknowledged", "saved"])
def test_crash_at_each_step_of_the_commit_order(
    kafka: Any, redis_server: Any, tmp_path: Path, step: str
) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL, RATE * 2)
        feed.start()
        for passes in (2, 4):
            first = workers.start_worker(crash=[step, passes])
            first.wait(PATIENCE_S)
        workers.start_worker()
        feed.finish()
        workers.wait_saved(TOTAL)
        workers.assert_exact(TOTAL)


def test_kill_9_of_one_of_three_workers(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        for _ in range(3):
            workers.start_worker()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        workers.wait_saved(TOTAL // 4)
        for victim in (0, 1):
            workers.workers[victim].kill()
            workers.start_worker()
            time.sleep(2)
        feed.finish()
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)


def test_rolling_sigterm(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        for _ in range(3):
            workers.start_worker()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        # One of them can be far ahead of another that does not heed the signal yet.
        workers.wait_joined()
        workers.wait_saved(TOTAL // 4)
        for victim in (0, 1):
            workers.start_worker()
            workers.workers[victim].terminate()
            assert workers.workers[victim].returncode == 0, workers.workers[victim].tail()
        feed.finish()
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)


def test_zombie_is_refused(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        zombie = workers.start_worker()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        workers.wait_saved(TOTAL // 4)
        zombie.pause()
        workers.start_worker()
        wait_until(lambda: sum(workers.saved().values()) > TOTAL, PATIENCE_S, workers.logs)
        zombie.resume()
        feed.finish()
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)


def test_bug_saves_nothing_and_exits_loudly(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        fill(kafka.bootstrap, workers.events, TOTAL)
        broken = workers.start_worker(crash=["bug", 0])
        assert broken.wait(PATIENCE_S) == 1
        assert "a planted bug" in broken.tail(60)
        assert sum(workers.saved().values()) == 0
        workers.start_worker()
        workers.wait_saved(TOTAL)
        workers.assert_exact(TOTAL)


def test_broker_restart(
    kafka_factory: Callable[..., Any], redis_server: Any, tmp_path: Path
) -> None:
    broker = kafka_factory()
    with group(broker.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        for _ in range(2):
            workers.start_worker()
        feed = Feed(broker.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        workers.wait_saved(TOTAL // 4)
        broker.kill()
        time.sleep(1)
        broker.start()
        feed.finish()
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)
        assert all(worker.running for worker in workers.workers), workers.logs()


def test_redis_restart(kafka: Any, redis_factory: Callable[..., Any], tmp_path: Path) -> None:
    redis = redis_factory()
    with group(kafka.bootstrap, redis.url, tmp_path) as workers:
        workers.create_topics()
        for _ in range(2):
            workers.start_worker()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        workers.wait_saved(TOTAL // 4)
        redis.kill()
        time.sleep(2)
        redis.start()
        feed.finish()
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)
        assert all(worker.running for worker in workers.workers), workers.logs()


def test_store_rolled_back_under_a_running_worker(
    kafka: Any, redis_server: Any, tmp_path: Path
) -> None:
    """A Redis that lost its last second: state and offsets go back together, and on from there."""
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        worker = workers.start_worker()
        # Partitions are saved one by one: only behind the last record has each been saved once.
        feed = Feed(kafka.bootstrap, workers.events, TOTAL, RATE)
        feed.start()
        feed.finish()
        workers.wait_saved(TOTAL)
        earlier = workers.dump()
        feed = Feed(kafka.bootstrap, workers.events, TOTAL, RATE, first=TOTAL)
        feed.start()
        workers.wait_saved(TOTAL + TOTAL // 4)
        workers.restore(earlier)
        feed.finish()
        # A partition notices at its next save, whatever was saved before.
        fill(kafka.bootstrap, workers.events, TOTAL, first=TOTAL * 2)
        workers.wait_saved(TOTAL * 3)
        workers.assert_exact(TOTAL * 3)
        assert worker.running
        assert "the store refused a checkpoint" in worker.output.read_text()


def test_static_member_returns_quickly(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        # Nothing that has to expire would do so before the test has given up.
        never = 2 * PATIENCE_S
        for name in ("a", "b"):
            workers.start_worker(options={"instance_id": name, "session_timeout_s": never})
        feed = Feed(kafka.bootstrap, workers.events, TOTAL * 2, RATE)
        feed.start()
        workers.wait_saved(TOTAL // 4)
        workers.workers[0].kill()
        workers.start_worker(options={"instance_id": "a", "session_timeout_s": never})
        feed.finish()
        # The name was taken up again: nothing had to expire.
        workers.wait_saved(TOTAL * 2)
        workers.assert_exact(TOTAL * 2)


def test_transactions_leave_gaps_and_the_worker_comes_to_rest(
    kafka: Any, redis_server: Any, tmp_path: Path
) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        asyncio.run(produce_in_transactions(kafka.bootstrap, workers.events, 600, 50))
        worker = workers.start_worker(options={"tick_idle_s": 1.5, "stall_s": 4.0})
        wait_until(lambda: workers.users() == expected_users(600), PATIENCE_S, workers.logs)
        # Ticks come once the log's end is reached, behind which there is nothing but a marker.
        wait_until(
            lambda: any(event["user_id"] == "" for event in workers.events_in_log()),
            PATIENCE_S,
            workers.logs,
        )
        # Longer than it takes to be found stalled.
        time.sleep(6)
        assert worker.running, worker.tail()


async def produce_in_transactions(bootstrap: str, topic: str, total: int, each: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
    await producer.start()
    try:
        for first in range(0, total, each):
            async with producer.transaction():
                for number in range(first, first + each):
                    record = event(number)
                    await producer.send(topic, record.value, key=record.key)
    finally:
        await producer.stop()


@pytest.mark.parametrize("after_s", [0.5, 2.0, 3.0, 4.0])
def test_sigterm_while_starting(
    kafka: Any, redis_server: Any, tmp_path: Path, after_s: float
) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        fill(kafka.bootstrap, workers.events, TOTAL)
        worker = workers.start_worker()
        time.sleep(after_s)
        # What does not end by itself is killed in the end: its code would be another.
        worker.terminate()
        # Before Python has read our code, the signal ends it by itself.
        assert worker.returncode in (0, -signal.SIGTERM), worker.tail()
        workers.start_worker()
        workers.wait_saved(TOTAL)
        workers.assert_exact(TOTAL)
