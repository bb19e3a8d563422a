"""Real Kafka, Redis, Prometheus and Alertmanager for the tests.

Each service is a context manager on a free port with a temporary folder, and can be
stopped, killed and started again on the same port and data. What a machine cannot start
raises `ServiceUnavailable`, which the fixtures turn into a skip (or, in CI, a failure).
"""

from tests.services.kafka import ExternalKafka, KafkaBroker
from tests.services.monitoring import AlertmanagerServer, PrometheusServer
from tests.services.process import OwnedProcess
from tests.services.redis import ExternalRedis, RedisServer
from tests.services.service import Service, ServiceError, ServiceUnavailable

__all__ = [
    "AlertmanagerServer",
    "ExternalKafka",
    "ExternalRedis",
    "KafkaBroker",
    "OwnedProcess",
    "PrometheusServer",
    "RedisServer",
    "Service",
    "ServiceError",
    "ServiceUnavailable",
]
