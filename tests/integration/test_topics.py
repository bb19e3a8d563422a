"""Topics are created as a worker needs them, and what differs is told with its remedy."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from stream.config import load_settings
from stream.distributed.clients import RECORD_MAX_BYTES, KafkaConnection
from stream.distributed.topics import (
    BrokerUnreachable,
    TopicSpec,
    TopicsUnfit,
    check_topics,
    create_topics,
    require_topics,
    topic_plan,
)
from stream.events import CONTROL, DECISIONS, EVENTS, GOLD, ITEMS

KAFKA_ENV = {
    "HEADRACE_LOG__URL": "kafka://127.0.0.1:9092",
    "HEADRACE_LOG__PARTITIONS": "6",
    "HEADRACE_STORE__URL": "redis://127.0.0.1:6379/0",
}


@pytest.fixture
def connection(kafka: Any) -> KafkaConnection:
    return KafkaConnection((kafka.bootstrap,))


@pytest.fixture
def admin(kafka: Any) -> Iterator[Any]:
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as client:
        yield client


@pytest.fixture
def plan() -> list[TopicSpec]:
    """Give the deployment's plan, under names of the test's own."""
    tag = uuid.uuid4().hex[:8]
    settings = load_settings(env=KAFKA_ENV)
    return [replace(spec, name=f"{tag}.{spec.name}") for spec in topic_plan(settings)]


def test_plan_keeps_a_users_topics_together() -> None:
    plan = {spec.name: spec for spec in topic_plan(load_settings(env=KAFKA_ENV))}
    assert {plan[name].partitions for name in (EVENTS, GOLD, DECISIONS)} == {6}
    for name in (ITEMS, CONTROL):
        assert plan[name].partitions == 1
        assert plan[name].config()["cleanup.policy"] == "compact"
    events = plan[EVENTS].config()
    assert events["message.timestamp.type"] == "LogAppendTime"
    assert events["max.message.bytes"] == str(RECORD_MAX_BYTES)
    assert int(events["retention.ms"]) == 35 * 24 * 3600 * 1000


def test_create_then_check(connection: KafkaConnection, plan: list[TopicSpec]) -> None:
    created = create_topics(connection, plan)
    assert all(status.created and not status.problems for status in created)
    assert not any(status.notes for status in created)
    again = create_topics(connection, plan)
    assert not any(status.created for status in again)
    require_topics(connection, plan)


def test_missing_topics_are_named(connection: KafkaConnection, plan: list[TopicSpec]) -> None:
    create_topics(connection, plan[1:])
    with pytest.raises(TopicsUnfit) as refusal:
        require_topics(connection, plan)
    assert str(refusal.value) == f"{plan[0].name}: is missing; `headrace topics` creates it"


def test_wrong_partition_counts(connection: KafkaConnection, plan: list[TopicSpec]) -> None:
    events, items = plan[0], next(spec for spec in plan if spec.name.endswith(ITEMS))
    create_topics(connection, [replace(events, partitions=3), replace(items, partitions=2)])
    found = check_topics(connection, [events, items])
    assert [status.partitions for status in found] == [3, 2]
    assert "has 3 partitions, needed are 6 (log.partitions)" in found[0].problems[0]
    assert "has 2 partitions, needed is 1" in found[1].problems[0]


def test_configuration_that_would_hurt(
    connection: KafkaConnection, admin: Any, plan: list[TopicSpec]
) -> None:
    events, items = plan[0], next(spec for spec in plan if spec.name.endswith(ITEMS))
    labels = next(spec for spec in plan if spec.name.endswith("labels"))
    for spec, config in (
        (events, {"message.timestamp.type": "CreateTime", "retention.ms": "1000"}),
        (items, {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}),
        (labels, {"cleanup.policy": "compact", "max.message.bytes": "1000000"}),
    ):
        admin.create_topics(
            {
                spec.name: {
                    "num_partitions": spec.partitions,
                    "replication_factor": 1,
                    "configs": config,
                }
            },
            wait_for_metadata=True,
        )
    stamped, deleted, harmless = check_topics(connection, [events, items, labels])
    assert stamped.problems == ["message.timestamp.type is CreateTime, needed is LogAppendTime"]
    assert any(note.startswith("retention.ms is 1000") for note in stamped.notes)
    assert deleted.problems == ["cleanup.policy is delete, needed is compact"]
    assert harmless.problems == []
    assert any("max.message.bytes is 1000000" in note for note in harmless.notes)


def test_too_many_replicas_is_told(connection: KafkaConnection, plan: list[TopicSpec]) -> None:
    with pytest.raises(TopicsUnfit, match="30 replicas .kafka.replication_factor. could not"):
        create_topics(connection, [replace(plan[0], replicas=30)])


def test_unreachable_broker(plan: list[TopicSpec]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: refused.
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            BrokerUnreachable, match=f"log.url: no Kafka broker answers at {address}"
        ):
            check_topics(KafkaConnection((address,)), plan)
