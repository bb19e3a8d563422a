"""Encryption and credentials, against a broker and a Redis that insist on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from redis import Redis

from stream.assembly import open_state
from stream.config import load_settings
from stream.distributed.clients import KafkaConnection
from stream.events import EVENTS, LABELS
from stream.state import StoreError
from tests.conftest import Starter
from tests.services import KafkaBroker, OwnedProcess, RedisServer
from tests.services.ports import PortLease

pytestmark = pytest.mark.usefixtures("compiled")

USER, PASSWORD = "headrace", "a password with = and ,"  # noqa: S105 - of a broker that lives a minute
LISTENER = "SECURED"
LINE = b'{"event_id":"e%d","type":"click","ts":1700000000,"user_id":"u","item_id":"i%d"}'


@dataclass(frozen=True)
class Secured:
    """A broker and a Redis, and the settings with which they let us in."""

    broker: KafkaBroker
    redis: RedisServer
    env: dict[str, str]
    stranger: Path


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for this host that is its own authority; return it and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificates: it is not here")
    subprocess.run(  # noqa: S603 - fixed words
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-out", str(certificate), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    return certificate, key


def in_one_line(pem: Path) -> str:
    return pem.read_text("ascii").strip().replace("\n", "\\n")


def broker_settings(certificate: Path, key: Path) -> dict[str, str]:
    name = f"listener.name.{LISTENER.lower()}"
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        f"{name}.ssl.keystore.type": "PEM",
        f"{name}.ssl.keystore.certificate.chain": in_one_line(certificate),
        f"{name}.ssl.keystore.key": in_one_line(key),
        f"{name}.sasl.enabled.mechanisms": "PLAIN",
        f"{name}.plain.sasl.jaas.config": f'{module} required user_{USER}="{PASSWORD}";',
    }


@pytest.fixture(scope="module")
def secured(start_shared: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certificates")
    ours, key = certificate(folder, "ours")
    stranger, _ = certificate(folder, "stranger")
    with PortLease() as lease:
        yield started(start_shared, lease.port, ours, key, stranger)


def started(
    start_shared: Starter, redis_port: int, ours: Path, key: Path, stranger: Path
) -> Secured:
    """Start both, and return how to get in."""
    tls = ["--tls-port", str(redis_port), "--tls-auth-clients", "no"]
    files = ["--tls-cert-file", ours, "--tls-key-file", key, "--tls-ca-cert-file", ours]
    redis = start_shared("redis", lambda: RedisServer([*tls, *map(str, files)]))
    with Redis.from_url(redis.url) as client:
        client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
    broker = start_shared(
        "kafka",
        lambda: KafkaBroker(broker_settings(ours, key), listeners={LISTENER: "SASL_SSL"}),
    )
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        "HEADRACE_LOG__URL": f"kafka://{broker.addresses[LISTENER]}",
        "HEADRACE_LOG__PARTITIONS": "2",
        "HEADRACE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "HEADRACE_KAFKA__SASL_USERNAME": USER,
        "HEADRACE_KAFKA__SASL_PASSWORD": PASSWORD,
        "HEADRACE_KAFKA__CA_FILE": str(ours),
        "HEADRACE_STORE__URL": f"rediss://127.0.0.1:{redis_port}/0",
        "HEADRACE_REDIS__USERNAME": USER,
        "HEADRACE_REDIS__PASSWORD": PASSWORD,
        "HEADRACE_REDIS__CA_FILE": str(ours),
        "HEADRACE_WORKER__METRICS_PORT": "0",
        "HEADRACE_CHECKPOINT__INTERVAL_S": "0.2",
    }
    return Secured(broker, redis, env, stranger)


def command(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "stream.cli", *words],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_an_event_passes_through_encrypted_services(secured: Secured, tmp_path: Path) -> None:
    made = command(secured.env, "topics")
    assert made.returncode == 0, made.stderr
    checked = command(secured.env, "doctor")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    settings = load_settings(env=secured.env)
    clients = KafkaConnection.from_settings(settings).for_kafka_python()
    with OwnedProcess(
        [sys.executable, "-m", "stream.cli", "worker"],
        output=tmp_path / "worker.log",
        env=secured.env,
    ) as worker:
        with closing(KafkaProducer(**clients)) as producer:
            for number in range(20):
                producer.send(EVENTS, LINE % (number, number), key=b"u")
            producer.flush()
        labels, deadline = 0, time.monotonic() + 240
        consumer = KafkaConsumer(LABELS, auto_offset_reset="earliest", **clients)
        with closing(consumer):
            while labels < 20 and time.monotonic() < deadline:
                assert worker.running, worker.tail()
                labels += sum(len(batch) for batch in consumer.poll(timeout_ms=500).values())
        assert labels >= 20, worker.tail()
        with closing(open_state(settings)) as store:
            while sum(o.get(EVENTS, 0) for o in store.partitions().values()) < 20:
                assert time.monotonic() < deadline, worker.tail()
                time.sleep(0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"HEADRACE_KAFKA__SASL_PASSWORD": "wrong"}, "kafka"),
        ({"HEADRACE_KAFKA__CA_FILE": "stranger"}, "kafka"),
        ({"HEADRACE_REDIS__PASSWORD": "wrong"}, "redis"),
        ({"HEADRACE_REDIS__CA_FILE": "stranger"}, "redis"),
    ],
)
def test_who_is_not_let_in_is_told_and_what_is_secret_is_not(
    secured: Secured, change: dict[str, str], said: str
) -> None:
    change = {k: str(secured.stranger) if v == "stranger" else v for k, v in change.items()}
    refused = command({**secured.env, **change}, "doctor")
    told = refused.stdout + refused.stderr
    assert refused.returncode != 0, told
    assert said in told.lower()
    assert PASSWORD not in told
    assert "Traceback" not in told


def test_a_certificate_for_another_host_is_refused_unless_told_not_to_look(
    secured: Secured,
) -> None:
    url = secured.env["HEADRACE_STORE__URL"].replace("127.0.0.1", "127.0.0.2")
    strict = load_settings(env={**secured.env, "HEADRACE_STORE__URL": url})
    with closing(open_state(strict)) as store, pytest.raises(StoreError):
        store.ping()
