"""Batches of every codec that Kafka knows are read by the worker and by the tools."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from stream.distributed.clients import KafkaConnection
from stream.distributed.publishing import KafkaPublisher
from tests.integration.worker_harness import PARTITIONS, event, expected_users, group

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
EACH = 400


async def produce(bootstrap: str, topic: str, codec: str | None, first: int) -> None:
    publisher = KafkaPublisher(KafkaConnection((bootstrap,)), compression=codec)
    await publisher.start()
    try:
        numbers = range(first, first + EACH)
        acks = await publisher.send([event(number)._replace(topic=topic) for number in numbers])
        await asyncio.gather(*acks)
    finally:
        await publisher.stop()


def test_worker_and_tools_read_every_codec(kafka: Any, redis_server: Any, tmp_path: Path) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        for index, codec in enumerate(CODECS):
            asyncio.run(produce(kafka.bootstrap, workers.events, codec, index * EACH))
        workers.start_worker()
        total = EACH * len(CODECS)
        workers.wait_saved(total)
        assert workers.users() == expected_users(total)

        partitions = [TopicPartition(workers.events, n) for n in range(PARTITIONS)]
        consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        with closing(consumer):
            consumer.assign(partitions)
            ends, read = consumer.end_offsets(partitions), 0
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                read += sum(len(records) for records in consumer.poll(timeout_ms=500).values())
        assert read == total


@pytest.mark.parametrize("codec", CODECS)
def test_effects_are_published_with_every_codec(
    kafka: Any, redis_server: Any, tmp_path: Path, codec: str | None
) -> None:
    with group(kafka.bootstrap, redis_server.url, tmp_path) as workers:
        workers.create_topics()
        asyncio.run(produce(kafka.bootstrap, workers.labels, codec, 0))
        assert len(workers.published()) == EACH
