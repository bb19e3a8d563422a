"""The HTTP door of a test: a service on a free port, and what lies behind it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from httpx import AsyncClient

from monitoring.metrics import Metrics
from stream.api.serving import ApiService
from stream.config import Settings
from stream.embedded_log import EmbeddedLog
from stream.events import EVENTS
from stream.sinks import EventSink

PARTITIONS = 4


NDJSON = {"content-type": "application/x-ndjson"}


def event(n: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"event-{n}",
        "type": "click",
        "ts": 1_700_000_000.0 + n,
        "user_id": f"person-{n % 97}",
        "item_id": f"thing-{n % 13}",
    } | fields


def ndjson(*values: Any) -> bytes:
    return b"\n".join(v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)


def settings(**sections: Any) -> Settings:
    api = {"port": 0} | sections.pop("api", {})
    return Settings(api=api, **sections)


@asynccontextmanager
async def serving(
    sink: EventSink, configured: Settings | None = None, **options: Any
) -> AsyncIterator[tuple[AsyncClient, Metrics, ApiService]]:
    metrics = Metrics()
    service = ApiService(configured or settings(), sink, metrics, **options)
    await service.start()
    try:
        async with AsyncClient(base_url=service.url, timeout=120) as client:
            yield client, metrics, service
    finally:
        await service.stop()


def stored(log: EmbeddedLog, topic: str = EVENTS) -> dict[int, list[bytes]]:
    return {
        partition: [
            line for value in log.read(topic, partition, 0).values for line in value.split(b"\n")
        ]
        for partition in range(PARTITIONS)
    }


def every_line(log: EmbeddedLog, topic: str = EVENTS) -> list[bytes]:
    return [line for lines in stored(log, topic).values() for line in lines]
