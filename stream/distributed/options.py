"""What a worker has to know, each with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config import Settings
from stream.distributed.clients import KafkaConnection
from stream.distributed.topics import TopicSpec, topic_plan
from stream.events import CONTROL, DECISIONS, EVENTS, GOLD

__all__ = ["WorkerOptions", "worker_options", "worker_topics"]


@dataclass(frozen=True)
class WorkerOptions:
    """Settings of one worker process.

    Parameters
    ----------
    kafka
        Brokers and credentials.
    group
        Consumer group: the workers that share partitions.
    instance_id
        Static membership: a name that survives a restart, so that a quick one moves nothing.
    partitioned_topics
        Input topics keyed by user, read through the group; all with the same partitions. In
        alphabetical order, earlier ones are applied first when both have records.
    broadcast_topics
        Input topics of one partition that are applied to every partition.
    session_timeout_s, heartbeat_s
        How soon the group misses a dead worker. The broker's ``group.min.session.timeout.ms``
        must allow it.
    checkpoint_interval_s, checkpoint_records
        A partition is saved after this time, or this many records, whichever comes first.
    commit_interval_s
        How often saved offsets are committed to Kafka.
    slice_s
        How long processing may block heartbeats and acknowledgements.
    fetch_wait_s
        How long a broker may hold a fetch back when it has nothing new.
    linger_s
        Shortest pause between fetches when traffic is thin; a busy worker pauses for up to 25 ms.
        0 for no pauses.
    tick_idle_s
        A partition that is caught up and idle for this long gets a tick; None for never.
    stall_s
        With records to read and nothing applied for this long, the worker stops.
    store_patience_s
        How long a store that does not answer is asked again before the worker stops.
    publish_timeout_s
        How long an effect may stay unacknowledged before the worker stops.
    compression
        Codec of published batches: gzip, snappy, lz4, zstd; None for none.
    metrics_host, metrics_port
        Where `/metrics` and `/healthz` answer; port 0 for any free one; None for nowhere.

    Raises
    ------
    ValueError
        Two settings contradict each other; the message names them.
    """

    kafka: KafkaConnection
    group: str = "headrace"
    instance_id: str | None = None
    partitioned_topics: tuple[str, ...] = (EVENTS, GOLD, DECISIONS)
    broadcast_topics: tuple[str, ...] = (CONTROL,)
    session_timeout_s: float = 10.0
    heartbeat_s: float = 1.0
    checkpoint_interval_s: float = 2.0
    checkpoint_records: int = 200_000
    commit_interval_s: float = 0.5
    slice_s: float = 0.03
    fetch_wait_s: float = 0.05
    linger_s: float = 0.005
    tick_idle_s: float | None = 30.0
    stall_s: float = 60.0
    store_patience_s: float = 60.0
    publish_timeout_s: float = 40.0
    compression: str | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 9108

    def __post_init__(self) -> None:
        if self.heartbeat_s * 3 > self.session_timeout_s:
            raise ValueError(
                f"kafka.heartbeat_s: found {self.heartbeat_s:g}; at most a third of "
                f"kafka.session_timeout_s ({self.session_timeout_s:g} s) is allowed"
            )
        for name in ("checkpoint_interval_s", "commit_interval_s", "slice_s", "stall_s"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name}: found {getattr(self, name)}; more than 0 s is allowed")


def worker_options(settings: Settings, connection: KafkaConnection) -> WorkerOptions:
    """Return what a deployment's settings say about a worker."""
    kafka, worker = settings.kafka, settings.worker
    return WorkerOptions(
        kafka=connection,
        group=kafka.group,
        instance_id=kafka.instance_id,
        session_timeout_s=kafka.session_timeout_s,
        heartbeat_s=kafka.heartbeat_s,
        checkpoint_interval_s=settings.checkpoint.interval_s,
        checkpoint_records=settings.checkpoint.records,
        commit_interval_s=kafka.commit_interval_s,
        slice_s=worker.slice_s,
        linger_s=worker.linger_s,
        fetch_wait_s=worker.fetch_wait_s,
        tick_idle_s=settings.ticks.idle_s if settings.ticks.enabled else None,
        stall_s=worker.stall_s,
        store_patience_s=worker.store_patience_s,
        publish_timeout_s=kafka.publish_timeout_s,
        compression=None if kafka.compression == "none" else kafka.compression,
        metrics_host=worker.metrics_host,
        metrics_port=worker.metrics_port,
    )


def worker_topics(settings: Settings) -> list[TopicSpec]:
    """Return the topics without which a worker cannot run: all that there are."""
    return topic_plan(settings)
