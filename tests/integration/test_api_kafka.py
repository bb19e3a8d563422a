"""The HTTP door on real Kafka."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from httpx import Response
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from monitoring.metrics import Metrics
from stream.api.serving import ApiService
from stream.config import Settings
from stream.distributed.kafka_sink import KafkaSink
from stream.events import EVENTS, ITEMS
from stream.partitioning import partition_for
from stream.sinks import AppendFailed
from tests.integration.api_harness import PARTITIONS, event, serving, settings
from tests.services import KafkaBroker


def make_topics(bootstrap: str) -> None:
    limits = {"max.message.bytes": str(16 * 1024 * 1024)}
    topics = [
        NewTopic(EVENTS, num_partitions=PARTITIONS, replication_factor=1, topic_configs=limits),
        NewTopic(ITEMS, num_partitions=1, replication_factor=1, topic_configs=limits),
    ]
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics(topics)


async def read_kafka(bootstrap: str) -> dict[int, list[dict[str, Any]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(EVENTS, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[dict[str, Any]]] = {}
        for tp in partitions:
            found[tp.partition] = []
            while await consumer.position(tp) < ends[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    found[tp.partition] += map(json.loads, record.value.split(b"\n"))
        return found
    finally:
        await consumer.stop()


def on_kafka(bootstrap: str) -> Settings:
    return settings(log={"url": f"kafka://{bootstrap}"}, store={"url": "sqlite:///unused.db"})


def test_kafka_holds_what_was_accepted_through_a_crash_of_the_broker(
    kafka_factory: Callable[..., KafkaBroker],
) -> None:
    broker = kafka_factory()
    configured = on_kafka(broker.bootstrap)
    sink = KafkaSink.from_settings(configured)
    sink.timeout_s = 60.0
    accepted: list[int] = []

    async def run() -> None:
        async with serving(sink, configured) as (client, _, _):
            # Before the topics are there.
            answer = await client.post("/v1/events", json=event(0))
            assert (answer.status_code, answer.json()["accepted"]) == (503, 0)
            assert "headrace topics" in answer.json()["detail"]
            await asyncio.to_thread(make_topics, broker.bootstrap)

            async def post(first: int, n: int) -> Response:
                events = [event(k) for k in range(first, first + n)]
                answer = await client.post("/v1/events", json=events)
                if answer.status_code == 202:
                    accepted.extend(range(first, first + n))
                return answer

            while (await post(0, 1)).status_code != 202:
                await asyncio.sleep(0.2)
            answers = await asyncio.gather(*(post(k, 10) for k in range(1, 2_001, 10)))
            assert {answer.status_code for answer in answers} == {202}
            large = event(2_001, note="x" * 1_000_000)
            assert (await client.post("/v1/events", json=large)).status_code == 202
            accepted.append(2_001)
            assert (await client.get("/readyz")).status_code == 200

            await asyncio.to_thread(broker.kill)
            sink.timeout_s = 3.0
            answers = await asyncio.gather(*(post(k, 10) for k in range(3_000, 3_050, 10)))
            for answer in answers:
                body = answer.json()
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert (body["accepted"], body["unknown"]) == (0, 10)
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert "log.url: Kafka at" in ready.json()["checks"]["log"]["detail"]

            await asyncio.to_thread(broker.start)
            sink.timeout_s = 60.0
            while (await post(4_000, 10)).status_code != 202:
                await asyncio.sleep(0.2)
            assert (await client.post("/v1/items", json={"item_id": "i"})).status_code == 202

    asyncio.run(run())
    found = asyncio.run(read_kafka(broker.bootstrap))
    names = Counter(each["event_id"] for lines in found.values() for each in lines)
    assert {f"event-{n}" for n in accepted} <= names.keys()
    # Acknowledged at the first attempt, written once: the producer is idempotent.
    assert {names[f"event-{n}"] for n in range(2_002)} == {1}
    for partition, lines in found.items():
        assert {partition_for(each["user_id"].encode(), PARTITIONS) for each in lines} == {
            partition
        }


def test_an_unreachable_broker_is_refused_at_start() -> None:
    configured = on_kafka("127.0.0.1:1")

    async def run() -> None:
        sink = KafkaSink.from_settings(configured)
        sink.timeout_s = 1.0
        service = ApiService(configured, sink, Metrics())
        with pytest.raises(
            AppendFailed, match=r"log\.url: Kafka at 127\.0\.0\.1:1 cannot be reached"
        ):
            await service.start()

    asyncio.run(run())
