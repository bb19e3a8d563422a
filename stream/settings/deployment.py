"""Settings of where Headrace runs: log, store, HTTP, workers, and how the clients connect."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from stream.settings.durations import Duration
from stream.settings.setting import DAY_S, Listed, Name, Section, key, refused, without_password
from stream.sqlite_file import sqlite_path

__all__ = [
    "ROLES",
    "ApiSettings",
    "CheckpointSettings",
    "KafkaSettings",
    "LogSettings",
    "RedisSettings",
    "StoreSettings",
    "TokenSettings",
    "WorkerSettings",
]

ROLES: Final = ("ingest", "recommend", "annotate", "admin")
Role = Literal["ingest", "recommend", "annotate", "admin"]
Port = Annotated[int, Field(ge=0, le=65_535)]
PemFile = Path

_LOG_URL: Final = re.compile(r"sqlite:///.+|kafka://[^/,@\s]+(,[^/,@\s]+)*/?")
_STORE_URL: Final = re.compile(r"sqlite:///.+|rediss?://\S+")


class LogSettings(Section):
    """Where events are kept until they are applied."""

    url: str = key(
        "sqlite:///.headrace/headrace.db",
        "URL",
        "The events log: sqlite:///FILE (embedded), or kafka://HOST:PORT[,HOST:PORT].",
    )
    partitions: int = key(
        1,
        "partitions",
        "How many partitions the topics have; fixed once they exist. 8 on Kafka by default.",
        ge=1,
        le=1_024,
    )

    retention_s: Duration = key(
        35 * DAY_S,
        "seconds",
        "How long the embedded log keeps what was applied and saved; 0: for ever. On Kafka: "
        "kafka.retention_s.",
    )
    retention_bytes: int = key(
        0,
        "bytes",
        "While more of the embedded log's file is in use, its oldest records go; 0: no bound.",
        ge=0,
    )

    @model_validator(mode="after")
    def _known_scheme(self) -> Self:
        if not _LOG_URL.fullmatch(self.url):
            raise refused(
                "url",
                "should be sqlite:///FILE or kafka://HOST:PORT[,HOST:PORT]; "
                f"found {without_password(self.url)!r}",
            )
        return self

    @property
    def embedded(self) -> bool:
        """Whether the log lies in a SQLite file."""
        return self.url.startswith("sqlite:")

    @property
    def path(self) -> Path:
        """The SQLite file of an embedded log."""
        return sqlite_path(self.url)


class StoreSettings(Section):
    """Where the state of the partitions is kept."""

    url: str = key(
        "sqlite:///.headrace/headrace.db",
        "URL",
        "The state store: sqlite:///FILE, or redis://HOST:PORT/DB (rediss:// with TLS). By default "
        "the embedded log's file; required with Kafka.",
    )
    instance: str = key(
        "headrace",
        "name",
        "Keeps deployments apart that share one store.",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
    )

    @model_validator(mode="after")
    def _known_scheme(self) -> Self:
        if not self.url:
            raise refused(
                "url",
                "is missing; with log.url on Kafka set it to redis://HOST:PORT/0, or to "
                "sqlite:///FILE for one worker alone",
            )
        if not _STORE_URL.fullmatch(self.url):
            raise refused(
                "url",
                "should be sqlite:///FILE, redis://HOST:PORT/DB or rediss://HOST:PORT/DB; "
                f"found {without_password(self.url)!r}",
            )
        return self

    @property
    def embedded(self) -> bool:
        """Whether the store is a SQLite file."""
        return self.url.startswith("sqlite:")

    @property
    def path(self) -> Path:
        """The SQLite file of an embedded store."""
        return sqlite_path(self.url)


class TokenSettings(Section):
    """A bearer token and what its bearer may do."""

    name: Name = key(..., "name", "Who bears it; written to the governance log.")
    token: SecretStr = key(
        ..., "secret", "The token itself, at least 16 characters.", min_length=16, max_length=512
    )
    roles: Annotated[tuple[Role, ...], NoDecode, Listed] = key(
        ..., "roles", f"Any of {', '.join(ROLES)}.", min_length=1
    )


class ApiSettings(Section):
    """The HTTP door."""

    host: str = key(
        "127.0.0.1", "address", "Address to bind to; without tokens only loopback.", min_length=1
    )
    port: Port = key(8080, "port", "Port to bind to; 0: any free one, printed.")
    tokens: Annotated[tuple[TokenSettings, ...], NoDecode, Listed] = key(
        (), "tables", 'Bearer tokens: {name = "shop", token = "…", roles = ["ingest"]}.'
    )
    own_process: bool = key(
        True,
        "true or false",
        "`headrace up` learns in a process beside the one that answers; false: one process, which "
        "answers late while it learns.",
    )
    events_per_s: float = key(
        0.0, "events per second", "Rate above which clients get 429; 0: no limit.", ge=0
    )
    body_timeout_s: Duration = key(30.0, "seconds", "A body that takes longer is refused (408).")

    @model_validator(mode="after")
    def _loopback_without_tokens(self) -> Self:
        if not self.tokens and not _is_loopback(self.host):
            raise refused(
                "host",
                "without api.tokens the service binds to loopback only: set api.tokens, or "
                f"api.host to 127.0.0.1, ::1 or localhost; found {self.host!r}",
            )
        names = [token.name for token in self.tokens]
        if len(set(names)) < len(names):
            raise refused("tokens", "should have different names; found two alike")
        secrets = {token.token.get_secret_value() for token in self.tokens}
        if len(secrets) < len(self.tokens):
            raise refused("tokens", "should each be a different token; found two alike")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WorkerSettings(Section):
    """A consumer process."""

    metrics_host: str = key("127.0.0.1", "address", "Address of /metrics.", min_length=1)
    metrics_port: Port = key(9108, "port", "Port of /metrics; 0: any free one, printed.")
    cached_users: int = key(
        50_000, "users", "People kept in memory per partition; others are read back.", ge=1
    )
    slice_s: Duration = key(
        0.03, "seconds", "How long processing may block heartbeats and acknowledgements.", gt=0
    )
    linger_s: Duration = key(
        0.005,
        "seconds",
        "How long brokers gather thin traffic at least; 0: never; when busy up to 25 ms.",
    )
    fetch_wait_s: Duration = key(
        0.05, "seconds", "How long a broker may hold a fetch back when it has nothing new."
    )
    stall_s: Duration = key(
        60.0,
        "seconds",
        "With records to read and none applied for so long, the worker stops.",
        gt=0,
    )
    store_patience_s: Duration = key(
        60.0, "seconds", "How long a store that does not answer is asked again.", gt=0
    )


class CheckpointSettings(Section):
    """When state is saved."""

    interval_s: Duration = key(
        2.0, "seconds", "A partition is saved so often, and once when it was taken over.", gt=0
    )
    records: int = key(200_000, "records", "And after so many records, if sooner.", ge=1)


class KafkaSettings(Section):
    """How the Kafka clients connect, if the log is on Kafka."""

    group: Name = key("headrace", "name", "Consumer group that the workers form.")
    instance_id: Name | None = key(
        None, "name", "Static membership: a name that survives this worker's restart."
    )
    session_timeout_s: Duration = key(
        10.0,
        "seconds",
        "The group misses a dead worker after this; brokers must allow it "
        "(group.min.session.timeout.ms).",
        gt=0,
    )
    heartbeat_s: Duration = key(
        1.0, "seconds", "Between heartbeats; at most a third of the session timeout.", gt=0
    )
    request_timeout_s: Duration = key(
        40.0, "seconds", "Wait for a broker's answer; at least the session timeout.", gt=0
    )
    publish_timeout_s: Duration = key(
        40.0, "seconds", "An effect unacknowledged for so long stops the worker.", gt=0
    )
    commit_interval_s: Duration = key(
        0.5, "seconds", "How often checkpointed offsets are committed to Kafka.", gt=0
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = key(
        "none", "codec", "Codec of what is published: none, gzip, snappy, lz4, zstd."
    )
    replication_factor: int = key(1, "copies", "Replicas of topics that are created.", ge=1, le=32)
    retention_s: Duration = key(
        35 * DAY_S, "seconds", "How long topics that are created keep personal records.", gt=0
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = key(
        "PLAINTEXT", "protocol", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = key(
        "PLAIN", "mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    sasl_username: str | None = key(None, "name", "User, with SASL_*.")
    sasl_password: SecretStr | None = key(None, "secret", "Password, with SASL_*.")
    ca_file: PemFile | None = key(
        None, "PEM file", "Authorities that sign the brokers' certificates; absent: the system's."
    )
    cert_file: PemFile | None = key(None, "PEM file", "Our own certificate.")
    key_file: PemFile | None = key(None, "PEM file", "Our own private key.")
    key_password: SecretStr | None = key(None, "secret", "Password of the private key.")
    check_hostname: bool = key(
        True, "true or false", "Whether a broker's certificate must name its host."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        session_s = self.session_timeout_s
        if self.heartbeat_s * 3 > session_s:
            raise refused(
                "heartbeat_s",
                f"should be at most a third of kafka.session_timeout_s ({session_s:g} s); "
                f"found {self.heartbeat_s:g} s",
            )
        if self.request_timeout_s < session_s:
            raise refused(
                "request_timeout_s",
                f"should be at least kafka.session_timeout_s ({session_s:g} s); "
                f"found {self.request_timeout_s:g} s",
            )
        if self.security_protocol.startswith("SASL_"):
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    raise refused(name, f"is missing; needed with {self.security_protocol}")
        if self.key_file is not None and self.cert_file is None:
            raise refused("cert_file", "is missing; needed with kafka.key_file")
        return self


class RedisSettings(Section):
    """How the Redis client connects, if the store is in Redis."""

    username: str | None = key(None, "name", "ACL user; overrides the URL's.")
    password: SecretStr | None = key(None, "secret", "Its password; overrides the URL's.")
    ca_file: PemFile | None = key(
        None, "PEM file", "Authorities that sign the server's certificate; absent: the system's."
    )
    cert_file: PemFile | None = key(None, "PEM file", "Our own certificate.")
    key_file: PemFile | None = key(None, "PEM file", "Our own private key.")
    check_hostname: bool = key(
        True, "true or false", "Whether the server's certificate must name its host."
    )
    timeout_s: Duration = key(5.0, "seconds", "Wait for a connection, and for each answer.", gt=0)
