"""How each Kafka client is told where the brokers are and who we are. One place, three dialects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT
from pydantic import SecretStr

from stream.config import Settings

__all__ = ["DEFAULT_PORT", "RECORD_MAX_BYTES", "KafkaConnection"]

RECORD_MAX_BYTES = 16 * 1024 * 1024
"""Largest record that any topic of Headrace accepts."""

DEFAULT_PORT = 9092
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class KafkaConnection:
    """Brokers, encryption and credentials.

    Parameters
    ----------
    bootstrap
        ``host:port`` of brokers to ask first.
    security_protocol
        One of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL.
    ca_file, cert_file, key_file, key_password
        PEM files: who we trust (the system's authorities if absent), and who we are.
    check_hostname
        Whether the broker's certificate must name the host.
    sasl_mechanism, sasl_username, sasl_password
        PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    client_id
        Name under which brokers log us.

    Raises
    ------
    ValueError
        A setting is unknown or lacks its counterpart; the message names it.

    Examples
    --------
    >>> KafkaConnection.from_url("kafka://a:9092,b").bootstrap
    ('a:9092', 'b:9092')
    """

    bootstrap: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    check_hostname: bool = True
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    client_id: str = "headrace"

    def __post_init__(self) -> None:
        if not self.bootstrap:
            raise ValueError("log.url: names no broker; expected kafka://host:port[,host:port]")
        if self.security_protocol not in PROTOCOLS:
            raise ValueError(
                f"kafka.security_protocol: found {self.security_protocol!r}; "
                f"allowed: {', '.join(PROTOCOLS)}"
            )
        if self.uses_sasl:
            if self.sasl_mechanism not in MECHANISMS:
                raise ValueError(
                    f"kafka.sasl_mechanism: found {self.sasl_mechanism!r}; "
                    f"allowed: {', '.join(MECHANISMS)}"
                )
            if self.sasl_username is None or self.sasl_password is None:
                raise ValueError(
                    "kafka.sasl_username, kafka.sasl_password: both are needed with "
                    f"{self.security_protocol}"
                )

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> KafkaConnection:
        """Make a connection from ``kafka://host:port[,host:port]``.

        Raises
        ------
        ValueError
            The URL is not of that form.
        """
        parts = urlsplit(url)
        if parts.scheme != "kafka":
            raise ValueError(f"log.url: found {url!r}; expected kafka://host:port[,host:port]")
        return cls(tuple(_with_port(host) for host in parts.netloc.split(",") if host), **settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> KafkaConnection:
        """Make the connection that a deployment's settings describe."""
        kafka = settings.kafka
        return cls.from_url(
            settings.log.url,
            security_protocol=kafka.security_protocol,
            ca_file=_path(kafka.ca_file),
            cert_file=_path(kafka.cert_file),
            key_file=_path(kafka.key_file),
            key_password=_secret(kafka.key_password),
            check_hostname=kafka.check_hostname,
            sasl_mechanism=kafka.sasl_mechanism,
            sasl_username=kafka.sasl_username,
            sasl_password=_secret(kafka.sasl_password),
        )

    @property
    def uses_sasl(self) -> bool:
        """Whether we log in."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.security_protocol.endswith("SSL")

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS settings, or None where the connection is not encrypted."""
        if not self.uses_tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = self.check_hostname
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, self.key_password)
        return context

    def for_aiokafka(self) -> dict[str, Any]:
        """Return keyword arguments of aiokafka's clients."""
        return self._shared() | {"bootstrap_servers": list(self.bootstrap)}

    def for_kafka_python(self) -> dict[str, Any]:
        """Return keyword arguments of kafka-python's clients."""
        return self._shared() | {"bootstrap_servers": list(self.bootstrap)}

    def for_faust(self) -> dict[str, Any]:
        """Return keyword arguments of `faust.App`."""
        return {
            "broker": [f"kafka://{address}" for address in self.bootstrap],
            "broker_client_id": self.client_id,
            "broker_credentials": self._faust_credentials(),
        }

    def _shared(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.uses_tls:
            settings["ssl_context"] = self.ssl_context
        if self.uses_sasl:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return settings

    def _faust_credentials(self) -> CredentialsT | None:
        if self.uses_sasl:
            return SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password,
                ssl_context=self.ssl_context,
                mechanism=self.sasl_mechanism,
            )
        if self.uses_tls:
            return SSLCredentials(self.ssl_context)
        return None

    def __repr__(self) -> str:
        return f"KafkaConnection({','.join(self.bootstrap)}, {self.security_protocol})"


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _with_port(host: str) -> str:
    if host.rpartition("]")[2].count(":"):
        return host
    return f"{host}:{DEFAULT_PORT}"
