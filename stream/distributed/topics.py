"""The topics of a deployment on Kafka: made as the worker needs them, and checked against that."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from stream.config import Settings
from stream.distributed.clients import RECORD_MAX_BYTES, KafkaConnection
from stream.events import (
    ANNOTATION_REQUESTS,
    CONTROL,
    DEAD_LETTER,
    DECISIONS,
    EVENTS,
    GOLD,
    GOVERNANCE,
    ITEMS,
    LABELS,
)
from stream.refusal import Refusal

__all__ = [
    "BrokerUnreachable",
    "TopicSpec",
    "TopicStatus",
    "TopicsUnfit",
    "check_topics",
    "create_topics",
    "require_topics",
    "topic_plan",
]

CONNECT_S: Final = 10.0
FOREVER: Final = -1

_BY_USER: Final = (EVENTS, GOLD, DECISIONS, LABELS, ANNOTATION_REQUESTS, DEAD_LETTER)
_COMPACTED: Final = (ITEMS, CONTROL)
_READ_BY_WORKERS: Final = (EVENTS, GOLD, DECISIONS, ITEMS, CONTROL)


class BrokerUnreachable(Refusal):
    """No broker answered; the message names the setting and the addresses that were tried."""


class TopicsUnfit(Refusal):
    """Topics are missing or are not as a worker needs them; the message says which and how."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be.

    Parameters
    ----------
    name
        Of the topic.
    partitions
        How many it has.
    retention_s
        How long records stay; `FOREVER` for ever. A compacted topic keeps the last of each key.
    compacted
        Whether only the last record of each key is kept.
    log_time
        Whether the broker's clock stamps records. What a product's clock claims is judged
        against this time, so it must not come from a product.
    replicas
        Copies, when it is created.
    """

    name: str
    partitions: int
    retention_s: float = FOREVER
    compacted: bool = False
    log_time: bool = False
    replicas: int = 1

    def config(self) -> dict[str, str]:
        """Return the topic's configuration as brokers spell it."""
        config = {
            "max.message.bytes": str(RECORD_MAX_BYTES),
            "message.timestamp.type": "LogAppendTime" if self.log_time else "CreateTime",
            "cleanup.policy": "compact" if self.compacted else "delete",
        }
        if not self.compacted:
            kept_ms = int(self.retention_s * 1000)
            config["retention.ms"] = str(kept_ms if self.retention_s >= 0 else FOREVER)
        return config


@dataclass(slots=True)
class TopicStatus:
    """What was found of a topic.

    ``problems`` keep a worker from running; ``notes`` do not.
    """

    spec: TopicSpec
    partitions: int | None = None
    created: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def topic_plan(settings: Settings) -> list[TopicSpec]:
    """Return every topic of a deployment.

    Those keyed by user have the same number of partitions, so that one worker holds a user's
    events, gold and labels. The catalogue and control are read whole by every worker: one
    partition each.
    """
    kafka = settings.kafka
    plan = [
        TopicSpec(
            name,
            settings.log.partitions,
            retention_s=kafka.retention_s,
            log_time=name in _READ_BY_WORKERS,
            replicas=kafka.replication_factor,
        )
        for name in _BY_USER
    ]
    plan += [
        TopicSpec(name, 1, compacted=True, log_time=True, replicas=kafka.replication_factor)
        for name in _COMPACTED
    ]
    plan.append(TopicSpec(GOVERNANCE, 1, log_time=True, replicas=kafka.replication_factor))
    return plan


def create_topics(connection: KafkaConnection, plan: Sequence[TopicSpec]) -> list[TopicStatus]:
    """Create what is missing; return how every topic stands afterwards.

    Raises
    ------
    BrokerUnreachable
        No broker answers.
    TopicsUnfit
        The broker refused to create a topic.
    """
    with _admin(connection) as admin:
        missing = [status.spec for status in _check(admin, plan) if status.partitions is None]
        for spec in missing:
            try:
                admin.create_topics(
                    {
                        spec.name: {
                            "num_partitions": spec.partitions,
                            "replication_factor": spec.replicas,
                            "configs": spec.config(),
                        }
                    },
                    wait_for_metadata=True,
                )
            except TopicAlreadyExistsError:
                # Somebody else was quicker; the check below looks at what they made.
                continue
            except KafkaError as error:
                raise TopicsUnfit(
                    f"topic {spec.name} with {spec.partitions} partitions and {spec.replicas} "
                    f"replicas (kafka.replication_factor) could not be created: {_reason(error)}"
                ) from error
        created = {spec.name for spec in missing}
        statuses = _check(admin, plan)
    for status in statuses:
        status.created = status.spec.name in created
    return statuses


