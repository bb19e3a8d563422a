"""The services themselves: what was written survives a kill, and nothing stays behind."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from redis import Redis

from tests.services import (
    AlertmanagerServer,
    ExternalKafka,
    KafkaBroker,
    OwnedProcess,
    PrometheusServer,
    RedisServer,
    ServiceError,
)
from tests.services.ports import PortLease


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rsplit(")", 1)[1].split()[0] == "Z"


def create_topic(bootstrap: str, name: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all")) as producer:
        for future in [producer.send(topic, value, partition=0) for value in values]:
            future.get(timeout=60)


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    values: list[bytes] = []
    with closing(KafkaConsumer(bootstrap_servers=bootstrap)) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=500).values():
                values += [record.value for record in records]
    return values


def test_the_shared_broker_takes_topics_and_records(kafka: KafkaBroker | ExternalKafka) -> None:
    topic = f"services-{os.getpid()}"
    create_topic(kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, [b"one", b"two"])
    assert read_all(kafka.bootstrap, topic) == [b"one", b"two"]


def test_a_killed_broker_comes_back_with_its_records(
    kafka_factory: Callable[..., KafkaBroker],
) -> None:
    broker = kafka_factory()
    create_topic(broker.bootstrap, "kept")
    produce(broker.bootstrap, "kept", [b"before"])
    broker.kill()
    assert not broker.running
    broker.start()
    produce(broker.bootstrap, "kept", [b"after"])
    assert read_all(broker.bootstrap, "kept") == [b"before", b"after"]


def test_a_killed_redis_comes_back_with_its_keys(
    redis_factory: Callable[..., RedisServer],
) -> None:
    # `everysec` may put a write off while the one before it is synced: a kill would lose it.
    server = redis_factory("--appendfsync", "always")
    with closing(Redis.from_url(server.url)) as client:
        client.set("kept", "before")
    server.restart()
    with closing(Redis.from_url(server.url)) as client:
        assert client.get("kept") == b"before"


def test_prometheus_evaluates(prometheus: PrometheusServer) -> None:
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/query?query=1%2B1", timeout=60) as reply:
        assert json.load(reply)["data"]["result"][1] == "2"


def test_alertmanager_starts_with_the_given_receivers(
    alertmanager_factory: Callable[..., AlertmanagerServer],
) -> None:
    server = alertmanager_factory("route: {receiver: team}\nreceivers: [{name: team}]\n")
    with urllib.request.urlopen(f"{server.url}/api/v2/receivers", timeout=60) as reply:
        assert json.load(reply) == [{"name": "team"}]


def test_a_service_that_ends_at_start_shows_its_last_words(
    prometheus: PrometheusServer,
) -> None:
    broken = PrometheusServer("no_such_setting: 1\n")
    with pytest.raises(ServiceError, match="no_such_setting"), broken:
        pass
    assert not broken.folder.exists()


def test_leaving_the_context_ends_the_process_and_removes_its_folder(
    redis_factory: Callable[[], RedisServer],
) -> None:
    server = redis_factory()
    assert isinstance(server.runner, OwnedProcess)
    pid = server.runner.pid
    server.close()
    assert gone(pid)
    assert not server.folder.exists()


def test_children_of_an_owned_process_end_with_it(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child_file}; wait"
    with OwnedProcess(["sh", "-c", script], output=tmp_path / "log"):
        while not (child_file.exists() and child_file.read_text().strip()):
            time.sleep(0.01)
    child = int(child_file.read_text())
    deadline = time.monotonic() + 60
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(child)


def test_a_killed_test_run_leaves_no_orphan(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal\n"
        "from tests.services import OwnedProcess\n"
        f"process = OwnedProcess(['sleep', '60'], output=pathlib.Path({str(tmp_path)!r}) / 'log')\n"
        "process.start()\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    orphan = int(run.stdout)
    deadline = time.monotonic() + 60
    while not gone(orphan) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(orphan)


def test_two_leases_never_share_a_port() -> None:
    with ExitStack() as stack:
        leases = [stack.enter_context(PortLease()) for _ in range(50)]
        assert len({lease.port for lease in leases}) == len(leases)
