"""Follow the catalogue's topic on Kafka, from its beginning."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from aiokafka.errors import KafkaError

from stream.catalogue import Catalogue
from stream.config import Settings
from stream.distributed.broadcast import BroadcastReader
from stream.distributed.clients import KafkaConnection
from stream.distributed.options import worker_options
from stream.distributed.owned_partition import OwnedPartition
from stream.events import ITEMS
from stream.records import RecordBatch

__all__ = ["ItemsFeed"]

log = logging.getLogger(__name__)

_AGAIN_S = 2.0


class ItemsFeed:
    """Fill a catalogue from the log, as long as the process lives.

    Without the log what is known stays; reading begins anew when it is back.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        options = worker_options(settings, KafkaConnection.from_settings(settings))
        self._options = dataclasses.replace(options, broadcast_topics=())
        self._catalogue = catalogue
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._follow())

    async def wait(self) -> None:
        """Wait until a bug has ended it."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _follow(self) -> None:
        try:
            await self._read()
        except Exception:
            log.critical("a bug has ended the reading of the catalogue", exc_info=True)

    async def _read(self) -> None:
        while True:
            reader = BroadcastReader(self._options, {ITEMS: self._catalogue.take_in}, _nowhere)
            try:
                await reader.start()
                await reader.follow(list)
            except KafkaError as error:
                log.warning("the catalogue cannot be read: %s", error)
                await asyncio.sleep(_AGAIN_S)
            finally:
                await reader.stop()


async def _nowhere(owned: OwnedPartition, batch: RecordBatch) -> None:
    del owned, batch
