"""Tell which services the tests can start on this machine: `python -m tests.services`."""

import os
import sys
from collections.abc import Callable

from tests.services.container import docker_answers
from tests.services.kafka import KafkaBroker
from tests.services.monitoring import AlertmanagerServer, PrometheusServer
from tests.services.redis import RedisServer
from tests.services.service import Service, ServiceError

SERVICES: tuple[tuple[str, str | None, Callable[[], Service]], ...] = (
    ("kafka", "KAFKA_BOOTSTRAP_SERVERS", KafkaBroker),
    ("redis", "REDIS_URL", RedisServer),
    ("prometheus", None, PrometheusServer),
    ("alertmanager", None, AlertmanagerServer),
)


def main() -> int:
    """Start each service once; the number of those that cannot be started."""
    sys.stdout.write(f"docker engine: {'answers' if docker_answers() else 'does not answer'}\n")
    missing = 0
    for name, variable, make in SERVICES:
        if variable is not None and variable in os.environ:
            sys.stdout.write(f"{name}: the one that {variable} names\n")
            continue
        try:
            with make():
                sys.stdout.write(f"{name}: starts\n")
        except ServiceError as error:
            missing += 1
            sys.stdout.write(f"{name}: {error}\n")
    if missing:
        sys.stdout.write(
            "Debian and Ubuntu: `make test-deps INSTALL=1` installs redis-server, prometheus,\n"
            "prometheus-alertmanager, chromium, a Java and Maven.\n"
            "Elsewhere: install these, or Docker.\n"
        )
    return missing


if __name__ == "__main__":
    sys.exit(main())
