"""What partitions learned elsewhere: read from the store, and taken in here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Mapping, Sequence

from monitoring.metrics import Metrics
from stream.distributed.owned_partition import OwnedPartition
from stream.distributed.store_calls import StoreCalls
from stream.distributed.turns import Turn
from stream.state import PEER_PREFIX, SHARED_PREFIX, SharedChunk

__all__ = ["Exchange", "Pace"]

SHARED_S = 1.0
"""Contributions are taken in no more often: reading and merging all of them costs as much however
little has changed."""


class Pace:
    """How long to wait before asking others again what they have learned lately.

    What was learned elsewhere counts only once it is known here, and every round costs as much
    however little it brings. So rounds follow each other as closely as their share of the time
    allows, and rarely where nobody tells anything.
    """

    SHORTEST_S = 0.05
    LONGEST_S = 1.0
    #: A round takes no more than these shares of the time. Most of what it computes grows with
    #: what was learned meanwhile: fewer rounds would hardly make it less.
    COMPUTING = 0.1
    READING = 0.5

    def __init__(self) -> None:
        self.pause_s = self.SHORTEST_S

    def took(self, computing_s: float, reading_s: float, *, brought: bool) -> None:
        """Learn what a round cost, of computing here and of waiting for the store."""
        costs_s = max(computing_s / self.COMPUTING, reading_s / self.READING)
        base_s = max(self.SHORTEST_S, costs_s if brought else 2.0 * self.pause_s)
        self.pause_s = min(self.LONGEST_S, base_s)


class Exchange:
    """Keeps the partitions of this process informed of what the others contribute.

    Parameters
    ----------
    store
        Where it is read from.
    metrics
        Where it is told how often.
    turn
        Waited for before something is computed.
    live
        Returns the partitions of this process.
    interval_s
        Contributions are taken in no more often than checkpoints are written.
    """

    def __init__(
        self,
        store: StoreCalls,
        metrics: Metrics,
        turn: Turn,
        live: Callable[[], Sequence[OwnedPartition]],
        *,
        interval_s: float,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._turn = turn
        self._live = live
        self._shared_every_s = max(SHARED_S, interval_s)
        self._pace = Pace()
        self._chunks: dict[str, dict[tuple[int, str], SharedChunk]] = {
            SHARED_PREFIX: {},
            PEER_PREFIX: {},
        }

    async def run(self) -> None:
        """Take in what others learn, as often as it pays, until cancelled."""
        clock = asyncio.get_running_loop().time
        shared_at = clock() + self._shared_every_s
        while True:
            await asyncio.sleep(self._pace.pause_s)
            await self.follow()
            if clock() >= shared_at:
                await self.refresh()
                shared_at = clock() + self._shared_every_s

    async def refresh(self) -> None:
        """Take in the contributions that have changed since the last time."""
        fresh = await self._read(SHARED_PREFIX)
        for owned in self._live():
            if any(chunk.partition != owned.partition for chunk in fresh):
                await self._turn.come_last()
                await self._take_in(owned, fresh)

    async def follow(self) -> None:
        """Take in what partitions of other processes have learned since the last time."""
        partitions = self._live()
        began = time.perf_counter()
        fresh = await self._read(PEER_PREFIX, besides={owned.partition for owned in partitions})
        reading_s, computing_s = time.perf_counter() - began, 0.0
        if fresh:
            # One turn for all: what they share, the first of them takes in.
            await self._turn.come_last()
            for owned in partitions:
                computing_s += await self._take_in(owned, fresh)
        self._pace.took(computing_s, reading_s, brought=bool(fresh))
        self._metrics.set("exchange_timestamp_seconds", (), time.time())

    async def greet(self, partitions: Sequence[OwnedPartition]) -> None:
        """Give newly claimed partitions every contribution of the others."""
        for prefix in self._chunks:
            await self._read(prefix)
        # Also where others have contributed nothing: a newcomer waits to be told so.
        known = [chunk for chunks in self._chunks.values() for chunk in chunks.values()]
        for owned in partitions:
            await self._turn.come_last()
            await self._take_in(owned, known)

    async def _read(self, prefix: str, besides: Container[int] = ()) -> list[SharedChunk]:
        chunks = self._chunks[prefix]
        known = {place: chunk.version for place, chunk in chunks.items()}
        fresh = await self._store.look(self._store.port.shared, prefix, known, besides=besides)
        chunks |= {(chunk.partition, chunk.name): chunk for chunk in fresh}
        return fresh

    async def _take_in(self, owned: OwnedPartition, chunks: Sequence[SharedChunk]) -> float:
        """Let a partition take chunks in; return the thread's seconds that it took."""
        wanted, computing_s = await self._take_in_one(owned, chunks)
        if wanted is not None:
            # It missed some of what others told since, or has just begun.
            known: Mapping[tuple[int, str], int] = {}
            missed = await self._store.look(self._store.port.shared, wanted, known)
            await self._turn.come_last()
            computing_s += (await self._take_in_one(owned, missed, whole=True))[1]
        return computing_s

    async def _take_in_one(
        self, owned: OwnedPartition, chunks: Sequence[SharedChunk], *, whole: bool = False
    ) -> tuple[str | None, float]:
        others = [chunk for chunk in chunks if chunk.partition != owned.partition]
        async with owned.lock:
            if owned.closed:
                # It has moved away while others were read.
                return None, 0.0
            began = time.thread_time()
            wanted = owned.processor.take_in(others, whole=whole)
            return wanted, time.thread_time() - began