def check_topics(connection: KafkaConnection, plan: Sequence[TopicSpec]) -> list[TopicStatus]:
    """Return how the topics stand.

    Raises
    ------
    BrokerUnreachable
        No broker answers.
    """
    with _admin(connection) as admin:
        return _check(admin, plan)


def require_topics(connection: KafkaConnection, plan: Sequence[TopicSpec]) -> None:
    """Check that a worker can run on these topics.

    Raises
    ------
    BrokerUnreachable
        No broker answers.
    TopicsUnfit
        At least one topic is missing or different.
    """
    problems = [
        f"{status.spec.name}: {problem}"
        for status in check_topics(connection, plan)
        for problem in status.problems
    ]
    if problems:
        raise TopicsUnfit("\n".join(problems))


def _check(admin: Any, plan: Sequence[TopicSpec]) -> list[TopicStatus]:
    names = [spec.name for spec in plan]
    found = {
        topic["name"]: len(topic["partitions"])
        for topic in admin.describe_topics(names)
        if not topic["error_code"] and topic["partitions"]
    }
    configs = _configs(admin, [name for name in names if name in found])
    return [_status(spec, found.get(spec.name), configs.get(spec.name, {})) for spec in plan]


def _configs(admin: Any, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, None) for name in names]
    if not resources:
        return {}
    answer = admin.describe_configs(resources, config_filter="all")
    return {
        name: {key: entry["value"] for key, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }


def _status(spec: TopicSpec, partitions: int | None, config: Mapping[str, str]) -> TopicStatus:
    status = TopicStatus(spec, partitions)
    if partitions is None:
        status.problems.append("is missing; `headrace topics` creates it")
        return status
    if partitions != spec.partitions:
        setting = " (log.partitions)" if spec.partitions != 1 else ""
        status.problems.append(
            f"has {partitions} partitions, needed are {spec.partitions}{setting}. Set "
            "log.partitions to what the topics were created with; changing the topics is a "
            "migration"
            if setting
            else f"has {partitions} partitions, needed is 1: it is read whole by every worker"
        )
    wanted = spec.config()
    for key in ("message.timestamp.type", "cleanup.policy"):
        if key in config and config[key] != wanted[key]:
            told = f"{key} is {config[key]}, needed is {wanted[key]}"
            # What the outside reads may be stamped and cleaned as the outside likes.
            serious = spec.log_time if key == "message.timestamp.type" else spec.compacted
            (status.problems if serious else status.notes).append(told)
    if int(config.get("max.message.bytes", RECORD_MAX_BYTES)) < RECORD_MAX_BYTES:
        status.notes.append(
            f"max.message.bytes is {config['max.message.bytes']}; larger records, up to "
            f"{RECORD_MAX_BYTES}, will be refused by the broker"
        )
    kept = wanted.get("retention.ms")
    if kept is not None and config.get("retention.ms", kept) != kept:
        status.notes.append(f"retention.ms is {config['retention.ms']}, configured is {kept}")
    return status


@contextlib.contextmanager
def _admin(connection: KafkaConnection) -> Iterator[Any]:
    try:
        _knock(connection.bootstrap)
        admin = KafkaAdminClient(
            **connection.for_kafka_python(), bootstrap_timeout_ms=int(CONNECT_S * 1000)
        )
    except (KafkaError, OSError) as error:
        raise BrokerUnreachable(
            f"log.url: no Kafka broker answers at {', '.join(connection.bootstrap)} "
            f"({connection.security_protocol}): {_reason(error)}. Is it running, is the address "
            "reachable from here, and do kafka.security_protocol and the credentials fit?"
        ) from error
    try:
        yield admin
    finally:
        admin.close()


def _knock(addresses: Sequence[str]) -> None:
    """Connect to any of the brokers: kafka-python would go on trying, and leak each socket."""
    failures: list[OSError] = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            failures.append(error)
        else:
            return
    raise failures[-1]


def _reason(error: BaseException) -> str:
    return str(error).partition(" failed with response ")[0] or type(error).__name__
