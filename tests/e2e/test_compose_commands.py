"""The commands of `docker-compose.yml`, with its settings, on a real broker and a real Redis.

No container engine is needed: each command runs as a process, with the services' addresses
in place of their names in the Compose network.
"""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from tests.services import KafkaBroker, OwnedProcess, RedisServer
from tests.services.ports import PortLease

pytestmark = pytest.mark.usefixtures("compiled")

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
# Two workers may have to compile the kernels first, on a busy machine.
START_S = 300.0
HEADRACE = "from stream.cli import main; main()"
# Where the broker listens and keeps its data is the tests' own choice.
ADDRESSES = ("listener", "advertised", "quorum", "node.id", "process.roles", "log.dirs")


def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def broker_settings() -> dict[str, str]:
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in compose()["kafka"]["environment"].items()
    }
    return {
        name: value
        for name, value in settings.items()
        if not any(word in name for word in ADDRESSES)
    }


class _Ports(dict[tuple[str, str], int]):
    """A free port for each port of each container, leased when first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._leases: list[PortLease] = []

    def __missing__(self, key: tuple[str, str]) -> int:
        lease = PortLease()
        self._leases.append(lease)
        self[key] = lease.port
        return lease.port

    def close(self) -> None:
        for lease in self._leases:
            lease.release()


class Deployment:
    """The Compose file's own services, as processes."""

    def __init__(self, broker: KafkaBroker, redis: RedisServer, folder: Path) -> None:
        self.bootstrap = broker.bootstrap
        self.folder = folder
        self.ports = _Ports()
        self._redis_url = redis.url
        # The settings file that the containers mount.
        shutil.copy(ROOT / "headrace.toml", folder)

    def process(self, service: str, name: str) -> OwnedProcess:
        """Give the process of a service, not started yet."""
        described = compose()[service]
        environment = {
            variable: str(value)
            .replace("kafka:9092", self.bootstrap)
            .replace("redis://redis:6379/0", self._redis_url)
            for variable, value in described["environment"].items()
        }
        tokens = environment.get("HEADRACE_API__TOKENS")
        if tokens is not None:
            before, _, after = tokens.partition("${")
            environment["HEADRACE_API__TOKENS"] = before + TOKEN + after.partition("}")[2]
        ports = {"HEADRACE_API__PORT": "8080", "HEADRACE_WORKER__METRICS_PORT": "9108"}
        environment |= {variable: str(self.ports[name, port]) for variable, port in ports.items()}
        environment["PATH"] = "/usr/bin:/bin"
        return OwnedProcess(
            [sys.executable, "-c", HEADRACE, *described["command"]],
            output=self.folder / f"{name}.log",
            env=environment,
            cwd=self.folder,
        )

    def healthy(self, service: str, name: str) -> bool:
        """Run the health check of a service against one of its processes."""
        how, program, *arguments = compose()[service]["healthcheck"]["test"]
        assert (how, program) == ("CMD", "python")
        # In one pass: a leased port may look like one that stands in the file.
        arguments = [
            re.sub(r"\b(8080|9108)\b", lambda port: str(self.ports[name, port[0]]), text)
            for text in arguments
        ]
        check = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        return check.returncode == 0

    def request(self, path: str, body: bytes | None = None, token: str | None = TOKEN) -> int:
        """Give the status of an answer of the API, 0 if there is none."""
        url = f"http://127.0.0.1:{self.ports['serve', '8080']}{path}"
        request = urllib.request.Request(url, data=body)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.add_header("Content-Type", "application/x-ndjson")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


def wait_for(condition: Callable[[], bool], processes: list[OwnedProcess], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        for process in processes:
            assert process.running, f"{process.output.name} ended:\n{process.tail()}"
        assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(
            process.tail(10) for process in processes
        )
        time.sleep(0.1)


@pytest.fixture
def deployment(
    kafka_factory: Callable[..., KafkaBroker],
    redis_factory: Callable[[], RedisServer],
    tmp_path: Path,
) -> Iterator[Deployment]:
    deployed = Deployment(kafka_factory(broker_settings()), redis_factory(), tmp_path)
    with closing(deployed.ports):
        yield deployed


def labels(bootstrap: str) -> list[dict[str, Any]]:
    """Read everything in the topic of labels."""
    found = []
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)) as consumer:
        partitions = [
            TopicPartition("headrace.labels", number)
            for number in consumer.partitions_for_topic("headrace.labels")
        ]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(part) < end for part, end in ends.items()):
            for records in consumer.poll(timeout_ms=200).values():
                found += [json.loads(record.value) for record in records]
    return found


@pytest.mark.timeout(900)
def test_events_posted_to_serve_come_back_as_labels_of_the_workers(deployment: Deployment) -> None:
    with deployment.process("topics", "topics") as topics:
        assert topics.wait(timeout_s=START_S) == 0, topics.tail()
    with ExitStack() as stack:
        names = {"one": "worker", "two": "worker", "serve": "serve"}
        processes = [
            stack.enter_context(deployment.process(service, name))
            for name, service in names.items()
        ]
        wait_for(lambda: deployment.request("/readyz") == 200, processes, "serve is not ready")
        wait_for(
            lambda: all(deployment.healthy(service, name) for name, service in names.items()),
            processes,
            "the health checks fail",
        )
        now = time.time()
        events = [
            {
                "event_id": f"{user}-{number}",
                "type": kind,
                "ts": now + number,
                "user_id": f"user-{user}",
                "item_id": "kettle",
                "request_id": f"page-{user}",
            }
            for user in range(20)
            for number, kind in enumerate(("impression", "click"))
        ]
        body = b"\n".join(json.dumps(event).encode() for event in events)
        assert deployment.request("/v1/events", body, token=None) == 401
        assert deployment.request("/v1/events", body) == 202
        users = {f"user-{user}" for user in range(20)}
        wait_for(
            lambda: {label["user_id"] for label in labels(deployment.bootstrap)} == users,
            processes,
            "labels are missing",
        )
        for process in processes:
            process.terminate()
            assert process.returncode == 0, process.tail()
