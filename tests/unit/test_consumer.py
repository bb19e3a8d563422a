"""Faust's consumer as the worker uses it: what is read again is delivered again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import faust
from faust.types import TP, Message
from mode import Service

from stream.distributed.consumer import CheckpointedConsumer, CheckpointedTransport

PLACE = TP("events", 5)


def message(offset: int) -> Message:
    return Message(
        topic=PLACE.topic,
        partition=PLACE.partition,
        offset=offset,
        timestamp=0.0,
        timestamp_type=0,
        headers={},
        key=None,
        value=b"{}",
        checksum=None,
    )


class Fetched(CheckpointedConsumer):
    """Delivers batches that begin at these offsets, then ends."""

    offsets: tuple[int, ...] = (1284, 679)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        for offset in self.offsets:
            yield PLACE, message(offset)
        self._stopped.set()

    def note_seek(self, offset: int) -> None:
        """Do what Faust's own thread does to its note when it seeks."""
        self._read_offset[PLACE] = offset

    async def drain(self) -> None:
        try:
            await self._drain_messages(Service())
        finally:
            cast(Any, self._thread).thread_loop.close()


def test_a_seek_back_during_a_delivery_hides_nothing_that_is_read_again() -> None:
    delivered = []

    async def run() -> None:
        app = faust.App("seek-back", broker="kafka://127.0.0.1:1", store="memory://")
        app.transport = CheckpointedTransport(app.conf.broker_consumer, app)

        async def deliver(received: Message) -> None:
            delivered.append(received.offset)
            if received.offset == 1284:
                consumer.note_seek(679)

        async def ignore(*args: Any) -> None:
            pass

        consumer = Fetched(
            app.transport,
            callback=deliver,
            on_partitions_revoked=ignore,
            on_partitions_assigned=ignore,
        )
        await consumer.drain()

    asyncio.run(run())
    assert delivered == [1284, 679]
