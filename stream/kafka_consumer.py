"""Faust's Kafka consumer, with its positions decided by the state store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.ownership import Ownership

__all__ = ["CheckpointedConsumer", "CheckpointedTransport"]


class CheckpointedConsumer(driver.Consumer):
    """Read each partition from its checkpoint, and linger between thin fetches."""

    #: A fetch of fewer records than this says that there is no backlog.
    THIN_RECORDS = 256

    ownership: Ownership
    linger_s: float = 0.0
    _thin: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Offset behind the last record that was fetched, by partition.
        self.fetched: dict[TP, int] = {}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Claim the assigned partitions and seek to their checkpoints.

        Faust calls this after every assignment, while nothing flows, and overwrites positions
        set anywhere else.
        """
        committed = await super().seek_to_committed()
        generation = int(self.app.consumer_generation_id)
        return await self.ownership.assign(
            self, generation, {TP(*tp): offset for tp, offset in committed.items()}
        )

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets; False when the group is rebalancing."""
        return bool(await self._commit(offsets))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if self._thin and self.linger_s:
            # Little came last time: let some more arrive, or each record costs a fetch.
            await asyncio.sleep(self.linger_s)
        records = await super()._getmany(active_partitions, timeout)
        count = 0
        for tp, batch in records.items():
            count += len(batch)
            if batch:
                self.fetched[tp] = batch[-1].offset + 1
        self._thin = 0 < count < self.THIN_RECORDS
        return records


class CheckpointedTransport(driver.Transport):
    """The transport that makes such consumers."""

    Consumer = CheckpointedConsumer

    def create_consumer(self, callback: Any, **kwargs: Any) -> CheckpointedConsumer:
        """Make the app's consumer."""
        return cast(CheckpointedConsumer, super().create_consumer(callback, **kwargs))
