"""A Kafka broker of one node (KRaft), from Docker or from Kafka's own jars."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.services.container import OwnedContainer, docker_answers
from tests.services.kafka_jars import KAFKA_VERSION, find_java, kafka_jars
from tests.services.ports import PortLease
from tests.services.process import OwnedProcess
from tests.services.service import Service, ServiceError

RECORD_MAX_BYTES = 16 * 1024 * 1024
# Any base64 UUID will do: the cluster is thrown away with its folder.
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"

LOG4J = """\
Configuration:
  status: warn
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d{ISO8601} %p %c{1}: %m%n"
  Loggers:
    Root:
      level: warn
      AppenderRef:
        ref: out
"""


def broker_config(port: int, controller_port: int, host: str = "127.0.0.1") -> dict[str, str]:
    """Give the settings of a small single node that behaves as production must.

    `host` is the address listened on, all if empty; clients are sent to the loopback interface.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"BROKER://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        # What Headrace asks of a broker.
        "auto.create.topics.enable": "false",
        "group.min.session.timeout.ms": "3000",
        "message.max.bytes": str(RECORD_MAX_BYTES),
        "replica.fetch.max.bytes": str(RECORD_MAX_BYTES),
        # What a single node needs.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        # What keeps it small and quick.
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker may register again only when its former session has ended.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
        "log.cleaner.dedupe.buffer.size": "8388608",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
    }


NEVER_KILLED: Final = {"broker.session.timeout.ms": "60000"}
"""Settings of a broker that nobody kills: it may stand still for longer."""


class KafkaBroker(Service):
    """Run a broker that a test may stop, kill and restart.

    Parameters
    ----------
    config
        Broker settings that add to or replace those of `broker_config`.
    heap_mb
        Java heap, when the broker runs from jars.
    listeners
        More listeners by name, with their protocol (SASL_SSL, …); ``addresses`` holds where each
        listens, ``config`` what it needs.

    Raises
    ------
    ServiceUnavailable
        Neither Docker, nor Java and Maven (or jars fetched before), are here.
    """

    name = "kafka"

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        listeners = listeners or {}
        self._leases = [PortLease() for _ in range(2 + len(listeners))]
        port, controller_port, *others = (lease.port for lease in self._leases)
        self.bootstrap = f"127.0.0.1:{port}"
        more = dict(zip(listeners, others, strict=True))
        self.addresses = {name: f"127.0.0.1:{number}" for name, number in more.items()}
        try:
            if docker_answers():
                settings = broker_config(port, controller_port, host="")
                settings = _listening(settings, listeners, more, "") | dict(config or {})
                self.runner = OwnedContainer(
                    f"apache/kafka:{KAFKA_VERSION}",
                    ports={number: number for number in (port, *others)},
                    env={"CLUSTER_ID": CLUSTER_ID} | _as_environment(settings),
                )
            else:
                settings = broker_config(port, controller_port)
                settings = _listening(settings, listeners, more, "127.0.0.1") | dict(config or {})
                self.runner = self._from_jars(settings, heap_mb)
        except BaseException:
            self.close()
            raise

    def _from_jars(self, settings: dict[str, str], heap_mb: int) -> OwnedProcess:
        settings["log.dirs"] = str(self.folder / "data")
        properties = self.folder / "server.properties"
        properties.write_text(
            "".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8"
        )
        log4j = self.folder / "log4j2.yaml"
        log4j.write_text(LOG4J, encoding="utf-8")
        java: list[str | Path] = [
            find_java(),
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            # It lives for minutes at most: the optimizing compiler would take a tenth of a core
            # from what is tested, and give nothing back.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            # A killed broker leaves its native libraries behind.
            f"-Djava.io.tmpdir={self.folder}",
            f"-Dlog4j2.configurationFile={log4j}",
            "-cp",
            f"{kafka_jars()}/*",
        ]
        _format_storage(java, properties)
        return OwnedProcess(
            [*java, "kafka.Kafka", properties], output=self.folder / "output.log", cwd=self.folder
        )

    def _answers(self) -> bool:
        return broker_answers(self.bootstrap)

    def close(self) -> None:
        super().close()
        for lease in self._leases:
            lease.release()


class ExternalKafka(Service):
    """A broker that `KAFKA_BOOTSTRAP_SERVERS` names: used, never stopped."""

    name = "kafka"

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap

    def start(self) -> None:
        """Check that it is there.

        Raises
        ------
        ServiceError
            It does not answer.
        """
        if not broker_answers(self.bootstrap):
            raise ServiceError(f"no Kafka answers at KAFKA_BOOTSTRAP_SERVERS={self.bootstrap}")


def shared_broker() -> KafkaBroker | ExternalKafka:
    """Give the broker of a whole test run: the environment's, else one of our own."""
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return ExternalKafka(bootstrap) if bootstrap else KafkaBroker(NEVER_KILLED)


def broker_answers(bootstrap: str) -> bool:
    """Tell whether a broker is there and lists itself as ready for topics."""
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    try:
        # First a bare connection: the client leaks a socket for each one that is refused.
        socket.create_connection((host, int(port)), timeout=2).close()
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except (KafkaError, OSError):
        return False


def _listening(
    settings: dict[str, str], protocols: Mapping[str, str], ports: Mapping[str, int], host: str
) -> dict[str, str]:
    """Add listeners to a broker's settings."""
    more = {"listeners": "", "advertised.listeners": "", "listener.security.protocol.map": ""}
    for name, port in ports.items():
        more["listeners"] += f",{name}://{host}:{port}"
        more["advertised.listeners"] += f",{name}://127.0.0.1:{port}"
        more["listener.security.protocol.map"] += f",{name}:{protocols[name]}"
    return settings | {key: settings[key] + value for key, value in more.items()}


def _format_storage(java: list[str | Path], properties: Path) -> None:
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"Kafka could not format its folder:\n{done.stdout}{done.stderr}")


def _as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Spell broker settings as the official image reads them (`a.b` is `KAFKA_A_B`)."""
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()}
