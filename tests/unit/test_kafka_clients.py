"""Encryption and credentials reach each of the three Kafka clients in its own words."""

from __future__ import annotations

import ssl

import pytest
from faust.auth import SASLCredentials, SSLCredentials

from stream.config import Settings
from stream.distributed.clients import KafkaConnection

CREDENTIALS = {
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "headrace",
    "sasl_password": "not-told",
}


def connection(**kafka: object) -> KafkaConnection:
    return KafkaConnection.from_settings(
        Settings(
            log={"url": "kafka://one:9093,two"},
            store={"url": "redis://localhost:6379/0"},
            kafka=kafka,
        )
    )


def test_a_plain_connection_says_nothing_of_credentials() -> None:
    plain = connection()
    for arguments in (plain.for_aiokafka(), plain.for_kafka_python()):
        assert arguments["bootstrap_servers"] == ["one:9093", "two:9092"]
        assert arguments["security_protocol"] == "PLAINTEXT"
        assert not {"ssl_context", "sasl_mechanism"} & arguments.keys()
    assert plain.for_faust()["broker"] == ["kafka://one:9093", "kafka://two:9092"]
    assert plain.for_faust()["broker_credentials"] is None


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_reaches_every_client(protocol: str) -> None:
    secured = connection(security_protocol=protocol, **CREDENTIALS)
    for arguments in (secured.for_aiokafka(), secured.for_kafka_python()):
        assert arguments["security_protocol"] == protocol
        assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
        assert arguments["sasl_plain_username"] == "headrace"
        assert arguments["sasl_plain_password"] == "not-told"
        assert ("ssl_context" in arguments) == (protocol == "SASL_SSL")
    credentials = secured.for_faust()["broker_credentials"]
    assert isinstance(credentials, SASLCredentials)
    assert credentials.username == "headrace"
    assert (credentials.ssl_context is not None) == (protocol == "SASL_SSL")


@pytest.mark.parametrize("check", [True, False])
def test_tls_checks_names_unless_told_not_to(check: bool) -> None:
    encrypted = connection(security_protocol="SSL", check_hostname=check)
    context = encrypted.for_aiokafka()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname is check
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert isinstance(encrypted.for_faust()["broker_credentials"], SSLCredentials)


def test_no_secret_is_shown() -> None:
    secured = connection(security_protocol="SASL_PLAINTEXT", **CREDENTIALS)
    assert "not-told" not in repr(secured)
